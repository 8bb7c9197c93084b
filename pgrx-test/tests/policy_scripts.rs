//! Scripts for large tables: what they must not pass over, and that they end where the call would.

mod policy_support;

use pgrx_test::fixture::{ClientExt, expect_error};
use policy_support::{A, B, Stage, protect};

/// The statements of the script that a result ends with.
fn script(result: &str) -> Vec<String> {
    let (_, script) = result.split_once("by itself:\n").expect("a script");
    script
        .split_terminator(";\n")
        .map(|statement| statement.trim_end_matches(';').to_owned())
        .collect()
}

/// Two enforced tables whose key between them was made by script, up to its validation; a row of B
/// points at one of A.
fn unvalidated() -> (Stage, String) {
    let stage = Stage::new();
    stage.owner().ok(&format!(
        "CREATE TABLE app.p (id int PRIMARY KEY, tenant_id uuid NOT NULL, UNIQUE (tenant_id, id));
         CREATE TABLE app.c (id int PRIMARY KEY, tenant_id uuid NOT NULL, p int REFERENCES app.p);
         INSERT INTO app.p VALUES (1, '{A}'), (2, '{B}');
         INSERT INTO app.c VALUES (1, '{A}', 1), (2, '{B}', 1); ANALYZE app.p, app.c"
    ));
    let mut owner = stage.owner();
    protect(&mut owner, "app.p", "{}");
    protect(&mut owner, "app.c", "{}");
    owner.ok("SET pg_tenancy.inline_ddl_rows = 0");
    let result = protect(&mut owner, "app.c", r#"{"foreign_keys": "add"}"#);
    let validate: Vec<String> = script(&result)
        .into_iter()
        .filter(|statement| statement.contains("VALIDATE CONSTRAINT"))
        .collect();
    assert_eq!(validate.len(), 1, "{result}");
    (stage, validate.concat())
}

const VALIDATED: &str =
    "SELECT convalidated::text FROM pg_constraint WHERE conname = 'c_p_fkey_tenant'";

#[test]
fn validating_as_a_bound_owner_never_passes_over_rows() {
    let (stage, validate) = unvalidated();
    // What the statement guards against: a bound owner sees the rows of A only, which are right.
    let mut owner = stage.role_as(&stage.owner, A);
    owner.ok("BEGIN; ALTER TABLE app.c VALIDATE CONSTRAINT c_p_fkey_tenant");
    assert_eq!(owner.text(VALIDATED).as_deref(), Some("true"), "the trap");
    owner.ok("ROLLBACK");

    expect_error(&owner.error(&validate), "42501", "row-level security");
    assert_eq!(owner.text(VALIDATED).as_deref(), Some("false"));
    assert_eq!(
        owner.text("SHOW row_security").as_deref(),
        Some("on"),
        "the session is as it was"
    );
    expect_error(
        &stage.owner().error(&validate),
        "42501",
        "row-level security",
    );
    assert_eq!(owner.text(VALIDATED).as_deref(), Some("false"));
}

#[test]
fn validating_as_an_exempt_role_finds_the_row() {
    let (stage, validate) = unvalidated();
    let mut superuser = stage.superuser();
    expect_error(&superuser.error(&validate), "23503", "c_p_fkey_tenant");
    superuser.ok("DELETE FROM app.c WHERE id = 2");
    superuser.ok(&format!("BEGIN; {validate}"));
    assert_eq!(
        superuser.text("SHOW row_security").as_deref(),
        Some("on"),
        "only for the statement"
    );
    superuser.ok("COMMIT");
    assert_eq!(superuser.text(VALIDATED).as_deref(), Some("true"));
    assert_eq!(
        stage.protect("app.c", r#"{"foreign_keys": "add"}"#),
        "enforced (unchanged)"
    );
}

#[test]
fn the_script_of_a_partitioned_table_ends_in_one_index() {
    let stage = Stage::new();
    stage.owner().ok(&format!(
        "CREATE TABLE app.events (id int, tenant_id uuid, at int) PARTITION BY RANGE (at);
         CREATE TABLE app.events_1 PARTITION OF app.events FOR VALUES FROM (0) TO (10);
         CREATE TABLE app.\"Events 2\" PARTITION OF app.events FOR VALUES FROM (10) TO (20) PARTITION BY LIST (id);
         CREATE TABLE app.events_2a PARTITION OF app.\"Events 2\" FOR VALUES IN (1);
         CREATE TABLE app.events_2b PARTITION OF app.\"Events 2\" DEFAULT;
         CREATE INDEX own ON app.events_2b (tenant_id);
         INSERT INTO app.events VALUES (1, '{A}', 5), (1, '{A}', 15), (2, '{B}', 15); ANALYZE app.events"
    ));
    let before = stage.dump();
    let mut owner = stage.owner();
    owner.ok("SET pg_tenancy.inline_ddl_rows = 0");
    let results = owner.rows(
        "SELECT relation::text, result FROM tenancy.protect_table('app.events', mode => 'enforce')",
    );
    let indexes = "SELECT count(*) FROM pg_class WHERE relkind IN ('i', 'I') AND relnamespace = 'app'::regnamespace";
    assert_eq!(owner.int(indexes), 1, "none was built in place");
    assert_eq!(stage.tenant(B).int("SELECT count(*) FROM app.events"), 1);

    let statements: Vec<String> = results
        .iter()
        .filter_map(|row| row[1].as_deref())
        .filter(|result| result.contains("by itself:"))
        .flat_map(script)
        .collect();
    let mut session = stage.owner();
    for statement in &statements {
        session.ok(statement);
    }
    let attached = "SELECT count(*) FROM pg_partition_tree('app.events_tenant_idx') t
         JOIN pg_index i ON i.indexrelid = t.relid WHERE i.indisvalid";
    assert_eq!(
        stage.superuser().int(attached),
        5,
        "the parent's, one of each partition, all valid: {statements:?}"
    );
    assert_eq!(
        owner.int(indexes),
        5,
        "each partition has one, the one that it had before or the script's: {statements:?}"
    );
    let not_null = "SELECT count(*) FROM pg_attribute WHERE attname = 'tenant_id' AND attnotnull
         AND attrelid IN (SELECT relid FROM pg_partition_tree('app.events'))";
    assert_eq!(stage.superuser().int(not_null), 5);

    let again =
        owner.rows("SELECT result FROM tenancy.protect_table('app.events', mode => 'enforce')");
    for row in &again {
        assert_eq!(row[0].as_deref(), Some("enforced (unchanged)"));
    }
    let mut b = stage.tenant(B);
    b.ok("SET enable_seqscan = off; SET enable_bitmapscan = off");
    let plan = policy_support::plan_of(&mut b, "SELECT * FROM app.events");
    assert_eq!(plan.matches("Index Cond").count(), 3, "{plan}");

    owner.ok("SELECT tenancy.unprotect_table('app.events')");
    assert_eq!(stage.dump(), before);
}

#[test]
fn a_script_that_was_run_in_part_is_taken_back_and_asked_for_again() {
    let stage = Stage::new();
    stage.owner().ok(
        "CREATE TABLE app.events (id int, tenant_id uuid NOT NULL) PARTITION BY RANGE (id);
         CREATE TABLE app.events_1 PARTITION OF app.events FOR VALUES FROM (0) TO (10);
         CREATE TABLE app.events_2 PARTITION OF app.events FOR VALUES FROM (10) TO (20);
         INSERT INTO app.events SELECT 1, gen_random_uuid(); ANALYZE app.events",
    );
    let before = stage.dump();
    let mut owner = stage.owner();
    owner.ok("SET pg_tenancy.inline_ddl_rows = 0");
    let first = script(&protect(&mut owner, "app.events", "{}"));
    assert_eq!(first.len(), 3, "{first:?}");
    owner.ok(&first[0]);
    let second = script(&protect(&mut owner, "app.events", "{}"));
    assert_eq!(second, first[1..], "what is done is not asked for again");
    owner.ok("SELECT tenancy.unprotect_table('app.events')");
    assert_eq!(stage.dump(), before);
}
