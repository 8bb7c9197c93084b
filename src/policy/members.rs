//! The tables of one call: the one that was named, its partitions and its children.
//!
//! Owns rights, the first lock, and reading each table with its registration. Must never plan.

use pgrx::pg_sys;

use super::apply;
use super::inspect::{self, CatalogPolicy, Facts};
use super::model::{Mode, Options};
use super::plan::{Plan, Wish};
use super::predicate::Rule;
use super::protect::Request;
use super::protectable::check_protectable;
use super::render;
use super::rule;
use super::store::{self, Row};
use super::unprotect;
use crate::binding::TenantType;
use crate::catalog;
use crate::error::{Error, Kind, Result};
use crate::registry::require_administrator;

/// One table of a call.
pub struct Member {
    pub facts: Facts,
    pub previous: Option<Row>,
    pub row: Row,
    pub rule: Rule,
    pub follows_parent: bool,
    pub plan: Plan,
}

/// Checks rights and kinds of the table and all below it, locks them and reads them.
pub fn gather(
    relation: pg_sys::Oid,
    request: &Request,
    tenant: TenantType,
    writes: bool,
) -> Result<Vec<Member>> {
    let first = examine(relation, request, tenant, writes)?;
    let descendants = first.facts.descendants.clone();
    let (mut root_follows, mut has_parent) = (false, false);
    for parent in &first.facts.parents {
        let row = store::of(pg_sys::Oid::from(*parent))?;
        has_parent |= row.is_some();
        root_follows |= row.is_some_and(|row| row.mode == "enforce");
    }
    if root_follows && writes && request.mode != Mode::Enforce {
        return Err(Error::new(
            Kind::ObjectNotInPrerequisiteState,
            format!(
                "table {} is enforced because its parent is",
                render::quoted(&first.facts.name)
            ),
        )
        .hint("Set the mode of the parent, or detach the table from it first."));
    }
    let mut root = member(first, request, tenant, root_follows, None, writes)?;
    // A partition that was detached stands for itself.
    root.row.made.by_parent &= has_parent;
    let mut members = vec![root];
    for below in descendants {
        let examined = examine(pg_sys::Oid::from(below), request, tenant, writes)?;
        members.push(member(
            examined,
            request,
            tenant,
            true,
            Some(relation),
            writes,
        )?);
    }
    Ok(members)
}

/// The registration of the first of a table's parents that has one.
pub fn registered_parent(parents: &[u32]) -> Result<Option<Row>> {
    for parent in parents {
        if let Some(row) = store::of(pg_sys::Oid::from(*parent))? {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

/// What was read of a table, and whether other DDL was kept away while it was.
struct Examined {
    facts: Facts,
    is_locked: bool,
}

fn examine(
    relation: pg_sys::Oid,
    request: &Request,
    tenant: TenantType,
    writes: bool,
) -> Result<Examined> {
    let missing = || {
        Error::new(Kind::UndefinedTable, "the table does not exist")
            .hint("Give the name of a table, qualified with its schema.")
    };
    let name = catalog::relation_name(relation).ok_or_else(missing)?;
    let mut is_locked = false;
    if !is_reserved(&name.schema) {
        require_administrator(relation)?;
        if writes && changes_catalog(relation, request)? {
            lock(relation)?;
            is_locked = true;
        }
    }
    let facts = inspect::facts(relation, &request.column)?.ok_or_else(missing)?;
    check_protectable(&facts, &request.column, tenant)?;
    Ok(Examined { facts, is_locked })
}

/// Keeps other DDL away, readers and writers not: protecting again must block nobody.
fn lock(relation: pg_sys::Oid) -> Result<()> {
    apply::lock(relation, pg_sys::ShareUpdateExclusiveLock);
    // Another's by now, if it waited.
    require_administrator(relation)
}

/// Whether anything but the registry may have to change: only then is the table locked.
fn changes_catalog(relation: pg_sys::Oid, request: &Request) -> Result<bool> {
    Ok(request.mode == Mode::Enforce
        || store::of(relation)?.is_some_and(|row| row.mode == Mode::Enforce.name()))
}

/// Whether nothing of the schema can be protected, whoever asks: it is refused for that, not for want
/// of rights, and not locked.
fn is_reserved(schema: &str) -> bool {
    matches!(
        schema,
        "pg_catalog" | "information_schema" | "pg_toast" | "tenancy"
    )
}

fn member(
    examined: Examined,
    request: &Request,
    tenant: TenantType,
    follows_parent: bool,
    brought_by: Option<pg_sys::Oid>,
    writes: bool,
) -> Result<Member> {
    let Examined {
        mut facts,
        is_locked,
    } = examined;
    let relation = pg_sys::Oid::from(facts.oid);
    let mut registered = store::of(relation)?;
    let is_enforced = |row: &Row| row.mode == Mode::Enforce.name();
    if writes && !is_locked && registered.as_ref().is_some_and(is_enforced) {
        // It was not when that was asked: what was read is of before.
        lock(relation)?;
        registered = store::of(relation)?;
        if let Some(fresh) = inspect::facts(relation, &request.column)? {
            facts = fresh;
        }
    }
    let (mut previous, another): (Option<Row>, Option<Row>) = match registered {
        Some(row) if is_believed(&row, &facts) => (Some(row), None),
        another => (None, another),
    };
    if writes && let Some(another) = another {
        make_room(&another)?;
    }
    if writes
        && let Some(row) = &previous
        && (row.column_today(relation) != request.column || row.template != request.template.name())
    {
        // Another column: take everything back and start anew, in the same transaction.
        unprotect::undo(relation)?;
        previous = None;
        if let Some(fresh) = inspect::facts(relation, &request.column)? {
            facts = fresh;
        }
    }
    let options = match (&request.options, &previous) {
        (Some(options), _) => options.clone(),
        (None, Some(row)) => Options::parse(&row.options)?,
        (None, None) => Options::default(),
    };
    let (mut made, mut found) = previous
        .as_ref()
        .map(|row| (row.made.clone(), row.found.clone()))
        .unwrap_or_default();
    if previous.is_none() {
        made.by_parent = brought_by.is_some();
    }
    let rule = rule::of(
        relation,
        request.template,
        &options,
        &request.column,
        tenant,
        made.link.as_deref(),
    )?;
    made.link = rule.link.as_ref().map(|link| link.constraint.clone());
    found.owner = catalog::role_name(pg_sys::Oid::from(facts.owner));
    found.column_number = facts.column.as_ref().map_or(0, |column| column.number);
    let row = Row {
        schema_name: facts.schema.clone(),
        table_name: facts.name.clone(),
        database_identity: catalog::database_identity().to_u32(),
        relation_oid: facts.oid,
        template: request.template.name().to_owned(),
        tenant_column: request.column.clone(),
        mode: request.mode.name().to_owned(),
        options: options.to_json(),
        made,
        found,
    };
    let plan = Plan {
        checks_data: writes,
        ..Plan::default()
    };
    Ok(Member {
        facts,
        previous,
        row,
        rule,
        follows_parent,
        plan,
    })
}

/// A row of a table that was renamed since, or dropped and made anew under the same name, says nothing about it,
/// unless it was dropped and what the row says was made is there: a restore into the same database gives new oids too.
pub fn is_believed(row: &Row, facts: &Facts) -> bool {
    let lives_on = || catalog::relation_name(pg_sys::Oid::from(row.relation_oid)).is_some();
    let is_there = |policy: &CatalogPolicy| row.made.policies.contains(&policy.name);
    !row.is_of_this_database()
        || row.relation_oid == facts.oid
        || (facts.policies.iter().any(is_there) && !lives_on())
}

/// Takes a registration from the name that another table has now: it follows the table that it is of, if that was
/// renamed, and ends if that is gone.
pub fn make_room(row: &Row) -> Result<()> {
    let is_gone = catalog::relation_kind(pg_sys::Oid::from(row.relation_oid)).is_none();
    if is_gone {
        store::delete(row)
    } else {
        store::follow_renames()
    }
}

pub fn wish<'a>(
    member: &'a Member,
    request: &'a Request,
    tenant: TenantType,
    schema: &'a str,
    limit: f64,
) -> Wish<'a> {
    Wish {
        facts: &member.facts,
        column: &request.column,
        tenant,
        rule: &member.rule,
        extension_schema: schema,
        limit,
        follows_parent: member.follows_parent,
    }
}
