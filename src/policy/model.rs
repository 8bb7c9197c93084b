//! The words of the policy contract: templates, modes, commands and options.
//!
//! Pure: owns parsing and naming of what a caller may ask for. Must never touch the catalog.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::binding::TenantType;
use crate::error::{Error, Kind, Result};

/// Which rows a protected table shows to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// A tenant sees and writes its own rows.
    Tenant,
}

/// Templates of the contract that later work builds.
const PLANNED_TEMPLATES: [&str; 7] = [
    "shared_read",
    "tenant_read_admin_write",
    "own_tenant",
    "self",
    "member_read",
    "global_read_admin_write",
    "child",
];

impl Template {
    /// The template of that name.
    pub fn parse(name: &str) -> Result<Self> {
        if name == "tenant" {
            return Ok(Self::Tenant);
        }
        if PLANNED_TEMPLATES.contains(&name) {
            return Err(Error::new(
                Kind::FeatureNotSupported,
                format!("template \"{name}\" is not built yet"),
            )
            .hint("Use template 'tenant', or leave the table out until it is."));
        }
        Err(Error::new(
            Kind::InvalidParameterValue,
            format!("unknown template \"{name}\""),
        )
        .hint("Use template 'tenant'."))
    }

    /// Its name in SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
        }
    }
}

/// How far the protection of a table has been rolled out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Registered, nothing else.
    Permissive,
    /// Policies in place, row security enabled (and forced).
    Enforce,
}

impl Mode {
    /// The mode of that name. `shadow` has its place in the contract and is refused until it exists.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "permissive" => Ok(Self::Permissive),
            "enforce" => Ok(Self::Enforce),
            "shadow" => Err(Error::new(
                Kind::FeatureNotSupported,
                "mode \"shadow\" is not built yet",
            )
            .hint("Give mode => 'permissive' to register only, or mode => 'enforce' to isolate.")),
            other => Err(Error::new(
                Kind::InvalidParameterValue,
                format!("unknown mode \"{other}\""),
            )
            .hint("Use 'permissive' or 'enforce'.")),
        }
    }

    /// Its name in SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Permissive => "permissive",
            Self::Enforce => "enforce",
        }
    }
}

/// A command that a policy can be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Command {
    /// Every command.
    All,
    /// SELECT.
    Select,
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
}

impl Command {
    /// The four commands that rows are isolated for, in the order of the contract.
    pub const EACH: [Self; 4] = [Self::Select, Self::Insert, Self::Update, Self::Delete];

    /// The keyword in `FOR ..`.
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::All => "ALL",
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }

    /// The end of a policy's name.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    /// `pg_policy.polcmd`.
    pub const fn catalog_letter(self) -> &'static str {
        match self {
            Self::All => "*",
            Self::Select => "r",
            Self::Insert => "a",
            Self::Update => "w",
            Self::Delete => "d",
        }
    }

    /// Whether existing rows are tested.
    pub const fn has_using(self) -> bool {
        !matches!(self, Self::Insert)
    }

    /// Whether written rows are tested.
    pub const fn has_check(self) -> bool {
        matches!(self, Self::All | Self::Insert | Self::Update)
    }
}

/// What to do about foreign keys between protected tables that do not carry the tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForeignKeys {
    /// List them.
    Report,
    /// Add a key that carries the tenant next to each.
    Add,
    /// Put such a key in the place of each.
    Replace,
}

/// The `options` of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// FORCE ROW LEVEL SECURITY.
    pub force: bool,
    /// Accept that policies of the user's own wake when row security is enabled.
    pub adopt_policies: bool,
    /// DEFAULT of the tenant column.
    pub set_default: bool,
    /// Keys that carry the tenant.
    pub foreign_keys: ForeignKeys,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            force: true,
            adopt_policies: false,
            set_default: false,
            foreign_keys: ForeignKeys::Report,
        }
    }
}

impl Options {
    const KNOWN: &'static str = "adopt_policies, force, foreign_keys, set_default";

    /// Reads the JSON object that a caller gave.
    pub fn parse(value: &Value) -> Result<Self> {
        let Value::Object(members) = value else {
            return Err(
                Error::new(Kind::InvalidParameterValue, "options must be a JSON object")
                    .hint(format!("Give an object with any of: {}.", Self::KNOWN)),
            );
        };
        let mut options = Self::default();
        for (key, value) in members {
            match key.as_str() {
                "force" => options.force = boolean(key, value)?,
                "adopt_policies" => options.adopt_policies = boolean(key, value)?,
                "set_default" => options.set_default = boolean(key, value)?,
                "foreign_keys" => {
                    options.foreign_keys = serde_json::from_value(value.clone()).map_err(|_| {
                        Error::new(
                            Kind::InvalidParameterValue,
                            "option \"foreign_keys\" has an unknown value",
                        )
                        .hint("Use \"report\", \"add\" or \"replace\".")
                    })?;
                }
                unknown => {
                    return Err(Error::new(
                        Kind::InvalidParameterValue,
                        format!("unknown option \"{unknown}\""),
                    )
                    .hint(format!("Use any of: {}.", Self::KNOWN)));
                }
            }
        }
        Ok(options)
    }

    /// The object that is stored: only what differs from the defaults, so that two ways of saying
    /// the same compare equal.
    pub fn to_json(self) -> Value {
        let defaults = Self::default();
        let mut members = Map::new();
        if self.force != defaults.force {
            members.insert("force".into(), self.force.into());
        }
        if self.adopt_policies != defaults.adopt_policies {
            members.insert("adopt_policies".into(), self.adopt_policies.into());
        }
        if self.set_default != defaults.set_default {
            members.insert("set_default".into(), self.set_default.into());
        }
        if self.foreign_keys != defaults.foreign_keys {
            let name = if self.foreign_keys == ForeignKeys::Add {
                "add"
            } else {
                "replace"
            };
            members.insert("foreign_keys".into(), name.into());
        }
        Value::Object(members)
    }
}

fn boolean(key: &str, value: &Value) -> Result<bool> {
    value.as_bool().ok_or_else(|| {
        Error::new(
            Kind::InvalidParameterValue,
            format!("option \"{key}\" must be true or false"),
        )
        .hint("Give a JSON boolean, without quotes.")
    })
}

/// What the policies of a tenant type call and which column types they compare with an index.
pub trait TenantFunctions {
    /// The twin of the context function that raises where there is no context.
    fn required_call(self) -> &'static str;
    /// The type that the twin returns, as a cast in a deparsed expression shows it.
    fn compared_type(self) -> &'static str;
    /// The types of a tenant column, as `format_type` shows them.
    fn column_types(self) -> &'static [&'static str];
    /// The column's DEFAULT, the context function qualified with the extension's schema.
    fn default_expression(self, quoted_schema: &str) -> String;
}

impl TenantFunctions for TenantType {
    fn required_call(self) -> &'static str {
        match self {
            Self::Uuid => "tenancy.current_tenant_id_required()",
            Self::Text => "tenancy.current_tenant_id_text_required()",
            // int4 = int8 is a member of the btree operator family, so one twin serves both.
            Self::Bigint | Self::Integer => "tenancy.current_tenant_id_bigint_required()",
        }
    }

    fn compared_type(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Text => "text",
            Self::Bigint | Self::Integer => "bigint",
        }
    }

    fn column_types(self) -> &'static [&'static str] {
        match self {
            Self::Uuid => &["uuid"],
            Self::Text => &["text", "character varying"],
            Self::Bigint => &["bigint"],
            Self::Integer => &["integer"],
        }
    }

    fn default_expression(self, quoted_schema: &str) -> String {
        match self {
            Self::Uuid => format!("{quoted_schema}.current_tenant_id()"),
            Self::Text => format!("{quoted_schema}.current_tenant_id_text()"),
            Self::Bigint => format!("{quoted_schema}.current_tenant_id_bigint()"),
            Self::Integer => format!("({quoted_schema}.current_tenant_id_bigint())::integer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn options_read_and_written_are_the_same() {
        let value = json!({"force": false, "foreign_keys": "replace"});
        let options = Options::parse(&value).unwrap();
        assert!(!options.force && options.foreign_keys == ForeignKeys::Replace);
        assert_eq!(options.to_json(), value);
        assert_eq!(
            Options::parse(&json!({"force": true})).unwrap().to_json(),
            json!({})
        );
    }

    #[test]
    fn options_that_are_not_known_are_refused() {
        for bad in [
            json!({"forced": true}),
            json!({"force": "true"}),
            json!({"foreign_keys": "drop"}),
            json!([]),
            json!(null),
        ] {
            assert_eq!(
                Options::parse(&bad).unwrap_err().kind(),
                Kind::InvalidParameterValue,
                "{bad}"
            );
        }
    }

    #[test]
    fn modes_and_templates_of_later_work_are_told_from_nonsense() {
        assert_eq!(
            Mode::parse("shadow").unwrap_err().kind(),
            Kind::FeatureNotSupported
        );
        assert_eq!(
            Mode::parse("ENFORCE").unwrap_err().kind(),
            Kind::InvalidParameterValue
        );
        assert_eq!(
            Template::parse("child").unwrap_err().kind(),
            Kind::FeatureNotSupported
        );
        assert_eq!(
            Template::parse("").unwrap_err().kind(),
            Kind::InvalidParameterValue
        );
    }
}
