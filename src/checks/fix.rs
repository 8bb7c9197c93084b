//! The statement that makes a missing row, with the key in place of `$1`.
//!
//! Pure. Must never put a key anywhere but where a value stands: inside a string or an identifier it
//! could end it, and a tenant may have chosen its own key.

/// Where `$1` stands as a value, as byte ranges.
fn places(sql: &str) -> Vec<(usize, usize)> {
    let bytes = sql.as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or_default();
    let mut found = Vec::new();
    let mut index = 0;
    while index < bytes.len() {
        match at(index) {
            b'\'' => {
                let escapes = index > 0
                    && matches!(at(index - 1), b'e' | b'E')
                    && (index < 2 || !(is_word(at(index - 2)) || at(index - 2) == b'$'));
                index = end_of_string(bytes, index, b'\'', escapes);
                // The next lines may go on with it, and are read as it is.
                while let Some(start) = continuation(bytes, index) {
                    index = end_of_string(bytes, start, b'\'', escapes);
                }
            }
            b'"' => index = end_of_string(bytes, index, b'"', false),
            b'-' if at(index + 1) == b'-' => {
                index = sql[index..]
                    .find('\n')
                    .map_or(bytes.len(), |end| index + end + 1);
            }
            b'/' if at(index + 1) == b'*' => index = end_of_comment(bytes, index),
            b'$' if at(index + 1) == b'1' && !at(index + 2).is_ascii_digit() => {
                found.push((index, index + 2));
                index += 2;
            }
            b'$' if at(index + 1).is_ascii_digit() => index += 2,
            b'$' => index = end_of_dollar_quote(sql, index),
            byte if is_word(byte) => {
                // A dollar sign within a word is part of it.
                while index < bytes.len() && (is_word(at(index)) || at(index) == b'$') {
                    index += 1;
                }
            }
            _ => index += 1,
        }
    }
    found
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn end_of_string(bytes: &[u8], start: usize, quote: u8, escapes: bool) -> usize {
    let mut index = start + 1;
    while index < bytes.len() {
        if escapes && bytes[index] == b'\\' {
            index += 2;
        } else if bytes[index] != quote {
            index += 1;
        } else if bytes.get(index + 1) == Some(&quote) {
            index += 2;
        } else {
            return index + 1;
        }
    }
    bytes.len()
}

/// Where a string constant that ended there goes on: at a quote with nothing between but white space and
/// comments, and a line's end in it.
fn continuation(bytes: &[u8], end: usize) -> Option<usize> {
    let (mut index, mut next_line) = (end, false);
    loop {
        match bytes.get(index)? {
            b'\n' | b'\r' => next_line = true,
            b' ' | b'\t' | 0x0b | 0x0c => {}
            b'\'' if next_line => return Some(index),
            b'-' if bytes.get(index + 1) == Some(&b'-') => {
                let rest = &bytes[index..];
                index += rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'))?;
                next_line = true;
            }
            _ => return None,
        }
        index += 1;
    }
}

fn end_of_comment(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut index) = (0, start);
    while index < bytes.len() {
        match bytes.get(index..index + 2) {
            Some(b"/*") => {
                depth += 1;
                index += 2;
            }
            Some(b"*/") => {
                depth -= 1;
                index += 2;
                if depth == 0 {
                    return index;
                }
            }
            _ => index += 1,
        }
    }
    bytes.len()
}

fn end_of_dollar_quote(sql: &str, start: usize) -> usize {
    let rest = &sql[start + 1..];
    let tag = rest.bytes().take_while(|byte| is_word(*byte)).count();
    if rest.as_bytes().get(tag) != Some(&b'$') {
        return start + 1;
    }
    let delimiter = &sql[start..start + tag + 2];
    let body = start + delimiter.len();
    sql[body..]
        .find(delimiter)
        .map_or(sql.len(), |end| body + end + delimiter.len())
}

/// Whether the key stands anywhere.
pub fn takes_key(sql: &str) -> bool {
    !places(sql).is_empty()
}

/// The statement with that literal in place of `$1`.
pub fn with_key(sql: &str, literal: &str) -> String {
    let mut text = String::with_capacity(sql.len() + literal.len());
    let mut from = 0;
    for (start, end) in places(sql) {
        text.push_str(&sql[from..start]);
        text.push_str(literal);
        from = end;
    }
    text.push_str(&sql[from..]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_takes_the_place_of_values() {
        assert_eq!(
            with_key("INSERT INTO t VALUES ($1, $10, $1)", "'k'"),
            "INSERT INTO t VALUES ('k', $10, 'k')"
        );
        assert_eq!(with_key("SELECT f($1::uuid)", "'k'"), "SELECT f('k'::uuid)");
    }

    #[test]
    fn strings_identifiers_and_comments_are_left_alone() {
        for sql in [
            "SELECT 'a $1 b'",
            "SELECT 'it''s $1'",
            "SELECT E'a\\' $1'",
            "SELECT \"$1\"",
            "SELECT $$ $1 $$",
            "SELECT $tag$ $$ $1 $tag$",
            "SELECT 1 -- $1",
            "SELECT 1 /* /* $1 */ $1 */",
            "SELECT a$1",
            "SELECT 'open $1",
            "SELECT E'a'\n  'b\\' $1'",
            "SELECT E'a' \n -- it''s $1\n 'b\\' $1'",
            "SELECT 'a'\n'b $1'",
            "SELECT E'a' -- it''s $1\n 'b\\' $1'",
            "SELECT 'a' -- b\n -- c\n'd $1'",
            "SELECT $$ $1",
        ] {
            assert!(!takes_key(sql), "{sql}");
        }
        // A backslash escapes only where the string says so.
        assert!(takes_key("SELECT 'a\\', $1"));
        assert!(takes_key("SELECT 'a' -- b\n, $1"));
        assert!(takes_key("SELECT 'a'\n'b\\', $1"));
        assert!(takes_key("SELECT 'a' -- b\n'c\\', $1"));
        assert!(takes_key("SELECT E'a' - 1\n, 'c\\', $1"));
        assert!(takes_key("SELECT E'a' AS b, 'c\\', $1"));
        assert!(takes_key("SELECT a$e 'b\\', a$e'b\\', $1"));
    }

    #[test]
    fn a_key_is_not_looked_into() {
        assert_eq!(with_key("SELECT $1, 'x'", "'$1'"), "SELECT '$1', 'x'");
    }
}
