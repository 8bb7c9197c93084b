//! Shadow mode over random statements: it changes nothing, misses nothing, and what it calls exact is lost.

#[path = "shadow_differential/mod.rs"]
mod shadow_differential;

use std::collections::{BTreeMap, BTreeSet};

use pgrx_test::fixture::{QUERIES_ENV, SEED_ENV, full};
use shadow_differential::generate::{Statement, statement};
use shadow_differential::judge::{Trial, Verdict};
use shadow_differential::shrink;
use shadow_differential::tally::Tally;
use shadow_differential::world::{Record, World};

/// Statements between two looks at what was recorded.
const BATCH: u64 = 25;
const WORKERS: u64 = 2;
/// So many faults are reported in full.
const REPORTED: usize = 5;

fn asked_for(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| {
        text.parse()
            .unwrap_or_else(|error| panic!("{variable} is no number: {text:?}: {error}"))
    })
}

/// What one session found.
#[derive(Default)]
struct Findings {
    tally: Tally,
    faults: Vec<String>,
    faulty: u64,
    first: Option<u64>,
}

fn examine(seed: u64, numbers: impl Iterator<Item = u64>) -> Findings {
    let mut world = World::new();
    let mut findings = Findings::default();
    let numbers: Vec<u64> = numbers.collect();
    for batch in numbers.chunks(BATCH as usize) {
        let statements: Vec<(u64, Statement)> = batch
            .iter()
            .map(|number| (*number, statement(seed, *number, world.version())))
            .collect();
        let mut outcomes = BTreeMap::new();
        for (number, statement) in &statements {
            let text = statement.sql.text();
            let label = format!("q{number}");
            let mut run = |schema| world.run(schema, &label, statement, &text);
            outcomes.insert(*number, (run("plain"), run("shad"), run("enf")));
        }
        let mut records = world.take_records();
        for (number, statement) in &statements {
            let (plain, shadow, enforced) = outcomes.remove(number).expect("it was run");
            let trial = Trial {
                statement,
                plain,
                shadow,
                enforced,
                records: records.remove(&format!("q{number}")).unwrap_or_default(),
            };
            let verdict = trial.verdict(&mut world);
            findings.tally.add(statement, &verdict);
            if !verdict.faults.is_empty() {
                findings.faulty += 1;
                findings.first.get_or_insert(*number);
                if findings.faults.len() < REPORTED {
                    let told = tell(&mut world, seed, *number, &trial, &verdict);
                    findings.faults.push(told);
                }
            }
        }
    }
    findings
}

fn told(records: &BTreeSet<Record>) -> String {
    let words = records.iter().map(|record| {
        let (table, tenant) = &record.tag;
        let (kind, precision) = (&record.kind, &record.precision);
        format!("{table}/{tenant} {} {kind} {precision}", record.command)
    });
    words.collect::<Vec<_>>().join(", ")
}

fn tell(world: &mut World, seed: u64, number: u64, trial: &Trial<'_>, verdict: &Verdict) -> String {
    let fault = &verdict.faults[0];
    let shortest = shrink::shortest(world, trial.statement, fault);
    let mut text = format!(
        "seed {seed}, statement {number}: {:?}\n  {}\n  settings: {}\n  executions: {:?}\n  records: {}\n  shortest: {}\n  settings: {}; executions: {:?}",
        verdict.faults,
        trial.statement.sql.text(),
        trial.statement.settings,
        trial.statement.steps,
        told(&trial.records),
        shortest.sql.text(),
        shortest.settings,
        shortest.steps,
    );
    if trial.plain != trial.shadow {
        text.push_str(&format!(
            "\n  only unprotected, and only in shadow mode: {}",
            trial.plain.difference(&trial.shadow)
        ));
    }
    text
}

#[test]
fn random_statements_are_recorded_and_left_alone() {
    let seed = asked_for(SEED_ENV, 1);
    let count = asked_for(QUERIES_ENV, if full() { 50_000 } else { 2_000 });
    let all: Vec<Findings> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                scope.spawn(move || {
                    examine(seed, (0..count).filter(|number| number % WORKERS == worker))
                })
            })
            .collect();
        let join = |worker: std::thread::ScopedJoinHandle<'_, Findings>| {
            worker.join().expect("a session ends without a panic")
        };
        workers.into_iter().map(join).collect()
    });
    let mut tally = Tally::default();
    let (mut faults, mut faulty, mut first) = (Vec::new(), 0, None::<u64>);
    for findings in all {
        tally.merge(&findings.tally);
        faults.extend(findings.faults);
        faulty += findings.faulty;
        first = first.into_iter().chain(findings.first).min();
    }
    eprintln!("seed {seed}\n{tally}");
    assert!(
        faulty == 0,
        "{faulty} of {count} statements break a promise, the first is number {}:\n{}",
        first.unwrap_or_default(),
        faults.join("\n")
    );
    assert!(
        tally.changed() * 2 >= tally.statements(),
        "enforcement changes only {} of {}",
        tally.changed(),
        tally.statements()
    );
    if count >= 2_000 {
        assert!(tally.confirmed > 0, "nothing was confirmed");
        assert_eq!(tally.absent(), [""; 0], "shapes that did not occur");
    }
}

#[test]
fn a_seed_gives_the_same_statements_again() {
    let text = |seed, number| {
        let statement = statement(seed, number, 17);
        format!("{} {:?}", statement.sql.text(), statement.steps)
    };
    let some: Vec<String> = (0..200).map(|number| text(7, number)).collect();
    let again: Vec<String> = (0..200).map(|number| text(7, number)).collect();
    let other: Vec<String> = (0..200).map(|number| text(8, number)).collect();
    assert_eq!(some, again);
    let distinct: BTreeSet<&String> = some.iter().chain(&other).collect();
    assert!(distinct.len() > 380, "{} of 400", distinct.len());
}
