//! What the source of a function names that it writes, and what it calls.
//!
//! Pure. Strings are read as statements where the source runs such. Must never take a table that is only read,
//! or a word of a comment or of a message, for one that is written.

use super::tokens::{Token, tokens};

/// Strings within strings that are read as statements.
const DEEPEST: usize = 3;

/// A name with its schema, where that is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub schema: Option<String>,
    pub name: String,
}

/// What is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// A relation of that name.
    Relation(Named),
    /// The table that the trigger is on, by a name that is made as it runs.
    OwnTable,
}

/// Relations that a source writes.
pub fn written(source: &str) -> Vec<Written> {
    let all = tokens(source);
    let runs_strings = all.iter().any(|token| token.is("execute"));
    let mut found = Vec::new();
    for statement in all.split(|token| *token == Token::Sign(';')) {
        let mut by_statement = Vec::new();
        let strings = runs_strings.then_some(DEEPEST);
        collect(statement, strings, None, &mut by_statement);
        if !names_own_table(statement) {
            by_statement.retain(|one| *one != Written::OwnTable);
        }
        found.append(&mut by_statement);
    }
    found
}

/// Functions that a source calls.
pub fn called(source: &str) -> Vec<Named> {
    let all = tokens(source);
    (0..all.len())
        .filter(|&start| {
            let before = start.checked_sub(1).map(|before| &all[before]);
            let is_first = before != Some(&Token::Sign('.'));
            let is_relation = ["into", "update", "table", "only", "function"]
                .iter()
                .any(|word| before.is_some_and(|token| token.is(word)));
            is_first && !is_relation
        })
        .filter_map(|start| {
            let (named, end) = chain(&all, start)?;
            (all.get(end) == Some(&Token::Sign('('))).then_some(named)
        })
        .collect()
}

/// `strings` are read so many levels deep, if at all; `within` is the one that this is.
fn collect(all: &[Token], strings: Option<usize>, within: Option<&str>, found: &mut Vec<Written>) {
    let mut in_message = false;
    let mut done = 0;
    for (place, token) in all.iter().enumerate() {
        match token {
            // A part of what was read, whatever it is called.
            _ if place < done => {}
            Token::Word(word) if word == "raise" => in_message = true,
            Token::Sign(';') => in_message = false,
            Token::Text(text) if !in_message => {
                if let Some(levels) = strings.and_then(|levels| levels.checked_sub(1)) {
                    collect(&tokens(text), Some(levels), Some(text), found);
                }
            }
            Token::Word(_) => {
                if let Some(target) = target(all, place) {
                    done = relations(all, target, within, found);
                }
            }
            _ => {}
        }
    }
}

/// Where the relation stands that a statement writes which has this word.
fn target(all: &[Token], place: usize) -> Option<usize> {
    let before = |words: &[&str]| {
        place
            .checked_sub(1)
            .is_some_and(|before| words.iter().any(|word| all[before].is(word)))
    };
    let Token::Word(word) = &all[place] else {
        return None;
    };
    let is_write = match word.as_str() {
        "into" => before(&["insert", "merge"]),
        "from" => before(&["delete"]),
        "update" => !before(&["for", "key"]),
        "truncate" => true,
        _ => false,
    };
    let mut next = place + 1;
    if word == "truncate" && all.get(next).is_some_and(|token| token.is("table")) {
        next += 1;
    }
    is_write.then_some(next)
}

/// Finds the relation that stands there, or several between commas, and returns where they end. In a string, it may
/// be put there later.
fn relations(
    all: &[Token],
    mut next: usize,
    within: Option<&str>,
    found: &mut Vec<Written>,
) -> usize {
    loop {
        if all.get(next).is_some_and(|token| token.is("only")) {
            next += 1;
            if all.get(next) == Some(&Token::Sign('(')) {
                next += 1;
            }
        }
        let is_open = within.is_some_and(|text| match all.get(next) {
            None => text.ends_with(char::is_whitespace),
            Some(token) => *token == Token::Operator("%".to_owned()),
        });
        if is_open {
            found.push(Written::OwnTable);
        }
        let Some((named, end)) = chain(all, next) else {
            return next;
        };
        found.push(Written::Relation(named));
        if all.get(end) != Some(&Token::Sign(',')) {
            return end;
        }
        next = end + 1;
    }
}

/// The name that begins there, whole, and what comes after it.
fn chain(all: &[Token], start: usize) -> Option<(Named, usize)> {
    let mut parts = Vec::new();
    let mut next = start;
    loop {
        parts.push(match all.get(next)? {
            Token::Word(word) if !is_keyword(word) => word.clone(),
            Token::Name(name) => name.clone(),
            _ => return None,
        });
        next += 1;
        if all.get(next) != Some(&Token::Sign('.')) {
            break;
        }
        next += 1;
    }
    let name = parts.pop()?;
    let named = Named {
        schema: parts.pop(),
        name,
    };
    Some((named, next))
}

/// Words that may stand where a name is looked for, and are none.
fn is_keyword(word: &str) -> bool {
    [
        "set", "on", "of", "or", "then", "and", "select", "only", "values",
    ]
    .contains(&word)
}

/// Whether the statement takes the name of the trigger's table as it is: neither as a part of another, nor to
/// compare it.
fn names_own_table(statement: &[Token]) -> bool {
    statement.iter().enumerate().any(|(place, token)| {
        let is_own = ["tg_table_name", "tg_relname", "tg_relid"]
            .iter()
            .any(|name| token.is(name));
        is_own
            && match statement.get(place + 1) {
                Some(Token::Operator(operator)) => {
                    operator == "||"
                        && matches!(statement.get(place + 2),
                                    Some(Token::Text(text)) if text.starts_with([' ', '\n', '"']))
                }
                _ => true,
            }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(source: &str) -> String {
        let of = |one: Written| match one {
            Written::OwnTable => "*".to_owned(),
            Written::Relation(named) => match named.schema {
                Some(schema) => format!("{schema}/{}", named.name),
                None => named.name,
            },
        };
        let all: Vec<_> = written(source).into_iter().map(of).collect();
        all.join(" ")
    }

    #[test]
    fn relations_that_are_written() {
        for (source, expected) in [
            ("INSERT INTO app.t VALUES (1);", "app/t"),
            ("insert /* x */ into \"A b\" . \"T\"(id) select 1", "A b/T"),
            ("UPDATE ONLY t SET a = 1; UPDATE ONLY (u) SET a = 1", "t u"),
            (
                "DELETE FROM a.t USING b.u; MERGE INTO db.a.v USING t ON true",
                "a/t a/v",
            ),
            ("TRUNCATE TABLE t, ONLY app.u CASCADE", "t app/u"),
            (
                "WITH x AS (INSERT INTO t SELECT * FROM u RETURNING *) SELECT 1",
                "t",
            ),
            ("IF new.x THEN UPDATE t SET a = 1; END IF", "t"),
            ("EXECUTE 'UPDATE app.t SET a = ''x'''", "app/t"),
            ("q := $q$DELETE FROM t$q$; EXECUTE q", "t"),
            // The table of the trigger.
            (
                "EXECUTE format('INSERT INTO %I.%I SELECT ($1).*', TG_TABLE_SCHEMA, TG_TABLE_NAME) USING NEW",
                "*",
            ),
            (
                "EXECUTE 'UPDATE ' || TG_RELID::regclass || ' SET a = 1'",
                "*",
            ),
            (
                "EXECUTE 'DELETE FROM ' || TG_TABLE_NAME || ' WHERE true'",
                "*",
            ),
        ] {
            assert_eq!(names(source), expected, "{source}");
        }
    }

    #[test]
    fn relations_that_are_not() {
        for source in [
            "SELECT a INTO b FROM app.t; SELECT 1 FROM t FOR UPDATE; SELECT 1 FROM t FOR NO KEY UPDATE OF t",
            "-- UPDATE t SET a = 1\nRETURN NEW",
            "/* INSERT INTO t */ RETURN NEW",
            "RAISE EXCEPTION 'may not update t'; EXECUTE x",
            "NEW.note := 'update t set a = 1'",
            "IF TG_OP = 'UPDATE' OR TG_OP IN ('INSERT', 'DELETE') THEN RETURN NEW; END IF",
            "EXECUTE format('INSERT INTO audit.%I SELECT 1', TG_TABLE_NAME)",
            "EXECUTE format('INSERT INTO %I SELECT 1', TG_TABLE_NAME || '_log')",
            "EXECUTE format('INSERT INTO %I SELECT 1', TG_ARGV[0])",
            "EXECUTE format('SELECT 1 FROM %I', TG_TABLE_NAME)",
            "IF TG_OP = 'UPDATE' THEN EXECUTE format('INSERT INTO audit.%I SELECT 1', TG_TABLE_NAME); END IF",
            "RAISE NOTICE '%', TG_TABLE_NAME; EXECUTE format('INSERT INTO %I SELECT 1', x)",
            "IF TG_TABLE_NAME = 'x' THEN EXECUTE format('INSERT INTO %I SELECT 1', x); END IF",
            "EXECUTE 'INSERT INTO app.' || quote_ident(x)",
        ] {
            assert_eq!(names(source), "", "{source}");
        }
        assert_eq!(
            names("INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = 1"),
            "t"
        );
        assert_eq!(names("CREATE TRIGGER g AFTER INSERT OR UPDATE ON t"), "");
    }

    #[test]
    fn every_relation_is_found_once() {
        let list = vec!["truncate"; 10_000].join(", ");
        assert_eq!(written(&format!("TRUNCATE {list}")).len(), 10_000);
    }

    #[test]
    fn functions_that_are_called() {
        let names = |source| {
            let all: Vec<_> = called(source)
                .into_iter()
                .map(|one| match one.schema {
                    Some(schema) => format!("{schema}/{}", one.name),
                    None => one.name,
                })
                .collect();
            all.join(" ")
        };
        assert_eq!(
            names("PERFORM app.put(NEW.id); x := \"F\"(1); INSERT INTO t (id) SELECT * FROM g()"),
            "app/put F g"
        );
        assert_eq!(names("SELECT a.b, 'f()' -- f()\n FROM t"), "");
    }
}
