//! `tenancy.test_isolation()` calls nothing refused but what isolation refused: not what a trigger, a rule or
//! a missing privilege of the tables' owner stood in the way of.

mod isolation_support;
mod policy_support;

use isolation_support::{Planted, USING_TRUE};
use pgrx_test::fixture::ClientExt;
use policy_support::{A, B, Stage};

/// None of the writes passed on this open table.
#[track_caller]
fn none_passes(planted: &Planted) {
    let passed = planted.told_of(
        "attack || ' ' || result || ' ' || coalesce(detail, '')",
        "relation = 'app.notes' AND attack <> 'truncate' AND result IN ('refused', 'nothing')",
    );
    assert_eq!(passed, [""; 0]);
}

fn trigger(body: &str, when: &str) -> String {
    format!(
        "CREATE FUNCTION app.stands() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;
         CREATE TRIGGER stands {when} ON app.notes FOR EACH ROW EXECUTE FUNCTION app.stands();"
    )
}

#[test]
fn an_error_that_a_trigger_raises_is_no_refusal() {
    let planted = Planted::before(USING_TRUE);
    planted.owner(&trigger(
        "RAISE insufficient_privilege USING MESSAGE = 'permission denied for table notes';",
        "BEFORE INSERT OR UPDATE OR DELETE",
    ));
    none_passes(&planted);
}

#[test]
fn a_privilege_that_a_trigger_lacks_is_no_refusal() {
    let planted = Planted::before(USING_TRUE);
    planted.owner("CREATE TABLE app.log (what text); REVOKE ALL ON app.log FROM {app};");
    planted.owner(&trigger(
        "INSERT INTO app.log VALUES (TG_OP); RETURN coalesce(NEW, OLD);",
        "BEFORE INSERT OR UPDATE OR DELETE",
    ));
    none_passes(&planted);
}

#[test]
fn words_of_the_extension_that_a_trigger_says_are_no_refusal() {
    let planted = Planted::before(USING_TRUE);
    planted.owner(&trigger(
        "RAISE check_violation USING MESSAGE = 'a row of app.notes cannot move to another tenant';",
        "BEFORE UPDATE",
    ));
    none_passes(&planted);
}

#[test]
fn an_update_that_a_trigger_drops_is_no_pass() {
    let planted = Planted::before(USING_TRUE);
    planted.superuser(
        "CREATE TRIGGER z_suppress BEFORE UPDATE ON app.notes FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();",
    );
    none_passes(&planted);
    planted.superuser("ALTER TABLE app.notes ENABLE ALWAYS TRIGGER z_suppress");
    none_passes(&planted);
}

#[test]
fn what_a_trigger_or_a_rule_drops_is_no_pass() {
    let planted = Planted::before(USING_TRUE);
    planted.owner(&trigger(
        "RETURN NULL;",
        "BEFORE INSERT OR UPDATE OR DELETE",
    ));
    none_passes(&planted);
    planted.owner(
        "DROP TRIGGER stands ON app.notes;
         CREATE RULE gone AS ON DELETE TO app.notes DO INSTEAD NOTHING;
         CREATE RULE kept AS ON UPDATE TO app.notes DO INSTEAD NOTHING;",
    );
    none_passes(&planted);
}

/// The same triggers where the policies hold: each attack is decided.
#[test]
fn triggers_beside_policies_that_hold_are_no_alarm() {
    for body in [
        "RETURN NULL;",
        "RAISE insufficient_privilege;",
        "RETURN coalesce(NEW, OLD);",
    ] {
        let planted = Planted::after("");
        planted.owner(&trigger(body, "BEFORE INSERT OR UPDATE OR DELETE"));
        planted.superuser(
            "CREATE TRIGGER z_suppress BEFORE UPDATE ON app.notes FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();",
        );
        let failed = planted.told_of(
            "attack || ' ' || result || ' ' || detail",
            "result = 'LEAK' OR result = 'not attacked' AND attack <> 'move'",
        );
        assert_eq!(failed, [""; 0], "{body}");
    }
}

/// Only the column of the user can be updated, and that is enough to take a row.
#[test]
fn a_row_that_can_be_taken_by_one_column_of_two() {
    let stage = Stage::new();
    stage.owner().ok(&format!(
        "CREATE TABLE app.drafts (id int PRIMARY KEY, tenant_id uuid NOT NULL, user_id text NOT NULL, body text);
         INSERT INTO app.drafts VALUES (1, '{A}', 'ann', 'a'), (2, '{B}', 'bob', 'b'), (3, '{A}', 'cy', 'c');"
    ));
    stage.superuser().ok("SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id', user_setting => 'app.current_user_id')");
    stage
        .owner()
        .ok("SELECT tenancy.protect_table('app.drafts', 'self', mode => 'enforce', options => '{\"user_column\": \"user_id\"}')");
    let mut superuser = stage.superuser();
    superuser.ok(&format!(
        "DROP POLICY drafts_tenant_isolation_update ON app.drafts; CREATE POLICY open ON app.drafts FOR UPDATE USING (true);
         REVOKE UPDATE ON app.drafts FROM {app}; GRANT UPDATE (user_id) ON app.drafts TO {app}",
        app = stage.app
    ));
    let leaks = superuser.texts(&format!(
        "SELECT attack FROM tenancy.test_isolation('{}') WHERE result = 'LEAK'",
        stage.app
    ));
    assert!(leaks.contains(&"take".to_owned()), "{leaks:?}");
}

/// Triggers of a view write whatever their function says.
#[test]
fn views_that_write_by_triggers() {
    let planted = Planted::after("");
    planted.superuser(
        "CREATE TABLE app.switches (name text PRIMARY KEY, state text); INSERT INTO app.switches VALUES ('x', 'on');
         CREATE FUNCTION app.reaches() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
             $$ BEGIN UPDATE app.notes SET body = NEW.state WHERE id = 2; RETURN NEW; END $$;
         CREATE FUNCTION app.drops() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
             $$ BEGIN RETURN NULL; END $$;
         CREATE FUNCTION app.passes_on() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN UPDATE app.notes SET body = NEW.body WHERE id = NEW.id; RETURN NEW; END $$;
         CREATE VIEW app.beside AS SELECT * FROM app.switches;
         CREATE TRIGGER t INSTEAD OF UPDATE ON app.beside FOR EACH ROW EXECUTE FUNCTION app.reaches();
         CREATE VIEW app.dropped WITH (security_invoker) AS SELECT * FROM app.notes;
         CREATE TRIGGER t INSTEAD OF UPDATE OR INSERT ON app.dropped FOR EACH ROW EXECUTE FUNCTION app.drops();
         CREATE VIEW app.passed WITH (security_invoker) AS SELECT * FROM app.notes;
         CREATE TRIGGER t INSTEAD OF UPDATE ON app.passed FOR EACH ROW EXECUTE FUNCTION app.passes_on();
         GRANT SELECT, UPDATE ON app.beside, app.passed TO {app}; GRANT SELECT, INSERT, UPDATE ON app.dropped TO {app};",
    );
    assert_eq!(planted.results("app.beside"), ["write not attacked"]);
    assert_eq!(
        planted.results("app.dropped"),
        [
            "update not attacked",
            "move not attacked",
            "insert not attacked",
            "select nothing"
        ]
    );
    assert_eq!(
        planted.results("app.passed"),
        ["update nothing", "move nothing", "select nothing"]
    );
}

#[test]
fn a_view_over_a_table_whose_trigger_drops_updates() {
    let planted = Planted::after("");
    planted.superuser(
        "CREATE VIEW app.every AS SELECT * FROM app.notes; GRANT SELECT, UPDATE ON app.every TO {app};
         CREATE TRIGGER z_suppress BEFORE UPDATE ON app.notes FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();",
    );
    assert_eq!(
        planted.results("app.every"),
        ["update not attacked", "move refused", "select LEAK"]
    );
}

/// The parent says of no row whose it is, and is not held back by what the children have.
#[test]
fn a_parent_without_a_tenant_column() {
    let planted = Planted::after(
        "CREATE TABLE app.papers (body text);
         ALTER TABLE app.notes INHERIT app.papers;
         CREATE VIEW app.sheets AS SELECT body FROM app.papers;
         REVOKE ALL ON app.sheets FROM {app};",
    );
    planted.leaks(&[
        "app.papers: update",
        "app.papers: delete",
        "app.papers: select",
    ]);
    planted.superuser("REVOKE ALL ON app.papers FROM {app}; GRANT TRUNCATE ON app.papers TO {app}");
    planted.leaks(&["app.papers: truncate"]);
    planted.superuser("REVOKE ALL ON app.papers FROM {app}; GRANT SELECT ON app.sheets TO {app}");
    planted.owner("ALTER TABLE app.notes DISABLE ROW LEVEL SECURITY");
    let found = planted.told("result = 'LEAK'");
    assert!(
        found.contains(&"app.sheets: select".to_owned()),
        "{found:?}"
    );
}

#[test]
fn an_owner_is_no_pass() {
    let planted = Planted::after("");
    planted.superuser("REVOKE TRUNCATE ON app.notes FROM {owner}");
    let owner = &planted.stage.owner;
    let leaks = planted.stage.superuser().texts(&format!(
        "SELECT attack FROM tenancy.test_isolation('{owner}') WHERE result = 'LEAK'"
    ));
    assert_eq!(leaks, ["truncate"]);
}
