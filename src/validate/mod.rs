//! Is it tight? Findings about the schema, the roles and the server.
//!
//! | question | file |
//! |---|---|
//! | the rules | rows of `tenancy.rules`, each a query: `sql/81_*` to `sql/87_*`, about rows `sql/93_*` |
//! | what they share: tenant tables, grants, policies, paths between roles | views of `sql/80_validate.sql` |
//! | running them, one that fails apart from the others | `run` |
//! | counting bad rows | `data` |
//! | waivers | `waiver` |
//! | the gate | `gate` |
//! | cutting the expression of a policy, and what is always true | `expression` |
//! | whether it asks for the tenant | `bounds` |
//! | what else it lets rows through by | `complaints` |
//! | whether the filter of a publication keeps to tenants that it names | `filter` |
//! | whether a sub-select of it returns one row | `one_row` |
//! | what a piece of it is | `words`, `query` |
//! | its text | `deparse` |
//! | what the functions that it calls come to | `body`, `known` |
//! | what the source of a function writes and calls | `named`, `tokens` |
//! | what a server lacks | `server` |
//!
//! Everything reads only, with the caller's rights, and calls no function that a user wrote.

mod body;
mod bounds;
mod complaints;
mod data;
mod deparse;
pub mod expression;
mod filter;
mod gate;
mod known;
mod named;
mod one_row;
pub mod query;
mod readable;
mod run;
mod server;
mod sql;
mod tokens;
mod waiver;
pub mod words;

use pgrx::iter::TableIterator;
use pgrx::prelude::*;

use crate::binding::{self, TenantType};

#[pg_extern(sql = false)]
fn expression_is_always_true(expression: Option<&str>, tenant_column: Option<&str>) -> bool {
    expression.is_some_and(|text| expression::is_always_true(text, tenant_column))
}

#[pg_extern(sql = false)]
fn expression_open_without_context(
    expression: Option<&str>,
    tenant_column: Option<&str>,
) -> Option<String> {
    complaints::open_without_context(expression?, tenant_column).map(str::to_owned)
}

#[pg_extern(sql = false)]
fn expression_asks_for_others(expression: &str, tenant_column: &str) -> Option<String> {
    complaints::asks_for_others(expression, tenant_column).map(str::to_owned)
}

#[pg_extern(sql = false)]
fn expression_names_tenant(expression: &str, tenant_column: &str) -> Option<String> {
    complaints::names_tenant(expression, tenant_column).map(str::to_owned)
}

#[pg_extern(sql = false)]
fn expression_shows_nobodys(
    expression: &str,
    tenant_column: &str,
    not_null: bool,
) -> Option<String> {
    complaints::shows_nobodys(expression, tenant_column, not_null).map(str::to_owned)
}

#[pg_extern(sql = false)]
fn expression_asks_for_role(expression: &str, tenant_column: &str) -> Option<String> {
    complaints::asks_for_role(expression, tenant_column).map(str::to_owned)
}

#[pg_extern(sql = false)]
fn expression_without_tenant(expression: &str, tenant_column: &str) -> Option<String> {
    complaints::without_tenant(expression, tenant_column).map(str::to_owned)
}

#[pg_extern(sql = false)]
fn expression_bounds_tenant(expression: &str, tenant_column: &str) -> bool {
    bounds::bounds_tenant(expression, tenant_column)
}

#[pg_extern(sql = false)]
fn expression_keeps_to_named(expression: &str, tenant_column: &str) -> bool {
    filter::keeps_to_named(expression, tenant_column)
}

#[pg_extern(sql = false)]
fn expression_with_known(expression: &str, functions: Vec<String>, said: Vec<String>) -> String {
    known::with_known(expression, &functions, &said)
}

#[pg_extern(sql = false)]
fn function_said(source: &str, parameters: Vec<String>) -> Option<String> {
    Some(match body::said(source, &parameters)? {
        body::Said::Constant(value) => value,
        body::Said::OfArguments => String::new(),
    })
}

#[pg_extern(sql = false)]
fn function_writes(
    source: &str,
) -> TableIterator<'static, (name!(schema, Option<String>), name!(name, Option<String>))> {
    let rows: Vec<_> = named::written(source)
        .into_iter()
        .map(|one| match one {
            named::Written::Relation(one) => (one.schema, Some(one.name)),
            named::Written::OwnTable => (None, None),
        })
        .collect();
    TableIterator::new(rows)
}

#[pg_extern(sql = false)]
fn function_calls(
    source: &str,
) -> TableIterator<'static, (name!(schema, Option<String>), name!(name, String))> {
    let rows: Vec<_> = named::called(source)
        .into_iter()
        .map(|one| (one.schema, one.name))
        .collect();
    TableIterator::new(rows)
}

#[pg_extern(sql = false)]
fn expression_asks_for_one_of_many(expression: &str, keys: Vec<String>) -> bool {
    one_row::asks_for_one_of_many(expression, &keys)
}

#[pg_extern(sql = false)]
fn expression_one_tenant(expression: &str, tenant_column: &str) -> Option<String> {
    bounds::one_tenant(expression, tenant_column).map(str::to_owned)
}

#[pg_extern(sql = false)]
fn expression_disjuncts(expression: &str) -> Vec<String> {
    if !expression::is_readable(expression) {
        return vec![expression.to_owned()];
    }
    expression::disjuncts(expression)
        .into_iter()
        .map(str::to_owned)
        .collect()
}

#[pg_extern(sql = false)]
fn type_holds_tenants(type_oid: pg_sys::Oid, tenant_type: &str) -> bool {
    TenantType::from_name(tenant_type)
        .is_some_and(|wanted| binding::query::tenant_type_of(type_oid) == Some(wanted))
}

#[pg_extern(sql = false)]
fn library_version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

#[pg_extern(sql = false)]
fn missing_fixes(version: i32) -> Vec<&'static str> {
    server::missing_fixes(version)
}
