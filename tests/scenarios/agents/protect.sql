-- Two roles act: the application, and a sign-up service that may write identity data.
SELECT tenancy.create_app_role('agents_app', '{public}', login => true);
SELECT tenancy.create_app_role('agents_signup', '{public}', login => true);

-- The policies as they were go; some of them never worked.
DO $$
DECLARE
    policy record;
BEGIN
    FOR policy IN SELECT polname, polrelid::regclass AS relation FROM pg_policy LOOP
        EXECUTE format('DROP POLICY %I ON %s', policy.polname, policy.relation);
        EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', policy.relation);
    END LOOP;
END $$;

-- Content that belongs to nobody is the platform's.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY '{tools,agents,prompts,knowledge,chat_sessions,personas,jobs_to_be_done}'::text[] LOOP
        EXECUTE format($update$UPDATE %I SET tenant_id = '00000000-0000-0000-0000-000000000001' WHERE tenant_id IS NULL$update$, name);
    END LOOP;
END $$;

SELECT tenancy.bind(
    claims_setting => 'request.jwt.claims',
    membership => 'users', membership_user => 'id', membership_tenant => 'organization_id',
    role_table => 'profiles', role_user => 'id', role_column => 'role',
    tenants => 'organizations', tenants_active => 'is_active AND lifecycle_state = ''active''',
    platform_tenant => '00000000-0000-0000-0000-000000000001', identity_writers => '{agents_signup}');

SELECT p.* FROM tenancy.protect_table('organizations', 'own_tenant', 'id', 'enforce', '{"super_admins": "all"}') AS p;
SELECT p.* FROM tenancy.protect_table('users', 'tenant_read_admin_write', 'organization_id', 'enforce') AS p;
SELECT p.* FROM tenancy.protect_table('profiles', 'self', mode => 'enforce', options => '{"super_admins": "read"}') AS p;
SELECT p.* FROM tenancy.protect_table('feature_flags', 'global_read_admin_write', mode => 'enforce',
    options => '{"visible": "is_active"}') AS p;
SELECT p.*
FROM unnest('{tenant_configurations,tenant_apps,tenant_feature_flags,tenant_agents}'::regclass[]) AS relation,
     tenancy.protect_table(relation, 'tenant_read_admin_write', mode => 'enforce') AS p;
SELECT p.*
FROM unnest('{tools,agents,prompts,knowledge,personas,jobs_to_be_done}'::regclass[]) AS relation,
     tenancy.protect_table(relation, 'shared_read', mode => 'enforce') AS p;
-- A session is of a user of its tenant.
SELECT p.* FROM tenancy.protect_table('chat_sessions', 'shared_read', mode => 'enforce',
    options => '{"foreign_keys": "replace"}') AS p;

-- An agent is assigned only if it can be seen: the key alone would take any tenant's.
CREATE POLICY agents_in_sight ON tenant_agents AS RESTRICTIVE FOR INSERT
    WITH CHECK (EXISTS (SELECT FROM agents WHERE agents.id = agent_id));
CREATE POLICY agents_in_sight_still ON tenant_agents AS RESTRICTIVE FOR UPDATE
    USING (true) WITH CHECK (EXISTS (SELECT FROM agents WHERE agents.id = agent_id));

-- One call instead of seven queries.
SELECT tenancy.register_context('user', 'users', user_column => 'id',
    columns => '{email, joined.full_name, joined.role}',
    joined => 'profiles', joined_on => 'joined.id = source.id', joined_user_column => 'id');
SELECT tenancy.register_context('organization', 'organizations', tenant_column => 'id',
    columns => '{id, name, slug, tenant_type, tenant_key, is_active}');
SELECT tenancy.register_context('config', 'tenant_configurations',
    columns => '{ui_config, enabled_features, enabled_apps, enabled_agent_tiers, limits, compliance_settings}');
SELECT tenancy.register_context('apps', 'tenant_apps', 'array', order_by => 'display_order',
    visible => 'is_visible AND is_enabled', columns => '{app_key, app_name, app_route}');
SELECT tenancy.register_context('feature_flags', 'feature_flags', 'array', global => true,
    visible => 'source.is_active', order_by => 'flag_key',
    columns => '{flag_key, "coalesce(joined.enabled, source.default_value) AS enabled"}',
    joined => 'tenant_feature_flags', joined_on => 'joined.feature_flag_id = source.id');
