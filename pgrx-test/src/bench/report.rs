//! Figures, what they are compared with, and how they are shown.
//!
//! Pure but for reading the load of the machine. A figure is judged only where a target was set.

use std::fmt;
use std::time::Instant;

use anyhow::Result;
use comfy_table::{Cell, CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde::Serialize;

use super::stats::Summary;

/// The result of a run.
#[derive(Serialize)]
pub(crate) struct Report {
    /// Release of the server and where it came from.
    server: String,
    quick: bool,
    processors: usize,
    /// Load averages over one minute, at the beginning and at the end.
    load: Vec<f64>,
    seconds: u64,
    pub figures: Vec<Figure>,
    #[serde(skip)]
    since: Instant,
}

/// One line of the table.
#[derive(Serialize)]
pub(crate) struct Figure {
    what: String,
    contender: String,
    unit: Unit,
    #[serde(flatten)]
    summary: Summary,
    ratio: Option<Ratio>,
    target: Option<Target>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Unit {
    #[serde(rename = "ms")]
    Milliseconds,
    #[serde(rename = "us")]
    Microseconds,
    #[serde(rename = "ns")]
    Nanoseconds,
    #[serde(rename = "tps")]
    TransactionsPerSecond,
    #[serde(rename = "rows/s")]
    RowsPerSecond,
    #[serde(rename = "kB")]
    Kilobytes,
    #[serde(rename = "instr")]
    Instructions,
}

#[derive(Serialize)]
struct Ratio {
    value: f64,
    of: String,
}

#[derive(Serialize)]
struct Target {
    bound: Bound,
    met: bool,
}

/// What a ratio is held against.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Bound::AtMost(bound) => value <= bound,
            Bound::AtLeast(bound) => value >= bound,
        }
    }
}

impl Figure {
    pub fn new(
        what: impl Into<String>,
        contender: impl Into<String>,
        unit: Unit,
        summary: Summary,
    ) -> Figure {
        Figure {
            what: what.into(),
            contender: contender.into(),
            unit,
            summary,
            ratio: None,
            target: None,
        }
    }

    /// Adds the ratio of the medians.
    pub fn against(mut self, name: impl Into<String>, other: &Summary) -> Figure {
        self.ratio = Some(Ratio {
            value: self.summary.median / other.median,
            of: name.into(),
        });
        self
    }

    /// Judges the ratio.
    pub fn target(mut self, bound: Bound) -> Figure {
        self.target = self.ratio.as_ref().map(|ratio| Target {
            bound,
            met: bound.holds(ratio.value),
        });
        self
    }

    fn cells(&self) -> Vec<Cell> {
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let ratio = self.ratio.as_ref();
        let target = self.target.as_ref();
        vec![
            Cell::new(&self.what),
            Cell::new(&self.contender),
            right(format!("{} {}", number(self.summary.median), self.unit)),
            right(match self.summary.spread() {
                Some(spread) => format!("{:.1} %", spread * 100.0),
                None => String::new(),
            }),
            right(ratio.map_or_else(String::new, |r| format!("{:.2}", r.value))),
            Cell::new(ratio.map_or("", |r| &r.of)),
            Cell::new(target.map_or_else(String::new, |t| t.bound.to_string())),
            Cell::new(target.map_or("", |t| if t.met { "pass" } else { "short" })),
        ]
    }
}

impl Report {
    pub fn begin(server: String, quick: bool) -> Result<Report> {
        Ok(Report {
            server,
            quick,
            processors: std::thread::available_parallelism()?.get(),
            load: vec![load_average()?],
            seconds: 0,
            figures: Vec::new(),
            since: Instant::now(),
        })
    }

    pub fn end(&mut self) -> Result<()> {
        self.seconds = self.since.elapsed().as_secs();
        self.load.push(load_average()?);
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}; {} processors, load {:.1} at the beginning; {} s{}",
            self.server,
            self.processors,
            self.load[0],
            self.seconds,
            if self.quick {
                "; QUICK: sizes too small to mean anything"
            } else {
                ""
            },
        )?;
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN);
        table.set_header([
            "what",
            "contender",
            "median",
            "spread",
            "ratio",
            "to",
            "target",
            "",
        ]);
        for figure in &self.figures {
            table.add_row(figure.cells());
        }
        writeln!(f, "{table}")?;
        let targets: Vec<_> = self
            .figures
            .iter()
            .filter_map(|f| f.target.as_ref())
            .collect();
        let met = targets.iter().filter(|target| target.met).count();
        write!(f, "{met} of {} targets met", targets.len())
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Milliseconds => "ms",
            Unit::Microseconds => "us",
            Unit::Nanoseconds => "ns",
            Unit::TransactionsPerSecond => "tps",
            Unit::RowsPerSecond => "rows/s",
            Unit::Kilobytes => "kB",
            Unit::Instructions => "instr",
        })
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::AtMost(bound) => write!(f, "<= {bound}"),
            Bound::AtLeast(bound) => write!(f, ">= {bound}"),
        }
    }
}

/// Three digits that count, or all in front of the point.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

fn load_average() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    let first = text.split_whitespace().next().unwrap_or_default();
    Ok(first.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(median: f64) -> Figure {
        Figure::new("w", "c", Unit::Milliseconds, Summary::of(vec![median]))
    }

    #[test]
    fn a_ratio_is_judged_on_the_right_side() {
        let base = Summary::of(vec![100.0]);
        let met = |median, bound| {
            let figure = figure(median).against("base", &base).target(bound);
            figure.target.expect("a target was set").met
        };
        assert!(met(105.0, Bound::AtMost(1.05)));
        assert!(!met(106.0, Bound::AtMost(1.05)));
        assert!(met(97.0, Bound::AtLeast(0.97)));
        assert!(!met(96.0, Bound::AtLeast(0.97)));
    }

    #[test]
    fn numbers_keep_three_digits() {
        assert_eq!(number(15_234.5), "15234");
        assert_eq!(number(44.44), "44.4");
        assert_eq!(number(4.444), "4.44");
        assert_eq!(number(-0.4444), "-0.444");
    }
}
