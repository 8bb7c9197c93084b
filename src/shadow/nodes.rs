//! Building and reading Postgres's nodes.
//!
//! Owns the small constructors. Must never decide anything, nor change a node that somebody else holds.

use pgrx::{pg_guard, pg_sys};

use pg_sys::{Datum, List, Node, NodeTag, Query, RangeTblEntry};

pub use crate::lists::{each, is_subset};

/// The members of a list, to work on.
///
/// # Safety
/// `list` is NIL or a list of nodes.
pub unsafe fn members(list: *const List) -> Vec<*mut Node> {
    // SAFETY: by the caller's promise.
    unsafe { each::<Node>(list) }.to_vec()
}

/// A new list; NIL without members.
pub fn list<T>(members: &[*mut T]) -> *mut List {
    members.iter().fold(core::ptr::null_mut(), |list, member| {
        // SAFETY: appends to a list that is made here.
        unsafe { pg_sys::lappend(list, (*member).cast()) }
    })
}

/// Whether a node is of that kind.
///
/// # Safety
/// `node` is null or a valid node.
pub unsafe fn is(node: *mut Node, tag: pg_sys::NodeTag) -> bool {
    // SAFETY: by the caller's promise.
    !node.is_null() && unsafe { (*node).type_ == tag }
}

/// A copy that shares nothing.
///
/// # Safety
/// `node` is null or a valid node.
pub unsafe fn copy<T>(node: *mut T) -> *mut T {
    // SAFETY: by the caller's promise.
    unsafe { pg_sys::copyObjectImpl(node.cast()).cast() }
}

/// `true` or `false`.
pub fn boolean(value: bool) -> *mut Node {
    // SAFETY: makes a node.
    unsafe { pg_sys::makeBoolConst(value, false) }
}

fn constant(type_oid: pg_sys::Oid, length: i32, value: Datum, by_value: bool) -> *mut Node {
    // SAFETY: a value of that type.
    unsafe {
        let collation = pg_sys::get_typcollation(type_oid);
        pg_sys::makeConst(type_oid, -1, collation, length, value, false, by_value).cast()
    }
}

/// An oid as a constant of type `regclass`, `regrole` or kin.
pub fn object(type_oid: pg_sys::Oid, object: pg_sys::Oid) -> *mut Node {
    constant(type_oid, 4, Datum::from(object), true)
}

/// A number.
pub fn integer(value: i32) -> *mut Node {
    constant(pg_sys::INT4OID, 4, Datum::from(value), true)
}

/// A text.
pub fn text(value: &str) -> *mut Node {
    let value = crate::catalog::c_string(value);
    // SAFETY: a NUL-terminated string.
    let datum = unsafe { pg_sys::cstring_to_text(value.as_ptr()) };
    constant(pg_sys::TEXTOID, -1, Datum::from(datum), false)
}

/// The value of a constant that is not null.
///
/// # Safety
/// `node` is null or a valid node.
pub unsafe fn value(node: *mut Node) -> Option<Datum> {
    // SAFETY: by the caller's promise; the tag says what it is.
    unsafe {
        if !is(node, pg_sys::NodeTag::T_Const) {
            return None;
        }
        let constant = node.cast::<pg_sys::Const>();
        (!(*constant).constisnull).then_some((*constant).constvalue)
    }
}

/// `AND` or `OR` of expressions, without duplicates; the expression itself where there is one.
pub fn combine(operator: pg_sys::BoolExprType::Type, nodes: Vec<*mut Node>) -> Option<*mut Node> {
    let mut distinct: Vec<*mut Node> = Vec::new();
    for node in nodes {
        // SAFETY: valid nodes, which `equal` only reads.
        let known = |other: &*mut Node| unsafe { pg_sys::equal(node.cast(), (*other).cast()) };
        if !distinct.iter().any(known) {
            distinct.push(node);
        }
    }
    match distinct.as_slice() {
        [] => None,
        [only] => Some(*only),
        // SAFETY: makes a node.
        several => Some(unsafe { pg_sys::makeBoolExpr(operator, list(several), -1).cast() }),
    }
}

/// The members of a set of numbers.
///
/// # Safety
/// `set` is null or a valid set.
pub unsafe fn numbers(set: *const pg_sys::Bitmapset) -> Vec<i32> {
    let mut found = Vec::new();
    let mut member = -1;
    loop {
        // SAFETY: by the caller's promise.
        member = unsafe { pg_sys::bms_next_member(set, member) };
        if member < 0 {
            return found;
        }
        found.push(member);
    }
}

type IsMeant<'a> = dyn FnMut(*mut RangeTblEntry) -> bool + 'a;

/// Whether an entry of a query's range table, or of one below it, is meant; stops at the first. Expressions are
/// looked through only where they hold sub-selects: this is asked of every statement that is planned.
///
/// # Safety
/// Null, or a valid query, in which the planner may have left nulls where it pulled a sub-query up;
/// `is_meant` gets valid entries.
pub unsafe fn any_entry(query: *mut Query, is_meant: &mut IsMeant<'_>) -> bool {
    // SAFETY: by the caller's promise.
    unsafe {
        if query.is_null() {
            return false;
        }
        pg_sys::check_stack_depth();
        for entry in each::<RangeTblEntry>((*query).rtable) {
            let is_query = (**entry).rtekind == pg_sys::RTEKind::RTE_SUBQUERY;
            if is_meant(*entry) || (is_query && any_entry((**entry).subquery, is_meant)) {
                return true;
            }
        }
        for with in each::<pg_sys::CommonTableExpr>((*query).cteList) {
            if any_entry((**with).ctequery.cast(), is_meant) {
                return true;
            }
        }
        let mut search = Search { is_meant };
        (*query).hasSubLinks
            && pg_sys::query_tree_walker(
                query,
                Some(visit),
                (&raw mut search).cast(),
                pg_sys::QTW_IGNORE_RC_SUBQUERIES as i32,
            )
    }
}

struct Search<'a, 'b> {
    is_meant: &'a mut IsMeant<'b>,
}

#[pg_guard]
unsafe extern "C-unwind" fn visit(node: *mut Node, context: *mut core::ffi::c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: Postgres passes each node of the query with the context of `any_entry`.
    unsafe {
        if (*node).type_ == NodeTag::T_Query {
            return any_entry(node.cast(), (*context.cast::<Search<'_, '_>>()).is_meant);
        }
        pg_sys::expression_tree_walker(node, Some(visit), context)
    }
}
