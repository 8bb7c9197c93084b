//! Thin calls into SPI.
//!
//! Owns how catalog queries come back (as JSON, so that one query fills one struct) and how
//! statements run: always under a pinned `search_path`, so that neither an operator nor a table of a
//! caller's schema can take the place of Postgres's own. Must never decide anything.

use std::cell::RefCell;
use std::collections::HashMap;

use pgrx::Spi;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::PgOid;
use pgrx::spi::{OwnedPreparedStatement, SpiError};
use serde::de::DeserializeOwned;

use crate::error::{Error, Kind, Result};
use crate::registry::PinnedSearchPath;

/// Runs a statement that changes something.
pub fn execute(sql: &str, arguments: &[DatumWithOid<'_>]) -> Result<()> {
    let _path = PinnedSearchPath::new();
    Spi::connect_mut(|client| client.update(sql, None, arguments).map(|_| ())).map_err(failed)
}

/// The rows of a query whose only column is JSON text.
pub fn rows<T: DeserializeOwned>(sql: &str, arguments: &[DatumWithOid<'_>]) -> Result<Vec<T>> {
    let _path = PinnedSearchPath::new();
    let texts: Vec<String> = Spi::connect(|client| {
        let mut texts = Vec::new();
        for row in client.select(sql, None, arguments)? {
            if let Some(text) = row.get::<String>(1)? {
                texts.push(text);
            }
        }
        Ok(texts)
    })
    .map_err(failed)?;
    parsed(&texts)
}

thread_local! {
    /// Plans of catalog queries, by text. They live as long as the session: freeing one while the
    /// process exits would call into a server that is being taken down.
    static PLANS: RefCell<HashMap<&'static str, &'static OwnedPreparedStatement>> = RefCell::default();
}

/// The same for a query that is asked for every table of a call: planned once in a session, which
/// takes longer than running it.
pub fn rows_planned<T: DeserializeOwned>(
    sql: &'static str,
    arguments: &[DatumWithOid<'_>],
) -> Result<Vec<T>> {
    let _path = PinnedSearchPath::new();
    let texts: Vec<String> = Spi::connect(|client| {
        let known = PLANS.with_borrow(|plans| plans.get(sql).copied());
        let plan = match known {
            Some(plan) => plan,
            None => {
                let types: Vec<PgOid> = arguments
                    .iter()
                    .map(|argument| PgOid::from(argument.oid()))
                    .collect();
                let plan: &'static OwnedPreparedStatement =
                    Box::leak(Box::new(client.prepare(sql, &types)?.keep()));
                PLANS.with_borrow_mut(|plans| plans.insert(sql, plan));
                plan
            }
        };
        let mut texts = Vec::new();
        for row in client.select(plan, None, arguments)? {
            if let Some(text) = row.get::<String>(1)? {
                texts.push(text);
            }
        }
        Ok(texts)
    })
    .map_err(failed)?;
    parsed(&texts)
}

/// The first row of such a query.
pub fn row_planned<T: DeserializeOwned>(
    sql: &'static str,
    arguments: &[DatumWithOid<'_>],
) -> Result<Option<T>> {
    Ok(rows_planned(sql, arguments)?.into_iter().next())
}

/// The first row of a statement that changes something and returns JSON text.
pub fn changed_row<T: DeserializeOwned>(
    sql: &str,
    arguments: &[DatumWithOid<'_>],
) -> Result<Option<T>> {
    let _path = PinnedSearchPath::new();
    let text: Option<String> = Spi::connect_mut(|client| {
        let rows = client.update(sql, Some(1), arguments)?;
        if rows.is_empty() {
            return Ok(None);
        }
        rows.first().get_one()
    })
    .map_err(failed)?;
    Ok(parsed(text.as_slice())?.into_iter().next())
}

/// The first row of a query as [`rows`] runs it.
pub fn row<T: DeserializeOwned>(sql: &str, arguments: &[DatumWithOid<'_>]) -> Result<Option<T>> {
    Ok(rows(sql, arguments)?.into_iter().next())
}

fn parsed<T: DeserializeOwned>(texts: &[String]) -> Result<Vec<T>> {
    texts
        .iter()
        .map(|text| {
            serde_json::from_str(text).map_err(|error| {
                Error::new(
                    Kind::Internal,
                    "a catalog query returned what was not expected",
                )
                .detail(error.to_string())
            })
        })
        .collect()
}

fn failed(error: SpiError) -> Error {
    Error::new(
        Kind::Internal,
        "a statement of the extension could not be run",
    )
    .detail(error.to_string())
}
