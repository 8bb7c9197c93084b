//! The database without the other tenant's rows.
//!
//! Owns taking them away for the rest of a subtransaction, and from which tables they are all gone: a result that
//! is the same without some of them proves nothing.

use super::hanging::Hanging;
use super::prey::{self, Copied};
use super::stored::{self, Stored};
use super::tables::{Belonging, Target};
use super::{Told, Work, rows};
use crate::error::Result;
use crate::policy::subtransaction::attempt_reading;

/// What has changed, and what has not.
pub struct Absence {
    stored: Vec<(Stored, bool)>,
    /// The tables that belong to somebody, whether they have others above them, and why nothing is proved by them.
    tables: Vec<Changed>,
    /// Those that say not whose their rows are.
    hanging: Vec<Hanging>,
}

struct Changed {
    oid: u32,
    name: String,
    above: Vec<u32>,
    why_not: Option<&'static str>,
}

const HELD: &str =
    "has more rows of the other tenant than are taken away, or some that others hold";
const NONE: &str = "has no row of the other tenant, and none could be made";
const EMPTY: &str = "has no row of the other tenant";

/// Takes all rows of the other tenant away, and makes one where there is none.
pub fn begin(work: &Work<'_>) -> Result<Absence> {
    // Rows that belong by their parents first: without those nobody knows whose they are.
    let mut targets: Vec<&Target> = work
        .targets
        .iter()
        .filter(|target| !matches!(target.belonging, Belonging::Nobody { .. }))
        .collect();
    targets.sort_by_key(|target| core::cmp::Reverse(depth(target, work.targets, 0)));
    let mut known = Vec::new();
    for target in targets {
        known.push((target, rows::existing(work, target)?));
    }
    let mut stored = Vec::new();
    for one in stored::all(work.targets)? {
        let gone = one.take_away(work);
        stored.push((one, gone));
    }
    let mut tables = Vec::new();
    for (target, prey) in known {
        let is_below = target.table.is_below(work.targets);
        // What cannot be changed there is told.
        let why_not = match prey {
            Some(prey) => match attempt_reading(|| prey::take_away(target, &prey.condition)) {
                Ok(true) => None,
                Ok(false) | Err(_) => Some(HELD),
            },
            None if is_below => Some(EMPTY),
            None => match rows::find(work, target)? {
                rows::Found::Prey(_) | rows::Found::CannotBe(_) => None,
                rows::Found::None(_) => Some(NONE),
            },
        };
        tables.push(Changed {
            oid: target.table.oid,
            name: Told::new(&target.table.schema, &target.table.name).relation,
            above: target.table.above.clone(),
            why_not,
        });
    }
    Ok(Absence {
        stored,
        tables,
        hanging: work.hanging.to_vec(),
    })
}

/// How many tables are above it, along the keys by which its rows are somebody's.
pub fn depth(target: &Target, targets: &[Target], so_far: usize) -> usize {
    match target.parent(targets) {
        Some((_, parent)) if so_far < targets.len() => depth(parent, targets, so_far + 1),
        _ => so_far,
    }
}

impl Absence {
    /// Why a result that is the same as before proves nothing of what is below a view.
    pub fn disproves_below(&self, below: &[u32]) -> Option<String> {
        let table = self.tables.iter().find(|table| {
            below.contains(&table.oid)
                && table.why_not.is_some()
                && !table.above.iter().any(|above| below.contains(above))
        });
        let stored = self
            .stored
            .iter()
            .find(|(one, gone)| !gone && below.contains(&one.oid));
        let mut hanging = self.hanging.iter();
        let hanging = hanging.find(|table| below.contains(&table.oid));
        told(table)
            .or_else(|| stored.map(|(one, _)| kept(one)))
            .or_else(|| hanging.map(unknown))
    }

    /// Why it proves nothing of what may read anything, through whomever.
    pub fn disproves(&self) -> Option<String> {
        let is_root = |table: &&Changed| {
            let known = |oid: &u32| self.tables.iter().any(|other| other.oid == *oid);
            table.why_not.is_some() && !table.above.iter().any(known)
        };
        let stored = self
            .stored
            .iter()
            .find(|(one, gone)| !gone && one.may_show_tenants);
        told(self.tables.iter().find(is_root))
            .or_else(|| stored.map(|(one, _)| kept(one)))
            .or_else(|| self.hanging.first().map(unknown))
    }
}

fn told(table: Option<&Changed>) -> Option<String> {
    let table = table?;
    let why = table.why_not?;
    Some(format!(
        "its result is the same without rows of the other tenant, but {} {why}",
        table.name
    ))
}

fn unknown(hanging: &Hanging) -> String {
    format!(
        "its result is the same without rows of the other tenant, but {} is not registered, and nothing says whose its rows are",
        hanging.shown()
    )
}

fn kept(stored: &Stored) -> String {
    if stored.is_elsewhere() {
        format!(
            "{} may show what is on another server, where nothing is rolled back",
            stored.shown()
        )
    } else {
        format!(
            "its result is the same without rows of the other tenant, but {} keeps its rows, and none is known to be that tenant's",
            stored.shown()
        )
    }
}

/// Takes those rows away, each from its table; those that others hold are left.
pub fn without(rows: &[(&Target, Copied)]) -> Result<()> {
    for (target, row) in rows {
        row.take_away(target)?;
    }
    Ok(())
}
