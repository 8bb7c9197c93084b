//! Shadow mode beside the same statements without protection and under enforcement.
//!
//! The application filters by itself, so that nothing is denied, but for the last group, in which nearly
//! everything is.

mod confirmation;
mod recording;

use anyhow::{Result, ensure};
use postgres::Client;

use crate::bench::Bench;
use crate::bench::filters::SEQUENTIAL;
use crate::bench::report::{Bound, Figure, Unit};
use crate::bench::rounds::{Contender, interleave};
use crate::bench::schema::{self, ROW};
use crate::bench::session::{self, DATABASE, Measured, Session};
use crate::bench::stats::Summary;
use crate::bench::variant::{APPLICATION, Identity, Variant};

/// Modes by schema; the first is what the others are compared with.
const CONTENDERS: [(&str, &str); 3] = [
    ("not protected", "shadow_none"),
    ("shadow", "shadow_shadow"),
    ("enforced", "shadow_enforce"),
];

/// How many statements are planned for one sample.
const PLANNED: u64 = 200;

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let identity = schema::identity(bench)?;
    let mut owner = session::open(bench.loaded, DATABASE, &bench.loaded.superuser, "")?;
    fill(&mut owner, bench, &identity)?;
    let tenant = &identity.tenant;
    let lookups = 1000.min(bench.scale.rows / bench.scale.tenants);
    let queries = [
        (
            "filter, LIKE",
            SEQUENTIAL,
            format!("SELECT count(*) FROM $.items WHERE tenant_id = '{tenant}' AND title LIKE '%7%'"),
            1.1,
        ),
        (
            "1000 lookups by primary key",
            "",
            format!(
                "SELECT sum(x.amount) FROM generate_series(0, {}) n, LATERAL (
                     SELECT i.amount FROM $.items i WHERE i.id = n * {} + {ROW} AND i.tenant_id = '{tenant}' OFFSET 0) x",
                lookups - 1,
                bench.scale.tenants
            ),
            1.1,
        ),
        (
            "join",
            "",
            format!("SELECT count(*) FROM $.items i JOIN $.kinds k ON k.id = i.amount WHERE i.tenant_id = '{tenant}' AND k.name LIKE '%1%'"),
            1.1,
        ),
        (
            "EXISTS",
            "",
            format!("SELECT count(*) FROM $.kinds k WHERE EXISTS (SELECT FROM $.items i WHERE i.amount = k.id AND i.tenant_id = '{tenant}')"),
            1.1,
        ),
    ];
    let mut figures = Vec::new();
    for (what, settings, query, target) in &queries {
        let run = |query: String| move |session: &mut Client| session.value(&query);
        figures.extend(compare(
            bench, &identity, what, settings, query, *target, run,
        )?);
    }
    figures.extend(bare_count(bench, &identity)?);
    figures.extend(confirmation::measure(bench, &identity, &mut owner)?);
    let planning = |query: String| {
        // Planned and started, never run: EXPLAIN would write each plan down besides.
        let plan = format!(
            "SET cursor_tuple_fraction = 1;
             DO $do$ DECLARE planned refcursor; BEGIN FOR i IN 1..{PLANNED} LOOP
                 OPEN planned FOR EXECUTE $q${query}$q$; CLOSE planned;
             END LOOP; END $do$"
        );
        move |session: &mut Client| session.execute_all(&plan).map(|()| String::new())
    };
    let eight = eight_tables();
    figures.extend(compare(
        bench,
        &identity,
        "planning, 8 tables",
        "",
        &eight,
        1.5,
        planning,
    )?);
    figures.extend(unrelated(bench, &identity, &mut owner, planning)?);
    figures.extend(recording::measure(bench, &identity, &mut owner)?);
    let bytes = owner.value(
        "SELECT coalesce(sum(allocated_size), 0) / 1024.0 FROM pg_shmem_allocations WHERE name = 'pg_tenancy shadow'",
    )?;
    figures.push(Figure::new(
        "memory of the store at its bound",
        "8192 lines",
        Unit::Kilobytes,
        Summary::of(vec![bytes.parse()?]),
    ));
    owner.execute_all("SELECT tenancy.unprotect_table(relation) FROM tenancy.protected_tables WHERE schema_name LIKE 'shadow%'")?;
    Ok(figures)
}

fn eight_tables() -> String {
    let joins: Vec<String> = (1..8)
        .map(|number| {
            format!(
                "JOIN $.items i{number} ON i{number}.id = i{}.id + 1",
                number - 1
            )
        })
        .collect();
    format!(
        "SELECT * FROM $.items i0 {} WHERE i0.amount = 7",
        joins.join(" ")
    )
}

fn fill(owner: &mut Client, bench: &Bench, identity: &Identity) -> Result<()> {
    for (_, schema) in CONTENDERS {
        owner.execute_all(&format!(
            "CREATE SCHEMA {schema};
             CREATE TABLE {schema}.items (LIKE literal.items INCLUDING ALL);
             INSERT INTO {schema}.items SELECT * FROM literal.items;
             CREATE TABLE {schema}.own (LIKE literal.items INCLUDING ALL);
             INSERT INTO {schema}.own SELECT id, '{tenant}', title, amount FROM literal.items WHERE id < {own};
             CREATE TABLE {schema}.kinds (id integer PRIMARY KEY, name text NOT NULL);
             INSERT INTO {schema}.kinds SELECT n, 'kind ' || n FROM generate_series(0, 999) n;
             GRANT USAGE ON SCHEMA {schema} TO {APPLICATION};
             GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {APPLICATION}",
            tenant = identity.tenant,
            own = bench.scale.rows / 4,
        ))?;
        let mode = schema.trim_start_matches("shadow_");
        if mode != "none" {
            owner.execute_all(&format!(
                "SELECT tenancy.protect_table('{schema}.items', mode => '{mode}');
                 SELECT tenancy.protect_table('{schema}.own', mode => '{mode}')"
            ))?;
        }
    }
    for _ in 0..2 {
        owner.execute_all("VACUUM (FREEZE, ANALYZE)")?;
    }
    owner.execute_all("CHECKPOINT")
}

fn compare<R: FnMut(&mut Client) -> Result<String>>(
    bench: &Bench,
    identity: &Identity,
    what: &str,
    settings: &str,
    query: &str,
    target: f64,
    run: impl Fn(String) -> R,
) -> Result<Vec<Figure>> {
    let mut contenders = Vec::new();
    for (_, schema) in CONTENDERS {
        let mut session = Variant::Tenancy.open(bench, identity)?;
        session.execute_all(settings)?;
        contenders.push((session, run(query.replace("$.", &format!("{schema}.")))));
    }
    let summaries = measured(bench, what, contenders)?;
    let figure = |((name, _), summary): (&(&str, &str), &Summary)| {
        let figure = Figure::new(what, *name, Unit::Milliseconds, summary.clone())
            .against("not protected", &summaries[0]);
        if *name == "shadow" {
            figure.target(Bound::AtMost(target))
        } else {
            figure
        }
    };
    Ok(CONTENDERS.iter().zip(&summaries).map(figure).collect())
}

/// A count of everything: with a tenant to compare each row with, be it a literal, it is another query.
fn bare_count(bench: &Bench, identity: &Identity) -> Result<Vec<Figure>> {
    let what = "bare count(*)";
    let tenant = &identity.tenant;
    let contenders = [
        ("not protected", "shadow_none.own", String::new()),
        (
            "not protected, literal WHERE",
            "shadow_none.own",
            format!(" WHERE tenant_id = '{tenant}'"),
        ),
        ("shadow", "shadow_shadow.own", String::new()),
        ("enforced", "shadow_enforce.own", String::new()),
    ];
    let mut sessions = Vec::new();
    for (_, table, filter) in &contenders {
        let mut session = Variant::Tenancy.open(bench, identity)?;
        session.execute_all(SEQUENTIAL)?;
        let query = format!("SELECT count(*) FROM {table}{filter}");
        sessions.push((session, move |session: &mut Client| session.value(&query)));
    }
    let summaries = measured(bench, what, sessions)?;
    Ok(contenders
        .iter()
        .zip(&summaries)
        .map(|((name, ..), summary)| {
            let figure = Figure::new(what, *name, Unit::Milliseconds, summary.clone())
                .against("not protected", &summaries[0]);
            if *name == "shadow" {
                figure.target(Bound::AtMost(1.3))
            } else {
                figure
            }
        })
        .collect())
}

/// Times of the same question side by side; all give the same answer.
fn measured<R: FnMut(&mut Client) -> Result<String>>(
    bench: &Bench,
    what: &str,
    contenders: Vec<(Client, R)>,
) -> Result<Vec<Summary>> {
    let mut timed = Vec::new();
    let mut expected = None;
    for (mut session, mut run) in contenders {
        let answer = run(&mut session)?;
        let expected = expected.get_or_insert_with(|| answer.clone()).clone();
        ensure!(answer == expected, "{what}: {answer}, not {expected}");
        let mut session = Measured::new(session)?;
        timed.push(Contender::new(move || {
            let (time, _) = session.time(&mut run)?;
            Ok(time)
        }));
    }
    interleave(bench.scale.rounds, timed)
}

/// A statement of tables that are not in shadow mode, while others are and while none is.
fn unrelated<R: Fn(&mut Client) -> Result<String>>(
    bench: &Bench,
    identity: &Identity,
    owner: &mut Client,
    planning: impl Fn(String) -> R,
) -> Result<Vec<Figure>> {
    let what = "planning, no table in shadow mode";
    let run = planning(
        "SELECT * FROM shadow_none.items a JOIN shadow_none.items b USING (id) WHERE a.amount = 1"
            .to_owned(),
    );
    let mut session = Measured::new(Variant::Tenancy.open(bench, identity)?)?;
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..bench.scale.rounds {
        for (mode, samples) in ["permissive", "shadow"].into_iter().zip(&mut samples) {
            owner.execute_all(&format!(
                "SELECT tenancy.set_mode('shadow_shadow.items', '{mode}');
                 SELECT tenancy.set_mode('shadow_shadow.own', '{mode}')"
            ))?;
            // The first statement after a change reads the registry.
            session.time(|session| session.value("SELECT 1"))?;
            session.time(&run)?;
            samples.push(session.time(&run)?.0);
        }
    }
    let [without, with] = samples.map(Summary::of);
    Ok(vec![
        Figure::new(what, "none is", Unit::Milliseconds, without.clone()),
        Figure::new(what, "others are", Unit::Milliseconds, with)
            .against("none is", &without)
            .target(Bound::AtMost(1.02)),
    ])
}
