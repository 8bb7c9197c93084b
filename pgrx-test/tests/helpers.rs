//! The helpers that bring up more than the two clusters of a run.

use pgrx_test::cluster::{Cluster, Shutdown};
use pgrx_test::fixture::{ClientExt, Database, Server};
use pgrx_test::pgbouncer::PgBouncer;
use pgrx_test::{exec, standby};

#[test]
fn a_cluster_of_its_own_survives_a_crash() {
    let mut cluster = Cluster::for_test(Server::plain(), "own")
        .set("work_mem", "7MB")
        .start()
        .unwrap();
    let database = Database::empty(cluster.server());
    database.superuser().ok("CREATE TABLE t AS SELECT 1 AS a");
    assert_eq!(
        database.superuser().text("SHOW work_mem").as_deref(),
        Some("7MB")
    );
    database.superuser().ok("CHECKPOINT");
    cluster.restart(Shutdown::Immediate).unwrap();
    assert_eq!(database.superuser().int("SELECT a FROM t"), 1);
    assert!(cluster.log().contains("automatic recovery in progress"));
}

#[test]
fn a_standby_follows_its_primary() {
    let primary = Server::preloaded();
    let database = Database::empty(primary);
    let standby = standby::create(primary, "standby").unwrap();
    database.superuser().ok("CREATE TABLE t AS SELECT 5 AS a");
    standby::catch_up(primary, standby.server()).unwrap();
    let mut session = standby.server().connect(&database.name, "postgres");
    assert_eq!(session.int("SELECT a FROM t"), 5);
    assert_eq!(
        session.text("SELECT pg_is_in_recovery()").as_deref(),
        Some("t")
    );
    let refused = session.error("INSERT INTO t VALUES (6)");
    assert_eq!(refused.code().code(), "25006");
}

#[test]
fn pgbouncer_shares_server_sessions_between_clients() {
    let database = Database::empty(Server::plain());
    let role = database.role("pooled");
    let pooler = PgBouncer::start(Server::plain(), &["default_pool_size = 1"]).unwrap();
    let mut backends: Vec<_> = (0..2)
        .map(|_| pooler.connect(&database.name, &role))
        .collect();
    let pids: Vec<_> = backends
        .iter_mut()
        .map(|c| c.int("SELECT pg_backend_pid()"))
        .collect();
    assert_eq!(
        pids[0], pids[1],
        "transaction mode hands one server session around"
    );
    assert_eq!(
        backends[0].text("SELECT session_user").as_ref(),
        Some(&role)
    );
}

#[test]
fn the_servers_own_programs_run() {
    let database = Database::empty(Server::plain());
    database.superuser().ok("CREATE TABLE dumped (a int)");
    let dump = exec::run(
        database
            .server()
            .command("pg_dump")
            .args(["-d", &database.name]),
    )
    .unwrap();
    assert!(dump.contains("CREATE TABLE public.dumped"), "{dump}");
    exec::run(
        database
            .server()
            .command("pgbench")
            .args(["-i", "-s", "1", "-q", &database.name]),
    )
    .unwrap();
}
