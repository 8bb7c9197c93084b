//! Claims: the JSON document in which a gateway hands over who is asking.
//!
//! Pure. Must never guess: a document that is not an object, or a claim that is neither text nor
//! a whole number, is an error and not an absent claim.

use serde_json::Value;

/// Why a document or a claim cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Not JSON at all.
    Malformed,
    /// JSON, but not an object.
    WrongShape,
    /// The claim is there with a type that identifies nobody.
    Unusable { claim: String },
}

/// A parsed document.
#[derive(Debug)]
pub struct Claims(Value);

impl Claims {
    /// Reads the document.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        match serde_json::from_str(text) {
            Ok(value @ Value::Object(_)) => Ok(Self(value)),
            Ok(_) => Err(Fault::WrongShape),
            Err(_) => Err(Fault::Malformed),
        }
    }

    /// The claim as an identifier; `None` when it is absent, null or empty. A name that is not a key
    /// itself is taken as a path whose parts are separated by dots.
    pub fn identifier(&self, claim: &str) -> Result<Option<String>, Fault> {
        let value = self.0.get(claim).or_else(|| {
            claim
                .split('.')
                .try_fold(&self.0, |value, key| value.as_object()?.get(key))
        });
        match value {
            None | Some(Value::Null) => Ok(None),
            // Postgres's text cannot hold a NUL: what stands before it would be another identifier.
            Some(Value::String(text)) if !text.contains('\0') => {
                Ok((!text.is_empty()).then(|| text.clone()))
            }
            // A number with a fraction, or beyond 64 bits, would be rounded: two users could become one.
            Some(Value::Number(number)) if number.is_i64() || number.is_u64() => {
                Ok(Some(number.to_string()))
            }
            Some(_) => Err(Fault::Unusable {
                claim: claim.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identifier(document: &str, claim: &str) -> Result<Option<String>, Fault> {
        Claims::parse(document)?.identifier(claim)
    }

    #[test]
    fn strings_and_whole_numbers_identify() {
        assert_eq!(identifier(r#"{"sub":"u1"}"#, "sub"), Ok(Some("u1".into())));
        assert_eq!(identifier(r#"{"sub":42}"#, "sub"), Ok(Some("42".into())));
        assert_eq!(
            identifier(r#"{"sub":18446744073709551615}"#, "sub"),
            Ok(Some("18446744073709551615".into()))
        );
    }

    #[test]
    fn absent_null_and_empty_are_unset() {
        for document in ["{}", r#"{"sub":null}"#, r#"{"sub":""}"#] {
            assert_eq!(identifier(document, "sub"), Ok(None), "{document}");
        }
    }

    #[test]
    fn paths_reach_into_objects_and_whole_keys_win() {
        assert_eq!(
            identifier(
                r#"{"app_metadata":{"org":{"id":"t1"}}}"#,
                "app_metadata.org.id"
            ),
            Ok(Some("t1".into()))
        );
        assert_eq!(
            identifier(
                r#"{"https://x.y/org":"t2","https://x":{"y/org":"t3"}}"#,
                "https://x.y/org"
            ),
            Ok(Some("t2".into()))
        );
        assert_eq!(identifier(r#"{"a":"text"}"#, "a.b"), Ok(None));
    }

    #[test]
    fn what_identifies_nobody_is_an_error() {
        for value in [
            "true",
            "[]",
            "{}",
            "1.5",
            "36893488147419103232",
            r#""u1\u0000""#,
            r#""\u0000u1""#,
        ] {
            assert_eq!(
                identifier(&format!(r#"{{"sub":{value}}}"#), "sub"),
                Err(Fault::Unusable {
                    claim: "sub".into()
                }),
                "{value}"
            );
        }
    }

    #[test]
    fn documents_that_are_not_objects_are_errors() {
        assert_eq!(Claims::parse("{").unwrap_err(), Fault::Malformed);
        assert_eq!(Claims::parse("").unwrap_err(), Fault::Malformed);
        assert_eq!(Claims::parse("[1]").unwrap_err(), Fault::WrongShape);
        assert_eq!(Claims::parse("\"sub\"").unwrap_err(), Fault::WrongShape);
    }
}
