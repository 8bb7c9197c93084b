//! The `*_active` expressions of a binding.
//!
//! Owns what they may be and what they depend on. Must never let more than one boolean expression
//! over one row through: the text becomes part of a statement that runs as the table's owner.

use pgrx::prelude::*;
use pgrx::{PgList, is_a};

use super::authors::Authors;
use super::{query, spelling};
use crate::catalog;
use crate::error::{Error, Kind, Result};
use crate::registry::ActingRole;

/// What an expression depends on.
pub struct Facts {
    /// The table's columns in it.
    pub columns: Vec<i16>,
    /// Neither the clock nor another table nor a setting can change it.
    pub depends_only_on_its_row: bool,
    /// What settings of the session say may be part of what it means.
    pub may_read_settings: bool,
    pub authors: Authors,
}

/// Parses the expression against the table. Raises Postgres's own error where it does not parse or is
/// not boolean. Call with the search path pinned, as it is when the expression runs.
pub fn analyze(relation: pg_sys::Oid, expression: &str) -> Result<Facts> {
    let node = parse(expression)?;
    // SAFETY: the relation stays open while its range table entry is in use; the parse state and
    // nodes live in the current memory context.
    unsafe {
        let lock = pg_sys::AccessShareLock as i32;
        let relation = pg_sys::table_open(relation, lock);
        let where_clause = pg_sys::ParseExprKind::EXPR_KIND_WHERE;
        let tree = transform(relation, node, where_clause, c"tenancy.bind");
        let variables = PgList::<pg_sys::Var>::from_pg(pg_sys::pull_vars_of_level(tree, 0));
        let attributes = i16::try_from((*(*relation).rd_att).natts).unwrap_or(i16::MAX);
        let columns: Vec<i16> = variables
            .iter_ptr()
            .flat_map(|variable| match (*variable).varattno {
                // A whole-row reference depends on every column.
                0 => (1..=attributes).collect::<Vec<_>>(),
                number => vec![number],
            })
            .filter(|number| *number > 0)
            .collect();
        let authors = Authors::of(tree);
        let depends_only_on_its_row =
            !pg_sys::contain_mutable_functions(tree) && !pg_sys::checkExprHasSubLink(tree);
        let may_read_settings = spelling::may_matter(tree);
        let oid = (*relation).rd_id;
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
        for number in &columns {
            query::require_stored(oid, *number)?;
        }
        Ok(Facts {
            columns,
            depends_only_on_its_row,
            may_read_settings,
            authors,
        })
    }
}

/// The expression as Postgres shows it once it is part of a policy of the relation. Raises Postgres's
/// own error where it cannot be. Call with the search path pinned.
pub fn shown_in_policy(relation: pg_sys::Oid, expression: &str) -> Result<String> {
    let node = parse(expression)?;
    // SAFETY: as in `analyze`; a tree written as text is what `pg_get_expr` reads.
    unsafe {
        let open = pg_sys::table_open(relation, pg_sys::AccessShareLock as i32);
        let policy = pg_sys::ParseExprKind::EXPR_KIND_POLICY;
        let tree = transform(open, node, policy, c"POLICY");
        let text = pg_sys::cstring_to_text(pg_sys::nodeToString(tree.cast()));
        pg_sys::table_close(open, pg_sys::NoLock as i32);
        let shown = pg_sys::OidFunctionCall2Coll(
            pg_sys::F_PG_GET_EXPR_PG_NODE_TREE_OID,
            pg_sys::InvalidOid,
            pg_sys::Datum::from(text),
            pg_sys::Datum::from(relation),
        );
        String::from_datum(shown, false)
            .ok_or_else(|| Error::new(Kind::Internal, "an expression cannot be shown"))
    }
}

/// A boolean expression over the relation, as Postgres reads it in that place. Acts as the relation's owner
/// meanwhile: a constant of a type whose elements have constraints has them checked right here.
///
/// # Safety
/// `relation` is open and locked, `node` a raw parse tree.
unsafe fn transform(
    relation: pg_sys::Relation,
    node: *mut pg_sys::Node,
    kind: pg_sys::ParseExprKind::Type,
    construct: &core::ffi::CStr,
) -> *mut pg_sys::Node {
    // SAFETY: by the caller's promise.
    unsafe {
        let _role = ActingRole::new((*(*relation).rd_rel).relowner);
        let state = pg_sys::make_parsestate(core::ptr::null_mut());
        let item = pg_sys::addRangeTableEntryForRelation(
            state,
            relation,
            pg_sys::AccessShareLock as i32,
            core::ptr::null_mut(),
            false,
            true,
        );
        pg_sys::addNSItemToQuery(state, item, true, true, true);
        let tree = pg_sys::transformWhereClause(state, node, kind, construct.as_ptr());
        pg_sys::assign_expr_collations(state, tree);
        pg_sys::free_parsestate(state);
        tree
    }
}

/// The expression as a raw parse tree. It must stand by itself as well as between parentheses, where
/// `true) OR (true` would reach out of them and a comment could swallow the closing one.
pub fn parse(expression: &str) -> Result<*mut pg_sys::Node> {
    single(&format!("SELECT {expression}"))?;
    single(&format!("SELECT ({expression}\n)"))
}

/// The only column of a statement that is nothing but `SELECT` and that column.
fn single(statement: &str) -> Result<*mut pg_sys::Node> {
    let refuse = || {
        Error::new(
            Kind::InvalidParameterValue,
            "not a single boolean expression over the bound table",
        )
        .hint("Give an expression such as status = 'active'.")
    };
    let select = select(statement).ok_or_else(refuse)?;
    // SAFETY: nodes of a parse tree that the parser just made.
    unsafe {
        if !(*select).sortClause.is_null() {
            return Err(refuse());
        }
        let targets = PgList::<pg_sys::ResTarget>::from_pg((*select).targetList);
        let target = targets
            .get_ptr(0)
            .filter(|_| targets.len() == 1)
            .ok_or_else(refuse)?;
        if !(*target).name.is_null() || !(*target).indirection.is_null() {
            return Err(refuse());
        }
        Ok((*target).val)
    }
}

/// The parse tree of a statement that is nothing but `SELECT`, columns, and perhaps `ORDER BY`; `None`
/// for any other. Raises Postgres's own error where it does not parse.
pub fn select(statement: &str) -> Option<*mut pg_sys::SelectStmt> {
    let text = catalog::c_string(statement);
    // SAFETY: the parser returns a list of RawStmt; each node's tag is checked before it is read.
    unsafe {
        let statements = PgList::<pg_sys::RawStmt>::from_pg(pg_sys::raw_parser(
            text.as_ptr(),
            pg_sys::RawParseMode::RAW_PARSE_DEFAULT,
        ));
        let only = statements.get_ptr(0).filter(|_| statements.len() == 1)?;
        if !is_a((*only).stmt, pg_sys::NodeTag::T_SelectStmt) {
            return None;
        }
        let select = &mut *(*only).stmt.cast::<pg_sys::SelectStmt>();
        let plain = select.op == pg_sys::SetOperation::SETOP_NONE
            && select.distinctClause.is_null()
            && select.intoClause.is_null()
            && select.fromClause.is_null()
            && select.whereClause.is_null()
            && select.groupClause.is_null()
            && select.havingClause.is_null()
            && select.windowClause.is_null()
            && select.valuesLists.is_null()
            && select.limitOffset.is_null()
            && select.limitCount.is_null()
            && select.lockingClause.is_null()
            && select.withClause.is_null();
        plain.then_some(core::ptr::from_mut(select))
    }
}
