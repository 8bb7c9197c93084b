//! A database with three schemas of the same data: without protection, in shadow mode, enforced.

use std::collections::{BTreeMap, BTreeSet};

use pgrx_test::fixture::{ClientExt, Database, Server};
use postgres::{Client, SimpleQueryMessage};

use super::actors::{Actor, Context};
use super::generate::Statement;
use super::sql::Access;
use super::tables::{TABLES, Table};

/// A table, and the tenant that its rows are recorded with; `none` where there is none.
pub type Tag = (String, String);

/// What a statement did.
#[derive(Debug)]
pub struct Outcome {
    /// Rows and numbers of rows.
    pub lines: Vec<String>,
    /// The first columns of the rows of each execution.
    pub keys: Vec<Vec<Vec<Option<String>>>>,
    pub error: Option<String>,
    /// The tables afterwards.
    pub state: Vec<String>,
}

/// Two outcomes are the same whichever order rows came in, unless that counts.
impl PartialEq for Outcome {
    fn eq(&self, other: &Self) -> bool {
        self.lines == other.lines && self.error == other.error && self.state == other.state
    }
}

impl Outcome {
    /// What is in one and not in the other, and the other way round.
    pub fn difference(&self, other: &Outcome) -> String {
        format!("{:?} and {:?}", self.without(other), other.without(self))
    }

    fn without(&self, other: &Outcome) -> Vec<&String> {
        let there = other.told();
        let only = self.told().into_iter().filter(|line| !there.contains(line));
        only.take(10).collect()
    }

    fn told(&self) -> Vec<&String> {
        let all = self.lines.iter().chain(&self.error).chain(&self.state);
        all.collect()
    }
}

/// What was recorded of one row or statement.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    pub tag: Tag,
    pub command: String,
    pub kind: String,
    pub precision: String,
    /// Running the statement both ways has shown that it matters.
    pub is_confirmed: bool,
}

pub struct World {
    database: Database,
    client: Client,
    app: String,
    owner: String,
    bypass: String,
    tags: BTreeMap<(&'static str, String), Tag>,
    /// Keys that enforcement denies, found by asking it.
    denied: BTreeMap<(Context, Access, &'static str), BTreeSet<String>>,
    state: String,
}

const ASKED: [Context; 4] = [
    Context::Admin,
    Context::Member,
    Context::Both,
    Context::Denied,
];

impl World {
    pub fn new() -> World {
        let database = Database::new(Server::preloaded());
        let (app, owner) = (database.role("app"), database.role("owner"));
        let bypass = database.role("bypass");
        let mut client = database.superuser();
        client.ok(&format!("ALTER ROLE {bypass} BYPASSRLS"));
        client.ok(&include_str!("members.sql").replace(":owner", &owner));
        for schema in ["plain", "shad", "enf"] {
            client.ok(&include_str!("schema.sql")
                .replace(":schema", schema)
                .replace(":app", &app)
                .replace(":owner", &owner)
                .replace(":bypass", &bypass));
        }
        for (schema, mode) in [("shad", "shadow"), ("enf", "enforce")] {
            client.ok(&format!(
                "CREATE POLICY reads ON {schema}.w FOR SELECT USING (r < 30);
                 CREATE POLICY changes ON {schema}.w FOR UPDATE USING (r < 25);
                 CREATE POLICY adds ON {schema}.w FOR INSERT WITH CHECK (r < 20);
                 CREATE POLICY removes ON {schema}.w FOR DELETE USING (r > 5)"
            ));
            for table in &TABLES {
                if let Some(template) = table.template {
                    client.ok(&format!(
                        "SELECT tenancy.protect_table('{schema}.{}', template => '{template}', tenant_column => '{}', mode => '{mode}', options => '{}')",
                        table.name, table.tenant.unwrap_or("tenant_id"), table.options
                    ));
                }
            }
        }
        for schema in ["plain", "shad", "enf"] {
            // Protection refuses such rows where it finds them.
            client.ok(&format!(
                "ALTER TABLE {schema}.tn ALTER tenant_id DROP NOT NULL;
                 INSERT INTO {schema}.tn SELECT i, NULL, i % 8, i, 'tn' || i FROM generate_series(21, 26) i"
            ));
        }
        client.ok("ANALYZE; SET statement_timeout = '60s'");
        let parts: Vec<String> = TABLES
            .iter()
            .map(|table| format!("SELECT '{0} ' || x::text AS row FROM {0} x", table.name))
            .collect();
        let mut world = World {
            database,
            client,
            app,
            owner,
            bypass,
            tags: BTreeMap::new(),
            denied: BTreeMap::new(),
            state: format!("{} ORDER BY 1", parts.join(" UNION ALL ")),
        };
        world.look_around();
        world
    }

    fn look_around(&mut self) {
        for table in TABLES.iter().filter(|table| table.template.is_some()) {
            let tenant = table.tenant.unwrap_or("NULL");
            let rows = self.client.rows(&format!(
                "SELECT id, coalesce(({tenant})::text, 'none') FROM plain.{}",
                table.name
            ));
            for row in rows {
                let [id, tenant] = row.try_into().expect("two columns");
                let (id, tenant) = (id.expect("a key"), tenant.expect("a tenant"));
                self.tags
                    .insert((table.name, id), (table.name.to_owned(), tenant));
            }
            for context in ASKED {
                for access in [Access::Read, Access::Update, Access::Delete] {
                    let denied = self.ask(table, context, access);
                    self.denied.insert((context, access, table.name), denied);
                }
            }
        }
    }

    fn ask(&mut self, table: &Table, context: Context, access: Access) -> BTreeSet<String> {
        let name = table.name;
        let question = match access {
            Access::Read => format!("SELECT id FROM {name}"),
            Access::Update => format!("UPDATE {name} SET n = n RETURNING id"),
            Access::Delete => format!("DELETE FROM {name} RETURNING id"),
        };
        let rows = self.client.rows(&format!(
            "BEGIN; SET LOCAL search_path = enf, public; {}; SET LOCAL ROLE {}; {question}; ROLLBACK",
            context.settings(),
            self.app
        ));
        let allowed: BTreeSet<String> = rows.into_iter().flatten().flatten().collect();
        self.tags
            .keys()
            .filter(|(table, id)| *table == name && !allowed.contains(id))
            .map(|(_, id)| id.clone())
            .collect()
    }

    /// How a row is recorded if it is denied; `None` if it is not.
    pub fn denied(
        &self,
        context: Context,
        access: Access,
        table: &'static str,
        id: &str,
    ) -> Option<&Tag> {
        let denied = self.denied.get(&(context, access, table))?;
        denied
            .contains(id)
            .then(|| self.tags.get(&(table, id.to_owned())))
            .flatten()
    }

    /// What a query without protection returns.
    pub fn look(&mut self, query: &str) -> Vec<Vec<Option<String>>> {
        self.client.rows(&format!(
            "BEGIN; SET LOCAL search_path = plain, public; {query}; ROLLBACK"
        ))
    }

    /// Runs a statement in a transaction that is rolled back.
    pub fn run(&mut self, schema: &str, label: &str, statement: &Statement, text: &str) -> Outcome {
        let mut script = format!(
            "BEGIN; SET LOCAL search_path = {schema}, public; SET LOCAL application_name = '{label}'; {}; ",
            statement.settings
        );
        if statement.is_prepared {
            script.push_str(&format!("PREPARE again(int) AS {text}; "));
        }
        let last = statement.steps.len() - 1;
        for (index, step) in statement.steps.iter().enumerate() {
            let role = match step.actor {
                Actor::Application => &self.app,
                Actor::Owner => &self.owner,
                Actor::Bypass => &self.bypass,
                Actor::Superuser => "none",
            };
            let executed = if statement.is_prepared {
                "EXECUTE again(4)"
            } else {
                text
            };
            // Each finds the tables as they were.
            let undone = if index == last {
                ""
            } else {
                "ROLLBACK TO before; "
            };
            script.push_str(&format!(
                "SAVEPOINT before; SET LOCAL pg_tenancy.missing_context = error; {}; SET LOCAL ROLE {role}; {executed}; RESET ROLE; {undone}",
                step.context.settings()
            ));
        }
        let mut outcome = Outcome {
            lines: Vec::new(),
            keys: Vec::new(),
            error: None,
            state: Vec::new(),
        };
        match self.client.simple_query(&script) {
            Ok(messages) => take(&messages, &mut outcome),
            Err(error) => {
                let error = error
                    .as_db_error()
                    .unwrap_or_else(|| panic!("the session ended: {error:?}\n{script}"));
                let text = format!("{} {}", error.code().code(), error.message());
                outcome.error = Some(text.replace(&format!("{schema}."), ""));
            }
        }
        if outcome.error.is_none() && statement.writes {
            let rows = self.client.rows(&self.state);
            outcome.state = rows.into_iter().flatten().flatten().collect();
        }
        self.client.ok(if statement.is_prepared {
            "ROLLBACK; DEALLOCATE ALL"
        } else {
            "ROLLBACK"
        });
        if !statement.is_ordered {
            outcome.lines.sort();
        }
        outcome
    }

    /// What was recorded since the last time, by the labels of the statements.
    pub fn take_records(&mut self) -> BTreeMap<String, BTreeSet<Record>> {
        let rows = self.client.rows(
            "SELECT application_name, split_part(relation::regclass::text, '.', 2), coalesce(row_tenant, 'none'),
                    command, kind, \"precision\", coalesce(confirmed, false)
             FROM tenancy.shadow_recorded();
             SELECT tenancy.shadow_clear()",
        );
        let mut records: BTreeMap<String, BTreeSet<Record>> = BTreeMap::new();
        for row in rows.into_iter().filter(|row| row.len() == 7) {
            let row: Vec<String> = row.into_iter().map(Option::unwrap_or_default).collect();
            let [label, table, tenant, command, kind, precision, confirmed] =
                row.try_into().expect("seven columns");
            records.entry(label).or_default().insert(Record {
                tag: (table, tenant),
                command,
                kind,
                precision,
                is_confirmed: confirmed == "t",
            });
        }
        records
    }

    pub fn version(&self) -> u32 {
        self.database.server().version
    }
}

fn take(messages: &[SimpleQueryMessage], outcome: &mut Outcome) {
    for message in messages {
        match message {
            // One for each execution that returns rows, even if there are none.
            SimpleQueryMessage::RowDescription(_) => outcome.keys.push(Vec::new()),
            SimpleQueryMessage::Row(row) => {
                let columns: Vec<Option<String>> = (0..row.len())
                    .map(|index| row.get(index).map(str::to_owned))
                    .collect();
                let shown: Vec<&str> = columns
                    .iter()
                    .map(|column| column.as_deref().unwrap_or("null"))
                    .collect();
                outcome.lines.push(shown.join("|"));
                if let Some(rows) = outcome.keys.last_mut() {
                    rows.push(columns);
                }
            }
            SimpleQueryMessage::CommandComplete(count) => {
                outcome.lines.push(format!("count {count}"));
            }
            _ => {}
        }
    }
}
