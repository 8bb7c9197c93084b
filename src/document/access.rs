//! Who may see whose document.
//!
//! Must never show a tenant to somebody who does not share it, nor rows of a user that were not
//! registered to be shown.

use std::rc::Rc;

use super::answer;
use super::jsonb::Value;
use crate::binding::{self, Binding};
use crate::context::lookup::{self, Snapshot};
use crate::context::model::{Asked, Resolved};
use crate::context::resolve;
use crate::error::{Error, Kind, Result};

/// The document of any user, as far as the current user may see it: all of it for himself and for a
/// super admin, what concerns the current tenant for an admin of it who shares it with that user.
pub fn of_user<T>(user: &str, take: impl FnOnce(&Value) -> T) -> Result<T> {
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
        return Ok(take(&answer::current()?.value));
    }
    let is_super_admin =
        current.tenant().is_some() && current.has_role_in(&binding.super_admin_roles);
    let is_admin = current.tenant().is_some() && current.has_role_in(&binding.admin_roles);
    let other = if is_super_admin {
        let asked = Asked {
            user: Some(user),
            tenant: None,
            service: false,
        };
        lookup::look_up(&binding, &asked, Snapshot::Fresh)?
    } else if is_admin {
        shared(&binding, &current, user)?
    } else {
        return Err(refusal());
    };
    let value = answer::of(&other, |key| {
        is_super_admin || key.registration.is_shown_to_admins()
    })?;
    Ok(take(&value))
}

/// The context of another user in the current tenant, and in no other.
fn shared(binding: &Rc<Binding>, current: &Resolved, user: Box<str>) -> Result<Resolved> {
    let asked = Asked {
        user: Some(user),
        tenant: current.tenant().cloned(),
        service: false,
    };
    let mut other = lookup::look_up(binding, &asked, Snapshot::Fresh)?;
    // The same answer for a stranger and for a user who does not exist. Without memberships nothing
    // says who is in the tenant.
    if binding.membership.is_none() || other.tenant() != current.tenant() {
        return Err(refusal());
    }
    let tenant = other.tenant().cloned();
    other
        .memberships
        .retain(|membership| Some(&membership.tenant) == tenant.as_ref());
    Ok(other)
}

fn refusal() -> Error {
    Error::new(
        Kind::InsufficientPrivilege,
        "permission denied for the tenant context of another user",
    )
    .hint("Ask as a super admin, or as an admin of a tenant that the user belongs to.")
}
