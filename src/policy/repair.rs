//! `tenancy.repair()`: making the catalog what was registered again.
//!
//! Owns the order of things and what is said about each. Protecting again does the work, with its
//! rights, locks and refusals. Must never drop what the registration does not say was made.

use pgrx::iter::TableIterator;
use pgrx::prelude::*;
use pgrx::{name, pg_sys};

use super::apply;
use super::auto_register;
use super::auto_switch;
use super::difference::{Code, Difference, qualified};
use super::drift;
use super::drift_scan;
use super::key_completion::complete_keys;
use super::members::gather;
use super::model::{Mode, Template};
use super::plan::{Plan, Statement};
use super::protect::{Request, plan_gate, plan_ground, protect};
use super::repair_steps;
use super::store::{self, Row};
use super::subtransaction;
use super::unique_keys;
use crate::binding::tenant_type;
use crate::cache::generation::Writing;
use crate::catalog;
use crate::error::{Error, Kind, OrRaise, Result};
use crate::gucs;
use crate::registry::{is_administrator, require_administrator};

/// One thing that was done, or was not.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Done {
    relation: Option<u32>,
    name: String,
    statement: Option<String>,
    result: String,
}

fn repair_one(relation: pg_sys::Oid, dry_run: bool) -> Result<Vec<Done>> {
    apply::see_own_changes();
    let name = catalog::relation_name(relation)
        .map(|name| qualified(&name.schema, &name.name))
        .unwrap_or_default();
    if let Some(row) = store::of(relation)? {
        return mend(relation, &row, dry_run);
    }
    for schema in auto_register::all()? {
        let found = drift_scan::unprotected(&schema)?;
        if let Some((_, request)) = found.iter().find(|(table, _)| *table == relation) {
            return protect_again(relation, &name, request, dry_run);
        }
    }
    Err(Error::new(
        Kind::UndefinedObject,
        format!("table {name} is not protected"),
    )
    .hint("Register it with tenancy.protect_table(..)."))
}

fn repair_all(dry_run: bool) -> Result<Vec<Done>> {
    apply::see_own_changes();
    let _writing = Writing::start();
    let mut done = Vec::new();
    for row in store::everything()? {
        if row.relation().is_none() {
            done.push(forget(&row, dry_run)?);
        }
    }
    for (relation, _) in store::all()? {
        // A parent that was mended before has seen to it.
        let Some(row) = store::of(relation)? else {
            continue;
        };
        let name = qualified(&row.schema_name, &row.table_name);
        done.append(&mut attempted(relation, &name, || {
            mend(relation, &row, dry_run)
        }));
    }
    for difference in drift_scan::around_registrations()? {
        match (difference.code, difference.relation) {
            (Code::TableUnprotected, Some(relation)) => {
                let relation = pg_sys::Oid::from(relation);
                done.append(&mut attempted(relation, &difference.name, || {
                    repair_one(relation, dry_run)
                }));
            }
            (Code::AutoProtectOff, _) => done.push(enable_event_trigger(dry_run)?),
            _ => {}
        }
    }
    Ok(done)
}

fn attempted(
    relation: pg_sys::Oid,
    name: &str,
    work: impl FnOnce() -> Result<Vec<Done>>,
) -> Vec<Done> {
    subtransaction::attempt(work).unwrap_or_else(|failure| {
        vec![Done {
            relation: Some(relation.to_u32()),
            name: name.to_owned(),
            statement: None,
            result: format!("failed: {}", failure.message),
        }]
    })
}

/// Mends one registered table, with what is below it.
fn mend(relation: pg_sys::Oid, row: &Row, dry_run: bool) -> Result<Vec<Done>> {
    // Each table is a subtransaction: it must see what mending the one before has changed.
    apply::see_own_changes();
    let differences = drift::of(relation, row)?;
    if differences.is_empty() {
        return Ok(Vec::new());
    }
    require_administrator(relation)?;
    let (mended, left): (Vec<Difference>, Vec<Difference>) = differences
        .into_iter()
        .partition(|difference| difference.code.is_mended());
    // Without its column, say, nothing can be made again; another owner hinders nothing.
    let hindered = left
        .iter()
        .any(|difference| difference.code != Code::OwnerChanged);
    if hindered || mended.is_empty() {
        return Ok(left.into_iter().chain(mended).map(not_done).collect());
    }
    let name = catalog::relation_name(relation)
        .map(|name| qualified(&name.schema, &name.name))
        .unwrap_or_default();
    let mut done = Vec::new();
    let steps = repair_steps::of(relation, row, &mended)?;
    for statement in &steps.statements {
        done.push(Done {
            relation: Some(relation.to_u32()),
            name: name.clone(),
            statement: Some(statement.sql.clone()),
            result: outcome(dry_run),
        });
    }
    done.extend(steps.by_hand.iter().map(|sql| Done {
        relation: Some(relation.to_u32()),
        name: name.clone(),
        statement: Some(sql.clone()),
        result: BY_HAND.to_owned(),
    }));
    if !dry_run {
        apply::run(&Plan {
            now: steps.statements.clone(),
            ..Plan::default()
        })?;
        repair_steps::save(&steps, row)?;
    }
    let request = Request {
        template: Template::parse(&row.template)?,
        column: row.column_today(relation),
        mode: Mode::parse(&row.mode)?,
        options: None,
        may_leave: false,
    };
    done.append(&mut protect_again(relation, &name, &request, dry_run)?);
    if done.is_empty() {
        done.push(Done {
            relation: Some(relation.to_u32()),
            name: name.clone(),
            statement: None,
            result: if dry_run {
                "planned: the registration follows"
            } else {
                "done: the registration follows"
            }
            .to_owned(),
        });
    }
    if dry_run {
        done.extend(left.into_iter().map(not_done));
        return Ok(done);
    }
    if let Some(now) = store::of(relation)? {
        if now.found.owner != row.found.owner {
            // Whether another owner is welcome is not for a repair to say.
            let mut kept = now.clone();
            kept.found.owner.clone_from(&row.found.owner);
            store::save(&kept, Some(&now))?;
        }
        let now = store::of(relation)?.unwrap_or(now);
        let rest = drift::of(relation, &now)?;
        done.extend(rest.into_iter().map(not_done));
    }
    Ok(done)
}

const BY_HAND: &str = "to be run by hand: the table is large";

fn outcome(dry_run: bool) -> String {
    if dry_run { "planned" } else { "done" }.to_owned()
}

fn not_done(difference: Difference) -> Done {
    Done {
        relation: difference.relation,
        name: difference.name,
        statement: Some(difference.remediation),
        result: format!("not repaired: {}", difference.detail),
    }
}

/// Protects, and says by which statements.
fn protect_again(
    relation: pg_sys::Oid,
    name: &str,
    request: &Request,
    dry_run: bool,
) -> Result<Vec<Done>> {
    require_administrator(relation)?;
    let (statements, script) = planned(relation, request)?;
    if !dry_run {
        protect(relation, request)?;
    }
    let mut done = Vec::new();
    for statement in statements {
        let table = catalog::relation_name(pg_sys::Oid::from(statement.table)).map_or_else(
            || name.to_owned(),
            |name| qualified(&name.schema, &name.name),
        );
        done.push(Done {
            relation: Some(statement.table),
            name: table,
            statement: Some(statement.sql),
            result: outcome(dry_run),
        });
    }
    done.extend(script.into_iter().map(|sql| Done {
        relation: Some(relation.to_u32()),
        name: name.to_owned(),
        statement: Some(sql),
        result: BY_HAND.to_owned(),
    }));
    Ok(done)
}

/// What protecting would run, and what it would leave to a script.
fn planned(relation: pg_sys::Oid, request: &Request) -> Result<(Vec<Statement>, Vec<String>)> {
    let tenant = tenant_type()?;
    let request = &request.settled(relation)?;
    let schema = super::inspect::extension_schema()?;
    let limit = gucs::inline_ddl_rows() as f64;
    let mut members = gather(relation, request, tenant, false)?;
    let (mut statements, mut script) = (Vec::new(), Vec::new());
    for member in &mut members {
        plan_ground(member, request, tenant, &schema, limit)?;
        statements.append(&mut member.plan.now);
        script.append(&mut member.plan.script);
    }
    if request.mode == Mode::Enforce {
        complete_keys(&mut members, limit)?;
        unique_keys::complete(&mut members, request.mode, request.template, limit)?;
        for member in &mut members {
            statements.append(&mut member.plan.now);
            script.append(&mut member.plan.script);
            plan_gate(member, request, tenant, &schema, limit)?;
            statements.append(&mut member.plan.now);
        }
    }
    Ok((statements, script))
}

/// Forgets a table that is gone: who registered it may, and an administrator.
fn forget(row: &Row, dry_run: bool) -> Result<Done> {
    let by = store::registered_by(row)?;
    let may = is_administrator()
        || by
            .and_then(|name| catalog::role_oid(&name))
            .is_some_and(catalog::acts_as);
    let result = match (may, dry_run) {
        (false, _) => "not repaired: the table is gone, and somebody else registered it",
        (true, true) => "planned: the registration of a table that is gone is dropped",
        (true, false) => {
            store::delete(row)?;
            "done: the registration of a table that is gone was dropped"
        }
    };
    Ok(Done {
        relation: None,
        name: qualified(&row.schema_name, &row.table_name),
        statement: None,
        result: result.to_owned(),
    })
}

fn enable_event_trigger(dry_run: bool) -> Result<Done> {
    let may = is_administrator();
    if may && !dry_run {
        auto_switch::mend()?;
    }
    Ok(Done {
        relation: None,
        name: "pg_tenancy_auto_protect".to_owned(),
        statement: Some("ALTER EVENT TRIGGER pg_tenancy_auto_protect ENABLE".to_owned()),
        result: if may {
            outcome(dry_run)
        } else {
            "not repaired: it takes an administrator, or tenancy.auto_protect() again".to_owned()
        },
    })
}

type RepairRow = (
    Option<pg_sys::Oid>,
    Option<String>,
    Option<String>,
    Option<String>,
);

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "pgrx wants the columns spelled out")]
fn repair(
    relation: Option<pg_sys::Oid>,
    dry_run: Option<bool>,
) -> TableIterator<
    'static,
    (
        name!(relation, Option<pg_sys::Oid>),
        name!(table_name, Option<String>),
        name!(statement, Option<String>),
        name!(result, Option<String>),
    ),
> {
    let dry_run = dry_run.unwrap_or(false);
    let done = match relation {
        Some(relation) => repair_one(relation, dry_run),
        None => repair_all(dry_run),
    };
    let rows: Vec<RepairRow> = done
        .or_raise()
        .into_iter()
        .map(|done| {
            (
                done.relation.map(pg_sys::Oid::from),
                Some(done.name),
                done.statement,
                Some(done.result),
            )
        })
        .collect();
    TableIterator::new(rows)
}
