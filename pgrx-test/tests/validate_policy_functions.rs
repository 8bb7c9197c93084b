//! What is known of functions that policies call, and what is taken at its word.

mod policy_support;

use pgrx_test::fixture::ClientExt;
use policy_support::{A, B, Stage};

const FOUND: &str = "SELECT code FROM tenancy.validate('{app}')
    WHERE code IN ('policy-always-true', 'policy-without-tenant', 'policy-hard-coded') ORDER BY 1";

#[test]
fn a_function_that_asks_nobody_is_no_question() {
    let stage = Stage::new();
    let mut superuser = stage.superuser();
    superuser.ok(&format!(
        "CREATE TYPE app.label AS ENUM ('a');
         CREATE TABLE app.t (id int, tenant_id uuid NOT NULL, note text, label app.label); CREATE INDEX ON app.t (tenant_id);
         INSERT INTO app.t VALUES (1, '{A}'), (2, '{B}'); GRANT SELECT ON app.t TO {};
         ALTER TABLE app.t ENABLE ROW LEVEL SECURITY; ALTER TABLE app.t FORCE ROW LEVEL SECURITY",
        stage.app
    ));
    for (functions, policy, codes) in [
        // Of null it is null.
        (
            "CREATE FUNCTION app.ok(text) RETURNS boolean STRICT LANGUAGE sql AS 'SELECT true'",
            "app.ok(note)",
            vec!["policy-without-tenant"],
        ),
        (
            "CREATE FUNCTION app.ok(text) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
            "app.ok(note)",
            vec!["policy-always-true"],
        ),
        // Nobody is let through.
        (
            "CREATE FUNCTION app.ok(uuid) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN false; END'",
            "app.ok(tenant_id)",
            vec![],
        ),
        // One of several: which of them says no text.
        (
            "CREATE FUNCTION app.ok(uuid) RETURNS boolean LANGUAGE sql AS 'SELECT true';
             CREATE FUNCTION app.ok(text) RETURNS boolean LANGUAGE sql AS 'SELECT $1::uuid = current_tenant_id()'",
            "app.ok(tenant_id) AND app.ok(tenant_id::text)",
            vec![],
        ),
        // Operators of such a type may be anybody's.
        (
            "CREATE FUNCTION app.ok(uuid, app.label) RETURNS boolean LANGUAGE sql AS 'SELECT $2 = $2'",
            "app.ok(tenant_id, label)",
            vec![],
        ),
        (
            "CREATE FUNCTION app.ok(uuid) RETURNS uuid LANGUAGE sql AS $$SELECT '00000000-0000-0000-0000-00000000000b'::uuid$$",
            "tenant_id = app.ok(tenant_id)",
            vec!["policy-hard-coded"],
        ),
        (
            "CREATE FUNCTION app.ok(uuid) RETURNS uuid LANGUAGE sql AS 'SELECT $1'",
            "tenant_id = app.ok(tenant_id)",
            vec!["policy-without-tenant"],
        ),
    ] {
        superuser.ok(&format!(
            "{functions}; CREATE POLICY p ON app.t USING ({policy})"
        ));
        assert_eq!(superuser.texts(FOUND), codes, "{functions} {policy}");
        superuser.ok("DROP POLICY p ON app.t; DROP ROUTINE IF EXISTS app.ok(text), app.ok(uuid), app.ok(uuid, app.label)");
    }
}

#[test]
fn the_hole_is_one_and_its_remediation_closes_it() {
    let stage = Stage::new();
    let mut superuser = stage.superuser();
    superuser.ok(&format!(
        "CREATE FUNCTION app.sees(tenant uuid) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT tenant IS NOT NULL';
         CREATE TABLE app.t (id int, tenant_id uuid NOT NULL); CREATE INDEX ON app.t (tenant_id);
         INSERT INTO app.t VALUES (1, '{A}'), (2, '{B}'); GRANT SELECT ON app.t TO {};
         ALTER TABLE app.t ENABLE ROW LEVEL SECURITY; ALTER TABLE app.t FORCE ROW LEVEL SECURITY;
         CREATE POLICY p ON app.t USING (true); CREATE POLICY r ON app.t AS RESTRICTIVE USING (app.sees(tenant_id))",
        stage.app
    ));
    let rows = "SELECT id FROM app.t ORDER BY id";
    assert_eq!(stage.tenant(A).texts(rows), ["1", "2"]);
    assert_eq!(superuser.texts(FOUND), ["policy-always-true"]);
    let remediation = superuser
        .text("SELECT remediation FROM tenancy.validate('{app}') WHERE code = 'policy-always-true'")
        .expect("a remediation");
    superuser.ok(&remediation);
    assert!(superuser.rows(FOUND).is_empty());
    assert_eq!(stage.tenant(A).texts(rows), ["1"]);
}
