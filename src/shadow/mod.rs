//! Shadow mode: what enforcement would change, recorded without changing anything.
//!
//! Nothing is in the catalog. While a statement is planned, each relation in shadow mode gets a recorder,
//! `predicate OR tenancy.shadow_denied(..)`, which is always true; it is moved after all filters and joins
//! that apply to its rows, so that only rows are recorded that the statement would have used.
//!
//! | question | file |
//! |---|---|
//! | which tables, which policies, which roles | `tables`, `policies`, `bound` |
//! | what enforcement would ask of a row | `predicate`, `sublinks`, `writes` |
//! | the way of a recorder through the planner, in this order | `planning`, `inject`, `arrive`, `place`, `defer`, `finish`, `guard` |
//! | how much a record says | `precision` |
//! | what that way shares | `state`, `recognise`, `build`, `nodes`, `functions` |
//! | while a statement runs | `statement`, `recorder`, `what`, `copy`, `moves` |
//! | whether what was recorded matters: when, which queries, how | `confirm`, `repeatable`, `kept`, `compare`, `receiver`, `multiset`, `unnoticed` |
//! | what is recorded, and where it is kept | `record`, `normalise`, `store`; what is not: `unrecorded` |
//! | what enforcement did refuse | `refused` |
//! | databases that are dropped | `dropped` |
//! | whether a table can be enforced | `readiness`, `unseen` |
//! | what SQL calls, and who may read it | `entry`, `visible` |

mod arrive;
mod bound;
mod build;
mod compare;
mod confirm;
mod copy;
mod defer;
mod dropped;
mod entry;
mod finish;
mod functions;
mod guard;
mod inject;
mod kept;
mod moves;
mod multiset;
mod nodes;
mod normalise;
mod place;
mod planning;
mod policies;
mod precision;
mod predicate;
mod readiness;
mod receiver;
mod recognise;
mod record;
mod recorder;
mod refused;
mod repeatable;
mod state;
mod statement;
mod store;
mod sublinks;
mod tables;
mod unnoticed;
mod unrecorded;
mod unseen;
mod visible;
mod what;
mod writes;

pub use arrive::arrive;
pub use confirm::{after, before};
pub use copy::utility;
pub use defer::attach;
pub use dropped::{database as dropped_database, forget as forget_database};
pub use moves::watch_moves;
pub use planning::plan;
pub use readiness::NO_STATEMENT;
pub use refused::{missing_context, statement_starts, watch, watch_planning};
pub use statement::{Running, continues, starts};
pub use store::init;
pub use unrecorded::Unrecorded;
pub use unseen::begin;

use crate::error::{Error, Kind, Result};

/// Refuses shadow mode where it could not see every statement, or would have nowhere to record.
pub fn require() -> Result<()> {
    if store::attach() {
        return Ok(());
    }
    Err(Error::new(
        Kind::ObjectNotInPrerequisiteState,
        "shadow mode needs the library from the start of the server",
    )
    .detail("Sessions that run without it would not be recorded, and records live in shared memory.")
    .hint("Add pg_tenancy to shared_preload_libraries and restart the server (from 17 on session_preload_libraries will do), or give mode => 'permissive' or 'enforce'."))
}
