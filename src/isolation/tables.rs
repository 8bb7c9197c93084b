//! The tables to attack: those that are registered, what is below them, and others with a tenant column.
//!
//! Owns what the catalog says of them and of what the role may do there. Must never lock.

use pgrx::pg_sys;
use serde::Deserialize;

use super::verdict::Verdict;
use crate::error::Result;
use crate::policy::spi;
use crate::policy::{Options, Template, quoted, registered_tables};

/// A column.
#[derive(Debug, Clone, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The type under its domains, without a length.
    pub base_type: String,
    /// The longest text that fits, where there is a limit.
    pub length: Option<i32>,
    /// The first label of an enumeration, as a literal.
    pub label: Option<String>,
    /// NOT NULL.
    pub not_null: bool,
    /// Filled by Postgres where it is left out.
    pub has_default: bool,
    /// GENERATED ALWAYS AS (..).
    pub generated: bool,
    /// Part of a unique key.
    pub unique: bool,
    /// Part of a foreign key.
    pub links: bool,
    /// What the role may do with it.
    pub may_select: bool,
    pub may_insert: bool,
    pub may_update: bool,
}

/// A foreign key, of the table or of one above it.
#[derive(Debug, Clone, Deserialize)]
pub struct Key {
    pub name: String,
    pub columns: Vec<String>,
    pub parent: u32,
    pub parent_columns: Vec<String>,
}

/// A table as the catalog has it.
#[derive(Debug, Clone, Deserialize)]
pub struct Table {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub owner: u32,
    pub forced: bool,
    /// `has_table_privilege` or on any column.
    pub may_anything: bool,
    pub may_truncate: bool,
    /// The role has the rights of its owner.
    pub owned: bool,
    /// The tables that it is a partition or a child of, at any remove.
    pub above: Vec<u32>,
    /// Triggers or rules that did not come with the extension may stand in the way of a write, here or below.
    pub interferes: bool,
    /// Such triggers before a row, or rules, that act even where triggers are switched off: they may drop a write.
    pub always_drops: bool,
    /// Such triggers of any kind, or rules: what they run may be refused.
    pub always: bool,
    pub columns: Vec<Column>,
    /// Columns of each unique key that a conflict can name.
    pub unique_keys: Vec<Vec<String>>,
    pub foreign_keys: Vec<Key>,
}

impl Table {
    /// Schema and name, always quoted, for statements.
    pub fn sql(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    pub fn oid(&self) -> pg_sys::Oid {
        pg_sys::Oid::from(self.oid)
    }

    pub fn owner(&self) -> pg_sys::Oid {
        pg_sys::Oid::from(self.owner)
    }

    /// Whether what a write met without triggers may be the doing of those that always act.
    pub fn always_hides(&self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Nothing => self.always_drops,
            Verdict::Refused => self.always,
            Verdict::Leak | Verdict::NotAttacked => false,
        }
    }

    /// Whether it is below one of those tables.
    pub fn is_below(&self, targets: &[Target]) -> bool {
        targets
            .iter()
            .any(|other| self.above.contains(&other.table.oid))
    }

    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// How the rows of a table belong to somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Belonging {
    /// By a tenant column.
    Tenant(String),
    /// By a user column; by the tenant, too, where others than the user may read.
    User {
        user: String,
        tenant: Option<String>,
    },
    /// By the foreign key of that name to a table whose rows do.
    Parent(String),
    /// To nobody: everybody reads and only admins write.
    Nobody { tenant_admins_write: bool },
}

/// A table with how its rows belong to somebody.
#[derive(Debug, Clone)]
pub struct Target {
    pub table: Table,
    pub belonging: Belonging,
    /// The rows of the platform tenant are everybody's to read.
    pub shared: bool,
}

impl Target {
    /// The foreign key by which its rows belong to a parent, and that parent among all tables.
    pub fn parent<'a>(&'a self, targets: &'a [Target]) -> Option<(&'a Key, &'a Target)> {
        let Belonging::Parent(link) = &self.belonging else {
            return None;
        };
        let mut keys = self.table.foreign_keys.iter();
        let key = keys.find(|key| key.name == *link)?;
        let parent = targets.iter().find(|other| other.table.oid == key.parent)?;
        Some((key, parent))
    }
}

const TABLE: &str = "
SELECT pg_catalog.jsonb_build_object(
  'oid', c.oid::pg_catalog.int8, 'schema', n.nspname, 'name', c.relname, 'owner', c.relowner::pg_catalog.int8,
  'forced', c.relforcerowsecurity,
  'may_anything', pg_catalog.has_table_privilege($2, c.oid, 'DELETE, TRUNCATE')
     OR pg_catalog.has_any_column_privilege($2, c.oid, 'SELECT, INSERT, UPDATE'),
  'may_truncate', pg_catalog.has_table_privilege($2, c.oid, 'TRUNCATE'),
  'owned', pg_catalog.pg_has_role($2, c.relowner, 'USAGE'),
  'above', (WITH RECURSIVE above AS (
       SELECT i.inhparent AS oid FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid
       UNION SELECT i.inhparent FROM above a JOIN pg_catalog.pg_inherits i ON i.inhrelid = a.oid)
     SELECT coalesce(pg_catalog.jsonb_agg(a.oid::pg_catalog.int8), '[]') FROM above a),
  'interferes', triggers.any OR EXISTS (SELECT FROM pg_catalog.pg_rewrite w WHERE w.ev_class = c.oid),
  'always_drops', triggers.always_drops OR rules.always, 'always', triggers.always OR rules.always,
  'columns', (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
       'name', a.attname, 'base_type', pg_catalog.format_type(b.oid, NULL),
       'length', CASE WHEN a.atttypid IN ('pg_catalog.varchar'::pg_catalog.regtype, 'pg_catalog.bpchar'::pg_catalog.regtype)
                           AND a.atttypmod > 4 THEN a.atttypmod - 4 END,
       'label', (SELECT pg_catalog.quote_literal(e.enumlabel) FROM pg_catalog.pg_enum e WHERE e.enumtypid = b.oid
                 ORDER BY e.enumsortorder LIMIT 1),
       'not_null', a.attnotnull, 'has_default', a.atthasdef OR a.attidentity <> '', 'generated', a.attgenerated <> '',
       'unique', EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisunique
                         AND a.attnum = ANY (i.indkey::pg_catalog.int2[])),
       'links', EXISTS (SELECT FROM pg_catalog.pg_constraint f WHERE f.conrelid = c.oid AND f.contype = 'f' AND a.attnum = ANY (f.conkey)),
       'may_select', pg_catalog.has_column_privilege($2, c.oid, a.attnum, 'SELECT'),
       'may_insert', pg_catalog.has_column_privilege($2, c.oid, a.attnum, 'INSERT'),
       'may_update', pg_catalog.has_column_privilege($2, c.oid, a.attnum, 'UPDATE')) ORDER BY a.attnum)
     FROM pg_catalog.pg_attribute a
     CROSS JOIN LATERAL (
       WITH RECURSIVE under AS (
         SELECT t.oid, t.typtype, t.typbasetype FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid
         UNION ALL
         SELECT t.oid, t.typtype, t.typbasetype FROM pg_catalog.pg_type t JOIN under u ON u.typtype = 'd' AND t.oid = u.typbasetype)
       SELECT u.oid, u.typtype FROM under u WHERE u.typtype <> 'd') AS b
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  'unique_keys', (SELECT coalesce(pg_catalog.jsonb_agg(k.names), '[]') FROM (
       SELECT (SELECT pg_catalog.jsonb_agg(a.attname ORDER BY p.place)
               FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS p(number, place)
               JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.number
               WHERE p.place <= i.indnkeyatts) AS names
       FROM pg_catalog.pg_index i
       WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
       ORDER BY i.indisprimary DESC, i.indexrelid) AS k),
  'foreign_keys', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
       'name', f.conname, 'parent', f.confrelid::pg_catalog.int8,
       'columns', (SELECT pg_catalog.jsonb_agg(a.attname ORDER BY k.place)
          FROM pg_catalog.unnest(f.conkey) WITH ORDINALITY AS k(number, place)
          JOIN pg_catalog.pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.number),
       'parent_columns', (SELECT pg_catalog.jsonb_agg(a.attname ORDER BY k.place)
          FROM pg_catalog.unnest(f.confkey) WITH ORDINALITY AS k(number, place)
          JOIN pg_catalog.pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.number)) ORDER BY f.conname), '[]')
     FROM pg_catalog.pg_constraint f
     WHERE f.conrelid = c.oid AND f.contype = 'f'
       -- Of a partitioned parent, not the copies for its partitions.
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint u WHERE u.oid = f.conparentid AND u.conrelid = f.conrelid))
)::pg_catalog.text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
  WITH RECURSIVE below AS (
    SELECT c.oid
    UNION SELECT i.inhrelid FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.oid)
  SELECT pg_catalog.count(*) > 0 AS any,
         -- Before (2) each row (1).
         coalesce(pg_catalog.bool_or(t.tgenabled IN ('A', 'R') AND t.tgtype & 3 = 3), false) AS always_drops,
         coalesce(pg_catalog.bool_or(t.tgenabled IN ('A', 'R')), false) AS always
  FROM below b JOIN pg_catalog.pg_trigger t ON t.tgrelid = b.oid JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
  WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND p.pronamespace <> 'tenancy'::pg_catalog.regnamespace) AS triggers
CROSS JOIN LATERAL (
  SELECT EXISTS (SELECT FROM pg_catalog.pg_rewrite w WHERE w.ev_class = c.oid AND w.ev_enabled IN ('A', 'R')) AS always) AS rules
WHERE c.oid = $1";

/// The partitions and children of a table, itself left out.
const BELOW: &str = "
WITH RECURSIVE below AS (
  SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = $1
  UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN below b ON i.inhparent = b.inhrelid)
SELECT b.inhrelid::pg_catalog.int8::pg_catalog.text FROM below b JOIN pg_catalog.pg_class c ON c.oid = b.inhrelid
WHERE c.relkind IN ('r', 'p') ORDER BY 1";

/// Other tables with such a column, that no extension brought, and not of another session.
const ALIKE: &str = "
SELECT pg_catalog.jsonb_build_array(c.oid::pg_catalog.int8, a.attname)::pg_catalog.text
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND c.oid >= 16384
  AND n.nspname NOT IN ('tenancy', 'information_schema') AND n.nspname !~ '^pg_'
  AND a.attname::pg_catalog.text = ANY ($1)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY c.oid";

/// Reads one table; `None` when it is gone.
fn read(oid: u32, role: pg_sys::Oid) -> Result<Option<Table>> {
    spi::row_planned(TABLE, &[pg_sys::Oid::from(oid).into(), role.into()])
}

/// All targets, in the order of their names; `bound_column` is the tenant column of the membership
/// table.
pub fn targets(role: pg_sys::Oid, bound_column: Option<&str>) -> Result<Vec<Target>> {
    let mut targets: Vec<Target> = Vec::new();
    let mut names: Vec<String> = vec!["tenant_id".to_owned()];
    names.extend(bound_column.filter(|name| *name != "id").map(str::to_owned));
    for (relation, row) in registered_tables()? {
        let template = Template::parse(&row.template)?;
        let options = Options::parse(&row.options)?;
        let column = row.column_today(relation);
        let has_tenant = template.has_tenant_column(&options);
        if has_tenant && column != "id" {
            names.push(column.clone());
        }
        let belonging = match template {
            Template::SelfRow => Belonging::User {
                user: options.user_column.clone(),
                tenant: has_tenant.then(|| column.clone()),
            },
            Template::Child => Belonging::Parent(row.made.link.clone().unwrap_or_default()),
            Template::GlobalReadAdminWrite => Belonging::Nobody {
                tenant_admins_write: options.lets_tenant_admins_write(),
            },
            _ => Belonging::Tenant(column),
        };
        let below = spi::rows_planned::<u32>(BELOW, &[relation.into()])?;
        for oid in core::iter::once(relation.to_u32()).chain(below) {
            if targets.iter().any(|known| known.table.oid == oid) {
                continue;
            }
            let Some(table) = read(oid, role)? else {
                continue;
            };
            targets.push(Target {
                table,
                belonging: belonging.clone(),
                shared: template == Template::SharedRead,
            });
        }
    }
    for (oid, column) in spi::rows::<(u32, String)>(ALIKE, &[names.into()])? {
        if targets.iter().any(|known| known.table.oid == oid) {
            continue;
        }
        if let Some(table) = read(oid, role)? {
            targets.push(Target {
                table,
                belonging: Belonging::Tenant(column),
                shared: false,
            });
        }
    }
    targets.sort_by(|a, b| (&a.table.schema, &a.table.name).cmp(&(&b.table.schema, &b.table.name)));
    Ok(targets)
}
