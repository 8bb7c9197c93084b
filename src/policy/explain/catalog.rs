//! What the catalog says about the table, its key and its policies.
//!
//! Owns one query. Reads catalogs only, with the caller's rights; locks nothing beyond what Postgres's
//! own deparser of policies does.

use pgrx::pg_sys;
use serde::Deserialize;

use super::super::spi;
use super::key::KeyColumn;
use crate::error::Result;

/// The table.
#[derive(Debug, Clone, Deserialize)]
pub struct Table {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `relkind`.
    pub kind: String,
    /// `relowner`.
    pub owner: u32,
    /// ENABLE ROW LEVEL SECURITY.
    pub row_security: bool,
    /// FORCE ROW LEVEL SECURITY.
    pub forced: bool,
    /// The type of an array of its rows.
    pub array_type: u32,
    /// The columns of its primary key, in their order; none where there is no such key.
    pub key: Vec<KeyColumn>,
    /// A role that row security binds and that may read the table.
    pub reader: Option<u32>,
    /// All its policies.
    pub policies: Vec<Stored>,
}

/// A policy as it is stored.
#[derive(Debug, Clone, Deserialize)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// PERMISSIVE.
    pub permissive: bool,
    /// `polcmd`.
    pub command: String,
    /// TO PUBLIC.
    pub public: bool,
    /// The roles that it is for, otherwise.
    pub roles: Vec<Role>,
    /// USING.
    pub using: Option<String>,
    /// WITH CHECK.
    pub check: Option<String>,
}

/// A role that a policy is for.
#[derive(Debug, Clone, Deserialize)]
pub struct Role {
    /// `pg_authid.oid`.
    pub oid: u32,
    /// Its name.
    pub name: String,
}

const TABLE: &str = "
SELECT pg_catalog.jsonb_build_object(
  'schema', n.nspname, 'name', c.relname, 'kind', c.relkind, 'owner', c.relowner::pg_catalog.int8,
  'row_security', c.relrowsecurity, 'forced', c.relforcerowsecurity,
  'array_type', coalesce((SELECT t.typarray::pg_catalog.int8 FROM pg_catalog.pg_type t WHERE t.oid = c.reltype), 0),
  -- The operator of the key's own index: that of the type may be in any schema.
  'key', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'name', a.attname, 'type_name', (
        -- Without a length, and without the domain that may give one: a cast would cut the value to it.
        WITH RECURSIVE under AS (
          SELECT t.oid, t.typtype, t.typbasetype FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid
          UNION ALL
          SELECT t.oid, t.typtype, t.typbasetype FROM pg_catalog.pg_type t
          JOIN under u ON u.typtype = 'd' AND t.oid = u.typbasetype)
        SELECT pg_catalog.format_type(u.oid, -1) FROM under u WHERE u.typtype <> 'd'),
      'equals', pg_catalog.quote_ident(u.nspname) || '.' || o.oprname) ORDER BY k.place), '[]')
    FROM pg_catalog.pg_index i
    CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(i.indkey::pg_catalog.int2[]), pg_catalog.unnest(i.indclass::pg_catalog.oid[]))
      WITH ORDINALITY AS k(number, class, place)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
    JOIN pg_catalog.pg_opclass oc ON oc.oid = k.class
    JOIN pg_catalog.pg_amop s ON s.amopfamily = oc.opcfamily AND s.amoplefttype = oc.opcintype
      AND s.amoprighttype = oc.opcintype AND s.amopstrategy = 3
    JOIN pg_catalog.pg_operator o ON o.oid = s.amopopr
    JOIN pg_catalog.pg_namespace u ON u.oid = o.oprnamespace
    WHERE i.indrelid = c.oid AND i.indisprimary),
  'reader', (SELECT pg_catalog.min(r.oid::pg_catalog.int8) FROM pg_catalog.aclexplode(c.relacl) AS g
    JOIN pg_catalog.pg_roles r ON r.oid = g.grantee
    WHERE g.privilege_type = 'SELECT' AND NOT r.rolsuper AND NOT r.rolbypassrls
      AND NOT pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE')),
  'policies', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'name', p.polname, 'permissive', p.polpermissive, 'command', p.polcmd,
      'public', 0 = ANY (p.polroles),
      'roles', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
          'oid', r.oid::pg_catalog.int8, 'name', r.rolname) ORDER BY r.rolname), '[]')
        FROM pg_catalog.pg_roles r WHERE r.oid = ANY (p.polroles)),
      'using', pg_catalog.pg_get_expr(p.polqual, p.polrelid),
      'check', pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)) ORDER BY p.polname), '[]')
    FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid)
)::pg_catalog.text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = $1";

/// The relation; `None` when it is gone.
pub fn table(relation: pg_sys::Oid) -> Result<Option<Table>> {
    spi::row_planned(TABLE, &[relation.into()])
}
