//! Whether a table can be read with the caller's rights and without running anybody's code.
//!
//! Owns the look at it once it is locked, when it can change no more: between finding out what to count and
//! counting it, its owner may have put a view in its place, or a column of a type of his own, whose casts are
//! his functions. Must never let such a table be read: the caller may be a superuser.

use pgrx::pg_sys;

use crate::binding::is_built_in;
use crate::catalog::{self, quote_identifier as quoted};

/// Locks the tables as reading does, until the transaction ends, and says why they cannot be read; `query` is what
/// would, with columns named behind a point.
pub fn hold(relations: &[pg_sys::Oid], query: &str) -> Option<String> {
    for relation in relations {
        // SAFETY: takes a lock, which waits as a query would, and looks up what others have committed.
        unsafe { pg_sys::LockRelationOid(*relation, pg_sys::AccessShareLock as i32) };
    }
    relations
        .iter()
        .find_map(|relation| obstacle(*relation, query))
}

fn obstacle(relation: pg_sys::Oid, query: &str) -> Option<String> {
    let Some(name) = catalog::relation_name(relation) else {
        return Some("a table is gone".to_owned());
    };
    let known = name.to_string();
    let is_named =
        query.contains(&known) && catalog::relation_oid(&name.schema, &name.name) == Some(relation);
    // SAFETY: catalog lookups by oid, without an error.
    let (kind, row_security) = unsafe {
        (
            pg_sys::get_rel_relkind(relation) as u8,
            pg_sys::check_enable_rls(relation, pg_sys::InvalidOid, true),
        )
    };
    if !is_named || !matches!(kind, b'r' | b'p') {
        return Some(format!("{known} was put in the place of another table"));
    }
    if row_security == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32 {
        return Some(format!("row security keeps rows of {known} from who asks"));
    }
    foreign_column(relation, query).map(|column| {
        format!("column {column} of {known} is of a type that its maker may have given casts")
    })
}

/// A column in the query whose type belongs to somebody who is no superuser.
fn foreign_column(relation: pg_sys::Oid, query: &str) -> Option<String> {
    // SAFETY: catalog lookups by oid and number; null for a dropped column.
    unsafe {
        // One past the last has no name, and neither has one that was dropped.
        let named = |number: &i16| pg_sys::get_atttype(relation, *number) != pg_sys::InvalidOid;
        (1..=pg_sys::MaxHeapAttributeNumber as i16)
            .filter(named)
            .find_map(|number| {
                let name = catalog::string_from(pg_sys::get_attname(relation, number, true))?;
                let name = quoted(&name);
                if !query.contains(&format!(".{name}")) {
                    return None;
                }
                let base = pg_sys::getBaseType(pg_sys::get_atttype(relation, number));
                (!is_trusted(base)).then_some(name)
            })
    }
}

fn is_trusted(type_oid: pg_sys::Oid) -> bool {
    if is_built_in(type_oid) {
        return true;
    }
    // SAFETY: a catalog lookup by oid; the tuple is released before returning.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::TYPEOID as i32,
            pg_sys::Datum::from(type_oid),
        );
        if tuple.is_null() {
            return false;
        }
        let owner = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_type>()).typowner;
        pg_sys::ReleaseSysCache(tuple);
        pg_sys::superuser_arg(owner)
    }
}
