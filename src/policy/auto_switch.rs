//! The event trigger is enabled while a schema is registered, and only then.
//!
//! Owns the trigger of `tenancy.auto_protection`. A trigger, not `tenancy.auto_protect()` itself,
//! because a restore writes the table without it and must not leave new tables unprotected. It acts as
//! the owner of the event trigger, which only its owner may alter and only a superuser may own, so that
//! switching it on asks no superuser. Must never run anything but its fixed statements.

use pgrx::pg_sys;
use pgrx::prelude::*;
use serde::Deserialize;

use super::apply;
use super::spi;
use crate::error::{Error, Kind, OrRaise, Result};
use crate::registry::{ActingRole, extension_owner};

#[doc(hidden)]
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_pg_tenancy_switch_auto_protect() -> &'static pg_sys::Pg_finfo_record {
    const VERSION_1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &VERSION_1
}

/// `tenancy.switch_auto_protect()`, the trigger's function.
///
/// # Safety
/// Called by Postgres with a valid call frame.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn pg_tenancy_switch_auto_protect(
    frame: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: the frame is valid; a trigger call has a TriggerData node as its context.
    let is_trigger = unsafe {
        let context = (*frame).context;
        !context.is_null() && (*context).type_ == pg_sys::NodeTag::T_TriggerData
    };
    if !is_trigger {
        Error::new(
            Kind::FeatureNotSupported,
            "tenancy.switch_auto_protect() is a trigger function",
        )
        .hint("Use tenancy.auto_protect() and tenancy.auto_protect_off().")
        .raise();
    }
    set_event_trigger().or_raise();
    pg_sys::Datum::from(0)
}

/// Whether the event trigger is what the registry wants.
pub fn is_as_wanted() -> Result<bool> {
    Ok(state()?.is_none_or(|state| state.wanted == state.enabled))
}

fn state() -> Result<Option<State>> {
    let _role = ActingRole::new(extension_owner()?);
    spi::row_planned(
        "SELECT pg_catalog.jsonb_build_object(
           'wanted', EXISTS (SELECT FROM tenancy.auto_protection),
           'enabled', e.evtenabled IN ('O', 'A'), 'owner', e.evtowner::pg_catalog.int8)::pg_catalog.text
         FROM pg_catalog.pg_event_trigger e WHERE e.evtname = 'pg_tenancy_auto_protect'",
        &[],
    )
}

#[derive(Deserialize)]
struct State {
    wanted: bool,
    enabled: bool,
    owner: u32,
}

/// Puts the trigger back in force, which `pg_restore --disable-triggers` leaves as one that a replica
/// does not fire, and has the event trigger as the registry wants it, which that restore did not see to.
pub fn mend() -> Result<()> {
    let in_force: Option<bool> = spi::row(
        "SELECT pg_catalog.to_json(t.tgenabled = 'A')::pg_catalog.text FROM pg_catalog.pg_trigger t
         JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'tenancy' AND c.relname = 'auto_protection' AND t.tgname = 'switch_auto_protect'",
        &[],
    )?;
    if in_force == Some(false) {
        let _role = ActingRole::new(extension_owner()?);
        spi::execute(
            "ALTER TABLE tenancy.auto_protection ENABLE ALWAYS TRIGGER switch_auto_protect",
            &[],
        )?;
    }
    set_event_trigger()
}

/// Enables or disables the event trigger, as the registry wants it.
fn set_event_trigger() -> Result<()> {
    apply::see_own_changes();
    let Some(state) = state()? else { return Ok(()) };
    if state.wanted == state.enabled {
        return Ok(());
    }
    let _role = ActingRole::new(pg_sys::Oid::from(state.owner));
    spi::execute(
        if state.wanted {
            "ALTER EVENT TRIGGER pg_tenancy_auto_protect ENABLE"
        } else {
            "ALTER EVENT TRIGGER pg_tenancy_auto_protect DISABLE"
        },
        &[],
    )
}
