//! What a page is made of, as plain values.
//!
//! Pure. Must never hold anything of a row but its tenant.

use serde::Deserialize;

use super::health::Health;

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The database.
    pub database: String,
    /// When it was made.
    pub made_at: String,
    /// What times are told in.
    pub time_zone: String,
    /// Registered tables.
    pub tables: Vec<Table>,
    /// What was recorded, the latest first.
    pub denials: Vec<Denial>,
    /// How each component is, where that was asked for.
    pub health: Option<Vec<Health>>,
    /// What the validator found.
    pub findings: Findings,
}

/// What the validator found.
#[derive(Debug, Clone, Default)]
pub enum Findings {
    /// It was not asked.
    #[default]
    NotAsked,
    /// It failed, with that message.
    Failed(String),
    /// All of them, waived ones included.
    Found(Vec<Finding>),
}

/// A registered table.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Table {
    /// Schema and name.
    pub relation: String,
    /// `permissive`, `shadow` or `enforce`.
    pub mode: String,
    /// Since when, in that time zone.
    pub since: Option<String>,
    /// Statements that were seen.
    pub statements: Option<i64>,
    /// What was recorded.
    pub denials: Option<i64>,
    /// When last.
    pub last_denial: Option<String>,
    /// Whether enforcing would break nothing.
    pub ready: Option<bool>,
    /// Why not.
    #[serde(default)]
    pub reasons: Option<Vec<String>>,
}

/// A record.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Denial {
    /// Schema and name.
    pub relation: String,
    /// The command.
    pub command: String,
    /// What kind.
    pub kind: String,
    /// The role.
    pub role: Option<String>,
    /// The user of the context.
    pub app_user: Option<String>,
    /// The tenant of the context.
    pub context_tenant: Option<String>,
    /// The tenant of the row.
    pub row_tenant: Option<String>,
    /// The query, normalised.
    pub query: Option<String>,
    /// `application_name`.
    pub application_name: Option<String>,
    /// How much it says.
    pub precision: Option<String>,
    /// Whether comparison has shown it.
    pub confirmed: Option<bool>,
    /// How many rows.
    pub rows: i64,
    /// In how many statements.
    pub statements: i64,
    /// When first, in seconds since 1970.
    pub first: f64,
    /// When last.
    pub last: f64,
    /// When first, in the session's time zone.
    pub first_seen: String,
    /// When last.
    pub last_seen: String,
}

/// A finding of the validator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Finding {
    /// Its code.
    pub code: String,
    /// The rule's code, where that failed.
    #[serde(default)]
    pub rule: Option<String>,
    /// The rule's topic.
    #[serde(default)]
    pub topic: Option<String>,
    /// `error`, `warn` or `info`.
    pub level: String,
    /// What it is about.
    pub object: String,
    /// The facts.
    pub detail: Option<String>,
    /// The statement that mends it.
    pub remediation: Option<String>,
    /// Whether it was accepted.
    pub waived: bool,
    /// Why.
    pub reason: Option<String>,
}
