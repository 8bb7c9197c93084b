//! How long a context lives: to the end of its transaction, whoever set it and however the library
//! came into the session.

mod context_setup;

use context_setup::{A, B, BODIES, TENANT, World};
use pgrx_test::fixture::{ClientExt, Server, expect_error};
use postgres::Client;

const USER: &str = "SELECT coalesce(current_setting('app.current_user_id', true), '')";

#[track_caller]
fn expect_none(client: &mut Client) {
    // First as it stands: asking for the context discards what is left.
    assert_eq!(client.text(USER).as_deref(), Some(""));
    assert_eq!(client.text(TENANT), None);
    expect_error(&client.error(BODIES), "42501", "no tenant context");
}

#[track_caller]
fn expect(client: &mut Client, bodies: &str) {
    assert_eq!(client.text(BODIES).as_deref(), Some(bodies));
}

#[test]
fn what_a_transaction_sets_ends_with_it() {
    let world = World::new(Server::preloaded());
    let mut client = world.app();
    for set in [
        "SET app.current_user_id = 'u1'",
        "SELECT set_config('app.current_user_id', 'u1', false)",
        "SET LOCAL app.current_user_id = 'u1'",
        "SET LOCAL app.current_user_id = 'u2'; SET app.current_user_id = 'u1'",
        "SET app.current_user_id = 'u2'; SET LOCAL app.current_user_id = 'u1'",
        "SAVEPOINT s; SET app.current_user_id = 'u1'; RELEASE s",
        "SET app.current_user_id = 'u1'; SAVEPOINT s; SET app.current_user_id = 'u2'; ROLLBACK TO s",
        "SAVEPOINT s; SET LOCAL app.current_user_id = 'u2'; SAVEPOINT t; SET app.current_user_id = 'u1'; RELEASE t; RELEASE s",
        "DO $$ BEGIN PERFORM set_config('app.current_user_id', 'u1', false); END $$",
    ] {
        for end in [
            "COMMIT",
            "ROLLBACK",
            "COMMIT AND CHAIN; SELECT 1",
            "ROLLBACK AND CHAIN; SELECT 1",
        ] {
            client.ok(&format!("BEGIN; {set}"));
            expect(&mut client, "aa");
            client.ok(end);
            assert_eq!(client.text(USER).as_deref(), Some(""), "{set}; {end}");
            assert_eq!(client.text(TENANT), None, "{set}; {end}");
            expect_error(&client.error(BODIES), "42501", "no tenant context");
            client.ok("ROLLBACK");
            expect_none(&mut client);
        }
    }
}

#[test]
fn a_set_outside_of_a_transaction_leaves_nothing() {
    let world = World::new(Server::preloaded());
    let mut client = world.app();
    client.ok("SET app.current_user_id = 'u1'");
    expect_none(&mut client);
    client.text("SELECT set_config('app.current_user_id', 'u1', false)");
    expect_none(&mut client);
    // One message is one transaction.
    client.ok("SET app.current_user_id = 'u1'; SELECT 1");
    expect_none(&mut client);
    client.error("SET app.current_user_id = 'u1'; SELECT 1/0");
    expect_none(&mut client);
}

#[test]
fn a_prepared_transaction_leaves_nothing() {
    let world = World::new(Server::preloaded());
    let gid = &world.db.name;
    let mut client = world.app();
    client.ok("BEGIN; SET app.current_user_id = 'u1'");
    client.ok(&format!(
        "UPDATE notes SET body = 'z'; PREPARE TRANSACTION '{gid}'"
    ));
    expect_none(&mut client);
    client.ok(&format!("COMMIT PREPARED '{gid}'"));
    client.ok("BEGIN; SET LOCAL app.current_user_id = 'u1'");
    expect(&mut client, "zz");
}

#[test]
fn what_the_connection_brings_stays() {
    let world = World::new(Server::preloaded());
    let mut client = world.app_as("u1");
    for _ in 0..2 {
        expect(&mut client, "aa");
        client.ok("BEGIN; SET app.current_user_id = 'u2'");
        expect(&mut client, "b");
        client.ok("COMMIT");
    }
    expect(&mut client, "aa");
    world.admin().ok(&format!(
        "ALTER ROLE {} SET app.current_user_id = 'u2'",
        world.app
    ));
    let mut client = world.app();
    for _ in 0..2 {
        expect(&mut client, "b");
        client.ok("BEGIN; SET app.current_user_id = 'u1'");
        expect(&mut client, "aa");
        client.ok("COMMIT");
    }
    client.ok("RESET ALL");
    expect(&mut client, "b");
}

/// Its answer is kept from one transaction to the next, which nothing may show.
#[test]
fn what_the_connection_brings_follows_every_change() {
    let world = World::new(Server::preloaded());
    let mut admin = world.admin();
    let mut client = world.app_as("u1");
    let bodies = client.prepare(BODIES).expect("the statement is prepared");
    expect_kept(&mut client, &bodies, "aa");
    expect_kept(&mut client, &bodies, "aa");
    // Another session, between two transactions and between two statements of one.
    admin.ok(&format!(
        "UPDATE members SET tenant_id = '{B}' WHERE user_id = 'u1'"
    ));
    expect_kept(&mut client, &bodies, "b");
    client.ok("BEGIN");
    expect_kept(&mut client, &bodies, "b");
    admin.ok(&format!(
        "UPDATE members SET tenant_id = '{A}' WHERE user_id = 'u1'"
    ));
    expect_kept(&mut client, &bodies, "aa");
    client.ok("COMMIT");
    // A transaction that goes on with its first snapshot must not hand on what it saw.
    client.ok("BEGIN ISOLATION LEVEL REPEATABLE READ");
    expect_kept(&mut client, &bodies, "aa");
    admin.ok(&format!(
        "UPDATE members SET tenant_id = '{B}' WHERE user_id = 'u1'"
    ));
    client.ok("COMMIT");
    expect_kept(&mut client, &bodies, "b");
    // Its own change, taken back and committed.
    let mut owner = world
        .db
        .connect_with(&world.owner, "-c app.current_user_id=u1");
    for (end, tenant) in [("ROLLBACK", B), ("COMMIT", A)] {
        owner.ok("BEGIN");
        owner.text(TENANT);
        owner.ok(&format!(
            "UPDATE members SET tenant_id = '{A}' WHERE user_id = 'u1'"
        ));
        assert_eq!(owner.text(TENANT).as_deref(), Some(A));
        owner.ok(end);
        assert_eq!(owner.text(TENANT).as_deref(), Some(tenant), "{end}");
    }
    admin.ok("DELETE FROM members WHERE user_id = 'u1'");
    expect_error(
        &context_setup::failure(&mut client, &bodies),
        "42501",
        "no tenant context",
    );
}

#[track_caller]
fn expect_kept(client: &mut Client, bodies: &postgres::Statement, wanted: &str) {
    assert_eq!(context_setup::run(client, bodies).as_deref(), Some(wanted));
}

#[test]
fn what_was_set_under_session_scope_ends_when_that_does() {
    let world = World::new(Server::preloaded());
    let mut admin = world.admin();
    admin.ok("SET pg_tenancy.context_scope = 'session'; SET app.current_user_id = 'u1'");
    for _ in 0..2 {
        assert_eq!(admin.text(TENANT).as_deref(), Some(A));
    }
    admin.ok("SET pg_tenancy.context_scope = 'transaction'");
    assert_eq!(admin.text(TENANT), None);
}

#[test]
fn a_function_with_a_set_clause_is_a_scope_of_its_own() {
    let world = World::new(Server::preloaded());
    world.admin().ok("
        CREATE FUNCTION as_u2() RETURNS text LANGUAGE plpgsql SET app.current_user_id = 'u2'
          AS $$ BEGIN RETURN (SELECT string_agg(body, '') FROM notes); END $$;
        CREATE FUNCTION switches() RETURNS text LANGUAGE plpgsql SET app.current_user_id = 'u2'
          AS $$ BEGIN PERFORM set_config('app.current_user_id', 'u1', false); RETURN (SELECT string_agg(body, '') FROM notes); END $$");
    let mut client = world.app();
    assert_eq!(client.text("SELECT as_u2()").as_deref(), Some("b"));
    expect_none(&mut client);
    client.ok("BEGIN; SET LOCAL app.current_user_id = 'u1'");
    assert_eq!(
        client.text("SELECT as_u2() || switches()").as_deref(),
        Some("baa")
    );
    expect(&mut client, "aa");
    client.ok("COMMIT");
    client.text("SELECT switches()");
    expect_none(&mut client);
}

#[test]
fn session_scope_is_for_superusers_to_allow() {
    let world = World::new(Server::preloaded());
    let mut client = world.app();
    expect_error(
        &client.error("SET pg_tenancy.context_scope = 'session'"),
        "42501",
        "permission denied",
    );
    world.admin().ok(&format!(
        "ALTER ROLE {} SET pg_tenancy.context_scope = 'session'",
        world.app
    ));
    let mut client = world.app();
    client.ok("SET app.current_user_id = 'u1'");
    expect(&mut client, "aa");
    client.ok("BEGIN; SET LOCAL app.current_user_id = 'u2'; COMMIT");
    expect(&mut client, "aa");
    client.ok("BEGIN; SET app.current_user_id = 'u2'; ROLLBACK");
    expect(&mut client, "aa");
    client.ok("RESET app.current_user_id");
    assert_eq!(client.text(TENANT), None);
}

/// The library is not there until the first call, and the connection has had a client before.
fn cold_with_leftover(world: &World, setting: &str) -> Client {
    let mut client = world.app();
    client.ok("SET pg_tenancy.missing_context = 'deny'");
    client.ok(&format!("SET {setting} = 'u2'"));
    assert_eq!(
        client.text(&format!("SHOW {setting}")).as_deref(),
        Some("u2")
    );
    client
}

#[test]
fn loaded_late_a_leftover_of_an_earlier_transaction_does_not_count() {
    for (setting, bind) in [
        ("app.current_user_id", "SELECT 1"),
        (
            "my.uid",
            "SELECT tenancy.bind(user_setting => 'my.uid', membership => 'members')",
        ),
    ] {
        let world = World::new(Server::plain());
        world.admin().ok(bind);
        let first_statements: [&str; 4] = [
            TENANT,
            BODIES,
            "SELECT count(*)::text FROM notes",
            "SELECT is_tenant_admin()::text",
        ];
        for first in first_statements {
            // Autocommit.
            let mut client = cold_with_leftover(&world, setting);
            let seen = client.text(first);
            assert!(
                matches!(seen.as_deref(), None | Some("0" | "false")),
                "{first}: {seen:?}"
            );
            assert_eq!(client.text(BODIES), None, "{first}");

            // In a transaction that is rolled back: the rollback brings the leftover back.
            let mut client = cold_with_leftover(&world, setting);
            client.ok("BEGIN");
            client.text(first);
            client.ok("ROLLBACK");
            for _ in 0..3 {
                assert_eq!(client.text(BODIES), None, "rolled back, {first}");
                client.ok("BEGIN; SAVEPOINT s");
                assert_eq!(client.text(TENANT), None);
                client.ok("ROLLBACK TO s");
                assert_eq!(client.text(TENANT), None);
                client.ok("ROLLBACK");
            }

            // What the current transaction sets counts, over a leftover or not, and no longer.
            for end in [
                "ROLLBACK",
                "COMMIT",
                "SAVEPOINT s; SELECT current_tenant_id(); ROLLBACK TO s; COMMIT",
            ] {
                for local in ["LOCAL", ""] {
                    let mut client = cold_with_leftover(&world, setting);
                    client.ok(&format!("BEGIN; SET {local} {setting} = 'u1'"));
                    client.text(first);
                    assert_eq!(client.text(BODIES).as_deref(), Some("aa"), "{first}");
                    client.ok(end);
                    for _ in 0..2 {
                        assert_eq!(client.text(TENANT), None, "{local} {end}, {first}");
                        assert_eq!(client.text(BODIES), None);
                    }
                }
            }

            // Set back to the leftover by a savepoint, after the library was loaded.
            let mut client = cold_with_leftover(&world, setting);
            client.ok(&format!("BEGIN; SAVEPOINT s; SET LOCAL {setting} = 'u1'"));
            client.text(first);
            client.ok("ROLLBACK TO s");
            assert_eq!(client.text(BODIES), None, "back to the leftover, {first}");
            client.ok("COMMIT");
            assert_eq!(client.text(BODIES), None);
        }
    }
}

#[test]
fn loaded_late_what_the_connection_brought_stays() {
    let world = World::new(Server::plain());
    let mut client = world.app_as("u1");
    expect(&mut client, "aa");
    client.ok("BEGIN; SET app.current_user_id = 'u2'");
    expect(&mut client, "b");
    client.ok("COMMIT");
    expect(&mut client, "aa");
    world.admin().ok(&format!(
        "ALTER ROLE {} SET app.current_user_id = 'u2'",
        world.app
    ));
    let mut client = world.app();
    client.ok("BEGIN");
    expect(&mut client, "b");
    client.ok("COMMIT");
    expect(&mut client, "b");
}

/// A procedure commits and goes on: its context ended with the commit, its argument did not.
#[test]
fn a_procedure_that_commits_loses_its_context_and_keeps_its_arguments() {
    let world = World::new(Server::preloaded());
    world.admin().ok("
        CREATE PROCEDURE commits(tenant uuid) LANGUAGE plpgsql AS $$ BEGIN
          FOR n IN 1..200 LOOP
            PERFORM set_config('app.current_user_id', CASE n % 3 WHEN 0 THEN 'u1' ELSE 'u2' END, false);
            PERFORM current_tenant_id(), current_tenant_id_text();
            COMMIT;
            IF current_tenant_id() IS NOT NULL THEN RAISE 'the context survived COMMIT'; END IF;
            PERFORM repeat('x', 1000 + n);
          END LOOP;
          PERFORM set_config('my.tenant', tenant::text, false);
        END $$");
    let mut client = world.app();
    client.ok("DO $$ BEGIN PERFORM set_config('app.current_user_id', 'u1', false); CALL commits(current_tenant_id()); END $$");
    assert_eq!(client.text("SHOW my.tenant").as_deref(), Some(A));
}
