//! Reading rows of the other tenant from a table.
//!
//! Owns how rows are told from one another with the columns that the role may read.

use super::attack::Met;
use super::prey::Prey;
use super::run::{read_as_owner, read_as_role, tried};
use super::tables::{Belonging, Column, Target};
use super::verdict::{Attack, Finding};
use super::{Told, Work};
use crate::error::Result;
use crate::policy::{literal, quoted};

/// How many rows are named one by one, where the columns that tell them apart are not enough.
const ROWS: usize = 1000;

/// How the rows are told from one another.
enum Way {
    /// By the columns that say whose they are.
    Columns,
    /// By their places in the table: whose they are is said by another table, which has policies itself.
    Places,
    /// By how many there are: the role may read columns that say nothing.
    Count,
}

/// Reads as the role.
pub fn select(work: &Work<'_>, target: &Target, prey: &Prey, told: &Told) -> Result<Finding> {
    let met = match way(target, prey) {
        Way::Columns => read(work, target, &prey.condition)?,
        Way::Places => match places(target, &prey.condition)? {
            Some(condition) => read(work, target, &condition)?,
            None => Met::not_attacked("the rows of the other tenant are gone"),
        },
        Way::Count => counted(work, target)?,
    };
    Ok(told.met("select", met))
}

fn way(target: &Target, prey: &Prey) -> Way {
    let columns = &target.table.columns;
    let may_all = columns.iter().all(|column| column.may_select);
    let is_mark = |column: &&Column| prey.marks.iter().any(|(name, _)| *name == column.name);
    let may_marks = columns
        .iter()
        .filter(is_mark)
        .all(|column| column.may_select);
    match target.belonging {
        Belonging::Parent(_) if may_all => Way::Places,
        Belonging::Parent(_) => Way::Count,
        _ if may_marks || !columns.iter().any(|column| column.may_select) => Way::Columns,
        _ => Way::Count,
    }
}

fn read(work: &Work<'_>, target: &Target, condition: &str) -> Result<Met> {
    let sql = format!(
        "SELECT pg_catalog.count(*) FROM {} AS t WHERE {condition}",
        target.table.sql()
    );
    Ok(seen(tried(|| count(read_as_role(work.role, &sql)?.text()))))
}

fn seen(count: core::result::Result<u64, crate::policy::subtransaction::Failure>) -> Met {
    match count {
        Ok(0) => Met::nothing(),
        Ok(count) => Met::leak(format!("{count} rows of the other tenant were read")),
        Err(failure) => Met::failed(Attack::Rows, &failure),
    }
}

fn count(text: Option<String>) -> Result<u64> {
    Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// A condition that names the rows by their places.
fn places(target: &Target, condition: &str) -> Result<Option<String>> {
    let sql = format!(
        "SELECT pg_catalog.string_agg(pg_catalog.format('(%s::pg_catalog.oid, %L::pg_catalog.tid)', s.tableoid, s.ctid), ', ')
         FROM (SELECT t.tableoid::pg_catalog.oid, t.ctid FROM {} AS t WHERE {condition} LIMIT {ROWS}) AS s",
        target.table.sql()
    );
    let places = read_as_owner(target.table.owner(), &sql)?.text();
    Ok(places.map(|places| format!("(t.tableoid, t.ctid) IN ({places})")))
}

/// Whether the role sees more rows than are its own.
fn counted(work: &Work<'_>, target: &Target) -> Result<Met> {
    let Belonging::Tenant(column) = &target.belonging else {
        return Ok(Met::not_attacked(
            "the role may read columns only that do not say whose a row is",
        ));
    };
    let platform = work.cast.platform.iter().filter(|_| target.shared);
    let own: Vec<String> = work
        .cast
        .own
        .iter()
        .chain(platform)
        .map(|id| literal(id))
        .collect();
    let sql = format!(
        "SELECT pg_catalog.count(*) FROM {} AS t WHERE t.{} IN ({})",
        target.table.sql(),
        quoted(column),
        own.join(", ")
    );
    let own = count(read_as_owner(target.table.owner(), &sql)?.text())?;
    let sql = format!("SELECT pg_catalog.count(*) FROM {}", target.table.sql());
    Ok(seen(tried(|| {
        let all = count(read_as_role(work.role, &sql)?.text())?;
        Ok(all.saturating_sub(own))
    })))
}
