//! The context as a document, as the agents system has it: user, organization, configuration, visible
//! apps in order, active feature flags with the tenant's override.
//!
//! Compared with what an application does without it: seven queries one after the other, a PL/pgSQL
//! function with the joins, and such a function over a materialized view of what belongs to a tenant.
//! One statement walks over users, as for resolution; the walk itself is taken off. Cold, each user
//! is new to the session: his tenant is looked up, too.

use std::time::Instant;

use anyhow::{Result, ensure};
use postgres::{Client, Statement};

use super::Bench;
use super::report::{Bound, Figure, Unit};
use super::rounds::{Contender, interleave};
use super::session::{self, Measured, Session};
use super::stats::Summary;
use super::variant::APPLICATION;

const DATABASE: &str = "bench_document";
const TENANTS: u64 = 1_000;
const USERS: u64 = 100 * TENANTS;
/// Users that take turns where documents are kept.
const KEPT: u64 = 200;

const TABLES: &str = "
    CREATE TABLE organizations (id uuid PRIMARY KEY, name text, slug text, tenant_type text, tenant_key text, is_active boolean);
    CREATE TABLE users (id uuid PRIMARY KEY, organization_id uuid NOT NULL, email text);
    CREATE TABLE profiles (id uuid PRIMARY KEY, full_name text, role text NOT NULL);
    CREATE TABLE tenant_configurations (tenant_id uuid PRIMARY KEY, ui_config jsonb, enabled_features jsonb, limits jsonb);
    CREATE TABLE tenant_apps (tenant_id uuid, app_key text, app_name text, app_route text, is_visible boolean, is_enabled boolean,
        display_order integer, PRIMARY KEY (tenant_id, app_key));
    CREATE TABLE feature_flags (id integer PRIMARY KEY, flag_key text, is_active boolean, is_enabled boolean, config jsonb);
    CREATE TABLE tenant_feature_flags (tenant_id uuid, flag_id integer, is_enabled boolean, config jsonb, PRIMARY KEY (tenant_id, flag_id));
    CREATE FUNCTION id_of(kind text, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE RETURN md5(kind || n)::uuid;";

/// 50 apps a tenant and 50 flags, of which each tenant overrides 25.
fn rows() -> String {
    format!(
        "INSERT INTO organizations SELECT id_of('o', n), 'Organization ' || n, 'org-' || n, 'digital_health', 'key-' || n, true FROM generate_series(1, {TENANTS}) n;
         INSERT INTO users SELECT id_of('u', n), id_of('o', n % {TENANTS} + 1), 'user' || n || '@example.com' FROM generate_series(1, {USERS}) n;
         INSERT INTO profiles SELECT id_of('u', n), 'User ' || n, 'user' FROM generate_series(1, {USERS}) n;
         INSERT INTO tenant_configurations SELECT id, '{{\"theme\": \"dark\"}}', '{{\"search\": true}}', '{{\"seats\": 100}}' FROM organizations;
         INSERT INTO tenant_apps SELECT o.id, 'app-' || n, 'Application ' || n, '/apps/' || n, true, true, 50 - n FROM organizations o, generate_series(1, 50) n;
         INSERT INTO feature_flags SELECT n, 'flag-' || n, true, n % 2 = 0, jsonb_build_object('rollout', n) FROM generate_series(1, 50) n;
         INSERT INTO tenant_feature_flags SELECT o.id, n, n % 3 = 0, jsonb_build_object('rollout', 100) FROM organizations o, generate_series(1, 25) n"
    )
}

const REGISTER: &str = "
    CREATE EXTENSION pg_tenancy;
    SELECT tenancy.bind(membership => 'users', membership_user => 'id', membership_tenant => 'organization_id',
        role_table => 'profiles', tenants => 'organizations', tenants_active => 'is_active');
    SELECT tenancy.register_context('user', 'users', columns => '{source.id, email, joined.full_name, joined.role}', user_column => 'id',
        joined => 'profiles', joined_on => 'joined.id = source.id', joined_user_column => 'id');
    SELECT tenancy.register_context('organization', 'organizations', tenant_column => 'id');
    SELECT tenancy.register_context('config', 'tenant_configurations', columns => '{ui_config, enabled_features, limits}');
    SELECT tenancy.register_context('apps', 'tenant_apps', 'array', order_by => 'display_order', visible => 'is_visible AND is_enabled',
        columns => '{app_key, app_name, app_route, display_order}');
    SELECT tenancy.register_context('feature_flags', 'feature_flags', 'array', order_by => 'source.id', visible => 'is_active', global => true,
        columns => ARRAY['flag_key AS key', 'coalesce(joined.is_enabled, source.is_enabled) AS enabled', 'coalesce(joined.config, source.config) AS config'],
        joined => 'tenant_feature_flags', joined_on => 'joined.flag_id = source.id')";

/// The parts that belong to a tenant, `o` being the organization.
const OF_TENANT: &str = "
    'organization', to_jsonb(o),
    'config', (SELECT jsonb_build_object('ui_config', c.ui_config, 'enabled_features', c.enabled_features, 'limits', c.limits)
               FROM tenant_configurations c WHERE c.tenant_id = o.id),
    'apps', (SELECT jsonb_agg(jsonb_build_object('app_key', a.app_key, 'app_name', a.app_name, 'app_route', a.app_route,
                 'display_order', a.display_order) ORDER BY a.display_order)
             FROM tenant_apps a WHERE a.tenant_id = o.id AND a.is_visible AND a.is_enabled),
    'feature_flags', (SELECT jsonb_agg(jsonb_build_object('key', f.flag_key, 'enabled', coalesce(t.is_enabled, f.is_enabled),
                          'config', coalesce(t.config, f.config)) ORDER BY f.id)
                      FROM feature_flags f LEFT JOIN tenant_feature_flags t ON t.flag_id = f.id AND t.tenant_id = o.id WHERE f.is_active)";

const OF_USER: &str = "'user', jsonb_build_object('id', u.id, 'email', u.email, 'full_name', p.full_name, 'role', p.role)";

fn alternatives() -> String {
    format!(
        "CREATE FUNCTION by_joins(wanted uuid) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
         DECLARE document jsonb;
         BEGIN
             SELECT jsonb_build_object({OF_USER}, {OF_TENANT}) INTO document
             FROM users u JOIN profiles p ON p.id = u.id JOIN organizations o ON o.id = u.organization_id WHERE u.id = wanted;
             RETURN document;
         END $$;
         CREATE MATERIALIZED VIEW of_tenants AS SELECT o.id, jsonb_build_object({OF_TENANT}) AS document FROM organizations o;
         CREATE UNIQUE INDEX ON of_tenants (id);
         CREATE FUNCTION by_view(wanted uuid) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
         DECLARE document jsonb;
         BEGIN
             SELECT jsonb_build_object({OF_USER}) || v.document INTO document
             FROM users u JOIN profiles p ON p.id = u.id JOIN of_tenants v ON v.id = u.organization_id WHERE u.id = wanted;
             RETURN document;
         END $$;
         CREATE TABLE cold AS SELECT id FROM (SELECT id FROM users ORDER BY md5(id::text) LIMIT 20000) u;
         CREATE TABLE warm AS SELECT id FROM (SELECT id FROM cold LIMIT {KEPT}) u, generate_series(1, 50);
         GRANT SELECT ON ALL TABLES IN SCHEMA public TO {APPLICATION}"
    )
}

/// The queries that an application sends without any of it; the first gives the tenant of the rest.
const SEVEN: [&str; 7] = [
    "SELECT id, organization_id, email FROM users WHERE id = $1::text::uuid",
    "SELECT full_name, role FROM profiles WHERE id = $1::text::uuid",
    "SELECT * FROM organizations WHERE id = $1::text::uuid",
    "SELECT ui_config, enabled_features, limits FROM tenant_configurations WHERE tenant_id = $1::text::uuid",
    "SELECT app_key, app_name, app_route, display_order FROM tenant_apps WHERE tenant_id = $1::text::uuid AND is_visible AND is_enabled ORDER BY display_order",
    "SELECT flag_id, is_enabled, config FROM tenant_feature_flags WHERE tenant_id = $1::text::uuid",
    "SELECT id, flag_key, is_enabled, config FROM feature_flags WHERE is_active AND $1::text::uuid IS NOT NULL ORDER BY id",
];

/// What is done for each user of a list.
struct Step {
    set: &'static str,
    document: &'static str,
    list: &'static str,
    options: &'static str,
}

const SET: &str = "set_config('app.current_user_id', id::text, true)";
const NO_SET: &str = "id::text";
const NOTHING_KEPT: &str = "-c pg_tenancy.document_cache=0 -c pg_tenancy.cache_entries=0";

const STEPS: [Step; 8] = [
    step(NO_SET, "'{}'::jsonb", "cold", ""),
    step(SET, "'{}'::jsonb", "cold", ""),
    step(NO_SET, "by_joins(id)", "cold", ""),
    step(NO_SET, "by_view(id)", "cold", ""),
    step(SET, "get_user_tenant_context()", "cold", NOTHING_KEPT),
    step(SET, "'{}'::jsonb", "warm", ""),
    step(SET, "get_user_tenant_context()", "warm", ""),
    step(
        NO_SET,
        "get_user_tenant_context()",
        "warm",
        "-c app.current_user_id=USER",
    ),
];

const fn step(
    set: &'static str,
    document: &'static str,
    list: &'static str,
    options: &'static str,
) -> Step {
    Step {
        set,
        document,
        list,
        options,
    }
}

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let superuser = &bench.loaded.superuser;
    session::open(bench.loaded, "postgres", superuser, "")?
        .execute_all(&format!("CREATE DATABASE {DATABASE}"))?;
    let mut owner = session::open(bench.loaded, DATABASE, superuser, "")?;
    for sql in [TABLES, &rows(), &alternatives(), REGISTER] {
        owner.execute_all(sql)?;
    }
    owner.execute_all("VACUUM (FREEZE, ANALYZE)")?;
    owner.execute_all("CHECKPOINT")?;
    let bytes = require_equal(&mut owner)?;

    let users = bench.scale.documents;
    let somebody = owner.value("SELECT id FROM cold LIMIT 1")?;
    let mut contenders = vec![seven_queries(bench, users)?];
    for step in &STEPS {
        contenders.push(contender(bench, step, users, &somebody)?);
    }
    let summaries = interleave(bench.scale.rounds, contenders)?;
    let [
        seven,
        walk,
        set,
        joins,
        view,
        cold,
        set_warm,
        warm_other,
        warm_same,
    ] = summaries.try_into().expect("a summary for each contender");
    let (joins, view) = (joins.minus(&walk), view.minus(&walk));
    let what = format!("document of {bytes} bytes");
    let figure = |contender, summary| Figure::new(&what, contender, Unit::Microseconds, summary);
    Ok(vec![
        figure("seven queries, server's part", seven).against("joins", &joins),
        figure("PL/pgSQL with the joins", joins.clone()),
        figure("PL/pgSQL over a materialized view", view.clone()).against("joins", &joins),
        figure("pg_tenancy, cold", cold.minus(&set))
            .against("joins", &joins)
            .target(Bound::AtMost(1.3)),
        figure(
            "pg_tenancy, warm: another kept user",
            warm_other.minus(&set_warm),
        )
        .against("view", &view)
        .target(Bound::AtMost(0.05)),
        figure("pg_tenancy, warm: the same user", warm_same.minus(&walk))
            .against("view", &view)
            .target(Bound::AtMost(0.05)),
        Figure::new(
            "a change in one tenant",
            "REFRESH MATERIALIZED VIEW CONCURRENTLY",
            Unit::Milliseconds,
            refresh(&mut owner)?,
        ),
    ])
}

/// Fails where the ways do not agree; returns the size of a document.
fn require_equal(owner: &mut Client) -> Result<String> {
    let row = owner.row(
        "SELECT count(*) FILTER (WHERE document - '{tenant,role,memberships}'::text[] = by_joins(id) AND by_joins(id) = by_view(id)), max(pg_column_size(document))
         FROM (SELECT id, set_config('app.current_user_id', id::text, true), get_user_tenant_context() AS document FROM cold LIMIT 100 OFFSET 0) d",
    )?;
    ensure!(
        row[0].as_deref() == Some("100"),
        "the documents are not the same: {row:?}"
    );
    Ok(row[1].clone().unwrap_or_default())
}

/// A contender that does the step for users of its list; microseconds for each.
fn contender(
    bench: &Bench,
    step: &'static Step,
    users: u64,
    somebody: &str,
) -> Result<Contender<'static>> {
    let options = step.options.replace("USER", somebody);
    let mut session = Measured::new(session::open(
        bench.loaded,
        DATABASE,
        APPLICATION,
        &options,
    )?)?;
    let statement = format!(
        "SELECT count(*) FILTER (WHERE size > 0), count(was_set) FROM (
             SELECT {} AS was_set, pg_column_size({}) AS size FROM {} LIMIT {users} OFFSET 0) s",
        step.set, step.document, step.list
    );
    Ok(Contender::new(move || {
        let (time, made) = session.time(|session| {
            session.execute_all("BEGIN")?;
            let made = session.value(&statement)?;
            session.execute_all("COMMIT")?;
            Ok(made)
        })?;
        ensure!(made == users.to_string(), "only {made} documents");
        Ok(time * 1e3 / users as f64)
    }))
}

/// The processor time of the server alone: the application's and the network's come on top.
fn seven_queries(bench: &Bench, users: u64) -> Result<Contender<'static>> {
    let mut session = session::open(bench.loaded, DATABASE, APPLICATION, "")?;
    let statements: Vec<Statement> = SEVEN
        .iter()
        .map(|sql| session.prepare(sql))
        .collect::<Result<_, _>>()?;
    let of_user = format!(
        "SELECT u.id::text, organization_id::text FROM cold JOIN users u USING (id) LIMIT {users}"
    );
    let of_user: Vec<(String, String)> = session
        .query(&of_user, &[])?
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    let mut session = Measured::new(session)?;
    Ok(Contender::new(move || {
        let (time, ()) = session.time(|session| {
            for (user, tenant) in &of_user {
                for (number, statement) in statements.iter().enumerate() {
                    let id = if number < 2 { user } else { tenant };
                    session.query(statement, &[id])?;
                }
            }
            Ok(())
        })?;
        Ok(time * 1e3 / users as f64)
    }))
}

fn refresh(owner: &mut Client) -> Result<Summary> {
    let mut samples = Vec::new();
    for n in 0..5 {
        owner.execute_all(&format!(
            "UPDATE tenant_configurations SET limits = '{{\"seats\": {n}}}' WHERE tenant_id = id_of('o', 1)"
        ))?;
        let since = Instant::now();
        owner.execute_all("REFRESH MATERIALIZED VIEW CONCURRENTLY of_tenants")?;
        samples.push(since.elapsed().as_secs_f64() * 1e3);
    }
    Ok(Summary::of(samples))
}
