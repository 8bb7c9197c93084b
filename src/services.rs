//! Service roles: `tenancy.create_service_role()`.
//!
//! Owns which roles are believed when they say for which tenant they act (`context::service`). What is
//! granted is granted with the caller's own rights.

use core::ffi::CStr;

use pgrx::prelude::*;

use crate::error::{Error, Kind, OrRaise, Result};
use crate::guard;
use crate::policy::{self, apply, spi};
use crate::registry::{self, ActingRole, extension_owner};

extension_sql_file!(
    "../sql/46_service_role.sql",
    name = "service_role",
    requires = ["policy"]
);

const WHY: &str = "A service role acts for every tenant.";

/// Where the application's tables are, as far as is known.
const SCHEMAS: &str = "
SELECT DISTINCT pg_catalog.to_json(p.schema_name::pg_catalog.text)::pg_catalog.text FROM tenancy.protected_tables p";

fn named(name: Option<&CStr>) -> Result<String> {
    let name = name.ok_or_else(|| {
        Error::new(Kind::NullValueNotAllowed, "argument \"name\" is null")
            .hint("Give the name of a role.")
    })?;
    Ok(name.to_string_lossy().into_owned())
}

#[pg_extern(sql = false)]
fn create_service_role(name: Option<&CStr>) {
    let run = || {
        let name = named(name)?;
        registry::require_database_owner(WHY)?;
        apply::see_own_changes();
        policy::make_bound_role(&name, true)?;
        for schema in spi::rows::<String>(SCHEMAS, &[])? {
            policy::grant_on(&name, &schema)?;
        }
        policy::keep_role("service_roles", &name)?;
        guard::announce();
        Ok::<_, Error>(())
    };
    run().or_raise();
}

#[pg_extern(sql = false)]
fn retire_service_role(name: Option<&CStr>) -> bool {
    let run = || {
        let name = named(name)?;
        registry::require_database_owner(WHY)?;
        apply::see_own_changes();
        let _role = ActingRole::new(extension_owner()?);
        let gone: Option<String> = spi::changed_row(
            "DELETE FROM tenancy.service_roles s WHERE s.role_name = $1
             RETURNING pg_catalog.to_json(s.role_name)::pg_catalog.text",
            &[name.into()],
        )?;
        // It is none in running transactions either.
        guard::announce();
        Ok::<_, Error>(gone.is_some())
    };
    run().or_raise()
}
