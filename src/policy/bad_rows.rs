//! Rows that protection would hide or a key would refuse.
//!
//! Owns counting them before Postgres fails on the first, with a query that shows them. Must never count
//! with rights that see less than all rows, nor tell a caller about a table that he may not administer.

use pgrx::pg_sys;

use super::inspect::Facts;
use super::key_catalog::{Key, pairs};
use super::key_definition::End;
use super::render::{self, quoted};
use super::spi;
use crate::catalog;
use crate::error::{Error, Kind, Result};
use crate::registry::ActingRole;

/// Counts rows that nobody would see any more, before Postgres fails on the first.
pub fn refuse_rows_without_tenant(facts: &Facts, column: &str) -> Result<()> {
    let table = format!(
        "{}.{}",
        render::quoted(&facts.schema),
        render::quoted(&facts.name)
    );
    let filter = format!("FROM {table} WHERE {} IS NULL", render::quoted(column));
    let count: Option<u64> = {
        let _role = ActingRole::new(pg_sys::Oid::from(facts.owner));
        spi::row(
            &format!("SELECT pg_catalog.count(*)::pg_catalog.text {filter}"),
            &[],
        )?
    };
    match count {
        None | Some(0) => Ok(()),
        Some(count) => Err(Error::new(
            Kind::NotNullViolation,
            format!("{count} rows of {table} have no tenant"),
        )
        .detail(format!("Column {} is null there.", render::quoted(column)))
        .hint(format!(
            "Give them a tenant, or delete them; SELECT * {filter} shows them."
        ))),
    }
}

/// Says how many rows cross tenants before Postgres fails on the first. Where the tables have
/// different owners neither sees both, and Postgres's own validation has to do.
pub fn refuse_crossing_rows(key: &Key, child: &End, parent: &End) -> Result<()> {
    let (child_oid, parent_oid) = (pg_sys::Oid::from(child.oid), pg_sys::Oid::from(parent.oid));
    let owner = catalog::relation_owner(child_oid)?;
    if !key.validated || catalog::relation_owner(parent_oid)? != owner {
        return Ok(());
    }
    let filter = format!(
        "FROM {} c WHERE {} AND NOT EXISTS (SELECT FROM {} p WHERE {} AND p.{} = c.{})",
        child.qualified(),
        key.columns
            .iter()
            .map(|column| format!("c.{} IS NOT NULL", quoted(column)))
            .collect::<Vec<_>>()
            .join(" AND "),
        parent.qualified(),
        pairs(key)
            .map(|(from, to)| format!("p.{} = c.{}", quoted(to), quoted(from)))
            .collect::<Vec<_>>()
            .join(" AND "),
        quoted(&parent.column),
        quoted(&child.column),
    );
    let count: Option<u64> = {
        let _role = ActingRole::new(owner);
        spi::row(
            &format!("SELECT pg_catalog.count(*)::pg_catalog.text {filter}"),
            &[],
        )?
    };
    match count {
        None | Some(0) => Ok(()),
        Some(count) => Err(Error::new(
            Kind::ForeignKeyViolation,
            format!(
                "{count} rows of {} point at rows of another tenant in {}",
                child.qualified(),
                parent.qualified()
            ),
        )
        .detail(format!(
            "Foreign key {} does not carry the tenant.",
            quoted(&key.name)
        ))
        .hint(format!(
            "Mend the rows that this shows: SELECT c.* {filter}"
        ))),
    }
}
