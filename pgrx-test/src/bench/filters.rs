//! Counting one tenant's rows in a table of a million, by a sequential and by an index scan.

use anyhow::{Result, ensure};
use postgres::Client;

use super::Bench;
use super::report::{Bound, Figure, Unit};
use super::rounds::{Contender, interleave};
use super::schema;
use super::session::{Measured, Session};
use super::variant::{Identity, Variant};

pub(crate) const SEQUENTIAL: &str =
    "SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off";
const INDEX: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off";

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let identity = schema::identity(bench)?;
    let mut figures = Vec::new();
    for (what, settings) in [("sequential filter", SEQUENTIAL), ("index scan", INDEX)] {
        figures.extend(scan(bench, &identity, what, settings)?);
    }
    Ok(figures)
}

fn scan(bench: &Bench, identity: &Identity, what: &str, settings: &str) -> Result<Vec<Figure>> {
    let variants: Vec<_> = [Variant::Bare].into_iter().chain(Variant::LOADED).collect();
    let mut contenders = Vec::new();
    for variant in &variants {
        let contender = contender(bench, *variant, identity, settings)?;
        contenders.push(match variant {
            Variant::Lookup if settings == SEQUENTIAL => contender.at_most(bench.scale.slow_rounds),
            _ => contender,
        });
    }
    let summaries = interleave(bench.scale.rounds, contenders)?;
    let of = |wanted| {
        let place = variants.iter().position(|variant| *variant == wanted);
        &summaries[place.expect("every variant is measured")]
    };
    let mut figures = Vec::new();
    for (variant, summary) in variants.iter().zip(&summaries) {
        let figure = Figure::new(what, variant.name(), Unit::Milliseconds, summary.clone());
        let figure = figure.against("literal", of(Variant::Literal));
        figures.push(match variant {
            Variant::Tenancy => figure.target(Bound::AtMost(1.05)),
            _ => figure,
        });
    }
    if settings == SEQUENTIAL {
        let per_row = of(Variant::Lookup).times(1e6 / bench.scale.rows as f64);
        let ours = of(Variant::Tenancy).times(1e6 / bench.scale.rows as f64);
        figures.push(
            Figure::new(
                "a row of it",
                Variant::Lookup.name(),
                Unit::Nanoseconds,
                per_row,
            )
            .against("pg_tenancy", &ours)
            .target(Bound::AtLeast(40.0)),
        );
    }
    Ok(figures)
}

pub(crate) fn query(variant: Variant, identity: &Identity) -> String {
    format!(
        "SELECT count(*) FROM {}.items WHERE true{}",
        variant.schema(),
        variant.condition("tenant_id", identity)
    )
}

fn contender<'a>(
    bench: &Bench,
    variant: Variant,
    identity: &Identity,
    settings: &str,
) -> Result<Contender<'a>> {
    let query = query(variant, identity);
    let expected = (bench.scale.rows / bench.scale.tenants).to_string();
    let mut session: Client = variant.open(bench, identity)?;
    session.execute_all(settings)?;
    let mut session = Measured::new(session)?;
    Ok(Contender::new(move || {
        let (time, count) = session.time(|session| session.value(&query))?;
        ensure!(
            count == expected,
            "{}: {count} rows instead of {expected}",
            variant.name()
        );
        Ok(time)
    }))
}
