//! Running a plan.
//!
//! Owns who acts: the owner of each table, restricted, so that a member of an administrator role
//! needs no rights of his own on the table. Must never run a
//! statement that a caller wrote.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};

use super::plan::{Plan, Statement};
use super::spi;
use crate::catalog;
use crate::error::Result;
use crate::registry::ActingRole;

/// Runs the statements that are to run in place.
pub fn run(plan: &Plan) -> Result<()> {
    for statement in &plan.now {
        run_one(statement)?;
    }
    Ok(())
}

fn run_one(statement: &Statement) -> Result<()> {
    let table = pg_sys::Oid::from(statement.table);
    let owner = catalog::relation_owner(table)?;
    // An index is built under its table's owner by Postgres itself, so the caller may start it.
    let as_caller = statement.makes_index && !owner_may_create(table)?;
    let _role = (!as_caller).then(|| ActingRole::new(owner));
    spi::execute(&statement.sql, &[])
}

fn owner_may_create(table: pg_sys::Oid) -> Result<bool> {
    let answer: Option<bool> = spi::row(
        "SELECT pg_catalog.to_json(pg_catalog.has_schema_privilege(relowner, relnamespace, 'CREATE'))::pg_catalog.text
         FROM pg_catalog.pg_class WHERE oid = $1",
        &[table.into()],
    )?;
    Ok(answer.unwrap_or(false))
}

/// Takes a lock, honouring `lock_timeout`. Call only for a table that the caller may administer.
pub fn lock(relation: pg_sys::Oid, mode: u32) {
    // SAFETY: locks by oid until the end of the transaction, as LOCK TABLE does; an oid that is
    // gone is found out by the lookup that follows.
    unsafe { pg_sys::LockRelationOid(relation, mode as pg_sys::LOCKMODE) };
}

/// Has every session plan its statements on the table anew, and locks nothing for it.
pub fn forget_plans(relation: pg_sys::Oid) {
    // SAFETY: a relation that was just read; the message goes out when the transaction commits.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(relation) };
}

/// Has every later catalog query of this call see what it has changed: pgrx reads with the
/// statement's first snapshot until the (sub)transaction has an id.
pub fn see_own_changes() {
    // SAFETY: inside a function called by SQL there is a transaction; giving it an id is what any
    // write does.
    unsafe { pg_sys::GetCurrentTransactionId() };
}

/// Tells the client something that is no error.
pub fn notice(message: &str, detail: Option<&str>) {
    let code = PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION;
    tell(PgLogLevel::NOTICE, code, message, [detail, None]);
}

/// Tells the client, and the server's log, that something is not as it should be.
pub fn warning(message: &str, detail: Option<&str>, hint: Option<&str>) {
    let code = PgSqlErrorCode::ERRCODE_WARNING;
    tell(PgLogLevel::WARNING, code, message, [detail, hint]);
}

fn tell(level: PgLogLevel, code: PgSqlErrorCode, message: &str, more: [Option<&str>; 2]) {
    let mut report = ErrorReport::new(code, message.to_owned(), "pg_tenancy");
    let [detail, hint] = more;
    if let Some(detail) = detail {
        report = report.set_detail(detail.to_owned());
    }
    if let Some(hint) = hint {
        report = report.set_hint(hint.to_owned());
    }
    report.report(level);
}
