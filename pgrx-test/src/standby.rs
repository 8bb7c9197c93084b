//! Streaming standbys of a server.
//!
//! Only makes them; a standby is a `Cluster` and ends like one.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use postgres::NoTls;

use crate::cluster::{self, Cluster};
use crate::fixture::{ClientExt, Server};
use crate::{exec, user};

const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(60);

/// Copies the primary as it is now, its settings included, and starts a hot standby that streams
/// from it.
pub fn create(primary: &Server, label: &str) -> Result<Cluster> {
    let folder = cluster::test_run_dir().join(cluster::unique_label(primary, label));
    let data_dir = cluster::make_folders(&folder)?;
    let mut backup = Command::new(primary.bin_dir.join("pg_basebackup"));
    backup
        .args([
            "--write-recovery-conf",
            "--wal-method=stream",
            "--checkpoint=fast",
            "--no-sync",
        ])
        .arg("-h")
        .arg(&primary.socket_dir)
        .args([
            "-p",
            &primary.port.to_string(),
            "-U",
            &primary.superuser,
            "-D",
        ])
        .arg(&data_dir);
    exec::run(user::as_server_user(&mut backup)?)?;
    cluster::append_setting(&data_dir, "hot_standby", "on")?;
    // What other databases of the primary prune must not end sessions here.
    cluster::append_setting(&data_dir, "hot_standby_feedback", "on")?;
    let server = cluster::describe(&primary.bin_dir, &folder, cluster::free_port()?)?;
    Cluster::adopt(server, folder)
}

/// Waits until the standby has replayed everything that the primary has written so far.
pub fn catch_up(primary: &Server, standby: &Server) -> Result<()> {
    let session = |server: &Server| {
        server
            .config("postgres", &server.superuser)
            .connect(NoTls)
            .context("cannot connect to wait for the standby")
    };
    let mut primary = session(primary)?;
    // Clusters commit asynchronously: only a flush gives the standby all there is so far.
    primary.ok("SET synchronous_commit = local");
    primary.ok("SELECT pg_logical_emit_message(true, 'pg_tenancy', 'catch up')");
    let target = primary
        .text("SELECT pg_current_wal_flush_lsn()")
        .context("the primary has no position")?;
    let mut standby = session(standby)?;
    let since = Instant::now();
    let replayed = format!("SELECT (coalesce(pg_last_wal_replay_lsn(), '0/0') >= '{target}')::int");
    while standby.int(&replayed) == 0 {
        ensure!(
            since.elapsed() < CATCH_UP_TIMEOUT,
            "the standby does not catch up with {target}"
        );
        sleep(Duration::from_millis(20));
    }
    Ok(())
}
