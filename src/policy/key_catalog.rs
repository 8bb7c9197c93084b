//! Foreign keys as the catalog has them.
//!
//! Owns the queries about keys and the unique indexes that they need. Must never change anything.

use std::collections::BTreeMap;

use pgrx::pg_sys;
use serde::Deserialize;

use super::spi;
use crate::error::Result;

/// A foreign key as the catalog has it.
#[derive(Debug, Clone, Deserialize)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// The referencing table.
    pub child: u32,
    /// The referenced table.
    pub parent: u32,
    /// Referencing columns.
    pub columns: Vec<String>,
    /// Referenced columns.
    pub parent_columns: Vec<String>,
    /// How the parent's column is compared with the child's, for each pair: operators, qualified.
    pub operators: Vec<String>,
    /// The same for two values of the parent's.
    pub parent_operators: Vec<String>,
    /// `confmatchtype`.
    pub match_type: String,
    /// `confupdtype`.
    pub on_update: String,
    /// `confdeltype`.
    pub on_delete: String,
    /// `ON DELETE SET NULL (..)`.
    pub set_columns: Vec<String>,
    /// DEFERRABLE.
    pub deferrable: bool,
    /// INITIALLY DEFERRED.
    pub deferred: bool,
    /// Not NOT VALID.
    pub validated: bool,
    /// Temporal or not enforced: what cannot be carried over.
    pub special: bool,
    /// `pg_get_constraintdef`.
    pub definition: String,
}

macro_rules! keys {
    ($condition:literal) => {
        concat!("
SELECT pg_catalog.jsonb_build_object(
  'name', con.conname, 'child', con.conrelid::pg_catalog.int8, 'parent', con.confrelid::pg_catalog.int8,
  'columns', (SELECT pg_catalog.jsonb_agg(a.attname ORDER BY k.place)
     FROM pg_catalog.unnest(con.conkey) WITH ORDINALITY AS k(number, place)
     JOIN pg_catalog.pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = k.number),
  'parent_columns', (SELECT pg_catalog.jsonb_agg(a.attname ORDER BY k.place)
     FROM pg_catalog.unnest(con.confkey) WITH ORDINALITY AS k(number, place)
     JOIN pg_catalog.pg_attribute a ON a.attrelid = con.confrelid AND a.attnum = k.number),
  'operators', (SELECT pg_catalog.jsonb_agg(pg_catalog.format('OPERATOR(%I.%s)', n.nspname, o.oprname) ORDER BY k.place)
     FROM pg_catalog.unnest(con.conpfeqop) WITH ORDINALITY AS k(operator, place)
     JOIN pg_catalog.pg_operator o ON o.oid = k.operator
     JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace),
  'parent_operators', (SELECT pg_catalog.jsonb_agg(pg_catalog.format('OPERATOR(%I.%s)', n.nspname, o.oprname) ORDER BY k.place)
     FROM pg_catalog.unnest(con.conppeqop) WITH ORDINALITY AS k(operator, place)
     JOIN pg_catalog.pg_operator o ON o.oid = k.operator
     JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace),
  'set_columns', (SELECT coalesce(pg_catalog.jsonb_agg(a.attname ORDER BY k.place), '[]')
     FROM pg_catalog.unnest(con.confdelsetcols) WITH ORDINALITY AS k(number, place)
     JOIN pg_catalog.pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = k.number),
  'match_type', con.confmatchtype, 'on_update', con.confupdtype, 'on_delete', con.confdeltype,
  'deferrable', con.condeferrable, 'deferred', con.condeferred, 'validated', con.convalidated,
  -- Columns that only some versions have.
  'special', coalesce((pg_catalog.to_jsonb(con) ->> 'conperiod')::pg_catalog.bool, false)
     OR NOT coalesce((pg_catalog.to_jsonb(con) ->> 'conenforced')::pg_catalog.bool, true),
  'definition', pg_catalog.pg_get_constraintdef(con.oid))::pg_catalog.text
FROM pg_catalog.pg_constraint con
WHERE con.contype = 'f' AND con.conparentid = 0 AND ", $condition, "
ORDER BY con.conrelid, con.conname COLLATE \"C\"")
    };
}

const KEYS: &str = keys!(
    "(con.conrelid = $1 OR con.confrelid = $1)
  -- Nothing is indexed by the referenced table but dependencies; without them each call would read
  -- every constraint of the database.
  AND con.oid IN (
    SELECT own.oid FROM pg_catalog.pg_constraint own WHERE own.conrelid = $1
    UNION ALL
    SELECT d.objid FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
      AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = $1)"
);

const KEYS_AMONG: &str = keys!("con.conrelid = ANY ($1) AND con.confrelid = ANY ($1)");

/// The keys from and to a table, partitions' copies left out.
pub fn of(relation: pg_sys::Oid) -> Result<Vec<Key>> {
    spi::rows_planned(KEYS, &[relation.into()])
}

/// The keys that lead from one of the tables to one of them, partitions' copies left out.
pub fn among(relations: Vec<pg_sys::Oid>) -> Result<Vec<Key>> {
    spi::rows(KEYS_AMONG, &[relations.into()])
}

/// Whether some unique index of the parent is exactly over those columns, as a key needs it.
pub fn has_unique(parent: u32, columns: &[String], ignored: &[String]) -> Result<bool> {
    let mut sorted = columns.to_vec();
    sorted.sort();
    let found: Vec<(String, Vec<String>)> = spi::rows(
        "SELECT pg_catalog.jsonb_build_array(ic.relname, (
             SELECT pg_catalog.jsonb_agg(a.attname ORDER BY a.attname COLLATE \"C\")
             FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) AS k(place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.place]
           ))::pg_catalog.text
         FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
         WHERE i.indrelid = $1 AND i.indisunique AND i.indimmediate AND i.indisvalid
           AND i.indpred IS NULL AND i.indexprs IS NULL",
        &[pg_sys::Oid::from(parent).into()],
    )?;
    Ok(found
        .iter()
        .any(|(name, columns)| *columns == sorted && !ignored.contains(name)))
}

/// Whether the table has restrictive policies of all those names.
pub fn has_policies(table: u32, names: Vec<String>) -> Result<bool> {
    let count = names.len();
    let found: Option<usize> = spi::row(
        "SELECT pg_catalog.count(*)::pg_catalog.text FROM pg_catalog.pg_policy
         WHERE polrelid = $1 AND polname = ANY ($2::pg_catalog.text[]) AND NOT polpermissive",
        &[pg_sys::Oid::from(table).into(), names.into()],
    )?;
    Ok(found == Some(count))
}

/// Columns by which a partitioned parent is divided; a unique key must hold them all.
pub fn partition_columns(parent: u32) -> Result<Vec<String>> {
    let found: Option<Vec<String>> = spi::row(
        "SELECT (SELECT coalesce(pg_catalog.jsonb_agg(coalesce(a.attname, '')), '[]')
             FROM pg_catalog.unnest(p.partattrs) AS k(number)
             LEFT JOIN pg_catalog.pg_attribute a
               ON a.attrelid = p.partrelid AND a.attnum = k.number AND k.number > 0)::pg_catalog.text
         FROM pg_catalog.pg_partitioned_table p WHERE p.partrelid = $1",
        &[pg_sys::Oid::from(parent).into()],
    )?;
    Ok(found.unwrap_or_default())
}

/// The columns of a key, each with the one that it refers to.
pub fn pairs(key: &Key) -> impl Iterator<Item = (&String, &String)> {
    key.columns.iter().zip(&key.parent_columns)
}

/// The types of a table's columns, by name, as a cast names them that neither cuts nor pads a value.
pub fn column_types(table: u32) -> Result<BTreeMap<String, String>> {
    let found: Option<BTreeMap<String, String>> = spi::row(
        "SELECT pg_catalog.jsonb_object_agg(a.attname, pg_catalog.format_type(a.atttypid, -1))::pg_catalog.text
         FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped",
        &[pg_sys::Oid::from(table).into()],
    )?;
    Ok(found.unwrap_or_default())
}
