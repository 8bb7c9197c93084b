//! The policies that are asked: those of the catalog, and those of enforcement where it is not on.
//!
//! Owns which apply, and how often each expression is evaluated: once. The texts of enforcement are those
//! that `policy_sql` prints.

use std::cell::RefCell;
use std::collections::HashMap;

use pgrx::pg_sys;

use super::super::compare::Comparison;
use super::super::inspect::CatalogPolicy;
use super::super::model::{Command, Mode};
use super::super::{names, render, rule};
use super::Line;
use super::asker::Asker;
use super::catalog::{Role, Table};
use super::protection::Protection;
use super::row::Row;
use super::verdict::{Clause, Outcome};
use crate::binding::tenant_type;
use crate::error::Result;

const MADE: &str = "made by pg_tenancy";

/// A policy.
pub struct Policy {
    name: String,
    pub permissive: bool,
    command: String,
    /// Empty: PUBLIC.
    roles: Vec<Role>,
    using: Option<String>,
    check: Option<String>,
    origin: &'static str,
    /// Whether nothing in it but what the extension wrote is run.
    is_plain: bool,
}

/// All policies of the table.
pub struct Policies {
    all: Vec<Policy>,
    /// ENABLE ROW LEVEL SECURITY.
    pub row_security: bool,
    known: RefCell<HashMap<String, Outcome>>,
}

/// What became of a policy.
pub struct Judged<'a> {
    pub policy: &'a Policy,
    /// `None`: it does not count.
    pub outcome: Option<Outcome>,
    clause: Clause,
    asked: Command,
    expression: Option<&'a str>,
}

impl Policies {
    /// Those of the catalog, and those that enforcement would make; `evaluated` where any can be.
    pub fn of(
        relation: pg_sys::Oid,
        table: &Table,
        protection: Option<&Protection>,
        evaluated: bool,
    ) -> Result<Self> {
        let enforced = protection.filter(|protection| protection.mode == Mode::Enforce);
        let rule = protection
            // Where enforcement is on, the catalog says what it is.
            .filter(|_| enforced.is_none() || !evaluated)
            .map(|protection| {
                rule::of(
                    relation,
                    protection.template,
                    &protection.options,
                    &protection.row.column_today(relation),
                    tenant_type()?,
                    protection.row.made.link.as_deref(),
                )
            })
            .transpose()?;
        let has_visible = protection.is_some_and(|protection| protection.options.visible.is_some());
        let closed = names::closed(&table.name);
        let mut all: Vec<Policy> = table
            .policies
            .iter()
            // Enforcing takes it away.
            .filter(|policy| enforced.is_some() || protection.is_none() || policy.name != closed)
            .map(|policy| {
                let made = enforced
                    .is_some_and(|protection| protection.row.made.policies.contains(&policy.name));
                Policy {
                    name: policy.name.clone(),
                    permissive: policy.permissive,
                    command: policy.command.clone(),
                    roles: if policy.public {
                        Vec::new()
                    } else {
                        policy.roles.clone()
                    },
                    using: policy.using.clone(),
                    check: policy.check.clone(),
                    origin: match (made, table.row_security) {
                        (true, _) => MADE,
                        (false, true) => "your own",
                        (false, false) => "your own, dormant",
                    },
                    is_plain: false,
                }
            })
            .collect();
        if let Some(rule) = &rule {
            let covered: Vec<Command> = Command::EACH
                .into_iter()
                .filter(|command| {
                    all.iter().any(|policy| {
                        policy.permissive && policy.origin != MADE && policy.is_for(*command)
                    })
                })
                .collect();
            let ours = render::policies(rule, &covered);
            if enforced.is_some() {
                let comparison = Comparison::new(relation.to_u32());
                for policy in &mut all {
                    // One that was edited by hand keeps its name.
                    if !has_visible
                        && policy.origin == MADE
                        && let Some(wanted) = ours.iter().find(|ours| ours.name == policy.name)
                    {
                        policy.is_plain = comparison.is_same(&policy.as_stored(), wanted)?;
                    }
                }
                return Ok(Self::new(all, table));
            }
            all.extend(ours.into_iter().map(|policy| Policy {
                name: policy.name,
                permissive: policy.permissive,
                command: policy.command.catalog_letter().to_owned(),
                roles: Vec::new(),
                using: policy.using,
                check: policy.check,
                origin: "made on enforcement",
                is_plain: !has_visible,
            }));
        }
        Ok(Self::new(all, table))
    }

    fn new(all: Vec<Policy>, table: &Table) -> Self {
        Self {
            all,
            row_security: table.row_security,
            known: RefCell::default(),
        }
    }

    /// What each policy for that command says to the row.
    pub fn judge(
        &self,
        command: Command,
        clause: Clause,
        asker: &Asker,
        row: &Row,
    ) -> Vec<Judged<'_>> {
        self.all
            .iter()
            .filter(|policy| policy.is_for(command))
            .map(|policy| {
                let expression = match clause {
                    Clause::Using => policy.using.as_deref(),
                    // Postgres takes USING where there is no WITH CHECK.
                    Clause::Check => policy.check.as_deref().or(policy.using.as_deref()),
                };
                let applies = policy.roles.is_empty() || asker.is_one_of(&policy.roles);
                Judged {
                    policy,
                    outcome: expression
                        .filter(|_| applies)
                        .map(|expression| self.outcome(policy, expression, asker, row)),
                    clause,
                    asked: command,
                    expression,
                }
            })
            .collect()
    }

    fn outcome(&self, policy: &Policy, expression: &str, asker: &Asker, row: &Row) -> Outcome {
        if let Some(known) = self.known.borrow().get(expression) {
            return known.clone();
        }
        let outcome = match asker.evaluates_as {
            Some(role) => row.evaluate(expression, role),
            None if policy.is_plain => row.evaluate(expression, asker.owner),
            None => Outcome::Unknown,
        };
        self.known
            .borrow_mut()
            .insert(expression.to_owned(), outcome.clone());
        outcome
    }
}

impl Policy {
    fn as_stored(&self) -> CatalogPolicy {
        CatalogPolicy {
            name: self.name.clone(),
            permissive: self.permissive,
            command: self.command.clone(),
            public: self.roles.is_empty(),
            using: self.using.clone(),
            check: self.check.clone(),
        }
    }

    fn is_for(&self, command: Command) -> bool {
        self.command == "*" || self.command == command.catalog_letter()
    }
}

impl Judged<'_> {
    /// In words.
    pub fn line(&self) -> Line {
        let policy = self.policy;
        let to = if policy.roles.is_empty() {
            "PUBLIC".to_owned()
        } else {
            let names: Vec<String> = policy
                .roles
                .iter()
                .map(|role| crate::catalog::quote_identifier(&role.name))
                .collect();
            names.join(", ")
        };
        let verdict = match (&self.outcome, self.expression) {
            (Some(outcome), _) => outcome.words(),
            (None, None) => "says nothing".to_owned(),
            (None, Some(_)) => "does not apply".to_owned(),
        };
        let kind = if policy.permissive {
            "permissive"
        } else {
            "restrictive"
        };
        let expression = self.expression.map_or_else(String::new, |expression| {
            format!(
                ": {}",
                expression.split_whitespace().collect::<Vec<_>>().join(" ")
            )
        });
        Line::new(
            &format!("policy {}", render::quoted(&policy.name)),
            &verdict,
            format!(
                "{kind}, to {to}, {}; {} {}{expression}",
                policy.origin,
                self.asked.keyword(),
                self.clause.keyword(),
            ),
        )
    }
}
