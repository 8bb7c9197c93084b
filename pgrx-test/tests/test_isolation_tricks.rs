//! `tenancy.test_isolation()` under attack itself: nothing that it runs gains by it, nothing remains, and
//! it never passes for want of an attack.

mod isolation_support;
mod policy_support;

use isolation_support::{FAILED, protected};
use pgrx_test::fixture::{ClientExt, expect_error, quote_ident};
use policy_support::{A, B, Stage};
use postgres::Client;

fn told(session: &mut Client, role: &str, columns: &str, condition: &str) -> Vec<String> {
    session.texts(&format!(
        "SELECT concat_ws(' ', {columns}) FROM tenancy.test_isolation('{role}') WHERE {condition}"
    ))
}

fn test(role: &str) -> String {
    format!("SELECT * FROM tenancy.test_isolation('{role}')")
}

/// Each tries, in the session of a superuser, to be the superuser again.
#[test]
fn a_trigger_cannot_take_the_callers_role_back() {
    for escape in [
        "RESET ROLE",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION DEFAULT",
        "SET SESSION AUTHORIZATION postgres",
    ] {
        let stage = protected();
        stage.superuser().ok(
            "CREATE TABLE public.treasure (who text); INSERT INTO public.treasure VALUES ('nobody')",
        );
        stage.owner().ok(&format!(
            "CREATE FUNCTION app.escape() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 BEGIN {escape}; EXCEPTION WHEN OTHERS THEN NULL; END;
                 BEGIN
                     UPDATE public.treasure SET who = current_user;
                     PERFORM set_config('escaped.as', current_user, false);
                     RAISE EXCEPTION 'escaped as %', current_user;
                 EXCEPTION WHEN insufficient_privilege THEN NULL;
                 END;
                 RETURN coalesce(NEW, OLD); END $$;
             CREATE TRIGGER escape BEFORE INSERT OR UPDATE OR DELETE ON app.items FOR EACH ROW EXECUTE FUNCTION app.escape();
             CREATE TRIGGER escape_later AFTER INSERT OR UPDATE OR DELETE ON app.items FOR EACH ROW EXECUTE FUNCTION app.escape();"
        ));
        let mut superuser = stage.superuser();
        assert_eq!(
            told(
                &mut superuser,
                &stage.app,
                "relation, attack, detail",
                "detail LIKE 'escaped%'"
            ),
            [""; 0],
            "{escape}"
        );
        assert_eq!(
            superuser.text("SELECT who FROM public.treasure").as_deref(),
            Some("nobody")
        );
        assert_eq!(
            superuser.text("SELECT current_user").as_deref(),
            Some("postgres")
        );
    }
}

/// A trigger that only fails for the harness has not refused anything.
/// What belongs to a superuser is read and written as one.
#[test]
fn tables_of_superusers_run_nobody_elses_code() {
    let stage = protected();
    let mut superuser = stage.superuser();
    let mut owner = stage.owner();
    owner.ok("CREATE TYPE app.kind AS ENUM ('x');
         CREATE FUNCTION app.spy() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE FUNCTION app.even(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
         CREATE TABLE app.part (LIKE app.items)");
    for (made, gone, whose) in [
        (
            "ALTER TABLE app.items ADD kind app.kind",
            "ALTER TABLE app.items DROP kind",
            "type kind",
        ),
        (
            "CREATE TRIGGER spy BEFORE UPDATE ON app.items FOR EACH ROW EXECUTE FUNCTION app.spy()",
            "DROP TRIGGER spy ON app.items",
            "function spy",
        ),
        (
            "ALTER TABLE app.items ADD CONSTRAINT even CHECK (app.even(id))",
            "ALTER TABLE app.items DROP CONSTRAINT even",
            "function even",
        ),
        (
            "CREATE INDEX even ON app.items (app.even(id))",
            "DROP INDEX app.even",
            "function even",
        ),
        (
            "ALTER TABLE app.part INHERIT app.items",
            "ALTER TABLE app.part NO INHERIT app.items",
            "table app.part",
        ),
    ] {
        owner.ok(made);
        superuser.ok("ALTER TABLE app.items OWNER TO postgres");
        let error = superuser.error(&test(&stage.app));
        expect_error(&error, "55000", "app.items would run code");
        let detail = error.detail().unwrap();
        assert!(detail.contains(whose), "{detail}");
        superuser.ok(&format!(
            "ALTER TABLE app.items OWNER TO {}",
            quote_ident(&stage.owner)
        ));
        superuser.ok(gone);
    }
    superuser.ok("DROP TABLE app.part; ALTER TABLE app.items OWNER TO postgres");
    assert_eq!(
        told(&mut superuser, &stage.app, "relation", FAILED),
        [""; 0]
    );
}

#[test]
fn a_trigger_that_wants_another_role_is_no_refusal() {
    let stage = protected();
    stage.owner().ok(
        "CREATE FUNCTION app.needy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RESET ROLE; RETURN NEW; END $$;
         CREATE TRIGGER needy BEFORE INSERT ON app.items FOR EACH ROW EXECUTE FUNCTION app.needy();",
    );
    let found = told(
        &mut stage.superuser(),
        &stage.app,
        "attack, sqlstate",
        FAILED,
    );
    assert_eq!(found, ["insert 42501", "upsert 42501"]);
}

#[test]
fn code_that_would_commit_is_told() {
    let stage = protected();
    stage.owner().ok(
        "CREATE PROCEDURE app.ends() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;
         CREATE FUNCTION app.ending() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN CALL app.ends(); RETURN NEW; END $$;
         CREATE TRIGGER ending BEFORE INSERT ON app.items FOR EACH ROW EXECUTE FUNCTION app.ending();",
    );
    let found = told(
        &mut stage.superuser(),
        &stage.app,
        "attack, sqlstate",
        FAILED,
    );
    assert_eq!(found, ["insert 2D000", "upsert 2D000"]);
    assert_eq!(stage.superuser().int("SELECT count(*) FROM app.items"), 3);
}

/// On a table that leaks, so that every write succeeds before it is undone.
#[test]
fn nothing_remains() {
    let stage = Stage::new();
    stage.owner().ok(&format!(
        "CREATE TABLE app.notes (id int PRIMARY KEY, tenant_id uuid NOT NULL, body text NOT NULL);
         INSERT INTO app.notes VALUES (1, '{A}', 'of a'), (2, '{B}', 'of b');
         CREATE TABLE app.log (line bigserial, what text);
         GRANT USAGE ON SEQUENCE app.log_line_seq TO {app};
         CREATE FUNCTION app.logs() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO app.log (what) VALUES (TG_OP); PERFORM set_config('my.mark', 'left', false); RETURN NULL; END $$;
         CREATE TRIGGER logs AFTER INSERT OR UPDATE OR DELETE ON app.notes FOR EACH ROW EXECUTE FUNCTION app.logs();",
        app = stage.app
    ));
    let mut superuser = stage.superuser();
    let versions = "SELECT string_agg(concat(xmin, ctid, n), ' ' ORDER BY id) FROM app.notes AS n";
    let before = superuser.text(versions);
    superuser.ok(&format!(
        "BEGIN; SET LOCAL lc_messages = 'C'; SET LOCAL row_security = off;
         SET LOCAL session_replication_role = replica; SET LOCAL search_path = app;
         SET LOCAL tenancy.service_tenant = '{B}'"
    ));
    let found = told(
        &mut superuser,
        &stage.app,
        "relation, attack",
        "result = 'LEAK'",
    );
    assert!(found.contains(&"app.notes delete".to_owned()), "{found:?}");
    for (question, expected) in [
        ("SELECT current_tenant_id()", B),
        ("SHOW row_security", "off"),
        ("SHOW tenancy.service_tenant", B),
        ("SHOW session_replication_role", "replica"),
        ("SHOW search_path", "app"),
        ("SELECT current_user", "postgres"),
        ("SELECT count(*) FROM pg_cursors", "0"),
        ("SELECT count(*) FROM app.log", "0"),
        ("SELECT coalesce(current_setting('my.mark', true), '')", ""),
    ] {
        let question = question.replace("current_tenant_id()", "public.current_tenant_id()");
        assert_eq!(
            superuser.text(&question).as_deref(),
            Some(expected),
            "{question}"
        );
    }
    superuser.ok("COMMIT");
    assert_eq!(superuser.text(versions), before);
    assert_eq!(
        told(
            &mut superuser,
            &stage.app,
            "relation, result",
            "attack = 'side effect'"
        ),
        ["app.log_line_seq nothing"]
    );
}

#[test]
fn the_context_is_put_back_after_an_error_and_a_cancel() {
    let stage = protected();
    stage.superuser().ok(
        "CREATE FUNCTION app.sleeps() RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM pg_sleep(60); RETURN true; END $$;
         CREATE POLICY sleepy ON app.items AS RESTRICTIVE FOR UPDATE USING (app.sleeps())",
    );
    let mut superuser = stage.superuser();
    superuser.ok(&format!(
        "BEGIN; SET LOCAL app.current_tenant_id = '{B}'; SAVEPOINT before; SET LOCAL statement_timeout = '1s'"
    ));
    let error = superuser.error(&test(&stage.app));
    assert_eq!(error.code().code(), "57014");
    superuser.ok("ROLLBACK TO before");
    assert_eq!(
        superuser.text("SELECT current_tenant_id()").as_deref(),
        Some(B)
    );
    assert_eq!(
        superuser.text("SELECT current_user").as_deref(),
        Some("postgres")
    );
    expect_error(&superuser.error(&test("postgres")), "55000", "superuser");
    superuser.ok("ROLLBACK TO before");
    assert_eq!(
        superuser.text("SELECT current_tenant_id()").as_deref(),
        Some(B)
    );
    assert_eq!(superuser.text("SHOW row_security").as_deref(), Some("on"));
}

#[test]
fn roles_that_are_not_bound_are_refused() {
    let stage = protected();
    let mut superuser = stage.superuser();
    let (bypasses, member) = (
        stage.database.role("bypasses"),
        stage.database.role("member"),
    );
    superuser.ok(&format!(
        "ALTER ROLE {bypasses} BYPASSRLS; GRANT {bypasses} TO {member}; GRANT USAGE ON SCHEMA app TO {member};
         GRANT SELECT ON app.items TO {member}, {bypasses}"
    ));
    for (role, why) in [
        ("postgres", "superuser"),
        (bypasses.as_str(), "BYPASSRLS"),
        (member.as_str(), "member of"),
    ] {
        expect_error(&superuser.error(&test(role)), "55000", why);
        let gate = format!("SELECT tenancy.assert_isolation('{role}')");
        expect_error(&superuser.error(&gate), "55000", "does not bind");
    }
    superuser.ok(&test(&stage.owner));
    superuser.ok("ALTER TABLE app.items NO FORCE ROW LEVEL SECURITY");
    expect_error(&superuser.error(&test(&stage.owner)), "55000", "app.items");
    let stranger = stage.database.role("stranger");
    expect_error(&superuser.error(&test(&stranger)), "55000", "no privilege");
}

/// What the role has only once it has taken another is that role's test.
#[test]
fn a_role_that_it_can_become_is_no_pass() {
    let stage = protected();
    let other = stage.database.role("other");
    let mut superuser = stage.superuser();
    superuser.ok(&format!(
        "ALTER ROLE {} NOINHERIT; GRANT {other} TO {}",
        stage.app, stage.app
    ));
    let found = told(
        &mut superuser,
        &stage.app,
        "attack, result, relation",
        FAILED,
    );
    assert_eq!(found, [format!("SET ROLE not attacked role {other}")]);
    let gate = format!("SELECT tenancy.assert_isolation('{}')", stage.app);
    assert_eq!(superuser.error(&gate).code().code(), "55000");
    superuser.ok(&format!("REVOKE {other} FROM {}", stage.app));
    superuser.ok(&gate);
}

/// Before 16, such a role grants itself any other.
#[test]
fn a_role_that_may_create_roles() {
    let stage = protected();
    let mut superuser = stage.superuser();
    superuser.ok(&format!("ALTER ROLE {} CREATEROLE", stage.app));
    let found = told(&mut superuser, &stage.app, "attack, result", FAILED);
    if stage.database.server().version < 16 {
        assert_eq!(found, ["CREATEROLE not attacked"]);
    } else {
        assert_eq!(found, [""; 0]);
    }
}

#[test]
fn who_may_not_is_refused() {
    let stage = protected();
    let mut owner = stage.owner();
    expect_error(&owner.error(&test(&stage.app)), "42501", "SET ROLE");
    stage
        .superuser()
        .ok(&format!("GRANT {} TO {}", stage.app, stage.owner));
    assert_eq!(told(&mut owner, &stage.app, "attack", FAILED), [""; 0]);
    // A member who owns nothing; a role may be itself.
    expect_error(
        &stage.nobody().error(&test(&stage.app)),
        "42501",
        "must be owner",
    );
    stage
        .superuser()
        .ok("CREATE TABLE public.more (tenant_id uuid)");
    expect_error(&owner.error(&test(&stage.app)), "42501", "public.more");
    let mut superuser = stage.superuser();
    let ask = |more: &str| {
        format!(
            "SELECT * FROM tenancy.test_isolation('{}', {more})",
            stage.app
        )
    };
    expect_error(
        &superuser.error(&ask(&format!("'{A}', '{A}'"))),
        "22023",
        "itself",
    );
    expect_error(&superuser.error(&ask("'not a uuid'")), "22P02", "uuid");
}

#[test]
fn tenants_can_be_named() {
    let stage = protected();
    let mut superuser = stage.superuser();
    stage.owner().ok("ALTER TABLE app.items NO FORCE ROW LEVEL SECURITY; ALTER TABLE app.items DISABLE ROW LEVEL SECURITY");
    for (tenant, other, rows) in [(A, B, 1), (B, A, 2)] {
        let detail = superuser.text(&format!(
            "SELECT detail FROM tenancy.test_isolation('{}', '{tenant}', '{other}') WHERE attack = 'select'",
            stage.app
        ));
        assert_eq!(
            detail,
            Some(format!("{rows} rows of the other tenant were read"))
        );
    }
}

#[test]
fn names_need_no_care() {
    let stage = Stage::new();
    let long = "x".repeat(63);
    let (dotted, odd) = ("a.b", "He said \"no\" 'yes' \\ é");
    for name in [long.as_str(), dotted, odd] {
        let (table, column) = (quote_ident(name), quote_ident(&format!("{}c", &name[..3])));
        stage.owner().ok(&format!(
            "CREATE TABLE app.{table} (id int PRIMARY KEY, tenant_id uuid NOT NULL, {column} text);
             INSERT INTO app.{table} VALUES (1, '{A}', E'a\\\\'), (2, '{B}', 'it''s');"
        ));
        stage.owner().ok(&format!(
            "SELECT tenancy.protect_table($n$app.{table}$n$, mode => 'enforce')"
        ));
    }
    let mut superuser = stage.superuser();
    assert_eq!(
        told(
            &mut superuser,
            &stage.app,
            "relation, attack, detail",
            FAILED
        ),
        [""; 0]
    );
    let odd = quote_ident("Odd.Role 'é'");
    superuser.ok(&format!("CREATE ROLE {odd}; GRANT {} TO {odd}", stage.app));
    stage.database.adopt_role("Odd.Role 'é'");
    assert_eq!(
        told(
            &mut superuser,
            "Odd.Role ''é''",
            "relation, attack, detail",
            FAILED
        ),
        [""; 0]
    );
}

/// Tables where a tenant has no rows yet, and where none can be made.
#[test]
fn rows_are_made_where_there_are_none() {
    let stage = Stage::new();
    stage.owner().ok(&format!(
        "CREATE TABLE app.parents (id int PRIMARY KEY, tenant_id uuid NOT NULL, UNIQUE (tenant_id, id));
         CREATE TABLE app.lonely (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL, code varchar(5) NOT NULL UNIQUE,
             at timestamptz NOT NULL UNIQUE, parent int NOT NULL, FOREIGN KEY (tenant_id, parent) REFERENCES app.parents (tenant_id, id));
         INSERT INTO app.parents VALUES (1, '{A}'), (2, '{B}');
         INSERT INTO app.lonely (tenant_id, code, at, parent) VALUES ('{A}', 'a', now(), 1);
         CREATE TABLE app.empty (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL, name text NOT NULL, size numeric NOT NULL,
             double numeric GENERATED ALWAYS AS (size * 2) STORED);
         CREATE TABLE app.shapes (id int PRIMARY KEY, tenant_id uuid NOT NULL, outline polygon NOT NULL);"
    ));
    for table in ["parents", "lonely", "empty", "shapes"] {
        stage.protect(&format!("app.{table}"), "{}");
    }
    let mut superuser = stage.superuser();
    assert_eq!(
        told(
            &mut superuser,
            &stage.app,
            "relation, attack, detail",
            FAILED
        ),
        [
            "app.shapes all column \"outline\" needs a value of type polygon, and there is no row to copy"
        ]
    );
    assert_eq!(
        told(
            &mut superuser,
            &stage.app,
            "attack",
            "relation = 'app.empty' AND result = 'refused'"
        ),
        ["insert", "move", "upsert", "truncate"]
    );
    let gate = format!("SELECT tenancy.assert_isolation('{}')", stage.app);
    expect_error(&superuser.error(&gate), "55000", "not proven");
    superuser.ok("DROP TABLE app.shapes");
    superuser.ok(&gate);
    assert_eq!(superuser.int("SELECT count(*) FROM app.empty"), 0);
}

/// Nobody has rows anywhere: the tenants are made up.
#[test]
fn an_empty_system_is_tested_too() {
    let stage = Stage::new();
    stage
        .owner()
        .ok("CREATE TABLE app.t (id int PRIMARY KEY, tenant_id uuid NOT NULL)");
    stage.protect("app.t", "{}");
    let mut superuser = stage.superuser();
    superuser.ok(&format!("SELECT tenancy.assert_isolation('{}')", stage.app));
    superuser.ok("DROP POLICY t_tenant_isolation_select ON app.t; CREATE POLICY r ON app.t FOR SELECT USING (true)");
    assert_eq!(
        told(&mut superuser, &stage.app, "attack", "result = 'LEAK'"),
        ["select"]
    );
}

#[test]
fn a_child_belongs_to_its_parents_tenant() {
    let stage = Stage::new();
    stage.owner().ok(&format!(
        "CREATE TABLE app.items (id int PRIMARY KEY, tenant_id uuid NOT NULL);
         CREATE TABLE app.parts (id int PRIMARY KEY, item int NOT NULL REFERENCES app.items, note text);
         INSERT INTO app.items VALUES (1, '{A}'), (2, '{B}'); INSERT INTO app.parts VALUES (1, 1), (2, 2);"
    ));
    stage.protect("app.items", "{}");
    stage
        .owner()
        .ok("SELECT tenancy.protect_table('app.parts', 'child', mode => 'enforce')");
    let mut superuser = stage.superuser();
    assert_eq!(
        told(
            &mut superuser,
            &stage.app,
            "relation, attack, detail",
            FAILED
        ),
        [""; 0]
    );
    for (policy, command, leak) in [
        (
            "parts_tenant_isolation_select",
            "SELECT USING (true)",
            "select",
        ),
        (
            "parts_tenant_isolation_update",
            "UPDATE USING (true)",
            "move",
        ),
        (
            "parts_tenant_isolation_delete",
            "DELETE USING (true)",
            "delete",
        ),
    ] {
        superuser.ok(&format!(
            "BEGIN; DROP POLICY {policy} ON app.parts; CREATE POLICY open ON app.parts FOR {command}"
        ));
        let leaks = told(&mut superuser, &stage.app, "attack", "result = 'LEAK'");
        assert!(leaks.contains(&leak.to_owned()), "{policy}: {leaks:?}");
        superuser.ok("ROLLBACK");
    }
}

/// The caller's session may have switched off what binds.
#[test]
fn settings_of_the_caller_do_not_matter() {
    let stage = protected();
    let mut superuser = stage.superuser();
    superuser.ok("SET row_security = off; SET session_replication_role = replica");
    assert_eq!(
        told(&mut superuser, &stage.app, "attack, detail", FAILED),
        [""; 0]
    );
    superuser.ok("ALTER TABLE app.items DISABLE ROW LEVEL SECURITY");
    let leaks = told(&mut superuser, &stage.app, "attack", "result = 'LEAK'");
    assert!(leaks.contains(&"select".to_owned()), "{leaks:?}");
}

#[test]
fn rows_that_others_hold_are_passed_over_and_said() {
    let stage = protected();
    let mut other = stage.owner();
    other.ok("ALTER TABLE app.items NO FORCE ROW LEVEL SECURITY");
    other.ok("BEGIN; SELECT FROM app.items FOR UPDATE");
    let mut superuser = stage.superuser();
    superuser.ok("SET lock_timeout = '200ms'");
    let found = told(&mut superuser, &stage.app, "attack", FAILED);
    assert_eq!(
        found,
        ["insert", "update", "delete", "take", "move", "upsert"]
    );
    other.ok("ROLLBACK");
    assert_eq!(told(&mut superuser, &stage.app, "attack", FAILED), [""; 0]);
}

#[test]
fn the_result_as_tap() {
    let stage = protected();
    let mut superuser = stage.superuser();
    superuser.ok(&format!("GRANT TRUNCATE ON app.items TO {}", stage.app));
    let lines = superuser.texts(&format!(
        "SELECT * FROM tenancy.test_isolation_tap('{}')",
        stage.app
    ));
    assert_eq!(lines[0], "1..8");
    assert_eq!(lines[1], "ok 1 - app.items: select: nothing");
    assert!(
        lines[2].starts_with("ok 2 - app.items: insert: refused\n# 42501 new row violates"),
        "{lines:?}"
    );
    assert!(lines[8].starts_with("not ok 8 - app.items: truncate: LEAK\n# TRUNCATE is granted"));
}
