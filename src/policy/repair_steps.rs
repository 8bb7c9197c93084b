//! What protecting again does not do by itself.
//!
//! Owns the statements that clear the way: a trigger that was altered or is a disabled clone, an index
//! that is not valid, a key that stood in the place of another. Must never touch an object that
//! protecting did not make.

use pgrx::pg_sys;

use super::difference::{Code, Difference, qualified};
use super::drift_catalog;
use super::inspect;
use super::made_key;
use super::plan::Statement;
use super::render::{self, Target, quoted};
use super::store::{self, MadeKey, Row};
use crate::catalog;
use crate::error::Result;
use crate::gucs;

/// Statements, and the registration as it must be for protecting to make again what is gone.
pub struct Steps {
    /// To run first.
    pub statements: Vec<Statement>,
    /// To be run by hand, since the table is large.
    pub by_hand: Vec<String>,
    /// The registration without the keys that are gone.
    pub row: Row,
}

/// The steps for one table.
pub fn of(relation: pg_sys::Oid, row: &Row, differences: &[Difference]) -> Result<Steps> {
    let mut steps = Steps {
        statements: Vec::new(),
        by_hand: Vec::new(),
        row: row.clone(),
    };
    let column = row.column_today(relation);
    let Some(there) = drift_catalog::read(relation, &column)? else {
        return Ok(steps);
    };
    let target = Target {
        schema: there.schema.clone(),
        table: there.name.clone(),
        column,
    };
    let has = |code| {
        differences.iter().any(|difference| {
            difference.code == code && difference.relation == Some(relation.to_u32())
        })
    };
    let statement = |sql| Statement::owner(relation.to_u32(), sql);
    if let Some(trigger) = there.our_trigger(row.made.trigger.as_deref()) {
        if has(Code::TriggerAltered) {
            let sql = render::drop_trigger(&target, &trigger.name);
            steps.statements.push(statement(sql));
        } else if has(Code::TriggerDisabled) {
            steps.statements.push(statement(format!(
                "ALTER TABLE {} ENABLE TRIGGER {}",
                target.qualified(),
                quoted(&trigger.name)
            )));
        }
    }
    let is_large = || -> Result<bool> {
        let facts = inspect::facts(relation, &target.column)?;
        let limit = gucs::inline_ddl_rows() as f64;
        Ok(facts.is_some_and(|facts| facts.estimated_rows > limit))
    };
    if has(Code::IndexInvalid)
        && let Some(index) = &row.made.index
    {
        if is_large()? {
            let name = qualified(&there.schema, index);
            steps
                .by_hand
                .push(format!("REINDEX INDEX CONCURRENTLY {name}"));
        } else {
            let sql = render::drop_index(&there.schema, index);
            steps.statements.push(statement(sql));
        }
    }
    if has(Code::KeyMissing) {
        let stands = |name: &str| there.has_constraint(name);
        // One of the name that points at another table is somebody else's.
        let is_anothers = |key: &MadeKey| {
            let parent = catalog::relation_oid(&key.parent_schema, &key.parent_table);
            there.constraint(&key.name).is_some_and(|there| {
                !there.has_tenant && Some(pg_sys::Oid::from(there.parent)) != parent
            })
        };
        let (kept, lost): (Vec<MadeKey>, Vec<MadeKey>) = row
            .made
            .foreign_keys
            .iter()
            .cloned()
            .partition(|key| there.carries(&key.name) || is_anothers(key));
        let table = target.qualified();
        let mut sql = Vec::new();
        for key in lost.iter().filter(|key| stands(&key.name)) {
            let name = quoted(&key.name);
            sql.push(format!("ALTER TABLE {table} DROP CONSTRAINT {name}"));
        }
        let is_large = is_large()?;
        for key in lost
            .iter()
            .filter(|key| key.replaced && !stands(&key.original))
        {
            // From it the key that carries the tenant is made again; rows that cross are found then.
            let name = quoted(&key.original);
            let original = made_key::original(key, made_key::parent(relation, key)?);
            if is_large {
                let unchecked = original.trim_end_matches(" NOT VALID");
                sql.push(format!(
                    "ALTER TABLE {table} ADD CONSTRAINT {name} {unchecked} NOT VALID"
                ));
                sql.push(format!("ALTER TABLE {table} VALIDATE CONSTRAINT {name}"));
            } else {
                sql.push(format!(
                    "ALTER TABLE {table} ADD CONSTRAINT {name} {original}"
                ));
            }
        }
        if is_large && !sql.is_empty() {
            // Once they were run, the next repair finds the key as it was before.
            steps.by_hand.append(&mut sql);
            return Ok(steps);
        }
        steps.statements.extend(sql.into_iter().map(statement));
        steps.row.made.foreign_keys = kept;
        steps.row.made.unique_keys.retain(|key| stands(key));
    }
    Ok(steps)
}

/// Notes what is left of the registration's keys.
pub fn save(steps: &Steps, row: &Row) -> Result<()> {
    store::save(&steps.row, Some(row))
}
