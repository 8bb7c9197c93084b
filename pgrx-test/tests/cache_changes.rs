//! Every way in which identity data changes is seen by the next statement of every other session:
//! in autocommit, and by a prepared statement inside an open READ COMMITTED transaction.

mod context_setup;

use context_setup::{A, B, BIND, BODIES, C, MEMBERS, TENANT, World, run, status};
use pgrx_test::fixture::{ClientExt, Server};
use postgres::{Client, Statement};

/// A session that has answered before, so that whatever can be cached is.
struct Reader {
    client: Client,
    tenant: Statement,
    bodies: Statement,
}

impl Reader {
    fn new(world: &World, user: &str, begin: &str) -> Reader {
        let mut client = world.app_as(user);
        client.ok(
            "SET plan_cache_mode = force_generic_plan; SET pg_tenancy.missing_context = 'deny'",
        );
        let tenant = client.prepare(TENANT).unwrap();
        let bodies = client.prepare(BODIES).unwrap();
        // What the cache answers takes no lock on the bound tables, so TRUNCATE need not wait.
        run(&mut client, &tenant);
        client.ok(begin);
        Reader {
            client,
            tenant,
            bodies,
        }
    }

    #[track_caller]
    fn expect(&mut self, tenant: Option<&str>, when: &str) {
        let body = tenant.map(|tenant| match tenant {
            A => "aa",
            B => "b",
            _ => "c",
        });
        let seen = run(&mut self.client, &self.tenant);
        assert_eq!(seen.as_deref(), tenant, "current_tenant_id() {when}");
        let seen = run(&mut self.client, &self.bodies);
        assert_eq!(seen.as_deref(), body, "rows {when}");
    }
}

/// `change` turns the tenant of u1 from `before` into `after`.
#[track_caller]
fn seen_at_once(
    world: &World,
    before: Option<&str>,
    after: Option<&str>,
    change: impl FnOnce(&mut Client),
) {
    assert_eq!(status(&mut world.app_as("u1"), "cache").0, "on");
    let mut autocommit = Reader::new(world, "u1", "");
    let mut in_transaction = Reader::new(world, "u1", "BEGIN");
    let mut unprepared = world.app_as("u1");
    unprepared.ok("SET pg_tenancy.missing_context = 'deny'");
    unprepared.text(TENANT);
    unprepared.ok("BEGIN");
    let mut writer = world.admin();
    writer.ok("SET lock_timeout = '10s'");
    for _ in 0..3 {
        autocommit.expect(before, "before, autocommit");
        in_transaction.expect(before, "before, in a transaction");
        assert_eq!(unprepared.text(TENANT).as_deref(), before);
    }
    change(&mut writer);
    in_transaction.expect(after, "after, in a transaction");
    autocommit.expect(after, "after, autocommit");
    assert_eq!(unprepared.text(TENANT).as_deref(), after);
    in_transaction.client.ok("COMMIT");
    in_transaction.expect(after, "after the transaction");
    for _ in 0..3 {
        in_transaction.expect(after, "again");
        autocommit.expect(after, "again");
    }
}

fn ok(sql: &str) -> impl FnOnce(&mut Client) {
    move |client| client.ok(sql)
}

fn world() -> World {
    World::new(Server::preloaded())
}

#[test]
fn an_insert_is_seen() {
    let world = world();
    world.admin().ok("DELETE FROM members WHERE user_id = 'u1'");
    let sql = format!("INSERT INTO members VALUES ('u1', '{B}')");
    seen_at_once(&world, None, Some(B), ok(&sql));
}

#[test]
fn an_update_is_seen() {
    let sql = format!("UPDATE members SET tenant_id = '{B}' WHERE user_id = 'u1'");
    seen_at_once(&world(), Some(A), Some(B), ok(&sql));
}

#[test]
fn an_update_of_the_active_column_is_seen() {
    let sql = "UPDATE members SET active = false WHERE user_id = 'u1'";
    seen_at_once(&world(), Some(A), None, ok(sql));
}

#[test]
fn a_delete_is_seen() {
    let sql = "DELETE FROM members WHERE user_id = 'u1'";
    seen_at_once(&world(), Some(A), None, ok(sql));
}

#[test]
fn a_truncate_is_seen() {
    seen_at_once(&world(), Some(A), None, ok("TRUNCATE members"));
}

#[test]
fn a_copy_is_seen() {
    let world = world();
    world.admin().ok("DELETE FROM members WHERE user_id = 'u1'");
    seen_at_once(&world, None, Some(C), |client| {
        use std::io::Write;
        let mut copy = client
            .copy_in("COPY members (user_id, tenant_id) FROM STDIN")
            .unwrap();
        writeln!(copy, "u1\t{C}").unwrap();
        copy.finish().unwrap();
    });
}

#[test]
fn a_merge_is_seen() {
    let sql = format!(
        "MERGE INTO members m USING (VALUES ('u1')) v(id) ON m.user_id = v.id
         WHEN MATCHED THEN UPDATE SET tenant_id = '{C}'"
    );
    seen_at_once(&world(), Some(A), Some(C), ok(&sql));
}

#[test]
fn a_change_under_session_replication_role_replica_is_seen() {
    let sql = format!(
        "SET session_replication_role = replica; UPDATE members SET tenant_id = '{B}' WHERE user_id = 'u1'"
    );
    seen_at_once(&world(), Some(A), Some(B), ok(&sql));
}

#[test]
fn a_change_in_a_subtransaction_is_seen() {
    let sql = format!(
        "BEGIN; SAVEPOINT a; SAVEPOINT b; UPDATE members SET tenant_id = '{B}' WHERE user_id = 'u1';
         RELEASE b; SAVEPOINT c; DELETE FROM members; ROLLBACK TO c; COMMIT"
    );
    seen_at_once(&world(), Some(A), Some(B), ok(&sql));
}

#[test]
fn a_prepared_transaction_is_seen_when_it_commits() {
    let world = world();
    let gid = world.db.name.clone();
    world.admin().ok(&format!(
        "BEGIN; UPDATE members SET tenant_id = '{B}' WHERE user_id = 'u1'; PREPARE TRANSACTION '{gid}'"
    ));
    let sql = format!("COMMIT PREPARED '{gid}'");
    seen_at_once(&world, Some(A), Some(B), ok(&sql));
}

#[test]
fn a_foreign_key_cascade_is_seen() {
    let tables = "CREATE TABLE orgs (id uuid PRIMARY KEY);
        CREATE TABLE members (user_id text PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES orgs ON DELETE CASCADE ON UPDATE CASCADE)";
    let bind = "SELECT tenancy.bind(membership => 'members')";
    for (sql, after) in [
        (format!("DELETE FROM orgs WHERE id = '{A}'"), None),
        (
            format!("UPDATE orgs SET id = '{C}' WHERE id = '{A}'"),
            Some(C),
        ),
    ] {
        let world = World::bound(Server::preloaded(), tables, bind);
        world.admin().ok(&format!(
            "INSERT INTO orgs VALUES ('{A}'), ('{B}'); INSERT INTO members VALUES ('u1', '{A}')"
        ));
        seen_at_once(&world, Some(A), after, ok(&sql));
    }
}

#[test]
fn a_change_of_the_tenants_table_is_seen() {
    let tables = format!("{MEMBERS} CREATE TABLE orgs (id uuid PRIMARY KEY, status text)");
    let bind = "SELECT tenancy.bind(membership => 'members', tenants => 'orgs', tenants_active => $$status = 'active'$$)";
    let world = World::bound(Server::preloaded(), &tables, bind);
    world.admin().ok(&format!(
        "INSERT INTO orgs VALUES ('{A}', 'active'), ('{B}', 'active'); INSERT INTO members VALUES ('u1', '{A}')"
    ));
    seen_at_once(
        &world,
        Some(A),
        None,
        ok("UPDATE orgs SET status = 'suspended'"),
    );
    seen_at_once(
        &world,
        None,
        Some(A),
        ok("UPDATE orgs SET status = 'active'"),
    );
    seen_at_once(&world, Some(A), None, ok("TRUNCATE orgs"));
}

#[test]
fn a_change_of_the_role_table_is_seen() {
    let tables =
        format!("{MEMBERS} CREATE TABLE profiles (id text PRIMARY KEY, role text NOT NULL)");
    let bind = "SELECT tenancy.bind(membership => 'members', role_table => 'profiles')";
    let world = World::bound(Server::preloaded(), &tables, bind);
    world.admin().ok(&format!(
        "INSERT INTO members VALUES ('u1', '{A}'); INSERT INTO profiles VALUES ('u1', 'user')"
    ));
    let mut reader = world.app_as("u1");
    let role = reader
        .prepare("SELECT current_tenant_role() || is_super_admin()::text")
        .unwrap();
    assert_eq!(run(&mut reader, &role).as_deref(), Some("userfalse"));
    reader.ok("BEGIN");
    world.admin().ok("UPDATE profiles SET role = 'super_admin'");
    assert_eq!(run(&mut reader, &role).as_deref(), Some("super_admintrue"));
    reader.ok("COMMIT");
    assert_eq!(run(&mut reader, &role).as_deref(), Some("super_admintrue"));
    reader.ok("BEGIN");
    world
        .admin()
        .ok("SET lock_timeout = '10s'; TRUNCATE profiles");
    assert_eq!(run(&mut reader, &role), None);
}

const PARTITIONED: &str = "
    CREATE TABLE members (user_id text, tenant_id uuid) PARTITION BY LIST (user_id);
    CREATE TABLE members_1 PARTITION OF members FOR VALUES IN ('u1');
    CREATE TABLE members_2 PARTITION OF members DEFAULT PARTITION BY LIST (user_id);
    CREATE TABLE members_2_1 PARTITION OF members_2 FOR VALUES IN ('u2');
    CREATE TABLE members_2_9 PARTITION OF members_2 DEFAULT;";

fn partitioned() -> World {
    let bind = "SELECT tenancy.bind(membership => 'members')";
    let world = World::bound(Server::preloaded(), PARTITIONED, bind);
    world
        .admin()
        .ok(&format!("INSERT INTO members VALUES ('u1', '{A}')"));
    world
}

#[test]
fn a_change_on_a_partition_itself_is_seen() {
    let sql = format!("UPDATE members_1 SET tenant_id = '{B}'");
    seen_at_once(&partitioned(), Some(A), Some(B), ok(&sql));
    seen_at_once(&partitioned(), Some(A), None, ok("TRUNCATE members_1"));
    let sql =
        format!("SET session_replication_role = replica; UPDATE members_1 SET tenant_id = '{B}'");
    seen_at_once(&partitioned(), Some(A), Some(B), ok(&sql));
}

#[test]
fn a_partition_that_comes_and_goes_is_seen() {
    let world = partitioned();
    seen_at_once(
        &world,
        Some(A),
        None,
        ok("ALTER TABLE members DETACH PARTITION members_1"),
    );
    world
        .admin()
        .ok(&format!("UPDATE members_1 SET tenant_id = '{C}'"));
    seen_at_once(
        &world,
        None,
        Some(C),
        ok("ALTER TABLE members ATTACH PARTITION members_1 FOR VALUES IN ('u1')"),
    );
    let sql = format!("UPDATE members_1 SET tenant_id = '{B}'");
    seen_at_once(&world, Some(C), Some(B), ok(&sql));
}

#[test]
fn a_row_that_moves_between_nested_partitions_is_seen() {
    let world = partitioned();
    world
        .admin()
        .ok(&format!("INSERT INTO members VALUES ('u2', '{B}')"));
    let sql = "DELETE FROM members_1; UPDATE members SET user_id = 'u1' WHERE user_id = 'u2'";
    seen_at_once(&world, Some(A), Some(B), ok(sql));
}

#[test]
fn a_change_on_an_inheritance_child_is_seen() {
    let tables = "CREATE TABLE members (user_id text, tenant_id uuid);
                  CREATE TABLE members_child () INHERITS (members)";
    let bind = "SELECT tenancy.bind(membership => 'members')";
    let world = World::bound(Server::preloaded(), tables, bind);
    world
        .admin()
        .ok(&format!("INSERT INTO members_child VALUES ('u1', '{A}')"));
    let sql = format!("UPDATE members_child SET tenant_id = '{B}'");
    seen_at_once(&world, Some(A), Some(B), ok(&sql));
    seen_at_once(&world, Some(B), None, ok("TRUNCATE members_child"));
}

/// A child that is added later has no trigger: then nothing may be cached, and nothing is wrong.
#[test]
fn an_inheritance_child_without_triggers_turns_the_cache_off() {
    let tables = "CREATE TABLE members (user_id text, tenant_id uuid)";
    let bind = "SELECT tenancy.bind(membership => 'members')";
    let world = World::bound(Server::preloaded(), tables, bind);
    world
        .admin()
        .ok(&format!("INSERT INTO members VALUES ('u1', '{A}')"));
    let mut reader = Reader::new(&world, "u1", "BEGIN");
    reader.expect(Some(A), "at first");
    world.admin().ok(&format!(
        "CREATE TABLE child () INHERITS (members); DELETE FROM members; INSERT INTO child VALUES ('u1', '{B}')"
    ));
    reader.expect(Some(B), "in the child");
    world
        .admin()
        .ok(&format!("UPDATE child SET tenant_id = '{C}'"));
    reader.expect(Some(C), "changed in the child");
    assert_eq!(status(&mut reader.client, "cache").0, "off");
    world.admin().ok(bind);
    assert_eq!(status(&mut reader.client, "cache").0, "on");
}

#[test]
fn another_binding_is_seen() {
    let world = world();
    world.admin().ok(&format!(
        "CREATE TABLE others (user_id text, tenant_id uuid); INSERT INTO others VALUES ('u1', '{C}')"
    ));
    let bind = "SELECT tenancy.bind(membership => 'others')";
    seen_at_once(&world, Some(A), Some(C), ok(bind));
    seen_at_once(&world, Some(C), Some(A), ok(BIND));
}

#[test]
fn a_rename_is_followed() {
    let world = world();
    let sql = format!(
        "ALTER TABLE members RENAME TO crew; CREATE SCHEMA hr AUTHORIZATION {}; ALTER TABLE crew SET SCHEMA hr",
        world.owner
    );
    seen_at_once(&world, Some(A), Some(A), ok(&sql));
    let sql = format!("UPDATE hr.crew SET tenant_id = '{B}' WHERE user_id = 'u1'");
    seen_at_once(&world, Some(A), Some(B), ok(&sql));
}

/// The whole promise at once: a reader never sees less than what was committed before it asked.
#[test]
fn no_reader_is_ever_behind_a_commit() {
    use std::sync::atomic::{AtomicI64, Ordering};
    let tables = "CREATE TABLE members (user_id text PRIMARY KEY, tenant_id integer)";
    let world = World::empty(Server::preloaded());
    world.admin().ok(&format!(
        "SET ROLE {}; {tables}; RESET ROLE;
         SELECT tenancy.bind(membership => 'members', tenant_type => 'integer');
         INSERT INTO members VALUES ('u1', 1)",
        world.owner
    ));
    let (committed, done) = (AtomicI64::new(1), AtomicI64::new(0));
    let rounds = if pgrx_test::fixture::full() {
        5000
    } else {
        500
    };
    std::thread::scope(|scope| {
        for kind in 0..3 {
            let (world, committed, done) = (&world, &committed, &done);
            scope.spawn(move || {
                let mut client = world.app_as("u1");
                let tenant = client.prepare("SELECT current_tenant_id_bigint()").unwrap();
                let mut asked = 0u64;
                while done.load(Ordering::SeqCst) == 0 {
                    if kind != 0 && asked.is_multiple_of(50) {
                        client.ok("COMMIT; BEGIN");
                    }
                    let least = committed.load(Ordering::SeqCst);
                    let seen: i64 = if kind == 2 {
                        client.int("SELECT current_tenant_id_bigint()")
                    } else {
                        client.query_one(&tenant, &[]).unwrap().get(0)
                    };
                    assert!(seen >= least, "{seen} seen after {least} was committed");
                    asked += 1;
                }
                assert!(asked > 100);
            });
        }
        let mut writer = world.admin();
        for next in 2..rounds {
            writer.ok(&format!("UPDATE members SET tenant_id = {next}"));
            committed.store(next, Ordering::SeqCst);
        }
        done.store(1, Ordering::SeqCst);
    });
}
