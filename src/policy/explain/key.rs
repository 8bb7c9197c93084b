//! Which row is meant.
//!
//! Pure. Owns reading the key that a caller gave against the columns of the primary key. Must never
//! guess a column.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::render::quoted;
use crate::error::{Error, Kind, Result};

/// A column of the primary key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct KeyColumn {
    /// Its name, not quoted.
    pub name: String,
    /// Its type, as a cast takes it.
    pub type_name: String,
    /// The equality that its index goes by, qualified, as `OPERATOR(..)` takes it.
    pub equals: String,
}

/// A key that was read: a value for each column of the primary key, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    values: Vec<(KeyColumn, String)>,
}

impl Key {
    /// Reads text: an object, a JSON string, or the value of the only column as it stands.
    pub fn from_text(columns: &[KeyColumn], text: &str) -> Result<Self> {
        match serde_json::from_str(text) {
            Ok(value @ (Value::Object(_) | Value::String(_))) => Self::from_json(columns, &value),
            _ => Self::from_json(columns, &Value::String(text.to_owned())),
        }
    }

    /// Reads an object of columns, or the value of the only column.
    pub fn from_json(columns: &[KeyColumn], value: &Value) -> Result<Self> {
        let given = match (value, columns) {
            (Value::Object(members), _) => members.clone(),
            (Value::Array(_) | Value::Null, _) => return Err(not_a_key(columns)),
            (one, [column]) => Map::from_iter([(column.name.clone(), one.clone())]),
            _ => return Err(not_a_key(columns)),
        };
        if let Some(unknown) = given
            .keys()
            .find(|name| !columns.iter().any(|column| column.name == **name))
        {
            return Err(not_a_key(columns).detail(format!(
                "Column {} is not part of the primary key.",
                quoted(unknown)
            )));
        }
        let values = columns.iter().map(|column| {
            let text = match given.get(&column.name) {
                Some(Value::String(text)) => text.clone(),
                Some(scalar @ (Value::Number(_) | Value::Bool(_))) => scalar.to_string(),
                Some(_) => {
                    return Err(not_a_key(columns).detail(format!(
                        "The value of column {} is not a string, a number or a boolean.",
                        quoted(&column.name)
                    )));
                }
                None => {
                    return Err(not_a_key(columns)
                        .detail(format!("Column {} is missing.", quoted(&column.name))));
                }
            };
            Ok((column.clone(), text))
        });
        Ok(Self {
            values: values.collect::<Result<_>>()?,
        })
    }

    /// The condition that finds the row as `alias`, with a parameter for each value.
    pub fn condition(&self, alias: &str) -> String {
        let parts: Vec<String> = self
            .values
            .iter()
            .enumerate()
            .map(|(index, (column, _))| {
                format!(
                    "{alias}.{} OPERATOR({}) CAST(${} AS {})",
                    quoted(&column.name),
                    column.equals,
                    index + 1,
                    column.type_name
                )
            })
            .collect();
        parts.join(" AND ")
    }

    /// The values, as text.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|(_, text)| text.as_str())
    }

    /// As an administrator reads it.
    pub fn words(&self) -> String {
        let parts: Vec<String> = self
            .values
            .iter()
            .map(|(column, text)| format!("{} = {text}", quoted(&column.name)))
            .collect();
        parts.join(", ")
    }
}

fn not_a_key(columns: &[KeyColumn]) -> Error {
    let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
    let example: Vec<String> = columns
        .iter()
        .map(|column| format!("{}: ..", Value::String(column.name.clone())))
        .collect();
    Error::new(
        Kind::InvalidParameterValue,
        format!(
            "the key does not give the primary key ({})",
            names.join(", ")
        ),
    )
    .hint(format!(
        "Give a JSON object with exactly its columns: {{{}}}{}.",
        example.join(", "),
        if columns.len() == 1 {
            ", or the value alone"
        } else {
            ""
        }
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn columns(names: &[&str]) -> Vec<KeyColumn> {
        names
            .iter()
            .map(|name| KeyColumn {
                name: (*name).to_owned(),
                type_name: "integer".into(),
                equals: "pg_catalog.=".into(),
            })
            .collect()
    }

    fn texts(columns: &[KeyColumn], text: &str) -> Result<Vec<String>> {
        Ok(Key::from_text(columns, text)?
            .texts()
            .map(str::to_owned)
            .collect())
    }

    #[test]
    fn one_column_may_be_given_alone() {
        let one = columns(&["id"]);
        for (text, value) in [
            ("7", "7"),
            ("{\"id\": 7}", "7"),
            ("\"a b\"", "a b"),
            ("a b", "a b"),
            ("[1]", "[1]"),
            ("null", "null"),
            ("", ""),
            ("{\"id\": \"{}\"}", "{}"),
        ] {
            assert_eq!(texts(&one, text), Ok(vec![value.to_owned()]), "{text}");
        }
    }

    #[test]
    fn an_object_names_exactly_the_columns() {
        let two = columns(&["a", "B c"]);
        assert_eq!(
            texts(&two, "{\"B c\": true, \"a\": 1}"),
            Ok(vec!["1".into(), "true".into()])
        );
        for wrong in [
            "1",
            "{\"a\": 1}",
            "{\"a\": 1, \"B c\": 2, \"d\": 3}",
            "{\"a\": 1, \"B c\": null}",
            "{\"a\": 1, \"B c\": [2]}",
            "{}",
        ] {
            let error = texts(&two, wrong).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidParameterValue, "{wrong}");
            assert!(
                error
                    .hint_text()
                    .unwrap()
                    .contains("{\"a\": .., \"B c\": ..}")
            );
        }
        for wrong in [json!(null), json!([1]), json!({"id": {}})] {
            assert!(
                Key::from_json(&columns(&["id"]), &wrong).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn the_condition_names_operator_and_type() {
        let key = Key::from_text(&columns(&["a", "b\""]), "{\"a\": 1, \"b\\\"\": 2}").unwrap();
        assert_eq!(
            key.condition("r"),
            "r.\"a\" OPERATOR(pg_catalog.=) CAST($1 AS integer) AND r.\"b\"\"\" OPERATOR(pg_catalog.=) CAST($2 AS integer)"
        );
        assert_eq!(key.words(), "\"a\" = 1, \"b\"\"\" = 2");
    }
}
