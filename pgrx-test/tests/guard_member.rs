//! The identity guard against a member: whatever way he writes, he becomes nobody else.

mod guard_support;

use std::io::Write;

use guard_support::*;
use pgrx_test::fixture::ClientExt;

const MINE: &str = "user_id = '00000000-0000-0000-0000-000000000001'";

#[test]
fn a_member_cannot_raise_his_role_in_the_membership_table() {
    let studio = System::studio();
    for role in ["admin", "owner", "super_admin"] {
        studio.refused(
            MEMBER,
            ORG_A,
            &format!("UPDATE platform.organization_members SET role = '{role}' WHERE {MINE}"),
        );
    }
    studio.refused(
        MEMBER,
        ORG_A,
        &format!("UPDATE platform.organization_members SET role = NULL WHERE {MINE}"),
    );
}

#[test]
fn a_member_cannot_raise_his_role_in_a_table_of_roles() {
    let agents = System::agents();
    for role in ["admin", "super_admin", "anything"] {
        agents.refused(
            MEMBER,
            ORG_A,
            &format!(
                "UPDATE profiles SET role = '{role}' WHERE id = '{}'",
                user(MEMBER)
            ),
        );
    }
    agents.refused(
        MEMBER,
        ORG_A,
        &format!(
            "UPDATE profiles SET id = '{}' WHERE id = '{}'",
            user(NEWCOMER),
            user(MEMBER)
        ),
    );
    agents.refused(
        MEMBER,
        ORG_A,
        &format!("DELETE FROM profiles WHERE id = '{}'", user(ADMIN)),
    );
}

#[test]
fn a_member_cannot_move_to_another_tenant() {
    let studio = System::studio();
    studio.refused(
        MEMBER,
        ORG_A,
        &format!(
            "UPDATE platform.organization_members SET organization_id = '{}' WHERE {MINE}",
            org(ORG_B)
        ),
    );
    studio.refused(
        MEMBER,
        ORG_A,
        &format!("UPDATE platform.organization_members SET organization_id = NULL WHERE {MINE}"),
    );
    let agents = System::agents();
    agents.refused(
        MEMBER,
        ORG_A,
        &format!(
            "UPDATE users SET organization_id = '{}' WHERE id = '{}'",
            org(ORG_B),
            user(MEMBER)
        ),
    );
}

#[test]
fn a_newcomer_cannot_join_a_tenant_by_himself() {
    let agents = System::agents();
    agents.refused(
        NEWCOMER,
        ORG_A,
        &format!(
            "UPDATE users SET organization_id = '{}' WHERE id = '{}'",
            org(ORG_A),
            user(NEWCOMER)
        ),
    );
    let studio = System::studio();
    for as_user in [NEWCOMER, MEMBER_B] {
        studio.refused(as_user, ORG_A, &format!(
            "INSERT INTO platform.organization_members (user_id, organization_id) VALUES ('{}', '{}')", user(as_user), org(ORG_A)));
    }
}

#[test]
fn a_member_cannot_take_over_another_users_row() {
    let studio = System::studio();
    studio.refused(
        MEMBER,
        ORG_A,
        &format!(
            "UPDATE platform.organization_members SET user_id = '{}' WHERE id = 2",
            user(MEMBER)
        ),
    );
    studio.refused(
        MEMBER,
        ORG_A,
        &format!(
            "UPDATE platform.organization_members SET user_id = '{}' WHERE {MINE}",
            user(NEWCOMER)
        ),
    );
}

#[test]
fn an_inactive_member_cannot_reactivate_himself() {
    let studio = System::studio();
    for tenant in [ORG_A, ORG_B] {
        studio.refused(
            LEAVER,
            tenant,
            "UPDATE platform.organization_members SET active = true WHERE id = 6",
        );
    }
}

#[test]
fn a_suspended_tenant_cannot_be_reactivated() {
    let studio = System::studio();
    for (as_user, tenant) in [
        (STRANDED, SUSPENDED),
        (MEMBER, ORG_A),
        (ADMIN, ORG_A),
        (OWNER, ORG_A),
    ] {
        studio.refused(
            as_user,
            tenant,
            &format!(
                "UPDATE platform.organizations SET is_active = true WHERE id = '{}'",
                org(SUSPENDED)
            ),
        );
    }
    let agents = System::agents();
    agents.refused(
        STRANDED,
        SUSPENDED,
        &format!(
            "UPDATE organizations SET lifecycle_state = 'active' WHERE id = '{}'",
            org(SUSPENDED)
        ),
    );
    agents.refused(
        ADMIN,
        ORG_A,
        &format!(
            "UPDATE organizations SET is_active = false WHERE id = '{}'",
            org(ORG_B)
        ),
    );
}

#[test]
fn tenants_cannot_be_made_renumbered_or_removed() {
    let studio = System::studio();
    for as_user in [MEMBER, ADMIN, OWNER] {
        studio.refused(
            as_user,
            ORG_A,
            &format!(
                "INSERT INTO platform.organizations VALUES ('{}', 'X')",
                org(77)
            ),
        );
        studio.refused(
            as_user,
            ORG_A,
            &format!(
                "UPDATE platform.organizations SET id = '{}' WHERE id = '{}'",
                org(77),
                org(EMPTY)
            ),
        );
        studio.refused(
            as_user,
            ORG_A,
            &format!(
                "DELETE FROM platform.organizations WHERE id = '{}'",
                org(ORG_B)
            ),
        );
    }
}

#[test]
fn a_member_cannot_insert_rows_that_give_a_role() {
    let studio = System::studio();
    for (tenant, role) in [
        (ORG_A, "admin"),
        (ORG_A, "member"),
        (ORG_B, "member"),
        (ORG_B, "super_admin"),
    ] {
        studio.refused(MEMBER, ORG_A, &format!(
            "INSERT INTO platform.organization_members (user_id, organization_id, role) VALUES ('{}', '{}', '{role}')", user(MEMBER), org(tenant)));
    }
    // The chosen tenant is the one he wants to get into.
    studio.refused(MEMBER, ORG_B, &format!(
        "INSERT INTO platform.organization_members (user_id, organization_id, role) VALUES ('{}', '{}', 'owner')", user(MEMBER), org(ORG_B)));
    let agents = System::agents();
    agents.as_owner("ALTER TABLE profiles DROP CONSTRAINT profiles_pkey");
    agents.refused(
        MEMBER,
        ORG_A,
        &format!("INSERT INTO profiles VALUES ('{}', 'admin')", user(MEMBER)),
    );
}

#[test]
fn deleting_and_inserting_again_is_no_way_round() {
    let studio = System::studio();
    studio.refused(MEMBER, ORG_A, &format!(
        "DELETE FROM platform.organization_members WHERE {MINE};
         INSERT INTO platform.organization_members (user_id, organization_id, role) VALUES ('{}', '{}', 'admin')", user(MEMBER), org(ORG_A)));
    studio.refused(MEMBER, ORG_A, &format!(
        "WITH gone AS (DELETE FROM platform.organization_members WHERE {MINE} RETURNING *)
         INSERT INTO platform.organization_members (user_id, organization_id, role) SELECT user_id, organization_id, 'admin' FROM gone"));
}

#[test]
fn upserts_and_merges_are_no_way_round() {
    let studio = System::studio();
    studio.refused(MEMBER, ORG_A, &format!(
        "INSERT INTO platform.organization_members (id, user_id, organization_id) VALUES (1, '{}', '{}')
         ON CONFLICT (id) DO UPDATE SET role = 'admin'", user(MEMBER), org(ORG_A)));
    studio.refused(MEMBER, ORG_A,
        "MERGE INTO platform.organization_members m USING (SELECT 1 AS id) s ON m.id = s.id WHEN MATCHED THEN UPDATE SET role = 'admin'");
    studio.refused(MEMBER, ORG_A, &format!(
        "MERGE INTO platform.organization_members m USING (SELECT 4711 AS id) s ON m.id = s.id
         WHEN NOT MATCHED THEN INSERT (user_id, organization_id, role) VALUES ('{}', '{}', 'admin')", user(MEMBER), org(ORG_A)));
    studio.refused(MEMBER, ORG_A,
        "MERGE INTO platform.organization_members m USING (SELECT 2 AS id) s ON m.id = s.id WHEN MATCHED THEN DELETE");
}

#[test]
fn an_upsert_of_a_harmless_column_is_allowed() {
    let studio = System::studio();
    studio.allowed(MEMBER, ORG_A, &format!(
        "INSERT INTO platform.organization_members (id, user_id, organization_id) VALUES (1, '{}', '{}')
         ON CONFLICT (id) DO UPDATE SET nickname = 'x'", user(MEMBER), org(ORG_A)));
    studio.allowed(MEMBER, ORG_A, &format!(
        "INSERT INTO platform.organization_members (id, user_id, organization_id, role) VALUES (1, '{}', '{}', 'admin')
         ON CONFLICT DO NOTHING", user(MEMBER), org(ORG_A)));
}

#[test]
fn update_from_is_no_way_round() {
    let studio = System::studio();
    studio.refused(MEMBER, ORG_A, &format!(
        "UPDATE platform.organization_members m SET role = o.role FROM platform.organization_members o WHERE m.{MINE} AND o.id = 3"));
}

#[test]
fn harmless_columns_of_the_same_row_can_be_written() {
    let studio = System::studio();
    studio.allowed(
        MEMBER,
        ORG_A,
        &format!("UPDATE platform.organization_members SET nickname = 'mine' WHERE {MINE}"),
    );
    // The same value is no change.
    studio.allowed(MEMBER, ORG_A, &format!("UPDATE platform.organization_members SET nickname = 'm2', role = role, active = true WHERE {MINE}"));
    studio.allowed(
        ADMIN,
        ORG_A,
        &format!(
            "UPDATE platform.organizations SET name = 'Alpha' WHERE id = '{}'",
            org(ORG_A)
        ),
    );
    assert!(studio.contents().contains("m2") && studio.contents().contains("Alpha"));
    let agents = System::agents();
    agents.allowed(
        MEMBER,
        ORG_A,
        &format!(
            "UPDATE profiles SET full_name = 'Me' WHERE id = '{}'",
            user(MEMBER)
        ),
    );
    agents.allowed(
        MEMBER,
        ORG_A,
        &format!(
            "UPDATE users SET email = 'me@example.org' WHERE id = '{}'",
            user(MEMBER)
        ),
    );
    // Without any context too: that is for policies to forbid.
    agents.session().ok("UPDATE profiles SET full_name = 'You'");
}

#[test]
fn without_a_context_nothing_is_granted() {
    let studio = System::studio();
    let mut session = studio.session();
    for sql in [
        "UPDATE platform.organization_members SET role = 'admin' WHERE id = 1".to_owned(),
        format!(
            "INSERT INTO platform.organization_members (user_id, organization_id) VALUES ('{}', '{}')",
            user(1),
            org(1)
        ),
        "DELETE FROM platform.organization_members WHERE id = 1".to_owned(),
    ] {
        let error = session.error(&sql);
        assert_eq!(error.code().code(), "42501", "{}", error.message());
    }
}

#[test]
fn copy_is_no_way_round() {
    let studio = System::studio();
    let before = studio.contents();
    let mut session = studio.session();
    session.ok(&format!("SET app.current_user_id = '{}'", user(MEMBER)));
    let mut copy = session
        .copy_in("COPY platform.organization_members (user_id, organization_id, role) FROM STDIN")
        .unwrap();
    copy.write_all(format!("{}\t{}\tadmin\n", user(MEMBER), org(ORG_A)).as_bytes())
        .unwrap();
    let error = copy.finish().unwrap_err();
    assert_eq!(error.as_db_error().unwrap().code().code(), "42501");
    assert_eq!(before, studio.contents());
}

#[test]
fn a_view_is_no_way_round() {
    let studio = System::studio();
    studio.as_owner(&format!(
        "CREATE VIEW platform.me AS SELECT * FROM platform.organization_members WHERE {MINE} WITH CHECK OPTION;
         GRANT SELECT, INSERT, UPDATE, DELETE ON platform.me TO {app};
         REVOKE ALL ON platform.organization_members FROM {app}", app = studio.app));
    studio.refused(MEMBER, ORG_A, "UPDATE platform.me SET role = 'admin'");
    studio.refused(MEMBER, ORG_A, "DELETE FROM platform.me");
    studio.allowed(MEMBER, ORG_A, "UPDATE platform.me SET nickname = 'v'");
}

#[test]
fn truncating_is_no_way_round() {
    let studio = System::studio();
    studio.as_owner(&format!(
        "GRANT TRUNCATE ON ALL TABLES IN SCHEMA platform TO {}",
        studio.app
    ));
    studio.refused(MEMBER, ORG_A, "TRUNCATE platform.organization_members");
    studio.refused(OWNER, ORG_A, "TRUNCATE platform.organizations CASCADE");
}

#[test]
fn partitions_are_guarded_directly_and_through_their_parent() {
    let studio = System::studio();
    studio.as_owner(&format!(
        "SELECT tenancy.unbind();
         ALTER TABLE platform.organization_members RENAME TO old_members;
         CREATE TABLE platform.organization_members (nickname text, active boolean NOT NULL DEFAULT true,
             role varchar(20), organization_id uuid, user_id uuid) PARTITION BY LIST (organization_id);
         CREATE TABLE platform.members_a (role varchar(20), user_id uuid, organization_id uuid, active boolean NOT NULL DEFAULT true, nickname text);
         ALTER TABLE platform.organization_members ATTACH PARTITION platform.members_a FOR VALUES IN ('{a}');
         INSERT INTO platform.organization_members (user_id, organization_id, role, active) SELECT user_id, organization_id, role::text, active FROM platform.old_members WHERE organization_id = '{a}';
         SELECT tenancy.bind(tenant_setting => 'app.current_org_id', membership => 'platform.organization_members',
             membership_tenant => 'organization_id', membership_role => 'role', membership_active => 'active');
         CREATE TABLE platform.members_b PARTITION OF platform.organization_members FOR VALUES IN ('{b}');
         CREATE TABLE platform.members_rest (LIKE platform.members_a INCLUDING DEFAULTS);
         ALTER TABLE platform.organization_members ATTACH PARTITION platform.members_rest DEFAULT;
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA platform TO {app}",
        a = org(ORG_A), b = org(ORG_B), app = studio.app));
    for table in ["organization_members", "members_a"] {
        studio.refused(
            MEMBER,
            ORG_A,
            &format!("UPDATE platform.{table} SET role = 'admin' WHERE {MINE}"),
        );
        studio.refused(
            LEAVER,
            ORG_A,
            &format!(
                "UPDATE platform.{table} SET active = true WHERE user_id = '{}'",
                user(LEAVER)
            ),
        );
        studio.refused(
            ADMIN,
            ORG_A,
            &format!(
                "UPDATE platform.{table} SET role = 'owner' WHERE user_id = '{}'",
                user(ADMIN)
            ),
        );
        studio.allowed(
            ADMIN,
            ORG_A,
            &format!("UPDATE platform.{table} SET role = 'admin' WHERE {MINE}"),
        );
        studio.allowed(
            ADMIN,
            ORG_A,
            &format!("UPDATE platform.{table} SET role = 'member' WHERE {MINE}"),
        );
        studio.allowed(
            MEMBER,
            ORG_A,
            &format!("UPDATE platform.{table} SET nickname = 'n' WHERE {MINE}"),
        );
    }
    // The row would move to the other tenant's partition.
    studio.refused(
        MEMBER,
        ORG_A,
        &format!(
            "UPDATE platform.organization_members SET organization_id = '{}' WHERE {MINE}",
            org(ORG_B)
        ),
    );
    for table in ["members_b", "members_rest"] {
        let tenant = if table == "members_b" {
            ORG_B
        } else {
            SUSPENDED
        };
        studio.refused(MEMBER, ORG_A, &format!(
            "INSERT INTO platform.{table} (user_id, organization_id, role) VALUES ('{}', '{}', 'member')", user(MEMBER), org(tenant)));
    }
}

#[test]
fn inheritance_children_are_guarded() {
    let studio = System::studio();
    studio.as_owner(&format!(
        "SELECT tenancy.unbind();
         CREATE TABLE platform.guests (extra int) INHERITS (platform.organization_members);
         INSERT INTO platform.guests (id, user_id, organization_id) VALUES (50, '{}', '{}');
         GRANT SELECT, INSERT, UPDATE, DELETE ON platform.guests TO {};
         SELECT tenancy.bind(tenant_setting => 'app.current_org_id', membership => 'platform.organization_members',
             membership_tenant => 'organization_id', membership_role => 'role', membership_active => 'active')",
        user(NEWCOMER), org(ORG_A), studio.app));
    for table in ["guests", "organization_members"] {
        studio.refused(
            NEWCOMER,
            ORG_A,
            &format!("UPDATE platform.{table} SET role = 'admin' WHERE id = 50"),
        );
        studio.allowed(
            NEWCOMER,
            ORG_A,
            &format!("UPDATE platform.{table} SET nickname = 'n' WHERE id = 50"),
        );
    }
    studio.refused(MEMBER, ORG_A, &format!(
        "INSERT INTO platform.guests (id, user_id, organization_id, role) VALUES (51, '{}', '{}', 'admin')", user(MEMBER), org(ORG_A)));
}
