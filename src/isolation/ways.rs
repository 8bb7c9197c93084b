//! The ways besides tables: views, materialized views, functions and foreign tables that the role
//! reaches.
//!
//! Owns which there are, what is below them and how a view is read. What only runs with the rights of its caller leads nowhere
//! that the role could not go itself.

use pgrx::pg_sys;
use serde::Deserialize;

use super::tables::Target;
use crate::error::Result;
use crate::policy::{quoted, quoted_list, spi};

/// A relation that is no table.
#[derive(Debug, Clone, Deserialize)]
pub struct View {
    pub schema: String,
    pub name: String,
    /// `relkind`: v, m or f; r or p of a parent whose children alone say whose their rows are.
    pub kind: String,
    pub owner: u32,
    /// The columns that the role may read.
    pub readable: Vec<String>,
    /// The columns that an UPDATE of the role can write.
    pub writable: Vec<String>,
    /// The columns that an INSERT of the role can write.
    pub insertable: Vec<String>,
    /// What can be done and the role may do.
    pub may_insert: bool,
    pub may_update: bool,
    pub may_delete: bool,
    /// The relations below it.
    pub tables: Vec<u32>,
    /// Whether it calls functions, which may read anything.
    pub calls: bool,
    /// Whether such functions have rights of their own.
    pub calls_definers: bool,
    /// Whether triggers or rules write instead of what is written.
    pub instead: bool,
    /// All columns.
    pub columns: Vec<String>,
    /// Of a parent: what it empties, its children are emptied of.
    pub may_truncate: bool,
    /// The query of a materialized view.
    pub definition: Option<String>,
    /// Whether that runs code of somebody without the rights of its owner.
    pub runs_others: bool,
}

impl View {
    pub fn sql(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    pub fn owner(&self) -> pg_sys::Oid {
        pg_sys::Oid::from(self.owner)
    }

    /// The same by parts: how many rows, and each column alone. Who may not run what computes one column reads
    /// the others.
    pub fn parts(&self) -> Vec<String> {
        let count = format!("SELECT pg_catalog.count(*) FROM {}", self.sql());
        let columns = self.readable.iter().map(|column| {
            format!(
                "SELECT pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtextextended(ROW(t.{})::pg_catalog.text, 0)) FROM {} AS t",
                quoted(column),
                self.sql()
            )
        });
        core::iter::once(count).chain(columns).collect()
    }

    /// All that the role may read of it, in two numbers.
    pub fn digest(&self) -> String {
        format!(
            "SELECT pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtextextended(ROW({})::pg_catalog.text, 0)) FROM {}",
            quoted_list(&self.readable),
            self.sql()
        )
    }
}

/// A function.
#[derive(Debug, Clone, Deserialize)]
pub struct Function {
    /// With its arguments, as it is shown.
    pub shown: String,
    pub schema: String,
    pub name: String,
    pub volatile: bool,
    pub definer: bool,
    pub procedure: bool,
    /// Its result names a cursor, whose rows are not read by calling it.
    pub cursor: bool,
    /// Types of the arguments that are given.
    pub arguments: Vec<String>,
    /// How many of them have no default.
    pub required: usize,
    pub variadic: bool,
}

macro_rules! of_users {
    ($catalog:literal, $object:literal) => {
        concat!(
            " AND ", $object, ".oid >= 16384 AND n.nspname NOT IN ('tenancy', 'information_schema') AND n.nspname !~ '^pg_'
              AND pg_catalog.has_schema_privilege($1, n.oid, 'USAGE')
              AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                              WHERE d.classid = 'pg_catalog.", $catalog, "'::pg_catalog.regclass AND d.objid = ", $object, ".oid
                                AND d.deptype = 'e')"
        )
    };
}

/// What is below relation `c`: `below.oids`, itself among them, and `called`: functions.
macro_rules! below {
    () => {
        "
CROSS JOIN LATERAL (
  WITH RECURSIVE reached AS (
    SELECT c.oid
    UNION SELECT next.oid FROM reached r CROSS JOIN LATERAL (
      SELECT d.refobjid AS oid FROM pg_catalog.pg_rewrite w
      JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = w.oid
      WHERE w.ev_class = r.oid AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
      UNION ALL SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = r.oid) AS next)
  SELECT pg_catalog.array_agg(r.oid) AS oids FROM reached r) AS below
CROSS JOIN LATERAL (
  SELECT pg_catalog.count(*) > 0 AS any, coalesce(pg_catalog.bool_or(p.prosecdef OR p.oid IS NULL), false) AS definers
  FROM pg_catalog.unnest(below.oids) AS b(oid) JOIN pg_catalog.pg_rewrite r ON r.ev_class = b.oid
  JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid AND d.refobjid >= 16384
    AND d.refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_operator'::pg_catalog.regclass)
  LEFT JOIN pg_catalog.pg_proc p ON d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid = d.refobjid
  -- What the extension brought says who asks.
  WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend e JOIN pg_catalog.pg_extension x ON x.oid = e.refobjid AND x.extname = 'pg_tenancy'
                    WHERE e.classid = d.refclassid AND e.objid = d.refobjid AND e.deptype = 'e')) AS called"
    };
}
pub(super) use below;

const VIEWS: &str = concat!(
    "
SELECT pg_catalog.jsonb_build_object(
  'schema', n.nspname, 'name', c.relname, 'kind', c.relkind, 'owner', c.relowner::pg_catalog.int8,
  'columns', coalesce(pg_catalog.to_jsonb(columns.names), '[]'),
  'readable', coalesce(pg_catalog.to_jsonb(columns.readable), '[]'), 'writable', coalesce(pg_catalog.to_jsonb(columns.writable), '[]'),
  'insertable', coalesce(pg_catalog.to_jsonb(columns.insertable), '[]'),
  'may_insert', can.do & 8 <> 0 AND pg_catalog.has_any_column_privilege($1, c.oid, 'INSERT'),
  'may_update', can.do & 4 <> 0 AND pg_catalog.has_any_column_privilege($1, c.oid, 'UPDATE'),
  'may_delete', can.do & 16 <> 0 AND pg_catalog.has_table_privilege($1, c.oid, 'DELETE'),
  'may_truncate', c.relkind IN ('r', 'p') AND pg_catalog.has_table_privilege($1, c.oid, 'TRUNCATE'),
  'tables', coalesce((SELECT pg_catalog.jsonb_agg(b.oid::pg_catalog.int8) FROM pg_catalog.unnest(below.oids) AS b(oid) WHERE b.oid <> c.oid), '[]'),
  'calls', called.any, 'calls_definers', called.definers,
  'instead', EXISTS (SELECT FROM pg_catalog.pg_class v JOIN pg_catalog.pg_trigger t ON t.tgrelid = v.oid
       -- INSTEAD OF.
       WHERE v.oid = ANY (below.oids) AND v.relkind = 'v' AND t.tgtype & 64 <> 0)
     OR EXISTS (SELECT FROM pg_catalog.pg_class v JOIN pg_catalog.pg_rewrite w ON w.ev_class = v.oid
       WHERE v.oid = ANY (below.oids) AND v.relkind = 'v' AND w.rulename <> '_RETURN'),
  'runs_others', c.relkind = 'm' AND EXISTS (
     SELECT FROM (
       SELECT b.relowner AS owner FROM pg_catalog.pg_class b WHERE b.oid = ANY (below.oids) AND b.relkind IN ('v', 'm')
       UNION ALL
       SELECT p.proowner FROM pg_catalog.pg_rewrite w
       JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = w.oid
       LEFT JOIN pg_catalog.pg_operator o ON d.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass AND o.oid = d.refobjid
       JOIN pg_catalog.pg_proc p ON p.oid = CASE WHEN d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass THEN d.refobjid ELSE o.oprcode END
       WHERE w.ev_class = ANY (below.oids)) AS code
     WHERE NOT pg_catalog.pg_has_role(code.owner, c.relowner, 'USAGE')),
  'definition', CASE c.relkind WHEN 'm' THEN pg_catalog.pg_get_viewdef(c.oid) END)::pg_catalog.text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
  SELECT CASE WHEN c.relkind = 'v' THEN pg_catalog.pg_relation_is_updatable(c.oid, true)
              WHEN c.relkind IN ('r', 'p') THEN 20 ELSE 0 END AS do) AS can
CROSS JOIN LATERAL (
  SELECT pg_catalog.array_agg(a.attname ORDER BY a.attnum) AS names,
         pg_catalog.array_agg(a.attname ORDER BY a.attnum) FILTER (WHERE pg_catalog.has_column_privilege($1, c.oid, a.attnum, 'SELECT')) AS readable,
         pg_catalog.array_agg(a.attname ORDER BY a.attnum) FILTER (WHERE pg_catalog.has_column_privilege($1, c.oid, a.attnum, 'UPDATE')
           AND CASE c.relkind WHEN 'v' THEN pg_catalog.pg_column_is_updatable(c.oid, a.attnum, true) ELSE a.attgenerated = '' END) AS writable,
         pg_catalog.array_agg(a.attname ORDER BY a.attnum) FILTER (WHERE pg_catalog.has_column_privilege($1, c.oid, a.attnum, 'INSERT')
           AND c.relkind = 'v' AND pg_catalog.pg_column_is_updatable(c.oid, a.attnum, true)) AS insertable
  FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns",
    below!(),
    "
WHERE (c.relkind IN ('v', 'm', 'f')
    OR c.relkind IN ('r', 'p') AND c.relhassubclass AND NOT c.oid::pg_catalog.int8 = ANY ($2))
  AND (pg_catalog.has_any_column_privilege($1, c.oid, 'SELECT, INSERT, UPDATE') OR pg_catalog.has_table_privilege($1, c.oid, 'DELETE')
       OR c.relkind IN ('r', 'p') AND pg_catalog.has_table_privilege($1, c.oid, 'TRUNCATE'))",
    of_users!("pg_class", "c"),
    " ORDER BY n.nspname, c.relname"
);

const FUNCTIONS: &str = concat!(
    "
SELECT pg_catalog.jsonb_build_object(
  'shown', p.oid::pg_catalog.regprocedure, 'schema', n.nspname, 'name', p.proname, 'procedure', p.prokind = 'p',
  'volatile', p.provolatile = 'v', 'definer', p.prosecdef, 'variadic', p.provariadic <> 0,
  'cursor', 'pg_catalog.refcursor'::pg_catalog.regtype = ANY (coalesce(p.proallargtypes, '{}') || p.prorettype)
     OR 'pg_catalog._refcursor'::pg_catalog.regtype = ANY (coalesce(p.proallargtypes, '{}') || p.prorettype)
     OR EXISTS (SELECT FROM pg_catalog.pg_type t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid
                WHERE t.oid = p.prorettype AND a.atttypid = 'pg_catalog.refcursor'::pg_catalog.regtype),
  'required', p.pronargs - p.pronargdefaults,
  'arguments', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.format_type(a.type, NULL) ORDER BY a.place), '[]')
     FROM pg_catalog.unnest(p.proargtypes::pg_catalog.oid[]) WITH ORDINALITY AS a(type, place)))::pg_catalog.text
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE p.prokind IN ('f', 'p') AND pg_catalog.has_function_privilege($1, p.oid, 'EXECUTE')
  AND p.prorettype NOT IN ('pg_catalog.trigger'::pg_catalog.regtype, 'pg_catalog.event_trigger'::pg_catalog.regtype)
  AND (p.prosecdef OR (p.prokind = 'f' AND p.provolatile <> 'v' AND p.prorettype <> 'pg_catalog.void'::pg_catalog.regtype))",
    of_users!("pg_proc", "p"),
    " ORDER BY n.nspname, p.proname, p.oid"
);

/// Views, materialized views and foreign tables, and parents that are not among the tables that are attacked.
pub fn views(role: pg_sys::Oid, targets: &[Target]) -> Result<Vec<View>> {
    let known: Vec<i64> = targets
        .iter()
        .map(|target| target.table.oid.into())
        .collect();
    spi::rows(VIEWS, &[role.into(), known.into()])
}

/// Functions whose result may differ from what the role reads itself, and those that are cheap to try.
pub fn functions(role: pg_sys::Oid) -> Result<Vec<Function>> {
    spi::rows(FUNCTIONS, &[role.into()])
}
