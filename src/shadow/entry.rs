//! The functions that SQL calls.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::iter::TableIterator;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::record::Precision;
use super::store::{self, Line};
use super::{readiness, tables, unseen, visible};
use crate::catalog;
use crate::error::{OrRaise, Result};
use crate::registry::{require_administrator, require_database_owner};

type Recorded = (
    pg_sys::Oid,
    String,
    String,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<i64>,
    Option<String>,
    Option<String>,
    String,
    Option<bool>,
    i64,
    i64,
    TimestampWithTimeZone,
    TimestampWithTimeZone,
    Option<i64>,
);

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "a row of a table function")]
fn shadow_recorded(
    refused: Option<bool>,
) -> TableIterator<
    'static,
    (
        name!(relation, pg_sys::Oid),
        name!(command, String),
        name!(kind, String),
        name!(role, String),
        name!(app_user, Option<String>),
        name!(context_tenant, Option<String>),
        name!(row_tenant, Option<String>),
        name!(query_id, Option<i64>),
        name!(query, Option<String>),
        name!(application_name, Option<String>),
        name!(precision, String),
        name!(confirmed, Option<bool>),
        name!(rows, i64),
        name!(statements, i64),
        name!(first_seen, TimestampWithTimeZone),
        name!(last_seen, TimestampWithTimeZone),
        name!(lost_rows, Option<i64>),
    ),
> {
    let refused = refused.unwrap_or(false);
    let lines = store::lines();
    TableIterator::new(
        lines
            .into_iter()
            .filter(move |line| line.is_refused == refused)
            .filter(|line| visible::to_caller(pg_sys::Oid::from(line.relation)))
            .map(recorded),
    )
}

/// A moment as Postgres has it.
fn moment(time: i64) -> TimestampWithTimeZone {
    // SAFETY: what the store holds was a timestamp of Postgres's.
    unsafe {
        TimestampWithTimeZone::from_datum(pg_sys::Datum::from(time), false)
            .unwrap_or_else(|| unreachable!("not null"))
    }
}

fn recorded(line: Line) -> Recorded {
    let is_confirmed = line.confirmed_statements > 0;
    (
        pg_sys::Oid::from(line.relation),
        line.command.word().to_owned(),
        line.kind.word().to_owned(),
        catalog::role_name(pg_sys::Oid::from(line.role)),
        line.app_user.get(),
        line.context_tenant.get(),
        line.row_tenant.get(),
        (line.query_id != 0).then_some(line.query_id),
        line.query.get(),
        line.application_name.get(),
        line.precision.word().to_owned(),
        (line.precision != Precision::Exact && is_confirmed).then_some(true),
        line.rows,
        line.statements,
        moment(line.first_seen),
        moment(line.last_seen),
        is_confirmed.then_some(line.lost_rows),
    )
}

#[pg_extern(sql = false)]
fn shadow_clear() {
    store::forget(None);
}

#[pg_extern(sql = false)]
fn reset_shadow(relation: Option<pg_sys::Oid>) {
    let run = || -> Result<()> {
        match relation {
            Some(relation) => require_administrator(relation)?,
            None => require_database_owner("Records of all tables would be forgotten.")?,
        }
        store::forget(relation.map(|relation| relation.to_u32()));
        match relation {
            Some(relation) => unseen::begin(relation),
            None => match tables::known() {
                Some(known) => known.relations().try_for_each(unseen::begin),
                None => Ok(()),
            },
        }
    };
    run().or_raise();
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "a row of a table function")]
fn shadow_readiness(
    relation: pg_sys::Oid,
    mode: &str,
    since: TimestampWithTimeZone,
) -> TableIterator<
    'static,
    (
        name!(statements, i64),
        name!(exempt_statements, i64),
        name!(denials, i64),
        name!(dismissed, i64),
        name!(last_denial, Option<TimestampWithTimeZone>),
        name!(ready, bool),
        name!(reasons, Vec<String>),
    ),
> {
    let since = since.into_datum().map_or(0, |datum| datum.value() as i64);
    let found = readiness::of(relation, mode, since).or_raise();
    TableIterator::once((
        found.statements,
        found.exempt_statements,
        found.denials,
        found.dismissed,
        found.last_denial.map(moment),
        found.reasons.is_empty(),
        found.reasons,
    ))
}
