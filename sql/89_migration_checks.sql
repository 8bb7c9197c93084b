-- What must hold before and after a migration, and what every tenant's data needs.

CREATE TABLE tenancy.required_rows (
    name text PRIMARY KEY,
    schema_name name NOT NULL,
    table_name name NOT NULL,
    key_column name NOT NULL,
    each text NOT NULL CHECK (each IN ('tenant', 'user')),
    condition text,
    minimum integer NOT NULL CHECK (minimum > 0),
    fix text,
    registered_by name NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE tenancy.required_rows IS 'rows that every tenant, or every user, needs: written by tenancy.require_rows() and tenancy.unrequire_rows()';
COMMENT ON COLUMN tenancy.required_rows.condition IS 'which rows count: runs as the owner of the table, of whom its author must have the privileges';
COMMENT ON COLUMN tenancy.required_rows.fix IS 'makes the rows, $1 being the tenant or user; shown as a remediation and never run by the extension';
SELECT pg_catalog.pg_extension_config_dump('tenancy.required_rows', '');
GRANT SELECT ON tenancy.required_rows TO PUBLIC;

CREATE FUNCTION tenancy.require_rows(
    name text, "table" regclass, key_column name DEFAULT 'tenant_id', condition text DEFAULT NULL,
    minimum integer DEFAULT 1, fix text DEFAULT NULL, each text DEFAULT 'tenant'
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'require_rows_wrapper';
COMMENT ON FUNCTION tenancy.require_rows(text, regclass, name, text, integer, text, text) IS
'says that each tenant, or each user, needs rows in a table, and with which statement they are made; the same name again replaces. For those who administer database and table; a condition only of immutable functions, by who has the privileges of the owner. Errors: 22004, 22023, 42501, 42703, 42804, 42809';

CREATE FUNCTION tenancy.unrequire_rows(name text) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'unrequire_rows_wrapper';
COMMENT ON FUNCTION tenancy.unrequire_rows(text) IS
'takes a requirement back; whether there was one. For the owner of the database and administrators. Errors: 22004, 42501';

CREATE FUNCTION tenancy.detect_missing_tenant_data(tenant text DEFAULT NULL)
RETURNS TABLE (tenant_id text, subject text, requirement text, relation text, found bigint, minimum bigint, remediation text)
LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'detect_missing_tenant_data_wrapper';
COMMENT ON FUNCTION tenancy.detect_missing_tenant_data(text) IS
'rows of tenancy.required_rows, and of the bound role table, that a tenant lacks, or all tenants; subject is the tenant or the user. Reads each table as its owner with row security suspended, for those who administer it: of others it says not checked. Errors: 22P02, 42501, 42704, 55000. A scan a table, by index for one tenant';

CREATE FUNCTION tenancy.check_data_consistency()
RETURNS TABLE ("check" text, relation text, count bigint, examples text[], detail text, remediation text)
LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'check_data_consistency_wrapper';
COMMENT ON FUNCTION tenancy.check_data_consistency() IS
'what is wrong with the data of registered and bound tables: tenant-without-rows, user-without-rows, user-without-tenant, row-without-tenant, tenant-unknown, and not-checked; examples are keys, five at most. Rights as of tenancy.detect_missing_tenant_data(). A scan of every registered table; progress as notices for large ones';

CREATE FUNCTION tenancy.pre_migration_check(exact boolean DEFAULT false, long_transaction interval DEFAULT '5 minutes')
RETURNS TABLE ("check" text, status text, detail text)
LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pre_migration_check_wrapper';
COMMENT ON FUNCTION tenancy.pre_migration_check(boolean, interval) IS
'what a migration would run into: sessions, prepared and long transactions, locks on registered tables, drift, disabled triggers, invalid indexes, and how many rows each registered table has, estimated or counted; status ok, warn or error. Reads only';

CREATE FUNCTION tenancy.post_migration_check()
RETURNS TABLE ("check" text, status text, detail text)
LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'post_migration_check_wrapper';
COMMENT ON FUNCTION tenancy.post_migration_check() IS
'what a migration may have left behind: tenant columns, policies, tables that nobody protected, rules about columns, constraints that are not validated, disabled triggers, invalid indexes; status ok, warn or error. Reads only';
