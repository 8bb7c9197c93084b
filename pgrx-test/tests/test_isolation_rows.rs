//! `tenancy.test_isolation()` where rows are hard to find, to make or to tell apart, and what it leaves behind.

mod isolation_support;
mod policy_support;

use isolation_support::{FAILED, Planted};
use pgrx_test::fixture::ClientExt;
use policy_support::{A, B, Stage};

/// Partitions that hold no row yet, each open to everybody, of keys that a copied row does not fit.
#[test]
fn partitions_are_attacked_or_named() {
    let planted = Planted::after(
        "CREATE TABLE app.events (tenant_id uuid NOT NULL, at date NOT NULL, kind text NOT NULL, PRIMARY KEY (tenant_id, at, kind)) PARTITION BY RANGE (at);
         CREATE TABLE app.events_old PARTITION OF app.events FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
         CREATE TABLE app.events_new PARTITION OF app.events FOR VALUES FROM ('2021-01-01') TO ('2022-01-01') PARTITION BY LIST (kind);
         CREATE TABLE app.events_new_x PARTITION OF app.events_new FOR VALUES IN ('it''s', 'y');
         CREATE TABLE app.events_first PARTITION OF app.events FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
         INSERT INTO app.events VALUES ('{A}', '2020-02-02', 'a'), ('{B}', '2020-02-03', 'b');
         SELECT tenancy.protect_table('app.events', mode => 'enforce');",
    );
    planted.superuser(
        "CREATE POLICY open ON app.events_new_x USING (true); CREATE POLICY open ON app.events_first USING (true);
         DO $$ DECLARE t text; p text; BEGIN
             FOR t, p IN SELECT tablename, policyname FROM pg_policies WHERE tablename IN ('events_new_x', 'events_first') AND policyname <> 'open' LOOP
                 EXECUTE format('DROP POLICY %I ON app.%I', p, t); END LOOP; END $$;
         ALTER TABLE app.events_new_x ENABLE ROW LEVEL SECURITY; ALTER TABLE app.events_first ENABLE ROW LEVEL SECURITY;",
    );
    let leaks = planted.told("result = 'LEAK'");
    assert!(
        leaks.contains(&"app.events_new_x: select".to_owned()),
        "{leaks:?}"
    );
    assert_eq!(
        planted.told("result = 'not attacked'"),
        ["app.events_first: all"]
    );
}

/// A partition of one's own tenant alone can hold nothing of another's.
#[test]
fn partitions_by_tenant_are_no_alarm() {
    let planted = Planted::after(
        "CREATE TABLE app.events (tenant_id uuid NOT NULL, at date NOT NULL, PRIMARY KEY (tenant_id, at)) PARTITION BY LIST (tenant_id);
         CREATE TABLE app.events_a PARTITION OF app.events FOR VALUES IN ('{A}');
         CREATE TABLE app.events_b PARTITION OF app.events FOR VALUES IN ('{B}');
         INSERT INTO app.events VALUES ('{A}', '2020-02-02'), ('{B}', '2020-02-03');
         SELECT tenancy.protect_table('app.events', mode => 'enforce');",
    );
    assert_eq!(planted.told("result = 'not attacked'"), [""; 0]);
    assert_eq!(
        planted.told_of(
            "attack || ' ' || result",
            "relation = 'app.events_a' AND attack = 'all'"
        ),
        ["all nothing"]
    );
}

/// As many rows of one's own are hidden as of the other's are shown.
#[test]
fn rows_are_compared_where_the_role_may_not_read_whose_they_are() {
    let planted = Planted::before(
        "REVOKE ALL ON app.notes FROM {app}; GRANT SELECT (body) ON app.notes TO {app};
         ALTER TABLE app.notes ENABLE ROW LEVEL SECURITY; ALTER TABLE app.notes FORCE ROW LEVEL SECURITY;
         CREATE POLICY crossed ON app.notes USING (tenant_id <> public.current_tenant_id());",
    );
    planted.leaks(&["app.notes: select"]);
    planted.superuser(
        "INSERT INTO app.notes SELECT n, '{B}', 'many' FROM generate_series(10, 2000) AS n",
    );
    planted.leaks(&["app.notes: select"]);
    planted.superuser(
        "DROP POLICY crossed ON app.notes; CREATE POLICY own ON app.notes USING (tenant_id = public.current_tenant_id())",
    );
    assert_eq!(planted.told(FAILED), ["app.notes: select"]);
    planted.superuser("DELETE FROM app.notes WHERE id > 9");
    assert_eq!(planted.told(FAILED), [""; 0]);
}

#[test]
fn what_rolling_back_does_not_undo_is_named() {
    let planted = Planted::before(
        "CREATE SEQUENCE app.numbers; SELECT nextval('app.numbers'); CREATE SEQUENCE app.still;
         GRANT USAGE, UPDATE ON SEQUENCE app.numbers TO {app};
         CREATE FUNCTION app.leaves() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM setval('app.numbers', 50, false); PERFORM pg_advisory_lock(7, 8); PERFORM pg_advisory_lock(99); RETURN NEW; END $$;
         CREATE TRIGGER leaves BEFORE UPDATE ON app.notes FOR EACH ROW EXECUTE FUNCTION app.leaves();",
    );
    let mut superuser = planted.stage.superuser();
    superuser.ok("SELECT pg_advisory_lock(5)");
    let effects = superuser.texts(&planted.filled(
        "SELECT relation || ' ' || result FROM tenancy.test_isolation('{app}') WHERE attack = 'side effect'",
    ));
    assert_eq!(
        effects,
        [
            "app.numbers nothing",
            "advisory lock 99 nothing",
            "advisory lock (7, 8) nothing"
        ]
    );
}

/// Whoever cannot be asked for tenants is told, and the others are attacked.
#[test]
fn tables_that_cannot_be_read_to_find_tenants_are_told() {
    let planted = Planted::after("");
    let other = planted.stage.database.role("other");
    planted.superuser(&format!(
        "CREATE SCHEMA apart; CREATE TABLE apart.things (id int PRIMARY KEY, tenant_id uuid); ALTER TABLE apart.things OWNER TO {other};
         GRANT USAGE ON SCHEMA apart TO {{app}}; GRANT SELECT ON apart.things TO {{app}}"
    ));
    let found = planted.told(FAILED);
    assert_eq!(found, ["apart.things: all"]);
    assert!(planted.results("app.notes").len() > 5);
}

/// A protected table of two tenants that have a member each.
fn members() -> Stage {
    let stage = Stage::unbound();
    stage.superuser().ok(&format!(
        "CREATE SCHEMA people; CREATE TABLE people.members (user_id text, tenant_id uuid);
         INSERT INTO people.members VALUES ('ann', '{A}'), ('bob', '{B}');
         SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id', membership => 'people.members')"
    ));
    stage.items();
    stage.protect("app.items", "{}");
    stage
}

#[test]
fn a_membership_that_cannot_be_read_is_told() {
    let stage = members();
    let other = stage.database.role("other");
    let gate = format!("SELECT tenancy.assert_isolation('{}')", stage.app);
    let mut superuser = stage.superuser();
    superuser.ok("ALTER TABLE people.members DISABLE ROW LEVEL SECURITY; REVOKE ALL ON people.members FROM PUBLIC");
    superuser.ok(&gate);
    superuser.ok(&format!("ALTER TABLE people.members OWNER TO {other}"));
    let found = superuser.texts(&format!(
        "SELECT relation || ' ' || attack || ' ' || result || ' ' || sqlstate FROM tenancy.test_isolation('{}')",
        stage.app
    ));
    assert_eq!(found, ["tenants all not attacked 42501"]);
}

/// A policy that believes the setting lets a member of one tenant say that he is another.
#[test]
fn a_tenant_that_is_only_said() {
    let stage = members();
    stage.owner().ok(&format!(
        "CREATE TABLE app.said (tenant_id uuid); INSERT INTO app.said VALUES ('{A}'), ('{B}');
         ALTER TABLE app.said ENABLE ROW LEVEL SECURITY;
         CREATE POLICY says ON app.said USING (tenant_id = nullif(current_setting('app.current_tenant_id', true), '')::uuid)"
    ));
    let found = stage.superuser().texts(&format!(
        "SELECT concat_ws(' ', relation, attack, result) FROM tenancy.test_isolation('{}')
         WHERE attack = 'select as the other tenant' OR result = 'LEAK'",
        stage.app
    ));
    assert_eq!(
        found,
        [
            "app.items select as the other tenant refused",
            "app.said select as the other tenant LEAK"
        ]
    );
}
