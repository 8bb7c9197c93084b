//! How far the expression of a policy lets somebody reach, read from the text that Postgres deparses.
//!
//! Pure. Text, because evaluating the tree would call functions of whoever wrote the policy. Owns the
//! order of reaches. Must never call something narrow because it does not understand it: what is not
//! recognised reaches all tenants.

use super::words::{
    has_call, is_call, is_call_of_user, is_name, is_part_of_a_word, mentions, uncast,
};
use crate::validate::expression::{
    conjuncts, disjuncts, is_always_true, operands, without_parentheses,
};

/// From nothing to everything; `sql/91_access_matrix.sql` has the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// No row.
    Nothing,
    /// Rows of the user of the context.
    OwnRows,
    /// Rows of the tenant of the context.
    OwnTenant,
    /// Rows of all tenants of the user.
    OwnTenants,
    /// Those, and rows that tenants share.
    Shared,
    /// Rows of any tenant.
    All,
}

/// What an ordinary user reaches, and what a super admin of the application does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaches {
    pub ordinary: Reach,
    pub super_admin: Reach,
}

impl Reaches {
    const fn of(reach: Reach) -> Self {
        Self {
            ordinary: reach,
            super_admin: reach,
        }
    }

    fn combined(self, other: Self, choose: fn(Reach, Reach) -> Reach) -> Self {
        Self {
            ordinary: choose(self.ordinary, other.ordinary),
            super_admin: choose(self.super_admin, other.super_admin),
        }
    }
}

/// What a table's rows are told apart by.
#[derive(Clone, Copy)]
enum Column<'a> {
    /// The tenant column, quoted where SQL needs it.
    Named(&'a str),
    /// None: it is another table's, reached through a sub-select.
    AnothersAny,
    /// None at all.
    Missing,
}

/// How far the expression reaches, on a table with that tenant column, quoted where SQL needs it.
pub fn reaches(expression: &str, tenant_column: Option<&str>) -> Reaches {
    of(
        expression,
        tenant_column.map_or(Column::Missing, Column::Named),
    )
}

fn of(expression: &str, column: Column<'_>) -> Reaches {
    let any = disjuncts(expression);
    if any.len() > 1 {
        return any
            .into_iter()
            .map(|part| of(part, column))
            .fold(Reaches::of(Reach::Nothing), |sum, part| {
                sum.combined(part, Ord::max)
            });
    }
    let all = conjuncts(expression);
    match all[..] {
        [only] => atom(only, column),
        _ => all
            .into_iter()
            .map(|part| of(part, column))
            .fold(Reaches::of(Reach::All), |sum, part| {
                sum.combined(part, Ord::min)
            }),
    }
}

fn atom(atom: &str, column: Column<'_>) -> Reaches {
    if is_call(
        atom,
        &[
            "is_super_admin",
            "is_super_admin_required",
            "is_super_admin_or_not",
        ],
    ) {
        return Reaches {
            ordinary: Reach::Nothing,
            super_admin: Reach::All,
        };
    }
    Reaches::of(reach_of_atom(atom, column))
}

fn reach_of_atom(atom: &str, column: Column<'_>) -> Reach {
    if atom == "false" || atom == "NULL::boolean" {
        return Reach::Nothing;
    }
    if let Some(query) = atom.strip_prefix("EXISTS ") {
        return exists(query, column);
    }
    let name = match column {
        Column::Named(name) => Some(name),
        Column::AnothersAny | Column::Missing => None,
    };
    if let Some(tested) = atom.strip_suffix(" IS NULL") {
        return if name == Some(tested) {
            Reach::Shared
        } else {
            Reach::All
        };
    }
    // Admins of a table without tenants change what all share.
    if matches!(column, Column::Missing)
        && is_call(
            atom,
            &[
                "is_tenant_admin",
                "is_tenant_admin_required",
                "is_tenant_admin_or_not",
            ],
        )
    {
        return Reach::Shared;
    }
    if is_always_true(atom, None) {
        return Reach::All;
    }
    for operator in [" = ", " IN "] {
        if let [left, right] = operands(atom, operator)[..] {
            return match (is_tenant_side(left, column), is_tenant_side(right, column)) {
                (true, _) => compared(right, column),
                (false, true) if operator == " = " => compared(left, column),
                _ if is_call_of_user(right) || is_call_of_user(left) => Reach::OwnRows,
                _ => Reach::All,
            };
        }
    }
    Reach::All
}

/// Rows for which another table has one: bounded by what is asked of that one.
fn exists(query: &str, column: Column<'_>) -> Reach {
    let query = without_parentheses(query);
    // An aggregate returns a row whatever it finds, and so may the other side of a UNION.
    let is_plain = query.starts_with("SELECT")
        && !["UNION", "EXCEPT", "INTERSECT"]
            .iter()
            .any(|word| query.contains(word))
        && query
            .split_once("FROM ")
            .is_some_and(|(list, _)| !list.contains('('));
    match operands(query, " WHERE ")[..] {
        [_, condition] if is_plain && is_membership(condition, column) => Reach::OwnTenants,
        [_, condition] if is_plain => of(condition, Column::AnothersAny).ordinary,
        _ => Reach::All,
    }
}

/// Whether the condition of a sub-select ties the tenant column to a column of another table, and one of
/// that table to something that is asked for.
fn is_membership(condition: &str, column: Column<'_>) -> bool {
    let Column::Named(name) = column else {
        return false;
    };
    let suffix = format!(".{name}");
    let sides = |part: &str| match operands(part, " = ")[..] {
        [left, right] => Some((left.to_owned(), right.to_owned())),
        _ => None,
    };
    let parts: Vec<_> = conjuncts(condition).into_iter().filter_map(sides).collect();
    let table = |side: &str| {
        uncast(side)
            .rsplit_once('.')
            .map(|(table, _)| table.to_owned())
    };
    let ties = parts.iter().any(|(left, right)| {
        let (one, other) = (table(left), table(right));
        (uncast(left).ends_with(&suffix) || uncast(right).ends_with(&suffix))
            && one.is_some()
            && other.is_some()
            && one != other
    });
    let asks = parts.iter().any(|(left, right)| {
        (is_name(uncast(left)) && has_call(right)) || (is_name(uncast(right)) && has_call(left))
    });
    ties && asks
}

/// Whether it is the tenant column: any column where the table is another, since then only the
/// extension's own functions count.
fn is_tenant_side(side: &str, column: Column<'_>) -> bool {
    let bare = uncast(side);
    match column {
        Column::Named(name) => bare == name || bare.ends_with(&format!(".{name}")),
        Column::AnothersAny => is_name(bare),
        Column::Missing => false,
    }
}

/// What the tenant column is compared with.
fn compared(value: &str, column: Column<'_>) -> Reach {
    let inner = value
        .strip_prefix("ANY ")
        .map_or(value, |array| array.trim());
    let calls = |name: &str| {
        inner
            .match_indices(name)
            .any(|(at, _)| !inner[..at].ends_with(is_part_of_a_word))
    };
    if let Column::Named(name) = column
        && mentions(inner, name)
        && !inner.contains("SELECT ")
    {
        // Compared with itself, as a COALESCE does.
        return Reach::All;
    }
    if calls("platform_tenant_id") {
        return Reach::Shared;
    }
    if calls("user_tenant_ids") {
        return Reach::OwnTenants;
    }
    if calls("current_tenant_id") {
        return Reach::OwnTenant;
    }
    if is_call_of_user(inner) {
        return Reach::OwnRows;
    }
    if matches!(column, Column::AnothersAny) {
        return Reach::All;
    }
    if inner.contains("SELECT ") {
        // One that asks for nobody lists tenants.
        return if has_call(inner) {
            Reach::OwnTenants
        } else {
            Reach::All
        };
    }
    if is_name(uncast(inner)) {
        // Another column says nothing about who asks.
        return Reach::All;
    }
    if inner.contains('(') && !inner.starts_with("(ARRAY[") && !inner.starts_with("ARRAY[") {
        return Reach::OwnTenant;
    }
    // A constant: one tenant's rows, for everybody.
    Reach::Shared
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str, column: Option<&str>, reach: Reach) {
        assert_eq!(
            reaches(expression, column),
            Reaches::of(reach),
            "{expression}"
        );
    }

    #[test]
    fn what_bounds() {
        use Reach::{Nothing, OwnRows, OwnTenant, OwnTenants, Shared};
        for (expression, reach) in [
            (
                "(tenant_id = tenancy.current_tenant_id_required())",
                OwnTenant,
            ),
            ("(current_tenant_id() = tenant_id)", OwnTenant),
            (
                "(tenant_id = ( SELECT s.current_tenant_id() AS current_tenant_id))",
                OwnTenant,
            ),
            (
                "((tenant_id)::text = current_setting('app.tenant'::text, true))",
                OwnTenant,
            ),
            (
                "(tenant_id = (current_setting('app.tenant'::text))::uuid)",
                OwnTenant,
            ),
            (
                "((tenant_id = current_tenant_id()) AND ((note IS NULL) OR true))",
                OwnTenant,
            ),
            (
                "((tenant_id = current_tenant_id()) AND tenancy.is_tenant_admin_required())",
                OwnTenant,
            ),
            (
                "(tenant_id = ANY (tenancy.user_tenant_ids_required()))",
                OwnTenants,
            ),
            (
                "(tenant_id IN ( SELECT m.tenant_id\n   FROM app.m\n  WHERE (m.user_id = me())))",
                OwnTenants,
            ),
            (
                "(EXISTS ( SELECT 1\n   FROM app.m\n  WHERE ((m.tenant_id = t.tenant_id) AND (m.user_id = auth.uid()))))",
                OwnTenants,
            ),
            (
                "((tenant_id = current_tenant_id()) OR (tenant_id = tenancy.platform_tenant_id_required()))",
                Shared,
            ),
            (
                "((tenant_id = current_tenant_id()) OR (tenant_id IS NULL))",
                Shared,
            ),
            (
                "(tenant_id = '00000000-0000-0000-0000-000000000001'::uuid)",
                Shared,
            ),
            ("(tenant_id = ANY (ARRAY[1, 2]))", Shared),
            ("(id = tenancy.current_user_id_uuid_required())", OwnRows),
            ("((owner)::text = current_tenant_user_id())", OwnRows),
            ("false", Nothing),
        ] {
            check(expression, Some("tenant_id"), reach);
        }
        check(
            "(\"Tenant\" = current_tenant_id_text())",
            Some("\"Tenant\""),
            OwnTenant,
        );
    }

    #[test]
    fn what_does_not() {
        for expression in [
            "true",
            "(tenant_id = tenant_id)",
            "(tenant_id IS NOT NULL)",
            "(tenant_id <> current_tenant_id())",
            "(NOT (tenant_id = current_tenant_id()))",
            "(tenant_id = COALESCE(current_tenant_id(), tenant_id))",
            "(tenant_id = other_id)",
            "((tenant_id = current_tenant_id()) OR public)",
            "((tenant_id = current_tenant_id()) OR true)",
            "(((tenant_id = current_tenant_id()) OR shared) AND (note <> ''::text))",
            "((current_setting('app.x'::text, true) IS NULL) OR (tenant_id = current_tenant_id()))",
            "(note = 'tenant_id = current_tenant_id()'::text)",
            "(other_id = current_tenant_id())",
            "is_tenant_admin()",
            "CASE WHEN (tenant_id = current_tenant_id()) THEN true ELSE true END",
            "(current_tenant_id() IS NOT DISTINCT FROM tenant_id)",
            "(EXISTS ( SELECT count(*) AS count\n   FROM app.p\n  WHERE (p.t = current_tenant_id())))",
            "(EXISTS ( SELECT 1\n UNION\n SELECT 1\n   FROM app.p\n  WHERE (p.t = current_tenant_id())))",
            "(EXISTS ( SELECT\n   FROM app.p parent_1))",
            "(tenant_id IN ( SELECT t.id\n   FROM app.tenants t))",
            "(EXISTS ( SELECT 1\n   FROM app.m\n  WHERE ((m.tenant_id = t.tenant_id) AND (m.active = true))))",
            "(EXISTS ( SELECT 1\n   FROM app.m\n  WHERE ((m.tenant_id = m.tenant_id) AND (m.user_id = auth.uid()))))",
            "(EXISTS ( SELECT 1\n   FROM app.m\n  WHERE ((m.tenant_id = t.tenant_id) OR (m.user_id = auth.uid()))))",
            "(EXISTS ( SELECT\n   FROM app.p parent_1\n  WHERE (parent_1.id = c.id)))",
            "",
        ] {
            check(expression, Some("tenant_id"), Reach::All);
        }
    }

    #[test]
    fn tables_without_a_tenant_column() {
        check(
            "(id = tenancy.current_user_id_text_required())",
            None,
            Reach::OwnRows,
        );
        check("true", None, Reach::All);
        check("tenancy.is_tenant_admin_required()", None, Reach::Shared);
        check("(tenant_id = current_tenant_id())", None, Reach::All);
        let child = |condition: &str| {
            format!(
                "(EXISTS ( SELECT\n   FROM app.p parent_1\n  WHERE ((parent_1.id = c.parent_id) AND {condition})))"
            )
        };
        for (condition, reach) in [
            (
                "(parent_1.tenant_id = tenancy.current_tenant_id_required())",
                Reach::OwnTenant,
            ),
            (
                "((parent_1.t = current_tenant_id()) OR (parent_1.t = tenancy.platform_tenant_id_required()))",
                Reach::Shared,
            ),
            (
                "(EXISTS ( SELECT\n FROM app.q parent_2\n  WHERE ((parent_2.id = parent_1.q) AND (parent_2.t = current_tenant_id()))))",
                Reach::OwnTenant,
            ),
            ("(parent_1.t = parent_1.u)", Reach::All),
            ("((parent_1.t = current_tenant_id()) OR true)", Reach::All),
        ] {
            check(&child(condition), None, reach);
        }
    }

    #[test]
    fn super_admins_are_told_apart() {
        use Reach::{All, Nothing, OwnTenant};
        for (expression, ordinary, super_admin) in [
            (
                "((id = current_tenant_id()) OR tenancy.is_super_admin_required())",
                OwnTenant,
                All,
            ),
            ("tenancy.is_super_admin_required()", Nothing, All),
            (
                "((id = current_tenant_id()) AND is_super_admin())",
                Nothing,
                OwnTenant,
            ),
            ("(NOT is_super_admin())", All, All),
        ] {
            assert_eq!(
                reaches(expression, Some("id")),
                Reaches {
                    ordinary,
                    super_admin
                },
                "{expression}"
            );
        }
    }
}
