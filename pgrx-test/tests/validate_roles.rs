//! The validator about roles: who counts as an application, what binds neither it nor owners, and that
//! roles as they should be are left alone.

mod policy_support;

use pgrx_test::fixture::{ClientExt, Server, expect_error};
use policy_support::Stage;
use postgres::Client;

/// A protected table that the application may use.
fn well() -> Stage {
    let stage = Stage::new();
    stage.owner().ok("CREATE TABLE app.t (id uuid PRIMARY KEY, tenant_id uuid NOT NULL); CREATE INDEX ON app.t (tenant_id)");
    stage.protect("app.t", "{}");
    stage
}

/// What the strictest gate stops at.
fn found(session: &mut Client) -> Vec<String> {
    let mut found = session.texts(
        "SELECT code || ' ' || level || ' ' || object FROM tenancy.validate() WHERE level <> 'info'",
    );
    found.sort();
    found
}

/// Runs what the findings say until nothing is left.
fn mend(session: &mut Client) {
    for remediation in
        session.texts("SELECT DISTINCT remediation FROM tenancy.validate() WHERE level <> 'info'")
    {
        session.ok(&remediation);
    }
    session.ok("SELECT tenancy.assert_valid('warn')");
}

#[test]
fn a_login_that_row_security_does_not_bind_is_an_error_however_it_comes_by_the_tables() {
    let stage = well();
    let (app, owner) = (&stage.app, &stage.owner);
    let (service, between) = (
        stage.database.role("service"),
        stage.database.role("between"),
    );
    // Made as superusers, since another session might believe one of two catalogs that it is one already.
    let [granted, member] =
        ["granted", "member"].map(|name| format!("{name}_{}", stage.database.name));
    stage.database.adopt_role(&granted);
    stage.database.adopt_role(&member);
    let mut superuser = stage.superuser();
    for (breaks, finding) in [
        (
            format!("GRANT SELECT ON app.t TO {service}; ALTER ROLE {service} BYPASSRLS"),
            format!("role-bypassrls error role {service}"),
        ),
        // Of a group's grants, whether it inherits them or not.
        (
            format!("REVOKE ALL ON app.t FROM {service}; ALTER ROLE {between} NOLOGIN; GRANT {app} TO {between};
                GRANT {between} TO {service}; ALTER ROLE {service} BYPASSRLS NOINHERIT"),
            format!("role-bypassrls error role {service}"),
        ),
        // Of its own.
        (
            format!("ALTER ROLE {owner} BYPASSRLS"),
            format!("role-bypassrls error role {owner}"),
        ),
        (
            format!("CREATE ROLE {granted} LOGIN SUPERUSER; GRANT SELECT ON app.t TO {granted}"),
            format!("role-superuser error role {granted}"),
        ),
        (
            format!("CREATE ROLE {member} LOGIN SUPERUSER IN ROLE {between}"),
            format!("role-superuser warn role {member}"),
        ),
    ] {
        superuser.ok(&breaks);
        assert_eq!(found(&mut superuser), [finding], "{breaks}");
        mend(&mut superuser);
    }
}

#[test]
fn an_owner_that_logs_in_must_be_bound_by_row_security() {
    let stage = Stage::new();
    let owner = &stage.owner;
    let deployer = stage.database.role("deployer");
    stage.owner().ok("CREATE TABLE app.t (id uuid PRIMARY KEY, tenant_id uuid NOT NULL); CREATE INDEX ON app.t (tenant_id)");
    stage.protect("app.t", r#"{"force": false}"#);
    let mut superuser = stage.superuser();
    assert_eq!(
        found(&mut superuser),
        [format!("role-owner error role {owner} with table app.t")]
    );
    expect_error(
        &superuser.error("SELECT tenancy.assert_valid()"),
        "55000",
        "role-owner",
    );
    // Nobody who logs in is the owner, until somebody acts as it.
    superuser.ok(&format!("ALTER ROLE {owner} NOLOGIN"));
    assert!(found(&mut superuser).is_empty());
    superuser.ok(&format!("GRANT {owner} TO {deployer}"));
    assert_eq!(
        found(&mut superuser),
        [format!("role-owner error role {deployer} with table app.t")]
    );
    superuser.ok(&format!("ALTER ROLE {deployer} NOINHERIT"));
    assert_eq!(
        found(&mut superuser),
        [format!("role-owner error role {deployer} with table app.t")]
    );
    mend(&mut superuser);
    let told = "SELECT level || ' ' || detail FROM tenancy.validate() WHERE code = 'role-owner'";
    assert_eq!(
        superuser.text(told),
        Some(format!(
            "info as {owner} owns 1 tenant tables, app.t among them"
        ))
    );
    // A table that is not registered.
    superuser.ok("SELECT tenancy.unprotect_table('app.t'); ALTER TABLE app.t ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON app.t AS RESTRICTIVE USING (tenant_id = current_tenant_id()); CREATE POLICY q ON app.t USING (tenant_id = current_tenant_id())");
    assert_eq!(
        found(&mut superuser),
        [
            "rls-not-forced warn table app.t".to_owned(),
            format!("role-owner error role {deployer} with table app.t")
        ]
    );
    mend(&mut superuser);
}

#[test]
fn an_application_is_one_however_it_comes_by_its_tables() {
    let stage = well();
    let (app, owner) = (&stage.app, &stage.owner);
    let login = stage.database.role("authenticator");
    let mut superuser = stage.superuser();
    // It logs in, and becomes what each request needs.
    superuser.ok(&format!(
        "ALTER ROLE {login} NOINHERIT CREATEROLE; GRANT {app}, {owner} TO {login}"
    ));
    assert_eq!(
        found(&mut superuser),
        [
            format!("role-createrole error role {login}"),
            format!("role-path error role {login} as {owner}")
        ]
    );
    mend(&mut superuser);
    // One table is its own.
    superuser.ok(&format!(
        "REVOKE {app} FROM {login}; CREATE TABLE app.sessions (id uuid PRIMARY KEY, tenant_id uuid NOT NULL); CREATE INDEX ON app.sessions (tenant_id);
         ALTER TABLE app.sessions OWNER TO {app}; SELECT tenancy.protect_table('app.sessions', mode => 'enforce'); ALTER ROLE {app} REPLICATION; GRANT postgres TO {app}"
    ));
    assert_eq!(
        found(&mut superuser),
        [
            format!("role-path error role {app} as postgres"),
            format!("role-replication error role {app}")
        ]
    );
    mend(&mut superuser);
}

#[test]
fn an_application_makes_nothing_where_others_look() {
    let stage = well();
    let (app, database) = (&stage.app, &stage.database.name);
    let group = stage.database.role("group");
    let mut superuser = stage.superuser();
    // Which it can give itself.
    let options = if Server::preloaded().version >= 16 {
        " WITH ADMIN TRUE, INHERIT FALSE, SET FALSE"
    } else {
        ""
    };
    superuser.ok(&format!(
        "ALTER ROLE {group} NOLOGIN; GRANT {group} TO {app}{options}; GRANT CREATE ON DATABASE {database} TO {group}"
    ));
    assert_eq!(
        found(&mut superuser),
        [format!(
            "schema-create warn CREATE on database {database} for {group}"
        )]
    );
    mend(&mut superuser);
    // A schema of its own is its affair, unless somebody's search_path finds it.
    superuser.ok(&format!(
        "CREATE SCHEMA queue AUTHORIZATION {app}; CREATE SCHEMA shared AUTHORIZATION {group}"
    ));
    assert_eq!(found(&mut superuser), [""; 0]);
    let told = "SELECT level || ' ' || object FROM tenancy.validate() WHERE code = 'schema-create' ORDER BY object";
    assert_eq!(
        superuser.texts(told),
        [
            format!("info schema queue of {app}"),
            format!("info schema shared of {group}")
        ]
    );
    let login = &stage.owner;
    superuser.ok(&format!("ALTER SCHEMA queue RENAME TO {login}"));
    assert_eq!(
        found(&mut superuser),
        [format!("schema-create warn schema {login} of {app}")]
    );
    mend(&mut superuser);
    // Who owns the database owns its schema public.
    superuser.ok(&format!("CREATE TABLE public.t (id uuid PRIMARY KEY, tenant_id uuid NOT NULL); CREATE INDEX ON public.t (tenant_id);
        SELECT tenancy.protect_table('public.t', mode => 'enforce'); ALTER DATABASE {database} OWNER TO {app}"));
    assert_eq!(
        found(&mut superuser),
        ["schema-create warn schema public of pg_database_owner"]
    );
    mend(&mut superuser);
}

/// Which membership it is, only some versions tell.
#[test]
fn a_path_is_one_by_admin_and_by_set_alone() {
    let stage = well();
    let (app, owner) = (&stage.app, &stage.owner);
    let mut superuser = stage.superuser();
    let mut memberships = vec!["WITH ADMIN OPTION"];
    if Server::preloaded().version >= 16 {
        memberships.extend([
            "WITH ADMIN TRUE, INHERIT FALSE, SET FALSE",
            "WITH ADMIN FALSE, INHERIT FALSE, SET TRUE",
            "WITH ADMIN FALSE, INHERIT TRUE, SET FALSE",
        ]);
    }
    for membership in memberships {
        superuser.ok(&format!("GRANT {owner} TO {app} {membership}"));
        assert_eq!(
            found(&mut superuser),
            [format!("role-path error role {app} as {owner}")],
            "{membership}"
        );
        mend(&mut superuser);
    }
}

/// As hosts have it that give no superuser away, and people who administer.
#[test]
fn roles_as_they_should_be_are_left_alone() {
    let stage = Stage::new();
    let owner = &stage.owner;
    let names = [
        "web",
        "jobs",
        "backup",
        "administrator",
        "sudoer",
        "login",
        "replica",
    ];
    let [web, jobs, backup, administrator, sudoer, login, replica] =
        names.map(|name| format!("{name}_{}", stage.database.name));
    for role in [
        &web,
        &jobs,
        &backup,
        &administrator,
        &sudoer,
        &login,
        &replica,
    ] {
        stage.database.adopt_role(role);
    }
    let mut superuser = stage.superuser();
    superuser.ok(&format!(
        "ALTER ROLE {owner} CREATEROLE; ALTER DATABASE {} OWNER TO {owner};
         CREATE ROLE {backup} LOGIN BYPASSRLS; GRANT pg_read_all_data TO {backup};
         CREATE ROLE {administrator} LOGIN SUPERUSER; CREATE ROLE {sudoer} LOGIN NOINHERIT IN ROLE postgres;
         CREATE ROLE {replica} LOGIN REPLICATION",
        stage.database.name
    ));
    let mut migration = stage.owner();
    migration.ok("CREATE TABLE app.t (id uuid PRIMARY KEY, tenant_id uuid NOT NULL); CREATE INDEX ON app.t (tenant_id); SELECT tenancy.protect_table('app.t', mode => 'enforce')");
    migration.ok(&format!(
        "SELECT tenancy.create_app_role('{web}', '{{app}}'); SELECT tenancy.create_service_role('{jobs}'); CREATE ROLE {login} LOGIN NOINHERIT IN ROLE {web}"
    ));
    superuser.ok(&format!("CREATE TABLE app.of_administrator (id uuid PRIMARY KEY, tenant_id uuid NOT NULL); CREATE INDEX ON app.of_administrator (tenant_id);
        ALTER TABLE app.of_administrator OWNER TO {administrator}; SELECT tenancy.protect_table('app.of_administrator', mode => 'enforce'); GRANT SELECT ON app.of_administrator TO {web}"));
    assert_eq!(found(&mut superuser), [""; 0]);
    // It may try what the application can with its tables.
    let options = if Server::preloaded().version >= 16 {
        " WITH INHERIT TRUE, SET TRUE"
    } else {
        ""
    };
    superuser.ok(&format!(
        "REVOKE SELECT ON app.of_administrator FROM {web}; GRANT {web} TO {owner}{options}"
    ));
    assert_eq!(found(&mut superuser), [""; 0]);
}

/// Names of settings have no case, and a session without the library keeps them as they were written.
#[test]
fn a_pinned_context_is_found_in_whatever_case() {
    let stage = Stage::on(Server::plain());
    let app = &stage.app;
    stage.superuser().ok(&format!(
        "ALTER ROLE {app} SET \"App.Current_Org_ID\" = '00000000-0000-0000-0000-00000000000a'"
    ));
    let mut nobody = stage.nobody();
    let tenant = nobody.text("SELECT current_tenant_id()");
    assert_eq!(tenant.as_deref(), Some(policy_support::A));
    let mut superuser = stage.superuser();
    assert_eq!(
        found(&mut superuser),
        [format!("role-setting warn role {app}: App.Current_Org_ID")]
    );
    mend(&mut superuser);
}
