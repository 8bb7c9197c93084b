-- Functions that applications and policies call. Unqualified ones go to the schema chosen in
-- CREATE EXTENSION. All are STABLE: never constant-folded into a cached plan, yet usable as an index
-- condition. PUBLIC may EXECUTE what is in this file.

CREATE FUNCTION current_tenant_id() RETURNS uuid
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_tenant_uuid';
COMMENT ON FUNCTION current_tenant_id() IS
    'current tenant as uuid; NULL without a context. 42804 where tenants are of another type, 42501 with several memberships and no choice. Costs a memory read once resolved';

CREATE FUNCTION current_tenant_id_text() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_tenant_text';
COMMENT ON FUNCTION current_tenant_id_text() IS
    'current tenant as text, for tenants of any type; NULL without a context. 42501 with several memberships and no choice. Costs a memory read once resolved';

CREATE FUNCTION current_tenant_id_bigint() RETURNS bigint
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_tenant_bigint';
COMMENT ON FUNCTION current_tenant_id_bigint() IS
    'current tenant as bigint, for tenants of type bigint or integer; NULL without a context. 42804 where tenants are of another type, 42501 with several memberships and no choice. Costs a memory read once resolved';

CREATE FUNCTION tenancy.current_tenant_id_required() RETURNS uuid
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_required_uuid';
COMMENT ON FUNCTION tenancy.current_tenant_id_required() IS
    'called by policies: current tenant as uuid; without a context 42501, or NULL under pg_tenancy.missing_context = deny';

CREATE FUNCTION tenancy.current_tenant_id_text_required() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_required_text';
COMMENT ON FUNCTION tenancy.current_tenant_id_text_required() IS
    'called by policies: current tenant as text; without a context 42501, or NULL under pg_tenancy.missing_context = deny';

CREATE FUNCTION tenancy.current_tenant_id_bigint_required() RETURNS bigint
    LANGUAGE c STABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'pg_tenancy_required_bigint';
COMMENT ON FUNCTION tenancy.current_tenant_id_bigint_required() IS
    'called by policies: current tenant as bigint; without a context 42501, or NULL under pg_tenancy.missing_context = deny';

CREATE FUNCTION current_tenant_user_id() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'current_tenant_user_id_wrapper';
COMMENT ON FUNCTION current_tenant_user_id() IS
    'user that the context names, as text; NULL when none is set';

CREATE FUNCTION current_tenant_role() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'current_tenant_role_wrapper';
COMMENT ON FUNCTION current_tenant_role() IS
    'role of the user in the current tenant; NULL without a context or without a role. 42501 with several memberships and no choice';

CREATE FUNCTION is_tenant_admin() RETURNS boolean
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'is_tenant_admin_wrapper';
COMMENT ON FUNCTION is_tenant_admin() IS
    'whether the user has one of the bound admin_roles or super_admin_roles in the current tenant; false without a context';

CREATE FUNCTION is_super_admin() RETURNS boolean
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'is_super_admin_wrapper';
COMMENT ON FUNCTION is_super_admin() IS
    'whether the user has one of the bound super_admin_roles; false without a context';

CREATE FUNCTION has_tenant_role(role text) RETURNS boolean
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'has_tenant_role_wrapper';
COMMENT ON FUNCTION has_tenant_role(text) IS
    'whether the user has exactly that role in the current tenant; false without a context and for NULL';

CREATE FUNCTION user_tenant_ids() RETURNS uuid[]
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'user_tenant_ids_wrapper';
COMMENT ON FUNCTION user_tenant_ids() IS
    'all active tenants of the user as uuid, chosen or not; empty without a user. 42804 where tenants are of another type';

CREATE FUNCTION user_tenant_ids_text() RETURNS text[]
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'user_tenant_ids_text_wrapper';
COMMENT ON FUNCTION user_tenant_ids_text() IS
    'all active tenants of the user as text, chosen or not; empty without a user';

CREATE FUNCTION get_user_tenant_context() RETURNS jsonb
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'pg_tenancy_document';
COMMENT ON FUNCTION get_user_tenant_context() IS
    'the context as a document: user, tenant, role, memberships, and every key of tenancy.register_context(); nulls and empty arrays without a context. 21000 for a key that should have one row and has several; a source that cannot be read raises the SQLSTATE of its failure and names the key. Costs a copy of the document once it is read';

CREATE FUNCTION get_user_tenant_context(user_id text) RETURNS jsonb
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pg_tenancy_document_of';
COMMENT ON FUNCTION get_user_tenant_context(text) IS
    'the context of another user: all of it for a super admin; for an admin of a tenant that they share, what concerns that tenant, without registered keys of the user''s own rows unless they are shown_to_admins; else 42501. Reads everything at every call';

CREATE FUNCTION set_tenant_context(user_id text, tenant_id text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'set_tenant_context_wrapper';
COMMENT ON FUNCTION set_tenant_context(text, text) IS
    'sets the context to the end of the transaction and checks it at once: 22P02 for a malformed id, 42501 without an active membership';

CREATE FUNCTION clear_tenant_context() RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'clear_tenant_context_wrapper';
COMMENT ON FUNCTION clear_tenant_context() IS
    'ends the context to the end of the transaction';
