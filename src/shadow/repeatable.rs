//! Whether a query can be run once more without anybody noticing.
//!
//! Owns the list of what such a query may hold: reading, built-in functions and those of libraries or in
//! SQL that are declared not to change anything. Must rather refuse one too many.

use pgrx::prelude::*;

use pg_sys::{Node, NodeTag, Query};

use super::nodes;

/// What can be said of a query that may be run again.
#[derive(Default)]
pub struct Repeatable {
    /// Whether functions may run statements of their own.
    pub calls_sql: bool,
}

/// Looks at a query as it comes to the planner; `None` where it may not be run again.
///
/// # Safety
/// A valid, rewritten query.
pub unsafe fn examine(query: *mut Query) -> Option<Repeatable> {
    let mut found = Repeatable::default();
    // SAFETY: by the caller's promise.
    let refused = unsafe { refuses(query.cast(), (&raw mut found).cast()) };
    (!refused).then_some(found)
}

#[pg_guard]
unsafe extern "C-unwind" fn refuses(node: *mut Node, context: *mut core::ffi::c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: Postgres passes each node of the query with the context of `examine`.
    unsafe {
        match (*node).type_ {
            NodeTag::T_Query => {
                let query = node.cast::<Query>();
                return (*query).commandType != pg_sys::CmdType::CMD_SELECT
                    || !(*query).utilityStmt.is_null()
                    || !(*query).rowMarks.is_null()
                    || (*query).hasModifyingCTE
                    || (*query).hasForUpdate
                    || nodes::members((*query).rtable)
                        .into_iter()
                        .any(|entry| refuses_entry(entry.cast()))
                    || pg_sys::query_tree_walker(query, Some(refuses), context, 0);
            }
            NodeTag::T_NextValueExpr | NodeTag::T_CurrentOfExpr | NodeTag::T_CoerceToDomain => {
                return true;
            }
            // Their own functions are not looked at.
            NodeTag::T_Aggref if is_users((*node.cast::<pg_sys::Aggref>()).aggfnoid) => {
                return true;
            }
            NodeTag::T_WindowFunc if is_users((*node.cast::<pg_sys::WindowFunc>()).winfnoid) => {
                return true;
            }
            _ => {}
        }
        pg_sys::check_functions_in_node(node, Some(refuses_function), context)
            || pg_sys::expression_tree_walker(node, Some(refuses), context)
    }
}

fn is_users(function: pg_sys::Oid) -> bool {
    function.to_u32() >= pg_sys::FirstNormalObjectId
}

unsafe fn refuses_entry(entry: *mut pg_sys::RangeTblEntry) -> bool {
    // SAFETY: by the caller's promise.
    unsafe {
        match (*entry).rtekind {
            pg_sys::RTEKind::RTE_NAMEDTUPLESTORE => true,
            pg_sys::RTEKind::RTE_RELATION => {
                (*entry).relkind as u8 == pg_sys::RELKIND_FOREIGN_TABLE
                    || !(*entry).tablesample.is_null()
            }
            _ => false,
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn refuses_function(
    function: pg_sys::Oid,
    context: *mut core::ffi::c_void,
) -> bool {
    // SAFETY: a catalog lookup; the tuple is released before returning; the context is that of `examine`.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::PROCOID as i32,
            pg_sys::Datum::from(function),
        );
        if tuple.is_null() {
            return true;
        }
        let form = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
        let volatile = (*form).provolatile as u8 == pg_sys::PROVOLATILE_VOLATILE;
        let language = (*form).prolang.to_u32();
        pg_sys::ReleaseSysCache(tuple);
        let is_sql = language == pg_sys::SQLlanguageId;
        (*context.cast::<Repeatable>()).calls_sql |= is_sql;
        // A procedural language may tell the client something.
        volatile
            || !(is_sql
                || language == pg_sys::INTERNALlanguageId
                || language == pg_sys::ClanguageId)
    }
}
