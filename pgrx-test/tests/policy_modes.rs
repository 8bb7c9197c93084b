//! Rolling out and back.

mod policy_support;

use pgrx_test::fixture::{ClientExt, expect_error};
use policy_support::{B, Stage};

const COUNT: &str = "SELECT count(*) FROM app.items";

#[test]
fn permissive_changes_nothing_in_the_catalog() {
    let stage = Stage::new();
    stage.items();
    let before = stage.dump();
    let result = stage
        .owner()
        .text("SELECT result FROM tenancy.protect_table('app.items', mode => 'permissive')");
    assert_eq!(result.as_deref(), Some("permissive"));
    assert_eq!(stage.dump(), before);
    assert_eq!(stage.nobody().int(COUNT), 3);
    assert_eq!(
        stage
            .nobody()
            .text("SELECT mode FROM tenancy.protected_tables")
            .as_deref(),
        Some("permissive")
    );
    stage
        .owner()
        .ok("SELECT tenancy.set_mode('app.items', 'enforce')");
    assert_eq!(stage.tenant(B).int(COUNT), 1);
    stage
        .owner()
        .ok("SELECT tenancy.set_mode('app.items'::regclass, 'permissive')");
    assert_eq!(stage.nobody().int(COUNT), 3);
    stage
        .owner()
        .ok("SELECT tenancy.unprotect_table('app.items')");
    assert_eq!(stage.dump(), before);
}

#[test]
fn every_way_of_calling_set_mode_finds_its_function() {
    let stage = Stage::new();
    stage.items();
    stage.protect("app.items", "{}");
    for sql in [
        "SELECT tenancy.set_mode('app.items', 'permissive')",
        "SELECT tenancy.set_mode('app.items', 'enforce', true)",
        "SELECT tenancy.set_mode('app.items', 'permissive', force => true)",
        "SELECT tenancy.set_mode('app.items'::regclass, 'enforce')",
        "SELECT tenancy.set_mode(\"table\" => 'app.items', mode => 'permissive')",
        "SELECT tenancy.set_mode(relation, 'enforce') FROM tenancy.protected_tables",
        "SELECT tenancy.set_mode('permissive')",
        "SELECT tenancy.set_mode('enforce', atomic => true)",
        "SELECT tenancy.set_mode('permissive', true)",
        "SELECT tenancy.set_mode('enforce', force => true)",
        "SELECT tenancy.set_mode(mode => 'permissive')",
    ] {
        let enforce = sql.contains("'enforce'");
        stage.superuser().ok(sql);
        let mode = stage
            .nobody()
            .text("SELECT mode FROM tenancy.protected_tables");
        assert_eq!(
            mode.as_deref(),
            Some(if enforce { "enforce" } else { "permissive" }),
            "{sql}"
        );
    }
}

#[test]
fn back_and_forth_restores_the_users_own_policies() {
    let stage = Stage::new();
    stage.items();
    stage
        .owner()
        .ok("ALTER TABLE app.items ENABLE ROW LEVEL SECURITY;
         CREATE POLICY mine ON app.items USING (note <> 'a2')");
    stage.protect("app.items", "{}");
    stage
        .owner()
        .ok("SELECT tenancy.set_mode('app.items', 'permissive')");
    assert_eq!(
        stage.nobody().int(COUNT),
        2,
        "row security is on, as it was found"
    );
    stage
        .owner()
        .ok("SELECT tenancy.set_mode('app.items', 'enforce')");
    assert_eq!(stage.tenant(B).int(COUNT), 1);
}

#[test]
fn mode_since_says_when() {
    let stage = Stage::new();
    stage.items();
    stage.protect("app.items", "{}");
    let since = "SELECT mode_since FROM tenancy.protected_tables";
    let first = stage.nobody().text(since);
    stage
        .owner()
        .ok("SELECT tenancy.set_mode('app.items', 'enforce')");
    stage.protect("app.items", r#"{"set_default": true}"#);
    assert_eq!(stage.nobody().text(since), first);
    stage
        .owner()
        .ok("SELECT tenancy.set_mode('app.items', 'permissive')");
    assert_ne!(stage.nobody().text(since), first);
}

#[test]
fn a_busy_table_does_not_hold_up_the_others() {
    let stage = Stage::new();
    stage.items();
    stage.owner().ok("CREATE TABLE app.others (tenant_id uuid)");
    stage
        .owner()
        .ok("SELECT tenancy.protect_schema('app', mode => 'enforce')");
    let mut busy = stage.tenant(B);
    busy.ok("BEGIN; SELECT * FROM app.items");
    let mut owner = stage.owner();
    owner.ok("SET lock_timeout = '150ms'");
    let error = owner.error("SELECT * FROM tenancy.set_mode('permissive', atomic => true)");
    expect_error(&error, "55P03", "lock timeout");
    let modes = "SELECT string_agg(mode, ' ' ORDER BY table_name) FROM tenancy.protected_tables";
    assert_eq!(
        stage.nobody().text(modes).as_deref(),
        Some("enforce enforce")
    );
    let rows = owner.rows("SELECT relation::text, result FROM tenancy.set_mode('permissive')");
    assert_eq!(rows.len(), 2);
    assert!(
        rows[0][1].as_deref().unwrap().starts_with("failed"),
        "{rows:?}"
    );
    assert_eq!(rows[1][1].as_deref(), Some("permissive"));
    assert_eq!(
        stage.nobody().text(modes).as_deref(),
        Some("enforce permissive")
    );
    busy.ok("COMMIT");
    owner.ok("SELECT tenancy.set_mode('permissive')");
    assert_eq!(
        stage.nobody().text(modes).as_deref(),
        Some("permissive permissive")
    );
    assert_eq!(stage.nobody().int(COUNT), 3);
}

#[test]
fn changing_the_column_or_the_schema_call_converges() {
    let stage = Stage::new();
    stage
        .owner()
        .ok("CREATE TABLE app.items (id int, tenant_id uuid, org uuid)");
    let before = stage.dump();
    stage.protect("app.items", r#"{"force": false}"#);
    stage
        .owner()
        .ok("SELECT tenancy.protect_schema('app', mode => 'enforce')");
    let forced = "SELECT relforcerowsecurity FROM pg_class WHERE oid = 'app.items'::regclass";
    assert_eq!(
        stage.superuser().text(forced).as_deref(),
        Some("f"),
        "the schema call keeps a table's options"
    );
    stage
        .owner()
        .ok("SELECT tenancy.protect_table('app.items', tenant_column => 'org', mode => 'enforce')");
    let qual = "SELECT count(*) FROM pg_policies WHERE coalesce(qual, with_check) LIKE '(org = %'";
    assert_eq!(stage.superuser().int(qual), 5);
    assert_eq!(
        stage
            .nobody()
            .int("SELECT count(*) FROM tenancy.protected_tables WHERE agrees"),
        1
    );
    stage
        .owner()
        .ok("SELECT tenancy.unprotect_table('app.items')");
    assert_eq!(stage.dump(), before);
}
