//! Building recorders: `predicate OR tenancy.shadow_denied(..)`.
//!
//! An allowed row never gets to the call. Must give each recorder a column of its relation, without
//! which Postgres would evaluate it once a statement.

use pgrx::{PgList, pg_sys};

use pg_sys::Node;

use super::functions::Functions;
use super::nodes;
use super::recognise::{self, argument};
use super::tables::Table;
use super::what::What;

/// What a recorder is about.
pub struct Subject<'a> {
    pub table: &'a Table,
    /// The relation's number in the query.
    pub relation: i32,
    /// The acting role; `InvalidOid` for the current one.
    pub role: pg_sys::Oid,
}

/// A recorder.
pub fn recorder(
    functions: &Functions,
    subject: &Subject<'_>,
    predicate: *mut Node,
    what: What,
    number: i32,
) -> *mut Node {
    let mut arguments = vec![
        nodes::object(pg_sys::REGCLASSOID, subject.table.relation),
        nodes::text(&what.text()),
        nodes::integer(number),
        nodes::object(pg_sys::REGROLEOID, subject.role),
        nodes::boolean(false),
    ];
    if subject.table.column > 0 {
        arguments.push(column(subject, subject.table.column));
    } else {
        // SAFETY: makes a node.
        arguments
            .push(unsafe { pg_sys::makeNullConst(pg_sys::TEXTOID, -1, pg_sys::InvalidOid).cast() });
        arguments.push(address(subject.relation));
    }
    // SAFETY: makes nodes.
    unsafe {
        let call: *mut Node = pg_sys::makeFuncExpr(
            functions.denied,
            pg_sys::BOOLOID,
            nodes::list(&arguments),
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            recognise::OURS,
        )
        .cast();
        pg_sys::makeBoolExpr(
            pg_sys::BoolExprType::OR_EXPR,
            nodes::list(&[predicate, call]),
            -1,
        )
        .cast()
    }
}

fn column(subject: &Subject<'_>, number: i16) -> *mut Node {
    let relation = subject.table.relation;
    let (mut type_oid, mut modifier, mut collation) = (pg_sys::InvalidOid, -1, pg_sys::InvalidOid);
    // SAFETY: a catalog lookup, then makes a node.
    unsafe {
        pg_sys::get_atttypetypmodcoll(
            relation,
            number,
            &mut type_oid,
            &mut modifier,
            &mut collation,
        );
        pg_sys::makeVar(subject.relation, number, type_oid, modifier, collation, 0).cast()
    }
}

/// The row's place in its table, which no row is without.
fn address(relation: i32) -> *mut Node {
    let number = pg_sys::SelfItemPointerAttributeNumber as i16;
    // SAFETY: makes a node.
    unsafe { pg_sys::makeVar(relation, number, pg_sys::TIDOID, -1, pg_sys::InvalidOid, 0).cast() }
}

/// Says of a recorder what is known of it by now.
///
/// # Safety
/// `call` is a call of the recorder that only this query holds.
pub unsafe fn retell(call: *mut pg_sys::FuncExpr, number: i32, what: What) {
    // SAFETY: by the caller's promise; a new list takes the place of the old.
    unsafe {
        let mut arguments = nodes::members((*call).args);
        arguments[argument::NUMBER] = nodes::integer(number);
        arguments[argument::WHAT] = nodes::text(&what.text());
        (*call).args = nodes::list(&arguments);
    }
}

/// Has a recorder skip rows that an outer join made up.
///
/// # Safety
/// As above; `relation` is its relation's number, and `table` its oid.
pub unsafe fn skip_null_extended(call: *mut pg_sys::FuncExpr, relation: i32, table: pg_sys::Oid) {
    // SAFETY: by the caller's promise.
    unsafe {
        let mut arguments = nodes::members((*call).args);
        let test = pg_sys::palloc0(size_of::<pg_sys::NullTest>()).cast::<pg_sys::NullTest>();
        (*test).xpr.type_ = pg_sys::NodeTag::T_NullTest;
        (*test).arg = never_null(&arguments, relation, table).cast();
        (*test).nulltesttype = pg_sys::NullTestType::IS_NULL;
        (*test).location = -1;
        arguments[argument::SKIP] = test.cast();
        (*call).args = nodes::list(&arguments);
    }
}

/// A column that is null only where an outer join made the row up.
unsafe fn never_null(arguments: &[*mut Node], relation: i32, table: pg_sys::Oid) -> *mut Node {
    // SAFETY: by the caller's promise; the tuple is released before returning.
    unsafe {
        for node in arguments {
            if !nodes::is(*node, pg_sys::NodeTag::T_Var) {
                continue;
            }
            let variable = node.cast::<pg_sys::Var>();
            let tuple = pg_sys::SearchSysCacheAttNum(table, (*variable).varattno);
            if tuple.is_null() {
                continue;
            }
            let attribute = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_attribute>();
            let not_null = (*attribute).attnotnull;
            pg_sys::ReleaseSysCache(tuple);
            if not_null && (*variable).varno == relation {
                return nodes::copy(*node);
            }
        }
    }
    address(relation)
}

/// Appends arguments that have a recorder wait for other relations.
///
/// # Safety
/// As above.
pub unsafe fn wait_for(call: *mut pg_sys::FuncExpr, others: &[*mut Node]) {
    // SAFETY: by the caller's promise.
    unsafe {
        let mut arguments = nodes::members((*call).args);
        arguments.extend_from_slice(others);
        (*call).args = nodes::list(&arguments);
    }
}

/// A marker: a filter of the relation that lets all through.
///
/// # Safety
/// `call` is a call of the recorder, of relation `relation`.
pub unsafe fn marker(
    functions: &Functions,
    call: *mut pg_sys::FuncExpr,
    relation: i32,
) -> *mut Node {
    // SAFETY: by the caller's promise; makes nodes.
    unsafe {
        let variables = PgList::<pg_sys::Var>::from_pg(pg_sys::pull_vars_of_level(call.cast(), 0));
        let own = variables
            .iter_ptr()
            .find(|variable| (**variable).varno == relation)
            .map_or_else(
                || address(relation),
                |variable| nodes::copy(variable).cast(),
            );
        pg_sys::makeFuncExpr(
            functions.mark,
            pg_sys::BOOLOID,
            nodes::list(&[own]),
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            pg_sys::CoercionForm::COERCE_EXPLICIT_CALL,
        )
        .cast()
    }
}
