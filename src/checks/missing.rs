//! Who lacks rows that every tenant or user needs: `tenancy.detect_missing_tenant_data()`.
//!
//! Owns which tenants and users there are. Must never say that nothing is missing where it could not
//! look.

use std::collections::BTreeMap;

use pgrx::iter::TableIterator;
use pgrx::name;
use pgrx::prelude::*;

use super::fix;
use super::keys::Table;
use super::required::{self, Each, Requirement};
use crate::binding::{self, Binding};
use crate::catalog;
use crate::error::{Error, Kind, OrRaise, Result};
use crate::policy::subtransaction::{Failure, attempt_reading};
use crate::policy::{apply, literal};

/// A tenant or user that lacks rows.
pub struct Missing {
    pub tenant: String,
    pub subject: String,
    pub found: i64,
    pub remediation: Option<String>,
}

/// What came of looking for one requirement.
pub struct Looked {
    pub requirement: Requirement,
    pub missing: core::result::Result<Vec<Missing>, Failure>,
}

/// The users of a table with a role for each need a row there.
const ROLE_ROW: &str = "role";

/// Looks for all requirements, those that the binding implies too.
pub fn look(binding: &Binding, only: Option<&str>) -> Result<Vec<Looked>> {
    let mut requirements = required::all()?;
    requirements.extend(implied(binding, &requirements));
    let mut subjects = Subjects {
        binding,
        only,
        tenants: None,
        members: None,
    };
    let mut looked = Vec::new();
    for requirement in requirements {
        let missing = attempt_reading(|| find(&requirement, &mut subjects));
        looked.push(Looked {
            requirement,
            missing,
        });
    }
    Ok(looked)
}

fn implied(binding: &Binding, registered: &[Requirement]) -> Option<Requirement> {
    let membership = binding.membership.as_ref()?;
    let table = binding.role_table.as_ref()?;
    if table.relation == membership.relation {
        return None;
    }
    let name = catalog::relation_name(table.relation)?;
    let is_registered = registered.iter().any(|requirement| {
        requirement.each == Each::User
            && requirement.condition.is_none()
            && requirement.schema_name == name.schema
            && requirement.table_name == name.name
    });
    (!is_registered).then(|| Requirement {
        name: ROLE_ROW.to_owned(),
        schema_name: name.schema,
        table_name: name.name,
        key_column: binding.role_user.clone(),
        each: Each::User,
        condition: None,
        minimum: 1,
        fix: None,
        registered_by: String::new(),
    })
}

/// Tenants and users, read once.
struct Subjects<'a> {
    binding: &'a Binding,
    only: Option<&'a str>,
    tenants: Option<Vec<String>>,
    members: Option<Vec<(String, String)>>,
}

impl Subjects<'_> {
    fn tenants(&mut self) -> Result<&[String]> {
        let tenants = match (self.tenants.take(), self.only) {
            (Some(known), _) => known,
            (None, Some(only)) => vec![only.to_owned()],
            (None, None) => tenants(self.binding)?,
        };
        Ok(self.tenants.insert(tenants))
    }

    /// Users with their tenant.
    fn members(&mut self) -> Result<&[(String, String)]> {
        let members = match self.members.take() {
            Some(known) => known,
            None => members(self.binding, self.only)?,
        };
        Ok(self.members.insert(members))
    }
}

/// All tenants: those of the bound table, else those that have members.
pub fn tenants(binding: &Binding) -> Result<Vec<String>> {
    let (table, column) = if let Some(tenants) = &binding.tenants {
        (tenants, binding.tenants_id.as_str())
    } else if let Some(membership) = &binding.membership {
        (membership, binding.membership_tenant.as_str())
    } else {
        return Err(Error::new(
            Kind::ObjectNotInPrerequisiteState,
            "nothing says which tenants there are",
        )
        .hint("Bind a tenants table with tenancy.bind, or name a tenant."));
    };
    let table = Table::open(table.relation)?;
    Ok(table.count_by(column, None)?.into_keys().collect())
}

fn members(binding: &Binding, only: Option<&str>) -> Result<Vec<(String, String)>> {
    let Some(membership) = &binding.membership else {
        return Err(Error::new(
            Kind::ObjectNotInPrerequisiteState,
            "nothing says which users there are",
        )
        .hint("Bind a membership table with tenancy.bind."));
    };
    let table = Table::open(membership.relation)?;
    let user = catalog::quote_identifier(&binding.membership_user);
    let tenant = catalog::quote_identifier(&binding.membership_tenant);
    table.rows(
        &format!(
            "SELECT DISTINCT pg_catalog.jsonb_build_array({}, {})::pg_catalog.text
             FROM {} WHERE {user} IS NOT NULL AND {tenant} IS NOT NULL
               AND ($1::pg_catalog.text IS NULL OR {tenant} = $1::pg_catalog.text::{})",
            catalog::as_text(&user),
            catalog::as_text(&tenant),
            table.name,
            binding.tenant_type.name()
        ),
        &[only.into()],
    )
}

fn find(requirement: &Requirement, subjects: &mut Subjects<'_>) -> Result<Vec<Missing>> {
    let table = requirement.table()?;
    table.tell();
    let condition = requirement.condition.as_deref();
    let key = &requirement.key_column;
    let counts: BTreeMap<String, i64> = match (requirement.each, subjects.only) {
        (Each::Tenant, Some(only)) => {
            let of_type = subjects.binding.tenant_type.name();
            let count = table.count_of(key, only, of_type, condition)?;
            BTreeMap::from([(only.to_owned(), count)])
        }
        _ => table.count_by(key, condition)?,
    };
    let missing = |tenant: &str, subject: &str| {
        let found = counts.get(subject).copied().unwrap_or_default();
        (found < requirement.minimum).then(|| Missing {
            tenant: tenant.to_owned(),
            subject: subject.to_owned(),
            found,
            remediation: requirement
                .fix
                .as_ref()
                .map(|sql| fix::with_key(sql, &literal(subject))),
        })
    };
    Ok(match requirement.each {
        Each::Tenant => {
            let tenants = subjects.tenants()?.iter();
            tenants
                .filter_map(|tenant| missing(tenant, tenant))
                .collect()
        }
        Each::User => {
            let members = subjects.members()?.iter();
            members
                .filter_map(|(user, tenant)| missing(tenant, user))
                .collect()
        }
    })
}

/// The tenant as its type spells it; an error where there is none.
fn existing(binding: &Binding, tenant: &str) -> Result<String> {
    let id = binding.tenant_type.parse(tenant).map_err(|fault| {
        Error::new(
            Kind::InvalidTextRepresentation,
            format!("invalid tenant: not a well-formed {}", fault.type_name),
        )
        .hint("Give the tenant as the tenants table has it.")
    })?;
    let spelled = id.to_string();
    let (table, column) = if let Some(tenants) = &binding.tenants {
        (tenants, &binding.tenants_id)
    } else if let Some(membership) = &binding.membership {
        (membership, &binding.membership_tenant)
    } else {
        return Ok(spelled);
    };
    let table = Table::open(table.relation)?;
    if table.count_of(column, &spelled, binding.tenant_type.name(), None)? == 0 {
        return Err(
            Error::new(Kind::UndefinedObject, "the tenant does not exist")
                .hint("Give a tenant of the bound tables."),
        );
    }
    Ok(spelled)
}

/// Says that a requirement could not be looked for, which is not that nothing is missing.
fn tell(requirement: &Requirement, failure: &Failure) {
    apply::warning(
        &format!("requirement \"{}\" could not be checked", requirement.name),
        Some(&failure.sentence()),
        None,
    );
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns that SQL gets")]
fn detect_missing_tenant_data(
    tenant: Option<&str>,
) -> TableIterator<
    'static,
    (
        name!(tenant_id, Option<String>),
        name!(subject, Option<String>),
        name!(requirement, String),
        name!(relation, String),
        name!(found, Option<i64>),
        name!(minimum, i64),
        name!(remediation, Option<String>),
    ),
> {
    let run = || {
        let binding = binding::required()?;
        let only = tenant
            .map(|tenant| existing(&binding, tenant))
            .transpose()?;
        if only.is_none() {
            // Who may not know the tenants is told so once.
            tenants(&binding)?;
        }
        let mut rows = Vec::new();
        for looked in look(&binding, only.as_deref())? {
            let requirement = looked.requirement;
            let relation = format!(
                "{}.{}",
                catalog::quote_identifier(&requirement.schema_name),
                catalog::quote_identifier(&requirement.table_name)
            );
            match looked.missing {
                Ok(missing) => rows.extend(missing.into_iter().map(|missing| {
                    (
                        Some(missing.tenant),
                        Some(missing.subject),
                        requirement.name.clone(),
                        relation.clone(),
                        Some(missing.found),
                        requirement.minimum,
                        missing.remediation,
                    )
                })),
                Err(failure) => {
                    tell(&requirement, &failure);
                    let minimum = requirement.minimum;
                    rows.push((None, None, requirement.name, relation, None, minimum, None));
                }
            }
        }
        Ok::<_, Error>(rows)
    };
    TableIterator::new(run().or_raise())
}
