//! Parallel plans: workers see the leader's context, and nothing else.

mod context_setup;

use context_setup::{A, B, TENANT, World, run};
use pgrx_test::fixture::{ClientExt, Server, expect_error};
use postgres::Client;

fn force(client: &mut Client) {
    let version = client.int("SELECT current_setting('server_version_num')::int / 10000");
    let debug = if version >= 16 {
        "debug_parallel_query"
    } else {
        "force_parallel_mode"
    };
    client.ok(&format!(
        "SET {debug} = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
         SET min_parallel_table_scan_size = 0; SET min_parallel_index_scan_size = 0; SET max_parallel_workers_per_gather = 4"
    ));
}

/// 3,000 notes of A and 3,000 of B.
fn world(server: &'static Server) -> World {
    let world = World::new(server);
    world.admin().ok(&format!(
        "DELETE FROM notes; INSERT INTO notes (tenant_id, body)
         SELECT CASE n % 2 WHEN 0 THEN '{A}' ELSE '{B}' END::uuid, CASE n % 2 WHEN 0 THEN 'a' ELSE 'b' END
         FROM generate_series(1, 6000) n;
         ALTER TABLE notes SET (parallel_workers = 4); ANALYZE notes"
    ));
    world
}

const COUNT: &str = "SELECT string_agg(DISTINCT body, '') || count(*) FROM notes";
const FOREIGN: &str =
    "SELECT count(*)::text FROM notes WHERE tenant_id IS DISTINCT FROM current_tenant_id()";

fn assert_parallel(client: &mut Client) {
    let plan = client.texts(&format!("EXPLAIN (ANALYZE, COSTS off, TIMING off) {COUNT}"));
    assert!(
        plan.iter()
            .any(|line| line.contains("Workers Launched: ") && !line.contains("Launched: 0")),
        "{plan:#?}"
    );
}

#[test]
fn workers_see_the_context_of_their_leader() {
    for server in [Server::preloaded(), Server::plain()] {
        let world = world(server);
        for scope in ["SET", "SET LOCAL"] {
            let mut client = world.app();
            force(&mut client);
            for (user, expected) in [("u1", "a3000"), ("u2", "b3000"), ("u1", "a3000")] {
                client.ok(&format!("BEGIN; {scope} app.current_user_id = '{user}'"));
                assert_eq!(client.text(COUNT).as_deref(), Some(expected));
                assert_eq!(client.text(FOREIGN).as_deref(), Some("0"));
                assert_parallel(&mut client);
                client.ok("COMMIT");
            }
            expect_error(
                &client.error(COUNT),
                "42501",
                "SET LOCAL app.current_user_id",
            );
        }
    }
}

#[test]
fn one_transaction_switches_between_parallel_statements() {
    let world = world(Server::preloaded());
    let mut client = world.app();
    force(&mut client);
    client.ok("SET plan_cache_mode = force_generic_plan");
    let count = client.prepare(COUNT).unwrap();
    client.ok("BEGIN");
    for (user, expected) in [("u1", "a3000"), ("u2", "b3000"), ("u1", "a3000")] {
        client.ok(&format!("SET LOCAL app.current_user_id = '{user}'"));
        assert_eq!(run(&mut client, &count).as_deref(), Some(expected));
        assert_eq!(
            client.text("SELECT max(body) FROM notes").as_deref(),
            Some(&expected[..1])
        );
    }
    client.ok("SAVEPOINT s; SET LOCAL app.current_user_id = ''");
    expect_error(
        &context_setup::failure(&mut client, &count),
        "42501",
        "no tenant context",
    );
    client.ok("ROLLBACK TO s");
    assert_eq!(run(&mut client, &count).as_deref(), Some("a3000"));
}

#[test]
fn without_a_context_no_worker_shows_a_row() {
    for server in [Server::preloaded(), Server::plain()] {
        let world = world(server);
        let mut client = world.app();
        force(&mut client);
        expect_error(
            &client.error(COUNT),
            "42501",
            "SET LOCAL app.current_user_id",
        );
        client.ok("SET app.current_user_id = 'u12'");
        client.ok("BEGIN; SET LOCAL app.current_user_id = 'u12'");
        expect_error(&client.error(COUNT), "42501", "app.current_tenant_id");
        client.ok("ROLLBACK; SET pg_tenancy.missing_context = 'deny'");
        assert_eq!(
            client.text("SELECT count(*)::text FROM notes").as_deref(),
            Some("0")
        );
        client.ok("BEGIN; SET LOCAL app.current_user_id = 'nobody'");
        assert_eq!(
            client.text("SELECT count(*)::text FROM notes").as_deref(),
            Some("0")
        );
    }
}

#[test]
fn a_membership_that_changes_between_parallel_statements_counts() {
    let world = world(Server::preloaded());
    let mut client = world.app_as("u1");
    force(&mut client);
    let count = client.prepare(COUNT).unwrap();
    client.ok("BEGIN");
    for (tenant, expected) in [(B, "b3000"), (A, "a3000"), (B, "b3000")] {
        world.admin().ok(&format!(
            "UPDATE members SET tenant_id = '{tenant}' WHERE user_id = 'u1'"
        ));
        assert_eq!(run(&mut client, &count).as_deref(), Some(expected));
        assert_eq!(client.text(TENANT).as_deref(), Some(tenant));
    }
}

/// A name that only the binding knows is a mere placeholder when the library comes late, and workers
/// get bare values: what an earlier transaction left must not count in them either.
#[test]
fn settings_of_other_names_count_and_what_an_earlier_transaction_left_does_not() {
    for server in [Server::preloaded(), Server::plain()] {
        let world = world(server);
        world
            .admin()
            .ok("SELECT tenancy.bind(user_setting => 'my.uid', membership => 'members')");
        let mut client = world.app();
        force(&mut client);
        client.ok("SET my.uid = 'u2'");
        // First statement that needs the library, parallel at once, not planned for a tenant.
        expect_error(
            &client.error("SELECT count(*) FROM notes"),
            "42501",
            "my.uid",
        );
        expect_error(&client.error(COUNT), "42501", "my.uid");
        client.ok("BEGIN; SET LOCAL my.uid = 'u1'");
        assert_eq!(client.text(COUNT).as_deref(), Some("a3000"));
        assert_parallel(&mut client);
        client.ok("ROLLBACK");
        expect_error(&client.error(COUNT), "42501", "my.uid");

        let mut client = world.app();
        force(&mut client);
        client.ok("SET my.uid = 'u2'");
        client.ok("BEGIN; SET LOCAL my.uid = 'u1'");
        assert_eq!(client.text(COUNT).as_deref(), Some("a3000"));
        client.ok("ROLLBACK; SET pg_tenancy.missing_context = 'deny'");
        assert_eq!(
            client.text("SELECT count(*)::text FROM notes").as_deref(),
            Some("0")
        );
    }
}

/// A kept plan is not planned anew, and on an unprotected table nobody asks before the workers do.
#[test]
fn a_kept_plan_follows_another_binding_past_what_its_setting_held_before() {
    let world = world(Server::preloaded());
    world.admin().ok(&format!(
        "CREATE TABLE plain AS SELECT * FROM notes; ALTER TABLE plain SET (parallel_workers = 4); ANALYZE plain;
         GRANT SELECT ON plain TO {}",
        world.app
    ));
    let mut client = world.app();
    force(&mut client);
    client.ok("SET plan_cache_mode = force_generic_plan");
    let count = client
        .prepare("SELECT count(*)::text FROM plain WHERE tenant_id = current_tenant_id()")
        .unwrap();
    client.ok("BEGIN; SET LOCAL app.current_user_id = 'u1'");
    assert_eq!(run(&mut client, &count).as_deref(), Some("3000"));
    client.ok("COMMIT");
    client.ok("SET my.uid = 'u2'");
    world
        .admin()
        .ok("SELECT tenancy.bind(user_setting => 'my.uid', membership => 'members')");
    assert_eq!(run(&mut client, &count).as_deref(), Some("0"));
    client.ok("BEGIN; SET LOCAL my.uid = 'u1'");
    assert_eq!(run(&mut client, &count).as_deref(), Some("3000"));
}

/// Leader and workers look the tenant up by themselves, and must all see what the statement's
/// snapshot sees: never rows of the old tenant beside rows of the new one.
#[test]
fn a_membership_that_moves_meanwhile_is_seen_whole() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let world = world(Server::preloaded());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = world.admin();
            let mut tenants = [A, B].iter().cycle();
            while !done.load(Ordering::SeqCst) {
                let tenant = tenants.next().unwrap();
                writer.ok(&format!(
                    "UPDATE members SET tenant_id = '{tenant}' WHERE user_id = 'u1'"
                ));
            }
        });
        let mut client = world.app_as("u1");
        force(&mut client);
        let count = client.prepare(COUNT).unwrap();
        let mut whole = 0;
        let wrong = (0..200).find_map(|_| match client.query_one(&count, &[]) {
            Ok(row) => {
                let seen: String = row.get(0);
                whole += 1;
                (!["a3000", "b3000"].contains(&seen.as_str())).then_some(seen)
            }
            // The tenant moved between the start of the statement and its first row.
            Err(error) if error.code().is_some_and(|code| code.code() == "55000") => None,
            Err(error) => Some(pgrx_test::fixture::describe(&error)),
        });
        done.store(true, Ordering::SeqCst);
        assert_eq!(wrong, None);
        assert!(whole > 50, "only {whole} of 200 statements went through");
    });
}
