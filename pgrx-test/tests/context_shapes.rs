//! The identity shapes of the four reference systems and their mixtures.

mod context_setup;

use context_setup::{A, B, C, TENANT, World};
use pgrx_test::fixture::{ClientExt, Server, expect_error};
use postgres::Client;

fn shape(tables: &str, bind: &str, rows: &str) -> World {
    let world = World::empty(Server::preloaded());
    let owner = &world.owner;
    world.admin().ok(&format!(
        "SET ROLE {owner}; {tables}; RESET ROLE; {bind}; {rows}"
    ));
    world
}

/// One transaction with these settings; the value of an expression in it.
fn under(client: &mut Client, settings: &[(&str, &str)], expression: &str) -> Option<String> {
    client.ok("BEGIN");
    for (name, value) in settings {
        client.ok(&format!("SET LOCAL {name} = '{value}'"));
    }
    let value = client.text(&format!("SELECT ({expression})::text"));
    client.ok("COMMIT");
    value
}

fn refused(
    client: &mut Client,
    settings: &[(&str, &str)],
    expression: &str,
) -> postgres::error::DbError {
    client.ok("BEGIN");
    for (name, value) in settings {
        client.ok(&format!("SET LOCAL {name} = '{value}'"));
    }
    let error = client.error(&format!("SELECT ({expression})::text"));
    client.ok("ROLLBACK");
    error
}

const T: &str = "current_tenant_id()";

/// okr: a text user from an external service, the tenant from a lookup table.
#[test]
fn okr_user_setting_and_lookup_table() {
    let world = shape(
        "CREATE TABLE users_sync (id text PRIMARY KEY, tenant_id uuid)",
        "SELECT tenancy.bind(membership => 'users_sync', membership_user => 'id')",
        &format!(
            "INSERT INTO users_sync VALUES ('user_x', '{A}'), ('user_y', '{B}'), ('none', NULL)"
        ),
    );
    let mut client = world.app();
    for (user, tenant) in [
        ("user_x", Some(A)),
        ("user_y", Some(B)),
        ("none", None),
        ("nobody", None),
        ("", None),
    ] {
        assert_eq!(
            under(&mut client, &[("app.current_user_id", user)], T).as_deref(),
            tenant
        );
    }
    let u = [("app.current_user_id", "user_x")];
    assert_eq!(
        under(&mut client, &u, "current_tenant_user_id()").as_deref(),
        Some("user_x")
    );
    assert_eq!(
        under(&mut client, &u, "current_tenant_id_text()").as_deref(),
        Some(A)
    );
    assert_eq!(under(&mut client, &u, "current_tenant_role() IS NULL AND NOT is_tenant_admin() AND NOT is_super_admin() AND NOT has_tenant_role('admin') AND NOT has_tenant_role(NULL)").as_deref(), Some("true"));
    expect_error(
        &refused(&mut client, &u, "current_tenant_id_bigint()"),
        "42804",
        "current_tenant_id()",
    );
    // A tenant cannot be chosen where no setting is bound for it.
    expect_error(
        &client.error(&format!("SELECT set_tenant_context('user_x', '{B}')")),
        "22023",
        "tenant_setting",
    );
    assert_eq!(
        under(
            &mut client,
            &[
                ("app.current_user_id", "user_x"),
                ("app.current_tenant_id", B)
            ],
            T
        )
        .as_deref(),
        Some(A)
    );
}

/// insights: a text tenant, trusted as it is set.
#[test]
fn insights_text_tenant_from_a_setting() {
    let world = shape(
        "CREATE TABLE tenants (id text PRIMARY KEY, active boolean NOT NULL DEFAULT true)",
        "SELECT tenancy.bind(tenant_type => 'text', tenant_setting => 'app.current_tenant_id')",
        "INSERT INTO tenants VALUES ('ckx1'), ('ckx2'); UPDATE tenants SET active = false WHERE id = 'ckx2'",
    );
    let mut client = world.app();
    let t = "current_tenant_id_text()";
    for id in ["ckx1", "ckx2", "unheard of", "Ünï ''quoted''"] {
        assert_eq!(
            under(&mut client, &[("app.current_tenant_id", id)], t),
            Some(id.replace("''", "'"))
        );
        assert_eq!(
            under(&mut client, &[("app.current_org_id", id)], t),
            Some(id.replace("''", "'"))
        );
    }
    assert_eq!(
        under(&mut client, &[("app.current_tenant_id", "")], t),
        None
    );
    expect_error(
        &refused(&mut client, &[("app.current_tenant_id", "ckx1")], T),
        "42804",
        "current_tenant_id_text()",
    );
    expect_error(
        &refused(
            &mut client,
            &[("app.current_tenant_id", "ckx1")],
            "user_tenant_ids()",
        ),
        "42804",
        "user_tenant_ids_text()",
    );
    assert_eq!(
        under(
            &mut client,
            &[("app.current_tenant_id", "ckx1")],
            "user_tenant_ids_text()"
        )
        .as_deref(),
        Some("{ckx1}")
    );
    // With a tenants table the tenant must exist and be active.
    world.admin().ok("SELECT tenancy.bind(tenant_type => 'text', tenant_setting => 'app.current_tenant_id', tenants => 'tenants', tenants_active => 'active')");
    for (id, tenant) in [("ckx1", Some("ckx1")), ("ckx2", None), ("unheard of", None)] {
        assert_eq!(
            under(&mut client, &[("app.current_tenant_id", id)], t).as_deref(),
            tenant
        );
    }
    expect_error(
        &refused(
            &mut client,
            &[("app.current_tenant_id", "ckx2")],
            "tenancy.current_tenant_id_text_required()",
        ),
        "42501",
        "not active",
    );
}

const MEMBERS: &str = "
    CREATE TABLE organizations (id uuid PRIMARY KEY, status text NOT NULL DEFAULT 'active');
    CREATE TABLE organization_members (user_id uuid, organization_id uuid REFERENCES organizations, role text, PRIMARY KEY (user_id, organization_id))";

const U1: &str = "11111111-0000-4000-8000-000000000001";
const U2: &str = "22222222-0000-4000-8000-000000000002";
const U3: &str = "33333333-0000-4000-8000-000000000003";
const ROOT: &str = "44444444-0000-4000-8000-000000000004";

/// U1: admin in A, user in B. U2: user in B. U3: owner in C, which is suspended. ROOT: super admin in A.
fn studio() -> World {
    shape(
        MEMBERS,
        "SELECT tenancy.bind(tenant_setting => 'app.current_org_id', membership => 'organization_members',
            membership_tenant => 'organization_id', membership_role => 'role', tenants => 'organizations', tenants_active => $$status = 'active'$$)",
        &format!("INSERT INTO organizations VALUES ('{A}', 'active'), ('{B}', 'active'), ('{C}', 'suspended');
            INSERT INTO organization_members VALUES ('{U1}', '{A}', 'admin'), ('{U1}', '{B}', 'user'), ('{U1}', '{C}', 'owner'),
            ('{U2}', '{B}', 'user'), ('{U3}', '{C}', 'owner'), ('{ROOT}', '{A}', 'super_admin')"),
    )
}

/// studio: a user and the active organisation, which counts only with a membership.
#[test]
fn studio_active_organisation_validated_by_membership() {
    let world = studio();
    let mut client = world.app();
    let user = |id| ("app.current_user_id", id);
    for alias in ["app.current_org_id", "app.current_tenant_id"] {
        assert_eq!(
            under(&mut client, &[user(U1), (alias, A)], T).as_deref(),
            Some(A)
        );
        assert_eq!(
            under(&mut client, &[user(U1), (alias, B)], T).as_deref(),
            Some(B)
        );
        // Not a member, suspended, unheard of: nothing.
        assert_eq!(under(&mut client, &[user(U2), (alias, A)], T), None);
        for tenant in [C, U1] {
            assert_eq!(under(&mut client, &[user(U1), (alias, tenant)], T), None);
        }
        // A tenant without a user is nobody's.
        assert_eq!(under(&mut client, &[(alias, A)], T), None);
    }
    expect_error(
        &refused(
            &mut client,
            &[user(U2), ("app.current_org_id", A)],
            "tenancy.current_tenant_id_required()",
        ),
        "42501",
        "no active membership in the chosen tenant",
    );
    // Without a choice: the only one counts, several are an error that says so.
    assert_eq!(under(&mut client, &[user(U2)], T).as_deref(), Some(B));
    for ask in [
        T,
        "tenancy.current_tenant_id_required()",
        "current_tenant_role()",
        "is_tenant_admin()",
    ] {
        let error = refused(&mut client, &[user(U1)], ask);
        expect_error(&error, "42501", "SET LOCAL app.current_org_id");
        assert!(error.message().contains("several tenants"), "{ask}");
    }
    assert_eq!(
        under(&mut client, &[user(U1)], "user_tenant_ids()"),
        Some(format!("{{{A},{B}}}"))
    );
    assert_eq!(
        under(
            &mut client,
            &[user(U1), ("app.current_org_id", A)],
            "user_tenant_ids_text()"
        ),
        Some(format!("{{{A},{B}}}"))
    );
    assert_eq!(
        under(&mut client, &[user(U3)], "user_tenant_ids()").as_deref(),
        Some("{}")
    );
    assert_eq!(under(&mut client, &[user(U3)], T), None);
    // Roles belong to the chosen tenant.
    let roles = "concat_ws(' ', current_tenant_role(), is_tenant_admin(), is_super_admin(), has_tenant_role('admin'), has_tenant_role('ADMIN'))";
    for (settings, expected) in [
        ([user(U1), ("app.current_org_id", A)], "admin t f t f"),
        ([user(U1), ("app.current_org_id", B)], "user f f f f"),
        ([user(U1), ("app.current_org_id", C)], "f f f f"),
        ([user(U2), ("app.current_org_id", A)], "f f f f"),
        (
            [user(ROOT), ("app.current_org_id", A)],
            "super_admin t t f f",
        ),
    ] {
        assert_eq!(
            under(&mut client, &settings, roles).as_deref(),
            Some(expected),
            "{settings:?}"
        );
    }
    // Settings that contradict each other name nobody.
    expect_error(
        &refused(
            &mut client,
            &[
                user(U1),
                ("app.current_org_id", A),
                ("app.current_tenant_id", B),
            ],
            T,
        ),
        "22023",
        "different tenants",
    );
    assert_eq!(
        under(
            &mut client,
            &[
                user(U1),
                ("app.current_org_id", A),
                ("app.current_tenant_id", &A.to_uppercase())
            ],
            T
        )
        .as_deref(),
        Some(A)
    );
}

/// agents: claims in JSON, the tenant in the users table, the role in another.
#[test]
fn agents_claims_with_the_role_in_another_table() {
    let world = shape(
        "CREATE TABLE users (id uuid PRIMARY KEY, organization_id uuid);
         CREATE TABLE profiles (id uuid PRIMARY KEY, role text)",
        "SELECT tenancy.bind(claims_setting => 'request.jwt.claims', membership => 'users', membership_user => 'id',
            membership_tenant => 'organization_id', role_table => 'profiles')",
        &format!("INSERT INTO users VALUES ('{U1}', '{A}'), ('{U2}', '{B}'), ('{ROOT}', '{A}');
            INSERT INTO profiles VALUES ('{U1}', 'admin'), ('{U2}', 'user'), ('{ROOT}', 'super_admin')"),
    );
    let mut client = world.app();
    let summary = "concat_ws(' ', current_tenant_id(), current_tenant_user_id(), current_tenant_role(), is_tenant_admin(), is_super_admin())";
    for (user, tenant, role, flags) in [
        (U1, A, "admin", "t f"),
        (U2, B, "user", "f f"),
        (ROOT, A, "super_admin", "t t"),
    ] {
        let claims = format!(
            r#"{{"role":"authenticated","sub":"{}","n":1}}"#,
            user.to_uppercase()
        );
        assert_eq!(
            under(&mut client, &[("request.jwt.claims", &claims)], summary),
            Some(format!("{tenant} {user} {role} {flags}"))
        );
    }
    let claims = format!(r#"{{"sub":"{U1}"}}"#);
    expect_error(
        &refused(
            &mut client,
            &[("request.jwt.claims", &claims), ("app.current_user_id", U2)],
            T,
        ),
        "22023",
        "different users",
    );
    // A tenant claim chooses among memberships.
    world.admin().ok("SELECT tenancy.bind(claims_setting => 'request.jwt.claims', tenant_claim => 'app_metadata.org.id', membership => 'users', membership_user => 'id', membership_tenant => 'organization_id')");
    for (tenant, expected) in [(A, Some(A)), (B, None)] {
        let claims = format!(r#"{{"sub":"{U1}","app_metadata":{{"org":{{"id":"{tenant}"}}}}}}"#);
        assert_eq!(
            under(&mut client, &[("request.jwt.claims", &claims)], T).as_deref(),
            expected
        );
    }
}

/// The type `name` holds 63 bytes, and reads a longer value as if it ended there.
#[test]
fn users_of_type_name_are_compared_to_the_end() {
    let victim = "v".repeat(63);
    for column in ["name", "user_domain"] {
        let world = shape(
            &format!("CREATE DOMAIN user_domain AS name;
             CREATE TABLE members (user_id {column}, tenant_id uuid, PRIMARY KEY (user_id, tenant_id));
             CREATE TABLE profiles (id {column} PRIMARY KEY, role text);
             CREATE TABLE sources (user_id {column} PRIMARY KEY, v integer)"),
            "SELECT tenancy.bind(claims_setting => 'request.jwt.claims', tenant_setting => 'app.current_tenant_id', membership => 'members', role_table => 'profiles');
             SELECT tenancy.register_context('mine', 'sources', user_column => 'user_id', columns => '{v}')",
            &format!("INSERT INTO members VALUES ('{victim}', '{A}'), ('other', '{B}'); INSERT INTO profiles VALUES ('{victim}', 'admin');
                      INSERT INTO sources VALUES ('{victim}', 7)"),
        );
        let mut client = world.app();
        let seen = "concat_ws(' ', current_tenant_id(), is_tenant_admin(), get_user_tenant_context() #>> '{mine,v}')";
        let settings = |user: &str| {
            let claims = format!(r#"{{"sub": "{user}"}}"#);
            [
                [("request.jwt.claims", claims)],
                [("app.current_user_id", user.to_owned())],
            ]
        };
        for (user, expected) in [
            (victim.clone(), format!("{A} t 7")),
            (format!("{victim}x"), "f".to_owned()),
        ] {
            for setting in settings(&user) {
                let setting = setting
                    .each_ref()
                    .map(|(name, value)| (*name, value.as_str()));
                assert_eq!(
                    under(&mut client, &setting, seen),
                    Some(expected.clone()),
                    "{column}"
                );
            }
        }
        // The trusted tenant brings no role of somebody else's either.
        world.admin().ok("SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id', role_table => 'profiles')");
        for (user, expected) in [(victim.clone(), "true"), (format!("{victim}x"), "false")] {
            let settings = [
                ("app.current_user_id", user.as_str()),
                ("app.current_tenant_id", B),
            ];
            assert_eq!(
                under(&mut client, &settings, "is_tenant_admin()").as_deref(),
                Some(expected)
            );
        }
        // And an index finds the user.
        let mut owner = world.admin();
        owner.ok("SET enable_seqscan = off; SET enable_bitmapscan = off; PREPARE look(text) AS SELECT FROM members WHERE user_id OPERATOR(pg_catalog.=) $1; SET plan_cache_mode = force_generic_plan");
        let plan = owner.rows("EXPLAIN EXECUTE look('x')");
        assert!(
            plan.iter()
                .flatten()
                .flatten()
                .any(|line| line.contains("Index Cond")),
            "{plan:?}"
        );
    }
}

#[test]
fn tenants_of_every_type() {
    for (tenant_type, id, other, function, malformed) in [
        ("uuid", A, B, "current_tenant_id()", "not-a-uuid"),
        ("text", "t 1", "t 2", "current_tenant_id_text()", ""),
        (
            "bigint",
            "9007199254740993",
            "-2",
            "current_tenant_id_bigint()",
            "9223372036854775808",
        ),
        (
            "integer",
            "42",
            "-7",
            "current_tenant_id_bigint()",
            "2147483648",
        ),
    ] {
        let world = shape(
            &format!("CREATE TABLE members (user_id bigint, tenant_id {tenant_type}, PRIMARY KEY (user_id, tenant_id));
                      CREATE TABLE tenants (id {tenant_type} PRIMARY KEY)"),
            &format!("SELECT tenancy.bind(tenant_type => '{tenant_type}', tenant_setting => 'app.current_tenant_id', membership => 'members', tenants => 'tenants')"),
            &format!("INSERT INTO tenants VALUES ('{id}'), ('{other}'); INSERT INTO members VALUES (1, '{id}'), (2, '{other}'), (12, '{id}'), (12, '{other}')"),
        );
        world.notes(tenant_type, &[id, id, other]);
        let mut client = world.app();
        let count = "SELECT count(*) FROM notes";
        for (user, chosen, expected, rows) in [
            ("1", "", id, 2),
            ("2", "", other, 1),
            ("12", id, id, 2),
            ("12", other, other, 1),
            ("012", other, other, 1),
        ] {
            client.ok(&format!("BEGIN; SET LOCAL app.current_user_id = '{user}'; SET LOCAL app.current_tenant_id = '{chosen}'"));
            assert_eq!(
                client.text(&format!("SELECT {function}::text")).as_deref(),
                Some(expected),
                "{tenant_type}"
            );
            assert_eq!(
                client.text("SELECT current_tenant_id_text()").as_deref(),
                Some(expected)
            );
            assert_eq!(client.int(count), rows);
            expect_error(
                &client.error(&format!(
                    "INSERT INTO notes (tenant_id) VALUES ('{}')",
                    if expected == id { other } else { id }
                )),
                "42501",
                "row-level security",
            );
            client.ok("ROLLBACK");
        }
        if !malformed.is_empty() {
            expect_error(
                &client.error(&format!("SET app.current_tenant_id = '{malformed}'")),
                "22P02",
                tenant_type,
            );
        }
        expect_error(
            &client.error("SET app.current_user_id = 'one'"),
            "22P02",
            "bigint",
        );
    }
}

#[test]
fn the_context_as_a_document() {
    let world = studio();
    let mut client = world.app();
    let document = "get_user_tenant_context()";
    let u1 = [("app.current_user_id", U1), ("app.current_org_id", A)];
    let member =
        |tenant: &str, role: &str| format!(r#"{{"role": "{role}", "tenant_id": "{tenant}"}}"#);
    assert_eq!(
        under(&mut client, &u1, &format!("{document} = '{{\"user\": {{\"id\": \"{U1}\"}}, \"tenant\": {{\"id\": \"{A}\"}}, \"role\": \"admin\", \"memberships\": [{}, {}]}}'", member(A, "admin"), member(B, "user"))).as_deref(),
        Some("true")
    );
    assert_eq!(
        under(&mut client, &[], document).as_deref(),
        Some(r#"{"role": null, "user": null, "tenant": null, "memberships": []}"#)
    );
    // One's own, in any tenant and spelling.
    let of = |user: &str| format!("get_user_tenant_context('{user}') -> 'memberships'");
    assert_eq!(
        under(&mut client, &u1, &of(&U1.to_uppercase())),
        Some(format!("[{}, {}]", member(A, "admin"), member(B, "user")))
    );
    assert_eq!(
        under(&mut client, &u1, "get_user_tenant_context(NULL)"),
        None
    );
    // An admin of A sees who is in A, and of them only what concerns A.
    assert_eq!(
        under(&mut client, &u1, &of(ROOT)),
        Some(format!("[{}]", member(A, "super_admin")))
    );
    world.admin().ok(&format!(
        "INSERT INTO organization_members VALUES ('{ROOT}', '{B}', 'owner')"
    ));
    assert_eq!(
        under(&mut client, &u1, &of(ROOT)),
        Some(format!("[{}]", member(A, "super_admin")))
    );
    for stranger in [U2, U3, "55555555-0000-4000-8000-000000000005"] {
        expect_error(
            &refused(&mut client, &u1, &of(stranger)),
            "42501",
            "another user",
        );
    }
    // A member who is no admin, and nobody, see no one else.
    for settings in [
        &[("app.current_user_id", U1), ("app.current_org_id", B)][..],
        &[("app.current_user_id", U2)],
        &[],
        &[("app.current_user_id", U3)],
    ] {
        expect_error(
            &refused(&mut client, settings, &of(ROOT)),
            "42501",
            "another user",
        );
    }
    // A super admin sees all.
    let root = [("app.current_user_id", ROOT), ("app.current_org_id", A)];
    assert_eq!(
        under(&mut client, &root, &of(U2)),
        Some(format!("[{}]", member(B, "user")))
    );
    expect_error(
        &refused(&mut client, &root, "get_user_tenant_context('x')"),
        "22P02",
        "uuid",
    );
}

#[test]
fn the_setter_checks_at_once_and_ends_with_the_transaction() {
    let world = studio();
    let mut client = world.app();
    let set = |user: &str, tenant: &str| format!("SELECT set_tenant_context('{user}', '{tenant}')");
    client.ok("BEGIN");
    client.ok(&set(U1, A));
    assert_eq!(client.text(TENANT).as_deref(), Some(A));
    client.ok("SAVEPOINT s");
    client.ok(&set(U1, B));
    assert_eq!(client.text(TENANT).as_deref(), Some(B));
    client.ok("SELECT clear_tenant_context()");
    assert_eq!(client.text(TENANT), None);
    client.ok("ROLLBACK TO s");
    assert_eq!(client.text(TENANT).as_deref(), Some(A));
    for (user, tenant, code) in [
        (U2, A, "42501"),
        (U1, C, "42501"),
        (U1, "", "42501"),
        ("x", A, "22P02"),
        (U1, "x", "22P02"),
        ("", A, "42501"),
        (U3, "", "42501"),
    ] {
        assert_eq!(
            client.error(&set(user, tenant)).code().code(),
            code,
            "{user} {tenant}"
        );
        client.ok("ROLLBACK TO s");
        assert_eq!(client.text(TENANT).as_deref(), Some(A));
    }
    client.ok(&format!("SELECT set_tenant_context('{U2}')"));
    assert_eq!(
        client.text(TENANT).as_deref(),
        Some(B),
        "an earlier choice is not kept for another user"
    );
    client.ok("COMMIT");
    assert_eq!(client.text(TENANT), None);
    // Over what a transaction set before, and over the other name of the tenant's setting.
    client.ok(&format!(
        "BEGIN; SET app.current_user_id = '{U2}'; SET LOCAL app.current_tenant_id = '{B}'"
    ));
    client.ok(&set(U1, A));
    assert_eq!(client.text(TENANT).as_deref(), Some(A));
    client.ok("COMMIT");
    assert_eq!(client.text(TENANT), None);
    let unbound = World::empty(Server::preloaded());
    expect_error(&unbound.app().error(&set(U1, A)), "55000", "tenancy.bind");
    assert_eq!(unbound.app().text(TENANT), None);
}
