//! `cargo demo`: one Postgres, the extension, and what it does, in readable output.
//!
//! Shows the OKR system of `tests/scenarios/okr` through the application's role. Must never show
//! anything that it did not just get from the server.

use anyhow::{Context, Result};
use comfy_table::{ContentArrangement, Table, presets};
use postgres::error::DbError;
use postgres::{Client, NoTls, SimpleQueryMessage};

use crate::cluster::Cluster;
use crate::fixture::Server;
use crate::progress::step;
use crate::run_dir::RunDir;
use crate::{matrix, provision, run_dir, toolchain};

const SCHEMA: &str = include_str!("../../tests/scenarios/okr/schema.sql");
const SEED: &str = include_str!("../../tests/scenarios/okr/seed.sql");
const PROTECT: &str = include_str!("../../tests/scenarios/okr/protect.sql");
const DASHBOARD: &str = include_str!("../../tests/scenarios/okr/dashboard.sql");
const DATABASE: &str = "okr";
const APPLICATION: &str = "stratixv2_app";

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Leave the cluster running and print how to connect to it
    #[arg(long)]
    pub keep: bool,
}

pub fn run(args: &Args) -> Result<()> {
    run_dir::clean_up_on_signals()?;
    toolchain::for_extension()?;
    provision::ensure_packages(provision::Need::BuildExtension)?;
    let version = provision::any_server()?.version;
    let mut run = RunDir::create()?;
    if args.keep {
        run.keep()?;
    }
    let tree = matrix::ready_tree(version, run.path())?;
    step(
        "demo",
        format!("starting a private cluster ({})", tree.description()),
    );
    let cluster = Cluster::create(run.path(), &tree.bin_dir(), "demo")
        .set("shared_preload_libraries", "pg_tenancy")
        .keep(args.keep)
        .start()?;
    let server = cluster.server();
    set_up(server)?;
    show(server)?;
    if args.keep {
        println!("\nThe cluster keeps running. Connect as the application with");
        println!(
            "  {}/psql -h {} -p {} -U {APPLICATION} {DATABASE}",
            server.bin_dir.display(),
            server.socket_dir.display(),
            server.port
        );
        println!("and begin with\n  BEGIN; SET LOCAL app.current_user_id = 'user-a-1';");
        println!(
            "Stop it with\n  kill -INT $(head -1 {}/postmaster.pid)",
            server.data_dir.display()
        );
    }
    Ok(())
}

fn set_up(server: &'static Server) -> Result<()> {
    heading("Setting up");
    let superuser = &server.superuser;
    session(server, "postgres", superuser)?
        .batch_execute(&format!("CREATE DATABASE {DATABASE}"))?;
    let mut owner = session(server, DATABASE, superuser)?;
    owner.batch_execute("CREATE EXTENSION pg_tenancy")?;
    owner.batch_execute(SCHEMA)?;
    owner.batch_execute(SEED)?;
    println!("{}", PROTECT.trim());
    print_result(owner.simple_query(PROTECT)?);
    Ok(())
}

fn show(server: &'static Server) -> Result<()> {
    let mut application = session(server, DATABASE, APPLICATION)?;
    heading("User A and user B ask for the same dashboard, through the application's role");
    for user in ["user-a-1", "user-b-1"] {
        println!("SET LOCAL app.current_user_id = '{user}'; <the dashboard query>");
        as_user(&mut application, user, |client| {
            print_result(client.simple_query(DASHBOARD)?);
            Ok(())
        })?;
    }

    heading("User B tries each command on rows of organisation A");
    let foreign = "tenant_id = md5('org-a')::uuid";
    for statement in [
        format!("SELECT count(*) FROM objectives WHERE {foreign}"),
        format!("UPDATE objectives SET title = 'mine' WHERE {foreign}"),
        format!("DELETE FROM objectives WHERE {foreign}"),
        "INSERT INTO objectives (tenant_id, title, department) VALUES (md5('org-a')::uuid, 'planted', 'Sales')"
            .to_owned(),
        "UPDATE objectives SET tenant_id = md5('org-a')::uuid".to_owned(),
    ] {
        println!("{statement};");
        as_user(&mut application, "user-b-1", |client| {
            print_outcome(client, &statement);
            Ok(())
        })?;
    }

    heading("Guest C belongs to nobody, then is invited into organisation A");
    println!("SET LOCAL app.current_user_id = 'guest-c';");
    let count = "SELECT count(*) AS objectives, min(title) AS first FROM objectives";
    as_user(&mut application, "guest-c", |client| {
        print_outcome(client, count);
        Ok(())
    })?;
    let invitation =
        "UPDATE neon_auth.users_sync SET tenant_id = md5('org-a')::uuid WHERE id = 'guest-c'";
    println!("another session: {invitation};");
    session(server, DATABASE, &server.superuser)?.batch_execute(invitation)?;
    println!("the next statement of the first session:");
    as_user(&mut application, "guest-c", |client| {
        print_outcome(client, count);
        Ok(())
    })?;

    heading("No context at all");
    println!("{count};");
    print_outcome(&mut application, count);
    println!("SET pg_tenancy.missing_context = deny; {count};");
    application.batch_execute("SET pg_tenancy.missing_context = deny")?;
    print_outcome(&mut application, count);
    Ok(())
}

fn session(server: &'static Server, database: &str, role: &str) -> Result<Client> {
    let client = server.config(database, role).connect(NoTls);
    client.with_context(|| format!("cannot connect to {database} as {role}"))
}

/// Runs something in a transaction of that user, which leaves nothing behind.
fn as_user(
    client: &mut Client,
    user: &str,
    work: impl FnOnce(&mut Client) -> Result<()>,
) -> Result<()> {
    client.batch_execute(&format!("BEGIN; SET LOCAL app.current_user_id = '{user}'"))?;
    let result = work(client);
    client.batch_execute("ROLLBACK")?;
    result
}

fn heading(text: &str) {
    println!("\n== {text}\n");
}

fn print_outcome(client: &mut Client, statement: &str) {
    match client.simple_query(statement) {
        Ok(messages) => print_result(messages),
        Err(error) => match error.as_db_error() {
            Some(error) => print_error(error),
            None => println!("  {error}"),
        },
    }
    println!();
}

fn print_error(error: &DbError) {
    println!("  ERROR {}: {}", error.code().code(), error.message());
    for (name, text) in [("DETAIL", error.detail()), ("HINT", error.hint())] {
        if let Some(text) = text {
            println!("  {name}: {text}");
        }
    }
}

/// Columns of a terminal that every terminal has.
const WIDTH: u16 = 110;

fn new_table() -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::ASCII_BORDERS_ONLY_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH);
    table
}

fn print_result(messages: Vec<SimpleQueryMessage>) {
    let mut table = new_table();
    let mut rows = 0;
    for message in messages {
        match message {
            SimpleQueryMessage::Row(row) => {
                if rows == 0 {
                    table.set_header(row.columns().iter().map(|column| column.name()));
                }
                rows += 1;
                table.add_row((0..row.len()).map(|i| row.get(i).unwrap_or("")));
            }
            SimpleQueryMessage::CommandComplete(count) => {
                if rows == 0 {
                    println!("  {count} rows");
                } else if table
                    .row_iter()
                    .next()
                    .is_some_and(|row| row.cell_iter().any(|c| !c.content().is_empty()))
                {
                    println!("{table}");
                }
                table = new_table();
                rows = 0;
            }
            _ => {}
        }
    }
}
