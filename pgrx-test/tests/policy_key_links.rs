//! Rows that point at another tenant's are found, counted and shown, whoever may be told.

mod policy_support;

use pgrx_test::fixture::{ClientExt, expect_error};
use policy_support::{A, B, Stage, protect};

const LINKS: &str = "SELECT child::text, constraint_name, parent::text, rows::text, query
     FROM tenancy.cross_tenant_links() ORDER BY 1, 2";

/// Five keys: one-column, two-column, to itself, NOT VALID and between partitioned tables; rows cross
/// along each of them.
fn crossing() -> Stage {
    let stage = Stage::new();
    stage.owner().ok(&format!(
        "CREATE TABLE app.p (a int, b int UNIQUE, tenant_id uuid NOT NULL, PRIMARY KEY (a, b));
         CREATE TABLE app.c (id int PRIMARY KEY, tenant_id uuid NOT NULL, a int, b int, one int, up int,
             CONSTRAINT one FOREIGN KEY (one) REFERENCES app.p (b),
             CONSTRAINT two FOREIGN KEY (a, b) REFERENCES app.p,
             CONSTRAINT up FOREIGN KEY (up) REFERENCES app.c DEFERRABLE INITIALLY DEFERRED);
         CREATE TABLE app.q (id int, tenant_id uuid NOT NULL, PRIMARY KEY (id)) PARTITION BY HASH (id);
         CREATE TABLE app.q0 PARTITION OF app.q FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE app.q1 PARTITION OF app.q FOR VALUES WITH (MODULUS 2, REMAINDER 1);
         CREATE TABLE app.d (id int, tenant_id uuid NOT NULL, q int REFERENCES app.q, loose int) PARTITION BY RANGE (id);
         CREATE TABLE app.d0 PARTITION OF app.d FOR VALUES FROM (0) TO (10);
         CREATE TABLE app.kept (id int PRIMARY KEY, tenant_id uuid NOT NULL, UNIQUE (tenant_id, id));
         CREATE TABLE app.safe (id int PRIMARY KEY, tenant_id uuid NOT NULL, k int REFERENCES app.kept,
             FOREIGN KEY (tenant_id, k) REFERENCES app.kept (tenant_id, id));
         INSERT INTO app.p VALUES (1, 10, '{A}'), (2, 20, '{B}');
         INSERT INTO app.c VALUES (1, '{A}', 1, 10, 10, 1), (2, '{B}', 1, 10, NULL, 1), (3, '{B}', 1, NULL, 10, NULL),
             (4, '{B}', 1, 10, 20, 2), (5, '{B}', NULL, NULL, 10, 1), (6, '{B}', NULL, NULL, 10, 3);
         INSERT INTO app.q VALUES (1, '{A}'), (2, '{B}');
         INSERT INTO app.d VALUES (1, '{A}', 2), (2, '{B}', 2), (3, '{A}', 1);
         INSERT INTO app.d VALUES (4, '{B}', NULL, 1), (5, '{B}', NULL, 77);"
    ));
    for table in ["p", "c", "q", "d", "kept", "safe"] {
        stage.protect(&format!("app.{table}"), "{}");
    }
    // A key that Postgres makes without looking at what is there.
    stage
        .superuser()
        .ok("ALTER TABLE app.c ADD COLUMN loose int; UPDATE app.c SET loose = 2 WHERE id IN (1, 2);
             UPDATE app.c SET loose = 99 WHERE id = 3;
             ALTER TABLE app.c ADD CONSTRAINT loose FOREIGN KEY (tenant_id, loose) REFERENCES app.kept (tenant_id, id) NOT VALID;
             INSERT INTO app.kept SELECT 2, tenant_id FROM app.c WHERE id = 2");
    stage
}

fn expected() -> Vec<[Option<&'static str>; 4]> {
    [
        ["app.c", "loose", "app.kept", "1"],
        ["app.c", "one", "app.p", "3"],
        ["app.c", "two", "app.p", "2"],
        ["app.c", "up", "app.c", "2"],
        ["app.d", "d_q_fkey", "app.q", "1"],
    ]
    .map(|row| row.map(Some))
    .to_vec()
}

#[test]
fn rows_that_cross_are_listed_key_by_key() {
    let stage = crossing();
    let mut owner = stage.owner();
    owner.ok("BEGIN READ ONLY");
    let rows = owner.rows(LINKS);
    owner.ok("COMMIT");
    let found: Vec<Vec<Option<&str>>> = rows
        .iter()
        .map(|row| row[..4].iter().map(Option::as_deref).collect())
        .collect();
    assert_eq!(
        found,
        expected(),
        "forced row security hides nothing from it"
    );
    for row in &rows {
        let query = row[4].as_deref().unwrap();
        let shown = stage.superuser().rows(query).len();
        assert_eq!(
            Some(shown.to_string().as_str()),
            row[3].as_deref(),
            "{query}"
        );
    }
    assert_eq!(
        owner.text("SELECT pg_current_xact_id_if_assigned() FROM (SELECT count(*) FROM tenancy.cross_tenant_links()) x"),
        None,
        "nothing is written"
    );
}

#[test]
fn a_key_over_rows_that_cross_is_refused_with_count_and_query() {
    let stage = crossing();
    let before = stage.dump();
    for (table, count, key) in [("app.p", 3, "one"), ("app.d", 1, "d_q_fkey")] {
        let error = stage.owner().error(&format!(
            r#"SELECT tenancy.protect_table('{table}', mode => 'enforce', options => '{{"foreign_keys": "replace"}}')"#
        ));
        expect_error(&error, "23503", &format!("{count} rows"));
        expect_error(&error, "23503", "cross_tenant_links");
        expect_error(&error, "23503", key);
        let hint = error.hint().unwrap().to_owned();
        let query = hint.split_once(": ").unwrap().1;
        assert_eq!(stage.superuser().rows(query).len(), count, "{query}");
    }
    assert_eq!(stage.dump(), before);
}

#[test]
fn only_who_administers_the_tables_is_told() {
    let stage = crossing();
    expect_error(&stage.nobody().error(LINKS), "42501", "must be owner");
    expect_error(&stage.tenant(A).error(LINKS), "42501", "must be owner");
    let other = stage.database.role("other");
    stage.superuser().ok(&format!(
        "GRANT USAGE, CREATE ON SCHEMA app TO {other}; ALTER TABLE app.p OWNER TO {other}"
    ));
    let rows = stage.database.connect(&other).rows(LINKS);
    let found: Vec<(Option<&str>, Option<&str>, Option<&str>)> = rows
        .iter()
        .map(|row| (row[1].as_deref(), row[3].as_deref(), row[4].as_deref()))
        .collect();
    assert_eq!(
        found,
        [(Some("one"), None, None), (Some("two"), None, None)],
        "of the child nothing, since it is not his"
    );
    // Who administers both is told, although no role may read both.
    let both: Vec<Vec<Option<String>>> = stage.superuser().rows(LINKS);
    let found: Vec<Vec<Option<&str>>> = both
        .iter()
        .map(|row| row[..4].iter().map(Option::as_deref).collect())
        .collect();
    assert_eq!(found, expected());
}

#[test]
fn types_whose_equality_is_not_postgres_own_are_compared_as_the_key_does() {
    let stage = Stage::new();
    // A type of a schema's own, equal without regard to case, as citext is.
    stage.superuser().ok(
        "CREATE SCHEMA ext; GRANT USAGE ON SCHEMA ext TO PUBLIC; CREATE TYPE ext.word AS (t text);
         CREATE FUNCTION ext.cmp(ext.word, ext.word) RETURNS int LANGUAGE sql IMMUTABLE AS $$SELECT pg_catalog.bttextcmp(lower(($1).t), lower(($2).t))$$;
         CREATE FUNCTION ext.eq(ext.word, ext.word) RETURNS bool LANGUAGE sql IMMUTABLE AS $$SELECT ext.cmp($1, $2) = 0$$;
         CREATE FUNCTION ext.lt(ext.word, ext.word) RETURNS bool LANGUAGE sql IMMUTABLE AS $$SELECT ext.cmp($1, $2) < 0$$;
         CREATE FUNCTION ext.le(ext.word, ext.word) RETURNS bool LANGUAGE sql IMMUTABLE AS $$SELECT ext.cmp($1, $2) <= 0$$;
         CREATE FUNCTION ext.gt(ext.word, ext.word) RETURNS bool LANGUAGE sql IMMUTABLE AS $$SELECT ext.cmp($1, $2) > 0$$;
         CREATE FUNCTION ext.ge(ext.word, ext.word) RETURNS bool LANGUAGE sql IMMUTABLE AS $$SELECT ext.cmp($1, $2) >= 0$$;
         CREATE OPERATOR ext.= (LEFTARG = ext.word, RIGHTARG = ext.word, FUNCTION = ext.eq);
         CREATE OPERATOR ext.< (LEFTARG = ext.word, RIGHTARG = ext.word, FUNCTION = ext.lt);
         CREATE OPERATOR ext.<= (LEFTARG = ext.word, RIGHTARG = ext.word, FUNCTION = ext.le);
         CREATE OPERATOR ext.> (LEFTARG = ext.word, RIGHTARG = ext.word, FUNCTION = ext.gt);
         CREATE OPERATOR ext.>= (LEFTARG = ext.word, RIGHTARG = ext.word, FUNCTION = ext.ge);
         CREATE OPERATOR CLASS ext.word_ops DEFAULT FOR TYPE ext.word USING btree AS OPERATOR 1 ext.<, OPERATOR 2 ext.<=,
             OPERATOR 3 ext.=, OPERATOR 4 ext.>=, OPERATOR 5 ext.>, FUNCTION 1 ext.cmp(ext.word, ext.word)",
    );
    stage.owner().ok(&format!(
        "CREATE TABLE app.p (w ext.word PRIMARY KEY, tenant_id uuid NOT NULL);
         CREATE TABLE app.c (id int, tenant_id uuid NOT NULL, w ext.word REFERENCES app.p);
         INSERT INTO app.p VALUES (ROW('One'), '{A}'), (ROW('Two'), '{B}');
         INSERT INTO app.c VALUES (1, '{A}', ROW('ONE')), (2, '{B}', ROW('one')), (3, '{B}', ROW('two'))"
    ));
    let mut superuser = stage.superuser();
    for table in ["app.p", "app.c"] {
        protect(&mut superuser, table, "{}");
    }
    let count = "SELECT rows FROM tenancy.cross_tenant_links()";
    assert_eq!(stage.owner().int(count), 1);
    let add = r#"SELECT tenancy.protect_table('app.c', mode => 'enforce', options => '{"foreign_keys": "add"}')"#;
    expect_error(&stage.owner().error(add), "23503", "1 rows");
    // The same between owners, where the values travel as text.
    let other = stage.database.role("other");
    superuser.ok(&format!(
        "GRANT USAGE, CREATE ON SCHEMA app TO {other}; ALTER TABLE app.p OWNER TO {other}"
    ));
    assert_eq!(superuser.int(count), 1);
}

#[test]
fn nothing_registered_and_nothing_crossing_are_empty() {
    let stage = Stage::new();
    assert!(stage.owner().rows(LINKS).is_empty());
    stage.owner().ok(&format!(
        "CREATE TABLE app.p (id int PRIMARY KEY, tenant_id uuid); CREATE TABLE app.c (id int, tenant_id uuid, p int REFERENCES app.p);
         INSERT INTO app.p VALUES (1, '{A}'); INSERT INTO app.c VALUES (1, '{A}', 1), (2, '{B}', NULL)"
    ));
    stage
        .owner()
        .ok("SELECT tenancy.protect_schema('app', mode => 'permissive')");
    assert!(stage.owner().rows(LINKS).is_empty());
    stage.owner().ok("INSERT INTO app.c VALUES (3, NULL, 1)");
    assert_eq!(
        stage.owner().rows(LINKS).len(),
        1,
        "a row without a tenant points at a tenant's"
    );
}
