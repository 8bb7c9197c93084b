//! What `tenancy.explain_access()` must not do: answer everybody, run policies with rights that they never
//! had, show values, leave traces, wait.

mod explain_support;
mod policy_support;
mod template_support;

use explain_support::{Asker, lines, verdict};
use pgrx_test::fixture::{ClientExt, expect_error};
use policy_support::{A, B};
use template_support::World;

const ANN: Asker<'_> = (Some("ann"), None);

fn asked(session: &mut postgres::Client, sql: &str) -> postgres::error::DbError {
    session.error(&format!("SELECT FROM tenancy.explain_access({sql})"))
}

#[test]
fn it_answers_owners_and_superusers_only() {
    let world = World::new();
    world.enforce("notes", "tenant", "tenant_id", "{}");
    let mut app = world.user("ann");
    expect_error(
        &asked(&mut app, "'app.notes', '1'"),
        "42501",
        "must be owner of table",
    );
    let stranger = world.stage.database.role("stranger");
    world
        .stage
        .owner()
        .ok(&format!("GRANT USAGE ON SCHEMA app TO {stranger}"));
    expect_error(
        &asked(
            &mut world.stage.database.connect(&stranger),
            "'app.notes', 'no key'",
        ),
        "42501",
        "must be owner",
    );
    // A role is evaluated as itself, so its rights are needed.
    let superuser = world.stage.superuser().text("SELECT current_user").unwrap();
    for role in [&superuser, &world.stage.app] {
        let error = asked(
            &mut world.stage.owner(),
            &format!("'app.notes', '1', role => '{role}'"),
        );
        expect_error(&error, "42501", "must have the rights of role");
    }
}

#[test]
fn bad_input_is_refused_with_a_hint() {
    let world = World::new();
    let mut owner = world.stage.owner();
    owner.ok("CREATE TABLE app.keyless (id int, tenant_id uuid); CREATE VIEW app.seen AS TABLE app.notes;
              CREATE DOMAIN app.code AS varchar(3); CREATE TABLE app.coded (code app.code, part int, tenant_id uuid, PRIMARY KEY (part, code) INCLUDE (tenant_id))");
    owner.ok(&format!("INSERT INTO app.coded VALUES ('abc', 1, '{A}')"));
    world.enforce("notes", "tenant", "tenant_id", "{}");
    for (arguments, sqlstate, needle) in [
        ("'app.notes', '99'", "P0002", "no row with that key"),
        ("'app.notes', 'x'", "22P02", "type integer"),
        ("'app.notes', '99999999999'", "22P02", "integer"),
        ("'app.notes', '{\"ID\": 1}'", "22023", "(\"id\")"),
        ("'app.notes', '{\"id\": null}'", "22023", "not a string"),
        ("'app.notes', '[1]'::jsonb", "22023", "(\"id\")"),
        ("'app.notes', NULL::text", "22023", "\"key\" is null"),
        ("NULL, '1'", "22023", "\"table\" is null"),
        ("'app.notes', '1', NULL", "22023", "\"command\" is null"),
        ("'app.notes', '1', 'truncate'", "22023", "unknown command"),
        (
            "'app.notes', '1', role => 'nobody there'",
            "42704",
            "does not exist",
        ),
        (
            "'app.notes', '1', tenant_id => 'no uuid'",
            "22P02",
            "well-formed",
        ),
        ("'app.keyless', '1'", "55000", "primary key"),
        ("'app.seen', '1'", "42809", "not a table"),
        ("'app.coded', '1'", "22023", "(\"part\", \"code\")"),
        // A cast to the column's type would cut it to a key that exists.
        (
            "'app.coded', '{\"part\": 1, \"code\": \"abcd\"}'",
            "P0002",
            "no row",
        ),
    ] {
        let error = asked(&mut owner, arguments);
        let told = format!("{} {}", error.message(), error.detail().unwrap_or_default());
        assert_eq!(error.code().code(), sqlstate, "{arguments}: {told}");
        assert!(
            told.contains(needle) && error.hint().is_some(),
            "{arguments}: {error:?}"
        );
    }
    // Nothing of all that stays behind.
    assert_eq!(
        owner
            .text("SELECT current_setting('app.current_tenant_id', true)")
            .unwrap_or_default(),
        ""
    );
    assert_eq!(
        verdict(
            &mut owner,
            "coded",
            "{\"part\": 1, \"code\": \"abc\"}",
            "select",
            ANN,
            None
        ),
        "allowed"
    );
}

#[test]
fn nothing_runs_as_a_superuser() {
    let world = World::new();
    let (mut owner, mut superuser) = (world.stage.owner(), world.stage.superuser());
    let app = world.stage.app.clone();
    // What waits for a superuser to look at the table.
    owner.ok("CREATE TABLE app.caught (who text, is_super boolean);
         GRANT INSERT ON app.caught TO PUBLIC; GRANT USAGE ON SCHEMA app TO PUBLIC;
         CREATE FUNCTION app.trap() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
             IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
                 RAISE EXCEPTION 'caught a superuser' USING ERRCODE = 'XX999';
             END IF;
             INSERT INTO app.caught VALUES (current_user, false);
             RETURN true; END $$;
         CREATE POLICY trap ON app.notes AS RESTRICTIVE USING (app.trap())");
    owner.ok("SELECT tenancy.protect_table('app.notes', mode => 'shadow', options => '{\"adopt_policies\": true}')");
    let trap = |told: &[[String; 3]]| {
        told.iter()
            .find(|[subject, ..]| subject == "policy \"trap\"")
            .unwrap()[1]
            .clone()
    };
    assert_eq!(
        trap(&lines(&mut superuser, "notes", "'1'", "select", ANN, None)),
        "passed",
        "as the owner"
    );
    assert_eq!(
        trap(&lines(
            &mut superuser,
            "notes",
            "'1'",
            "select",
            ANN,
            Some(&app)
        )),
        "passed"
    );
    // Nor when the table has come to a superuser: then as a role that may read it, or not at all.
    let name = superuser.text("SELECT current_user").unwrap();
    superuser.ok(&format!("ALTER TABLE app.notes OWNER TO {name}"));
    assert_eq!(
        trap(&lines(&mut superuser, "notes", "'1'", "select", ANN, None)),
        "passed"
    );
    let owner_name = &world.stage.owner;
    superuser.ok(&format!("REVOKE ALL ON app.notes FROM {app}, {owner_name}"));
    let told = lines(&mut superuser, "notes", "'1'", "select", ANN, None);
    assert_eq!(trap(&told), "not evaluated");
    assert_eq!(told.last().unwrap()[1], "allowed or hidden or error");
    superuser.ok("DROP POLICY trap ON app.notes");
    assert_eq!(
        verdict(&mut superuser, "notes", "1", "select", ANN, None),
        "allowed",
        "what the extension wrote is"
    );
    superuser.ok("SELECT tenancy.set_mode('app.notes', 'enforce', force => true)");
    assert_eq!(
        verdict(&mut superuser, "notes", "2", "select", ANN, None),
        "hidden"
    );
    assert_eq!(
        superuser.int("SELECT count(*) FROM app.caught"),
        0,
        "and what a policy writes is undone"
    );
}

#[test]
fn it_shows_no_values_and_leaves_nothing() {
    let world = World::new();
    let mut owner = world.stage.owner();
    owner.ok(&format!(
        "INSERT INTO app.notes VALUES (7, '{A}', 'a secret');
         CREATE POLICY casts ON app.notes AS RESTRICTIVE FOR SELECT USING (body::int > 0)"
    ));
    owner.ok("SELECT tenancy.protect_table('app.notes', mode => 'shadow', options => '{\"adopt_policies\": true}');
              SELECT tenancy.protect_table('app.lines', 'child', NULL, 'shadow');
              CREATE POLICY reads ON app.words AS RESTRICTIVE USING (EXISTS (SELECT FROM app.lines l WHERE l.id = words.id))");
    owner.ok("SELECT tenancy.protect_table('app.words', 'child', NULL, 'shadow', '{\"adopt_policies\": true}')");
    owner.ok("BEGIN");
    let told = lines(&mut owner, "notes", "'7'", "select", ANN, None);
    assert!(
        !told.iter().flatten().any(|text| text.contains("secret")),
        "{told:?}"
    );
    assert!(
        told.iter().any(|[_, verdict, _]| verdict == "raises 22P02"),
        "{told:?}"
    );
    lines(&mut owner, "words", "'2'", "delete", ANN, None);
    let locks = owner.rows(
        "SELECT DISTINCT mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation::regclass::text LIKE 'app.%'",
    );
    assert_eq!(locks, [[Some("AccessShareLock".to_owned())]]);
    assert_eq!(
        owner.text("SELECT pg_current_xact_id_if_assigned()::text"),
        None
    );
    assert_eq!(
        owner
            .text("SELECT current_setting('app.current_user_id')")
            .as_deref(),
        Some("")
    );
    assert_eq!(
        owner.text("SHOW max_parallel_workers_per_gather"),
        world
            .stage
            .owner()
            .text("SHOW max_parallel_workers_per_gather")
    );
    owner.ok("COMMIT");
    assert_eq!(
        world
            .stage
            .superuser()
            .text("SELECT concat_ws(' ', (SELECT count(*) FROM tenancy.shadow_denials), sum(statements), sum(exempt_statements)) FROM tenancy.shadow_report()")
            .as_deref(),
        Some("0 0 0"),
        "asking is no traffic"
    );
    // In a transaction that may not write, and beside a writer of the row.
    let mut writer = world.stage.owner();
    writer.ok("BEGIN; UPDATE app.words SET body = 'x'");
    owner.ok("BEGIN READ ONLY; SET LOCAL lock_timeout = '1s'");
    assert_eq!(
        verdict(&mut owner, "words", "1", "select", ANN, None),
        "allowed"
    );
    owner.ok("COMMIT");
    writer.ok("ROLLBACK");
}

#[test]
fn shapes_and_names() {
    let world = World::new();
    let mut owner = world.stage.owner();
    owner.ok(&format!(
        "CREATE TABLE app.\"Odd \"\"t\" (\"r\" int, tenant_id uuid NOT NULL, gone int, body text, PRIMARY KEY (\"r\"));
         ALTER TABLE app.\"Odd \"\"t\" DROP COLUMN gone;
         INSERT INTO app.\"Odd \"\"t\" VALUES (1, '{A}', repeat('x', 100000));
         CREATE TABLE app.parted (id int, tenant_id uuid NOT NULL, PRIMARY KEY (id)) PARTITION BY RANGE (id);
         CREATE TABLE app.part (tenant_id uuid NOT NULL, id int NOT NULL); ALTER TABLE app.parted ATTACH PARTITION app.part FOR VALUES FROM (0) TO (9);
         INSERT INTO app.parted VALUES (1, '{B}');
         SELECT tenancy.protect_table('app.\"Odd \"\"t\"', mode => 'enforce');
         SELECT tenancy.protect_table('app.parted', mode => 'enforce')"
    ));
    for (table, expected) in [
        ("\"Odd \"\"t\"", "allowed"),
        ("parted", "hidden"),
        ("part", "hidden"),
    ] {
        let told = lines(&mut owner, table, "1::text", "select", ANN, None);
        assert_eq!(told.last().unwrap()[1], expected, "{told:?}");
    }
    // Switched off behind our back.
    owner.ok("ALTER TABLE app.parted DISABLE ROW LEVEL SECURITY");
    let told = lines(&mut owner, "parted", "'1'", "select", ANN, None);
    assert!(told[0][2].contains("tenancy.drift()"), "{told:?}");
    assert_eq!(told.last().unwrap()[1], "allowed");
}
