//! Which tests of written rows a statement needs.
//!
//! Owns the list of Postgres's `get_row_security_policies` for each command, less what an earlier test
//! implies. Must never leave one out that can fail by itself.

use pgrx::pg_sys;

use super::nodes;
use super::predicate::{Asked, Check, Use};
use super::record::Command;
use super::tables::Table;
use crate::pg_compat::planner::Asked as Permissions;

use pg_sys::CmdType;

/// The tests, each with the command that it is reported for.
///
/// # Safety
/// A valid query whose target is the relation that `asked` is about.
pub unsafe fn checks(
    query: *const pg_sys::Query,
    asked: &Asked<'_>,
    table: &Table,
    permissions: &Permissions,
) -> Vec<(Command, Check)> {
    let reads = permissions.permissions & u64::from(pg_sys::ACL_SELECT) != 0;
    // SAFETY: by the caller's promise.
    let (command, conflict, returns) = unsafe {
        let conflict = (*query).onConflict;
        let updates = !conflict.is_null()
            && (*conflict).action == pg_sys::OnConflictAction::ONCONFLICT_UPDATE;
        (
            (*query).commandType,
            updates,
            !(*query).returningList.is_null(),
        )
    };
    let mut needed = Vec::new();
    match command {
        CmdType::CMD_INSERT => {
            needed.push((Command::Insert, asked.insertable(reads)));
            if conflict {
                let found = asked.found_by_conflict(reads);
                let left = asked.updatable(reads);
                let implied = unchanged(table, &left, found.predicate.node, asked, permissions);
                needed.push((Command::Insert, found));
                if !implied {
                    needed.push((Command::Insert, left));
                }
            }
        }
        CmdType::CMD_UPDATE => {
            let before = asked.visible(Use::Update { reads });
            let left = asked.updatable(reads);
            if !unchanged(table, &left, before.node, asked, permissions) {
                needed.push((Command::Update, left));
            }
        }
        CmdType::CMD_MERGE => {
            let before = asked.visible(Use::Merge { reads });
            for check in [asked.merge_updatable(), asked.merge_deletable()] {
                if !same(check.predicate.node, before.node) {
                    needed.push((Command::Merge, check));
                }
            }
            let left = asked.updatable(reads);
            if !unchanged(table, &left, before.node, asked, permissions) {
                needed.push((Command::Merge, left));
            }
            needed.push((Command::Merge, asked.insertable(reads && returns)));
        }
        _ => {}
    }
    needed
}

fn same(one: *mut pg_sys::Node, other: *mut pg_sys::Node) -> bool {
    // SAFETY: valid nodes, only read.
    unsafe { pg_sys::equal(one.cast(), other.cast()) }
}

/// Whether a row that passed the same test before the update passes it after: no column that the test
/// looks at is written.
fn unchanged(
    table: &Table,
    left: &Check,
    before: *mut pg_sys::Node,
    asked: &Asked<'_>,
    permissions: &Permissions,
) -> bool {
    let node = left.predicate.node;
    if !same(node, before) || other_columns_change(table.relation) {
        return false;
    }
    // SAFETY: a valid node. What a sub-select looks at is not found below.
    if unsafe { pg_sys::checkExprHasSubLink(node) } {
        return false;
    }
    let mut looked_at = core::ptr::null_mut();
    // SAFETY: a valid node; sets of columns in Postgres's own numbering.
    unsafe {
        pg_sys::pull_varattnos(node, asked.number as u32, &mut looked_at);
        let whole_row = -pg_sys::FirstLowInvalidHeapAttributeNumber;
        !pg_sys::bms_is_member(whole_row, looked_at)
            && !pg_sys::bms_overlap(looked_at, permissions.updated)
            && !nodes::numbers(looked_at).is_empty()
    }
}

/// Whether columns may change that the statement does not assign: by triggers, by generation, or in
/// tables below that have triggers of their own.
fn other_columns_change(relation: pg_sys::Oid) -> bool {
    // SAFETY: an open relation, closed again; the statement holds its lock.
    unsafe {
        let open = pg_sys::RelationIdGetRelation(relation);
        if open.is_null() {
            return true;
        }
        let triggers = (*open).trigdesc;
        let constraints = (*(*open).rd_att).constr;
        let change = (!triggers.is_null() && (*triggers).trig_update_before_row)
            || (!constraints.is_null() && (*constraints).has_generated_stored)
            || (*(*open).rd_rel).relhassubclass;
        pg_sys::RelationClose(open);
        change
    }
}
