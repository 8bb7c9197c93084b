//! `tenancy.test_isolation()` finds each leak that was planted, at the right relation and attack, and no
//! other.

mod isolation_support;
mod policy_support;

use isolation_support::{Planted, USING_TRUE};
use pgrx_test::fixture::ClientExt;

/// What leaks of a table that nothing protects.
const OPEN: &[&str] = &[
    "app.notes: select",
    "app.notes: insert",
    "app.notes: update",
    "app.notes: delete",
    "app.notes: take",
    "app.notes: move",
    "app.notes: upsert",
];

#[test]
fn a_table_without_row_security() {
    Planted::before("").leaks(OPEN);
}

#[test]
fn a_policy_that_is_always_true() {
    Planted::before(USING_TRUE).leaks(OPEN);
}

#[test]
fn a_permissive_policy_where_the_floor_is_gone() {
    let planted = Planted::after(
        "DROP POLICY notes_tenant_isolation_select ON app.notes;
         CREATE POLICY published ON app.notes FOR SELECT USING (body LIKE 'of%');",
    );
    planted.leaks(&["app.notes: select"]);
}

/// The policies for SELECT hide the rows from every statement that names them; one that does not is not
/// hidden from anything.
#[test]
fn a_command_whose_floor_is_gone_though_the_rows_cannot_be_seen() {
    let planted = Planted::after(
        "DROP POLICY notes_tenant_isolation_delete ON app.notes;
         CREATE POLICY all_of_them ON app.notes FOR DELETE USING (true);",
    );
    planted.leaks(&["app.notes: delete"]);
}

#[test]
fn a_missing_floor_of_with_check() {
    let planted = Planted::after(
        "DROP POLICY notes_tenant_isolation_insert ON app.notes;
         CREATE POLICY writes ON app.notes FOR INSERT WITH CHECK (true);",
    );
    planted.leaks(&["app.notes: insert"]);
}

#[test]
fn a_row_can_be_taken_where_only_the_new_one_is_checked() {
    let planted = Planted::before(
        "ALTER TABLE app.notes ENABLE ROW LEVEL SECURITY; ALTER TABLE app.notes FORCE ROW LEVEL SECURITY;
         CREATE POLICY own ON app.notes USING (tenant_id = public.current_tenant_id());
         CREATE POLICY takes ON app.notes FOR UPDATE USING (true) WITH CHECK (tenant_id = public.current_tenant_id());",
    );
    planted.leaks(&["app.notes: take"]);
}

#[test]
fn a_plain_foreign_key_across_tenants() {
    let planted = Planted::after(
        "CREATE TABLE app.replies (id int PRIMARY KEY, tenant_id uuid NOT NULL, note int REFERENCES app.notes DEFERRABLE INITIALLY DEFERRED);
         INSERT INTO app.replies VALUES (1, '{A}', 1), (2, '{B}', 2);",
    );
    planted.stage.protect("app.replies", "{}");
    planted.leaks(&[
        "app.replies: link replies_note_fkey by update",
        "app.replies: link replies_note_fkey by insert",
    ]);
    planted.stage.owner().ok(
        "SELECT tenancy.protect_table('app.replies', mode => 'enforce', options => '{\"foreign_keys\": \"replace\"}')",
    );
    assert_eq!(planted.told("result IN ('LEAK', 'not attacked')"), [""; 0]);
    assert_eq!(
        planted
            .told("attack LIKE 'link%' AND result = 'refused' AND sqlstate = '23503'")
            .len(),
        2
    );
}

#[test]
fn a_view_of_an_exempt_owner() {
    let planted = Planted::after("");
    planted.stage.superuser().ok(&planted.filled(
        "CREATE VIEW app.all_notes AS SELECT * FROM app.notes;
         CREATE VIEW app.how_many AS SELECT count(*) FROM app.notes;
         CREATE VIEW app.own_notes WITH (security_invoker) AS SELECT * FROM app.notes;
         GRANT SELECT, INSERT, UPDATE, DELETE ON app.all_notes, app.own_notes TO {app};
         GRANT SELECT ON app.how_many TO {app};",
    ));
    planted.leaks(&[
        "app.all_notes: update",
        "app.all_notes: delete",
        "app.all_notes: insert",
        "app.all_notes: select",
        "app.how_many: select",
    ]);
    assert_eq!(
        planted
            .told("relation = 'app.own_notes' AND result IN ('nothing', 'refused')")
            .len(),
        5
    );
}

#[test]
fn a_materialized_view() {
    let planted = Planted::after("");
    planted.stage.superuser().ok(&planted.filled(
        "CREATE MATERIALIZED VIEW app.kept AS SELECT * FROM app.notes;
         CREATE MATERIALIZED VIEW app.kept_own AS SELECT * FROM app.notes WHERE tenant_id = '{A}';
         CREATE MATERIALIZED VIEW app.later AS SELECT body FROM app.notes WITH NO DATA;
         GRANT SELECT ON app.kept, app.kept_own, app.later TO {app};",
    ));
    planted.leaks(&[
        "app.kept: select",
        "app.kept: select after refresh",
        "app.later: select after refresh",
    ]);
}

#[test]
fn functions_that_act_as_an_exempt_owner() {
    let planted = Planted::after("");
    planted.stage.superuser().ok(
        "CREATE FUNCTION app.bodies() RETURNS SETOF text LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT body FROM app.notes';
         CREATE FUNCTION app.of_tenant(t uuid, less int DEFAULT 0) RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER
             AS 'SELECT count(*) FROM app.notes WHERE tenant_id = t';
         CREATE FUNCTION app.fine() RETURNS SETOF app.notes LANGUAGE sql STABLE AS 'SELECT * FROM app.notes';
         CREATE FUNCTION app.guarded() RETURNS SETOF text LANGUAGE plpgsql STABLE SECURITY DEFINER AS
             $$ BEGIN RAISE insufficient_privilege; END $$;
         CREATE FUNCTION app.empties() RETURNS bigint LANGUAGE sql VOLATILE SECURITY DEFINER
             AS 'DELETE FROM app.notes; SELECT 1::bigint';
         CREATE FUNCTION app.counts() RETURNS bigint LANGUAGE sql VOLATILE SECURITY DEFINER AS 'SELECT count(*) FROM app.notes';",
    );
    let leaks = ["app.bodies(): call", "app.of_tenant(uuid,integer): call"];
    planted.leaks(&leaks);
    assert_eq!(
        planted.told("result = 'not attacked'"),
        [
            "app.counts(): call",
            "app.empties(): call",
            "app.guarded(): call"
        ]
    );
    let told = planted.stage.superuser().texts(&planted.filled(
        "SELECT concat_ws(' ', relation, result) FROM tenancy.test_isolation('{app}', volatile_functions => true) WHERE attack = 'call' ORDER BY 1",
    ));
    assert_eq!(
        told,
        [
            "app.bodies() LEAK",
            "app.counts() LEAK",
            "app.empties() LEAK",
            "app.fine() nothing",
            "app.guarded() not attacked",
            "app.of_tenant(uuid,integer) LEAK",
        ]
    );
    assert_eq!(
        planted
            .stage
            .superuser()
            .int("SELECT count(*) FROM app.notes"),
        2
    );
}

#[test]
fn a_partition_that_was_granted_and_has_no_policies() {
    let planted = Planted::after(
        "CREATE TABLE app.events (tenant_id uuid NOT NULL, at date NOT NULL, what text, PRIMARY KEY (tenant_id, at)) PARTITION BY RANGE (at);
         CREATE TABLE app.events_old PARTITION OF app.events FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
         REVOKE ALL ON app.events_old FROM {app};
         INSERT INTO app.events VALUES ('{A}', '2020-02-02', 'a'), ('{B}', '2020-02-03', 'b');
         SELECT tenancy.protect_table('app.events', mode => 'enforce');",
    );
    assert_eq!(planted.told("result IN ('LEAK', 'not attacked')"), [""; 0]);
    assert_eq!(
        planted.told("relation = 'app.events_old' AND result = 'refused' AND sqlstate = '42501'"),
        ["app.events_old: all"]
    );
    planted.stage.owner().ok(&planted.filled(
        "CREATE TABLE app.events_new (LIKE app.events INCLUDING ALL); GRANT SELECT ON app.events_new TO {app};
         INSERT INTO app.events_new VALUES ('{A}', '2021-02-02', 'a'), ('{B}', '2021-02-03', 'b');
         ALTER TABLE app.events ATTACH PARTITION app.events_new FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');",
    ));
    assert!(
        planted
            .told("result = 'LEAK'")
            .contains(&"app.events_new: select".to_owned())
    );
}

#[test]
fn truncate_that_was_granted() {
    Planted::after("GRANT TRUNCATE ON app.notes TO {app};").leaks(&["app.notes: truncate"]);
}

#[test]
fn a_grant_on_columns_that_do_not_say_whose_a_row_is() {
    let planted = Planted::before(
        "REVOKE ALL ON app.notes FROM {app}; GRANT SELECT (body) ON app.notes TO {app};",
    );
    planted.leaks(&["app.notes: select"]);
    planted.stage.protect("app.notes", "{}");
    assert_eq!(planted.told("result IN ('LEAK', 'not attacked')"), [""; 0]);
}

/// The owner's trigger changes a row of the other tenant, and the statement says that it did nothing.
#[test]
fn a_trigger_that_changes_what_the_statement_did_not() {
    let planted = Planted::after("");
    planted.stage.superuser().ok(
        "CREATE FUNCTION app.spoil() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
             $$ BEGIN UPDATE app.notes SET body = 'spoilt' WHERE id = 2 AND body <> 'spoilt'; RETURN NULL; END $$;
         CREATE TRIGGER spoil BEFORE INSERT ON app.notes FOR EACH ROW EXECUTE FUNCTION app.spoil();",
    );
    let leaks = planted.told("result = 'LEAK'");
    assert!(leaks.contains(&"app.notes: upsert".to_owned()), "{leaks:?}");
}
