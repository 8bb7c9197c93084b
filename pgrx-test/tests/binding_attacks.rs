//! A table owner who is not a superuser: through what he binds he runs nothing with rights that he
//! lacks, and takes no binding from anybody.

use pgrx_test::fixture::{ClientExt, Database, Server, expect_error};
use postgres::Client;

struct Attacker {
    database: Database,
    name: String,
}

impl Attacker {
    fn new() -> Attacker {
        let database = Database::new(Server::preloaded());
        let name = database.role("attacker");
        database
            .superuser()
            .ok(&format!("CREATE SCHEMA lair AUTHORIZATION {name}"));
        let attacker = Attacker { database, name };
        attacker.session().ok(
            "CREATE TABLE lair.members (user_id text PRIMARY KEY, tenant_id uuid, role text, active boolean DEFAULT true);
             INSERT INTO lair.members VALUES ('u', 'aaaaaaaa-0000-0000-0000-000000000001', 'member')");
        attacker
    }

    fn session(&self) -> Client {
        self.database.connect(&self.name)
    }

    fn bind(&self, active: &str) -> String {
        format!(
            "SELECT tenancy.bind(membership => 'lair.members', membership_role => 'role', membership_active => $x${active}$x$)"
        )
    }

    /// A superuser who happens to have a context, and one who has the bound table read.
    fn lure(&self) -> Vec<String> {
        let mut root = self.database.superuser();
        let mut said = Vec::new();
        for sql in [
            "SET app.current_user_id = 'u'; SELECT current_tenant_id()",
            "SET app.current_user_id = 'u'; SELECT get_user_tenant_context()",
            "SET app.current_user_id = 'u'; UPDATE lair.members SET role = 'x'",
            "SELECT tenancy.status()",
        ] {
            said.push(match root.batch_execute(sql) {
                Ok(()) => "ok".to_owned(),
                Err(error) => error.as_db_error().unwrap().message().to_owned(),
            });
        }
        said
    }

    fn is_superuser(&self) -> bool {
        self.database
            .superuser()
            .text(&format!(
                "SELECT rolsuper FROM pg_roles WHERE rolname = '{}'",
                self.name
            ))
            .as_deref()
            == Some("t")
    }
}

/// Every body is tried as the expression's function; what it says about who it runs as is noted by an
/// exception, because a lookup writes nothing.
#[test]
fn a_function_in_the_expression_runs_as_the_tables_owner_and_restricted() {
    let attacker = Attacker::new();
    for (body, expected) in [
        (
            format!(
                "EXECUTE 'ALTER ROLE {} SUPERUSER'; RETURN true",
                attacker.name
            ),
            "ALTER ROLE is not allowed in a non-volatile function|must be superuser|permission denied",
        ),
        (
            "SET ROLE postgres; RETURN true".into(),
            "cannot set parameter \"role\" within security-definer function",
        ),
        (
            "RESET ROLE; RETURN true".into(),
            "cannot set parameter \"role\" within security-definer function",
        ),
        (
            "PERFORM set_config('role', 'postgres', false); RETURN true".into(),
            "cannot set parameter \"role\" within security-definer function",
        ),
        (
            "PERFORM set_config('session_authorization', 'postgres', false); RETURN true".into(),
            "cannot set parameter \"session_authorization\" within security-definer function",
        ),
        (
            "PERFORM set_config('session_replication_role', 'replica', false); RETURN true".into(),
            "permission denied to set parameter",
        ),
        (
            "PERFORM pg_read_file('PG_VERSION'); RETURN true".into(),
            "permission denied for function pg_read_file",
        ),
        (
            "CREATE TEMP TABLE t (a int); RETURN true".into(),
            "within security-restricted operation",
        ),
        (
            "RAISE 'I am %', current_user; RETURN true".into(),
            &*format!("I am {}", attacker.name),
        ),
    ] {
        let mut session = attacker.session();
        session.ok(&format!("CREATE OR REPLACE FUNCTION lair.evil() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $f$ BEGIN {body}; END $f$"));
        session.ok(&attacker.bind("lair.evil()"));
        let said = attacker.lure();
        assert!(!attacker.is_superuser(), "{body}");
        assert!(
            expected.split('|').any(|part| said[0].contains(part)),
            "{body}: {said:?}"
        );
    }
}

#[test]
fn an_expression_may_not_reach_out_of_its_place() {
    let attacker = Attacker::new();
    let mut session = attacker.session();
    for expression in [
        "true) UNION SELECT tenant_id, 'super_admin' FROM lair.members WHERE (true",
        "true) OR (true",
        "true) AND (true",
        "true; DROP TABLE lair.members; --",
        "true) --",
        "true /*",
        "true), (true",
        "true, true",
        "true AS x",
        "true FROM lair.members",
        "DISTINCT true",
        "true ORDER BY 1",
        "true LIMIT 1",
        "true INTO lair.x",
        "true UNION SELECT true",
        "WITH x AS (SELECT 1) SELECT true",
        "true FOR UPDATE",
        "",
        "$1 IS NOT NULL",
        "active = $1",
        "SELECT true",
        "*",
        "1",
        "'x'",
        "role",
        "count(*) > 0",
        "row_number() OVER () = 1",
        "generate_series(1, 2) = 1",
        "nosuchcolumn",
        "nosuchfunction(role)",
        "EXISTS (WITH d AS (DELETE FROM lair.members RETURNING 1) SELECT FROM d)",
        "(SELECT true, true)",
    ] {
        if expression.is_empty() {
            continue; // The same as none.
        }
        let error = session.error(&attacker.bind(expression));
        let code = error.code().code();
        assert!(
            code.starts_with("42") || code == "22023" || code == "22P02" || code == "0A000",
            "{expression}: {error:?}"
        );
        assert_eq!(
            session.int("SELECT count(*) FROM tenancy.binding"),
            0,
            "{expression}"
        );
        assert_eq!(
            session.int("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'lair.members'::regclass"),
            0,
            "{expression}"
        );
    }
}

#[test]
fn plain_expressions_and_comments_are_understood() {
    let attacker = Attacker::new();
    let mut session = attacker.session();
    for (expression, context) in [
        ("active", true),
        ("NOT active", false),
        ("active -- until further notice", true),
        ("active /* ) OR (true */ AND role = 'member'", true),
        ("role IN ('member', 'it''s')", true),
        ("role <> ')' OR false", true),
        ("EXISTS (SELECT FROM pg_catalog.pg_class)", true),
        (r"role <> '\'", true),
        (r"role = E'me\x6dber'", true),
    ] {
        session.ok(&attacker.bind(expression));
        for strings in ["on", "off"] {
            let mut user = attacker.session();
            user.ok(&format!("SET standard_conforming_strings = {strings}"));
            assert_eq!(
                user.text("SET app.current_user_id = 'u'; SELECT current_tenant_id()")
                    .is_some(),
                context,
                "{expression} {strings}"
            );
        }
    }
}

#[test]
fn a_later_owner_of_the_table_does_not_run_the_expression_of_the_earlier() {
    let attacker = Attacker::new();
    let mut session = attacker.session();
    session.ok("CREATE FUNCTION lair.evil() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'I am %', current_user; END $$");
    session.ok(&attacker.bind("lair.evil()"));
    let heir = attacker.database.role("heir");
    attacker
        .database
        .superuser()
        .ok(&format!("GRANT USAGE ON SCHEMA lair TO {heir}"));
    for owner in ["postgres", &heir] {
        attacker
            .database
            .superuser()
            .ok(&format!("ALTER TABLE lair.members OWNER TO {owner}"));
        for said in &attacker.lure()[..2] {
            assert!(
                said.contains("rights that its author lacks"),
                "{owner}: {said}"
            );
        }
    }
    // Mended by whoever owns it now.
    attacker.database.superuser().ok(&attacker.bind("active"));
    assert_eq!(attacker.lure()[0], "ok");
}

/// Whoever may create in the schema makes a function, or an operator, that fits the expression better.
#[test]
fn nobody_slips_a_function_into_an_expression() {
    for (made, expression, slipped) in [
        (
            "CREATE FUNCTION lair.good(varchar) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
            "lair.good(role)",
            "CREATE FUNCTION lair.good(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'I am %', current_user; END $$",
        ),
        (
            "CREATE FUNCTION lair.good(varchar) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
            "(SELECT lair.good(r) FROM (SELECT role AS r) x)",
            "CREATE FUNCTION lair.good(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'I am %', current_user; END $$",
        ),
        (
            "CREATE FUNCTION lair.same(varchar, varchar) RETURNS boolean LANGUAGE sql AS 'SELECT true';
             CREATE OPERATOR lair.~~~ (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = lair.same)",
            "role OPERATOR(lair.~~~) role",
            "CREATE OPERATOR lair.~~~ (LEFTARG = text, RIGHTARG = text, FUNCTION = lair.evil)",
        ),
    ] {
        let attacker = Attacker::new();
        let other = attacker.database.role("other");
        let mut owner = attacker.session();
        owner.ok(&format!("{made}; GRANT USAGE, CREATE ON SCHEMA lair TO {other}"));
        owner.ok(&attacker.bind(expression));
        let mut intruder = attacker.database.connect(&other);
        intruder.ok("CREATE FUNCTION lair.evil(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'I am %', current_user; END $$");
        let mut user = attacker.session();
        let ask = "SET app.current_user_id = 'u'; SELECT current_tenant_id()";
        assert!(user.text(ask).is_some(), "{expression}");
        intruder.ok(slipped);
        for session in [&mut user, &mut attacker.session()] {
            expect_error(&session.error(ask), "42501", "code with rights that he lacks");
        }
        expect_error(&owner.error(&attacker.bind(expression)), "42501", "relation or type to");
        owner.ok(&attacker.bind("active"));
        assert!(user.text(ask).is_some(), "{expression}");
    }
}

#[test]
fn an_administrator_does_not_run_expressions_with_an_owners_rights() {
    let attacker = Attacker::new();
    let admin = attacker.database.role("tenancy_admin");
    attacker.database.superuser().ok(&format!(
        "ALTER DATABASE {} SET pg_tenancy.admin_role = '{admin}'; GRANT USAGE ON SCHEMA lair TO {admin}", attacker.database.name));
    let mut session = attacker.database.connect(&admin);
    expect_error(
        &session.error(&attacker.bind("active")),
        "42501",
        "rights that its author lacks",
    );
    session.ok("SELECT tenancy.bind(membership => 'lair.members', membership_role => 'role')");
}

#[test]
fn casts_of_a_users_type_are_not_called() {
    let attacker = Attacker::new();
    let mut session = attacker.session();
    session.ok(
        "CREATE TYPE lair.rank AS ENUM ('member', 'admin');
         CREATE FUNCTION lair.evil_cast(lair.rank) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'I am %', current_user; END $$;
         CREATE CAST (lair.rank AS text) WITH FUNCTION lair.evil_cast(lair.rank);
         ALTER TABLE lair.members ALTER role TYPE lair.rank USING 'admin'");
    session.ok("SELECT tenancy.bind(membership => 'lair.members', membership_role => 'role')");
    attacker
        .database
        .superuser()
        .ok("ALTER TABLE lair.members OWNER TO postgres");
    let mut root = attacker.database.superuser();
    assert_eq!(
        root.text("SET app.current_user_id = 'u'; SELECT current_tenant_role()")
            .as_deref(),
        Some("admin")
    );
}

#[test]
fn a_trigger_on_the_bound_table_runs_in_no_lookup() {
    let attacker = Attacker::new();
    let mut session = attacker.session();
    session.ok(
        "CREATE FUNCTION lair.evil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'I am %', current_user; END $$;
         CREATE TRIGGER evil BEFORE INSERT OR UPDATE OR DELETE ON lair.members FOR EACH ROW EXECUTE FUNCTION lair.evil();
         CREATE TRIGGER evil_truncate BEFORE TRUNCATE ON lair.members FOR EACH STATEMENT EXECUTE FUNCTION lair.evil()");
    session.ok(&attacker.bind("active"));
    let said = attacker.lure();
    assert_eq!((&*said[0], &*said[1]), ("ok", "ok"));
}

#[test]
fn a_view_cannot_be_bound_and_cannot_take_a_tables_place() {
    let attacker = Attacker::new();
    let mut session = attacker.session();
    session.ok("CREATE VIEW lair.v AS SELECT * FROM lair.members");
    let error = session.error("SELECT tenancy.bind(membership => 'lair.v')");
    expect_error(&error, "42809", "cannot be bound");
    session.ok(&attacker.bind("active"));
    session.ok("ALTER TABLE lair.members RENAME TO moved;
        CREATE FUNCTION lair.evil() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'I am %', current_user; END $$;
        CREATE VIEW lair.members AS SELECT user_id, tenant_id, lair.evil() AS role, active FROM lair.moved");
    let said = attacker.lure();
    assert!(!said[0].contains("I am"), "{said:?}");
    assert!(!said[1].contains("I am"), "{said:?}");
}

#[test]
fn owning_some_table_does_not_give_the_binding_of_another() {
    let database = Database::new(Server::preloaded());
    let (owner, stranger) = (database.role("owner"), database.role("stranger"));
    let mut root = database.superuser();
    root.ok(&format!(
        "GRANT CREATE ON SCHEMA public TO {owner}, {stranger}"
    ));
    database.connect(&owner).ok(
        "CREATE TABLE members (user_id text PRIMARY KEY, tenant_id uuid, role text);
         SELECT tenancy.bind(membership => 'members', membership_role => 'role')",
    );
    let mut session = database.connect(&stranger);
    session.ok("CREATE TABLE mine (user_id text, tenant_id uuid)");
    let before = root.rows("SELECT * FROM tenancy.binding");
    for sql in [
        "SELECT tenancy.bind(membership => 'mine')",
        "SELECT tenancy.bind(membership => 'members')",
        "SELECT tenancy.bind(membership => 'mine', role_table => 'members', role_user => 'user_id')",
        "SELECT tenancy.bind(tenant_setting => 'my.tenant')",
        "SELECT tenancy.unbind()",
        "SELECT tenancy.unbind(missing_ok => true)",
    ] {
        let error = session.error(sql);
        expect_error(&error, "42501", "must be owner");
        assert!(error.hint().is_some(), "{sql}");
    }
    assert_eq!(before, root.rows("SELECT * FROM tenancy.binding"));
    // Nor where the bound table is gone.
    database.connect(&owner).ok("DROP TABLE members");
    for sql in [
        "SELECT tenancy.bind(membership => 'mine')",
        "SELECT tenancy.unbind()",
    ] {
        expect_error(
            &session.error(sql),
            "42501",
            "must be owner of the database",
        );
    }
    root.ok("SELECT tenancy.unbind()");
    // A binding without tables belongs to the owner of the database.
    root.ok("SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id')");
    expect_error(
        &session.error("SELECT tenancy.bind(membership => 'mine')"),
        "42501",
        "must be owner of the database",
    );
}

#[test]
fn whoever_takes_a_bound_tables_name_is_not_believed() {
    let database = Database::new(Server::preloaded());
    let (owner, thief) = (database.role("owner"), database.role("thief"));
    let mut root = database.superuser();
    root.ok(&format!(
        "GRANT CREATE ON SCHEMA public TO {owner}, {thief}"
    ));
    let mut own = database.connect(&owner);
    let create = "CREATE TABLE members (user_id text PRIMARY KEY, tenant_id uuid, role text)";
    let rob = format!(
        "{create}; INSERT INTO members VALUES ('u', 'aaaaaaaa-0000-0000-0000-000000000002', 'super_admin')"
    );
    own.ok(&format!("{create}; INSERT INTO members VALUES ('u', 'aaaaaaaa-0000-0000-0000-000000000001', 'member');
        SELECT tenancy.bind(membership => 'members', membership_role => 'role')"));
    let mut user = database.connect(&thief);
    assert_eq!(
        user.text("SET app.current_user_id = 'u'; SELECT current_tenant_role()")
            .as_deref(),
        Some("member")
    );

    own.ok("ALTER TABLE members RENAME TO members_2");
    user.ok(&rob);
    assert_eq!(
        user.text("SET app.current_user_id = 'u'; SELECT current_tenant_role()")
            .as_deref(),
        Some("member"),
        "renamed"
    );
    user.ok("DROP TABLE members");

    own.ok("DROP TABLE members_2");
    user.ok(&rob);
    let error = user.error("SET app.current_user_id = 'u'; SELECT current_tenant_role()");
    expect_error(&error, "42P01", "another role made a relation of that name");
    user.ok("DROP TABLE members");

    // The owner himself may make it anew; until he binds it, nothing is cached.
    own.ok(&rob);
    assert_eq!(
        user.text("SET app.current_user_id = 'u'; SELECT current_tenant_role()")
            .as_deref(),
        Some("super_admin")
    );
    own.ok("UPDATE members SET role = 'member'");
    assert_eq!(
        user.text("SET app.current_user_id = 'u'; SELECT current_tenant_role()")
            .as_deref(),
        Some("member")
    );
    assert_eq!(
        root.text("SELECT state FROM tenancy.status() WHERE feature = 'cache'")
            .as_deref(),
        Some("off")
    );
}

#[test]
fn a_schema_of_that_name_without_the_extension_is_not_believed() {
    let database = Database::empty(Server::preloaded());
    let squatter = database.role("squatter");
    database
        .superuser()
        .ok(&format!("CREATE SCHEMA tenancy AUTHORIZATION {squatter}"));
    let mut session = database.connect(&squatter);
    session.ok(
        "CREATE TABLE tenancy.binding_definition (definition jsonb, bound_by name);
         INSERT INTO tenancy.binding_definition VALUES ('{}', 'postgres');
         CREATE TABLE tenancy.cache_sentinel ();
         CREATE TABLE tenancy.protection (schema_name name, table_name name, database_oid oid, relation_oid oid, mode text)");
    let mut root = database.superuser();
    root.ok("CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
    session.ok("INSERT INTO tenancy.protection SELECT 'public', 't', (SELECT oid FROM pg_database WHERE datname = current_database()), 't'::regclass, 'enforce'");
    root.ok(&format!("GRANT SELECT ON t TO {squatter}"));
    let mut fresh = database.connect(&squatter);
    assert_eq!(
        fresh.int("SET app.current_user_id = 'x'; SELECT a FROM t"),
        1
    );
}

/// A dump is restored without its roles, but nobody else's rights may be had by somebody who is gone.
#[test]
fn an_expression_whose_author_is_gone_counts_for_the_owner_of_then_alone() {
    let attacker = Attacker::new();
    let (author, heir) = (
        attacker.database.role("author"),
        attacker.database.role("heir"),
    );
    let mut root = attacker.database.superuser();
    root.ok(&format!("GRANT {} TO {author}", attacker.name));
    attacker
        .database
        .connect(&author)
        .ok(&attacker.bind("active"));
    root.ok(&format!("DROP ROLE {author}"));
    assert_eq!(attacker.lure()[0], "ok");
    root.ok(&format!(
        "GRANT USAGE ON SCHEMA lair TO {heir}; ALTER TABLE lair.members OWNER TO {heir}"
    ));
    let said = attacker.lure();
    assert!(said[0].contains("rights that its author lacks"), "{said:?}");
    // Whoever owns it now says so himself.
    attacker
        .database
        .connect(&heir)
        .ok(&attacker.bind("active"));
    assert_eq!(attacker.lure()[0], "ok");
}
