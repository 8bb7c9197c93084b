//! Reading bound tables for one user.
//!
//! Owns the lookups. Each table is read as its owner, row security suspended and operations
//! restricted, as Postgres's own foreign-key checks are; each through the snapshot that its caller
//! names.

use pgrx::FromDatum;
use pgrx::pg_sys::{self, Datum};

use super::identity::{TenantId, TenantType};
use super::model::{Asked, Membership, Resolved};
use crate::binding::authors::Judging;
use crate::binding::query::tenant_type_of;
use crate::binding::{Binding, Query};
use crate::catalog;
use crate::error::{Error, Kind, Result};
use crate::registry::ActingRole;
use crate::text;

/// What a lookup sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snapshot {
    /// All that is committed now; under REPEATABLE READ, all that the transaction sees.
    Fresh,
    /// What the running statement sees, in a leader and its parallel workers alike.
    OfStatement,
    /// All that is committed now, and of this transaction what it had done before that command.
    Before(pg_sys::CommandId),
}

/// Resolves what is asked, past any cache.
pub fn look_up(binding: &Binding, asked: &Asked, snapshot: Snapshot) -> Result<Resolved> {
    let is_active = || match (&binding.tenants_query, &asked.tenant) {
        (Some(query), Some(tenant)) => {
            Ok(!active_tenants(binding, query, &[tenant], snapshot)?.is_empty())
        }
        _ => Ok(true),
    };
    if asked.service {
        return Ok(Resolved::service(asked, is_active()?));
    }
    let role = match (&binding.role_query, &asked.user) {
        (Some(query), Some(user)) => role(query, user, snapshot)?,
        _ => None,
    };
    let Some(query) = &binding.membership_query else {
        return Ok(Resolved::trusted(asked, is_active()?, role));
    };
    let mut memberships = match &asked.user {
        Some(user) => memberships(binding, query, user, snapshot)?.named,
        None => Vec::new(),
    };
    if let Some(query) = &binding.tenants_query
        && !memberships.is_empty()
    {
        let tenants: Vec<_> = memberships
            .iter()
            .map(|membership| &membership.tenant)
            .collect();
        let active = active_tenants(binding, query, &tenants, snapshot)?;
        memberships.retain(|membership| active.contains(&membership.tenant));
    }
    Ok(Resolved::among(asked, memberships, role))
}

/// The memberships of a user.
pub struct Memberships {
    /// One a tenant, in the order of their tenants' spelling.
    pub named: Vec<Membership>,
    /// Whether there are others, in tenants that nobody can name: see `text`.
    pub others: bool,
}

/// The memberships of a user that a query gives.
pub fn memberships(
    binding: &Binding,
    query: &Query,
    user: &str,
    snapshot: Snapshot,
) -> Result<Memberships> {
    let mut found: Vec<Membership> = Vec::new();
    let mut others = false;
    run(
        query,
        |_| user_datum(query.parameter_type, user),
        snapshot,
        |row| {
            let Some(tenant) = row.tenant(1, binding.tenant_type)? else {
                others = true;
                return Ok(());
            };
            let role = row.text(2).map(String::into_boxed_str);
            let position = match found
                .iter()
                .position(|membership| membership.tenant == tenant)
            {
                Some(position) => position,
                None => {
                    found.push(Membership {
                        tenant,
                        roles: Vec::new(),
                    });
                    found.len() - 1
                }
            };
            found[position].roles.extend(role);
            Ok(())
        },
    )?;
    for membership in &mut found {
        membership
            .roles
            .sort_by_key(|role| core::cmp::Reverse(binding.rank(role)));
    }
    found.sort_by_cached_key(|membership| membership.tenant.to_string());
    Ok(Memberships {
        named: found,
        others,
    })
}

/// The role that a user has by the table of roles.
pub fn role(query: &Query, user: &str, snapshot: Snapshot) -> Result<Option<Box<str>>> {
    let mut roles = Vec::new();
    run(
        query,
        |_| user_datum(query.parameter_type, user),
        snapshot,
        |row| {
            roles.push(row.text(1).map(String::into_boxed_str));
            Ok(())
        },
    )?;
    match roles.len() {
        0 | 1 => Ok(roles.pop().flatten()),
        count => Err(Error::new(
            Kind::CardinalityViolation,
            "the current user has more than one role",
        )
        .detail(format!(
            "The bound role table has {count} rows for the user."
        ))
        .hint("Make the user column of the bound role table unique.")),
    }
}

fn active_tenants(
    binding: &Binding,
    query: &Query,
    tenants: &[&TenantId],
    snapshot: Snapshot,
) -> Result<Vec<TenantId>> {
    let mut active = Vec::with_capacity(tenants.len());
    let array = |element_type| tenant_array(element_type, tenants);
    run(query, array, snapshot, |row| {
        active.extend(row.tenant(1, binding.tenant_type)?);
        Ok(())
    })?;
    Ok(active)
}

/// A row of a lookup.
struct Row {
    tuple: pg_sys::HeapTuple,
    description: pg_sys::TupleDesc,
}

impl Row {
    fn datum(&self, number: i32) -> Option<Datum> {
        let mut is_null = false;
        // SAFETY: SPI's tuple and its description, alive while the row is read.
        let datum =
            unsafe { pg_sys::heap_getattr(self.tuple, number, self.description, &mut is_null) };
        (!is_null).then_some(datum)
    }

    /// The text in a column; a role that nobody can name is none.
    fn text(&self, number: i32) -> Option<String> {
        // SAFETY: the statement casts the column to text, or it is one.
        self.datum(number)
            .and_then(|datum| unsafe { text::of_value(datum) })
            .map(str::to_owned)
    }

    /// The tenant in a column of exactly that type: it may be another than the one that the binding has
    /// seen, if the table was altered while the lookup waited for it. `None` where nobody can name it.
    fn tenant(&self, number: i32, tenant_type: TenantType) -> Result<Option<TenantId>> {
        // SAFETY: the description of SPI's row.
        let type_oid = unsafe { pg_sys::SPI_gettypeid(self.description, number) };
        if tenant_type_of(type_oid) != Some(tenant_type) {
            return Err(Error::new(
                Kind::DatatypeMismatch,
                format!(
                    "a bound tenant column is not of type {} any more",
                    tenant_type.name()
                ),
            )
            .hint("Call tenancy.bind() with the tenant_type of the column."));
        }
        let missing = || Error::new(Kind::Internal, "a bound tenant column holds no value");
        let datum = self.datum(number).ok_or_else(missing)?;
        // SAFETY: a uuid datum points to 16 bytes; the other types are read as their own.
        Ok(Some(match tenant_type {
            TenantType::Uuid => unsafe {
                TenantId::Uuid(uuid::Uuid::from_bytes(*datum.cast_mut_ptr::<[u8; 16]>()))
            },
            TenantType::Text => match self.text(number) {
                Some(tenant) => TenantId::Text(tenant.into_boxed_str()),
                None => return Ok(None),
            },
            TenantType::Bigint => {
                TenantId::Bigint(unsafe { i64::from_datum(datum, false) }.ok_or_else(missing)?)
            }
            TenantType::Integer => TenantId::Bigint(i64::from(
                unsafe { i32::from_datum(datum, false) }.ok_or_else(missing)?,
            )),
        }))
    }
}

/// Runs a lookup. `argument` is built inside SPI's memory, which ends with the lookup.
fn run(
    query: &Query,
    argument: impl FnOnce(pg_sys::Oid) -> Datum,
    snapshot: Snapshot,
    mut each: impl FnMut(Row) -> Result<()>,
) -> Result<()> {
    // SAFETY: SPI is connected and finished here; an error in between unwinds to Postgres, which
    // finishes it. The snapshot is pushed and popped around the statement.
    unsafe {
        pg_sys::SPI_connect();
        let role = ActingRole::new(query.owner);
        let judging = Judging::new(query.owner, &query.text);
        let path = query.pins.hold();
        let plan = query.plan()?;
        let mut values = [argument(query.element_type)];
        match snapshot {
            Snapshot::Fresh => pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()),
            Snapshot::Before(command) => {
                pg_sys::PushCopiedSnapshot(pg_sys::GetTransactionSnapshot());
                (*pg_sys::GetActiveSnapshot()).curcid = command;
            }
            Snapshot::OfStatement => {}
        }
        let result =
            pg_sys::SPI_execute_plan(plan, values.as_mut_ptr(), core::ptr::null(), true, 0);
        if snapshot != Snapshot::OfStatement {
            pg_sys::PopActiveSnapshot();
        }
        if result != pg_sys::SPI_OK_SELECT as i32 {
            return Err(Error::new(Kind::Internal, "a bound table cannot be read")
                .detail(format!("SPI_execute_plan returned {result}.")));
        }
        let table = pg_sys::SPI_tuptable;
        let count = usize::try_from(pg_sys::SPI_processed).unwrap_or(0);
        let outcome = (0..count).try_for_each(|index| {
            each(Row {
                tuple: *(*table).vals.add(index),
                description: (*table).tupdesc,
            })
        });
        drop(path);
        drop(judging);
        drop(role);
        // Shadow mode goes on after an error that is only returned.
        pg_sys::SPI_finish();
        outcome
    }
}

/// A user identifier as a value of the type it is compared with.
pub fn user_datum(parameter_type: pg_sys::Oid, user: &str) -> Datum {
    let text = catalog::c_string(user);
    let (mut input, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: reads the text with the type's own input function.
    unsafe {
        if parameter_type == pg_sys::TEXTOID {
            return Datum::from(pg_sys::cstring_to_text(text.as_ptr()));
        }
        pg_sys::getTypeInputInfo(parameter_type, &mut input, &mut parameter);
        pg_sys::OidInputFunctionCall(input, text.as_ptr().cast_mut(), parameter, -1)
    }
}

/// A tenant as a value of its type. The value may point into `tenant`.
pub fn tenant_datum(tenant: &TenantId) -> Datum {
    match tenant {
        TenantId::Uuid(id) => Datum::from(id.as_bytes().as_ptr()),
        // SAFETY: copies a NUL-terminated string.
        TenantId::Text(id) => unsafe {
            Datum::from(pg_sys::cstring_to_text(catalog::c_string(id).as_ptr()))
        },
        TenantId::Bigint(id) => Datum::from(*id),
    }
}

/// The tenants as an array of that type, in Postgres's memory.
pub fn tenant_array(element_type: pg_sys::Oid, tenants: &[&TenantId]) -> Datum {
    let (mut length, mut by_value, mut alignment) = (0i16, false, 0);
    // SAFETY: the elements are values of that type and live while the array is built.
    unsafe {
        let mut elements: Vec<Datum> = tenants.iter().map(|tenant| tenant_datum(tenant)).collect();
        pg_sys::get_typlenbyvalalign(element_type, &mut length, &mut by_value, &mut alignment);
        let count = i32::try_from(elements.len()).unwrap_or(i32::MAX);
        let array = pg_sys::construct_array(
            elements.as_mut_ptr(),
            count,
            element_type,
            i32::from(length),
            by_value,
            alignment,
        );
        Datum::from(array)
    }
}
