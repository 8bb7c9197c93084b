//! Writing rows of the other tenant through views.
//!
//! Owns which statements a view takes. What they changed is asked of the tables below it.

use super::attack::Met;
use super::prey::{self, Prey};
use super::rows::{self, Found};
use super::run::{as_role, check_at_once, set_the_scene, tried, without_triggers};
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
    let touches = |target: &Target| view.tables.contains(&target.table.oid);
    if view.may_truncate && work.targets.iter().any(touches) {
        let detail = "TRUNCATE is granted, which empties the children, too; it was not run, because it locks them";
        let mut findings = vec![told.finding("truncate", Verdict::Leak, Some(detail), None)];
        findings.extend(statements(work, view, &told));
        return findings;
    }
    statements(work, view, &told)
}

fn statements(work: &Work<'_>, view: &View, told: &Told) -> Vec<Finding> {
    if !(view.may_insert || view.may_update || view.may_delete) {
        return Vec::new();
    }
    tried(|| {
        set_the_scene();
        work.cast.place(&work.cast.actor)?;
        check_at_once()?;
        in_scene(work, view, told)
    })
    .unwrap_or_else(|failure| vec![told.failed("write", &failure)])
}

fn in_scene(work: &Work<'_>, view: &View, told: &Told) -> Result<Vec<Finding>> {
    let mut below: Vec<Below<'_>> = Vec::new();
    for target in work.targets {
        let above = |oid: &u32| view.tables.contains(oid) && is_target(work, *oid);
        if !view.tables.contains(&target.table.oid)
            || matches!(target.belonging, Belonging::Nobody { .. })
            // Its rows are those of the table above it.
            || target.table.above.iter().any(above)
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
        if view.instead {
            let detail =
                "triggers or rules write instead of what is written, and nothing is known of where";
            findings.push(told.finding("write", Verdict::NotAttacked, Some(detail), None));
        }
        return Ok(findings);
    }
    let others = below.iter().map(|(_, prey)| prey);
    let condition = condition(view, others);
    let too_many = condition.is_empty() && own_rows(work, &below)? > OWN_ROWS;
    let own = own(work, &below)?;
    let of_own = self::condition(view, own.iter().map(|(_, prey)| prey));
    // What triggers and rules do with rows of the other tenant counts where they do something with one's own.
    let attack = |sql: &dyn Fn(&str) -> String| -> Met {
        let met = write(work, &below, || Ok(true), &sql(&condition));
        if !view.instead || met.verdict == Verdict::Leak {
            return met;
        }
        match write(work, &own, || Ok(true), &sql(&of_own)).verdict {
            Verdict::Leak if matches!(met.verdict, Verdict::Nothing | Verdict::Refused) => met,
            _ if met.verdict == Verdict::NotAttacked => met,
            _ => Met::not_attacked(
                "triggers or rules write instead of what is written, and write no row of one's own either",
            ),
        }
    };
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
                attack(&|condition| {
                    format!("UPDATE {} SET {column} = {column}{condition}", view.sql())
                })
            }
            None => Met::not_attacked("no column of it can be written"),
        };
        findings.push(told.met("update", met));
    }
    if view.may_delete {
        let met = if too_many {
            many()
        } else {
            attack(&|condition| format!("DELETE FROM {}{condition}", view.sql()))
        };
        findings.push(told.met("delete", met));
    }
    if view.may_insert {
        let met = insert(work, view, &below)?;
        let met = if view.instead && met.verdict != Verdict::Leak {
            match insert(work, view, &own)?.verdict {
                Verdict::Leak if matches!(met.verdict, Verdict::Nothing | Verdict::Refused) => met,
                _ if met.verdict == Verdict::NotAttacked => met,
                _ => Met::not_attacked(
                    "triggers or rules write instead of what is written, and write no row of one's own either",
                ),
            }
        } else {
            met
        };
        findings.push(told.met("insert", met));
    }
    Ok(findings)
}

fn is_target(work: &Work<'_>, oid: u32) -> bool {
    work.targets.iter().any(|target| target.table.oid == oid)
}

/// The same tables with rows of one's own, as far as there are any.
fn own<'a>(work: &Work<'_>, below: &[Below<'a>]) -> Result<Vec<Below<'a>>> {
    let mut own = Vec::new();
    for (target, _) in below {
        if let Found::Prey(prey) = rows::own(work, target, &work.cast.actor)? {
            own.push((*target, prey));
        }
    }
    Ok(own)
}

/// Narrows a statement to those rows where the view shows whose they are.
fn condition<'a>(view: &View, preys: impl Iterator<Item = &'a Prey>) -> String {
    for (name, value) in preys.flat_map(|prey| &prey.marks) {
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
            .filter(|(name, _)| view.insertable.contains(name))
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

/// The verdict by whether those rows changed. Where triggers or rules of a table may have stood in the way, what
/// policies and privileges do is asked without them.
fn write(
    work: &Work<'_>,
    below: &[Below<'_>],
    prepare: impl Fn() -> Result<bool>,
    sql: &str,
) -> Met {
    let met = once(work, below, &prepare, sql, true);
    let mut tables = below.iter().map(|(target, _)| &target.table);
    if met.verdict == Verdict::Leak || !tables.clone().any(|table| table.interferes) {
        return met;
    }
    let alone = once(work, below, &prepare, sql, false);
    if alone.verdict == Verdict::Leak || tables.any(|table| table.always) {
        return Met::not_attacked(
            "a trigger or a rule of a table below stood in the way, and no policy does without it",
        );
    }
    met
}

fn once(
    work: &Work<'_>,
    below: &[Below<'_>],
    prepare: &impl Fn() -> Result<bool>,
    sql: &str,
    triggers: bool,
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
        if triggers {
            as_role(work.role, sql)?;
        } else {
            without_triggers(|| as_role(work.role, sql))?;
        }
        Ok(Some(before != fingerprints()?))
    });
    match met {
        Ok(Some(true)) => Met::leak("rows of the other tenant were changed".to_owned()),
        Ok(Some(false)) => Met::nothing(),
        Ok(None) => Met::not_attacked("the row was changed by somebody else meanwhile"),
        Err(failure) => Met::failed(Attack::Rows, &failure),
    }
}
