//! Whether anything that the role reads besides tables depends on rows of the other tenant.
//!
//! Each way is read, rows of the other tenant are taken away (or made, where there are none), and it is
//! read again in the same snapshot: what differs has shown something of them, a sum or a count included. What is
//! the same proves something only where all of them were gone, and where it was seen to read rows at all.

use super::absence::{self, Absence};
use super::calls::{Calls, Somebody};
use super::contents;
use super::prey;
use super::run::{
    check_at_once, read_as_owner, read_as_role, see_what_was_written, set_the_scene, tried,
};
use super::stored;
use super::tables::Target;
use super::verdict::{Attack, Finding, Verdict, is_of_the_harness};
use super::ways::{Function, View};
use super::{Told, Work, attack::Met};
use crate::error::Result;
use crate::policy::subtransaction::Failure;

/// Something to read.
struct Way<'a> {
    told: Told,
    attack: &'static str,
    /// Each is one way to read it.
    sql: Vec<String>,
    /// More ways, where the first fails.
    parts: Vec<String>,
    /// Read as its owner: a materialized view shows what its query gave him.
    owner: Option<&'a View>,
    reads: Reads,
    /// Reading it may write.
    writes: bool,
    /// Of a function with arguments: calls with what the actor's own rows hold, and whether those with the other
    /// tenant's were all that there are.
    control: Option<(Vec<String>, bool)>,
}

/// What a way may read.
enum Reads {
    /// Those relations.
    These(Vec<u32>),
    /// Those, and anything else.
    Anything(Vec<u32>),
    /// What the role reads itself.
    Own,
}

/// What one reading gave.
#[derive(PartialEq)]
struct Given {
    values: Vec<Option<String>>,
    /// What the actor's own rows are by now.
    left: Vec<Option<String>>,
    /// Whether rows of the other tenant, and one's own, changed by it.
    wrote: bool,
    wrote_own: bool,
}

type Seen = core::result::Result<Given, Failure>;

/// Attacks through views, materialized views and functions.
pub fn all(work: &Work<'_>, views: &[View], functions: &[Function]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut ways = Vec::new();
    let elsewhere: Vec<u32> = stored::all(work.targets)?
        .iter()
        .filter(|stored| stored.is_elsewhere())
        .map(|stored| stored.oid)
        .collect();
    for view in views {
        of_view(work, view, &elsewhere, &mut ways, &mut findings)?;
    }
    let functions: Vec<&Function> = functions
        .iter()
        .filter(|function| is_called(work, function, &mut findings))
        .collect();
    let compared = tried(|| {
        set_the_scene();
        work.cast.place(&work.cast.actor)?;
        check_at_once()?;
        let (other, actor) = (Somebody::other(work)?, Somebody::actor(work)?);
        let mut findings = Vec::new();
        for function in &functions {
            of_function(function, &other, &actor, &mut ways, &mut findings);
        }
        for way in &mut ways {
            if !way.parts.is_empty() && way.sql.iter().any(|sql| read(work, way, sql).is_err()) {
                let parts = core::mem::take(&mut way.parts);
                way.sql.extend(parts);
            }
        }
        findings.extend(compare(work, &ways, &actor)?);
        Ok(findings)
    });
    match compared {
        Ok(found) => findings.extend(found),
        Err(failure) => {
            findings.extend(ways.iter().map(|way| way.told.failed(way.attack, &failure)));
            let told = functions
                .iter()
                .map(|function| Told::named(&function.shown));
            findings.extend(told.map(|told| told.failed("call", &failure)));
        }
    }
    Ok(findings)
}

fn of_view<'a>(
    work: &Work<'_>,
    view: &'a View,
    elsewhere: &[u32],
    ways: &mut Vec<Way<'a>>,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let told = Told::new(&view.schema, &view.name);
    let attack = if view.kind == "f" { "all" } else { "select" };
    if view.kind == "f" || view.tables.iter().any(|oid| elsewhere.contains(oid)) {
        let detail = "its rows are on another server, where nothing is rolled back";
        findings.push(
            told.finding(attack, Verdict::NotAttacked, Some(detail), None)
                .acceptable(),
        );
        return Ok(());
    }
    let is_below = |target: &Target| view.tables.contains(&target.table.oid);
    let hangs = work
        .hanging
        .iter()
        .any(|table| view.tables.contains(&table.oid));
    let touches = view.calls || hangs || work.targets.iter().any(is_below);
    if !touches || view.readable.is_empty() {
        return Ok(());
    }
    let reads = if view.calls_definers {
        Reads::Anything(view.tables.clone())
    } else {
        Reads::These(view.tables.clone())
    };
    let (attack, sql, parts, owner) = if let Some(definition) = &view.definition {
        findings.push(contents::of(work, view, &told)?);
        if view.runs_others {
            let attack = "select after refresh";
            let detail = OTHERS_CODE;
            findings.push(told.finding(attack, Verdict::NotAttacked, Some(detail), None));
            return Ok(());
        }
        let query = definition.trim_end().trim_end_matches(';');
        let sql = contents::digest(query);
        ("select after refresh", sql, Vec::new(), Some(view))
    } else {
        ("select", view.digest(), view.parts(), None)
    };
    ways.push(Way {
        told,
        attack,
        sql: vec![sql],
        parts,
        owner,
        reads,
        writes: false,
        control: None,
    });
    Ok(())
}

/// Why the query of a materialized view is not run.
pub const OTHERS_CODE: &str =
    "its query runs code of a role without the rights of its owner, who runs it";

/// Whether a function is called at all; a finding where it is not, and might be by somebody.
fn is_called(work: &Work<'_>, function: &Function, findings: &mut Vec<Finding>) -> bool {
    let why = if function.procedure {
        "it is a SECURITY DEFINER procedure, which returns nothing: what it does is not known"
    } else if function.definer && function.cursor {
        "it is SECURITY DEFINER and returns a cursor, whose rows are not read by calling it"
    } else if function.volatile && !work.volatile_functions {
        "it is VOLATILE: name volatile_functions => true to call it"
    } else {
        return true;
    };
    findings.push(
        Told::named(&function.shown)
            .finding("call", Verdict::NotAttacked, Some(why), None)
            .acceptable(),
    );
    false
}

fn of_function(
    function: &Function,
    other: &Somebody<'_>,
    actor: &Somebody<'_>,
    ways: &mut Vec<Way<'_>>,
    findings: &mut Vec<Finding>,
) {
    let told = Told::named(&function.shown);
    let Some(Calls { sql, whole }) = other.calls(function) else {
        if function.definer {
            let detail = "it is SECURITY DEFINER, and nothing is known to give as its arguments";
            findings.push(
                told.finding("call", Verdict::NotAttacked, Some(detail), None)
                    .acceptable(),
            );
        }
        return;
    };
    let own = || actor.calls(function).map_or(Vec::new(), |calls| calls.sql);
    ways.push(Way {
        told,
        attack: "call",
        sql,
        parts: Vec::new(),
        owner: None,
        reads: if function.definer {
            Reads::Anything(Vec::new())
        } else {
            Reads::Own
        },
        writes: function.volatile,
        control: (function.definer && !function.arguments.is_empty()).then(|| (own(), whole)),
    });
}

fn compare(work: &Work<'_>, ways: &[Way<'_>], actor: &Somebody<'_>) -> Result<Vec<Finding>> {
    if ways.is_empty() {
        return Ok(Vec::new());
    }
    let read = |way: &Way<'_>| -> Vec<Seen> {
        let each = way.sql.iter();
        each.map(|sql| read(work, way, sql)).collect()
    };
    let first: Vec<Vec<Seen>> = ways.iter().map(read).collect();
    let again: Vec<Vec<Seen>> = ways.iter().map(read).collect();
    let absence = absence::begin(work)?;
    let after: Vec<Vec<Seen>> = ways.iter().map(read).collect();
    let mut findings = Vec::new();
    for (place, way) in ways.iter().enumerate() {
        let calls = first[place].iter().zip(&again[place]).zip(&after[place]);
        let mets: Vec<Met> = calls
            .map(|((first, again), after)| judge(first, again, after))
            .collect();
        let met = judged(work, way, mets, &absence, actor)?;
        let finding = way.told.met(way.attack, met);
        findings.push(if way.attack == "call" {
            finding.acceptable()
        } else {
            finding
        });
    }
    Ok(findings)
}

fn read(work: &Work<'_>, way: &Way<'_>, sql: &str) -> Seen {
    tried(|| {
        let now = || -> Result<_> {
            Ok(if way.writes {
                (others(work)?, own(work)?)
            } else {
                (Vec::new(), Vec::new())
            })
        };
        let before = now()?;
        let answer = match way.owner {
            Some(view) => read_as_owner(view.owner(), sql)?,
            None => read_as_role(work.role, sql)?,
        };
        see_what_was_written();
        let after = now()?;
        Ok(Given {
            values: answer.rows.into_iter().flatten().collect(),
            wrote: before.0 != after.0,
            wrote_own: before.1 != after.1,
            left: after.1,
        })
    })
}

/// What one reading before and after says.
fn judge(first: &Seen, again: &Seen, after: &Seen) -> Met {
    match (first, again, after) {
        (Ok(first), ..) if first.wrote => {
            Met::leak("rows of the other tenant were changed".to_owned())
        }
        (Ok(first), Ok(again), _) if first != again => {
            Met::not_attacked("it gives another result each time")
        }
        (Ok(first), _, Ok(after)) if first != after => {
            Met::leak("its result depends on rows of the other tenant".to_owned())
        }
        (Ok(_), _, Ok(_)) => Met::nothing(),
        (Err(first), Err(again), Err(after))
            if first.message == again.message
                && first.message != after.message
                && is_of_rows(after) =>
        {
            Met::leak("the error that it fails with depends on rows of the other tenant".to_owned())
        }
        (Err(failure), Err(_), Err(_)) if is_of_rows(failure) => Met::failed(Attack::Rows, failure),
        (Ok(_), Ok(_), Err(failure)) | (Err(failure), Err(_), Ok(_)) if is_of_rows(failure) => {
            Met::leak("whether it fails depends on rows of the other tenant".to_owned())
        }
        (Err(failure), ..) | (_, Err(failure), _) | (.., Err(failure)) => {
            Met::not_attacked(&failure.message)
        }
    }
}

/// A lock that was not to be had says nothing, nor what fails only because it is tested.
fn is_of_rows(failure: &Failure) -> bool {
    !super::code(failure).starts_with("55P") && !is_of_the_harness(&failure.message)
}

/// What all readings of one way say.
fn judged(
    work: &Work<'_>,
    way: &Way<'_>,
    mets: Vec<Met>,
    absence: &Absence,
    actor: &Somebody<'_>,
) -> Result<Met> {
    // A call that fails with and without the rows has shown nothing, but others may; of a view, what is refused.
    let is_view = matches!(way.attack, "select");
    let is_failure =
        |met: &Met| met.sqlstate.is_some() && (!is_view || met.verdict == Verdict::Refused);
    let succeeded = mets.iter().any(|met| !is_failure(met));
    let counted = mets
        .into_iter()
        .filter(|met| !succeeded || !is_failure(met));
    let met = counted
        .reduce(Met::and)
        .unwrap_or_else(|| Met::not_attacked("there is nothing to call it with"));
    let is_own = matches!(way.reads, Reads::Own);
    if is_own && is_failure(&met) {
        // It has the rights of its caller.
        return Ok(Met::nothing());
    }
    if met.verdict != Verdict::Nothing || is_own {
        return Ok(met);
    }
    let why = match &way.reads {
        Reads::These(below) => absence.disproves_below(below),
        Reads::Anything(below) => absence
            .disproves()
            .or_else(|| absence.disproves_below(below)),
        Reads::Own => None,
    };
    if let Some(why) = why {
        return Ok(Met::not_attacked(&why));
    }
    match &way.control {
        Some((_, false)) => Ok(Met::not_attacked("there are too many ways to call it")),
        Some((own, true)) if !reads_own(work, way, own, actor)? => Ok(Met::not_attacked(
            "it is SECURITY DEFINER, and what it is called with shows no row of one's own either: it is not known what it takes",
        )),
        _ => Ok(met),
    }
}

/// Whether some call with what one's own rows hold depends on them: it then takes what it was given.
fn reads_own(
    work: &Work<'_>,
    way: &Way<'_>,
    calls: &[String],
    actor: &Somebody<'_>,
) -> Result<bool> {
    let readings = || -> Vec<Seen> { calls.iter().map(|sql| read(work, way, sql)).collect() };
    let before = readings();
    // Without who is a member of what, nobody is anybody: that is taken away by itself.
    let (binding, others): (Vec<_>, Vec<_>) = actor
        .rows
        .iter()
        .cloned()
        .partition(|(target, _)| work.cast.binds(target.table.oid()));
    for (rows, may_write) in [(others, true), (binding, false)] {
        let after = tried(|| {
            absence::without(&rows)?;
            Ok(readings())
        });
        // What it writes whether or not the rows are there, it was not given by them.
        let differs = |(before, after): (&Seen, &Seen)| match (before, after) {
            (Ok(before), Ok(after)) => {
                before.values != after.values || may_write && before.wrote_own && !after.wrote_own
            }
            _ => false,
        };
        if after.is_ok_and(|after| before.iter().zip(&after).any(differs)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// All that the other tenant has, in numbers.
fn others(work: &Work<'_>) -> Result<Vec<(u64, String)>> {
    let mut all = Vec::new();
    for target in work.targets {
        if let Some(prey) = prey::prey(target, &work.cast.other, work.targets)? {
            all.push(prey::fingerprint(target, &prey.condition)?);
        }
    }
    Ok(all)
}

/// What the actor's own rows hold.
fn own(work: &Work<'_>) -> Result<Vec<Option<String>>> {
    let mut all = Vec::new();
    for target in work.targets {
        if let Some(prey) = prey::prey(target, &work.cast.actor, work.targets)? {
            all.extend(prey::contents(target, &prey.condition)?);
        }
    }
    Ok(all)
}
