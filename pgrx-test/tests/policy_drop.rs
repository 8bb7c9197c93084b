//! Dump, restore and the end of the extension.

mod policy_support;

use std::process::Stdio;

use pgrx_test::fixture::{ClientExt, Database, expect_error};
use policy_support::{A, B, Stage, dump};

const COUNT: &str = "SELECT count(*) FROM app.items";

#[test]
fn dropping_is_refused_while_tables_are_protected() {
    let stage = Stage::new();
    stage.items();
    stage.protect("app.items", "{}");
    let error = stage.superuser().error("DROP EXTENSION pg_tenancy");
    expect_error(&error, "2BP01", "pg_tenancy");
    assert_eq!(stage.tenant(B).int(COUNT), 1);
    let closed = "SELECT count(*) FROM pg_policy WHERE polname LIKE '%_closed'";
    assert_eq!(stage.superuser().int(closed), 0);
}

#[test]
fn cascade_leaves_tables_closed_not_open() {
    for command in [
        "DROP EXTENSION pg_tenancy CASCADE",
        "DROP EXTENSION IF EXISTS pg_tenancy CASCADE",
        "DROP OWNED BY postgres CASCADE",
    ] {
        let stage = Stage::new();
        stage.items();
        stage
            .owner()
            .ok("CREATE TABLE app.shown (id int, tenant_id uuid);
             ALTER TABLE app.shown ENABLE ROW LEVEL SECURITY;
             CREATE POLICY mine ON app.shown USING (true)");
        stage
            .owner()
            .ok(&format!("INSERT INTO app.shown VALUES (1, '{A}')"));
        stage.protect("app.items", "{}");
        stage.protect("app.shown", r#"{"force": false}"#);
        assert_eq!(stage.tenant(A).int("SELECT count(*) FROM app.shown"), 1);
        if command.contains("OWNED") {
            // Postgres protects objects of the bootstrap superuser: give the extension away.
            let heir = stage.database.role("heir");
            stage
                .superuser()
                .ok(&format!("ALTER ROLE {heir} SUPERUSER"));
            stage.superuser().ok(&format!(
                "SET allow_system_table_mods = on; UPDATE pg_extension SET extowner = '{heir}'::regrole WHERE extname = 'pg_tenancy';
                 INSERT INTO pg_shdepend SELECT d.oid, 'pg_extension'::regclass, e.oid, 0, 'pg_authid'::regclass, e.extowner, 'o'
                 FROM pg_extension e, pg_database d WHERE extname = 'pg_tenancy' AND datname = current_database()"
            ));
            stage
                .superuser()
                .ok(&format!("DROP OWNED BY {heir} CASCADE"));
        } else {
            stage.superuser().ok(command);
        }
        let gone = "SELECT count(*) FROM pg_extension WHERE extname = 'pg_tenancy'";
        assert_eq!(stage.superuser().int(gone), 0, "{command}");
        for table in ["app.items", "app.shown"] {
            let sql = format!("SELECT count(*) FROM {table}");
            assert_eq!(stage.tenant(A).int(&sql), 0, "{command}: {table}");
            assert_eq!(stage.owner().int(&sql), 0, "{command}: {table}, the owner");
        }
        let error = stage
            .tenant(A)
            .error(&format!("INSERT INTO app.shown VALUES (2, '{A}')"));
        expect_error(&error, "42501", "row-level security");
    }
}

#[test]
fn dropping_the_schema_of_the_extension_closes_too() {
    let stage = Stage::unbound();
    stage.superuser().ok(
        "DROP EXTENSION pg_tenancy; CREATE SCHEMA ext; CREATE EXTENSION pg_tenancy SCHEMA ext;
         GRANT USAGE ON SCHEMA ext TO PUBLIC;
         SELECT tenancy.bind(tenant_type => 'uuid', tenant_setting => 'app.current_tenant_id')",
    );
    stage.items();
    stage.owner().ok(
        "ALTER TABLE app.items ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON app.items USING (true)",
    );
    stage.protect("app.items", r#"{"set_default": true}"#);
    assert_eq!(stage.tenant(B).int(COUNT), 1);
    stage.tenant(B).ok("INSERT INTO app.items (id) VALUES (50)");
    stage.superuser().ok("DROP SCHEMA ext CASCADE");
    assert_eq!(stage.tenant(B).int(COUNT), 0);
}

/// CASCADE takes what others own, the extension included, from whoever owns the schema.
#[test]
fn the_owner_of_the_schema_closes_too() {
    for (owns, command) in [
        (
            "ALTER DATABASE {database} OWNER TO {other}",
            "DROP SCHEMA public CASCADE",
        ),
        (
            "ALTER SCHEMA public OWNER TO {other}",
            "DROP SCHEMA public CASCADE",
        ),
        (
            "ALTER SCHEMA public OWNER TO {other}",
            "DROP OWNED BY CURRENT_USER CASCADE",
        ),
        (
            "ALTER SCHEMA public OWNER TO {other}",
            "DROP OWNED BY {other} CASCADE",
        ),
    ] {
        let stage = Stage::new();
        let other = stage.database.role("other");
        let filled = |sql: &str| {
            sql.replace("{other}", &other)
                .replace("{database}", &stage.database.name)
        };
        stage.items();
        stage.owner().ok(
            "ALTER TABLE app.items ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON app.items USING (true)",
        );
        stage.protect("app.items", "{}");
        assert_eq!(stage.tenant(B).int(COUNT), 1);
        stage.superuser().ok(&filled(owns));
        let mut session = if command.contains("{other}") {
            stage.superuser()
        } else {
            stage.database.connect(&other)
        };
        session.ok(&filled(command));
        let gone = "SELECT count(*) FROM pg_extension WHERE extname = 'pg_tenancy'";
        assert_eq!(stage.superuser().int(gone), 0, "{command}");
        assert_eq!(stage.tenant(B).int(COUNT), 0, "{owns}: {command}");
    }
}

/// The script of a migration file makes the same policies, and registers nothing.
#[test]
fn what_no_registration_knows_closes_too() {
    let stage = Stage::new();
    stage.items();
    stage.owner().ok(
        "ALTER TABLE app.items ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON app.items USING (true);
         CREATE TABLE app.plain (id int, tenant_id uuid); ALTER TABLE app.plain ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON app.plain USING (tenant_id = public.current_tenant_id())",
    );
    let script = "SELECT tenancy.policy_sql('app.items', mode => 'enforce')";
    let script = stage.owner().text(script).expect("a script");
    stage.owner().ok(&script);
    assert_eq!(stage.tenant(B).int(COUNT), 1);
    stage.superuser().ok("DROP EXTENSION pg_tenancy CASCADE");
    assert_eq!(stage.tenant(B).int(COUNT), 0);
    // Without its only permissive policy it shows nothing anyway.
    let closed = "SELECT string_agg(polrelid::regclass::text, ' ') FROM pg_policy WHERE polname LIKE '%_closed'";
    assert_eq!(stage.superuser().text(closed).as_deref(), Some("app.items"));
}

#[test]
fn a_closed_table_is_protected_again_after_a_new_installation() {
    let stage = Stage::new();
    stage.items();
    stage.protect("app.items", "{}");
    stage.superuser().ok(
        "DROP EXTENSION pg_tenancy CASCADE; CREATE EXTENSION pg_tenancy;
        SELECT tenancy.bind(tenant_type => 'uuid', tenant_setting => 'app.current_tenant_id')",
    );
    let before = stage.dump();
    stage.protect("app.items", "{}");
    assert_eq!(stage.tenant(B).int(COUNT), 1);
    stage
        .owner()
        .ok("SELECT tenancy.unprotect_table('app.items')");
    assert_eq!(stage.dump(), before, "closed, as it was found");
}

#[test]
fn who_may_not_drop_the_extension_changes_nothing_and_waits_for_nobody() {
    let stage = Stage::new();
    stage.items();
    stage.protect("app.items", "{}");
    let mut busy = stage.tenant(A);
    busy.ok("BEGIN; SELECT * FROM app.items");
    let mut nobody = stage.nobody();
    nobody.ok("SET lock_timeout = '1s'");
    expect_error(
        &nobody.error("DROP EXTENSION pg_tenancy CASCADE"),
        "42501",
        "must be owner",
    );
    nobody.ok("DROP OWNED BY CURRENT_USER CASCADE");
    busy.ok("COMMIT");
}

#[test]
fn other_commands_are_left_alone() {
    let stage = Stage::new();
    stage.items();
    stage.protect("app.items", "{}");
    let before = stage.dump();
    stage
        .superuser()
        .ok("CREATE SCHEMA other; CREATE TABLE other.t (a int);
         DROP SCHEMA other CASCADE; DROP EXTENSION IF EXISTS hstore CASCADE;
         DROP EXTENSION plpgsql CASCADE; CREATE EXTENSION plpgsql");
    let other = stage.database.role("other");
    stage.superuser().ok(&format!(
        "CREATE TABLE app.others (a int); ALTER TABLE app.others OWNER TO {other}; DROP OWNED BY {other} CASCADE"
    ));
    assert_eq!(stage.dump(), before);
}

#[test]
fn unprotected_and_dropped_leaves_no_trace() {
    let stage = Stage::unbound();
    stage.superuser().ok("DROP EXTENSION pg_tenancy");
    stage.items();
    stage.owner().ok("CREATE TABLE app.lines (id int, tenant_id uuid, item int REFERENCES app.items ON DELETE CASCADE)");
    let before = dump(&stage.database, &[]);
    stage.superuser().ok(
        "CREATE EXTENSION pg_tenancy; SELECT tenancy.bind(tenant_type => 'uuid', tenant_setting => 'app.current_tenant_id')",
    );
    for table in ["app.items", "app.lines"] {
        stage.protect(table, r#"{"set_default": true, "foreign_keys": "replace"}"#);
    }
    for table in ["app.items", "app.lines"] {
        stage
            .owner()
            .ok(&format!("SELECT tenancy.unprotect_table('{table}')"));
    }
    stage.superuser().ok("DROP EXTENSION pg_tenancy");
    assert_eq!(dump(&stage.database, &[]), before);
}

#[test]
fn a_dump_restores_registrations_and_policies() {
    let stage = Stage::new();
    stage.items();
    stage.owner().ok("CREATE TABLE app.lines (id int, tenant_id uuid, item int REFERENCES app.items ON DELETE SET NULL);
        CREATE TABLE app.events (id int, tenant_id uuid) PARTITION BY RANGE (id);
        CREATE TABLE app.events_1 PARTITION OF app.events FOR VALUES FROM (1) TO (10)");
    let plain = stage.dump();
    let options = r#"{"set_default": true, "foreign_keys": "replace"}"#;
    for table in ["app.items", "app.lines", "app.events"] {
        stage.protect(table, options);
    }
    let text = dump(&stage.database, &[]);
    let copy = Database::empty(stage.database.server());
    copy.psql("postgres", &text);
    assert_eq!(dump(&copy, &[]), text, "a round trip");
    let sql = "SELECT count(*) FROM tenancy.protected_tables WHERE agrees AND mode = 'enforce'";
    assert_eq!(copy.connect(&stage.app).int(sql), 4);
    let as_b = format!("-c app.current_tenant_id={B}");
    assert_eq!(copy.connect_with(&stage.app, &as_b).int(COUNT), 1);
    expect_error(
        &copy.connect(&stage.app).error(COUNT),
        "42501",
        "app.current_tenant_id",
    );
    // What the copy knows suffices to protect again and to take it back.
    let mut owner = copy.connect(&stage.owner);
    for table in ["app.items", "app.lines", "app.events"] {
        policy_support::protect(&mut owner, table, options);
        let again = policy_support::protect(&mut owner, table, options);
        assert_eq!(again, "enforced (unchanged)");
    }
    for table in ["app.items", "app.lines", "app.events"] {
        owner.ok(&format!("SELECT tenancy.unprotect_table('{table}')"));
    }
    assert_eq!(dump(&copy, &["--schema-only", "--schema=app"]), plain);
}

#[test]
fn a_partial_dump_restores_what_it_holds() {
    let stage = Stage::new();
    stage.items();
    stage
        .owner()
        .ok("CREATE TABLE app.left_out (tenant_id uuid)");
    for table in ["app.items", "app.left_out"] {
        stage.protect(table, "{}");
    }
    let text = dump(&stage.database, &["--exclude-table=app.left_out"]);
    let copy = Database::empty(stage.database.server());
    copy.psql("postgres", &text);
    assert_eq!(
        copy.connect(&stage.app)
            .int("SELECT count(*) FROM tenancy.protected_tables"),
        1
    );
    copy.superuser()
        .ok("SELECT tenancy.set_mode('permissive'); SELECT tenancy.set_mode('enforce')");
    let as_b = format!("-c app.current_tenant_id={B}");
    assert_eq!(copy.connect_with(&stage.app, &as_b).int(COUNT), 1);
}

#[test]
fn pg_dump_as_a_bound_role_fails_rather_than_lose_rows() {
    let stage = Stage::new();
    stage.items();
    stage.protect("app.items", "{}");
    let output = stage
        .database
        .server()
        .command("pg_dump")
        .args([
            "-U",
            &stage.owner,
            "--table=app.items",
            &stage.database.name,
        ])
        .stdout(Stdio::piped())
        .output()
        .expect("pg_dump starts");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("row-level security"));
}
