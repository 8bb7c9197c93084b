//! How statements run: as the role that attacks, or as an owner who sees all, and never for good.
//!
//! Owns the switch of roles, the snapshot in which rows are compared, and what is caught. Whatever runs
//! here runs under restricted operations: no code that it reaches can take another role back. Must never
//! run anything outside a subtransaction that is rolled back.

use pgrx::pg_sys;

use crate::catalog;
use crate::context::setting;
use crate::error::{Error, Kind, Result};
use crate::policy::subtransaction::{Failure, attempt_reading, undone};
use crate::registry::{ActingRole, PinnedSearchPath};

/// Rows of text, and how many rows were touched.
pub struct Answer {
    /// What was returned; each value by its type's output function.
    pub rows: Vec<Vec<Option<String>>>,
    /// Rows that were read or written.
    pub count: u64,
}

impl Answer {
    /// The first column of the first row.
    pub fn text(self) -> Option<String> {
        self.rows.into_iter().next()?.into_iter().next()?
    }

    /// The first column of each row.
    pub fn column(self) -> Vec<String> {
        self.rows
            .into_iter()
            .filter_map(|row| row.into_iter().next().flatten())
            .collect()
    }
}

/// Runs `work` in a subtransaction that is rolled back whatever comes of it. What says something about
/// the attack is returned; a cancelled statement, a conflict and a server without room go on.
pub fn tried<T>(work: impl FnOnce() -> Result<T>) -> core::result::Result<T, Failure> {
    attempt_reading(|| Ok(undone(work)))
}

/// Settings under which isolation can be judged, for the rest of the subtransaction: the caller's own may
/// switch row security or triggers off, and messages are told apart by their words.
pub fn set_the_scene() {
    force("row_security", "on");
    force("session_replication_role", "origin");
    force("lc_messages", "C");
    // A worker would be another process, in which nothing of this is known.
    setting::set_local("max_parallel_workers_per_gather", "0");
    // A cursor that names a row has to know all partitions that a statement looks into.
    setting::set_local("enable_partition_pruning", "off");
    // SAFETY: a plain read of a setting.
    if unsafe { pg_sys::LockTimeout } == 0 {
        setting::set_local("lock_timeout", LOCK_TIMEOUT);
    }
}

/// How long an attack waits for what others hold, where the caller says nothing of it.
const LOCK_TIMEOUT: &str = "1s";

/// While it lives, neither triggers, rules nor foreign keys act, but those that always do: for rows that are
/// made or taken away only to be rolled back, and for attacks that are to meet policies alone.
pub fn without_triggers<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    force("session_replication_role", "replica");
    let result = work();
    force("session_replication_role", "origin");
    result
}

/// Sets what only a superuser may; it ends with the subtransaction.
fn force(name: &str, value: &str) {
    let (name, value) = (catalog::c_string(name), catalog::c_string(value));
    // SAFETY: NUL-terminated strings; values that each setting takes.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_LOCAL,
            true,
            0,
            false,
        );
    }
}

/// Runs a statement as the role, bound by whatever binds it.
pub fn as_role(role: pg_sys::Oid, sql: &str) -> Result<Answer> {
    let _role = ActingRole::bound(role);
    let _path = PinnedSearchPath::before_callers();
    execute(sql, false)
}

/// Reads as the role what was there when the calling statement began, and what this transaction wrote:
/// what others commit meanwhile makes no difference.
pub fn read_as_role(role: pg_sys::Oid, sql: &str) -> Result<Answer> {
    let _role = ActingRole::bound(role);
    let _path = PinnedSearchPath::before_callers();
    read(sql)
}

/// Reads as the owner of a table, past row security, in the same snapshot.
pub fn read_as_owner(owner: pg_sys::Oid, sql: &str) -> Result<Answer> {
    let _role = ActingRole::new(owner);
    let _path = PinnedSearchPath::new();
    read(sql)
}

/// Writes as the owner of a table, past row security.
pub fn write_as_owner(owner: pg_sys::Oid, sql: &str) -> Result<Answer> {
    let _role = ActingRole::new(owner);
    let _path = PinnedSearchPath::new();
    execute(sql, false)
}

/// Checks foreign keys and constraint triggers at each statement, deferred or not.
pub fn check_at_once() -> Result<()> {
    execute("SET CONSTRAINTS ALL IMMEDIATE", false).map(drop)
}

/// Has what follows see what a function wrote that a reading statement called.
pub fn see_what_was_written() {
    // SAFETY: between statements, inside a transaction.
    unsafe { pg_sys::CommandCounterIncrement() };
}

fn read(sql: &str) -> Result<Answer> {
    // SAFETY: a function that SQL calls has an active snapshot; the copy is popped after the statement,
    // or by the subtransaction that an error ends.
    unsafe {
        pg_sys::PushCopiedSnapshot(pg_sys::GetActiveSnapshot());
        (*pg_sys::GetActiveSnapshot()).curcid = pg_sys::GetCurrentCommandId(false);
        let answer = execute(sql, true);
        pg_sys::PopActiveSnapshot();
        answer
    }
}

fn execute(sql: &str, read_only: bool) -> Result<Answer> {
    let text = catalog::c_string(sql);
    // SAFETY: SPI is connected and finished here; an error in between unwinds to a subtransaction, which
    // finishes it. Values are copied before that.
    unsafe {
        pg_sys::SPI_connect();
        let code = pg_sys::SPI_execute(text.as_ptr(), read_only, 0);
        if code < 0 {
            return Err(Error::new(Kind::Internal, "a statement could not be run")
                .detail(format!("SPI_execute returned {code}.")));
        }
        let count = pg_sys::SPI_processed;
        let mut rows = Vec::new();
        let table = pg_sys::SPI_tuptable;
        if !table.is_null() {
            let width = (*(*table).tupdesc).natts;
            for index in 0..usize::try_from((*table).numvals).unwrap_or(0) {
                let tuple = *(*table).vals.add(index);
                let values = (1..=width).map(|number| {
                    catalog::string_from(pg_sys::SPI_getvalue(tuple, (*table).tupdesc, number))
                });
                rows.push(values.collect());
            }
        }
        pg_sys::SPI_finish();
        Ok(Answer { rows, count })
    }
}
