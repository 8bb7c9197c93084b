-- Rules about rows, and tenancy.validate_data(), which reads them. Their queries return, beside schema,
-- object, detail and remediation, the relation whose rows are counted, the condition of bad ones (as r),
-- and the other relations that it reads.

CREATE FUNCTION tenancy.same_value(one text, one_type oid, other text, other_type oid) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- Of the same built-in type as they are, so that they can be hashed; else as text.
RETURN CASE WHEN one_type = other_type AND one_type < 16384 THEN one || ' = ' || other
            ELSE one || '::pg_catalog.text = ' || other || '::pg_catalog.text' END;
COMMENT ON FUNCTION tenancy.same_value(text, oid, text, oid) IS 'the condition that two columns are equal, for data rules';

CREATE FUNCTION tenancy.only_rows(relation oid) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (SELECT CASE c.relkind WHEN 'r' THEN 'ONLY ' ELSE '' END || tenancy.qualified_name(c.oid) FROM pg_catalog.pg_class c WHERE c.oid = relation);
COMMENT ON FUNCTION tenancy.only_rows(oid) IS 'a table in FROM, without what inherits from it: that is looked at by itself';

CREATE FUNCTION tenancy.past_immutability(relation oid, statement text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (SELECT coalesce(min(pg_catalog.format('ALTER TABLE %s DISABLE TRIGGER %I; %s; ALTER TABLE %1$s ENABLE %4$sTRIGGER %2$I',
                   tenancy.qualified_name(relation), g.tgname, statement, CASE g.tgenabled WHEN 'A' THEN 'ALWAYS ' ELSE '' END)), statement)
        FROM pg_catalog.pg_trigger g
        WHERE g.tgrelid = relation AND g.tgenabled IN ('O', 'A') AND g.tgparentid = 0 AND statement IS NOT NULL
          AND g.tgfoid = 'tenancy.tenant_column_immutable()'::pg_catalog.regprocedure);
COMMENT ON FUNCTION tenancy.past_immutability(oid, text) IS 'a statement that writes the tenant column, with the trigger that refuses it off';

CREATE VIEW tenancy.bound_columns AS
SELECT x.bound_as, c.oid AS relation, n.nspname AS schema, a.attname AS name, a.attnum AS number, a.atttypid AS type
FROM tenancy.binding b
CROSS JOIN LATERAL (VALUES
    ('membership user', b.membership, b.membership_user), ('membership tenant', b.membership, b.membership_tenant),
    ('role user', b.role_table, b.role_user), ('tenant', b.tenants, b.tenants_id)) AS x(bound_as, relation, name)
JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(x.relation)
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = x.name AND NOT a.attisdropped;
COMMENT ON VIEW tenancy.bound_columns IS 'columns of the binding, for data rules';
GRANT SELECT ON tenancy.bound_columns TO PUBLIC;

INSERT INTO tenancy.rules (code, topic, level, title, why, reference, query) VALUES
('data-link-crosses', 'data', 'error', 'Rows point at rows of other tenants',
 'What a tenant reads through the link, and what it deletes by cascade, is another''s.', 'https://www.postgresql.org/docs/current/ddl-rowsecurity.html',
$rule$SELECT x.schema, tenancy.identity('pg_constraint'::regclass, x.key) AS object, 'pointing at rows of other tenants in ' || tenancy.qualified_name(x.parent) AS detail,
    x.child AS relation, x.condition, ARRAY[x.parent] AS others,
    CASE WHEN x.optional IS NOT NULL THEN format('UPDATE %s AS r SET %I = NULL WHERE %s', tenancy.only_rows(x.child), x.optional, x.condition) END AS remediation
FROM (
    SELECT l.key, l.schema, l.child, l.parent, k.optional,
        format('EXISTS (SELECT FROM %s AS p WHERE %s AND p.%I::text <> r.%I::text%s)', tenancy.only_rows(l.parent), k.linked, l.parent_column, l.child_column,
               CASE WHEN l.parent_template = 'shared_read' THEN format(' AND p.%I::text IS DISTINCT FROM %L', l.parent_column, b.platform_tenant) ELSE '' END) AS condition
    FROM tenancy.tenant_keys l
    LEFT JOIN tenancy.binding b ON true
    CROSS JOIN LATERAL (
        SELECT string_agg(format('p.%I OPERATOR(%I.%s) r.%I', pa.attname, (SELECT n.nspname FROM pg_namespace n WHERE n.oid = o.oprnamespace), o.oprname, ca.attname),
                          ' AND ' ORDER BY k.place) AS linked,
               min(ca.attname) FILTER (WHERE NOT ca.attnotnull AND ca.attnum <> l.child_number) AS optional
        FROM ROWS FROM (unnest(l.conkey), unnest(l.confkey), unnest(l.conpfeqop)) WITH ORDINALITY AS k(own, parents, operator, place)
        JOIN pg_attribute ca ON ca.attrelid = l.child AND ca.attnum = k.own
        JOIN pg_attribute pa ON pa.attrelid = l.parent AND pa.attnum = k.parents
        JOIN pg_operator o ON o.oid = k.operator
        -- Of a key that carries the tenant, what else links.
        WHERE NOT (k.own = l.child_number AND k.parents = l.parent_number)) k
    WHERE NOT l.is_partition AND NOT l.inherited AND NOT (l.carries AND l.checked) AND l.child_number IS NOT NULL AND l.parent_number IS NOT NULL
      AND k.linked IS NOT NULL AND coalesce(l.parent_template, '') NOT IN ('member_read', 'own_tenant') AND l.parent_bound IS DISTINCT FROM 'tenants') x$rule$),

('data-tenant-unknown', 'data', 'warn', 'Rows belong to tenants that do not exist',
 'They are nobody''s: left behind by a tenant that is gone, or waiting for one that gets the same id.', 'https://www.postgresql.org/docs/current/ddl-constraints.html',
$rule$SELECT t.schema, tenancy.identity('pg_class'::regclass, t.relation, t.tenant_number) AS object,
    'of tenants that ' || tenancy.qualified_name(x.relation) || ' does not have' AS detail, t.relation,
    format('r.%I IS NOT NULL AND NOT EXISTS (SELECT FROM %s AS x WHERE %s)%s', t.tenant_column, tenancy.only_rows(x.relation),
           tenancy.same_value(format('x.%I', x.name), x.type, format('r.%I', t.tenant_column), t.tenant_type),
           CASE WHEN b.platform_tenant IS NULL THEN '' ELSE format(' AND r.%I::text <> %L', t.tenant_column, b.platform_tenant) END) AS condition,
    ARRAY[x.relation] AS others, NULL AS remediation
FROM tenancy.tenant_tables t CROSS JOIN tenancy.binding b JOIN tenancy.bound_columns x ON x.bound_as = 'tenant'
WHERE t.tenant_number IS NOT NULL AND NOT t.is_partition AND t.relation <> x.relation$rule$),

('data-tenant-null', 'data', 'warn', 'Rows have no tenant',
 'They are nobody''s: lost to all, or shown to all.', 'https://www.postgresql.org/docs/current/ddl-constraints.html',
$rule$SELECT t.schema, tenancy.identity('pg_class'::regclass, t.relation, t.tenant_number) AS object, 'without a tenant' AS detail,
    t.relation, format('r.%I IS NULL', t.tenant_column) AS condition, '{}'::oid[] AS others,
    -- Whose they are can be told from what they point at; in a table of shared rows they are everybody's.
    tenancy.past_immutability(t.relation, coalesce((SELECT format('UPDATE %s AS r SET %I = p.%I FROM %s AS p WHERE r.%2$I IS NULL AND p.%5$I = r.%6$I', tenancy.only_rows(t.relation), t.tenant_column,
                            p.tenant_column, tenancy.only_rows(p.relation), pa.attname, ca.attname)
              FROM tenancy.tenant_links l JOIN tenancy.tenant_tables p ON p.relation = l.parent
              JOIN pg_attribute ca ON ca.attrelid = l.child AND ca.attnum = l.conkey[1]
              JOIN pg_attribute pa ON pa.attrelid = l.parent AND pa.attnum = l.confkey[1]
              WHERE l.child = t.relation AND l.parent <> t.relation AND cardinality(l.conkey) = 1 AND p.tenant_number IS NOT NULL ORDER BY ca.attnotnull DESC, l.key LIMIT 1),
             CASE WHEN t.template = 'shared_read' THEN (
                 SELECT format('UPDATE %s SET %I = %L WHERE %2$I IS NULL', tenancy.only_rows(t.relation), t.tenant_column, b.platform_tenant)
                 FROM tenancy.binding b WHERE b.platform_tenant IS NOT NULL) END)) AS remediation
FROM tenancy.tenant_tables t
WHERE t.tenant_number IS NOT NULL AND NOT t.tenant_not_null AND NOT t.is_partition AND t.bound_as IS NULL$rule$),

('data-user-without-tenant', 'data', 'info', 'Users belong to no tenant',
 'They can log in and get no context.', 'https://www.postgresql.org/docs/current/ddl-constraints.html',
$rule$SELECT u.schema, tenancy.identity('pg_class'::regclass, u.relation) AS object, 'without a row in ' || tenancy.qualified_name(m.relation) AS detail, u.relation,
    format('NOT EXISTS (SELECT FROM %s AS x WHERE %s)', tenancy.only_rows(m.relation),
           tenancy.same_value(format('x.%I', m.name), m.type, format('r.%I', u.name), u.type)) AS condition,
    ARRAY[m.relation] AS others, NULL AS remediation
FROM tenancy.bound_columns u JOIN tenancy.bound_columns m ON m.bound_as = 'membership user' AND m.relation <> u.relation
WHERE u.bound_as = 'role user'
UNION ALL
SELECT m.schema, tenancy.identity('pg_class'::regclass, m.relation), 'without a tenant', m.relation, format('r.%I IS NULL', m.name), '{}', NULL
FROM tenancy.bound_columns m WHERE m.bound_as = 'membership tenant'$rule$),

('data-tenant-without-users', 'data', 'info', 'Tenants have no user',
 'Nobody can act for them.', 'https://www.postgresql.org/docs/current/ddl-constraints.html',
$rule$SELECT t.schema, tenancy.identity('pg_class'::regclass, t.relation) AS object, 'without a row in ' || tenancy.qualified_name(m.relation) AS detail, t.relation,
    format('NOT EXISTS (SELECT FROM %s AS x WHERE %s)%s', tenancy.only_rows(m.relation),
           tenancy.same_value(format('x.%I', m.name), m.type, format('r.%I', t.name), t.type),
           CASE WHEN b.platform_tenant IS NULL THEN '' ELSE format(' AND r.%I::text <> %L', t.name, b.platform_tenant) END) AS condition,
    ARRAY[m.relation] AS others, NULL AS remediation
FROM tenancy.bound_columns t CROSS JOIN tenancy.binding b
JOIN tenancy.bound_columns m ON m.bound_as = 'membership tenant' AND m.relation <> t.relation
WHERE t.bound_as = 'tenant'$rule$);

CREATE FUNCTION tenancy.data_checks(schemas text[])
RETURNS TABLE (code text, level text, object text, detail text, relation oid, others oid[], source text, condition text, unseen text, remediation text)
LANGUAGE c STABLE PARALLEL UNSAFE SET jit = off SET enable_nestloop = off
AS 'MODULE_PATHNAME', 'data_checks_wrapper';
COMMENT ON FUNCTION tenancy.data_checks(text[]) IS
'what tenancy.validate_data() counts: rows of source, as r, for which condition holds, which reads others too; unseen says why the caller cannot count them. Reads catalogs only';

CREATE FUNCTION tenancy.findings_of_data(schemas text[], sample_rows bigint)
RETURNS TABLE (code text, level text, object text, detail text, remediation text)
-- Only this process knows that what it reads is no traffic that shadow mode should record.
LANGUAGE c STABLE PARALLEL UNSAFE SET enable_nestloop = on SET max_parallel_workers_per_gather = 0
AS 'MODULE_PATHNAME', 'findings_of_data_wrapper';
COMMENT ON FUNCTION tenancy.findings_of_data(text[], bigint) IS 'tenancy.validate_data() without waivers';

CREATE FUNCTION tenancy.validate_data(schemas name[] DEFAULT NULL, sample_rows bigint DEFAULT NULL)
RETURNS TABLE (code text, level text, object text, detail text, remediation text, waived boolean, reason text, until timestamptz)
LANGUAGE sql STABLE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT f.code, f.level, f.object, f.detail, f.remediation, coalesce(w.until > pg_catalog.now(), false), w.reason, w.until
    FROM tenancy.findings_of_data(schemas::text[], sample_rows) AS f
    LEFT JOIN tenancy.waivers w ON w.code = f.code AND w.object = f.object
    ORDER BY pg_catalog.array_position('{error,warn,info}'::text[], f.level), f.code COLLATE "C", f.object COLLATE "C";
END;
COMMENT ON FUNCTION tenancy.validate_data(name[], bigint) IS
'rows that are not as isolation needs them: without a tenant, of one that does not exist, pointing at another tenant''s; users without a tenant and tenants without users. Reads every tenant table, a key at a time, or a random sample of about that many rows of each; a NOTICE for each table. With the rights of the caller: a table that he cannot read, whose rows row security keeps from him, or that has a column in question of a type that belongs to an ordinary role, is a finding not-seen. 3F000 for a schema that does not exist, 22023 for a sample that is not positive';
