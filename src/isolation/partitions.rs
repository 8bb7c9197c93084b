//! What a row must be to fit a partition.
//!
//! Owns the keys and bounds above a partition, and reading values out of a bound. Must never say that a row of
//! a tenant cannot be there unless nothing but the tenant decides where rows go.

use pgrx::pg_sys;
use serde::Deserialize;

use super::prey::Prey;
use super::tables::Target;
use crate::error::Result;
use crate::policy::spi;

/// One level: the partition's bound, and the columns of the key above it; none where that is an expression.
#[derive(Debug, Clone, Deserialize)]
struct Level {
    bound: String,
    columns: Vec<Option<String>>,
}

const LEVELS: &str = "
WITH RECURSIVE up AS (
  SELECT c.oid, i.inhparent FROM pg_catalog.pg_class c JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
  WHERE c.oid = $1 AND c.relispartition
  UNION SELECT c.oid, i.inhparent FROM up u JOIN pg_catalog.pg_class c ON c.oid = u.inhparent AND c.relispartition
  JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid)
SELECT pg_catalog.jsonb_build_object('bound', pg_catalog.pg_get_expr(c.relpartbound, c.oid),
  'columns', (SELECT pg_catalog.jsonb_agg(a.attname ORDER BY k.place)
     FROM pg_catalog.unnest(p.partattrs::pg_catalog.int2[]) WITH ORDINALITY AS k(number, place)
     LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = k.number))::pg_catalog.text
FROM up u JOIN pg_catalog.pg_class c ON c.oid = u.oid JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = u.inhparent";

const LEAF: &str = "
SELECT t.relid::pg_catalog.oid::pg_catalog.int8::pg_catalog.text FROM pg_catalog.pg_partition_tree($1) AS t
WHERE t.isleaf ORDER BY t.level, t.relid LIMIT 1";

/// What decides whether a row fits one partition.
pub struct Partition(Vec<Level>);

impl Partition {
    /// Of a table; without any level where it is no partition.
    pub fn of(target: &Target) -> Result<Self> {
        Self::at(target.table.oid())
    }

    /// Of one of the partitions that hold the rows of a table.
    pub fn of_some_leaf(target: &Target) -> Result<Self> {
        let table = target.table.oid();
        match spi::row::<u32>(LEAF, &[table.into()])? {
            Some(leaf) => Self::at(pg_sys::Oid::from(leaf)),
            None => Self::at(table),
        }
    }

    fn at(relation: pg_sys::Oid) -> Result<Self> {
        spi::rows(LEVELS, &[relation.into()]).map(Self)
    }

    /// Whether nothing but what makes a row the prey decides.
    pub fn is_decided_by(&self, prey: &Prey) -> bool {
        let is_mark = |column: &Option<String>| {
            let marks = prey.marks.iter();
            column
                .as_ref()
                .is_some_and(|column| marks.clone().any(|(name, _)| name == column))
        };
        self.0.iter().all(|level| level.columns.iter().all(is_mark))
    }

    /// Whether some level takes only rows of which that column is one of those values.
    pub fn takes_only(&self, column: &str, values: &[String]) -> bool {
        self.0.iter().any(|level| {
            level.columns == [Some(column.to_owned())]
                && listed(&level.bound).is_some_and(|listed| {
                    listed.iter().all(|one| {
                        one.as_deref()
                            .is_some_and(|one| values.iter().any(|value| plain(one) == *value))
                    })
                })
        })
    }

    /// Values of that column that may fit, as literals.
    pub fn values_of(&self, column: &str) -> Vec<String> {
        let mut values = Vec::new();
        for level in &self.0 {
            if let Some(listed) = listed(&level.bound) {
                if level.columns == [Some(column.to_owned())] {
                    values.extend(listed.into_iter().flatten());
                }
                continue;
            }
            let place = |name: &Option<String>| name.as_deref() == Some(column);
            if let Some(place) = level.columns.iter().position(place) {
                values.extend(values_of(&level.bound).get(place).cloned().flatten());
            }
        }
        values
    }

    /// Columns that decide, with a value that fits where the bound says one.
    pub fn values(&self) -> Vec<(String, Option<String>)> {
        let mut values: Vec<(String, Option<String>)> = Vec::new();
        for level in &self.0 {
            let given = values_of(&level.bound);
            for (place, column) in level.columns.iter().enumerate() {
                let Some(column) = column else { continue };
                if !values.iter().any(|(known, _)| known == column) {
                    values.push((column.clone(), given.get(place).cloned().flatten()));
                }
            }
        }
        values
    }
}

/// A literal without its quotes.
pub fn plain(literal: &str) -> String {
    match literal
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''))
    {
        Some(inside) => inside.replace("''", "'"),
        None => literal.to_owned(),
    }
}

/// All values of a list, as literals; `None` of other bounds.
fn listed(bound: &str) -> Option<Vec<Option<String>>> {
    bound.strip_prefix("FOR VALUES IN (").map(literals)
}

/// Literals that fit, one for each column of the key: those that a range begins with, the first of a list.
fn values_of(bound: &str) -> Vec<Option<String>> {
    let (inside, is_list) = if let Some(rest) = bound.strip_prefix("FOR VALUES FROM (") {
        (rest, false)
    } else if let Some(rest) = bound.strip_prefix("FOR VALUES IN (") {
        (rest, true)
    } else {
        return Vec::new();
    };
    let mut values = literals(inside).into_iter();
    if is_list {
        vec![values.find(Option::is_some).flatten()]
    } else {
        values.collect()
    }
}

/// The literals up to the closing parenthesis; none for what is no value.
fn literals(inside: &str) -> Vec<Option<String>> {
    let mut literals = vec![String::new()];
    let mut is_quoted = false;
    for letter in inside.chars() {
        match letter {
            ')' if !is_quoted => break,
            ',' if !is_quoted => literals.push(String::new()),
            _ => {
                is_quoted ^= letter == '\'';
                literals
                    .last_mut()
                    .unwrap_or(&mut String::new())
                    .push(letter);
            }
        }
    }
    let values = literals.into_iter().map(|literal| {
        let literal = literal.trim();
        (!matches!(literal, "NULL" | "MINVALUE" | "MAXVALUE")).then(|| literal.to_owned())
    });
    values.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_ones_own_takes_nobody_else() {
        let takes_only = |bound: &str, column: &str| {
            Partition(vec![Level {
                bound: bound.to_owned(),
                columns: vec![Some("tenant_id".to_owned())],
            }])
            .takes_only(column, &["a".to_owned(), "p".to_owned()])
        };
        assert!(takes_only("FOR VALUES IN ('a', 'p')", "tenant_id"));
        assert!(!takes_only("FOR VALUES IN ('a', 'b')", "tenant_id"));
        assert!(!takes_only("FOR VALUES IN ('a', NULL)", "tenant_id"));
        assert!(!takes_only("FOR VALUES IN ('a')", "kind"));
        assert!(!takes_only("FOR VALUES FROM ('a') TO ('b')", "tenant_id"));
        assert!(!takes_only("DEFAULT", "tenant_id"));
    }

    #[test]
    fn values_are_read_out_of_bounds() {
        let some = |values: &[&str]| -> Vec<Option<String>> {
            values
                .iter()
                .map(|value| Some((*value).to_owned()))
                .collect()
        };
        assert_eq!(
            values_of("FOR VALUES FROM ('2020-01-01', 7) TO ('2021-01-01', 9)"),
            some(&["'2020-01-01'", "7"])
        );
        assert_eq!(
            values_of("FOR VALUES IN ('it''s, (so)', 'y')"),
            some(&["'it''s, (so)'"])
        );
        assert_eq!(values_of("FOR VALUES IN (NULL, true)"), some(&["true"]));
        assert_eq!(values_of("FOR VALUES FROM (MINVALUE) TO (3)"), [None]);
        assert_eq!(
            listed("FOR VALUES IN ('a''b', NULL, 7)"),
            Some(vec![Some("'a''b'".to_owned()), None, Some("7".to_owned())])
        );
        assert_eq!(listed("DEFAULT"), None);
        assert_eq!(
            (plain("'a''b'"), plain("7")),
            ("a'b".to_owned(), "7".to_owned())
        );
        assert!(values_of("FOR VALUES WITH (modulus 4, remainder 1)").is_empty());
        assert!(values_of("DEFAULT").is_empty());
    }
}
