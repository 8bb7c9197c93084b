-- One schema of the differential test. Filled in: :schema, and the roles :app, :owner and :bypass.
-- All tables have the same columns, so that any can take another's place in a statement. Rows of no
-- tenant that a context can have are of a tenant of their own, so that a record tells which it is about.
CREATE SCHEMA :schema AUTHORIZATION :owner;
GRANT USAGE ON SCHEMA :schema TO :app, :bypass;
SET search_path = :schema;
SET ROLE :owner;
-- The first argument is the row, the second any number by which rows of all sorts mix.
CREATE FUNCTION tenant(id int, mix int) RETURNS int LANGUAGE sql IMMUTABLE
    RETURN CASE WHEN mix % 3 = 0 THEN 1 WHEN mix % 7 = 1 THEN 2 WHEN mix % 11 = 4 THEN 9 ELSE 100 + id END;
CREATE FUNCTION n(id int) RETURNS int LANGUAGE sql IMMUTABLE
    RETURN CASE WHEN id % 9 <> 5 THEN id * 5 % 8 END;
CREATE FUNCTION r(id int) RETURNS int LANGUAGE sql IMMUTABLE
    RETURN CASE WHEN id % 10 <> 7 THEN id * 7 % 34 + 1 END;
CREATE FUNCTION is_even(i int) RETURNS bool LANGUAGE plpgsql IMMUTABLE COST 5000 AS 'BEGIN RETURN i % 2 = 0; END';

CREATE TABLE t (id int PRIMARY KEY, tenant_id int NOT NULL, n int, r int, note text);
INSERT INTO t SELECT i, tenant(i, i), n(i), r(i), 't' || i FROM generate_series(1, 30) i;
CREATE TABLE s (id int PRIMARY KEY, tenant_id int NOT NULL, n int, r int, note text);
INSERT INTO s SELECT i, tenant(i, i + 1), n(i + 3), r(i + 2), 's' || i FROM generate_series(1, 24) i;
CREATE TABLE a (id int PRIMARY KEY, tenant_id int NOT NULL, n int, r int, note text);
INSERT INTO a SELECT i, tenant(i, i + 2), n(i + 1), r(i + 5), 'a' || i FROM generate_series(1, 20) i;
CREATE TABLE o (id int PRIMARY KEY, n int, r int, note text);
INSERT INTO o SELECT i, n(i), r(i), 'o' || i FROM generate_series(1, 20) i;
CREATE TABLE p (id int PRIMARY KEY, owner text, n int, r int, note text);
INSERT INTO p SELECT i, 'u' || 1 + i % 5, n(i + 2), r(i + 1), 'p' || i FROM generate_series(1, 20) i;
CREATE TABLE m (id int PRIMARY KEY, tenant_id int NOT NULL, n int, r int, note text);
INSERT INTO m SELECT i, tenant(i, i * 2), n(i + 4), r(i + 3), 'm' || i FROM generate_series(1, 24) i;
CREATE TABLE g (id int PRIMARY KEY, n int, r int, note text);
INSERT INTO g SELECT i, n(i), r(i + 8), 'g' || i FROM generate_series(1, 16) i;
CREATE TABLE c (id int PRIMARY KEY, t_id int NOT NULL REFERENCES t ON DELETE CASCADE, n int, r int, note text);
INSERT INTO c SELECT i, i * 7 % 30 + 1, n(i + 6), r(i), 'c' || i FROM generate_series(1, 30) i;
CREATE TABLE pt (id int PRIMARY KEY, tenant_id int NOT NULL, n int, r int, note text) PARTITION BY RANGE (id);
CREATE TABLE pt1 PARTITION OF pt FOR VALUES FROM (0) TO (16);
CREATE TABLE pt2 PARTITION OF pt FOR VALUES FROM (16) TO (10000);
INSERT INTO pt SELECT i, tenant(i, i + 1), n(i), r(i + 4), 'pt' || i FROM generate_series(1, 30) i;
CREATE TABLE tn (id int PRIMARY KEY, tenant_id int NOT NULL, n int, r int, note text);
INSERT INTO tn SELECT i, tenant(i, i), n(i + 7), r(i), 'tn' || i FROM generate_series(1, 20) i;
CREATE TABLE w (id int PRIMARY KEY, tenant_id int NOT NULL, n int, r int, note text);
INSERT INTO w SELECT i, tenant(i, i + 2), n(i), r(i + 6), 'w' || i FROM generate_series(1, 24) i;
CREATE TABLE u (id int PRIMARY KEY, n int, r int, note text);
INSERT INTO u SELECT i, n(i + 1), r(i), 'u' || i FROM generate_series(1, 30) i;
CREATE INDEX ON t (r);
CREATE INDEX ON c (t_id);
CREATE INDEX ON pt (r);

CREATE VIEW v_invoker WITH (security_invoker) AS SELECT id, n, r, note FROM t WHERE n IS DISTINCT FROM 3;
CREATE VIEW v_barrier WITH (security_invoker, security_barrier) AS SELECT id, n, r, note FROM t WHERE n IS DISTINCT FROM 3;
CREATE VIEW v_owner AS SELECT id, n, r, note FROM s WHERE r > 4;
CREATE VIEW v_join WITH (security_invoker) AS SELECT t.id, s.n, t.r, s.note FROM t JOIN s ON s.id = t.r;
CREATE VIEW v_exempt AS SELECT id, n, r, note FROM a;
CREATE FUNCTION rows_of(bound int) RETURNS TABLE (id int, n int, r int, note text) LANGUAGE sql STABLE
    AS 'SELECT id, n, r, note FROM pt WHERE id < bound';
RESET ROLE;
ALTER VIEW v_exempt OWNER TO CURRENT_USER;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA :schema TO :app, :owner, :bypass;
RESET search_path;
