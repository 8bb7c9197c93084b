//! Ways around a template: a cursor that goes on for somebody else, a partition named directly, a role
//! that changes under a transaction, options that try to be more than they are.

mod policy_support;
mod template_support;

use pgrx_test::fixture::{ClientExt, expect_error};
use policy_support::{A, B};
use template_support::{P, World, bodies, outcome};

const CHANGED: &str = "the tenant context changed since the query was started";

/// A cursor that `first` begins and `second` goes on with: refused, or not.
fn continued(world: &World, query: &str, first: &str, second: &str) -> bool {
    let mut session = world.stage.nobody();
    session.ok(&format!("BEGIN; SET LOCAL app.current_user_id = '{first}'; DECLARE c CURSOR FOR {query}; MOVE 1 FROM c"));
    session.ok(&format!("SET LOCAL app.current_user_id = '{second}'"));
    match session.batch_execute("FETCH ALL FROM c") {
        Ok(()) => true,
        Err(error) => {
            expect_error(error.as_db_error().expect("the server's"), "55000", CHANGED);
            false
        }
    }
}

#[test]
fn a_cursor_goes_on_only_for_whom_its_rows_depend_on() {
    let world = World::new();
    world.enforce("tools", "shared_read", "tenant_id", "{}");
    let tools = "SELECT body FROM app.tools";
    assert!(continued(&world, tools, "ann", "amy"), "the same tenant");
    assert!(!continued(&world, tools, "ann", "bob"));

    world.enforce("config", "tenant_read_admin_write", "tenant_id", "{}");
    let config = "SELECT body FROM app.config";
    assert!(
        continued(&world, config, "amy", "ann"),
        "reading takes no role"
    );
    assert!(!continued(
        &world,
        &format!("{config} FOR UPDATE"),
        "amy",
        "ann"
    ));

    world.enforce("profiles", "self", "tenant_id", "{}");
    assert!(!continued(
        &world,
        "SELECT body FROM app.profiles",
        "ann",
        "amy"
    ));
    assert!(continued(
        &world,
        "SELECT body FROM app.profiles",
        "ann",
        "ann"
    ));

    world.enforce("members", "member_read", "tenant_id", "{}");
    assert!(!continued(
        &world,
        "SELECT role FROM app.members",
        "two",
        "ann"
    ));

    world.enforce("tenants", "own_tenant", "id", "{}");
    assert!(continued(
        &world,
        "SELECT name FROM app.tenants",
        "ann",
        "amy"
    ));
    world.enforce("tenants", "own_tenant", "id", r#"{"super_admins": "read"}"#);
    assert!(!continued(
        &world,
        "SELECT name FROM app.tenants",
        "sup",
        "ann"
    ));

    world.enforce("flags", "global_read_admin_write", "", "{}");
    assert!(continued(
        &world,
        "SELECT body FROM app.flags",
        "ann",
        "bob"
    ));
    world.enforce(
        "flags",
        "global_read_admin_write",
        "",
        r#"{"visible": "is_active"}"#,
    );
    assert!(!continued(
        &world,
        "SELECT body FROM app.flags",
        "sup",
        "ann"
    ));

    world.enforce("notes", "tenant", "tenant_id", "{}");
    world.enforce("lines", "child", "", "{}");
    assert!(continued(
        &world,
        "SELECT body FROM app.lines",
        "ann",
        "amy"
    ));
    assert!(!continued(
        &world,
        "SELECT body FROM app.lines",
        "ann",
        "bob"
    ));
}

#[test]
fn a_membership_that_ends_ends_the_cursor_that_shows_it() {
    let world = World::new();
    world.enforce("members", "member_read", "tenant_id", "{}");
    let mut two = world.user("two");
    two.ok("BEGIN; DECLARE c CURSOR FOR SELECT role FROM app.members ORDER BY tenant_id; MOVE 1 FROM c");
    world.stage.superuser().ok(&format!(
        "DELETE FROM app.members WHERE user_id = 'two' AND tenant_id = '{B}'"
    ));
    expect_error(&two.error("FETCH ALL FROM c"), "55000", CHANGED);
    two.ok("ROLLBACK");
    assert_eq!(
        two.int("SELECT count(DISTINCT tenant_id) FROM app.members"),
        1
    );
}

#[test]
fn answers_follow_the_user_within_a_transaction() {
    let world = World::new();
    world.enforce("members", "member_read", "tenant_id", "{}");
    world.enforce("profiles", "self", "tenant_id", "{}");
    world.enforce("config", "tenant_read_admin_write", "tenant_id", "{}");
    let mut session = world.stage.nobody();
    session.ok("SET plan_cache_mode = force_generic_plan");
    let tenants = session
        .prepare("SELECT count(DISTINCT tenant_id) FROM app.members")
        .unwrap();
    let mine = session
        .prepare("SELECT string_agg(body, ' ') FROM app.profiles")
        .unwrap();
    let write = session
        .prepare("UPDATE app.config SET body = body")
        .unwrap();
    for _ in 0..3 {
        let mut transaction = session.transaction().unwrap();
        for (user, count, body, written) in [
            ("two", 2, Some("two"), None),
            ("ann", 1, Some("ann"), Some(0)),
            ("amy", 1, Some("amy"), Some(1)),
            ("out", 0, None, None),
        ] {
            transaction
                .batch_execute(&format!("SET LOCAL app.current_user_id = '{user}'"))
                .unwrap();
            let row = transaction.query_one(&tenants, &[]).unwrap();
            assert_eq!(row.get::<_, i64>(0), count, "{user}");
            let row = transaction.query_one(&mine, &[]).unwrap();
            assert_eq!(row.get::<_, Option<&str>>(0), body, "{user}");
            if let Some(written) = written {
                assert_eq!(transaction.execute(&write, &[]).unwrap(), written, "{user}");
            }
        }
        transaction.commit().unwrap();
    }
    // Two users in one statement: what was answered first does not change under the executor.
    session.ok("BEGIN; SET LOCAL app.current_user_id = 'ann'");
    let both = session.text(
        "SELECT a || ' ' || set_config('app.current_user_id', 'amy', true) || ' ' || tenancy.current_user_id_text_required()
             || ' ' || a FROM (SELECT tenancy.current_user_id_text_required() AS a OFFSET 0) x",
    );
    assert_eq!(both.as_deref(), Some("ann amy amy ann"));
}

#[test]
fn a_partition_is_what_its_parent_is() {
    let world = World::new();
    world.stage.owner().ok(&format!(
        "CREATE TABLE app.parts (id int, tenant_id uuid NOT NULL, body text) PARTITION BY LIST (tenant_id);
         CREATE TABLE app.part_a PARTITION OF app.parts FOR VALUES IN ('{A}');
         CREATE TABLE app.part_b PARTITION OF app.parts FOR VALUES IN ('{B}');
         CREATE TABLE app.part_p PARTITION OF app.parts DEFAULT;
         INSERT INTO app.parts VALUES (1, '{A}', 'a'), (2, '{B}', 'b'), (3, '{P}', 'p')"
    ));
    world.enforce("parts", "shared_read", "tenant_id", "{}");
    let mut ann = world.user("ann");
    for (table, seen, written) in [
        ("parts", "a p", "1"),
        ("part_a", "a", "1"),
        ("part_b", "", "0"),
        ("part_p", "p", "0"),
    ] {
        assert_eq!(bodies(&mut ann, table), seen, "{table}");
        for sql in [
            format!("UPDATE app.{table} SET body = 'x'"),
            format!("DELETE FROM app.{table}"),
        ] {
            assert_eq!(outcome(&mut ann, &sql), written, "{sql}");
        }
    }
    for (table, tenant) in [("part_b", B), ("part_p", P), ("parts", P)] {
        let sql = format!("INSERT INTO app.{table} VALUES (9, '{tenant}', 'x')");
        assert_eq!(outcome(&mut ann, &sql), "42501", "{table}");
    }
    // Moving to the platform's partition is refused to whoever may do everything else.
    let mut superuser = world.stage.superuser();
    expect_error(
        &superuser.error(&format!(
            "UPDATE app.parts SET tenant_id = '{P}' WHERE id = 1"
        )),
        "23514",
        "another tenant",
    );
    world.enforce("parts", "tenant_read_admin_write", "tenant_id", "{}");
    assert_eq!(outcome(&mut ann, "UPDATE app.part_a SET body = 'x'"), "0");
    assert_eq!(
        outcome(&mut world.user("amy"), "UPDATE app.part_a SET body = 'x'"),
        "1"
    );
}

#[test]
fn a_child_keeps_to_its_tenant_in_every_kind_of_statement() {
    let world = World::new();
    world.enforce("notes", "tenant", "tenant_id", "{}");
    world.enforce("lines", "child", "", "{}");
    let mut ann = world.user("ann");
    for (sql, expected) in [
        (
            "MERGE INTO app.lines l USING app.notes n ON l.note_id = n.id WHEN MATCHED THEN UPDATE SET body = 'x'",
            "1",
        ),
        (
            "MERGE INTO app.lines l USING (VALUES (2)) v (n) ON l.id = 99 WHEN NOT MATCHED THEN INSERT VALUES (9, 2, 'x')",
            "42501",
        ),
        (
            "INSERT INTO app.lines VALUES (2, 1, 'x') ON CONFLICT (id) DO UPDATE SET body = 'x'",
            "42501",
        ),
        (
            "INSERT INTO app.lines VALUES (1, 1, 'x') ON CONFLICT (id) DO UPDATE SET note_id = 2",
            "42501",
        ),
        (
            "DELETE FROM app.lines l USING app.words w WHERE w.line_id = l.id",
            "1",
        ),
        ("SELECT FROM app.lines FOR UPDATE", "1"),
        (
            "WITH gone AS (DELETE FROM app.lines RETURNING *) SELECT FROM gone",
            "1",
        ),
    ] {
        assert_eq!(outcome(&mut ann, sql), expected, "{sql}");
    }
    // Deleting the parent cascades, as foreign keys do past policies, to rows of the same tenant only.
    ann.ok("DELETE FROM app.notes");
    assert_eq!(
        world
            .stage
            .superuser()
            .text("SELECT string_agg(body, ' ' ORDER BY body) FROM app.lines")
            .as_deref(),
        Some("b p")
    );
}

#[test]
fn shared_parents_show_their_children() {
    let world = World::new();
    world.stage.owner().ok(
        "CREATE TABLE app.parts (id int PRIMARY KEY, tool_id int NOT NULL REFERENCES app.tools, body text);
         CREATE INDEX ON app.parts (tool_id); INSERT INTO app.parts VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'p')",
    );
    world.enforce("tools", "shared_read", "tenant_id", "{}");
    world.enforce("parts", "child", "", "{}");
    let mut ann = world.user("ann");
    assert_eq!(bodies(&mut ann, "parts"), "a p");
    assert_eq!(outcome(&mut ann, "UPDATE app.parts SET body = 'x'"), "1");
    assert_eq!(
        outcome(&mut ann, "INSERT INTO app.parts VALUES (9, 3, 'x')"),
        "42501"
    );
    assert_eq!(outcome(&mut ann, "DELETE FROM app.parts WHERE id = 3"), "0");
}

#[test]
fn what_an_option_says_is_what_it_is() {
    let world = World::new();
    let refused = |table: &str, template: &str, options: &str, sqlstate: &str, needle: &str| {
        let sql = format!(
            "SELECT tenancy.protect_table('app.{table}', '{template}', mode => 'enforce', options => '{options}')"
        );
        expect_error(&world.stage.owner().error(&sql), sqlstate, needle);
    };
    let why = "tenant index";
    refused(
        "notes",
        "tenant",
        r#"{"super_admins": "read"}"#,
        "22023",
        why,
    );
    refused(
        "tools",
        "shared_read",
        r#"{"super_admins": "all"}"#,
        "22023",
        why,
    );
    refused(
        "members",
        "member_read",
        r#"{"super_admins": "all"}"#,
        "22023",
        why,
    );
    let global = "global_read_admin_write";
    for visible in [
        "true) OR (true",
        "true; DROP TABLE app.flags",
        "is_active FROM app.flags",
        "is_active UNION SELECT true",
        "1",
        "count(*) > 0",
        "nothing",
        "is_active, true",
        "--",
    ] {
        let options = format!(r#"{{"visible": "{visible}"}}"#);
        let sql = format!(
            "SELECT tenancy.protect_table('app.flags', '{global}', mode => 'enforce', options => '{options}')"
        );
        let error = world.stage.owner().error(&sql);
        assert!(
            error.code().code().starts_with("42") || error.code().code() == "22023",
            "{visible}: {error:?}"
        );
    }
    refused(
        "profiles",
        "self",
        r#"{"user_column": "nothing"}"#,
        "42703",
        "user_column",
    );
    world.stage.owner().ok("CREATE TABLE app.odd (id numeric, note_id int, a int REFERENCES app.notes, b int REFERENCES app.notes)");
    refused("odd", "self", "{}", "42804", "numeric");
    refused("odd", "child", "{}", "55000", "Protect the parent first");
    world.enforce("notes", "tenant", "tenant_id", "{}");
    refused("odd", "child", "{}", "55000", "foreign_key");
    refused(
        "odd",
        "child",
        r#"{"foreign_key": "no"}"#,
        "55000",
        "no foreign key \"no\"",
    );
    world.enforce("odd", "child", "", r#"{"foreign_key": "odd_b_fkey"}"#);
    world
        .stage
        .owner()
        .ok("INSERT INTO app.lines VALUES (9, NULL, 'n')");
    refused("lines", "child", "{}", "23502", "1 rows");
    assert_eq!(
        world
            .stage
            .superuser()
            .int("SELECT count(*) FROM tenancy.protected_tables"),
        2
    );
}

#[test]
fn a_role_that_may_not_see_the_parent_sees_no_child() {
    let world = World::new();
    world.enforce("notes", "tenant", "tenant_id", "{}");
    world.enforce("lines", "child", "", "{}");
    world.stage.owner().ok(&format!(
        "REVOKE SELECT ON app.notes FROM {}",
        world.stage.app
    ));
    expect_error(
        &world.user("ann").error("SELECT FROM app.lines"),
        "42501",
        "notes",
    );
}
