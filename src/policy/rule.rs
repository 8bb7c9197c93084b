//! What the predicates of one table depend on, read from catalog and registry.
//!
//! Owns the checks that a template fits a table. Must never lock.

use pgrx::pg_sys;
use serde::Deserialize;

use super::link;
use super::model::{Options, Template};
use super::predicate::{Rule, UserForm};
use super::render::{quoted, quoted_list};
use super::spi;
use crate::binding::{self, TenantType};
use crate::catalog;
use crate::context::identity::UserType;
use crate::error::{Error, Kind, Result};
use crate::registry::{ActingRole, PinnedSearchPath};

/// The rule of a table with that template and those options; `before` is the foreign key that was
/// chosen when it was protected. Fails where the template does not fit.
pub fn of(
    relation: pg_sys::Oid,
    template: Template,
    options: &Options,
    column: &str,
    tenant: TenantType,
    before: Option<&str>,
) -> Result<Rule> {
    options.check_for(template)?;
    let name = catalog::relation_name(relation)
        .ok_or_else(|| Error::new(Kind::UndefinedTable, "the table does not exist"))?;
    let table = format!("{}.{}", quoted(&name.schema), quoted(&name.name));
    let user = match template {
        Template::SelfRow => user_form(relation, &table, &options.user_column)?,
        _ => UserForm::Text,
    };
    let link = match template {
        Template::Child => Some(link::of(relation, options, before)?),
        _ => None,
    };
    if template == Template::SharedRead && binding::required()?.platform_tenant.is_none() {
        return Err(Error::new(
            Kind::ObjectNotInPrerequisiteState,
            "no platform tenant is bound",
        )
        .detail("Template \"shared_read\" shows its rows to everybody.")
        .hint("Name it: tenancy.bind(.., platform_tenant => '..')."));
    }
    if let Some(visible) = &options.visible {
        check_visible(relation, visible)?;
    }
    Ok(Rule {
        template,
        options: options.clone(),
        table: name.name,
        column: column.to_owned(),
        tenant,
        user,
        link,
    })
}

/// Parses the expression as the table's owner, who could write such a policy himself.
fn check_visible(relation: pg_sys::Oid, visible: &str) -> Result<()> {
    let owner = catalog::relation_owner(relation)?;
    let _role = ActingRole::new(owner);
    let _path = PinnedSearchPath::new();
    binding::shown_in_policy(relation, visible).map(drop)
}

#[derive(Deserialize)]
struct UserColumn {
    base_type: String,
    indexed: bool,
}

const USER_COLUMN: &str = "
SELECT pg_catalog.jsonb_build_object(
  'base_type', pg_catalog.format_type((
    WITH RECURSIVE under AS (
      SELECT t.oid, t.typtype, t.typbasetype FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid
      UNION ALL
      SELECT t.oid, t.typtype, t.typbasetype FROM pg_catalog.pg_type t
      JOIN under u ON u.typtype = 'd' AND t.oid = u.typbasetype)
    SELECT u.oid FROM under u WHERE u.typtype <> 'd'), NULL),
  'indexed', EXISTS (SELECT FROM pg_catalog.pg_index i
    WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indpred IS NULL AND i.indkey[0] = a.attnum)
)::pg_catalog.text
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = $1 AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped";

fn user_column(relation: pg_sys::Oid, column: &str) -> Result<Option<UserColumn>> {
    spi::row_planned(USER_COLUMN, &[relation.into(), column.into()])
}

/// The type in which the user is compared with the column.
fn user_form(relation: pg_sys::Oid, table: &str, column: &str) -> Result<UserForm> {
    let found = user_column(relation, column)?.ok_or_else(|| {
        Error::new(
            Kind::UndefinedColumn,
            format!("column {} of table {table} does not exist", quoted(column)),
        )
        .hint("Name the column that holds the user: options => '{\"user_column\": \"..\"}'.")
    })?;
    let form = match found.base_type.as_str() {
        "uuid" => Some(UserForm::Uuid),
        "text" | "character varying" => Some(UserForm::Text),
        "bigint" | "integer" => Some(UserForm::Bigint),
        _ => None,
    };
    // Users that are spelled as text may still all be of a narrower type.
    let bound = match binding::required()?.user_type() {
        UserType::Uuid => Some((UserForm::Uuid, "uuid")),
        UserType::Bigint | UserType::Integer => Some((UserForm::Bigint, "bigint or integer")),
        UserType::Text => None,
    };
    let (wanted, fits) = match bound {
        Some((wanted, name)) => (name, form == Some(wanted)),
        None => ("text, uuid, bigint or integer", form.is_some()),
    };
    form.filter(|_| fits).ok_or_else(|| {
        Error::new(
            Kind::DatatypeMismatch,
            format!(
                "column {} of table {table} is of type {}, users are of type {wanted}",
                quoted(column),
                found.base_type
            ),
        )
        .hint("Name another user_column, or alter the column's type.")
    })
}

/// What would make the template slow on the table, in words; nothing is made for it unasked.
pub fn advice(relation: pg_sys::Oid, rule: &Rule) -> Result<Option<String>> {
    let unindexed = |columns: &[String]| {
        format!(
            "no index leads with {}: make one, or every statement reads the whole table",
            quoted_list(columns)
        )
    };
    Ok(match (rule.template, &rule.link) {
        (Template::SelfRow, _) => user_column(relation, &rule.options.user_column)?
            .filter(|column| !column.indexed)
            .map(|_| unindexed(core::slice::from_ref(&rule.options.user_column))),
        (Template::Child, Some(link)) => match link.columns.first() {
            Some(first) => user_column(relation, first)?
                .filter(|column| !column.indexed)
                .map(|_| unindexed(&link.columns)),
            None => None,
        },
        _ => None,
    })
}
