-- What applications call, what policies and plans call for them, and what triggers call by the rights of the tables'
-- owners is for PUBLIC, also where default privileges take that away. Only there it is granted: where a function has
-- privileges of its own, each statement that calls it has to look them up.
DO $$
DECLARE
    called regprocedure;
BEGIN
    FOR called IN
        SELECT p.oid FROM pg_catalog.pg_proc p
        JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e'
        JOIN pg_catalog.pg_extension e ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND e.oid = d.refobjid
        WHERE e.extname = 'pg_tenancy' AND p.proacl IS NOT NULL
          AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(p.proacl) g WHERE g.grantee = 0)
          AND p.proname = ANY (ARRAY[
        'current_tenant_id', 'current_tenant_id_text', 'current_tenant_id_bigint', 'current_tenant_id_required',
        'current_tenant_id_text_required', 'current_tenant_id_bigint_required', 'current_tenant_user_id',
        'current_tenant_role', 'is_tenant_admin', 'is_super_admin', 'has_tenant_role', 'user_tenant_ids',
        'user_tenant_ids_text', 'get_user_tenant_context', 'set_tenant_context', 'clear_tenant_context',
        'platform_tenant_id_required', 'platform_tenant_id_text_required', 'platform_tenant_id_bigint_required',
        'current_user_id_uuid_required', 'current_user_id_text_required', 'current_user_id_bigint_required',
        'user_tenant_ids_required', 'user_tenant_ids_text_required', 'user_tenant_ids_bigint_required',
        'is_tenant_admin_required', 'is_tenant_admin_or_not', 'is_super_admin_required',
        'is_super_admin_or_not', 'invalidate_context', 'guard_identity', 'tenant_column_immutable',
        'invalidate_document', 'shadow_denied', 'shadow_mark', 'shadow_tenant_id', 'shadow_tenant_id_text',
        'shadow_tenant_id_bigint', 'shadow_platform_tenant_id', 'shadow_platform_tenant_id_text',
        'shadow_platform_tenant_id_bigint', 'shadow_user_id_uuid', 'shadow_user_id_text',
        'shadow_user_id_bigint', 'shadow_user_tenant_ids', 'shadow_user_tenant_ids_text',
        'shadow_user_tenant_ids_bigint', 'shadow_is_tenant_admin', 'shadow_is_super_admin'])
    LOOP
        EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO PUBLIC', called);
    END LOOP;
END $$;
