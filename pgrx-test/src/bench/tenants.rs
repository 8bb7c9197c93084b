//! Ten tenants or a million: the same rows and users, divided among more and more tenants, each
//! number in a database of its own.

use anyhow::Result;

use super::Bench;
use super::pgbench::{Protocol, Script};
use super::report::{Bound, Figure, Unit};
use super::resolution::{self, Step};
use super::rounds::{Contender, interleave};
use super::schema::{self, Content, ROW};
use super::session::{self, Session};
use super::stats::Summary;
use super::variant::{Identity, Variant};

const VARIANTS: [Variant; 2] = [Variant::Literal, Variant::Tenancy];

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    for tenants in bench.scale.tenant_counts {
        let content = Content {
            tenants: *tenants,
            users: bench.scale.users,
            rows: bench.scale.rows,
            variants: &VARIANTS,
            dashboard: false,
        };
        schema::fill_database(bench.loaded, &database(*tenants), &content)?;
        let users = bench.scale.resolutions;
        resolution::make_walk(bench.loaded, &database(*tenants), "cold", users, users)?;
    }
    let mut figures = lookups(bench)?;
    figures.extend(resolutions(bench)?);
    Ok(figures)
}

fn database(tenants: u64) -> String {
    format!("tenants_{tenants}")
}

fn named(tenants: u64, what: &str) -> String {
    format!("{tenants} tenants, {what}")
}

fn lookups(bench: &Bench) -> Result<Vec<Figure>> {
    let mut contenders = Vec::new();
    for tenants in bench.scale.tenant_counts {
        for variant in VARIANTS {
            let script = script(bench, *tenants, variant)?;
            contenders.push(Contender::new(move || script.rate()));
        }
    }
    let summaries = interleave(bench.scale.pgbench_rounds, contenders)?;
    let mut figures = Vec::new();
    for (tenants, pair) in bench.scale.tenant_counts.iter().zip(summaries.chunks(2)) {
        let what = named(*tenants, "prepared point lookup");
        let figure = |variant: Variant, summary: &Summary| {
            let unit = Unit::TransactionsPerSecond;
            Figure::new(&what, variant.name(), unit, summary.clone())
        };
        figures.push(figure(Variant::Literal, &pair[0]));
        figures.push(
            figure(Variant::Tenancy, &pair[1])
                .against("literal", &pair[0])
                .target(Bound::AtLeast(0.97)),
        );
    }
    Ok(figures)
}

fn script(bench: &Bench, tenants: u64, variant: Variant) -> Result<Script> {
    let database = database(tenants);
    let user = format!("user-{ROW}");
    let tenant = session::open(bench.loaded, &database, &bench.loaded.superuser, "")?.value(
        &format!("SELECT tenant_id FROM neon_auth.users_sync WHERE id = '{user}'"),
    )?;
    let identity = Identity { user, tenant };
    let text = format!(
        "\\set row random(0, {last})\n\\set id :row * {tenants} + {ROW}\n\
         SELECT id, title, amount FROM {schema}.items WHERE id = :id{condition};\n",
        last = (bench.scale.rows / tenants).saturating_sub(1),
        schema = variant.schema(),
        condition = variant.condition("tenant_id", &identity),
    );
    let script = Script {
        server: bench.loaded,
        file: bench.scratch.join(format!("{database}-{variant:?}.sql")),
        database,
        variant,
        protocol: Protocol::Prepared,
        options: variant.options(&identity),
        transactions: bench.scale.transactions,
    };
    script.write(&text)
}

fn resolutions(bench: &Bench) -> Result<Vec<Figure>> {
    const STEPS: [Step; 4] = [Step::Set, Step::Resolve, Step::Lookup, Step::NoLookup];
    let users = bench.scale.resolutions;
    let mut contenders = Vec::new();
    for tenants in bench.scale.tenant_counts {
        for step in STEPS {
            let database = database(*tenants);
            let contender = resolution::contender(bench.loaded, &database, step, "cold", users)?;
            contenders.push(contender);
        }
    }
    let summaries = interleave(bench.scale.pgbench_rounds, contenders)?;
    let mut figures = Vec::new();
    for (tenants, of) in bench
        .scale
        .tenant_counts
        .iter()
        .zip(summaries.chunks(STEPS.len()))
    {
        let spi = of[2].minus(&of[3]);
        let what = named(*tenants, "resolution");
        figures.push(
            Figure::new(what, "cold", Unit::Microseconds, of[1].minus(&of[0]))
                .against("prepared SPI", &spi)
                .target(Bound::AtMost(1.5)),
        );
    }
    Ok(figures)
}
