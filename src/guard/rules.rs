//! Who may change identity data through an application role.
//!
//! Pure. Everything that is not plainly allowed is refused.

use crate::binding::Rank;

/// Whoever is asking, in his current tenant.
#[derive(Debug, Clone, Copy)]
pub struct Actor {
    pub is_super_admin: bool,
    /// The rank of his role; `None` without a tenant or without a role.
    pub rank: Option<Rank>,
}

/// What happens to the row, as far as identity is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Insert,
    Delete,
    /// `only_role`: no other identity column changes.
    Update {
        only_role: bool,
    },
}

/// Whom a row concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The actor's tenant and no other.
    InTenant,
    /// Another tenant, several, or nobody knows.
    Elsewhere,
}

/// A row as a grant of a role in a tenant.
#[derive(Debug, Clone, Copy)]
pub struct Grant {
    pub rank: Rank,
    pub kept: Kept,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// With the reason, lower-case.
    Refused(&'static str),
}

/// Rows that give users their tenant and role: a tenant admin may grant, change and withdraw roles up
/// to his own, in his tenant; nobody may touch a super admin role.
pub fn grants(
    actor: Actor,
    change: Change,
    before: Option<Grant>,
    after: Option<Grant>,
) -> Verdict {
    let Some(own @ (Rank::Admin(_) | Rank::SuperAdmin)) = actor.rank else {
        return Verdict::Refused("only a tenant admin may write them");
    };
    if change == (Change::Update { only_role: false }) {
        return Verdict::Refused(
            "user, tenant and state of a membership cannot be changed, only the role",
        );
    }
    for grant in before.iter().chain(&after) {
        if grant.kept == Kept::Elsewhere {
            return Verdict::Refused("the row concerns another tenant");
        }
        if grant.rank == Rank::SuperAdmin {
            return Verdict::Refused("a super admin role cannot be granted or withdrawn");
        }
        if grant.rank > own {
            return Verdict::Refused("the role ranks above the current user's");
        }
    }
    Verdict::Allowed
}

/// Rows that are tenants: super admins only.
pub fn tenants(actor: Actor, _change: Change) -> Verdict {
    if actor.is_super_admin {
        Verdict::Allowed
    } else {
        Verdict::Refused("only a super admin may write them")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: Change = Change::Update { only_role: true };

    fn actor(rank: Rank) -> Actor {
        Actor {
            is_super_admin: rank == Rank::SuperAdmin,
            rank: Some(rank),
        }
    }

    fn grant(rank: Rank, kept: Kept) -> Option<Grant> {
        Some(Grant { rank, kept })
    }

    fn refused(verdict: Verdict) -> bool {
        matches!(verdict, Verdict::Refused(_))
    }

    #[test]
    fn members_write_nothing() {
        let row = grant(Rank::Member, Kept::InTenant);
        for change in [Change::Insert, Change::Delete, ROLE] {
            assert!(refused(grants(actor(Rank::Member), change, row, row)));
            let nobody = Actor {
                is_super_admin: false,
                rank: None,
            };
            assert!(refused(grants(nobody, change, row, row)));
        }
    }

    #[test]
    fn admins_grant_up_to_their_own_role() {
        let (admin, member) = (actor(Rank::Admin(0)), grant(Rank::Member, Kept::InTenant));
        let to = |rank| grants(admin, ROLE, member, grant(rank, Kept::InTenant));
        assert_eq!(to(Rank::Admin(0)), Verdict::Allowed);
        assert!(refused(to(Rank::Admin(1))));
        assert!(refused(to(Rank::SuperAdmin)));
        assert_eq!(
            grants(admin, Change::Insert, None, member),
            Verdict::Allowed
        );
        assert_eq!(
            grants(admin, Change::Delete, member, None),
            Verdict::Allowed
        );
    }

    #[test]
    fn admins_cannot_demote_who_ranks_above() {
        let owner = grant(Rank::Admin(1), Kept::InTenant);
        let member = grant(Rank::Member, Kept::InTenant);
        assert!(refused(grants(actor(Rank::Admin(0)), ROLE, owner, member)));
        assert!(refused(grants(
            actor(Rank::Admin(0)),
            Change::Delete,
            owner,
            None
        )));
    }

    #[test]
    fn admins_stay_in_their_tenant() {
        let (here, there) = (
            grant(Rank::Member, Kept::InTenant),
            grant(Rank::Member, Kept::Elsewhere),
        );
        assert!(refused(grants(
            actor(Rank::Admin(0)),
            Change::Insert,
            None,
            there
        )));
        assert!(refused(grants(actor(Rank::Admin(0)), ROLE, here, there)));
        assert!(refused(grants(actor(Rank::Admin(0)), ROLE, there, here)));
        let moved = Change::Update { only_role: false };
        assert!(refused(grants(actor(Rank::Admin(0)), moved, here, here)));
    }

    #[test]
    fn even_a_super_admin_makes_no_other() {
        let member = grant(Rank::Member, Kept::InTenant);
        let verdict = grants(
            actor(Rank::SuperAdmin),
            ROLE,
            member,
            grant(Rank::SuperAdmin, Kept::InTenant),
        );
        assert!(refused(verdict));
    }

    #[test]
    fn tenants_are_for_super_admins() {
        assert!(refused(tenants(actor(Rank::Admin(1)), Change::Insert)));
        assert_eq!(
            tenants(actor(Rank::SuperAdmin), Change::Insert),
            Verdict::Allowed
        );
    }
}
