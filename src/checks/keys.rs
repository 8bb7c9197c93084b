//! Keys of tables and how often they occur, past row security.
//!
//! Owns on whose behalf a table is read: as its owner, row security suspended and operations
//! restricted, as Postgres's own foreign-key checks are, and only for who administers it.

use std::collections::BTreeMap;

use pgrx::pg_sys;

use crate::binding::authors::Judging;
use crate::binding::{self, expression};
use crate::catalog::{self, quote_identifier as quoted};
use crate::context::service;
use crate::error::{Error, Kind, Result};
use crate::gucs;
use crate::policy::{apply, spi};
use crate::registry::{self, ActingRole, PinnedSearchPath};

/// A table that may be read.
pub struct Table {
    pub oid: pg_sys::Oid,
    pub name: String,
    owner: pg_sys::Oid,
}

impl Table {
    /// The table; an error where the caller does not administer it.
    pub fn open(oid: pg_sys::Oid) -> Result<Self> {
        registry::require_administrator(oid)?;
        Self::found(oid)
    }

    fn found(oid: pg_sys::Oid) -> Result<Self> {
        let name = catalog::relation_name(oid).ok_or_else(|| {
            Error::new(Kind::UndefinedTable, "a table is gone").hint("Run the check again.")
        })?;
        Ok(Self {
            oid,
            name: name.to_string(),
            owner: catalog::relation_owner(oid)?,
        })
    }

    /// A bound table, for a caller who may act for any of its tenants.
    pub fn for_service(oid: pg_sys::Oid) -> Result<Self> {
        service::require_service_session()?;
        Self::found(oid)
    }

    /// The same for an expression of somebody else's, who must have the owner's privileges.
    pub fn for_expression_of(&self, author: &str) -> Result<()> {
        binding::require_trust(self.owner, author, None).map_err(|_| {
            Error::new(
                Kind::InsufficientPrivilege,
                "a condition would run with rights that its author lacks",
            )
            .detail(format!(
                "Table {} belongs to {}.",
                self.name,
                quoted(&catalog::role_name(self.owner))
            ))
            .hint("Have the owner of the table call tenancy.require_rows().")
        })
    }

    /// Fails unless the condition depends on its row alone, and all in it, as its names mean
    /// today, is of somebody who has the owner's privileges: it runs with those.
    pub fn require_condition(&self, condition: &str) -> Result<()> {
        let _path = PinnedSearchPath::new();
        let facts = expression::analyze(self.oid, condition)?;
        if !facts.depends_only_on_its_row {
            return Err(Error::new(
                Kind::InvalidParameterValue,
                "the condition depends on more than its row",
            )
            .hint("Use immutable functions and operators only, and no sub-select."));
        }
        facts.authors.require_rights_of(self.owner)
    }

    /// Says that a scan is on its way where the table is large.
    pub fn tell(&self) {
        let rows = estimate(self.oid);
        if rows >= gucs::inline_ddl_rows() {
            apply::notice(&format!("reading {}, about {rows} rows", self.name), None);
        }
    }

    /// Rows of a query over the table, whose only column is JSON text.
    pub fn rows<T: serde::de::DeserializeOwned>(
        &self,
        sql: &str,
        arguments: &[pgrx::datum::DatumWithOid<'_>],
    ) -> Result<Vec<T>> {
        let _role = ActingRole::new(self.owner);
        let _judging = Judging::new(self.owner, sql);
        spi::rows(sql, arguments)
    }

    /// How many rows each key has; null keys apart.
    pub fn count_by(&self, column: &str, condition: Option<&str>) -> Result<BTreeMap<String, i64>> {
        let column = quoted(column);
        let counted: Vec<(String, i64)> = self.rows(
            &format!(
                "SELECT pg_catalog.jsonb_build_array({}, pg_catalog.count(*))::pg_catalog.text
                 FROM {} WHERE {column} IS NOT NULL AND ({}\n) GROUP BY {column}",
                catalog::as_text(&column),
                self.name,
                condition.unwrap_or("true")
            ),
            &[],
        )?;
        let mut counts = BTreeMap::new();
        for (key, count) in counted {
            *counts.entry(key).or_default() += count;
        }
        Ok(counts)
    }

    /// How many rows one key has.
    pub fn count_of(
        &self,
        column: &str,
        key: &str,
        key_type: &str,
        condition: Option<&str>,
    ) -> Result<i64> {
        let counted: Vec<i64> = self.rows(
            &format!(
                "SELECT pg_catalog.to_json(pg_catalog.count(*))::pg_catalog.text
                 FROM {} WHERE {} = $1::pg_catalog.text::{key_type} AND ({}\n)",
                self.name,
                quoted(column),
                condition.unwrap_or("true")
            ),
            &[key.into()],
        )?;
        Ok(counted.into_iter().next().unwrap_or_default())
    }
}

/// Rows as the planner estimates them, 0 where it never looked.
pub fn estimate(relation: pg_sys::Oid) -> i64 {
    let rows: Option<i64> = spi::row(
        "SELECT pg_catalog.to_json(greatest(c.reltuples, 0)::pg_catalog.int8)::pg_catalog.text
         FROM pg_catalog.pg_class c WHERE c.oid = $1",
        &[relation.into()],
    )
    .ok()
    .flatten();
    rows.unwrap_or_default()
}
