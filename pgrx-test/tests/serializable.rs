//! Serializable transactions: what the extension reads for itself takes no part in them.

mod policy_support;

use pgrx_test::fixture::ClientExt;
use policy_support::{A, Stage};

/// Predicate locks of this session on tables of a schema.
fn locks(schema: &str) -> String {
    format!(
        "SELECT count(*) FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
         WHERE l.pid = pg_backend_pid() AND l.mode = 'SIReadLock'
           AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = '{schema}')"
    )
}

#[test]
fn reading_the_registry_leaves_no_predicate_locks() {
    let stage = Stage::new();
    stage.items();
    for mode in ["shadow", "enforce"] {
        stage.owner().ok(&format!(
            "SELECT tenancy.protect_table('app.items', mode => '{mode}')"
        ));
        // A new session reads the registry with its first statement, which is in the transaction.
        let mut app = stage.tenant(A);
        app.ok("BEGIN ISOLATION LEVEL SERIALIZABLE");
        app.ok("SELECT id FROM app.items");
        assert!(app.int(&locks("app")) > 0, "{mode}: the table's own");
        assert_eq!(app.int(&locks("tenancy")), 0, "{mode}");
        app.ok("COMMIT");
    }
}
