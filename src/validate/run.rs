//! Running the rules.
//!
//! Owns that a rule which fails is a finding of its own and not the end. Must never write: it runs on
//! standbys and in read-only transactions.

use pgrx::datum::Array;
use pgrx::iter::TableIterator;
use pgrx::pg_sys;
use pgrx::prelude::*;
use serde::Deserialize;

use super::deparse::Remembering;
use crate::catalog;
use crate::error::{Error, Kind, OrRaise, Result};
use crate::policy::spi;
use crate::policy::subtransaction::{Failure, attempt_reading};

/// A row of `tenancy.rules`.
#[derive(Deserialize)]
pub struct Rule {
    pub code: String,
    pub level: String,
    pub query: String,
}

/// Object, detail, remediation, and a level where it is not the rule's.
type Row = (String, String, Option<String>, Option<String>);

/// One thing that is wrong.
#[derive(Deserialize)]
pub struct Finding {
    pub code: String,
    pub level: String,
    pub object: String,
    pub detail: String,
    pub remediation: Option<String>,
}

impl Finding {
    /// As SQL returns it.
    pub fn columns(self) -> (String, String, String, String, Option<String>) {
        (
            self.code,
            self.level,
            self.object,
            self.detail,
            self.remediation,
        )
    }
}

const RULES: &str = "
SELECT pg_catalog.jsonb_build_object('code', r.code, 'level', r.level, 'query', r.query)::pg_catalog.text
FROM tenancy.rules r WHERE (r.topic = 'data') = $1 ORDER BY r.code COLLATE \"C\"";

const UNKNOWN_SCHEMA: &str = "
SELECT pg_catalog.to_jsonb(s)::pg_catalog.text FROM pg_catalog.unnest($1::pg_catalog.text[]) AS s
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = s)";

/// Those that hold anything of users.
const SCHEMAS: &str = "
SELECT pg_catalog.to_jsonb(n.nspname)::pg_catalog.text FROM pg_catalog.pg_namespace n
WHERE n.nspname NOT IN ('tenancy', 'information_schema') AND n.nspname !~ '^pg_' ORDER BY n.nspname COLLATE \"C\"";

/// The rules about rows, or those about everything else.
pub fn rules(about_data: bool) -> Result<Vec<Rule>> {
    spi::rows(RULES, &[about_data.into()])
}

/// The names in an argument; nulls in it name nothing.
pub fn names(argument: Option<Array<'_, &str>>) -> Option<Vec<String>> {
    argument.map(|names| names.iter().flatten().map(str::to_owned).collect())
}

/// The schemas if all of them are there: a mistyped name would pass a gate.
pub fn existing(schemas: Option<Vec<String>>) -> Result<Option<Vec<String>>> {
    if let Some(schemas) = &schemas
        && let Some(missing) = spi::row::<String>(UNKNOWN_SCHEMA, &[schemas.clone().into()])?
    {
        return Err(Error::new(
            Kind::UndefinedSchema,
            format!("schema \"{missing}\" does not exist"),
        )
        .hint("Give names of schemas without quotes around them."));
    }
    Ok(schemas)
}

/// A rule that fails is a finding: not knowing counts as much as what the rule looks for.
pub fn rule_failed(rule: &Rule, schema: Option<&str>, failure: &Failure) -> Finding {
    let place = schema.map_or_else(String::new, |schema| {
        format!(" in schema {}", catalog::quote_identifier(schema))
    });
    Finding {
        code: "rule-failed".to_owned(),
        level: rule.level.clone(),
        object: format!("rule {}{place}", rule.code),
        detail: format!(
            "this could not be checked, so that none of its findings{place} are told: {}",
            failure.sentence()
        ),
        remediation: None,
    }
}

/// How many schemas a failing rule is asked of one by one: each time it reads catalogs as a whole.
const ONE_BY_ONE: usize = 100;

/// Where to look.
#[derive(Clone, Copy)]
enum Where<'a> {
    /// In all of these, or in all there are, and at what belongs to none.
    All(Option<&'a [String]>),
    /// In one.
    One(&'a str),
    /// At what belongs to none.
    NoSchema,
}

/// Findings in those schemas, or in all; what belongs to no schema is always looked at.
pub fn findings(schemas: Option<Vec<String>>) -> Result<Vec<Finding>> {
    let schemas = existing(schemas)?;
    let _remembering = Remembering::begin();
    let mut found = Vec::new();
    for rule in rules(false)? {
        match looked(&rule, Where::All(schemas.as_deref())) {
            Ok(findings) => found.extend(findings),
            Err(failure) => found.extend(one_by_one(&rule, schemas.as_deref(), &failure)?),
        }
    }
    Ok(found)
}

/// What a rule finds that failed for all schemas together: where one thing is in its way, the rest is told.
fn one_by_one(rule: &Rule, schemas: Option<&[String]>, failure: &Failure) -> Result<Vec<Finding>> {
    let schemas = match schemas {
        Some(schemas) => schemas.to_vec(),
        None => spi::rows(SCHEMAS, &[])?,
    };
    if schemas.len() > ONE_BY_ONE {
        return Ok(vec![rule_failed(rule, None, failure)]);
    }
    let Ok(mut found) = looked(rule, Where::NoSchema) else {
        return Ok(vec![rule_failed(rule, None, failure)]);
    };
    let mut failed = 0;
    for schema in &schemas {
        match looked(rule, Where::One(schema)) {
            Ok(findings) => found.extend(findings),
            Err(failure) => {
                failed += 1;
                found.push(rule_failed(rule, Some(schema), &failure));
            }
        }
    }
    // Where no schema could be looked at, something else is wrong.
    if failed == schemas.len() {
        return Ok(vec![rule_failed(rule, None, failure)]);
    }
    Ok(found)
}

fn looked(rule: &Rule, place: Where<'_>) -> core::result::Result<Vec<Finding>, Failure> {
    let query = format!(
        "SELECT pg_catalog.jsonb_build_array(f.object, coalesce(f.detail, ''), f.remediation, pg_catalog.to_jsonb(f) ->> 'level')::pg_catalog.text
         FROM ({}) AS f
         WHERE f.object IS NOT NULL
           AND (($1::pg_catalog.text[] IS NULL AND $2) OR (f.schema IS NULL AND $2) OR f.schema::pg_catalog.text = ANY ($1::pg_catalog.text[]))
         ORDER BY f.object COLLATE \"C\"",
        rule.query
    );
    let (schemas, is_of_none) = match place {
        Where::All(schemas) => (schemas.map(<[String]>::to_vec), true),
        Where::One(schema) => (Some(vec![schema.to_owned()]), false),
        Where::NoSchema => (Some(Vec::new()), true),
    };
    let rows = || spi::rows::<Row>(&query, &[schemas.clone().into(), is_of_none.into()]);
    // Once more where somebody dropped what it was looking at: with what is there now.
    let rows =
        attempt_reading(rows).or_else(|_| attempt_reading(|| with_what_is_there_now(rows)))?;
    Ok(rows
        .into_iter()
        .map(|(object, detail, remediation, level)| Finding {
            code: rule.code.clone(),
            level: level.unwrap_or_else(|| rule.level.clone()),
            object,
            detail,
            remediation,
        })
        .collect())
}

fn with_what_is_there_now<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: inside a transaction; popped below, or by the subtransaction that an error ends.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
    let result = work();
    // SAFETY: the one that was pushed above.
    unsafe { pg_sys::PopActiveSnapshot() };
    result
}

#[pg_extern(sql = false)]
fn findings_of_rules(
    schemas: Option<Array<'_, &str>>,
) -> TableIterator<
    'static,
    (
        name!(code, String),
        name!(level, String),
        name!(object, String),
        name!(detail, String),
        name!(remediation, Option<String>),
    ),
> {
    let rows = findings(names(schemas)).or_raise();
    TableIterator::new(rows.into_iter().map(Finding::columns))
}
