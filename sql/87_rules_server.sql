-- Rules about the extension and the server. What SQL cannot mend is of level info.

CREATE FUNCTION tenancy.missing_fixes(version integer) RETURNS text[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'missing_fixes_wrapper';
COMMENT ON FUNCTION tenancy.missing_fixes(integer) IS
'holes in row security, as CVE, whose fix a server of that server_version_num lacks';

INSERT INTO tenancy.rules (code, topic, level, title, why, reference, query) VALUES
('drift', 'registration', 'error', 'A protected table is not what was registered',
 'Somebody changed by hand what protects it.', 'https://www.postgresql.org/docs/current/ddl-rowsecurity.html',
$rule$SELECT n.nspname AS schema, coalesce(tenancy.identity('pg_class'::regclass, d.relation), 'table ' || d.table_name) || ': ' || d.code AS object,
    d.detail, d.remediation
FROM tenancy.drift() AS d LEFT JOIN pg_class c ON c.oid = d.relation LEFT JOIN pg_namespace n ON n.oid = c.relnamespace$rule$),

('binding-missing', 'server', 'warn', 'Nothing is bound',
 'Without tenancy.bind() no session has a tenant.', 'https://www.postgresql.org/docs/current/ddl-rowsecurity.html',
$rule$SELECT NULL AS schema, 'database ' || quote_ident(current_database()) AS object, 'tenancy.bind() was never called' AS detail, NULL AS remediation
WHERE NOT EXISTS (SELECT FROM tenancy.binding)$rule$),

('guard-off', 'server', 'error', 'Identity columns of a bound table are not guarded',
 'A member can write his own role and tenant.', 'https://www.postgresql.org/docs/current/sql-altertable.html',
$rule$SELECT NULL AS schema, 'database ' || quote_ident(current_database()) AS object, s.detail,
    (SELECT string_agg(format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', tenancy.qualified_name(g.tgrelid), g.tgname), '; ')
     FROM pg_trigger g WHERE g.tgfoid = 'tenancy.guard_identity()'::regprocedure AND g.tgenabled <> 'A') AS remediation
FROM tenancy.status() AS s WHERE s.feature = 'guard' AND s.state = 'off' AND EXISTS (SELECT FROM tenancy.binding)$rule$),

('cache-off', 'server', 'warn', 'The context is not cached',
 'Every statement looks the context up again.', 'https://www.postgresql.org/docs/current/sql-altertable.html',
$rule$SELECT NULL AS schema, 'database ' || quote_ident(current_database()) AS object, s.detail,
    (SELECT string_agg(format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', tenancy.qualified_name(g.tgrelid), g.tgname), '; ')
     FROM pg_trigger g WHERE g.tgfoid = 'tenancy.invalidate_context()'::regprocedure AND g.tgenabled <> 'A') AS remediation
FROM tenancy.status() AS s WHERE s.feature = 'cache' AND s.state = 'off' AND EXISTS (SELECT FROM tenancy.binding)$rule$),

('not-preloaded', 'server', 'info', 'The library is not preloaded',
 'Statements before the first call of the extension run without its hooks.', 'https://www.postgresql.org/docs/current/runtime-config-client.html',
$rule$SELECT NULL AS schema, 'setting shared_preload_libraries' AS object, s.detail, NULL AS remediation
FROM tenancy.status() AS s WHERE s.feature = 'library' AND s.state <> 'on'$rule$),

('library-version', 'server', 'info', 'The library is of another version than its SQL',
 'Functions are missing, or are not what the SQL expects.', 'https://www.postgresql.org/docs/current/sql-alterextension.html',
$rule$SELECT NULL AS schema, tenancy.identity('pg_extension'::regclass, e.oid) AS object,
    'the library is ' || tenancy.library_version() || ', the SQL is ' || e.extversion || '; install the library, or ALTER EXTENSION pg_tenancy UPDATE' AS detail, NULL AS remediation
FROM pg_extension e WHERE e.extname = 'pg_tenancy' AND e.extversion <> tenancy.library_version()$rule$),

('server-version', 'server', 'info', 'The server lacks fixes of holes in row security',
 'Rows, or statistics of them, are shown past policies.', 'https://www.postgresql.org/support/security/',
$rule$SELECT NULL AS schema, 'server version ' || current_setting('server_version') AS object,
    'lacks the fix of ' || array_to_string(tenancy.missing_fixes(current_setting('server_version_num')::int), ', ') AS detail, NULL AS remediation
WHERE cardinality(tenancy.missing_fixes(current_setting('server_version_num')::int)) > 0$rule$),

('statistics-view', 'server', 'info', 'The view of extended statistics shows values of other tenants',
 'The fix of CVE-2024-4317 needs the view made again: a cluster made by an older server keeps the old one.',
 'https://www.postgresql.org/support/security/CVE-2024-4317/',
$rule$SELECT NULL AS schema, tenancy.identity('pg_class'::regclass, c.oid) AS object,
    'run fix-CVE-2024-4317.sql of the server''s share directory in every database' AS detail, NULL AS remediation
FROM pg_class c
WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relname IN ('pg_stats_ext', 'pg_stats_ext_exprs')
  AND coalesce(pg_get_viewdef(c.oid), '') !~ 'pg_has_role'$rule$),

('not-seen', 'server', 'info', 'What this validation cannot see',
 'It reads the catalogs of this database with the rights of whoever calls it.', 'https://www.postgresql.org/docs/current/catalogs.html',
$rule$SELECT NULL AS schema, x.object, x.detail, NULL AS remediation
FROM (VALUES ('pg_hba.conf', 'who may connect as whom', true),
             ('other databases', 'roles and settings reach them as well', true),
             ('functions in C', 'what a library does', true),
             ('options of user mappings', 'as whom a foreign server is reached: shown to superusers', NOT pg_has_role(current_user, 'pg_read_all_settings', 'USAGE')),
             ('settings of the server', 'which libraries are loaded: shown to members of pg_read_all_settings',
              NOT pg_has_role(current_user, 'pg_read_all_settings', 'USAGE'))) AS x(object, detail, hidden)
WHERE x.hidden$rule$);
