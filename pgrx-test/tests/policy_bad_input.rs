//! What cannot be done is refused with an SQLSTATE and a HINT, and nothing is half-done.

mod policy_support;

use pgrx_test::fixture::{ClientExt, Database, Server, expect_error};
use policy_support::Stage;

#[test]
fn bad_input_is_refused() {
    let stage = Stage::new();
    stage.items();
    stage
        .owner()
        .ok("CREATE VIEW app.seen AS SELECT * FROM app.items;
         CREATE MATERIALIZED VIEW app.kept AS SELECT * FROM app.items;
         CREATE SEQUENCE app.counter;
         CREATE TABLE app.texts (id int, tenant_id text);
         CREATE TABLE app.bare (id int);
         CREATE TABLE app.made (id uuid, tenant_id uuid GENERATED ALWAYS AS (id) STORED);
         CREATE TABLE app.taken (id int, tenant_id uuid);
         ALTER TABLE app.taken ENABLE ROW LEVEL SECURITY;
         CREATE POLICY taken_tenant_isolation_select ON app.taken USING (true)");
    stage.superuser().ok(&format!(
        "CREATE FOREIGN DATA WRAPPER none; CREATE SERVER nowhere FOREIGN DATA WRAPPER none;
         CREATE FOREIGN TABLE app.far (id int, tenant_id uuid) SERVER nowhere; ALTER FOREIGN TABLE app.far OWNER TO {}",
        stage.owner
    ));
    let before = stage.dump();
    let cases = [
        ("'app.missing', mode => 'enforce'", "42P01", "app.missing"),
        ("0::oid, mode => 'enforce'", "42P01", "does not exist"),
        ("NULL, mode => 'enforce'", "22023", "table"),
        (
            "'app.items', tenant_column => 'org', mode => 'enforce'",
            "42703",
            "org",
        ),
        (
            "'app.items', tenant_column => NULL, mode => 'enforce'",
            "22023",
            "tenant_column",
        ),
        ("'app.bare', mode => 'enforce'", "42703", "tenant_id"),
        (
            "'app.items', template => 'nonsense', mode => 'enforce'",
            "22023",
            "nonsense",
        ),
        (
            "'app.items', template => 'shared_read', mode => 'enforce'",
            "55000",
            "platform_tenant",
        ),
        ("'app.items', mode => 'strict'", "22023", "strict"),
        ("'app.items', mode => NULL", "22023", "mode"),
        (
            "'app.items', mode => 'enforce', options => '{\"forced\": true}'",
            "22023",
            "foreign_keys",
        ),
        (
            "'app.items', mode => 'enforce', options => '[]'",
            "22023",
            "object",
        ),
        (
            "'app.items', mode => 'enforce', options => '{\"force\": 1}'",
            "22023",
            "force",
        ),
        ("'app.seen', mode => 'enforce'", "42809", "security_invoker"),
        ("'app.seen', mode => 'permissive'", "42809", "view"),
        ("'app.kept', mode => 'enforce'", "42809", "materialized"),
        ("'app.far', mode => 'enforce'", "42809", "foreign table"),
        ("'app.counter', mode => 'enforce'", "42809", "sequence"),
        ("'app.items_pkey', mode => 'enforce'", "42809", "index"),
        ("'pg_class', mode => 'enforce'", "42809", "system catalog"),
        (
            "'tenancy.protection', mode => 'enforce'",
            "42809",
            "part of pg_tenancy",
        ),
        ("'app.texts', mode => 'enforce'", "42804", "type text"),
        (
            "'app.items', tenant_column => 'id', mode => 'enforce'",
            "42804",
            "integer",
        ),
        ("'app.made', mode => 'enforce'", "42809", "generated"),
        (
            "'app.taken', mode => 'enforce'",
            "42710",
            "taken_tenant_isolation_select",
        ),
    ];
    for (arguments, sqlstate, needle) in cases {
        let error = stage
            .owner()
            .error(&format!("SELECT tenancy.protect_table({arguments})"));
        expect_error(&error, sqlstate, needle);
        // Postgres's own error for a name that is no table has no hint.
        assert!(
            error.hint().is_some() || arguments.contains("missing"),
            "{arguments}: no hint"
        );
    }
    let temporary = stage.owner().error(
        "CREATE TEMP TABLE scratch (tenant_id uuid); SELECT tenancy.protect_table('scratch', mode => 'enforce')",
    );
    expect_error(&temporary, "42809", "temporary");
    assert_eq!(stage.dump(), before);
    assert_eq!(
        stage
            .superuser()
            .int("SELECT count(*) FROM tenancy.protection"),
        0
    );
}

#[test]
fn other_functions_refuse_as_clearly() {
    let stage = Stage::new();
    stage.items();
    let mut owner = stage.owner();
    for (sql, sqlstate, needle) in [
        (
            "SELECT tenancy.unprotect_table('app.items')",
            "42704",
            "not protected",
        ),
        ("SELECT tenancy.unprotect_table(NULL)", "22023", "table"),
        (
            "SELECT tenancy.set_mode('app.items', 'enforce')",
            "42704",
            "protect_table",
        ),
        (
            "SELECT tenancy.set_mode('app.items', 'shadow')",
            "42704",
            "protect_table",
        ),
        ("SELECT tenancy.set_mode('strict')", "22023", "strict"),
        (
            "SELECT * FROM tenancy.protect_schema('nowhere', mode => 'enforce')",
            "3F000",
            "nowhere",
        ),
        (
            "SELECT * FROM tenancy.protect_schema(NULL, mode => 'enforce')",
            "22023",
            "schema",
        ),
        (
            "SELECT tenancy.policy_sql('app.items', tenant_column => 'org')",
            "42703",
            "org",
        ),
        (
            "SELECT tenancy.tenant_column_immutable()",
            "0A000",
            "trigger",
        ),
        (
            "INSERT INTO tenancy.protection DEFAULT VALUES",
            "42501",
            "permission denied",
        ),
        (
            "SELECT * FROM tenancy.protection",
            "42501",
            "permission denied",
        ),
    ] {
        expect_error(&owner.error(sql), sqlstate, needle);
    }
    assert_eq!(
        owner
            .text("SELECT tenancy.unprotect_table('app.items', missing_ok => true)")
            .as_deref(),
        Some("f")
    );
    for sql in [
        "SELECT tenancy.protect_table('app.items', mode => 'enforce')",
        "SELECT tenancy.protect_schema('app', mode => 'enforce')",
        "SELECT tenancy.policy_sql('app.items')",
    ] {
        expect_error(&stage.nobody().error(sql), "42501", "must be owner");
    }
}

#[test]
fn without_a_binding_nothing_is_protected() {
    let stage = Stage::unbound();
    stage.items();
    let before = stage.dump();
    for sql in [
        "SELECT tenancy.protect_table('app.items', mode => 'enforce')",
        "SELECT tenancy.protect_table('app.items', mode => 'permissive')",
        "SELECT tenancy.protect_schema('app', mode => 'enforce')",
        "SELECT tenancy.policy_sql('app.items')",
    ] {
        expect_error(&stage.owner().error(sql), "55000", "tenancy.bind");
    }
    assert_eq!(stage.dump(), before);
}

/// Tenants that differ would see each other's rows.
#[test]
fn a_collation_that_takes_tenants_for_equal_is_refused() {
    let database = Database::new(Server::preloaded());
    let mut superuser = database.superuser();
    superuser.ok(
        "SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id', tenant_type => 'text');
         CREATE SCHEMA app;
         CREATE COLLATION app.folded (provider = libc, locale = 'C');
         -- As ICU makes them, which not every server has.
         UPDATE pg_collation SET collisdeterministic = false WHERE collname = 'folded';
         CREATE TABLE app.items (id int PRIMARY KEY, tenant_id text COLLATE app.folded NOT NULL)",
    );
    let protect = "SELECT * FROM tenancy.protect_table('app.items', mode => 'enforce')";
    expect_error(
        &superuser.error(protect),
        "42804",
        "nondeterministic collation",
    );
    superuser.ok("ALTER TABLE app.items ALTER tenant_id TYPE text COLLATE \"C\"");
    superuser.ok(protect);
}
