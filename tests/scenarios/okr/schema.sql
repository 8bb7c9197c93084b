-- The OKR system: users of an external authentication service, seven tenant tables.
CREATE SCHEMA neon_auth;

CREATE TABLE neon_auth.users_sync (
    id text PRIMARY KEY,
    tenant_id uuid
);

CREATE TABLE profiles (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL,
    user_id text NOT NULL UNIQUE REFERENCES neon_auth.users_sync (id),
    full_name text NOT NULL,
    department text NOT NULL,
    role text NOT NULL DEFAULT 'member',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE objectives (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL,
    title text NOT NULL,
    status text NOT NULL DEFAULT 'not_started',
    department text NOT NULL,
    progress_percentage integer NOT NULL DEFAULT 0 CHECK (progress_percentage BETWEEN 0 AND 100),
    start_date date NOT NULL DEFAULT current_date,
    end_date date NOT NULL DEFAULT current_date + 90,
    owner_id uuid REFERENCES profiles (id),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE initiatives (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL,
    objective_id uuid NOT NULL REFERENCES objectives (id) ON DELETE CASCADE,
    title text NOT NULL,
    budget numeric(12, 2) NOT NULL DEFAULT 0,
    status text NOT NULL DEFAULT 'planned',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE activities (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL,
    initiative_id uuid NOT NULL REFERENCES initiatives (id) ON DELETE CASCADE,
    assignee_id uuid REFERENCES profiles (id) ON DELETE SET NULL,
    title text NOT NULL,
    due_date timestamptz NOT NULL,
    status text NOT NULL DEFAULT 'open',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE key_results (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL,
    objective_id uuid NOT NULL REFERENCES objectives (id) ON DELETE CASCADE,
    title text NOT NULL,
    target_value numeric NOT NULL,
    current_value numeric NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE comments (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL,
    objective_id uuid NOT NULL REFERENCES objectives (id) ON DELETE CASCADE,
    author_id uuid REFERENCES profiles (id) ON DELETE SET NULL,
    body text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE update_history (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL,
    objective_id uuid NOT NULL REFERENCES objectives (id) ON DELETE CASCADE,
    old_progress integer,
    new_progress integer,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX profiles_tenant_idx ON profiles (tenant_id);
CREATE INDEX objectives_tenant_idx ON objectives (tenant_id);
CREATE INDEX objectives_status_idx ON objectives (tenant_id, status);
CREATE INDEX initiatives_tenant_idx ON initiatives (tenant_id);
CREATE INDEX initiatives_status_idx ON initiatives (tenant_id, status);
CREATE INDEX activities_tenant_idx ON activities (tenant_id);
CREATE INDEX activities_status_idx ON activities (tenant_id, status);
CREATE INDEX activities_due_idx ON activities (tenant_id, due_date);
CREATE INDEX key_results_tenant_idx ON key_results (tenant_id);
CREATE INDEX comments_tenant_idx ON comments (tenant_id);
CREATE INDEX update_history_tenant_idx ON update_history (tenant_id);
CREATE INDEX profiles_department_idx ON profiles (tenant_id, department);
