//! Whether the catalog still is what was registered.
//!
//! Owns the words for each difference. Must never mend one: protecting again does.

use pgrx::pg_sys;

use super::compare::Comparison;
use super::gate::covered;
use super::inspect::{self, CatalogPolicy};
use super::model::{Options, Template};
use super::plan::Wish;
use super::render::{self, quoted};
use super::rule;
use super::store::{Found, Made};
use super::subtransaction;
use crate::binding::tenant_type;
use crate::error::Result;

/// A registration, to compare the catalog with.
pub struct Registered<'a> {
    pub relation: pg_sys::Oid,
    pub template: Template,
    pub column: &'a str,
    pub options: Options,
    pub made: &'a Made,
    pub found: &'a Found,
}

impl Registered<'_> {
    /// In what the catalog differs from the registration of an enforced table.
    pub fn drift(&self) -> Result<Vec<String>> {
        let Some(facts) = inspect::facts_without_size(self.relation, self.column)? else {
            return Ok(Vec::new());
        };
        let Ok(tenant) = tenant_type() else {
            return Ok(vec!["this database is not bound".to_owned()]);
        };
        if facts.column.is_none() && !self.column.is_empty() {
            return Ok(vec![format!(
                "column {} was dropped or renamed: protect the table again under its name",
                quoted(self.column)
            )]);
        }
        let compared = || {
            let rule = rule::of(
                self.relation,
                self.template,
                &self.options,
                self.column,
                tenant,
                self.made.link.as_deref(),
            )?;
            let wish = Wish {
                facts: &facts,
                column: self.column,
                tenant,
                rule: &rule,
                extension_schema: "",
                limit: 0.0,
                follows_parent: self.made.by_parent,
            };
            drift(&wish, self.made, self.found)
        };
        if self.template.has_tenant_column(&self.options) && self.template != Template::SelfRow {
            return compared();
        }
        // What the predicates name besides the tenant column may be gone, and Postgres says so with
        // an error.
        Ok(subtransaction::attempt(compared)
            .unwrap_or_else(|failure| vec![format!("it cannot be compared: {}", failure.message)]))
    }
}

/// In what the catalog differs from what enforcement is; empty where it agrees.
fn drift(wish: &Wish<'_>, made: &Made, found: &Found) -> Result<Vec<String>> {
    let facts = wish.facts;
    let mut differences = Vec::new();
    if !facts.rls {
        differences.push("row security is not enabled".to_owned());
    }
    if (wish.rule.options.force || found.forced) && !facts.forced {
        differences.push("row security is not forced".to_owned());
    }
    let comparison = Comparison::new(facts.oid);
    let users: Vec<&CatalogPolicy> = facts
        .policies
        .iter()
        .filter(|policy| !made.policies.contains(&policy.name))
        .collect();
    for policy in render::policies(wish.rule, &covered(&users)) {
        match facts
            .policies
            .iter()
            .find(|there| there.name == policy.name)
        {
            None => differences.push(format!("policy {} is missing", quoted(&policy.name))),
            Some(there) if !comparison.is_same(there, &policy)? => {
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
    if wish.rule.template.keeps_tenant(&wish.rule.options)
        && !facts
            .triggers
            .iter()
            .any(|trigger| trigger.ours && matches!(trigger.enabled.as_str(), "O" | "A"))
    {
        differences.push(
            "the trigger that keeps rows with their tenant is missing or disabled".to_owned(),
        );
    }
    Ok(differences)
}
