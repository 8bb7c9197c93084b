//! Whose the tenants are that a tenant column is compared with.
//!
//! Pure. A function of whoever wrote the policy may return any tenant, whatever it is called: it is never
//! anybody's own.

use super::reach::{Known, Reach};
use crate::validate::expression::{arguments_of, operands, without_parentheses};
use crate::validate::query::Simple;
use crate::validate::words::{
    column, equation, is_call, is_call_of_user, is_constant, is_setting, selected, uncast,
};

const OF_TENANT: &[&str] = &[
    "current_tenant_id",
    "current_tenant_id_text",
    "current_tenant_id_bigint",
    "current_tenant_id_required",
    "current_tenant_id_text_required",
    "current_tenant_id_bigint_required",
];
const OF_PLATFORM: &[&str] = &[
    "platform_tenant_id_required",
    "platform_tenant_id_text_required",
    "platform_tenant_id_bigint_required",
];
const OF_MEMBERSHIPS: &[&str] = &[
    "user_tenant_ids",
    "user_tenant_ids_text",
    "user_tenant_ids_required",
    "user_tenant_ids_text_required",
    "user_tenant_ids_bigint_required",
];

/// One value.
pub fn of(value: &str, known: Known<'_>) -> Reach {
    let value = uncast(value);
    let inner = selected(value);
    if is_call(inner, OF_TENANT) || is_setting(inner, known.tenant_settings) {
        return Reach::OwnTenant;
    }
    if is_call(inner, OF_PLATFORM) || is_constant(inner) {
        return Reach::Shared;
    }
    if is_call_of_user(inner) {
        return Reach::OwnRows;
    }
    if operands(inner, "::")[0] == "NULL" {
        return Reach::Nothing;
    }
    if let Some(arguments) = arguments_of(inner, "NULLIF") {
        return of(arguments[0], known);
    }
    if let Some(arguments) = arguments_of(inner, "COALESCE") {
        return furthest(arguments, known);
    }
    of_query(value, known)
}

/// An array of which any will do.
pub fn of_array(array: &str, known: Known<'_>) -> Reach {
    let array = selected(uncast(array));
    if is_call(array, OF_MEMBERSHIPS) {
        return Reach::OwnTenants;
    }
    if is_constant(array) {
        return Reach::Shared;
    }
    match array.strip_prefix("ARRAY") {
        Some(query) if query.starts_with('(') => of_list(query, known),
        Some(list) => match list
            .strip_prefix('[')
            .and_then(|list| list.strip_suffix(']'))
        {
            Some(elements) => furthest(operands(elements, ", "), known),
            None => Reach::All,
        },
        None => Reach::All,
    }
}

/// The rows of a sub-select.
pub fn of_list(query: &str, known: Known<'_>) -> Reach {
    let query = without_parentheses(query);
    let listed = selected(query);
    if listed != query {
        return match arguments_of(listed, "unnest") {
            Some(arguments) => of_array(arguments[0], known),
            None => of(listed, known),
        };
    }
    of_query(query, known)
}

/// What a table has for the context: a column that is compared with it, or tenants of its user.
fn of_query(query: &str, known: Known<'_>) -> Reach {
    let Some(query) = Simple::parse(query) else {
        return Reach::All;
    };
    let listed = operands(query.list, " AS ")[0];
    if column(uncast(listed)).is_none_or(|(table, _)| table != query.alias) {
        return Reach::All;
    }
    let compared = query.conditions.iter().filter_map(|condition| {
        let (left, right) = equation(condition)?;
        match (left == listed, right == listed) {
            (true, false) => Some(of(right, known)),
            (false, true) => Some(of(left, known)),
            _ => None,
        }
    });
    let by_user = query
        .asks(|value| known.is_user(value))
        .then_some(Reach::OwnTenants);
    compared.chain(by_user).min().unwrap_or(Reach::All)
}

fn furthest(values: Vec<&str>, known: Known<'_>) -> Reach {
    values
        .into_iter()
        .map(|value| of(value, known))
        .reduce(Reach::union)
        .unwrap_or(Reach::All)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Reach {
        with_settings(|known| super::of(value, known))
    }

    fn of_array(array: &str) -> Reach {
        with_settings(|known| super::of_array(array, known))
    }

    fn of_list(query: &str) -> Reach {
        with_settings(|known| super::of_list(query, known))
    }

    fn with_settings(judge: impl Fn(Known<'_>) -> Reach) -> Reach {
        let owned =
            |names: &[&str]| -> Vec<String> { names.iter().map(|&name| name.into()).collect() };
        judge(Known {
            tenant_settings: &owned(&[
                "app.tenant",
                "request.jwt.claims tenant_id",
                "request.jwt.claims app_metadata.org.id",
            ]),
            user_settings: &owned(&["app.current_user_id", "request.jwt.claims sub"]),
            ..Known::default()
        })
    }

    #[test]
    fn values_of_the_context() {
        use Reach::{Nothing, OwnRows, OwnTenant, OwnTenants, Shared};
        for (value, reach) in [
            (
                "( SELECT s.current_tenant_id() AS current_tenant_id)",
                OwnTenant,
            ),
            ("(current_setting('app.tenant'::text))::uuid", OwnTenant),
            (
                "(NULLIF(current_setting('app.tenant'::text, true), ''::text))::uuid",
                OwnTenant,
            ),
            (
                "(((current_setting('request.jwt.claims'::text, true))::jsonb ->> 'tenant_id'::text))::uuid",
                OwnTenant,
            ),
            (
                "(((((current_setting('request.jwt.claims'::text, true))::jsonb -> 'app_metadata'::text) -> 'org'::text) ->> 'id'::text))::uuid",
                OwnTenant,
            ),
            (
                "(((current_setting('request.jwt.claims'::text, true))::json #>> '{app_metadata,org,id}'::text[]))::uuid",
                OwnTenant,
            ),
            ("COALESCE(current_tenant_id(), NULL::uuid)", OwnTenant),
            ("COALESCE(NULL::uuid, current_tenant_user_id())", OwnRows),
            (
                "COALESCE(current_tenant_id(), '00000000-0000-0000-0000-000000000001'::uuid)",
                Shared,
            ),
            ("'00000000-0000-0000-0000-000000000001'::uuid", Shared),
            ("'a'::app.tenant", Shared),
            ("7", Shared),
            ("NULL::uuid", Nothing),
            ("tenancy.current_user_id_uuid_required()", OwnRows),
            (
                "( SELECT m.t\n   FROM app.m\n  WHERE ((m.t = current_tenant_id()) AND (m.a = 1)))",
                OwnTenant,
            ),
            (
                "( SELECT m.t\n   FROM app.m\n  WHERE (m.u = ( SELECT current_tenant_user_id() AS current_tenant_user_id)))",
                OwnTenants,
            ),
            (
                "( SELECT m.t\n   FROM app.m\n  WHERE ((m.u)::text = current_setting('app.current_user_id'::text)))",
                OwnTenants,
            ),
        ] {
            assert_eq!(of(value), reach, "{value}");
        }
        for (array, reach) in [
            ("(user_tenant_ids())", OwnTenants),
            (
                "(( SELECT user_tenant_ids() AS user_tenant_ids)::uuid[])",
                OwnTenants,
            ),
            ("(ARRAY[current_tenant_id()])", OwnTenant),
            (
                "(ARRAY[current_tenant_id(), tenancy.platform_tenant_id_required()])",
                Shared,
            ),
            ("(ARRAY[1, 2])", Shared),
            ("('{1,2}'::integer[])", Shared),
            (
                "(ARRAY( SELECT unnest(user_tenant_ids()) AS unnest))",
                OwnTenants,
            ),
        ] {
            assert_eq!(of_array(array), reach, "{array}");
        }
        assert_eq!(
            of_list("( SELECT unnest(user_tenant_ids()) AS unnest)"),
            OwnTenants
        );
        assert_eq!(
            of_list("( SELECT current_tenant_id() AS current_tenant_id)"),
            OwnTenant
        );
    }

    #[test]
    fn values_of_anybody() {
        for value in [
            "app.my_tenant()",
            "app.current_tenant_id(tenant_id)",
            "app.current_setting('app.tenant'::text)",
            "current_setting(name)",
            "current_setting('application_name'::text)",
            "current_setting('app.tenants'::text, true)",
            "current_setting('app.current_user_id'::text, true)",
            "current_setting(E'app.tenant'::text)",
            "((current_setting('app.tenant'::text))::jsonb ->> 'tenant_id'::text)",
            "current_setting('request.jwt.claims'::text)",
            "((current_setting('request.jwt.claims'::text))::jsonb ->> 'sub'::text)",
            "(((current_setting('request.jwt.claims'::text))::jsonb -> 'user_metadata'::text) ->> 'tenant_id'::text)",
            "((current_setting('request.jwt.claims'::text))::jsonb ->> tenant_id)",
            "((current_setting('request.jwt.claims'::text))::jsonb #>> '{app_metadata,org}'::text[])",
            "COALESCE(current_tenant_id(), current_tenant_user_id())",
            "( SELECT m.t\n   FROM app.m\n  WHERE ((m.u)::text = current_setting('app.me'::text)))",
            "COALESCE(current_tenant_id(), tenant_id)",
            "COALESCE(current_tenant_id(), other_id)",
            "COALESCE(current_tenant_id(), app.any())",
            "CASE WHEN admin THEN tenant_id ELSE current_tenant_id() END",
            "GREATEST(current_tenant_id(), tenant_id)",
            "'a'::text || current_tenant_id_text()",
            "'a'::text COLLATE app.all_alike",
            "(current_setting('app.tenant'::text))::character varying(1)",
            "( SELECT m.t\n   FROM app.m)",
            "( SELECT m.t\n   FROM app.m\n  WHERE (m.u = app.me()))",
            "( SELECT m.t\n   FROM app.m\n  WHERE (m.parent = current_tenant_id()))",
            "( SELECT m.t\n   FROM app.m\n  WHERE (x.u = current_tenant_user_id()))",
            "( SELECT x.t\n   FROM app.m\n  WHERE (m.u = current_tenant_user_id()))",
            "( SELECT current_tenant_id() AS current_tenant_id\nUNION\n SELECT x.id\n   FROM app.x\n  WHERE (x.u = current_tenant_user_id()))",
            "tenant_id",
            "",
        ] {
            assert_eq!(of(value), Reach::All, "{value}");
        }
        for array in [
            "(app.f())",
            "(ARRAY[current_tenant_id(), current_tenant_user_id()])",
            "(app.f(user_tenant_ids()))",
            "(array_append(user_tenant_ids(), tenant_id))",
            "(user_tenant_ids() || tenant_id)",
            "(ARRAY[current_tenant_id(), tenant_id])",
            "(ARRAY( SELECT x.id\n   FROM app.x))",
            "(string_to_array(current_setting('app.tenants'::text), ','::text))",
        ] {
            assert_eq!(of_array(array), Reach::All, "{array}");
        }
        assert_eq!(of_list("( SELECT app.f() AS f)"), Reach::All);
        assert_eq!(of_list("( VALUES (current_tenant_id()), (x))"), Reach::All);
    }
}
