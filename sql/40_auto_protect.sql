-- Tables that are made later: protected by the command that makes them.

CREATE TABLE tenancy.auto_protection (
    schema_name name PRIMARY KEY,
    database_identity oid NOT NULL,
    schema_oid oid NOT NULL,
    tenant_column name NOT NULL,
    mode text NOT NULL CHECK (mode IN ('permissive', 'shadow', 'enforce')),
    strict boolean NOT NULL,
    options jsonb NOT NULL DEFAULT '{}',
    exclude text[] NOT NULL DEFAULT '{}',
    registered_by name NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE tenancy.auto_protection IS 'schemas whose new tables are protected: written by tenancy.auto_protect(), shown by tenancy.auto_protected';
COMMENT ON COLUMN tenancy.auto_protection.schema_oid IS 'follows a rename; believed only in the database known by database_identity, since a restore gives new oids';
SELECT pg_catalog.pg_extension_config_dump('tenancy.auto_protection', '');

CREATE FUNCTION tenancy.protect_new_tables() RETURNS event_trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'pg_tenancy_protect_new_tables';
COMMENT ON FUNCTION tenancy.protect_new_tables() IS
'event trigger: protects tables that a command made in, or moved into, a schema of tenancy.auto_protected, with the rights of the role that ran the command';

-- Disabled while no schema is registered, so that who does not use it pays nothing.
CREATE EVENT TRIGGER pg_tenancy_auto_protect
    ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE', 'CREATE FOREIGN TABLE',
                 'IMPORT FOREIGN SCHEMA', 'CREATE SCHEMA')
    EXECUTE FUNCTION tenancy.protect_new_tables();
ALTER EVENT TRIGGER pg_tenancy_auto_protect DISABLE;
COMMENT ON EVENT TRIGGER pg_tenancy_auto_protect IS
'protects new tables of the schemas in tenancy.auto_protected; tenancy.auto_protect() enables it';

CREATE FUNCTION tenancy.switch_auto_protect() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'pg_tenancy_switch_auto_protect';
COMMENT ON FUNCTION tenancy.switch_auto_protect() IS
'trigger of tenancy.auto_protection: enables the event trigger with the first schema and disables it with the last, in a restore too';
CREATE TRIGGER switch_auto_protect AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON tenancy.auto_protection
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.switch_auto_protect();
ALTER TABLE tenancy.auto_protection ENABLE ALWAYS TRIGGER switch_auto_protect;

CREATE FUNCTION tenancy.auto_protect(
    schema name,
    tenant_column name DEFAULT 'tenant_id',
    mode text DEFAULT 'shadow',
    strict boolean DEFAULT false,
    exclude text[] DEFAULT '{}',
    options jsonb DEFAULT '{}')
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'auto_protect_wrapper';
COMMENT ON FUNCTION tenancy.auto_protect(name, name, text, boolean, text[], jsonb) IS
'from now on a table that is made in the schema, moved there or given the tenant column, and a partition attached to a protected table, is protected by the same command; where that fails the command fails (strict) or a WARNING says why. Tables that exist are left to tenancy.protect_schema(). Calling it again replaces. For the owner of the schema and administrators. Errors: 42501, 3F000, 22023, 0A000';

CREATE FUNCTION tenancy.auto_protect_off(schema name, missing_ok boolean DEFAULT false)
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'auto_protect_off_wrapper';
COMMENT ON FUNCTION tenancy.auto_protect_off(name, boolean) IS
'ends tenancy.auto_protect() for a schema; what is protected stays so. False where it was not on and missing_ok says that this will do. Errors: 42501, 42704';

CREATE VIEW tenancy.auto_protected AS
SELECT coalesce(today.nspname, a.schema_name) AS schema_name, a.tenant_column, a.mode, a.strict, a.exclude, a.options,
       today.nspname IS NOT NULL AND EXISTS (
           SELECT FROM pg_catalog.pg_event_trigger e
           WHERE e.evtname = 'pg_tenancy_auto_protect' AND e.evtenabled IN ('O', 'A')) AS active,
       a.registered_by, a.registered_at
FROM tenancy.auto_protection a
LEFT JOIN LATERAL (
    -- By name, since a restore gives new oids; by oid where the schema was renamed here.
    SELECT n.nspname FROM pg_catalog.pg_namespace n
    WHERE n.nspname = a.schema_name
       OR (n.oid = a.schema_oid
           AND a.database_identity = tenancy.database_identity())
    ORDER BY n.nspname = a.schema_name DESC LIMIT 1) today ON true;
COMMENT ON VIEW tenancy.auto_protected IS
'schemas whose new tables are protected; active is false where the schema is gone or the event trigger is disabled';
GRANT SELECT ON tenancy.auto_protected TO PUBLIC;
