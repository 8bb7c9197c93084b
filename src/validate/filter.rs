//! Whether the row filter of a publication keeps to tenants that it names.
//!
//! Pure. Nobody asks where rows are sent: a filter knows no context, so that only constants tell whose rows
//! they are. Must never take a filter that mentions the tenant for one that keeps to it.

use super::bounds::{Verdict, choices, judge};
use super::expression::{is_readable, operands, sides};
use super::words::{equation, is_column, is_constant, uncast};

/// Whether every row that the filter lets through is of a tenant that it names.
pub fn keeps_to_named(filter: &str, column: &str) -> bool {
    is_readable(filter) && keeps(filter, column)
}

fn keeps(filter: &str, column: &str) -> bool {
    judge(filter, &|_| false, &|atom| is_kept(atom, column)) == Verdict::Asked
}

fn is_kept(atom: &str, column: &str) -> bool {
    if ["false", "NULL::boolean"].contains(&atom) {
        return true;
    }
    if let Some(parts) = choices(atom) {
        return !parts.is_empty() && parts.iter().all(|one| keeps(one, column));
    }
    let equal = match atom.strip_prefix("NOT ") {
        Some(negated) => sides(negated, " IS DISTINCT FROM "),
        None => equation(atom),
    };
    equal.is_some_and(|(left, right)| {
        [(left, right), (right, left)]
            .into_iter()
            // A cast that may cut the value makes several tenants one.
            .any(|(own, other)| is_column(own, column) && is_whole(own) && names(other))
    })
}

/// Whether no cast of it lets two values become the same one.
fn is_whole(own: &str) -> bool {
    operands(uncast(own), "::").len() == 1
}

/// Whether it is a constant, or a list of nothing else.
fn names(value: &str) -> bool {
    let value = uncast(value.strip_prefix("ANY ").unwrap_or(value));
    let elements = value
        .strip_prefix("ARRAY[")
        .and_then(|list| list.strip_suffix(']'));
    match elements {
        Some(list) => operands(list, ", ").into_iter().all(is_constant),
        None => is_constant(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_name_whose_rows_they_send() {
        for filter in [
            "(tenant_id = '1'::uuid)",
            "('1'::uuid = tenant_id)",
            "(tenant_id = 1)",
            "((tenant_id)::text = 'x'::text)",
            "(tenant_id = ANY (ARRAY['1'::uuid, '2'::uuid]))",
            "((tenant_id)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[]))",
            "(tenant_id = ANY ('{1,2}'::bigint[]))",
            "((tenant_id = 1) OR ((tenant_id = 2) AND live))",
            "((note = 'x'::text) AND ((tenant_id = 1) OR (tenant_id = 2)))",
            "(NOT (tenant_id IS DISTINCT FROM '1'::uuid))",
            "((tenant_id = 1) IS TRUE)",
            "COALESCE((tenant_id = 1), false)",
            "CASE\n    WHEN live THEN (tenant_id = 1)\n    ELSE (tenant_id = 2)\nEND",
            "false",
        ] {
            assert!(keeps_to_named(filter, "tenant_id"), "{filter}");
        }
        assert!(keeps_to_named("(\"Tenant\" = 1)", "Tenant"));
    }

    #[test]
    fn filters_that_do_not() {
        for filter in [
            "true",
            "(tenant_id IS NOT NULL)",
            "(tenant_id IS NULL)",
            "(tenant_id <> '1'::uuid)",
            "(tenant_id > '1'::uuid)",
            "(NOT (tenant_id = '1'::uuid))",
            "(tenant_id IS DISTINCT FROM '1'::uuid)",
            "((tenant_id = '1'::uuid) OR true)",
            "((tenant_id = '1'::uuid) OR live)",
            "(tenant_id = tenant_id)",
            "(tenant_id = other)",
            "(other = 'tenant_id'::text)",
            "(other_tenant_id = '1'::uuid)",
            "(tenant_id = ALL (ARRAY['1'::uuid]))",
            "(tenant_id = ANY (ARRAY['1'::uuid, other]))",
            "(NOT (tenant_id IS DISTINCT FROM NULL::uuid))",
            "(((tenant_id)::text)::character varying(1) = '1'::text)",
            "((tenant_id)::boolean = 't'::boolean)",
            "(\"left\"(tenant_id, 1) = '1'::text)",
            "((tenant_id = '1'::uuid) IS NOT FALSE)",
            "((tenant_id = '1'::uuid) IS NOT TRUE)",
            "COALESCE((tenant_id = '1'::uuid), true)",
            "CASE\n    WHEN (tenant_id = 1) THEN true\n    ELSE false\nEND",
            "",
        ] {
            assert!(!keeps_to_named(filter, "tenant_id"), "{filter}");
        }
        assert!(!keeps_to_named("(Tenant = 1)", "tenant"));
    }
}
