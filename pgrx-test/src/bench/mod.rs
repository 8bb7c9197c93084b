//! `cargo bench-tenancy`: the extension against its alternatives, on one machine in one run.
//!
//! Owns the order of things. Every figure is the median of rounds in which the contenders take
//! turns, so that a machine that gets busier slows all of them; only ratios mean anything. A missed
//! target is a result and not a failure; a wrong answer (a stale tenant, another tenant's row, a
//! wrong count) fails the run.

mod dashboard;
mod document;
mod filters;
mod hot_function;
mod instructions;
mod lookups;
mod many_tables;
mod membership;
mod memory;
mod pgbench;
mod report;
mod resolution;
mod rounds;
mod scale;
mod schema;
mod session;
mod shadow;
mod statements;
mod stats;
mod templates;
mod tenants;
mod validator;
mod variant;
mod whole_schema;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::cluster::{Cluster, Shutdown};
use crate::fixture::Server;
use crate::progress::step;
use crate::provision::{self, Need, VERSIONS};
use crate::run_dir::{self, RunDir};
use crate::{matrix, paths, toolchain};
use report::{Figure, Report};
use scale::Scale;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Major version of Postgres
    #[arg(default_value_t = 17)]
    version: u32,
    /// Small tables and few rounds: shows that everything runs, the figures mean nothing
    #[arg(long)]
    quick: bool,
    /// Measure only this; may be repeated
    #[arg(long = "only", value_name = "GROUP")]
    only: Vec<Group>,
    /// Where to write the figures with all samples as JSON [default: bench-pgN.json in the cache]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Benchmarks that can be run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Group {
    /// Filters of a table of a million rows
    Filters,
    /// Bare calls of the function that policies call
    Function,
    /// Point lookups by pgbench
    Lookups,
    /// A join of three tables
    Dashboard,
    /// Resolving a user's tenant
    Resolution,
    /// Changing a membership, and who sees it when
    Membership,
    /// Memory of a backend that served everybody
    Memory,
    /// Templates of more than one comparison
    Templates,
    /// From ten tenants to a million
    Tenants,
    /// The context as a document
    Document,
    /// Protecting a schema of a thousand tables
    Schema,
    /// Validating a schema of a thousand tables
    Validate,
    /// Shadow mode, and recording
    Shadow,
    /// Instructions of a backend under valgrind; only when asked for
    Instructions,
}

/// What every benchmark works with.
pub(crate) struct Bench {
    /// The server with the library preloaded.
    pub loaded: &'static Server,
    /// The same Postgres without the library.
    pub bare: &'static Server,
    pub scale: Scale,
    /// For scripts.
    pub scratch: PathBuf,
}

pub fn run(args: &Args) -> Result<()> {
    ensure!(
        VERSIONS.contains(&args.version),
        "Postgres {} is not supported: choose from {VERSIONS:?}",
        args.version
    );
    run_dir::clean_up_on_signals()?;
    toolchain::for_extension()?;
    provision::ensure_packages(Need::BuildExtension)?;
    let run = RunDir::create()?;
    let tree = matrix::ready_tree(args.version, run.path())?;
    step(
        "bench",
        format!("starting two clusters ({})", tree.description()),
    );
    let mut loaded = cluster(run.path(), &tree.bin_dir(), "loaded", "pg_tenancy")?;
    let mut bare = cluster(run.path(), &tree.bin_dir(), "bare", "")?;
    let bench = Bench {
        loaded: loaded.server(),
        bare: bare.server(),
        scale: if args.quick {
            Scale::quick()
        } else {
            Scale::full()
        },
        scratch: run.path().to_owned(),
    };
    let mut report = Report::begin(tree.description(), args.quick)?;
    report.figures = measure(&bench, &args.only)?;
    if args.only.contains(&Group::Instructions) {
        let counted = instructions::measure(&bench, [&mut loaded, &mut bare])?;
        report.figures.extend(counted);
    }
    report.end()?;
    loaded.stop(Shutdown::Fast)?;
    bare.stop(Shutdown::Fast)?;
    drop(run);

    let file = match &args.json {
        Some(file) => file.clone(),
        None => paths::cache()?.join(format!("bench-pg{}.json", args.version)),
    };
    std::fs::write(&file, serde_json::to_vec_pretty(&report)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    println!("{report}");
    println!("Figures with all samples: {}", file.display());
    Ok(())
}

/// A cluster on which nothing happens by itself while it is measured.
fn cluster(run: &Path, bin_dir: &Path, label: &str, preload: &str) -> Result<Cluster> {
    Cluster::create(run, bin_dir, label)
        .set("shared_preload_libraries", preload)
        .set("autovacuum", "off")
        .set("checkpoint_timeout", "1d")
        .set("max_wal_size", "32GB")
        // A thousand tables are protected in one transaction.
        .set("max_locks_per_transaction", "1024")
        .set("wal_level", "minimal")
        .set("max_wal_senders", "0")
        .set("shared_buffers", "1GB")
        .set("jit", "off")
        .set("max_parallel_workers_per_gather", "0")
        .start()
}

fn measure(bench: &Bench, only: &[Group]) -> Result<Vec<Figure>> {
    type Measure = fn(&Bench) -> Result<Vec<Figure>>;
    let groups: [(Group, &str, Measure); 13] = [
        (Group::Filters, "filters", filters::measure),
        (
            Group::Function,
            "calls of the hot function",
            hot_function::measure,
        ),
        (Group::Lookups, "point lookups", lookups::measure),
        (Group::Dashboard, "dashboard", dashboard::measure),
        (Group::Resolution, "resolution", resolution::measure),
        (Group::Membership, "membership changes", membership::measure),
        (Group::Memory, "memory", memory::measure),
        (Group::Templates, "templates", templates::measure),
        (Group::Tenants, "numbers of tenants", tenants::measure),
        (Group::Document, "context document", document::measure),
        (Group::Schema, "whole schemas", whole_schema::measure),
        (Group::Validate, "the validator", validator::measure),
        (Group::Shadow, "shadow mode", shadow::measure),
    ];
    step("bench", "filling the tables");
    schema::fill(bench)?;
    let mut figures = Vec::new();
    for (group, title, measure) in groups {
        if only.is_empty() || only.contains(&group) {
            step("bench", title);
            figures.extend(measure(bench).with_context(|| format!("measuring {title}"))?);
        }
    }
    Ok(figures)
}
