//! What the catalog says about a registered table, without opening it.
//!
//! Owns the one query. Nothing in it shows an expression, takes a lock on the table, or waits for one:
//! stored expressions come as hashes. Must never change anything.

use pgrx::pg_sys;
use serde::Deserialize;

use super::inspect::CatalogPolicy;
use super::spi;
use crate::catalog;
use crate::error::Result;
use crate::registry::{ActingRole, extension_owner};

/// A table as it is.
#[derive(Debug, Clone, Deserialize)]
pub struct There {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its owner's name.
    pub owner: String,
    /// ENABLE ROW LEVEL SECURITY.
    pub rls: bool,
    /// FORCE ROW LEVEL SECURITY.
    pub forced: bool,
    /// The tenant column.
    pub column: Option<ColumnThere>,
    /// All its policies.
    pub policies: Vec<PolicyThere>,
    /// Triggers that call `tenancy.tenant_column_immutable()`.
    pub triggers: Vec<TriggerThere>,
    /// Valid, whole indexes that lead with the tenant column.
    pub leading: Vec<String>,
    /// Indexes that are not valid.
    pub invalid: Vec<String>,
    /// Its constraints.
    pub constraints: Vec<ConstraintThere>,
}

/// A foreign, unique or primary key.
#[derive(Debug, Clone, Deserialize)]
pub struct ConstraintThere {
    /// Its name.
    pub name: String,
    /// Whether it is no foreign key, or one that has the tenant column.
    pub has_tenant: bool,
    /// What a foreign key points at; 0 for other keys.
    pub parent: u32,
    /// Whether it is enforced: those that are not are of 18 and later.
    pub is_enforced: bool,
}

/// The tenant column.
#[derive(Debug, Clone, Deserialize)]
pub struct ColumnThere {
    /// `attnum`.
    pub number: i16,
    /// Its type with modifier.
    pub declared_type: String,
    /// Its type under domains.
    pub base_type: String,
    /// NOT NULL.
    pub not_null: bool,
    /// Hash of its default.
    pub default_tree: Option<String>,
}

/// A policy.
#[derive(Debug, Clone, Deserialize)]
pub struct PolicyThere {
    /// Its name.
    pub name: String,
    /// PERMISSIVE.
    pub permissive: bool,
    /// `polcmd`.
    pub command: String,
    /// TO PUBLIC.
    pub public: bool,
    /// Hash of its expressions.
    pub tree: String,
}

/// A trigger of ours.
#[derive(Debug, Clone, Deserialize)]
pub struct TriggerThere {
    /// Its name.
    pub name: String,
    /// Whether it fires.
    pub enabled: bool,
    /// Hash of all that says when it fires.
    pub tree: String,
}

impl PolicyThere {
    /// The same without its expressions.
    pub fn without_expressions(&self) -> CatalogPolicy {
        CatalogPolicy {
            name: self.name.clone(),
            permissive: self.permissive,
            command: self.command.clone(),
            public: self.public,
            using: None,
            check: None,
        }
    }
}

impl There {
    /// Whether there is a constraint of that name.
    pub fn has_constraint(&self, name: &str) -> bool {
        self.constraint(name).is_some()
    }

    /// The constraint of that name.
    pub fn constraint(&self, name: &str) -> Option<&ConstraintThere> {
        let mut there = self.constraints.iter();
        there.find(|constraint| constraint.name == name)
    }

    /// Whether it is there and carries the tenant.
    pub fn carries(&self, name: &str) -> bool {
        self.constraint(name)
            .is_some_and(|there| there.has_tenant && there.is_enforced)
    }

    /// The trigger of that name, or the one that was cloned from a parent's.
    pub fn our_trigger(&self, name: Option<&str>) -> Option<&TriggerThere> {
        self.triggers
            .iter()
            .find(|trigger| Some(trigger.name.as_str()) == name)
            .or_else(|| self.triggers.first())
    }
}

const THERE: &str = "
SELECT pg_catalog.jsonb_build_object(
  'schema', n.nspname, 'name', c.relname, 'owner', pg_catalog.pg_get_userbyid(c.relowner),
  'rls', c.relrowsecurity, 'forced', c.relforcerowsecurity,
  'column', (SELECT pg_catalog.jsonb_build_object(
      'number', a.attnum, 'declared_type', pg_catalog.format_type(a.atttypid, a.atttypmod),
      'base_type', pg_catalog.format_type((
        WITH RECURSIVE under AS (
          SELECT t.oid, t.typtype, t.typbasetype FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid
          UNION ALL
          SELECT t.oid, t.typtype, t.typbasetype FROM pg_catalog.pg_type t
          JOIN under u ON u.typtype = 'd' AND t.oid = u.typbasetype)
        SELECT u.oid FROM under u WHERE u.typtype <> 'd'), NULL),
      'not_null', a.attnotnull AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint u
          WHERE u.conrelid = a.attrelid AND u.contype = 'n' AND u.conkey = ARRAY[a.attnum] AND NOT u.convalidated),
      'default_tree', pg_catalog.md5(d.adbin::pg_catalog.text))
    FROM pg_catalog.pg_attribute a
    LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = c.oid AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped),
  'policies', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'name', p.polname, 'permissive', p.polpermissive, 'command', p.polcmd, 'public', p.polroles = '{0}',
      'tree', pg_catalog.md5(pg_catalog.concat_ws(' / ', p.polpermissive, p.polcmd, p.polroles,
          coalesce(p.polqual::pg_catalog.text, '-'), coalesce(p.polwithcheck::pg_catalog.text, '-'))))
      ORDER BY p.polname), '[]')
    FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid),
  'triggers', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'name', t.tgname, 'enabled', t.tgenabled IN ('O', 'A'),
      'tree', pg_catalog.md5(pg_catalog.concat_ws(' / ', t.tgtype, t.tgattr, coalesce(t.tgqual::pg_catalog.text, '-'))))
      ORDER BY t.tgname), '[]')
    FROM pg_catalog.pg_trigger t
    JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid AND f.proname = 'tenant_column_immutable'
    JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace AND fn.nspname = 'tenancy'
    WHERE t.tgrelid = c.oid AND NOT t.tgisinternal),
  'leading', (SELECT coalesce(pg_catalog.jsonb_agg(ic.relname ORDER BY ic.relname), '[]')
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
    JOIN pg_catalog.pg_am am ON am.oid = ic.relam AND am.amname IN ('btree', 'hash')
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL AND a.attname = $2),
  'invalid', (SELECT coalesce(pg_catalog.jsonb_agg(ic.relname ORDER BY ic.relname), '[]')
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
    WHERE i.indrelid = c.oid AND NOT i.indisvalid),
  'constraints', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('name', k.conname, 'parent', k.confrelid::pg_catalog.int8,
      'has_tenant', k.contype <> 'f' OR EXISTS (SELECT FROM pg_catalog.pg_attribute a
          WHERE a.attrelid = c.oid AND a.attname = $2 AND a.attnum = ANY (k.conkey)),
      'is_enforced', coalesce((pg_catalog.to_jsonb(k) ->> 'conenforced')::pg_catalog.bool, true)) ORDER BY k.conname), '[]')
    FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.contype IN ('f', 'u', 'p'))
)::pg_catalog.text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = $1";

/// The relation; `None` when it is gone.
pub fn read(relation: pg_sys::Oid, column: &str) -> Result<Option<There>> {
    spi::row_planned(THERE, &[relation.into(), column.into()])
}

const UNPROTECTED_BELOW: &str = "
WITH RECURSIVE below AS (
  SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = $1
  UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN below b ON i.inhparent = b.inhrelid)
SELECT pg_catalog.to_jsonb(b.inhrelid::pg_catalog.int8)::pg_catalog.text
FROM below b JOIN pg_catalog.pg_class c ON c.oid = b.inhrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE NOT EXISTS (SELECT FROM tenancy.protection p WHERE p.mode = 'enforce'
   AND p.schema_name = n.nspname AND p.table_name = c.relname
   -- Not that of a table which had the name before.
   AND (p.database_identity <> $2 OR NOT EXISTS (SELECT FROM pg_catalog.pg_class o WHERE o.oid = p.relation_oid)))
  AND NOT EXISTS (SELECT FROM tenancy.protection p WHERE p.mode = 'enforce'
   AND p.relation_oid = c.oid AND p.database_identity = $2)
ORDER BY b.inhrelid";

/// Partitions and children, at whatever depth, that are not registered as enforced.
pub fn unprotected_below(relation: pg_sys::Oid) -> Result<Vec<u32>> {
    let _role = ActingRole::new(extension_owner()?);
    spi::rows_planned(
        UNPROTECTED_BELOW,
        &[relation.into(), catalog::database_identity().into()],
    )
}
