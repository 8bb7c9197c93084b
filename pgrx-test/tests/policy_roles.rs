//! Roles for applications.

mod policy_support;

use pgrx_test::fixture::{ClientExt, expect_error};
use policy_support::{A, B, Stage};

fn name(stage: &Stage, hint: &str) -> String {
    let name = format!("{}_{hint}", stage.database.name);
    stage.database.adopt_role(&name);
    name
}

#[test]
fn the_role_can_do_what_an_application_does_and_nothing_else() {
    let stage = Stage::new();
    stage.owner().ok("CREATE TABLE app.items (id serial PRIMARY KEY, tenant_id uuid); CREATE TABLE app.\"Odd Name\" (id int, tenant_id uuid)");
    let app = name(&stage, "web");
    let create = format!("SELECT tenancy.create_app_role('{app}', '{{app}}', login => true)");
    stage.superuser().ok(&create);
    stage.superuser().ok(&create);
    stage
        .owner()
        .ok("SELECT tenancy.protect_schema('app', mode => 'enforce')");
    let mut a = stage.role_as(&app, A);
    a.ok(&format!("INSERT INTO app.items (tenant_id) VALUES ('{A}'); UPDATE app.items SET id = 7; SELECT * FROM app.\"Odd Name\""));
    assert_eq!(
        stage.role_as(&app, B).int("SELECT count(*) FROM app.items"),
        0
    );
    for sql in [
        "TRUNCATE app.items",
        "ALTER TABLE app.items DISABLE ROW LEVEL SECURITY",
        "CREATE TRIGGER t BEFORE INSERT ON app.items EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE TABLE app.mine (id int)",
        "SELECT * FROM tenancy.protection",
        "SELECT * FROM tenancy.binding_definition",
        "SET ROLE postgres",
    ] {
        assert_eq!(
            stage.role_as(&app, A).error(sql).code().code(),
            "42501",
            "{sql}"
        );
    }
    stage
        .owner()
        .ok("CREATE TABLE app.later (id serial, tenant_id uuid)");
    assert_eq!(
        stage.role_as(&app, A).int("SELECT count(*) FROM app.later"),
        0
    );
    stage
        .role_as(&app, A)
        .ok(&format!("INSERT INTO app.later (tenant_id) VALUES ('{A}')"));
    for table in ["app.items", "app.later"] {
        let more = format!(
            "SELECT has_table_privilege('{app}', '{table}', 'REFERENCES, TRIGGER, TRUNCATE')"
        );
        assert_eq!(stage.superuser().text(&more).as_deref(), Some("f"));
    }
    let attributes = "SELECT rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR NOT rolcanlogin FROM pg_roles WHERE rolname = ";
    assert_eq!(
        stage
            .superuser()
            .text(&format!("{attributes}'{app}'"))
            .as_deref(),
        Some("f")
    );
    stage.superuser().ok(&format!("DROP OWNED BY {app}"));
}

#[test]
fn roles_that_row_security_does_not_bind_are_refused() {
    let stage = Stage::new();
    stage.items();
    let group = stage.database.role("group");
    for (change, needle) in [
        ("ALTER ROLE {r} BYPASSRLS", "BYPASSRLS"),
        ("ALTER ROLE {r} SUPERUSER", "superuser"),
        ("ALTER ROLE {r} CREATEROLE", "CREATEROLE"),
        (
            "CREATE TABLE app.of_role (id int); ALTER TABLE app.of_role OWNER TO {r}",
            "owns table",
        ),
        ("GRANT {owner} TO {r}", "member of"),
        ("ALTER ROLE {g} BYPASSRLS; GRANT {g} TO {r}", "member of"),
        ("GRANT pg_execute_server_program TO {r}", "outside"),
    ] {
        let role = stage.database.role("bad");
        stage.superuser().ok(&change
            .replace("{r}", &role)
            .replace("{g}", &group)
            .replace("{owner}", &stage.owner));
        let error = stage.superuser().error(&format!(
            "SELECT tenancy.create_app_role('{role}', '{{app}}')"
        ));
        expect_error(&error, "22023", needle);
        assert!(error.hint().is_some());
    }
}

#[test]
fn the_caller_needs_the_rights_himself() {
    let stage = Stage::new();
    stage.items();
    let app = format!("{}_none", stage.database.name);
    let error = stage.owner().error(&format!(
        "SELECT tenancy.create_app_role('{app}', '{{app}}')"
    ));
    assert_eq!(error.code().code(), "42501");
    for (arguments, sqlstate, needle) in [
        (format!("'{app}', '{{nowhere}}'"), "3F000", "nowhere"),
        (format!("'{app}', '{{}}'"), "22023", "schema"),
        (format!("'{app}', NULL"), "22023", "schemas"),
        (format!("'{app}', '{{tenancy}}'"), "22023", "tenancy"),
        (format!("'{app}', '{{pg_catalog}}'"), "22023", "pg_catalog"),
        ("NULL, '{app}'".to_owned(), "22023", "name"),
        ("'', '{app}'".to_owned(), "22023", "name"),
    ] {
        expect_error(
            &stage
                .superuser()
                .error(&format!("SELECT tenancy.create_app_role({arguments})")),
            sqlstate,
            needle,
        );
    }
    let sql = format!("SELECT count(*) FROM pg_roles WHERE rolname = '{app}'");
    assert_eq!(stage.superuser().int(&sql), 0, "nothing half-done");
}

#[test]
fn a_role_manager_who_owns_the_tables_suffices() {
    let stage = Stage::new();
    stage.items();
    stage
        .superuser()
        .ok(&format!("ALTER ROLE {} CREATEROLE", stage.owner));
    let app = name(&stage, "made");
    stage.owner().ok(&format!(
        "SELECT tenancy.create_app_role('{app}', '{{app}}')"
    ));
    let sql = format!(
        "SELECT has_table_privilege('{app}', 'app.items', 'SELECT, INSERT') AND NOT has_table_privilege('{app}', 'app.items', 'TRUNCATE')"
    );
    assert_eq!(stage.superuser().text(&sql).as_deref(), Some("t"));
    stage.superuser().ok(&format!("DROP OWNED BY {app}"));
}

#[test]
fn views_that_show_all_tenants_are_not_granted() {
    let stage = Stage::new();
    stage.items();
    stage.superuser().ok(&format!(
        "CREATE VIEW app.all_rows AS SELECT * FROM app.items;
         CREATE MATERIALIZED VIEW app.kept AS SELECT * FROM app.items;
         CREATE VIEW app.own_rows WITH (security_invoker) AS SELECT * FROM app.items;
         CREATE VIEW app.bound AS SELECT * FROM app.items; ALTER VIEW app.bound OWNER TO {owner};
         GRANT SELECT ON app.all_rows, app.kept TO {owner};
         CREATE VIEW app.nested AS SELECT * FROM app.all_rows; ALTER VIEW app.nested OWNER TO {owner};
         CREATE VIEW app.copied AS SELECT * FROM app.kept; ALTER VIEW app.copied OWNER TO {owner};
         CREATE TABLE app.loose (id int, tenant_id uuid); ALTER TABLE app.loose OWNER TO {owner};
         CREATE VIEW app.of_its_owner AS SELECT * FROM app.loose; ALTER VIEW app.of_its_owner OWNER TO {owner}",
        owner = stage.owner
    ));
    stage.protect("app.items", "{}");
    stage.protect("app.loose", r#"{"force": false}"#);
    let app = name(&stage, "views");
    stage.superuser().ok(&format!(
        "SELECT tenancy.create_app_role('{app}', '{{app}}')"
    ));
    for (view, granted) in [
        ("all_rows", "f"),
        ("kept", "f"),
        ("own_rows", "t"),
        ("bound", "t"),
        ("nested", "f"),
        ("copied", "f"),
        ("of_its_owner", "f"),
    ] {
        let sql = format!("SELECT has_table_privilege('{app}', 'app.{view}', 'SELECT')");
        assert_eq!(
            stage.superuser().text(&sql).as_deref(),
            Some(granted),
            "{view}"
        );
    }
    stage.superuser().ok(&format!("DROP OWNED BY {app}"));
}

#[test]
fn applications_may_call_what_they_need_where_execute_is_nobodys_by_default() {
    let stage = Stage::new();
    let mut admin = stage.superuser();
    admin.ok("DROP EXTENSION pg_tenancy;
         ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
         CREATE EXTENSION pg_tenancy");
    stage
        .owner()
        .ok("CREATE TABLE app.members (user_id text, tenant_id uuid)");
    admin.ok("SELECT tenancy.bind(membership => 'app.members');
         SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id')");
    stage.items();
    let mut a = stage.tenant(A);
    for (mode, seen) in [("shadow", 3), ("enforce", 2)] {
        admin.ok(&format!(
            "SELECT tenancy.protect_table('app.items', mode => '{mode}', options => '{{\"set_default\": true}}')"
        ));
        assert_eq!(a.int("SELECT count(*) FROM app.items"), seen, "{mode}");
        a.ok("BEGIN; INSERT INTO app.items (id, tenant_id) VALUES (7, current_tenant_id());
             UPDATE app.items SET note = 'x' WHERE id = 7; DELETE FROM app.items WHERE id = 7; ROLLBACK");
    }
    assert_eq!(
        admin.int("SELECT count(*) FROM tenancy.shadow_recorded()"),
        1
    );
    a.ok("SELECT current_tenant_id_text(), current_tenant_user_id(), current_tenant_role(), is_tenant_admin(), is_super_admin(),
            has_tenant_role('x'), user_tenant_ids(), user_tenant_ids_text(), get_user_tenant_context()");
    // What administers is not theirs, here as elsewhere.
    let unprotect = "SELECT tenancy.unprotect_table('app.items')";
    expect_error(
        &a.error(unprotect),
        "42501",
        "permission denied for function",
    );
}
