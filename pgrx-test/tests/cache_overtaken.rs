//! The binding, or a bound table, changes while a lookup waits for it.

mod context_setup;

use context_setup::{A, B, MEMBERS, TENANT, World};
use pgrx_test::fixture::{ClientExt, Server, expect_error};
use postgres::Client;
use postgres::error::DbError;

/// Runs a statement that waits for a lock until `holder` commits.
fn overtaken(
    world: &World,
    client: &mut Client,
    holder: &mut Client,
    sql: &str,
) -> Result<Option<String>, Box<DbError>> {
    let process = client.int("SELECT pg_backend_pid()");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let rows = client.simple_query(sql).map_err(|error| {
                Box::new(error.as_db_error().expect("an error of the server").clone())
            })?;
            Ok(rows.iter().find_map(|row| match row {
                postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            }))
        });
        world
            .admin()
            .see_waiting(process, "wait_event_type = 'Lock'");
        holder.ok("COMMIT");
        waits.join().expect("the session does not panic")
    })
}

const REVOKE: &str = "BEGIN; ALTER TABLE members ADD revoked boolean NOT NULL DEFAULT true;
    SELECT tenancy.bind(membership => 'members', membership_active => 'NOT revoked')";

#[test]
fn a_binding_that_was_replaced_during_a_lookup_leaves_no_answer() {
    // A session that knows the earlier binding, and one that is about to read it.
    for knows in [true, false] {
        let world = World::bound(
            Server::preloaded(),
            MEMBERS,
            "SELECT tenancy.bind(membership => 'members', membership_active => 'active')",
        );
        world.admin().ok(&format!(
            "INSERT INTO members VALUES ('u1', '{A}'), ('u2', '{B}')"
        ));
        let mut client = world.app();
        if knows {
            client.ok("BEGIN; SET LOCAL app.current_user_id = 'u2'");
            assert_eq!(client.text(TENANT).as_deref(), Some(B));
            client.ok("COMMIT");
        }
        let mut admin = world.admin();
        let user = "SET LOCAL app.current_user_id = 'u1'";
        if knows {
            client.ok(&format!("BEGIN; {user}"));
            admin.ok(REVOKE);
            let seen = overtaken(&world, &mut client, &mut admin, TENANT);
            assert_eq!(seen.unwrap(), None, "it was the earlier binding's");
        } else {
            admin.ok(REVOKE);
            let statement = format!("BEGIN; {user}; {TENANT}");
            let seen = overtaken(&world, &mut client, &mut admin, &statement);
            assert_eq!(seen.unwrap(), None, "it was the earlier binding's");
        }
        for _ in 0..2 {
            assert_eq!(client.text(TENANT), None);
            client.ok(&format!("COMMIT; BEGIN; {user}"));
            assert_eq!(client.text(TENANT), None);
        }
    }
}

/// The role is read first: while it waits, the table of memberships becomes another. It has no index, of
/// whose making other sessions would be told before the change commits.
#[test]
fn a_tenant_column_of_another_type_is_not_read_as_the_earlier_one() {
    for (tenant_type, tenant, now, using) in [
        ("uuid", A, "text", "tenant_id::text"),
        ("text", A, "uuid", "tenant_id::uuid"),
        ("uuid", A, "bigint", "7"),
        ("bigint", "7", "text", "tenant_id::text"),
        ("bigint", "7", "integer", "tenant_id::integer"),
    ] {
        let tables = format!(
            "CREATE TABLE members (user_id text, tenant_id {tenant_type} NOT NULL);
             CREATE TABLE profiles (id text PRIMARY KEY, role text);
             INSERT INTO members VALUES ('u1', '{tenant}'), ('u2', '{tenant}')"
        );
        let world = World::empty(Server::preloaded());
        world.admin().ok(&format!(
            "SET ROLE {}; {tables}; RESET ROLE; SELECT tenancy.bind(tenant_type => '{tenant_type}', membership => 'members', role_table => 'profiles')",
            world.owner
        ));
        let mut client = world.app();
        let ask = "SELECT current_tenant_id_text()";
        client.ok("BEGIN; SET LOCAL app.current_user_id = 'u2'");
        assert_eq!(client.text(ask).as_deref(), Some(tenant));
        client.ok("COMMIT; BEGIN; SET LOCAL app.current_user_id = 'u1'");
        let mut owner = world.admin();
        owner.ok(&format!(
            "BEGIN; LOCK TABLE profiles; ALTER TABLE members ALTER tenant_id TYPE {now} USING {using}"
        ));
        let seen = overtaken(&world, &mut client, &mut owner, ask);

        expect_error(&seen.expect_err("it was read"), "42804", tenant_type);
        client.ok("ROLLBACK; BEGIN; SET LOCAL app.current_user_id = 'u1'");
        expect_error(&client.error(ask), "42804", tenant_type);
    }
}
