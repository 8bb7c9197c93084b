-- The studio platform as it was found: users of many organisations, one of them active, row security on
-- and every policy of it letting everything through.
CREATE SCHEMA platform;

CREATE TABLE platform.organizations (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL,
    slug text NOT NULL UNIQUE,
    plan text NOT NULL DEFAULT 'free' CHECK (plan IN ('free', 'team', 'enterprise')),
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE platform.profiles (
    id uuid PRIMARY KEY,
    email text NOT NULL UNIQUE,
    display_name text NOT NULL,
    avatar_url text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE platform.organization_members (
    user_id uuid NOT NULL REFERENCES platform.profiles (id) ON DELETE CASCADE,
    organization_id uuid NOT NULL REFERENCES platform.organizations (id) ON DELETE CASCADE,
    role text NOT NULL DEFAULT 'member' CHECK (role IN ('member', 'service', 'admin', 'owner')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, organization_id)
);

CREATE TABLE platform.projects (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL REFERENCES platform.organizations (id) ON DELETE CASCADE,
    name text NOT NULL,
    description text,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused', 'archived')),
    created_by uuid REFERENCES platform.profiles (id) ON DELETE SET NULL,
    settings jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (organization_id, name)
);

-- Only the digest of a token is kept.
CREATE TABLE platform.sessions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES platform.profiles (id) ON DELETE CASCADE,
    token_sha256 bytea NOT NULL UNIQUE CHECK (octet_length(token_sha256) = 32),
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX organization_members_organization_idx ON platform.organization_members (organization_id);
CREATE INDEX projects_status_idx ON platform.projects (organization_id, status, updated_at DESC);
CREATE INDEX sessions_user_idx ON platform.sessions (user_id, expires_at);

ALTER TABLE platform.organizations ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.profiles ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.organization_members ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.projects ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.sessions ENABLE ROW LEVEL SECURITY;
CREATE POLICY transition_organizations ON platform.organizations USING (true) WITH CHECK (true);
CREATE POLICY transition_profiles ON platform.profiles USING (true) WITH CHECK (true);
CREATE POLICY transition_members ON platform.organization_members USING (true) WITH CHECK (true);
CREATE POLICY transition_projects ON platform.projects USING (true) WITH CHECK (true);
CREATE POLICY transition_sessions ON platform.sessions USING (true) WITH CHECK (true);
