//! What a function comes to that is a single expression, read from its source.
//!
//! Pure. Must never claim to know what calls, queries or asks for anything: only constants, parameters and
//! operators of Postgres are understood.

use super::tokens::{Token, tokens};

/// What such a function returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Always this, as an expression has it.
    Constant(String),
    /// What its arguments say, and nothing else.
    OfArguments,
}

/// Bytes beyond which nothing is read: each bracket around an expression reads it anew.
const LONGEST: usize = 10_000;

/// What a function in SQL or PL/pgSQL with these parameters returns, where that is known.
pub fn said(source: &str, parameters: &[String]) -> Option<Said> {
    if source.len() > LONGEST {
        return None;
    }
    let all = tokens(source);
    let expression = without_brackets(single_expression(&all)?);
    if let Some(constant) = constant(expression) {
        return Some(Said::Constant(constant));
    }
    is_of_arguments(expression, parameters).then_some(Said::OfArguments)
}

/// What a body selects or returns that does nothing else.
fn single_expression(all: &[Token]) -> Option<&[Token]> {
    let body = match all {
        [begin, inner @ .., end] if begin.is("begin") && end.is("end") => inner,
        [begin, inner @ .., end, Token::Sign(';')] if begin.is("begin") && end.is("end") => inner,
        all => all,
    };
    let body = match body {
        [atomic, inner @ ..] if atomic.is("atomic") => inner,
        body => body,
    };
    let statement = match body {
        [statement @ .., Token::Sign(';')] => statement,
        statement => statement,
    };
    let [verb, expression @ ..] = statement else {
        return None;
    };
    let expression = match expression {
        [expression @ .., named, Token::Word(_) | Token::Name(_)] if named.is("as") => expression,
        expression => expression,
    };
    ((verb.is("select") || verb.is("return")) && !expression.is_empty()).then_some(expression)
}

/// Without brackets around all of it.
fn without_brackets(mut expression: &[Token]) -> &[Token] {
    while let [Token::Sign('('), inner @ .., Token::Sign(')')] = expression
        && is_balanced(inner)
    {
        expression = inner;
    }
    expression
}

fn is_balanced(tokens: &[Token]) -> bool {
    let mut open = 0_usize;
    tokens.iter().all(|token| {
        match token {
            Token::Sign('(') => open += 1,
            Token::Sign(')') if open == 0 => return false,
            Token::Sign(')') => open -= 1,
            _ => {}
        }
        true
    })
}

fn constant(expression: &[Token]) -> Option<String> {
    let (value, named) = match expression {
        [
            value,
            Token::Sign(':'),
            Token::Sign(':'),
            Token::Word(named),
        ] => (value, type_name(named)?),
        [value] => (value, "text"),
        [not, value] if not.is("not") => {
            return match constant(core::slice::from_ref(value))?.as_str() {
                "true" => Some("false".to_owned()),
                "false" => Some("true".to_owned()),
                _ => None,
            };
        }
        [left, Token::Operator(equal), right] if equal == "=" => {
            let is_same = left == right && matches!(left, Token::Number(_) | Token::Text(_));
            return is_same.then(|| "true".to_owned());
        }
        _ => return None,
    };
    match value {
        Token::Word(word) if ["true", "false"].contains(&word.as_str()) => Some(word.clone()),
        Token::Word(word) if word == "null" => Some("NULL::boolean".to_owned()),
        Token::Text(text) if named == "boolean" => ["true", "t"]
            .contains(&text.as_str())
            .then(|| "true".to_owned()),
        Token::Text(text) if !text.contains('\\') => {
            Some(format!("'{}'::{named}", text.replace('\'', "''")))
        }
        Token::Number(number) if number.bytes().all(|digit| digit.is_ascii_digit()) => {
            Some(number.clone())
        }
        _ => None,
    }
}

fn is_of_arguments(expression: &[Token], parameters: &[String]) -> bool {
    let is_type = |place: usize| {
        place >= 2 && expression[place - 2..place] == [Token::Sign(':'), Token::Sign(':')]
    };
    expression.iter().enumerate().all(|(place, token)| {
        let calls = expression.get(place + 1) == Some(&Token::Sign('('));
        match token {
            Token::Text(_) | Token::Number(_) | Token::Parameter(_) => true,
            Token::Operator(operator) => OPERATORS.contains(&operator.as_str()),
            Token::Sign(sign) => "(),:".contains(*sign),
            Token::Name(name) => !calls && !is_type(place) && parameters.contains(name),
            Token::Word(word) if is_type(place) => !calls && type_name(word).is_some(),
            Token::Word(word) if word == "from" => {
                place > 0 && expression[place - 1].is("distinct")
            }
            Token::Word(word) => {
                KEYWORDS.contains(&word.as_str()) || (!calls && parameters.contains(word))
            }
        }
    })
}

/// A type of Postgres, whose casts are Postgres's.
fn type_name(word: &str) -> Option<&'static str> {
    Some(match word {
        "uuid" => "uuid",
        "text" => "text",
        "varchar" => "character varying",
        "bigint" | "int8" => "bigint",
        "integer" | "int" | "int4" => "integer",
        "smallint" | "int2" => "smallint",
        "numeric" => "numeric",
        "boolean" | "bool" => "boolean",
        _ => return None,
    })
}

const OPERATORS: &[&str] = &[
    "=", "<>", "!=", "<", ">", "<=", ">=", "||", "+", "-", "*", "/", "%",
];
/// Of expressions that only put others together.
const KEYWORDS: &[&str] = &[
    "and",
    "or",
    "not",
    "is",
    "isnull",
    "notnull",
    "null",
    "true",
    "false",
    "unknown",
    "distinct",
    "between",
    "symmetric",
    "in",
    "like",
    "ilike",
    "case",
    "when",
    "then",
    "else",
    "end",
    "coalesce",
    "nullif",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(source: &str) -> Option<Said> {
        said(source, &["row_tenant".to_owned(), "Odd".to_owned()])
    }

    #[test]
    fn functions_that_return_a_constant() {
        for (source, value) in [
            ("SELECT true", "true"),
            (" select (TRUE) as ok ; ", "true"),
            ("SELECT 't'::boolean", "true"),
            ("SELECT 1 = 1", "true"),
            ("SELECT NOT false -- nobody", "true"),
            ("SELECT false", "false"),
            ("RETURN true", "true"),
            ("BEGIN ATOMIC\n SELECT true;\nEND", "true"),
            ("BEGIN RETURN true; END", "true"),
            ("begin return (true); end;", "true"),
            ("SELECT NULL::uuid", "NULL::boolean"),
            ("SELECT 'a''b'::uuid", "'a''b'::uuid"),
            ("SELECT 17", "17"),
        ] {
            assert_eq!(
                of(source),
                Some(Said::Constant(value.to_owned())),
                "{source}"
            );
        }
    }

    #[test]
    fn functions_that_ask_nobody() {
        for source in [
            "SELECT $1 IS NOT NULL",
            "SELECT $1",
            "SELECT row_tenant = '1'::uuid OR \"Odd\" <> ''",
            "SELECT coalesce(row_tenant = $2, false)",
            "SELECT CASE WHEN $1 IS DISTINCT FROM $2 THEN true ELSE NOT $1 IN ('a', 'b') END",
            "SELECT E'\\\\x'",
            "BEGIN RETURN row_tenant = row_tenant; END",
        ] {
            assert_eq!(of(source), Some(Said::OfArguments), "{source}");
        }
    }

    #[test]
    fn functions_of_which_nobody_knows() {
        for source in [
            "SELECT $1 = current_tenant_id()",
            "SELECT tenant = $1 FROM app.m",
            "SELECT $1 = (SELECT a)",
            "SELECT current_user = $1",
            "SELECT row_tenant($1)",
            "SELECT $1 = other",
            "SELECT row_tenant.x",
            "SELECT $1 === $2",
            "SELECT $1 OPERATOR(app.=) $2",
            "SELECT $1::app.tenant",
            "SELECT $1::mine",
            "SELECT $1::text(current_setting('a'))",
            "SELECT app.f()",
            "SELECT true; SELECT false",
            "SELECT true FROM app.t",
            "SELECT true WHERE false",
            "SELECT true LIMIT 0",
            "SELECT",
            "DECLARE x boolean := f(); BEGIN RETURN x; END",
            "BEGIN IF $1 THEN RETURN true; END IF; RETURN false; END",
            "BEGIN PERFORM f(); RETURN true; END",
            "BEGIN RETURN true; EXCEPTION WHEN others THEN RETURN false; END",
            "",
        ] {
            assert_eq!(of(source), None, "{source}");
        }
    }
}
