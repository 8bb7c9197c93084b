//! A dashboard: objectives with their initiatives and activities, aggregated for one tenant.

use anyhow::{Result, ensure};

use super::Bench;
use super::report::{Figure, Unit};
use super::rounds::{Contender, interleave};
use super::schema;
use super::session::{Measured, Session};
use super::variant::{Identity, Variant};

/// Queries of one sample.
const REPETITIONS: u32 = 10;

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let identity = schema::identity(bench)?;
    let variants: Vec<_> = [Variant::Bare].into_iter().chain(Variant::LOADED).collect();
    let mut contenders = Vec::new();
    let mut expected = None;
    for variant in &variants {
        let query = query(*variant, &identity);
        let mut session = variant.open(bench, &identity)?;
        let answer = session.value(&query)?;
        let expected = expected.get_or_insert_with(|| answer.clone()).clone();
        ensure!(
            answer == expected,
            "{}: {answer}, not {expected}",
            variant.name()
        );
        let mut session = Measured::new(session)?;
        contenders.push(Contender::new(move || {
            let (time, ()) = session.time(|session| {
                for _ in 0..REPETITIONS {
                    session.value(&query)?;
                }
                Ok(())
            })?;
            Ok(time / f64::from(REPETITIONS))
        }));
    }
    let summaries = interleave(bench.scale.rounds, contenders)?;
    let literal = &summaries[1];
    let figure = |(variant, summary): (&Variant, &_)| {
        let summary = Clone::clone(summary);
        let figure = Figure::new("dashboard", variant.name(), Unit::Milliseconds, summary);
        figure.against("literal", literal)
    };
    Ok(variants.iter().zip(&summaries).map(figure).collect())
}

/// All of the dashboard as one value, so that answers can be compared.
fn query(variant: Variant, identity: &Identity) -> String {
    format!(
        "SELECT md5(string_agg(d::text, ';' ORDER BY d.department)) FROM (
             SELECT o.department, count(DISTINCT o.id) AS objectives, count(DISTINCT i.id) AS initiatives,
                    count(*) AS activities,
                    count(*) FILTER (WHERE a.due_date < current_date AND a.status <> 'completed') AS overdue,
                    round(avg(o.progress_percentage), 2) AS progress, sum(i.budget) AS budget
             FROM {schema}.objectives o
             JOIN {schema}.initiatives i ON i.objective_id = o.id
             JOIN {schema}.activities a ON a.initiative_id = i.id
             WHERE true{o}{i}{a}
             GROUP BY o.department) d",
        schema = variant.schema(),
        o = variant.condition("o.tenant_id", identity),
        i = variant.condition("i.tenant_id", identity),
        a = variant.condition("a.tenant_id", identity),
    )
}
