//! Planning a statement with recorders in it.
//!
//! Owns the order of things: put recorders in, have the statement planned, put the plan in order, see that
//! nothing is missing, and plan again the simple way if it is. Must cost nothing where no table is in
//! shadow mode, and next to nothing for a statement that names none.

use std::rc::Rc;

use pgrx::pg_sys;

use pg_sys::{PlannedStmt, Query};

use super::finish::Inventory;
use super::state::{Level, Planning};
use super::tables::{self, Known};
use super::{compare, confirm, finish, guard, inject, nodes, statement};
use crate::gucs::{self, ShadowPlacement};
use crate::pg_compat::planner as compat;

/// Plans a statement; `next` is the planner that would have been called.
///
/// # Safety
/// As Postgres calls `planner_hook`.
pub unsafe fn plan(
    query: *mut Query,
    next: impl Fn(*mut Query) -> *mut PlannedStmt,
) -> *mut PlannedStmt {
    let Some(known) = tables::known() else {
        return next(query);
    };
    // SAFETY: by the caller's promise.
    unsafe {
        if !may_touch(query, &known) {
            return next(query);
        }
        if compare::takes_plan() {
            let attempt = attempt(query, &known, ShadowPlacement::Scan, &next);
            if attempt.missing > 0 {
                compare::is_incomplete();
            }
            return attempt.planned;
        }
        // The planner scribbles on what it is given.
        let spare = nodes::copy(query);
        let mut made = attempt(query, &known, gucs::shadow_placement(), &next);
        if made.missing > 0 {
            made = attempt(nodes::copy(spare), &known, ShadowPlacement::Scan, &next);
        }
        if made.missing > 0 {
            statement::note_unplaced(made.planned, &known);
        } else {
            confirm::prepare(made.planned, spare, &made.planning, &made.inventory);
        }
        made.planned
    }
}

/// A statement as it was planned.
struct Attempt {
    planned: *mut PlannedStmt,
    planning: Planning,
    inventory: Inventory,
    /// How many recorders got lost.
    missing: usize,
}

unsafe fn attempt(
    query: *mut Query,
    known: &Rc<Known>,
    placement: ShadowPlacement,
    next: &impl Fn(*mut Query) -> *mut PlannedStmt,
) -> Attempt {
    // SAFETY: by the caller's promise.
    unsafe {
        let level = Level::begin(Planning::new(known.clone(), placement));
        inject::inject(query, known);
        let planned = next(query);
        compat::drop_empty_permissions(planned);
        let planning = level.end();
        if planning.is_touched {
            // Another role may be bound where this one is not.
            (*planned).dependsOnRole = true;
        }
        let inventory = finish::finish(planned, &known.functions);
        let missing = guard::missing(planned, &planning.arrived, &inventory);
        Attempt {
            planned,
            planning,
            inventory,
            missing,
        }
    }
}

/// Whether a query names a table in shadow mode, or a function that may turn out to read one.
unsafe fn may_touch(query: *mut Query, known: &Known) -> bool {
    // SAFETY: by the caller's promise.
    unsafe {
        nodes::any_entry(query, &mut |entry| {
            (*entry).rtekind == pg_sys::RTEKind::RTE_FUNCTION
                || inject::shadowed(entry, known).is_some()
        })
    }
}
