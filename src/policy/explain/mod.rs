//! `tenancy.explain_access()`: why one row is, or is not, there for somebody.
//!
//! | question | file |
//! |---|---|
//! | what SQL calls | `entry` |
//! | which row | `key`; its values: `row` |
//! | which policies, those of enforcement where it is not on | `policies`, `catalog`, `protection` |
//! | for whom | `asker`, `context` |
//! | what comes of all together | `verdict` |
//!
//! Owns the order of the lines; the last is the verdict. Must never print a value of the row but its key
//! and its tenant, and must leave nothing behind: whatever is evaluated is rolled back.

mod asker;
mod catalog;
mod context;
mod entry;
mod key;
mod policies;
mod protection;
mod row;
mod verdict;

use pgrx::pg_sys;
use serde_json::Value;

use self::asker::Asker;
use self::context::Origin;
use self::key::Key;
use self::policies::{Judged, Policies};
use self::protection::{Protection, about_table};
use self::row::Row;
use self::verdict::Possible;
use super::model::{Command, Mode};
use super::render::quoted;
use super::store;
use super::subtransaction::undone;
use crate::catalog::acts_as;
use crate::context::{functions, setting};
use crate::error::{Error, Kind, Result};
use crate::shadow::Unrecorded;

/// What is asked.
pub struct Question {
    /// The table.
    pub relation: pg_sys::Oid,
    /// The row.
    pub key: GivenKey,
    /// The command.
    pub command: String,
    /// The user, instead of the session's context.
    pub user: Option<String>,
    /// The tenant, likewise.
    pub tenant: Option<String>,
    /// The role.
    pub role: Option<String>,
}

/// A key as it was given.
pub enum GivenKey {
    /// As text.
    Text(String),
    /// As JSON.
    Json(Value),
}

/// A line of the explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What it is about.
    pub subject: String,
    /// In a word or two.
    pub verdict: String,
    /// The rest.
    pub detail: String,
}

impl Line {
    fn new(subject: &str, verdict: &str, detail: String) -> Self {
        Self {
            subject: subject.to_owned(),
            verdict: verdict.to_owned(),
            detail,
        }
    }
}

/// The explanation.
pub fn explain(question: &Question) -> Result<Vec<Line>> {
    let table = catalog::table(question.relation)?.ok_or_else(|| {
        Error::new(Kind::UndefinedTable, "the table does not exist")
            .hint("Give the name of a table, qualified with its schema.")
    })?;
    let name = format!("{}.{}", quoted(&table.schema), quoted(&table.name));
    if !acts_as(pg_sys::Oid::from(table.owner)) {
        return Err(Error::new(
            Kind::InsufficientPrivilege,
            format!("must be owner of table {name}"),
        )
        .hint("Ask the owner of the table, or a superuser."));
    }
    if !matches!(table.kind.as_str(), "r" | "p") {
        return Err(
            Error::new(Kind::WrongObjectType, format!("{name} is not a table"))
                .hint("Ask about the table that holds the row."),
        );
    }
    let command = command(&question.command)?;
    if table.key.is_empty() {
        return Err(Error::new(
            Kind::ObjectNotInPrerequisiteState,
            format!("table {name} has no primary key"),
        )
        .detail("A row is named by its primary key.")
        .hint("Add a primary key to the table."));
    }
    let key = match &question.key {
        GivenKey::Text(text) => Key::from_text(&table.key, text)?,
        GivenKey::Json(value) => Key::from_json(&table.key, value)?,
    };
    let registered = store::of(question.relation)?;
    let protection = registered.map(Protection::of).transpose()?;
    let forced = protection
        .as_ref()
        .map_or(table.forced, |protection| protection.is_forced(&table));
    let asker = Asker::of(question.role.as_deref(), &table, forced)?;
    let tenant_column = protection.as_ref().and_then(|protection| {
        let column = protection.row.column_today(question.relation);
        let has = protection.template.has_tenant_column(&protection.options);
        has.then_some(column)
    });
    let row = row::read(&table, &key, tenant_column.as_deref())?;
    let mut lines = vec![
        about_table(&name, &table, protection.as_ref()),
        about_row(&key, &row, tenant_column.as_deref()),
        asker.line(),
    ];
    let policies = Policies::of(
        question.relation,
        &table,
        protection.as_ref(),
        asker.evaluates_as.is_some(),
    )?;
    undone(|| {
        let _unrecorded = Unrecorded::begin();
        // A worker would be another process, and record.
        setting::set_local("max_parallel_workers_per_gather", "0");
        let origin = if question.user.is_some() || question.tenant.is_some() {
            functions::place(
                question.user.as_deref().unwrap_or_default(),
                question.tenant.as_deref().unwrap_or_default(),
            )?;
            Origin::Arguments
        } else {
            Origin::Session
        };
        judge(
            question.relation,
            command,
            origin,
            &asker,
            &policies,
            &row,
            protection.as_ref(),
            &mut lines,
        )
    });
    Ok(lines)
}

fn command(name: &str) -> Result<Command> {
    Command::EACH
        .into_iter()
        .find(|command| command.suffix() == name.to_ascii_lowercase())
        .ok_or_else(|| {
            Error::new(
                Kind::InvalidParameterValue,
                format!("unknown command \"{name}\""),
            )
            .hint("Use 'select', 'insert', 'update' or 'delete'.")
        })
}

fn about_row(key: &Key, row: &Row, tenant_column: Option<&str>) -> Line {
    let tenant = match (tenant_column, &row.tenant) {
        (None, _) => "no tenant column".to_owned(),
        (Some(column), Some(tenant)) => format!("{} = {tenant}", quoted(column)),
        (Some(column), None) => format!("{} is null", quoted(column)),
    };
    Line::new("row", "found", format!("{}; {tenant}", key.words()))
}

#[allow(
    clippy::too_many_arguments,
    reason = "each is one thing that was found"
)]
fn judge(
    relation: pg_sys::Oid,
    command: Command,
    origin: Origin,
    asker: &Asker,
    policies: &Policies,
    row: &Row,
    protection: Option<&Protection>,
    lines: &mut Vec<Line>,
) -> Result<()> {
    let needs = protection.map(|protection| {
        let options = protection.row.options.to_string();
        context::needs(&protection.row.template, &options, command)
    });
    let context = context::of(origin, needs)?;
    lines.extend(context.lines);
    let mut parts = Vec::new();
    for (of, clause) in verdict::asked_for(command) {
        let judged: Vec<Judged<'_>> = policies.judge(*of, *clause, asker, row);
        lines.extend(judged.iter().map(Judged::line));
        let counting: Vec<_> = judged
            .iter()
            .filter_map(|judged| Some((judged.policy.permissive, judged.outcome.clone()?)))
            .collect();
        let possible = verdict::combined(&counting);
        lines.push(combination(*of, *clause, &counting, possible));
        parts.push((*clause, possible));
    }
    let would = protection.is_some_and(|protection| protection.mode != Mode::Enforce);
    let is_off = !policies.row_security && !would;
    let last = if is_off {
        Line::new(
            "verdict",
            "allowed",
            "row security is off: nothing is refused".to_owned(),
        )
    } else if let Some(privilege) = asker.lacks(relation, command) {
        Line::new(
            "verdict",
            "error",
            format!("42501: the role has no {privilege} privilege on the table"),
        )
    } else if let Some(why) = &asker.exempt {
        Line::new("verdict", "allowed", format!("the role is exempt: {why}"))
    } else if let Some(missing) = context.missing {
        Line::new(
            "verdict",
            "error",
            format!(
                "{} {} with {missing}",
                command.keyword(),
                if would { "would fail" } else { "fails" }
            ),
        )
    } else {
        let word = verdict::verdict(command, &parts);
        let detail = verdict::sentence(command, &word, would);
        Line::new("verdict", &word, detail)
    };
    lines.push(last);
    Ok(())
}

fn combination(
    of: Command,
    clause: verdict::Clause,
    counting: &[(bool, verdict::Outcome)],
    possible: Possible,
) -> Line {
    let passed = |permissive: bool| {
        let all = counting.iter().filter(|(is, _)| *is == permissive);
        let passed = all
            .clone()
            .filter(|(_, outcome)| *outcome == verdict::Outcome::Passed);
        (passed.count(), all.count())
    };
    let (restrictive, permissive) = (passed(false), passed(true));
    let detail = if permissive.1 == 0 {
        "no permissive policy applies, and without one nothing passes".to_owned()
    } else {
        format!(
            "restrictive: {} of {} passed, all must; permissive: {} of {} passed, one must",
            restrictive.0, restrictive.1, permissive.0, permissive.1
        )
    };
    Line::new(
        &format!("{} {} together", of.keyword(), clause.keyword()),
        &possible.words("passed", "refused", "raises"),
        detail,
    )
}
