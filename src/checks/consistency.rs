//! What is wrong with the data: `tenancy.check_data_consistency()`.
//!
//! Owns which faults are looked for and what would mend them. Must never show more of a row than its
//! key, nor say that nothing is wrong where it could not look.

use std::collections::{BTreeMap, BTreeSet};

use pgrx::iter::TableIterator;
use pgrx::name;
use pgrx::prelude::*;

use super::keys::Table;
use super::missing::{self, Looked};
use super::required::Each;
use crate::binding::{self, Binding};
use crate::catalog::{self, quote_identifier as quoted};
use crate::error::{OrRaise, Result};
use crate::policy::subtransaction::{Failure, attempt_reading};
use crate::policy::{self, Template, literal, spi};

/// Keys that a fault shows.
const EXAMPLES: usize = 5;

/// Statements that one remediation holds.
const STATEMENTS: usize = 1000;

struct Fault {
    check: &'static str,
    relation: String,
    count: Option<i64>,
    examples: Vec<String>,
    detail: String,
    remediation: Option<String>,
}

fn not_checked(relation: String, failure: &Failure) -> Fault {
    Fault {
        check: "not-checked",
        relation,
        count: None,
        examples: Vec::new(),
        detail: failure.sentence(),
        remediation: None,
    }
}

fn all() -> Result<Vec<Fault>> {
    let binding = binding::required()?;
    let mut faults = Vec::new();
    for looked in missing::look(&binding, None)? {
        faults.extend(lacking(looked));
    }
    faults.extend(look_at(&binding.membership, || {
        users_without_tenant(&binding)
    }));
    faults.extend(look_at(&binding.role_table, || {
        users_without_membership(&binding)
    }));
    let mut tenants: Option<BTreeSet<String>> = None;
    if let Some(table) = &binding.tenants {
        match attempt_reading(|| missing::tenants(&binding)) {
            Ok(ids) => tenants = Some(ids.into_iter().collect()),
            Err(failure) => faults.push(not_checked(name_of(table.relation), &failure)),
        }
    }
    for (relation, column) in tables_of_tenants()? {
        let name = name_of(relation);
        match attempt_reading(|| rows_of(&binding, relation, &column, tenants.as_ref())) {
            Ok(found) => faults.extend(found),
            Err(failure) => faults.push(not_checked(name, &failure)),
        }
    }
    Ok(faults)
}

fn name_of(relation: pg_sys::Oid) -> String {
    catalog::relation_name(relation)
        .map(|name| name.to_string())
        .unwrap_or_default()
}

fn look_at(
    table: &Option<binding::BoundTable>,
    look: impl FnOnce() -> Result<Option<Fault>>,
) -> Option<Fault> {
    let relation = table.as_ref()?.relation;
    match attempt_reading(look) {
        Ok(fault) => fault,
        Err(failure) => Some(not_checked(name_of(relation), &failure)),
    }
}

/// Tenants or users that lack rows of one requirement.
fn lacking(looked: Looked) -> Option<Fault> {
    let requirement = looked.requirement;
    let relation = format!(
        "{}.{}",
        quoted(&requirement.schema_name),
        quoted(&requirement.table_name)
    );
    let missing = match looked.missing {
        Ok(missing) if missing.is_empty() => return None,
        Ok(missing) => missing,
        Err(failure) => return Some(not_checked(relation, &failure)),
    };
    // A user may be in several tenants, and needs the rows once.
    let by_subject: BTreeMap<&str, Option<&str>> = missing
        .iter()
        .map(|missing| (missing.subject.as_str(), missing.remediation.as_deref()))
        .collect();
    let statements: Vec<String> = by_subject
        .values()
        .flatten()
        .take(STATEMENTS)
        // On a line of its own: the fix may end in a comment.
        .map(|sql| format!("{}\n;", sql.trim().trim_end_matches(';')))
        .collect();
    let mut detail = format!("requirement \"{}\"", requirement.name);
    if by_subject.len() > STATEMENTS && !statements.is_empty() {
        detail.push_str(&format!(
            "; the remediation is for the first {STATEMENTS}: run the check again after it"
        ));
    }
    Some(Fault {
        check: match requirement.each {
            Each::Tenant => "tenant-without-rows",
            Each::User => "user-without-rows",
        },
        relation,
        count: i64::try_from(by_subject.len()).ok(),
        examples: by_subject
            .keys()
            .take(EXAMPLES)
            .map(|key| (*key).to_owned())
            .collect(),
        detail,
        remediation: (!statements.is_empty()).then(|| statements.join("\n")),
    })
}

/// Where rows without a tenant can go.
fn to_platform(binding: &Binding, table: &Table, column: &str) -> Option<String> {
    let platform = binding.platform_tenant.as_deref()?;
    Some(format!(
        "UPDATE {} SET {column} = {} WHERE {column} IS NULL;",
        table.name,
        literal(platform),
        column = quoted(column)
    ))
}

fn users_without_tenant(binding: &Binding) -> Result<Option<Fault>> {
    let Some(membership) = &binding.membership else {
        return Ok(None);
    };
    let table = Table::open(membership.relation)?;
    table.tell();
    let user = &binding.membership_user;
    let condition = format!("{} IS NULL", quoted(&binding.membership_tenant));
    let users = table.count_by(user, Some(&condition))?;
    Ok((!users.is_empty()).then(|| Fault {
        check: "user-without-tenant",
        count: i64::try_from(users.len()).ok(),
        examples: users.keys().take(EXAMPLES).cloned().collect(),
        detail: "users whose membership names no tenant; the remediation, where there is one, makes them users of the platform tenant".to_owned(),
        remediation: to_platform(binding, &table, &binding.membership_tenant),
        relation: table.name,
    }))
}

/// Users with a role and no membership at all, where those are two tables.
fn users_without_membership(binding: &Binding) -> Result<Option<Fault>> {
    let (Some(membership), Some(roles)) = (&binding.membership, &binding.role_table) else {
        return Ok(None);
    };
    if membership.relation == roles.relation {
        return Ok(None);
    }
    let members = Table::open(membership.relation)?.count_by(&binding.membership_user, None)?;
    let table = Table::open(roles.relation)?;
    let users = table.count_by(&binding.role_user, None)?;
    let without: Vec<&String> = users
        .keys()
        .filter(|user| !members.contains_key(*user))
        .collect();
    Ok((!without.is_empty()).then(|| Fault {
        check: "user-without-tenant",
        count: i64::try_from(without.len()).ok(),
        examples: without
            .iter()
            .take(EXAMPLES)
            .map(|user| (*user).clone())
            .collect(),
        detail:
            "users with a role and without a membership; which tenant is theirs has to be decided"
                .to_owned(),
        remediation: None,
        relation: table.name,
    }))
}

/// Registered tables whose rows carry their tenant. A partition is read with its parent.
fn tables_of_tenants() -> Result<Vec<(pg_sys::Oid, String)>> {
    let registered = policy::registered_tables()?;
    let oids: BTreeSet<u32> = registered.iter().map(|(oid, _)| oid.to_u32()).collect();
    let mut tables = Vec::new();
    for (relation, row) in registered {
        let carries = matches!(
            Template::parse(&row.template),
            Ok(Template::Tenant
                | Template::SharedRead
                | Template::TenantReadAdminWrite
                | Template::MemberRead)
        );
        let parents: Vec<u32> = spi::rows(
            "SELECT pg_catalog.to_json(i.inhparent::pg_catalog.int8)::pg_catalog.text
             FROM pg_catalog.pg_inherits i WHERE i.inhrelid = $1",
            &[relation.into()],
        )?;
        if carries && !parents.iter().any(|parent| oids.contains(parent)) {
            tables.push((relation, row.column_today(relation)));
        }
    }
    Ok(tables)
}

fn rows_of(
    binding: &Binding,
    relation: pg_sys::Oid,
    column: &str,
    tenants: Option<&BTreeSet<String>>,
) -> Result<Vec<Fault>> {
    let table = Table::open(relation)?;
    table.tell();
    let name = quoted(column);
    let counted: Vec<(Option<String>, i64)> = table.rows(
        &format!(
            "SELECT pg_catalog.jsonb_build_array({}, pg_catalog.count(*))::pg_catalog.text
             FROM {} GROUP BY {name} ORDER BY 1",
            catalog::as_text(&name),
            table.name
        ),
        &[],
    )?;
    let mut faults = Vec::new();
    let is_membership = binding
        .membership
        .as_ref()
        .is_some_and(|bound| bound.relation == relation);
    let nobodys: i64 = counted
        .iter()
        .filter(|(tenant, _)| tenant.is_none())
        .map(|(_, count)| count)
        .sum();
    if nobodys > 0 && !is_membership {
        faults.push(Fault {
            check: "row-without-tenant",
            relation: table.name.clone(),
            count: Some(nobodys),
            examples: keys_without_tenant(&table, &name)?,
            detail: "rows that belong to nobody; the remediation, where there is one, gives them to the platform tenant, whose rows a template may show to everybody".to_owned(),
            remediation: to_platform(binding, &table, column),
        });
    }
    let (Some(tenants), Some(bound)) = (tenants, &binding.tenants) else {
        return Ok(faults);
    };
    // Its rows are everybody's, whether or not it is a tenant itself.
    let platform = binding
        .platform_tenant
        .as_deref()
        .map(|tenant| spelled(binding, tenant));
    let others = platform.as_deref().map_or_else(String::new, |tenant| {
        format!(" AND own.{name} <> {}", literal(tenant))
    });
    let unknown: Vec<(&String, i64)> = counted
        .iter()
        .filter_map(|(tenant, count)| Some((tenant.as_ref()?, *count)))
        .filter(|(tenant, _)| {
            !tenants.contains(*tenant) && Some(tenant.as_str()) != platform.as_deref()
        })
        .collect();
    if !unknown.is_empty() {
        faults.push(Fault {
            check: "tenant-unknown",
            count: Some(unknown.iter().map(|(_, count)| count).sum()),
            examples: unknown.iter().take(EXAMPLES).map(|(tenant, _)| (*tenant).clone()).collect(),
            detail: "rows of tenants that do not exist; the remediation deletes them".to_owned(),
            remediation: Some(format!(
                "DELETE FROM {} AS own WHERE own.{name} IS NOT NULL{others} AND NOT EXISTS (SELECT FROM {} AS known WHERE known.{} = own.{name});",
                table.name,
                name_of(bound.relation),
                quoted(&binding.tenants_id)
            )),
            relation: table.name,
        });
    }
    Ok(faults)
}

/// A tenant as its column shows it.
fn spelled(binding: &Binding, tenant: &str) -> String {
    let parsed = binding.tenant_type.parse(tenant);
    parsed.map_or_else(|_| tenant.to_owned(), |tenant| tenant.to_string())
}

/// Primary keys of rows without a tenant; none where the table has no primary key.
fn keys_without_tenant(table: &Table, column: &str) -> Result<Vec<String>> {
    let key: Vec<String> = spi::rows(
        "SELECT pg_catalog.to_json(pg_catalog.quote_ident(a.attname))::pg_catalog.text
         FROM pg_catalog.pg_index i
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
         WHERE i.indrelid = $1 AND i.indisprimary ORDER BY a.attnum",
        &[table.oid.into()],
    )?;
    if key.is_empty() {
        return Ok(Vec::new());
    }
    let parts: Vec<String> = key.iter().map(|name| catalog::as_text(name)).collect();
    table.rows(
        &format!(
            "SELECT pg_catalog.to_json(pg_catalog.concat_ws(', ', {}))::pg_catalog.text
             FROM {} WHERE {column} IS NULL ORDER BY {} LIMIT {EXAMPLES}",
            parts.join(", "),
            table.name,
            key.join(", ")
        ),
        &[],
    )
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns that SQL gets")]
fn check_data_consistency() -> TableIterator<
    'static,
    (
        name!(check, &'static str),
        name!(relation, String),
        name!(count, Option<i64>),
        name!(examples, Vec<String>),
        name!(detail, String),
        name!(remediation, Option<String>),
    ),
> {
    let faults = all().or_raise();
    TableIterator::new(faults.into_iter().map(|fault| {
        (
            fault.check,
            fault.relation,
            fault.count,
            fault.examples,
            fault.detail,
            fault.remediation,
        )
    }))
}
