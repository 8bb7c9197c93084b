//! Memory of a backend that has served every user.
//!
//! `RssAnon` is what the process holds for itself, the library's own memory included, which Postgres
//! does not count; Postgres's own count is shown beside it.

use anyhow::{Context, Result, ensure};
use postgres::Client;

use super::Bench;
use super::report::{Figure, Unit};
use super::session::{self, DATABASE, Session};
use super::stats::Summary;

/// Users of one transaction: few, because a transaction keeps all contexts it has used.
const TRANSACTION: u64 = 100;

/// How a backend walks through the users.
struct Walk {
    name: &'static str,
    options: &'static str,
    setting: &'static str,
    ask: &'static str,
}

const WALKS: [Walk; 3] = [
    Walk {
        name: "settings only, nothing resolved",
        options: "",
        setting: "plain.current_user_id",
        ask: "1",
    },
    Walk {
        name: "cache_entries = 1024 (default)",
        options: "",
        setting: "app.current_user_id",
        ask: "current_tenant_id()",
    },
    Walk {
        name: "cache_entries = 100000",
        options: "-c pg_tenancy.cache_entries=100000",
        setting: "app.current_user_id",
        ask: "current_tenant_id()",
    },
];

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let users = bench.scale.users;
    let mut figures = Vec::new();
    for walk in &WALKS {
        let (process, postgres) = growth(bench, walk, users, TRANSACTION)?;
        let what = format!("growth after {users} users");
        let figure = |contender: String, kilobytes| {
            Figure::new(
                &what,
                contender,
                Unit::Kilobytes,
                Summary::of(vec![kilobytes]),
            )
        };
        figures.push(figure(walk.name.to_owned(), process));
        figures.push(figure(
            format!("of it Postgres's own, {}", walk.name),
            postgres,
        ));
    }
    let at_once = users / 10;
    let (process, _) = growth(bench, &WALKS[1], at_once, at_once)?;
    figures.push(Figure::new(
        format!("growth after {at_once} users in one transaction"),
        WALKS[1].name,
        Unit::Kilobytes,
        Summary::of(vec![process]),
    ));
    Ok(figures)
}

/// Kilobytes by which the process and Postgres's memory contexts in it have grown.
fn growth(bench: &Bench, walk: &Walk, users: u64, transaction: u64) -> Result<(f64, f64)> {
    let superuser = &bench.loaded.superuser;
    let mut session = session::open(bench.loaded, DATABASE, superuser, walk.options)?;
    let pid = session.value("SELECT pg_backend_pid()")?;
    // A few first: what every backend needs at first does not count.
    pass(&mut session, walk, 0, 10)?;
    let before = (anonymous(&pid)?, contexts(&mut session)?);
    for first in (0..users).step_by(usize::try_from(transaction)?) {
        pass(&mut session, walk, first, users.min(first + transaction))?;
    }
    let after = (anonymous(&pid)?, contexts(&mut session)?);
    Ok((after.0 - before.0, after.1 - before.1))
}

fn pass(session: &mut Client, walk: &Walk, first: u64, end: u64) -> Result<()> {
    session.execute_all("BEGIN")?;
    let resolved = session.value(&format!(
        "SELECT count(asked) FROM (
             SELECT set_config('{}', 'user-' || n, true), {} AS asked
             FROM generate_series({first}, {end} - 1) n OFFSET 0) s",
        walk.setting, walk.ask
    ))?;
    session.execute_all("COMMIT")?;
    ensure!(
        resolved == (end - first).to_string(),
        "only {resolved} users were resolved"
    );
    Ok(())
}

/// Kilobytes of memory that belong to the process alone.
fn anonymous(pid: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let line = line.context("no RssAnon in /proc/PID/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Kilobytes that Postgres counts as allocated.
fn contexts(session: &mut Client) -> Result<f64> {
    let text = session.value("SELECT sum(total_bytes) / 1024 FROM pg_backend_memory_contexts")?;
    Ok(text.parse()?)
}
