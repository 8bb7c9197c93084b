//! Plans of templates that versions of Postgres spell differently; the others are in
//! `tests/pg_regress/sql/plans_templates.sql`.

mod policy_support;
mod template_support;

use pgrx_test::fixture::ClientExt;
use policy_support::{A, B, plan_of};
use template_support::{P, World};

fn filled() -> World {
    let world = World::new();
    world.stage.owner().ok(&format!(
        "INSERT INTO app.tools SELECT n, md5((n % 200)::text)::uuid, 'x' FROM generate_series(100, 20000) n;
         INSERT INTO app.notes SELECT n, CASE n % 100 WHEN 0 THEN '{A}' ELSE '{B}' END::uuid, 'x' FROM generate_series(100, 20000) n;
         INSERT INTO app.lines SELECT n, n, 'x' FROM generate_series(100, 20000) n"
    ));
    world.enforce("tools", "shared_read", "tenant_id", "{}");
    world.enforce("notes", "tenant", "tenant_id", "{}");
    world.enforce("lines", "child", "", "{}");
    world.stage.superuser().ok("VACUUM ANALYZE");
    world
}

const OWN: &str = "tenant_id = tenancy.current_tenant_id_required()";

#[test]
fn shared_rows_come_by_the_index() {
    let world = filled();
    let mut ann = world.user("ann");
    for sql in [
        "SELECT * FROM app.tools",
        "UPDATE app.tools SET body = ''",
        "DELETE FROM app.tools WHERE body = 'x'",
    ] {
        let plan = plan_of(&mut ann, sql);
        assert!(
            plan.contains("Index Cond: ") && plan.contains("tools_tenant_idx"),
            "{plan}"
        );
        assert!(
            !plan.contains("Seq Scan") && !plan.contains("SubPlan") && !plan.contains("InitPlan"),
            "{plan}"
        );
    }
    // A write that reads nothing tests the tenant once, and not the platform.
    let plan = plan_of(&mut ann, "UPDATE app.tools SET body = ''");
    assert!(
        !plan.contains("platform") && plan.matches(OWN).count() <= 2,
        "{plan}"
    );
    assert_eq!(ann.int("SELECT count(*) FROM app.tools"), 2, "{P}");
}

#[test]
fn a_child_tests_the_tenant_once_for_each_table() {
    let world = filled();
    let mut ann = world.user("ann");
    let plan = plan_of(&mut ann, "SELECT * FROM app.lines WHERE note_id = 200");
    assert_eq!(plan.matches(OWN).count(), 1, "{plan}");
    assert!(
        plan.contains("lines_note_id_idx") && plan.contains("notes_pkey"),
        "{plan}"
    );
    let plan = plan_of(
        &mut ann,
        "SELECT * FROM app.notes n JOIN app.lines l ON l.note_id = n.id WHERE n.id BETWEEN 200 AND 210",
    );
    for line in plan.lines() {
        assert!(line.matches(OWN).count() <= 1, "{plan}");
    }
}
