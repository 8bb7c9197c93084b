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
use super::model::{Mode, Options, Template};
use super::protect::{self, Outcome, Request};
use super::render::quoted;
use super::spi;
use super::store::{self, Row};
use super::subtransaction;
use crate::binding;
use crate::catalog;
use crate::error::{Error, Result};

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
struct Task {
    request: Request,
    strict: bool,
    /// Because a parent is protected.
    by_parent: bool,
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
fn task(candidate: &Candidate, event: &Event, schemas: &[AutoSchema]) -> Result<Option<Task>> {
    let relation = candidate.relation();
    if store::of(relation)?.is_some_and(|row| row.is_of(relation)) {
        return Ok(None);
    }
    let own = of_schema(schemas, &candidate.schema);
    for parent in candidate.parents.iter().copied().map(pg_sys::Oid::from) {
        let Some(row) = store::of(parent)? else {
            continue;
        };
        let above =
            catalog::relation_name(parent).and_then(|name| of_schema(schemas, &name.schema));
        // Naming a partition skips the policies of its parent, so what is excluded does not count.
        return match own.or(above) {
            Some(schema) => Ok(Some(Task {
                request: as_registered(&row, parent)?,
                strict: schema.strict,
                by_parent: true,
            })),
            None => Ok(None),
        };
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
        request: by_shape(
            relation,
            Request {
                template: Template::Tenant,
                column: schema.tenant_column.clone(),
                mode: Mode::parse(&schema.mode)?,
                options: Some(Options::parse(&schema.options)?),
            },
        )?,
        strict: schema.strict,
        by_parent: false,
    }))
}

/// What the table's shape asks for; where it asks for nothing, what fails with the reason.
fn by_shape(relation: pg_sys::Oid, request: Request) -> Result<Request> {
    if binding::current()?.is_none() {
        return Ok(request);
    }
    let chosen = match inspect::listed(relation, &request.column)? {
        Some(table) => Some(choose(&table, &request)?),
        None => None,
    };
    Ok(match chosen {
        Some(Choice::Protect(chosen, _)) => chosen,
        Some(Choice::Leave(_)) | None => request,
    })
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
        request: as_registered(&row, relation)?,
        strict: of_schema(schemas, &name.schema).is_some_and(|schema| schema.strict),
        by_parent: false,
    };
    let qualified = format!("{}.{}", quoted(&name.schema), quoted(&name.name));
    perform(relation, &qualified, &task)
}

fn perform(relation: pg_sys::Oid, name: &str, task: &Task) -> Result<()> {
    let work = || -> Result<Vec<Outcome>> {
        let outcomes = protect::protect(relation, &task.request)?;
        if task.by_parent {
            note_parent(relation)?;
        }
        Ok(outcomes)
    };
    let outcomes = if task.strict {
        work().map_err(|error| {
            let hint = error.hint_text().unwrap_or("Mend what the message says.");
            Error::new(
                error.kind(),
                format!("table {name} is not protected: {}", error.message()),
            )
            .detail("tenancy.auto_protect() is strict about its schema.")
            .hint(format!(
                "{hint} A table that is to stay open is named in the argument \"exclude\" of tenancy.auto_protect()."
            ))
        })?
    } else {
        match subtransaction::attempt(work) {
            Ok(outcomes) => outcomes,
            Err(failure) => {
                apply::warning(
                    &format!("table {name} is not protected: {}", failure.message),
                    None,
                    failure.hint.as_deref(),
                );
                return Ok(());
            }
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

/// Unprotecting the parent takes the table along.
fn note_parent(relation: pg_sys::Oid) -> Result<()> {
    if let Some(row) = store::of(relation)?.filter(|row| !row.made.by_parent) {
        let mut changed = row.clone();
        changed.made.by_parent = true;
        store::save(&changed, Some(&row))?;
    }
    Ok(())
}
