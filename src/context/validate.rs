//! What the settings ask for, judged against the binding.
//!
//! Owns the rules which setting means what and which values are well formed. Must never repeat a
//! malformed value in an error: it may be a token.

use std::ffi::CStr;

use super::claims::{Claims, Fault};
use super::identity::Malformed;
use super::model::Asked;
use super::service;
use super::setting::{SERVICE_SETTING, Setting};
use crate::binding::{self, Binding};
use crate::error::{Error, Kind, Result};
use crate::text;

/// Judges one value as it is set. Without a binding nothing can be said about it.
pub fn value(name: &str, value: &CStr) -> Result<()> {
    let Ok(Some(binding)) = binding::current() else {
        return Ok(());
    };
    let text = || text::exactly(value).map_err(|fault| malformed(fault, name));
    let user = |text: &str| {
        let read = binding.user_type().canonical(text).map(drop);
        read.map_err(|fault| malformed(fault, name))
    };
    let tenant = |text: &str| {
        let read = binding.tenant_type.parse(text).map(drop);
        read.map_err(|fault| malformed(fault, name))
    };
    if binding.claims_setting.as_deref() == Some(name) {
        let claims = identifiers(&binding, name, text()?)?;
        claims.0.as_deref().map_or(Ok(()), user)?;
        claims.1.as_deref().map_or(Ok(()), tenant)
    } else if binding.is_tenant_setting(name) || name == SERVICE_SETTING {
        tenant(text()?)
    } else if binding.user_setting == name {
        user(text()?)
    } else {
        Ok(())
    }
}

/// What all the settings together ask for.
pub fn asked(binding: &Binding) -> Result<Asked> {
    let (mut user, mut tenant) = (None, None);
    let settings = &binding.settings;
    if let Some(claims) = &settings.claims
        && let Some(text) = exactly(claims)?
    {
        let (user_claim, tenant_claim) = identifiers(binding, claims.name(), text)?;
        merge_user(binding, &mut user, claims, user_claim.as_deref())?;
        merge_tenant(binding, &mut tenant, claims, tenant_claim.as_deref())?;
    }
    let named = &settings.user;
    merge_user(binding, &mut user, named, exactly(named)?)?;
    for named in &settings.tenant {
        merge_tenant(binding, &mut tenant, named, exactly(named)?)?;
    }
    let named = &settings.service;
    let is_service = named.value().is_some() && service::is_service_session();
    let Some(text) = is_service.then(|| exactly(named)).transpose()?.flatten() else {
        return Ok(Asked {
            user,
            tenant,
            service: false,
        });
    };
    let mut served = None;
    merge_tenant(binding, &mut served, named, Some(text))?;
    if user.is_some() || tenant.is_some() {
        return Err(Error::new(
            Kind::InvalidParameterValue,
            "the context settings name a user or a tenant while a service acts for a tenant",
        )
        .hint("Call tenancy.as_tenant(), which clears them, or clear_tenant_context()."));
    }
    Ok(Asked {
        user: None,
        tenant: served,
        service: true,
    })
}

fn exactly(setting: &Setting) -> Result<Option<&str>> {
    let value = setting.exactly();
    value.map_err(|fault| malformed(fault, setting.name()))
}

fn merge_user(
    binding: &Binding,
    known: &mut Option<Box<str>>,
    setting: &Setting,
    text: Option<&str>,
) -> Result<()> {
    let Some(text) = text else { return Ok(()) };
    let id = binding
        .user_type()
        .canonical(text)
        .map_err(|fault| malformed(fault, setting.name()))?;
    merge(known, id.into(), "users")
}

fn merge_tenant(
    binding: &Binding,
    known: &mut Option<super::identity::TenantId>,
    setting: &Setting,
    text: Option<&str>,
) -> Result<()> {
    let Some(text) = text else { return Ok(()) };
    let id = binding
        .tenant_type
        .parse(text)
        .map_err(|fault| malformed(fault, setting.name()))?;
    merge(known, id, "tenants")
}

/// Two settings that name different identities leave open who is asking: nobody is.
fn merge<T: PartialEq>(known: &mut Option<T>, value: T, what: &str) -> Result<()> {
    if known.as_ref().is_some_and(|known| *known != value) {
        return Err(Error::new(
            Kind::InvalidParameterValue,
            format!("the context settings name different {what}"),
        )
        .hint("Set one of them, or the same value in all."));
    }
    *known = Some(value);
    Ok(())
}

fn identifiers(
    binding: &Binding,
    name: &str,
    text: &str,
) -> Result<(Option<String>, Option<String>)> {
    let fault = |fault| claims_error(fault, name);
    let claims = Claims::parse(text).map_err(fault)?;
    let identifier = |claim: &str| {
        let found = claims.identifier(claim).map_err(fault)?;
        // An escape may be of any character, whatever the document itself is written in.
        if found.as_deref().is_some_and(|found| !text::is_same(found)) {
            return Err(malformed(text::malformed(), name));
        }
        Ok(found)
    };
    let user = identifier(&binding.user_claim)?;
    let tenant = match &binding.tenant_claim {
        Some(claim) => identifier(claim)?,
        None => None,
    };
    Ok((user, tenant))
}

fn malformed(fault: Malformed, name: &str) -> Error {
    Error::new(
        Kind::InvalidTextRepresentation,
        format!(
            "invalid value for setting \"{name}\": not a well-formed {}",
            fault.type_name
        ),
    )
    .hint(format!(
        "Set {name} to an identifier of that type, or to '' for none."
    ))
}

fn claims_error(fault: Fault, name: &str) -> Error {
    match fault {
        Fault::Malformed => Error::new(
            Kind::InvalidTextRepresentation,
            format!("invalid value for setting \"{name}\": not JSON"),
        ),
        Fault::WrongShape => Error::new(
            Kind::InvalidParameterValue,
            format!("invalid value for setting \"{name}\": not a JSON object"),
        ),
        Fault::Unusable { claim } => Error::new(
            Kind::InvalidParameterValue,
            format!(
                "invalid value for setting \"{name}\": claim \"{claim}\" is neither text nor a 64-bit whole number"
            ),
        ),
    }
    .hint(format!("Set {name} to the claims of a token as a JSON object, or to '' for none."))
}
