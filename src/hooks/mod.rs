//! Where Postgres calls the extension: the start of statements and the end of transactions.
//!
//! Owns the chain of hooks. Each does its cheap exits first; none reads the catalog before them.

mod protected;

use pgrx::prelude::*;

use crate::cache::generation;
use crate::context::{hot, resolve, setting};
use crate::error::OrRaise;
use crate::gucs::{self, MissingContext};
use crate::pg_compat;

static mut PREVIOUS_EXECUTOR_START: pg_sys::ExecutorStart_hook_type = None;

/// Installs the hooks and defines the default settings; called once from `_PG_init`.
pub fn init() {
    generation::init();
    // SAFETY: the backend, or the postmaster, has one thread; the callbacks are static functions.
    unsafe {
        PREVIOUS_EXECUTOR_START = pg_sys::ExecutorStart_hook;
        pg_sys::ExecutorStart_hook = Some(executor_start);
        pg_sys::RegisterXactCallback(Some(transaction_event), core::ptr::null_mut());
    }
    for name in setting::DEFAULT_NAMES {
        setting::define(name);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn executor_start(query: *mut pg_sys::QueryDesc, flags: i32) {
    // SAFETY: Postgres passes a valid query; the previous hook expects the same.
    unsafe {
        if !pg_compat::in_parallel_worker() && !resolve::is_resolving() {
            statement_starts((*query).plannedstmt, flags);
        }
        match PREVIOUS_EXECUTOR_START {
            #[allow(
                ffi_unwind_calls,
                reason = "the boundary turns a Postgres error into a panic"
            )]
            Some(previous) => pgrx::pg_sys::ffi::pg_guard_ffi_boundary(|| previous(query, flags)),
            None => pg_sys::standard_ExecutorStart(query, flags),
        }
    }
}

/// # Safety
/// `statement` is a valid planned statement.
unsafe fn statement_starts(statement: *const pg_sys::PlannedStmt, flags: i32) {
    generation::accept_messages();
    // SAFETY: by the caller's promise.
    let parallel = unsafe { (*statement).parallelModeNeeded };
    resolve::start_statement(parallel);
    let only_explained = flags & pg_sys::EXEC_FLAG_EXPLAIN_ONLY as i32 != 0;
    if parallel && !only_explained {
        resolve::start_parallel_statement().or_raise();
    }
    if hot::has_tenant() || only_explained || gucs::missing_context() == MissingContext::Deny {
        return;
    }
    // SAFETY: by the caller's promise.
    if unsafe { protected::is_touched(statement) } {
        resolve::current_for_policy().or_raise();
        if parallel {
            // The leader must see what its workers will: the statement's snapshot.
            hot::forget();
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn transaction_event(
    event: pg_sys::XactEvent::Type,
    _argument: *mut core::ffi::c_void,
) {
    use pg_sys::XactEvent as E;
    match event {
        E::XACT_EVENT_PRE_COMMIT | E::XACT_EVENT_PRE_PREPARE => setting::end_transaction(),
        E::XACT_EVENT_COMMIT
        | E::XACT_EVENT_ABORT
        | E::XACT_EVENT_PREPARE
        | E::XACT_EVENT_PARALLEL_COMMIT
        | E::XACT_EVENT_PARALLEL_ABORT => resolve::end_transaction(),
        _ => {}
    }
}
