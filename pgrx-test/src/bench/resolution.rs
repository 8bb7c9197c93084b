//! From a user to a tenant: cold, by reading the bound table, and warm, from the cache.
//!
//! One statement walks over users: it sets the user, then asks. Each difference between two such
//! statements is one step, per user: *set and ask* less *set* is the resolution. What it is compared
//! with is one prepared SPI lookup by primary key, from a PL/pgSQL function: *set and that function*
//! less *set and a function without the lookup*. Users are more than the cache holds and come in the
//! order of a hash, so each of them is cold in every round, and the two kinds of lookup read the
//! same pages.

use anyhow::{Result, ensure};
use postgres::Client;

use super::Bench;
use super::report::{Bound, Figure, Unit};
use super::rounds::{Contender, interleave};
use super::session::{self, DATABASE, Measured, Session};
use super::variant::APPLICATION;
use crate::fixture::Server;

/// What is done for each user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing: the loop.
    Loop,
    /// A setting that no library watches is set.
    SetPlain,
    /// The user is set.
    Set,
    /// The user is set, and the tenant asked for.
    Resolve,
    /// The user is set, and the tenant looked up by PL/pgSQL.
    Lookup,
    /// The user is set, and PL/pgSQL called without a lookup.
    NoLookup,
}

impl Step {
    fn set(self) -> &'static str {
        match self {
            Step::Loop => "id",
            Step::SetPlain => "set_config('plain.current_user_id', id, true)",
            _ => "set_config('app.current_user_id', id, true)",
        }
    }

    fn ask(self) -> &'static str {
        match self {
            Step::Loop | Step::SetPlain | Step::Set => "tenant_id",
            Step::Resolve => "current_tenant_id()",
            Step::Lookup => "plain.lookup(id, tenant_id)",
            Step::NoLookup => "plain.no_lookup(id, tenant_id)",
        }
    }

    /// The statement for users in a table; it returns the number of those it got a wrong tenant for.
    fn statement(self, table: &str) -> String {
        format!(
            "SELECT count(*) FILTER (WHERE asked IS DISTINCT FROM tenant_id), count(was_set)
             FROM (SELECT {set} AS was_set, {ask} AS asked, tenant_id FROM {table} OFFSET 0) s",
            set = self.set(),
            ask = self.ask(),
        )
    }
}

/// Makes the list of users to walk over. `distinct` of them repeat until there are `count`.
pub(crate) fn make_walk(
    server: &Server,
    database: &str,
    table: &str,
    distinct: u64,
    count: u64,
) -> Result<()> {
    let mut owner = session::open(server, database, &server.superuser, "")?;
    owner.execute_all(&format!(
        "CREATE TABLE plain.{table} AS
             SELECT id, tenant_id FROM (
                 SELECT * FROM neon_auth.users_sync ORDER BY md5(id) LIMIT {distinct}) u,
                 generate_series(1, {repetitions});
         ANALYZE plain.{table};
         GRANT SELECT ON plain.{table} TO {APPLICATION}",
        repetitions = count / distinct,
    ))
}

/// Does the step for each user of the list, in one transaction.
pub(crate) fn walk(session: &mut Client, step: Step, table: &str) -> Result<()> {
    session.execute_all("BEGIN")?;
    let wrong = session.value(&step.statement(&format!("plain.{table}")))?;
    session.execute_all("COMMIT")?;
    ensure!(wrong == "0", "{step:?}: {wrong} users have a wrong tenant");
    Ok(())
}

/// A contender that does the step for all users of the list; microseconds for each.
pub(crate) fn contender(
    server: &Server,
    database: &str,
    step: Step,
    table: &'static str,
    users: u64,
) -> Result<Contender<'static>> {
    // Each in a session of its own, lest one fill another's caches.
    let mut session = Measured::new(session::open(server, database, APPLICATION, "")?)?;
    Ok(Contender::new(move || {
        let (time, ()) = session.time(|session| walk(session, step, table))?;
        Ok(time * 1e3 / users as f64)
    }))
}

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let users = bench.scale.resolutions;
    make_walk(bench.loaded, DATABASE, "cold", users, users)?;
    make_walk(bench.loaded, DATABASE, "warm", users / 200, users)?;
    const STEPS: [(Step, &str); 8] = [
        (Step::Loop, "cold"),
        (Step::SetPlain, "cold"),
        (Step::Set, "cold"),
        (Step::Resolve, "cold"),
        (Step::Lookup, "cold"),
        (Step::NoLookup, "cold"),
        (Step::Set, "warm"),
        (Step::Resolve, "warm"),
    ];
    let mut contenders = Vec::new();
    for (step, table) in STEPS {
        contenders.push(contender(bench.loaded, DATABASE, step, table, users)?);
    }
    let summaries = interleave(bench.scale.rounds, contenders)?;
    let [
        in_loop,
        set_plain,
        set,
        resolve,
        lookup,
        no_lookup,
        set_warm,
        resolve_warm,
    ] = summaries.try_into().expect("a summary for each contender");
    let spi = lookup.minus(&no_lookup);
    let figure =
        |what, contender, summary| Figure::new(what, contender, Unit::Microseconds, summary);
    Ok(vec![
        figure("lookup by primary key", "prepared SPI", spi.clone()),
        figure(
            "lookup by primary key",
            "PL/pgSQL function",
            lookup.minus(&set),
        )
        .against("prepared SPI", &spi),
        figure("resolution", "cold", resolve.minus(&set))
            .against("prepared SPI", &spi)
            .target(Bound::AtMost(1.5)),
        figure(
            "resolution",
            "warm: another cached user",
            resolve_warm.minus(&set_warm),
        )
        .against("prepared SPI", &spi),
        figure(
            "set_config(..., true)",
            "a setting of nobody's",
            set_plain.minus(&in_loop),
        ),
        figure(
            "set_config(..., true)",
            "app.current_user_id",
            set.minus(&in_loop),
        )
        .against("nobody's", &set_plain.minus(&in_loop)),
    ])
}
