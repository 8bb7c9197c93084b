-- Rules about tenant columns, keys and sequences.

CREATE VIEW tenancy.tenant_keys AS
-- Step by step: the planner knows nothing of how many tables there are, and would pair all with all.
WITH tables AS MATERIALIZED (SELECT t.* FROM tenancy.tenant_tables t WHERE t.tenant_number IS NOT NULL OR t.template = 'child'),
-- By which a child belongs to its tenant.
followed AS MATERIALIZED (
    SELECT t.relation, coalesce(t.options ->> 'foreign_key', p.made ->> 'link') AS name
    FROM tables t JOIN tenancy.registrations p ON p.relation = t.relation WHERE t.template = 'child'),
keys AS MATERIALIZED (
    SELECT con.oid AS key, con.conname AS name, con.conrelid AS child, con.confrelid AS parent, con.conkey, con.confkey, con.conpfeqop, con.confdeltype AS on_delete,
           con.conparentid <> 0 AS inherited, con.convalidated AS checked
    FROM pg_catalog.pg_constraint con WHERE con.contype = 'f'),
with_child AS MATERIALIZED (
    SELECT k.*, c.schema, c.mode AS child_mode, c.is_partition, c.tenant_number AS child_number, c.tenant_column AS child_column
    FROM keys k JOIN tables c ON c.relation = k.child LEFT JOIN followed f ON f.relation = k.child
    WHERE c.tenant_number IS NOT NULL OR k.name <> f.name),
with_parent AS MATERIALIZED (
    SELECT k.*, p.mode AS parent_mode, p.template AS parent_template, p.bound_as AS parent_bound, p.tenant_number AS parent_number, p.tenant_column AS parent_column
    FROM with_child k JOIN tables p ON p.relation = k.parent)
SELECT k.*, EXISTS (SELECT FROM ROWS FROM (pg_catalog.unnest(k.conkey), pg_catalog.unnest(k.confkey)) AS c(own, parents)
                    WHERE c.own = k.child_number AND c.parents = k.parent_number) AS carries
FROM with_parent k;
COMMENT ON VIEW tenancy.tenant_keys IS 'foreign keys between tenant tables, but those by which a child belongs to its tenant, for validation; inherited: copy of a partition; carries: has the tenant of both; checked: for all rows';

CREATE VIEW tenancy.tenant_links AS
WITH keys AS MATERIALIZED (SELECT k.* FROM tenancy.tenant_keys k),
-- What else says the same and the tenant, or the key itself.
held AS MATERIALIZED (
    SELECT k.key, pg_catalog.bool_or(o.checked) AS held, pg_catalog.min(o.key) AS unchecked
    FROM keys k JOIN keys o ON o.child = k.child AND o.parent = k.parent
    WHERE o.carries AND o.conkey @> k.conkey AND o.confkey @> k.confkey
    GROUP BY k.key)
SELECT k.key, k.name, k.conkey, k.confkey, k.on_delete, k.schema, k.child, k.child_mode, k.parent, k.parent_mode, k.carries, h.unchecked,
       NOT k.carries AND (k.child_number IS NULL OR k.parent_number IS NULL OR coalesce(k.parent_bound IN ('membership', 'tenants'), false)
                          OR coalesce(k.parent_template IN ('shared_read', 'member_read', 'own_tenant'), false)) AS shared
FROM keys k LEFT JOIN held h ON h.key = k.key
-- By its tenant alone, a row points at no other's.
WHERE NOT k.inherited AND h.held IS NOT TRUE AND NOT (k.carries AND pg_catalog.cardinality(k.conkey) = 1);
COMMENT ON VIEW tenancy.tenant_links IS 'foreign keys between tenant tables that do not keep rows within their tenant, for validation; unchecked: a key that would, were it checked for all rows; shared: none can';
GRANT SELECT ON tenancy.tenant_keys, tenancy.tenant_links TO PUBLIC;

CREATE FUNCTION tenancy.link_statement(child oid, parent oid, parent_mode text) RETURNS text
LANGUAGE sql STABLE PARALLEL UNSAFE
RETURN CASE WHEN parent_mode = 'enforce' THEN '' ELSE tenancy.protect_statement(parent) || '; ' END
    || tenancy.protect_statement(child, '{"foreign_keys": "replace"}');
COMMENT ON FUNCTION tenancy.link_statement(oid, oid, text) IS 'the statements that make the keys of a table carry the tenant';

CREATE FUNCTION tenancy.check_statement(key oid) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET enable_nestloop = on
RETURN (SELECT pg_catalog.format(CASE WHEN (pg_catalog.to_jsonb(con) ->> 'conenforced')::boolean IS FALSE -- Only some versions have it.
                                      THEN 'ALTER TABLE %s ALTER CONSTRAINT %I ENFORCED' ELSE 'ALTER TABLE %s VALIDATE CONSTRAINT %I' END,
                                 tenancy.qualified_name(con.conrelid), con.conname)
        FROM pg_catalog.pg_constraint con WHERE con.oid = key);
COMMENT ON FUNCTION tenancy.check_statement(oid) IS 'the statement that checks all rows for a key; null for none';

CREATE FUNCTION tenancy.holds_one_tenant(relation oid, tenant_number smallint) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE SET enable_nestloop = on
BEGIN ATOMIC
    WITH RECURSIVE up AS (
        SELECT holds_one_tenant.relation AS relation
        UNION ALL SELECT i.inhparent FROM up JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.relation)
    SELECT EXISTS (
        SELECT FROM up JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.relation
        JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = i.inhparent AND p.partstrat = 'l'
        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.inhparent AND a.attnum = p.partattrs[0]
        JOIN pg_catalog.pg_attribute t ON t.attrelid = holds_one_tenant.relation AND t.attnum = tenant_number AND t.attname = a.attname
        JOIN pg_catalog.pg_class c ON c.oid = up.relation
        WHERE tenancy.expression_text(c.relpartbound, c.oid) ~ '^FOR VALUES IN \((''[^'']*''|-?\d+)\)$');
END;
COMMENT ON FUNCTION tenancy.holds_one_tenant(oid, smallint) IS 'whether a partition is for the rows of one tenant only, for validation';

INSERT INTO tenancy.rules (code, topic, level, title, why, reference, query) VALUES
('key-without-tenant', 'keys', 'warn', 'A foreign key between tenant tables does not keep rows within their tenant',
 'Postgres checks keys past row security, and those that are NOT VALID or NOT ENFORCED not for all rows: a row can point at another tenant''s.',
 'https://www.postgresql.org/docs/current/ddl-rowsecurity.html',
$rule$SELECT l.schema, tenancy.identity('pg_constraint'::regclass, l.key) AS object,
    'a row can point at a row of another tenant in ' || tenancy.qualified_name(l.parent)
        || CASE WHEN l.carries THEN ': the key carries the tenant, and is not checked for all rows' ELSE '' END AS detail,
    coalesce(tenancy.check_statement(l.unchecked), tenancy.link_statement(l.child, l.parent, l.parent_mode)) AS remediation
FROM tenancy.tenant_links l
WHERE NOT l.shared AND (l.carries OR l.on_delete IN ('a', 'r'))$rule$),

('key-cascades', 'keys', 'error', 'A foreign key without the tenant deletes or changes rows across tenants',
 'A tenant that deletes its row deletes, or unlinks, another tenant''s that points at it: cascades go past row security.',
 'https://www.postgresql.org/docs/current/ddl-rowsecurity.html',
$rule$SELECT l.schema, tenancy.identity('pg_constraint'::regclass, l.key) AS object,
    'ON DELETE ' || CASE l.on_delete WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' ELSE 'SET DEFAULT' END
        || ' reaches rows of other tenants' AS detail,
    coalesce(tenancy.check_statement(l.unchecked), tenancy.link_statement(l.child, l.parent, l.parent_mode)) AS remediation
FROM tenancy.tenant_links l
WHERE NOT l.shared AND NOT l.carries AND l.on_delete NOT IN ('a', 'r')$rule$),

('key-nulls-tenant', 'keys', 'warn', 'A foreign key empties the tenant column',
 'ON DELETE SET NULL, or SET DEFAULT, of a key that carries the tenant: rows become nobody''s, or deleting the other row fails.',
 'https://www.postgresql.org/docs/current/ddl-constraints.html',
$rule$SELECT t.schema, tenancy.identity('pg_constraint'::regclass, con.oid) AS object,
    'ON DELETE ' || x.action || ' sets ' || quote_ident(t.tenant_column) AS detail,
    format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %2$I %s', tenancy.qualified_name(t.relation), con.conname,
           regexp_replace(pg_get_constraintdef(con.oid), ' ON DELETE SET (NULL|DEFAULT)( \([^)]*\))?',
               coalesce(' ON DELETE ' || x.action || ' (' || replace(x.others, '\', '\\') || ')', ' ON DELETE RESTRICT'))) AS remediation
FROM tenancy.tenant_tables t
JOIN pg_constraint con ON con.conrelid = t.relation AND con.contype = 'f' AND con.conparentid = 0 AND con.confdeltype IN ('n', 'd')
    AND t.tenant_number = ANY (coalesce(con.confdelsetcols, con.conkey))
CROSS JOIN LATERAL (
    SELECT CASE con.confdeltype WHEN 'n' THEN 'SET NULL' ELSE 'SET DEFAULT' END AS action,
           (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
            WHERE a.attrelid = t.relation AND a.attnum = ANY (coalesce(con.confdelsetcols, con.conkey)) AND a.attnum <> t.tenant_number) AS others) x
WHERE t.bound_as IS NULL$rule$),

('key-to-shared', 'keys', 'info', 'A foreign key that cannot carry the tenant',
 'It points at a table that tenants share, or one of both tables has no tenant column: only a policy can keep a row from pointing at what its tenant does not see.',
 'https://www.postgresql.org/docs/current/ddl-rowsecurity.html',
$rule$SELECT l.schema, tenancy.identity('pg_constraint'::regclass, l.key) AS object,
    'a restrictive policy with EXISTS over ' || tenancy.qualified_name(l.parent) || ' keeps the link in sight' AS detail, NULL AS remediation
FROM tenancy.tenant_links l
WHERE l.shared$rule$),

('tenant-column-missing', 'keys', 'warn', 'A table that points at tenant tables has no tenant column',
 'Its rows belong to tenants, and nothing says so to a policy.', 'https://www.postgresql.org/docs/current/ddl-rowsecurity.html',
$rule$SELECT r.schema, tenancy.identity('pg_class'::regclass, r.relation) AS object,
    'points at ' || string_agg(DISTINCT tenancy.qualified_name(p.relation), ', ') AS detail,
    coalesce(string_agg(DISTINCT tenancy.protect_statement(p.relation) || '; ', '') FILTER (WHERE p.mode IS DISTINCT FROM 'enforce'), '')
    || format('SELECT * FROM tenancy.protect_table(%L, template => ''child'', mode => ''enforce'')', tenancy.qualified_name(r.relation)) AS remediation
FROM tenancy.user_relations r
JOIN pg_constraint con ON con.conrelid = r.relation AND con.contype = 'f'
JOIN tenancy.tenant_tables p ON p.relation = con.confrelid AND coalesce(p.template, '') <> 'global_read_admin_write'
WHERE r.kind IN ('r', 'p') AND NOT r.is_partition
  -- A row that points at a tenant, if at any, may be a user's of several.
  AND (p.bound_as IS DISTINCT FROM 'tenants' OR NOT r.row_security)
  AND r.relation NOT IN (SELECT t.relation FROM tenancy.tenant_tables t)
  AND r.relation NOT IN (SELECT b.relation FROM tenancy.bound_relations b WHERE b.relation IS NOT NULL)
  AND EXISTS (SELECT FROM tenancy.relation_grants g WHERE g.relation = r.relation)
GROUP BY r.schema, r.relation$rule$),

('tenant-column-nullable', 'keys', 'warn', 'The tenant column may be null',
 'A row without a tenant is nobody''s: lost, or shown to all.', 'https://www.postgresql.org/docs/current/ddl-constraints.html',
$rule$SELECT t.schema, tenancy.identity('pg_class'::regclass, t.relation, t.tenant_number) AS object, 'not NOT NULL' AS detail,
    format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', tenancy.qualified_name(t.relation), t.tenant_column) AS remediation
FROM tenancy.tenant_tables t
WHERE NOT t.tenant_not_null AND t.bound_as IS NULL AND NOT t.is_partition$rule$),

('tenant-column-type', 'keys', 'error', 'The tenant column has another type than tenants have',
 'It cannot be compared with the context, so the table cannot be isolated.', 'https://www.postgresql.org/docs/current/datatype.html',
$rule$SELECT t.schema, tenancy.identity('pg_class'::regclass, t.relation, t.tenant_number) AS object,
    format('type %s, and tenants are of type %s', format_type(t.tenant_type, NULL), b.tenant_type) AS detail,
    format('ALTER TABLE %s ALTER COLUMN %I TYPE %s USING %2$I::text::%3$s', tenancy.qualified_name(t.relation), t.tenant_column, b.tenant_type) AS remediation
FROM tenancy.tenant_tables t CROSS JOIN tenancy.binding b
WHERE t.tenant_column IS NOT NULL AND NOT t.is_partition AND NOT tenancy.type_holds_tenants(t.tenant_type, b.tenant_type)$rule$),

('tenant-index-missing', 'keys', 'warn', 'No index leads with the tenant column',
 'Every query of a tenant reads the rows of all.', 'https://www.postgresql.org/docs/current/indexes-multicolumn.html',
$rule$SELECT t.schema, tenancy.identity('pg_class'::regclass, t.relation) AS object,
    'no valid index begins with ' || quote_ident(t.tenant_column) AS detail,
    format('CREATE INDEX %sON %s (%I)', CASE WHEN t.kind = 'r' THEN 'CONCURRENTLY ' ELSE '' END, tenancy.qualified_name(t.relation), t.tenant_column) AS remediation
FROM tenancy.tenant_tables t
WHERE t.tenant_number IS NOT NULL AND t.bound_as IS NULL AND NOT t.is_partition
  AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = t.relation AND i.indisvalid AND i.indpred IS NULL AND i.indkey[0] = t.tenant_number)$rule$),

('tenant-default-constant', 'keys', 'error', 'The tenant column defaults to one tenant',
 'A row whose tenant was forgotten goes to that tenant.', 'https://www.postgresql.org/docs/current/ddl-default.html',
$rule$SELECT t.schema, tenancy.identity('pg_class'::regclass, t.relation, t.tenant_number) AS object,
    'the default is a constant' AS detail,
    format('ALTER TABLE %s ALTER COLUMN %I %s', tenancy.qualified_name(t.relation), t.tenant_column,
           CASE WHEN y.typdefaultbin IS NULL THEN 'DROP DEFAULT' ELSE 'SET DEFAULT NULL' END) AS remediation
FROM tenancy.tenant_tables t JOIN pg_type y ON y.oid = t.tenant_type
LEFT JOIN pg_attrdef d ON d.adrelid = t.relation AND d.adnum = t.tenant_number
-- A domain's counts where the column has none.
WHERE CASE WHEN d.oid IS NULL THEN tenancy.expression_text(y.typdefaultbin, 0) ELSE tenancy.expression_text(d.adbin, d.adrelid) END ~ '^\(*(''|-?\d)'$rule$),

('tenant-column-updatable', 'keys', 'warn', 'Rows can be moved to another tenant',
 'A tenant gives rows away, or takes them with it.', 'https://www.postgresql.org/docs/current/sql-createpolicy.html',
$rule$SELECT t.schema, tenancy.identity('pg_class'::regclass, t.relation, t.tenant_number) AS object,
    'neither a restrictive policy nor a trigger holds it, and UPDATE is granted' AS detail, tenancy.protect_statement(t.relation) AS remediation
FROM tenancy.tenant_tables t
WHERE t.row_security AND t.tenant_number IS NOT NULL
  AND t.relation NOT IN (SELECT f.relation FROM tenancy.tenant_policies f WHERE 'w' = ANY (f.floor_for))
  -- Nor where written rows are of the one tenant that read ones are of.
  AND t.relation NOT IN (SELECT p.relation FROM tenancy.tenant_policies p
                         CROSS JOIN LATERAL (VALUES (tenancy.expression_one_tenant(p.using_text, p.tenant_column)),
                                                    (tenancy.expression_one_tenant(coalesce(p.check_text, p.using_text), p.tenant_column))) AS v(tenant)
                         WHERE p.permissive AND 'w' = ANY (p.commands)
                         GROUP BY p.relation HAVING count(v.tenant) = count(*) AND count(DISTINCT v.tenant) = 1)
  AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = t.relation AND g.tgenabled IN ('O', 'A')
                  AND g.tgfoid = 'tenancy.tenant_column_immutable()'::regprocedure)
  AND EXISTS (SELECT FROM tenancy.tenant_table_grants g WHERE g.relation = t.relation AND g.privilege = 'UPDATE'
              AND (g.whole OR EXISTS (SELECT FROM pg_attribute a CROSS JOIN LATERAL aclexplode(a.attacl) AS c
                                      WHERE a.attrelid = t.relation AND a.attnum = t.tenant_number AND c.privilege_type = 'UPDATE')))$rule$),

('unique-without-tenant', 'keys', 'warn', 'A unique key does not carry the tenant',
 'The error of a duplicate tells that another tenant has the value, and keeps two tenants from using the same.',
 'https://www.postgresql.org/docs/current/ddl-rowsecurity.html',
$rule$SELECT t.schema, tenancy.identity('pg_class'::regclass, i.indexrelid) AS object,
    'unique over the rows of all tenants of ' || tenancy.qualified_name(t.relation) AS detail,
    CASE WHEN i.indisexclusion AND NOT x.comparable THEN NULL
         WHEN i.indisexclusion
         THEN x.extension || format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %2$I %s', tenancy.qualified_name(t.relation), con.conname,
                     regexp_replace(pg_get_constraintdef(con.oid), '\(', format('(%I WITH =, ', t.tenant_column)))
         WHEN con.oid IS NOT NULL
         THEN format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %2$I %s', tenancy.qualified_name(t.relation), con.conname,
                     regexp_replace(pg_get_constraintdef(con.oid), '\(', format('(%I, ', t.tenant_column)))
         ELSE format('DROP INDEX %s; %s', tenancy.qualified_name(i.indexrelid),
                     regexp_replace(pg_get_indexdef(i.indexrelid), '(USING \w+ )\(', format('\1(%s, ', replace(quote_ident(t.tenant_column), '\', '\\')))) END AS remediation,
    CASE WHEN i.indisexclusion AND NOT x.comparable THEN 'info' END AS level
FROM tenancy.tenant_tables t JOIN pg_index i ON i.indrelid = t.relation
JOIN pg_class ic ON ic.oid = i.indexrelid
LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid AND con.contype IN ('u', 'x') AND con.conrelid = t.relation
-- Whether the method can compare the tenant for equality, by itself or with btree_gist.
LEFT JOIN LATERAL (
    SELECT o.own OR e.extension <> '' AS comparable, CASE WHEN o.own THEN '' ELSE e.extension END AS extension
    FROM (SELECT EXISTS (SELECT FROM pg_opclass c JOIN pg_amop m ON m.amopfamily = c.opcfamily AND m.amoplefttype = c.opcintype
                         JOIN pg_operator p ON p.oid = m.amopopr AND p.oprname = '='
                         WHERE c.opcmethod = ic.relam AND c.opcdefault
                           AND c.opcintype = CASE t.tenant_type WHEN 'varchar'::regtype THEN 'text'::regtype ELSE t.tenant_type END) AS own) o
    CROSS JOIN (SELECT coalesce(min('CREATE EXTENSION IF NOT EXISTS btree_gist; '), '') AS extension
                FROM pg_available_extensions a
                WHERE i.indisexclusion AND ic.relam = (SELECT m.oid FROM pg_am m WHERE m.amname = 'gist')
                  AND a.name = 'btree_gist' AND a.installed_version IS NULL) e
    WHERE i.indisexclusion OFFSET 0) x ON true
WHERE (i.indisunique OR i.indisexclusion) AND NOT i.indisprimary AND t.bound_as IS NULL
  -- Beyond indnkeyatts are columns that are only included; they count from 0.
  AND t.tenant_number IS NOT NULL AND t.tenant_number <> ALL ((i.indkey::int2[])[0:i.indnkeyatts - 1])
  AND coalesce(t.template, 'tenant') NOT IN ('own_tenant', 'self')
  -- What a partition has of its parent is told there.
  AND NOT ic.relispartition AND NOT (t.is_partition AND tenancy.holds_one_tenant(t.relation, t.tenant_number))
  -- A key of random uuids tells nothing.
  AND EXISTS (SELECT FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) AS k(number) LEFT JOIN pg_attribute a ON a.attrelid = t.relation AND a.attnum = k.number
              WHERE tenancy.type_holds_tenants(a.atttypid, 'uuid') IS NOT TRUE)$rule$),

('primary-key-without-tenant', 'keys', 'info', 'A primary key that can be guessed does not carry the tenant',
 'Inserting a chosen key tells whether another tenant has it.', 'https://www.postgresql.org/docs/current/ddl-rowsecurity.html',
$rule$SELECT t.schema, tenancy.identity('pg_class'::regclass, i.indexrelid) AS object,
    'unique over the rows of all tenants of ' || tenancy.qualified_name(t.relation) AS detail, NULL AS remediation
FROM tenancy.tenant_tables t JOIN pg_index i ON i.indrelid = t.relation JOIN pg_class ic ON ic.oid = i.indexrelid
WHERE i.indisprimary AND t.bound_as IS NULL AND t.tenant_number IS NOT NULL
  AND t.tenant_number <> ALL ((i.indkey::int2[])[0:i.indnkeyatts - 1]) AND coalesce(t.template, 'tenant') NOT IN ('own_tenant', 'self')
  AND NOT ic.relispartition AND NOT (t.is_partition AND tenancy.holds_one_tenant(t.relation, t.tenant_number))
  AND EXISTS (SELECT FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) AS k(number) JOIN pg_attribute a ON a.attrelid = t.relation AND a.attnum = k.number
              WHERE NOT tenancy.type_holds_tenants(a.atttypid, 'uuid'))$rule$),

('sequence-readable', 'keys', 'info', 'The application may read the sequence of a tenant table',
 'Its value counts the rows of all tenants. USAGE is enough to insert.', 'https://www.postgresql.org/docs/current/sql-grant.html',
$rule$SELECT t.schema, tenancy.identity('pg_class'::regclass, s.oid) || ' for ' || tenancy.grantee_name(g.grantee) AS object,
    'counts the rows of ' || tenancy.qualified_name(t.relation) AS detail,
    format('REVOKE SELECT ON SEQUENCE %s FROM %s', tenancy.qualified_name(s.oid), tenancy.grantee_name(g.grantee)) AS remediation
FROM pg_class s JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
JOIN tenancy.tenant_tables t ON t.relation = d.refobjid
CROSS JOIN LATERAL aclexplode(s.relacl) AS g
WHERE s.relkind = 'S' AND g.privilege_type = 'SELECT' AND g.grantee <> s.relowner$rule$);
