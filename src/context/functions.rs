//! The context functions that are not called per row.
//!
//! Owns roles, lists of tenants and the setters. Documented where SQL declares them, in
//! `sql/10_context.sql`.

use pgrx::prelude::*;

use super::identity::TenantType;
use super::model::Resolved;
use super::{questions, resolve, setting};
use crate::binding::{self, Binding};
use crate::error::{Error, Kind, OrRaise, Result};
use crate::text::Argument;

#[pg_extern(sql = false)]
fn current_tenant_user_id() -> Option<String> {
    resolve::current()
        .or_raise()
        .user
        .as_deref()
        .map(str::to_owned)
}

#[pg_extern(sql = false)]
fn current_tenant_role() -> Option<String> {
    resolve::current_or_ambiguous()
        .or_raise()
        .role()
        .map(str::to_owned)
}

#[pg_extern(sql = false)]
fn is_tenant_admin() -> bool {
    with_tenant(questions::is_tenant_admin).or_raise()
}

#[pg_extern(sql = false)]
fn is_super_admin() -> bool {
    with_tenant(|resolved, binding| resolved.has_role_in(&binding.super_admin_roles)).or_raise()
}

#[pg_extern(sql = false)]
fn has_tenant_role(role: Option<Argument>) -> bool {
    let Some(role) = role else { return false };
    with_tenant(|resolved, _| resolved.has_role_in(&[&*role])).or_raise()
}

#[pg_extern(sql = false)]
fn user_tenant_ids() -> Vec<pgrx::Uuid> {
    let resolved = resolve::current().or_raise();
    if let Ok(Some(binding)) = binding::current()
        && binding.tenant_type != TenantType::Uuid
    {
        Error::new(
            Kind::DatatypeMismatch,
            format!(
                "tenants are of type {}, not uuid",
                binding.tenant_type.name()
            ),
        )
        .hint("Call user_tenant_ids_text().")
        .raise();
    }
    resolved
        .memberships
        .iter()
        .filter_map(|membership| match &membership.tenant {
            super::identity::TenantId::Uuid(id) => Some(pgrx::Uuid::from_bytes(*id.as_bytes())),
            _ => None,
        })
        .collect()
}

#[pg_extern(sql = false)]
fn user_tenant_ids_text() -> Vec<String> {
    let resolved = resolve::current().or_raise();
    resolved
        .memberships
        .iter()
        .map(|membership| membership.tenant.to_string())
        .collect()
}

#[pg_extern(sql = false)]
fn set_tenant_context(user_id: Option<Argument>, tenant_id: Option<Argument>) {
    let (user, tenant) = (user_id.as_deref(), tenant_id.as_deref());
    set_context(user.unwrap_or_default(), tenant.unwrap_or_default()).or_raise();
}

#[pg_extern(sql = false)]
fn clear_tenant_context() {
    let binding = binding::required().or_raise();
    for name in binding.setting_names() {
        setting::define(&name);
        setting::set_local(&name, "");
    }
    end_service(&binding);
}

/// A context that is placed, or cleared, ends what a service acted for.
fn end_service(binding: &Binding) {
    if binding.settings.service.value().is_some() {
        setting::set_local(binding.settings.service.name(), "");
    }
}

fn set_context(user_id: &str, tenant_id: &str) -> Result<()> {
    place(user_id, tenant_id)?;
    let resolved = resolve::current()?;
    match resolved.tenant() {
        Some(_) => Ok(()),
        None => Err(resolve::missing_context(&resolved)),
    }
}

/// Puts that user and tenant, and nothing else, into the settings for the rest of the transaction; empty
/// means unset.
pub fn place(user_id: &str, tenant_id: &str) -> Result<()> {
    let binding = binding::required()?;
    if !tenant_id.is_empty() && binding.tenant_setting.is_none() {
        return Err(Error::new(
            Kind::InvalidParameterValue,
            "a tenant cannot be chosen: no setting is bound for it",
        )
        .hint("Bind a tenant_setting with tenancy.bind, or leave tenant_id out."));
    }
    for name in binding.setting_names() {
        setting::define(&name);
        let is_chosen_tenant = binding.tenant_setting.as_deref() == Some(name.as_str());
        let value = match name.as_str() {
            name if name == binding.user_setting => user_id,
            _ if is_chosen_tenant => tenant_id,
            // The same context must not be contradicted by what another setting still says.
            _ => "",
        };
        setting::set_local(&name, value);
    }
    end_service(&binding);
    Ok(())
}

/// A question about the user in the current tenant: false without one.
fn with_tenant(question: impl FnOnce(&Resolved, &Binding) -> bool) -> Result<bool> {
    let resolved = resolve::current_or_ambiguous()?;
    if resolved.tenant().is_none() {
        return Ok(false);
    }
    Ok(binding::current()?.is_some_and(|binding| question(&resolved, &binding)))
}
