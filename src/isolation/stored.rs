//! Rows that are stored away from their tables: in materialized views, and on other servers.
//!
//! Taking rows away from a table changes nothing there. Owns which there are, whose rows of a materialized view
//! are, and taking those away, too. Must never say that it did where nothing tells whose they are.

use pgrx::pg_sys;
use serde::Deserialize;

use super::Work;
use super::run::{read_as_owner, see_what_was_written};
use super::tables::{Belonging, Target};
use super::ways::below;
use crate::catalog;
use crate::error::Result;
use crate::policy::subtransaction::attempt_reading;
use crate::policy::{literal, quoted, spi};

/// How many rows of one materialized view are taken away.
const ROWS: usize = 10_000;

/// A materialized view or a foreign table.
#[derive(Debug, Clone, Deserialize)]
pub struct Stored {
    pub oid: u32,
    schema: String,
    name: String,
    owner: u32,
    /// A materialized view.
    materialized: bool,
    columns: Vec<String>,
    /// What its query reads.
    tables: Vec<u32>,
    /// Whether its query calls functions, which may read anything.
    calls: bool,
    /// It is somewhere else, or its query may read tables of tenants.
    #[serde(skip)]
    pub may_show_tenants: bool,
}

const STORED: &str = concat!(
    "
SELECT pg_catalog.jsonb_build_object('oid', c.oid::pg_catalog.int8, 'schema', n.nspname, 'name', c.relname,
  'owner', c.relowner::pg_catalog.int8, 'materialized', c.relkind = 'm',
  'tables', pg_catalog.to_jsonb(below.oids::pg_catalog.int8[]), 'calls', called.any,
  'columns', (SELECT coalesce(pg_catalog.jsonb_agg(a.attname ORDER BY a.attnum), '[]') FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped))::pg_catalog.text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace",
    below!(),
    "
WHERE c.relkind = 'f' OR c.relkind = 'm' AND c.relispopulated
ORDER BY n.nspname, c.relname"
);

/// All of the database.
pub fn all(targets: &[Target]) -> Result<Vec<Stored>> {
    let mut all: Vec<Stored> = spi::rows(STORED, &[])?;
    let elsewhere: Vec<u32> = all
        .iter()
        .filter(|one| !one.materialized)
        .map(|one| one.oid)
        .collect();
    for one in &mut all {
        one.may_show_tenants = !one.materialized
            || one.calls
            || one.tables.iter().any(|oid| {
                elsewhere.contains(oid) || targets.iter().any(|target| target.table.oid == *oid)
            });
    }
    Ok(all)
}

impl Stored {
    /// As it is called.
    pub fn shown(&self) -> String {
        let kind = if self.materialized {
            "materialized view"
        } else {
            "foreign table"
        };
        format!(
            "{kind} {}.{}",
            catalog::quote_identifier(&self.schema),
            catalog::quote_identifier(&self.name)
        )
    }

    /// Whether it can be told only that rows on another server stay.
    pub fn is_elsewhere(&self) -> bool {
        !self.materialized
    }

    /// Takes the rows of the other tenant away for the rest of the subtransaction; whether there were some and
    /// none is left.
    pub fn take_away(&self, work: &Work<'_>) -> bool {
        let Some(column) = tenant_column(&self.columns, work.targets).filter(|_| self.materialized)
        else {
            return false;
        };
        attempt_reading(|| self.without(column, &work.cast.other.tenant)).unwrap_or(false)
    }

    fn without(&self, column: &str, tenant: &str) -> Result<bool> {
        let sql = format!(
            "SELECT t.ctid FROM {}.{} AS t WHERE t.{} = {} LIMIT {}",
            quoted(&self.schema),
            quoted(&self.name),
            quoted(column),
            literal(tenant),
            ROWS + 1
        );
        let places = read_as_owner(pg_sys::Oid::from(self.owner), &sql)?.column();
        if places.is_empty() || places.len() > ROWS {
            return Ok(false);
        }
        // SAFETY: the relation is open and locked while rows of it are deleted, by the places that were just read;
        // an error in between is cleaned up with the subtransaction.
        unsafe {
            let relation = pg_sys::table_open(self.oid.into(), pg_sys::RowExclusiveLock as i32);
            for place in &places {
                let Some((block, offset)) = read_place(place) else {
                    pg_sys::table_close(relation, pg_sys::NoLock as i32);
                    return Ok(false);
                };
                let mut place = pg_sys::ItemPointerData::default();
                pgrx::itemptr::item_pointer_set_all(&mut place, block, offset);
                // Statements write to no materialized view.
                pg_sys::simple_table_tuple_delete(
                    relation,
                    &mut place,
                    pg_sys::GetActiveSnapshot(),
                );
            }
            pg_sys::table_close(relation, pg_sys::NoLock as i32);
        }
        see_what_was_written();
        Ok(read_as_owner(pg_sys::Oid::from(self.owner), &sql)?
            .rows
            .is_empty())
    }
}

/// The column that says whose a row is: one called like a table's.
pub fn tenant_column<'a>(columns: &'a [String], targets: &[Target]) -> Option<&'a str> {
    let is_a_tenants = |name: &String| {
        targets.iter().any(|target| match &target.belonging {
            Belonging::Tenant(column)
            | Belonging::User {
                tenant: Some(column),
                ..
            } => column == name,
            _ => false,
        })
    };
    // Where a table of tenants belongs by its own key, `id` says nothing elsewhere.
    let mut named = columns
        .iter()
        .filter(|name| *name != "id" && is_a_tenants(name));
    named.next().map(String::as_str)
}

/// A place as Postgres writes it: `(block,offset)`.
fn read_place(text: &str) -> Option<(u32, u16)> {
    let (block, offset) = text.strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
    Some((block.parse().ok()?, offset.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        assert_eq!(read_place("(12,3)"), Some((12, 3)));
        assert_eq!(read_place("(,)"), None);
    }
}
