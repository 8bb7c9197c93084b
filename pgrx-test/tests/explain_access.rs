//! `tenancy.explain_access()`: its verdict is what an ordinary role meets, for every template, row, user,
//! tenant and command, told before enforcement and under it.

mod explain_support;
mod policy_support;
mod template_support;

use explain_support::{Asker, met, rows_of, verdict};
use pgrx_test::fixture::{ClientExt, quote_literal};
use policy_support::{A, B};
use postgres::Client;
use template_support::World;

const COMMANDS: [&str; 4] = ["select", "insert", "update", "delete"];

/// Tables with their template, tenant column and options.
const PROTECTED: [(&str, &str, &str, &str); 12] = [
    ("notes", "tenant", "tenant_id", "{}"),
    ("tools", "shared_read", "tenant_id", "{}"),
    ("config", "tenant_read_admin_write", "tenant_id", "{}"),
    ("firms", "own_tenant", "id", "{\"admin_writes\": true}"),
    ("groups", "own_tenant", "id", "{\"super_admins\": \"all\"}"),
    (
        "profiles",
        "self",
        "tenant_id",
        "{\"readers\": \"tenant_admins\"}",
    ),
    (
        "people",
        "self",
        "tenant_id",
        "{\"super_admins\": \"read\"}",
    ),
    (
        "seats",
        "member_read",
        "tenant_id",
        "{\"admin_writes\": true}",
    ),
    (
        "flags",
        "global_read_admin_write",
        "",
        "{\"visible\": \"is_active\"}",
    ),
    (
        "plans",
        "global_read_admin_write",
        "",
        "{\"writers\": \"tenant_admins\"}",
    ),
    ("lines", "child", "", "{}"),
    ("words", "child", "", "{}"),
];

/// Users with the tenant that they chose; `None` is unset.
const ASKERS: [Asker<'_>; 10] = [
    (Some("ann"), None),
    (Some("ann"), Some(B)),
    (Some("amy"), Some(A)),
    (Some("bob"), None),
    (Some("two"), None),
    (Some("two"), Some(A)),
    (Some("two"), Some(B)),
    (Some("sup"), None),
    (Some("out"), None),
    (None, None),
];

fn world() -> World {
    let world = World::new();
    world.stage.owner().ok(
        "CREATE TABLE app.firms (id uuid PRIMARY KEY, body text); CREATE TABLE app.groups (id uuid PRIMARY KEY, body text);
         CREATE TABLE app.people (id text PRIMARY KEY, body text);
         CREATE TABLE app.seats (user_id text, tenant_id uuid NOT NULL, body text, PRIMARY KEY (tenant_id, user_id));
         CREATE TABLE app.plans (id int PRIMARY KEY, body text);
         INSERT INTO app.firms TABLE app.tenants; INSERT INTO app.groups TABLE app.tenants;
         INSERT INTO app.people SELECT id, body FROM app.profiles;
         INSERT INTO app.seats TABLE app.members; INSERT INTO app.plans VALUES (1, 'p')"
    );
    world
}

/// Everything that is told, in order: to the owner about anybody and to a superuser about the role, in turn.
fn all_verdicts(world: &World, owner: &mut Client, turn: usize) -> Vec<(String, String)> {
    let mut superuser = world.stage.superuser();
    superuser.ok(&format!(
        "SET pg_tenancy.missing_context = {}",
        owner
            .text("SHOW pg_tenancy.missing_context")
            .expect("a value")
    ));
    let app = world.stage.app.as_str();
    let mut told = Vec::new();
    for (table, ..) in PROTECTED {
        for row in rows_of(&mut superuser, table) {
            for asker in ASKERS {
                for command in COMMANDS {
                    let what = format!("{table} {} {command} {asker:?}", row[0]);
                    let verdict = if told.len() % 2 == turn {
                        verdict(owner, table, &row[0], command, asker, None)
                    } else {
                        verdict(&mut superuser, table, &row[0], command, asker, Some(app))
                    };
                    told.push((what, verdict));
                }
            }
        }
    }
    told
}

fn all_met(world: &World, session: &mut Client) -> Vec<(String, String)> {
    let mut superuser = world.stage.superuser();
    let mut met_with = Vec::new();
    for (table, ..) in PROTECTED {
        for row in rows_of(&mut superuser, table) {
            for asker in ASKERS {
                for command in COMMANDS {
                    let what = format!("{table} {} {command} {asker:?}", row[0]);
                    met_with.push((what, met(session, table, &row, command, asker)));
                }
            }
        }
    }
    met_with
}

fn same(told: &[(String, String)], met: &[(String, String)]) {
    let different: Vec<_> = told
        .iter()
        .zip(met)
        .filter(|(told, met)| told != met)
        .collect();
    assert!(
        different.is_empty(),
        "{} of {}: {different:#?}",
        different.len(),
        met.len()
    );
}

#[test]
fn the_verdict_is_what_the_application_meets() {
    let world = world();
    let (mut owner, mut superuser) = (world.stage.owner(), world.stage.superuser());
    for mode in ["permissive", "shadow"] {
        for (table, template, column, options) in PROTECTED {
            let column = if column.is_empty() {
                "NULL"
            } else {
                &quote_literal(column)
            };
            owner.ok(&format!(
                "SELECT tenancy.protect_table('app.{table}', '{template}', {column}, '{mode}', '{options}')"
            ));
        }
    }
    // Told before anything is enforced.
    let before = all_verdicts(&world, &mut owner, 0);
    assert_eq!(
        superuser.int("SELECT count(*) FROM tenancy.shadow_denials"),
        0,
        "asking is no traffic"
    );
    owner.ok("SELECT tenancy.set_mode('enforce', atomic => true, force => true)");
    let met = all_met(&world, &mut world.stage.nobody());
    for word in ["allowed", "hidden", "refused", "error"] {
        let count = met.iter().filter(|(_, met)| met == word).count();
        assert!(count > 50, "{count} {word}");
    }
    same(&before, &met);
    let refused = "SELECT sum(rows) FROM tenancy.denials";
    let before = superuser.int(refused);
    same(&all_verdicts(&world, &mut owner, 1), &met);
    assert_eq!(
        superuser.int(refused),
        before,
        "nor is it counted as refused"
    );

    // Where a missing context is no error.
    let mut denied = world.stage.nobody();
    for session in [&mut owner, &mut denied] {
        session.ok("SET pg_tenancy.missing_context = 'deny'");
    }
    let met = all_met(&world, &mut denied);
    assert!(met.iter().all(|(_, met)| met != "error"));
    same(&all_verdicts(&world, &mut owner, 0), &met);
}
