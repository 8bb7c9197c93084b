//! What the settings ask for, judged against the binding.
//!
//! Owns the rules which setting means what and which values are well formed. Must never repeat a
//! malformed value in an error: it may be a token.

use super::claims::{Claims, Fault};
use super::identity::Malformed;
use super::model::Asked;
use super::setting;
use crate::binding::{self, Binding};
use crate::error::{Error, Kind, Result};

/// Judges one value as it is set. Without a binding nothing can be said about it.
pub fn setting(name: &str, text: &str) -> Result<()> {
    let Ok(Some(binding)) = binding::current() else {
        return Ok(());
    };
    if binding.claims_setting.as_deref() == Some(name) {
        let claims = claims(name, text)?;
        user(&binding, name, claims.0)?;
        tenant(&binding, name, claims.1)?;
    } else if binding.is_tenant_setting(name) {
        tenant(&binding, name, Some(text.to_owned()))?;
    } else if binding.user_setting == name {
        user(&binding, name, Some(text.to_owned()))?;
    }
    return Ok(());

    fn user(binding: &Binding, name: &str, text: Option<String>) -> Result<()> {
        text.map_or(Ok(()), |text| {
            binding
                .user_type()
                .canonical(&text)
                .map(drop)
                .map_err(|fault| malformed(fault, name))
        })
    }
    fn tenant(binding: &Binding, name: &str, text: Option<String>) -> Result<()> {
        text.map_or(Ok(()), |text| {
            binding
                .tenant_type
                .parse(&text)
                .map(drop)
                .map_err(|fault| malformed(fault, name))
        })
    }
    fn claims(name: &str, text: &str) -> Result<(Option<String>, Option<String>)> {
        let Ok(Some(binding)) = binding::current() else {
            return Ok((None, None));
        };
        identifiers(&binding, name, text)
    }
}

/// What all the settings together ask for.
pub fn asked(binding: &Binding) -> Result<Asked> {
    let (mut user, mut tenant) = (None, None);
    if let Some(name) = &binding.claims_setting
        && let Some(text) = setting::value(name)
    {
        let (user_claim, tenant_claim) = identifiers(binding, name, &text)?;
        merge_user(binding, &mut user, name, user_claim)?;
        merge_tenant(binding, &mut tenant, name, tenant_claim)?;
    }
    let name = &binding.user_setting;
    merge_user(binding, &mut user, name, setting::value(name))?;
    for name in binding.tenant_setting_names() {
        merge_tenant(binding, &mut tenant, name, setting::value(name))?;
    }
    Ok(Asked { user, tenant })
}

fn merge_user(
    binding: &Binding,
    known: &mut Option<Box<str>>,
    name: &str,
    text: Option<String>,
) -> Result<()> {
    let Some(text) = text else { return Ok(()) };
    let id = binding
        .user_type()
        .canonical(&text)
        .map_err(|fault| malformed(fault, name))?;
    merge(known, id.into(), "users")
}

fn merge_tenant(
    binding: &Binding,
    known: &mut Option<super::identity::TenantId>,
    name: &str,
    text: Option<String>,
) -> Result<()> {
    let Some(text) = text else { return Ok(()) };
    let id = binding
        .tenant_type
        .parse(&text)
        .map_err(|fault| malformed(fault, name))?;
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
    let user = claims.identifier(&binding.user_claim).map_err(fault)?;
    let tenant = match &binding.tenant_claim {
        Some(claim) => claims.identifier(claim).map_err(fault)?,
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
                "invalid value for setting \"{name}\": claim \"{claim}\" is neither a string nor a 64-bit whole number"
            ),
        ),
    }
    .hint(format!("Set {name} to the claims of a token as a JSON object, or to '' for none."))
}
