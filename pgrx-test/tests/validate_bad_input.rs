//! The validator over what is broken, strange, or changed while it looks: rows that say so, no abort.

mod policy_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pgrx_test::fixture::{ClientExt, describe};
use policy_support::Stage;
use postgres::Client;

const FAILED: &str = "SELECT object || ': ' || detail FROM tenancy.validate() WHERE code = 'rule-failed'
    UNION ALL SELECT object || ': ' || detail FROM tenancy.validate_data() WHERE code = 'rule-failed'";

fn found(session: &mut Client, code: &str) -> Vec<String> {
    session
        .texts(&format!(
            "SELECT object FROM tenancy.validate('{{app}}') WHERE code = '{code}' ORDER BY object COLLATE \"C\""
        ))
}

fn nothing_failed(session: &mut Client) {
    let failed = session.rows(FAILED);
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn bodies_that_do_not_parse_are_read_as_text() {
    let stage = Stage::new();
    let mut superuser = stage.superuser();
    superuser.ok(&format!(
        "SET check_function_bodies = off;
         CREATE TABLE app.t (tenant_id uuid NOT NULL);
         CREATE FUNCTION app.broken() RETURNS uuid LANGUAGE sql AS 'SELEC nothing (';
         CREATE FUNCTION app.worse() RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN SELECT * FROM t; ((';
         CREATE FUNCTION app.gone() RETURNS SETOF app.t LANGUAGE sql AS 'SELECT * FROM app.nowhere';
         CREATE VIEW app.v AS SELECT * FROM app.gone(); GRANT SELECT ON app.v, app.t TO {0};
         CREATE POLICY p ON app.t USING (tenant_id = app.broken() OR tenant_id = app.worse());
         ALTER TABLE app.t ENABLE ROW LEVEL SECURITY",
        stage.app
    ));
    nothing_failed(&mut superuser);
    assert_eq!(
        found(&mut superuser, "function-volatile"),
        ["function app.broken()", "function app.worse()"]
    );
    assert_eq!(
        found(&mut superuser, "definer-public"),
        ["function app.worse()"]
    );
    // Nothing of it is called, so reading rows of such a table does not fail either.
    superuser.ok("SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id')");
    nothing_failed(&mut superuser);
}

#[test]
fn an_invalid_index_is_none() {
    let stage = Stage::new();
    let mut superuser = stage.superuser();
    superuser.ok("CREATE TABLE app.t (tenant_id uuid NOT NULL, a int); INSERT INTO app.t SELECT gen_random_uuid(), 1 / (n - 1) FROM generate_series(2, 3) n");
    let error = superuser.error("CREATE INDEX CONCURRENTLY broken ON app.t (tenant_id, (1 / a))");
    assert_eq!(error.code().code(), "22012");
    assert_eq!(
        superuser.int(
            "SELECT count(*) FROM pg_index WHERE NOT indisvalid AND indrelid = 'app.t'::regclass"
        ),
        1
    );
    nothing_failed(&mut superuser);
    assert_eq!(
        found(&mut superuser, "tenant-index-missing"),
        ["table app.t"]
    );
}

#[test]
fn dropped_columns_are_not_looked_at() {
    let stage = Stage::new();
    let mut superuser = stage.superuser();
    superuser.ok(
        "CREATE TABLE app.t (a int, tenant_id text, b int, UNIQUE (a, b));
         ALTER TABLE app.t DROP tenant_id, DROP a;
         CREATE TABLE app.u (a int, tenant_id text, b int);
         ALTER TABLE app.u DROP tenant_id, ADD tenant_id uuid NOT NULL; CREATE INDEX ON app.u (tenant_id);
         CREATE TABLE app.nothing ()",
    );
    nothing_failed(&mut superuser);
    let objects = superuser.rows(
        "SELECT code, object FROM tenancy.validate('{app}') WHERE object LIKE '%app.t%' OR object LIKE '%app.nothing%' OR code IN ('tenant-column-type', 'tenant-index-missing')",
    );
    assert!(objects.is_empty(), "{objects:?}");
    assert_eq!(found(&mut superuser, "rls-off-ungranted"), ["table app.u"]);
}

#[test]
fn names_are_quoted_in_what_is_told_and_run() {
    let stage = Stage::new();
    let mut superuser = stage.superuser();
    let names = [
        "T %s \\ $rule$ \"\" '' (x",
        "select",
        "with\nline",
        "ünïcödé 名前 table of sixty-three bytes or thereabouts",
    ];
    for name in names {
        superuser.ok(&format!(
            "CREATE TABLE app.\"{name}\" (id int PRIMARY KEY, \"a (\\b\" text UNIQUE, tenant_id uuid, parent int REFERENCES app.\"{name}\" ON DELETE CASCADE, EXCLUDE USING btree (\"a (\\b\" WITH =));
             CREATE UNIQUE INDEX ON app.\"{name}\" (lower(\"a (\\b\"));
             CREATE POLICY \"{name}\" ON app.\"{name}\" USING (tenant_id = tenant_id);
             ALTER TABLE app.\"{name}\" ENABLE ROW LEVEL SECURITY;
             GRANT ALL ON app.\"{name}\" TO {}",
            stage.app
        ));
    }
    nothing_failed(&mut superuser);
    assert_eq!(
        found(&mut superuser, "policy-always-true").len(),
        names.len()
    );
    let open = "SELECT remediation FROM tenancy.validate('{app}') WHERE level <> 'info' LIMIT 1";
    for _ in 0..200 {
        match superuser.rows(open).into_iter().flatten().next() {
            None => break,
            Some(None) => panic!("no remediation"),
            Some(Some(remediation)) => superuser.ok(&remediation),
        }
    }
    superuser.ok("SELECT tenancy.assert_valid('warn', '{app}')");
}

#[test]
fn what_is_in_the_way_of_a_rule_hides_its_own_schema_only() {
    let stage = Stage::new();
    let mut superuser = stage.superuser();
    superuser.ok(
        "CREATE SCHEMA \"Other\"; CREATE TABLE app.t (tenant_id uuid); CREATE TABLE app.u (tenant_id uuid); CREATE TABLE \"Other\".t (tenant_id uuid);
         INSERT INTO tenancy.rules VALUES ('odd', 'keys', 'warn', 'Odd', 'It is.', 'https://example.org',
             $$SELECT t.schema, 'table ' || tenancy.qualified_name(t.relation) AS object, (1 / length(replace(t.schema || t.name, 'Othert', '')))::text AS detail, NULL AS remediation FROM tenancy.tenant_tables t
               UNION ALL SELECT NULL, 'of no schema', '', NULL$$)",
    );
    let told = "SELECT code || ' ' || object || ' ' || detail FROM tenancy.validate() WHERE code = 'odd' OR code = 'rule-failed' ORDER BY 1";
    assert_eq!(
        superuser.texts(told),
        [
            "odd of no schema ",
            "odd table app.t 0",
            "odd table app.u 0",
            "rule-failed rule odd in schema \"Other\" this could not be checked, so that none of its findings in schema \"Other\" are told: division by zero",
        ]
    );
    // It still fails a gate of its level, and counts for health.
    let error = superuser.error("SELECT tenancy.assert_valid('warn', '{Other}')");
    assert!(error.detail().unwrap().contains("rule odd"), "{error:?}");
    let health = superuser.text("SELECT reason FROM tenancy.health() WHERE component = 'schema'");
    assert!(
        health.as_deref().unwrap().contains("rule-failed"),
        "{health:?}"
    );
    superuser.ok("UPDATE tenancy.rules SET query = 'SELECT NULL AS schema, (1 / 0)::text AS object, NULL AS detail, NULL AS remediation' WHERE code = 'odd'");
    assert_eq!(
        superuser.texts(told),
        [
            "rule-failed rule odd this could not be checked, so that none of its findings are told: division by zero"
        ]
    );
}

/// Groups of groups: as many paths as there are subsets of layers, and no circle.
#[test]
fn memberships_with_a_million_paths_are_walked() {
    let stage = Stage::new();
    let mut superuser = stage.superuser();
    superuser.ok("CREATE TABLE app.t (tenant_id uuid NOT NULL); SET statement_timeout = '120s'");
    superuser.ok(&format!("GRANT SELECT ON app.t TO {}", stage.app));
    let layers: Vec<[String; 2]> = (0..20)
        .map(|layer| ["l", "r"].map(|side| stage.database.role(&format!("{side}{layer}"))))
        .collect();
    let mut below = vec![stage.app.clone()];
    for layer in &layers {
        for role in &below {
            superuser.ok(&format!("GRANT {}, {} TO {role}", layer[0], layer[1]));
        }
        below = layer.to_vec();
    }
    let top = layers.last().expect("layers")[1].clone();
    superuser.ok(&format!("GRANT pg_read_server_files TO {top}"));
    let detail = format!(
        "SELECT detail FROM tenancy.validate() WHERE code = 'role-path' AND object = 'role {} as pg_read_server_files'",
        stage.app
    );
    let path = superuser.text(&detail).expect("a path");
    assert_eq!(path.matches(" -> ").count(), 21, "{path}");
    assert!(
        path.contains(&format!("{top} -> pg_read_server_files")),
        "{path}"
    );
    // Back to the start is refused by Postgres itself.
    let circle = superuser.error(&format!("GRANT {} TO {top}", stage.app));
    assert_eq!(circle.code().code(), "0LP01");
}

/// Somebody makes, changes and drops all kinds of objects while the validator looks at them.
#[test]
fn objects_that_come_and_go_meanwhile_fail_nothing() {
    let stage = Stage::new();
    stage
        .superuser()
        .ok("CREATE TABLE app.stays (tenant_id uuid NOT NULL)");
    let done = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..2)
        .map(|worker| {
            let mut session = stage.superuser();
            let done = Arc::clone(&done);
            let app = stage.app.clone();
            std::thread::spawn(move || {
                let mut rounds = 0;
                while !done.load(Ordering::Relaxed) {
                    let (t, f) = (format!("app.t{worker}"), format!("app.f{worker}"));
                    for statement in [
                        format!("CREATE TABLE {t} (id serial PRIMARY KEY, tenant_id uuid DEFAULT '00000000-0000-0000-0000-000000000001', note text UNIQUE, up int REFERENCES {t} ON DELETE CASCADE)"),
                        format!("CREATE FUNCTION {f}() RETURNS uuid LANGUAGE sql SECURITY DEFINER AS 'SELECT current_tenant_id()'"),
                        format!("CREATE POLICY p ON {t} USING (tenant_id = {f}() OR note IN (SELECT s.tenant_id::text FROM app.stays s))"),
                        format!("ALTER TABLE {t} ENABLE ROW LEVEL SECURITY; GRANT ALL ON {t} TO PUBLIC, {app}"),
                        format!("CREATE VIEW {t}_v AS SELECT * FROM {t}; GRANT SELECT ON {t}_v TO {app}"),
                        format!("CREATE RULE r AS ON INSERT TO {t} DO ALSO NOTHING"),
                        format!("ALTER TABLE {t} DROP note CASCADE, ADD extra text DEFAULT 'x'"),
                        format!("DROP TABLE {t} CASCADE; DROP FUNCTION {f}()"),
                    ] {
                        session
                            .batch_execute(&statement)
                            .unwrap_or_else(|error| panic!("{}\n{statement}", describe(&error)));
                    }
                    rounds += 1;
                }
                rounds
            })
        })
        .collect();
    let mut session = stage.superuser();
    let mut wrong = Vec::new();
    for _ in 0..15 {
        let outcome = session.simple_query(
            "SELECT code || ' ' || object || ' ' || detail FROM tenancy.validate() WHERE code = 'rule-failed' OR object = 'table app.stays' AND code = 'tenant-index-missing'
             UNION ALL SELECT code || ' ' || object || ' ' || detail FROM tenancy.validate_data('{app}') WHERE code = 'rule-failed' AND object NOT LIKE '%app.t_%'",
        );
        match outcome {
            Err(error) => wrong.push(describe(&error)),
            Ok(messages) => {
                let rows: Vec<_> = messages
                    .iter()
                    .filter_map(|message| match message {
                        postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                        _ => None,
                    })
                    .collect();
                if rows
                    != ["tenant-index-missing table app.stays no valid index begins with tenant_id"]
                {
                    wrong.push(rows.join("\n"));
                }
            }
        }
    }
    done.store(true, Ordering::Relaxed);
    for worker in workers {
        let rounds = worker.join().expect("the other session works");
        assert!(rounds > 0);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
