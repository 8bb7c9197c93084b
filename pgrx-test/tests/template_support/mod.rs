//! What the tests of templates share: users of one and of several tenants, with a table for each
//! template and rows of every tenant in it.

#![allow(dead_code)]

use pgrx_test::fixture::{ClientExt, quote_literal};
use postgres::{Client, SimpleQueryMessage};

use crate::policy_support::{A, B, Stage};

/// The platform tenant.
pub const P: &str = "00000000-0000-0000-0000-000000000001";

/// Users: `ann` (member of A), `amy` (admin of A), `bob` (member of B), `two` (member of A, admin of
/// B), `sup` (super admin, member of the platform tenant only), `out` (no membership).
pub struct World {
    pub stage: Stage,
}

impl World {
    pub fn new() -> World {
        let stage = Stage::unbound();
        stage.owner().ok(&format!(
            "CREATE TABLE app.tenants (id uuid PRIMARY KEY, name text);
             CREATE TABLE app.members (user_id text, tenant_id uuid NOT NULL, role text, PRIMARY KEY (user_id, tenant_id));
             CREATE TABLE app.notes (id int PRIMARY KEY, tenant_id uuid NOT NULL, body text);
             CREATE TABLE app.tools (id int PRIMARY KEY, tenant_id uuid, body text);
             CREATE TABLE app.config (id int PRIMARY KEY, tenant_id uuid NOT NULL, body text);
             CREATE TABLE app.profiles (id text PRIMARY KEY, tenant_id uuid NOT NULL, body text);
             CREATE TABLE app.flags (id int PRIMARY KEY, body text, is_active boolean NOT NULL DEFAULT true);
             CREATE TABLE app.lines (id int PRIMARY KEY, note_id int REFERENCES app.notes ON DELETE CASCADE, body text);
             CREATE INDEX ON app.lines (note_id);
             CREATE TABLE app.words (id int PRIMARY KEY, line_id int NOT NULL REFERENCES app.lines ON DELETE CASCADE, body text);
             CREATE INDEX ON app.words (line_id);
             INSERT INTO app.tenants VALUES ('{A}', 'a'), ('{B}', 'b'), ('{P}', 'p');
             INSERT INTO app.members VALUES ('ann', '{A}', 'user'), ('amy', '{A}', 'admin'), ('bob', '{B}', 'user'),
                 ('two', '{A}', 'user'), ('two', '{B}', 'admin'), ('sup', '{P}', 'super_admin');
             INSERT INTO app.notes VALUES (1, '{A}', 'a'), (2, '{B}', 'b'), (3, '{P}', 'p');
             INSERT INTO app.tools TABLE app.notes; INSERT INTO app.config TABLE app.notes;
             INSERT INTO app.profiles VALUES ('ann', '{A}', 'ann'), ('amy', '{A}', 'amy'), ('bob', '{B}', 'bob'), ('two', '{A}', 'two');
             INSERT INTO app.flags VALUES (1, 'on', true), (2, 'off', false);
             INSERT INTO app.lines VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'p');
             INSERT INTO app.words TABLE app.lines"
        ));
        stage.superuser().ok(&format!(
            "SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id', membership => 'app.members',
                 membership_role => 'role', tenants => 'app.tenants', platform_tenant => '{P}')"
        ));
        World { stage }
    }

    /// Enforces a template and returns what was said.
    pub fn enforce(&self, table: &str, template: &str, column: &str, options: &str) -> String {
        let options = quote_literal(options);
        let sql = format!(
            "SELECT result FROM tenancy.protect_table('app.{table}', '{template}', '{column}', 'enforce', {options}) LIMIT 1"
        );
        self.stage.owner().text(&sql).expect("a result")
    }

    /// The application as a user who has chosen no tenant.
    pub fn user(&self, user: &str) -> Client {
        let options = format!("-c app.current_user_id={user}");
        self.stage.database.connect_with(&self.stage.app, &options)
    }

    /// The application as a user who has chosen a tenant.
    pub fn user_in(&self, user: &str, tenant: &str) -> Client {
        let options = format!("-c app.current_user_id={user} -c app.current_tenant_id={tenant}");
        self.stage.database.connect_with(&self.stage.app, &options)
    }
}

/// The bodies that a session sees, in their order.
pub fn bodies(session: &mut Client, table: &str) -> String {
    session
        .texts(&format!("SELECT body FROM app.{table} ORDER BY body"))
        .join(" ")
}

/// What a session may do, undone afterwards: for each command the number of rows it reached, or the
/// SQLSTATE it failed with.
pub fn outcome(session: &mut Client, sql: &str) -> String {
    session.ok("BEGIN");
    let outcome = match session.simple_query(sql) {
        Ok(messages) => messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::CommandComplete(rows) => Some(rows.to_string()),
                _ => None,
            })
            .next_back()
            .unwrap_or_default(),
        Err(error) => error
            .as_db_error()
            .map(|error| error.code().code().to_owned())
            .unwrap_or_else(|| error.to_string()),
    };
    session.ok("ROLLBACK");
    outcome
}
