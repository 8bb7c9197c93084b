//! What the catalog says about a table.
//!
//! Owns the queries that fill [`Facts`]. Must never change anything; reads run with the caller's
//! rights, the catalogs they read being readable by all.

use std::collections::BTreeMap;

use pgrx::pg_sys;
use serde::Deserialize;

use super::model::Command;
use super::spi;
use crate::error::Result;

/// A table as protection needs to know it.
#[derive(Debug, Clone, Deserialize)]
pub struct Facts {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `relkind`.
    pub kind: String,
    /// `relpersistence`.
    pub persistence: String,
    /// `relowner`.
    pub owner: u32,
    /// Whether it belongs to the system or to this extension, for messages.
    pub reserved: Option<String>,
    /// Whether it is a partition.
    pub is_partition: bool,
    /// ENABLE ROW LEVEL SECURITY.
    pub rls: bool,
    /// FORCE ROW LEVEL SECURITY.
    pub forced: bool,
    /// Whether a logical subscription writes into it.
    pub subscribed: bool,
    /// How many rows the planner would expect, children included.
    pub estimated_rows: f64,
    /// The tenant column.
    pub column: Option<Column>,
    /// All its policies.
    pub policies: Vec<CatalogPolicy>,
    /// Valid, whole indexes that lead with the tenant column.
    pub leading_indexes: Vec<String>,
    /// Those of them that belong to no index of a parent: their definitions, by name.
    pub detached_indexes: BTreeMap<String, String>,
    /// Triggers that are not internal.
    pub triggers: Vec<CatalogTrigger>,
    /// Partitions and inheritance children, parents first.
    pub descendants: Vec<u32>,
    /// Partitions that hold rows.
    pub leaves: Vec<Leaf>,
    /// What it is a partition or an inheritance child of.
    pub parents: Vec<u32>,
}

/// A partition that holds rows.
#[derive(Debug, Clone, Deserialize)]
pub struct Leaf {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Valid, whole indexes that lead with the tenant column, and whether each is part of an index of
    /// a parent.
    pub leading: Vec<(String, bool)>,
}

/// The tenant column.
#[derive(Debug, Clone, Deserialize)]
pub struct Column {
    /// `attnum`.
    pub number: i16,
    /// `format_type` of the declared type.
    pub declared_type: String,
    /// `format_type` under domains, without a modifier.
    pub base_type: String,
    /// NOT NULL, of the rows that are there too.
    pub not_null: bool,
    /// The constraint by which only new rows are NOT NULL: one that is NOT VALID, from 18 on.
    pub unchecked_not_null: Option<String>,
    /// Its DEFAULT.
    pub default: Option<String>,
    /// GENERATED ALWAYS AS.
    pub generated: bool,
    /// Whether its collation takes values for equal that are not.
    pub nondeterministic: bool,
}

/// A policy of the table.
#[derive(Debug, Clone, Deserialize)]
pub struct CatalogPolicy {
    /// Its name.
    pub name: String,
    /// PERMISSIVE.
    pub permissive: bool,
    /// `polcmd`.
    pub command: String,
    /// TO PUBLIC.
    pub public: bool,
    /// USING.
    pub using: Option<String>,
    /// WITH CHECK.
    pub check: Option<String>,
}

/// A trigger of the table.
#[derive(Debug, Clone, Deserialize)]
pub struct CatalogTrigger {
    /// Its name.
    pub name: String,
    /// `tgenabled`.
    pub enabled: String,
    /// Whether it calls `tenancy.tenant_column_immutable()`.
    pub ours: bool,
}

impl CatalogPolicy {
    /// The commands that it is for.
    pub fn commands(&self) -> Vec<Command> {
        Command::EACH
            .into_iter()
            .filter(|c| self.command == "*" || self.command == c.catalog_letter())
            .collect()
    }
}

const FACTS: &str = "
SELECT pg_catalog.jsonb_build_object(
  'oid', c.oid::pg_catalog.int8, 'schema', n.nspname, 'name', c.relname, 'kind', c.relkind,
  'persistence', c.relpersistence, 'owner', c.relowner::pg_catalog.int8,
  'reserved', CASE
      WHEN n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast') THEN 'a system catalog'
      WHEN n.nspname = 'tenancy' THEN 'part of pg_tenancy' END,
  'is_partition', c.relispartition, 'rls', c.relrowsecurity, 'forced', c.relforcerowsecurity,
  'subscribed', EXISTS (SELECT FROM pg_catalog.pg_subscription_rel s WHERE s.srrelid = c.oid),
  'estimated_rows', CASE WHEN $3 THEN (
    WITH RECURSIVE family AS (
      SELECT c.oid AS member
      UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN family f ON i.inhparent = f.member)
    -- As the planner does: density times today's size; where nothing was ever counted, narrow rows
    -- are assumed, so that an unknown table is rather taken for a large one.
    SELECT coalesce(pg_catalog.sum((SELECT CASE
      WHEN m.relkind NOT IN ('r', 'm') THEN 0
      WHEN m.reltuples >= 0 AND m.relpages > 0 THEN m.reltuples / m.relpages * s.pages
      ELSE 100 * s.pages END
    FROM pg_catalog.pg_class m, LATERAL (SELECT pg_catalog.pg_relation_size(m.oid)
      / pg_catalog.current_setting('block_size')::pg_catalog.int8 AS pages) s
    WHERE m.oid = f.member)), 0)
    FROM family f) ELSE 0 END,
  'column', (SELECT pg_catalog.jsonb_build_object(
      'number', a.attnum,
      'declared_type', pg_catalog.format_type(a.atttypid, a.atttypmod),
      'base_type', pg_catalog.format_type((
        WITH RECURSIVE under AS (
          SELECT t.oid, t.typtype, t.typbasetype FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid
          UNION ALL
          SELECT t.oid, t.typtype, t.typbasetype FROM pg_catalog.pg_type t
          JOIN under u ON u.typtype = 'd' AND t.oid = u.typbasetype)
        SELECT u.oid FROM under u WHERE u.typtype <> 'd'), NULL),
      -- From 18 on it may be declared and not hold for the rows that are there.
      'not_null', a.attnotnull AND u.oid IS NULL, 'unchecked_not_null', u.conname,
      'generated', a.attgenerated <> '',
      'nondeterministic', EXISTS (SELECT FROM pg_catalog.pg_collation l WHERE l.oid = a.attcollation AND NOT l.collisdeterministic),
      'default', pg_catalog.pg_get_expr(d.adbin, d.adrelid))
    FROM pg_catalog.pg_attribute a
    LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    LEFT JOIN pg_catalog.pg_constraint u ON u.conrelid = a.attrelid AND u.contype = 'n' AND u.conkey = ARRAY[a.attnum] AND NOT u.convalidated
    WHERE a.attrelid = c.oid AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped),
  'policies', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'name', p.polname, 'permissive', p.polpermissive, 'command', p.polcmd,
      'public', p.polroles = '{0}',
      'using', pg_catalog.pg_get_expr(p.polqual, p.polrelid),
      'check', pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)) ORDER BY p.polname), '[]')
    FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid),
  'leading_indexes', (SELECT coalesce(pg_catalog.jsonb_agg(ic.relname ORDER BY ic.relname), '[]')
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
    JOIN pg_catalog.pg_am am ON am.oid = ic.relam AND am.amname IN ('btree', 'hash')
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL AND a.attname = $2),
  'detached_indexes', (SELECT coalesce(pg_catalog.jsonb_object_agg(ic.relname, pg_catalog.pg_get_indexdef(ic.oid)), '{}')
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
    WHERE c.relispartition AND i.indrelid = c.oid AND a.attname = $2
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint con WHERE con.conindid = ic.oid AND con.conrelid = c.oid)
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = ic.oid)),
  'triggers', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'name', t.tgname, 'enabled', t.tgenabled,
      'ours', f.proname = 'tenant_column_immutable' AND fn.nspname = 'tenancy') ORDER BY t.tgname), '[]')
    FROM pg_catalog.pg_trigger t
    JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid
    JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace
    WHERE t.tgrelid = c.oid AND NOT t.tgisinternal),
  'descendants', (
    WITH RECURSIVE below AS (
      SELECT i.inhrelid, 1 AS depth FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid
      UNION ALL
      SELECT i.inhrelid, b.depth + 1 FROM pg_catalog.pg_inherits i JOIN below b ON i.inhparent = b.inhrelid)
    SELECT coalesce(pg_catalog.jsonb_agg(m.inhrelid::pg_catalog.int8 ORDER BY m.depth, m.inhrelid), '[]')
    FROM (SELECT b.inhrelid, pg_catalog.max(b.depth) AS depth FROM below b GROUP BY b.inhrelid) m),
  'leaves', (
    WITH RECURSIVE below AS (
      SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid
      UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN below b ON i.inhparent = b.inhrelid)
    SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('schema', ln.nspname, 'name', l.relname,
      'leading', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(ic.relname, ic.relispartition) ORDER BY ic.relname), '[]')
        FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
        JOIN pg_catalog.pg_am am ON am.oid = ic.relam AND am.amname IN ('btree', 'hash')
        JOIN pg_catalog.pg_attribute a ON a.attrelid = l.oid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = l.oid AND i.indisvalid AND i.indpred IS NULL AND a.attname = $2)) ORDER BY l.oid), '[]')
    FROM below b JOIN pg_catalog.pg_class l ON l.oid = b.inhrelid AND l.relkind = 'r' AND l.relispartition
    JOIN pg_catalog.pg_namespace ln ON ln.oid = l.relnamespace),
  'parents', (SELECT coalesce(pg_catalog.jsonb_agg(i.inhparent::pg_catalog.int8 ORDER BY i.inhparent), '[]')
    FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid)
)::pg_catalog.text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = $1";

/// Everything about the relation; `None` when it is gone.
pub fn facts(relation: pg_sys::Oid, column: &str) -> Result<Option<Facts>> {
    spi::row_planned(FACTS, &[relation.into(), column.into(), true.into()])
}

/// The same without its size, which costs a visit to every partition's files. Deparsing a policy
/// still waits for whoever holds the table exclusively, as Postgres's own `pg_policies` does.
pub fn facts_without_size(relation: pg_sys::Oid, column: &str) -> Result<Option<Facts>> {
    spi::row_planned(FACTS, &[relation.into(), column.into(), false.into()])
}

/// Tables of a schema, in the order in which they were made, partitions and children left to their
/// parents: oid, kind and whether the tenant column is there.
#[derive(Debug, Clone, Deserialize)]
pub struct Listed {
    /// `pg_class.oid`.
    pub oid: u32,
    /// `relkind`.
    pub kind: String,
    /// Whether a parent of it is in the same schema and brings it along, as that of a partition does,
    /// and that of another child if it has the column.
    pub follows_parent: bool,
    /// Whether the tenant column is there.
    pub has_column: bool,
    /// Whether it is there and may be null.
    pub nullable: bool,
}

macro_rules! listed {
    () => {
        "SELECT pg_catalog.jsonb_build_object('oid', c.oid::pg_catalog.int8, 'kind', c.relkind,
           'follows_parent', EXISTS (SELECT FROM pg_catalog.pg_inherits i
              JOIN pg_catalog.pg_class p ON p.oid = i.inhparent AND p.relnamespace = c.relnamespace
              LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = p.oid AND a.attname = $2 AND NOT a.attisdropped
              WHERE i.inhrelid = c.oid AND (c.relispartition OR a.attnum IS NOT NULL)),
           'nullable', EXISTS (SELECT FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = c.oid AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped
                AND (NOT a.attnotnull OR EXISTS (SELECT FROM pg_catalog.pg_constraint u
                  WHERE u.conrelid = a.attrelid AND u.contype = 'n' AND u.conkey = ARRAY[a.attnum] AND NOT u.convalidated))),
           'has_column', EXISTS (SELECT FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = c.oid AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped))::pg_catalog.text
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p', 'f')"
    };
}

/// The tables of a schema.
pub fn tables_of(schema: &str, column: &str) -> Result<Vec<Listed>> {
    spi::rows(
        concat!(listed!(), " AND n.nspname = $1 ORDER BY c.oid"),
        &[schema.into(), column.into()],
    )
}

/// One table; `None` where it is none.
pub fn listed(relation: pg_sys::Oid, column: &str) -> Result<Option<Listed>> {
    spi::row(
        concat!(listed!(), " AND c.oid = $1"),
        &[relation.into(), column.into()],
    )
}

/// The schema into which the extension was created, quoted.
pub fn extension_schema() -> Result<String> {
    let found: Option<String> = spi::row_planned(
        "SELECT pg_catalog.to_json(pg_catalog.quote_ident(n.nspname))::pg_catalog.text
         FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
         WHERE e.extname = 'pg_tenancy'",
        &[],
    )?;
    Ok(found.unwrap_or_else(|| "public".to_owned()))
}

/// Whether another relation or type of the schema has the name.
pub fn name_is_taken(schema: &str, name: &str) -> bool {
    crate::catalog::relation_oid(schema, name).is_some()
}
