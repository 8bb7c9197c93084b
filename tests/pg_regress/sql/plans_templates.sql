-- Plans of the templates: the tenant (the user, the user's tenants) is an index condition and prunes
-- partitions, no test appears twice, parallel plans stay, and nothing but a child is a SubPlan.
CREATE TABLE organizations (id bigint PRIMARY KEY, name text);
CREATE TABLE members (user_id text, tenant_id bigint NOT NULL, role text, PRIMARY KEY (user_id, tenant_id));
CREATE TABLE tools (id bigint PRIMARY KEY, tenant_id bigint NOT NULL, total int NOT NULL);
CREATE TABLE events (id bigint, tenant_id bigint NOT NULL) PARTITION BY LIST (tenant_id);
CREATE TABLE events_0 PARTITION OF events FOR VALUES IN (0);
CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
CREATE TABLE events_2 PARTITION OF events FOR VALUES IN (2);
CREATE TABLE events_3 PARTITION OF events FOR VALUES IN (3);
CREATE TABLE config (id bigint PRIMARY KEY, tenant_id bigint NOT NULL, total int NOT NULL);
CREATE TABLE profiles (id text PRIMARY KEY, tenant_id bigint NOT NULL);
CREATE TABLE flags (id bigint PRIMARY KEY, is_active boolean NOT NULL);
CREATE TABLE notes (id bigint PRIMARY KEY, tenant_id bigint NOT NULL, total int NOT NULL);
CREATE TABLE marks (id bigint PRIMARY KEY, note_id bigint NOT NULL REFERENCES notes, total int NOT NULL);
CREATE INDEX ON marks (note_id);
INSERT INTO organizations SELECT n, n FROM generate_series(0, 99) n;
INSERT INTO members SELECT 'u' || n, n % 100, 'user' FROM generate_series(1, 5000) n;
INSERT INTO tools SELECT n, n % 100, n FROM generate_series(1, 20000) n;
INSERT INTO config TABLE tools;
INSERT INTO notes TABLE tools;
INSERT INTO profiles SELECT 'u' || n, n % 100 FROM generate_series(1, 5000) n;
INSERT INTO flags SELECT n, n % 2 = 0 FROM generate_series(1, 1000) n;
INSERT INTO marks SELECT n, n % 20000 + 1, n FROM generate_series(1, 60000) n;
SELECT tenancy.bind(tenant_type => 'bigint', membership => 'members', membership_role => 'role', tenants => 'organizations',
    platform_tenant => '0');
SET client_min_messages = warning;
SELECT template, relation FROM tenancy.protect_table('tools', 'shared_read', mode => 'enforce')
UNION ALL SELECT template, relation FROM tenancy.protect_table('events', 'shared_read', mode => 'enforce')
UNION ALL SELECT template, relation FROM tenancy.protect_table('config', 'tenant_read_admin_write', mode => 'enforce')
UNION ALL SELECT template, relation FROM tenancy.protect_table('organizations', 'own_tenant', 'id', 'enforce', '{"admin_writes": true}')
UNION ALL SELECT template, relation FROM tenancy.protect_table('profiles', 'self', mode => 'enforce')
UNION ALL SELECT template, relation FROM tenancy.protect_table('members', 'member_read', mode => 'enforce')
UNION ALL SELECT template, relation FROM tenancy.protect_table('flags', 'global_read_admin_write', mode => 'enforce', options => '{"visible": "is_active"}')
UNION ALL SELECT template, relation FROM tenancy.protect_table('notes', mode => 'enforce')
UNION ALL SELECT template, relation FROM tenancy.protect_table('marks', 'child', mode => 'enforce');
RESET client_min_messages;
VACUUM ANALYZE;
CREATE ROLE regress_templates_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO regress_templates_app;
SET ROLE regress_templates_app;
BEGIN;
SET LOCAL app.current_user_id = 'u2';
-- shared_read: only the partitions of both tenants
EXPLAIN (COSTS OFF) SELECT * FROM events;
SET LOCAL plan_cache_mode = force_generic_plan;
PREPARE all_events AS SELECT * FROM events;
EXPLAIN (COSTS OFF) EXECUTE all_events;
SET LOCAL enable_bitmapscan = off;
-- tenant_read_admin_write: the role is one more call beside the index
EXPLAIN (COSTS OFF) SELECT * FROM config WHERE total > 10;
EXPLAIN (COSTS OFF) UPDATE config SET total = 0 WHERE total > 10;
-- own_tenant
SET LOCAL enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT * FROM organizations;
EXPLAIN (COSTS OFF) UPDATE organizations SET name = '';
-- self
EXPLAIN (COSTS OFF) SELECT * FROM profiles;
EXPLAIN (COSTS OFF) UPDATE profiles SET tenant_id = tenant_id;
-- member_read
EXPLAIN (COSTS OFF) SELECT * FROM members;
-- global_read_admin_write: nothing is asked but what is visible
EXPLAIN (COSTS OFF) SELECT * FROM flags WHERE id = 1;
-- child: through the key of the parent, whose own policies add no second test of the tenant
RESET enable_seqscan;
-- Versions spell a SubPlan differently.
CREATE FUNCTION pg_temp.plan(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        line := regexp_replace(line, 'EXISTS\((SubPlan \d+)\)', '(\1)');
        RETURN NEXT regexp_replace(line, '\(ANY \(\S+ = \((hashed SubPlan \d+)\)\.col1\)\)', '(\1)');
    END LOOP;
END $$;
SELECT pg_temp.plan('SELECT * FROM marks WHERE note_id = 102');
-- All rows of a child: the parents are read once. Not by workers, to which Postgres gives no EXISTS that
-- depends on the row, whoever wrote it.
SELECT pg_temp.plan('SELECT count(*) FROM marks');
-- Parallel plans stay parallel.
SET LOCAL enable_indexscan = off;
SET LOCAL enable_indexonlyscan = off;
SET LOCAL parallel_setup_cost = 0;
SET LOCAL parallel_tuple_cost = 0;
SET LOCAL min_parallel_table_scan_size = 0;
SET LOCAL max_parallel_workers_per_gather = 1;
EXPLAIN (COSTS OFF) SELECT count(*) FROM tools;
EXPLAIN (COSTS OFF) SELECT count(*) FROM config;
EXPLAIN (COSTS OFF) SELECT count(*) FROM profiles;
EXPLAIN (COSTS OFF) SELECT count(*) FROM members;
EXPLAIN (COSTS OFF) SELECT count(*) FROM flags;
COMMIT;
RESET ROLE;
DROP OWNED BY regress_templates_app;
DROP ROLE regress_templates_app;
