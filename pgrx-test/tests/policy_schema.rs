//! Whole schemas: what cannot be protected is said and does not stop the rest, unless that is asked for.

mod policy_support;

use std::sync::{Arc, Mutex};

use pgrx_test::cluster::Cluster;
use pgrx_test::fixture::{ClientExt, Database, Server, expect_error};
use policy_support::{A, B, Stage};
use postgres::Client;

const ENFORCE: &str =
    "SELECT relation::text, template, result FROM tenancy.protect_schema('app', mode => 'enforce')";

/// Eight tables, of which four cannot be protected, each for another reason and at another point.
fn half_bad() -> Stage {
    let stage = Stage::new();
    stage.owner().ok(&format!(
        "CREATE TABLE app.a1 (id int, tenant_id uuid); INSERT INTO app.a1 VALUES (1, '{A}'), (2, '{B}');
         CREATE TABLE app.b1_text (id int, tenant_id text);
         CREATE TABLE app.a2 (id int PRIMARY KEY, tenant_id uuid); INSERT INTO app.a2 VALUES (1, '{A}'), (2, '{B}');
         CREATE TABLE app.b2_orphans (id int, tenant_id uuid); INSERT INTO app.b2_orphans VALUES (1, NULL), (2, NULL);
         CREATE TABLE app.b3_dormant (id int, tenant_id uuid);
         CREATE POLICY mine ON app.b3_dormant USING (true);
         CREATE TABLE app.a3 (id int, tenant_id uuid);
         CREATE TABLE app.a4 (id int, tenant_id uuid);"
    ));
    stage
        .superuser()
        .ok("CREATE TABLE app.b4_foreign_owner (id int, tenant_id uuid);
         REVOKE ALL ON app.b4_foreign_owner FROM PUBLIC");
    stage
}

const GOOD: [&str; 4] = ["app.a1", "app.a2", "app.a3", "app.a4"];

fn listening(stage: &Stage) -> (Client, Arc<Mutex<Vec<String>>>) {
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = Arc::clone(&heard);
    let server = stage.database.server();
    let mut config = server.config(&stage.database.name, &stage.owner);
    config.notice_callback(move |notice| {
        sink.lock().unwrap().push(format!(
            "{} {}: {} {}",
            notice.severity(),
            notice.code().code(),
            notice.message(),
            notice.detail().unwrap_or_default()
        ));
    });
    (config.connect(postgres::NoTls).unwrap(), heard)
}

fn registered(stage: &Stage) -> i64 {
    stage
        .superuser()
        .int("SELECT count(*) FROM tenancy.protection")
}

#[test]
fn half_of_the_tables_cannot_be_protected_and_the_rest_are() {
    let stage = half_bad();
    let catalog_of_bad = "SELECT string_agg(a.attname || a.attnotnull || c.relrowsecurity || (SELECT count(*) FROM pg_index i WHERE i.indrelid = c.oid), ' ' ORDER BY c.relname, a.attnum)
         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
         WHERE c.relkind = 'r' AND c.relname LIKE 'b%' AND c.relnamespace = 'app'::regnamespace";
    let before = stage.superuser().text(catalog_of_bad);
    let (mut owner, heard) = listening(&stage);
    let rows = owner.rows(ENFORCE);
    assert_eq!(rows.len(), 8, "a row for each table: {rows:?}");
    for (table, why) in [
        ("app.b1_text", "type text"),
        (
            "app.b2_orphans",
            "2 rows of \"app\".\"b2_orphans\" have no tenant",
        ),
        ("app.b3_dormant", "policies that are dormant"),
        ("app.b4_foreign_owner", "must be owner"),
    ] {
        let row = rows.iter().find(|row| row[0].as_deref() == Some(table));
        let row = row.unwrap_or_else(|| panic!("no row for {table}: {rows:?}"));
        assert_eq!(row[1], None, "{table} has no template");
        let result = row[2].as_deref().unwrap();
        assert!(
            result.starts_with("not protected: ") && result.contains(why),
            "{table}: {result}"
        );
    }
    for table in GOOD {
        let row = rows.iter().find(|row| row[0].as_deref() == Some(table));
        assert_eq!(row.unwrap()[2].as_deref(), Some("enforced"), "{table}");
    }
    assert_eq!(
        stage.superuser().text(catalog_of_bad),
        before,
        "a step that was done before another failed is taken back"
    );
    assert_eq!(registered(&stage), 4);
    for table in ["app.a1", "app.a2"] {
        let count = format!("SELECT count(*) FROM {table}");
        assert_eq!(stage.tenant(B).int(&count), 1, "{table}");
    }
    let heard = heard.lock().unwrap();
    let warnings: Vec<&String> = heard
        .iter()
        .filter(|text| text.starts_with("WARNING"))
        .collect();
    assert!(
        warnings.len() == 1
            && warnings[0].contains("4 of 8 tables are not protected")
            && warnings[0].contains("b2_orphans"),
        "{heard:?}"
    );
    // Mended, the call goes on where it was.
    drop(heard);
    stage.superuser().ok(&format!(
        "ALTER TABLE app.b1_text ALTER tenant_id TYPE uuid USING tenant_id::uuid; UPDATE app.b2_orphans SET tenant_id = '{A}';
         DROP POLICY mine ON app.b3_dormant; ALTER TABLE app.b4_foreign_owner OWNER TO {}",
        stage.owner
    ));
    let rows = owner.rows(ENFORCE);
    assert!(rows.iter().all(|row| row[1].is_some()), "{rows:?}");
    assert_eq!(registered(&stage), 8);
}

#[test]
fn atomic_leaves_nothing_and_says_how_many() {
    let stage = half_bad();
    let before = stage.dump();
    let error = stage
        .owner()
        .error("SELECT * FROM tenancy.protect_schema('app', mode => 'enforce', atomic => true)");
    expect_error(&error, "42804", "b1_text");
    expect_error(&error, "42804", "4 of 8 tables cannot be protected");
    for name in ["b1_text", "b2_orphans", "b3_dormant", "b4_foreign_owner"] {
        expect_error(&error, "42804", name);
    }
    assert!(error.hint().is_some_and(|hint| hint.contains("type")));
    assert_eq!(stage.dump(), before);
    assert_eq!(registered(&stage), 0);
    let error = stage
        .owner()
        .error("SELECT * FROM tenancy.protect_schema('app', mode => 'enforce', atomic => NULL)");
    expect_error(&error, "22023", "atomic");
}

#[test]
fn a_failed_table_keeps_no_lock_and_a_locked_one_is_waited_for_as_long_as_asked() {
    let stage = half_bad();
    let mut other = stage.owner();
    other.ok("BEGIN; LOCK TABLE app.a3");
    let mut owner = stage.owner();
    owner.ok("SET lock_timeout = '50ms'; BEGIN");
    let rows = owner.rows(ENFORCE);
    let a3 = rows.iter().find(|row| row[0].as_deref() == Some("app.a3"));
    let result = a3.unwrap()[2].clone().unwrap();
    assert!(result.contains("lock timeout"), "{result}");
    let locked = stage.superuser().texts(
        "SELECT DISTINCT c.relname FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
         JOIN pg_stat_activity s ON s.pid = l.pid AND s.state = 'idle in transaction' AND s.query LIKE 'SELECT relation%'
         WHERE c.relnamespace = 'app'::regnamespace AND c.relkind = 'r' ORDER BY 1",
    );
    assert_eq!(locked, ["a1", "a2", "a4"]);
    owner.ok("COMMIT");
    other.ok("ROLLBACK");
    let rows = owner.rows(ENFORCE);
    let protected = rows.iter().filter(|row| row[1].is_some()).count();
    assert_eq!(protected, 4, "{rows:?}");
}

#[test]
fn a_cancelled_call_is_not_a_report() {
    let stage = half_bad();
    let before = stage.dump();
    let mut other = stage.owner();
    other.ok("BEGIN; LOCK TABLE app.a3");
    let mut owner = stage.owner();
    owner.ok("SET statement_timeout = '300ms'");
    expect_error(&owner.error(ENFORCE), "57014", "statement timeout");
    other.ok("ROLLBACK");
    assert_eq!(stage.dump(), before);
}

#[test]
fn partitions_of_a_table_that_fails_have_a_row_too() {
    let stage = Stage::new();
    stage.owner().ok(
        "CREATE TABLE app.events (id int, tenant_id text) PARTITION BY RANGE (id);
         CREATE TABLE app.events_1 PARTITION OF app.events FOR VALUES FROM (1) TO (10)",
    );
    let rows = stage.owner().rows(ENFORCE);
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(
        rows[1][2].as_deref().unwrap().contains("its parent is not"),
        "{rows:?}"
    );
}

#[test]
fn options_of_the_call_are_those_of_each_table() {
    let stage = Stage::new();
    stage
        .owner()
        .ok("CREATE TABLE app.p (id int PRIMARY KEY, tenant_id uuid);
         CREATE TABLE app.c (id int, tenant_id uuid, p int REFERENCES app.p)");
    stage.owner().ok(
        r#"SELECT tenancy.protect_schema('app', mode => 'enforce', options => '{"foreign_keys": "replace"}')"#,
    );
    let key = "SELECT string_agg(conname, ' ') FROM pg_constraint WHERE contype = 'f' AND conparentid = 0";
    assert_eq!(
        stage.superuser().text(key).as_deref(),
        Some("c_p_fkey_tenant")
    );
    // Left out, they stay.
    stage.owner().ok(ENFORCE);
    assert_eq!(
        stage.superuser().text(key).as_deref(),
        Some("c_p_fkey_tenant")
    );
    let error = stage.owner().error(
        r#"SELECT tenancy.protect_schema('app', mode => 'enforce', options => '{"foreign_key": "replace"}')"#,
    );
    expect_error(&error, "22023", "foreign_key");
}

#[test]
fn table_by_table_commits_each_and_goes_on_where_it_was() {
    let stage = half_bad();
    let mut other = stage.owner();
    other.ok("BEGIN; LOCK TABLE app.a3");
    let (mut owner, heard) = listening(&stage);
    let call = "CALL tenancy.protect_schema_by_table('app', mode => 'enforce')";
    owner.ok("SET statement_timeout = '400ms'");
    expect_error(&owner.error(call), "57014", "statement timeout");
    assert_eq!(registered(&stage), 2, "a1 and a2 were committed");
    assert_eq!(stage.tenant(B).int("SELECT count(*) FROM app.a2"), 1);
    other.ok("ROLLBACK");
    owner.ok("RESET statement_timeout");
    heard.lock().unwrap().clear();
    owner.ok(call);
    assert_eq!(registered(&stage), 4);
    assert_eq!(
        owner.int("SELECT count(*) FROM pg_class WHERE relforcerowsecurity"),
        4
    );
    {
        let heard = heard.lock().unwrap();
        for name in ["b1_text", "b2_orphans", "b3_dormant", "b4_foreign_owner"] {
            let warnings = heard
                .iter()
                .filter(|text| text.starts_with("WARNING") && text.contains(name));
            assert_eq!(warnings.count(), 1, "{name}: {heard:?}");
        }
        assert!(
            heard
                .iter()
                .any(|text| text.contains("4 tables protected, 4 could not be")),
            "{heard:?}"
        );
    }
    // The session is as good as before.
    assert_eq!(owner.int("SELECT 1"), 1);
    owner.ok(call);
}

#[test]
fn table_by_table_needs_a_transaction_of_its_own_and_rights() {
    let stage = half_bad();
    let call = "CALL tenancy.protect_schema_by_table('app', mode => 'enforce')";
    let mut owner = stage.owner();
    for sql in [
        format!("BEGIN; {call}"),
        format!("DO $$ BEGIN BEGIN {call}; EXCEPTION WHEN division_by_zero THEN NULL; END; END $$"),
    ] {
        expect_error(&owner.error(&sql), "25001", "transaction block");
        let _ = owner.batch_execute("ROLLBACK");
    }
    for sql in [call, ENFORCE] {
        expect_error(&stage.nobody().error(sql), "42501", "must be owner");
    }
    for (arguments, sqlstate, needle) in [
        ("NULL, mode => 'enforce'", "22023", "schema"),
        ("'nowhere', mode => 'enforce'", "3F000", "nowhere"),
        ("'app', mode => 'strict'", "22023", "strict"),
    ] {
        let error = owner.error(&format!(
            "CALL tenancy.protect_schema_by_table({arguments})"
        ));
        expect_error(&error, sqlstate, needle);
    }
    assert_eq!(registered(&stage), 0);
}

#[test]
fn a_server_without_room_for_locks_is_said_and_gone_around() {
    let cluster = Cluster::for_test(Server::plain(), "few_locks")
        .set("max_locks_per_transaction", "10")
        .set("max_connections", "10")
        .start()
        .unwrap();
    let database = Database::new(cluster.server());
    let mut owner = database.superuser();
    owner.ok("SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id'); CREATE SCHEMA app");
    for _ in 0..20 {
        owner.ok("DO $$ BEGIN FOR i IN 1..50 LOOP
               EXECUTE format('CREATE TABLE app.t%s (id int PRIMARY KEY, tenant_id uuid NOT NULL)', (SELECT count(*) FROM pg_tables WHERE schemaname = 'app'));
             END LOOP; END $$");
    }
    let error =
        owner.error("SELECT tenancy.protect_schema('app', mode => 'enforce', atomic => true)");
    expect_error(&error, "53200", "protect_schema_by_table");
    let first = owner.rows(ENFORCE);
    assert_eq!(first.len(), 1000);
    let (done, left): (Vec<_>, Vec<_>) = first.iter().partition(|row| row[1].is_some());
    assert!(!done.is_empty() && !left.is_empty(), "{}", done.len());
    for row in &left {
        let why = row[2].as_deref().unwrap();
        assert!(why.contains("protect_schema_by_table"), "{why}");
    }
    owner.ok("CALL tenancy.protect_schema_by_table('app', mode => 'enforce')");
    assert_eq!(
        owner.int("SELECT count(*) FROM pg_class WHERE relforcerowsecurity"),
        1000
    );
}
