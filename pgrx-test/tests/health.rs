//! `tenancy.health()`: grades of what is well, of each thing that is not, and that nothing ends it.

mod policy_support;
mod scenario_support;

use std::collections::BTreeMap;

use pgrx_test::fixture::{ClientExt, Database, Server};
use pgrx_test::scenario::{AGENTS, INSIGHTS, OKR, STUDIO};
use policy_support::Stage;
use postgres::Client;

const ORDER: [&str; 4] = ["error", "warn", "unknown", "ok"];

/// Grade, reason and where to look, by component.
fn board(session: &mut Client) -> BTreeMap<String, [String; 3]> {
    let rows = session.rows("SELECT grade, component, reason, look_at FROM tenancy.health()");
    let texts: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| row.into_iter().map(Option::unwrap_or_default).collect())
        .collect();
    let ranks: Vec<_> = texts
        .iter()
        .map(|row| ORDER.iter().position(|grade| *grade == row[0]))
        .collect();
    assert!(
        ranks.is_sorted() && ranks.iter().all(Option::is_some),
        "the worst first: {texts:?}"
    );
    let board: BTreeMap<_, _> = texts
        .into_iter()
        .map(|row| {
            (
                row[1].clone(),
                [row[0].clone(), row[2].clone(), row[3].clone()],
            )
        })
        .collect();
    let names: Vec<&str> = board.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "context", "coverage", "data", "policies", "roles", "rollout", "schema", "server"
        ]
    );
    assert!(
        board.values().all(|[_, reason, _]| !reason.is_empty()),
        "{board:?}"
    );
    board
}

#[track_caller]
fn expect(session: &mut Client, component: &str, grade: &str, reason: &str) {
    let board = board(session);
    let [is, why, look_at] = &board[component];
    session.rows(look_at);
    assert!(
        is == grade && why.contains(reason),
        "{component} should be {grade} for {reason:?}: {board:#?}"
    );
}

/// An enforced table, and nothing that could be better.
fn well(server: &'static Server) -> Stage {
    let stage = Stage::on(server);
    let mut owner = stage.owner();
    owner.ok("CREATE TABLE app.t (tenant_id uuid NOT NULL, id uuid NOT NULL, PRIMARY KEY (tenant_id, id)); INSERT INTO app.t SELECT gen_random_uuid(), gen_random_uuid() FROM generate_series(1, 50); ANALYZE app.t");
    stage.protect("app.t", "{}");
    stage
}

#[test]
fn what_is_well_is_ok() {
    let stage = well(Server::preloaded());
    // Whoever asks.
    for mut session in [stage.superuser(), stage.owner(), stage.nobody()] {
        session.ok("BEGIN READ ONLY");
        let board = board(&mut session);
        for (component, [grade, ..]) in &board {
            let expected = if component == "data" { "unknown" } else { "ok" };
            assert_eq!(grade, expected, "{component}: {board:#?}");
        }
        assert!(
            board["data"][1].contains("about 50 in 1 tenant table"),
            "{board:?}"
        );
        assert!(
            board["rollout"][1].contains("all 1 registered tables are enforced"),
            "{board:?}"
        );
        assert_eq!(
            session.int("SELECT pg_stat_get_xact_numscans('app.t'::regclass)"),
            0,
            "no row is read"
        );
    }
}

#[test]
fn each_component_says_what_is_wrong_with_it() {
    let stage = well(Server::preloaded());
    let (app, owner) = (&stage.app, &stage.owner);
    let mut superuser = stage.superuser();
    // What breaks it, what it says, and what mends it.
    for (breaks, component, grade, reason, mends) in [
        (
            "CREATE TABLE app.u (tenant_id uuid NOT NULL); CREATE INDEX ON app.u (tenant_id); GRANT SELECT ON app.u TO {app}",
            "coverage",
            "error",
            "of 2 tenant tables 1 have row security, 1 by tenancy; 1 error (rls-off)",
            "DROP TABLE app.u",
        ),
        (
            "ALTER TABLE app.t NO FORCE ROW LEVEL SECURITY",
            "policies",
            "error",
            "1 error (drift), 1 warning (rls-not-forced)",
            "ALTER TABLE app.t FORCE ROW LEVEL SECURITY",
        ),
        ("GRANT {owner} TO {app}", "roles", "error", "role-path", "REVOKE {owner} FROM {app}"),
        (
            "GRANT TRUNCATE ON app.t TO {app}",
            "roles",
            "error",
            "1 error (grant-truncate)",
            "REVOKE TRUNCATE ON app.t FROM {app}",
        ),
        (
            "CREATE MATERIALIZED VIEW app.m AS TABLE app.t WITH NO DATA; GRANT SELECT ON app.m TO {app}",
            "schema",
            "error",
            "1 error (materialized-view)",
            "DROP MATERIALIZED VIEW app.m",
        ),
        (
            "SELECT tenancy.expect_column('app', 't', 'id', 'bigint')",
            "schema",
            "warn",
            "1 of 1 expected columns differ; nothing to mend",
            "SELECT tenancy.unexpect_column('app', 't')",
        ),
        (
            "SELECT tenancy.set_mode('app.t', 'permissive', true)",
            "rollout",
            "warn",
            "1 of 1 registered tables are not enforced: 1 permissive, 0 in shadow mode",
            "SELECT tenancy.set_mode('app.t', 'enforce', true)",
        ),
        (
            "ALTER TABLE app.t ADD CONSTRAINT k CHECK (id IS NOT NULL) NOT VALID",
            "data",
            "warn",
            "1 constraints of tenant tables were never validated",
            "ALTER TABLE app.t DROP CONSTRAINT k",
        ),
        (
            "UPDATE tenancy.rules SET query = 'SELECT NULL AS schema, (1 / 0)::text AS object, NULL AS detail, NULL AS remediation' WHERE code = 'key-cascades'",
            "schema",
            "error",
            "1 error (rule-failed)",
            "DELETE FROM tenancy.rules WHERE code = 'key-cascades'",
        ),
        (
            "CREATE TABLE app.m (user_id text, tenant_id uuid, PRIMARY KEY (tenant_id, user_id)); REVOKE ALL ON app.m FROM {app};
             SELECT tenancy.bind(membership => 'app.m'); ALTER TABLE app.m DISABLE TRIGGER tenancy_identity_guard",
            "context",
            "error",
            "guard is off",
            "SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id'); DROP TABLE app.m",
        ),
    ] {
        let filled = |sql: &str| sql.replace("{app}", app).replace("{owner}", owner);
        superuser.ok(&filled(breaks));
        expect(&mut superuser, component, grade, reason);
        superuser.ok(&filled(mends));
        let board = board(&mut superuser);
        assert!(
            board.values().all(|[grade, ..]| ["ok", "unknown"].contains(&grade.as_str())),
            "after {mends}: {board:#?}"
        );
    }
    superuser.ok(&format!("GRANT TRUNCATE ON app.t TO {app}"));
    superuser.ok(&format!(
        "SELECT tenancy.waive('grant-truncate', 'TRUNCATE on table app.t for {app}', 'nightly', 'infinity')"
    ));
    expect(&mut superuser, "roles", "ok", "1 waived");
}

#[test]
fn nothing_ends_it() {
    // Nothing bound, nothing protected, whoever asks.
    let database = Database::new(Server::preloaded());
    let stranger = database.role("stranger");
    for mut session in [database.superuser(), database.connect(&stranger)] {
        expect(&mut session, "context", "warn", "nothing is bound");
        expect(&mut session, "coverage", "warn", "nothing is protected");
        expect(&mut session, "rollout", "warn", "no table is registered");
        expect(&mut session, "data", "ok", "no tenant table");
    }
    // The library came late.
    let late = well(Server::plain());
    expect(&mut late.nobody(), "server", "ok", "not-preloaded");
    expect(&mut late.nobody(), "rollout", "ok", "enforced");
    // A partial restore: tables are registered and nothing is bound.
    let stage = well(Server::preloaded());
    stage
        .superuser()
        .ok("DELETE FROM tenancy.binding_definition");
    expect(
        &mut stage.owner(),
        "context",
        "error",
        "1 tables are registered",
    );
    // The validator cannot be asked.
    let stage = well(Server::preloaded());
    stage
        .superuser()
        .ok("REVOKE SELECT ON tenancy.waivers FROM PUBLIC");
    let mut session = stage.nobody();
    let rows = session.rows("SELECT grade, reason FROM tenancy.health() WHERE component IN ('roles', 'policies', 'schema', 'server', 'coverage')");
    assert_eq!(rows.len(), 5);
    for row in rows {
        assert_eq!(row[0].as_deref(), Some("unknown"), "{row:?}");
        assert!(
            row[1]
                .as_deref()
                .unwrap_or_default()
                .contains("permission denied"),
            "{row:?}"
        );
    }
    assert_eq!(
        session
            .text("SELECT grade FROM tenancy.health() WHERE component = 'context'")
            .as_deref(),
        Some("ok")
    );
}

#[test]
fn the_reference_systems_are_well_once_their_remediations_ran() {
    for scenario in [&OKR, &INSIGHTS, &STUDIO, &AGENTS] {
        let system = scenario_support::Stage::new(scenario);
        let mut superuser = system.superuser();
        let errors = superuser.int("SELECT count(*) FROM tenancy.validate() WHERE level = 'error'");
        let before = board(&mut superuser);
        assert_eq!(
            before.values().any(|[grade, ..]| grade == "error"),
            errors > 0,
            "{}: {before:#?}",
            scenario.name
        );
        let remediations = superuser
            .rows("SELECT DISTINCT remediation FROM tenancy.validate() WHERE level = 'error'");
        for remediation in remediations.into_iter().flatten().flatten() {
            superuser.ok(&remediation);
        }
        let after = board(&mut superuser);
        assert!(
            after.values().all(|[grade, ..]| grade != "error"),
            "{}: {after:#?}",
            scenario.name
        );
        assert_eq!(after["rollout"][0], "ok", "{}: {after:#?}", scenario.name);
    }
}
