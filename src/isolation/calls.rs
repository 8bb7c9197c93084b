//! What functions are called with.
//!
//! A function that takes the key of a row shows it only to who knows the key: it is called with what rows hold,
//! of the other tenant and, to see that it reads rows at all, of one's own. Owns the choice.

use super::prey::{self, Copied, Party, Prey};
use super::rows::{self, Found};
use super::tables::{Belonging, Target};
use super::ways::Function;
use super::{Work, absence};
use crate::error::Result;
use crate::policy::{literal, quoted};

/// How many calls of one function are made at most.
const CALLS: usize = 1000;

/// Somebody, and a row of his in each table that has one.
pub struct Somebody<'a> {
    party: &'a Party,
    pub rows: Vec<(&'a Target, Copied)>,
}

/// The calls of one function.
pub struct Calls {
    pub sql: Vec<String>,
    /// Whether that is every combination.
    pub whole: bool,
}

impl<'a> Somebody<'a> {
    /// The other tenant. Rows that it lacks are made: nothing else would name them.
    pub fn other(work: &'a Work<'a>) -> Result<Self> {
        Self::with(work, &work.cast.other, |target| {
            Ok(match rows::find(work, target)? {
                Found::Prey(prey) => Some(prey),
                // Where some are missing, no function passes: see `absence`.
                Found::CannotBe(_) | Found::None(_) => None,
            })
        })
    }

    /// Who attacks.
    pub fn actor(work: &'a Work<'a>) -> Result<Self> {
        let actor = &work.cast.actor;
        Self::with(work, actor, |target| {
            prey::prey(target, actor, work.targets)
        })
    }

    fn with(
        work: &'a Work<'a>,
        party: &'a Party,
        whose: impl Fn(&Target) -> Result<Option<Prey>>,
    ) -> Result<Self> {
        let mut rows = Vec::new();
        // Parents first: without those, no row below them can be made.
        let mut targets: Vec<&Target> = work.targets.iter().collect();
        targets.sort_by_key(|target| absence::depth(target, work.targets, 0));
        for target in targets {
            if matches!(target.belonging, Belonging::Nobody { .. })
                || target.table.is_below(work.targets)
            {
                continue;
            }
            let Some(Prey { condition, .. }) = whose(target)? else {
                continue;
            };
            // Of all members, himself: others say nothing of him.
            let narrower = work.cast.membership_of(party, target.table.oid());
            let narrowed = narrower.map(|more| format!("{condition} AND {more}"));
            for condition in narrowed.iter().chain([&condition]) {
                if let Some(row) = prey::copy(target, condition)? {
                    rows.push((target, row));
                    break;
                }
            }
        }
        Ok(Self { party, rows })
    }

    /// Calls with what the rows hold, who he is, and what is nothing; `None` where an argument is given nothing
    /// else.
    pub fn calls(&self, function: &Function) -> Option<Calls> {
        if function.variadic {
            return None;
        }
        let mut calls = Calls {
            sql: Vec::new(),
            whole: true,
        };
        if !function.definer && function.required > 0 {
            return None;
        }
        if !function.definer || function.arguments.is_empty() {
            calls.sql.push(digest(function, &[]));
            return Some(calls);
        }
        let known: Vec<Vec<Held<'_>>> = if self.rows.is_empty() {
            vec![Vec::new()]
        } else {
            self.rows
                .iter()
                .map(|(target, row)| held(target, row))
                .collect()
        };
        let mut is_known = vec![false; function.arguments.len()];
        for row in &known {
            for count in function.required..=function.arguments.len() {
                let options: Vec<Vec<String>> = function.arguments[..count]
                    .iter()
                    .map(|kind| self.options(kind, row))
                    .collect();
                for (place, options) in options.iter().enumerate() {
                    is_known[place] |= options.len() > 1;
                }
                self.combine(function, &options, &mut calls);
            }
        }
        is_known[..function.required]
            .iter()
            .all(|known| *known)
            .then_some(calls)
    }

    fn combine(&self, function: &Function, options: &[Vec<String>], calls: &mut Calls) {
        let combinations = options.iter().map(Vec::len).product::<usize>();
        for number in 0..combinations {
            if calls.sql.len() >= CALLS {
                calls.whole = false;
                return;
            }
            let mut rest = number;
            let arguments: Vec<&str> = options
                .iter()
                .map(|of| {
                    let value = &of[rest % of.len()];
                    rest /= of.len();
                    value.as_str()
                })
                .collect();
            let sql = digest(function, &arguments);
            if !calls.sql.contains(&sql) {
                calls.sql.push(sql);
            }
        }
    }

    /// Values for an argument of that type, NULL last.
    fn options(&self, kind: &str, row: &[Held<'_>]) -> Vec<String> {
        let mut values: Vec<String> = Vec::new();
        let mut add = |value: String| {
            let value = format!("{value}::{kind}");
            if !values.contains(&value) {
                values.push(value);
            }
        };
        for identifier in core::iter::once(&self.party.tenant).chain(&self.party.user) {
            if identifies(kind, identifier) {
                add(literal(identifier));
            }
        }
        for held in row {
            let as_text = held.unique && class(kind) == "text";
            if class(held.kind) == class(kind)
                || as_text && ["uuid", "integer"].contains(&class(held.kind))
            {
                add(held.value.clone());
            }
        }
        match class(kind) {
            "boolean" => ["true", "false"]
                .into_iter()
                .for_each(|value| add(value.to_owned())),
            "integer" => add("1".to_owned()),
            _ => {}
        }
        add("NULL".to_owned());
        values
    }
}

/// A value of a row, as a literal.
struct Held<'a> {
    kind: &'a str,
    value: String,
    /// Of a key.
    unique: bool,
}

/// The values of a row, those left out that are null.
fn held<'a>(target: &'a Target, row: &Copied) -> Vec<Held<'a>> {
    let columns = target.table.columns.iter();
    columns
        .filter_map(|column| {
            let value = row.value(&column.name)?;
            (value != "NULL").then(|| Held {
                kind: &column.base_type,
                value: value.to_owned(),
                unique: column.unique,
            })
        })
        .collect()
}

/// Types whose values stand for one another.
fn class(kind: &str) -> &str {
    match kind {
        "character varying" | "character" | "name" => "text",
        "smallint" | "bigint" => "integer",
        other => other,
    }
}

fn identifies(kind: &str, value: &str) -> bool {
    match class(kind) {
        "uuid" => uuid::Uuid::parse_str(value).is_ok(),
        "integer" => value.parse::<i64>().is_ok(),
        "text" => true,
        _ => false,
    }
}

/// All that a call returns, in two numbers.
fn digest(function: &Function, arguments: &[&str]) -> String {
    format!(
        "SELECT pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.concat(tenancy_result), 0))
         FROM {}.{}({}) AS tenancy_result",
        quoted(&function.schema),
        quoted(&function.name),
        arguments.join(", ")
    )
}
