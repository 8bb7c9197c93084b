-- Three organisations A, B and C, of 20 users, 100 objectives and 200 activities each. Identifiers
-- are made from names, so that a script can name a row: md5('org-a') is organisation A.
-- User c-guest belongs to nobody until invited.
INSERT INTO neon_auth.users_sync (id, tenant_id)
SELECT format('user-%s-%s', org, n), md5('org-' || org)::uuid
FROM unnest('{a,b,c}'::text[]) AS org, generate_series(1, 20) AS n;
INSERT INTO neon_auth.users_sync (id) VALUES ('guest-c');

INSERT INTO profiles (id, tenant_id, user_id, full_name, department, role)
SELECT md5(format('profile-%s-%s', org, n))::uuid, md5('org-' || org)::uuid, format('user-%s-%s', org, n),
       format('%s %s', (ARRAY['Ada','Ben','Cleo','Dan','Eva'])[1 + n % 5], upper(org) || n),
       (ARRAY['Sales','Engineering','Finance','People'])[1 + n % 4],
       CASE WHEN n = 1 THEN 'admin' ELSE 'member' END
FROM unnest('{a,b,c}'::text[]) AS org, generate_series(1, 20) AS n;

INSERT INTO objectives (id, tenant_id, title, status, department, progress_percentage, end_date, owner_id)
SELECT md5(format('objective-%s-%s', org, n))::uuid, md5('org-' || org)::uuid,
       format('Objective %s of %s', n, upper(org)),
       (ARRAY['not_started','in_progress','at_risk','completed'])[1 + (n * ascii(org) / 7) % 4],
       (ARRAY['Sales','Engineering','Finance','People'])[1 + n % 4],
       (n * ascii(org)) % 101, current_date + (n % 120),
       md5(format('profile-%s-%s', org, 1 + n % 20))::uuid
FROM unnest('{a,b,c}'::text[]) AS org, generate_series(1, 100) AS n;

INSERT INTO initiatives (id, tenant_id, objective_id, title, budget, status)
SELECT md5(format('initiative-%s-%s', org, n))::uuid, md5('org-' || org)::uuid,
       md5(format('objective-%s-%s', org, n))::uuid, format('Initiative %s of %s', n, upper(org)),
       1000 * (1 + (n * ascii(org)) % 50), (ARRAY['planned','active','done'])[1 + n % 3]
FROM unnest('{a,b,c}'::text[]) AS org, generate_series(1, 100) AS n;

INSERT INTO activities (id, tenant_id, initiative_id, assignee_id, title, due_date, status)
SELECT md5(format('activity-%s-%s', org, n))::uuid, md5('org-' || org)::uuid,
       md5(format('initiative-%s-%s', org, 1 + n % 100))::uuid,
       md5(format('profile-%s-%s', org, 1 + n % 20))::uuid, format('Activity %s of %s', n, upper(org)),
       now() + make_interval(days => (n * ascii(org)) % 60 - 30),
       (ARRAY['open','in_progress','completed'])[1 + n % 3]
FROM unnest('{a,b,c}'::text[]) AS org, generate_series(1, 200) AS n;

INSERT INTO key_results (tenant_id, objective_id, title, target_value, current_value)
SELECT tenant_id, id, 'Key result of ' || title, 100, progress_percentage FROM objectives;

INSERT INTO comments (tenant_id, objective_id, author_id, body)
SELECT tenant_id, id, owner_id, 'Comment on ' || title FROM objectives;

INSERT INTO update_history (tenant_id, objective_id, old_progress, new_progress)
SELECT tenant_id, id, 0, progress_percentage FROM objectives;

ANALYZE;
