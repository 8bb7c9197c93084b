//! From what the catalog says to the statements that make it what was asked.
//!
//! Owns the comparison of a table with its desired state; protecting twice therefore plans nothing.
//! Must never execute: [`super::apply`] runs a plan and `policy_sql` prints it.

use super::inspect::{CatalogPolicy, Facts};
use super::model::{Command, Options, TenantFunctions};
use super::names;
use super::render::{self, Policy, Target};
use super::store::{Found, Made};
use crate::binding::TenantType;
use crate::error::{Error, Kind, Result};

/// A statement and who runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The table whose owner runs it.
    pub table: u32,
    /// The text.
    pub sql: String,
    /// Whether it makes an index, for which Postgres wants CREATE on the schema, that an owner may
    /// lack; the caller's own rights then have to do.
    pub makes_index: bool,
}

impl Statement {
    /// A statement for the owner of the table.
    pub fn owner(table: u32, sql: String) -> Self {
        Self {
            table,
            sql,
            makes_index: false,
        }
    }

    /// A statement that makes an index.
    pub fn index(table: u32, sql: String) -> Self {
        Self {
            table,
            sql,
            makes_index: true,
        }
    }
}

/// What to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Statements to run in place, in order.
    pub now: Vec<Statement>,
    /// Statements for the administrator, because in place they would lock a large table.
    pub script: Vec<String>,
    /// What the administrator should know.
    pub notes: Vec<String>,
    /// Whether rows are looked at; printing a plan does not.
    pub checks_data: bool,
    /// Whether it starts from the table as it was found, keys that were made left out.
    pub as_found: bool,
}

/// What is asked of one table.
pub struct Wish<'a> {
    /// The table as it is.
    pub facts: &'a Facts,
    /// The tenant column.
    pub column: &'a str,
    /// The tenant's type.
    pub tenant: TenantType,
    /// The options.
    pub options: Options,
    /// The extension's schema, quoted.
    pub extension_schema: &'a str,
    /// Rows up to which DDL runs in place.
    pub limit: f64,
    /// Whether NOT NULL and DEFAULT come from a parent that is protected too.
    pub follows_parent: bool,
}

impl Wish<'_> {
    /// The table as statements name it.
    pub fn target(&self) -> Target {
        Target {
            schema: self.facts.schema.clone(),
            table: self.facts.name.clone(),
            column: self.column.to_owned(),
        }
    }

    fn in_partition_tree(&self) -> bool {
        self.facts.is_partition || self.facts.kind == "p"
    }

    fn is_large(&self) -> bool {
        self.facts.estimated_rows > self.limit
    }
}

/// Fails for what cannot be protected.
pub fn check_protectable(facts: &Facts, column: &str, tenant: TenantType) -> Result<()> {
    let name = format!(
        "{}.{}",
        render::quoted(&facts.schema),
        render::quoted(&facts.name)
    );
    if let Some(reserved) = &facts.reserved {
        return Err(Error::new(
            Kind::WrongObjectType,
            format!("cannot protect {name}: it is {reserved}"),
        )
        .hint("Protect the application's own tables."));
    }
    let kind = match facts.kind.as_str() {
        "r" | "p" => None,
        "v" => Some((
            "a view",
            "Protect the tables under it, and make it WITH (security_invoker = true).",
        )),
        "m" => Some((
            "a materialized view",
            "It holds rows of all tenants: keep it from application roles.",
        )),
        "f" => Some((
            "a foreign table",
            "Postgres has no row security on foreign tables: protect it where it lives.",
        )),
        "S" => Some(("a sequence", "Protect tables.")),
        "i" | "I" => Some(("an index", "Protect its table.")),
        _ => Some(("not a table", "Protect tables.")),
    };
    if let Some((what, hint)) = kind {
        return Err(Error::new(
            Kind::WrongObjectType,
            format!("cannot protect {name}: it is {what}"),
        )
        .hint(hint));
    }
    if facts.persistence == "t" {
        return Err(Error::new(
            Kind::WrongObjectType,
            format!("cannot protect {name}: it is a temporary table"),
        )
        .hint("A temporary table is seen by its own session only: leave it out."));
    }
    let Some(found) = &facts.column else {
        return Err(Error::new(
            Kind::UndefinedColumn,
            format!(
                "column {} of table {name} does not exist",
                render::quoted(column)
            ),
        )
        .hint("Add the column, or name the right one with tenant_column => '..'."));
    };
    if !tenant.column_types().contains(&found.base_type.as_str()) {
        return Err(Error::new(
            Kind::DatatypeMismatch,
            format!(
                "column {} of table {name} is of type {}, the tenant is of type {}",
                render::quoted(column),
                found.declared_type,
                tenant.column_types().first().copied().unwrap_or_default(),
            ),
        )
        .hint(
            "Alter the column's type, or bind another one with tenancy.bind(tenant_type => '..').",
        ));
    }
    if found.generated {
        return Err(Error::new(
            Kind::WrongObjectType,
            format!(
                "column {} of table {name} is generated",
                render::quoted(column)
            ),
        )
        .hint("Use a plain column for the tenant."));
    }
    Ok(())
}

/// NOT NULL, DEFAULT and index: what stays when enforcement is taken back for a while.
pub fn ground(wish: &Wish<'_>, made: &mut Made, found: &mut Found, plan: &mut Plan) {
    let (facts, target) = (wish.facts, wish.target());
    let Some(column) = &facts.column else { return };

    if !column.not_null && !wish.follows_parent {
        made.not_null = true;
        if wish.is_large() {
            plan.script.extend(render::set_not_null_script(&target));
        } else {
            plan.now
                .push(Statement::owner(facts.oid, render::set_not_null(&target)));
        }
    }

    if wish.options.set_default && !wish.follows_parent {
        let stands = made.default.is_some() && made.default == column.default;
        if !stands {
            found.default = column.default.clone();
            let expression = wish.tenant.default_expression(wish.extension_schema);
            plan.now.push(Statement::owner(
                facts.oid,
                render::set_default(&target, Some(&expression)),
            ));
            // Read back once it is set, as the server shows it.
            made.default = Some(expression);
        }
    } else if !wish.options.set_default {
        restore_default(facts, &target, made, found, plan);
    }

    // A unique key that was made for another table's foreign key goes when that key does.
    let leads = facts
        .leading_indexes
        .iter()
        .any(|index| !made.unique_keys.contains(index));
    if !leads && !facts.is_partition_of_protected(wish.follows_parent) {
        let mut name = names::index(&facts.name);
        if made.index.as_ref() != Some(&name) && super::inspect::name_is_taken(&facts.schema, &name)
        {
            name = names::alternative(&name, &facts.schema);
        }
        if wish.is_large() {
            if facts.kind == "p" {
                // Postgres builds no index concurrently on a partitioned table, but one that is made
                // there adopts those of the partitions instead of building them.
                for (schema, table) in &facts.leaves {
                    let leaf = Target {
                        schema: schema.clone(),
                        table: table.clone(),
                        column: target.column.clone(),
                    };
                    plan.script.push(render::create_index_concurrently(
                        &leaf,
                        &names::index(table),
                    ));
                }
                plan.script.push(render::create_index(&target, &name));
            } else {
                plan.script
                    .push(render::create_index_concurrently(&target, &name));
            }
        } else {
            plan.now.push(Statement::index(
                facts.oid,
                render::create_index(&target, &name),
            ));
        }
        made.index = Some(name);
    }
}

/// Puts back the default that was found, unless somebody has changed ours since.
pub fn restore_default(
    facts: &Facts,
    target: &Target,
    made: &mut Made,
    found: &mut Found,
    plan: &mut Plan,
) {
    let Some(ours) = made.default.take() else {
        return;
    };
    let now = facts
        .column
        .as_ref()
        .and_then(|column| column.default.as_ref());
    if now == Some(&ours) {
        let sql = render::set_default(target, found.default.as_deref());
        plan.now.push(Statement::owner(facts.oid, sql));
    }
    found.default = None;
}

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
        if !facts.rls && !users.is_empty() && !wish.options.adopt_policies {
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

    trigger(wish, &target, made, plan);

    let wanted = render::policies(&facts.name, &covered(&users));
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
    let shown = deparsed(wish);
    for name in &made.policies {
        let kept = wanted.iter().any(|policy| {
            policy.name == *name
                && facts
                    .policies
                    .iter()
                    .any(|there| there.name == *name && is_same(there, policy, &shown))
        });
        if !kept && facts.policies.iter().any(|there| there.name == *name) {
            plan.now.push(Statement::owner(
                facts.oid,
                render::drop_policy(&target, name),
            ));
        }
    }
    let call = wish.tenant.required_call();
    for policy in &wanted {
        let kept = made.policies.contains(&policy.name)
            && facts
                .policies
                .iter()
                .any(|there| there.name == policy.name && is_same(there, policy, &shown));
        if !kept {
            plan.now.push(Statement::owner(
                facts.oid,
                render::create_policy(&target, policy, call),
            ));
        }
    }
    if facts.policies.iter().any(|policy| policy.name == closed) {
        plan.now.push(Statement::owner(
            facts.oid,
            render::drop_policy(&target, &closed),
        ));
    }
    notes_on_access(wish, &users, entering, plan);
    made.policies = wanted.into_iter().map(|policy| policy.name).collect();

    if !facts.rls {
        plan.now.push(Statement::owner(
            facts.oid,
            render::row_security(&target, true),
        ));
    }
    let forced = wish.options.force || found.forced;
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
fn covered(users: &[&CatalogPolicy]) -> Vec<Command> {
    let mut commands: Vec<Command> = users
        .iter()
        .filter(|policy| policy.permissive)
        .flat_map(|policy| policy.commands())
        .collect();
    commands.sort_unstable();
    commands.dedup();
    commands
}

fn notes_on_access(wish: &Wish<'_>, users: &[&CatalogPolicy], entering: bool, plan: &mut Plan) {
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
        plan.notes.push(format!(
            "row security was on without a permissive policy for {}: {} now lets a tenant reach its own rows",
            opened.join(", "),
            render::quoted(&names::access(&wish.facts.name, Command::All)),
        ));
    }
    if wish.options.force && wish.facts.subscribed {
        plan.notes.push(
            "a logical subscription writes into this table: with row security forced it stops where its owner is not exempt (option force: false)".to_owned(),
        );
    }
}

fn deparsed(wish: &Wish<'_>) -> String {
    wish.facts
        .column
        .as_ref()
        .map_or_else(String::new, |column| {
            render::deparsed_predicate(
                &column.quoted,
                &strip_modifier(&column.declared_type),
                wish.tenant.compared_type(),
                wish.tenant.required_call(),
            )
        })
}

/// `character varying(20)` is shown as `character varying` where it is cast from.
fn strip_modifier(declared: &str) -> String {
    declared
        .split('(')
        .next()
        .unwrap_or_default()
        .trim_end()
        .to_owned()
}

/// Whether the catalog's policy is the one that we want.
pub fn is_same(there: &CatalogPolicy, wanted: &Policy, predicate: &str) -> bool {
    let expected = |present: bool| present.then_some(predicate);
    there.permissive == wanted.permissive
        && there.public
        && there.command == wanted.command.catalog_letter()
        && there.using.as_deref() == expected(wanted.command.has_using())
        && there.check.as_deref() == expected(wanted.command.has_check())
}

/// In what the catalog differs from what enforcement is; empty where it agrees.
pub fn drift(wish: &Wish<'_>, made: &Made, found: &Found) -> Vec<String> {
    let facts = wish.facts;
    let mut differences = Vec::new();
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
            None => differences.push(format!(
                "policy {} is missing",
                render::quoted(&policy.name)
            )),
            Some(there) if !is_same(there, &policy, &shown) => {
                differences.push(format!(
                    "policy {} was altered",
                    render::quoted(&policy.name)
                ));
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
            render::quoted(&policy.name)
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

impl Facts {
    /// Whether indexes and triggers are cloned from a protected parent.
    pub fn is_partition_of_protected(&self, follows_parent: bool) -> bool {
        self.is_partition && follows_parent
    }

    /// The table as it would be without what protection made: what `policy_sql` starts from.
    pub fn pristine(mut self, made: &Made, found: &Found) -> Self {
        if !made.policies.is_empty() {
            self.rls = found.rls;
            self.forced = found.forced;
        }
        self.policies
            .retain(|policy| !made.policies.contains(&policy.name));
        self.triggers.retain(|trigger| !trigger.ours);
        self.leading_indexes.retain(|index| {
            made.index.as_ref() != Some(index) && !made.unique_keys.contains(index)
        });
        if let Some(column) = &mut self.column {
            column.not_null = column.not_null && !made.not_null;
            if made.default.is_some() && made.default == column.default {
                column.default = found.default.clone();
            }
        }
        self
    }
}
