//! The guard of enforcement: a table in shadow mode is enforced when its report says so.

use pgrx::pg_sys;
use serde::Deserialize;

use super::spi;
use crate::catalog;
use crate::error::{Error, Kind, Result};
use crate::registry::PinnedSearchPath;

#[derive(Deserialize)]
struct Report {
    ready: bool,
    reasons: Vec<String>,
}

/// Fails unless shadow mode has found nothing that enforcing the table would change.
pub fn require(relation: pg_sys::Oid) -> Result<()> {
    let _path = PinnedSearchPath::new();
    let report: Option<Report> = spi::row(
        "SELECT jsonb_build_object('ready', ready, 'reasons', reasons)::text
         FROM tenancy.shadow_report() WHERE relation = $1",
        &[relation.into()],
    )?;
    let Some(report) = report.filter(|report| !report.ready) else {
        return Ok(());
    };
    let name = catalog::relation_name(relation)
        .map(|name| name.to_string())
        .unwrap_or_default();
    Err(Error::new(
        Kind::ObjectNotInPrerequisiteState,
        format!("table {name} is not ready to be enforced"),
    )
    .detail(format!("{}.", report.reasons.join("; ")))
    .hint("See tenancy.shadow_report() and tenancy.shadow_denials; mend the application, call tenancy.reset_shadow(..) and watch again, or give force => true."))
}
