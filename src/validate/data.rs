//! `tenancy.validate_data()`: rows that are not as isolation needs them.
//!
//! Owns the counting, and that what could not be counted is told. Must never write, act as anybody but
//! the caller, nor tell what is in a row.

use pgrx::datum::Array;
use pgrx::iter::TableIterator;
use pgrx::pg_sys;
use pgrx::prelude::*;
use serde::Deserialize;

use super::readable;
use super::run::{Finding, Rule, existing, names, rule_failed, rules};
use crate::error::{Error, Kind, OrRaise, Result};
use crate::policy::subtransaction::attempt_reading;
use crate::policy::{apply, spi};
use crate::shadow::Unrecorded;

fn oids(numbers: impl IntoIterator<Item = u32>) -> Vec<pg_sys::Oid> {
    numbers.into_iter().map(pg_sys::Oid::from).collect()
}

/// What a rule about rows counts.
#[derive(Deserialize)]
struct Check {
    code: String,
    level: String,
    object: String,
    detail: String,
    /// `None` for a rule that could not say what to count.
    relation: Option<u32>,
    /// The other tables that the condition reads.
    #[serde(default)]
    others: Vec<u32>,
    /// The table in FROM.
    source: String,
    condition: String,
    /// Why the caller cannot count.
    unseen: Option<String>,
    remediation: Option<String>,
}

const CHECKS: &str = "
SELECT pg_catalog.jsonb_build_object('code', c.code, 'level', c.level, 'object', c.object, 'detail', c.detail,
    'relation', c.relation::pg_catalog.int8, 'others', coalesce(c.others, '{}')::pg_catalog.int8[], 'source', c.source, 'condition', c.condition, 'unseen', c.unseen, 'remediation', c.remediation)::pg_catalog.text
FROM tenancy.data_checks($1) AS c
ORDER BY c.source COLLATE \"C\", c.relation, c.code COLLATE \"C\", c.object COLLATE \"C\"";

/// Why the caller cannot count: the first relation of several that he cannot read as it is.
const UNSEEN: &str = "
(SELECT CASE WHEN NOT pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE')
                  OR NOT pg_catalog.has_table_privilege(c.oid, 'SELECT')
             THEN 'SELECT on ' || tenancy.qualified_name(c.oid) || ' is not granted'
             ELSE 'row security keeps rows of ' || tenancy.qualified_name(c.oid) || ' from who asks' END
 FROM pg_catalog.pg_class c
 WHERE c.oid = ANY (f.relation || f.others)
   AND (NOT pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE') OR NOT pg_catalog.has_table_privilege(c.oid, 'SELECT')
        OR pg_catalog.row_security_active(c.oid))
 ORDER BY c.oid <> f.relation, c.oid LIMIT 1)";

fn checks_of(rule: &Rule, schemas: &Option<Vec<String>>) -> Result<Vec<Check>> {
    let query = format!(
        "SELECT pg_catalog.jsonb_build_object('code', $2, 'level', $3, 'object', f.object, 'detail', f.detail,
             'relation', f.relation::pg_catalog.int8, 'others', coalesce(f.others, '{{}}')::pg_catalog.int8[], 'source', tenancy.only_rows(f.relation), 'condition', f.condition,
             'unseen', {UNSEEN}, 'remediation', f.remediation)::pg_catalog.text
         FROM ({}) AS f
         WHERE f.object IS NOT NULL
           AND ($1::pg_catalog.text[] IS NULL OR f.schema::pg_catalog.text = ANY ($1::pg_catalog.text[]))",
        rule.query
    );
    let arguments = [
        schemas.clone().into(),
        rule.code.as_str().into(),
        rule.level.as_str().into(),
    ];
    spi::rows(&query, &arguments)
}

#[pg_extern(sql = false)]
#[expect(
    clippy::type_complexity,
    reason = "pgrx reads the columns of the result here"
)]
fn data_checks(
    schemas: Option<Array<'_, &str>>,
) -> TableIterator<
    'static,
    (
        name!(code, String),
        name!(level, String),
        name!(object, String),
        name!(detail, String),
        name!(relation, Option<pg_sys::Oid>),
        name!(others, Vec<pg_sys::Oid>),
        name!(source, Option<String>),
        name!(condition, Option<String>),
        name!(unseen, Option<String>),
        name!(remediation, Option<String>),
    ),
> {
    let schemas = names(schemas);
    let run = || {
        let schemas = existing(schemas)?;
        let mut found = Vec::new();
        for rule in rules(true)? {
            match attempt_reading(|| checks_of(&rule, &schemas)) {
                Ok(checks) => found.extend(checks),
                Err(failure) => found.push(Check::failed(rule_failed(&rule, None, &failure))),
            }
        }
        Ok::<_, Error>(found)
    };
    TableIterator::new(run().or_raise().into_iter().map(|check| {
        (
            check.code,
            check.level,
            check.object,
            check.detail,
            check.relation.map(pg_sys::Oid::from),
            oids(check.others),
            Some(check.source),
            Some(check.condition),
            check.unseen,
            check.remediation,
        )
    }))
}

impl Check {
    /// A rule that could not say what to count: told instead of being counted.
    fn failed(finding: Finding) -> Self {
        Self {
            code: finding.code,
            level: finding.level,
            object: finding.object,
            detail: finding.detail,
            relation: None,
            others: Vec::new(),
            source: String::new(),
            condition: String::new(),
            unseen: None,
            remediation: None,
        }
    }

    fn rows(&self, sample: Option<i64>) -> String {
        let (Some(sample), Some(relation)) = (sample, self.relation) else {
            return self.source.clone();
        };
        // Whole pages: many rows are read at once, and a small table is read as a whole.
        format!(
            "(SELECT * FROM {} TABLESAMPLE SYSTEM ((
                 SELECT CASE WHEN c.reltuples > {sample} THEN least(100, 100.0 * {sample} / c.reltuples) ELSE 100 END
                 FROM pg_catalog.pg_class c WHERE c.oid = {relation})) LIMIT {sample})",
            self.source
        )
    }

    /// How many there are, or why that cannot be known.
    fn count(&self, sample: Option<i64>) -> Result<std::result::Result<i64, String>> {
        let count = format!(
            "SELECT pg_catalog.count(*)::pg_catalog.text FROM {} AS r WHERE {}",
            self.rows(sample),
            self.condition
        );
        let tables = self.relation.into_iter().chain(self.others.clone());
        if let Some(why) = readable::hold(&oids(tables), &count) {
            return Ok(Err(why));
        }
        Ok(Ok(spi::row(&count, &[])?.unwrap_or(0)))
    }

    fn finding(self, count: i64, sample: Option<i64>) -> Finding {
        let rows = if count == 1 { "row" } else { "rows" };
        let sampled = sample.map_or_else(String::new, |sample| {
            format!(" in a sample of about {sample}")
        });
        Finding {
            detail: format!(
                "{count} {rows}{sampled} {}: SELECT * FROM {} AS r WHERE {}",
                self.detail, self.source, self.condition
            ),
            code: self.code,
            level: self.level,
            object: self.object,
            remediation: self.remediation,
        }
    }

    /// Of the rule's level: not knowing counts as much as what the rule looks for.
    fn not_done(&self, code: &str, why: String) -> Finding {
        Finding {
            code: code.to_owned(),
            level: self.level.clone(),
            object: format!("rule {} on {}", self.code, self.object),
            detail: why,
            remediation: None,
        }
    }
}

const NOTHING_BOUND: &str = "
SELECT pg_catalog.to_jsonb('x'::pg_catalog.text)::pg_catalog.text
WHERE NOT EXISTS (SELECT FROM tenancy.bound_columns b WHERE b.bound_as = 'tenant')";

fn findings(schemas: Option<Vec<String>>, sample: Option<i64>) -> Result<Vec<Finding>> {
    if sample.is_some_and(|rows| rows < 1) {
        return Err(
            Error::new(Kind::InvalidParameterValue, "a sample has at least one row")
                .hint("Give a positive number, or null to read everything."),
        );
    }
    let _unrecorded = Unrecorded::begin();
    let checks: Vec<Check> = spi::rows(CHECKS, &[schemas.into()])?;
    let mut tables: Vec<u32> = checks.iter().filter_map(|check| check.relation).collect();
    tables.dedup();
    let mut found = Vec::new();
    let (mut told, mut last) = (0, None);
    for check in checks {
        if check.relation.is_none() {
            found.push(Finding {
                code: check.code,
                level: check.level,
                object: check.object,
                detail: check.detail,
                remediation: None,
            });
            continue;
        }
        if check.relation != last {
            last = check.relation;
            told += 1;
            apply::notice(
                &format!(
                    "reading rows of {} ({told} of {} tables)",
                    check.source.trim_start_matches("ONLY "),
                    tables.len()
                ),
                None,
            );
        }
        if let Some(why) = check.unseen.clone() {
            found.push(check.not_done("not-seen", why));
            continue;
        }
        match attempt_reading(|| check.count(sample)) {
            Ok(Ok(0)) => {}
            Ok(Ok(count)) => found.push(check.finding(count, sample)),
            Ok(Err(why)) => found.push(check.not_done("not-seen", why)),
            Err(failure) => found.push(check.not_done(
                "rule-failed",
                format!("this could not be checked: {}", failure.sentence()),
            )),
        }
    }
    if spi::row::<String>(NOTHING_BOUND, &[])?.is_some() {
        found.push(Finding {
            code: "not-seen".to_owned(),
            level: "info".to_owned(),
            object: "tenants".to_owned(),
            detail: "no table of tenants is bound: whether tenants exist is not known".to_owned(),
            remediation: None,
        });
    }
    Ok(found)
}

#[pg_extern(sql = false)]
fn findings_of_data(
    schemas: Option<Array<'_, &str>>,
    sample_rows: Option<i64>,
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
    let rows = findings(names(schemas), sample_rows).or_raise();
    TableIterator::new(rows.into_iter().map(Finding::columns))
}
