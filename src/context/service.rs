//! Services: jobs and migrations that act for one tenant after the other, as no user.
//!
//! Owns whose word about the tenant counts. It is the session's user who must be a service, and never the
//! role that acts: an application that may `SET ROLE` to a service, or calls a SECURITY DEFINER function
//! of one, does not become it. Whoever logged in as the service, or as an administrator, may act for any
//! tenant anyway. For all others the setting means nothing.

use std::cell::RefCell;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::identity::TenantId;
use super::{hot, resolve, setting};
use crate::binding::{self, Binding};
use crate::cache::generation;
use crate::catalog;
use crate::error::{Error, Kind, OrRaise, Result};
use crate::text::Argument;
use crate::{gucs, registry};

/// What was judged, as far as no message tells of a change.
#[derive(PartialEq)]
struct Judged {
    session: pg_sys::Oid,
    admin_roles: Vec<String>,
}

impl Judged {
    fn now() -> Self {
        Self {
            // SAFETY: a plain read of the backend's state; a parallel worker has its leader's session
            // user.
            session: unsafe { pg_sys::GetSessionUserId() },
            admin_roles: gucs::admin_roles(),
        }
    }
}

thread_local! {
    /// None until the setting had a value: that is all that other sessions pay for.
    static JUDGED: RefCell<Option<Judged>> = const { RefCell::new(None) };
}

/// Registers the callback for what roles are and whom they belong to; called once from `_PG_init`.
pub fn init() {
    catalog::call_on_change(
        &[
            pg_sys::SysCacheIdentifier::AUTHOID,
            pg_sys::SysCacheIdentifier::AUTHMEMMEMROLE,
            pg_sys::SysCacheIdentifier::DATABASEOID,
        ],
        roles_changed,
    );
}

#[pg_guard]
unsafe extern "C-unwind" fn roles_changed(
    _argument: pg_sys::Datum,
    _cache: i32,
    _hash: pg_sys::uint32,
) {
    if JUDGED.with(|judged| judged.try_borrow().is_ok_and(|judged| judged.is_some())) {
        hot::forget();
        // A lookup under way began with what is no longer so.
        generation::raise();
    }
}

/// Called as each statement starts: the session's user, or who administers, may be somebody else.
pub fn start_statement() {
    let changed = JUDGED.with_borrow(|judged| {
        judged
            .as_ref()
            .is_some_and(|judged| *judged != Judged::now())
    });
    if changed {
        JUDGED.set(None);
        hot::forget();
    }
}

/// Whether the session belongs to a service, or to who may make one: an administrator, or the owner of
/// the database. Reads the registry: called once a transaction, and only where the setting has a value.
pub fn is_service_session() -> bool {
    let judged = Judged::now();
    let session = judged.session;
    JUDGED.set(Some(judged));
    registry::administers_database(session) || is_registered(session)
}

/// By name and oid: a role of the same name that was made later is another.
fn is_registered(role: pg_sys::Oid) -> bool {
    let Some(table) = catalog::own_relation("service_roles") else {
        return false;
    };
    let name = catalog::role_name(role);
    let mut found = false;
    registry::scan(table, |row| {
        found |= row.oid(c"role_oid") == role
            && row.text(c"role_name").as_deref() == Some(name.as_str());
    });
    found
}

/// Fails unless the session may act for any tenant.
pub fn require_service_session() -> Result<()> {
    if is_service_session() {
        return Ok(());
    }
    Err(Error::new(
        Kind::InsufficientPrivilege,
        "the session's user is not a service role",
    )
    .detail("A role that was taken by SET ROLE, or by a function, does not count.")
    .hint("Connect as a role made by tenancy.create_service_role()."))
}

/// The tenant as the binding spells it.
fn spelled(binding: &Binding, tenant: &str) -> Result<TenantId> {
    let refuse = |what: String| {
        Error::new(Kind::InvalidTextRepresentation, what)
            .hint("Give the tenant as the tenants table has it.")
    };
    if tenant.is_empty() {
        return Err(refuse("invalid tenant: it is empty".to_owned()));
    }
    binding.tenant_type.parse(tenant).map_err(|fault| {
        refuse(format!(
            "invalid tenant: not a well-formed {}",
            fault.type_name
        ))
    })
}

/// What the settings must say for a service that acts for the tenant.
fn wanted(binding: &Binding, tenant: &TenantId) -> Vec<(String, String)> {
    let mut settings: Vec<(String, String)> = binding
        .setting_names()
        .into_iter()
        .map(|name| (name, String::new()))
        .collect();
    settings.push((setting::SERVICE_SETTING.to_owned(), tenant.to_string()));
    settings
}

fn require_tenant() -> Result<()> {
    let resolved = resolve::current()?;
    match resolved.tenant() {
        Some(_) if resolved.service => Ok(()),
        _ => Err(Error::new(
            Kind::InsufficientPrivilege,
            "the tenant does not exist or is not active",
        )
        .hint("Give an active tenant of the bound tenants table.")),
    }
}

#[pg_extern(sql = false)]
fn as_tenant(tenant: Option<Argument>) {
    let run = || {
        let tenant = tenant.ok_or_else(|| {
            Error::new(Kind::NullValueNotAllowed, "argument \"tenant\" is null")
                .hint("Give a tenant, or call clear_tenant_context() to end it.")
        })?;
        let binding = binding::required()?;
        require_service_session()?;
        let tenant = spelled(&binding, &tenant)?;
        for (name, value) in wanted(&binding, &tenant) {
            setting::define(&name);
            setting::set_local(&name, &value);
        }
        require_tenant()
    };
    run().or_raise();
}

/// While it lives, the session acts for a tenant; then all is as it was. Ends on drop.
pub struct Acting {
    nest_level: i32,
}

impl Acting {
    /// Acts for the tenant.
    pub fn for_tenant(binding: &Binding, tenant: &str) -> Result<Self> {
        let tenant = spelled(binding, tenant)?;
        let settings = wanted(binding, &tenant);
        for (name, _) in &settings {
            setting::define(name);
        }
        // SAFETY: opens a level of settings that `drop` closes; Postgres closes it on abort.
        let acting = Self {
            nest_level: unsafe { pg_sys::NewGUCNestLevel() },
        };
        for (name, value) in &settings {
            setting::set_for_level(name, value);
        }
        require_tenant()?;
        Ok(acting)
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        // SAFETY: closes the level that `for_tenant` opened.
        unsafe { pg_sys::AtEOXact_GUC(false, self.nest_level) };
    }
}
