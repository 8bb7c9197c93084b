//! Rows that protection would hide or a key would refuse.
//!
//! Owns counting them before Postgres fails on the first, with a query that shows them. Must never count
//! with rights that see less than all rows, nor tell a caller about a table that he may not administer.

use pgrx::pg_sys;

use super::inspect::Facts;
use super::key_catalog::{self, Key, pairs};
use super::key_definition::End;
use super::predicate::Link;
use super::render::{self, literal, quoted};
use super::spi;
use crate::catalog;
use crate::error::{Error, Kind, Result};
use crate::registry::{ActingRole, require_administrator};

/// Counts rows that nobody would see any more, before Postgres fails on the first. `platform` is the
/// tenant that they may be meant for, where the template shows its rows to everybody.
pub fn refuse_rows_without_tenant(
    facts: &Facts,
    column: &str,
    platform: Option<&str>,
) -> Result<()> {
    let table = format!(
        "{}.{}",
        render::quoted(&facts.schema),
        render::quoted(&facts.name)
    );
    let condition = format!("{} IS NULL", render::quoted(column));
    match count(facts, &table, &condition)? {
        None | Some(0) => Ok(()),
        Some(count) => Err(Error::new(
            Kind::NotNullViolation,
            format!("{count} rows of {table} have no tenant"),
        )
        .detail(format!("Column {} is null there.", render::quoted(column)))
        .hint(match platform {
            Some(tenant) => format!(
                "Give them to the platform tenant: UPDATE {table} SET {} = {} WHERE {condition};",
                render::quoted(column),
                literal(tenant)
            ),
            None => format!(
                "Delete them, or put the tenant's id into this and run it: \
                 UPDATE {table} SET {} = '<tenant>' WHERE {condition};",
                render::quoted(column)
            ),
        })),
    }
}

/// Counts rows of a `child` table that point at no parent.
pub fn refuse_rows_without_parent(facts: &Facts, link: &Link) -> Result<()> {
    let table = format!(
        "{}.{}",
        render::quoted(&facts.schema),
        render::quoted(&facts.name)
    );
    let condition = link
        .columns
        .iter()
        .map(|column| format!("{} IS NULL", render::quoted(column)))
        .collect::<Vec<_>>()
        .join(" OR ");
    match count(facts, &table, &condition)? {
        None | Some(0) => Ok(()),
        Some(count) => Err(Error::new(
            Kind::NotNullViolation,
            format!("{count} rows of {table} have no parent"),
        )
        .detail(format!(
            "Nobody would see them: foreign key {} is null there.",
            render::quoted(&link.constraint)
        ))
        .hint(format!(
            "Give them a parent, or delete them; SELECT * FROM {table} WHERE {condition} shows them."
        ))),
    }
}

fn count(facts: &Facts, table: &str, condition: &str) -> Result<Option<u64>> {
    let _role = ActingRole::new(pg_sys::Oid::from(facts.owner));
    spi::row(
        &format!("SELECT pg_catalog.count(*)::pg_catalog.text FROM {table} WHERE {condition}"),
        &[],
    )
}

/// Says how many rows cross tenants before Postgres fails on the first.
pub fn refuse_crossing_rows(key: &Key, child: &End, parent: &End) -> Result<()> {
    if !key.validated {
        return Ok(());
    }
    let (child_oid, parent_oid) = (pg_sys::Oid::from(child.oid), pg_sys::Oid::from(parent.oid));
    let owners = (
        catalog::relation_owner(child_oid)?,
        catalog::relation_owner(parent_oid)?,
    );
    let filter = crossing_filter(key, child, parent);
    let count = if owners.0 == owners.1 {
        let _role = ActingRole::new(owners.0);
        let sql = format!("SELECT pg_catalog.count(*)::pg_catalog.text {filter}");
        spi::row(&sql, &[])?
    } else if require_administrator(child_oid).is_ok() && require_administrator(parent_oid).is_ok()
    {
        count_between_owners(key, child, parent, owners)?
    } else {
        // What the count would tell about the other table is not the caller's to know. Postgres's own
        // check, which reads each table with its owner's rights, finds the first such row.
        return Ok(());
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
            "Foreign key {} does not carry the tenant. tenancy.cross_tenant_links() lists all such keys with \
             such rows.",
            quoted(&key.name)
        ))
        .hint(format!(
            "Mend the rows that this shows: SELECT c.* {filter}"
        ))),
    }
}

fn crossing_filter(key: &Key, child: &End, parent: &End) -> String {
    format!(
        "FROM {} c WHERE {} AND NOT EXISTS (SELECT FROM {} p WHERE {} AND p.{} = c.{})",
        child.qualified(),
        all_set(key),
        parent.qualified(),
        linked(key),
        quoted(&parent.column),
        quoted(&child.column),
    )
}

/// That `p` is the row that `c` points at, by the operators of the key: those of a type that an
/// extension brings are not found without their schema.
pub fn linked(key: &Key) -> String {
    pairs(key)
        .zip(&key.operators)
        .map(|((from, to), operator)| format!("p.{} {operator} c.{}", quoted(to), quoted(from)))
        .collect::<Vec<_>>()
        .join(" AND ")
}

/// That `c` points at something.
pub fn all_set(key: &Key) -> String {
    key.columns
        .iter()
        .map(|column| format!("c.{} IS NOT NULL", quoted(column)))
        .collect::<Vec<_>>()
        .join(" AND ")
}

/// The count where no role sees both tables whole: the links are read as the child's owner and looked
/// up as the parent's. Only for tables small enough to be checked in place.
pub fn count_between_owners(
    key: &Key,
    child: &End,
    parent: &End,
    owners: (pg_sys::Oid, pg_sys::Oid),
) -> Result<Option<u64>> {
    let mut from = vec![&child.column];
    let mut to = vec![&parent.column];
    for (column, referenced) in pairs(key) {
        from.push(column);
        to.push(referenced);
    }
    let links: Option<serde_json::Value> = {
        let _role = ActingRole::new(owners.0);
        let columns: Vec<String> = from
            .iter()
            .map(|column| catalog::as_text(&format!("c.{}", quoted(column))))
            .collect();
        spi::row(
            &format!(
                "SELECT pg_catalog.jsonb_agg(l.link)::pg_catalog.text FROM (
                     SELECT pg_catalog.jsonb_build_array({}, pg_catalog.count(*)) AS link
                     FROM {} c WHERE {} GROUP BY {}) l",
                columns.join(", "),
                child.qualified(),
                all_set(key),
                columns.join(", "),
            ),
            &[],
        )?
    };
    let Some(links) = links else {
        return Ok(None);
    };
    let types = key_catalog::column_types(parent.oid)?;
    let operators = std::iter::once("OPERATOR(pg_catalog.=)")
        .chain(key.parent_operators.iter().map(String::as_str));
    let conditions: Vec<String> = to
        .iter()
        .zip(operators)
        .enumerate()
        .map(|(place, (column, operator))| {
            let declared = types.get(*column).map_or("text", String::as_str);
            let same = format!(
                "p.{} {operator} (l.link ->> {place})::{declared}",
                quoted(column)
            );
            match &parent.shared {
                Some(tenant) if place == 0 => {
                    format!("({same} OR p.{} = {})", quoted(column), literal(tenant))
                }
                _ => same,
            }
        })
        .collect();
    let _role = ActingRole::new(owners.1);
    spi::row(
        &format!(
            "SELECT pg_catalog.sum((l.link ->> {})::pg_catalog.int8)::pg_catalog.text
             FROM pg_catalog.jsonb_array_elements($1) AS l(link)
             WHERE NOT EXISTS (SELECT FROM {} p WHERE {})",
            to.len(),
            parent.qualified(),
            conditions.join(" AND "),
        ),
        &[pgrx::JsonB(links).into()],
    )
}
