//! What can be protected at all.
//!
//! Pure: owns the refusals by kind, column and type. Must never look at rights or rows.

use super::inspect::Facts;
use super::model::TenantFunctions;
use super::render;
use crate::binding::TenantType;
use crate::error::{Error, Kind, Result};

/// Fails for what cannot be protected; without a column, for a template that has none.
pub fn check_protectable(facts: &Facts, column: &str, tenant: TenantType) -> Result<()> {
    let name = format!(
        "{}.{}",
        render::quoted(&facts.schema),
        render::quoted(&facts.name)
    );
    if let Some(reserved) = &facts.reserved {
        return Err(Error::new(
            Kind::WrongObjectType,
            format!("cannot protect {name}: it is {reserved}"),
        )
        .hint("Protect the application's own tables."));
    }
    let kind = match facts.kind.as_str() {
        "r" | "p" => None,
        "v" => Some((
            "a view",
            "Protect the tables under it, and make it WITH (security_invoker = true).",
        )),
        "m" => Some((
            "a materialized view",
            "It holds rows of all tenants: keep it from application roles.",
        )),
        "f" => Some((
            "a foreign table",
            "Postgres has no row security on foreign tables: protect it where it lives.",
        )),
        "S" => Some(("a sequence", "Protect tables.")),
        "i" | "I" => Some(("an index", "Protect its table.")),
        _ => Some(("not a table", "Protect tables.")),
    };
    if let Some((what, hint)) = kind {
        return Err(Error::new(
            Kind::WrongObjectType,
            format!("cannot protect {name}: it is {what}"),
        )
        .hint(hint));
    }
    if facts.persistence == "t" {
        return Err(Error::new(
            Kind::WrongObjectType,
            format!("cannot protect {name}: it is a temporary table"),
        )
        .hint("A temporary table is seen by its own session only: leave it out."));
    }
    if column.is_empty() {
        return Ok(());
    }
    let Some(found) = &facts.column else {
        return Err(Error::new(
            Kind::UndefinedColumn,
            format!(
                "column {} of table {name} does not exist",
                render::quoted(column)
            ),
        )
        .hint("Add the column, or name the right one with tenant_column => '..'."));
    };
    if !tenant.column_types().contains(&found.base_type.as_str()) {
        return Err(Error::new(
            Kind::DatatypeMismatch,
            format!(
                "column {} of table {name} is of type {}, the tenant is of type {}",
                render::quoted(column),
                found.declared_type,
                tenant.column_types().first().copied().unwrap_or_default(),
            ),
        )
        .hint(
            "Alter the column's type, or bind another one with tenancy.bind(tenant_type => '..').",
        ));
    }
    if found.nondeterministic {
        return Err(Error::new(
            Kind::DatatypeMismatch,
            format!(
                "column {} of table {name} has a nondeterministic collation",
                render::quoted(column)
            ),
        )
        .detail("Tenants whose names it takes for equal would see each other's rows.")
        .hint("Alter the column to a deterministic collation, such as \"C\"."));
    }
    if found.generated {
        return Err(Error::new(
            Kind::WrongObjectType,
            format!(
                "column {} of table {name} is generated",
                render::quoted(column)
            ),
        )
        .hint("Use a plain column for the tenant."));
    }
    Ok(())
}
