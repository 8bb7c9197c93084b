//! What a piece of a deparsed expression is: a call, a name, a cast.
//!
//! Pure. Must never take a cast for harmless that lets two values become the same one.

use super::expression::{arguments_of, depths, operands, sides, without_parentheses};

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

/// Functions of the extension that are true for a super admin only.
pub const SUPER_ADMINS: &[&str] = &[
    "is_super_admin",
    "is_super_admin_required",
    "is_super_admin_or_not",
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
    sides(text, " = ")
}

/// The function that is called, and its arguments, where the text is a call and nothing else.
pub fn call(text: &str) -> Option<(&str, Vec<&str>)> {
    let function = &text[..text.find('(')?];
    let arguments = arguments_of(text, function)?;
    let is_function = is_name(function) || ["COALESCE", "NULLIF"].contains(&function);
    is_function.then(|| match arguments[..] {
        [""] => (function, Vec::new()),
        _ => (function, arguments),
    })
}

/// Whether the text is that column of the row, whatever it is cast to. The name is not quoted.
pub fn is_column(text: &str, column: &str) -> bool {
    let mut inner = without_parentheses(text);
    while let [value, _, ..] = operands(inner, "::")[..] {
        inner = value;
    }
    inner == column || inner == quoted(column)
}

/// Where the text names that column, or whatever else is called so: the table that it says, if any. A
/// function, a table before a dot and what a sub-select calls its column are none.
pub fn mentions<'a>(text: &'a str, column: &str) -> Vec<Option<&'a str>> {
    [column, &quoted(column)]
        .into_iter()
        .flat_map(|name| words(text, name))
        .filter_map(|position| {
            let before = &text[..position];
            match before.strip_suffix('.') {
                _ if before.ends_with("AS ") => None,
                None => Some(None),
                Some(table) => Some(table.rsplit(|c| !is_of_word(c) && c != '"').next()),
            }
        })
        .collect()
}

/// Whether that keyword stands in the text, outside of quotes.
pub fn has_keyword(text: &str, keyword: &str) -> bool {
    words(text, keyword).next().is_some()
}

/// Where a word stands that is no part of another, and neither a function nor before a dot.
fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> {
    depths(text)
        .map(|(position, _)| position)
        .filter(move |&position| {
            text[position..].strip_prefix(word).is_some_and(|rest| {
                !rest.starts_with(|c| is_of_word(c) || c == '(' || c == '.')
                    && !text[..position].ends_with(is_of_word)
            })
        })
}

fn is_of_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_' || character == '$'
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
