-- Three roles act: the application; the gate, which finds the user of a session's token before anybody is
-- known; and a service for sign-up and whatever goes across organisations, which row security exempts.
SELECT tenancy.create_app_role('studio_app', '{platform}', login => true);
CREATE ROLE studio_gate BYPASSRLS;
CREATE ROLE studio_service LOGIN BYPASSRLS;
GRANT USAGE ON SCHEMA platform TO studio_gate, studio_service;
GRANT SELECT ON platform.sessions TO studio_gate;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA platform TO studio_service;

CREATE FUNCTION platform.user_of_token(token text) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ''
RETURN (SELECT s.user_id FROM platform.sessions s
        WHERE s.token_sha256 = sha256(convert_to(token, 'UTF8')) AND s.expires_at > now());
ALTER FUNCTION platform.user_of_token(text) OWNER TO studio_gate;
REVOKE EXECUTE ON FUNCTION platform.user_of_token(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION platform.user_of_token(text) TO studio_app;

-- A user and his active organisation are set; it counts only with a membership.
SELECT tenancy.bind(
    tenant_setting => 'app.current_org_id',
    membership => 'platform.organization_members', membership_tenant => 'organization_id', membership_role => 'role',
    tenants => 'platform.organizations', tenants_active => 'is_active',
    admin_roles => '{admin,owner}', identity_writers => '{studio_service}');

-- The policies that let everything through stay as they are: what protects is restrictive.
SELECT p.* FROM tenancy.protect_table('platform.organizations', 'member_read', 'id', 'enforce',
    '{"admin_writes": true}') AS p;
SELECT p.* FROM tenancy.protect_table('platform.organization_members', 'member_read', 'organization_id', 'enforce',
    '{"admin_writes": true, "foreign_keys": "replace"}') AS p;
SELECT p.* FROM tenancy.protect_table('platform.projects', 'tenant', 'organization_id', 'enforce',
    '{"foreign_keys": "replace"}') AS p;
SELECT p.* FROM tenancy.protect_table('platform.profiles', 'self', mode => 'enforce') AS p;
SELECT p.* FROM tenancy.protect_table('platform.sessions', 'self', mode => 'enforce',
    options => '{"user_column": "user_id"}') AS p;
