//! Whether policies, trigger and default are what protecting makes.
//!
//! Owns the comparison of what isolates. Does not open the table where all is as protecting left it;
//! where something is not, it is shown and compared, unless another session holds the table exclusively:
//! then that is said, and nobody waits. Must never mend anything.

use pgrx::pg_sys;

use super::difference::{Code, Difference};
use super::drift::Found;
use super::drift_catalog::{PolicyThere, There};
use super::drift_look::Look;
use super::gate::covered;
use super::inspect::CatalogPolicy;
use super::model::{Options, Template};
use super::predicate::Rule;
use super::render::{self, quoted};
use super::rule;
use super::store::Row;
use crate::binding::TenantType;
use crate::error::Result;

/// Policies, trigger and default.
pub fn gate(
    relation: pg_sys::Oid,
    row: &Row,
    there: &There,
    column: &str,
    tenant: TenantType,
    name: &str,
) -> Result<Vec<Difference>> {
    let mut found = Found {
        relation,
        name: name.to_owned(),
        list: Vec::new(),
    };
    let options = Options::parse(&row.options)?;
    // Checking an expression of the user's own reads its table.
    let mut look = Look::new(relation, column, row);
    if options.visible.is_some() && !look.may_open() {
        found.add(Code::Locked, LOCKED.to_owned());
        return Ok(found.list);
    }
    let rule = rule::of(
        relation,
        Template::parse(&row.template)?,
        &options,
        column,
        tenant,
        row.made.link.as_deref(),
    )?;
    look.names_too(rule.link.as_ref());
    policies(&mut found, &mut look, row, there, &rule)?;
    if rule.template.keeps_tenant(&rule.options) {
        trigger(&mut found, &mut look, row, there)?;
    }
    if let Some(ours) = &row.made.default {
        default(&mut found, &mut look, row, there, ours)?;
    }
    if look.is_locked {
        found.add(Code::Locked, LOCKED.to_owned());
    }
    Ok(found.list)
}

const LOCKED: &str =
    "another session holds the table exclusively: what was changed in it cannot be read now";

fn policies(
    found: &mut Found,
    look: &mut Look<'_>,
    row: &Row,
    there: &There,
    rule: &Rule,
) -> Result<()> {
    let made = &row.made;
    let users: Vec<CatalogPolicy> = there
        .policies
        .iter()
        .filter(|policy| !made.policies.contains(&policy.name))
        .map(PolicyThere::without_expressions)
        .collect();
    let users: Vec<&CatalogPolicy> = users.iter().collect();
    let covered = covered(&users);
    let mut widens = false;
    for policy in there
        .policies
        .iter()
        .filter(|policy| policy.permissive && made.policies.contains(&policy.name))
    {
        let commands = policy.without_expressions().commands();
        if commands.iter().any(|command| covered.contains(command)) {
            let theirs: Vec<String> = users
                .iter()
                .filter(|user| user.permissive)
                .map(|user| quoted(&user.name))
                .collect();
            widens = true;
            found.add(
                Code::PolicyAdded,
                format!(
                    "policy {} widens a policy of the user's own: {}",
                    quoted(&policy.name),
                    theirs.join(", ")
                ),
            );
        }
    }
    for wanted in render::policies(rule, &covered) {
        // A renamed table keeps its policies under the names that they got.
        let policy = there
            .policies
            .iter()
            .find(|policy| policy.name == wanted.name)
            .or_else(|| {
                there.policies.iter().find(|policy| {
                    rule.table != row.table_name
                        && made.policies.contains(&policy.name)
                        && policy.permissive == wanted.permissive
                        && policy.command == wanted.command.catalog_letter()
                })
            });
        match policy {
            // That of all commands stands for it, and is said to be too wide.
            None if wanted.permissive && widens => {}
            None => found.add(
                Code::PolicyMissing,
                format!("policy {} is missing", quoted(&wanted.name)),
            ),
            Some(policy) if look.is_believed && made.seen.is_same(policy, &wanted) => {}
            Some(policy) => {
                if look.shows_another(&policy.name, &wanted)? {
                    found.add(
                        Code::PolicyAltered,
                        format!("policy {} was altered", quoted(&policy.name)),
                    );
                }
            }
        }
    }
    Ok(())
}

fn trigger(found: &mut Found, look: &mut Look<'_>, row: &Row, there: &There) -> Result<()> {
    let Some(trigger) = there.our_trigger(row.made.trigger.as_deref()) else {
        found.add(
            Code::TriggerMissing,
            "the trigger that keeps rows with their tenant is missing".to_owned(),
        );
        return Ok(());
    };
    if !trigger.enabled {
        found.add(
            Code::TriggerDisabled,
            format!(
                "trigger {}, which keeps rows with their tenant, is disabled",
                quoted(&trigger.name)
            ),
        );
    }
    let is_seen = look.is_believed && row.made.seen.trigger.as_ref() == Some(&trigger.tree);
    if !is_seen && look.may_open() && !look.trigger_is_sound(&trigger.name)? {
        found.add(
            Code::TriggerAltered,
            format!("trigger {} was altered", quoted(&trigger.name)),
        );
    }
    Ok(())
}

fn default(
    found: &mut Found,
    look: &mut Look<'_>,
    row: &Row,
    there: &There,
    ours: &str,
) -> Result<()> {
    let tree = there
        .column
        .as_ref()
        .and_then(|column| column.default_tree.as_ref());
    let same = match tree {
        None => false,
        Some(_) if look.is_believed && row.made.seen.default.as_ref() == tree => true,
        Some(_) => match look.facts()? {
            Some(facts) => {
                let now = facts
                    .column
                    .as_ref()
                    .and_then(|column| column.default.as_deref());
                now == Some(ours)
            }
            None => true,
        },
    };
    if !same {
        found.add(
            Code::DefaultChanged,
            format!("the default of the tenant column is not {ours} any more"),
        );
    }
    Ok(())
}
