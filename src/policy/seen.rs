//! What the catalog held right after a table was protected.
//!
//! Owns the marks by which an untouched policy, trigger or default is known again without opening the
//! table: to show an expression Postgres locks its table, so that asking for drift would wait behind
//! whoever holds it exclusively. A mark is believed of the very table that was registered only; where one
//! is missing, as after a restore, the expression is shown and compared. Must never make two different
//! expressions look the same.

use std::collections::BTreeMap;

use pgrx::pg_sys;
use serde::{Deserialize, Serialize};

use super::drift_catalog::{self, PolicyThere};
use super::gate::covered;
use super::members::Member;
use super::render::{self, Policy};
use crate::error::Result;

/// Marks of what protecting made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seen {
    /// By the policy's name.
    pub policies: BTreeMap<String, SeenPolicy>,
    /// The trigger's definition.
    pub trigger: Option<String>,
    /// The tenant column's default.
    pub default: Option<String>,
}

/// A policy as it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenPolicy {
    /// Hash of its stored expressions.
    pub tree: String,
    /// The text that it was made from: another text is wanted when the binding or the rule changes.
    pub using: Option<String>,
    /// The same of WITH CHECK.
    pub check: Option<String>,
}

impl Seen {
    /// Whether the catalog's policy is, for certain, the wanted one.
    pub fn is_same(&self, there: &PolicyThere, wanted: &Policy) -> bool {
        self.policies.get(&there.name).is_some_and(|seen| {
            seen.tree == there.tree && seen.using == wanted.using && seen.check == wanted.check
        })
    }
}

/// Notes on the member's registration what it is made of now.
pub fn note(member: &mut Member) -> Result<()> {
    let mut seen = Seen::default();
    let relation = pg_sys::Oid::from(member.facts.oid);
    let made = &member.row.made;
    if !made.policies.is_empty()
        && let Some(there) = drift_catalog::read(relation, &member.row.tenant_column)?
    {
        let users: Vec<_> = member
            .facts
            .policies
            .iter()
            .filter(|policy| !made.policies.contains(&policy.name))
            .collect();
        for wanted in render::policies(&member.rule, &covered(&users)) {
            if let Some(policy) = there.policies.iter().find(|one| one.name == wanted.name) {
                seen.policies.insert(
                    wanted.name,
                    SeenPolicy {
                        tree: policy.tree.clone(),
                        using: wanted.using,
                        check: wanted.check,
                    },
                );
            }
        }
        seen.trigger = there
            .our_trigger(made.trigger.as_deref())
            .map(|trigger| trigger.tree.clone());
        if made.default.is_some() {
            seen.default = there.column.and_then(|column| column.default_tree);
        }
    }
    member.row.made.seen = seen;
    Ok(())
}
