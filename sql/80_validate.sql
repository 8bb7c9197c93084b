-- Is it tight? The rules are rows, each a query over the catalogs; files 81 to 87 hold them by topic.
-- Validation reads only, with the caller's rights. The views here say what rules share; like the
-- catalogs they show no rows of users. MATERIALIZED, since a rule that joins one many times over would
-- else compute it as often; nested loops are off for the same reason: catalogs are joined by hashing.

CREATE TABLE tenancy.rules (
    code text PRIMARY KEY,
    topic text NOT NULL,
    level text NOT NULL CHECK (level IN ('error', 'warn', 'info')),
    title text NOT NULL,
    why text NOT NULL,
    reference text NOT NULL,
    query text NOT NULL
);
COMMENT ON TABLE tenancy.rules IS 'what tenancy.validate() looks for: stable codes, and the query that finds each';
COMMENT ON COLUMN tenancy.rules.query IS 'returns schema (null: belongs to none), object, detail, remediation, and level where it may differ from the rule''s; runs with the rights of the caller and search_path pg_catalog, pg_temp';
GRANT SELECT ON tenancy.rules TO PUBLIC;

CREATE TABLE tenancy.waivers (
    code text NOT NULL,
    object text NOT NULL,
    reason text NOT NULL,
    until timestamptz NOT NULL,
    waived_by name NOT NULL,
    waived_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (code, object)
);
COMMENT ON TABLE tenancy.waivers IS 'findings that may stay: written by tenancy.waive() and tenancy.unwaive()';
SELECT pg_catalog.pg_extension_config_dump('tenancy.waivers', '');
GRANT SELECT ON tenancy.waivers TO PUBLIC;

CREATE FUNCTION tenancy.expression_is_always_true(expression text, tenant_column text) RETURNS boolean
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'expression_is_always_true_wrapper';
COMMENT ON FUNCTION tenancy.expression_is_always_true(text, text) IS
'whether the expression of a policy, as pg_get_expr() shows it, lets every row of a tenant through; false for null';

CREATE FUNCTION tenancy.expression_open_without_context(expression text, tenant_column text) RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'expression_open_without_context_wrapper';
COMMENT ON FUNCTION tenancy.expression_open_without_context(text, text) IS
'the part of a policy''s expression that is true where no context is set; null where there is none';

CREATE FUNCTION tenancy.expression_asks_for_others(expression text, tenant_column text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'expression_asks_for_others_wrapper';
COMMENT ON FUNCTION tenancy.expression_asks_for_others(text, text) IS
'the part of a policy''s expression that lets rows through by comparing the tenant for another thing than being equal; null where there is none';

CREATE FUNCTION tenancy.expression_bounds_tenant(expression text, tenant_column text) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'expression_bounds_tenant_wrapper';
COMMENT ON FUNCTION tenancy.expression_bounds_tenant(text, text) IS
'whether every row that a policy''s expression lets through was asked for its tenant; what it is compared with is taken at its word';

CREATE FUNCTION tenancy.expression_one_tenant(expression text, tenant_column text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'expression_one_tenant_wrapper';
COMMENT ON FUNCTION tenancy.expression_one_tenant(text, text) IS
'the one value that a policy''s expression compares the tenant with for being equal, whichever way it lets a row through; null where there are several, or none';

CREATE FUNCTION tenancy.expression_names_tenant(expression text, tenant_column text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'expression_names_tenant_wrapper';
COMMENT ON FUNCTION tenancy.expression_names_tenant(text, text) IS
'the part of a policy''s expression that compares the tenant with a constant; null where there is none';

CREATE FUNCTION tenancy.expression_asks_for_role(expression text, tenant_column text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'expression_asks_for_role_wrapper';
COMMENT ON FUNCTION tenancy.expression_asks_for_role(text, text) IS
'the part of a policy''s expression that believes the database role; null where there is none';

CREATE FUNCTION tenancy.expression_without_tenant(expression text, tenant_column text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'expression_without_tenant_wrapper';
COMMENT ON FUNCTION tenancy.expression_without_tenant(text, text) IS
'the part of a policy''s expression that does not ask for the tenant; null where there is none, and where only functions know';

CREATE FUNCTION tenancy.expression_asks_for_one_of_many(expression text, keys text[]) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'expression_asks_for_one_of_many_wrapper';
COMMENT ON FUNCTION tenancy.expression_asks_for_one_of_many(text, text[]) IS
'whether a policy''s expression compares for being equal with a sub-select that may return several rows; keys are unique ones of tables, as in app.users (id)';

CREATE FUNCTION tenancy.expression_shows_nobodys(expression text, tenant_column text, tenant_not_null boolean) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'expression_shows_nobodys_wrapper';
COMMENT ON FUNCTION tenancy.expression_shows_nobodys(text, text, boolean) IS
'the part of a policy''s expression that lets rows without a tenant through; null where there is none';

CREATE FUNCTION tenancy.expression_keeps_to_named(expression text, tenant_column text) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'expression_keeps_to_named_wrapper';
COMMENT ON FUNCTION tenancy.expression_keeps_to_named(text, text) IS
'whether the row filter of a publication, as pg_get_expr() shows it, lets rows through only of tenants that it names';

CREATE FUNCTION tenancy.function_said(source text, parameters text[]) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'function_said_wrapper';
COMMENT ON FUNCTION tenancy.function_said(text, text[]) IS
'the constant that a function in SQL or PL/pgSQL with that source and those parameters returns; empty where its arguments alone decide, null where that is not known';

CREATE FUNCTION tenancy.expression_with_known(expression text, functions text[], said text[]) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'expression_with_known_wrapper';
COMMENT ON FUNCTION tenancy.expression_with_known(text, text[], text[]) IS
'a policy''s expression with what functions return in the place of their calls, as tenancy.function_said() has it; where arguments decide, a name';

CREATE FUNCTION tenancy.expression_text(node pg_node_tree, relation oid) RETURNS text
LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'expression_text_wrapper';
COMMENT ON FUNCTION tenancy.expression_text(pg_node_tree, oid) IS
'pg_get_expr(), and null instead of an error for what is damaged or was dropped meanwhile';

CREATE FUNCTION tenancy.expression_disjuncts(expression text) RETURNS text[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'expression_disjuncts_wrapper';
COMMENT ON FUNCTION tenancy.expression_disjuncts(text) IS
'the operands of the outermost OR of an expression as pg_get_expr() shows it';

CREATE FUNCTION tenancy.type_holds_tenants(type oid, tenant_type text) RETURNS boolean
LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'type_holds_tenants_wrapper';
COMMENT ON FUNCTION tenancy.type_holds_tenants(oid, text) IS
'whether a tenant column may be of that type, or a domain over one, where tenants are of that one, as tenancy.bind() names it';

CREATE FUNCTION tenancy.library_version() RETURNS text
LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'library_version_wrapper';
COMMENT ON FUNCTION tenancy.library_version() IS 'version of the library that is loaded; the extension''s own is in pg_extension';

CREATE FUNCTION tenancy.identity(class oid, object oid, part integer DEFAULT 0) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (SELECT i.type || ' ' || i.identity FROM pg_catalog.pg_identify_object(class, object, part) AS i);
COMMENT ON FUNCTION tenancy.identity(oid, oid, integer) IS
'how findings and waivers name an object, whatever search_path and language; null once it is gone';

CREATE FUNCTION tenancy.qualified_name(relation oid) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation);
COMMENT ON FUNCTION tenancy.qualified_name(oid) IS 'schema and name of a relation, quoted where needed';

CREATE FUNCTION tenancy.grantee_name(grantee oid) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(grantee)) END;
COMMENT ON FUNCTION tenancy.grantee_name(oid) IS 'a grantee as GRANT and REVOKE take it';

CREATE VIEW tenancy.bound_relations AS
    SELECT 'membership' AS bound_as, pg_catalog.to_regclass(b.membership)::oid AS relation FROM tenancy.binding b
    UNION ALL SELECT 'role_table', pg_catalog.to_regclass(b.role_table)::oid FROM tenancy.binding b
    UNION ALL SELECT 'tenants', pg_catalog.to_regclass(b.tenants)::oid FROM tenancy.binding b;
COMMENT ON VIEW tenancy.bound_relations IS 'relations of the binding, for validation';

CREATE VIEW tenancy.tenant_column_names AS
    SELECT 'tenant_id'::name AS name
    UNION
    SELECT b.membership_tenant::name FROM tenancy.binding b WHERE b.membership IS NOT NULL AND b.membership_tenant <> 'id'
    UNION
    -- Registrations as they stand: whether each table is there costs more than a name is worth.
    SELECT p.tenant_column FROM tenancy.protection p
    WHERE p.template IN ('tenant', 'shared_read', 'tenant_read_admin_write', 'member_read') AND p.tenant_column <> 'id'
      AND pg_catalog.format('%I.%I', p.schema_name, p.table_name) NOT IN (SELECT b.tenants FROM tenancy.binding b WHERE b.tenants IS NOT NULL);
COMMENT ON VIEW tenancy.tenant_column_names IS 'what tenant columns are called in this database, for validation';

CREATE VIEW tenancy.user_relations AS
SELECT c.oid AS relation, n.nspname AS schema, c.relname AS name, c.relkind AS kind, c.relowner AS owner,
       c.relispartition AS is_partition, c.relrowsecurity AS row_security, c.relforcerowsecurity AS forced,
       c.reloptions, c.relacl
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence <> 't' AND c.oid >= 16384 AND n.nspname NOT IN ('tenancy', 'information_schema') AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e');
COMMENT ON VIEW tenancy.user_relations IS 'relations that no extension brought, for validation';

CREATE VIEW tenancy.relation_grants AS
SELECT c.relation, g.grantee, g.privilege_type AS privilege, true AS whole
FROM tenancy.user_relations c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS g WHERE g.grantee <> c.owner
UNION
SELECT c.relation, g.grantee, g.privilege_type, false
FROM tenancy.user_relations c
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.relation AND a.attacl IS NOT NULL AND NOT a.attisdropped
CROSS JOIN LATERAL pg_catalog.aclexplode(a.attacl) AS g WHERE g.grantee <> c.owner;
COMMENT ON VIEW tenancy.relation_grants IS 'privileges of others than owners on relations, or on columns of them (not whole), for validation; grantee 0 is PUBLIC';

CREATE VIEW tenancy.tenant_tables AS
WITH bound AS MATERIALIZED (
    SELECT r.relation, pg_catalog.min(r.bound_as) AS bound_as FROM tenancy.bound_relations r WHERE r.relation IS NOT NULL GROUP BY r.relation),
tenants AS MATERIALIZED (
    SELECT a.attrelid AS relation, a.attnum AS number
    FROM tenancy.binding b JOIN pg_catalog.pg_attribute a ON a.attrelid = pg_catalog.to_regclass(b.tenants)::oid AND a.attname = b.tenants_id AND NOT a.attisdropped),
-- The one column by which a table points at the tenants: of several, none is known to be its own.
pointing AS MATERIALIZED (
    SELECT con.conrelid AS relation, pg_catalog.min(con.conkey[1]) AS number
    FROM pg_catalog.pg_constraint con JOIN tenants t ON t.relation = con.confrelid AND con.confkey = ARRAY[t.number]
    WHERE con.contype = 'f' AND con.conrelid NOT IN (SELECT b.relation FROM bound b)
    GROUP BY con.conrelid HAVING pg_catalog.min(con.conkey[1]) = pg_catalog.max(con.conkey[1])
    UNION ALL SELECT t.relation, t.number FROM tenants t JOIN bound b ON b.relation = t.relation AND b.bound_as = 'tenants'),
found AS MATERIALIZED (
    SELECT c.*, p.template, p.mode, p.options, a.attname AS tenant_column, a.attnum AS tenant_number,
           a.atttypid AS tenant_type,
           -- From 18 on NOT NULL may be declared and not hold for the rows that are there.
           a.attnotnull AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint u
               WHERE u.conrelid = a.attrelid AND u.contype = 'n' AND u.conkey = ARRAY[a.attnum] AND NOT u.convalidated) AS tenant_not_null,
           b.bound_as
    FROM tenancy.user_relations c
    LEFT JOIN tenancy.protected_tables p ON p.relation = c.relation
    LEFT JOIN bound b ON b.relation = c.relation
    LEFT JOIN pointing k ON k.relation = c.relation
    LEFT JOIN LATERAL (
        SELECT a.* FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.relation AND a.attnum > 0 AND NOT a.attisdropped
          AND CASE WHEN p.relation IS NOT NULL THEN a.attname = p.tenant_column
                   -- A row need not belong to what a column that may be null points at.
                   ELSE (a.attnum = k.number AND a.attnotnull) IS TRUE OR a.attname IN (SELECT t.name FROM tenancy.tenant_column_names t) END
        ORDER BY CASE WHEN b.bound_as IS NULL THEN (a.attnum = k.number) IS TRUE ELSE (a.attnum = k.number) IS NOT TRUE END, a.attname LIMIT 1) a ON true
    WHERE c.kind IN ('r', 'p') AND (p.relation IS NOT NULL OR a.attname IS NOT NULL))
SELECT * FROM found;
COMMENT ON VIEW tenancy.tenant_tables IS 'tables that are registered, have a column called like the tenant''s, or one that points at the bound table of tenants, and that table: what validation looks at';

CREATE VIEW tenancy.tenant_table_grants AS
WITH found AS MATERIALIZED (
    SELECT t.relation, t.schema, t.owner, g.grantee, g.privilege, g.whole
    FROM tenancy.tenant_tables t JOIN tenancy.relation_grants g ON g.relation = t.relation
    LEFT JOIN pg_catalog.pg_roles r ON r.oid = g.grantee
    WHERE NOT coalesce(r.rolsuper, false))
SELECT * FROM found;
COMMENT ON VIEW tenancy.tenant_table_grants IS 'privileges on tenant tables, or on columns of them (not whole), of others than owners and superusers, for validation; grantee 0 is PUBLIC';

CREATE FUNCTION tenancy.acts_as(member oid, role oid) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
-- Whoever makes a role has ADMIN on it where that can be had alone: that is no use of the role.
RETURN pg_catalog.pg_has_role(member, role, CASE WHEN pg_catalog.current_setting('server_version_num')::integer < 160000
                                                 THEN 'MEMBER' ELSE 'USAGE, SET' END);
COMMENT ON FUNCTION tenancy.acts_as(oid, oid) IS
'whether a role is the other, inherits its rights, or can take them by SET ROLE; a superuser always';

CREATE VIEW tenancy.application_roles AS
WITH found AS MATERIALIZED (
    SELECT r.oid AS role, r.rolname AS name, r.rolcanlogin AS login
    FROM pg_catalog.pg_roles r
    WHERE NOT r.rolsuper AND NOT r.rolbypassrls AND r.rolname !~ '^pg_'
      AND EXISTS (SELECT FROM (SELECT DISTINCT g.grantee, g.owner FROM tenancy.tenant_table_grants g
                               WHERE g.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')) g
                  -- What a migration's role may do to its own tables it needs nobody's grant for.
                  WHERE g.owner <> r.oid
                    AND CASE WHEN g.grantee = 0 THEN r.rolcanlogin ELSE tenancy.acts_as(r.oid, g.grantee) END))
SELECT * FROM found;
COMMENT ON VIEW tenancy.application_roles IS 'roles that are granted tenant tables of others, or can act as one that is, and are meant to be bound by row security, for validation';

CREATE VIEW tenancy.application_grantees AS
WITH applications AS MATERIALIZED (SELECT a.role FROM tenancy.application_roles a),
groups AS MATERIALIZED (
    SELECT r.oid AS role FROM pg_catalog.pg_roles r
    -- Of other predefined roles role-path and role-predefined tell.
    WHERE r.rolname = 'pg_database_owner'
       OR (r.rolname !~ '^pg_' AND r.oid IN (SELECT m.roleid FROM pg_catalog.pg_auth_members m)))
SELECT 0::oid AS grantee, NULL::oid AS application
UNION SELECT a.role, a.role FROM applications a
-- By ADMIN alone, too: one can grant oneself the rest.
UNION SELECT g.role, a.role FROM applications a JOIN groups g ON pg_catalog.pg_has_role(a.role, g.role, 'MEMBER');
COMMENT ON VIEW tenancy.application_grantees IS 'PUBLIC (0), application roles and roles that they are members of: what is granted to one of them an application may use, for validation';

CREATE VIEW tenancy.known_functions AS
WITH calls AS MATERIALIZED (
    SELECT DISTINCT d.objid AS policy, d.refobjid AS function
    FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
      -- By the index, whatever its caller joins by.
      AND d.refobjid = ANY (ARRAY(
          SELECT f.oid FROM pg_catalog.pg_proc f JOIN pg_catalog.pg_language l ON l.oid = f.prolang
          WHERE f.oid >= 16384 AND l.lanname IN ('sql', 'plpgsql') AND NOT f.proretset AND f.proargmodes IS NULL))),
functions AS MATERIALIZED (
    SELECT f.oid AS function, pg_catalog.format('%I.%I', n.nspname, f.proname) AS name,
           -- Of null, a STRICT one returns null.
           CASE WHEN f.proisstrict AND f.pronargs > 0 AND x.said = 'true' THEN '' ELSE x.said END AS said
    -- Those alone, before anything is asked of each.
    FROM (SELECT f.* FROM pg_catalog.pg_proc f WHERE f.oid = ANY (ARRAY(SELECT DISTINCT c.function FROM calls c)) OFFSET 0) f
    JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace
    CROSS JOIN LATERAL (SELECT tenancy.function_said(coalesce(pg_catalog.pg_get_function_sqlbody(f.oid), f.prosrc), coalesce(f.proargnames, '{}')) AS said OFFSET 0) x
    WHERE x.said IS NOT NULL AND n.nspname <> 'tenancy'
      -- Operators of other types are somebody's functions.
      AND NOT EXISTS (SELECT FROM pg_catalog.unnest(f.proargtypes::oid[]) AS t(type) WHERE t.type >= 16384)
      -- A call does not say which of several it is.
      AND (SELECT count(*) FROM pg_catalog.pg_proc o WHERE o.proname = f.proname AND o.pronamespace = f.pronamespace) = 1)
SELECT c.policy, pg_catalog.array_agg(f.name) AS names, pg_catalog.array_agg(f.said) AS said
FROM calls c JOIN functions f ON f.function = c.function GROUP BY c.policy;
COMMENT ON VIEW tenancy.known_functions IS 'functions that policies call and that ask nobody, and what they return, for validation';

CREATE VIEW tenancy.tenant_policies AS
WITH found AS MATERIALIZED (
    SELECT p.oid AS policy, p.polname AS name, t.relation, t.schema, t.tenant_column, t.tenant_not_null, t.row_security, t.template, t.mode,
           p.polpermissive AS permissive, p.polcmd AS command, p.polroles AS roles, e.using_text, e.check_text, k.using_known, k.check_known,
           (p.polqual IS NOT NULL AND e.using_text IS NULL) OR (p.polwithcheck IS NOT NULL AND e.check_text IS NULL) AS unreadable,
           tenancy.expression_is_always_true(k.using_known, t.tenant_column) AS using_true,
           tenancy.expression_is_always_true(k.check_known, t.tenant_column) AS check_true,
           coalesce(tenancy.expression_open_without_context(k.using_known, t.tenant_column),
                    tenancy.expression_asks_for_others(k.using_known, t.tenant_column)) AS using_open,
           coalesce(tenancy.expression_open_without_context(k.check_known, t.tenant_column),
                    tenancy.expression_asks_for_others(k.check_known, t.tenant_column)) AS check_open,
           t.tenant_column IS NULL OR tenancy.expression_bounds_tenant(k.using_known, t.tenant_column) AS using_tenant,
           t.tenant_column IS NULL OR tenancy.expression_bounds_tenant(k.check_known, t.tenant_column) AS check_tenant
    FROM tenancy.tenant_tables t JOIN pg_catalog.pg_policy p ON p.polrelid = t.relation
    LEFT JOIN tenancy.known_functions f ON f.policy = p.oid
    CROSS JOIN LATERAL (
        SELECT tenancy.expression_text(p.polqual, p.polrelid) AS using_text,
               tenancy.expression_text(p.polwithcheck, p.polrelid) AS check_text OFFSET 0) e
    CROSS JOIN LATERAL (
        SELECT CASE WHEN f.policy IS NULL THEN e.using_text ELSE tenancy.expression_with_known(e.using_text, f.names, f.said) END AS using_known,
               CASE WHEN f.policy IS NULL THEN e.check_text ELSE tenancy.expression_with_known(e.check_text, f.names, f.said) END AS check_known OFFSET 0) k)
SELECT f.*, (SELECT pg_catalog.array_agg(c.command) FROM pg_catalog.unnest('{r,a,w,d}'::"char"[]) AS c(command)
             WHERE f.command IN (c.command, '*')) AS commands,
       (SELECT pg_catalog.array_agg(c.command) FROM pg_catalog.unnest('{r,a,w,d}'::"char"[]) AS c(command)
        WHERE NOT f.permissive AND f.roles = '{0}'::oid[] AND f.command IN (c.command, '*')
          AND NOT f.unreadable
          AND (c.command = 'a' OR (f.using_tenant AND NOT f.using_true AND f.using_open IS NULL))
          -- Without WITH CHECK, Postgres takes USING.
          AND (c.command IN ('r', 'd')
               OR CASE WHEN f.check_text IS NULL THEN f.using_tenant AND NOT f.using_true AND f.using_open IS NULL
                       ELSE f.check_tenant AND NOT f.check_true AND f.check_open IS NULL END)) AS floor_for
FROM found f;
COMMENT ON VIEW tenancy.tenant_policies IS 'policies of tenant tables and what their expressions say, for validation; using_known, check_known: with what is known of the functions that they call; floor_for: commands below which no permissive policy can go, because this one is restrictive, for everybody, and asks for the tenant, or for what the extension''s own policies ask';

CREATE VIEW tenancy.judged_policies AS
WITH all_of_them AS MATERIALIZED (SELECT * FROM tenancy.tenant_policies p WHERE p.row_security),
floors AS MATERIALIZED (
    SELECT f.*, c.command AS held,
           -- Matters beside another only.
           CASE WHEN count(*) OVER (PARTITION BY f.relation, c.command) > 1
                THEN coalesce(tenancy.expression_names_tenant(x.text, f.tenant_column), tenancy.expression_asks_for_role(x.text, f.tenant_column),
                              tenancy.expression_shows_nobodys(x.text, f.tenant_column, f.tenant_not_null)) IS NULL
                     AND x.text !~ '\m(raw_)?user_meta_?data\M' END AS is_sound
    FROM all_of_them f CROSS JOIN LATERAL pg_catalog.unnest(f.floor_for) AS c(command)
    CROSS JOIN LATERAL (SELECT pg_catalog.concat_ws(' OR ', f.using_known, f.check_known) AS text OFFSET 0) x),
by_relation AS (
    SELECT f.relation, pg_catalog.array_agg(f.held) AS commands FROM floors f GROUP BY f.relation),
sound AS (
    SELECT f.relation, f.held, pg_catalog.array_agg(f.policy) AS policies FROM floors f WHERE f.is_sound GROUP BY f.relation, f.held),
unheld AS (
    SELECT p.policy, u.commands
    FROM all_of_them p LEFT JOIN by_relation f ON f.relation = p.relation
    CROSS JOIN LATERAL (SELECT pg_catalog.array_agg(c.command) AS commands FROM pg_catalog.unnest(p.commands) AS c(command)
                        WHERE c.command = ANY (f.commands) IS NOT TRUE) u
    WHERE p.permissive AND u.commands IS NOT NULL
    UNION ALL
    SELECT f.policy, pg_catalog.array_agg(f.held)
    FROM floors f LEFT JOIN sound s ON s.relation = f.relation AND s.held = f.held
    WHERE coalesce(s.policies, '{}') <@ ARRAY[f.policy] GROUP BY f.policy),
found AS MATERIALIZED (
    SELECT p.policy, p.name, p.relation, p.schema, p.tenant_column, p.tenant_not_null, p.template, p.mode, p.permissive, p.command, p.roles,
           p.using_text, p.check_text, p.using_known, p.check_known, p.using_true, p.check_true, p.using_tenant, p.check_tenant, p.unreadable, u.commands
    FROM all_of_them p JOIN unheld u ON u.policy = p.policy)
SELECT * FROM found;
COMMENT ON VIEW tenancy.judged_policies IS 'policies in force that decide what tenants see, and for which commands: permissive ones that no restrictive one holds, and restrictive ones that hold them where no better one does; for validation';

CREATE VIEW tenancy.unbounded_policies AS SELECT * FROM tenancy.judged_policies p WHERE p.permissive;
COMMENT ON VIEW tenancy.unbounded_policies IS 'permissive policies in force that no restrictive one holds for some command, for validation';

CREATE FUNCTION tenancy.protect_statement(relation oid, more jsonb DEFAULT '{}') RETURNS text
-- By keys, whatever its caller joins by.
LANGUAGE sql STABLE PARALLEL UNSAFE SET enable_nestloop = on
BEGIN ATOMIC
    WITH RECURSIVE up AS (
        SELECT protect_statement.relation AS relation, 0 AS level
        UNION ALL SELECT i.inhparent, up.level + 1 FROM up JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.relation),
    root AS (SELECT up.relation FROM up ORDER BY up.level DESC LIMIT 1)
    SELECT pg_catalog.format('SELECT * FROM tenancy.protect_table(%L, template => %L, tenant_column => %L, mode => ''enforce'', options => %L)',
                             pg_catalog.format('%I.%I', t.schema, t.name), coalesce(t.registered ->> 'template', CASE WHEN t.bound_column IS NOT NULL THEN 'own_tenant' END, 'tenant'),
                             coalesce(t.registered ->> 'tenant_column', t.bound_column, (
                                 SELECT a.attname FROM pg_catalog.pg_attribute a
                                 WHERE a.attrelid = t.relation AND a.attnum > 0 AND NOT a.attisdropped AND t.registered IS NULL
                                   AND a.attname = ANY (ARRAY(SELECT n.name FROM tenancy.tenant_column_names n))
                                 ORDER BY a.attname LIMIT 1), (
                                 SELECT min(a.attname::text) FROM tenancy.binding b
                                 JOIN pg_catalog.pg_constraint con ON con.conrelid = t.relation AND con.confrelid = pg_catalog.to_regclass(b.tenants)::oid
                                     AND con.contype = 'f' AND pg_catalog.cardinality(con.conkey) = 1
                                 JOIN pg_catalog.pg_attribute a ON a.attrelid = t.relation AND a.attnum = con.conkey[1]), 'tenant_id'),
                             coalesce(t.registered -> 'options', '{}'::jsonb) || more)
    FROM (
        -- A sub-select, so that one registration is found by its key, however the planner joins.
        SELECT c.oid AS relation, n.nspname AS schema, c.relname AS name, (
                   SELECT pg_catalog.jsonb_build_object('template', p.template, 'tenant_column', p.tenant_column, 'options', p.options)
                   FROM tenancy.protected_tables p WHERE p.schema_name = n.nspname AND p.table_name = c.relname) AS registered,
               (SELECT b.tenants_id FROM tenancy.binding b WHERE pg_catalog.to_regclass(b.tenants)::oid = c.oid
                    AND c.oid NOT IN (SELECT r.relation FROM tenancy.bound_relations r WHERE r.bound_as <> 'tenants' AND r.relation IS NOT NULL)) AS bound_column
        FROM root JOIN pg_catalog.pg_class c ON c.oid = root.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        OFFSET 0) t;
END;
COMMENT ON FUNCTION tenancy.protect_statement(oid, jsonb) IS
'the statement that enforces isolation on a table as it is registered, or as a table of a tenant; for a partition, on its root';

CREATE FUNCTION tenancy.findings_of_rules(schemas text[])
RETURNS TABLE (code text, level text, object text, detail text, remediation text)
LANGUAGE c STABLE PARALLEL UNSAFE SET jit = off SET enable_nestloop = off SET quote_all_identifiers = off
AS 'MODULE_PATHNAME', 'findings_of_rules_wrapper';
COMMENT ON FUNCTION tenancy.findings_of_rules(text[]) IS 'tenancy.validate() without waivers';

CREATE FUNCTION tenancy.validate(schemas name[] DEFAULT NULL)
RETURNS TABLE (code text, level text, object text, detail text, remediation text, waived boolean, reason text, until timestamptz)
LANGUAGE sql STABLE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT f.code, f.level, f.object, f.detail, f.remediation, coalesce(w.until > pg_catalog.now(), false), w.reason, w.until
    FROM tenancy.findings_of_rules(schemas::text[]) AS f
    LEFT JOIN tenancy.waivers w ON w.code = f.code AND w.object = f.object
    ORDER BY pg_catalog.array_position('{error,warn,info}'::text[], f.level), f.code COLLATE "C", f.object COLLATE "C";
END;
COMMENT ON FUNCTION tenancy.validate(name[]) IS
'holes in isolation, worst first, with the SQL that closes each; in some schemas or all, and of roles and the server always. Reads only, with the rights of the caller; a rule that fails is a row of code rule-failed. 3F000 for a schema that does not exist. Reads every policy several times: allow seconds for a thousand tables';

CREATE FUNCTION tenancy.validate_json(schemas name[] DEFAULT NULL) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL UNSAFE
RETURN (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(v)), '[]'::jsonb) FROM tenancy.validate(schemas) AS v);
COMMENT ON FUNCTION tenancy.validate_json(name[]) IS 'tenancy.validate() as an array of objects';

CREATE FUNCTION tenancy.validate_sarif(schemas name[] DEFAULT NULL) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL UNSAFE
RETURN (
    SELECT pg_catalog.jsonb_build_object(
        '$schema', 'https://json.schemastore.org/sarif-2.1.0.json', 'version', '2.1.0',
        'runs', pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object(
            'tool', pg_catalog.jsonb_build_object('driver', pg_catalog.jsonb_build_object(
                'name', 'pg_tenancy', 'version', tenancy.library_version(),
                'rules', (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                              'id', r.code, 'helpUri', r.reference,
                              'shortDescription', pg_catalog.jsonb_build_object('text', r.title),
                              'fullDescription', pg_catalog.jsonb_build_object('text', r.why),
                              'defaultConfiguration', pg_catalog.jsonb_build_object(
                                  'level', CASE r.level WHEN 'warn' THEN 'warning' WHEN 'info' THEN 'note' ELSE r.level END))
                              ORDER BY r.code COLLATE "C") FROM tenancy.rules r))),
            'results', (
                SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                    'ruleId', v.code,
                    'level', CASE v.level WHEN 'warn' THEN 'warning' WHEN 'info' THEN 'note' ELSE v.level END,
                    'message', pg_catalog.jsonb_build_object('text',
                        v.object || ': ' || v.detail || coalesce('. Remediation: ' || v.remediation, '')),
                    'locations', pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object('logicalLocations',
                        pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object('fullyQualifiedName', v.object)))),
                    'suppressions', CASE WHEN v.waived THEN pg_catalog.jsonb_build_array(
                        pg_catalog.jsonb_build_object('kind', 'external', 'justification', v.reason)) ELSE '[]'::jsonb END)),
                    '[]'::jsonb)
                FROM tenancy.validate(schemas) AS v)))));
COMMENT ON FUNCTION tenancy.validate_sarif(name[]) IS 'tenancy.validate() as SARIF 2.1.0; waived findings are suppressed results';

CREATE FUNCTION tenancy.assert_valid_of(level text, schemas text[], data boolean) RETURNS void
LANGUAGE c STABLE PARALLEL UNSAFE SET jit = off SET enable_nestloop = off SET quote_all_identifiers = off
AS 'MODULE_PATHNAME', 'assert_valid_wrapper';
COMMENT ON FUNCTION tenancy.assert_valid_of(text, text[], boolean) IS 'tenancy.assert_valid() behind its argument types';

CREATE FUNCTION tenancy.assert_valid(level text DEFAULT 'error', schemas name[] DEFAULT NULL, data boolean DEFAULT false) RETURNS void
LANGUAGE sql STABLE PARALLEL UNSAFE
RETURN tenancy.assert_valid_of(level, schemas::text[], data);
COMMENT ON FUNCTION tenancy.assert_valid(text, name[], boolean) IS
'raises 55000 with the findings of that level and worse that are not waived in its DETAIL: the gate for CI. With data, those of tenancy.validate_data() too, which reads all rows. 22023 for another level, 3F000 for a schema that does not exist';

CREATE FUNCTION tenancy.waive(code text, object text, reason text, until timestamptz) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'waive_wrapper';
COMMENT ON FUNCTION tenancy.waive(text, text, text, timestamptz) IS
'accepts one finding until then; it stays in the list, marked. With the code not-attacked, an attack that tenancy.test_isolation() can never try (a call, a foreign table, another role): role, relation and attack as shown, with a colon and a space between them. Waiving it again replaces. For the owner of the database and administrators. Errors: 42501, 42704, 22023';

CREATE FUNCTION tenancy.unwaive(code text, object text) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'unwaive_wrapper';
COMMENT ON FUNCTION tenancy.unwaive(text, text) IS
'takes a waiver back; false where there was none. For the owner of the database and administrators. Errors: 42501, 22023';

GRANT SELECT ON tenancy.bound_relations, tenancy.tenant_column_names, tenancy.user_relations, tenancy.relation_grants, tenancy.tenant_tables,
    tenancy.tenant_table_grants, tenancy.application_roles, tenancy.application_grantees, tenancy.known_functions, tenancy.tenant_policies,
    tenancy.unbounded_policies, tenancy.judged_policies TO PUBLIC;
