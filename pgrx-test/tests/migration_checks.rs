//! What is said before and after a migration. The owner of the tables asks, an ordinary role.

mod policy_support;

use pgrx_test::fixture::{ClientExt, expect_error};
use policy_support::Stage;
use postgres::Client;

/// `status detail` of one check.
fn said(session: &mut Client, call: &str, check: &str) -> String {
    session
        .text(&format!(
            "SELECT string_agg(status || ' ' || detail, ' | ') FROM tenancy.{call} WHERE \"check\" = '{check}'"
        ))
        .unwrap_or_else(|| panic!("{call} says nothing of {check}"))
}

fn statuses(session: &mut Client, call: &str) -> Vec<String> {
    session
        .texts(&format!(
            "SELECT \"check\" || ': ' || status || ' ' || detail FROM tenancy.{call} WHERE status <> 'ok' ORDER BY 1"
        ))
}

const PRE: &str = "pre_migration_check()";
const POST: &str = "post_migration_check()";

fn protected() -> Stage {
    let stage = Stage::new();
    stage.items();
    stage.protect("app.items", "{}");
    stage
}

#[test]
fn nothing_is_wrong_where_all_is_as_it_should_be() {
    let stage = protected();
    let mut owner = stage.owner();
    assert_eq!(statuses(&mut owner, PRE), Vec::<String>::new());
    assert_eq!(statuses(&mut owner, POST), Vec::<String>::new());
    // Reading only: no transaction id, and a read-only transaction will do.
    owner.ok("BEGIN READ ONLY");
    assert!(said(&mut owner, PRE, "protection").starts_with("ok"));
    assert!(said(&mut owner, POST, "protection").starts_with("ok"));
    assert_eq!(
        owner.text("SELECT pg_current_xact_id_if_assigned()::text"),
        None
    );
}

#[test]
fn rows_are_estimated_or_counted_past_row_security() {
    let stage = protected();
    let mut owner = stage.owner();
    owner.ok("ANALYZE app.items");
    assert_eq!(said(&mut owner, PRE, "rows of app.items"), "ok about 3");
    stage
        .superuser()
        .ok("INSERT INTO app.items SELECT n, md5('x')::uuid FROM generate_series(10, 19) AS n");
    assert_eq!(said(&mut owner, PRE, "rows of app.items"), "ok about 3");
    assert_eq!(
        said(&mut owner, "pre_migration_check(true)", "rows of app.items"),
        "ok 13"
    );
    // Who does not administer the table is told no number of it.
    let told = said(
        &mut stage.nobody(),
        "pre_migration_check(true)",
        "rows of app.items",
    );
    assert!(
        told.starts_with("warn about 3; could not be counted: must be owner"),
        "{told}"
    );
}

#[test]
fn locks_and_long_transactions_of_others_are_named() {
    let stage = protected();
    let mut owner = stage.owner();
    let mut other = stage.owner();
    other.ok("BEGIN");
    other.ok("LOCK app.items IN SHARE ROW EXCLUSIVE MODE");
    let process = other.int("SELECT pg_backend_pid()");
    assert_eq!(
        said(&mut owner, PRE, "locks on registered tables"),
        format!("error app.items: ShareRowExclusiveLock by process {process}")
    );
    assert!(said(&mut owner, PRE, "long transactions").starts_with("ok"));
    let long = "pre_migration_check(long_transaction => '0')";
    assert!(
        said(&mut owner, long, "long transactions").starts_with(&format!("warn process {process}"))
    );
    assert!(said(&mut owner, PRE, "active sessions").contains("1 besides"));
    // A role that may not see them says so.
    assert!(
        said(&mut stage.nobody(), long, "long transactions").contains("cannot be seen"),
        "{}",
        said(&mut stage.nobody(), long, "long transactions")
    );
    other.ok("ROLLBACK");
    other.ok("BEGIN");
    other.ok("LOCK app.items IN ROW EXCLUSIVE MODE");
    assert!(said(&mut owner, PRE, "locks on registered tables").starts_with("ok"));
}

#[test]
fn prepared_transactions_are_named_with_their_locks() {
    let stage = protected();
    let mut owner = stage.owner();
    let name = format!("left {}", stage.database.name);
    let mut other = stage.owner();
    other.ok(&format!(
        "BEGIN; LOCK app.items IN EXCLUSIVE MODE; PREPARE TRANSACTION '{name}'"
    ));
    drop(other);
    let told = said(&mut owner, PRE, "prepared transactions");
    assert!(
        told.starts_with(&format!("warn {name} of {}, since ", stage.owner)),
        "{told}"
    );
    assert_eq!(
        said(&mut owner, PRE, "locks on registered tables"),
        "error app.items: ExclusiveLock by a prepared transaction"
    );
    owner.ok(&format!("ROLLBACK PREPARED '{name}'"));
    assert_eq!(said(&mut owner, PRE, "prepared transactions"), "ok none");
    assert!(said(&mut owner, PRE, "locks on registered tables").starts_with("ok"));
}

#[test]
fn more_than_a_hundred_busy_sessions_are_a_warning() {
    let stage = protected();
    let mut owner = stage.owner();
    let mut others: Vec<_> = (0..100)
        .map(|_| {
            let mut other = stage.owner();
            other.ok("BEGIN");
            other
        })
        .collect();
    assert_eq!(
        said(&mut owner, PRE, "active sessions"),
        "ok 100 besides this one"
    );
    let mut last = stage.owner();
    last.ok("BEGIN");
    others.push(last);
    assert_eq!(
        said(&mut owner, PRE, "active sessions"),
        "warn 101 besides this one"
    );
}

#[test]
fn what_a_migration_left_behind_is_named() {
    let stage = protected();
    let mut owner = stage.owner();
    let mut superuser = stage.superuser();
    superuser.ok("SELECT tenancy.expect_column('app', 'items', 'note', 'text', false)");
    owner.ok("ALTER TABLE app.items DISABLE TRIGGER ALL");
    let disabled = said(&mut owner, POST, "triggers");
    assert!(disabled.starts_with("error") && disabled.contains("app.items is disabled"));
    assert_eq!(disabled, said(&mut owner, PRE, "triggers"));
    owner.ok("ALTER TABLE app.items ENABLE TRIGGER ALL");
    owner.ok("DROP POLICY items_tenant_isolation_select ON app.items");
    for call in [PRE, POST] {
        let drift = said(&mut owner, call, "protection");
        assert!(
            drift.starts_with("error") && drift.contains("items_tenant_isolation_select"),
            "{drift}"
        );
    }
    assert_eq!(
        said(&mut owner, POST, "expected columns"),
        "error app.items.note NULLABLE_MISMATCH"
    );
    owner.ok("CREATE TABLE app.late (id int PRIMARY KEY, tenant_id uuid NOT NULL)");
    assert_eq!(
        said(&mut owner, POST, "unprotected tables"),
        "warn app.late"
    );
    owner.ok("CREATE TABLE app.child (tenant_id uuid, item int);
         ALTER TABLE app.child ADD CONSTRAINT later FOREIGN KEY (item) REFERENCES app.items NOT VALID");
    assert_eq!(
        said(&mut owner, POST, "constraints"),
        "warn later of app.child is not validated"
    );
    // As CREATE INDEX CONCURRENTLY leaves one that failed.
    owner.ok("CREATE INDEX broken ON app.late (tenant_id)");
    superuser
        .ok("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'app.broken'::regclass");
    for call in [PRE, POST] {
        assert_eq!(
            said(&mut owner, call, "indexes"),
            "warn app.broken of app.late is invalid"
        );
    }
    superuser.ok("ALTER TABLE app.items DROP COLUMN tenant_id CASCADE");
    assert_eq!(
        said(&mut owner, POST, "tenant columns"),
        "error app.items has no column tenant_id"
    );
}

/// A check that fails is a row of its level, and the others go on.
#[test]
fn a_check_that_fails_is_a_row() {
    let stage = protected();
    stage
        .superuser()
        .ok("REVOKE SELECT ON tenancy.bound_relations FROM PUBLIC");
    let mut owner = stage.owner();
    let told = said(&mut owner, POST, "triggers");
    assert!(told.starts_with("error could not be checked"), "{told}");
    assert!(said(&mut owner, POST, "expected columns").starts_with("ok"));
}

#[test]
fn bad_input_is_refused() {
    let stage = protected();
    let mut owner = stage.owner();
    for (call, argument) in [
        ("pre_migration_check(NULL)", "exact"),
        ("pre_migration_check(false, NULL)", "long_transaction"),
    ] {
        expect_error(
            &owner.error(&format!("SELECT * FROM tenancy.{call}")),
            "22004",
            argument,
        );
    }
}
