-- Forty tenants of 3 connectors, 50 tasks, 50 insights and 60 daily snapshots each. Identifiers are made
-- from names, so that a script can name a row: tenant-1, connector-1-2, insight-1-50.
INSERT INTO tenants (id, name)
SELECT format('tenant-%s', t), format('Company %s', t) FROM generate_series(1, 40) AS t;

INSERT INTO connectors (id, tenant_id, provider, name)
SELECT format('connector-%s-%s', t, n), format('tenant-%s', t),
       (ARRAY['analytics', 'shop', 'ads'])[n], format('Source %s', n)
FROM generate_series(1, 40) AS t, generate_series(1, 3) AS n;

INSERT INTO tasks (id, tenant_id, type, status, priority, payload, module_slug, connector_id)
SELECT format('task-%s-%s', t, n), format('tenant-%s', t), (ARRAY['sync', 'analyse', 'report'])[1 + n % 3],
       (ARRAY['pending', 'running', 'completed', 'failed'])[1 + (n * t) % 4]::task_status, 1 + n % 5,
       jsonb_build_object('attempt', n % 3), (ARRAY['seo', 'sales', 'churn', 'traffic'])[1 + n % 4],
       format('connector-%s-%s', t, 1 + n % 3)
FROM generate_series(1, 40) AS t, generate_series(1, 50) AS n;

INSERT INTO module_insights (id, tenant_id, task_id, connector_id, module_slug, severity, summary, highlights, action_items, score)
SELECT format('insight-%s-%s', t, n), format('tenant-%s', t), format('task-%s-%s', t, n),
       format('connector-%s-%s', t, 1 + n % 3), (ARRAY['seo', 'sales', 'churn', 'traffic'])[1 + n % 4],
       (ARRAY['info', 'warning', 'critical'])[1 + (n + t) % 3]::insight_severity,
       format('Finding %s of company %s', n, t), ARRAY[format('point %s', n), 'trend'],
       jsonb_build_array(jsonb_build_object('do', format('step %s', n))), (n * t) % 101
FROM generate_series(1, 40) AS t, generate_series(1, 50) AS n;

INSERT INTO analytics_snapshots (id, tenant_id, connector_id, date, sessions, users, conversions, revenue, source_breakdown)
SELECT format('snapshot-%s-%s', t, n), format('tenant-%s', t), format('connector-%s-1', t),
       date '2026-01-01' + n, 100 * t + n, 50 * t + n, (t + n) % 40, 10 * t + n,
       jsonb_build_object('direct', n, 'search', t)
FROM generate_series(1, 40) AS t, generate_series(1, 60) AS n;

ANALYZE;
