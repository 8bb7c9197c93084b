//! Schemas whose new tables are protected.
//!
//! Owns `tenancy.auto_protect`, `tenancy.auto_protect_off` and reading `tenancy.auto_protection`. Must
//! never protect a table: [`super::auto_apply`] does, when one is made.

use pgrx::datum::Array;
use pgrx::prelude::*;
use pgrx::{JsonB, pg_sys};
use serde::Deserialize;
use serde_json::Value;

use super::apply;
use super::auto_switch;
use super::entry::{given, text};
use super::model::{Mode, Options, Template};
use super::protect::Request;
use super::render::quoted;
use super::spi;
use crate::catalog;
use crate::error::{Error, Kind, OrRaise, Result};
use crate::registry::{ActingRole, extension_owner, is_administrator};

/// A registered schema.
#[derive(Debug, Clone, Deserialize)]
pub struct AutoSchema {
    /// Its name today; `None` when it is gone.
    pub schema: Option<String>,
    /// Its name when it was registered.
    pub registered_as: String,
    /// The tenant column.
    pub tenant_column: String,
    /// The mode.
    pub mode: String,
    /// Whether a table that cannot be protected fails its command.
    pub strict: bool,
    /// The options of its tables.
    pub options: Value,
    /// Names of tables that are left out.
    pub exclude: Vec<String>,
}

impl AutoSchema {
    /// What is asked for its tables, before their shape is known.
    pub fn request(&self) -> Result<Request> {
        Ok(Request {
            template: Template::Tenant,
            column: self.tenant_column.clone(),
            mode: Mode::parse(&self.mode)?,
            options: Some(Options::parse(&self.options)?),
            may_leave: false,
        })
    }

    /// The request without the options that the chosen template does not know.
    pub fn suited(&self, request: Request) -> Request {
        let options = request
            .options
            .map(|options| options.only_for(request.template));
        Request { options, ..request }
    }
}

/// Whether the relation is a member of an extension.
pub fn is_of_extension(relation: pg_sys::Oid) -> Result<bool> {
    let member: Option<bool> = spi::row_planned(
        "SELECT pg_catalog.to_json(EXISTS (SELECT FROM pg_catalog.pg_depend
           WHERE classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND objid = $1 AND deptype = 'e'))::pg_catalog.text",
        &[relation.into()],
    )?;
    Ok(member.unwrap_or(false))
}

/// All registered schemas.
pub fn all() -> Result<Vec<AutoSchema>> {
    let _role = ActingRole::new(extension_owner()?);
    spi::rows_planned(
        "SELECT pg_catalog.jsonb_build_object('registered_as', a.schema_name,
           'schema', (SELECT n.nspname FROM pg_catalog.pg_namespace n
              WHERE n.nspname = a.schema_name
                 OR (n.oid = a.schema_oid AND a.database_identity = $1)
              ORDER BY n.nspname = a.schema_name DESC LIMIT 1),
           'tenant_column', a.tenant_column, 'mode', a.mode, 'strict', a.strict,
           'options', a.options, 'exclude', a.exclude)::pg_catalog.text
         FROM tenancy.auto_protection a",
        &[catalog::database_identity().into()],
    )
}

/// What the catalog says about a schema.
#[derive(Debug, Deserialize)]
struct Namespace {
    oid: u32,
    owner: u32,
}

fn namespace(schema: &str) -> Result<Option<Namespace>> {
    spi::row(
        "SELECT pg_catalog.jsonb_build_object('oid', oid::pg_catalog.int8, 'owner', nspowner::pg_catalog.int8)::pg_catalog.text
         FROM pg_catalog.pg_namespace WHERE nspname = $1",
        &[schema.into()],
    )
}

fn require_schema_administrator(schema: &str, owner: Option<u32>) -> Result<()> {
    if owner.is_some_and(|owner| catalog::acts_as(pg_sys::Oid::from(owner))) || is_administrator() {
        return Ok(());
    }
    Err(Error::new(
        Kind::InsufficientPrivilege,
        format!("must be owner of schema {}", quoted(schema)),
    )
    .hint("Ask the owner of the schema, or a member of a role named in pg_tenancy.admin_role."))
}

/// Whether nothing of the schema is ever protected.
fn is_reserved(schema: &str) -> bool {
    schema.starts_with("pg_") || matches!(schema, "information_schema" | "tenancy")
}

fn register(wanted: &AutoSchema) -> Result<()> {
    apply::see_own_changes();
    let schema = wanted.registered_as.as_str();
    let there = namespace(schema)?.ok_or_else(|| {
        Error::new(
            Kind::UndefinedSchema,
            format!("schema {} does not exist", quoted(schema)),
        )
        .hint("Give the name of a schema, without quotes around it.")
    })?;
    if is_reserved(schema) {
        return Err(Error::new(
            Kind::InvalidParameterValue,
            format!(
                "schema {} holds no tables of an application",
                quoted(schema)
            ),
        )
        .hint("Give a schema of the application."));
    }
    require_schema_administrator(schema, Some(there.owner))?;
    let caller = catalog::current_role_name();
    let _role = ActingRole::new(extension_owner()?);
    // A schema that was renamed since is registered under its name of then.
    spi::execute(
        "DELETE FROM tenancy.auto_protection
         WHERE schema_name <> $1 AND schema_oid = $2 AND database_identity = $3",
        &[
            schema.into(),
            pg_sys::Oid::from(there.oid).into(),
            catalog::database_identity().into(),
        ],
    )?;
    spi::execute(
        "INSERT INTO tenancy.auto_protection AS a (schema_name, database_identity, schema_oid, tenant_column,
             mode, strict, options, exclude, registered_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (schema_name) DO UPDATE SET
             database_identity = EXCLUDED.database_identity, schema_oid = EXCLUDED.schema_oid,
             tenant_column = EXCLUDED.tenant_column, mode = EXCLUDED.mode, strict = EXCLUDED.strict,
             options = EXCLUDED.options, exclude = EXCLUDED.exclude,
             registered_by = EXCLUDED.registered_by, registered_at = pg_catalog.now()",
        &[
            schema.into(),
            catalog::database_identity().into(),
            pg_sys::Oid::from(there.oid).into(),
            wanted.tenant_column.as_str().into(),
            wanted.mode.as_str().into(),
            wanted.strict.into(),
            JsonB(wanted.options.clone()).into(),
            wanted.exclude.clone().into(),
            caller.into(),
        ],
    )?;
    auto_switch::mend()
}

fn forget(schema: &str, missing_ok: bool) -> Result<bool> {
    apply::see_own_changes();
    let found = all()?
        .into_iter()
        .find(|row| row.schema.as_deref() == Some(schema) || row.registered_as == schema);
    let Some(row) = found else {
        if missing_ok {
            return Ok(false);
        }
        return Err(Error::new(
            Kind::UndefinedObject,
            format!(
                "new tables of schema {} are not protected automatically",
                quoted(schema)
            ),
        )
        .hint("See tenancy.auto_protected, or give missing_ok => true."));
    };
    let owner = match &row.schema {
        Some(today) => namespace(today)?.map(|there| there.owner),
        None => None,
    };
    require_schema_administrator(schema, owner)?;
    let _role = ActingRole::new(extension_owner()?);
    spi::execute(
        "DELETE FROM tenancy.auto_protection WHERE schema_name = $1",
        &[row.registered_as.as_str().into()],
    )?;
    Ok(true)
}

#[pg_extern(sql = false)]
fn auto_protect(
    schema: Option<&core::ffi::CStr>,
    tenant_column: Option<&core::ffi::CStr>,
    mode: Option<&str>,
    strict: Option<bool>,
    exclude: Option<Array<'_, &str>>,
    options: Option<JsonB>,
) {
    let run = || {
        let mode = Mode::parse(given(mode, "mode")?)?;
        let options = Options::parse(
            &options.map_or_else(|| Value::Object(Default::default()), |json| json.0),
        )?;
        options.check_for_schema()?;
        register(&AutoSchema {
            schema: None,
            registered_as: text(schema, "schema")?,
            tenant_column: text(tenant_column, "tenant_column")?,
            mode: mode.name().to_owned(),
            strict: strict.unwrap_or(false),
            options: options.to_json(),
            exclude: exclude
                .map(|names| names.iter().flatten().map(str::to_owned).collect())
                .unwrap_or_default(),
        })
    };
    run().or_raise();
}

#[pg_extern(sql = false)]
fn auto_protect_off(schema: Option<&core::ffi::CStr>, missing_ok: Option<bool>) -> bool {
    text(schema, "schema")
        .and_then(|schema| forget(&schema, missing_ok.unwrap_or(false)))
        .or_raise()
}
