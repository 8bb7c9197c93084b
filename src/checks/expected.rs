//! `tenancy.expected_columns`: rules about columns.
//!
//! Owns who may write them and that a rule makes sense when it is written. Later it may not, when a
//! type is gone: that is a status and not an error.

use core::ffi::CStr;

use pgrx::prelude::*;

use super::arguments::{given, name};
use super::type_name;
use crate::error::{Error, Kind, OrRaise, Result};
use crate::policy::{apply, spi};
use crate::registry::{self, ActingRole, PinnedSearchPath, extension_owner};

const WHY: &str = "Rules about columns decide what passes a check.";

const EXPECT: &str = "
INSERT INTO tenancy.expected_columns AS e
    (schema_name, table_name, column_name, type, exact, nullable, default_expression, primary_key, foreign_key)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (schema_name, table_name, column_name) DO UPDATE SET type = EXCLUDED.type, exact = EXCLUDED.exact,
    nullable = EXCLUDED.nullable, default_expression = EXCLUDED.default_expression,
    primary_key = EXCLUDED.primary_key, foreign_key = EXCLUDED.foreign_key";

const FORGET: &str = "
WITH gone AS (
    DELETE FROM tenancy.expected_columns e
    WHERE e.schema_name = $1 AND ($2::pg_catalog.text IS NULL OR e.table_name = $2)
      AND ($3::pg_catalog.text IS NULL OR e.column_name = $3)
    RETURNING 1)
SELECT pg_catalog.to_json(pg_catalog.count(*))::pg_catalog.text FROM gone";

const SNAPSHOT: &str = "
INSERT INTO tenancy.expected_columns
    (schema_name, table_name, column_name, type, exact, nullable, default_expression, primary_key, foreign_key)
SELECT a.schema_name, a.table_name, a.column_name, a.type, true, a.nullable, a.default_expression, a.primary_key,
       pg_catalog.array_to_string(a.foreign_keys, ', ')
FROM tenancy.actual_columns a
WHERE a.schema_name = $1
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype = 'e'
                    AND d.objid = pg_catalog.to_regclass(pg_catalog.format('%I.%I', a.schema_name, a.table_name)))
ORDER BY a.schema_name, a.table_name, a.column_name
ON CONFLICT (schema_name, table_name, column_name) DO UPDATE SET type = EXCLUDED.type, exact = EXCLUDED.exact,
    nullable = EXCLUDED.nullable, default_expression = EXCLUDED.default_expression,
    primary_key = EXCLUDED.primary_key, foreign_key = EXCLUDED.foreign_key";

const COUNT: &str = "
SELECT pg_catalog.to_json(pg_catalog.count(*))::pg_catalog.text FROM tenancy.expected_columns e WHERE e.schema_name = $1";

const SCHEMA_EXISTS: &str =
    "SELECT 'true' FROM pg_catalog.pg_namespace n WHERE n.nspname = $1::pg_catalog.text";

#[pg_extern(sql = false)]
#[allow(
    clippy::too_many_arguments,
    reason = "SQL calls it with as many, by name"
)]
fn expect_column(
    schema_name: Option<&CStr>,
    table_name: Option<&CStr>,
    column_name: Option<&CStr>,
    type_name: Option<&str>,
    nullable: Option<bool>,
    default_expression: Option<&str>,
    primary_key: Option<bool>,
    foreign_key: Option<&str>,
    exact: Option<bool>,
) {
    let run = || {
        registry::require_database_owner(WHY)?;
        let schema = name(schema_name, "schema_name")?;
        let table = name(table_name, "table_name")?;
        let column = name(column_name, "column_name")?;
        let exact = given(exact, "exact")?;
        if let Some(text) = type_name {
            if type_name::parsed(text, &schema).is_none() {
                return Err(Error::new(
                    Kind::UndefinedObject,
                    format!("type \"{text}\" does not exist"),
                )
                .hint("Give a type as a column definition does; qualify it unless it is in pg_catalog or the table's schema."));
            }
        } else if exact {
            return Err(Error::new(
                Kind::InvalidParameterValue,
                "exact says something of a type, and none is given",
            )
            .hint("Give a type, or leave exact out."));
        }
        apply::see_own_changes();
        let _role = ActingRole::new(extension_owner()?);
        spi::execute(
            EXPECT,
            &[
                schema.into(),
                table.into(),
                column.into(),
                type_name.into(),
                exact.into(),
                nullable.into(),
                default_expression.into(),
                primary_key.into(),
                foreign_key.into(),
            ],
        )
    };
    run().or_raise();
}

#[pg_extern(sql = false)]
fn unexpect_column(
    schema_name: Option<&CStr>,
    table_name: Option<&CStr>,
    column_name: Option<&CStr>,
) -> i64 {
    let run = || {
        registry::require_database_owner(WHY)?;
        let schema = name(schema_name, "schema_name")?;
        let table = name(table_name, "table_name")?;
        let column = column_name
            .map(|column| name(Some(column), "column_name"))
            .transpose()?;
        forget(&schema, Some(&table), column.as_deref())
    };
    run().or_raise()
}

fn forget(schema: &str, table: Option<&str>, column: Option<&str>) -> Result<i64> {
    apply::see_own_changes();
    let _role = ActingRole::new(extension_owner()?);
    let gone = spi::changed_row(FORGET, &[schema.into(), table.into(), column.into()])?;
    Ok(gone.unwrap_or_default())
}

#[pg_extern(sql = false)]
fn expect_from_current(schema_name: Option<&CStr>) -> i64 {
    let run = || {
        registry::require_database_owner(WHY)?;
        let schema = name(schema_name, "schema_name")?;
        let exists: Option<bool> = spi::row(SCHEMA_EXISTS, &[schema.as_str().into()])?;
        if exists.is_none() {
            return Err(Error::new(
                Kind::UndefinedSchema,
                format!("schema \"{schema}\" does not exist"),
            )
            .hint("Give the name of a schema without quotes around it."));
        }
        forget(&schema, None, None)?;
        let _role = ActingRole::new(extension_owner()?);
        let _spelling = PinnedSearchPath::with_spelling();
        // Another session may take the same snapshot: whoever comes last replaces it by the same.
        spi::execute(SNAPSHOT, &[schema.as_str().into()])?;
        let count: Option<i64> = spi::row(COUNT, &[schema.as_str().into()])?;
        Ok::<_, Error>(count.unwrap_or_default())
    };
    run().or_raise()
}
