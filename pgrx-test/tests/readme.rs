//! Every code block of the README is run here, as a reader would run it.

use std::process::{Command, Output};

use pgrx_test::drivers;
use pgrx_test::fixture::{ClientExt, Database, Server};

const README: &str = include_str!("../../README.md");
const CARGO_CONFIG: &str = include_str!("../../.cargo/config.toml");

/// The blocks in order, as (language, text).
fn blocks() -> Vec<(&'static str, &'static str)> {
    let mut parts = README.split("```");
    parts.next();
    let mut blocks = Vec::new();
    while let Some(block) = parts.next() {
        let (language, text) = block.split_once('\n').expect("a block has a first line");
        blocks.push((language, text));
        parts.next();
    }
    blocks
}

fn block(language: &str, contains: &str) -> &'static str {
    let found: Vec<_> = blocks()
        .into_iter()
        .filter(|(l, text)| *l == language && text.contains(contains))
        .collect();
    assert_eq!(found.len(), 1, "one {language} block with {contains:?}");
    found[0].1
}

/// The quickstart in a database of its own. Roles belong to the whole cluster, so the application's
/// gets a name of this test's.
struct Quickstart {
    database: Database,
    application: String,
    output: Output,
}

impl Quickstart {
    fn run() -> Quickstart {
        let database = Database::empty(Server::preloaded());
        let application = format!("notes_app_{}", database.name);
        database.adopt_role(&application);
        let script = block("sql", "CREATE EXTENSION").replace("notes_app", &application);
        // Pasted line by line, an error does not stop what follows.
        let output = database
            .server()
            .command("psql")
            .args(["-X", "-A", "-t", "-d", &database.name, "-c"])
            .arg("\\set ON_ERROR_STOP 0")
            .args(script.lines().flat_map(|line| ["-c", line]))
            .output()
            .expect("psql starts");
        Quickstart {
            database,
            application,
            output,
        }
    }

    /// Runs a program as the application would.
    fn application(&self, mut command: Command) -> String {
        let server = self.database.server();
        let output = command
            .env("PGHOST", &server.socket_dir)
            .env("PGPORT", server.port.to_string())
            .env("PGUSER", &self.application)
            .env("PGDATABASE", &self.database.name)
            .output()
            .expect("the program starts");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

#[test]
fn the_quickstart_shows_what_its_comments_say() {
    let quickstart = Quickstart::run();
    let printed = String::from_utf8_lossy(&quickstart.output.stdout);
    let errors = String::from_utf8_lossy(&quickstart.output.stderr);
    assert!(
        printed.contains("from ann\nno tenant named\n"),
        "{printed}\n{errors}"
    );
    assert!(!printed.contains("from bob"), "{printed}");
    assert_eq!(errors.matches("ERROR").count(), 1, "{errors}");
    assert!(errors.contains("ERROR:  no tenant context"), "{errors}");
    let lines = block("sql", "CREATE EXTENSION").lines().count();
    assert!(lines <= 15, "a quickstart of {lines} lines is too long");
}

#[test]
fn plain_sql_sets_the_context_for_the_transaction() {
    let quickstart = Quickstart::run();
    let mut client = quickstart.database.connect(&quickstart.application);
    assert_eq!(
        client.rows(block("sql", "set_config")).concat().len(),
        3,
        "context and two notes"
    );
    client.error("SELECT body FROM notes");
}

#[test]
fn psycopg_sets_the_context_for_the_transaction() {
    let quickstart = Quickstart::run();
    let mut python = Command::new(drivers::python().expect("psycopg is there"));
    python.args(["-c", block("python", "psycopg")]);
    let printed = quickstart.application(python);
    assert_eq!(printed.trim(), "['from ann', 'no tenant named']");
}

#[test]
fn node_postgres_sets_the_context_for_the_transaction() {
    let quickstart = Quickstart::run();
    let folder = drivers::node().expect("node-postgres is there");
    let mut node = Command::new("node");
    node.current_dir(folder)
        .args(["--input-type=module", "-e", block("js", "pg.Pool")]);
    let printed = quickstart.application(node);
    assert_eq!(printed.trim(), "[ 'from ann', 'no tenant named' ]");
}

/// `cargo matrix` is what runs this test; `cargo demo` is run here.
#[test]
fn the_two_commands_exist_and_the_demo_runs() {
    let commands: Vec<_> = block("sh", "cargo").lines().collect();
    assert_eq!(commands, ["cargo demo", "cargo matrix"]);
    for command in commands {
        let alias = command.trim_start_matches("cargo ");
        let defined = format!("{alias} = \"run --quiet --package pgrx-test -- {alias}\"");
        assert!(CARGO_CONFIG.contains(&defined), "{alias}");
    }
    let demo = Command::new(env!("CARGO_BIN_EXE_pgrx-test"))
        .args(["demo", "--keep"])
        .output()
        .expect("it starts");
    let printed = String::from_utf8_lossy(&demo.stdout);
    // Pasted, as a reader does; stopped before anything is judged.
    let after = |line: &str| printed.split_once(line)?.1.lines().nth(1);
    let answered = after("Connect as the application with").zip(after("and begin with"));
    let answered = answered.map(|(psql, begin)| {
        let ask = "SELECT count(*) || ' of A' FROM objectives WHERE tenant_id = md5('org-a')::uuid; SELECT count(*) || ' of all' FROM objectives;";
        shell(&format!("echo \"{begin} {ask}\" | {psql} -At"))
    });
    let stopped = after("Stop it with").map(shell);
    assert!(
        demo.status.success(),
        "{printed}\n{}",
        String::from_utf8_lossy(&demo.stderr)
    );
    for expected in [
        "new row violates row-level security policy",
        "Objective 1 of A",
        "ERROR 42501: no tenant context",
    ] {
        assert!(printed.contains(expected), "{expected:?} in:\n{printed}");
    }
    let answered = answered.expect("a line for psql");
    assert!(answered.contains("100 of A\n100 of all"), "{answered}");
    assert_eq!(stopped.as_deref(), Some(""));
}

fn shell(line: &str) -> String {
    let ran = Command::new("sh").args(["-c", line]).output();
    let ran = ran.expect("a shell");
    format!(
        "{}{}",
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    )
}

#[test]
fn no_block_is_left_out() {
    let languages: Vec<_> = blocks().into_iter().map(|(language, _)| language).collect();
    assert_eq!(
        languages,
        ["sh", "sql", "sql", "python", "js"],
        "each has its test above"
    );
}
