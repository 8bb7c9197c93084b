//! Putting recorders into a query before it is planned.
//!
//! Owns which relations of a query get one, and what enforcement would ask of their rows. Must find
//! every relation that a query names itself; those that appear while it is planned are found by
//! `arrive`.

use std::rc::Rc;

use pgrx::prelude::*;

use pg_sys::{Node, NodeTag};

use super::build::{self, Subject};
use super::predicate::{Asked, Check, Predicate, Use};
use super::record::{Command, Kind, Precision};
use super::state::{self, Injected, Surrounding};
use super::tables::{Known, Table};
use super::what::What;
use super::{bound, nodes, sublinks, writes};
use crate::pg_compat::planner::{self as compat, Asked as Permissions};

struct Walk {
    known: Rc<Known>,
    surroundings: Vec<Surrounding>,
    /// Whether the query around leaves out some of the rows that it comes to.
    is_cut: bool,
}

/// Puts recorders into all of a query.
///
/// # Safety
/// `query` is a rewritten query that only the planner is going to see.
pub unsafe fn inject(query: *mut pg_sys::Query, known: &Rc<Known>) {
    let mut walk = Walk {
        known: known.clone(),
        surroundings: Vec::new(),
        is_cut: false,
    };
    // SAFETY: by the caller's promise.
    unsafe { visit(query, &mut walk) };
}

#[pg_guard]
unsafe extern "C-unwind" fn each(node: *mut Node, context: *mut core::ffi::c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: Postgres passes each node of the query with the context of `visit`.
    unsafe {
        let walk = &mut *context.cast::<Walk>();
        match (*node).type_ {
            NodeTag::T_Query => {
                visit(node.cast(), walk);
                false
            }
            NodeTag::T_SubLink => {
                let link = node.cast::<pg_sys::SubLink>();
                each((*link).testexpr, context);
                walk.surroundings.push(match surrounding_of(link) {
                    Surrounding::Value if walk.is_cut => Surrounding::Condition,
                    other => other,
                });
                each((*link).subselect, context);
                walk.surroundings.pop();
                false
            }
            _ => pg_sys::expression_tree_walker(node, Some(each), context),
        }
    }
}

/// # Safety
/// A valid node.
unsafe fn surrounding_of(link: *mut pg_sys::SubLink) -> Surrounding {
    use pg_sys::SubLinkType as T;
    // SAFETY: by the caller's promise.
    unsafe {
        match (*link).subLinkType {
            T::EXPR_SUBLINK | T::MULTIEXPR_SUBLINK | T::ARRAY_SUBLINK | T::ROWCOMPARE_SUBLINK => {
                Surrounding::Value
            }
            T::EXISTS_SUBLINK if pg_sys::contain_vars_of_level((*link).subselect, 1) => {
                Surrounding::CorrelatedExists
            }
            _ => Surrounding::Condition,
        }
    }
}

/// # Safety
/// A valid query.
unsafe fn visit(query: *mut pg_sys::Query, walk: &mut Walk) {
    // SAFETY: by the caller's promise.
    unsafe {
        let is_cut = !(*query).limitCount.is_null()
            || !(*query).limitOffset.is_null()
            || (*query).hasDistinctOn;
        let outer_is_cut = core::mem::replace(&mut walk.is_cut, is_cut);
        let in_from = if (*query).setOperations.is_null() || is_cut {
            Surrounding::From
        } else {
            Surrounding::SetOperation
        };
        for entry in nodes::each::<pg_sys::RangeTblEntry>((*query).rtable)
            .iter()
            .copied()
        {
            if (*entry).rtekind == pg_sys::RTEKind::RTE_SUBQUERY {
                walk.surroundings.push(in_from);
                visit((*entry).subquery, walk);
                walk.surroundings.pop();
            }
        }
        for with in nodes::members((*query).cteList) {
            let inner = (*with.cast::<pg_sys::CommonTableExpr>())
                .ctequery
                .cast::<pg_sys::Query>();
            let reads = (*inner).commandType == pg_sys::CmdType::CMD_SELECT;
            walk.surroundings.push(if reads {
                Surrounding::From
            } else {
                Surrounding::Writing
            });
            visit(inner, walk);
            walk.surroundings.pop();
        }
        // Before this level's own: the sub-queries of policies are nothing to record.
        pg_sys::query_tree_walker(
            query,
            Some(each),
            core::ptr::from_mut(walk).cast(),
            pg_sys::QTW_IGNORE_RC_SUBQUERIES as i32,
        );
        let entries = nodes::members((*query).rtable);
        for (index, entry) in entries.into_iter().enumerate() {
            relation(query, entry.cast(), index as i32 + 1, walk);
        }
        walk.is_cut = outer_is_cut;
    }
}

/// # Safety
/// `entry` is that entry of the query's range table.
unsafe fn relation(
    query: *mut pg_sys::Query,
    entry: *mut pg_sys::RangeTblEntry,
    number: i32,
    walk: &Walk,
) {
    // SAFETY: by the caller's promise.
    unsafe {
        let Some(table) = shadowed(entry, &walk.known) else {
            return;
        };
        state::with(|planning| planning.is_touched = true);
        let Some(permissions) = compat::asked_of(query, entry) else {
            return;
        };
        if !bound::binds(table, permissions.acting_role) {
            return;
        }
        if let Some(hidden) = hidden_rows(query, number, table, &permissions, walk) {
            (*entry).securityQuals = pg_sys::lappend((*entry).securityQuals, hidden.cast());
        }
        if (*query).resultRelation == number {
            written_rows(query, number, table, &permissions, walk);
        }
    }
}

/// The table in shadow mode that an entry stands for.
///
/// # Safety
/// A valid entry of a range table.
pub unsafe fn shadowed(entry: *mut pg_sys::RangeTblEntry, known: &Known) -> Option<&Table> {
    // SAFETY: by the caller's promise.
    unsafe {
        let is_table = (*entry).rtekind == pg_sys::RTEKind::RTE_RELATION
            && matches!(
                (*entry).relkind as u8,
                pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE
            );
        is_table.then(|| known.table((*entry).relid)).flatten()
    }
}

/// How a relation's existing rows are used, and what that is called; `None` where they are not.
///
/// # Safety
/// A valid query and the number of one of its relations.
unsafe fn use_of(
    query: *const pg_sys::Query,
    number: i32,
    permissions: &Permissions,
) -> Option<(Use, Command)> {
    let reads = permissions.permissions & u64::from(pg_sys::ACL_SELECT) != 0;
    let locked = permissions.permissions & u64::from(pg_sys::ACL_UPDATE) != 0;
    // SAFETY: by the caller's promise.
    unsafe {
        if (*query).resultRelation != number {
            return Some((Use::Read { locked }, Command::Select));
        }
        match (*query).commandType {
            pg_sys::CmdType::CMD_UPDATE => Some((Use::Update { reads }, Command::Update)),
            pg_sys::CmdType::CMD_DELETE => Some((Use::Delete { reads }, Command::Delete)),
            pg_sys::CmdType::CMD_MERGE => Some((Use::Merge { reads }, Command::Merge)),
            _ => None,
        }
    }
}

/// A recorder for the rows that would be hidden.
///
/// # Safety
/// As `relation`.
unsafe fn hidden_rows(
    query: *mut pg_sys::Query,
    number: i32,
    table: &Table,
    permissions: &Permissions,
    walk: &Walk,
) -> Option<*mut Node> {
    // SAFETY: by the caller's promise.
    let (use_, command) = unsafe { use_of(query, number, permissions)? };
    let asked = asked(table, number, permissions.acting_role, &walk.known)?;
    // SAFETY: a predicate that was made for this query.
    let Predicate { node, is_complete } =
        unsafe { sublinks::rewritten(asked.visible(use_), permissions.acting_role, &walk.known) };
    let subject = Subject {
        table,
        relation: number,
        role: permissions.acting_role,
    };
    let what = What {
        command,
        kind: Kind::HiddenRow,
        precision: Precision::Scan,
    };
    let id = state::with(|planning| {
        let id = planning.number();
        planning.injected.insert(
            id,
            Injected {
                surroundings: walk.surroundings.as_slice().into(),
                is_complete,
            },
        );
        id
    })?;
    note_sublinks(query, node);
    Some(build::recorder(
        &walk.known.functions,
        &subject,
        node,
        what,
        id,
    ))
}

/// The policies of a table for a role.
pub fn asked<'a>(
    table: &'a Table,
    number: i32,
    role: pg_sys::Oid,
    known: &Known,
) -> Option<Asked<'a>> {
    Some(Asked {
        policies: table.policies(&known.functions)?,
        role: bound::acting(role),
        number,
        users_hold: bound::is_bound_now(table, role),
    })
}

fn note_sublinks(query: *mut pg_sys::Query, node: *mut Node) {
    // SAFETY: a query that only the planner is going to see, and a node made for it.
    unsafe {
        if pg_sys::checkExprHasSubLink(node) {
            (*query).hasSubLinks = true;
        }
    }
}

/// Recorders for the rows that could not be written.
///
/// # Safety
/// As `relation`, for the query's target.
unsafe fn written_rows(
    query: *mut pg_sys::Query,
    number: i32,
    table: &Table,
    permissions: &Permissions,
    walk: &Walk,
) {
    let Some(asked) = asked(table, number, permissions.acting_role, &walk.known) else {
        return;
    };
    let subject = Subject {
        table,
        relation: number,
        role: permissions.acting_role,
    };
    // SAFETY: by the caller's promise.
    unsafe {
        for (command, Check { kind, predicate }) in
            writes::checks(query, &asked, table, permissions)
        {
            let Predicate { node, is_complete } =
                sublinks::rewritten(predicate, permissions.acting_role, &walk.known);
            note_sublinks(query, node);
            let what = What {
                command,
                kind: Kind::CheckViolation,
                precision: if is_complete {
                    Precision::Exact
                } else {
                    Precision::Scan
                },
            };
            let qual = build::recorder(&walk.known.functions, &subject, node, what, 0);
            let option = pg_sys::palloc0(size_of::<pg_sys::WithCheckOption>())
                .cast::<pg_sys::WithCheckOption>();
            (*option).type_ = NodeTag::T_WithCheckOption;
            (*option).kind = kind;
            (*option).relname = pg_sys::get_rel_name(table.relation);
            (*option).qual = qual;
            (*query).withCheckOptions = pg_sys::lappend((*query).withCheckOptions, option.cast());
        }
    }
}
