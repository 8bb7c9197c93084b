//! `tenancy.access_matrix()`: ways besides the table itself, what it is asked with, and the reference
//! systems.

mod policy_support;
mod scenario_support;

use std::collections::BTreeSet;

use pgrx_test::fixture::{ClientExt, expect_error};
use pgrx_test::scenario::{AGENTS, INSIGHTS, OKR, STUDIO};
use policy_support::{A, B, Stage};
use postgres::Client;

/// What is said of the application and a command on a table: its reach, the ways besides, their reach.
fn said(stage: &Stage, role: &str, table: &str, command: &str) -> [String; 3] {
    let row = stage
        .superuser()
        .rows(&format!(
            "SELECT reach, besides, besides_reach FROM tenancy.access_matrix('{role}')
             WHERE relation = 'app.{table}'::regclass AND command = '{command}'"
        ))
        .remove(0);
    let mut texts = row.into_iter().map(Option::unwrap_or_default);
    std::array::from_fn(|_| texts.next().unwrap_or_default())
}

fn notes(session: &mut Client, sql: &str) -> String {
    let mut notes = session.texts(sql);
    notes.sort();
    notes.join(" ")
}

/// `open` does not bind its owner, `tight` does; the application has no right to either.
fn stage() -> Stage {
    let stage = Stage::new();
    let mut owner = stage.owner();
    for (table, options) in [("open", r#"{"force": false}"#), ("tight", "{}")] {
        owner.ok(&format!(
            "CREATE TABLE app.{table} (id int PRIMARY KEY, tenant_id uuid NOT NULL, note text);
             INSERT INTO app.{table} VALUES (1, '{A}', 'a'), (2, '{B}', 'b')"
        ));
        stage.protect(&format!("app.{table}"), options);
        owner.ok(&format!("REVOKE ALL ON app.{table} FROM {}", stage.app));
    }
    owner.ok("ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM PUBLIC");
    owner.ok(&format!(
        "ALTER DEFAULT PRIVILEGES FOR ROLE {} REVOKE ALL ON TABLES FROM {}",
        stage.owner, stage.app
    ));
    stage
}

#[test]
fn views_are_ways_with_the_rights_of_their_owner() {
    let stage = stage();
    let (app, owner) = (&stage.app, &stage.owner);
    let mut session = stage.owner();
    // Each view, what is said of the table for it, and what the application sees through it as A.
    for (made, table, way, reach, seen) in [
        (
            "CREATE VIEW app.v AS SELECT note FROM app.open",
            "open",
            "view app.v as {owner}: all tenants",
            "all tenants",
            "a b",
        ),
        (
            "CREATE VIEW app.v AS SELECT note FROM app.tight",
            "tight",
            "view app.v as {owner}: own tenant",
            "own tenant",
            "a",
        ),
        (
            "CREATE VIEW app.w WITH (security_invoker) AS SELECT note FROM app.open; CREATE MATERIALIZED VIEW app.v AS SELECT note FROM app.w",
            "open",
            "materialized view app.v as {owner}: all tenants",
            "all tenants",
            "a b",
        ),
        (
            "CREATE VIEW app.w AS SELECT note FROM app.open; CREATE VIEW app.v WITH (security_invoker) AS SELECT note FROM app.w; GRANT SELECT ON app.w TO {app}",
            "open",
            "view app.w as {owner}: all tenants",
            "all tenants",
            "a b",
        ),
        (
            "CREATE MATERIALIZED VIEW app.v AS SELECT note FROM app.open",
            "open",
            "materialized view app.v as {owner}: all tenants",
            "all tenants",
            "a b",
        ),
        (
            "CREATE MATERIALIZED VIEW app.w AS SELECT note FROM app.open; CREATE VIEW app.v AS SELECT note FROM app.w",
            "open",
            "view app.v as {owner}: all tenants",
            "all tenants",
            "a b",
        ),
    ] {
        session.ok(&made.replace("{app}", app));
        session.ok(&format!("GRANT SELECT ON app.v TO {app}"));
        let expected = ["none", &way.replace("{owner}", owner), reach];
        assert_eq!(said(&stage, app, table, "SELECT"), expected, "{made}");
        assert_eq!(
            notes(&mut stage.tenant(A), "SELECT note FROM app.v"),
            seen,
            "{made}"
        );
        session.ok(&format!("REVOKE ALL ON app.v FROM {app}"));
        if made.contains("GRANT") {
            session.ok(&format!("REVOKE ALL ON app.w FROM {app}"));
        }
        assert_eq!(
            said(&stage, app, table, "SELECT"),
            ["none", "", ""],
            "without the grant: {made}"
        );
        session.ok("DO $$ DECLARE v record; BEGIN FOR v IN SELECT relname, relkind FROM pg_class WHERE relnamespace = 'app'::regnamespace AND relkind IN ('v', 'm') LOOP
            EXECUTE format('DROP %s VIEW IF EXISTS app.%I CASCADE', CASE v.relkind WHEN 'm' THEN 'MATERIALIZED' ELSE '' END, v.relname); END LOOP; END $$");
    }
    // What a materialized view copied is for whoever reads it, though its owner was bound, by way of a
    // view of somebody else too.
    stage.superuser().ok(&format!(
        "CREATE VIEW app.w WITH (security_invoker) AS SELECT note FROM app.tight; GRANT SELECT ON app.w TO {owner}"
    ));
    stage.role_as(owner, A).ok(&format!(
        "CREATE MATERIALIZED VIEW app.v AS SELECT note FROM app.w; GRANT SELECT ON app.v TO {app}"
    ));
    assert_eq!(
        said(&stage, app, "tight", "SELECT")[1..],
        [
            format!("materialized view app.v as {owner}: all tenants"),
            "all tenants".to_owned()
        ]
    );
    assert_eq!(notes(&mut stage.tenant(B), "SELECT note FROM app.v"), "a");
    stage
        .superuser()
        .ok("DROP MATERIALIZED VIEW app.v; DROP VIEW app.w");
    // Through a view with the rights of its caller there is nothing besides, even below another.
    session.ok(&format!(
        "CREATE VIEW app.w WITH (security_invoker) AS SELECT note FROM app.open; CREATE VIEW app.v AS SELECT note FROM app.w; GRANT SELECT ON app.v TO {app}"
    ));
    assert_eq!(said(&stage, app, "open", "SELECT"), ["none", "", ""]);
    assert_eq!(
        stage.tenant(A).error("SELECT FROM app.v").code().code(),
        "42501"
    );
    session.ok("DROP VIEW app.v, app.w");
    session.ok(&format!(
        "CREATE VIEW app.v WITH (security_invoker) AS SELECT note FROM app.open; GRANT ALL ON app.v, app.open TO {app}"
    ));
    assert_eq!(said(&stage, app, "open", "SELECT"), ["own tenant", "", ""]);
    // A view that can be written to.
    session.ok(&format!(
        "CREATE VIEW app.w AS SELECT * FROM app.open; GRANT INSERT ON app.w TO {app}"
    ));
    let insert = said(&stage, app, "open", "INSERT");
    assert_eq!(
        insert[1..],
        [
            format!("view app.w as {owner}: all tenants"),
            "all tenants".to_owned()
        ]
    );
    stage.tenant(A).ok(&format!(
        "INSERT INTO app.w VALUES (9, '{B}', 'written for another')"
    ));
    assert_eq!(said(&stage, app, "open", "UPDATE"), ["own tenant", "", ""]);
}

#[test]
fn functions_triggers_and_roles_are_ways_too() {
    let stage = stage();
    let (app, owner) = (&stage.app, &stage.owner);
    let mut session = stage.owner();
    session.ok(
        "CREATE FUNCTION app.f() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER SET search_path = '' AS 'SELECT note FROM app.open';
         CREATE FUNCTION app.g() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER SET search_path = '' BEGIN ATOMIC SELECT note FROM app.tight; END;
         CREATE FUNCTION app.h() RETURNS SETOF text LANGUAGE sql AS 'SELECT note FROM app.open';
         CREATE FUNCTION app.opener() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$ SELECT 'opened by app.opens' $$"
    );
    assert_eq!(
        said(&stage, app, "open", "SELECT"),
        [
            "none".to_owned(),
            format!("function app.f() as {owner}: all tenants"),
            "all tenants".to_owned()
        ]
    );
    assert_eq!(
        said(&stage, app, "tight", "SELECT")[1],
        format!("function app.g() as {owner}: own tenant")
    );
    let mut tenant = stage.tenant(A);
    assert_eq!(notes(&mut tenant, "SELECT * FROM app.f()"), "a b");
    assert_eq!(notes(&mut tenant, "SELECT * FROM app.g()"), "a");
    assert_eq!(said(&stage, app, "open", "INSERT"), ["none", "", ""]);
    session.ok("REVOKE EXECUTE ON FUNCTION app.f() FROM PUBLIC");
    assert_eq!(said(&stage, app, "open", "SELECT"), ["none", "", ""]);

    session.ok(&format!(
        "CREATE TABLE app.inbox (note text);
         CREATE FUNCTION app.deliver() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS
             $$ BEGIN INSERT INTO app.open VALUES (7, '{B}', NEW.note); RETURN NEW; END $$;
         CREATE TRIGGER delivers AFTER INSERT ON app.inbox FOR EACH ROW EXECUTE FUNCTION app.deliver()"
    ));
    assert_eq!(said(&stage, app, "open", "INSERT"), ["none", "", ""]);
    session.ok(&format!("GRANT INSERT ON app.inbox TO {app}"));
    assert_eq!(
        said(&stage, app, "open", "INSERT"),
        [
            "none".to_owned(),
            format!("trigger delivers on app.inbox as {owner}: all tenants"),
            "all tenants".to_owned()
        ]
    );
    tenant.ok("INSERT INTO app.inbox VALUES ('past row security')");

    let sleeper = stage.database.role("sleeper");
    stage.superuser().ok(&format!(
        "ALTER ROLE {sleeper} NOINHERIT; GRANT {owner} TO {sleeper}; GRANT USAGE ON SCHEMA app TO {sleeper}; REVOKE EXECUTE ON FUNCTION app.g() FROM PUBLIC"
    ));
    let way = format!("role {owner}: all tenants");
    assert_eq!(
        said(&stage, &sleeper, "open", "DELETE"),
        ["none", &way, "all tenants"]
    );
    let mut session = stage.role_as(&sleeper, A);
    assert_eq!(session.error("SELECT FROM app.open").code().code(), "42501");
    session.ok(&format!("SET ROLE {owner}"));
    assert_eq!(session.int("SELECT count(*) FROM app.open"), 3);
}

#[test]
fn functions_are_ways_by_views_and_views_by_functions() {
    let stage = stage();
    let (app, owner) = (&stage.app, &stage.owner);
    stage
        .superuser()
        .ok(&format!("CREATE SCHEMA hidden AUTHORIZATION {owner}"));
    let mut session = stage.owner();
    // No right to the function's schema is needed to read a view that calls it.
    session.ok(&format!(
        "CREATE FUNCTION hidden.f() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER SET search_path = '' AS 'SELECT note FROM app.open';
         CREATE VIEW app.v WITH (security_invoker) AS SELECT f AS note FROM hidden.f() AS f;
         CREATE VIEW app.w AS SELECT note FROM app.v; GRANT SELECT ON app.w TO {app}"
    ));
    assert_eq!(
        said(&stage, app, "open", "SELECT")[1..],
        [
            format!("function hidden.f() as {owner} in view app.w: all tenants"),
            "all tenants".to_owned()
        ]
    );
    let mut tenant = stage.tenant(A);
    assert_eq!(tenant.error("SELECT hidden.f()").code().code(), "42501");
    assert_eq!(notes(&mut tenant, "SELECT note FROM app.w"), "a b");
    session.ok("REVOKE EXECUTE ON FUNCTION hidden.f() FROM PUBLIC");
    assert_eq!(said(&stage, app, "open", "SELECT"), ["none", "", ""]);
    assert_eq!(
        tenant.error("SELECT note FROM app.w").code().code(),
        "42501"
    );
    // Of what was copied, no right to the function either.
    session.ok(&format!(
        "CREATE MATERIALIZED VIEW app.m AS SELECT note FROM app.v; GRANT SELECT ON app.m TO {app}"
    ));
    assert_eq!(
        said(&stage, app, "open", "SELECT")[1],
        format!("function hidden.f() as {owner} in materialized view app.m: all tenants")
    );
    assert_eq!(said(&stage, app, "open", "DELETE")[1], "");
    assert_eq!(notes(&mut tenant, "SELECT note FROM app.m"), "a b");
    session.ok("DROP MATERIALIZED VIEW app.m; DROP VIEW app.v CASCADE");

    // A function that names a view, which has the rights of the function's owner or of its own.
    session.ok("CREATE VIEW app.shown WITH (security_invoker) AS SELECT * FROM app.open;
         CREATE FUNCTION app.f() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER SET search_path = '' AS 'SELECT note FROM app.shown'");
    assert_eq!(
        said(&stage, app, "open", "SELECT")[1],
        format!("function app.f() as {owner} by view app.shown: all tenants")
    );
    assert_eq!(notes(&mut tenant, "SELECT app.f()"), "a b");
    session.ok("ALTER VIEW app.shown RESET (security_invoker)");
    let middle = stage.database.role("middle");
    session.ok(&format!(
        "GRANT USAGE ON SCHEMA app TO {middle}; GRANT SELECT ON app.shown TO {middle}"
    ));
    stage
        .superuser()
        .ok(&format!("ALTER FUNCTION app.f() OWNER TO {middle}"));
    assert_eq!(
        said(&stage, app, "open", "SELECT")[1],
        format!("function app.f() as {middle} by view app.shown as {owner}: all tenants")
    );
    assert_eq!(notes(&mut tenant, "SELECT app.f()"), "a b");
    assert_eq!(said(&stage, app, "tight", "SELECT")[1], "");
}

#[test]
fn dynamic_sql_may_reach_what_its_owner_does() {
    let stage = stage();
    let (app, owner) = (&stage.app, &stage.owner);
    let mut session = stage.owner();
    session.ok(
        "CREATE FUNCTION app.run(what text) RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS
             $$ BEGIN RETURN QUERY EXECUTE 'SELECT note FROM app.' || what; END $$;
         CREATE FUNCTION app.fixed() RETURNS int LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$ BEGIN RETURN 1; END $$"
    );
    for (table, reach) in [("open", "all tenants"), ("tight", "own tenant")] {
        assert_eq!(
            said(&stage, app, table, "SELECT"),
            [
                "none".to_owned(),
                format!("dynamic SQL of function app.run(text) as {owner} may reach: {reach}"),
                reach.to_owned()
            ]
        );
    }
    assert!(said(&stage, app, "open", "DELETE")[1].contains("may reach"));
    let mut tenant = stage.tenant(A);
    assert_eq!(notes(&mut tenant, "SELECT app.run('open')"), "a b");
    assert_eq!(notes(&mut tenant, "SELECT app.run('tight')"), "a");
    session.ok("REVOKE EXECUTE ON FUNCTION app.run(text) FROM PUBLIC");
    assert_eq!(said(&stage, app, "open", "SELECT"), ["none", "", ""]);
}

#[test]
fn parents_are_ways_to_their_children() {
    let stage = stage();
    let app = &stage.app;
    stage.owner().ok(&format!(
        "CREATE TABLE app.base (id int, note text);
         CREATE TABLE app.heir (tenant_id uuid NOT NULL) INHERITS (app.base);
         INSERT INTO app.heir VALUES (1, 'a', '{A}'), (2, 'b', '{B}');
         CREATE TABLE app.whole (id int, tenant_id uuid NOT NULL, note text) PARTITION BY RANGE (id);
         CREATE TABLE app.part PARTITION OF app.whole DEFAULT;
         INSERT INTO app.whole VALUES (1, '{A}', 'a'), (2, '{B}', 'b');
         GRANT SELECT, INSERT ON app.whole TO {app}; GRANT SELECT ON app.heir TO {app}"
    ));
    stage.protect("app.heir", "{}");
    stage.protect("app.whole", "{}");
    assert_eq!(said(&stage, app, "heir", "SELECT"), ["own tenant", "", ""]);
    stage.owner().ok(&format!(
        "GRANT SELECT, INSERT, DELETE ON app.base TO {app}"
    ));
    let parent = "parent app.base: all tenants";
    for (command, besides) in [("SELECT", parent), ("DELETE", parent), ("INSERT", "")] {
        assert_eq!(said(&stage, app, "heir", command)[1], besides, "{command}");
    }
    let mut tenant = stage.tenant(A);
    assert_eq!(notes(&mut tenant, "SELECT note FROM app.heir"), "a");
    assert_eq!(notes(&mut tenant, "SELECT note FROM app.base"), "a b");
    for command in ["SELECT", "INSERT"] {
        assert_eq!(
            said(&stage, app, "part", command),
            ["none", "parent app.whole: own tenant", "own tenant"]
        );
    }
    assert_eq!(notes(&mut tenant, "SELECT note FROM app.whole"), "a");
    assert_eq!(tenant.error("SELECT FROM app.part").code().code(), "42501");
}

#[test]
fn it_is_asked_with_care() {
    let stage = stage();
    let mut session = stage.nobody();
    let error = session.error("SELECT * FROM tenancy.access_matrix('nobody at all')");
    expect_error(&error, "42704", "nobody at all");
    assert!(error.hint().is_some());
    // A name of 63 bytes that needs quotes.
    let name = format!(
        "Sally's \"role\" {}_{}",
        stage.database.name,
        "é".repeat(40)
    );
    let name: String = name
        .chars()
        .scan(0, |bytes, c| {
            *bytes += c.len_utf8();
            (*bytes <= 63).then_some(c)
        })
        .collect();
    let quoted = name.replace('"', "\"\"");
    stage.database.adopt_role(&name);
    stage.superuser().ok(&format!(
        "CREATE ROLE \"{quoted}\"; GRANT SELECT ON app.tight TO \"{quoted}\"; GRANT USAGE ON SCHEMA app TO \"{quoted}\""
    ));
    let literal = name.replace('\'', "''");
    assert_eq!(
        session.int(&format!(
            "SELECT count(*) FROM tenancy.access_matrix('{literal}') WHERE role = '{literal}' AND reach = 'own tenant'"
        )),
        1
    );
    // Who has nothing is not listed, who has anything is: logging in or not.
    let idle = stage.database.role("idle");
    let listed = |session: &mut Client| -> BTreeSet<String> {
        session
            .texts("SELECT DISTINCT role FROM tenancy.access_matrix()")
            .into_iter()
            .collect()
    };
    let roles = listed(&mut session);
    assert!(
        roles.contains(&stage.owner) && roles.contains(&name),
        "{roles:?}"
    );
    assert!(
        !roles.contains(&idle) && !roles.contains(&stage.app),
        "{roles:?}"
    );
    assert_eq!(
        session.int(&format!(
            "SELECT count(*) FROM tenancy.access_matrix('{idle}') WHERE reach = 'none' AND granted_by IS NULL"
        )),
        8
    );
    // Without a transaction id, without calling what a user wrote, whatever the session's search_path.
    stage.owner().ok(
        "CREATE FUNCTION app.trap() RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE 'called'; END $$;
         CREATE POLICY trapped ON app.tight USING (app.trap())",
    );
    session.ok("SET search_path = app; BEGIN READ ONLY");
    session.rows("SELECT * FROM tenancy.access_matrix()");
    assert_eq!(
        session.text("SELECT pg_catalog.pg_current_xact_id_if_assigned()"),
        None
    );
}

#[test]
fn in_the_reference_systems_applications_reach_their_own_tenant() {
    for (scenario, roles, open, besides) in [
        (
            &OKR,
            &["stratixv2_app"][..],
            &["neon_auth.users_sync"][..],
            "",
        ),
        (&INSIGHTS, &["insights_app", "insights_accounts"], &[], ""),
        (
            &STUDIO,
            &["studio_app"],
            &[],
            "function platform.user_of_token(text) as studio_gate: all tenants",
        ),
        (
            &AGENTS,
            &["agents_app", "agents_signup"],
            &[],
            // Left over from the policies as they were.
            "function auth.is_super_admin() as postgres: all tenants",
        ),
    ] {
        let system = scenario_support::Stage::new(scenario);
        for role in roles {
            let cells = system.superuser().rows(&format!(
                "SELECT tenancy.qualified_name(relation), command, reach, besides FROM tenancy.access_matrix('{}')",
                system.role(role)
            ));
            assert!(cells.len() >= 16, "{role}: {}", cells.len());
            let wide: BTreeSet<_> = cells
                .iter()
                .filter(|cell| cell[2].as_deref() == Some("all tenants"))
                .filter_map(|cell| cell[0].as_deref())
                .collect();
            assert!(wide.iter().eq(open), "{role}: {wide:?}");
            assert!(
                cells
                    .iter()
                    .any(|cell| cell[2].as_deref() == Some("own tenant")),
                "{role}"
            );
            let ways: BTreeSet<_> = cells
                .iter()
                .filter_map(|cell| cell[3].clone())
                .map(|ways| system.renamed(ways))
                .collect();
            let ways: Vec<_> = ways.into_iter().collect();
            assert_eq!(ways.join("\n"), besides, "{role}");
        }
    }
}
