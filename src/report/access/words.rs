//! What a piece of a deparsed expression is: a call, a name, a cast.
//!
//! Pure.

use crate::validate::expression::operands;

/// Whether it is a call of one of the extension's functions that name the user.
pub fn is_call_of_user(text: &str) -> bool {
    is_call(
        uncast(text),
        &[
            "current_tenant_user_id",
            "current_user_id_uuid_required",
            "current_user_id_text_required",
            "current_user_id_bigint_required",
        ],
    )
}

/// Whether it is a call without arguments of one of these functions of the extension, in whatever
/// schema: their own or the one that applications see.
pub fn is_call(text: &str, names: &[&str]) -> bool {
    text.strip_suffix("()").is_some_and(|called| {
        let name = called.rsplit('.').next().unwrap_or(called);
        names.contains(&name)
    })
}

/// Whether a function is called: Postgres puts a space before every other bracket.
pub fn has_call(text: &str) -> bool {
    text.match_indices('(').any(|(at, _)| {
        text[..at].ends_with(|before: char| is_part_of_a_word(before) || before == '"')
    }) || ["CURRENT_USER", "SESSION_USER"]
        .iter()
        .any(|asked| text.contains(asked))
}

/// Without parentheses and casts around it.
pub fn uncast(text: &str) -> &str {
    let mut inner = text.trim();
    loop {
        let stripped = operands(inner, "::")[0];
        if stripped == inner {
            return inner;
        }
        inner = stripped;
    }
}

/// Whether it is the name of a column, quoted or not, with or without its table.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|first: char| first.is_ascii_digit() || first == '\'')
        && operands(text, ".").into_iter().all(|part| {
            (part.len() > 2 && part.starts_with('"') && part.ends_with('"'))
                || part
                    .chars()
                    .all(|c| c.is_alphanumeric() || c == '_' || c == '$')
        })
}

/// Whether the name occurs, and not as a part of another.
pub fn mentions(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, found)| {
        !text[..at].ends_with(is_part_of_a_word)
            && !text[at + found.len()..].starts_with(is_part_of_a_word)
    })
}

/// What names are made of.
pub fn is_part_of_a_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}
