//! Which statements touch a table whose policies need a context.
//!
//! Owns the session's list of protected tables. Decides from the range table and the acting role, so
//! that the answer does not depend on which rows a plan happens to evaluate.

use std::cell::RefCell;

use pgrx::PgList;
use pgrx::prelude::*;

use crate::cache::generation;
use crate::catalog::{self, RelationName};
use crate::{binding, pg_compat, registry};

thread_local! {
    /// Sorted.
    static PROTECTED: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// Whether the statement names a table with enforced policies, whomever they bind: the cheap exit.
///
/// # Safety
/// `statement` is a valid planned statement.
pub unsafe fn is_named(statement: *const pg_sys::PlannedStmt) -> bool {
    // SAFETY: by the caller's promise.
    unsafe { any_named(statement, |_| true) }
}

/// Whether the statement names a table with enforced policies that bind the role it is checked for.
///
/// # Safety
/// `statement` is a valid planned statement.
pub unsafe fn is_touched(statement: *const pg_sys::PlannedStmt) -> bool {
    // SAFETY: by the caller's promise.
    unsafe {
        any_named(statement, |named| {
            pg_sys::check_enable_rls(named.relation, named.acting_role, true)
                == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32
        })
    }
}

/// # Safety
/// `statement` is a valid planned statement.
unsafe fn any_named(
    statement: *const pg_sys::PlannedStmt,
    counts: impl Fn(&pg_compat::NamedRelation) -> bool,
) -> bool {
    // SAFETY: by the caller's promise; an entry that names a relation has its permissions.
    unsafe {
        let entries = PgList::<pg_sys::RangeTblEntry>::from_pg((*statement).rtable);
        if entries.is_empty() || !any_protected() {
            return false;
        }
        entries
            .iter_ptr()
            .filter(|entry| is_protected((**entry).relid))
            .filter_map(|entry| pg_compat::named_relation(statement, entry))
            .any(|named| counts(&named))
    }
}

/// Entries that are no relations have no oid.
fn is_protected(relation: pg_sys::Oid) -> bool {
    PROTECTED.with_borrow(|protected| protected.binary_search(&relation.to_u32()).is_ok())
}

fn any_protected() -> bool {
    if generation::take_protection_stale() {
        PROTECTED.with_borrow_mut(Vec::clear);
        let mut unfinished = StaleUnlessDone(true);
        if let Some(found) = read() {
            PROTECTED.replace(found);
            unfinished.0 = false;
        }
    }
    PROTECTED.with_borrow(|protected| !protected.is_empty())
}

struct StaleUnlessDone(bool);

impl Drop for StaleUnlessDone {
    fn drop(&mut self) {
        if self.0 {
            generation::mark_protection_stale();
        }
    }
}

/// The enforced tables of the registry; `None` where the extension is not installed.
fn read() -> Option<Vec<u32>> {
    let tables = binding::registry_tables()?;
    let mut found = Vec::new();
    for row in registry::protection_rows(tables.protection) {
        if row.mode == "enforce" {
            let name = RelationName {
                schema: row.schema,
                name: row.name,
            };
            let relation = catalog::registered_relation(&name, row.relation, row.database);
            found.extend(relation.map(pg_sys::Oid::to_u32));
        }
    }
    found.sort_unstable();
    Some(found)
}
