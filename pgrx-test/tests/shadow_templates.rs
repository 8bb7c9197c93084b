//! Shadow mode of every template records what its enforcement hides, and nothing else.

mod policy_support;

use pgrx_test::fixture::ClientExt;
use policy_support::{A, B, Stage};
use postgres::Client;

const PLATFORM: &str = "00000000-0000-0000-0000-0000000000ff";

/// Users with a membership and a role: ann is an admin of A, bob a member of B, eve a super admin of B.
fn stage() -> Stage {
    let stage = Stage::unbound();
    stage.owner().ok(&format!(
        "CREATE TABLE app.members (user_id text, tenant_id uuid, role text, PRIMARY KEY (user_id, tenant_id));
         INSERT INTO app.members VALUES ('ann', '{A}', 'admin'), ('bob', '{B}', 'member'), ('eve', '{B}', 'super_admin');
         CREATE TABLE app.items (id int PRIMARY KEY, tenant_id uuid, owner_id text);
         INSERT INTO app.items VALUES (1, '{A}', 'ann'), (2, '{B}', 'bob'), (3, '{PLATFORM}', 'eve');
         CREATE TABLE app.lines (id int PRIMARY KEY, item int REFERENCES app.items);
         INSERT INTO app.lines VALUES (11, 1), (12, 2), (13, 3);
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA app TO {}",
        stage.app
    ));
    stage.superuser().ok(&format!(
        "SELECT tenancy.bind(membership => 'app.members', membership_role => 'role', platform_tenant => '{PLATFORM}')"
    ));
    stage
}

fn as_user(stage: &Stage, user: &str) -> Client {
    stage
        .database
        .connect_with(&stage.app, &format!("-c app.current_user_id={user}"))
}

/// What the statement is changed by: rows it returns unprotected and not when enforced, and how many
/// rows were recorded in shadow mode.
fn compare(
    stage: &Stage,
    table: &str,
    protect: &str,
    user: &str,
    sql: &str,
) -> (usize, i64, String) {
    let mut owner = stage.owner();
    let mut run = |mode: &str| {
        owner.ok(&format!(
            "SELECT tenancy.protect_table('{table}', mode => '{mode}', {protect})"
        ));
        let mut client = as_user(stage, user);
        client.ok("BEGIN");
        let rows = client.rows(sql).len();
        client.ok("ROLLBACK");
        rows
    };
    let unprotected = run("permissive");
    stage.superuser().ok("SELECT tenancy.shadow_clear()");
    assert_eq!(run("shadow"), unprotected, "{protect} {user} {sql}");
    let enforced = run("enforce");
    let mut admin = stage.superuser();
    let recorded = admin.int("SELECT coalesce(sum(rows), 0) FROM tenancy.shadow_recorded()");
    let kinds = admin.text(
        "SELECT coalesce(string_agg(DISTINCT concat_ws(' ', command, kind, \"precision\"), ', '), '') FROM tenancy.shadow_recorded()",
    );
    owner.ok(&format!("SELECT tenancy.unprotect_table('{table}')"));
    (unprotected - enforced, recorded, kinds.unwrap_or_default())
}

#[test]
fn each_records_the_rows_that_it_would_hide() {
    let stage = stage();
    let items = "SELECT id FROM app.items";
    let delete = "DELETE FROM app.items WHERE id < 3 RETURNING id";
    for (protect, user, sql, lost) in [
        ("template => 'tenant'", "ann", items, 2),
        ("template => 'shared_read'", "ann", items, 1),
        ("template => 'tenant_read_admin_write'", "bob", items, 2),
        (
            "template => 'tenant_read_admin_write'",
            "bob",
            "UPDATE app.items SET owner_id = 'x' RETURNING id",
            3,
        ),
        (
            "template => 'tenant_read_admin_write'",
            "ann",
            "UPDATE app.items SET owner_id = 'x' RETURNING id",
            2,
        ),
        ("template => 'member_read'", "ann", items, 2),
        (
            "template => 'self', options => '{\"user_column\": \"owner_id\"}'",
            "bob",
            items,
            2,
        ),
        (
            "template => 'self', options => '{\"user_column\": \"owner_id\", \"super_admins\": \"read\"}'",
            "eve",
            items,
            0,
        ),
        ("template => 'global_read_admin_write'", "bob", items, 0),
    ] {
        let (changed, recorded, kinds) = compare(&stage, "app.items", protect, user, sql);
        assert_eq!(
            (changed, recorded),
            (lost, lost as i64),
            "{protect} {user} {sql}: {kinds}"
        );
        assert!(
            kinds.is_empty() || kinds.ends_with("hidden_row exact"),
            "{kinds}"
        );
    }
    stage.owner().ok("DROP TABLE app.lines");
    let (changed, recorded, kinds) = compare(
        &stage,
        "app.items",
        "template => 'tenant_read_admin_write'",
        "bob",
        delete,
    );
    assert_eq!(
        (changed, recorded, kinds.as_str()),
        (2, 2, "delete hidden_row exact")
    );
}

#[test]
fn a_child_is_judged_by_its_parent() {
    let stage = stage();
    stage
        .owner()
        .ok("SELECT tenancy.protect_table('app.items', mode => 'permissive')");
    for parent in ["permissive", "shadow", "enforce"] {
        stage
            .owner()
            .ok(&format!("SELECT tenancy.set_mode('app.items', '{parent}')"));
        let sql = "SELECT id FROM app.lines";
        let (changed, recorded, kinds) =
            compare(&stage, "app.lines", "template => 'child'", "ann", sql);
        assert_eq!((changed, recorded), (2, 2), "{parent}");
        assert_eq!(kinds, "select hidden_row exact", "{parent}");
    }
}

/// A child in shadow mode below an enforced parent, with nothing recorded yet.
fn shadowed_child() -> Stage {
    let stage = stage();
    stage.owner().ok(
        "SELECT tenancy.protect_table('app.items', mode => 'enforce');
             SELECT tenancy.protect_table('app.lines', template => 'child', mode => 'shadow')",
    );
    stage.superuser().ok("SELECT tenancy.shadow_clear()");
    stage
}

#[test]
fn a_child_without_a_context_does_not_fail() {
    let stage = shadowed_child();
    // The parent's own policies would raise.
    assert_eq!(stage.nobody().rows("SELECT id FROM app.lines").len(), 3);
    let kinds = "SELECT string_agg(kind, ' ') FROM tenancy.shadow_recorded()";
    assert_eq!(
        stage.superuser().text(kinds).as_deref(),
        Some("missing_context")
    );
}

#[test]
fn a_child_with_row_security_off_does_not_fail() {
    let stage = shadowed_child();
    let mut ann = as_user(&stage, "ann");
    ann.ok("SET row_security = off");
    // The parent's row security would be an error, as that of the child will be.
    assert_eq!(ann.rows("SELECT id FROM app.lines").len(), 3);
    let error = "SELECT count(*) FROM tenancy.shadow_recorded() WHERE kind = 'statement_error'";
    assert_eq!(stage.superuser().int(error), 1);
}

#[test]
fn a_policys_sub_query_is_judged_for_the_owner_of_the_view() {
    let stage = stage();
    let shows = stage.database.role("shows");
    stage.owner().ok(&format!(
        "CREATE TABLE app.open (item int);
         INSERT INTO app.open VALUES (1);
         ALTER TABLE app.open ENABLE ROW LEVEL SECURITY;
         CREATE POLICY theirs ON app.open TO {shows} USING (true);
         CREATE POLICY opened ON app.items USING (EXISTS (SELECT FROM app.open o WHERE o.item = id));
         GRANT USAGE, CREATE ON SCHEMA app TO {shows};
         GRANT SELECT ON app.items, app.open TO {shows}"
    ));
    stage.database.connect(&shows).ok(&format!(
        "CREATE VIEW app.shown AS SELECT id FROM app.items; GRANT SELECT ON app.shown TO {}",
        stage.app
    ));
    let adopt = "template => 'tenant', options => '{\"adopt_policies\": true}'";
    let sql = "SELECT id FROM app.shown";
    let (changed, recorded, kinds) = compare(&stage, "app.items", adopt, "ann", sql);
    // The owner of the view sees what is open, and ann her tenant's part of it.
    assert_eq!((changed, recorded), (2, 2), "{kinds}");
}

#[test]
fn a_join_that_workers_run_gets_no_recorder_that_they_cannot() {
    let stage = stage();
    stage.owner().ok("CREATE TABLE app.loose (id int, line int);
         INSERT INTO app.loose SELECT i, 10 + i % 5 FROM generate_series(1, 2000) i;
         ALTER TABLE app.loose SET (parallel_workers = 2);
         ALTER TABLE app.lines SET (parallel_workers = 2);
         ANALYZE app.loose, app.lines;
         SELECT tenancy.protect_table('app.items', mode => 'permissive')");
    stage
        .superuser()
        .ok(&format!("GRANT SELECT ON app.loose TO {}", stage.app));
    let sql = "SELECT loose.id, lines.id FROM app.loose JOIN app.lines ON lines.id = loose.line";
    let parallel = "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0";
    let mut client = as_user(&stage, "ann");
    client.ok(parallel);
    let plan = policy_support::plan_of(&mut client, sql);
    assert!(plan.contains("Gather"), "{plan}");
    stage
        .owner()
        .ok("SELECT tenancy.protect_table('app.lines', template => 'child', mode => 'shadow')");
    stage.superuser().ok("SELECT tenancy.shadow_clear()");
    // The lookup of the parent's row is not for workers.
    assert_eq!(client.rows(sql).len(), 1200);
    let recorded = "SELECT sum(rows) FROM tenancy.shadow_recorded()";
    assert_eq!(stage.superuser().int(recorded), 800);
}
