//! `cargo demo`: one Postgres, the extension, and what it does, in readable output.

use anyhow::{Result, bail};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Leave the cluster running and print how to connect to it
    #[arg(long)]
    pub keep: bool,
}

pub fn run(_args: &Args) -> Result<()> {
    bail!("the demo is not part of this build")
}
