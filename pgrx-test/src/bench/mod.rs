//! `cargo bench-tenancy`: the extension against its alternatives, on one server in one run.

use anyhow::{Result, bail};

#[derive(clap::Args, Debug)]
pub struct Args {}

pub fn run(_args: &Args) -> Result<()> {
    bail!("the benchmarks are not part of this build")
}
