//! The agent platform's users, and what they try.

use pgrx_test::fixture::ClientExt;
use pgrx_test::scenario::AGENTS;
use postgres::Client;

use super::Stage;
use super::probe::{Actor, Attempts};

pub const PLATFORM: &str = "00000000-0000-0000-0000-000000000001";
pub const CONTENT: [&str; 7] = [
    "tools",
    "agents",
    "prompts",
    "knowledge",
    "chat_sessions",
    "personas",
    "jobs_to_be_done",
];
pub const OF_TENANTS: [&str; 4] = [
    "tenant_configurations",
    "tenant_apps",
    "tenant_feature_flags",
    "tenant_agents",
];

pub fn claims(user: &str) -> String {
    format!(
        "SELECT set_config('request.jwt.claims', json_build_object('sub', md5('{user}')::uuid, 'role', 'super_admin')::text, true)"
    )
}

/// `root`, or `user-<organisation>-<number>`; number 1 is an admin.
pub fn user(stage: &Stage, user: &str) -> Client {
    stage.application(&claims(user))
}

/// The sign-up service on behalf of a user.
pub fn signup(stage: &Stage, user: &str) -> Client {
    stage.acting("agents_signup", &claims(user))
}

/// The system as it was found, with a session of a role that has the rights of the application.
pub fn as_found() -> (Stage, Client) {
    let stage = Stage::as_found(&AGENTS);
    let role = stage.role("agents_app").to_owned();
    stage.superuser().ok(&format!(
        "SELECT tenancy.create_app_role('{role}', '{{public}}', login => true)"
    ));
    let client = stage.nobody();
    (stage, client)
}

/// Whose rows of a table are seen: organisations by number, 0 for the platform.
pub fn organisations(client: &mut Client, column: &str, table: &str) -> String {
    client
        .text(&format!(
            "SELECT string_agg(DISTINCT o.n::text, ',' ORDER BY o.n::text) FROM {table} AS t
             JOIN (SELECT n, md5('org-' || n)::uuid AS id FROM generate_series(1, 20) AS n
                   UNION ALL SELECT 0, '{PLATFORM}') AS o ON t.{column} = o.id"
        ))
        .unwrap_or_default()
}

const ROOT: &str = "SELECT set_config('request.jwt.claims', json_build_object('sub', md5('root')::uuid)::text, true)";
const ADMIN: &str = "SELECT set_config('request.jwt.claims', json_build_object('sub', md5('user-1-1')::uuid)::text, true)";
const MEMBER: &str = "SELECT set_config('request.jwt.claims', json_build_object('sub', md5('user-1-2')::uuid)::text, true)";

pub fn attempts() -> Vec<Attempts> {
    let org = |n: u32| format!("md5('org-{n}')::uuid");
    let insert = |table: &str, columns: &str, values: &[String]| -> Vec<String> {
        values
            .iter()
            .map(|values| {
                format!("INSERT INTO {table} ({columns}) VALUES ({values}) ON CONFLICT DO NOTHING")
            })
            .collect()
    };
    let mut inserts: Vec<(&'static str, Vec<String>)> = vec![
        (
            "organizations",
            insert(
                "organizations",
                "id, name, slug, tenant_type, tenant_key",
                &[
                    format!("{}, 'x', 'x', 'system', 'x'", org(1)),
                    format!("{}, 'x', 'x', 'system', 'x'", org(99)),
                ],
            ),
        ),
        (
            "users",
            insert(
                "users",
                "organization_id, email",
                &[format!("{}, 'x'", org(1)), format!("{}, 'x'", org(2))],
            ),
        ),
        (
            "profiles",
            insert(
                "profiles",
                "id, full_name",
                &[
                    "md5('user-1-2')::uuid, 'x'".into(),
                    "md5('user-2-25')::uuid, 'x'".into(),
                ],
            ),
        ),
        (
            "feature_flags",
            insert("feature_flags", "flag_key, name", &["'x', 'x'".into()]),
        ),
        (
            "tenant_configurations",
            insert("tenant_configurations", "tenant_id", &[org(1), org(2)]),
        ),
        (
            "tenant_apps",
            insert(
                "tenant_apps",
                "tenant_id, app_key, app_name, app_route",
                &[
                    format!("{}, 'x', 'x', 'x'", org(1)),
                    format!("{}, 'x', 'x', 'x'", org(2)),
                ],
            ),
        ),
        (
            "tenant_feature_flags",
            insert(
                "tenant_feature_flags",
                "tenant_id, feature_flag_id, enabled",
                &[
                    format!("{}, md5('flag-7')::uuid, true", org(1)),
                    format!("{}, md5('flag-7')::uuid, true", org(2)),
                ],
            ),
        ),
        (
            "tenant_agents",
            insert(
                "tenant_agents",
                "tenant_id, agent_id",
                &[
                    format!("{}, md5('agents-platform-9')::uuid", org(1)),
                    format!("{}, md5('agents-platform-9')::uuid", org(2)),
                ],
            ),
        ),
    ];
    for table in CONTENT {
        let values =
            [org(1), org(2), format!("'{PLATFORM}'")].map(|tenant| format!("{tenant}, 'x'"));
        inserts.push((table, insert(table, "tenant_id, name", &values)));
    }
    inserts
        .into_iter()
        .map(|(table, inserts)| Attempts {
            table,
            statements: [
                format!("SELECT * FROM {table}"),
                format!("UPDATE {table} SET created_at = now()"),
                format!("DELETE FROM {table}"),
            ]
            .into_iter()
            .chain(inserts)
            .collect(),
        })
        .collect()
}

pub fn actors() -> Vec<Actor> {
    let actor = |role, context| Actor { role, context };
    vec![
        actor("agents_app", ROOT),
        actor("agents_app", ADMIN),
        actor("agents_app", MEMBER),
        actor("agents_app", "SELECT"),
        // Whom the guard of identity columns lets pass: policies alone hold him.
        actor("agents_signup", ADMIN),
        actor("agents_signup", MEMBER),
    ]
}
