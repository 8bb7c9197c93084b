//! Reading what the page shows.
//!
//! Owns the queries, which run with the caller's rights over views that judge those by themselves. Must
//! never write.

use serde::Deserialize;

use super::data::{Denial, Finding, Findings, Report, Table};
use super::health::{Found, Health, health_with};
use crate::error::Result;
use crate::policy::spi;
use crate::policy::subtransaction::attempt_reading;

macro_rules! spelled {
    ($column:literal) => {
        concat!("pg_catalog.to_char(", $column, ", 'YYYY-MM-DD HH24:MI:SS')")
    };
}

#[derive(Default, Deserialize)]
struct Head {
    database: String,
    made_at: String,
    time_zone: String,
}

const HEAD: &str = concat!(
    "SELECT pg_catalog.jsonb_build_object('database', pg_catalog.current_database(), 'made_at', ",
    spelled!("pg_catalog.statement_timestamp()"),
    ", 'time_zone', pg_catalog.current_setting('TimeZone'))::pg_catalog.text"
);

const TABLES: &str = concat!(
    "SELECT pg_catalog.jsonb_build_object('relation', tenancy.qualified_name(r.relation), 'mode', r.mode,
       'statements', r.statements, 'denials', r.denials, 'ready', r.ready, 'reasons', pg_catalog.to_jsonb(r.reasons),
       'since', ",
    spelled!("r.since"),
    ", 'last_denial', ",
    spelled!("r.last_denial"),
    ")::pg_catalog.text
     FROM tenancy.shadow_report() AS r WHERE tenancy.qualified_name(r.relation) IS NOT NULL
     ORDER BY tenancy.qualified_name(r.relation) COLLATE \"C\""
);

const DENIALS: &str = concat!(
    "SELECT pg_catalog.jsonb_build_object('relation', tenancy.qualified_name(d.relation), 'command', d.command,
       'kind', d.kind, 'role', d.role, 'app_user', d.app_user, 'context_tenant', d.context_tenant,
       'row_tenant', d.row_tenant, 'query', d.query, 'application_name', d.application_name,
       'precision', d.\"precision\", 'confirmed', d.confirmed, 'rows', d.rows, 'statements', d.statements,
       'first', extract(epoch FROM d.first_seen), 'last', extract(epoch FROM d.last_seen), 'first_seen', ",
    spelled!("d.first_seen"),
    ", 'last_seen', ",
    spelled!("d.last_seen"),
    ")::pg_catalog.text
     FROM tenancy.shadow_denials AS d WHERE tenancy.qualified_name(d.relation) IS NOT NULL
     ORDER BY d.last_seen DESC, d.first_seen, d.relation"
);

const FINDINGS: &str = "
SELECT pg_catalog.jsonb_build_object('code', v.code, 'rule', r.code, 'topic', r.topic, 'level', v.level,
  'object', v.object, 'detail', v.detail, 'remediation', v.remediation, 'waived', v.waived,
  'reason', v.reason)::pg_catalog.text
FROM tenancy.validate() AS v
LEFT JOIN tenancy.rules AS r ON r.code = CASE v.code WHEN 'rule-failed' THEN pg_catalog.substr(v.object, 6) ELSE v.code END
ORDER BY v.code COLLATE \"C\", v.object COLLATE \"C\"";

/// All that the page shows, with what the validator finds where that is asked for.
pub fn report(with_findings: bool) -> Result<Report> {
    let head: Option<Head> = spi::row(HEAD, &[])?;
    let head = head.unwrap_or_default();
    let findings = findings(with_findings);
    Ok(Report {
        database: head.database,
        made_at: head.made_at,
        time_zone: head.time_zone,
        tables: spi::rows::<Table>(TABLES, &[])?,
        denials: spi::rows::<Denial>(DENIALS, &[])?,
        health: health(&findings),
        findings,
    })
}

/// The findings are asked for once: they take the longest.
fn health(findings: &Findings) -> Option<Vec<Health>> {
    let found = match findings {
        Findings::NotAsked => return None,
        Findings::Failed(message) => Err(message.clone()),
        Findings::Found(all) => Ok(all
            .iter()
            .map(|finding| Found {
                code: finding.code.clone(),
                rule: finding.rule.clone(),
                topic: finding.topic.clone(),
                level: finding.level.clone(),
                waived: finding.waived,
            })
            .collect()),
    };
    Some(health_with(&found))
}

fn findings(asked: bool) -> Findings {
    if !asked {
        return Findings::NotAsked;
    }
    match attempt_reading(|| spi::rows::<Finding>(FINDINGS, &[])) {
        Ok(found) => Findings::Found(found),
        // The rest of the page is worth having.
        Err(failure) => Findings::Failed(failure.sentence()),
    }
}
