-- Schema and tables of the registry. They hold names, never regproc or regnamespace, so that
-- pg_upgrade accepts them and a partial dump restores.

CREATE SCHEMA tenancy;
COMMENT ON SCHEMA tenancy IS 'pg_tenancy: administration functions and registry';
GRANT USAGE ON SCHEMA tenancy TO PUBLIC;

CREATE FUNCTION tenancy.database_identity() RETURNS oid
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'database_identity_wrapper';
COMMENT ON FUNCTION tenancy.database_identity() IS
    'what this database is known by in the registry: other for a restored or upgraded one, the same for a standby. Cost: a memory read';

CREATE TABLE tenancy.binding_definition (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    definition jsonb NOT NULL,
    bound_by name NOT NULL,
    bound_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE tenancy.binding_definition IS 'where identity and membership live: written by tenancy.bind(), shown by tenancy.binding';

CREATE TABLE tenancy.protection (
    schema_name name NOT NULL,
    table_name name NOT NULL,
    database_identity oid NOT NULL,
    relation_oid oid NOT NULL,
    template text NOT NULL,
    tenant_column name,
    mode text NOT NULL CHECK (mode IN ('permissive', 'shadow', 'enforce')),
    mode_since timestamptz NOT NULL DEFAULT pg_catalog.now(),
    options jsonb NOT NULL DEFAULT '{}',
    made jsonb NOT NULL DEFAULT '{}',
    found jsonb NOT NULL DEFAULT '{}',
    protected_by name NOT NULL,
    protected_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (schema_name, table_name)
);
CREATE INDEX protection_relation_oid_idx ON tenancy.protection (relation_oid);
COMMENT ON TABLE tenancy.protection IS 'registered tables: written by tenancy.protect_table(), shown by tenancy.protected_tables';
COMMENT ON COLUMN tenancy.protection.tenant_column IS 'null for a template whose tables have none';
COMMENT ON COLUMN tenancy.protection.relation_oid IS 'follows a rename; believed only in the database known by database_identity, since a restore gives new oids';
COMMENT ON COLUMN tenancy.protection.made IS 'objects that protecting made (policies, index, keys, triggers, default), which unprotecting removes';
COMMENT ON COLUMN tenancy.protection.found IS 'state of the table before it was protected, which unprotecting restores';

CREATE TABLE tenancy.cache_sentinel ();
COMMENT ON TABLE tenancy.cache_sentinel IS 'always empty: invalidating its relation cache entry tells every session that identity data changed';

SELECT pg_catalog.pg_extension_config_dump('tenancy.binding_definition', '');
SELECT pg_catalog.pg_extension_config_dump('tenancy.protection', '');
