//! Protected tables as the roles of an application see them.

mod policy_support;

use pgrx_test::fixture::{ClientExt, Server, expect_error};
use policy_support::{A, B, Stage, plan_of, protect};

const COUNT: &str = "SELECT count(*) FROM app.items";

#[test]
fn all_four_commands_are_isolated() {
    let stage = Stage::new();
    stage.items();
    assert_eq!(stage.protect("app.items", "{}"), "enforced");
    let mut b = stage.tenant(B);
    assert_eq!(b.int(COUNT), 1);
    assert_eq!(b.rows("SELECT * FROM app.items WHERE id = 1").len(), 0);
    assert_eq!(
        b.rows("UPDATE app.items SET note = 'x' WHERE id < 3 RETURNING 1")
            .len(),
        0
    );
    assert_eq!(
        b.rows("DELETE FROM app.items WHERE id < 3 RETURNING 1")
            .len(),
        0
    );
    expect_error(
        &b.error(&format!("INSERT INTO app.items VALUES (9, '{A}', 'x')")),
        "42501",
        "row-level security",
    );
    expect_error(
        &b.error(&format!("UPDATE app.items SET tenant_id = '{A}'")),
        "42501",
        "row-level security",
    );
    b.ok(&format!("INSERT INTO app.items VALUES (4, '{B}', 'b2')"));
    b.ok("UPDATE app.items SET note = 'mine'; DELETE FROM app.items WHERE id = 4");
    assert_eq!(
        stage
            .tenant(A)
            .int("SELECT count(*) FROM app.items WHERE note LIKE 'a%'"),
        2
    );
}

#[test]
fn without_a_context_every_command_is_an_error() {
    let stage = Stage::new();
    stage.items();
    stage.protect("app.items", "{}");
    for sql in [
        COUNT,
        "UPDATE app.items SET note = 'x'",
        "DELETE FROM app.items",
        "INSERT INTO app.items VALUES (9, NULL, 'x')",
    ] {
        expect_error(&stage.nobody().error(sql), "42501", "app.current_tenant_id");
    }
}

#[test]
fn who_is_bound_is_what_postgres_documents() {
    let stage = Stage::new();
    stage.items();
    stage.protect("app.items", "{}");
    stage.superuser().ok(&format!(
        "CREATE VIEW app.of_owner AS SELECT * FROM app.items;
         CREATE VIEW app.of_caller WITH (security_invoker = true) AS SELECT * FROM app.items;
         CREATE FUNCTION app.counted() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM app.items';
         CREATE VIEW app.of_superuser AS SELECT * FROM app.items;
         ALTER VIEW app.of_owner OWNER TO {0}; ALTER FUNCTION app.counted OWNER TO {0};
         GRANT SELECT ON app.of_owner, app.of_caller, app.of_superuser TO {1}",
        stage.owner, stage.app
    ));
    assert_eq!(stage.superuser().int(COUNT), 3);
    assert_eq!(
        stage.role_as(&stage.owner, B).int(COUNT),
        1,
        "FORCE binds the owner"
    );
    expect_error(&stage.owner().error(COUNT), "42501", "tenant");
    let mut b = stage.tenant(B);
    assert_eq!(b.int("SELECT count(*) FROM app.of_owner"), 1);
    assert_eq!(b.int("SELECT count(*) FROM app.of_caller"), 1);
    assert_eq!(b.int("SELECT app.counted()"), 1);
    assert_eq!(
        b.int("SELECT count(*) FROM app.of_superuser"),
        3,
        "a view acts as its owner"
    );
    let job = stage.database.role("job");
    stage.superuser().ok(&format!(
        "ALTER ROLE {job} BYPASSRLS; GRANT USAGE ON SCHEMA app TO {job}; GRANT SELECT ON app.items TO {job}"
    ));
    assert_eq!(stage.database.connect(&job).int(COUNT), 3);
}

#[test]
fn force_is_an_option() {
    let stage = Stage::new();
    stage.items();
    stage.protect("app.items", r#"{"force": false}"#);
    assert_eq!(stage.owner().int(COUNT), 3);
    assert_eq!(stage.tenant(B).int(COUNT), 1);
    assert_eq!(protect(&mut stage.owner(), "app.items", "{}"), "enforced");
    expect_error(&stage.owner().error(COUNT), "42501", "tenant");
    stage.protect("app.items", r#"{"force": false}"#);
    assert_eq!(stage.owner().int(COUNT), 3);
}

#[test]
fn a_policy_of_the_users_own_is_never_widened() {
    let stage = Stage::new();
    stage.items();
    stage
        .owner()
        .ok("ALTER TABLE app.items ENABLE ROW LEVEL SECURITY;
         CREATE POLICY mine ON app.items USING (note <> 'a2')");
    assert_eq!(stage.nobody().int(COUNT), 2);
    stage.protect("app.items", "{}");
    assert_eq!(
        stage.tenant(A).int(COUNT),
        1,
        "the user's policy AND the tenant"
    );
    assert_eq!(
        stage
            .tenant(A)
            .text("SELECT note FROM app.items")
            .as_deref(),
        Some("a1")
    );
    assert_eq!(stage.tenant(B).int(COUNT), 1);
    let sql =
        "SELECT count(*) FROM pg_policy WHERE polpermissive AND polrelid = 'app.items'::regclass";
    assert_eq!(stage.superuser().int(sql), 1, "ours would be ORed with it");
}

#[test]
fn access_is_given_for_the_commands_that_the_user_left_out() {
    let stage = Stage::new();
    stage.items();
    stage
        .owner()
        .ok("ALTER TABLE app.items ENABLE ROW LEVEL SECURITY;
         CREATE POLICY reading ON app.items FOR SELECT USING (note <> 'a2')");
    let result = stage.protect("app.items", "{}");
    let said = "without a permissive policy for INSERT, UPDATE, DELETE: \"items_tenant_access_insert\", \
        \"items_tenant_access_update\", \"items_tenant_access_delete\" now let through what template \"tenant\" allows";
    assert!(result.contains(said), "{result}");
    let sql = "SELECT string_agg(polname, ' ' ORDER BY polname) FROM pg_policy WHERE polpermissive";
    assert_eq!(
        stage.superuser().text(sql).as_deref(),
        Some(
            "items_tenant_access_delete items_tenant_access_insert items_tenant_access_update reading"
        )
    );
    let mut a = stage.tenant(A);
    assert_eq!(a.int(COUNT), 1);
    a.ok(&format!("INSERT INTO app.items VALUES (7, '{A}', 'a7')"));
    // The user's policy goes, and protecting again fills its place.
    stage.owner().ok("DROP POLICY reading ON app.items");
    stage.protect("app.items", "{}");
    assert_eq!(stage.tenant(A).int(COUNT), 3);
    assert_eq!(
        stage.superuser().text(sql).as_deref(),
        Some("items_tenant_access")
    );
}

#[test]
fn a_policy_for_some_roles_gives_the_others_nothing() {
    let stage = Stage::new();
    stage.items();
    let other = stage.database.role("other");
    stage.superuser().ok(&format!(
        "GRANT USAGE ON SCHEMA app TO {other}; GRANT SELECT ON app.items TO {other};
         ALTER TABLE app.items ENABLE ROW LEVEL SECURITY;
         CREATE POLICY mine ON app.items TO {} USING (note <> 'a2')",
        stage.app
    ));
    assert_eq!(stage.database.connect(&other).int(COUNT), 0);
    let result = stage.protect("app.items", "{}");
    assert!(result.contains("for some roles only"), "{result}");
    assert_eq!(stage.tenant(A).int(COUNT), 1);
    assert_eq!(
        stage.role_as(&other, A).int(COUNT),
        0,
        "nothing before, nothing now"
    );
}

#[test]
fn dormant_policies_are_refused_until_adopted() {
    let stage = Stage::new();
    stage.items();
    stage
        .owner()
        .ok("CREATE POLICY asleep ON app.items USING (note = 'b1')");
    let before = stage.dump();
    let error = stage
        .owner()
        .error("SELECT tenancy.protect_table('app.items', mode => 'enforce')");
    expect_error(&error, "55000", "adopt_policies");
    assert!(error.detail().is_some_and(|text| text.contains("asleep")));
    assert_eq!(stage.dump(), before, "nothing half-done");
    stage.protect("app.items", r#"{"adopt_policies": true}"#);
    assert_eq!(stage.tenant(A).int(COUNT), 0);
    assert_eq!(stage.tenant(B).int(COUNT), 1);
    stage
        .owner()
        .ok("SELECT tenancy.unprotect_table('app.items')");
    assert_eq!(stage.dump(), before);
}

#[test]
fn protecting_twice_changes_nothing_and_blocks_nobody() {
    let stage = Stage::new();
    stage.items();
    stage.protect("app.items", r#"{"set_default": true}"#);
    let before = stage.dump();
    let registered = "SELECT xmin::text || mode_since FROM tenancy.protection";
    let stamp = stage.superuser().text(registered);
    let mut busy = stage.tenant(A);
    busy.ok("BEGIN; UPDATE app.items SET note = note");
    let mut owner = stage.owner();
    owner.ok("SET lock_timeout = '2s'");
    let result = protect(&mut owner, "app.items", r#"{"set_default": true}"#);
    assert_eq!(result, "enforced (unchanged)");
    busy.ok("COMMIT");
    assert_eq!(stage.dump(), before);
    assert_eq!(stage.superuser().text(registered), stamp);
}

#[test]
fn lock_timeout_is_honoured_and_nothing_is_half_done() {
    let stage = Stage::new();
    stage.items();
    let before = stage.dump();
    let mut busy = stage.owner();
    busy.ok("BEGIN; SELECT * FROM app.items");
    let mut owner = stage.owner();
    owner.ok("SET lock_timeout = '200ms'");
    let error = owner.error("SELECT tenancy.protect_table('app.items', mode => 'enforce')");
    expect_error(&error, "55P03", "lock timeout");
    busy.ok("COMMIT");
    assert_eq!(stage.dump(), before);
    assert_eq!(
        stage
            .superuser()
            .int("SELECT count(*) FROM tenancy.protection"),
        0
    );
}

#[test]
fn unprotecting_restores_what_was_found() {
    let stage = Stage::new();
    let mut owner = stage.owner();
    owner.ok("CREATE TABLE app.parents (id int PRIMARY KEY, tenant_id uuid);
         CREATE TABLE app.plain (id int PRIMARY KEY, tenant_id uuid DEFAULT gen_random_uuid(), parent int REFERENCES app.parents ON DELETE CASCADE DEFERRABLE);
         CREATE TABLE app.ready (id int, tenant_id uuid NOT NULL, PRIMARY KEY (tenant_id, id));
         CREATE TABLE app.secured (id int, tenant_id uuid);
         ALTER TABLE app.secured ENABLE ROW LEVEL SECURITY;
         CREATE POLICY mine ON app.secured USING (id > 0);
         CREATE TABLE app.forced (id int, tenant_id uuid);
         ALTER TABLE app.forced FORCE ROW LEVEL SECURITY;
         CREATE TABLE app.halves (id int, tenant_id uuid);
         ALTER TABLE app.halves ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;");
    let before = stage.dump();
    let tables = ["parents", "plain", "ready", "secured", "forced", "halves"];
    for order in [
        tables,
        ["halves", "forced", "secured", "ready", "plain", "parents"],
    ] {
        for table in tables {
            protect(
                &mut owner,
                &format!("app.{table}"),
                r#"{"set_default": true, "foreign_keys": "replace"}"#,
            );
        }
        assert_ne!(stage.dump(), before);
        for table in order {
            owner.ok(&format!("SELECT tenancy.unprotect_table('app.{table}')"));
        }
        assert_eq!(stage.dump(), before);
    }
    assert_eq!(
        stage
            .superuser()
            .int("SELECT count(*) FROM tenancy.protection"),
        0
    );
}

#[test]
fn what_was_changed_by_hand_since_is_left_alone() {
    let stage = Stage::new();
    stage.items();
    stage.protect("app.items", r#"{"set_default": true}"#);
    stage.owner().ok(&format!(
        "ALTER TABLE app.items ALTER tenant_id SET DEFAULT '{A}'"
    ));
    stage
        .owner()
        .ok("SELECT tenancy.unprotect_table('app.items')");
    let sql =
        "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = 'app.items'::regclass";
    assert!(
        stage
            .superuser()
            .text(sql)
            .is_some_and(|text| text.contains(A))
    );
}

#[test]
fn hand_edits_are_reported_and_mended() {
    let stage = Stage::new();
    stage.items();
    stage.protect("app.items", "{}");
    let drift = "SELECT drift FROM tenancy.protected_tables WHERE relation = 'app.items'::regclass";
    assert_eq!(stage.nobody().text(drift), None);
    for (edit, expected) in [
        (
            "ALTER POLICY items_tenant_isolation_select ON app.items USING (true)",
            "was altered",
        ),
        (
            "ALTER POLICY items_tenant_access ON app.items TO CURRENT_USER",
            "was altered",
        ),
        (
            "DROP POLICY items_tenant_isolation_update ON app.items",
            "is missing",
        ),
        (
            "ALTER TABLE app.items NO FORCE ROW LEVEL SECURITY",
            "not forced",
        ),
        (
            "ALTER TABLE app.items DISABLE ROW LEVEL SECURITY",
            "not enabled",
        ),
        (
            "ALTER TABLE app.items DISABLE TRIGGER items_tenant_immutable",
            "disabled",
        ),
        (
            "DROP TRIGGER items_tenant_immutable ON app.items",
            "missing",
        ),
        (
            "CREATE POLICY later ON app.items USING (note <> 'a2')",
            "widens",
        ),
    ] {
        stage.owner().ok(edit);
        let told = stage
            .nobody()
            .text(drift)
            .unwrap_or_else(|| panic!("no drift after {edit}"));
        assert!(told.contains(expected), "{edit}: {told}");
        assert_eq!(stage.protect("app.items", "{}"), "enforced", "{edit}");
        assert_eq!(stage.nobody().text(drift), None, "{edit}");
    }
    assert_eq!(stage.tenant(A).int(COUNT), 1, "the later policy narrows");
    assert_eq!(stage.tenant(B).int(COUNT), 1);
}

#[test]
fn a_row_cannot_move_whoever_moves_it() {
    let stage = Stage::new();
    stage.items();
    stage.protect("app.items", r#"{"force": false}"#);
    let attempt = format!("UPDATE app.items SET tenant_id = '{A}' WHERE id = 3");
    expect_error(&stage.owner().error(&attempt), "23514", "another tenant");
    expect_error(&stage.superuser().error(&attempt), "23514", "items");
    stage
        .superuser()
        .ok("UPDATE app.items SET tenant_id = tenant_id, note = note");
    expect_error(
        &stage.superuser().error(&format!(
            "INSERT INTO app.items VALUES (3, '{B}') ON CONFLICT (id) DO UPDATE SET tenant_id = '{A}'"
        )),
        "23514",
        "immutable",
    );
    stage.superuser().ok(&format!(
        "SET session_replication_role = replica; {attempt}"
    ));
}

#[test]
fn a_before_trigger_of_the_users_own_cannot_move_it_either() {
    let stage = Stage::new();
    stage.items();
    stage.protect("app.items", r#"{"force": false}"#);
    stage.owner().ok(&format!(
        "CREATE FUNCTION app.move() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.tenant_id := '{A}'; RETURN NEW; END $$;
         CREATE TRIGGER zzz BEFORE UPDATE ON app.items FOR EACH ROW EXECUTE FUNCTION app.move()"
    ));
    expect_error(
        &stage
            .owner()
            .error("UPDATE app.items SET note = 'x' WHERE id = 3"),
        "23514",
        "another tenant",
    );
}

#[test]
fn rows_without_a_tenant_are_counted_and_refused() {
    let stage = Stage::new();
    stage.items();
    stage.owner().ok("INSERT INTO app.items VALUES (8), (9)");
    let before = stage.dump();
    let error = stage
        .owner()
        .error("SELECT tenancy.protect_table('app.items', mode => 'enforce')");
    expect_error(&error, "23502", "2 rows");
    assert_eq!(stage.dump(), before);
    let hint = error.hint().expect("a hint");
    let (sentence, update) = hint.split_once(": ").expect("a statement");
    assert!(sentence.starts_with("Delete them, or "), "{hint}");
    // Whole but for the tenant, which only the administrator knows.
    let update = update.replace("<tenant>", B);
    assert!(
        update.starts_with("UPDATE ") && update.ends_with(';'),
        "{hint}"
    );
    let mut owner = stage.owner();
    owner.ok(&update);
    stage.protect("app.items", "{}");
    assert_eq!(stage.tenant(B).int(COUNT), 3);
}

#[test]
fn a_constraint_that_is_not_valid_is_no_promise() {
    let stage = Stage::new();
    stage.items();
    // From 18 on NOT NULL itself may be declared like that.
    let constraint = if Server::preloaded().version >= 18 {
        "NOT NULL tenant_id"
    } else {
        "CHECK (tenant_id IS NOT NULL)"
    };
    let mut owner = stage.owner();
    owner.ok(&format!(
        "INSERT INTO app.items VALUES (9); ALTER TABLE app.items ADD CONSTRAINT held {constraint} NOT VALID"
    ));
    let before = stage.dump();
    let protect = "SELECT tenancy.protect_table('app.items', mode => 'enforce')";
    expect_error(&owner.error(protect), "23502", "1 row");
    let nullable = "SELECT count(*) FROM tenancy.validate() WHERE code = 'tenant-column-nullable' AND object LIKE '%items%'";
    assert_eq!(stage.superuser().int(nullable), 1);
    owner.ok("DELETE FROM app.items WHERE id = 9");
    owner.ok(protect);
    assert_eq!(stage.superuser().int(nullable), 0);
    owner.ok("SELECT tenancy.unprotect_table('app.items')");
    assert_eq!(stage.dump(), before);
}

#[test]
fn large_tables_get_a_script_instead_of_a_lock() {
    let stage = Stage::new();
    stage.items();
    stage.owner().ok("CREATE TABLE app.lines (id int PRIMARY KEY, tenant_id uuid, item int REFERENCES app.items);
        INSERT INTO app.lines SELECT 1, tenant_id, id FROM app.items WHERE id = 3; ANALYZE app.items, app.lines");
    let before = stage.dump();
    let mut owner = stage.owner();
    owner.ok("SET pg_tenancy.inline_ddl_rows = 0");
    let mut script = String::new();
    for table in ["app.items", "app.lines"] {
        let result = protect(&mut owner, table, r#"{"foreign_keys": "replace"}"#);
        script.push_str(result.split_once("by itself:").expect("a script").1);
    }
    for part in [
        "CONCURRENTLY",
        "NOT VALID",
        "VALIDATE CONSTRAINT",
        "USING INDEX",
    ] {
        assert!(script.contains(part), "{script}");
    }
    assert_eq!(
        owner.int("SELECT count(*) FROM pg_index WHERE indrelid IN ('app.items'::regclass, 'app.lines'::regclass)"),
        2,
        "no index was built in place"
    );
    assert_eq!(stage.tenant(B).int(COUNT), 1, "isolated all the same");
    let owner_bound = script.clone();
    for statement in owner_bound
        .split(";\n")
        .filter(|text| !text.trim().is_empty())
    {
        stage.database.psql("postgres", &format!("{statement};"));
    }
    for table in ["app.items", "app.lines"] {
        let result = protect(&mut owner, table, r#"{"foreign_keys": "replace"}"#);
        assert_eq!(result, "enforced (unchanged)");
    }
    for table in ["app.items", "app.lines"] {
        owner.ok(&format!("SELECT tenancy.unprotect_table('{table}')"));
    }
    assert_eq!(stage.dump(), before);
}

#[test]
fn the_default_is_the_context() {
    for (tenant_type, column, tenant) in [
        ("uuid", "uuid", A),
        ("text", "text", "acme"),
        ("bigint", "bigint", "7"),
        ("integer", "integer", "7"),
    ] {
        let stage = Stage::with_type(tenant_type);
        stage.owner().ok(&format!(
            "CREATE TABLE app.items (id int, tenant_id {column})"
        ));
        stage.protect("app.items", r#"{"set_default": true}"#);
        let mut session = stage.tenant(tenant);
        session.ok("INSERT INTO app.items VALUES (1)");
        assert_eq!(
            session.text("SELECT tenant_id FROM app.items").as_deref(),
            Some(tenant),
            "{tenant_type}"
        );
        stage.protect("app.items", "{}");
        expect_error(
            &stage
                .tenant(tenant)
                .error("INSERT INTO app.items VALUES (1)"),
            "42501",
            "row-level",
        );
    }
}

#[test]
fn the_policy_is_an_index_condition_and_stands_once() {
    for (tenant_type, column, tenant) in [
        ("uuid", "uuid", A),
        ("text", "text", "t"),
        ("text", "varchar(40)", "t"),
        ("bigint", "bigint", "7"),
        ("integer", "integer", "7"),
    ] {
        let stage = Stage::with_type(tenant_type);
        stage.owner().ok(&format!(
            "CREATE TABLE app.items (id int, tenant_id {column})"
        ));
        stage.protect("app.items", "{}");
        let drift = "SELECT count(*) FROM tenancy.protected_tables WHERE agrees";
        assert_eq!(stage.nobody().int(drift), 1, "{column}");
        let mut session = stage.tenant(tenant);
        session.ok("SET enable_seqscan = off; SET enable_bitmapscan = off");
        let plan = plan_of(&mut session, "SELECT * FROM app.items");
        assert!(plan.contains("Index Cond"), "{column}: {plan}");
        assert_eq!(plan.matches("_required()").count(), 1, "{column}: {plan}");
    }
}

#[test]
fn partitions_are_protected_and_isolated_when_named_directly() {
    let stage = Stage::new();
    stage.owner().ok(&format!(
        "CREATE TABLE app.events (id int, tenant_id uuid, at date) PARTITION BY RANGE (at);
         CREATE TABLE app.events_1 PARTITION OF app.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
         CREATE TABLE app.events_2 PARTITION OF app.events FOR VALUES FROM ('2027-01-01') TO ('2028-01-01') PARTITION BY LIST (tenant_id);
         CREATE TABLE app.events_2a PARTITION OF app.events_2 DEFAULT;
         INSERT INTO app.events VALUES (1, '{A}', '2026-05-05'), (2, '{B}', '2026-05-05'), (3, '{B}', '2027-05-05')"
    ));
    let before = stage.dump();
    let result = stage.owner().rows(
        "SELECT relation::text, result FROM tenancy.protect_table('app.events', mode => 'enforce')",
    );
    assert_eq!(result.len(), 4, "{result:?}");
    let mut a = stage.tenant(A);
    for (table, rows) in [
        ("events", 1),
        ("events_1", 1),
        ("events_2", 0),
        ("events_2a", 0),
    ] {
        assert_eq!(
            a.int(&format!("SELECT count(*) FROM app.{table}")),
            rows,
            "{table}"
        );
        expect_error(
            &stage.superuser().error(&format!(
                "UPDATE app.{table} SET tenant_id = '{}', at = at",
                "00000000-0000-0000-0000-00000000000c"
            )),
            "23514",
            "another tenant",
        );
    }
    assert_eq!(
        stage
            .nobody()
            .int("SELECT count(*) FROM tenancy.protected_tables WHERE agrees"),
        4
    );
    let error = stage
        .owner()
        .error("SELECT tenancy.unprotect_table('app.events_1')");
    expect_error(&error, "55000", "parent");
    let error = stage
        .owner()
        .error("SELECT tenancy.set_mode('app.events_1', 'permissive')");
    expect_error(&error, "55000", "parent");
    stage.owner().ok("CREATE TABLE app.events_3 PARTITION OF app.events FOR VALUES FROM ('2028-01-01') TO ('2029-01-01')");
    assert_eq!(stage.protect("app.events", "{}"), "enforced (unchanged)");
    assert_eq!(
        stage
            .nobody()
            .int("SELECT count(*) FROM tenancy.protected_tables WHERE agrees"),
        5
    );
    stage
        .owner()
        .ok("DROP TABLE app.events_3; SELECT tenancy.set_mode('app.events', 'permissive')");
    assert_eq!(stage.nobody().int("SELECT count(*) FROM app.events_1"), 2);
    stage
        .owner()
        .ok("SELECT tenancy.set_mode('app.events', 'enforce')");
    assert_eq!(stage.tenant(B).int("SELECT count(*) FROM app.events_1"), 1);
    stage
        .owner()
        .ok("SELECT tenancy.unprotect_table('app.events')");
    assert_eq!(stage.dump(), before);
    assert_eq!(
        stage
            .superuser()
            .int("SELECT count(*) FROM tenancy.protection WHERE table_name <> 'events_3'"),
        0
    );
}

#[test]
fn inheritance_children_are_protected_too() {
    let stage = Stage::new();
    stage.owner().ok(&format!(
        "CREATE TABLE app.base (id int, tenant_id uuid);
         CREATE TABLE app.more (extra text) INHERITS (app.base);
         INSERT INTO app.base VALUES (1, '{A}'), (2, '{B}'); INSERT INTO app.more VALUES (3, '{A}'), (4, '{B}')"
    ));
    let before = stage.dump();
    stage.protect("app.base", r#"{"set_default": true}"#);
    let mut a = stage.tenant(A);
    assert_eq!(a.int("SELECT count(*) FROM app.base"), 2);
    assert_eq!(a.int("SELECT count(*) FROM app.more"), 1);
    expect_error(
        &stage
            .superuser()
            .error(&format!("UPDATE app.more SET tenant_id = '{A}'")),
        "23514",
        "another tenant",
    );
    stage
        .owner()
        .ok("SELECT tenancy.unprotect_table('app.base')");
    assert_eq!(stage.dump(), before);
}

#[test]
fn the_script_gives_the_same_catalog_as_the_call() {
    let stage = Stage::new();
    let copy = Stage::new();
    let tables = "CREATE TABLE app.parents (id int PRIMARY KEY, tenant_id uuid);
         CREATE TABLE app.items (id int PRIMARY KEY, tenant_id uuid, parent int REFERENCES app.parents ON DELETE SET NULL, up int REFERENCES app.items);
         CREATE TABLE app.events (id int, tenant_id uuid) PARTITION BY RANGE (id);
         CREATE TABLE app.events_1 PARTITION OF app.events FOR VALUES FROM (1) TO (10)";
    let options = r#"{"set_default": true, "foreign_keys": "replace"}"#;
    stage.owner().ok(tables);
    copy.owner().ok(tables);
    for table in ["app.parents", "app.items", "app.events"] {
        let print = format!("SELECT tenancy.policy_sql('{table}', options => '{options}')");
        let early = stage.owner().text(&print).unwrap();
        stage.protect(table, options);
        let late = stage.owner().text(&print).unwrap();
        assert_eq!(early, late, "stable output");
        copy.owner().ok(&late);
    }
    let strip = |text: String, role: &str| text.replace(role, "owner");
    assert_eq!(
        strip(strip(stage.dump(), &stage.owner), &stage.app),
        strip(strip(copy.dump(), &copy.owner), &copy.app)
    );
}

#[test]
fn a_schema_is_protected_table_by_table() {
    let stage = Stage::new();
    stage.items();
    stage
        .superuser()
        .ok("CREATE EXTENSION IF NOT EXISTS plpgsql");
    stage.owner().ok(
        "CREATE TABLE app.lines (id int, tenant_id uuid, item int REFERENCES app.items);
         CREATE TABLE app.settings (id int); CREATE TABLE app.left_out (tenant_id uuid)",
    );
    let call = "SELECT relation::text, template, result FROM tenancy.protect_schema('app', mode => 'enforce', exclude => '{app.left_out}')";
    let rows = stage.owner().rows(call);
    let row = |name: &str| {
        rows.iter()
            .find(|row| row[0].as_deref() == Some(name))
            .unwrap()
            .clone()
    };
    assert_eq!(rows.len(), 4);
    assert!(
        row("app.items")[2]
            .as_deref()
            .unwrap()
            .starts_with("enforced")
    );
    assert_eq!(
        row("app.lines")[2].as_deref(),
        Some(
            "enforced; 1 foreign key does not carry the tenant (options foreign_keys: add or replace; see docs/policies.md): lines_item_fkey"
        )
    );
    assert_eq!(row("app.settings")[1], None);
    assert!(
        row("app.settings")[2]
            .as_deref()
            .unwrap()
            .contains("no column")
    );
    assert!(
        row("app.left_out")[2]
            .as_deref()
            .unwrap()
            .contains("excluded")
    );
    let again = stage.owner().rows(call);
    assert!(
        again[0][2].as_deref().unwrap().contains("(unchanged)"),
        "{again:?}"
    );
    assert_eq!(stage.tenant(B).int(COUNT), 1);
}

#[test]
fn an_administrator_needs_no_rights_on_the_table() {
    let stage = Stage::new();
    stage.items();
    let admin = stage.database.role("admin");
    let error = stage
        .database
        .connect(&admin)
        .error("SELECT tenancy.protect_table('app.items'::regclass, mode => 'enforce')");
    expect_error(&error, "42501", "app");
    stage.superuser().ok(&format!(
        "ALTER ROLE {admin} SET pg_tenancy.admin_role = ''; ALTER DATABASE {} SET pg_tenancy.admin_role = '{admin}'; GRANT USAGE ON SCHEMA app TO {admin}",
        stage.database.name
    ));
    stage
        .superuser()
        .ok(&format!("ALTER ROLE {admin} RESET pg_tenancy.admin_role"));
    assert_eq!(
        protect(&mut stage.database.connect(&admin), "app.items", "{}"),
        "enforced"
    );
    let error = stage
        .nobody()
        .error("SELECT tenancy.unprotect_table('app.items')");
    expect_error(&error, "42501", "must be owner");
}

#[test]
fn an_owner_without_create_on_the_schema_can_be_helped_by_a_superuser() {
    let stage = Stage::new();
    stage.superuser().ok(&format!(
        "CREATE SCHEMA shut; CREATE TABLE shut.items (id int, tenant_id uuid);
         ALTER TABLE shut.items OWNER TO {0}; GRANT USAGE ON SCHEMA shut TO {0}",
        stage.owner
    ));
    expect_error(
        &stage
            .owner()
            .error("SELECT tenancy.protect_table('shut.items', mode => 'enforce')"),
        "42501",
        "schema shut",
    );
    assert_eq!(
        protect(&mut stage.superuser(), "shut.items", "{}"),
        "enforced"
    );
    stage
        .superuser()
        .ok("SELECT tenancy.unprotect_table('shut.items')");
}

#[test]
fn a_row_cannot_move_to_the_partition_of_another_tenant() {
    let stage = Stage::new();
    stage.owner().ok(&format!(
        "CREATE TABLE app.events (id int, tenant_id uuid NOT NULL) PARTITION BY LIST (tenant_id);
         CREATE TABLE app.events_a PARTITION OF app.events FOR VALUES IN ('{A}');
         CREATE TABLE app.events_rest PARTITION OF app.events DEFAULT;
         INSERT INTO app.events VALUES (1, '{A}'), (2, '{B}')"
    ));
    stage.protect("app.events", r#"{"force": false}"#);
    let attempt = format!("UPDATE app.events SET tenant_id = '{B}' WHERE id = 1");
    expect_error(
        &stage.superuser().error(&attempt),
        "23514",
        "another tenant",
    );
    expect_error(&stage.owner().error(&attempt), "23514", "another tenant");
    let mut b = stage.tenant(B);
    b.ok("SET plan_cache_mode = force_generic_plan");
    let plan = plan_of(&mut b, "SELECT * FROM app.events");
    assert!(
        !plan.contains("events_a") || plan.contains("Subplans Removed"),
        "pruned: {plan}"
    );
}

#[test]
fn the_indexes_of_partitions_outlive_the_one_that_adopted_them() {
    let stage = Stage::new();
    stage.owner().ok(
        "CREATE TABLE app.events (id int, tenant_id uuid) PARTITION BY RANGE (id);
         CREATE TABLE app.events_1 PARTITION OF app.events FOR VALUES FROM (1) TO (10);
         CREATE TABLE app.events_2 PARTITION OF app.events FOR VALUES FROM (10) TO (20);
         CREATE INDEX by_tenant ON app.events_1 (tenant_id)",
    );
    let before = stage.dump();
    stage.protect("app.events", "{}");
    stage.protect("app.events", "{}");
    stage.owner().ok("SELECT tenancy.set_mode('app.events', 'permissive'); SELECT tenancy.set_mode('app.events', 'enforce')");
    stage
        .owner()
        .ok("SELECT tenancy.unprotect_table('app.events')");
    assert_eq!(stage.dump(), before);
}

/// The mode of the call, or its default, is what counts; nobody loses enforcement without hearing of it.
#[test]
fn leaving_enforcement_by_protecting_again_is_told() {
    let stage = Stage::new();
    stage.items();
    stage.protect("app.items", "{}");
    let told = |sql: &str| stage.database.psql_told(&stage.owner, sql);
    for again in [
        "SELECT tenancy.protect_table('app.items')",
        "SELECT tenancy.protect_schema('app')",
    ] {
        let said = told(again);
        assert!(
            said.contains("WARNING:  table app.items is not enforced any more"),
            "{said}"
        );
        let said = told("SELECT tenancy.set_mode('app.items', 'enforce', force => true)");
        assert!(!said.contains("WARNING"), "{said}");
    }
    let said = told("SELECT tenancy.set_mode('app.items', 'permissive')");
    assert!(!said.contains("WARNING"), "{said}");
}

/// What was decided before the table was locked is decided again after.
#[test]
fn a_table_that_changes_hands_meanwhile_is_left_to_its_new_owner() {
    for call in [
        "SELECT tenancy.unprotect_table('app.items')",
        "SELECT tenancy.protect_table('app.items', mode => 'enforce', options => '{\"force\": false}')",
    ] {
        let stage = Stage::new();
        stage.items();
        stage.protect("app.items", "{}");
        let heir = stage.database.role("heir");
        let mut hands_over = stage.superuser();
        hands_over.ok(&format!(
            "GRANT ALL ON SCHEMA app TO {heir}; BEGIN; ALTER TABLE app.items OWNER TO {heir}"
        ));
        let before = stage.superuser().int("SELECT count(*) FROM pg_policy");
        let mut owner = stage.owner();
        let process = owner.int("SELECT pg_backend_pid()");
        let error = std::thread::scope(|scope| {
            let waits = scope.spawn(|| owner.error(call));
            stage
                .superuser()
                .see_waiting(process, "wait_event_type = 'Lock'");
            hands_over.ok("COMMIT");
            waits.join().expect("an error")
        });
        expect_error(&error, "42501", "must be owner");
        let forced =
            "SELECT relforcerowsecurity::text FROM pg_class WHERE oid = 'app.items'::regclass";
        assert_eq!(stage.superuser().text(forced).as_deref(), Some("true"));
        let after = stage.superuser().int("SELECT count(*) FROM pg_policy");
        assert_eq!(after, before, "{call}");
    }
}

/// Runs it as the owner while another session, which has `items` enforced, ends.
fn while_it_is_enforced(stage: &Stage, sql: &str) {
    let mut switches = stage.owner();
    switches.ok("BEGIN; SELECT tenancy.set_mode('app.items', 'enforce')");
    let mut owner = stage.owner();
    let process = owner.int("SELECT pg_backend_pid()");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| owner.ok(sql));
        stage
            .superuser()
            .see_waiting(process, "wait_event_type = 'Lock'");
        switches.ok("COMMIT");
        waits.join().expect("no error");
    });
}

#[test]
fn a_mode_that_changes_meanwhile_is_undone_as_it_is() {
    let stage = Stage::new();
    stage.items();
    let before = stage.dump();
    let permissive = "SELECT tenancy.protect_table('app.items', mode => 'permissive')";
    stage.owner().ok(permissive);
    while_it_is_enforced(&stage, "SELECT tenancy.unprotect_table('app.items')");
    assert_eq!(stage.dump(), before);
    for leave in [
        "SELECT tenancy.set_mode('app.items', 'permissive')",
        permissive,
    ] {
        stage.owner().ok(permissive);
        while_it_is_enforced(&stage, leave);
        assert_eq!(stage.nobody().int(COUNT), 3, "{leave}");
        let policies = "SELECT count(*) FROM pg_policy";
        assert_eq!(stage.superuser().int(policies), 0, "{leave}");
        stage.protect("app.items", "{}");
        stage
            .owner()
            .ok("SELECT tenancy.unprotect_table('app.items')");
        assert_eq!(stage.dump(), before, "{leave}");
    }
}

/// NOT NULL was made here, and a key of later needs it.
#[test]
fn unprotecting_leaves_what_a_primary_key_of_later_needs() {
    let stage = Stage::new();
    stage.items();
    stage.protect("app.items", "{}");
    stage.owner().ok(
        "ALTER TABLE app.items DROP CONSTRAINT items_pkey, ADD PRIMARY KEY (tenant_id, id);
         SELECT tenancy.unprotect_table('app.items')",
    );
    let key = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'app.items'::regclass AND contype = 'p'";
    assert_eq!(
        stage.superuser().text(key).as_deref(),
        Some("PRIMARY KEY (tenant_id, id)")
    );
    assert_eq!(stage.nobody().int("SELECT count(*) FROM app.items"), 3);
}

#[test]
fn side_effects_are_listed_once() {
    use std::sync::{Arc, Mutex};
    let stage = Stage::new();
    stage.items();
    stage.owner().ok("CREATE TABLE app.others (tenant_id uuid)");
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = Arc::clone(&heard);
    let mut config = stage
        .database
        .server()
        .config(&stage.database.name, &stage.owner);
    config.notice_callback(move |notice| {
        sink.lock()
            .unwrap()
            .push(notice.detail().unwrap_or_default().to_owned());
    });
    let mut owner = config.connect(postgres::NoTls).unwrap();
    owner.ok("SELECT tenancy.protect_schema('app', mode => 'enforce')");
    owner.ok("SELECT tenancy.protect_schema('app', mode => 'enforce')");
    let heard = heard.lock().unwrap();
    assert_eq!(
        heard
            .iter()
            .filter(|text| text.contains("COPY FROM"))
            .count(),
        1,
        "{heard:?}"
    );
}

#[test]
fn many_foreign_keys_make_one_short_line_a_table() {
    let stage = Stage::new();
    stage.items();
    let links: String = (1..=6)
        .map(|i| format!(", link_{i} int REFERENCES app.items"))
        .collect();
    stage
        .owner()
        .ok(&format!("CREATE TABLE app.lines (tenant_id uuid{links})"));
    for state in ["enforced", "enforced (unchanged)"] {
        let rows = stage.owner().rows(
            "SELECT relation::text, result FROM tenancy.protect_schema('app', mode => 'enforce') ORDER BY 1",
        );
        assert_eq!(rows.len(), 2, "{rows:?}");
        assert_eq!(
            rows[1][1],
            Some(format!(
                "{state}; 6 foreign keys do not carry the tenant (options foreign_keys: add or replace; see docs/policies.md): \
                 lines_link_1_fkey, lines_link_2_fkey, lines_link_3_fkey and 3 more"
            ))
        );
    }
}

#[test]
fn protecting_a_schema_again_is_cheap_and_linear() {
    let count = |tables: i64| {
        let stage = Stage::new();
        let mut owner = stage.owner();
        owner.ok(&format!(
            "DO $$ BEGIN FOR i IN 1..{tables} LOOP
               EXECUTE format('CREATE TABLE app.t%s (id int PRIMARY KEY, tenant_id uuid, up int REFERENCES app.t%s)', i, greatest(i - 1, 1));
             END LOOP; END $$"
        ));
        let call = "SELECT count(*) FILTER (WHERE result LIKE 'enforced%') FROM tenancy.protect_schema('app', mode => 'enforce')";
        // Catalog rows read, which do not depend on how busy the machine is.
        let mut reads = || {
            owner.ok("BEGIN");
            assert_eq!(owner.int(call), tables);
            let read = owner.int(
                "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_xact_sys_tables",
            );
            owner.ok("COMMIT");
            read
        };
        (reads(), reads())
    };
    let (_, few) = count(150);
    let (first, many) = count(300);
    assert!(many < first, "unchanged {many}, the first time {first}");
    // Twice as many tables: what grows with their square would read four times as much.
    assert!(
        few > 0 && many < few * 3,
        "150 tables {few}, 300 tables {many}"
    );
}
