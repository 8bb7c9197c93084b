//! Reading what the page shows.
//!
//! Owns the queries, which run with the caller's rights over views that judge those by themselves. Must
//! never write.

use serde::Deserialize;

use super::data::{Denial, Findings, Report, Table};
use super::health;
use crate::error::Result;
use crate::policy::spi;

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

/// All that the page shows, with what the validator finds where that is asked for.
pub fn report(with_findings: bool) -> Result<Report> {
    let head: Option<Head> = spi::row(HEAD, &[])?;
    let head = head.unwrap_or_default();
    // Asked for once: they take the longest.
    let found = with_findings.then(health::found);
    Ok(Report {
        database: head.database,
        made_at: head.made_at,
        time_zone: head.time_zone,
        tables: spi::rows::<Table>(TABLES, &[])?,
        denials: spi::rows::<Denial>(DENIALS, &[])?,
        health: found.as_ref().map(health::health_with),
        // The rest of the page is worth having where they failed.
        findings: match found {
            None => Findings::NotAsked,
            Some(Ok(found)) => Findings::Found(found),
            Some(Err(message)) => Findings::Failed(message),
        },
    })
}
