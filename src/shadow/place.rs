//! Where in a query's joins a recorder belongs.
//!
//! Owns how far up a recorder may rise from its relation without seeing rows that no longer tell what was
//! denied. Must be sound before it is precise: where that is in doubt, it stays low.

use pgrx::pg_sys;

use pg_sys::{FuncExpr, JoinExpr, Node, NodeTag, PlannerInfo, RelOptInfo, Relids};

use super::functions::Functions;
use super::record::Precision;
use super::what::What;
use super::{build, defer, nodes, precision, recognise, state};
use crate::pg_compat::planner as compat;

/// A recorder to be placed.
pub struct Placing {
    pub root: *mut PlannerInfo,
    /// The relation's number in the query.
    pub relation: i32,
    pub table: pg_sys::Oid,
    pub functions: Functions,
    pub number: i32,
    pub what: What,
}

/// Where a recorder got to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// The relation is not below this node.
    No,
    /// It may go on upwards.
    Rises,
    /// It stays with the conditions of that join.
    Join {
        join: *mut JoinExpr,
        near: *mut Node,
        far: *mut Node,
        /// Whether conditions above look at the side that may be made up.
        is_filtered: bool,
    },
    /// It stays at the scan.
    Scan,
}

/// What a recorder met on its way up.
struct Rise<'a> {
    placing: &'a Placing,
    /// Relations that the results and conditions outside of the join tree look at.
    results: Relids,
    /// Outer joins that may have made its rows up.
    outer_joins: Relids,
    is_nullable: bool,
    /// Whether it is on the side of a semijoin or antijoin that only tests.
    is_tested: bool,
}

/// Stays after the filters of its table.
///
/// # Safety
/// `clause` holds `call`, a recorder of the relation, that only this query holds.
pub unsafe fn at_scan(placing: &Placing, clause: *mut Node, call: *mut FuncExpr) {
    // SAFETY: by the caller's promise.
    unsafe {
        let mut what = placing.what;
        if !precision::is_alone(placing.root) {
            what.precision = Precision::Scan;
        }
        build::retell(call, placing.number, what);
        let tree = (*(*placing.root).parse).jointree;
        wrap(tree.cast(), placing.relation, clause);
    }
}

/// Rises as far as it may.
///
/// # Safety
/// As above; `rel` is the relation.
pub unsafe fn at_joins(
    placing: &Placing,
    rel: *mut RelOptInfo,
    clause: *mut Node,
    call: *mut FuncExpr,
) {
    // SAFETY: by the caller's promise.
    unsafe {
        let root = placing.root;
        let query = (*root).parse;
        let mut rise = Rise {
            placing,
            results: results_of(root),
            outer_joins: core::ptr::null_mut(),
            is_nullable: false,
            is_tested: false,
        };
        let found = rise.up((*query).jointree.cast(), core::ptr::null_mut());
        let mut what = placing.what;
        if rise.is_tested {
            what.precision = what.precision.max(Precision::Level);
        }
        match found {
            Found::No => {}
            Found::Scan => at_scan(placing, clause, call),
            Found::Join {
                join,
                near,
                far,
                is_filtered,
            } => {
                if is_filtered {
                    what.precision = what.precision.max(Precision::Level);
                }
                build::retell(call, placing.number, what);
                let clause = rise.prepared(clause, call);
                rise.with_conditions(join, near, far, clause);
            }
            Found::Rises => {
                build::retell(call, placing.number, what);
                let mark = build::marker(&placing.functions, call, placing.relation);
                let clause = rise.prepared(clause, call);
                let call = recognise::call_in(clause, placing.functions.denied).unwrap_or(call);
                defer::at_top(placing, rel, clause, call, mark);
            }
        }
    }
}

/// The relations that a query's results look at; the same for each of its relations.
unsafe fn results_of(root: *mut PlannerInfo) -> Relids {
    let known = state::with(|planning| planning.results).flatten();
    if let Some((_, results)) = known.filter(|(of, _)| *of == root) {
        return results;
    }
    // SAFETY: by the caller's promise.
    unsafe {
        let query = (*root).parse;
        let mut results = pg_sys::bms_union(
            pg_sys::pull_varnos(root, (*root).processed_tlist.cast()),
            pg_sys::pull_varnos(root, (*query).havingQual),
        );
        if (*query).resultRelation > 0 {
            results = pg_sys::bms_add_member(results, (*query).resultRelation);
        }
        state::with(|planning| planning.results = Some((root, results)));
        results
    }
}

impl Rise<'_> {
    /// Climbs from the relation to the top of a node; `upper` are the relations that conditions above
    /// look at.
    unsafe fn up(&mut self, node: *mut Node, upper: Relids) -> Found {
        // SAFETY: a node of the join tree.
        unsafe {
            match (*node).type_ {
                NodeTag::T_RangeTblRef => {
                    let number = (*node.cast::<pg_sys::RangeTblRef>()).rtindex;
                    if number == self.placing.relation {
                        Found::Rises
                    } else {
                        Found::No
                    }
                }
                NodeTag::T_FromExpr => {
                    let from = node.cast::<pg_sys::FromExpr>();
                    let upper = pg_sys::bms_union(upper, self.looked_at((*from).quals));
                    nodes::each::<Node>((*from).fromlist)
                        .iter()
                        .map(|below| self.up(*below, upper))
                        .find(|found| *found != Found::No)
                        .unwrap_or(Found::No)
                }
                NodeTag::T_JoinExpr => self.through(node.cast(), upper),
                _ => Found::No,
            }
        }
    }

    unsafe fn through(&mut self, join: *mut JoinExpr, upper: Relids) -> Found {
        // SAFETY: a join of the join tree.
        unsafe {
            let (left, right) = ((*join).larg, (*join).rarg);
            let below = pg_sys::bms_union(upper, self.looked_at((*join).quals));
            let mut found = self.up(left, below);
            let on_left = found != Found::No;
            if !on_left {
                found = self.up(right, below);
            }
            let tests = matches!(
                (*join).jointype,
                pg_sys::JoinType::JOIN_SEMI | pg_sys::JoinType::JOIN_ANTI
            );
            // Wherever below it stays.
            self.is_tested |= tests && !on_left && found != Found::No;
            if found != Found::Rises {
                return found;
            }
            let (own, other) = if on_left {
                (left, right)
            } else {
                (right, left)
            };
            let side = compat::relids_in_jointree(own, false);
            let is_filtered = pg_sys::bms_overlap(upper, side);
            let stays = Found::Join {
                join,
                near: own,
                far: other,
                is_filtered,
            };
            use pg_sys::JoinType as J;
            match (*join).jointype {
                J::JOIN_LEFT if on_left => Found::Rises,
                J::JOIN_RIGHT if !on_left => Found::Rises,
                J::JOIN_LEFT | J::JOIN_RIGHT => {
                    if is_filtered || !pg_sys::bms_overlap(self.results, side) {
                        stays
                    } else {
                        self.made_up_by(join);
                        Found::Rises
                    }
                }
                J::JOIN_FULL if is_filtered => Found::Scan,
                J::JOIN_FULL => {
                    self.made_up_by(join);
                    Found::Rises
                }
                J::JOIN_ANTI if !on_left => stays,
                J::JOIN_INNER | J::JOIN_SEMI | J::JOIN_ANTI => Found::Rises,
                _ => Found::Scan,
            }
        }
    }

    unsafe fn made_up_by(&mut self, join: *mut JoinExpr) {
        self.is_nullable = true;
        // SAFETY: a join of the join tree.
        unsafe {
            if (*join).rtindex > 0 {
                self.outer_joins = pg_sys::bms_add_member(self.outer_joins, (*join).rtindex);
            }
        }
    }

    /// The relations that conditions look at, recorders and markers left out.
    unsafe fn looked_at(&self, quals: *mut Node) -> Relids {
        // SAFETY: by now conditions are a list.
        unsafe { looked_at(self.placing.root, &self.placing.functions, quals) }
    }

    /// The clause as it has to be above outer joins.
    unsafe fn prepared(&self, clause: *mut Node, call: *mut FuncExpr) -> *mut Node {
        // SAFETY: `call` is in `clause`, which only this query holds.
        unsafe {
            if self.is_nullable {
                build::skip_null_extended(call, self.placing.relation, self.placing.table);
            }
            compat::nulled_by(clause, self.placing.relation, self.outer_joins)
        }
    }

    /// Joins the conditions of a join, after all of them: it looks at what they look at.
    unsafe fn with_conditions(
        &self,
        join: *mut JoinExpr,
        near: *mut Node,
        far: *mut Node,
        clause: *mut Node,
    ) {
        // SAFETY: by the caller's promise.
        unsafe {
            let denied = self.placing.functions.denied;
            let Some(call) = recognise::call_in(clause, denied) else {
                return;
            };
            let far_relations = compat::relids_in_jointree(far, false);
            let near_relations = compat::relids_in_jointree(near, false);
            let mut pins: Vec<*mut Node> = Vec::new();
            let mut sees_far = false;
            for condition in nodes::members((*join).quals.cast()) {
                if recognise::call_in(condition, denied).is_some() {
                    continue;
                }
                let flags = pg_sys::PVC_RECURSE_AGGREGATES
                    | pg_sys::PVC_RECURSE_WINDOWFUNCS
                    | pg_sys::PVC_RECURSE_PLACEHOLDERS;
                for node in nodes::members(pg_sys::pull_var_clause(condition, flags as i32)) {
                    let variable = node.cast::<pg_sys::Var>();
                    sees_far |= pg_sys::bms_is_member((*variable).varno, far_relations);
                    let known = |pin: &*mut Node| pg_sys::equal((*pin).cast(), node.cast());
                    if !pins.iter().any(known) {
                        pins.push(nodes::copy(node));
                    }
                }
            }
            if !sees_far {
                let both = pg_sys::bms_union(far_relations, near_relations);
                pins.push(defer::placeholder(self.placing.root, both));
            }
            build::wait_for(call, &pins);
            (*join).quals = pg_sys::lappend((*join).quals.cast(), clause.cast()).cast();
        }
    }
}

/// The relations that conditions look at, recorders and markers left out.
///
/// # Safety
/// `quals` is a list of conditions of `root`'s query.
pub unsafe fn looked_at(root: *mut PlannerInfo, functions: &Functions, quals: *mut Node) -> Relids {
    // SAFETY: by the caller's promise.
    unsafe {
        nodes::each::<Node>(quals.cast())
            .iter()
            .filter(|clause| {
                recognise::call_in(**clause, functions.denied).is_none()
                    && !recognise::is_call(**clause, functions.mark)
            })
            .fold(core::ptr::null_mut(), |all, clause| {
                pg_sys::bms_union(all, pg_sys::pull_varnos(root, *clause))
            })
    }
}

/// Gives a relation a condition of its own, without touching its security quals; returns the node that
/// takes the place of `node`.
///
/// # Safety
/// `node` is a node of a join tree that only this query holds.
pub unsafe fn wrap(node: *mut Node, relation: i32, condition: *mut Node) -> *mut Node {
    // SAFETY: by the caller's promise.
    unsafe {
        match (*node).type_ {
            NodeTag::T_RangeTblRef if (*node.cast::<pg_sys::RangeTblRef>()).rtindex == relation => {
                let quals = nodes::list(&[condition]);
                return pg_sys::makeFromExpr(nodes::list(&[node]), quals.cast()).cast();
            }
            NodeTag::T_FromExpr => {
                let from = node.cast::<pg_sys::FromExpr>();
                let below: Vec<*mut Node> = nodes::members((*from).fromlist)
                    .into_iter()
                    .map(|below| wrap(below, relation, condition))
                    .collect();
                (*from).fromlist = nodes::list(&below);
            }
            NodeTag::T_JoinExpr => {
                let join = node.cast::<JoinExpr>();
                (*join).larg = wrap((*join).larg, relation, condition);
                (*join).rarg = wrap((*join).rarg, relation, condition);
            }
            _ => {}
        }
        node
    }
}
