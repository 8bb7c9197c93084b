//! Cases about what the text of a policy asks for: the tenant itself, and whose word for it.

use super::{Case, case};

/// A permissive policy that lets everything through, so that the restrictive one `r` must hold.
const OPEN: &str =
    "{T}{RLS}CREATE POLICY p ON {s}.t USING (true); CREATE POLICY r ON {s}.t AS RESTRICTIVE USING ";

pub fn opened(text: &str) -> String {
    text.replace("{OPEN}", OPEN)
}

pub const CASES: &[Case] = &[
    // The letters of the tenant column are no question about it.
    case(
        "policy-always-true",
        "policy p on {s}.t",
        "{OPEN}(current_tenant_id() IS NOT NULL)",
        "{OPEN}(EXISTS (SELECT FROM {s}.t x WHERE x.id = current_tenant_id()) AND current_tenant_id() = tenant_id)",
    ),
    case(
        "policy-always-true",
        "policy p on {s}.t",
        "{OPEN}(current_setting('app.current_tenant_id', true) <> '')",
        "{OPEN}(tenant_id::text = current_setting('app.current_tenant_id'))",
    ),
    case(
        "policy-always-true",
        "policy p on {s}.t",
        "{T}ALTER TABLE {s}.t ADD parent_tenant_id uuid; {RLS}CREATE POLICY p ON {s}.t USING (true); CREATE POLICY r ON {s}.t AS RESTRICTIVE USING (parent_tenant_id = current_tenant_id())",
        "{T}ALTER TABLE {s}.t ADD parent_tenant_id uuid; {RLS}CREATE POLICY p ON {s}.t USING (true); CREATE POLICY r ON {s}.t AS RESTRICTIVE USING (parent_tenant_id IS NULL AND (SELECT current_tenant_id()) = tenant_id)",
    ),
    case(
        "policy-always-true",
        "policy p on {s}.t",
        "{OPEN}(tenancy.current_tenant_id_required() IS NOT NULL)",
        "{OPEN}(tenant_id = tenancy.current_tenant_id_required() OR is_super_admin())",
    ),
    case(
        "policy-always-true",
        "policy p on {s}.t",
        "{OPEN}(tenant_id = current_tenant_id() OR note = 'public')",
        "{OPEN}((tenant_id = current_tenant_id() OR tenant_id = ANY (user_tenant_ids())) AND note = 'public')",
    ),
    // Of another table's tenant, whatever this row's.
    case(
        "policy-always-true",
        "policy p on {s}.t",
        "{T}CREATE TABLE {s}.m (u text, tenant_id uuid); {RLS}CREATE POLICY p ON {s}.t USING (true);
         CREATE POLICY r ON {s}.t AS RESTRICTIVE USING (EXISTS (SELECT FROM {s}.m WHERE m.tenant_id = current_tenant_id() AND m.u = 'me'))",
        "{T}CREATE TABLE {s}.m (u text, tenant_id uuid); {RLS}CREATE POLICY p ON {s}.t USING (true);
         CREATE POLICY r ON {s}.t AS RESTRICTIVE USING (EXISTS (SELECT FROM {s}.m JOIN {s}.m n USING (u) WHERE m.tenant_id = t.tenant_id AND m.u = 'me'))",
    ),
    // A function that is given the tenant may well ask for it.
    case(
        "policy-always-true",
        "policy p on {s}.t",
        "{T}CREATE FUNCTION {s}.sees(uuid) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT $1 = current_tenant_id()'; {RLS}CREATE POLICY p ON {s}.t USING (true);
         CREATE POLICY r ON {s}.t AS RESTRICTIVE USING ({s}.sees(id))",
        "{T}CREATE FUNCTION {s}.sees(uuid) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT $1 = current_tenant_id()'; {RLS}CREATE POLICY p ON {s}.t USING (true);
         CREATE POLICY r ON {s}.t AS RESTRICTIVE USING ({s}.sees(tenant_id))",
    ),
    case(
        "policy-check-wider",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t FOR UPDATE USING (tenant_id = current_tenant_id()) WITH CHECK (current_tenant_id() IS NOT NULL)",
        "{T}{RLS}CREATE POLICY p ON {s}.t FOR UPDATE USING (tenant_id = current_tenant_id()) WITH CHECK (note IS NOT NULL AND tenant_id = current_tenant_id())",
    ),
    case(
        "policy-inverted",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id <> current_tenant_id() AND current_tenant_id() IS NOT NULL)",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id <> '00000000-0000-0000-0000-000000000001' AND tenant_id IN (SELECT current_tenant_id()))",
    ),
    case(
        "policy-without-tenant",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (current_tenant_id() IS NOT NULL AND note = 'tenant_id')",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (CASE WHEN note = 'x' THEN tenant_id = current_tenant_id() ELSE coalesce(tenant_id = ANY (user_tenant_ids()), false) END)",
    ),
    case(
        "policy-without-tenant",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id = current_tenant_id() OR note = 'public')",
        "{T}CREATE FUNCTION {s}.is_admin() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT false'; {RLS}CREATE POLICY p ON {s}.t USING ({s}.is_admin() OR (note = 'x' AND user_tenant_ids() @> ARRAY[tenant_id]))",
    ),
    // What a restrictive policy says is judged where nothing else holds the rows.
    case(
        "policy-user-metadata",
        "policy r on {s}.t",
        "{OPEN}(tenant_id::text = current_setting('request.jwt.claims', true)::jsonb -> 'user_metadata' ->> 'tenant')",
        "{T}{P}CREATE POLICY r ON {s}.t AS RESTRICTIVE USING (tenant_id::text = current_setting('request.jwt.claims', true)::jsonb -> 'user_metadata' ->> 'tenant')",
    ),
    // Nor does one that is as bad hold them.
    case(
        "policy-current-user",
        "policy r on {s}.t",
        "{OPEN}(tenant_id::text = current_user); CREATE POLICY q ON {s}.t AS RESTRICTIVE USING (tenant_id = current_tenant_id() OR tenant_id = '00000000-0000-0000-0000-000000000001')",
        "{OPEN}(tenant_id::text = current_user); CREATE POLICY q ON {s}.t AS RESTRICTIVE USING (tenant_id = current_tenant_id())",
    ),
    case(
        "policy-hard-coded",
        "policy r on {s}.t",
        "{OPEN}(tenant_id = current_tenant_id() OR tenant_id = '00000000-0000-0000-0000-000000000001')",
        "{OPEN}(tenant_id = current_tenant_id() OR id = '00000000-0000-0000-0000-000000000001' AND tenant_id = current_tenant_id())",
    ),
    case(
        "policy-null-tenant",
        "policy r on {s}.t",
        "{OPEN}(tenant_id IS NULL OR tenant_id = current_tenant_id())",
        "{OPEN}(tenant_id IS NOT NULL AND tenant_id = current_tenant_id())",
    ),
    // It does not hold the other, and need not.
    case(
        "policy-null-context",
        "policy p on {s}.t",
        "{T}CREATE FUNCTION {s}.tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT current_tenant_id()';
         {RLS}CREATE POLICY p ON {s}.t USING ({s}.tenant() IS NULL OR tenant_id = {s}.tenant())",
        "{T}CREATE FUNCTION {s}.tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT current_tenant_id()';
         {RLS}CREATE POLICY p ON {s}.t USING (tenant_id = {s}.tenant() AND (lower(note) IS NULL OR {s}.tenant() IS NULL))",
    ),
    case(
        "policy-null-context",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (note = 'x' AND (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'tenant') IS NULL OR tenant_id = current_tenant_id())",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (lower(note) IS NULL AND tenant_id = current_tenant_id() OR tenant_id = ANY (user_tenant_ids()))",
    ),
    case(
        "policy-null-tenant",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (note <> 'deleted' AND (tenant_id IS NULL OR tenant_id = current_tenant_id()))",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (note <> 'deleted' AND (tenant_id IS NULL OR note = 'x') AND tenant_id = current_tenant_id())",
    ),
    case(
        "policy-hard-coded",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id = current_tenant_id() OR (note = 'public' AND '00000000-0000-0000-0000-000000000001' = tenant_id))",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id = current_tenant_id() OR tenant_id = ('00000000-0000-0000-0000-' || note)::uuid)",
    ),
    case(
        "policy-hard-coded",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id IN (current_tenant_id(), '00000000-0000-0000-0000-000000000001'))",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id IN (current_tenant_id(), (SELECT current_tenant_id())))",
    ),
    case(
        "policy-user-metadata",
        "policy p on {s}.t",
        "{T}CREATE FUNCTION {s}.tenant() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT current_setting('request.jwt.claims', true)::jsonb -> 'user_metadata' ->> 'tenant' $$;
         {RLS}CREATE POLICY p ON {s}.t USING (tenant_id::text = {s}.tenant())",
        "{T}CREATE FUNCTION {s}.tenant() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT current_setting('request.jwt.claims', true)::jsonb -> 'app_metadata' ->> 'tenant' $$;
         {RLS}CREATE POLICY p ON {s}.t USING (tenant_id::text = {s}.tenant())",
    ),
    // The same in a body that is parsed when it is made, below a restrictive policy.
    case(
        "policy-user-metadata",
        "policy r on {s}.t",
        "CREATE FUNCTION {s}.tenant() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE RETURN current_setting('request.jwt.claims', true)::jsonb -> 'user_metadata' ->> 'tenant'; {OPEN}(tenant_id::text = {s}.tenant())",
        "CREATE FUNCTION {s}.tenant() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE RETURN current_setting('request.jwt.claims', true)::jsonb ->> 'tenant'; {OPEN}(tenant_id::text = {s}.tenant())",
    ),
    case(
        "policy-current-user",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id::text = user)",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id = current_tenant_id() AND note = 'USER' AND note <> current_user)",
    ),
    case(
        "policy-current-user",
        "policy p on {s}.t",
        "{T}CREATE TABLE {s}.m (u name, tenant uuid); {RLS}CREATE POLICY p ON {s}.t USING (tenant_id IN (SELECT m.tenant FROM {s}.m WHERE m.u = session_user))",
        "{T}CREATE TABLE {s}.m (\"USER\" name, tenant uuid); {RLS}CREATE POLICY p ON {s}.t USING (tenant_id IN (SELECT m.tenant FROM {s}.m WHERE m.\"USER\" = 'USER'))",
    ),
    // What a function says that asks nobody.
    case(
        "policy-always-true",
        "policy p on {s}.t",
        "{T}CREATE FUNCTION {s}.ok(uuid) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT true'; {RLS}CREATE POLICY p ON {s}.t USING ({s}.ok(tenant_id))",
        "{T}CREATE FUNCTION {s}.ok(uuid) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT $1 = current_tenant_id()'; {RLS}CREATE POLICY p ON {s}.t USING ({s}.ok(tenant_id))",
    ),
    case(
        "policy-always-true",
        "policy p on {s}.t",
        "CREATE FUNCTION {s}.sees(tenant uuid) RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE AS 'BEGIN RETURN tenant IS NOT NULL; END'; {OPEN}((SELECT {s}.sees(tenant_id)))",
        // It is told who asks.
        "CREATE FUNCTION {s}.sees(tenant uuid, mine uuid) RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE AS 'BEGIN RETURN tenant = mine; END'; {OPEN}((SELECT {s}.sees(tenant_id, current_tenant_id())))",
    ),
    case(
        "policy-always-true",
        "policy p on {s}.t",
        "{T}CREATE FUNCTION {s}.is_admin() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE RETURN NOT false; {RLS}CREATE POLICY p ON {s}.t USING (tenant_id = current_tenant_id() OR (SELECT {s}.is_admin()))",
        "{T}CREATE FUNCTION {s}.is_admin() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE RETURN has_tenant_role('admin'); {RLS}CREATE POLICY p ON {s}.t USING (tenant_id = current_tenant_id() OR (SELECT {s}.is_admin()))",
    ),
    case(
        "policy-without-tenant",
        "policy p on {s}.t",
        "{T}CREATE FUNCTION {s}.is_open(note text) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT note = 'public' $$; {RLS}CREATE POLICY p ON {s}.t USING (tenant_id = current_tenant_id() OR {s}.is_open(note))",
        "{T}CREATE FUNCTION {s}.is_open(note text) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT note = 'public' $$; {RLS}CREATE POLICY p ON {s}.t USING (tenant_id = current_tenant_id() AND {s}.is_open(note))",
    ),
    case(
        "policy-hard-coded",
        "policy p on {s}.t",
        "{T}CREATE FUNCTION {s}.tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT '00000000-0000-0000-0000-000000000001'::uuid $$; {RLS}CREATE POLICY p ON {s}.t USING (tenant_id = {s}.tenant())",
        "{T}CREATE FUNCTION {s}.tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT nullif(current_setting('app.x'), '00000000-0000-0000-0000-000000000001')::uuid $$; {RLS}CREATE POLICY p ON {s}.t USING (tenant_id = {s}.tenant())",
    ),
];
