//! Switching modes.
//!
//! Owns `set_mode` for one table and for all. Leaving `enforce` takes policies, row security and the
//! trigger away and keeps what only costs time to build again (index, keys, NOT NULL, default);
//! `unprotect_table` removes that too. Must never leave one table half-way.

use pgrx::pg_sys;

use super::apply;
use super::describe::Words;
use super::inspect;
use super::members;
use super::model::{Mode, Template};
use super::protect::{self, Outcome, Request};
use super::ready;
use super::store::{self, Row};
use super::subtransaction::attempt_repeatedly;
use crate::cache::generation::Writing;
use crate::catalog;
use crate::error::{Error, Kind, Result};
use crate::registry::require_administrator;

/// Switches one registered table, with its partitions and children.
pub fn set(relation: pg_sys::Oid, mode: Mode, force: bool) -> Result<Vec<Outcome>> {
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
    switch(relation, &row, mode, force)
}

fn switch(relation: pg_sys::Oid, row: &Row, mode: Mode, force: bool) -> Result<Vec<Outcome>> {
    if mode == Mode::Enforce && row.mode == Mode::Shadow.name() && !force {
        require_administrator(relation)?;
        ready::require(relation)?;
    }
    let request = Request {
        template: Template::parse(&row.template)?,
        column: row.column_today(relation),
        mode,
        options: None,
        may_leave: true,
    };
    protect::protect(relation, &request)
}

fn has_registered_parent(relation: pg_sys::Oid) -> Result<bool> {
    let facts = inspect::facts_without_size(relation, "")?;
    let parents = facts.map(|facts| facts.parents).unwrap_or_default();
    Ok(members::registered_parent(&parents)?.is_some())
}

/// Switches all registered tables in the order of oids. With `atomic` the first failure ends it;
/// otherwise each table is a subtransaction, retried when its lock is not to be had, and a failure
/// is a row that says so.
pub fn set_all(mode: Mode, atomic: bool, force: bool) -> Result<Vec<Outcome>> {
    let _writing = Writing::start();
    let mut outcomes: Vec<Outcome> = Vec::new();
    for (relation, row) in store::all()? {
        let follows = row.made.by_parent && has_registered_parent(relation)?;
        if follows || outcomes.iter().any(|outcome| outcome.relation == relation) {
            continue;
        }
        if atomic {
            outcomes.append(&mut switch(relation, &row, mode, force)?);
            continue;
        }
        match attempt_repeatedly(|| switch(relation, &row, mode, force)) {
            Ok(mut done) => outcomes.append(&mut done),
            Err(failure) => {
                apply::notice(&format!("mode not changed: {}", failure.message), None);
                outcomes.push(Outcome {
                    relation,
                    template: None,
                    result: Words::new(format!("failed: {}", failure.sentence())),
                    entered: false,
                });
            }
        }
    }
    Ok(outcomes)
}
