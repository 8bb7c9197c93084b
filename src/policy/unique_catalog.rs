//! Unique keys as the catalog has them.
//!
//! Owns the query about constraints and indexes that keep values unique, and their text. Must never change
//! anything.

use pgrx::pg_sys;
use serde::Deserialize;

use super::render::{quoted, quoted_list};
use super::spi;
use crate::catalog::quote_identifier;
use crate::error::Result;

/// A UNIQUE, PRIMARY KEY or EXCLUDE constraint, or a unique index without one.
#[derive(Debug, Clone, Deserialize)]
pub struct UniqueKey {
    /// Its name.
    pub name: String,
    /// `contype`, or `i` for an index without a constraint.
    pub kind: String,
    /// Key columns; `None` for an expression.
    pub columns: Vec<Option<String>>,
    /// Whether all are numbers or uuids, which say nothing about what they stand for.
    pub says_nothing: bool,
    /// INCLUDE.
    pub include: Vec<String>,
    /// NULLS NOT DISTINCT.
    pub nulls_not_distinct: bool,
    /// WITH (..), without the parentheses.
    pub storage: Option<String>,
    /// TABLESPACE.
    pub tablespace: Option<String>,
    /// DEFERRABLE.
    pub deferrable: bool,
    /// INITIALLY DEFERRED.
    pub deferred: bool,
    /// WITHOUT OVERLAPS.
    pub temporal: bool,
    /// REPLICA IDENTITY USING INDEX.
    pub replica_identity: bool,
    /// CLUSTER ON.
    pub clustered: bool,
    /// Whether it is complete.
    pub valid: bool,
    /// Whether it belongs to a key of a parent.
    pub inherited: bool,
    /// Foreign keys that need it.
    pub referenced_by: Vec<String>,
    /// COMMENT, as a literal.
    pub comment: Option<String>,
    /// `pg_get_indexdef`.
    pub index_definition: String,
}

const UNIQUE_KEYS: &str = "
SELECT pg_catalog.jsonb_build_object(
  'name', ic.relname, 'kind', coalesce(con.contype::pg_catalog.text, 'i'),
  'columns', (SELECT pg_catalog.jsonb_agg(a.attname ORDER BY k.place)
     FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) AS k(place)
     LEFT JOIN pg_catalog.pg_attribute a
       ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.place] AND i.indkey[k.place] > 0),
  'says_nothing', (SELECT pg_catalog.bool_and(coalesce(a.atttypid IN
         ('pg_catalog.int2'::pg_catalog.regtype, 'pg_catalog.int4'::pg_catalog.regtype,
          'pg_catalog.int8'::pg_catalog.regtype, 'pg_catalog.uuid'::pg_catalog.regtype), false))
     FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) AS k(place)
     LEFT JOIN pg_catalog.pg_attribute a
       ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.place] AND i.indkey[k.place] > 0),
  'include', (SELECT coalesce(pg_catalog.jsonb_agg(a.attname ORDER BY k.place), '[]')
     FROM pg_catalog.generate_series(i.indnkeyatts::pg_catalog.int4, i.indnatts - 1) AS k(place)
     JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.place]),
  'nulls_not_distinct', i.indnullsnotdistinct,
  'storage', pg_catalog.array_to_string(ic.reloptions, ', '),
  'tablespace', (SELECT s.spcname FROM pg_catalog.pg_tablespace s WHERE s.oid = ic.reltablespace),
  'deferrable', coalesce(con.condeferrable, false), 'deferred', coalesce(con.condeferred, false),
  -- A column that only some versions have.
  'temporal', coalesce((pg_catalog.to_jsonb(con) ->> 'conperiod')::pg_catalog.bool, false),
  'replica_identity', i.indisreplident, 'clustered', i.indisclustered, 'valid', i.indisvalid,
  'inherited', ic.relispartition,
  'referenced_by', (SELECT coalesce(pg_catalog.jsonb_agg(DISTINCT f.conname), '[]')
     FROM pg_catalog.pg_depend d
     JOIN pg_catalog.pg_constraint f ON f.oid = d.objid AND f.contype = 'f'
     WHERE d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
       AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = ic.oid),
  'comment', pg_catalog.quote_literal(CASE WHEN con.oid IS NULL
     THEN pg_catalog.obj_description(ic.oid, 'pg_class')
     ELSE pg_catalog.obj_description(con.oid, 'pg_constraint') END),
  'index_definition', pg_catalog.pg_get_indexdef(ic.oid))::pg_catalog.text
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
LEFT JOIN pg_catalog.pg_constraint con
  ON con.conrelid = i.indrelid AND con.conindid = ic.oid AND con.contype IN ('p', 'u', 'x')
WHERE i.indrelid = $1 AND (i.indisunique OR i.indisexclusion)
ORDER BY ic.relname COLLATE \"C\"";

/// All that a table keeps unique.
pub fn of(table: pg_sys::Oid) -> Result<Vec<UniqueKey>> {
    spi::rows_planned(UNIQUE_KEYS, &[table.into()])
}

impl UniqueKey {
    /// Whether the tenant is part of it, so that two tenants can have the same values.
    pub fn carries(&self, column: &str) -> bool {
        self.columns.iter().flatten().any(|key| key == column)
    }

    /// Whether it begins with the tenant, as one does that was rewritten.
    pub fn leads(&self, column: &str) -> bool {
        self.columns.first().and_then(Option::as_deref) == Some(column) && self.columns.len() > 1
    }

    /// Whether it is a constraint that can be made by `ADD CONSTRAINT .. UNIQUE`.
    pub fn is_constraint(&self) -> bool {
        self.kind == "u"
    }

    /// `UNIQUE (..) ..` with the tenant first, or without it.
    pub fn constraint(&self, column: &str, carries: bool) -> String {
        let mut columns: Vec<String> = self
            .columns
            .iter()
            .flatten()
            .filter(|key| *key != column)
            .cloned()
            .collect();
        if carries {
            columns.insert(0, column.to_owned());
        }
        let mut sql = "UNIQUE".to_owned();
        if self.nulls_not_distinct {
            sql.push_str(" NULLS NOT DISTINCT");
        }
        sql.push_str(&format!(" ({})", quoted_list(&columns)));
        if !self.include.is_empty() {
            sql.push_str(&format!(" INCLUDE ({})", quoted_list(&self.include)));
        }
        if let Some(storage) = &self.storage {
            sql.push_str(&format!(" WITH ({storage})"));
        }
        if let Some(tablespace) = &self.tablespace {
            sql.push_str(&format!(" USING INDEX TABLESPACE {}", quoted(tablespace)));
        }
        sql.push_str(&self.timing());
        sql
    }

    /// ` DEFERRABLE ..`, or nothing.
    pub fn timing(&self) -> String {
        match (self.deferrable, self.deferred) {
            (true, true) => " DEFERRABLE INITIALLY DEFERRED".to_owned(),
            (true, false) => " DEFERRABLE".to_owned(),
            _ => String::new(),
        }
    }

    /// `CREATE UNIQUE INDEX ..` of the same name or another, with the tenant first or without it: what
    /// Postgres prints, so that expressions, predicates and operator classes stay as they are. `None`
    /// where that does not look as expected.
    pub fn index(&self, make: &IndexText<'_>) -> Option<String> {
        if self.tablespace.is_some() {
            // What Postgres prints leaves it out.
            return None;
        }
        let table = format!(
            "{}.{}",
            quote_identifier(make.schema),
            quote_identifier(make.table)
        );
        let named = format!("CREATE UNIQUE INDEX {} ON ", quote_identifier(&self.name));
        let rest = self.index_definition.strip_prefix(&named)?;
        let rest = rest.strip_prefix("ONLY ").unwrap_or(rest);
        let rest = rest.strip_prefix(&table)?.strip_prefix(" USING btree (")?;
        let tenant = format!("{}, ", quote_identifier(make.column));
        let rest = if self.leads(make.column) {
            rest.strip_prefix(&tenant)?
        } else {
            rest
        };
        Some(format!(
            "CREATE UNIQUE INDEX {}{} ON {}.{} USING btree ({}{rest}",
            if make.concurrently {
                "CONCURRENTLY "
            } else {
                ""
            },
            quoted(make.name),
            quoted(make.schema),
            quoted(make.table),
            if make.carries { tenant.as_str() } else { "" },
        ))
    }
}

/// How the text of an index is to be.
pub struct IndexText<'a> {
    /// Schema of the table.
    pub schema: &'a str,
    /// The table.
    pub table: &'a str,
    /// The tenant column.
    pub column: &'a str,
    /// The name that it gets.
    pub name: &'a str,
    /// Whether it carries the tenant.
    pub carries: bool,
    /// CONCURRENTLY.
    pub concurrently: bool,
}
