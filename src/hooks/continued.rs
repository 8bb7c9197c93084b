//! Queries that are continued: cursors, portals with a row limit, loops over a query.
//!
//! Owns the rule that a query on a protected table goes on only for the tenant it was started for.
//! Without it the plan would decide whose rows come: an index scan keeps the tenant that its key was
//! computed for, a sequential scan asks again for every row. Costs nothing for a query on other tables,
//! and a comparison of two pointers for one on a protected table.

use pgrx::prelude::*;

use super::protected;
use crate::context::hot;
use crate::context::resolve::{self, TenantMark};
use crate::error::{Error, Kind, OrRaise, Result};

/// The tenant that a query was started for, kept in the query's own memory, which Postgres frees
/// whichever way the query ends.
#[repr(C)]
struct Started {
    /// Only there to be found again: see `started`.
    callback: pg_sys::MemoryContextCallback,
    tenant: TenantMark,
}

/// Notes the tenant of a query that was just started.
///
/// # Safety
/// `query` is a valid query with its execution state.
pub unsafe fn note(query: *mut pg_sys::QueryDesc, tenant: TenantMark) {
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
                arg: core::ptr::null_mut(),
                next: core::ptr::null_mut(),
            },
            tenant,
        });
        pg_sys::MemoryContextRegisterResetCallback(memory, &raw mut (*started).callback);
    }
}

/// Refuses to go on with a query whose tenant is no longer the current one.
///
/// # Safety
/// `query` is a valid query.
pub unsafe fn check(query: *mut pg_sys::QueryDesc) {
    // SAFETY: by the caller's promise.
    unsafe {
        let Some(tenant) = started(query) else {
            return;
        };
        if resolve::known_tenant() == Some(tenant) || !protected::is_touched((*query).plannedstmt) {
            return;
        }
        compare(tenant).or_raise();
        if (*(*query).plannedstmt).parallelModeNeeded {
            // The leader must see what its workers will: the statement's snapshot.
            hot::forget();
        }
    }
}

fn compare(tenant: TenantMark) -> Result<()> {
    if resolve::tenant_mark()? == tenant {
        return Ok(());
    }
    Err(Error::new(
        Kind::ObjectNotInPrerequisiteState,
        "the tenant context changed since the query was started",
    )
    .detail("The query reads or writes a protected table.")
    .hint("Fetch all rows or close the cursor before the tenant changes, or set the context back to go on."))
}

/// # Safety
/// `query` is a valid query.
unsafe fn started(query: *mut pg_sys::QueryDesc) -> Option<TenantMark> {
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
                return Some((*callback.cast::<Started>()).tenant);
            }
            callback = (*callback).next;
        }
        None
    }
}

/// Called as the query's memory is freed; nothing of ours is outside of it.
unsafe extern "C-unwind" fn freed(_argument: *mut core::ffi::c_void) {}
