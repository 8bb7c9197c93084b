//! The way from a table without a tenant column to its tenant: a foreign key to a protected table.
//!
//! Owns which key that is, and the way on where the parent has no tenant column either. Must never
//! choose among several.

use pgrx::pg_sys;
use serde::Deserialize;

use super::model::{Options, Template};
use super::predicate::{Link, Owner};
use super::render::{quoted, quoted_list};
use super::spi;
use super::store::{self, Row};
use crate::catalog;
use crate::error::{Error, Kind, Result};

/// A foreign key of the table, or of one that it is a partition or a child of.
#[derive(Debug, Clone, Deserialize)]
struct Candidate {
    name: String,
    columns: Vec<String>,
    parent: u32,
    parent_columns: Vec<String>,
}

const CANDIDATES: &str = "
WITH RECURSIVE up AS (
  SELECT $1::pg_catalog.oid AS relation
  UNION SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid = up.relation)
SELECT pg_catalog.jsonb_build_object(
  'name', con.conname, 'parent', con.confrelid::pg_catalog.int8,
  'columns', (SELECT pg_catalog.jsonb_agg(a.attname ORDER BY k.place)
     FROM pg_catalog.unnest(con.conkey) WITH ORDINALITY AS k(number, place)
     JOIN pg_catalog.pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = k.number),
  'parent_columns', (SELECT pg_catalog.jsonb_agg(a.attname ORDER BY k.place)
     FROM pg_catalog.unnest(con.confkey) WITH ORDINALITY AS k(number, place)
     JOIN pg_catalog.pg_attribute a ON a.attrelid = con.confrelid AND a.attnum = k.number))::pg_catalog.text
FROM pg_catalog.pg_constraint con JOIN up ON con.conrelid = up.relation
WHERE con.contype = 'f' AND con.conparentid = 0
  -- Only some versions have temporal keys, which do not point at one row.
  AND NOT coalesce((pg_catalog.to_jsonb(con) ->> 'conperiod')::pg_catalog.bool, false)
ORDER BY con.conname COLLATE \"C\"";

/// The keys of a table that lead to protected tables, each with the way to the tenant.
pub fn all(relation: pg_sys::Oid) -> Result<Vec<Link>> {
    followed(relation, &mut vec![relation.to_u32()])
}

fn followed(relation: pg_sys::Oid, visited: &mut Vec<u32>) -> Result<Vec<Link>> {
    let mut links = Vec::new();
    for candidate in spi::rows_planned::<Candidate>(CANDIDATES, &[relation.into()])? {
        if visited.contains(&candidate.parent) {
            continue;
        }
        let parent = pg_sys::Oid::from(candidate.parent);
        let (Some(owner), Some(name)) = (owner(parent, visited)?, catalog::relation_name(parent))
        else {
            continue;
        };
        links.push(Link {
            constraint: candidate.name,
            columns: candidate.columns,
            parent: candidate.parent,
            parent_schema: name.schema,
            parent_table: name.name,
            parent_columns: candidate.parent_columns,
            owner,
        });
    }
    Ok(links)
}

/// How the rows of a table belong to tenants; `None` where they do not.
fn owner(relation: pg_sys::Oid, visited: &mut Vec<u32>) -> Result<Option<Owner>> {
    let Some(row) = store::of(relation)? else {
        return Ok(None);
    };
    let (template, options) = terms(&row)?;
    if template.has_tenant_column(&options) {
        return Ok(Some(Owner::Column {
            name: row.column_today(relation),
            shared: template == Template::SharedRead,
        }));
    }
    if template != Template::Child {
        return Ok(None);
    }
    visited.push(relation.to_u32());
    let links = followed(relation, visited);
    visited.pop();
    let chosen = choose(links?, &options, row.made.link.as_deref());
    Ok(chosen.ok().map(|link| Owner::Parent(Box::new(link))))
}

/// What a table is registered with.
pub fn terms(row: &Row) -> Result<(Template, Options)> {
    Ok((
        Template::parse(&row.template)?,
        Options::parse(&row.options)?,
    ))
}

/// Why no key was chosen.
enum Unclear {
    None,
    Several(Vec<Link>),
}

/// The named key, else the one that was chosen before, else the only one.
fn choose(
    mut links: Vec<Link>,
    options: &Options,
    before: Option<&str>,
) -> core::result::Result<Link, Unclear> {
    let named = |name: &str| links.iter().position(|link| link.constraint == name);
    let place = match &options.foreign_key {
        Some(name) => named(name),
        None => before
            .and_then(named)
            .or_else(|| (links.len() == 1).then_some(0)),
    };
    match place {
        Some(place) => Ok(links.swap_remove(place)),
        None if links.is_empty() || options.foreign_key.is_some() => Err(Unclear::None),
        None => Err(Unclear::Several(links)),
    }
}

/// The key by which the rows of a table belong to their parent's tenant.
pub fn of(relation: pg_sys::Oid, options: &Options, before: Option<&str>) -> Result<Link> {
    let table = catalog::relation_name(relation)
        .map(|name| format!("{}.{}", quoted(&name.schema), quoted(&name.name)))
        .unwrap_or_default();
    choose(all(relation)?, options, before).map_err(|unclear| match unclear {
        Unclear::None => Error::new(
            Kind::ObjectNotInPrerequisiteState,
            match &options.foreign_key {
                Some(name) => format!(
                    "no foreign key {} of table {table} leads to a protected table",
                    quoted(name)
                ),
                None => format!("no foreign key of table {table} leads to a protected table"),
            },
        )
        .detail("Template \"child\" finds the tenant of a row through its parent.")
        .hint("Protect the parent first, or use a template with a tenant column."),
        Unclear::Several(links) => Error::new(
            Kind::ObjectNotInPrerequisiteState,
            format!("several foreign keys of table {table} lead to protected tables"),
        )
        .detail(list(&links))
        .hint("Name the one that decides: options => '{\"foreign_key\": \"..\"}'."),
    })
}

/// The keys with what they refer to.
pub fn list(links: &[Link]) -> String {
    links
        .iter()
        .map(|link| {
            format!(
                "{} ({}) references {}.{}",
                quoted(&link.constraint),
                quoted_list(&link.columns),
                quoted(&link.parent_schema),
                quoted(&link.parent_table)
            )
        })
        .collect::<Vec<_>>()
        .join(", ")
}

/// The registered `child` tables whose way to the tenant begins at that parent.
pub fn children(parent: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    let mut found = Vec::new();
    for (relation, row) in store::all()? {
        if row.template != Template::Child.name() {
            continue;
        }
        let (_, options) = terms(&row)?;
        if choose(all(relation)?, &options, row.made.link.as_deref())
            .is_ok_and(|link| link.parent == parent.to_u32())
        {
            found.push(relation);
        }
    }
    Ok(found)
}
