//! Finding recorders in expressions that Postgres has rearranged.
//!
//! Owns what a recorder looks like: `predicate OR tenancy.shadow_denied(..)`, the call alone where the
//! predicate was found to be false. Must recognise it wherever it can end up.

use pgrx::pg_sys;

use pg_sys::Node;

use super::nodes;
use super::record::{Command, Kind, Precision};
use super::what::What;

/// How a call looks that was not written by anybody: no SQL says this of a function of ours, and EXPLAIN
/// shows it like any other.
pub const OURS: pg_sys::CoercionForm::Type = pg_sys::CoercionForm::COERCE_SQL_SYNTAX;

/// Places of the call's arguments.
pub mod argument {
    pub const RELATION: usize = 0;
    pub const WHAT: usize = 1;
    pub const NUMBER: usize = 2;
    pub const ROLE: usize = 3;
    pub const SKIP: usize = 4;
    pub const TENANT: usize = 5;
}

/// The call in a clause, or null: the clause itself, or a member of an OR.
///
/// # Safety
/// `clause` is null or a valid node.
pub unsafe fn call_in(clause: *mut Node, denied: pg_sys::Oid) -> Option<*mut pg_sys::FuncExpr> {
    // SAFETY: by the caller's promise; tags are checked before nodes are read.
    unsafe {
        if is_ours(clause, denied) {
            return Some(clause.cast());
        }
        if !nodes::is(clause, pg_sys::NodeTag::T_BoolExpr) {
            return None;
        }
        let expression = clause.cast::<pg_sys::BoolExpr>();
        if (*expression).boolop != pg_sys::BoolExprType::OR_EXPR {
            return None;
        }
        nodes::each::<Node>((*expression).args)
            .iter()
            .find(|member| is_ours(**member, denied))
            .map(|member| member.cast())
    }
}

/// Whether a node is a call that shadow mode made.
///
/// # Safety
/// `node` is null or a valid node.
pub unsafe fn is_ours(node: *mut Node, denied: pg_sys::Oid) -> bool {
    // SAFETY: by the caller's promise; the tag is checked first.
    unsafe { is_call(node, denied) && (*node.cast::<pg_sys::FuncExpr>()).funcformat == OURS }
}

/// Whether a node calls that function.
///
/// # Safety
/// `node` is null or a valid node.
pub unsafe fn is_call(node: *mut Node, function: pg_sys::Oid) -> bool {
    // SAFETY: by the caller's promise; the tag is checked first.
    unsafe {
        nodes::is(node, pg_sys::NodeTag::T_FuncExpr)
            && (*node.cast::<pg_sys::FuncExpr>()).funcid == function
    }
}

/// The recorder's number.
///
/// # Safety
/// `call` is a call of the recorder.
pub unsafe fn number_of(call: *mut pg_sys::FuncExpr) -> i32 {
    // SAFETY: by the caller's promise: such a call has constants where they were put.
    unsafe {
        nodes::each((*call).args)
            .get(argument::NUMBER)
            .and_then(|node| nodes::value(*node))
            .map_or(-1, |datum| datum.value() as i32)
    }
}

/// What a recorder is told about its rows; the least, where that is not there.
///
/// # Safety
/// As above.
pub unsafe fn what_of(call: *mut pg_sys::FuncExpr) -> What {
    // SAFETY: a call of the recorder has a text where it was put.
    let text = unsafe {
        nodes::each((*call).args)
            .get(argument::WHAT)
            .and_then(|node| nodes::value(*node))
            .and_then(|datum| {
                crate::catalog::string_from(pg_sys::text_to_cstring(datum.cast_mut_ptr()))
            })
    };
    text.and_then(|text| What::parse(&text)).unwrap_or(What {
        command: Command::Select,
        kind: Kind::HiddenRow,
        precision: Precision::Scan,
    })
}

/// The recorder's table.
///
/// # Safety
/// As above.
pub unsafe fn table_of(call: *mut pg_sys::FuncExpr) -> pg_sys::Oid {
    // SAFETY: by the caller's promise: such a call has constants where they were put.
    unsafe {
        nodes::each((*call).args)
            .get(argument::RELATION)
            .and_then(|node| nodes::value(*node))
            .map_or(pg_sys::InvalidOid, |datum| {
                pg_sys::Oid::from(datum.value() as u32)
            })
    }
}
