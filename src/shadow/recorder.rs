//! The functions that plans call.
//!
//! Owns reading a recorder's arguments. Must always answer true, and never raise.

use pgrx::prelude::*;

use pg_sys::{Datum, FunctionCallInfo};

use super::recognise::{self, argument};
use super::record::{Kind, Precision};
use super::statement::{self, Circumstances};
use super::what::What;
use super::{compare, confirm, defer, state, store};
use crate::catalog;

macro_rules! version_1 {
    ($info:ident) => {
        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> &'static pg_sys::Pg_finfo_record {
            const VERSION_1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
            &VERSION_1
        }
    };
}

version_1!(pg_finfo_pg_tenancy_shadow_denied);
version_1!(pg_finfo_pg_tenancy_shadow_mark);
version_1!(pg_finfo_pg_tenancy_shadow_support);

/// `tenancy.shadow_denied(..)`.
///
/// # Safety
/// Called by Postgres with a valid call frame.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn pg_tenancy_shadow_denied(frame: FunctionCallInfo) -> Datum {
    // SAFETY: by the caller's promise.
    unsafe {
        let denied = compare::denies(|| relation_denied(frame));
        if denied.is_none() {
            record(frame);
        }
        Datum::from(denied != Some(true))
    }
}

/// The table of the row, where shadow mode put the call there and the row is one of the table's.
///
/// # Safety
/// A valid call frame.
unsafe fn relation_denied(frame: FunctionCallInfo) -> Option<pg_sys::Oid> {
    // SAFETY: by the caller's promise.
    unsafe {
        let call = (*(*frame).flinfo).fn_expr.cast::<pg_sys::Node>();
        let is_skipped = argument_of(frame, argument::SKIP).is_some_and(|skip| skip.value() != 0);
        if is_skipped || !recognise::is_ours(call, (*(*frame).flinfo).fn_oid) {
            return None;
        }
        let relation = argument_of(frame, argument::RELATION)?;
        Some(pg_sys::Oid::from(relation.value() as u32))
    }
}

/// An argument that is not null.
///
/// # Safety
/// A valid call frame.
unsafe fn argument_of(frame: FunctionCallInfo, index: usize) -> Option<Datum> {
    // SAFETY: by the caller's promise: the frame has `nargs` arguments.
    unsafe {
        if index >= usize::try_from((*frame).nargs).unwrap_or(0) {
            return None;
        }
        let value = (*frame).args.as_ptr().add(index);
        (!(*value).isnull).then_some((*value).value)
    }
}

unsafe fn record(frame: FunctionCallInfo) -> Option<()> {
    // SAFETY: by the caller's promise.
    unsafe {
        let memory = statement::query_memory();
        let call = (*(*frame).flinfo).fn_expr.cast::<pg_sys::Node>();
        if !recognise::is_ours(call, (*(*frame).flinfo).fn_oid) {
            // Called by hand: nobody may make records up.
            return None;
        }
        if argument_of(frame, argument::SKIP).is_some_and(|skip| skip.value() != 0) {
            return None;
        }
        let relation = pg_sys::Oid::from(argument_of(frame, argument::RELATION)?.value() as u32);
        let text = argument_of(frame, argument::WHAT)?;
        let text = catalog::string_from(pg_sys::text_to_cstring(text.cast_mut_ptr()))?;
        let what = What::parse(&text)?;
        if statement::would_raise_for(relation, what.command) {
            return None;
        }
        let role = argument_of(frame, argument::ROLE).map_or(pg_sys::InvalidOid, |role| {
            pg_sys::Oid::from(role.value() as u32)
        });
        let tenant = argument_of(frame, argument::TENANT).and_then(|value| {
            let type_oid = pg_sys::get_fn_expr_argtype((*frame).flinfo, argument::TENANT as i32);
            catalog::spelled(value, type_oid)
        });
        let circumstances = Circumstances::now();
        let mut record =
            circumstances.record(relation, what.command, what.kind, what.precision, role);
        record.row_tenant = tenant.as_deref();
        // Rows that another session has changed meanwhile are looked at again, in a state of their own.
        record.once = what.kind == Kind::HiddenRow
            && !memory.is_null()
            && (*(*frame).flinfo).fn_mcxt != memory;
        store::add(&record);
        if record.precision != Precision::Exact {
            confirm::note_unsettled(record.statement);
        }
        Some(())
    }
}

/// `tenancy.shadow_mark("any")`.
///
/// # Safety
/// Called by Postgres with a valid call frame.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pg_tenancy_shadow_mark(_frame: FunctionCallInfo) -> Datum {
    Datum::from(true)
}

/// `tenancy.shadow_support(internal)`.
///
/// # Safety
/// Called by Postgres with a valid call frame.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn pg_tenancy_shadow_support(frame: FunctionCallInfo) -> Datum {
    // SAFETY: the planner passes a request node.
    unsafe {
        let Some(datum) = argument_of(frame, 0) else {
            return Datum::null();
        };
        let node: *mut pg_sys::Node = datum.cast_mut_ptr();
        if !super::nodes::is(node, pg_sys::NodeTag::T_SupportRequestSelectivity) {
            return Datum::null();
        }
        let request = node.cast::<pg_sys::SupportRequestSelectivity>();
        (*request).selectivity = 1.0;
        let is_mark = state::with(|planning| planning.known.functions.mark)
            .is_some_and(|mark| mark == (*request).funcid);
        if is_mark && !(*request).root.is_null() {
            defer::detach((*request).root);
        }
        datum
    }
}
