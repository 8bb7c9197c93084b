//! The tables that are measured.
//!
//! Every variant has copies of its own, filled in the same order. Users are spread over tenants
//! round robin, and so are rows: user N and row N belong to tenant N modulo the number of tenants.

use anyhow::{Result, ensure};
use postgres::Client;

use super::Bench;
use super::session::{self, DATABASE, Session};
use super::variant::{APPLICATION, Identity, SESSION_SCOPED, Variant};
use crate::fixture::Server;

/// Schemas with copies of the tables, wherever they exist.
const SCHEMAS: [Variant; 5] = Variant::LOADED;

/// How a database is filled.
pub(crate) struct Content<'a> {
    pub tenants: u64,
    pub users: u64,
    pub rows: u64,
    pub variants: &'a [Variant],
    /// Whether the tables of the dashboard are wanted.
    pub dashboard: bool,
}

/// Fills the database of the benchmarks on both servers.
pub(crate) fn fill(bench: &Bench) -> Result<()> {
    let content = |variants| Content {
        tenants: bench.scale.tenants,
        users: bench.scale.users,
        rows: bench.scale.rows,
        variants,
        dashboard: true,
    };
    roles(bench.loaded)?;
    roles(bench.bare)?;
    fill_database(bench.loaded, DATABASE, &content(&SCHEMAS))?;
    fill_database(bench.bare, DATABASE, &content(&[Variant::Bare]))?;
    let mut owner = session::open(bench.loaded, DATABASE, &bench.loaded.superuser, "")?;
    owner.execute_all(&format!(
        "ALTER ROLE {SESSION_SCOPED} SET pg_tenancy.context_scope = session"
    ))
}

/// The user and the tenant whose rows are read.
pub(crate) fn identity(bench: &Bench) -> Result<Identity> {
    let mut session = session::open(bench.loaded, DATABASE, &bench.loaded.superuser, "")?;
    let user = format!("user-{ROW}");
    let tenant = session.value(&format!(
        "SELECT tenant_id FROM neon_auth.users_sync WHERE id = '{user}'"
    ))?;
    Ok(Identity { user, tenant })
}

/// The user who reads; rows of the same number, modulo the tenants, are in the same tenant.
pub(crate) const ROW: u64 = 7;

fn roles(server: &Server) -> Result<()> {
    let mut owner = session::open(server, "postgres", &server.superuser, "")?;
    for role in [APPLICATION, SESSION_SCOPED] {
        owner.execute_all(&format!("CREATE ROLE {role} LOGIN NOBYPASSRLS"))?;
    }
    Ok(())
}

/// Creates a database and fills it.
pub(crate) fn fill_database(server: &Server, name: &str, content: &Content) -> Result<()> {
    session::open(server, "postgres", &server.superuser, "")?
        .execute_all(&format!("CREATE DATABASE {name}"))?;
    let mut owner = session::open(server, name, &server.superuser, "")?;
    owner.execute_all("CREATE SCHEMA plain; CREATE SCHEMA neon_auth")?;
    users(&mut owner, content)?;
    for variant in content.variants {
        copy_of_tables(&mut owner, *variant, content)?;
    }
    // Once leaves some pages of some copies out of the visibility map; the scans would differ.
    owner.execute_all("CHECKPOINT")?;
    for _ in 0..2 {
        owner.execute_all("VACUUM (FREEZE, ANALYZE)")?;
    }
    let odd = owner.value(
        "SELECT count(*) FROM pg_class WHERE relname = 'items' AND relallvisible <> relpages",
    )?;
    ensure!(
        odd == "0",
        "{odd} copies of a table differ from the others in their visibility map"
    );
    if content.variants.contains(&Variant::Tenancy) {
        protect(&mut owner, content)?;
    }
    let mut schemas: Vec<_> = content.variants.iter().map(|v| v.schema()).collect();
    schemas.extend(["neon_auth", "plain"]);
    let (schemas, roles) = (
        schemas.join(", "),
        format!("{APPLICATION}, {SESSION_SCOPED}"),
    );
    owner.execute_all(&format!(
        "GRANT USAGE ON SCHEMA {schemas} TO {roles};
         GRANT SELECT ON ALL TABLES IN SCHEMA {schemas} TO {roles};
         CHECKPOINT"
    ))
}

/// Users, and what the alternatives need: the function of the OKR system, and the same lookup with
/// and without the lookup, by which resolution is judged.
fn users(owner: &mut Client, content: &Content) -> Result<()> {
    owner.execute_all(&format!(
        "CREATE FUNCTION plain.tenant(number bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
             RETURN md5('tenant ' || number % {tenants})::uuid;
         CREATE TABLE neon_auth.users_sync (id text PRIMARY KEY, tenant_id uuid NOT NULL);
         INSERT INTO neon_auth.users_sync
             SELECT 'user-' || n, plain.tenant(n) FROM generate_series(0, {last}) n;

         CREATE FUNCTION plain.current_tenant() RETURNS uuid
         LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
         DECLARE
             found_tenant uuid;
         BEGIN
             SELECT tenant_id INTO found_tenant FROM neon_auth.users_sync
             WHERE id = current_setting('plain.current_user_id', true);
             RETURN found_tenant;
         END $$;

         CREATE FUNCTION plain.lookup(wanted text, expected uuid) RETURNS uuid
         LANGUAGE plpgsql STABLE AS $$
         DECLARE
             found_tenant uuid;
         BEGIN
             SELECT tenant_id INTO found_tenant FROM neon_auth.users_sync WHERE id = wanted;
             RETURN found_tenant;
         END $$;
         CREATE FUNCTION plain.no_lookup(wanted text, expected uuid) RETURNS uuid
         LANGUAGE plpgsql STABLE AS $$
         BEGIN
             RETURN expected;
         END $$",
        tenants = content.tenants,
        last = content.users - 1,
    ))
}

fn copy_of_tables(owner: &mut Client, variant: Variant, content: &Content) -> Result<()> {
    let schema = variant.schema();
    owner.execute_all(&format!(
        "CREATE SCHEMA {schema};
         CREATE TABLE {schema}.items (
             id bigint PRIMARY KEY, tenant_id uuid NOT NULL, title text NOT NULL, amount integer NOT NULL);
         INSERT INTO {schema}.items
             SELECT n, plain.tenant(n), 'item ' || n, n % 1000 FROM generate_series(0, {last}) n;
         CREATE INDEX items_tenant_idx ON {schema}.items (tenant_id);",
        last = content.rows - 1,
    ))?;
    if content.dashboard {
        dashboard_tables(owner, schema, content)?;
    }
    if let Some(predicate) = variant.policy() {
        for table in tables(content) {
            owner.execute_all(&format!(
                "CREATE POLICY tenant_isolation ON {schema}.{table} USING ({predicate});
                 ALTER TABLE {schema}.{table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
            ))?;
        }
    }
    Ok(())
}

/// For each tenant 200 objectives, 400 initiatives and 1,600 activities at the full size.
fn dashboard_tables(owner: &mut Client, schema: &str, content: &Content) -> Result<()> {
    let objectives = content.rows / 50;
    let (initiatives, activities) = (objectives * 2, objectives * 8);
    owner.execute_all(&format!(
        "CREATE TABLE {schema}.objectives (
             id uuid PRIMARY KEY, tenant_id uuid NOT NULL, department text NOT NULL,
             status text NOT NULL, progress_percentage integer NOT NULL);
         CREATE TABLE {schema}.initiatives (
             id uuid PRIMARY KEY, tenant_id uuid NOT NULL,
             objective_id uuid NOT NULL REFERENCES {schema}.objectives, budget numeric NOT NULL);
         CREATE TABLE {schema}.activities (
             id uuid PRIMARY KEY, tenant_id uuid NOT NULL,
             initiative_id uuid NOT NULL REFERENCES {schema}.initiatives,
             due_date date NOT NULL, status text NOT NULL);
         INSERT INTO {schema}.objectives
             SELECT md5('objective ' || n)::uuid, plain.tenant(n), 'department ' || n / 100 % 10,
                    'in_progress', n % 101
             FROM generate_series(0, {objectives} - 1) n;
         INSERT INTO {schema}.initiatives
             SELECT md5('initiative ' || n)::uuid, plain.tenant(n),
                    md5('objective ' || n % {objectives})::uuid, n % 10000
             FROM generate_series(0, {initiatives} - 1) n;
         INSERT INTO {schema}.activities
             SELECT md5('activity ' || n)::uuid, plain.tenant(n),
                    md5('initiative ' || n % {initiatives})::uuid,
                    current_date + (n % 100)::integer - 50,
                    CASE WHEN n % 3 = 0 THEN 'completed' ELSE 'open' END
             FROM generate_series(0, {activities} - 1) n;
         CREATE INDEX objectives_tenant_idx ON {schema}.objectives (tenant_id);
         CREATE INDEX initiatives_tenant_idx ON {schema}.initiatives (tenant_id);
         CREATE INDEX activities_tenant_idx ON {schema}.activities (tenant_id);
         CREATE INDEX ON {schema}.initiatives (objective_id);
         CREATE INDEX ON {schema}.activities (initiative_id)"
    ))
}

fn tables(content: &Content) -> &'static [&'static str] {
    if content.dashboard {
        &["items", "objectives", "initiatives", "activities"]
    } else {
        &["items"]
    }
}

fn protect(owner: &mut Client, content: &Content) -> Result<()> {
    owner.execute_all(
        "CREATE EXTENSION pg_tenancy;
         SELECT tenancy.bind(membership => 'neon_auth.users_sync', membership_user => 'id')",
    )?;
    for table in tables(content) {
        let schema = Variant::Tenancy.schema();
        owner.execute_all(&format!(
            "SELECT * FROM tenancy.protect_table('{schema}.{table}', mode => 'enforce')"
        ))?;
    }
    Ok(())
}
