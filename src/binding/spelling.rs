//! Whether an expression means the same under all settings of a session.
//!
//! Owns the list of what plainly does. Whatever is not on it may not: settings say how dates, intervals
//! and other values are read and written, and which time zone counts.

use core::ffi::c_void;

use pgrx::prelude::*;

use super::query::is_built_in;

/// Whether settings may be part of what an expression means.
///
/// # Safety
/// A valid tree, as it comes from analysis.
pub unsafe fn may_matter(tree: *mut pg_sys::Node) -> bool {
    // SAFETY: by the caller's promise.
    unsafe { pg_sys::contain_mutable_functions(tree) || is_unclear(tree, core::ptr::null_mut()) }
}

/// Columns, constants that every session reads alike, and Postgres's own operators are clear.
#[pg_guard]
unsafe extern "C-unwind" fn is_unclear(node: *mut pg_sys::Node, state: *mut c_void) -> bool {
    use pg_sys::NodeTag as T;
    if node.is_null() {
        return false;
    }
    // SAFETY: a node of the tree, read as what its tag says.
    unsafe {
        let unclear = match (*node).type_ {
            T::T_Var
            | T::T_List
            | T::T_BoolExpr
            | T::T_NullTest
            | T::T_BooleanTest
            | T::T_RelabelType
            | T::T_ArrayExpr => false,
            T::T_Const => !is_read_alike((*node.cast::<pg_sys::Const>()).consttype),
            T::T_OpExpr | T::T_DistinctExpr => !is_built_in((*node.cast::<pg_sys::OpExpr>()).opno),
            T::T_ScalarArrayOpExpr => {
                !is_built_in((*node.cast::<pg_sys::ScalarArrayOpExpr>()).opno)
            }
            _ => true,
        };
        unclear || pg_sys::expression_tree_walker(node, Some(is_unclear), state)
    }
}

fn is_read_alike(type_oid: pg_sys::Oid) -> bool {
    // SAFETY: catalog lookups by oid.
    let (element, is_enum) = unsafe {
        let element = pg_sys::get_element_type(type_oid);
        let element = if element == pg_sys::InvalidOid {
            type_oid
        } else {
            element
        };
        (element, pg_sys::type_is_enum(element))
    };
    is_enum
        || matches!(
            element,
            pg_sys::BOOLOID
                | pg_sys::INT2OID
                | pg_sys::INT4OID
                | pg_sys::INT8OID
                | pg_sys::NUMERICOID
                | pg_sys::TEXTOID
                | pg_sys::VARCHAROID
                | pg_sys::BPCHAROID
                | pg_sys::UUIDOID
        )
}
