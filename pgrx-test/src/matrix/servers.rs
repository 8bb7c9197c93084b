//! The tiers that need a server: which run on which, and its clusters.
//!
//! Owns the clusters of a run, and looks into their logs when the tests are through.

use std::path::Path;

use anyhow::{Result, anyhow};

use super::{Args, Executables, Outcomes, is_of_shadow, record, tree_with_extension};
use crate::cluster::{Cluster, Shutdown};
use crate::fixture::{FULL_ENV, QUERIES_ENV, SEED_ENV};
use crate::progress::step;
use crate::provision::{self, Tree};
use crate::report::Outcome;
use crate::tiers::core_suites::{self, Suite};
use crate::tiers::libtest::Executable;
use crate::tiers::{Tier, client, golden};

pub fn run_version(
    args: &Args,
    version: u32,
    run: &Path,
    executables: &Executables,
    tiers: &mut Outcomes,
) -> Result<()> {
    let tree = tree_with_extension(&provision::server(version)?, run, args.profile())?;
    let scope = Scope {
        files: |_| true,
        takes_its_time: args.full,
    };
    run_tiers(args, &scope, &tree, run, executables, tiers)
}

/// The server with assertions: shadow mode, which hooks into the planner and the executor, and
/// Postgres's own suites. What fuzzes or soaks does so on the ordinary server.
pub fn run_assertions(
    args: &Args,
    run: &Path,
    executables: &Executables,
    tiers: &mut Outcomes,
) -> Result<()> {
    let pristine = provision::server_with_assertions()?;
    let tree = tree_with_extension(&pristine, run, args.profile())?;
    if args.on_servers().next().is_some() {
        let scope = Scope {
            files: is_of_shadow,
            takes_its_time: false,
        };
        run_tiers(args, &scope, &tree, run, executables, tiers)?;
    }
    for (tier, suite) in [
        (Tier::CoreRegress, core_suites::REGRESS),
        (Tier::CoreIsolation, core_suites::ISOLATION),
    ] {
        if args.wants(tier) {
            step(&tree.name, format!("running {}", tier.name()));
            let result = run_suite(&suite, &tree, run);
            record(&tree.name, tier, tiers, result);
        }
    }
    Ok(())
}

fn run_suite(suite: &Suite, tree: &Tree, run: &Path) -> Result<Outcome> {
    let mut cluster = core_suites::cluster(run, tree, suite)?;
    let mut outcome = suite.run(tree, cluster.server(), run)?;
    if let Some(crashed) = crashes(&[("suite's", &cluster)]) {
        outcome.add(crashed);
    }
    cluster.stop(Shutdown::Fast)?;
    Ok(outcome)
}

/// What of the client tests runs on a server.
struct Scope {
    files: fn(&str) -> bool,
    takes_its_time: bool,
}

/// Everything that needs the two clusters of a server.
fn run_tiers(
    args: &Args,
    scope: &Scope,
    tree: &Tree,
    run: &Path,
    executables: &Executables,
    tiers: &mut Outcomes,
) -> Result<()> {
    let who = tree.name.as_str();
    step(
        who,
        format!("starting two clusters ({})", tree.description()),
    );
    let start = |label: &str, preload: &str| {
        Cluster::create(run, &tree.bin_dir(), &format!("{who}-{label}"))
            .set("shared_preload_libraries", preload)
            .keep(args.keep)
            .start()
    };
    let mut preloaded = start("preloaded", "pg_tenancy")?;
    let mut plain = start("plain", "")?;
    let filter = args.filter.as_deref();
    let scratch = run.join(format!("{who}-scratch"));
    std::fs::create_dir_all(&scratch)?;
    let mut environment = client::environment(run, preloaded.server(), plain.server())?;
    if scope.takes_its_time {
        environment.push((FULL_ENV, "1".to_owned()));
    }
    for (name, number) in [(QUERIES_ENV, args.queries), (SEED_ENV, args.seed)] {
        environment.extend(number.map(|number| (name, number.to_string())));
    }
    if args.keep {
        explain_kept(who, run, &environment);
    }

    if args.wants(Tier::Client) {
        let built = executables.get_or_init(|| {
            step("client", "building the client tests");
            client::build(&args.files).map_err(|error| format!("{error:#}"))
        });
        let executables = built.as_ref().map_err(|error| anyhow!("{error}"))?;
        let executables: Vec<Executable> = executables
            .iter()
            .filter(|executable| (scope.files)(&executable.name))
            .cloned()
            .collect();
        step(who, "running client tests");
        let outcome = client::run(
            who,
            &executables,
            filter,
            &environment,
            &scratch,
            args.limit(),
        );
        record(who, Tier::Client, tiers, outcome);
    }
    for (tier, kind) in [
        (Tier::Regress, golden::REGRESS),
        (Tier::Isolation, golden::ISOLATION),
    ] {
        if args.wants(tier) {
            record(
                who,
                tier,
                tiers,
                kind.run(tree, preloaded.server(), filter, &scratch),
            );
        }
    }
    if let Some(outcome) = crashes(&[("preloaded", &preloaded), ("plain", &plain)]) {
        tiers.insert("server", outcome);
    }
    if !args.keep {
        // In order, because a server that cannot stop any more is something to report.
        preloaded.stop(Shutdown::Fast)?;
        plain.stop(Shutdown::Fast)?;
    }
    Ok(())
}

/// How to go on with clusters that stay.
fn explain_kept(who: &str, run: &Path, environment: &[(&str, String)]) {
    println!("# {who} keeps running. For `cargo test --package pgrx-test`:");
    for (name, value) in environment {
        println!("export {name}='{value}'");
    }
    println!(
        "# To stop: cargo run --package pgrx-test -- stop {}",
        run.display()
    );
}

/// A shared cluster that crashed under the tests is a failure even if every test came through;
/// tests that crash a server on purpose start one of their own.
fn crashes(clusters: &[(&str, &Cluster)]) -> Option<Outcome> {
    let mut outcome = Outcome::default();
    for (label, cluster) in clusters {
        let log = cluster.log();
        let marks = ["was terminated by signal", "PANIC:  ", "TRAP: "];
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| marks.iter().any(|mark| line.contains(mark)))
            .take(20)
            .collect();
        if !lines.is_empty() {
            outcome.add(Outcome::fail(
                format!("the {label} cluster crashed"),
                lines.join("\n"),
            ));
        }
    }
    (!outcome.failures.is_empty()).then_some(outcome)
}
