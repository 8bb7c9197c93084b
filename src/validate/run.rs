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
pub fn rule_failed(rule: &Rule, failure: &Failure) -> Finding {
    Finding {
        code: "rule-failed".to_owned(),
        level: rule.level.clone(),
        object: format!("rule {}", rule.code),
        detail: format!("this could not be checked: {}", failure.sentence()),
        remediation: None,
    }
}

/// Findings in those schemas, or in all; what belongs to no schema is always looked at.
pub fn findings(schemas: Option<Vec<String>>) -> Result<Vec<Finding>> {
    let schemas = existing(schemas)?;
    let _remembering = Remembering::begin();
    let mut found = Vec::new();
    for rule in rules(false)? {
        let query = format!(
            "SELECT pg_catalog.jsonb_build_array(f.object, coalesce(f.detail, ''), f.remediation, pg_catalog.to_jsonb(f) ->> 'level')::pg_catalog.text
             FROM ({}) AS f
             WHERE f.object IS NOT NULL
               AND ($1::pg_catalog.text[] IS NULL OR f.schema IS NULL OR f.schema::pg_catalog.text = ANY ($1::pg_catalog.text[]))
             ORDER BY f.object COLLATE \"C\"",
            rule.query
        );
        let rows = || spi::rows::<Row>(&query, &[schemas.clone().into()]);
        // Once more where somebody dropped what it was looking at: with what is there now.
        let outcome =
            attempt_reading(rows).or_else(|_| attempt_reading(|| with_what_is_there_now(rows)));
        match outcome {
            Ok(rows) => found.extend(rows.into_iter().map(
                |(object, detail, remediation, level)| Finding {
                    code: rule.code.clone(),
                    level: level.unwrap_or_else(|| rule.level.clone()),
                    object,
                    detail,
                    remediation,
                },
            )),
            Err(failure) => found.push(rule_failed(&rule, &failure)),
        }
    }
    Ok(found)
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
