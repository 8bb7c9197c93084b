//! Rows that enforcement adds: of an outer join that has lost its partners.
//!
//! Such a row is not in the unprotected result, because a filter above takes the row with the partner away
//! and lets the one without through. One of the partners must be recorded. Who they are is asked of the
//! same statement without its filters, where only joins of tables decide.

use std::collections::BTreeSet;

use super::generate::Statement;
use super::judge::Trial;
use super::sql::{Key, Sql};
use super::world::{Tag, World};

/// With any of these, a row can come for other reasons.
const OTHER_REASONS: [&str; 12] = [
    "ARRAY in a condition",
    "EXISTS",
    "FOR UPDATE",
    "IN",
    "LIMIT",
    "LIMIT in LATERAL",
    "NOT EXISTS",
    "NOT IN",
    "OR EXISTS",
    "WITH RECURSIVE",
    "scalar sub-select in a condition",
    "sub-select that looks at nothing outside",
];

type Row = Vec<Option<String>>;

/// For each added row whose partners are denied: those.
pub fn partners(trial: &Trial<'_>, world: &mut World) -> Vec<BTreeSet<Tag>> {
    let Trial {
        statement,
        plain,
        enforced,
        ..
    } = trial;
    let keys = statement.sql.keys();
    if enforced.error.is_some() || !is_understood(statement) {
        return Vec::new();
    }
    let mut all = Vec::new();
    let mut unfiltered: Option<Vec<Row>> = None;
    let executions = statement.steps.iter().zip(&plain.keys).zip(&enforced.keys);
    for ((step, plain), enforced) in executions {
        let known: BTreeSet<&[Option<String>]> =
            plain.iter().map(|row| &row[..keys.len()]).collect();
        for added in enforced.iter().map(|row| &row[..keys.len()]) {
            if known.contains(added) {
                continue;
            }
            let rows =
                unfiltered.get_or_insert_with(|| world.look(&without_filters(&statement.sql)));
            let meets = |row: &&Row| added.iter().zip(*row).all(|(a, b)| a.is_none() || a == b);
            let mut denied = BTreeSet::new();
            for row in rows.iter().filter(meets) {
                for ((key, id), there) in keys.iter().zip(row).zip(added) {
                    let Key { table, access, .. } = key;
                    if there.is_none()
                        && (step.actor.is_bound() || key.by_owner)
                        && let (Some(table), Some(id)) = (table, id)
                        && let Some(tag) = world.denied(step.context, *access, table, id)
                    {
                        denied.insert(tag.clone());
                    }
                }
            }
            if !denied.is_empty() {
                all.push(denied);
            }
        }
    }
    all
}

fn is_understood(statement: &Statement) -> bool {
    !statement.writes
        && statement.unseen.is_empty()
        && !OTHER_REASONS
            .iter()
            .any(|shape| statement.shapes.contains(shape))
}

/// The statement without the filters of its own level.
fn without_filters(sql: &Sql) -> String {
    let Sql::Sequence(pieces) = sql else {
        return sql.text();
    };
    let own = |piece: &Sql| match piece {
        Sql::Sequence(parts) => Sql::Sequence(
            parts
                .iter()
                .filter(|part| !matches!(part, Sql::List { open, .. } if *open == " WHERE "))
                .cloned()
                .collect(),
        ),
        other => other.clone(),
    };
    // First comes WITH, then what reads it.
    let [with, select] = pieces.as_slice() else {
        return sql.text();
    };
    format!("{}{}", with.text(), own(select).text()).replace("$1", "4")
}
