//! A key that was made, under the names of today.
//!
//! Owns what a rename of the parent means for it: the registry keeps names, the catalog follows the table. Must
//! never change anything.

use std::collections::HashSet;

use pgrx::pg_sys;

use super::spi;
use super::store::MadeKey;
use crate::catalog::{self, RelationName};
use crate::error::Result;

/// The table that the key of `child` points at: the one it does point at, or, where it is gone, the one of the name
/// that was noted.
pub fn parent(child: pg_sys::Oid, key: &MadeKey) -> Result<Option<pg_sys::Oid>> {
    let standing: Option<u32> = spi::row(
        "SELECT pg_catalog.to_json(f.confrelid::pg_catalog.int8)::pg_catalog.text FROM pg_catalog.pg_constraint f
         WHERE f.conrelid = $1 AND f.conname = $2 AND f.contype = 'f'",
        &[child.into(), key.name.as_str().into()],
    )?;
    Ok(standing
        .map(pg_sys::Oid::from)
        .or_else(|| catalog::relation_oid(&key.parent_schema, &key.parent_table)))
}

/// The foreign keys that point at a table, each by the table that it is of and its name.
pub fn pointing_at(relation: pg_sys::Oid) -> Result<HashSet<(u32, String)>> {
    let keys: Vec<(u32, String)> = spi::rows(
        "SELECT pg_catalog.jsonb_build_array(f.conrelid::pg_catalog.int8, f.conname)::pg_catalog.text
         FROM pg_catalog.pg_constraint f WHERE f.confrelid = $1 AND f.contype = 'f'",
        &[relation.into()],
    )?;
    Ok(keys.into_iter().collect())
}

/// What the key that it stands for was, to be made again on that parent.
pub fn original(key: &MadeKey, parent: Option<pg_sys::Oid>) -> String {
    let noted = RelationName {
        schema: key.parent_schema.clone(),
        name: key.parent_table.clone(),
    };
    match parent.and_then(catalog::relation_name) {
        Some(today) if today != noted => renamed(&key.original_definition, &noted, &today),
        _ => key.original_definition.clone(),
    }
}

fn renamed(definition: &str, from: &RelationName, to: &RelationName) -> String {
    definition.replacen(
        &format!(" REFERENCES {from}("),
        &format!(" REFERENCES {to}("),
        1,
    )
}
