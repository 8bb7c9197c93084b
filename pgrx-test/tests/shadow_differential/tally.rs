//! What was seen of each shape.

use std::collections::BTreeMap;
use std::fmt;

use super::generate::Statement;
use super::judge::Verdict;

/// Every shape that the generator has to make.
pub const SHAPES: [&str; 68] = [
    "ARRAY",
    "ARRAY in a condition",
    "DELETE",
    "DELETE .. USING",
    "DISTINCT",
    "EXCEPT",
    "EXISTS",
    "EXISTS in CASE",
    "FOR UPDATE",
    "GROUP BY",
    "HAVING",
    "IN",
    "INSERT .. SELECT",
    "INSERT of another row's tenant",
    "INTERSECT",
    "LIMIT",
    "LIMIT in LATERAL",
    "MERGE",
    "NOT EXISTS",
    "NOT IN",
    "OFFSET 0",
    "ON CONFLICT DO NOTHING",
    "ON CONFLICT DO UPDATE",
    "OR EXISTS",
    "ORDER BY",
    "RETURNING",
    "UNION",
    "UNION ALL",
    "UNION ALL in FROM",
    "UPDATE",
    "UPDATE .. FROM",
    "UPDATE of the tenant",
    "WITH",
    "WITH MATERIALIZED",
    "WITH RECURSIVE",
    "WITH that writes",
    "aggregate of all",
    "an exempt role",
    "cross join",
    "full join",
    "generic plan",
    "grouping sets",
    "inlined function",
    "inner join",
    "invoker's view",
    "joined aggregate",
    "lateral",
    "left join",
    "left join lateral",
    "no context, denied",
    "no context, error",
    "one protected relation at most",
    "outer join with a filter above",
    "owner's view",
    "parallel plan",
    "parameter",
    "prepared",
    "right join",
    "scalar sub-select",
    "scalar sub-select in SET",
    "scalar sub-select in a condition",
    "security barrier view",
    "some columns",
    "sub-select in FROM",
    "sub-select that looks at nothing outside",
    "superuser's view",
    "the application's own filter",
    "view over a join",
];

#[derive(Default)]
struct Count {
    statements: u64,
    changed: u64,
    /// False alarms by the best precision among the records.
    exact: u64,
    level: u64,
    scan: u64,
}

/// Counts by shape.
#[derive(Default)]
pub struct Tally {
    all: Count,
    shapes: BTreeMap<&'static str, Count>,
    pub fails: u64,
    pub fails_unnoticed: u64,
    pub compared: u64,
    pub confirmed: u64,
}

impl Tally {
    pub fn add(&mut self, statement: &Statement, verdict: &Verdict) {
        self.all.add(verdict);
        for shape in &statement.shapes {
            self.shapes.entry(shape).or_default().add(verdict);
        }
        self.fails += u64::from(verdict.fails);
        self.fails_unnoticed += u64::from(verdict.fails_unnoticed);
        self.compared += u64::from(verdict.is_compared);
        self.confirmed += u64::from(verdict.is_confirmed);
    }

    /// Adds what another session counted.
    pub fn merge(&mut self, other: &Tally) {
        self.all.merge(&other.all);
        for (shape, count) in &other.shapes {
            self.shapes.entry(shape).or_default().merge(count);
        }
        self.fails += other.fails;
        self.fails_unnoticed += other.fails_unnoticed;
        self.compared += other.compared;
        self.confirmed += other.confirmed;
    }

    pub fn statements(&self) -> u64 {
        self.all.statements
    }

    pub fn changed(&self) -> u64 {
        self.all.changed
    }

    /// Shapes of which there was none.
    pub fn absent(&self) -> Vec<&'static str> {
        SHAPES
            .into_iter()
            .filter(|shape| !self.shapes.contains_key(shape))
            .collect()
    }
}

impl Count {
    fn add(&mut self, verdict: &Verdict) {
        self.statements += 1;
        self.changed += u64::from(verdict.is_changed);
        match verdict.false_alarm {
            Some("exact") => self.exact += 1,
            Some("level") => self.level += 1,
            Some(_) => self.scan += 1,
            None => {}
        }
    }

    fn merge(&mut self, other: &Count) {
        self.statements += other.statements;
        self.changed += other.changed;
        self.exact += other.exact;
        self.level += other.level;
        self.scan += other.scan;
    }

    fn line(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        writeln!(
            f,
            "{name:42} {:10} {:8} {:6} {:6} {:6}",
            self.statements, self.changed, self.exact, self.level, self.scan
        )
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:42} {:>10} {:>8} {:>6} {:>6} {:>6}   (false alarms by precision)",
            "shape", "statements", "changed", "exact", "level", "scan"
        )?;
        for (shape, count) in &self.shapes {
            count.line(f, shape)?;
        }
        self.all.line(f, "all")?;
        writeln!(
            f,
            "keys compared: {}; confirmed: {}; fail without protection: {}, of which enforcement changes, and nothing tells: {}",
            self.compared, self.confirmed, self.fails, self.fails_unnoticed
        )
    }
}
