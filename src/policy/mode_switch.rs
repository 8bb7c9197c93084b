//! Switching modes.
//!
//! Owns `set_mode` for one table and for all. Leaving `enforce` takes policies, row security and the
//! trigger away and keeps what only costs time to build again (index, keys, NOT NULL, default);
//! `unprotect_table` removes that too. Must never leave one table half-way.

use pgrx::{PgSqlErrorCode, pg_sys};

use super::apply;
use super::describe::Words;
use super::model::{Mode, Template};
use super::protect::{self, Outcome, Request};
use super::store::{self, Row};
use super::subtransaction;
use crate::catalog;
use crate::error::{Error, Kind, Result};

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
            match subtransaction::attempt(|| switch(relation, &row, mode)) {
                Ok(mut done) => {
                    outcomes.append(&mut done);
                    break;
                }
                Err(failure) if is_lock_failure(failure.code) && attempt < ATTEMPTS => {
                    attempt += 1;
                }
                Err(subtransaction::Failure { message, .. }) => {
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
