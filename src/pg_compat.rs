//! Every difference between the supported Postgres versions, and macros of its headers that have no
//! binding.
//!
//! Owns each `#[cfg(feature = "pgNN")]` of the extension. Must never hold a decision: one name, one
//! meaning, on every version.

pub mod planner;
pub mod timeout;

use pgrx::pg_sys;

use crate::catalog;

/// Whether this process is a parallel worker (`IsParallelWorker()`).
pub fn in_parallel_worker() -> bool {
    // SAFETY: a plain read of the backend's state.
    unsafe { pg_sys::ParallelWorkerNumber >= 0 }
}

/// Whether CREATEROLE grants every role that is no superuser, not only those that one administers.
pub const CREATEROLE_GRANTS_ANY_ROLE: bool = cfg!(feature = "pg15");

/// Whether a role may `SET ROLE` to another.
pub fn can_set_role(member: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    #[cfg(feature = "pg15")]
    // SAFETY: catalog lookups by oid.
    unsafe {
        pg_sys::is_member_of_role(member, role)
    }
    #[cfg(not(feature = "pg15"))]
    // SAFETY: catalog lookups by oid.
    unsafe {
        pg_sys::member_can_set_role(member, role)
    }
}

/// What SQL's own constructors of JSON make it of, and nothing for its query functions; `None` for any
/// other node.
///
/// # Safety
/// A valid node.
pub unsafe fn json_arguments(node: *mut pg_sys::Node) -> Option<*mut pg_sys::List> {
    // SAFETY: by the caller's promise; a node is read as what its tag says.
    match unsafe { (*node).type_ } {
        #[cfg(not(feature = "pg15"))]
        pg_sys::NodeTag::T_JsonConstructorExpr => {
            // SAFETY: as above.
            Some(unsafe { (*node.cast::<pg_sys::JsonConstructorExpr>()).args })
        }
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        pg_sys::NodeTag::T_JsonExpr => Some(core::ptr::null_mut()),
        _ => None,
    }
}

/// Whether the transaction keeps one snapshot (`IsolationUsesXactSnapshot()`).
pub fn one_snapshot_per_transaction() -> bool {
    // SAFETY: a plain read of the backend's state.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// Postgres's record of a setting; null when there is none.
pub fn find_setting(name: &str) -> *mut pg_sys::config_generic {
    let name = catalog::c_string(name);
    #[cfg(feature = "pg15")]
    // SAFETY: the table holds `GetNumConfigOptions()` records with names that live as long.
    unsafe {
        let table = pg_sys::get_guc_variables();
        let count = usize::try_from(pg_sys::GetNumConfigOptions()).unwrap_or(0);
        (0..count)
            .map(|index| *table.add(index))
            .find(|variable| pg_sys::pg_strcasecmp((**variable).name, name.as_ptr()) == 0)
            .unwrap_or(core::ptr::null_mut())
    }
    #[cfg(not(feature = "pg15"))]
    // SAFETY: a lookup without placeholders and without errors.
    unsafe {
        pg_sys::find_option(name.as_ptr(), false, true, 0)
    }
}

/// A relation that a statement names itself, and the role that its permissions are checked for.
pub struct NamedRelation {
    pub relation: pg_sys::Oid,
    /// `InvalidOid` for the current role.
    pub acting_role: pg_sys::Oid,
    /// The privileges that it takes, as bits.
    pub required: u64,
}

/// The relation of a range table entry; `None` for what is not a relation, and for children that the
/// planner added, whose permissions are those of the parent that the statement names.
///
/// # Safety
/// `entry` is an entry of `statement`'s range table.
pub unsafe fn named_relation(
    statement: *const pg_sys::PlannedStmt,
    entry: *mut pg_sys::RangeTblEntry,
) -> Option<NamedRelation> {
    // SAFETY: by the caller's promise.
    unsafe {
        if (*entry).rtekind != pg_sys::RTEKind::RTE_RELATION {
            return None;
        }
        #[cfg(feature = "pg15")]
        {
            let _ = statement;
            ((*entry).requiredPerms != 0).then(|| NamedRelation {
                relation: (*entry).relid,
                acting_role: (*entry).checkAsUser,
                required: u64::from((*entry).requiredPerms),
            })
        }
        #[cfg(not(feature = "pg15"))]
        {
            // As `getRTEPermissionInfo`, without a guarded call for each statement.
            let place = usize::try_from((*entry).perminfoindex)
                .ok()?
                .checked_sub(1)?;
            let infos = crate::lists::each::<pg_sys::RTEPermissionInfo>((*statement).permInfos);
            let permissions = *infos.get(place)?;
            ((*permissions).requiredPerms != 0).then(|| NamedRelation {
                relation: (*entry).relid,
                acting_role: (*permissions).checkAsUser,
                required: (*permissions).requiredPerms,
            })
        }
    }
}

/// The description of a column of a row, counted from 0.
///
/// # Safety
/// `row` is a valid description that has such a column.
pub unsafe fn column(row: pg_sys::TupleDesc, index: usize) -> *const pg_sys::FormData_pg_attribute {
    // SAFETY: by the caller's promise.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16", feature = "pg17"))]
        {
            (*row).attrs.as_ptr().add(index)
        }
        #[cfg(not(any(feature = "pg15", feature = "pg16", feature = "pg17")))]
        {
            pg_sys::TupleDescAttr(row, index as i32)
        }
    }
}

/// Runs a started query to its end, past the hooks.
///
/// # Safety
/// `query` was started and not run yet.
pub unsafe fn run_to_end(query: *mut pg_sys::QueryDesc) {
    let forward = pg_sys::ScanDirection::ForwardScanDirection;
    // SAFETY: by the caller's promise.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16", feature = "pg17"))]
        pg_sys::standard_ExecutorRun(query, forward, 0, true);
        #[cfg(not(any(feature = "pg15", feature = "pg16", feature = "pg17")))]
        pg_sys::standard_ExecutorRun(query, forward, 0);
    }
}

/// Defines an `ExecutorRun` hook, whose arguments differ: it calls the second argument with the query,
/// whether it is to be run to its end, and what runs it, which goes on to the hook in the third.
#[cfg(any(feature = "pg15", feature = "pg16", feature = "pg17"))]
macro_rules! executor_run_hook {
    ($name:ident, $around:path, $previous:ident) => {
        #[pg_guard]
        unsafe extern "C-unwind" fn $name(
            query: *mut pg_sys::QueryDesc,
            direction: pg_sys::ScanDirection::Type,
            count: u64,
            once: bool,
        ) {
            // SAFETY: Postgres passes a valid query; the previous hook expects the same.
            unsafe {
                let is_whole =
                    count == 0 && direction == pg_sys::ScanDirection::ForwardScanDirection;
                $around(query, is_whole, || match $previous {
                    #[allow(
                        ffi_unwind_calls,
                        reason = "the boundary turns a Postgres error into a panic"
                    )]
                    Some(previous) => pgrx::pg_sys::ffi::pg_guard_ffi_boundary(|| {
                        previous(query, direction, count, once)
                    }),
                    None => pg_sys::standard_ExecutorRun(query, direction, count, once),
                });
            }
        }
    };
}

/// Defines an `ExecutorRun` hook, whose arguments differ: it calls the second argument with the query,
/// whether it is to be run to its end, and what runs it, which goes on to the hook in the third.
#[cfg(not(any(feature = "pg15", feature = "pg16", feature = "pg17")))]
macro_rules! executor_run_hook {
    ($name:ident, $around:path, $previous:ident) => {
        #[pg_guard]
        unsafe extern "C-unwind" fn $name(
            query: *mut pg_sys::QueryDesc,
            direction: pg_sys::ScanDirection::Type,
            count: u64,
        ) {
            // SAFETY: Postgres passes a valid query; the previous hook expects the same.
            unsafe {
                let is_whole =
                    count == 0 && direction == pg_sys::ScanDirection::ForwardScanDirection;
                $around(query, is_whole, || match $previous {
                    #[allow(
                        ffi_unwind_calls,
                        reason = "the boundary turns a Postgres error into a panic"
                    )]
                    Some(previous) => pgrx::pg_sys::ffi::pg_guard_ffi_boundary(|| {
                        previous(query, direction, count)
                    }),
                    None => pg_sys::standard_ExecutorRun(query, direction, count),
                });
            }
        }
    };
}

pub(crate) use executor_run_hook;

/// Memory that all processes share, by name: made by the first that asks. With it, whether it was there.
/// `None` before 17, where it can be had only while the server starts. May raise for want of memory.
///
/// # Safety
/// Whoever asks for the name asks for that size, and `begin` makes it valid.
pub unsafe fn named_memory(
    name: &'static core::ffi::CStr,
    size: usize,
    begin: unsafe extern "C-unwind" fn(*mut core::ffi::c_void),
) -> Option<(*mut core::ffi::c_void, bool)> {
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    {
        let _ = (name, size, begin);
        None
    }
    #[cfg(not(any(feature = "pg15", feature = "pg16")))]
    // SAFETY: by the caller's promise.
    unsafe {
        let mut found = false;
        let memory = pg_sys::GetNamedDSMSegment(name.as_ptr(), size, Some(begin), &mut found);
        Some((memory, found))
    }
}

/// Oid and modifier of a type by its name, as a column definition spells it. Raises Postgres's own error
/// where there is none.
pub fn parse_type(name: &str) -> (pg_sys::Oid, i32) {
    let name = crate::catalog::c_string(name);
    let (mut oid, mut modifier) = (pg_sys::InvalidOid, -1);
    // SAFETY: a NUL-terminated string, and places for both answers.
    unsafe {
        #[cfg(feature = "pg15")]
        pg_sys::parseTypeString(name.as_ptr(), &mut oid, &mut modifier, false);
        #[cfg(not(feature = "pg15"))]
        pg_sys::parseTypeString(
            name.as_ptr(),
            &mut oid,
            &mut modifier,
            core::ptr::null_mut(),
        );
    }
    (oid, modifier)
}
