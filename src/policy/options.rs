//! The `options` of a table.
//!
//! Pure: owns their names, what they may be, and which template takes which. Two ways of saying the
//! same compare equal. Must never touch the catalog.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::model::Template;
use crate::error::{Error, Kind, Result};

/// What to do about foreign keys between protected tables that do not carry the tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForeignKeys {
    /// List them.
    #[default]
    Report,
    /// Add a key that carries the tenant next to each.
    Add,
    /// Put such a key in the place of each.
    Replace,
}

/// Who but the user reads a row of the `self` template.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Readers {
    /// Nobody.
    #[default]
    None,
    /// The members of the row's tenant.
    Tenant,
    /// The admins of the row's tenant.
    TenantAdmins,
}

/// What super admins may do with rows of all tenants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SuperAdmins {
    /// What everybody may.
    #[default]
    None,
    /// Read.
    Read,
    /// Read and write.
    All,
}

/// Who writes a table of the `global_read_admin_write` template.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Writers {
    /// Super admins.
    #[default]
    SuperAdmins,
    /// Admins of any tenant too.
    TenantAdmins,
}

/// What to do about unique keys that do not carry the tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UniqueKeys {
    /// List them.
    #[default]
    Report,
    /// Put the tenant in front of each.
    Replace,
}

/// The `options` of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// FORCE ROW LEVEL SECURITY.
    pub force: bool,
    /// Accept that policies of the user's own wake when row security is enabled.
    pub adopt_policies: bool,
    /// DEFAULT of the tenant column.
    pub set_default: bool,
    /// Keys that carry the tenant.
    pub foreign_keys: ForeignKeys,
    /// Unique keys that carry the tenant.
    pub unique_keys: UniqueKeys,
    /// Whether writing takes a tenant admin.
    pub admin_writes: bool,
    /// What super admins may.
    pub super_admins: SuperAdmins,
    /// The column that holds the user.
    pub user_column: String,
    /// Who else reads.
    pub readers: Readers,
    /// Who writes.
    pub writers: Writers,
    /// Which rows everybody reads: a boolean SQL expression over the table.
    pub visible: Option<String>,
    /// The foreign key that leads to the parent.
    pub foreign_key: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            force: true,
            adopt_policies: false,
            set_default: false,
            foreign_keys: ForeignKeys::Report,
            unique_keys: UniqueKeys::Report,
            admin_writes: false,
            super_admins: SuperAdmins::None,
            user_column: "id".to_owned(),
            readers: Readers::None,
            writers: Writers::SuperAdmins,
            visible: None,
            foreign_key: None,
        }
    }
}

const KNOWN: &str = "admin_writes, adopt_policies, force, foreign_key, foreign_keys, readers, \
                     set_default, super_admins, unique_keys, user_column, visible, writers";

/// Those that apply to every template.
const EVERYWHERE: [&str; 2] = ["adopt_policies", "force"];

impl Options {
    /// Reads the JSON object that a caller gave.
    pub fn parse(value: &Value) -> Result<Self> {
        let Value::Object(members) = value else {
            return Err(
                Error::new(Kind::InvalidParameterValue, "options must be a JSON object")
                    .hint("Give an object such as {\"force\": false}."),
            );
        };
        let mut options = Self::default();
        for (key, value) in members {
            match key.as_str() {
                "force" => options.force = boolean(key, value)?,
                "adopt_policies" => options.adopt_policies = boolean(key, value)?,
                "set_default" => options.set_default = boolean(key, value)?,
                "admin_writes" => options.admin_writes = boolean(key, value)?,
                "foreign_keys" => {
                    options.foreign_keys =
                        one_of(key, value, "\"report\", \"add\" or \"replace\"")?;
                }
                "unique_keys" => {
                    options.unique_keys = one_of(key, value, "\"report\" or \"replace\"")?;
                }
                "super_admins" => {
                    options.super_admins = one_of(key, value, "\"none\", \"read\" or \"all\"")?;
                }
                "readers" => {
                    options.readers =
                        one_of(key, value, "\"none\", \"tenant\" or \"tenant_admins\"")?;
                }
                "writers" => {
                    options.writers = one_of(key, value, "\"super_admins\" or \"tenant_admins\"")?;
                }
                "user_column" => options.user_column = text(key, value)?,
                "visible" => options.visible = Some(text(key, value)?),
                "foreign_key" => options.foreign_key = Some(text(key, value)?),
                unknown => {
                    return Err(Error::new(
                        Kind::InvalidParameterValue,
                        format!("unknown option \"{unknown}\""),
                    )
                    .hint(format!("Use any of: {KNOWN}.")));
                }
            }
        }
        Ok(options)
    }

    /// Fails where an option says something that the template cannot heed.
    pub fn check_for(&self, template: Template) -> Result<()> {
        let mut known = self.known_to(template);
        let Value::Object(given) = self.to_json() else {
            return Ok(());
        };
        let Some(other) = given.keys().find(|key| !known.contains(&key.as_str())) else {
            return Ok(());
        };
        let error = Error::new(
            Kind::InvalidParameterValue,
            format!(
                "option \"{other}\" does not apply to template \"{}\"",
                template.name()
            ),
        );
        Err(if other == "super_admins" {
            error
                .detail("\"tenant = .. OR is_super_admin()\" would keep every tenant's statements from the tenant index.")
                .hint("Let super admins choose the tenant that they look at.")
        } else {
            known.sort_unstable();
            error.hint(format!("Use any of: {}.", known.join(", ")))
        })
    }

    /// Fails where an option is for one table, and not for all of a schema.
    pub fn check_for_schema(&self) -> Result<()> {
        let common = Self::default().with_common(self);
        if *self == common {
            return Ok(());
        }
        Err(Error::new(
            Kind::InvalidParameterValue,
            "an option is for tables of one template only",
        )
        .hint(
            "Use any of: adopt_policies, force, foreign_keys, set_default, unique_keys; give the others to \
             tenancy.protect_table().",
        ))
    }

    /// Those of them that the template heeds.
    pub fn only_for(&self, template: Template) -> Self {
        let known = self.known_to(template);
        let mut members = self.to_json();
        if let Value::Object(members) = &mut members {
            members.retain(|key, _| known.contains(&key.as_str()));
        }
        Self::parse(&members).unwrap_or_default()
    }

    /// With what may be said of a whole schema taken from `other`.
    pub fn with_common(&self, other: &Self) -> Self {
        Self {
            force: other.force,
            adopt_policies: other.adopt_policies,
            set_default: other.set_default,
            foreign_keys: other.foreign_keys,
            unique_keys: other.unique_keys,
            ..self.clone()
        }
    }

    fn known_to(&self, template: Template) -> Vec<&'static str> {
        let mut known = EVERYWHERE.to_vec();
        known.extend(match template {
            Template::Tenant | Template::SharedRead | Template::TenantReadAdminWrite => {
                ["foreign_keys", "set_default", "unique_keys"].as_slice()
            }
            Template::OwnTenant => &["admin_writes", "foreign_keys", "super_admins"],
            Template::SelfRow if self.readers == Readers::None => {
                &["readers", "super_admins", "user_column"]
            }
            Template::SelfRow => &[
                "foreign_keys",
                "readers",
                "set_default",
                "super_admins",
                "user_column",
            ],
            Template::MemberRead => &["admin_writes", "foreign_keys", "set_default", "unique_keys"],
            Template::GlobalReadAdminWrite => &["visible", "writers"],
            Template::Child => &["foreign_key"],
        });
        known
    }

    /// Whether admins of a tenant write what belongs to no tenant.
    pub fn lets_tenant_admins_write(&self) -> bool {
        self.writers == Writers::TenantAdmins
    }

    /// The object that is stored: only what differs from the defaults, so that two ways of saying
    /// the same compare equal.
    pub fn to_json(&self) -> Value {
        let defaults = Self::default();
        let mut members = Map::new();
        let mut note = |key: &str, differs: bool, value: Value| {
            if differs {
                members.insert(key.to_owned(), value);
            }
        };
        note("force", self.force != defaults.force, self.force.into());
        note(
            "adopt_policies",
            self.adopt_policies,
            self.adopt_policies.into(),
        );
        note("set_default", self.set_default, self.set_default.into());
        note("admin_writes", self.admin_writes, self.admin_writes.into());
        note(
            "foreign_keys",
            self.foreign_keys != defaults.foreign_keys,
            word(&self.foreign_keys),
        );
        note(
            "unique_keys",
            self.unique_keys != defaults.unique_keys,
            word(&self.unique_keys),
        );
        note(
            "super_admins",
            self.super_admins != defaults.super_admins,
            word(&self.super_admins),
        );
        note(
            "readers",
            self.readers != defaults.readers,
            word(&self.readers),
        );
        note(
            "writers",
            self.writers != defaults.writers,
            word(&self.writers),
        );
        note(
            "user_column",
            self.user_column != defaults.user_column,
            self.user_column.as_str().into(),
        );
        note(
            "visible",
            self.visible.is_some(),
            self.visible.as_deref().into(),
        );
        note(
            "foreign_key",
            self.foreign_key.is_some(),
            self.foreign_key.as_deref().into(),
        );
        Value::Object(members)
    }
}

fn word(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
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

fn text(key: &str, value: &Value) -> Result<String> {
    let text = value.as_str().filter(|text| !text.trim().is_empty());
    text.map(str::to_owned).ok_or_else(|| {
        Error::new(
            Kind::InvalidParameterValue,
            format!("option \"{key}\" must be a text that is not empty"),
        )
        .hint("Give a JSON string, or leave the option out.")
    })
}

fn one_of<T: DeserializeOwned>(key: &str, value: &Value, words: &str) -> Result<T> {
    serde_json::from_value(value.clone()).map_err(|_| {
        Error::new(
            Kind::InvalidParameterValue,
            format!("option \"{key}\" has an unknown value"),
        )
        .hint(format!("Use {words}."))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn options_read_and_written_are_the_same() {
        let value = json!({
            "force": false, "adopt_policies": true, "set_default": true, "foreign_keys": "replace",
            "admin_writes": true, "super_admins": "all", "readers": "tenant_admins",
            "writers": "tenant_admins", "user_column": "user_id", "visible": "is_active",
            "foreign_key": "a_b_fkey"
        });
        assert_eq!(Options::parse(&value).unwrap().to_json(), value);
    }

    #[test]
    fn saying_the_default_is_saying_nothing() {
        let value = json!({
            "force": true, "foreign_keys": "report", "super_admins": "none", "readers": "none",
            "writers": "super_admins", "user_column": "id", "admin_writes": false
        });
        assert_eq!(Options::parse(&value).unwrap().to_json(), json!({}));
    }

    #[test]
    fn options_that_are_not_known_are_refused() {
        for bad in [
            json!({"forced": true}),
            json!({"force": "true"}),
            json!({"foreign_keys": "drop"}),
            json!({"readers": "everybody"}),
            json!({"visible": true}),
            json!({"visible": " "}),
            json!({"foreign_key": null}),
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
    fn each_template_takes_its_own_options() {
        let fits = |template, value: Value| {
            Options::parse(&value)
                .unwrap()
                .check_for(template)
                .map_err(|error| error.message().to_owned())
        };
        assert_eq!(fits(Template::Tenant, json!({"set_default": true})), Ok(()));
        assert_eq!(
            fits(Template::OwnTenant, json!({"super_admins": "read"})),
            Ok(())
        );
        assert_eq!(
            fits(Template::SelfRow, json!({"super_admins": "all"})),
            Ok(())
        );
        for (template, value) in [
            (Template::Tenant, json!({"super_admins": "read"})),
            (Template::SharedRead, json!({"super_admins": "all"})),
            (Template::MemberRead, json!({"super_admins": "all"})),
            (Template::Tenant, json!({"visible": "true"})),
            (Template::Child, json!({"set_default": true})),
            (
                Template::GlobalReadAdminWrite,
                json!({"foreign_keys": "add"}),
            ),
            (Template::SelfRow, json!({"set_default": true})),
        ] {
            assert!(fits(template, value.clone()).is_err(), "{value}");
        }
        assert_eq!(
            fits(
                Template::SelfRow,
                json!({"set_default": true, "readers": "tenant"})
            ),
            Ok(())
        );
    }
}
