//! What tests use: a running server, a database of their own, sessions and short query helpers.
//!
//! Owns the databases and roles it creates and removes them again. Must never start or stop a
//! server, and must never skip: a test without a server fails with the reason.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use postgres::error::DbError;
use postgres::{Client, NoTls, SimpleQueryMessage};
use serde::{Deserialize, Serialize};

/// Environment variables by which `cargo matrix` hands its clusters to the test executables.
pub const PRELOADED_ENV: &str = "PG_TENANCY_TEST_PRELOADED";
pub const PLAIN_ENV: &str = "PG_TENANCY_TEST_PLAIN";
/// Set by `cargo matrix --full`.
pub const FULL_ENV: &str = "PG_TENANCY_TEST_FULL";
/// Set by `cargo matrix --queries` and `--seed`, for tests of random statements.
pub const QUERIES_ENV: &str = "PG_TENANCY_DIFFERENTIAL_QUERIES";
pub const SEED_ENV: &str = "PG_TENANCY_DIFFERENTIAL_SEED";

/// Whether this run may take its time: tests that fuzz or soak do more rounds then.
pub fn full() -> bool {
    std::env::var_os(FULL_ENV).is_some()
}

/// A running server, reachable over its socket directory and over 127.0.0.1.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Server {
    /// Major version, 15 to 18.
    pub version: u32,
    pub bin_dir: PathBuf,
    pub socket_dir: PathBuf,
    pub port: u16,
    pub data_dir: PathBuf,
    pub superuser: String,
}

impl Server {
    /// The cluster with `shared_preload_libraries = 'pg_tenancy'`.
    pub fn preloaded() -> &'static Server {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| Server::from_env(PRELOADED_ENV))
    }

    /// The cluster that does not preload the extension.
    pub fn plain() -> &'static Server {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| Server::from_env(PLAIN_ENV))
    }

    fn from_env(variable: &str) -> Server {
        let json = std::env::var(variable).unwrap_or_else(|_| {
            panic!(
                "{variable} is not set: these tests need running clusters. Run them with \
                 `cargo matrix`, or `cargo matrix 17 --keep` once and paste the export lines it prints"
            )
        });
        serde_json::from_str(&json)
            .unwrap_or_else(|e| panic!("{variable} does not describe a server: {e}: {json}"))
    }

    /// Connection settings for a role; for what `Database` has no method for.
    pub fn config(&self, database: &str, role: &str) -> postgres::Config {
        let mut config = postgres::Config::new();
        config
            .host_path(&self.socket_dir)
            .port(self.port)
            .user(role)
            .dbname(database)
            .application_name("pg_tenancy test");
        config
    }

    /// A new session; panics with the server's whole error when there is none to be had.
    pub fn connect(&self, database: &str, role: &str) -> Client {
        connect(&self.config(database, role))
    }

    /// One of this server's own programs (`pg_dump`, `pgbench`, `psql`, ...), pointed at it as
    /// superuser.
    pub fn command(&self, program: &str) -> Command {
        self.environment(Command::new(self.bin_dir.join(program)))
    }

    /// Points any libpq program at this server as superuser. Settings of the caller's shell that
    /// would change its meaning are removed.
    pub fn environment(&self, mut command: Command) -> Command {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command
            .env("PGHOST", &self.socket_dir)
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", &self.superuser)
            .env("PGDATABASE", "postgres")
            .stdin(Stdio::null());
        command
    }
}

/// Kilobytes of memory that belong to a backend alone.
pub fn anonymous_memory(process: i64) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let memory = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .expect("Linux");
    memory
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number")
}

const TEMPLATE_NAME: &str = "with_pg_tenancy";

/// Makes the database that those with the extension are copied from, if no other test executable
/// has made it on this server.
fn make_template(server: &'static Server) {
    let mut admin = server.connect("postgres", &server.superuser);
    admin.ok("SELECT pg_advisory_lock(hashtext('pg_tenancy test template'))");
    let known = format!("SELECT count(*) FROM pg_database WHERE datname = '{TEMPLATE_NAME}'");
    if admin.int(&known) == 0 {
        // Under its name only when it is whole.
        let unfinished = unique("template");
        admin.ok(&format!("CREATE DATABASE {unfinished} TEMPLATE template0"));
        server
            .connect(&unfinished, &server.superuser)
            .ok("CREATE EXTENSION pg_tenancy");
        admin.ok(&format!(
            "ALTER DATABASE {unfinished} RENAME TO {TEMPLATE_NAME}"
        ));
        admin.ok(&format!(
            "ALTER DATABASE {TEMPLATE_NAME} ALLOW_CONNECTIONS false"
        ));
    }
}

/// A database of its own for one test, dropped together with the roles made through it.
pub struct Database {
    pub name: String,
    server: &'static Server,
    roles: Mutex<Vec<String>>,
}

impl Database {
    /// A fresh database in which the extension has been created: a copy of one in which it was,
    /// which is several times faster.
    pub fn new(server: &'static Server) -> Database {
        static HAVE_TEMPLATE: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
        let mut have = HAVE_TEMPLATE.lock().unwrap_or_else(PoisonError::into_inner);
        if !have.contains(&server.port) {
            make_template(server);
            have.insert(server.port);
        }
        drop(have);
        Database::copy(server, TEMPLATE_NAME)
    }

    /// A fresh database without the extension.
    pub fn empty(server: &'static Server) -> Database {
        Database::copy(server, "template0")
    }

    /// The same in another encoding than UTF8.
    pub fn in_encoding(server: &'static Server, encoding: &str) -> Database {
        Database::copy(
            server,
            &format!("template0 ENCODING '{encoding}' LOCALE 'C'"),
        )
    }

    /// A fresh database with the extension, and with that oid.
    pub fn with_oid(server: &'static Server, oid: u32) -> Database {
        let database = Database::copy(server, &format!("template0 OID {oid}"));
        database.superuser().ok("CREATE EXTENSION pg_tenancy");
        database
    }

    fn copy(server: &'static Server, template: &str) -> Database {
        let name = unique("t");
        // Copying files instead of writing each page to the log: most tests are over sooner than
        // the copy would be.
        server.connect("postgres", &server.superuser).ok(&format!(
            "CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy"
        ));
        Database {
            name,
            server,
            roles: Mutex::default(),
        }
    }

    pub fn server(&self) -> &'static Server {
        self.server
    }

    /// A new session as superuser.
    pub fn superuser(&self) -> Client {
        self.connect(&self.server.superuser)
    }

    /// Creates a role that may log in and has no other attribute; its name is unique in the
    /// cluster and needs no quoting.
    pub fn role(&self, hint: &str) -> String {
        let hint: String = hint
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_lowercase()
                } else {
                    '_'
                }
            })
            .take(30)
            .collect();
        let name = format!("{}_{hint}", unique("r"));
        self.superuser().ok(&format!("CREATE ROLE {name} LOGIN"));
        self.adopt_role(&name);
        name
    }

    /// Has a role that the test created in some other way dropped together with this database.
    pub fn adopt_role(&self, name: &str) {
        self.roles
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(name.to_owned());
    }

    /// A new session as that role, over the unix socket.
    pub fn connect(&self, role: &str) -> Client {
        self.server.connect(&self.name, role)
    }

    /// A new session with `options` in its start-up packet, such as `-c app.current_user_id=7`.
    pub fn connect_with(&self, role: &str, options: &str) -> Client {
        connect(self.server.config(&self.name, role).options(options))
    }

    /// Runs a script in psql, stopping at the first error, and returns what it printed.
    pub fn psql(&self, role: &str, script: &str) -> String {
        self.psql_output(role, script).0
    }

    /// The same, but returns what the server told: notices and warnings.
    pub fn psql_told(&self, role: &str, script: &str) -> String {
        self.psql_output(role, script).1
    }

    fn psql_output(&self, role: &str, script: &str) -> (String, String) {
        use std::io::Write;
        let mut child = self
            .server
            .command("psql")
            .args([
                "-X",
                "-v",
                "ON_ERROR_STOP=1",
                "-f",
                "-",
                "-U",
                role,
                "-d",
                &self.name,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql starts");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let text = script.to_owned();
        // psql may print more than a pipe holds before it has read the whole script.
        let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
        let output = child.wait_with_output().expect("psql ends");
        // A broken pipe means that psql stopped early, which its exit status tells better.
        let _ = writer.join().expect("the writer does not panic");
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "psql as {role} failed ({}):\n{}\nit had printed:\n{stdout}\nscript:\n{script}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
        );
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (stdout, stderr)
    }

    fn remove(&self) -> Result<(), postgres::Error> {
        let server = self.server;
        let mut admin = server
            .config("postgres", &server.superuser)
            .connect(NoTls)?;
        admin.batch_execute(&format!(
            "DROP DATABASE IF EXISTS {} WITH (FORCE)",
            quote_ident(&self.name)
        ))?;
        let roles = self.roles.lock().unwrap_or_else(PoisonError::into_inner);
        for role in roles.iter() {
            let known = admin.simple_query(&format!(
                "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = {}",
                quote_literal(role)
            ))?;
            if known
                .iter()
                .any(|m| matches!(m, SimpleQueryMessage::Row(_)))
            {
                let role = quote_ident(role);
                admin.batch_execute(&format!("DROP OWNED BY {role}"))?;
                admin.batch_execute(&format!("DROP ROLE {role}"))?;
            }
        }
        Ok(())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A test may have stopped its server on purpose, and panicking here would hide the
        // test's own failure; a leftover database goes away with the cluster.
        if let Err(error) = self.remove() {
            eprintln!(
                "could not remove database {}: {}",
                self.name,
                describe(&error)
            );
        }
    }
}

/// Short forms of what tests ask for all the time; each panics with the server's whole error.
pub trait ClientExt {
    /// First column of the only row as text, whatever its type.
    fn text(&mut self, sql: &str) -> Option<String>;
    /// First column of the only row as a number.
    fn int(&mut self, sql: &str) -> i64;
    /// Runs one or more statements that must succeed.
    fn ok(&mut self, sql: &str);
    /// Runs one or more statements of which one must fail, and returns the server's error.
    fn error(&mut self, sql: &str) -> DbError;
    /// All rows as text.
    fn rows(&mut self, sql: &str) -> Vec<Vec<Option<String>>>;
    /// First column of all rows, in which nothing may be NULL.
    fn texts(&mut self, sql: &str) -> Vec<String>;
    /// Returns as soon as another session is seen waiting; `event` is a column of
    /// `pg_stat_activity` and its value. Panics after a minute.
    fn see_waiting(&mut self, process: i64, event: &str);
}

impl ClientExt for Client {
    fn text(&mut self, sql: &str) -> Option<String> {
        let mut rows = self.rows(sql);
        assert!(
            rows.len() == 1,
            "expected one row, got {}: {sql}",
            rows.len()
        );
        let mut row = rows.remove(0);
        assert!(!row.is_empty(), "expected a column: {sql}");
        row.remove(0)
    }

    fn texts(&mut self, sql: &str) -> Vec<String> {
        let first = |row: Vec<Option<String>>| row.into_iter().next().flatten();
        self.rows(sql)
            .into_iter()
            .map(|row| first(row).unwrap_or_else(|| panic!("expected a value: {sql}")))
            .collect()
    }

    fn see_waiting(&mut self, process: i64, event: &str) {
        let waiting =
            format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {process} AND {event}");
        let begun = Instant::now();
        while self.int(&waiting) == 0 {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "backend {process} never waited: {event}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn int(&mut self, sql: &str) -> i64 {
        let text = self
            .text(sql)
            .unwrap_or_else(|| panic!("expected a number, got NULL: {sql}"));
        text.parse()
            .unwrap_or_else(|e| panic!("expected a number, got {text:?} ({e}): {sql}"))
    }

    fn ok(&mut self, sql: &str) {
        if let Err(error) = self.batch_execute(sql) {
            panic!("{}\nstatement: {sql}", describe(&error));
        }
    }

    fn error(&mut self, sql: &str) -> DbError {
        match self.batch_execute(sql) {
            Ok(()) => panic!("expected an error, but this succeeded: {sql}"),
            Err(error) => match error.as_db_error() {
                Some(db_error) => db_error.clone(),
                None => panic!("expected an error of the server, got {error:?}: {sql}"),
            },
        }
    }

    fn rows(&mut self, sql: &str) -> Vec<Vec<Option<String>>> {
        let messages = self
            .simple_query(sql)
            .unwrap_or_else(|error| panic!("{}\nstatement: {sql}", describe(&error)));
        messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(
                    (0..row.len())
                        .map(|i| row.get(i).map(str::to_owned))
                        .collect(),
                ),
                _ => None,
            })
            .collect()
    }
}

/// Checks the SQLSTATE, and that `needle` occurs in the message, the detail or the hint.
#[track_caller]
pub fn expect_error(e: &DbError, sqlstate: &str, needle: &str) {
    assert!(
        e.code().code() == sqlstate,
        "expected SQLSTATE {sqlstate}, got:\n{}",
        describe_db_error(e)
    );
    let found = [Some(e.message()), e.detail(), e.hint()]
        .into_iter()
        .flatten()
        .any(|text| text.contains(needle));
    assert!(
        found,
        "expected {needle:?} in message, detail or hint of:\n{}",
        describe_db_error(e)
    );
}

/// An error with everything the server said about it, one field a line.
pub fn describe(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(db_error) => describe_db_error(db_error),
        None => format!("{error:?}"),
    }
}

pub fn describe_db_error(e: &DbError) -> String {
    let mut text = format!("{}: {}: {}", e.severity(), e.code().code(), e.message());
    let fields = [
        ("DETAIL", e.detail()),
        ("HINT", e.hint()),
        ("CONTEXT", e.where_()),
        ("SCHEMA", e.schema()),
        ("TABLE", e.table()),
        ("COLUMN", e.column()),
        ("CONSTRAINT", e.constraint()),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            text.push_str(&format!("\n{name}: {value}"));
        }
    }
    text
}

pub fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn connect(config: &postgres::Config) -> Client {
    config
        .connect(NoTls)
        .unwrap_or_else(|error| panic!("cannot connect: {}", describe(&error)))
}

/// A name that no other test of this run uses, in whichever process it runs.
fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!(
        "{prefix}_{}_{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}
