-- The platform and twenty organisations of 25 users, 8 apps and 40 rows in each content table; the platform
-- shares 10 rows of each, and 2 have no tenant at all. Organisation 19 is suspended, 20 is not active.
-- Identifiers are made from names: md5('org-1'), md5('user-1-1') who is an admin, md5('root') who is the
-- super admin, md5('agents-1-1').
INSERT INTO organizations (id, name, slug, tenant_type, tenant_key)
VALUES ('00000000-0000-0000-0000-000000000001', 'Platform', 'platform', 'system', 'platform');
INSERT INTO organizations (id, name, slug, tenant_type, tenant_key, is_active, lifecycle_state)
SELECT md5('org-' || o)::uuid, 'Organisation ' || o, 'org-' || o,
       (ARRAY['digital_health', 'pharmaceuticals'])[1 + o % 2]::tenant_type, 'key-' || o, o <> 20,
       CASE WHEN o = 19 THEN 'suspended' ELSE 'active' END::lifecycle_state
FROM generate_series(1, 20) AS o;

INSERT INTO users (id, organization_id, email)
VALUES (md5('root')::uuid, '00000000-0000-0000-0000-000000000001', 'root@example.com');
INSERT INTO users (id, organization_id, email)
SELECT md5(format('user-%s-%s', o, n))::uuid, md5('org-' || o)::uuid, format('user%s@org%s.example.com', n, o)
FROM generate_series(1, 20) AS o, generate_series(1, 25) AS n;

INSERT INTO profiles (id, full_name, role) VALUES (md5('root')::uuid, 'Root', 'super_admin');
INSERT INTO profiles (id, full_name, role)
SELECT md5(format('user-%s-%s', o, n))::uuid, format('User %s of %s', n, o), CASE n WHEN 1 THEN 'admin' ELSE 'user' END
FROM generate_series(1, 20) AS o, generate_series(1, 24) AS n;

INSERT INTO tenant_configurations (tenant_id, ui_config, enabled_features, enabled_apps, limits, compliance_settings)
SELECT id, jsonb_build_object('theme', slug), '{"chat": true}', '{app-1,app-2}', '{"users": 100}', '{"hipaa": true}'
FROM organizations;

-- In reverse order, every fourth one hidden.
INSERT INTO tenant_apps (tenant_id, app_key, app_name, app_route, is_visible, display_order)
SELECT md5('org-' || o)::uuid, 'app-' || n, format('App %s', n), format('/apps/%s', n), n % 4 <> 0, 9 - n
FROM generate_series(1, 20) AS o, generate_series(1, 8) AS n;

INSERT INTO feature_flags (id, flag_key, name, default_value, is_active)
SELECT md5('flag-' || n)::uuid, format('flag-%s', to_char(n, 'FM00')), 'Flag ' || n, n % 2 = 0, n <= 10
FROM generate_series(1, 12) AS n;
-- Each organisation turns the first three around, and one that is not active.
INSERT INTO tenant_feature_flags (tenant_id, feature_flag_id, enabled)
SELECT md5('org-' || o)::uuid, md5('flag-' || n)::uuid, n % 2 = 1
FROM generate_series(1, 20) AS o, unnest('{1,2,3,11}'::int[]) AS n;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY '{tools,agents,prompts,knowledge,chat_sessions,personas,jobs_to_be_done}'::text[] LOOP
        EXECUTE format($insert$INSERT INTO %1$I (id, tenant_id, name)
            SELECT md5(format('%1$s-%%s-%%s', o, n))::uuid, md5('org-' || o)::uuid, format('Row %%s of %%s', n, o)
            FROM generate_series(1, 20) AS o, generate_series(1, 40) AS n
            UNION ALL SELECT md5('%1$s-platform-' || n)::uuid, '00000000-0000-0000-0000-000000000001', 'Shared row ' || n
            FROM generate_series(1, 10) AS n
            UNION ALL SELECT md5('%1$s-nobody-' || n)::uuid, NULL, 'Row of nobody ' || n
            FROM generate_series(1, 2) AS n$insert$, name);
    END LOOP;
END $$;
UPDATE chat_sessions SET user_id = u.id FROM users u WHERE u.organization_id = tenant_id AND u.email LIKE 'user2@%';

INSERT INTO tenant_agents (tenant_id, agent_id)
SELECT md5('org-' || o)::uuid, md5('agents-platform-' || n)::uuid FROM generate_series(1, 20) AS o, generate_series(1, 3) AS n
UNION ALL SELECT md5('org-' || o)::uuid, md5(format('agents-%s-1', o))::uuid FROM generate_series(1, 20) AS o;

ANALYZE;
