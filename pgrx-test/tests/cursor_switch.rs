//! A query that is continued after the tenant changed. Which rows would come depends on the plan: an
//! index scan keeps the tenant its key was computed for, a sequential scan asks for every row, and
//! rows of another tenant would appear in a result that was opened for the first. So it is refused
//! with 55000, whatever the plan; the other tenant's rows never appear, and setting the context back
//! lets the query go on.

mod context_setup;

use context_setup::{A, B, World};
use pgrx_test::fixture::{ClientExt, Server, expect_error};
use postgres::Client;

fn world() -> World {
    let world = World::new(Server::preloaded());
    world.admin().ok(&format!(
        "INSERT INTO notes (tenant_id, body) SELECT CASE n % 2 WHEN 0 THEN '{A}' ELSE '{B}' END::uuid, CASE n % 2 WHEN 0 THEN 'a' ELSE 'b' END
         FROM generate_series(1, 400) n; ANALYZE notes"
    ));
    world
}

const CHANGED: &str = "the tenant context changed since the query was started";

fn fetched(client: &mut Client, sql: &str) -> String {
    let rows = client.rows(sql);
    rows.iter()
        .map(|row| row[0].as_deref().unwrap_or("-"))
        .collect()
}

fn scans() -> [(&'static str, &'static str); 3] {
    [
        (
            "Seq Scan",
            "SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off",
        ),
        (
            "Index",
            "SET enable_seqscan = off; SET enable_bitmapscan = off",
        ),
        (
            "Bitmap",
            "SET enable_seqscan = off; SET enable_indexscan = off; SET enable_indexonlyscan = off",
        ),
    ]
}

fn session(world: &World, settings: &str, plan: &str) -> Client {
    let mut client = world.app();
    client.ok(settings);
    client.ok("BEGIN; SET LOCAL app.current_user_id = 'u1'");
    let explained = fetched(&mut client, "EXPLAIN SELECT body FROM notes");
    assert!(explained.contains(plan), "{explained}");
    client
}

#[test]
fn a_cursor_is_not_continued_for_another_tenant() {
    let world = world();
    for (plan, settings) in scans() {
        let mut client = session(&world, settings, plan);
        client.ok("DECLARE c CURSOR FOR SELECT body FROM notes");
        assert_eq!(fetched(&mut client, "FETCH 3 FROM c"), "aaa");
        client.ok("SAVEPOINT s; SET LOCAL app.current_user_id = 'u2'");
        expect_error(&client.error("FETCH 100 FROM c"), "55000", CHANGED);
        client.ok("ROLLBACK");
        // Set back, it goes on.
        let mut client = session(&world, settings, plan);
        client.ok("DECLARE c CURSOR FOR SELECT body FROM notes");
        assert_eq!(fetched(&mut client, "FETCH 3 FROM c"), "aaa");
        client.ok("SET LOCAL app.current_user_id = 'u2'");
        assert!(fetched(&mut client, "SELECT body FROM notes").starts_with("bbb"));
        client.ok("SET LOCAL app.current_user_id = 'u1'");
        let rest = fetched(&mut client, "FETCH ALL FROM c");
        assert_eq!((rest.len(), rest.replace('a', "")), (199, String::new()));
    }
}

#[test]
fn a_cursor_is_not_begun_for_another_tenant() {
    let world = world();
    for (plan, settings) in scans() {
        for switch in [
            "SET LOCAL app.current_user_id = 'u2'",
            "SET LOCAL app.current_user_id = ''",
            "SET LOCAL app.current_user_id = 'nobody'",
        ] {
            let mut client = session(&world, settings, plan);
            client.ok("DECLARE c CURSOR FOR SELECT body FROM notes");
            client.ok(switch);
            expect_error(&client.error("FETCH 1 FROM c"), "55000", CHANGED);
        }
    }
}

#[test]
fn a_cursor_under_deny_without_a_context_shows_nothing_later() {
    let world = world();
    let mut client = world.app();
    client.ok("SET pg_tenancy.missing_context = 'deny'; BEGIN; DECLARE c CURSOR FOR SELECT body FROM notes");
    assert_eq!(fetched(&mut client, "FETCH 1 FROM c"), "");
    client.ok("DECLARE d CURSOR FOR SELECT body FROM notes; SET LOCAL app.current_user_id = 'u2'");
    expect_error(&client.error("FETCH 1 FROM d"), "55000", CHANGED);
}

#[test]
fn a_membership_that_ends_ends_the_cursor() {
    let world = world();
    let mut client = world.app_as("u1");
    client.ok("BEGIN; DECLARE c CURSOR FOR SELECT body FROM notes");
    assert_eq!(fetched(&mut client, "FETCH 3 FROM c"), "aaa");
    world.admin().ok("DELETE FROM members WHERE user_id = 'u1'");
    expect_error(&client.error("FETCH 100 FROM c"), "55000", CHANGED);
}

#[test]
fn with_hold_keeps_the_rows_of_its_tenant() {
    let world = world();
    let mut client = session(&world, "", "Scan");
    client.ok("DECLARE c CURSOR WITH HOLD FOR SELECT body FROM notes; COMMIT");
    client.ok("BEGIN; SET LOCAL app.current_user_id = 'u2'");
    let rows = fetched(&mut client, "FETCH ALL FROM c");
    assert_eq!((rows.len(), rows.replace('a', "")), (202, String::new()));
    client.ok("COMMIT");
    // The rows are gathered at COMMIT: for another tenant it fails, and nothing is held.
    let mut client = session(&world, "", "Scan");
    client.ok("DECLARE c CURSOR WITH HOLD FOR SELECT body FROM notes; SET LOCAL app.current_user_id = 'u2'");
    expect_error(&client.error("COMMIT"), "55000", CHANGED);
    expect_error(&client.error("FETCH ALL FROM c"), "34000", "does not exist");
}

#[test]
fn a_portal_with_a_row_limit_is_not_continued_for_another_tenant() {
    let world = world();
    let mut client = world.app();
    let query = client.prepare("SELECT body FROM notes").unwrap();
    let switch = client
        .prepare("SELECT set_config('app.current_user_id', $1, true)")
        .unwrap();
    let mut transaction = client.transaction().unwrap();
    transaction.query(&switch, &[&"u1"]).unwrap();
    let portal = transaction.bind(&query, &[]).unwrap();
    assert_eq!(transaction.query_portal(&portal, 3).unwrap().len(), 3);
    let begun_late = transaction.bind(&query, &[]).unwrap();
    transaction.query(&switch, &[&"u2"]).unwrap();
    let mut nested = transaction.transaction().unwrap();
    for portal in [&portal, &begun_late] {
        let error = nested.query_portal(portal, 100).unwrap_err();
        expect_error(error.as_db_error().unwrap(), "55000", CHANGED);
        nested.rollback().unwrap();
        nested = transaction.transaction().unwrap();
    }
}

/// Nothing but the run itself is told of the second Execute of a portal.
#[test]
fn a_portal_with_a_row_limit_is_not_continued_for_a_user_who_moved() {
    // Without its triggers the change is announced by nobody, and a context counts for one statement.
    for disarm in ["", "ALTER TABLE members DISABLE TRIGGER ALL"] {
        let world = world();
        world.admin().ok(disarm);
        let mut client = world.app_as("u1");
        let query = client.prepare("SELECT body FROM notes").unwrap();
        let mut transaction = client.transaction().unwrap();
        let portal = transaction.bind(&query, &[]).unwrap();
        for _ in 0..2 {
            assert_eq!(transaction.query_portal(&portal, 3).unwrap().len(), 3);
        }
        world.admin().ok(&format!(
            "UPDATE members SET tenant_id = '{B}' WHERE user_id = 'u1'"
        ));
        let Err(error) = transaction.query_portal(&portal, 3) else {
            panic!("the portal goes on: {disarm:?}");
        };
        expect_error(error.as_db_error().unwrap(), "55000", CHANGED);
    }
}

#[test]
fn a_loop_over_a_protected_table_may_not_switch_and_over_others_may() {
    let world = world();
    let mut client = world.app();
    let block = |query: &str| {
        format!(
            "DO $$ DECLARE r record; bodies text := ''; BEGIN
               PERFORM set_config('app.current_user_id', 'u1', true);
               FOR r IN {query} LOOP
                 PERFORM set_config('app.current_user_id', r.who, true);
                 bodies := bodies || (SELECT min(body) || max(body) FROM notes);
               END LOOP;
               PERFORM set_config('my.bodies', left(bodies, 4), false);
             END $$"
        )
    };
    client.ok(&block(
        "SELECT 'u' || (n % 2 + 1) AS who FROM generate_series(0, 99) n",
    ));
    assert_eq!(client.text("SHOW my.bodies").as_deref(), Some("aabb"));
    let error = client.error(&block("SELECT 'u2' AS who FROM notes"));
    expect_error(&error, "55000", CHANGED);
}

#[test]
fn a_function_that_switches_and_switches_back_does_not_disturb() {
    let world = world();
    world
        .admin()
        .ok("CREATE FUNCTION of_b() RETURNS text LANGUAGE sql VOLATILE
        SET app.current_user_id = 'u2' AS $$ SELECT max(body) FROM notes $$");
    let mut client = session(&world, "", "Scan");
    client.ok("DECLARE c CURSOR FOR SELECT body || of_b() FROM notes");
    for _ in 0..3 {
        assert_eq!(fetched(&mut client, "FETCH 2 FROM c"), "abab");
        assert_eq!(client.text("SELECT of_b()").as_deref(), Some("b"));
    }
}

#[test]
fn cursors_of_a_superuser_and_on_other_tables_go_on() {
    let world = world();
    let mut admin = world.admin();
    admin.ok(
        "SET pg_tenancy.missing_context = 'error'; BEGIN; SET LOCAL app.current_user_id = 'u1'",
    );
    admin.ok("DECLARE c CURSOR FOR SELECT body FROM members, LATERAL (SELECT role AS body) r");
    assert_eq!(fetched(&mut admin, "FETCH 1 FROM c"), "user");
    admin.ok("SET LOCAL app.current_user_id = 'u2'");
    assert_eq!(fetched(&mut admin, "FETCH 1 FROM c"), "user");
    admin.ok("COMMIT; BEGIN; SET LOCAL app.current_user_id = 'u1'; SELECT current_tenant_id(); DECLARE c CURSOR FOR SELECT 1 FROM notes");
    admin.ok("FETCH 1 FROM c; SET LOCAL app.current_user_id = 'u2'; FETCH 1 FROM c; COMMIT");
    let mut client = world.app();
    client.ok(
        "BEGIN; SET LOCAL app.current_user_id = 'u1'; DECLARE c CURSOR FOR SELECT 1 FROM members",
    );
    assert_eq!(fetched(&mut client, "FETCH 1 FROM c"), "1");
    client.ok("SET LOCAL app.current_user_id = 'u2'");
    assert_eq!(fetched(&mut client, "FETCH 1 FROM c"), "1");
}
