//! One row by its primary key, sent by pgbench, prepared and not, with the context given once a
//! connection and once a transaction.

use anyhow::{Result, ensure};

use super::Bench;
use super::pgbench::{Protocol, Script};
use super::report::{Bound, Figure, Unit};
use super::rounds::{Contender, interleave};
use super::schema::{self, ROW};
use super::session::{DATABASE, Session};
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

const VARIANTS: [Variant; 7] = [
    Variant::Bare,
    Variant::Literal,
    Variant::Tenancy,
    Variant::SessionScope,
    Variant::Setting,
    Variant::SubSelect,
    Variant::Lookup,
];

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let identity = schema::identity(bench)?;
    let mut figures = Vec::new();
    for given in [Given::Connection, Given::Transaction] {
        for protocol in [Protocol::Prepared, Protocol::Simple] {
            figures.extend(compare(bench, &identity, given, protocol)?);
        }
    }
    Ok(figures)
}

fn compare(
    bench: &Bench,
    identity: &Identity,
    given: Given,
    protocol: Protocol,
) -> Result<Vec<Figure>> {
    let mut contenders = Vec::new();
    for variant in VARIANTS {
        finds_its_row(bench, variant, identity)?;
        let script = script(bench, identity, given, protocol, variant)?;
        contenders.push(Contender::new(move || script.rate()));
    }
    let summaries = interleave(bench.scale.pgbench_rounds, contenders)?;
    let literal = VARIANTS.iter().position(|v| *v == Variant::Literal);
    let literal = &summaries[literal.expect("the literal is measured")];
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
    Ok(VARIANTS.iter().zip(&summaries).map(figure).collect())
}

fn query(variant: Variant, identity: &Identity, id: &str) -> String {
    format!(
        "SELECT id, title, amount FROM {}.items WHERE id = {id}{}",
        variant.schema(),
        variant.condition("tenant_id", identity)
    )
}

fn finds_its_row(bench: &Bench, variant: Variant, identity: &Identity) -> Result<()> {
    let found =
        variant
            .open(bench, identity)?
            .value(&query(variant, identity, &ROW.to_string()))?;
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
    let query = query(variant, identity, ":id");
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
