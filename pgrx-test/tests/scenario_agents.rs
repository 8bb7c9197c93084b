//! The agent platform, entirely on the extension: every access rule of it, through the application's
//! role and with raw SQL.

mod scenario_support;

use pgrx_test::fixture::{ClientExt, expect_error};
use pgrx_test::scenario::AGENTS;
use scenario_support::agents::{
    CONTENT, OF_TENANTS, PLATFORM, actors, as_found, attempts, claims, organisations, signup, user,
};
use scenario_support::probe::every_policy_holds_something;
use scenario_support::{Stage, affected};

#[test]
fn as_found_policies_that_query_their_own_table_recurse() {
    let (stage, mut client) = as_found();
    let queries = [
        "SELECT * FROM users",
        "SELECT * FROM organizations",
        "SELECT * FROM tools",
        "SELECT * FROM tenant_apps",
    ];
    for query in queries {
        client.ok(&format!("BEGIN; {}", claims("user-1-2")));
        expect_error(&client.error(query), "42P17", "infinite recursion");
        client.ok("ROLLBACK");
    }
    // The role exists already and is brought up to what it has.
    stage.protect();
    let mut client = user(&stage, "user-1-2");
    for query in queries {
        assert!(!client.rows(query).is_empty(), "{query}");
    }
}

#[test]
fn as_found_a_user_makes_himself_super_admin_and_now_is_refused() {
    let (stage, mut client) = as_found();
    let promote = "UPDATE profiles SET role = 'super_admin' WHERE id = md5('user-1-2')::uuid";
    client.ok(&format!("BEGIN; {}", claims("user-1-2")));
    assert_eq!(client.int("SELECT count(*) FROM profiles"), 1);
    assert_eq!(affected(&mut client, promote), 1);
    assert_eq!(client.int("SELECT count(*) FROM profiles"), 481);
    client.ok("ROLLBACK");

    stage.protect();
    for attempt in [
        promote,
        "UPDATE profiles SET role = 'admin'",
        "UPDATE profiles SET full_name = 'x', role = 'super_admin'",
        "INSERT INTO profiles VALUES (md5('user-1-2')::uuid, 'x', 'super_admin')
         ON CONFLICT (id) DO UPDATE SET role = 'super_admin'",
        "UPDATE users SET organization_id = md5('org-2')::uuid",
    ] {
        let mut client = user(&stage, "user-1-2");
        let refused = client.execute(attempt, &[]);
        match refused {
            Ok(rows) => assert_eq!(rows, 0, "{attempt}"),
            Err(error) => {
                let error = error.as_db_error().expect("the server's").clone();
                assert_eq!(error.code().code(), "42501", "{attempt}: {error:?}");
            }
        }
    }
    let mut superuser = stage.superuser();
    assert_eq!(
        superuser.int("SELECT count(*) FROM profiles WHERE role = 'super_admin'"),
        1
    );
    // A claim that nobody bound grants nothing either.
    let mut client = user(&stage, "user-1-2");
    assert_eq!(
        client
            .text("SELECT current_tenant_role() || is_super_admin()::text")
            .as_deref(),
        Some("userfalse")
    );
}

#[test]
fn tenant_and_role_come_from_users_and_profiles() {
    let stage = Stage::new(&AGENTS);
    let who = "SELECT concat_ws(' ', current_tenant_id() = md5('org-3')::uuid, current_tenant_role(), is_tenant_admin(), is_super_admin())";
    for (name, expected) in [
        ("user-3-1", "t admin t f"),
        ("user-3-2", "t user f f"),
        ("user-3-25", "t f f"),
        ("root", "f super_admin t t"),
    ] {
        assert_eq!(
            user(&stage, name).text(who).as_deref(),
            Some(expected),
            "{name}"
        );
    }
}

#[test]
fn users_are_read_by_their_organisation() {
    let stage = Stage::new(&AGENTS);
    for (name, own, rows) in [
        ("user-1-2", "1", 25),
        ("user-2-1", "2", 25),
        ("root", "0", 1),
    ] {
        let mut client = user(&stage, name);
        assert_eq!(organisations(&mut client, "organization_id", "users"), own);
        assert_eq!(client.int("SELECT count(*) FROM users"), rows);
    }
    let rename = "UPDATE users SET email = id::text";
    assert_eq!(affected(&mut user(&stage, "user-1-2"), rename), 0);
    assert_eq!(affected(&mut user(&stage, "user-1-1"), rename), 25);
}

#[test]
fn profiles_own_row_except_its_role() {
    let stage = Stage::new(&AGENTS);
    for name in ["user-1-2", "user-1-1"] {
        let mut client = user(&stage, name);
        assert_eq!(
            client.rows("SELECT id FROM profiles"),
            client.rows(&format!("SELECT md5('{name}')::uuid")),
        );
        assert_eq!(
            affected(&mut client, "UPDATE profiles SET full_name = 'Me'"),
            1
        );
        let of_another = "UPDATE profiles SET full_name = 'Me' WHERE id = md5('user-1-3')::uuid";
        assert_eq!(affected(&mut client, of_another), 0);
    }
    // A row of profiles gives a role, so who may make or drop one is a question of identity: sign-up
    // may, for the user himself and for nobody else.
    let insert = |name: &str| format!("INSERT INTO profiles VALUES (md5('{name}')::uuid, 'New')");
    expect_error(
        &user(&stage, "user-1-25").error(&insert("user-1-25")),
        "42501",
        "identity",
    );
    expect_error(
        &user(&stage, "user-1-2").error("DELETE FROM profiles"),
        "42501",
        "identity",
    );
    assert_eq!(
        affected(&mut signup(&stage, "user-1-25"), &insert("user-1-25")),
        1
    );
    expect_error(
        &signup(&stage, "user-1-2").error(&insert("user-1-25")),
        "42501",
        "row-level security",
    );
    assert_eq!(
        affected(&mut signup(&stage, "user-1-2"), "DELETE FROM profiles"),
        1
    );
}

#[test]
fn super_admins_read_all_profiles_and_write_their_own() {
    let stage = Stage::new(&AGENTS);
    let mut root = user(&stage, "root");
    assert_eq!(root.int("SELECT count(*) FROM profiles"), 481);
    assert_eq!(
        affected(
            &mut root,
            "UPDATE profiles SET full_name = 'x' WHERE role <> 'super_admin'"
        ),
        0
    );
    assert_eq!(
        affected(&mut root, "UPDATE profiles SET full_name = 'x'"),
        1
    );
}

#[test]
fn organizations_own_is_read_and_super_admins_do_everything() {
    let stage = Stage::new(&AGENTS);
    let insert = "INSERT INTO organizations (name, slug, tenant_type, tenant_key) VALUES ('N', 'n', 'digital_health', 'n')";
    for name in ["user-1-2", "user-1-1"] {
        let mut client = user(&stage, name);
        assert_eq!(organisations(&mut client, "id", "organizations"), "1");
        assert_eq!(
            affected(&mut client, "UPDATE organizations SET name = 'x'"),
            0
        );
        assert_eq!(affected(&mut client, "DELETE FROM organizations"), 0);
        let error = client.error(insert);
        assert_eq!(error.code().code(), "42501", "{error:?}");
    }
    let mut root = user(&stage, "root");
    assert_eq!(root.int("SELECT count(*) FROM organizations"), 21);
    root.ok(insert);
    assert_eq!(
        affected(
            &mut root,
            "UPDATE organizations SET name = 'x', is_active = false WHERE slug = 'n'"
        ),
        1
    );
    assert_eq!(
        affected(&mut root, "DELETE FROM organizations WHERE slug = 'n'"),
        1
    );
}

#[test]
fn tenant_configurations_the_tenant_reads_and_its_admins_update() {
    tenant_reads_admins_write("tenant_configurations", "ui_config = '{}'", 1);
}

#[test]
fn tenant_apps_the_tenant_reads() {
    tenant_reads_admins_write("tenant_apps", "app_name = 'x'", 8);
}

#[test]
fn tenant_feature_flags_the_tenant_reads() {
    tenant_reads_admins_write("tenant_feature_flags", "enabled = true", 4);
}

#[test]
fn tenant_agents_the_tenant_reads_and_its_admins_assign() {
    tenant_reads_admins_write("tenant_agents", "is_enabled = false", 4);
    let stage = Stage::new(&AGENTS);
    let assign = |organisation: &str, agent: &str| {
        format!(
            "INSERT INTO tenant_agents (tenant_id, agent_id) VALUES (md5('org-{organisation}')::uuid, md5('agents-{agent}')::uuid)"
        )
    };
    for agent in ["1-2", "platform-9"] {
        assert_eq!(
            affected(&mut user(&stage, "user-1-1"), &assign("1", agent)),
            1,
            "{agent}"
        );
        expect_error(
            &user(&stage, "user-1-2").error(&assign("1", agent)),
            "42501",
            "row-level security",
        );
    }
    expect_error(
        &user(&stage, "user-1-1").error(&assign("2", "platform-9")),
        "42501",
        "row-level security",
    );
    // Not another tenant's agent, and no error tells that there is one.
    let exists = user(&stage, "user-1-1").error(&assign("1", "2-2"));
    expect_error(&exists, "42501", "agents_in_sight");
    assert_eq!(
        user(&stage, "user-1-1")
            .error(&assign("1", "2-99"))
            .message(),
        exists.message()
    );
}

fn tenant_reads_admins_write(table: &str, set: &str, rows: u64) {
    let stage = Stage::new(&AGENTS);
    let update = format!("UPDATE {table} SET {set}");
    let delete = format!("DELETE FROM {table}");
    for (name, own) in [
        ("user-1-2", "1"),
        ("user-2-25", "2"),
        ("user-1-1", "1"),
        ("root", "0"),
    ] {
        assert!(
            [own, ""]
                .contains(&organisations(&mut user(&stage, name), "tenant_id", table).as_str()),
            "{name} in {table}"
        );
    }
    let mut member = user(&stage, "user-1-2");
    assert_eq!(
        member.int(&format!("SELECT count(*) FROM {table}")),
        rows as i64
    );
    assert_eq!(affected(&mut member, &update), 0);
    assert_eq!(affected(&mut member, &delete), 0);
    assert_eq!(affected(&mut user(&stage, "user-1-1"), &update), rows);
    assert_eq!(affected(&mut user(&stage, "user-1-1"), &delete), rows);
    // The roles of another organisation say nothing here: an admin of 2 and the super admin.
    for name in ["user-2-1", "root"] {
        let foreign = format!("{update} WHERE tenant_id = md5('org-1')::uuid");
        assert_eq!(affected(&mut user(&stage, name), &foreign), 0, "{name}");
    }
    let moving = format!("UPDATE {table} SET tenant_id = md5('org-2')::uuid");
    expect_error(
        &user(&stage, "user-1-1").error(&moving),
        "42501",
        "row-level security",
    );
}

#[test]
fn feature_flags_everybody_reads_the_active_ones_and_super_admins_manage() {
    let stage = Stage::new(&AGENTS);
    let count = "SELECT count(*) FROM feature_flags";
    for name in ["user-1-2", "user-1-1"] {
        let mut client = user(&stage, name);
        assert_eq!(client.int(count), 10);
        assert_eq!(
            client.int("SELECT count(*) FROM feature_flags WHERE NOT is_active"),
            0
        );
        assert_eq!(
            affected(&mut client, "UPDATE feature_flags SET default_value = true"),
            0
        );
        assert_eq!(affected(&mut client, "DELETE FROM feature_flags"), 0);
        expect_error(
            &client.error("INSERT INTO feature_flags (flag_key, name) VALUES ('x', 'x')"),
            "42501",
            "row-level security",
        );
    }
    assert_eq!(stage.nobody().int(count), 10, "without anybody signed in");
    let mut root = user(&stage, "root");
    assert_eq!(root.int(count), 12);
    assert_eq!(
        affected(&mut root, "UPDATE feature_flags SET default_value = true"),
        12
    );
    root.ok("INSERT INTO feature_flags (flag_key, name) VALUES ('x', 'x')");
    assert_eq!(
        affected(&mut root, "DELETE FROM feature_flags WHERE flag_key = 'x'"),
        1
    );
}

#[test]
fn content_of_the_platform_is_read_by_all_and_of_a_tenant_by_the_tenant_only() {
    let stage = Stage::new(&AGENTS);
    for table in CONTENT {
        let count = format!("SELECT count(*) FROM {table}");
        for (name, seen, rows) in [
            ("user-1-2", "0,1", 52),
            ("user-2-1", "0,2", 52),
            ("root", "0", 12),
        ] {
            let mut client = user(&stage, name);
            assert_eq!(
                organisations(&mut client, "tenant_id", table),
                seen,
                "{name} in {table}"
            );
            assert_eq!(client.int(&count), rows, "{name} in {table}");
        }
    }
}

#[test]
fn content_is_written_by_its_tenant_only() {
    let stage = Stage::new(&AGENTS);
    for table in CONTENT {
        let insert =
            |tenant: &str| format!("INSERT INTO {table} (tenant_id, name) VALUES ({tenant}, 'x')");
        let (update, delete) = (
            format!("UPDATE {table} SET name = 'x'"),
            format!("DELETE FROM {table}"),
        );
        let mut member = user(&stage, "user-1-2");
        assert_eq!(affected(&mut member, &update), 40, "{table}");
        assert_eq!(affected(&mut member, &insert("md5('org-1')::uuid")), 1);
        for foreign in [
            format!("'{PLATFORM}'"),
            "md5('org-2')::uuid".to_owned(),
            "NULL".to_owned(),
        ] {
            let error = user(&stage, "user-1-1").error(&insert(&foreign));
            assert!(
                ["42501", "23502"].contains(&error.code().code()),
                "{table} {foreign}: {error:?}"
            );
            let error = user(&stage, "user-1-1")
                .error(&format!("UPDATE {table} SET tenant_id = {foreign}"));
            assert!(
                ["42501", "23502"].contains(&error.code().code()),
                "{table} {foreign}: {error:?}"
            );
        }
        let mut root = user(&stage, "root");
        assert_eq!(affected(&mut root, &update), 12, "the platform's own");
        if table != "agents" {
            assert_eq!(affected(&mut member, &delete), 41);
        }
    }
}

#[test]
fn a_chat_session_is_of_a_user_of_its_tenant() {
    let stage = Stage::new(&AGENTS);
    let of = |name: &str| {
        format!(
            "UPDATE chat_sessions SET user_id = md5('{name}')::uuid WHERE id = md5('chat_sessions-1-1')::uuid"
        )
    };
    assert_eq!(affected(&mut user(&stage, "user-1-2"), &of("user-1-3")), 1);
    for name in ["user-2-1", "root", "who is that"] {
        let error = user(&stage, "user-1-2").error(&of(name));
        expect_error(&error, "23503", "chat_sessions_user_id_fkey_tenant");
    }
}

#[test]
fn content_that_belongs_to_nobody_has_to_be_assigned_first() {
    let stage = Stage::as_found(&AGENTS);
    let mut superuser = stage.superuser();
    superuser.ok(
        "SELECT tenancy.bind(claims_setting => 'request.jwt.claims', membership => 'users',
        membership_user => 'id', membership_tenant => 'organization_id',
        platform_tenant => '00000000-0000-0000-0000-000000000001')",
    );
    let protect = "SELECT tenancy.protect_table('tools', 'shared_read', mode => 'enforce', options => '{\"adopt_policies\": true}')";
    let error = superuser.error(protect);
    expect_error(&error, "23502", "2 rows");
    let hint = error.hint().expect("how to assign them");
    let update = hint.split_once(": ").map_or(hint, |(_, update)| update);
    superuser.ok(update.trim_end_matches('.'));
    superuser.ok(protect);
    assert_eq!(
        superuser.int(&format!(
            "SELECT count(*) FROM tools WHERE tenant_id = '{PLATFORM}'"
        )),
        12
    );
}

#[test]
fn an_organisation_that_is_suspended_or_not_active_gives_no_context() {
    let stage = Stage::new(&AGENTS);
    let count = "SELECT count(*) FROM tools";
    for name in ["user-19-2", "user-20-1"] {
        expect_error(&user(&stage, name).error(count), "42501", "active");
    }
    let mut client = user(&stage, "user-5-2");
    assert_eq!(client.int(count), 52);
    let mut root = user(&stage, "root");
    root.ok("UPDATE organizations SET lifecycle_state = 'suspended' WHERE slug = 'org-5'; COMMIT");
    expect_error(&client.error(count), "42501", "active");
}

#[test]
fn without_claims_every_table_raises_but_the_flags() {
    let stage = Stage::new(&AGENTS);
    let mut client = stage.nobody();
    for table in CONTENT
        .into_iter()
        .chain(OF_TENANTS)
        .chain(["users", "profiles", "organizations"])
    {
        for statement in [
            format!("SELECT * FROM {table}"),
            format!("UPDATE {table} SET created_at = now()"),
            format!("DELETE FROM {table}"),
            format!("INSERT INTO {table} DEFAULT VALUES"),
        ] {
            expect_error(&client.error(&statement), "42501", "request.jwt.claims");
        }
    }
    expect_error(
        &client.error("UPDATE feature_flags SET default_value = true"),
        "42501",
        "request.jwt.claims",
    );
}

#[test]
fn every_generated_policy_holds_something() {
    let stage = Stage::new(&AGENTS);
    every_policy_holds_something(&stage, &actors(), &attempts());
}
