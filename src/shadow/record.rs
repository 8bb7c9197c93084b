//! What shadow mode records: the interface between those who find out and those who keep it.
//!
//! Must never hold the contents of a row other than its tenant.

use pgrx::pg_sys;
use serde::{Deserialize, Serialize};

/// What kind of change enforcement would make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Kind {
    /// A row that would not be there.
    HiddenRow,
    /// A row that could not be written.
    CheckViolation,
    /// A statement that would fail for want of a context.
    MissingContext,
    /// A statement that would fail for another reason.
    StatementError,
}

/// What the statement does with the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Command {
    Select,
    Insert,
    Update,
    Delete,
    Merge,
    /// COPY .. FROM.
    Copy,
}

/// What a record says of the statement's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum Precision {
    /// Exactly what enforcement would take away.
    Exact,
    /// Passed all filters and joins of its own level of the query; a level above may not need it.
    Level,
    /// Passed the filters of its table.
    Scan,
}

macro_rules! words {
    ($type:ident, $($variant:ident = $word:literal),+) => {
        impl $type {
            /// The word that SQL shows.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }

            /// What that word means.
            pub fn parse(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

words!(
    Kind,
    HiddenRow = "hidden_row",
    CheckViolation = "check_violation",
    MissingContext = "missing_context",
    StatementError = "statement_error"
);
words!(
    Command,
    Select = "select",
    Insert = "insert",
    Update = "update",
    Delete = "delete",
    Merge = "merge",
    Copy = "copy"
);
words!(Precision, Exact = "exact", Level = "level", Scan = "scan");

/// One denied row, or one statement that would fail.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    pub relation: pg_sys::Oid,
    pub command: Command,
    pub kind: Kind,
    pub precision: Precision,
    /// The role that enforcement would bind.
    pub role: pg_sys::Oid,
    pub app_user: Option<&'a str>,
    pub context_tenant: Option<&'a str>,
    /// The tenant of the row; nothing for a statement.
    pub row_tenant: Option<&'a str>,
    /// Postgres's identifier of the statement; 0 where it computes none.
    pub query_id: i64,
    /// The text of the statement, without the values in it.
    pub query: &'a str,
    pub application_name: &'a str,
    /// Whether enforcement did refuse it, and not shadow mode found that it would.
    pub is_refused: bool,
    /// The same for all records of one execution, in workers too.
    pub statement: u64,
    /// Counts only if the statement has no such record yet.
    pub once: bool,
}
