//! Whether every recorder that is needed got into the plan.
//!
//! Owns the comparison: a relation that came to the planner and is scanned has its recorder somewhere.
//! Relations that are not scanned need none: removed joins, conditions that are never true, sub-queries
//! that nobody reads. Must err towards missing one.

use std::collections::HashMap;

use pgrx::pg_sys;

use super::finish::Inventory;
use super::nodes;
use super::state::Arrived;

/// How many recorders are missing.
///
/// # Safety
/// `statement` is the plan that the inventory is of.
pub unsafe fn missing(
    statement: *mut pg_sys::PlannedStmt,
    arrived: &[Arrived],
    inventory: &Inventory,
) -> usize {
    if arrived.is_empty() {
        return 0;
    }
    // SAFETY: by the caller's promise.
    unsafe {
        let parents: HashMap<u32, u32> =
            nodes::each::<pg_sys::AppendRelInfo>((*statement).appendRelations)
                .iter()
                .map(|member| ((**member).child_relid, (**member).parent_relid))
                .collect();
        let entries = nodes::each::<pg_sys::RangeTblEntry>((*statement).rtable);
        let names = |number: u32| entries.get(number as usize - 1).map(|entry| (**entry).eref);
        // The recorder of a partition is its parent's, of whatever level.
        let scanned: Vec<*mut pg_sys::Alias> = inventory
            .scanned
            .iter()
            .filter(|number| **number > 0)
            .flat_map(|number| {
                core::iter::successors(Some(*number), |number| parents.get(number).copied())
            })
            .filter_map(names)
            .collect();
        arrived
            .iter()
            .filter(|one| {
                scanned.contains(&one.names) && !inventory.recorders.contains(&one.number)
            })
            .count()
    }
}
