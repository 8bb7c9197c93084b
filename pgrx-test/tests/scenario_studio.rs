//! The studio platform, entirely on the extension: every rule of it, through the application's role and
//! with raw SQL. It is found with policies that let everything through, and they stay.

mod scenario_support;

use pgrx_test::fixture::{ClientExt, expect_error};
use pgrx_test::scenario::STUDIO;
use postgres::Client;
use scenario_support::probe::{self, every_policy_holds_something};
use scenario_support::studio::{
    ACTORS, TABLES, as_found, attempts, context, organisations, undecided, user,
};
use scenario_support::{Stage, affected};

#[test]
fn as_found_everybody_sees_and_does_everything() {
    let (_stage, mut client) = as_found();
    assert_eq!(client.int("SELECT count(*) FROM platform.projects"), 2400);
    client.ok("BEGIN");
    assert_eq!(affected(&mut client, "DELETE FROM platform.sessions"), 900);
    client.ok("ROLLBACK");
}

#[test]
fn a_user_sees_the_projects_of_the_active_organisation_only() {
    let stage = Stage::new(&STUDIO);
    for (number, organisation) in [(61, 2), (63, 4), (63, 5), (1, 2)] {
        let mut client = user(&stage, number, organisation);
        assert_eq!(
            organisations(&mut client, "organization_id", "platform.projects"),
            organisation.to_string()
        );
        assert_eq!(client.int("SELECT count(*) FROM platform.projects"), 80);
    }
}

#[test]
fn the_active_organisation_counts_only_with_a_membership() {
    let stage = Stage::new(&STUDIO);
    let count = "SELECT count(*) FROM platform.projects";
    expect_error(&user(&stage, 61, 3).error(count), "42501", "membership");
    expect_error(&user(&stage, 301, 2).error(count), "42501", "membership");
    let mut client = user(&stage, 61, 3);
    assert_eq!(client.text("SELECT current_tenant_id()"), None);
    assert_eq!(
        client.text("SELECT is_tenant_admin()").as_deref(),
        Some("f")
    );
}

#[test]
fn a_user_of_many_organisations_lists_them_before_choosing_one() {
    let stage = Stage::new(&STUDIO);
    let mut client = undecided(&stage, 63);
    assert_eq!(
        organisations(&mut client, "id", "platform.organizations"),
        "4,5"
    );
    assert_eq!(
        organisations(
            &mut client,
            "organization_id",
            "platform.organization_members"
        ),
        "4,5"
    );
    expect_error(
        &client.error("SELECT count(*) FROM platform.projects"),
        "42501",
        "app.current_org_id",
    );
    // The only membership counts without a choice, and who has none sees no organisation.
    let mut single = undecided(&stage, 61);
    assert_eq!(
        organisations(&mut single, "organization_id", "platform.projects"),
        "2"
    );
    let mut stranger = undecided(&stage, 301);
    assert_eq!(
        organisations(&mut stranger, "id", "platform.organizations"),
        ""
    );
}

#[test]
fn memberships_given_and_revoked_count_from_the_next_statement_on() {
    let stage = Stage::new(&STUDIO);
    let mut guest = user(&stage, 301, 2);
    let count = guest
        .prepare("SELECT count(*) FROM platform.projects")
        .unwrap();
    guest.ok("SAVEPOINT s");
    assert!(guest.query_one(&count, &[]).is_err());
    guest.ok("ROLLBACK TO s");
    let mut admin = user(&stage, 31, 2);
    admin.ok("INSERT INTO platform.organization_members VALUES (md5('user-301')::uuid, md5('org-2')::uuid); COMMIT");
    assert_eq!(guest.query_one(&count, &[]).unwrap().get::<_, i64>(0), 80);
    let mut admin = user(&stage, 31, 2);
    let revoke = "DELETE FROM platform.organization_members WHERE user_id = md5('user-301')::uuid";
    assert_eq!(affected(&mut admin, revoke), 1);
    admin.ok("COMMIT");
    assert!(guest.query_one(&count, &[]).is_err());
}

#[test]
fn no_command_reaches_another_organisation() {
    let stage = Stage::new(&STUDIO);
    let foreign = "organization_id = md5('org-3')::uuid";
    let digest = format!(
        "SELECT md5(string_agg(p::text, '|' ORDER BY id)) FROM platform.projects p WHERE {foreign}"
    );
    let before = stage.superuser().text(&digest);
    let mut owner = user(&stage, 1, 2);
    for statement in [
        format!("UPDATE platform.projects SET name = 'mine' WHERE {foreign}"),
        format!("DELETE FROM platform.projects WHERE {foreign}"),
        "DELETE FROM platform.projects WHERE id = md5('project-3-1')::uuid".to_owned(),
    ] {
        assert_eq!(affected(&mut owner, &statement), 0, "{statement}");
    }
    let all = "UPDATE platform.projects SET updated_at = now()";
    assert_eq!(affected(&mut owner, all), 80);
    owner.ok("COMMIT");
    assert_eq!(stage.superuser().text(&digest), before);
    for refused in [
        "INSERT INTO platform.projects (organization_id, name) VALUES (md5('org-3')::uuid, 'planted')",
        "UPDATE platform.projects SET organization_id = md5('org-3')::uuid",
        "INSERT INTO platform.organization_members VALUES (md5('user-301')::uuid, md5('org-3')::uuid, 'member')",
        "INSERT INTO platform.organizations (name, slug) VALUES ('New', 'new')",
    ] {
        let error = user(&stage, 1, 2).error(refused);
        assert_eq!(error.code().code(), "42501", "{refused}: {error:?}");
    }
    // Of another organisation of his own, which is not the active one.
    let other =
        "UPDATE platform.projects SET name = 'x' WHERE organization_id = md5('org-5')::uuid";
    assert_eq!(affected(&mut user(&stage, 63, 4), other), 0);
}

#[test]
fn organisations_and_members_are_written_by_admins_of_the_active_one() {
    let stage = Stage::new(&STUDIO);
    let rename = "UPDATE platform.organizations SET name = 'Renamed'";
    let invite = "INSERT INTO platform.organization_members VALUES (md5('user-301')::uuid, md5('org-2')::uuid, 'admin')";
    let promote = "UPDATE platform.organization_members SET role = 'admin' WHERE user_id = md5('user-61')::uuid AND organization_id = md5('org-2')::uuid";
    for number in [1, 31] {
        assert_eq!(
            affected(&mut user(&stage, number, 2), rename),
            1,
            "its own, of user {number}"
        );
        assert_eq!(affected(&mut user(&stage, number, 2), invite), 1);
        assert_eq!(affected(&mut user(&stage, number, 2), promote), 1);
    }
    let mut member = user(&stage, 61, 2);
    assert_eq!(affected(&mut member, rename), 0);
    assert_eq!(affected(&mut member, promote), 0);
    let error = member.error(invite);
    assert_eq!(error.code().code(), "42501");
    // An admin makes no owner, and an owner elsewhere is a member here.
    expect_error(
        &user(&stage, 31, 2).error(&invite.replace("admin", "owner")),
        "42501",
        "ranks above",
    );
    assert_eq!(affected(&mut user(&stage, 3, 5), rename), 0);
    assert_eq!(affected(&mut user(&stage, 3, 4), rename), 1);
}

#[test]
fn profiles_are_the_users_own() {
    let stage = Stage::new(&STUDIO);
    // Not even an organisation has to be chosen.
    for mut client in [
        undecided(&stage, 63),
        undecided(&stage, 301),
        user(&stage, 1, 2),
    ] {
        assert_eq!(client.int("SELECT count(*) FROM platform.profiles"), 1);
        let all = "UPDATE platform.profiles SET display_name = 'Me'";
        assert_eq!(affected(&mut client, all), 1);
        let plant = "INSERT INTO platform.profiles (id, email, display_name) VALUES (md5('user-999')::uuid, 'x', 'x')";
        expect_error(&client.error(plant), "42501", "row-level security");
    }
    expect_error(
        &undecided(&stage, 63).error("UPDATE platform.profiles SET id = md5('user-998')::uuid"),
        "42501",
        "row-level security",
    );
}

#[test]
fn sessions_are_the_users_own_and_hold_digests_only() {
    let stage = Stage::new(&STUDIO);
    let mut client = undecided(&stage, 61);
    assert_eq!(
        client.rows("SELECT DISTINCT user_id = md5('user-61')::uuid, count(*) OVER () FROM platform.sessions GROUP BY id"),
        [[Some("t".to_owned()), Some("3".to_owned())]]
    );
    let of_another = "DELETE FROM platform.sessions WHERE token_sha256 = sha256('token-62-1')";
    assert_eq!(affected(&mut client, of_another), 0);
    expect_error(
        &client.error(
            "INSERT INTO platform.sessions (user_id, token_sha256, expires_at)
             VALUES (md5('user-62')::uuid, sha256('mine'), now() + interval '1 day')",
        ),
        "42501",
        "row-level security",
    );
    let mut superuser = stage.superuser();
    assert_eq!(
        superuser.int("SELECT count(*) FROM platform.sessions s WHERE s::text LIKE '%token%'"),
        0
    );
    expect_error(
        &superuser.error("UPDATE platform.sessions SET token_sha256 = 'token-1-1'"),
        "23514",
        "token_sha256",
    );
}

#[test]
fn a_token_leads_to_its_user_and_only_while_it_is_valid() {
    let stage = Stage::new(&STUDIO);
    let mut client = stage.nobody();
    client.ok("BEGIN");
    let of =
        |token: &str| format!("SELECT platform.user_of_token('{token}') = md5('user-61')::uuid");
    assert_eq!(client.text(&of("token-61-2")).as_deref(), Some("t"));
    for token in ["token-61-1", "token-61-9", "", "' OR true --"] {
        let token = token.replace('\'', "''");
        assert_eq!(
            client.text(&of(&token)),
            None,
            "expired or unknown: {token}"
        );
    }
    client.ok("SELECT set_config('app.current_user_id', platform.user_of_token('token-61-2')::text, true)");
    assert_eq!(client.int("SELECT count(*) FROM platform.projects"), 80);
    client.ok("COMMIT");
    let mut stranger = stage.database.connect(&stage.database.role("stranger"));
    let error = stranger.error("SELECT platform.user_of_token('token-61-2')");
    assert_eq!(error.code().code(), "42501");
}

#[test]
fn without_a_user_every_table_raises() {
    let stage = Stage::new(&STUDIO);
    let mut client = stage.nobody();
    for table in TABLES {
        for statement in [
            format!("SELECT * FROM {table}"),
            format!("UPDATE {table} SET created_at = now()"),
            format!("DELETE FROM {table}"),
            format!("INSERT INTO {table} DEFAULT VALUES"),
        ] {
            expect_error(&client.error(&statement), "42501", "app.current_user_id");
        }
    }
}

#[test]
fn an_organisation_that_is_not_active_gives_no_context() {
    let stage = Stage::new(&STUDIO);
    let mut client = user(&stage, 61, 2);
    let count = "SELECT count(*) FROM platform.projects";
    assert_eq!(client.int(count), 80);
    stage
        .superuser()
        .ok("UPDATE platform.organizations SET is_active = false WHERE id = md5('org-2')::uuid");
    expect_error(&client.error(count), "42501", "active");
}

/// The application joins memberships itself: what it got while everything was open it still gets.
#[test]
fn the_products_own_joins_give_the_same_answers() {
    let answers = |client: &mut Client| {
        client.rows(
            "SELECT o.slug, p.name, p.status FROM platform.projects p
             JOIN platform.organizations o ON o.id = p.organization_id
             JOIN platform.organization_members m ON m.organization_id = p.organization_id
             WHERE m.user_id = md5('user-63')::uuid AND p.organization_id = md5('org-5')::uuid ORDER BY p.name",
        )
    };
    let (_found, mut client) = as_found();
    let before = answers(&mut client);
    assert_eq!(before.len(), 80);
    let stage = Stage::new(&STUDIO);
    assert_eq!(answers(&mut user(&stage, 63, 5)), before);
}

#[test]
fn policies_that_let_everything_through_may_stay_or_go() {
    let stage = Stage::new(&STUDIO);
    let mut superuser = stage.superuser();
    probe::install(&mut superuser);
    let seen = |superuser: &mut Client| -> Vec<String> {
        let attempts = attempts();
        superuser.ok("BEGIN");
        let seen = attempts
            .iter()
            .map(|table| probe::fingerprint(&stage, superuser, &ACTORS, table))
            .collect();
        superuser.ok("ROLLBACK");
        seen
    };
    let with = seen(&mut superuser);
    assert_eq!(
        superuser.int("SELECT count(*) FROM pg_policy WHERE polname ~ 'access'"),
        0
    );
    for table in TABLES {
        let short = table
            .trim_start_matches("platform.")
            .trim_start_matches("organization_");
        superuser.ok(&format!("DROP POLICY transition_{short} ON {table}"));
    }
    // Protecting again makes the policies by which the tables stay open to their users.
    superuser.ok("SELECT tenancy.protect_schema('platform', mode => 'enforce')");
    let access = "SELECT count(DISTINCT polrelid) FROM pg_policy WHERE polname ~ 'access'";
    assert_eq!(superuser.int(access), 5);
    assert_eq!(seen(&mut superuser), with);
}

#[test]
fn the_service_goes_across_organisations_and_the_application_cannot_become_it() {
    let stage = Stage::new(&STUDIO);
    let mut service = stage.session("studio_service");
    // A sign-up: user, organisation and membership in one transaction.
    service.ok("BEGIN;
        INSERT INTO platform.profiles (id, email, display_name) VALUES (md5('user-400')::uuid, 'new@example.com', 'New');
        INSERT INTO platform.organizations (id, name, slug) VALUES (md5('org-40')::uuid, 'New', 'new');
        INSERT INTO platform.organization_members VALUES (md5('user-400')::uuid, md5('org-40')::uuid, 'owner');
        COMMIT");
    let mut newcomer = undecided(&stage, 400);
    newcomer.ok("INSERT INTO platform.projects (organization_id, name) VALUES (current_tenant_id(), 'First'); COMMIT");
    // A job over everything, and a script of an administrator.
    assert_eq!(
        affected(
            &mut service,
            "DELETE FROM platform.sessions WHERE expires_at < now()"
        ),
        300
    );
    assert_eq!(
        affected(
            &mut service,
            "UPDATE platform.projects SET status = 'archived' WHERE status = 'paused'"
        ),
        27 * 30
    );
    assert_eq!(
        service.int("SELECT count(DISTINCT organization_id) FROM platform.projects"),
        31
    );
    for role in ["studio_service", "studio_gate"] {
        let set_role = format!("SET ROLE {}", stage.role(role));
        assert_eq!(stage.nobody().error(&set_role).code().code(), "42501");
    }
}

/// A background job that needs no exemption: an account with a membership in each organisation.
#[test]
fn a_job_goes_from_organisation_to_organisation_with_an_account_of_its_own() {
    let stage = Stage::new(&STUDIO);
    let mut job = stage.nobody();
    job.ok(&format!("BEGIN; {}", context(300, None)));
    let all = job
        .rows("SELECT id FROM platform.organizations ORDER BY id")
        .concat();
    job.ok("COMMIT");
    assert_eq!(all.len(), 30);
    for organisation in all.into_iter().flatten() {
        job.ok(&format!(
            "BEGIN; SELECT set_tenant_context(md5('user-300')::uuid::text, '{organisation}')"
        ));
        let archive = "UPDATE platform.projects SET status = 'archived' WHERE status = 'paused'";
        assert!(
            affected(&mut job, archive) == 27,
            "of one organisation only"
        );
        job.ok("COMMIT");
    }
    let left = "SELECT count(*) FROM platform.projects WHERE status = 'paused'";
    assert_eq!(stage.superuser().int(left), 0);
    expect_error(&job.error(left), "42501", "app.current_user_id");
}

#[test]
fn a_migration_adds_and_fills_a_column_under_enforcement() {
    let stage = Stage::new(&STUDIO);
    stage
        .superuser()
        .ok("ALTER TABLE platform.projects ADD COLUMN archived_at timestamptz");
    let fill = "UPDATE platform.projects SET archived_at = updated_at WHERE status = 'archived'";
    assert_eq!(
        affected(&mut stage.session("studio_service"), fill),
        27 * 30
    );
    assert_eq!(
        user(&stage, 61, 2).int("SELECT count(archived_at) FROM platform.projects"),
        27
    );
}

#[test]
fn rolling_back_is_one_call_and_so_is_going_on() {
    let (found, mut application) = as_found();
    let state = "SELECT polrelid::regclass, polname, polcmd, polpermissive, pg_get_expr(polqual, polrelid), c.relrowsecurity, c.relforcerowsecurity
                 FROM pg_policy JOIN pg_class c ON c.oid = polrelid ORDER BY 1, 2";
    let mut superuser = found.superuser();
    let before = superuser.rows(state);
    found.protect();
    let enforced = superuser.rows(state);
    expect_error(
        &application.error("SELECT count(*) FROM platform.projects"),
        "42501",
        "no tenant context",
    );
    let results = superuser.rows("SELECT relation, result FROM tenancy.set_mode('permissive')");
    assert_eq!(results.len(), 5, "{results:?}");
    assert_eq!(superuser.rows(state), before);
    // Sessions that are connected go on at once, without a context.
    assert_eq!(
        application.int("SELECT count(*) FROM platform.projects"),
        2400
    );
    superuser.ok("SELECT tenancy.set_mode('enforce')");
    assert_eq!(superuser.rows(state), enforced);
    assert_eq!(
        user(&found, 61, 2).int("SELECT count(*) FROM platform.projects"),
        80
    );
}

#[test]
fn every_generated_policy_holds_something() {
    let stage = Stage::new(&STUDIO);
    every_policy_holds_something(&stage, &ACTORS, &attempts());
}
