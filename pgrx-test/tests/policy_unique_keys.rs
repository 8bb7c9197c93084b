//! Unique keys without the tenant are reported and, on request, rewritten and restored.

mod policy_support;

use pgrx_test::fixture::{ClientExt, expect_error};
use policy_support::{A, B, Stage, protect};

const REPLACE: &str = r#"{"unique_keys": "replace"}"#;

fn keys(stage: &Stage, table: &str) -> Vec<String> {
    stage
        .superuser()
        .texts(&format!(
            "SELECT coalesce(con.conname || ' ' || pg_get_constraintdef(con.oid), pg_get_indexdef(i.indexrelid))
             FROM pg_index i LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid AND con.contype IN ('u', 'p', 'x')
             WHERE i.indrelid = 'app.{table}'::regclass AND (i.indisunique OR i.indisexclusion) ORDER BY 1"
        ))
}

#[test]
fn a_unique_key_tells_of_other_tenants_and_is_reported() {
    let stage = Stage::new();
    stage.owner().ok(&format!(
        "CREATE TABLE app.people (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL, email text UNIQUE);
         CREATE TABLE app.coded (code text PRIMARY KEY, tenant_id uuid NOT NULL, day date, UNIQUE (day, tenant_id));
         INSERT INTO app.people (tenant_id, email) VALUES ('{A}', 'ann@a')"
    ));
    let result = stage.protect("app.people", "{}");
    assert!(
        result.contains("1 unique key does not carry the tenant")
            && result.ends_with(": people_email_key")
            && !result.contains("people_pkey"),
        "{result}"
    );
    let result = stage.protect("app.coded", "{}");
    assert!(
        result.ends_with(": coded_pkey") && !result.contains("day"),
        "{result}"
    );
    let insert = format!("INSERT INTO app.people (tenant_id, email) VALUES ('{B}', 'ann@a')");
    let mut b = stage.tenant(B);
    expect_error(&b.error(&insert), "23505", "people_email_key");
    assert_eq!(
        stage.protect("app.people", REPLACE),
        "enforced",
        "the oracle is closed"
    );
    b.ok(&insert);
    expect_error(&b.error(&insert), "23505", "people_email_key");
    assert_eq!(b.int("SELECT count(*) FROM app.people"), 1);
}

const SHAPES: &str = "CREATE TABLE app.t (id int PRIMARY KEY, tenant_id uuid NOT NULL, a text, b int, \"Weird \"\"c\" text, r int4range,
         CONSTRAINT plain UNIQUE (a), CONSTRAINT late UNIQUE (b, a) DEFERRABLE INITIALLY DEFERRED,
         CONSTRAINT soft UNIQUE (b) DEFERRABLE, CONSTRAINT more UNIQUE NULLS NOT DISTINCT (\"Weird \"\"c\") INCLUDE (b, a) WITH (fillfactor = 70),
         CONSTRAINT apart EXCLUDE USING gist (r WITH &&), CONSTRAINT kept UNIQUE (a, tenant_id), CONSTRAINT code UNIQUE (a, b, id));
     CREATE UNIQUE INDEX expr ON app.t (lower(a), b DESC NULLS LAST) INCLUDE (id) WITH (fillfactor = 80) WHERE b > 0 AND a <> ' USING btree (';
     CREATE UNIQUE INDEX \"On app.t\" ON app.t (a COLLATE \"C\" text_pattern_ops) NULLS NOT DISTINCT;
     CREATE UNIQUE INDEX replica ON app.t (id, tenant_id);
     COMMENT ON CONSTRAINT plain ON app.t IS 'it''s said'; COMMENT ON INDEX app.expr IS 'said too';
     ALTER TABLE app.t CLUSTER ON plain";

#[test]
fn every_part_of_a_unique_key_is_preserved_and_restored() {
    let stage = Stage::new();
    stage.owner().ok(SHAPES);
    let before = stage.dump();
    let script = stage
        .owner()
        .text(&format!(
            "SELECT tenancy.policy_sql('app.t', options => '{REPLACE}')"
        ))
        .unwrap();
    let result = stage.protect("app.t", REPLACE);
    assert!(
        result.contains("unique key \"apart\" does not carry the tenant and stays"),
        "{result}"
    );
    assert_eq!(
        keys(&stage, "t"),
        [
            "CREATE UNIQUE INDEX \"On app.t\" ON app.t USING btree (tenant_id, a COLLATE \"C\" text_pattern_ops) NULLS NOT DISTINCT",
            "CREATE UNIQUE INDEX expr ON app.t USING btree (tenant_id, lower(a), b DESC NULLS LAST) INCLUDE (id) WITH (fillfactor='80') WHERE ((b > 0) AND (a <> ' USING btree ('::text))",
            "CREATE UNIQUE INDEX replica ON app.t USING btree (id, tenant_id)",
            "apart EXCLUDE USING gist (r WITH &&)",
            "code UNIQUE (tenant_id, a, b, id)",
            "kept UNIQUE (a, tenant_id)",
            "late UNIQUE (tenant_id, b, a) DEFERRABLE INITIALLY DEFERRED",
            "more UNIQUE NULLS NOT DISTINCT (tenant_id, \"Weird \"\"c\") INCLUDE (b, a)",
            "plain UNIQUE (tenant_id, a)",
            "soft UNIQUE (tenant_id, b) DEFERRABLE",
            "t_pkey PRIMARY KEY (id)",
        ]
    );
    let dump = stage.dump();
    for kept in [
        "it''s said",
        "said too",
        "fillfactor='70'",
        "CLUSTER ON plain",
    ] {
        assert!(dump.contains(kept), "{kept} is lost:\n{dump}");
    }
    let again = stage.protect("app.t", REPLACE);
    assert!(again.starts_with("enforced (unchanged)"), "{again}");
    // The printed statements give the same.
    let late = stage
        .owner()
        .text("SELECT tenancy.policy_sql('app.t')")
        .unwrap();
    assert_eq!(script, late, "stable output");
    let copy = Stage::new();
    copy.owner().ok(SHAPES);
    copy.owner().ok(&script);
    let strip = |text: String, stage: &Stage| {
        text.replace(&stage.owner, "owner")
            .replace(&stage.app, "app_role")
    };
    assert_eq!(strip(dump, &stage), strip(copy.dump(), &copy));
    // Reporting only, later on, takes nothing back; unprotecting does.
    stage.protect("app.t", "{}");
    assert_eq!(keys(&stage, "t")[8], "plain UNIQUE (tenant_id, a)");
    stage.owner().ok("SELECT tenancy.unprotect_table('app.t')");
    assert_eq!(stage.dump(), before);
}

#[test]
fn what_depends_on_a_unique_key_keeps_it() {
    let stage = Stage::new();
    stage.owner().ok(
        "CREATE TABLE app.p (id int PRIMARY KEY, tenant_id uuid NOT NULL, code text NOT NULL UNIQUE, tag text NOT NULL,
             up text REFERENCES app.p (code));
         CREATE UNIQUE INDEX ident ON app.p (tag);
         ALTER TABLE app.p REPLICA IDENTITY USING INDEX ident;
         CREATE TABLE app.c (id int, tenant_id uuid NOT NULL, code text REFERENCES app.p (code))",
    );
    let before = stage.dump();
    let unique = keys(&stage, "p");
    let result = stage.protect("app.p", REPLACE);
    for (key, why) in [
        ("p_code_key", "foreign key \"c_code_fkey\" needs it"),
        ("ident", "it is the replica identity"),
    ] {
        assert!(
            result.contains(&format!(
                "unique key \"{key}\" does not carry the tenant and stays: {why}"
            )),
            "{result}"
        );
    }
    assert_eq!(keys(&stage, "p"), unique);
    // A foreign key that was replaced needs it again when that is taken back.
    let both = r#"{"unique_keys": "replace", "foreign_keys": "replace"}"#;
    for table in ["app.c", "app.p"] {
        stage.protect(table, both);
    }
    for table in ["app.p", "app.c"] {
        let result = stage.protect(table, both);
        assert!(result.starts_with("enforced (unchanged)"), "{result}");
    }
    assert!(keys(&stage, "p").contains(&"p_code_key UNIQUE (code)".to_owned()));
    for order in [["app.c", "app.p"], ["app.p", "app.c"]] {
        for table in order {
            stage
                .owner()
                .ok(&format!("SELECT tenancy.unprotect_table('{table}')"));
        }
        assert_eq!(stage.dump(), before, "{order:?}");
        for table in order {
            stage.protect(table, both);
        }
    }
}

#[test]
fn partitioned_tables_are_rewritten_as_a_whole() {
    let stage = Stage::new();
    stage.owner().ok(&format!(
        "CREATE TABLE app.e (day int, tenant_id uuid NOT NULL, code text, CONSTRAINT e_key UNIQUE (day, code)) PARTITION BY RANGE (day);
         CREATE TABLE app.e1 PARTITION OF app.e FOR VALUES FROM (1) TO (10);
         CREATE UNIQUE INDEX own ON app.e1 (code);
         INSERT INTO app.e VALUES (1, '{A}', 'x')"
    ));
    let before = stage.dump();
    stage.protect("app.e", REPLACE);
    assert_eq!(keys(&stage, "e"), ["e_key UNIQUE (tenant_id, day, code)"]);
    assert_eq!(
        keys(&stage, "e1"),
        [
            "CREATE UNIQUE INDEX own ON app.e1 USING btree (tenant_id, code)",
            "e1_tenant_id_day_code_key UNIQUE (tenant_id, day, code)"
        ]
    );
    stage
        .tenant(B)
        .ok(&format!("INSERT INTO app.e VALUES (1, '{B}', 'x')"));
    stage
        .superuser()
        .ok(&format!("DELETE FROM app.e WHERE tenant_id = '{B}'"));
    stage.owner().ok("SELECT tenancy.unprotect_table('app.e')");
    assert_eq!(stage.dump(), before);
}

#[test]
fn values_that_two_tenants_share_by_now_keep_the_tenant_in_the_key() {
    let stage = Stage::new();
    stage
        .owner()
        .ok("CREATE TABLE app.t (id int PRIMARY KEY, tenant_id uuid NOT NULL, a text UNIQUE, b text UNIQUE)");
    stage.protect("app.t", REPLACE);
    stage
        .tenant(A)
        .ok(&format!("INSERT INTO app.t VALUES (1, '{A}', 'x', 'y')"));
    stage
        .tenant(B)
        .ok(&format!("INSERT INTO app.t VALUES (2, '{B}', 'x', 'z')"));
    stage.owner().ok("SELECT tenancy.unprotect_table('app.t')");
    assert_eq!(
        keys(&stage, "t"),
        [
            "t_a_key UNIQUE (tenant_id, a)",
            "t_b_key UNIQUE (b)",
            "t_pkey PRIMARY KEY (id)"
        ]
    );
}

#[test]
fn a_key_that_was_changed_by_hand_since_is_left_alone() {
    let stage = Stage::new();
    stage
        .owner()
        .ok("CREATE TABLE app.t (id int PRIMARY KEY, tenant_id uuid NOT NULL, a text UNIQUE, b text UNIQUE)");
    stage.protect("app.t", REPLACE);
    stage.owner().ok(
        "ALTER TABLE app.t DROP CONSTRAINT t_a_key, DROP CONSTRAINT t_b_key, ADD CONSTRAINT t_a_key UNIQUE (a, id)",
    );
    stage.owner().ok("SELECT tenancy.unprotect_table('app.t')");
    assert_eq!(
        keys(&stage, "t"),
        ["t_a_key UNIQUE (a, id)", "t_pkey PRIMARY KEY (id)"]
    );
}

#[test]
fn large_tables_get_a_script_that_keeps_no_writer_away() {
    let stage = Stage::new();
    stage.owner().ok(&format!(
        "CREATE TABLE app.t (id int PRIMARY KEY, tenant_id uuid NOT NULL, a text, b text, CONSTRAINT a UNIQUE (a) DEFERRABLE);
         CREATE UNIQUE INDEX lower_b ON app.t (lower(b)) WHERE b <> '';
         CREATE INDEX by_tenant ON app.t (tenant_id);
         INSERT INTO app.t SELECT i, '{A}', 'a' || i, 'b' || i FROM generate_series(1, 100) i; ANALYZE app.t"
    ));
    let before = stage.dump();
    let mut owner = stage.owner();
    owner.ok("SET pg_tenancy.inline_ddl_rows = 0");
    let result = protect(&mut owner, "app.t", REPLACE);
    let (_, script) = result.split_once("by itself:\n").expect("a script");
    let statements: Vec<&str> = script
        .split_terminator(";\n")
        .map(|s| s.trim_end_matches(';'))
        .collect();
    assert_eq!(statements.len(), 5, "{result}");
    assert_eq!(
        keys(&stage, "t")[1],
        "a UNIQUE (a) DEFERRABLE",
        "nothing is locked by the call"
    );
    // Broken off after the first statement, and asked for again.
    let mut superuser = stage.superuser();
    superuser.ok(statements[0]);
    let result = protect(&mut owner, "app.t", REPLACE);
    let (_, script) = result.split_once("by itself:\n").expect("a script");
    for statement in script.split_terminator(";\n") {
        superuser.ok(statement.trim_end_matches(';'));
    }
    assert_eq!(
        keys(&stage, "t"),
        [
            "CREATE UNIQUE INDEX lower_b ON app.t USING btree (tenant_id, lower(b)) WHERE (b <> ''::text)",
            "a UNIQUE (tenant_id, a) DEFERRABLE",
            "t_pkey PRIMARY KEY (id)"
        ]
    );
    let result = protect(&mut owner, "app.t", REPLACE);
    assert_eq!(result, "enforced (unchanged)");
    owner.ok("SELECT tenancy.unprotect_table('app.t')");
    assert_eq!(stage.dump(), before);
    // A script of which only a part was run is taken back as well.
    let result = protect(&mut owner, "app.t", REPLACE);
    let (_, script) = result.split_once("by itself:\n").expect("a script");
    superuser.ok(script.split_once(";\n").unwrap().0);
    owner.ok("SELECT tenancy.unprotect_table('app.t')");
    assert_eq!(stage.dump(), before);
}

#[test]
fn the_option_is_checked_and_primary_keys_are_never_rewritten() {
    let stage = Stage::new();
    stage
        .owner()
        .ok("CREATE TABLE app.t (code text PRIMARY KEY, tenant_id uuid NOT NULL)");
    let error = stage.owner().error(
        r#"SELECT tenancy.protect_table('app.t', mode => 'enforce', options => '{"unique_keys": "add"}')"#,
    );
    expect_error(&error, "22023", "unique_keys");
    let result = stage.protect("app.t", REPLACE);
    assert!(
        result.contains("unique key \"t_pkey\" does not carry the tenant and stays: primary keys are not rewritten"),
        "{result}"
    );
    assert_eq!(keys(&stage, "t"), ["t_pkey PRIMARY KEY (code)"]);
}
