//! How much a record says of the result.
//!
//! Owns what can be known of that from the shape of the query. Must rather say too little: `exact` is a
//! promise.

use pgrx::pg_sys;

use pg_sys::{Node, NodeTag, PlannerInfo};

use super::nodes;
use super::record::Precision;
use super::state::{Injected, Surrounding};
use crate::pg_compat::planner as compat;

/// The best that can be said of what reaches the top of this level of the query.
///
/// # Safety
/// `root` is being planned.
pub unsafe fn best(root: *mut PlannerInfo, injected: Option<&Injected>) -> Precision {
    let Some(injected) = injected.filter(|injected| injected.is_complete) else {
        return Precision::Scan;
    };
    // SAFETY: by the caller's promise.
    let (is_top, is_merge, is_filtered_after) = unsafe {
        let query = (*root).parse;
        let filters = [
            (*query).havingQual,
            (*query).limitCount,
            (*query).limitOffset,
        ];
        (
            (*root).query_level == 1,
            // What it does with a row is up to conditions that come after.
            (*query).commandType == pg_sys::CmdType::CMD_MERGE,
            filters.iter().any(|filter| !filter.is_null())
                || (*query).hasDistinctOn
                || chooses_rows(root),
        )
    };
    let around = &injected.surroundings;
    let harmless = |surrounding: &Surrounding| {
        matches!(
            surrounding,
            Surrounding::SetOperation | Surrounding::Writing | Surrounding::Value
        )
    };
    if is_merge || is_filtered_after {
        Precision::Level
    } else if is_top || around.iter().all(harmless) {
        Precision::Exact
    } else if around.contains(&Surrounding::CorrelatedExists) {
        // It may be turned into a hashed sub-plan, without the condition that correlates it.
        Precision::Scan
    } else {
        Precision::Level
    }
}

/// Whether an aggregate looks at some of the rows only: it has a filter of its own, or asks for a minimum
/// or a maximum, which hardly any row decides.
unsafe fn chooses_rows(root: *mut PlannerInfo) -> bool {
    // SAFETY: by the caller's promise; the tuple is released before returning.
    unsafe {
        if !(*(*root).parse).hasAggs {
            return false;
        }
        let flags = pg_sys::PVC_INCLUDE_AGGREGATES
            | pg_sys::PVC_RECURSE_WINDOWFUNCS
            | pg_sys::PVC_INCLUDE_PLACEHOLDERS;
        let results: *mut Node = (*root).processed_tlist.cast();
        nodes::members(pg_sys::pull_var_clause(results, flags as i32))
            .into_iter()
            .filter(|node| nodes::is(*node, NodeTag::T_Aggref))
            .any(|node| {
                let aggregate = node.cast::<pg_sys::Aggref>();
                if !(*aggregate).aggfilter.is_null() {
                    return true;
                }
                let function = (*aggregate).aggfnoid;
                let tuple = pg_sys::SearchSysCache1(
                    pg_sys::SysCacheIdentifier::AGGFNOID as i32,
                    pg_sys::Datum::from(function),
                );
                if tuple.is_null() {
                    return false;
                }
                let aggregate = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_aggregate>();
                let orders = (*aggregate).aggsortop != pg_sys::InvalidOid;
                pg_sys::ReleaseSysCache(tuple);
                orders
            })
    }
}

/// Whether a query reads from one place only.
///
/// # Safety
/// As above.
pub unsafe fn is_alone(root: *mut PlannerInfo) -> bool {
    // SAFETY: by the caller's promise.
    unsafe {
        let all = compat::relids_in_jointree((*(*root).parse).jointree.cast(), true);
        pg_sys::bms_membership(all) != pg_sys::BMS_Membership::BMS_MULTIPLE
    }
}
