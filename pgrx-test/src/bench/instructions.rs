//! Instructions of a backend, counted by valgrind: exact where a busy machine leaves times unsure.
//!
//! Counts what the backend executes itself, without the kernel and without waiting, so a ratio here
//! is larger than the same ratio of rates. The first transactions of a session, which fill caches,
//! are taken off: counted is the difference between a longer and a shorter session.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use postgres::Client;

use super::Bench;
use super::filters;
use super::report::{Figure, Unit};
use super::resolution::{self, Step};
use super::schema;
use super::session::{self, DATABASE, Session};
use super::statements::{self, Kind};
use super::stats::Summary;
use super::variant::{APPLICATION, Identity, Variant};
use crate::cluster::{Cluster, Shutdown};
use crate::fixture::Server;
use crate::progress::step;
use crate::{exec, user};

/// Executions in the shorter session; the longer one has three times as many.
const EXECUTIONS: u64 = 300;
/// Users of a walk: more than the cache holds.
const USERS: u64 = 3_000;
const EXIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Counts on the clusters of the run, which it stops and starts again under valgrind.
pub(crate) fn measure(bench: &Bench, clusters: [&mut Cluster; 2]) -> Result<Vec<Figure>> {
    exec::run(Command::new("valgrind").arg("--version"))
        .context("instructions are counted by valgrind: install the package valgrind")?;
    resolution::make_walk(bench.loaded, DATABASE, "counted", USERS, USERS)?;
    resolution::make_walk(bench.loaded, DATABASE, "counted_warm", USERS / 100, USERS)?;
    let identity = schema::identity(bench)?;
    let counts = bench.scratch.join("callgrind");
    fs::create_dir(&counts)?;
    user::give_to_server_user(&counts)?;
    let mut watched = Vec::new();
    for cluster in clusters {
        cluster.stop(Shutdown::Fast)?;
        watched.push(under_valgrind(cluster.server(), &counts)?);
    }
    let counter = Counter { bench, counts };
    let mut figures = Vec::new();
    for kind in Kind::ALL {
        step("bench", format!("instructions, {}", kind.name()));
        figures.extend(counter.lookups(kind, &identity)?);
    }
    step("bench", "instructions, sequential filter");
    figures.extend(counter.filters(&identity)?);
    step("bench", "instructions, resolution");
    figures.extend(counter.resolutions()?);
    for mut cluster in watched {
        cluster.stop(Shutdown::Fast)?;
    }
    Ok(figures)
}

/// Starts a stopped server again; every process of it writes its count to a file named by its pid.
fn under_valgrind(server: &Server, counts: &Path) -> Result<Cluster> {
    let folder = server
        .data_dir
        .parent()
        .context("a data directory has a parent")?;
    let bin_dir = folder.join("valgrind");
    fs::create_dir(&bin_dir)?;
    let program = bin_dir.join("postgres");
    fs::write(
        &program,
        format!(
            "#!/bin/sh\nexec valgrind --quiet --tool=callgrind --trace-children=yes \
             --callgrind-out-file='{}/%p' '{}/postgres' \"$@\"\n",
            counts.display(),
            server.bin_dir.display()
        ),
    )?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let server = Server {
        bin_dir,
        ..server.clone()
    };
    let cluster = Cluster::adopt(server, folder.to_owned())?;
    // The first session after a start rebuilds what the later ones find in files.
    session::open(cluster.server(), DATABASE, APPLICATION, "")?.value("SELECT 1")?;
    Ok(cluster)
}

struct Counter<'a> {
    bench: &'a Bench,
    counts: PathBuf,
}

impl Counter<'_> {
    fn lookups(&self, kind: Kind, identity: &Identity) -> Result<Vec<Figure>> {
        let mut counts = Vec::new();
        for variant in Variant::LOOKUPS {
            let open = || kind.open(self.bench, variant, identity);
            let count = self.difference(open, EXECUTIONS, |session, times| {
                statements::repeat(session, kind, variant, identity, times)
            })?;
            counts.push((variant, count));
        }
        let literal = counts
            .iter()
            .find(|(variant, _)| *variant == Variant::Literal);
        let literal = literal.map(|(_, count)| count.clone());
        let literal = literal.context("the literal is counted")?;
        let what = format!("instructions, {}", kind.name());
        let figure = |(variant, count): (Variant, Summary)| {
            Figure::new(&what, variant.name(), Unit::Instructions, count)
                .against("literal", &literal)
        };
        Ok(counts.into_iter().map(figure).collect())
    }

    /// For each row of the table.
    fn filters(&self, identity: &Identity) -> Result<Vec<Figure>> {
        let count = |variant: Variant| {
            let query = filters::query(variant, identity);
            let open = || {
                let mut session = variant.open(self.bench, identity)?;
                session.execute_all(filters::SEQUENTIAL)?;
                Ok(session)
            };
            let whole = self.difference(open, 1, |session, scans| {
                for _ in 0..scans {
                    session.value(&query)?;
                }
                Ok(())
            })?;
            anyhow::Ok(whole.times(1.0 / self.bench.scale.rows as f64))
        };
        let literal = count(Variant::Literal)?;
        let mut figures = Vec::new();
        for variant in [Variant::Tenancy, Variant::SubSelect, Variant::Setting] {
            let what = "instructions, a row of the filter";
            let figure = Figure::new(what, variant.name(), Unit::Instructions, count(variant)?);
            figures.push(figure.against("literal", &literal));
        }
        Ok(figures)
    }

    fn resolutions(&self) -> Result<Vec<Figure>> {
        let count = |step, table: &str| {
            let open = || session::open(self.bench.loaded, DATABASE, APPLICATION, "");
            let whole = self.difference(open, 1, |session, walks| {
                for _ in 0..walks {
                    resolution::walk(session, step, table)?;
                }
                Ok(())
            })?;
            anyhow::Ok(whole.times(1.0 / USERS as f64))
        };
        let set = count(Step::Set, "counted")?;
        let no_lookup = count(Step::NoLookup, "counted")?;
        let spi = count(Step::Lookup, "counted")?.minus(&no_lookup);
        let cold = count(Step::Resolve, "counted")?.minus(&set);
        let set_warm = count(Step::Set, "counted_warm")?;
        let warm = count(Step::Resolve, "counted_warm")?.minus(&set_warm);
        let in_loop = count(Step::Loop, "counted")?;
        let plain = count(Step::SetPlain, "counted")?.minus(&in_loop);
        let set = set.minus(&in_loop);
        let figure = |what, summary| {
            Figure::new(
                "instructions, resolution",
                what,
                Unit::Instructions,
                summary,
            )
        };
        Ok(vec![
            figure("prepared SPI lookup", spi.clone()),
            figure("cold", cold).against("prepared SPI", &spi),
            figure("warm", warm).against("prepared SPI", &spi),
            figure("set_config of nobody's setting", plain.clone()),
            figure("set_config of app.current_user_id", set).against("nobody's", &plain),
        ])
    }

    /// Instructions for each of `times` executions, without those of beginning and ending a session.
    fn difference(
        &self,
        open: impl Fn() -> Result<Client>,
        times: u64,
        work: impl Fn(&mut Client, u64) -> Result<()>,
    ) -> Result<Summary> {
        let count = |times| {
            let mut session = open()?;
            let pid = session.value("SELECT pg_backend_pid()")?;
            work(&mut session, times)?;
            drop(session);
            self.total(&pid)
        };
        let (short, long) = (count(times)?, count(3 * times)?);
        Ok(Summary::of(vec![(long - short) / (2 * times) as f64]))
    }

    /// The count of a backend, once it has exited.
    fn total(&self, pid: &str) -> Result<f64> {
        let since = Instant::now();
        while since.elapsed() < EXIT_TIMEOUT {
            if let Ok(text) = fs::read_to_string(self.counts.join(pid))
                && let Some(total) = total_in(&text)
            {
                return Ok(total);
            }
            sleep(Duration::from_millis(50));
        }
        bail!("backend {pid} wrote no count")
    }
}

/// The total at the end of callgrind's file; `None` while it is being written.
fn total_in(text: &str) -> Option<f64> {
    let line = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("totals: "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::total_in;

    #[test]
    fn the_total_is_at_the_end() {
        assert_eq!(
            total_in("events: Ir\nfn=(1)\n7 9\n\ntotals: 236870629\n"),
            Some(236870629.0)
        );
        assert_eq!(total_in("events: Ir\nfn=(1)\n"), None);
    }
}
