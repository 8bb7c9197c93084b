//! What an expression of a policy lets rows through by that is no question for one's own tenant.
//!
//! Pure. Each finds a part of the expression; what is not readable is taken for bad by those that a
//! restrictive policy must not be guilty of. A part beside an AND that asks for the tenant is harmless.

use super::bounds::{Verdict, is_asking, judge};
use super::expression::{arguments_of, is_readable, operands, sides, without_parentheses};
use super::words::{
    call, equation, has_keyword, is_column, is_constant, mentions, selected, uncast,
};

/// The part of the expression that is true where no context is set.
pub fn open_without_context<'a>(expression: &'a str, column: Option<&str>) -> Option<&'a str> {
    match is_readable(expression) {
        true => find(expression, column, &|atom| is_open(atom, column)),
        false => Some(expression),
    }
}

/// The part of the expression that lets rows of tenants through for not being somebody's, or by
/// comparing for another thing than being equal.
pub fn asks_for_others<'a>(expression: &'a str, column: &str) -> Option<&'a str> {
    match is_readable(expression) {
        true => find(expression, Some(column), &|atom| is_inverted(atom, column)),
        false => Some(expression),
    }
}

/// The part that lets rows of a tenant through that the policy itself names.
pub fn names_tenant<'a>(expression: &'a str, column: &str) -> Option<&'a str> {
    find_readable(expression, column, &|atom| is_named(atom, column))
}

/// The part that lets rows without a tenant through, of a table that has such.
pub fn shows_nobodys<'a>(expression: &'a str, column: &str, not_null: bool) -> Option<&'a str> {
    find_readable(expression, column, &|atom| {
        is_nobodys(atom, column, not_null)
    })
}

/// The part that believes the database role.
pub fn asks_for_role<'a>(expression: &'a str, column: &str) -> Option<&'a str> {
    find_readable(expression, column, &|atom| {
        ["CURRENT_USER", "SESSION_USER", "CURRENT_ROLE", "USER"]
            .iter()
            .any(|role| has_keyword(atom, role))
    })
}

/// The part that does not ask for the tenant; of functions that are asked besides, nobody knows.
pub fn without_tenant<'a>(expression: &'a str, column: &str) -> Option<&'a str> {
    let asks = |atom: &str| {
        is_asking(atom, column)
            || call(selected(atom)).is_some_and(|(function, _)| function.contains('.'))
    };
    if !is_readable(expression) || without_parentheses(expression) == "false" {
        return None;
    }
    match judge(expression, &|atom| !asks(atom), &asks) {
        Verdict::Bad(part) => Some(part),
        _ => mentions(expression, column)
            .is_empty()
            .then_some(expression),
    }
}

fn find_readable<'a>(
    expression: &'a str,
    column: &str,
    is_bad: &dyn Fn(&str) -> bool,
) -> Option<&'a str> {
    is_readable(expression)
        .then(|| find(expression, Some(column), is_bad))
        .flatten()
}

fn find<'a>(
    expression: &'a str,
    column: Option<&str>,
    is_bad: &dyn Fn(&str) -> bool,
) -> Option<&'a str> {
    let asks = |atom: &str| column.is_some_and(|column| is_asking(atom, column));
    match judge(expression, is_bad, &asks) {
        Verdict::Bad(part) => Some(part),
        _ => None,
    }
}

fn is_open(atom: &str, column: Option<&str>) -> bool {
    if let Some(tested) = [" IS NULL", " = ''::text", " IS UNKNOWN"]
        .iter()
        .find_map(|test| atom.strip_suffix(test))
    {
        return tested.contains("current_setting(") || is_of_no_row(tested);
    }
    if atom.ends_with(" IS NOT FALSE") || atom.ends_with(" IS NOT TRUE") {
        return true;
    }
    if let Some(arguments) = arguments_of(atom, "COALESCE") {
        return arguments.last() == Some(&"true");
    }
    if atom.starts_with("CASE") {
        return atom.contains(" THEN true") || atom.contains("ELSE true");
    }
    // tenant_id = COALESCE(current_tenant_id(), tenant_id)
    let (Some((left, right)), Some(column)) = (equation(atom), column) else {
        return false;
    };
    [(left, right), (right, left)]
        .into_iter()
        .any(|(own, other)| {
            is_column(own, column)
                && arguments_of(other, "COALESCE")
                    .is_some_and(|arguments| arguments.iter().any(|a| is_column(a, column)))
        })
}

/// Whether it is a call, or a field of what one returns, that no column of a row has a say in.
fn is_of_no_row(text: &str) -> bool {
    let value = selected(uncast(text));
    let field = [" ->> ", " -> ", " #>> ", " #> "]
        .iter()
        .find_map(|operator| sides(value, operator));
    if let Some((document, field)) = field {
        return is_of_no_row(document) && is_constant(field);
    }
    call(value).is_some_and(|(_, arguments)| {
        arguments
            .iter()
            .all(|one| ["true", "false"].contains(one) || is_constant(one) || is_of_no_row(one))
    })
}

fn is_inverted(atom: &str, column: &str) -> bool {
    if let Some(negated) = atom.strip_prefix("NOT ") {
        let negated = without_parentheses(negated);
        return [" = ", " IN ( SELECT"]
            .iter()
            .any(|operator| asks(negated, operator, column));
    }
    [" <> ", " IS DISTINCT FROM ", " < ", " > ", " <= ", " >= "]
        .iter()
        .any(|operator| asks(atom, operator, column))
}

/// Whether the tenant column itself stands at one side of the operator.
fn asks(atom: &str, operator: &str, column: &str) -> bool {
    sides(atom, operator).is_some_and(|(left, right)| {
        left != right && (is_column(left, column) || is_column(right, column))
    })
}

fn is_named(atom: &str, column: &str) -> bool {
    equation(atom).is_some_and(|(left, right)| {
        [(left, right), (right, left)]
            .into_iter()
            .any(|(own, other)| is_column(own, column) && has_constant(other))
    })
}

/// Whether it is a constant, or a list with one.
fn has_constant(value: &str) -> bool {
    let value = selected(uncast(value.strip_prefix("ANY ").unwrap_or(value)));
    let elements = value
        .strip_prefix("ARRAY[")
        .and_then(|list| list.strip_suffix(']'));
    match elements {
        Some(list) => operands(list, ", ").into_iter().any(is_constant),
        None => is_constant(value),
    }
}

/// Null, or equal and null as well where the context is: `IS NOT DISTINCT FROM`.
fn is_nobodys(atom: &str, column: &str, not_null: bool) -> bool {
    if let Some(tested) = atom.strip_suffix(" IS NULL") {
        return is_column(tested, column);
    }
    !not_null
        && atom
            .strip_prefix("NOT ")
            .is_some_and(|negated| asks(negated, " IS DISTINCT FROM ", column))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_that_open_without_a_context() {
        for expression in [
            "((current_setting('app.x'::text, true) IS NULL) OR (tenant_id = a))",
            "((tenant_id = a) OR (current_setting('app.x'::text, true) = ''::text))",
            "((NOT deleted) AND ((current_tenant_id() IS NULL) OR (tenant_id = current_tenant_id())))",
            "COALESCE((tenant_id = current_tenant_id()), true)",
            "((tenant_id = current_tenant_id()) IS NOT FALSE)",
            "(tenant_id = COALESCE(current_tenant_id(), tenant_id))",
            "(COALESCE(current_tenant_id(), tenant_id) = tenant_id)",
            "CASE\n    WHEN (current_tenant_id() IS NULL) THEN true\n    ELSE (tenant_id = current_tenant_id())\nEND",
            "((app.tenant() IS NULL) OR (tenant_id = app.tenant()))",
            "((( SELECT auth.uid() AS uid) IS NULL) OR (tenant_id = app.tenant()))",
            "(((NULLIF(app.claims(true), ''::text))::jsonb ->> 'tenant'::text) IS NULL)",
        ] {
            let part = open_without_context(expression, Some("tenant_id"));
            assert!(part.is_some(), "{expression}");
        }
        for expression in [
            "((current_setting('app.x'::text, true) IS NOT NULL) AND (tenant_id = a))",
            "((current_tenant_id() IS NULL) AND (tenant_id = other()))",
            "(tenant_id = COALESCE(current_tenant_id(), other()))",
            "COALESCE((tenant_id = current_tenant_id()), false)",
            "(note IS NULL)",
            "(lower(note) IS NULL)",
            "((claims ->> 'tenant'::text) IS NULL)",
            "((app.tenant() IS NULL) AND (tenant_id IN ( SELECT m.t\n   FROM m)))",
            "(note = 'current_setting() IS NULL'::text)",
        ] {
            let part = open_without_context(expression, Some("tenant_id"));
            assert_eq!(part, None, "{expression}");
        }
    }

    #[test]
    fn expressions_that_ask_for_other_tenants() {
        for expression in [
            "(tenant_id <> current_tenant_id())",
            "((tenant_id)::text <> 'x'::text)",
            "(tenant_id <> ALL (ARRAY['x'::text, 'y'::text]))",
            "(tenant_id IS DISTINCT FROM current_tenant_id())",
            "(NOT (tenant_id = current_tenant_id()))",
            "((tenant_id = current_tenant_id()) OR ((note = 'a'::text) AND (tenant_id > 'x'::text)))",
            "(NOT (tenant_id IN ( SELECT m.tenant\n   FROM m)))",
            "(\"Tenant\" <> 'x'::text)",
            "((tenant_id <> current_tenant_id()) AND (current_tenant_id() IS NOT NULL))",
        ] {
            let column = if expression.contains("Tenant") {
                "Tenant"
            } else {
                "tenant_id"
            };
            assert!(
                asks_for_others(expression, column).is_some(),
                "{expression}"
            );
        }
        for expression in [
            "((tenant_id = current_tenant_id()) AND (tenant_id <> 'x'::text))",
            "(NOT (tenant_id IS DISTINCT FROM current_tenant_id()))",
            "(NOT (note = 'x'::text))",
            "(note <> (tenant_id || 'x'::text))",
            "(tenant_id = current_tenant_id())",
        ] {
            assert_eq!(
                asks_for_others(expression, "tenant_id"),
                None,
                "{expression}"
            );
        }
    }

    #[test]
    fn tenants_that_a_policy_names() {
        for expression in [
            "(tenant_id = '1'::uuid)",
            "('1'::uuid = tenant_id)",
            "((tenant_id)::text = 'x'::text)",
            "(tenant_id = ANY (ARRAY[a.f(), '1'::uuid]))",
            "(tenant_id = ANY ('{1,2}'::bigint[]))",
            "((tenant_id = a.f()) OR (public AND (tenant_id = 1)))",
        ] {
            assert!(
                names_tenant(expression, "tenant_id").is_some(),
                "{expression}"
            );
        }
        for expression in [
            "(tenant_id = (('1'::text || note))::uuid)",
            "((tenant_id = '1'::uuid) AND (tenant_id IN ( SELECT m.t FROM m)))",
            "(tenant_id <> '1'::uuid)",
            "(other = '1'::uuid)",
            "(note = 'tenant_id = 1'::text)",
        ] {
            assert_eq!(names_tenant(expression, "tenant_id"), None, "{expression}");
        }
    }

    #[test]
    fn rows_of_nobody() {
        for (expression, nullable, not_null) in [
            ("(tenant_id IS NULL)", true, true),
            (
                "(x AND ((tenant_id IS NULL) OR (tenant_id = a.f())))",
                true,
                true,
            ),
            ("(NOT (tenant_id IS DISTINCT FROM a.f()))", true, false),
            ("((tenant_id IS NULL) AND is_super_admin())", false, false),
            ("(note IS NULL)", false, false),
            ("(tenant_id = a.f())", false, false),
        ] {
            let shows = |not_null| shows_nobodys(expression, "tenant_id", not_null).is_some();
            assert_eq!(
                (shows(false), shows(true)),
                (nullable, not_null),
                "{expression}"
            );
        }
    }

    #[test]
    fn roles_that_are_believed() {
        for expression in [
            "((tenant_id)::text = USER)",
            "((tenant_id = a.f()) OR (CURRENT_USER = 'x'::name))",
            "(tenant_id IN ( SELECT m.t\n   FROM m\n  WHERE (m.u = SESSION_USER)))",
        ] {
            assert!(
                asks_for_role(expression, "tenant_id").is_some(),
                "{expression}"
            );
        }
        for expression in [
            "((tenant_id = a.f()) AND (owner = CURRENT_USER))",
            "(note = 'CURRENT_USER'::text)",
            "(\"USER\" = a.f())",
            "(m.\"USER\" = a.f())",
            "a.user()",
        ] {
            assert_eq!(asks_for_role(expression, "tenant_id"), None, "{expression}");
        }
    }

    #[test]
    fn parts_without_the_tenant() {
        for (expression, part) in [
            ("((tenant_id = a.f()) OR public)", Some("public")),
            (
                "(note = 'tenant_id'::text)",
                Some("note = 'tenant_id'::text"),
            ),
            ("a.is_admin()", Some("a.is_admin()")),
            ("((tenant_id = a.f()) OR a.is_admin())", None),
            ("(live AND ((tenant_id = a.f()) OR a.is_admin(1)))", None),
            ("false", None),
        ] {
            assert_eq!(
                without_tenant(expression, "tenant_id"),
                part,
                "{expression}"
            );
        }
    }
}
