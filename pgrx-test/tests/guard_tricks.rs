//! The identity guard against tricks with commands, triggers, types, roles and names.

mod guard_support;

use guard_support::*;
use pgrx_test::fixture::{ClientExt, anonymous_memory, expect_error};

const PROMOTE: &str = "UPDATE platform.organization_members SET role = 'owner' WHERE id = 1";

fn join_b() -> String {
    format!(
        "INSERT INTO platform.organization_members (user_id, organization_id, role) VALUES ('{}', '{}', 'owner')",
        user(MEMBER),
        org(ORG_B)
    )
}

/// Each of these makes the new row visible before the statement ends.
#[test]
fn a_member_is_judged_by_what_he_was_and_not_by_the_row_he_writes() {
    let studio = System::studio();
    studio.refused(MEMBER, ORG_A, &format!("{PROMOTE} RETURNING lo_create(0)"));
    studio.refused(
        MEMBER,
        ORG_B,
        &format!("{} RETURNING lo_create(0)", join_b()),
    );
    studio.refused(
        MEMBER,
        ORG_A,
        &format!("{PROMOTE} RETURNING lo_create(0), current_tenant_role()"),
    );
    studio.refused(MEMBER, ORG_A, &format!(
        "CREATE FUNCTION pg_temp.look() RETURNS text LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP TABLE x (); RETURN current_tenant_role(); END $$;
         {PROMOTE} RETURNING pg_temp.look()"));
    studio.refused(MEMBER, ORG_A, &format!(
        "WITH first AS ({PROMOTE} RETURNING lo_create(0) AS o)
         UPDATE platform.organization_members SET role = 'admin' WHERE id = 6 AND EXISTS (SELECT FROM first)"));
}

#[test]
fn a_grant_inside_the_statement_that_promotes_is_refused_with_it() {
    let studio = System::studio();
    studio.refused(MEMBER, ORG_A, &format!(
        "CREATE FUNCTION pg_temp.grant_more() RETURNS int LANGUAGE plpgsql AS $$
         BEGIN UPDATE platform.organization_members SET role = 'admin' WHERE id = 6; RETURN 1; END $$;
         {PROMOTE} RETURNING pg_temp.grant_more()"));
}

#[test]
fn triggers_of_the_application_that_fire_before_the_guard_change_nothing() {
    let studio = System::studio();
    studio.as_owner(
        "CREATE TABLE platform.log (at timestamptz DEFAULT now(), who text);
         GRANT INSERT ON platform.log TO PUBLIC;
         CREATE FUNCTION platform.log() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO platform.log (who) VALUES (current_tenant_role()); RETURN NULL; END $$;
         CREATE TRIGGER a_first AFTER INSERT OR UPDATE OR DELETE ON platform.organization_members
             FOR EACH ROW EXECUTE FUNCTION platform.log();
         CREATE TRIGGER zz_last AFTER INSERT OR UPDATE OR DELETE ON platform.organization_members
             FOR EACH ROW EXECUTE FUNCTION platform.log();
         CREATE FUNCTION platform.sync() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN IF NEW.nickname IN ('admin', 'owner') THEN NEW.role := NEW.nickname::platform.member_role; END IF; RETURN NEW; END $$;
         CREATE TRIGGER zzz_sync BEFORE INSERT OR UPDATE ON platform.organization_members
             FOR EACH ROW EXECUTE FUNCTION platform.sync()");
    studio.refused(MEMBER, ORG_A, PROMOTE);
    studio.refused(MEMBER, ORG_B, &join_b());
    // The application's own trigger writes the role after a BEFORE trigger of ours would have looked.
    studio.refused(
        MEMBER,
        ORG_A,
        "UPDATE platform.organization_members SET nickname = 'owner' WHERE id = 1",
    );
    studio.allowed(
        MEMBER,
        ORG_A,
        "UPDATE platform.organization_members SET nickname = 'x' WHERE id = 1",
    );
}

#[test]
fn savepoints_do_not_hide_a_refusal() {
    let studio = System::studio();
    let before = studio.contents();
    studio.allowed(
        MEMBER,
        ORG_A,
        &format!("DO $$ BEGIN {PROMOTE}; EXCEPTION WHEN insufficient_privilege THEN NULL; END $$"),
    );
    assert_eq!(before, studio.contents());
}

#[test]
fn constraints_cannot_be_deferred_past_the_guard() {
    let studio = System::studio();
    studio.refused(
        MEMBER,
        ORG_A,
        &format!("SET CONSTRAINTS ALL DEFERRED; {PROMOTE}"),
    );
}

#[test]
fn the_guard_cannot_be_switched_off_by_the_application() {
    let studio = System::studio();
    let mut session = studio.session();
    for sql in [
        "SET session_replication_role = replica",
        "ALTER TABLE platform.organization_members DISABLE TRIGGER ALL",
        "DROP TRIGGER tenancy_identity_guard ON platform.organization_members",
        "SET pg_tenancy.admin_role = 'postgres'",
        "SET pg_tenancy.context_scope = session",
        "DELETE FROM tenancy.binding_definition",
        "UPDATE tenancy.binding_definition SET definition = definition",
        "SELECT tenancy.unbind()",
        "SELECT tenancy.bind(tenant_setting => 'app.current_org_id')",
        "CREATE OR REPLACE FUNCTION tenancy.guard_identity() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TABLE platform.kid () INHERITS (platform.organization_members)",
    ] {
        expect_error(&session.error(sql), "42501", "");
    }
}

#[test]
fn other_roles_gain_nothing_by_switching() {
    let studio = System::studio();
    let (left, right) = (studio.database.role("left"), studio.database.role("right"));
    studio.database.superuser().ok(&format!(
        "GRANT {left}, {right} TO {app};
         GRANT USAGE ON SCHEMA platform TO {left};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA platform TO {left}",
        app = studio.app
    ));
    studio.refused(MEMBER, ORG_A, &format!("SET LOCAL ROLE {left}; {PROMOTE}"));
    studio.refused(
        MEMBER,
        ORG_A,
        &format!("{PROMOTE} RETURNING set_config('role', '{left}', true)"),
    );
    let invoker = format!(
        "CREATE FUNCTION pg_temp.p() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$ {PROMOTE} $$; SELECT pg_temp.p()"
    );
    studio.refused(MEMBER, ORG_A, &invoker);
}

/// Whoever owns a table may have any trigger function called for it, and one statement writes several
/// tables as one command.
#[test]
fn the_owner_of_another_table_gains_nothing_by_its_triggers() {
    let studio = System::studio();
    let own_function = |table: &str| {
        format!(
            "CREATE FUNCTION pg_temp.p() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$
                 WITH first AS (INSERT INTO {table} VALUES (gen_random_uuid())) {PROMOTE} $$;
             SELECT pg_temp.p()"
        )
    };
    studio.refused(
        MEMBER,
        ORG_A,
        &format!(
            "CREATE TEMP TABLE own (a uuid);
             CREATE TRIGGER n BEFORE INSERT ON own FOR EACH ROW EXECUTE FUNCTION tenancy.invalidate_context();
             {}",
            own_function("pg_temp.own")
        ),
    );
    // Nor does the owner of one bound table by its own.
    studio.database.superuser().ok(&format!(
        "GRANT {app} TO {owner}; ALTER TABLE platform.organizations OWNER TO {app}",
        app = studio.app,
        owner = studio.owner
    ));
    studio.refused(MEMBER, ORG_A, &own_function("platform.organizations"));
}

#[test]
fn a_function_of_the_owner_may_write_identity() {
    let studio = System::studio();
    studio.as_owner(&format!(
        "CREATE FUNCTION platform.promote() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$ {PROMOTE} $$"));
    studio.allowed(MEMBER, ORG_A, "SELECT platform.promote()");
    assert!(studio.contents().contains("owner,t"));
}

#[test]
fn owners_writers_and_administrators_are_exempt() {
    let studio = System::studio();
    let (writer, follower, stranger) = (
        studio.database.role("writer"),
        studio.database.role("follower"),
        studio.database.role("stranger"),
    );
    let mut root = studio.database.superuser();
    root.ok(&format!(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA platform TO {writer}, {stranger};
         GRANT {writer} TO {follower};
         SELECT tenancy.bind(tenant_setting => 'app.current_org_id',
             membership => 'platform.organization_members', membership_tenant => 'organization_id',
             membership_role => 'role', membership_active => 'active',
             tenants => 'platform.organizations', tenants_active => 'is_active', identity_writers => '{{{writer}}}')"));
    let write = "UPDATE platform.organization_members SET role = 'super_admin' WHERE id = 1;
                 UPDATE platform.organization_members SET role = 'member' WHERE id = 1;
                 UPDATE platform.organizations SET is_active = NOT is_active";
    for role in [&writer, &follower, &studio.owner] {
        studio.database.connect(role).ok(write);
    }
    root.ok(write);
    expect_error(
        &studio.database.connect(&stranger).error(write),
        "42501",
        "identity columns",
    );
    root.ok(&format!(
        "ALTER ROLE {stranger} SET pg_tenancy.admin_role = '{stranger}'"
    ));
    studio.database.connect(&stranger).ok(write);
}

/// Members who go when their account does, which the application may delete.
fn studio_with_accounts() -> System {
    let studio = System::studio();
    studio.as_owner(&format!(
        "CREATE TABLE platform.accounts (id uuid PRIMARY KEY);
         INSERT INTO platform.accounts SELECT DISTINCT user_id FROM platform.organization_members;
         ALTER TABLE platform.organization_members ADD FOREIGN KEY (user_id) REFERENCES platform.accounts ON DELETE CASCADE;
         GRANT SELECT, DELETE ON platform.accounts TO {}", studio.app));
    studio
}

#[test]
fn foreign_keys_cascade_by_the_owners_rights() {
    let studio = studio_with_accounts();
    studio.allowed(
        MEMBER,
        ORG_A,
        &format!(
            "DELETE FROM platform.accounts WHERE id = '{}'",
            user(MEMBER)
        ),
    );
    assert!(!studio.contents().contains(&user(MEMBER)));
    // And for a super admin who removes a tenant with all its members.
    studio.allowed(
        SUPER_ADMIN,
        ORG_A,
        &format!(
            "DELETE FROM platform.organizations WHERE id = '{}'",
            org(ORG_B)
        ),
    );
    assert!(!studio.contents().contains(&org(ORG_B)));
}

/// A trigger of the application that queries before ours.
fn query_first(studio: &System) {
    studio.as_owner(
        "CREATE FUNCTION platform.look() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM FROM platform.organizations; RETURN OLD; END $$;
         CREATE TRIGGER a_first BEFORE DELETE ON platform.organization_members
             FOR EACH ROW EXECUTE FUNCTION platform.look()",
    );
}

fn close_account(number: u32) -> String {
    format!(
        "DELETE FROM platform.accounts WHERE id = '{}'",
        user(number)
    )
}

#[test]
fn foreign_keys_cascade_past_triggers_of_the_application() {
    let studio = studio_with_accounts();
    query_first(&studio);
    studio.allowed(MEMBER, ORG_A, &close_account(LEAVER));
    assert!(!studio.contents().contains(&user(LEAVER)));
}

/// Such a session has read no binding, or one that did not hold the table yet.
#[test]
fn foreign_keys_cascade_in_sessions_that_ask_for_no_context() {
    let studio = studio_with_accounts();
    query_first(&studio);
    studio.session().ok(&close_account(LEAVER));
    assert!(!studio.contents().contains(&user(LEAVER)));

    studio.as_owner(
        "SELECT tenancy.unbind();
         SELECT tenancy.bind(tenant_setting => 'app.current_org_id', tenants => 'platform.organizations')",
    );
    let mut early = studio.session();
    assert_eq!(early.text("SELECT current_tenant_id()"), None);
    studio.as_owner(
        "SELECT tenancy.bind(tenant_setting => 'app.current_org_id',
             membership => 'platform.organization_members', membership_tenant => 'organization_id',
             membership_role => 'role')",
    );
    early.ok(&close_account(STRANDED));
    assert!(!studio.contents().contains(&user(STRANDED)));
    // He who cascades may write nothing else.
    let error = early.error(&format!("{}; {PROMOTE}", close_account(MEMBER_B)));
    expect_error(&error, "42501", "identity columns");
}

/// Four hundred thousand accounts, a tenth with a membership, in a session that a pooler keeps.
#[test]
fn what_cascades_is_remembered_no_longer_than_it_takes() {
    let studio = studio_with_accounts();
    studio.as_owner(&format!(
        "INSERT INTO platform.accounts
             SELECT ('00000000-0000-4000-9000-' || lpad(n::text, 12, '0'))::uuid FROM generate_series(1, 400000) n;
         INSERT INTO platform.organization_members (user_id, organization_id)
             SELECT id, '{}' FROM platform.accounts WHERE id::text LIKE '%-9000-%0';
         ANALYZE platform.accounts, platform.organization_members",
        org(ORG_A)
    ));
    let mut session = studio.session();
    assert_eq!(session.text("SELECT current_tenant_id()"), None);
    session.ok(&close_account(LEAVER));
    let pid = session.int("SELECT pg_backend_pid()");
    let before = anonymous_memory(pid);
    session.ok("BEGIN; DELETE FROM platform.accounts");
    let during = anonymous_memory(pid);
    session.ok("COMMIT");
    let after = anonymous_memory(pid);
    assert_eq!(
        session.int("SELECT count(*) FROM platform.organization_members"),
        0
    );
    assert!(
        during.max(after) - before < 3_500,
        "{before} kB before, {during} after the cascade, {after} after the transaction"
    );
}

/// `character(n)` pads, a boolean has two spellings, a domain has a base type: the guard must rank
/// what lookups will read.
#[test]
fn roles_of_every_type_are_ranked_as_lookups_read_them() {
    for (role_type, super_admin, admin, member) in [
        ("character(20)", "super_admin", "admin", "member"),
        ("varchar(20)", "super_admin", "admin", "member"),
        ("role_domain", "super_admin", "admin", "member"),
        ("role_enum", "super_admin", "admin", "member"),
        ("integer", "9", "5", "1"),
    ] {
        let studio = System::studio();
        studio.as_owner(&format!(
            "CREATE DOMAIN platform.role_domain AS character(30);
             CREATE TYPE platform.role_enum AS ENUM ('member', 'admin', 'super_admin');
             SET search_path = platform;
             SELECT tenancy.unbind();
             DELETE FROM organization_members WHERE role = 'owner';
             ALTER TABLE organization_members ALTER role DROP DEFAULT, ALTER role TYPE text;
             UPDATE organization_members SET role = CASE role WHEN 'super_admin' THEN '{super_admin}' WHEN 'admin' THEN '{admin}' ELSE '{member}' END;
             ALTER TABLE organization_members ALTER role TYPE {role_type} USING role::{role_type};
             SELECT tenancy.bind(tenant_setting => 'app.current_org_id',
                membership => 'organization_members', membership_tenant => 'organization_id', membership_role => 'role',
                admin_roles => '{{{admin},{super_admin}}}', super_admin_roles => '{{{super_admin}}}')"));
        let grant = |role: &str| {
            format!("UPDATE platform.organization_members SET role = '{role}' WHERE id = 1")
        };
        studio.refused(MEMBER, ORG_A, &grant(admin));
        studio.refused(ADMIN, ORG_A, &grant(super_admin));
        studio.refused(
            ADMIN,
            ORG_A,
            "DELETE FROM platform.organization_members WHERE id = 4",
        );
        studio.allowed(ADMIN, ORG_A, &grant(admin));
        studio.allowed(MEMBER, ORG_A, &grant(member));
    }
}

#[test]
fn a_boolean_column_can_be_the_role() {
    let studio = System::studio();
    studio.as_owner(
        "SELECT tenancy.unbind();
         ALTER TABLE platform.organization_members ALTER role DROP DEFAULT;
         ALTER TABLE platform.organization_members ALTER role TYPE boolean USING role <> 'member';
         SELECT tenancy.bind(tenant_setting => 'app.current_org_id',
            membership => 'platform.organization_members', membership_tenant => 'organization_id', membership_role => 'role',
            admin_roles => '{true}', super_admin_roles => '{}')");
    let grant = "UPDATE platform.organization_members SET role = true WHERE id = 1";
    studio.refused(MEMBER, ORG_A, grant);
    studio.refused(MEMBER_B, ORG_A, grant);
    studio.allowed(ADMIN, ORG_A, grant);
}

#[test]
fn a_generated_role_is_guarded_with_what_it_is_made_of() {
    let studio = System::studio();
    studio.as_owner(
        "SELECT tenancy.unbind();
         ALTER TABLE platform.organization_members ADD data jsonb NOT NULL DEFAULT '{}',
            ADD kind text GENERATED ALWAYS AS (coalesce(data->>'role', 'member')) STORED;
         UPDATE platform.organization_members SET data = jsonb_build_object('role', role);
         SELECT tenancy.bind(tenant_setting => 'app.current_org_id',
            membership => 'platform.organization_members', membership_tenant => 'organization_id', membership_role => 'kind')");
    studio.refused(
        MEMBER,
        ORG_A,
        r#"UPDATE platform.organization_members SET data = '{"role": "admin"}' WHERE id = 1"#,
    );
    studio.refused(
        ADMIN,
        ORG_A,
        r#"UPDATE platform.organization_members SET data = '{"role": "super_admin"}' WHERE id = 1"#,
    );
    studio.allowed(MEMBER, ORG_A, r#"UPDATE platform.organization_members SET data = data || '{"theme": "dark"}' WHERE id = 1"#);
    studio.allowed(
        ADMIN,
        ORG_A,
        r#"UPDATE platform.organization_members SET data = '{"role": "admin"}' WHERE id = 1"#,
    );
}

#[test]
fn virtual_generated_columns_cannot_carry_identity() {
    let studio = System::studio();
    if studio.database.server().version < 18 {
        return;
    }
    studio.as_owner("ALTER TABLE platform.organization_members ADD kind text GENERATED ALWAYS AS (nickname) VIRTUAL");
    let mut owner = studio.database.connect(&studio.owner);
    for argument in [
        "membership_role => 'kind'",
        "membership_active => 'kind IS NULL'",
    ] {
        let error = owner.error(&format!(
            "SELECT tenancy.bind(tenant_setting => 'app.current_org_id', membership => 'platform.organization_members',
                membership_tenant => 'organization_id', {argument})"));
        expect_error(&error, "0A000", "virtual generated column");
    }
}

#[test]
fn large_values_are_compared_and_not_their_storage() {
    let studio = System::studio();
    studio.as_owner(
        "SELECT tenancy.unbind();
         ALTER TABLE platform.organization_members ADD note text;
         ALTER TABLE platform.organization_members ALTER note SET STORAGE EXTERNAL;
         UPDATE platform.organization_members SET note = repeat('x', 100000);
         SELECT tenancy.bind(tenant_setting => 'app.current_org_id', membership => 'platform.organization_members',
            membership_tenant => 'organization_id', membership_role => 'role', membership_active => 'note IS NOT NULL')");
    studio.allowed(MEMBER, ORG_A, "UPDATE platform.organization_members SET note = repeat('x', 100000), nickname = 'n' WHERE id = 1");
    studio.refused(
        MEMBER,
        ORG_A,
        "UPDATE platform.organization_members SET note = repeat('x', 99999) || 'y' WHERE id = 1",
    );
    studio.refused(
        MEMBER,
        ORG_A,
        "UPDATE platform.organization_members SET note = NULL WHERE id = 2",
    );
}

#[test]
fn names_in_temporary_schemas_shadow_nothing() {
    let studio = System::studio();
    studio.refused(MEMBER, ORG_A, &format!(
        "CREATE TEMP TABLE organization_members (LIKE platform.organization_members);
         INSERT INTO pg_temp.organization_members VALUES (1, '{}', '{}', 'super_admin', true);
         CREATE TEMP TABLE organizations (LIKE platform.organizations);
         CREATE FUNCTION pg_temp.guard_identity() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE FUNCTION pg_temp.text(uuid) RETURNS text LANGUAGE sql AS 'SELECT ''x''';
         SET LOCAL search_path = pg_temp, platform;
         {PROMOTE}", user(MEMBER), org(ORG_A)));
    let mut session = studio.session();
    session.ok(&format!(
        "CREATE TEMP TABLE organization_members (LIKE platform.organization_members);
         INSERT INTO pg_temp.organization_members VALUES (1, '{}', '{}', 'super_admin', true);
         SET search_path = pg_temp, platform;
         BEGIN; SET LOCAL app.current_user_id = '{}'; SET LOCAL app.current_org_id = '{}'",
        user(MEMBER),
        org(ORG_B),
        user(MEMBER),
        org(ORG_B)
    ));
    assert_eq!(session.text("SELECT public.current_tenant_id()"), None);
}

#[test]
fn a_trigger_left_behind_by_hand_refuses_instead_of_guessing() {
    let studio = System::studio();
    studio.as_owner(
        "CREATE TABLE platform.other (a int);
         CREATE TRIGGER g AFTER INSERT ON platform.other FOR EACH ROW EXECUTE FUNCTION tenancy.guard_identity();
         GRANT INSERT ON platform.other TO PUBLIC");
    studio.refused(ADMIN, ORG_A, "INSERT INTO platform.other VALUES (1)");
    let mut session = studio.session();
    for function in ["guard_identity", "invalidate_context"] {
        let error = session.error(&format!("SELECT tenancy.{function}()"));
        expect_error(&error, "0A000", "trigger");
    }
}
