//! What `tenancy.access_matrix()` says of policies of users, against what an application sees by them.

mod policy_support;

use pgrx_test::fixture::ClientExt;
use policy_support::{A, B, Stage};

/// `app.t` with rows of two tenants, and what policies may ask.
fn stage() -> Stage {
    let stage = Stage::new();
    stage.owner().ok(&format!(
        "CREATE TABLE app.t (id int PRIMARY KEY, tenant_id uuid NOT NULL, other_id uuid, parent int, note text, shared_with text);
         INSERT INTO app.t VALUES (1, '{A}', '{A}', 1, 'a', NULL), (2, '{B}', '{B}', 2, 'b', 'ann');
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
            "tenant_id = COALESCE(current_tenant_id(), NULLIF(current_setting('app.current_tenant_id', true), '')::uuid)",
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
            "EXISTS (SELECT FROM app.parents p WHERE p.id = t.parent AND p.tenant_id = t.tenant_id AND p.tenant_id = current_tenant_id())",
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
    // A row of another tenant may have the same parent.
    stage.superuser().ok(&format!(
        "INSERT INTO app.t VALUES (3, '{B}', '{B}', 1, 'c')"
    ));
    for (condition, told, seen) in [
        ("true", "all tenants", "ac"),
        ("p.tenant_id = t.tenant_id", "own tenant", "a"),
    ] {
        let policy = format!(
            "EXISTS (SELECT FROM app.parents p WHERE p.id = t.parent AND {condition} AND p.tenant_id = current_tenant_id())"
        );
        assert_eq!(
            told_and_seen(&stage, &policy),
            (told.to_owned(), seen.to_owned()),
            "{policy}"
        );
    }
    stage.superuser().ok("DELETE FROM app.t WHERE id = 3");
    // Without its key, a parent may be any of several.
    stage.owner().ok(
        "ALTER TABLE app.parents DROP CONSTRAINT parents_pkey; CREATE INDEX ON app.parents (id)",
    );
    stage
        .owner()
        .ok(&format!("INSERT INTO app.parents VALUES (2, 1, '{A}')"));
    let policy = "EXISTS (SELECT FROM app.parents p WHERE p.id = t.parent AND p.tenant_id = t.tenant_id AND p.tenant_id = current_tenant_id())";
    assert_eq!(
        told_and_seen(&stage, policy),
        ("all tenants".to_owned(), "a".to_owned())
    );
}

/// What is told of a command, to a role that is asked for, by whoever has that option.
fn told(stage: &Stage, command: &str) -> String {
    stage
        .nobody()
        .text(&format!(
            "SELECT reach FROM tenancy.access_matrix('{}') WHERE relation::text = 'app.t' AND command = '{command}'",
            stage.app
        ))
        .expect("a reach")
}

#[test]
fn rows_of_the_user_may_be_of_any_tenant() {
    let stage = stage();
    let ann = |sql: &str| {
        let mut session = stage.database.connect_with(
            &stage.app,
            &format!("-c app.current_tenant_id={A} -c app.current_user_id=ann"),
        );
        session.texts(sql).concat()
    };
    let (tenant, user) = (
        "tenant_id = current_tenant_id()",
        "shared_with = current_tenant_user_id()",
    );
    for (policies, told_reach, seen) in [
        (
            format!("CREATE POLICY p ON app.t USING ({tenant} OR {user})"),
            "all tenants",
            "ab",
        ),
        (
            format!(
                "CREATE POLICY p ON app.t USING ({tenant}); CREATE POLICY q ON app.t USING ({user})"
            ),
            "all tenants",
            "ab",
        ),
        (
            format!("CREATE POLICY p ON app.t USING ({user})"),
            "own rows",
            "b",
        ),
        (
            format!(
                "CREATE POLICY p ON app.t USING ({tenant} OR {user}); CREATE POLICY q ON app.t AS RESTRICTIVE USING ({tenant})"
            ),
            "own tenant",
            "a",
        ),
    ] {
        stage
            .owner()
            .ok("DROP POLICY IF EXISTS p ON app.t; DROP POLICY IF EXISTS q ON app.t");
        stage.owner().ok(&policies);
        assert_eq!(told(&stage, "SELECT"), told_reach, "{policies}");
        assert_eq!(
            ann("SELECT note FROM app.t ORDER BY id"),
            seen,
            "{policies}"
        );
    }
    // The role that asks is no column.
    stage.owner().ok("DROP POLICY p ON app.t; DROP POLICY q ON app.t; CREATE POLICY p ON app.t USING (current_user::text = current_tenant_user_id())");
    assert_eq!(told(&stage, "SELECT"), "all tenants");
    let mut session = stage.database.connect_with(
        &stage.app,
        &format!(
            "-c app.current_tenant_id={A} -c app.current_user_id={}",
            stage.app
        ),
    );
    assert_eq!(
        session.texts("SELECT note FROM app.t ORDER BY id").concat(),
        "ab"
    );
    // Taken from whoever shared them, and from tenants to the user.
    stage.owner().ok(&format!(
        "DROP POLICY p ON app.t;
         CREATE POLICY r ON app.t FOR SELECT USING (true);
         CREATE POLICY p ON app.t FOR UPDATE USING ({user}) WITH CHECK ({tenant})"
    ));
    assert_eq!(told(&stage, "UPDATE"), "all tenants");
    assert_eq!(
        ann(&format!(
            "UPDATE app.t SET tenant_id = '{A}' RETURNING note"
        )),
        "b"
    );
}

#[test]
fn casts_of_users_prove_nothing() {
    let stage = stage();
    stage.owner().ok(&format!(
        "CREATE TYPE app.tid AS (id uuid);
         CREATE FUNCTION app.leak(app.tid) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT '{A}' $$;
         CREATE CAST (app.tid AS text) WITH FUNCTION app.leak(app.tid);
         ALTER TABLE app.t ALTER tenant_id TYPE app.tid USING row(tenant_id)::app.tid"
    ));
    stage.owner().ok("SELECT * FROM app.t");
    assert_eq!(
        told_and_seen(&stage, "tenant_id::text = current_tenant_id_text()"),
        ("all tenants".to_owned(), "ab".to_owned())
    );
}

#[test]
fn tenants_that_a_collation_takes_for_equal_are_not_one() {
    let stage = Stage::with_type("text");
    let mut superuser = stage.superuser();
    // Not every server has ICU, which alone folds: elsewhere the catalog says so, and nothing is folded.
    let icu = "CREATE COLLATION app.folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";
    let folds = superuser.batch_execute(icu).is_ok();
    if !folds {
        superuser.ok(
            "CREATE COLLATION app.folded (provider = libc, locale = 'C');
             UPDATE pg_collation SET collisdeterministic = false WHERE collname = 'folded'",
        );
    }
    stage.owner().ok(
        "CREATE TABLE app.t (id int PRIMARY KEY, tenant_id text NOT NULL, note text);
         INSERT INTO app.t VALUES (1, 'acme', 'a'), (2, 'ACME', 'b');
         ALTER TABLE app.t ENABLE ROW LEVEL SECURITY; ALTER TABLE app.t FORCE ROW LEVEL SECURITY;
         CREATE POLICY p ON app.t USING (tenant_id = current_tenant_id_text())",
    );
    let seen = || {
        let mut session = stage.tenant("acme");
        session.texts("SELECT note FROM app.t ORDER BY id").concat()
    };
    assert_eq!(
        (told(&stage, "SELECT").as_str(), seen().as_str()),
        ("own tenant", "a")
    );
    stage.owner().ok(
        "DROP POLICY p ON app.t; ALTER TABLE app.t ALTER tenant_id TYPE text COLLATE app.folded;
         CREATE POLICY p ON app.t USING (tenant_id = current_tenant_id_text())",
    );
    assert_eq!(
        (told(&stage, "SELECT").as_str(), seen().as_str()),
        ("all tenants", if folds { "ab" } else { "a" })
    );
}

#[test]
fn settings_are_believed_that_say_who_asks() {
    let stage = stage();
    let claim = |path: &str| {
        format!("tenant_id::text = (current_setting('request.jwt.claims', true)::jsonb {path})")
    };
    let raw = "tenant_id::text = current_setting('app.current_tenant_id', true)".to_owned();
    let told = |policy: &str| {
        stage.owner().ok(&format!(
            "DROP POLICY IF EXISTS p ON app.t; CREATE POLICY p ON app.t FOR SELECT USING ({policy})"
        ));
        told(&stage, "SELECT")
    };
    for (policy, reach) in [
        (raw.clone(), "own tenant"),
        (
            "tenant_id::text = current_setting('application_name')".to_owned(),
            "all tenants",
        ),
        (claim("->> 'tenant_id'"), "all tenants"),
    ] {
        assert_eq!(told(&policy), reach, "{policy}");
    }
    stage.superuser().ok(
        "SELECT tenancy.bind(claims_setting => 'request.jwt.claims', tenant_claim => 'app_metadata.tenant_id')",
    );
    for (policy, reach) in [
        (raw.clone(), "all tenants"),
        (claim("-> 'app_metadata' ->> 'tenant_id'"), "own tenant"),
        (claim("#>> '{app_metadata,tenant_id}'"), "own tenant"),
        (claim("-> 'user_metadata' ->> 'tenant_id'"), "all tenants"),
        (claim("->> 'sub'"), "all tenants"),
    ] {
        assert_eq!(told(&policy), reach, "{policy}");
    }
    // Where members are asked, nobody is of a tenant for saying so.
    stage.superuser().ok(
        "SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id', membership => 'app.members', membership_user => 'member', membership_tenant => 'tenant')"
    );
    assert_eq!(told(&raw), "all tenants");
    assert_eq!(told("tenant_id = current_tenant_id()"), "own tenant");
    let mut session = stage.tenant(B);
    stage.owner().ok(&format!(
        "DROP POLICY p ON app.t; CREATE POLICY p ON app.t FOR SELECT USING ({raw})"
    ));
    assert_eq!(session.texts("SELECT note FROM app.t"), ["b"]);
}

#[test]
fn identifiers_in_quotes_change_nothing() {
    let stage = stage();
    let policy = "tenant_id = current_tenant_id()";
    let (plain, _) = told_and_seen(&stage, policy);
    let mut session = stage.nobody();
    session.ok("SET quote_all_identifiers = on");
    let matrix = format!(
        "SELECT reach FROM tenancy.access_matrix('{}') WHERE relation = 'app.t'::regclass AND command = 'SELECT'",
        stage.app
    );
    assert_eq!(session.text(&matrix), Some(plain));
    let findings = "SELECT code FROM tenancy.validate() WHERE object LIKE '%app%t%' ORDER BY 1";
    let quoted = session.texts(findings);
    session.ok("RESET quote_all_identifiers");
    assert_eq!(quoted, session.texts(findings));
}

#[test]
fn what_is_deep_is_an_answer_and_no_crash() {
    let stage = stage();
    let mut session = stage.nobody();
    let deep = "repeat('COALESCE(', 50000) || 'true' || repeat(')', 50000)";
    assert_eq!(
        session.text(&format!(
            "SELECT tenancy.expression_is_always_true({deep}, 'x')::text"
        )),
        Some("false".to_owned())
    );
    assert_eq!(
        session.text(&format!("SELECT tenancy.expression_reach('(x = ' || {deep} || ')', 'x', '{{}}', '{{}}', '{{}}', '{{}}')::text")),
        Some("{5,5}".to_owned())
    );
    for function in [
        "expression_open_without_context",
        "expression_asks_for_others",
    ] {
        let found = format!("SELECT (tenancy.{function}({deep}, 'x') IS NOT NULL)::text");
        assert_eq!(session.text(&found), Some("true".to_owned()), "{function}");
    }
    assert_eq!(
        session.int(&format!(
            "SELECT cardinality(tenancy.expression_disjuncts({deep}))"
        )),
        1
    );
    assert_eq!(
        session.text("SELECT tenancy.expression_is_always_true(repeat('(', 5000000) || 'true' || repeat(')', 5000000), 'x')::text"),
        Some("false".to_owned())
    );
}
