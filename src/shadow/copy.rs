//! COPY of a table in shadow mode.
//!
//! Owns what row security does to COPY: FROM is refused, so that is recorded; TO becomes a query, which
//! makes it one that is planned and recorded like any other. Must leave alone whatever else is copied.

use pgrx::prelude::*;
use pgrx::{PgList, is_a};

use pg_sys::{CopyStmt, PlannedStmt};

use super::record::{Command, Kind, Precision};
use super::statement::Circumstances;
use super::store::seen::{self, Count};
use super::tables::{self, Table};
use super::{bound, nodes, store};
use crate::{catalog, lists};

/// The utility statement to run: itself, or the query that takes the place of a table.
///
/// # Safety
/// `statement` is a valid utility statement.
pub unsafe fn utility(statement: *mut PlannedStmt) -> *mut PlannedStmt {
    // SAFETY: by the caller's promise.
    unsafe {
        let copy = (*statement).utilityStmt.cast::<CopyStmt>();
        if !is_a(copy.cast(), pg_sys::NodeTag::T_CopyStmt) || (*copy).relation.is_null() {
            return statement;
        }
        let Some(known) = tables::known() else {
            return statement;
        };
        let relation = pg_sys::RangeVarGetRelidExtended(
            (*copy).relation,
            pg_sys::NoLock as i32,
            pg_sys::RVROption::RVR_MISSING_OK,
            None,
            core::ptr::null_mut(),
        );
        let Some(table) = known.table(relation) else {
            return statement;
        };
        let key = seen::key(relation.to_u32());
        if !bound::binds(table, pg_sys::InvalidOid) {
            seen::count(key, Count::Exempt);
            return statement;
        }
        if (*copy).is_from {
            seen::count(key, Count::Statement);
            store::add(&Circumstances::now().record(
                relation,
                Command::Copy,
                Kind::StatementError,
                Precision::Exact,
                pg_sys::InvalidOid,
            ));
            return statement;
        }
        as_query(statement, copy, table).unwrap_or(statement)
    }
}

/// COPY of a query that reads what COPY of the table would.
unsafe fn as_query(
    statement: *mut PlannedStmt,
    copy: *const CopyStmt,
    table: &Table,
) -> Option<*mut PlannedStmt> {
    // SAFETY: by the caller's promise; a copy is changed, never what was passed.
    unsafe {
        if catalog::relation_kind(table.relation) != Some(pg_sys::RELKIND_RELATION) {
            return None;
        }
        let mut columns = stored_columns(table.relation);
        if !(*copy).attlist.is_null() {
            let mut named: Vec<String> = Vec::new();
            for name in lists::each::<pg_sys::String>((*copy).attlist) {
                let name = catalog::string_from((**name).sval)?;
                if named.contains(&name) || !columns.contains(&name) {
                    // An error of COPY's, which a query would not raise.
                    return None;
                }
                named.push(name);
            }
            columns = named;
        }
        let columns: Vec<String> = columns
            .iter()
            .map(|name| catalog::quote_identifier(name))
            .collect();
        let text = catalog::c_string(&format!(
            "SELECT {} FROM ONLY {}",
            columns.join(", "),
            catalog::relation_name(table.relation)?
        ));
        let parsed = PgList::<pg_sys::RawStmt>::from_pg(pg_sys::raw_parser(
            text.as_ptr(),
            pg_sys::RawParseMode::RAW_PARSE_DEFAULT,
        ));
        let fresh = nodes::copy(statement);
        let copy = (*fresh).utilityStmt.cast::<CopyStmt>();
        (*copy).relation = core::ptr::null_mut();
        (*copy).attlist = core::ptr::null_mut();
        (*copy).query = (*parsed.get_ptr(0)?).stmt;
        Some(fresh)
    }
}

/// The columns that COPY takes where none are named: all but generated ones.
fn stored_columns(relation: pg_sys::Oid) -> Vec<String> {
    let mut found = Vec::new();
    for number in 1.. {
        // SAFETY: null past the last column, dropped ones included; released before the next.
        unsafe {
            let tuple = pg_sys::SearchSysCache2(
                pg_sys::SysCacheIdentifier::ATTNUM as i32,
                pg_sys::Datum::from(relation),
                pg_sys::Datum::from(number as i16),
            );
            if tuple.is_null() {
                return found;
            }
            let attribute = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_attribute>();
            if !(*attribute).attisdropped && (*attribute).attgenerated == 0 {
                found.extend(catalog::string_from((*attribute).attname.data.as_ptr()));
            }
            pg_sys::ReleaseSysCache(tuple);
        }
    }
    found
}
