//! Rows that a foreign key writes: by the rights of the table's owner, whoever set it off.
//!
//! Owns the memory of such commands. Postgres runs a foreign key's statement as the owner, but fires
//! that statement's AFTER triggers later, as the role that set it off. A BEFORE trigger sees the
//! owner, so it takes note. One command has one role, and may write several tables, not all of them
//! his: table and number tell the rows apart.

use std::cell::RefCell;
use std::collections::HashSet;

use pgrx::pg_sys;

use super::{Fired, is_owners};
use crate::error::Result;

/// Commands of one transaction, each with a table that it wrote as the table's owner. Numbers are never
/// given twice in it, not after a ROLLBACK TO either.
struct Noted {
    transaction: pg_sys::TransactionId,
    commands: HashSet<(pg_sys::Oid, pg_sys::CommandId)>,
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
    NOTED.with_borrow_mut(|noted| {
        let of_another = noted
            .as_ref()
            .is_none_or(|noted| noted.transaction != transaction);
        if of_another {
            *noted = Some(Noted {
                transaction,
                commands: HashSet::new(),
            });
        }
        if let Some(noted) = noted {
            noted.commands.insert((relation, command));
        }
    });
    Ok(())
}

/// Whether a noted command wrote the row.
pub fn wrote(fired: &Fired) -> bool {
    if fired.truncates {
        return false;
    }
    let command = (fired.relation_oid(), fired.command());
    // SAFETY: a plain read of the backend's state.
    let transaction = unsafe { pg_sys::GetTopTransactionIdIfAny() };
    NOTED.with_borrow(|noted| {
        noted.as_ref().is_some_and(|noted| {
            noted.transaction == transaction && noted.commands.contains(&command)
        })
    })
}
