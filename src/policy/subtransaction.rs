//! Work on one table that may fail without taking the whole call with it.
//!
//! Owns the subtransaction around it, what may be caught at all, retries of locks, and how a caught error is told. Must never catch
//! what is not of the table: a cancelled statement, a server without room, a fault of ours.

use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe};

use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::{PgLogLevel, PgSqlErrorCode, PgTryBuilder, pg_sys};

use crate::error::{OrRaise, Result};

/// How often a table is tried whose lock is not to be had within `lock_timeout`.
const ATTEMPTS: u32 = 3;

/// An error that was caught.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its SQLSTATE.
    pub code: PgSqlErrorCode,
    /// Its message.
    pub message: String,
    /// Its DETAIL.
    pub detail: Option<String>,
    /// Its HINT.
    pub hint: Option<String>,
    /// The function of the server, or of a library, that raised it.
    pub raised_by: Option<String>,
}

impl Failure {
    /// Whether the server had no memory: as good as always in its table of locks, which a transaction
    /// fills that does very much. Whatever needs another lock fails as well.
    pub fn is_out_of_memory(&self) -> bool {
        self.code == PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY
    }

    fn is_lock_failure(&self) -> bool {
        matches!(
            self.code,
            PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE
                | PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED
        )
    }

    /// In one line, as a report has room for it.
    pub fn sentence(&self) -> String {
        let mut text = self.message.clone();
        if let Some(detail) = &self.detail {
            text.push_str(&format!(" ({})", detail.trim_end_matches('.')));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("; {hint}"));
        }
        text
    }

    /// Raises it again, with something added to its DETAIL.
    pub fn raise(self, more: &str) -> ! {
        let detail = match self.detail {
            Some(detail) => format!("{detail} {more}"),
            None => more.to_owned(),
        };
        let mut report = ErrorReport::new(self.code, self.message, "pg_tenancy").set_detail(detail);
        if let Some(hint) = self.hint {
            report = report.set_hint(hint);
        }
        report.report(PgLogLevel::ERROR);
        unreachable!("an ERROR does not return")
    }
}

/// Whether an error says something about the table that was worked on. Classes of SQLSTATE: 40
/// (deadlocks apart) wants the transaction repeated, 53 to 58 are the server's, XX are faults.
fn is_of_the_table(failure: &Failure) -> bool {
    if failure.is_lock_failure() || failure.is_out_of_memory() {
        return true;
    }
    let class = sqlstate(failure.code);
    !["40", "53", "54", "57", "58", "F0", "XX"]
        .iter()
        .any(|fatal| class.starts_with(fatal))
}

/// Whether an error leaves a transaction that only reads as good as it was. XX is what catalog functions
/// raise for an object that somebody dropped meanwhile.
fn is_of_the_query(failure: &Failure) -> bool {
    let class = sqlstate(failure.code);
    !["40", "53", "54", "57", "58", "F0"]
        .iter()
        .any(|fatal| class.starts_with(fatal))
}

/// The five characters of a code, six bits each.
pub fn sqlstate(code: PgSqlErrorCode) -> String {
    let code = code as u32;
    (0..5)
        .filter_map(|place| char::from_u32(((code >> (6 * place)) & 0x3f) + u32::from(b'0')))
        .collect()
}

/// Runs `work` as [`attempt`] does, and again when it failed for want of a lock.
pub fn attempt_repeatedly<T>(
    mut work: impl FnMut() -> Result<T>,
) -> core::result::Result<T, Failure> {
    let mut number = 1;
    loop {
        match attempt(&mut work) {
            Err(failure) if failure.is_lock_failure() && number < ATTEMPTS => number += 1,
            outcome => return outcome,
        }
    }
}

/// Runs `work` in a subtransaction that is rolled back when it fails.
pub fn attempt<T>(work: impl FnOnce() -> Result<T>) -> core::result::Result<T, Failure> {
    attempt_catching(work, is_of_the_table)
}

/// The same for a query that reads catalogs.
pub fn attempt_reading<T>(work: impl FnOnce() -> Result<T>) -> core::result::Result<T, Failure> {
    attempt_catching(work, is_of_the_query)
}

/// Runs `work` in a subtransaction that is rolled back whatever comes of it: settings and rows are as
/// they were. An error goes on.
pub fn undone<T>(work: impl FnOnce() -> Result<T>) -> T {
    let caller = Caller::before_subtransaction();
    let value = PgTryBuilder::new(AssertUnwindSafe(|| work().or_raise()))
        .catch_others(|caught| {
            // SAFETY: ends the subtransaction that was begun above, once.
            unsafe { pg_sys::RollbackAndReleaseCurrentSubTransaction() };
            caller.put_back();
            caught.rethrow()
        })
        .execute();
    // SAFETY: as above.
    unsafe { pg_sys::RollbackAndReleaseCurrentSubTransaction() };
    caller.put_back();
    value
}

/// Catches only what `may_catch` says.
fn attempt_catching<T>(
    work: impl FnOnce() -> Result<T>,
    may_catch: fn(&Failure) -> bool,
) -> core::result::Result<T, Failure> {
    let caller = Caller::before_subtransaction();
    let result = PgTryBuilder::new(AssertUnwindSafe(|| Ok(work().or_raise())))
        .catch_others(|caught| {
            // Whatever was caught: an error that went on with the subtransaction still open would leave
            // the session inside a transaction, with its locks.
            // SAFETY: ends the subtransaction that was begun above, once.
            unsafe { pg_sys::RollbackAndReleaseCurrentSubTransaction() };
            caller.put_back();
            let failure = failure(&caught);
            if !may_catch(&failure) {
                caught.rethrow();
            }
            Err(failure)
        })
        .execute();
    if result.is_ok() {
        // SAFETY: ends the subtransaction that was begun above, once; results outlive it.
        unsafe { pg_sys::ReleaseCurrentSubTransaction() };
        caller.put_back();
    }
    result
}

/// Where memory and resources of the caller belong, which a subtransaction replaces by its own.
#[derive(Clone, Copy)]
struct Caller {
    context: pg_sys::MemoryContext,
    owner: pg_sys::ResourceOwner,
}

// Plain pointers that are only read: an unwinding closure cannot leave them half-changed.
impl UnwindSafe for Caller {}
impl RefUnwindSafe for Caller {}

impl Caller {
    /// Begins a subtransaction; what is allocated in it outlives it, as in PL/pgSQL.
    fn before_subtransaction() -> Self {
        // SAFETY: plain reads; inside a function called by SQL there is a transaction, and the context
        // lives longer than the subtransaction.
        unsafe {
            let caller = Self {
                context: pg_sys::CurrentMemoryContext,
                owner: pg_sys::CurrentResourceOwner,
            };
            pg_sys::BeginInternalSubTransaction(core::ptr::null());
            pg_sys::MemoryContextSwitchTo(caller.context);
            caller
        }
    }

    fn put_back(&self) {
        // SAFETY: both were current before the subtransaction and outlive it.
        unsafe {
            pg_sys::MemoryContextSwitchTo(self.context);
            pg_sys::CurrentResourceOwner = self.owner;
        }
    }
}

fn failure(caught: &CaughtError) -> Failure {
    let report = match caught {
        CaughtError::PostgresError(report)
        | CaughtError::ErrorReport(report)
        | CaughtError::RustPanic {
            ereport: report, ..
        } => report,
    };
    Failure {
        code: report.sql_error_code(),
        message: report.message().to_owned(),
        detail: report.detail().map(str::to_owned),
        hint: report.hint().map(str::to_owned),
        raised_by: report.function_name().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: PgSqlErrorCode, message: &str) -> Failure {
        Failure {
            code,
            message: message.to_owned(),
            detail: None,
            hint: None,
            raised_by: None,
        }
    }

    #[test]
    fn only_what_is_of_the_table_is_caught() {
        use PgSqlErrorCode as C;
        for code in [
            C::ERRCODE_INSUFFICIENT_PRIVILEGE,
            C::ERRCODE_LOCK_NOT_AVAILABLE,
            C::ERRCODE_T_R_DEADLOCK_DETECTED,
            C::ERRCODE_FOREIGN_KEY_VIOLATION,
            C::ERRCODE_DATATYPE_MISMATCH,
            C::ERRCODE_OUT_OF_MEMORY,
        ] {
            assert!(is_of_the_table(&failure(code, "")), "{}", sqlstate(code));
        }
        for code in [
            C::ERRCODE_QUERY_CANCELED,
            C::ERRCODE_ADMIN_SHUTDOWN,
            C::ERRCODE_T_R_SERIALIZATION_FAILURE,
            C::ERRCODE_DISK_FULL,
            C::ERRCODE_INTERNAL_ERROR,
        ] {
            assert!(!is_of_the_table(&failure(code, "")), "{}", sqlstate(code));
        }
    }

    #[test]
    fn a_code_is_five_characters() {
        assert_eq!(sqlstate(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR), "XX000");
        assert_eq!(
            sqlstate(PgSqlErrorCode::ERRCODE_FOREIGN_KEY_VIOLATION),
            "23503"
        );
    }

    #[test]
    fn a_failure_is_told_in_one_line() {
        let mut told = failure(PgSqlErrorCode::ERRCODE_CHECK_VIOLATION, "2 rows cross");
        assert_eq!(told.sentence(), "2 rows cross");
        told.detail = Some("Key k.".to_owned());
        told.hint = Some("Mend them.".to_owned());
        assert_eq!(told.sentence(), "2 rows cross (Key k); Mend them.");
    }
}
