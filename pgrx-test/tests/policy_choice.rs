//! Which template `tenancy.protect_schema()` chooses by the shape of a table, and what it says.

mod policy_support;
mod template_support;

use pgrx_test::fixture::{ClientExt, expect_error};
use policy_support::A;
use template_support::{World, bodies};

fn said(world: &World) -> Vec<String> {
    let rows = world.stage.owner().rows(
        "SELECT relation::regclass::text, template, result FROM tenancy.protect_schema('app', mode => 'enforce')
         ORDER BY relation::regclass::text",
    );
    rows.into_iter()
        .map(|row| {
            let [table, template, result] =
                [0, 1, 2].map(|place| row[place].clone().unwrap_or_else(|| "-".into()));
            let table = table.trim_start_matches("app.").to_owned();
            // Keys that do not carry the tenant are another matter.
            let result = result
                .split("; 1 unique key")
                .next()
                .unwrap_or_default()
                .to_owned();
            format!("{table} {template}: {result}")
        })
        .collect()
}

#[test]
fn the_shape_of_a_table_decides() {
    let world = World::new();
    // A grandchild that was made before its parent, and one that two keys lead to.
    world.stage.owner().ok(
        "CREATE TABLE app.early (id int PRIMARY KEY, late_id int, body text);
         CREATE TABLE app.late (id int PRIMARY KEY, note_id int NOT NULL REFERENCES app.notes, body text);
         ALTER TABLE app.early ADD FOREIGN KEY (late_id) REFERENCES app.late;
         CREATE TABLE app.pair (id int, note_id int REFERENCES app.notes, tool_id int REFERENCES app.tools);
         CREATE TABLE app.loop_a (id int PRIMARY KEY, b int);
         CREATE TABLE app.loop_b (id int PRIMARY KEY, a int REFERENCES app.loop_a);
         ALTER TABLE app.loop_a ADD FOREIGN KEY (b) REFERENCES app.loop_b",
    );
    assert_eq!(
        said(&world),
        [
            "config tenant: enforced",
            "early child: enforced; foreign key \"early_late_id_fkey\" leads to \"app\".\"late\"; no index leads with \"late_id\": \
             make one, or every statement reads the whole table",
            "flags -: not protected: no column \"tenant_id\", and no foreign key to a protected table",
            "late child: enforced; foreign key \"late_note_id_fkey\" leads to \"app\".\"notes\"; no index leads with \"note_id\": \
             make one, or every statement reads the whole table",
            "lines child: enforced; foreign key \"lines_note_id_fkey\" leads to \"app\".\"notes\"",
            "loop_a -: not protected: no column \"tenant_id\", and no foreign key to a protected table",
            "loop_b -: not protected: no column \"tenant_id\", and no foreign key to a protected table",
            "members member_read: enforced; it is the bound membership table",
            "notes tenant: enforced",
            "pair -: not protected: no column \"tenant_id\", and several foreign keys lead to protected tables: \
             \"pair_note_id_fkey\" (\"note_id\") references \"app\".\"notes\", \"pair_tool_id_fkey\" (\"tool_id\") \
             references \"app\".\"tools\"; protect it with template \"child\" and option foreign_key",
            "profiles tenant: enforced",
            "tenants own_tenant: enforced; it is the bound table of tenants",
            "tools shared_read: enforced; column \"tenant_id\" may be null, and a platform tenant is bound",
            "words child: enforced; foreign key \"words_line_id_fkey\" leads to \"app\".\"lines\"",
        ]
    );
    assert_eq!(bodies(&mut world.user("ann"), "words"), "a");
    // A second call keeps what was chosen, though tools.tenant_id is not nullable any more.
    let again = said(&world);
    assert!(
        again.contains(&"tools shared_read: enforced (unchanged)".to_owned()),
        "{again:?}"
    );
    // What was left is protected by name, and stays so.
    world.enforce(
        "pair",
        "child",
        "",
        r#"{"foreign_key": "pair_note_id_fkey"}"#,
    );
    world.enforce("profiles", "self", "", "{}");
    let again = said(&world);
    for expected in [
        "pair child: enforced (unchanged)",
        "profiles self: enforced (unchanged)",
    ] {
        assert!(
            again.iter().any(|line| line.starts_with(expected)),
            "{again:?}"
        );
    }
}

#[test]
fn the_bound_table_of_roles_shows_a_user_his_own_row() {
    let world = World::new();
    world.stage.owner().ok(
        "CREATE TABLE app.roles (id text PRIMARY KEY, role text, body text);
         INSERT INTO app.roles VALUES ('ann', 'user', 'ann'), ('bob', 'user', 'bob')",
    );
    world.stage.superuser().ok(
        "SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id', membership => 'app.members', role_table => 'app.roles')",
    );
    let said = said(&world);
    assert!(
        said.contains(&"roles self: enforced; it is the bound table of roles".to_owned()),
        "{said:?}"
    );
    assert!(
        said.contains(&"tools tenant: enforced".to_owned()),
        "no platform tenant: {said:?}"
    );
    assert_eq!(bodies(&mut world.user("ann"), "roles"), "ann");
}

#[test]
fn partitions_of_a_child_follow_it() {
    let world = World::new();
    world.stage.owner().ok(&format!(
        "CREATE TABLE app.events (note_id int NOT NULL REFERENCES app.notes, at int, body text) PARTITION BY RANGE (at);
         CREATE TABLE app.events_1 PARTITION OF app.events FOR VALUES FROM (0) TO (10);
         CREATE TABLE app.events_2 PARTITION OF app.events FOR VALUES FROM (10) TO (20);
         CREATE TABLE app.heirs () INHERITS (app.lines);
         INSERT INTO app.events VALUES (1, 1, 'a1'), (2, 1, 'b1'), (1, 11, 'a2'), (2, 11, 'b2');
         INSERT INTO app.heirs VALUES (7, 1, 'ha'), (8, 2, 'hb');
         INSERT INTO app.tools VALUES (9, '{A}', 'x')"
    ));
    let said = said(&world);
    for table in ["events", "events_1", "events_2", "heirs"] {
        assert!(
            said.iter()
                .any(|line| line.starts_with(&format!("{table} child: enforced"))),
            "{said:?}"
        );
    }
    let mut ann = world.user("ann");
    for (table, seen) in [
        ("events", "a1 a2"),
        ("events_1", "a1"),
        ("events_2", "a2"),
        ("lines", "a ha"),
        ("heirs", "ha"),
    ] {
        assert_eq!(bodies(&mut ann, table), seen, "{table}");
    }
    let intruder = "INSERT INTO app.events_2 VALUES (2, 12, 'x')";
    expect_error(&ann.error(intruder), "42501", "events_2");
    assert_eq!(
        world
            .stage
            .nobody()
            .text("SELECT string_agg(drift, '; ') FROM tenancy.protected_tables"),
        None
    );
    world
        .stage
        .owner()
        .ok("SELECT tenancy.unprotect_table('app.events')");
    assert_eq!(
        world
            .stage
            .nobody()
            .int("SELECT count(*) FROM app.events_1"),
        2
    );
}

#[test]
fn a_parent_stays_protected_as_long_as_its_children() {
    let world = World::new();
    said(&world);
    let mut owner = world.stage.owner();
    let error = owner.error("SELECT tenancy.unprotect_table('app.notes')");
    expect_error(&error, "55000", "app.lines");
    for table in ["words", "lines", "notes"] {
        owner.ok(&format!("SELECT tenancy.unprotect_table('app.{table}')"));
    }
}

#[test]
fn tables_made_later_are_chosen_for_alike() {
    let world = World::new();
    said(&world);
    let mut owner = world.stage.owner();
    owner.ok("SELECT tenancy.auto_protect('app', mode => 'enforce')");
    owner.ok(
        "CREATE TABLE app.replies (id int PRIMARY KEY, line_id int NOT NULL REFERENCES app.lines, body text);
         CREATE TABLE app.prompts (id int PRIMARY KEY, tenant_id uuid, body text);
         CREATE TABLE app.plans (id int PRIMARY KEY, body text);
         INSERT INTO app.plans VALUES (1, 'open')",
    );
    let templates = "SELECT string_agg(table_name || ' ' || template, ', ' ORDER BY table_name) FROM tenancy.protected_tables
         WHERE table_name IN ('replies', 'prompts', 'plans')";
    assert_eq!(
        owner.text(templates).as_deref(),
        Some("prompts shared_read, replies child")
    );
}
