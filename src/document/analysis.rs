//! What Postgres makes of a statement before it runs: the names and types of its columns, and what it
//! depends on.
//!
//! Must never let a value through to JSON by a cast that anybody may have made.

use pgrx::prelude::*;
use pgrx::{PgList, is_a};

use super::statement::Meaning;
use crate::binding::authors::Authors;
use crate::binding::is_built_in;
use crate::catalog::{self, quote_identifier};
use crate::error::{Error, Kind, Result};

/// What Postgres made of the statement.
pub struct Facts {
    columns: Vec<Column>,
    /// Whether the rows alone decide what it returns.
    pub depends_only_on_its_rows: bool,
    /// No expression, and no whole row, which may hold anything.
    pub only_columns: bool,
    /// Whose functions it runs.
    pub authors: Authors,
}

/// A column of the document.
struct Column {
    name: String,
    /// Converted to JSON by Postgres itself, whatever casts anybody defines.
    is_built_in: bool,
}

impl Facts {
    /// The rows, with every value as JSON may hold it. A cast to JSON of a type that is not built in
    /// may be any function, and would run as the owner of the table, whoever that is by then.
    pub fn as_json(&self, select: &str) -> String {
        if self.columns.iter().all(|column| column.is_built_in) {
            return select.to_owned();
        }
        let items: Vec<_> = self
            .columns
            .iter()
            .map(|column| {
                let name = quote_identifier(&column.name);
                if column.is_built_in {
                    format!("i.{name}")
                } else {
                    format!(
                        "CASE WHEN pg_catalog.num_nulls(i.{name}) OPERATOR(pg_catalog.=) 0 THEN pg_catalog.format('%s', i.{name}) END AS {name}"
                    )
                }
            })
            .collect();
        format!("SELECT {} FROM ({select}) AS i", items.join(", "))
    }
}

/// Has Postgres analyse the statement; raises its errors. Call with the owner acting.
pub fn analyze(
    select: &str,
    parameters: &[(Meaning, pg_sys::Oid)],
    items: &[String],
) -> Result<Facts> {
    let text = catalog::c_string(select);
    let types: Vec<_> = parameters.iter().map(|(_, type_oid)| *type_oid).collect();
    let invalid = |message: String, hint: &str| {
        Err(Error::new(Kind::InvalidParameterValue, message).hint(hint))
    };
    // SAFETY: the text parses as one statement, each part of it having been parsed by itself; nodes
    // live in the current memory context.
    unsafe {
        let statements = PgList::<pg_sys::RawStmt>::from_pg(pg_sys::raw_parser(
            text.as_ptr(),
            pg_sys::RawParseMode::RAW_PARSE_DEFAULT,
        ));
        let Some(only) = statements.get_ptr(0).filter(|_| statements.len() == 1) else {
            return Err(Error::new(Kind::Internal, "not one statement"));
        };
        let query = pg_sys::parse_analyze_fixedparams(
            only,
            text.as_ptr(),
            types.as_ptr(),
            i32::try_from(types.len()).unwrap_or(0),
            core::ptr::null_mut(),
        );
        if (*query).hasAggs || (*query).hasWindowFuncs || (*query).hasTargetSRFs {
            return invalid(
                "aggregates, window functions and functions that return sets cannot stand in a key"
                    .to_owned(),
                "Give expressions over one row.",
            );
        }
        let mut depends_only_on_its_rows =
            !(*query).hasSubLinks && !pg_sys::contain_mutable_functions(query.cast());
        let mut only_columns = true;
        let mut columns: Vec<Column> = Vec::new();
        for target in PgList::<pg_sys::TargetEntry>::from_pg((*query).targetList).iter_ptr() {
            if (*target).resjunk {
                continue;
            }
            let name = catalog::string_from((*target).resname).unwrap_or_default();
            if name == "?column?" || columns.iter().any(|column| column.name == name) {
                return invalid(
                    format!(
                        "column {} of the key has no name of its own",
                        columns.len() + 1
                    ),
                    "Add AS and a name.",
                );
            }
            only_columns &= is_a((*target).expr.cast(), pg_sys::NodeTag::T_Var)
                && (*(*target).expr.cast::<pg_sys::Var>()).varattno > 0;
            let type_oid = pg_sys::getBaseType(pg_sys::exprType((*target).expr.cast()));
            depends_only_on_its_rows &= is_spelled_by_its_value(type_oid);
            columns.push(Column {
                name,
                is_built_in: is_built_in(type_oid),
            });
        }
        if columns.len() != items.len() {
            return Err(Error::new(Kind::Internal, "not one column for each item"));
        }
        Ok(Facts {
            columns,
            depends_only_on_its_rows,
            only_columns,
            authors: Authors::of(query.cast()),
        })
    }
}

/// Whether nothing but the value decides how it is spelled. Settings do not count: they are pinned.
fn is_spelled_by_its_value(type_oid: pg_sys::Oid) -> bool {
    // SAFETY: catalog lookups by oid.
    unsafe {
        let element = pg_sys::get_element_type(type_oid);
        let type_oid = if element == pg_sys::InvalidOid {
            type_oid
        } else {
            element
        };
        if is_built_in(type_oid) {
            // Names of what they point to, money by its locale, and rows of anything.
            return !matches!(
                type_oid,
                pg_sys::REGPROCOID
                    | pg_sys::REGPROCEDUREOID
                    | pg_sys::REGOPEROID
                    | pg_sys::REGOPERATOROID
                    | pg_sys::REGCLASSOID
                    | pg_sys::REGTYPEOID
                    | pg_sys::REGROLEOID
                    | pg_sys::REGNAMESPACEOID
                    | pg_sys::REGCONFIGOID
                    | pg_sys::REGDICTIONARYOID
                    | pg_sys::REGCOLLATIONOID
                    | pg_sys::ACLITEMOID
                    | pg_sys::MONEYOID
                    | pg_sys::RECORDOID
            );
        }
        // A label that is renamed announces itself.
        if pg_sys::type_is_enum(type_oid) {
            return true;
        }
        let (mut output, mut is_varlena) = (pg_sys::InvalidOid, false);
        pg_sys::getTypeOutputInfo(type_oid, &mut output, &mut is_varlena);
        pg_sys::func_volatile(output) as u8 == pg_sys::PROVOLATILE_IMMUTABLE
    }
}
