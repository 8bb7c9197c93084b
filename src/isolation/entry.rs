//! The functions that SQL calls.
//!
//! Owns arguments, and how a result is told to people. Must never hold logic.

use core::ffi::CStr;

use pgrx::iter::{SetOfIterator, TableIterator};
use pgrx::prelude::*;

use super::verdict::{Finding, Verdict};
use super::{Question, tap, test};
use crate::catalog::quote_identifier;
use crate::error::{Error, Kind, OrRaise, Result};

extension_sql_file!(
    "../../sql/90_test_isolation.sql",
    name = "test_isolation",
    requires = ["policy", "validate"]
);

/// Findings that a DETAIL names.
const NAMED: usize = 50;

fn question(
    role: Option<&CStr>,
    tenant: Option<&str>,
    other: Option<&str>,
    volatile_functions: Option<bool>,
) -> Result<Question> {
    let missing = |argument: &str| {
        Error::new(
            Kind::NullValueNotAllowed,
            format!("argument \"{argument}\" is null"),
        )
        .hint("Give the role that the application connects as.")
    };
    Ok(Question {
        role: role
            .ok_or_else(|| missing("role"))?
            .to_string_lossy()
            .into_owned(),
        tenant: tenant.map(str::to_owned),
        other: other.map(str::to_owned),
        volatile_functions: volatile_functions.unwrap_or(false),
    })
}

#[pg_extern(sql = false)]
#[expect(
    clippy::type_complexity,
    reason = "pgrx reads the columns of the result here"
)]
fn test_isolation(
    role: Option<&CStr>,
    tenant: Option<&str>,
    other: Option<&str>,
    volatile_functions: Option<bool>,
) -> TableIterator<
    'static,
    (
        name!(relation, String),
        name!(attack, String),
        name!(result, String),
        name!(detail, Option<String>),
        name!(sqlstate, Option<String>),
    ),
> {
    let findings = question(role, tenant, other, volatile_functions)
        .and_then(|question| test(&question))
        .or_raise();
    TableIterator::new(findings.into_iter().map(|finding| {
        (
            finding.relation,
            finding.attack,
            finding.verdict.word().to_owned(),
            finding.detail,
            finding.sqlstate,
        )
    }))
}

#[pg_extern(sql = false)]
fn assert_isolation(
    role: Option<&CStr>,
    tenant: Option<&str>,
    other: Option<&str>,
    volatile_functions: Option<bool>,
) {
    let run = || {
        let question = question(role, tenant, other, volatile_functions)?;
        verdict(&question.role, &test(&question)?)
    };
    run().or_raise();
}

#[pg_extern(sql = false)]
fn test_isolation_tap(
    role: Option<&CStr>,
    tenant: Option<&str>,
    other: Option<&str>,
    volatile_functions: Option<bool>,
) -> SetOfIterator<'static, String> {
    let findings = question(role, tenant, other, volatile_functions)
        .and_then(|question| test(&question))
        .or_raise();
    SetOfIterator::new(tap::lines(&findings))
}

fn verdict(role: &str, findings: &[Finding]) -> Result<()> {
    let mut failed: Vec<&Finding> = findings.iter().filter(|finding| finding.fails()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    failed.sort_by_key(|finding| finding.verdict != Verdict::Leak);
    let leaks = failed
        .iter()
        .filter(|finding| finding.verdict == Verdict::Leak)
        .count();
    let mut lines: Vec<String> = failed
        .iter()
        .take(NAMED)
        .map(|finding| finding.line())
        .collect();
    if failed.len() > NAMED {
        lines.push(format!("and {} more", failed.len() - NAMED));
    }
    let message = if leaks > 0 {
        format!(
            "isolation of role {} does not hold: {leaks} of {} attacks leak",
            quote_identifier(role),
            findings.len()
        )
    } else {
        format!(
            "isolation of role {} is not proven: {} of {} attacks could not be tried",
            quote_identifier(role),
            failed.len(),
            findings.len()
        )
    };
    Err(Error::new(Kind::ObjectNotInPrerequisiteState, message)
        .detail(lines.join("\n"))
        .hint("Look at tenancy.validate() for what mends a leak, and give what could not be tried rows or privileges to try it with; \
               tenancy.waive('not-attacked', 'role: relation: attack', ..) accepts calls, foreign tables and other roles."))
}
