//! Every way in which a registered source changes is seen by the next statement of every other
//! session: in autocommit, and by a prepared statement inside an open READ COMMITTED transaction.
//! Resolved contexts stay.

mod document_setup;

use document_setup::{A, ADAM, ANN, World};
use pgrx_test::fixture::{ClientExt, Server};
use postgres::{Client, Statement};

/// A session that has answered before, so that whatever can be kept is.
struct Reader {
    client: Client,
    document: Statement,
}

impl Reader {
    fn new(world: &World, begin: &str) -> Reader {
        let mut client = world.app_as(ANN);
        client.ok("SET plan_cache_mode = force_generic_plan");
        let document = client
            .prepare("SELECT get_user_tenant_context()::text")
            .unwrap();
        let mut reader = Reader { client, document };
        reader.read();
        let state = "SELECT state FROM tenancy.status() WHERE feature = 'document'";
        assert_eq!(reader.client.text(state).as_deref(), Some("on"));
        // What is kept takes no lock on the sources, so TRUNCATE need not wait.
        reader.client.ok(begin);
        reader
    }

    fn read(&mut self) -> String {
        self.client
            .query_one(&self.document, &[])
            .unwrap_or_else(|e| panic!("{}", pgrx_test::fixture::describe(&e)))
            .get(0)
    }
}

/// `change` changes Ann's document.
#[track_caller]
fn seen_at_once(world: &World, change: impl FnOnce(&mut Client)) {
    let before = world.by_hand(ANN).unwrap();
    let mut readers = [Reader::new(world, ""), Reader::new(world, "BEGIN")];
    for reader in &mut readers {
        for _ in 0..3 {
            assert_eq!(reader.read(), before, "before");
        }
    }
    let mut writer = world.admin();
    writer.ok("SET lock_timeout = '10s'");
    change(&mut writer);
    let after = world.by_hand(ANN).unwrap();
    assert_ne!(before, after, "the change changes nothing");
    for reader in readers.iter_mut().rev() {
        assert_eq!(reader.read(), after, "after");
    }
    readers[1].client.ok("COMMIT");
    for reader in &mut readers {
        for _ in 0..2 {
            assert_eq!(reader.read(), after, "again");
        }
    }
}

fn world() -> World {
    World::new(Server::preloaded())
}

fn each(changes: &[&str]) {
    let world = world();
    for change in changes {
        seen_at_once(&world, |writer| writer.ok(change));
    }
}

#[test]
fn changes_of_the_apps_are_seen() {
    each(&[
        "INSERT INTO tenant_apps VALUES ('aaaaaaaa-0000-4000-8000-000000000001', 'new', 'New', '/new', true, true, 1)",
        "UPDATE tenant_apps SET app_name = 'Newer' WHERE app_key = 'new'",
        "UPDATE tenant_apps SET is_visible = false WHERE app_key = 'new'",
        "UPDATE tenant_apps SET display_order = 100 - display_order",
        "DELETE FROM tenant_apps WHERE app_key = 'app-1'",
        "MERGE INTO tenant_apps t USING (VALUES ('app-2')) v(k) ON t.app_key = v.k WHEN MATCHED THEN UPDATE SET app_name = 'merged'",
        "TRUNCATE tenant_apps",
    ]);
}

#[test]
fn changes_of_the_configuration_are_seen() {
    each(&[
        r#"UPDATE tenant_configurations SET ui_config = '{"theme": "blue"}'"#,
        r#"SET session_replication_role = replica; UPDATE tenant_configurations SET ui_config = '{"theme": "red"}'"#,
        r#"BEGIN; SAVEPOINT a; SAVEPOINT b; UPDATE tenant_configurations SET limits = '{"a": 1}'; RELEASE b; SAVEPOINT c; DELETE FROM tenant_configurations; ROLLBACK TO c; COMMIT"#,
        "DELETE FROM tenant_configurations",
        "INSERT INTO tenant_configurations VALUES ('aaaaaaaa-0000-4000-8000-000000000001')",
    ]);
}

#[test]
fn changes_of_the_flags_and_their_overrides_are_seen() {
    each(&[
        "UPDATE feature_flags SET is_active = NOT is_active",
        "UPDATE tenant_feature_flags SET is_enabled = NOT is_enabled",
        "DELETE FROM tenant_feature_flags WHERE flag_id = 8",
        "INSERT INTO tenant_feature_flags VALUES ('aaaaaaaa-0000-4000-8000-000000000001', 8, false)",
        "TRUNCATE tenant_feature_flags",
        "TRUNCATE feature_flags CASCADE",
        "INSERT INTO feature_flags VALUES (1, 'only')",
    ]);
}

#[test]
fn changes_of_the_user_the_profile_and_the_organization_are_seen() {
    each(&[
        "UPDATE users SET email = 'other@alpha'",
        "UPDATE profiles SET full_name = 'Other'",
        "UPDATE profiles SET role = 'admin'",
        "UPDATE organizations SET name = 'Other'",
        "UPDATE users SET organization_id = 'bbbbbbbb-0000-4000-8000-000000000002'",
        "DELETE FROM profiles",
    ]);
}

#[test]
fn a_copy_is_seen() {
    seen_at_once(&world(), |client| {
        use std::io::Write;
        let mut copy = client
            .copy_in("COPY tenant_apps (tenant_id, app_key, display_order) FROM STDIN")
            .unwrap();
        writeln!(copy, "{A}\tcopied\t3").unwrap();
        copy.finish().unwrap();
    });
}

#[test]
fn foreign_key_cascades_are_seen() {
    let world = world();
    // A flag that is gone takes its overrides along, here by a cascade alone.
    world.owner().ok(&format!(
        "CREATE TABLE regions (id integer PRIMARY KEY); INSERT INTO regions VALUES (1);
         ALTER TABLE tenant_apps ADD region integer REFERENCES regions ON DELETE CASCADE ON UPDATE SET NULL;
         UPDATE tenant_apps SET region = 1 WHERE app_key = 'app-1' AND tenant_id = '{A}'"
    ));
    seen_at_once(&world, |writer| writer.ok("DELETE FROM regions"));
    seen_at_once(&world, |writer| {
        writer.ok("DELETE FROM feature_flags WHERE id = 2");
    });
}

#[test]
fn a_prepared_transaction_is_seen_when_it_commits() {
    let world = world();
    let gid = world.db.name.clone();
    world.admin().ok(&format!(
        "BEGIN; UPDATE users SET email = 'prepared'; PREPARE TRANSACTION '{gid}'"
    ));
    seen_at_once(&world, |writer| {
        writer.ok(&format!("COMMIT PREPARED '{gid}'"));
    });
}

#[test]
fn changes_on_partitions_are_seen() {
    let world = World::bound(Server::preloaded());
    world.owner().ok("
        ALTER TABLE tenant_apps RENAME TO old_apps;
        CREATE TABLE tenant_apps (LIKE old_apps INCLUDING DEFAULTS) PARTITION BY HASH (tenant_id);
        CREATE TABLE apps_0 PARTITION OF tenant_apps FOR VALUES WITH (MODULUS 2, REMAINDER 0) PARTITION BY LIST (app_key);
        CREATE TABLE apps_1 PARTITION OF tenant_apps FOR VALUES WITH (MODULUS 2, REMAINDER 1) PARTITION BY LIST (app_key);
        CREATE TABLE apps_0_d PARTITION OF apps_0 DEFAULT; CREATE TABLE apps_1_d PARTITION OF apps_1 DEFAULT;
        INSERT INTO tenant_apps SELECT * FROM old_apps");
    world.owner().ok(document_setup::REGISTER);
    let both = |sql: &str| sql.replace("{}", "apps_0_d") + "; " + &sql.replace("{}", "apps_1_d");
    for sql in [
        "UPDATE {} SET app_name = app_name || '!'",
        "SET session_replication_role = replica; UPDATE {} SET app_name = app_name || '?'",
        "DELETE FROM {} WHERE app_key = 'app-1'",
        "TRUNCATE {}",
    ] {
        seen_at_once(&world, |writer| writer.ok(&both(sql)));
    }
    world
        .owner()
        .ok("INSERT INTO tenant_apps SELECT * FROM old_apps");
    seen_at_once(&world, |writer| {
        writer.ok("ALTER TABLE apps_0 DETACH PARTITION apps_0_d; ALTER TABLE apps_1 DETACH PARTITION apps_1_d");
    });
    world.admin().ok(&both("UPDATE {} SET app_name = 'back'"));
    seen_at_once(&world, |writer| {
        writer.ok("ALTER TABLE apps_0 ATTACH PARTITION apps_0_d DEFAULT; ALTER TABLE apps_1 ATTACH PARTITION apps_1_d DEFAULT");
    });
    seen_at_once(&world, |writer| {
        writer.ok(&both("UPDATE {} SET app_name = 'again'"))
    });
}

#[test]
fn changes_on_an_inheritance_child_are_seen() {
    let world = World::bound(Server::preloaded());
    world
        .owner()
        .ok("CREATE TABLE more_apps () INHERITS (tenant_apps)");
    world.owner().ok(document_setup::REGISTER);
    for sql in [
        "INSERT INTO more_apps VALUES ('aaaaaaaa-0000-4000-8000-000000000001', 'child', 'Child', '/c', true, true, 2)",
        "UPDATE more_apps SET app_name = 'Changed'",
        "TRUNCATE more_apps",
    ] {
        seen_at_once(&world, |writer| writer.ok(sql));
    }
}

#[test]
fn a_label_that_is_renamed_is_seen() {
    each(&["ALTER TYPE tenant_kind RENAME VALUE 'digital_health' TO 'health'"]);
}

/// A source announces itself to documents alone, a bound table to contexts.
#[test]
fn a_change_of_a_source_leaves_resolved_contexts_alone() {
    let world = world();
    let mut reader = world.app_as(ANN);
    let lookups = "SELECT seq_scan + coalesce(idx_scan, 0) FROM pg_stat_xact_user_tables WHERE relname = 'users'";
    reader.ok("BEGIN");
    reader.text("SELECT current_tenant_id()");
    let before = reader.int(lookups);
    assert!(before > 0, "the lookup is counted");
    world.admin().ok("UPDATE tenant_apps SET app_name = 'x'");
    reader.text("SELECT current_tenant_id()");
    assert_eq!(reader.int(lookups), before, "no new lookup");
    world
        .admin()
        .ok(&format!("UPDATE users SET email = 'x' WHERE id = '{ADAM}'"));
    reader.text("SELECT current_tenant_id()");
    assert!(reader.int(lookups) > before, "bound tables announce both");
    reader.ok("COMMIT");
}
