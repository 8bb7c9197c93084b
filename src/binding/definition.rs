//! What `tenancy.bind` was told, as it is stored.
//!
//! Pure. Holds relations by name, with an oid as a hint that follows a rename.

use serde::{Deserialize, Serialize};

use crate::catalog::RelationName;
use crate::context::identity::TenantType;
use crate::context::setting;

/// A relation as the registry stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRelation {
    pub schema: String,
    pub name: String,
    pub relation_oid: u32,
    pub database_identity: u32,
    /// Who owned it when it was bound: whoever takes the name later is not believed.
    #[serde(default)]
    pub owner: String,
}

impl StoredRelation {
    /// The name alone.
    pub fn relation_name(&self) -> RelationName {
        RelationName {
            schema: self.schema.clone(),
            name: self.name.clone(),
        }
    }
}

/// The arguments of `tenancy.bind`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    pub tenant_type: TenantType,
    pub user_setting: String,
    pub tenant_setting: Option<String>,
    pub claims_setting: Option<String>,
    pub user_claim: String,
    pub tenant_claim: Option<String>,
    pub membership: Option<StoredRelation>,
    pub membership_user: String,
    pub membership_tenant: String,
    pub membership_role: Option<String>,
    pub membership_active: Option<String>,
    pub role_table: Option<StoredRelation>,
    pub role_user: String,
    pub role_column: String,
    pub tenants: Option<StoredRelation>,
    pub tenants_id: String,
    pub tenants_active: Option<String>,
    pub admin_roles: Vec<String>,
    pub super_admin_roles: Vec<String>,
    pub platform_tenant: Option<String>,
    pub identity_writers: Vec<String>,
}

/// How much a role may do: members at the bottom, then the admin roles in their order, then the super
/// admin roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    Member,
    Admin(usize),
    SuperAdmin,
}

impl Definition {
    /// The relations it names, bound or not found.
    pub fn relations(&self) -> impl Iterator<Item = &StoredRelation> {
        [&self.membership, &self.role_table, &self.tenants]
            .into_iter()
            .flatten()
    }

    /// The rank of a role.
    pub fn rank(&self, role: &str) -> Rank {
        if self.super_admin_roles.iter().any(|name| name == role) {
            return Rank::SuperAdmin;
        }
        match self.admin_roles.iter().position(|name| name == role) {
            Some(position) => Rank::Admin(position),
            None => Rank::Member,
        }
    }

    /// The setting of the tenant, and its other name where it has one.
    pub fn tenant_setting_names(&self) -> impl Iterator<Item = &str> {
        let name = self.tenant_setting.as_deref();
        name.into_iter().chain(name.and_then(setting::alias))
    }

    /// Whether the setting carries the tenant.
    pub fn is_tenant_setting(&self, name: &str) -> bool {
        self.tenant_setting_names()
            .any(|tenant_setting| tenant_setting == name)
    }

    /// Every setting that carries a part of the context, the one to set first first.
    pub fn setting_names(&self) -> Vec<String> {
        let user = Some(self.user_setting.as_str());
        let claims = self.claims_setting.as_deref();
        let identifies_user = claims.into_iter().chain(user);
        let tenant = self.tenant_setting_names();
        let names: Vec<&str> = if self.membership.is_none() {
            tenant.chain(identifies_user).collect()
        } else {
            identifies_user.chain(tenant).collect()
        };
        names.into_iter().map(str::to_owned).collect()
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The arguments as `tenancy.bind()` fills them in.
    pub fn defaults() -> Definition {
        Definition {
            tenant_type: TenantType::Bigint,
            user_setting: "app.current_user_id".into(),
            tenant_setting: None,
            claims_setting: None,
            user_claim: "sub".into(),
            tenant_claim: None,
            membership: None,
            membership_user: "user_id".into(),
            membership_tenant: "tenant_id".into(),
            membership_role: None,
            membership_active: None,
            role_table: None,
            role_user: "id".into(),
            role_column: "role".into(),
            tenants: None,
            tenants_id: "id".into(),
            tenants_active: None,
            admin_roles: vec!["admin".into(), "owner".into(), "super_admin".into()],
            super_admin_roles: vec!["super_admin".into()],
            platform_tenant: None,
            identity_writers: Vec::new(),
        }
    }

    #[test]
    fn roles_rank_in_the_order_they_are_listed() {
        let definition = defaults();
        assert!(definition.rank("user") < definition.rank("admin"));
        assert!(definition.rank("admin") < definition.rank("owner"));
        assert!(definition.rank("owner") < definition.rank("super_admin"));
        assert_eq!(definition.rank("super_admin"), Rank::SuperAdmin);
    }

    #[test]
    fn the_tenant_setting_has_two_names() {
        let mut definition = defaults();
        definition.tenant_setting = Some("app.current_org_id".into());
        assert_eq!(
            definition.setting_names(),
            [
                "app.current_org_id",
                "app.current_tenant_id",
                "app.current_user_id"
            ]
        );
        assert!(definition.is_tenant_setting("app.current_tenant_id"));
        definition.tenant_setting = Some("my.tenant".into());
        assert!(!definition.is_tenant_setting("app.current_tenant_id"));
    }
}
