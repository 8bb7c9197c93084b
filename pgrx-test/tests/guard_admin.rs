//! The identity guard and a tenant's admin: he rules his tenant up to his own role, and nothing else.

mod guard_support;

use guard_support::*;

fn set_role(id: u32, role: &str) -> String {
    format!("UPDATE platform.organization_members SET role = '{role}' WHERE id = {id}")
}

fn invite(who: u32, tenant: u32, role: &str) -> String {
    format!(
        "INSERT INTO platform.organization_members (user_id, organization_id, role) VALUES ('{}', '{}', '{role}')",
        user(who),
        org(tenant)
    )
}

#[test]
fn an_admin_grants_up_to_his_own_role() {
    let studio = System::studio();
    studio.allowed(ADMIN, ORG_A, &set_role(1, "admin"));
    studio.allowed(ADMIN, ORG_A, &set_role(1, "member"));
    studio.refused(ADMIN, ORG_A, &set_role(1, "owner"));
    studio.refused(ADMIN, ORG_A, &set_role(2, "owner"));
    studio.allowed(OWNER, ORG_A, &set_role(1, "owner"));
}

#[test]
fn nobody_grants_a_super_admin_role() {
    let studio = System::studio();
    for actor in [MEMBER, ADMIN, OWNER, SUPER_ADMIN] {
        studio.refused(actor, ORG_A, &set_role(1, "super_admin"));
        if actor != SUPER_ADMIN {
            studio.refused(actor, ORG_A, &set_role(actor, "super_admin"));
        }
        studio.refused(actor, ORG_A, &invite(NEWCOMER, ORG_A, "super_admin"));
    }
}

#[test]
fn nobody_is_demoted_by_who_ranks_below() {
    let studio = System::studio();
    for id in [OWNER, SUPER_ADMIN] {
        studio.refused(ADMIN, ORG_A, &set_role(id, "member"));
        studio.refused(
            ADMIN,
            ORG_A,
            &format!("DELETE FROM platform.organization_members WHERE id = {id}"),
        );
        studio.refused(
            ADMIN,
            ORG_A,
            &format!("UPDATE platform.organization_members SET active = false WHERE id = {id}"),
        );
    }
    studio.allowed(OWNER, ORG_A, &set_role(ADMIN, "member"));
}

#[test]
fn an_admin_has_no_say_in_another_tenant() {
    let studio = System::studio();
    studio.refused(ADMIN, ORG_A, &set_role(5, "admin"));
    studio.refused(
        ADMIN,
        ORG_A,
        &set_role(5, "member").replace("role = 'member'", "role = NULL"),
    );
    studio.refused(ADMIN, ORG_A, &invite(ADMIN, ORG_B, "member"));
    studio.refused(ADMIN, ORG_A, &invite(NEWCOMER, ORG_B, "member"));
    studio.refused(
        ADMIN,
        ORG_A,
        "DELETE FROM platform.organization_members WHERE id = 5",
    );
    studio.refused(
        ADMIN,
        ORG_A,
        &format!(
            "UPDATE platform.organization_members SET organization_id = '{}' WHERE id = 5",
            org(ORG_A)
        ),
    );
    studio.refused(
        ADMIN,
        ORG_A,
        &format!(
            "UPDATE platform.organization_members SET organization_id = '{}' WHERE id = 1",
            org(ORG_B)
        ),
    );
    // He names the other tenant as his active one: without a membership that is no context.
    for sql in [set_role(5, "admin"), invite(ADMIN, ORG_B, "admin")] {
        studio.refused(ADMIN, ORG_B, &sql);
    }
    studio.refused(STRANDED, SUSPENDED, &invite(NEWCOMER, SUSPENDED, "member"));
}

#[test]
fn one_statement_over_two_tenants_is_refused_as_a_whole() {
    let studio = System::studio();
    studio.refused(
        ADMIN,
        ORG_A,
        "UPDATE platform.organization_members SET role = 'admin' WHERE id IN (1, 5)",
    );
    studio.refused(
        ADMIN,
        ORG_A,
        &format!(
            "{}, ('{}', '{}', 'member')",
            invite(NEWCOMER, ORG_A, "member"),
            user(NEWCOMER),
            org(ORG_B)
        ),
    );
}

#[test]
fn an_admin_invites_and_removes_members_of_his_tenant() {
    let studio = System::studio();
    studio.allowed(ADMIN, ORG_A, &invite(NEWCOMER, ORG_A, "member"));
    studio.allowed(ADMIN, ORG_A, &invite(MEMBER_B, ORG_A, "admin"));
    studio.allowed(
        ADMIN,
        ORG_A,
        "DELETE FROM platform.organization_members WHERE id = 1",
    );
    studio.refused(ADMIN, ORG_A, &invite(NEWCOMER, ORG_A, "owner"));
}

#[test]
fn who_was_demoted_in_this_transaction_grants_nothing_more() {
    let studio = System::studio();
    studio.refused(
        ADMIN,
        ORG_A,
        &format!("{}; {}", set_role(ADMIN, "member"), set_role(1, "admin")),
    );
}

#[test]
fn an_admin_sets_roles_in_a_table_of_its_own_for_users_of_his_tenant_alone() {
    let agents = System::agents();
    let role = |who: u32, role: &str| {
        format!(
            "UPDATE profiles SET role = '{role}' WHERE id = '{}'",
            user(who)
        )
    };
    agents.allowed(ADMIN, ORG_A, &role(MEMBER, "admin"));
    agents.allowed(ADMIN, ORG_A, &role(MEMBER, "user"));
    for (who, wanted) in [
        (MEMBER, "super_admin"),
        (MEMBER, "owner"),
        (ADMIN, "super_admin"),
        (SUPER_ADMIN, "user"),
        (MEMBER_B, "admin"),
        (STRANDED, "user"),
    ] {
        agents.refused(ADMIN, ORG_A, &role(who, wanted));
    }
    // In no tenant yet: nobody's user.
    agents.refused(
        ADMIN,
        ORG_A,
        &format!("INSERT INTO profiles VALUES ('{}', 'user')", user(NEWCOMER)),
    );
    agents.refused(
        ADMIN,
        ORG_A,
        &format!("DELETE FROM profiles WHERE id = '{}'", user(SUPER_ADMIN)),
    );
    agents.allowed(
        ADMIN,
        ORG_A,
        &format!("DELETE FROM profiles WHERE id = '{}'", user(MEMBER)),
    );
    agents.allowed(
        ADMIN,
        ORG_A,
        &format!("INSERT INTO profiles VALUES ('{}', 'admin')", user(MEMBER)),
    );
}

/// The role is in another table: taking the membership takes the role with it.
#[test]
fn nobody_is_removed_by_who_ranks_below() {
    let agents = System::agents();
    let remove = |number| format!("DELETE FROM users WHERE id = '{}'", user(number));
    agents.refused(ADMIN, ORG_A, &remove(SUPER_ADMIN));
    agents.refused(SUPER_ADMIN, ORG_A, &remove(SUPER_ADMIN));
    agents.refused(MEMBER, ORG_A, &remove(ADMIN));
    agents.allowed(ADMIN, ORG_A, &remove(MEMBER));
    agents.allowed(ADMIN, ORG_A, &remove(ADMIN));
}

#[test]
fn users_of_another_tenant_cannot_be_taken() {
    let agents = System::agents();
    agents.refused(
        ADMIN,
        ORG_A,
        &format!(
            "UPDATE users SET organization_id = '{}' WHERE id = '{}'",
            org(ORG_A),
            user(MEMBER_B)
        ),
    );
    agents.refused(
        ADMIN,
        ORG_A,
        &format!(
            "UPDATE users SET organization_id = '{}' WHERE id = '{}'",
            org(ORG_A),
            user(STRANDED)
        ),
    );
    agents.refused(
        ADMIN,
        ORG_A,
        &format!("DELETE FROM users WHERE id = '{}'", user(MEMBER_B)),
    );
    agents.allowed(
        ADMIN,
        ORG_A,
        &format!(
            "INSERT INTO users VALUES ('{}', '{}')",
            user(20),
            org(ORG_A)
        ),
    );
    agents.refused(
        ADMIN,
        ORG_A,
        &format!(
            "INSERT INTO users VALUES ('{}', '{}')",
            user(21),
            org(ORG_B)
        ),
    );
    agents.refused(
        ADMIN,
        ORG_A,
        &format!("INSERT INTO users VALUES ('{}', NULL)", user(22)),
    );
}

#[test]
fn tenants_are_written_by_super_admins() {
    let studio = System::studio();
    studio.allowed(
        SUPER_ADMIN,
        ORG_A,
        &format!(
            "UPDATE platform.organizations SET is_active = true WHERE id = '{}'",
            org(SUSPENDED)
        ),
    );
    studio.allowed(
        SUPER_ADMIN,
        ORG_A,
        &format!(
            "INSERT INTO platform.organizations VALUES ('{}', 'New')",
            org(30)
        ),
    );
    // Not without a tenant of his own.
    studio.refused(
        SUPER_ADMIN,
        ORG_B,
        &format!(
            "INSERT INTO platform.organizations VALUES ('{}', 'New')",
            org(31)
        ),
    );
}

#[test]
fn a_membership_that_does_not_count_now_still_concerns_its_tenant() {
    let studio = System::studio();
    studio.as_owner(&format!(
        "INSERT INTO platform.organization_members (user_id, organization_id, active) VALUES ('{newcomer}', '{b}', false);
         CREATE TABLE platform.profiles (id uuid PRIMARY KEY, role text);
         INSERT INTO platform.profiles SELECT DISTINCT user_id, 'member' FROM platform.organization_members;
         GRANT SELECT, UPDATE ON platform.profiles TO {app};
         SELECT tenancy.bind(tenant_setting => 'app.current_org_id',
             membership => 'platform.organization_members', membership_tenant => 'organization_id',
             membership_role => 'role', membership_active => 'active', role_table => 'platform.profiles',
             tenants => 'platform.organizations', tenants_active => 'is_active')",
        newcomer = user(NEWCOMER),
        b = org(ORG_B),
        app = studio.app
    ));
    let promote = |who: u32| {
        format!(
            "UPDATE platform.profiles SET role = 'admin' WHERE id = '{}'",
            user(who)
        )
    };
    // Could be reactivated where he left, and be an admin there.
    studio.refused(ADMIN_B, ORG_B, &promote(LEAVER));
    // Whose only membership does not count is nobody's user yet.
    studio.refused(ADMIN_B, ORG_B, &promote(NEWCOMER));
    studio.allowed(ADMIN_B, ORG_B, &promote(MEMBER_B));
}
