//! Bare calls: what one evaluation of a policy's function costs.
//!
//! Times include the loop that makes the calls, as in the target; the difference to the loop alone
//! is shown too.

use anyhow::{Result, ensure};

use super::Bench;
use super::report::{Bound, Figure, Unit};
use super::rounds::{Contender, interleave};
use super::schema;
use super::session::{Measured, Session};
use super::variant::Variant;

/// A function, the variant whose setting it reads, and by how much it is called less often.
const FUNCTIONS: [(&str, &str, Variant, u64); 6] = [
    ("the loop alone", "1", Variant::Tenancy, 1),
    ("pg_backend_pid()", "pg_backend_pid()", Variant::Tenancy, 1),
    (
        "current_tenant_id()",
        "current_tenant_id()",
        Variant::Tenancy,
        1,
    ),
    (
        "current_tenant_id_required()",
        "tenancy.current_tenant_id_required()",
        Variant::Tenancy,
        1,
    ),
    (
        "current_setting()::uuid",
        "current_setting('plain.current_tenant_id')::uuid",
        Variant::Setting,
        5,
    ),
    (
        "PL/pgSQL lookup",
        "plain.current_tenant()",
        Variant::Lookup,
        20,
    ),
];

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let identity = schema::identity(bench)?;
    let mut contenders = Vec::new();
    for (name, call, variant, less) in FUNCTIONS {
        let calls = bench.scale.calls / less;
        // In the select list the rows are made one by one; in FROM they would all be stored first.
        let query = format!("SELECT count({call}) FROM (SELECT generate_series(1, {calls})) rows");
        let mut session = Measured::new(variant.open(bench, &identity)?)?;
        contenders.push(Contender::new(move || {
            let (time, count) = session.time(|session| session.value(&query))?;
            ensure!(count == calls.to_string(), "{name} returned NULL");
            Ok(time * 1e6 / calls as f64)
        }));
    }
    let summaries = interleave(bench.scale.rounds.min(9), contenders)?;
    let (alone, floor) = (&summaries[0], &summaries[1]);
    let mut figures = Vec::new();
    for (place, (name, ..)) in FUNCTIONS.into_iter().enumerate() {
        let summary = summaries[place].clone();
        let figure = Figure::new("call, with its loop", name, Unit::Nanoseconds, summary);
        let figure = figure.against("pg_backend_pid()", floor);
        figures.push(match name {
            "current_tenant_id()" | "current_tenant_id_required()" => {
                figure.target(Bound::AtMost(1.1))
            }
            _ => figure,
        });
    }
    for (place, (name, ..)) in FUNCTIONS.into_iter().enumerate().skip(1) {
        let net = summaries[place].minus(alone);
        figures.push(Figure::new("call alone", name, Unit::Nanoseconds, net));
    }
    Ok(figures)
}
