//! When records that are not exact are confirmed or dismissed by comparison.
//!
//! Owns the conditions: a statement of the client's own that reads, was run to its end at once, was short
//! enough, and is alone in having made such records under its number. Must cost a look at the plan where
//! it holds none.

use std::cell::Cell;
use std::time::{Duration, Instant};

use pgrx::pg_sys;

use pg_sys::{PlannedStmt, Query, QueryDesc};

use super::finish::Inventory;
use super::kept::{self, Kept, NOT_KEPT};
use super::state::Planning;
use super::store::Unsettled;
use super::{compare, repeatable, statement, store, unnoticed};
use crate::{gucs, pg_compat};

/// How many times the statement's own limit both runs may take together.
const PATIENCE: i32 = 3;

thread_local! {
    /// The last statement number with records that nothing was decided about.
    static UNSETTLED: Cell<u64> = const { Cell::new(0) };
    /// How many statements inside of others were started that touch a table in shadow mode.
    static INNER: Cell<u64> = const { Cell::new(0) };
    /// The last statement number that enforcement would have fail.
    static REFUSED: Cell<u64> = const { Cell::new(0) };
}

/// A record was made that is not exact.
pub fn note_unsettled(number: u64) {
    UNSETTLED.set(number);
}

/// A statement inside of another touches a table in shadow mode.
pub fn note_inner() {
    INNER.set(INNER.get() + 1);
}

/// Enforcement would have a statement fail.
pub fn note_refused(number: u64) {
    REFUSED.set(number);
}

/// Called for a finished plan: keeps its query where its records may have to be confirmed.
///
/// # Safety
/// `planned` was made of `query`, of which nothing was put into the other.
pub unsafe fn prepare(
    planned: *mut PlannedStmt,
    query: *mut Query,
    planning: &Planning,
    inventory: &Inventory,
) {
    if inventory.unsure.is_empty() {
        return;
    }
    let is_complete = planning.injected.values().all(|one| one.is_complete);
    // SAFETY: by the caller's promise.
    unsafe {
        let repeatable = (gucs::shadow_confirm_ms() > 0
            && is_complete
            && !inventory.is_foreign
            && !statement::is_running())
        .then(|| repeatable::examine(query))
        .flatten();
        let key = repeatable.map_or(NOT_KEPT, |repeatable| {
            kept::keep(Kept {
                query,
                unsure: inventory.unsure.iter().copied().collect(),
                others: !inventory.exact.is_subset(&inventory.unsure),
                calls_sql: repeatable.calls_sql,
            })
        });
        kept::note(planned, key);
    }
}

/// A run after which there may be something to confirm.
pub struct Chance {
    key: u32,
    number: u64,
    inner: u64,
    limit: i32,
    started: Instant,
}

/// Called before each run of a query; `is_whole` where it is to be run to its end.
///
/// # Safety
/// `query` is a valid query that was started.
pub unsafe fn before(query: *mut QueryDesc, is_whole: bool) -> Option<Chance> {
    // SAFETY: by the caller's promise.
    unsafe {
        let key = kept::note_of((*query).plannedstmt)?;
        if pg_compat::in_parallel_worker() {
            return None;
        }
        let number = statement::number();
        let limit = gucs::shadow_confirm_ms();
        if key == NOT_KEPT
            || limit == 0
            || !is_whole
            || (*query).already_executed
            || UNSETTLED.get() == number
            || !is_clients_own(query)
            || !can_compare()
        {
            if (*(*query).plannedstmt).parallelModeNeeded {
                // Workers may record, and nobody is told.
                note_unsettled(number);
            }
            return None;
        }
        Some(Chance {
            key,
            number,
            inner: INNER.get(),
            limit,
            started: Instant::now(),
        })
    }
}

/// Whether a portal of the client's runs exactly this query, for good.
unsafe fn is_clients_own(query: *mut QueryDesc) -> bool {
    // SAFETY: by the caller's promise; an active portal is valid.
    unsafe {
        let portal = pg_sys::ActivePortal;
        !statement::is_running()
            && !portal.is_null()
            && (*portal).queryDesc == query
            && (*portal).strategy == pg_sys::PortalStrategy::PORTAL_ONE_SELECT
            && (*portal).cursorOptions & pg_sys::CURSOR_OPT_HOLD as i32 == 0
    }
}

/// Neither where a subtransaction cannot be had, or turns a conflict into the end of the session, nor
/// where reading twice can fail somebody's transaction.
fn can_compare() -> bool {
    // SAFETY: plain reads of the backend's state.
    unsafe {
        !pg_sys::IsInParallelMode()
            && !pg_sys::RecoveryInProgress()
            && pg_sys::XactIsoLevel != pg_sys::XACT_SERIALIZABLE as i32
    }
}

/// Called after that run: compares, and has the records settled.
///
/// # Safety
/// `query` was run to its end, and is still the running one.
pub unsafe fn after(query: *mut QueryDesc, chance: &Chance) {
    // SAFETY: by the caller's promise.
    unsafe {
        let is_parallel = (*(*query).plannedstmt).parallelModeNeeded;
        // What workers have recorded is in the store alone.
        if !is_parallel && UNSETTLED.get() != chance.number {
            return;
        }
        let unsettled = store::unsettled(chance.number);
        if unsettled == Unsettled::None {
            return;
        }
        note_unsettled(chance.number);
        let verdict = (unsettled == Unsettled::Asks)
            .then(|| verdict(query, chance, is_parallel))
            .flatten();
        if (*pg_sys::ActivePortal).cplan.is_null() {
            kept::forget(chance.key);
        }
        if let Some(verdict) = verdict {
            store::settle(chance.number, verdict);
            UNSETTLED.set(0);
        }
    }
}

unsafe fn verdict(
    query: *mut QueryDesc,
    chance: &Chance,
    is_parallel: bool,
) -> Option<store::Verdict> {
    // SAFETY: by the caller's promise; plain reads of the backend's state.
    unsafe {
        let limit = Duration::from_millis(u64::try_from(chance.limit).unwrap_or(0));
        if chance.started.elapsed() > limit
            || REFUSED.get() == chance.number
            || INNER.get() != chance.inner
            || pg_sys::QueryCancelPending != 0
            || pg_sys::ProcDiePending != 0
        {
            return None;
        }
        let kept = kept::find(chance.key)?;
        if is_parallel && kept.calls_sql {
            // What ran inside of workers is not known.
            return None;
        }
        let patience = chance.limit.saturating_mul(PATIENCE);
        unnoticed::run(patience, || compare::both_ways(query, &kept))
            .filter(|_| INNER.get() == chance.inner)
    }
}
