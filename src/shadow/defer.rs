//! Recorders that wait for the topmost join.
//!
//! A clause of several relations would change how they are joined. So the planner learns through it which
//! columns have to get there, and then it is taken away, before the first path is made, and given to every
//! path of the join that first has all relations together. Owns that way. Must never change which joins
//! are tried.

use pgrx::pg_sys;

use pg_sys::{FuncExpr, JoinPath, List, Node, NodeTag, PlannerInfo, RelOptInfo, Relids};

use super::place::{self, Placing};
use super::state::{self, Deferred, Pending};
use super::{build, nodes, recognise};
use crate::pg_compat::planner as compat;

/// Something that is there only when those relations are.
///
/// # Safety
/// `relations` are relations of `root`'s query.
pub unsafe fn placeholder(root: *mut PlannerInfo, relations: Relids) -> *mut Node {
    // SAFETY: by the caller's promise.
    unsafe { pg_sys::make_placeholder_expr(root, nodes::boolean(true).cast(), relations).cast() }
}

/// Puts a recorder at the top of its level of the query.
///
/// # Safety
/// `clause` holds `call`, a recorder of the relation `rel`, and only this query holds it; `mark` is a
/// marker of the relation.
pub unsafe fn at_top(
    placing: &Placing,
    rel: *mut RelOptInfo,
    clause: *mut Node,
    call: *mut FuncExpr,
    mark: *mut Node,
) {
    // SAFETY: by the caller's promise.
    unsafe {
        let root = placing.root;
        let tree = (*(*root).parse).jointree;
        let all = filtering(placing, tree.cast(), core::ptr::null_mut());
        let is_joined = pg_sys::bms_membership(all) == pg_sys::BMS_Membership::BMS_MULTIPLE;
        if is_joined {
            place::wrap(tree.cast(), placing.relation, mark);
            state::with(|planning| planning.waiting.insert(placing.number));
            if compat::PLACEHOLDER_DEFERS {
                build::wait_for(call, &[placeholder(root, all)]);
            } else {
                need(rel, clause, all);
                state::with(|planning| {
                    planning.pending.push(Pending {
                        root,
                        clause,
                        required: all,
                    });
                });
                return;
            }
        }
        (*tree).quals = pg_sys::lappend((*tree).quals.cast(), clause.cast()).cast();
    }
}

/// The relations that can filter a row: all but the nullable sides of LEFT joins that no condition above
/// looks at.
unsafe fn filtering(placing: &Placing, node: *mut Node, upper: Relids) -> Relids {
    // SAFETY: a node of the join tree.
    unsafe {
        let looked_at = |quals| place::looked_at(placing.root, &placing.functions, quals);
        match (*node).type_ {
            NodeTag::T_RangeTblRef => {
                pg_sys::bms_make_singleton((*node.cast::<pg_sys::RangeTblRef>()).rtindex)
            }
            NodeTag::T_FromExpr => {
                let from = node.cast::<pg_sys::FromExpr>();
                let upper = pg_sys::bms_union(upper, looked_at((*from).quals));
                nodes::each::<Node>((*from).fromlist)
                    .iter()
                    .fold(core::ptr::null_mut(), |all, below| {
                        pg_sys::bms_union(all, filtering(placing, *below, upper))
                    })
            }
            NodeTag::T_JoinExpr => {
                let join = node.cast::<pg_sys::JoinExpr>();
                let below = pg_sys::bms_union(upper, looked_at((*join).quals));
                let right = compat::relids_in_jointree((*join).rarg, true);
                let mut all = filtering(placing, (*join).larg, below);
                if (*join).jointype == pg_sys::JoinType::JOIN_LEFT
                    && !pg_sys::bms_overlap(upper, right)
                    && !pg_sys::bms_is_member(placing.relation, right)
                {
                    return all;
                }
                all = pg_sys::bms_union(all, filtering(placing, (*join).rarg, below));
                if compat::RELIDS_NAME_OUTER_JOINS
                    && (*join).rtindex > 0
                    && (*join).jointype != pg_sys::JoinType::JOIN_INNER
                {
                    all = pg_sys::bms_add_member(all, (*join).rtindex);
                }
                all
            }
            _ => core::ptr::null_mut(),
        }
    }
}

/// Has the columns of a clause brought up to where those relations are joined.
unsafe fn need(rel: *mut RelOptInfo, clause: *mut Node, relations: Relids) {
    // SAFETY: a relation whose columns are counted from `min_attr`.
    unsafe {
        for node in nodes::members(pg_sys::pull_vars_of_level(clause, 0)) {
            let variable = node.cast::<pg_sys::Var>();
            if !nodes::is(node, NodeTag::T_Var) || (*variable).varno != (*rel).relid as i32 {
                continue;
            }
            let index = usize::try_from((*variable).varattno - (*rel).min_attr).unwrap_or(0);
            let needed = (*rel).attr_needed.add(index);
            if (*needed).is_null() {
                let target = (*rel).reltarget;
                (*target).exprs = pg_sys::lappend((*target).exprs, nodes::copy(node).cast());
            }
            *needed = pg_sys::bms_add_members(*needed, relations);
        }
    }
}

/// Takes the waiting recorders out of the planner's hands. Called while the size of the first relation
/// is estimated: after joins were removed, before paths are made.
///
/// # Safety
/// `root` is being planned.
pub unsafe fn detach(root: *mut PlannerInfo) {
    let Some((denied, waiting, pending)) = state::with(|planning| {
        let (mine, others) = std::mem::take(&mut planning.pending)
            .into_iter()
            .partition::<Vec<_>, _>(|pending| pending.root == root);
        planning.pending = others;
        (
            planning.known.functions.denied,
            planning.waiting.clone(),
            mine,
        )
    }) else {
        return;
    };
    if waiting.is_empty() {
        return;
    }
    // SAFETY: by the caller's promise.
    unsafe {
        let mut taken: Vec<*mut pg_sys::RestrictInfo> = pending
            .into_iter()
            .map(|one| compat::pushed_down(root, one.clause.cast(), one.required))
            .collect();
        for index in 1..(*root).simple_rel_array_size as usize {
            let rel = *(*root).simple_rel_array.add(index);
            if rel.is_null() || (*rel).joininfo.is_null() {
                continue;
            }
            let (out, kept): (Vec<_>, Vec<_>) = nodes::members((*rel).joininfo)
                .into_iter()
                .partition(|node| {
                    let clause = (*node.cast::<pg_sys::RestrictInfo>()).clause;
                    recognise::call_in(clause.cast(), denied)
                        .is_some_and(|call| waiting.contains(&recognise::number_of(call)))
                });
            if out.is_empty() {
                continue;
            }
            (*rel).joininfo = nodes::list(&kept);
            // A child may hold a translated copy already.
            if (*rel).reloptkind == pg_sys::RelOptKind::RELOPT_BASEREL {
                for node in out {
                    let clause = node.cast::<pg_sys::RestrictInfo>();
                    if !taken.contains(&clause) {
                        release(root, clause, denied);
                        taken.push(clause);
                    }
                }
            }
        }
        state::with(|planning| {
            planning
                .deferred
                .extend(taken.into_iter().map(|clause| Deferred { root, clause }));
        });
    }
}

/// Drops the placeholder, which has said what it was for and would only bear on the order of joins.
unsafe fn release(root: *mut PlannerInfo, clause: *mut pg_sys::RestrictInfo, denied: pg_sys::Oid) {
    // SAFETY: a clause of `root` that holds a recorder.
    unsafe {
        let Some(call) = recognise::call_in((*clause).clause.cast(), denied) else {
            return;
        };
        let mut arguments = nodes::members((*call).args);
        let Some(last) = arguments.pop() else {
            return;
        };
        if !nodes::is(last, NodeTag::T_PlaceHolderVar) {
            return;
        }
        let id = (*last.cast::<pg_sys::PlaceHolderVar>()).phid;
        let kept: Vec<*mut Node> = nodes::members((*root).placeholder_list)
            .into_iter()
            .filter(|node| (*node.cast::<pg_sys::PlaceHolderInfo>()).phid != id)
            .collect();
        (*root).placeholder_list = nodes::list(&kept);
        (*call).args = nodes::list(&arguments);
    }
}

/// Gives waiting recorders to the paths of a join that first has all their relations together.
///
/// # Safety
/// As Postgres calls `set_join_pathlist_hook`.
pub unsafe fn attach(root: *mut PlannerInfo, join: *mut RelOptInfo) {
    // SAFETY: by the caller's promise; clauses of a query that is being planned are valid.
    unsafe {
        let relations = whole(join);
        let is_due = |deferred: &&Deferred| {
            deferred.root == root && nodes::is_subset((*deferred.clause).required_relids, relations)
        };
        let Some(due) = state::with(|planning| {
            let due = planning.deferred.iter().filter(is_due);
            due.map(|deferred| deferred.clause).collect::<Vec<_>>()
        }) else {
            return;
        };
        for clause in due {
            if !pg_sys::is_parallel_safe(root, (*clause).clause.cast()) {
                keep_in_leader(join);
            }
            let mut translated = core::ptr::null_mut();
            for paths in [(*join).pathlist, (*join).partial_pathlist] {
                give(root, paths, join, clause, &mut translated);
            }
        }
    }
}

/// Has no worker run a join: it gets a recorder whose policy cannot be asked there, as one that looks up a
/// parent's row.
unsafe fn keep_in_leader(join: *mut RelOptInfo) {
    // SAFETY: by the caller's promise: the paths of this join are used by no other path yet.
    unsafe {
        (*join).consider_parallel = false;
        (*join).partial_pathlist = core::ptr::null_mut();
        for path in nodes::each::<pg_sys::Path>((*join).pathlist) {
            (**path).parallel_safe = false;
        }
    }
}

/// The relations of a join; of a join of children, their parents'.
unsafe fn whole(rel: *mut RelOptInfo) -> Relids {
    // SAFETY: by the caller's promise.
    unsafe {
        if (*rel).top_parent_relids.is_null() {
            (*rel).relids
        } else {
            (*rel).top_parent_relids
        }
    }
}

unsafe fn give(
    root: *mut PlannerInfo,
    paths: *mut List,
    join: *mut RelOptInfo,
    clause: *mut pg_sys::RestrictInfo,
    translated: &mut *mut pg_sys::RestrictInfo,
) {
    // SAFETY: by the caller's promise.
    unsafe {
        let required = (*clause).required_relids;
        for path in nodes::each::<Node>(paths).iter().copied() {
            if !matches!(
                (*path).type_,
                NodeTag::T_NestPath | NodeTag::T_MergePath | NodeTag::T_HashPath
            ) {
                continue;
            }
            let path = path.cast::<JoinPath>();
            let has_all =
                |input: *mut pg_sys::Path| nodes::is_subset(required, whole((*input).parent));
            if has_all((*path).outerjoinpath) || has_all((*path).innerjoinpath) {
                continue;
            }
            if translated.is_null() {
                *translated = if (*join).top_parent_relids.is_null() {
                    clause
                } else {
                    compat::for_children(root, clause, join)
                };
            }
            // A join of children has its clause translated anew each time.
            let is_known = |other: &*mut pg_sys::RestrictInfo| {
                *other == *translated
                    || (*translated != clause
                        && pg_sys::equal((**other).clause.cast(), (**translated).clause.cast()))
            };
            let known = nodes::each::<pg_sys::RestrictInfo>((*path).joinrestrictinfo)
                .iter()
                .any(is_known);
            if !known {
                // Paths share their lists.
                let list = pg_sys::list_copy((*path).joinrestrictinfo);
                (*path).joinrestrictinfo = pg_sys::lappend(list, (*translated).cast());
                if nodes::is(path.cast(), NodeTag::T_MergePath) {
                    mark_and_restore(path.cast());
                }
            }
        }
    }
}

/// A merge join that looks at each inner row once does not go back to rows of equal keys, which is for
/// joins without further conditions; with one, its inner side has to be able to go back.
unsafe fn mark_and_restore(path: *mut pg_sys::MergePath) {
    // SAFETY: a path that the planner has just made.
    unsafe {
        if (*path).skip_mark_restore {
            (*path).skip_mark_restore = false;
            (*path).materialize_inner = (*path).innersortkeys.is_null()
                && !pg_sys::ExecSupportsMarkRestore((*path).jpath.innerjoinpath);
        }
    }
}
