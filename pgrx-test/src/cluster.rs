//! Private clusters: a data directory, a socket folder and a port of their own below a run's
//! folder.
//!
//! Owns the server processes it starts and stops them, by their pid, when dropped. Listens on its
//! socket and on 127.0.0.1 only, on a port that was free and is never a default one.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use postgres::NoTls;

use crate::fixture::Server;
use crate::run_dir::{self, RUN_DIR_ENV};
use crate::{exec, user};

pub const SUPERUSER: &str = "postgres";

/// Below the range from which systems take the ports of outgoing connections.
const PORTS: std::ops::Range<u16> = 20_001..32_000;
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// What tests want of every server. Durability is off: the data does not outlive the run.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("synchronous_commit", "off"),
    ("max_connections", "250"),
    // Tests that force parallel plans run side by side, and each must get its workers.
    ("max_worker_processes", "64"),
    ("max_parallel_workers", "64"),
    ("shared_buffers", "256MB"),
    ("wal_level", "logical"),
    ("max_wal_senders", "10"),
    ("max_replication_slots", "10"),
    ("max_prepared_transactions", "20"),
    ("max_wal_size", "1GB"),
    // A base backup of a busy cluster must not lose the log that it streams.
    ("wal_keep_size", "512MB"),
    // GRANT and then DDL on a table in one transaction deadlocks with an autoanalyze that comes in
    // between: a matter of Postgres's, and of chance.
    ("autovacuum", "off"),
    ("log_line_prefix", "%m [%p] %q%u@%d "),
    ("log_lock_waits", "on"),
    ("timezone", "UTC"),
];

/// A cluster that is about to be made.
pub struct ClusterSpec {
    bin_dir: PathBuf,
    folder: PathBuf,
    settings: Vec<(String, String)>,
    kept: bool,
}

/// How to stop a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Ends sessions and writes a checkpoint.
    Fast,
    /// Ends at once; the next start recovers from the log, as after a crash.
    Immediate,
}

/// A cluster with its server process; dropping it stops the server.
pub struct Cluster {
    /// Leaked, because tests hold on to it for as long as they like; it is a few bytes.
    server: &'static Server,
    folder: PathBuf,
    process: Option<Child>,
    kept: bool,
}

impl Cluster {
    /// Begins a cluster in the folder of a run.
    pub fn create(run: &Path, bin_dir: &Path, label: &str) -> ClusterSpec {
        ClusterSpec {
            bin_dir: bin_dir.to_owned(),
            folder: run.join(label),
            settings: SETTINGS
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            kept: false,
        }
    }

    /// Begins another cluster, of the same installation as a server that the test was given. It
    /// ends with the `Cluster`, and at the latest with the run.
    pub fn for_test(like: &Server, label: &str) -> ClusterSpec {
        Cluster::create(&test_run_dir(), &like.bin_dir, &unique_label(like, label))
    }

    pub fn server(&self) -> &'static Server {
        self.server
    }

    /// Everything the server has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(log_file(&self.folder)).unwrap_or_default()).into_owned()
    }

    /// Adds or changes settings; they count from the next start on.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        append_setting(&self.server.data_dir, name, value)
    }

    /// Stops the server; sessions and pid file are gone when this returns.
    pub fn stop(&mut self, how: Shutdown) -> Result<()> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        let signal = match how {
            Shutdown::Fast => Signal::SIGINT,
            Shutdown::Immediate => Signal::SIGQUIT,
        };
        // An error means that it has ended by itself.
        let _ = kill(pid_of(&process), signal);
        if ends_within(&mut process, STOP_TIMEOUT)? {
            return Ok(());
        }
        kill(pid_of(&process), Signal::SIGQUIT)?;
        ensure!(
            ends_within(&mut process, STOP_TIMEOUT)?,
            "the server does not stop; its log ends:\n{}",
            exec::tail(&self.log(), 30)
        );
        bail!(
            "the server did not stop within {STOP_TIMEOUT:?} and was ended at once; its log ends:\n{}",
            exec::tail(&self.log(), 30)
        )
    }

    /// Starts the server again after `stop`.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the server runs already");
        self.process = Some(launch(self.server, &self.folder)?);
        Ok(())
    }

    pub fn restart(&mut self, how: Shutdown) -> Result<()> {
        self.stop(how)?;
        self.start()
    }

    /// Starts a server on a data directory that was made in some other way.
    pub(crate) fn adopt(server: Server, folder: PathBuf) -> Result<Cluster> {
        let process = launch(&server, &folder)?;
        Ok(Cluster {
            server: Box::leak(Box::new(server)),
            folder,
            process: Some(process),
            kept: false,
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Err(error) = self.stop(Shutdown::Immediate) {
            eprintln!("{error:#}");
        }
    }
}

impl ClusterSpec {
    pub fn set(mut self, name: &str, value: &str) -> ClusterSpec {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Lets the server run on when the `Cluster` is dropped. Its run's folder has to be kept too.
    pub fn keep(mut self, kept: bool) -> ClusterSpec {
        self.kept = kept;
        self
    }

    /// Makes the cluster and waits until its server takes connections.
    pub fn start(self) -> Result<Cluster> {
        let data_dir = make_folders(&self.folder)?;
        let mut initdb = Command::new(self.bin_dir.join("initdb"));
        initdb
            .args([
                "--no-sync",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
            ])
            .args(["-U", SUPERUSER, "-D"])
            .arg(&data_dir);
        exec::run(user::as_server_user(&mut initdb)?)?;
        // Postgres takes the last of several settings of one name, so a caller's wins.
        for (name, value) in &self.settings {
            append_setting(&data_dir, name, value)?;
        }
        let server = describe(&self.bin_dir, &self.folder, free_port()?)?;
        let mut cluster = Cluster::adopt(server, self.folder)?;
        cluster.kept = self.kept;
        Ok(cluster)
    }
}

/// The run of `cargo matrix` to which this test process belongs.
pub fn test_run_dir() -> PathBuf {
    std::env::var_os(RUN_DIR_ENV).map(PathBuf::from).unwrap_or_else(|| {
        panic!("{RUN_DIR_ENV} is not set: tests that start servers of their own run under `cargo matrix`")
    })
}

/// A folder name that no other test uses, short for the sake of the socket's path.
pub fn unique_label(like: &Server, label: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("pg{}-{label}-{}-{number}", like.version, std::process::id())
}

/// A port above 20000 that nobody listens on, and that this process has not given out before.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let size = PORTS.end - PORTS.start;
    // Processes start in different places, so that they rarely look at the same port at once.
    let start = (std::process::id().wrapping_mul(7919) % u32::from(size)) as u16;
    for _ in 0..size {
        let offset = (start + NEXT.fetch_add(1, Ordering::Relaxed) % size) % size;
        let port = PORTS.start + offset;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port between {} and {} is free", PORTS.start, PORTS.end)
}

/// The folders of a cluster, owned by the server user; returns the data directory, which does not
/// exist yet, or is empty and in memory.
pub(crate) fn make_folders(folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder.join("s"))
        .with_context(|| format!("cannot create {}", folder.display()))?;
    fs::write(log_file(folder), "")?;
    for path in [folder.to_owned(), folder.join("s"), log_file(folder)] {
        user::give_to_server_user(&path)?;
    }
    let data = folder.join("data");
    if let (Some(memory), Some(label)) = (
        folder.parent().and_then(run_dir::memory),
        folder.file_name(),
    ) {
        let folder = memory.join(label);
        fs::create_dir(&folder)?;
        // Postgres refuses a data directory that others can enter.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        user::give_to_server_user(&folder)?;
        std::os::unix::fs::symlink(&folder, &data)?;
    }
    Ok(data)
}

pub(crate) fn describe(bin_dir: &Path, folder: &Path, port: u16) -> Result<Server> {
    let data_dir = folder.join("data");
    let version = fs::read_to_string(data_dir.join("PG_VERSION"))?;
    Ok(Server {
        version: version.trim().parse()?,
        bin_dir: bin_dir.to_owned(),
        socket_dir: folder.join("s"),
        port,
        data_dir,
        superuser: SUPERUSER.to_owned(),
    })
}

pub(crate) fn append_setting(data_dir: &Path, name: &str, value: &str) -> Result<()> {
    use std::io::Write;
    let path = data_dir.join("postgresql.conf");
    let mut file = fs::OpenOptions::new().append(true).open(&path)?;
    writeln!(file, "{name} = '{}'", value.replace('\'', "''"))?;
    Ok(())
}

fn log_file(folder: &Path) -> PathBuf {
    folder.join("server.log")
}

/// Starts the server and waits until it takes connections.
fn launch(server: &Server, folder: &Path) -> Result<Child> {
    let socket = server.socket_dir.join(format!(".s.PGSQL.{}", server.port));
    ensure!(
        socket.as_os_str().len() <= 107,
        "{} is too long for a socket: set PG_TENANCY_CACHE to a shorter path",
        socket.display()
    );
    let log = fs::OpenOptions::new().append(true).open(log_file(folder))?;
    let mut command = Command::new(server.bin_dir.join("postgres"));
    command
        .arg("-D")
        .arg(&server.data_dir)
        .arg("-p")
        .arg(server.port.to_string())
        .arg("-k")
        .arg(&server.socket_dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-C in the terminal is for the harness, which then stops its servers itself.
        .process_group(0);
    let mut process = user::as_server_user(&mut command)?
        .spawn()
        .context("the server does not start")?;
    let since = Instant::now();
    let mut config = server.config("postgres", &server.superuser);
    config.connect_timeout(Duration::from_secs(5));
    loop {
        let problem = match config.connect(NoTls) {
            Ok(_) => return Ok(process),
            Err(error) => error,
        };
        let ended = process.try_wait()?;
        if ended.is_some() || since.elapsed() > START_TIMEOUT {
            let _ = kill(pid_of(&process), Signal::SIGQUIT);
            let _ = ends_within(&mut process, STOP_TIMEOUT);
            let log = fs::read(log_file(folder)).unwrap_or_default();
            bail!(
                "the server does not start: {problem}\nits log ends:\n{}",
                exec::tail(&String::from_utf8_lossy(&log), 40)
            );
        }
        sleep(Duration::from_millis(50));
    }
}

fn pid_of(process: &Child) -> Pid {
    Pid::from_raw(process.id() as i32)
}

fn ends_within(process: &mut Child, limit: Duration) -> Result<bool> {
    let since = Instant::now();
    while process.try_wait()?.is_none() {
        if since.elapsed() > limit {
            return Ok(false);
        }
        sleep(Duration::from_millis(20));
    }
    Ok(true)
}
