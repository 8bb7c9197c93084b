//! What the planner calls while it works.
//!
//! Owns the chain of these hooks for shadow mode. Must do nothing where no table is in that mode.

use pgrx::prelude::*;

use crate::shadow;

static mut PREVIOUS_RELATION: pg_sys::get_relation_info_hook_type = None;
static mut PREVIOUS_JOIN: pg_sys::set_join_pathlist_hook_type = None;

/// Installs the hooks.
pub fn init() {
    // SAFETY: the backend, or the postmaster, has one thread; the callbacks are static functions.
    unsafe {
        PREVIOUS_RELATION = pg_sys::get_relation_info_hook;
        pg_sys::get_relation_info_hook = Some(relation_arrives);
        PREVIOUS_JOIN = pg_sys::set_join_pathlist_hook;
        pg_sys::set_join_pathlist_hook = Some(join_is_made);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn relation_arrives(
    root: *mut pg_sys::PlannerInfo,
    relation: pg_sys::Oid,
    is_parent: bool,
    rel: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: Postgres passes what the previous hook expects too.
    unsafe {
        if let Some(previous) = PREVIOUS_RELATION {
            #[allow(
                ffi_unwind_calls,
                reason = "the boundary turns a Postgres error into a panic"
            )]
            pgrx::pg_sys::ffi::pg_guard_ffi_boundary(|| previous(root, relation, is_parent, rel));
        }
        shadow::arrive(root, relation, rel);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn join_is_made(
    root: *mut pg_sys::PlannerInfo,
    join: *mut pg_sys::RelOptInfo,
    outer: *mut pg_sys::RelOptInfo,
    inner: *mut pg_sys::RelOptInfo,
    kind: pg_sys::JoinType::Type,
    extra: *mut pg_sys::JoinPathExtraData,
) {
    // SAFETY: Postgres passes what the previous hook expects too.
    unsafe {
        if let Some(previous) = PREVIOUS_JOIN {
            #[allow(
                ffi_unwind_calls,
                reason = "the boundary turns a Postgres error into a panic"
            )]
            pgrx::pg_sys::ffi::pg_guard_ffi_boundary(|| {
                previous(root, join, outer, inner, kind, extra);
            });
        }
        shadow::attach(root, join);
    }
}
