-- Thirty organisations of 80 projects, 300 users: user n belongs to organisation 1 + n % 30, every third one
-- to the next as well, and user 300 to all of them as the account of the background jobs. User 301
-- belongs nowhere. Identifiers are made from names: md5('org-1'), md5('user-1'), md5('project-1-1').
INSERT INTO platform.organizations (id, name, slug, plan)
SELECT md5('org-' || o)::uuid, 'Studio ' || o, 'studio-' || o, (ARRAY['free', 'team', 'enterprise'])[1 + o % 3]
FROM generate_series(1, 30) AS o;

INSERT INTO platform.profiles (id, email, display_name)
SELECT md5('user-' || u)::uuid, format('user%s@example.com', u), 'User ' || u FROM generate_series(1, 301) AS u;

-- The first ten users of an organisation by number: one owner, one admin.
INSERT INTO platform.organization_members (user_id, organization_id, role)
SELECT md5('user-' || u)::uuid, md5('org-' || 1 + u % 30)::uuid,
       CASE WHEN u <= 30 THEN 'owner' WHEN u <= 60 THEN 'admin' ELSE 'member' END
FROM generate_series(1, 299) AS u;
INSERT INTO platform.organization_members (user_id, organization_id, role)
SELECT md5('user-' || u)::uuid, md5('org-' || 1 + (u + 1) % 30)::uuid, 'member'
FROM generate_series(3, 297, 3) AS u;
INSERT INTO platform.organization_members (user_id, organization_id, role)
SELECT md5('user-300')::uuid, id, 'service' FROM platform.organizations;

INSERT INTO platform.projects (id, organization_id, name, status, created_by)
SELECT md5(format('project-%s-%s', o, n))::uuid, md5('org-' || o)::uuid, format('Project %s of studio %s', n, o),
       (ARRAY['active', 'paused', 'archived'])[1 + n % 3], md5('user-' || CASE o WHEN 1 THEN 30 ELSE o - 1 END)::uuid
FROM generate_series(1, 30) AS o, generate_series(1, 80) AS n;

INSERT INTO platform.sessions (user_id, token_sha256, expires_at)
SELECT md5('user-' || u)::uuid, sha256(convert_to(format('token-%s-%s', u, n), 'UTF8')), now() + make_interval(days => 30 * n - 45)
FROM generate_series(1, 300) AS u, generate_series(1, 3) AS n;

ANALYZE;
