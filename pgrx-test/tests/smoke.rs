//! The fixture itself: what every other test takes for granted.

use pgrx_test::fixture::{ClientExt, Database, Server, expect_error};

fn both() -> [&'static Server; 2] {
    [Server::preloaded(), Server::plain()]
}

#[test]
fn servers_are_of_the_version_they_say() {
    for server in both() {
        let mut session = server.connect("postgres", &server.superuser);
        assert_eq!(
            session.int("SELECT current_setting('server_version_num')::int / 10000"),
            i64::from(server.version)
        );
        assert_ne!(server.port, 5432);
    }
}

#[test]
fn only_one_of_them_preloads_the_extension() {
    for (server, expected) in both().into_iter().zip(["pg_tenancy", ""]) {
        let mut session = server.connect("postgres", &server.superuser);
        assert_eq!(
            session.text("SHOW shared_preload_libraries").as_deref(),
            Some(expected)
        );
    }
}

#[test]
fn the_extension_can_be_created() {
    for server in both() {
        let database = Database::new(server);
        let sql = "SELECT count(*) FROM pg_extension WHERE extname = 'pg_tenancy'";
        assert_eq!(database.superuser().int(sql), 1);
    }
}

#[test]
fn a_role_has_no_privilege_that_would_make_a_test_vacuous() {
    let database = Database::empty(Server::plain());
    let role = database.role("Application user");
    let mut session = database.connect(&role);
    assert_eq!(session.text("SELECT session_user").as_ref(), Some(&role));
    let sql = "SELECT rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication \
               FROM pg_roles WHERE rolname = current_user";
    assert_eq!(session.text(sql).as_deref(), Some("f"));
    expect_error(
        &session.error("CREATE TABLE public.t (a int)"),
        "42501",
        "permission denied",
    );
}

#[test]
fn a_database_and_its_roles_are_gone_afterwards() {
    let server = Server::plain();
    let database = Database::empty(server);
    let (name, role) = (database.name.clone(), database.role("leaver"));
    database
        .superuser()
        .ok(&format!("GRANT CREATE ON SCHEMA public TO {role}"));
    let mut open_session = database.connect(&role);
    open_session.ok("CREATE TABLE public.t (a int)");
    drop(database);
    let mut admin = server.connect("postgres", &server.superuser);
    assert_eq!(
        admin.int(&format!(
            "SELECT count(*) FROM pg_database WHERE datname = '{name}'"
        )),
        0
    );
    assert_eq!(
        admin.int(&format!(
            "SELECT count(*) FROM pg_roles WHERE rolname = '{role}'"
        )),
        0
    );
}

#[test]
fn startup_options_reach_the_session() {
    let database = Database::empty(Server::plain());
    let role = database.role("options");
    let mut session = database.connect_with(&role, "-c my.setting=42");
    assert_eq!(
        session
            .text("SELECT current_setting('my.setting')")
            .as_deref(),
        Some("42")
    );
}

#[test]
fn psql_returns_what_a_script_prints() {
    let database = Database::empty(Server::plain());
    let printed = database.psql(
        &database.server().superuser,
        "\\pset format unaligned\nSELECT 6 * 7 AS answer;\n",
    );
    assert!(printed.contains("answer\n42\n"), "{printed}");
}

#[test]
#[should_panic(expected = "division by zero")]
fn psql_stops_at_the_first_error() {
    let database = Database::empty(Server::plain());
    database.psql(&database.server().superuser, "SELECT 1/0;\nSELECT 1;\n");
}
