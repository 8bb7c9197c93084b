//! Reading what the grades are made of.
//!
//! Owns that one part which fails leaves the others. Must never write, and never read rows of users.

use serde::de::DeserializeOwned;

use super::super::data::Finding;
use super::component::Health;
use super::facts::{Coverage, Data, Expected, Facts, Known, Rollout, Status};
use super::grade;
use crate::policy::spi;
use crate::policy::subtransaction::attempt_reading;

const FINDINGS: &str = "
SELECT pg_catalog.jsonb_build_object('code', v.code, 'rule', r.code, 'topic', r.topic, 'level', v.level,
  'object', v.object, 'detail', v.detail, 'remediation', v.remediation, 'waived', v.waived,
  'reason', v.reason)::pg_catalog.text
FROM tenancy.validate() AS v
LEFT JOIN tenancy.rules AS r ON r.code = CASE v.code WHEN 'rule-failed' THEN pg_catalog.split_part(pg_catalog.substr(v.object, 6), ' ', 1) ELSE v.code END
ORDER BY v.code COLLATE \"C\", v.object COLLATE \"C\"";

const STATUS: &str = "
SELECT pg_catalog.to_jsonb(s)::pg_catalog.text FROM tenancy.status() AS s";

const COVERAGE: &str = "
SELECT pg_catalog.jsonb_build_object('tables', pg_catalog.count(*),
  'registered', pg_catalog.count(t.mode), 'enforced', pg_catalog.count(*) FILTER (WHERE t.mode = 'enforce'),
  'bound', pg_catalog.count(*) FILTER (WHERE t.row_security))::pg_catalog.text
FROM tenancy.tenant_tables AS t";

const ROLLOUT: &str = "
SELECT pg_catalog.jsonb_build_object('enforced', pg_catalog.count(*) FILTER (WHERE r.mode = 'enforce'),
  'shadowed', pg_catalog.count(*) FILTER (WHERE r.mode = 'shadow'),
  'permissive', pg_catalog.count(*) FILTER (WHERE r.mode = 'permissive'),
  'ready', pg_catalog.count(*) FILTER (WHERE r.mode = 'shadow' AND r.ready),
  'denials', coalesce(pg_catalog.sum(r.denials) FILTER (WHERE r.mode = 'shadow'), 0),
  'refused', (SELECT coalesce(pg_catalog.sum(d.statements), 0) FROM tenancy.denials AS d))::pg_catalog.text
FROM tenancy.shadow_report() AS r";

const EXPECTED: &str = "
SELECT pg_catalog.jsonb_build_object('columns', pg_catalog.count(*),
  'differ', pg_catalog.count(*) FILTER (WHERE e.status <> 'OK'))::pg_catalog.text
FROM tenancy.expected_column_states(false) AS e";

// What the planner believes; and constraints that rows were never held against.
const DATA: &str = "
SELECT pg_catalog.jsonb_build_object('tables', pg_catalog.count(*),
  'rows', coalesce(pg_catalog.sum(greatest(c.reltuples, 0)) FILTER (WHERE c.relkind = 'r'), 0)::bigint,
  'not_validated', (SELECT pg_catalog.count(*) FROM pg_catalog.pg_constraint AS k
                    WHERE NOT k.convalidated AND k.conrelid IN (SELECT u.relation FROM tenancy.tenant_tables AS u)))::pg_catalog.text
FROM tenancy.tenant_tables AS t JOIN pg_catalog.pg_class AS c ON c.oid = t.relation";

/// What the validator finds.
pub fn found() -> Known<Vec<Finding>> {
    attempt_reading(|| spi::rows(FINDINGS, &[])).map_err(|failure| failure.sentence())
}

/// All components, the worst first, with these findings.
pub fn health_with(found: &Known<Vec<Finding>>) -> Vec<Health> {
    grade::graded(&Facts {
        found: found.clone(),
        status: attempt_reading(|| spi::rows::<Status>(STATUS, &[]))
            .map_err(|failure| failure.sentence()),
        coverage: one::<Coverage>(COVERAGE),
        rollout: one::<Rollout>(ROLLOUT),
        expected: one::<Expected>(EXPECTED),
        data: one::<Data>(DATA),
    })
}

fn one<T: DeserializeOwned + Default>(sql: &str) -> Known<T> {
    attempt_reading(|| spi::row(sql, &[]))
        .map(Option::unwrap_or_default)
        .map_err(|failure| failure.sentence())
}
