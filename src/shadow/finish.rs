//! The finished plan.
//!
//! Owns the last order of conditions (recorders after all others, so that they see only what passed) and
//! what is found in the plan. Must never put a recorder before a condition.

use std::collections::HashSet;

use pgrx::pg_sys;

use pg_sys::{List, Node, NodeTag, Plan, PlannedStmt};

use super::functions::Functions;
use super::record::Precision;
use super::{nodes, recognise};

/// What a plan holds.
#[derive(Default)]
pub struct Inventory {
    /// Numbers of the recorders.
    pub recorders: HashSet<i32>,
    /// Entries of the range table that are scanned.
    pub scanned: HashSet<u32>,
    /// Tables with recorders that are exact.
    pub exact: HashSet<pg_sys::Oid>,
    /// Tables with recorders that are not.
    pub unsure: HashSet<pg_sys::Oid>,
    /// Whether rows come from elsewhere than tables.
    pub is_foreign: bool,
}

impl Inventory {
    /// # Safety
    /// `call` is a call of the recorder.
    unsafe fn note(&mut self, call: *mut pg_sys::FuncExpr) {
        // SAFETY: by the caller's promise.
        let (what, table) = unsafe {
            self.recorders.insert(recognise::number_of(call));
            (recognise::what_of(call), recognise::table_of(call))
        };
        if what.precision == Precision::Exact {
            self.exact.insert(table);
        } else {
            self.unsure.insert(table);
        }
    }
}

/// Puts recorders last and takes markers out.
///
/// # Safety
/// A plan that was just made.
pub unsafe fn finish(statement: *mut PlannedStmt, functions: &Functions) -> Inventory {
    let mut inventory = Inventory::default();
    // SAFETY: by the caller's promise.
    unsafe {
        each((*statement).planTree, functions, &mut inventory);
        for plan in nodes::each::<Plan>((*statement).subplans) {
            each(*plan, functions, &mut inventory);
        }
    }
    inventory
}

/// Shows each node of a plan that scans a relation, with the relation's number.
unsafe fn each(plan: *mut Plan, functions: &Functions, inventory: &mut Inventory) {
    if plan.is_null() {
        return;
    }
    // SAFETY: a valid plan; the tag says what each node is.
    unsafe {
        pg_sys::check_stack_depth();
        (*plan).qual = arranged((*plan).qual, functions, inventory);
        let mut below: *mut List = core::ptr::null_mut();
        match (*plan).type_ {
            NodeTag::T_NestLoop | NodeTag::T_MergeJoin | NodeTag::T_HashJoin => {
                let join = plan.cast::<pg_sys::Join>();
                (*join).joinqual = arranged((*join).joinqual, functions, inventory);
            }
            NodeTag::T_Append => below = (*plan.cast::<pg_sys::Append>()).appendplans,
            NodeTag::T_MergeAppend => below = (*plan.cast::<pg_sys::MergeAppend>()).mergeplans,
            NodeTag::T_SubqueryScan => {
                let inner = (*plan.cast::<pg_sys::SubqueryScan>()).subplan;
                each(inner, functions, inventory);
            }
            NodeTag::T_CustomScan => {
                let custom = plan.cast::<pg_sys::CustomScan>();
                below = (*custom).custom_plans;
                inventory.scanned.insert((*custom).scan.scanrelid);
                inventory.is_foreign = true;
            }
            NodeTag::T_ForeignScan => inventory.is_foreign = true,
            NodeTag::T_SeqScan
            | NodeTag::T_SampleScan
            | NodeTag::T_IndexScan
            | NodeTag::T_IndexOnlyScan
            | NodeTag::T_BitmapHeapScan
            | NodeTag::T_TidScan
            | NodeTag::T_TidRangeScan => {
                inventory
                    .scanned
                    .insert((*plan.cast::<pg_sys::Scan>()).scanrelid);
            }
            _ => {}
        }
        for one in nodes::each::<Plan>(below) {
            each(*one, functions, inventory);
        }
        each((*plan).lefttree, functions, inventory);
        each((*plan).righttree, functions, inventory);
    }
}

unsafe fn arranged(
    quals: *mut List,
    functions: &Functions,
    inventory: &mut Inventory,
) -> *mut List {
    // SAFETY: the conditions of a plan.
    unsafe {
        let mut conditions: Vec<*mut Node> = Vec::new();
        let mut recorders: Vec<*mut Node> = Vec::new();
        let mut marked = false;
        for clause in nodes::each::<Node>(quals).iter().copied() {
            if let Some(call) = recognise::call_in(clause, functions.denied) {
                inventory.note(call);
                recorders.push(clause);
            } else if recognise::is_call(clause, functions.mark) {
                marked = true;
            } else {
                conditions.push(clause);
            }
        }
        if recorders.is_empty() && !marked {
            return quals;
        }
        conditions.append(&mut recorders);
        nodes::list(&conditions)
    }
}
