//! The report of shadow mode, and what it decides.

mod policy_support;

use pgrx_test::fixture::{ClientExt, expect_error};
use policy_support::{A, B, Stage};

const ITEMS: &str = "SELECT id FROM app.items";
const OWN: &str = "SELECT id FROM app.items WHERE tenant_id = current_tenant_id()";
const ENFORCE: &str = "SELECT tenancy.set_mode('app.items', 'enforce')";

fn shadowed() -> Stage {
    let stage = Stage::new();
    stage.items();
    stage
        .owner()
        .ok("SELECT tenancy.protect_table('app.items', mode => 'shadow')");
    stage
}

/// `mode statements exempt denials ready reasons` of the items.
fn report(stage: &Stage) -> String {
    stage
        .owner()
        .text(
            "SELECT concat_ws(' ', mode, statements, exempt_statements, denials, ready, array_to_string(reasons, '; '))
             FROM tenancy.shadow_report() WHERE relation = 'app.items'::regclass",
        )
        .expect("not null")
}

fn denials(stage: &Stage, columns: &str) -> Vec<String> {
    stage.owner().texts(&format!(
        "SELECT concat_ws(' ', {columns}) FROM tenancy.shadow_denials ORDER BY 1"
    ))
}

#[test]
fn a_table_is_enforced_when_nothing_would_break() {
    let stage = shadowed();
    assert_eq!(
        report(&stage),
        "shadow 0 0 0 f no statement was seen that enforcement would bind"
    );
    expect_error(
        &stage.owner().error(ENFORCE),
        "55000",
        "no statement was seen",
    );

    stage.tenant(B).ok(OWN);
    assert_eq!(report(&stage), "shadow 1 0 0 t ");
    stage.tenant(B).ok(ITEMS);
    assert_eq!(report(&stage), "shadow 2 0 2 f denials: 2");
    let error = stage.owner().error(ENFORCE);
    expect_error(&error, "55000", "denials: 2");
    assert!(error.hint().is_some_and(|hint| hint.contains("force")));
    // Not from within all tables at once either, where the others go on.
    let all = stage
        .owner()
        .rows("SELECT result FROM tenancy.set_mode('enforce')");
    assert!(
        all[0][0]
            .as_ref()
            .is_some_and(|text| text.starts_with("failed: ") && text.contains("not ready")),
        "{all:?}"
    );
    assert_eq!(stage.tenant(B).rows(ITEMS).len(), 3);

    // Mended, and watched again.
    stage.owner().ok("SELECT tenancy.reset_shadow('app.items')");
    assert_eq!(denials(&stage, "rows"), [""; 0]);
    stage.tenant(B).ok(OWN);
    assert_eq!(report(&stage), "shadow 1 0 0 t ");
    stage.owner().ok(ENFORCE);
    assert_eq!(stage.tenant(B).rows(ITEMS).len(), 1);
    assert_eq!(report(&stage), "enforce 1 0 0 t ");
    // Back is never refused.
    stage
        .owner()
        .ok("SELECT tenancy.set_mode('app.items', 'shadow')");
    assert_eq!(stage.tenant(B).rows(ITEMS).len(), 3);
}

/// A partition that is named has a report of its own, and one that was made since has none.
#[test]
fn what_is_below_a_table_is_asked_too() {
    let stage = Stage::new();
    let watch = "SELECT tenancy.protect_table('app.events', mode => 'shadow')";
    stage.owner().ok(&format!(
        "CREATE TABLE app.events (id int, tenant_id uuid NOT NULL) PARTITION BY RANGE (id);
         CREATE TABLE app.early PARTITION OF app.events FOR VALUES FROM (0) TO (10);
         INSERT INTO app.events VALUES (1, '{A}'), (2, '{B}');
         {watch};
         CREATE TABLE app.late PARTITION OF app.events FOR VALUES FROM (10) TO (20)"
    ));
    let refused = |what: &str, why: &str| {
        let enforce = "SELECT tenancy.set_mode('app.events', 'enforce')";
        let error = stage.owner().error(enforce);
        expect_error(&error, "55000", what);
        expect_error(&error, "55000", why);
    };
    let own = "SELECT id FROM app.events WHERE tenant_id = current_tenant_id()";
    stage.tenant(B).ok(own);
    refused("table app.late is not ready", "protect its parent again");
    stage.owner().ok(watch);
    stage.tenant(B).ok(own);
    stage.tenant(B).ok("SELECT id FROM app.early");
    refused("table app.early is not ready", "denials: 1");
    stage.owner().ok("SELECT tenancy.reset_shadow('app.early')");
    stage
        .owner()
        .ok("SELECT tenancy.set_mode('app.events', 'enforce')");
    let seen = stage.tenant(B).int("SELECT count(*) FROM app.early");
    assert_eq!(seen, 1);
}

#[test]
fn force_enforces_whatever_was_found() {
    let stage = shadowed();
    stage.tenant(B).ok(ITEMS);
    stage.owner().error(ENFORCE);
    stage
        .owner()
        .ok("SELECT tenancy.set_mode('app.items', 'enforce', force => true)");
    assert_eq!(stage.tenant(B).rows(ITEMS).len(), 1);
}

#[test]
fn each_thing_that_would_break_stands_against_it() {
    for (sql, role_has_context) in [
        (ITEMS, true),
        (OWN, false),
        (
            "INSERT INTO app.items VALUES (9, '00000000-0000-0000-0000-00000000000a')",
            true,
        ),
        ("UPDATE app.items SET note = 'x'", true),
        ("DELETE FROM app.items", true),
    ] {
        let stage = shadowed();
        let mut client = if role_has_context {
            stage.tenant(B)
        } else {
            stage.nobody()
        };
        client.ok(&format!("BEGIN; {sql}; ROLLBACK"));
        expect_error(&stage.owner().error(ENFORCE), "55000", "denials: ");
    }
}

#[test]
fn roles_that_policies_do_not_bind_are_counted_apart() {
    let stage = shadowed();
    stage.superuser().ok(ITEMS);
    assert_eq!(
        report(&stage),
        "shadow 0 1 0 f no statement was seen that enforcement would bind"
    );
}

#[test]
fn the_same_denial_is_one_line() {
    let stage = shadowed();
    let mut client = stage.tenant(B);
    client.ok("SET application_name = 'shop'");
    for id in 1..=5 {
        client.ok(&format!(
            "/* trace {id} */ SELECT id FROM app.items WHERE id IN ({id}, 1, 7) AND note <> 'secret {id}'"
        ));
    }
    assert_eq!(
        denials(
            &stage,
            "command, kind, role = current_user, right(context_tenant, 1), right(row_tenant, 1),
             query, application_name, \"precision\", rows, statements, query_id IS NULL, first_seen < last_seen"
        ),
        [
            "select hidden_row f b a SELECT id FROM app.items WHERE id IN ($1, ...) AND note <> $2 shop exact 6 5 t t"
        ]
    );
    // With an identifier of Postgres's, that is what tells statements apart.
    stage.superuser().ok("SELECT tenancy.reset_shadow()");
    stage.superuser().ok(&format!(
        "ALTER ROLE {} SET compute_query_id = on",
        stage.app
    ));
    let mut client = stage.tenant(B);
    client.ok("SELECT id FROM app.items WHERE id = 1; SELECT note FROM app.items WHERE id = 2");
    client.ok("SELECT id FROM app.items WHERE id = 2");
    assert_eq!(
        denials(&stage, "query, rows, query_id <> 0"),
        [
            "SELECT id FROM app.items WHERE id = $1 2 t",
            "SELECT note FROM app.items WHERE id = $1 1 t"
        ]
    );
}

#[test]
fn no_value_of_a_statement_is_kept() {
    let stage = shadowed();
    let mut client = stage.tenant(B);
    for literal in [
        "'hush'",
        "E'hu\\\\sh hush'",
        "$$hush$$",
        "$tag$hush$tag$",
        "U&'hush'",
        "'a'\n'hush'",
        "'hush''hush'",
        "('hush' || 'hush')",
    ] {
        client.ok(&format!(
            "SELECT id /* hush */ FROM app.items -- hush\n WHERE note IS DISTINCT FROM {literal} AND B'1' = B'1' AND 12345.5 > 12345"
        ));
    }
    client.ok(&format!(
        "SELECT 1 FROM app.items WHERE note <> '{}'",
        "hush ".repeat(300_000)
    ));
    let found = denials(&stage, "query");
    assert!(found.len() >= 2);
    for query in found {
        assert!(!query.contains("hu") && !query.contains("12345"), "{query}");
    }
}

#[test]
fn what_was_recorded_is_for_owners_and_administrators() {
    let stage = shadowed();
    stage.tenant(B).ok(ITEMS);
    let count = "SELECT count(*) FROM tenancy.shadow_denials";
    assert_eq!(stage.owner().int(count), 1);
    assert_eq!(stage.superuser().int(count), 1);
    assert_eq!(stage.tenant(B).int(count), 0);
    assert_eq!(
        stage
            .nobody()
            .int("SELECT count(*) FROM tenancy.shadow_recorded(false)"),
        0
    );
    for sql in [
        "SELECT tenancy.reset_shadow('app.items')",
        "SELECT tenancy.reset_shadow()",
        "SELECT tenancy.shadow_clear()",
        "SELECT tenancy.shadow_readiness('app.items', 'shadow', now())",
        ENFORCE,
    ] {
        assert_eq!(stage.nobody().error(sql).code().code(), "42501", "{sql}");
    }
    assert_eq!(stage.owner().int(count), 1);
    stage
        .superuser()
        .ok(&format!("GRANT pg_read_all_stats TO {}", stage.app));
    assert_eq!(stage.nobody().int(count), 1);
}

#[test]
fn it_survives_what_happens_to_tables() {
    let stage = shadowed();
    stage.tenant(B).ok(ITEMS);
    stage
        .owner()
        .ok("ALTER TABLE app.items RENAME TO \"<script>\"");
    assert_eq!(denials(&stage, "relation, rows"), ["app.\"<script>\" 2"]);
    stage
        .owner()
        .ok("SELECT tenancy.unprotect_table('app.\"<script>\"'); DROP TABLE app.\"<script>\"");
    assert_eq!(denials(&stage, "rows"), [""; 0]);
    assert_eq!(
        stage
            .owner()
            .int("SELECT count(*) FROM tenancy.shadow_report()"),
        0
    );
}

#[test]
fn a_rollback_keeps_what_was_seen() {
    let stage = shadowed();
    let mut client = stage.tenant(B);
    client.ok(&format!("BEGIN READ ONLY; {ITEMS}; ROLLBACK"));
    client.error(&format!("BEGIN; {ITEMS}; SELECT 1/0"));
    assert_eq!(denials(&stage, "rows, statements"), ["4 2"]);
}

#[test]
fn what_enforcement_refuses_is_counted() {
    let stage = Stage::new();
    stage.items();
    stage
        .owner()
        .ok("SELECT tenancy.protect_table('app.items', mode => 'enforce')");
    let refused = |stage: &Stage| -> Vec<String> {
        stage
            .owner()
            .texts(
                "SELECT concat_ws(' ', command, kind, right(context_tenant, 1), rows, query) FROM tenancy.denials ORDER BY 1",
            )
    };
    assert_eq!(stage.tenant(B).rows(ITEMS).len(), 1);
    assert_eq!(refused(&stage), [""; 0]);
    let insert = format!("INSERT INTO app.items VALUES (9, '{A}', 'x')");
    for _ in 0..2 {
        assert_eq!(stage.tenant(B).error(&insert).code().code(), "42501");
    }
    assert_eq!(stage.nobody().error(ITEMS).code().code(), "42501");
    // Caught, and still counted.
    stage.tenant(B).ok(&format!(
        "DO $do$ BEGIN {insert}; EXCEPTION WHEN insufficient_privilege THEN NULL; END $do$"
    ));
    // Another reason to be refused is none of ours.
    stage
        .superuser()
        .ok(&format!("REVOKE DELETE ON app.items FROM {}", stage.app));
    stage.tenant(B).error("DELETE FROM app.items");
    stage
        .tenant(B)
        .error("INSERT INTO app.items VALUES (3, current_tenant_id(), 'twice')");
    assert_eq!(
        refused(&stage),
        [
            "insert check_violation b 3 INSERT INTO app.items VALUES ($1, ...)",
            "select missing_context 1 SELECT id FROM app.items",
        ]
    );
    assert_eq!(
        stage.tenant(B).int("SELECT count(*) FROM tenancy.denials"),
        0
    );
    assert_eq!(denials(&stage, "rows"), [""; 0]);
}
