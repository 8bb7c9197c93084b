//! Foreign keys between protected tables carry the tenant.

mod policy_support;

use pgrx_test::fixture::{ClientExt, expect_error};
use policy_support::{A, B, Stage, protect};

const TABLES: &str = "CREATE TABLE app.connectors (id int PRIMARY KEY, tenant_id uuid NOT NULL);
     CREATE TABLE app.snapshots (id int PRIMARY KEY, tenant_id uuid NOT NULL,
         connector_id int REFERENCES app.connectors ON DELETE SET NULL)";

fn rows() -> String {
    format!(
        "INSERT INTO app.connectors VALUES (1, '{A}'), (2, '{B}');
         INSERT INTO app.snapshots VALUES (1, '{A}', 1), (2, '{B}', 2), (3, '{B}', NULL)"
    )
}

fn keys(stage: &Stage) -> Vec<String> {
    stage
        .superuser()
        .texts(
            "SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
             WHERE contype = 'f' AND conparentid = 0 AND connamespace = 'app'::regnamespace ORDER BY conname",
        )
}

#[test]
fn a_row_cannot_link_to_another_tenants() {
    for option in ["add", "replace"] {
        let stage = Stage::new();
        stage.owner().ok(&format!("{TABLES}; {}", rows()));
        let options = format!(r#"{{"foreign_keys": "{option}"}}"#);
        stage.protect("app.connectors", &options);
        stage.protect("app.snapshots", &options);
        let mut b = stage.tenant(B);
        for sql in [
            format!("INSERT INTO app.snapshots VALUES (9, '{B}', 1)"),
            "UPDATE app.snapshots SET connector_id = 1 WHERE id = 2".to_owned(),
        ] {
            expect_error(
                &b.error(&sql),
                "23503",
                "snapshots_connector_id_fkey_tenant",
            );
        }
        b.ok("DELETE FROM app.connectors WHERE id = 2");
        let sql = "SELECT count(*) FROM app.snapshots WHERE id = 2 AND connector_id IS NULL AND tenant_id IS NOT NULL";
        assert_eq!(b.int(sql), 1, "{option}: only the link is nulled");
        let expected = if option == "add" { 2 } else { 1 };
        assert_eq!(keys(&stage).len(), expected, "{option}");
    }
}

#[test]
fn a_plain_key_lets_it_and_is_reported() {
    let stage = Stage::new();
    stage.owner().ok(&format!("{TABLES}; {}", rows()));
    stage.protect("app.connectors", "{}");
    let result = stage.protect("app.snapshots", "{}");
    assert!(
        result.contains("snapshots_connector_id_fkey") && result.contains("foreign_keys"),
        "{result}"
    );
    stage
        .tenant(B)
        .ok(&format!("INSERT INTO app.snapshots VALUES (9, '{B}', 1)"));
}

#[test]
fn rows_that_cross_are_counted_even_under_forced_row_security() {
    let stage = Stage::new();
    stage.owner().ok(&format!("{TABLES}; {}", rows()));
    stage.protect("app.connectors", "{}");
    stage.protect("app.snapshots", "{}");
    stage
        .tenant(B)
        .ok(&format!("INSERT INTO app.snapshots VALUES (9, '{B}', 1)"));
    let before = stage.dump();
    let error = stage.owner().error(
        r#"SELECT tenancy.protect_table('app.snapshots', mode => 'enforce', options => '{"foreign_keys": "add"}')"#,
    );
    expect_error(&error, "23503", "1 rows");
    assert_eq!(stage.dump(), before);
    let hint = error.hint().expect("the query that shows them").to_owned();
    let query = hint.split_once(": ").unwrap().1;
    assert_eq!(stage.superuser().rows(query).len(), 1, "{query}");
    stage
        .superuser()
        .ok("DELETE FROM app.snapshots WHERE id = 9");
    stage.protect("app.snapshots", r#"{"foreign_keys": "add"}"#);
    assert_eq!(keys(&stage).len(), 2);
    let forced = "SELECT count(*) FROM pg_class WHERE relforcerowsecurity AND relnamespace = 'app'::regnamespace";
    assert_eq!(
        stage.superuser().int(forced),
        2,
        "forced again after validating"
    );
}

#[test]
fn whichever_call_comes_second_completes_the_keys() {
    for order in [
        ["app.connectors", "app.snapshots"],
        ["app.snapshots", "app.connectors"],
    ] {
        let stage = Stage::new();
        stage.owner().ok(&format!("{TABLES}; {}", rows()));
        let before = stage.dump();
        for table in order {
            stage.protect(table, r#"{"foreign_keys": "replace"}"#);
        }
        assert_eq!(
            keys(&stage),
            [
                "snapshots_connector_id_fkey_tenant FOREIGN KEY (tenant_id, connector_id) REFERENCES app.connectors(tenant_id, id) ON DELETE SET NULL (connector_id)"
            ]
        );
        for table in order {
            let result = protect(&mut stage.owner(), table, r#"{"foreign_keys": "replace"}"#);
            assert_eq!(result, "enforced (unchanged)");
        }
        for table in order {
            stage
                .owner()
                .ok(&format!("SELECT tenancy.unprotect_table('{table}')"));
        }
        assert_eq!(stage.dump(), before);
    }
}

#[test]
fn every_part_of_a_key_is_preserved() {
    let stage = Stage::new();
    stage.owner().ok(
        "CREATE TABLE app.p (a int, b int, tenant_id uuid NOT NULL, PRIMARY KEY (a, b), UNIQUE (b));
         CREATE TABLE app.c (id int PRIMARY KEY, tenant_id uuid NOT NULL, a int DEFAULT 1, b int, up int,
           CONSTRAINT k1 FOREIGN KEY (a, b) REFERENCES app.p ON UPDATE CASCADE ON DELETE SET NULL (b) DEFERRABLE INITIALLY DEFERRED,
           CONSTRAINT k2 FOREIGN KEY (b) REFERENCES app.p (b) MATCH FULL ON DELETE RESTRICT,
           CONSTRAINT k3 FOREIGN KEY (a, b) REFERENCES app.p MATCH FULL ON DELETE CASCADE,
           CONSTRAINT k4 FOREIGN KEY (b) REFERENCES app.p (b) ON UPDATE SET NULL,
           CONSTRAINT k5 FOREIGN KEY (up) REFERENCES app.c ON DELETE SET DEFAULT NOT VALID,
           CONSTRAINT k6 FOREIGN KEY (tenant_id, a, b) REFERENCES app.p (tenant_id, a, b));"
            .replace("UNIQUE (b));", "UNIQUE (b), UNIQUE (tenant_id, a, b));")
            .replace(",\n           CONSTRAINT k5 FOREIGN KEY (up) REFERENCES app.c ON DELETE SET DEFAULT NOT VALID", "")
            .as_str(),
    );
    stage.owner().ok(
        "ALTER TABLE app.c DROP CONSTRAINT k6;
         ALTER TABLE app.c ADD CONSTRAINT k5 FOREIGN KEY (up) REFERENCES app.c ON DELETE SET DEFAULT NOT VALID",
    );
    let before = stage.dump();
    stage.protect("app.p", r#"{"foreign_keys": "replace"}"#);
    stage.protect("app.c", r#"{"foreign_keys": "replace"}"#);
    assert_eq!(
        keys(&stage),
        [
            "k1_tenant FOREIGN KEY (tenant_id, a, b) REFERENCES app.p(tenant_id, a, b) ON UPDATE CASCADE ON DELETE SET NULL (b) DEFERRABLE INITIALLY DEFERRED",
            "k2_tenant FOREIGN KEY (tenant_id, b) REFERENCES app.p(tenant_id, b) ON DELETE RESTRICT",
            "k3 FOREIGN KEY (a, b) REFERENCES app.p(a, b) MATCH FULL ON DELETE CASCADE",
            "k3_tenant FOREIGN KEY (tenant_id, a, b) REFERENCES app.p(tenant_id, a, b) ON DELETE CASCADE",
            "k4 FOREIGN KEY (b) REFERENCES app.p(b) ON UPDATE SET NULL",
            "k4_tenant FOREIGN KEY (tenant_id, b) REFERENCES app.p(tenant_id, b)",
            "k5_tenant FOREIGN KEY (tenant_id, up) REFERENCES app.c(tenant_id, id) ON DELETE SET DEFAULT (up) NOT VALID",
        ]
    );
    for table in ["app.c", "app.p"] {
        stage
            .owner()
            .ok(&format!("SELECT tenancy.unprotect_table('{table}')"));
    }
    assert_eq!(stage.dump(), before);
}

#[test]
fn a_key_that_carries_the_tenant_already_is_left_alone() {
    let stage = Stage::new();
    stage.owner().ok(
        "CREATE TABLE app.p (id int, tenant_id uuid NOT NULL, PRIMARY KEY (tenant_id, id));
         CREATE TABLE app.c (id int PRIMARY KEY, tenant_id uuid NOT NULL, p int, FOREIGN KEY (tenant_id, p) REFERENCES app.p)",
    );
    let before = keys(&stage);
    for table in ["app.p", "app.c"] {
        assert_eq!(
            stage.protect(table, r#"{"foreign_keys": "replace"}"#),
            "enforced"
        );
    }
    assert_eq!(keys(&stage), before);
}

#[test]
fn parents_that_are_partitioned_otherwise_are_reported() {
    let stage = Stage::new();
    stage.owner().ok(
        "CREATE TABLE app.p (id int, day date, tenant_id uuid, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
         CREATE TABLE app.q (id int PRIMARY KEY, tenant_id uuid) PARTITION BY HASH (id);
         CREATE TABLE app.q0 PARTITION OF app.q FOR VALUES WITH (MODULUS 1, REMAINDER 0);
         CREATE TABLE app.c (id int, tenant_id uuid, p int, d date, q int REFERENCES app.q, FOREIGN KEY (p, d) REFERENCES app.p)
             PARTITION BY HASH (id);
         CREATE TABLE app.c0 PARTITION OF app.c FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
    );
    let before = stage.dump();
    for table in ["app.p", "app.q", "app.c"] {
        stage.protect(table, r#"{"foreign_keys": "replace"}"#);
    }
    assert_eq!(keys(&stage).len(), 2);
    assert!(
        keys(&stage).iter().all(|key| key.contains("(tenant_id, ")),
        "{:?}",
        keys(&stage)
    );
    for table in ["app.q", "app.c", "app.p"] {
        stage
            .owner()
            .ok(&format!("SELECT tenancy.unprotect_table('{table}')"));
    }
    assert_eq!(stage.dump(), before);
}

#[test]
fn another_owners_parent_is_not_touched_without_the_right() {
    let stage = Stage::new();
    let other = stage.database.role("other");
    stage.owner().ok(TABLES);
    stage.protect("app.connectors", r#"{"foreign_keys": "add"}"#);
    stage.superuser().ok(&format!(
        "ALTER TABLE app.snapshots OWNER TO {other}; GRANT USAGE, CREATE ON SCHEMA app TO {other}; GRANT REFERENCES ON app.connectors TO {other}"
    ));
    let error = stage
        .database
        .connect(&other)
        .error("SELECT tenancy.protect_table('app.snapshots', mode => 'enforce')");
    expect_error(&error, "42501", "connectors");
    assert_eq!(
        protect(&mut stage.superuser(), "app.snapshots", "{}"),
        "enforced"
    );
    assert_eq!(keys(&stage).len(), 2);
}

/// The tables of [`TABLES`], the second one of another owner, who may refer to the first.
fn two_owners(stage: &Stage) -> String {
    let other = stage.database.role("other");
    stage.owner().ok(&format!("{TABLES}; {}", rows()));
    stage.superuser().ok(&format!(
        "ALTER TABLE app.snapshots OWNER TO {other}; GRANT USAGE, CREATE ON SCHEMA app TO {other};
         REVOKE ALL ON app.connectors FROM PUBLIC; GRANT REFERENCES ON app.connectors TO {other};
         GRANT SELECT, INSERT ON app.snapshots TO {}",
        stage.app
    ));
    other
}

#[test]
fn rows_that_cross_between_owners_are_counted_with_the_rights_of_both() {
    let stage = Stage::new();
    two_owners(&stage);
    let mut superuser = stage.superuser();
    // No rights beyond administering: neither owner may read the other's table, nor may this role.
    let admin = stage.database.role("admin");
    superuser.ok(&format!(
        "ALTER DATABASE {} SET pg_tenancy.admin_role = '{admin}'; GRANT USAGE ON SCHEMA app TO {admin}",
        stage.database.name
    ));
    for table in ["app.connectors", "app.snapshots"] {
        protect(&mut superuser, table, "{}");
    }
    let mut b = stage.tenant(B);
    b.ok(&format!(
        "INSERT INTO app.snapshots VALUES (8, '{B}', 1), (9, '{B}', 1), (10, '{B}', NULL)"
    ));
    let before = stage.dump();
    let oid = superuser.int("SELECT 'app.snapshots'::regclass::oid::bigint");
    let call = format!(
        r#"SELECT tenancy.protect_table({oid}::oid::regclass, mode => 'enforce', options => '{{"foreign_keys": "add"}}')"#
    );
    let mut session = stage.database.connect(&admin);
    let error = session.error(&call);
    expect_error(&error, "23503", "2 rows");
    assert_eq!(stage.dump(), before, "nothing half-done");
    let hint = error.hint().expect("the query that shows them").to_owned();
    let query = hint.split_once(": ").unwrap().1;
    assert_eq!(superuser.rows(query).len(), 2, "{query}");
    superuser.ok("DELETE FROM app.snapshots WHERE id IN (8, 9)");
    session.ok(&call);
    assert_eq!(keys(&stage).len(), 2);
    expect_error(
        &b.error(&format!("INSERT INTO app.snapshots VALUES (8, '{B}', 1)")),
        "23503",
        "snapshots_connector_id_fkey_tenant",
    );
}

#[test]
fn an_owner_learns_of_anothers_table_only_what_postgres_tells() {
    let stage = Stage::new();
    let other = two_owners(&stage);
    stage
        .owner()
        .ok("ALTER TABLE app.connectors ADD UNIQUE (tenant_id, id)");
    let options = r#"{"force": false}"#;
    stage.protect("app.connectors", options);
    let mut session = stage.database.connect(&other);
    protect(&mut session, "app.snapshots", options);
    stage.superuser().ok(&format!(
        "INSERT INTO app.snapshots VALUES (8, '{B}', 1), (9, '{B}', 1)"
    ));
    let call = r#"SELECT tenancy.protect_table('app.snapshots', mode => 'enforce', options => '{"force": false, "foreign_keys": "add"}')"#;
    let error = session.error(call);
    expect_error(&error, "23503", "violates foreign key constraint");
    stage
        .superuser()
        .ok("DELETE FROM app.snapshots WHERE id IN (8, 9)");
    session.ok(call);
    assert_eq!(keys(&stage).len(), 2);
}

#[test]
fn a_unique_key_of_ours_does_not_stand_for_the_leading_index() {
    let stage = Stage::new();
    stage.owner().ok(&format!("{TABLES}; {}", rows()));
    let options = r#"{"foreign_keys": "add"}"#;
    for table in ["app.connectors", "app.snapshots"] {
        stage.protect(table, options);
    }
    let leading = "SELECT string_agg(c.relname, ' ' ORDER BY c.relname) FROM pg_index i
         JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
         WHERE i.indrelid = 'app.connectors'::regclass AND a.attname = 'tenant_id'";
    let both = "connectors_id_tenant_key connectors_tenant_idx";
    assert_eq!(stage.superuser().text(leading).as_deref(), Some(both));
    stage.owner().ok("DROP INDEX app.connectors_tenant_idx");
    assert_eq!(stage.protect("app.connectors", options), "enforced");
    assert_eq!(
        stage.superuser().text(leading).as_deref(),
        Some(both),
        "the unique key goes with the key that it was made for"
    );
    stage
        .owner()
        .ok("SELECT tenancy.unprotect_table('app.snapshots')");
    assert_eq!(
        stage.superuser().text(leading).as_deref(),
        Some("connectors_tenant_idx")
    );
}
