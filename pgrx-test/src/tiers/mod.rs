//! The test tiers, each in a file of its own: what they run and how they count it.
//!
//! A tier never decides that something need not run: what it cannot run is a failure with a name.

pub mod client;
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
}

impl Tier {
    pub const ALL: [Tier; 4] = [Tier::Unit, Tier::Client, Tier::Regress, Tier::Isolation];

    pub fn name(self) -> &'static str {
        match self {
            Tier::Unit => "unit",
            Tier::Client => "client",
            Tier::Regress => "regress",
            Tier::Isolation => "isolation",
        }
    }
}
