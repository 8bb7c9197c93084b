//! Protecting one table with all below it.
//!
//! Owns the order of things: from the ground (NOT NULL, default, index) over the keys to the gate
//! (policies, row security), and the registry. Must never leave half of it: all is one transaction.

use pgrx::pg_sys;

use super::apply;
use super::bad_rows::{refuse_rows_without_parent, refuse_rows_without_tenant};
use super::describe::{Words, describe};
use super::gate;
use super::ground;
use super::inspect;
use super::key_completion::{complete_keys, report_keys};
use super::members::{Member, gather, wish};
use super::model::{Mode, Options, Template};
use super::plan::Plan;
use super::rule;
use super::seen;
use super::store;
use super::unique_keys;
use crate::binding::{self, TenantType, tenant_type};
use crate::catalog;
use crate::error::Result;
use crate::gucs;
use crate::shadow;

/// What a caller asks for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The template.
    pub template: Template,
    /// The tenant column.
    pub column: String,
    /// The mode.
    pub mode: Mode,
    /// The options; `None` keeps those of a table that is registered.
    pub options: Option<Options>,
    /// Leaving `enforce` is what the call is for; in any other a WARNING tells of it.
    pub may_leave: bool,
}

impl Request {
    /// The same without a tenant column where the template of `relation` has none.
    pub fn settled(&self, relation: pg_sys::Oid) -> Result<Self> {
        let registered = match &self.options {
            Some(_) => None,
            None => store::of(relation)?,
        };
        let options = match (&self.options, registered) {
            (Some(options), _) => options.clone(),
            (None, Some(row)) => Options::parse(&row.options)?,
            (None, None) => Options::default(),
        };
        let mut settled = self.clone();
        if !self.template.has_tenant_column(&options) {
            settled.column.clear();
        }
        Ok(settled)
    }
}

/// What became of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The table.
    pub relation: pg_sys::Oid,
    /// Its template; `None` where it is not protected.
    pub template: Option<&'static str>,
    /// In words, with the script to run where there is one.
    pub result: Words,
    /// Whether it was not enforced before and is now.
    pub entered: bool,
}

/// Protects a table with its partitions and children.
pub fn protect(relation: pg_sys::Oid, request: &Request) -> Result<Vec<Outcome>> {
    if request.mode == Mode::Shadow {
        shadow::require()?;
    }
    apply::see_own_changes();
    let tenant = tenant_type()?;
    let request = &request.settled(relation)?;
    let mut members = gather(relation, request, tenant, true)?;
    let before_keys = request.mode == Mode::Enforce;
    let schema = inspect::extension_schema()?;
    let limit = gucs::inline_ddl_rows() as f64;

    for member in &mut members {
        plan_ground(member, request, tenant, &schema, limit)?;
        lock_for(&member.plan, member.facts.oid);
        apply::run(&member.plan)?;
    }
    if before_keys {
        complete_keys(&mut members, limit)?;
    } else {
        report_keys(&mut members, limit)?;
    }
    unique_keys::complete(&mut members, request.mode, request.template, limit)?;
    let mut outcomes = Vec::with_capacity(members.len());
    for member in &mut members {
        let done = member.plan.now.len();
        if request.mode == Mode::Enforce {
            plan_gate(member, request, tenant, &schema, limit)?;
        } else {
            let target = wish(member, request, tenant, &schema, limit).target();
            let Member {
                facts, row, plan, ..
            } = member;
            gate::open_gate(facts, &target, &mut row.made, &row.found, plan);
        }
        let rest = Plan {
            now: member.plan.now.split_off(done),
            ..Plan::default()
        };
        lock_for(&rest, member.facts.oid);
        apply::run(&rest)?;
        let changed = !rest.now.is_empty() || done > 0;
        read_back_default(member)?;
        seen::note(member)?;
        store::save(&member.row, member.previous.as_ref())?;
        let was = |mode: Mode| {
            let previous = member.previous.as_ref();
            previous.is_some_and(|row| row.mode == mode.name())
        };
        let (was_shadow, was_enforced) = (was(Mode::Shadow), was(Mode::Enforce));
        if request.mode == Mode::Shadow && !was_shadow {
            shadow::begin(pg_sys::Oid::from(member.facts.oid))?;
        }
        if was_shadow || request.mode == Mode::Shadow {
            apply::forget_plans(pg_sys::Oid::from(member.facts.oid));
        }
        if was_enforced && request.mode != Mode::Enforce && !request.may_leave {
            warn_of_leaving(pg_sys::Oid::from(member.facts.oid));
        }
        let changed = changed || member.previous.as_ref() != Some(&member.row);
        outcomes.push(Outcome {
            relation: pg_sys::Oid::from(member.facts.oid),
            template: Some(request.template.name()),
            result: describe(request.mode, changed, &member.plan),
            entered: request.mode == Mode::Enforce && !was_enforced,
        });
    }
    Ok(outcomes)
}

fn warn_of_leaving(relation: pg_sys::Oid) {
    let name = catalog::relation_name(relation).map(|name| name.to_string());
    apply::warning(
        &format!(
            "table {} is not enforced any more",
            name.unwrap_or_default()
        ),
        Some("It was until now; the mode of the call is another."),
        Some("Give mode => 'enforce' to keep it so, and change modes with tenancy.set_mode()."),
    );
}

pub fn plan_ground(
    member: &mut Member,
    request: &Request,
    tenant: TenantType,
    schema: &str,
    limit: f64,
) -> Result<()> {
    if request.mode != Mode::Enforce {
        return Ok(());
    }
    let nullable = member
        .facts
        .column
        .as_ref()
        .is_some_and(|column| !column.not_null);
    let is_large = member.facts.estimated_rows > limit;
    if member.plan.checks_data && !is_large && !member.follows_parent {
        if nullable {
            let platform = match request.template {
                Template::SharedRead => binding::required()?.platform_tenant.clone(),
                _ => None,
            };
            refuse_rows_without_tenant(&member.facts, &request.column, platform.as_deref())?;
        }
        if let Some(link) = &member.rule.link {
            refuse_rows_without_parent(&member.facts, link)?;
        }
    }
    let (mut made, mut found, mut plan) = (
        member.row.made.clone(),
        member.row.found.clone(),
        std::mem::take(&mut member.plan),
    );
    if !found.noted {
        found.noted = true;
        found.not_null = !nullable;
        found.unchecked_not_null = member
            .facts
            .column
            .as_ref()
            .and_then(|column| column.unchecked_not_null.clone());
        if member
            .facts
            .is_partition_of_protected(member.follows_parent)
        {
            found.indexes = member.facts.detached_indexes.clone();
        }
    }
    ground::ground(
        &wish(member, request, tenant, schema, limit),
        &mut made,
        &mut found,
        &mut plan,
    );
    member.row.made = made;
    member.row.found = found;
    member.plan = plan;
    Ok(())
}

pub fn plan_gate(
    member: &mut Member,
    request: &Request,
    tenant: TenantType,
    schema: &str,
    limit: f64,
) -> Result<()> {
    let (mut made, mut found, mut plan) = (
        member.row.made.clone(),
        member.row.found.clone(),
        std::mem::take(&mut member.plan),
    );
    gate::gate(
        &wish(member, request, tenant, schema, limit),
        &mut made,
        &mut found,
        &mut plan,
    )?;
    if !member.follows_parent {
        let relation = pg_sys::Oid::from(member.facts.oid);
        plan.notes.extend(rule::advice(relation, &member.rule)?);
    }
    member.row.made = made;
    member.row.found = found;
    member.plan = plan;
    Ok(())
}

/// The strongest lock that the statements need, taken once, so that it is not reached in steps.
fn lock_for(plan: &Plan, table: u32) {
    if plan.now.iter().any(|statement| statement.table == table) {
        apply::lock(pg_sys::Oid::from(table), pg_sys::AccessExclusiveLock);
    }
}

fn read_back_default(member: &mut Member) -> Result<()> {
    if member.row.made.default.is_none() {
        return Ok(());
    }
    let relation = pg_sys::Oid::from(member.facts.oid);
    if let Some(column) =
        inspect::facts(relation, &member.row.tenant_column)?.and_then(|facts| facts.column)
    {
        member.row.made.default = column.default;
    }
    Ok(())
}
