//! Values: malformed, enormous, and many in one statement.

mod context_setup;

use context_setup::{A, B, BODIES, TENANT, World};
use pgrx_test::fixture::{ClientExt, Server, expect_error};

fn tenant_setting(server: &'static Server) -> World {
    let world = World::empty(server);
    world
        .admin()
        .ok("SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id')");
    world.notes("uuid", &[A, A, B]);
    world
}

#[test]
fn a_malformed_value_is_refused_as_it_is_set() {
    let world = tenant_setting(Server::preloaded());
    for value in [
        "not-a-uuid",
        "urn:uuid:aaaaaaaa-0000-4000-8000-000000000001",
        "   ",
        "aaaaaaaa-0000-4000-8000-00000000000",
        "1'' OR true",
    ] {
        // As the very first command of a session.
        let mut client = world.app();
        let error = client.error(&format!("SET app.current_tenant_id = '{value}'"));
        expect_error(&error, "22P02", "app.current_tenant_id");
        assert!(
            error.hint().is_some() && !error.message().contains(value),
            "{}",
            error.message()
        );
        expect_error(
            &client.error(&format!(
                "SELECT set_config('app.current_org_id', '{value}', true)"
            )),
            "22P02",
            "uuid",
        );
        // Nothing of it stays, and the session goes on.
        client.ok(&format!("BEGIN; SET LOCAL app.current_tenant_id = '{A}'"));
        assert_eq!(client.text(BODIES).as_deref(), Some("aa"));
        client.ok("SAVEPOINT s");
        client.error(&format!("SET LOCAL app.current_tenant_id = '{value}'"));
        client.ok("ROLLBACK TO s");
        assert_eq!(client.text(BODIES).as_deref(), Some("aa"));
    }
    for spelling in [A.to_uppercase(), A.replace('-', ""), format!("{{{A}}}")] {
        let mut client = world.app();
        client.ok(&format!(
            "BEGIN; SET LOCAL app.current_tenant_id = '{spelling}'"
        ));
        assert_eq!(client.text(TENANT).as_deref(), Some(A));
    }
}

#[test]
fn a_malformed_value_that_nobody_could_refuse_fails_closed() {
    // Brought by the connection.
    let world = tenant_setting(Server::preloaded());
    let mut client = world
        .db
        .connect_with(&world.app, "-c app.current_tenant_id=nonsense");
    for sql in [TENANT, BODIES, "SELECT is_tenant_admin()"] {
        expect_error(&client.error(sql), "22P02", "app.current_tenant_id");
    }
    client.ok(&format!("BEGIN; SET LOCAL app.current_tenant_id = '{B}'"));
    assert_eq!(client.text(BODIES).as_deref(), Some("b"));
    // Set before the library came: a warning, and unset.
    let world = tenant_setting(Server::plain());
    for set in [
        "SET LOCAL app.current_tenant_id = 'nonsense'",
        "SET app.current_tenant_id = 'nonsense'",
    ] {
        let mut client = world.app();
        client.ok(&format!("BEGIN; {set}"));
        let error = client.error(BODIES);
        assert!(
            ["42501", "22P02"].contains(&error.code().code()),
            "{error:?}"
        );
        client.ok("ROLLBACK");
        assert_eq!(client.text(TENANT), None);
    }
    let mut client = world.app();
    client.ok("SET app.current_tenant_id = 'nonsense'");
    expect_error(&client.error(BODIES), "42501", "no tenant context");
}

#[test]
fn empty_is_unset_and_a_megabyte_is_refused() {
    let world = World::new(Server::preloaded());
    let mut client = world.app();
    client.ok("BEGIN; SET LOCAL app.current_user_id = ''; SET LOCAL app.current_tenant_id = ''");
    assert_eq!(client.text(TENANT), None);
    client.ok("COMMIT");
    let huge = "x".repeat(1 << 20);
    for name in ["app.current_user_id", "app.current_tenant_id"] {
        let error = client.error(&format!("SET {name} = '{huge}'"));
        expect_error(&error, "22P02", name);
        assert!(error.message().len() < 200);
    }
    expect_error(
        &client.error(&format!("SELECT set_tenant_context('{huge}')")),
        "22P02",
        "user identifier",
    );
    let claims = World::bound(
        Server::preloaded(),
        context_setup::MEMBERS,
        "SELECT tenancy.bind(claims_setting => 'request.jwt.claims', membership => 'members')",
    );
    claims
        .admin()
        .ok(&format!("INSERT INTO members VALUES ('u1', '{A}')"));
    let mut client = claims.app();
    client.ok(&format!(
        "BEGIN; SET LOCAL request.jwt.claims = '{{\"sub\":\"u1\",\"padding\":\"{huge}\"}}'"
    ));
    assert_eq!(client.text(BODIES).as_deref(), Some("aa"));
    client.ok("ROLLBACK");
    let deep = format!(
        "{{\"sub\":\"u1\",\"a\":{}1{}}}",
        "[".repeat(50_000),
        "]".repeat(50_000)
    );
    expect_error(
        &client.error(&format!("SET request.jwt.claims = '{deep}'")),
        "22P02",
        "not JSON",
    );
    assert_eq!(client.text(TENANT), None);
}

#[test]
fn claims_are_judged_as_they_are_set() {
    let world = World::bound(
        Server::preloaded(),
        context_setup::MEMBERS,
        "SELECT tenancy.bind(claims_setting => 'request.jwt.claims', user_claim => 'identity.user', membership => 'members')",
    );
    world.admin().ok(&format!(
        "INSERT INTO members VALUES ('u1', '{A}'), ('42', '{B}')"
    ));
    let mut client = world.app();
    for (claims, code, needle) in [
        ("{", "22P02", "not JSON"),
        ("u1", "22P02", "not JSON"),
        ("[]", "22023", "not a JSON object"),
        ("\"u1\"", "22023", "not a JSON object"),
        ("null", "22023", "not a JSON object"),
        (r#"{"identity":{"user":true}}"#, "22023", "identity.user"),
        (r#"{"identity":{"user":["u1"]}}"#, "22023", "identity.user"),
        (
            r#"{"identity":{"user":{"id":"u1"}}}"#,
            "22023",
            "identity.user",
        ),
        (r#"{"identity":{"user":4.2}}"#, "22023", "identity.user"),
        (r#"{"identity":{"user":1e300}}"#, "22023", "identity.user"),
        // Postgres's own text would end before it, and name another user.
        (
            r#"{"identity":{"user":"u1\u0000x"}}"#,
            "22023",
            "identity.user",
        ),
    ] {
        expect_error(
            &client.error(&format!("SET request.jwt.claims = '{claims}'")),
            code,
            needle,
        );
    }
    for (claims, tenant) in [
        (r#"{"identity":{"user":"u1"}}"#, Some(A)),
        (r#"{"identity":{"user":42}}"#, Some(B)),
        (
            r#"{"identity.user":"u1","identity":{"user":"42"}}"#,
            Some(A),
        ),
        (r#"{"identity":{"user":null}}"#, None),
        (r#"{"identity":{"user":""}}"#, None),
        (r#"{"identity":{}}"#, None),
        (r#"{"identity":"u1"}"#, None),
        (r#"{"sub":"u1"}"#, None),
        ("{}", None),
        ("", None),
    ] {
        client.ok(&format!("BEGIN; SET LOCAL request.jwt.claims = '{claims}'"));
        assert_eq!(client.text(TENANT).as_deref(), tenant, "{claims}");
        if tenant.is_none() {
            expect_error(&client.error(BODIES), "42501", "request.jwt.claims");
        }
        client.ok("ROLLBACK");
    }
}

/// Judging a value reads the binding, which must not take the transaction's snapshot.
#[test]
fn an_isolation_level_can_be_set_after_the_context() {
    for server in [Server::preloaded(), Server::plain()] {
        let world = World::new(server);
        world.admin().ok(&format!(
            "UPDATE members SET role = 'admin' WHERE user_id = 'u2' AND tenant_id = '{B}'"
        ));
        let mut client = world.app();
        client.ok(&format!(
            "BEGIN; SET LOCAL app.current_user_id = 'u1'; SET LOCAL app.current_tenant_id = '{A}'"
        ));
        client.ok("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE");
        assert_eq!(
            client.text("SHOW transaction_isolation").as_deref(),
            Some("serializable")
        );
        assert_eq!(client.text(BODIES).as_deref(), Some("aa"));
        client.ok("COMMIT");
    }
}

#[test]
fn values_returned_earlier_in_a_statement_do_not_change() {
    let world = World::new(Server::preloaded());
    let mut client = world.app();
    client.ok("BEGIN; SET LOCAL app.current_user_id = 'u1'");
    for function in [
        "current_tenant_id()",
        "current_tenant_id_text()",
        "tenancy.current_tenant_id_required()",
    ] {
        client.ok("SET LOCAL app.current_user_id = 'u1'");
        let rows = client.rows(&format!(
            "SELECT {function}, set_config('app.current_user_id', 'u2', true), {function}, set_config('app.current_user_id', 'u1', true), {function},
                    set_tenant_context('u2', NULL), {function}, clear_tenant_context(), set_config('app.current_user_id', 'u2', true), {function}"
        ));
        let seen: Vec<_> = [0, 2, 4, 6, 9]
            .iter()
            .map(|&i| rows[0][i].as_deref().unwrap())
            .collect();
        assert_eq!(seen, [A, B, A, B, B], "{function}");
    }
}

#[test]
fn a_thousand_switches_in_one_transaction() {
    let world = World::empty(Server::preloaded());
    world
        .admin()
        .ok("SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id')");
    let mut client = world.app();
    let id = "lpad(to_hex(n % 300), 32, '0')::uuid";
    // In one statement, kept in an array until its end.
    let right = client.int(&format!(
        "SELECT count(*) FROM (
           SELECT array_agg(set_config('app.current_tenant_id', ({id})::text, true)) AS set,
                  array_agg(current_tenant_id()) AS got, array_agg(current_tenant_id_text()) AS got_text
           FROM (SELECT n FROM generate_series(1, 1000) n OFFSET 0) s) a,
         LATERAL unnest(set, got, got_text) WITH ORDINALITY AS u(set, got, got_text, n)
         WHERE u.got = {id} AND u.got_text = u.set AND u.got_text = ({id})::text"
    ));
    assert_eq!(right, 1000);
    client.ok(&format!(
        "DO $$ DECLARE seen uuid[] := '{{}}'; first uuid; now_ uuid; texts text[] := '{{}}'; BEGIN
           FOR n IN 1..1000 LOOP
             PERFORM set_config('app.current_tenant_id', ({id})::text, true);
             now_ := current_tenant_id();
             IF n = 1 THEN first := now_; END IF;
             seen := seen || current_tenant_id(); texts := texts || current_tenant_id_text();
             IF now_ <> {id} THEN RAISE 'wrong at %', n; END IF;
           END LOOP;
           FOR n IN 1..1000 LOOP
             IF seen[n] <> {id} OR texts[n] <> ({id})::text THEN RAISE 'changed at %', n; END IF;
           END LOOP;
           IF first <> lpad('1', 32, '0')::uuid THEN RAISE 'first changed'; END IF;
         END $$"
    ));
    // Rows that a sort holds on to while the tenant changes for each of them.
    let right = client.int(&format!(
        "SELECT count(*) FROM (
           SELECT n, set, got FROM (
             SELECT n, set_config('app.current_tenant_id', ({id})::text, true) AS set, current_tenant_id() AS got
             FROM generate_series(1, 1000) n OFFSET 0) s ORDER BY n DESC OFFSET 0) r
         WHERE got = {id} AND set = ({id})::text"
    ));
    assert_eq!(right, 1000);
    client.ok("BEGIN");
    for n in 0..1000 {
        let tenant = if n % 2 == 0 { A } else { B };
        client.ok(&format!("SET LOCAL app.current_tenant_id = '{tenant}'"));
        assert_eq!(client.text(TENANT).as_deref(), Some(tenant));
    }
}

/// Else whoever sets them would decide which of his memberships count.
#[test]
fn settings_of_the_session_do_not_change_what_an_expression_means() {
    for (active, until, set) in [
        (
            "until >= current_date",
            "(now() AT TIME ZONE 'UTC')::date - 1",
            "SET TimeZone = '<+48>48'",
        ),
        // The literal is read with the session's setting as well.
        (
            "until >= '02-01-2024'",
            "'2024-01-15'::date",
            "SET DateStyle = 'ISO, DMY'",
        ),
        (
            "until::text LIKE '2025%'",
            "'2024-12-31 23:00+00'::timestamptz",
            "SET TimeZone = 'Asia/Tokyo'",
        ),
        (
            "until = '2024-01-01 09:00'",
            "'2024-01-01 00:00+00'::timestamptz",
            "SET TimeZone = 'Asia/Tokyo'",
        ),
    ] {
        let tables = format!(
            "{} ALTER TABLE members ADD until {};",
            context_setup::MEMBERS,
            if until.ends_with("timestamptz") {
                "timestamptz"
            } else {
                "date"
            }
        );
        let bind = format!(
            "SELECT tenancy.bind(membership => 'members', membership_active => $x${active}$x$)"
        );
        let world = World::bound(Server::preloaded(), &tables, &bind);
        let mut admin = world.admin();
        admin.ok(&format!(
            "INSERT INTO members (user_id, tenant_id, until) VALUES ('u1', '{A}', {until})"
        ));
        let mut client = world.app_as("u1");
        client.ok(set);
        assert_eq!(client.text(TENANT), None, "{active}");
        // Read again under the session's settings, after what it depends on changed.
        admin.ok("ALTER TABLE members ADD other int");
        assert_eq!(client.text(TENANT), None, "{active}");
        assert_eq!(world.app_as("u1").text(TENANT), None, "{active}");
    }
}
