//! What confirmation may take, and what it leaves alone: time, memory, and others' accounts.

mod confirm_support;
mod policy_support;

use std::time::Duration;

use confirm_support::{
    CONFIRMED, DOES_NOT, ENDLESS, MATTERS, UNCONFIRMED, after, confirm_ms, staged, staged_on, taken,
};
use pgrx_test::cluster::Cluster;
use pgrx_test::fixture::{ClientExt, Database, Server, expect_error};
use policy_support::{B, Stage};

#[test]
fn statements_that_take_too_long_are_left_alone() {
    let stage = staged();
    let long = format!("{MATTERS} AND (SELECT count(*) FROM generate_series(1, 1000000)) > 0");
    assert_eq!(after(&stage, &long), CONFIRMED);
    confirm_ms(&stage, "1ms");
    assert_eq!(after(&stage, &long), UNCONFIRMED);
    confirm_ms(&stage, "0");
    assert_eq!(after(&stage, MATTERS), UNCONFIRMED);
    assert_eq!(after(&stage, DOES_NOT), ["level a 1 1"]);
}

#[test]
fn the_runs_are_limited_too() {
    let stage = staged();
    confirm_ms(&stage, "1s");
    let mut session = stage.tenant(B);
    // The clock of the statement's own limit stands still meanwhile, and goes on afterwards.
    session.ok("SET statement_timeout = '2s'");
    session.ok(ENDLESS);
    assert_eq!(taken(&stage), ["level a 1 1"]);
    let error = session.error(&format!("{MATTERS}; SELECT pg_sleep(60)"));
    expect_error(&error, "57014", "statement timeout");
    assert_eq!(taken(&stage), CONFIRMED);
    session.ok(MATTERS);
    assert_eq!(taken(&stage), CONFIRMED);
}

#[test]
fn the_clock_of_the_transaction_stands_still_too() {
    let stage = staged();
    if stage.superuser().int("SHOW server_version_num") < 170_000 {
        // There is no such clock.
        let error = stage.superuser().error("SHOW transaction_timeout");
        expect_error(&error, "42704", "transaction_timeout");
        return;
    }
    confirm_ms(&stage, "2s");
    let mut session = stage.tenant(B);
    session.ok("SET transaction_timeout = '5s'");
    session.ok("BEGIN");
    // The comparison takes all of its six seconds.
    session.ok(ENDLESS);
    assert_eq!(taken(&stage), ["level a 1 1"]);
    session.ok("SELECT 1");
    // It goes on afterwards, and ends the session.
    let error = session.batch_execute("SELECT pg_sleep(60)").unwrap_err();
    let code = error.code().map(|code| code.code().to_owned());
    assert!(code.is_none_or(|code| code == "25P04"), "{error:?}");
    assert!(session.batch_execute("SELECT 1").is_err());
}

#[test]
fn queries_are_kept_for_it_within_bounds() {
    let stage = staged();
    stage
        .superuser()
        .ok(&format!("GRANT pg_read_all_stats TO {}", stage.app));
    let mut session = stage.tenant(B);
    session.ok("SET plan_cache_mode = force_generic_plan");
    session.ok(&format!("PREPARE first AS {MATTERS}"));
    session.ok("EXECUTE first");
    assert_eq!(taken(&stage), CONFIRMED);
    let memory = "SELECT coalesce(sum(total_bytes), 0)::bigint FROM pg_backend_memory_contexts
         WHERE name = 'pg_tenancy shadow query'";
    let list: Vec<String> = (0..800).map(|number| number.to_string()).collect();
    for number in 0..60 {
        session.ok(&format!(
            "PREPARE other_{number} AS {MATTERS} AND id NOT IN ({list}); EXECUTE other_{number}",
            list = list.join(" + 0, "),
        ));
        assert!(session.int(memory) <= 4 << 20);
    }
    assert!(session.int(memory) > 2 << 20, "the lists are too short");
    taken(&stage);
    // The first has made room for others, and is known again once it is planned again, which others' sessions may
    // have brought about.
    session.ok("EXECUTE first");
    let found = taken(&stage);
    assert!(found == UNCONFIRMED || found == CONFIRMED, "{found:?}");
    session.ok(&format!("DEALLOCATE first; PREPARE first AS {MATTERS}"));
    session.ok("EXECUTE first");
    assert_eq!(taken(&stage), CONFIRMED);
}

#[test]
fn who_counts_statements_counts_one() {
    // Not every server comes with the module; the counters of tables are everybody's.
    let available =
        "SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_stat_statements'";
    let has_statements = Database::new(Server::preloaded())
        .superuser()
        .int(available)
        == 1;
    let libraries = if has_statements {
        "pg_tenancy,pg_stat_statements"
    } else {
        "pg_tenancy"
    };
    let cluster = Cluster::for_test(Server::preloaded(), "accounts")
        .set("shared_preload_libraries", libraries)
        .start()
        .unwrap();
    let stage = staged_on(Stage::on(cluster.server()));
    let mut admin = stage.superuser();
    if has_statements {
        admin.ok("CREATE EXTENSION pg_stat_statements");
    }
    let scans = "SELECT coalesce(seq_scan, 0) FROM pg_stat_user_tables WHERE relname = 'links'";
    admin.ok("SELECT pg_stat_force_next_flush()");
    let before = admin.int(scans);
    let mut session = stage.tenant(B);
    session.ok(MATTERS);
    session.ok("SELECT pg_stat_force_next_flush()");
    assert_eq!(taken(&stage), CONFIRMED);
    assert_eq!(admin.int(scans), before + 1);
    if has_statements {
        let counted = "SELECT concat_ws(' ', calls, rows) FROM pg_stat_statements WHERE query LIKE 'SELECT id FROM app.links WHERE item_id IN%'";
        assert_eq!(admin.text(counted).as_deref(), Some("1 4"));
    }
}

/// Has the session's comparison without an end under way, and its process told something.
fn interrupted(stage: &Stage, how: &str) -> postgres::Error {
    let mut session = stage.tenant(B);
    let process = session.int("SELECT pg_backend_pid()");
    let running = std::thread::spawn(move || session.batch_execute(ENDLESS).unwrap_err());
    let mut admin = stage.superuser();
    while admin.int("SELECT count(*) FROM tenancy.shadow_recorded()") == 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(500));
    admin.ok(&format!("SELECT {how}({process})"));
    running.join().unwrap()
}

#[test]
fn a_cancelled_statement_is_cancelled() {
    let stage = staged();
    let error = interrupted(&stage, "pg_cancel_backend");
    let error = error.as_db_error().expect("an error of the server").clone();
    expect_error(&error, "57014", "user request");
    assert_eq!(taken(&stage), ["level a 1 1"]);
    // The client may find the connection closed before it has read why.
    let error = interrupted(&stage, "pg_terminate_backend");
    let told = error
        .as_db_error()
        .map(|error| error.code().code().to_owned());
    assert!(
        error.is_closed() || told.as_deref() == Some("57P01"),
        "{error:?}"
    );
}
