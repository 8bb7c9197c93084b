//! Expected columns: rules, their statuses, snapshots, and who may write them. The owner of the database
//! acts, an ordinary role.

mod policy_support;
mod scenario_support;

use pgrx_test::fixture::{ClientExt, Database, expect_error, quote_ident};
use pgrx_test::scenario::AGENTS;
use policy_support::Stage;
use postgres::Client;

/// A stage whose owner owns the database too.
fn owned() -> Stage {
    let stage = Stage::new();
    give(&stage.database, &stage.owner);
    stage
}

fn give(database: &Database, owner: &str) {
    database.superuser().ok(&format!(
        "ALTER DATABASE {} OWNER TO {owner}",
        quote_ident(&database.name)
    ));
}

/// `table.column STATUS` of all that is not OK.
fn wrong(session: &mut Client, call: &str) -> Vec<String> {
    session
        .texts(&format!(
            "SELECT table_name || '.' || column_name || ' ' || status FROM {call} WHERE status <> 'OK' ORDER BY 1"
        ))
}

/// The status of the only rule.
fn status(session: &mut Client) -> String {
    session
        .text("SELECT string_agg(status, ',') FROM validate_schema()")
        .expect("a rule")
}

#[test]
fn types_are_compared_as_types() {
    let stage = owned();
    let mut owner = stage.owner();
    owner.ok(
        "CREATE TYPE app.state AS ENUM ('on', 'off'); CREATE DOMAIN app.key AS text;
         CREATE TABLE app.t (a varchar(50), b text, c numeric(10,2), d timestamptz(3), e text[], f app.state, g app.key, h \"char\", i int)",
    );
    for (column, spelling, expected) in [
        ("a", "varchar(50)", "OK"),
        ("a", "character varying(50)", "OK"),
        ("a", "VARCHAR ( 50 )", "OK"),
        ("a", "varchar", "OK"),
        ("a", "pg_catalog.varchar", "OK"),
        ("a", "varchar(51)", "TYPE_MISMATCH"),
        ("a", "text", "TYPE_MISMATCH"),
        ("b", "text", "OK"),
        ("b", "varchar", "TYPE_MISMATCH"),
        ("c", "decimal(10,2)", "OK"),
        ("c", "numeric", "OK"),
        ("c", "numeric(10,3)", "TYPE_MISMATCH"),
        ("d", "timestamp(3) with time zone", "OK"),
        ("d", "timestamptz", "OK"),
        ("d", "timestamp", "TYPE_MISMATCH"),
        ("e", "text[]", "OK"),
        ("e", "text", "TYPE_MISMATCH"),
        ("f", "state", "OK"),
        ("f", "app.state", "OK"),
        ("g", "key", "OK"),
        ("g", "text", "TYPE_MISMATCH"),
        ("h", "\"char\"", "OK"),
        ("h", "char", "TYPE_MISMATCH"),
        ("i", "int4", "OK"),
        ("i", "bigint", "TYPE_MISMATCH"),
    ] {
        owner.ok(&format!(
            "SELECT tenancy.expect_column('app', 't', '{column}', '{spelling}')"
        ));
        assert_eq!(status(&mut owner), expected, "{column} {spelling}");
        owner.ok("SELECT tenancy.unexpect_column('app', 't')");
    }
    owner.ok("SELECT tenancy.expect_column('app', 't', 'a', 'varchar', exact => true)");
    assert_eq!(status(&mut owner), "TYPE_MISMATCH");
}

#[test]
fn a_callers_search_path_has_no_part_in_it() {
    let stage = owned();
    let mut owner = stage.owner();
    owner.ok(
        "CREATE TABLE app.t (a text DEFAULT lower('X'), b int DEFAULT 1);
         CREATE SCHEMA trap; CREATE DOMAIN trap.text AS integer; CREATE DOMAIN trap.other AS text;
         SELECT tenancy.expect_from_current('app');
         SET search_path = trap, pg_catalog, app",
    );
    assert!(wrong(&mut owner, "public.validate_schema(true)").is_empty());
    expect_error(
        &owner.error("SELECT tenancy.expect_column('app', 't', 'a', 'other')"),
        "42704",
        "type \"other\" does not exist",
    );
}

#[test]
fn tenant_columns_may_be_of_what_protection_takes() {
    for (tenant_type, column, status) in [
        ("text", "varchar(40)", "OK"),
        ("text", "app.tenant", "OK"),
        ("text", "app.short_tenant", "OK"),
        ("text", "uuid", "TYPE_MISMATCH"),
        ("bigint", "app.number", "OK"),
        ("bigint", "integer", "TYPE_MISMATCH"),
    ] {
        let stage = Stage::with_type(tenant_type);
        let mut owner = stage.owner();
        owner.ok(&format!(
            "CREATE DOMAIN app.tenant AS text; CREATE DOMAIN app.short_tenant AS varchar(40) CHECK (VALUE <> '');
             CREATE DOMAIN app.number AS bigint; CREATE TABLE app.t (tenant_id {tenant_type} NOT NULL)"
        ));
        stage.protect("app.t", "{}");
        owner.ok(&format!(
            "SELECT tenancy.set_mode('app.t', 'permissive'); ALTER TABLE app.t ALTER tenant_id TYPE {column} USING NULL"
        ));
        let told = owner.texts("SELECT status FROM validate_multitenancy_schema()");
        assert_eq!(told, [status], "{tenant_type} {column}");
        let code = stage
            .superuser()
            .int("SELECT count(*) FROM tenancy.validate() WHERE code = 'tenant-column-type'");
        assert_eq!(code, i64::from(status != "OK"), "{tenant_type} {column}");
    }
}

#[test]
fn defaults_are_compared_whatever_a_session_shows_them_like() {
    let stage = owned();
    let mut owner = stage.owner();
    owner.ok(
        "CREATE TABLE app.t (a timestamptz DEFAULT '2020-01-31 12:00+00', b date DEFAULT '2020-01-31', c interval DEFAULT '1 day 2 hours',
             d float8 DEFAULT 0.1, e bytea DEFAULT 'x', f text DEFAULT current_tenant_id_text());
         SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'; SET IntervalStyle = 'iso_8601'; SET extra_float_digits = -5;
         SET bytea_output = 'escape'; SET quote_all_identifiers = on; SELECT tenancy.expect_from_current('app')",
    );
    assert!(wrong(&mut owner, "validate_schema(true)").is_empty());
    let mut other = stage.owner();
    assert!(wrong(&mut other, "validate_schema(true)").is_empty());
    other.ok("SET TimeZone = 'America/Lima'; ALTER TABLE app.t ALTER a SET DEFAULT '2020-01-31 12:00+01'");
    assert_eq!(
        wrong(&mut other, "validate_schema(true)"),
        ["t.a DEFAULT_MISMATCH"]
    );
}

#[test]
fn two_sessions_may_take_the_same_snapshot() {
    let stage = owned();
    let mut owner = stage.owner();
    owner.ok("CREATE TABLE app.t (a int, b int); CREATE TABLE app.u (c int)");
    let count = "SELECT tenancy.expect_from_current('app')";
    // The first ever, and one that replaces another.
    for _ in 0..2 {
        owner.ok("BEGIN");
        assert_eq!(owner.int(count), 3);
        let mut other = stage.owner();
        let process = other.int("SELECT pg_backend_pid()");
        let waits = std::thread::spawn(move || {
            let counted = other.int(count);
            (
                counted,
                other.int("SELECT count(*) FROM tenancy.expected_columns"),
            )
        });
        stage
            .superuser()
            .see_waiting(process, "wait_event_type = 'Lock'");
        owner.ok("COMMIT");
        assert_eq!(waits.join().expect("no error"), (3, 3));
    }
    assert_eq!(
        owner
            .rows("SELECT tenancy.expect_from_current('app'), tenancy.expect_from_current('app')")
            .len(),
        1
    );
    assert!(wrong(&mut owner, "validate_schema(true)").is_empty());
}

#[test]
fn every_status_is_told_apart() {
    let stage = owned();
    let mut owner = stage.owner();
    owner.ok("CREATE TABLE app.parent (id int PRIMARY KEY);
         CREATE TABLE app.t (id int PRIMARY KEY, a int DEFAULT 1, p int REFERENCES app.parent, q int, n int NOT NULL);
         CREATE TYPE app.gone AS ENUM ('x')");
    for rule in [
        "'t', 'a', default_expression => '2'",
        "'t', 'p', 'int', true, '', false, 'app.parent(id)'",
        "'t', 'q', foreign_key => 'app.parent(id)'",
        "'t', 'n', 'int', true",
        "'t', 'id', 'int', false, primary_key => false",
        "'t', 'nothing', 'int'",
        "'nowhere', 'x'",
        "'parent', 'id', 'gone'",
    ] {
        owner.ok(&format!("SELECT tenancy.expect_column('app', {rule})"));
    }
    owner.ok("DROP TYPE app.gone");
    assert_eq!(
        wrong(&mut owner, "validate_schema()"),
        [
            "nowhere.x MISSING",
            "parent.id UNKNOWN_TYPE",
            "t.a DEFAULT_MISMATCH",
            "t.id PRIMARY_KEY_MISMATCH",
            "t.n NULLABLE_MISMATCH",
            "t.nothing MISSING",
            "t.q FOREIGN_KEY_MISMATCH",
        ]
    );
    // An application sees the same: names and types are in the catalogs.
    assert_eq!(wrong(&mut stage.nobody(), "validate_schema()").len(), 7);
    assert_eq!(
        owner
            .text(
                "SELECT expected || ' / ' || actual FROM validate_schema() WHERE column_name = 'n'"
            )
            .as_deref(),
        Some("int null / integer not null")
    );
}

#[test]
fn extra_columns_are_told_where_asked() {
    let stage = owned();
    let mut owner = stage.owner();
    owner.ok(
        "CREATE TABLE app.t (a int, b int); CREATE TABLE public.other (a int);
         SELECT tenancy.expect_column('app', 't', 'a', 'int')",
    );
    assert!(wrong(&mut owner, "validate_schema()").is_empty());
    assert_eq!(wrong(&mut owner, "validate_schema(true)"), ["t.b EXTRA"]);
    owner.ok("CREATE TABLE app.new (x int); ALTER TABLE app.t DROP COLUMN b");
    assert_eq!(wrong(&mut owner, "validate_schema(true)"), ["new.x EXTRA"]);
}

#[test]
fn a_snapshot_makes_drift_between_environments_a_diff() {
    let stage = owned();
    let make = "CREATE TABLE app.parent (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
         CREATE TABLE app.\"Odd Name\" (id int PRIMARY KEY DEFAULT 7, p bigint REFERENCES app.parent, v varchar, t text DEFAULT now()::text,
             double int GENERATED ALWAYS AS (id * 2) STORED);
         CREATE TABLE app.parts (k int) PARTITION BY LIST (k);";
    let mut owner = stage.owner();
    owner.ok(make);
    let count = "SELECT tenancy.expect_from_current('app')";
    assert_eq!(owner.int(count), 7);
    assert_eq!(owner.int(count), 7, "again gives the same");
    assert!(wrong(&mut owner, "validate_schema(true)").is_empty());

    let elsewhere = owned();
    let rules = policy_support::dump(
        &stage.database,
        &["--data-only", "--table=tenancy.expected_columns"],
    );
    assert!(rules.contains("Odd Name"), "pg_dump carries the rules");
    let mut there = elsewhere.owner();
    there.ok(make);
    elsewhere.database.psql("postgres", &rules);
    assert!(wrong(&mut there, "validate_schema(true)").is_empty());
    there.ok("ALTER TABLE app.\"Odd Name\" ALTER v TYPE varchar(10), ALTER p SET NOT NULL, ALTER t DROP DEFAULT, ADD late int;
         ALTER TABLE app.parts RENAME TO pieces");
    assert_eq!(
        wrong(&mut there, "validate_schema(true)"),
        [
            "Odd Name.late EXTRA",
            "Odd Name.p NULLABLE_MISMATCH",
            "Odd Name.t DEFAULT_MISMATCH",
            "Odd Name.v TYPE_MISMATCH",
            "parts.k MISSING",
            "pieces.k EXTRA",
        ]
    );
    // A snapshot replaces what the schema had, and nothing of other schemas.
    there.ok("SELECT tenancy.expect_column('elsewhere', 't', 'c'); SELECT tenancy.expect_from_current('app')");
    assert_eq!(wrong(&mut there, "validate_schema(true)"), ["t.c MISSING"]);
}

#[test]
fn bad_input_is_refused_and_changes_nothing() {
    let stage = owned();
    let mut owner = stage.owner();
    for (call, code, needle) in [
        ("expect_column(NULL, 't', 'c')", "22004", "schema_name"),
        ("expect_column('app', NULL, 'c')", "22004", "table_name"),
        ("expect_column('app', 't', NULL)", "22004", "column_name"),
        ("expect_column('app', 't', '')", "22023", "column_name"),
        (
            "expect_column('app', 't', 'c', exact => NULL)",
            "22004",
            "exact",
        ),
        (
            "expect_column('app', 't', 'c', exact => true)",
            "22023",
            "Give a type",
        ),
        (
            "expect_column('app', 't', 'c', 'nosuchtype')",
            "42704",
            "nosuchtype",
        ),
        (
            "expect_column('app', 't', 'c', 'int; DROP TABLE x')",
            "42704",
            "does not exist",
        ),
        (
            "expect_column('app', 't', 'c', '')",
            "42704",
            "does not exist",
        ),
        ("unexpect_column('app', NULL)", "22004", "table_name"),
        ("expect_from_current(NULL)", "22004", "schema_name"),
        ("expect_from_current('nowhere')", "3F000", "nowhere"),
    ] {
        expect_error(
            &owner.error(&format!("SELECT tenancy.{call}")),
            code,
            needle,
        );
    }
    assert_eq!(
        owner.int("SELECT count(*) FROM tenancy.expected_columns"),
        0
    );
    assert_eq!(
        owner.int("SELECT tenancy.unexpect_column('app', 't', 'c')"),
        0
    );
    assert_eq!(owner.int("SELECT count(*) FROM validate_schema(NULL)"), 0);
}

#[test]
fn only_the_owner_of_the_database_writes_rules() {
    let stage = owned();
    let mut app = stage.nobody();
    for sql in [
        "SELECT tenancy.expect_column('app', 't', 'c')",
        "SELECT tenancy.unexpect_column('app', 't')",
        "SELECT tenancy.expect_from_current('app')",
    ] {
        expect_error(&app.error(sql), "42501", "owner of the database");
    }
    for sql in [
        "INSERT INTO tenancy.expected_columns VALUES ('a', 'b', 'c')",
        "DELETE FROM tenancy.expected_columns",
    ] {
        assert_eq!(app.error(sql).code().code(), "42501", "{sql}");
    }
}

#[test]
fn tenant_columns_of_registered_tables_are_expected_by_themselves() {
    let stage = owned();
    let mut owner = stage.owner();
    owner.ok("CREATE TABLE app.good (tenant_id uuid NOT NULL); CREATE TABLE app.loose (tenant_id uuid);
         SELECT tenancy.protect_table('app.good'); SELECT tenancy.protect_table('app.loose', mode => 'permissive')");
    let all = "SELECT string_agg(table_name || ' ' || expected_type || ' ' || status, ', ' ORDER BY table_name) FROM validate_multitenancy_schema()";
    assert_eq!(
        owner.text(all).as_deref(),
        Some("good uuid OK, loose uuid NULLABLE_MISMATCH")
    );
    // A rule of one's own takes its place.
    owner.ok("SELECT tenancy.expect_column('app', 'loose', 'tenant_id', 'uuid', true)");
    assert_eq!(
        owner.text(all).as_deref(),
        Some("good uuid OK, loose uuid OK")
    );
}

/// The twelve rules of the agent platform: two of its columns are as nobody wanted them.
#[test]
fn the_rules_of_the_agent_platform() {
    let stage = scenario_support::Stage::as_found(&AGENTS);
    let owner = stage.database.role("admin");
    give(&stage.database, &owner);
    let mut session = stage.database.connect(&owner);
    let mut rules = vec![
        "'organizations', 'tenant_type', 'varchar', false".to_owned(),
        "'organizations', 'tenant_key', 'varchar', false".to_owned(),
        "'organizations', 'is_active', 'boolean', false".to_owned(),
        "'tools', 'tenant_id', 'uuid', false".to_owned(),
        "'tools', 'implementation_type', 'text'".to_owned(),
        "'tools', 'category', 'text'".to_owned(),
    ];
    for table in [
        "agents",
        "prompts",
        "knowledge",
        "chat_sessions",
        "personas",
        "jobs_to_be_done",
    ] {
        rules.push(format!("'{table}', 'tenant_id', 'uuid'"));
    }
    assert_eq!(rules.len(), 12);
    for rule in &rules {
        session.ok(&format!("SELECT tenancy.expect_column('public', {rule})"));
    }
    assert_eq!(
        session.int("SELECT count(*) FROM validate_multitenancy_schema()"),
        12
    );
    assert_eq!(
        wrong(&mut session, "validate_multitenancy_schema()"),
        [
            "organizations.tenant_type TYPE_MISMATCH",
            "tools.tenant_id NULLABLE_MISMATCH"
        ]
    );
    stage.superuser().ok("DELETE FROM tools WHERE tenant_id IS NULL; ALTER TABLE tools ALTER tenant_id SET NOT NULL;
         DROP POLICY own ON organizations; ALTER TABLE organizations ALTER tenant_type TYPE varchar(32) USING tenant_type::text;
         ALTER TABLE knowledge DROP COLUMN tenant_id CASCADE");
    assert_eq!(
        wrong(&mut session, "validate_schema()"),
        ["knowledge.tenant_id MISSING"]
    );
}

/// Reading changes nothing: it works in a read-only transaction and takes no transaction id.
#[test]
fn it_reads_only() {
    let stage = owned();
    let mut owner = stage.owner();
    owner.ok("CREATE TABLE app.t (a int); SELECT tenancy.expect_from_current('app')");
    owner.ok("BEGIN READ ONLY");
    assert_eq!(owner.int("SELECT count(*) FROM validate_schema(true)"), 1);
    assert_eq!(
        owner.int("SELECT count(*) FROM validate_multitenancy_schema()"),
        1
    );
    assert_eq!(
        owner.text("SELECT pg_current_xact_id_if_assigned()::text"),
        None
    );
}
