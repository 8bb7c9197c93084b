//! Schemas of many tables with keys between them, and figures of what grows with their number.

use anyhow::Result;
use postgres::Client;

use super::Bench;
use super::report::{Bound, Figure, Unit};
use super::session::{self, Session};
use super::stats::Summary;
use crate::fixture::Server;

/// Foreign keys of each table.
pub(crate) const KEYS: u64 = 3;

/// A database with the extension, bound, and `tables` tables in its schema `app`, each pointing at itself or at
/// earlier ones; `each` is PL/pgSQL that is done after a table was made, with its number in `i`.
pub(crate) fn database(
    server: &'static Server,
    name: &str,
    tables: u64,
    each: &str,
) -> Result<Client> {
    session::open(server, "postgres", &server.superuser, "")?
        .execute_all(&format!("CREATE DATABASE {name}"))?;
    let mut owner = session::open(server, name, &server.superuser, "")?;
    owner.execute_all(
        "CREATE EXTENSION pg_tenancy;
         SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id');
         CREATE SCHEMA app",
    )?;
    owner.execute_all(&format!(
        "DO $$ BEGIN
             FOR i IN 1..{tables} LOOP
                 EXECUTE format('CREATE TABLE app.t%s (id bigint PRIMARY KEY, tenant_id uuid NOT NULL,
                     a bigint REFERENCES app.t%s, b bigint REFERENCES app.t%s, c bigint REFERENCES app.t%s)',
                     i, greatest(i - 1, 1), greatest(i / 2, 1), greatest(i - 7, 1));
                 {each}
             END LOOP;
         END $$"
    ))?;
    Ok(owner)
}

/// A figure for each number of tables, against the one before. Twice the tables: what grows with their square
/// takes four times as long, and `most` is below that.
pub(crate) fn growth(
    bench: &Bench,
    variant: &str,
    most: f64,
    mut measure: impl FnMut(u64) -> Result<(String, Summary)>,
) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut before: Option<(u64, Summary)> = None;
    for tables in bench.scale.schema_tables {
        let (what, summary) = measure(*tables)?;
        let figure = Figure::new(what, variant, Unit::Milliseconds, summary.clone());
        figures.push(match &before {
            None => figure,
            Some((fewer, earlier)) => figure
                .against(format!("{fewer} tables"), earlier)
                .target(Bound::AtMost(most)),
        });
        before = Some((*tables, summary));
    }
    Ok(figures)
}
