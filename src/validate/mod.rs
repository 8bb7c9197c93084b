//! Is it tight? Findings about the schema, the roles and the server.
//!
//! | question | file |
//! |---|---|
//! | the rules | rows of `tenancy.rules`, each a query: `sql/81_*` to `sql/87_*` |
//! | what they share: tenant tables, grants, policies, paths between roles | views of `sql/80_validate.sql` |
//! | running them, one that fails apart from the others | `run` |
//! | waivers | `waiver` |
//! | the gate | `gate` |
//! | what an expression of a policy says | `expression` |
//!
//! Everything reads only, with the caller's rights, and calls no function that a user wrote.

pub mod expression;
mod gate;
mod run;
mod sql;
mod waiver;

use pgrx::prelude::*;

#[pg_extern(sql = false)]
fn expression_is_always_true(expression: Option<&str>, tenant_column: Option<&str>) -> bool {
    expression.is_some_and(|text| expression::is_always_true(text, tenant_column))
}

#[pg_extern(sql = false)]
fn expression_disjuncts(expression: &str) -> Vec<String> {
    expression::disjuncts(expression)
        .into_iter()
        .map(str::to_owned)
        .collect()
}

#[pg_extern(sql = false)]
fn library_version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
