//! Running the rules.
//!
//! Owns that a rule which fails is a finding of its own and not the end. Must never write: it runs on
//! standbys and in read-only transactions.

use pgrx::datum::Array;
use pgrx::iter::TableIterator;
use pgrx::prelude::*;
use serde::Deserialize;

use crate::error::{Error, Kind, OrRaise, Result};
use crate::policy::spi;
use crate::policy::subtransaction::attempt_reading;

#[derive(Deserialize)]
struct Rule {
    code: String,
    level: String,
    query: String,
}

/// One thing that is wrong.
pub struct Finding {
    pub code: String,
    pub level: String,
    pub object: String,
    pub detail: String,
    pub remediation: Option<String>,
}

const RULES: &str = "
SELECT pg_catalog.jsonb_build_object('code', r.code, 'level', r.level, 'query', r.query)::pg_catalog.text
FROM tenancy.rules r ORDER BY r.code COLLATE \"C\"";

const UNKNOWN_SCHEMA: &str = "
SELECT pg_catalog.to_jsonb(s)::pg_catalog.text FROM pg_catalog.unnest($1::pg_catalog.text[]) AS s
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = s)";

/// Findings in those schemas, or in all; what belongs to no schema is always looked at.
pub fn findings(schemas: Option<Vec<String>>) -> Result<Vec<Finding>> {
    if let Some(schemas) = &schemas {
        // A mistyped name would pass a gate.
        if let Some(missing) = spi::row::<String>(UNKNOWN_SCHEMA, &[schemas.clone().into()])? {
            return Err(Error::new(
                Kind::UndefinedSchema,
                format!("schema \"{missing}\" does not exist"),
            )
            .hint("Give names of schemas without quotes around them."));
        }
    }
    let mut found = Vec::new();
    for rule in spi::rows::<Rule>(RULES, &[])? {
        let query = format!(
            "SELECT pg_catalog.jsonb_build_array(f.object, coalesce(f.detail, ''), f.remediation)::pg_catalog.text
             FROM ({}) AS f
             WHERE f.object IS NOT NULL
               AND ($1::pg_catalog.text[] IS NULL OR f.schema IS NULL OR f.schema::pg_catalog.text = ANY ($1::pg_catalog.text[]))
             ORDER BY f.object COLLATE \"C\"",
            rule.query
        );
        let outcome = attempt_reading(|| {
            spi::rows::<(String, String, Option<String>)>(&query, &[schemas.clone().into()])
        });
        match outcome {
            Ok(rows) => {
                found.extend(
                    rows.into_iter()
                        .map(|(object, detail, remediation)| Finding {
                            code: rule.code.clone(),
                            level: rule.level.clone(),
                            object,
                            detail,
                            remediation,
                        }),
                )
            }
            // Not knowing counts as much as what the rule looks for.
            Err(failure) => found.push(Finding {
                code: "rule-failed".to_owned(),
                level: rule.level,
                object: format!("rule {}", rule.code),
                detail: format!("this could not be checked: {}", failure.sentence()),
                remediation: None,
            }),
        }
    }
    Ok(found)
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
    let schemas = schemas.map(|names| names.iter().flatten().map(str::to_owned).collect());
    let rows = findings(schemas).or_raise();
    TableIterator::new(rows.into_iter().map(|found| {
        (
            found.code,
            found.level,
            found.object,
            found.detail,
            found.remediation,
        )
    }))
}
