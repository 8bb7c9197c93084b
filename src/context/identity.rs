//! Identifiers of tenants and users: their types and their spelling.
//!
//! Pure. Must accept only what Postgres's own input functions accept for the type, so that a value
//! that passes here can be compared with a column.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest identifier in bytes. Identifiers are cache keys and index keys; a longer one is a mistake
/// or an attack on memory.
pub const MAX_BYTES: usize = 1024;

/// The type of the tenant column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TenantType {
    Uuid,
    Text,
    Bigint,
    Integer,
}

impl TenantType {
    /// The type of that name, as `tenancy.bind` takes it.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "uuid" => Self::Uuid,
            "text" => Self::Text,
            "bigint" => Self::Bigint,
            "integer" => Self::Integer,
            _ => return None,
        })
    }

    /// The SQL name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Text => "text",
            Self::Bigint => "bigint",
            Self::Integer => "integer",
        }
    }

    /// Reads an identifier of this type.
    pub fn parse(self, text: &str) -> Result<TenantId, Malformed> {
        let malformed = Malformed {
            type_name: self.name(),
        };
        if text.len() > MAX_BYTES {
            return Err(malformed);
        }
        match self {
            Self::Uuid => parse_uuid(text).map(TenantId::Uuid).ok_or(malformed),
            Self::Text => Ok(TenantId::Text(text.into())),
            Self::Bigint => text
                .trim()
                .parse()
                .map(TenantId::Bigint)
                .map_err(|_| malformed),
            Self::Integer => text
                .trim()
                .parse::<i32>()
                .map(|id| TenantId::Bigint(i64::from(id)))
                .map_err(|_| malformed),
        }
    }
}

/// An identifier of a tenant, comparable whatever its spelling was.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TenantId {
    Uuid(Uuid),
    Text(Box<str>),
    /// bigint and integer tenants.
    Bigint(i64),
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(id) => id.fmt(f),
            Self::Text(id) => f.write_str(id),
            Self::Bigint(id) => id.fmt(f),
        }
    }
}

/// A value that is not an identifier of the type. Holds no value: it may be a secret or 1 MB long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    pub type_name: &'static str,
}

/// The type of the column that identifies users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserType {
    Uuid,
    Bigint,
    Integer,
    /// Any type that is compared as text, or that only Postgres can read.
    Text,
}

impl UserType {
    /// The canonical spelling of a user identifier.
    pub fn canonical(self, text: &str) -> Result<String, Malformed> {
        if text.len() > MAX_BYTES {
            return Err(Malformed {
                type_name: "user identifier",
            });
        }
        let id = match self {
            Self::Uuid => TenantType::Uuid.parse(text)?,
            Self::Bigint => TenantType::Bigint.parse(text)?,
            Self::Integer => TenantType::Integer.parse(text)?,
            Self::Text => return Ok(text.to_owned()),
        };
        Ok(id.to_string())
    }
}

/// Reads a uuid as Postgres does, except the spellings with other groups of hyphens.
fn parse_uuid(text: &str) -> Option<Uuid> {
    // The crate also reads the URN form, which Postgres refuses.
    if text.starts_with("urn:") {
        return None;
    }
    Uuid::try_parse(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "6f1c1b1e-0f5a-4d54-9a3e-1c2d3e4f5a6b";

    #[test]
    fn a_uuid_is_the_same_in_every_spelling() {
        let plain = TenantType::Uuid.parse(ID).unwrap();
        for spelling in [ID.to_uppercase(), format!("{{{ID}}}"), ID.replace('-', "")] {
            assert_eq!(TenantType::Uuid.parse(&spelling).unwrap(), plain);
        }
        assert_eq!(plain.to_string(), ID);
    }

    #[test]
    fn malformed_identifiers_are_refused() {
        for (kind, text) in [
            (TenantType::Uuid, "not-a-uuid"),
            (
                TenantType::Uuid,
                "urn:uuid:6f1c1b1e-0f5a-4d54-9a3e-1c2d3e4f5a6b",
            ),
            (TenantType::Bigint, "12x"),
            (TenantType::Bigint, "9223372036854775808"),
            (TenantType::Integer, "2147483648"),
            (TenantType::Integer, "1.5"),
        ] {
            assert_eq!(
                kind.parse(text),
                Err(Malformed {
                    type_name: kind.name()
                }),
                "{text}"
            );
        }
    }

    #[test]
    fn an_identifier_of_a_megabyte_is_refused() {
        assert!(TenantType::Text.parse(&"x".repeat(1 << 20)).is_err());
        assert!(UserType::Text.canonical(&"x".repeat(1 << 20)).is_err());
        assert!(TenantType::Text.parse(&"x".repeat(MAX_BYTES)).is_ok());
    }

    #[test]
    fn integers_of_both_widths_compare() {
        assert_eq!(
            TenantType::Integer.parse("7"),
            TenantType::Bigint.parse(" 7 ")
        );
    }

    #[test]
    fn users_have_one_spelling() {
        assert_eq!(UserType::Uuid.canonical(&ID.to_uppercase()).unwrap(), ID);
        assert_eq!(UserType::Bigint.canonical("007").unwrap(), "7");
        assert_eq!(UserType::Text.canonical("A b").unwrap(), "A b");
    }
}
