//! How many denied rows are recorded in a second.

use std::time::Instant;

use anyhow::{Result, ensure};
use postgres::Client;

use crate::bench::Bench;
use crate::bench::filters::SEQUENTIAL;
use crate::bench::report::{Figure, Unit};
use crate::bench::session::Session;
use crate::bench::stats::Summary;
use crate::bench::variant::{Identity, Variant};

/// Rows that are denied, by one session and by eight.
pub(super) fn measure(
    bench: &Bench,
    identity: &Identity,
    owner: &mut Client,
) -> Result<Vec<Figure>> {
    let denied = bench.scale.rows - bench.scale.rows / bench.scale.tenants;
    let query = "SELECT count(*) FROM shadow_shadow.items";
    let mut figures = Vec::new();
    for sessions in [1, 8] {
        let mut rates = Vec::new();
        for _ in 0..bench.scale.slow_rounds {
            owner.execute_all("SELECT tenancy.reset_shadow()")?;
            let mut clients = Vec::new();
            for _ in 0..sessions {
                let mut client = Variant::Tenancy.open(bench, identity)?;
                client.execute_all(SEQUENTIAL)?;
                clients.push(client);
            }
            let since = Instant::now();
            std::thread::scope(|scope| {
                let running: Vec<_> = clients
                    .into_iter()
                    .map(|mut client| scope.spawn(move || client.value(query)))
                    .collect();
                running
                    .into_iter()
                    .try_for_each(|session| session.join().expect("no panic").map(|_| ()))
            })?;
            rates.push((denied * sessions) as f64 / since.elapsed().as_secs_f64());
            let kept: u64 = owner
                .value("SELECT sum(denials) FROM tenancy.shadow_report() WHERE relation = 'shadow_shadow.items'::regclass")?
                .parse()?;
            ensure!(
                kept == denied * sessions,
                "{kept} of {} denials",
                denied * sessions
            );
        }
        figures.push(Figure::new(
            "recording denied rows",
            if sessions == 1 {
                "1 session"
            } else {
                "8 sessions"
            },
            Unit::RowsPerSecond,
            Summary::of(rates),
        ));
    }
    owner.execute_all("SELECT tenancy.reset_shadow()")?;
    Ok(figures)
}
