-- Services: roles of jobs and migrations, which act for one tenant after the other and as no user.

CREATE TABLE tenancy.service_roles (
    role_name name PRIMARY KEY,
    role_oid oid NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE tenancy.service_roles IS
'roles whose sessions may act for any tenant: written by tenancy.create_service_role() and tenancy.retire_service_role()';
COMMENT ON COLUMN tenancy.service_roles.role_oid IS
'a role of the same name that was made later, or is of another cluster, is no service until tenancy.create_service_role() says so again';
SELECT pg_catalog.pg_extension_config_dump('tenancy.service_roles', '');
GRANT SELECT ON tenancy.service_roles TO PUBLIC;
-- Whoever writes it, and a restore too.
CREATE TRIGGER tenancy_invalidate BEFORE INSERT OR UPDATE OR DELETE ON tenancy.service_roles
    FOR EACH ROW EXECUTE FUNCTION tenancy.invalidate_context();
ALTER TABLE tenancy.service_roles ENABLE ALWAYS TRIGGER tenancy_invalidate;
CREATE TRIGGER tenancy_invalidate_truncate BEFORE TRUNCATE ON tenancy.service_roles
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.invalidate_context();
ALTER TABLE tenancy.service_roles ENABLE ALWAYS TRIGGER tenancy_invalidate_truncate;

CREATE TABLE tenancy.app_roles (
    role_name name PRIMARY KEY,
    role_oid oid NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE tenancy.app_roles IS 'roles made for applications, so that none of them is a service as well: written by tenancy.create_app_role()';
COMMENT ON COLUMN tenancy.app_roles.role_oid IS 'a role of the same name that was made later is another';
SELECT pg_catalog.pg_extension_config_dump('tenancy.app_roles', '');
GRANT SELECT ON tenancy.app_roles TO PUBLIC;

CREATE FUNCTION tenancy.create_service_role(name name) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'create_service_role_wrapper';
COMMENT ON FUNCTION tenancy.create_service_role(name) IS
'a login role for jobs and migrations: bound by row security, owning nothing, reading and writing the tables of all schemas with registered tables, and acting for any tenant by tenancy.as_tenant(), one at a time. A role that exists is brought up to that, unless row security does not bind it. With the rights of the caller, who must own the database or administer. Errors: 22004, 22023, 42501';

CREATE FUNCTION tenancy.retire_service_role(name name) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'retire_service_role_wrapper';
COMMENT ON FUNCTION tenancy.retire_service_role(name) IS
'the role stays and acts for no tenant any more; whether it was a service role. For the owner of the database and administrators. Errors: 22004, 42501';

CREATE FUNCTION tenancy.as_tenant(tenant text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'as_tenant_wrapper';
COMMENT ON FUNCTION tenancy.as_tenant(text) IS
'acts for the tenant to the end of the transaction, as no user, with what the tenant''s admins may and without their roles. For sessions of a service role, the owner of the database or an administrator, whichever role acts. Errors: 22004, 22P02, 42501, 55000';

CREATE FUNCTION tenancy.for_each_tenant(command text, stop_at_error boolean DEFAULT false, unbound boolean DEFAULT false)
RETURNS TABLE (tenant text, rows bigint, error text)
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'for_each_tenant_wrapper';
COMMENT ON FUNCTION tenancy.for_each_tenant(text, boolean, boolean) IS
'runs a command for each active tenant as tenancy.as_tenant() would, with the rights of the caller, each in a subtransaction at whose end deferred constraints are checked and are what they were declared as: an error is a row, and with stop_at_error the last one. Refused (55000) for roles that row security does not bind, and where the role may use a registered table that is not enforced, unless unbound. Errors: 22004, 22023, 42501, 55000';
