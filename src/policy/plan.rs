//! What is to be done to a table: statements, a script, notes.
//!
//! Owns the shape of a plan and of what is asked ([`Wish`]). Must never execute: [`super::apply`] runs a
//! plan and `policy_sql` prints it.

use super::inspect::Facts;
use super::predicate::Rule;
use super::render::Target;
use crate::binding::TenantType;

/// A statement and who runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The table whose owner runs it.
    pub table: u32,
    /// The text.
    pub sql: String,
    /// Whether it makes an index, for which Postgres wants CREATE on the schema, that an owner may
    /// lack; the caller's own rights then have to do.
    pub makes_index: bool,
}

impl Statement {
    /// A statement for the owner of the table.
    pub fn owner(table: u32, sql: String) -> Self {
        Self {
            table,
            sql,
            makes_index: false,
        }
    }

    /// A statement that makes an index.
    pub fn index(table: u32, sql: String) -> Self {
        Self {
            table,
            sql,
            makes_index: true,
        }
    }
}

/// What to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Statements to run in place, in order.
    pub now: Vec<Statement>,
    /// Statements for the administrator, because in place they would lock a large table.
    pub script: Vec<String>,
    /// What the administrator should know.
    pub notes: Vec<String>,
    /// Foreign keys that do not carry the tenant and are only reported.
    pub plain_keys: Vec<String>,
    /// Unique keys that do not carry the tenant and are only reported.
    pub plain_unique_keys: Vec<String>,
    /// Whether rows are looked at; printing a plan does not.
    pub checks_data: bool,
    /// Whether it starts from the table as it was found, keys that were made left out.
    pub as_found: bool,
    /// Whether policies of the user's own bind already, so that enabling row security wakes none.
    pub policies_awake: bool,
}

/// What is asked of one table.
pub struct Wish<'a> {
    /// The table as it is.
    pub facts: &'a Facts,
    /// The tenant column.
    pub column: &'a str,
    /// The tenant's type.
    pub tenant: TenantType,
    /// What its predicates depend on, template and options with it.
    pub rule: &'a Rule,
    /// The extension's schema, quoted.
    pub extension_schema: &'a str,
    /// Rows up to which DDL runs in place.
    pub limit: f64,
    /// Whether NOT NULL and DEFAULT come from a parent that is protected too.
    pub follows_parent: bool,
}

impl Wish<'_> {
    /// The table as statements name it.
    pub fn target(&self) -> Target {
        Target {
            schema: self.facts.schema.clone(),
            table: self.facts.name.clone(),
            column: self.column.to_owned(),
        }
    }

    /// Whether a row can move between tables here.
    pub fn in_partition_tree(&self) -> bool {
        self.facts.is_partition || self.facts.kind == "p"
    }

    /// Whether DDL that reads it all is left to a script.
    pub fn is_large(&self) -> bool {
        self.facts.estimated_rows > self.limit
    }
}

impl Facts {
    /// Whether indexes and triggers are cloned from a protected parent.
    pub fn is_partition_of_protected(&self, follows_parent: bool) -> bool {
        self.is_partition && follows_parent
    }
}
