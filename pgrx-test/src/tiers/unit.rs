//! Tier `unit`: tests of pure logic, of the extension crate and of this harness.
//!
//! They run outside of any server, so the extension's must not call into Postgres; which server's
//! headers they are compiled with makes no difference, and once a run is enough.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::libtest;
use crate::provision::Tree;
use crate::report::Outcome;
use crate::{install, paths};

const LIMIT: Duration = Duration::from_secs(600);

pub fn run(tree: &Tree, filter: Option<&str>, scratch: &Path) -> Result<Outcome> {
    let mut extension = install::extension_cargo(tree)?;
    extension.args(["rustc", "--package", "pg_tenancy", "--lib"]);
    extension.args(["--profile", "test", "--no-default-features"]);
    extension.args(["--features", &format!("pg{}", tree.version)]);
    // Postgres's functions exist only inside of a server. What the tests do not call may stay
    // unresolved; what they do call by mistake crashes them, which counts as failed.
    let unresolved = "-Clink-arg=-Wl,--unresolved-symbols=ignore-all";
    extension.args([libtest::MESSAGES, "--", unresolved]);
    let mut harness = Command::new("cargo");
    harness.current_dir(paths::workspace());
    harness.args(["test", "--package", "pgrx-test", "--lib"]);
    harness.args(["--no-run", libtest::MESSAGES]);
    let arguments: Vec<String> = filter.map(str::to_owned).into_iter().collect();
    let mut outcome = Outcome::default();
    for cargo in [&mut extension, &mut harness] {
        for executable in libtest::build(cargo)? {
            outcome.add(libtest::run(&executable, &arguments, &[], scratch, LIMIT)?);
        }
    }
    Ok(outcome)
}
