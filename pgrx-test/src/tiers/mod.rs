//! The test tiers, each in a file of its own: what they run and how they count it.
//!
//! A tier never decides that something need not run: what it cannot run is a failure with a name.

pub mod client;
pub mod core_suites;
pub mod golden;
pub mod libtest;
pub mod unit;

use clap::ValueEnum;

/// Which tier; also the titles of the table's columns, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Tier {
    /// `cargo test` of the pure logic in the extension crate and the harness; once a run.
    Unit,
    /// The integration tests in `pgrx-test/tests`, against both clusters of a version.
    Client,
    /// Golden files in `tests/pg_regress`.
    Regress,
    /// Concurrent sessions in `tests/isolation`.
    Isolation,
    /// Postgres's own regression suite; with `--full`, or when named.
    CoreRegress,
    /// Postgres's own isolation suite; with `--full`, or when named.
    CoreIsolation,
}

impl Tier {
    pub const ALL: [Tier; 6] = [
        Tier::Unit,
        Tier::Client,
        Tier::Regress,
        Tier::Isolation,
        Tier::CoreRegress,
        Tier::CoreIsolation,
    ];

    /// Those that run on every server; the others are for the one with assertions.
    pub fn is_ours(self) -> bool {
        !matches!(self, Tier::CoreRegress | Tier::CoreIsolation)
    }

    pub fn name(self) -> &'static str {
        match self {
            Tier::Unit => "unit",
            Tier::Client => "client",
            Tier::Regress => "regress",
            Tier::Isolation => "isolation",
            Tier::CoreRegress => "core-regress",
            Tier::CoreIsolation => "core-isolation",
        }
    }
}
