//! The functions that SQL calls: the document, and the trigger of its sources.
//!
//! A document is copied for each call: what the executor holds must not change under it, and a copy
//! costs next to nothing beside what is done with it.

use pgrx::fcinfo::pg_getarg;
use pgrx::pg_sys::panic::pgrx_extern_c_guard;
use pgrx::prelude::*;

use super::jsonb::Value;
use super::{access, answer};
use crate::cache::generation;
use crate::catalog;
use crate::error::{Error, Kind, OrRaise, Result};
use crate::text::Argument;

macro_rules! sql_function {
    ($(#[$documentation:meta])* $name:ident, $info:ident, $body:expr) => {
        $(#[$documentation])*
        ///
        /// # Safety
        /// Called by Postgres's function manager with valid call information.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
            // SAFETY: turns a Rust panic into a Postgres error at this boundary.
            unsafe { pgrx_extern_c_guard(|| $body(fcinfo).or_raise()) }
        }

        #[doc = concat!("Version-1 call record of `", stringify!($name), "`.")]
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> &'static pg_sys::Pg_finfo_record {
            const VERSION_1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
            &VERSION_1
        }
    };
}

sql_function! {
    /// `get_user_tenant_context()`.
    pg_tenancy_document, pg_finfo_pg_tenancy_document, own
}
sql_function! {
    /// `get_user_tenant_context(text)`; strict.
    pg_tenancy_document_of, pg_finfo_pg_tenancy_document_of, of_user
}
sql_function! {
    /// `tenancy.invalidate_document()`: tells every session, when the transaction commits, that a
    /// source of the document changed.
    pg_tenancy_invalidate_document, pg_finfo_pg_tenancy_invalidate_document, invalidate
}

fn own(_fcinfo: pg_sys::FunctionCallInfo) -> Result<pg_sys::Datum> {
    Ok(datum(&answer::current()?.value))
}

fn of_user(fcinfo: pg_sys::FunctionCallInfo) -> Result<pg_sys::Datum> {
    // SAFETY: the function is strict and takes a text.
    let user: Option<Argument> = unsafe { pg_getarg(fcinfo, 0) };
    access::of_user(user.as_deref().unwrap_or_default(), datum)
}

/// A copy in the caller's memory.
fn datum(value: &Value) -> pg_sys::Datum {
    let bytes = value.bytes();
    // SAFETY: as many bytes as are copied, then a length in front that counts itself.
    unsafe {
        let copy = pg_sys::palloc(bytes.len()).cast::<u8>();
        core::ptr::copy_nonoverlapping(bytes.as_ptr(), copy, bytes.len());
        pgrx::set_varsize_4b(copy.cast(), i32::try_from(bytes.len()).unwrap_or(i32::MAX));
        pg_sys::Datum::from(copy)
    }
}

fn invalidate(fcinfo: pg_sys::FunctionCallInfo) -> Result<pg_sys::Datum> {
    // SAFETY: the context node's tag is checked before it is read as trigger data; messages are
    // registered that Postgres sends at commit and applies here at the next command.
    unsafe {
        let context = (*fcinfo).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
            return Err(Error::new(
                Kind::FeatureNotSupported,
                "not called as a trigger",
            ));
        }
        generation::note_own_document_change();
        announce((*(*context.cast::<pg_sys::TriggerData>()).tg_relation).rd_id);
        let data = &*context.cast::<pg_sys::TriggerData>();
        let is_update =
            data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_UPDATE;
        Ok(pg_sys::Datum::from(if is_update {
            data.tg_newtuple
        } else {
            data.tg_trigtuple
        }))
    }
}

/// Tells everybody, when the transaction commits, that the table changed.
pub fn announce(relation: pg_sys::Oid) {
    // SAFETY: registers messages that Postgres sends at commit.
    unsafe {
        if let Some(sentinel) = catalog::relation_oid("tenancy", "document_sentinel") {
            pg_sys::CacheInvalidateRelcacheByRelid(sentinel);
        }
        let is_registry =
            catalog::relation_name(relation).is_some_and(|name| name.schema == "tenancy");
        if is_registry {
            pg_sys::CacheInvalidateRelcacheByRelid(relation);
        }
    }
}
