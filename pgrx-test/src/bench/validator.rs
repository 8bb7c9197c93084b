//! Validating a schema of a thousand tables: what it costs, and that twice the tables cost twice as much.

use anyhow::{Result, ensure};

use super::Bench;
use super::many_tables::{self, KEYS};
use super::report::Figure;
use super::session::{self, Measured, Session};
use super::stats::Summary;

/// Policies of the user's own, of each table.
const POLICIES: [(&str, &str); 4] = [
    ("SELECT", "USING"),
    ("INSERT", "WITH CHECK"),
    ("UPDATE", "USING"),
    ("DELETE", "USING"),
];

/// What is done with a thousand tables before they are validated.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Policies {
    Own,
    Generated,
}

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (variant, policies) in [
        ("own policies", Policies::Own),
        ("protected", Policies::Generated),
    ] {
        figures.extend(many_tables::growth(bench, variant, 2.4, |tables| {
            let (summary, findings) = validate(bench, tables, policies)?;
            let what = format!(
                "validate, {tables} tables, {} keys, {findings} findings",
                tables * KEYS
            );
            Ok((what, summary))
        })?);
    }
    Ok(figures)
}

fn validate(bench: &Bench, tables: u64, policies: Policies) -> Result<(Summary, String)> {
    let server = bench.loaded;
    let database = format!("validate_{tables}_{policies:?}").to_lowercase();
    generate(bench, &database, tables, policies)?;
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

fn generate(bench: &Bench, database: &str, tables: u64, policies: Policies) -> Result<()> {
    let own: String = POLICIES
        .iter()
        .map(|(command, clause)| {
            format!(
                "EXECUTE format('CREATE POLICY own_{command} ON app.t%s FOR {command} {clause} (tenant_id = current_tenant_id())', i);"
            )
        })
        .chain(["EXECUTE format('ALTER TABLE app.t%s ENABLE ROW LEVEL SECURITY', i);".to_owned()])
        .collect();
    let each = match policies {
        Policies::Own => own.as_str(),
        Policies::Generated => "",
    };
    let mut owner = many_tables::database(bench.loaded, database, tables, each)?;
    if policies == Policies::Generated {
        owner.execute_all("SELECT * FROM tenancy.protect_schema('app', mode => 'enforce')")?;
    }
    owner.execute_all("VACUUM (FREEZE, ANALYZE)")
}
