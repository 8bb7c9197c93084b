//! The components, and which finding belongs to which.
//!
//! Pure.

use super::super::data::Finding;

/// How a component is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// A hole, or nothing works.
    Error,
    /// Something to mend.
    Warn,
    /// It was not, or could not be, looked at.
    Unknown,
    /// Nothing to do.
    Ok,
}

impl Grade {
    /// In SQL.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Unknown => "unknown",
            Self::Ok => "ok",
        }
    }
}

/// One component's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Its name.
    pub component: &'static str,
    /// How it is.
    pub grade: Grade,
    /// One sentence.
    pub reason: String,
    /// The call that shows more.
    pub look_at: String,
}

/// Where a finding counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Context,
    Roles,
    Policies,
    Coverage,
    Schema,
    Server,
}

/// What the findings of a code are about; a topic that is not known is the schema's.
pub fn part(found: &Finding) -> Part {
    match found.rule.as_deref().unwrap_or(&found.code) {
        "binding-missing" | "guard-off" | "cache-off" => return Part::Context,
        "rls-off"
        | "rls-off-ungranted"
        | "policies-dormant"
        | "child-unprotected"
        | "tenant-column-missing"
        | "default-privileges-unprotected" => return Part::Coverage,
        _ => {}
    }
    match found.topic.as_deref().unwrap_or_default() {
        "policies" | "functions" | "registration" => Part::Policies,
        "roles" | "grants" => Part::Roles,
        "server" => Part::Server,
        _ => Part::Schema,
    }
}
