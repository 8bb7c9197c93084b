//! What a piece of a deparsed expression is: a call, a name, a cast.
//!
//! Pure. Must never take a cast for harmless that lets two values become the same one.

use crate::validate::expression::{operands, without_parentheses};

/// Types between which a value stays as different from others as it was, or is an error. A length, or a
/// type of whoever wrote the policy, may cut it.
const FAITHFUL: &[&str] = &[
    "uuid",
    "text",
    "character varying",
    "bigint",
    "integer",
    "smallint",
    "numeric",
    "json",
    "jsonb",
];

/// Whether it is a call of one of the extension's functions that name the user, or of a sub-select of
/// nothing else.
pub fn is_call_of_user(text: &str) -> bool {
    is_call(
        selected(uncast(text)),
        &[
            "current_tenant_user_id",
            "current_user_id_uuid_required",
            "current_user_id_text_required",
            "current_user_id_bigint_required",
        ],
    )
}

/// Whether it is a call without arguments of one of these functions of the extension, in whatever
/// schema; that none of others has such a name is for `sql/91_access_matrix.sql` to see.
pub fn is_call(text: &str, names: &[&str]) -> bool {
    text.strip_suffix("()").is_some_and(|called| {
        is_name(called)
            && operands(called, ".")
                .pop()
                .is_some_and(|name| names.contains(&name))
    })
}

/// The arguments of a call of that built-in function, where the text is one and nothing else.
pub fn arguments_of<'a>(text: &'a str, function: &str) -> Option<Vec<&'a str>> {
    let arguments = text.strip_prefix(function)?;
    let inner = without_parentheses(arguments);
    (arguments.starts_with('(') && inner.len() < arguments.len()).then(|| operands(inner, ", "))
}

/// What a sub-select of one value and of no table selects; else the text itself.
pub fn selected(text: &str) -> &str {
    let Some(list) = text.strip_prefix("SELECT ") else {
        return text;
    };
    if ["\n", ", "]
        .iter()
        .any(|more| operands(list, more).len() > 1)
    {
        return text;
    }
    uncast(operands(list, " AS ")[0])
}

/// Whether it reads one of these settings: `name`, or `name claim` for a field of a document, which may be
/// a path of fields with dots between.
pub fn is_setting(text: &str, settings: &[String]) -> bool {
    let Some((name, fields)) = setting(text) else {
        return false;
    };
    settings.iter().any(|known| match known.split_once(' ') {
        None => fields.is_empty() && known == name,
        Some((document, claim)) => {
            document == name && (fields == [claim] || claim.split('.').eq(fields.iter().copied()))
        }
    })
}

/// The setting that it reads, and which field of that.
fn setting(text: &str) -> Option<(&str, Vec<&str>)> {
    let value = selected(uncast(text));
    if let Some(arguments) = arguments_of(value, "NULLIF") {
        return setting(arguments[0]);
    }
    for operator in [" ->> ", " -> ", " #>> "] {
        if let [document, field] = operands(value, operator)[..] {
            let (name, mut fields) = setting(document)?;
            let field = literal(field)?;
            match operator {
                " #>> " => fields.extend(field.strip_prefix('{')?.strip_suffix('}')?.split(',')),
                _ => fields.push(field),
            }
            return Some((name, fields));
        }
    }
    match arguments_of(value, "current_setting")?[..] {
        [name] | [name, "true" | "false"] => Some((literal(name)?, Vec::new())),
        _ => None,
    }
}

/// The text of a literal that has no quote, and nothing with a meaning, in it.
fn literal(text: &str) -> Option<&str> {
    let text = uncast(text).strip_prefix('\'')?.strip_suffix('\'')?;
    (!text.contains(['\'', '"', '\\'])).then_some(text)
}

/// Whether it is a literal, with a cast or without.
pub fn is_constant(text: &str) -> bool {
    let [value, types @ ..] = &operands(text, "::")[..] else {
        return false;
    };
    let is_type = |named: &&str| {
        let name = named.trim_end_matches("[]");
        FAITHFUL.contains(&name) || is_name(name)
    };
    let digits = |value: &str| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    types.iter().all(is_type) && (is_string(value) || digits(value.trim_start_matches('-')))
}

/// Whether it is a string constant and nothing else.
fn is_string(value: &str) -> bool {
    let quoted = value.strip_prefix('E').unwrap_or(value);
    quoted.len() > 1
        && quoted.starts_with('\'')
        && quoted.ends_with('\'')
        && operands(value, " ").len() == 1
}

/// Without parentheses, and without casts that keep values apart.
pub fn uncast(text: &str) -> &str {
    let mut inner = without_parentheses(text);
    while let [value, types @ ..] = &operands(inner, "::")[..]
        && !types.is_empty()
        && types
            .iter()
            .all(|named| FAITHFUL.contains(&named.trim_end_matches("[]")))
    {
        inner = value;
    }
    inner
}

/// Whether it is the name of a column, quoted or not, with or without its table. `CURRENT_USER`, `true` and
/// their like are none: a column that is called so stands in quotes.
pub fn is_name(text: &str) -> bool {
    !["true", "false"].contains(&text)
        && !text.starts_with(|first: char| first.is_ascii_digit())
        && operands(text, ".").into_iter().all(|part| {
            (part.len() > 2 && part.starts_with('"') && part.ends_with('"'))
                || (!part.is_empty()
                    && part
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'))
        })
}

/// A column's table or alias, and its name.
pub fn column(text: &str) -> Option<(&str, &str)> {
    match operands(text, ".")[..] {
        [table, name] if is_name(text) => Some((table, name)),
        _ => None,
    }
}

/// The sides of an equation.
pub fn equation(text: &str) -> Option<(&str, &str)> {
    match operands(text, " = ")[..] {
        [left, right] => Some((left, right)),
        _ => None,
    }
}
