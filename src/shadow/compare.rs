//! Running a query without protection and with it, and comparing the results.
//!
//! Owns how both are had from one plan: the recorder at each scan answers true in one run and false in the
//! other, so that rows come in the same order, and only what enforcement takes away makes a difference.
//! Must record nothing meanwhile.

use std::cell::{Cell, RefCell};

use pgrx::pg_sys;

use pg_sys::{PlannedStmt, QueryDesc};

use super::kept::Kept;
use super::multiset::{Difference, Digest};
use super::receiver::{Keys, Receiver};
use super::{nodes, store::Verdict};
use crate::pg_compat;

/// Which rows recorders deny in a run.
enum Denied {
    /// None: as without protection.
    None,
    /// All: as under enforcement.
    All,
    /// Those of some tables.
    Of(Vec<pg_sys::Oid>),
}

thread_local! {
    static RUN: RefCell<Option<Denied>> = const { RefCell::new(None) };
    static IS_PLANNED_NEXT: Cell<bool> = const { Cell::new(false) };
    static IS_INCOMPLETE: Cell<bool> = const { Cell::new(false) };
}

/// Whether a comparison runs, and whether it denies the row of such a table.
pub fn denies(table: impl FnOnce() -> Option<pg_sys::Oid>) -> Option<bool> {
    RUN.with_borrow(|run| {
        Some(match run.as_ref()? {
            Denied::None => false,
            Denied::All => table().is_some(),
            Denied::Of(tables) => table().is_some_and(|table| tables.contains(&table)),
        })
    })
}

/// Whether the query that is planned now is one to compare by; asked once for each.
pub fn takes_plan() -> bool {
    IS_PLANNED_NEXT.take()
}

/// Called where such a plan lacks a recorder.
pub fn is_incomplete() {
    IS_INCOMPLETE.set(true);
}

/// Ends the runs, however that comes about.
struct Runs;

impl Runs {
    fn set(&self, denied: Denied) {
        RUN.replace(Some(denied));
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        RUN.replace(None);
        IS_PLANNED_NEXT.set(false);
    }
}

/// What enforcement would make of a query that was just run to its end; `None` where that cannot be told.
///
/// # Safety
/// `query` was run and not ended; `kept` belongs to its plan; a subtransaction is rolled back afterwards.
pub unsafe fn both_ways(query: *mut QueryDesc, kept: &Kept) -> Option<Verdict> {
    let runs = Runs;
    runs.set(Denied::None);
    // SAFETY: by the caller's promise.
    unsafe {
        pg_sys::PushActiveSnapshot((*query).snapshot);
        let memory = pg_sys::AllocSetContextCreateInternal(
            pg_sys::CurrentMemoryContext,
            c"pg_tenancy shadow row".as_ptr(),
            0,
            8 * 1024,
            8 * 1024 * 1024,
        );
        let plan = plan(query, kept)?;
        let keys = Keys::new();
        let run = |denied, each: &mut dyn FnMut(u128)| {
            runs.set(denied);
            let mut receiver = Receiver::new(&keys, memory, each);
            execute(query, plan, receiver.as_destination());
            receiver.digest
        };
        let mut difference = Difference::default();
        let plain = run(Denied::None, &mut |row| difference.count(row, 1));
        if plain.rows != (*(*query).estate).es_processed {
            return None;
        }
        let enforced = run(Denied::All, &mut |row| difference.count(row, -1));
        let is_ordered = !(*kept.query).sortClause.is_null();
        if plain.is_same(&enforced, is_ordered) {
            return Some(Verdict::Dismissed);
        }
        let again = |denied| -> Digest { run(denied, &mut |_| {}) };
        // Where it is another each time, nothing is shown; nor where records that are exact explain it.
        if !again(Denied::None).is_same(&plain, is_ordered)
            || (kept.others && again(Denied::Of(kept.unsure.clone())).is_same(&plain, is_ordered))
        {
            return None;
        }
        Some(Verdict::Confirmed {
            lost: difference.lost(plain, enforced),
        })
    }
}

/// A plan with all recorders at their scans.
unsafe fn plan(query: *mut QueryDesc, kept: &Kept) -> Option<*mut PlannedStmt> {
    // SAFETY: by the caller's promise; the planner is given a copy.
    unsafe {
        let copy = nodes::copy(kept.query);
        // For those who count statements this is none.
        (*copy).queryId = 0;
        IS_INCOMPLETE.set(false);
        IS_PLANNED_NEXT.set(true);
        let plan = pg_sys::planner(copy, (*query).sourceText, 0, (*query).params);
        let is_planned = !IS_PLANNED_NEXT.take() && !IS_INCOMPLETE.take();
        is_planned.then_some(plan)
    }
}

unsafe fn execute(
    original: *mut QueryDesc,
    plan: *mut PlannedStmt,
    destination: *mut pg_sys::DestReceiver,
) {
    // SAFETY: by the caller's promise. Past the hooks of others, who count, log and audit.
    unsafe {
        let query = pg_sys::CreateQueryDesc(
            plan,
            (*original).sourceText,
            (*original).snapshot,
            core::ptr::null_mut(),
            destination,
            (*original).params,
            (*original).queryEnv,
            0,
        );
        pg_sys::standard_ExecutorStart(query, 0);
        pg_compat::run_to_end(query);
        pg_sys::standard_ExecutorFinish(query);
        pg_sys::standard_ExecutorEnd(query);
        pg_sys::FreeQueryDesc(query);
    }
}
