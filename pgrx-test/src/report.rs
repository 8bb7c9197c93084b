//! Results of a run: what passed, what failed and what the failed ones said.
//!
//! Only counts and prints; the last line is for machines and must stay `N passed, N failed`.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::{Cell, CellAlignment, Table, presets::ASCII_MARKDOWN};

/// What one tier, or one part of it, came to.
#[derive(Debug, Default)]
pub struct Outcome {
    pub passed: usize,
    pub failures: Vec<Failure>,
}

#[derive(Debug)]
pub struct Failure {
    pub name: String,
    pub output: String,
}

impl Outcome {
    pub fn pass() -> Outcome {
        Outcome {
            passed: 1,
            failures: Vec::new(),
        }
    }

    pub fn fail(name: impl Into<String>, output: impl Into<String>) -> Outcome {
        let failure = Failure {
            name: name.into(),
            output: output.into(),
        };
        Outcome {
            passed: 0,
            failures: vec![failure],
        }
    }

    pub fn add(&mut self, other: Outcome) {
        self.passed += other.passed;
        self.failures.extend(other.failures);
    }

    pub fn summary(&self) -> String {
        format!("{} passed, {} failed", self.passed, self.failures.len())
    }
}

/// Everything about one row of the table: a version, or what concerns all of them.
#[derive(Debug)]
pub struct Row {
    pub name: String,
    pub tiers: BTreeMap<&'static str, Outcome>,
    pub time: Duration,
}

/// Prints failures, table and counts. True if something ran and nothing failed.
pub fn print(rows: &[Row], columns: &[&'static str]) -> bool {
    for row in rows {
        for (tier, outcome) in &row.tiers {
            for failure in &outcome.failures {
                println!(
                    "\n==== {} {tier}: {}\n{}",
                    row.name,
                    failure.name,
                    failure.output.trim_end()
                );
            }
        }
    }
    println!("\n{}\n", table(rows, columns));
    let outcomes = || rows.iter().flat_map(|row| row.tiers.values());
    let passed: usize = outcomes().map(|outcome| outcome.passed).sum();
    let failed: usize = outcomes().map(|outcome| outcome.failures.len()).sum();
    for row in rows {
        for (tier, outcome) in &row.tiers {
            for failure in &outcome.failures {
                println!("failed: {} {tier}: {}", row.name, failure.name);
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    failed == 0 && passed > 0
}

/// Columns beyond the given ones appear when some row has something to say there.
fn table(rows: &[Row], columns: &[&'static str]) -> Table {
    let mut columns = columns.to_vec();
    for tier in rows.iter().flat_map(|row| row.tiers.keys().copied()) {
        if !columns.contains(&tier) {
            columns.push(tier);
        }
    }
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    let titles = std::iter::once("")
        .chain(columns.iter().copied())
        .chain(["time"]);
    table.set_header(titles);
    for row in rows {
        let mut cells = vec![Cell::new(&row.name)];
        for tier in &columns {
            let text = match row.tiers.get(tier) {
                None => "-".to_owned(),
                Some(outcome) if outcome.failures.is_empty() => outcome.passed.to_string(),
                Some(outcome) => {
                    format!("{}, {} FAILED", outcome.passed, outcome.failures.len())
                }
            };
            cells.push(Cell::new(text).set_alignment(CellAlignment::Right));
        }
        let seconds = row.time.as_secs();
        cells.push(
            Cell::new(format!("{}:{:02}", seconds / 60, seconds % 60))
                .set_alignment(CellAlignment::Right),
        );
        table.add_row(cells);
    }
    table
}
