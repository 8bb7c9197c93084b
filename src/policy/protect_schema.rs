//! Protecting all tables of a schema.
//!
//! Owns which tables are left out and why. Must never protect in another way than one by one.

use pgrx::pg_sys;

use super::apply;
use super::describe::Words;
use super::inspect;
use super::key_completion::ends;
use super::key_plan;
use super::model::ForeignKeys;
use super::plan::Plan;
use super::protect::{Outcome, Request, protect};
use super::render;
use crate::binding::tenant_type;
use crate::catalog;
use crate::error::{Error, Kind, Result};

/// Protects every table of a schema; what cannot be protected for want of the column or because of
/// its kind gets a row that says so.
pub fn protect_schema(
    schema: &str,
    request: &Request,
    exclude: &[pg_sys::Oid],
) -> Result<Vec<Outcome>> {
    apply::see_own_changes();
    // Not bound: say so once, not for the first table that has the column.
    tenant_type()?;
    // SAFETY: a catalog lookup by name.
    let namespace = unsafe { pg_sys::get_namespace_oid(catalog::c_string(schema).as_ptr(), true) };
    if namespace == pg_sys::InvalidOid {
        return Err(Error::new(
            Kind::UndefinedSchema,
            format!("schema {} does not exist", render::quoted(schema)),
        )
        .hint("Give the name of a schema, without quotes around it."));
    }
    let listed = { inspect::tables_of(schema, &request.column)? };
    let mut outcomes: Vec<Outcome> = Vec::new();
    let skip = |oid: u32, why: &str| Outcome {
        relation: pg_sys::Oid::from(oid),
        template: None,
        result: Words::new(format!("not protected: {why}")),
        entered: false,
    };
    let total = listed.len();
    for (number, table) in listed.iter().enumerate() {
        let relation = pg_sys::Oid::from(table.oid);
        if outcomes.iter().any(|outcome| outcome.relation == relation) {
            continue;
        }
        if exclude.contains(&relation) {
            outcomes.push(skip(table.oid, "excluded"));
        } else if table.kind == "f" {
            outcomes.push(skip(table.oid, "it is a foreign table"));
        } else if !table.has_column {
            outcomes.push(skip(
                table.oid,
                &format!("no column {}", render::quoted(&request.column)),
            ));
        } else if !table.follows_parent {
            outcomes.append(&mut protect(relation, request)?);
            if (number + 1) % 25 == 0 {
                apply::notice(&format!("{} of {total} tables done", number + 1), None);
            }
        }
    }
    refresh_key_reports(&mut outcomes, request)?;
    Ok(outcomes)
}

/// A key whose parent came later in the same call could not be judged when its child was protected.
fn refresh_key_reports(outcomes: &mut [Outcome], request: &Request) -> Result<()> {
    if request
        .options
        .is_some_and(|options| options.foreign_keys != ForeignKeys::Report)
    {
        return Ok(());
    }
    let protected: Vec<u32> = outcomes
        .iter()
        .filter(|outcome| outcome.template.is_some())
        .map(|outcome| outcome.relation.to_u32())
        .collect();
    let (ends, known) = ends(&protected, &[])?;
    for outcome in outcomes
        .iter_mut()
        .filter(|outcome| outcome.template.is_some())
    {
        let mut noted = Plan::default();
        key_plan::complete(outcome.relation, &ends, &known, f64::INFINITY, &mut noted)?;
        outcome.result.plain_keys = noted.plain_keys;
    }
    Ok(())
}
