//! Foreign keys to tables whose platform rows everybody reads: they cannot carry the tenant, which is
//! said, with what refuses another tenant's row.

mod policy_support;
mod template_support;

use pgrx_test::fixture::ClientExt;
use policy_support::{A, B};
use template_support::{P, World, outcome};

const LINKS: &str = "SELECT rows, query FROM tenancy.cross_tenant_links()";

/// `uses` points at `tools` of its own tenant, of the platform, and of another tenant.
fn world() -> World {
    let world = World::new();
    world.stage.owner().ok(&format!(
        "ALTER TABLE app.tools ADD COLUMN above int CONSTRAINT above REFERENCES app.tools;
         CREATE TABLE app.uses (id int PRIMARY KEY, tenant_id uuid NOT NULL, tool int CONSTRAINT used REFERENCES app.tools);
         INSERT INTO app.uses VALUES (1, '{A}', 1), (2, '{A}', 3), (3, '{A}', 2), (4, '{B}', 3), (5, '{P}', 3), (6, '{A}', NULL)"
    ));
    world
}

const ADD: &str = r#"{"foreign_keys": "replace"}"#;

/// The statements that the result gives for a key.
fn statements(result: &str, key: &str) -> Vec<String> {
    let (_, said) = result
        .split_once(&format!("foreign key \"{key}\" of "))
        .unwrap_or_else(|| panic!("{result}"));
    assert!(said.contains("cannot carry the tenant"), "{result}");
    let found: Vec<String> = said
        .split("; ")
        .filter_map(|part| part.find("CREATE POLICY").map(|at| part[at..].to_owned()))
        .take(2)
        .collect();
    assert_eq!(found.len(), 2, "{result}");
    found
}

#[test]
fn the_result_gives_the_policies_that_close_a_key_to_shared_rows() {
    let world = world();
    let mut owner = world.stage.owner();
    let tools = world.enforce("tools", "shared_read", "tenant_id", ADD);
    let uses = world.enforce("uses", "tenant", "tenant_id", ADD);
    let keys = "SELECT string_agg(conname, ' ' ORDER BY conname) FROM pg_constraint
         WHERE contype = 'f' AND confrelid = 'app.tools'::regclass";
    assert_eq!(
        owner.text(keys).as_deref(),
        Some("above used"),
        "no key is added or dropped, though rows point at the platform's"
    );
    let mut ann = world.user_in("ann", A);
    let attempts = |ann: &mut postgres::Client| {
        [
            "INSERT INTO app.uses VALUES (9, current_tenant_id(), 2)",
            "UPDATE app.uses SET tool = 2 WHERE id = 1",
            "INSERT INTO app.tools (id, tenant_id, above) VALUES (9, current_tenant_id(), 2)",
            "UPDATE app.tools SET above = 2 WHERE id = 1",
            "INSERT INTO app.uses VALUES (9, current_tenant_id(), 1), (10, current_tenant_id(), 3), (11, current_tenant_id(), NULL)",
            "UPDATE app.uses SET tool = 3 WHERE id = 1",
            "INSERT INTO app.tools (id, tenant_id, above) VALUES (9, current_tenant_id(), 9), (10, current_tenant_id(), 3)",
            "UPDATE app.tools SET above = 1 WHERE id = 1",
        ]
        .map(|sql| outcome(ann, sql))
        .join(" ")
    };
    assert_eq!(attempts(&mut ann), "1 1 1 1 3 1 2 1", "open");
    for statement in [statements(&uses, "used"), statements(&tools, "above")].concat() {
        owner.ok(&statement);
    }
    assert_eq!(
        attempts(&mut ann),
        "42501 42501 42501 42501 3 1 2 1",
        "closed to the third tenant only"
    );
    for (table, template) in [("uses", "tenant"), ("tools", "shared_read")] {
        let again = world.enforce(table, template, "tenant_id", ADD);
        assert!(!again.contains("cannot carry"), "{again}");
    }
}

#[test]
fn rows_that_point_at_the_platforms_do_not_cross() {
    let world = world();
    world.enforce("tools", "shared_read", "tenant_id", "{}");
    world.enforce("uses", "tenant", "tenant_id", "{}");
    let mut superuser = world.stage.superuser();
    let rows = superuser.rows(LINKS);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0][0].as_deref(), Some("1"), "{rows:?}");
    let shown = superuser.rows(rows[0][1].as_deref().unwrap());
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0][0].as_deref(), Some("3"));
    // No role sees both tables whole.
    let other = world.stage.database.role("other");
    superuser.ok(&format!(
        "GRANT USAGE, CREATE ON SCHEMA app TO {other}; ALTER TABLE app.tools OWNER TO {other}"
    ));
    assert_eq!(
        superuser.int("SELECT rows FROM tenancy.cross_tenant_links()"),
        1
    );
    // What only the tenant sees is not shared, whoever it is.
    world
        .stage
        .superuser()
        .ok("SELECT tenancy.protect_table('app.tools', 'tenant', mode => 'enforce')");
    assert_eq!(
        superuser.int("SELECT rows FROM tenancy.cross_tenant_links()"),
        3
    );
}
