//! Partitioned tables, of every kind and at every moment.

mod policy_support;

use pgrx_test::fixture::{ClientExt, expect_error};
use policy_support::{A, B, Stage, plan_of};

const ON: &str = "SELECT tenancy.auto_protect('app', mode => 'enforce')";
const SHAPE: &str = "(id int, tenant_id uuid NOT NULL, at date NOT NULL)";

/// A way to divide `app.events`, with the leaves that it gives.
struct Shape {
    name: &'static str,
    sql: String,
    leaves: &'static [&'static str],
}

fn shapes() -> Vec<Shape> {
    let parent = |by: &str| format!("CREATE TABLE app.events {SHAPE} PARTITION BY {by};");
    vec![
        Shape {
            name: "list of tenants with a default",
            sql: format!(
                "{} CREATE TABLE app.a PARTITION OF app.events FOR VALUES IN ('{A}');
                 CREATE TABLE app.b PARTITION OF app.events DEFAULT",
                parent("LIST (tenant_id)")
            ),
            leaves: &["a", "b"],
        },
        Shape {
            name: "list of something else",
            sql: format!(
                "{} CREATE TABLE app.a PARTITION OF app.events FOR VALUES IN (1, 2);
                 CREATE TABLE app.b PARTITION OF app.events FOR VALUES IN (3, NULL);
                 CREATE TABLE app.c PARTITION OF app.events DEFAULT",
                parent("LIST (id)")
            ),
            leaves: &["a", "b", "c"],
        },
        Shape {
            name: "range of tenants",
            sql: format!(
                "{} CREATE TABLE app.a PARTITION OF app.events FOR VALUES FROM (MINVALUE) TO ('{B}');
                 CREATE TABLE app.b PARTITION OF app.events FOR VALUES FROM ('{B}') TO (MAXVALUE)",
                parent("RANGE (tenant_id)")
            ),
            leaves: &["a", "b"],
        },
        Shape {
            name: "range of dates",
            sql: format!(
                "{} CREATE TABLE app.a PARTITION OF app.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
                 CREATE TABLE app.b PARTITION OF app.events DEFAULT",
                parent("RANGE (at)")
            ),
            leaves: &["a", "b"],
        },
        Shape {
            name: "hash of tenants",
            sql: format!(
                "{} CREATE TABLE app.a PARTITION OF app.events FOR VALUES WITH (MODULUS 2, REMAINDER 0);
                 CREATE TABLE app.b PARTITION OF app.events FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
                parent("HASH (tenant_id)")
            ),
            leaves: &["a", "b"],
        },
        Shape {
            name: "hash of something else",
            sql: format!(
                "{} CREATE TABLE app.a PARTITION OF app.events FOR VALUES WITH (MODULUS 2, REMAINDER 0);
                 CREATE TABLE app.b PARTITION OF app.events FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
                parent("HASH (id)")
            ),
            leaves: &["a", "b"],
        },
        Shape {
            name: "nested, columns in another order",
            sql: format!(
                "{} CREATE TABLE app.middle (at date NOT NULL, gone int, tenant_id uuid NOT NULL, id int) PARTITION BY HASH (tenant_id);
                 ALTER TABLE app.middle DROP COLUMN gone;
                 CREATE TABLE app.a PARTITION OF app.middle FOR VALUES WITH (MODULUS 2, REMAINDER 0);
                 CREATE TABLE app.b PARTITION OF app.middle FOR VALUES WITH (MODULUS 2, REMAINDER 1);
                 ALTER TABLE app.events ATTACH PARTITION app.middle FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
                 CREATE TABLE app.c PARTITION OF app.events DEFAULT PARTITION BY LIST (id);
                 CREATE TABLE app.d PARTITION OF app.c DEFAULT",
                parent("RANGE (at)")
            ),
            leaves: &["a", "b", "c", "d"],
        },
    ]
}

/// Writes through the application's role: two rows of A and one of B, over two years.
fn fill(stage: &Stage, table: &str) {
    stage.tenant(A).ok(&format!(
        "INSERT INTO {table} (id, tenant_id, at) VALUES (1, '{A}', '2026-03-03'), (2, '{A}', '2027-03-03')"
    ));
    stage.tenant(B).ok(&format!(
        "INSERT INTO {table} (id, tenant_id, at) VALUES (3, '{B}', '2026-03-03')"
    ));
}

/// What each tenant sees in a table, as the superuser knows it, and nothing else; no command reaches
/// other rows.
#[track_caller]
fn assert_isolated(stage: &Stage, table: &str) {
    let count = format!("SELECT count(*) FROM {table}");
    for tenant in [A, B] {
        let own = stage
            .superuser()
            .int(&format!("{count} WHERE tenant_id = '{tenant}'"));
        let mut session = stage.tenant(tenant);
        assert_eq!(session.int(&count), own, "{table}, {tenant}");
        session.ok("BEGIN");
        for sql in ["UPDATE", "DELETE FROM"] {
            let sql = match sql {
                "UPDATE" => format!("UPDATE {table} SET id = id RETURNING 1"),
                _ => format!("DELETE FROM {table} RETURNING 1"),
            };
            let touched = i64::try_from(session.rows(&sql).len()).unwrap();
            assert_eq!(touched, own, "{sql}");
        }
        session.ok("ROLLBACK");
    }
    expect_error(&stage.nobody().error(&count), "42501", "tenant");
    let rows = stage.superuser().rows(&format!(
        "SELECT id, at FROM {table} WHERE tenant_id = '{A}' LIMIT 1"
    ));
    if let Some([Some(id), Some(at)]) = rows.first().map(Vec::as_slice) {
        let insert =
            format!("INSERT INTO {table} (id, tenant_id, at) VALUES ({id}, '{A}', '{at}')");
        expect_error(
            &stage.tenant(B).error(&insert),
            "42501",
            "row-level security",
        );
        let moving = format!("UPDATE {table} SET tenant_id = '{B}' WHERE tenant_id = '{A}'");
        expect_error(&stage.superuser().error(&moving), "23514", "another tenant");
    }
}

fn agreeing(stage: &Stage) -> i64 {
    stage
        .nobody()
        .int("SELECT count(*) FROM tenancy.protected_tables WHERE agrees AND mode = 'enforce'")
}

fn agrees(stage: &Stage, table: &str) -> bool {
    stage.superuser().int(&format!(
        "SELECT count(*) FROM tenancy.protected_tables WHERE agrees AND mode = 'enforce' AND relation = '{table}'::regclass"
    )) == 1
}

#[test]
fn every_way_to_divide_a_table_isolates_it_and_each_leaf() {
    for shape in shapes() {
        let stage = Stage::new();
        stage.owner().ok(&shape.sql);
        let before = stage.dump();
        stage.protect("app.events", "{}");
        fill(&stage, "app.events");
        assert_isolated(&stage, "app.events");
        for leaf in shape.leaves {
            assert_isolated(&stage, &format!("app.{leaf}"));
        }
        let tables = stage.superuser().int(
            "SELECT count(*) FROM pg_class c WHERE relkind IN ('r', 'p') AND relnamespace = 'app'::regnamespace",
        );
        assert_eq!(agreeing(&stage), tables, "{}", shape.name);
        stage
            .owner()
            .ok("SELECT tenancy.unprotect_table('app.events')");
        assert_eq!(stage.dump(), before, "{}", shape.name);
    }
}

#[test]
fn tables_that_are_made_divided_are_protected_as_they_are_made() {
    for shape in shapes() {
        let stage = Stage::new();
        stage.owner().ok(ON);
        stage.owner().ok(&shape.sql);
        fill(&stage, "app.events");
        assert_isolated(&stage, "app.events");
        for leaf in shape.leaves {
            assert_isolated(&stage, &format!("app.{leaf}"));
        }
        let open = stage.superuser().rows(
            "SELECT c.relname, p.drift FROM pg_class c LEFT JOIN tenancy.protected_tables p ON p.relation = c.oid
             WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'app'::regnamespace AND p.agrees IS DISTINCT FROM true",
        );
        assert!(open.is_empty(), "{}: {open:?}", shape.name);
        // All of it goes with the parent.
        stage
            .owner()
            .ok("SELECT tenancy.unprotect_table('app.events')");
        let left = "SELECT table_name FROM tenancy.protection WHERE (made->>'by_parent')::bool";
        assert_eq!(stage.superuser().rows(left).len(), 0, "{}", shape.name);
    }
}

/// A table of dates, protected, with one partition.
fn events() -> Stage {
    let stage = Stage::new();
    stage.owner().ok(&format!(
        "CREATE TABLE app.events {SHAPE} PARTITION BY RANGE (at);
         CREATE TABLE app.old PARTITION OF app.events FOR VALUES FROM ('2020-01-01') TO ('2026-01-01')"
    ));
    stage.protect("app.events", "{}");
    stage
}

const ATTACH: &str = "ALTER TABLE app.events ATTACH PARTITION app.late FOR VALUES FROM ('2026-01-01') TO ('2028-01-01')";

#[test]
fn an_attached_table_is_protected_with_all_below_it() {
    let stage = events();
    stage.owner().ok(ON);
    // Made where nothing is protected, as a loader would.
    stage.superuser().ok(&format!(
        "CREATE SCHEMA load AUTHORIZATION {0}; GRANT USAGE ON SCHEMA load TO {1}; SET ROLE {0};
         CREATE TABLE load.late {SHAPE} PARTITION BY HASH (id);
         CREATE TABLE load.late_0 PARTITION OF load.late FOR VALUES WITH (MODULUS 1, REMAINDER 0);
         GRANT ALL ON load.late, load.late_0 TO {1}",
        stage.owner, stage.app
    ));
    stage.owner().ok(&ATTACH.replace("app.late", "load.late"));
    fill(&stage, "app.events");
    for table in ["app.events", "load.late", "load.late_0"] {
        assert_isolated(&stage, table);
        assert!(agrees(&stage, table), "{table}");
    }
}

#[test]
fn a_table_that_was_protected_by_itself_can_be_attached() {
    let stage = events();
    stage.owner().ok(ON);
    stage.owner().ok(&format!("CREATE TABLE app.late {SHAPE}"));
    fill(&stage, "app.late");
    stage
        .owner()
        .ok("BEGIN; ALTER TABLE app.late NO FORCE ROW LEVEL SECURITY");
    stage.superuser().ok(ATTACH);
    for table in ["app.events", "app.late"] {
        assert_isolated(&stage, table);
        assert!(agrees(&stage, table), "{table}");
    }
}

#[test]
fn a_partition_without_protection_is_refused_when_strict() {
    let stage = events();
    stage
        .owner()
        .ok("SELECT tenancy.auto_protect('app', mode => 'enforce', strict => true, exclude => '{late}')");
    // A policy of the user's own that would wake: the partition cannot be protected as it is.
    stage.owner().ok(&format!(
        "CREATE TABLE app.late {SHAPE}; CREATE POLICY asleep ON app.late USING (true)"
    ));
    let error = stage.owner().error(ATTACH);
    expect_error(&error, "55000", "dormant");
    expect_error(&error, "55000", "strict");
    let attached = "SELECT relispartition FROM pg_class WHERE oid = 'app.late'::regclass";
    assert_eq!(stage.superuser().text(attached).as_deref(), Some("f"));
    stage.owner().ok("DROP POLICY asleep ON app.late");
    stage.owner().ok(ATTACH);
    fill(&stage, "app.events");
    assert_isolated(&stage, "app.late");
}

/// Its parent takes it along no more, so that a switch of all has to find it by itself.
#[test]
fn a_detached_partition_is_switched_with_all() {
    let stage = Stage::new();
    stage.owner().ok(&format!(
        "CREATE TABLE app.events {SHAPE} PARTITION BY RANGE (at);
         CREATE TABLE app.late PARTITION OF app.events FOR VALUES FROM ('2026-01-01') TO ('2028-01-01');
         SELECT tenancy.protect_table('app.events', mode => 'permissive');
         ALTER TABLE app.events DETACH PARTITION app.late"
    ));
    let told = stage
        .owner()
        .texts("SELECT relation::text FROM tenancy.set_mode('enforce') ORDER BY 1");
    assert_eq!(told, ["app.events", "app.late"]);
    fill(&stage, "app.late");
    assert_isolated(&stage, "app.late");
}

/// A partition is filled first, in the mode that the schema has for what is new, and attached then.
#[test]
fn a_table_registered_in_another_mode_is_attached_as_its_parent_is() {
    let stage = events();
    stage.owner().ok(&format!(
        "SELECT tenancy.auto_protect('app', mode => 'permissive'); CREATE TABLE app.late {SHAPE}"
    ));
    fill(&stage, "app.late");
    assert_eq!(stage.nobody().int("SELECT count(*) FROM app.late"), 3);
    stage.owner().ok(ATTACH);
    assert_isolated(&stage, "app.late");
    assert!(agrees(&stage, "app.late") && agrees(&stage, "app.events"));
}

#[test]
fn a_detached_partition_stands_for_itself() {
    for (auto, detach) in [
        (true, "ALTER TABLE app.events DETACH PARTITION app.late"),
        (
            true,
            "ALTER TABLE app.events DETACH PARTITION app.late CONCURRENTLY",
        ),
        (false, "ALTER TABLE app.events DETACH PARTITION app.late"),
    ] {
        let stage = events();
        if auto {
            stage.owner().ok(ON);
        }
        stage.owner().ok(
            "CREATE TABLE app.late PARTITION OF app.events FOR VALUES FROM ('2026-01-01') TO ('2028-01-01')",
        );
        stage.protect("app.events", "{}");
        fill(&stage, "app.events");
        stage.owner().ok(detach);
        if !auto {
            assert_eq!(
                stage.tenant(B).int("SELECT count(*) FROM app.late"),
                1,
                "isolated meanwhile"
            );
            stage.protect("app.late", "{}");
        }
        assert_isolated(&stage, "app.late");
        assert!(agrees(&stage, "app.late"), "{detach}");
        // The parent's end is not the partition's.
        stage
            .owner()
            .ok("SELECT tenancy.unprotect_table('app.events')");
        assert_isolated(&stage, "app.late");
        stage.owner().ok("SELECT tenancy.set_mode('permissive')");
        assert_eq!(
            stage.nobody().int("SELECT count(*) FROM app.late"),
            3,
            "{detach}"
        );
        stage
            .owner()
            .ok("SELECT tenancy.set_mode('enforce'); SELECT tenancy.unprotect_table('app.late')");
        let left = "SELECT count(*) FROM pg_policy";
        assert_eq!(stage.superuser().int(left), 0, "{detach}");
    }
}

#[test]
fn an_inheritance_child_comes_and_goes_the_same_way() {
    let stage = Stage::new();
    stage.owner().ok(ON);
    stage.owner().ok(&format!(
        "CREATE TABLE app.base {SHAPE}; CREATE TABLE app.born (extra text) INHERITS (app.base)"
    ));
    stage.superuser().ok(&format!(
        "CREATE SCHEMA load AUTHORIZATION {0}; GRANT USAGE ON SCHEMA load TO {1}; SET ROLE {0};
         CREATE TABLE load.joined {SHAPE}; GRANT ALL ON load.joined TO {1};
         ALTER TABLE load.joined INHERIT app.base",
        stage.owner, stage.app
    ));
    for table in ["app.born", "load.joined"] {
        fill(&stage, table);
        assert_isolated(&stage, table);
        assert!(agrees(&stage, table), "{table}");
    }
    stage.owner().ok(
        "ALTER TABLE load.joined NO INHERIT app.base; SELECT tenancy.unprotect_table('app.base')",
    );
    assert_isolated(&stage, "load.joined");
    assert_eq!(stage.nobody().int("SELECT count(*) FROM app.born"), 3);
}

#[test]
fn a_partition_that_the_applications_role_makes_is_protected() {
    let stage = events();
    stage.owner().ok(ON);
    stage.superuser().ok(&format!(
        "GRANT {} TO {}; GRANT CREATE ON SCHEMA app TO {1}",
        stage.owner, stage.app
    ));
    // Its own, so that it owns it.
    stage.tenant(A).ok(
        "CREATE TABLE app.late PARTITION OF app.events FOR VALUES FROM ('2026-01-01') TO ('2028-01-01')",
    );
    let owner = "SELECT relowner::regrole::text FROM pg_class WHERE oid = 'app.late'::regclass";
    assert_eq!(
        stage.superuser().text(owner).as_deref(),
        Some(stage.app.as_str())
    );
    fill(&stage, "app.events");
    assert_isolated(&stage, "app.late");
    assert!(agrees(&stage, "app.late"));
}

#[test]
fn partitions_are_pruned_by_the_context() {
    let stage = Stage::new();
    stage.owner().ok(&format!(
        "CREATE TABLE app.events {SHAPE} PARTITION BY LIST (tenant_id);
         CREATE TABLE app.of_a PARTITION OF app.events FOR VALUES IN ('{A}');
         CREATE TABLE app.of_b PARTITION OF app.events FOR VALUES IN ('{B}');
         CREATE TABLE app.of_others PARTITION OF app.events DEFAULT;
         CREATE TABLE app.hashed {SHAPE} PARTITION BY HASH (tenant_id);
         DO $$ BEGIN FOR i IN 0..7 LOOP
            EXECUTE format('CREATE TABLE app.hashed_%s PARTITION OF app.hashed FOR VALUES WITH (MODULUS 8, REMAINDER %s)', i, i);
         END LOOP; END $$"
    ));
    for table in ["app.events", "app.hashed"] {
        stage.protect(table, "{}");
        fill(&stage, table);
    }
    let mut b = stage.tenant(B);
    let plan = plan_of(&mut b, "SELECT * FROM app.events");
    assert!(plan.contains("Subplans Removed: 2"), "{plan}");
    assert!(plan.contains("of_b") && !plan.contains("of_a"), "{plan}");
    let plan = plan_of(&mut b, "SELECT * FROM app.hashed");
    assert!(plan.contains("Subplans Removed: 7"), "{plan}");
    let plan = plan_of(&mut b, "UPDATE app.hashed SET id = id");
    assert!(plan.contains("Subplans Removed: 7"), "{plan}");
    // A generic plan prunes by who asks when it runs.
    b.ok("SET plan_cache_mode = force_generic_plan; PREPARE q AS SELECT count(*) FROM app.events");
    assert_eq!(b.int("EXECUTE q"), 1);
    b.ok(&format!("BEGIN; SET LOCAL app.current_tenant_id = '{A}'"));
    let plan = plan_of(&mut b, "EXECUTE q");
    b.ok("ROLLBACK");
    assert!(plan.contains("of_a") && !plan.contains("of_b"), "{plan}");
    // Joined partition by partition: which plan that is, is the planner's choice.
    b.ok("SET enable_partitionwise_join = on; SET enable_partitionwise_aggregate = on");
    let sql = "SELECT count(*) FROM app.hashed h JOIN app.hashed g USING (tenant_id)";
    assert_eq!(b.int(sql), 1);
}
