//! What enforcement did refuse: `tenancy.denials`.
//!
//! Owns the recognition of Postgres's own refusal. Works between an error and the end of the transaction, so
//! it must never look anything up that is not known already.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel as Raised};
use pgrx::prelude::*;

use pg_sys::QueryDesc;

use super::record::{Command, Kind, Precision, Record};
use super::statement::{self, Circumstances, Running};
use super::{nodes, store};
use crate::hooks::{enforced_in, enforced_target, is_enforced};

thread_local! {
    /// The same error passes by each query and each planning around it.
    static IS_NOTED: Cell<bool> = const { Cell::new(false) };
}

/// Our own messages, which are not translated, for a statement without a context.
const WITHOUT_CONTEXT: [&str; 2] = ["no tenant context", "no user context"];

/// A statement starts: what comes is another error.
pub fn statement_starts() {
    IS_NOTED.set(false);
}

/// Runs a query, and records if its check on a written row, or a policy, refused it.
///
/// # Safety
/// `query` is a valid query that was started.
pub unsafe fn watch<T>(query: *mut QueryDesc, run: impl FnOnce() -> T) -> T {
    passing(run, |error| {
        // SAFETY: by the caller's promise; the query's memory lives until the transaction ends.
        unsafe {
            let statement = (*query).plannedstmt;
            let relation = match kind_of(error)? {
                Kind::CheckViolation => enforced_target(statement),
                _ => enforced_in((*statement).rtable),
            };
            note(relation?, statement::command_of(statement), error)
        }
    })
}

/// Plans a query, and records if that was refused: policies are asked what they would let through.
///
/// # Safety
/// `query` is a valid query.
pub unsafe fn watch_planning<T>(query: *const pg_sys::Query, plan: impl FnOnce() -> T) -> T {
    passing(plan, |error| {
        if kind_of(error)? != Kind::MissingContext {
            return None;
        }
        // SAFETY: by the caller's promise; the query's memory lives until the transaction ends.
        unsafe {
            let relation = enforced_below(query)?;
            note(relation, statement::command((*query).commandType), error)
        }
    })
}

fn passing<T>(run: impl FnOnce() -> T, note: impl FnOnce(&Raised) -> Option<()>) -> T {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result,
        Err(error) => {
            if !IS_NOTED.get()
                && let Some(CaughtError::PostgresError(raised)) =
                    error.downcast_ref::<CaughtError>()
            {
                note(raised);
            }
            resume_unwind(error)
        }
    }
}

/// What kind of refusal an error is; `None` for another's.
fn kind_of(error: &Raised) -> Option<Kind> {
    if error.sql_error_code() != PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE {
        None
    } else if error.function_name() == Some("ExecWithCheckOptions") {
        // The message is translated; the place where Postgres raises it is not.
        Some(Kind::CheckViolation)
    } else if WITHOUT_CONTEXT
        .iter()
        .any(|message| error.message().starts_with(message))
    {
        Some(Kind::MissingContext)
    } else {
        None
    }
}

fn note(relation: pg_sys::Oid, command: Command, error: &Raised) -> Option<()> {
    IS_NOTED.set(true);
    add(relation, command, kind_of(error)?);
    Some(())
}

/// A statement on an enforced table was refused before it started, for want of a context.
///
/// # Safety
/// `query` is a valid query that is about to start.
pub unsafe fn missing_context(query: *mut QueryDesc) {
    // SAFETY: by the caller's promise.
    unsafe {
        let statement = (*query).plannedstmt;
        if let Some(relation) = enforced_in((*statement).rtable) {
            let _running = Running::begin(query);
            IS_NOTED.set(true);
            add(
                relation,
                statement::command_of(statement),
                Kind::MissingContext,
            );
        }
    }
}

/// The first enforced table that a query names, at whatever depth.
unsafe fn enforced_below(query: *const pg_sys::Query) -> Option<pg_sys::Oid> {
    let mut found = None;
    // SAFETY: by the caller's promise.
    unsafe {
        nodes::any_entry(query.cast_mut(), &mut |entry| {
            found = Some((*entry).relid).filter(|relation| is_enforced(*relation));
            found.is_some()
        })
    };
    found
}

fn add(relation: pg_sys::Oid, command: Command, kind: Kind) {
    let circumstances = Circumstances::known();
    let record = circumstances.record(
        relation,
        command,
        kind,
        Precision::Exact,
        pg_sys::InvalidOid,
    );
    store::add(&Record {
        is_refused: true,
        ..record
    });
}
