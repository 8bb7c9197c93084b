//! What grades are made of, as plain values.
//!
//! Pure.

use serde::Deserialize;

use super::super::data::Finding;

/// What was read, or why it could not be.
pub type Known<T> = core::result::Result<T, String>;

/// All of it.
#[derive(Debug, Clone)]
pub struct Facts {
    pub found: Known<Vec<Finding>>,
    pub status: Known<Vec<Status>>,
    pub coverage: Known<Coverage>,
    pub rollout: Known<Rollout>,
    pub expected: Known<Expected>,
    pub data: Known<Data>,
}

/// A line of `tenancy.status()`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Status {
    pub feature: String,
    pub state: String,
    pub detail: String,
}

/// Tenant tables.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct Coverage {
    pub tables: i64,
    pub registered: i64,
    pub enforced: i64,
    /// Those with row security, whoever switched it on.
    pub bound: i64,
}

/// Registered tables by mode.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct Rollout {
    pub enforced: i64,
    pub shadowed: i64,
    pub permissive: i64,
    pub ready: i64,
    pub denials: i64,
    /// Statements that enforcement has refused.
    pub refused: i64,
}

/// Rules of `tenancy.expected_columns`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct Expected {
    pub columns: i64,
    pub differ: i64,
}

/// What is known of rows without reading any.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct Data {
    pub tables: i64,
    pub rows: i64,
    pub not_validated: i64,
}
