//! Databases of other encodings than UTF8: identifiers are ASCII there, and whatever else the tables
//! hold stands in nobody's way.

use pgrx_test::fixture::{ClientExt, Database, Server, expect_error};

/// A value that is not valid in Rust's strings must not be read as another one.
#[test]
fn in_a_database_of_another_encoding_names_are_not_mixed_up() {
    let database = Database::in_encoding(Server::preloaded(), "LATIN1");
    let app = database.role("app");
    let mut admin = database.superuser();
    admin.ok("CREATE EXTENSION pg_tenancy;
         SELECT tenancy.bind(tenant_type => 'text', tenant_setting => 'app.current_tenant_id')");
    let mut client = database.connect(&app);
    // The last is valid UTF8 as it stands in the server.
    for name in ["M\u{fc}ller", "M\u{f6}ller", "M\u{c3}\u{bc}ller"] {
        for set in [
            format!("SET app.current_tenant_id = '{name}'"),
            format!("SELECT set_config('app.current_org_id', '{name}', true)"),
        ] {
            expect_error(&client.error(&set), "22P02", "ASCII");
        }
        // Nobody judges it as the session begins.
        admin.ok(&format!(
            "ALTER ROLE {app} SET app.current_tenant_id = '{name}'"
        ));
        let mut brought = database.connect(&app);
        expect_error(
            &brought.error("SELECT current_tenant_id_text()"),
            "22P02",
            "ASCII",
        );
    }
    client.ok("BEGIN; SET LOCAL app.current_tenant_id = 'Mueller'");
    assert_eq!(
        client.text("SELECT current_tenant_id_text()").as_deref(),
        Some("Mueller")
    );
}

/// An escape spells any character in ASCII; the bytes of UTF8 would be those of another user.
#[test]
fn in_a_database_of_another_encoding_claims_name_nobody_else() {
    let database = Database::in_encoding(Server::preloaded(), "LATIN1");
    let mut admin = database.superuser();
    admin.ok("CREATE EXTENSION pg_tenancy;
         CREATE TABLE members (user_id text PRIMARY KEY, tenant_id text);
         INSERT INTO members VALUES ('\u{c3}\u{bc}', 'a');
         SELECT tenancy.bind(tenant_type => 'text', membership => 'members', claims_setting => 'request.jwt.claims')");
    let mut client = database.connect(&database.role("app"));
    let set = r#"SET request.jwt.claims = '{"sub": "\u00fc"}'"#;
    expect_error(&client.error(set), "22P02", "ASCII");
    client.ok(r#"BEGIN; SET LOCAL request.jwt.claims = '{"sub": "\u0061", "name": "\u00fc"}'"#);
    assert_eq!(
        client.text("SELECT current_tenant_user_id()").as_deref(),
        Some("a")
    );
}

struct Ground {
    database: Database,
    app: String,
}

/// Users of tenants with and without umlauts, and the tables `enforced` and `shadowed`.
fn ground() -> Ground {
    let database = Database::in_encoding(Server::preloaded(), "LATIN1");
    let (owner, app) = (database.role("owner"), database.role("app"));
    database.superuser().ok(&format!(
        "CREATE EXTENSION pg_tenancy;
         GRANT CREATE ON SCHEMA public TO {owner};
         SET ROLE {owner};
         CREATE TABLE members (user_id text, tenant_id text, role varchar(20), PRIMARY KEY (user_id, tenant_id));
         CREATE TABLE profiles (id text PRIMARY KEY, role text);
         CREATE TABLE enforced (id int PRIMARY KEY, tenant_id text NOT NULL);
         CREATE TABLE shadowed (id int PRIMARY KEY, tenant_id text NOT NULL);
         INSERT INTO members VALUES ('u', 'a', 'g\u{e9}rant'), ('u', 'M\u{fc}ller', 'admin'), ('v', 'M\u{fc}ller', 'admin'),
             ('w', 'a', 'user'), ('boss', 'a', 'admin'), ('j\u{fc}rgen', 'a', 'user');
         INSERT INTO profiles VALUES ('u', 'user'), ('v', 'g\u{e9}rant'), ('w', 'g\u{e9}rant'), ('boss', 'admin');
         INSERT INTO enforced VALUES (1, 'a'), (2, 'M\u{fc}ller');
         INSERT INTO shadowed VALUES (1, 'a'), (2, 'M\u{fc}ller');
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {app};
         SELECT tenancy.bind(tenant_type => 'text', tenant_setting => 'app.current_tenant_id',
             membership => 'members', membership_role => 'role', role_table => 'profiles');
         SELECT tenancy.protect_table('enforced', mode => 'enforce'), tenancy.protect_table('shadowed')"
    ));
    Ground { database, app }
}

#[test]
fn memberships_that_cannot_be_named_stand_in_nobodys_way() {
    let ground = ground();
    let mut client = ground.database.connect(&ground.app);
    for choice in ["a", ""] {
        client.ok(&format!("BEGIN; SET LOCAL app.current_user_id = 'u'; SET LOCAL app.current_tenant_id = '{choice}'"));
        assert_eq!(client.int("SELECT count(*) FROM enforced"), 1);
        assert_eq!(client.int("SELECT count(*) FROM shadowed"), 2);
        let seen = client.text(
            "SELECT concat_ws(' ', current_tenant_id_text(), current_tenant_role(), is_tenant_admin(), user_tenant_ids_text())",
        );
        assert_eq!(seen.as_deref(), Some("a user f {a}"));
        assert_eq!(
            client
                .text("SELECT get_user_tenant_context() ->> 'memberships'")
                .as_deref(),
            Some(r#"[{"role": null, "tenant_id": "a"}]"#)
        );
        client.ok("COMMIT");
    }
    // A role that cannot be named is none, in a table of roles too.
    client.ok("BEGIN; SET LOCAL app.current_user_id = 'w'");
    assert_eq!(client.int("SELECT count(*) FROM enforced"), 1);
    assert_eq!(
        client.text("SELECT current_tenant_role()").as_deref(),
        Some("user")
    );
    client.ok("COMMIT");
    // Who has no other membership has no tenant; shadow mode fails nothing.
    client.ok("BEGIN; SET LOCAL app.current_user_id = 'v'");
    assert_eq!(client.text("SELECT current_tenant_id_text()"), None);
    assert_eq!(client.int("SELECT count(*) FROM shadowed"), 2);
    expect_error(
        &client.error("SELECT FROM enforced"),
        "42501",
        "no tenant context",
    );
}

#[test]
fn what_cannot_be_named_is_a_malformed_argument() {
    let ground = ground();
    let mut admin = ground.database.superuser();
    for call in [
        "has_tenant_role('g\u{e9}rant')",
        "set_tenant_context('j\u{fc}rgen')",
        "set_tenant_context('u', 'M\u{fc}ller')",
        "get_user_tenant_context('j\u{fc}rgen')",
        "tenancy.as_tenant('M\u{fc}ller')",
        "tenancy.bind(tenant_type => 'text', tenant_setting => 'app.t', platform_tenant => 'M\u{fc}ller')",
        "tenancy.bind(tenant_type => 'text', tenant_setting => 'app.t', admin_roles => '{g\u{e9}rant}')",
        "tenancy.explain_access('enforced', '1', 'SELECT', user_id => 'j\u{fc}rgen')",
    ] {
        expect_error(&admin.error(&format!("SELECT {call}")), "22P02", "ASCII");
    }
    admin.ok("SELECT set_tenant_context('u', 'a')");
}

/// The guard goes by what lookups will read, and takes a tenant that it cannot name for another one.
#[test]
fn the_guard_knows_that_there_are_tenants_it_cannot_name() {
    let ground = ground();
    let mut client = ground.database.connect(&ground.app);
    let mut attempt = |sql: &str, expected: Option<&str>| {
        client.ok(
            "BEGIN; SET LOCAL app.current_user_id = 'boss'; SET LOCAL app.current_tenant_id = 'a'",
        );
        match expected {
            None => client.ok(sql),
            Some(detail) => expect_error(&client.error(sql), "42501", detail),
        }
        client.ok("ROLLBACK");
    };
    let elsewhere = Some("identity columns");
    for (sql, expected) in [
        (
            "UPDATE members SET role = 'user' WHERE (user_id, tenant_id) = ('u', 'a')",
            None,
        ),
        (
            "UPDATE members SET role = 'user' WHERE user_id = 'v'",
            elsewhere,
        ),
        ("DELETE FROM members WHERE user_id = 'v'", elsewhere),
        (
            "INSERT INTO members VALUES ('w', 'M\u{fc}ller', 'user')",
            elsewhere,
        ),
        // In A alone, or elsewhere as well.
        ("UPDATE profiles SET role = 'user' WHERE id = 'w'", None),
        (
            "UPDATE profiles SET role = 'admin' WHERE id = 'u'",
            elsewhere,
        ),
        (
            "UPDATE profiles SET role = 'user' WHERE id = 'v'",
            elsewhere,
        ),
        // Nobody can say what he may by the table of roles.
        (
            "DELETE FROM members WHERE user_id LIKE 'j%'",
            Some("cannot be looked up"),
        ),
    ] {
        attempt(sql, expected);
    }
}
