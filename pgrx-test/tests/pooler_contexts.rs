//! A real PgBouncer in transaction mode: whatever clients leave behind, nobody sees another tenant's
//! row and nobody inherits a context.
//!
//! `PG_TENANCY_TEST_POOLER_TRANSACTIONS` is the number of transactions of each client, 1,000 by default.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use pgrx_test::fixture::{ClientExt, Database, Server, describe};
use pgrx_test::pgbouncer::PgBouncer;
use postgres::{Client, SimpleQueryMessage};

const CLIENTS: u64 = 50;
const TENANTS: u64 = 20;
const ROWS: u64 = 5;

fn transactions() -> u64 {
    std::env::var("PG_TENANCY_TEST_POOLER_TRANSACTIONS")
        .map(|text| text.parse().expect("a number"))
        .unwrap_or(1000)
}

fn tenant(number: u64) -> String {
    format!("aaaaaaaa-0000-0000-0000-{number:012}")
}

/// What a statement gave: the tenants of the rows it returned, or the SQLSTATE of its error.
#[derive(Debug, PartialEq)]
enum Outcome {
    Tenants(Vec<String>),
    Error(String),
}

fn run(client: &mut Client, sql: &str) -> Outcome {
    match client.simple_query(sql) {
        Ok(messages) => Outcome::Tenants(
            messages
                .iter()
                .filter_map(|message| match message {
                    SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("none").to_owned()),
                    _ => None,
                })
                .collect(),
        ),
        Err(error) => Outcome::Error(
            error
                .as_db_error()
                .unwrap_or_else(|| panic!("{}: {sql}", describe(&error)))
                .code()
                .code()
                .to_owned(),
        ),
    }
}

/// The same sequence of numbers for the same client in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound
    }
}

#[derive(Default)]
struct Tally {
    kinds: BTreeMap<&'static str, u64>,
    rows: u64,
    wrong: Vec<String>,
}

struct Pool {
    pooler: PgBouncer,
    database: String,
    role: String,
}

fn one_client(pool: &Pool, number: u64, count: u64) -> Tally {
    let connect = || pool.pooler.connect(&pool.database, &pool.role);
    let mut client = connect();
    let mut dice = Dice(number + 1);
    let mut tally = Tally::default();
    for round in 0..count {
        let mine = dice.below(TENANTS);
        let other = (mine + 1 + dice.below(TENANTS - 1)) % TENANTS;
        let (user, stranger) = (format!("user-{mine}"), format!("user-{other}"));
        let read = "SELECT tenant_id FROM docs";
        let own = Outcome::Tenants(vec![tenant(mine); ROWS as usize]);
        let none = Outcome::Error("42501".into());
        let (kind, found, expected) = match dice.below(16) {
            0 | 1 => (
                "set local",
                run(&mut client, &format!("BEGIN; SET LOCAL app.current_user_id = '{user}'; {read}; COMMIT")),
                own,
            ),
            2 => {
                client.ok("BEGIN");
                client.ok(&format!("SET app.current_user_id = '{user}'"));
                let found = run(&mut client, read);
                client.ok("COMMIT");
                ("set", found, own)
            }
            3 => (
                "set without a transaction",
                run(&mut client, &format!("SET app.current_user_id = '{user}'; {read}")),
                own,
            ),
            4 => {
                client.ok("BEGIN");
                client.ok(&format!("SELECT set_config('app.current_user_id', '{user}', {})", dice.below(2) == 0));
                let found = run(&mut client, read);
                client.ok("COMMIT");
                ("set_config", found, own)
            }
            // The setting is left behind in a session that may not even have the library.
            5 => (
                "leaves a setting behind",
                run(&mut client, &format!("SET app.current_user_id = '{user}'; SET app.current_tenant_id = '{}'", tenant(mine))),
                Outcome::Tenants(vec![]),
            ),
            6 | 7 => ("sets nothing, reads", run(&mut client, read), none),
            8 => (
                "sets nothing, asks",
                run(&mut client, "SELECT current_tenant_id()"),
                Outcome::Tenants(vec!["none".into()]),
            ),
            9 => (
                "sets nothing, writes",
                run(&mut client, &format!("INSERT INTO docs VALUES ('{}', 0)", tenant(mine))),
                none,
            ),
            10 => {
                client.ok("BEGIN");
                client.ok(&format!("SET app.current_user_id = '{user}'"));
                let first = run(&mut client, "SELECT 1 / 0");
                assert_eq!(first, Outcome::Error("22012".into()));
                let found = run(&mut client, read);
                client.ok(if dice.below(2) == 0 { "COMMIT" } else { "ROLLBACK" });
                ("aborted", found, Outcome::Error("25P02".into()))
            }
            11 => (
                "rollback to",
                run(&mut client, &format!(
                    "BEGIN; SET LOCAL app.current_user_id = '{user}'; SAVEPOINT s; SET app.current_user_id = '{stranger}';
                     INSERT INTO docs VALUES ('{}', 9); ROLLBACK TO s; {read}; ROLLBACK", tenant(other))),
                own,
            ),
            12 => (
                "cursor with hold",
                run(&mut client, &format!(
                    "BEGIN; SET LOCAL app.current_user_id = '{user}'; DECLARE c_{number}_{round} CURSOR WITH HOLD FOR {read}; COMMIT;
                     BEGIN; SET LOCAL app.current_user_id = '{stranger}'; FETCH ALL FROM c_{number}_{round}; COMMIT{}",
                    if dice.below(2) == 0 { format!("; CLOSE c_{number}_{round}") } else { String::new() })),
                own,
            ),
            13 => (
                "another tenant's row",
                run(&mut client, &format!(
                    "BEGIN; SET LOCAL app.current_user_id = '{user}'; INSERT INTO docs VALUES ('{}', 1)", tenant(other))),
                none,
            ),
            14 if dice.below(8) == 0 => {
                client.ok(&format!("BEGIN; SET app.current_user_id = '{user}'"));
                let found = run(&mut client, read);
                // Gone in the middle of the transaction.
                client = connect();
                ("disconnects", found, own)
            }
            14 => (
                "another tenant chosen",
                run(&mut client, &format!(
                    "BEGIN; SET LOCAL app.current_user_id = '{user}'; SET LOCAL app.current_tenant_id = '{}'; {read}", tenant(other))),
                none,
            ),
            _ => (
                "resets",
                run(&mut client, &format!("SET app.current_user_id = '{user}'; RESET ALL; {read}")),
                none,
            ),
        };
        if matches!(kind, "another tenant's row" | "another tenant chosen") {
            client.ok("ROLLBACK");
        }
        *tally.kinds.entry(kind).or_default() += 1;
        if let Outcome::Tenants(rows) = &found {
            tally.rows += rows.len() as u64;
        }
        if found != expected {
            tally.wrong.push(format!(
                "client {number}, round {round}, {kind}: expected {expected:?}, found {found:?}"
            ));
        }
    }
    tally
}

fn storm(server: &'static Server, settings: &[&str]) {
    let count = transactions();
    let database = Database::new(server);
    let role = database.role("app");
    let mut root = database.superuser();
    root.ok(&format!(
        "CREATE TABLE members (user_id text PRIMARY KEY, tenant_id uuid NOT NULL);
         INSERT INTO members SELECT 'user-' || i, ('aaaaaaaa-0000-0000-0000-' || lpad(i::text, 12, '0'))::uuid FROM generate_series(0, {last}) i;
         CREATE TABLE docs (tenant_id uuid NOT NULL, n int);
         INSERT INTO docs SELECT tenant_id, n FROM members, generate_series(1, {ROWS}) n;
         SELECT tenancy.bind(membership => 'members', tenant_setting => 'app.current_tenant_id');
         SELECT tenancy.protect_table('docs', mode => 'enforce');
         GRANT SELECT, INSERT, UPDATE, DELETE ON docs TO {role};
         ANALYZE",
        last = TENANTS - 1
    ));
    let pool = Arc::new(Pool {
        pooler: PgBouncer::start(server, settings).unwrap(),
        database: database.name.clone(),
        role,
    });
    let since = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let pool = pool.clone();
            thread::spawn(move || one_client(&pool, number, count))
        })
        .collect();
    let mut total = Tally::default();
    for client in clients {
        let tally = client.join().expect("a client ends");
        total.rows += tally.rows;
        total.wrong.extend(tally.wrong);
        for (kind, count) in tally.kinds {
            *total.kinds.entry(kind).or_default() += count;
        }
    }
    let seconds = since.elapsed().as_secs_f64();
    let backends = pool
        .pooler
        .log()
        .matches("new connection to server")
        .count();
    println!(
        "{} transactions in {seconds:.1} s, {} rows, {backends} server connections: {:?}",
        CLIENTS * count,
        total.rows,
        total.kinds
    );
    assert!(
        total.wrong.is_empty(),
        "{} wrong answers, such as:\n{}",
        total.wrong.len(),
        total.wrong[..total.wrong.len().min(10)].join("\n")
    );
    assert_eq!(total.kinds.values().sum::<u64>(), CLIENTS * count);
    let of = |kinds: &[&str]| -> u64 {
        kinds
            .iter()
            .map(|kind| total.kinds.get(kind).copied().unwrap_or(0))
            .sum()
    };
    // Every read gave all the rows of its tenant and no other, and nothing was written.
    let reads = of(&[
        "set local",
        "set",
        "set without a transaction",
        "set_config",
        "rollback to",
        "cursor with hold",
        "disconnects",
    ]);
    assert_eq!(total.rows, reads * ROWS + of(&["sets nothing, asks"]));
    if count >= 100 {
        assert_eq!(total.kinds.len(), 15, "{:?}", total.kinds);
    }
    assert_eq!(
        root.int("SELECT count(*) FROM docs"),
        (TENANTS * ROWS) as i64
    );
    let least = if settings
        .iter()
        .any(|line| line.starts_with("server_lifetime"))
    {
        seconds as usize
    } else {
        1
    };
    assert!(backends >= least, "{backends} server connections");
}

#[test]
fn nothing_leaks_through_a_pooler_with_the_library_preloaded() {
    storm(
        Server::preloaded(),
        &["default_pool_size = 10", "log_disconnections = 0"],
    );
}

/// Server connections live for a second, so that the library is loaded late in many of them, often
/// after another client left a setting behind.
#[test]
fn nothing_leaks_through_a_pooler_with_the_library_loaded_late() {
    storm(
        Server::plain(),
        &[
            "default_pool_size = 10",
            "server_lifetime = 1",
            "server_idle_timeout = 1",
            "log_disconnections = 0",
        ],
    );
}
