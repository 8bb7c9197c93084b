//! What holds before and after a migration: `tenancy.pre_migration_check()`, `tenancy.post_migration_check()`.
//!
//! Owns the list of checks, each a query over the catalogs. One that fails is a row and not the end.

use pgrx::datum::{DatumWithOid, Interval};
use pgrx::iter::TableIterator;
use pgrx::name;
use pgrx::prelude::*;

use super::arguments::given;
use super::keys::{self, Table};
use crate::catalog;
use crate::error::{Error, OrRaise, Result};
use crate::policy::subtransaction::attempt_reading;
use crate::policy::{self, spi};

/// What a check names before it counts the rest.
const NAMED: usize = 10;

/// One question. The query returns for each thing that it found whether it is a fault, and words.
struct Check {
    name: &'static str,
    /// The status where there is a fault.
    level: &'static str,
    /// What is said where nothing was found.
    fine: &'static str,
    query: &'static str,
}

type Outcome = (String, String, String);

const SESSIONS: Check = Check {
    name: "active sessions",
    level: "warn",
    fine: "none",
    query: "
SELECT pg_catalog.jsonb_build_array(pg_catalog.count(*) > 100, pg_catalog.count(*) || ' besides this one')::pg_catalog.text
FROM pg_catalog.pg_stat_activity a
WHERE a.datname = pg_catalog.current_database() AND a.backend_type = 'client backend'
  AND a.state IS DISTINCT FROM 'idle' AND a.pid <> pg_catalog.pg_backend_pid()",
};

const PREPARED: Check = Check {
    name: "prepared transactions",
    level: "warn",
    fine: "none",
    query: "
SELECT pg_catalog.jsonb_build_array(true, pg_catalog.format('%s of %s, since %s', p.gid, p.owner, p.prepared))::pg_catalog.text
FROM pg_catalog.pg_prepared_xacts p WHERE p.database = pg_catalog.current_database() ORDER BY p.prepared",
};

const LONG: Check = Check {
    name: "long transactions",
    level: "warn",
    fine: "none",
    query: "
SELECT pg_catalog.jsonb_build_array(x.known, x.what)::pg_catalog.text FROM (
    SELECT true AS known, pg_catalog.format('process %s of %s, since %s', a.pid, a.usename, a.xact_start) AS what, a.xact_start
    FROM pg_catalog.pg_stat_activity a
    WHERE a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid()
      AND a.xact_start < pg_catalog.clock_timestamp() - $1::pg_catalog.interval
    UNION ALL
    SELECT false, pg_catalog.count(*) || ' sessions of other roles cannot be seen: ask as a member of pg_read_all_stats', NULL
    FROM pg_catalog.pg_stat_activity a
    WHERE a.datname = pg_catalog.current_database() AND a.query = '<insufficient privilege>' HAVING pg_catalog.count(*) > 0) x
ORDER BY x.xact_start",
};

const LOCKS: Check = Check {
    name: "locks on registered tables",
    level: "error",
    fine: "no exclusive lock is held",
    query: "
SELECT pg_catalog.jsonb_build_array(true, pg_catalog.format('%s: %s by %s', tenancy.qualified_name(p.relation), l.mode,
    coalesce('process ' || l.pid, 'a prepared transaction')))::pg_catalog.text
FROM pg_catalog.pg_locks l
JOIN tenancy.protected_tables p ON p.relation = l.relation
WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
  AND l.mode IN ('ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
ORDER BY l.pid",
};

const DRIFT: Check = Check {
    name: "protection",
    level: "error",
    fine: "every registered table is what was registered",
    query: "
SELECT pg_catalog.jsonb_build_array(true, pg_catalog.format('%s: %s', d.table_name, d.detail))::pg_catalog.text
FROM tenancy.drift() d ORDER BY d.table_name",
};

const TRIGGERS: Check = Check {
    name: "triggers",
    level: "error",
    fine: "none is disabled on a registered or bound table",
    query: "
SELECT pg_catalog.jsonb_build_array(true, pg_catalog.format('%I on %s is disabled', t.tgname, tenancy.qualified_name(t.tgrelid)))::pg_catalog.text
FROM pg_catalog.pg_trigger t
WHERE t.tgenabled IN ('D', 'R')
  AND t.tgrelid IN (SELECT p.relation::pg_catalog.oid FROM tenancy.protected_tables p
                    UNION SELECT b.relation FROM tenancy.bound_relations b)
ORDER BY t.tgrelid, t.tgname",
};

const INDEXES: Check = Check {
    name: "indexes",
    level: "warn",
    fine: "none is invalid",
    query: "
SELECT pg_catalog.jsonb_build_array(true, pg_catalog.format('%s of %s is invalid', tenancy.qualified_name(i.indexrelid), tenancy.qualified_name(i.indrelid)))::pg_catalog.text
FROM pg_catalog.pg_index i JOIN tenancy.user_relations r ON r.relation = i.indrelid
WHERE NOT (i.indisvalid AND i.indisready) ORDER BY i.indexrelid",
};

const COLUMNS: Check = Check {
    name: "tenant columns",
    level: "error",
    fine: "every registered table has its tenant column",
    query: "
SELECT pg_catalog.jsonb_build_array(true, pg_catalog.format('%s has no column %I', tenancy.qualified_name(p.relation), p.tenant_column))::pg_catalog.text
FROM tenancy.protected_tables p
WHERE p.tenant_column <> ''
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = p.relation AND a.attname = p.tenant_column
                    AND a.attnum > 0 AND NOT a.attisdropped)
ORDER BY p.relation",
};

const UNPROTECTED: Check = Check {
    name: "unprotected tables",
    level: "warn",
    fine: "every table with a tenant column is registered",
    query: "
SELECT pg_catalog.jsonb_build_array(true, tenancy.qualified_name(t.relation))::pg_catalog.text
FROM tenancy.tenant_tables t WHERE t.mode IS NULL AND t.bound_as IS NULL ORDER BY t.relation",
};

const EXPECTED: Check = Check {
    name: "expected columns",
    level: "error",
    fine: "every rule holds",
    query: "
SELECT pg_catalog.jsonb_build_array(true, pg_catalog.format('%I.%I.%I %s', s.schema_name, s.table_name, s.column_name, s.status))::pg_catalog.text
FROM tenancy.expected_column_states(false) s WHERE s.status <> 'OK'",
};

const CONSTRAINTS: Check = Check {
    name: "constraints",
    level: "warn",
    fine: "every constraint of a tenant table is validated",
    query: "
SELECT pg_catalog.jsonb_build_array(true, pg_catalog.format('%I of %s is not validated', k.conname, tenancy.qualified_name(k.conrelid)))::pg_catalog.text
FROM pg_catalog.pg_constraint k JOIN tenancy.tenant_tables t ON t.relation = k.conrelid
WHERE NOT k.convalidated ORDER BY k.conrelid, k.conname",
};

fn outcome(check: &Check, arguments: &[DatumWithOid<'_>]) -> Outcome {
    let found = attempt_reading(|| spi::rows::<(bool, String)>(check.query, arguments));
    let (status, detail) = match found {
        Ok(found) if found.is_empty() => ("ok", check.fine.to_owned()),
        Ok(found) => {
            let is_fault = found.iter().any(|(is_fault, _)| *is_fault);
            let mut words: Vec<String> = found.iter().take(NAMED).map(|(_, w)| w.clone()).collect();
            if found.len() > NAMED {
                words.push(format!("and {} more", found.len() - NAMED));
            }
            (if is_fault { check.level } else { "ok" }, words.join("; "))
        }
        // Not knowing counts as much as what is looked for.
        Err(failure) => (
            check.level,
            format!("could not be checked: {}", failure.sentence()),
        ),
    };
    (check.name.to_owned(), status.to_owned(), detail)
}

/// How many rows each registered table has.
fn row_counts(exact: bool) -> Result<Vec<Outcome>> {
    let mut counts = Vec::new();
    for (relation, _) in policy::registered_tables()? {
        let Some(name) = catalog::relation_name(relation) else {
            continue;
        };
        let (status, detail) = if exact {
            match attempt_reading(|| count(relation)) {
                Ok(rows) => ("ok", rows.to_string()),
                Err(failure) => (
                    "warn",
                    format!(
                        "about {}; could not be counted: {}",
                        keys::estimate(relation),
                        failure.sentence()
                    ),
                ),
            }
        } else {
            ("ok", format!("about {}", keys::estimate(relation)))
        };
        counts.push((format!("rows of {name}"), status.to_owned(), detail));
    }
    Ok(counts)
}

fn count(relation: pg_sys::Oid) -> Result<i64> {
    let table = Table::open(relation)?;
    table.tell();
    let rows: Vec<i64> = table.rows(
        &format!(
            "SELECT pg_catalog.to_json(pg_catalog.count(*))::pg_catalog.text FROM {}",
            table.name
        ),
        &[],
    )?;
    Ok(rows.into_iter().next().unwrap_or_default())
}

#[pg_extern(sql = false)]
fn pre_migration_check(
    exact: Option<bool>,
    long_transaction: Option<Interval>,
) -> TableIterator<
    'static,
    (
        name!(check, String),
        name!(status, String),
        name!(detail, String),
    ),
> {
    let run = || {
        let exact = given(exact, "exact")?;
        let long = given(long_transaction, "long_transaction")?;
        let mut outcomes = vec![
            outcome(&SESSIONS, &[]),
            outcome(&PREPARED, &[]),
            outcome(&LONG, &[long.into()]),
        ];
        for check in [&LOCKS, &DRIFT, &TRIGGERS, &INDEXES] {
            outcomes.push(outcome(check, &[]));
        }
        outcomes.extend(row_counts(exact)?);
        Ok::<_, Error>(outcomes)
    };
    TableIterator::new(run().or_raise())
}

#[pg_extern(sql = false)]
fn post_migration_check() -> TableIterator<
    'static,
    (
        name!(check, String),
        name!(status, String),
        name!(detail, String),
    ),
> {
    let checks = [
        &COLUMNS,
        &DRIFT,
        &UNPROTECTED,
        &EXPECTED,
        &CONSTRAINTS,
        &TRIGGERS,
        &INDEXES,
    ];
    let outcomes: Vec<Outcome> = checks.iter().map(|check| outcome(check, &[])).collect();
    TableIterator::new(outcomes)
}
