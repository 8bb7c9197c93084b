//! Protecting tables.
//!
//! Owns the order of things: rights, locks, what is refused, the parts of protection from the ground
//! (NOT NULL, default, index) over the keys to the gate (policies, row security), and the registry.
//! Must never leave half of it: everything is one transaction.

use std::collections::{BTreeMap, BTreeSet};

use pgrx::pg_sys;

use super::apply;
use super::inspect::{self, Facts};
use super::keys::{self, End};
use super::model::{ForeignKeys, Mode, Options, Template};
use super::plan::{self, Plan, Wish};
use super::render;
use super::store::{self, Found, Made, MadeKey, Row};
use super::unprotect;
use crate::binding::{TenantType, tenant_type};
use crate::catalog;
use crate::error::{Error, Kind, Result};
use crate::gucs;
use crate::registry::{ActingRole, require_administrator};

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
}

/// What became of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The table.
    pub relation: pg_sys::Oid,
    /// Its template; `None` where it is not protected.
    pub template: Option<&'static str>,
    /// In words, with the script to run where there is one.
    pub result: String,
    /// Whether it was not enforced before and is now.
    pub entered: bool,
}

/// The keys that were made, by child.
type MadeKeys = BTreeMap<u32, Vec<MadeKey>>;

/// One table of a call.
struct Member {
    facts: Facts,
    previous: Option<Row>,
    row: Row,
    options: Options,
    follows_parent: bool,
    plan: Plan,
}

/// Protects a table with its partitions and children.
pub fn protect(relation: pg_sys::Oid, request: &Request) -> Result<Vec<Outcome>> {
    apply::see_own_changes();
    let tenant = tenant_type()?;
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
            plan::open_gate(facts, &target, &mut row.made, &row.found, plan);
        }
        let rest = Plan {
            now: member.plan.now.split_off(done),
            ..Plan::default()
        };
        lock_for(&rest, member.facts.oid);
        apply::run(&rest)?;
        let changed = !rest.now.is_empty() || done > 0;
        read_back_default(member)?;
        store::save(&member.row, member.previous.as_ref())?;
        let changed = changed || member.previous.as_ref() != Some(&member.row);
        outcomes.push(Outcome {
            relation: pg_sys::Oid::from(member.facts.oid),
            template: Some(request.template.name()),
            result: describe(request.mode, changed, &member.plan),
            entered: request.mode == Mode::Enforce
                && !member
                    .previous
                    .as_ref()
                    .is_some_and(|row| row.mode == "enforce"),
        });
    }
    Ok(outcomes)
}

/// The statements of enforcement, from the table as it was found.
pub fn policy_sql(relation: pg_sys::Oid, request: &Request) -> Result<String> {
    if request.mode == Mode::Permissive {
        return Ok("-- mode permissive changes nothing in the catalog\n".to_owned());
    }
    let tenant = tenant_type()?;
    let schema = inspect::extension_schema()?;
    let limit = gucs::inline_ddl_rows() as f64;
    let mut members = gather(relation, request, tenant, false)?;
    for member in &mut members {
        member.facts = member
            .facts
            .clone()
            .pristine(&member.row.made, &member.row.found);
        // The index keeps its name; it is there, under that name, only in this database.
        let Made {
            index,
            by_parent,
            foreign_keys,
            ..
        } = std::mem::take(&mut member.row.made);
        member.row.made = Made {
            index,
            by_parent,
            foreign_keys,
            ..Made::default()
        };
        member.row.found = Found::default();
        member.plan.as_found = true;
    }
    let mut statements = Vec::new();
    let mut comments = Vec::new();
    for member in &mut members {
        plan_ground(member, request, tenant, &schema, limit)?;
        statements.extend(member.plan.now.drain(..).map(|statement| statement.sql));
    }
    complete_keys(&mut members, limit)?;
    for member in &mut members {
        statements.extend(member.plan.now.drain(..).map(|statement| statement.sql));
        statements.append(&mut member.plan.script);
    }
    for member in &mut members {
        plan_gate(member, request, tenant, &schema, limit)?;
        statements.extend(member.plan.now.drain(..).map(|statement| statement.sql));
        comments.append(&mut member.plan.notes);
    }
    let mut text: String = comments.iter().map(|note| format!("-- {note}\n")).collect();
    for statement in statements {
        text.push_str(&statement);
        text.push_str(";\n");
    }
    Ok(text)
}

/// Checks rights and kinds of the table and all below it, locks them and reads them.
fn gather(
    relation: pg_sys::Oid,
    request: &Request,
    tenant: TenantType,
    writes: bool,
) -> Result<Vec<Member>> {
    let first = examine(relation, request, tenant, writes)?;
    let descendants = first.descendants.clone();
    let mut root_follows = false;
    for parent in &first.parents {
        let row = store::of(pg_sys::Oid::from(*parent))?;
        root_follows |= row.is_some_and(|row| row.mode == "enforce");
    }
    if root_follows && writes && request.mode == Mode::Permissive {
        return Err(Error::new(
            Kind::ObjectNotInPrerequisiteState,
            format!(
                "table {} is enforced because its parent is",
                render::quoted(&first.name)
            ),
        )
        .hint("Set the mode of the parent, or detach the table from it first."));
    }
    let mut members = vec![member(first, request, root_follows, None, writes)?];
    for below in descendants {
        let facts = examine(pg_sys::Oid::from(below), request, tenant, writes)?;
        members.push(member(facts, request, true, Some(relation), writes)?);
    }
    Ok(members)
}

fn examine(
    relation: pg_sys::Oid,
    request: &Request,
    tenant: TenantType,
    writes: bool,
) -> Result<Facts> {
    let missing = || {
        Error::new(Kind::UndefinedTable, "the table does not exist")
            .hint("Give the name of a table, qualified with its schema.")
    };
    let read =
        || -> Result<Facts> { inspect::facts(relation, &request.column)?.ok_or_else(missing) };
    let facts = read()?;
    if facts.reserved.is_none() {
        require_administrator(relation)?;
    }
    plan::check_protectable(&facts, &request.column, tenant)?;
    if !writes {
        return Ok(facts);
    }
    // Keeps other DDL away, readers and writers not: protecting again must not block anybody.
    apply::lock(relation, pg_sys::ShareUpdateExclusiveLock);
    let facts = read()?;
    plan::check_protectable(&facts, &request.column, tenant)?;
    Ok(facts)
}

fn member(
    facts: Facts,
    request: &Request,
    follows_parent: bool,
    brought_by: Option<pg_sys::Oid>,
    writes: bool,
) -> Result<Member> {
    let mut facts = facts;
    let mut previous =
        store::of(pg_sys::Oid::from(facts.oid))?.filter(|row| is_believed(row, &facts));
    if writes
        && let Some(row) = &previous
        && (row.tenant_column != request.column || row.template != request.template.name())
    {
        // Another column: take everything back and start anew, in the same transaction.
        unprotect::undo(pg_sys::Oid::from(facts.oid), row)?;
        previous = None;
        if let Some(fresh) = inspect::facts(pg_sys::Oid::from(facts.oid), &request.column)? {
            facts = fresh;
        }
    }
    let options = match (request.options, &previous) {
        (Some(options), _) => options,
        (None, Some(row)) => Options::parse(&row.options)?,
        (None, None) => Options::default(),
    };
    // SAFETY: MyDatabaseId is set before any user code runs in a backend.
    let database = unsafe { pg_sys::MyDatabaseId };
    let (mut made, found) = previous
        .as_ref()
        .map(|row| (row.made.clone(), row.found.clone()))
        .unwrap_or_default();
    if previous.is_none() {
        made.by_parent = brought_by.is_some();
    }
    let row = Row {
        schema_name: facts.schema.clone(),
        table_name: facts.name.clone(),
        database_oid: database.to_u32(),
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
        options,
        follows_parent,
        plan,
    })
}

/// A row of a table that was dropped and made anew under the same name says nothing about it, unless
/// what it says was made is there: a restore into the same database gives new oids too.
fn is_believed(row: &Row, facts: &Facts) -> bool {
    // SAFETY: as above.
    let here = row.database_oid == unsafe { pg_sys::MyDatabaseId }.to_u32();
    !here
        || row.relation_oid == facts.oid
        || facts
            .policies
            .iter()
            .any(|policy| row.made.policies.contains(&policy.name))
}

fn wish<'a>(
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
        options: member.options,
        extension_schema: schema,
        limit,
        follows_parent: member.follows_parent,
    }
}

fn plan_ground(
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
    if member.plan.checks_data && nullable && !is_large && !member.follows_parent {
        refuse_rows_without_tenant(&member.facts, &request.column)?;
    }
    let (mut made, mut found, mut plan) = (
        member.row.made.clone(),
        member.row.found.clone(),
        std::mem::take(&mut member.plan),
    );
    if !found.noted {
        found.noted = true;
        found.not_null = !nullable;
        if member
            .facts
            .is_partition_of_protected(member.follows_parent)
        {
            found.indexes = member.facts.detached_indexes.clone();
        }
    }
    plan::ground(
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

fn plan_gate(
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
    plan::gate(
        &wish(member, request, tenant, schema, limit),
        &mut made,
        &mut found,
        &mut plan,
    )?;
    member.row.made = made;
    member.row.found = found;
    member.plan = plan;
    Ok(())
}

/// Counts rows that nobody would see any more, before Postgres fails on the first.
fn refuse_rows_without_tenant(facts: &Facts, column: &str) -> Result<()> {
    let table = format!(
        "{}.{}",
        render::quoted(&facts.schema),
        render::quoted(&facts.name)
    );
    let filter = format!("FROM {table} WHERE {} IS NULL", render::quoted(column));
    let count: Option<u64> = {
        let _role = ActingRole::new(pg_sys::Oid::from(facts.owner));
        super::spi::row(
            &format!("SELECT pg_catalog.count(*)::pg_catalog.text {filter}"),
            &[],
        )?
    };
    match count {
        None | Some(0) => Ok(()),
        Some(count) => Err(Error::new(
            Kind::NotNullViolation,
            format!("{count} rows of {table} have no tenant"),
        )
        .detail(format!("Column {} is null there.", render::quoted(column)))
        .hint(format!(
            "Give them a tenant, or delete them; SELECT * {filter} shows them."
        ))),
    }
}

/// The strongest lock that the statements need, taken once, so that it is not reached in steps.
fn lock_for(plan: &Plan, table: u32) {
    if plan.now.iter().any(|statement| statement.table == table) {
        apply::lock(pg_sys::Oid::from(table), pg_sys::AccessExclusiveLock);
    }
}

/// The registered tables at both ends of every key from and to `relations`, those of the call as
/// they will be, and the keys that were made for them.
fn ends(relations: &[u32], members: &[Member]) -> Result<(BTreeMap<u32, End>, MadeKeys)> {
    let mut touched = BTreeSet::new();
    for relation in relations {
        for key in keys::of(pg_sys::Oid::from(*relation))? {
            touched.extend([key.child, key.parent]);
        }
    }
    let mut ends = BTreeMap::new();
    let mut known = BTreeMap::new();
    for oid in touched {
        if members.iter().any(|member| member.facts.oid == oid) {
            continue;
        }
        let oid = pg_sys::Oid::from(oid);
        let Some(row) = store::of(oid)? else {
            continue;
        };
        let Some(facts) = inspect::facts(oid, &row.tenant_column)? else {
            continue;
        };
        // A row of which the option does not parse was written by a later version: report only.
        let options = Options::parse(&row.options).unwrap_or_default();
        ends.insert(
            oid.to_u32(),
            end(&facts, &row.tenant_column, options, row.mode == "enforce"),
        );
        known.insert(oid.to_u32(), row.made.foreign_keys.clone());
    }
    for member in members {
        let enforced = member.row.mode == "enforce";
        ends.insert(
            member.facts.oid,
            end(
                &member.facts,
                &member.row.tenant_column,
                member.options,
                enforced,
            ),
        );
        known.insert(member.facts.oid, member.row.made.foreign_keys.clone());
    }
    Ok((ends, known))
}

fn end(facts: &Facts, column: &str, options: Options, enforced: bool) -> End {
    End {
        oid: facts.oid,
        schema: facts.schema.clone(),
        table: facts.name.clone(),
        column: column.to_owned(),
        foreign_keys: options.foreign_keys,
        enforced,
        estimated_rows: facts.estimated_rows,
        forced: facts.rls && facts.forced,
    }
}

/// The tables of the call.
fn oids(members: &[Member]) -> Vec<u32> {
    members.iter().map(|member| member.facts.oid).collect()
}

fn report_keys(members: &mut [Member], limit: f64) -> Result<()> {
    let (ends, known) = ends(&oids(members), members)?;
    for member in members {
        let mut noted = Plan::default();
        keys::complete(
            pg_sys::Oid::from(member.facts.oid),
            &ends,
            &known,
            limit,
            &mut noted,
        )?;
        member.plan.notes.append(&mut noted.notes);
    }
    Ok(())
}

/// Completes the keys from and to the tables of the call.
fn complete_keys(members: &mut [Member], limit: f64) -> Result<()> {
    let (ends, mut known) = ends(&oids(members), members)?;
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
        let completion = keys::complete(relation, &ends, &known, limit, &mut plan)?;
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
        for (child, key) in completion.made {
            known.entry(child).or_default().push(key.clone());
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

fn describe(mode: Mode, changed: bool, plan: &Plan) -> String {
    let mut text = match mode {
        Mode::Permissive => "permissive".to_owned(),
        Mode::Enforce => "enforced".to_owned(),
    };
    if !changed {
        text.push_str(" (unchanged)");
    }
    for note in &plan.notes {
        text.push_str("; ");
        text.push_str(note);
    }
    if !plan.script.is_empty() {
        text.push_str("; run, each statement by itself:");
        for statement in &plan.script {
            text.push_str(&format!("\n{statement};"));
        }
    }
    text
}

/// Protects every table of a schema; what cannot be protected for want of the column or because of
/// its kind gets a row that says so.
pub fn protect_schema(
    schema: &str,
    request: &Request,
    exclude: &[pg_sys::Oid],
) -> Result<Vec<Outcome>> {
    apply::see_own_changes();
    // Not bound: say so once, not for the first table that has the column.
    tenant_type()?;
    // SAFETY: a catalog lookup by name.
    let namespace = unsafe { pg_sys::get_namespace_oid(catalog::c_string(schema).as_ptr(), true) };
    if namespace == pg_sys::InvalidOid {
        return Err(Error::new(
            Kind::UndefinedSchema,
            format!("schema {} does not exist", render::quoted(schema)),
        )
        .hint("Give the name of a schema, without quotes around it."));
    }
    let listed = { inspect::tables_of(schema, &request.column)? };
    let mut outcomes: Vec<Outcome> = Vec::new();
    let skip = |oid: u32, why: &str| Outcome {
        relation: pg_sys::Oid::from(oid),
        template: None,
        result: format!("not protected: {why}"),
        entered: false,
    };
    let total = listed.len();
    for (number, table) in listed.iter().enumerate() {
        let relation = pg_sys::Oid::from(table.oid);
        if outcomes.iter().any(|outcome| outcome.relation == relation) {
            continue;
        }
        if exclude.contains(&relation) {
            outcomes.push(skip(table.oid, "excluded"));
        } else if table.kind == "f" {
            outcomes.push(skip(table.oid, "it is a foreign table"));
        } else if !table.has_column {
            outcomes.push(skip(
                table.oid,
                &format!("no column {}", render::quoted(&request.column)),
            ));
        } else if !table.follows_parent {
            outcomes.append(&mut protect(relation, request)?);
            if (number + 1) % 25 == 0 {
                apply::notice(&format!("{} of {total} tables done", number + 1), None);
            }
        }
    }
    refresh_key_reports(&mut outcomes, request)?;
    Ok(outcomes)
}

/// A key whose parent came later in the same call could not be judged when its child was protected.
fn refresh_key_reports(outcomes: &mut [Outcome], request: &Request) -> Result<()> {
    if request
        .options
        .is_some_and(|options| options.foreign_keys != ForeignKeys::Report)
    {
        return Ok(());
    }
    let protected: Vec<u32> = outcomes
        .iter()
        .filter(|outcome| outcome.template.is_some())
        .map(|outcome| outcome.relation.to_u32())
        .collect();
    let (ends, known) = ends(&protected, &[])?;
    for outcome in outcomes
        .iter_mut()
        .filter(|outcome| outcome.template.is_some())
    {
        let mut noted = Plan::default();
        keys::complete(outcome.relation, &ends, &known, f64::INFINITY, &mut noted)?;
        for note in noted.notes {
            if !outcome.result.contains(&note) {
                outcome.result.push_str(&format!("; {note}"));
            }
        }
    }
    Ok(())
}
