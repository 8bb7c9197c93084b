//! The text of a statement without the values in it.
//!
//! Owns the text that records carry. Must never let a constant through: where the text cannot be read it is
//! left out. Read by Postgres's own scanner, as pg_stat_statements does.

use std::ffi::{CStr, CString};

use pgrx::prelude::*;

/// Values that follow each other count as one, so that lists of any length make one text.
const MORE: &str = ", ...";

/// Kinds of words, as numbered by this Postgres.
struct Kinds {
    constants: [i32; 6],
    parameter: i32,
}

/// A statement without its values; empty where it cannot be read.
pub fn normalise(query: &str) -> String {
    let Ok(text) = CString::new(query) else {
        return String::new();
    };
    PgTryBuilder::new(|| {
        // SAFETY: a valid string; what the scanner allocates goes away with its memory context.
        unsafe {
            let memory = pg_sys::AllocSetContextCreateExtended(
                pg_sys::CurrentMemoryContext,
                c"pg_tenancy statement text".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            );
            let outer = pg_sys::MemoryContextSwitchTo(memory);
            let result = join(&words(&text));
            pg_sys::MemoryContextSwitchTo(outer);
            pg_sys::MemoryContextDelete(memory);
            result
        }
    })
    // It was read once, when it was run; a part of it alone may be another matter.
    .catch_others(|_| String::new())
    .execute()
}

/// A word of a statement, and whether white space or a comment stands before it.
#[derive(Debug, PartialEq, Eq)]
enum Word<'a> {
    Constant,
    Parameter(&'a str),
    Other(&'a str),
}

/// Puts words together again, with a space where there was something between them.
fn join(words: &[(bool, Word<'_>)]) -> String {
    let highest = words
        .iter()
        .filter_map(|(_, word)| match word {
            Word::Parameter(text) => text.strip_prefix('$')?.parse::<u32>().ok(),
            _ => None,
        })
        .max()
        .unwrap_or(0);
    let mut number = highest;
    let mut text = String::new();
    let mut index = 0;
    while index < words.len() {
        let (is_apart, word) = &words[index];
        if *is_apart && !text.is_empty() {
            text.push(' ');
        }
        match word {
            Word::Constant => {
                number = number.saturating_add(1);
                text.push_str(&format!("${number}"));
                let mut last = index;
                while matches!(words.get(last + 1), Some((_, Word::Other(","))))
                    && matches!(words.get(last + 2), Some((_, Word::Constant)))
                {
                    last += 2;
                }
                if last > index {
                    text.push_str(MORE);
                    index = last;
                }
            }
            Word::Parameter(word) | Word::Other(word) => text.push_str(word),
        }
        index += 1;
    }
    text
}

unsafe fn words(text: &CStr) -> Vec<(bool, Word<'_>)> {
    // SAFETY: a valid string.
    unsafe {
        let kinds = kinds();
        let mut words = Vec::new();
        let mut end = 0;
        scan(text, |kind, start, length| {
            let word = text
                .to_bytes()
                .get(start..start + length)
                .and_then(|word| std::str::from_utf8(word).ok())
                .unwrap_or("?");
            let word = if kinds.constants.contains(&kind) {
                Word::Constant
            } else if kind == kinds.parameter {
                Word::Parameter(word)
            } else {
                Word::Other(word)
            };
            words.push((start > end, word));
            end = start + length;
        });
        words
    }
}

/// Finds out how this Postgres numbers kinds of words: the numbers differ between versions.
unsafe fn kinds() -> Kinds {
    let kind = |text: &CStr| {
        let mut found = 0;
        // SAFETY: a valid string.
        unsafe { scan(text, |kind, _, _| found = kind) };
        found
    };
    Kinds {
        constants: [c"1", c"1.5", c"'a'", c"B'1'", c"X'1'", c"U&'a'"].map(kind),
        parameter: kind(c"$1"),
    }
}

unsafe fn scan(text: &CStr, mut each: impl FnMut(i32, usize, usize)) {
    // SAFETY: the scanner works on a copy of the string and ends it after each word, as
    // pg_stat_statements relies on too.
    unsafe {
        let mut extra = pg_sys::core_yy_extra_type::default();
        let scanner = pg_sys::scanner_init(
            text.as_ptr(),
            &mut extra,
            &raw const pg_sys::ScanKeywords,
            (&raw const pg_sys::ScanKeywordTokens).cast(),
        );
        // A warning about backslashes was given when the statement was read.
        extra.escape_string_warning = false;
        loop {
            let mut value = pg_sys::core_YYSTYPE::default();
            let mut location = 0;
            let kind = pg_sys::core_yylex(&mut value, &mut location, scanner);
            let Ok(location) = usize::try_from(location) else {
                break;
            };
            if kind == 0 {
                break;
            }
            let length = CStr::from_ptr(extra.scanbuf.add(location)).to_bytes().len();
            each(kind, location, length);
        }
        pg_sys::scanner_finish(scanner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(text: &str) -> (bool, Word<'_>) {
        (true, Word::Other(text))
    }

    #[test]
    fn constants_are_numbered_after_parameters() {
        let words = [
            other("SELECT"),
            (true, Word::Constant),
            (false, Word::Other(",")),
            (true, Word::Parameter("$2")),
        ];
        assert_eq!(join(&words), "SELECT $3, $2");
    }

    #[test]
    fn lists_of_any_length_are_one_text() {
        let list = |length: usize| {
            let mut words = vec![other("IN"), other("(")];
            for index in 0..length {
                if index > 0 {
                    words.push((false, Word::Other(",")));
                }
                words.push((true, Word::Constant));
            }
            words.push((false, Word::Other(")")));
            join(&words)
        };
        assert_eq!(list(2), "IN ( $1, ...)");
        assert_eq!(list(2), list(200));
        assert_eq!(list(1), "IN ( $1)");
    }
}
