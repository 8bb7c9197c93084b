//! Waivers: findings that somebody decided to live with.
//!
//! Owns who may say so, and that each has a reason and an end. Must never hide a finding: it stays in
//! the list, marked.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use crate::catalog;
use crate::error::{Error, Kind, OrRaise, Result};
use crate::isolation::NOT_ATTACKED;
use crate::policy::{apply, spi};
use crate::registry::{self, ActingRole, extension_owner};

const WHY: &str = "A waiver lets a finding pass the gate.";

fn given<T>(value: Option<T>, argument: &str) -> Result<T> {
    value.ok_or_else(|| {
        Error::new(
            Kind::InvalidParameterValue,
            format!("argument \"{argument}\" is null"),
        )
        .hint("Give code, object, reason and until; 'infinity' is an end that never comes.")
    })
}

fn is_waivable(code: &str) -> Result<bool> {
    if code == NOT_ATTACKED {
        return Ok(true);
    }
    let known: Option<bool> = spi::row(
        "SELECT 'true' FROM tenancy.rules r WHERE r.code = $1",
        &[code.into()],
    )?;
    Ok(known.is_some())
}

#[pg_extern(sql = false)]
fn waive(
    code: Option<&str>,
    object: Option<&str>,
    reason: Option<&str>,
    until: Option<TimestampWithTimeZone>,
) {
    let run = || {
        registry::require_database_owner(WHY)?;
        let (code, object) = (given(code, "code")?, given(object, "object")?);
        let (reason, until) = (given(reason, "reason")?, given(until, "until")?);
        if !is_waivable(code)? {
            return Err(Error::new(
                Kind::UndefinedObject,
                format!("rule \"{code}\" does not exist or cannot be waived"),
            )
            .hint("Give a code of tenancy.rules, or not-attacked with role, relation and attack of tenancy.test_isolation()."));
        }
        if reason.trim().is_empty() {
            return Err(
                Error::new(Kind::InvalidParameterValue, "a waiver needs a reason")
                    .hint("Say why the finding may stay."),
            );
        }
        apply::see_own_changes();
        let caller = catalog::current_role_name();
        let _role = ActingRole::new(extension_owner()?);
        spi::execute(
            "INSERT INTO tenancy.waivers (code, object, reason, until, waived_by)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (code, object) DO UPDATE SET reason = EXCLUDED.reason, until = EXCLUDED.until,
                 waived_by = EXCLUDED.waived_by, waived_at = pg_catalog.now()",
            &[
                code.into(),
                object.into(),
                reason.into(),
                until.into(),
                caller.into(),
            ],
        )
    };
    run().or_raise();
}

#[pg_extern(sql = false)]
fn unwaive(code: Option<&str>, object: Option<&str>) -> bool {
    let run = || {
        registry::require_database_owner(WHY)?;
        let (code, object) = (given(code, "code")?, given(object, "object")?);
        apply::see_own_changes();
        let there: Option<bool> = spi::row(
            "SELECT 'true' FROM tenancy.waivers w WHERE w.code = $1 AND w.object = $2",
            &[code.into(), object.into()],
        )?;
        let _role = ActingRole::new(extension_owner()?);
        spi::execute(
            "DELETE FROM tenancy.waivers w WHERE w.code = $1 AND w.object = $2",
            &[code.into(), object.into()],
        )?;
        Ok::<_, Error>(there.is_some())
    };
    run().or_raise()
}
