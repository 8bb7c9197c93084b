//! Names that need quoting, shortening or another schema.

mod policy_support;

use pgrx_test::fixture::{ClientExt, expect_error, quote_ident, quote_literal};
use policy_support::{A, B, Stage};

#[test]
fn awkward_names_are_protected_and_restored() {
    let stage = Stage::new();
    let long = "t".repeat(63);
    let longer = format!("{}x", "t".repeat(62));
    let umlauts = "ü".repeat(31);
    stage.superuser().ok(&format!(
        "CREATE SCHEMA \"my.app\" AUTHORIZATION {0}; CREATE SCHEMA \"Mixed Case\" AUTHORIZATION {0};
         GRANT USAGE ON SCHEMA \"my.app\", \"Mixed Case\" TO {1};",
        stage.owner, stage.app
    ));
    let mut owner = stage.owner();
    let tables: Vec<(&str, &str)> = vec![
        ("app", "Weird Table"),
        ("app", "select"),
        ("app", "a.b"),
        ("app", "semi;colon--"),
        ("app", "quo\"te"),
        ("app", "apo'strophe"),
        ("app", "back\\slash"),
        ("app", &long),
        ("app", &longer),
        ("app", &umlauts),
        ("my.app", "Weird \"Table\""),
        ("my.app", &long),
        ("Mixed Case", "Items"),
    ];
    for (schema, table) in &tables {
        let name = format!("{}.{}", quote_ident(schema), quote_ident(table));
        owner.ok(&format!(
            "CREATE TABLE {name} (id int PRIMARY KEY, \"Tenant \"\"Id\" uuid, up int REFERENCES {name});
             INSERT INTO {name} VALUES (1, '{A}'), (2, '{B}')"
        ));
    }
    let dump = || {
        policy_support::dump(
            &stage.database,
            &["--schema-only", "--exclude-schema=tenancy"],
        )
    };
    let before = dump();
    for (schema, table) in &tables {
        let name = format!("{}.{}", quote_ident(schema), quote_ident(table));
        let call = format!(
            "SELECT result FROM tenancy.protect_table({}, tenant_column => 'Tenant \"Id', mode => 'enforce', options => '{{\"set_default\": true, \"foreign_keys\": \"replace\"}}')",
            quote_literal(&name)
        );
        assert_eq!(owner.text(&call).as_deref(), Some("enforced"), "{name}");
        assert_eq!(
            owner.text(&call).as_deref(),
            Some("enforced (unchanged)"),
            "{name}"
        );
        let mut a = stage.tenant(A);
        assert_eq!(a.int(&format!("SELECT count(*) FROM {name}")), 1, "{name}");
        assert_eq!(
            a.rows(&format!("DELETE FROM {name} WHERE id = 2 RETURNING 1"))
                .len(),
            0,
            "{name}"
        );
    }
    let policies = "SELECT count(*) FROM pg_policy";
    assert_eq!(owner.int(policies), 5 * tables.len() as i64);
    let sql = "SELECT count(*) FROM tenancy.protected_tables WHERE agrees";
    assert_eq!(stage.nobody().int(sql), tables.len() as i64);
    owner.ok("SELECT tenancy.set_mode('permissive'); SELECT tenancy.set_mode('enforce')");
    assert_eq!(owner.int(policies), 5 * tables.len() as i64);
    for (schema, table) in &tables {
        let name = format!("{}.{}", quote_ident(schema), quote_ident(table));
        owner.ok(&format!(
            "SELECT tenancy.unprotect_table({})",
            quote_literal(&name)
        ));
    }
    assert_eq!(dump(), before);
}

#[test]
fn the_names_of_the_contract() {
    let stage = Stage::new();
    stage.items();
    stage.protect("app.items", "{}");
    let names = "SELECT string_agg(polname || ':' || polpermissive || polcmd::text, ' ' ORDER BY polname) FROM pg_policy";
    assert_eq!(
        stage.superuser().text(names).as_deref(),
        Some(
            "items_tenant_access:true* items_tenant_isolation_delete:falsed items_tenant_isolation_insert:falsea \
             items_tenant_isolation_select:falser items_tenant_isolation_update:falsew"
        )
    );
}

#[test]
fn the_search_path_changes_nothing() {
    let stage = Stage::new();
    stage.items();
    stage.owner().ok(
        "CREATE FUNCTION app.equal(name, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'caught'; END $$;
         CREATE OPERATOR app.= (LEFTARG = name, RIGHTARG = text, FUNCTION = app.equal);
         CREATE FUNCTION app.count(\"any\") RETURNS bigint LANGUAGE internal AS 'int8inc_any';
         CREATE TABLE app.pg_policy (a int); CREATE TABLE app.protection (a int)"
            .replace("CREATE FUNCTION app.count(\"any\") RETURNS bigint LANGUAGE internal AS 'int8inc_any';", "")
            .as_str(),
    );
    let mut owner = stage.owner();
    owner.ok("SET search_path = app, pg_catalog");
    assert_eq!(
        policy_support::protect(&mut owner, "items", "{}"),
        "enforced"
    );
    assert_eq!(
        policy_support::protect(&mut owner, "items", "{}"),
        "enforced (unchanged)"
    );
    owner.ok("SELECT tenancy.unprotect_table('items')");
}

#[test]
fn a_renamed_table_stays_protected_and_converges() {
    let stage = Stage::new();
    stage.items();
    let before = stage.dump();
    stage.protect("app.items", r#"{"set_default": true}"#);
    stage.owner().ok("ALTER TABLE app.items RENAME TO things");
    assert_eq!(stage.tenant(B).int("SELECT count(*) FROM app.things"), 1);
    let sql = "SELECT relation::text FROM tenancy.protected_tables";
    assert_eq!(stage.owner().text(sql).as_deref(), Some("app.things"));
    assert_eq!(
        stage.protect("app.things", r#"{"set_default": true}"#),
        "enforced"
    );
    let names = "SELECT count(*) FROM pg_policy WHERE polname LIKE 'things_tenant_%'";
    assert_eq!(stage.superuser().int(names), 5);
    stage
        .owner()
        .ok("ALTER TABLE app.things RENAME TO items; SELECT tenancy.unprotect_table('app.items')");
    assert_eq!(stage.dump(), before);
}

#[test]
fn a_table_made_anew_under_the_name_is_not_taken_for_the_old_one() {
    let stage = Stage::new();
    stage.items();
    stage.protect("app.items", "{}");
    stage.owner().ok("DROP TABLE app.items");
    assert_eq!(
        stage
            .nobody()
            .int("SELECT count(*) FROM tenancy.protected_tables"),
        0
    );
    stage.items();
    let sql = "SELECT agrees::text FROM tenancy.protected_tables";
    assert_eq!(
        stage.nobody().text(sql).as_deref(),
        Some("false"),
        "registered by name, not isolated"
    );
    stage.protect("app.items", "{}");
    assert_eq!(stage.nobody().text(sql).as_deref(), Some("true"));
    assert_eq!(stage.tenant(B).int("SELECT count(*) FROM app.items"), 1);
    // What was found of the old table must not be "restored" on the new one.
    stage
        .owner()
        .ok("SELECT tenancy.unprotect_table('app.items')");
    stage
        .owner()
        .ok("ALTER TABLE app.items ENABLE ROW LEVEL SECURITY");
    stage.protect("app.items", "{}");
    stage.owner().ok("DROP TABLE app.items");
    stage.items();
    let before = stage.dump();
    stage.protect("app.items", "{}");
    stage
        .owner()
        .ok("SELECT tenancy.unprotect_table('app.items')");
    assert_eq!(stage.dump(), before);
}

/// Keys are noted by the names of their time.
#[test]
fn keys_come_back_on_a_renamed_parent() {
    let rename = |stage: &Stage| {
        stage.owner().ok(
            "ALTER TABLE app.items RENAME TO \"Renamed\"; ALTER TABLE app.lines RENAME TO rows",
        );
    };
    for first in ["app.\"Renamed\"", "app.rows"] {
        let stages = [Stage::new(), Stage::new()];
        for stage in &stages {
            stage.items();
            stage.owner().ok("CREATE TABLE app.lines (id int, tenant_id uuid, item int REFERENCES app.items ON DELETE CASCADE)");
        }
        rename(&stages[1]);
        for table in ["app.items", "app.lines"] {
            stages[0].protect(table, r#"{"foreign_keys": "replace"}"#);
        }
        rename(&stages[0]);
        // Another table of that name is not what the key was about.
        stages[0]
            .owner()
            .ok("CREATE TABLE app.items (id int PRIMARY KEY)");
        let second = ["app.\"Renamed\"", "app.rows"]
            .into_iter()
            .find(|other| *other != first);
        for table in [first, second.expect("the other")] {
            stages[0]
                .owner()
                .ok(&format!("SELECT tenancy.unprotect_table('{table}')"));
        }
        stages[0].owner().ok("DROP TABLE app.items");
        let plain = |stage: &Stage| {
            stage
                .dump()
                .replace(&stage.owner, "owner")
                .replace(&stage.app, "app")
        };
        assert_eq!(plain(&stages[0]), plain(&stages[1]), "{first}");
    }
}

/// The registration follows the table that was renamed, and not whoever has its name now.
#[test]
fn a_table_that_takes_the_name_of_another_takes_nothing_else() {
    let stage = Stage::new();
    stage.items();
    let before = stage.dump();
    stage.protect("app.items", "{}");
    stage
        .owner()
        .ok("ALTER TABLE app.items RENAME TO items_old");
    stage.items();
    let unprotect = "SELECT tenancy.unprotect_table('app.items')";
    expect_error(&stage.owner().error(unprotect), "42704", "not protected");
    stage.protect("app.items", "{}");
    for table in ["app.items", "app.items_old"] {
        assert_eq!(
            stage
                .tenant(B)
                .int(&format!("SELECT count(*) FROM {table}")),
            1
        );
        let mode = format!(
            "SELECT mode FROM tenancy.protected_tables WHERE relation = '{table}'::regclass"
        );
        assert_eq!(stage.nobody().text(&mode).as_deref(), Some("enforce"));
    }
    stage
        .owner()
        .ok("SELECT tenancy.unprotect_table('app.items_old')");
    assert_eq!(stage.tenant(B).int("SELECT count(*) FROM app.items"), 1);
    stage.owner().ok(unprotect);
    stage
        .owner()
        .ok("DROP TABLE app.items; ALTER TABLE app.items_old RENAME TO items");
    assert_eq!(stage.dump(), before);
}

/// Blue and green: both are registered, and swap their names.
#[test]
fn tables_that_swap_names_keep_their_registrations() {
    let stage = Stage::new();
    stage.items();
    let before = stage.dump();
    stage
        .owner()
        .ok("CREATE TABLE app.items_new (LIKE app.items)");
    stage.protect("app.items", r#"{"set_default": true}"#);
    stage.owner().ok(
        "SELECT tenancy.protect_table('app.items_new', mode => 'permissive');
             ALTER TABLE app.items RENAME TO items_old; ALTER TABLE app.items_new RENAME TO items;
             ALTER TABLE app.items_old RENAME TO items_new",
    );
    let modes = "SELECT relation::text || ' ' || mode FROM tenancy.protected_tables ORDER BY 1";
    let swapped = ["app.items permissive", "app.items_new enforce"];
    assert_eq!(stage.nobody().texts(modes), swapped);
    // Writing one moves both.
    stage.protect("app.items", "{}");
    assert_eq!(
        stage.nobody().texts(modes),
        ["app.items enforce", "app.items_new enforce"]
    );
    let named = "SELECT table_name || ' ' || (options ? 'set_default') FROM tenancy.protected_tables ORDER BY 1";
    assert_eq!(
        stage.nobody().texts(named),
        ["items false", "items_new true"]
    );
    stage.owner().ok(
        "SELECT tenancy.unprotect_table('app.items_new'), tenancy.unprotect_table('app.items');
         DROP TABLE app.items; ALTER TABLE app.items_new RENAME TO items",
    );
    assert_eq!(stage.dump(), before);
}

/// One whose database is known by a number that is negative where a sign is taken for one.
fn stage_known_by_a_large_number() -> Stage {
    let identity = "SELECT tenancy.database_identity()::bigint";
    loop {
        let stage = Stage::new();
        if stage.superuser().int(identity) > i64::from(i32::MAX) {
            return stage;
        }
    }
}

/// Whoever has the name now was never registered.
#[test]
fn what_is_done_to_all_is_done_to_the_renamed_table_and_not_to_its_namesake() {
    let stage = stage_known_by_a_large_number();
    stage.items();
    let mut owner = stage.owner();
    owner.ok("SELECT tenancy.protect_table('app.items', mode => 'shadow')");
    stage.superuser().ok("SELECT tenancy.shadow_clear()");
    owner.ok("ALTER TABLE app.items RENAME TO items_old");
    stage.items();
    let untouched = || {
        let security = "SELECT count(*) FROM pg_class WHERE oid = 'app.items'::regclass AND (relrowsecurity OR relforcerowsecurity)";
        assert_eq!(stage.superuser().int(security), 0);
        assert_eq!(stage.tenant(B).int("SELECT count(*) FROM app.items"), 3);
    };
    // It is the renamed table that is watched, and not ready.
    assert_eq!(stage.tenant(B).int("SELECT count(*) FROM app.items_old"), 3);
    untouched();
    let recorded = "SELECT DISTINCT relation::text FROM tenancy.shadow_denials";
    assert_eq!(stage.superuser().texts(recorded), ["app.items_old"]);
    let enforce = "SELECT tenancy.set_mode('app.items_old', 'enforce')";
    expect_error(&owner.error(enforce), "55000", "not ready");
    for (sql, seen) in [
        (
            "SELECT * FROM tenancy.set_mode('enforce', force => true)",
            1,
        ),
        ("SELECT * FROM tenancy.repair()", 1),
        ("SELECT * FROM tenancy.set_mode('permissive')", 3),
        ("SELECT * FROM tenancy.set_mode('enforce')", 1),
    ] {
        owner.ok(sql);
        let rows = "SELECT count(*) FROM app.items_old";
        assert_eq!(stage.tenant(B).int(rows), seen, "{sql}");
        untouched();
    }
    // Statements on it are judged by the context as they start.
    let empty = "SELECT FROM app.items_old WHERE false";
    expect_error(&stage.nobody().error(empty), "42501", "no tenant context");
    stage.superuser().ok("DROP EXTENSION pg_tenancy CASCADE");
    untouched();
    assert_eq!(stage.nobody().int("SELECT count(*) FROM app.items_old"), 0);
}

#[test]
fn a_partition_that_takes_the_name_of_a_detached_one_keeps_its_own() {
    let stage = Stage::new();
    let mut owner = stage.owner();
    owner.ok(&format!(
        "CREATE TABLE app.logs (id int, tenant_id uuid) PARTITION BY RANGE (id);
         CREATE TABLE app.logs_1 PARTITION OF app.logs FOR VALUES FROM (0) TO (10);
         INSERT INTO app.logs VALUES (1, '{A}'), (2, '{B}')"
    ));
    stage.protect("app.logs", "{}");
    owner.ok("ALTER TABLE app.logs DETACH PARTITION app.logs_1; ALTER TABLE app.logs_1 RENAME TO logs_1_old;
         CREATE TABLE app.logs_1 PARTITION OF app.logs FOR VALUES FROM (0) TO (10);
         ALTER TABLE app.logs_1 ENABLE ROW LEVEL SECURITY;
         SELECT tenancy.unprotect_table('app.logs')");
    let security = "SELECT relrowsecurity::text FROM pg_class WHERE oid = 'app.logs_1'::regclass";
    assert_eq!(stage.superuser().text(security).as_deref(), Some("true"));
    let left = "SELECT relation::text || ' ' || mode FROM tenancy.protected_tables";
    assert_eq!(stage.nobody().texts(left), ["app.logs_1_old enforce"]);
    assert_eq!(
        stage.tenant(B).int("SELECT count(*) FROM app.logs_1_old"),
        1
    );
}

/// A registration of a table that is gone ends, and nothing of it is put back on its namesake.
#[test]
fn unprotecting_a_namesake_of_a_dropped_table_changes_nothing() {
    let stage = Stage::new();
    stage.items();
    stage.protect("app.items", "{}");
    stage.owner().ok("DROP TABLE app.items");
    stage.items();
    stage.owner().ok(
        "ALTER TABLE app.items ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON app.items USING (id = 1)",
    );
    let before = stage.dump();
    stage
        .owner()
        .ok("SELECT tenancy.unprotect_table('app.items')");
    assert_eq!(stage.dump(), before);
    let left = "SELECT count(*) FROM tenancy.protection";
    assert_eq!(stage.superuser().int(left), 0);
}

#[test]
fn a_renamed_tenant_column_is_followed() {
    let options = r#"{"set_default": true}"#;
    let under = |column: &str| {
        format!(
            "SELECT result FROM tenancy.protect_table('app.items', tenant_column => '{column}', mode => 'enforce', options => '{options}')"
        )
    };
    let rename = "ALTER TABLE app.items RENAME tenant_id TO org_id";
    let back = "ALTER TABLE app.items RENAME org_id TO tenant_id";
    let unprotect = "SELECT tenancy.unprotect_table('app.items')";
    let stage = Stage::new();
    stage.items();
    let before = stage.dump();
    let mut owner = stage.owner();

    owner.ok(&under("tenant_id"));
    let enforced = stage.dump();
    owner.ok(&format!("{rename}; {unprotect}; {back}"));
    assert_eq!(stage.dump(), before, "renamed and unprotected");

    owner.ok(&under("tenant_id"));
    owner.ok(rename);
    assert_eq!(stage.tenant(B).int("SELECT count(*) FROM app.items"), 1);
    let told = "SELECT drift FROM tenancy.protected_tables";
    assert!(
        owner
            .text(told)
            .is_some_and(|drift| drift.contains("renamed")),
        "{:?}",
        owner.text(told)
    );
    assert_eq!(owner.text(&under("org_id")).as_deref(), Some("enforced"));
    assert_eq!(owner.text(told), None);
    assert_eq!(
        owner.text(&under("org_id")).as_deref(),
        Some("enforced (unchanged)")
    );
    assert_eq!(stage.tenant(B).int("SELECT count(*) FROM app.items"), 1);
    owner.ok(&format!("{unprotect}; {back}"));
    assert_eq!(
        stage.dump(),
        before,
        "renamed, protected again, unprotected"
    );

    owner.ok(&under("tenant_id"));
    owner.ok(&format!(
        "{rename}; SELECT tenancy.set_mode('app.items', 'permissive'); SELECT tenancy.set_mode('app.items', 'enforce')"
    ));
    assert_eq!(stage.tenant(B).int("SELECT count(*) FROM app.items"), 1);
    let printed = owner
        .text("SELECT tenancy.policy_sql('app.items')")
        .unwrap();
    assert!(
        printed.contains("\"org_id\"") && !printed.contains("\"tenant_id\""),
        "{printed}"
    );
    owner.ok(back);
    assert_eq!(owner.text(&under("tenant_id")).as_deref(), Some("enforced"));
    assert_eq!(stage.dump(), enforced);
    owner.ok(unprotect);
    assert_eq!(stage.dump(), before);
}

#[test]
fn another_column_under_the_old_name_is_another_column() {
    let stage = Stage::new();
    stage.items();
    stage.protect("app.items", "{}");
    stage.superuser().ok(&format!(
        "ALTER TABLE app.items RENAME tenant_id TO org_id;
         ALTER TABLE app.items ADD tenant_id uuid; UPDATE app.items SET tenant_id = '{A}'"
    ));
    assert_eq!(stage.tenant(B).int("SELECT count(*) FROM app.items"), 1);
    assert_eq!(stage.protect("app.items", "{}"), "enforced");
    assert_eq!(
        stage.tenant(B).int("SELECT count(*) FROM app.items"),
        0,
        "the column that the call names"
    );
    let not_null = "SELECT string_agg(attname, ' ') FROM pg_attribute
         WHERE attrelid = 'app.items'::regclass AND attnotnull AND attname IN ('org_id', 'tenant_id')";
    assert_eq!(
        stage.superuser().text(not_null).as_deref(),
        Some("tenant_id"),
        "ours is taken back from the other"
    );
    stage
        .owner()
        .ok("SELECT tenancy.unprotect_table('app.items')");
    assert_eq!(stage.superuser().text(not_null), None);
}
