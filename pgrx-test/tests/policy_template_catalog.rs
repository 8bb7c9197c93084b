//! What each template makes in the catalog, that it can be printed, compared and taken back, and that
//! it makes no more than it needs.

mod policy_support;
mod template_support;

use pgrx_test::catalog_dump::{self, difference};
use pgrx_test::fixture::{ClientExt, expect_error};
use template_support::World;

/// Every template, each with options that change its text.
const ROUNDS: [[(&str, &str, &str, &str); 8]; 2] = [
    [
        ("notes", "tenant", "tenant_id", "{}"),
        ("tools", "shared_read", "tenant_id", "{}"),
        ("config", "tenant_read_admin_write", "tenant_id", "{}"),
        ("tenants", "own_tenant", "id", "{}"),
        ("profiles", "self", "tenant_id", "{}"),
        ("members", "member_read", "tenant_id", "{}"),
        ("flags", "global_read_admin_write", "tenant_id", "{}"),
        ("lines", "child", "tenant_id", "{}"),
    ],
    [
        (
            "notes",
            "shared_read",
            "tenant_id",
            r#"{"foreign_keys": "replace"}"#,
        ),
        ("tools", "tenant", "tenant_id", r#"{"set_default": true}"#),
        (
            "config",
            "tenant_read_admin_write",
            "tenant_id",
            r#"{"force": false}"#,
        ),
        (
            "tenants",
            "own_tenant",
            "id",
            r#"{"admin_writes": true, "super_admins": "all"}"#,
        ),
        (
            "profiles",
            "self",
            "tenant_id",
            r#"{"readers": "tenant_admins", "super_admins": "read"}"#,
        ),
        (
            "members",
            "member_read",
            "tenant_id",
            r#"{"admin_writes": true}"#,
        ),
        (
            "flags",
            "global_read_admin_write",
            "tenant_id",
            r#"{"visible": "is_active AND body <> 'it''s' -- on", "writers": "tenant_admins"}"#,
        ),
        (
            "lines",
            "child",
            "tenant_id",
            r#"{"foreign_key": "lines_note_id_fkey"}"#,
        ),
    ],
];

#[test]
fn protecting_printing_and_unprotecting_agree() {
    for round in ROUNDS {
        let world = World::new();
        let database = &world.stage.database;
        let (mut owner, dump) = (world.stage.owner(), || catalog_dump::of(database, &["app"]));
        let found = dump();
        for (table, template, column, options) in round {
            world.enforce(table, template, column, options);
        }
        world.enforce("words", "child", "", "{}");
        let enforced = dump();
        let drifted =
            "SELECT string_agg(relation || ': ' || drift, '; ') FROM tenancy.protected_tables";
        assert_eq!(world.stage.nobody().text(drifted), None);
        for (table, template, column, options) in round {
            let again = world.enforce(table, template, column, options);
            assert!(
                again.starts_with("enforced (unchanged)"),
                "{table}: {again}"
            );
        }
        // What the view shows says it all, a null where there is no tenant column included.
        let again = owner.rows(
            "SELECT p.relation, r.result FROM tenancy.protected_tables p,
                 tenancy.protect_table(p.relation, p.template, p.tenant_column, p.mode, p.options) r",
        );
        assert_eq!(again.len(), round.len() + 1);
        for row in again {
            let result = row[1].as_deref().unwrap();
            assert!(result.starts_with("enforced (unchanged)"), "{row:?}");
        }
        assert_eq!(difference(&enforced, &dump()), "");
        // Back and forth: what is left in between lets everybody through.
        for relation in ["words", "lines"] {
            owner.ok(&format!(
                "SELECT tenancy.set_mode('app.{relation}', 'permissive')"
            ));
            assert_eq!(
                world
                    .stage
                    .nobody()
                    .int(&format!("SELECT count(*) FROM app.{relation}")),
                3
            );
            owner.ok(&format!(
                "SELECT tenancy.set_mode('app.{relation}', 'enforce')"
            ));
        }
        owner.ok("SELECT tenancy.set_mode('permissive')");
        owner.ok("SELECT tenancy.set_mode('enforce')");
        assert_eq!(difference(&enforced, &dump()), "");
        let between = catalog_dump::rebuilt_from_print(database, &["app"]);
        assert_eq!(difference(&found, &between), "", "unprotecting restores");
        assert_eq!(found, between);
    }
}

#[test]
fn a_template_without_a_tenant_column_makes_policies_only() {
    let world = World::new();
    world.enforce("profiles", "self", "tenant_id", "{}");
    world.enforce("flags", "global_read_admin_write", "tenant_id", "{}");
    world.enforce("notes", "tenant", "tenant_id", "{}");
    world.enforce("lines", "child", "tenant_id", "{}");
    let made = "SELECT string_agg(DISTINCT relname, ' ') FROM (
            SELECT tgrelid AS oid FROM pg_trigger WHERE tgfoid = 'tenancy.tenant_column_immutable'::regproc
            UNION SELECT indrelid FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE c.relname LIKE '%tenant_idx'
        ) made JOIN pg_class USING (oid)";
    assert_eq!(world.stage.superuser().text(made).as_deref(), Some("notes"));
    let columns = "SELECT string_agg(table_name, ' ' ORDER BY table_name) FROM tenancy.protected_tables WHERE tenant_column IS NULL";
    assert_eq!(
        world.stage.nobody().text(columns).as_deref(),
        Some("flags lines profiles")
    );
    // The id of a tenant is no tenant of a row: who may rename a tenant is the guard's to say.
    world.enforce("tenants", "own_tenant", "id", r#"{"super_admins": "all"}"#);
    assert_eq!(world.stage.superuser().text(made).as_deref(), Some("notes"));
}

#[test]
fn a_template_without_a_tenant_column_takes_null_for_it() {
    let world = World::new();
    world.enforce("notes", "tenant", "tenant_id", "{}");
    let null = |table: &str, template: &str, options: &str| {
        format!(
            "SELECT result FROM tenancy.protect_table('app.{table}', '{template}', NULL, 'enforce', '{options}')"
        )
    };
    let mut owner = world.stage.owner();
    for (table, template) in [
        ("profiles", "self"),
        ("flags", "global_read_admin_write"),
        ("lines", "child"),
    ] {
        let result = owner.text(&null(table, template, "{}")).unwrap();
        assert!(result.starts_with("enforced"), "{result}");
    }
    for (table, template, options) in [
        ("config", "tenant", "{}"),
        ("tenants", "own_tenant", "{}"),
        ("profiles", "self", r#"{"readers": "tenant"}"#),
    ] {
        let error = owner.error(&null(table, template, options));
        expect_error(&error, "22023", "tenant_column");
    }
}

#[test]
fn the_result_names_the_policies_that_give_access() {
    let world = World::new();
    let mut owner = world.stage.owner();
    for (table, template, access) in [
        (
            "notes",
            "tenant",
            "\"notes_tenant_access\" now lets through",
        ),
        (
            "flags",
            "global_read_admin_write",
            "\"flags_tenant_access_select\", \"flags_tenant_access_insert\", \"flags_tenant_access_update\", \
             \"flags_tenant_access_delete\" now let through",
        ),
    ] {
        owner.ok(&format!(
            "ALTER TABLE app.{table} ENABLE ROW LEVEL SECURITY"
        ));
        let result = world.enforce(table, template, "tenant_id", "{}");
        let said = format!(
            "row security was on without a permissive policy for SELECT, INSERT, UPDATE, DELETE: \
             {access} what template \"{template}\" allows"
        );
        assert!(result.contains(&said), "{result}");
        for name in said
            .split('"')
            .filter(|name| name.contains("_tenant_access"))
        {
            let there = format!(
                "SELECT count(*) FROM pg_policy WHERE polname = '{name}' AND polrelid = 'app.{table}'::regclass"
            );
            assert_eq!(world.stage.superuser().int(&there), 1, "{name}");
        }
    }
}

#[test]
fn another_template_takes_the_place_of_the_first() {
    let world = World::new();
    let found = world.stage.dump();
    world.enforce("config", "tenant", "tenant_id", r#"{"set_default": true}"#);
    world.enforce("config", "global_read_admin_write", "", "{}");
    let triggers = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'app.config'::regclass";
    assert_eq!(world.stage.superuser().int(triggers), 0);
    world.enforce("config", "tenant_read_admin_write", "tenant_id", "{}");
    assert_eq!(world.stage.superuser().int(triggers), 1);
    world
        .stage
        .owner()
        .ok("SELECT tenancy.unprotect_table('app.config')");
    assert_eq!(world.stage.dump(), found);
}

#[test]
fn a_hand_edit_of_any_policy_is_seen_and_mended() {
    let world = World::new();
    for (table, template, column, options) in ROUNDS[0] {
        world.enforce(table, template, column, options);
    }
    let mut superuser = world.stage.superuser();
    let enforced = world.stage.dump();
    let policies = superuser.rows(
        "SELECT tablename, policyname, CASE WHEN cmd = 'INSERT' THEN 'WITH CHECK' ELSE 'USING' END
         FROM pg_policies WHERE schemaname = 'app'",
    );
    assert!(policies.len() > 8 * 4);
    for policy in policies {
        let [table, name, clause] = [0, 1, 2].map(|place| policy[place].clone().unwrap());
        superuser.ok(
            &format!("ALTER POLICY {name} ON app.{table} {clause} (body_is_anything())")
                .replace("body_is_anything()", "current_user IS NOT NULL"),
        );
        let drift = format!(
            "SELECT drift FROM tenancy.protected_tables WHERE relation = 'app.{table}'::regclass"
        );
        let drift = superuser.text(&drift).expect("a difference");
        assert_eq!(drift, format!("policy \"{name}\" was altered"), "{table}");
        superuser.ok(&format!(
            "SELECT tenancy.set_mode('app.{table}', 'enforce')"
        ));
    }
    assert_eq!(difference(&enforced, &world.stage.dump()), "");
}

#[test]
fn what_a_predicate_names_may_go() {
    let world = World::new();
    world.enforce("notes", "tenant", "tenant_id", "{}");
    world.enforce("lines", "child", "tenant_id", "{}");
    world.enforce(
        "flags",
        "global_read_admin_write",
        "",
        r#"{"visible": "is_active"}"#,
    );
    let mut owner = world.stage.owner();
    owner.ok("ALTER TABLE app.lines DROP CONSTRAINT lines_note_id_fkey");
    owner.ok("ALTER TABLE app.flags DROP COLUMN is_active CASCADE");
    let drift = |table: &str| {
        let sql = format!(
            "SELECT drift FROM tenancy.protected_tables WHERE relation = 'app.{table}'::regclass"
        );
        world.stage.nobody().text(&sql).unwrap_or_default()
    };
    assert!(
        drift("lines").contains("no foreign key"),
        "{}",
        drift("lines")
    );
    assert!(drift("flags").contains("is_active"), "{}", drift("flags"));
    assert_eq!(drift("notes"), "");
}
