//! Bad input for tenancy.bind: a clear error, and nothing half-done.

use pgrx_test::fixture::{ClientExt, Database, Server, expect_error};
use postgres::Client;

struct Ground {
    database: Database,
    owner: String,
}

fn ground() -> Ground {
    let database = Database::new(Server::preloaded());
    let owner = database.role("owner");
    database.superuser().ok(&format!(
        "GRANT CREATE ON SCHEMA public TO {owner};
         CREATE FOREIGN DATA WRAPPER dummy; CREATE SERVER dummy FOREIGN DATA WRAPPER dummy;
         CREATE FOREIGN TABLE distant (user_id text, tenant_id uuid) SERVER dummy;
         ALTER FOREIGN TABLE distant OWNER TO {owner};
         CREATE TABLE not_mine (user_id text, tenant_id uuid);
         SET ROLE {owner};
         CREATE TABLE members (user_id text PRIMARY KEY, tenant_id uuid, role text, active boolean, note jsonb, point point);
         CREATE TABLE bound (user_id text PRIMARY KEY, tenant_id uuid, role text);
         CREATE TABLE empty ();
         CREATE TABLE tenants (id uuid PRIMARY KEY, active boolean);
         CREATE TABLE texts (user_id text, tenant_id text);
         CREATE VIEW v AS SELECT * FROM members;
         CREATE MATERIALIZED VIEW mv AS SELECT * FROM members;
         CREATE SEQUENCE seq; CREATE INDEX idx ON members (role);
         CREATE TYPE composite AS (user_id text, tenant_id uuid);
         SELECT tenancy.bind(membership => 'bound', membership_role => 'role')"
    ));
    Ground { database, owner }
}

fn state(root: &mut Client) -> Vec<Vec<Option<String>>> {
    let mut rows = root.rows("SELECT * FROM tenancy.binding_definition");
    rows.extend(root.rows(
        "SELECT tgrelid::regclass, tgname, tgenabled, tgtype FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2",
    ));
    rows.extend(root.rows("SELECT objid, deptype FROM pg_depend WHERE deptype = 'x' ORDER BY 1"));
    rows
}

#[test]
fn each_bad_argument_is_refused_and_changes_nothing() {
    let ground = ground();
    let mut root = ground.database.superuser();
    let mut owner = ground.database.connect(&ground.owner);
    let before = state(&mut root);
    owner.ok("CREATE TEMP TABLE passing (user_id text, tenant_id uuid)");
    let long = "x".repeat(100);
    for (arguments, code, needle) in [
        // Relations.
        ("membership => 'nosuch'", "42P01", "does not exist"),
        ("membership => 999999999", "42P01", "does not exist"),
        (
            "membership => 'v'",
            "42809",
            "Bind an ordinary or a partitioned table.",
        ),
        ("membership => 'mv'", "42809", "cannot be bound"),
        ("membership => 'distant'", "42809", "cannot be bound"),
        ("membership => 'passing'", "42809", "cannot be bound"),
        ("membership => 'seq'", "42809", "cannot be bound"),
        ("membership => 'idx'", "42809", "cannot be bound"),
        ("membership => 'composite'", "42809", "cannot be bound"),
        ("membership => 'pg_class'", "42501", "must be owner"),
        (
            "membership => 'not_mine'",
            "42501",
            "must be owner of table public.not_mine",
        ),
        (
            "membership => 'members', tenants => 'not_mine', tenants_id => 'tenant_id'",
            "42501",
            "must be owner",
        ),
        (
            "membership => 'members', role_table => 'v'",
            "42809",
            "cannot be bound",
        ),
        (
            "membership => 'members', tenants => 'v'",
            "42809",
            "cannot be bound",
        ),
        // Columns.
        ("membership => 'empty'", "42703", "user_id"),
        (
            "membership => 'members', membership_user => 'nosuch'",
            "42703",
            "nosuch",
        ),
        (
            "membership => 'members', membership_tenant => 'nosuch'",
            "42703",
            "nosuch",
        ),
        (
            "membership => 'members', membership_role => 'nosuch'",
            "42703",
            "nosuch",
        ),
        (
            "membership => 'members', membership_role => 'ctid'",
            "42703",
            "ctid",
        ),
        (
            "membership => 'members', role_table => 'bound'",
            "42703",
            "id",
        ),
        (
            "membership => 'members', role_table => 'bound', role_user => 'user_id', role_column => 'nosuch'",
            "42703",
            "nosuch",
        ),
        (
            "membership => 'members', tenants => 'tenants', tenants_id => 'nosuch'",
            "42703",
            "nosuch",
        ),
        // Types.
        (
            "tenant_type => 'nosuch', membership => 'members'",
            "22023",
            "Use uuid, text, bigint or integer.",
        ),
        (
            "tenant_type => 'bigint', membership => 'members'",
            "42804",
            "is of type uuid, but tenants are of type bigint",
        ),
        (
            "membership => 'texts'",
            "42804",
            "is of type text, but tenants are of type uuid",
        ),
        (
            "membership => 'members', membership_tenant => 'note'",
            "42804",
            "jsonb",
        ),
        (
            "membership => 'members', tenants => 'texts', tenants_id => 'tenant_id'",
            "42804",
            "text",
        ),
        // Settings.
        ("", "22023", "nothing says which tenant is current"),
        ("tenant_claim => 'org'", "22023", "needs a claims_setting"),
        (
            "tenant_setting => 'work_mem'",
            "22023",
            "invalid setting name",
        ),
        ("tenant_setting => '.x'", "22023", "invalid setting name"),
        ("tenant_setting => 'x.'", "22023", "invalid setting name"),
        ("tenant_setting => 'a..b'", "22023", "invalid setting name"),
        (
            "tenant_setting => 'my tenant.id'",
            "22023",
            "invalid setting name",
        ),
        ("tenant_setting => 'a.1b'", "22023", "invalid setting name"),
        (
            "tenant_setting => 'a.b; DROP TABLE members'",
            "22023",
            "invalid setting name",
        ),
        (
            "tenant_setting => 'pg_tenancy.admin_role'",
            "22023",
            "invalid setting name",
        ),
        (
            "tenant_setting => 'PG_Tenancy.context_scope'",
            "22023",
            "invalid setting name",
        ),
        (
            "tenant_setting => 'app.t', user_setting => 'app.t'",
            "22023",
            "given twice",
        ),
        (
            "tenant_setting => 'app.t', user_setting => 'APP.T'",
            "22023",
            "given twice",
        ),
        (
            "tenant_setting => 'app.current_tenant_id', user_setting => 'app.current_org_id'",
            "22023",
            "given twice",
        ),
        (
            "membership => 'members', claims_setting => 'app.current_user_id'",
            "22023",
            "given twice",
        ),
        // Values.
        (
            "membership => 'members', platform_tenant => 'x'",
            "22P02",
            "platform_tenant",
        ),
        (
            "membership => 'members', identity_writers => '{nosuch_role}'",
            "42704",
            "nosuch_role",
        ),
        (
            "membership => 'members', identity_writers => '{\"No Such\"}'",
            "42704",
            "No Such",
        ),
        // Expressions.
        (
            "membership => 'members', membership_active => 'role'",
            "42804",
            "boolean",
        ),
        (
            "membership => 'members', membership_active => 'nosuch'",
            "42703",
            "nosuch",
        ),
        (
            "membership => 'members', membership_active => '('",
            "42601",
            "syntax",
        ),
        (
            "membership => 'members', membership_active => 'active) OR (true'",
            "42601",
            "syntax",
        ),
        (
            "membership => 'members', tenants => 'tenants', tenants_active => 'role = 1'",
            "42703",
            "role",
        ),
        (
            "membership => 'members', membership_active => 'sum(1) > 0'",
            "42803",
            "aggregate",
        ),
    ] {
        let sql = format!("SELECT tenancy.bind({arguments})");
        let error = owner.error(&sql);
        expect_error(&error, code, needle);
        assert_eq!(before, state(&mut root), "{sql}");
    }
    let error = owner.error(&format!(
        "SELECT tenancy.bind(membership => 'members', membership_user => '{long}')"
    ));
    expect_error(&error, "42703", "xxx");
    assert_eq!(before, state(&mut root));
    // What was bound still works.
    root.ok("INSERT INTO bound VALUES ('u', 'aaaaaaaa-0000-0000-0000-000000000001', 'x')");
    assert_eq!(
        owner
            .text("SET app.current_user_id = 'u'; SELECT current_tenant_role()")
            .as_deref(),
        Some("x")
    );
}

#[test]
fn a_superuser_is_refused_the_same_relations() {
    let ground = ground();
    let mut root = ground.database.superuser();
    let before = state(&mut root);
    for relation in [
        "pg_class",
        "pg_catalog.pg_roles",
        "tenancy.binding",
        "information_schema.sql_features",
        "tenancy.protection",
        "tenancy.binding_definition",
        "v",
        "mv",
        "distant",
    ] {
        let error = root.error(&format!("SELECT tenancy.bind(membership => '{relation}')"));
        expect_error(&error, "42809", "cannot be bound");
    }
    assert_eq!(before, state(&mut root));
}

#[test]
fn a_user_column_that_cannot_be_compared_is_refused() {
    let ground = ground();
    let mut root = ground.database.superuser();
    let mut owner = ground.database.connect(&ground.owner);
    owner.ok("CREATE TABLE j (user_id json, tenant_id uuid)");
    let before = state(&mut root);
    let error = owner.error("SELECT tenancy.bind(membership => 'j')");
    expect_error(&error, "42804", "equality operator");
    assert_eq!(before, state(&mut root));
    // Nor one that keeps less than all of an identifier.
    for type_name in [
        "\"char\"",
        "double precision",
        "money",
        "date",
        "timestamp with time zone",
    ] {
        owner.ok(&format!(
            "CREATE TABLE c (user_id {type_name} PRIMARY KEY, tenant_id uuid, role text)"
        ));
        let before = state(&mut root);
        for arguments in [
            "membership => 'c'",
            "tenant_setting => 'app.t', role_table => 'c', role_user => 'user_id'",
        ] {
            let error = owner.error(&format!("SELECT tenancy.bind({arguments})"));
            expect_error(&error, "0A000", type_name);
            assert_eq!(before, state(&mut root));
        }
        owner.ok("DROP TABLE c");
    }
}

#[test]
fn binding_rolls_back_with_its_transaction() {
    let ground = ground();
    let mut root = ground.database.superuser();
    let mut owner = ground.database.connect(&ground.owner);
    let before = state(&mut root);
    owner.ok(
        "INSERT INTO bound VALUES ('u', 'aaaaaaaa-0000-0000-0000-000000000001', 'old');
              INSERT INTO members VALUES ('u', 'aaaaaaaa-0000-0000-0000-000000000002', 'new')",
    );
    let role = "SET LOCAL app.current_user_id = 'u'; SELECT current_tenant_role()";
    assert_eq!(owner.text(role).as_deref(), Some("old"));
    owner.ok("BEGIN; SELECT tenancy.bind(membership => 'members', membership_role => 'role')");
    assert_eq!(owner.text(role).as_deref(), Some("new"));
    owner.ok("ROLLBACK");
    assert_eq!(owner.text(role).as_deref(), Some("old"));
    owner.ok("BEGIN; SAVEPOINT s; SELECT tenancy.unbind(); ROLLBACK TO s");
    assert_eq!(owner.text(role).as_deref(), Some("old"));
    owner.ok("COMMIT");
    assert_eq!(before, state(&mut root));
}
