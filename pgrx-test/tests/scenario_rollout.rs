//! The studio platform from policies that let everything through to enforcement, by way of shadow mode.

mod scenario_support;

use pgrx_test::demo::rollout::day;
use pgrx_test::fixture::{ClientExt, expect_error};
use pgrx_test::scenario::STUDIO;
use postgres::Client;
use scenario_support::Stage;

const TABLES: i64 = 5;

fn ready(superuser: &mut Client) -> i64 {
    superuser.int("SELECT count(*) FROM tenancy.shadow_report() WHERE ready")
}

#[test]
fn two_faults_among_hundreds_of_statements_are_named_and_nothing_else() {
    let stage = Stage::new(&STUDIO);
    let mut superuser = stage.superuser();
    let mut application = stage.session("studio_app");
    let mut job = stage.session("studio_app");
    application.ok("SET application_name = 'web'");
    job.ok("SET application_name = 'nightly'");
    superuser.ok("SELECT tenancy.set_mode('permissive'); SELECT tenancy.set_mode('shadow')");

    let count = day(&mut application, &mut job, false).expect("shadow mode changes nothing");
    assert!(count > 500, "{count}");
    // Which application ran it, what it was, and how often.
    let named = superuser.rows(
        "SELECT DISTINCT relation::text, application_name, kind, \"precision\", query FROM tenancy.shadow_denials ORDER BY 2",
    );
    let named: Vec<Vec<&str>> = named
        .iter()
        .map(|row| {
            row.iter()
                .map(|cell| cell.as_deref().unwrap_or("null"))
                .collect()
        })
        .collect();
    assert_eq!(
        named,
        [
            [
                "platform.projects",
                "nightly",
                "missing_context",
                "exact",
                "UPDATE platform.projects SET status = $1 WHERE status = $2 AND updated_at < now() - interval $3"
            ],
            [
                "platform.projects",
                "web",
                "hidden_row",
                "exact",
                "SELECT count(*) FROM platform.projects WHERE status = $1"
            ],
        ]
    );
    let pages = "SELECT sum(statements) = 60, sum(rows) > 60 FROM (
                     SELECT max(statements) AS statements, sum(rows) AS rows FROM tenancy.shadow_denials
                     WHERE application_name = 'web' GROUP BY app_user, context_tenant) AS of_tenant";
    let pages = superuser.rows(pages);
    assert_eq!(pages[0], [Some("t".to_owned()), Some("t".to_owned())]);
    assert_eq!(ready(&mut superuser), TABLES - 1);
    let enforce = "SELECT tenancy.set_mode('platform.projects', 'enforce')";
    expect_error(&superuser.error(enforce), "55000", "not ready");

    // Mended: another day, and nothing stands against it.
    superuser.ok("SELECT tenancy.reset_shadow()");
    let mut service = stage.session("studio_service");
    day(&mut application, &mut service, true).expect("shadow mode changes nothing");
    assert_eq!(ready(&mut superuser), TABLES);
    superuser.ok("SELECT tenancy.set_mode('enforce', atomic => true)");
    day(&mut application, &mut service, true).expect("what was ready breaks nothing");
    assert!(
        day(&mut application, &mut job, true).is_err(),
        "a job without a context"
    );
    assert_eq!(
        superuser.int("SELECT sum(rows)::int FROM tenancy.denials WHERE kind = 'missing_context'"),
        1
    );

    // Back.
    superuser.ok("SELECT tenancy.set_mode('permissive')");
    day(&mut application, &mut job, false).expect("as it was found");
}
