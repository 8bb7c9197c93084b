//! `tenancy.test_isolation()` where a leak hides: behind one column that fails, rows that change meanwhile, settings
//! of the role, triggers that always act. What cannot be shown there is told, and never passes.

mod isolation_support;
mod policy_support;

use std::thread;

use isolation_support::{FAILED, Planted, USING_TRUE, protected};
use pgrx_test::fixture::{ClientExt, expect_error};

#[test]
fn a_row_that_a_restricting_key_keeps_was_reached() {
    let planted = Planted::before(USING_TRUE);
    planted.owner(
        "CREATE TABLE app.parts (id int PRIMARY KEY, note int NOT NULL REFERENCES app.notes ON DELETE RESTRICT); INSERT INTO app.parts VALUES (1, 2);
         REVOKE ALL ON app.parts FROM {app};",
    );
    let found = planted.results("app.notes");
    assert!(found.contains(&"delete LEAK".to_owned()), "{found:?}");
}

/// One function that may not be called does not hide the other columns.
#[test]
fn a_view_of_which_one_column_may_not_be_computed() {
    let planted = Planted::after("");
    planted.superuser(
        "CREATE FUNCTION app.secret(t text) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN t; END $$;
         REVOKE ALL ON FUNCTION app.secret(text) FROM PUBLIC;
         CREATE VIEW app.every AS SELECT id, body, app.secret(body) AS hidden FROM app.notes; GRANT SELECT ON app.every TO {app};
         CREATE VIEW app.own AS SELECT id, body, app.secret(body) AS hidden FROM app.notes WHERE tenant_id = public.current_tenant_id();
         CREATE VIEW app.counted AS SELECT app.secret(body) AS hidden FROM app.notes;
         GRANT SELECT ON app.every, app.own, app.counted TO {app};",
    );
    assert_eq!(planted.results("app.every"), ["select LEAK"]);
    assert_eq!(planted.results("app.own"), ["select nothing"]);
    assert_eq!(planted.results("app.counted"), ["select LEAK"]);
}

/// Who may only write a column need not read it.
#[test]
fn a_view_that_may_only_be_updated() {
    let planted = Planted::after("");
    planted.superuser(
        "CREATE VIEW app.every AS SELECT * FROM app.notes; GRANT UPDATE (body) ON app.every TO {app};",
    );
    assert_eq!(planted.results("app.every"), ["update LEAK"]);
}

#[test]
fn a_view_that_names_the_tenant_otherwise() {
    let planted = Planted::after("");
    planted.superuser(
        "CREATE VIEW app.renamed AS SELECT id, tenant_id AS org, body FROM app.notes; GRANT INSERT ON app.renamed TO {app};
         CREATE VIEW app.without AS SELECT id, body FROM app.notes; GRANT INSERT ON app.without TO {app};",
    );
    assert_eq!(planted.results("app.renamed"), ["insert not attacked"]);
    assert_eq!(planted.results("app.without"), ["insert nothing"]);
}

/// A row of one's own becomes another tenant's through a view that checks nothing.
#[test]
fn a_move_through_a_view() {
    let planted = Planted::before("");
    planted.stage.items();
    planted.stage.protect("app.items", "{}");
    planted.superuser(
        "REVOKE ALL ON app.notes FROM {app};
         CREATE VIEW app.own AS SELECT * FROM app.notes WHERE tenant_id = public.current_tenant_id();
         CREATE VIEW app.checked AS SELECT * FROM app.notes WHERE tenant_id = public.current_tenant_id() WITH CHECK OPTION;
         GRANT SELECT, UPDATE ON app.own, app.checked TO {app};",
    );
    assert_eq!(
        planted.results("app.own"),
        ["update nothing", "move LEAK", "select nothing"]
    );
    let checked = planted.results("app.checked");
    assert!(
        checked.contains(&"update nothing".to_owned())
            && !checked.contains(&"move LEAK".to_owned()),
        "{checked:?}"
    );
}

/// The other tenant has no row there yet, and whoever knows its key is shown it.
#[test]
fn a_function_over_a_table_without_rows_of_the_other_tenant() {
    let planted = Planted::after(
        "CREATE TABLE app.days (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL, done text NOT NULL);
         INSERT INTO app.days (tenant_id, done) VALUES ('{A}', 'yes');
         SELECT tenancy.protect_table('app.days', mode => 'enforce');",
    );
    planted.superuser(
        "CREATE FUNCTION app.day(d uuid) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT done FROM app.days WHERE id = d'",
    );
    assert_eq!(planted.results("app.day(uuid)"), ["call LEAK"]);
}

/// What it writes into one's own rows says nothing of what it takes.
#[test]
fn a_function_that_logs_and_takes_a_secret() {
    let planted = Planted::after(
        "CREATE TABLE app.log (tenant_id uuid NOT NULL, what text);
         INSERT INTO app.log (tenant_id) VALUES ('{A}'), ('{B}');
         SELECT tenancy.protect_table('app.log', mode => 'enforce');",
    );
    planted.superuser(
        "CREATE FUNCTION app.by_secret(s text) RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS $$ BEGIN
             INSERT INTO app.log (tenant_id, what) VALUES (public.current_tenant_id(), 'asked');
             RETURN (SELECT body FROM app.notes WHERE md5(body) = md5(s || 1)); END $$",
    );
    let found = planted.stage.superuser().texts(&planted.filled(
        "SELECT result FROM tenancy.test_isolation('{app}', volatile_functions => true) WHERE attack = 'call'",
    ));
    assert_eq!(found, ["not attacked"]);
}

/// The call sees rows as they were when it began, and its statements meet them as they are.
#[test]
fn a_row_that_somebody_changes_meanwhile_is_reached() {
    let planted = Planted::before(USING_TRUE);
    let ask = planted.filled(
        "SELECT attack || ' ' || result FROM tenancy.test_isolation((SELECT '{app}'::name FROM pg_sleep(3))) WHERE relation = 'app.notes'",
    );
    let mut session = planted.stage.superuser();
    let mut other = planted.stage.superuser();
    let pid = session.int("SELECT pg_backend_pid()");
    let asked = thread::spawn(move || session.texts(&ask));
    other.see_waiting(pid, "wait_event = 'PgSleep'");
    other.ok("UPDATE app.notes SET body = 'changed' WHERE id = 2");
    let found = asked.join().expect("a result");
    for attack in ["update LEAK", "delete LEAK", "take LEAK"] {
        assert!(found.contains(&attack.to_owned()), "{found:?}");
    }
}

#[test]
fn rules_that_always_act_are_no_pass() {
    let planted = Planted::before(USING_TRUE);
    planted.owner(
        "CREATE RULE gone AS ON DELETE TO app.notes DO INSTEAD NOTHING; ALTER TABLE app.notes ENABLE ALWAYS RULE gone;",
    );
    assert!(
        planted
            .results("app.notes")
            .contains(&"delete not attacked".to_owned())
    );
}

#[test]
fn triggers_that_always_act_and_are_refused_are_no_pass() {
    let planted = Planted::before(USING_TRUE);
    planted.owner(
        "CREATE TABLE app.log (what text); REVOKE ALL ON app.log FROM {app};
         CREATE FUNCTION app.logs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO app.log VALUES (TG_OP); RETURN NULL; END $$;
         CREATE TRIGGER logs AFTER INSERT OR UPDATE OR DELETE ON app.notes FOR EACH ROW EXECUTE FUNCTION app.logs();
         ALTER TABLE app.notes ENABLE ALWAYS TRIGGER logs;",
    );
    let passed = planted.told_of(
        "attack || ' ' || result",
        "relation = 'app.notes' AND attack <> 'truncate' AND result IN ('refused', 'nothing')",
    );
    assert_eq!(passed, [""; 0]);
}

/// What the extension refuses to a trigger of somebody's is no refusal of the write.
#[test]
fn a_refusal_of_the_extension_inside_a_trigger_is_no_pass() {
    let planted = Planted::before(USING_TRUE);
    planted.superuser(
        "CREATE FUNCTION app.asks() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM tenancy.waive('rls-off', 'app.notes', 'nothing', 'infinity'); RETURN coalesce(NEW, OLD); END $$;
         CREATE TRIGGER asks BEFORE INSERT OR UPDATE OR DELETE ON app.notes FOR EACH ROW EXECUTE FUNCTION app.asks();
         GRANT USAGE ON SCHEMA tenancy TO {app}; CREATE VIEW app.every AS SELECT * FROM app.notes; GRANT UPDATE ON app.every TO {app};",
    );
    let passed = planted.told_of(
        "relation || ' ' || attack || ' ' || result",
        "relation IN ('app.notes', 'app.every') AND attack <> 'truncate' AND result IN ('refused', 'nothing')",
    );
    assert_eq!(passed, [""; 0]);
}

/// Nobody's code runs as a superuser because a materialized view of his calls it.
#[test]
fn a_materialized_view_of_a_superuser_over_anothers_function() {
    let planted = Planted::after("");
    planted.owner(
        "CREATE TABLE app.ran (who text); GRANT SELECT ON app.ran TO PUBLIC;
         CREATE FUNCTION app.tells(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
             IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
                 PERFORM set_config('ran.as', 'a superuser', false); PERFORM pg_advisory_lock(4711); END IF;
             RETURN t; END $$;",
    );
    planted.superuser(
        "CREATE MATERIALIZED VIEW app.told AS SELECT tenant_id, app.tells(body) AS body FROM app.notes WHERE tenant_id = '{A}' WITH NO DATA;
         GRANT SELECT ON app.told TO {app};",
    );
    assert_eq!(planted.told("attack = 'side effect'"), [""; 0]);
    let found = planted.results("app.told");
    assert!(
        found.contains(&"select after refresh not attacked".to_owned()),
        "{found:?}"
    );
    planted.superuser("ALTER FUNCTION app.tells(text) OWNER TO postgres");
    let found = planted.results("app.told");
    assert!(
        found.contains(&"select after refresh nothing".to_owned()),
        "{found:?}"
    );
}

/// So is a superuser's table, by whichever of its parts runs the code.
#[test]
fn tables_of_superusers_that_run_anothers_code() {
    for code in [
        "CREATE OPERATOR app.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = app.same);
         ALTER TABLE app.other ADD CHECK (body OPERATOR(app.===) body)",
        "CREATE FUNCTION app.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER t BEFORE UPDATE ON app.other FOR EACH ROW WHEN (app.same(NEW.body, 'x')) EXECUTE FUNCTION app.nothing()",
        "CREATE RULE r AS ON UPDATE TO app.other WHERE app.same(NEW.body, 'x') DO ALSO NOTHING",
        "CREATE DOMAIN app.word AS text CHECK (app.same(VALUE, VALUE)); CREATE TYPE app.pair AS (a app.word, b text);
         ALTER TABLE app.other ADD pair app.pair",
    ] {
        let planted = Planted::after("");
        planted.owner(
            "CREATE FUNCTION app.same(a text, b text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT a = b'",
        );
        planted.superuser(
            "CREATE TABLE app.other (id int PRIMARY KEY, tenant_id uuid NOT NULL, body text)",
        );
        planted.superuser(code);
        let test = format!("SELECT * FROM tenancy.test_isolation('{}')", planted.stage.app);
        let error = planted.stage.superuser().error(&test);
        expect_error(&error, "55000", "code of an ordinary role");
    }
}

#[test]
fn waiting_for_others_ends() {
    let stage = protected();
    let mut other = stage.superuser();
    other.ok("BEGIN; SELECT FROM app.items FOR UPDATE");
    let mut superuser = stage.superuser();
    superuser.ok("SET lock_timeout = 0; SET statement_timeout = '60s'");
    let found = superuser.texts(&format!(
        "SELECT attack FROM tenancy.test_isolation('{}') WHERE {FAILED}",
        stage.app
    ));
    assert_eq!(
        found,
        ["insert", "update", "delete", "take", "move", "upsert"]
    );
}

/// Whole partitions of tenants whom neither of the two is.
#[test]
fn partitions_that_neither_tenant_falls_into() {
    for (by, partitions) in [
        (
            "HASH",
            [
                "WITH (MODULUS 3, REMAINDER 0)",
                "WITH (MODULUS 3, REMAINDER 1)",
                "WITH (MODULUS 3, REMAINDER 2)",
            ],
        ),
        (
            "LIST",
            [
                "IN ('{A}', '{B}')",
                "IN ('00000000-0000-0000-0000-0000000000cc')",
                "",
            ],
        ),
        (
            "RANGE",
            [
                "FROM (MINVALUE) TO ('10000000-0000-0000-0000-000000000000')",
                "FROM ('10000000-0000-0000-0000-000000000000') TO ('20000000-0000-0000-0000-000000000000')",
                "",
            ],
        ),
    ] {
        let planted = Planted::after(&format!(
            "CREATE TABLE app.events (tenant_id uuid NOT NULL, id int NOT NULL, PRIMARY KEY (tenant_id, id)) PARTITION BY {by} (tenant_id);"
        ));
        for (number, bound) in partitions.iter().enumerate() {
            let bound = match *bound {
                "" => "DEFAULT".to_owned(),
                bound => format!("FOR VALUES {bound}"),
            };
            planted.owner(&format!(
                "CREATE TABLE app.events_{number} PARTITION OF app.events {bound}"
            ));
        }
        planted.owner(
            "INSERT INTO app.events VALUES ('{A}', 1), ('{B}', 2); SELECT tenancy.protect_table('app.events', mode => 'enforce');",
        );
        let all = ["app.events_0", "app.events_1", "app.events_2"];
        assert_eq!(planted.told(FAILED), [""; 0], "{by}");
        for table in all {
            planted.superuser(&format!("ALTER TABLE {table} DISABLE ROW LEVEL SECURITY"));
        }
        let leaks = planted.told_of("relation", "attack = 'select' AND result = 'LEAK'");
        assert_eq!(leaks, all, "{by}");
    }
}

/// A setting that every session of the role begins with.
#[test]
fn settings_of_the_role_count() {
    let planted = Planted::before(
        "ALTER TABLE app.notes ENABLE ROW LEVEL SECURITY; ALTER TABLE app.notes FORCE ROW LEVEL SECURITY;
         CREATE POLICY sees_all ON app.notes USING (tenant_id = public.current_tenant_id() OR current_setting('app.see_all', true) = 'on')",
    );
    assert_eq!(planted.told(FAILED), [""; 0]);
    planted.superuser("ALTER ROLE {app} SET app.see_all = 'on'");
    assert!(
        planted
            .told("result = 'LEAK'")
            .contains(&"app.notes: select".to_owned())
    );
    planted.superuser(
        "DO $$ BEGIN EXECUTE format('ALTER ROLE {app} IN DATABASE %I SET app.see_all = off', current_database()); END $$",
    );
    assert_eq!(planted.told(FAILED), [""; 0]);
}

#[test]
fn roles_that_reach_the_files_of_the_server() {
    for (sql, why) in [
        ("ALTER ROLE {app} REPLICATION", "REPLICATION"),
        (
            "GRANT pg_read_server_files TO {app}",
            "pg_read_server_files",
        ),
        (
            "GRANT pg_write_server_files TO {app}",
            "pg_write_server_files",
        ),
        (
            "GRANT pg_execute_server_program TO {app}",
            "pg_execute_server_program",
        ),
    ] {
        let planted = Planted::after("");
        planted.superuser(sql);
        let gate = format!("SELECT tenancy.assert_isolation('{}')", planted.stage.app);
        let error = planted.stage.superuser().error(&gate);
        expect_error(&error, "55000", "does not bind");
        expect_error(&error, "55000", why);
    }
}

/// Nothing says whose the rows of a child are that nobody registered.
#[test]
fn tables_that_hang_on_one_of_tenants() {
    let planted = Planted::after(
        "CREATE TABLE app.parts (id int PRIMARY KEY, note int REFERENCES app.notes, body text);
         CREATE TABLE app.pieces (id int PRIMARY KEY, part int REFERENCES app.parts);
         REVOKE ALL ON app.pieces FROM {app};
         INSERT INTO app.parts VALUES (1, 1, 'a'), (2, 2, 'b');",
    );
    assert_eq!(planted.told(FAILED), ["app.parts: all"]);
    planted.superuser(
        "REVOKE ALL ON app.parts FROM {app};
         CREATE FUNCTION app.bodies() RETURNS SETOF text LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT body FROM app.parts';
         CREATE VIEW app.sheets AS SELECT body FROM app.parts; GRANT SELECT ON app.sheets TO {app}",
    );
    assert_eq!(
        planted.told(FAILED),
        ["app.sheets: select", "app.bodies(): call"]
    );
    planted.owner("SELECT tenancy.protect_table('app.parts', 'child', mode => 'enforce'); SELECT tenancy.protect_table('app.pieces', 'child', mode => 'enforce')");
    assert_eq!(
        planted.told("result = 'LEAK'"),
        ["app.sheets: select", "app.bodies(): call"]
    );
}
