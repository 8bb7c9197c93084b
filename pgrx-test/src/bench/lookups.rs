//! One row by its primary key, with the context given once a connection and once a transaction: the
//! rate that pgbench reaches, and what a lookup costs the backend, which depends less on what else
//! the machine does.

use anyhow::{Result, ensure};

use super::Bench;
use super::pgbench::{Protocol, Script};
use super::report::{Bound, Figure, Unit};
use super::rounds::{Contender, interleave};
use super::schema::{self, ROW};
use super::session::{DATABASE, Measured, Session};
use super::statements::{self, Kind};
use super::variant::{Identity, Variant};

/// Where the context comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    /// In the start-up packet.
    Connection,
    /// By SET LOCAL between BEGIN and COMMIT; the literal sets something too.
    Transaction,
}

impl Given {
    fn name(self) -> &'static str {
        match self {
            Given::Connection => "context of the connection",
            Given::Transaction => "SET LOCAL",
        }
    }
}

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let identity = schema::identity(bench)?;
    let mut figures = Vec::new();
    for given in [Given::Connection, Given::Transaction] {
        for protocol in [Protocol::Prepared, Protocol::Simple] {
            figures.extend(compare(bench, &identity, given, protocol)?);
        }
    }
    for kind in Kind::ALL {
        figures.extend(costs(bench, &identity, kind)?);
    }
    Ok(figures)
}

/// Processor time of the backend for each lookup.
fn costs(bench: &Bench, identity: &Identity, kind: Kind) -> Result<Vec<Figure>> {
    let times = u64::from(bench.scale.transactions) / 4;
    let mut contenders = Vec::new();
    for variant in Variant::LOOKUPS {
        let mut session = Measured::new(kind.open(bench, variant, identity)?)?;
        contenders.push(Contender::new(move || {
            let (time, ()) = session
                .time(|session| statements::repeat(session, kind, variant, identity, times))?;
            Ok(time * 1e3 / times as f64)
        }));
    }
    let summaries = interleave(bench.scale.pgbench_rounds, contenders)?;
    let literal = &summaries[position(Variant::Literal)];
    let what = format!("backend's cost, {}", kind.name());
    let figure = |(variant, summary): (&Variant, &_)| {
        let summary = Clone::clone(summary);
        Figure::new(&what, variant.name(), Unit::Microseconds, summary).against("literal", literal)
    };
    Ok(Variant::LOOKUPS
        .iter()
        .zip(&summaries)
        .map(figure)
        .collect())
}

fn position(wanted: Variant) -> usize {
    let place = Variant::LOOKUPS
        .iter()
        .position(|variant| *variant == wanted);
    place.expect("every variant is compared")
}

fn compare(
    bench: &Bench,
    identity: &Identity,
    given: Given,
    protocol: Protocol,
) -> Result<Vec<Figure>> {
    let mut contenders = Vec::new();
    for variant in Variant::LOOKUPS {
        finds_its_row(bench, variant, identity)?;
        let script = script(bench, identity, given, protocol, variant)?;
        contenders.push(Contender::new(move || script.rate()));
    }
    let summaries = interleave(bench.scale.pgbench_rounds, contenders)?;
    let literal = &summaries[position(Variant::Literal)];
    let what = format!("point lookup, {}, {}", protocol.name(), given.name());
    let figure = |(variant, summary): (&Variant, &_)| {
        let summary = Clone::clone(summary);
        let figure = Figure::new(&what, variant.name(), Unit::TransactionsPerSecond, summary);
        let figure = figure.against("literal", literal);
        match variant {
            Variant::Tenancy | Variant::SessionScope => figure.target(Bound::AtLeast(0.97)),
            _ => figure,
        }
    };
    Ok(Variant::LOOKUPS
        .iter()
        .zip(&summaries)
        .map(figure)
        .collect())
}

fn finds_its_row(bench: &Bench, variant: Variant, identity: &Identity) -> Result<()> {
    let found = variant.open(bench, identity)?.value(&statements::query(
        variant,
        identity,
        &ROW.to_string(),
    ))?;
    ensure!(found == ROW.to_string(), "{} finds {found}", variant.name());
    Ok(())
}

fn script(
    bench: &Bench,
    identity: &Identity,
    given: Given,
    protocol: Protocol,
    variant: Variant,
) -> Result<Script> {
    let tenants = bench.scale.tenants;
    let query = statements::query(variant, identity, ":id");
    let statements = match given {
        Given::Connection => format!("{query};\n"),
        Given::Transaction => {
            let set = variant.set_local(identity);
            format!("BEGIN;\n{set};\n{query};\nCOMMIT;\n")
        }
    };
    let text = format!(
        "\\set row random(0, {last})\n\\set id :row * {tenants} + {ROW}\n{statements}",
        last = bench.scale.rows / tenants - 1,
    );
    let script = Script {
        server: variant.server(bench),
        database: DATABASE.to_owned(),
        variant,
        protocol,
        options: match given {
            Given::Connection => variant.options(identity),
            Given::Transaction => String::new(),
        },
        file: bench
            .scratch
            .join(format!("{given:?}-{protocol:?}-{variant:?}.sql")),
        transactions: bench.scale.transactions,
    };
    script.write(&text)
}
