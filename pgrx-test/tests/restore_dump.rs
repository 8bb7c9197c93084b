//! pg_dump and restore: the binding comes back and works, and what did not come back is reported.

use std::path::PathBuf;
use std::process::Command;

use pgrx_test::exec;
use pgrx_test::fixture::{ClientExt, Database, Server};

const A: &str = "aaaaaaaa-0000-0000-0000-000000000001";

/// A file of its own below the system's folder for temporary files.
struct Dump(PathBuf);

impl Dump {
    fn of(database: &Database, arguments: &[&str]) -> Dump {
        let path = std::env::temp_dir().join(format!(
            "pg_tenancy-{}-{}",
            std::process::id(),
            database.name
        ));
        let dump = Dump(path);
        let mut command = database.server().command("pg_dump");
        command
            .args(arguments)
            .arg("-d")
            .arg(&database.name)
            .arg("-f")
            .arg(&dump.0);
        exec::run(&mut command).unwrap();
        dump
    }

    fn load(&self, command: &mut Command) {
        exec::run(command.arg(&self.0)).unwrap();
    }

    fn psql(&self, into: &Database) {
        let mut command = into.server().command("psql");
        self.load(command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &into.name, "-f"]));
    }

    fn pg_restore(&self, into: &Database, arguments: &[&str]) {
        let mut command = into.server().command("pg_restore");
        self.load(command.args(["-e", "-d", &into.name]).args(arguments));
    }
}

impl Drop for Dump {
    fn drop(&mut self) {
        // It lies in the folder for temporary files; nothing depends on its removal.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Shared by source and target: roles belong to the cluster.
struct Source {
    database: Database,
    owner: String,
    app: String,
}

fn source() -> Source {
    let database = Database::new(Server::preloaded());
    let (owner, app) = (database.role("owner"), database.role("app"));
    database.superuser().ok(&format!(
        "CREATE SCHEMA platform AUTHORIZATION {owner}; SET ROLE {owner};
         CREATE TYPE platform.member_role AS ENUM ('member', 'admin');
         CREATE TABLE platform.members (user_id text, tenant_id uuid, role platform.member_role, active boolean DEFAULT true) PARTITION BY LIST (tenant_id);
         CREATE TABLE platform.members_rest PARTITION OF platform.members DEFAULT;
         CREATE INDEX ON platform.members (user_id);
         CREATE TABLE platform.\"Tenants\" (id uuid PRIMARY KEY, state text);
         CREATE TABLE platform.docs (tenant_id uuid NOT NULL, body text);
         GRANT USAGE ON SCHEMA platform TO {app};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA platform TO {app};
         INSERT INTO platform.members VALUES ('u', '{A}', 'member');
         INSERT INTO platform.\"Tenants\" VALUES ('{A}', 'active');
         INSERT INTO platform.docs VALUES ('{A}', 'x'), ('aaaaaaaa-0000-0000-0000-000000000002', 'y');
         SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id', membership => 'platform.members', membership_role => 'role', membership_active => 'active',
             tenants => 'platform.\"Tenants\"', tenants_active => 'state = ''active''');
         SELECT tenancy.protect_table('platform.docs', mode => 'enforce')"
    ));
    Source {
        database,
        owner,
        app,
    }
}

const TRIGGERS: &str =
    "SELECT t.tgrelid::regclass, t.tgname, t.tgenabled, t.tgtype,
            EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_trigger'::regclass AND d.objid = t.oid AND d.deptype = 'x')
     FROM pg_trigger t WHERE NOT t.tgisinternal ORDER BY t.tgrelid::regclass::text, 2";

fn state_of(database: &Database, feature: &str) -> Option<String> {
    database.superuser().text(&format!(
        "SELECT state FROM tenancy.status() WHERE feature = '{feature}'"
    ))
}

fn works(source: &Source, target: &Database) {
    let mut from = source.database.superuser();
    let mut to = target.superuser();
    let without_oids = "SELECT tenant_type, membership, membership_active, tenants, tenants_active, bound_by FROM tenancy.binding";
    assert_eq!(from.rows(without_oids), to.rows(without_oids));
    assert_eq!(from.rows(TRIGGERS), to.rows(TRIGGERS));
    assert!(
        from.rows(TRIGGERS)
            .iter()
            .any(|row| row[2].as_deref() == Some("A"))
    );
    assert_eq!(state_of(target, "cache").as_deref(), Some("on"));
    let read =
        "SET LOCAL app.current_user_id = 'u'; SELECT string_agg(body, ',') FROM platform.docs";
    let mut app = target.connect(&source.app);
    assert_eq!(app.text(read).as_deref(), Some("x"));
    assert_eq!(
        app.error("SELECT * FROM platform.docs").code().code(),
        "42501"
    );
    let error = app
        .error("SET LOCAL app.current_user_id = 'u'; UPDATE platform.members SET role = 'admin'");
    assert!(
        error.message().contains("identity columns"),
        "{}",
        error.message()
    );
    // A change in the copy counts in the copy at once, and not in the source.
    target
        .connect(&source.owner)
        .ok("UPDATE platform.\"Tenants\" SET state = 'suspended'");
    let error = app.error(read);
    assert_eq!(error.code().code(), "42501", "{}", error.message());
    assert_eq!(
        source.database.connect(&source.app).text(read).as_deref(),
        Some("x")
    );
    assert_eq!(
        to.int("SELECT count(*) FROM tenancy.protected_tables WHERE mode = 'enforce' AND agrees"),
        1
    );
}

#[test]
fn a_plain_dump_restores_the_binding() {
    let source = source();
    let target = Database::empty(Server::preloaded());
    Dump::of(&source.database, &[]).psql(&target);
    works(&source, &target);
}

#[test]
fn services_and_required_rows_come_back_and_work() {
    let source = source();
    let jobs = source.database.role("jobs");
    let mut from = source.database.superuser();
    from.ok(&format!(
        "SELECT tenancy.create_service_role('{jobs}'); SELECT tenancy.create_app_role('{}', '{{platform}}');
         INSERT INTO platform.\"Tenants\" VALUES ('aaaaaaaa-0000-0000-0000-000000000003', 'active');
         SELECT tenancy.require_rows('documents', 'platform.docs', condition => $$body <> ''$$, fix => 'INSERT INTO platform.docs VALUES ($1, ''new'')')",
        source.app
    ));
    for custom in [false, true] {
        let target = Database::empty(Server::preloaded());
        if custom {
            Dump::of(&source.database, &["-Fc"]).pg_restore(&target, &[]);
        } else {
            Dump::of(&source.database, &[]).psql(&target);
        }
        let mut to = target.superuser();
        for registry in ["service_roles", "app_roles", "required_rows"] {
            let rows = format!("SELECT to_jsonb(r) FROM tenancy.{registry} r");
            let before = from.texts(&rows);
            assert_eq!(before.len(), 1, "{registry}");
            assert_eq!(to.texts(&rows), before, "{registry}");
        }
        let fix = "SELECT remediation FROM tenancy.detect_missing_tenant_data()";
        assert_eq!(
            to.text(fix).as_deref(),
            Some(
                "INSERT INTO platform.docs VALUES ('aaaaaaaa-0000-0000-0000-000000000003', 'new')"
            )
        );
        let mut session = target.connect(&jobs);
        let act = format!("BEGIN; SELECT tenancy.as_tenant('{A}')");
        session.ok(&act);
        assert_eq!(
            session.text("SELECT body FROM platform.docs").as_deref(),
            Some("x")
        );
        // It still ends at once.
        to.ok(&format!("SELECT tenancy.retire_service_role('{jobs}')"));
        assert_eq!(
            session
                .error("SELECT body FROM platform.docs")
                .code()
                .code(),
            "42501"
        );
        session.ok("ROLLBACK");
        // Of another cluster, where the name may be anybody's.
        to.ok(&format!(
            "INSERT INTO tenancy.service_roles VALUES ('{jobs}', 1)"
        ));
        assert_eq!(session.error(&act).code().code(), "42501");
        session.ok("ROLLBACK");
        to.ok(&format!("SELECT tenancy.create_service_role('{jobs}')"));
        session.ok(&act);
    }
}

#[test]
fn a_custom_dump_restores_the_binding() {
    let source = source();
    let target = Database::empty(Server::preloaded());
    Dump::of(&source.database, &["-Fc"]).pg_restore(&target, &[]);
    works(&source, &target);
}

#[test]
fn a_restore_without_owners_works_too() {
    let source = source();
    let target = Database::empty(Server::preloaded());
    Dump::of(&source.database, &["-Fc"]).pg_restore(&target, &["--no-owner"]);
    let mut app = target.connect(&source.app);
    let read =
        "SET LOCAL app.current_user_id = 'u'; SELECT string_agg(body, ',') FROM platform.docs";
    // The expression was bound by the owner, and the tables are a superuser's now.
    let error = app.error(read);
    assert!(
        error.message().contains("rights that its author lacks"),
        "{}",
        error.message()
    );
    target.superuser().ok(
        "SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id', membership => 'platform.members', membership_role => 'role', membership_active => 'active',
             tenants => 'platform.\"Tenants\"', tenants_active => 'state = ''active''')");
    assert_eq!(app.text(read).as_deref(), Some("x"));
}

#[test]
fn data_restored_with_triggers_disabled_is_not_cached_until_mended() {
    let source = source();
    let target = Database::empty(Server::preloaded());
    Dump::of(&source.database, &["-Fc", "--schema-only"]).pg_restore(&target, &[]);
    assert_eq!(state_of(&target, "binding").as_deref(), Some("off"));
    let mut app = target.connect(&source.app);
    let read =
        "SET LOCAL app.current_user_id = 'u'; SELECT string_agg(body, ',') FROM platform.docs";
    assert_eq!(app.error(read).code().code(), "42501");

    Dump::of(&source.database, &["-Fc"])
        .pg_restore(&target, &["--data-only", "--disable-triggers"]);
    assert_eq!(state_of(&target, "binding").as_deref(), Some("on"));
    assert_eq!(state_of(&target, "cache").as_deref(), Some("off"));
    let detail = target
        .superuser()
        .text("SELECT detail FROM tenancy.status() WHERE feature = 'cache'");
    assert!(detail.unwrap().contains("Call tenancy.bind() again"));
    // Right all the same, change by change, in a session that stays.
    assert_eq!(app.text(read).as_deref(), Some("x"));
    let mut owner = target.connect(&source.owner);
    owner.ok("BEGIN; UPDATE platform.members SET active = false");
    assert_eq!(app.text(read).as_deref(), Some("x"));
    owner.ok("COMMIT");
    assert_eq!(app.error(read).code().code(), "42501");
    owner.ok("UPDATE platform.members SET active = true");
    assert_eq!(app.text(read).as_deref(), Some("x"));
    // Identity stays guarded.
    let error = app
        .error("SET LOCAL app.current_user_id = 'u'; UPDATE platform.members SET role = 'admin'");
    assert!(
        error.message().contains("identity columns"),
        "{}",
        error.message()
    );

    target.connect(&source.owner).ok(
        "SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id', membership => 'platform.members', membership_role => 'role', membership_active => 'active',
             tenants => 'platform.\"Tenants\"', tenants_active => 'state = ''active''')");
    works(&source, &target);
}

#[test]
fn a_dump_without_the_bound_table_restores_and_says_what_is_missing() {
    let source = source();
    let target = Database::empty(Server::preloaded());
    Dump::of(&source.database, &["-T", "platform.members*"]).psql(&target);
    assert_eq!(state_of(&target, "binding").as_deref(), Some("broken"));
    let mut app = target.connect(&source.app);
    let error = app.error("SET LOCAL app.current_user_id = 'u'; SELECT * FROM platform.docs");
    assert_eq!(error.code().code(), "42P01");
    assert!(
        error
            .message()
            .contains("bound relation platform.members does not exist"),
        "{}",
        error.message()
    );
    assert!(error.hint().is_some());
    target
        .superuser()
        .ok("SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id')");
    assert_eq!(
        app.text(&format!(
            "SET LOCAL app.current_tenant_id = '{A}'; SELECT body FROM platform.docs"
        ))
        .as_deref(),
        Some("x")
    );
}

#[test]
fn one_table_restores_without_the_extension_s_registry() {
    let source = source();
    let target = Database::new(Server::preloaded());
    target.superuser().ok(&format!(
        "CREATE SCHEMA platform AUTHORIZATION {}",
        source.owner
    ));
    Dump::of(&source.database, &["-t", "platform.docs"]).psql(&target);
    assert_eq!(state_of(&target, "binding").as_deref(), Some("off"));
    // The policies came with it: closed.
    target
        .superuser()
        .ok(&format!("GRANT USAGE ON SCHEMA platform TO {}", source.app));
    let error = target
        .connect(&source.app)
        .error("SELECT * FROM platform.docs");
    assert_eq!(error.code().code(), "42501", "{}", error.message());
}

/// In another cluster the first database mostly has the same oid, and a table may have that of another.
#[test]
fn oids_of_another_cluster_are_not_believed() {
    let identity = |server: &'static Server| {
        let database = Database::with_oid(server, 1_234_567);
        database
            .superuser()
            .int("SELECT tenancy.database_identity()::bigint")
    };
    assert_ne!(identity(Server::preloaded()), identity(Server::plain()));
    let source = source();
    let target = Database::empty(Server::preloaded());
    Dump::of(&source.database, &[]).psql(&target);
    let mut admin = target.superuser();
    admin.ok("UPDATE tenancy.protection SET relation_oid = 'platform.members'::regclass");
    let tables = "SELECT relation::text FROM tenancy.protected_tables";
    assert_eq!(admin.texts(tables), ["platform.docs"]);
    admin.ok("SELECT tenancy.set_mode('platform.docs', 'permissive')");
    let still = "SELECT relation::text FROM tenancy.protected_tables WHERE agrees";
    assert_eq!(admin.texts(still), ["platform.docs"]);
}
