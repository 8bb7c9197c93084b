//! Queries that are continued: cursors, portals with a row limit, loops over a query.
//!
//! Owns the rule that a query on a protected table goes on only for the tenant it was started for, and,
//! where the table's policies depend on more, for the same user with the same roles. Without it the
//! plan would decide whose rows come: an index scan keeps the tenant that its key was computed for, a
//! sequential scan asks again for every row. Costs nothing for a query on other tables, and a
//! comparison of pointers for one on a protected table.

use std::cell::Cell;

use pgrx::prelude::*;

use super::protected;
use crate::cache::generation;
use crate::context::resolve::Mark;
use crate::context::{hot, resolve};
use crate::error::{Error, Kind, OrRaise, Result};
use crate::policy::Same;
use crate::shadow;

/// What a query was started for, kept in the query's own memory, which Postgres frees whichever way
/// the query ends.
#[repr(C)]
struct Started {
    /// Only there to be found again, and to drop what follows: see `started` and `freed`.
    callback: pg_sys::MemoryContextCallback,
    mark: Mark,
    /// It ran already: what was taken in as it started may be long ago.
    has_run: Cell<bool>,
}

/// Notes the context of a query that was just started.
///
/// # Safety
/// `query` is a valid query with its execution state.
pub unsafe fn note(query: *mut pg_sys::QueryDesc, mark: Mark) {
    // SAFETY: by the caller's promise; the allocation lives in the context it is registered with.
    unsafe {
        if (*query).estate.is_null() {
            return;
        }
        let memory = (*(*query).estate).es_query_cxt;
        let started = pg_sys::MemoryContextAlloc(memory, size_of::<Started>()).cast::<Started>();
        started.write(Started {
            callback: pg_sys::MemoryContextCallback {
                func: Some(freed),
                arg: started.cast(),
                next: core::ptr::null_mut(),
            },
            mark,
            has_run: Cell::new(false),
        });
        pg_sys::MemoryContextRegisterResetCallback(memory, &raw mut (*started).callback);
    }
}

/// Refuses to go on with a query whose context is no longer the current one.
///
/// # Safety
/// `query` is a valid query.
pub unsafe fn check(query: *mut pg_sys::QueryDesc) {
    // SAFETY: by the caller's promise; the mark lives as long as the query.
    unsafe {
        let Some(started) = started(query) else {
            return;
        };
        if (*started).has_run.replace(true) {
            // The second Execute of a portal is no statement that anything else is told of.
            generation::accept_messages();
            resolve::start_statement(false);
        }
        let mark = &(*started).mark;
        if mark.is_known() {
            return;
        }
        let same = protected::needs((*query).plannedstmt, protected::binds).same;
        if same != Same::Nothing {
            compare(mark, same).or_raise();
        }
        shadow::continues(query, |same| {
            mark.is_current(same == Same::Identity).unwrap_or(false)
        });
        if same == Same::Nothing {
            return;
        }
        if (*(*query).plannedstmt).parallelModeNeeded {
            // The leader must see what its workers will: the statement's snapshot.
            hot::forget();
        }
    }
}

fn compare(mark: &Mark, same: Same) -> Result<()> {
    if mark.is_current(same == Same::Identity)? {
        return Ok(());
    }
    Err(Error::new(
        Kind::ObjectNotInPrerequisiteState,
        "the tenant context changed since the query was started",
    )
    .detail("The query reads or writes a protected table.")
    .hint(
        "Fetch all rows or close the cursor before the context changes, or set it back to go on.",
    ))
}

/// # Safety
/// `query` is a valid query.
unsafe fn started(query: *mut pg_sys::QueryDesc) -> Option<*const Started> {
    // SAFETY: callbacks with our function are the first member of a `Started`.
    unsafe {
        if (*query).estate.is_null() {
            return None;
        }
        let mut callback = (*(*(*query).estate).es_query_cxt).reset_cbs;
        while !callback.is_null() {
            if (*callback).func.is_some_and(|function| {
                core::ptr::fn_addr_eq(function, freed as unsafe extern "C-unwind" fn(_))
            }) {
                return Some(callback.cast::<Started>());
            }
            callback = (*callback).next;
        }
        None
    }
}

/// Called as the query's memory is freed.
unsafe extern "C-unwind" fn freed(started: *mut core::ffi::c_void) {
    // SAFETY: the argument is the `Started` that the callback was registered with, called once; what
    // is dropped is Rust's own memory.
    unsafe { core::ptr::drop_in_place(&raw mut (*started.cast::<Started>()).mark) };
}
