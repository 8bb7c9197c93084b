-- Rules about functions: those of policies, and those that act with the rights of their owner.

CREATE VIEW tenancy.user_functions AS
WITH found AS MATERIALIZED (
    SELECT f.oid AS function, n.nspname AS schema, f.proname AS name, f.proowner AS owner, f.prosecdef AS definer, f.proconfig,
           f.provolatile AS volatility, f.proparallel AS parallel, f.proleakproof AS leakproof, f.prosrc AS source, f.prorettype AS result,
           l.lanname AS language, l.lanispl AND NOT l.lanpltrusted AS untrusted, o.rolsuper OR o.rolbypassrls AS owner_exempt,
           EXISTS (SELECT FROM pg_catalog.aclexplode(coalesce(f.proacl, pg_catalog.acldefault('f', f.proowner))) AS g
                   WHERE g.grantee = 0 AND g.privilege_type = 'EXECUTE') AS is_public
    FROM pg_catalog.pg_proc f
    JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace
    JOIN pg_catalog.pg_language l ON l.oid = f.prolang
    JOIN pg_catalog.pg_roles o ON o.oid = f.proowner
    WHERE f.oid >= 16384 AND n.nspname NOT IN ('tenancy', 'information_schema') AND n.nspname !~ '^pg_'
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                      WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = f.oid AND d.deptype = 'e'))
SELECT * FROM found;
COMMENT ON VIEW tenancy.user_functions IS 'functions that no extension brought, for validation';

CREATE VIEW tenancy.policy_functions AS
WITH found AS MATERIALIZED (
    SELECT DISTINCT p.schema AS policy_schema, p.policy, p.name AS policy_name, p.relation, f.*,
           -- Once for all rows: a sub-select that names no column of them.
           NOT (x.text ~ x.once AND pg_catalog.strpos(pg_catalog.regexp_replace(x.text, x.once, '', 'g'), x.name || '(') = 0) AS per_row
    FROM tenancy.tenant_policies p
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND d.objid = p.policy
        AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
    JOIN tenancy.user_functions f ON f.function = d.refobjid
    CROSS JOIN LATERAL (
        SELECT pg_catalog.concat(p.using_text, ' ', p.check_text) AS text, n.name,
               '\( SELECT ' || pg_catalog.regexp_replace(n.name, '(\W)', '\\\1', 'g') || '\([^.()]*\) AS [^ ]+\)' AS once
        FROM pg_catalog.format('%I.%I', f.schema, f.name) AS n(name)) x)
SELECT * FROM found;
COMMENT ON VIEW tenancy.policy_functions IS 'functions that policies of tenant tables call, and whether for each row, for validation';
GRANT SELECT ON tenancy.user_functions, tenancy.policy_functions TO PUBLIC;

CREATE FUNCTION tenancy.function_writes(source text) RETURNS TABLE (schema text, name text)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'function_writes_wrapper';
COMMENT ON FUNCTION tenancy.function_writes(text) IS
'relations that the source of a function in SQL or PL/pgSQL names where it writes, with the schema where it says one; no name for the table that a trigger is on, by a name made as it runs';

CREATE FUNCTION tenancy.function_calls(source text) RETURNS TABLE (schema text, name text)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'function_calls_wrapper';
COMMENT ON FUNCTION tenancy.function_calls(text) IS
'functions that the source of a function in SQL or PL/pgSQL calls, with the schema where it says one';

INSERT INTO tenancy.rules (code, topic, level, title, why, reference, query) VALUES
('function-volatile', 'functions', 'warn', 'A policy calls a volatile function',
 'It is called for every row and cannot be an index condition.', 'https://www.postgresql.org/docs/current/xfunc-volatility.html',
$rule$SELECT min(f.policy_schema) AS schema, tenancy.identity('pg_proc'::regclass, f.function) AS object,
    'volatile, called by policy ' || string_agg(quote_ident(f.policy_name), ', ' ORDER BY f.policy_name) AS detail,
    format('ALTER FUNCTION %s STABLE', f.function::regprocedure) AS remediation
FROM tenancy.policy_functions f WHERE f.volatility = 'v' AND f.per_row GROUP BY f.function$rule$),

('function-immutable-setting', 'functions', 'error', 'A policy calls an IMMUTABLE function that reads the context',
 'Its value is folded into the plan: a prepared statement goes on for the tenant of its first run.',
 'https://www.postgresql.org/docs/current/xfunc-volatility.html',
$rule$SELECT min(f.policy_schema) AS schema, tenancy.identity('pg_proc'::regclass, f.function) AS object,
    'IMMUTABLE, and reads a setting or a table' AS detail, format('ALTER FUNCTION %s STABLE', f.function::regprocedure) AS remediation
FROM tenancy.policy_functions f
-- FROM as a word of an argument, or of IS DISTINCT FROM, reads no table; nor does that of a function.
CROSS JOIN LATERAL regexp_replace(coalesce(nullif(f.source, ''), pg_get_functiondef(f.function)),
    '\m(substring|extract|trim|overlay)\s*\(([^()]|\([^()]*\))*?\mfrom\M|\mdistinct\s+from\M', '', 'gi') AS s(source)
WHERE f.volatility = 'i'
  AND s.source ~* ('\m(current_setting|current_user\w*|session_user|current_tenant\w*|is_(tenant|super)_admin\w*|has_tenant_role|user_tenant_ids\w*'
                   || '|get_user_tenant_context)\M|\m(select|with)\M.*\m(from|join)\s+(?!(lateral\s+)?[\w."]+\s*\()[\w"]')
GROUP BY f.function$rule$),

('function-lookup-per-row', 'functions', 'warn', 'A policy calls a PL/pgSQL function that queries tables',
 'A lookup for every row: pages of seconds.', 'https://www.postgresql.org/docs/current/plpgsql-overview.html',
$rule$SELECT f.policy_schema AS schema, tenancy.identity('pg_policy'::regclass, f.policy) AS object,
    'calls ' || f.function::regprocedure || ', which queries tables' AS detail,
    format('DROP POLICY %I ON %s; %s', f.policy_name, tenancy.qualified_name(f.relation), tenancy.protect_statement(f.relation)) AS remediation
FROM tenancy.policy_functions f
WHERE f.language = 'plpgsql' AND f.per_row AND f.source ~* '\m(select|perform)\M.*\mfrom\M'$rule$),

('function-parallel', 'functions', 'info', 'A policy calls a function that is not PARALLEL SAFE',
 'No query of the table can be parallel.', 'https://www.postgresql.org/docs/current/parallel-safety.html',
$rule$SELECT min(f.policy_schema) AS schema, tenancy.identity('pg_proc'::regclass, f.function) AS object,
    'parallel ' || CASE f.parallel WHEN 'r' THEN 'restricted' ELSE 'unsafe' END || '; mend it only if the function writes nothing' AS detail,
    format('ALTER FUNCTION %s PARALLEL SAFE', f.function::regprocedure) AS remediation
FROM tenancy.policy_functions f WHERE f.parallel <> 's' GROUP BY f.function, f.parallel$rule$),

('function-admin-or', 'functions', 'info', 'A policy asks for an admin OR the tenant',
 'An OR with a function cannot use the tenant''s index: every query reads the whole table.',
 'https://www.postgresql.org/docs/current/indexes-multicolumn.html',
$rule$SELECT p.schema, tenancy.identity('pg_policy'::regclass, p.policy) AS object, 'OR with ' || x.part AS detail,
    format('DROP POLICY %I ON %s; %s', p.name, tenancy.qualified_name(p.relation), tenancy.protect_statement(p.relation)) AS remediation
FROM tenancy.tenant_policies p
CROSS JOIN LATERAL (SELECT min(x.part) AS part, count(*) AS parts
    FROM (SELECT x.part, strpos(x.part, quote_ident(p.tenant_column)) = 0 AND x.part ~ '^[\w."]+\(.*\)$' AS is_call
          FROM unnest(tenancy.expression_disjuncts(p.using_text)) AS x(part)) x WHERE x.is_call) x
WHERE x.parts > 0 AND cardinality(tenancy.expression_disjuncts(p.using_text)) > x.parts
  AND EXISTS (SELECT FROM unnest(tenancy.expression_disjuncts(p.using_text)) AS o(part) WHERE tenancy.expression_bounds_tenant(o.part, p.tenant_column))
  AND NOT (p.mode = 'enforce' AND x.part ~ '^tenancy\.')$rule$),

('function-leakproof', 'functions', 'error', 'A function of a user claims to be LEAKPROOF',
 'Postgres runs it before the policies, on rows of all tenants.', 'https://www.postgresql.org/docs/current/sql-createfunction.html',
$rule$SELECT f.schema, tenancy.identity('pg_proc'::regclass, f.function) AS object, 'runs before the policies' AS detail,
    format('ALTER FUNCTION %s NOT LEAKPROOF', f.function::regprocedure) AS remediation
FROM tenancy.user_functions f WHERE f.leakproof$rule$),

('definer-search-path', 'functions', 'error', 'A SECURITY DEFINER function has no search_path of its own',
 'Its caller chooses which tables, functions and operators it runs with the rights of its owner.',
 'https://www.postgresql.org/docs/current/sql-createfunction.html',
$rule$SELECT f.schema, tenancy.identity('pg_proc'::regclass, f.function) AS object,
    'acts as ' || quote_ident(pg_get_userbyid(f.owner)) || ' with the search_path of the caller' AS detail,
    format('ALTER ROUTINE %s SET search_path = pg_catalog, %I, pg_temp', f.function::regprocedure, f.schema) AS remediation
FROM tenancy.user_functions f
WHERE f.definer AND NOT EXISTS (SELECT FROM unnest(f.proconfig) AS c WHERE starts_with(c, 'search_path='))$rule$),

('definer-public', 'functions', 'error', 'Everybody may execute a SECURITY DEFINER function that reads tenant tables past row security',
 'What it returns is not bound by policies, whoever asks.', 'https://www.postgresql.org/docs/current/sql-createfunction.html',
$rule$WITH definers AS MATERIALIZED (
    SELECT f.*, lower(f.source) AS text FROM tenancy.user_functions f
    WHERE f.definer AND f.is_public AND f.result NOT IN ('trigger'::regtype, 'event_trigger'::regtype)),
-- What a function may name, what that reads, and with whose rights: null for its own.
named AS MATERIALIZED (
    SELECT t.relation AS named, lower(t.name) AS name, t.relation, t.owner, t.forced, NULL::oid AS acting FROM tenancy.tenant_tables t
    UNION ALL
    SELECT v.relation, lower(v.name), t.relation, t.owner, t.forced, r.acting
    FROM tenancy.view_reads r JOIN tenancy.tenant_tables t ON t.relation = r.relation JOIN tenancy.user_relations v ON v.relation = r.view),
reads AS MATERIALIZED (
    SELECT w.function, n.* FROM (SELECT DISTINCT f.function, w.word[1] FROM definers f CROSS JOIN LATERAL regexp_matches(f.text, '\w+', 'g') AS w(word)) w
    JOIN named n ON n.name = w.word
    UNION
    SELECT f.function, n.* FROM definers f JOIN named n ON n.name !~ '^\w+$' AND strpos(f.text, n.name) > 0
    UNION
    SELECT d.objid, n.* FROM pg_depend d JOIN named n ON n.named = d.refobjid
    WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_class'::regclass)
SELECT f.schema, tenancy.identity('pg_proc'::regclass, f.function) AS object,
    'acts as ' || quote_ident(pg_get_userbyid(f.owner)) || ' and reads ' || string_agg(DISTINCT tenancy.qualified_name(r.relation), ', ') AS detail,
    format('REVOKE EXECUTE ON ROUTINE %s FROM PUBLIC', f.function::regprocedure) AS remediation
FROM definers f JOIN reads r ON r.function = f.function JOIN pg_roles o ON o.oid = coalesce(r.acting, f.owner)
WHERE o.rolsuper OR o.rolbypassrls OR (NOT r.forced AND pg_has_role(o.oid, r.owner, 'USAGE'))
GROUP BY f.schema, f.function, f.owner$rule$),

('definer-trigger', 'functions', 'warn', 'A trigger acts past row security',
 'It writes with the rights of an exempt owner what its caller chose.', 'https://www.postgresql.org/docs/current/trigger-definition.html',
$rule$WITH triggers AS MATERIALIZED (
    SELECT g.oid AS trigger, g.tgrelid AS relation, r.schema, r.kind, f.function, f.owner, f.owner_exempt
    FROM pg_trigger g JOIN tenancy.user_functions f ON f.function = g.tgfoid JOIN tenancy.user_relations r ON r.relation = g.tgrelid
    WHERE f.definer AND NOT g.tgisinternal AND g.tgparentid = 0),
functions AS MATERIALIZED (
    SELECT f.function, f.schema, f.name, f.owner, f.definer, f.language, f.proconfig, f.source, count(*) OVER (PARTITION BY f.schema, f.name) AS namesakes
    FROM tenancy.user_functions f WHERE EXISTS (SELECT FROM triggers)),
definers AS MATERIALIZED (
    -- In what is no SQL, quotes are another thing.
    SELECT f.function, f.owner, CASE f.language WHEN 'plpgsql' THEN f.source ELSE translate(f.source, $q$"'$q$, '  ') END AS source
    FROM functions f WHERE f.function IN (SELECT g.function FROM triggers g)),
called AS MATERIALIZED (
    SELECT d.function, c.schema, c.name FROM definers d CROSS JOIN LATERAL tenancy.function_calls(d.source) AS c),
-- Where a function looks for what it names without a schema: where its caller likes, unless it is set and stays so.
paths AS MATERIALIZED (
    SELECT f.function, p.place, CASE p.part[1] WHEN '$user' THEN pg_get_userbyid(f.owner) ELSE coalesce(p.part[2], replace(p.part[1], '""', '"')) END AS schema
    FROM functions f CROSS JOIN LATERAL unnest(f.proconfig) AS c(setting)
    CROSS JOIN LATERAL regexp_matches(substr(c.setting, length('search_path=') + 1), '"((?:[^"]|"")*)"|([^,"\s]+)', 'g') WITH ORDINALITY AS p(part, place)
    WHERE starts_with(c.setting, 'search_path=') AND strpos(lower(f.source), 'search_path') = 0),
-- What runs as a trigger's owner: itself, and one level deep what it calls, where a name is of one function only.
bodies AS MATERIALIZED (
    SELECT d.function, d.source, d.owner, CASE WHEN d.function IN (SELECT p.function FROM paths p) THEN d.function END AS path FROM definers d
    UNION
    SELECT d.function, coalesce(pg_get_function_sqlbody(h.function), h.source), d.owner,
           CASE WHEN h.function IN (SELECT p.function FROM paths p) THEN h.function WHEN d.function IN (SELECT p.function FROM paths p) THEN d.function END
    FROM definers d JOIN called c ON c.function = d.function
    JOIN functions h ON h.name = c.name AND h.namesakes = 1 AND NOT h.definer AND h.function <> d.function AND h.language IN ('sql', 'plpgsql')
        AND h.schema = coalesce(c.schema, (SELECT p.schema FROM paths p JOIN functions o ON o.schema = p.schema AND o.name = c.name
                                           WHERE p.function = d.function ORDER BY p.place LIMIT 1))),
written AS MATERIALIZED (
    SELECT DISTINCT b.function, b.owner, b.path, w.schema, w.name FROM bodies b CROSS JOIN LATERAL tenancy.function_writes(b.source) AS w),
relations AS MATERIALIZED (
    SELECT r.relation, r.schema, r.name FROM tenancy.user_relations r WHERE r.name IN (SELECT w.name FROM written w) AND r.kind IN ('r', 'p', 'v')),
-- Of one trigger, where each writes its own table.
targets AS MATERIALIZED (
    SELECT w.function, NULL::oid AS trigger, w.owner, r.relation FROM written w JOIN relations r ON r.name = w.name AND r.schema = w.schema
    UNION
    SELECT w.function, NULL, w.owner, r.relation FROM written w JOIN relations r ON r.name = w.name WHERE w.schema IS NULL AND w.path IS NULL
    UNION
    SELECT w.function, NULL, w.owner, r.relation
    FROM (SELECT w.function, w.owner, w.path, w.name, min(p.place) AS place
          FROM written w JOIN paths p ON p.function = w.path JOIN relations r ON r.name = w.name AND r.schema = p.schema
          WHERE w.schema IS NULL GROUP BY w.function, w.owner, w.path, w.name) w
    JOIN paths p ON p.function = w.path AND p.place = w.place JOIN relations r ON r.name = w.name AND r.schema = p.schema
    UNION
    SELECT w.function, g.trigger, w.owner, g.relation FROM written w JOIN triggers g ON g.function = w.function WHERE w.name IS NULL),
-- A view passes on what is written to the one table that it shows.
reads AS MATERIALIZED (
    SELECT v.view, v.relation, v.acting FROM tenancy.view_reads v
    WHERE v.view IN (SELECT x.relation FROM targets x) AND pg_relation_is_updatable(v.view, false) & 28 > 0),
reached AS MATERIALIZED (
    SELECT x.function, x.trigger, x.relation, x.owner FROM targets x
    UNION
    SELECT x.function, x.trigger, v.relation, coalesce(v.acting, x.owner)
    FROM targets x JOIN reads v ON v.view = x.relation
    WHERE v.view IN (SELECT o.view FROM reads o JOIN pg_class c ON c.oid = o.relation AND c.relkind <> 'v' GROUP BY o.view HAVING count(DISTINCT o.relation) = 1)),
writes AS MATERIALIZED (
    SELECT g.trigger, string_agg(DISTINCT tenancy.qualified_name(x.relation), ', ') AS names
    FROM reached x JOIN triggers g ON g.function = x.function AND coalesce(x.trigger, g.trigger) = g.trigger
    JOIN tenancy.tenant_tables t ON t.relation = x.relation JOIN pg_roles o ON o.oid = x.owner
    WHERE o.rolsuper OR o.rolbypassrls OR (NOT t.forced AND pg_has_role(o.oid, t.owner, 'USAGE'))
    GROUP BY g.trigger)
SELECT g.schema, tenancy.identity('pg_trigger'::regclass, g.trigger) AS object,
    'runs ' || g.function::regprocedure || ' as ' || quote_ident(pg_get_userbyid(g.owner)) || coalesce(', which writes ' || w.names, '') AS detail,
    format('ALTER FUNCTION %s SECURITY INVOKER', g.function::regprocedure) AS remediation
FROM triggers g LEFT JOIN writes w ON w.trigger = g.trigger
WHERE w.trigger IS NOT NULL OR (g.owner_exempt AND (g.kind = 'v' OR g.relation IN (SELECT t.relation FROM tenancy.tenant_tables t)))$rule$),

('function-untrusted', 'functions', 'warn', 'An application may execute a function in an untrusted language',
 'It acts as the operating system''s user of the server, past everything.', 'https://www.postgresql.org/docs/current/sql-createlanguage.html',
$rule$SELECT f.schema, tenancy.identity('pg_proc'::regclass, f.function) AS object,
    'language ' || quote_ident(f.language) || ', executable by ' || string_agg(tenancy.grantee_name(g.grantee), ', ') AS detail,
    format('REVOKE EXECUTE ON ROUTINE %s FROM %s', f.function::regprocedure, string_agg(tenancy.grantee_name(g.grantee), ', ')) AS remediation
FROM tenancy.user_functions f JOIN pg_proc p ON p.oid = f.function
CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS g
WHERE f.untrusted AND g.grantee <> p.proowner AND g.grantee IN (SELECT x.grantee FROM tenancy.application_grantees x)
GROUP BY f.schema, f.function, f.language$rule$);
