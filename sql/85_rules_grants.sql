-- Rules about privileges.

CREATE FUNCTION tenancy.grant_object(relation oid, grantee oid, privilege text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN privilege || ' on ' || tenancy.identity('pg_catalog.pg_class'::pg_catalog.regclass, relation) || ' for ' || tenancy.grantee_name(grantee);
COMMENT ON FUNCTION tenancy.grant_object(oid, oid, text) IS 'how findings and waivers name a privilege';

INSERT INTO tenancy.rules (code, topic, level, title, why, reference, query) VALUES
('grant-truncate', 'grants', 'error', 'TRUNCATE is granted on a tenant table',
 'Row security does not bind TRUNCATE: it empties the table of all tenants.', 'https://www.postgresql.org/docs/current/ddl-rowsecurity.html',
$rule$SELECT g.schema, tenancy.grant_object(g.relation, g.grantee, g.privilege) AS object,
    'empties the table of all tenants' AS detail,
    format('REVOKE TRUNCATE ON %s FROM %s', tenancy.qualified_name(g.relation), tenancy.grantee_name(g.grantee)) AS remediation
FROM tenancy.tenant_table_grants g WHERE g.privilege = 'TRUNCATE'$rule$),

('grant-trigger', 'grants', 'error', 'TRIGGER is granted on a tenant table',
 'A trigger runs code of its maker in the sessions of others.', 'https://www.postgresql.org/docs/current/sql-grant.html',
$rule$SELECT g.schema, tenancy.grant_object(g.relation, g.grantee, g.privilege) AS object,
    'runs code of its maker with the rights of whoever writes' AS detail,
    format('REVOKE TRIGGER ON %s FROM %s', tenancy.qualified_name(g.relation), tenancy.grantee_name(g.grantee)) AS remediation
FROM tenancy.tenant_table_grants g WHERE g.privilege = 'TRIGGER'$rule$),

('grant-references', 'grants', 'warn', 'REFERENCES is granted on a tenant table',
 'Keys are checked past row security: a table of one''s own that points here tells which keys other tenants have.',
 'https://www.postgresql.org/docs/current/ddl-rowsecurity.html',
$rule$SELECT g.schema, tenancy.grant_object(g.relation, g.grantee, g.privilege) AS object,
    'tells which keys exist' AS detail,
    format('REVOKE REFERENCES ON %s FROM %s', tenancy.qualified_name(g.relation), tenancy.grantee_name(g.grantee)) AS remediation
FROM (SELECT DISTINCT g.schema, g.relation, g.grantee, g.privilege FROM tenancy.tenant_table_grants g) g WHERE g.privilege = 'REFERENCES'$rule$),

('grant-maintain', 'grants', 'info', 'MAINTAIN is granted on a tenant table',
 'A tenant can lock the table for all with CLUSTER or VACUUM FULL.', 'https://www.postgresql.org/docs/current/sql-grant.html',
$rule$SELECT g.schema, tenancy.grant_object(g.relation, g.grantee, g.privilege) AS object,
    'locks the table for all tenants' AS detail,
    format('REVOKE MAINTAIN ON %s FROM %s', tenancy.qualified_name(g.relation), tenancy.grantee_name(g.grantee)) AS remediation
FROM tenancy.tenant_table_grants g WHERE g.privilege = 'MAINTAIN'$rule$),

('grant-public', 'grants', 'warn', 'A tenant table is granted to PUBLIC',
 'Every role that can connect, those made later too, uses it.', 'https://www.postgresql.org/docs/current/ddl-priv.html',
$rule$SELECT g.schema, tenancy.identity('pg_class'::regclass, g.relation) AS object,
    string_agg(DISTINCT g.privilege, ', ' ORDER BY g.privilege) || ' for PUBLIC' AS detail,
    format('REVOKE ALL ON %s FROM PUBLIC', tenancy.qualified_name(g.relation)) AS remediation
FROM tenancy.tenant_table_grants g WHERE g.grantee = 0 GROUP BY g.schema, g.relation$rule$),

('grant-column-void', 'grants', 'warn', 'A grant on columns is void because the whole table is granted',
 'The columns that were meant to be kept from the role are not.', 'https://www.postgresql.org/docs/current/sql-grant.html',
$rule$SELECT t.schema, tenancy.grant_object(t.relation, c.grantee, c.privilege_type) AS object,
    'granted on ' || string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) || ', and on the table' AS detail,
    format('REVOKE %s ON %s FROM %s; GRANT %1$s (%4$s) ON %2$s TO %3$s', c.privilege_type, tenancy.qualified_name(t.relation),
           tenancy.grantee_name(c.grantee), string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)) AS remediation
FROM tenancy.tenant_tables t
JOIN pg_attribute a ON a.attrelid = t.relation AND a.attacl IS NOT NULL AND NOT a.attisdropped
CROSS JOIN LATERAL aclexplode(a.attacl) AS c
JOIN tenancy.tenant_table_grants g ON g.relation = t.relation AND g.grantee = c.grantee AND g.privilege = c.privilege_type AND g.whole
GROUP BY t.schema, t.relation, c.grantee, c.privilege_type$rule$),

('default-privileges', 'grants', 'warn', 'Default privileges give more than an application needs, or give to PUBLIC',
 'Every new table is exposed the moment it is made.', 'https://www.postgresql.org/docs/current/sql-alterdefaultprivileges.html',
$rule$SELECT n.nspname AS schema,
    format('default privileges of %I%s for %s', pg_get_userbyid(d.defaclrole), coalesce(' in schema ' || quote_ident(n.nspname), ''), tenancy.grantee_name(g.grantee)) AS object,
    string_agg(g.privilege_type, ', ' ORDER BY g.privilege_type) || ' on new tables' AS detail,
    format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s REVOKE %s ON TABLES FROM %s', pg_get_userbyid(d.defaclrole), coalesce(' IN SCHEMA ' || quote_ident(n.nspname), ''),
           string_agg(g.privilege_type, ', ' ORDER BY g.privilege_type), tenancy.grantee_name(g.grantee)) AS remediation
FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
CROSS JOIN LATERAL aclexplode(d.defaclacl) AS g
WHERE d.defaclobjtype = 'r' AND g.grantee <> d.defaclrole
  AND (g.grantee = 0 OR g.privilege_type NOT IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE'))
GROUP BY n.nspname, d.defaclrole, g.grantee$rule$),

('default-privileges-unprotected', 'grants', 'info', 'New tables are granted to an application before they are protected',
 'Until somebody protects it, a new table shows all tenants.', 'https://www.postgresql.org/docs/current/sql-alterdefaultprivileges.html',
$rule$SELECT n.nspname AS schema, tenancy.identity('pg_namespace'::regclass, n.oid) AS object,
    'tables made by ' || string_agg(DISTINCT quote_ident(pg_get_userbyid(d.defaclrole)), ', ') || ' are granted to '
        || string_agg(DISTINCT tenancy.grantee_name(g.grantee), ', ') || ' and not protected automatically' AS detail,
    format('SELECT tenancy.auto_protect(%L, mode => ''enforce'')', n.nspname) AS remediation
FROM pg_default_acl d
-- Without a schema they are for every one, and matter where the role can make tables beside those of tenants.
JOIN pg_namespace n ON n.oid = d.defaclnamespace OR (
    d.defaclnamespace = 0 AND n.nspname IN (SELECT t.schema FROM tenancy.tenant_tables t) AND has_schema_privilege(d.defaclrole, n.oid, 'CREATE'))
CROSS JOIN LATERAL aclexplode(d.defaclacl) AS g
WHERE d.defaclobjtype = 'r' AND g.grantee <> d.defaclrole
  AND n.nspname NOT IN (SELECT a.schema_name FROM tenancy.auto_protected a WHERE a.active)
GROUP BY n.nspname, n.oid$rule$),

('schema-create', 'grants', 'warn', 'An application may create objects in a schema',
 'A function, an operator or a table of its own in the way of a search_path runs with the rights of others, and is not protected. A schema of its own, without tables of tenants, is information.',
 'https://www.postgresql.org/docs/current/ddl-schemas.html',
$rule$SELECT n.nspname AS schema, 'CREATE on ' || tenancy.identity('pg_namespace'::regclass, n.oid) || ' for ' || tenancy.grantee_name(g.grantee) AS object,
    'may create functions, operators and tables' AS detail,
    format('REVOKE CREATE ON SCHEMA %I FROM %s', n.nspname, tenancy.grantee_name(g.grantee)) AS remediation, 'warn' AS level
FROM pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) AS g
WHERE g.privilege_type = 'CREATE' AND g.grantee <> n.nspowner AND n.nspname !~ '^pg_'
  AND g.grantee IN (SELECT x.grantee FROM tenancy.application_grantees x)
UNION ALL
SELECT NULL, 'CREATE on ' || tenancy.identity('pg_database'::regclass, d.oid) || ' for ' || tenancy.grantee_name(g.grantee),
    'may create schemas, which others have in their search_path where they are called like them',
    format('REVOKE CREATE ON DATABASE %I FROM %s', d.datname, tenancy.grantee_name(g.grantee)), 'warn'
FROM pg_database d CROSS JOIN LATERAL aclexplode(d.datacl) AS g
WHERE d.datname = current_database() AND g.privilege_type = 'CREATE' AND g.grantee <> d.datdba
  AND g.grantee IN (SELECT x.grantee FROM tenancy.application_grantees x)
UNION ALL
SELECT n.nspname, tenancy.identity('pg_namespace'::regclass, n.oid) || ' of ' || quote_ident(pg_get_userbyid(n.nspowner)),
    string_agg(tenancy.grantee_name(x.application), ', ') || CASE WHEN w.is_of_tenants THEN ' drops every table in it, whosever that is' ELSE ' may create functions, operators and tables' END,
    format('ALTER SCHEMA %I OWNER TO %s', n.nspname, CASE WHEN w.owner_is_applications THEN 'CURRENT_USER' ELSE quote_ident(pg_get_userbyid(d.datdba)) END),
    CASE WHEN w.is_of_tenants OR w.is_called_like_another THEN 'warn' ELSE 'info' END
FROM pg_namespace n JOIN tenancy.application_grantees x ON x.grantee = n.nspowner JOIN pg_database d ON d.datname = current_database()
CROSS JOIN LATERAL (
    SELECT n.nspname IN (SELECT t.schema FROM tenancy.tenant_tables t) AS is_of_tenants,
           n.nspname IN (SELECT r.rolname FROM pg_roles r WHERE r.oid <> n.nspowner) AS is_called_like_another,
           d.datdba IN (SELECT o.grantee FROM tenancy.application_grantees o) AS owner_is_applications) w
-- Of members of roles that row security does not bind, role-path tells.
WHERE x.application = n.nspowner OR n.nspowner NOT IN (SELECT p.role FROM tenancy.role_powers p)
GROUP BY n.oid, n.nspname, n.nspowner, d.datdba, w.is_of_tenants, w.is_called_like_another, w.owner_is_applications$rule$);
