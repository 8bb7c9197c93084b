//! Attackers: who owns a source and wants to run code as a superuser or to read other tables, and who
//! owns no source and wants to be in the document.

mod document_setup;

use document_setup::{A, ANN, B, BOB, OWN, World, at};
use pgrx_test::fixture::{ClientExt, Server, expect_error};
use postgres::Client;

fn world() -> World {
    World::new(Server::preloaded())
}

/// A session of a superuser who has a context: everything of a source would run as him.
fn lured(world: &World, user: &str) -> Client {
    let mut root = world.admin();
    root.ok(&format!(
        "SET request.jwt.claims = '{{\"sub\":\"{user}\"}}'; SET pg_tenancy.context_scope = session"
    ));
    root.ok(&format!(
        "SET request.jwt.claims = '{{\"sub\":\"{user}\"}}'"
    ));
    root
}

#[test]
fn an_expression_runs_as_the_owner_of_its_table_and_restricted() {
    let world = world();
    let owner = world.owner.clone();
    for (body, expected) in [
        (
            format!("EXECUTE 'ALTER ROLE {owner} SUPERUSER'"),
            "not allowed in a non-volatile function|must be superuser|permission denied|SUPERUSER",
        ),
        ("SET ROLE postgres".into(), "cannot set parameter \"role\""),
        ("RESET ROLE".into(), "cannot set parameter \"role\""),
        (
            "PERFORM set_config('session_authorization', 'postgres', false)".into(),
            "cannot set parameter \"session_authorization\"",
        ),
        (
            "PERFORM pg_read_file('PG_VERSION')".into(),
            "permission denied for function pg_read_file",
        ),
        (
            "CREATE TEMP TABLE t (a int)".into(),
            "within security-restricted operation",
        ),
        (
            "PERFORM FROM private.salaries".into(),
            "permission denied for schema private",
        ),
        (
            "RAISE 'I am %', current_user".into(),
            &*format!("I am {owner}"),
        ),
    ] {
        world.admin().ok(
            "CREATE SCHEMA IF NOT EXISTS private; CREATE TABLE IF NOT EXISTS private.salaries ()",
        );
        let mut session = world.owner();
        session.ok(&format!(
            "CREATE OR REPLACE FUNCTION evil() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $f$ BEGIN {body}; RETURN true; END $f$;"
        ));
        for argument in [
            "visible => 'public.evil()'",
            "order_by => 'public.evil()'",
            "columns => '{public.evil() AS e}'",
            "joined => 'tenant_configurations', joined_on => 'public.evil()'",
        ] {
            session.ok(&format!(
                "SELECT tenancy.register_context('apps', 'tenant_apps', 'array', {argument})"
            ));
            let error = lured(&world, ANN).error(OWN);
            let said = error.detail().unwrap_or_default();
            assert!(
                expected.split('|').any(|part| said.contains(part)),
                "{body} as {argument}: {error:?}"
            );
        }
        assert_eq!(
            world
                .admin()
                .text(&format!(
                    "SELECT rolsuper FROM pg_roles WHERE rolname = '{owner}'"
                ))
                .as_deref(),
            Some("f")
        );
    }
}

/// Whoever may create in the schema makes a function that fits a registered expression better.
#[test]
fn nobody_slips_a_function_into_a_key() {
    let world = world();
    let other = world.db.role("other");
    let mut owner = world.owner();
    owner.ok(
        "CREATE FUNCTION fits(varchar) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true'",
    );
    world
        .admin()
        .ok(&format!("GRANT USAGE, CREATE ON SCHEMA public TO {other}"));
    let mut intruder = world.db.connect(&other);
    for argument in [
        "visible => 'public.fits(source.app_key::text)'",
        "order_by => 'public.fits(source.app_key::text)'",
        "columns => '{public.fits(source.app_key::text) AS e}'",
    ] {
        let register =
            format!("SELECT tenancy.register_context('apps', 'tenant_apps', 'array', {argument})");
        owner.ok(&register);
        let mut session = lured(&world, ANN);
        assert!(session.text(OWN).is_some(), "{argument}");
        intruder.ok("CREATE FUNCTION fits(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE 'I am %', current_user; END $$");
        for session in [&mut session, &mut lured(&world, ANN)] {
            expect_error(
                &session.error(OWN),
                "42501",
                "code with rights that he lacks",
            );
        }
        expect_error(&owner.error(&register), "42501", "rights that he lacks");
        intruder.ok("DROP FUNCTION fits(text)");
        assert!(session.text(OWN).is_some(), "{argument}");
    }
}

/// Nor a view that takes the place of a table that he dropped, nor a cast to JSON.
#[test]
fn nobody_slips_a_view_into_a_key() {
    let world = world();
    let other = world.db.role("other");
    let mut owner = world.owner();
    world
        .admin()
        .ok(&format!("GRANT USAGE, CREATE ON SCHEMA public TO {other}"));
    let mut intruder = world.db.connect(&other);
    intruder.ok(
        "CREATE FUNCTION evil() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'I am %', current_user; END $$;
         CREATE TYPE kind AS ENUM ('good')",
    );
    let hide = "CREATE TABLE hidden AS SELECT 'app-2'::text AS app_key";
    owner.ok(hide);
    let register = "SELECT tenancy.register_context('apps', 'tenant_apps', 'array',
        visible => 'NOT EXISTS (SELECT FROM public.hidden h WHERE h.app_key = source.app_key)')";
    owner.ok(register);
    let mut session = lured(&world, ANN);
    assert!(session.text(OWN).is_some());
    owner.ok("DROP TABLE hidden");
    intruder.ok("CREATE VIEW hidden AS SELECT evil() AS app_key; GRANT SELECT ON hidden TO PUBLIC");
    for session in [&mut session, &mut lured(&world, BOB)] {
        expect_error(
            &session.error(OWN),
            "42501",
            "code with rights that he lacks",
        );
    }
    expect_error(&owner.error(register), "42501", "rights that he lacks");
    intruder.ok("DROP VIEW hidden");
    owner.ok(hide);
    assert!(session.text(OWN).is_some());
    owner.ok("ALTER TABLE tenant_apps ADD kind kind DEFAULT 'good'");
    assert!(session.text(OWN).is_some());
    for columns in ["to_jsonb(source) AS whole", "to_jsonb(kind) AS kind"] {
        let register = format!(
            "SELECT tenancy.register_context('apps', 'tenant_apps', 'array', columns => '{{{columns}}}')"
        );
        expect_error(&owner.error(&register), "42501", "rights that he lacks");
    }
    owner
        .ok("SELECT tenancy.register_context('apps', 'tenant_apps', 'array', columns => '{kind}')");
    assert!(session.text(OWN).is_some());
}

/// What was registered by the former owner must not run as a superuser who is given the table.
#[test]
fn an_expression_does_not_follow_its_table_to_a_superuser() {
    let world = world();
    world.owner().ok("CREATE FUNCTION evil() RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN RAISE 'I am %', current_user; END $f$");
    for argument in [
        "visible => 'public.evil()'",
        "order_by => 'public.evil()'",
        "columns => '{public.evil() AS e}'",
        "joined => 'tenant_configurations', joined_on => 'public.evil()'",
    ] {
        world.owner().ok(&format!(
            "SELECT tenancy.register_context('apps', 'tenant_apps', 'array', {argument})"
        ));
        world.admin().ok("ALTER TABLE tenant_apps OWNER TO postgres; ALTER TABLE tenant_configurations OWNER TO postgres");
        let error = lured(&world, ANN).error(OWN);
        expect_error(&error, "42501", "rights that its author lacks");
        world.admin().ok(&format!(
            "ALTER TABLE tenant_apps OWNER TO {0}; ALTER TABLE tenant_configurations OWNER TO {0}",
            world.owner
        ));
    }
    // Columns alone run nobody's code.
    world.owner().ok(
        "SELECT tenancy.register_context('apps', 'tenant_apps', 'array', columns => '{app_key}')",
    );
    world
        .admin()
        .ok("ALTER TABLE tenant_apps OWNER TO postgres");
    assert_eq!(
        world
            .app_as(ANN)
            .int("SELECT jsonb_array_length(get_user_tenant_context() -> 'apps')"),
        20
    );
}

/// A cast to JSON is looked for by Postgres for types of anybody's, and would be called.
#[test]
fn a_cast_to_json_of_a_type_of_the_owners_is_not_called() {
    let world = world();
    world.owner().ok(&format!(
        "CREATE TYPE evil AS (a integer); CREATE TYPE evil_mood AS ENUM ('x');
         CREATE FUNCTION to_evil(evil) RETURNS json LANGUAGE plpgsql AS $f$ BEGIN RAISE 'called as %', current_user; END $f$;
         CREATE FUNCTION to_evil(evil_mood) RETURNS json LANGUAGE plpgsql AS $f$ BEGIN RAISE 'called as %', current_user; END $f$;
         CREATE CAST (evil AS json) WITH FUNCTION to_evil(evil); CREATE CAST (evil_mood AS json) WITH FUNCTION to_evil(evil_mood);
         CREATE DOMAIN evil_domain AS evil;
         CREATE TABLE evils (tenant_id uuid, e evil, m evil_mood, d evil_domain, es evil[]);
         INSERT INTO evils VALUES ('{A}', '(1)', 'x', '(2)', '{{\"(3)\"}}');
         SELECT tenancy.register_context('evils', 'evils', columns => '{{e, m, d, es}}')"
    ));
    world.admin().ok("ALTER TABLE evils OWNER TO postgres");
    assert_eq!(
        lured(&world, ANN).text(&at("{evils}")).as_deref(),
        Some(r#"{"d": "(2)", "e": "(1)", "m": "x", "es": "{(3)}"}"#)
    );
}

#[test]
fn text_does_not_reach_out_of_its_place() {
    let world = world();
    world
        .owner()
        .ok("CREATE TABLE private (secret text); INSERT INTO private VALUES ('s')");
    for argument in [
        "visible => 'true) OR (true'",
        "visible => 'true) -- '",
        "visible => 'true) UNION SELECT secret FROM private -- '",
        "visible => 'true /*'",
        "visible => 'true; DROP TABLE private'",
        "joined => 'tenant_configurations', joined_on => 'true) OR (true'",
        "order_by => 'app_key LIMIT 1'",
        "order_by => 'app_key FOR UPDATE'",
        "order_by => 'app_key) AS r; SELECT (1'",
        "order_by => 'app_key UNION SELECT secret FROM private'",
        "order_by => 'app_key; DROP TABLE private'",
        "order_by => 'app_key /*'",
        "columns => ARRAY['app_key FROM private --']",
        "columns => ARRAY['app_key, secret']",
        "columns => ARRAY['app_key FROM private']",
        "columns => ARRAY['app_key ORDER BY 1']",
        "columns => ARRAY['DISTINCT app_key']",
        "columns => ARRAY['app_key /*', '*/ AS b']",
        "columns => ARRAY['app_key; DROP TABLE private']",
        "columns => ARRAY['app_key INTO t']",
    ] {
        let error = world.owner().error(&format!(
            "SELECT tenancy.register_context('x', 'tenant_apps', 'array', {argument})"
        ));
        let code = error.code().code();
        assert!(matches!(code, "42601" | "22023"), "{argument}: {error:?}");
    }
    assert_eq!(world.owner().int("SELECT count(*) FROM private"), 1);
    // A comment at the end hides nothing that comes after it.
    world.owner().ok("SELECT tenancy.register_context('apps', 'tenant_apps', 'array', columns => ARRAY['app_key -- a', 'app_name AS n -- b'],
        visible => 'is_visible -- c', order_by => 'app_key -- d')");
    assert_eq!(
        world.app_as(BOB).text(&at("{apps,0,n}")).as_deref(),
        Some("Beta 1")
    );
}

/// Another role's functions and operators are not found, whatever the caller's search_path.
#[test]
fn a_callers_search_path_changes_nothing() {
    let world = world();
    let expected = world.by_hand(ANN);
    world.admin().ok(&format!(
        "CREATE SCHEMA lair; GRANT ALL ON SCHEMA lair TO {0}; ALTER DATABASE {1} SET search_path = lair, public;
         ALTER ROLE {0} SET search_path = lair, pg_catalog, public",
        world.app, world.db.name
    ));
    let mut app = world.app_as(ANN);
    app.ok("CREATE FUNCTION lair.evil(uuid, uuid) RETURNS boolean LANGUAGE sql AS 'SELECT true';
            CREATE OPERATOR lair.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = lair.evil);
            CREATE FUNCTION lair.coalesce_evil() RETURNS text LANGUAGE sql AS 'SELECT NULL';
            CREATE FUNCTION lair.to_jsonb(anyelement) RETURNS jsonb LANGUAGE sql AS $$ SELECT '\"evil\"'::jsonb $$;
            CREATE TABLE lair.tenant_apps (tenant_id uuid, app_key text); SET search_path = lair, pg_catalog, public");
    assert_eq!(
        app.text("SELECT public.get_user_tenant_context()"),
        expected
    );
    assert_eq!(
        app.text("SHOW search_path").as_deref(),
        Some("lair, pg_catalog, public")
    );
}

#[test]
fn only_owners_of_everything_concerned_register() {
    let world = world();
    let other = world.db.role("other");
    world
        .admin()
        .ok(&format!("GRANT CREATE ON SCHEMA public TO {other}"));
    let mut session = world.db.connect(&other);
    session.ok(&format!(
        "CREATE TABLE lies (tenant_id uuid, user_id uuid, role text, email text); INSERT INTO lies VALUES ('{A}', '{ANN}', 'super_admin', 'x')"
    ));
    // Not with a table of his own: it would speak of who everybody is.
    for sql in [
        "SELECT tenancy.register_context('mine', 'lies')",
        "SELECT tenancy.register_context('user', 'lies', user_column => 'user_id')",
        "SELECT tenancy.register_context('apps', 'lies')",
        "SELECT tenancy.register_context('apps', 'tenant_apps')",
        "SELECT tenancy.unregister_context('apps')",
        "INSERT INTO tenancy.context_registration (key, definition, registered_by) VALUES ('x', '{}', 'postgres')",
        "DELETE FROM tenancy.context_registration",
        "TRUNCATE tenancy.context_registration",
    ] {
        assert_eq!(session.error(sql).code().code(), "42501", "{sql}");
    }
    // Nor does the owner join what he does not own, or an administrator write expressions that run as
    // an owner whose rights he lacks.
    let joined = "SELECT tenancy.register_context('apps', 'tenant_apps', joined => 'lies', joined_on => 'true')";
    expect_error(&world.owner().error(joined), "42501", "must be owner");
    let mut admin = world.admin();
    expect_error(&admin.error(joined), "42501", "different roles");
    admin.ok(&format!(
        "SET pg_tenancy.admin_role = '{other}'; SET ROLE {other}"
    ));
    expect_error(
        &admin.error("SELECT tenancy.register_context('apps', 'tenant_apps', visible => 'true')"),
        "42501",
        "rights that its author lacks",
    );
    admin.ok(
        "SELECT tenancy.register_context('apps', 'tenant_apps', 'array', columns => '{app_key}')",
    );
    assert_eq!(
        world
            .app_as(BOB)
            .int("SELECT jsonb_array_length(get_user_tenant_context() -> 'apps')"),
        20
    );
}

/// The application role reads nothing of the tables themselves, and under row security neither it nor
/// the owner would see a row: the document has the rows of the context, and no others.
#[test]
fn sources_under_row_security_are_read_as_their_owner() {
    let world = world();
    let expected = [ANN, BOB].map(|user| world.by_hand(user));
    for table in [
        "tenant_apps",
        "tenant_configurations",
        "organizations",
        "users",
        "profiles",
        "feature_flags",
        "tenant_feature_flags",
    ] {
        world.owner().ok(&format!(
            "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
             CREATE POLICY p ON {table} USING (public.get_user_tenant_context() IS NULL)"
        ));
    }
    world
        .owner()
        .ok("DROP POLICY p ON tenant_apps; DROP POLICY p ON tenant_configurations");
    world.admin().ok("SELECT tenancy.protect_table('tenant_apps', mode => 'enforce'); SELECT tenancy.protect_table('tenant_configurations', mode => 'enforce')");
    for (user, expected) in [ANN, BOB].into_iter().zip(expected) {
        let mut app = world.app_as(user);
        assert_eq!(app.error("SELECT FROM tenant_apps").code().code(), "42501");
        app.ok("SET row_security = off");
        assert_eq!(app.text(OWN), expected);
        app.ok("SET row_security = on; SET pg_tenancy.missing_context = 'deny'");
        assert_eq!(app.text(OWN), expected);
    }
}

/// Rows that somebody claims for another tenant stay with that one.
#[test]
fn a_joined_table_gives_only_rows_of_the_context() {
    let world = world();
    world.owner().ok(&format!(
        "INSERT INTO tenant_feature_flags VALUES ('{B}', 20, true, '{{\"of\": \"beta only\"}}')"
    ));
    let flag = |user: &str| {
        world.app_as(user).text(
            "SELECT f -> 'config' ->> 'of' FROM jsonb_array_elements(get_user_tenant_context() -> 'feature_flags') f WHERE f ->> 'key' = 'flag-19'",
        )
    };
    world.owner().ok(&format!(
        "INSERT INTO tenant_feature_flags VALUES ('{B}', 19, true, '{{\"of\": \"beta only\"}}')"
    ));
    assert_eq!(flag(ANN), None);
    assert_eq!(flag(BOB).as_deref(), Some("beta only"));
}
