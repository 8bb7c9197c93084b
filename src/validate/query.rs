//! Sub-selects that are simple enough to tell what they hold: one table, one condition.
//!
//! Pure. Must never take one for simple that a join, an aggregate, a set operation or a window makes more
//! of: then it is none.

use super::expression::{conjuncts, operands, without_parentheses};
use super::words::{column, equation, is_name};

/// `SELECT list FROM table alias WHERE condition`.
pub struct Simple<'a> {
    pub list: &'a str,
    /// With its schema.
    pub table: &'a str,
    pub alias: &'a str,
    /// What all holds, each in parts.
    pub conditions: Vec<&'a str>,
}

impl<'a> Simple<'a> {
    pub fn parse(query: &'a str) -> Option<Self> {
        let query = without_parentheses(query).strip_prefix("SELECT")?;
        let [list, rest] = operands(query, "FROM ")[..] else {
            return None;
        };
        // A call in the list may be an aggregate, which returns a row whatever it finds.
        if list.contains('(') || list.starts_with("DISTINCT") {
            return None;
        }
        let [from, condition] = operands(rest, "WHERE ")[..] else {
            return None;
        };
        let (table, alias) = match operands(from.trim(), " ")[..] {
            [table] => (table, *operands(table, ".").last()?),
            [table, alias] => (table, alias),
            _ => return None,
        };
        (is_name(table) && is_name(alias) && column(alias).is_none()).then(|| Self {
            list,
            table,
            alias,
            conditions: conjuncts(condition),
        })
    }

    /// Columns of the table that must equal one of a row outside, and that one.
    pub fn ties(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.conditions.iter().filter_map(|condition| {
            let (left, right) = equation(condition)?;
            let (one, other) = (column(left)?, column(right)?);
            match (one.0 == self.alias, other.0 == self.alias) {
                (true, false) => Some((one.1, right)),
                (false, true) => Some((other.1, left)),
                _ => None,
            }
        })
    }

    /// Whether one row at most has such values in these columns, with such unique keys: `app.parents (id)`.
    pub fn is_one_row(&self, keys: &[String], tied: &[&str]) -> bool {
        keys.iter().any(|key| {
            key.strip_prefix(self.table)
                .and_then(|columns| columns.strip_prefix(' '))
                .is_some_and(|columns| {
                    operands(columns, ", ")
                        .iter()
                        .all(|column| tied.contains(column))
                })
        })
    }

    /// Whether a column of the table must equal what `is_wanted` says.
    pub fn asks(&self, is_wanted: impl Fn(&str) -> bool) -> bool {
        self.conditions.iter().any(|condition| {
            equation(condition).is_some_and(|(left, right)| {
                (self.owns(left) && is_wanted(right)) || (self.owns(right) && is_wanted(left))
            })
        })
    }

    fn owns(&self, side: &str) -> bool {
        column(super::words::uncast(side)).is_some_and(|(table, _)| table == self.alias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_simple_ones() {
        let simple = Simple::parse(
            "( SELECT m.tenant_id\n   FROM app.m\n  WHERE ((m.user_id = f()) AND (m.x = t.y)))",
        )
        .expect("simple");
        assert_eq!(
            (simple.list, simple.table, simple.alias),
            ("m.tenant_id", "app.m", "m")
        );
        assert_eq!(simple.conditions, ["m.user_id = f()", "m.x = t.y"]);
        assert_eq!(simple.ties().collect::<Vec<_>>(), [("x", "t.y")]);
        assert!(
            Simple::parse("( SELECT\n   FROM app.\"M n\" parent_1\n  WHERE (parent_1.id = c.id))")
                .is_some()
        );
        for other in [
            "( SELECT m.t\n   FROM app.m)",
            "( SELECT count(*) AS count\n   FROM app.m\n  WHERE (m.a = b.c))",
            "( SELECT DISTINCT m.t\n   FROM app.m\n  WHERE (m.a = b.c))",
            "( SELECT m.t\n   FROM app.m,\n    app.n\n  WHERE (m.a = b.c))",
            "( SELECT m.t\n   FROM (app.m\n     JOIN app.n ON ((m.a = n.a)))\n  WHERE (m.a = b.c))",
            "( SELECT m.t\n   FROM app.m\n  WHERE (m.a = b.c)\nUNION\n SELECT n.t\n   FROM app.n\n  WHERE (n.a = b.c))",
            "( SELECT m.t\n   FROM app.f() m(t)\n  WHERE (m.a = b.c))",
            "( SELECT m.t\n   FROM ONLY app.m\n  WHERE (m.a = b.c))",
            "f(x)",
            "",
        ] {
            assert!(Simple::parse(other).is_none(), "{other}");
        }
        // What follows the condition is no part that anybody understands.
        let limited = Simple::parse("( SELECT m.t\n   FROM app.m\n  WHERE (m.a = b.c)\n LIMIT 1)");
        assert_eq!(limited.expect("parsed").ties().count(), 0);
    }
}
