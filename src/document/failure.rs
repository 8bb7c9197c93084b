//! Errors of a source: which key they are about, and who is told of what.
//!
//! Must never tell the caller what a source holds that he does not see.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, RefUnwindSafe};

use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::pg_sys::{self, PgTryBuilder};
use pgrx::{PgLogLevel, PgSqlErrorCode};

use crate::catalog;
use crate::error::Result;

/// The key that is being worked on, and whether the caller has the rights of its source's owner.
#[derive(Default)]
pub struct At(RefCell<Option<(String, bool)>>);

// Each write to it is whole: nothing half-done is seen after an error.
impl RefUnwindSafe for At {}

impl At {
    /// From here on it is about that key.
    pub fn key(&self, name: &str, owner: Option<pg_sys::Oid>) {
        let is_owner = owner.is_some_and(catalog::acts_as);
        self.0.replace(Some((name.to_owned(), is_owner)));
    }

    fn take(&self) -> Option<(String, bool)> {
        self.0.take()
    }

    /// From here on it is about no key.
    pub fn none(&self) {
        self.0.replace(None);
    }
}

/// Runs something that says which key it is at. An error of Postgres's comes out under its SQLSTATE
/// and names that key.
pub fn naming<T>(run: impl FnOnce(&At) -> Result<T>) -> Result<T> {
    let at = At::default();
    PgTryBuilder::new(AssertUnwindSafe(|| run(&at)))
        .catch_others(|caught| failed(at.take(), caught))
        .execute()
}

/// What failed may tell of columns that the caller does not see: only who has the rights of the
/// source's owner is told, and the server's log.
fn failed<T>(key: Option<(String, bool)>, caught: CaughtError) -> Result<T> {
    let (CaughtError::PostgresError(report) | CaughtError::ErrorReport(report)) = &caught else {
        caught.rethrow()
    };
    let Some((key, is_owner)) = key.filter(|_| report.level() == PgLogLevel::ERROR) else {
        caught.rethrow()
    };
    let code = report.sql_error_code();
    let is_servers_own = matches!(
        code,
        PgSqlErrorCode::ERRCODE_QUERY_CANCELED
            | PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE
            | PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED
    );
    let message = format!("key \"{key}\" of the tenant context document cannot be read");
    let mut error = ErrorReport::new(code, message.clone(), "pg_tenancy");
    if is_servers_own || is_owner {
        error = error.set_detail(report.message().to_owned());
    } else {
        ErrorReport::new(code, message, "pg_tenancy")
            .set_detail(report.message().to_owned())
            .report(PgLogLevel::LOG_SERVER_ONLY);
    }
    let hint = if is_servers_own {
        "Try again, and index the source by the columns it is read by."
    } else {
        "Mend the source, or take the key away with tenancy.unregister_context. The owner of the source and the server's log are told the cause."
    };
    error.set_hint(hint).report(PgLogLevel::ERROR);
    unreachable!("an ERROR does not return")
}
