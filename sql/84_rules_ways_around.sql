-- Rules about ways around row security: relations that show rows of tenant tables past it.

CREATE VIEW tenancy.view_reach AS
WITH RECURSIVE direct AS (
    SELECT DISTINCT r.ev_class AS view, d.refobjid AS relation
    FROM pg_catalog.pg_rewrite r
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
        AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> r.ev_class
    WHERE r.ev_type = '1' AND r.ev_class >= 16384),
reach AS (
    SELECT direct.view, direct.relation FROM direct
    UNION SELECT reach.view, direct.relation FROM reach JOIN direct ON direct.view = reach.relation)
SELECT reach.view, reach.relation FROM reach;
COMMENT ON VIEW tenancy.view_reach IS 'relations that views and materialized views read, directly or through other views, for validation';
GRANT SELECT ON tenancy.view_reach TO PUBLIC;

INSERT INTO tenancy.rules (code, topic, level, title, why, reference, query) VALUES
('view-definer', 'ways around', 'error', 'A view shows tenant tables with the rights of an exempt owner',
 'Row security asks for the owner of the view, who is not bound: the view shows all tenants.',
 'https://www.postgresql.org/docs/current/sql-createview.html',
$rule$SELECT v.schema, tenancy.identity('pg_class'::regclass, v.relation) AS object,
    'acts as ' || string_agg(DISTINCT quote_ident(o.rolname), ', ') || ' and reads ' || string_agg(DISTINCT tenancy.qualified_name(t.relation), ', ') AS detail,
    format('ALTER VIEW %s SET (security_invoker = true)', tenancy.qualified_name(v.relation)) AS remediation
FROM tenancy.user_relations v
JOIN tenancy.view_paths x ON x.view = v.relation
JOIN pg_roles o ON o.oid = x.acting
JOIN tenancy.tenant_tables t ON t.relation = x.relation AND (o.rolsuper OR o.rolbypassrls OR (NOT t.forced AND pg_has_role(o.oid, t.owner, 'USAGE')))
WHERE v.kind = 'v' AND EXISTS (SELECT FROM tenancy.relation_grants g WHERE g.relation = v.relation)
GROUP BY v.schema, v.relation$rule$),

('materialized-view', 'ways around', 'error', 'A materialized view copies rows of tenant tables',
 'It cannot have policies: whoever may read it reads the rows that its owner saw.',
 'https://www.postgresql.org/docs/current/rules-materializedviews.html',
$rule$SELECT v.schema, tenancy.identity('pg_class'::regclass, v.relation) AS object, 'readable by ' || g.names AS detail,
    format('REVOKE ALL ON %s FROM %s', tenancy.qualified_name(v.relation), g.names) AS remediation
FROM tenancy.user_relations v
CROSS JOIN LATERAL (SELECT string_agg(DISTINCT tenancy.grantee_name(g.grantee), ', ') AS names FROM tenancy.relation_grants g WHERE g.relation = v.relation) g
WHERE v.kind = 'm' AND g.names IS NOT NULL
  AND EXISTS (SELECT FROM tenancy.view_reach x JOIN tenancy.tenant_tables t ON t.relation = x.relation WHERE x.view = v.relation)$rule$),

('foreign-table', 'ways around', 'error', 'A foreign table has a tenant column',
 'It cannot have policies: whoever may read it reads the rows of all tenants.',
 'https://www.postgresql.org/docs/current/ddl-foreign-data.html',
$rule$SELECT f.schema, tenancy.identity('pg_class'::regclass, f.relation) AS object, 'readable by ' || g.names AS detail,
    format('REVOKE ALL ON %s FROM %s', tenancy.qualified_name(f.relation), g.names) AS remediation
FROM tenancy.user_relations f
CROSS JOIN LATERAL (SELECT string_agg(DISTINCT tenancy.grantee_name(g.grantee), ', ') AS names FROM tenancy.relation_grants g WHERE g.relation = f.relation) g
WHERE f.kind = 'f' AND g.names IS NOT NULL
  AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = f.relation AND a.attnum > 0 AND NOT a.attisdropped
              AND a.attname IN (SELECT n.name FROM tenancy.tenant_column_names n))$rule$),

('child-unprotected', 'ways around', 'error', 'A partition or child of a protected table has no row security',
 'Naming the partition skips the policies of the parent.', 'https://www.postgresql.org/docs/current/ddl-partitioning.html',
$rule$SELECT t.schema, tenancy.identity('pg_class'::regclass, t.relation) AS object,
    'row security is on for ' || tenancy.qualified_name(i.inhparent) || ' and off here' AS detail,
    tenancy.protect_statement(t.relation) AS remediation
FROM tenancy.tenant_tables t JOIN pg_inherits i ON i.inhrelid = t.relation JOIN pg_class p ON p.oid = i.inhparent
WHERE NOT t.row_security AND p.relrowsecurity AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = t.relation)$rule$),

('parent-open', 'ways around', 'error', 'A parent without tenants shows the rows of tenant tables',
 'Reading a parent reads its children past their policies, and this one has no tenant column to ask for.',
 'https://www.postgresql.org/docs/current/ddl-inherit.html',
$rule$WITH RECURSIVE up AS (
    SELECT t.relation AS child, i.inhparent AS parent FROM tenancy.tenant_tables t JOIN pg_inherits i ON i.inhrelid = t.relation
    UNION SELECT up.child, i.inhparent FROM up JOIN pg_inherits i ON i.inhrelid = up.parent)
SELECT p.schema, tenancy.identity('pg_class'::regclass, p.relation) AS object,
    'shows ' || string_agg(DISTINCT tenancy.qualified_name(up.child), ', ') || ' to ' || g.names AS detail,
    format('REVOKE ALL ON %s FROM %s', tenancy.qualified_name(p.relation), g.names) AS remediation
FROM up JOIN tenancy.user_relations p ON p.relation = up.parent
CROSS JOIN LATERAL (
    SELECT string_agg(DISTINCT tenancy.grantee_name(g.grantee), ', ') AS names FROM tenancy.relation_grants g
    WHERE g.relation = p.relation AND g.privilege IN ('SELECT', 'UPDATE', 'DELETE', 'TRUNCATE')) g
WHERE up.parent NOT IN (SELECT t.relation FROM tenancy.tenant_tables t) AND g.names IS NOT NULL
  -- Row security of a parent is for its children too: without a policy nobody sees anything.
  AND (NOT p.row_security OR EXISTS (SELECT FROM pg_policy y WHERE y.polrelid = p.relation AND y.polpermissive))
GROUP BY p.schema, p.relation, g.names$rule$),

('table-rule', 'ways around', 'warn', 'A tenant table, or a view of one, has a rewrite rule',
 'What a rule does happens with the rights of the owner of the table, and is easily overlooked.',
 'https://www.postgresql.org/docs/current/rules-privileges.html',
$rule$SELECT r.schema, tenancy.identity('pg_rewrite'::regclass, w.oid) AS object,
    'acts as ' || quote_ident(pg_get_userbyid(r.owner)) AS detail,
    format('DROP RULE %I ON %s', w.rulename, tenancy.qualified_name(r.relation)) AS remediation
FROM pg_rewrite w JOIN tenancy.user_relations r ON r.relation = w.ev_class
JOIN pg_roles o ON o.oid = r.owner
WHERE w.ev_type <> '1' AND (r.relation IN (SELECT t.relation FROM tenancy.tenant_tables t)
    OR r.relation IN (SELECT x.view FROM tenancy.view_reach x JOIN tenancy.tenant_tables t ON t.relation = x.relation)
    -- Or one of any other table that reads or writes a tenant table past its policies.
    OR ((o.rolsuper OR o.rolbypassrls)
        AND w.oid IN (SELECT d.objid FROM pg_depend d JOIN tenancy.tenant_tables t ON t.relation = d.refobjid
                      WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass)))$rule$),

('publication', 'ways around', 'warn', 'A publication sends rows of all tenants',
 'Row security does not bind logical replication: the subscriber gets all rows.',
 'https://www.postgresql.org/docs/current/logical-replication-security.html',
$rule$SELECT t.schema, tenancy.identity('pg_publication'::regclass, p.oid) || ' with ' || tenancy.qualified_name(t.relation) AS object,
    CASE WHEN r.prqual IS NULL THEN 'sends every row' ELSE 'its row filter lets rows through of tenants that it does not name' END AS detail,
    format('ALTER PUBLICATION %I DROP TABLE %s', p.pubname, tenancy.qualified_name(t.relation)) AS remediation
FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid JOIN tenancy.tenant_tables t ON t.relation = r.prrelid
WHERE r.prqual IS NULL
   OR (t.tenant_column IS NOT NULL AND tenancy.expression_keeps_to_named(tenancy.expression_text(r.prqual, r.prrelid), t.tenant_column) IS NOT TRUE)
UNION ALL
SELECT n.nspname, tenancy.identity('pg_publication'::regclass, p.oid) || ' with schema ' || quote_ident(n.nspname),
    'sends every row, of tables made later too', format('ALTER PUBLICATION %I DROP TABLES IN SCHEMA %I', p.pubname, n.nspname)
FROM pg_publication p JOIN pg_publication_namespace s ON s.pnpubid = p.oid JOIN pg_namespace n ON n.oid = s.pnnspid
WHERE n.nspname IN (SELECT t.schema FROM tenancy.tenant_tables t)
UNION ALL
SELECT NULL, tenancy.identity('pg_publication'::regclass, p.oid) || ' for all tables', 'sends every row, of tables made later too',
    format('DROP PUBLICATION %I', p.pubname)
FROM pg_publication p WHERE p.puballtables AND EXISTS (SELECT FROM tenancy.tenant_tables)$rule$),

('subscription', 'ways around', 'info', 'A subscription writes into a tenant table',
 'Whoever controls the publisher writes rows of any tenant; and under row security that binds its owner it stops.',
 'https://www.postgresql.org/docs/current/logical-replication-security.html',
$rule$SELECT t.schema, tenancy.identity('pg_subscription'::regclass, s.oid) || ' into ' || tenancy.qualified_name(t.relation) AS object,
    'applies as ' || quote_ident(pg_get_userbyid(s.subowner)) AS detail, NULL AS remediation
FROM pg_subscription s JOIN pg_subscription_rel r ON r.srsubid = s.oid JOIN tenancy.tenant_tables t ON t.relation = r.srrelid$rule$),

('large-object', 'ways around', 'warn', 'A large object is granted to others than its owner',
 'Large objects know no tenants and no row security: whoever is granted one reads it, whatever its tenant.',
 'https://www.postgresql.org/docs/current/lo-implementation.html',
$rule$SELECT NULL AS schema, 'large object ' || l.oid AS object, 'granted to ' || g.names AS detail,
    format('REVOKE ALL ON LARGE OBJECT %s FROM %s', l.oid, g.names) AS remediation, NULL AS level
FROM pg_largeobject_metadata l
CROSS JOIN LATERAL (SELECT string_agg(DISTINCT tenancy.grantee_name(g.grantee), ', ') AS names FROM aclexplode(l.lomacl) AS g WHERE g.grantee <> l.lomowner) g
WHERE g.names IS NOT NULL
UNION ALL
SELECT NULL, 'large objects of ' || tenancy.identity('pg_authid'::regclass, l.lomowner), count(*) || ', which every tenant of the role reads and changes', NULL, 'info'
FROM pg_largeobject_metadata l WHERE l.lomowner IN (SELECT a.role FROM tenancy.application_roles a) GROUP BY l.lomowner$rule$),

('dblink', 'ways around', 'warn', 'An application may connect from within the server',
 'A loop-back connection can be one of another role, that row security does not bind.',
 'https://www.postgresql.org/docs/current/dblink.html',
$rule$SELECT NULL AS schema, tenancy.identity('pg_proc'::regclass, f.oid) AS object,
    'executable by ' || string_agg(tenancy.grantee_name(g.grantee), ', ') AS detail,
    format('REVOKE EXECUTE ON FUNCTION %s FROM %s', f.oid::regprocedure, string_agg(tenancy.grantee_name(g.grantee), ', ')) AS remediation
FROM pg_proc f CROSS JOIN LATERAL aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) AS g
WHERE f.proname ~ '^dblink(_connect(_u)?|_exec|_open|_send_query)?$'
  AND g.grantee <> f.proowner AND g.grantee IN (SELECT x.grantee FROM tenancy.application_grantees x)
GROUP BY f.oid$rule$),

('foreign-server', 'ways around', 'warn', 'A foreign server is open to applications',
 'With USAGE, or a user mapping, a role reaches another server as a role that may see all tenants. A mapping of an application''s own is information, unless it is to one that row security does not bind here.',
 'https://www.postgresql.org/docs/current/sql-createusermapping.html',
$rule$SELECT NULL AS schema, 'server ' || quote_ident(s.srvname) || ' for ' || tenancy.grantee_name(g.grantee) AS object,
    'USAGE is granted' AS detail, format('REVOKE USAGE ON FOREIGN SERVER %I FROM %s', s.srvname, tenancy.grantee_name(g.grantee)) AS remediation, 'warn' AS level
FROM pg_foreign_server s CROSS JOIN LATERAL aclexplode(s.srvacl) AS g
WHERE g.grantee <> s.srvowner AND g.grantee IN (SELECT x.grantee FROM tenancy.application_grantees x)
UNION ALL
SELECT NULL, 'foreign data wrapper ' || quote_ident(w.fdwname) || ' for ' || tenancy.grantee_name(g.grantee),
    'may make servers of its own', format('REVOKE USAGE ON FOREIGN DATA WRAPPER %I FROM %s', w.fdwname, tenancy.grantee_name(g.grantee)), 'warn'
FROM pg_foreign_data_wrapper w CROSS JOIN LATERAL aclexplode(w.fdwacl) AS g
WHERE g.grantee <> w.fdwowner AND g.grantee IN (SELECT x.grantee FROM tenancy.application_grantees x)
UNION ALL
SELECT NULL, 'user mapping for ' || tenancy.grantee_name(m.umuser) || ' on server ' || quote_ident(m.srvname),
    CASE WHEN m.umuser = 0 THEN 'everybody connects as one remote user' ELSE 'an application connects by it' END,
    format('DROP USER MAPPING FOR %s SERVER %I', tenancy.grantee_name(m.umuser), m.srvname),
    CASE WHEN m.umuser = 0 OR EXISTS (SELECT FROM tenancy.role_powers w WHERE 'user=' || w.name = ANY (m.umoptions)) THEN 'warn' ELSE 'info' END
FROM pg_user_mappings m
WHERE m.umuser IN (SELECT x.grantee FROM tenancy.application_grantees x)
  -- An application's own is of use where there is a table.
  AND (m.umuser = 0 OR m.srvid IN (
       SELECT f.ftserver FROM pg_foreign_table f JOIN tenancy.relation_grants g ON g.relation = f.ftrelid
       WHERE g.grantee IN (SELECT x.grantee FROM tenancy.application_grantees x)))$rule$),

('statements-readable', 'ways around', 'info', 'An application may read pg_stat_statements',
 'All tenants of an application share a role, and with it the texts of one another''s statements.',
 'https://www.postgresql.org/docs/current/pgstatstatements.html',
-- The view calls the function with the rights of its reader, so that both are needed to monitor.
$rule$SELECT NULL AS schema, tenancy.identity('pg_class'::regclass, c.oid) AS object,
    'readable by ' || string_agg(tenancy.grantee_name(g.grantee), ', ') AS detail,
    format('REVOKE SELECT ON %s FROM %s; GRANT SELECT ON %1$s TO pg_read_all_stats', tenancy.qualified_name(c.oid), string_agg(tenancy.grantee_name(g.grantee), ', ')) AS remediation
FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) AS g
WHERE c.relname = 'pg_stat_statements' AND c.relkind = 'v' AND g.privilege_type = 'SELECT'
  AND g.grantee <> c.relowner AND g.grantee IN (SELECT x.grantee FROM tenancy.application_grantees x)
GROUP BY c.oid
UNION ALL
SELECT NULL, tenancy.identity('pg_proc'::regclass, f.oid), 'executable by ' || string_agg(tenancy.grantee_name(g.grantee), ', '),
    format('REVOKE EXECUTE ON FUNCTION %s FROM %s; GRANT EXECUTE ON FUNCTION %1$s TO pg_read_all_stats', f.oid::regprocedure, string_agg(tenancy.grantee_name(g.grantee), ', '))
FROM pg_proc f CROSS JOIN LATERAL aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) AS g
WHERE f.proname = 'pg_stat_statements' AND f.oid >= 16384
  AND g.grantee <> f.proowner AND g.grantee IN (SELECT x.grantee FROM tenancy.application_grantees x)
GROUP BY f.oid$rule$);
