//! A source that cannot be read: an error that names the key, nothing kept, and the next call works
//! once it is mended. And what cannot be registered.

mod document_setup;

use document_setup::{ANN, BOB, OWN, World, at};
use pgrx_test::fixture::{ClientExt, Server, expect_error};
use postgres::error::DbError;

fn world() -> World {
    World::new(Server::preloaded())
}

fn names_the_key(error: &DbError, code: &str, key: &str) {
    expect_error(error, code, &format!("key \"{key}\""));
    assert!(
        error.hint().is_some_and(|hint| hint.ends_with('.')),
        "{error:?}"
    );
}

#[test]
fn two_rows_for_an_object() {
    let world = world();
    let mut ann = world.app_as(ANN);
    ann.text(OWN);
    world.owner().ok("SELECT tenancy.register_context('config', 'tenant_apps', columns => '{app_key}', visible => 'display_order > 90')");
    for _ in 0..2 {
        names_the_key(&ann.error(OWN), "21000", "config");
    }
    ann.ok("SELECT current_tenant_id()");
    world
        .owner()
        .ok("UPDATE tenant_apps SET display_order = 1 WHERE app_key <> 'app-3'");
    assert_eq!(ann.text(&at("{config,app_key}")).as_deref(), Some("app-3"));
    world.owner().ok("DELETE FROM tenant_apps");
    assert_eq!(
        ann.text("SELECT get_user_tenant_context() -> 'config'")
            .as_deref(),
        Some("null")
    );
}

/// Rows of other tenants are set aside before an expression sees them: their faults are theirs.
#[test]
fn a_row_of_another_tenant_breaks_nothing() {
    let world = world();
    world.owner().ok(
        "ALTER TABLE tenant_apps ADD number text DEFAULT '1';
         SELECT tenancy.register_context('apps', 'tenant_apps', 'array', visible => 'number::integer > 0', order_by => '1 / number::integer', columns => '{app_key}')",
    );
    world.owner().ok("UPDATE tenant_apps SET number = 'bobs secret' WHERE app_name LIKE 'Beta%'; ANALYZE tenant_apps");
    // Free of charge, so that the planner would have it called before anything else.
    world.owner().ok(
        "CREATE FUNCTION looks(number text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE COST 0.000001 AS $$ BEGIN RETURN number::integer > 0; END $$;
         SELECT tenancy.register_context('looked_at', 'tenant_apps', 'array', visible => 'public.looks(number)', columns => '{app_key}')",
    );
    let mut ann = world.app_as(ANN);
    ann.ok("SET enable_indexscan = off; SET enable_bitmapscan = off");
    for key in ["apps", "looked_at"] {
        let count = format!("SELECT jsonb_array_length(get_user_tenant_context() -> '{key}')");
        assert_eq!(ann.int(&count), 20);
    }
    let error = world.app_as(BOB).error(OWN);
    names_the_key(&error, "22P02", "apps");
    // Whoever asks is not told what stands in columns that he does not see.
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    // The owner is.
    let mut owner = world.owner();
    owner.ok(&format!(
        "BEGIN; SET LOCAL request.jwt.claims = '{{\"sub\":\"{BOB}\"}}'"
    ));
    let error = owner.error(OWN);
    names_the_key(&error, "22P02", "apps");
    assert!(
        error
            .detail()
            .is_some_and(|detail| detail.contains("bobs secret"))
    );
}

#[test]
fn a_source_that_fails_works_again_once_mended() {
    let world = world();
    world.owner().ok("CREATE FUNCTION fails() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE 'not now' USING ERRCODE = '22012'; END $$");
    world.owner().ok("SELECT tenancy.register_context('apps', 'tenant_apps', 'array', visible => 'public.fails()', columns => '{app_key}')");
    let mut ann = world.app_as(ANN);
    for _ in 0..2 {
        names_the_key(&ann.error(OWN), "22012", "apps");
    }
    ann.ok("BEGIN; SAVEPOINT a");
    names_the_key(&ann.error(OWN), "22012", "apps");
    ann.ok("ROLLBACK TO a; SELECT current_tenant_id()");
    world.owner().ok("CREATE OR REPLACE FUNCTION fails() RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true'");
    assert_eq!(ann.text(&at("{apps,0,app_key}")).as_deref(), Some("app-1"));
    ann.ok("COMMIT");
}

#[test]
fn a_slow_source_can_be_cancelled() {
    let world = world();
    world.owner().ok("SELECT tenancy.register_context('apps', 'tenant_apps', 'array', visible => 'pg_sleep(3600) IS NULL', columns => '{app_key}')");
    let mut ann = world.app_as(ANN);
    ann.ok("SET statement_timeout = '1s'");
    let error = ann.error(OWN);
    names_the_key(&error, "57014", "apps");
    assert!(
        error
            .detail()
            .is_some_and(|detail| detail.contains("statement timeout"))
    );
    ann.ok("SET statement_timeout = 0");
    let (process, token) = (ann.int("SELECT pg_backend_pid()"), ann.cancel_token());
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            // Before the source is read, no key could be named.
            world.admin().see_waiting(process, "wait_event = 'PgSleep'");
            token.cancel_query(postgres::NoTls).unwrap();
        });
        ann.error(OWN)
    });
    names_the_key(&error, "57014", "apps");
    world
        .owner()
        .ok("SELECT tenancy.unregister_context('apps')");
    assert_eq!(
        ann.text("SELECT get_user_tenant_context() ? 'apps'")
            .as_deref(),
        Some("f")
    );
}

#[test]
fn ddl_on_a_source() {
    let world = world();
    let mut ann = world.app_as(ANN);
    let good = ann.text(OWN);
    let mut owner = world.owner();
    // Another name of the table and another type of a column change nothing.
    owner.ok("ALTER TABLE tenant_apps RENAME TO apps_of_tenants; ALTER TABLE apps_of_tenants ALTER app_name TYPE varchar(100)");
    assert_eq!(ann.text(OWN), good);
    owner.ok("ALTER TABLE apps_of_tenants RENAME app_route TO route");
    names_the_key(&ann.error(OWN), "42703", "apps");
    owner.ok("ALTER TABLE apps_of_tenants RENAME route TO app_route");
    assert_eq!(ann.text(OWN), good);
    owner.ok("ALTER TABLE apps_of_tenants ALTER display_order TYPE text");
    assert_eq!(
        ann.text(&at("{apps,0,display_order}")).as_deref(),
        Some("81"),
        "sorted as text"
    );
    owner.ok("ALTER TABLE apps_of_tenants DROP CONSTRAINT tenant_apps_tenant_id_fkey, ALTER tenant_id TYPE text");
    names_the_key(&ann.error(OWN), "42804", "apps");
    owner.ok("DROP TABLE apps_of_tenants");
    names_the_key(&ann.error(OWN), "42P01", "apps");
    let state = "SELECT state FROM tenancy.status() WHERE feature = 'document'";
    assert_eq!(ann.text(state).as_deref(), Some("broken"));
    owner.ok("SELECT tenancy.unregister_context('apps')");
    assert_eq!(
        ann.text("SELECT get_user_tenant_context()"),
        ann.text(&format!("SELECT $x${}$x$::jsonb - 'apps'", good.unwrap()))
    );
}

#[test]
fn an_expression_that_asks_for_the_document_is_refused() {
    let world = world();
    world.owner().ok("SELECT tenancy.register_context('apps', 'tenant_apps', 'array', visible => 'public.get_user_tenant_context() IS NOT NULL', columns => '{app_key}')");
    let mut ann = world.app_as(ANN);
    names_the_key(&ann.error(OWN), "55000", "apps");
    // The tenant may be asked for.
    world.owner().ok("SELECT tenancy.register_context('apps', 'tenant_apps', 'array', visible => 'tenant_id = public.current_tenant_id()', columns => '{app_key}')");
    assert_eq!(
        ann.int("SELECT jsonb_array_length(get_user_tenant_context() -> 'apps')"),
        20
    );
}

#[test]
fn what_cannot_be_registered() {
    let world = World::bound(Server::preloaded());
    let mut owner = world.owner();
    owner.ok(
        "CREATE VIEW apps_view AS SELECT * FROM tenant_apps; CREATE MATERIALIZED VIEW apps_kept AS SELECT * FROM tenant_apps;
         CREATE TEMP TABLE apps_temp AS SELECT * FROM tenant_apps",
    );
    let apps = |arguments: &str| {
        format!("SELECT tenancy.register_context('apps', 'tenant_apps', {arguments})")
    };
    for (sql, code, needle) in [
        ("SELECT tenancy.register_context('apps', 'apps_view')".to_owned(), "42809", "apps_view"),
        ("SELECT tenancy.register_context('apps', 'apps_kept')".into(), "42809", "apps_kept"),
        ("SELECT tenancy.register_context('apps', 'apps_temp')".into(), "42809", "apps_temp"),
        ("SELECT tenancy.register_context('apps', 'tenant_apps', joined => 'apps_view', joined_on => 'true')".into(), "42809", "apps_view"),
        ("SELECT tenancy.register_context('role', 'tenant_apps')".into(), "22023", "reserved"),
        ("SELECT tenancy.register_context('memberships', 'tenant_apps')".into(), "22023", "reserved"),
        ("SELECT tenancy.register_context('', 'tenant_apps')".into(), "22023", "needed"),
        ("SELECT tenancy.register_context(NULL, 'tenant_apps')".into(), "22023", "needed"),
        ("SELECT tenancy.register_context('apps', NULL)".into(), "22023", "needed"),
        (format!("SELECT tenancy.register_context('{}', 'tenant_apps')", "x".repeat(64)), "22023", "63 bytes"),
        ("SELECT tenancy.register_context('user', 'users', tenant_column => 'organization_id')".into(), "22023", "user_column"),
        ("SELECT tenancy.register_context('tenant', 'tenant_apps', 'array')".into(), "22023", "object"),
        ("SELECT tenancy.register_context('flags', 'feature_flags', 'array')".into(), "22023", "global => true"),
        ("SELECT tenancy.register_context('flags', 'tenant_apps', joined => 'feature_flags', joined_on => 'true')".into(), "22023", "joined_global => true"),
        (apps("'list'"), "22023", "unknown shape"),
        (apps("global => true, tenant_column => 'tenant_id'"), "22023", "contradicts"),
        (apps("tenant_column => 'nothing'"), "42703", "nothing"),
        (apps("tenant_column => 'app_key'"), "42804", "app_key"),
        (apps("joined => 'tenant_configurations'"), "22023", "joined_on"),
        (apps("joined_on => 'true'"), "22023", "belong together"),
        (apps("joined_global => true"), "22023", "nothing is joined"),
        (apps("columns => '{}'"), "22023", "no columns"),
        (apps("columns => '{nothing}'"), "42703", "nothing"),
        (apps("columns => '{app_key, app_name AS app_key}'"), "22023", "no name of its own"),
        (apps("columns => '{1 + 1}'"), "22023", "no name of its own"),
        (apps("columns => '{*}'"), "22023", "not a single column"),
        (apps("columns => '{source.*}'"), "22023", "not a single column"),
        (apps("columns => '{count(*)}'"), "22023", "one row"),
        (apps("columns => '{\"generate_series(1, 2) AS n\"}'"), "22023", "one row"),
        (apps("columns => '{row_number() OVER () AS n}'"), "22023", "one row"),
        (apps("visible => 'count(*) > 1'"), "42803", "aggregate"),
        (apps("visible => 'app_name'"), "42804", "boolean"),
        (apps("visible => 'nothing'"), "42703", "nothing"),
        (apps("order_by => 'nothing'"), "42703", "nothing"),
    ] {
        let error = owner.error(&sql);
        expect_error(&error, code, needle);
    }
    assert_eq!(
        owner.int("SELECT count(*) FROM tenancy.registered_contexts"),
        0
    );
    let triggers = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'tenancy_document%' AND tgrelid <> 'tenancy.context_registration'::regclass";
    assert_eq!(owner.int(triggers), 0, "nothing is left of what failed");
    let unbound = pgrx_test::fixture::Database::new(Server::preloaded());
    let mut admin = unbound.superuser();
    admin.ok("CREATE TABLE apps (tenant_id uuid)");
    expect_error(
        &admin.error("SELECT tenancy.register_context('apps', 'apps')"),
        "55000",
        "tenancy.bind",
    );
    expect_error(
        &admin.error("SELECT tenancy.unregister_context('apps')"),
        "42704",
        "apps",
    );
    admin.ok("SELECT tenancy.unregister_context('apps', missing_ok => true)");
}
