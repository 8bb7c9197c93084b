//! The trigger that keeps a row with its tenant.
//!
//! Owns only the refusal: the trigger's WHEN clause lets nothing else get here, so that an update
//! which leaves the tenant alone costs a comparison. Must never read a row.

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::catalog;
use crate::error::{Error, Kind};

#[doc(hidden)]
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_tenant_column_immutable() -> &'static pg_sys::Pg_finfo_record {
    const VERSION_1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &VERSION_1
}

/// `tenancy.tenant_column_immutable()`.
///
/// # Safety
/// Called by Postgres with a valid call frame.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn tenant_column_immutable(
    frame: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: the frame is valid; a trigger call has a TriggerData node as its context.
    let relation = unsafe {
        let context = (*frame).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
            Error::new(
                Kind::FeatureNotSupported,
                "tenancy.tenant_column_immutable() is a trigger function",
            )
            .hint("Leave it to tenancy.protect_table().")
            .raise();
        }
        (*(*context.cast::<pg_sys::TriggerData>()).tg_relation).rd_id
    };
    let table = catalog::relation_name(relation)
        .map(|name| name.to_string())
        .unwrap_or_default();
    Error::new(
        Kind::CheckViolation,
        format!("a row of {table} cannot move to another tenant"),
    )
    .detail("The tenant column is immutable once written.")
    .hint("Insert a new row for the other tenant and delete this one.")
    .raise()
}
