//! `tenancy.required_rows`: rows that every tenant, or every user, needs.
//!
//! Owns who may register them and what may be registered: the condition runs as the owner of the table,
//! so it is one expression of immutable functions, by an author who has the owner's privileges. The
//! statement of the fix is never run here.

use core::ffi::CStr;

use pgrx::PgList;
use pgrx::prelude::*;
use serde::Deserialize;

use super::arguments::{given, name as named};
use super::fix;
use super::keys::Table;
use crate::binding::{self, Binding, query};
use crate::catalog;
use crate::error::{Error, Kind, OrRaise, Result};
use crate::policy::{apply, spi};
use crate::registry::{self, ActingRole, extension_owner};

const WHY: &str = "Required rows decide what counts as missing.";

/// Whom a requirement is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Each {
    Tenant,
    User,
}

/// Rows that somebody needs.
#[derive(Debug, Clone, Deserialize)]
pub struct Requirement {
    pub name: String,
    pub schema_name: String,
    pub table_name: String,
    pub key_column: String,
    pub each: Each,
    pub condition: Option<String>,
    pub minimum: i64,
    pub fix: Option<String>,
    pub registered_by: String,
}

impl Requirement {
    /// Whether the binding says so, and nobody registered it.
    fn is_implied(&self) -> bool {
        self.registered_by.is_empty()
    }

    /// Its table; an error where that is gone or the caller or the author may not have it read.
    pub fn table(&self) -> Result<Table> {
        let oid = catalog::relation_oid(&self.schema_name, &self.table_name).ok_or_else(|| {
            Error::new(
                Kind::UndefinedTable,
                format!(
                    "table {}.{} does not exist",
                    catalog::quote_identifier(&self.schema_name),
                    catalog::quote_identifier(&self.table_name)
                ),
            )
            .hint("Call tenancy.require_rows() again, or tenancy.unrequire_rows().")
        })?;
        require_table(oid)?;
        let table = Table::open(oid)?;
        // Names may have got another meaning since, and columns another type.
        if !self.is_implied() {
            check_key(&table, &self.key_column, self.each)?;
        }
        if let Some(condition) = &self.condition {
            table.for_expression_of(&self.registered_by)?;
            table.require_condition(condition)?;
        }
        Ok(table)
    }
}

/// Everything that was registered, by name.
pub fn all() -> Result<Vec<Requirement>> {
    spi::rows(
        "SELECT pg_catalog.to_jsonb(r)::pg_catalog.text FROM tenancy.required_rows r ORDER BY r.name COLLATE \"C\"",
        &[],
    )
}

/// A view would have its owner's functions called.
fn require_table(oid: pg_sys::Oid) -> Result<()> {
    match catalog::relation_kind(oid) {
        Some(pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE) => Ok(()),
        Some(_) => Err(
            Error::new(Kind::WrongObjectType, "rows can be required of tables only")
                .hint("Give a table."),
        ),
        None => {
            Err(Error::new(Kind::UndefinedTable, "the table does not exist").hint("Give a table."))
        }
    }
}

#[pg_extern(sql = false)]
fn require_rows(
    name: Option<&str>,
    table: Option<pg_sys::Oid>,
    key_column: Option<&CStr>,
    condition: Option<&str>,
    minimum: Option<i32>,
    fix: Option<&str>,
    each: Option<&str>,
) {
    let run = || {
        let name = given(name, "name")?;
        let table = given(table, "table")?;
        let key_column = named(key_column, "key_column")?;
        let minimum = given(minimum, "minimum")?;
        let each = given(each, "each")?;
        registry::require_database_owner(WHY)?;
        require_table(table)?;
        let table = Table::open(table)?;
        let invalid =
            |message: &str, hint: &str| Error::new(Kind::InvalidParameterValue, message).hint(hint);
        if name.trim().is_empty() {
            return Err(invalid(
                "a requirement needs a name",
                "Say what is required, such as configuration.",
            ));
        }
        if minimum < 1 {
            return Err(invalid(
                "minimum is less than 1",
                "Say how many rows there must be.",
            ));
        }
        if !matches!(each, "tenant" | "user") {
            return Err(invalid(
                "rows can be required for each tenant or user",
                "Give tenant or user.",
            ));
        }
        let subject = if each == "tenant" {
            Each::Tenant
        } else {
            Each::User
        };
        check_key(&table, &key_column, subject)?;
        let caller = catalog::current_role_name();
        if let Some(condition) = condition {
            table.for_expression_of(&caller)?;
            table.require_condition(condition)?;
        }
        if let Some(fix) = fix {
            check_fix(fix)?;
        }
        apply::see_own_changes();
        let relation = catalog::relation_name(table.oid);
        let (schema, relation) = relation.map_or_else(Default::default, |r| (r.schema, r.name));
        let _role = ActingRole::new(extension_owner()?);
        spi::execute(
            "INSERT INTO tenancy.required_rows
                 (name, schema_name, table_name, key_column, each, condition, minimum, fix, registered_by)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             ON CONFLICT (name) DO UPDATE SET schema_name = EXCLUDED.schema_name, table_name = EXCLUDED.table_name,
                 key_column = EXCLUDED.key_column, each = EXCLUDED.each, condition = EXCLUDED.condition,
                 minimum = EXCLUDED.minimum, fix = EXCLUDED.fix, registered_by = EXCLUDED.registered_by,
                 registered_at = pg_catalog.now()",
            &[
                name.into(),
                schema.into(),
                relation.into(),
                key_column.into(),
                each.into(),
                condition.into(),
                minimum.into(),
                fix.into(),
                caller.into(),
            ],
        )
    };
    run().or_raise();
}

/// The bound column of users.
fn users(binding: &Binding) -> Result<Option<query::Column>> {
    let (table, name) = match (&binding.membership, &binding.role_table) {
        (Some(membership), _) => (membership, &binding.membership_user),
        (None, Some(table)) => (table, &binding.role_user),
        (None, None) => return Ok(None),
    };
    query::column(table.relation, name).map(Some)
}

/// Fails unless the column is spelled as tenants, or users, are: they are compared as text.
fn check_key(table: &Table, name: &str, each: Each) -> Result<()> {
    let column = query::column(table.oid, name)?;
    let binding = binding::required()?;
    let (whose, is_right, wanted) = match each {
        Each::Tenant => (
            "tenants",
            column.tenant_type() == Some(binding.tenant_type),
            binding.tenant_type.name().to_owned(),
        ),
        Each::User => match users(&binding)? {
            None => return Ok(()),
            Some(bound) => (
                "users",
                column.base_type == bound.base_type || (column.is_string() && bound.is_string()),
                bound.type_name(),
            ),
        },
    };
    if is_right {
        return Ok(());
    }
    Err(Error::new(
        Kind::DatatypeMismatch,
        format!(
            "column {} of table {} is not of the {whose}' type",
            catalog::quote_identifier(name),
            table.name
        ),
    )
    .detail(format!(
        "It is of type {}, {whose} are of type {wanted}.",
        column.type_name()
    ))
    .hint(format!(
        "Give the column that holds the {}.",
        whose.trim_end_matches('s')
    )))
}

fn check_fix(sql: &str) -> Result<()> {
    let refuse = |message: &str| {
        Err(Error::new(Kind::InvalidParameterValue, message).hint(
            "Give one INSERT, UPDATE, SELECT or CALL with $1 where the tenant or user stands.",
        ))
    };
    let text = catalog::c_string(sql);
    // SAFETY: the parser returns a list of RawStmt, whose nodes' tags are read.
    let is_one = unsafe {
        let statements = PgList::<pg_sys::RawStmt>::from_pg(pg_sys::raw_parser(
            text.as_ptr(),
            pg_sys::RawParseMode::RAW_PARSE_DEFAULT,
        ));
        statements.len() == 1
            && statements.get_ptr(0).is_some_and(|only| {
                use pg_sys::NodeTag as T;
                matches!(
                    (*(*only).stmt).type_,
                    T::T_InsertStmt | T::T_UpdateStmt | T::T_SelectStmt | T::T_CallStmt
                )
            })
    };
    if !is_one {
        return refuse("the fix is not a single statement that makes rows");
    }
    if !fix::takes_key(sql) {
        return refuse("the fix says nowhere for whom it is");
    }
    Ok(())
}

#[pg_extern(sql = false)]
fn unrequire_rows(name: Option<&str>) -> bool {
    let run = || {
        let name = given(name, "name")?;
        registry::require_database_owner(WHY)?;
        apply::see_own_changes();
        let _role = ActingRole::new(extension_owner()?);
        let gone: Option<String> = spi::changed_row(
            "DELETE FROM tenancy.required_rows r WHERE r.name = $1 RETURNING pg_catalog.to_json(r.name)::pg_catalog.text",
            &[name.into()],
        )?;
        Ok::<_, Error>(gone.is_some())
    };
    run().or_raise()
}
