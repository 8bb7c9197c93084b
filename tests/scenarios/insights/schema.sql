-- The insights system: a product whose application sets the tenant itself, a text identifier.
CREATE TYPE task_status AS ENUM ('pending', 'running', 'completed', 'failed');
CREATE TYPE insight_severity AS ENUM ('info', 'warning', 'critical');

CREATE TABLE tenants (
    id text PRIMARY KEY,
    name text NOT NULL,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE connectors (
    id text PRIMARY KEY,
    tenant_id text NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    provider text NOT NULL,
    name text NOT NULL,
    settings jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, provider, name)
);

CREATE TABLE tasks (
    id text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    tenant_id text NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    type text NOT NULL,
    status task_status NOT NULL DEFAULT 'pending',
    priority smallint NOT NULL DEFAULT 3 CHECK (priority BETWEEN 1 AND 5),
    payload jsonb NOT NULL DEFAULT '{}',
    module_slug text,
    connector_id text REFERENCES connectors (id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE module_insights (
    id text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    tenant_id text NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    task_id text REFERENCES tasks (id) ON DELETE SET NULL,
    connector_id text REFERENCES connectors (id) ON DELETE SET NULL,
    module_slug text NOT NULL,
    severity insight_severity NOT NULL DEFAULT 'info',
    summary text NOT NULL,
    highlights text[] NOT NULL DEFAULT '{}',
    action_items jsonb NOT NULL DEFAULT '[]',
    score numeric(5, 2) CHECK (score BETWEEN 0 AND 100),
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE analytics_snapshots (
    id text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    tenant_id text NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    connector_id text REFERENCES connectors (id) ON DELETE SET NULL,
    date date NOT NULL,
    sessions integer NOT NULL DEFAULT 0,
    users integer NOT NULL DEFAULT 0,
    conversions integer NOT NULL DEFAULT 0,
    revenue numeric(12, 2) NOT NULL DEFAULT 0,
    source_breakdown jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, date)
);

CREATE INDEX tasks_queue_idx ON tasks (tenant_id, status, priority);
CREATE INDEX tasks_connector_idx ON tasks (tenant_id, connector_id);
CREATE INDEX module_insights_module_idx ON module_insights (tenant_id, module_slug, created_at DESC);
CREATE INDEX module_insights_task_idx ON module_insights (tenant_id, task_id);
CREATE INDEX module_insights_connector_idx ON module_insights (tenant_id, connector_id);
CREATE INDEX analytics_snapshots_connector_idx ON analytics_snapshots (tenant_id, connector_id);
