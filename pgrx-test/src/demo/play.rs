//! How a demonstration acts: sessions of roles, statements in the context of somebody, their outcome.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Result};
use postgres::{Client, NoTls};

use super::output::{Counts, print_error, print_result};
use crate::fixture::Server;
use crate::scenario::Scenario;

/// Where it is played, and what the roles are called there.
#[derive(Debug)]
pub struct Place {
    pub server: &'static Server,
    pub database: String,
    pub roles: BTreeMap<&'static str, String>,
}

impl Place {
    /// A server of its own: database and roles have the names of the scripts.
    pub fn of(server: &'static Server, scenario: &Scenario) -> Place {
        Place {
            server,
            database: scenario.name.to_owned(),
            roles: scenario
                .roles
                .iter()
                .map(|role| (*role, (*role).to_owned()))
                .collect(),
        }
    }
}

pub struct Play<'a> {
    scenario: &'static Scenario,
    place: &'a Place,
    out: &'a mut dyn Write,
}

impl<'a> Play<'a> {
    pub fn new(scenario: &'static Scenario, place: &'a Place, out: &'a mut dyn Write) -> Self {
        Play {
            scenario,
            place,
            out,
        }
    }

    /// Database, schema, data, and before everybody's eyes the protection.
    pub fn set_up(&mut self) -> Result<()> {
        self.heading("Setting up")?;
        let database = &self.place.database;
        self.session_in("postgres", &self.place.server.superuser)?
            .batch_execute(&format!("CREATE DATABASE {database} TEMPLATE template0"))?;
        let mut owner = self.superuser()?;
        owner.batch_execute("CREATE EXTENSION pg_tenancy")?;
        owner.batch_execute(self.scenario.schema)?;
        owner.batch_execute(self.scenario.seed)?;
        let protect = self.scenario.protect_with(&self.place.roles);
        self.say(protect.trim())?;
        print_result(self.out, owner.simple_query(&protect)?, Counts::LeftOut)
    }

    pub fn superuser(&self) -> Result<Client> {
        self.session_in(&self.place.database, &self.place.server.superuser)
    }

    /// The application, without a context yet.
    pub fn application(&self) -> Result<Client> {
        let role = &self.place.roles[self.scenario.application()];
        self.session_in(&self.place.database, role)
    }

    /// Another role of the system.
    pub fn connect(&self, role: &str) -> Result<Client> {
        self.session_in(&self.place.database, &self.place.roles[role])
    }

    fn session_in(&self, database: &str, role: &str) -> Result<Client> {
        let client = self.place.server.config(database, role).connect(NoTls);
        client.with_context(|| format!("cannot connect to {database} as {role}"))
    }

    pub fn heading(&mut self, text: &str) -> Result<()> {
        Ok(writeln!(self.out, "\n== {text}\n")?)
    }

    pub fn say(&mut self, text: &str) -> Result<()> {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// Runs statements one by one, each in a transaction that begins with that context and leaves
    /// nothing behind, and shows how each ends.
    pub fn attempts(
        &mut self,
        client: &mut Client,
        context: &str,
        statements: &[&str],
    ) -> Result<()> {
        for statement in statements {
            self.say(&format!("{statement};"))?;
            client.batch_execute(&format!("BEGIN; {context}"))?;
            self.outcome(client, statement)?;
            client.batch_execute("ROLLBACK")?;
        }
        Ok(())
    }

    /// Runs a statement and shows how it ends.
    pub fn outcome(&mut self, client: &mut Client, statement: &str) -> Result<()> {
        match client.simple_query(statement) {
            Ok(messages) => print_result(self.out, messages, Counts::Said)?,
            Err(error) => match error.as_db_error() {
                Some(error) => print_error(self.out, error)?,
                None => writeln!(self.out, "  {error}")?,
            },
        }
        Ok(writeln!(self.out)?)
    }
}
