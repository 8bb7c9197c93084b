//! The kinds of drift and their words.
//!
//! Pure: owns the code of each, and what mends it. Must never look at the catalog.

use super::render::quoted;

/// A kind of difference between catalog and registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The table is gone.
    TableDropped,
    /// It has another name.
    TableRenamed,
    /// Somebody else may take its protection off.
    OwnerChanged,
    /// The tenant column is gone.
    ColumnMissing,
    /// It has another name.
    ColumnRenamed,
    /// It has a type that no tenant has.
    ColumnType,
    /// NOT NULL is gone.
    ColumnNullable,
    /// The default is gone or another.
    DefaultChanged,
    /// ENABLE ROW LEVEL SECURITY is gone.
    RowSecurityOff,
    /// FORCE ROW LEVEL SECURITY is gone.
    RowSecurityNotForced,
    /// A policy of ours is gone.
    PolicyMissing,
    /// A policy of ours says something else.
    PolicyAltered,
    /// The user made a permissive policy, and ours would be ORed with it.
    PolicyAdded,
    /// The trigger is gone.
    TriggerMissing,
    /// The trigger does not fire.
    TriggerDisabled,
    /// The trigger fires for something else.
    TriggerAltered,
    /// No index leads with the tenant.
    IndexMissing,
    /// The one that was made is not valid.
    IndexInvalid,
    /// A key that carries the tenant is gone.
    KeyMissing,
    /// A partition or child is not protected like its parent.
    PartitionUnprotected,
    /// A table of a schema of `tenancy.auto_protect` is not protected.
    TableUnprotected,
    /// The event trigger of `tenancy.auto_protect` is disabled.
    AutoProtectOff,
    /// The database is not bound.
    NotBound,
    /// What it should be cannot be told.
    NotComparable,
    /// Another session holds the table exclusively, and what is new in it cannot be read.
    Locked,
}

impl Code {
    /// Its name in SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TableDropped => "table_dropped",
            Self::TableRenamed => "table_renamed",
            Self::OwnerChanged => "owner_changed",
            Self::ColumnMissing => "column_missing",
            Self::ColumnRenamed => "column_renamed",
            Self::ColumnType => "column_type",
            Self::ColumnNullable => "column_nullable",
            Self::DefaultChanged => "default_changed",
            Self::RowSecurityOff => "row_security_off",
            Self::RowSecurityNotForced => "row_security_not_forced",
            Self::PolicyMissing => "policy_missing",
            Self::PolicyAltered => "policy_altered",
            Self::PolicyAdded => "policy_added",
            Self::TriggerMissing => "trigger_missing",
            Self::TriggerDisabled => "trigger_disabled",
            Self::TriggerAltered => "trigger_altered",
            Self::IndexMissing => "index_missing",
            Self::IndexInvalid => "index_invalid",
            Self::KeyMissing => "key_missing",
            Self::PartitionUnprotected => "partition_unprotected",
            Self::TableUnprotected => "table_unprotected",
            Self::AutoProtectOff => "auto_protect_off",
            Self::NotBound => "not_bound",
            Self::NotComparable => "not_comparable",
            Self::Locked => "locked",
        }
    }

    /// Whether `tenancy.repair` mends it. The rest takes a decision or data that only people have.
    pub const fn is_mended(self) -> bool {
        !matches!(
            self,
            Self::OwnerChanged
                | Self::ColumnMissing
                | Self::ColumnType
                | Self::NotBound
                | Self::NotComparable
                | Self::Locked
        )
    }
}

/// A difference between catalog and registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The table; `None` where it is gone, or where no table is concerned.
    pub relation: Option<u32>,
    /// What it is called, as SQL names it.
    pub name: String,
    /// The kind.
    pub code: Code,
    /// In words.
    pub detail: String,
    /// SQL that mends it.
    pub remediation: String,
}

/// `schema.table`, quoted where it must be by being quoted always.
pub fn qualified(schema: &str, table: &str) -> String {
    format!("{}.{}", quoted(schema), quoted(table))
}

/// A string constant.
pub fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!(" E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// The call that mends a table.
pub fn repair_call(name: &str) -> String {
    format!("SELECT * FROM tenancy.repair({})", literal(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_the_call() {
        let name = qualified("my.app", "it's \"odd\" \\");
        assert_eq!(
            repair_call(&name),
            "SELECT * FROM tenancy.repair( E'\"my.app\".\"it''s \"\"odd\"\" \\\\\"')"
        );
        assert_eq!(repair_call("a"), "SELECT * FROM tenancy.repair('a')");
    }
}
