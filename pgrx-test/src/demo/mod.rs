//! `cargo demo [okr|insights|studio|agents]`: one Postgres, the extension, and what it does, in readable output.
//!
//! Shows a system of `tests/scenarios` through its application's role; a file a system says what is
//! tried. Must never show anything that it did not just get from the server.

mod agents;
mod insights;
mod okr;
mod output;
mod play;
pub mod rollout;
mod studio;

use std::io::Write;

use anyhow::Result;
use clap::ValueEnum;

use crate::cluster::Cluster;
use crate::progress::step;
use crate::run_dir::RunDir;
use crate::scenario::{self, Scenario};
use crate::{matrix, provision, run_dir, toolchain};

pub use play::{Place, Play};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Which system to show
    #[arg(value_enum, default_value_t = System::Okr)]
    pub system: System,
    /// Leave the cluster running and print how to connect to it
    #[arg(long)]
    pub keep: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum System {
    /// Objectives of organisations: the user is set, a table knows the tenant
    Okr,
    /// Analytics of companies: the application sets the tenant, a text
    Insights,
    /// Projects of studios: a user of many organisations chooses one
    Studio,
    /// An agent platform: claims of a token, roles, rows that all tenants share
    Agents,
}

impl System {
    pub fn scenario(self) -> &'static Scenario {
        match self {
            System::Okr => &scenario::OKR,
            System::Insights => &scenario::INSIGHTS,
            System::Studio => &scenario::STUDIO,
            System::Agents => &scenario::AGENTS,
        }
    }

    /// Statements that make a context, for the reader who goes on by himself.
    fn context(self) -> &'static str {
        match self {
            System::Okr => okr::USER_A,
            System::Insights => insights::TENANT_1,
            System::Studio => studio::USER_63_IN_4,
            System::Agents => agents::MEMBER_1,
        }
    }
}

pub fn run(args: &Args) -> Result<()> {
    run_dir::clean_up_on_signals()?;
    toolchain::for_extension()?;
    provision::ensure_packages(provision::Need::BuildExtension)?;
    let version = provision::any_server()?.version;
    let mut run = RunDir::create()?;
    if args.keep {
        run.keep()?;
    }
    let tree = matrix::ready_tree(version, run.path())?;
    step(
        "demo",
        format!("starting a private cluster ({})", tree.description()),
    );
    let cluster = Cluster::create(run.path(), &tree.bin_dir(), "demo")
        .set("shared_preload_libraries", "pg_tenancy")
        .keep(args.keep)
        .start()?;
    let server = cluster.server();
    let place = Place::of(server, args.system.scenario());
    show(args.system, &place, &mut std::io::stdout())?;
    if args.keep {
        println!("\nThe cluster keeps running. Connect as the application with");
        println!(
            "  {}/psql -h {} -p {} -U {} {}",
            server.bin_dir.display(),
            server.socket_dir.display(),
            server.port,
            args.system.scenario().application(),
            place.database
        );
        println!("and begin with\n  BEGIN; {};", args.system.context());
        println!(
            "Stop it with\n  kill -INT $(head -1 {}/postmaster.pid)",
            server.data_dir.display()
        );
    }
    Ok(())
}

/// Sets a system up in an empty database and shows it.
pub fn show(system: System, place: &Place, out: &mut dyn Write) -> Result<()> {
    let mut play = Play::new(system.scenario(), place, out);
    play.set_up()?;
    match system {
        System::Okr => okr::show(&mut play),
        System::Insights => insights::show(&mut play),
        System::Studio => studio::show(&mut play),
        System::Agents => agents::show(&mut play),
    }
}
