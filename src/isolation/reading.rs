//! Reading rows of the other tenant from a table.
//!
//! Owns how rows are told from one another with the columns that the role may read.

use super::attack::Met;
use super::prey::{self, Prey};
use super::run::{read_as_owner, read_as_role, tried};
use super::tables::{Belonging, Column, Target};
use super::verdict::{Attack, Finding, OURS, Verdict};
use super::{Told, Work};
use crate::error::Result;
use crate::policy::quoted_list;

/// How many rows are named one by one at a time, where the columns that tell them apart are not enough.
const ROWS: usize = 10_000;

/// How the rows are told from one another.
enum Way {
    /// By the columns that say whose they are.
    Columns,
    /// By their places in the table: whose they are is said by another table, which has policies itself.
    Places,
    /// By what is seen without them: the role may read columns that say nothing.
    Absence,
}

/// Reads as the role.
pub fn select(work: &Work<'_>, target: &Target, prey: &Prey, told: &Told) -> Result<Finding> {
    let met = match way(target, prey) {
        Way::Columns => read(work, target, &prey.condition)?,
        Way::Places => by_places(work, target, &prey.condition)?,
        Way::Absence => without(work, target, &prey.condition)?,
    };
    Ok(told.met("select", met))
}

/// Reads once more, with the word of the actor that he is of the other tenant; `None` where his word counts.
pub fn pretending(
    work: &Work<'_>,
    target: &Target,
    prey: &Prey,
    told: &Told,
) -> Result<Option<Finding>> {
    let readable = |(name, _): &(String, String)| {
        target
            .table
            .column(name)
            .is_some_and(|column| column.may_select)
    };
    if !matches!(target.belonging, Belonging::Tenant(_)) || !prey.marks.iter().all(readable) {
        return Ok(None);
    }
    let sql = format!(
        "SELECT pg_catalog.count(*) FROM {} AS t WHERE {}",
        target.table.sql(),
        prey.condition
    );
    let met = match tried(|| {
        Ok(match work.cast.pretend() {
            true => Some(count(read_as_role(work.role, &sql)?.text())?),
            false => None,
        })
    }) {
        Ok(None) => return Ok(None),
        Ok(Some(count)) => seen(Ok(count)),
        // Not to be believed is to be refused.
        Err(failure) if failure.raised_by.as_deref() == Some(OURS) => Met {
            verdict: Verdict::Refused,
            ..Met::failed(Attack::Rows, &failure)
        },
        Err(failure) => Met::failed(Attack::Rows, &failure),
    };
    Ok(Some(told.met("select as the other tenant", met)))
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
        _ if !columns.iter().any(|column| column.may_select) => Way::Columns,
        Belonging::Parent(_) => Way::Absence,
        _ if may_marks => Way::Columns,
        _ => Way::Absence,
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

/// All of them, so many at a time.
fn by_places(work: &Work<'_>, target: &Target, condition: &str) -> Result<Met> {
    let mut after = String::new();
    let mut met = Met::not_attacked("the rows of the other tenant are gone");
    while let Some((named, last)) = places(target, &format!("{condition}{after}"))? {
        met = read(work, target, &named)?;
        if met.verdict != Verdict::Nothing {
            break;
        }
        after = format!(" AND (t.tableoid, t.ctid) > {last}");
    }
    Ok(met)
}

/// A condition that names rows by their places, all of one table or partition, and the last of them.
fn places(target: &Target, condition: &str) -> Result<Option<(String, String)>> {
    let sql = format!(
        "SELECT s.tableoid, s.ctid
         FROM (SELECT t.tableoid::pg_catalog.oid, t.ctid FROM {} AS t WHERE {condition} ORDER BY 1, 2 LIMIT {ROWS}) AS s",
        target.table.sql()
    );
    let found = read_as_owner(target.table.owner(), &sql)?.rows;
    let pairs: Vec<(String, String)> = found
        .into_iter()
        .filter_map(|row| {
            let mut row = row.into_iter();
            Some((row.next()??, row.next()??))
        })
        .collect();
    let Some((relation, _)) = pairs.first() else {
        return Ok(None);
    };
    let of_one = pairs.iter().take_while(|(other, _)| other == relation);
    let places: Vec<String> = of_one.map(|(_, place)| format!("\"{place}\"")).collect();
    let Some((_, last)) = pairs.get(places.len() - 1) else {
        return Ok(None);
    };
    Ok(Some((
        format!(
            "t.tableoid = {relation}::pg_catalog.oid AND t.ctid = ANY ('{{{}}}'::pg_catalog.tid[])",
            places.join(",")
        ),
        format!("({relation}::pg_catalog.oid, '{last}'::pg_catalog.tid)"),
    )))
}

/// Whether the role sees something else once the rows are gone.
fn without(work: &Work<'_>, target: &Target, condition: &str) -> Result<Met> {
    let readable: Vec<String> = target
        .table
        .columns
        .iter()
        .filter(|column| column.may_select)
        .map(|column| column.name.clone())
        .collect();
    let sql = format!(
        "SELECT pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtextextended(ROW({})::pg_catalog.text, 0)) FROM {}",
        quoted_list(&readable),
        target.table.sql()
    );
    let seen = || -> Result<Vec<Option<String>>> {
        Ok(read_as_role(work.role, &sql)?
            .rows
            .into_iter()
            .flatten()
            .collect())
    };
    Ok(
        match tried(|| {
            let before = seen()?;
            let all_gone = prey::take_away(target, condition)?;
            Ok((before != seen()?, all_gone))
        }) {
            Ok((true, _)) => Met::leak("rows of the other tenant were read".to_owned()),
            Ok((false, true)) => Met::nothing(),
            Ok((false, false)) => Met::not_attacked(
                "the role may read columns only that do not say whose a row is, and the other tenant has more rows than are taken away, or some that others hold: name a small tenant",
            ),
            Err(failure) => Met::failed(Attack::Rows, &failure),
        },
    )
}
