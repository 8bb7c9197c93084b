//! Thin calls into SPI.
//!
//! Owns how catalog queries come back (as JSON, so that one query fills one struct) and how
//! statements run: always under a pinned `search_path`, so that neither an operator nor a table of a
//! caller's schema can take the place of Postgres's own. Must never decide anything.

use pgrx::Spi;
use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiError;
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

/// The first row of such a query.
pub fn row<T: DeserializeOwned>(sql: &str, arguments: &[DatumWithOid<'_>]) -> Result<Option<T>> {
    Ok(rows(sql, arguments)?.into_iter().next())
}

fn failed(error: SpiError) -> Error {
    Error::new(
        Kind::Internal,
        "a statement of the extension could not be run",
    )
    .detail(error.to_string())
}
