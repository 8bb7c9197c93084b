//! Validating a schema of a thousand tables: what it costs, and that twice the tables cost twice as much.

use anyhow::{Result, ensure};

use super::Bench;
use super::report::{Bound, Figure, Unit};
use super::session::{self, Measured, Session};
use super::stats::Summary;
use crate::fixture::Server;

/// Foreign keys, and policies of the user's own, of each table.
const KEYS: u64 = 3;
const POLICIES: [(&str, &str); 4] = [
    ("SELECT", "USING"),
    ("INSERT", "WITH CHECK"),
    ("UPDATE", "USING"),
    ("DELETE", "USING"),
];

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for policies in ["own policies", "protected"] {
        let mut before: Option<(u64, Summary)> = None;
        for tables in bench.scale.schema_tables {
            let (summary, findings) = validate(bench, *tables, policies == "protected")?;
            let what = format!(
                "validate, {tables} tables, {} keys, {findings} findings",
                *tables * KEYS
            );
            let figure = Figure::new(what, policies, Unit::Milliseconds, summary.clone());
            figures.push(match &before {
                None => figure,
                // Twice the tables: what grows with their square takes four times as long.
                Some((fewer, earlier)) => figure
                    .against(format!("{fewer} tables"), earlier)
                    .target(Bound::AtMost(2.4)),
            });
            before = Some((*tables, summary));
        }
    }
    Ok(figures)
}

fn validate(bench: &Bench, tables: u64, protected: bool) -> Result<(Summary, String)> {
    let server = bench.loaded;
    let database = format!("validate_{tables}_{protected}");
    generate(server, &database, tables, protected)?;
    let mut samples = Vec::new();
    let mut findings = String::new();
    for _ in 0..bench.scale.schema_rounds {
        // A session of its own, as a gate in CI has.
        let mut owner = Measured::new(session::open(server, &database, &server.superuser, "")?)?;
        let call = "SELECT count(*) || ' ' || count(*) FILTER (WHERE code = 'rule-failed') FROM tenancy.validate()";
        let (milliseconds, counts) = owner.time(|session| session.value(call))?;
        samples.push(milliseconds);
        let Some((all, "0")) = counts.split_once(' ') else {
            anyhow::bail!("rules failed: {counts}");
        };
        all.clone_into(&mut findings);
    }
    ensure!(
        findings.parse::<u64>()? > tables,
        "{findings} findings in {tables} tables whose keys do not carry the tenant"
    );
    Ok((Summary::of(samples), findings))
}

fn generate(server: &Server, database: &str, tables: u64, protected: bool) -> Result<()> {
    session::open(server, "postgres", &server.superuser, "")?
        .execute_all(&format!("CREATE DATABASE {database}"))?;
    let mut owner = session::open(server, database, &server.superuser, "")?;
    owner.execute_all(
        "CREATE EXTENSION pg_tenancy;
         SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id');
         CREATE SCHEMA app",
    )?;
    let policies: String = if protected {
        String::new()
    } else {
        POLICIES
            .iter()
            .map(|(command, clause)| {
                format!(
                    "EXECUTE format('CREATE POLICY own_{command} ON app.t%s FOR {command} {clause} (tenant_id = current_tenant_id())', i);"
                )
            })
            .chain(["EXECUTE format('ALTER TABLE app.t%s ENABLE ROW LEVEL SECURITY', i);".to_owned()])
            .collect()
    };
    // Each table points at itself or at earlier ones.
    owner.execute_all(&format!(
        "DO $$ BEGIN
             FOR i IN 1..{tables} LOOP
                 EXECUTE format('CREATE TABLE app.t%s (id bigint PRIMARY KEY, tenant_id uuid NOT NULL,
                     a bigint REFERENCES app.t%s, b bigint REFERENCES app.t%s, c bigint REFERENCES app.t%s)',
                     i, greatest(i - 1, 1), greatest(i / 2, 1), greatest(i - 7, 1));
                 {policies}
             END LOOP;
         END $$"
    ))?;
    if protected {
        owner.execute_all("SELECT * FROM tenancy.protect_schema('app', mode => 'enforce')")?;
    }
    owner.execute_all("VACUUM (FREEZE, ANALYZE)")
}
