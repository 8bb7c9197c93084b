//! The insights system, entirely on the extension: every rule of it, through the application's role
//! and with raw SQL, for insights and snapshots alike.

mod scenario_support;

use pgrx_test::fixture::{ClientExt, expect_error};
use pgrx_test::scenario::INSIGHTS;
use postgres::Client;
use scenario_support::probe::{Actor, Attempts, every_policy_holds_something};
use scenario_support::{Stage, affected, plan_of};

const TABLES: [&str; 4] = [
    "connectors",
    "tasks",
    "module_insights",
    "analytics_snapshots",
];

/// A table that the rules are written for.
struct Ruled {
    table: &'static str,
    rows_a_tenant: i64,
    filter: &'static str,
    rows_that_it_finds: i64,
    /// An UPDATE's SET.
    touch: &'static str,
    insert: fn(&str) -> String,
}

const RULED: [Ruled; 2] = [
    Ruled {
        table: "module_insights",
        rows_a_tenant: 50,
        filter: "module_slug = 'seo'",
        rows_that_it_finds: 12,
        touch: "summary = 'touched'",
        insert: |tenant| {
            format!(
                "INSERT INTO module_insights (tenant_id, module_slug, summary) VALUES ('{tenant}', 'seo', 'new')"
            )
        },
    },
    Ruled {
        table: "analytics_snapshots",
        rows_a_tenant: 60,
        filter: "date BETWEEN '2026-01-10' AND '2026-01-19'",
        rows_that_it_finds: 10,
        touch: "sessions = sessions + 1",
        insert: |tenant| {
            format!(
                "INSERT INTO analytics_snapshots (tenant_id, date) VALUES ('{tenant}', '2027-01-01')"
            )
        },
    },
];

fn tenant(stage: &Stage, tenant: &str) -> Client {
    stage.application(&format!("SET LOCAL app.current_tenant_id = '{tenant}'"))
}

/// Everything of the other tenants, as one value.
fn rows_of_others(stage: &Stage, own: &str) -> Vec<Vec<Option<String>>> {
    let mut all = Vec::new();
    for table in TABLES {
        all.extend(stage.superuser().rows(&format!(
            "SELECT '{table}', count(*), md5(string_agg(t::text, '|' ORDER BY t.id))
             FROM {table} t WHERE tenant_id <> '{own}'"
        )));
    }
    all
}

#[test]
fn select_is_isolated_with_raw_sql() {
    let stage = Stage::new(&INSIGHTS);
    for own in ["tenant-1", "tenant-2", "tenant-40"] {
        let mut client = tenant(&stage, own);
        for ruled in &RULED {
            let table = ruled.table;
            for condition in [
                "true",
                "tenant_id IS NOT NULL",
                "id > '' OR tenant_id = 'tenant-3'",
            ] {
                assert_eq!(
                    client.rows(&format!(
                        "SELECT tenant_id, count(*) FROM {table} WHERE {condition} GROUP BY tenant_id"
                    )),
                    [[Some(own.to_owned()), Some(ruled.rows_a_tenant.to_string())]],
                    "{table} where {condition}"
                );
            }
            assert_eq!(
                client.int(&format!(
                    "SELECT count(*) FROM {table} WHERE tenant_id = 'tenant-3'"
                )),
                0,
                "{table}"
            );
        }
    }
}

#[test]
fn select_with_a_filter_on_slug_or_date_range_is_isolated() {
    let stage = Stage::new(&INSIGHTS);
    let mut client = tenant(&stage, "tenant-2");
    for Ruled {
        table,
        filter,
        rows_that_it_finds,
        ..
    } in RULED
    {
        assert_eq!(
            client.rows(&format!(
                "SELECT tenant_id, count(*) FROM {table} WHERE {filter} GROUP BY tenant_id"
            )),
            [[
                Some("tenant-2".to_owned()),
                Some(rows_that_it_finds.to_string())
            ]],
            "{table}"
        );
    }
}

#[test]
fn insert_passes_for_the_own_tenant_and_is_refused_for_another() {
    let stage = Stage::new(&INSIGHTS);
    for ruled in &RULED {
        let mut client = tenant(&stage, "tenant-1");
        assert_eq!(affected(&mut client, &(ruled.insert)("tenant-1")), 1);
        expect_error(
            &client.error(&(ruled.insert)("tenant-2")),
            "42501",
            &format!("row-level security policy for table \"{}\"", ruled.table),
        );
    }
}

#[test]
fn update_passes_within_the_tenant_and_changes_nothing_of_another() {
    let stage = Stage::new(&INSIGHTS);
    let others = rows_of_others(&stage, "tenant-1");
    for Ruled {
        table,
        touch,
        rows_a_tenant,
        ..
    } in RULED
    {
        let mut client = tenant(&stage, "tenant-1");
        for foreign in [
            format!("UPDATE {table} SET {touch} WHERE tenant_id = 'tenant-2'"),
            format!("UPDATE {table} SET {touch} WHERE id LIKE '%-2-1'"),
        ] {
            assert_eq!(affected(&mut client, &foreign), 0, "{foreign}");
        }
        let all = format!("UPDATE {table} SET {touch}");
        assert_eq!(affected(&mut client, &all), rows_a_tenant as u64, "{all}");
        client.ok("COMMIT");
    }
    assert_eq!(rows_of_others(&stage, "tenant-1"), others);
}

#[test]
fn moving_a_row_to_another_tenant_is_refused() {
    let stage = Stage::new(&INSIGHTS);
    for Ruled { table, .. } in RULED {
        for statement in [
            format!("UPDATE {table} SET tenant_id = 'tenant-2'"),
            format!("UPDATE {table} SET tenant_id = 'tenant-2' WHERE id LIKE '%-1-7'"),
            format!("UPDATE {table} SET connector_id = NULL, tenant_id = 'tenant-2'"),
        ] {
            expect_error(
                &tenant(&stage, "tenant-1").error(&statement),
                "42501",
                "row-level security",
            );
        }
    }
    // Nor may those whom no policy binds.
    for statement in [
        "UPDATE module_insights SET tenant_id = 'tenant-2', task_id = NULL, connector_id = NULL WHERE id = 'insight-1-7'",
        "UPDATE analytics_snapshots SET tenant_id = 'tenant-2', date = '2027-01-01', connector_id = NULL WHERE id = 'snapshot-1-7'",
    ] {
        expect_error(&stage.superuser().error(statement), "23514", "tenant");
    }
}

#[test]
fn delete_passes_within_the_tenant_and_deletes_nothing_of_another() {
    let stage = Stage::new(&INSIGHTS);
    let others = rows_of_others(&stage, "tenant-1");
    for Ruled {
        table,
        rows_a_tenant,
        ..
    } in RULED
    {
        let mut client = tenant(&stage, "tenant-1");
        let foreign = format!("DELETE FROM {table} WHERE tenant_id = 'tenant-2'");
        assert_eq!(affected(&mut client, &foreign), 0, "{foreign}");
        let all = format!("DELETE FROM {table}");
        assert_eq!(affected(&mut client, &all), rows_a_tenant as u64, "{all}");
        client.ok("COMMIT");
    }
    assert_eq!(rows_of_others(&stage, "tenant-1"), others);
}

#[test]
fn a_tenant_has_one_snapshot_a_date_and_two_tenants_may_have_the_same() {
    let stage = Stage::new(&INSIGHTS);
    let insert = RULED[1].insert;
    for own in ["tenant-1", "tenant-2"] {
        let mut client = tenant(&stage, own);
        client.ok(&insert(own));
        client.ok("COMMIT");
    }
    let error = tenant(&stage, "tenant-1").error(&insert("tenant-1"));
    expect_error(&error, "23505", "analytics_snapshots_tenant_id_date_key");
}

#[test]
fn deleting_a_connector_nulls_the_link() {
    let stage = Stage::new(&INSIGHTS);
    let others = rows_of_others(&stage, "tenant-1");
    let mut client = tenant(&stage, "tenant-1");
    client.ok("DELETE FROM tasks WHERE connector_id = 'connector-1-1'");
    assert_eq!(
        affected(
            &mut client,
            "DELETE FROM connectors WHERE id = 'connector-1-1'"
        ),
        1
    );
    for Ruled {
        table,
        rows_a_tenant,
        ..
    } in RULED
    {
        assert_eq!(
            client.int(&format!(
                "SELECT count(*) FROM {table} WHERE tenant_id = 'tenant-1'"
            )),
            rows_a_tenant,
            "{table} keeps its rows and their tenant"
        );
    }
    assert_eq!(
        client.int("SELECT count(*) FROM analytics_snapshots WHERE connector_id IS NOT NULL"),
        0
    );
    assert_eq!(
        client.int("SELECT count(*) FROM module_insights WHERE connector_id IS NULL"),
        16
    );
    client.ok("COMMIT");
    assert_eq!(rows_of_others(&stage, "tenant-1"), others);
}

#[test]
fn a_row_cannot_link_to_another_tenants_connector() {
    let link = |table: &str| {
        format!("UPDATE {table} SET connector_id = 'connector-2-1' WHERE id LIKE '%-1-7'")
    };
    let stage = Stage::as_found(&INSIGHTS);
    for table in ["module_insights", "analytics_snapshots", "tasks"] {
        stage
            .superuser()
            .ok(&format!("BEGIN; {}; ROLLBACK", link(table)));
    }
    stage.protect();
    for table in ["module_insights", "analytics_snapshots", "tasks"] {
        let error = tenant(&stage, "tenant-1").error(&link(table));
        expect_error(
            &error,
            "23503",
            &format!("{table}_connector_id_fkey_tenant"),
        );
        // Nor does an error tell that the connector exists elsewhere.
        let absent = link(table).replace("connector-2-1", "connector-99-1");
        let absent = tenant(&stage, "tenant-1").error(&absent);
        assert_eq!(absent.message(), error.message());
        let own = link(table).replace("connector-2-1", "connector-1-2");
        assert_eq!(affected(&mut tenant(&stage, "tenant-1"), &own), 1);
    }
    let insert = "INSERT INTO analytics_snapshots (tenant_id, date, connector_id) VALUES ('tenant-1', '2027-01-01', 'connector-2-1')";
    expect_error(
        &tenant(&stage, "tenant-1").error(insert),
        "23503",
        "connector",
    );
}

#[test]
fn cascades_stay_inside_the_tenant() {
    let stage = Stage::new(&INSIGHTS);
    let others = rows_of_others(&stage, "tenant-1");
    let mut client = tenant(&stage, "tenant-1");
    client.ok("DELETE FROM connectors; COMMIT");
    assert_eq!(rows_of_others(&stage, "tenant-1"), others);
    let mut client = tenant(&stage, "tenant-1");
    assert_eq!(
        client.int("SELECT count(*) FROM tasks"),
        0,
        "tasks go with their connector"
    );
    assert_eq!(
        client.int("SELECT count(*) FROM module_insights WHERE task_id IS NULL"),
        50
    );
    drop(client);

    let close = "DELETE FROM tenants";
    expect_error(
        &tenant(&stage, "tenant-1").error(close),
        "42501",
        "identity",
    );
    let mut accounts = stage.acting(
        "insights_accounts",
        "SET LOCAL app.current_tenant_id = 'tenant-1'",
    );
    assert_eq!(
        affected(&mut accounts, close),
        1,
        "one tenant, although no WHERE says so"
    );
    accounts.ok("COMMIT");
    assert_eq!(rows_of_others(&stage, "tenant-1"), others);
    let mut superuser = stage.superuser();
    assert_eq!(superuser.int("SELECT count(*) FROM tenants"), 39);
    for table in TABLES {
        assert_eq!(
            superuser.int(&format!(
                "SELECT count(*) FROM {table} WHERE tenant_id = 'tenant-1'"
            )),
            0,
            "{table}"
        );
    }
}

#[test]
fn queries_across_all_tables_in_one_transaction_stay_isolated() {
    let stage = Stage::new(&INSIGHTS);
    let joined =
        "SELECT DISTINCT t.id, c.tenant_id, k.tenant_id, i.tenant_id, s.tenant_id FROM tenants t
         CROSS JOIN connectors c CROSS JOIN (SELECT tenant_id FROM tasks LIMIT 20) k
         CROSS JOIN (SELECT tenant_id FROM module_insights ORDER BY id DESC LIMIT 20) i
         CROSS JOIN (SELECT tenant_id FROM analytics_snapshots ORDER BY date LIMIT 20) s";
    let mut client = tenant(&stage, "tenant-1");
    for own in ["tenant-1", "tenant-2", "tenant-1"] {
        client.ok(&format!("SET LOCAL app.current_tenant_id = '{own}'"));
        let expected = vec![vec![Some(own.to_owned()); 5]];
        assert_eq!(client.rows(joined), expected);
        for table in TABLES {
            let query = format!("SELECT DISTINCT tenant_id FROM {table}");
            assert_eq!(client.rows(&query), [[Some(own.to_owned())]], "{table}");
        }
        let all = "SELECT id FROM tenants";
        assert_eq!(client.rows(all), [[Some(own.to_owned())]]);
    }
}

#[test]
fn without_a_tenant_every_table_raises() {
    let stage = Stage::new(&INSIGHTS);
    let mut client = stage.nobody();
    for table in TABLES.into_iter().chain(["tenants"]) {
        for statement in [
            format!("SELECT * FROM {table}"),
            format!("UPDATE {table} SET created_at = now()"),
            format!("DELETE FROM {table}"),
            format!("INSERT INTO {table} (id) VALUES ('x')"),
        ] {
            expect_error(&client.error(&statement), "42501", "app.current_tenant_id");
        }
    }
}

#[test]
fn a_tenant_that_does_not_exist_or_is_closed_gives_no_context() {
    let stage = Stage::new(&INSIGHTS);
    let count = "SELECT count(*) FROM module_insights";
    expect_error(&tenant(&stage, "tenant-99").error(count), "42501", "tenant");
    let mut open = tenant(&stage, "tenant-5");
    assert_eq!(open.int(count), 50);
    stage
        .superuser()
        .ok("UPDATE tenants SET is_active = false WHERE id = 'tenant-5'");
    expect_error(&open.error(count), "42501", "active");
}

#[test]
fn policies_are_named_as_in_the_product() {
    let stage = Stage::new(&INSIGHTS);
    for table in TABLES {
        let names: Vec<_> = ["delete", "insert", "select", "update"]
            .iter()
            .map(|command| [Some(format!("{table}_tenant_isolation_{command}"))])
            .collect();
        assert_eq!(
            stage.superuser().rows(&format!(
                "SELECT polname FROM pg_policy WHERE polrelid = '{table}'::regclass AND NOT polpermissive ORDER BY 1"
            )),
            names
        );
    }
}

/// An overhead of milliseconds would be another plan or a call for each row: neither is there.
#[test]
fn row_security_gives_the_plan_of_the_filter_written_by_hand() {
    let stage = Stage::new(&INSIGHTS);
    for query in [
        "SELECT * FROM module_insights WHERE module_slug = 'seo' ORDER BY created_at DESC LIMIT 10",
        "SELECT * FROM analytics_snapshots WHERE date BETWEEN '2026-01-10' AND '2026-01-19'",
        "SELECT * FROM tasks WHERE type = 'sync' AND priority <= 2",
    ] {
        let by_hand = query.replace(" WHERE ", " WHERE tenant_id = 'tenant-2' AND ");
        let expected = plan_of(&mut stage.superuser(), &by_hand);
        assert!(expected.contains("tenant-2"), "{expected}");
        let secured = plan_of(&mut tenant(&stage, "tenant-2"), query);
        assert_eq!(
            secured.replace(
                "tenancy.current_tenant_id_text_required()",
                "'tenant-2'::text"
            ),
            expected
        );
    }
}

/// The comparison of an enum is not leakproof, so Postgres does it after the policy: the index finds
/// the tenant's rows, and the status is a filter on those.
#[test]
fn a_condition_that_might_leak_only_meets_the_tenants_rows() {
    let stage = Stage::new(&INSIGHTS);
    let plan = plan_of(
        &mut tenant(&stage, "tenant-2"),
        "SELECT * FROM tasks WHERE status = 'pending'",
    );
    let line = |start: &str| {
        plan.lines()
            .find(|line| line.trim_start().starts_with(start))
            .unwrap_or_else(|| panic!("no {start} in {plan}"))
    };
    assert!(
        line("Index Cond").contains("current_tenant_id_text_required()"),
        "{plan}"
    );
    assert!(line("Filter").contains("pending"), "{plan}");
}

#[test]
fn every_generated_policy_holds_something() {
    let stage = Stage::new(&INSIGHTS);
    let mut attempts: Vec<Attempts> = TABLES
        .into_iter()
        .map(|table| Attempts {
            table,
            statements: vec![
                format!("SELECT * FROM {table}"),
                format!("UPDATE {table} SET created_at = now()"),
                format!("UPDATE {table} SET created_at = now() WHERE tenant_id = 'tenant-2'"),
                format!("UPDATE {table} SET tenant_id = 'tenant-2'"),
                format!("DELETE FROM {table}"),
            ],
        })
        .collect();
    let inserts = |table: &str, columns: &str, values: &str| {
        ["tenant-1", "tenant-2"].map(|own| {
            format!(
                "INSERT INTO {table} (id, tenant_id, {columns}) VALUES ('new', '{own}', {values})"
            )
        })
    };
    attempts[0]
        .statements
        .extend(inserts("connectors", "provider, name", "'shop', 'new'"));
    attempts[1]
        .statements
        .extend(inserts("tasks", "type", "'sync'"));
    attempts[2].statements.extend(inserts(
        "module_insights",
        "module_slug, summary",
        "'seo', 'new'",
    ));
    attempts[3]
        .statements
        .extend(inserts("analytics_snapshots", "date", "'2027-01-01'"));
    attempts.push(Attempts {
        table: "tenants",
        statements: [
            "SELECT * FROM tenants",
            "UPDATE tenants SET name = 'x'",
            "DELETE FROM tenants",
            "INSERT INTO tenants (id, name) VALUES ('tenant-1', 'x') ON CONFLICT DO NOTHING",
            "INSERT INTO tenants (id, name) VALUES ('tenant-41', 'x')",
        ]
        .map(str::to_owned)
        .into(),
    });
    let as_tenant = |role| Actor {
        role,
        context: "SET LOCAL app.current_tenant_id = 'tenant-1'",
    };
    let actors = [as_tenant("insights_app"), as_tenant("insights_accounts")];
    every_policy_holds_something(&stage, &actors, &attempts);
}
