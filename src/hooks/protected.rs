//! What of the context a statement needs, by the protected tables that it names.
//!
//! Owns the session's list of protected tables. Decides from the range table and the acting role, so
//! that the answer does not depend on which rows a plan happens to evaluate.

use std::cell::RefCell;

use pgrx::prelude::*;

use crate::cache::generation;
use crate::catalog::{self, RelationName};
use crate::lists;
use crate::pg_compat::{self, NamedRelation};
use crate::policy::{CommandNeeds, Needs};
use crate::{binding, registry};

/// An enforced table, and what its commands need.
struct Protected {
    relation: u32,
    needs: CommandNeeds,
}

thread_local! {
    /// Sorted by relation.
    static PROTECTED: RefCell<Vec<Protected>> = const { RefCell::new(Vec::new()) };
}

/// What the statement needs of the context, for the tables with enforced policies that it names and
/// that `count`.
///
/// # Safety
/// `statement` is a valid planned statement.
pub unsafe fn needs(
    statement: *const pg_sys::PlannedStmt,
    count: impl Fn(&NamedRelation) -> bool,
) -> Needs {
    let mut sum = Needs::default();
    // SAFETY: by the caller's promise; an entry that names a relation has its permissions.
    unsafe {
        let entries = lists::each::<pg_sys::RangeTblEntry>((*statement).rtable);
        if entries.is_empty() || !is_any() {
            return sum;
        }
        for entry in entries {
            let Some(needs) = of_commands((**entry).relid) else {
                continue;
            };
            if let Some(named) = pg_compat::named_relation(statement, *entry) {
                let needs = needs.required(named.required);
                if needs != Needs::default() && count(&named) {
                    sum = sum.and(needs);
                }
            }
        }
    }
    sum
}

/// The first enforced table in a range table.
///
/// # Safety
/// A valid range table.
pub unsafe fn first(entries: *mut pg_sys::List) -> Option<pg_sys::Oid> {
    // SAFETY: by the caller's promise.
    unsafe {
        lists::each::<pg_sys::RangeTblEntry>(entries)
            .iter()
            .map(|entry| (**entry).relid)
            .find(|relation| is_enforced(*relation))
    }
}

/// The enforced table that the statement writes to.
///
/// # Safety
/// `statement` is a valid planned statement.
pub unsafe fn target(statement: *const pg_sys::PlannedStmt) -> Option<pg_sys::Oid> {
    // SAFETY: by the caller's promise.
    unsafe { lists::written_relations(statement) }.find(|relation| is_enforced(*relation))
}

/// Whether a table is enforced, as far as is known without reading the registry.
pub fn is_enforced(relation: pg_sys::Oid) -> bool {
    of_commands(relation).is_some()
}

/// Whether row security binds the role that the relation's permissions are checked for.
pub fn binds(named: &NamedRelation) -> bool {
    // SAFETY: catalog lookups by oid, without an error.
    let bound = unsafe { pg_sys::check_enable_rls(named.relation, named.acting_role, true) };
    bound == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32
}

/// What the commands on an enforced table need. Entries that are no relations have no oid.
fn of_commands(relation: pg_sys::Oid) -> Option<CommandNeeds> {
    PROTECTED.with_borrow(|protected| {
        let place = protected.binary_search_by_key(&relation.to_u32(), |table| table.relation);
        place
            .ok()
            .and_then(|place| protected.get(place))
            .map(|table| table.needs)
    })
}

/// Whether any table is enforced; reads the registry where that may have changed.
pub fn is_any() -> bool {
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
fn read() -> Option<Vec<Protected>> {
    let tables = binding::registry_tables()?;
    let mut found = Vec::new();
    for row in registry::protection_rows(tables.protection) {
        if row.mode == "enforce" {
            let needs = CommandNeeds::of_row(&row.template, &row.options);
            let name = RelationName {
                schema: row.schema,
                name: row.name,
            };
            let relation = catalog::registered_relation(&name, row.relation, row.database);
            found.extend(relation.map(|relation| Protected {
                relation: relation.to_u32(),
                needs,
            }));
        }
    }
    found.sort_unstable_by_key(|table| table.relation);
    Some(found)
}
