//! Completing the foreign keys from and to the tables of a call.
//!
//! Owns which registered tables stand at the ends of keys, rights on the other end, and on whose
//! registration a key is noted. Must never decide what a key looks like.

use std::collections::{BTreeMap, BTreeSet};

use pgrx::pg_sys;

use super::apply;
use super::inspect::{self, Facts};
use super::key_catalog;
use super::key_definition::End;
use super::key_plan::{self, Ends};
use super::members::Member;
use super::model::{ForeignKeys, Options, Template};
use super::plan::Plan;
use super::store::{self, Made};
use crate::binding;
use crate::catalog;
use crate::error::Result;
use crate::registry::require_administrator;

/// The registered tables at both ends of every key from and to `relations`, those of the call as
/// they will be.
pub fn ends(relations: &[u32], members: &[Member]) -> Result<Ends> {
    let mut touched = BTreeSet::new();
    for relation in relations {
        for key in key_catalog::of(pg_sys::Oid::from(*relation))? {
            touched.extend([key.child, key.parent]);
        }
    }
    let mut others = Vec::new();
    for oid in touched {
        if members.iter().any(|member| member.facts.oid == oid) {
            continue;
        }
        let oid = pg_sys::Oid::from(oid);
        if let Some(row) = store::of(oid)?.filter(|row| !row.tenant_column.is_empty()) {
            // A row of which the option does not parse was written by a later version: report only.
            let options = Options::parse(&row.options).unwrap_or_default();
            others.push((oid, row, options));
        }
    }
    // Size and flags only matter to a key that is made; reading them for all would cost as much as
    // protecting them.
    let makes_keys = members
        .iter()
        .map(|member| &member.rule.options)
        .chain(others.iter().map(|(_, _, options)| options))
        .any(|options| options.foreign_keys != ForeignKeys::Report);
    let mut ends = BTreeMap::new();
    let mut known = BTreeMap::new();
    let mut unique_keys = Vec::new();
    for (oid, row, options) in others {
        let (column, enforced) = (row.column_today(oid), row.mode == "enforce");
        let shared = platform_of(&row.template)?;
        let end = if makes_keys {
            inspect::facts(oid, &column)?
                .map(|facts| end(&facts, &column, &options, enforced, shared))
        } else {
            catalog::relation_name(oid).map(|name| End {
                oid: oid.to_u32(),
                schema: name.schema,
                table: name.name,
                column,
                foreign_keys: options.foreign_keys,
                enforced,
                estimated_rows: 0.0,
                forced: false,
                shared: shared.clone(),
            })
        };
        if let Some(end) = end {
            ends.insert(oid.to_u32(), end);
            known.insert(oid.to_u32(), row.made.foreign_keys);
            unique_keys.extend(row.made.unique_keys);
        }
    }
    for member in members
        .iter()
        .filter(|member| !member.row.tenant_column.is_empty())
    {
        let enforced = member.row.mode == "enforce";
        ends.insert(
            member.facts.oid,
            end(
                &member.facts,
                &member.row.tenant_column,
                &member.rule.options,
                enforced,
                platform_of(&member.row.template)?,
            ),
        );
        known.insert(member.facts.oid, member.row.made.foreign_keys.clone());
        if let Some(row) = &member.previous {
            unique_keys.extend(row.made.unique_keys.iter().cloned());
        }
    }
    Ok(Ends {
        tables: ends,
        keys: known,
        unique_keys,
    })
}

fn end(
    facts: &Facts,
    column: &str,
    options: &Options,
    enforced: bool,
    shared: Option<String>,
) -> End {
    End {
        oid: facts.oid,
        schema: facts.schema.clone(),
        table: facts.name.clone(),
        column: column.to_owned(),
        foreign_keys: options.foreign_keys,
        enforced,
        estimated_rows: facts.estimated_rows,
        forced: facts.rls && facts.forced,
        shared,
    }
}

/// The platform tenant, where the template shows its rows to everybody.
pub fn platform_of(template: &str) -> Result<Option<String>> {
    if template != Template::SharedRead.name() {
        return Ok(None);
    }
    Ok(binding::required()?.platform_tenant.clone())
}

/// The tables of the call.
fn oids(members: &[Member]) -> Vec<u32> {
    members.iter().map(|member| member.facts.oid).collect()
}

pub fn report_keys(members: &mut [Member], limit: f64) -> Result<()> {
    let ends = ends(&oids(members), members)?;
    for member in members {
        let mut noted = Plan::default();
        key_plan::complete(
            pg_sys::Oid::from(member.facts.oid),
            &ends,
            limit,
            &mut noted,
        )?;
        member.plan.notes.append(&mut noted.notes);
        member.plan.plain_keys.append(&mut noted.plain_keys);
    }
    Ok(())
}

/// Completes the keys from and to the tables of the call.
pub fn complete_keys(members: &mut [Member], limit: f64) -> Result<()> {
    let mut ends = ends(&oids(members), members)?;
    for index in 0..members.len() {
        let Some(member) = members.get_mut(index) else {
            continue;
        };
        let relation = pg_sys::Oid::from(member.facts.oid);
        let mut plan = Plan {
            checks_data: member.plan.checks_data,
            as_found: member.plan.as_found,
            ..Plan::default()
        };
        let completion = key_plan::complete(relation, &ends, limit, &mut plan)?;
        for statement in &plan.now {
            // The other end is another's table perhaps.
            require_administrator(pg_sys::Oid::from(statement.table))?;
        }
        if plan.checks_data {
            apply::run(&plan)?;
        }
        member.plan.now.append(&mut plan.now);
        member.plan.script.append(&mut plan.script);
        member.plan.notes.append(&mut plan.notes);
        member.plan.plain_keys.append(&mut plan.plain_keys);
        for (child, key) in completion.made {
            ends.keys.entry(child).or_default().push(key.clone());
            on_registration(members, child, |made| made.foreign_keys.push(key))?;
        }
        for (child, name, replaced) in completion.replaced {
            on_registration(members, child, |made| {
                for key in made.foreign_keys.iter_mut().filter(|key| key.name == name) {
                    key.replaced = replaced;
                }
            })?;
        }
        for (parent, name) in completion.unique_keys {
            on_registration(members, parent, |made| made.unique_keys.push(name))?;
        }
    }
    Ok(())
}

/// Notes what was made on the registration it belongs to, of this call or of an earlier one.
fn on_registration(
    members: &mut [Member],
    table: u32,
    change: impl FnOnce(&mut Made),
) -> Result<()> {
    if let Some(member) = members.iter_mut().find(|member| member.facts.oid == table) {
        change(&mut member.row.made);
        return Ok(());
    }
    if members.iter().any(|member| !member.plan.checks_data) {
        return Ok(());
    }
    if let Some(row) = store::of(pg_sys::Oid::from(table))? {
        let mut changed = row.clone();
        change(&mut changed.made);
        store::save(&changed, Some(&row))?;
    }
    Ok(())
}
