//! The studio platform's users, and what they try.

use pgrx_test::fixture::ClientExt;
use pgrx_test::scenario::STUDIO;
use postgres::Client;

use super::Stage;
use super::probe::{Actor, Attempts};

pub const TABLES: [&str; 5] = [
    "platform.organizations",
    "platform.organization_members",
    "platform.projects",
    "platform.profiles",
    "platform.sessions",
];

/// Statements that say who asks, and for which organisation.
pub fn context(user: u32, organisation: Option<u32>) -> String {
    let mut context =
        format!("SELECT set_config('app.current_user_id', md5('user-{user}')::uuid::text, true)");
    if let Some(organisation) = organisation {
        context.push_str(&format!(
            "; SELECT set_config('app.current_org_id', md5('org-{organisation}')::uuid::text, true)"
        ));
    }
    context
}

pub fn user(stage: &Stage, user: u32, organisation: u32) -> Client {
    stage.application(&context(user, Some(organisation)))
}

pub fn undecided(stage: &Stage, user: u32) -> Client {
    stage.application(&context(user, None))
}

/// The organisations, by number, that rows of a query are of.
pub fn organisations(client: &mut Client, column: &str, table: &str) -> String {
    client
        .text(&format!(
            "SELECT string_agg(DISTINCT n::text, ',' ORDER BY n::text) FROM {table}
             JOIN generate_series(1, 30) AS n ON {column} = md5('org-' || n)::uuid"
        ))
        .unwrap_or_default()
}

/// The system as it was found, with the rights that the application has later.
pub fn as_found() -> (Stage, Client) {
    let stage = Stage::as_found(&STUDIO);
    let role = stage.role("studio_app").to_owned();
    stage.superuser().ok(&format!(
        "SELECT tenancy.create_app_role('{role}', '{{platform}}', login => true)"
    ));
    let client = stage.nobody();
    (stage, client)
}

pub const ACTORS: [Actor; 5] = [
    Actor {
        role: "studio_app",
        context: "SELECT set_config('app.current_user_id', md5('user-61')::uuid::text, true)",
    },
    Actor {
        role: "studio_app",
        context: "SELECT set_config('app.current_user_id', md5('user-63')::uuid::text, true)",
    },
    Actor {
        role: "studio_app",
        context: "SELECT set_config('app.current_user_id', md5('user-31')::uuid::text, true)",
    },
    Actor {
        role: "studio_app",
        context: "SELECT set_config('app.current_user_id', md5('user-3')::uuid::text, true),
                         set_config('app.current_org_id', md5('org-4')::uuid::text, true)",
    },
    Actor {
        role: "studio_app",
        context: "SELECT",
    },
];

pub fn attempts() -> Vec<Attempts> {
    let inserts: [&[&str]; 5] = [
        &[
            "INSERT INTO platform.organizations (id, name, slug) VALUES (md5('org-2')::uuid, 'x', 'x') ON CONFLICT (id) DO NOTHING",
            "INSERT INTO platform.organizations (id, name, slug) VALUES (md5('org-99')::uuid, 'x', 'x')",
        ],
        &[
            "INSERT INTO platform.organization_members VALUES (md5('user-301')::uuid, md5('org-2')::uuid)",
            "INSERT INTO platform.organization_members VALUES (md5('user-301')::uuid, md5('org-9')::uuid)",
        ],
        &[
            "INSERT INTO platform.projects (organization_id, name) VALUES (md5('org-2')::uuid, 'x')",
            "INSERT INTO platform.projects (organization_id, name) VALUES (md5('org-9')::uuid, 'x')",
        ],
        &[
            "INSERT INTO platform.profiles (id, email, display_name) VALUES (md5('user-61')::uuid, 'x', 'x') ON CONFLICT (id) DO NOTHING",
            "INSERT INTO platform.profiles (id, email, display_name) VALUES (md5('user-999')::uuid, 'x', 'x')",
        ],
        &[
            "INSERT INTO platform.sessions (user_id, token_sha256, expires_at) VALUES (md5('user-61')::uuid, sha256('x'), now())",
            "INSERT INTO platform.sessions (user_id, token_sha256, expires_at) VALUES (md5('user-99')::uuid, sha256('x'), now())",
        ],
    ];
    TABLES
        .into_iter()
        .zip(inserts)
        .map(|(table, inserts)| Attempts {
            table,
            statements: [
                format!("SELECT * FROM {table}"),
                format!("UPDATE {table} SET created_at = now()"),
                format!("DELETE FROM {table}"),
            ]
            .into_iter()
            .chain(inserts.iter().map(|insert| (*insert).to_owned()))
            .collect(),
        })
        .collect()
}
