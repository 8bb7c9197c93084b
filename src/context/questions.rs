//! What policies ask besides the tenant: the user, his tenants, his roles, the platform tenant.
//!
//! Owns the answers' memory, and what there is to say without a context. Must never answer for a
//! context that is not the current one, nor change a value that the executor may still point to.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::pg_sys::{self, Datum};

use super::hot::{self, Answers, Slot, Without};
use super::identity::{TenantId, TenantType};
use super::model::Resolved;
use super::{lookup, resolve};
use crate::binding::{self, Binding};
use crate::error::{Error, Kind, Result};
use crate::gucs::{self, MissingContext};

/// The user in every spelling that a column may be compared in.
struct UserAnswers {
    uuid: Option<Box<[u8; 16]>>,
    text: Box<[u64]>,
    bigint: Option<i64>,
}

/// The tenants of one context as an array.
struct Tenants {
    of: Rc<Resolved>,
    array: Box<[u64]>,
}

thread_local! {
    /// Of every user of the transaction: the executor may still point to them.
    static USERS: RefCell<HashMap<Box<str>, Rc<UserAnswers>>> = RefCell::new(HashMap::new());
    /// The same, by user; one for each context of his that differs.
    static TENANTS: RefCell<HashMap<Box<str>, Vec<Tenants>>> = RefCell::new(HashMap::new());
}

/// Called when a transaction is over and nothing points to its answers.
pub fn end_transaction() {
    USERS.with_borrow_mut(|users| {
        if !users.is_empty() {
            users.clear();
            users.shrink_to(16);
        }
    });
    TENANTS.with_borrow_mut(|tenants| {
        if !tenants.is_empty() {
            tenants.clear();
            tenants.shrink_to(16);
        }
    });
}

/// The answer; `None` is NULL. Kept where it depends on nothing but the current context.
pub fn answer(slot: Slot, without: Without) -> Result<Option<Datum>> {
    let resolved = resolve::current()?;
    let may_fail = without == Without::Fail && gucs::missing_context() == MissingContext::Error;
    let value = match slot {
        Slot::UserUuid | Slot::UserText | Slot::UserBigint => {
            if may_fail {
                resolve::require_user(&resolved)?;
            }
            user(&resolved, slot)?
        }
        Slot::TenantsUuid | Slot::TenantsText | Slot::TenantsBigint => {
            if may_fail {
                resolve::require_anyone(&resolved)?;
            }
            tenants(&resolved, slot)?
        }
        _ => {
            if resolved.tenant().is_none() {
                if may_fail {
                    return Err(resolve::missing_context(&resolved));
                }
                // Not kept: there is no tenant that it would be kept for.
                let is_role = matches!(slot, Slot::TenantAdmin | Slot::SuperAdmin);
                return Ok(is_role.then(|| Datum::from(false)));
            }
            with_tenant(&resolved, slot)?
        }
    };
    if let Some(value) = value
        && resolve::is_current(&resolved)
    {
        hot::remember(slot, value);
    }
    Ok(value)
}

fn with_tenant(resolved: &Resolved, slot: Slot) -> Result<Option<Datum>> {
    let Some(binding) = binding::current()? else {
        return Ok(None);
    };
    let roles = |is: bool| Ok(Some(Datum::from(is)));
    match slot {
        Slot::TenantAdmin => roles(is_tenant_admin(resolved, &binding)),
        Slot::SuperAdmin => roles(resolved.has_role_in(&binding.super_admin_roles)),
        Slot::PlatformUuid => platform(&binding, TenantType::Uuid),
        Slot::PlatformText => platform(&binding, TenantType::Text),
        _ => platform(&binding, TenantType::Bigint),
    }
}

/// Whether the user is an admin of the tenant that counts.
pub fn is_tenant_admin(resolved: &Resolved, binding: &Binding) -> bool {
    resolved.service
        || resolved.has_role_in(&binding.admin_roles)
        || resolved.has_role_in(&binding.super_admin_roles)
}

fn platform(binding: &Binding, wanted: TenantType) -> Result<Option<Datum>> {
    let id = binding
        .platform_tenant
        .as_deref()
        .and_then(|text| binding.tenant_type.parse(text).ok());
    let Some(id) = id else { return Ok(None) };
    let answers: Rc<Answers> = resolve::answers_of(&id);
    answers
        .datum(wanted)
        .map(Some)
        .ok_or_else(|| other_type(binding.tenant_type, wanted))
}

fn other_type(bound: TenantType, wanted: TenantType) -> Error {
    Error::new(
        Kind::DatatypeMismatch,
        format!(
            "tenants are of type {}, not {}",
            bound.name(),
            wanted.name()
        ),
    )
    .hint("Protect the table again: its policies are of an earlier binding.")
}

fn user(resolved: &Resolved, slot: Slot) -> Result<Option<Datum>> {
    let Some(user) = &resolved.user else {
        return Ok(None);
    };
    let answers = USERS.with_borrow_mut(|users| match users.get(user) {
        Some(known) => known.clone(),
        None => {
            let new = Rc::new(UserAnswers::new(user));
            users.insert(user.clone(), new.clone());
            new
        }
    });
    let (value, type_name) = match slot {
        Slot::UserUuid => (
            answers.uuid.as_ref().map(|id| Datum::from(id.as_ptr())),
            "uuid",
        ),
        Slot::UserBigint => (answers.bigint.map(Datum::from), "bigint"),
        _ => (Some(Datum::from(answers.text.as_ptr())), "text"),
    };
    value.map(Some).ok_or_else(|| {
        Error::new(
            Kind::InvalidTextRepresentation,
            format!("invalid user id: not a well-formed {type_name}"),
        )
        .detail("A protected table compares its user column with it.")
        .hint("Set the user's id as it stands in that column.")
    })
}

impl UserAnswers {
    fn new(user: &str) -> Self {
        let uuid = match TenantType::Uuid.parse(user) {
            Ok(TenantId::Uuid(id)) => Some(Box::new(*id.as_bytes())),
            _ => None,
        };
        let bigint = match TenantType::Bigint.parse(user) {
            Ok(TenantId::Bigint(id)) => Some(id),
            _ => None,
        };
        Self {
            uuid,
            text: hot::varlena(user),
            bigint,
        }
    }
}

fn tenants(resolved: &Rc<Resolved>, slot: Slot) -> Result<Option<Datum>> {
    if resolved.user.is_none() && resolved.tenant().is_none() {
        return Ok(None);
    }
    let (element, wanted) = match slot {
        Slot::TenantsUuid => (pg_sys::UUIDOID, TenantType::Uuid),
        Slot::TenantsText => (pg_sys::TEXTOID, TenantType::Text),
        _ => (pg_sys::INT8OID, TenantType::Bigint),
    };
    let Some(binding) = binding::current()? else {
        return Ok(None);
    };
    let bound = match binding.tenant_type {
        TenantType::Integer => TenantType::Bigint,
        other => other,
    };
    if bound != wanted {
        return Err(other_type(binding.tenant_type, wanted));
    }
    let user = resolved.user.clone().unwrap_or_default();
    Ok(TENANTS.with_borrow_mut(|known| {
        let of_user = known.entry(user).or_default();
        let place = of_user
            .iter()
            .position(|tenants| Rc::ptr_eq(&tenants.of, resolved) || tenants.of == *resolved)
            .unwrap_or_else(|| {
                let ids: Vec<&TenantId> = resolved
                    .memberships
                    .iter()
                    .map(|membership| &membership.tenant)
                    .collect();
                of_user.push(Tenants {
                    of: resolved.clone(),
                    array: kept(lookup::tenant_array(element, &ids)),
                });
                of_user.len() - 1
            });
        of_user
            .get(place)
            .map(|tenants| Datum::from(tenants.array.as_ptr()))
    }))
}

/// A copy of an array in memory that lives as long as we want.
fn kept(array: Datum) -> Box<[u64]> {
    let pointer = array.cast_mut_ptr::<pg_sys::varlena>();
    // SAFETY: an array that was just made, with a header of four bytes; the copy holds all of it.
    unsafe {
        let total = pgrx::varsize_any(pointer);
        let mut words = vec![0u64; total.div_ceil(8)].into_boxed_slice();
        core::ptr::copy_nonoverlapping(
            pointer.cast::<u8>(),
            words.as_mut_ptr().cast::<u8>(),
            total,
        );
        pg_sys::pfree(pointer.cast());
        words
    }
}
