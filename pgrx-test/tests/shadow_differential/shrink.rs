//! A shortest form of a statement that breaks a promise.

use std::mem::discriminant;

use super::generate::Statement;
use super::judge::{Fault, Trial, Verdict};
use super::world::World;

/// Runs a statement three ways.
pub fn examine(world: &mut World, statement: &Statement) -> Verdict {
    let text = statement.sql.text();
    world.take_records();
    let plain = world.run("plain", "plain", statement, &text);
    let shadow = world.run("shad", "shadow", statement, &text);
    let enforced = world.run("enf", "enforced", statement, &text);
    let records = world.take_records().remove("shadow").unwrap_or_default();
    let trial = Trial {
        statement,
        plain,
        shadow,
        enforced,
        records,
    };
    trial.verdict(world)
}

/// Leaves out what can be left out without mending the fault.
pub fn shortest(world: &mut World, statement: &Statement, fault: &Fault) -> Statement {
    let mut best = statement.clone();
    loop {
        let forms = best.sql.smaller().into_iter();
        let mut candidates: Vec<Statement> = forms
            .map(|sql| Statement {
                sql,
                ..best.clone()
            })
            .collect();
        if best.steps.len() > 1 {
            candidates.extend((0..best.steps.len()).map(|left_out| {
                let mut fewer = best.clone();
                fewer.steps.remove(left_out);
                fewer
            }));
        }
        if !best.settings.is_empty() {
            candidates.push(Statement {
                settings: "",
                ..best.clone()
            });
        }
        let shorter = candidates.into_iter().find(|candidate| {
            let verdict = examine(world, candidate);
            !verdict.fails
                && verdict
                    .faults
                    .iter()
                    .any(|found| discriminant(found) == discriminant(fault))
        });
        match shorter {
            Some(shorter) => best = shorter,
            None => return best,
        }
    }
}
