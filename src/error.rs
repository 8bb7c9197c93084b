//! Every error the extension raises: one variant, one SQLSTATE, one wording.
//!
//! Owns message, DETAIL and HINT texts. Must never put another tenant's values into one of them:
//! only what the caller gave and names of catalog objects.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};

/// What can go wrong, with the facts that the message needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Any other failure that has a SQLSTATE of its own: code, message, detail, hint.
    Report(Box<Facts>),
}

/// The texts of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub code: PgSqlErrorCode,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}
