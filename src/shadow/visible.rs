//! Who may read what was recorded: it names tenants, users and statements.

use pgrx::pg_sys;

use crate::{catalog, registry};

/// Whether the caller owns the relation, administers tenancy, or may read all statistics.
pub fn to_caller(relation: pg_sys::Oid) -> bool {
    // SAFETY: catalog lookups for the acting role.
    let reads_statistics = unsafe {
        pg_sys::has_privs_of_role(
            pg_sys::GetUserId(),
            pg_sys::Oid::from(pg_sys::ROLE_PG_READ_ALL_STATS),
        )
    };
    reads_statistics
        || registry::is_administrator()
        || catalog::relation_owner(relation).is_ok_and(catalog::acts_as)
}
