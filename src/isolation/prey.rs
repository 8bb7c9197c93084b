//! Whose rows are attacked: finding them, making them where there are none, and seeing whether they
//! changed.
//!
//! Owns the condition by which rows are somebody's, in plain SQL without any function of the extension.
//! Everything is read as the owner of the table, past row security.

use super::partitions::Partition;
use super::run::{read_as_owner, without_triggers, write_as_owner};
use super::tables::{Belonging, Column, Target};
use crate::error::Result;
use crate::policy::subtransaction::attempt_reading;
use crate::policy::{literal, quoted};

/// How deep a chain of parents is followed.
const DEEPEST: usize = 16;

/// Who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// His tenant.
    pub tenant: String,
    /// The user, where there are users.
    pub user: Option<String>,
}

/// The rows of somebody in one table.
#[derive(Debug, Clone)]
pub struct Prey {
    /// What holds for them, over the alias `t`.
    pub condition: String,
    /// Values, as literals, that make a row one of them.
    pub marks: Vec<(String, String)>,
}

/// A row, to be written again.
#[derive(Debug, Clone)]
pub struct Copied {
    /// Where it is.
    place: String,
    /// Its columns, those left out that Postgres computes, and their values as literals.
    pub values: Vec<(String, String)>,
}

impl Copied {
    /// The row with other values.
    pub fn with(&self, marks: &[(String, String)]) -> Vec<(String, String)> {
        let mut values = self.values.clone();
        for (name, value) in &mut values {
            if let Some((_, mark)) = marks.iter().find(|(marked, _)| marked == name) {
                value.clone_from(mark);
            }
        }
        values
    }

    /// The value of a column.
    pub fn value(&self, column: &str) -> Option<&str> {
        let of = self.values.iter().find(|(name, _)| name == column);
        of.map(|(_, value)| value.as_str())
    }

    /// Takes it away, for the rest of the subtransaction; whether it was there.
    pub fn take_away(&self, target: &Target) -> Result<bool> {
        let sql = format!(
            "DELETE FROM {} AS t WHERE {}",
            target.table.sql(),
            self.place
        );
        without_triggers(|| Ok(write_as_owner(target.table.owner(), &sql)?.count == 1))
    }
}

/// The statement that writes a row with those values.
pub fn insert(target: &Target, values: &[(String, String)]) -> String {
    let names: Vec<String> = values.iter().map(|(name, _)| quoted(name)).collect();
    let literals: Vec<&str> = values.iter().map(|(_, value)| value.as_str()).collect();
    format!(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})",
        target.table.sql(),
        names.join(", "),
        literals.join(", ")
    )
}

/// The rows of a party in a table; `None` where it cannot have any. `targets` are all tables, for those
/// that belong to a parent.
pub fn prey(target: &Target, party: &Party, targets: &[Target]) -> Result<Option<Prey>> {
    let Some(condition) = condition(target, party, targets, "t", 0) else {
        return Ok(None);
    };
    let marks = match &target.belonging {
        Belonging::Tenant(column) => vec![(column.clone(), literal(&party.tenant))],
        Belonging::User { user, tenant } => {
            let Some(id) = &party.user else {
                return Ok(None);
            };
            let mut marks = vec![(user.clone(), literal(id))];
            marks.extend(
                tenant
                    .iter()
                    .map(|column| (column.clone(), literal(&party.tenant))),
            );
            marks
        }
        Belonging::Parent(_) => link_values(target, party, targets)?.unwrap_or_default(),
        Belonging::Nobody { .. } => Vec::new(),
    };
    Ok(Some(Prey { condition, marks }))
}

/// Rows that are neither of the acting party nor shared, of whichever tenant has some.
pub fn anybody_else(
    target: &Target,
    own: &[String],
    shared: Option<&str>,
) -> Result<Option<String>> {
    let Belonging::Tenant(column) = &target.belonging else {
        return Ok(None);
    };
    let column = quoted(column);
    let excepted: Vec<String> = own
        .iter()
        .map(String::as_str)
        .chain(shared)
        .map(|tenant| format!(" AND t.{column} <> {}", literal(tenant)))
        .collect();
    let sql = format!(
        "SELECT t.{column} FROM {} AS t WHERE t.{column} IS NOT NULL{} LIMIT 1",
        target.table.sql(),
        excepted.concat()
    );
    Ok(read_as_owner(target.table.owner(), &sql)?.text())
}

fn condition(
    target: &Target,
    party: &Party,
    targets: &[Target],
    alias: &str,
    depth: usize,
) -> Option<String> {
    let is = |column: &str, value: &str| format!("{alias}.{} = {}", quoted(column), literal(value));
    match &target.belonging {
        Belonging::Tenant(column) => Some(is(column, &party.tenant)),
        Belonging::User { user, tenant } => {
            let mut text = is(user, party.user.as_deref()?);
            if let Some(column) = tenant {
                text.push_str(&format!(" AND {}", is(column, &party.tenant)));
            }
            Some(text)
        }
        Belonging::Parent(_) => {
            let (key, parent) = target.parent(targets)?;
            if depth == DEEPEST {
                return None;
            }
            let above = format!("above_{depth}");
            let of_parent = condition(parent, party, targets, &above, depth + 1)?;
            let joined: Vec<String> = key
                .columns
                .iter()
                .zip(&key.parent_columns)
                .map(|(from, to)| format!("{above}.{} = {alias}.{}", quoted(to), quoted(from)))
                .collect();
            Some(format!(
                "EXISTS (SELECT FROM {} AS {above} WHERE {} AND {of_parent})",
                parent.table.sql(),
                joined.join(" AND ")
            ))
        }
        Belonging::Nobody { .. } => Some("true".to_owned()),
    }
}

/// Values of the columns by which a row belongs to a parent that is the party's.
fn link_values(
    target: &Target,
    party: &Party,
    targets: &[Target],
) -> Result<Option<Vec<(String, String)>>> {
    let Some((key, parent)) = target.parent(targets) else {
        return Ok(None);
    };
    let Some(of_parent) = condition(parent, party, targets, "t", 1) else {
        return Ok(None);
    };
    let Some(row) = copy(parent, &of_parent)? else {
        return Ok(None);
    };
    let values = key.columns.iter().zip(&key.parent_columns);
    Ok(values
        .map(|(from, to)| Some((from.clone(), row.value(to)?.to_owned())))
        .collect())
}

/// One row that the condition holds for.
pub fn copy(target: &Target, condition: &str) -> Result<Option<Copied>> {
    let columns: Vec<&Column> = target.table.columns.iter().collect();
    let values: Vec<String> = columns
        .iter()
        .map(|column| {
            let value = crate::catalog::as_text(&format!("t.{}", quoted(&column.name)));
            format!("pg_catalog.quote_nullable({value})")
        })
        .collect();
    let sql = format!(
        "SELECT t.tableoid, t.ctid, {} FROM {} AS t WHERE {condition} LIMIT 1",
        values.join(", "),
        target.table.sql()
    );
    let found = read_as_owner(target.table.owner(), &sql)?;
    let Some(mut row) = found.rows.into_iter().next().map(Vec::into_iter) else {
        return Ok(None);
    };
    let (relation, place) = (row.next().flatten(), row.next().flatten());
    let values = columns
        .iter()
        .zip(row)
        .map(|(column, value)| {
            (
                column.name.clone(),
                value.unwrap_or_else(|| "NULL".to_owned()),
            )
        })
        .filter(|(name, _)| {
            !columns
                .iter()
                .any(|column| column.name == *name && column.generated)
        })
        .collect();
    Ok(Some(Copied {
        place: format!(
            "t.tableoid = {} AND t.ctid = '{}'",
            relation.unwrap_or_default(),
            place.unwrap_or_default()
        ),
        values,
    }))
}

/// How many rows there are, and which versions of them: what it takes to see any change.
pub fn fingerprint(target: &Target, condition: &str) -> Result<(u64, String)> {
    let sql = format!(
        "SELECT pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtextextended(
             pg_catalog.concat(t.tableoid, ' ', t.ctid, ' ', t.xmin), 0)) FROM {} AS t WHERE {condition}",
        target.table.sql()
    );
    let mut answer = read_as_owner(target.table.owner(), &sql)?;
    let mut values = answer.rows.pop().unwrap_or_default().into_iter().flatten();
    let count = values
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    Ok((count, values.next().unwrap_or_default()))
}

/// How many there are, and what is in them, whichever versions of them they are.
pub fn contents(target: &Target, condition: &str) -> Result<Vec<Option<String>>> {
    let sql = format!(
        "SELECT pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtextextended(t.*::pg_catalog.text, 0)) FROM {} AS t WHERE {condition}",
        target.table.sql()
    );
    let answer = read_as_owner(target.table.owner(), &sql)?;
    Ok(answer.rows.into_iter().flatten().collect())
}

/// How many rows are taken away at most.
const TAKEN: usize = 1000;

/// Takes rows away for the rest of the subtransaction, those left that others have locked; whether there is none
/// left.
pub fn take_away(target: &Target, condition: &str) -> Result<bool> {
    let table = target.table.sql();
    let sql = format!(
        "DELETE FROM {table} AS x WHERE (x.tableoid, x.ctid) IN (
             SELECT s.tableoid, s.ctid FROM (
                 SELECT t.tableoid, t.ctid FROM {table} AS t WHERE {condition} LIMIT {TAKEN} FOR UPDATE OF t SKIP LOCKED) AS s)"
    );
    without_triggers(|| write_as_owner(target.table.owner(), &sql).map(drop))?;
    Ok(fingerprint(target, condition)?.0 == 0)
}

/// Makes a row that is the prey, a copy of another with keys of its own where there is one, and one that fits
/// its partition. The error in words where that cannot be.
pub fn make(target: &Target, prey: &Prey) -> Result<core::result::Result<(), String>> {
    match made(target, prey, &[])? {
        Err(why) if why.contains(DOES_NOT_FIT) || why.contains(FITS_NONE) => {
            match made(target, prey, &Partition::of_some_leaf(target)?.values())? {
                // The tenant may have no partition below, and none may be possible here.
                Err(_) if why.contains(DOES_NOT_FIT) => Ok(Err(why)),
                outcome => Ok(outcome),
            }
        }
        outcome => Ok(outcome),
    }
}

/// What Postgres says of a row in the wrong partition.
pub const DOES_NOT_FIT: &str = "violates partition constraint";

/// What it says of a row that no partition takes.
const FITS_NONE: &str = "no partition of relation";

/// The same; of the columns named, values are those of a row that is there, or what fits.
fn made(
    target: &Target,
    prey: &Prey,
    fitting: &[(String, Option<String>)],
) -> Result<core::result::Result<(), String>> {
    let like = copy(target, "true")?;
    let mut values = Vec::new();
    for column in target
        .table
        .columns
        .iter()
        .filter(|column| !column.generated)
    {
        let marked = prey.marks.iter().find(|(name, _)| *name == column.name);
        let copied = like.as_ref().and_then(|row| row.value(&column.name));
        let fits = fitting.iter().find(|(name, _)| *name == column.name);
        let fits = fits.and_then(|(_, value)| copied.map(str::to_owned).or_else(|| value.clone()));
        let value = match (marked, copied) {
            (Some((_, mark)), _) => Some(mark.clone()),
            _ if fits.is_some() => fits,
            (None, Some(value)) if !column.unique => Some(value.to_owned()),
            (None, Some(value)) => Some(fresh(column).unwrap_or_else(|| value.to_owned())),
            (None, None) if !column.not_null || column.has_default => None,
            (None, None) => match fresh(column) {
                Some(value) => Some(value),
                None => {
                    return Ok(Err(format!(
                        "column {} needs a value of type {}, and there is no row to copy",
                        quoted(&column.name),
                        column.base_type
                    )));
                }
            },
        };
        values.extend(value.map(|value| (column.name.clone(), value)));
    }
    let sql = insert(target, &values);
    let made = attempt_reading(|| {
        without_triggers(|| write_as_owner(target.table.owner(), &sql).map(|answer| answer.count))
    });
    Ok(match made {
        Ok(1) => Ok(()),
        Ok(_) => Err("a row of the other tenant could not be made".to_owned()),
        Err(failure) => Err(format!(
            "a row of the other tenant could not be made: {}",
            failure.message
        )),
    })
}

/// An expression for a value that no other row has; `None` for types that have no endless supply.
pub fn fresh(column: &Column) -> Option<String> {
    const WORD: &str = "pg_catalog.md5(pg_catalog.random()::pg_catalog.text)";
    let whole = |largest: &str| {
        Some(format!(
            "(pg_catalog.random() * {largest})::pg_catalog.int8"
        ))
    };
    if let Some(label) = &column.label {
        return Some(label.clone());
    }
    match column.base_type.as_str() {
        "uuid" => Some("pg_catalog.gen_random_uuid()".to_owned()),
        "text" | "character varying" | "character" | "name" => Some(match column.length {
            Some(length) => format!("pg_catalog.left({WORD}, {length})"),
            None => WORD.to_owned(),
        }),
        "smallint" => whole("30000"),
        "integer" => whole("2000000000"),
        "bigint" => whole("9000000000000000"),
        "numeric" | "real" | "double precision" => whole("90"),
        "boolean" => Some("false".to_owned()),
        "bytea" => Some(format!("pg_catalog.sha256({WORD}::pg_catalog.bytea)")),
        "json" | "jsonb" => Some("'{}'".to_owned()),
        "date" => Some("'3000-01-01'::pg_catalog.date + (pg_catalog.random() * 100000)::pg_catalog.int4".to_owned()),
        "timestamp without time zone" | "timestamp with time zone" => Some(
            "'3000-01-01'::pg_catalog.timestamptz + pg_catalog.random() * '1000 days'::pg_catalog.interval".to_owned(),
        ),
        "interval" => Some("'1 day'".to_owned()),
        array if array.ends_with("[]") => Some("'{}'".to_owned()),
        _ => None,
    }
}
