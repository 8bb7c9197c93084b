//! Protecting all tables of a schema.
//!
//! Owns the order of tables, and what becomes of the call when one cannot be protected.
//! Must never protect in another way than one by one, nor leave a table out without a row.

use std::collections::HashSet;

use pgrx::pg_sys;

use super::apply;
use super::choose::{Choice, Queue};
use super::describe::Words;
use super::inspect::{self, Listed};
use super::key_completion::ends;
use super::key_plan;
use super::model::ForeignKeys;
use super::plan::Plan;
use super::protect::{Outcome, Request, protect};
use super::render;
use super::subtransaction::{Failure, attempt_repeatedly};
use crate::binding::tenant_type;
use crate::cache::generation::Writing;
use crate::catalog;
use crate::error::{Error, Kind, Result};
use crate::registry::require_administrator;

/// How many tables that failed an error names.
const NAMED: usize = 10;

/// Protects every table of a schema, each in a subtransaction; what cannot be protected gets a row
/// that says why. With `atomic` the first failure is raised once all tables were tried, and nothing
/// stays.
pub fn protect_schema(
    schema: &str,
    request: &Request,
    exclude: &[pg_sys::Oid],
    atomic: bool,
) -> Result<Vec<Outcome>> {
    apply::see_own_changes();
    let _writing = Writing::start();
    let listed = tables(schema, request)?;
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut done: HashSet<pg_sys::Oid> = HashSet::new();
    let mut failures = Failures::default();
    let mut queue = Queue::new(&listed, request, exclude);
    let mut number = 0;
    while let Some((table, choice)) = queue.next()? {
        let relation = pg_sys::Oid::from(table.oid);
        if done.contains(&relation) {
            continue;
        }
        let (request, why) = match choice {
            Choice::Protect(request, why) => (request, why),
            Choice::Leave(why) => {
                outcomes.push(not_protected(relation, &why));
                continue;
            }
        };
        if let Some(full) = failures.out_of_memory() {
            outcomes.push(not_protected(
                relation,
                &format!(
                    "not tried, since the server ran out of memory: {}",
                    full.sentence()
                ),
            ));
            failures.untried += 1;
            continue;
        }
        match attempt_repeatedly(|| protect(relation, &request)) {
            Ok(mut members) => {
                for member in &mut members {
                    member.result.because(why.as_deref());
                }
                done.extend(members.iter().map(|outcome| outcome.relation));
                outcomes.append(&mut members);
            }
            Err(failure) => {
                let failure = with_advice(failure);
                outcomes.push(not_protected(relation, &failure.sentence()));
                failures.all.push((relation, failure));
            }
        }
        number += 1;
        progress(number, listed.len());
    }
    for table in listed.iter().filter(|table| table.follows_parent) {
        let relation = pg_sys::Oid::from(table.oid);
        if !done.contains(&relation) {
            outcomes.push(not_protected(relation, "its parent is not"));
        }
    }
    failures.settle(&outcomes, listed.len(), atomic);
    refresh_key_reports(&mut outcomes, request)?;
    Ok(outcomes)
}

/// The tables of the schema; fails at once for what would fail for each of them.
pub fn tables(schema: &str, request: &Request) -> Result<Vec<Listed>> {
    tenant_type()?;
    // SAFETY: a catalog lookup by name.
    let namespace = unsafe { pg_sys::get_namespace_oid(catalog::c_string(schema).as_ptr(), true) };
    if namespace == pg_sys::InvalidOid {
        return Err(Error::new(
            Kind::UndefinedSchema,
            format!("schema {} does not exist", render::quoted(schema)),
        )
        .hint("Give the name of a schema, without quotes around it."));
    }
    let listed = inspect::tables_of(schema, &request.column)?;
    // Whoever administers none of them is in the wrong place: one error, not a row a table.
    let mut refused = None;
    for table in listed.iter().filter(|table| table.has_column) {
        match require_administrator(pg_sys::Oid::from(table.oid)) {
            Ok(()) => return Ok(listed),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    refused.map_or(Ok(listed), Err)
}

/// Says what to do where a transaction has taken more locks than the server has room for.
pub fn with_advice(failure: Failure) -> Failure {
    if !failure.is_out_of_memory() {
        return failure;
    }
    Failure {
        hint: Some(
            "Call tenancy.protect_schema_by_table(..), which commits each table, or increase \
             max_locks_per_transaction."
                .to_owned(),
        ),
        ..failure
    }
}

/// Tells how far it is, some twenty times a call and not more often than each 25 tables.
pub fn progress(done: usize, total: usize) {
    if done.is_multiple_of((total / 20).max(25)) {
        apply::notice(&format!("{done} of {total} tables done"), None);
    }
}

fn not_protected(relation: pg_sys::Oid, why: &str) -> Outcome {
    Outcome {
        relation,
        template: None,
        result: Words::new(format!("not protected: {why}")),
        entered: false,
    }
}

/// The tables that could not be protected.
#[derive(Default)]
struct Failures {
    all: Vec<(pg_sys::Oid, Failure)>,
    untried: usize,
}

impl Failures {
    fn out_of_memory(&self) -> Option<&Failure> {
        let (_, last) = self.all.last()?;
        last.is_out_of_memory().then_some(last)
    }

    /// Raises the first failure of an atomic call, and warns of those of another.
    fn settle(mut self, outcomes: &[Outcome], total: usize, atomic: bool) {
        if self.all.is_empty() {
            return;
        }
        let failed = self.all.len() + self.untried;
        let mut names: Vec<String> = self
            .all
            .iter()
            .take(NAMED)
            .filter_map(|(relation, _)| catalog::relation_name(*relation))
            .map(|name| name.to_string())
            .collect();
        if failed > names.len() {
            names.push(format!("and {} more", failed - names.len()));
        }
        let list = names.join(", ");
        if atomic {
            let (_, first) = self.all.swap_remove(0);
            first.raise(&format!(
                "{failed} of {total} tables cannot be protected, so none was: {list}."
            ));
        }
        let protected = outcomes
            .iter()
            .filter(|outcome| outcome.template.is_some())
            .count();
        apply::warning(
            &format!("{failed} of {total} tables are not protected"),
            Some(&format!("{protected} are. Not: {list}.")),
            None,
        );
    }
}

/// A key whose parent came later in the same call could not be judged when its child was protected.
fn refresh_key_reports(outcomes: &mut [Outcome], request: &Request) -> Result<()> {
    if request
        .options
        .as_ref()
        .is_some_and(|options| options.foreign_keys != ForeignKeys::Report)
    {
        return Ok(());
    }
    let protected: Vec<u32> = outcomes
        .iter()
        .filter(|outcome| outcome.template.is_some())
        .map(|outcome| outcome.relation.to_u32())
        .collect();
    let ends = ends(&protected, &[])?;
    for outcome in outcomes
        .iter_mut()
        .filter(|outcome| outcome.template.is_some())
    {
        let mut noted = Plan::default();
        key_plan::complete(outcome.relation, &ends, f64::INFINITY, &mut noted)?;
        outcome.result.plain_keys = noted.plain_keys;
    }
    Ok(())
}
