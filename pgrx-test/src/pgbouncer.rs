//! PgBouncer in front of a server, in transaction mode unless told otherwise.
//!
//! Owns the process and its configuration; never uses the system's own.

use std::fs;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use postgres::{Client, NoTls};

use crate::cluster::{free_port, test_run_dir, unique_label};
use crate::fixture::{Server, describe};
use crate::{exec, user};

/// Debian's place, which is not in everybody's search path.
const PROGRAM: &str = "/usr/sbin/pgbouncer";
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A running pooler on 127.0.0.1; dropping it stops it.
pub struct PgBouncer {
    pub port: u16,
    folder: PathBuf,
    process: Child,
}

impl PgBouncer {
    /// Starts a pooler that passes every database and user on to the server. `settings` are lines
    /// of its configuration, such as `default_pool_size = 5`, and win over ours.
    pub fn start(server: &Server, settings: &[&str]) -> Result<PgBouncer> {
        let folder = test_run_dir().join(unique_label(server, "bouncer"));
        fs::create_dir(&folder)?;
        let port = free_port()?;
        let config = folder.join("pgbouncer.ini");
        fs::write(&config, configuration(server, &folder, port, settings))?;
        let (users, log) = (folder.join("users.txt"), folder.join("pgbouncer.log"));
        fs::write(&users, format!("\"{}\" \"\"\n", server.superuser))?;
        fs::write(&log, "")?;
        for path in [&folder, &config, &users, &log] {
            user::give_to_server_user(path)?;
        }
        let mut command = Command::new(PROGRAM);
        command
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let process = user::as_server_user(&mut command)?
            .spawn()
            .with_context(|| format!("{PROGRAM} does not start"))?;
        let mut pooler = PgBouncer {
            port,
            folder,
            process,
        };
        pooler.wait_until_ready()?;
        Ok(pooler)
    }

    /// Settings for a connection through the pooler.
    pub fn config(&self, database: &str, role: &str) -> postgres::Config {
        let mut config = postgres::Config::new();
        config
            .host("127.0.0.1")
            .port(self.port)
            .user(role)
            .dbname(database);
        config
    }

    /// A new client connection through the pooler; panics when it is refused.
    pub fn connect(&self, database: &str, role: &str) -> Client {
        self.config(database, role)
            .connect(NoTls)
            .unwrap_or_else(|error| {
                panic!(
                    "cannot connect through pgbouncer: {}\n{}",
                    describe(&error),
                    self.log()
                )
            })
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("pgbouncer.log")).unwrap_or_default()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let since = Instant::now();
        loop {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return Ok(());
            }
            if self.process.try_wait()?.is_some() || since.elapsed() > START_TIMEOUT {
                bail!(
                    "pgbouncer does not start; its log ends:\n{}",
                    exec::tail(&self.log(), 30)
                );
            }
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // Fails only if it has ended by itself; then there is nothing to wait for either.
        let _ = kill(Pid::from_raw(self.process.id() as i32), Signal::SIGTERM);
        let since = Instant::now();
        while matches!(self.process.try_wait(), Ok(None)) {
            if since.elapsed() > Duration::from_secs(5) {
                let _ = self.process.kill();
                let _ = self.process.wait();
            }
            sleep(Duration::from_millis(20));
        }
    }
}

/// PgBouncer knows only users that it is told about: the superuser by file, and the roles that
/// tests make by asking the server. It takes the last of several values of one setting.
fn configuration(server: &Server, folder: &Path, port: u16, settings: &[&str]) -> String {
    format!(
        "[databases]\n\
         * = host=127.0.0.1 port={server_port}\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = trust\n\
         auth_file = {folder}/users.txt\n\
         auth_user = {superuser}\n\
         auth_query = SELECT rolname, '' FROM pg_catalog.pg_roles WHERE rolname = $1\n\
         pool_mode = transaction\n\
         max_client_conn = 500\n\
         default_pool_size = 20\n\
         server_check_delay = 30\n\
         ignore_startup_parameters = extra_float_digits,options\n\
         logfile = {folder}/pgbouncer.log\n\
         pidfile = {folder}/pgbouncer.pid\n\
         {extra}\n",
        server_port = server.port,
        superuser = server.superuser,
        folder = folder.display(),
        extra = settings.join("\n"),
    )
}
