//! Whether a table can be enforced without breaking anything that was seen.
//!
//! Owns the reasons against it, in words for the report and for the error of `set_mode`. Must answer no
//! wherever something may have gone unseen.

use pgrx::pg_sys;

use super::store::{self, seen};
use super::unseen;
use crate::error::Result;

/// The reason that a table below another may have.
pub const NO_STATEMENT: &str = "no statement was seen that enforcement would bind";

/// What is known of one table.
#[derive(Debug, Default)]
pub struct Readiness {
    /// Statements that enforcement would bind.
    pub statements: i64,
    /// Statements of roles that it would not.
    pub exempt_statements: i64,
    /// Rows and statements that would be denied, since the table is in shadow mode.
    pub denials: i64,
    /// Statements whose records were false alarms.
    pub dismissed: i64,
    pub last_denial: Option<i64>,
    /// Why not; nothing where it is ready.
    pub reasons: Vec<String>,
}

/// What is known of a table, in that mode since that moment.
pub fn of(relation: pg_sys::Oid, mode: &str, since: i64) -> Result<Readiness> {
    let is_recorded = store::attach();
    let seen = seen::of(relation.to_u32()).unwrap_or_default();
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let mut found = Readiness {
        statements: number(seen.statements),
        exempt_statements: number(seen.exempt),
        dismissed: number(seen.dismissed),
        ..Readiness::default()
    };
    for line in store::lines_of(relation.to_u32()) {
        if !line.is_refused && line.last_seen >= since {
            found.denials += line.rows;
            found.last_denial = found.last_denial.max(Some(line.last_seen));
        }
    }
    match mode {
        "enforce" => return Ok(found),
        "shadow" => {}
        _ => {
            found.reasons.push("not in shadow mode".to_owned());
            return Ok(found);
        }
    }
    let mut against = |reason: String| found.reasons.push(reason);
    if !is_recorded {
        against("nothing is recorded: pg_tenancy is not in shared_preload_libraries".to_owned());
        return Ok(found);
    }
    if found.denials > 0 {
        against(format!("denials: {}", found.denials));
    }
    if seen.overflowed > 0 {
        against(format!(
            "denials that found no room: {} (raise pg_tenancy.shadow_entries)",
            seen.overflowed
        ));
    }
    if seen.unhooked > 0 {
        against(format!(
            "sessions that ran without pg_tenancy when this began: {} (once they have ended, call tenancy.reset_shadow())",
            seen.unhooked
        ));
    }
    if seen.statements == 0 {
        against(NO_STATEMENT.to_owned());
    }
    found.reasons.extend(unseen::sessions(since)?);
    Ok(found)
}
