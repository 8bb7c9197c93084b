//! Confirmation by comparison: records that are not exact are confirmed or dismissed, and nobody notices.

mod confirm_support;
mod policy_support;

use confirm_support::{
    CONFIRMED, DOES_NOT, MATTERS, PATIENT, UNCONFIRMED, after, confirm_ms, dismissed, staged, taken,
};
use pgrx_test::fixture::{ClientExt, expect_error};
use policy_support::{A, B, plan_of};
use postgres::{Client, SimpleQueryMessage};

#[test]
fn what_matters_is_confirmed_and_what_does_not_is_dismissed() {
    let stage = staged();
    assert_eq!(after(&stage, MATTERS), CONFIRMED);
    stage.tenant(B).ok(MATTERS);
    stage.tenant(B).ok(MATTERS);
    assert_eq!(taken(&stage), ["level a 4 2 t 4"]);
    stage.tenant(B).ok(DOES_NOT);
    assert_eq!(dismissed(&stage), 1);
    assert_eq!(taken(&stage), [""; 0]);
    // A row that enforcement brings is a change as well, though none is lost.
    let brings =
        "SELECT id FROM app.links WHERE item_id NOT IN (SELECT id FROM app.items OFFSET 0)";
    assert_eq!(after(&stage, brings), ["level a 2 1 t 0"]);
    // Rows count as often as they are there, and values are told apart.
    let counted = "SELECT 1 FROM app.links WHERE item_id IN (SELECT id FROM app.items OFFSET 0)";
    assert_eq!(after(&stage, counted), CONFIRMED);
    let aggregated = "SELECT count(*), 'x'::text FROM (SELECT note FROM app.items OFFSET 0) s";
    assert_eq!(after(&stage, aggregated), ["level a 2 1 t 1"]);
}

#[test]
fn another_order_of_the_same_rows_matters_where_it_was_asked_for() {
    let stage = staged();
    let by_items = "SELECT id FROM app.links l
         ORDER BY CASE WHEN EXISTS (SELECT FROM app.items i WHERE i.id = l.item_id OFFSET 0) THEN 0 ELSE 1 END, id";
    assert_eq!(after(&stage, by_items), ["level a 2 1 t 0"]);
    // Here it was not.
    let unordered = format!("SELECT id FROM ({by_items}) s");
    stage.tenant(B).ok(&unordered);
    assert_eq!(dismissed(&stage), 1);
    assert_eq!(taken(&stage), [""; 0]);
}

#[test]
fn what_is_known_to_matter_is_not_compared_for_ever() {
    let stage = staged();
    let mut session = stage.tenant(B);
    for _ in 0..15 {
        session.ok(MATTERS);
    }
    // Each comparison found two lost rows.
    assert_eq!(taken(&stage), ["level a 30 15 t 20"]);
    // False alarms are dismissed however many there are.
    for _ in 0..15 {
        session.ok(DOES_NOT);
    }
    assert_eq!(dismissed(&stage), 15);
    assert_eq!(taken(&stage), [""; 0]);
}

#[test]
fn prepared_generic_and_with_parameters() {
    let stage = staged();
    for mode in ["force_custom_plan", "force_generic_plan", "auto"] {
        let mut session = stage.tenant(B);
        session.ok(&format!("SET plan_cache_mode = {mode}"));
        let prepared = session
            .prepare(&format!("{MATTERS} AND id >= $1 AND $2::text <> ''"))
            .unwrap();
        for _ in 0..7 {
            assert_eq!(session.query(&prepared, &[&1, &"x"]).unwrap().len(), 4);
            assert_eq!(taken(&stage), CONFIRMED, "{mode}");
            assert_eq!(session.query(&prepared, &[&3, &"x"]).unwrap().len(), 2);
            assert_eq!(dismissed(&stage), 1, "{mode}");
            assert_eq!(taken(&stage), [""; 0], "{mode}");
        }
        session.ok(&format!("PREPARE p(int) AS {MATTERS} AND id >= $1"));
        session.ok("EXECUTE p(2)");
        assert_eq!(taken(&stage), ["level a 2 1 t 1"], "{mode}");
        // The plan means what it meant when its text was read.
        session.ok("SET search_path = app; PREPARE q AS SELECT id FROM links WHERE item_id IN (SELECT id FROM items OFFSET 0)");
        session.ok("EXECUTE q");
        assert_eq!(taken(&stage), CONFIRMED, "{mode}");
    }
}

#[test]
fn errors_are_nobodys() {
    let stage = staged();
    let mut session = stage.tenant(B);
    session.ok("BEGIN");
    let sql = "SELECT 1 / (SELECT count(*) FROM (SELECT id FROM app.items WHERE note LIKE 'a%' OFFSET 0) s)";
    assert_eq!(session.int(sql), 0);
    assert_eq!(taken(&stage), UNCONFIRMED);
    session.ok(MATTERS);
    assert_eq!(taken(&stage), CONFIRMED);
    session.ok("COMMIT");
}

#[test]
fn nothing_is_left_behind() {
    let stage = staged();
    let traces = |value: &str| {
        confirm_ms(&stage, value);
        let mut session = stage.tenant(B);
        session.ok("BEGIN");
        session.ok(MATTERS);
        session.ok(DOES_NOT);
        let found = session.rows(
            "SELECT pg_current_xact_id_if_assigned()::text
             UNION ALL SELECT concat_ws(' ', relation::regclass, mode) FROM pg_locks
                WHERE pid = pg_backend_pid() AND relation > 16384
             UNION ALL SELECT concat_ws(' ', relname, seq_scan, seq_tup_read, idx_scan) FROM pg_stat_xact_user_tables
                WHERE schemaname = 'app'
             UNION ALL SELECT concat_ws(' ', name, setting) FROM pg_settings
                WHERE name IN ('client_min_messages', 'log_min_messages', 'lock_timeout', 'track_counts', 'track_functions',
                    'synchronize_seqscans', 'jit', 'transaction_read_only', 'statement_timeout')
             ORDER BY 1",
        );
        session.ok("UPDATE app.links SET item_id = item_id; COMMIT");
        (found, taken(&stage))
    };
    let (without, records) = traces("0");
    assert_eq!(records, ["level a 1 1", "level a 2 1"]);
    let (with, records) = traces(PATIENT);
    assert_eq!(records, CONFIRMED);
    assert_eq!(with, without);
    assert!(with.contains(&vec![None]), "no transaction id: {with:?}");
}

#[test]
fn nothing_with_effects_runs_again() {
    let stage = staged();
    stage.owner().ok(&format!(
        "CREATE SEQUENCE app.calls; GRANT ALL ON app.calls TO {0};
         CREATE FUNCTION app.told(int) RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RAISE INFO ''told''; RETURN $1; END';
         CREATE FUNCTION app.called() RETURNS SETOF bigint LANGUAGE sql STABLE AS 'SELECT nextval(''app.calls'')';
         CREATE FUNCTION app.looked() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM app.items';",
        stage.app
    ));
    let calls = || stage.superuser().int("SELECT last_value FROM app.calls");
    assert_eq!(
        after(&stage, &format!("{MATTERS} AND nextval('app.calls') > 0")),
        UNCONFIRMED
    );
    assert_eq!(calls(), 4);
    // Said to be stable, and it is not.
    let lie = MATTERS.replace("app.links", "app.links CROSS JOIN app.called()");
    assert_eq!(after(&stage, &lie), UNCONFIRMED);
    assert_eq!(calls(), 5);
    let told = format!("{MATTERS} AND app.told(id) > 0");
    assert_eq!(after(&stage, &told), UNCONFIRMED);
    assert_eq!(
        after(&stage, &format!("{MATTERS} FOR UPDATE OF links")),
        UNCONFIRMED
    );
    let locked = stage
        .tenant(B)
        .error(&format!("BEGIN READ ONLY; {MATTERS} FOR UPDATE OF links"));
    expect_error(&locked, "25006", "read-only");
    taken(&stage);
    assert_eq!(
        after(
            &stage,
            &format!("WITH w AS (UPDATE app.links SET item_id = item_id RETURNING 1) {MATTERS}")
        ),
        UNCONFIRMED
    );
    assert_eq!(
        after(
            &stage,
            &MATTERS.replace("app.links", "app.links TABLESAMPLE system (100)")
        ),
        UNCONFIRMED
    );
    // What a function reads by a statement of its own stays unprotected in both runs.
    let inner = format!("{MATTERS} AND app.looked() > 1");
    assert!(
        after(&stage, &inner).contains(&UNCONFIRMED[0].to_owned()),
        "a statement inside"
    );
    for level in ["repeatable read", "serializable"] {
        let sql = format!("BEGIN ISOLATION LEVEL {level}; {MATTERS}; COMMIT");
        let expected = if level == "serializable" {
            UNCONFIRMED
        } else {
            CONFIRMED
        };
        assert_eq!(after(&stage, &sql), expected, "{level}");
    }
}

#[test]
fn rows_that_were_not_all_fetched() {
    let stage = staged();
    let mut session = stage.tenant(B);
    session.ok(&format!(
        "BEGIN; DECLARE c CURSOR FOR {MATTERS}; FETCH 1 FROM c"
    ));
    session.ok("FETCH ALL FROM c");
    assert_eq!(taken(&stage), ["level a 2 1"]);
    session.ok("COMMIT");
    session.ok(&format!("BEGIN; DECLARE c CURSOR FOR {MATTERS}"));
    session.ok("FETCH ALL FROM c");
    assert_eq!(taken(&stage), CONFIRMED);
    session.ok("COMMIT");
    session.ok(&format!(
        "BEGIN; DECLARE c CURSOR WITH HOLD FOR {MATTERS}; COMMIT"
    ));
    assert_eq!(taken(&stage), UNCONFIRMED);
    let mut transaction = session.transaction().unwrap();
    let statement = transaction.prepare(MATTERS).unwrap();
    let portal = transaction.bind(&statement, &[]).unwrap();
    assert_eq!(transaction.query_portal(&portal, 3).unwrap().len(), 3);
    assert_eq!(transaction.query_portal(&portal, 3).unwrap().len(), 1);
    assert_eq!(taken(&stage), UNCONFIRMED);
    let portal = transaction.bind(&statement, &[]).unwrap();
    assert_eq!(transaction.query_portal(&portal, 0).unwrap().len(), 4);
    assert_eq!(taken(&stage), CONFIRMED);
}

#[test]
fn statements_that_are_not_the_clients_own() {
    let stage = staged();
    for sql in [
        format!("DO $$ BEGIN PERFORM * FROM ({MATTERS}) s; END $$"),
        format!("EXPLAIN ANALYZE {MATTERS}"),
        format!("CREATE TEMP TABLE kept AS {MATTERS}"),
        format!("INSERT INTO app.links SELECT id + 10, 0 FROM ({MATTERS}) s"),
    ] {
        let found = after(&stage, &sql);
        assert!(!found.is_empty(), "{sql}");
        assert!(
            found.iter().all(|line| !line.contains(" t ")),
            "{sql}: {found:?}"
        );
    }
    assert_eq!(dismissed(&stage), 0);
    // Statements sent together share a number: the second's verdict is not for the first.
    let both = format!("{MATTERS} FOR UPDATE OF links; {DOES_NOT}");
    let found = after(&stage, &both);
    assert!(found.iter().all(|line| !line.contains(" t ")), "{found:?}");
    assert_eq!(dismissed(&stage), 0);
    assert_eq!(after(&stage, &format!("{DOES_NOT}; {MATTERS}")), CONFIRMED);
}

#[test]
fn another_tables_rows_confirm_nothing() {
    let stage = staged();
    stage.owner().ok(&format!(
        "CREATE TABLE app.notes (id int PRIMARY KEY, tenant_id uuid);
         INSERT INTO app.notes VALUES (1, '{A}'), (2, '{B}');
         SELECT tenancy.protect_table('app.notes', mode => 'shadow')"
    ));
    let sql = "SELECT id FROM app.items WHERE EXISTS (SELECT FROM app.notes OFFSET 0)";
    assert_eq!(after(&stage, sql), ["exact a 2 1", "level a 1 1"]);
    assert_eq!(dismissed(&stage), 0);
    let sql = "SELECT id FROM app.items WHERE id IN (SELECT id FROM app.notes OFFSET 0) AND tenant_id = current_tenant_id()";
    assert_eq!(after(&stage, sql), [""; 0]);
}

#[test]
fn records_of_workers_are_settled() {
    let stage = staged();
    let mut session = stage.tenant(B);
    session.ok("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
         SET parallel_leader_participation = off; SET enable_hashagg = off; SET enable_indexscan = off; SET enable_bitmapscan = off");
    let plan = plan_of(&mut session, MATTERS);
    assert!(plan.contains("Gather"), "{plan}");
    session.ok(MATTERS);
    assert_eq!(taken(&stage), CONFIRMED);
    session.ok(DOES_NOT);
    assert_eq!(taken(&stage), [""; 0]);
}

/// What the client is told besides rows.
fn told(session: &mut Client, sql: &str) -> Vec<String> {
    session
        .simple_query(sql)
        .unwrap()
        .into_iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("null").to_owned()),
            SimpleQueryMessage::CommandComplete(count) => Some(format!("count {count}")),
            _ => None,
        })
        .collect()
}

#[test]
fn the_client_gets_the_same() {
    let stage = staged();
    let mut session = stage.tenant(B);
    assert_eq!(told(&mut session, MATTERS), ["1", "2", "3", "4", "count 4"]);
    assert_eq!(taken(&stage), CONFIRMED);
}
