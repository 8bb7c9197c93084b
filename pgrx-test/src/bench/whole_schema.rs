//! Protecting a whole schema at once: what it costs, and that twice the tables cost twice as much.
//!
//! Each turn protects a fresh copy, since what is rolled back would stay in the catalogs for the next.

use anyhow::{Result, ensure};

use super::Bench;
use super::report::{Bound, Figure, Unit};
use super::session::{self, Measured, Session};
use super::stats::Summary;
use crate::fixture::Server;

/// Foreign keys of each table.
const KEYS: usize = 3;

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for keys in ["report", "replace"] {
        let mut before: Option<(u64, Summary)> = None;
        for tables in bench.scale.schema_tables {
            let summary = protect(bench, *tables, keys)?;
            let what = format!(
                "protect_schema, {tables} tables, {} keys",
                *tables * KEYS as u64
            );
            let figure = Figure::new(what, keys, Unit::Milliseconds, summary.clone());
            figures.push(match &before {
                None => figure,
                // Twice the tables: what grows with their square takes four times as long.
                Some((fewer, earlier)) => figure
                    .against(format!("{fewer} tables"), earlier)
                    .target(Bound::AtMost(2.5)),
            });
            before = Some((*tables, summary));
        }
    }
    Ok(figures)
}

fn protect(bench: &Bench, tables: u64, keys: &str) -> Result<Summary> {
    let server = bench.loaded;
    let original = format!("schema_{tables}_{keys}");
    generate(server, &original, tables)?;
    let mut samples = Vec::new();
    for round in 0..bench.scale.schema_rounds {
        let copy = format!("{original}_{round}");
        let mut admin = session::open(server, "postgres", &server.superuser, "")?;
        admin.execute_all(&format!("CREATE DATABASE {copy} TEMPLATE {original}"))?;
        let mut owner = Measured::new(session::open(server, &copy, &server.superuser, "")?)?;
        let call = format!(
            "SELECT count(*) FILTER (WHERE result LIKE 'enforced%') FROM tenancy.protect_schema('app',
                 mode => 'enforce', options => '{{\"foreign_keys\": \"{keys}\"}}')"
        );
        let (milliseconds, done) = owner.time(|session| session.value(&call))?;
        ensure!(
            done == tables.to_string(),
            "{done} of {tables} tables were protected"
        );
        samples.push(milliseconds);
        drop(owner);
        admin.execute_all(&format!("DROP DATABASE {copy} WITH (FORCE)"))?;
    }
    Ok(Summary::of(samples))
}

fn generate(server: &Server, database: &str, tables: u64) -> Result<()> {
    session::open(server, "postgres", &server.superuser, "")?
        .execute_all(&format!("CREATE DATABASE {database}"))?;
    let mut owner = session::open(server, database, &server.superuser, "")?;
    owner.execute_all(
        "CREATE EXTENSION pg_tenancy;
         SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id');
         CREATE SCHEMA app",
    )?;
    // Each table points at itself or at earlier ones.
    owner.execute_all(&format!(
        "DO $$ BEGIN
             FOR i IN 1..{tables} LOOP
                 EXECUTE format('CREATE TABLE app.t%s (id bigint PRIMARY KEY, tenant_id uuid NOT NULL,
                     a bigint REFERENCES app.t%s, b bigint REFERENCES app.t%s, c bigint REFERENCES app.t%s)',
                     i, greatest(i - 1, 1), greatest(i / 2, 1), greatest(i - 7, 1));
             END LOOP;
         END $$"
    ))?;
    owner.execute_all("VACUUM (FREEZE, ANALYZE)")
}
