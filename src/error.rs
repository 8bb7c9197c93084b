//! Every error the extension raises: one kind, one SQLSTATE.
//!
//! Owns how an error reaches the client: message lower-case without a full stop, DETAIL for facts,
//! HINT an imperative sentence. Must never carry another tenant's values: only what the caller gave
//! and names of catalog objects.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};

/// What went wrong, in terms of the SQLSTATE that a client can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 42501: no tenant context, not a member, or a privilege that the caller lacks.
    InsufficientPrivilege,
    /// 22P02: an identifier or a document that does not parse.
    InvalidTextRepresentation,
    /// 22023: an argument or a setting that parses but cannot be.
    InvalidParameterValue,
    /// 22004: an argument that may not be null.
    NullValueNotAllowed,
    /// 42P01: a relation that does not exist.
    UndefinedTable,
    /// 42703: a column that does not exist.
    UndefinedColumn,
    /// 42704: a role, a policy or another object that does not exist.
    UndefinedObject,
    /// 3F000: a schema that does not exist.
    UndefinedSchema,
    /// 42809: a relation of a kind that cannot be bound or protected.
    WrongObjectType,
    /// 42804: a column of another type than the tenant's.
    DatatypeMismatch,
    /// 42710: an object that exists already.
    DuplicateObject,
    /// 23502: rows without a tenant.
    NotNullViolation,
    /// 23503: rows that point across tenants.
    ForeignKeyViolation,
    /// 23514: a row that may not change its tenant.
    CheckViolation,
    /// 21000: more than one row where one is meant.
    CardinalityViolation,
    /// P0002: no row where one is meant.
    NoDataFound,
    /// 55000: right, but not now.
    ObjectNotInPrerequisiteState,
    /// 25001: what commits by itself, inside a transaction block.
    ActiveSqlTransaction,
    /// 0A000: not built.
    FeatureNotSupported,
    /// 54000: more than fits.
    ProgramLimitExceeded,
    /// XX000: a fault of ours.
    Internal,
}

impl Kind {
    /// The five-character code that clients see.
    pub const fn sqlstate(self) -> PgSqlErrorCode {
        use PgSqlErrorCode as C;
        match self {
            Self::InsufficientPrivilege => C::ERRCODE_INSUFFICIENT_PRIVILEGE,
            Self::InvalidTextRepresentation => C::ERRCODE_INVALID_TEXT_REPRESENTATION,
            Self::InvalidParameterValue => C::ERRCODE_INVALID_PARAMETER_VALUE,
            Self::NullValueNotAllowed => C::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            Self::UndefinedTable => C::ERRCODE_UNDEFINED_TABLE,
            Self::UndefinedColumn => C::ERRCODE_UNDEFINED_COLUMN,
            Self::UndefinedObject => C::ERRCODE_UNDEFINED_OBJECT,
            Self::UndefinedSchema => C::ERRCODE_INVALID_SCHEMA_NAME,
            Self::WrongObjectType => C::ERRCODE_WRONG_OBJECT_TYPE,
            Self::DatatypeMismatch => C::ERRCODE_DATATYPE_MISMATCH,
            Self::DuplicateObject => C::ERRCODE_DUPLICATE_OBJECT,
            Self::NotNullViolation => C::ERRCODE_NOT_NULL_VIOLATION,
            Self::ForeignKeyViolation => C::ERRCODE_FOREIGN_KEY_VIOLATION,
            Self::CheckViolation => C::ERRCODE_CHECK_VIOLATION,
            Self::CardinalityViolation => C::ERRCODE_CARDINALITY_VIOLATION,
            Self::NoDataFound => C::ERRCODE_NO_DATA_FOUND,
            Self::ObjectNotInPrerequisiteState => C::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Self::ActiveSqlTransaction => C::ERRCODE_ACTIVE_SQL_TRANSACTION,
            Self::FeatureNotSupported => C::ERRCODE_FEATURE_NOT_SUPPORTED,
            Self::ProgramLimitExceeded => C::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            Self::Internal => C::ERRCODE_INTERNAL_ERROR,
        }
    }
}

/// An error on its way to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

/// The result of everything that can fail in a way the user should understand.
pub type Result<T> = core::result::Result<T, Error>;

impl Error {
    /// An error with its message.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    /// Adds the facts.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says which key of the context document it is about.
    pub fn about_key(mut self, key: &str) -> Self {
        self.message = format!(
            "key \"{key}\" of the tenant context document: {}",
            self.message
        );
        self.hint.get_or_insert_with(|| {
            "Mend the source and call tenancy.register_context again, or take the key away with tenancy.unregister_context.".to_owned()
        });
        self
    }

    /// The kind, for rules that treat one kind apart.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The message without DETAIL and HINT, for reports that list failures.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The DETAIL, where there is one.
    pub fn detail_text(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// The HINT, where there is one.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Raises the error in Postgres; does not return.
    pub fn raise(self) -> ! {
        let mut report = ErrorReport::new(self.kind.sqlstate(), self.message, "pg_tenancy");
        if let Some(detail) = self.detail {
            report = report.set_detail(detail);
        }
        if let Some(hint) = self.hint {
            report = report.set_hint(hint);
        }
        report.report(PgLogLevel::ERROR);
        unreachable!("an ERROR does not return")
    }
}

/// Ends a function that SQL calls: the value, or the error raised.
pub trait OrRaise {
    /// What there is when nothing went wrong.
    type Value;
    /// The value; raises the error otherwise.
    fn or_raise(self) -> Self::Value;
}

impl<T> OrRaise for Result<T> {
    type Value = T;

    fn or_raise(self) -> T {
        self.unwrap_or_else(|error| error.raise())
    }
}
