//! What the policy tests share: a bound database with an owner and an application role.

#![allow(dead_code)]

use pgrx_test::fixture::{ClientExt, Database, Server};
use postgres::Client;

pub const A: &str = "00000000-0000-0000-0000-00000000000a";
pub const B: &str = "00000000-0000-0000-0000-00000000000b";

/// A database that trusts `app.current_tenant_id`, with a schema `app` of an ordinary owner and an
/// application role that owns nothing.
pub struct Stage {
    pub database: Database,
    pub owner: String,
    pub app: String,
}

impl Stage {
    pub fn new() -> Stage {
        Stage::with_type("uuid")
    }

    pub fn with_type(tenant_type: &str) -> Stage {
        Stage::bound(Stage::unbound(), tenant_type)
    }

    /// On another server than the shared one.
    pub fn on(server: &'static Server) -> Stage {
        Stage::bound(Stage::unbound_on(server), "uuid")
    }

    fn bound(stage: Stage, tenant_type: &str) -> Stage {
        stage.database.superuser().ok(&format!(
            "SELECT tenancy.bind(tenant_type => '{tenant_type}', tenant_setting => 'app.current_tenant_id')"
        ));
        stage
    }

    pub fn unbound() -> Stage {
        Stage::unbound_on(Server::preloaded())
    }

    fn unbound_on(server: &'static Server) -> Stage {
        let database = Database::new(server);
        let (owner, app) = (database.role("owner"), database.role("app"));
        database.superuser().ok(&format!(
            "CREATE SCHEMA app AUTHORIZATION {owner}; GRANT USAGE ON SCHEMA app TO {app};
             ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {app};"
        ));
        Stage {
            database,
            owner,
            app,
        }
    }

    pub fn superuser(&self) -> Client {
        self.database.superuser()
    }

    pub fn owner(&self) -> Client {
        self.database.connect(&self.owner)
    }

    /// The application without a context.
    pub fn nobody(&self) -> Client {
        self.database.connect(&self.app)
    }

    /// The application as a tenant.
    pub fn tenant(&self, tenant: &str) -> Client {
        self.role_as(&self.app, tenant)
    }

    pub fn role_as(&self, role: &str, tenant: &str) -> Client {
        self.database
            .connect_with(role, &format!("-c app.current_tenant_id={tenant}"))
    }

    /// A table with two rows of A and one of B.
    pub fn items(&self) {
        self.owner().ok(&format!(
            "CREATE TABLE app.items (id int PRIMARY KEY, tenant_id uuid, note text);
             INSERT INTO app.items VALUES (1, '{A}', 'a1'), (2, '{A}', 'a2'), (3, '{B}', 'b1')"
        ));
    }

    pub fn protect(&self, table: &str, options: &str) -> String {
        protect(&mut self.owner(), table, options)
    }

    /// Everything that pg_dump knows about the schema.
    pub fn dump(&self) -> String {
        dump(&self.database, &["--schema-only", "--schema=app"])
    }
}

/// Enforces and returns the result of the first row.
pub fn protect(session: &mut Client, table: &str, options: &str) -> String {
    let sql = format!(
        "SELECT result FROM tenancy.protect_table('{table}', mode => 'enforce', options => '{options}') LIMIT 1"
    );
    session.text(&sql).expect("a result")
}

pub fn dump(database: &Database, arguments: &[&str]) -> String {
    let output = database
        .server()
        .command("pg_dump")
        .args(arguments)
        .arg(&database.name)
        .output()
        .expect("pg_dump starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // A random token of newer minor versions.
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
        .map(|line| format!("{line}\n"))
        .collect()
}

pub fn plan_of(session: &mut Client, sql: &str) -> String {
    session
        .texts(&format!("EXPLAIN (COSTS OFF) {sql}"))
        .join("\n")
}
