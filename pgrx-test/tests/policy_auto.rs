//! Tables that are made later: `tenancy.auto_protect`.

mod policy_support;

use pgrx_test::fixture::{ClientExt, Database, expect_error};
use policy_support::{A, B, Stage, dump};

const ON: &str = "SELECT tenancy.auto_protect('app', mode => 'enforce')";
const STRICT: &str = "SELECT tenancy.auto_protect('app', mode => 'enforce', strict => true)";

/// A stage on which the owner of the schema has switched it on.
fn stage(sql: &str) -> Stage {
    let stage = Stage::new();
    stage.owner().ok(sql);
    stage
}

fn fill(stage: &Stage, table: &str) {
    stage.superuser().ok(&format!(
        "INSERT INTO {table} (id, tenant_id) VALUES (1, '{A}'), (2, '{A}'), (3, '{B}')"
    ));
}

/// The table shows each tenant its own rows, refuses others' and nobody's, and agrees with its
/// registration.
#[track_caller]
fn assert_isolated(stage: &Stage, table: &str) {
    let count = format!("SELECT count(*) FROM {table}");
    assert_eq!(stage.tenant(A).int(&count), 2, "{table}");
    assert_eq!(stage.tenant(B).int(&count), 1, "{table}");
    expect_error(&stage.nobody().error(&count), "42501", "tenant");
    expect_error(
        &stage.tenant(B).error(&format!(
            "INSERT INTO {table} (id, tenant_id) VALUES (9, '{A}')"
        )),
        "42501",
        "row-level security",
    );
    expect_error(
        &stage
            .superuser()
            .error(&format!("UPDATE {table} SET tenant_id = '{B}'")),
        "23514",
        "another tenant",
    );
    assert!(agrees(stage, table), "{table}");
}

fn registered(stage: &Stage, table: &str) -> bool {
    stage.superuser().int(&format!(
        "SELECT count(*) FROM tenancy.protected_tables WHERE relation = '{table}'::regclass"
    )) == 1
}

fn agrees(stage: &Stage, table: &str) -> bool {
    stage.superuser().int(&format!(
        "SELECT count(*) FROM tenancy.protected_tables WHERE agrees AND mode = 'enforce' AND relation = '{table}'::regclass"
    )) == 1
}

fn event_trigger(stage: &Stage) -> String {
    stage
        .superuser()
        .text("SELECT evtenabled FROM pg_event_trigger WHERE evtname = 'pg_tenancy_auto_protect'")
        .expect("the event trigger")
}

#[test]
fn a_new_table_is_protected_by_the_command_that_makes_it() {
    let stage = stage(ON);
    for (table, sql) in [
        (
            "app.plain",
            "CREATE TABLE app.plain (id int, tenant_id uuid)",
        ),
        (
            "app.\"Odd \"\"Name\"\"\"",
            "CREATE TABLE app.\"Odd \"\"Name\"\"\" (id int, tenant_id uuid)",
        ),
        (
            "app.copied",
            "CREATE TABLE app.copied AS SELECT 1 AS id, gen_random_uuid() AS tenant_id LIMIT 0",
        ),
        (
            "app.selected",
            "SELECT 1 AS id, gen_random_uuid() AS tenant_id INTO app.selected LIMIT 0",
        ),
        (
            "app.alike",
            "CREATE TABLE app.alike (LIKE app.plain INCLUDING ALL)",
        ),
        (
            "app.unlogged",
            "CREATE UNLOGGED TABLE app.unlogged (id int, tenant_id uuid)",
        ),
        (
            "app.numbered",
            "CREATE TABLE app.numbered (id int, n int GENERATED ALWAYS AS IDENTITY, twice int GENERATED ALWAYS AS (id * 2) STORED, tenant_id uuid)",
        ),
        (
            "app.grown",
            "CREATE TABLE app.grown (id int); ALTER TABLE app.grown ADD COLUMN note text, ADD COLUMN tenant_id uuid",
        ),
        (
            "app.renamed",
            "CREATE TABLE app.renamed (id int, org uuid); ALTER TABLE app.renamed RENAME org TO tenant_id",
        ),
        (
            "app.in_function",
            "DO $$ BEGIN CREATE TABLE app.in_function (id int, tenant_id uuid); END $$",
        ),
    ] {
        stage.owner().ok(sql);
        fill(&stage, table);
        assert_isolated(&stage, table);
    }
}

#[test]
fn what_arrives_from_elsewhere_is_protected() {
    let stage = stage(ON);
    stage.superuser().ok(&format!(
        "CREATE SCHEMA other AUTHORIZATION {0}; SET ROLE {0};
         CREATE TABLE other.moved (id int, tenant_id uuid); ALTER TABLE other.moved SET SCHEMA app;
         CREATE TABLE other.stays (id int, tenant_id uuid)",
        stage.owner
    ));
    stage
        .superuser()
        .ok(&format!("GRANT ALL ON app.moved TO {}", stage.app));
    fill(&stage, "app.moved");
    assert_isolated(&stage, "app.moved");
    assert!(!registered(&stage, "other.stays"));
}

#[test]
fn a_table_of_a_dropped_ones_name_is_another_table() {
    let stage = stage(ON);
    stage.owner().ok(
        "CREATE TABLE app.items (id int, tenant_id uuid); DROP TABLE app.items;
             CREATE TABLE app.items (id int, tenant_id uuid)",
    );
    fill(&stage, "app.items");
    assert_isolated(&stage, "app.items");
}

#[test]
fn a_table_that_takes_anothers_old_name_is_told_from_it() {
    let stage = stage(ON);
    stage.owner().ok(
        "CREATE TABLE app.items (id int, tenant_id uuid);
        ALTER TABLE app.items RENAME TO items_old; CREATE TABLE app.items (id int, tenant_id uuid)",
    );
    for table in ["app.items", "app.items_old"] {
        fill(&stage, table);
        assert!(registered(&stage, table), "{table}");
    }
    assert_isolated(&stage, "app.items");
    assert_eq!(stage.tenant(B).int("SELECT count(*) FROM app.items_old"), 1);
}

#[test]
fn a_table_without_the_column_belongs_to_its_parent() {
    let stage = stage(
        r#"SELECT tenancy.auto_protect('app', mode => 'enforce', strict => true, options => '{"set_default": true}')"#,
    );
    stage.owner().ok(
        "CREATE TABLE app.items (id int PRIMARY KEY, tenant_id uuid);
        CREATE TABLE app.lines (id int, item int NOT NULL REFERENCES app.items)",
    );
    fill(&stage, "app.items");
    stage
        .superuser()
        .ok("INSERT INTO app.lines VALUES (1, 1), (2, 3)");
    assert_eq!(stage.tenant(B).int("SELECT id FROM app.lines"), 2);
    let sql = "SELECT template FROM tenancy.protected_tables WHERE agrees AND relation = 'app.lines'::regclass";
    assert_eq!(stage.superuser().text(sql).as_deref(), Some("child"));
}

#[test]
fn strict_fails_the_command_and_leaves_nothing() {
    let stage = stage(STRICT);
    for (sql, code, says) in [
        ("CREATE TABLE app.bad (id int)", "42703", "tenant_id"),
        (
            "CREATE TABLE app.bad (id int, tenant_id text)",
            "42804",
            "text",
        ),
        (
            "CREATE TABLE app.bad AS SELECT 1 AS id, NULL::uuid AS tenant_id",
            "23502",
            "no tenant",
        ),
        (
            "CREATE TABLE app.bad (id int, tenant_id uuid GENERATED ALWAYS AS (NULL::uuid) STORED)",
            "42809",
            "generated",
        ),
    ] {
        let error = stage.owner().error(sql);
        expect_error(&error, code, says);
        expect_error(&error, code, "strict");
        expect_error(&error, code, "exclude");
        assert_eq!(
            stage
                .superuser()
                .int("SELECT count(*) FROM pg_class WHERE relname = 'bad'"),
            0,
            "{sql}"
        );
    }
    stage
        .owner()
        .ok("CREATE TABLE app.good (id int, tenant_id uuid)");
    fill(&stage, "app.good");
    assert_isolated(&stage, "app.good");
}

#[test]
fn without_strict_a_warning_says_why_and_the_table_is_there() {
    let stage = stage(ON);
    let told = stage.database.psql_told(
        &stage.owner,
        "CREATE TABLE app.bad (id int); CREATE TABLE app.worse (tenant_id text)",
    );
    assert!(
        told.contains("WARNING:  table \"app\".\"bad\" is not protected: no column \"tenant_id\""),
        "{told}"
    );
    assert!(
        told.contains("WARNING:  table \"app\".\"worse\" is not protected"),
        "{told}"
    );
    assert!(told.contains("HINT:"), "{told}");
    assert!(!registered(&stage, "app.bad") && !registered(&stage, "app.worse"));
    // What is altered otherwise is not nagged about again.
    let told = stage.database.psql_told(
        &stage.owner,
        "ALTER TABLE app.bad ADD COLUMN x int; CREATE INDEX ON app.bad (x)",
    );
    assert!(!told.contains("WARNING"), "{told}");
}

#[test]
fn foreign_tables_are_refused_or_reported() {
    let stage = stage(STRICT);
    stage.superuser().ok(&format!(
        "CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
         GRANT USAGE ON FOREIGN SERVER nowhere TO {}",
        stage.owner
    ));
    let sql = "CREATE FOREIGN TABLE app.far (id int, tenant_id uuid) SERVER nowhere";
    expect_error(&stage.owner().error(sql), "42809", "foreign table");
    stage.owner().ok(ON);
    let told = stage.database.psql_told(&stage.owner, sql);
    assert!(
        told.contains("WARNING") && told.contains("foreign table"),
        "{told}"
    );
}

/// Makes an extension available that brings a table.
fn extension_with_a_table(stage: &Stage) {
    let share = stage
        .superuser()
        .text("SELECT setting FROM pg_config WHERE name = 'SHAREDIR'")
        .expect("a directory");
    let folder = std::path::Path::new(&share).join("extension");
    for (name, text) in [
        (
            "pg_tenancy_probe.control",
            "default_version = '1'\nrelocatable = true\n",
        ),
        (
            "pg_tenancy_probe--1.sql",
            "CREATE TABLE probe (id int);\nALTER TABLE probe ADD COLUMN x int;\n",
        ),
    ] {
        std::fs::write(folder.join(name), text).expect("the run's own server can be written");
    }
}

#[test]
fn what_is_excluded_temporary_or_an_extensions_is_left_alone() {
    let stage = stage(
        "SELECT tenancy.auto_protect('app', mode => 'enforce', strict => true, exclude => '{countries,Odd Name}')",
    );
    stage.owner().ok(
        "CREATE TABLE app.countries (code text); CREATE TABLE app.\"Odd Name\" (tenant_id uuid);
             CREATE TEMP TABLE scratch (id int); CREATE TEMP TABLE more AS SELECT 1 AS id",
    );
    extension_with_a_table(&stage);
    stage.superuser().ok("CREATE EXTENSION pg_tenancy_probe SCHEMA app; ALTER TABLE app.probe ADD COLUMN tenant_id uuid");
    assert!(!registered(&stage, "app.probe"));
    assert!(!registered(&stage, "app.countries") && !registered(&stage, "app.\"Odd Name\""));
    // Taken out of protection on purpose, it stays out when it is altered in another way.
    stage.owner().ok("CREATE TABLE app.open (id int, tenant_id uuid); SELECT tenancy.unprotect_table('app.open');
        ALTER TABLE app.open ADD COLUMN x int; ALTER TABLE app.open ADD CHECK (x > 0); ALTER TABLE app.open RENAME x TO y");
    assert!(!registered(&stage, "app.open"));
}

#[test]
fn it_costs_nothing_until_it_is_on_and_ends_with_the_last_schema() {
    let stage = Stage::new();
    assert_eq!(event_trigger(&stage), "D");
    stage.owner().ok(ON);
    assert_eq!(event_trigger(&stage), "O");
    stage.superuser().ok(&format!(
        "CREATE SCHEMA other AUTHORIZATION {}",
        stage.owner
    ));
    stage
        .owner()
        .ok("SELECT tenancy.auto_protect('other', mode => 'permissive')");
    assert_eq!(
        stage.nobody().rows(
            "SELECT schema_name, mode, strict, active FROM tenancy.auto_protected ORDER BY 1"
        ),
        [
            ["app", "enforce", "f", "t"]
                .map(|text| Some(text.to_owned()))
                .to_vec(),
            ["other", "permissive", "f", "t"]
                .map(|text| Some(text.to_owned()))
                .to_vec(),
        ]
    );
    stage.owner().ok("SELECT tenancy.auto_protect_off('app')");
    assert_eq!(event_trigger(&stage), "O");
    stage.owner().ok("CREATE TABLE app.open (id int, tenant_id uuid); CREATE TABLE other.noted (id int, tenant_id uuid)");
    assert!(!registered(&stage, "app.open") && registered(&stage, "other.noted"));
    stage
        .owner()
        .ok("BEGIN; SELECT tenancy.auto_protect_off('other'); ROLLBACK");
    assert_eq!(event_trigger(&stage), "O");
    stage.owner().ok("SELECT tenancy.auto_protect_off('other')");
    assert_eq!(event_trigger(&stage), "D");
    expect_error(
        &stage
            .owner()
            .error("SELECT tenancy.auto_protect_off('other')"),
        "42704",
        "auto_protected",
    );
    stage
        .owner()
        .ok("SELECT tenancy.auto_protect_off('other', missing_ok => true)");
}

#[test]
fn bad_input_is_refused() {
    let stage = Stage::new();
    let stranger = stage.database.role("stranger");
    for (sql, code, says) in [
        (
            "SELECT tenancy.auto_protect('nowhere', mode => 'enforce')",
            "3F000",
            "nowhere",
        ),
        (
            "SELECT tenancy.auto_protect(NULL, mode => 'enforce')",
            "22023",
            "schema",
        ),
        (
            "SELECT tenancy.auto_protect('pg_catalog', mode => 'enforce')",
            "22023",
            "application",
        ),
        (
            "SELECT tenancy.auto_protect('tenancy', mode => 'enforce')",
            "22023",
            "application",
        ),
        (
            "SELECT tenancy.auto_protect('app', mode => 'sometimes')",
            "22023",
            "sometimes",
        ),
        (
            "SELECT tenancy.auto_protect('app', mode => 'enforce', options => '{\"forces\": true}')",
            "22023",
            "forces",
        ),
        (
            "SELECT tenancy.auto_protect('app', mode => 'enforce', options => '{\"visible\": \"true\"}')",
            "22023",
            "one template",
        ),
    ] {
        expect_error(&stage.superuser().error(sql), code, says);
    }
    for sql in [ON, "SELECT tenancy.auto_protect_off('app')"] {
        stage.owner().ok(ON);
        expect_error(
            &stage.database.connect(&stranger).error(sql),
            "42501",
            "owner of schema",
        );
    }
    stage.superuser().ok(&format!(
        "ALTER DATABASE {} SET pg_tenancy.admin_role = '{stranger}'",
        stage.database.name
    ));
    stage.database.connect(&stranger).ok(ON);
    for sql in [
        "INSERT INTO tenancy.auto_protection SELECT * FROM tenancy.auto_protection",
        "DELETE FROM tenancy.auto_protection",
        "ALTER EVENT TRIGGER pg_tenancy_auto_protect DISABLE",
    ] {
        let error = stage.database.connect(&stranger).error(sql);
        assert_eq!(error.code().code(), "42501", "{sql}");
    }
    expect_error(
        &stage.owner().error("SELECT tenancy.switch_auto_protect()"),
        "0A000",
        "trigger",
    );
}

#[test]
fn the_options_reach_the_table() {
    let stage = stage(
        r#"SELECT tenancy.auto_protect('app', tenant_column => 'org', mode => 'enforce', options => '{"set_default": true, "force": false}')"#,
    );
    stage
        .owner()
        .ok("CREATE TABLE app.items (id int, org uuid)");
    stage.tenant(A).ok("INSERT INTO app.items VALUES (1)");
    assert_eq!(stage.tenant(B).int("SELECT count(*) FROM app.items"), 0);
    assert_eq!(
        stage.owner().int("SELECT count(*) FROM app.items"),
        1,
        "not forced"
    );
}

#[test]
fn nothing_runs_with_more_rights_than_the_maker_has() {
    let stage = stage(ON);
    let mallory = stage.database.role("mallory");
    stage.superuser().ok(&format!(
        "GRANT CREATE, USAGE ON SCHEMA app TO {mallory};
         CREATE TABLE public.loot (who text, what text); GRANT INSERT ON public.loot TO PUBLIC;
         GRANT CREATE ON SCHEMA public TO {mallory}"
    ));
    let mut session = stage.database.connect(&mallory);
    // Everything that could call back: a default, a check, a domain, a trigger, an index expression,
    // a policy, operators and functions that would be found first on a search_path.
    session.ok("SET search_path = public, pg_catalog;
        CREATE FUNCTION public.spy() RETURNS uuid LANGUAGE plpgsql AS
          $$ BEGIN INSERT INTO public.loot VALUES (current_user, 'spy'); RETURN gen_random_uuid(); END $$;
        CREATE FUNCTION public.spy_check(uuid) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
          $$ BEGIN PERFORM public.spy(); RETURN true; END $$;
        CREATE FUNCTION public.spy_trigger() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN INSERT INTO public.loot VALUES (current_user, 'trigger'); RETURN NEW; END $$;
        CREATE FUNCTION public.spy_equals(name, name) RETURNS boolean LANGUAGE plpgsql AS
          $$ BEGIN INSERT INTO public.loot VALUES (current_user, 'operator'); RETURN true; END $$;
        CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = name, FUNCTION = public.spy_equals);
        CREATE DOMAIN public.sly AS uuid CHECK (public.spy_check(VALUE));
        CREATE TABLE app.trap (id int, tenant_id public.sly DEFAULT public.spy(), CHECK (public.spy_check(tenant_id)))");
    // A superuser who touches it later acts through the event trigger too.
    session.ok("CREATE TABLE app.later (id int, org uuid DEFAULT public.spy());
        CREATE TRIGGER t BEFORE INSERT OR UPDATE ON app.later FOR EACH ROW EXECUTE FUNCTION public.spy_trigger();
        CREATE INDEX ON app.later ((public.spy_check(org)));
        INSERT INTO app.later VALUES (1, gen_random_uuid())");
    stage
        .superuser()
        .ok("ALTER TABLE app.later RENAME org TO tenant_id");
    assert!(agrees(&stage, "app.trap") && agrees(&stage, "app.later"));
    let owner_of = "SELECT count(*) FROM public.loot WHERE who <> ";
    assert_eq!(stage.superuser().int(&format!("{owner_of} '{mallory}'")), 0);
    // What she could not do by hand, the trigger does not do for her.
    stage
        .owner()
        .ok("CREATE TABLE app.parent (id int, tenant_id uuid, PRIMARY KEY (id))");
    stage
        .owner()
        .ok(&format!("GRANT REFERENCES ON app.parent TO {mallory}"));
    stage.owner().ok(r#"SELECT tenancy.auto_protect('app', mode => 'enforce', options => '{"foreign_keys": "add"}')"#);
    let before = "SELECT count(*) FROM pg_constraint WHERE conrelid = 'app.parent'::regclass";
    let keys = stage.superuser().int(before);
    session.ok("CREATE TABLE app.child (id int, tenant_id uuid, parent int REFERENCES app.parent)");
    assert_eq!(stage.superuser().int(before), keys, "another owner's table");
}

#[test]
fn replicas_and_restores_are_left_alone() {
    let stage = stage(STRICT);
    stage.superuser().ok(&format!(
        "SET session_replication_role = replica; SET ROLE {}; CREATE TABLE app.applied (id int)",
        stage.owner
    ));
    assert!(!registered(&stage, "app.applied"));
    stage.owner().ok(
        "CREATE TABLE app.items (id int PRIMARY KEY, tenant_id uuid);
        CREATE TABLE app.lines (id int, tenant_id uuid, item int REFERENCES app.items);
        CREATE TABLE app.events (id int, tenant_id uuid) PARTITION BY HASH (id);
        CREATE TABLE app.events_0 PARTITION OF app.events FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
    );
    let text = dump(&stage.database, &[]);
    let copy = Database::empty(stage.database.server());
    copy.psql("postgres", &text);
    assert_eq!(dump(&copy, &[]), text, "a round trip");
    assert_eq!(
        copy.superuser()
            .int("SELECT count(*) FROM tenancy.auto_protected WHERE active AND strict"),
        1,
        "on in the copy as well"
    );
    expect_error(
        &copy
            .connect(&stage.owner)
            .error("CREATE TABLE app.more (id int)"),
        "42703",
        "strict",
    );
    copy.connect(&stage.owner)
        .ok("CREATE TABLE app.more (id int, tenant_id uuid)");
    assert_eq!(
        copy.superuser()
            .int("SELECT count(*) FROM tenancy.protected_tables WHERE agrees"),
        5
    );
}

#[test]
fn a_restore_that_disabled_triggers_is_mended() {
    let stage = stage(ON);
    // What `pg_restore --data-only --disable-triggers` leaves behind.
    stage
        .superuser()
        .ok("ALTER TABLE tenancy.auto_protection DISABLE TRIGGER ALL;
         ALTER EVENT TRIGGER pg_tenancy_auto_protect DISABLE;
         ALTER TABLE tenancy.auto_protection ENABLE TRIGGER ALL");
    assert_eq!(
        stage
            .nobody()
            .text("SELECT active FROM tenancy.auto_protected")
            .as_deref(),
        Some("f")
    );
    stage.owner().ok(ON);
    stage
        .owner()
        .ok("CREATE TABLE app.items (id int, tenant_id uuid)");
    assert!(agrees(&stage, "app.items"));
    let sql = "SELECT tgenabled FROM pg_trigger WHERE tgname = 'switch_auto_protect'";
    assert_eq!(stage.superuser().text(sql).as_deref(), Some("A"));
}

#[test]
fn a_renamed_schema_stays_on() {
    let stage = stage(ON);
    stage.superuser().ok("ALTER SCHEMA app RENAME TO apples");
    stage
        .owner()
        .ok("CREATE TABLE apples.items (id int, tenant_id uuid)");
    fill(&stage, "apples.items");
    assert_isolated(&stage, "apples.items");
    assert_eq!(
        stage
            .nobody()
            .text("SELECT schema_name FROM tenancy.auto_protected")
            .as_deref(),
        Some("apples")
    );
    stage
        .owner()
        .ok("SELECT tenancy.auto_protect('apples', mode => 'permissive')");
    assert_eq!(
        stage
            .superuser()
            .int("SELECT count(*) FROM tenancy.auto_protection"),
        1
    );
    stage
        .owner()
        .ok("SELECT tenancy.auto_protect_off('apples')");
}

#[test]
fn without_a_binding_it_says_so() {
    let stage = Stage::unbound();
    stage.owner().ok(ON);
    let told = stage.database.psql_told(
        &stage.owner,
        "CREATE TABLE app.items (id int, tenant_id uuid)",
    );
    assert!(
        told.contains("WARNING") && told.contains("tenancy.bind"),
        "{told}"
    );
    stage.owner().ok(STRICT);
    expect_error(
        &stage
            .owner()
            .error("CREATE TABLE app.more (id int, tenant_id uuid)"),
        "55000",
        "tenancy.bind",
    );
}
