//! Writing rows of the other tenant through views.
//!
//! Owns which statements a view takes. What they changed is asked of the tables below it.

use super::attack::Met;
use super::prey::{self, Prey};
use super::rows::{self, Found};
use super::run::{as_role, check_at_once, set_the_scene, tried};
use super::tables::{Belonging, Target};
use super::verdict::{Attack, Finding, Verdict};
use super::ways::View;
use super::{Told, Work};
use crate::error::Result;
use crate::policy::{quoted, quoted_list};

/// How many rows of one's own a statement without a condition may touch.
const OWN_ROWS: u64 = 10_000;

/// A table below the view, with the rows to attack.
type Below<'a> = (&'a Target, Prey);

/// Attacks through one view.
pub fn writes(work: &Work<'_>, view: &View) -> Vec<Finding> {
    let told = Told::new(&view.schema, &view.name);
    if !(view.may_insert || view.may_update || view.may_delete) {
        return Vec::new();
    }
    tried(|| {
        set_the_scene();
        work.cast.place(&work.cast.actor)?;
        check_at_once()?;
        in_scene(work, view, &told)
    })
    .unwrap_or_else(|failure| vec![told.failed("write", &failure)])
}

fn in_scene(work: &Work<'_>, view: &View, told: &Told) -> Result<Vec<Finding>> {
    let mut below: Vec<Below<'_>> = Vec::new();
    for target in work.targets {
        if !view.tables.contains(&target.table.oid)
            || matches!(target.belonging, Belonging::Nobody { .. })
        {
            continue;
        }
        match rows::find(work, target)? {
            Found::Prey(prey) => below.push((target, prey)),
            Found::CannotBe(_) => {}
            Found::None(why) => {
                return Ok(vec![told.finding(
                    "write",
                    Verdict::NotAttacked,
                    Some(&why),
                    None,
                )]);
            }
        }
    }
    let mut findings = Vec::new();
    if below.is_empty() {
        return Ok(findings);
    }
    let condition = condition(view, &below);
    let too_many = condition.is_empty() && own_rows(work, &below)? > OWN_ROWS;
    let many =
        || Met::not_attacked("without the tenant's column it would touch all rows of one's own");
    if view.may_update {
        let met = match view.writable.first() {
            _ if too_many => many(),
            Some(first) => {
                let plain = |name: &&String| {
                    let is_mark = |prey: &Prey| prey.marks.iter().any(|(mark, _)| mark == *name);
                    !below.iter().any(|(_, prey)| is_mark(prey))
                };
                let column = quoted(view.writable.iter().find(plain).unwrap_or(first));
                let sql = format!("UPDATE {} SET {column} = {column}{condition}", view.sql());
                write(work, &below, || Ok(true), &sql)
            }
            None => Met::not_attacked("no column of it can be written"),
        };
        findings.push(told.met("update", met));
    }
    if view.may_delete {
        let sql = format!("DELETE FROM {}{condition}", view.sql());
        let met = if too_many {
            many()
        } else {
            write(work, &below, || Ok(true), &sql)
        };
        findings.push(told.met("delete", met));
    }
    if view.may_insert {
        findings.push(told.met("insert", insert(work, view, &below)?));
    }
    Ok(findings)
}

/// Narrows a statement to rows of the other tenant where the view shows whose they are.
fn condition(view: &View, below: &[Below<'_>]) -> String {
    let marks = below.iter().flat_map(|(_, prey)| &prey.marks);
    for (name, value) in marks {
        if view.readable.contains(name) {
            return format!(" WHERE {} = {value}", quoted(name));
        }
    }
    String::new()
}

fn own_rows(work: &Work<'_>, below: &[Below<'_>]) -> Result<u64> {
    let mut most = 0;
    for (target, _) in below {
        if let Some(own) = prey::prey(target, &work.cast.actor, work.targets)? {
            most = most.max(prey::fingerprint(target, &own.condition)?.0);
        }
    }
    Ok(most)
}

fn insert(work: &Work<'_>, view: &View, below: &[Below<'_>]) -> Result<Met> {
    for (target, prey) in below {
        let Some(row) = prey::copy(target, &prey.condition)? else {
            continue;
        };
        let values: Vec<(String, String)> = row
            .values
            .iter()
            .filter(|(name, _)| view.writable.contains(name))
            .cloned()
            .collect();
        if !prey
            .marks
            .iter()
            .all(|(name, _)| values.iter().any(|(known, _)| known == name))
        {
            continue;
        }
        let names: Vec<String> = values.iter().map(|(name, _)| name.clone()).collect();
        let literals: Vec<&str> = values.iter().map(|(_, value)| value.as_str()).collect();
        let sql = format!(
            "INSERT INTO {} ({}) VALUES ({})",
            view.sql(),
            quoted_list(&names),
            literals.join(", ")
        );
        return Ok(write(work, below, || row.take_away(target), &sql));
    }
    // Nobody says through it whose a row is.
    Ok(Met::nothing())
}

fn write(
    work: &Work<'_>,
    below: &[Below<'_>],
    prepare: impl FnOnce() -> Result<bool>,
    sql: &str,
) -> Met {
    let fingerprints = || -> Result<Vec<(u64, String)>> {
        let each = below.iter();
        each.map(|(target, prey)| prey::fingerprint(target, &prey.condition))
            .collect()
    };
    let met = tried(|| {
        if !prepare()? {
            return Ok(None);
        }
        let before = fingerprints()?;
        as_role(work.role, sql)?;
        Ok(Some(before != fingerprints()?))
    });
    match met {
        Ok(Some(true)) => Met::leak("rows of the other tenant were changed".to_owned()),
        Ok(Some(false)) => Met::nothing(),
        Ok(None) => Met::not_attacked("the row was changed by somebody else meanwhile"),
        Err(failure) => Met::failed(Attack::Rows, &failure),
    }
}
