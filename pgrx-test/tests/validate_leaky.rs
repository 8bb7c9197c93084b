//! A deliberately leaky database: every hole of the list at once, each found by its code, all closed by
//! running what the validator says.

mod validate_support;

use std::collections::BTreeSet;

use pgrx_test::fixture::{ClientExt, Database, Server, describe};
use postgres::Client;
use validate_support::{cases, place};

/// What cannot be beside the others: no binding beside guarded columns, another server, another
/// library. `validate.rs` and `validate_server.rs` have them.
const ELSEWHERE: &[&str] = &["binding-missing", "not-preloaded", "server-version"];

/// The identity that is bound, without its guard, and rows that belong to nobody.
const IDENTITY: &str = "
    CREATE SCHEMA identity;
    CREATE TABLE identity.tenants (id uuid PRIMARY KEY);
    CREATE TABLE identity.users (id text PRIMARY KEY, role text);
    CREATE TABLE identity.members (user_id text, tenant_id uuid);
    INSERT INTO identity.tenants VALUES ('00000000-0000-0000-0000-00000000000a'), ('00000000-0000-0000-0000-00000000000b');
    INSERT INTO identity.users VALUES ('nobody'), ('somebody'); INSERT INTO identity.members VALUES ('somebody', '00000000-0000-0000-0000-00000000000a');
    SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id', membership => 'identity.members', tenants => 'identity.tenants',
        role_table => 'identity.users', platform_tenant => '00000000-0000-0000-0000-000000000001');
    ALTER TABLE identity.members DISABLE TRIGGER USER";

const ROWS: &str = "
    CREATE SCHEMA data;
    CREATE TABLE data.p (id int PRIMARY KEY, tenant_id uuid NOT NULL);
    CREATE TABLE data.t (tenant_id uuid, p int REFERENCES data.p);
    INSERT INTO data.p VALUES (1, '00000000-0000-0000-0000-00000000000a');
    INSERT INTO data.t VALUES (NULL, 1), ('00000000-0000-0000-0000-00000000000b', 1), ('00000000-0000-0000-0000-00000000000f', NULL);";

struct Leaky {
    database: Database,
    app: String,
    subscription: String,
}

impl Drop for Leaky {
    fn drop(&mut self) {
        // A database with a subscription cannot be dropped.
        let drop = format!("DROP SUBSCRIPTION IF EXISTS {}", self.subscription);
        if let Err(error) = self.database.superuser().batch_execute(&drop) {
            eprintln!("{}", describe(&error));
        }
    }
}

fn leaky() -> Leaky {
    let database = Database::new(Server::preloaded());
    let app = database.role("app");
    let mut session = database.superuser();
    session.ok(IDENTITY);
    for (number, case) in cases().enumerate() {
        place(
            &database,
            &mut session,
            &app,
            &format!("g{number}"),
            case.guilty,
        );
    }
    session.ok(ROWS);
    let subscription = format!("sub_{}", database.name);
    session.ok(&format!(
        "CREATE SUBSCRIPTION {subscription} CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false, slot_name = NONE)"
    ));
    session.ok(&format!("SET allow_system_table_mods = on;
        INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate)
            SELECT oid, 'data.t'::regclass, 'r' FROM pg_subscription WHERE subname = '{subscription}';
        UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'pg_tenancy';
        DO $$ DECLARE v text := replace(pg_get_viewdef('pg_stats_ext'::regclass), 'pg_has_role(c.relowner, ''USAGE''::text)', 'true');
        BEGIN EXECUTE 'CREATE OR REPLACE VIEW pg_catalog.pg_stats_ext WITH (security_barrier) AS ' || v; END $$;
        RESET allow_system_table_mods"));
    if Server::preloaded().version >= 17 {
        session.ok(&format!("GRANT MAINTAIN ON data.t TO {app}"));
    }
    Leaky {
        database,
        app,
        subscription,
    }
}

const ALL: &str = "SELECT code, level, object, remediation FROM tenancy.validate()
    UNION ALL SELECT code, level, object, remediation FROM tenancy.validate_data()";

#[test]
fn every_hole_is_found_and_all_are_closed_by_what_is_said() {
    let leaky = leaky();
    let mut session = leaky.database.superuser();
    let found: BTreeSet<String> = column(
        &mut session,
        &format!("SELECT DISTINCT code FROM ({ALL}) f"),
    );
    let mut rules: BTreeSet<String> = column(&mut session, "SELECT code FROM tenancy.rules");
    rules.retain(|code| !ELSEWHERE.contains(&code.as_str()));
    if Server::preloaded().version < 17 {
        rules.remove("grant-maintain");
    }
    assert_eq!(
        found
            .iter()
            .filter(|code| *code != "server-version")
            .cloned()
            .collect::<BTreeSet<_>>(),
        rules
    );

    // What SQL cannot mend is no more than information.
    let unmended = session.rows(
        "SELECT code, object FROM tenancy.validate() WHERE remediation IS NULL AND level <> 'info'",
    );
    assert!(unmended.is_empty(), "{unmended:?}");

    mend(&mut session);
    session.ok("SELECT tenancy.assert_valid('warn')");
    let leaks = session.rows(&format!(
        "SELECT relation, attack, detail FROM tenancy.test_isolation('{}', '00000000-0000-0000-0000-00000000000a', '00000000-0000-0000-0000-00000000000b')
         WHERE result = 'LEAK'",
        leaky.app
    ));
    assert!(leaks.is_empty(), "{leaks:?}");
}

/// Runs every remediation in the order given, those of rows first since keys are checked against them,
/// again and again until nothing changes: what fails may wait for another.
fn mend(session: &mut Client) {
    const GIVEN: &str = "
        SELECT remediation FROM (
            SELECT remediation, min(place) AS place
            FROM (SELECT remediation, row_number() OVER () AS place FROM tenancy.validate_data()
                  UNION ALL SELECT remediation, 1000000 + row_number() OVER () FROM tenancy.validate()) x
            WHERE remediation IS NOT NULL GROUP BY remediation) y
        ORDER BY place";
    let mut before = Vec::new();
    loop {
        let given = session.texts(GIVEN);
        if given.is_empty() || given == before {
            return;
        }
        let mut failed = Vec::new();
        for remediation in &given {
            if let Err(error) = session.batch_execute(remediation) {
                failed.push(format!("{}\n{remediation}", describe(&error)));
            }
        }
        eprintln!(
            "{} remediations; these failed:\n{}",
            given.len(),
            failed.join("\n")
        );
        before = given;
    }
}

fn column(session: &mut Client, sql: &str) -> BTreeSet<String> {
    session.texts(sql).into_iter().collect()
}
