-- Rules about roles, and tenancy.audit_roles().

CREATE VIEW tenancy.role_powers AS
SELECT r.oid AS role, r.rolname AS name, w.power, w.remediation, w.kind
FROM pg_catalog.pg_roles r
CROSS JOIN LATERAL (
    -- The role that initdb made stays a superuser.
    SELECT 'is a superuser' AS power, CASE WHEN r.oid <> 10 THEN pg_catalog.format('ALTER ROLE %I NOSUPERUSER', r.rolname) END AS remediation, 'superuser' AS kind
    WHERE r.rolsuper
    UNION ALL
    SELECT 'has BYPASSRLS', pg_catalog.format('ALTER ROLE %I NOBYPASSRLS', r.rolname), 'bypassrls' WHERE r.rolbypassrls AND NOT r.rolsuper
    UNION ALL
    SELECT 'has REPLICATION: it can copy the whole cluster', pg_catalog.format('ALTER ROLE %I NOREPLICATION', r.rolname), 'replication'
    WHERE r.rolreplication AND NOT r.rolsuper
    UNION ALL
    SELECT 'has CREATEROLE: it can make itself a member of other roles', pg_catalog.format('ALTER ROLE %I NOCREATEROLE', r.rolname), 'createrole'
    WHERE r.rolcreaterole AND NOT r.rolsuper
    UNION ALL
    SELECT pg_catalog.format('owns tenant tables, %s among them: it can switch row security off', min(tenancy.qualified_name(t.relation))), NULL, 'owner'
    FROM tenancy.tenant_tables t WHERE t.owner = r.oid AND NOT r.rolsuper HAVING count(*) > 0
    UNION ALL
    SELECT 'owns this database', NULL, 'owner' FROM pg_catalog.pg_database d
    WHERE d.datname = pg_catalog.current_database() AND d.datdba = r.oid AND NOT r.rolsuper
    UNION ALL
    SELECT 'can act outside the database as the user of the server', NULL, 'server'
    WHERE r.rolname IN ('pg_execute_server_program', 'pg_write_server_files', 'pg_read_server_files')) w;
COMMENT ON VIEW tenancy.role_powers IS 'roles that row security does not bind, or that can free themselves of it, for validation';

CREATE VIEW tenancy.role_paths AS
WITH RECURSIVE edges AS (
    -- Only some versions say what a membership is good for; with ADMIN one can grant oneself the rest.
    SELECT m.member, m.roleid AS reached
    FROM pg_catalog.pg_auth_members m
    WHERE m.admin_option
       OR coalesce((pg_catalog.to_jsonb(m) ->> 'inherit_option')::boolean, true)
       OR coalesce((pg_catalog.to_jsonb(m) ->> 'set_option')::boolean, true)),
-- Level by level, since groups of groups have more paths than can be walked.
levels AS (
    SELECT r.oid AS role, r.oid AS reached, 0 AS level FROM pg_catalog.pg_roles r
    UNION SELECT l.role, e.reached, l.level + 1 FROM levels l JOIN edges e ON e.member = l.reached WHERE l.level < 100),
nearest AS (SELECT l.role, l.reached, min(l.level) AS level FROM levels l GROUP BY l.role, l.reached),
steps AS (
    SELECT n.role, n.reached, min(b.reached) AS before
    FROM nearest n JOIN edges e ON e.reached = n.reached
    JOIN nearest b ON b.role = n.role AND b.reached = e.member AND b.level = n.level - 1
    GROUP BY n.role, n.reached),
walk AS (
    SELECT n.role, n.reached, ARRAY[n.role] AS path FROM nearest n WHERE n.level = 0
    UNION ALL SELECT s.role, s.reached, walk.path || s.reached FROM walk JOIN steps s ON s.role = walk.role AND s.before = walk.reached)
SELECT walk.role, walk.reached, walk.path,
       (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(p.role)), ' -> ' ORDER BY p.place)
        FROM pg_catalog.unnest(walk.path) WITH ORDINALITY AS p(role, place)) AS path_names
FROM walk;
COMMENT ON VIEW tenancy.role_paths IS 'which role can act as which, by SET ROLE, inheritance or ADMIN, and over which others, for validation';
GRANT SELECT ON tenancy.role_powers, tenancy.role_paths TO PUBLIC;

CREATE FUNCTION tenancy.audit_roles()
RETURNS TABLE (role name, login boolean, why text, path text, remediation text)
LANGUAGE sql STABLE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT r.rolname, r.rolcanlogin,
           CASE WHEN p.reached = p.role THEN w.power ELSE 'can act as ' || pg_catalog.quote_ident(w.name) || ', which ' || w.power END,
           p.path_names,
           CASE WHEN p.reached = p.role THEN w.remediation
                ELSE pg_catalog.format('REVOKE %I FROM %I', pg_catalog.pg_get_userbyid(p.path[2]), r.rolname) END
    FROM tenancy.role_powers w
    JOIN tenancy.role_paths p ON p.reached = w.role
    JOIN pg_catalog.pg_roles r ON r.oid = p.role
    WHERE r.rolname !~ '^pg_' AND (NOT r.rolsuper OR p.reached = p.role)
    ORDER BY r.rolcanlogin DESC, r.rolname COLLATE "C", pg_catalog.cardinality(p.path), w.power COLLATE "C";
END;
COMMENT ON FUNCTION tenancy.audit_roles() IS
'roles that row security does not bind or that can free themselves of it: why, over which memberships, and the SQL that ends it. remediation is null where it is not a matter of one statement: tables have to have an owner';

INSERT INTO tenancy.rules (code, topic, level, title, why, reference, query) VALUES
('role-bypassrls', 'roles', 'error', 'A role that logs in and uses tenant tables has BYPASSRLS',
 'An application that connects as this role sees all tenants.', 'https://www.postgresql.org/docs/current/ddl-rowsecurity.html',
$rule$SELECT NULL AS schema, tenancy.identity('pg_authid'::regclass, r.oid) AS object,
    'row security does not bind it; uses ' || count(DISTINCT u.relation) || ' tenant tables as ' || string_agg(DISTINCT tenancy.grantee_name(u.role), ', ') AS detail,
    format('ALTER ROLE %I NOBYPASSRLS', r.rolname) AS remediation
-- A grant to PUBLIC names nobody: grant-public tells of it, instead of every such role of the cluster.
FROM pg_roles r JOIN (SELECT g.relation, g.grantee AS role FROM tenancy.tenant_table_grants g WHERE g.grantee <> 0
                      UNION SELECT t.relation, t.owner FROM tenancy.tenant_tables t) u ON tenancy.acts_as(r.oid, u.role)
WHERE r.rolbypassrls AND r.rolcanlogin AND NOT r.rolsuper GROUP BY r.oid, r.rolname$rule$),

('role-superuser', 'roles', 'error', 'A superuser that logs in was granted tenant tables',
 'Grants to it, or to a role that it was made a member of, say that an application connects as it: row security and privileges do not bind it.',
 'https://www.postgresql.org/docs/current/ddl-rowsecurity.html',
$rule$WITH RECURSIVE memberships AS (
    -- The role that initdb made is granted much by habit, and stays what it is.
    SELECT r.oid AS superuser, r.oid AS role FROM pg_roles r WHERE r.rolsuper AND r.rolcanlogin AND r.oid <> 10
    UNION SELECT b.superuser, m.roleid FROM memberships b JOIN pg_auth_members m ON m.member = b.role)
SELECT NULL AS schema, tenancy.identity('pg_authid'::regclass, b.superuser) AS object,
    'nothing binds it; ' || count(DISTINCT g.relation) || ' tenant tables are granted to ' || string_agg(DISTINCT tenancy.grantee_name(b.role), ', ') AS detail,
    format('ALTER ROLE %I NOSUPERUSER', pg_get_userbyid(b.superuser)) AS remediation,
    -- Administrators are in groups of people, too.
    CASE WHEN bool_or(b.role = b.superuser) THEN 'error' ELSE 'warn' END AS level
FROM memberships b JOIN tenancy.relation_grants g ON g.grantee = b.role
WHERE g.relation IN (SELECT t.relation FROM tenancy.tenant_tables t) GROUP BY b.superuser$rule$),

('role-owner', 'roles', 'info', 'A role that logs in owns tenant tables',
 'It can switch row security off and drop policies: migrations connect as it, the application must not. Where row security is not forced, it sees all tenants, which is an error.',
 'https://www.postgresql.org/docs/current/ddl-rowsecurity.html',
$rule$WITH owners AS (
    SELECT r.oid AS role, o.rolname AS owner, t.relation, t.schema, t.mode, t.row_security AND NOT t.forced AS exempt
    FROM pg_roles r
    JOIN (SELECT DISTINCT t.owner FROM tenancy.tenant_tables t) w ON tenancy.acts_as(r.oid, w.owner)
    -- Who may become a superuser administers the server.
    JOIN pg_roles o ON o.oid = w.owner AND NOT o.rolsuper
    JOIN tenancy.tenant_tables t ON t.owner = o.oid
    WHERE r.rolcanlogin AND NOT r.rolsuper)
SELECT NULL AS schema, tenancy.identity('pg_authid'::regclass, w.role) AS object,
    format('as %s owns %s tenant tables, %s among them', string_agg(DISTINCT quote_ident(w.owner), ', '), count(*), min(tenancy.qualified_name(w.relation))) AS detail,
    NULL AS remediation, 'info' AS level
FROM owners w GROUP BY w.role
UNION ALL
SELECT w.schema, tenancy.identity('pg_authid'::regclass, w.role) || ' with ' || tenancy.identity('pg_class'::regclass, w.relation),
    'as ' || quote_ident(w.owner) || ' owns it, and row security is not forced',
    -- What was registered has to say so, too.
    CASE WHEN w.mode = 'enforce' THEN tenancy.protect_statement(w.relation, '{"force": true}')
         ELSE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', tenancy.qualified_name(w.relation)) END, 'error'
FROM owners w WHERE w.exempt$rule$),

('role-path', 'roles', 'error', 'An application role can act as one that row security does not bind',
 'One SET ROLE, or none at all with inheritance, and it sees all tenants.', 'https://www.postgresql.org/docs/current/role-membership.html',
$rule$SELECT NULL AS schema, tenancy.identity('pg_authid'::regclass, a.role) || ' as ' || quote_ident(w.name) AS object,
    p.path_names || ', which ' || string_agg(w.power, ' and ' ORDER BY w.power) AS detail,
    format('REVOKE %I FROM %I', pg_get_userbyid(p.path[2]), a.name) AS remediation
FROM tenancy.application_roles a JOIN tenancy.role_paths p ON p.role = a.role AND p.reached <> a.role
JOIN tenancy.role_powers w ON w.role = p.reached
GROUP BY a.role, a.name, w.name, p.path, p.path_names$rule$),

('role-replication', 'roles', 'error', 'An application role has REPLICATION',
 'It can copy the whole cluster, past all privileges.', 'https://www.postgresql.org/docs/current/role-attributes.html',
$rule$SELECT NULL AS schema, tenancy.identity('pg_authid'::regclass, a.role) AS object, w.power AS detail, w.remediation
FROM tenancy.application_roles a JOIN tenancy.role_powers w ON w.role = a.role AND w.kind = 'replication'$rule$),

('role-createrole', 'roles', 'error', 'An application role has CREATEROLE',
 'It can make itself a member of roles that row security does not bind.', 'https://www.postgresql.org/docs/current/role-attributes.html',
$rule$SELECT NULL AS schema, tenancy.identity('pg_authid'::regclass, a.role) AS object, w.power AS detail, w.remediation
FROM tenancy.application_roles a JOIN tenancy.role_powers w ON w.role = a.role AND w.kind = 'createrole'$rule$),

('role-predefined', 'roles', 'warn', 'An application role is a member of a predefined role that sees much',
 'What no policy holds, such as views, materialized views, statistics and texts of statements, is open to it.',
 'https://www.postgresql.org/docs/current/predefined-roles.html',
$rule$SELECT NULL AS schema, tenancy.identity('pg_authid'::regclass, a.role) || ' as ' || r.rolname AS object,
    p.path_names AS detail, format('REVOKE %I FROM %I', pg_get_userbyid(p.path[2]), a.name) AS remediation
FROM tenancy.application_roles a JOIN tenancy.role_paths p ON p.role = a.role JOIN pg_roles r ON r.oid = p.reached
WHERE r.rolname IN ('pg_read_all_data', 'pg_write_all_data', 'pg_monitor', 'pg_read_all_stats', 'pg_maintain',
    'pg_signal_backend', 'pg_create_subscription', 'pg_checkpoint')$rule$),

('role-setting', 'roles', 'warn', 'A setting that decides isolation is pinned to a role or a database',
 'Every session begins with that context, or with less protection, without anybody asking for it.',
 'https://www.postgresql.org/docs/current/sql-alterrole.html',
$rule$WITH bound AS (
    SELECT unnest(ARRAY[b.user_setting, b.tenant_setting, b.claims_setting]) AS name FROM tenancy.binding b
    -- The tenant's has two names.
    UNION SELECT unnest(ARRAY['app.current_tenant_id', 'app.current_org_id']) FROM tenancy.binding b
    WHERE b.tenant_setting IN ('app.current_tenant_id', 'app.current_org_id'))
SELECT NULL AS schema,
    concat_ws(' in ', 'role ' || quote_ident(r.rolname), 'database ' || quote_ident(d.datname)) || ': ' || c.name AS object,
    'every session begins with it' AS detail,
    CASE WHEN r.oid IS NULL AND d.oid IS NULL THEN format('ALTER ROLE ALL RESET %s', c.reset)
         WHEN r.oid IS NULL THEN format('ALTER DATABASE %I RESET %s', d.datname, c.reset)
         ELSE format('ALTER ROLE %I%s RESET %s', r.rolname, coalesce(' IN DATABASE ' || quote_ident(d.datname), ''), c.reset) END AS remediation
FROM pg_db_role_setting s
LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase
CROSS JOIN LATERAL (SELECT x.name, lower(x.value) AS value, b.name AS bound,
                           -- Spelled otherwise than the variable is called, it cannot be named in a RESET.
                           CASE WHEN b.name <> x.name THEN 'ALL'
                                ELSE (SELECT string_agg(quote_ident(part), '.') FROM unnest(string_to_array(x.name, '.')) AS part) END AS reset
                    FROM (SELECT split_part(x, '=', 1) AS name, split_part(x, '=', 2) AS value FROM unnest(s.setconfig) AS x) x
                    LEFT JOIN bound b ON lower(b.name) = lower(x.name)) c
WHERE (s.setdatabase = 0 OR d.datname = current_database()) AND (s.setrole = 0 OR r.oid IS NOT NULL)
  -- A boolean is kept as it was spelled.
  AND ((c.name = 'row_security' AND c.value ~ '^(off?|f(a(l(se?)?)?)?|no?|0)$') OR (c.name = 'session_replication_role' AND c.value = 'replica')
       OR c.name IN ('pg_tenancy.missing_context', 'pg_tenancy.context_scope') OR c.bound IS NOT NULL)$rule$),

('service-role-shared', 'roles', 'error', 'A service role is an application''s role as well',
 'Whoever can run SQL as the application acts for any tenant, as nobody''s user: jobs need a role of their own.',
 'https://www.postgresql.org/docs/current/user-manag.html',
$rule$SELECT NULL AS schema, tenancy.identity('pg_authid'::regclass, r.oid) AS object,
    'made by tenancy.create_app_role() and by tenancy.create_service_role()' AS detail,
    format('SELECT tenancy.retire_service_role(%L)', r.rolname) AS remediation
FROM pg_roles r JOIN tenancy.service_roles s ON s.role_name = r.rolname AND s.role_oid = r.oid
JOIN tenancy.app_roles a ON a.role_name = r.rolname AND a.role_oid = r.oid$rule$),

('context-unproven', 'roles', 'info', 'An application role can set the context of any tenant',
 'Settings stop mistakes, not SQL injection: whoever can run SQL as the role can set any user or tenant.',
 'https://www.postgresql.org/docs/current/config-setting.html',
$rule$SELECT NULL AS schema, tenancy.identity('pg_authid'::regclass, a.role) AS object,
    'sets ' || concat_ws(', ', b.user_setting, b.tenant_setting, b.claims_setting) || ' without proof' AS detail, NULL AS remediation
FROM tenancy.application_roles a CROSS JOIN tenancy.binding b WHERE a.login$rule$);
