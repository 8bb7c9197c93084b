//! `tenancy.access_matrix()`: what is reached by names that others wrote or parsed, without a right to name
//! it, or that are put together as a function runs.

mod policy_support;

use pgrx_test::fixture::ClientExt;
use policy_support::{A, B, Stage};
use postgres::Client;

/// A reach, the ways besides and their reach.
fn said(stage: &Stage, table: &str, command: &str) -> [String; 3] {
    let row = stage
        .superuser()
        .rows(&format!(
            "SELECT reach, besides, besides_reach FROM tenancy.access_matrix('{}')
             WHERE relation = '{table}'::regclass AND command = '{command}'",
            stage.app
        ))
        .remove(0);
    let mut texts = row.into_iter().map(Option::unwrap_or_default);
    std::array::from_fn(|_| texts.next().unwrap_or_default())
}

/// A table in a schema that the application may not use, with every privilege on it and no row security
/// that is forced on its owner.
fn stage() -> Stage {
    let stage = Stage::new();
    stage.superuser().ok(&format!(
        "CREATE SCHEMA hidden AUTHORIZATION {}",
        stage.owner
    ));
    stage.owner().ok(&format!(
        "CREATE TABLE hidden.notes (id int PRIMARY KEY, tenant_id uuid NOT NULL, note text);
         INSERT INTO hidden.notes VALUES (1, '{A}', 'a'), (2, '{B}', 'b')"
    ));
    stage.protect("hidden.notes", r#"{"force": false}"#);
    stage
        .owner()
        .ok("DROP POLICY notes_tenant_isolation_select ON hidden.notes;
         CREATE POLICY wide ON hidden.notes FOR SELECT USING (true)");
    stage
}

fn notes(session: &mut Client, sql: &str) -> String {
    let mut notes = session.texts(sql);
    notes.sort();
    notes.join(" ")
}

#[test]
fn views_name_for_their_caller() {
    let stage = stage();
    let (app, owner) = (&stage.app, &stage.owner);
    let mut session = stage.owner();
    session.ok(&format!("GRANT ALL ON hidden.notes TO {app}"));
    let mut tenant = stage.tenant(A);
    assert_eq!(
        tenant.error("SELECT FROM hidden.notes").code().code(),
        "42501"
    );
    assert_eq!(said(&stage, "hidden.notes", "SELECT"), ["none", "", ""]);

    session.ok(&format!(
        "CREATE VIEW app.v WITH (security_invoker) AS SELECT * FROM hidden.notes;
         REVOKE ALL ON app.v FROM {app}"
    ));
    assert_eq!(said(&stage, "hidden.notes", "SELECT"), ["none", "", ""]);
    session.ok(&format!("GRANT SELECT, INSERT ON app.v TO {app}"));
    let way = "view app.v without USAGE on the table's schema: ";
    assert_eq!(
        said(&stage, "hidden.notes", "SELECT"),
        ["none", &format!("{way}all tenants"), "all tenants"]
    );
    assert_eq!(notes(&mut tenant, "SELECT note FROM app.v"), "a b");
    assert_eq!(
        said(&stage, "hidden.notes", "INSERT"),
        ["none", &format!("{way}own tenant"), "own tenant"]
    );
    tenant.ok(&format!("INSERT INTO app.v VALUES (3, '{A}', 'c')"));
    assert_eq!(
        tenant
            .error(&format!("INSERT INTO app.v VALUES (4, '{B}', 'd')"))
            .code()
            .code(),
        "42501"
    );
    assert_eq!(said(&stage, "hidden.notes", "DELETE")[1], "");
    // Without the privilege on the table there is none by the view.
    session.ok(&format!("REVOKE ALL ON hidden.notes FROM {app}"));
    assert_eq!(said(&stage, "hidden.notes", "SELECT"), ["none", "", ""]);
    assert_eq!(tenant.error("SELECT FROM app.v").code().code(), "42501");

    // A view that has its owner's rights, below one that has none.
    session.ok(&format!(
        "CREATE VIEW hidden.w AS SELECT * FROM hidden.notes; GRANT SELECT ON hidden.w TO {app}"
    ));
    assert_eq!(said(&stage, "hidden.notes", "SELECT"), ["none", "", ""]);
    session.ok(&format!(
        "DROP VIEW app.v; CREATE VIEW app.v WITH (security_invoker) AS SELECT * FROM hidden.w; GRANT SELECT ON app.v TO {app}"
    ));
    assert_eq!(
        said(&stage, "hidden.notes", "SELECT")[1..],
        [
            format!("view hidden.w as {owner} by view app.v: all tenants"),
            "all tenants".to_owned()
        ]
    );
    assert_eq!(notes(&mut tenant, "SELECT note FROM app.v"), "a b c");

    // Its owner needs no USAGE either.
    session.ok("DROP VIEW app.v, hidden.w; CREATE VIEW app.v AS SELECT * FROM hidden.notes");
    session.ok(&format!("GRANT SELECT ON app.v TO {app}"));
    let middle = stage.database.role("middle");
    stage.superuser().ok(&format!(
        "GRANT SELECT ON hidden.notes TO {middle}; ALTER VIEW app.v OWNER TO {middle}"
    ));
    assert_eq!(
        said(&stage, "hidden.notes", "SELECT")[1],
        format!("view app.v as {middle}: all tenants")
    );
    assert_eq!(notes(&mut tenant, "SELECT note FROM app.v"), "a b c");
}

#[test]
fn functions_that_are_kept_parsed_name_for_their_caller() {
    let stage = stage();
    let app = &stage.app;
    stage.owner().ok(&format!(
        "GRANT SELECT ON hidden.notes TO {app};
         CREATE FUNCTION app.text_of() RETURNS SETOF text LANGUAGE sql AS 'SELECT note FROM hidden.notes'"
    ));
    let mut tenant = stage.tenant(A);
    assert_eq!(said(&stage, "hidden.notes", "SELECT"), ["none", "", ""]);
    assert_eq!(tenant.error("SELECT app.text_of()").code().code(), "42501");
    stage.owner().ok(
        "CREATE FUNCTION app.parsed() RETURNS SETOF text LANGUAGE sql BEGIN ATOMIC SELECT note FROM hidden.notes; END",
    );
    assert_eq!(
        said(&stage, "hidden.notes", "SELECT"),
        [
            "none",
            "function app.parsed() without USAGE on the table's schema: all tenants",
            "all tenants"
        ]
    );
    assert_eq!(notes(&mut tenant, "SELECT app.parsed()"), "a b");
}

#[test]
fn what_runs_what_it_is_given_is_dynamic() {
    let stage = stage();
    let mut session = stage.owner();
    let mut tenant = stage.tenant(A);
    // Each body, and what it shows where the server needs no library for it.
    for (language, body, shown) in [
        (
            "sql",
            "SELECT query_to_xml(what, true, false, '')::text",
            None,
        ),
        (
            "plpgsql",
            "BEGIN RETURN query_to_xml(what, true, false, ''); END",
            None,
        ),
        (
            "sql",
            "SELECT schema_to_xml('hidden', true, false, '')::text",
            None,
        ),
        (
            "sql",
            "SELECT string_agg(word, ' ' ORDER BY word) FROM ts_stat('SELECT to_tsvector(''simple'', note) FROM (' || what || ') x')",
            Some("a b"),
        ),
        (
            "plpgsql",
            r#"BEGIN RETURN (SELECT string_agg(word, ' ' ORDER BY word) FROM U&"\0074s_stat"('SELECT to_tsvector(''simple'', note) FROM (' || what || ') x')); END"#,
            Some("a b"),
        ),
        (
            "sql",
            "SELECT ts_rewrite('a', 'SELECT ''a''::tsquery, max(note)::tsquery FROM (' || what || ') x')::text",
            Some("'b'"),
        ),
    ] {
        session.ok(&format!(
            "CREATE FUNCTION app.f(what text) RETURNS text LANGUAGE {language} SECURITY DEFINER SET search_path = '' AS $f$ {body} $f$"
        ));
        assert_eq!(
            said(&stage, "hidden.notes", "SELECT")[2],
            "all tenants",
            "{body}"
        );
        if let Some(shown) = shown {
            assert_eq!(
                tenant
                    .text("SELECT app.f('SELECT note FROM hidden.' || 'notes')")
                    .as_deref(),
                Some(shown),
                "{body}"
            );
        }
        session.ok("DROP FUNCTION app.f(text)");
    }
    // A statement that the caller has prepared, as the owner.
    session.ok(
        "CREATE FUNCTION app.g() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = '' AS 'EXECUTE given'",
    );
    assert_eq!(said(&stage, "hidden.notes", "DELETE")[2], "all tenants");
    session.ok("DROP FUNCTION app.g()");
    for body in [
        "SELECT has_function_privilege(what, 'execute')::text",
        "INSERT INTO app.log VALUES (what) ON CONFLICT DO NOTHING RETURNING what",
    ] {
        session.ok("CREATE TABLE IF NOT EXISTS app.log (what text)");
        session.ok(&format!(
            "CREATE FUNCTION app.f(what text) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $f$ {body} $f$"
        ));
        assert_eq!(said(&stage, "hidden.notes", "SELECT")[2], "", "{body}");
        session.ok("DROP FUNCTION app.f(text)");
    }
}
