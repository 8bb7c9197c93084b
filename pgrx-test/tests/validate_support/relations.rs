//! Cases about columns, keys, and relations that lead around row security.

use super::{Case, case, told};

const PARENT: &str = "CREATE TABLE {s}.p (id uuid PRIMARY KEY, tenant_id uuid NOT NULL); CREATE INDEX ON {s}.p (tenant_id); ";

pub fn parented(text: &str) -> String {
    text.replace("{PARENT}", PARENT)
}

pub const CASES: &[Case] = &[
    case(
        "key-without-tenant",
        "table constraint k on {s}.t",
        "{T}{PARENT}ALTER TABLE {s}.t ADD pid uuid, ADD CONSTRAINT k FOREIGN KEY (pid) REFERENCES {s}.p",
        "{T}{PARENT}ALTER TABLE {s}.p ADD UNIQUE (tenant_id, id); ALTER TABLE {s}.t ADD pid uuid, ADD CONSTRAINT k FOREIGN KEY (tenant_id, pid) REFERENCES {s}.p (tenant_id, id)",
    ),
    case(
        "key-cascades",
        "table constraint k on {s}.t",
        "{T}{PARENT}ALTER TABLE {s}.t ADD pid uuid, ADD CONSTRAINT k FOREIGN KEY (pid) REFERENCES {s}.p ON DELETE CASCADE",
        "{T}{PARENT}ALTER TABLE {s}.t ADD pid uuid, ADD CONSTRAINT k FOREIGN KEY (pid) REFERENCES {s}.p",
    ),
    // It carries the tenant, and was never checked for the rows that were there before it.
    case(
        "key-without-tenant",
        "table constraint k on {s}.t",
        "{T}{PARENT}ALTER TABLE {s}.p ADD UNIQUE (tenant_id, id); ALTER TABLE {s}.t ADD pid uuid, ADD CONSTRAINT k FOREIGN KEY (tenant_id, pid) REFERENCES {s}.p (tenant_id, id) NOT VALID",
        // By its tenant alone a row points at no other's.
        "CREATE TABLE {s}.o (id uuid PRIMARY KEY); SELECT tenancy.protect_table('{s}.o', 'own_tenant', tenant_column => 'id', mode => 'enforce'); {T}ALTER TABLE {s}.t ADD FOREIGN KEY (tenant_id) REFERENCES {s}.o NOT VALID",
    ),
    case(
        "key-cascades",
        "table constraint k on {s}.t",
        "{T}{PARENT}ALTER TABLE {s}.p ADD UNIQUE (tenant_id, id); ALTER TABLE {s}.t ADD pid uuid, ADD CONSTRAINT k FOREIGN KEY (pid) REFERENCES {s}.p ON DELETE CASCADE, ADD CONSTRAINT wide FOREIGN KEY (tenant_id, pid) REFERENCES {s}.p (tenant_id, id) NOT VALID",
        "{T}{PARENT}ALTER TABLE {s}.p ADD UNIQUE (tenant_id, id); ALTER TABLE {s}.t ADD pid uuid, ADD CONSTRAINT k FOREIGN KEY (pid) REFERENCES {s}.p ON DELETE CASCADE, ADD CONSTRAINT wide FOREIGN KEY (tenant_id, pid) REFERENCES {s}.p (tenant_id, id)",
    ),
    case(
        "key-nulls-tenant",
        "table constraint k on {s}.t",
        "{T}{PARENT}ALTER TABLE {s}.p ADD UNIQUE (tenant_id, id); ALTER TABLE {s}.t ADD pid uuid, ADD CONSTRAINT k FOREIGN KEY (tenant_id, pid) REFERENCES {s}.p (tenant_id, id) ON DELETE SET NULL",
        "{T}{PARENT}ALTER TABLE {s}.p ADD UNIQUE (tenant_id, id); ALTER TABLE {s}.t ADD pid uuid, ADD CONSTRAINT k FOREIGN KEY (tenant_id, pid) REFERENCES {s}.p (tenant_id, id) ON DELETE SET NULL (pid)",
    ),
    case(
        "key-nulls-tenant",
        "table constraint k on {s}.t",
        "CREATE TABLE {s}.tenants (id uuid PRIMARY KEY); CREATE TABLE {s}.t (tenant_id uuid, CONSTRAINT k FOREIGN KEY (tenant_id) REFERENCES {s}.tenants ON DELETE SET NULL)",
        "CREATE TABLE {s}.tenants (id uuid PRIMARY KEY); CREATE TABLE {s}.t (tenant_id uuid, CONSTRAINT k FOREIGN KEY (tenant_id) REFERENCES {s}.tenants ON DELETE CASCADE)",
    ),
    told(
        "key-to-shared",
        "table constraint k on {s}.t",
        "{T}{PARENT}ALTER TABLE {s}.t ADD pid uuid, ADD CONSTRAINT k FOREIGN KEY (pid) REFERENCES {s}.p; SELECT tenancy.protect_table('{s}.p', 'shared_read', mode => 'enforce')",
        "{T}{PARENT}ALTER TABLE {s}.t ADD pid uuid, ADD CONSTRAINT k FOREIGN KEY (pid) REFERENCES {s}.p",
    ),
    // A child belongs to a tenant by one key, which says nothing of its others; nor is there a column for
    // a key to it to carry.
    told(
        "key-to-shared",
        "table constraint k on {s}.c",
        "{T}{P}{PARENT}CREATE TABLE {s}.c (t uuid NOT NULL REFERENCES {s}.t, pid uuid CONSTRAINT k REFERENCES {s}.p ON DELETE CASCADE); SELECT tenancy.protect_table('{s}.c', 'child', mode => 'enforce')",
        "{T}{P}CREATE TABLE {s}.u (id uuid PRIMARY KEY); CREATE TABLE {s}.c (t uuid NOT NULL REFERENCES {s}.t, u uuid REFERENCES {s}.u); SELECT tenancy.protect_table('{s}.c', 'child', mode => 'enforce')",
    ),
    told(
        "key-to-shared",
        "table constraint k on {s}.d",
        "{T}{P}CREATE TABLE {s}.c (id uuid PRIMARY KEY, t uuid NOT NULL REFERENCES {s}.t); SELECT tenancy.protect_table('{s}.c', 'child', mode => 'enforce'); CREATE TABLE {s}.d (tenant_id uuid, c uuid CONSTRAINT k REFERENCES {s}.c)",
        // A child of a child, with partitions that have a copy of the key.
        "{T}{P}CREATE TABLE {s}.c (id uuid PRIMARY KEY, t uuid NOT NULL REFERENCES {s}.t); SELECT tenancy.protect_table('{s}.c', 'child', mode => 'enforce'); CREATE TABLE {s}.d (c uuid NOT NULL REFERENCES {s}.c) PARTITION BY HASH (c); CREATE TABLE {s}.d1 PARTITION OF {s}.d FOR VALUES WITH (MODULUS 1, REMAINDER 0); SELECT tenancy.protect_table('{s}.d', 'child', mode => 'enforce')",
    ),
    case(
        "tenant-column-missing",
        "table {s}.c",
        "{T}CREATE TABLE {s}.c (id int, t uuid NOT NULL REFERENCES {s}.t); CREATE INDEX ON {s}.c (t); GRANT SELECT ON {s}.c TO {app}",
        "{T}CREATE TABLE {s}.u (id uuid PRIMARY KEY); CREATE TABLE {s}.c (id int, t uuid REFERENCES {s}.u); GRANT SELECT ON {s}.c TO {app}",
    ),
    case(
        "tenant-column-nullable",
        "table column {s}.t.tenant_id",
        "CREATE TABLE {s}.t (tenant_id uuid)",
        "CREATE TABLE {s}.t (tenant_id uuid NOT NULL)",
    ),
    case(
        "tenant-column-type",
        "table column {s}.t.tenant_id",
        "CREATE TABLE {s}.t (tenant_id text)",
        "CREATE TABLE {s}.t (tenant_id uuid, owner_id text)",
    ),
    case(
        "tenant-index-missing",
        "table {s}.t",
        "CREATE TABLE {s}.t (id int, tenant_id uuid, PRIMARY KEY (id, tenant_id))",
        "CREATE TABLE {s}.t (id int, tenant_id uuid, PRIMARY KEY (tenant_id, id))",
    ),
    case(
        "tenant-default-constant",
        "table column {s}.t.tenant_id",
        "CREATE TABLE {s}.t (tenant_id uuid DEFAULT '00000000-0000-0000-0000-000000000001')",
        "CREATE TABLE {s}.t (tenant_id uuid DEFAULT current_tenant_id())",
    ),
    case(
        "tenant-default-constant",
        "table column {s}.t.tenant_id",
        "CREATE DOMAIN {s}.tid AS uuid DEFAULT '00000000-0000-0000-0000-000000000001'; CREATE TABLE {s}.t (tenant_id {s}.tid NOT NULL)",
        "CREATE DOMAIN {s}.tid AS uuid DEFAULT '00000000-0000-0000-0000-000000000001'; CREATE TABLE {s}.t (tenant_id {s}.tid NOT NULL DEFAULT NULL)",
    ),
    case(
        "tenant-column-updatable",
        "table column {s}.t.tenant_id",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id = ANY (user_tenant_ids()))",
        "{T}{P}",
    ),
    // Written rows are of the one tenant that read ones are of.
    case(
        "tenant-column-updatable",
        "table column {s}.t.tenant_id",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id = current_tenant_id()); CREATE POLICY q ON {s}.t FOR UPDATE USING (tenant_id = current_setting('app.other')::uuid)",
        "{T}{RLS}CREATE POLICY p ON {s}.t USING (tenant_id = current_tenant_id())",
    ),
    case(
        "tenant-column-updatable",
        "table column {s}.t.tenant_id",
        "{T}{RLS}CREATE POLICY p ON {s}.t FOR UPDATE USING (tenant_id = ANY (user_tenant_ids())) WITH CHECK (tenant_id = current_tenant_id())",
        "{T}{RLS}CREATE POLICY p ON {s}.t FOR UPDATE USING (tenant_id = (SELECT current_tenant_id())) WITH CHECK (current_tenant_id() = tenant_id AND note <> '');
         CREATE POLICY q ON {s}.t FOR SELECT USING (tenant_id = ANY (user_tenant_ids()))",
    ),
    case(
        "unique-without-tenant",
        "index {s}.t_note_key",
        "{T}ALTER TABLE {s}.t ADD UNIQUE (note)",
        "{T}ALTER TABLE {s}.t ADD UNIQUE (tenant_id, note)",
    ),
    case(
        "unique-without-tenant",
        "index {s}.lowered",
        "{T}CREATE UNIQUE INDEX lowered ON {s}.t (lower(note)) WHERE note <> ''",
        "{T}ALTER TABLE {s}.t ADD x uuid UNIQUE",
    ),
    case(
        "unique-without-tenant",
        "index {s}.t_lower_excl",
        "{T}ALTER TABLE {s}.t ADD EXCLUDE USING btree (lower(note) WITH =) WHERE (note <> '(')",
        "{T}ALTER TABLE {s}.t ADD EXCLUDE USING btree (tenant_id WITH =, lower(note) WITH =)",
    ),
    // No method that can compare the tenant.
    told(
        "unique-without-tenant",
        "index {s}.t_span_excl",
        "{T}ALTER TABLE {s}.t ADD span int4range, ADD EXCLUDE USING spgist (span WITH &&)",
        "{T}CREATE INDEX ON {s}.t (note)",
    ),
    // What an index only includes is no part of the key.
    case(
        "unique-without-tenant",
        "index {s}.included",
        "{T}CREATE UNIQUE INDEX included ON {s}.t (note) INCLUDE (tenant_id)",
        "{T}CREATE DOMAIN {s}.key AS uuid; ALTER TABLE {s}.t ADD x uuid, ADD y {s}.key; CREATE UNIQUE INDEX ON {s}.t (x, y) INCLUDE (note)",
    ),
    case(
        "unique-without-tenant",
        "index {s}.of_part",
        "CREATE TABLE {s}.t (tenant_id uuid NOT NULL, at date, note text, UNIQUE (tenant_id, at, note)) PARTITION BY RANGE (at); CREATE TABLE {s}.part PARTITION OF {s}.t DEFAULT; CREATE UNIQUE INDEX of_part ON {s}.part (note)",
        // What it has of its parent is told there; and where all rows are one tenant's, no other is told of.
        "CREATE TABLE {s}.t (tenant_id uuid NOT NULL, note text, UNIQUE (tenant_id, note)) PARTITION BY LIST (tenant_id); CREATE TABLE {s}.part PARTITION OF {s}.t FOR VALUES IN ('00000000-0000-0000-0000-00000000000a') PARTITION BY HASH (note); CREATE TABLE {s}.leaf PARTITION OF {s}.part FOR VALUES WITH (MODULUS 1, REMAINDER 0); CREATE UNIQUE INDEX ON {s}.leaf (note)",
    ),
    case(
        "unique-without-tenant",
        "index {s}.of_rest",
        "CREATE TABLE {s}.t (tenant_id uuid NOT NULL, note text) PARTITION BY LIST (tenant_id); CREATE TABLE {s}.rest PARTITION OF {s}.t FOR VALUES IN ('00000000-0000-0000-0000-00000000000a', '00000000-0000-0000-0000-00000000000b'); CREATE UNIQUE INDEX of_rest ON {s}.rest (note)",
        "CREATE TABLE {s}.t (tenant_id bigint NOT NULL, note text) PARTITION BY LIST (tenant_id); CREATE TABLE {s}.minus PARTITION OF {s}.t FOR VALUES IN ('-1'); CREATE UNIQUE INDEX ON {s}.minus (note)",
    ),
    told(
        "primary-key-without-tenant",
        "index {s}.t_pkey",
        "CREATE TABLE {s}.t (id bigint, tenant_id uuid NOT NULL, PRIMARY KEY (id) INCLUDE (tenant_id))",
        "CREATE DOMAIN {s}.key AS uuid; CREATE TABLE {s}.t (id {s}.key, tenant_id uuid NOT NULL, note text, PRIMARY KEY (id) INCLUDE (note))",
    ),
    told(
        "primary-key-without-tenant",
        "index {s}.part_pkey",
        "CREATE TABLE {s}.t (tenant_id uuid NOT NULL, at date, id bigint) PARTITION BY RANGE (at); CREATE TABLE {s}.part PARTITION OF {s}.t DEFAULT; ALTER TABLE {s}.part ADD PRIMARY KEY (id)",
        "CREATE TABLE {s}.t (tenant_id uuid NOT NULL, id bigint, PRIMARY KEY (id, tenant_id)) PARTITION BY HASH (tenant_id); CREATE TABLE {s}.part PARTITION OF {s}.t FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
    ),
    told(
        "primary-key-without-tenant",
        "index {s}.t_pkey",
        "CREATE TABLE {s}.t (id text PRIMARY KEY, tenant_id uuid)",
        "CREATE TABLE {s}.t (id uuid PRIMARY KEY, tenant_id uuid)",
    ),
    case(
        "sequence-readable",
        "sequence {s}.t_id_seq for {app}",
        "CREATE TABLE {s}.t (id serial, tenant_id uuid); GRANT SELECT ON SEQUENCE {s}.t_id_seq TO {app}",
        "CREATE TABLE {s}.t (id serial, tenant_id uuid); GRANT USAGE ON SEQUENCE {s}.t_id_seq TO {app}",
    ),
    case(
        "view-definer",
        "view {s}.outer_view",
        "{T}{P}CREATE VIEW {s}.inner_view AS SELECT * FROM {s}.t; CREATE VIEW {s}.outer_view AS SELECT * FROM {s}.inner_view; GRANT SELECT ON {s}.outer_view TO {app}",
        // What is below a view with the rights of its caller is read with those, through other views too.
        "{T}{P}CREATE VIEW {s}.inner_view WITH (security_invoker) AS SELECT * FROM {s}.t; CREATE VIEW {s}.outer_view AS SELECT * FROM {s}.inner_view; GRANT SELECT ON {s}.outer_view TO {app}",
    ),
    // Of which the application may read one column.
    case(
        "view-definer",
        "view {s}.v",
        "{T}{P}CREATE VIEW {s}.v AS SELECT * FROM {s}.t; GRANT SELECT (note) ON {s}.v TO {app}",
        "{T}{P}CREATE VIEW {s}.v AS SELECT * FROM {s}.t",
    ),
    case(
        "materialized-view",
        "materialized view {s}.v",
        "{T}{P}CREATE MATERIALIZED VIEW {s}.v AS SELECT * FROM {s}.t; GRANT SELECT ON {s}.v TO {app}",
        "{T}{P}CREATE MATERIALIZED VIEW {s}.v AS SELECT * FROM {s}.t",
    ),
    case(
        "foreign-table",
        "foreign table {s}.f",
        "CREATE FOREIGN DATA WRAPPER w_{s}; CREATE SERVER srv_{s} FOREIGN DATA WRAPPER w_{s}; CREATE FOREIGN TABLE {s}.f (tenant_id uuid) SERVER srv_{s}; GRANT SELECT ON {s}.f TO {app}",
        "CREATE FOREIGN DATA WRAPPER w_{s}; CREATE SERVER srv_{s} FOREIGN DATA WRAPPER w_{s}; CREATE FOREIGN TABLE {s}.f (note text) SERVER srv_{s}; GRANT SELECT ON {s}.f TO {app}",
    ),
    case(
        "child-unprotected",
        "table {s}.part",
        "CREATE TABLE {s}.t (tenant_id uuid NOT NULL) PARTITION BY LIST (tenant_id); GRANT SELECT ON {s}.t TO {app}; {P}CREATE TABLE {s}.part PARTITION OF {s}.t DEFAULT",
        "CREATE TABLE {s}.t (tenant_id uuid NOT NULL) PARTITION BY LIST (tenant_id); CREATE TABLE {s}.part PARTITION OF {s}.t DEFAULT; {P}",
    ),
    case(
        "child-unprotected",
        "table {s}.heir",
        "{T}{P}CREATE TABLE {s}.heir () INHERITS ({s}.t); GRANT SELECT ON {s}.heir TO {app}",
        "{T}CREATE TABLE {s}.heir () INHERITS ({s}.t); {P}",
    ),
    case(
        "parent-open",
        "table {s}.base",
        "CREATE TABLE {s}.base (id uuid, note text); CREATE TABLE {s}.t (tenant_id uuid NOT NULL) INHERITS ({s}.base); {P}GRANT SELECT ON {s}.base TO {app}",
        "CREATE TABLE {s}.base (id uuid, note text); CREATE TABLE {s}.t (tenant_id uuid NOT NULL) INHERITS ({s}.base); {P}GRANT INSERT ON {s}.base TO {app}",
    ),
    // By a child in between, and to everybody by one column.
    case(
        "parent-open",
        "table {s}.base",
        "CREATE TABLE {s}.base (id uuid, note text); CREATE TABLE {s}.middle () INHERITS ({s}.base); CREATE TABLE {s}.t (tenant_id uuid NOT NULL) INHERITS ({s}.middle); {P}GRANT SELECT (note) ON {s}.base TO PUBLIC",
        "CREATE TABLE {s}.base (id uuid, tenant_id uuid NOT NULL); CREATE TABLE {s}.t () INHERITS ({s}.base); GRANT SELECT ON {s}.base TO {app}",
    ),
    case(
        "table-rule",
        "rule r on {s}.t",
        "{T}{P}CREATE TABLE {s}.log (note text); CREATE RULE r AS ON INSERT TO {s}.t DO ALSO INSERT INTO {s}.log VALUES (NEW.note)",
        "{T}{P}CREATE TABLE {s}.log (note text); CREATE RULE r AS ON INSERT TO {s}.log DO INSTEAD NOTHING",
    ),
    case(
        "table-rule",
        "rule r on {s}.inbox",
        "{T}{P}CREATE TABLE {s}.inbox (tenant uuid, note text); CREATE RULE r AS ON INSERT TO {s}.inbox DO ALSO INSERT INTO {s}.t (id, tenant_id, note) VALUES (NEW.tenant, NEW.tenant, NEW.note)",
        // As one who is bound.
        "{T}{P}CREATE TABLE {s}.inbox (tenant uuid, note text); CREATE RULE r AS ON INSERT TO {s}.inbox DO ALSO INSERT INTO {s}.t (id, tenant_id, note) VALUES (NEW.tenant, NEW.tenant, NEW.note); ALTER TABLE {s}.inbox OWNER TO {other}",
    ),
    case(
        "publication",
        "publication pub_{s} with {s}.t",
        "{T}{P}CREATE PUBLICATION pub_{s} FOR TABLE {s}.t",
        "CREATE TABLE {s}.u (id int); CREATE PUBLICATION pub_{s} FOR TABLE {s}.u",
    ),
    // A filter that mentions the tenant need not keep to one.
    case(
        "publication",
        "publication pub_{s} with {s}.t",
        "{T}{P}CREATE PUBLICATION pub_{s} FOR TABLE {s}.t WHERE (tenant_id IS NOT NULL)",
        "{T}{P}CREATE PUBLICATION pub_{s} FOR TABLE {s}.t WHERE (tenant_id IN ('00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000002'))",
    ),
    case(
        "publication",
        "publication pub_{s} with {s}.t",
        "{T}{P}CREATE PUBLICATION pub_{s} FOR TABLE {s}.t WHERE (tenant_id <> '00000000-0000-0000-0000-000000000001')",
        "{T}{P}CREATE PUBLICATION pub_{s} FOR TABLE {s}.t WHERE ((tenant_id = '00000000-0000-0000-0000-000000000001' OR tenant_id = '00000000-0000-0000-0000-000000000002') AND note <> 'x')",
    ),
    case(
        "publication",
        "publication pub_{s} with {s}.t",
        "{T}{P}CREATE PUBLICATION pub_{s} FOR TABLE {s}.t WHERE (tenant_id = '00000000-0000-0000-0000-000000000001' OR true)",
        "{T}{P}CREATE PUBLICATION pub_{s} FOR TABLE {s}.t WHERE ((note = 'x' OR true) AND tenant_id IS NOT DISTINCT FROM '00000000-0000-0000-0000-000000000001')",
    ),
    // Compared with what is no constant, or cut before it is compared.
    case(
        "publication",
        "publication pub_{s} with {s}.t",
        "{T}{P}CREATE PUBLICATION pub_{s} FOR TABLE {s}.t WHERE (tenant_id = id)",
        "CREATE TABLE {s}.t (tenant_id text NOT NULL); CREATE INDEX ON {s}.t (tenant_id); CREATE PUBLICATION pub_{s} FOR TABLE {s}.t WHERE (tenant_id IN ('a', 'b'))",
    ),
    case(
        "publication",
        "publication pub_{s} with {s}.t",
        "CREATE TABLE {s}.t (tenant_id text NOT NULL); CREATE INDEX ON {s}.t (tenant_id); CREATE PUBLICATION pub_{s} FOR TABLE {s}.t WHERE (tenant_id::varchar(1) = '0')",
        "{T}{P}CREATE PUBLICATION pub_{s} FOR TABLE {s}.t WHERE (coalesce('00000000-0000-0000-0000-000000000001' = tenant_id, false))",
    ),
    case(
        "publication",
        "publication pub_{s} with schema {s}",
        "{T}{P}CREATE PUBLICATION pub_{s} FOR TABLES IN SCHEMA {s}",
        "{T}{P}CREATE PUBLICATION pub_{s} FOR TABLE {s}.t WHERE (tenant_id = '00000000-0000-0000-0000-000000000001')",
    ),
    case(
        "publication",
        "publication pub_{s} for all tables",
        "CREATE PUBLICATION pub_{s} FOR ALL TABLES",
        "{T}CREATE PUBLICATION pub_{s}",
    ),
    case(
        "drift",
        "table {s}.t: row_security_not_forced",
        "{T}{P}ALTER TABLE {s}.t NO FORCE ROW LEVEL SECURITY",
        "{T}{P}ALTER TABLE {s}.t ADD x int",
    ),
    case(
        "large-object",
        "large object 4711",
        "SELECT lo_create(4711); GRANT SELECT ON LARGE OBJECT 4711 TO {app}",
        "SELECT lo_create(4712)",
    ),
    told(
        "large-object",
        "large objects of role {app}",
        "SELECT lo_create(4713); ALTER LARGE OBJECT 4713 OWNER TO {app}",
        "SELECT lo_create(4714)",
    ),
    case(
        "dblink",
        "function {s}.dblink(pg_catalog.text)",
        "CREATE FUNCTION {s}.dblink(text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION {s}.dblink(text) RETURNS int LANGUAGE sql AS 'SELECT 1'; REVOKE EXECUTE ON FUNCTION {s}.dblink(text) FROM PUBLIC",
    ),
    // The one that connects as any role without a password, and one that an application's group may execute.
    case(
        "dblink",
        "function {s}.dblink_connect_u(pg_catalog.text)",
        "CREATE FUNCTION {s}.dblink_connect_u(text) RETURNS text LANGUAGE sql AS 'SELECT $1'",
        "CREATE FUNCTION {s}.dblink_connect_u(text) RETURNS text LANGUAGE sql AS 'SELECT $1'; REVOKE EXECUTE ON FUNCTION {s}.dblink_connect_u(text) FROM PUBLIC;
         ALTER ROLE {other} NOLOGIN; GRANT EXECUTE ON FUNCTION {s}.dblink_connect_u(text) TO {other}, pg_monitor",
    ),
    case(
        "dblink",
        "function {s}.dblink(pg_catalog.text)",
        "CREATE FUNCTION {s}.dblink(text) RETURNS int LANGUAGE sql AS 'SELECT 1'; REVOKE EXECUTE ON FUNCTION {s}.dblink(text) FROM PUBLIC;
         {T}{P}ALTER ROLE {other} NOLOGIN; GRANT EXECUTE ON FUNCTION {s}.dblink(text) TO {other}; GRANT {other} TO {app}",
        "CREATE FUNCTION {s}.dblink_get_pkey(text) RETURNS int LANGUAGE sql AS 'SELECT 1'; GRANT EXECUTE ON FUNCTION {s}.dblink_get_pkey(text) TO {app}",
    ),
    case(
        "foreign-server",
        "server srv_{s} for {app}",
        "CREATE FOREIGN DATA WRAPPER w_{s}; CREATE SERVER srv_{s} FOREIGN DATA WRAPPER w_{s}; GRANT USAGE ON FOREIGN SERVER srv_{s} TO {app}",
        "CREATE FOREIGN DATA WRAPPER w_{s}; CREATE SERVER srv_{s} FOREIGN DATA WRAPPER w_{s}",
    ),
    case(
        "foreign-server",
        "user mapping for PUBLIC on server srv_{s}",
        "CREATE FOREIGN DATA WRAPPER w_{s}; CREATE SERVER srv_{s} FOREIGN DATA WRAPPER w_{s}; CREATE USER MAPPING FOR PUBLIC SERVER srv_{s}",
        "CREATE FOREIGN DATA WRAPPER w_{s}; CREATE SERVER srv_{s} FOREIGN DATA WRAPPER w_{s}; CREATE USER MAPPING FOR {other} SERVER srv_{s}",
    ),
    // By a group that has nothing else, which the application takes on.
    case(
        "foreign-server",
        "server srv_{s} for {other}",
        "CREATE FOREIGN DATA WRAPPER w_{s}; CREATE SERVER srv_{s} FOREIGN DATA WRAPPER w_{s}; ALTER ROLE {other} NOLOGIN; GRANT USAGE ON FOREIGN SERVER srv_{s} TO {other}; GRANT {other} TO {app}",
        "CREATE FOREIGN DATA WRAPPER w_{s}; CREATE SERVER srv_{s} FOREIGN DATA WRAPPER w_{s}; ALTER ROLE {other} NOLOGIN; GRANT USAGE ON FOREIGN SERVER srv_{s} TO {other}",
    ),
    case(
        "foreign-server",
        "foreign data wrapper w_{s} for {app}",
        "CREATE FOREIGN DATA WRAPPER w_{s}; GRANT USAGE ON FOREIGN DATA WRAPPER w_{s} TO {app}",
        "CREATE FOREIGN DATA WRAPPER srv_{s}; ALTER ROLE {other} NOLOGIN; GRANT USAGE ON FOREIGN DATA WRAPPER srv_{s} TO {other}",
    ),
    // A mapping is of no use without a table.
    case(
        "foreign-server",
        "user mapping for {app} on server srv_{s}",
        "CREATE FOREIGN DATA WRAPPER w_{s}; CREATE SERVER srv_{s} FOREIGN DATA WRAPPER w_{s}; CREATE USER MAPPING FOR {app} SERVER srv_{s} OPTIONS (user 'postgres');
         CREATE FOREIGN TABLE {s}.f (note text) SERVER srv_{s}; GRANT SELECT ON {s}.f TO {app}",
        "CREATE FOREIGN DATA WRAPPER w_{s}; CREATE SERVER srv_{s} FOREIGN DATA WRAPPER w_{s}; CREATE USER MAPPING FOR {app} SERVER srv_{s} OPTIONS (user 'postgres');
         CREATE FOREIGN TABLE {s}.f (note text) SERVER srv_{s}",
    ),
    case(
        "statements-readable",
        "view {s}.pg_stat_statements",
        "CREATE VIEW {s}.pg_stat_statements AS SELECT 1; GRANT SELECT ON {s}.pg_stat_statements TO PUBLIC",
        "CREATE VIEW {s}.pg_stat_statements AS SELECT 1",
    ),
    case(
        "statements-readable",
        "view {s}.pg_stat_statements",
        "CREATE VIEW {s}.pg_stat_statements AS SELECT 1; GRANT SELECT ON {s}.pg_stat_statements TO {app}",
        "CREATE VIEW {s}.pg_stat_statements AS SELECT 1; ALTER ROLE {other} NOLOGIN; GRANT SELECT ON {s}.pg_stat_statements TO {other}, pg_read_all_stats",
    ),
    // What the view is made of, and everybody may call where nobody said otherwise.
    case(
        "statements-readable",
        "function {s}.pg_stat_statements(boolean)",
        "CREATE FUNCTION {s}.pg_stat_statements(boolean) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION {s}.pg_stat_statements(boolean) RETURNS int LANGUAGE sql AS 'SELECT 1'; REVOKE EXECUTE ON FUNCTION {s}.pg_stat_statements(boolean) FROM PUBLIC;
         GRANT EXECUTE ON FUNCTION {s}.pg_stat_statements(boolean) TO pg_read_all_stats",
    ),
];
