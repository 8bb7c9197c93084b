//! The ways besides tables: views, materialized views, functions and foreign tables that the role
//! reaches.
//!
//! Owns which there are and how each is read. What only runs with the rights of its caller leads nowhere
//! that the role could not go itself.

use pgrx::pg_sys;
use serde::Deserialize;

use super::prey::Party;
use crate::error::Result;
use crate::policy::{literal, quoted, quoted_list, spi};

/// A relation that is no table.
#[derive(Debug, Clone, Deserialize)]
pub struct View {
    pub schema: String,
    pub name: String,
    /// `relkind`: v, m or f.
    pub kind: String,
    pub owner: u32,
    /// The columns that the role may read.
    pub readable: Vec<String>,
    /// The columns that a statement can write.
    pub writable: Vec<String>,
    /// What can be done and the role may do.
    pub may_insert: bool,
    pub may_update: bool,
    pub may_delete: bool,
    /// The tables below it.
    pub tables: Vec<u32>,
    /// Whether it calls functions, which may read anything.
    pub calls: bool,
    /// The query of a materialized view.
    pub definition: Option<String>,
}

impl View {
    pub fn sql(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    pub fn owner(&self) -> pg_sys::Oid {
        pg_sys::Oid::from(self.owner)
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
    /// Types of the arguments without a default.
    pub arguments: Vec<String>,
    pub variadic: bool,
}

impl Function {
    /// All that it returns, in two numbers; arguments without a default name the other tenant, or its
    /// user. `None` where an argument is nothing of the kind.
    pub fn digests(&self, other: &Party) -> Option<Vec<String>> {
        if self.variadic {
            return None;
        }
        let call = |value: &str| {
            let arguments: Vec<String> = self
                .arguments
                .iter()
                .map(|kind| format!("{}::{kind}", literal(value)))
                .collect();
            format!(
                "SELECT pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.concat(tenancy_result), 0))
                 FROM {}.{}({}) AS tenancy_result",
                quoted(&self.schema),
                quoted(&self.name),
                arguments.join(", ")
            )
        };
        if self.arguments.is_empty() {
            return Some(vec![call("")]);
        }
        let names_somebody = |kind: &String| IDENTIFIERS.contains(&kind.as_str());
        let values = core::iter::once(Some(&other.tenant))
            .chain([other.user.as_ref()])
            .flatten();
        let fitting: Vec<String> = values
            .filter(|value| self.arguments.iter().all(|kind| fits(kind, value)))
            .map(|value| call(value))
            .collect();
        (self.arguments.iter().all(names_somebody) && !fitting.is_empty()).then_some(fitting)
    }
}

/// Types that identify tenants and users.
const IDENTIFIERS: [&str; 5] = ["uuid", "text", "character varying", "bigint", "integer"];

fn fits(kind: &str, value: &str) -> bool {
    match kind {
        "uuid" => uuid::Uuid::parse_str(value).is_ok(),
        "bigint" => value.parse::<i64>().is_ok(),
        "integer" => value.parse::<i32>().is_ok(),
        _ => true,
    }
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

const VIEWS: &str = concat!(
    "
SELECT pg_catalog.jsonb_build_object(
  'schema', n.nspname, 'name', c.relname, 'kind', c.relkind, 'owner', c.relowner::pg_catalog.int8,
  'readable', coalesce(pg_catalog.to_jsonb(columns.readable), '[]'), 'writable', coalesce(pg_catalog.to_jsonb(columns.writable), '[]'),
  'may_insert', can.do & 8 <> 0 AND pg_catalog.has_any_column_privilege($1, c.oid, 'INSERT'),
  'may_update', can.do & 4 <> 0 AND pg_catalog.has_any_column_privilege($1, c.oid, 'UPDATE'),
  'may_delete', can.do & 16 <> 0 AND pg_catalog.has_table_privilege($1, c.oid, 'DELETE'),
  'tables', coalesce((SELECT pg_catalog.jsonb_agg(b.oid::pg_catalog.int8) FROM pg_catalog.unnest(below.oids) AS b(oid) WHERE b.oid <> c.oid), '[]'),
  'calls', EXISTS (SELECT FROM pg_catalog.unnest(below.oids) AS b(oid) JOIN pg_catalog.pg_rewrite r ON r.ev_class = b.oid
     JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
     WHERE d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.refobjid >= 16384),
  'definition', CASE c.relkind WHEN 'm' THEN pg_catalog.pg_get_viewdef(c.oid) END)::pg_catalog.text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
  SELECT CASE c.relkind WHEN 'v' THEN pg_catalog.pg_relation_is_updatable(c.oid, true) ELSE 0 END AS do) AS can
CROSS JOIN LATERAL (
  SELECT pg_catalog.array_agg(a.attname ORDER BY a.attnum) FILTER (WHERE pg_catalog.has_column_privilege($1, c.oid, a.attnum, 'SELECT')) AS readable,
         pg_catalog.array_agg(a.attname ORDER BY a.attnum) FILTER (WHERE c.relkind = 'v' AND pg_catalog.pg_column_is_updatable(c.oid, a.attnum, true)) AS writable
  FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns
CROSS JOIN LATERAL (
  WITH RECURSIVE reached AS (
    SELECT c.oid
    UNION SELECT d.refobjid FROM reached r JOIN pg_catalog.pg_rewrite w ON w.ev_class = r.oid
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = w.oid
    WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass)
  SELECT pg_catalog.array_agg(r.oid) AS oids FROM reached r) AS below
WHERE c.relkind IN ('v', 'm', 'f')
  AND (pg_catalog.has_any_column_privilege($1, c.oid, 'SELECT, INSERT, UPDATE') OR pg_catalog.has_table_privilege($1, c.oid, 'DELETE'))",
    of_users!("pg_class", "c"),
    " ORDER BY n.nspname, c.relname"
);

const FUNCTIONS: &str = concat!(
    "
SELECT pg_catalog.jsonb_build_object(
  'shown', p.oid::pg_catalog.regprocedure, 'schema', n.nspname, 'name', p.proname,
  'volatile', p.provolatile = 'v', 'definer', p.prosecdef, 'variadic', p.provariadic <> 0,
  'arguments', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.format_type(a.type, NULL) ORDER BY a.place), '[]')
     FROM pg_catalog.unnest(p.proargtypes::pg_catalog.oid[]) WITH ORDINALITY AS a(type, place)
     WHERE a.place <= p.pronargs - p.pronargdefaults))::pg_catalog.text
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE p.prokind = 'f' AND pg_catalog.has_function_privilege($1, p.oid, 'EXECUTE')
  AND p.prorettype NOT IN ('pg_catalog.trigger'::pg_catalog.regtype, 'pg_catalog.event_trigger'::pg_catalog.regtype)
  AND (p.prosecdef OR (p.provolatile <> 'v' AND p.prorettype <> 'pg_catalog.void'::pg_catalog.regtype))",
    of_users!("pg_proc", "p"),
    " ORDER BY n.nspname, p.proname, p.oid"
);

/// Views, materialized views and foreign tables.
pub fn views(role: pg_sys::Oid) -> Result<Vec<View>> {
    spi::rows(VIEWS, &[role.into()])
}

/// Functions whose result may differ from what the role reads itself, and those that are cheap to try.
pub fn functions(role: pg_sys::Oid) -> Result<Vec<Function>> {
    spi::rows(FUNCTIONS, &[role.into()])
}
