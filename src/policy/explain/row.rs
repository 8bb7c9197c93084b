//! The row itself, and what an expression says about it.
//!
//! Owns reading it past row security, as the owner of the table, and evaluating an expression over the
//! copy as the role that is asked about. Must never evaluate as a superuser: Postgres never evaluates a
//! policy as one, so its author counts on nothing and may be anybody.

use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiError;
use pgrx::{Spi, pg_sys};

use super::super::render::quoted;
use super::super::subtransaction::{self, attempt_reading};
use super::catalog::Table;
use super::key::Key;
use super::verdict::Outcome;
use crate::error::{Error, Kind, Result};
use crate::registry::{ActingRole, PinnedSearchPath};

/// A row, copied.
pub struct Row {
    /// An array with the row as its only element, in memory of the caller.
    array: pg_sys::Datum,
    array_type: pg_sys::Oid,
    /// What the table is called in expressions over it.
    alias: String,
    /// The value of the tenant column; `None` where it is null or there is none.
    pub tenant: Option<String>,
}

/// Reads the row with that key.
pub fn read(table: &Table, key: &Key, tenant_column: Option<&str>) -> Result<Row> {
    let tenant = tenant_column.map_or_else(
        || "NULL::pg_catalog.text".to_owned(),
        |column| {
            format!(
                "pg_catalog.min(CAST(r.{} AS pg_catalog.text))",
                quoted(column)
            )
        },
    );
    let sql = format!(
        "SELECT pg_catalog.array_agg(r.*), {tenant}, pg_catalog.count(*) FROM {}.{} AS r WHERE {}",
        quoted(&table.schema),
        quoted(&table.name),
        key.condition("r")
    );
    let arguments: Vec<DatumWithOid<'_>> = key.texts().map(DatumWithOid::from).collect();
    let found = subtransaction::attempt(|| {
        let _role = ActingRole::new(pg_sys::Oid::from(table.owner));
        let _path = PinnedSearchPath::new();
        // SAFETY: a plain read of the backend's state.
        let memory = unsafe { pg_sys::CurrentMemoryContext };
        Spi::connect(|client| {
            let first = client.select(&sql, None, &arguments)?.first();
            let array = first.get_datum_by_ordinal(1)?;
            let tenant = first.get::<String>(2)?;
            let count = first.get::<i64>(3)?.unwrap_or_default();
            // SAFETY: a varlena value of SPI's memory, copied into the caller's.
            let array = array.map(|array| unsafe {
                let before = pg_sys::MemoryContextSwitchTo(memory);
                let copy = pg_sys::datumCopy(array, false, -1);
                pg_sys::MemoryContextSwitchTo(before);
                copy
            });
            Ok((array, tenant, count))
        })
        .map_err(failed)
    });
    let (array, tenant, count) = found.map_err(|failure| {
        if !subtransaction::sqlstate(failure.code).starts_with("22") {
            failure.raise("The row could not be read as the owner of the table.");
        }
        Error::new(Kind::InvalidTextRepresentation, failure.message)
            .detail("A value of the key is not one of its column's type.")
            .hint("Give each column of the primary key a value of its type.")
    })?;
    let name = format!("{}.{}", quoted(&table.schema), quoted(&table.name));
    match (array, count) {
        (Some(array), 1) => Ok(Row {
            array,
            array_type: pg_sys::Oid::from(table.array_type),
            alias: quoted(&table.name),
            tenant,
        }),
        (_, 0) => Err(Error::new(
            Kind::NoDataFound,
            format!("table {name} has no row with that key"),
        )
        .detail(format!("Asked for {}.", key.words()))
        .hint("Look at the key: the row may be deleted, or not committed.")),
        _ => Err(Error::new(
            Kind::CardinalityViolation,
            format!("{count} rows of table {name} and its children have that key"),
        )
        .hint("Name the child that holds the row.")),
    }
}

impl Row {
    /// What a boolean expression over the table says about the row, evaluated as `role` under the
    /// caller's `search_path`: functions that it calls may depend on that.
    pub fn evaluate(&self, expression: &str, role: pg_sys::Oid) -> Outcome {
        let sql = format!(
            "SELECT ({expression}\n) FROM pg_catalog.unnest($1) AS {}",
            self.alias
        );
        let told = attempt_reading(|| {
            let _role = ActingRole::bound(role);
            let _path = PinnedSearchPath::before_callers();
            // SAFETY: a value of that type, which outlives the call.
            let row = unsafe { DatumWithOid::new(self.array, self.array_type) };
            Spi::connect(|client| client.select(&sql, None, &[row])?.first().get_one::<bool>())
                .map_err(failed)
        });
        match told {
            Ok(Some(true)) => Outcome::Passed,
            Ok(Some(false)) => Outcome::Refused,
            Ok(None) => Outcome::Null,
            Err(failure) => Outcome::Raised(subtransaction::sqlstate(failure.code)),
        }
    }
}

fn failed(error: SpiError) -> Error {
    Error::new(Kind::Internal, "a row could not be read").detail(error.to_string())
}
