//! Whose document one may see, and how much of it.

mod document_setup;

use document_setup::{A, ADAM, ANN, B, BOB, OWN, ROOT, World};
use pgrx_test::fixture::{ClientExt, Server, expect_error};

fn of(user: &str) -> String {
    format!("SELECT get_user_tenant_context('{user}')")
}

#[test]
fn a_member_sees_nobody_elses() {
    let world = World::new(Server::preloaded());
    let mut ann = world.app_as(ANN);
    for other in [ADAM, BOB, ROOT, "55555555-0000-4000-8000-000000000005"] {
        expect_error(&ann.error(&of(other)), "42501", "another user");
    }
    expect_error(&ann.error(&of("x")), "22P02", "uuid");
    assert_eq!(ann.text(&of(ANN)), world.by_hand(ANN));
    assert_eq!(ann.text(&of(&ANN.to_uppercase())), world.by_hand(ANN));
    expect_error(&world.app().error(&of(ANN)), "42501", "another user");
}

#[test]
fn a_super_admin_sees_all_of_everybodys() {
    let world = World::new(Server::preloaded());
    let mut root = world.app_as(ROOT);
    for other in [ANN, ADAM, BOB] {
        for _ in 0..2 {
            assert_eq!(root.text(&of(other)), world.by_hand(other));
        }
        assert_eq!(root.text(OWN), world.by_hand(ROOT), "his own stays his own");
    }
    world.owner().ok(&format!(
        "UPDATE users SET email = 'new' WHERE id = '{ANN}'"
    ));
    assert_eq!(root.text(&of(ANN)), world.by_hand(ANN));
}

#[test]
fn an_admin_sees_those_of_his_tenant_only() {
    let world = World::new(Server::preloaded());
    let mut adam = world.app_as(ADAM);
    assert_eq!(adam.text(&of(ANN)), world.by_hand(ANN));
    for stranger in [BOB, ROOT, "55555555-0000-4000-8000-000000000005"] {
        expect_error(&adam.error(&of(stranger)), "42501", "another user");
    }
    world.owner().ok(&format!(
        "UPDATE users SET organization_id = '{B}' WHERE id = '{ANN}'"
    ));
    expect_error(&adam.error(&of(ANN)), "42501", "another user");
}

/// Rows of the user's own are shown to an admin only where that was registered, in whichever table of
/// the key they are.
#[test]
fn an_admin_does_not_see_what_is_private() {
    let world = World::new(Server::preloaded());
    world.owner().ok(&format!(
        "CREATE TABLE notes (user_id uuid, tenant_id uuid, body text);
         INSERT INTO notes VALUES ('{ANN}', '{A}', 'ann in A'), ('{ANN}', '{B}', 'ann in B'), ('{ADAM}', '{A}', 'adam in A');
         SELECT tenancy.register_context('private', 'notes', 'array', order_by => 'body', columns => '{{body}}', user_column => 'user_id');
         SELECT tenancy.register_context('here', 'notes', 'array', columns => '{{body}}', user_column => 'user_id', tenant_column => 'tenant_id');
         SELECT tenancy.register_context('shown', 'notes', 'array', columns => '{{body}}', user_column => 'user_id', tenant_column => 'tenant_id', shown_to_admins => true);
         SELECT tenancy.register_context('starred', 'tenant_apps', 'array', visible => 'joined.body IS NOT NULL', columns => '{{app_key}}',
             joined => 'notes', joined_on => 'source.display_order = 99', joined_user_column => 'user_id')"
    ));
    let path = |user: &str, path: &str| {
        format!("SELECT get_user_tenant_context('{user}') #>> '{{{path}}}'")
    };
    let mut ann = world.app_as(ANN);
    for (key, expected) in [
        ("private", r#"[{"body": "ann in A"}, {"body": "ann in B"}]"#),
        ("here", r#"[{"body": "ann in A"}]"#),
        ("shown", r#"[{"body": "ann in A"}]"#),
        ("starred", r#"[{"app_key": "app-1"}, {"app_key": "app-1"}]"#),
    ] {
        assert_eq!(
            ann.text(&path(ANN, key)).as_deref(),
            Some(expected),
            "{key}"
        );
    }
    let mut adam = world.app_as(ADAM);
    let keys = "SELECT string_agg(key, ' ' ORDER BY key) FROM jsonb_object_keys(get_user_tenant_context('11111111-0000-4000-8000-000000000001')) key";
    assert_eq!(
        adam.text(keys).as_deref(),
        Some("apps config feature_flags memberships organization role shown tenant user")
    );
    assert_eq!(
        adam.text(&path(ANN, "shown")).as_deref(),
        Some(r#"[{"body": "ann in A"}]"#)
    );
    // Not shown to admins any more: the id is left.
    world.owner().ok("SELECT tenancy.register_context('user', 'users', columns => '{email}', user_column => 'id')");
    assert_eq!(
        adam.text(&path(ANN, "user")),
        Some(format!(r#"{{"id": "{ANN}"}}"#))
    );
    assert_eq!(
        ann.text(&path(ANN, "user,email")).as_deref(),
        Some("ann@alpha")
    );
}

/// A user of several tenants, seen by an admin of one: that one's rows, whichever is the user's
/// current one.
#[test]
fn an_admin_sees_a_user_of_several_tenants_in_his_own() {
    let world = World::bound(Server::preloaded());
    world.owner().ok(&format!(
        "CREATE TABLE members (user_id text, tenant_id uuid, role text, PRIMARY KEY (user_id, tenant_id));
         INSERT INTO members VALUES ('both', '{A}', 'user'), ('both', '{B}', 'owner'), ('boss', '{A}', 'admin'), ('boss', '{B}', 'user'), ('other', '{B}', 'user');
         SELECT tenancy.bind(membership => 'members', membership_role => 'role', tenant_setting => 'app.current_tenant_id');
         SELECT tenancy.register_context('config', 'tenant_configurations', columns => '{{ui_config}}')"
    ));
    let mut boss = world.db.connect_with(
        &world.app,
        &format!("-c app.current_user_id=boss -c app.current_tenant_id={A}"),
    );
    assert_eq!(
        boss.text(&of("both")),
        Some(format!(
            r#"{{"role": "user", "user": {{"id": "both"}}, "config": {{"ui_config": {{"theme": "dark"}}}}, "tenant": {{"id": "{A}"}}, "memberships": [{{"role": "user", "tenant_id": "{A}"}}]}}"#
        ))
    );
    expect_error(&boss.error(&of("other")), "42501", "another user");
    // Where he is a member only.
    boss.ok(&format!("BEGIN; SET LOCAL app.current_tenant_id = '{B}'"));
    expect_error(&boss.error(&of("both")), "42501", "another user");
}
