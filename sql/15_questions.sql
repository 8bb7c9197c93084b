-- What policies ask besides the tenant. Called for every row, so each costs a memory read once it
-- was answered; STABLE, hence index conditions. "required" raises 42501 where what it asks for is
-- not there, or is NULL (false) under pg_tenancy.missing_context = deny; "or_not" is false then.
-- PUBLIC may EXECUTE them.

CREATE FUNCTION tenancy.platform_tenant_id_required() RETURNS uuid
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_platform_uuid';
COMMENT ON FUNCTION tenancy.platform_tenant_id_required() IS
    'called by policies: the bound platform tenant as uuid, NULL where none is bound; without a tenant of the caller''s own 42501, or NULL under pg_tenancy.missing_context = deny';

CREATE FUNCTION tenancy.platform_tenant_id_text_required() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_platform_text';
COMMENT ON FUNCTION tenancy.platform_tenant_id_text_required() IS
    'called by policies: the bound platform tenant as text, NULL where none is bound; without a tenant of the caller''s own 42501, or NULL under pg_tenancy.missing_context = deny';

CREATE FUNCTION tenancy.platform_tenant_id_bigint_required() RETURNS bigint
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_platform_bigint';
COMMENT ON FUNCTION tenancy.platform_tenant_id_bigint_required() IS
    'called by policies: the bound platform tenant as bigint, NULL where none is bound; without a tenant of the caller''s own 42501, or NULL under pg_tenancy.missing_context = deny';

CREATE FUNCTION tenancy.current_user_id_uuid_required() RETURNS uuid
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_user_uuid';
COMMENT ON FUNCTION tenancy.current_user_id_uuid_required() IS
    'called by policies: the user that the context names as uuid, whatever his tenants; without one 42501, or NULL under pg_tenancy.missing_context = deny; 22P02 where it is none';

CREATE FUNCTION tenancy.current_user_id_text_required() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_user_text';
COMMENT ON FUNCTION tenancy.current_user_id_text_required() IS
    'called by policies: the user that the context names as text, whatever his tenants; without one 42501, or NULL under pg_tenancy.missing_context = deny';

CREATE FUNCTION tenancy.current_user_id_bigint_required() RETURNS bigint
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_user_bigint';
COMMENT ON FUNCTION tenancy.current_user_id_bigint_required() IS
    'called by policies: the user that the context names as bigint, whatever his tenants; without one 42501, or NULL under pg_tenancy.missing_context = deny; 22P02 where it is none';

CREATE FUNCTION tenancy.user_tenant_ids_required() RETURNS uuid[]
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_tenants_uuid';
COMMENT ON FUNCTION tenancy.user_tenant_ids_required() IS
    'called by policies: all active tenants of the user as uuid, chosen or not; without a user 42501, or NULL under pg_tenancy.missing_context = deny';

CREATE FUNCTION tenancy.user_tenant_ids_text_required() RETURNS text[]
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_tenants_text';
COMMENT ON FUNCTION tenancy.user_tenant_ids_text_required() IS
    'called by policies: all active tenants of the user as text, chosen or not; without a user 42501, or NULL under pg_tenancy.missing_context = deny';

CREATE FUNCTION tenancy.user_tenant_ids_bigint_required() RETURNS bigint[]
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_tenants_bigint';
COMMENT ON FUNCTION tenancy.user_tenant_ids_bigint_required() IS
    'called by policies: all active tenants of the user as bigint, chosen or not; without a user 42501, or NULL under pg_tenancy.missing_context = deny';

CREATE FUNCTION tenancy.is_tenant_admin_required() RETURNS boolean
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_admin_required';
COMMENT ON FUNCTION tenancy.is_tenant_admin_required() IS
    'called by policies: whether the user is an admin of the current tenant; without a tenant 42501, or false under pg_tenancy.missing_context = deny';

CREATE FUNCTION tenancy.is_tenant_admin_or_not() RETURNS boolean
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_admin_or_not';
COMMENT ON FUNCTION tenancy.is_tenant_admin_or_not() IS
    'called by policies: whether the user is an admin of the current tenant; false without one';

CREATE FUNCTION tenancy.is_super_admin_required() RETURNS boolean
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_super_required';
COMMENT ON FUNCTION tenancy.is_super_admin_required() IS
    'called by policies: whether the user is a super admin; without a tenant 42501, or false under pg_tenancy.missing_context = deny';

CREATE FUNCTION tenancy.is_super_admin_or_not() RETURNS boolean
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_super_or_not';
COMMENT ON FUNCTION tenancy.is_super_admin_or_not() IS
    'called by policies: whether the user is a super admin; false without a tenant';
