//! Changing a membership: what it costs the writer, and whether every other session sees it in its
//! next statement.
//!
//! Readers hold a context that is cached and used; after each commit all of them are asked, one
//! after the other, each round beginning with another. A reader that answers with the old tenant
//! fails the run.

use std::time::Instant;

use anyhow::{Result, ensure};
use postgres::{Client, Statement};

use super::Bench;
use super::report::{Figure, Unit};
use super::rounds::{Contender, interleave};
use super::session::{self, DATABASE, Session};
use super::stats::Summary;
use super::variant::APPLICATION;

/// Who is moved from tenant to tenant.
const USER: &str = "user-11";
/// Backends that are connected while a change commits.
const READERS: [usize; 3] = [1, 10, 100];

const BOUND: &str = "neon_auth.users_sync";
/// The same table without triggers.
const UNBOUND: &str = "plain.users_unbound";

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let mut owner = session::open(bench.loaded, DATABASE, &bench.loaded.superuser, "")?;
    owner.execute_all(&format!(
        "CREATE TABLE {UNBOUND} (LIKE {BOUND} INCLUDING ALL);
         INSERT INTO {UNBOUND} TABLE {BOUND};
         CREATE TABLE plain.markers (tenant_id uuid PRIMARY KEY);
         INSERT INTO plain.markers SELECT DISTINCT tenant_id FROM {BOUND};
         GRANT SELECT ON plain.markers TO {APPLICATION}"
    ))?;
    owner.execute_all(&format!("VACUUM (ANALYZE) {UNBOUND}, plain.markers"))?;
    owner.execute_all("SELECT * FROM tenancy.protect_table('plain.markers', mode => 'enforce')")?;

    let mut figures = writers(bench)?;
    for readers in READERS {
        figures.extend(broadcast(bench, readers)?);
    }
    Ok(figures)
}

/// Moves a user on to the next tenant.
struct Writer {
    session: Client,
    update: Statement,
    number: u64,
    tenants: u64,
}

impl Writer {
    fn open(bench: &Bench, table: &str) -> Result<Writer> {
        let mut session = session::open(bench.loaded, DATABASE, &bench.loaded.superuser, "")?;
        let update = session.prepare(&format!(
            "UPDATE {table} SET tenant_id = plain.tenant($1) WHERE id = '{USER}'"
        ))?;
        Ok(Writer {
            session,
            update,
            number: 0,
            tenants: bench.scale.tenants,
        })
    }

    /// Commits one change and returns the time in microseconds.
    fn change(&mut self) -> Result<f64> {
        self.number = (self.number + 1) % self.tenants;
        let number = self.number as i64;
        let since = Instant::now();
        let changed = self.session.execute(&self.update, &[&number])?;
        let time = since.elapsed().as_secs_f64() * 1e6;
        ensure!(changed == 1, "{changed} memberships changed");
        Ok(time)
    }

    fn tenant(&mut self) -> Result<String> {
        self.session
            .value(&format!("SELECT plain.tenant({})", self.number))
    }
}

/// What triggers and messages add to a change.
fn writers(bench: &Bench) -> Result<Vec<Figure>> {
    let updates = bench.scale.updates;
    let mut contenders = Vec::new();
    for table in [UNBOUND, BOUND] {
        let mut writer = Writer::open(bench, table)?;
        contenders.push(Contender::new(move || {
            let mut total = 0.0;
            for _ in 0..updates {
                total += writer.change()?;
            }
            Ok(total / f64::from(updates))
        }));
    }
    let summaries = interleave(bench.scale.rounds, contenders)?;
    let [without, with] = summaries.try_into().expect("a summary for each contender");
    let figure = |contender, summary| {
        Figure::new("membership change", contender, Unit::Microseconds, summary)
    };
    Ok(vec![
        figure("table not bound", without.clone()),
        figure("bound table", with).against("not bound", &without),
    ])
}

struct Reader {
    session: Client,
    ask: Statement,
}

impl Reader {
    fn open(bench: &Bench) -> Result<Reader> {
        let options = format!("-c app.current_user_id={USER}");
        let mut session = session::open(bench.loaded, DATABASE, APPLICATION, &options)?;
        let ask = session.prepare("SELECT tenant_id::text FROM plain.markers")?;
        Ok(Reader { session, ask })
    }

    /// Asks for all visible rows of a protected table, of which each tenant has one; microseconds.
    fn ask(&mut self, expected: &str) -> Result<f64> {
        let since = Instant::now();
        let rows = self.session.query(&self.ask, &[])?;
        let time = since.elapsed().as_secs_f64() * 1e6;
        let seen: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        ensure!(
            seen == [expected],
            "STALE: {seen:?} visible instead of {expected}"
        );
        Ok(time)
    }
}

fn broadcast(bench: &Bench, count: usize) -> Result<Vec<Figure>> {
    let mut writer = Writer::open(bench, BOUND)?;
    let mut idle_writer = Writer::open(bench, UNBOUND)?;
    let mut readers = Vec::new();
    for _ in 0..count {
        readers.push(Reader::open(bench)?);
    }
    writer.change()?;
    let mut tenant = writer.tenant()?;
    for reader in &mut readers {
        // Often enough for the server to settle on a generic plan.
        for _ in 0..8 {
            reader.ask(&tenant)?;
        }
    }
    let (mut commits, mut idle_commits) = (Vec::new(), Vec::new());
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for round in 0..bench.scale.broadcasts {
        idle_commits.push(idle_writer.change()?);
        commits.push(writer.change()?);
        tenant = writer.tenant()?;
        let (mut firsts, mut seconds) = (0.0, 0.0);
        for place in 0..count {
            let reader = &mut readers[(place + round * 7) % count];
            firsts += reader.ask(&tenant)?;
            seconds += reader.ask(&tenant)?;
        }
        first.push(firsts / count as f64);
        second.push(seconds / count as f64);
    }
    let asked = bench.scale.broadcasts * count;
    let what = format!("{count} backends, 0 of {asked} answers stale");
    let figure = |contender, samples| {
        Figure::new(&what, contender, Unit::Microseconds, Summary::of(samples))
    };
    let (idle, second) = (Summary::of(idle_commits), Summary::of(second));
    Ok(vec![
        figure("commit, bound table", commits).against("not bound", &idle),
        figure("first statement after", first).against("the second", &second),
    ])
}
