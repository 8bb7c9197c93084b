//! Cases about row security, policies and their functions.

use super::{Case, case};

const TENANT: &str = "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id = current_tenant_id()) WITH CHECK (tenant_id = current_tenant_id())";

/// A trigger on a table of nobody's rows, with the rights of a superuser, and one with those of a table's owner.
pub fn triggered(text: &str) -> String {
    text.replace("{LOG}", "CREATE TABLE {s}.log (note text); ")
        .replace("{DEFINER}", "CREATE FUNCTION {s}.f() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = {s}, pg_temp AS $$")
        .replace("{G}", "$$; CREATE TRIGGER g BEFORE INSERT ON {s}.log FOR EACH ROW EXECUTE FUNCTION {s}.f()")
        .replace("{OWN}", "CREATE FUNCTION {s}.f() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN")
        .replace("{GT}", "$$; CREATE TRIGGER g AFTER INSERT ON {s}.t FOR EACH ROW EXECUTE FUNCTION {s}.f(); GRANT USAGE ON SCHEMA {s} TO {other}; ALTER FUNCTION {s}.f() OWNER TO {other}; ALTER TABLE {s}.t OWNER TO {other}")
}

pub const CASES: &[Case] = &[
    case("rls-off", "table {s}.t", "{T}", "{T}{P}"),
    // Of which the application may read one column.
    case(
        "rls-off",
        "table {s}.t",
        "CREATE TABLE {s}.t (tenant_id uuid NOT NULL, note text); GRANT SELECT (note) ON {s}.t TO {app}",
        "CREATE TABLE {s}.t (tenant_id uuid NOT NULL, note text); GRANT SELECT (note) ON {s}.t TO {app}; {P}",
    ),
    case(
        "rls-off-ungranted",
        "table {s}.t",
        "CREATE TABLE {s}.t (tenant_id uuid NOT NULL)",
        "{T}",
    ),
    case(
        "policies-dormant",
        "table {s}.t",
        "{T}CREATE POLICY p ON {s}.t USING (tenant_id = current_tenant_id())",
        TENANT,
    ),
    case(
        "rls-not-forced",
        "table {s}.t",
        "{T}ALTER TABLE {s}.t ENABLE ROW LEVEL SECURITY",
        "{T}SELECT tenancy.protect_table('{s}.t', mode => 'enforce', options => '{\"force\": false}')",
    ),
    case("policy-none", "table {s}.t", "{T}{RLS}", TENANT),
    case(
        "policy-command-missing",
        "table {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t FOR SELECT USING (tenant_id = current_tenant_id())",
        "CREATE TABLE {s}.t (tenant_id uuid); GRANT SELECT ON {s}.t TO {app}; {RLS}
         CREATE POLICY p ON {s}.t FOR SELECT USING (tenant_id = current_tenant_id())",
    ),
    // A policy is for its roles.
    case(
        "policy-command-missing",
        "table {s}.t for {other}",
        "{T}GRANT SELECT, INSERT ON {s}.t TO {other}; {RLS}CREATE POLICY p ON {s}.t TO {app} USING (tenant_id = current_tenant_id())",
        "{T}GRANT SELECT, INSERT ON {s}.t TO {other}; {RLS}CREATE POLICY p ON {s}.t TO {app} USING (tenant_id = current_tenant_id());
         CREATE POLICY r ON {s}.t FOR SELECT TO {other} USING (tenant_id = current_tenant_id()); CREATE POLICY i ON {s}.t FOR INSERT TO {other} WITH CHECK (tenant_id = current_tenant_id())",
    ),
    // For some commands only; a group is served by who uses it.
    case(
        "policy-command-missing",
        "table {s}.t for {other}",
        "{T}GRANT SELECT (note), UPDATE (note) ON {s}.t TO {other}; {RLS}CREATE POLICY p ON {s}.t TO {app} USING (tenant_id = current_tenant_id());
         CREATE POLICY q ON {s}.t FOR SELECT TO {other} USING (tenant_id = current_tenant_id())",
        "CREATE TABLE {s}.t (tenant_id uuid NOT NULL); CREATE INDEX ON {s}.t (tenant_id); ALTER ROLE {other} NOLOGIN; GRANT {other} TO {app};
         GRANT SELECT ON {s}.t TO {other}; {RLS}CREATE POLICY p ON {s}.t TO {app} USING (tenant_id = current_tenant_id())",
    ),
    case(
        "policy-always-true",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id = current_tenant_id() OR tenant_id IS NOT NULL)",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id = current_tenant_id() AND (note IS NULL OR true))",
    ),
    // A restrictive policy that lets everything through holds nothing.
    case(
        "policy-always-true",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t FOR SELECT USING (true); CREATE POLICY r ON {s}.t AS RESTRICTIVE FOR SELECT USING (tenant_id IS NOT NULL)",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (true); CREATE POLICY r ON {s}.t AS RESTRICTIVE USING (tenant_id = current_tenant_id())",
    ),
    // Nor does one that holds some roles only.
    case(
        "policy-always-true",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (true); CREATE POLICY r ON {s}.t AS RESTRICTIVE TO {app} USING (tenant_id = current_tenant_id())",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id = current_tenant_id())",
    ),
    // A restrictive policy that opens without a context holds nothing either.
    case(
        "policy-always-true",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (coalesce(tenant_id = tenant_id, true)); CREATE POLICY r ON {s}.t AS RESTRICTIVE USING (current_tenant_id() IS NULL OR tenant_id = current_tenant_id())",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id IS NOT DISTINCT FROM tenant_id); CREATE POLICY r ON {s}.t AS RESTRICTIVE USING (current_tenant_id() IS NOT NULL AND tenant_id = current_tenant_id())",
    ),
    case(
        "policy-check-wider",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t FOR UPDATE USING (tenant_id = current_tenant_id()) WITH CHECK (true)",
        // Without a WITH CHECK, Postgres takes USING.
        "{T}{RLS}CREATE POLICY p ON {s}.t FOR UPDATE USING (tenant_id = current_tenant_id())",
    ),
    case(
        "policy-null-context",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (current_setting('app.x', true) IS NULL OR tenant_id = current_tenant_id())",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (current_setting('app.x', true) IS NOT NULL AND tenant_id = current_tenant_id())",
    ),
    case(
        "policy-null-context",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id = coalesce(current_tenant_id(), tenant_id))",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (coalesce(tenant_id = current_tenant_id(), false))",
    ),
    case(
        "policy-null-context",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (note <> 'secret' AND (tenant_id = current_tenant_id()) IS NOT FALSE)",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING ((tenant_id = current_tenant_id()) IS TRUE)",
    ),
    case(
        "policy-inverted",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id = current_tenant_id() OR (note = 'public' AND tenant_id <> '00000000-0000-0000-0000-000000000001'))",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id = current_tenant_id() AND tenant_id <> '00000000-0000-0000-0000-000000000001')",
    ),
    case(
        "policy-inverted",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id = current_tenant_id()) WITH CHECK (NOT tenant_id = ANY (user_tenant_ids()))",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id = current_tenant_id()) WITH CHECK (NOT note = 'x' AND tenant_id = current_tenant_id())",
    ),
    case(
        "policy-null-tenant",
        "policy p on {s}.t",
        "CREATE TABLE {s}.t (tenant_id uuid); {RLS}CREATE POLICY p ON {s}.t USING (tenant_id IS NOT DISTINCT FROM current_tenant_id())",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id IS NOT DISTINCT FROM current_tenant_id())",
    ),
    case(
        "policy-null-tenant",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id IS NULL OR tenant_id = current_tenant_id())",
        TENANT,
    ),
    case("policy-no-floor", "table {s}.t", TENANT, "{T}{P}"),
    case(
        "policies-widen",
        "table {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id = current_tenant_id()); CREATE POLICY q ON {s}.t FOR SELECT USING (note = 'public' AND tenant_id <> current_tenant_id())",
        "{T}{RLS}CREATE POLICY p ON {s}.t FOR SELECT USING (tenant_id = current_tenant_id()); CREATE POLICY q ON {s}.t FOR DELETE USING (tenant_id = current_tenant_id())",
    ),
    case(
        "policy-without-tenant",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (note = 'public')",
        TENANT,
    ),
    case(
        "policy-hard-coded",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id = current_tenant_id() OR tenant_id = '00000000-0000-0000-0000-000000000001')",
        TENANT,
    ),
    case(
        "policy-user-metadata",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id::text = current_setting('request.jwt.claims', true)::jsonb -> 'user_metadata' ->> 'tenant')",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id::text = current_setting('request.jwt.claims', true)::jsonb -> 'app_metadata' ->> 'tenant')",
    ),
    case(
        "policy-current-user",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id::text = current_user)",
        TENANT,
    ),
    case(
        "policy-recursion",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id IN (SELECT x.tenant_id FROM {s}.t x WHERE x.note = 'me'))",
        "{T}CREATE TABLE {s}.tt (tenant_id uuid); {RLS}CREATE POLICY p ON {s}.t USING (tenant_id IN (SELECT x.tenant_id FROM {s}.tt x))",
    ),
    // Over another table.
    case(
        "policy-recursion",
        "policy p on {s}.t",
        "{T}CREATE TABLE {s}.u (tenant_id uuid NOT NULL); ALTER TABLE {s}.u ENABLE ROW LEVEL SECURITY; {RLS}
         CREATE POLICY p ON {s}.t USING (tenant_id IN (SELECT u.tenant_id FROM {s}.u)); CREATE POLICY q ON {s}.u USING (tenant_id IN (SELECT t.tenant_id FROM {s}.t))",
        "{T}CREATE TABLE {s}.u (tenant_id uuid NOT NULL); {RLS}
         CREATE POLICY p ON {s}.t USING (tenant_id IN (SELECT u.tenant_id FROM {s}.u)); CREATE POLICY q ON {s}.u USING (tenant_id IN (SELECT t.tenant_id FROM {s}.t))",
    ),
    // Behind a comma; and of what is asked of other commands, nothing is asked where it reads.
    case(
        "policy-recursion",
        "policy p on {s}.t",
        "{T}CREATE TABLE {s}.m (u text, tenant_id uuid); {RLS}CREATE POLICY p ON {s}.t USING (tenant_id IN (SELECT x.tenant_id FROM {s}.m, {s}.t x WHERE m.u = x.note))",
        "{T}{RLS}CREATE POLICY p ON {s}.t FOR SELECT USING (tenant_id = current_tenant_id());
         CREATE POLICY i ON {s}.t FOR INSERT WITH CHECK (tenant_id = current_tenant_id() AND NOT EXISTS (SELECT FROM {s}.t x WHERE x.note = t.note));
         CREATE POLICY q ON {s}.t FOR UPDATE USING (tenant_id = current_tenant_id() AND NOT EXISTS (SELECT FROM {s}.t x WHERE x.note = 'me'))",
    ),
    // Postgres looks no further than at whether a policy that it meets again has a sub-select.
    case(
        "policy-recursion",
        "policy i on {s}.t",
        "{T}CREATE TABLE {s}.m (tenant_id uuid); {RLS}CREATE POLICY p ON {s}.t FOR SELECT USING (tenant_id IN (SELECT m.tenant_id FROM {s}.m));
         CREATE POLICY i ON {s}.t FOR INSERT WITH CHECK (tenant_id = current_tenant_id() AND NOT EXISTS (SELECT FROM {s}.t x WHERE x.note = t.note))",
        "{T}CREATE TABLE {s}.m (tenant_id uuid); {RLS}CREATE POLICY p ON {s}.t FOR SELECT USING (tenant_id IN (SELECT m.tenant_id FROM {s}.m));
         CREATE POLICY i ON {s}.t FOR INSERT WITH CHECK (tenant_id = current_tenant_id() AND EXISTS (SELECT FROM {s}.m WHERE m.tenant_id = t.tenant_id))",
    ),
    case(
        "policy-recursion",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id = current_tenant_id()) WITH CHECK (tenant_id = current_tenant_id() AND NOT EXISTS (SELECT FROM {s}.t x WHERE x.note = t.note))",
        "{T}{RLS}CREATE POLICY p ON {s}.t FOR UPDATE USING (tenant_id = current_tenant_id()) WITH CHECK (tenant_id = current_tenant_id() AND NOT EXISTS (SELECT FROM {s}.t x WHERE x.note = t.note))",
    ),
    // The policy of another command is not asked.
    case(
        "policy-recursion",
        "policy q on {s}.u",
        "{T}CREATE TABLE {s}.u (t uuid, tenant_id uuid NOT NULL); CREATE INDEX ON {s}.u (tenant_id); ALTER TABLE {s}.u ENABLE ROW LEVEL SECURITY; {RLS}
         CREATE POLICY p ON {s}.t FOR SELECT USING (EXISTS (SELECT FROM {s}.u WHERE u.t = t.id)); CREATE POLICY q ON {s}.u FOR SELECT USING (EXISTS (SELECT FROM {s}.t WHERE t.id = u.t))",
        "{T}CREATE TABLE {s}.u (t uuid, tenant_id uuid NOT NULL); CREATE INDEX ON {s}.u (tenant_id); ALTER TABLE {s}.u ENABLE ROW LEVEL SECURITY; {RLS}
         CREATE POLICY p ON {s}.t FOR SELECT USING (EXISTS (SELECT FROM {s}.u WHERE u.t = t.id)); CREATE POLICY q ON {s}.u FOR SELECT USING (tenant_id = current_tenant_id());
         CREATE POLICY i ON {s}.u FOR INSERT WITH CHECK (EXISTS (SELECT FROM {s}.t WHERE t.id = u.t))",
    ),
    // The expression of another table with more columns, as a damaged catalog may have it.
    case(
        "policy-unreadable",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (note = 'x');
         CREATE TABLE {s}.wide (a int, b int, c int, d int, e int, f int); CREATE POLICY q ON {s}.wide USING (f = 1);
         SET allow_system_table_mods = on; UPDATE pg_policy SET polqual = (SELECT polqual FROM pg_policy WHERE polrelid = '{s}.wide'::regclass) WHERE polrelid = '{s}.t'::regclass; RESET allow_system_table_mods",
        TENANT,
    ),
    case(
        "policy-scalar-subselect",
        "policy p on {s}.t",
        "{T}CREATE TABLE {s}.m (u text, tenant uuid); {RLS}CREATE POLICY p ON {s}.t USING (tenant_id = (SELECT m.tenant FROM {s}.m WHERE m.u = 'me'))",
        "{T}CREATE TABLE {s}.m (u text, tenant uuid); {RLS}CREATE POLICY p ON {s}.t USING (tenant_id IN (SELECT m.tenant FROM {s}.m WHERE m.u = 'me') AND tenant_id = (SELECT current_tenant_id()))",
    ),
    case(
        "policy-scalar-subselect",
        "policy p on {s}.t",
        "{T}CREATE TABLE {s}.m (u text, tenant text); {RLS}CREATE POLICY p ON {s}.t USING (tenant_id = (SELECT m.tenant::uuid FROM {s}.m WHERE m.u = 'me'))",
        "{T}CREATE TABLE {s}.m (u text PRIMARY KEY, tenant text); {RLS}CREATE POLICY p ON {s}.t USING (tenant_id = (SELECT m.tenant::uuid FROM {s}.m WHERE m.u = 'me'))",
    ),
    case(
        "policy-scalar-subselect",
        "policy p on {s}.t",
        "{T}CREATE TABLE {s}.m (u text, tenant uuid, UNIQUE (u, tenant)); {RLS}CREATE POLICY p ON {s}.t USING ((SELECT DISTINCT m.tenant FROM {s}.m WHERE m.u = 'me') = tenant_id)",
        "{T}CREATE TABLE {s}.m (u text, app int, tenant uuid, UNIQUE (u, app)); {RLS}CREATE POLICY p ON {s}.t USING ((SELECT m.tenant FROM {s}.m WHERE m.u = current_setting('app.x') AND m.app = 1) = tenant_id AND id = (SELECT max(x.u::uuid::text)::uuid FROM {s}.m x))",
    ),
    // A key that is compared with its own table's columns is not held.
    case(
        "policy-scalar-subselect",
        "policy p on {s}.t",
        "{T}CREATE TABLE {s}.m (u text PRIMARY KEY, v text, tenant uuid); {RLS}CREATE POLICY p ON {s}.t USING (tenant_id = (SELECT m.tenant FROM {s}.m WHERE m.u = m.v))",
        "{T}CREATE TABLE {s}.m (u text, tenant uuid); {RLS}CREATE POLICY p ON {s}.t USING (tenant_id = (SELECT m.tenant FROM {s}.m WHERE m.u = 'me' LIMIT 1))",
    ),
    case(
        "function-volatile",
        "function {s}.f()",
        "{T}CREATE FUNCTION {s}.f() RETURNS uuid LANGUAGE sql AS 'SELECT current_tenant_id()'; {RLS}CREATE POLICY p ON {s}.t USING (tenant_id = {s}.f())",
        "{T}CREATE FUNCTION {s}.f() RETURNS uuid LANGUAGE sql AS 'SELECT current_tenant_id()'; {P}",
    ),
    // Once for all rows, and for each.
    case(
        "function-volatile",
        "function {s}.f(pg_catalog.uuid)",
        "{T}CREATE FUNCTION {s}.f(uuid) RETURNS uuid LANGUAGE sql AS 'SELECT current_tenant_id()'; {RLS}CREATE POLICY p ON {s}.t USING (tenant_id = (SELECT {s}.f(t.id)))",
        "{T}CREATE FUNCTION {s}.f() RETURNS uuid LANGUAGE sql AS 'SELECT current_tenant_id()'; {RLS}CREATE POLICY p ON {s}.t USING (tenant_id = (SELECT {s}.f()))",
    ),
    case(
        "function-immutable-setting",
        "function {s}.f()",
        "{T}CREATE FUNCTION {s}.f() RETURNS uuid LANGUAGE sql IMMUTABLE AS $$ SELECT current_setting('app.x')::uuid $$; {RLS}CREATE POLICY p ON {s}.t USING (tenant_id = {s}.f())",
        "{T}CREATE FUNCTION {s}.f(uuid) RETURNS uuid LANGUAGE sql IMMUTABLE AS 'SELECT $1'; {RLS}CREATE POLICY p ON {s}.t USING (tenant_id = {s}.f(current_tenant_id()))",
    ),
    case(
        "function-immutable-setting",
        "function {s}.f()",
        "{T}CREATE FUNCTION {s}.f() RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT is_super_admin()'; {RLS}CREATE POLICY p ON {s}.t USING ({s}.f() OR tenant_id = current_tenant_id())",
        "{T}CREATE FUNCTION {s}.f(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT substring(lower($1) FROM '^[^/]+') WHERE $1 IS DISTINCT FROM '' $$; {RLS}CREATE POLICY p ON {s}.t USING (tenant_id::text = {s}.f(note) AND tenant_id = current_tenant_id())",
    ),
    case(
        "function-immutable-setting",
        "function {s}.f(pg_catalog.text)",
        "{T}CREATE TABLE {s}.m (u text, tenant uuid); CREATE FUNCTION {s}.f(text) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$ SELECT m.tenant FROM unnest(ARRAY[$1]) x JOIN {s}.m ON m.u = substring(x from 2) $$; {RLS}CREATE POLICY p ON {s}.t USING (tenant_id = {s}.f(note))",
        "{T}CREATE FUNCTION {s}.f(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT bool_or(x = 'y') FROM unnest(string_to_array($1, ',')) x $$; {RLS}CREATE POLICY p ON {s}.t USING ({s}.f(note) AND tenant_id = current_tenant_id())",
    ),
    case(
        "function-lookup-per-row",
        "policy p on {s}.t",
        "{T}CREATE TABLE {s}.m (tenant uuid); CREATE FUNCTION {s}.f() RETURNS uuid LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (SELECT tenant FROM {s}.m LIMIT 1); END $$;
         {RLS}CREATE POLICY p ON {s}.t USING (tenant_id = {s}.f())",
        "{T}CREATE FUNCTION {s}.f() RETURNS uuid LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN current_tenant_id(); END $$; {RLS}CREATE POLICY p ON {s}.t USING (tenant_id = {s}.f())",
    ),
    // Once for all rows, and for each besides.
    case(
        "function-lookup-per-row",
        "policy p on {s}.t",
        "{T}CREATE TABLE {s}.m (tenant uuid); CREATE FUNCTION {s}.f() RETURNS uuid LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (SELECT tenant FROM {s}.m LIMIT 1); END $$;
         {RLS}CREATE POLICY p ON {s}.t USING (tenant_id = (SELECT {s}.f()) OR id = {s}.f())",
        "{T}CREATE TABLE {s}.m (tenant uuid); CREATE FUNCTION {s}.f() RETURNS uuid LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (SELECT tenant FROM {s}.m LIMIT 1); END $$;
         {RLS}CREATE POLICY p ON {s}.t USING (tenant_id = (SELECT {s}.f()))",
    ),
    case(
        "function-parallel",
        "function {s}.f()",
        "{T}CREATE FUNCTION {s}.f() RETURNS uuid LANGUAGE sql STABLE AS 'SELECT current_tenant_id()'; {RLS}CREATE POLICY p ON {s}.t USING (tenant_id = {s}.f())",
        "{T}CREATE FUNCTION {s}.f() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT current_tenant_id()'; {RLS}CREATE POLICY p ON {s}.t USING (tenant_id = {s}.f())",
    ),
    case(
        "function-admin-or",
        "policy p on {s}.t",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (is_tenant_admin() OR tenant_id = current_tenant_id())",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (is_tenant_admin() AND tenant_id = current_tenant_id())",
    ),
    case(
        "function-leakproof",
        "function {s}.f(pg_catalog.text)",
        "CREATE FUNCTION {s}.f(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE LEAKPROOF AS $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$",
        "CREATE FUNCTION {s}.f(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN true; END $$",
    ),
    case(
        "definer-search-path",
        "function {s}.f()",
        "CREATE FUNCTION {s}.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
        "CREATE FUNCTION {s}.f() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT 1'",
    ),
    case(
        "definer-public",
        "function {s}.f()",
        "{T}{P}CREATE FUNCTION {s}.f() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp BEGIN ATOMIC SELECT count(*) FROM {s}.t; END",
        "{T}{P}CREATE FUNCTION {s}.f() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM {s}.t; END",
    ),
    // A procedure is no function to ALTER and REVOKE.
    case(
        "definer-search-path",
        "procedure {s}.purge()",
        "CREATE PROCEDURE {s}.purge() LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
        "CREATE PROCEDURE {s}.purge() LANGUAGE sql AS 'SELECT 1'",
    ),
    case(
        "definer-public",
        "procedure {s}.purge()",
        "{T}{P}CREATE PROCEDURE {s}.purge(OUT bigint) LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT count(*) FROM {s}.t'",
        // No more than a part of another name.
        "CREATE TABLE {s}.plans (tenant_id uuid NOT NULL); CREATE FUNCTION {s}.f() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT count(*) FROM pg_prepared_statements WHERE generic_plans > 0'",
    ),
    // By a view, named in its text or kept parsed; and by a name that is no word.
    case(
        "definer-public",
        "function {s}.f()",
        "{T}{P}CREATE VIEW {s}.everything AS SELECT * FROM {s}.t; CREATE FUNCTION {s}.f() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT count(*) FROM {s}.Everything'",
        // As one who is bound.
        "{T}{P}CREATE VIEW {s}.view_of_{other} AS SELECT * FROM {s}.t; ALTER VIEW {s}.view_of_{other} OWNER TO {other}; CREATE FUNCTION {s}.f() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT count(*) FROM {s}.view_of_{other}'",
    ),
    case(
        "definer-public",
        "function {s}.f()",
        "{T}{P}CREATE VIEW {s}.kept AS SELECT * FROM {s}.t; CREATE FUNCTION {s}.f() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp BEGIN ATOMIC SELECT count(*) FROM {s}.kept; END",
        "{T}{P}CREATE VIEW {s}.kept AS SELECT * FROM {s}.t; CREATE FUNCTION {s}.f() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM {s}.kept; END",
    ),
    case(
        "definer-public",
        "function {s}.f()",
        "CREATE TABLE {s}.\"Odd-name\" (tenant_id uuid NOT NULL); CREATE FUNCTION {s}.f() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT count(*) FROM {s}.\"Odd-name\"'",
        "CREATE TABLE {s}.\"Odd-name\" (tenant_id uuid NOT NULL); CREATE FUNCTION {s}.f() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT count(*) AS odd FROM (SELECT 1 AS name) x'",
    ),
    case(
        "definer-trigger",
        "trigger g on {s}.t",
        "{T}{P}CREATE FUNCTION {s}.f() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN NEW; END $$;
         CREATE TRIGGER g BEFORE INSERT ON {s}.t FOR EACH ROW EXECUTE FUNCTION {s}.f()",
        "{T}{P}CREATE FUNCTION {s}.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
         CREATE TRIGGER g BEFORE INSERT ON {s}.t FOR EACH ROW EXECUTE FUNCTION {s}.f()",
    ),
    // Of a view, and of a table that is no tenant's.
    case(
        "definer-trigger",
        "trigger g on {s}.v",
        "{T}{P}CREATE VIEW {s}.v AS SELECT 1 AS a; CREATE FUNCTION {s}.f() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN NEW; END $$;
         CREATE TRIGGER g INSTEAD OF INSERT ON {s}.v FOR EACH ROW EXECUTE FUNCTION {s}.f()",
        "{T}{P}CREATE VIEW {s}.v AS SELECT 1 AS a; CREATE FUNCTION {s}.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
         CREATE TRIGGER g INSTEAD OF INSERT ON {s}.v FOR EACH ROW EXECUTE FUNCTION {s}.f()",
    ),
    case(
        "definer-trigger",
        "trigger g on {s}.log",
        "CREATE TABLE {s}.documents (tenant_id uuid NOT NULL); CREATE TABLE {s}.log (note text);
         CREATE FUNCTION {s}.f() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN INSERT INTO {s}.documents VALUES (gen_random_uuid()); RETURN NEW; END $$;
         CREATE TRIGGER g BEFORE INSERT ON {s}.log FOR EACH ROW EXECUTE FUNCTION {s}.f()",
        "CREATE TABLE {s}.documents (tenant_id uuid NOT NULL); CREATE TABLE {s}.log (note text);
         CREATE FUNCTION {s}.f() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN NEW.note := 'documents'; RETURN NEW; END $$;
         CREATE TRIGGER g BEFORE INSERT ON {s}.log FOR EACH ROW EXECUTE FUNCTION {s}.f()",
    ),
    // Words between, and a table of that name in another schema, by name or by path, in a comment and in a message.
    case(
        "definer-trigger",
        "trigger g on {s}.log",
        "{T}{LOG}{DEFINER} BEGIN INSERT /* into another */ INTO {s} . \"t\" SELECT gen_random_uuid(); RETURN NEW; END {G}",
        "{LOG}CREATE TABLE {s}.t (note text); {DEFINER} BEGIN INSERT INTO t VALUES ('x'); INSERT INTO {s}.t VALUES ('x'); RETURN NEW; END {G}",
    ),
    case(
        "definer-trigger",
        "trigger g on {s}.log",
        "{T}{LOG}{DEFINER} BEGIN TRUNCATE t; RETURN NEW; END {G}",
        "{T}{LOG}{DEFINER} BEGIN -- UPDATE t
             RAISE NOTICE 'delete from t'; RETURN NEW; END {G}",
    ),
    // By a view, and by a function that it calls.
    case(
        "definer-trigger",
        "trigger g on {s}.log",
        "{T}{LOG}CREATE VIEW {s}.shown AS SELECT * FROM {s}.t WHERE note <> 'x'; CREATE VIEW {s}.kept AS SELECT * FROM {s}.shown;
         {DEFINER} BEGIN UPDATE {s}.kept SET note = 'y'; RETURN NEW; END {G}",
        "{T}{LOG}CREATE VIEW {s}.kept AS SELECT * FROM {s}.log l WHERE EXISTS (SELECT FROM {s}.t WHERE t.note = l.note);
         {DEFINER} BEGIN UPDATE {s}.kept SET note = 'y'; RETURN NEW; END {G}",
    ),
    case(
        "definer-trigger",
        "trigger g on {s}.log",
        "{T}{LOG}CREATE FUNCTION {s}.put() RETURNS void LANGUAGE sql BEGIN ATOMIC INSERT INTO {s}.t (id, tenant_id) VALUES (gen_random_uuid(), gen_random_uuid()); END;
         {DEFINER} BEGIN PERFORM put(); RETURN NEW; END {G}",
        "{T}{LOG}CREATE FUNCTION {s}.put() RETURNS void LANGUAGE sql BEGIN ATOMIC INSERT INTO {s}.log SELECT t.note FROM {s}.t; END;
         {DEFINER} BEGIN PERFORM put(); RETURN NEW; END {G}",
    ),
    // Its own table by a name made as it runs, as an owner who is not bound there.
    case(
        "definer-trigger",
        "trigger g on {s}.t",
        "{T}{OWN} EXECUTE format('DELETE FROM %I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME); RETURN NULL; END {GT}",
        "{T}ALTER TABLE {s}.t FORCE ROW LEVEL SECURITY; {OWN} EXECUTE format('DELETE FROM %I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME); RETURN NULL; END {GT}",
    ),
    case(
        "function-untrusted",
        "procedure {s}.p()",
        "CREATE LANGUAGE procedures_{s} HANDLER plpgsql_call_handler; CREATE PROCEDURE {s}.p() LANGUAGE procedures_{s} AS 'BEGIN END'",
        "CREATE PROCEDURE {s}.p() LANGUAGE plpgsql AS 'BEGIN END'",
    ),
    case(
        "function-untrusted",
        "function {s}.f()",
        "CREATE LANGUAGE untrusted_{s} HANDLER plpgsql_call_handler; CREATE FUNCTION {s}.f() RETURNS int LANGUAGE untrusted_{s} AS 'BEGIN RETURN 1; END'",
        "CREATE FUNCTION {s}.f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
    ),
    case(
        "function-untrusted",
        "function {s}.f()",
        "CREATE LANGUAGE untrusted_{s} HANDLER plpgsql_call_handler; CREATE FUNCTION {s}.f() RETURNS int LANGUAGE untrusted_{s} AS 'BEGIN RETURN 1; END'; REVOKE EXECUTE ON FUNCTION {s}.f() FROM PUBLIC; GRANT EXECUTE ON FUNCTION {s}.f() TO {app}",
        "CREATE LANGUAGE untrusted_{s} HANDLER plpgsql_call_handler; CREATE FUNCTION {s}.f() RETURNS int LANGUAGE untrusted_{s} AS 'BEGIN RETURN 1; END'; REVOKE EXECUTE ON FUNCTION {s}.f() FROM PUBLIC; ALTER ROLE {other} NOLOGIN; GRANT EXECUTE ON FUNCTION {s}.f() TO {other}",
    ),
];
