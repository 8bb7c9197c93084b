//! The insights system: the application names the tenant, and keys carry it.

use anyhow::Result;

use super::Play;

pub const TENANT_1: &str = "SET LOCAL app.current_tenant_id = 'tenant-1'";
const TENANT_2: &str = "SET LOCAL app.current_tenant_id = 'tenant-2'";
const UNKNOWN: &str = "SET LOCAL app.current_tenant_id = 'tenant-99'";

pub fn show(play: &mut Play) -> Result<()> {
    let mut application = play.application()?;
    let report =
        "SELECT (SELECT name FROM tenants) AS company, i.module_slug, count(*) AS findings,
       count(*) FILTER (WHERE i.severity = 'critical') AS critical, min(i.summary) AS first
FROM module_insights i GROUP BY i.module_slug ORDER BY i.module_slug";
    play.heading("Two tenants run the same report, in which no tenant is named")?;
    for tenant in [TENANT_1, TENANT_2] {
        play.say(&format!("{tenant};"))?;
        play.attempts(&mut application, tenant, &[report])?;
    }

    play.heading("Tenant 2 tries each command on rows of tenant 1")?;
    play.attempts(
        &mut application,
        TENANT_2,
        &[
            "SELECT count(*) FROM analytics_snapshots WHERE tenant_id = 'tenant-1'",
            "UPDATE analytics_snapshots SET revenue = 0 WHERE tenant_id = 'tenant-1'",
            "DELETE FROM module_insights WHERE tenant_id = 'tenant-1'",
            "INSERT INTO analytics_snapshots (tenant_id, date) VALUES ('tenant-1', '2027-01-01')",
            "UPDATE module_insights SET tenant_id = 'tenant-1' WHERE id = 'insight-2-1'",
        ],
    )?;

    play.heading("A plain foreign key would let a row point at another tenant's connector: this one carries the tenant")?;
    play.attempts(
        &mut application,
        TENANT_2,
        &[
            "UPDATE module_insights SET connector_id = 'connector-1-1' WHERE id = 'insight-2-1'",
            "UPDATE module_insights SET connector_id = 'connector-2-3' WHERE id = 'insight-2-1'",
            "DELETE FROM connectors WHERE id = 'connector-2-1'",
        ],
    )?;

    play.heading("A tenant that does not exist, and no tenant at all")?;
    let count = "SELECT count(*) FROM tasks";
    play.say(&format!("{UNKNOWN};"))?;
    play.attempts(&mut application, UNKNOWN, &[count])?;
    play.attempts(&mut application, "", &[count])
}
