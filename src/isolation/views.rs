//! Writing rows of the other tenant through views.
//!
//! Owns which statements a view takes. What they changed is asked of the tables below it.

use super::attack::{Met, assignments};
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
    let attack = |kind: Attack<'_>, theirs: &str, ones_own: &str| -> Met {
        let met = write(work, &below, kind, || Ok(true), theirs);
        if !view.instead || met.verdict == Verdict::Leak {
            return met;
        }
        match write(work, &own, kind, || Ok(true), ones_own).verdict {
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
        let met = match change(view, &below)? {
            _ if too_many => many(),
            Some(set) => {
                let sql = |condition| format!("UPDATE {} SET {set}{condition}", view.sql());
                attack(Attack::Rows, &sql(&condition), &sql(&of_own))
            }
            None => Met::not_attacked("no column of it can be written"),
        };
        findings.push(told.met("update", met));
        let met = match moved(view, &below, &own) {
            Moved::No => None,
            Moved::Unknown(why) => Some(Met::not_attacked(why)),
            Moved::By(_) if of_own.is_empty() && own_rows(work, &below)? > OWN_ROWS => Some(many()),
            Moved::By(set) => {
                let sql = format!("UPDATE {} SET {set}{of_own}", view.sql());
                Some(attack(Attack::Move, &sql, &sql))
            }
        };
        findings.extend(met.map(|met| told.met("move", met)));
    }
    if view.may_delete {
        let met = if too_many {
            many()
        } else {
            let sql = |condition| format!("DELETE FROM {}{condition}", view.sql());
            attack(Attack::Rows, &sql(&condition), &sql(&of_own))
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

/// What an UPDATE sets: a column to itself where the role may read it, else to what a row of the other tenant
/// holds; rather none that says whose the row is, nor one of a key.
fn change(view: &View, below: &[Below<'_>]) -> Result<Option<String>> {
    let is_mark = |name: &String| {
        let mut preys = below.iter().map(|(_, prey)| prey);
        preys.any(|prey| prey.marks.iter().any(|(mark, _)| mark == name))
    };
    let is_unique = |name: &String| {
        let mut columns = below
            .iter()
            .filter_map(|(target, _)| target.table.column(name));
        columns.any(|column| column.unique)
    };
    let rank = |name: &&String| {
        let is_read = view.readable.contains(*name);
        (is_mark(name), !is_read, !is_read && is_unique(name))
    };
    let Some(column) = view.writable.iter().min_by_key(rank) else {
        return Ok(None);
    };
    if view.readable.contains(column) {
        return Ok(Some(format!("{0} = {0}", quoted(column))));
    }
    for (target, prey) in below {
        let row = prey::copy(target, &prey.condition)?;
        if let Some(value) = row.as_ref().and_then(|row| row.value(column)) {
            return Ok(Some(format!("{} = {value}", quoted(column))));
        }
    }
    Ok(Some(format!("{} = DEFAULT", quoted(column))))
}

/// How a row of one's own becomes the other tenant's.
enum Moved {
    /// Nothing that can be written says whose a row is.
    No,
    By(String),
    Unknown(&'static str),
}

fn moved(view: &View, below: &[Below<'_>], own: &[Below<'_>]) -> Moved {
    let mut moved = Moved::No;
    for (target, prey) in below {
        let writes = |(name, _): &&(String, String)| view.writable.contains(name);
        let marks: Vec<(String, String)> = prey.marks.iter().filter(writes).cloned().collect();
        if !marks.is_empty() {
            return if own.is_empty() {
                Moved::Unknown("there is no row of one's own")
            } else {
                Moved::By(assignments(&marks))
            };
        }
        if renames(view, target, &view.writable) {
            moved = Moved::Unknown(RENAMED);
        }
    }
    moved
}

const RENAMED: &str =
    "the view has columns of its own, and it is not known whether one of them says whose a row is";

/// Whether some of those columns are called otherwise than in the table, so that any may say whose a row is.
fn renames(view: &View, target: &Target, columns: &[String]) -> bool {
    view.kind == "v"
        && columns
            .iter()
            .any(|name| target.table.column(name).is_none())
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
        let prepare = || row.take_away(target);
        return Ok(write(work, below, Attack::Rows, prepare, &sql));
    }
    // Nobody says through it whose a row is.
    let renames = |(target, _): &Below<'_>| renames(view, target, &view.insertable);
    Ok(if below.iter().any(renames) {
        Met::not_attacked(RENAMED)
    } else {
        Met::nothing()
    })
}

/// The verdict by whether those rows changed. Where triggers or rules of a table may have stood in the way, what
/// policies and privileges do is asked without them.
fn write(
    work: &Work<'_>,
    below: &[Below<'_>],
    attack: Attack<'_>,
    prepare: impl Fn() -> Result<bool>,
    sql: &str,
) -> Met {
    let met = once(work, below, attack, &prepare, sql, true);
    let mut tables = below.iter().map(|(target, _)| &target.table);
    if met.verdict == Verdict::Leak || !tables.clone().any(|table| table.interferes) {
        return met;
    }
    // What the extension's own trigger refuses, it does not refuse without triggers.
    if met.sqlstate.as_deref() == Some("23514") && met.verdict == Verdict::Refused {
        return met;
    }
    let alone = once(work, below, attack, &prepare, sql, false);
    let decided = matches!(alone.verdict, Verdict::Refused | Verdict::Nothing);
    if !decided || tables.any(|table| table.always_hides(alone.verdict)) {
        return Met::not_attacked(
            "a trigger or a rule of a table below stood in the way, and no policy does without it",
        );
    }
    met
}

fn once(
    work: &Work<'_>,
    below: &[Below<'_>],
    attack: Attack<'_>,
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
        Err(failure) => Met::failed(attack, &failure),
    }
}
