//! Protecting the tables that a command made.
//!
//! Owns which of them need it, what is asked for each, and what becomes of a failure. Runs with the
//! rights of the role that ran the command, through the same function as `tenancy.protect_table`: it
//! checks that this role administers the table, and each statement runs as the table's owner. Must never
//! act for anybody else.

use pgrx::pg_sys;
use serde::Deserialize;

use super::apply;
use super::auto_event::Event;
use super::auto_register::{self, AutoSchema};
use super::choose::{Choice, choose};
use super::inspect;
use super::members;
use super::model::{Mode, Options, Template};
use super::protect::{self, Outcome, Request};
use super::render::quoted;
use super::spi;
use super::store::{self, Row};
use super::subtransaction;
use crate::catalog;
use crate::error::{Error, Kind, Result};

/// A table that the command touched, or one below it.
#[derive(Debug, Deserialize)]
struct Candidate {
    oid: u32,
    schema: String,
    name: String,
    columns: Vec<String>,
    parents: Vec<u32>,
    /// Named by the command, not found below a table that was.
    named: bool,
}

impl Candidate {
    fn relation(&self) -> pg_sys::Oid {
        pg_sys::Oid::from(self.oid)
    }

    fn qualified(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

const CANDIDATES: &str = "
WITH RECURSIVE family AS (
  SELECT d.objid AS oid, 0 AS depth FROM pg_catalog.pg_event_trigger_ddl_commands() d
  WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND NOT d.in_extension
  UNION
  SELECT i.inhrelid, f.depth + 1 FROM pg_catalog.pg_inherits i JOIN family f ON i.inhparent = f.oid
), once AS (
  SELECT f.oid, pg_catalog.max(f.depth) AS depth, pg_catalog.min(f.depth) = 0 AS named FROM family f GROUP BY f.oid)
SELECT pg_catalog.jsonb_build_object('oid', c.oid::pg_catalog.int8, 'schema', n.nspname, 'name', c.relname,
  'named', o.named,
  'columns', (SELECT coalesce(pg_catalog.jsonb_agg(a.attname), '[]') FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  'parents', (SELECT coalesce(pg_catalog.jsonb_agg(i.inhparent::pg_catalog.int8 ORDER BY i.inhseqno), '[]')
     FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid))::pg_catalog.text
FROM once o JOIN pg_catalog.pg_class c ON c.oid = o.oid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
    WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND e.objid = c.oid AND e.deptype = 'e')
ORDER BY o.depth, c.oid";

/// What is asked for a table, and how a failure counts.
struct Task<'a> {
    how: How<'a>,
    strict: bool,
}

/// How a table is to be protected.
enum How<'a> {
    /// By itself, as it was before.
    Again(Row),
    /// Like its parent.
    LikeParent(pg_sys::Oid, Row),
    /// By its shape, as its schema is registered.
    ByShape(&'a AutoSchema),
}

/// Protects what the command made, moved, attached or detached.
pub fn protect(event: &Event) -> Result<()> {
    apply::see_own_changes();
    let schemas = auto_register::all()?;
    if schemas.is_empty() {
        return Ok(());
    }
    let candidates: Vec<Candidate> = spi::rows(CANDIDATES, &[])?;
    for candidate in &candidates {
        if let Some(task) = task(candidate, event, &schemas)? {
            perform(candidate.relation(), &candidate.qualified(), &task)?;
        }
    }
    let children = candidates
        .iter()
        .filter(|candidate| event.disinherited && candidate.named)
        .map(|candidate| candidate.oid);
    for relation in event.detached.iter().copied().chain(children) {
        settle_detached(pg_sys::Oid::from(relation), &schemas)?;
    }
    Ok(())
}

/// What is to be done about a table; `None` where nothing is.
fn task<'a>(
    candidate: &Candidate,
    event: &Event,
    schemas: &'a [AutoSchema],
) -> Result<Option<Task<'a>>> {
    let relation = candidate.relation();
    let registered = store::of(relation)?.filter(|row| row.is_of(relation));
    let own = of_schema(schemas, &candidate.schema);
    for parent in candidate.parents.iter().copied().map(pg_sys::Oid::from) {
        let Some(row) = store::of(parent)? else {
            continue;
        };
        // What is registered keeps its mode, unless its parent is enforced.
        let enforce = Mode::Enforce.name();
        if registered
            .as_ref()
            .is_some_and(|own| own.mode == enforce || row.mode != enforce)
        {
            continue;
        }
        let above =
            catalog::relation_name(parent).and_then(|name| of_schema(schemas, &name.schema));
        // Naming a partition skips the policies of its parent, so what is excluded does not count.
        return Ok(own.or(above).map(|schema| Task {
            how: How::LikeParent(parent, row),
            strict: schema.strict,
        }));
    }
    if registered.is_some() {
        return Ok(None);
    }
    let Some(schema) = own.filter(|schema| !schema.exclude.contains(&candidate.name)) else {
        return Ok(None);
    };
    let came = event.arrived && candidate.named;
    let grew = event.columns.contains(&schema.tenant_column)
        && candidate.columns.contains(&schema.tenant_column);
    if !came && !grew {
        return Ok(None);
    }
    Ok(Some(Task {
        how: How::ByShape(schema),
        strict: schema.strict,
    }))
}

fn of_schema<'a>(schemas: &'a [AutoSchema], name: &str) -> Option<&'a AutoSchema> {
    schemas
        .iter()
        .find(|schema| schema.schema.as_deref() == Some(name))
}

fn as_registered(row: &Row, relation: pg_sys::Oid) -> Result<Request> {
    Ok(Request {
        template: Template::parse(&row.template)?,
        column: row.column_today(relation),
        mode: Mode::parse(&row.mode)?,
        options: Some(Options::parse(&row.options)?),
        may_leave: false,
    })
}

/// A partition that was detached loses the trigger that was cloned from its parent's, and from now on
/// stands for itself.
fn settle_detached(relation: pg_sys::Oid, schemas: &[AutoSchema]) -> Result<()> {
    let Some(row) = store::of(relation)?.filter(|row| row.made.by_parent && row.is_of(relation))
    else {
        return Ok(());
    };
    let Some(name) = catalog::relation_name(relation) else {
        return Ok(());
    };
    let task = Task {
        strict: of_schema(schemas, &name.schema).is_some_and(|schema| schema.strict),
        how: How::Again(row),
    };
    let qualified = format!("{}.{}", quoted(&name.schema), quoted(&name.name));
    perform(relation, &qualified, &task)
}

const STRICT: &str = "The schema is strict: tenancy.auto_protect() lets no table be made without protection, unless its argument \"exclude\" names it.";

fn perform(relation: pg_sys::Oid, name: &str, task: &Task<'_>) -> Result<()> {
    let work = || -> Result<Vec<Outcome>> {
        // In a subtransaction too.
        apply::see_own_changes();
        let request = match &task.how {
            How::Again(row) => as_registered(row, relation)?,
            How::LikeParent(parent, row) => as_registered(row, *parent)?,
            How::ByShape(schema) => by_shape(relation, schema)?,
        };
        let outcomes = protect::protect(relation, &request)?;
        if matches!(task.how, How::LikeParent(..)) {
            note_parent(relation)?;
        }
        Ok(outcomes)
    };
    let outcomes = match subtransaction::attempt(work) {
        Ok(outcomes) => outcomes,
        Err(failure) if task.strict => failure.raise(STRICT),
        Err(failure) => {
            apply::warning(
                &format!("table {name} is not protected: {}", failure.message),
                failure.detail.as_deref(),
                failure.hint.as_deref(),
            );
            return Ok(());
        }
    };
    for outcome in outcomes
        .iter()
        .filter(|outcome| outcome.result.says_more_than_the_mode())
    {
        apply::notice(&format!("table {name}: {}", outcome.result.text()), None);
    }
    Ok(())
}

fn by_shape(relation: pg_sys::Oid, schema: &AutoSchema) -> Result<Request> {
    // The table is new: a registration under its name is of another.
    if let Some(row) = store::of(relation)?.filter(Row::is_of_this_database) {
        members::make_room(&row)?;
    }
    let request = schema.request()?;
    let Some(table) = inspect::listed(relation, &request.column)? else {
        return Ok(request);
    };
    match choose(&table, &request)? {
        Choice::Protect(request, _) => Ok(schema.suited(request)),
        // Protecting it refuses a foreign table as such.
        Choice::Leave(_) if table.kind == "f" => Ok(request),
        Choice::Leave(why) => Err(Error::new(Kind::UndefinedColumn, why)
            .hint("Add the column, or protect the table with the template that fits.")),
    }
}

/// Unprotecting the parent takes the table along.
fn note_parent(relation: pg_sys::Oid) -> Result<()> {
    if let Some(row) = store::of(relation)?.filter(|row| !row.made.by_parent) {
        let mut changed = row.clone();
        changed.made.by_parent = true;
        store::save(&changed, Some(&row))?;
    }
    Ok(())
}
