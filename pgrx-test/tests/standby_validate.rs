//! The validator on a hot standby, a rule that fails included.

mod policy_support;

use pgrx_test::fixture::{ClientExt, Server};
use pgrx_test::standby;
use policy_support::Stage;

#[test]
fn a_standby_finds_what_its_primary_has() {
    let primary = Server::preloaded();
    let stage = Stage::new();
    stage
        .owner()
        .ok("CREATE TABLE app.t (tenant_id uuid NOT NULL); CREATE TABLE app.u (tenant_id uuid); INSERT INTO app.u VALUES (NULL)");
    stage.superuser().ok("UPDATE tenancy.rules SET query = 'SELECT NULL AS schema, (1 / 0)::text AS object, NULL AS detail, NULL AS remediation' WHERE code = 'grant-truncate'");
    let standby = standby::create(primary, "validate").unwrap();
    standby::catch_up(primary, standby.server()).unwrap();
    let config = standby.server().config(&stage.database.name, &stage.owner);
    let mut session = config.connect(postgres::NoTls).unwrap();
    let found = session.rows("SELECT code FROM tenancy.validate() WHERE level = 'error'");
    let found: Vec<_> = found.into_iter().flatten().flatten().collect();
    assert_eq!(found, ["rls-off", "rls-off", "rule-failed"]);
    let of_rows = "SELECT object FROM tenancy.validate_data() WHERE code = 'data-tenant-null'";
    assert_eq!(
        session.text(of_rows).as_deref(),
        Some("table column app.u.tenant_id")
    );
    assert_eq!(
        session.int(&format!(
            "SELECT count(*) FROM tenancy.access_matrix('{}') WHERE reach = 'all tenants'",
            stage.app
        )),
        8
    );
    let graded = session.rows("SELECT component FROM tenancy.health() WHERE grade <> 'unknown'");
    assert_eq!(graded.len(), 7, "all but the data: {graded:?}");
}
