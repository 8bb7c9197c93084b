//! An expression of a policy with what is known of the functions that it calls.
//!
//! Pure. Must never put anything in the place of a call that is given more than values of the row: a function
//! may be told there who asks.

use super::expression::{depths, is_readable, operands, without_parentheses};
use super::words::{is_constant, is_name};

/// The expression with what those functions return instead of their calls: names as they are deparsed, and of each
/// its constant, or nothing where its arguments decide. A call of such a one becomes a name: it says as much of who
/// asks as a column does.
pub fn with_known(expression: &str, functions: &[String], said: &[String]) -> String {
    if !is_readable(expression) {
        return expression.to_owned();
    }
    let mut text = String::with_capacity(expression.len());
    let mut done = 0;
    for (start, _) in depths(expression) {
        if start < done || expression[..start].ends_with(is_of_name) {
            continue;
        }
        let Some((end, value)) = functions
            .iter()
            .zip(said)
            .find_map(|(function, value)| Some((end_of_call(expression, start, function)?, value)))
        else {
            continue;
        };
        let call = &expression[start..end];
        let (start, end) = with_select(expression, start, end);
        text.push_str(&expression[done..start]);
        match value.is_empty() {
            true => text.push_str(&format!("\"{}\"", call.replace('"', "\"\""))),
            false => text.push_str(value),
        }
        done = end;
    }
    text.push_str(&expression[done..]);
    text
}

/// Where a call of that function ends which begins there, if it is given values of the row or none.
fn end_of_call(expression: &str, start: usize, function: &str) -> Option<usize> {
    let arguments = expression[start..].strip_prefix(function)?;
    if !arguments.starts_with('(') {
        return None;
    }
    let (close, _) = depths(arguments).find(|(_, depth)| *depth == 0)?;
    let inner = &arguments[1..close];
    let is_of_row = inner.is_empty() || operands(inner, ", ").into_iter().all(is_of_row);
    is_of_row.then_some(start + function.len() + close + 1)
}

fn is_of_row(argument: &str) -> bool {
    let mut inner = without_parentheses(argument);
    while let [value, _, ..] = operands(inner, "::")[..] {
        inner = value;
    }
    is_name(inner) || is_constant(inner) || ["true", "false", "NULL"].contains(&inner)
}

/// With the sub-select of nothing else that it may be in.
fn with_select(expression: &str, start: usize, end: usize) -> (usize, usize) {
    let Some(before) = expression[..start].strip_suffix("( SELECT ") else {
        return (start, end);
    };
    let named = expression[end..]
        .strip_prefix(" AS ")
        .and_then(|rest| rest.split_once(')'));
    match named {
        Some((name, _)) if is_name(name) => (before.len(), end + " AS ".len() + name.len() + 1),
        _ => (start, end),
    }
}

fn is_of_name(character: char) -> bool {
    character.is_alphanumeric() || "_$.\"".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::bounds::bounds_tenant;
    use crate::validate::expression::is_always_true;

    fn known(expression: &str) -> String {
        let of = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        with_known(
            expression,
            &of(&["app.ok", "app.sees", "app.\"T\""]),
            &of(&["true", "", "'1'::uuid"]),
        )
    }

    #[test]
    fn calls_become_what_is_known_of_them() {
        for (expression, expected) in [
            ("app.ok()", "true"),
            ("app.ok((tenant_id)::text, 'a)'::text)", "true"),
            ("(a.b OR ( SELECT app.ok() AS ok))", "(a.b OR true)"),
            ("(tenant_id = app.\"T\"())", "(tenant_id = '1'::uuid)"),
            (
                "(x AND app.sees(tenant_id))",
                "(x AND \"app.sees(tenant_id)\")",
            ),
            ("app.sees(\"Tenant\")", "\"app.sees(\"\"Tenant\"\")\""),
            // Nobody knows what these say.
            ("app.sees(a.f())", "app.sees(a.f())"),
            (
                "app.sees(tenant_id, ( SELECT a.f() AS f))",
                "app.sees(tenant_id, ( SELECT a.f() AS f))",
            ),
            ("app.sees(CURRENT_USER)", "app.sees(CURRENT_USER)"),
            (
                "app.sees((tenant_id || a.f()))",
                "app.sees((tenant_id || a.f()))",
            ),
            ("(note = 'app.ok()'::text)", "(note = 'app.ok()'::text)"),
            ("my_app.ok()", "my_app.ok()"),
            ("x.app.ok()", "x.app.ok()"),
            ("app.okay()", "app.okay()"),
            ("app.ok", "app.ok"),
            (
                "( SELECT app.ok() AS ok\n   FROM app.m)",
                "( SELECT true AS ok\n   FROM app.m)",
            ),
        ] {
            assert_eq!(known(expression), expected, "{expression}");
        }
    }

    #[test]
    fn what_is_known_is_judged() {
        assert!(is_always_true(
            &known("(( SELECT app.ok() AS ok))"),
            Some("tenant_id")
        ));
        assert!(bounds_tenant("app.sees(tenant_id)", "tenant_id"));
        for expression in ["app.sees(tenant_id)", "(tenant_id = app.sees(tenant_id))"] {
            assert!(
                !bounds_tenant(&known(expression), "tenant_id"),
                "{expression}"
            );
        }
    }
}
