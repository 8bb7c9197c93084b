//! The guard of enforcement: a table in shadow mode is enforced when its report says so.

use pgrx::pg_sys;
use serde::Deserialize;

use super::inspect;
use super::spi;
use super::store;
use crate::catalog;
use crate::error::{Error, Kind, Result};
use crate::registry::{ActingRole, PinnedSearchPath, extension_owner};
use crate::shadow::NO_STATEMENT;

#[derive(Deserialize)]
struct Report {
    ready: bool,
    reasons: Vec<String>,
}

/// Fails unless shadow mode has found nothing that enforcing the table, and all below it, would change.
pub fn require(relation: pg_sys::Oid) -> Result<()> {
    match report(relation)? {
        Some(report) if report.ready => {}
        Some(report) => return Err(not_ready(relation, &report.reasons)),
        None => return Err(not_ready(relation, &[UNWATCHED.to_owned()])),
    }
    // Statements that name a partition are in its own report; that there are none says nothing.
    let facts = inspect::facts_without_size(relation, "")?;
    for below in facts.map(|facts| facts.descendants).unwrap_or_default() {
        let below = pg_sys::Oid::from(below);
        let Some(mut report) = report(below)? else {
            return Err(not_ready(below, &[UNWATCHED.to_owned()]));
        };
        report.reasons.retain(|reason| reason != NO_STATEMENT);
        if !report.reasons.is_empty() {
            return Err(not_ready(below, &report.reasons));
        }
    }
    Ok(())
}

const UNWATCHED: &str = "it was made since, and is not in shadow mode: protect its parent again";

fn not_ready(relation: pg_sys::Oid, reasons: &[String]) -> Error {
    let name = catalog::relation_name(relation)
        .map(|name| name.to_string())
        .unwrap_or_default();
    Error::new(
        Kind::ObjectNotInPrerequisiteState,
        format!("table {name} is not ready to be enforced"),
    )
    .detail(format!("{}.", reasons.join("; ")))
    .hint("See tenancy.shadow_report() and tenancy.shadow_denials; mend the application, call tenancy.reset_shadow(..) and watch again, or give force => true.")
}

/// What `tenancy.shadow_report()` says of that table.
fn report(relation: pg_sys::Oid) -> Result<Option<Report>> {
    // Under the name that it was registered by: it may have been renamed since.
    let Some(row) = store::of(relation)? else {
        return Ok(None);
    };
    let _path = PinnedSearchPath::new();
    let _role = ActingRole::new(extension_owner()?);
    spi::row(
        "SELECT jsonb_build_object('ready', r.ready, 'reasons', r.reasons)::text
         FROM tenancy.protection p CROSS JOIN LATERAL tenancy.shadow_readiness($1, p.mode, p.mode_since) r
         WHERE p.schema_name = $2 AND p.table_name = $3",
        &[
            relation.into(),
            row.schema_name.as_str().into(),
            row.table_name.as_str().into(),
        ],
    )
}
