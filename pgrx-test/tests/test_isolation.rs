//! `tenancy.test_isolation()` on tables that are protected, and on the reference systems: it passes, and it
//! has attacked.

mod isolation_support;
mod policy_support;
mod scenario_support;

use isolation_support::protected;
use pgrx_test::fixture::{ClientExt, expect_error};
use pgrx_test::scenario::{AGENTS, INSIGHTS, OKR, STUDIO};
use policy_support::Stage;
use postgres::Client;

fn attacks(session: &mut Client, role: &str) -> Vec<[String; 4]> {
    session
        .rows(&format!(
            "SELECT relation, attack, result, concat_ws(' ', sqlstate, detail) FROM tenancy.test_isolation('{role}')"
        ))
        .into_iter()
        .map(|row| {
            let mut row = row.into_iter().map(Option::unwrap_or_default);
            [(); 4].map(|()| row.next().expect("four columns"))
        })
        .collect()
}

#[test]
fn a_protected_table_withstands_every_attack() {
    let stage = Stage::new();
    stage.items();
    stage.protect("app.items", "{}");
    let found = attacks(&mut stage.superuser(), &stage.app);
    let told: Vec<String> = found
        .iter()
        .map(|[relation, attack, result, _]| format!("{relation} {attack} {result}"))
        .collect();
    assert_eq!(
        told,
        [
            "app.items select nothing",
            "app.items insert refused",
            "app.items update nothing",
            "app.items delete nothing",
            "app.items take nothing",
            "app.items move refused",
            "app.items upsert refused",
            "app.items truncate refused",
        ],
        "{found:#?}"
    );
    stage
        .superuser()
        .ok(&format!("SELECT tenancy.assert_isolation('{}')", stage.app));
    // It is no traffic.
    let denials = "SELECT count(*) FROM tenancy.denials";
    assert_eq!(stage.superuser().int(denials), 0);
}

#[test]
fn the_reference_systems_withstand_every_attack() {
    let mut wrong = Vec::new();
    for scenario in [&OKR, &INSIGHTS, &STUDIO, &AGENTS] {
        let system = scenario_support::Stage::new(scenario);
        let mut superuser = system.superuser();
        if scenario.name == "okr" {
            // Its keys were only reported, and the table of memberships is open.
            let remediations = superuser.rows(
                "SELECT DISTINCT remediation FROM tenancy.validate() WHERE code LIKE 'key-%' OR code = 'rls-off'",
            );
            for remediation in remediations.into_iter().flatten().flatten() {
                superuser.ok(&remediation);
            }
        }
        let found = attacks(&mut superuser, system.role(scenario.application()));
        let failed: Vec<_> = found
            .iter()
            .filter(|[_, _, result, _]| result == "LEAK" || result == "not attacked")
            .map(|[relation, attack, result, _]| format!("{relation} {attack} {result}"))
            .collect();
        // Who has a token of somebody's is told who it is of, and tokens are nowhere to be found.
        let expected = match scenario.name {
            "studio" => [("platform.user_of_token(text)", "call")].as_slice(),
            _ => &[],
        };
        for (relation, attack) in expected {
            superuser.ok(&format!(
                "SELECT tenancy.waive('not-attacked', quote_ident('{}') || ': {relation}: {attack}', 'tokens are kept elsewhere', 'infinity')",
                system.role(scenario.application())
            ));
        }
        superuser.ok(&format!(
            "SELECT tenancy.assert_isolation('{}')",
            system.role(scenario.application())
        ));
        let expected: Vec<_> = expected
            .iter()
            .map(|(relation, attack)| format!("{relation} {attack} not attacked"))
            .collect();
        if failed != expected || found.len() < 20 {
            wrong.push(format!(
                "{}: {} attacks, {failed:#?}",
                scenario.name,
                found.len()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_cannot_be_tried_can_be_accepted_and_a_leak_cannot() {
    let stage = protected();
    let mut superuser = stage.superuser();
    superuser.ok(&format!(
        "CREATE PROCEDURE app.secret() LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS 'SELECT 1';
         REVOKE ALL ON PROCEDURE app.secret() FROM PUBLIC; GRANT EXECUTE ON PROCEDURE app.secret() TO {}",
        stage.app
    ));
    let assert = format!("SELECT tenancy.assert_isolation('{}')", stage.app);
    let tap = format!(
        "SELECT line FROM tenancy.test_isolation_tap('{}') AS line WHERE line LIKE '%app.secret%'",
        stage.app
    );
    let detail = format!(
        "SELECT detail FROM tenancy.test_isolation('{}') WHERE relation = 'app.secret()'",
        stage.app
    );
    let waive = |who: &str, object: &str, until: &str| {
        format!(
            "SELECT tenancy.waive('not-attacked', '{who}: {object}', E'nothing in it,\nas read', {until})"
        )
    };
    let app = stage.app.as_str();
    expect_error(&superuser.error(&assert), "55000", "is not proven: 1 of");
    superuser.ok(&waive(app, "app.secret(): another attack", "'infinity'"));
    superuser.ok(&waive(&stage.owner, "app.secret(): call", "'infinity'"));
    superuser.ok(&waive(
        app,
        "app.secret(): call",
        "now() - interval '1 day'",
    ));
    expect_error(&superuser.error(&assert), "55000", "is not proven: 1 of");
    assert!(superuser.text(&tap).unwrap().starts_with("not ok"));
    superuser.ok(&waive(app, "app.secret(): call", "'infinity'"));
    superuser.ok(&assert);
    let told = superuser.text(&detail).unwrap();
    assert!(
        told.ends_with("; accepted by postgres: nothing in it,\nas read"),
        "{told}"
    );
    let line = superuser.text(&tap).unwrap();
    assert!(
        line.starts_with("ok ")
            && line.contains("call: not attacked # SKIP nothing in it, as read\n"),
        "{line}"
    );
    superuser.ok("BEGIN");
    superuser.ok(&format!("GRANT TRUNCATE ON app.items TO {app}"));
    superuser.ok(&waive(app, "app.items: truncate", "'infinity'"));
    expect_error(&superuser.error(&assert), "55000", "does not hold: 1 of");
    superuser.ok("ROLLBACK");
    // What could be tried with another row is never accepted.
    stage.owner().ok("CREATE TABLE app.shapes (id int PRIMARY KEY, tenant_id uuid NOT NULL, outline polygon NOT NULL)");
    stage.protect("app.shapes", "{}");
    superuser.ok(&waive(app, "app.shapes: all", "'infinity'"));
    expect_error(&superuser.error(&assert), "55000", "is not proven: 1 of");
}

#[test]
fn what_cannot_be_tested_is_refused() {
    let stage = Stage::new();
    let mut superuser = stage.superuser();
    let ask = |role: &str| format!("SELECT * FROM tenancy.test_isolation({role})");
    expect_error(
        &superuser.error(&ask(&format!("'{}'", stage.app))),
        "55000",
        "nothing to attack",
    );
    stage.items();
    stage.protect("app.items", "{}");
    expect_error(&superuser.error(&ask("NULL")), "22004", "role");
    expect_error(
        &superuser.error(&ask("'nobody_at_all'")),
        "42704",
        "nobody_at_all",
    );
}
