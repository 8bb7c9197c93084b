//! A table in shadow mode with statements whose records have to be confirmed or dismissed.

// Each test program uses a part of it.
#![allow(dead_code)]

use pgrx_test::fixture::ClientExt;

use crate::policy_support::{B, Stage};

/// Two of four links are to items of another tenant.
pub const MATTERS: &str =
    "SELECT id FROM app.links WHERE item_id IN (SELECT id FROM app.items OFFSET 0)";
/// Any item will do.
pub const DOES_NOT: &str = "SELECT id FROM app.links WHERE EXISTS (SELECT FROM app.items OFFSET 0)";
/// Short as it is, and without an end under enforcement.
pub const ENDLESS: &str =
    "SELECT CASE WHEN EXISTS (SELECT FROM app.items WHERE note = 'a1' OFFSET 0) THEN 1
     ELSE (SELECT count(*) FROM (SELECT generate_series(1, 1000000000000) AS i) a WHERE i < 0) END";

pub const CONFIRMED: &[&str] = &["level a 2 1 t 2"];
pub const UNCONFIRMED: &[&str] = &["level a 2 1"];

/// Long enough for any machine, whatever else it does.
pub const PATIENT: &str = "60s";

pub fn staged() -> Stage {
    staged_on(Stage::new())
}

/// The same on a server of the test's own.
pub fn staged_on(stage: Stage) -> Stage {
    stage.items();
    stage
        .owner()
        .ok("CREATE TABLE app.links (id int PRIMARY KEY, item_id int);
         INSERT INTO app.links VALUES (1, 1), (2, 2), (3, 3), (4, 3);
         SELECT tenancy.protect_table('app.items', mode => 'shadow')");
    confirm_ms(&stage, PATIENT);
    stage
}

/// For sessions to come.
pub fn confirm_ms(stage: &Stage, value: &str) {
    stage.superuser().ok(&format!(
        "ALTER ROLE {} SET pg_tenancy.shadow_confirm_ms = '{value}'",
        stage.app
    ));
}

/// What was recorded since the last look: `precision row_tenant rows statements confirmed lost_rows`.
pub fn taken(stage: &Stage) -> Vec<String> {
    let mut admin = stage.superuser();
    let found = admin
        .texts(
            "SELECT concat_ws(' ', \"precision\", right(row_tenant, 1), rows, statements, confirmed, lost_rows)
             FROM tenancy.shadow_recorded() ORDER BY 1",
        );
    admin.ok("SELECT tenancy.shadow_clear()");
    found
}

pub fn dismissed(stage: &Stage) -> i64 {
    stage
        .superuser()
        .int("SELECT sum(dismissed)::bigint FROM tenancy.shadow_report()")
}

/// Runs it as tenant B, and says what that left.
pub fn after(stage: &Stage, sql: &str) -> Vec<String> {
    stage.tenant(B).ok(sql);
    taken(stage)
}
