//! Policies, row security and trigger: what isolates.
//!
//! Owns planning them and taking them back, by comparison with what is there. Must never widen what a
//! policy of the user's own shows, nor touch one.

use super::compare::Comparison;
use super::inspect::{CatalogPolicy, Facts};
use super::model::Command;
use super::names;
use super::plan::{Plan, Statement, Wish};
use super::render::{self, Policy, Target};
use super::store::{Found, Made};
use crate::error::{Error, Kind, Result};

/// Policies, row security and trigger: what isolates.
pub fn gate(wish: &Wish<'_>, made: &mut Made, found: &mut Found, plan: &mut Plan) -> Result<()> {
    let (facts, target) = (wish.facts, wish.target());
    let closed = names::closed(&facts.name);
    let users: Vec<&CatalogPolicy> = facts
        .policies
        .iter()
        .filter(|policy| !made.policies.contains(&policy.name) && policy.name != closed)
        .collect();
    let entering = made.policies.is_empty();
    if entering {
        found.rls = facts.rls;
        found.forced = facts.forced;
        found.closed = facts.policies.iter().any(|policy| policy.name == closed);
        if !facts.rls
            && !users.is_empty()
            && !wish.rule.options.adopt_policies
            && !plan.policies_awake
        {
            let list: Vec<&str> = users.iter().map(|policy| policy.name.as_str()).collect();
            return Err(Error::new(
                Kind::ObjectNotInPrerequisiteState,
                format!(
                    "table {} has policies that are dormant: row security is off",
                    target.qualified()
                ),
            )
            .detail(format!("Enabling it would wake: {}.", list.join(", ")))
            .hint("Drop them, or accept them with options => '{\"adopt_policies\": true}'."));
        }
    }

    if wish.rule.template.keeps_tenant(&wish.rule.options) {
        trigger(wish, &target, made, plan);
    }

    let wanted = render::policies(wish.rule, &covered(&users));
    for policy in &wanted {
        if users.iter().any(|user| user.name == policy.name) {
            return Err(Error::new(
                Kind::DuplicateObject,
                format!(
                    "policy {} of table {} exists already",
                    render::quoted(&policy.name),
                    target.qualified()
                ),
            )
            .detail("It was not made by pg_tenancy.")
            .hint("Rename it with ALTER POLICY .. RENAME TO .., or drop it."));
        }
    }
    let comparison = Comparison::new(facts.oid);
    let mut kept = Vec::new();
    for policy in &wanted {
        if made.policies.contains(&policy.name)
            && let Some(there) = facts
                .policies
                .iter()
                .find(|there| there.name == policy.name)
            && comparison.is_same(there, policy)?
        {
            kept.push(policy.name.as_str());
        }
    }
    for name in &made.policies {
        if !kept.contains(&name.as_str()) && facts.policies.iter().any(|there| there.name == *name)
        {
            plan.now.push(Statement::owner(
                facts.oid,
                render::drop_policy(&target, name),
            ));
        }
    }
    for policy in &wanted {
        if !kept.contains(&policy.name.as_str()) {
            plan.now.push(Statement::owner(
                facts.oid,
                render::create_policy(&target, policy),
            ));
        }
    }
    if facts.policies.iter().any(|policy| policy.name == closed) {
        plan.now.push(Statement::owner(
            facts.oid,
            render::drop_policy(&target, &closed),
        ));
    }
    notes_on_access(wish, &users, &wanted, entering, plan);
    made.policies = wanted.into_iter().map(|policy| policy.name).collect();

    if !facts.rls {
        plan.now.push(Statement::owner(
            facts.oid,
            render::row_security(&target, true),
        ));
    }
    let forced = wish.rule.options.force || found.forced;
    if facts.forced != forced {
        plan.now.push(Statement::owner(
            facts.oid,
            render::forced_row_security(&target, forced),
        ));
    }
    Ok(())
}

/// Takes back what [`gate`] made.
pub fn open_gate(facts: &Facts, target: &Target, made: &mut Made, found: &Found, plan: &mut Plan) {
    if made.policies.is_empty() {
        return;
    }
    // Flags first only where they were off: a table is never left with row security on and no
    // policy, nor with policies gone and row security of the user's half restored.
    if facts.rls != found.rls {
        plan.now.push(Statement::owner(
            facts.oid,
            render::row_security(target, found.rls),
        ));
    }
    if facts.forced != found.forced {
        plan.now.push(Statement::owner(
            facts.oid,
            render::forced_row_security(target, found.forced),
        ));
    }
    if found.closed {
        plan.now.push(Statement::owner(
            facts.oid,
            render::create_closed_policy(target),
        ));
    }
    for name in made.policies.drain(..) {
        if facts.policies.iter().any(|policy| policy.name == name) {
            plan.now.push(Statement::owner(
                facts.oid,
                render::drop_policy(target, &name),
            ));
        }
    }
    if let Some(name) = made.trigger.take()
        && !facts.is_partition
    {
        plan.now.push(Statement::owner(
            facts.oid,
            render::drop_trigger(target, &name),
        ));
    }
}

fn trigger(wish: &Wish<'_>, target: &Target, made: &mut Made, plan: &mut Plan) {
    let facts = wish.facts;
    if facts.is_partition_of_protected(wish.follows_parent) {
        // Cloned from the parent's.
        return;
    }
    let name = names::trigger(&facts.name);
    let there = facts
        .triggers
        .iter()
        .find(|trigger| trigger.ours && trigger.name == name);
    match there {
        Some(trigger) if trigger.enabled == "O" || trigger.enabled == "A" => {}
        Some(_) => plan.now.push(Statement::owner(
            facts.oid,
            format!(
                "ALTER TABLE {} ENABLE TRIGGER {}",
                target.qualified(),
                render::quoted(&name)
            ),
        )),
        None => {
            if let Some(old) = made.trigger.as_ref().filter(|old| **old != name) {
                plan.now.push(Statement::owner(
                    facts.oid,
                    render::drop_trigger(target, old),
                ));
            }
            for sql in render::create_trigger(target, &name, wish.in_partition_tree()) {
                plan.now.push(Statement::owner(facts.oid, sql));
            }
        }
    }
    made.trigger = Some(name);
}

/// The commands for which the user has a permissive policy, for whichever roles: beside one that is
/// for some roles only, ours for PUBLIC would show those roles more.
pub fn covered(users: &[&CatalogPolicy]) -> Vec<Command> {
    let mut commands: Vec<Command> = users
        .iter()
        .filter(|policy| policy.permissive)
        .flat_map(|policy| policy.commands())
        .collect();
    commands.sort_unstable();
    commands.dedup();
    commands
}

fn notes_on_access(
    wish: &Wish<'_>,
    users: &[&CatalogPolicy],
    wanted: &[Policy],
    entering: bool,
    plan: &mut Plan,
) {
    for policy in users
        .iter()
        .filter(|policy| policy.permissive && !policy.public)
    {
        let elsewhere = users.iter().any(|other| {
            other.permissive
                && other.public
                && (other.command == "*" || other.command == policy.command)
        });
        if !elsewhere {
            plan.notes.push(format!(
                "policy {} is for some roles only: for its command the others have no access",
                render::quoted(&policy.name)
            ));
        }
    }
    let covered = covered(users);
    if entering && wish.facts.rls && covered.len() < Command::EACH.len() {
        let opened: Vec<&str> = Command::EACH
            .iter()
            .filter(|c| !covered.contains(c))
            .map(|c| c.keyword())
            .collect();
        let access: Vec<String> = wanted
            .iter()
            .filter(|policy| policy.permissive)
            .map(|policy| render::quoted(&policy.name))
            .collect();
        plan.notes.push(format!(
            "row security was on without a permissive policy for {}: {} now let{} through what template \"{}\" allows",
            opened.join(", "),
            access.join(", "),
            if access.len() == 1 { "s" } else { "" },
            wish.rule.template.name(),
        ));
    }
    if wish.rule.options.force && wish.facts.subscribed {
        plan.notes.push(
            "a logical subscription writes into this table: with row security forced it stops where its owner is not exempt (option force: false)".to_owned(),
        );
    }
}
