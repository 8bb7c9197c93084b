//! Whether a sub-select that is compared as one value may return several rows, which is an error.
//!
//! Pure. A list with a call is taken for an aggregate, which returns one row; what is not understood
//! returns several.

use super::expression::{depths, is_readable, operands};
use super::query::Simple;
use super::words::{column, equation, uncast};

/// Whether one of the sub-selects that the expression compares for being equal may return several rows,
/// where tables have these unique keys: `app.users (id)`.
pub fn asks_for_one_of_many(expression: &str, keys: &[String]) -> bool {
    is_readable(expression)
        && compared(expression).any(|query| !returns_one_row(query, keys).unwrap_or(false))
}

/// Sub-selects at either side of an equation, with the parenthesis that opens them and without the one
/// that closes them.
fn compared(expression: &str) -> impl Iterator<Item = &str> {
    depths(expression).filter_map(move |(start, _)| {
        let rest = &expression[start..];
        if !rest.starts_with("( SELECT ") {
            return None;
        }
        let (end, _) = depths(rest).find(|(_, depth)| *depth == 0)?;
        let before = expression[..start].trim_end_matches('(');
        let after = rest[end..].trim_start_matches(')');
        let cast = after.strip_prefix("::").map_or(after, |cast| {
            cast.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
        });
        let is_compared =
            before.ends_with(" = ") || cast.trim_start_matches(')').starts_with(" = ");
        is_compared.then(|| &rest[..end])
    })
}

fn returns_one_row(query: &str, keys: &[String]) -> Option<bool> {
    let query = query.strip_prefix("( SELECT ")?;
    if operands(query, "LIMIT ").get(1) == Some(&"1") {
        return Some(true);
    }
    let [list, ref rest @ ..] = operands(query, "FROM ")[..] else {
        return Some(false);
    };
    let [rest] = rest else {
        return Some(rest.is_empty());
    };
    if !list.starts_with("DISTINCT") && has_call(list) {
        return Some(operands(rest, "GROUP BY ").len() == 1);
    }
    let text = format!("SELECT\n FROM {rest}");
    let simple = Simple::parse(&text)?;
    let tied: Vec<_> = simple
        .conditions
        .iter()
        .filter_map(|condition| equation(condition))
        .flat_map(|(left, right)| [(left, right), (right, left)])
        .filter(|(_, other)| !other.contains(&format!("{}.", simple.alias)))
        .filter_map(|(own, _)| column(uncast(own)))
        .filter_map(|(table, name)| (table == simple.alias).then_some(name))
        .collect();
    Some(simple.is_one_row(keys, &tied))
}

/// Whether there is a word right before a parenthesis.
fn has_call(list: &str) -> bool {
    depths(list).any(|(position, _)| {
        list[position..].starts_with('(')
            && list[..position].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '"')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_many(expression: &str) -> bool {
        asks_for_one_of_many(
            expression,
            &["app.u (id)".to_owned(), "app.m (u, app)".to_owned()],
        )
    }

    #[test]
    fn several_rows() {
        for expression in [
            "(tenant_id = ( SELECT m.tenant\n   FROM app.m\n  WHERE (m.u = 'me'::text)))",
            "(( SELECT m.tenant\n   FROM app.m\n  WHERE (m.u = 'me'::text)) = tenant_id)",
            "((( SELECT m.tenant\n   FROM app.m))::uuid = tenant_id)",
            "(tenant_id = ( SELECT (m.tenant)::uuid AS tenant\n   FROM app.m))",
            "(tenant_id = ( SELECT DISTINCT lower(m.tenant)\n   FROM app.m))",
            "(x AND (tenant_id = ( SELECT max(m.tenant) AS max\n   FROM app.m\n  GROUP BY m.app)))",
            "(tenant_id = ( SELECT u.t\n   FROM app.u\n  WHERE (u.id = u.other)))",
            "(tenant_id = ( SELECT u.t\n   FROM (app.u\n     JOIN app.m ON ((m.u = u.name)))\n  WHERE (u.id = 1)))",
            "(tenant_id = ( SELECT m.t\n   FROM app.m\n LIMIT 10))",
        ] {
            assert!(of_many(expression), "{expression}");
        }
    }

    #[test]
    fn one_row() {
        for expression in [
            "(tenant_id = ( SELECT a.f() AS f))",
            "(tenant_id = ( SELECT u.t\n   FROM app.u\n  WHERE (u.id = ( SELECT auth.uid() AS uid))))",
            "(( SELECT (x.t)::uuid AS t\n   FROM app.u x\n  WHERE ((x.id)::text = current_setting('a.u'::text))) = tenant_id)",
            "(tenant_id = ( SELECT m.t\n   FROM app.m\n  WHERE ((m.u = 'me'::text) AND (1 = m.app))))",
            "(tenant_id = ( SELECT max(m.t) AS max\n   FROM app.m))",
            "(tenant_id = ( SELECT m.t\n   FROM app.m\n LIMIT 1))",
            "(tenant_id IN ( SELECT m.t\n   FROM app.m))",
            "(tenant_id = ANY (ARRAY( SELECT m.t\n   FROM app.m)))",
            "(note = '= ( SELECT m.t FROM app.m)'::text)",
        ] {
            assert!(!of_many(expression), "{expression}");
        }
    }
}
