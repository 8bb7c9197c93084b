-- The DDL that each template renders: what docs/templates.md describes, and what a migration file holds.
CREATE TABLE organizations (id uuid PRIMARY KEY, name text);
CREATE TABLE members (user_id uuid, organization_id uuid NOT NULL, role text, PRIMARY KEY (user_id, organization_id));
CREATE INDEX ON members (organization_id);
CREATE TABLE items (id int PRIMARY KEY, tenant_id uuid NOT NULL, body text);
CREATE INDEX ON items (tenant_id);
CREATE TABLE profiles (id uuid PRIMARY KEY, tenant_id uuid NOT NULL, body text);
CREATE INDEX ON profiles (tenant_id);
CREATE TABLE flags (id int PRIMARY KEY, is_active boolean);
CREATE TABLE lines (id int PRIMARY KEY, item_id int NOT NULL REFERENCES items);
CREATE INDEX ON lines (item_id);
CREATE TABLE words (id int PRIMARY KEY, line_id int NOT NULL REFERENCES lines);
CREATE INDEX ON words (line_id);
SELECT tenancy.bind(tenant_setting => 'app.current_org_id', membership => 'members', membership_tenant => 'organization_id',
    membership_role => 'role', tenants => 'organizations', platform_tenant => '00000000-0000-0000-0000-000000000001');
\set QUIET on
\pset format unaligned
\pset tuples_only on
-- tenant
SELECT tenancy.policy_sql('items');
-- shared_read
SELECT tenancy.policy_sql('items', 'shared_read');
-- tenant_read_admin_write
SELECT tenancy.policy_sql('items', 'tenant_read_admin_write');
-- own_tenant
SELECT tenancy.policy_sql('organizations', 'own_tenant', 'id');
SELECT tenancy.policy_sql('organizations', 'own_tenant', 'id', options => '{"admin_writes": true, "super_admins": "read"}');
SELECT tenancy.policy_sql('organizations', 'own_tenant', 'id', options => '{"super_admins": "all"}');
-- self
SELECT tenancy.policy_sql('profiles', 'self');
SELECT tenancy.policy_sql('profiles', 'self', options => '{"readers": "tenant"}');
SELECT tenancy.policy_sql('profiles', 'self', options => '{"readers": "tenant_admins", "super_admins": "all"}');
-- member_read
SELECT tenancy.policy_sql('members', 'member_read', 'organization_id');
SELECT tenancy.policy_sql('members', 'member_read', 'organization_id', options => '{"admin_writes": true}');
-- global_read_admin_write
SELECT tenancy.policy_sql('flags', 'global_read_admin_write');
SELECT tenancy.policy_sql('flags', 'global_read_admin_write', options => '{"visible": "is_active", "writers": "tenant_admins"}');
-- child
\set ECHO none
SELECT count(*) FROM tenancy.protect_table('items', mode => 'permissive') \g /dev/null
SELECT count(*) FROM tenancy.protect_table('lines', 'child', mode => 'permissive') \g /dev/null
\set ECHO all
SELECT tenancy.policy_sql('lines', 'child');
-- child of a child
SELECT tenancy.policy_sql('words', 'child');
-- child of a table that all read
\set ECHO none
SELECT count(*) FROM tenancy.protect_table('items', 'shared_read', mode => 'permissive') \g /dev/null
\set ECHO all
SELECT tenancy.policy_sql('lines', 'child');
