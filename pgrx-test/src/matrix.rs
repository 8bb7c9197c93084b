//! `cargo matrix`: provisions each Postgres, builds and installs the extension, runs every tier
//! and reports.
//!
//! Owns the order of things. A version that cannot be set up is a failed one, never a missing
//! row.

mod servers;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::install::{self, Profile};
use crate::progress::step;
use crate::provision::{self, Need, Tree, VERSIONS, WITH_ASSERTIONS};
use crate::report::{self, Outcome, Row};
use crate::run_dir::{self, RunDir};
use crate::tiers::libtest::Executable;
use crate::tiers::{Tier, unit};
use crate::toolchain;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Major versions of Postgres; all of them if none is given
    versions: Vec<u32>,
    /// Take the time for what a short run leaves out: more rounds in tests that fuzz or soak, and
    /// on 17 also a server with assertions and Postgres's own test suites
    #[arg(long)]
    full: bool,
    /// How many random statements the differential test of shadow mode runs
    #[arg(long, value_name = "N")]
    queries: Option<u64>,
    /// What those statements are made from
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Run only tests whose name contains this
    #[arg(long, value_name = "SUBSTR")]
    filter: Option<String>,
    /// Run only this tier; may be repeated
    #[arg(long = "tier", value_name = "NAME")]
    tiers: Vec<Tier>,
    /// Build the extension without optimisation, which is sooner done
    #[arg(long)]
    debug: bool,
    /// Build and run only this file of `pgrx-test/tests`; may be repeated
    #[arg(long = "test", value_name = "FILE")]
    files: Vec<String>,
    /// Leave the clusters running and print how to run tests against them
    #[arg(long)]
    keep: bool,
}

impl Args {
    fn versions(&self) -> Vec<u32> {
        if self.versions.is_empty() {
            VERSIONS.to_vec()
        } else {
            self.versions.clone()
        }
    }

    fn wants(&self, tier: Tier) -> bool {
        match (self.tiers.is_empty(), self.files.is_empty()) {
            (true, true) => self.full || tier.is_ours(),
            (true, false) => tier == Tier::Client,
            (false, _) => self.tiers.contains(&tier),
        }
    }

    /// Whether the server with assertions is wanted, which takes long to make and to test on.
    fn wants_assertions(&self) -> bool {
        let is_named = self.tiers.iter().any(|tier| !tier.is_ours());
        let has_files = self.files.is_empty() || self.files.iter().any(|file| is_of_shadow(file));
        is_named || self.full && has_files && self.on_servers().next().is_some()
    }

    /// The tiers that run on every server.
    fn on_servers(&self) -> impl Iterator<Item = Tier> {
        [Tier::Client, Tier::Regress, Tier::Isolation]
            .into_iter()
            .filter(|tier| self.wants(*tier))
    }

    fn profile(&self) -> Profile {
        if self.debug {
            Profile::Debug
        } else {
            Profile::Release
        }
    }

    /// How long one test executable may take before it counts as hanging.
    fn limit(&self) -> Duration {
        let is_long = self.full || self.queries.is_some();
        Duration::from_secs(if is_long { 4 * 3600 } else { 20 * 60 })
    }
}

/// Whether a file of client tests is about shadow mode, and so runs on the server with assertions.
fn is_of_shadow(file: &str) -> bool {
    file.starts_with("shadow_")
}

/// Something that makes a row of the report.
#[derive(Clone, Copy, Debug)]
enum Job {
    Version(u32),
    /// The variant of a version that checks its assertions, and Postgres's own suites on it.
    Assertions,
    /// What is the same for all versions; compiled with this one's headers.
    Once(u32),
}

/// Runs it all; true if something ran and nothing failed.
pub fn run(args: &Args) -> Result<bool> {
    let mut versions = args.versions();
    for version in &versions {
        anyhow::ensure!(
            VERSIONS.contains(version),
            "Postgres {version} is not supported: choose from {VERSIONS:?}"
        );
    }
    versions.sort_unstable();
    versions.dedup();
    step("matrix", format!("Postgres {versions:?}"));
    run_dir::clean_up_on_signals()?;
    toolchain::for_extension()?;
    provision::ensure_packages(Need::BuildExtension)?;
    provision::ensure_packages(Need::Pooler)?;
    let mut run = RunDir::create()?;
    run.data_in_memory()?;
    if args.keep {
        run.keep()?;
    }
    let rows = run_jobs(args, jobs(args, &versions), run.path());
    drop(run);
    let columns: Vec<_> = Tier::ALL
        .into_iter()
        .filter(|t| args.wants(*t))
        .map(Tier::name)
        .collect();
    Ok(report::print(&rows, &columns))
}

fn jobs(args: &Args, versions: &[u32]) -> Vec<Job> {
    let mut jobs = Vec::new();
    if args.on_servers().next().is_some() {
        jobs.extend(versions.iter().map(|v| Job::Version(*v)));
        // On a new machine 17 takes longest, as it is compiled.
        jobs.sort_by_key(|job| !matches!(job, Job::Version(17)));
    }
    if args.wants_assertions() && versions.contains(&WITH_ASSERTIONS) {
        jobs.push(Job::Assertions);
    }
    if args.wants(Tier::Unit) {
        let version = if versions.contains(&17) {
            17
        } else {
            versions[0]
        };
        jobs.push(Job::Once(version));
    }
    jobs
}

/// Two jobs at a time where there are two cores; rows come back in the order of the versions.
fn run_jobs(args: &Args, jobs: Vec<Job>, run: &Path) -> Vec<Row> {
    let workers = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(2);
    let queue = Mutex::new(VecDeque::from(jobs));
    let rows = Mutex::new(Vec::new());
    let executables = OnceLock::new();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let job = queue
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front();
                    let Some(job) = job else { break };
                    let row = run_job(args, job, run, &executables);
                    rows.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(row);
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort_by(|a: &Row, b: &Row| a.name.cmp(&b.name));
    rows
}

type Executables = OnceLock<Result<Vec<Executable>, String>>;

fn run_job(args: &Args, job: Job, run: &Path, executables: &Executables) -> Row {
    let since = Instant::now();
    let mut tiers = BTreeMap::new();
    let (name, result) = match job {
        Job::Version(version) => (
            format!("pg{version}"),
            servers::run_version(args, version, run, executables, &mut tiers),
        ),
        Job::Assertions => (
            format!("pg{WITH_ASSERTIONS}-cassert"),
            servers::run_assertions(args, run, executables, &mut tiers),
        ),
        Job::Once(version) => ("all".to_owned(), run_once(args, version, run, &mut tiers)),
    };
    if let Err(error) = result {
        step(&name, "setting up failed");
        tiers.insert("setup", Outcome::fail("setting up", format!("{error:#}")));
    }
    Row {
        name,
        tiers,
        time: since.elapsed(),
    }
}

type Outcomes = BTreeMap<&'static str, Outcome>;

fn run_once(args: &Args, version: u32, run: &Path, tiers: &mut Outcomes) -> Result<()> {
    let tree = provision::server(version)?;
    let scratch = run.join("unit");
    std::fs::create_dir_all(&scratch)?;
    step("all", "building and running unit tests");
    record(
        "all",
        Tier::Unit,
        tiers,
        unit::run(&tree, args.filter.as_deref(), &scratch),
    );
    Ok(())
}

/// A private copy of a version's tree with the extension as it is now, built in release mode.
pub fn ready_tree(version: u32, run: &Path) -> Result<Tree> {
    tree_with_extension(&provision::server(version)?, run, Profile::Release)
}

fn tree_with_extension(pristine: &Tree, run: &Path, profile: Profile) -> Result<Tree> {
    let who = &pristine.name;
    let tree = pristine.copy_to(&run.join(format!("{who}-tree")))?;
    step(who, "building and installing the extension");
    install::build_and_install(pristine, &tree, run, profile)?;
    Ok(tree)
}

fn record(who: &str, tier: Tier, tiers: &mut Outcomes, result: Result<Outcome>) {
    let outcome =
        result.unwrap_or_else(|error| Outcome::fail("the tier itself", format!("{error:#}")));
    step(who, format!("{}: {}", tier.name(), outcome.summary()));
    tiers.insert(tier.name(), outcome);
}
