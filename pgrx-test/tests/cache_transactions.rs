//! The cache and the transaction: own changes, rollbacks, isolation levels, races, and what turns
//! the cache off.

mod context_setup;

use std::time::{Duration, Instant};

use context_setup::{A, B, BIND, BODIES, C, MEMBERS, TENANT, World, failure, run, status};
use pgrx_test::fixture::{ClientExt, Server, expect_error};
use postgres::Client;

fn world() -> World {
    World::new(Server::preloaded())
}

const TO_B: &str =
    "UPDATE members SET tenant_id = 'bbbbbbbb-0000-4000-8000-000000000002' WHERE user_id = 'u1'";

/// A session that may write the members and is one of them.
fn writing_member(world: &World) -> Client {
    world
        .db
        .connect_with("postgres", "-c app.current_user_id=u1")
}

#[track_caller]
fn expect(client: &mut Client, tenant: &str) {
    assert_eq!(client.text(TENANT).as_deref(), Some(tenant));
}

#[test]
fn own_changes_count_at_once_and_end_with_a_rollback() {
    let world = world();
    let (mut own, mut other) = (writing_member(&world), world.app_as("u1"));
    let tenant = own.prepare(TENANT).unwrap();
    expect(&mut own, A);
    own.ok("BEGIN");
    own.ok(TO_B);
    for _ in 0..3 {
        expect(&mut own, B);
        assert_eq!(run(&mut own, &tenant).as_deref(), Some(B));
        expect(&mut other, A);
    }
    own.ok("ROLLBACK");
    assert_eq!(run(&mut own, &tenant).as_deref(), Some(A));
    expect(&mut own, A);
    expect(&mut other, A);
}

#[test]
fn own_changes_end_with_their_savepoint() {
    let world = world();
    let mut own = writing_member(&world);
    let tenant = own.prepare(TENANT).unwrap();
    own.ok("BEGIN; SAVEPOINT a");
    own.ok(TO_B);
    expect(&mut own, B);
    own.ok("SAVEPOINT b; DELETE FROM members WHERE user_id = 'u1'");
    assert_eq!(run(&mut own, &tenant), None);
    own.ok("ROLLBACK TO b");
    assert_eq!(run(&mut own, &tenant).as_deref(), Some(B));
    own.ok("ROLLBACK TO a");
    assert_eq!(run(&mut own, &tenant).as_deref(), Some(A));
    own.ok(TO_B);
    own.ok("COMMIT");
    assert_eq!(run(&mut own, &tenant).as_deref(), Some(B));
    expect(&mut world.app_as("u1"), B);
}

#[test]
fn an_error_half_way_leaves_nothing_behind() {
    let world = world();
    let mut own = writing_member(&world);
    let tenant = own.prepare(TENANT).unwrap();
    expect(&mut own, A);
    own.error(&format!("{TO_B}; SELECT {TENANT_CALL}; SELECT 1/0"));
    assert_eq!(run(&mut own, &tenant).as_deref(), Some(A));
    own.ok("BEGIN");
    own.error(&format!("{TO_B}; SELECT {TENANT_CALL} || (1/0)::text"));
    own.ok("ROLLBACK");
    assert_eq!(run(&mut own, &tenant).as_deref(), Some(A));
    // In a subtransaction of PL/pgSQL, inside one statement.
    let block = format!(
        "DO $$ DECLARE seen text := ''; BEGIN
           BEGIN {TO_B}; seen := {TENANT_CALL}; RAISE division_by_zero;
           EXCEPTION WHEN division_by_zero THEN NULL; END;
           IF seen <> '{B}' OR {TENANT_CALL} <> '{A}' THEN RAISE 'seen % then %', seen, {TENANT_CALL}; END IF;
         END $$"
    );
    own.ok(&block);
    assert_eq!(run(&mut own, &tenant).as_deref(), Some(A));
}

const TENANT_CALL: &str = "current_tenant_id()::text";

/// Between the announcement, which a trigger makes before the row is written, and the row itself,
/// another trigger may ask.
#[test]
fn a_trigger_that_asks_before_the_row_is_written_leaves_nothing_stale() {
    let world = world();
    world.admin().ok("
        CREATE TABLE seen (tenant uuid);
        CREATE FUNCTION ask() RETURNS trigger LANGUAGE plpgsql AS $$
          BEGIN INSERT INTO seen VALUES (current_tenant_id()); INSERT INTO seen SELECT current_tenant_id();
                RETURN coalesce(NEW, OLD); END $$;
        CREATE TRIGGER zz_ask BEFORE UPDATE ON members FOR EACH ROW EXECUTE FUNCTION ask()");
    let mut own = writing_member(&world);
    let tenant = own.prepare(TENANT).unwrap();
    own.ok("BEGIN");
    own.ok(TO_B);
    assert_eq!(run(&mut own, &tenant).as_deref(), Some(B));
    own.ok("COMMIT");
    assert_eq!(run(&mut own, &tenant).as_deref(), Some(B));
}

#[test]
fn a_prepared_transaction_counts_when_it_commits() {
    let world = world();
    let gid = world.db.name.clone();
    let (mut own, mut other) = (writing_member(&world), world.app_as("u1"));
    own.ok("BEGIN");
    own.ok(TO_B);
    expect(&mut own, B);
    own.ok(&format!("PREPARE TRANSACTION '{gid}'"));
    expect(&mut own, A);
    expect(&mut other, A);
    own.ok(&format!("COMMIT PREPARED '{gid}'"));
    expect(&mut own, B);
    expect(&mut other, B);
}

#[test]
fn discard_all_changes_no_answer() {
    let world = world();
    let mut client = world.app_as("u1");
    expect(&mut client, A);
    client.ok("DISCARD ALL");
    expect(&mut client, A);
    world.admin().ok(TO_B);
    client.ok("DISCARD ALL");
    expect(&mut client, B);
    client.ok("SET app.current_user_id = 'u2'; SET pg_tenancy.missing_context = 'deny'");
    client.ok("DISCARD ALL");
    expect(&mut client, B);
}

/// A transaction with one snapshot keeps what it saw; what it looked up is worth nothing afterwards.
#[test]
fn repeatable_read_keeps_its_answer_and_caches_none() {
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        for asked_before in [true, false] {
            let world = world();
            let mut client = world.app_as("u1");
            let tenant = client.prepare(TENANT).unwrap();
            let bodies = client.prepare(BODIES).unwrap();
            client.ok(&format!("BEGIN ISOLATION LEVEL {level}"));
            client.int("SELECT count(*) FROM pg_class");
            if asked_before {
                assert_eq!(run(&mut client, &tenant).as_deref(), Some(A));
            }
            world.admin().ok(TO_B);
            for _ in 0..3 {
                assert_eq!(run(&mut client, &tenant).as_deref(), Some(A), "{level}");
                assert_eq!(run(&mut client, &bodies).as_deref(), Some("aa"));
            }
            client.ok("COMMIT");
            assert_eq!(run(&mut client, &tenant).as_deref(), Some(B), "{level}");
            assert_eq!(run(&mut client, &bodies).as_deref(), Some("b"));
        }
    }
}

/// The commit of another session lands while the lookup runs: after its snapshot, before its answer
/// is kept. An advisory lock holds the lookup there; then a table that it has not locked yet brings the
/// message.
#[test]
fn a_commit_during_a_lookup_is_not_lost() {
    for begin in ["", "BEGIN"] {
        let tables = format!(
            "{MEMBERS} CREATE TABLE door ();
             CREATE FUNCTION held(boolean) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
               BEGIN PERFORM pg_advisory_lock_shared(7), pg_advisory_unlock_shared(7); PERFORM FROM public.door; RETURN $1; END $$;"
        );
        let bind = "SELECT tenancy.bind(membership => 'members', membership_active => 'public.held(active)')";
        let world = World::bound(Server::preloaded(), &tables, bind);
        world
            .admin()
            .ok(&format!("INSERT INTO members VALUES ('u1', '{A}')"));
        let mut gate = world.admin();
        assert_eq!(status(&mut world.app_as("u1"), "cache").0, "on");
        gate.ok("SELECT pg_advisory_lock(7)");
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut client = world.app_as("u1");
                let tenant = client.prepare(TENANT).unwrap();
                client.ok(begin);
                let first = run(&mut client, &tenant);
                (first, run(&mut client, &tenant), run(&mut client, &tenant))
            });
            let since = Instant::now();
            while gate.int("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())") == 0 {
                assert!(since.elapsed() < Duration::from_secs(20), "the lookup does not begin");
                std::thread::sleep(Duration::from_millis(10));
            }
            world.admin().ok(TO_B);
            gate.ok("SELECT pg_advisory_unlock(7)");
            let (first, second, third) = reader.join().unwrap();
            assert!([Some(A), Some(B)].contains(&first.as_deref()));
            assert_eq!(second.as_deref(), Some(B), "the next statement, {begin:?}");
            assert_eq!(third.as_deref(), Some(B));
        });
    }
}

#[test]
fn a_bound_table_that_is_gone_fails_closed_and_can_be_bound_again() {
    let world = world();
    let mut client = world.app_as("u1");
    let (tenant, bodies) = (
        client.prepare(TENANT).unwrap(),
        client.prepare(BODIES).unwrap(),
    );
    assert_eq!(run(&mut client, &bodies).as_deref(), Some("aa"));
    world.admin().ok("DROP TABLE members");
    for statement in [&tenant, &bodies, &tenant] {
        expect_error(&failure(&mut client, statement), "42P01", "members");
    }
    expect_error(&client.error(BODIES), "42P01", "tenancy.bind");
    client.ok("SELECT count(*) FROM pg_class");
    assert_eq!(status(&mut client, "binding").0, "broken");
    world.admin().ok(&format!(
        "SET ROLE {}; {MEMBERS} INSERT INTO members VALUES ('u1', '{B}'); RESET ROLE; {BIND}",
        world.owner
    ));
    assert_eq!(run(&mut client, &bodies).as_deref(), Some("b"));
    assert_eq!(run(&mut client, &tenant).as_deref(), Some(B));
}

#[test]
fn a_bound_column_that_is_gone_fails_closed() {
    let world = world();
    let mut client = world.app_as("u1");
    let bodies = client.prepare(BODIES).unwrap();
    assert_eq!(run(&mut client, &bodies).as_deref(), Some("aa"));
    world
        .admin()
        .ok("ALTER TABLE members RENAME tenant_id TO org_id");
    expect_error(&failure(&mut client, &bodies), "42703", "tenant_id");
    world
        .admin()
        .ok("ALTER TABLE members RENAME org_id TO tenant_id");
    assert_eq!(run(&mut client, &bodies).as_deref(), Some("aa"));
    world
        .admin()
        .ok("ALTER TABLE members ALTER tenant_id TYPE text");
    expect_error(
        &failure(&mut client, &bodies),
        "42804",
        "tenants are of type uuid",
    );
}

#[test]
fn a_lookup_that_fails_leaves_nothing_behind() {
    let tables = format!(
        "{MEMBERS} CREATE FUNCTION shaky(role text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
           BEGIN IF role = 'bad' THEN RAISE 'shaky'; END IF; RETURN true; END $$;"
    );
    let bind =
        "SELECT tenancy.bind(membership => 'members', membership_active => 'public.shaky(role)')";
    let world = World::bound(Server::preloaded(), &tables, bind);
    world
        .admin()
        .ok(&format!("INSERT INTO members VALUES ('u1', '{A}')"));
    let mut client = world.app_as("u1");
    let tenant = client.prepare(TENANT).unwrap();
    assert_eq!(run(&mut client, &tenant).as_deref(), Some(A));
    world.admin().ok("UPDATE members SET role = 'bad'");
    for _ in 0..3 {
        expect_error(&failure(&mut client, &tenant), "P0001", "shaky");
        expect_error(&client.error(BODIES), "P0001", "shaky");
    }
    world.admin().ok(&format!(
        "UPDATE members SET role = 'good', tenant_id = '{B}'"
    ));
    assert_eq!(run(&mut client, &tenant).as_deref(), Some(B));
}

#[test]
fn a_function_that_is_replaced_counts_at_once() {
    let function = |body: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION fine(boolean) RETURNS boolean LANGUAGE sql IMMUTABLE RETURN {body};"
        )
    };
    let tables = format!("{MEMBERS} {}", function("$1"));
    let bind =
        "SELECT tenancy.bind(membership => 'members', membership_active => 'public.fine(active)')";
    let world = World::bound(Server::preloaded(), &tables, bind);
    world
        .admin()
        .ok(&format!("INSERT INTO members VALUES ('u1', '{A}')"));
    let mut client = world.app_as("u1");
    let tenant = client.prepare(TENANT).unwrap();
    client.ok("BEGIN");
    assert_eq!(run(&mut client, &tenant).as_deref(), Some(A));
    world.admin().ok(&function("NOT $1"));
    assert_eq!(run(&mut client, &tenant), None);
}

#[test]
fn the_cache_is_bounded() {
    let world = world();
    let mut client = world.app();
    client.ok("SET pg_tenancy.cache_entries = 4");
    for round in 0..2 {
        for user in ["u1", "u2"]
            .into_iter()
            .map(str::to_owned)
            .chain((0..20).map(|n| format!("stranger{n}")))
        {
            client.ok(&format!("BEGIN; SET LOCAL app.current_user_id = '{user}'"));
            let tenant = client.text(TENANT);
            let expected = match user.as_str() {
                "u1" => Some(A),
                "u2" => Some(B),
                _ => None,
            };
            assert_eq!(tenant.as_deref(), expected, "round {round}");
            client.ok("COMMIT");
        }
    }
    assert_eq!(
        status(&mut client, "cache"),
        ("on".to_owned(), "4 of 4 entries".to_owned())
    );
}

/// `pg_restore --disable-triggers` ends with ENABLE TRIGGER ALL, which is not ENABLE ALWAYS.
#[test]
fn without_its_triggers_nothing_is_cached_and_nothing_is_wrong() {
    for (disarm, write) in [
        ("ALTER TABLE members DISABLE TRIGGER ALL", ""),
        (
            "ALTER TABLE members DISABLE TRIGGER ALL; ALTER TABLE members ENABLE TRIGGER ALL",
            "SET session_replication_role = replica;",
        ),
        ("DROP TRIGGER tenancy_invalidate ON members", ""),
        (
            "ALTER TABLE members ENABLE REPLICA TRIGGER tenancy_invalidate",
            "",
        ),
    ] {
        let world = world();
        let mut client = world.app_as("u1");
        let (tenant, bodies) = (
            client.prepare(TENANT).unwrap(),
            client.prepare(BODIES).unwrap(),
        );
        assert_eq!(run(&mut client, &tenant).as_deref(), Some(A));
        client.ok("BEGIN");
        world.admin().ok(disarm);
        assert_eq!(run(&mut client, &tenant).as_deref(), Some(A));
        assert_eq!(run(&mut client, &bodies).as_deref(), Some("aa"));
        let (state, detail) = status(&mut client, "cache");
        assert_eq!(state, "off", "{disarm}");
        assert!(detail.contains("tenancy.bind()"), "{detail}");
        world.admin().ok(&format!("{write} {TO_B}"));
        assert_eq!(run(&mut client, &tenant).as_deref(), Some(B), "{disarm}");
        assert_eq!(run(&mut client, &bodies).as_deref(), Some("b"));
        // A prepared statement that only calls: no table, no lock, no executor of ours in between.
        world.admin().ok(&format!(
            "{write} UPDATE members SET tenant_id = '{C}' WHERE user_id = 'u1'"
        ));
        client.ok("CREATE TEMP TABLE got (tenant uuid)");
        client.ok("PREPARE put(uuid) AS INSERT INTO got VALUES ($1)");
        world.admin().ok(&format!("{write} {TO_B}"));
        client.ok("EXECUTE put(current_tenant_id())");
        assert_eq!(client.text("SELECT tenant FROM got").as_deref(), Some(B));
        client.ok("COMMIT");
        world.admin().ok(BIND);
        assert_eq!(status(&mut client, "cache").0, "on");
        world.admin().ok(&format!("SET session_replication_role = replica; UPDATE members SET tenant_id = '{C}' WHERE user_id = 'u1'"));
        assert_eq!(run(&mut client, &tenant).as_deref(), Some(C));
    }
}

#[test]
fn the_arguments_of_call_and_execute_are_up_to_date() {
    let world = world();
    world.admin().ok("CREATE PROCEDURE keep(uuid) LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('my.kept', $1::text, false); END $$");
    let mut client = world.app_as("u1");
    client.ok("PREPARE keep(uuid) AS SELECT set_config('my.kept', $1::text, false)");
    for call in [
        "CALL keep(current_tenant_id())",
        "EXECUTE keep(current_tenant_id())",
    ] {
        client.ok("BEGIN");
        client.ok(call);
        assert_eq!(client.text("SHOW my.kept").as_deref(), Some(A));
        world.admin().ok(TO_B);
        client.ok(call);
        assert_eq!(client.text("SHOW my.kept").as_deref(), Some(B), "{call}");
        client.ok("COMMIT");
        world.admin().ok(&format!(
            "UPDATE members SET tenant_id = '{A}' WHERE user_id = 'u1'"
        ));
    }
}

/// The planner asks too. Planned with what was known before, this statement would fail.
#[test]
fn planning_does_not_fail_for_a_context_that_is_there_by_now() {
    let world = world();
    world.admin().ok("DELETE FROM members WHERE user_id = 'u1'");
    let mut client = world.app_as("u1");
    client.ok("BEGIN");
    client.text(TENANT);
    client.ok("SAVEPOINT s; SELECT 1 FROM pg_class LIMIT 1");
    client.error(BODIES);
    client.ok("ROLLBACK TO s");
    client.text(TENANT);
    client.ok("EXPLAIN SELECT 1");
    world
        .admin()
        .ok(&format!("INSERT INTO members VALUES ('u1', '{B}')"));
    assert_eq!(client.text(BODIES).as_deref(), Some("b"));
}

#[test]
fn expressions_over_more_than_their_row_are_never_cached() {
    let tables = format!(
        "{MEMBERS} CREATE TABLE banned (user_id text);
         ALTER TABLE members ADD ends timestamptz NOT NULL DEFAULT 'infinity';"
    );
    let bind = "SELECT tenancy.bind(membership => 'members', membership_active =>
        $$ends > clock_timestamp() AND NOT EXISTS (SELECT FROM public.banned b WHERE b.user_id = members.user_id)$$)";
    let world = World::bound(Server::preloaded(), &tables, bind);
    world.admin().ok(&format!(
        "INSERT INTO members VALUES ('u1', '{A}'), ('u2', '{B}')"
    ));
    let mut client = world.app_as("u1");
    let tenant = client.prepare(TENANT).unwrap();
    client.ok("BEGIN");
    assert_eq!(status(&mut client, "cache").0, "off");
    assert_eq!(run(&mut client, &tenant).as_deref(), Some(A));
    world.admin().ok("INSERT INTO banned VALUES ('u1')");
    assert_eq!(run(&mut client, &tenant), None);
    world.admin().ok("DELETE FROM banned");
    assert_eq!(run(&mut client, &tenant).as_deref(), Some(A));
    world
        .admin()
        .ok("UPDATE members SET ends = clock_timestamp() + '1 s'");
    assert_eq!(run(&mut client, &tenant).as_deref(), Some(A));
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(run(&mut client, &tenant), None);
}
