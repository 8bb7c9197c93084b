-- One schema of the corpus. Filled in: :schema, and the roles :app and :vowner. Every row of another
-- tenant than 1 has a tenant of its own, so that a record tells which row it is about.
CREATE SCHEMA :schema;
GRANT ALL ON SCHEMA :schema TO PUBLIC;
SET search_path = :schema;
CREATE FUNCTION tenant(number int, own bool) RETURNS int LANGUAGE sql IMMUTABLE
    RETURN CASE WHEN own THEN 1 ELSE 1000 + number END;
CREATE TABLE org (id int PRIMARY KEY, tenant_id int NOT NULL, name text);
CREATE TABLE members (org_id int, user_id int, PRIMARY KEY (org_id, user_id));
CREATE TABLE t (id bigint PRIMARY KEY, tenant_id int NOT NULL, org_id int, name text, kind text, data jsonb, amount int);
CREATE TABLE c (id bigint PRIMARY KEY, t_id bigint, tenant_id int NOT NULL, body text);
CREATE TABLE u (id int PRIMARY KEY, t_id bigint, note text, ok bool);
CREATE TABLE tn (id int PRIMARY KEY, tenant_id int, x int);
CREATE TABLE pt (id int, tenant_id int NOT NULL, t_id bigint, x int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE pt1 PARTITION OF pt FOR VALUES FROM (0) TO (50);
CREATE TABLE pt2 PARTITION OF pt FOR VALUES FROM (50) TO (200);
CREATE TABLE pu (id int PRIMARY KEY, y int) PARTITION BY RANGE (id);
CREATE TABLE pu1 PARTITION OF pu FOR VALUES FROM (0) TO (50);
CREATE TABLE pu2 PARTITION OF pu FOR VALUES FROM (50) TO (200);
CREATE TABLE par (id int PRIMARY KEY, tenant_id int NOT NULL, x int);
CREATE TABLE chi (y int) INHERITS (par);
INSERT INTO org SELECT i, tenant(i, i % 3 = 0), 'org' || i FROM generate_series(1, 12) i;
-- User 7 is in organisations of tenant 1 only, 8 in some of all, 9 in others only.
INSERT INTO members SELECT i, 7 FROM generate_series(1, 12) i WHERE i % 3 = 0;
INSERT INTO members SELECT i, 8 FROM generate_series(1, 12) i WHERE i % 2 = 0;
INSERT INTO members SELECT i, 9 FROM generate_series(1, 12) i WHERE i % 3 = 1;
INSERT INTO t SELECT i, tenant(i, i % 3 = 0),
        CASE WHEN i % 29 = 0 THEN NULL
             WHEN i % 10 = 0 THEN (1 + (i / 10) % 12) % 12 + 1
             ELSE 3 * ((i / 3) % 4) + CASE WHEN i % 3 = 0 THEN 3 ELSE i % 3 END END,
        'n' || i, CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' END, jsonb_build_object('k', i % 7), i % 13 * 10
    FROM generate_series(1, 120) i;
INSERT INTO c SELECT i, 1 + (i * 7) % 130,
        tenant(i, (1 + (i * 7) % 130) % 3 = CASE WHEN i % 17 = 0 THEN 2 ELSE 0 END), 'b' || i
    FROM generate_series(1, 240) i;
INSERT INTO u SELECT i, CASE WHEN i % 8 = 0 THEN NULL WHEN i % 9 = 0 THEN 1000 + i ELSE 1 + (i * 5) % 120 END, 'u' || i, i % 3 = 0
    FROM generate_series(1, 60) i;
INSERT INTO tn SELECT i, CASE WHEN i % 4 > 0 THEN tenant(i, i % 3 = 0) END, i FROM generate_series(1, 20) i;
INSERT INTO pt SELECT i, tenant(i, i % 3 = 0), 1 + (i * 3) % 120, i % 10 FROM generate_series(1, 150) i;
INSERT INTO pu SELECT i, i % 5 FROM generate_series(1, 150) i;
INSERT INTO par SELECT i, tenant(i, i % 3 = 0), i % 5 FROM generate_series(1, 20) i;
INSERT INTO chi SELECT 100 + i, tenant(100 + i, i % 3 = 0), i % 5, i FROM generate_series(1, 20) i;
CREATE INDEX ON t (org_id);
CREATE INDEX ON t (tenant_id);
CREATE INDEX ON t (amount);
CREATE INDEX ON c (t_id);
CREATE INDEX ON u (t_id);
GRANT ALL ON ALL TABLES IN SCHEMA :schema TO :app, :vowner;
-- The owner of v_t is a superuser, whom row security does not bind; v_own's is bound.
CREATE VIEW v_t AS SELECT * FROM t WHERE kind = 'a';
CREATE VIEW v_inv WITH (security_invoker) AS SELECT * FROM t WHERE kind = 'a';
CREATE VIEW v_bar WITH (security_invoker, security_barrier) AS SELECT * FROM t WHERE kind = 'a';
CREATE VIEW v_own AS SELECT * FROM t WHERE kind = 'a';
ALTER VIEW v_own OWNER TO :vowner;
CREATE VIEW v_join WITH (security_invoker) AS
    SELECT t.id, t.tenant_id, t.org_id, t.name, o.name AS oname, o.tenant_id AS otenant FROM t JOIN org o ON o.id = t.org_id;
CREATE VIEW v_agg WITH (security_invoker) AS SELECT tenant_id, kind, count(*) n FROM t GROUP BY 1, 2;
GRANT SELECT ON v_t, v_inv, v_bar, v_own, v_join, v_agg TO :app;
CREATE FUNCTION f_def(k text) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = :schema AS
    'BEGIN RETURN (SELECT count(*) FROM t WHERE name LIKE k); END';
ALTER FUNCTION f_def(text) OWNER TO :vowner;
CREATE FUNCTION f_sql(k text) RETURNS SETOF t LANGUAGE sql STABLE AS 'SELECT * FROM t WHERE kind = k';
CREATE FUNCTION f_pl(k text) RETURNS SETOF bigint LANGUAGE plpgsql STABLE AS
    'BEGIN RETURN QUERY SELECT id FROM t WHERE name LIKE k; END';
CREATE FUNCTION is_one(i int) RETURNS bool LANGUAGE plpgsql COST 5000 AS 'BEGIN RETURN i = 1; END';
RESET search_path;
