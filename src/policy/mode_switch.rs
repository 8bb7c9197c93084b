//! Switching modes.
//!
//! Owns `set_mode` for one table and for all. Leaving `enforce` takes policies, row security and the
//! trigger away and keeps what only costs time to build again (index, keys, NOT NULL, default);
//! `unprotect_table` removes that too. Must never leave one table half-way.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, PgTryBuilder, pg_sys};

use super::apply;
use super::describe::Words;
use super::model::{Mode, Template};
use super::protect::{self, Outcome, Request};
use super::store::{self, Row};
use crate::catalog;
use crate::error::{Error, Kind, OrRaise, Result};

/// How often a table is tried whose lock is not to be had within `lock_timeout`.
const ATTEMPTS: u32 = 3;

/// Switches one registered table, with its partitions and children.
pub fn set(relation: pg_sys::Oid, mode: Mode) -> Result<Vec<Outcome>> {
    let Some(row) = store::of(relation)? else {
        let name = catalog::relation_name(relation)
            .map(|n| n.to_string())
            .unwrap_or_default();
        return Err(Error::new(
            Kind::UndefinedObject,
            format!("table {name} is not protected"),
        )
        .hint("Register it with tenancy.protect_table(..)."));
    };
    switch(relation, &row, mode)
}

fn switch(relation: pg_sys::Oid, row: &Row, mode: Mode) -> Result<Vec<Outcome>> {
    let request = Request {
        template: Template::parse(&row.template)?,
        column: row.column_today(relation),
        mode,
        options: None,
    };
    protect::protect(relation, &request)
}

/// Switches all registered tables in the order of oids. With `atomic` the first failure ends it;
/// otherwise each table is a subtransaction, retried when its lock is not to be had, and a failure
/// is a row that says so.
pub fn set_all(mode: Mode, atomic: bool) -> Result<Vec<Outcome>> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    for (relation, row) in store::all()? {
        if row.made.by_parent || outcomes.iter().any(|outcome| outcome.relation == relation) {
            continue;
        }
        if atomic {
            outcomes.append(&mut switch(relation, &row, mode)?);
            continue;
        }
        let mut attempt = 1;
        loop {
            match in_subtransaction(|| switch(relation, &row, mode)) {
                Ok(mut done) => {
                    outcomes.append(&mut done);
                    break;
                }
                Err((code, _)) if is_lock_failure(code) && attempt < ATTEMPTS => attempt += 1,
                Err((_, message)) => {
                    apply::notice(&format!("mode not changed: {message}"), None);
                    outcomes.push(Outcome {
                        relation,
                        template: None,
                        result: Words::new(format!("failed: {message}")),
                        entered: false,
                    });
                    break;
                }
            }
        }
    }
    Ok(outcomes)
}

fn is_lock_failure(code: PgSqlErrorCode) -> bool {
    matches!(
        code,
        PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE | PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED
    )
}

/// Runs `work` in a subtransaction that is rolled back when it fails. A cancelled statement is not
/// caught.
fn in_subtransaction<T>(
    work: impl FnOnce() -> Result<T>,
) -> core::result::Result<T, (PgSqlErrorCode, String)> {
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
            Err((report.sql_error_code(), report.message().to_owned()))
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
