//! Rows that a foreign key writes: by the rights of the table's owner, whoever set it off.
//!
//! Owns the memory of such commands. Postgres runs a foreign key's statement as the owner, but fires
//! that statement's AFTER triggers later, as the role that set it off. Who starts the statement sees the
//! owner, so that takes note; and a BEFORE trigger for tables that the start does not know: partitions
//! that rows move to, and all of them where the library came late. One command has one role, and may
//! write several tables, not all of them his: table and number tell the rows apart.

use std::cell::RefCell;
use std::collections::HashMap;

use pgrx::pg_sys;

use super::{Fired, is_owners};
use crate::cache::generation;
use crate::error::Result;
use crate::lists;

/// Commands of one transaction, each with the tables that it wrote as the table's owner. Numbers are never
/// given twice in it, not after a ROLLBACK TO either.
struct Noted {
    transaction: pg_sys::TransactionId,
    commands: HashMap<pg_sys::CommandId, Vec<pg_sys::Oid>>,
}

thread_local! {
    static NOTED: RefCell<Option<Noted>> = const { RefCell::new(None) };
}

/// Notes the running command if it acts as the owner without being him. Called before each row.
pub fn note(fired: &Fired) -> Result<()> {
    let relation = fired.relation_oid();
    // SAFETY: a plain read of the backend's state.
    if !unsafe { pg_sys::InLocalUserIdChange() } || !is_owners(relation)? {
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

/// Notes a command that starts as the owner without being him, for the bound tables that it names. One
/// that starts otherwise has no part in what another of the same number may. Called after each start.
///
/// # Safety
/// `query` is a valid query that was started, and not only to be explained.
pub unsafe fn starts(query: *mut pg_sys::QueryDesc) -> Result<()> {
    // SAFETY: by the caller's promise.
    let (command, targets) = unsafe {
        let mut written = lists::written_relations((*query).plannedstmt).peekable();
        if written.peek().is_none() || (*query).estate.is_null() {
            return Ok(());
        }
        let targets: Vec<pg_sys::Oid> = written
            .filter(|relation| generation::is_bound(*relation))
            .collect();
        ((*(*query).estate).es_output_cid, targets)
    };
    NOTED.with_borrow_mut(|noted| {
        noted
            .as_mut()
            .and_then(|noted| noted.commands.remove(&command))
    });
    // SAFETY: plain reads of the backend's state.
    if targets.is_empty() || !unsafe { pg_sys::InLocalUserIdChange() } {
        return Ok(());
    }
    // SAFETY: as above. What set a foreign key off has written already.
    let transaction = unsafe { pg_sys::GetTopTransactionIdIfAny() };
    if transaction == pg_sys::InvalidTransactionId {
        return Ok(());
    }
    for relation in targets {
        if is_owners(relation)? {
            insert(transaction, relation, command);
        }
    }
    Ok(())
}

fn insert(transaction: pg_sys::TransactionId, relation: pg_sys::Oid, command: pg_sys::CommandId) {
    NOTED.with_borrow_mut(|noted| {
        let of_another = noted
            .as_ref()
            .is_none_or(|noted| noted.transaction != transaction);
        if of_another {
            *noted = Some(Noted {
                transaction,
                commands: HashMap::new(),
            });
        }
        if let Some(noted) = noted {
            let tables = noted.commands.entry(command).or_default();
            if !tables.contains(&relation) {
                tables.push(relation);
            }
        }
    });
}

/// Whether a noted command wrote the row.
pub fn wrote(fired: &Fired) -> bool {
    if fired.truncates {
        return false;
    }
    let command = fired.command();
    // SAFETY: a plain read of the backend's state.
    let transaction = unsafe { pg_sys::GetTopTransactionIdIfAny() };
    NOTED.with_borrow(|noted| {
        noted.as_ref().is_some_and(|noted| {
            noted.transaction == transaction
                && noted
                    .commands
                    .get(&command)
                    .is_some_and(|tables| tables.contains(&fired.relation_oid()))
        })
    })
}
