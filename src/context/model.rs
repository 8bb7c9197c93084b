//! A resolved context: who is asking, and for which tenant.
//!
//! Pure. Owns the choice of the tenant among the user's memberships. Must fail closed: whatever is
//! not plainly a tenant is `Missing` or `Ambiguous`.

use super::identity::TenantId;

/// One tenant of the user, with the roles there, the one that may do most first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    pub tenant: TenantId,
    pub roles: Vec<Box<str>>,
}

/// Why there is no tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// `tenancy.bind` was never called.
    NotBound,
    /// Neither user nor tenant is set.
    NothingSet,
    /// A user is set that has no active membership.
    NoMembership,
    /// The chosen tenant is not one of the user's, or is not active.
    NotAMember,
    /// The chosen tenant does not exist or is not active, and there are no memberships to ask.
    InactiveTenant,
}

/// Which tenant counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// This one.
    Tenant(TenantId),
    /// None.
    Missing(Missing),
    /// One of so many, and none was chosen.
    Ambiguous(usize),
}

/// What the settings say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Asked {
    pub user: Option<Box<str>>,
    pub tenant: Option<TenantId>,
    /// A service asks, in the name of the tenant and of no user.
    pub service: bool,
}

/// Who is asking, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    pub user: Option<Box<str>>,
    pub standing: Standing,
    /// The role in the tenant, then the role that does not depend on it; empty without a tenant.
    pub roles: Vec<Box<str>>,
    pub memberships: Vec<Membership>,
    /// A service acts for the tenant: it may what the tenant's admins may, and has none of their roles,
    /// so that it cannot grant any.
    pub service: bool,
}

impl Resolved {
    /// Nobody.
    pub fn missing(reason: Missing) -> Self {
        Self {
            user: None,
            standing: Standing::Missing(reason),
            roles: Vec::new(),
            memberships: Vec::new(),
            service: false,
        }
    }

    /// A service for a tenant.
    pub fn service(asked: &Asked, tenant_active: bool) -> Self {
        let tenant_alone = Asked {
            user: None,
            ..asked.clone()
        };
        Self {
            service: true,
            ..Self::trusted(&tenant_alone, tenant_active, None)
        }
    }

    /// The role that counts most for the tenant.
    pub fn role(&self) -> Option<&str> {
        self.roles.first().map(AsRef::as_ref)
    }

    /// Whether one of the user's roles is in the list.
    pub fn has_role_in<T: AsRef<str>>(&self, list: &[T]) -> bool {
        self.roles
            .iter()
            .any(|role| list.iter().any(|listed| listed.as_ref() == &**role))
    }

    /// The tenant, when there is exactly one that counts.
    pub fn tenant(&self) -> Option<&TenantId> {
        match &self.standing {
            Standing::Tenant(tenant) => Some(tenant),
            _ => None,
        }
    }

    /// A user among tenants: the chosen one if it is among the memberships, the only one if none was
    /// chosen. `role` is the role that does not depend on the tenant, where there is one.
    pub fn among(asked: &Asked, memberships: Vec<Membership>, role: Option<Box<str>>) -> Self {
        let counting = match (&asked.tenant, memberships.as_slice()) {
            _ if asked.user.is_none() => Err(Standing::Missing(Missing::NothingSet)),
            (_, []) => Err(Standing::Missing(Missing::NoMembership)),
            (Some(chosen), all) => all
                .iter()
                .find(|membership| membership.tenant == *chosen)
                .ok_or(Standing::Missing(Missing::NotAMember)),
            (None, [only]) => Ok(only),
            (None, several) => Err(Standing::Ambiguous(several.len())),
        };
        let (standing, roles) = match counting {
            Ok(membership) => (
                Standing::Tenant(membership.tenant.clone()),
                membership.roles.iter().cloned().chain(role).collect(),
            ),
            Err(standing) => (standing, Vec::new()),
        };
        Self {
            user: asked.user.clone(),
            standing,
            roles,
            memberships,
            service: false,
        }
    }

    /// The tenant is trusted as it was set: no membership table is bound.
    pub fn trusted(asked: &Asked, tenant_active: bool, role: Option<Box<str>>) -> Self {
        let standing = match &asked.tenant {
            Some(tenant) if tenant_active => Standing::Tenant(tenant.clone()),
            Some(_) => Standing::Missing(Missing::InactiveTenant),
            None => Standing::Missing(Missing::NothingSet),
        };
        let (roles, memberships) = match &standing {
            Standing::Tenant(tenant) => {
                let roles: Vec<_> = role.into_iter().collect();
                (
                    roles.clone(),
                    vec![Membership {
                        tenant: tenant.clone(),
                        roles,
                    }],
                )
            }
            _ => (Vec::new(), Vec::new()),
        };
        Self {
            user: asked.user.clone(),
            standing,
            roles,
            memberships,
            service: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(id: i64) -> TenantId {
        TenantId::Bigint(id)
    }

    fn member(id: i64, role: &str) -> Membership {
        Membership {
            tenant: tenant(id),
            roles: vec![role.into()],
        }
    }

    fn asked(id: Option<i64>) -> Asked {
        Asked {
            user: Some("u".into()),
            tenant: id.map(tenant),
            service: false,
        }
    }

    #[test]
    fn the_only_membership_counts_without_a_choice() {
        let resolved = Resolved::among(&asked(None), vec![member(1, "admin")], None);
        assert_eq!(resolved.standing, Standing::Tenant(tenant(1)));
        assert_eq!(resolved.role(), Some("admin"));
    }

    #[test]
    fn several_memberships_need_a_choice() {
        let all = vec![member(1, "admin"), member(2, "user")];
        let resolved = Resolved::among(&asked(None), all.clone(), None);
        assert_eq!(resolved.standing, Standing::Ambiguous(2));
        assert_eq!((resolved.role(), resolved.memberships.len()), (None, 2));
        let resolved = Resolved::among(&asked(Some(2)), all, None);
        assert_eq!(resolved.tenant(), Some(&tenant(2)));
        assert_eq!(resolved.role(), Some("user"));
    }

    #[test]
    fn a_chosen_tenant_needs_its_membership() {
        let resolved = Resolved::among(
            &asked(Some(3)),
            vec![member(1, "admin")],
            Some("admin".into()),
        );
        assert_eq!(resolved.standing, Standing::Missing(Missing::NotAMember));
        assert_eq!(resolved.role(), None);
        let resolved = Resolved::among(&asked(Some(3)), vec![], None);
        assert_eq!(resolved.standing, Standing::Missing(Missing::NoMembership));
    }

    #[test]
    fn a_role_from_elsewhere_counts_only_with_a_tenant() {
        let resolved = Resolved::among(&asked(None), vec![member(1, "user")], Some("owner".into()));
        assert!(resolved.has_role_in(&["owner"]) && resolved.has_role_in(&["user"]));
        assert_eq!(resolved.role(), Some("user"));
        let resolved = Resolved::trusted(&asked(Some(1)), false, Some("owner".into()));
        assert_eq!((resolved.tenant(), resolved.role()), (None, None));
    }

    #[test]
    fn a_service_has_a_tenant_and_neither_user_nor_role() {
        let asked = Asked {
            service: true,
            ..asked(Some(1))
        };
        let resolved = Resolved::service(&asked, true);
        assert_eq!(resolved.tenant(), Some(&tenant(1)));
        assert_eq!((resolved.user.as_ref(), resolved.role()), (None, None));
        assert!(resolved.service);
        let resolved = Resolved::service(&asked, false);
        assert_eq!(
            resolved.standing,
            Standing::Missing(Missing::InactiveTenant)
        );
    }

    #[test]
    fn a_trusted_tenant_needs_only_to_be_set_and_active() {
        assert_eq!(
            Resolved::trusted(&asked(Some(1)), true, None).tenant(),
            Some(&tenant(1))
        );
        assert_eq!(
            Resolved::trusted(&asked(None), true, None).standing,
            Standing::Missing(Missing::NothingSet)
        );
    }
}
