//! Differences of the planner between versions.
//!
//! Must never hold a decision: see `pg_compat`.

use pgrx::pg_sys;

/// What a statement asks of one relation, and for which role.
pub struct Asked {
    /// `ACL_SELECT` and kin.
    pub permissions: u64,
    /// `InvalidOid` for the current role.
    pub acting_role: pg_sys::Oid,
    /// The columns that an UPDATE assigns, offset as in Postgres's own bitmaps.
    pub updated: *mut pg_sys::Bitmapset,
}

/// The permissions that a query asks for on an entry of its range table; nothing for children that
/// the planner added.
///
/// # Safety
/// `entry` is an entry of `query`'s range table.
pub unsafe fn asked_of(
    query: *const pg_sys::Query,
    entry: *mut pg_sys::RangeTblEntry,
) -> Option<Asked> {
    // SAFETY: by the caller's promise.
    unsafe {
        #[cfg(feature = "pg15")]
        {
            let _ = query;
            Some(Asked {
                permissions: u64::from((*entry).requiredPerms),
                acting_role: (*entry).checkAsUser,
                updated: (*entry).updatedCols,
            })
        }
        #[cfg(not(feature = "pg15"))]
        {
            if (*entry).perminfoindex == 0 {
                return None;
            }
            let permissions = pg_sys::getRTEPermissionInfo((*query).rteperminfos, entry);
            Some(Asked {
                permissions: (*permissions).requiredPerms,
                acting_role: (*permissions).checkAsUser,
                updated: (*permissions).updatedCols,
            })
        }
    }
}

/// The relations below a node of a join tree; on 16 and later with its outer joins where asked.
///
/// # Safety
/// `node` is a node of a join tree.
pub unsafe fn relids_in_jointree(node: *mut pg_sys::Node, outer_joins: bool) -> pg_sys::Relids {
    // SAFETY: by the caller's promise.
    unsafe {
        #[cfg(feature = "pg15")]
        {
            let _ = outer_joins;
            pg_sys::get_relids_in_jointree(node, false)
        }
        #[cfg(not(feature = "pg15"))]
        {
            pg_sys::get_relids_in_jointree(node, outer_joins, false)
        }
    }
}

/// Whether relids name outer joins as well as relations.
pub const RELIDS_NAME_OUTER_JOINS: bool = cfg!(not(feature = "pg15"));

/// Whether a clause of several relations can be handed to the planner and be told by a placeholder
/// which relations it has to wait for. On 15 such a clause would undo the reduction of semijoins.
pub const PLACEHOLDER_DEFERS: bool = cfg!(not(feature = "pg15"));

/// Says of the Vars of relation `relation` in `node` that those outer joins may null them.
///
/// # Safety
/// `node` is an expression of the query that is planned.
pub unsafe fn nulled_by(
    node: *mut pg_sys::Node,
    relation: i32,
    outer_joins: *mut pg_sys::Bitmapset,
) -> *mut pg_sys::Node {
    #[cfg(feature = "pg15")]
    {
        let _ = (relation, outer_joins);
        node
    }
    #[cfg(not(feature = "pg15"))]
    // SAFETY: by the caller's promise.
    unsafe {
        if outer_joins.is_null() {
            return node;
        }
        pg_sys::add_nulling_relids(node, pg_sys::bms_make_singleton(relation), outer_joins)
    }
}

/// A clause that is pushed down and waits for `required`.
///
/// # Safety
/// `clause` is an expression of `root`'s query.
pub unsafe fn pushed_down(
    root: *mut pg_sys::PlannerInfo,
    clause: *mut pg_sys::Expr,
    required: pg_sys::Relids,
) -> *mut pg_sys::RestrictInfo {
    let none = core::ptr::null_mut();
    // SAFETY: by the caller's promise.
    unsafe {
        let level = (*root).qual_security_level;
        #[cfg(feature = "pg15")]
        {
            pg_sys::make_restrictinfo(
                root, clause, true, false, false, level, required, none, none,
            )
        }
        #[cfg(not(feature = "pg15"))]
        {
            pg_sys::make_restrictinfo(
                root, clause, true, false, false, false, level, required, none, none,
            )
        }
    }
}

/// A clause of a join of whole relations, for the join of their children.
///
/// # Safety
/// `child` is a child join of `root`, and `clause` one of its topmost parent.
pub unsafe fn for_children(
    root: *mut pg_sys::PlannerInfo,
    clause: *mut pg_sys::RestrictInfo,
    child: *mut pg_sys::RelOptInfo,
) -> *mut pg_sys::RestrictInfo {
    // SAFETY: by the caller's promise.
    unsafe {
        #[cfg(feature = "pg15")]
        let translated = pg_sys::adjust_appendrel_attrs_multilevel(
            root,
            clause.cast(),
            (*child).relids,
            (*child).top_parent_relids,
        );
        #[cfg(not(feature = "pg15"))]
        let translated = pg_sys::adjust_appendrel_attrs_multilevel(
            root,
            clause.cast(),
            child,
            pg_sys::find_join_rel(root, (*child).top_parent_relids),
        );
        translated.cast()
    }
}

/// The identifier that Postgres gave the running statement; 0 where it computes none.
pub fn query_id() -> i64 {
    // SAFETY: a plain read of the backend's state.
    unsafe { pg_sys::pgstat_get_my_query_id() as i64 }
}

/// Has a query ask for no permissions.
///
/// # Safety
/// `query` is a valid query that nobody else holds.
pub unsafe fn ask_no_permissions(query: *mut pg_sys::Query) {
    // SAFETY: by the caller's promise.
    unsafe {
        #[cfg(feature = "pg15")]
        for entry in pgrx::PgList::<pg_sys::RangeTblEntry>::from_pg((*query).rtable).iter_ptr() {
            (*entry).requiredPerms = 0;
        }
        #[cfg(not(feature = "pg15"))]
        for entry in
            pgrx::PgList::<pg_sys::RTEPermissionInfo>::from_pg((*query).rteperminfos).iter_ptr()
        {
            (*entry).requiredPerms = 0;
        }
    }
}

/// Takes entries that ask for no permissions off a plan's list: the executor asserts that each asks
/// for some, and the planner that each relation it plans has one.
///
/// # Safety
/// A plan that was just made.
pub unsafe fn drop_empty_permissions(statement: *mut pg_sys::PlannedStmt) {
    #[cfg(feature = "pg15")]
    let _ = statement;
    #[cfg(not(feature = "pg15"))]
    // SAFETY: by the caller's promise; entries name places in the list, counted from 1.
    unsafe {
        use crate::lists;
        let all = lists::each::<pg_sys::RTEPermissionInfo>((*statement).permInfos);
        let asks = |infos: &*mut pg_sys::RTEPermissionInfo| (**infos).requiredPerms != 0;
        if all.iter().all(asks) {
            return;
        }
        let mut kept = Vec::new();
        let mut places = vec![0];
        for infos in all {
            let is_kept = asks(infos);
            if is_kept {
                kept.push(*infos);
            }
            places.push(if is_kept { kept.len() as u32 } else { 0 });
        }
        for entry in lists::each::<pg_sys::RangeTblEntry>((*statement).rtable) {
            let place = (**entry).perminfoindex as usize;
            (**entry).perminfoindex = places.get(place).copied().unwrap_or(0);
        }
        (*statement).permInfos = kept.into_iter().fold(core::ptr::null_mut(), |list, infos| {
            pg_sys::lappend(list, infos.cast())
        });
    }
}
