//! What `tenancy.register_context` was told about a key, as it is stored.
//!
//! Pure.

use serde::{Deserialize, Serialize};

use crate::binding::StoredRelation;

/// Keys that the document has anyway.
pub const RESERVED: [&str; 2] = ["role", "memberships"];
/// The key whose registered columns stand beside the user's id.
pub const USER: &str = "user";
/// The key whose registered columns stand beside the tenant's id.
pub const TENANT: &str = "tenant";

/// What stands under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// One row, or null.
    Object,
    /// All rows.
    Array,
}

impl Shape {
    /// The shape of that name, as `tenancy.register_context` takes it.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "object" => Self::Object,
            "array" => Self::Array,
            _ => return None,
        })
    }
}

/// The arguments of `tenancy.register_context`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    pub source: StoredRelation,
    pub shape: Shape,
    pub order_by: Option<String>,
    pub visible: Option<String>,
    /// Columns or expressions, each with `AS` where its name in the document is another.
    pub columns: Vec<String>,
    pub tenant_column: Option<String>,
    pub user_column: Option<String>,
    pub global: bool,
    pub joined: Option<StoredRelation>,
    pub joined_on: Option<String>,
    pub joined_tenant_column: Option<String>,
    pub joined_user_column: Option<String>,
    pub joined_global: bool,
    pub shown_to_admins: bool,
}

impl Registration {
    /// The tables it reads.
    pub fn relations(&self) -> impl Iterator<Item = &StoredRelation> {
        std::iter::once(&self.source).chain(&self.joined)
    }

    /// Whether the rows are some user's own, in whichever tenant.
    pub fn is_private(&self) -> bool {
        self.user_column.is_some() || self.joined_user_column.is_some()
    }

    /// Whether an admin of a tenant may see what the document of another user in it has here.
    pub fn is_shown_to_admins(&self) -> bool {
        self.shown_to_admins || !self.is_private()
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A key with the rows of a tenant.
    pub fn of_tenant() -> Registration {
        Registration {
            source: StoredRelation {
                schema: "public".into(),
                name: "apps".into(),
                relation_oid: 0,
                database_identity: 0,
                owner: String::new(),
            },
            shape: Shape::Array,
            order_by: None,
            visible: None,
            columns: vec!["name".into()],
            tenant_column: Some("tenant_id".into()),
            user_column: None,
            global: false,
            joined: None,
            joined_on: None,
            joined_tenant_column: None,
            joined_user_column: None,
            joined_global: false,
            shown_to_admins: false,
        }
    }

    #[test]
    fn rows_of_a_user_are_private_until_shown() {
        let mut registration = of_tenant();
        assert!(registration.is_shown_to_admins());
        registration.user_column = Some("user_id".into());
        assert!(!registration.is_shown_to_admins());
        registration.shown_to_admins = true;
        assert!(registration.is_shown_to_admins());
        let mut registration = of_tenant();
        registration.joined_user_column = Some("user_id".into());
        assert!(!registration.is_shown_to_admins());
    }
}
