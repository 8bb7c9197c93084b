//! Rows of one's own that point at another tenant's.
//!
//! Owns which foreign keys could do that. Keys that carry the tenant refuse; policies may, too.

use super::attack::{self, Met, assignments};
use super::prey::{self, Prey};
use super::rows::{self, Cursor, Found};
use super::run::{without_triggers, write_as_owner};
use super::tables::{Belonging, Key, Target};
use super::verdict::{Attack, Finding, Verdict};
use super::{Told, Work};
use crate::error::Result;
use crate::policy::quoted;

/// Tries each foreign key, by changing a row and by writing one.
pub fn all(work: &Work<'_>, target: &Target, own: &Prey, told: &Told) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut tried_columns: Vec<Vec<&String>> = Vec::new();
    for key in &target.table.foreign_keys {
        let link: Vec<&String> = key
            .columns
            .iter()
            .filter(|column| !own.marks.iter().any(|(name, _)| name == *column))
            .collect();
        let parent = work
            .targets
            .iter()
            .find(|other| other.table.oid == key.parent);
        let Some(parent) = parent.filter(|parent| is_of_a_tenant(work, parent)) else {
            continue;
        };
        if link.is_empty() || tried_columns.contains(&link) {
            continue;
        }
        tried_columns.push(link);
        findings.extend(along(work, target, own, key, parent, told)?);
    }
    Ok(findings)
}

/// Whether a row of it is a tenant's and nobody else's; pointing at a tenant itself says who, and is no
/// link.
fn is_of_a_tenant(work: &Work<'_>, parent: &Target) -> bool {
    matches!(
        parent.belonging,
        Belonging::Tenant(_) | Belonging::Parent(_)
    ) && work.cast.tenants != Some(parent.table.oid)
}

fn along(
    work: &Work<'_>,
    target: &Target,
    own: &Prey,
    key: &Key,
    parent: &Target,
    told: &Told,
) -> Result<Vec<Finding>> {
    let (change, write) = (
        format!("link {} by update", key.name),
        format!("link {} by insert", key.name),
    );
    let pointed_at = match rows::find(work, parent)? {
        Found::Prey(prey) => prey::copy(parent, &prey.condition)?,
        Found::CannotBe(_) | Found::None(_) => None,
    };
    let Some(pointed_at) = pointed_at else {
        let why = "there is no row of the other tenant to point at";
        return Ok([change, write]
            .map(|attack| told.finding(&attack, Verdict::NotAttacked, Some(why), None))
            .into());
    };
    // What carries the tenant goes on saying one's own.
    let values: Vec<(String, String)> = key
        .columns
        .iter()
        .zip(&key.parent_columns)
        .filter(|(from, _)| !own.marks.iter().any(|(name, _)| name == *from))
        .filter_map(|(from, to)| Some((from.clone(), pointed_at.value(to)?.to_owned())))
        .collect();
    let beside: Vec<String> = target
        .table
        .foreign_keys
        .iter()
        .filter(|other| values.iter().any(|(name, _)| other.columns.contains(name)))
        .map(|other| other.name.clone())
        .collect();
    let attack = Attack::Link(&beside);
    let points: Vec<String> = values
        .iter()
        .map(|(name, value)| format!(" AND t.{} = {value}", quoted(name)))
        .collect();
    // What must not come to be: a row of one's own that points there.
    let pointing = Prey {
        condition: format!("{}{}", own.condition, points.concat()),
        marks: Vec::new(),
    };
    let cursor = Cursor::open(target, &own.condition)?;
    let changed = if cursor.next()? {
        let sql = format!(
            "UPDATE {} SET {} {}",
            target.table.sql(),
            assignments(&rows::updatable(target, values.clone())),
            cursor.condition()
        );
        let prepare = || make_room(target, &values).map(|()| true);
        attack::write(work, target, &pointing, attack, prepare, &sql)?
    } else {
        Met::not_attacked("all rows of the tenant are locked by others")
    };
    cursor.close()?;
    let written = match prey::copy(target, &own.condition)? {
        Some(row) => {
            let mut written = rows::insertable(target, row.with(&values));
            // Without the link it would be another attack.
            for (name, value) in &values {
                if !written.iter().any(|(known, _)| known == name) {
                    written.push((name.clone(), value.clone()));
                }
            }
            let sql = prey::insert(target, &written);
            let prepare = || {
                make_room(target, &values)?;
                row.take_away(target)
            };
            attack::write(work, target, &pointing, attack, prepare, &sql)?
        }
        None => Met::not_attacked("the tenant has no row"),
    };
    Ok(vec![
        told.met(&change, pointed(changed)),
        told.met(&write, pointed(written)),
    ])
}

/// Takes away what points there already, where only one row may.
fn make_room(target: &Target, values: &[(String, String)]) -> Result<()> {
    let is_unique = |(name, _): &(String, String)| {
        target
            .table
            .column(name)
            .is_some_and(|column| column.unique)
    };
    if !values.iter().any(is_unique) {
        return Ok(());
    }
    let pointing: Vec<String> = values
        .iter()
        .map(|(name, value)| format!("t.{} = {value}", quoted(name)))
        .collect();
    let sql = format!(
        "DELETE FROM {} AS t WHERE {}",
        target.table.sql(),
        pointing.join(" AND ")
    );
    without_triggers(|| write_as_owner(target.table.owner(), &sql).map(drop))
}

fn pointed(met: Met) -> Met {
    match met.verdict {
        Verdict::Leak => Met::leak("a row points at one of the other tenant".to_owned()),
        _ => met,
    }
}
