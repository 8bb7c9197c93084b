//! Shadow mode from on to off: who is recorded, and what nobody notices.

mod policy_support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgrx_test::fixture::{ClientExt, Database, Server, expect_error, full};
use policy_support::{A, B, Stage, plan_of};

const ITEMS: &str = "SELECT id FROM app.items";

/// `command kind precision row_tenant rows statements`, sorted.
fn records(stage: &Stage) -> Vec<String> {
    stage
        .superuser()
        .texts(
            "SELECT concat_ws(' ', command, kind, \"precision\", right(row_tenant, 1), rows, statements)
             FROM tenancy.shadow_recorded() ORDER BY 1",
        )
}

fn clear(stage: &Stage) {
    stage.superuser().ok("SELECT tenancy.shadow_clear()");
}

/// What was recorded since the last look.
fn taken(stage: &Stage) -> Vec<String> {
    let found = records(stage);
    clear(stage);
    found
}

fn shadowed() -> Stage {
    let stage = Stage::new();
    stage.items();
    shadow(&stage, "app.items");
    stage
}

fn shadow(stage: &Stage, table: &str) {
    stage.owner().ok(&format!(
        "SELECT tenancy.protect_table('{table}', mode => 'shadow')"
    ));
}

#[test]
fn the_catalog_stays_as_it_was() {
    let stage = Stage::new();
    stage.items();
    let before = stage.dump();
    shadow(&stage, "app.items");
    assert_eq!(stage.dump(), before);
    assert_eq!(
        stage
            .nobody()
            .text("SELECT mode FROM tenancy.protected_tables")
            .as_deref(),
        Some("shadow")
    );
    stage
        .owner()
        .ok("SELECT tenancy.set_mode('app.items', 'enforce', force => true)");
    assert_eq!(stage.tenant(B).rows(ITEMS).len(), 1);
    assert_eq!(taken(&stage), [""; 0]);
    stage
        .owner()
        .ok("SELECT tenancy.set_mode('app.items', 'shadow')");
    assert_eq!(stage.tenant(B).rows(ITEMS).len(), 3);
    assert_eq!(taken(&stage), ["select hidden_row exact a 2 1"]);
}

#[test]
fn only_a_preloaded_library_can_do_it() {
    let database = Database::new(Server::plain());
    let mut admin = database.superuser();
    admin.ok("CREATE TABLE items (id int, tenant_id uuid);
         SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id')");
    for sql in [
        "SELECT tenancy.protect_table('items', mode => 'shadow')",
        "SELECT tenancy.protect_table('items')",
    ] {
        expect_error(&admin.error(sql), "55000", "shared_preload_libraries");
    }
    admin.ok("SELECT tenancy.protect_table('items', mode => 'permissive')");
    let error = admin.error("SELECT tenancy.set_mode('items', 'shadow')");
    expect_error(&error, "55000", "shared_preload_libraries");
}

#[test]
fn nothing_is_locked_and_plans_follow() {
    let stage = shadowed();
    let mut busy = stage.tenant(B);
    busy.ok("BEGIN; LOCK TABLE app.items IN EXCLUSIVE MODE");
    let mut owner = stage.owner();
    owner.ok("SET lock_timeout = '2s'");
    owner.ok("SELECT tenancy.set_mode('app.items', 'permissive')");
    owner.ok("SELECT tenancy.set_mode('app.items', 'shadow')");
    busy.ok("ROLLBACK");

    let mut session = stage.tenant(B);
    session.ok("SET plan_cache_mode = force_generic_plan");
    let prepared = session.prepare("SELECT id FROM app.items").unwrap();
    let mut run = |stage: &Stage| {
        assert_eq!(session.query(&prepared, &[]).unwrap().len(), 3);
        taken(stage)
    };
    clear(&stage);
    assert_eq!(run(&stage), ["select hidden_row exact a 2 1"]);
    owner.ok("SELECT tenancy.set_mode('app.items', 'permissive')");
    assert_eq!(run(&stage), [""; 0]);
    owner.ok("SELECT tenancy.set_mode('app.items', 'shadow')");
    assert_eq!(run(&stage), ["select hidden_row exact a 2 1"]);
    owner.ok("SELECT tenancy.unprotect_table('app.items')");
    assert_eq!(run(&stage), [""; 0]);
}

#[test]
fn a_plan_of_one_role_is_not_run_by_another() {
    let stage = shadowed();
    let mut session = stage.superuser();
    session.ok(&format!(
        "SET plan_cache_mode = force_generic_plan; SET app.current_tenant_id = '{B}'; PREPARE p AS {ITEMS}"
    ));
    session.ok("BEGIN");
    for (role, expected) in [
        ("postgres", &[""; 0][..]),
        (stage.app.as_str(), &["select hidden_row exact a 2 1"]),
        ("postgres", &[]),
    ] {
        session.ok(&format!(
            "SET LOCAL app.current_tenant_id = '{B}'; SET LOCAL ROLE {role}; EXECUTE p"
        ));
        assert_eq!(taken(&stage), expected, "{role}");
    }
}

#[test]
fn whom_enforcement_would_not_bind_is_not_recorded() {
    let stage = shadowed();
    stage.role_as(&stage.owner, B).ok(ITEMS);
    assert_eq!(taken(&stage), ["select hidden_row exact a 2 1"], "FORCE");
    stage.owner().ok(
        "SELECT tenancy.protect_table('app.items', mode => 'shadow', options => '{\"force\": false}')",
    );
    stage.role_as(&stage.owner, B).ok(ITEMS);
    assert_eq!(taken(&stage), [""; 0], "no FORCE");
    let exempt = stage.database.role("exempt");
    stage.superuser().ok(&format!(
        "ALTER ROLE {exempt} BYPASSRLS; GRANT {} TO {exempt}",
        stage.app
    ));
    stage.role_as(&exempt, B).ok(ITEMS);
    stage.superuser().ok(ITEMS);
    assert_eq!(taken(&stage), [""; 0]);
}

#[test]
fn foreign_keys_are_checked_without_a_trace() {
    let stage = shadowed();
    stage.owner().ok(&format!(
        "CREATE TABLE app.lines (id int, item int REFERENCES app.items ON DELETE CASCADE, tenant_id uuid);
         INSERT INTO app.lines VALUES (1, 1, '{A}'), (2, 3, '{B}');
         SELECT tenancy.protect_table('app.lines', mode => 'shadow')"
    ));
    clear(&stage);
    let mut session = stage.tenant(B);
    session.ok(&format!(
        "INSERT INTO app.lines VALUES (3, 1, '{B}'); DELETE FROM app.items WHERE id = 3"
    ));
    assert_eq!(taken(&stage), [""; 0]);
}

#[test]
fn a_statement_without_a_context_is_one_record() {
    let stage = shadowed();
    let mut nobody = stage.nobody();
    assert_eq!(nobody.rows(ITEMS).len(), 3);
    assert_eq!(taken(&stage), ["select missing_context exact 1 1"]);
    nobody.ok(&format!("INSERT INTO app.items VALUES (9, '{A}')"));
    assert_eq!(taken(&stage), ["insert missing_context exact 1 1"]);
    nobody.ok("SET pg_tenancy.missing_context = deny");
    assert_eq!(nobody.rows(ITEMS).len(), 4);
    assert_eq!(
        taken(&stage),
        [
            "select hidden_row exact a 3 1",
            "select hidden_row exact b 1 1"
        ]
    );
    nobody.ok("RESET pg_tenancy.missing_context; SET app.current_tenant_id = ''; EXPLAIN SELECT * FROM app.items");
    assert_eq!(taken(&stage), [""; 0], "EXPLAIN runs nothing");
}

#[test]
fn written_rows() {
    let stage = shadowed();
    let mut session = stage.tenant(B);
    session.ok(&format!(
        "INSERT INTO app.items VALUES (5, '{B}'), (6, '{A}')"
    ));
    assert_eq!(taken(&stage), ["insert check_violation exact a 1 1"]);
    session.ok("UPDATE app.items SET note = 'x' WHERE id IN (3, 5)");
    assert_eq!(taken(&stage), [""; 0]);
    session.ok("UPDATE app.items SET note = 'x' WHERE id = 1");
    assert_eq!(taken(&stage), ["update hidden_row exact a 1 1"]);
    session.ok(&format!(
        "UPDATE app.items SET tenant_id = '{A}' WHERE id = 3"
    ));
    assert_eq!(taken(&stage), ["update check_violation exact a 1 1"]);
    session.ok(&format!(
        "INSERT INTO app.items VALUES (1, '{B}', 'y') ON CONFLICT (id) DO UPDATE SET note = excluded.note"
    ));
    assert_eq!(taken(&stage), ["insert check_violation exact a 1 1"]);
    session.ok("WITH late AS (UPDATE app.items SET note = 'z' WHERE id = 1 RETURNING 1) SELECT 1");
    assert_eq!(
        taken(&stage),
        ["update hidden_row exact a 1 1"],
        "run at the end"
    );
    session.ok("DELETE FROM app.items WHERE id = 2");
    assert_eq!(taken(&stage), ["delete hidden_row exact a 1 1"]);
}

#[test]
fn copy() {
    let stage = shadowed();
    stage
        .superuser()
        .ok("ALTER TABLE app.items ADD twice int GENERATED ALWAYS AS (id * 2) STORED");
    let mut session = stage.tenant(B);
    let mut out = |sql: &str| {
        use std::io::Read;
        let mut text = String::new();
        session
            .copy_out(sql)
            .expect("COPY starts")
            .read_to_string(&mut text)
            .expect("text");
        text
    };
    let all = format!("1\t{A}\ta1\n2\t{A}\ta2\n3\t{B}\tb1\n");
    assert_eq!(out("COPY app.items TO STDOUT"), all);
    assert_eq!(taken(&stage), ["select hidden_row exact a 2 1"]);
    assert_eq!(
        out("COPY app.items (id) TO STDOUT WITH (FORMAT csv, HEADER)"),
        "id\n1\n2\n3\n"
    );
    assert_eq!(
        out("COPY (SELECT note FROM app.items WHERE id = 2) TO STDOUT"),
        "a2\n"
    );
    clear(&stage);
    let mut session = stage.tenant(B);
    // What is no COPY without shadow mode is none with it.
    for (columns, code) in [
        ("id, twice", "42P10"),
        ("id, ctid", "42703"),
        ("id, id", "42701"),
    ] {
        let error = session.error(&format!("COPY app.items ({columns}) TO STDOUT"));
        assert_eq!(error.code().code(), code, "{columns}");
    }
    let writer = session
        .copy_in("COPY app.items (id, tenant_id) FROM STDIN")
        .expect("COPY starts");
    writer.finish().expect("COPY ends");
    assert_eq!(taken(&stage), ["copy statement_error exact 1 1"]);
}

#[test]
fn policies_of_the_users_own_count() {
    let stage = Stage::new();
    stage.items();
    stage
        .owner()
        .ok("CREATE POLICY mine ON app.items USING (note <> 'b1')");
    shadow(&stage, "app.items");
    assert_eq!(stage.tenant(B).rows(ITEMS).len(), 3);
    assert_eq!(
        taken(&stage),
        [
            "select hidden_row exact a 2 1",
            "select hidden_row exact b 1 1"
        ],
        "dormant, and woken by enforcement"
    );
    stage
        .owner()
        .ok("ALTER TABLE app.items ENABLE ROW LEVEL SECURITY");
    assert_eq!(stage.tenant(B).rows(ITEMS).len(), 2);
    assert_eq!(
        taken(&stage),
        ["select hidden_row exact a 2 1"],
        "enforced, and so nothing that enforcing changes"
    );
    stage.owner().ok(
        "ALTER TABLE app.items DISABLE ROW LEVEL SECURITY; DROP POLICY mine ON app.items;
         CREATE POLICY mine ON app.items USING (tenant_id = current_setting('not.there')::uuid)",
    );
    assert_eq!(
        stage.tenant(B).rows(ITEMS).len(),
        3,
        "what could raise is not evaluated"
    );
    assert_eq!(
        taken(&stage),
        [
            "select hidden_row scan a 2 1",
            "select hidden_row scan b 1 1"
        ],
        "and counts as not satisfied"
    );
}

#[test]
fn policies_with_sub_queries_see_what_they_would_see() {
    let stage = shadowed();
    stage.owner().ok(&format!(
        "CREATE TABLE app.lines (id int, item int, tenant_id uuid);
         INSERT INTO app.lines VALUES (1, 1, '{B}'), (2, 3, '{B}'), (3, 3, '{A}');
         CREATE POLICY mine ON app.lines USING (EXISTS (SELECT 1 FROM app.items i WHERE i.id = item));
         REVOKE ALL ON app.items FROM {}",
        stage.app
    ));
    shadow(&stage, "app.lines");
    let mut session = stage.tenant(B);
    // Line 1 would be hidden because its item is, line 3 because of its tenant.
    assert_eq!(session.rows("SELECT id FROM app.lines").len(), 3);
    assert_eq!(
        taken(&stage),
        [
            "select hidden_row exact a 1 1",
            "select hidden_row exact b 1 1"
        ]
    );
    session.ok("SELECT count(*) FROM app.lines a JOIN app.lines b USING (id)");
    assert_eq!(taken(&stage).len(), 2);
}

#[test]
fn enforced_policies_keep_what_they_hide() {
    let stage = shadowed();
    stage
        .owner()
        .ok("ALTER TABLE app.items ENABLE ROW LEVEL SECURITY;
         CREATE POLICY all_rows ON app.items USING (true);
         CREATE POLICY secret ON app.items AS RESTRICTIVE USING (note <> 'a2')");
    stage.superuser().ok(
        "CREATE FUNCTION public.leak(text) RETURNS bool LANGUAGE plpgsql COST 0.0001 AS
             $$BEGIN IF $1 = 'a2' THEN RAISE 'leaked'; END IF; RETURN true; END$$",
    );
    clear(&stage);
    let mut session = stage.tenant(B);
    for sql in [
        "SELECT id FROM app.items WHERE leak(note)",
        "SELECT i.id FROM app.items i JOIN app.items j USING (id) WHERE leak(i.note || left(j.note, 0))",
        "SELECT id FROM app.items i WHERE EXISTS (SELECT 1 FROM app.items j WHERE j.id = i.id AND leak(j.note))",
    ] {
        assert_eq!(session.rows(sql).len(), 2, "{sql}");
        assert!(
            taken(&stage)
                .iter()
                .any(|record| record.contains("hidden_row")),
            "{sql}"
        );
    }
}

#[test]
fn a_row_that_another_session_changes_counts_once() {
    let stage = shadowed();
    let mut first = stage.tenant(A);
    first.ok("BEGIN; UPDATE app.items SET note = 'changed' WHERE id = 1");
    clear(&stage);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            let mut session = stage.tenant(B);
            session.text("WITH u AS (UPDATE app.items SET note = note || '!' WHERE id = 1 RETURNING note) SELECT note FROM u")
        });
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        let mut watch = stage.superuser();
        while watch.int(waits) == 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        first.ok("COMMIT");
        let note = second.join().expect("no panic");
        assert_eq!(note.as_deref(), Some("changed!"));
    });
    assert_eq!(taken(&stage), ["update hidden_row exact a 1 1"]);
}

#[test]
fn workers_record() {
    let stage = Stage::new();
    stage.owner().ok(&format!(
        "CREATE TABLE app.items (id int, tenant_id uuid, note text);
         INSERT INTO app.items SELECT n, CASE n % 2 WHEN 0 THEN '{A}' ELSE '{B}' END::uuid, 'n' || n FROM generate_series(1, 20000) n;
         ALTER TABLE app.items SET (parallel_workers = 3); ANALYZE app.items"
    ));
    shadow(&stage, "app.items");
    let mut session = stage.tenant(B);
    session.ok("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0");
    let sql = "SELECT count(*) FROM app.items WHERE note LIKE '%7%'";
    let expected =
        session.int("SELECT count(*) FROM generate_series(2, 20000, 2) n WHERE n::text LIKE '%7%'");
    clear(&stage);
    let plan = session.texts(&format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {sql}"));
    assert!(
        plan.iter().any(|line| line.contains("Workers Launched: 2")),
        "{plan:#?}"
    );
    assert_eq!(
        taken(&stage),
        [format!("select hidden_row exact a {expected} 1")]
    );
}

#[test]
fn nobody_makes_records_up() {
    let stage = shadowed();
    let mut session = stage.tenant(B);
    session.ok("SELECT tenancy.shadow_denied('app.items', 'select hidden_row exact', 1, 0, false, 'x'::text)");
    session.ok("SELECT tenancy.shadow_denied('app.items', 'select hidden_row exact', 1, 0, false, note) FROM app.items WHERE id = 3 AND tenancy.shadow_mark(id)");
    assert_eq!(taken(&stage), [""; 0]);
    let error = session.error("SELECT tenancy.shadow_clear()");
    expect_error(&error, "42501", "permission denied");
}

#[test]
fn a_plan_can_be_read_and_uses_its_index() {
    let stage = shadowed();
    let mut session = stage.tenant(B);
    session.ok("SET enable_seqscan = off");
    let plan = plan_of(
        &mut session,
        "SELECT note FROM app.items WHERE id = 3 AND note LIKE 'b%'",
    );
    let mut lines = plan.lines().map(str::trim);
    assert_eq!(lines.next(), Some("Index Scan using items_pkey on items"));
    assert_eq!(lines.next(), Some("Index Cond: (id = 3)"));
    let filter = lines.next().expect("a filter");
    assert!(
        filter.contains("(note ~~ 'b%'::text) AND ((tenant_id = tenancy.shadow_tenant_id()) OR tenancy.shadow_denied('app.items'::regclass, 'select hidden_row exact'"),
        "{filter}"
    );
}

#[test]
fn records_tell_who_and_what() {
    let stage = shadowed();
    let mut session = stage.tenant(B);
    session.ok("SET application_name = 'reporting'");
    session.ok(ITEMS);
    let row = stage
        .superuser()
        .rows(
            "SELECT relation::regclass, role, context_tenant, row_tenant, query, application_name, confirmed
             FROM tenancy.shadow_recorded()",
        )
        .remove(0);
    let expected = [
        Some("app.items"),
        Some(&stage.app),
        Some(B),
        Some(A),
        Some(ITEMS),
        Some("reporting"),
        None,
    ];
    assert_eq!(row, expected.map(|word| word.map(str::to_owned)));
}

#[test]
fn it_is_switched_thousands_of_times_under_eight_busy_sessions() {
    let stage = shadowed();
    stage.owner().ok(&format!(
        "CREATE TABLE app.notes (id int PRIMARY KEY, item int REFERENCES app.items, tenant_id uuid, text text);
         INSERT INTO app.notes SELECT i, 1 + i % 3, CASE WHEN i % 3 = 2 THEN '{B}' ELSE '{A}' END::uuid, 'n' FROM generate_series(1, 300) i"
    ));
    shadow(&stage, "app.notes");
    let done = AtomicBool::new(false);
    let (mut runs, switches) = (0, if full() { 20_000 } else { 2_000 });
    std::thread::scope(|scope| {
        let busy: Vec<_> = (0..8)
            .map(|number| {
                let mut session = stage.tenant(if number % 2 == 0 { A } else { B });
                session.ok("SET lock_timeout = '5s'");
                if number >= 4 {
                    session.ok("SET plan_cache_mode = force_generic_plan");
                }
                let done = &done;
                scope.spawn(move || {
                    let join = session
                        .prepare("SELECT count(*) FROM app.items i JOIN app.notes n ON n.item = i.id WHERE n.text = $1")
                        .unwrap();
                    let write = session
                        .prepare("UPDATE app.notes SET text = $1 WHERE id = $2 RETURNING id")
                        .unwrap();
                    let mut runs = 0;
                    while !done.load(Ordering::Relaxed) {
                        let count: i64 = session.query_one(&join, &[&"n"]).unwrap().get(0);
                        assert_eq!(count, 300);
                        let id = number * 30 + runs % 30 + 1;
                        assert_eq!(session.query(&write, &[&"n", &id]).unwrap().len(), 1);
                        runs += 1;
                    }
                    runs
                })
            })
            .collect();
        let mut owner = stage.owner();
        owner.ok("SET lock_timeout = '5s'");
        for switch in 0..switches {
            let mode = if switch % 2 == 0 {
                "permissive"
            } else {
                "shadow"
            };
            owner.ok(&format!("SELECT tenancy.set_mode('app.notes', '{mode}')"));
        }
        done.store(true, Ordering::Relaxed);
        runs = busy
            .into_iter()
            .map(|session| session.join().expect("no error"))
            .sum();
    });
    assert!(runs > 100, "{runs} statements ran meanwhile");
    let folder = Server::preloaded().data_dir.parent().unwrap();
    // Databases of other encodings write into it as well.
    let log = std::fs::read(folder.join("server.log")).unwrap();
    let log = String::from_utf8_lossy(&log);
    let waited: Vec<&str> = log
        .lines()
        .filter(|line| line.contains(&stage.database.name) && line.contains("still waiting"))
        .collect();
    assert!(waited.is_empty(), "{waited:?}");
}
