//! Sessions of the benchmarks, and how they are timed.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use postgres::{Client, NoTls, SimpleQueryMessage};

use crate::fixture::{Server, describe};

/// The database that most of the benchmarks use.
pub(crate) const DATABASE: &str = "bench";

/// Opens a session; `options` go into the start-up packet, so that their settings belong to the
/// connection.
pub(crate) fn open(server: &Server, database: &str, role: &str, options: &str) -> Result<Client> {
    server
        .config(database, role)
        .options(options)
        .connect(NoTls)
        .map_err(|error| anyhow!("cannot connect as {role}: {}", describe(&error)))
}

/// What benchmarks ask of a session.
pub(crate) trait Session {
    /// Runs statements that return nothing of interest.
    fn execute_all(&mut self, sql: &str) -> Result<()>;
    /// The columns of the only row.
    fn row(&mut self, sql: &str) -> Result<Vec<Option<String>>>;
    /// The first column of the only row.
    fn value(&mut self, sql: &str) -> Result<String>;
}

impl Session for Client {
    fn execute_all(&mut self, sql: &str) -> Result<()> {
        self.batch_execute(sql)
            .map_err(|error| anyhow!("{}\nstatement: {sql}", describe(&error)))
    }

    fn row(&mut self, sql: &str) -> Result<Vec<Option<String>>> {
        let messages = self
            .simple_query(sql)
            .map_err(|error| anyhow!("{}\nstatement: {sql}", describe(&error)))?;
        let mut rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let row = rows.next().with_context(|| format!("no row: {sql}"))?;
        ensure!(rows.next().is_none(), "several rows: {sql}");
        Ok((0..row.len())
            .map(|i| row.get(i).map(str::to_owned))
            .collect())
    }

    fn value(&mut self, sql: &str) -> Result<String> {
        let first = self.row(sql)?.into_iter().next().flatten();
        first.with_context(|| format!("NULL: {sql}"))
    }
}

/// A session whose statements are measured by the time that its backend spends on a processor:
/// what other programs take of the machine does not count.
pub(crate) struct Measured {
    session: Client,
    /// The kernel's count for the backend; its first number is in nanoseconds.
    account: PathBuf,
}

impl Measured {
    pub fn new(mut session: Client) -> Result<Measured> {
        let pid = session.value("SELECT pg_backend_pid()")?;
        Ok(Measured {
            session,
            account: PathBuf::from(format!("/proc/{pid}/schedstat")),
        })
    }

    /// Runs something in the session; returns the milliseconds it took and its result.
    pub fn time<T>(&mut self, run: impl FnOnce(&mut Client) -> Result<T>) -> Result<(f64, T)> {
        let before = self.nanoseconds()?;
        let result = run(&mut self.session)?;
        let after = self.nanoseconds()?;
        Ok(((after - before) as f64 / 1e6, result))
    }

    /// The time so far. The kernel brings it up to date when the backend goes to sleep, which it
    /// does a moment after it has answered.
    fn nanoseconds(&self) -> Result<u64> {
        let mut last = None;
        loop {
            let text = std::fs::read_to_string(&self.account)
                .with_context(|| format!("cannot read {}", self.account.display()))?;
            let first = text.split_whitespace().next().unwrap_or_default();
            let now = first
                .parse()
                .with_context(|| format!("not a number: {text}"))?;
            if last == Some(now) {
                return Ok(now);
            }
            last = Some(now);
            sleep(Duration::from_millis(1));
        }
    }
}
