//! Rows that a foreign key writes: by the rights of the table's owner, whoever set it off.
//!
//! Owns the memory of such commands. Postgres runs a foreign key's statement as the owner, but fires
//! that statement's AFTER triggers later, as the role that set it off. Who starts the statement sees the
//! owner, so that takes note; and a BEFORE trigger for tables that the start does not know: partitions
//! that rows move to, and all of them where the library came late. One command has one role, and may
//! write several tables, not all of them his: table and number tell the rows apart.
//!
//! Needs no binding: a session that asked for no context has read none. Must not keep more than the
//! rows that wait for their triggers take: what writes nothing is forgotten as it ends, and all of it
//! with the transaction.

use std::cell::RefCell;
use std::collections::HashSet;

use pgrx::pg_sys;

use super::{Fired, is_owners};
use crate::binding::triggers;
use crate::error::Result;
use crate::lists;

/// Commands of one transaction, each with a table that it wrote as the table's owner. Numbers are never
/// given twice in it, not after a ROLLBACK TO either.
struct Noted {
    transaction: pg_sys::TransactionId,
    commands: HashSet<(pg_sys::CommandId, pg_sys::Oid)>,
}

thread_local! {
    static NOTED: RefCell<Option<Noted>> = const { RefCell::new(None) };
}

/// Notes the running command if it acts as the owner for a foreign key. Called before each row.
pub fn note(fired: &Fired) -> Result<()> {
    let relation = fired.relation_oid();
    // SAFETY: plain reads of the backend's state; only foreign keys and our lookups suspend the row
    // security that is forced on owners.
    let by_foreign_key =
        unsafe { pg_sys::InLocalUserIdChange() && pg_sys::InNoForceRLSOperation() };
    if !by_foreign_key || !is_owners(relation)? {
        return Ok(());
    }
    // SAFETY: a row is about to be written, so the transaction needs its identifier anyway.
    let (transaction, command) = unsafe {
        (
            pg_sys::GetTopTransactionId(),
            pg_sys::GetCurrentCommandId(true),
        )
    };
    insert(transaction, relation, command);
    Ok(())
}

/// Notes a command that starts as the owner without being him, for the guarded tables that it writes.
/// One that starts otherwise has no part in what another of the same number may. Called after each
/// start.
///
/// # Safety
/// `query` is a valid query that was started, and not only to be explained.
pub unsafe fn starts(query: *mut pg_sys::QueryDesc) -> Result<()> {
    // SAFETY: by the caller's promise.
    let Some(written) = (unsafe { Written::by(query) }) else {
        return Ok(());
    };
    written.forget();
    // SAFETY: a plain read of the backend's state.
    if !written.fires_later || !unsafe { pg_sys::InLocalUserIdChange() } {
        return Ok(());
    }
    // SAFETY: as above. What set a foreign key off has written already.
    let transaction = unsafe { pg_sys::GetTopTransactionIdIfAny() };
    if transaction == pg_sys::InvalidTransactionId {
        return Ok(());
    }
    for (relation, description) in written.relations() {
        // SAFETY: the description of the triggers that the running statement fires.
        if unsafe { triggers::calls_guard(description) } && is_owners(relation)? {
            insert(transaction, relation, written.command);
        }
    }
    Ok(())
}

/// Forgets a command that wrote nothing: no row of it will be asked about. Called after each end.
///
/// # Safety
/// `query` is a valid query that was run to its end.
pub unsafe fn ends(query: *mut pg_sys::QueryDesc) {
    if NOTED.with_borrow(Option::is_none) {
        return;
    }
    // SAFETY: by the caller's promise.
    unsafe {
        let Some(written) = Written::by(query) else {
            return;
        };
        // Rows that a rule or a WITH query writes are not counted.
        let statement = (*query).plannedstmt;
        let counts = (*statement).canSetTag && !(*statement).hasModifyingCTE;
        if counts && (*(*query).estate).es_processed == 0 {
            written.forget();
        }
    }
}

/// Called when a transaction is over: its triggers have fired.
pub fn end_transaction() {
    NOTED.take();
}

/// What a started query writes.
struct Written {
    command: pg_sys::CommandId,
    /// Its AFTER triggers wait for the query that set it off, as a foreign key's do.
    fires_later: bool,
    list: *const pg_sys::List,
}

impl Written {
    /// Of that query; `None` where it writes no table.
    ///
    /// # Safety
    /// `query` is a valid query that was started and has not ended.
    unsafe fn by(query: *mut pg_sys::QueryDesc) -> Option<Self> {
        // SAFETY: by the caller's promise.
        unsafe {
            let estate = (*query).estate.as_ref()?;
            let list = estate.es_opened_result_relations;
            (!list.is_null()).then_some(Self {
                command: estate.es_output_cid,
                fires_later: estate.es_top_eflags & pg_sys::EXEC_FLAG_SKIP_TRIGGERS as i32 != 0,
                list,
            })
        }
    }

    fn relations(&self) -> impl Iterator<Item = (pg_sys::Oid, *const pg_sys::TriggerDesc)> {
        // SAFETY: the list belongs to the query, which has not ended; its relations are open.
        unsafe { lists::each::<pg_sys::ResultRelInfo>(self.list) }
            .iter()
            // SAFETY: as above.
            .map(|written| unsafe {
                let relation = (**written).ri_RelationDesc;
                ((*relation).rd_id, (**written).ri_TrigDesc.cast_const())
            })
    }

    fn forget(&self) {
        NOTED.with_borrow_mut(|noted| {
            if let Some(noted) = noted {
                for (relation, _) in self.relations() {
                    noted.commands.remove(&(self.command, relation));
                }
            }
        });
    }
}

fn insert(transaction: pg_sys::TransactionId, relation: pg_sys::Oid, command: pg_sys::CommandId) {
    NOTED.with_borrow_mut(|noted| {
        let noted = match noted {
            Some(noted) if noted.transaction == transaction => noted,
            _ => noted.insert(Noted {
                transaction,
                commands: HashSet::new(),
            }),
        };
        noted.commands.insert((command, relation));
    });
}

/// Whether a noted command wrote the row.
pub fn wrote(fired: &Fired) -> bool {
    if fired.truncates {
        return false;
    }
    let key = (fired.command(), fired.relation_oid());
    // SAFETY: a plain read of the backend's state.
    let transaction = unsafe { pg_sys::GetTopTransactionIdIfAny() };
    NOTED.with_borrow(|noted| {
        noted
            .as_ref()
            .is_some_and(|noted| noted.transaction == transaction && noted.commands.contains(&key))
    })
}
