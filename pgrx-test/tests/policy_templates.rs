//! What each template lets whom see and write: every command, against the tenant's own rows, those of
//! another tenant and those of the platform, as member, admin, super admin and nobody.

mod policy_support;
mod template_support;

use pgrx_test::fixture::{ClientExt, expect_error};
use policy_support::{A, B};
use postgres::Client;
use template_support::{P, World, bodies, outcome};

/// The outcomes of SELECT, UPDATE and DELETE of the rows with these ids, and INSERT of one.
fn attack(session: &mut Client, table: &str, ids: &str, insert: &str) -> String {
    [
        format!("SELECT FROM app.{table} WHERE id IN ({ids})"),
        format!("UPDATE app.{table} SET body = 'x' WHERE id IN ({ids})"),
        format!("DELETE FROM app.{table} WHERE id IN ({ids})"),
        format!("INSERT INTO app.{table} VALUES ({insert})"),
    ]
    .map(|sql| outcome(session, &sql))
    .join(" ")
}

#[test]
fn tenant() {
    let world = World::new();
    world.enforce("notes", "tenant", "tenant_id", "{}");
    let mut ann = world.user("ann");
    let own = format!("9, '{A}', ''");
    let foreign = format!("9, '{B}', ''");
    assert_eq!(attack(&mut ann, "notes", "1", &own), "1 1 1 1");
    assert_eq!(attack(&mut ann, "notes", "2, 3", &foreign), "0 0 0 42501");
    let mut sup = world.user("sup");
    assert_eq!(
        attack(&mut sup, "notes", "1, 2", &foreign),
        "0 0 0 42501",
        "a super admin is a member of his tenant"
    );
    for user in ["out", "two"] {
        let nobody = "42501 42501 42501 42501";
        assert_eq!(attack(&mut world.user(user), "notes", "1", &own), nobody);
    }
}

#[test]
fn shared_read() {
    let world = World::new();
    world.enforce("tools", "shared_read", "tenant_id", "{}");
    let own = format!("9, '{A}', ''");
    let mut ann = world.user("ann");
    assert_eq!(bodies(&mut ann, "tools"), "a p");
    assert_eq!(attack(&mut ann, "tools", "1", &own), "1 1 1 1");
    let platform = format!("9, '{P}', ''");
    assert_eq!(attack(&mut ann, "tools", "3", &platform), "1 0 0 42501");
    assert_eq!(
        attack(&mut ann, "tools", "2", &format!("9, '{B}', ''")),
        "0 0 0 42501"
    );
    assert_eq!(
        attack(&mut world.user("amy"), "tools", "3", &platform),
        "1 0 0 42501",
        "nor does an admin write what all read"
    );
    assert_eq!(outcome(&mut ann, "SELECT FROM app.tools FOR UPDATE"), "1");
    let upsert = format!(
        "INSERT INTO app.tools VALUES (3, '{A}', 'x') ON CONFLICT (id) DO UPDATE SET body = 'x'"
    );
    assert_eq!(outcome(&mut ann, &upsert), "42501");
    assert_eq!(
        attack(&mut world.user("sup"), "tools", "3", &platform),
        "1 1 1 1",
        "who belongs to the platform writes its rows"
    );
    assert_eq!(
        attack(&mut world.user("out"), "tools", "3", &platform),
        "42501 42501 42501 42501"
    );
    // Another platform tenant counts at once: no policy holds its id.
    world.stage.superuser().ok(&format!(
        "SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id', membership => 'app.members',
             membership_role => 'role', tenants => 'app.tenants', platform_tenant => '{B}')"
    ));
    assert_eq!(bodies(&mut ann, "tools"), "a b");
    world.stage.superuser().ok(
        "SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id', membership => 'app.members',
             membership_role => 'role', tenants => 'app.tenants')",
    );
    assert_eq!(bodies(&mut ann, "tools"), "a");
}

#[test]
fn shared_read_wants_rows_to_have_a_tenant() {
    let world = World::new();
    world
        .stage
        .owner()
        .ok("INSERT INTO app.tools VALUES (4, NULL, 'n'), (5, NULL, 'n')");
    let mut owner = world.stage.owner();
    let protect = "SELECT tenancy.protect_table('app.tools', 'shared_read', mode => 'enforce')";
    let error = owner.error(protect);
    expect_error(&error, "23502", "2 rows");
    let hint = error.hint().unwrap();
    // Copied as it stands.
    let (_, update) = hint.split_once(": ").unwrap();
    assert!(
        update.starts_with("UPDATE ") && update.ends_with(';'),
        "{hint}"
    );
    assert_eq!(owner.execute(update, &[]).unwrap(), 2);
    owner.ok(protect);
    assert_eq!(bodies(&mut world.user("ann"), "tools"), "a n n p");
    owner.ok("SELECT tenancy.unprotect_table('app.tools')");
    world.stage.superuser().ok(
        "SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id', membership => 'app.members')",
    );
    expect_error(&owner.error(protect), "55000", "platform_tenant");
}

#[test]
fn tenant_read_admin_write() {
    let world = World::new();
    world.enforce("config", "tenant_read_admin_write", "tenant_id", "{}");
    let own = format!("9, '{A}', ''");
    let foreign = format!("9, '{B}', ''");
    assert_eq!(
        attack(&mut world.user("ann"), "config", "1", &own),
        "1 0 0 42501"
    );
    let mut amy = world.user("amy");
    assert_eq!(attack(&mut amy, "config", "1", &own), "1 1 1 1");
    assert_eq!(attack(&mut amy, "config", "2, 3", &foreign), "0 0 0 42501");
    // An admin of B is no admin of A.
    assert_eq!(
        attack(&mut world.user_in("two", A), "config", "1", &own),
        "1 0 0 42501"
    );
    assert_eq!(
        attack(&mut world.user_in("two", B), "config", "2", &foreign),
        "1 1 1 1"
    );
    // What he may depends on the role at that moment.
    amy.ok("BEGIN; UPDATE app.config SET body = 'x'");
    world
        .stage
        .superuser()
        .ok("UPDATE app.members SET role = 'user' WHERE user_id = 'amy'");
    assert_eq!(
        amy.rows("UPDATE app.config SET body = 'y' RETURNING 1")
            .len(),
        0
    );
    amy.ok("ROLLBACK");
}

#[test]
fn own_tenant() {
    let world = World::new();
    let insert = "'00000000-0000-0000-0000-0000000000ff', ''";
    let attack = |user: &str, tenant: &str| {
        let mut session = world.user(user);
        [
            format!("SELECT FROM app.tenants WHERE id = '{tenant}'"),
            format!("UPDATE app.tenants SET name = 'x' WHERE id = '{tenant}'"),
            format!("DELETE FROM app.tenants WHERE id = '{tenant}'"),
            format!("INSERT INTO app.tenants VALUES ({insert})"),
        ]
        .map(|sql| outcome(&mut session, &sql))
        .join(" ")
    };
    world.enforce("tenants", "own_tenant", "id", "{}");
    assert_eq!(attack("ann", A), "1 0 0 42501");
    assert_eq!(attack("amy", A), "1 0 0 42501");
    assert_eq!(attack("ann", B), "0 0 0 42501");
    assert_eq!(attack("sup", A), "0 0 0 42501");
    world.enforce(
        "tenants",
        "own_tenant",
        "id",
        r#"{"admin_writes": true, "super_admins": "read"}"#,
    );
    assert_eq!(attack("ann", A), "1 0 0 42501");
    assert_eq!(attack("amy", A), "1 1 0 42501");
    assert_eq!(attack("amy", B), "0 0 0 42501");
    assert_eq!(attack("sup", A), "1 0 0 42501");
    world.enforce("tenants", "own_tenant", "id", r#"{"super_admins": "all"}"#);
    assert_eq!(attack("amy", A), "1 0 0 42501");
    assert_eq!(attack("sup", A), "1 1 1 1");
    assert_eq!(attack("out", A), "42501 42501 42501 42501");
}

#[test]
fn a_tenant_cannot_take_another_ones_id() {
    let world = World::new();
    world.enforce("tenants", "own_tenant", "id", r#"{"admin_writes": true}"#);
    let mut amy = world.user("amy");
    expect_error(
        &amy.error("UPDATE app.tenants SET id = '00000000-0000-0000-0000-0000000000ff'"),
        "42501",
        "",
    );
}

#[test]
fn self_row() {
    let world = World::new();
    world.enforce("profiles", "self", "tenant_id", "{}");
    let own = format!("'ann', '{A}', ''");
    let mut ann = world.user("ann");
    assert_eq!(attack(&mut ann, "profiles", "'ann'", &own), "1 1 1 23505");
    let foreign = format!("'new', '{A}', ''");
    assert_eq!(
        attack(&mut ann, "profiles", "'amy', 'bob'", &foreign),
        "0 0 0 42501"
    );
    assert_eq!(
        outcome(&mut ann, "UPDATE app.profiles SET id = 'new'"),
        "42501"
    );
    // Not a question of tenants: who has not chosen one yet, or has none, is still himself.
    assert_eq!(bodies(&mut world.user("two"), "profiles"), "two");
    assert_eq!(bodies(&mut world.user("out"), "profiles"), "");
    assert_eq!(bodies(&mut world.user("sup"), "profiles"), "");
    let mut nobody = world.stage.nobody();
    for sql in [
        "SELECT FROM app.profiles",
        "DELETE FROM app.profiles WHERE false",
    ] {
        expect_error(&nobody.error(sql), "42501", "no user context");
    }
    world.enforce(
        "profiles",
        "self",
        "tenant_id",
        r#"{"super_admins": "read"}"#,
    );
    let mut sup = world.user("sup");
    assert_eq!(bodies(&mut sup, "profiles"), "amy ann bob two");
    assert_eq!(
        attack(&mut sup, "profiles", "'ann'", &foreign),
        "1 0 0 42501"
    );
    world.enforce(
        "profiles",
        "self",
        "tenant_id",
        r#"{"super_admins": "all"}"#,
    );
    assert_eq!(attack(&mut sup, "profiles", "'ann'", &foreign), "1 1 1 1");
    assert_eq!(bodies(&mut world.user("amy"), "profiles"), "amy");
}

#[test]
fn self_row_with_readers() {
    let world = World::new();
    world.enforce("profiles", "self", "tenant_id", r#"{"readers": "tenant"}"#);
    assert_eq!(bodies(&mut world.user("ann"), "profiles"), "amy ann two");
    assert_eq!(bodies(&mut world.user_in("two", B), "profiles"), "bob two");
    let mut ann = world.user("ann");
    assert_eq!(
        attack(&mut ann, "profiles", "'amy'", &format!("'new', '{A}', ''")),
        "1 0 0 42501"
    );
    ann.ok("DELETE FROM app.profiles WHERE id = 'ann'");
    let into_b = format!("INSERT INTO app.profiles VALUES ('ann', '{B}', '')");
    assert_eq!(outcome(&mut ann, &into_b), "42501");
    assert_eq!(outcome(&mut ann, &into_b.replace(B, A)), "1");
    world.enforce(
        "profiles",
        "self",
        "tenant_id",
        r#"{"readers": "tenant_admins"}"#,
    );
    assert_eq!(bodies(&mut world.user_in("two", A), "profiles"), "two");
    assert_eq!(bodies(&mut world.user("amy"), "profiles"), "amy two");
    assert_eq!(
        outcome(&mut world.user("two"), "SELECT FROM app.profiles"),
        "42501",
        "readers are of the tenant that was chosen"
    );
}

#[test]
fn member_read() {
    let world = World::new();
    world.enforce("members", "member_read", "tenant_id", "{}");
    let tenants = |session: &mut Client| {
        session
            .texts("SELECT DISTINCT right(tenant_id::text, 1) AS t FROM app.members ORDER BY t")
            .concat()
    };
    assert_eq!(
        tenants(&mut world.user("two")),
        "ab",
        "before he has chosen"
    );
    assert_eq!(tenants(&mut world.user_in("two", A)), "ab");
    assert_eq!(tenants(&mut world.user("ann")), "a");
    assert_eq!(tenants(&mut world.user("out")), "");
    expect_error(
        &world.stage.nobody().error("SELECT FROM app.members"),
        "42501",
        "no tenant context",
    );
    let writes = |user: &str, tenant: &str, target: &str| {
        let mut session = world.user_in(user, tenant);
        // The role is an identity column, which the guard watches as well.
        [
            format!("UPDATE app.members SET user_id = user_id WHERE tenant_id = '{target}'"),
            format!("DELETE FROM app.members WHERE tenant_id = '{target}' AND user_id = 'none'"),
            format!("INSERT INTO app.members VALUES ('new', '{target}', 'user')"),
        ]
        .map(|sql| outcome(&mut session, &sql))
        .join(" ")
    };
    assert_eq!(writes("two", B, B), "2 0 1");
    assert_eq!(writes("two", B, A), "0 0 42501", "read, not written");
    world.enforce(
        "members",
        "member_read",
        "tenant_id",
        r#"{"admin_writes": true}"#,
    );
    assert_eq!(writes("two", B, B), "2 0 1");
    assert_eq!(writes("two", A, A), "0 0 42501");
    assert_eq!(
        outcome(&mut world.user("two"), "UPDATE app.members SET role = role"),
        "42501"
    );
    assert_eq!(tenants(&mut world.user("two")), "ab");
}

#[test]
fn global_read_admin_write() {
    let world = World::new();
    world.enforce("flags", "global_read_admin_write", "tenant_id", "{}");
    assert_eq!(
        bodies(&mut world.stage.nobody(), "flags"),
        "off on",
        "without a context"
    );
    for user in ["ann", "amy", "two"] {
        let outcomes = attack(&mut world.user(user), "flags", "1", "9, ''");
        let expected = if user == "two" {
            "1 42501 42501 42501"
        } else {
            "1 0 0 42501"
        };
        assert_eq!(outcomes, expected, "{user}");
    }
    assert_eq!(
        attack(&mut world.stage.nobody(), "flags", "1", "9, ''"),
        "1 42501 42501 42501"
    );
    assert_eq!(
        attack(&mut world.user("sup"), "flags", "1, 2", "9, ''"),
        "2 2 2 1"
    );
    world.enforce(
        "flags",
        "global_read_admin_write",
        "tenant_id",
        r#"{"visible": "is_active -- on", "writers": "tenant_admins"}"#,
    );
    assert_eq!(bodies(&mut world.stage.nobody(), "flags"), "on");
    assert_eq!(bodies(&mut world.user("two"), "flags"), "on");
    assert_eq!(
        attack(&mut world.user("ann"), "flags", "1, 2", "9, ''"),
        "1 0 0 42501"
    );
    assert_eq!(
        attack(&mut world.user("amy"), "flags", "1, 2", "9, ''"),
        "2 2 2 1"
    );
}

#[test]
fn child() {
    let world = World::new();
    world.enforce("notes", "tenant", "tenant_id", "{}");
    world.enforce("lines", "child", "tenant_id", "{}");
    world.enforce("words", "child", "tenant_id", "{}");
    let mut ann = world.user("ann");
    for table in ["lines", "words"] {
        assert_eq!(bodies(&mut ann, table), "a");
        assert_eq!(
            attack(&mut ann, table, "1", "9, 1, ''"),
            "1 1 1 1",
            "{table}"
        );
        assert_eq!(
            attack(&mut ann, table, "2, 3", "9, 2, ''"),
            "0 0 0 42501",
            "{table}"
        );
        assert_eq!(
            attack(&mut ann, table, "2", "9, 99, ''"),
            "0 0 0 42501",
            "no oracle"
        );
    }
    assert_eq!(
        outcome(&mut ann, "UPDATE app.lines SET note_id = 2"),
        "42501"
    );
    assert_eq!(
        outcome(&mut ann, "INSERT INTO app.lines VALUES (9, NULL, '')"),
        "42501"
    );
    expect_error(
        &world.user("two").error("SELECT FROM app.words"),
        "42501",
        "several tenants",
    );
    expect_error(
        &world.stage.nobody().error("SELECT FROM app.words"),
        "42501",
        "no tenant context",
    );
    // Said in full: it holds even where the parent's own policies are gone.
    world.stage.superuser().ok("ALTER TABLE app.notes DISABLE ROW LEVEL SECURITY; ALTER TABLE app.lines DISABLE ROW LEVEL SECURITY");
    assert_eq!(bodies(&mut ann, "words"), "a");
    assert_eq!(
        outcome(&mut ann, "INSERT INTO app.words VALUES (9, 2, '')"),
        "42501"
    );
}

#[test]
fn without_a_context_under_deny() {
    let world = World::new();
    for (table, template, column, options) in [
        ("notes", "tenant", "tenant_id", "{}"),
        ("tools", "shared_read", "tenant_id", "{}"),
        ("config", "tenant_read_admin_write", "tenant_id", "{}"),
        (
            "profiles",
            "self",
            "tenant_id",
            r#"{"super_admins": "all"}"#,
        ),
        ("flags", "global_read_admin_write", "", "{}"),
        ("lines", "child", "", "{}"),
    ] {
        world.enforce(table, template, column, options);
        let mut nobody = world.stage.nobody();
        nobody.ok("SET pg_tenancy.missing_context = 'deny'");
        let (reads, insert) = match table {
            "flags" => ("1", "9, ''".to_owned()),
            "lines" => ("0", "9, 1, ''".to_owned()),
            _ => ("0", format!("9, '{A}', ''")),
        };
        let ids = if table == "profiles" { "'ann'" } else { "1" };
        assert_eq!(
            attack(&mut nobody, table, ids, &insert),
            format!("{reads} 0 0 42501"),
            "{table}"
        );
    }
    world.enforce("tenants", "own_tenant", "id", r#"{"super_admins": "all"}"#);
    world.enforce("members", "member_read", "tenant_id", "{}");
    let mut nobody = world.stage.nobody();
    nobody.ok("SET pg_tenancy.missing_context = 'deny'");
    for table in ["tenants", "members"] {
        for sql in ["SELECT FROM", "DELETE FROM"] {
            assert_eq!(outcome(&mut nobody, &format!("{sql} app.{table}")), "0");
        }
    }
    assert_eq!(
        outcome(
            &mut nobody,
            "INSERT INTO app.tenants VALUES ('00000000-0000-0000-0000-0000000000ff', '')"
        ),
        "42501"
    );
}
