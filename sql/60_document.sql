-- What get_user_tenant_context() shows besides the context itself.

CREATE TABLE tenancy.context_registration (
    key text PRIMARY KEY,
    definition jsonb NOT NULL,
    registered_by name NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE tenancy.context_registration IS 'keys of the context document: written by tenancy.register_context(), shown by tenancy.registered_contexts';
SELECT pg_catalog.pg_extension_config_dump('tenancy.context_registration', '');

CREATE TABLE tenancy.document_sentinel ();
COMMENT ON TABLE tenancy.document_sentinel IS 'always empty: invalidating its relation cache entry tells every session that a source of the context document changed';

CREATE FUNCTION tenancy.invalidate_document() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pg_tenancy_invalidate_document';
COMMENT ON FUNCTION tenancy.invalidate_document() IS
    'trigger on sources of the context document: tells every session, when the transaction commits, that they changed';

CREATE TRIGGER tenancy_document BEFORE INSERT OR UPDATE OR DELETE ON tenancy.context_registration
    FOR EACH ROW EXECUTE FUNCTION tenancy.invalidate_document();
ALTER TABLE tenancy.context_registration ENABLE ALWAYS TRIGGER tenancy_document;

CREATE FUNCTION tenancy.register_context(
    key text,
    source regclass,
    shape text DEFAULT 'object',
    order_by text DEFAULT NULL,
    visible text DEFAULT NULL,
    columns text[] DEFAULT NULL,
    tenant_column name DEFAULT NULL,
    user_column name DEFAULT NULL,
    global boolean DEFAULT false,
    joined regclass DEFAULT NULL,
    joined_on text DEFAULT NULL,
    joined_tenant_column name DEFAULT NULL,
    joined_user_column name DEFAULT NULL,
    joined_global boolean DEFAULT false,
    shown_to_admins boolean DEFAULT false
) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'register_context_wrapper';
COMMENT ON FUNCTION tenancy.register_context(text, regclass, text, text, text, text[], name, name, boolean, regclass, text, name, name, boolean, boolean) IS
    'shows rows of a table under a key of get_user_tenant_context(); registering the key again replaces. Takes SHARE ROW EXCLUSIVE on the tables for their triggers, after which every write to them makes all sessions read their documents again, and ACCESS EXCLUSIVE on tables that the key no longer reads. For owners of the tables and of the bound tables, and administrators. Errors: 42501, 42P01, 42703, 42804, 42809, 22023, 55000, and those of the expressions';

CREATE FUNCTION tenancy.unregister_context(key text, missing_ok boolean DEFAULT false) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'unregister_context_wrapper';
COMMENT ON FUNCTION tenancy.unregister_context(text, boolean) IS
    'takes a key out of get_user_tenant_context(), and its triggers away where no other key needs them, which takes ACCESS EXCLUSIVE on those tables. For whom register_context() is for; 42501, 42704 when it is not registered';

CREATE VIEW tenancy.registered_contexts AS
    SELECT r.key, pg_catalog.format('%I.%I', d.source->>'schema', d.source->>'name') AS source,
           d.shape, d.order_by, d.visible, d.columns, d.tenant_column, d.user_column, d.global,
           CASE WHEN pg_catalog.jsonb_typeof(d.joined) = 'object'
                THEN pg_catalog.format('%I.%I', d.joined->>'schema', d.joined->>'name') END AS joined,
           d.joined_on, d.joined_tenant_column, d.joined_user_column, d.joined_global, d.shown_to_admins,
           r.registered_by, r.registered_at
    FROM tenancy.context_registration r,
         pg_catalog.jsonb_to_record(r.definition) AS d(
             source jsonb, shape text, order_by text, visible text, columns text[], tenant_column text,
             user_column text, global boolean, joined jsonb, joined_on text, joined_tenant_column text,
             joined_user_column text, joined_global boolean, shown_to_admins boolean);
COMMENT ON VIEW tenancy.registered_contexts IS 'what tenancy.register_context() was told; one row a key';
GRANT SELECT ON tenancy.registered_contexts TO PUBLIC;
