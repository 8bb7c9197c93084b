//! A binding through its life: replaced, taken away, under strange names, over partitions.

use pgrx_test::fixture::{ClientExt, Database, Server, expect_error, quote_ident, quote_literal};
use postgres::Client;

const A: &str = "aaaaaaaa-0000-0000-0000-000000000001";
const B: &str = "aaaaaaaa-0000-0000-0000-000000000002";

fn owned() -> (Database, Client) {
    let database = Database::new(Server::preloaded());
    let owner = database.role("owner");
    database.superuser().ok(&format!(
        "GRANT CREATE ON SCHEMA public TO {owner}; GRANT CREATE ON DATABASE {} TO {owner}",
        database.name
    ));
    let session = database.connect(&owner);
    (database, session)
}

fn triggers(session: &mut Client, table: &str) -> i64 {
    session.int(&format!(
        "SELECT count(*) FROM pg_trigger WHERE tgrelid = {}::regclass AND NOT tgisinternal",
        quote_literal(table)
    ))
}

fn tenant(session: &mut Client) -> Option<String> {
    session.text("SET LOCAL app.current_user_id = 'u'; SELECT current_tenant_id_text()")
}

#[test]
fn binding_again_replaces_and_takes_the_old_triggers_away() {
    let (_database, mut owner) = owned();
    owner.ok(&format!(
        "CREATE TABLE one (user_id text PRIMARY KEY, tenant_id uuid); CREATE TABLE two (LIKE one INCLUDING ALL);
         CREATE TABLE kid () INHERITS (one);
         CREATE TABLE tenants (id uuid PRIMARY KEY, active boolean);
         INSERT INTO one VALUES ('u', '{A}'); INSERT INTO two VALUES ('u', '{B}'); INSERT INTO tenants VALUES ('{A}', true), ('{B}', true);
         SELECT tenancy.bind(membership => 'one', tenants => 'tenants', tenants_active => 'active')"));
    assert_eq!(tenant(&mut owner).as_deref(), Some(A));
    let all = triggers(&mut owner, "one");
    assert!(
        all > 0 && triggers(&mut owner, "kid") == all && triggers(&mut owner, "tenants") == all
    );
    owner.ok("SELECT tenancy.bind(membership => 'two')");
    assert_eq!(tenant(&mut owner).as_deref(), Some(B));
    for table in ["one", "kid", "tenants"] {
        assert_eq!(triggers(&mut owner, table), 0, "{table}");
    }
    assert_eq!(triggers(&mut owner, "two"), all);
    // The same again changes nothing.
    owner.ok("SELECT tenancy.bind(membership => 'two'); SELECT tenancy.bind(membership => 'two')");
    assert_eq!(triggers(&mut owner, "two"), all);
    owner.ok("SELECT tenancy.unbind()");
    assert_eq!(triggers(&mut owner, "two"), 0);
    assert_eq!(owner.int("SELECT count(*) FROM tenancy.binding"), 0);
    assert_eq!(tenant(&mut owner), None);
    expect_error(
        &owner.error("SELECT tenancy.unbind()"),
        "42704",
        "missing_ok",
    );
    owner.ok("SELECT tenancy.unbind(missing_ok => true)");
}

#[test]
fn a_table_that_was_bound_can_be_written_freely_again() {
    let (database, mut owner) = owned();
    let app = database.role("app");
    owner.ok(&format!(
        "CREATE TABLE one (user_id text PRIMARY KEY, tenant_id uuid); CREATE TABLE two (LIKE one INCLUDING ALL);
         GRANT ALL ON one, two TO {app}; GRANT USAGE ON SCHEMA public TO {app};
         SELECT tenancy.bind(membership => 'one')"));
    let mut session = database.connect(&app);
    let insert = |table: &str, user: &str| format!("INSERT INTO {table} VALUES ('{user}', '{A}')");
    expect_error(
        &session.error(&insert("one", "u")),
        "42501",
        "identity columns",
    );
    owner.ok("SELECT tenancy.bind(membership => 'two')");
    session.ok(&insert("one", "u"));
    expect_error(
        &session.error(&insert("two", "u")),
        "42501",
        "identity columns",
    );
    owner.ok("SELECT tenancy.unbind()");
    session.ok(&insert("two", "u"));
}

#[test]
fn a_binding_whose_table_is_gone_can_be_mended_or_taken_away() {
    let (database, mut owner) = owned();
    let mut root = database.superuser();
    let make = "CREATE TABLE one (user_id text PRIMARY KEY, tenant_id uuid); CREATE TABLE tenants (id uuid PRIMARY KEY);
                SELECT tenancy.bind(membership => 'one', tenants => 'tenants')";
    owner.ok(make);
    owner.ok("DROP TABLE one");
    let error = owner.error("SET LOCAL app.current_user_id = 'u'; SELECT current_tenant_id()");
    expect_error(&error, "42P01", "bound relation public.one does not exist");
    assert_eq!(
        root.text("SELECT state FROM tenancy.status() WHERE feature = 'binding'")
            .as_deref(),
        Some("broken")
    );
    // Its owner can still write the table that is left.
    owner.ok(&format!("INSERT INTO tenants VALUES ('{A}')"));
    root.ok("SELECT tenancy.unbind()");
    assert_eq!(triggers(&mut owner, "tenants"), 0);
    assert_eq!(tenant(&mut owner), None);
    owner.ok("DROP TABLE tenants");
    owner.ok(make);
    owner.ok("DROP TABLE one; CREATE TABLE three (user_id text PRIMARY KEY, tenant_id uuid)");
    root.ok("SELECT tenancy.bind(membership => 'three')");
    assert_eq!(triggers(&mut owner, "tenants"), 0);
    assert_eq!(tenant(&mut owner), None);
}

#[test]
fn unbind_is_refused_while_tables_are_protected() {
    let (_database, mut owner) = owned();
    owner.ok("CREATE TABLE one (user_id text PRIMARY KEY, tenant_id uuid); CREATE TABLE docs (tenant_id uuid NOT NULL);
              SELECT tenancy.bind(membership => 'one');
              SELECT tenancy.protect_table('docs', mode => 'enforce')");
    let before = owner.rows("SELECT * FROM tenancy.binding");
    expect_error(
        &owner.error("SELECT tenancy.unbind()"),
        "55000",
        "unprotect_table",
    );
    assert_eq!(before, owner.rows("SELECT * FROM tenancy.binding"));
    assert!(triggers(&mut owner, "one") > 0);
    owner.ok("SELECT tenancy.unprotect_table('docs'); SELECT tenancy.unbind()");
}

#[test]
fn strange_names_work_in_every_position() {
    let long = "ü".repeat(31) + "x";
    for name in [
        "Weird Table",
        "with.dot",
        "qu\"ote",
        "it's",
        "select",
        "a\\b",
        "$1a",
        "-- x",
        long.as_str(),
    ] {
        let (database, mut owner) = owned();
        let (app, q) = (database.role("app"), quote_ident(name));
        let l = quote_literal(name);
        let other = quote_ident(&name.to_uppercase());
        let relation = quote_literal(&format!("{q}.{q}"));
        let role_column = format!(
            "r{}",
            &name[..name.chars().next().map_or(1, char::len_utf8)]
        );
        owner.ok(&format!(
            "CREATE SCHEMA {q};
             CREATE TYPE {q}.kind AS ENUM ({l}, 'admin');
             CREATE TABLE {q}.{q} ({q} text, t uuid, r {q}.kind, a boolean DEFAULT true, nick text);
             CREATE TABLE {q}.{other} ({q} uuid PRIMARY KEY, a boolean DEFAULT true);
             INSERT INTO {q}.{q} VALUES ('u', '{A}', {l}); INSERT INTO {q}.{other} VALUES ('{A}');
             GRANT USAGE ON SCHEMA {q} TO {app}; GRANT ALL ON ALL TABLES IN SCHEMA {q} TO {app};
             ALTER TABLE {q}.{q} RENAME a TO {other};
             ALTER TABLE {q}.{q} RENAME r TO {r};
             ALTER TABLE {q}.{q} RENAME t TO {t}",
            r = quote_ident(&role_column),
            t = quote_ident("T t"),
        ));
        owner.ok(&format!(
            "SELECT tenancy.bind(membership => {relation}, membership_user => {l}, membership_tenant => 'T t', membership_role => {role}, membership_active => {active},
                tenants => {tenants}, tenants_id => {l}, tenants_active => 'a', admin_roles => ARRAY[{l}], super_admin_roles => '{{}}')",
            role = quote_literal(&role_column),
            active = quote_literal(&other),
            tenants = quote_literal(&format!("{q}.{other}")),
        ));
        assert_eq!(tenant(&mut owner).as_deref(), Some(A), "{name}");
        assert_eq!(
            owner
                .text("SET LOCAL app.current_user_id = 'u'; SELECT current_tenant_role()")
                .as_deref(),
            Some(name)
        );
        assert_eq!(
            owner
                .text("SELECT state FROM tenancy.status() WHERE feature = 'cache'")
                .as_deref(),
            Some("on"),
            "{name}"
        );
        let mut session = database.connect(&app);
        let r = quote_ident(&role_column);
        expect_error(
            &session.error(&format!("UPDATE {q}.{q} SET {r} = 'admin'")),
            "42501",
            "identity columns",
        );
        expect_error(
            &session.error(&format!("UPDATE {q}.{q} SET {other} = false")),
            "42501",
            "identity columns",
        );
        session.ok(&format!("UPDATE {q}.{q} SET nick = 'x'"));
        owner.ok("SELECT tenancy.unbind()");
        assert_eq!(triggers(&mut owner, &format!("{q}.{q}")), 0);
    }
}

#[test]
fn renamed_tables_and_columns_are_followed_or_reported() {
    let (database, mut owner) = owned();
    owner.ok(&format!(
        "CREATE TABLE one (user_id text PRIMARY KEY, tenant_id uuid, role text); INSERT INTO one VALUES ('u', '{A}', 'x');
         SELECT tenancy.bind(membership => 'one', membership_role => 'role'); CREATE SCHEMA elsewhere"));
    let mut other = database.superuser();
    assert_eq!(tenant(&mut other).as_deref(), Some(A));
    owner.ok("ALTER TABLE one RENAME TO two");
    assert_eq!(tenant(&mut other).as_deref(), Some(A));
    owner.ok("ALTER TABLE two SET SCHEMA elsewhere");
    assert_eq!(tenant(&mut other).as_deref(), Some(A));
    owner.ok("ALTER TABLE elsewhere.two RENAME role TO kind");
    let error = other.error("SET LOCAL app.current_user_id = 'u'; SELECT current_tenant_id()");
    expect_error(&error, "42703", "role");
    owner.ok("ALTER TABLE elsewhere.two RENAME kind TO role");
    assert_eq!(tenant(&mut other).as_deref(), Some(A));
    owner.ok("ALTER TABLE elsewhere.two ALTER tenant_id TYPE text");
    let error = other.error("SET LOCAL app.current_user_id = 'u'; SELECT current_tenant_id()");
    expect_error(&error, "42804", "text");
}

#[test]
fn partitions_attached_and_detached_later_are_watched() {
    let (database, mut owner) = owned();
    owner.ok(&format!(
        "CREATE TABLE members (user_id text, tenant_id uuid, role text) PARTITION BY LIST (tenant_id);
         CREATE TABLE members_a PARTITION OF members FOR VALUES IN ('{A}');
         CREATE INDEX ON members (user_id);
         SELECT tenancy.bind(membership => 'members', membership_role => 'role')"));
    let mut other = database.superuser();
    let cache = "SELECT state FROM tenancy.status() WHERE feature = 'cache'";
    assert_eq!(tenant(&mut other), None);
    owner.ok(&format!("INSERT INTO members VALUES ('u', '{A}', 'x')"));
    assert_eq!(tenant(&mut other).as_deref(), Some(A));
    owner.ok(&format!("DELETE FROM members; CREATE TABLE members_b (user_id text, role text, tenant_id uuid); INSERT INTO members_b VALUES ('u', 'y', '{B}')"));
    assert_eq!(tenant(&mut other), None);
    owner.ok(&format!(
        "ALTER TABLE members ATTACH PARTITION members_b FOR VALUES IN ('{B}')"
    ));
    assert_eq!(tenant(&mut other).as_deref(), Some(B));
    assert_eq!(other.text(cache).as_deref(), Some("on"));
    owner.ok("UPDATE members_b SET role = 'z'");
    assert_eq!(
        other
            .text("SET LOCAL app.current_user_id = 'u'; SELECT current_tenant_role()")
            .as_deref(),
        Some("z")
    );
    owner.ok("ALTER TABLE members DETACH PARTITION members_b");
    assert_eq!(tenant(&mut other), None);
    assert_eq!(triggers(&mut owner, "members_b"), 0);
    owner.ok("CREATE TABLE members_rest PARTITION OF members DEFAULT PARTITION BY HASH (user_id);
              CREATE TABLE members_r0 PARTITION OF members_rest FOR VALUES WITH (MODULUS 1, REMAINDER 0)");
    owner.ok(&format!(
        "INSERT INTO members_r0 VALUES ('u', '{B}', 'deep')"
    ));
    assert_eq!(
        other
            .text("SET LOCAL app.current_user_id = 'u'; SELECT current_tenant_role()")
            .as_deref(),
        Some("deep")
    );
    assert_eq!(other.text(cache).as_deref(), Some("on"));
    owner.ok("SELECT tenancy.unbind()");
    for table in ["members", "members_a", "members_rest", "members_r0"] {
        assert_eq!(triggers(&mut owner, table), 0, "{table}");
    }
}

#[test]
fn an_inheritance_child_made_later_ends_caching_until_it_is_bound() {
    let (database, mut owner) = owned();
    owner.ok(
        "CREATE TABLE members (user_id text PRIMARY KEY, tenant_id uuid, role text);
              SELECT tenancy.bind(membership => 'members', membership_role => 'role')",
    );
    let mut other = database.superuser();
    let cache = "SELECT state FROM tenancy.status() WHERE feature = 'cache'";
    assert_eq!(other.text(cache).as_deref(), Some("on"));
    let guard = "SELECT state FROM tenancy.status() WHERE feature = 'guard'";
    assert_eq!(other.text(guard).as_deref(), Some("on"));
    owner.ok("CREATE TABLE kid () INHERITS (members)");
    assert_eq!(other.text(cache).as_deref(), Some("off"));
    assert_eq!(other.text(guard).as_deref(), Some("off"));
    owner.ok(&format!("INSERT INTO kid VALUES ('u', '{A}', 'x')"));
    assert_eq!(tenant(&mut other).as_deref(), Some(A));
    owner.ok("DELETE FROM kid");
    assert_eq!(tenant(&mut other), None);
    owner.ok("SELECT tenancy.bind(membership => 'members', membership_role => 'role')");
    assert_eq!(other.text(cache).as_deref(), Some("on"));
    assert_eq!(other.text(guard).as_deref(), Some("on"));
    owner.ok("ALTER TABLE kid DISABLE TRIGGER tenancy_identity_guard");
    assert_eq!(other.text(guard).as_deref(), Some("off"));
    owner.ok("SELECT tenancy.bind(membership => 'members', membership_role => 'role')");
    assert_eq!(other.text(guard).as_deref(), Some("on"));
    assert!(triggers(&mut owner, "kid") > 0);
}

#[test]
fn drop_extension_with_a_binding_leaves_no_trace() {
    let (database, mut owner) = owned();
    let app = database.role("app");
    owner.ok(&format!(
        "CREATE TABLE members (user_id text, tenant_id uuid, role text) PARTITION BY LIST (tenant_id);
         CREATE TABLE members_a PARTITION OF members DEFAULT;
         CREATE TABLE plain (id text PRIMARY KEY, role text); CREATE TABLE kid () INHERITS (plain);
         CREATE TABLE tenants (id uuid PRIMARY KEY, active boolean);
         GRANT ALL ON ALL TABLES IN SCHEMA public TO {app}"));
    let mut root = database.superuser();
    let before = database.psql(
        "postgres",
        "\\d+ members\n\\d+ members_a\n\\d+ plain\n\\d+ kid\n\\d+ tenants\n",
    );
    owner.ok("SELECT tenancy.bind(membership => 'members', role_table => 'plain', tenants => 'tenants', tenants_active => 'active')");
    root.ok("DROP EXTENSION pg_tenancy");
    for table in ["members", "members_a", "plain", "kid", "tenants"] {
        assert_eq!(triggers(&mut root, table), 0, "{table}");
    }
    assert_eq!(
        before,
        database.psql(
            "postgres",
            "\\d+ members\n\\d+ members_a\n\\d+ plain\n\\d+ kid\n\\d+ tenants\n"
        )
    );
    assert_eq!(
        root.int("SELECT count(*) FROM pg_namespace WHERE nspname = 'tenancy'"),
        0
    );
    assert_eq!(
        root.int("SELECT count(*) FROM pg_event_trigger WHERE evtname LIKE 'pg_tenancy%'"),
        0
    );
    let mut session = database.connect(&app);
    session.ok(&format!("INSERT INTO members VALUES ('u', '{A}', 'super_admin'); SET app.current_user_id = 'u'; SELECT count(*) FROM members"));
    // The same sessions carry on with a new one.
    root.ok("CREATE EXTENSION pg_tenancy");
    assert_eq!(tenant(&mut owner), None);
    owner.ok("SELECT tenancy.bind(membership => 'members')");
    assert_eq!(tenant(&mut owner).as_deref(), Some(A));
}

#[test]
fn the_registry_holds_no_type_that_pg_upgrade_refuses() {
    let database = Database::new(Server::preloaded());
    let mut root = database.superuser();
    let types = root.rows(
        "SELECT c.relname, a.attname, a.atttypid::regtype FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         WHERE c.relnamespace = 'tenancy'::regnamespace AND c.relkind IN ('r', 'p', 'm') AND a.attnum > 0 AND NOT a.attisdropped
           AND (a.atttypid IN ('regproc'::regtype, 'regprocedure'::regtype, 'regoper'::regtype, 'regoperator'::regtype,
                'regconfig'::regtype, 'regdictionary'::regtype, 'regnamespace'::regtype, 'regcollation'::regtype,
                'regclass'::regtype, 'regrole'::regtype, 'regtype'::regtype, 'aclitem'::regtype, 'xid'::regtype)
             OR a.atttypid::regtype::text LIKE 'reg%')");
    assert!(types.is_empty(), "{types:?}");
    assert!(root.int("SELECT count(*) FROM pg_class WHERE relnamespace = 'tenancy'::regnamespace AND relkind = 'r'") >= 3);
}
