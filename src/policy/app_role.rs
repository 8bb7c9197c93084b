//! Roles for applications: bound by row security, owning nothing.
//!
//! Owns `create_app_role`. Everything runs with the caller's own rights, because it hands out rights.
//! Must never grant anything on the registry, nor on what shows rows past row security.

use pgrx::pg_sys;
use serde::Deserialize;

use super::apply;
use super::render::quoted;
use super::spi;
use crate::error::{Error, Kind, Result};
use crate::registry::{self, ActingRole, extension_owner};

/// A role that exists, with what would let it past row security.
#[derive(Debug, Deserialize)]
struct Existing {
    login: bool,
    faults: Vec<String>,
}

/// What a schema holds that an application may use.
#[derive(Debug, Deserialize)]
struct Contents {
    tables: Vec<String>,
    sequences: Vec<String>,
    left_out: Vec<String>,
    owners: Vec<String>,
    may_create: bool,
}

const EXISTING: &str = "
SELECT pg_catalog.jsonb_build_object('login', r.rolcanlogin, 'faults', (
  WITH RECURSIVE reach AS (
    SELECT r.oid AS role
    UNION SELECT m.roleid FROM pg_catalog.pg_auth_members m JOIN reach ON m.member = reach.role)
  SELECT coalesce(pg_catalog.jsonb_agg(fault.text ORDER BY fault.text), '[]') FROM (
    SELECT CASE WHEN x.oid = r.oid THEN '' ELSE 'member of ' || pg_catalog.quote_ident(x.rolname) || ', which ' END || what.text AS text
    FROM reach JOIN pg_catalog.pg_roles x ON x.oid = reach.role
    CROSS JOIN LATERAL (
      SELECT 'is a superuser' AS text WHERE x.rolsuper
      UNION ALL SELECT 'has BYPASSRLS' WHERE x.rolbypassrls
      UNION ALL SELECT 'has CREATEROLE' WHERE x.rolcreaterole
      UNION ALL SELECT 'has REPLICATION' WHERE x.rolreplication
      UNION ALL SELECT 'can act outside the database' WHERE x.rolname IN
        ('pg_execute_server_program', 'pg_write_server_files', 'pg_read_server_files')
      UNION ALL SELECT 'owns table ' || c.oid::pg_catalog.regclass::pg_catalog.text
        FROM (SELECT c.oid FROM pg_catalog.pg_class c
              WHERE c.relowner = x.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY c.oid LIMIT 1) c
      UNION ALL SELECT 'owns schema ' || pg_catalog.quote_ident(n.nspname)
        FROM (SELECT n.nspname FROM pg_catalog.pg_namespace n WHERE n.nspowner = x.oid ORDER BY n.oid LIMIT 1) n
      UNION ALL SELECT 'owns this database' FROM pg_catalog.pg_database d
        WHERE d.datname = pg_catalog.current_database() AND d.datdba = x.oid AND x.rolname <> 'pg_database_owner'
    ) what) fault))::pg_catalog.text
FROM pg_catalog.pg_roles r WHERE r.rolname = $1";

const CONTENTS: &str = "
SELECT pg_catalog.jsonb_build_object(
  'tables', coalesce(pg_catalog.jsonb_agg(pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) ORDER BY c.oid)
     FILTER (WHERE c.relkind IN ('r', 'p') OR (c.relkind = 'v' AND s.safe)), '[]'),
  'sequences', coalesce(pg_catalog.jsonb_agg(pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) ORDER BY c.oid)
     FILTER (WHERE c.relkind = 'S'), '[]'),
  'left_out', coalesce(pg_catalog.jsonb_agg(pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) ORDER BY c.oid)
     FILTER (WHERE c.relkind IN ('m', 'f') OR (c.relkind = 'v' AND NOT s.safe)), '[]'),
  'owners', coalesce(pg_catalog.jsonb_agg(DISTINCT o.rolname) FILTER (WHERE c.relkind IN ('r', 'p')), '[]'),
  'may_create', pg_catalog.has_schema_privilege($2, n.oid, 'CREATE'))::pg_catalog.text
FROM pg_catalog.pg_namespace n
LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_roles o ON o.oid = c.relowner
   -- A view acts as its owner, unless it says otherwise: where row security does not bind him, it shows the
   -- rows of all tenants.
   CROSS JOIN LATERAL (SELECT NOT EXISTS (
       SELECT FROM tenancy.view_reads w
       JOIN pg_catalog.pg_roles a ON a.oid = w.acting JOIN pg_catalog.pg_class t ON t.oid = w.relation
       WHERE w.view = c.oid AND (a.rolsuper OR a.rolbypassrls OR t.relkind IN ('m', 'f')
           OR (t.relrowsecurity AND NOT t.relforcerowsecurity AND pg_catalog.pg_has_role(a.oid, t.relowner, 'USAGE')))) AS safe) s)
  ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
      AND d.objid = c.oid AND d.deptype = 'e')
WHERE n.nspname = $1 GROUP BY n.oid";

/// Creates the role, or brings one that exists and is safe up to the same rights.
pub fn create(name: &str, schemas: &[String], login: bool) -> Result<()> {
    apply::see_own_changes();
    if schemas.is_empty() {
        return Err(
            Error::new(Kind::InvalidParameterValue, "no schema is given")
                .hint("Give the schemas of the application: schemas => '{public}'."),
        );
    }
    for schema in schemas {
        let reserved = matches!(schema.as_str(), "tenancy" | "information_schema")
            || schema.starts_with("pg_");
        if reserved {
            return Err(Error::new(
                Kind::InvalidParameterValue,
                format!("schema {} is not the application's", quoted(schema)),
            )
            .hint("Give the schemas of the application only."));
        }
    }
    make(name, login)?;
    for schema in schemas {
        grant_on(name, schema)?;
    }
    register(name)
}

/// Remembers that it is an application's, on the word of who may say what the role is for.
fn register(name: &str) -> Result<()> {
    let administers: Option<bool> = spi::row(
        "SELECT pg_catalog.to_json(pg_catalog.pg_has_role($1, 'USAGE WITH ADMIN OPTION'))::pg_catalog.text",
        &[name.into()],
    )?;
    // SAFETY: a plain read of the backend's state.
    let caller = unsafe { pg_sys::GetUserId() };
    if !administers.unwrap_or(false) && !registry::administers_database(caller) {
        return Ok(());
    }
    keep("app_roles", name)
}

/// Keeps a role by name and oid in a table of the registry that has a row for each such role.
pub fn keep(table: &str, role: &str) -> Result<()> {
    let _role = ActingRole::new(extension_owner()?);
    spi::execute(
        &format!(
            "INSERT INTO tenancy.{table} (role_name, role_oid)
             SELECT r.rolname, r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = $1
             ON CONFLICT (role_name) DO UPDATE SET role_oid = excluded.role_oid"
        ),
        &[role.into()],
    )
}

/// Creates the role without any rights, or makes sure that one that exists is bound by row security.
pub fn make(name: &str, login: bool) -> Result<()> {
    if name.is_empty() {
        return Err(
            Error::new(Kind::InvalidParameterValue, "the role needs a name")
                .hint("Give a name that is not empty."),
        );
    }
    let existing: Option<Existing> = spi::row(EXISTING, &[name.into()])?;
    match existing {
        None => {
            let may_log_in = if login { "LOGIN" } else { "NOLOGIN" };
            spi::execute(&format!("CREATE ROLE {} {may_log_in}", quoted(name)), &[])?;
        }
        Some(existing) if existing.faults.is_empty() => {
            if login && !existing.login {
                spi::execute(&format!("ALTER ROLE {} LOGIN", quoted(name)), &[])?;
            }
        }
        Some(existing) => {
            return Err(Error::new(
                Kind::InvalidParameterValue,
                format!("role {} is not bound by row security", quoted(name)),
            )
            .detail(format!("It {}.", existing.faults.join("; it is ")))
            .hint("Take that from the role, or give another name."));
        }
    }
    Ok(())
}

/// Lets the role read and write the tables of a schema, new ones too.
pub fn grant_on(role: &str, schema: &str) -> Result<()> {
    let Some(contents): Option<Contents> = spi::row(CONTENTS, &[schema.into(), role.into()])?
    else {
        return Err(Error::new(
            Kind::UndefinedSchema,
            format!("schema {} does not exist", quoted(schema)),
        )
        .hint("Create the schema first, or correct its name."));
    };
    let (grantee, namespace) = (quoted(role), quoted(schema));
    spi::execute(
        &format!("GRANT USAGE ON SCHEMA {namespace} TO {grantee}"),
        &[],
    )?;
    spi::execute(
        &format!("REVOKE CREATE ON SCHEMA {namespace} FROM {grantee}"),
        &[],
    )?;
    if !contents.tables.is_empty() {
        let tables = contents.tables.join(", ");
        spi::execute(
            &format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {grantee}"),
            &[],
        )?;
        spi::execute(
            &format!("REVOKE TRUNCATE, REFERENCES, TRIGGER ON {tables} FROM {grantee}"),
            &[],
        )?;
    }
    if !contents.sequences.is_empty() {
        let sequences = contents.sequences.join(", ");
        spi::execute(
            &format!("GRANT USAGE, SELECT ON SEQUENCE {sequences} TO {grantee}"),
            &[],
        )?;
    }
    default_privileges(&grantee, &namespace, &contents.owners)?;
    if !contents.left_out.is_empty() {
        apply::notice(
            &format!("nothing was granted on {}", contents.left_out.join(", ")),
            Some(
                "Foreign tables, materialized views and views of an owner whom row security does not bind show rows of all tenants.",
            ),
        );
    }
    if contents.may_create {
        apply::notice(
            &format!("role {grantee} may still create objects in schema {namespace}"),
            Some("PUBLIC or a role that it is a member of may."),
        );
    }
    Ok(())
}

/// New tables of the caller and of whoever owns tables there.
fn default_privileges(grantee: &str, namespace: &str, owners: &[String]) -> Result<()> {
    let caller: Option<String> = spi::row(
        "SELECT pg_catalog.to_json(CURRENT_USER::pg_catalog.text)::pg_catalog.text",
        &[],
    )?;
    let mut makers: Vec<String> = owners.to_vec();
    makers.extend(caller);
    makers.sort();
    makers.dedup();
    for maker in makers {
        let may: Option<bool> = spi::row(
            "SELECT pg_catalog.to_json(pg_catalog.pg_has_role($1, 'USAGE'))::pg_catalog.text",
            &[maker.as_str().into()],
        )?;
        if !may.unwrap_or(false) {
            apply::notice(
                &format!(
                    "new tables of {} will have to be granted by hand",
                    quoted(&maker)
                ),
                Some("Only its members may alter its default privileges."),
            );
            continue;
        }
        for rights in [
            "SELECT, INSERT, UPDATE, DELETE ON TABLES",
            "USAGE, SELECT ON SEQUENCES",
        ] {
            spi::execute(
                &format!(
                    "ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA {namespace} GRANT {rights} TO {grantee}",
                    quoted(&maker)
                ),
                &[],
            )?;
        }
    }
    Ok(())
}
