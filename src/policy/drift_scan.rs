//! `tenancy.drift()`: all registrations, and the tables that should have one.
//!
//! Owns which tables are looked at. Must never compare one by itself: [`super::drift`] does.

use core::ffi::CStr;

use pgrx::iter::TableIterator;
use pgrx::prelude::*;
use pgrx::{name, pg_sys};

use super::auto_register::{self, AutoSchema};
use super::auto_switch;
use super::choose::{Choice, choose};
use super::difference::{Code, Difference, qualified, repair_call};
use super::drift;
use super::entry::text;
use super::inspect;
use super::protect::Request;
use super::store::{self, Row};
use crate::binding::tenant_type;
use crate::catalog;
use crate::error::{OrRaise, Result};

/// All that differs, each thing once.
pub fn all() -> Result<Vec<Difference>> {
    let rows = store::everything()?;
    let mut found: Vec<Difference> = rows
        .iter()
        .filter(|row| row.relation().is_none())
        .map(drift::dropped)
        .collect();
    for (relation, row) in store::all()? {
        for difference in drift::of(relation, &row)? {
            add(&mut found, difference);
        }
    }
    found.append(&mut around_registrations()?);
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// A partition is found from each table above it.
pub fn add(found: &mut Vec<Difference>, new: Difference) {
    let known = found.iter().any(|there| {
        there.relation == new.relation
            && there.code == new.code
            && (new.code == Code::PartitionUnprotected || there.detail == new.detail)
    });
    if !known {
        found.push(new);
    }
}

/// What should be registered, or would be and is switched off.
pub fn around_registrations() -> Result<Vec<Difference>> {
    let mut found = Vec::new();
    if !auto_switch::is_as_wanted()? {
        found.push(Difference {
            relation: None,
            name: "pg_tenancy_auto_protect".to_owned(),
            code: Code::AutoProtectOff,
            detail: "schemas are registered with tenancy.auto_protect(), and its event trigger is disabled"
                .to_owned(),
            remediation: "SELECT * FROM tenancy.repair()".to_owned(),
        });
    }
    if tenant_type().is_err() {
        return Ok(found);
    }
    for schema in auto_register::all()? {
        for (relation, _) in unprotected(&schema)? {
            let Some(name) = catalog::relation_name(relation) else {
                continue;
            };
            let name = qualified(&name.schema, &name.name);
            found.push(Difference {
                relation: Some(relation.to_u32()),
                detail: format!("new tables of its schema are protected, and {name} is not"),
                remediation: repair_call(&name),
                name,
                code: Code::TableUnprotected,
            });
        }
    }
    Ok(found)
}

/// Tables of a registered schema that are not protected and could be, with how.
pub fn unprotected(schema: &AutoSchema) -> Result<Vec<(pg_sys::Oid, Request)>> {
    let Some(name) = &schema.schema else {
        return Ok(Vec::new());
    };
    let wish = schema.request()?;
    let mut found = Vec::new();
    for table in inspect::tables_of(name, &schema.tenant_column)? {
        let relation = pg_sys::Oid::from(table.oid);
        let left_out = table.kind == "f"
            || table.follows_parent
            || store::of(relation)?.is_some()
            || catalog::relation_name(relation)
                .is_none_or(|name| schema.exclude.contains(&name.name))
            || auto_register::is_of_extension(relation)?;
        if left_out {
            continue;
        }
        if let Choice::Protect(request, _) = choose(&table, &wish)? {
            found.push((relation, schema.suited(request)));
        }
    }
    Ok(found)
}

type DriftRow = (
    Option<pg_sys::Oid>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
);

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "pgrx wants the columns spelled out")]
fn drift_of_all() -> TableIterator<
    'static,
    (
        name!(relation, Option<pg_sys::Oid>),
        name!(table_name, Option<String>),
        name!(code, Option<String>),
        name!(detail, Option<String>),
        name!(remediation, Option<String>),
    ),
> {
    let rows: Vec<DriftRow> = all()
        .or_raise()
        .into_iter()
        .map(|difference| {
            (
                difference.relation.map(pg_sys::Oid::from),
                Some(difference.name),
                Some(difference.code.name().to_owned()),
                Some(difference.detail),
                Some(difference.remediation),
            )
        })
        .collect();
    TableIterator::new(rows)
}

/// In what a table differs from the registration under that name; NULL where it agrees.
#[pg_extern(sql = false)]
fn protection_drift(schema_name: Option<&CStr>, table_name: Option<&CStr>) -> Option<String> {
    let run = || -> Result<Option<String>> {
        let row: Option<Row> = store::named(
            &text(schema_name, "schema_name")?,
            &text(table_name, "table_name")?,
        )?;
        let Some((relation, row)) = row.and_then(|row| row.relation().map(|oid| (oid, row))) else {
            return Ok(None);
        };
        let words: Vec<String> = drift::of(relation, &row)?
            .into_iter()
            .map(|difference| difference.detail)
            .collect();
        Ok((!words.is_empty()).then(|| words.join("; ")))
    };
    run().or_raise()
}
