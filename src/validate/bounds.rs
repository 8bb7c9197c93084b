//! Whether the expression of a policy asks for the tenant of every row that it lets through.
//!
//! Pure. What the tenant column is compared with is taken at its word: whose tenant that is, and whether
//! it may be believed, is for `complaints`, and for `report::access`, which proves. Must never take
//! letters for a question: `current_tenant_id()` names no column.

use super::expression::{
    arguments_of, conjuncts, disjuncts, is_readable, operands, sides, without_parentheses,
};
use super::query::Simple;
use super::words::{
    SUPER_ADMINS, call, equation, is_call, is_call_of_user, is_column, is_name, mentions, selected,
    uncast,
};

/// What an expression comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// That part lets rows through by something bad.
    Bad(&'a str),
    /// Every row is asked for its tenant.
    Asked,
    /// Some rows are not.
    Unasked,
}

/// Judges each atom: an OR is as bad as its worst operand, an AND as good as its best.
pub fn judge<'a>(
    expression: &'a str,
    is_bad: &dyn Fn(&str) -> bool,
    is_asking: &dyn Fn(&str) -> bool,
) -> Verdict<'a> {
    let any = disjuncts(expression);
    if any.len() > 1 {
        let mut sum = Verdict::Asked;
        for part in any {
            match judge(part, is_bad, is_asking) {
                Verdict::Asked => {}
                Verdict::Unasked => sum = Verdict::Unasked,
                bad @ Verdict::Bad(_) => return bad,
            }
        }
        return sum;
    }
    let all = conjuncts(expression);
    if let [atom] = all[..] {
        let atom = without_parentheses(atom);
        return match () {
            () if is_bad(atom) => Verdict::Bad(atom),
            () if is_asking(atom) => Verdict::Asked,
            () => Verdict::Unasked,
        };
    }
    let mut sum = Verdict::Unasked;
    for part in all {
        match judge(part, is_bad, is_asking) {
            Verdict::Asked => return Verdict::Asked,
            bad @ Verdict::Bad(_) if sum == Verdict::Unasked => sum = bad,
            Verdict::Bad(_) | Verdict::Unasked => {}
        }
    }
    sum
}

/// Whether every row that the expression lets through is asked for its tenant.
pub fn bounds_tenant(expression: &str, column: &str) -> bool {
    is_readable(expression) && is_asked(expression, column)
}

/// The one value that the tenant is compared with for being equal, whichever way a row is let through.
pub fn one_tenant<'a>(expression: &'a str, column: &str) -> Option<&'a str> {
    if !is_readable(expression) {
        return None;
    }
    let any = disjuncts(expression);
    if any.len() > 1 {
        let values: Option<Vec<_>> = any.iter().map(|part| one_tenant(part, column)).collect();
        let values = values?;
        return values
            .iter()
            .all(|value| *value == values[0])
            .then(|| values[0]);
    }
    let all = conjuncts(expression);
    if let [atom] = all[..] {
        let (left, right) = equation(atom)?;
        let value = match (is_column(left, column), is_column(right, column)) {
            (true, false) => right,
            (false, true) => left,
            _ => return None,
        };
        return (!value.starts_with("ANY ") && is_compared(value, column))
            .then(|| selected(uncast(value)));
    }
    all.into_iter().find_map(|part| one_tenant(part, column))
}

fn is_asked(expression: &str, column: &str) -> bool {
    judge(expression, &|_| false, &|atom| is_asking(atom, column)) == Verdict::Asked
}

/// Whether a row passes only if its tenant was asked for, it is nobody's, or somebody may see all.
pub fn is_asking(atom: &str, column: &str) -> bool {
    if ["false", "NULL::boolean"].contains(&atom) || is_call(atom, SUPER_ADMINS) {
        return true;
    }
    if let Some(tested) = atom.strip_suffix(" IS NULL") {
        return is_column(tested, column);
    }
    if let Some(parts) = choices(atom) {
        return !parts.is_empty() && parts.iter().all(|one| is_asked(one, column));
    }
    if let Some(query) = atom.strip_prefix("EXISTS ") {
        return ties_tenant(query, column, query);
    }
    let equal = match atom.strip_prefix("NOT ") {
        Some(negated) => sides(negated, " IS DISTINCT FROM "),
        None => equation(atom),
    };
    if let Some((left, right)) = equal {
        return [(left, right), (right, left)]
            .into_iter()
            .any(|(own, other)| {
                (asks_for(own, column) && is_compared(other, column))
                // Rows of a user are his.
                || (is_name(uncast(own)) && is_call_of_user(other))
            });
    }
    if let Some((listed, query)) = sides(atom, " IN ") {
        return query.starts_with("SELECT")
            && operands(listed, ", ")
                .iter()
                .any(|own| is_column(own, column));
    }
    [(" @> ", false), (" <@ ", true), (" ? ", false)]
        .into_iter()
        .any(|(operator, own_first)| {
            sides(atom, operator).is_some_and(|(left, right)| {
                let (own, other) = if own_first {
                    (left, right)
                } else {
                    (right, left)
                };
                !mentions(own, column).is_empty() && mentions(other, column).is_empty()
            })
        })
        || is_given(selected(atom), column)
}

/// Whether it is the tenant column, or what a function says of it.
fn asks_for(side: &str, column: &str) -> bool {
    is_column(side, column) || is_given(selected(uncast(side)), column)
}

/// Whether a function of somebody's own, which may well ask for it, is given the tenant.
fn is_given(text: &str, column: &str) -> bool {
    let is_tenant = |one: &&str| is_name(uncast(one)) && !mentions(one, column).is_empty();
    call(text).is_some_and(|(function, arguments)| {
        function.contains('.') && arguments.iter().any(is_tenant)
    })
}

/// Whether a tenant can be compared with it: neither a column of the same row, nor made of the tenant itself,
/// nor what is true for an empty list.
fn is_compared(value: &str, column: &str) -> bool {
    !is_name(uncast(value))
        && !value.starts_with("ALL ")
        && !mentions(value, column).contains(&None)
}

/// Whether a sub-select asks for rows of the same tenant as the row outside. `all` is the outermost one.
fn ties_tenant(query: &str, column: &str, all: &str) -> bool {
    let ties = |text: &str| {
        mentions(text, column)
            .into_iter()
            .flatten()
            .any(|table| mentions(all, table.trim_matches('"')).is_empty())
    };
    match Simple::parse(query) {
        Some(simple) => {
            simple
                .conditions
                .iter()
                .any(|condition| match condition.strip_prefix("EXISTS ") {
                    Some(below) => ties_tenant(below, column, all),
                    None => {
                        equation(condition).is_some_and(|(left, right)| ties(left) || ties(right))
                    }
                })
        }
        None => ties(query),
    }
}

/// The conditions one of which must be true for the atom to be true, where it is a choice of such or a test of
/// one; none where it is not understood.
pub fn choices(atom: &str) -> Option<Vec<&str>> {
    // Only into parentheses, of which there are not too many.
    if let Some(tested) = atom.strip_suffix(" IS TRUE") {
        let inner = without_parentheses(tested);
        return Some(match inner.len() < tested.len() {
            true => vec![inner],
            false => Vec::new(),
        });
    }
    arguments_of(atom, "COALESCE").or_else(|| results_of_case(atom))
}

/// What a CASE may come to. One inside of another comes to nothing that is understood.
fn results_of_case(atom: &str) -> Option<Vec<&str>> {
    let body = atom.strip_prefix("CASE")?.strip_suffix("END")?;
    let mut results = Vec::new();
    for branch in operands(body, "WHEN ").into_iter().skip(1) {
        let (_, result) = sides(branch, " THEN ")?;
        results.extend(operands(result, "ELSE "));
    }
    Some(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_for_the_tenant() {
        for expression in [
            "(tenant_id = public.current_tenant_id())",
            "(public.current_tenant_id() = tenant_id)",
            "((tenant_id)::text = current_setting('app.tenant'::text))",
            "(tenant_id = ANY (user_tenant_ids()))",
            "(tenant_id IN ( SELECT m.tenant_id\n   FROM app.m\n  WHERE (m.u = auth.uid())))",
            "((tenant_id, note) IN ( SELECT m.tenant_id,\n    m.note\n   FROM app.m))",
            "((tenant_id = a.f()) OR ((tenant_id = a.g()) AND (note = 'x'::text)))",
            "((note = 'x'::text) AND ((tenant_id = a.f()) OR (tenant_id IS NULL)))",
            "(NOT (tenant_id IS DISTINCT FROM a.f()))",
            "((tenant_id = a.f()) IS TRUE)",
            "COALESCE((tenant_id = a.f()), false)",
            "CASE\n    WHEN (note = 'x'::text) THEN (tenant_id = a.f())\n    ELSE false\nEND",
            "((tenant_id = a.f()) OR public.is_super_admin())",
            "(tenant_id = ( SELECT a.f() AS tenant_id))",
            "(app.is_member(tenant_id))",
            "( SELECT app.is_member(t.tenant_id) AS is_member)",
            "(app.role_in(tenant_id) = ANY (ARRAY['a'::text, 'b'::text]))",
            "(a.f() @> ARRAY[tenant_id])",
            "(ARRAY[tenant_id] <@ a.f())",
            "(id = tenancy.current_user_id_uuid_required())",
            "(EXISTS ( SELECT 1\n   FROM app.m\n  WHERE ((m.tenant_id = t.tenant_id) AND (m.u = auth.uid()))))",
            "(EXISTS ( SELECT 1\n   FROM app.members m\n  WHERE ((m.org)::text = (t.tenant_id)::text)))",
            "(EXISTS ( SELECT 1\n   FROM (app.m\n     JOIN app.n ON ((m.a = n.a)))\n  WHERE (m.tenant_id = t.tenant_id)))",
        ] {
            assert!(bounds_tenant(expression, "tenant_id"), "{expression}");
        }
        assert!(bounds_tenant("(\"Tenant\" = a.f())", "Tenant"));
        assert!(bounds_tenant("(\"a\"\"b\" = a.f())", "a\"b"));
    }

    #[test]
    fn what_does_not() {
        for expression in [
            "true",
            "(public.current_tenant_id() IS NOT NULL)",
            "(current_setting('app.current_tenant_id'::text, true) <> ''::text)",
            "(parent_tenant_id = public.current_tenant_id())",
            "(tenancy.current_tenant_id_required() IS NOT NULL)",
            "(tenancy.current_tenant_id_required() = '1'::uuid)",
            "(note = 'tenant_id = a.f()'::text)",
            "((tenant_id = a.f()) OR (note = 'x'::text))",
            "(tenant_id <> a.f())",
            "(NOT (tenant_id = a.f()))",
            "(tenant_id = tenant_id)",
            "(tenant_id = other_id)",
            "(tenant_id = COALESCE(a.f(), tenant_id))",
            "(tenant_id = ANY (ARRAY[a.f(), tenant_id]))",
            "(tenant_id = ALL (a.f()))",
            "(tenant_id IS NOT NULL)",
            "((tenant_id = a.f()) IS NOT FALSE)",
            "COALESCE((tenant_id = a.f()), true)",
            "CASE\n    WHEN (tenant_id = a.f()) THEN true\n    ELSE false\nEND",
            "CASE\n    WHEN a THEN\n    CASE\n        WHEN b THEN (tenant_id = a.f())\n        ELSE true\n    END\n    ELSE false\nEND",
            "a.is_admin()",
            "app.is_member(id)",
            "starts_with(tenant_id, ''::text)",
            "((data).tenant_id = a.f())",
            "(EXISTS ( SELECT 1\n   FROM app.m\n  WHERE ((m.tenant_id = a.f()) AND (m.u = auth.uid()))))",
            "(EXISTS ( SELECT 1\n   FROM app.m\n  WHERE (m.tenant_id <> t.tenant_id)))",
            "(EXISTS ( SELECT 1\n   FROM app.m\n  WHERE ((m.id = t.m) AND (EXISTS ( SELECT 1\n   FROM app.n\n  WHERE (n.tenant_id = m.tenant_id))))))",
            "(NOT (EXISTS ( SELECT 1\n   FROM app.m\n  WHERE (m.tenant_id = t.tenant_id))))",
            "(CURRENT_USER = 'a'::name)",
            "",
        ] {
            assert!(!bounds_tenant(expression, "tenant_id"), "{expression}");
        }
        assert!(!bounds_tenant("(Tenant = a.f())", "tenant"));
    }

    #[test]
    fn one_tenant_whichever_way() {
        for (expression, value) in [
            ("(tenant_id = a.f())", Some("a.f()")),
            (
                "((tenant_id = ( SELECT a.f() AS f)) AND (x = 1))",
                Some("a.f()"),
            ),
            (
                "(((tenant_id = a.f()) AND b) OR (a.f() = tenant_id))",
                Some("a.f()"),
            ),
            ("((tenant_id = a.f()) OR (tenant_id = a.g()))", None),
            ("((tenant_id = a.f()) OR b)", None),
            ("(tenant_id = ANY (a.f()))", None),
            ("(tenant_id = other)", None),
            ("(note = a.f())", None),
        ] {
            assert_eq!(one_tenant(expression, "tenant_id"), value, "{expression}");
        }
    }
}
