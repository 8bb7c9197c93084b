//! What shadow mode has recorded outlives the server, and no more than it may.

mod policy_support;

use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use pgrx_test::cluster::{Cluster, Shutdown};
use pgrx_test::fixture::{ClientExt, Database, Server};
use pgrx_test::standby;
use policy_support::{A, B, Stage};

const ITEMS: &str = "SELECT id FROM app.items";

fn cluster(label: &str, settings: &[(&str, &str)]) -> Cluster {
    let mut spec =
        Cluster::for_test(Server::preloaded(), label).set("shared_preload_libraries", "pg_tenancy");
    for (name, value) in settings {
        spec = spec.set(name, value);
    }
    spec.start().unwrap()
}

fn shadowed(server: &'static Server) -> Stage {
    let stage = Stage::on(server);
    stage.items();
    stage
        .owner()
        .ok("SELECT tenancy.protect_table('app.items', mode => 'shadow')");
    // Commits do not wait for the disk here, and servers will be killed.
    stage.superuser().ok("CHECKPOINT");
    stage
}

fn rows(stage: &Stage) -> i64 {
    stage
        .superuser()
        .int("SELECT coalesce(sum(rows), 0) FROM tenancy.shadow_denials")
}

fn statements(stage: &Stage) -> i64 {
    stage.superuser().int(
        "SELECT statements FROM tenancy.shadow_report() WHERE relation = 'app.items'::regclass",
    )
}

fn file(server: &Server) -> PathBuf {
    server.data_dir.join("pg_stat/pg_tenancy_shadow")
}

fn has_records(server: &Server) -> bool {
    fs::read_to_string(file(server)).is_ok_and(|text| text.contains("HiddenRow"))
}

/// Waits until a condition holds that a background worker brings about.
fn until(what: &str, holds: impl Fn() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(60), "{what}");
        sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_stop_loses_nothing_and_a_crash_no_more_than_the_interval() {
    let mut cluster = cluster("keeps", &[("pg_tenancy.shadow_flush_interval", "1h")]);
    let stage = shadowed(cluster.server());
    stage.tenant(B).ok(ITEMS);
    assert_eq!((rows(&stage), statements(&stage)), (2, 1));
    cluster.restart(Shutdown::Fast).unwrap();
    assert_eq!((rows(&stage), statements(&stage)), (2, 1));
    stage.tenant(B).ok(ITEMS);
    assert_eq!((rows(&stage), statements(&stage)), (4, 2));
    // Not written yet: what the last stop wrote is what there is.
    kill_worker(cluster.server());
    assert_eq!((rows(&stage), statements(&stage)), (2, 1));
    stage
        .superuser()
        .ok("ALTER SYSTEM SET pg_tenancy.shadow_flush_interval = '1s'");
    stage.superuser().ok("SELECT pg_reload_conf()");
    stage.tenant(B).ok(ITEMS);
    let old = fs::read(file(cluster.server())).unwrap();
    until("the worker writes", || {
        fs::read(file(cluster.server())).unwrap() != old
    });
    kill_worker(cluster.server());
    assert_eq!((rows(&stage), statements(&stage)), (4, 2));
    // The worker outlives the postmaster for a moment, and writes.
    until("there is a worker", || worker(cluster.server()).is_some());
    stage.tenant(B).ok(ITEMS);
    crash(&mut cluster);
    assert!(rows(&stage) >= 4);
}

/// Postgres restarts everything then.
fn kill_worker(server: &'static Server) {
    until("there is a worker", || worker(server).is_some());
    kill(worker(server).unwrap());
    back(server);
}

/// Kills the postmaster, and starts it again.
fn crash(cluster: &mut Cluster) {
    kill(postmaster(cluster.server()));
    cluster.stop(Shutdown::Immediate).unwrap();
    // What it left behind must notice first.
    let since = Instant::now();
    while let Err(error) = cluster.start() {
        assert!(since.elapsed() < Duration::from_secs(60), "{error:#}");
        sleep(Duration::from_millis(200));
    }
}

fn postmaster(server: &Server) -> i64 {
    let text = fs::read_to_string(server.data_dir.join("postmaster.pid")).unwrap();
    text.lines().next().unwrap().trim().parse().unwrap()
}

/// The background worker has no session that `pg_stat_activity` would show.
fn worker(server: &Server) -> Option<i64> {
    let of_server = format!("PPid:\t{}", postmaster(server));
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i64>().ok())
        .find(|process| {
            let read = |file| fs::read_to_string(format!("/proc/{process}/{file}"));
            // One that has ended meanwhile is none.
            read("status").is_ok_and(|status| status.lines().any(|line| line == of_server))
                && read("cmdline").is_ok_and(|line| line.contains("pg_tenancy shadow"))
        })
}

#[test]
fn processes_that_are_killed_take_nothing_with_them() {
    let cluster = cluster("killed", &[("pg_tenancy.shadow_flush_interval", "1s")]);
    let server = cluster.server();
    let stage = shadowed(server);
    stage.tenant(B).ok(ITEMS);
    until("the worker writes", || has_records(server));
    // A backend while it records, then the worker: Postgres restarts everything.
    let mut busy = stage.tenant(B);
    let process = busy.int("SELECT pg_backend_pid()");
    let recording = std::thread::spawn(move || {
        let _ = busy.batch_execute(
            "DO $$ BEGIN FOR i IN 1..100000000 LOOP PERFORM id FROM app.items; END LOOP; END $$",
        );
    });
    until("it records", || rows(&stage) > 1000);
    kill(process);
    recording.join().unwrap();
    back(server);
    assert!(rows(&stage) >= 2);
    let before = rows(&stage);
    kill_worker(server);
    // As last written.
    assert!(rows(&stage) >= 2 && rows(&stage) <= before);
    until("there is a worker again", || worker(server).is_some());
    stage.tenant(B).ok(ITEMS);
    assert!(!cluster.log().contains("PANIC"));
}

fn kill(process: i64) {
    let process = Pid::from_raw(process.try_into().unwrap());
    signal::kill(process, Signal::SIGKILL).unwrap();
}

/// Waits until the server takes sessions again.
fn back(server: &'static Server) {
    // It may not have noticed yet.
    sleep(Duration::from_millis(500));
    until("the server is back", || {
        server
            .config("postgres", &server.superuser)
            .connect(postgres::NoTls)
            .is_ok()
    });
}

#[test]
fn a_file_that_is_not_whole_is_set_aside() {
    let mut cluster = cluster("damaged", &[]);
    let server = cluster.server();
    let stage = shadowed(server);
    stage.tenant(B).ok(ITEMS);
    cluster.stop(Shutdown::Fast).unwrap();
    let whole = fs::read(file(server)).unwrap();
    let end = whole.iter().position(|byte| *byte == b'\n').unwrap();
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    let mut foreign = whole[..end].to_vec();
    let words: Vec<String> = String::from_utf8(foreign.clone())
        .unwrap()
        .split(' ')
        .map(str::to_owned)
        .collect();
    foreign = [
        format!(
            "{} {} {} 12345 {} {}",
            words[0], words[1], words[2], words[4], words[5]
        )
        .into_bytes(),
        whole[end..].to_vec(),
    ]
    .concat();
    for (name, text, aside) in [
        ("cut", whole[..whole.len() / 2].to_vec(), "damaged"),
        ("empty", Vec::new(), "damaged"),
        ("changed", changed, "damaged"),
        ("another program's", vec![b'x'; 100_000], "damaged"),
        ("another server's", foreign, "foreign"),
    ] {
        fs::write(file(server), text).unwrap();
        cluster.start().unwrap();
        assert_eq!(rows(&stage), 0, "{name}");
        assert_eq!(statements(&stage), 0, "{name}");
        assert!(file(server).with_extension(aside).exists(), "{name}");
        assert!(!file(server).exists(), "{name}");
        cluster.stop(Shutdown::Immediate).unwrap();
        fs::remove_file(file(server).with_extension(aside)).unwrap();
    }
    // The whole one is read.
    fs::write(file(server), whole).unwrap();
    cluster.start().unwrap();
    assert_eq!(rows(&stage), 2);
}

#[test]
fn a_file_that_cannot_be_written_stops_nobody() {
    let mut cluster = cluster("full", &[("pg_tenancy.shadow_flush_interval", "1s")]);
    let server = cluster.server();
    let stage = shadowed(server);
    stage.tenant(B).ok(ITEMS);
    until("the worker writes", || has_records(server));
    // In the place of the new file.
    let blocked = server.data_dir.join("pg_stat/pg_tenancy_shadow.tmp");
    fs::create_dir(&blocked).unwrap();
    stage.tenant(B).ok(ITEMS);
    until("it is told", || {
        cluster.log().contains("could not be written")
    });
    assert_eq!(rows(&stage), 4);
    fs::remove_dir(&blocked).unwrap();
    stage.tenant(B).ok(ITEMS);
    cluster.restart(Shutdown::Fast).unwrap();
    assert_eq!(rows(&stage), 6);
}

#[test]
fn a_full_disk_leaves_the_old_file_and_stops_nobody() {
    let mut cluster = cluster("full", &[("pg_tenancy.shadow_flush_interval", "1s")]);
    let server = cluster.server();
    let stage = shadowed(server);
    stage.tenant(B).ok(ITEMS);
    until("the worker writes", || has_records(server));
    let whole = fs::read(file(server)).unwrap();
    let mut session = stage.tenant(B);
    // Whatever is written there finds no room.
    let new = server.data_dir.join("pg_stat/pg_tenancy_shadow.tmp");
    std::os::unix::fs::symlink("/dev/full", &new).unwrap();
    session.ok(ITEMS);
    until("it is told", || {
        cluster.log().contains("No space left on device")
    });
    assert_eq!(rows(&stage), 4);
    // With room again it is written without anything new to record.
    until("the worker writes", || {
        fs::read(file(server)).unwrap() != whole
    });
    crash(&mut cluster);
    assert_eq!(rows(&stage), 4);
}

#[test]
fn a_full_store_is_told_and_keeps_the_table_from_being_ready() {
    let cluster = cluster("bounded", &[("pg_tenancy.shadow_entries", "100")]);
    let stage = shadowed(cluster.server());
    let mut client = stage.tenant(B);
    client.ok("DO $$ BEGIN FOR i IN 1..10000 LOOP
                   PERFORM set_config('application_name', 'a' || i, true);
                   PERFORM id FROM app.items;
               END LOOP; END $$");
    assert_eq!(
        stage
            .superuser()
            .int("SELECT count(*) FROM tenancy.shadow_denials"),
        100
    );
    let reasons = "SELECT array_to_string(reasons, '; ') FROM tenancy.shadow_report()";
    let told = stage.superuser().text(reasons).unwrap();
    assert!(told.contains("found no room: 19800"), "{told}");
    // Another table's records have no room either, and that counts against it alone.
    stage.owner().ok(&format!(
        "CREATE TABLE app.more (id int, tenant_id uuid); INSERT INTO app.more VALUES (1, '{A}');
         SELECT tenancy.protect_table('app.more', mode => 'shadow'); SELECT tenancy.reset_shadow('app.more')"
    ));
    client.ok("SELECT FROM app.more");
    let of_more = stage
        .superuser()
        .text("SELECT concat_ws(' ', ready, denials, array_to_string(reasons, '; ')) FROM tenancy.shadow_report() WHERE relation = 'app.more'::regclass")
        .unwrap();
    assert!(
        of_more.starts_with("f 0 denials that found no room: 1 "),
        "{of_more}"
    );
    stage.superuser().ok("SELECT tenancy.reset_shadow()");
    client.ok(ITEMS);
    assert_eq!(rows(&stage), 2);
}

#[test]
fn databases_do_not_see_each_other_and_take_theirs_with_them() {
    let mut cluster = cluster("databases", &[]);
    let server = cluster.server();
    let one = shadowed(server);
    one.tenant(B).ok(ITEMS);
    let two = shadowed(server);
    assert_eq!((rows(&one), rows(&two)), (2, 0));
    two.tenant(B).ok(ITEMS);
    two.superuser().ok("SELECT tenancy.reset_shadow()");
    assert_eq!((rows(&one), rows(&two)), (2, 0));
    two.tenant(B).ok(ITEMS);
    let name = two.database.name.clone();
    drop(two);
    // The same oid again, as Postgres would give it after a wraparound: nothing is left of the old one.
    let mut admin = server.connect("postgres", &server.superuser);
    assert_eq!(
        admin.int(&format!(
            "SELECT count(*) FROM pg_database WHERE datname = '{name}'"
        )),
        0
    );
    // The file tells what was kept: of the other database only.
    cluster.stop(Shutdown::Fast).unwrap();
    let text = fs::read_to_string(file(server)).unwrap();
    assert_eq!(text.matches("\"HiddenRow\"").count(), 1);
}

#[test]
fn a_standby_records_what_is_read_there() {
    let cluster = cluster("primary", &[("pg_tenancy.shadow_flush_interval", "1s")]);
    let primary = cluster.server();
    let stage = shadowed(primary);
    stage.tenant(B).ok(ITEMS);
    until("the worker writes", || has_records(primary));
    let mut standby = standby::create(primary, "shadow").unwrap();
    standby::catch_up(primary, standby.server()).unwrap();
    let server = standby.server();
    let count = "SELECT coalesce(sum(rows), 0) FROM tenancy.shadow_denials";
    let on_standby = || {
        server
            .connect(&stage.database.name, &server.superuser)
            .int(count)
    };
    // What the primary counted came along with the base backup, and is not the standby's.
    assert_eq!((rows(&stage), on_standby()), (2, 0));
    let mut client = server
        .config(&stage.database.name, &stage.app)
        .options(&format!("-c app.current_tenant_id={B}"))
        .connect(postgres::NoTls)
        .unwrap();
    assert_eq!(client.rows(ITEMS).len(), 3);
    client.ok(ITEMS);
    assert_eq!((rows(&stage), on_standby()), (2, 4));
    drop(client);
    standby.restart(Shutdown::Fast).unwrap();
    assert_eq!(on_standby(), 4);
}

#[test]
fn sessions_load_it_themselves_from_17_on() {
    let mut cluster = Cluster::for_test(Server::preloaded(), "sessions")
        .set("session_preload_libraries", "")
        .start()
        .unwrap();
    let server = cluster.server();
    let stage = Stage::on(server);
    stage.items();
    let protect = "SELECT tenancy.protect_table('app.items', mode => 'shadow')";
    assert_eq!(stage.owner().error(protect).code().code(), "55000");
    let mut old = stage.tenant(B);
    old.ok("SELECT 1");
    stage
        .superuser()
        .ok("ALTER SYSTEM SET session_preload_libraries = 'pg_tenancy'");
    stage.superuser().ok("SELECT pg_reload_conf()");
    if server.version < 17 {
        until("the setting counts", || {
            stage
                .owner()
                .text("SHOW pg_tenancy.shadow_entries")
                .is_some()
        });
        assert_eq!(stage.owner().error(protect).code().code(), "55000");
        return;
    }
    until("the setting counts", || {
        stage
            .superuser()
            .text("SHOW session_preload_libraries")
            .as_deref()
            == Some("pg_tenancy")
    });
    stage.owner().ok(protect);
    stage.tenant(B).ok(ITEMS);
    assert_eq!((rows(&stage), statements(&stage)), (2, 1));
    let reasons = || {
        stage
            .superuser()
            .text("SELECT array_to_string(reasons, '; ') FROM tenancy.shadow_report()")
            .unwrap()
    };
    let before = "sessions that ran without pg_tenancy when this began: 1 (once they have ended, call tenancy.reset_shadow())";
    assert_eq!(reasons(), format!("denials: 2; {before}"));
    // A session from before runs unseen, which is told.
    old.ok(ITEMS);
    assert_eq!(rows(&stage), 2);
    assert!(
        reasons().contains("sessions that run without pg_tenancy: 1"),
        "{}",
        reasons()
    );
    drop(old);
    stage.superuser().ok(&format!(
        "ALTER ROLE {} SET session_preload_libraries = ''",
        stage.app
    ));
    until("it has gone", || {
        !reasons().contains("sessions that run without")
    });
    assert!(
        reasons().contains(&format!("sessions of {} do not load", stage.app)),
        "{}",
        reasons()
    );
    stage.superuser().ok(&format!(
        "ALTER ROLE {} RESET session_preload_libraries",
        stage.app
    ));
    // What it may have done unseen counts until the table is watched anew.
    assert!(reasons().contains(before), "{}", reasons());
    stage.owner().ok("SELECT tenancy.reset_shadow('app.items')");
    stage.tenant(B).ok(ITEMS);
    assert_eq!(reasons(), "denials: 2");
    stage.superuser().ok("SELECT tenancy.reset_shadow()");
    stage.tenant(B).ok(ITEMS);
    assert_eq!(reasons(), "denials: 2");
    // A parallel worker records into the same memory, and a stop keeps it.
    let forced = if server.version >= 16 {
        "debug_parallel_query"
    } else {
        "force_parallel_mode"
    };
    let mut client = stage.tenant(B);
    client.ok(&format!("SET {forced} = on; {ITEMS}"));
    assert_eq!(rows(&stage), 4);
    drop(client);
    cluster.restart(Shutdown::Fast).unwrap();
    stage
        .superuser()
        .ok("SELECT * FROM tenancy.shadow_report()");
    assert_eq!(rows(&stage), 4);
    let database: &Database = &stage.database;
    assert!(!database.name.is_empty());
}
