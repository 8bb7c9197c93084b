//! The functions that SQL calls.
//!
//! Owns arguments: what may be null, what a NULL means, how names become text. Must never hold logic.

use core::ffi::CStr;

use pgrx::datum::Array;
use pgrx::iter::TableIterator;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{JsonB, name};

use super::model::{Mode, Options, Template};
use super::protect::{self, Outcome, Request};
use super::{
    app_role, apply, mode_switch, policy_sql as printing, protect_schema as schema_wide,
    protect_schema_by_table as by_table, store, unprotect,
};
use crate::error::{Error, Kind, OrRaise, Result};

type OutcomeRow = (Option<pg_sys::Oid>, Option<String>, Option<String>);

fn table(outcomes: Vec<Outcome>) -> TableIterator<'static, OutcomeRow> {
    if outcomes.iter().any(|outcome| outcome.entered) {
        apply::notice(
            "row security changes more than which rows exist",
            Some(
                "For the roles that it binds COPY FROM a file or a client is not supported, and \
                 pg_dump fails unless it runs as a role with BYPASSRLS; a logical subscription whose \
                 owner is bound stops.",
            ),
        );
    }
    TableIterator::new(outcomes.into_iter().map(|outcome| {
        (
            Some(outcome.relation),
            outcome.template.map(str::to_owned),
            Some(outcome.result.text()),
        )
    }))
}

pub fn given<T>(value: Option<T>, argument: &str) -> Result<T> {
    value.ok_or_else(|| {
        Error::new(
            Kind::InvalidParameterValue,
            format!("argument \"{argument}\" is null"),
        )
        .hint("Give a value, or leave the argument out for its default.")
    })
}

pub fn text(value: Option<&CStr>, argument: &str) -> Result<String> {
    given(value, argument).map(|name| name.to_string_lossy().into_owned())
}

fn request(
    template: Option<&str>,
    column: Option<&CStr>,
    mode: Option<&str>,
    options: Option<JsonB>,
) -> Result<Request> {
    let template = Template::parse(given(template, "template")?)?;
    let mode = Mode::parse(given(mode, "mode")?)?;
    let options = options.map_or(Ok(Options::default()), |json| Options::parse(&json.0))?;
    let column = match column {
        // As `protected_tables` shows it.
        None if !template.has_tenant_column(&options) => String::new(),
        column => text(column, "tenant_column")?,
    };
    Ok(Request {
        template,
        mode,
        column,
        options: Some(options),
        may_leave: false,
    })
}

#[pg_extern(sql = false)]
fn protect_table(
    relation: Option<pg_sys::Oid>,
    template: Option<&str>,
    tenant_column: Option<&CStr>,
    mode: Option<&str>,
    options: Option<JsonB>,
) -> TableIterator<
    'static,
    (
        name!(relation, Option<pg_sys::Oid>),
        name!(template, Option<String>),
        name!(result, Option<String>),
    ),
> {
    let run = || {
        let request = request(template, tenant_column, mode, options)?;
        protect::protect(given(relation, "table")?, &request)
    };
    table(run().or_raise())
}

/// What is asked of a whole schema; without options each table keeps those it is registered with.
fn schema_request(
    column: Option<&CStr>,
    mode: Option<&str>,
    options: Option<JsonB>,
) -> Result<Request> {
    let given = options.map(|json| Options::parse(&json.0)).transpose()?;
    if let Some(options) = &given {
        options.check_for_schema()?;
    }
    Ok(Request {
        options: given,
        ..request(Some("tenant"), column, mode, None)?
    })
}

fn oids(list: Option<Array<'_, pg_sys::Oid>>) -> Vec<pg_sys::Oid> {
    list.map(|list| list.iter().flatten().collect())
        .unwrap_or_default()
}

#[pg_extern(sql = false)]
fn protect_schema(
    schema: Option<&CStr>,
    tenant_column: Option<&CStr>,
    mode: Option<&str>,
    exclude: Option<Array<'_, pg_sys::Oid>>,
    atomic: Option<bool>,
    options: Option<JsonB>,
) -> TableIterator<
    'static,
    (
        name!(relation, Option<pg_sys::Oid>),
        name!(template, Option<String>),
        name!(result, Option<String>),
    ),
> {
    let run = || {
        let request = schema_request(tenant_column, mode, options)?;
        let schema = text(schema, "schema")?;
        let atomic = given(atomic, "atomic")?;
        schema_wide::protect_schema(&schema, &request, &oids(exclude), atomic)
    };
    table(run().or_raise())
}

#[pg_extern(sql = false)]
fn protect_schema_by_table(
    schema: Option<&CStr>,
    tenant_column: Option<&CStr>,
    mode: Option<&str>,
    exclude: Option<Array<'_, pg_sys::Oid>>,
    options: Option<JsonB>,
    call: pg_sys::FunctionCallInfo,
) {
    let run = || {
        let request = schema_request(tenant_column, mode, options)?;
        by_table::run(call, &text(schema, "schema")?, &request, &oids(exclude))
    };
    run().or_raise();
}

#[pg_extern(sql = false)]
fn unprotect_table(relation: Option<pg_sys::Oid>, missing_ok: Option<bool>) -> bool {
    given(relation, "table")
        .and_then(|relation| unprotect::unprotect(relation, missing_ok.unwrap_or(false)))
        .or_raise()
}

#[pg_extern(sql = false)]
fn policy_sql(
    relation: Option<pg_sys::Oid>,
    template: Option<&str>,
    tenant_column: Option<&CStr>,
    mode: Option<&str>,
    options: Option<JsonB>,
) -> String {
    let run = || {
        let relation = given(relation, "table")?;
        // What is left out is what the table is registered with.
        let row = store::of(relation)?;
        let registered = row
            .as_ref()
            .map_or_else(|| "tenant_id".to_owned(), |row| row.column_today(relation));
        let column = match tenant_column {
            Some(column) => text(Some(column), "tenant_column")?,
            None => registered,
        };
        let options = match (options, &row) {
            (Some(json), _) => Options::parse(&json.0)?,
            (None, Some(row)) => Options::parse(&row.options)?,
            (None, None) => Options::default(),
        };
        let template = match (template, &row) {
            (Some(name), _) => Template::parse(name)?,
            (None, Some(row)) => Template::parse(&row.template)?,
            (None, None) => Template::Tenant,
        };
        let request = Request {
            template,
            mode: Mode::parse(given(mode, "mode")?)?,
            column,
            options: Some(options),
            may_leave: true,
        };
        printing::policy_sql(relation, &request)
    };
    run().or_raise()
}

#[pg_extern(sql = false)]
fn set_mode_of_table(
    relation: Option<pg_sys::Oid>,
    mode: Option<&str>,
    force: Option<bool>,
) -> TableIterator<
    'static,
    (
        name!(relation, Option<pg_sys::Oid>),
        name!(template, Option<String>),
        name!(result, Option<String>),
    ),
> {
    let run = || {
        let mode = Mode::parse(given(mode, "mode")?)?;
        mode_switch::set(given(relation, "table")?, mode, force.unwrap_or(false))
    };
    table(run().or_raise())
}

#[pg_extern(sql = false)]
fn set_mode_of_all(
    mode: Option<&str>,
    atomic: Option<bool>,
    force: Option<bool>,
) -> TableIterator<
    'static,
    (
        name!(relation, Option<pg_sys::Oid>),
        name!(template, Option<String>),
        name!(result, Option<String>),
    ),
> {
    let run = || {
        let mode = Mode::parse(given(mode, "mode")?)?;
        mode_switch::set_all(mode, atomic.unwrap_or(false), force.unwrap_or(false))
    };
    table(run().or_raise())
}

#[pg_extern(sql = false)]
fn create_app_role(role: Option<&CStr>, schemas: Option<Array<'_, &str>>, login: Option<bool>) {
    let run = || {
        let schemas: Vec<String> = given(schemas, "schemas")?
            .iter()
            .flatten()
            .map(str::to_owned)
            .collect();
        app_role::create(&text(role, "name")?, &schemas, login.unwrap_or(false))
    };
    run().or_raise();
}
