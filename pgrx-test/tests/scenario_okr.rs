//! The OKR system, entirely on the extension: every rule of it, through the application's role and
//! with raw SQL.

mod scenario_support;

use pgrx_test::fixture::{ClientExt, expect_error};
use pgrx_test::scenario::OKR;
use postgres::Client;
use scenario_support::Stage;
use scenario_support::probe::{Actor, Attempts, every_policy_holds_something};

const DASHBOARD: &str = include_str!("../../tests/scenarios/okr/dashboard.sql");

const TABLES: [&str; 7] = [
    "profiles",
    "objectives",
    "initiatives",
    "activities",
    "key_results",
    "comments",
    "update_history",
];
const COMMANDS: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];

/// The application in an open transaction of that user.
fn session_of(okr: &Stage, user: &str) -> Client {
    okr.application(&format!("SET LOCAL app.current_user_id = '{user}'"))
}

/// Tenants among the rows of a table, as organisation letters.
fn organisations(client: &mut Client, table: &str) -> String {
    client
        .text(&format!(
            "SELECT string_agg(DISTINCT org, '' ORDER BY org)
             FROM {table} JOIN unnest('{{a,b,c}}'::text[]) AS org ON tenant_id = md5('org-' || org)::uuid"
        ))
        .unwrap_or_default()
}

#[test]
fn users_see_their_organisation_only_in_all_seven_tables() {
    let okr = Stage::new(&OKR);
    for (user, organisation) in [("user-a-1", "a"), ("user-b-2", "b"), ("user-c-20", "c")] {
        let mut client = session_of(&okr, user);
        for table in TABLES {
            assert_eq!(
                organisations(&mut client, table),
                organisation,
                "{user} in {table}"
            );
        }
    }
}

#[test]
fn no_command_reaches_another_organisation() {
    let okr = Stage::new(&OKR);
    for table in TABLES {
        let mut client = session_of(&okr, "user-b-1");
        let foreign = "tenant_id = md5('org-a')::uuid";
        assert_eq!(
            client.int(&format!("SELECT count(*) FROM {table} WHERE {foreign}")),
            0
        );
        for statement in [
            format!("UPDATE {table} SET updated_at = now() WHERE {foreign}"),
            format!("DELETE FROM {table} WHERE {foreign}"),
        ] {
            assert_eq!(client.execute(&statement, &[]).unwrap(), 0, "{statement}");
        }
        // Without a WHERE, the same statements stay inside: organisation A keeps all its rows.
        client.ok(&format!("UPDATE {table} SET updated_at = now()"));
        let mut owner = okr.superuser();
        client.ok("COMMIT");
        assert_eq!(
            owner.int(&format!(
                "SELECT count(*) FROM {table} WHERE {foreign} AND updated_at = created_at"
            )),
            owner.int(&format!("SELECT count(*) FROM {table} WHERE {foreign}")),
            "{table}"
        );
    }
}

#[test]
fn rows_cannot_be_planted_in_or_moved_to_another_organisation() {
    let okr = Stage::new(&OKR);
    let insert = "INSERT INTO objectives (tenant_id, title, department) VALUES (md5('org-a')::uuid, 'x', 'Sales')";
    expect_error(
        &session_of(&okr, "user-b-1").error(insert),
        "42501",
        "row-level security",
    );
    for table in TABLES.into_iter().filter(|table| *table != "profiles") {
        let error = session_of(&okr, "user-b-1").error(&format!(
            "UPDATE {table} SET tenant_id = md5('org-a')::uuid"
        ));
        assert!(
            ["42501", "23514"].contains(&error.code().code()),
            "{table}: {error:?}"
        );
    }
    session_of(&okr, "user-b-1").ok(&insert.replace("org-a", "org-b"));
}

#[test]
fn an_invited_user_sees_the_organisation_from_the_next_statement_on() {
    let okr = Stage::new(&OKR);
    let mut guest = session_of(&okr, "guest-c");
    let count = guest.prepare("SELECT count(*) FROM objectives").unwrap();
    expect_error(
        guest
            .query_one(&count, &[])
            .unwrap_err()
            .as_db_error()
            .unwrap(),
        "42501",
        "no active membership",
    );
    guest.ok("ROLLBACK; BEGIN; SET LOCAL app.current_user_id = 'guest-c'; SAVEPOINT s");
    assert!(guest.query_one(&count, &[]).is_err());
    guest.ok("ROLLBACK TO s");
    okr.superuser()
        .ok("UPDATE neon_auth.users_sync SET tenant_id = md5('org-a')::uuid WHERE id = 'guest-c'");
    assert_eq!(guest.query_one(&count, &[]).unwrap().get::<_, i64>(0), 100);
}

#[test]
fn without_a_user_every_table_raises() {
    let okr = Stage::new(&OKR);
    let mut client = okr.nobody();
    for table in TABLES {
        for statement in [
            format!("SELECT * FROM {table}"),
            format!("UPDATE {table} SET updated_at = now()"),
            format!("DELETE FROM {table}"),
            format!("INSERT INTO {table} (tenant_id) VALUES (md5('org-a')::uuid)"),
        ] {
            expect_error(&client.error(&statement), "42501", "app.current_user_id");
        }
    }
}

#[test]
fn the_audit_passes_with_the_application_role() {
    let okr = Stage::new(&OKR);
    let mut owner = okr.superuser();
    assert_eq!(
        owner.int(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
             AND relrowsecurity AND relforcerowsecurity"
        ),
        7
    );
    for table in TABLES {
        for command in COMMANDS {
            let name = format!("{table}_tenant_isolation_{}", command.to_lowercase());
            assert_eq!(
                owner.int(&format!(
                    "SELECT count(*) FROM pg_policies WHERE tablename = '{table}' AND cmd = '{command}'
                     AND policyname = '{name}' AND permissive = 'RESTRICTIVE'"
                )),
                1,
                "{name}"
            );
        }
    }
    let attributes = owner.text(&format!(
        "SELECT concat_ws(',', rolsuper, rolbypassrls, rolcreaterole, rolcreatedb) FROM pg_roles WHERE rolname = '{}'",
        okr.role("stratixv2_app")
    ));
    assert_eq!(attributes.as_deref(), Some("f,f,f,f"));
    assert_eq!(
        owner.int(&format!(
            "SELECT count(*) FROM pg_class WHERE pg_get_userbyid(relowner) = '{}'",
            okr.role("stratixv2_app")
        )),
        0
    );
    let mut client = session_of(&okr, "user-a-1");
    assert_eq!(
        client
            .text("SELECT current_tenant_id() = md5('org-a')::uuid")
            .as_deref(),
        Some("t")
    );
    for privilege in ["TRUNCATE", "REFERENCES", "TRIGGER"] {
        assert_eq!(
            client
                .text(&format!(
                    "SELECT has_table_privilege('objectives', '{privilege}')"
                ))
                .as_deref(),
            Some("f"),
            "{privilege}"
        );
    }
}

#[test]
fn the_products_queries_give_the_organisations_answers() {
    let okr = Stage::new(&OKR);
    let queries = [
        (
            "objectives with assignee names",
            "SELECT count(*) FROM objectives o JOIN profiles p ON p.id = o.owner_id WHERE p.full_name <> ''",
        ),
        (
            "initiatives joined to objectives",
            "SELECT sum(i.budget)::bigint FROM initiatives i JOIN objectives o ON o.id = i.objective_id",
        ),
        (
            "overdue activities, joined twice",
            "SELECT count(*) FROM activities a JOIN initiatives i ON i.id = a.initiative_id
             JOIN profiles p ON p.id = a.assignee_id WHERE a.due_date < now() AND a.status <> 'completed'",
        ),
        (
            "progress by department",
            "SELECT count(*) FROM (SELECT department, avg(progress_percentage) FROM objectives GROUP BY department) d",
        ),
        (
            "top performers",
            "SELECT count(*) FROM (SELECT p.full_name, avg(o.progress_percentage) AS average FROM profiles p
             JOIN objectives o ON o.owner_id = p.id GROUP BY p.id, p.full_name ORDER BY average DESC LIMIT 5) t",
        ),
        (
            "upcoming deadlines",
            "SELECT count(*) FROM objectives WHERE end_date BETWEEN current_date AND current_date + 7",
        ),
    ];
    let mut owner = okr.superuser();
    for organisation in ["a", "b"] {
        let mut client = session_of(&okr, &format!("user-{organisation}-3"));
        for (what, query) in queries {
            // The hand-written answer: views that name the tenant shadow the tables for the owner.
            owner.ok("BEGIN; CREATE SCHEMA by_hand; SET LOCAL search_path = by_hand, public");
            for table in TABLES {
                owner.ok(&format!(
                    "CREATE VIEW by_hand.{table} AS SELECT * FROM public.{table} WHERE tenant_id = md5('org-{organisation}')::uuid"
                ));
            }
            let expected = owner.int(query);
            owner.ok("ROLLBACK");
            assert!(expected > 0, "{what} must have something to find");
            assert_eq!(client.int(query), expected, "{what} of {organisation}");
        }
        let dashboard = client.rows(DASHBOARD);
        assert_eq!(dashboard.len(), 1);
        assert_eq!(dashboard[0].len(), 10, "ten aggregates");
        assert_eq!(dashboard[0][1].as_deref(), Some("100"));
    }
}

#[test]
fn a_member_cannot_make_himself_admin_or_change_organisation() {
    let okr = Stage::new(&OKR);
    for statement in [
        "UPDATE profiles SET role = 'super_admin' WHERE user_id = 'user-a-2'",
        "UPDATE profiles SET role = 'admin' WHERE user_id = 'user-a-2'",
        "UPDATE neon_auth.users_sync SET tenant_id = md5('org-b')::uuid WHERE id = 'user-a-2'",
        "INSERT INTO neon_auth.users_sync VALUES ('sock-puppet', md5('org-b')::uuid)",
        "DELETE FROM neon_auth.users_sync WHERE id = 'guest-c'",
    ] {
        expect_error(
            &session_of(&okr, "user-a-2").error(statement),
            "42501",
            "identity",
        );
    }
    session_of(&okr, "user-a-2")
        .ok("UPDATE profiles SET department = 'Finance' WHERE user_id = 'user-a-2'");
    session_of(&okr, "user-a-1")
        .ok("UPDATE profiles SET role = 'admin' WHERE user_id = 'user-a-2'");
}

#[test]
fn every_generated_policy_holds_something() {
    let okr = Stage::new(&OKR);
    let insert = |table: &str, columns: &str, values: &str| {
        ["org-a", "org-b"].map(|org| {
            format!(
                "INSERT INTO {table} (tenant_id, {columns}) VALUES (md5('{org}')::uuid, {values})"
            )
        })
    };
    let of_objective = "md5('objective-a-1')::uuid";
    let inserts = [
        insert(
            "profiles",
            "user_id, full_name, department",
            "'guest-c', 'Guest', 'Sales'",
        ),
        insert("objectives", "title, department", "'new', 'Sales'"),
        insert(
            "initiatives",
            "title, objective_id",
            &format!("'new', {of_objective}"),
        ),
        insert(
            "activities",
            "title, due_date, initiative_id",
            "'new', now(), md5('initiative-a-1')::uuid",
        ),
        insert(
            "key_results",
            "title, target_value, objective_id",
            &format!("'new', 1, {of_objective}"),
        ),
        insert(
            "comments",
            "body, objective_id",
            &format!("'new', {of_objective}"),
        ),
        insert("update_history", "objective_id", of_objective),
    ];
    let mut attempts: Vec<_> = TABLES
        .into_iter()
        .zip(inserts)
        .map(|(table, inserts)| Attempts {
            table,
            statements: [
                format!("SELECT * FROM {table}"),
                format!("UPDATE {table} SET updated_at = now()"),
                format!("DELETE FROM {table}"),
            ]
            .into_iter()
            .chain(inserts)
            .collect(),
        })
        .collect();
    // Every profile owns an objective, and that key alone would keep it.
    let unowned = "DELETE FROM objectives; DELETE FROM profiles".to_owned();
    attempts[0].statements.push(unowned);
    let user = |context| Actor {
        role: "stratixv2_app",
        context,
    };
    let actors = [
        user("SET LOCAL app.current_user_id = 'user-a-1'"),
        user("SET LOCAL app.current_user_id = 'user-a-2'"),
    ];
    every_policy_holds_something(&okr, &actors, &attempts);
}
