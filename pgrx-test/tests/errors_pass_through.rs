//! Errors of Postgres cross the extension's hooks whole: every field is what the same server says in a
//! database without the extension.

use pgrx_test::fixture::{ClientExt, Database, Server};
use postgres::Client;
use postgres::error::{DbError, ErrorPosition};

const SCHEMA: &str = "
CREATE SCHEMA s;
CREATE DOMAIN s.percent AS int CONSTRAINT in_range CHECK (VALUE BETWEEN 0 AND 100);
CREATE TABLE s.parent (id int CONSTRAINT parent_key PRIMARY KEY, tenant_id uuid NOT NULL);
CREATE TABLE s.child (id int PRIMARY KEY, tenant_id uuid NOT NULL, parent int CONSTRAINT child_parent REFERENCES s.parent,
    amount int NOT NULL CONSTRAINT positive CHECK (amount > 0), share s.percent, code varchar(3), late int UNIQUE DEFERRABLE INITIALLY DEFERRED,
    EXCLUDE USING gist (box(point(amount, amount), point(amount, amount)) WITH &&));
CREATE TABLE s.part (id int, tenant_id uuid NOT NULL) PARTITION BY RANGE (id);
CREATE TABLE s.part_1 PARTITION OF s.part FOR VALUES FROM (0) TO (10);
CREATE INDEX ON s.parent (tenant_id); CREATE INDEX ON s.child (tenant_id); CREATE INDEX ON s.part (tenant_id);
CREATE VIEW s.positive AS SELECT * FROM s.child WHERE amount < 100 WITH CHECK OPTION;
CREATE FUNCTION s.inner_one(int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 10 / $1; END $$;
CREATE FUNCTION s.outer_one(int) RETURNS int LANGUAGE sql AS 'SELECT s.inner_one($1) + 1';
CREATE FUNCTION s.outermost() RETURNS int LANGUAGE plpgsql AS $$ DECLARE r int; BEGIN SELECT s.outer_one(0) INTO r; RETURN r; END $$;
CREATE FUNCTION s.shout() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'the message' USING ERRCODE = 'P4242', DETAIL = 'the detail', HINT = 'the hint', SCHEMA = 'the_schema',
        TABLE = 'the_table', COLUMN = 'the_column', DATATYPE = 'the_type', CONSTRAINT = 'the_constraint'; END $$;
CREATE FUNCTION s.again() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM s.shout(); EXCEPTION WHEN OTHERS THEN RAISE; END $$;
CREATE FUNCTION s.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.id = 666 THEN RAISE EXCEPTION 'no % here', NEW.id USING TABLE = TG_TABLE_NAME, SCHEMA = TG_TABLE_SCHEMA; END IF; RETURN NEW; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON s.child FOR EACH ROW EXECUTE FUNCTION s.refuse();
INSERT INTO s.parent VALUES (1, 'aaaaaaaa-0000-0000-0000-000000000001');
INSERT INTO s.child VALUES (1, 'aaaaaaaa-0000-0000-0000-000000000001', 1, 1, 1, 'a', 1);
GRANT USAGE ON SCHEMA s TO PUBLIC;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA s TO PUBLIC;
CREATE TABLE s.closed (a int);
";

const T: &str = "'aaaaaaaa-0000-0000-0000-000000000001'";

fn statements() -> Vec<String> {
    [
        // Constraints.
        "INSERT INTO s.parent VALUES (1, T)",
        "INSERT INTO s.child VALUES (2, T, 99, 5)",
        "DELETE FROM s.parent",
        "UPDATE s.parent SET id = 2",
        "INSERT INTO s.child VALUES (2, T, 1, 0)",
        "INSERT INTO s.child VALUES (2, T, 1, NULL)",
        "INSERT INTO s.child VALUES (2, T, 1, 5, 101)",
        "INSERT INTO s.child VALUES (2, T, 1, 5, 1, 'toolong')",
        "INSERT INTO s.child VALUES (2, T, 1, 1)",
        "INSERT INTO s.child VALUES (2, T, 1, 5, 1, 'b', 1); SET CONSTRAINTS ALL IMMEDIATE",
        "BEGIN; INSERT INTO s.child VALUES (2, T, 1, 5, 1, 'b', 1); COMMIT",
        "INSERT INTO s.part VALUES (50, T)",
        "INSERT INTO s.part_1 VALUES (50, T)",
        "UPDATE s.part SET id = 50 WHERE id = 50; INSERT INTO s.part VALUES (1, T); UPDATE s.part SET id = 50",
        "INSERT INTO s.positive VALUES (2, T, 1, 200)",
        "INSERT INTO s.child VALUES (666, T, 1, 5)",
        "INSERT INTO s.child SELECT i, T, 1, 5 - i FROM generate_series(2, 9) i",
        "MERGE INTO s.child c USING (VALUES (1), (1)) v(id) ON c.id = v.id WHEN MATCHED THEN UPDATE SET amount = 7",
        "INSERT INTO s.parent VALUES (7, T), (7, T) ON CONFLICT (id) DO UPDATE SET id = 7",
        // Functions, context lines, fields.
        "SELECT s.outermost()",
        "SELECT s.outer_one(0) FROM s.child",
        "SELECT s.shout()",
        "SELECT s.again()",
        "DO $$ BEGIN PERFORM s.outermost(); END $$",
        "DO $$ BEGIN INSERT INTO s.parent VALUES (1, 'aaaaaaaa-0000-0000-0000-000000000001'); END $$",
        "DO $$ BEGIN RAISE EXCEPTION SQLSTATE '57014'; END $$",
        "DO $$ BEGIN ASSERT false, 'asserted'; END $$",
        "DO $$ DECLARE x int; BEGIN SELECT id INTO STRICT x FROM s.child WHERE false; END $$",
        "DO $$ BEGIN EXECUTE 'SELECT 1 FROM nowhere'; END $$",
        // Expressions.
        "SELECT 1 / (amount - 1) FROM s.child",
        "SELECT amount::text::uuid FROM s.child",
        "SELECT 'x'::int",
        "SELECT 2147483647 + amount FROM s.child",
        "SELECT (SELECT generate_series(1, 2)) FROM s.child",
        "SELECT 200::s.percent",
        "SELECT '{'::jsonb",
        "SELECT sqrt(-amount) FROM s.child",
        "SELECT substring('x', 1, -amount) FROM s.child",
        "SELECT regexp_replace('x', '(', '') FROM s.child",
        // Parse analysis, planning, rights.
        "SELEC 1",
        "SELECT * FROM s.nowhere",
        "SELECT nosuch FROM s.child",
        "SELECT nosuch(amount) FROM s.child",
        "SELECT amount FROM s.child GROUP BY id HAVING sum(code) > 1",
        "SELECT * FROM s.closed",
        "INSERT INTO s.closed VALUES (1)",
        "ALTER TABLE s.child ADD x int",
        "TRUNCATE s.child",
        "BEGIN READ ONLY; DELETE FROM s.child; COMMIT",
        "BEGIN; SELECT 1/0; COMMIT",
        "PREPARE p AS SELECT 1 / $1::int; EXECUTE p(0)",
        "DECLARE c CURSOR FOR SELECT 1",
        "BEGIN; DECLARE c CURSOR FOR SELECT 1 / (amount - 1) FROM s.child; FETCH c; COMMIT",
        "SET statement_timeout = '10ms'; SELECT pg_sleep(5) FROM s.child",
        "SET lock_timeout = 'x'",
        "SET SESSION AUTHORIZATION postgres",
        "COPY s.child FROM '/nowhere'",
    ]
    .iter()
    .map(|sql| sql.replace("T,", &format!("{T},")).replace("T)", &format!("{T})")))
    .collect()
}

/// Everything that a client is told, file and line in the server's source included.
fn fields(e: &DbError) -> String {
    let position = match e.position() {
        None => String::new(),
        Some(ErrorPosition::Original(at)) => format!("at {at}"),
        Some(ErrorPosition::Internal { position, query }) => format!("at {position} in {query}"),
    };
    format!(
        "severity={} parsed={:?} code={} message={:?} detail={:?} hint={:?} position={position:?} where={:?} schema={:?} table={:?} column={:?} datatype={:?} constraint={:?} file={:?} line={:?} routine={:?}",
        e.severity(),
        e.parsed_severity(),
        e.code().code(),
        e.message(),
        e.detail(),
        e.hint(),
        e.where_(),
        e.schema(),
        e.table(),
        e.column(),
        e.datatype(),
        e.constraint(),
        e.file(),
        e.line(),
        e.routine()
    )
}

fn collect(mut connect: impl FnMut() -> Client) -> Vec<String> {
    statements()
        .iter()
        .map(|sql| {
            let mut session = connect();
            format!("{sql}\n    {}", fields(&session.error(sql)))
        })
        .collect()
}

/// Under row security Postgres itself leaves the values of rows out of DETAIL, so what is compared has
/// row security on both sides or on neither.
fn compare(server: &'static Server, protected: bool) {
    let context = format!("-c app.current_tenant_id={}", T.trim_matches('\''));
    let plain = Database::empty(Server::plain());
    plain.superuser().ok(SCHEMA);
    if protected {
        for table in ["parent", "child", "part", "part_1"] {
            plain.superuser().ok(&format!(
                "ALTER TABLE s.{table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
                 CREATE POLICY own ON s.{table} USING (tenant_id = current_setting('app.current_tenant_id')::uuid)"
            ));
        }
    }
    let role = plain.role("app");
    let expected = collect(|| plain.connect_with(&role, &context));

    let active = Database::new(server);
    let mut root = active.superuser();
    root.ok(SCHEMA);
    root.ok("SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id')");
    if protected {
        root.ok("SELECT tenancy.protect_table(t, mode => 'enforce') FROM unnest('{s.parent, s.child, s.part}'::regclass[]) t");
    }
    let role = active.role("app");
    let found = collect(|| {
        let mut session = active.connect_with(&role, &context);
        // The library, with its hooks, is in the session before the statement.
        assert!(session.text("SELECT current_tenant_id()").is_some());
        session
    });
    let mut different = Vec::new();
    for (expected, found) in expected.iter().zip(&found) {
        if expected != found {
            different.push(format!("without: {expected}\nwith:    {found}"));
        }
    }
    assert!(expected.len() > 50);
    assert!(
        different.is_empty(),
        "{} of {} differ:\n{}",
        different.len(),
        expected.len(),
        different.join("\n")
    );
}

#[test]
fn errors_are_the_same_with_the_extension_preloaded() {
    compare(Server::preloaded(), false);
}

#[test]
fn errors_on_protected_tables_are_those_of_row_security_by_hand() {
    compare(Server::preloaded(), true);
}

#[test]
fn errors_are_the_same_with_the_extension_loaded_late() {
    compare(Server::plain(), false);
    compare(Server::plain(), true);
}
