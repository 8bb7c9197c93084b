//! Protecting a whole schema at once: what it costs, and that twice the tables cost twice as much.
//!
//! Each turn protects a fresh copy, since what is rolled back would stay in the catalogs for the next.

use anyhow::{Result, ensure};

use super::Bench;
use super::many_tables::{self, KEYS};
use super::report::Figure;
use super::session::{self, Measured, Session};
use super::stats::Summary;

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for keys in ["report", "replace"] {
        figures.extend(many_tables::growth(bench, keys, 2.5, |tables| {
            let what = format!("protect_schema, {tables} tables, {} keys", tables * KEYS);
            Ok((what, protect(bench, tables, keys)?))
        })?);
    }
    Ok(figures)
}

fn protect(bench: &Bench, tables: u64, keys: &str) -> Result<Summary> {
    let server = bench.loaded;
    let original = format!("schema_{tables}_{keys}");
    many_tables::database(server, &original, tables, "")?
        .execute_all("VACUUM (FREEZE, ANALYZE)")?;
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
