//! Runs of pgbench with one client.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::variant::Variant;
use crate::exec;
use crate::fixture::Server;

/// How statements are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Prepared,
    Simple,
}

impl Protocol {
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Prepared => "prepared",
            Protocol::Simple => "simple",
        }
    }
}

/// One script and how it is run.
pub(crate) struct Script {
    pub server: &'static Server,
    pub database: String,
    pub variant: Variant,
    pub protocol: Protocol,
    /// Options of the connection.
    pub options: String,
    pub file: PathBuf,
    pub transactions: u32,
}

impl Script {
    /// Writes the script to a file and describes how to run it.
    pub fn write(self, text: &str) -> Result<Script> {
        std::fs::write(&self.file, text)?;
        Ok(self)
    }

    /// Transactions a second.
    pub fn rate(&self) -> Result<f64> {
        let mut pgbench = self.server.command("pgbench");
        pgbench
            .env("PGOPTIONS", &self.options)
            .args(["--no-vacuum", "--client=1", "-M", self.protocol.name()])
            .args([
                "-U",
                self.variant.role(),
                "-t",
                &self.transactions.to_string(),
            ])
            .arg("-f")
            .arg(&self.file)
            .arg(&self.database);
        let output = exec::run(&mut pgbench)?;
        rate_in(&output).with_context(|| format!("pgbench printed no rate:\n{output}"))
    }
}

/// The rate without the time to connect.
fn rate_in(output: &str) -> Option<f64> {
    let line = output
        .lines()
        .find_map(|line| line.strip_prefix("tps = "))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::rate_in;

    #[test]
    fn the_rate_is_found_among_what_pgbench_prints() {
        let output = "latency average = 0.066 ms\ninitial connection time = 2.1 ms\n\
                      tps = 15137.258113 (without initial connection time)\n";
        assert_eq!(rate_in(output), Some(15137.258113));
        assert_eq!(rate_in("pgbench: error"), None);
    }
}
