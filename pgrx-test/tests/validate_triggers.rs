//! What triggers write with the rights of their owner: which relation a name in their source is.

mod policy_support;

use pgrx_test::fixture::ClientExt;
use policy_support::{A, B, Stage};
use postgres::Client;

const FOUND: &str = "SELECT object || ': ' || detail FROM tenancy.validate('{app}') WHERE code = 'definer-trigger' ORDER BY object COLLATE \"C\"";

/// Tenant tables `app.notes` and `other.notes`, and tables of nobody's rows of which the application may write one.
fn stage() -> Stage {
    let stage = Stage::new();
    stage.superuser().ok(&format!(
        "CREATE SCHEMA other; CREATE SCHEMA plain; CREATE TABLE app.notes (tenant_id uuid NOT NULL, note text);
         CREATE TABLE other.notes (tenant_id uuid NOT NULL, note text); CREATE TABLE plain.notes (note text);
         CREATE TABLE app.inbox (tenant uuid, note text); GRANT INSERT ON app.inbox TO {};
         SELECT tenancy.protect_table('app.notes', mode => 'enforce'); SELECT tenancy.protect_table('other.notes', mode => 'enforce')",
        stage.app
    ));
    stage
}

/// Makes the trigger function run that, with these settings.
fn run(session: &mut Client, settings: &str, body: &str) {
    session.ok(&format!(
        "CREATE OR REPLACE FUNCTION app.f() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER {settings} AS $f$ BEGIN {body}; RETURN NEW; END $f$;
         CREATE OR REPLACE TRIGGER g BEFORE INSERT ON app.inbox FOR EACH ROW EXECUTE FUNCTION app.f()"
    ));
}

#[test]
fn names_are_those_of_the_functions_path() {
    let stage = stage();
    let mut superuser = stage.superuser();
    let insert = "INSERT INTO notes (note) VALUES (NEW.note)";
    for (settings, written) in [
        ("", "app.notes, other.notes"),
        ("SET search_path = app, other, pg_temp", "app.notes"),
        ("SET search_path = nowhere, other, app", "other.notes"),
        ("SET search_path = plain, app", ""),
        ("SET search_path = pg_catalog, pg_temp", ""),
        ("SET search_path = ''", ""),
        ("SET search_path = \"$user\", \"other\"", "other.notes"),
    ] {
        superuser.ok("DROP FUNCTION IF EXISTS app.f() CASCADE");
        run(&mut superuser, settings, insert);
        let expected: Vec<String> = (!written.is_empty())
            .then(|| {
                format!("trigger g on app.inbox: runs app.f() as postgres, which writes {written}")
            })
            .into_iter()
            .collect();
        assert_eq!(superuser.texts(FOUND), expected, "{settings}");
    }
    // Where it sets another path itself, nobody knows.
    run(
        &mut superuser,
        "SET search_path = pg_catalog",
        &format!("SET LOCAL search_path = app; {insert}"),
    );
    assert_eq!(superuser.texts(FOUND).len(), 1);
}

#[test]
fn the_hole_is_one_and_its_remediation_closes_it() {
    let stage = stage();
    let mut superuser = stage.superuser();
    superuser.ok(
        "CREATE FUNCTION app.put(tenant uuid, note text) RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp AS 'INSERT INTO app.notes VALUES ($1, $2)'",
    );
    run(
        &mut superuser,
        "SET search_path = app, pg_temp",
        "PERFORM put(NEW.tenant, NEW.note)",
    );
    let theft = format!("INSERT INTO app.inbox VALUES ('{B}', 'of another')");
    stage.tenant(A).ok(&theft);
    assert_eq!(
        superuser.int(&format!(
            "SELECT count(*) FROM app.notes WHERE tenant_id = '{B}'"
        )),
        1
    );
    assert_eq!(superuser.texts(FOUND).len(), 1);
    superuser.ok(&superuser_remediation(&stage));
    assert!(superuser.rows(FOUND).is_empty());
    assert_eq!(stage.tenant(A).error(&theft).code().code(), "42501");
}

fn superuser_remediation(stage: &Stage) -> String {
    stage
        .superuser()
        .text("SELECT remediation FROM tenancy.validate('{app}') WHERE code = 'definer-trigger'")
        .expect("a remediation")
}

#[test]
fn what_is_not_sure_is_not_told() {
    let stage = stage();
    let (owner, mut superuser) = (&stage.owner, stage.superuser());
    // One of several functions of a name, and one with rights of its own, which is another's matter.
    superuser.ok(&format!(
        "CREATE FUNCTION app.put(text) RETURNS void LANGUAGE sql AS 'INSERT INTO app.notes (note) VALUES ($1)';
         CREATE FUNCTION app.put(integer) RETURNS void LANGUAGE sql AS 'SELECT NULL::void';
         CREATE FUNCTION app.safe(text) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS 'INSERT INTO app.notes (note) VALUES ($1)';
         ALTER FUNCTION app.safe(text) OWNER TO {owner}"
    ));
    run(
        &mut superuser,
        "SET search_path = app",
        "PERFORM app.put(1); PERFORM safe('x')",
    );
    assert!(superuser.rows(FOUND).is_empty());
    // One function for two tables, of which it writes whichever it is on.
    superuser.ok("SELECT tenancy.protect_table('app.notes', mode => 'enforce', options => '{\"force\": false}')");
    run(
        &mut superuser,
        "SET search_path = pg_catalog",
        "EXECUTE format('UPDATE %I.%I SET note = $1', TG_TABLE_SCHEMA, TG_TABLE_NAME) USING NEW.note",
    );
    superuser.ok(&format!(
        "CREATE TRIGGER h AFTER INSERT ON app.notes FOR EACH ROW EXECUTE FUNCTION app.f();
         ALTER FUNCTION app.f() OWNER TO {owner}; ALTER TABLE app.notes OWNER TO {owner}"
    ));
    assert_eq!(
        superuser.texts(FOUND),
        [format!(
            "trigger h on app.notes: runs app.f() as {owner}, which writes app.notes"
        )]
    );
}
