//! `tenancy.drift()` and `tenancy.repair()`: every difference is made, seen, mended, and isolation is
//! seen again through the application's role.

mod policy_support;

use pgrx_test::fixture::{ClientExt, Database, expect_error};
use policy_support::{A, B, Stage, dump};

const OPTIONS: &str = r#"{"set_default": true}"#;

/// Protected `app.items`.
fn stage() -> Stage {
    let stage = Stage::new();
    stage.items();
    stage.protect("app.items", OPTIONS);
    assert_eq!(codes(&stage), Vec::<String>::new());
    stage
}

/// What drift() says to somebody without any rights, and that the view agrees with it.
#[track_caller]
fn codes(stage: &Stage) -> Vec<String> {
    let mut nobody = stage.nobody();
    let rows =
        nobody.rows("SELECT code, relation::oid, remediation FROM tenancy.drift() ORDER BY code");
    assert!(rows.iter().all(|row| row[2].is_some()), "{rows:?}");
    let odd = nobody.rows(
        "SELECT p.relation, p.drift, d.code FROM tenancy.protected_tables p
         FULL JOIN (SELECT * FROM tenancy.drift() WHERE code NOT IN ('table_dropped', 'partition_unprotected', 'table_unprotected', 'auto_protect_off')) d USING (relation)
         WHERE (p.drift IS NULL) <> (d.code IS NULL) AND NOT coalesce(p.drift LIKE '%is below%', false)",
    );
    assert!(odd.is_empty(), "the view says otherwise: {odd:?}");
    rows.into_iter()
        .filter_map(|mut row| row.remove(0))
        .collect()
}

/// Repairs as the owner and returns what was said.
#[track_caller]
fn repair(stage: &Stage) -> Vec<Vec<Option<String>>> {
    stage
        .owner()
        .rows("SELECT relation, statement, result FROM tenancy.repair()")
}

/// Two rows of A and one of B, each seen by its tenant alone, and all that protection promises.
#[track_caller]
fn assert_isolated(stage: &Stage, table: &str) {
    let count = format!("SELECT count(*) FROM {table}");
    assert_eq!(stage.tenant(A).int(&count), 2);
    assert_eq!(stage.tenant(B).int(&count), 1);
    expect_error(&stage.nobody().error(&count), "42501", "tenant");
    expect_error(&stage.owner().error(&count), "42501", "tenant");
    let mut b = stage.tenant(B);
    expect_error(
        &b.error(&format!(
            "INSERT INTO {table} (id, tenant_id) VALUES (9, '{A}')"
        )),
        "42501",
        "row-level security",
    );
    assert_eq!(
        b.rows(&format!(
            "UPDATE {table} SET note = 'x' WHERE id = 1 RETURNING 1"
        ))
        .len(),
        0
    );
    assert_eq!(
        b.rows(&format!("DELETE FROM {table} WHERE id = 1 RETURNING 1"))
            .len(),
        0
    );
    b.ok(&format!(
        "BEGIN; INSERT INTO {table} (id) VALUES (10); ROLLBACK"
    ));
    let moving = format!("UPDATE {table} SET tenant_id = '{B}'");
    expect_error(&stage.superuser().error(&moving), "23514", "another tenant");
    let nowhere = format!("INSERT INTO {table} (id, tenant_id) VALUES (9, NULL)");
    expect_error(&stage.superuser().error(&nowhere), "23502", "tenant_id");
}

#[test]
fn what_is_edited_by_hand_is_seen_and_mended() {
    let copy = |wanted: &str| {
        format!(
            "CREATE OR REPLACE TRIGGER items_tenant_immutable AFTER UPDATE ON app.items FOR EACH ROW WHEN ({wanted}) EXECUTE FUNCTION tenancy.tenant_column_immutable()"
        )
    };
    for (code, edit) in [
        (
            "policy_missing",
            "DROP POLICY items_tenant_isolation_select ON app.items",
        ),
        (
            "policy_missing",
            "DROP POLICY items_tenant_isolation_insert ON app.items",
        ),
        (
            "policy_missing",
            "DROP POLICY items_tenant_isolation_update ON app.items",
        ),
        (
            "policy_missing",
            "DROP POLICY items_tenant_isolation_delete ON app.items",
        ),
        (
            "policy_missing",
            "DROP POLICY items_tenant_access ON app.items",
        ),
        (
            "policy_altered",
            "ALTER POLICY items_tenant_isolation_select ON app.items USING (true)",
        ),
        (
            "policy_altered",
            "ALTER POLICY items_tenant_isolation_update ON app.items WITH CHECK (true)",
        ),
        (
            "policy_altered",
            "ALTER POLICY items_tenant_isolation_delete ON app.items TO CURRENT_USER",
        ),
        (
            "policy_altered",
            "ALTER POLICY items_tenant_access ON app.items USING (tenant_id = tenancy.current_tenant_id_required() OR note = 'a1')",
        ),
        (
            "policy_altered",
            "DROP POLICY items_tenant_isolation_select ON app.items; CREATE POLICY items_tenant_isolation_select ON app.items FOR SELECT USING (tenant_id = tenancy.current_tenant_id_required())",
        ),
        (
            "policy_added",
            "CREATE POLICY later ON app.items USING (true)",
        ),
        (
            "policy_added",
            "CREATE POLICY later ON app.items FOR SELECT USING (true)",
        ),
        (
            "row_security_off",
            "ALTER TABLE app.items DISABLE ROW LEVEL SECURITY",
        ),
        (
            "row_security_not_forced",
            "ALTER TABLE app.items NO FORCE ROW LEVEL SECURITY",
        ),
        (
            "trigger_missing",
            "DROP TRIGGER items_tenant_immutable ON app.items",
        ),
        (
            "trigger_disabled",
            "ALTER TABLE app.items DISABLE TRIGGER items_tenant_immutable",
        ),
        (
            "trigger_disabled",
            "ALTER TABLE app.items ENABLE REPLICA TRIGGER items_tenant_immutable",
        ),
        ("trigger_altered", &copy("false")),
        ("trigger_altered", &copy("OLD.id IS DISTINCT FROM NEW.id")),
        (
            "trigger_altered",
            &copy("OLD.tenant_id IS DISTINCT FROM NEW.tenant_id")
                .replace("UPDATE ON", "UPDATE OF id ON"),
        ),
        ("index_missing", "DROP INDEX app.items_tenant_idx"),
        (
            "column_nullable",
            "ALTER TABLE app.items ALTER tenant_id DROP NOT NULL",
        ),
        (
            "default_changed",
            "ALTER TABLE app.items ALTER tenant_id DROP DEFAULT",
        ),
        (
            "default_changed",
            "ALTER TABLE app.items ALTER tenant_id SET DEFAULT gen_random_uuid()",
        ),
    ] {
        let stage = stage();
        stage.owner().ok(edit);
        assert!(
            codes(&stage).iter().all(|seen| seen == code) && !codes(&stage).is_empty(),
            "{edit}: {:?}",
            codes(&stage)
        );
        let done = repair(&stage);
        assert!(
            done.iter()
                .all(|row| row[1].is_some() && row[2].as_deref() == Some("done")),
            "{edit}: {done:?}"
        );
        assert_eq!(codes(&stage), Vec::<String>::new(), "{edit}");
        assert_isolated(&stage, "app.items");
        assert!(repair(&stage).is_empty(), "{edit}");
        let users = "SELECT count(*) FROM pg_policy WHERE polname = 'later'";
        assert_eq!(
            stage.superuser().int(users),
            i64::from(code == "policy_added"),
            "{edit}"
        );
    }
}

#[test]
fn an_index_that_is_not_valid_is_made_again() {
    let stage = stage();
    stage.superuser().ok("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'app.items_tenant_idx'::regclass");
    assert_eq!(codes(&stage), ["index_invalid"]);
    stage.owner().ok("SELECT tenancy.repair('app.items')");
    assert_eq!(codes(&stage), Vec::<String>::new());
    assert_isolated(&stage, "app.items");
}

#[test]
fn all_at_once_is_mended_at_once() {
    let stage = stage();
    stage.owner().ok(
        "ALTER TABLE app.items DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY;
         DROP POLICY items_tenant_isolation_select ON app.items; ALTER POLICY items_tenant_isolation_delete ON app.items USING (true);
         DROP TRIGGER items_tenant_immutable ON app.items; DROP INDEX app.items_tenant_idx;
         ALTER TABLE app.items ALTER tenant_id DROP NOT NULL, ALTER tenant_id DROP DEFAULT",
    );
    assert_eq!(codes(&stage).len(), 8);
    assert_eq!(
        stage.tenant(B).int("SELECT count(*) FROM app.items"),
        3,
        "open"
    );
    repair(&stage);
    assert_eq!(codes(&stage), Vec::<String>::new());
    assert_isolated(&stage, "app.items");
}

#[test]
fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let stage = stage();
    stage.owner().ok(
        "DROP POLICY items_tenant_isolation_select ON app.items; ALTER TABLE app.items DISABLE ROW LEVEL SECURITY;
         ALTER TABLE app.items DISABLE TRIGGER items_tenant_immutable; DROP INDEX app.items_tenant_idx",
    );
    let before = stage.dump();
    // Not even a lock: somebody is reading.
    let mut reader = stage.superuser();
    reader.ok("BEGIN; SELECT * FROM app.items");
    let mut owner = stage.owner();
    owner.ok("SET lock_timeout = '5s'");
    let rows =
        owner.rows("SELECT statement, result FROM tenancy.repair('app.items', dry_run => true)");
    reader.ok("COMMIT");
    assert!(
        rows.iter().all(|row| row[1].as_deref() == Some("planned")),
        "{rows:?}"
    );
    assert_eq!(stage.dump(), before);
    for row in rows {
        owner.ok(row[0].as_deref().expect("a statement"));
    }
    assert_eq!(
        codes(&stage),
        Vec::<String>::new(),
        "the statements are those that mend it"
    );
    assert_isolated(&stage, "app.items");
}

#[test]
fn a_renamed_table_and_column_are_followed() {
    let stage = stage();
    stage.owner().ok(
        "ALTER TABLE app.items RENAME TO things; ALTER TABLE app.things RENAME tenant_id TO org",
    );
    assert_eq!(codes(&stage), ["column_renamed", "table_renamed"]);
    repair(&stage);
    assert_eq!(codes(&stage), Vec::<String>::new());
    stage
        .owner()
        .ok("ALTER TABLE app.things RENAME org TO tenant_id");
    assert_eq!(codes(&stage), ["column_renamed"]);
    let done = repair(&stage);
    assert_eq!(
        done[0][2].as_deref(),
        Some("done: the registration follows")
    );
    assert_eq!(codes(&stage), Vec::<String>::new());
    assert_isolated(&stage, "app.things");
}

#[test]
fn a_table_that_is_gone_is_forgotten() {
    let stage = stage();
    stage.owner().ok("DROP TABLE app.items");
    assert_eq!(codes(&stage), ["table_dropped"]);
    let stranger = stage.database.role("stranger");
    let rows = stage
        .database
        .connect(&stranger)
        .rows("SELECT result FROM tenancy.repair()");
    assert!(
        rows[0][0].as_deref().unwrap().starts_with("not repaired"),
        "{rows:?}"
    );
    assert_eq!(codes(&stage), ["table_dropped"]);
    repair(&stage);
    assert_eq!(codes(&stage), Vec::<String>::new());
    assert_eq!(
        stage
            .superuser()
            .int("SELECT count(*) FROM tenancy.protection"),
        0
    );
}

#[test]
fn what_takes_a_decision_is_left_with_the_statement_that_mends_it() {
    // Another owner.
    let stage = stage();
    stage
        .superuser()
        .ok(&format!("ALTER TABLE app.items OWNER TO {}", stage.app));
    assert_eq!(codes(&stage), ["owner_changed"]);
    stage
        .superuser()
        .ok("ALTER TABLE app.items DISABLE ROW LEVEL SECURITY");
    let rows = stage
        .superuser()
        .rows("SELECT statement, result FROM tenancy.repair('app.items')");
    assert!(
        rows.iter().any(|row| row[1]
            .as_deref()
            .is_some_and(|text| text.starts_with("not repaired"))),
        "{rows:?}"
    );
    assert_eq!(
        codes(&stage),
        ["owner_changed"],
        "a repair does not accept it"
    );
    let sql = stage
        .superuser()
        .text("SELECT remediation FROM tenancy.drift()")
        .unwrap();
    stage.superuser().ok(&sql);
    stage
        .superuser()
        .ok(&format!("GRANT ALL ON app.items TO {}", stage.app));
    assert_eq!(codes(&stage), Vec::<String>::new());
    assert_isolated(&stage, "app.items");
    // Accepted by protecting again.
    let heir = stage.database.role("heir");
    stage
        .superuser()
        .ok(&format!("ALTER TABLE app.items OWNER TO {heir}"));
    stage.superuser().ok(&format!(
        "SELECT tenancy.protect_table('app.items', mode => 'enforce', options => '{OPTIONS}')"
    ));
    assert_eq!(codes(&stage), Vec::<String>::new());
}

#[test]
fn a_column_of_another_type_or_none_is_left_with_the_statement() {
    let stage = stage();
    let drop_policies = "DO $$ DECLARE p name; BEGIN FOR p IN SELECT polname FROM pg_policy WHERE polrelid = 'app.items'::regclass
         LOOP EXECUTE format('DROP POLICY %I ON app.items', p); END LOOP; END $$;
         DROP TRIGGER items_tenant_immutable ON app.items; ALTER TABLE app.items ALTER tenant_id DROP DEFAULT;";
    stage.owner().ok(drop_policies);
    stage
        .owner()
        .ok("ALTER TABLE app.items ALTER tenant_id TYPE text");
    assert_eq!(codes(&stage), ["column_type"]);
    let rows = repair(&stage);
    assert!(
        rows[0][2].as_deref().unwrap().starts_with("not repaired"),
        "{rows:?}"
    );
    let sql = stage
        .superuser()
        .text("SELECT remediation FROM tenancy.drift()")
        .unwrap();
    stage.superuser().ok(&sql);
    repair(&stage);
    assert_eq!(codes(&stage), Vec::<String>::new());
    assert_isolated(&stage, "app.items");

    stage.owner().ok(drop_policies);
    stage.owner().ok("ALTER TABLE app.items DROP tenant_id");
    assert_eq!(codes(&stage), ["column_missing"]);
    assert!(
        repair(&stage)[0][2]
            .as_deref()
            .unwrap()
            .starts_with("not repaired")
    );
    let sql = stage
        .superuser()
        .text("SELECT remediation FROM tenancy.drift()")
        .unwrap();
    stage.superuser().ok(&sql);
    assert_eq!(
        codes(&stage),
        ["column_missing"],
        "another column under the name"
    );
    stage.superuser().ok(&format!(
        "UPDATE app.items SET tenant_id = CASE WHEN id < 3 THEN '{A}'::uuid ELSE '{B}' END"
    ));
    let sql = stage
        .superuser()
        .text("SELECT remediation FROM tenancy.drift()")
        .unwrap();
    stage.superuser().ok(&sql);
    stage.protect("app.items", OPTIONS);
    assert_eq!(codes(&stage), Vec::<String>::new());
    assert_isolated(&stage, "app.items");
}

#[test]
fn repairing_keys_takes_nobody_elses_and_checks_no_large_table_in_place() {
    let stage = Stage::new();
    stage.items();
    let mut owner = stage.owner();
    owner.ok("CREATE TABLE app.lines (id int, tenant_id uuid, item int REFERENCES app.items ON DELETE CASCADE);
         CREATE TABLE app.others (id int PRIMARY KEY)");
    for table in ["app.items", "app.lines"] {
        stage.protect(table, r#"{"foreign_keys": "replace"}"#);
    }
    let keys = "SELECT string_agg(conname || ' ' || pg_get_constraintdef(oid), E'\n' ORDER BY conname) FROM pg_constraint
                WHERE conrelid = 'app.lines'::regclass AND contype = 'f'";
    let whole = stage.superuser().text(keys);
    // Adding a key reads the table as its owner, whom policies bind.
    stage.role_as(&stage.owner, A).ok(
        "ALTER TABLE app.lines DROP CONSTRAINT lines_item_fkey_tenant,
             ADD CONSTRAINT lines_item_fkey_tenant FOREIGN KEY (item) REFERENCES app.others",
    );
    let theirs = stage.superuser().text(keys);
    repair(&stage);
    assert_eq!(stage.superuser().text(keys), theirs);
    assert_eq!(codes(&stage), ["key_missing"]);
    owner.ok(
        "ALTER TABLE app.lines DROP CONSTRAINT lines_item_fkey_tenant;
         SET pg_tenancy.inline_ddl_rows = 0",
    );
    stage.tenant(A).ok(&format!(
        "INSERT INTO app.lines SELECT i, '{A}', 1 FROM generate_series(1, 10) i"
    ));
    let rows = owner.rows("SELECT relation, statement, result FROM tenancy.repair()");
    assert_eq!(stage.superuser().text(keys), None, "{rows:?}");
    let by_hand: Vec<&str> = rows
        .iter()
        .filter_map(|row| row[1].as_deref())
        .filter(|sql| sql.contains("CONSTRAINT"))
        .collect();
    assert_eq!(by_hand.len(), 2, "{rows:?}");
    assert!(by_hand[0].ends_with("NOT VALID"), "{rows:?}");
    // Policies would pass over rows.
    for sql in by_hand {
        stage.superuser().ok(sql);
    }
    owner.ok("RESET pg_tenancy.inline_ddl_rows");
    repair(&stage);
    assert_eq!(codes(&stage), Vec::<String>::new());
    assert_eq!(stage.superuser().text(keys), whole);
}

#[test]
fn keys_that_carry_the_tenant_come_back() {
    for option in ["add", "replace"] {
        let stage = Stage::new();
        stage.items();
        stage.owner().ok("CREATE TABLE app.lines (id int, tenant_id uuid, item int REFERENCES app.items ON DELETE CASCADE)");
        for table in ["app.items", "app.lines"] {
            stage.protect(table, &format!(r#"{{"foreign_keys": "{option}"}}"#));
        }
        assert_eq!(codes(&stage), Vec::<String>::new());
        let keys = "SELECT string_agg(conname || ' ' || pg_get_constraintdef(oid), E'\\n' ORDER BY conrelid, conname) FROM pg_constraint
                    WHERE conrelid IN ('app.items'::regclass, 'app.lines'::regclass)";
        let before = stage.superuser().text(keys);
        let not_enforced = match stage.database.server().version {
            18.. => "ALTER TABLE app.lines ALTER CONSTRAINT lines_item_fkey_tenant NOT ENFORCED",
            _ => "ALTER TABLE app.lines DROP CONSTRAINT lines_item_fkey_tenant",
        };
        for edit in [
            not_enforced,
            "ALTER TABLE app.lines DROP CONSTRAINT lines_item_fkey_tenant",
            // Of that name, and without the tenant.
            "ALTER TABLE app.lines DROP CONSTRAINT lines_item_fkey_tenant, ADD CONSTRAINT lines_item_fkey_tenant FOREIGN KEY (item) REFERENCES app.items",
            "ALTER TABLE app.lines DROP CONSTRAINT lines_item_fkey_tenant; ALTER TABLE app.items DROP CONSTRAINT items_id_tenant_key",
        ] {
            stage.role_as(&stage.owner, A).ok(edit);
            assert!(
                codes(&stage).iter().all(|code| code == "key_missing") && !codes(&stage).is_empty()
            );
            repair(&stage);
            assert_eq!(codes(&stage), Vec::<String>::new(), "{option}, {edit}");
            assert_eq!(stage.superuser().text(keys), before, "{option}, {edit}");
            let crossing = format!("INSERT INTO app.lines VALUES (1, '{B}', 1)");
            expect_error(
                &stage.tenant(B).error(&crossing),
                "23503",
                "lines_item_fkey_tenant",
            );
        }
        // Rows that crossed meanwhile are found, not passed over.
        stage
            .owner()
            .ok("ALTER TABLE app.lines DROP CONSTRAINT lines_item_fkey_tenant");
        stage
            .tenant(B)
            .ok(&format!("INSERT INTO app.lines VALUES (1, '{B}', 1)"));
        let rows = repair(&stage);
        assert!(
            rows.iter().any(|row| row[2]
                .as_deref()
                .is_some_and(|text| text.contains("1 rows"))),
            "{rows:?}"
        );
        stage.superuser().ok("DELETE FROM app.lines");
        repair(&stage);
        assert_eq!(stage.superuser().text(keys), before);
    }
}

#[test]
fn partitions_and_children_without_protection_are_seen_and_mended() {
    let stage = Stage::new();
    stage.owner().ok(
        "CREATE TABLE app.events (id int, tenant_id uuid, note text) PARTITION BY RANGE (id);
         CREATE TABLE app.events_1 PARTITION OF app.events FOR VALUES FROM (1) TO (10);
         CREATE TABLE app.base (id int, tenant_id uuid, note text)",
    );
    for table in ["app.events", "app.base"] {
        stage.protect(table, OPTIONS);
    }
    stage.owner().ok(
        "CREATE TABLE app.late (id int, tenant_id uuid NOT NULL, note text) PARTITION BY HASH (id);
         CREATE TABLE app.late_0 PARTITION OF app.late FOR VALUES WITH (MODULUS 1, REMAINDER 0);
         ALTER TABLE app.events ATTACH PARTITION app.late FOR VALUES FROM (10) TO (20);
         CREATE TABLE app.child () INHERITS (app.base)",
    );
    for (table, from) in [("app.late", 10), ("app.child", 1)] {
        stage.superuser().ok(&format!(
            "INSERT INTO {table} VALUES ({from}, '{A}'), ({from} + 1, '{A}'), ({from} + 2, '{B}')"
        ));
        assert_eq!(
            stage
                .tenant(B)
                .int(&format!("SELECT count(*) FROM {table}")),
            3,
            "open"
        );
    }
    assert_eq!(codes(&stage), ["partition_unprotected"; 3]);
    repair(&stage);
    assert_eq!(codes(&stage), Vec::<String>::new());
    let count = "SELECT count(*) FROM";
    for table in [
        "app.events",
        "app.late",
        "app.late_0",
        "app.base",
        "app.child",
    ] {
        assert_eq!(
            stage.tenant(A).int(&format!("{count} {table}")),
            2,
            "{table}"
        );
        assert_eq!(
            stage.tenant(B).int(&format!("{count} {table}")),
            1,
            "{table}"
        );
        expect_error(
            &stage
                .superuser()
                .error(&format!("UPDATE {table} SET tenant_id = '{B}'")),
            "23514",
            "another tenant",
        );
    }
    // One partition by itself.
    for (code, edit) in [
        (
            "row_security_off",
            "ALTER TABLE app.events_1 DISABLE ROW LEVEL SECURITY",
        ),
        (
            "policy_missing",
            "DROP POLICY events_1_tenant_isolation_select ON app.events_1",
        ),
        (
            "trigger_disabled",
            "ALTER TABLE app.events_1 DISABLE TRIGGER events_tenant_immutable",
        ),
    ] {
        stage.owner().ok(edit);
        assert_eq!(codes(&stage), [code]);
        repair(&stage);
        assert_eq!(codes(&stage), Vec::<String>::new(), "{edit}");
    }
    // Detached, it has lost the clone of the trigger.
    stage
        .owner()
        .ok("ALTER TABLE app.events DETACH PARTITION app.events_1");
    assert_eq!(codes(&stage), ["trigger_missing"]);
    stage
        .owner()
        .ok("SELECT tenancy.repair('app.events_1'); SELECT tenancy.unprotect_table('app.events')");
    assert_eq!(codes(&stage), Vec::<String>::new());
    assert_eq!(stage.superuser().int("SELECT count(*) FROM tenancy.protected_tables WHERE relation = 'app.events_1'::regclass"), 1);
}

#[test]
fn automatic_protection_that_was_circumvented_is_seen_and_mended() {
    let stage = Stage::new();
    stage.owner().ok("SELECT tenancy.auto_protect('app', mode => 'enforce', exclude => '{open}', options => '{\"set_default\": true}')");
    stage
        .superuser()
        .ok("ALTER EVENT TRIGGER pg_tenancy_auto_protect DISABLE");
    stage.items();
    stage
        .owner()
        .ok("CREATE TABLE app.open (tenant_id uuid); CREATE TABLE app.codes (code text)");
    assert_eq!(codes(&stage), ["auto_protect_off", "table_unprotected"]);
    let rows = repair(&stage);
    assert!(
        rows.iter().any(|row| row[2]
            .as_deref()
            .is_some_and(|text| text.contains("administrator"))),
        "{rows:?}"
    );
    assert_eq!(codes(&stage), ["auto_protect_off"]);
    stage.superuser().ok("SELECT tenancy.repair()");
    assert_eq!(codes(&stage), Vec::<String>::new());
    assert_isolated(&stage, "app.items");
    stage.owner().ok("CREATE TABLE app.later (tenant_id uuid)");
    assert_eq!(codes(&stage), Vec::<String>::new());
}

#[test]
fn nobody_waits_for_a_lock() {
    let stage = stage();
    stage
        .owner()
        .ok("CREATE TABLE app.edited (id int, tenant_id uuid)");
    stage.protect("app.edited", OPTIONS);
    stage
        .owner()
        .ok("ALTER POLICY edited_tenant_isolation_select ON app.edited USING (true)");
    let mut holder = stage.owner();
    holder.ok("BEGIN; LOCK TABLE app.items, app.edited IN ACCESS EXCLUSIVE MODE");
    let mut nobody = stage.nobody();
    nobody.ok("SET lock_timeout = '5s'");
    let all = "SELECT code || ' ' || relation FROM tenancy.drift()";
    assert_eq!(nobody.rows(all), [[Some("locked app.edited".to_owned())]]);
    let agrees =
        "SELECT agrees FROM tenancy.protected_tables WHERE relation = 'app.items'::regclass";
    assert_eq!(
        nobody.text(agrees).as_deref(),
        Some("t"),
        "untouched, so known without opening it"
    );
    nobody.ok("SELECT * FROM tenancy.protected_tables");
    holder.ok("ROLLBACK");
    assert_eq!(
        nobody.rows(all),
        [[Some("policy_altered app.edited".to_owned())]]
    );
}

#[test]
fn a_restored_table_is_compared_by_what_it_says() {
    let stage = stage();
    let copy = Database::empty(stage.database.server());
    copy.psql("postgres", &dump(&stage.database, &[]));
    let mut session = copy.connect(&stage.app);
    let all = "SELECT code FROM tenancy.drift()";
    assert!(session.rows(all).is_empty());
    for (code, edit) in [
        (
            "policy_altered",
            "ALTER POLICY items_tenant_isolation_select ON app.items USING (true)",
        ),
        (
            "trigger_altered",
            "CREATE OR REPLACE TRIGGER items_tenant_immutable AFTER UPDATE ON app.items FOR EACH ROW WHEN (false) EXECUTE FUNCTION tenancy.tenant_column_immutable()",
        ),
        (
            "default_changed",
            "ALTER TABLE app.items ALTER tenant_id SET DEFAULT gen_random_uuid()",
        ),
    ] {
        let mut owner = copy.connect(&stage.owner);
        owner.ok(&format!("BEGIN; {edit}"));
        assert_eq!(owner.rows(all), [[Some(code.to_owned())]]);
        owner.ok("SELECT tenancy.repair('app.items')");
        assert!(owner.rows(all).is_empty(), "{code}");
        owner.ok("ROLLBACK");
    }
}

#[test]
fn who_may_not_administer_a_table_repairs_nothing() {
    let stage = stage();
    stage
        .owner()
        .ok("ALTER TABLE app.items DISABLE ROW LEVEL SECURITY");
    expect_error(
        &stage.nobody().error("SELECT tenancy.repair('app.items')"),
        "42501",
        "owner",
    );
    let rows = stage.nobody().rows("SELECT result FROM tenancy.repair()");
    assert!(
        rows[0][0].as_deref().unwrap().contains("must be owner"),
        "{rows:?}"
    );
    assert_eq!(codes(&stage), ["row_security_off"]);
    expect_error(
        &stage
            .owner()
            .error("SELECT tenancy.repair('tenancy.protection')"),
        "42704",
        "not protected",
    );
    // Each table by itself: one that fails stops no other.
    stage.superuser().ok(
        "CREATE TABLE app.other (id int, tenant_id uuid); SELECT tenancy.protect_table('app.other', mode => 'enforce');
         ALTER TABLE app.other DISABLE ROW LEVEL SECURITY",
    );
    let rows = repair(&stage);
    assert!(
        rows.iter().any(|row| row[2]
            .as_deref()
            .is_some_and(|text| text.contains("must be owner"))),
        "{rows:?}"
    );
    assert_eq!(codes(&stage), ["row_security_off"]);
    assert_isolated(&stage, "app.items");
}

#[test]
fn every_template_is_compared_and_mended() {
    let stage = Stage::unbound();
    stage.superuser().ok(&format!(
        "CREATE TABLE app.tenants (id uuid PRIMARY KEY, name text);
         CREATE TABLE app.members (user_id text, tenant_id uuid NOT NULL, role text);
         SELECT tenancy.bind(membership => 'app.members', membership_role => 'role', tenants => 'app.tenants', tenants_id => 'id', platform_tenant => '{A}')"
    ));
    let column = "id int PRIMARY KEY, tenant_id uuid, note text";
    stage.superuser().ok(&format!(
        "CREATE TABLE app.tenant ({column}); CREATE TABLE app.shared ({column}); CREATE TABLE app.admins ({column});
         CREATE TABLE app.self (id text, note text); CREATE TABLE app.global (id int, is_active boolean);
         CREATE TABLE app.child (id int, parent int NOT NULL REFERENCES app.tenant, note text)"
    ));
    for (table, template, column, options) in [
        ("tenant", "tenant", "tenant_id", "{}"),
        ("shared", "shared_read", "tenant_id", "{}"),
        ("admins", "tenant_read_admin_write", "tenant_id", "{}"),
        ("tenants", "own_tenant", "id", r#"{"admin_writes": true}"#),
        ("self", "self", "tenant_id", r#"{"super_admins": "read"}"#),
        ("members", "member_read", "tenant_id", "{}"),
        (
            "global",
            "global_read_admin_write",
            "tenant_id",
            r#"{"visible": "is_active"}"#,
        ),
        ("child", "child", "tenant_id", "{}"),
    ] {
        stage.superuser().ok(&format!(
            "SELECT tenancy.protect_table('app.{table}', '{template}', '{column}', 'enforce', '{options}')"
        ));
        let shown = |stage: &Stage| {
            stage.superuser().text(&format!(
            "SELECT string_agg(concat_ws(' ', polname, polcmd, polpermissive, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)), E'\\n' ORDER BY polname)
             FROM pg_policy WHERE polrelid = 'app.{table}'::regclass"
        ))
        };
        assert_eq!(codes(&stage), Vec::<String>::new(), "{template}");
        let before = shown(&stage);
        for command in ["select", "insert", "update", "delete"] {
            let policy = format!("{table}_tenant_isolation_{command}");
            let clause = if command == "insert" {
                "WITH CHECK"
            } else {
                "USING"
            };
            for edit in [
                format!("ALTER POLICY {policy} ON app.{table} {clause} (1 = 2)"),
                format!("DROP POLICY {policy} ON app.{table}"),
            ] {
                stage.superuser().ok(&edit);
                assert_eq!(codes(&stage).len(), 1, "{edit}");
                stage.superuser().ok("SELECT tenancy.repair()");
                assert_eq!(codes(&stage), Vec::<String>::new(), "{edit}");
                assert_eq!(shown(&stage), before, "{edit}");
            }
        }
    }
    // The key that a child hangs on.
    stage
        .superuser()
        .ok("ALTER TABLE app.child DROP CONSTRAINT child_parent_fkey");
    assert_eq!(codes(&stage), ["not_comparable"]);
    stage.superuser().ok("ALTER TABLE app.child ADD CONSTRAINT child_parent_fkey FOREIGN KEY (parent) REFERENCES app.tenant");
    assert_eq!(codes(&stage), Vec::<String>::new());
}

#[test]
fn permissive_tables_differ_in_nothing_but_their_names() {
    let stage = Stage::new();
    stage.items();
    stage
        .owner()
        .ok("SELECT tenancy.protect_table('app.items', mode => 'permissive')");
    assert_eq!(codes(&stage), Vec::<String>::new());
    stage.owner().ok("ALTER TABLE app.items RENAME TO things");
    assert_eq!(codes(&stage), ["table_renamed"]);
    repair(&stage);
    assert_eq!(codes(&stage), Vec::<String>::new());
}
