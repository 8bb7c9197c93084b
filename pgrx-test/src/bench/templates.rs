//! Templates that take more than one comparison, against what one would write by hand.
//!
//! `shared_read` beside a WHERE that names both tenants; `child` beside a policy with the same EXISTS
//! over a setting. The WHERE with an EXISTS is shown too, though Postgres plans it as a join, which
//! it does with no policy.

use anyhow::{Result, ensure};
use postgres::Client;

use super::Bench;
use super::report::{Bound, Figure, Unit};
use super::rounds::{Contender, interleave};
use super::schema;
use super::session::{self, DATABASE, Measured, Session};
use super::variant::{APPLICATION, Identity, Variant};

const CONTENDERS: [Variant; 3] = [Variant::Literal, Variant::Tenancy, Variant::SubSelect];

const SETTING: &str = "(SELECT current_setting('plain.current_tenant_id')::uuid)";

/// The tenant whose rows all read.
const PLATFORM: &str = "plain.tenant(0)";

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let identity = schema::identity(bench)?;
    let mut owner = session::open(bench.loaded, DATABASE, &bench.loaded.superuser, "")?;
    let platform = owner.value(&format!("SELECT {PLATFORM}"))?;
    fill(&mut owner, bench, &platform)?;
    let any_plan = "";
    let sequential = super::filters::SEQUENTIAL;
    let mut figures = Vec::new();
    for (what, settings) in [
        ("shared_read, sequential filter", sequential),
        ("shared_read, by index", any_plan),
    ] {
        let query = |variant: Variant| {
            let condition = match variant {
                Variant::Literal => format!(
                    "tenant_id = '{}' OR tenant_id = '{platform}'",
                    identity.tenant
                ),
                _ => "true".to_owned(),
            };
            format!(
                "SELECT sum(amount) FROM {}.shared WHERE {condition}",
                variant.schema()
            )
        };
        let against = Variant::Literal;
        figures.extend(compare(bench, &identity, what, settings, query, against)?);
    }
    let parents = parents(bench);
    let hand_written = |variant: Variant| match variant {
        Variant::Literal => format!(
            " AND EXISTS (SELECT FROM literal.items p WHERE p.id = d.item_id AND p.tenant_id = '{}')",
            identity.tenant
        ),
        _ => String::new(),
    };
    let of_parents = |variant: Variant| {
        format!(
            "SELECT sum(x.amount) FROM generate_series(1, 1000) n, LATERAL (
                 SELECT sum(d.amount) AS amount FROM {schema}.details d
                 WHERE d.item_id = (n * {tenants} + {row}) % {parents}{condition} OFFSET 0) x",
            schema = variant.schema(),
            tenants = bench.scale.tenants,
            row = schema::ROW,
            condition = hand_written(variant),
        )
    };
    let joined = |variant: Variant| {
        format!(
            "SELECT sum(d.amount) FROM {schema}.items i JOIN {schema}.details d ON d.item_id = i.id
             WHERE i.id < {parents}{tenant}{condition}",
            schema = variant.schema(),
            tenant = variant.condition("i.tenant_id", &identity),
            condition = hand_written(variant),
        )
    };
    let against = Variant::SubSelect;
    let what = "child, rows of 1000 parents";
    figures.extend(compare(
        bench, &identity, what, any_plan, of_parents, against,
    )?);
    let what = "child, joined to its parent";
    figures.extend(compare(bench, &identity, what, any_plan, joined, against)?);
    Ok(figures)
}

fn parents(bench: &Bench) -> u64 {
    bench.scale.rows / 4
}

fn fill(owner: &mut Client, bench: &Bench, platform: &str) -> Result<()> {
    let parents = parents(bench);
    owner.execute_all(&format!(
        "SELECT tenancy.bind(membership => 'neon_auth.users_sync', membership_user => 'id', platform_tenant => '{platform}')"
    ))?;
    for variant in CONTENDERS {
        let schema = variant.schema();
        owner.execute_all(&format!(
            "CREATE TABLE {schema}.shared (id bigint PRIMARY KEY, tenant_id uuid NOT NULL, title text NOT NULL, amount integer NOT NULL);
             INSERT INTO {schema}.shared SELECT n, plain.tenant(n), 'item ' || n, n % 1000 FROM generate_series(0, {last}) n;
             CREATE INDEX shared_tenant_idx ON {schema}.shared (tenant_id);
             CREATE TABLE {schema}.details (
                 id bigint PRIMARY KEY, item_id bigint NOT NULL REFERENCES {schema}.items, amount integer NOT NULL);
             INSERT INTO {schema}.details SELECT n, n % {parents}, n % 1000 FROM generate_series(0, {details}) n;
             CREATE INDEX details_item_idx ON {schema}.details (item_id);
             GRANT SELECT ON {schema}.shared, {schema}.details TO {APPLICATION}",
            last = parents - 1,
            details = parents * 3 - 1,
        ))?;
    }
    let policy = |table: &str, predicate: String| {
        let schema = Variant::SubSelect.schema();
        format!(
            "CREATE POLICY tenant_isolation ON {schema}.{table} USING ({predicate});
             ALTER TABLE {schema}.{table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
        )
    };
    owner.execute_all(&policy(
        "shared",
        format!("tenant_id = {SETTING} OR tenant_id = '{platform}'"),
    ))?;
    owner.execute_all(&policy(
        "details",
        format!(
            "EXISTS (SELECT FROM {}.items p WHERE p.id = item_id AND p.tenant_id = {SETTING})",
            Variant::SubSelect.schema()
        ),
    ))?;
    let schema = Variant::Tenancy.schema();
    for (table, template) in [("shared", "shared_read"), ("details", "child")] {
        owner.execute_all(&format!(
            "SELECT * FROM tenancy.protect_table('{schema}.{table}', '{template}', mode => 'enforce')"
        ))?;
    }
    for _ in 0..2 {
        owner.execute_all("VACUUM (FREEZE, ANALYZE)")?;
    }
    owner.execute_all("CHECKPOINT")
}

fn compare(
    bench: &Bench,
    identity: &Identity,
    what: &str,
    settings: &str,
    query: impl Fn(Variant) -> String,
    against: Variant,
) -> Result<Vec<Figure>> {
    let mut contenders = Vec::new();
    let mut expected = None;
    for variant in CONTENDERS {
        let query = query(variant);
        let mut session = variant.open(bench, identity)?;
        session.execute_all(settings)?;
        let answer = session.value(&query)?;
        let expected = expected.get_or_insert_with(|| answer.clone()).clone();
        ensure!(
            answer == expected,
            "{what}, {}: {answer}, not {expected}",
            variant.name()
        );
        let mut session = Measured::new(session)?;
        contenders.push(Contender::new(move || {
            let (time, _) = session.time(|session| session.value(&query))?;
            Ok(time)
        }));
    }
    let summaries = interleave(bench.scale.rounds, contenders)?;
    let place = CONTENDERS.iter().position(|variant| *variant == against);
    let other = &summaries[place.expect("every contender is measured")];
    let figure = |(variant, summary): (&Variant, &_)| {
        let contender = match variant {
            Variant::SubSelect => "policy by hand",
            other => other.name(),
        };
        let figure = Figure::new(what, contender, Unit::Milliseconds, Clone::clone(summary));
        let name = if against == Variant::Literal {
            "literal"
        } else {
            "policy by hand"
        };
        let figure = figure.against(name, other);
        match variant {
            Variant::Tenancy => figure.target(Bound::AtMost(1.1)),
            _ => figure,
        }
    };
    Ok(CONTENDERS.iter().zip(&summaries).map(figure).collect())
}
