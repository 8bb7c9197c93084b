//! Sessions of the benchmarks, and how they are timed.

use std::time::Instant;

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
    /// As `value`, with the time it took in milliseconds.
    fn timed(&mut self, sql: &str) -> Result<(f64, String)>;
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

    fn timed(&mut self, sql: &str) -> Result<(f64, String)> {
        let since = Instant::now();
        let value = self.value(sql)?;
        Ok((since.elapsed().as_secs_f64() * 1e3, value))
    }
}
