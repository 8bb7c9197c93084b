-- The agent platform as it was found: users by the claims of a token, roles in profiles, rows that all
-- tenants share, and policies of its own, some of which query the table that they are on.
CREATE SCHEMA auth;
GRANT USAGE ON SCHEMA auth TO PUBLIC;

CREATE TYPE tenant_type AS ENUM ('system', 'digital_health', 'pharmaceuticals');
CREATE TYPE lifecycle_state AS ENUM ('pending', 'active', 'suspended', 'archived');

CREATE TABLE organizations (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL,
    slug text NOT NULL UNIQUE,
    tenant_type tenant_type NOT NULL,
    tenant_key varchar(64) NOT NULL UNIQUE,
    is_active boolean NOT NULL DEFAULT true,
    lifecycle_state lifecycle_state NOT NULL DEFAULT 'active',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL REFERENCES organizations (id),
    email text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE profiles (
    id uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    full_name text NOT NULL,
    role text NOT NULL DEFAULT 'user' CHECK (role IN ('user', 'admin', 'super_admin')),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE tenant_configurations (
    tenant_id uuid PRIMARY KEY REFERENCES organizations (id) ON DELETE CASCADE,
    ui_config jsonb NOT NULL DEFAULT '{}',
    enabled_features jsonb NOT NULL DEFAULT '{}',
    enabled_apps text[] NOT NULL DEFAULT '{}',
    enabled_agent_tiers integer[] NOT NULL DEFAULT '{1}',
    limits jsonb NOT NULL DEFAULT '{}',
    compliance_settings jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE tenant_apps (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    app_key text NOT NULL,
    app_name text NOT NULL,
    app_route text NOT NULL,
    is_visible boolean NOT NULL DEFAULT true,
    is_enabled boolean NOT NULL DEFAULT true,
    display_order integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, app_key)
);

CREATE TABLE feature_flags (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    flag_key text NOT NULL UNIQUE,
    name text NOT NULL,
    default_value boolean NOT NULL DEFAULT false,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE tenant_feature_flags (
    tenant_id uuid NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    feature_flag_id uuid NOT NULL REFERENCES feature_flags (id) ON DELETE CASCADE,
    enabled boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, feature_flag_id)
);

CREATE TABLE tools (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid REFERENCES organizations (id),
    name text NOT NULL,
    implementation_type text NOT NULL DEFAULT 'function',
    category text NOT NULL DEFAULT 'general',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE agents (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid REFERENCES organizations (id),
    name text NOT NULL,
    tier integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE prompts (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid REFERENCES organizations (id),
    name text NOT NULL,
    body text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE knowledge (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid REFERENCES organizations (id),
    name text NOT NULL,
    source text,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE chat_sessions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid REFERENCES organizations (id),
    name text NOT NULL,
    user_id uuid REFERENCES users (id) ON DELETE SET NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE personas (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid REFERENCES organizations (id),
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE jobs_to_be_done (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid REFERENCES organizations (id),
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE tenant_agents (
    tenant_id uuid NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    agent_id uuid NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
    is_enabled boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, agent_id)
);

CREATE INDEX users_organization_idx ON users (organization_id);
CREATE INDEX tenant_apps_order_idx ON tenant_apps (tenant_id, display_order);
CREATE INDEX tools_tenant_idx ON tools (tenant_id, category);
CREATE INDEX agents_tenant_idx ON agents (tenant_id, tier);
CREATE INDEX prompts_tenant_idx ON prompts (tenant_id);
CREATE INDEX knowledge_tenant_idx ON knowledge (tenant_id);
CREATE INDEX chat_sessions_tenant_idx ON chat_sessions (tenant_id, created_at DESC);
CREATE INDEX personas_tenant_idx ON personas (tenant_id);
CREATE INDEX jobs_to_be_done_tenant_idx ON jobs_to_be_done (tenant_id);

CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE
AS $$ SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid $$;
CREATE FUNCTION auth.is_super_admin() RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
AS $$ SELECT EXISTS (SELECT FROM public.profiles WHERE id = auth.uid() AND role = 'super_admin') $$;

-- Policies as they were.
CREATE POLICY own_organization ON users FOR SELECT
    USING (organization_id IN (SELECT u.organization_id FROM users u WHERE u.id = auth.uid()));
CREATE POLICY own_row ON profiles USING (id = auth.uid());
CREATE POLICY super_admins ON profiles FOR SELECT USING (auth.is_super_admin());
CREATE POLICY own ON organizations FOR SELECT
    USING (id IN (SELECT u.organization_id FROM users u WHERE u.id = auth.uid()));
CREATE POLICY super_admins ON organizations USING (auth.is_super_admin());
CREATE POLICY active ON feature_flags FOR SELECT USING (is_active);
CREATE POLICY super_admins ON feature_flags USING (auth.is_super_admin());
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY '{tenant_configurations,tenant_apps,tenant_feature_flags,tenant_agents}'::text[] LOOP
        EXECUTE format('CREATE POLICY own_tenant ON %I FOR SELECT
            USING (tenant_id IN (SELECT u.organization_id FROM users u WHERE u.id = auth.uid()))', name);
    END LOOP;
    FOREACH name IN ARRAY '{tools,agents,prompts,knowledge,chat_sessions,personas,jobs_to_be_done}'::text[] LOOP
        EXECUTE format($policy$CREATE POLICY platform_rows ON %I FOR SELECT
            USING (tenant_id IS NULL OR tenant_id = '00000000-0000-0000-0000-000000000001')$policy$, name);
        EXECUTE format('CREATE POLICY own_tenant ON %I
            USING (tenant_id IN (SELECT u.organization_id FROM users u WHERE u.id = auth.uid()))', name);
    END LOOP;
    FOR name IN SELECT DISTINCT polrelid::regclass::text FROM pg_policy LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', name);
    END LOOP;
END $$;
