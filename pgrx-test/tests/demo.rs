//! What `cargo demo` shows of each system. The command itself is run by the README's test.

use std::collections::BTreeMap;

use clap::Parser;
use pgrx_test::demo::{Args, Place, System, show};
use pgrx_test::fixture::{Database, Server};

/// Everything that is printed, with the names that the roles have in the scripts.
fn printed(system: System) -> String {
    let server = Server::preloaded();
    // Held for its name and for what it removes; the demonstration makes the database itself.
    let database = Database::empty(server);
    let roles: BTreeMap<_, _> = system
        .scenario()
        .roles
        .iter()
        .map(|role| (*role, format!("{role}_{}", database.name)))
        .collect();
    for role in roles.values() {
        database.adopt_role(role);
    }
    let name = &database.name;
    server
        .connect("postgres", &server.superuser)
        .batch_execute(&format!("DROP DATABASE {name}"))
        .expect("nobody is connected");
    let place = Place {
        server,
        database: name.clone(),
        roles,
    };
    let mut out = Vec::new();
    if let Err(error) = show(system, &place, &mut out) {
        panic!("{error:#} after\n{}", String::from_utf8_lossy(&out));
    }
    String::from_utf8(out).expect("text")
}

#[track_caller]
fn assert_shows(printed: &str, expected: &[&str]) {
    for text in expected {
        assert!(printed.contains(text), "{text:?} in:\n{printed}");
    }
}

#[test]
fn okr_is_what_is_shown_unless_told() {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }
    let system = |arguments: &[&str]| {
        Cli::try_parse_from(arguments)
            .expect("arguments")
            .args
            .system
    };
    assert_eq!(system(&["demo"]), System::Okr);
    assert_eq!(system(&["demo", "insights"]), System::Insights);
}

#[test]
fn okr() {
    assert_shows(
        &printed(System::Okr),
        &[
            // A's dashboard, and B's.
            "| 20       100         25          25 ",
            "| 20       100         0           50 ",
            "SELECT count(*) FROM objectives WHERE tenant_id = md5('org-a')::uuid;\n+-------+\n| count |\n+=======+\n| 0     |",
            "UPDATE objectives SET title = 'mine' WHERE tenant_id = md5('org-a')::uuid;\n  0 rows",
            "DELETE FROM objectives WHERE tenant_id = md5('org-a')::uuid;\n  0 rows",
            // C, before and after.
            "DETAIL: The current user has no active membership in any tenant.",
            "| 100          Objective 1 of A |",
            "DETAIL: app.current_user_id is not set in this transaction.",
            "ERROR 42501: new row violates row-level security policy for table \"objectives\"",
            "ERROR 42501: no tenant context",
        ],
    );
}

#[test]
fn insights() {
    assert_shows(
        &printed(System::Insights),
        &[
            "Finding 12 of company 1",
            "Finding 12 of company 2",
            "ERROR 42501: new row violates row-level security policy for table \"analytics_snapshots\"",
            "violates foreign key constraint \"module_insights_connector_id_fkey_tenant\"",
            "ERROR 42501: no tenant context",
        ],
    );
}

#[test]
fn studio() {
    assert_shows(
        &printed(System::Studio),
        &[
            "transition_projects",
            "Project 1 of studio 4",
            "Project 1 of studio 5",
            "2400",
            "ERROR 42501: no tenant context",
            "ERROR 42501: new row violates row-level security policy",
            "missing_context   nightly",
            "hidden_row        web",
            "ERROR 55000: table platform.projects is not ready to be enforced",
            "the same day, without an error",
        ],
    );
}

#[test]
fn agents() {
    assert_shows(
        &printed(System::Agents),
        &[
            "Organisation 1 ",
            "Organisation 2 ",
            "ERROR 42501: permission denied for identity columns",
            "ERROR 42501: new row violates row-level security policy \"agents_in_sight\"",
            "ERROR 42501: no tenant context",
        ],
    );
}
