//! Who may have a role tested, and which roles are not worth a test.
//!
//! Must never run anything as a role that the caller could not take himself.

use pgrx::pg_sys;

use super::tables::Target;
use crate::catalog::{self, quote_identifier};
use crate::error::{Error, Kind, Result};
use crate::pg_compat;
use crate::policy::spi;
use crate::registry::require_administrator;

/// The role of that name, if the caller may take it.
pub fn role(name: &str) -> Result<pg_sys::Oid> {
    let role = catalog::role_oid(name).ok_or_else(|| {
        Error::new(
            Kind::UndefinedObject,
            format!("role {} does not exist", quote_identifier(name)),
        )
        .hint("Give the role that the application connects as.")
    })?;
    // SAFETY: a plain read of the backend's state.
    if pg_compat::can_set_role(unsafe { pg_sys::GetUserId() }, role) {
        return Ok(role);
    }
    Err(Error::new(
        Kind::InsufficientPrivilege,
        format!("must be able to SET ROLE {}", quote_identifier(name)),
    )
    .detail("Attacks run as the role that is tested.")
    .hint("Ask a superuser, or a member of the role who owns the tables."))
}

/// Fails unless the caller administers every table: rows of all tenants are read, and locked.
pub fn require_tables(targets: &[Target]) -> Result<()> {
    targets
        .iter()
        .try_for_each(|target| require_administrator(target.table.oid()))
}

/// A role that row security does not bind, among all that the role is a member of: itself first.
const EXEMPT: &str = "
SELECT pg_catalog.jsonb_build_array(r.rolname, CASE WHEN r.rolsuper THEN 'is a superuser' WHEN r.rolbypassrls THEN 'has BYPASSRLS'
    WHEN r.rolreplication THEN 'has REPLICATION' ELSE 'reaches the files of the server' END)::pg_catalog.text
FROM pg_catalog.pg_roles r
WHERE (r.rolsuper OR r.rolbypassrls OR r.rolreplication
       OR r.rolname IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program')) AND (r.oid = $1 OR pg_catalog.pg_has_role($1, r.oid, 'MEMBER'))
ORDER BY r.oid <> $1, r.rolname LIMIT 1";

/// Settings that sessions of the role begin with, those of the extension left out; the later ones count.
pub fn settings(role: pg_sys::Oid) -> Result<Vec<(String, String)>> {
    spi::rows(
        "SELECT pg_catalog.jsonb_build_array(pg_catalog.split_part(s.setting, '=', 1),
             pg_catalog.substr(s.setting, pg_catalog.strpos(s.setting, '=') + 1))::pg_catalog.text
         FROM pg_catalog.pg_db_role_setting d CROSS JOIN LATERAL pg_catalog.unnest(d.setconfig) WITH ORDINALITY AS s(setting, place)
         WHERE d.setrole IN (0, $1) AND d.setdatabase IN (0, (SELECT b.oid FROM pg_catalog.pg_database b WHERE b.datname = pg_catalog.current_database()))
           AND pg_catalog.split_part(s.setting, '=', 1) LIKE '%.%' AND s.setting !~ '^(pg_)?tenancy\\.'
         ORDER BY d.setrole <> 0, d.setdatabase <> 0, s.place",
        &[role.into()],
    )
}

/// Roles that it can take, and whose privileges it has only then.
pub fn others(role: pg_sys::Oid) -> Result<Vec<String>> {
    spi::rows(
        "SELECT pg_catalog.to_jsonb(pg_catalog.quote_ident(r.rolname))::pg_catalog.text FROM pg_catalog.pg_roles r
         WHERE pg_catalog.pg_has_role($1, r.oid, 'MEMBER') AND NOT pg_catalog.pg_has_role($1, r.oid, 'USAGE')
         ORDER BY r.rolname",
        &[role.into()],
    )
}

/// Whether it can make itself a member of any role.
pub fn grants_itself_any(role: pg_sys::Oid) -> Result<bool> {
    let creates = spi::row::<bool>(
        "SELECT pg_catalog.to_jsonb(pg_catalog.bool_or(r.rolcreaterole))::pg_catalog.text FROM pg_catalog.pg_roles r
         WHERE pg_catalog.pg_has_role($1, r.oid, 'MEMBER')",
        &[role.into()],
    )?;
    Ok(pg_compat::CREATEROLE_GRANTS_ANY_ROLE && creates.unwrap_or(false))
}

/// Fails where row security does not bind the role, so that every attack would succeed, or could be
/// made to.
pub fn require_bound(role: pg_sys::Oid, targets: &[Target]) -> Result<()> {
    let name = quote_identifier(&catalog::role_name(role));
    let refused = |detail: String| {
        Err(Error::new(
            Kind::ObjectNotInPrerequisiteState,
            format!("row security does not bind role {name}"),
        )
        .detail(detail)
        .hint("Test the role that the application connects as; tenancy.create_app_role() makes one that is bound."))
    };
    if let Some((exempt, why)) = spi::row::<(String, String)>(EXEMPT, &[role.into()])? {
        let exempt = quote_identifier(&exempt);
        return refused(if exempt == name {
            format!("It {why}.")
        } else {
            format!("It is a member of {exempt}, which {why}.")
        });
    }
    let owned = targets.iter().find(|target| {
        // SAFETY: a catalog lookup by oid.
        let owns = unsafe { pg_sys::is_member_of_role(role, target.table.owner()) };
        owns && !target.table.forced
    });
    match owned {
        Some(target) => refused(format!(
            "It has the rights of the owner of {}.{}, where row security is not forced.",
            quote_identifier(&target.table.schema),
            quote_identifier(&target.table.name)
        )),
        None => Ok(()),
    }
}
