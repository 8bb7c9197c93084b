//! The context as one JSON document.
//!
//! Owns its shape and the rule who may see another user's. Must never show a tenant to somebody who
//! does not share it.

use serde_json::{Value, json};

use super::lookup::{self, Snapshot};
use super::model::{Asked, Membership, Resolved};
use super::resolve;
use crate::binding::{self, Binding};
use crate::error::{Error, Kind, Result};

/// The document of a resolved context.
pub fn of(resolved: &Resolved) -> Value {
    json!({
        "user": resolved.user.as_ref().map(|id| json!({ "id": id })),
        "tenant": resolved.tenant().map(|id| json!({ "id": id.to_string() })),
        "role": resolved.role(),
        "memberships": resolved.memberships.iter().map(membership).collect::<Vec<_>>(),
    })
}

fn membership(membership: &Membership) -> Value {
    json!({
        "tenant_id": membership.tenant.to_string(),
        "role": membership.roles.first(),
    })
}

/// The document of any user, as far as the current user may see it: all of it for himself and for a
/// super admin, what concerns the current tenant for an admin of it who shares it with that user.
pub fn of_user(user: &str) -> Result<Value> {
    let current = resolve::current()?;
    let binding = binding::required()?;
    let user: Box<str> = binding
        .user_type()
        .canonical(user)
        .map_err(|fault| {
            Error::new(
                Kind::InvalidTextRepresentation,
                format!("invalid user id: not a well-formed {}", fault.type_name),
            )
            .hint("Give the user's id as it stands in the bound table.")
        })?
        .into();
    if current.user.as_ref() == Some(&user) {
        return Ok(of(&current));
    }
    let is_super_admin =
        current.tenant().is_some() && current.has_role_in(&binding.super_admin_roles);
    let is_admin = current.tenant().is_some() && current.has_role_in(&binding.admin_roles);
    if !is_super_admin && !is_admin {
        return Err(refusal());
    }
    let asked = Asked {
        user: Some(user),
        tenant: None,
    };
    let mut other = lookup::look_up(&binding, &asked, Snapshot::Fresh)?;
    if is_super_admin {
        return Ok(of(&other));
    }
    share(&mut other, &current, &binding)?;
    Ok(of(&other))
}

/// Cuts the context of another user down to what an admin of the current tenant may see.
fn share(other: &mut Resolved, current: &Resolved, binding: &Binding) -> Result<()> {
    let shared = |tenant: &_| current.tenant() == Some(tenant);
    other
        .memberships
        .retain(|membership| shared(&membership.tenant));
    if binding.membership.is_none() || other.memberships.is_empty() {
        // The same answer for a stranger and for a user who does not exist.
        return Err(refusal());
    }
    if !other.tenant().is_some_and(shared) {
        *other = Resolved {
            user: other.user.take(),
            standing: super::model::Standing::Missing(super::model::Missing::NothingSet),
            roles: Vec::new(),
            memberships: core::mem::take(&mut other.memberships),
        };
    }
    Ok(())
}

fn refusal() -> Error {
    Error::new(
        Kind::InsufficientPrivilege,
        "permission denied for the tenant context of another user",
    )
    .hint("Ask as a super admin, or as an admin of a tenant that the user belongs to.")
}
