//! What confirmation costs: statements whose records are all false alarms.

use anyhow::Result;
use postgres::Client;

use super::measured;
use crate::bench::Bench;
use crate::bench::report::{Figure, Unit};
use crate::bench::session::Session;
use crate::bench::variant::{APPLICATION, Identity, Variant};

/// What a statement costs whose records are false alarms: without confirmation they stay, with it each
/// execution is compared.
pub(super) fn measure(
    bench: &Bench,
    identity: &Identity,
    owner: &mut Client,
) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (what, table) in [
        ("false alarm, 1000 rows", "kinds"),
        ("false alarm, all rows", "own"),
    ] {
        let mut contenders = Vec::new();
        for (schema, limit) in [
            ("shadow_none", "0"),
            ("shadow_shadow", "0"),
            ("shadow_shadow", "10s"),
        ] {
            let set =
                format!("ALTER ROLE {APPLICATION} SET pg_tenancy.shadow_confirm_ms = '{limit}'");
            owner.execute_all(&set)?;
            let query = format!(
                "SELECT count(*) FROM {schema}.{table}
                 WHERE (SELECT count(*) FROM (SELECT FROM {schema}.items LIMIT 5) five) > 0"
            );
            let session = Variant::Tenancy.open(bench, identity)?;
            contenders.push((session, move |session: &mut Client| session.value(&query)));
        }
        owner.execute_all(&format!(
            "ALTER ROLE {APPLICATION} RESET pg_tenancy.shadow_confirm_ms"
        ))?;
        let summaries = measured(bench, what, contenders)?;
        let names = [
            "not protected",
            "shadow, not confirmed",
            "shadow, confirmed",
        ];
        figures.extend(names.iter().zip(&summaries).map(|(name, summary)| {
            Figure::new(what, *name, Unit::Milliseconds, summary.clone())
                .against("not protected", &summaries[0])
        }));
    }
    Ok(figures)
}
