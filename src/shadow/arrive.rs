//! Relations on their way into the planner: `get_relation_info_hook`.
//!
//! By now sub-queries are pulled up, functions inlined and outer joins reduced, and nothing has been made
//! of the join tree yet. Owns taking the recorder out of the security quals, where it would be in the way
//! of indexes, and having it placed. Must never leave a relation without one.

use pgrx::pg_sys;

use pg_sys::{Node, PlannerInfo, RangeTblEntry, RelOptInfo};

use super::build::{self, Subject};
use super::place::{self, Placing};
use super::predicate::{Predicate, Use};
use super::record::{Command, Kind, Precision};
use super::state::{self, Arrived, Injected, Surrounding};
use super::tables::{Known, Table};
use super::what::What;
use super::{bound, inject, nodes, precision, recognise, sublinks};
use crate::gucs::ShadowPlacement;
use crate::pg_compat::planner as compat;

/// Called for every relation that is planned.
///
/// # Safety
/// As Postgres calls `get_relation_info_hook`.
pub unsafe fn arrive(root: *mut PlannerInfo, relation: pg_sys::Oid, rel: *mut RelOptInfo) {
    let Some((known, placement)) =
        state::with(|planning| (planning.known.clone(), planning.placement))
    else {
        return;
    };
    let Some(table) = known.table(relation) else {
        return;
    };
    // SAFETY: by the caller's promise: the relation has its entry and the query its join tree.
    unsafe {
        let index = (*rel).relid as usize;
        let entry = *(*root).simple_rte_array.add(index);
        if inject::shadowed(entry, &known).is_none() || (*root).parse.is_null() {
            return;
        }
        state::with(|planning| planning.is_touched = true);
        let is_member = match (*rel).reloptkind {
            pg_sys::RelOptKind::RELOPT_BASEREL => false,
            pg_sys::RelOptKind::RELOPT_OTHER_MEMBER_REL if is_inherited(root, index) => return,
            pg_sys::RelOptKind::RELOPT_OTHER_MEMBER_REL => true,
            _ => return,
        };
        let (clause, call) = match take_out(entry, known.functions.denied) {
            Some(found) => found,
            None => match late(root, entry, index as i32, table, &known) {
                Some(made) => made,
                None => return,
            },
        };
        let old = recognise::number_of(call);
        let Some((number, injected)) = state::with(|planning| {
            let injected = planning.injected.get(&old).cloned();
            let number = planning.number();
            planning.arrived.push(Arrived {
                number,
                names: (*entry).eref,
            });
            (number, injected)
        }) else {
            return;
        };
        let mut what = recognise::what_of(call);
        what.precision = precision::best(root, injected.as_ref());
        if is_member {
            if !precision::is_alone(root) {
                what.precision = Precision::Scan;
            }
            build::retell(call, number, what);
            put_back(root, entry, clause);
            return;
        }
        let placing = Placing {
            root,
            relation: index as i32,
            table: relation,
            functions: known.functions,
            number,
            what,
        };
        match placement {
            ShadowPlacement::Join => place::at_joins(&placing, rel, clause, call),
            ShadowPlacement::Scan => place::at_scan(&placing, clause, call),
        }
    }
}

/// Whether a member of an append relation is a partition or a child: its parent has the recorder.
unsafe fn is_inherited(root: *mut PlannerInfo, index: usize) -> bool {
    // SAFETY: by the caller's promise: a member has its record and its parent.
    unsafe {
        if (*root).append_rel_array.is_null() {
            return true;
        }
        let member = *(*root).append_rel_array.add(index);
        if member.is_null() {
            return true;
        }
        let parent = *(*root)
            .simple_rte_array
            .add((*member).parent_relid as usize);
        (*parent).rtekind == pg_sys::RTEKind::RTE_RELATION
    }
}

/// Takes the recorder out of the security quals; with nothing left, the entry has none.
unsafe fn take_out(
    entry: *mut RangeTblEntry,
    denied: pg_sys::Oid,
) -> Option<(*mut Node, *mut pg_sys::FuncExpr)> {
    // SAFETY: by the caller's promise: by now the quals are a list of lists.
    unsafe {
        let mut found = None;
        let mut levels: Vec<*mut Node> = Vec::new();
        let mut is_empty = true;
        for level in nodes::members((*entry).securityQuals) {
            let mut kept = Vec::new();
            for clause in nodes::members(level.cast()) {
                match recognise::call_in(clause, denied) {
                    Some(call) if found.is_none() => found = Some((clause, call)),
                    _ => kept.push(clause),
                }
            }
            is_empty &= kept.is_empty();
            levels.push(nodes::list(&kept).cast());
        }
        if found.is_some() {
            (*entry).securityQuals = if is_empty {
                core::ptr::null_mut()
            } else {
                nodes::list(&levels)
            };
        }
        found
    }
}

/// A recorder for a relation that appeared while the query was planned: a function was inlined.
unsafe fn late(
    root: *mut PlannerInfo,
    entry: *mut RangeTblEntry,
    index: i32,
    table: &Table,
    known: &Known,
) -> Option<(*mut Node, *mut pg_sys::FuncExpr)> {
    // SAFETY: by the caller's promise.
    unsafe {
        let query = (*root).parse;
        if (*query).resultRelation == index {
            return None;
        }
        let permissions = compat::asked_of(query, entry)?;
        if !bound::binds(table, permissions.acting_role) {
            return None;
        }
        let asked = inject::asked(table, index, permissions.acting_role, known)?;
        let locked = permissions.permissions & u64::from(pg_sys::ACL_UPDATE) != 0;
        let Predicate { node, is_complete } = sublinks::rewritten(
            asked.visible(Use::Read { locked }),
            permissions.acting_role,
            known,
        );
        let number = state::with(|planning| {
            let number = planning.number();
            let surroundings = vec![Surrounding::From; (*root).query_level as usize - 1];
            planning.injected.insert(
                number,
                Injected {
                    surroundings: surroundings.into(),
                    is_complete,
                },
            );
            number
        })?;
        let has_sublinks = pg_sys::checkExprHasSubLink(node);
        let subject = Subject {
            table,
            relation: index,
            role: permissions.acting_role,
        };
        let what = What {
            command: Command::Select,
            kind: Kind::HiddenRow,
            precision: Precision::Scan,
        };
        let clause = build::recorder(&known.functions, &subject, node, what, number);
        let mut clause = pg_sys::eval_const_expressions(root, clause);
        if has_sublinks {
            clause = pg_sys::SS_process_sublinks(root, clause, true);
        }
        // Nothing would be denied where the predicate turned out to be true.
        let call = recognise::call_in(clause, known.functions.denied)?;
        Some((clause, call))
    }
}

/// Puts a recorder back where the members of a UNION ALL have their quals, at the level of the
/// statement's own, so that it is in nobody's way.
unsafe fn put_back(root: *mut PlannerInfo, entry: *mut RangeTblEntry, clause: *mut Node) {
    // SAFETY: by the caller's promise.
    unsafe {
        let mut levels = nodes::members((*entry).securityQuals);
        let level = (*root).qual_security_level as usize;
        while levels.len() < level {
            levels.push(core::ptr::null_mut());
        }
        levels.push(nodes::list(&[clause]).cast());
        (*root).qual_security_level = levels.len() as u32;
        (*entry).securityQuals = nodes::list(&levels);
    }
}
