//! Tier `client`: the integration tests in `pgrx-test/tests`, ordinary libtest tests that talk to
//! a version's two clusters as clients do.
//!
//! Compiled once a run; which clusters they meet is in their environment.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::libtest::{self, Executable};
use crate::fixture::{PLAIN_ENV, PRELOADED_ENV, Server};
use crate::paths;
use crate::progress::step;
use crate::report::Outcome;
use crate::run_dir::RUN_DIR_ENV;

/// Tests wait for servers more than they compute, so a few at a time is right for few cores.
const THREADS: usize = 4;

/// Builds test files, all of them if none is named, with the compiler and target folder of the
/// harness itself.
pub fn build(files: &[String]) -> Result<Vec<Executable>> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(paths::workspace());
    cargo.args([
        "test",
        "--package",
        "pgrx-test",
        "--no-run",
        libtest::MESSAGES,
    ]);
    if files.is_empty() {
        cargo.args(["--test", "*"]);
    }
    for file in files {
        cargo.args(["--test", file]);
    }
    libtest::build(&mut cargo)
}

/// What a test process needs to know about its clusters.
pub fn environment(
    run: &Path,
    preloaded: &Server,
    plain: &Server,
) -> Result<Vec<(&'static str, String)>> {
    Ok(vec![
        (PRELOADED_ENV, serde_json::to_string(preloaded)?),
        (PLAIN_ENV, serde_json::to_string(plain)?),
        (RUN_DIR_ENV, run.display().to_string()),
    ])
}

/// Runs them against the clusters of one version, and says after each how it went and how long it
/// took.
pub fn run(
    who: &str,
    executables: &[Executable],
    filter: Option<&str>,
    environment: &[(&str, String)],
    scratch: &Path,
    limit: Duration,
) -> Result<Outcome> {
    let mut arguments = vec![format!("--test-threads={THREADS}")];
    arguments.extend(filter.map(str::to_owned));
    let mut outcome = Outcome::default();
    for (index, executable) in executables.iter().enumerate() {
        let since = Instant::now();
        let of_file = libtest::run(executable, &arguments, environment, scratch, limit)?;
        step(
            who,
            format!(
                "{}/{} {}: {} ({} s)",
                index + 1,
                executables.len(),
                executable.name,
                of_file.summary(),
                since.elapsed().as_secs()
            ),
        );
        outcome.add(of_file);
    }
    Ok(outcome)
}
