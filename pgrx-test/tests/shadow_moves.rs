//! Shadow mode records rows that move to another tenant, whoever moves them and however, as enforcement
//! would refuse them; and queries that go on under another context.

mod policy_support;

use pgrx_test::fixture::{ClientExt, expect_error};
use policy_support::{A, B, Stage};
use postgres::Client;

/// Accounts of two tenants with their orders, some in partitions; and a role that no policy binds.
fn staged() -> (Stage, String) {
    let stage = Stage::new();
    let job = stage.database.role("job");
    stage.superuser().ok(&format!(
        "ALTER ROLE {job} BYPASSRLS; GRANT USAGE ON SCHEMA app TO {job}"
    ));
    stage.owner().ok(&format!(
        "CREATE TABLE app.orders (id int PRIMARY KEY, tenant_id uuid NOT NULL, note text);
         INSERT INTO app.orders VALUES (1, '{A}', 'a1'), (2, '{A}', 'a2'), (3, '{B}', 'b1');
         CREATE TABLE app.logs (id int, day int, tenant_id uuid NOT NULL) PARTITION BY RANGE (day);
         CREATE TABLE app.logs_1 (tenant_id uuid NOT NULL, day int, id int);
         ALTER TABLE app.logs ATTACH PARTITION app.logs_1 FOR VALUES FROM (0) TO (10);
         CREATE TABLE app.logs_2 PARTITION OF app.logs FOR VALUES FROM (10) TO (20);
         INSERT INTO app.logs VALUES (1, 1, '{A}'), (2, 11, '{A}'), (3, 1, '{B}');
         CREATE TABLE app.owners (tenant_id uuid PRIMARY KEY);
         INSERT INTO app.owners VALUES ('{A}'), ('{B}');
         CREATE TABLE app.owned (id int PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES app.owners ON UPDATE CASCADE);
         INSERT INTO app.owned VALUES (1, '{A}'), (2, '{B}');
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA app TO {job}"
    ));
    (stage, job)
}

const TABLES: [&str; 3] = ["app.orders", "app.logs", "app.owned"];

fn set_all(stage: &Stage, mode: &str) {
    for table in TABLES {
        stage.owner().ok(&format!(
            "SELECT tenancy.protect_table('{table}', mode => '{mode}')"
        ));
    }
}

/// What was recorded since the last look: `relation command kind precision row_tenant rows`.
fn taken(stage: &Stage) -> Vec<String> {
    let mut admin = stage.superuser();
    let found = admin.texts(
        "SELECT concat_ws(' ', relation, command, kind, \"precision\", right(row_tenant, 1), sum(rows))
         FROM tenancy.shadow_recorded()
         GROUP BY relation, command, kind, \"precision\", row_tenant ORDER BY 1",
    );
    admin.ok("SELECT tenancy.shadow_clear()");
    found
}

/// Runs it and takes it back; what it gave.
fn tried(client: &mut Client, sql: &str) -> Vec<Vec<Option<String>>> {
    client.ok("BEGIN");
    let rows = client.rows(sql);
    client.ok("ROLLBACK");
    rows
}

#[test]
fn whoever_moves_a_row_and_however() {
    let (stage, job) = staged();
    let merge = format!(
        "MERGE INTO app.orders o USING (VALUES (1), (3)) v(id) ON o.id = v.id
             WHEN MATCHED THEN UPDATE SET tenant_id = '{B}'"
    );
    let new = "00000000-0000-0000-0000-0000000000cc";
    let cases = [
        (
            format!("UPDATE app.orders SET tenant_id = '{B}' RETURNING id, tenant_id"),
            vec!["app.orders update check_violation exact a 2"],
        ),
        (
            format!(
                "UPDATE app.orders SET note = note, tenant_id = '{A}' WHERE id < 3 RETURNING id"
            ),
            vec![],
        ),
        (
            format!(
                "INSERT INTO app.orders VALUES (1, '{B}', 'x'), (3, '{B}', 'x'), (4, '{B}', 'x')
                 ON CONFLICT (id) DO UPDATE SET tenant_id = EXCLUDED.tenant_id RETURNING id"
            ),
            vec!["app.orders insert check_violation exact a 1"],
        ),
        (merge, vec!["app.orders merge check_violation exact a 1"]),
        (
            format!(
                "WITH moved AS (UPDATE app.orders SET tenant_id = '{B}' WHERE id = 1 RETURNING id) SELECT id FROM moved"
            ),
            vec!["app.orders update check_violation exact a 1"],
        ),
        (
            format!("UPDATE app.logs SET tenant_id = '{B}', id = id + 1 RETURNING id, day"),
            vec!["app.logs update check_violation exact a 2"],
        ),
        // To another partition as well.
        (
            format!(
                "UPDATE app.logs SET tenant_id = '{B}', day = 12 WHERE id = 1 RETURNING tableoid::regclass::text"
            ),
            vec!["app.logs update check_violation exact a 1"],
        ),
        (
            format!("UPDATE app.logs_1 SET tenant_id = '{B}' RETURNING id"),
            vec!["app.logs_1 update check_violation exact a 1"],
        ),
        (
            format!(
                "UPDATE app.owners SET tenant_id = '{new}' WHERE tenant_id = '{A}' RETURNING 1"
            ),
            vec!["app.owned update check_violation exact a 1"],
        ),
        (
            format!(
                "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) UPDATE app.orders SET tenant_id = '{B}' WHERE id = 1"
            ),
            vec!["app.orders update check_violation exact a 1"],
        ),
        (
            format!("EXPLAIN UPDATE app.orders SET tenant_id = '{B}' WHERE id = 1"),
            vec![],
        ),
        (
            format!("DELETE FROM app.orders WHERE tenant_id = '{B}' RETURNING id"),
            vec![],
        ),
    ];
    for role in [&job, &"postgres".to_owned()] {
        let connect = || {
            if role == "postgres" {
                stage.superuser()
            } else {
                stage.database.connect(role)
            }
        };
        for (sql, recorded) in &cases {
            set_all(&stage, "permissive");
            let plain = tried(&mut connect(), sql);
            set_all(&stage, "shadow");
            stage.superuser().ok("SELECT tenancy.shadow_clear()");
            let shadow = tried(&mut connect(), sql);
            if !sql.starts_with("EXPLAIN") {
                assert_eq!(shadow, plain, "{sql}");
            }
            assert_eq!(&taken(&stage), recorded, "{sql}");
            set_all(&stage, "enforce");
            let mut client = connect();
            client.ok("BEGIN");
            if recorded.is_empty() {
                client.ok(sql);
            } else {
                expect_error(&client.error(sql), "23514", "another tenant");
            }
        }
    }
}

#[test]
fn what_other_triggers_make_of_a_row_counts() {
    let (stage, job) = staged();
    stage.owner().ok(&format!(
        "CREATE FUNCTION app.sends() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 IF NEW.note = 'away' THEN NEW.tenant_id := '{B}'; END IF;
                 IF NEW.note = 'kept' THEN NEW.tenant_id := OLD.tenant_id; END IF;
                 IF NEW.note = 'never' THEN RETURN NULL; END IF;
                 RETURN NEW;
             END $$;
         CREATE TRIGGER sends BEFORE UPDATE ON app.orders FOR EACH ROW EXECUTE FUNCTION app.sends();
         CREATE TABLE app.seen (note text);
         GRANT INSERT ON app.seen TO {job};
         CREATE FUNCTION app.sees() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN INSERT INTO app.seen VALUES (NEW.note); RETURN NULL; END $$;
         CREATE TRIGGER sees AFTER UPDATE ON app.orders FOR EACH ROW WHEN (NEW.note <> 'x') EXECUTE FUNCTION app.sees()"
    ));
    set_all(&stage, "shadow");
    let mut client = stage.database.connect(&job);
    client.ok("UPDATE app.orders SET note = 'away' WHERE id = 1");
    assert_eq!(
        taken(&stage),
        ["app.orders update check_violation exact a 1"]
    );
    client.ok(&format!(
        "UPDATE app.orders SET note = 'kept', tenant_id = '{B}' WHERE id = 2;
         UPDATE app.orders SET note = 'never', tenant_id = '{A}' WHERE id = 3"
    ));
    assert_eq!(taken(&stage), [""; 0]);
    let rows = client.texts(
        "SELECT concat_ws(' ', id, right(tenant_id::text, 1), note) FROM app.orders ORDER BY id",
    );
    assert_eq!(rows, ["1 b away", "2 a kept", "3 b b1"]);
    // The application's other triggers fire as ever.
    let seen = stage
        .owner()
        .texts("SELECT note FROM app.seen ORDER BY note");
    assert_eq!(seen, ["away", "kept"]);
    // Rows that are replicated are not checked by the trigger that enforcement makes.
    let mut replica = stage.superuser();
    replica.ok(&format!(
        "SET session_replication_role = replica; UPDATE app.orders SET tenant_id = '{A}'"
    ));
    assert_eq!(taken(&stage), [""; 0]);
}

#[test]
fn a_move_that_policies_refuse_is_recorded_once() {
    let (stage, _) = staged();
    set_all(&stage, "shadow");
    stage.superuser().ok("SELECT tenancy.shadow_clear()");
    let mut client = stage.tenant(A);
    tried(
        &mut client,
        &format!("UPDATE app.orders SET tenant_id = '{B}' WHERE id = 1 RETURNING id"),
    );
    assert_eq!(
        taken(&stage),
        ["app.orders update check_violation exact b 1"]
    );
}

#[test]
fn a_user_who_moves_himself_is_recorded() {
    let stage = Stage::unbound();
    stage.owner().ok(&format!(
        "CREATE TABLE app.members (user_id text, tenant_id uuid);
         INSERT INTO app.members VALUES ('ann', '{A}'), ('bob', '{B}');
         CREATE TABLE app.users (id text PRIMARY KEY, tenant_id uuid NOT NULL);
         INSERT INTO app.users VALUES ('ann', '{A}'), ('bob', '{B}');
         GRANT SELECT, UPDATE ON app.users TO {}",
        stage.app
    ));
    stage
        .superuser()
        .ok("SELECT tenancy.bind(membership => 'app.members')");
    let protect = |mode: &str| {
        stage.owner().ok(&format!(
            "SELECT tenancy.protect_table('app.users', template => 'self', mode => '{mode}', options => '{{\"readers\": \"tenant\"}}')"
        ));
    };
    let mut ann = stage
        .database
        .connect_with(&stage.app, "-c app.current_user_id=ann");
    let sql = format!("UPDATE app.users SET tenant_id = '{B}' WHERE id = 'ann' RETURNING id");
    protect("shadow");
    stage.superuser().ok("SELECT tenancy.shadow_clear()");
    assert_eq!(tried(&mut ann, &sql).len(), 1);
    assert_eq!(
        taken(&stage),
        ["app.users update check_violation exact a 1"]
    );
    protect("enforce");
    expect_error(&ann.error(&sql), "23514", "another tenant");
}

#[test]
fn what_goes_on_under_another_context_is_recorded() {
    let (stage, job) = staged();
    set_all(&stage, "shadow");
    stage.superuser().ok("SELECT tenancy.shadow_clear()");
    let declare = "DECLARE c CURSOR FOR SELECT id FROM app.orders WHERE note = 'a1' OR note = 'a2'";
    let fetched = |client: &mut Client, statements: &[&str]| {
        client.ok("BEGIN");
        client.ok(&format!("SET LOCAL app.current_tenant_id = '{A}'"));
        client.ok(declare);
        let mut rows = client.rows("FETCH 1 FROM c").len();
        for statement in statements {
            client.ok(statement);
        }
        rows += client.rows("FETCH ALL FROM c").len();
        client.ok("COMMIT");
        rows
    };
    let to_b = format!("SET LOCAL app.current_tenant_id = '{B}'");
    let to_a = format!("SET LOCAL app.current_tenant_id = '{A}'");
    let mut client = stage.nobody();
    // For the same tenant, or back again.
    assert_eq!(fetched(&mut client, &[]), 2);
    assert_eq!(fetched(&mut client, &[&to_b, &to_a]), 2);
    assert_eq!(taken(&stage), [""; 0]);
    assert_eq!(fetched(&mut client, &[&to_b]), 2);
    let found = taken(&stage);
    assert!(
        found.contains(&"app.orders select statement_error exact 1".to_owned()),
        "{found:?}"
    );
    // Whom policies do not bind may go on.
    let mut client = stage.database.connect(&job);
    assert_eq!(fetched(&mut client, &[&to_b]), 2);
    assert_eq!(taken(&stage), [""; 0]);

    set_all(&stage, "enforce");
    let mut client = stage.nobody();
    client.ok("BEGIN");
    client.ok(&to_a);
    client.ok(declare);
    client.ok("FETCH 1 FROM c");
    client.ok(&to_b);
    expect_error(&client.error("FETCH ALL FROM c"), "55000", "changed");
}
