//! The corpus of shadow mode: shapes of statements, each run without protection, in shadow mode and
//! enforced, over three schemas with the same data.

use std::collections::{BTreeMap, BTreeSet};

use pgrx_test::fixture::{ClientExt, Database, Server};
use postgres::{Client, SimpleQueryMessage};

/// A statement, or several, and what is known of it.
pub struct Case {
    pub name: String,
    pub statement: String,
    /// The order of rows counts.
    pub is_ordered: bool,
    /// Some plans do not read rows that cannot matter any more: a sorted set operation of 18 ends
    /// with the shorter of its inputs.
    pub stops_early: bool,
    /// What the records are worth at least.
    pub expected: Score,
    level: String,
    visible: Option<String>,
}

/// How a set of records compares with the oracles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Score {
    /// The lost rows, whichever way they are counted.
    Exact,
    /// The rows that matter to the result.
    Visible,
    /// The rows of their own level of the query.
    Level,
    /// More than matter, fewer than the level's.
    Between,
    /// Rows that no oracle names.
    FalseAlarm,
    /// A row that matters is not there.
    Missed,
}

impl Score {
    pub fn of(found: &Rows, level: &Rows, visible: &Rows) -> Score {
        if found == visible && found == level {
            Score::Exact
        } else if found == visible {
            Score::Visible
        } else if found == level {
            Score::Level
        } else if !found.is_superset(visible) {
            Score::Missed
        } else if found.is_subset(level) {
            Score::Between
        } else {
            Score::FalseAlarm
        }
    }

    fn parse(word: &str) -> Score {
        match word {
            "visible" => Score::Visible,
            "level" => Score::Level,
            "between" => Score::Between,
            "false_alarm" => Score::FalseAlarm,
            _ => panic!("unknown score {word:?}"),
        }
    }
}

/// Table and tenant of a row; the tenant is the row, but for tenant 1 and rows without one.
pub type Rows = BTreeSet<(String, String)>;

/// The cases that a version of Postgres understands.
pub fn cases(version: u32) -> Vec<Case> {
    let mut cases = Vec::new();
    for block in include_str!("cases.txt").split("\n## ").skip(1) {
        let mut lines = block.lines().filter(|line| !line.is_empty());
        let head = lines.next().expect("a name");
        let mut words = head.split(' ');
        let name = words.next().expect("a name").to_owned();
        let (mut is_ordered, mut stops_early) = (false, false);
        let (mut since, mut expected) = (15, Score::Exact);
        for word in words {
            match word.split_once('=') {
                Some(("since", number)) => since = number.parse().expect("a version"),
                Some(("score", word)) => expected = Score::parse(word),
                None if word == "ordered" => is_ordered = true,
                None if word == "stops_early" => stops_early = true,
                _ => panic!("unknown word {word:?} of case {name}"),
            }
        }
        let statement = lines.next().expect("a statement").to_owned();
        let (mut level, mut visible) = (None, None);
        for line in lines {
            match line.split_once(": ") {
                Some(("level", sql)) => level = Some(sql.to_owned()),
                Some(("visible", sql)) => visible = Some(sql.to_owned()),
                _ => panic!("unknown line {line:?} of case {name}"),
            }
        }
        if since <= version {
            cases.push(Case {
                level: level.unwrap_or_else(|| panic!("case {name} has no oracle")),
                name,
                statement,
                is_ordered,
                stops_early,
                expected,
                visible,
            });
        }
    }
    cases
}

/// A database with the three schemas.
pub struct Corpus {
    pub database: Database,
    app: String,
}

/// What a statement did.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub lines: Vec<String>,
    pub error: Option<String>,
    /// The tables afterwards.
    pub state: Vec<String>,
}

/// What was recorded of a statement, by precision.
pub type Recorded = BTreeMap<String, Rows>;

const SHADOWED: [&str; 6] = ["org", "t", "c", "tn", "pt", "par"];

impl Corpus {
    pub fn new() -> Corpus {
        let database = Database::new(Server::preloaded());
        let (app, vowner) = (database.role("app"), database.role("vowner"));
        let mut admin = database.superuser();
        admin.ok("SELECT tenancy.bind(tenant_type => 'integer', tenant_setting => 'app.tenant')");
        for schema in ["plain", "shad", "enf"] {
            admin.ok(&include_str!("schema.sql")
                .replace(":schema", schema)
                .replace(":app", &app)
                .replace(":vowner", &vowner));
        }
        for table in SHADOWED {
            admin.ok(&format!(
                "SELECT tenancy.protect_table('shad.{table}', mode => 'shadow')"
            ));
            if table == "tn" {
                // Protection refuses rows without a tenant.
                admin.ok("ALTER TABLE enf.tn ENABLE ROW LEVEL SECURITY;
                     CREATE POLICY own ON enf.tn USING (tenant_id = current_tenant_id_bigint())");
            } else {
                admin.ok(&format!(
                    "SELECT tenancy.protect_table('enf.{table}', mode => 'enforce')"
                ));
            }
        }
        admin.ok("ANALYZE");
        Corpus { database, app }
    }

    /// Runs a case in a transaction that is rolled back.
    pub fn run(&self, client: &mut Client, schema: &str, settings: &str, case: &Case) -> Outcome {
        client.ok(&format!(
            "BEGIN; SET LOCAL search_path = {schema}, public; SET LOCAL app.tenant = '1'; {settings};
             SET LOCAL ROLE {}",
            self.app
        ));
        let (mut lines, mut error) = (Vec::new(), None);
        for statement in case.statement.split("; ") {
            let result = if let Some(copy) = statement.strip_prefix("COPY ") {
                copied(client, copy)
            } else {
                client
                    .simple_query(statement)
                    .map(|messages| shown(&messages))
            };
            match result {
                Ok(mut shown) => lines.append(&mut shown),
                Err(found) => {
                    let found = found.as_db_error().expect("an error of the server").clone();
                    error = Some(format!("{} {}", found.code().code(), found.message()));
                    break;
                }
            }
        }
        let mut state = Vec::new();
        if error.is_none() {
            client.ok("RESET ROLE");
            for query in [
                "SELECT * FROM t ORDER BY id",
                "SELECT * FROM u ORDER BY id",
                "SELECT count(*), sum(id) FROM c",
                "SELECT * FROM pt ORDER BY id",
                "SELECT * FROM par ORDER BY id",
            ] {
                state.extend(client.rows(query).into_iter().map(|row| format!("{row:?}")));
            }
        }
        client.ok("ROLLBACK");
        if !case.is_ordered {
            lines.sort();
        }
        let anywhere = |text: String| text.replace(&format!("{schema}."), "");
        Outcome {
            lines: lines.into_iter().map(anywhere).collect(),
            error: error.map(anywhere),
            state,
        }
    }

    /// What is recorded, and forgets it.
    pub fn take_records(&self, admin: &mut Client) -> Recorded {
        let mut recorded = Recorded::new();
        for row in admin.rows(
            "SELECT \"precision\", split_part(relation::regclass::text, '.', 2), coalesce(row_tenant, 'none'), kind
             FROM tenancy.shadow_recorded() WHERE relation::regclass::text LIKE 'shad.%'",
        ) {
            let [precision, table, tenant, _kind] =
                row.try_into().expect("four columns");
            recorded
                .entry(precision.expect("a precision"))
                .or_default()
                .insert((table.expect("a table"), tenant.expect("a tenant")));
        }
        admin.ok("SELECT tenancy.shadow_clear()");
        recorded
    }

    /// The rows that the oracles of a case name: of its level, and those that matter to the result.
    pub fn oracles(&self, admin: &mut Client, case: &Case) -> (Rows, Rows) {
        let level = rows_of(admin, &case.level);
        let visible = match &case.visible {
            Some(sql) => rows_of(admin, sql),
            None => level.clone(),
        };
        (level, visible)
    }
}

fn rows_of(admin: &mut Client, oracle: &str) -> Rows {
    let tables = ["org", "t", "c", "tn", "pt", "pt1", "par"];
    let all: Vec<String> = tables
        .iter()
        .map(|table| format!("SELECT '{table}' AS name, id::bigint, coalesce(tenant_id::text, 'none') AS tenant FROM plain.{table}"))
        .collect();
    admin
        .rows(&format!(
            "SET search_path = plain; SELECT DISTINCT o.name, coalesce(a.tenant, '2')
             FROM ({oracle}) o(name, id) LEFT JOIN ({}) a ON a.name = o.name AND a.id = o.id;
             RESET search_path",
            all.join(" UNION ALL ")
        ))
        .into_iter()
        .map(|row| {
            let [table, tenant] = row.try_into().expect("two columns");
            (table.expect("a table"), tenant.expect("a tenant"))
        })
        .collect()
}

fn shown(messages: &[SimpleQueryMessage]) -> Vec<String> {
    messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|index| row.get(index).unwrap_or("null"))
                    .collect::<Vec<_>>()
                    .join("|"),
            ),
            SimpleQueryMessage::CommandComplete(count) => Some(format!("count {count}")),
            _ => None,
        })
        .collect()
}

fn copied(client: &mut Client, copy: &str) -> Result<Vec<String>, postgres::Error> {
    use std::io::Read;
    let mut text = String::new();
    client
        .copy_out(&format!("COPY {copy}"))?
        .read_to_string(&mut text)
        .expect("what was copied is text");
    Ok(text.lines().map(str::to_owned).collect())
}
