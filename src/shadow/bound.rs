//! Whom enforcement would bind.
//!
//! Owns the answer of Postgres's `check_enable_rls` for a table whose row security is not on yet. Must
//! answer exactly as that would once it is.

use pgrx::pg_sys;

use super::tables::Table;

/// The role that a statement acts as on a relation.
pub fn acting(role: pg_sys::Oid) -> pg_sys::Oid {
    if role == pg_sys::InvalidOid {
        // SAFETY: a plain read of the backend's state.
        unsafe { pg_sys::GetUserId() }
    } else {
        role
    }
}

/// Whether policies of the table would bind a role; `InvalidOid` is the current one.
pub fn binds(table: &Table, role: pg_sys::Oid) -> bool {
    let role = acting(role);
    // SAFETY: catalog lookups by oid, and a plain read of the backend's state.
    unsafe {
        if pg_sys::has_bypassrls_privilege(role) {
            return false;
        }
        let is_owner = pg_sys::has_privs_of_role(role, table.owner);
        !is_owner || (table.force && !pg_sys::InNoForceRLSOperation())
    }
}

/// Whether row security is on for the table already and binds a role; `InvalidOid` is the current one.
pub fn is_bound_now(table: &Table, role: pg_sys::Oid) -> bool {
    // SAFETY: catalog lookups by oid; raises nothing.
    let now = unsafe { pg_sys::check_enable_rls(table.relation, role, true) };
    now == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32
}
