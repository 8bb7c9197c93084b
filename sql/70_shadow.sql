-- Shadow mode: functions that hooks put into plans, and the list of what was recorded. EXECUTE of the
-- former stays with PUBLIC: a plan runs as the role whose statement it is. Called by hand they record
-- nothing.

CREATE FUNCTION tenancy.shadow_support(internal) RETURNS internal
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'pg_tenancy_shadow_support';
COMMENT ON FUNCTION tenancy.shadow_support(internal) IS
    'planner support: a recorder takes no row away';

CREATE FUNCTION tenancy.shadow_denied(relation regclass, what text, number integer, role regrole, skip boolean, VARIADIC "any")
    RETURNS boolean
    LANGUAGE c STABLE PARALLEL SAFE COST 1 SUPPORT tenancy.shadow_support
    AS 'MODULE_PATHNAME', 'pg_tenancy_shadow_denied';
COMMENT ON FUNCTION tenancy.shadow_denied(regclass, text, integer, regrole, boolean, "any") IS
    'put into plans by shadow mode: records a row that enforcement would deny, and answers true';

CREATE FUNCTION tenancy.shadow_mark("any") RETURNS boolean
    LANGUAGE c STABLE PARALLEL SAFE COST 0.0001 SUPPORT tenancy.shadow_support
    AS 'MODULE_PATHNAME', 'pg_tenancy_shadow_mark';
COMMENT ON FUNCTION tenancy.shadow_mark("any") IS
    'put into queries by shadow mode while they are planned, never left in a plan';

CREATE FUNCTION tenancy.shadow_tenant_id() RETURNS uuid
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_shadow_tenant_id';
COMMENT ON FUNCTION tenancy.shadow_tenant_id() IS
    'for shadow mode: as tenancy.current_tenant_id_required(), and NULL wherever that would raise';

CREATE FUNCTION tenancy.shadow_tenant_id_text() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_shadow_tenant_id_text';
COMMENT ON FUNCTION tenancy.shadow_tenant_id_text() IS
    'for shadow mode: as tenancy.current_tenant_id_text_required(), and NULL wherever that would raise';

CREATE FUNCTION tenancy.shadow_tenant_id_bigint() RETURNS bigint
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_shadow_tenant_id_bigint';
COMMENT ON FUNCTION tenancy.shadow_tenant_id_bigint() IS
    'for shadow mode: as tenancy.current_tenant_id_bigint_required(), and NULL wherever that would raise';

CREATE FUNCTION tenancy.shadow_platform_tenant_id() RETURNS uuid
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_shadow_platform_tenant_id';
COMMENT ON FUNCTION tenancy.shadow_platform_tenant_id() IS
    'for shadow mode: as tenancy.platform_tenant_id_required(), and NULL wherever that would raise';

CREATE FUNCTION tenancy.shadow_platform_tenant_id_text() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_shadow_platform_tenant_id_text';
COMMENT ON FUNCTION tenancy.shadow_platform_tenant_id_text() IS
    'for shadow mode: as tenancy.platform_tenant_id_text_required(), and NULL wherever that would raise';

CREATE FUNCTION tenancy.shadow_platform_tenant_id_bigint() RETURNS bigint
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_shadow_platform_tenant_id_bigint';
COMMENT ON FUNCTION tenancy.shadow_platform_tenant_id_bigint() IS
    'for shadow mode: as tenancy.platform_tenant_id_bigint_required(), and NULL wherever that would raise';

CREATE FUNCTION tenancy.shadow_user_id_uuid() RETURNS uuid
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_shadow_user_id_uuid';
COMMENT ON FUNCTION tenancy.shadow_user_id_uuid() IS
    'for shadow mode: as tenancy.current_user_id_uuid_required(), and NULL wherever that would raise';

CREATE FUNCTION tenancy.shadow_user_id_text() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_shadow_user_id_text';
COMMENT ON FUNCTION tenancy.shadow_user_id_text() IS
    'for shadow mode: as tenancy.current_user_id_text_required(), and NULL wherever that would raise';

CREATE FUNCTION tenancy.shadow_user_id_bigint() RETURNS bigint
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_shadow_user_id_bigint';
COMMENT ON FUNCTION tenancy.shadow_user_id_bigint() IS
    'for shadow mode: as tenancy.current_user_id_bigint_required(), and NULL wherever that would raise';

CREATE FUNCTION tenancy.shadow_user_tenant_ids() RETURNS uuid[]
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_shadow_user_tenant_ids';
COMMENT ON FUNCTION tenancy.shadow_user_tenant_ids() IS
    'for shadow mode: as tenancy.user_tenant_ids_required(), and NULL wherever that would raise';

CREATE FUNCTION tenancy.shadow_user_tenant_ids_text() RETURNS text[]
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_shadow_user_tenant_ids_text';
COMMENT ON FUNCTION tenancy.shadow_user_tenant_ids_text() IS
    'for shadow mode: as tenancy.user_tenant_ids_text_required(), and NULL wherever that would raise';

CREATE FUNCTION tenancy.shadow_user_tenant_ids_bigint() RETURNS bigint[]
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_shadow_user_tenant_ids_bigint';
COMMENT ON FUNCTION tenancy.shadow_user_tenant_ids_bigint() IS
    'for shadow mode: as tenancy.user_tenant_ids_bigint_required(), and NULL wherever that would raise';

CREATE FUNCTION tenancy.shadow_is_tenant_admin() RETURNS boolean
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_shadow_is_tenant_admin';
COMMENT ON FUNCTION tenancy.shadow_is_tenant_admin() IS
    'for shadow mode: as tenancy.is_tenant_admin_required(), and false wherever that would raise';

CREATE FUNCTION tenancy.shadow_is_super_admin() RETURNS boolean
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_shadow_is_super_admin';
COMMENT ON FUNCTION tenancy.shadow_is_super_admin() IS
    'for shadow mode: as tenancy.is_super_admin_required(), and false wherever that would raise';

CREATE FUNCTION tenancy.shadow_recorded() RETURNS TABLE (
    relation regclass, command text, kind text, role text, app_user text, context_tenant text, row_tenant text,
    query_id bigint, query text, application_name text, "precision" text, confirmed boolean,
    rows bigint, statements bigint, first_seen timestamptz, last_seen timestamptz)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'shadow_recorded_wrapper';
COMMENT ON FUNCTION tenancy.shadow_recorded() IS
    'what shadow mode has recorded in this database since the server started or since it was cleared. Superusers only';
REVOKE ALL ON FUNCTION tenancy.shadow_recorded() FROM PUBLIC;

CREATE FUNCTION tenancy.shadow_clear() RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'shadow_clear_wrapper';
COMMENT ON FUNCTION tenancy.shadow_clear() IS
    'forgets what shadow mode has recorded in this database. Superusers only';
REVOKE ALL ON FUNCTION tenancy.shadow_clear() FROM PUBLIC;
