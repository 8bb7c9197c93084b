//! Without a context: an error or no rows, decided for each statement and never by its plan.

mod context_setup;

use context_setup::{A, B, BODIES, World, failure, run};
use pgrx_test::fixture::{ClientExt, Server, expect_error};

fn both() -> [World; 2] {
    [World::new(Server::preloaded()), World::new(Server::plain())]
}

fn statements() -> [&'static str; 14] {
    [
        "SELECT * FROM notes",
        "SELECT count(*) FROM notes",
        "SELECT FROM notes LIMIT 0",
        "SELECT * FROM notes WHERE false",
        "SELECT * FROM notes WHERE id = -1",
        "SELECT 1 WHERE EXISTS (SELECT FROM notes)",
        "SELECT * FROM (SELECT * FROM notes OFFSET 0) n WHERE false",
        "SELECT * FROM members LEFT JOIN notes ON false",
        "WITH n AS MATERIALIZED (SELECT * FROM notes) SELECT FROM n WHERE false",
        "INSERT INTO notes (tenant_id, body) SELECT 'aaaaaaaa-0000-4000-8000-000000000001', '' WHERE false",
        "UPDATE notes SET body = '' WHERE false",
        "DELETE FROM notes WHERE id < 0",
        "MERGE INTO notes USING (SELECT 1 WHERE false) s ON true WHEN MATCHED THEN DELETE",
        "COPY notes TO STDOUT",
    ]
}

#[test]
fn every_statement_on_a_protected_table_fails_even_if_it_could_find_nothing() {
    for world in both() {
        let mut client = world.app();
        // Late load: the first call brings the library.
        client.ok("SELECT current_tenant_id()");
        for empty in [false, true] {
            if empty {
                world.admin().ok("DELETE FROM notes");
            }
            for sql in statements() {
                let error = client.error(sql);
                expect_error(&error, "42501", "SET LOCAL app.current_user_id");
                assert_eq!(error.message(), "no tenant context", "{sql}");
            }
        }
    }
}

#[test]
fn deny_gives_no_rows_and_writes_none() {
    for world in both() {
        let mut client = world.app();
        client.ok("SET pg_tenancy.missing_context = 'deny'");
        for sql in statements() {
            let rows = client.rows(&sql.replace("COPY notes TO STDOUT", "SELECT * FROM notes"));
            match sql {
                "SELECT count(*) FROM notes" => assert_eq!(rows, [[Some("0".to_owned())]]),
                "SELECT * FROM members LEFT JOIN notes ON false" => assert!(
                    rows.iter()
                        .all(|row| row.iter().rev().take(2).all(Option::is_none))
                ),
                _ => assert!(rows.is_empty(), "{sql}"),
            }
        }
        assert_eq!(client.int("SELECT count(*) FROM notes"), 0);
        expect_error(
            &client.error(&format!(
                "INSERT INTO notes (tenant_id, body) VALUES ('{A}', 'x')"
            )),
            "42501",
            "row-level security",
        );
        client.ok("UPDATE notes SET body = 'x'; DELETE FROM notes");
        assert_eq!(
            world
                .admin()
                .int("SELECT count(*) FROM notes WHERE body <> 'x'"),
            4
        );
    }
}

#[test]
fn one_kept_plan_serves_every_tenant_and_none() {
    for world in both() {
        let mut client = world.app();
        client.ok("SET plan_cache_mode = force_generic_plan");
        let bodies = client.prepare(BODIES).unwrap();
        let nothing = client
            .prepare("SELECT body FROM notes WHERE false")
            .unwrap();
        for _ in 0..2 {
            for (user, expected) in [("u1", "aa"), ("u2", "b")] {
                client.ok(&format!("BEGIN; SET LOCAL app.current_user_id = '{user}'"));
                assert_eq!(run(&mut client, &bodies).as_deref(), Some(expected));
                assert!(client.query(&nothing, &[]).unwrap().is_empty());
                client.ok("COMMIT");
            }
            for statement in [&bodies, &nothing] {
                expect_error(
                    &failure(&mut client, statement),
                    "42501",
                    "no tenant context",
                );
            }
        }
    }
}

#[test]
fn a_kept_plan_follows_the_role() {
    let world = World::new(Server::preloaded());
    let (app, owner) = (&world.app, &world.owner);
    let mut admin = world.admin();
    admin.ok("SET plan_cache_mode = force_generic_plan");
    let bodies = admin.prepare(BODIES).unwrap();
    for _ in 0..2 {
        assert_eq!(run(&mut admin, &bodies).as_deref(), Some("aabc"));
        for role in [app, owner] {
            admin.ok(&format!("SET ROLE {role}"));
            expect_error(&failure(&mut admin, &bodies), "42501", "no tenant context");
            admin.ok("BEGIN; SET LOCAL app.current_user_id = 'u2'");
            assert_eq!(run(&mut admin, &bodies).as_deref(), Some("b"), "{role}");
            admin.ok("COMMIT; RESET ROLE");
        }
    }
}

#[test]
fn other_tables_and_exempt_roles_are_left_alone() {
    for world in both() {
        let mut client = world.app();
        client.ok("SELECT current_tenant_id(); SELECT count(*) FROM members; SELECT 1");
        client.ok("INSERT INTO members SELECT * FROM members WHERE false");
        assert_eq!(world.admin().text(BODIES).as_deref(), Some("aabc"));
        world
            .admin()
            .ok(&format!("ALTER ROLE {} BYPASSRLS", world.app));
        assert_eq!(client.text(BODIES).as_deref(), Some("aabc"));
    }
}

#[test]
fn explain_alone_reads_nothing() {
    let world = World::new(Server::preloaded());
    let mut client = world.app();
    // The planner asks for the tenant where it estimates; nothing is executed either way.
    for sql in [
        "EXPLAIN SELECT FROM members",
        "EXPLAIN (COSTS off) SELECT 1",
    ] {
        client.ok(sql);
    }
    expect_error(
        &client.error("EXPLAIN SELECT * FROM notes"),
        "42501",
        "no tenant context",
    );
    expect_error(
        &client.error("EXPLAIN ANALYZE SELECT * FROM notes WHERE false"),
        "42501",
        "no tenant context",
    );
    client.ok("SET pg_tenancy.missing_context = 'deny'; EXPLAIN SELECT * FROM notes");
    client.ok("RESET pg_tenancy.missing_context; BEGIN; SET LOCAL app.current_user_id = 'u1'; EXPLAIN SELECT * FROM notes");
}

#[test]
fn views_and_functions_act_for_the_role_that_postgres_says() {
    let world = World::new(Server::preloaded());
    let (app, owner) = (&world.app, &world.owner);
    world.admin().ok(&format!("
        CREATE VIEW of_superuser AS SELECT body FROM notes;
        CREATE VIEW of_invoker WITH (security_invoker) AS SELECT body FROM notes;
        CREATE FUNCTION of_definer() RETURNS text LANGUAGE sql SECURITY DEFINER AS $$ {BODIES} $$;
        CREATE FUNCTION of_caller() RETURNS text LANGUAGE sql AS $$ {BODIES} $$;
        SET ROLE {owner};
        CREATE VIEW of_owner AS SELECT body FROM notes;
        CREATE FUNCTION of_owner_definer() RETURNS text LANGUAGE sql SECURITY DEFINER AS $$ {BODIES} $$;
        RESET ROLE;
        GRANT SELECT ON of_superuser, of_invoker, of_owner TO {app}"));
    let from = |view: &str| format!("SELECT string_agg(body, '' ORDER BY body) FROM {view}");
    let mut client = world.app();
    let bound = [
        from("of_invoker"),
        from("of_owner"),
        "SELECT of_caller()".to_owned(),
        "SELECT of_owner_definer()".to_owned(),
    ];
    let exempt = [from("of_superuser"), "SELECT of_definer()".to_owned()];
    for sql in &bound {
        expect_error(&client.error(sql), "42501", "no tenant context");
    }
    for (user, expected) in [("u1", "aa"), ("u2", "b")] {
        client.ok(&format!("BEGIN; SET LOCAL app.current_user_id = '{user}'"));
        for sql in &bound {
            assert_eq!(client.text(sql).as_deref(), Some(expected), "{sql}");
        }
        client.ok("COMMIT");
    }
    for sql in &exempt {
        assert_eq!(client.text(sql).as_deref(), Some("aabc"), "{sql}");
    }
    let _ = B;
}
