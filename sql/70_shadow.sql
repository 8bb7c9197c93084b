-- Shadow mode: functions that hooks put into plans, and the list of what was recorded. EXECUTE of the
-- former is for PUBLIC: a plan runs as the role whose statement it is. Called by hand they record
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

CREATE FUNCTION tenancy.shadow_recorded(refused boolean DEFAULT false) RETURNS TABLE (
    relation regclass, command text, kind text, role text, app_user text, context_tenant text, row_tenant text,
    query_id bigint, query text, application_name text, "precision" text, confirmed boolean,
    rows bigint, statements bigint, first_seen timestamptz, last_seen timestamptz, lost_rows bigint)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'shadow_recorded_wrapper';
COMMENT ON FUNCTION tenancy.shadow_recorded(boolean) IS
    'what shadow mode has recorded in this database, or what enforcement has refused; of tables that the caller owns, all for administrators, superusers and members of pg_read_all_stats. Cost: a copy of the store under its lock';

CREATE FUNCTION tenancy.shadow_clear() RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'shadow_clear_wrapper';
COMMENT ON FUNCTION tenancy.shadow_clear() IS
    'forgets what was recorded in this database. Superusers only; others call tenancy.reset_shadow()';
REVOKE ALL ON FUNCTION tenancy.shadow_clear() FROM PUBLIC;

CREATE VIEW tenancy.shadow_denials AS
SELECT r.* FROM tenancy.shadow_recorded(false) r
WHERE EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = r.relation);
COMMENT ON VIEW tenancy.shadow_denials IS
    'rows and statements that enforcement would deny, counted by who, what and where; see tenancy.shadow_recorded() for who may read which';
COMMENT ON COLUMN tenancy.shadow_denials.role IS 'the role that enforcement would bind: the owner of a view or of a SECURITY DEFINER function counts as itself';
COMMENT ON COLUMN tenancy.shadow_denials.query IS 'the first such statement, without the values in it';
COMMENT ON COLUMN tenancy.shadow_denials."precision" IS 'exact: the rows that the statement would lose; level: rows that passed their own level of the query; scan: rows that passed the filters of their table';
COMMENT ON COLUMN tenancy.shadow_denials.confirmed IS 'true where running the statement both ways has shown that it loses rows; null where that was not tried, or is not needed';
COMMENT ON COLUMN tenancy.shadow_denials.lost_rows IS 'how many rows of results the confirmed statements would lose';
GRANT SELECT ON tenancy.shadow_denials TO PUBLIC;

CREATE VIEW tenancy.denials AS
SELECT r.relation, r.command, r.kind, r.role, r.app_user, r.context_tenant, r.row_tenant, r.query_id, r.query,
       r.application_name, r.rows, r.statements, r.first_seen, r.last_seen
FROM tenancy.shadow_recorded(true) r
WHERE EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = r.relation);
COMMENT ON VIEW tenancy.denials IS
    'what enforcement has refused: rows that WITH CHECK did not let be written, and statements without a context. Rows that a policy hides are not counted: hiding them is no error. Needs shared_preload_libraries, else empty';
GRANT SELECT ON tenancy.denials TO PUBLIC;

CREATE FUNCTION tenancy.reset_shadow("table" regclass DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'reset_shadow_wrapper';
COMMENT ON FUNCTION tenancy.reset_shadow(regclass) IS
    'forgets what was recorded and counted for a table, or for all tables of this database, at once: a rollback does not bring it back. Errors: 42501 unless the caller owns the table, or the database, or administers tenancy';

CREATE FUNCTION tenancy.shadow_readiness(relation regclass, mode text, since timestamptz) RETURNS TABLE (
    statements bigint, exempt_statements bigint, denials bigint, dismissed bigint, last_denial timestamptz,
    ready boolean, reasons text[])
    LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT AS 'MODULE_PATHNAME', 'shadow_readiness_wrapper';
COMMENT ON FUNCTION tenancy.shadow_readiness(regclass, text, timestamptz) IS
    'for tenancy.shadow_report(): what is known of one table';
REVOKE ALL ON FUNCTION tenancy.shadow_readiness(regclass, text, timestamptz) FROM PUBLIC;

CREATE FUNCTION tenancy.shadow_report() RETURNS TABLE (
    relation regclass, mode text, since timestamptz, statements bigint, exempt_statements bigint, denials bigint,
    dismissed bigint, last_denial timestamptz, ready boolean, reasons text[])
    LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT p.relation, p.mode, p.mode_since, r.statements, r.exempt_statements, r.denials, r.dismissed, r.last_denial,
           r.ready, r.reasons
    FROM tenancy.protected_tables p
    CROSS JOIN LATERAL tenancy.shadow_readiness(p.relation, p.mode, p.mode_since) r
    ORDER BY p.schema_name, p.table_name
    $$;
COMMENT ON FUNCTION tenancy.shadow_report() IS
    'each registered table: its mode and since when, statements seen that enforcement would bind and those of roles that it would not, denials since the table is in this mode, statements whose denials turned out to be none, and whether it can be enforced, or why not. For every role: numbers only, no tenants, users or statements';
