//! Tables that nobody registered and that hold rows of tenants all the same: those that a foreign key hangs on one
//! that has a tenant, and those that are bound.
//!
//! Nothing says whose a row is there. Owns which there are; what reads them never passes.

use pgrx::pg_sys;
use serde::Deserialize;

use super::Told;
use super::tables::{Belonging, Target};
use super::tenants::Cast;
use super::verdict::{Finding, Verdict};
use crate::error::Result;
use crate::policy::spi;

/// A table that cannot be attacked.
#[derive(Debug, Clone, Deserialize)]
pub struct Hanging {
    pub oid: u32,
    schema: String,
    name: String,
    /// The role has some privilege on it.
    may_anything: bool,
}

const HANGING: &str = "
WITH RECURSIVE hanging AS (
  SELECT f.conrelid AS oid FROM pg_catalog.pg_constraint f WHERE f.contype = 'f' AND f.confrelid = ANY ($2) AND NOT f.conrelid = ANY ($3)
  UNION SELECT f.conrelid FROM hanging h JOIN pg_catalog.pg_constraint f ON f.contype = 'f' AND f.confrelid = h.oid AND NOT f.conrelid = ANY ($3)),
all_of_them AS (
  SELECT h.oid FROM hanging h UNION SELECT b.oid FROM pg_catalog.unnest($4::pg_catalog.oid[]) AS b(oid) WHERE NOT b.oid = ANY ($3))
SELECT pg_catalog.jsonb_build_object('oid', c.oid::pg_catalog.int8, 'schema', n.nspname, 'name', c.relname,
  'may_anything', pg_catalog.has_schema_privilege($1, n.oid, 'USAGE')
     AND (pg_catalog.has_table_privilege($1, c.oid, 'DELETE, TRUNCATE') OR pg_catalog.has_any_column_privilege($1, c.oid, 'SELECT, INSERT, UPDATE'))
  )::pg_catalog.text
FROM all_of_them a JOIN pg_catalog.pg_class c ON c.oid = a.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname <> 'tenancy'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY n.nspname, c.relname";

/// All of the database.
pub fn all(role: pg_sys::Oid, cast: &Cast, targets: &[Target]) -> Result<Vec<Hanging>> {
    let known: Vec<pg_sys::Oid> = targets.iter().map(|target| target.table.oid()).collect();
    let of_somebody: Vec<pg_sys::Oid> = targets
        .iter()
        .filter(|target| !matches!(target.belonging, Belonging::Nobody { .. }))
        .map(|target| target.table.oid())
        .collect();
    let bound = cast.bound();
    spi::rows(
        HANGING,
        &[role.into(), of_somebody.into(), known.into(), bound.into()],
    )
}

impl Hanging {
    /// Schema and name, as they are shown.
    pub fn shown(&self) -> String {
        Told::new(&self.schema, &self.name).relation
    }

    /// What is told of it, where the role may touch it.
    pub fn finding(&self) -> Option<Finding> {
        let detail = "it is not registered, and nothing says whose its rows are: protect it with tenancy.protect_table()";
        self.may_anything.then(|| {
            Told::named(&self.shown()).finding("all", Verdict::NotAttacked, Some(detail), None)
        })
    }
}
