//! Sessions that run without the hooks, so that what they do goes unseen.
//!
//! Owns the question. With `shared_preload_libraries` there are none.

use pgrx::pg_sys;
use serde::Deserialize;

use super::store::seen;
use crate::error::Result;
use crate::gucs;
use crate::policy::spi;
use crate::registry::{self, ActingRole, PinnedSearchPath};

#[derive(Deserialize)]
struct Setting {
    is_for_all: bool,
    exceptions: Vec<String>,
}

#[derive(Deserialize)]
struct Session {
    process: i64,
    started: i64,
}

/// What stands against believing that everything was seen since that moment.
pub fn sessions(since: i64) -> Result<Vec<String>> {
    if gucs::comes_with_server() {
        return Ok(Vec::new());
    }
    let mut reasons = Vec::new();
    let _role = ActingRole::new(registry::extension_owner()?);
    let _path = PinnedSearchPath::new();
    let setting: Option<Setting> = spi::row(
        "SELECT jsonb_build_object(
             'is_for_all', s.source IN ('configuration file', 'command line', 'database'),
             'exceptions', ARRAY(
                 SELECT DISTINCT r.rolname FROM pg_catalog.pg_db_role_setting d
                 JOIN pg_catalog.pg_roles r ON r.oid = d.setrole
                 CROSS JOIN LATERAL unnest(d.setconfig) AS c(entry)
                 WHERE c.entry LIKE 'session\\_preload\\_libraries=%' AND c.entry NOT LIKE '%pg\\_tenancy%'
                   AND d.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
                 ORDER BY 1))::text
         FROM pg_catalog.pg_settings s WHERE s.name = 'session_preload_libraries' AND s.setting LIKE '%pg\\_tenancy%'",
        &[],
    )?;
    match setting {
        Some(setting) => {
            if !setting.is_for_all {
                reasons.push(
                    "session_preload_libraries names pg_tenancy for some roles only".to_owned(),
                );
            }
            for role in setting.exceptions {
                reasons.push(format!("sessions of {role} do not load pg_tenancy"));
            }
        }
        None => reasons.push("session_preload_libraries does not name pg_tenancy".to_owned()),
    }
    let without = without_hooks(Some(since))?;
    if without > 0 {
        reasons.push(format!(
            "sessions that run without pg_tenancy: {without} (they started before it was configured)"
        ));
    }
    Ok(reasons)
}

/// Counting begins for a table. Sessions that run without the hooks by now may use it and end unseen: sessions
/// that start later have them.
pub fn begin(relation: pg_sys::Oid) -> Result<()> {
    let without = if gucs::comes_with_server() {
        0
    } else {
        let _role = ActingRole::new(registry::extension_owner()?);
        let _path = PinnedSearchPath::new();
        without_hooks(None)?
    };
    seen::begin(seen::key(relation.to_u32()), without);
    Ok(())
}

/// How many sessions of this database have no hooks, of those that did something since that moment.
fn without_hooks(since: Option<i64>) -> Result<u64> {
    let sessions: Vec<Session> = spi::rows(
        "SELECT jsonb_build_object('process', pid,
             'started', (extract(epoch FROM backend_start - timestamptz '2000-01-01 00:00:00+00') * 1000000)::bigint)::text
         FROM pg_catalog.pg_stat_activity
         WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
           AND ($1 IS NULL OR query_start >= timestamptz '2000-01-01 00:00:00+00' + $1 * interval '1 microsecond')",
        &[since.into()],
    )?;
    let without = sessions
        .iter()
        .filter(|session| !seen::has_registered(session.process, session.started));
    Ok(without.count() as u64)
}
