//! Every error of our own, as a client reads it, against a golden file.
//!
//! `PG_TENANCY_TEST_BLESS=1` writes the file anew; look at the difference before you keep it.

use std::fmt::Write;
use std::path::Path;

use pgrx_test::fixture::{ClientExt, Database, Server};
use postgres::error::DbError;

const A: &str = "aaaaaaaa-0000-0000-0000-000000000001";

/// A heading, and statements of which each fails. `R` is the owner, `A` the application, `S` a superuser;
/// `!` before the letter means that the statement prepares the ground and must not fail.
const SCRIPT: &[(&str, &str)] = &[
    (
        "A",
        "SELECT tenancy.protect_table('docs', mode => 'enforce')",
    ),
    (
        "R",
        "SELECT tenancy.protect_table('docs', mode => 'enforce')",
    ),
    ("R", "SELECT tenancy.unbind()"),
    ("A", "SELECT set_tenant_context('1')"),
    ("A", "SELECT get_user_tenant_context('1')"),
    ("R", "SELECT tenancy.bind()"),
    (
        "R",
        "SELECT tenancy.bind(tenant_type => 'float', membership => 'members')",
    ),
    ("R", "SELECT tenancy.bind(tenant_claim => 'org')"),
    ("R", "SELECT tenancy.bind(tenant_setting => 'tenant')"),
    (
        "R",
        "SELECT tenancy.bind(membership => 'members', tenant_setting => 'app.current_user_id')",
    ),
    (
        "R",
        "SELECT tenancy.bind(membership => 'members', platform_tenant => 'x')",
    ),
    (
        "R",
        "SELECT tenancy.bind(membership => 'members', identity_writers => '{no_such_role}')",
    ),
    ("R", "SELECT tenancy.bind(membership => 'people')"),
    (
        "R",
        "SELECT tenancy.bind(membership => 'members', membership_role => 'rank')",
    ),
    (
        "R",
        "SELECT tenancy.bind(membership => 'members', tenant_type => 'bigint')",
    ),
    ("R", "SELECT tenancy.bind(membership => 'incomparable')"),
    (
        "R",
        "SELECT tenancy.bind(membership => 'members', membership_active => 'true, true')",
    ),
    (
        "R",
        "SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id')",
    ),
    ("A", "SELECT tenancy.bind(membership => 'members')"),
    (
        "!R",
        "SELECT tenancy.bind(membership => 'members', membership_role => 'role', membership_active => 'active', tenant_setting => 'app.current_tenant_id', tenants => 'tenants', tenants_active => 'active')",
    ),
    (
        "!R",
        "SELECT tenancy.protect_table('docs', mode => 'enforce')",
    ),
    ("R", "SELECT tenancy.unbind()"),
    ("A", "SELECT * FROM docs"),
    ("A", "SET app.current_user_id = 'two'; SELECT * FROM docs"),
    (
        "A",
        "SET app.current_user_id = 'nobody'; SELECT * FROM docs",
    ),
    (
        "A",
        "SET app.current_user_id = 'stranded'; SELECT * FROM docs",
    ),
    (
        "A",
        "SET app.current_user_id = 'one'; SET app.current_tenant_id = 'aaaaaaaa-0000-0000-0000-000000000002'; SELECT * FROM docs",
    ),
    ("A", "SET app.current_tenant_id = 'not-a-uuid'"),
    (
        "A",
        "SET app.current_user_id = 'one'; SELECT current_tenant_id_bigint()",
    ),
    ("A", "SELECT set_tenant_context('nobody')"),
    ("A", "SELECT set_tenant_context('two')"),
    ("A", "SELECT set_tenant_context('one', 'not-a-uuid')"),
    (
        "A",
        "SELECT set_tenant_context('one', 'aaaaaaaa-0000-0000-0000-000000000002')",
    ),
    (
        "A",
        "SET app.current_user_id = 'one'; SELECT get_user_tenant_context('two')",
    ),
    (
        "A",
        "SET app.current_user_id = 'one'; UPDATE members SET role = 'admin'",
    ),
    ("A", "SET app.current_user_id = 'one'; TRUNCATE members"),
    (
        "A",
        "SET app.current_user_id = 'boss'; UPDATE members SET role = 'super_admin' WHERE user_id = 'one'",
    ),
    (
        "A",
        "SET app.current_user_id = 'boss'; UPDATE members SET role = 'owner' WHERE user_id = 'one'",
    ),
    (
        "A",
        "SET app.current_user_id = 'boss'; UPDATE members SET active = false WHERE user_id = 'one'",
    ),
    (
        "A",
        "SET app.current_user_id = 'boss'; INSERT INTO members VALUES ('new', 'aaaaaaaa-0000-0000-0000-000000000002', 'member')",
    ),
    (
        "A",
        "SET app.current_user_id = 'boss'; UPDATE tenants SET active = false",
    ),
    (
        "A",
        "SET app.current_user_id = 'one'; INSERT INTO docs VALUES ('aaaaaaaa-0000-0000-0000-000000000002')",
    ),
    ("S", "SELECT tenancy.guard_identity()"),
    ("!S", "ALTER TABLE members OWNER TO postgres"),
    (
        "A",
        "SET app.current_user_id = 'one'; SELECT current_tenant_id()",
    ),
    ("!S", "DROP TABLE members CASCADE"),
    (
        "A",
        "SET app.current_user_id = 'one'; SELECT current_tenant_id()",
    ),
    (
        "R",
        "SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id')",
    ),
];

fn rendered(e: &DbError, names: &[(&str, &str)]) -> String {
    let mut text = format!("{}:  {}: {}\n", e.severity(), e.code().code(), e.message());
    for (name, value) in [("DETAIL", e.detail()), ("HINT", e.hint())] {
        if let Some(value) = value {
            let _ = writeln!(text, "{name}:  {value}");
        }
    }
    for (role, stands_for) in names {
        text = text.replace(role, stands_for);
    }
    text
}

#[test]
fn our_own_errors_read_as_agreed() {
    let database = Database::new(Server::preloaded());
    let (owner, app) = (database.role("owner"), database.role("app"));
    let superuser = database.server().superuser.clone();
    database.superuser().ok(&format!(
        "GRANT CREATE ON SCHEMA public TO {owner}; SET ROLE {owner};
         CREATE TABLE members (user_id text, tenant_id uuid, role text, active boolean DEFAULT true);
         CREATE INDEX ON members (user_id);
         CREATE TABLE tenants (id uuid PRIMARY KEY, active boolean);
         CREATE TABLE docs (tenant_id uuid NOT NULL);
         CREATE TABLE incomparable (user_id json, tenant_id uuid);
         CREATE VIEW people AS SELECT * FROM members;
         INSERT INTO tenants VALUES ('{A}', true), ('aaaaaaaa-0000-0000-0000-000000000002', true), ('aaaaaaaa-0000-0000-0000-000000000003', false);
         INSERT INTO members VALUES ('one', '{A}', 'member'), ('boss', '{A}', 'admin'), ('two', '{A}', 'member'),
            ('two', 'aaaaaaaa-0000-0000-0000-000000000002', 'member'), ('stranded', 'aaaaaaaa-0000-0000-0000-000000000003', 'member');
         INSERT INTO docs SELECT id FROM tenants;
         GRANT ALL ON ALL TABLES IN SCHEMA public TO {app}"));
    let mut found = String::new();
    for (who, sql) in SCRIPT {
        let role = match who.trim_start_matches('!') {
            "R" => &owner,
            "A" => &app,
            _ => &superuser,
        };
        let mut session = database.connect(role);
        if who.starts_with('!') {
            session.ok(sql);
            continue;
        }
        let error = session.error(sql);
        let _ = writeln!(
            found,
            "{who}> {sql}\n{}",
            rendered(&error, &[(&owner, "<owner>"), (&app, "<app>")])
        );
        let first = error.message().chars().next().unwrap_or_default();
        assert!(!first.is_uppercase(), "{}", error.message());
        assert!(!error.message().ends_with('.'), "{}", error.message());
        for (part, text) in [("DETAIL", error.detail()), ("HINT", error.hint())] {
            if let Some(text) = text {
                assert!(
                    text.ends_with('.') || text.ends_with("'...'."),
                    "{part}: {text}"
                );
            }
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/errors_golden/own.txt");
    if std::env::var_os("PG_TENANCY_TEST_BLESS").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    for (expected, found) in expected.split("\n\n").zip(found.split("\n\n")) {
        assert_eq!(expected, found);
    }
    assert_eq!(expected, found);
}
