//! Rows that are not as isolation needs them: what is found, counted, mended, and told as not seen.

mod policy_support;
mod scenario_support;

use pgrx_test::fixture::{ClientExt, expect_error};
use pgrx_test::scenario::{AGENTS, INSIGHTS, OKR, STUDIO};
use policy_support::{A, B, Stage};

const GONE: &str = "00000000-0000-0000-0000-00000000000f";

/// Tenants A and B with a user each, and rows that are as they should be.
fn tidy() -> Stage {
    let stage = Stage::unbound();
    stage.owner().ok(&format!(
        "CREATE TABLE app.tenants (id uuid PRIMARY KEY);
         CREATE TABLE app.users (id text PRIMARY KEY, role text);
         CREATE TABLE app.members (user_id text, tenant_id uuid);
         CREATE TABLE app.parents (id int PRIMARY KEY, tenant_id uuid NOT NULL);
         CREATE TABLE app.children (id int PRIMARY KEY, tenant_id uuid, parent_id bigint REFERENCES app.parents, note text);
         INSERT INTO app.tenants VALUES ('{A}'), ('{B}');
         INSERT INTO app.users VALUES ('a'), ('b');
         INSERT INTO app.members VALUES ('a', '{A}'), ('b', '{B}');
         INSERT INTO app.parents VALUES (1, '{A}'), (2, '{B}');
         INSERT INTO app.children VALUES (1, '{A}', 1), (2, '{B}', 2), (3, '{B}', NULL)"
    ));
    stage.superuser().ok("SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id', membership => 'app.members',
        tenants => 'app.tenants', role_table => 'app.users', role_column => 'role')");
    stage
}

const FOUND: &str = "SELECT level || ' ' || code || ' ' || object || ': ' || split_part(detail, ':', 1) FROM tenancy.validate_data() ORDER BY code, object";

#[test]
fn bad_rows_are_counted_and_good_ones_are_not() {
    let stage = tidy();
    let mut superuser = stage.superuser();
    assert!(superuser.texts(FOUND).is_empty());
    superuser.ok(&format!(
        "INSERT INTO app.children VALUES (11, '{A}', 2), (12, '{B}', 1), (13, NULL, 2), (14, '{GONE}', NULL);
         INSERT INTO app.users VALUES ('c'); INSERT INTO app.members VALUES ('a', NULL);
         INSERT INTO app.tenants VALUES ('00000000-0000-0000-0000-00000000000c')"
    ));
    assert_eq!(
        superuser.texts(FOUND),
        [
            "error data-link-crosses table constraint children_parent_id_fkey on app.children: 2 rows pointing at rows of other tenants in app.parents",
            "warn data-tenant-null table column app.children.tenant_id: 1 row without a tenant",
            "warn data-tenant-unknown table column app.children.tenant_id: 1 row of tenants that app.tenants does not have",
            "info data-tenant-without-users table app.tenants: 1 row without a row in app.members",
            "info data-user-without-tenant table app.members: 1 row without a tenant",
            "info data-user-without-tenant table app.users: 1 row without a row in app.members",
        ]
    );
    let query = superuser
        .text("SELECT split_part(detail, ': ', 2) FROM tenancy.validate_data() WHERE code = 'data-link-crosses'")
        .expect("a query");
    let ids: Vec<_> = superuser.texts(&query);
    assert_eq!(ids, ["11", "12"]);
    for remediation in superuser
        .texts("SELECT remediation FROM tenancy.validate_data() WHERE remediation IS NOT NULL")
    {
        superuser.ok(&remediation);
    }
    let codes = "SELECT code FROM tenancy.validate_data() WHERE level <> 'info'";
    assert_eq!(superuser.texts(codes), ["data-tenant-unknown"]);
    let row = "SELECT tenant_id FROM app.children WHERE id = 13";
    assert_eq!(superuser.text(row).as_deref(), Some(B));
}

/// Of what a key that is NOT VALID says, no row was asked that was there before it.
#[test]
fn a_key_that_was_never_checked_is_read_as_if_it_were_none() {
    let stage = tidy();
    let mut superuser = stage.superuser();
    superuser.ok(&format!(
        "ALTER TABLE app.parents ADD UNIQUE (tenant_id, id);
         ALTER TABLE app.children DROP CONSTRAINT children_parent_id_fkey;
         INSERT INTO app.children VALUES (11, '{A}', 2), (12, '{A}', NULL);
         ALTER TABLE app.children ADD CONSTRAINT k FOREIGN KEY (tenant_id, parent_id) REFERENCES app.parents (tenant_id, id) NOT VALID"
    ));
    assert_eq!(
        superuser.texts(FOUND),
        [
            "error data-link-crosses table constraint k on app.children: 1 row pointing at rows of other tenants in app.parents"
        ]
    );
    let codes = "SELECT remediation FROM tenancy.validate_data() UNION ALL SELECT remediation FROM tenancy.validate() WHERE code = 'key-without-tenant'";
    for remediation in superuser.texts(codes) {
        superuser.ok(&remediation);
    }
    assert!(superuser.texts(codes).is_empty());
    let kept = "SELECT parent_id FROM app.children WHERE id <> 11 ORDER BY id";
    assert_eq!(superuser.rows(kept).len(), 4);
    // Checked, it is not read again.
    superuser.ok("SET session_replication_role = replica; UPDATE app.children SET parent_id = 2 WHERE id = 11; RESET session_replication_role");
    assert!(superuser.texts(FOUND).is_empty());
}

#[test]
fn the_gate_asks_for_rows_only_where_told() {
    let stage = tidy();
    let mut superuser = stage.superuser();
    superuser.ok(&format!(
        "SELECT tenancy.protect_table('app.children', mode => 'enforce');
         INSERT INTO app.children VALUES (14, '{GONE}', NULL)"
    ));
    let schemas = "'{app}'";
    let findings =
        superuser.int("SELECT count(*) FROM tenancy.validate('{app}') WHERE code LIKE 'data-%'");
    assert_eq!(findings, 0);
    for waived in superuser.texts("SELECT format('SELECT tenancy.waive(%L, %L, %L, %L)', code, object, 'of another test', 'infinity')
         FROM tenancy.validate('{app}') WHERE level <> 'info' OR code = 'role-owner'",
    ) {
        superuser.ok(&waived);
    }
    superuser.ok(&format!("SELECT tenancy.assert_valid('warn', {schemas})"));
    expect_error(
        &superuser.error(&format!(
            "SELECT tenancy.assert_valid('warn', {schemas}, data => true)"
        )),
        "55000",
        "data-tenant-unknown",
    );
    superuser.ok(&format!(
        "SELECT tenancy.assert_valid('error', {schemas}, data => true)"
    ));
    superuser.ok("SELECT tenancy.waive('data-tenant-unknown', 'table column app.children.tenant_id', 'is being deleted', 'infinity')");
    superuser.ok(&format!(
        "SELECT tenancy.assert_valid('warn', {schemas}, data => true)"
    ));
    let waived =
        "SELECT waived::text FROM tenancy.validate_data() WHERE code = 'data-tenant-unknown'";
    assert_eq!(superuser.text(waived).as_deref(), Some("true"));
}

#[test]
fn what_the_caller_cannot_read_is_told_and_stops_the_gate() {
    let stage = tidy();
    let mut superuser = stage.superuser();
    superuser.ok(&format!(
        "SELECT tenancy.protect_table('app.parents', mode => 'enforce');
         REVOKE ALL ON app.children FROM {}",
        stage.app
    ));
    let unseen = "SELECT level || ' ' || object || ': ' || detail FROM tenancy.validate_data('{app}') WHERE code = 'not-seen' ORDER BY object COLLATE \"C\"";
    assert!(superuser.rows(unseen).is_empty());
    assert_eq!(
        stage.nobody().texts(unseen),
        [
            "error rule data-link-crosses on table constraint children_parent_id_fkey on app.children: SELECT on app.children is not granted",
            "warn rule data-tenant-null on table column app.children.tenant_id: SELECT on app.children is not granted",
            "warn rule data-tenant-unknown on table column app.children.tenant_id: SELECT on app.children is not granted",
            "warn rule data-tenant-unknown on table column app.parents.tenant_id: row security keeps rows of app.parents from who asks",
        ]
    );
    expect_error(
        &stage
            .nobody()
            .error("SELECT tenancy.assert_valid('error', data => true)"),
        "55000",
        "not-seen: rule data-link-crosses",
    );
    // FORCE binds the owner as well.
    let of_owner = stage.owner().texts(unseen);
    assert_eq!(of_owner.len(), 2, "{of_owner:?}");
}

#[test]
fn a_sample_reads_no_more_than_it_says() {
    let stage = tidy();
    let mut superuser = stage.superuser();
    superuser.ok("INSERT INTO app.children SELECT n, NULL, NULL, repeat('x', 200) FROM generate_series(100, 9099) n; ANALYZE app.children");
    let count = |sample: &str| {
        format!(
            "SELECT coalesce(sum(split_part(detail, ' ', 1)::int), 0) FROM tenancy.validate_data(NULL, {sample}) WHERE code = 'data-tenant-null'"
        )
    };
    assert_eq!(superuser.int(&count("NULL")), 9000);
    let sampled = superuser.int(&count("2000"));
    assert!((1..=2000).contains(&sampled), "{sampled}");
    assert_eq!(superuser.int(&count("100000")), 9000);
    expect_error(
        &superuser.error("SELECT * FROM tenancy.validate_data(NULL, 0)"),
        "22023",
        "at least one row",
    );
    expect_error(
        &superuser.error("SELECT * FROM tenancy.validate_data('{nowhere}')"),
        "3F000",
        "nowhere",
    );
}

#[test]
fn it_reads_only_tells_where_it_is_and_is_no_traffic() {
    let stage = tidy();
    let mut owner = stage.owner();
    owner.ok("SELECT tenancy.protect_table('app.children', mode => 'shadow')");
    owner.ok("BEGIN READ ONLY");
    assert!(owner.texts(FOUND).is_empty());
    assert_eq!(owner.text("SELECT pg_current_xact_id_if_assigned()"), None);
    owner.ok("COMMIT");
    assert_eq!(
        stage
            .superuser()
            .int("SELECT count(*) FROM tenancy.shadow_denials"),
        0
    );
    let told = stage
        .database
        .psql_told(&stage.owner, "SELECT * FROM tenancy.validate_data()");
    assert!(
        told.contains("reading rows of app.children (1 of"),
        "{told}"
    );
}

#[test]
fn partitions_are_read_with_their_table_and_heirs_by_themselves() {
    let stage = tidy();
    let mut superuser = stage.superuser();
    superuser.ok("CREATE TABLE app.parted (tenant_id uuid, note int) PARTITION BY LIST (note);
        CREATE TABLE app.part PARTITION OF app.parted FOR VALUES IN (1); CREATE TABLE app.heir () INHERITS (app.children);
        INSERT INTO app.parted VALUES (NULL, 1); INSERT INTO app.heir VALUES (77)");
    assert_eq!(
        superuser.texts(FOUND),
        [
            "warn data-tenant-null table column app.heir.tenant_id: 1 row without a tenant",
            "warn data-tenant-null table column app.parted.tenant_id: 1 row without a tenant",
        ]
    );
}

#[test]
fn shared_rows_may_be_pointed_at_and_take_what_has_no_tenant() {
    let stage = tidy();
    let mut superuser = stage.superuser();
    let platform = "00000000-0000-0000-0000-000000000001";
    superuser.ok(&format!(
        "SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id', membership => 'app.members', tenants => 'app.tenants', platform_tenant => '{platform}');
         CREATE TABLE app.shared (id int PRIMARY KEY, tenant_id uuid); ALTER TABLE app.children ADD shared int REFERENCES app.shared;
         SELECT tenancy.protect_table('app.shared', 'shared_read', mode => 'enforce');
         ALTER TABLE app.shared ALTER tenant_id DROP NOT NULL;
         INSERT INTO app.shared VALUES (1, '{platform}'), (2, '{B}'), (3, NULL);
         UPDATE app.children SET shared = CASE id WHEN 1 THEN 1 WHEN 2 THEN 2 END"
    ));
    let null = "warn data-tenant-null table column app.shared.tenant_id: 1 row without a tenant";
    assert_eq!(superuser.texts(FOUND), [null]);
    superuser.ok("UPDATE app.children SET shared = 2 WHERE id = 1");
    assert_eq!(
        superuser.texts(FOUND),
        [
            "error data-link-crosses table constraint children_shared_fkey on app.children: 1 row pointing at rows of other tenants in app.shared",
            null
        ]
    );
    for remediation in superuser.texts("SELECT remediation FROM tenancy.validate_data()") {
        superuser.ok(&remediation);
    }
    assert!(superuser.texts(FOUND).is_empty());
}

#[test]
fn tenants_and_keys_of_other_types_are_compared_as_text() {
    let stage = Stage::unbound();
    let mut superuser = stage.superuser();
    superuser.ok("CREATE DOMAIN app.tenant AS text;
        CREATE TABLE app.tenants (id varchar(20) PRIMARY KEY); INSERT INTO app.tenants VALUES ('a'), ('b');
        CREATE TABLE app.\"T x\" (id int, \"tenant_id\" app.tenant); INSERT INTO app.\"T x\" VALUES (1, 'a'), (2, 'z');
        SELECT tenancy.bind(tenant_type => 'text', tenant_setting => 'app.current_tenant_id', tenants => 'app.tenants')");
    assert_eq!(
        superuser.texts(FOUND),
        [
            "warn data-tenant-unknown table column app.\"T x\".tenant_id: 1 row of tenants that app.tenants does not have"
        ]
    );
    superuser.ok("SELECT tenancy.unbind(); SELECT tenancy.bind(tenant_type => 'text', tenant_setting => 'app.current_tenant_id')");
    assert_eq!(
        superuser.texts(FOUND),
        ["info not-seen tenants: no table of tenants is bound"]
    );
}

#[test]
fn a_count_that_fails_is_a_finding_and_the_others_go_on() {
    let stage = tidy();
    let mut superuser = stage.superuser();
    superuser.ok("INSERT INTO app.children VALUES (13, NULL, NULL);
        UPDATE tenancy.rules SET query = replace(query, 'r.%I IS NOT NULL', '1 / 0 = 1') WHERE code = 'data-tenant-unknown';
        UPDATE tenancy.rules SET query = 'SELECT 1 / 0' WHERE code = 'data-link-crosses'");
    let codes = "SELECT code || ' ' || object FROM tenancy.validate_data('{app}') WHERE level <> 'info' ORDER BY 1";
    assert_eq!(
        superuser.texts(codes),
        [
            "data-tenant-null table column app.children.tenant_id",
            "rule-failed rule data-link-crosses",
            "rule-failed rule data-tenant-unknown on table column app.children.tenant_id",
            "rule-failed rule data-tenant-unknown on table column app.members.tenant_id",
            "rule-failed rule data-tenant-unknown on table column app.parents.tenant_id",
        ]
    );
    superuser.ok("UPDATE tenancy.rules SET query = replace(query, 'r.%I IS NULL', 'pg_sleep(60) IS NULL') WHERE code = 'data-tenant-null'; SET statement_timeout = '2s'");
    assert_eq!(superuser.error(codes).code().code(), "57014");
}

/// The rows of the reference systems are in order.
/// Casts of a type are its owner's functions: who validates must not run them, least of all a superuser.
#[test]
fn nobodys_functions_are_run() {
    let stage = tidy();
    let trap = |kind: &str, target: &str, context: &str| {
        format!(
            "CREATE TYPE app.{kind} AS ENUM ('x');
             CREATE FUNCTION app.run_{kind}(app.{kind}) RETURNS {target} LANGUAGE plpgsql AS $$
             BEGIN
                 INSERT INTO app.ran VALUES ('{kind}', current_user);
                 RETURN '1';
             END $$;
             CREATE CAST (app.{kind} AS {target}) WITH FUNCTION app.run_{kind}(app.{kind}) {context};"
        )
    };
    stage.owner().ok(&format!(
        "CREATE TABLE app.ran (kind text, who text);
         {} {}
         CREATE TABLE app.traps (tenant_id app.tenant_trap); INSERT INTO app.traps VALUES ('x');
         CREATE TABLE app.named (tenant_id uuid, name int PRIMARY KEY); INSERT INTO app.named VALUES ('{A}', 1);
         CREATE TABLE app.keyed (tenant_id uuid, name app.key_trap REFERENCES app.named (name)); INSERT INTO app.keyed VALUES ('{B}', 'x');
         DELETE FROM app.ran",
        trap("tenant_trap", "text", ""),
        trap("key_trap", "int", "AS IMPLICIT"),
    ));
    let mut superuser = stage.superuser();
    assert_eq!(
        superuser.texts("SELECT level || ' ' || code || ' ' || object || ': ' || detail FROM tenancy.validate_data() ORDER BY object COLLATE \"C\""
        ),
        [
            "error not-seen rule data-link-crosses on table constraint keyed_name_fkey on app.keyed: column name of app.keyed is of a type that its maker may have given casts",
            "warn not-seen rule data-tenant-null on table column app.traps.tenant_id: column tenant_id of app.traps is of a type that its maker may have given casts",
            "warn not-seen rule data-tenant-unknown on table column app.traps.tenant_id: column tenant_id of app.traps is of a type that its maker may have given casts",
        ]
    );
    assert_eq!(superuser.int("SELECT count(*) FROM app.ran"), 0);
    // The trap works.
    superuser.ok("SELECT tenant_id::text FROM app.traps");
    assert_eq!(superuser.int("SELECT count(*) FROM app.ran"), 1);
}

#[test]
fn no_false_alarm_in_the_reference_systems() {
    let mut wrong = Vec::new();
    for scenario in [&OKR, &INSIGHTS, &STUDIO, &AGENTS] {
        let system = scenario_support::Stage::new(scenario);
        let found = system.superuser().texts(FOUND);
        let found: Vec<_> = found
            .into_iter()
            .filter(|line| !line.starts_with("info"))
            .collect();
        if !found.is_empty() {
            wrong.push(format!("{}: {found:#?}", scenario.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
