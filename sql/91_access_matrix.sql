-- Who reaches whose rows: role by table by command, and the ways besides.

CREATE FUNCTION tenancy.expression_reach(expression text, tenant_column text, keys text[], tenant_columns text[],
    tenant_settings text[], user_settings text[]) RETURNS integer[]
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'expression_reach_wrapper';
COMMENT ON FUNCTION tenancy.expression_reach(text, text, text[], text[], text[], text[]) IS
'how far the expression of a policy, as pg_get_expr() shows it without a search_path, lets an ordinary user reach, and a super admin: numbers that tenancy.reach_in_words() spells; all tenants for what is not understood, null for null. Of tables that it reads, the unique keys as schema.table (columns) and the tenant columns as schema.table.column; settings that name the tenant and the user, or the claim of a setting after a space';

CREATE FUNCTION tenancy.existing_role(role name) RETURNS oid
LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'existing_role_wrapper';
COMMENT ON FUNCTION tenancy.existing_role(name) IS 'the oid of a role; 42704 where there is none';

CREATE FUNCTION tenancy.reach_in_words(ordinary integer, super_admin integer) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT w.words[ordinary + 1] || CASE WHEN super_admin > ordinary THEN ', ' || w.words[super_admin + 1] || ' for super admins' ELSE '' END
        FROM (SELECT '{none,own rows,own tenant,own tenants,shared rows,all tenants}'::text[] AS words) w);
COMMENT ON FUNCTION tenancy.reach_in_words(integer, integer) IS 'a reach as tenancy.access_matrix() shows it';

CREATE FUNCTION tenancy.reach_of_any(own_rows boolean, furthest integer) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN own_rows AND furthest > 1 THEN 5 ELSE coalesce(furthest, 0) END;
COMMENT ON FUNCTION tenancy.reach_of_any(boolean, integer) IS
'what several reaches are together, one of which may be own rows: these may be of any tenant, so that with rows of a tenant they are of all';

CREATE VIEW tenancy.view_reads AS
WITH RECURSIVE views AS (
    SELECT v.relation, v.owner, v.kind = 'm' AS copies,
           v.kind = 'v' AND EXISTS (SELECT FROM pg_catalog.pg_options_to_table(v.reloptions) AS p
                                    WHERE p.option_name = 'security_invoker' AND p.option_value::boolean) AS invoker
    FROM tenancy.user_relations v WHERE v.kind IN ('v', 'm')),
reads AS (
    SELECT DISTINCT v.relation AS view, v.owner, v.copies, v.invoker, d.refobjid AS relation
    FROM views v
    JOIN pg_catalog.pg_rewrite r ON r.ev_class = v.relation AND r.ev_type = '1'
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
        AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> v.relation),
-- Below a view with the rights of its caller, that is the role whose statement it is, even where the view
-- is read through another; and whoever refreshes a materialized view.
walk AS (
    SELECT r.view, r.relation, r.invoker, CASE WHEN NOT r.invoker THEN r.owner END AS acting, CASE WHEN r.copies THEN r.owner END AS caller
    FROM reads r
    UNION
    SELECT w.view, r.relation, w.invoker, CASE WHEN r.invoker THEN w.caller ELSE r.owner END, CASE WHEN r.copies THEN r.owner ELSE w.caller END
    FROM walk w JOIN reads r ON r.view = w.relation
        AND CASE WHEN w.invoker AND w.acting IS NULL THEN true ELSE pg_catalog.has_any_column_privilege(w.acting, w.relation, 'SELECT') END)
SELECT w.view, w.relation, w.acting, w.caller IS NOT NULL AS copies, w.invoker FROM walk w;
COMMENT ON VIEW tenancy.view_reads IS 'relations that views reach and with whose rights, null for those of their caller; copies: by way of a materialized view; invoker: the view itself is read with the rights of its caller';

CREATE VIEW tenancy.view_paths AS
SELECT w.view, w.relation, w.acting, w.copies FROM tenancy.view_reads w WHERE w.acting IS NOT NULL AND NOT w.invoker;
COMMENT ON VIEW tenancy.view_paths IS 'relations that views reach with the rights of somebody else than their caller, and whose; copies: by way of a materialized view';

CREATE TYPE tenancy.access AS (role name, relation regclass, command text, reach text, granted_by text, bounded_by text,
    besides text, besides_reach text);
COMMENT ON TYPE tenancy.access IS 'what one role can do to one table: a row of tenancy.access_matrix()';
COMMENT ON COLUMN tenancy.access.reach IS 'whose rows the command reaches: none, own rows (of the user), own tenant, own tenants (all of the user''s), shared rows (those, and rows that tenants share), all tenants';
COMMENT ON COLUMN tenancy.access.granted_by IS 'where the privilege comes from; null where the role has none';
COMMENT ON COLUMN tenancy.access.bounded_by IS 'the policies that apply, or why none does';
COMMENT ON COLUMN tenancy.access.besides IS 'views, functions and roles by which the role reaches the table otherwise, and how far';
COMMENT ON COLUMN tenancy.access.besides_reach IS 'the furthest of these';

CREATE FUNCTION tenancy.access_matrix(role name DEFAULT NULL) RETURNS SETOF tenancy.access
-- Expressions are read as they look without a search_path.
LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off
    SET enable_nestloop = off SET enable_mergejoin = off SET jit = off
BEGIN ATOMIC
WITH RECURSIVE commands AS MATERIALIZED (
    SELECT * FROM (VALUES (1, 'r'::"char", 'SELECT'), (2, 'a', 'INSERT'), (3, 'w', 'UPDATE'), (4, 'd', 'DELETE'),
                          (5, 't', 'TRUNCATE')) AS c(place, command, name)),
tables AS MATERIALIZED (
    SELECT t.relation, t.schema, t.name, t.owner, t.relacl, t.row_security, t.forced, t.template, t.mode, t.tenant_column,
           n.oid AS namespace
    FROM tenancy.tenant_tables t JOIN pg_catalog.pg_namespace n ON n.nspname = t.schema),
asked AS MATERIALIZED (
    SELECT r.oid AS role, r.rolname AS name
    FROM pg_catalog.pg_roles r
    WHERE CASE WHEN access_matrix.role IS NULL
               THEN r.rolcanlogin OR r.oid IN (SELECT a.role FROM tenancy.application_roles a)
               ELSE r.oid = tenancy.existing_role(access_matrix.role) END),
-- By SET ROLE, or by a membership that a role may give itself.
becomes AS MATERIALIZED (
    SELECT p.role, p.reached FROM tenancy.role_paths p JOIN asked a ON a.role = p.role
    JOIN pg_catalog.pg_roles r ON r.oid = p.role AND NOT r.rolsuper WHERE p.reached <> p.role),
view_reads AS MATERIALIZED (SELECT * FROM tenancy.view_reads),
-- Views by which a tenant table is reached with rights of their own.
seen AS MATERIALIZED (
    SELECT p.view, p.relation, p.acting, p.copies, v.kind, v.owner, n.oid AS namespace,
           tenancy.qualified_name(p.view) AS name
    FROM view_reads p JOIN tables t ON t.relation = p.relation
    JOIN tenancy.user_relations v ON v.relation = p.view JOIN pg_catalog.pg_namespace n ON n.nspname = v.schema
    WHERE p.acting IS NOT NULL AND NOT p.invoker),
-- USAGE on a schema is asked where names are parsed, and never again: with the rights of their caller, views
-- and bodies of functions that are kept parsed reach what that one cannot name.
parsed_views AS MATERIALIZED (
    SELECT DISTINCT p.view, n.oid AS namespace, tenancy.qualified_name(p.view) AS name, x.relation, x.namespace AS within
    FROM view_reads p
    JOIN (SELECT t.relation, t.namespace FROM tables t UNION SELECT s.view, s.namespace FROM seen s) x ON x.relation = p.relation
    JOIN tenancy.user_relations v ON v.relation = p.view JOIN pg_catalog.pg_namespace n ON n.nspname = v.schema
    WHERE p.acting IS NULL),
parsed_functions AS MATERIALIZED (
    SELECT DISTINCT f.function, n.oid AS namespace, f.function::pg_catalog.regprocedure::text AS name, t.relation, t.namespace AS within, c.command
    FROM tenancy.user_functions f JOIN pg_catalog.pg_namespace n ON n.nspname = f.schema
    JOIN pg_catalog.pg_proc p ON p.oid = f.function AND p.prosqlbody IS NOT NULL
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = f.function
        AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
    JOIN tables t ON t.relation = d.refobjid
    JOIN commands c ON c.command = 'r' OR pg_catalog.pg_get_function_sqlbody(f.function) ~ ('\m' || c.name || '\M')
    WHERE NOT f.definer),
-- Reading or changing a parent reaches the rows of its children past their policies.
ancestors AS (
    SELECT t.relation, i.inhparent AS parent, c.relispartition AS partition
    FROM tables t JOIN pg_catalog.pg_inherits i ON i.inhrelid = t.relation JOIN pg_catalog.pg_class c ON c.oid = t.relation
    UNION
    SELECT a.relation, i.inhparent, a.partition FROM ancestors a JOIN pg_catalog.pg_inherits i ON i.inhrelid = a.parent),
-- Functions with the rights of their owner; of those that make statements as they run, by themselves or by
-- functions that run what they are given, and of languages that are not SQL, nobody knows what they name.
-- Nor of those whose names are written in codes.
definers AS MATERIALIZED (
    SELECT f.function, f.owner, f.is_trigger, f.namespace, f.source, f.name,
           f.language NOT IN ('sql', 'plpgsql')
               OR f.source ~ (CASE f.language WHEN 'sql' THEN $re$\mexecute\M(?!')|$re$ ELSE '\mexecute\M|' END
                              || $re$\mdo\M(?!\s+(nothing|update)\M)|\mu&["']|\m(query|table|schema|database|cursor)_to_xml$re$
                              || $re$|\mts_(stat|rewrite)\M|\mdblink|\m(crosstab|connectby|xpath_table)$re$) AS dynamic
    FROM (SELECT f.function, f.owner, f.language, f.result = 'pg_catalog.trigger'::pg_catalog.regtype AS is_trigger, n.oid AS namespace,
                 f.function::pg_catalog.regprocedure::text AS name,
                 pg_catalog.lower(coalesce(nullif(f.source, ''), pg_catalog.pg_get_function_sqlbody(f.function), '')) AS source
          FROM tenancy.user_functions f JOIN pg_catalog.pg_namespace n ON n.nspname = f.schema
          WHERE f.definer AND f.result <> 'pg_catalog.event_trigger'::pg_catalog.regtype) f),
-- What a function may name, and what it reaches by that with whose rights: null for its own.
named AS MATERIALIZED (
    SELECT t.relation AS named, pg_catalog.lower(t.name) AS name, t.relation, NULL::oid AS acting, false AS copies, NULL AS view FROM tables t
    UNION ALL
    SELECT v.relation, pg_catalog.lower(v.name), r.relation, r.acting, r.copies, tenancy.qualified_name(v.relation)
    FROM view_reads r JOIN tables t ON t.relation = r.relation JOIN tenancy.user_relations v ON v.relation = r.view),
-- The commands and tables that their text names, directly or by a view.
calls AS MATERIALIZED (
    SELECT DISTINCT d.function, n.relation, c.command, coalesce(n.acting, d.owner) AS acting, n.copies, n.view
    FROM definers d JOIN named n
      ON CASE WHEN pg_catalog.strpos(d.source, n.name) > 0 THEN n.name !~ '^\w+$' OR d.source ~ ('\m' || n.name || '\M') ELSE false END
    JOIN commands c ON CASE c.command WHEN 'r' THEN true ELSE d.source ~ ('\m' || pg_catalog.lower(c.name) || '\M') END
        AND (n.view IS NULL OR c.command = 'r'
             OR pg_catalog.pg_relation_is_updatable(n.named, false) & (CASE c.command WHEN 'w' THEN 4 WHEN 'a' THEN 8 WHEN 'd' THEN 16 ELSE 0 END) > 0)),
-- Functions that views call, directly or by other views: as whoever reads, who needs no right to their
-- schema; or as whoever made a materialized view, once and for all.
view_reaches AS MATERIALIZED (
    SELECT v.relation AS view, v.kind, v.relation FROM tenancy.user_relations v WHERE v.kind IN ('v', 'm')
    UNION ALL
    SELECT v.relation, v.kind, x.relation FROM tenancy.view_reach x JOIN tenancy.user_relations v ON v.relation = x.view AND v.kind IN ('v', 'm')),
view_calls AS MATERIALIZED (
    SELECT v.view, d.refobjid AS function, pg_catalog.bool_or('m' IN (v.kind, m.kind)) AS copies
    FROM view_reaches v JOIN view_reaches m ON m.view = v.relation
    JOIN pg_catalog.pg_rewrite r ON r.ev_class = m.relation AND r.ev_type = '1'
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
        AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
    WHERE d.refobjid IN (SELECT f.function FROM definers f)
    GROUP BY v.view, d.refobjid),
called_views AS MATERIALIZED (
    SELECT c.view, c.function, c.copies, n.oid AS namespace,
           CASE v.kind WHEN 'm' THEN ' in materialized view ' ELSE ' in view ' END || tenancy.qualified_name(c.view) AS name
    FROM view_calls c JOIN tenancy.user_relations v ON v.relation = c.view JOIN pg_catalog.pg_namespace n ON n.nspname = v.schema),
-- Whoever acts: those asked for, those they become, and owners of views and functions.
actors AS MATERIALIZED (
    SELECT r.oid AS role, r.rolname AS name, r.rolsuper AS super, r.rolbypassrls AS bypass,
           pg_catalog.pg_has_role(r.oid, 'pg_read_all_data', 'USAGE') AS reads_all,
           pg_catalog.pg_has_role(r.oid, 'pg_write_all_data', 'USAGE') AS writes_all
    FROM pg_catalog.pg_roles r
    WHERE r.oid IN (SELECT a.role FROM asked a UNION SELECT b.reached FROM becomes b
                    UNION SELECT s.acting FROM seen s UNION SELECT c.acting FROM calls c UNION SELECT d.owner FROM definers d)),
grants AS MATERIALIZED (
    SELECT t.relation, g.grantee, c.command, NULL AS columns
    FROM tables t CROSS JOIN LATERAL pg_catalog.aclexplode(coalesce(t.relacl, pg_catalog.acldefault('r', t.owner))) AS g
    JOIN commands c ON c.name = g.privilege_type
    UNION ALL
    SELECT t.relation, g.grantee, c.command, pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum)
    FROM tables t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.relation AND a.attacl IS NOT NULL AND NOT a.attisdropped
    CROSS JOIN LATERAL pg_catalog.aclexplode(a.attacl) AS g
    JOIN commands c ON c.name = g.privilege_type
    GROUP BY t.relation, g.grantee, c.command),
edges AS MATERIALIZED (
    -- Before Postgres 16 the member says whether it inherits.
    SELECT m.member, m.roleid AS reached
    FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.member
    WHERE coalesce((pg_catalog.to_jsonb(m) ->> 'inherit_option')::boolean, r.rolinherit)),
walk AS (
    SELECT a.role, a.role AS reached, ARRAY[a.role] AS path FROM actors a WHERE NOT a.super
    UNION ALL
    SELECT w.role, e.reached, w.path || e.reached
    FROM walk w JOIN edges e ON e.member = w.reached AND e.reached <> ALL (w.path)),
inherits AS MATERIALIZED (
    SELECT DISTINCT ON (w.role, w.reached) w.role, w.reached,
           CASE WHEN w.role <> w.reached THEN 'member of ' || (
               SELECT pg_catalog.string_agg(pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(p.role)), ' -> ' ORDER BY p.place)
               FROM pg_catalog.unnest(w.path[2:]) WITH ORDINALITY AS p(role, place)) END AS how
    FROM walk w ORDER BY w.role, w.reached, pg_catalog.cardinality(w.path), w.path),
granted AS MATERIALIZED (
    SELECT h.role, h.relation, h.command, pg_catalog.string_agg(DISTINCT h.how, '; ' ORDER BY h.how) AS how
    FROM (
        SELECT i.role, g.relation, g.command,
               CASE WHEN i.role <> i.reached THEN i.how || CASE WHEN t.owner = g.grantee THEN ', the owner' ELSE '' END
                    WHEN t.owner = g.grantee THEN 'owner' ELSE 'direct grant' END
               || coalesce(' on columns ' || g.columns, '') AS how
        FROM inherits i JOIN grants g ON g.grantee = i.reached JOIN tables t ON t.relation = g.relation
        UNION ALL
        SELECT a.role, g.relation, g.command, 'PUBLIC' || coalesce(' on columns ' || g.columns, '')
        FROM actors a JOIN grants g ON g.grantee = 0 AND NOT a.super
        UNION ALL
        SELECT a.role, t.relation, c.command,
               CASE WHEN a.super THEN 'superuser' WHEN c.command = 'r' THEN 'pg_read_all_data' ELSE 'pg_write_all_data' END
        FROM actors a CROSS JOIN tables t CROSS JOIN commands c
        WHERE a.super OR CASE c.command WHEN 'r' THEN a.reads_all WHEN 't' THEN false ELSE a.writes_all END) h
    GROUP BY h.role, h.relation, h.command),
own_functions AS MATERIALIZED (
    SELECT f.oid, f.proname
    FROM pg_catalog.pg_extension e
    JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = e.oid AND d.deptype = 'e'
        AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
    JOIN pg_catalog.pg_proc f ON f.oid = d.objid
    WHERE e.extname = 'pg_tenancy'),
-- Policies that call a function of somebody's with the name of one of the extension's, or that a cast of
-- somebody's calls: it looks like one of Postgres's. And those to which two texts are equal that differ.
impostors AS MATERIALIZED (
    SELECT DISTINCT d.objid AS policy
    FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_proc f ON f.oid = d.refobjid
    WHERE d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
      AND f.oid NOT IN (SELECT o.oid FROM own_functions o)
      AND (f.proname IN (SELECT o.proname FROM own_functions o)
           OR f.oid IN (SELECT c.castfunc FROM pg_catalog.pg_cast c WHERE c.oid >= 16384))
    UNION
    SELECT d.objid
    FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation AND NOT c.collisdeterministic
    WHERE d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass),
-- Settings that say who asks: of the tenant only where no membership decides.
believed AS MATERIALIZED (
    SELECT CASE WHEN b.membership IS NULL
                THEN pg_catalog.array_remove(ARRAY[b.tenant_setting, b.claims_setting || ' ' || b.tenant_claim], NULL) END AS of_tenant,
           pg_catalog.array_remove(ARRAY[b.user_setting, b.claims_setting || ' ' || b.user_claim], NULL) AS of_user
    FROM tenancy.binding b),
-- Tables that policies read besides their own, and what makes a row of theirs the only one. Rows of children
-- are not bound by the keys of their parent.
read_tables AS MATERIALIZED (
    SELECT DISTINCT d.objid AS policy, c.oid AS relation, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_policy p ON p.oid = d.objid AND p.polrelid <> d.refobjid
    JOIN pg_catalog.pg_class c ON c.oid = d.refobjid AND (c.relkind = 'p' OR NOT c.relhassubclass)
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass),
unique_keys AS MATERIALIZED (
    SELECT i.indrelid AS relation, i.indexrelid AS index, pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ') AS columns
    FROM pg_catalog.pg_index i CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::smallint[]) WITH ORDINALITY AS k(number, place)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
    WHERE i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND k.place <= i.indnkeyatts
      AND i.indrelid IN (SELECT r.relation FROM read_tables r)
    GROUP BY i.indrelid, i.indexrelid),
known AS MATERIALIZED (
    SELECT r.policy, pg_catalog.array_agg(DISTINCT r.name || ' (' || u.columns || ')') AS keys,
           pg_catalog.array_agg(DISTINCT r.name || '.' || pg_catalog.quote_ident(t.tenant_column)) FILTER (WHERE t.tenant_column IS NOT NULL) AS tenants
    FROM read_tables r JOIN unique_keys u ON u.relation = r.relation LEFT JOIN tables t ON t.relation = r.relation
    GROUP BY r.policy),
policies AS MATERIALIZED (
    SELECT p.policy, p.name, p.relation, p.permissive, p.commands, p.roles,
           CASE WHEN i.policy IS NOT NULL OR p.unreadable THEN '{5,5}'
                ELSE tenancy.expression_reach(p.using_text, pg_catalog.quote_ident(p.tenant_column), k.keys, k.tenants, s.of_tenant, s.of_user) END AS using_reach,
           -- Without WITH CHECK, Postgres takes USING.
           CASE WHEN i.policy IS NOT NULL OR p.unreadable THEN '{5,5}'
                ELSE tenancy.expression_reach(coalesce(p.check_text, p.using_text), pg_catalog.quote_ident(p.tenant_column), k.keys, k.tenants,
                                              s.of_tenant, s.of_user) END AS check_reach
    FROM tenancy.tenant_policies p LEFT JOIN known k ON k.policy = p.policy LEFT JOIN impostors i ON i.policy = p.policy
    LEFT JOIN believed s ON true
    WHERE p.row_security),
applied AS MATERIALIZED (
    SELECT a.role, p.relation, c.command,
           tenancy.reach_of_any(pg_catalog.bool_or(p.using_reach[1] = 1) FILTER (WHERE p.permissive),
                                pg_catalog.max(p.using_reach[1]) FILTER (WHERE p.permissive)) AS widest_using,
           tenancy.reach_of_any(pg_catalog.bool_or(p.using_reach[2] = 1) FILTER (WHERE p.permissive),
                                pg_catalog.max(p.using_reach[2]) FILTER (WHERE p.permissive)) AS widest_using_super,
           tenancy.reach_of_any(pg_catalog.bool_or(p.check_reach[1] = 1) FILTER (WHERE p.permissive),
                                pg_catalog.max(p.check_reach[1]) FILTER (WHERE p.permissive)) AS widest_check,
           tenancy.reach_of_any(pg_catalog.bool_or(p.check_reach[2] = 1) FILTER (WHERE p.permissive),
                                pg_catalog.max(p.check_reach[2]) FILTER (WHERE p.permissive)) AS widest_check_super,
           coalesce(pg_catalog.min(p.using_reach[1]) FILTER (WHERE NOT p.permissive), 5) AS floor_using,
           coalesce(pg_catalog.min(p.using_reach[2]) FILTER (WHERE NOT p.permissive), 5) AS floor_using_super,
           coalesce(pg_catalog.min(p.check_reach[1]) FILTER (WHERE NOT p.permissive), 5) AS floor_check,
           coalesce(pg_catalog.min(p.check_reach[2]) FILTER (WHERE NOT p.permissive), 5) AS floor_check_super,
           pg_catalog.bool_or(p.permissive) AS opened,
           pg_catalog.string_agg(pg_catalog.quote_ident(p.name) || CASE WHEN p.permissive THEN '' ELSE ' (restrictive)' END, ', '
                                 ORDER BY p.permissive, p.name) AS names
    FROM policies p
    JOIN actors a ON p.roles = '{0}'::oid[] OR EXISTS (
        SELECT FROM pg_catalog.unnest(p.roles) AS r(role) WHERE pg_catalog.pg_has_role(a.role, r.role, 'USAGE'))
    JOIN commands c ON c.command = ANY (p.commands)
    GROUP BY a.role, p.relation, c.command),
bounds AS MATERIALIZED (
    SELECT b.role, b.relation, b.command, b.opened, b.names,
           CASE b.command WHEN 'a' THEN b.checked WHEN 'w' THEN CASE WHEN least(b.used, b.checked) = 0 THEN 0
                                                                       ELSE tenancy.reach_of_any(1 IN (b.used, b.checked), greatest(b.used, b.checked)) END
                ELSE b.used END AS ordinary,
           CASE b.command WHEN 'a' THEN b.checked_super
                WHEN 'w' THEN CASE WHEN least(b.used_super, b.checked_super) = 0 THEN 0
                              ELSE tenancy.reach_of_any(1 IN (b.used_super, b.checked_super), greatest(b.used_super, b.checked_super)) END
                ELSE b.used_super END AS super_admin
    FROM (SELECT a.role, a.relation, a.command, a.opened, a.names,
                 least(a.widest_using, a.floor_using) AS used, least(a.widest_using_super, a.floor_using_super) AS used_super,
                 least(a.widest_check, a.floor_check) AS checked, least(a.widest_check_super, a.floor_check_super) AS checked_super
          FROM applied a) b),
namespaces AS MATERIALIZED (
    SELECT a.role, n.namespace, pg_catalog.has_schema_privilege(a.role, n.namespace, 'USAGE') AS usable
    FROM actors a CROSS JOIN (SELECT t.namespace FROM tables t UNION SELECT s.namespace FROM seen s
                           UNION SELECT d.namespace FROM definers d UNION SELECT v.namespace FROM called_views v
                           UNION SELECT v.namespace FROM parsed_views v UNION SELECT f.namespace FROM parsed_functions f) n),
owners AS MATERIALIZED (
    SELECT a.role, o.owner FROM actors a CROSS JOIN (SELECT DISTINCT t.owner FROM tables t) o WHERE pg_catalog.pg_has_role(a.role, o.owner, 'USAGE')),
-- What a role reaches, and what it does by a name that somebody else parsed.
cells AS MATERIALIZED (
    SELECT a.role, t.relation, c.command, g.how AS granted_by,
           CASE WHEN n.usable THEN y.ordinary ELSE 0 END AS ordinary, CASE WHEN n.usable THEN y.super_admin ELSE 0 END AS super_admin,
           y.ordinary AS parsed, y.super_admin AS parsed_super,
           CASE WHEN g.how IS NULL THEN NULL
                WHEN NOT n.usable THEN 'no USAGE on schema ' || pg_catalog.quote_ident(t.schema)
                WHEN x.why IS NOT NULL THEN 'nothing: ' || x.why
                WHEN b.opened THEN b.names || CASE WHEN o.owner IS NOT NULL THEN '; the owner can switch row security off' ELSE '' END
                ELSE 'no permissive policy applies' END AS bounded_by
    FROM actors a CROSS JOIN tables t CROSS JOIN commands c
    JOIN namespaces n ON n.role = a.role AND n.namespace = t.namespace
    LEFT JOIN granted g ON g.role = a.role AND g.relation = t.relation AND g.command = c.command
    LEFT JOIN owners o ON o.role = a.role AND o.owner = t.owner
    LEFT JOIN bounds b ON b.role = a.role AND b.relation = t.relation AND b.command = c.command
    CROSS JOIN LATERAL (
        SELECT CASE WHEN c.command = 't' THEN 'row security does not bind TRUNCATE'
                    WHEN a.super THEN 'superuser'
                    WHEN NOT t.row_security THEN 'row security is off' || coalesce(', mode ' || t.mode, '')
                    WHEN a.bypass THEN 'BYPASSRLS'
                    WHEN o.owner IS NOT NULL AND NOT t.forced THEN 'row security is not forced on the owner' END AS why,
               -- Rows of such a table are nobody's.
               CASE WHEN t.template = 'global_read_admin_write' AND c.command = 'r' THEN 4 ELSE 5 END AS most,
               CASE WHEN t.template = 'global_read_admin_write' THEN 4 ELSE 5 END AS most_super) x
    CROSS JOIN LATERAL (
        SELECT CASE WHEN g.how IS NULL THEN 0 WHEN x.why IS NOT NULL THEN 5 WHEN b.opened THEN least(b.ordinary, x.most) ELSE 0 END AS ordinary,
               CASE WHEN g.how IS NULL THEN 0 WHEN x.why IS NOT NULL THEN 5 WHEN b.opened THEN least(b.super_admin, x.most_super) ELSE 0 END AS super_admin) y),
-- Superusers need no other way.
others AS MATERIALIZED (
    SELECT a.role FROM asked a JOIN actors c ON c.role = a.role AND NOT c.super),
-- Who makes which function run, and how.
runs AS MATERIALIZED (
    SELECT r.role, r.function, r.owner, r.copies, r.what || ' as ' || pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(r.owner)) || r.place AS how
    FROM (
        SELECT a.role, d.function, d.owner, false AS copies, 'function ' || d.name AS what, '' AS place
        FROM others a JOIN namespaces n ON n.role = a.role AND n.usable
        JOIN definers d ON d.namespace = n.namespace AND d.owner <> a.role AND NOT d.is_trigger
            AND pg_catalog.has_function_privilege(a.role, d.function, 'EXECUTE')
        UNION ALL
        SELECT a.role, d.function, d.owner, v.copies, 'function ' || d.name, v.name
        FROM others a JOIN namespaces n ON n.role = a.role AND n.usable
        JOIN called_views v ON v.namespace = n.namespace AND pg_catalog.has_any_column_privilege(a.role, v.view, 'SELECT')
        JOIN definers d ON d.function = v.function AND d.owner <> a.role
        JOIN namespaces f ON f.role = a.role AND f.namespace = d.namespace
        WHERE v.copies OR (NOT f.usable AND pg_catalog.has_function_privilege(a.role, d.function, 'EXECUTE'))
        UNION ALL
        SELECT a.role, d.function, d.owner, false, 'trigger ' || pg_catalog.quote_ident(g.tgname) || ' on ' || tenancy.qualified_name(g.tgrelid), ''
        FROM definers d JOIN pg_catalog.pg_trigger g ON g.tgfoid = d.function AND NOT g.tgisinternal AND d.is_trigger
        JOIN others a ON a.role <> d.owner AND (pg_catalog.has_any_column_privilege(a.role, g.tgrelid, 'INSERT, UPDATE') OR pg_catalog.has_table_privilege(a.role, g.tgrelid, 'DELETE, TRUNCATE'))) r),
-- What a role may do to which view.
opened AS MATERIALIZED (
    SELECT a.role, v.view, v.namespace, c.command
    FROM others a CROSS JOIN (SELECT s.view, s.namespace FROM seen s UNION SELECT p.view, p.namespace FROM parsed_views p) v
    JOIN commands c ON CASE c.command WHEN 'r' THEN pg_catalog.has_any_column_privilege(a.role, v.view, 'SELECT')
                                      WHEN 't' THEN false
                                      WHEN 'd' THEN pg_catalog.has_table_privilege(a.role, v.view, 'DELETE')
                                      ELSE pg_catalog.has_any_column_privilege(a.role, v.view, c.name) END
        AND (c.command = 'r' OR pg_catalog.pg_relation_is_updatable(v.view, false) & (CASE c.command WHEN 'w' THEN 4 WHEN 'a' THEN 8 ELSE 16 END) > 0)),
-- Relations that a role reaches by views, and has no right to name.
unnamed AS MATERIALIZED (
    SELECT o.role, p.relation, o.command, p.name
    FROM opened o JOIN namespaces n ON n.role = o.role AND n.namespace = o.namespace AND n.usable
    JOIN parsed_views p ON p.view = o.view
    JOIN namespaces w ON w.role = o.role AND w.namespace = p.within AND NOT w.usable),
ways AS MATERIALIZED (
    SELECT o.role, s.relation, o.command,
           CASE WHEN s.copies THEN 5 ELSE k.parsed END AS ordinary, CASE WHEN s.copies THEN 5 ELSE k.parsed_super END AS super_admin,
           CASE s.kind WHEN 'm' THEN 'materialized view ' ELSE 'view ' END || s.name || ' as ' || pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(s.acting))
               || coalesce(' by view ' || o.by, '') AS way
    FROM (SELECT o.role, o.view, o.command, NULL AS by
          FROM opened o JOIN namespaces n ON n.role = o.role AND n.namespace = o.namespace AND n.usable
          UNION ALL
          SELECT o.role, o.view, o.command, u.name
          FROM opened o JOIN unnamed u ON u.role = o.role AND u.relation = o.view AND u.command = o.command) o
    JOIN seen s ON s.view = o.view AND s.acting <> o.role AND (o.command = 'r' OR NOT s.copies)
    JOIN cells k ON k.role = s.acting AND k.relation = s.relation AND k.command = o.command
    UNION ALL
    SELECT u.role, u.relation, u.command, k.parsed, k.parsed_super, 'view ' || u.name || ' without USAGE on the table''s schema'
    FROM unnamed u JOIN cells k ON k.role = u.role AND k.relation = u.relation AND k.command = u.command
    UNION ALL
    SELECT a.role, f.relation, f.command, k.parsed, k.parsed_super, 'function ' || f.name || ' without USAGE on the table''s schema'
    FROM others a JOIN namespaces n ON n.role = a.role AND n.usable
    JOIN parsed_functions f ON f.namespace = n.namespace AND pg_catalog.has_function_privilege(a.role, f.function, 'EXECUTE')
    JOIN namespaces w ON w.role = a.role AND w.namespace = f.within AND NOT w.usable
    JOIN cells k ON k.role = a.role AND k.relation = f.relation AND k.command = f.command
    UNION ALL
    SELECT x.role, f.relation, f.command, CASE WHEN x.copies OR f.copies THEN 5 ELSE k.parsed END, CASE WHEN x.copies OR f.copies THEN 5 ELSE k.parsed_super END,
           x.how || coalesce(' by view ' || f.view || CASE WHEN f.acting <> x.owner THEN ' as ' || pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(f.acting)) ELSE '' END, '')
    FROM runs x JOIN calls f ON f.function = x.function AND (f.command = 'r' OR NOT x.copies)
    JOIN cells k ON k.role = f.acting AND k.relation = f.relation AND k.command = f.command
    UNION ALL
    SELECT x.role, k.relation, k.command, k.ordinary, k.super_admin, 'dynamic SQL of ' || x.hows || ' may reach'
    FROM (SELECT x.role, x.owner, pg_catalog.string_agg(DISTINCT x.how, ', ' ORDER BY x.how) AS hows
          FROM runs x JOIN definers d ON d.function = x.function AND d.dynamic GROUP BY x.role, x.owner) x
    JOIN cells k ON k.role = x.owner
    UNION ALL
    SELECT a.role, p.relation, k.command, k.ordinary, k.super_admin, 'parent ' || tenancy.qualified_name(p.parent)
    FROM others a JOIN cells k ON k.role = a.role JOIN ancestors p ON p.parent = k.relation AND (k.command <> 'a' OR p.partition)
    UNION ALL
    -- A parent that is no tenant table: nobody knows of tenants there.
    SELECT a.role, p.relation, c.command, 5, 5, 'parent ' || tenancy.qualified_name(p.parent)
    FROM ancestors p JOIN pg_catalog.pg_class r ON r.oid = p.parent JOIN commands c ON c.command <> 'a' OR p.partition
    JOIN others a ON pg_catalog.has_schema_privilege(a.role, r.relnamespace, 'USAGE')
        AND CASE WHEN c.command IN ('d', 't') THEN pg_catalog.has_table_privilege(a.role, p.parent, c.name)
                 ELSE pg_catalog.has_any_column_privilege(a.role, p.parent, c.name) END
    WHERE p.parent NOT IN (SELECT t.relation FROM tables t)
    UNION ALL
    SELECT b.role, k.relation, k.command, k.ordinary, k.super_admin, 'role ' || pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(b.reached))
    FROM becomes b JOIN cells k ON k.role = b.reached
    JOIN cells own ON own.role = b.role AND own.relation = k.relation AND own.command = k.command
        AND (tenancy.reach_of_any(1 IN (own.ordinary, k.ordinary), greatest(own.ordinary, k.ordinary)) > own.ordinary
             OR tenancy.reach_of_any(1 IN (own.super_admin, k.super_admin), greatest(own.super_admin, k.super_admin)) > own.super_admin)),
besides AS MATERIALIZED (
    SELECT w.role, w.relation, w.command,
           pg_catalog.string_agg(w.way || ': ' || tenancy.reach_in_words(w.ordinary, w.super_admin), '; ' ORDER BY w.ordinary DESC, w.way) AS ways,
           tenancy.reach_of_any(pg_catalog.bool_or(w.ordinary = 1), pg_catalog.max(w.ordinary)) AS ordinary,
           tenancy.reach_of_any(pg_catalog.bool_or(w.super_admin = 1), pg_catalog.max(w.super_admin)) AS super_admin
    FROM (SELECT DISTINCT w.* FROM ways w WHERE w.super_admin > 0) w GROUP BY w.role, w.relation, w.command),
concerned AS MATERIALIZED (
    SELECT DISTINCT k.role FROM cells k LEFT JOIN besides b ON b.role = k.role AND b.relation = k.relation AND b.command = k.command
    WHERE access_matrix.role IS NOT NULL OR k.granted_by IS NOT NULL OR b.ways IS NOT NULL)
SELECT a.name, k.relation::pg_catalog.regclass, c.name, tenancy.reach_in_words(k.ordinary, k.super_admin), k.granted_by, k.bounded_by,
       b.ways, tenancy.reach_in_words(b.ordinary, b.super_admin)
FROM asked a JOIN concerned o ON o.role = a.role JOIN cells k ON k.role = a.role JOIN commands c ON c.command = k.command
JOIN tables t ON t.relation = k.relation
LEFT JOIN besides b ON b.role = k.role AND b.relation = k.relation AND b.command = k.command
WHERE c.command <> 't' OR k.granted_by IS NOT NULL OR b.ways IS NOT NULL
ORDER BY a.name COLLATE "C", t.schema COLLATE "C", t.name COLLATE "C", c.place;
END;
COMMENT ON FUNCTION tenancy.access_matrix(name) IS
'for a role, or for every role that logs in or is an application''s and can do anything to a tenant table: whose rows each command reaches, what grants it, which policies bound it, and how far views, functions and other roles reach besides. Policies are judged by their text: what is not proved reaches all tenants. Reads only, with the rights of the caller. 42704 for a role that does not exist. Seconds for a thousand tables and several roles';

GRANT SELECT ON tenancy.view_reads, tenancy.view_paths TO PUBLIC;
