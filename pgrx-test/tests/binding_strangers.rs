//! Who may create in the schema of the bound tables, and is nobody else: nothing of his is run as the owner
//! of the tables by what the owner bound.

use pgrx_test::fixture::{ClientExt, Database, Server, expect_error};
use postgres::Client;

const T: &str = "aaaaaaaa-0000-0000-0000-000000000001";
/// What an expression would have run, and as whom.
const EVIL: &str = "LANGUAGE plpgsql AS $$ BEGIN RAISE 'I am %', current_user; END $$";

struct Stage {
    database: Database,
    owner: String,
    stranger: String,
}

impl Stage {
    fn new() -> Stage {
        let database = Database::new(Server::preloaded());
        let (owner, stranger) = (database.role("owner"), database.role("stranger"));
        database.superuser().ok(&format!(
            "CREATE SCHEMA app AUTHORIZATION {owner}; CREATE SCHEMA own AUTHORIZATION {stranger}"
        ));
        let stage = Stage {
            database,
            owner,
            stranger,
        };
        stage.owner().ok(&format!(
            "GRANT USAGE, CREATE ON SCHEMA app TO {0}; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {0};
             CREATE TABLE app.members (user_id text PRIMARY KEY, tenant_id uuid);
             INSERT INTO app.members SELECT u, '{T}' FROM unnest('{{a,b,c,d}}'::text[]) u",
            stage.stranger
        ));
        stage.stranger().ok(&format!(
            "CREATE TYPE app.kind AS ENUM ('good');
             CREATE FUNCTION app.evil(text) RETURNS boolean {EVIL};
             CREATE FUNCTION app.said(app.kind) RETURNS text {EVIL};
             CREATE FUNCTION app.as_json(app.kind) RETURNS json {EVIL};
             CREATE DOMAIN app.inner AS text CHECK (app.evil(VALUE))"
        ));
        stage.owner().ok(&format!(
            "CREATE TABLE app.tenants (id uuid PRIMARY KEY, name text, kind app.kind);
             INSERT INTO app.tenants VALUES ('{T}', 'name', 'good')"
        ));
        stage
    }

    fn owner(&self) -> Client {
        self.database.connect(&self.owner)
    }

    fn stranger(&self) -> Client {
        self.database.connect(&self.stranger)
    }
}

fn bind(active: &str) -> String {
    format!(
        "SELECT tenancy.bind(membership => 'app.members', tenants => 'app.tenants', tenants_active => $x${active}$x$)"
    )
}

fn ask(user: &str) -> String {
    format!("SET app.current_user_id = '{user}'; SELECT current_tenant_id()")
}

const PAID: &str = "EXISTS (SELECT FROM app.paid p WHERE p.tenant = id)";

#[test]
fn a_strangers_relation_is_refused() {
    let stage = Stage::new();
    let mut stranger = stage.stranger();
    for relation in [
        format!(
            "CREATE TABLE app.paid AS SELECT '{T}'::uuid AS tenant; GRANT SELECT ON app.paid TO PUBLIC"
        ),
        format!(
            "DROP TABLE app.paid; CREATE VIEW app.paid AS SELECT '{T}'::uuid AS tenant; GRANT SELECT ON app.paid TO PUBLIC"
        ),
    ] {
        stranger.ok(&relation);
        expect_error(
            &stage.owner().error(&bind(PAID)),
            "42501",
            "relation or type to",
        );
    }
}

/// What was the owner's when it was bound, and is looked at no more until it is planned again.
#[test]
fn a_view_that_takes_the_place_of_a_table_is_not_read() {
    let stage = Stage::new();
    let mut owner = stage.owner();
    owner.ok(&format!(
        "CREATE TABLE app.paid AS SELECT '{T}'::uuid AS tenant"
    ));
    owner.ok(&bind(PAID));
    let mut session = stage.owner();
    assert_eq!(session.text(&ask("a")).as_deref(), Some(T));
    owner.ok("DROP TABLE app.paid");
    stage.stranger().ok(&format!(
        "CREATE VIEW app.paid AS SELECT '{T}'::uuid AS tenant WHERE app.evil('x'); GRANT SELECT ON app.paid TO PUBLIC"
    ));
    for session in [&mut session, &mut stage.owner()] {
        for _ in 0..2 {
            expect_error(
                &session.error(&ask("b")),
                "42501",
                "code with rights that he lacks",
            );
        }
    }
    stage.stranger().ok("DROP VIEW app.paid");
    owner.ok(&format!(
        "CREATE TABLE app.paid AS SELECT '{T}'::uuid AS tenant"
    ));
    assert_eq!(session.text(&ask("b")).as_deref(), Some(T));
    assert_eq!(stage.owner().text(&ask("b")).as_deref(), Some(T));
}

/// Nothing tells of a cast: names mean something else as soon as a plan is made again, for any reason.
#[test]
fn a_cast_that_was_made_later_is_not_run() {
    let stage = Stage::new();
    stage.owner().ok(&bind("kind::text = 'good'"));
    let mut session = stage.owner();
    assert_eq!(session.text(&ask("a")).as_deref(), Some(T));
    let mut stranger = stage.stranger();
    stranger.ok("CREATE CAST (app.kind AS text) WITH FUNCTION app.said(app.kind)");
    stranger.ok("GRANT USAGE ON SCHEMA own TO PUBLIC");
    for session in [&mut session, &mut stage.owner()] {
        expect_error(
            &session.error(&ask("b")),
            "42501",
            "code with rights that he lacks",
        );
    }
    stranger.ok("DROP CAST (app.kind AS text)");
    stranger.ok("REVOKE USAGE ON SCHEMA own FROM PUBLIC");
    assert_eq!(session.text(&ask("b")).as_deref(), Some(T));
}

#[test]
fn types_that_run_a_strangers_code_are_refused() {
    let stage = Stage::new();
    let mut owner = stage.owner();
    owner.ok(
        "CREATE DOMAIN app.outer AS app.inner; CREATE DOMAIN app.fine AS text CHECK (VALUE <> '');
         CREATE TYPE app.pair AS (a int, b app.inner); CREATE TYPE app.good_pair AS (a int, b app.fine)",
    );
    stage
        .stranger()
        .ok("CREATE CAST (app.kind AS json) WITH FUNCTION app.as_json(app.kind)");
    for expression in [
        "name::app.outer IS NOT NULL",
        "('{' || name || '}')::app.inner[] IS NOT NULL",
        "('{' || name || '}')::app.outer[] IS NOT NULL",
        "('(1,' || name || ')')::app.pair IS NOT NULL",
        "(jsonb_populate_record(NULL::app.pair, jsonb_build_object('b', name))).a IS NULL",
        "EXISTS (SELECT FROM jsonb_to_record(jsonb_build_object('b', name)) AS r(b app.inner))",
        "to_jsonb(kind) IS NOT NULL",
        "jsonb_build_object('k', kind) IS NOT NULL",
        "to_json(ARRAY[kind]) IS NOT NULL",
        "(SELECT json_agg(k) FROM (SELECT kind AS k) x) IS NOT NULL",
        "(SELECT to_jsonb(x) FROM (SELECT kind AS k) x) IS NOT NULL",
        "to_jsonb(tenants) IS NOT NULL",
        "kind IS NOT NULL AND EXISTS (SELECT FROM app.tenants t WHERE to_jsonb(t) IS NOT NULL)",
    ] {
        let error = owner.error(&bind(expression));
        assert_eq!(error.code().code(), "42501", "{expression}: {error:?}");
        expect_error(&error, "42501", "relation or type to");
    }
    // What is only read, and what is the owner's, runs nobody's code.
    for expression in [
        "kind = 'good'",
        "name::app.fine IS NOT NULL",
        "('(1,' || name || ')')::app.good_pair IS NOT NULL",
        "to_jsonb(name) IS NOT NULL",
        "jsonb_build_object('k', format('%s', kind)) IS NOT NULL",
    ] {
        owner.ok(&bind(expression));
        let found = stage.owner().text(&ask("a"));
        assert_eq!(found.as_deref(), Some(T), "{expression}");
    }
}

/// A constant may be checked as the expression is read, which every session does.
#[test]
fn constants_are_read_as_the_owner() {
    let stage = Stage::new();
    let mut owner = stage.owner();
    owner.ok(&format!(
        "CREATE FUNCTION app.mine(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
             IF current_user <> '{}' THEN RAISE 'I am %', current_user; END IF; RETURN true; END $$;
         CREATE DOMAIN app.checked AS text CHECK (app.mine(VALUE))",
        stage.owner
    ));
    owner.ok(&bind("'{x}'::app.checked[] IS NOT NULL"));
    let mut root = stage.database.superuser();
    assert_eq!(root.text(&ask("a")).as_deref(), Some(T));
    root.ok("SELECT tenancy.status()");
}
