//! Work that may fail without taking the whole call with it.
//!
//! Owns the subtransaction around it and what is left of the error. Must never swallow a cancelled
//! statement.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, PgTryBuilder, pg_sys};

use crate::error::{OrRaise, Result};

/// An error that was caught.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its SQLSTATE.
    pub code: PgSqlErrorCode,
    /// Its message.
    pub message: String,
    /// Its HINT, where there was one.
    pub hint: Option<String>,
}

/// Runs `work` in a subtransaction that is rolled back when it fails. A cancelled statement is not
/// caught.
pub fn attempt<T>(work: impl FnOnce() -> Result<T>) -> core::result::Result<T, Failure> {
    // SAFETY: the context and owner of the caller are put back on both ways out, as PL/pgSQL does.
    let (context, owner) = unsafe { (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner) };
    // SAFETY: inside a function called by SQL there is a transaction.
    unsafe { pg_sys::BeginInternalSubTransaction(core::ptr::null()) };
    // SAFETY: results must outlive the subtransaction.
    unsafe { pg_sys::MemoryContextSwitchTo(context) };
    let result = PgTryBuilder::new(AssertUnwindSafe(|| Ok(work().or_raise())))
        .catch_others(|caught| {
            let report = match &caught {
                CaughtError::PostgresError(report)
                | CaughtError::ErrorReport(report)
                | CaughtError::RustPanic {
                    ereport: report, ..
                } => report,
            };
            if report.sql_error_code() == PgSqlErrorCode::ERRCODE_QUERY_CANCELED {
                caught.rethrow();
            }
            Err(Failure {
                code: report.sql_error_code(),
                message: report.message().to_owned(),
                hint: report.hint().map(str::to_owned),
            })
        })
        .execute();
    // SAFETY: ends the subtransaction that was begun above, once.
    unsafe {
        pg_sys::MemoryContextSwitchTo(context);
        if result.is_ok() {
            pg_sys::ReleaseCurrentSubTransaction();
        } else {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
        }
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
    }
    result
}
