//! Documents and transactions: one's own changes, rollback, snapshots, parallel plans; and what is
//! not kept because a change of it could go unnoticed.

mod document_setup;

use document_setup::{ANN, BOB, OWN, World, at};
use pgrx_test::fixture::{ClientExt, Server};
use postgres::Client;

fn world() -> World {
    World::new(Server::preloaded())
}

/// The application with the right to write the configuration, which an owner may grant.
fn writer(world: &World) -> Client {
    world.owner().ok(&format!(
        "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON tenant_configurations TO {}",
        world.app
    ));
    world.app_as(ANN)
}

fn set(theme: &str) -> String {
    format!("UPDATE tenant_configurations SET ui_config = '{{\"theme\": \"{theme}\"}}'")
}

const THEME: &str = "SELECT get_user_tenant_context() #>> '{config,ui_config,theme}'";

fn state(client: &mut Client) -> String {
    client
        .text("SELECT state FROM tenancy.status() WHERE feature = 'document'")
        .unwrap()
}

#[test]
fn own_changes_are_seen_and_taken_back_with_them() {
    let world = world();
    let mut client = writer(&world);
    let mut theme = |sql: &str, expected: Option<&str>| {
        client.ok(sql);
        assert_eq!(client.text(THEME).as_deref(), expected, "after {sql}");
        assert_eq!(client.text(THEME).as_deref(), expected, "again after {sql}");
    };
    theme("SELECT 1", Some("dark"));
    theme("BEGIN", Some("dark"));
    theme(&set("one"), Some("one"));
    theme("SAVEPOINT a", Some("one"));
    theme(&set("two"), Some("two"));
    theme("ROLLBACK TO a", Some("one"));
    theme("TRUNCATE tenant_configurations", None);
    theme("ROLLBACK TO a", Some("one"));
    theme("ROLLBACK", Some("dark"));
    theme("BEGIN; SAVEPOINT b", Some("dark"));
    theme(&set("three"), Some("three"));
    theme("RELEASE b", Some("three"));
    theme("COMMIT", Some("three"));
    theme("BEGIN; TRUNCATE tenant_configurations", None);
    theme("ROLLBACK", Some("three"));
}

#[test]
fn a_change_between_two_calls_of_one_statement_or_function() {
    let world = world();
    let mut client = writer(&world);
    client.text(THEME);
    world.owner().ok(&format!(
        "CREATE FUNCTION change() RETURNS text LANGUAGE plpgsql AS $$
         DECLARE seen text := get_user_tenant_context() #>> '{{config,ui_config,theme}}';
         BEGIN
             {};
             seen := seen || ',' || (get_user_tenant_context() #>> '{{config,ui_config,theme}}');
             BEGIN
                 {};
                 seen := seen || ',' || (get_user_tenant_context() #>> '{{config,ui_config,theme}}');
                 RAISE EXCEPTION 'back';
             EXCEPTION WHEN raise_exception THEN
                 seen := seen || ',' || (get_user_tenant_context() #>> '{{config,ui_config,theme}}');
             END;
             RETURN seen;
         END $$",
        set("one"),
        set("two")
    ));
    assert_eq!(
        client.text("SELECT change()").as_deref(),
        Some("dark,one,two,one")
    );
    assert_eq!(client.text(THEME).as_deref(), Some("one"));
}

/// A trigger that runs between ours and the write asks for the document: it sees the row before, and
/// what it has read does not count after.
#[test]
fn what_is_read_while_a_row_is_being_written_is_not_kept() {
    let world = world();
    let mut client = writer(&world);
    client.text(THEME);
    world.owner().ok(
        "CREATE TABLE seen (theme text);
         CREATE FUNCTION zz() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
         BEGIN
             INSERT INTO seen SELECT get_user_tenant_context() #>> '{config,ui_config,theme}';
             RETURN new;
         END $$;
         CREATE TRIGGER zz BEFORE UPDATE ON tenant_configurations FOR EACH ROW EXECUTE FUNCTION zz();
         CREATE FUNCTION both_ways(wanted jsonb) RETURNS text LANGUAGE plpgsql AS $$
         DECLARE seen text;
         BEGIN
             UPDATE tenant_configurations SET ui_config = wanted WHERE tenant_id = public.current_tenant_id();
             seen := get_user_tenant_context() #>> '{config,ui_config,theme}';
             RETURN seen;
         END $$");
    let call = r#"SELECT both_ways('{"theme": "new"}')"#;
    assert_eq!(client.text(call).as_deref(), Some("new"));
    assert_eq!(client.text(THEME).as_deref(), Some("new"));
    assert_eq!(
        world
            .owner()
            .text("SELECT string_agg(theme, ',') FROM seen")
            .as_deref(),
        Some("dark")
    );
}

#[test]
fn a_repeatable_read_transaction_keeps_what_it_saw_first() {
    let world = world();
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        world.owner().ok(&set("before"));
        // One session has the document already, the other reads it after the change.
        let (mut known, mut unknown) = (world.app_as(ANN), world.app_as(ANN));
        known.text(OWN);
        for client in [&mut known, &mut unknown] {
            client.ok(&format!("BEGIN ISOLATION LEVEL {level}; SELECT 1"));
        }
        assert_eq!(known.text(THEME).as_deref(), Some("before"));
        world.owner().ok(&set("after"));
        for client in [&mut known, &mut unknown] {
            for _ in 0..2 {
                assert_eq!(client.text(THEME).as_deref(), Some("before"), "{level}");
            }
            client.ok("COMMIT");
            assert_eq!(client.text(THEME).as_deref(), Some("after"), "{level}");
        }
    }
}

#[test]
fn nothing_is_kept_while_a_trigger_is_missing_or_out_of_force() {
    let world = world();
    for (breaks, mends) in [
        (
            "ALTER TABLE tenant_configurations DISABLE TRIGGER tenancy_document",
            "ALTER TABLE tenant_configurations ENABLE ALWAYS TRIGGER tenancy_document",
        ),
        (
            "ALTER TABLE tenant_configurations ENABLE TRIGGER tenancy_document",
            "ALTER TABLE tenant_configurations ENABLE ALWAYS TRIGGER tenancy_document",
        ),
        (
            "DROP TRIGGER tenancy_document ON tenant_configurations",
            "SELECT tenancy.register_context('config', 'tenant_configurations')",
        ),
        (
            "CREATE TABLE child () INHERITS (tenant_configurations)",
            "SELECT tenancy.register_context('config', 'tenant_configurations')",
        ),
    ] {
        let mut reader = world.app_as(ANN);
        reader.text(OWN);
        assert_eq!(state(&mut reader), "on", "before {breaks}");
        world.owner().ok(breaks);
        reader.text(OWN);
        assert_eq!(state(&mut reader), "off", "after {breaks}");
        for theme in ["x", "y"] {
            let mut admin = world.admin();
            admin.ok("SET session_replication_role = replica");
            admin.ok(&set(theme));
            assert_eq!(reader.text(THEME).as_deref(), Some(theme), "after {breaks}");
        }
        world.owner().ok(mends);
        reader.text(OWN);
        assert_eq!(state(&mut reader), "on", "after {mends}");
    }
}

#[test]
fn what_depends_on_more_than_rows_is_not_kept() {
    let world = world();
    world.owner().ok(
        "CREATE TABLE elsewhere (v text); INSERT INTO elsewhere VALUES ('1');
         CREATE FUNCTION stable_function() RETURNS text LANGUAGE sql STABLE AS 'SELECT v FROM public.elsewhere';
         ALTER TABLE tenant_apps ADD expires timestamptz DEFAULT 'infinity'",
    );
    for (columns, visible, order_by) in [
        ("{app_key}", "expires > now()", "app_key"),
        (
            "{app_key}",
            "EXISTS (SELECT FROM public.elsewhere WHERE v = '1')",
            "app_key",
        ),
        (
            "{app_key}",
            "true",
            "app_key = current_setting('a.b', true)",
        ),
        ("{app_key,public.stable_function() AS v}", "true", "app_key"),
        ("{current_user AS v}", "true", "app_key"),
        ("{'public.elsewhere'::regclass AS v}", "true", "app_key"),
        (
            "{array['public.elsewhere'::regclass] AS v}",
            "true",
            "app_key",
        ),
    ] {
        let register = format!(
            "SELECT tenancy.register_context('apps', 'tenant_apps', 'array', columns => $x${columns}$x$, visible => $x${visible}$x$, order_by => $x${order_by}$x$)"
        );
        world.owner().ok(&register);
        let mut reader = world.app_as(ANN);
        reader.text(OWN);
        assert_eq!(state(&mut reader), "off", "{columns} {visible} {order_by}");
    }
    world.owner().ok("SELECT tenancy.register_context('apps', 'tenant_apps', 'array', columns => '{app_key, public.stable_function() AS v}')");
    let mut reader = world.app_as(ANN);
    reader.ok("BEGIN");
    for value in ["1", "2", "3"] {
        world
            .owner()
            .ok(&format!("UPDATE elsewhere SET v = '{value}'"));
        assert_eq!(reader.text(&at("{apps,0,v}")).as_deref(), Some(value));
    }
}

/// A replaced function may give another answer though no row changed.
#[test]
fn a_function_that_is_replaced_counts_at_once() {
    let world = world();
    let function = |value: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION constant() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT '{value}' $$"
        )
    };
    world.owner().ok(&function("one"));
    world.owner().ok("SELECT tenancy.register_context('apps', 'tenant_apps', 'array', columns => '{public.constant() AS v}')");
    let mut reader = world.app_as(ANN);
    reader.ok("BEGIN");
    assert_eq!(reader.text(&at("{apps,0,v}")).as_deref(), Some("one"));
    assert_eq!(state(&mut reader), "on");
    world.owner().ok(&function("two"));
    assert_eq!(reader.text(&at("{apps,0,v}")).as_deref(), Some("two"));
}

/// The values of one statement do not change under it: each is a copy.
#[test]
fn two_users_in_one_statement_keep_their_documents() {
    let world = world();
    let mut app = world.app();
    let claims =
        |user: &str| format!("set_config('request.jwt.claims', '{{\"sub\":\"{user}\"}}', true)");
    let row = app.rows(&format!(
        "SELECT a #>> '{{user,email}}', b #>> '{{user,email}}', c #>> '{{user,email}}' FROM (
             SELECT {}, get_user_tenant_context() AS a, {}, get_user_tenant_context() AS b, {}, get_user_tenant_context() AS c OFFSET 0) s",
        claims(ANN),
        claims(BOB),
        claims(ANN)
    ));
    let row: Vec<_> = row[0].iter().flatten().map(String::as_str).collect();
    assert_eq!(row, ["ann@alpha", "bob@beta", "ann@alpha"]);
}

#[test]
fn parallel_workers_give_the_same_document() {
    let world = world();
    world.owner().ok(&format!(
        "CREATE TABLE many AS SELECT n FROM generate_series(1, 3000) n; ALTER TABLE many SET (parallel_workers = 3);
         GRANT SELECT ON many TO {}; ANALYZE many",
        world.app
    ));
    let mut app = world.app_as(ANN);
    app.ok("SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET parallel_leader_participation = off");
    let query = "SELECT count(DISTINCT md5(get_user_tenant_context()::text)), min(md5(get_user_tenant_context()::text)) FROM many WHERE n % 10 = 0 AND get_user_tenant_context() IS NOT NULL";
    let plan: Vec<_> = app.rows(&format!("EXPLAIN {query}")).concat();
    assert!(
        plan.iter()
            .flatten()
            .any(|line| line.contains("Workers Planned")),
        "{plan:?}"
    );
    let expected = |world: &World| {
        let text = world.by_hand(ANN).unwrap();
        world.admin().text(&format!("SELECT md5($x${text}$x$)"))
    };
    for leader in ["off", "on"] {
        app.ok(&format!("SET parallel_leader_participation = {leader}"));
        for n in 0..3 {
            world.owner().ok(&set(&format!("{leader}{n}")));
            assert_eq!(app.rows(query), [[Some("1".to_owned()), expected(&world)]]);
        }
    }
}
