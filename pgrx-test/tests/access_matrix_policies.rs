//! What `tenancy.access_matrix()` says of policies of users, against what an application sees by them.

mod policy_support;

use pgrx_test::fixture::ClientExt;
use policy_support::{A, B, Stage};

/// `app.t` with rows of two tenants, and what policies may ask.
fn stage() -> Stage {
    let stage = Stage::new();
    stage.owner().ok(&format!(
        "CREATE TABLE app.t (id int PRIMARY KEY, tenant_id uuid NOT NULL, other_id uuid, parent int, note text);
         INSERT INTO app.t VALUES (1, '{A}', '{A}', 1, 'a'), (2, '{B}', '{B}', 2, 'b');
         CREATE TABLE app.parents (id int PRIMARY KEY, kind int, tenant_id uuid NOT NULL);
         INSERT INTO app.parents VALUES (1, 1, '{A}'), (2, 1, '{B}');
         CREATE TABLE app.members (member text, tenant uuid, partner uuid);
         INSERT INTO app.members VALUES ('ann', '{A}', '{A}'), ('bob', '{B}', '{A}');
         CREATE FUNCTION app.all_tenants() RETURNS uuid[] LANGUAGE sql STABLE AS $$ SELECT '{{{A},{B}}}'::uuid[] $$;
         CREATE FUNCTION app.same(uuid) RETURNS uuid LANGUAGE sql STABLE AS 'SELECT $1';
         CREATE FUNCTION app.me() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'bob' $$;
         CREATE FUNCTION app.current_tenant_id() RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT '{B}'::uuid $$;
         CREATE FUNCTION app.like_it(uuid, uuid) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT true';
         CREATE OPERATOR app.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = app.like_it);
         GRANT SELECT ON app.parents, app.members TO PUBLIC;
         ALTER TABLE app.t ENABLE ROW LEVEL SECURITY; ALTER TABLE app.t FORCE ROW LEVEL SECURITY"
    ));
    stage
}

/// The reach that is told, and the tenants of the rows that the application sees as A.
fn told_and_seen(stage: &Stage, policy: &str) -> (String, String) {
    stage.owner().ok(&format!(
        "DROP POLICY IF EXISTS p ON app.t; CREATE POLICY p ON app.t FOR SELECT USING ({policy})"
    ));
    let told = stage
        .nobody()
        .text(&format!(
            "SELECT reach FROM tenancy.access_matrix('{}') WHERE relation::text = 'app.t' AND command = 'SELECT'",
            stage.app
        ))
        .expect("a reach");
    let seen = stage
        .tenant(A)
        .texts("SELECT note FROM app.t ORDER BY id")
        .concat();
    (told, seen)
}

#[test]
fn what_is_not_proved_reaches_all_tenants() {
    let stage = stage();
    for (policy, seen) in [
        (
            "tenant_id = COALESCE(NULLIF(current_tenant_id(), current_tenant_id()), other_id)",
            "ab",
        ),
        (
            "tenant_id = COALESCE(app.same(other_id), current_tenant_id())",
            "ab",
        ),
        ("tenant_id = app.same(other_id)", "ab"),
        ("tenant_id = ANY (app.all_tenants())", "ab"),
        (
            "tenant_id = ANY (array_append(ARRAY[current_tenant_id()], tenant_id))",
            "ab",
        ),
        ("tenant_id IN (SELECT unnest(app.all_tenants()))", "ab"),
        (
            "tenant_id IN (SELECT current_tenant_id() UNION SELECT m.tenant FROM app.members m)",
            "ab",
        ),
        (
            "tenant_id IN (SELECT m.tenant FROM app.members m WHERE m.member <> current_setting('app.current_user_id', true))",
            "ab",
        ),
        (
            "tenant_id IN (SELECT m.tenant FROM app.members m WHERE m.partner = current_tenant_id())",
            "ab",
        ),
        (
            "tenant_id IN (SELECT m.tenant FROM app.members m WHERE m.member = app.me())",
            "b",
        ),
        (
            "tenant_id = (SELECT m.tenant FROM app.members m WHERE m.member = app.me() OR m.tenant = current_tenant_id() ORDER BY m.member DESC LIMIT 1)",
            "b",
        ),
        (
            "tenant_id = ALL (ARRAY(SELECT current_tenant_id() WHERE false))",
            "ab",
        ),
        ("tenant_id = app.current_tenant_id()", "b"),
        ("tenant_id OPERATOR(app.=) current_tenant_id()", "ab"),
        (
            "left(tenant_id::text, 8) = left(current_tenant_id()::text, 8)",
            "ab",
        ),
        (
            "tenant_id::text::varchar(8) = current_tenant_id()::text::varchar(8)",
            "ab",
        ),
        (
            "EXISTS (SELECT FROM app.parents p WHERE p.tenant_id = current_tenant_id())",
            "ab",
        ),
        (
            "EXISTS (SELECT FROM app.parents p WHERE p.kind = 1 AND p.kind = t.id / t.id AND p.tenant_id = current_tenant_id())",
            "ab",
        ),
        (
            "EXISTS (SELECT FROM app.parents p, app.parents q WHERE p.id = t.parent AND q.tenant_id = current_tenant_id())",
            "ab",
        ),
    ] {
        assert_eq!(
            told_and_seen(&stage, policy),
            ("all tenants".to_owned(), seen.to_owned()),
            "{policy}"
        );
    }
}

#[test]
fn what_is_proved_is_told() {
    let stage = stage();
    for (policy, told, seen) in [
        ("tenant_id = current_tenant_id()", "own tenant", "a"),
        (
            "tenant_id = (SELECT current_tenant_id())",
            "own tenant",
            "a",
        ),
        (
            "tenant_id = COALESCE(current_tenant_id(), NULLIF(current_setting('app.none', true), '')::uuid)",
            "own tenant",
            "a",
        ),
        (
            "tenant_id::text = current_setting('app.current_tenant_id', true)",
            "own tenant",
            "a",
        ),
        (
            "tenant_id = ANY (ARRAY[current_tenant_id()])",
            "own tenant",
            "a",
        ),
        (
            "tenant_id IN (SELECT m.tenant FROM app.members m WHERE m.tenant = current_tenant_id())",
            "own tenant",
            "a",
        ),
        (
            "EXISTS (SELECT FROM app.parents p WHERE p.id = t.parent AND p.tenant_id = current_tenant_id())",
            "own tenant",
            "a",
        ),
        (
            "tenant_id IN (SELECT m.tenant FROM app.members m WHERE m.member = current_setting('app.current_user_id', true))",
            "own tenants",
            "",
        ),
        (
            &format!("tenant_id IN (current_tenant_id(), '{B}')"),
            "shared rows",
            "ab",
        ),
    ] {
        assert_eq!(
            told_and_seen(&stage, policy),
            (told.to_owned(), seen.to_owned()),
            "{policy}"
        );
    }
    // Without its key, a parent may be any of several.
    stage.owner().ok(
        "ALTER TABLE app.parents DROP CONSTRAINT parents_pkey; CREATE INDEX ON app.parents (id)",
    );
    stage
        .owner()
        .ok(&format!("INSERT INTO app.parents VALUES (2, 1, '{A}')"));
    let policy = "EXISTS (SELECT FROM app.parents p WHERE p.id = t.parent AND p.tenant_id = current_tenant_id())";
    assert_eq!(
        told_and_seen(&stage, policy),
        ("all tenants".to_owned(), "ab".to_owned())
    );
}
