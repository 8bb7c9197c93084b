//! What must hold for a statement that was run three ways.
//!
//! The oracle asks no more of shadow mode than what follows from the unprotected result: where a statement
//! shows the keys of the rows in FROM, a row of the result that has the key of a denied row cannot be in
//! the enforced one, so each such row is lost and must be among the records, whatever their precision; and
//! a record that says `exact` must be one of them. Which rows are denied is asked of the enforced tables.
//! Nothing of that is known of tables that are also read where their rows are not shown, in a sub-select
//! that gives a value for example: there only the first half is asked. Rows that enforcement adds are the
//! matter of `added`.

use std::collections::BTreeSet;

use super::actors::Context;
use super::added;
use super::generate::Statement;
use super::sql::Key;
use super::tables::OWNERS_VIEW;
use super::world::{Outcome, Record, Tag, World};

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Shadow mode changed the result, the error or the tables.
    Changed,
    /// Enforcement changes it, and nothing was recorded.
    Missed,
    /// A row that is lost was not recorded.
    MissedRow(BTreeSet<Tag>),
    /// Enforcement refuses a row, and no refusal was recorded.
    MissedRefusal,
    /// A row is added for want of these, and none was recorded.
    MissedPartner(BTreeSet<Tag>),
    /// A row was recorded as exactly lost, and is not.
    NotLost(BTreeSet<Tag>),
    /// A record is confirmed, and enforcement changes nothing.
    Confirmed,
    /// Something was recorded, or changed by enforcement, for roles that are exempt.
    Exempt,
    /// A row that must be lost is not: the test itself is wrong.
    Oracle,
}

/// How a statement went.
#[derive(Debug)]
pub struct Verdict {
    pub faults: Vec<Fault>,
    pub is_changed: bool,
    /// It fails without protection.
    pub fails: bool,
    /// Enforcement changes an error, and nothing was recorded.
    pub fails_unnoticed: bool,
    /// The best precision of what was recorded though enforcement changes nothing.
    pub false_alarm: Option<&'static str>,
    /// Keys of rows were compared.
    pub is_compared: bool,
    /// Running it both ways has shown that it loses or gains rows.
    pub is_confirmed: bool,
}

/// With any of these, enforcement may write other rows than are written without it.
const WRITES_OTHERS: [&str; 11] = [
    "ARRAY in a condition",
    "EXISTS",
    "IN",
    "MERGE",
    "NOT EXISTS",
    "NOT IN",
    "OR EXISTS",
    "WITH RECURSIVE",
    "joined aggregate",
    "scalar sub-select in a condition",
    "sub-select that looks at nothing outside",
];

/// What happened to one statement.
pub struct Trial<'a> {
    pub statement: &'a Statement,
    pub plain: Outcome,
    pub shadow: Outcome,
    pub enforced: Outcome,
    pub records: BTreeSet<Record>,
}

impl Trial<'_> {
    pub fn verdict(&self, world: &mut World) -> Verdict {
        let fails = self.plain.error.is_some();
        let is_changed = self.plain != self.enforced;
        let mut faults = Vec::new();
        if self.plain != self.shadow {
            faults.push(Fault::Changed);
        }
        if is_changed && !fails && self.records.is_empty() {
            faults.push(Fault::Missed);
        }
        let is_confirmed = self.records.iter().any(|record| record.is_confirmed);
        if is_confirmed && !is_changed && !fails {
            faults.push(Fault::Confirmed);
        }
        if self.is_refused() && !self.records.iter().any(|r| r.kind == "check_violation") {
            faults.push(Fault::MissedRefusal);
        }
        let steps = &self.statement.steps;
        let nobody_bound = steps.iter().all(|step| !step.actor.is_bound())
            && !self.statement.shapes.contains(OWNERS_VIEW);
        if nobody_bound && (is_changed || !self.records.is_empty()) {
            faults.push(Fault::Exempt);
        }
        let lost = self.lost(world);
        if let Some(lost) = &lost {
            self.compare(lost, is_changed, &mut faults);
            if is_changed {
                self.look_for_partners(world, &mut faults);
            }
        }
        Verdict {
            faults,
            is_changed,
            fails,
            fails_unnoticed: fails && is_changed && self.records.is_empty(),
            false_alarm: (!is_changed && !fails)
                .then(|| self.best_precision())
                .flatten(),
            is_compared: lost.is_some(),
            is_confirmed,
        }
    }

    /// Whether enforcement refuses a row that is written without protection too: sub-selects may have it
    /// write others.
    fn is_refused(&self) -> bool {
        let statement = self.statement;
        let mut steps = statement.steps.iter();
        statement.writes
            && self.plain.error.is_none()
            && self.enforced.error.is_some()
            && steps.all(|step| step.context != Context::Missing)
            && !WRITES_OTHERS
                .iter()
                .any(|shape| statement.shapes.contains(shape))
    }

    fn recorded(&self) -> BTreeSet<Tag> {
        self.records
            .iter()
            .filter(|record| record.kind == "hidden_row")
            .map(|record| record.tag.clone())
            .collect()
    }

    fn look_for_partners(&self, world: &mut World, faults: &mut Vec<Fault>) {
        let recorded = self.recorded();
        let missed = added::partners(self, world)
            .into_iter()
            .find(|partners| partners.is_disjoint(&recorded));
        faults.extend(missed.map(Fault::MissedPartner));
    }

    fn compare(&self, lost: &BTreeSet<Tag>, is_changed: bool, faults: &mut Vec<Fault>) {
        let missed: BTreeSet<Tag> = lost.difference(&self.recorded()).cloned().collect();
        if !missed.is_empty() {
            faults.push(Fault::MissedRow(missed));
        }
        if !lost.is_empty() && !is_changed {
            faults.push(Fault::Oracle);
        }
        let not_lost: BTreeSet<Tag> = self
            .records
            .iter()
            .filter(|record| record.kind == "hidden_row" && record.precision == "exact")
            .map(|record| record.tag.clone())
            .filter(|tag| !lost.contains(tag) && !self.statement.unseen.contains(tag.0.as_str()))
            .collect();
        if !not_lost.is_empty() {
            faults.push(Fault::NotLost(not_lost));
        }
    }

    /// The rows of the unprotected result that are denied; `None` where it does not show which they are.
    fn lost(&self, world: &World) -> Option<BTreeSet<Tag>> {
        let keys = self.statement.sql.keys();
        let steps = &self.statement.steps;
        let has_contexts = steps.iter().all(|step| step.context != Context::Missing);
        if keys.is_empty() || self.plain.error.is_some() || !has_contexts {
            return None;
        }
        assert_eq!(self.plain.keys.len(), steps.len(), "one result a step");
        let mut lost = BTreeSet::new();
        for (step, rows) in steps.iter().zip(&self.plain.keys) {
            for row in rows {
                for (key, id) in keys.iter().zip(row) {
                    let Key { table, access, .. } = key;
                    if !step.actor.is_bound() && !key.by_owner {
                        continue;
                    }
                    if let (Some(table), Some(id)) = (table, id)
                        && let Some(tag) = world.denied(step.context, *access, table, id)
                    {
                        lost.insert(tag.clone());
                    }
                }
            }
        }
        Some(lost)
    }

    fn best_precision(&self) -> Option<&'static str> {
        ["exact", "level", "scan"]
            .into_iter()
            .find(|word| self.records.iter().any(|record| record.precision == *word))
    }
}
