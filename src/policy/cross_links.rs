//! Rows that point at another tenant's: `tenancy.cross_tenant_links()`.
//!
//! Owns along which keys is looked, and by whom. Must never change anything, nor tell a caller about a
//! table that he may not administer.

use std::collections::BTreeMap;

use pgrx::iter::TableIterator;
use pgrx::name;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::apply;
use super::bad_rows::{all_set, count_between_owners, linked};
use super::inspect;
use super::key_catalog::{self, Key};
use super::key_completion::platform_of;
use super::key_definition::{End, carries, link_of, stands_for};
use super::model::ForeignKeys;
use super::render::{literal, quoted};
use super::spi;
use super::store;
use crate::catalog;
use crate::error::{OrRaise, Result};
use crate::gucs;
use crate::registry::{ActingRole, require_administrator};

/// How often progress is told, in keys.
const STEP: usize = 100;

/// A key along which rows cross.
struct Link {
    child: pg_sys::Oid,
    constraint: String,
    parent: pg_sys::Oid,
    /// `None` where the caller may not know, or finding out would cost too much.
    rows: Option<i64>,
    query: Option<String>,
}

fn find() -> Result<Vec<Link>> {
    let ends = registered()?;
    let oids: Vec<pg_sys::Oid> = ends.keys().map(|oid| pg_sys::Oid::from(*oid)).collect();
    let all = key_catalog::among(oids)?;
    let open: Vec<(Key, &End, &End)> = all
        .iter()
        .filter_map(|key| {
            let (child, parent) = (ends.get(&key.child)?, ends.get(&key.parent)?);
            may_cross(key, &all, child, parent)
                .then(|| (link_of(key.clone(), child, parent), child, parent))
        })
        .filter(|(key, ..)| !key.columns.is_empty())
        .collect();
    let mut sizes: BTreeMap<u32, f64> = BTreeMap::new();
    let mut links = Vec::new();
    let mut refused = None;
    let mut looked_at = 0;
    for (number, (key, child, parent)) in open.iter().enumerate() {
        let rights =
            [key.child, key.parent].map(|table| require_administrator(pg_sys::Oid::from(table)));
        let link = |rows: Option<i64>| Link {
            child: pg_sys::Oid::from(key.child),
            constraint: key.name.clone(),
            parent: pg_sys::Oid::from(key.parent),
            rows,
            query: rows.map(|_| format!("SELECT c.* {}", filter(key, child, parent))),
        };
        match rights {
            [Err(error), Err(_)] => {
                refused = refused.or(Some(error));
                continue;
            }
            [Ok(()), Ok(())] => match count(key, child, parent, size_of(child, &mut sizes)?)? {
                Some(0) => {}
                rows => links.push(link(rows)),
            },
            _ => links.push(link(None)),
        }
        looked_at += 1;
        if (number + 1) % STEP == 0 {
            apply::notice(
                &format!("{} of {} foreign keys done", number + 1, open.len()),
                None,
            );
        }
    }
    match refused {
        // An empty result would say that nothing crosses.
        Some(error) if looked_at == 0 => Err(error),
        _ => Ok(links),
    }
}

/// The registered tables that have their tenant column.
fn registered() -> Result<BTreeMap<u32, End>> {
    let mut ends = BTreeMap::new();
    for (relation, row) in store::all()? {
        let (Some(name), column) = (catalog::relation_name(relation), row.column_today(relation))
        else {
            continue;
        };
        if !key_catalog::column_types(relation.to_u32())?.contains_key(&column) {
            continue;
        }
        ends.insert(
            relation.to_u32(),
            End {
                oid: relation.to_u32(),
                schema: name.schema,
                table: name.name,
                column,
                foreign_keys: ForeignKeys::Report,
                enforced: row.mode == "enforce",
                estimated_rows: 0.0,
                forced: false,
                shared: platform_of(&row.template)?,
            },
        );
    }
    Ok(ends)
}

/// Whether neither the key nor one beside it, checked for all rows, keeps them within the tenant. Of two
/// over the same link the one without the tenant is told.
fn may_cross(key: &Key, all: &[Key], child: &End, parent: &End) -> bool {
    if carries(key, child, parent) {
        return !holds(key)
            && !all.iter().any(|narrow| {
                stands_for(key, narrow, child, parent) && !carries(narrow, child, parent)
            });
    }
    !all.iter()
        .any(|wide| stands_for(wide, key, child, parent) && holds(wide))
}

fn holds(key: &Key) -> bool {
    key.validated && !key.special
}

fn filter(key: &Key, child: &End, parent: &End) -> String {
    let shared = parent.shared.as_ref().map_or_else(String::new, |tenant| {
        format!(
            " AND p.{} IS DISTINCT FROM {}",
            quoted(&parent.column),
            literal(tenant)
        )
    });
    format!(
        "FROM {} c WHERE {} AND EXISTS (SELECT FROM {} p WHERE {} AND p.{} IS DISTINCT FROM c.{}{shared})",
        child.qualified(),
        all_set(key),
        parent.qualified(),
        linked(key),
        quoted(&parent.column),
        quoted(&child.column),
    )
}

fn size_of(table: &End, known: &mut BTreeMap<u32, f64>) -> Result<f64> {
    if let Some(size) = known.get(&table.oid) {
        return Ok(*size);
    }
    let size = inspect::facts(pg_sys::Oid::from(table.oid), &table.column)?
        .map_or(0.0, |facts| facts.estimated_rows);
    known.insert(table.oid, size);
    Ok(size)
}

/// How many rows cross; `None` where only reading all of them into memory would tell.
fn count(key: &Key, child: &End, parent: &End, estimated: f64) -> Result<Option<i64>> {
    let owners = (
        catalog::relation_owner(pg_sys::Oid::from(child.oid))?,
        catalog::relation_owner(pg_sys::Oid::from(parent.oid))?,
    );
    let limit = gucs::inline_ddl_rows() as f64;
    if estimated > limit {
        apply::notice(
            &format!(
                "reading some {estimated:.0} rows of {} for foreign key {}",
                child.qualified(),
                quoted(&key.name)
            ),
            None,
        );
    }
    if owners.0 == owners.1 {
        let _role = ActingRole::new(owners.0);
        let sql = format!(
            "SELECT pg_catalog.count(*)::pg_catalog.text {}",
            filter(key, child, parent)
        );
        return Ok(Some(spi::row(&sql, &[])?.unwrap_or(0)));
    }
    if estimated > limit {
        return Ok(None);
    }
    let count = count_between_owners(key, child, parent, owners)?.unwrap_or(0);
    Ok(Some(i64::try_from(count).unwrap_or(i64::MAX)))
}

#[pg_extern(sql = false)]
#[expect(
    clippy::type_complexity,
    reason = "pgrx reads the columns of the result here"
)]
fn cross_tenant_links() -> TableIterator<
    'static,
    (
        name!(child, Option<pg_sys::Oid>),
        name!(constraint_name, Option<String>),
        name!(parent, Option<pg_sys::Oid>),
        name!(rows, Option<i64>),
        name!(query, Option<String>),
    ),
> {
    TableIterator::new(find().or_raise().into_iter().map(|link| {
        (
            Some(link.child),
            Some(link.constraint),
            Some(link.parent),
            link.rows,
            link.query,
        )
    }))
}
