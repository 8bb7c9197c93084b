//! Attacks that can never be tried, and that somebody decided to live with.
//!
//! Owns what a waiver does to a result: it stays in the list, marked, and does not fail the gate. Must
//! never accept a leak, an attack by another role, nor one that could be tried with other rows or privileges.

use super::verdict::{Finding, Verdict};
use crate::catalog::quote_identifier;
use crate::error::Result;
use crate::policy::spi;

/// The code under which `tenancy.waive()` accepts them; their object is the role, the relation and the attack,
/// with a colon between them.
pub const CODE: &str = "not-attacked";

const WAIVED: &str = "
SELECT pg_catalog.jsonb_build_array(w.object, w.waived_by, w.reason)::pg_catalog.text
FROM tenancy.waivers AS w WHERE w.code = $1 AND w.until > pg_catalog.now()";

/// Marks what is accepted of what that role attacked.
pub fn mark(role: &str, findings: &mut [Finding]) -> Result<()> {
    let waived: Vec<(String, String, String)> = spi::rows(WAIVED, &[CODE.into()])?;
    let role = quote_identifier(role);
    for finding in findings {
        if finding.verdict != Verdict::NotAttacked || !finding.acceptable {
            continue;
        }
        let object = finding.object(&role);
        if let Some((_, who, reason)) = waived.iter().find(|(waived, ..)| *waived == object) {
            let accepted = format!("accepted by {who}: {reason}");
            finding.detail = Some(match finding.detail.take() {
                Some(detail) => format!("{detail}; {accepted}"),
                None => accepted,
            });
            finding.accepted = Some(reason.clone());
        }
    }
    Ok(())
}
