//! Whether the catalog still is what was registered.
//!
//! Owns the words for each difference. Must never mend one: protecting again does.

use super::gate::{covered, deparsed, is_same};
use super::inspect::CatalogPolicy;
use super::plan::Wish;
use super::render::{self, quoted};
use super::store::{Found, Made};

/// In what the catalog differs from what enforcement is; empty where it agrees.
pub fn drift(wish: &Wish<'_>, made: &Made, found: &Found) -> Vec<String> {
    let facts = wish.facts;
    let mut differences = Vec::new();
    if facts.column.is_none() {
        return vec![format!(
            "column {} was dropped or renamed: protect the table again under its name",
            quoted(wish.column)
        )];
    }
    if !facts.rls {
        differences.push("row security is not enabled".to_owned());
    }
    if (wish.options.force || found.forced) && !facts.forced {
        differences.push("row security is not forced".to_owned());
    }
    let shown = deparsed(wish);
    let users: Vec<&CatalogPolicy> = facts
        .policies
        .iter()
        .filter(|policy| !made.policies.contains(&policy.name))
        .collect();
    for policy in render::policies(&facts.name, &covered(&users)) {
        match facts
            .policies
            .iter()
            .find(|there| there.name == policy.name)
        {
            None => differences.push(format!("policy {} is missing", quoted(&policy.name))),
            Some(there) if !is_same(there, &policy, &shown) => {
                differences.push(format!("policy {} was altered", quoted(&policy.name)));
            }
            Some(_) => {}
        }
    }
    for policy in facts.policies.iter().filter(|policy| {
        policy.permissive
            && made.policies.contains(&policy.name)
            && policy
                .commands()
                .iter()
                .any(|command| covered(&users).contains(command))
    }) {
        differences.push(format!(
            "policy {} widens a policy of the user's own",
            quoted(&policy.name)
        ));
    }
    if !facts
        .triggers
        .iter()
        .any(|trigger| trigger.ours && matches!(trigger.enabled.as_str(), "O" | "A"))
    {
        differences.push(
            "the trigger that keeps rows with their tenant is missing or disabled".to_owned(),
        );
    }
    differences
}
