-- Where identity and membership live, and the triggers that watch over it.

CREATE FUNCTION tenancy.invalidate_context() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pg_tenancy_invalidate_context';
COMMENT ON FUNCTION tenancy.invalidate_context() IS
    'trigger on bound tables: tells every session, when the transaction commits, that identity data changed';

CREATE FUNCTION tenancy.guard_identity() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pg_tenancy_guard_identity';
COMMENT ON FUNCTION tenancy.guard_identity() IS
    'trigger on bound tables: refuses writes to user, tenant, role and active columns by roles that may not, with 42501';

-- The registry announces its own changes: a restore writes it without tenancy.bind().
CREATE TRIGGER tenancy_invalidate BEFORE INSERT OR UPDATE OR DELETE ON tenancy.binding_definition
    FOR EACH ROW EXECUTE FUNCTION tenancy.invalidate_context();
ALTER TABLE tenancy.binding_definition ENABLE ALWAYS TRIGGER tenancy_invalidate;
CREATE TRIGGER tenancy_invalidate BEFORE INSERT OR UPDATE OR DELETE ON tenancy.protection
    FOR EACH ROW EXECUTE FUNCTION tenancy.invalidate_context();
ALTER TABLE tenancy.protection ENABLE ALWAYS TRIGGER tenancy_invalidate;

CREATE FUNCTION tenancy.bind(
    tenant_type text DEFAULT 'uuid',
    user_setting text DEFAULT 'app.current_user_id',
    tenant_setting text DEFAULT NULL,
    claims_setting text DEFAULT NULL,
    user_claim text DEFAULT 'sub',
    tenant_claim text DEFAULT NULL,
    membership regclass DEFAULT NULL,
    membership_user name DEFAULT 'user_id',
    membership_tenant name DEFAULT 'tenant_id',
    membership_role name DEFAULT NULL,
    membership_active text DEFAULT NULL,
    role_table regclass DEFAULT NULL,
    role_user name DEFAULT 'id',
    role_column name DEFAULT 'role',
    tenants regclass DEFAULT NULL,
    tenants_id name DEFAULT 'id',
    tenants_active text DEFAULT NULL,
    admin_roles text[] DEFAULT '{admin,owner,super_admin}',
    super_admin_roles text[] DEFAULT '{super_admin}',
    platform_tenant text DEFAULT NULL,
    identity_writers name[] DEFAULT '{}'
) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'bind_wrapper';
COMMENT ON FUNCTION tenancy.bind(text, text, text, text, text, text, regclass, name, name, name, text, regclass, name, name, regclass, name, text, text[], text[], text, name[]) IS
    'says once per database where identity and membership live; calling it again replaces. Takes SHARE ROW EXCLUSIVE on the bound tables for their triggers. For owners of all tables concerned and administrators. Errors: 42501, 42P01, 42703, 42804, 42809, 22023, 22P02';

CREATE FUNCTION tenancy.unbind(missing_ok boolean DEFAULT false) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'unbind_wrapper';
COMMENT ON FUNCTION tenancy.unbind(boolean) IS
    'takes the binding and its triggers away; 55000 while tables are protected, 42704 when nothing is bound';

CREATE VIEW tenancy.binding AS
    SELECT d.tenant_type, d.user_setting, d.tenant_setting, d.claims_setting, d.user_claim, d.tenant_claim,
           CASE WHEN pg_catalog.jsonb_typeof(d.membership) = 'object'
                THEN pg_catalog.format('%I.%I', d.membership->>'schema', d.membership->>'name') END AS membership,
           d.membership_user, d.membership_tenant, d.membership_role, d.membership_active,
           CASE WHEN pg_catalog.jsonb_typeof(d.role_table) = 'object'
                THEN pg_catalog.format('%I.%I', d.role_table->>'schema', d.role_table->>'name') END AS role_table,
           d.role_user, d.role_column,
           CASE WHEN pg_catalog.jsonb_typeof(d.tenants) = 'object'
                THEN pg_catalog.format('%I.%I', d.tenants->>'schema', d.tenants->>'name') END AS tenants,
           d.tenants_id, d.tenants_active, d.admin_roles, d.super_admin_roles, d.platform_tenant, d.identity_writers,
           b.bound_by, b.bound_at
    FROM tenancy.binding_definition b,
         pg_catalog.jsonb_to_record(b.definition) AS d(
             tenant_type text, user_setting text, tenant_setting text, claims_setting text, user_claim text,
             tenant_claim text, membership jsonb, membership_user text, membership_tenant text,
             membership_role text, membership_active text, role_table jsonb, role_user text, role_column text,
             tenants jsonb, tenants_id text, tenants_active text, admin_roles text[], super_admin_roles text[],
             platform_tenant text, identity_writers name[]);
COMMENT ON VIEW tenancy.binding IS 'what tenancy.bind() was told; empty when it was never called';
GRANT SELECT ON tenancy.binding TO PUBLIC;

CREATE FUNCTION tenancy.status() RETURNS TABLE (feature text, state text, detail text)
    LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'status_wrapper';
COMMENT ON FUNCTION tenancy.status() IS
    'what of the extension is on in this session, and why not';
