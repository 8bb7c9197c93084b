//! The functions that SQL calls.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::iter::TableIterator;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::store;
use crate::catalog;

type Line = (
    pg_sys::Oid,
    String,
    String,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    i64,
    Option<String>,
    Option<String>,
    String,
    Option<bool>,
    i64,
    i64,
    TimestampWithTimeZone,
    TimestampWithTimeZone,
);

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "a row of a table function")]
fn shadow_recorded() -> TableIterator<
    'static,
    (
        name!(relation, pg_sys::Oid),
        name!(command, String),
        name!(kind, String),
        name!(role, String),
        name!(app_user, Option<String>),
        name!(context_tenant, Option<String>),
        name!(row_tenant, Option<String>),
        name!(query_id, i64),
        name!(query, Option<String>),
        name!(application_name, Option<String>),
        name!(precision, String),
        name!(confirmed, Option<bool>),
        name!(rows, i64),
        name!(statements, i64),
        name!(first_seen, TimestampWithTimeZone),
        name!(last_seen, TimestampWithTimeZone),
    ),
> {
    TableIterator::new(store::entries().into_iter().map(line))
}

fn line(entry: store::Entry) -> Line {
    // SAFETY: what the store holds was a timestamp of Postgres's.
    let moment = |time: i64| unsafe {
        TimestampWithTimeZone::from_datum(pg_sys::Datum::from(time), false)
            .unwrap_or_else(|| unreachable!("not null"))
    };
    (
        entry.relation,
        entry.command.word().to_owned(),
        entry.kind.word().to_owned(),
        catalog::role_name(entry.role),
        entry.app_user.get(),
        entry.context_tenant.get(),
        entry.row_tenant.get(),
        entry.query_id,
        entry.query.get(),
        entry.application_name.get(),
        entry.precision.word().to_owned(),
        entry.confirmed(),
        entry.rows,
        entry.statements,
        moment(entry.first_seen),
        moment(entry.last_seen),
    )
}

#[pg_extern(sql = false)]
fn shadow_clear() {
    store::clear();
}
