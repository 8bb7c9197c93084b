//! Sub-queries inside predicates.
//!
//! Owns having them see what they would see under enforcement: views expanded, other tables' row
//! security applied, and that of tables in shadow mode as if it were enforced. Must never have a
//! statement fail for want of a privilege that only a policy needs.

use pgrx::prelude::*;

use pg_sys::{Node, NodeTag};

use super::predicate::{Predicate, Use};
use super::tables::Known;
use super::{bound, inject, nodes, policies};
use crate::pg_compat::planner as compat;

/// How deep policies may look into each other.
const DEPTH: usize = 8;

struct Walk<'a> {
    known: &'a Known,
    role: pg_sys::Oid,
    depth: usize,
    is_complete: bool,
}

/// The predicate with its sub-queries rewritten; itself where it has none.
///
/// # Safety
/// The predicate is an expression that only the caller holds.
pub unsafe fn rewritten(predicate: Predicate, role: pg_sys::Oid, known: &Known) -> Predicate {
    // SAFETY: by the caller's promise.
    unsafe { at_depth(predicate, role, known, 0) }
}

unsafe fn at_depth(
    predicate: Predicate,
    role: pg_sys::Oid,
    known: &Known,
    depth: usize,
) -> Predicate {
    let refused = || Predicate {
        node: nodes::boolean(false),
        is_complete: false,
    };
    // SAFETY: by the caller's promise; the query is made here and lives as long as its parts.
    unsafe {
        if !pg_sys::checkExprHasSubLink(predicate.node) {
            return predicate;
        }
        // Switched off, the row security of tables that are enforced would be an error.
        if depth == DEPTH || !pg_sys::row_security {
            return refused();
        }
        if role != pg_sys::InvalidOid {
            // Before views come in, whose relations are asked for by the rights of their owners.
            pg_sys::setRuleCheckAsUser(predicate.node, role);
        }
        let query = pg_sys::palloc0(size_of::<pg_sys::Query>()).cast::<pg_sys::Query>();
        (*query).type_ = NodeTag::T_Query;
        (*query).commandType = pg_sys::CmdType::CMD_SELECT;
        (*query).querySource = pg_sys::QuerySource::QSRC_ORIGINAL;
        (*query).canSetTag = true;
        (*query).hasSubLinks = true;
        (*query).jointree = pg_sys::makeFromExpr(core::ptr::null_mut(), predicate.node);
        pg_sys::AcquireRewriteLocks(query, true, false);
        let Some(query) = nodes::members(pg_sys::QueryRewrite(query)).first().copied() else {
            return refused();
        };
        let node = (*(*query.cast::<pg_sys::Query>()).jointree).quals;
        // Views and policies of other tables have come in, and they may raise.
        if !policies::examined(node, &known.functions).is_safe {
            return refused();
        }
        let mut walk = Walk {
            known,
            role,
            depth,
            is_complete: predicate.is_complete,
        };
        each(node, (&raw mut walk).cast());
        Predicate {
            node,
            is_complete: walk.is_complete,
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn each(node: *mut Node, context: *mut core::ffi::c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: Postgres passes each node of the expression with the context of `at_depth`.
    unsafe {
        if !nodes::is(node, NodeTag::T_Query) {
            return pg_sys::expression_tree_walker(node, Some(each), context);
        }
        let query = node.cast::<pg_sys::Query>();
        pg_sys::query_tree_walker(query, Some(each), context, 0);
        enforce(query, &mut *context.cast::<Walk<'_>>());
        compat::ask_no_permissions(query);
        false
    }
}

unsafe fn enforce(query: *mut pg_sys::Query, walk: &mut Walk<'_>) {
    // SAFETY: a rewritten query that only we hold.
    unsafe {
        for (index, entry) in nodes::members((*query).rtable).into_iter().enumerate() {
            let entry = entry.cast::<pg_sys::RangeTblEntry>();
            let Some(table) = inject::shadowed(entry, walk.known) else {
                continue;
            };
            let role = compat::asked_of(query, entry).map_or(walk.role, |asked| asked.acting_role);
            if !bound::binds(table, role) {
                continue;
            }
            let Some(asked) = inject::asked(table, index as i32 + 1, role, walk.known) else {
                continue;
            };
            let predicate = asked.visible(Use::Read { locked: false });
            let Predicate { node, is_complete } =
                at_depth(predicate, role, walk.known, walk.depth + 1);
            walk.is_complete &= is_complete;
            (*entry).securityQuals = pg_sys::lappend((*entry).securityQuals, node.cast());
            if pg_sys::checkExprHasSubLink(node) {
                (*query).hasSubLinks = true;
            }
        }
    }
}
