//! Rows that every tenant needs, and what else is wrong with data. The owner of tables and database acts,
//! an ordinary role, under row security that binds him too.

mod policy_support;
mod scenario_support;

use pgrx_test::fixture::{ClientExt, expect_error, quote_ident};
use pgrx_test::scenario::AGENTS;
use policy_support::{A, B, Stage};
use postgres::Client;
use scenario_support::agents::PLATFORM;

/// Tenants A and B, configurations and notes; the owner has the database too.
fn bound() -> Stage {
    let stage = Stage::unbound();
    stage.superuser().ok(&format!(
        "ALTER DATABASE {} OWNER TO {}",
        quote_ident(&stage.database.name),
        stage.owner
    ));
    stage.owner().ok(&format!(
        "CREATE TABLE app.tenants (id uuid PRIMARY KEY, active boolean NOT NULL DEFAULT true);
         CREATE TABLE app.members (user_id text, tenant_id uuid, role text);
         CREATE INDEX ON app.members (user_id);
         CREATE TABLE app.people (id text PRIMARY KEY, role text);
         CREATE TABLE app.configuration (tenant_id uuid NOT NULL, kind text);
         CREATE TABLE app.notes (id int PRIMARY KEY, tenant_id uuid);
         INSERT INTO app.tenants VALUES ('{A}'), ('{B}');
         INSERT INTO app.members VALUES ('ann', '{A}'), ('bob', '{B}'), ('both', '{A}'), ('both', '{B}');
         INSERT INTO app.people VALUES ('ann'), ('bob'), ('both');
         SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id', membership => 'app.members',
             role_table => 'app.people', tenants => 'app.tenants', tenants_active => 'active');
         SELECT tenancy.protect_table('app.configuration', mode => 'enforce');
         SELECT tenancy.protect_table('app.notes', mode => 'permissive')"
    ));
    stage
}

const FIX: &str = "INSERT INTO app.configuration (tenant_id, kind) VALUES ($1, ''main'')";

fn require(session: &mut Client) {
    session.ok(&format!("SELECT tenancy.require_rows('configuration', 'app.configuration', condition => $$kind = 'main'$$, fix => '{FIX}')"));
}

/// `check relation count` of every fault.
fn faults(session: &mut Client) -> Vec<String> {
    session
        .texts("SELECT \"check\" || ' ' || relation || ' ' || coalesce(count::text, '?') FROM tenancy.check_data_consistency() ORDER BY 1")
}

#[test]
fn tenants_without_required_rows_are_named_with_their_fix() {
    let stage = bound();
    let mut owner = stage.owner();
    require(&mut owner);
    let missing = "SELECT string_agg(tenant_id || '=' || subject || ' ' || requirement || ' ' || relation || ' ' || found || '/' || minimum, ', ' ORDER BY tenant_id)
                   FROM tenancy.detect_missing_tenant_data(";
    let of = |tenant: &str| format!("{tenant}={tenant} configuration app.configuration 0/1");
    assert_eq!(
        owner.text(&format!("{missing})")),
        Some(format!("{}, {}", of(A), of(B)))
    );
    assert_eq!(owner.text(&format!("{missing}'{B}')")), Some(of(B)));
    // Spelled otherwise, the same tenant.
    assert_eq!(owner.text(&format!("{missing}upper('{B}'))")), Some(of(B)));
    let fix = owner
        .text(&format!(
            "SELECT remediation FROM tenancy.detect_missing_tenant_data('{A}')"
        ))
        .expect("a fix");
    assert_eq!(
        fix,
        format!("INSERT INTO app.configuration (tenant_id, kind) VALUES ('{A}', 'main')")
    );
    let mut tenant = stage.superuser();
    tenant.ok(&fix);
    assert_eq!(owner.text(&format!("{missing}'{A}')")), None);
    assert_eq!(owner.text(&format!("{missing})")), Some(of(B)));
    // A row that the condition passes over does not count.
    tenant.ok(&format!(
        "INSERT INTO app.configuration VALUES ('{B}', 'other')"
    ));
    assert_eq!(owner.text(&format!("{missing})")), Some(of(B)));
    owner.ok("SELECT tenancy.require_rows('configuration', 'app.configuration', minimum => 2)");
    assert_eq!(
        owner.int("SELECT count(*) FROM tenancy.detect_missing_tenant_data() WHERE found = 1"),
        2
    );
    assert_eq!(
        owner
            .text("SELECT tenancy.unrequire_rows('configuration')")
            .as_deref(),
        Some("t")
    );
    assert_eq!(
        owner
            .text("SELECT tenancy.unrequire_rows('configuration')")
            .as_deref(),
        Some("f")
    );
    assert_eq!(owner.text(&format!("{missing})")), None);
}

#[test]
fn a_tenant_cannot_break_out_of_its_fix() {
    let stage = Stage::unbound();
    let mut superuser = stage.superuser();
    let evil = "x'); DROP TABLE app.loot; --";
    superuser.ok("CREATE TABLE app.loot (); CREATE TABLE app.tenants (id text PRIMARY KEY); CREATE TABLE app.c (tenant_id text, note text);
         SELECT tenancy.bind(tenant_type => 'text', tenant_setting => 'app.current_tenant_id', tenants => 'app.tenants')");
    superuser
        .execute(
            "INSERT INTO app.tenants VALUES ($1), ('back\\slash')",
            &[&evil],
        )
        .expect("inserted");
    superuser.ok("SELECT tenancy.require_rows('c', 'app.c', fix => $$INSERT INTO app.c VALUES ($1, '$1 stays')$$)");
    for fix in superuser.rows("SELECT remediation FROM tenancy.detect_missing_tenant_data()") {
        superuser.ok(fix[0].as_deref().expect("a fix"));
    }
    assert_eq!(
        superuser.int("SELECT count(*) FROM tenancy.detect_missing_tenant_data()"),
        0
    );
    assert_eq!(
        superuser.int(
            "SELECT count(*) FROM app.c, app.tenants WHERE id = tenant_id AND note = '$1 stays'"
        ),
        2
    );
    superuser.ok("SELECT FROM app.loot");
}

#[test]
fn every_fault_of_the_data_is_counted_with_keys_only() {
    let stage = bound();
    let mut owner = stage.owner();
    assert_eq!(faults(&mut owner), Vec::<String>::new());
    let ghost = "00000000-0000-0000-0000-0000000000ff";
    stage.superuser().ok(&format!(
        "INSERT INTO app.notes SELECT n, NULL FROM generate_series(1, 7) AS n;
         INSERT INTO app.notes VALUES (100, '{ghost}'), (101, '{ghost}'), (102, '{A}');
         INSERT INTO app.members VALUES ('lost', NULL), ('faceless', '{A}');
         INSERT INTO app.people VALUES ('lost'), ('stray')"
    ));
    require(&mut owner);
    assert_eq!(
        faults(&mut owner),
        [
            "row-without-tenant app.notes 7",
            "tenant-unknown app.notes 2",
            "tenant-without-rows app.configuration 2",
            "user-without-rows app.people 1",
            "user-without-tenant app.members 1",
            "user-without-tenant app.people 1",
        ]
    );
    let examples = |session: &mut Client, check: &str| {
        session.text(&format!("SELECT string_agg(array_to_string(examples, ','), ' ' ORDER BY relation) FROM tenancy.check_data_consistency() WHERE \"check\" = '{check}'"))
    };
    assert_eq!(
        examples(&mut owner, "row-without-tenant").as_deref(),
        Some("1,2,3,4,5")
    );
    assert_eq!(
        examples(&mut owner, "tenant-unknown").as_deref(),
        Some(ghost)
    );
    assert_eq!(
        examples(&mut owner, "user-without-rows").as_deref(),
        Some("faceless")
    );
    assert_eq!(
        examples(&mut owner, "user-without-tenant").as_deref(),
        Some("lost stray")
    );
    // What can be mended without a decision is.
    for mend in owner.rows(
        "SELECT remediation FROM tenancy.check_data_consistency() WHERE remediation IS NOT NULL",
    ) {
        stage.superuser().ok(mend[0].as_deref().expect("text"));
    }
    assert_eq!(
        faults(&mut owner),
        [
            "row-without-tenant app.notes 7",
            "user-without-rows app.people 1",
            "user-without-tenant app.members 1",
            "user-without-tenant app.people 1",
        ]
    );
}

#[test]
fn rows_of_the_platform_are_not_thrown_away() {
    let stage = bound();
    let platform = "00000000-0000-0000-0000-0000000000AA";
    stage.owner().ok(&format!(
        "SELECT tenancy.unprotect_table('app.configuration'); SELECT tenancy.unprotect_table('app.notes');
         SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id', membership => 'app.members',
             role_table => 'app.people', tenants => 'app.tenants', tenants_active => 'active', platform_tenant => '{platform}');
         SELECT tenancy.protect_table('app.notes', mode => 'permissive');
         INSERT INTO app.notes VALUES (1, '{platform}'), (2, '00000000-0000-0000-0000-0000000000ff')"
    ));
    let mut owner = stage.owner();
    assert_eq!(faults(&mut owner), ["tenant-unknown app.notes 1"]);
    let remediation = owner
        .text("SELECT remediation FROM tenancy.check_data_consistency()")
        .unwrap();
    owner.ok(&remediation);
    assert_eq!(owner.texts("SELECT id FROM app.notes"), ["1"]);
    assert_eq!(faults(&mut owner), Vec::<String>::new());
}

#[test]
fn a_partition_is_counted_with_its_parent() {
    let stage = bound();
    let mut owner = stage.owner();
    owner.ok(
        "CREATE TABLE app.parts (id int, tenant_id uuid) PARTITION BY LIST (id);
         CREATE TABLE app.parts_1 PARTITION OF app.parts FOR VALUES IN (1);
         INSERT INTO app.parts VALUES (1, NULL);
         SELECT tenancy.protect_table('app.parts', mode => 'permissive')",
    );
    assert_eq!(faults(&mut owner), ["row-without-tenant app.parts 1"]);
}

#[test]
fn large_tables_are_announced() {
    let stage = bound();
    stage.superuser().ok(&format!(
        "INSERT INTO app.notes SELECT n, '{A}' FROM generate_series(1, 50) AS n; ANALYZE app.notes"
    ));
    let (_, told) = {
        let quiet = stage.database.psql_told(
            &stage.owner,
            "SELECT count(*) FROM tenancy.check_data_consistency()",
        );
        assert!(!quiet.contains("reading app.notes"), "{quiet}");
        let loud = stage.database.psql_told(
            &stage.owner,
            "SET pg_tenancy.inline_ddl_rows = 50; SELECT count(*) FROM tenancy.check_data_consistency()",
        );
        (quiet, loud)
    };
    assert!(told.contains("reading app.notes, about 50 rows"), "{told}");
}

/// What could not be looked at is a row, never silence.
#[test]
fn who_does_not_administer_a_table_is_told_nothing_of_it() {
    let stage = bound();
    let mut owner = stage.owner();
    require(&mut owner);
    let other = stage.database.role("other");
    stage.superuser().ok(&format!(
        "INSERT INTO app.notes VALUES (1, NULL); ALTER TABLE app.notes OWNER TO {other};
         GRANT CREATE ON SCHEMA app TO {other}; ALTER TABLE app.configuration OWNER TO {other}"
    ));
    assert_eq!(
        faults(&mut owner),
        // The requirement, and the rows of both tables.
        [
            "not-checked app.configuration ?",
            "not-checked app.configuration ?",
            "not-checked app.notes ?"
        ]
    );
    assert_eq!(
        owner.int("SELECT count(*) FROM tenancy.detect_missing_tenant_data() WHERE found IS NULL"),
        1
    );
    let mut app = stage.nobody();
    expect_error(
        &app.error("SELECT * FROM tenancy.detect_missing_tenant_data()"),
        "42501",
        "must be owner of table app.tenants",
    );
    assert!(
        faults(&mut app)
            .iter()
            .all(|fault| fault.starts_with("not-checked"))
    );
    // The new owner did not write the condition: it does not run as him.
    let mut new_owner = stage.database.connect(&other);
    assert!(faults(&mut new_owner).contains(&"not-checked app.configuration ?".to_owned()));
}

/// A condition runs as the owner of the table: only what changes nothing, by who may act as him.
#[test]
fn a_condition_gives_nobody_the_rights_of_another() {
    let stage = bound();
    let mut owner = stage.owner();
    let mut superuser = stage.superuser();
    superuser.ok("CREATE TABLE app.precious (tenant_id uuid)");
    let admin = stage.database.role("admin");
    superuser.ok(&format!(
        "GRANT USAGE ON SCHEMA app TO {admin}; ALTER DATABASE {} SET pg_tenancy.admin_role = '{admin}'; CREATE FUNCTION public.trap(uuid) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true'",
        quote_ident(&stage.database.name)
    ));
    let mut administrator = stage.database.connect(&admin);
    expect_error(
        &administrator.error("SELECT tenancy.require_rows('p', 'app.precious', condition => 'public.trap(tenant_id)')"),
        "42501",
        "rights that its author lacks",
    );
    administrator.ok("SELECT tenancy.require_rows('p', 'app.precious')");
    superuser.ok("UPDATE tenancy.required_rows SET condition = 'public.trap(tenant_id)'");
    assert!(faults(&mut superuser).contains(&"not-checked app.precious ?".to_owned()));
    for (condition, code, needle) in [
        ("random() < 1", "22023", "more than its row"),
        (
            "tenant_id = current_tenant_id()",
            "22023",
            "more than its row",
        ),
        (
            "EXISTS (SELECT FROM app.notes)",
            "22023",
            "more than its row",
        ),
        ("true) OR (true", "42601", ""),
        ("kind", "42804", ""),
        ("nothing = 1", "42703", "nothing"),
    ] {
        // Functions of the application's schema are named in full.
        let condition = condition.replace("current_tenant_id", "public.current_tenant_id");
        expect_error(
            &owner.error(&format!("SELECT tenancy.require_rows('c', 'app.configuration', condition => $$ {condition} $$)")),
            code,
            needle,
        );
    }
    assert_eq!(
        owner.int("SELECT count(*) FROM tenancy.required_rows WHERE name = 'c'"),
        0
    );
}

/// Whoever may create in the schema makes a function that fits a registered condition better.
#[test]
fn a_condition_runs_nobody_elses_function() {
    let stage = bound();
    let mut owner = stage.owner();
    let maker = stage.database.role("maker");
    owner.ok(&format!(
        "CREATE FUNCTION app.is_main(varchar) RETURNS boolean IMMUTABLE LANGUAGE sql AS $$ SELECT $1 = 'main' $$;
         CREATE FUNCTION app.is_mine(varchar) RETURNS boolean IMMUTABLE LANGUAGE sql AS $$ SELECT $1 = 'main' $$;
         GRANT USAGE, CREATE ON SCHEMA app TO {maker};
         INSERT INTO app.configuration VALUES ('{A}', 'main');
         SELECT tenancy.require_rows('c', 'app.configuration', condition => 'app.is_main(kind)')"
    ).replace("INSERT", "ALTER TABLE app.configuration NO FORCE ROW LEVEL SECURITY; INSERT"));
    let missing = "SELECT string_agg(concat_ws(' ', requirement, left(right(tenant_id, 1), 1), found), ', ' ORDER BY requirement, tenant_id) FROM tenancy.detect_missing_tenant_data()";
    assert_eq!(owner.text(missing).as_deref(), Some("c b 0"));
    let mut attacker = stage.database.connect(&maker);
    let trap = "RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('trap.ran_as', current_user, false); RETURN false; END $$";
    attacker.ok(&format!(
        "CREATE FUNCTION app.is_main(text) {trap}; CREATE FUNCTION app.trap(text, text) {trap};
         CREATE OPERATOR app.= (LEFTARG = text, RIGHTARG = text, FUNCTION = app.trap);
         CREATE DOMAIN app.trapped AS text CHECK (app.is_main(VALUE))"
    ));
    let ran_as = "SELECT coalesce(current_setting('trap.ran_as', true), '')";
    owner.ok("SET search_path = app, pg_catalog");
    // It could not be looked for, which is a row.
    assert_eq!(owner.text(missing).as_deref(), Some("c"));
    assert_eq!(owner.text(ran_as).as_deref(), Some(""));
    assert!(faults(&mut owner).contains(&"not-checked app.configuration ?".to_owned()));
    assert_eq!(owner.text(ran_as).as_deref(), Some(""));
    for condition in [
        "app.is_main(kind)",
        "kind OPERATOR(app.=) ''x''",
        "kind::app.trapped IS NOT NULL",
    ] {
        expect_error(
            &owner.error(&format!(
                "SELECT tenancy.require_rows('d', 'app.configuration', condition => '{condition}')"
            )),
            "42501",
            "relation or type to",
        );
    }
    // Names that are not qualified are Postgres's, and functions of the owner's are run.
    owner.ok("SELECT tenancy.require_rows('c', 'app.configuration', condition => 'kind = ''main'' AND app.is_mine(kind)')");
    assert_eq!(owner.text(missing).as_deref(), Some("c b 0"));
    assert_eq!(owner.text(ran_as).as_deref(), Some(""));
    // A superuser has everybody's rights.
    stage.superuser().ok("DROP FUNCTION app.is_main(text) CASCADE; ALTER FUNCTION app.is_mine(varchar) OWNER TO CURRENT_USER");
    assert_eq!(owner.text(missing).as_deref(), Some("c b 0"));
    // A key that is of another type by now.
    owner.ok("SELECT tenancy.unprotect_table('app.configuration'); ALTER TABLE app.configuration ALTER tenant_id TYPE text");
    assert_eq!(owner.text(missing).as_deref(), Some("c"));
}

#[test]
fn keys_are_spelled_as_what_they_are_keys_of() {
    let stage = bound();
    let mut owner = stage.owner();
    owner.ok(
        "CREATE DOMAIN app.tenant AS uuid; CREATE TABLE app.kept (tenant app.tenant, member varchar(9), at timestamptz, number int, code bytea);
         SELECT tenancy.require_rows('kept', 'app.kept', 'tenant');
         SELECT tenancy.require_rows('kept', 'app.kept', 'member', each => 'user')",
    );
    for (column, each) in [
        ("at", "user"),
        ("number", "user"),
        ("code", "user"),
        ("tenant", "user"),
        ("member", "tenant"),
    ] {
        expect_error(
            &owner.error(&format!(
                "SELECT tenancy.require_rows('kept', 'app.kept', '{column}', each => '{each}')"
            )),
            "42804",
            &format!("of the {each}s' type"),
        );
    }
    owner.ok(&format!("INSERT INTO app.kept VALUES ('{A}', 'ann')"));
    let missing = "SELECT string_agg(subject, ' ' ORDER BY subject) FROM tenancy.detect_missing_tenant_data() WHERE requirement = 'kept'";
    assert_eq!(owner.text(missing).as_deref(), Some("bob both both"));
    owner.ok("SELECT tenancy.require_rows('kept', 'app.kept', 'tenant')");
    assert_eq!(owner.text(missing).as_deref(), Some(B));
}

#[test]
fn bad_input_is_refused_and_changes_nothing() {
    let stage = bound();
    let mut owner = stage.owner();
    let table = "'app.configuration'";
    for (call, code, needle) in [
        (format!("require_rows(NULL, {table})"), "22004", "\"name\""),
        ("require_rows('c', NULL)".to_owned(), "22004", "\"table\""),
        (
            format!("require_rows('c', {table}, NULL)"),
            "22004",
            "key_column",
        ),
        (
            format!("require_rows('c', {table}, minimum => NULL)"),
            "22004",
            "minimum",
        ),
        (
            format!("require_rows('c', {table}, each => NULL)"),
            "22004",
            "each",
        ),
        (
            format!("require_rows(' ', {table})"),
            "22023",
            "needs a name",
        ),
        (
            format!("require_rows('c', {table}, minimum => 0)"),
            "22023",
            "minimum",
        ),
        (
            format!("require_rows('c', {table}, each => 'dog')"),
            "22023",
            "tenant or user",
        ),
        (
            format!("require_rows('c', {table}, 'nothing')"),
            "42703",
            "nothing",
        ),
        (
            format!("require_rows('c', {table}, 'kind')"),
            "42804",
            "tenants are of type uuid",
        ),
        (
            format!("require_rows('c', {table}, fix => 'SELECT 1')"),
            "22023",
            "for whom",
        ),
        (
            format!("require_rows('c', {table}, fix => 'SELECT $1; SELECT $1')"),
            "22023",
            "single statement",
        ),
        (
            format!("require_rows('c', {table}, fix => 'DROP TABLE x')"),
            "22023",
            "single statement",
        ),
        (
            format!("require_rows('c', {table}, fix => 'nonsense')"),
            "42601",
            "",
        ),
        (
            "require_rows('c', 'app.nowhere')".to_owned(),
            "42P01",
            "nowhere",
        ),
        ("unrequire_rows(NULL)".to_owned(), "22004", "name"),
        (
            "detect_missing_tenant_data('x')".to_owned(),
            "22P02",
            "uuid",
        ),
        (
            "detect_missing_tenant_data('00000000-0000-0000-0000-0000000000ff')".to_owned(),
            "42704",
            "does not exist",
        ),
    ] {
        expect_error(
            &owner.error(&format!("SELECT * FROM tenancy.{call}")),
            code,
            needle,
        );
    }
    owner.ok("CREATE VIEW app.v AS SELECT * FROM app.configuration");
    expect_error(
        &owner.error("SELECT tenancy.require_rows('c', 'app.v')"),
        "42809",
        "tables only",
    );
    assert_eq!(owner.int("SELECT count(*) FROM tenancy.required_rows"), 0);
    let mut app = stage.nobody();
    expect_error(
        &app.error(&format!("SELECT tenancy.require_rows('c', {table})")),
        "42501",
        "owner of the database",
    );
    expect_error(
        &app.error("SELECT tenancy.unrequire_rows('c')"),
        "42501",
        "owner of the database",
    );
    assert_eq!(
        app.error("DELETE FROM tenancy.required_rows").code().code(),
        "42501"
    );
    let unbound = Stage::unbound();
    for call in ["detect_missing_tenant_data()", "check_data_consistency()"] {
        expect_error(
            &unbound
                .superuser()
                .error(&format!("SELECT * FROM tenancy.{call}")),
            "55000",
            "tenancy.bind",
        );
    }
}

/// The four faults of the agent platform, each with the fix that it had: a default configuration, the
/// platform tenant, a profile from the e-mail, the core apps.
#[test]
fn the_faults_of_the_agent_platform_are_found_and_mended() {
    let stage = scenario_support::Stage::as_found(&AGENTS);
    stage.register_only();
    let mut admin = stage.superuser();
    admin.ok("SELECT tenancy.require_rows('configuration', 'tenant_configurations',
             fix => 'INSERT INTO public.tenant_configurations (tenant_id) VALUES ($1)');
         SELECT tenancy.require_rows('core apps', 'tenant_apps', condition => $$app_key IN ('app-1', 'app-2')$$, minimum => 2,
             fix => $$INSERT INTO public.tenant_apps (tenant_id, app_key, app_name, app_route)
                      SELECT $1, 'app-' || n, 'App ' || n, '/apps/' || n FROM generate_series(1, 2) AS n ON CONFLICT DO NOTHING$$);
         SELECT tenancy.require_rows('profile', 'profiles', 'id', each => 'user',
             fix => $$INSERT INTO public.profiles (id, full_name) SELECT id, split_part(email, '@', 1) FROM public.users WHERE id = $1$$)");
    // As the system was: organisation 3 without a configuration, 4 with one app too few, users without an
    // organisation, content of nobody. The platform has no apps, and every 25th user no profile.
    admin.ok("ALTER TABLE users ALTER organization_id DROP NOT NULL;
         DELETE FROM tenant_configurations WHERE tenant_id = md5('org-3')::uuid;
         DELETE FROM tenant_apps WHERE tenant_id = md5('org-4')::uuid AND app_key = 'app-2';
         UPDATE users SET organization_id = NULL WHERE id IN (md5('user-1-3')::uuid, md5('user-2-3')::uuid);
         SET session_replication_role = replica;
         ALTER TABLE agents ALTER tenant_id DROP NOT NULL;
         UPDATE agents SET tenant_id = NULL WHERE id = md5('agents-1-1')::uuid");
    assert_eq!(
        faults(&mut admin),
        [
            "row-without-tenant public.agents 1",
            "tenant-without-rows public.tenant_apps 2",
            "tenant-without-rows public.tenant_configurations 1",
            "user-without-rows public.profiles 20",
            "user-without-tenant public.users 2",
        ]
    );
    admin.ok("RESET session_replication_role");
    for mend in admin.rows("SELECT remediation FROM tenancy.check_data_consistency()") {
        admin.ok(mend[0].as_deref().expect("every fault has a remediation"));
    }
    assert_eq!(faults(&mut admin), Vec::<String>::new());
    assert_eq!(
        admin.int("SELECT count(*) FROM tenancy.detect_missing_tenant_data()"),
        0
    );
    assert_eq!(
        admin
            .text("SELECT full_name FROM profiles WHERE id = md5('user-1-25')::uuid")
            .as_deref(),
        Some("user25")
    );
    assert_eq!(
        admin.int(&format!("SELECT count(*) FROM users WHERE organization_id = '{PLATFORM}' AND email <> 'root@example.com'")),
        2
    );
    // One who is new shows up, by himself and among all.
    admin.ok("INSERT INTO organizations (id, name, slug, tenant_type, tenant_key) VALUES (md5('new')::uuid, 'New', 'new', 'system', 'new')");
    assert_eq!(
        admin
            .int("SELECT count(*) FROM tenancy.detect_missing_tenant_data(md5('new')::uuid::text)"),
        2
    );
}
