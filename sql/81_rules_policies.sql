-- Rules about row security and policies.

CREATE VIEW tenancy.policy_queries AS
SELECT DISTINCT p.oid AS policy, p.polrelid AS relation, d.refobjid AS queried,
       p.polcmd IN ('r', '*') AND coalesce(pg_catalog.strpos(p.polqual::text, x.mark) > 0, false) AS reads
FROM pg_catalog.pg_policy p
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND d.objid = p.oid
    AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
JOIN pg_catalog.pg_class c ON c.oid = p.polrelid AND c.relrowsecurity
CROSS JOIN LATERAL (SELECT ':relid ' || d.refobjid || ' ' AS mark) x
-- Only the tree tells the tables that a policy queries from the one that it is on.
WHERE pg_catalog.strpos(pg_catalog.concat(p.polqual::text, p.polwithcheck::text), x.mark) > 0;
COMMENT ON VIEW tenancy.policy_queries IS 'relations that policies in force query, and whether in USING for SELECT: what is asked where another policy queries their table; for validation';

CREATE VIEW tenancy.policy_reach AS
WITH RECURSIVE edges AS MATERIALIZED (
    SELECT q.relation, q.queried, pg_catalog.bool_or(q.reads) AS reads FROM tenancy.policy_queries q GROUP BY q.relation, q.queried),
reach AS (
    SELECT e.relation, e.queried AS reached, e.queried AS last FROM edges e
    UNION SELECT reach.relation, reach.reached, e.queried FROM reach JOIN edges e ON e.relation = reach.last AND e.reads),
-- Postgres takes a table for endless that it meets again, and whose policies for SELECT have any sub-select.
endless AS (
    SELECT DISTINCT p.polrelid AS relation FROM pg_catalog.pg_policy p
    WHERE p.polcmd IN ('r', '*') AND pg_catalog.concat(p.polqual::text, p.polwithcheck::text) ~ '\{SUBLINK ')
SELECT reach.relation, reach.reached, pg_catalog.bool_or(reach.last = n.relation) IS TRUE AS comes_back
FROM reach LEFT JOIN endless n ON n.relation = reach.relation GROUP BY reach.relation, reach.reached;
COMMENT ON VIEW tenancy.policy_reach IS 'relations that the policies of a relation query, and whether the policies of those lead back to it without an end, for validation';
GRANT SELECT ON tenancy.policy_queries, tenancy.policy_reach TO PUBLIC;

INSERT INTO tenancy.rules (code, topic, level, title, why, reference, query) VALUES
('rls-off', 'policies', 'error', 'Row security is off on a tenant table',
 'Whoever may read the table reads the rows of all tenants.', 'https://www.postgresql.org/docs/current/ddl-rowsecurity.html',
$rule$SELECT t.schema, tenancy.identity('pg_class'::regclass, t.relation) AS object,
    'row security is off' || coalesce(', registered in mode ' || t.mode, '') || '; used by ' || g.names AS detail,
    CASE WHEN t.bound_as = 'membership' AND t.template IS NULL
         THEN format('REVOKE ALL ON %s FROM %s', tenancy.qualified_name(t.relation), g.names)
         ELSE tenancy.protect_statement(t.relation) END AS remediation
FROM tenancy.tenant_tables t
CROSS JOIN LATERAL (SELECT string_agg(DISTINCT tenancy.grantee_name(g.grantee), ', ') AS names
                    FROM tenancy.tenant_table_grants g WHERE g.relation = t.relation) g
WHERE NOT t.row_security AND g.names IS NOT NULL
  AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = t.relation)
  AND NOT EXISTS (SELECT FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent WHERE i.inhrelid = t.relation AND p.relrowsecurity)$rule$),

('rls-off-ungranted', 'policies', 'info', 'Row security is off on a tenant table that only its owner may use',
 'The first GRANT will open the rows of all tenants.', 'https://www.postgresql.org/docs/current/ddl-rowsecurity.html',
$rule$SELECT t.schema, tenancy.identity('pg_class'::regclass, t.relation) AS object,
    'row security is off' || coalesce(', registered in mode ' || t.mode, '') || '; nobody but the owner and superusers may use it yet' AS detail,
    tenancy.protect_statement(t.relation) AS remediation
FROM tenancy.tenant_tables t
WHERE NOT t.row_security
  AND NOT EXISTS (SELECT FROM tenancy.tenant_table_grants g WHERE g.relation = t.relation)
  AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = t.relation)
  AND NOT EXISTS (SELECT FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent WHERE i.inhrelid = t.relation AND p.relrowsecurity)$rule$),

('policies-dormant', 'policies', 'error', 'A tenant table has policies, and row security is off',
 'The policies look like protection and do nothing.', 'https://www.postgresql.org/docs/current/ddl-rowsecurity.html',
$rule$SELECT t.schema, tenancy.identity('pg_class'::regclass, t.relation) AS object,
    'dormant: ' || (SELECT string_agg(quote_ident(p.polname), ', ' ORDER BY p.polname) FROM pg_policy p WHERE p.polrelid = t.relation) AS detail,
    tenancy.protect_statement(t.relation, '{"adopt_policies": true}') AS remediation
FROM tenancy.tenant_tables t
WHERE NOT t.row_security AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = t.relation)$rule$),

('rls-not-forced', 'policies', 'warn', 'Row security does not bind the owner of a tenant table',
 'An application, a view or a SECURITY DEFINER function that acts as the owner sees all tenants.',
 'https://www.postgresql.org/docs/current/sql-altertable.html',
$rule$SELECT t.schema, tenancy.identity('pg_class'::regclass, t.relation) AS object,
    'not forced; owned by ' || quote_ident(pg_get_userbyid(t.owner)) AS detail,
    format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', tenancy.qualified_name(t.relation)) AS remediation
FROM tenancy.tenant_tables t
WHERE t.row_security AND NOT t.forced AND NOT coalesce(t.mode = 'enforce' AND t.options ->> 'force' = 'false', false)$rule$),

('policy-none', 'policies', 'warn', 'Row security is on without a permissive policy',
 'Only roles that row security does not bind can use the table, so the application will be connected as one.',
 'https://www.postgresql.org/docs/current/ddl-rowsecurity.html',
$rule$SELECT t.schema, tenancy.identity('pg_class'::regclass, t.relation) AS object,
    'no row is visible to a role that row security binds' AS detail, tenancy.protect_statement(t.relation) AS remediation
FROM tenancy.tenant_tables t
WHERE t.row_security AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = t.relation AND p.polpermissive)$rule$),

('policy-command-missing', 'policies', 'warn', 'A granted command has no policy',
 'The command silently touches nothing or fails, and gets mended by a policy that is too wide.',
 'https://www.postgresql.org/docs/current/sql-createpolicy.html',
$rule$WITH commands AS (
    SELECT * FROM (VALUES ('r'::"char", 'SELECT', 1), ('a', 'INSERT', 2), ('w', 'UPDATE', 3), ('d', 'DELETE', 4)) AS c(command, privilege, place)),
tables AS MATERIALIZED (
    SELECT t.relation, t.schema, t.owner, t.forced FROM tenancy.tenant_tables t WHERE t.row_security AND coalesce(t.mode, '') <> 'enforce'),
policies AS MATERIALIZED (
    SELECT p.polrelid AS relation, c.command, r.role
    FROM pg_policy p JOIN commands c ON p.polcmd IN (c.command, '*') CROSS JOIN LATERAL unnest(p.polroles) AS r(role)
    WHERE p.polpermissive AND p.polrelid IN (SELECT t.relation FROM tables t)),
granted AS MATERIALIZED (
    SELECT t.schema, g.relation, g.grantee, c.command, c.privilege, c.place, bool_or(g.whole) AS whole
    FROM tables t JOIN tenancy.tenant_table_grants g ON g.relation = t.relation JOIN commands c ON c.privilege = g.privilege
    LEFT JOIN pg_roles r ON r.oid = g.grantee
    WHERE r.rolbypassrls IS NOT TRUE AND CASE WHEN g.grantee = 0 OR t.forced THEN true ELSE NOT pg_has_role(g.grantee, t.owner, 'USAGE') END
      AND t.relation IN (SELECT p.relation FROM policies p)
    GROUP BY t.schema, g.relation, g.grantee, c.command, c.privilege, c.place),
-- Which grantees the policies are for. Of those that everybody gets by a grant to PUBLIC, nobody knows who is meant.
asked AS MATERIALIZED (
    SELECT x.grantee, x.role, CASE WHEN 0 IN (x.grantee, x.role) THEN true ELSE pg_has_role(x.grantee, x.role, 'USAGE') END AS applies
    FROM (SELECT DISTINCT g.grantee, p.role FROM granted g JOIN policies p ON p.relation = g.relation) x),
judged AS MATERIALIZED (
    SELECT g.schema, g.relation, g.grantee, g.command, g.privilege, g.place, g.whole,
           bool_or(p.role IS NOT NULL) AS is_there, coalesce(bool_or(a.applies), false) AS applies
    FROM granted g LEFT JOIN policies p ON p.relation = g.relation AND p.command = g.command
    LEFT JOIN asked a ON a.grantee = g.grantee AND a.role = p.role
    GROUP BY g.schema, g.relation, g.grantee, g.command, g.privilege, g.place, g.whole),
-- A group need not be in a policy where those who log in with its rights are.
members AS MATERIALIZED (
    SELECT j.relation, j.grantee, j.command, m.name,
           pg_has_role(m.role, j.grantee, 'USAGE') AND bool_or(CASE WHEN p.role = 0 THEN true ELSE pg_has_role(m.role, p.role, 'USAGE') END) AS applies
    FROM judged j JOIN pg_roles r ON r.oid = j.grantee AND NOT r.rolcanlogin
    JOIN policies p ON p.relation = j.relation AND p.command = j.command
    JOIN tenancy.application_roles m ON m.login AND tenancy.acts_as(m.role, j.grantee)
    WHERE NOT j.applies AND EXISTS (SELECT FROM policies o WHERE o.relation = j.relation AND o.command = j.command
                                    AND pg_has_role(o.role, j.grantee, 'USAGE'))
    GROUP BY j.relation, j.grantee, j.command, m.role, m.name),
of_group AS (
    SELECT m.relation, m.grantee, m.command, string_agg(quote_ident(m.name), ', ' ORDER BY m.name) FILTER (WHERE m.applies) AS served,
           string_agg(quote_ident(m.name), ', ' ORDER BY m.name) FILTER (WHERE NOT m.applies) AS others
    FROM members m GROUP BY m.relation, m.grantee, m.command)
SELECT j.schema, tenancy.identity('pg_class'::regclass, j.relation) AS object,
    'no permissive policy for ' || string_agg(j.privilege, ', ' ORDER BY j.place) AS detail, tenancy.protect_statement(j.relation) AS remediation
FROM (SELECT DISTINCT j.schema, j.relation, j.privilege, j.place FROM judged j WHERE NOT j.is_there) j GROUP BY j.schema, j.relation
UNION ALL
SELECT j.schema, tenancy.identity('pg_class'::regclass, j.relation) || ' for ' || tenancy.grantee_name(j.grantee),
    'no permissive policy for ' || string_agg(j.privilege || coalesce(' of ' || m.others, ''), ', ' ORDER BY j.place) || ', only for other roles',
    string_agg(CASE WHEN m.served IS NULL THEN format('REVOKE %s ON %s FROM %s', j.privilege, tenancy.qualified_name(j.relation), tenancy.grantee_name(j.grantee))
                    WHEN j.whole THEN format('GRANT %1$s ON %2$s TO %3$s; REVOKE %1$s ON %2$s FROM %4$s', j.privilege, tenancy.qualified_name(j.relation), m.served, tenancy.grantee_name(j.grantee))
                    ELSE tenancy.protect_statement(j.relation) END, '; ' ORDER BY j.place)
FROM judged j LEFT JOIN of_group m ON m.relation = j.relation AND m.grantee = j.grantee AND m.command = j.command
WHERE j.is_there AND NOT j.applies AND (m.served IS NULL OR m.others IS NOT NULL)
GROUP BY j.schema, j.relation, j.grantee$rule$),

('policy-always-true', 'policies', 'error', 'A policy lets every row through',
 'Permissive policies are ORed: one that is always true makes the others void.',
 'https://www.postgresql.org/docs/current/sql-createpolicy.html',
$rule$SELECT p.schema, tenancy.identity('pg_policy'::regclass, p.policy) AS object,
    'always true, and no restrictive policy holds ' || array_to_string(p.commands, ', ') AS detail,
    tenancy.protect_statement(p.relation) AS remediation
FROM tenancy.unbounded_policies p
WHERE p.using_true OR (p.command = 'a' AND p.check_true)$rule$),

('policy-check-wider', 'policies', 'error', 'WITH CHECK of a policy is wider than its USING',
 'A tenant can write rows that it could not see: into another tenant.',
 'https://www.postgresql.org/docs/current/sql-createpolicy.html',
$rule$SELECT p.schema, tenancy.identity('pg_policy'::regclass, p.policy) AS object,
    'rows that USING hides can be written' AS detail, tenancy.protect_statement(p.relation) AS remediation
FROM tenancy.unbounded_policies p
WHERE p.command IN ('w', '*') AND p.check_text IS NOT NULL AND p.commands && '{a,w}'::"char"[] AND NOT p.using_true
  AND (p.check_true OR (p.using_tenant AND NOT p.check_tenant))$rule$),

('policy-null-context', 'policies', 'error', 'A policy lets every row through where no context is set',
 'A connection that forgot the context sees all tenants, instead of an error.',
 'https://www.postgresql.org/docs/current/sql-createpolicy.html',
$rule$SELECT p.schema, tenancy.identity('pg_policy'::regclass, p.policy) AS object,
    'true where ' || x.part AS detail, tenancy.protect_statement(p.relation) AS remediation
FROM tenancy.unbounded_policies p
CROSS JOIN LATERAL (SELECT coalesce(tenancy.expression_open_without_context(p.using_known, p.tenant_column),
                                    tenancy.expression_open_without_context(p.check_known, p.tenant_column)) AS part OFFSET 0) x
WHERE x.part IS NOT NULL$rule$),

('policy-inverted', 'policies', 'error', 'A policy asks for the rows of others',
 'It compares the tenant for being different, greater or less: what is equal for one tenant is another''s.',
 'https://www.postgresql.org/docs/current/sql-createpolicy.html',
$rule$SELECT p.schema, tenancy.identity('pg_policy'::regclass, p.policy) AS object,
    'true where ' || x.part AS detail, tenancy.protect_statement(p.relation) AS remediation
FROM tenancy.unbounded_policies p
CROSS JOIN LATERAL (SELECT coalesce(tenancy.expression_asks_for_others(p.using_known, p.tenant_column),
                                    tenancy.expression_asks_for_others(p.check_known, p.tenant_column)) AS part OFFSET 0) x
WHERE x.part IS NOT NULL$rule$),

('policy-unreadable', 'policies', 'error', 'A policy cannot be read',
 'What it lets through is not known.', 'https://www.postgresql.org/docs/current/catalog-pg-policy.html',
$rule$SELECT p.schema, tenancy.identity('pg_policy'::regclass, p.policy) AS object,
    'its expression is damaged, or was changed meanwhile' AS detail,
    format('DROP POLICY %I ON %s; %s', p.name, tenancy.qualified_name(p.relation), tenancy.protect_statement(p.relation)) AS remediation
FROM tenancy.tenant_policies p
-- One that is gone by now is none.
WHERE p.unreadable AND tenancy.identity('pg_policy'::regclass, p.policy) IS NOT NULL$rule$),

('policy-null-tenant', 'policies', 'warn', 'A policy shows rows without a tenant to everybody',
 'A row whose tenant was forgotten is shown to all tenants.', 'https://www.postgresql.org/docs/current/sql-createpolicy.html',
$rule$SELECT p.schema, tenancy.identity('pg_policy'::regclass, p.policy) AS object,
    'rows whose ' || quote_ident(p.tenant_column) || ' is null belong to everybody' AS detail,
    tenancy.protect_statement(p.relation) AS remediation
FROM tenancy.judged_policies p
WHERE coalesce(tenancy.expression_shows_nobodys(p.using_known, p.tenant_column, p.tenant_not_null),
               tenancy.expression_shows_nobodys(p.check_known, p.tenant_column, p.tenant_not_null)) IS NOT NULL$rule$),

('policy-no-floor', 'policies', 'warn', 'No restrictive policy asks for the tenant',
 'Permissive policies are ORed: the next one that somebody adds can only widen what a tenant sees.',
 'https://www.postgresql.org/docs/current/sql-createpolicy.html',
$rule$SELECT p.schema, tenancy.identity('pg_class'::regclass, p.relation) AS object,
    'only permissive policies: ' || string_agg(quote_ident(p.name), ', ' ORDER BY p.name) AS detail,
    tenancy.protect_statement(p.relation) AS remediation
FROM tenancy.unbounded_policies p GROUP BY p.schema, p.relation$rule$),

('policies-widen', 'policies', 'warn', 'Several permissive policies widen one another',
 'Permissive policies are ORed: what one refuses the other allows.', 'https://www.postgresql.org/docs/current/sql-createpolicy.html',
$rule$SELECT p.schema, tenancy.identity('pg_class'::regclass, p.relation) AS object,
    'ORed: ' || string_agg(DISTINCT quote_ident(p.name), ', ') || ', ' || string_agg(DISTINCT quote_ident(o.name), ', ') AS detail,
    tenancy.protect_statement(p.relation) AS remediation
FROM tenancy.unbounded_policies p JOIN tenancy.unbounded_policies o
  ON o.relation = p.relation AND o.policy > p.policy AND o.commands && p.commands
 AND (o.roles = '{0}'::oid[] OR p.roles = '{0}'::oid[] OR o.roles && p.roles)
GROUP BY p.schema, p.relation$rule$),

('policy-without-tenant', 'policies', 'warn', 'A policy does not ask for the tenant',
 'It lets rows of other tenants through wherever its condition holds.', 'https://www.postgresql.org/docs/current/sql-createpolicy.html',
$rule$SELECT p.schema, tenancy.identity('pg_policy'::regclass, p.policy) AS object,
    format('lets rows through whatever their %I: %s', p.tenant_column, x.part) AS detail, tenancy.protect_statement(p.relation) AS remediation
FROM tenancy.unbounded_policies p
CROSS JOIN LATERAL (SELECT tenancy.expression_without_tenant(coalesce(p.using_known, p.check_known), p.tenant_column) AS part OFFSET 0) x
WHERE x.part IS NOT NULL AND NOT p.using_true AND NOT p.check_true$rule$),

('policy-hard-coded', 'policies', 'warn', 'A policy names a tenant',
 'Rows of that tenant are everybody''s, whoever asks.', 'https://www.postgresql.org/docs/current/sql-createpolicy.html',
$rule$SELECT p.schema, tenancy.identity('pg_policy'::regclass, p.policy) AS object,
    'compares ' || quote_ident(p.tenant_column) || ' with a constant' AS detail, tenancy.protect_statement(p.relation) AS remediation
FROM tenancy.judged_policies p
WHERE coalesce(tenancy.expression_names_tenant(p.using_known, p.tenant_column), tenancy.expression_names_tenant(p.check_known, p.tenant_column)) IS NOT NULL$rule$),

('policy-user-metadata', 'policies', 'error', 'A policy believes claims that users write themselves',
 'user_metadata is what a user says about himself: he can name any tenant.',
 'https://supabase.com/docs/guides/database/database-advisors?lint=0015_rls_references_user_metadata',
$rule$SELECT p.schema, tenancy.identity('pg_policy'::regclass, p.policy) AS object,
    'reads user_metadata' || coalesce(' in ' || f.names, '') AS detail, tenancy.protect_statement(p.relation) AS remediation
FROM tenancy.judged_policies p
LEFT JOIN (SELECT f.policy, string_agg(f.function::regprocedure::text, ', ' ORDER BY f.function) AS names
           FROM tenancy.policy_functions f
           WHERE coalesce(nullif(f.source, ''), pg_get_functiondef(f.function)) ~* '\m(raw_)?user_meta_?data\M' GROUP BY f.policy) f ON f.policy = p.policy
WHERE concat(p.using_text, p.check_text) ~ '\m(raw_)?user_meta_?data\M' OR f.names IS NOT NULL$rule$),

('policy-current-user', 'policies', 'warn', 'A policy takes the database role for the tenant',
 'Behind a pooler all tenants are one role, and inside SECURITY DEFINER functions the role is another.',
 'https://www.postgresql.org/docs/current/functions-info.html',
$rule$SELECT p.schema, tenancy.identity('pg_policy'::regclass, p.policy) AS object,
    'asks for the current role' AS detail, tenancy.protect_statement(p.relation) AS remediation
FROM tenancy.judged_policies p
WHERE coalesce(tenancy.expression_asks_for_role(p.using_known, p.tenant_column), tenancy.expression_asks_for_role(p.check_known, p.tenant_column)) IS NOT NULL$rule$),

('policy-recursion', 'policies', 'error', 'A policy queries the table that it is on',
 'Every query of the table fails with infinite recursion, which gets mended by a function that bypasses row security.',
 'https://www.postgresql.org/docs/current/sql-createpolicy.html',
$rule$SELECT p.schema, tenancy.identity('pg_policy'::regclass, p.policy) AS object,
    'queries ' || CASE WHEN bool_or(x.reached = p.relation) THEN tenancy.qualified_name(p.relation)
        ELSE string_agg(DISTINCT tenancy.qualified_name(x.reached), ', ') || ', whose policies query ' || tenancy.qualified_name(p.relation) END AS detail,
    format('DROP POLICY %I ON %s; %s', p.name, tenancy.qualified_name(p.relation), tenancy.protect_statement(p.relation)) AS remediation
FROM tenancy.tenant_policies p JOIN tenancy.policy_queries q ON q.policy = p.policy
JOIN tenancy.policy_reach x ON x.relation = q.relation AND x.reached = q.queried AND x.comes_back
GROUP BY p.schema, p.policy, p.name, p.relation$rule$),

('policy-scalar-subselect', 'policies', 'warn', 'A policy compares the tenant with a sub-select that may return several rows',
 'Every query of a user of two tenants fails.', 'https://www.postgresql.org/docs/current/sql-expressions.html',
$rule$SELECT p.schema, tenancy.identity('pg_policy'::regclass, p.policy) AS object,
    'more than one row where one is meant' AS detail,
    format('DROP POLICY %I ON %s; %s', p.name, tenancy.qualified_name(p.relation), tenancy.protect_statement(p.relation)) AS remediation
FROM tenancy.tenant_policies p
LEFT JOIN (
    -- Unique keys of what it queries: none for a parent, whose children they do not bind.
    SELECT k.policy, array_agg(k.key) AS keys
    FROM (SELECT d.objid AS policy, format('%s (%s)', tenancy.qualified_name(i.indrelid), string_agg(quote_ident(a.attname), ', ')) AS key
          FROM (SELECT DISTINCT d.objid, d.refobjid FROM pg_depend d
                WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_class'::regclass) d
          JOIN pg_class c ON c.oid = d.refobjid AND (c.relkind = 'p' OR NOT c.relhassubclass)
          JOIN pg_index i ON i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
          CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS n(number, place)
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = n.number
          WHERE n.place <= i.indnkeyatts GROUP BY d.objid, i.indrelid, i.indexrelid) k
    GROUP BY k.policy) u ON u.policy = p.policy
WHERE tenancy.expression_asks_for_one_of_many(concat_ws(' OR ', p.using_text, p.check_text), coalesce(u.keys, '{}'))$rule$);
