-- Plans under protection: the tenant is an index condition and prunes partitions, the predicate of
-- the restrictive and the permissive policy appears once, parallel plans stay, nothing is a SubPlan.
SELECT tenancy.bind(tenant_type => 'bigint', tenant_setting => 'app.current_tenant_id');
CREATE TABLE orders (id bigint PRIMARY KEY, tenant_id bigint NOT NULL, total int NOT NULL);
INSERT INTO orders SELECT n, n % 100, n FROM generate_series(1, 20000) n;
CREATE TABLE events (id bigint, tenant_id bigint NOT NULL) PARTITION BY LIST (tenant_id);
CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
CREATE TABLE events_2 PARTITION OF events FOR VALUES IN (2);
CREATE TABLE events_3 PARTITION OF events FOR VALUES IN (3);
SELECT relation, template FROM tenancy.protect_table('orders', mode => 'enforce');
SELECT relation, template FROM tenancy.protect_table('events', mode => 'enforce');
ANALYZE;
CREATE ROLE regress_plans_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON orders, events TO regress_plans_app;
SET ROLE regress_plans_app;
BEGIN;
SET LOCAL app.current_tenant_id = '2';
SET LOCAL enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT count(*) FROM orders;
EXPLAIN (COSTS OFF) SELECT * FROM orders WHERE id = 102;
EXPLAIN (COSTS OFF) UPDATE orders SET total = 0 WHERE total > 10;
EXPLAIN (COSTS OFF) DELETE FROM orders WHERE total > 10;
SET LOCAL enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT total FROM orders ORDER BY total;
SET LOCAL enable_seqscan = on;
EXPLAIN (COSTS OFF) SELECT * FROM events;
-- A generic plan prunes by the tenant of each execution.
SET LOCAL plan_cache_mode = force_generic_plan;
PREPARE all_events AS SELECT * FROM events;
EXPLAIN (COSTS OFF) EXECUTE all_events;
-- The row estimate is that of one tenant: 200 of 20000 rows.
CREATE FUNCTION pg_temp.estimate(query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN
    EXECUTE 'EXPLAIN (FORMAT json) ' || query INTO plan;
    RETURN (plan -> 0 -> 'Plan' ->> 'Plan Rows')::bigint;
END $$;
SELECT pg_temp.estimate('SELECT * FROM orders') BETWEEN 100 AND 400 AS estimates_one_tenant;
-- Parallel plans stay parallel.
SET LOCAL enable_indexscan = off;
SET LOCAL enable_indexonlyscan = off;
SET LOCAL parallel_setup_cost = 0;
SET LOCAL parallel_tuple_cost = 0;
SET LOCAL min_parallel_table_scan_size = 0;
EXPLAIN (COSTS OFF) SELECT count(*) FROM orders;
COMMIT;
RESET ROLE;
DROP OWNED BY regress_plans_app;
DROP ROLE regress_plans_app;
