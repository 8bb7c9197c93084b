//! The agent platform's one call instead of seven queries: what it returns, that it is fresh, and to whom.

mod scenario_support;

use pgrx_test::fixture::ClientExt;
use pgrx_test::scenario::AGENTS;
use postgres::Client;
use scenario_support::Stage;
use scenario_support::agents::user;
use serde_json::{Value, json};

fn document(client: &mut Client) -> Value {
    let text = client.text("SELECT get_user_tenant_context()");
    serde_json::from_str(&text.expect("a document")).expect("JSON")
}

/// What user 2 of an organisation is shown; flags 1 to 3 are as the organisation turned them.
fn expected(stage: &Stage, organisation: u32, tenant_type: &str) -> Value {
    let id = |name: &str| {
        stage
            .superuser()
            .text(&format!("SELECT md5('{name}')::uuid"))
            .expect("an identifier")
    };
    let tenant = id(&format!("org-{organisation}"));
    let app = |n: u32| json!({"app_key": format!("app-{n}"), "app_name": format!("App {n}"), "app_route": format!("/apps/{n}")});
    let flag = |n: u32| {
        let enabled = [1, 3, 4, 6, 8, 10].contains(&n);
        json!({"flag_key": format!("flag-{n:02}"), "enabled": enabled})
    };
    let apps = [7, 6, 5, 3, 2, 1].map(app);
    let flags: Vec<_> = (1..=10).map(flag).collect();
    json!({
        "user": {
            "id": id(&format!("user-{organisation}-2")),
            "email": format!("user2@org{organisation}.example.com"),
            "full_name": format!("User 2 of {organisation}"),
            "role": "user",
        },
        "tenant": {"id": tenant},
        "role": "user",
        // Roles are in a table of their own, not in the membership.
        "memberships": [{"tenant_id": tenant, "role": null}],
        "organization": {
            "id": tenant, "name": format!("Organisation {organisation}"), "slug": format!("org-{organisation}"),
            "tenant_type": tenant_type, "tenant_key": format!("key-{organisation}"), "is_active": true,
        },
        "config": {
            "ui_config": {"theme": format!("org-{organisation}")}, "enabled_features": {"chat": true},
            "enabled_apps": ["app-1", "app-2"], "enabled_agent_tiers": [1], "limits": {"users": 100},
            "compliance_settings": {"hipaa": true},
        },
        // In display order, which is not the order of names, without those that are not visible.
        "apps": apps,
        // Not those that are not active, whatever the organisation says.
        "feature_flags": flags,
    })
}

#[test]
fn one_call_gives_user_organization_config_apps_and_flags() {
    let stage = Stage::new(&AGENTS);
    for (organisation, tenant_type) in [(1, "pharmaceuticals"), (2, "digital_health")] {
        let mut client = user(&stage, &format!("user-{organisation}-2"));
        let expected = expected(&stage, organisation, tenant_type);
        assert_eq!(document(&mut client), expected);
        assert_eq!(document(&mut client), expected, "and again");
    }
}

#[test]
fn the_document_is_fresh_after_every_change() {
    let stage = Stage::new(&AGENTS);
    let mut client = user(&stage, "user-1-2");
    let mut shown = document(&mut client);
    let mut superuser = stage.superuser();
    let changes: [(&str, &str, Value); 8] = [
        (
            "/user/full_name",
            "UPDATE profiles SET full_name = 'Ada' WHERE id = md5('user-1-2')::uuid",
            json!("Ada"),
        ),
        (
            "/user/email",
            "UPDATE users SET email = 'ada@example.com' WHERE id = md5('user-1-2')::uuid",
            json!("ada@example.com"),
        ),
        (
            "/role",
            "UPDATE profiles SET role = 'admin' WHERE id = md5('user-1-2')::uuid",
            json!("admin"),
        ),
        (
            "/organization/name",
            "UPDATE organizations SET name = 'Ours' WHERE slug = 'org-1'",
            json!("Ours"),
        ),
        (
            "/config/limits/users",
            "UPDATE tenant_configurations SET limits = '{\"users\": 5}' WHERE tenant_id = md5('org-1')::uuid",
            json!(5),
        ),
        (
            "/apps/0/app_key",
            "UPDATE tenant_apps SET display_order = -1 WHERE app_key = 'app-1' AND tenant_id = md5('org-1')::uuid",
            json!("app-1"),
        ),
        (
            "/feature_flags/0/enabled",
            "DELETE FROM tenant_feature_flags WHERE tenant_id = md5('org-1')::uuid",
            json!(false),
        ),
        (
            "/feature_flags/1/flag_key",
            "UPDATE feature_flags SET is_active = false WHERE flag_key = 'flag-02'",
            json!("flag-03"),
        ),
    ];
    for (path, change, value) in changes {
        assert_ne!(shown.pointer(path), Some(&value), "{path} before");
        superuser.ok(change);
        shown = document(&mut client);
        assert_eq!(shown.pointer(path), Some(&value), "{path} after {change}");
    }
}

#[test]
fn another_users_document_is_for_super_admins_and_without_what_is_private_for_admins() {
    let stage = Stage::new(&AGENTS);
    let of = "SELECT get_user_tenant_context(md5('user-1-2')::uuid::text)";
    for name in ["user-1-3", "user-2-1", "user-2-2"] {
        let error = user(&stage, name).error(of);
        assert_eq!(error.code().code(), "42501", "{name}: {error:?}");
    }
    let parse = |text: Option<String>| -> Value {
        serde_json::from_str(&text.expect("a document")).expect("JSON")
    };
    let all = parse(user(&stage, "root").text(of));
    assert_eq!(all, expected(&stage, 1, "pharmaceuticals"));
    let some = parse(user(&stage, "user-1-1").text(of));
    assert_eq!(some["role"], "user");
    assert_eq!(some["organization"], all["organization"]);
    assert!(some["user"].get("email").is_none(), "{some}");
}
