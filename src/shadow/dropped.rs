//! Databases that are dropped: what was recorded there goes with them, before their oid is used again.

use pgrx::is_a;
use pgrx::prelude::*;

use super::store;

/// The database that a utility statement drops.
///
/// # Safety
/// `statement` is a valid utility statement.
pub unsafe fn database(statement: *const pg_sys::PlannedStmt) -> Option<pg_sys::Oid> {
    // SAFETY: by the caller's promise.
    unsafe {
        let drop = (*statement).utilityStmt.cast::<pg_sys::DropdbStmt>();
        if !is_a(drop.cast(), pg_sys::NodeTag::T_DropdbStmt) {
            return None;
        }
        let database = pg_sys::get_database_oid((*drop).dbname, true);
        (database != pg_sys::InvalidOid).then_some(database)
    }
}

/// It is dropped: nothing can bring it back.
pub fn forget(database: pg_sys::Oid) {
    store::forget_database(database.to_u32());
}
