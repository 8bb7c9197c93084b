//! The functions that SQL calls.
//!
//! Owns arguments, and numbering the lines. Must never hold logic.

use core::ffi::CStr;

use pgrx::iter::TableIterator;
use pgrx::prelude::*;
use pgrx::{JsonB, pg_sys};

use super::super::entry::given;
use super::{GivenKey, Question, explain};
use crate::error::{OrRaise, Result};
use crate::text::Argument;

type Row = (Option<i32>, Option<String>, Option<String>, Option<String>);

fn told(
    relation: Option<pg_sys::Oid>,
    key: Result<GivenKey>,
    command: Option<Argument>,
    user: Option<Argument>,
    tenant: Option<Argument>,
    role: Option<&CStr>,
) -> TableIterator<'static, Row> {
    let run = || {
        explain(&Question {
            relation: given(relation, "table")?,
            key: key?,
            command: given(command, "command")?.to_owned(),
            user: user.map(|user| user.to_owned()),
            tenant: tenant.map(|tenant| tenant.to_owned()),
            role: role.map(|name| name.to_string_lossy().into_owned()),
        })
    };
    let lines = run().or_raise();
    TableIterator::new((1..).zip(lines).map(|(step, line)| {
        (
            Some(step),
            Some(line.subject),
            Some(line.verdict),
            Some(line.detail),
        )
    }))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "pgrx wants the columns spelled out")]
fn explain_access_by_text(
    relation: Option<pg_sys::Oid>,
    key: Option<Argument>,
    command: Option<Argument>,
    user_id: Option<Argument>,
    tenant_id: Option<Argument>,
    role: Option<&CStr>,
) -> TableIterator<
    'static,
    (
        name!(step, Option<i32>),
        name!(subject, Option<String>),
        name!(verdict, Option<String>),
        name!(detail, Option<String>),
    ),
> {
    let key = given(key, "key").map(|key| GivenKey::Text(key.to_owned()));
    told(relation, key, command, user_id, tenant_id, role)
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "pgrx wants the columns spelled out")]
fn explain_access_by_json(
    relation: Option<pg_sys::Oid>,
    key: Option<JsonB>,
    command: Option<Argument>,
    user_id: Option<Argument>,
    tenant_id: Option<Argument>,
    role: Option<&CStr>,
) -> TableIterator<
    'static,
    (
        name!(step, Option<i32>),
        name!(subject, Option<String>),
        name!(verdict, Option<String>),
        name!(detail, Option<String>),
    ),
> {
    let key = given(key, "key").map(|key| GivenKey::Json(key.0));
    told(relation, key, command, user_id, tenant_id, role)
}
