//! Shadow mode over the corpus: it changes nothing, misses nothing, and is as precise as it promises.

#[path = "shadow_corpus/mod.rs"]
mod shadow_corpus;

use pgrx_test::fixture::{ClientExt, Server};
use shadow_corpus::{Case, Corpus, Score, cases};

/// What is known after a case was run three ways.
struct Finding<'a> {
    case: &'a Case,
    score: Score,
    /// Each is a promise broken.
    faults: Vec<String>,
}

fn examine<'a>(corpus: &Corpus, cases: &'a [Case], settings: &str) -> Vec<Finding<'a>> {
    let mut admin = corpus.database.superuser();
    let mut client = corpus.database.superuser();
    let mut findings = Vec::new();
    for case in cases {
        let plain = corpus.run(&mut client, "plain", settings, case);
        corpus.take_records(&mut admin);
        let unsettled = format!("SET LOCAL pg_tenancy.shadow_confirm_ms = 0; {settings}");
        let shadow = corpus.run(&mut client, "shad", &unsettled, case);
        let recorded = corpus.take_records(&mut admin);
        let enforced = corpus.run(&mut client, "enf", settings, case);
        let (level, visible) = corpus.oracles(&mut admin, case);
        let all = recorded.values().flatten().cloned().collect();
        let mut faults = Vec::new();
        let mut fault = |text: String| faults.push(format!("{} [{settings}]: {text}", case.name));
        if plain.error.is_some() {
            fault(format!("fails without protection: {:?}", plain.error));
        }
        if plain != shadow {
            fault(format!(
                "shadow mode changed it: {shadow:?}\ninstead of {plain:?}"
            ));
        }
        if plain != enforced && recorded.is_empty() {
            fault("enforcement changes it, and nothing was recorded".to_owned());
        }
        let exact = recorded.get("exact").cloned().unwrap_or_default();
        if !exact.is_subset(&visible) {
            fault(format!(
                "said to be exact, but not lost: {:?}",
                exact.difference(&visible)
            ));
        }
        let score = Score::of(&all, &level, &visible);
        let may_stop_early = case.stops_early && !settings.is_empty();
        if score == Score::Missed && !may_stop_early {
            let missed: Vec<_> = visible.difference(&all).collect();
            fault(format!("missed: {missed:?}"));
        }
        findings.push(Finding {
            case,
            score,
            faults,
        });
    }
    findings
}

fn hold(settings: &[&str], judge: impl Fn(&str, &[Finding<'_>]) -> Vec<String>) {
    let corpus = Corpus::new();
    let cases = cases(Server::preloaded().version);
    assert!(cases.len() > 160, "{} cases", cases.len());
    let mut faults = Vec::new();
    for settings in settings {
        let findings = examine(&corpus, &cases, settings);
        faults.extend(findings.iter().flat_map(|finding| finding.faults.clone()));
        faults.extend(judge(settings, &findings));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn count(findings: &[Finding<'_>], scores: &[Score]) -> usize {
    findings
        .iter()
        .filter(|finding| scores.contains(&finding.score))
        .count()
}

/// Whatever the plan: nearly all is exact, and no shape but two can give a false alarm.
fn nearly_as_precise(settings: &str, findings: &[Finding<'_>]) -> Vec<String> {
    let exact = count(findings, &[Score::Exact, Score::Visible]);
    let false_alarms = count(findings, &[Score::FalseAlarm]);
    let mut faults = Vec::new();
    if exact < 142 || false_alarms > 2 {
        faults.push(format!(
            "[{settings}]: {exact} exact, {false_alarms} false alarms"
        ));
    }
    faults
}

#[test]
fn every_shape_is_as_precise_as_it_was() {
    hold(&[""], |_, findings| {
        findings
            .iter()
            .filter(|finding| finding.score > finding.case.expected)
            .map(|finding| {
                format!(
                    "{}: {:?} instead of {:?}",
                    finding.case.name, finding.score, finding.case.expected
                )
            })
            .collect()
    });
}

// What is switched off counts as dear, and would be compiled and optimized before it runs.
#[test]
fn other_ways_to_join() {
    hold(
        &[
            "SET LOCAL jit = off; SET LOCAL enable_hashjoin = off",
            "SET LOCAL jit = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off",
            "SET LOCAL jit = off; SET LOCAL enable_nestloop = off",
            "SET LOCAL jit = off; SET LOCAL enable_nestloop = off; SET LOCAL enable_hashjoin = off",
            "SET LOCAL jit = off; SET LOCAL enable_memoize = off; SET LOCAL enable_material = off",
        ],
        nearly_as_precise,
    );
}

#[test]
fn other_ways_to_scan_and_group() {
    hold(
        &[
            "SET LOCAL jit = off; SET LOCAL enable_seqscan = off",
            "SET LOCAL jit = off; SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off",
            "SET LOCAL jit = off; SET LOCAL enable_hashagg = off",
            "SET LOCAL jit = on; SET LOCAL jit_above_cost = 0; SET LOCAL jit_inline_above_cost = -1; SET LOCAL jit_optimize_above_cost = -1",
        ],
        nearly_as_precise,
    );
}

#[test]
fn other_orders_of_joins_and_parallel_plans() {
    hold(
        &[
            "SET LOCAL geqo_threshold = 2",
            "SET LOCAL join_collapse_limit = 1; SET LOCAL from_collapse_limit = 1",
            "SET LOCAL enable_partitionwise_join = on; SET LOCAL enable_partitionwise_aggregate = on",
            "SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SET LOCAL min_parallel_table_scan_size = 0; SET LOCAL min_parallel_index_scan_size = 0",
        ],
        nearly_as_precise,
    );
}

#[test]
fn the_simple_placement_is_sound_too() {
    hold(
        &["SET LOCAL pg_tenancy.shadow_placement = scan"],
        |settings, findings| {
            // Single tables are exact, and nothing may be said to be exact that is not.
            let exact = count(findings, &[Score::Exact, Score::Visible]);
            if exact < 80 {
                vec![format!("[{settings}]: {exact} exact")]
            } else {
                Vec::new()
            }
        },
    );
}

#[test]
fn the_corpus_is_worth_its_name() {
    let corpus = Corpus::new();
    let cases = cases(Server::preloaded().version);
    let mut client = corpus.database.superuser();
    let changed = cases
        .iter()
        .filter(|case| {
            corpus.run(&mut client, "plain", "", case) != corpus.run(&mut client, "enf", "", case)
        })
        .count();
    assert!(changed > 100, "enforcement changes only {changed} cases");
    let policies = "SELECT count(*) FROM pg_policy WHERE polrelid::regclass::text LIKE 'shad.%'";
    assert_eq!(
        client.int(policies),
        0,
        "shadow mode has nothing in the catalog"
    );
}

/// What confirmation did to one statement's records.
#[derive(Default)]
struct Settled {
    dismissed: usize,
    confirmed: usize,
    left: usize,
}

#[test]
fn what_is_confirmed_is_true_and_what_is_dismissed_was_false() {
    let corpus = Corpus::new();
    let mut admin = corpus.database.superuser();
    let mut client = corpus.database.superuser();
    let settings = "SET LOCAL pg_tenancy.shadow_confirm_ms = 60000";
    let mut settled = Settled::default();
    let mut faults = Vec::new();
    for case in &cases(Server::preloaded().version) {
        let plain = corpus.run(&mut client, "plain", "", case);
        corpus.take_records(&mut admin);
        let shadow = corpus.run(&mut client, "shad", settings, case);
        let confirmed = "SELECT count(*) FROM tenancy.shadow_recorded() WHERE confirmed";
        let dismissed = "SELECT coalesce(sum(dismissed), 0)::bigint FROM tenancy.shadow_report()";
        let (confirmed, dismissed) = (admin.int(confirmed) > 0, admin.int(dismissed) > 0);
        let recorded = corpus.take_records(&mut admin);
        let enforced = corpus.run(&mut client, "enf", "", case);
        if plain != shadow {
            faults.push(format!("{}: changed: {shadow:?}", case.name));
        }
        if plain != enforced && recorded.is_empty() {
            faults.push(format!(
                "{}: enforcement changes it, and nothing is left",
                case.name
            ));
        }
        if confirmed && plain == enforced {
            faults.push(format!("{}: confirmed, and nothing changes", case.name));
        }
        // Of several statements another one may be changed.
        if dismissed && !case.statement.contains("; ") && plain != enforced {
            faults.push(format!(
                "{}: dismissed, and enforcement changes it",
                case.name
            ));
        }
        let has_unsure = recorded.keys().any(|precision| precision != "exact");
        settled.dismissed += usize::from(dismissed);
        settled.confirmed += usize::from(confirmed);
        settled.left += usize::from(has_unsure && !confirmed);
        if has_unsure && !confirmed {
            println!("left: {}", case.name);
        }
    }
    println!(
        "{} dismissed, {} confirmed, {} left",
        settled.dismissed, settled.confirmed, settled.left
    );
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(settled.confirmed > 20 && settled.dismissed > 2);
}
