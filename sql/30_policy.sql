-- Policies: which rows exist. EXECUTE stays with PUBLIC, because owners of tables protect them: each
-- function checks by itself that the caller owns the table or is an administrator.

-- The result has a column "template" where protect_table has an argument of that name, which a list
-- of result columns does not allow: a type of its own does.
CREATE TYPE tenancy.protection_result AS (relation regclass, template text, result text);
COMMENT ON TYPE tenancy.protection_result IS 'what became of one table; "result" ends with the statements to run where a large table would have been locked';

CREATE FUNCTION tenancy.protect_table(
    "table" regclass,
    template text DEFAULT 'tenant',
    tenant_column name DEFAULT 'tenant_id',
    mode text DEFAULT 'shadow',
    options jsonb DEFAULT '{}')
RETURNS SETOF tenancy.protection_result
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'protect_table_wrapper';
COMMENT ON FUNCTION tenancy.protect_table(regclass, text, name, text, jsonb) IS
'protects a table with its partitions and children: mode permissive registers only, enforce isolates. Templates: tenant, shared_read, tenant_read_admin_write, own_tenant, self, member_read, global_read_admin_write, child; their options are in docs/policies.md. Errors: 42501, 42P01, 42703, 42804, 42809, 22023, 23502, 23503, 55000';

CREATE FUNCTION tenancy.protect_schema(
    schema name,
    tenant_column name DEFAULT 'tenant_id',
    mode text DEFAULT 'shadow',
    exclude regclass[] DEFAULT '{}',
    atomic boolean DEFAULT false,
    options jsonb DEFAULT NULL)
RETURNS SETOF tenancy.protection_result
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'protect_schema_wrapper';
COMMENT ON FUNCTION tenancy.protect_schema(name, name, text, regclass[], boolean, jsonb) IS
'protects every table of a schema with the template that its shape asks for, in one transaction; a row for each table: one that cannot be protected says why, unless atomic raises the first such error and leaves nothing. Options left out are those of each registration';

CREATE PROCEDURE tenancy.protect_schema_by_table(
    schema name,
    tenant_column name DEFAULT 'tenant_id',
    mode text DEFAULT 'shadow',
    exclude regclass[] DEFAULT '{}',
    options jsonb DEFAULT NULL)
LANGUAGE c
AS 'MODULE_PATHNAME', 'protect_schema_by_table_wrapper';
COMMENT ON PROCEDURE tenancy.protect_schema_by_table(name, name, text, regclass[], jsonb) IS
'protects every table of a schema and commits after each, so that few locks are held for short and a call that was cut off goes on where it was; what cannot be protected is a WARNING. Not inside a transaction block (25001)';

CREATE FUNCTION tenancy.unprotect_table("table" regclass, missing_ok boolean DEFAULT false)
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'unprotect_table_wrapper';
COMMENT ON FUNCTION tenancy.unprotect_table(regclass, boolean) IS
'leaves a table as it was before it was protected; false where it was not and missing_ok says that this will do';

CREATE FUNCTION tenancy.policy_sql(
    "table" regclass,
    template text DEFAULT NULL,
    tenant_column name DEFAULT NULL,
    mode text DEFAULT 'enforce',
    options jsonb DEFAULT NULL)
RETURNS text
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'policy_sql_wrapper';
COMMENT ON FUNCTION tenancy.policy_sql(regclass, text, name, text, jsonb) IS
'the DDL of enforcement, for a migration file: running it as the owner gives the same catalog as protect_table; what is left out is as it is registered';

CREATE FUNCTION tenancy.set_mode("table" regclass, mode text, force boolean DEFAULT false)
RETURNS SETOF tenancy.protection_result
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'set_mode_of_table_wrapper';
COMMENT ON FUNCTION tenancy.set_mode(regclass, text, boolean) IS
'switches a registered table; leaving enforce takes policies, row security and the trigger away and keeps index, keys, NOT NULL and default';

-- Between (regclass, text) and (text, boolean) Postgres could not choose for set_mode('t', 'enforce').
CREATE FUNCTION tenancy.set_mode("table" text, mode text, force boolean DEFAULT false)
RETURNS SETOF tenancy.protection_result
LANGUAGE sql VOLATILE PARALLEL UNSAFE
AS $$ SELECT * FROM tenancy.set_mode($1::pg_catalog.regclass, $2, $3) $$;
COMMENT ON FUNCTION tenancy.set_mode(text, text, boolean) IS
'the same for a table given as text';

CREATE FUNCTION tenancy.set_mode(mode text, atomic boolean DEFAULT false, force boolean DEFAULT false)
RETURNS SETOF tenancy.protection_result
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'set_mode_of_all_wrapper';
COMMENT ON FUNCTION tenancy.set_mode(text, boolean, boolean) IS
'switches all registered tables in the order of their oids; without atomic a table that fails is reported and the others go on';

CREATE FUNCTION tenancy.tenant_column_immutable() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'tenant_column_immutable';
COMMENT ON FUNCTION tenancy.tenant_column_immutable() IS
'trigger of protected tables: refuses to move a row to another tenant';

CREATE FUNCTION tenancy.protection_drift(schema_name name, table_name name)
RETURNS text
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'protection_drift_wrapper';
COMMENT ON FUNCTION tenancy.protection_drift(name, name) IS
'in what the catalog differs from the registration under that name, in words; null where it agrees. tenancy.drift() says more';

CREATE VIEW tenancy.registrations AS
-- By oid in the database that wrote it, whatever has the name now; by name after a restore.
SELECT coalesce(
           (SELECT c.oid FROM pg_catalog.pg_class c
            WHERE c.oid = p.relation_oid AND p.database_identity = tenancy.database_identity()),
           (SELECT c.oid FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = p.schema_name AND c.relname = p.table_name)
       )::pg_catalog.regclass AS relation,
       p.*
FROM tenancy.protection p;
COMMENT ON VIEW tenancy.registrations IS
'what is registered, with the table that it means today; null where that is gone';

CREATE VIEW tenancy.protected_tables AS
SELECT r.relation, r.schema_name, r.table_name, r.template, r.tenant_column, r.mode, r.mode_since,
       r.options, d.drift IS NULL AS agrees, d.drift
FROM tenancy.registrations r
CROSS JOIN LATERAL (
    SELECT tenancy.protection_drift(r.schema_name, r.table_name) AS drift) d
WHERE r.relation IS NOT NULL;
COMMENT ON VIEW tenancy.protected_tables IS
'protected tables that exist: mode, since when, options, and whether the catalog agrees now';
GRANT SELECT ON tenancy.protected_tables TO PUBLIC;

CREATE FUNCTION tenancy.create_app_role_as_text(role name, schemas text[], login boolean)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'create_app_role_wrapper';
COMMENT ON FUNCTION tenancy.create_app_role_as_text(name, text[], boolean) IS
'tenancy.create_app_role() behind its argument types';

CREATE FUNCTION tenancy.create_app_role(name name, schemas name[], login boolean DEFAULT false)
RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE
AS $$ SELECT tenancy.create_app_role_as_text($1, $2::pg_catalog.text[], $3) $$;
COMMENT ON FUNCTION tenancy.create_app_role(name, name[], boolean) IS
'a role for an application: bound by row security, owning nothing, reading and writing the tables of the schemas, new ones too, and the views that show nothing past row security. Views and materialized views made later are granted as tables are, by Postgres: tenancy.validate() looks at them. With the rights of the caller';

CREATE FUNCTION tenancy.close_before_drop() RETURNS event_trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'close_before_drop';
COMMENT ON FUNCTION tenancy.close_before_drop() IS
'event trigger: DROP EXTENSION pg_tenancy CASCADE leaves enforced tables closed, not open';

CREATE EVENT TRIGGER pg_tenancy_close_before_drop
    ON ddl_command_start WHEN TAG IN ('DROP EXTENSION', 'DROP SCHEMA', 'DROP OWNED')
    EXECUTE FUNCTION tenancy.close_before_drop();
COMMENT ON EVENT TRIGGER pg_tenancy_close_before_drop IS
'DROP EXTENSION pg_tenancy CASCADE leaves enforced tables closed, not open';
