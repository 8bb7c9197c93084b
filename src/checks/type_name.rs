//! What a name of a type means.
//!
//! Owns that Postgres's own parser reads it, and that the caller's `search_path` has no part in it.

use pgrx::prelude::*;

use crate::pg_compat;
use crate::policy::subtransaction::attempt_reading;
use crate::registry::PinnedSearchPath;

/// Oid and modifier of the type; `None` where there is none of that name.
pub fn parsed(name: &str, schema: &str) -> Option<(pg_sys::Oid, i32)> {
    attempt_reading(|| {
        let _path = PinnedSearchPath::before_schema(schema);
        Ok(pg_compat::parse_type(name))
    })
    .ok()
}

#[pg_extern(sql = false)]
fn parsed_type(name: &str, schema: &str) -> Option<Vec<i64>> {
    parsed(name, schema).map(|(oid, modifier)| vec![i64::from(oid.to_u32()), i64::from(modifier)])
}
