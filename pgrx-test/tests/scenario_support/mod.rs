//! What the scenario tests share: a system set up in a database of its own, with roles of its own.

#![allow(dead_code, reason = "each test executable uses its part")]

pub mod agents;
pub mod probe;
pub mod studio;

use std::collections::BTreeMap;

use pgrx_test::fixture::{ClientExt, Database, Server};
use pgrx_test::scenario::Scenario;
use postgres::Client;

pub struct Stage {
    pub database: Database,
    scenario: &'static Scenario,
    roles: BTreeMap<&'static str, String>,
}

impl Stage {
    /// Bound and protected.
    pub fn new(scenario: &'static Scenario) -> Stage {
        let stage = Stage::as_found(scenario);
        stage.protect();
        stage
    }

    /// Schema and data only.
    pub fn as_found(scenario: &'static Scenario) -> Stage {
        let database = Database::new(Server::preloaded());
        let roles = scenario.roles.iter().map(|role| {
            let name = format!("{role}_{}", database.name);
            database.adopt_role(&name);
            (*role, name)
        });
        let roles = roles.collect();
        let mut superuser = database.superuser();
        superuser.ok(scenario.schema);
        superuser.ok(scenario.seed);
        Stage {
            database,
            scenario,
            roles,
        }
    }

    pub fn protect(&self) {
        let script = self.scenario.protect_with(&self.roles);
        self.superuser().ok(&script);
    }

    /// All that protecting does, but no table isolated.
    pub fn register_only(&self) {
        let script = self.scenario.protect_with(&self.roles);
        let script = script.replace("'enforce'", "'permissive'");
        self.superuser().ok(&script);
    }

    /// Definitions with the roles called as the scenario calls them.
    pub fn renamed(&self, dump: String) -> String {
        self.roles
            .iter()
            .fold(dump, |dump, (role, here)| dump.replace(here.as_str(), role))
    }

    pub fn superuser(&self) -> Client {
        self.database.superuser()
    }

    /// What a role of the scenario is called here.
    pub fn role(&self, role: &str) -> &str {
        &self.roles[role]
    }

    /// A session of one of the scenario's roles.
    pub fn session(&self, role: &str) -> Client {
        self.database.connect(self.role(role))
    }

    /// The application without a context.
    pub fn nobody(&self) -> Client {
        self.session(self.scenario.application())
    }

    /// The application in an open transaction that begins with these statements.
    pub fn application(&self, context: &str) -> Client {
        self.acting(self.scenario.application(), context)
    }

    /// One of the scenario's roles in an open transaction that begins with these statements.
    pub fn acting(&self, role: &str, context: &str) -> Client {
        let mut client = self.session(role);
        client.ok(&format!("BEGIN; {context}"));
        client
    }
}

/// Rows that a statement touched.
pub fn affected(client: &mut Client, statement: &str) -> u64 {
    client
        .execute(statement, &[])
        .unwrap_or_else(|error| panic!("{}\n{statement}", pgrx_test::fixture::describe(&error)))
}

pub fn plan_of(client: &mut Client, query: &str) -> String {
    let lines = client.rows(&format!("EXPLAIN (COSTS OFF) {query}"));
    let lines: Vec<_> = lines.into_iter().flatten().flatten().collect();
    lines.join("\n")
}
