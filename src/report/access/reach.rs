//! How far the expression of a policy lets somebody reach, read from the text that Postgres deparses.
//!
//! Pure. Text, because evaluating the tree would call functions of whoever wrote the policy. Owns the
//! order of reaches. Must never call something narrow because it does not understand it: what is not
//! recognised reaches all tenants.

use super::value;
use crate::validate::expression::{conjuncts, disjuncts, is_always_true, is_readable, operands};
use crate::validate::query::Simple;
use crate::validate::words::{
    SUPER_ADMINS, column, equation, is_call, is_call_of_user, is_name, is_setting, uncast,
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

impl Reach {
    /// What is reached by either. Rows of the user may be of any tenant: together with those of tenants
    /// they are neither.
    pub fn union(self, other: Self) -> Self {
        let (less, more) = (self.min(other), self.max(other));
        if less == Self::OwnRows && more > less {
            Self::All
        } else {
            more
        }
    }
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

    fn map(self, of: fn(Reach) -> Reach) -> Self {
        Self {
            ordinary: of(self.ordinary),
            super_admin: of(self.super_admin),
        }
    }
}

/// What is known of tables that sub-selects read, in names as they are deparsed without a search_path, and
/// of the settings that are believed.
#[derive(Clone, Copy, Default)]
pub struct Known<'a> {
    /// Their unique keys: `app.parents (id)`.
    pub keys: &'a [String],
    /// Their tenant columns: `app.parents.tenant_id`.
    pub tenants: &'a [String],
    /// Settings that name the tenant of the context, and nothing else decides it: `app.tenant`, or
    /// `request.jwt.claims tenant_id` for a field of one.
    pub tenant_settings: &'a [String],
    /// Settings that name its user.
    pub user_settings: &'a [String],
}

impl Known<'_> {
    /// Whether the value names the user of the context.
    pub fn is_user(self, value: &str) -> bool {
        is_call_of_user(value) || is_setting(value, self.user_settings)
    }

    /// Whether the table has a tenant column.
    fn has_tenant(self, table: &str) -> bool {
        self.tenants.iter().any(|tenant| {
            tenant
                .strip_prefix(table)
                .is_some_and(|rest| rest.starts_with('.'))
        })
    }

    fn is_tenant(self, table: &str, name: &str) -> bool {
        self.tenants.iter().any(|tenant| {
            operands(tenant, ".").pop() == Some(name)
                && tenant
                    .strip_suffix(name)
                    .and_then(|rest| rest.strip_suffix('.'))
                    == Some(table)
        })
    }
}

/// Whose columns the expression names.
#[derive(Clone, Copy)]
enum Scope<'a> {
    /// Those of the policy's table, which has that tenant column.
    Row { tenant: Option<&'a str> },
    /// Those of the one row of a table that belongs to each of them.
    Parent { table: &'a str, alias: &'a str },
}

impl Scope<'_> {
    /// Whether it is the tenant column.
    fn is_tenant(self, side: &str, known: Known<'_>) -> bool {
        let side = uncast(side);
        match self {
            Self::Row { tenant } => tenant == Some(side),
            Self::Parent { table, alias } => {
                column(side).is_some_and(|(of, name)| of == alias && known.is_tenant(table, name))
            }
        }
    }

    /// Whether a sub-select names the tenant column so.
    fn is_tenant_from_below(self, side: &str, known: Known<'_>) -> bool {
        match self {
            Self::Row { tenant } => column(side).is_some_and(|(_, name)| tenant == Some(name)),
            Self::Parent { .. } => self.is_tenant(side, known),
        }
    }

    /// Whether a column says whose its rows are.
    fn has_tenant(self, known: Known<'_>) -> bool {
        match self {
            Self::Row { tenant } => tenant.is_some(),
            Self::Parent { table, .. } => known.has_tenant(table),
        }
    }

    /// Whether it is some column of the table.
    fn owns(self, side: &str) -> bool {
        let side = uncast(side);
        match self {
            Self::Row { .. } => is_name(side) && column(side).is_none(),
            Self::Parent { alias, .. } => column(side).is_some_and(|(of, _)| of == alias),
        }
    }
}

/// How far the expression reaches, on a table with that tenant column, quoted where SQL needs it.
pub fn reaches(expression: &str, tenant: Option<&str>, known: Known<'_>) -> Reaches {
    // All recursion below goes down into brackets.
    if is_readable(expression) {
        of(expression, Scope::Row { tenant }, known)
    } else {
        Reaches::of(Reach::All)
    }
}

fn of(expression: &str, scope: Scope<'_>, known: Known<'_>) -> Reaches {
    let any = disjuncts(expression);
    if any.len() > 1 {
        return any
            .into_iter()
            .map(|part| of(part, scope, known))
            .fold(Reaches::of(Reach::Nothing), |sum, part| {
                sum.combined(part, Reach::union)
            });
    }
    let all = conjuncts(expression);
    match all[..] {
        [only] => atom(only, scope, known),
        _ => every(&all, scope, known),
    }
}

fn every(all: &[&str], scope: Scope<'_>, known: Known<'_>) -> Reaches {
    all.iter()
        .map(|part| of(part, scope, known))
        .fold(Reaches::of(Reach::All), |sum, part| {
            sum.combined(part, Ord::min)
        })
}

fn atom(atom: &str, scope: Scope<'_>, known: Known<'_>) -> Reaches {
    if is_call(atom, SUPER_ADMINS) {
        return Reaches {
            ordinary: Reach::Nothing,
            super_admin: Reach::All,
        };
    }
    match atom.strip_prefix("EXISTS ") {
        Some(query) => exists(query, scope, known),
        None => Reaches::of(reach_of_atom(atom, scope, known)),
    }
}

fn reach_of_atom(atom: &str, scope: Scope<'_>, known: Known<'_>) -> Reach {
    if atom == "false" || atom == "NULL::boolean" {
        return Reach::Nothing;
    }
    if let Some(tested) = atom.strip_suffix(" IS NULL") {
        return if scope.is_tenant(tested, known) {
            Reach::Shared
        } else {
            Reach::All
        };
    }
    // Admins of a table without tenants change what all share.
    if matches!(scope, Scope::Row { tenant: None })
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
    if let [tenant, query] = operands(atom, " IN ")[..] {
        return if scope.is_tenant(tenant, known) {
            value::of_list(query, known)
        } else {
            Reach::All
        };
    }
    let Some((left, right)) = equation(atom) else {
        return Reach::All;
    };
    if scope.is_tenant(left, known) {
        return match right.strip_prefix("ANY ") {
            Some(array) => value::of_array(array, known),
            None => value::of(right, known),
        };
    }
    if scope.is_tenant(right, known) {
        return value::of(left, known);
    }
    if (scope.owns(left) && is_call_of_user(right)) || (scope.owns(right) && is_call_of_user(left))
    {
        return Reach::OwnRows;
    }
    Reach::All
}

/// Rows for which another table has one: bounded by what is asked of that one, where it is the only one
/// that belongs to them, or a membership.
fn exists(query: &str, scope: Scope<'_>, known: Known<'_>) -> Reaches {
    let Some(query) = Simple::parse(query) else {
        return Reaches::of(Reach::All);
    };
    let ties: Vec<_> = query.ties().collect();
    if ties
        .iter()
        .any(|(_, outer)| scope.is_tenant_from_below(outer, known))
        && query.asks(|value| known.is_user(value))
    {
        return Reaches::of(Reach::OwnTenants);
    }
    let tied: Vec<_> = ties.iter().map(|(own, _)| *own).collect();
    if !query.is_one_row(known.keys, &tied) {
        return Reaches::of(Reach::All);
    }
    let parent = Scope::Parent {
        table: query.table,
        alias: query.alias,
    };
    let bounds = every(&query.conditions, parent, known);
    // Whose the other one is says nothing of a row that says itself whose it is, unless both are the same.
    let same_tenant = ties.iter().any(|(own, outer)| {
        known.is_tenant(query.table, own) && scope.is_tenant_from_below(outer, known)
    });
    if scope.has_tenant(known) && !same_tenant {
        return bounds.map(|bound| match bound {
            Reach::Nothing => Reach::Nothing,
            _ => Reach::All,
        });
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Vec<String> {
        ["app.p (id)", "app.q (id)", "app.r (id)", "app.c (a, b)"]
            .map(str::to_owned)
            .into()
    }

    fn judged(expression: &str, column: Option<&str>) -> Reaches {
        let (keys, tenants) = (keys(), ["app.p.t".to_owned(), "app.q.t".to_owned()]);
        reaches(
            expression,
            column,
            Known {
                keys: &keys,
                tenants: &tenants,
                tenant_settings: &["app.tenant".to_owned()],
                user_settings: &["app.user".to_owned()],
            },
        )
    }

    fn check(expression: &str, column: Option<&str>, reach: Reach) {
        assert_eq!(
            judged(expression, column),
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
            ("(public.current_tenant_id() = tenant_id)", OwnTenant),
            (
                "((tenant_id)::text = current_setting('app.tenant'::text, true))",
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
                "(tenant_id IN ( SELECT m.tenant_id\n   FROM app.m\n  WHERE (m.user_id = current_tenant_user_id())))",
                OwnTenants,
            ),
            (
                "(EXISTS ( SELECT 1\n   FROM app.m\n  WHERE ((m.tenant_id = t.tenant_id) AND (m.user_id = current_tenant_user_id()))))",
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
            ("(id = tenancy.current_user_id_uuid_required())", OwnRows),
            ("((owner)::text = current_tenant_user_id())", OwnRows),
            ("false", Nothing),
            (
                "((tenant_id = current_tenant_id()) AND (shared_with = current_tenant_user_id()))",
                OwnRows,
            ),
            (
                "((owner = current_tenant_user_id()) OR (other = current_tenant_user_id()) OR false)",
                OwnRows,
            ),
            (
                "((tenant_id = current_tenant_id()) OR (tenant_id = ANY (user_tenant_ids())))",
                OwnTenants,
            ),
            (
                "(EXISTS ( SELECT\n   FROM app.p\n  WHERE ((p.id = t.parent) AND (p.t = t.tenant_id) AND (p.t = current_tenant_id()))))",
                OwnTenant,
            ),
            (
                "(EXISTS ( SELECT\n   FROM app.p\n  WHERE ((p.id = t.parent) AND false)))",
                Nothing,
            ),
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
            "(tenant_id = other_id)",
            "((tenant_id = current_tenant_id()) OR public)",
            "((tenant_id = current_tenant_id()) OR true)",
            "(((tenant_id = current_tenant_id()) OR shared) AND (note <> ''::text))",
            "((current_setting('app.x'::text, true) IS NULL) OR (tenant_id = current_tenant_id()))",
            "(note = 'tenant_id = current_tenant_id()'::text)",
            "(other_id = current_tenant_id())",
            "('ann'::text = current_tenant_user_id())",
            "((CURRENT_USER)::text = current_tenant_user_id())",
            "((true)::text = current_tenant_user_id())",
            "((data).tenant_id = current_tenant_id())",
            "((tenant_id)::app.first_letter = current_tenant_id())",
            "((tenant_id)::character varying(1) = current_setting('app.tenant'::text))",
            "(tenant_id = ALL (ARRAY[current_tenant_id()]))",
            "is_tenant_admin()",
            "CASE WHEN (tenant_id = current_tenant_id()) THEN true ELSE true END",
            "(current_tenant_id() IS NOT DISTINCT FROM tenant_id)",
            "(EXISTS ( SELECT count(*) AS count\n   FROM app.p\n  WHERE (p.t = current_tenant_id())))",
            "(EXISTS ( SELECT 1\n UNION\n SELECT 1\n   FROM app.p\n  WHERE (p.t = current_tenant_id())))",
            "(EXISTS ( SELECT\n   FROM app.p parent_1))",
            "((tenant_id = current_tenant_id()) OR (shared_with = current_tenant_user_id()))",
            "((shared_with = current_tenant_user_id()) OR (tenant_id = ANY (user_tenant_ids())))",
            "((shared_with = current_tenant_user_id()) OR (tenant_id IS NULL))",
            "(tenant_id = current_setting('app.user'::text))",
            // Of another row, whatever the tenant of this one.
            "(EXISTS ( SELECT\n   FROM app.p\n  WHERE ((p.id = t.parent) AND (p.t = current_tenant_id()))))",
            "(EXISTS ( SELECT\n   FROM app.p\n  WHERE ((p.id = t.parent) AND (p.x = t.tenant_id) AND (p.t = current_tenant_id()))))",
            "(EXISTS ( SELECT\n   FROM app.p\n  WHERE ((p.id = t.tenant_id) AND (p.t = current_tenant_id()))))",
            "(EXISTS ( SELECT\n   FROM app.p\n  WHERE ((p.id = t.parent) AND (p.owner = current_tenant_user_id()))))",
            // Of no row in particular.
            "(EXISTS ( SELECT 1\n   FROM app.p\n  WHERE (p.t = current_tenant_id())))",
            "(EXISTS ( SELECT 1\n   FROM app.p\n  WHERE ((p.status = t.status) AND (p.t = current_tenant_id()))))",
            "(EXISTS ( SELECT 1\n   FROM app.c\n  WHERE ((c.a = t.a) AND (c.t = current_tenant_id()))))",
            "(EXISTS ( SELECT 1\n   FROM app.m\n  WHERE ((m.tenant_id = t.tenant_id) AND (m.active = true))))",
            "(EXISTS ( SELECT 1\n   FROM app.m\n  WHERE ((m.tenant_id = t.tenant_id) AND (m.user_id = auth.uid()))))",
            "(EXISTS ( SELECT 1\n   FROM app.m\n  WHERE ((m.tenant_id = m.tenant_id) AND (m.user_id = current_tenant_user_id()))))",
            "(EXISTS ( SELECT 1\n   FROM app.m\n  WHERE ((m.tenant_id = t.tenant_id) OR (m.user_id = current_tenant_user_id()))))",
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
                "(parent_1.t = tenancy.current_tenant_id_required())",
                Reach::OwnTenant,
            ),
            (
                "((parent_1.t = current_tenant_id()) OR (parent_1.t = tenancy.platform_tenant_id_required()))",
                Reach::Shared,
            ),
            (
                "(EXISTS ( SELECT\n FROM app.q parent_2\n  WHERE ((parent_2.id = parent_1.q) AND (parent_2.t = current_tenant_id()))))",
                Reach::All,
            ),
            (
                "(EXISTS ( SELECT\n FROM app.q parent_2\n  WHERE ((parent_2.id = parent_1.q) AND (parent_2.t = parent_1.t) AND (parent_2.t = current_tenant_id()))))",
                Reach::OwnTenant,
            ),
            (
                "(EXISTS ( SELECT\n FROM app.q parent_2\n  WHERE ((parent_2.x = parent_1.q) AND (parent_2.t = current_tenant_id()))))",
                Reach::All,
            ),
            ("(parent_1.other = current_tenant_id())", Reach::All),
            ("(parent_1.t = parent_1.u)", Reach::All),
            ("((parent_1.t = current_tenant_id()) OR true)", Reach::All),
        ] {
            check(&child(condition), None, reach);
        }
        check(
            "(EXISTS ( SELECT\n   FROM app.r parent_1\n  WHERE ((parent_1.id = c.parent_id) AND (EXISTS ( SELECT\n FROM app.q parent_2\n  WHERE ((parent_2.id = parent_1.q) AND (parent_2.t = current_tenant_id())))))))",
            None,
            Reach::OwnTenant,
        );
        let both = "(EXISTS ( SELECT\n   FROM app.c\n  WHERE ((c.a = x.a) AND (c.b = x.b) AND (c.owner = current_tenant_user_id()))))";
        check(both, None, Reach::OwnRows);
    }

    #[test]
    fn what_is_deep_is_not_proved() {
        let thread = std::thread::Builder::new().stack_size(1024 * 1024);
        let judge = || {
            for (open, inner, close, proved) in [
                ("COALESCE(", "current_tenant_id()", ", NULL::uuid)", true),
                ("(", "current_tenant_id()", ")::uuid", true),
                (
                    "NULLIF(",
                    "current_setting('app.tenant'::text)",
                    ", ''::text)",
                    true,
                ),
                ("( SELECT ", "f()", " AS f)", false),
            ] {
                let deep = |levels: usize| {
                    format!(
                        "(tenant_id = {}{inner}{})",
                        open.repeat(levels),
                        close.repeat(levels)
                    )
                };
                check(&deep(50_000), Some("tenant_id"), Reach::All);
                if proved {
                    check(&deep(150), Some("tenant_id"), Reach::OwnTenant);
                }
            }
            let either = |levels: usize| {
                format!(
                    "{}(tenant_id = current_tenant_id()){}",
                    "(false OR (true AND ".repeat(levels),
                    "))".repeat(levels)
                )
            };
            check(&either(50_000), Some("tenant_id"), Reach::All);
            check(&either(90), Some("tenant_id"), Reach::OwnTenant);
        };
        thread
            .spawn(judge)
            .expect("a thread")
            .join()
            .expect("passes");
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
                judged(expression, Some("id")),
                Reaches {
                    ordinary,
                    super_admin
                },
                "{expression}"
            );
        }
    }
}
