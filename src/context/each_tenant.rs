//! `tenancy.for_each_tenant()`: one command, for one tenant after the other.
//!
//! Owns which tenants there are, and that each run is undone alone. Runs the command with the caller's
//! rights and `search_path`, and refuses where row security would not hold it to the tenant.

use pgrx::iter::TableIterator;
use pgrx::name;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::service::{self, Acting};
use crate::binding::{self, Binding};
use crate::catalog;
use crate::checks::keys::Table;
use crate::error::{Error, Kind, OrRaise, Result};
use crate::policy::subtransaction::{attempt, sqlstate};
use crate::policy::{apply, spi};
use crate::text::Argument;

/// How many notices of progress a run gives, about.
const NOTICES: usize = 100;

/// All active tenants.
fn tenants(binding: &Binding) -> Result<Vec<String>> {
    let (bound, column, active) = if let Some(tenants) = &binding.tenants {
        let active = binding.tenants_active.as_deref();
        (tenants, &binding.tenants_id, active)
    } else if let Some(membership) = &binding.membership {
        (membership, &binding.membership_tenant, None)
    } else {
        return Err(Error::new(
            Kind::ObjectNotInPrerequisiteState,
            "nothing says which tenants there are",
        )
        .hint("Bind a tenants table with tenancy.bind, or call tenancy.as_tenant() for each."));
    };
    let table = Table::for_service(bound.relation)?;
    Ok(table.count_by(column, active)?.into_keys().collect())
}

/// Row security must hold the command to the tenant: it would else do for all what is meant for one.
fn require_bound(unbound: bool) -> Result<()> {
    // SAFETY: reads of the backend's state and a catalog lookup by oid.
    let (role, is_exempt) = unsafe {
        let role = pg_sys::GetUserId();
        (role, pg_sys::has_bypassrls_privilege(role))
    };
    if !is_exempt {
        return require_enforced(unbound);
    }
    let role = catalog::quote_identifier(&catalog::role_name(role));
    let message = format!("row security does not bind role {role}");
    let detail = "The command would see the rows of all tenants, once for each.";
    if unbound {
        apply::warning(&message, Some(detail), None);
        return Ok(());
    }
    Err(Error::new(Kind::ObjectNotInPrerequisiteState, message)
        .detail(detail)
        .hint("SET ROLE to a service role first, or give unbound => true."))
}

/// The registered tables that the role may use and that do not hold it to one tenant: not enforced yet, or its own
/// and not forced.
const OPEN: &str = "
SELECT pg_catalog.to_jsonb(tenancy.qualified_name(p.relation))::pg_catalog.text FROM tenancy.protected_tables p
WHERE p.relation IS NOT NULL AND (pg_catalog.has_any_column_privilege(p.relation, 'SELECT, INSERT, UPDATE') OR pg_catalog.has_table_privilege(p.relation, 'DELETE'))
  AND (p.mode <> 'enforce' OR NOT pg_catalog.row_security_active(p.relation))
ORDER BY p.schema_name, p.table_name";

fn require_enforced(unbound: bool) -> Result<()> {
    let open: Vec<String> = spi::rows(OPEN, &[])?;
    if open.is_empty() {
        return Ok(());
    }
    let message = "row security does not hold every table to the tenant";
    let detail = format!(
        "A command on these would see the rows of all tenants, once for each: {}.",
        open.join(", ")
    );
    if unbound {
        apply::warning(message, Some(&detail), None);
        return Ok(());
    }
    Err(Error::new(Kind::ObjectNotInPrerequisiteState, message)
        .detail(detail)
        .hint("Enforce them first, or give unbound => true and let the command filter by itself."))
}

/// Runs the command and says how many rows its last statement touched or returned.
fn run(command: &str) -> Result<i64> {
    let text = catalog::c_string(command);
    // SAFETY: SPI is connected and finished here; an error in between unwinds to the subtransaction, whose
    // end finishes it.
    let (outcome, rows) = unsafe {
        pg_sys::SPI_connect();
        let outcome = pg_sys::SPI_execute(text.as_ptr(), false, 0);
        let rows = pg_sys::SPI_processed;
        pg_sys::SPI_finish();
        (outcome, rows)
    };
    match outcome {
        pg_sys::SPI_ERROR_TRANSACTION => Err(Error::new(
            Kind::ActiveSqlTransaction,
            "the command may not end the transaction",
        )
        .hint("Leave COMMIT and ROLLBACK out: each tenant is a subtransaction.")),
        pg_sys::SPI_ERROR_COPY => Err(Error::new(
            Kind::FeatureNotSupported,
            "the command may not copy from or to the client",
        )
        .hint("Use INSERT or SELECT.")),
        negative if negative < 0 => Err(Error::new(
            Kind::FeatureNotSupported,
            "the command cannot be run here",
        )
        .hint("Use a plain SQL statement.")),
        _ => Ok(i64::try_from(rows).unwrap_or(i64::MAX)),
    }
}

/// Constraints that may be checked late: at the end of each tenant's turn, since at the end of the
/// transaction nobody would know whose they are.
struct Late {
    exist: bool,
}

/// Those that begin deferred, by names that mean no other kind as well. Others of a name that is not
/// theirs alone stay immediate: too strict for later tenants, and never too late.
const DEFERRED: &str = "
SELECT pg_catalog.to_jsonb(pg_catalog.format('%I.%I', n.nspname, c.conname))::pg_catalog.text
FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace
WHERE c.conrelid <> 0 AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
GROUP BY n.nspname, c.conname HAVING pg_catalog.bool_and(c.condeferred)";

impl Late {
    /// Looks whether there are any, and checks what the caller left open: it is no tenant's.
    fn begin() -> Result<Self> {
        let exist: Option<bool> = spi::row(
            "SELECT pg_catalog.to_jsonb(EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgdeferrable))::pg_catalog.text",
            &[],
        )?;
        let late = Self {
            exist: exist.unwrap_or(true),
        };
        late.check()?;
        Ok(late)
    }

    /// Checks what is open, with the caller's `search_path`, and puts all to what they are declared as.
    fn check(&self) -> Result<()> {
        if !self.exist {
            return Ok(());
        }
        run("SET CONSTRAINTS ALL IMMEDIATE")?;
        let deferred: Vec<String> = spi::rows(DEFERRED, &[])?;
        if !deferred.is_empty() {
            run(&format!("SET CONSTRAINTS {} DEFERRED", deferred.join(", ")))?;
        }
        Ok(())
    }
}

type Outcome = (String, Option<i64>, Option<String>);

fn for_all(command: &str, stop_at_error: bool) -> Result<Vec<Outcome>> {
    let binding = binding::required()?;
    let tenants = tenants(&binding)?;
    let late = Late::begin()?;
    let step = tenants.len().div_ceil(NOTICES).max(1);
    let mut outcomes = Vec::with_capacity(tenants.len());
    for (number, tenant) in tenants.iter().enumerate() {
        let outcome = attempt(|| {
            let _acting = Acting::for_tenant(&binding, tenant)?;
            let rows = run(command)?;
            late.check()?;
            Ok(rows)
        });
        let failed = outcome.is_err();
        outcomes.push(match outcome {
            Ok(rows) => (tenant.clone(), Some(rows), None),
            Err(failure) => {
                let code = sqlstate(failure.code);
                (
                    tenant.clone(),
                    None,
                    Some(format!("{code}: {}", failure.sentence())),
                )
            }
        });
        if (number + 1) % step == 0 {
            apply::notice(
                &format!("{} of {} tenants done", number + 1, tenants.len()),
                None,
            );
        }
        if failed && stop_at_error {
            break;
        }
    }
    Ok(outcomes)
}

#[pg_extern(sql = false)]
fn for_each_tenant(
    command: Option<Argument>,
    stop_at_error: Option<bool>,
    unbound: Option<bool>,
) -> TableIterator<
    'static,
    (
        name!(tenant, String),
        name!(rows, Option<i64>),
        name!(error, Option<String>),
    ),
> {
    let run = || {
        let null = |argument: &str| {
            Error::new(
                Kind::NullValueNotAllowed,
                format!("argument \"{argument}\" is null"),
            )
            .hint(format!("Give a value for {argument}."))
        };
        let command = command.ok_or_else(|| null("command"))?;
        let stop_at_error = stop_at_error.ok_or_else(|| null("stop_at_error"))?;
        let unbound = unbound.ok_or_else(|| null("unbound"))?;
        if command.trim().is_empty() {
            return Err(
                Error::new(Kind::InvalidParameterValue, "the command is empty")
                    .hint("Give the SQL to run for each tenant."),
            );
        }
        service::require_service_session()?;
        require_bound(unbound)?;
        for_all(&command, stop_at_error)
    };
    TableIterator::new(run().or_raise())
}
