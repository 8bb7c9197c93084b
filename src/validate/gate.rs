//! `tenancy.assert_valid()`: the gate for CI.
//!
//! Owns which findings stop and how they are told. Must never pass because something could not be seen.

use pgrx::datum::Array;
use pgrx::prelude::*;

use super::run::{Finding, findings, names};
use crate::error::{Error, Kind, OrRaise, Result};
use crate::policy::spi;

/// Findings that a DETAIL names.
const NAMED: usize = 50;

/// The worst first.
const LEVELS: [&str; 3] = ["error", "warn", "info"];

fn rank(level: &str) -> Result<usize> {
    LEVELS
        .iter()
        .position(|known| *known == level)
        .ok_or_else(|| {
            Error::new(
                Kind::InvalidParameterValue,
                format!("level \"{level}\" does not exist"),
            )
            .hint("Give error, warn or info.")
        })
}

const WAIVED: &str = "
SELECT pg_catalog.jsonb_build_array(w.code, w.object)::pg_catalog.text
FROM tenancy.waivers w WHERE w.until > pg_catalog.now()";

// By its SQL, which plans as reading rows needs it.
const DATA: &str = "
SELECT pg_catalog.jsonb_build_object('code', f.code, 'level', f.level, 'object', f.object, 'detail', f.detail,
    'remediation', f.remediation)::pg_catalog.text
FROM tenancy.findings_of_data($1, NULL) AS f";

#[pg_extern(sql = false)]
fn assert_valid(level: Option<&str>, schemas: Option<Array<'_, &str>>, data: Option<bool>) {
    let run = || {
        let worst = rank(level.unwrap_or_default())?;
        let schemas = names(schemas);
        let waived: Vec<(String, String)> = spi::rows(WAIVED, &[])?;
        let mut left = Vec::new();
        let mut all = findings(schemas.clone())?;
        if data == Some(true) {
            all.extend(spi::rows::<Finding>(DATA, &[schemas.into()])?);
        }
        for finding in all {
            let is_waived = waived
                .iter()
                .any(|(code, object)| *code == finding.code && *object == finding.object);
            let rank = rank(&finding.level)?;
            if !is_waived && rank <= worst {
                left.push((rank, finding));
            }
        }
        left.sort_by_key(|(rank, _)| *rank);
        let left: Vec<Finding> = left.into_iter().map(|(_, finding)| finding).collect();
        verdict(&left)
    };
    run().or_raise();
}

fn verdict(left: &[Finding]) -> Result<()> {
    if left.is_empty() {
        return Ok(());
    }
    let mut lines: Vec<String> = left
        .iter()
        .take(NAMED)
        .map(|f| format!("{} {}: {}: {}", f.level, f.code, f.object, f.detail))
        .collect();
    if left.len() > NAMED {
        lines.push(format!("and {} more", left.len() - NAMED));
    }
    let findings = if left.len() == 1 {
        "finding"
    } else {
        "findings"
    };
    Err(Error::new(
        Kind::ObjectNotInPrerequisiteState,
        format!("tenancy is not tight: {} {findings}", left.len()),
    )
    .detail(lines.join("\n"))
    .hint("Run the remediation that tenancy.validate() gives, or tenancy.waive() what may stay."))
}
