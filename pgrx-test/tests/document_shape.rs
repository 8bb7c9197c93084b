//! What a document holds: the agents system's, exactly; and values of every kind.

mod document_setup;

use document_setup::{A, ADAM, ANN, B, BOB, OWN, ROOT, World, at};
use pgrx_test::fixture::{ClientExt, Server};

#[test]
fn the_agents_document_is_exactly_what_its_queries_give() {
    let world = World::new(Server::preloaded());
    for user in [ANN, ADAM, BOB, ROOT] {
        let by_hand = world.by_hand(user);
        assert!(by_hand.as_ref().is_some_and(|text| text.len() > 1500));
        let mut session = world.app_as(user);
        for _ in 0..3 {
            assert_eq!(session.text(OWN), by_hand);
        }
    }
}

#[test]
fn without_a_context_registered_keys_are_null_or_empty() {
    let world = World::new(Server::preloaded());
    let empty = |user: &str| {
        format!(
            r#"{{"apps": [], "role": null, "user": {user}, "config": null, "tenant": null, "memberships": [], "organization": null, "feature_flags": []}}"#
        )
    };
    assert_eq!(world.app().text(OWN), Some(empty("null")));
    world.admin().ok(&format!(
        "UPDATE organizations SET is_active = false WHERE id = '{A}'"
    ));
    // The user of a suspended tenant is who the claims say, and nothing is read for him.
    assert_eq!(
        world.app_as(ANN).text(OWN),
        Some(empty(&format!(r#"{{"id": "{ANN}"}}"#)))
    );
    // Where nothing is bound any more, nothing is read either.
    world.admin().ok("SELECT tenancy.unbind()");
    assert_eq!(world.app_as(BOB).text(OWN), Some(empty("null")));
}

#[test]
fn a_user_with_several_tenants_and_no_choice_has_no_rows() {
    let world = World::bound(Server::preloaded());
    world.owner().ok(&format!(
        "CREATE TABLE members (user_id text, tenant_id uuid, PRIMARY KEY (user_id, tenant_id));
         INSERT INTO members VALUES ('x', '{A}'), ('x', '{B}');
         SELECT tenancy.bind(membership => 'members', tenant_setting => 'app.current_tenant_id');
         SELECT tenancy.register_context('apps', 'tenant_apps', 'array')"
    ));
    let mut app = world
        .db
        .connect_with(&world.app, "-c app.current_user_id=x");
    assert_eq!(app.text(&at("{apps}")).as_deref(), Some("[]"));
    assert_eq!(
        app.int("SELECT jsonb_array_length(get_user_tenant_context() -> 'memberships')"),
        2
    );
    for (tenant, name) in [(A, "Alpha"), (B, "Beta"), (A, "Alpha")] {
        app.ok(&format!(
            "BEGIN; SET LOCAL app.current_tenant_id = '{tenant}'"
        ));
        let names =
            "SELECT string_agg(DISTINCT split_part(a ->> 'app_name', ' ', 1), ','), count(*)
                     FROM jsonb_array_elements(get_user_tenant_context() -> 'apps') a";
        assert_eq!(
            app.rows(names),
            [[Some(name.to_owned()), Some("20".to_owned())]]
        );
        app.ok("COMMIT");
    }
}

/// Values that a session's settings spell differently, and types that are not Postgres's own.
const KINDS: &str = "
    CREATE DOMAIN code AS text CHECK (value <> '');
    CREATE TYPE pair AS (a integer, b text);
    CREATE TYPE mood AS ENUM ('sad', 'it''s \"fine\"');
    CREATE TABLE kinds (tenant_id uuid PRIMARY KEY, at timestamptz, day date, wait interval, f8 float8, bytes bytea, n numeric,
        code code, mood mood, moods mood[], pair pair, tags text[], doc json, nothing text, \"Odd \"\"Name\" text, long text);
    INSERT INTO kinds VALUES ('aaaaaaaa-0000-4000-8000-000000000001', '2026-01-02 03:04:05+06', '2026-01-02', '1 year 2 days', 0.1::float8 + 0.2, '\\xff00', 1.50,
        'c', 'it''s \"fine\"', '{sad}', '(1,x)', '{a,NULL}', '{\"b\": 1, \"a\": [1, {}]}', NULL, 'odd', repeat('long', 5000));";

#[test]
fn values_are_spelled_alike_whatever_the_session_sets() {
    let world = World::bound(Server::preloaded());
    world.owner().ok(KINDS);
    world
        .owner()
        .ok("SELECT tenancy.register_context('kinds', 'kinds')");
    let expected = format!(
        r#"{{"at": "2026-01-01T21:04:05+00:00", "f8": 0.30000000000000004, "day": "2026-01-02", "doc": {{"a": [1, {{}}], "b": 1}}, "code": "c", "long": "{}", "mood": "it's \"fine\"", "pair": "(1,x)", "tags": ["a", null], "wait": "1 year 2 days", "bytes": "\\xff00", "moods": "{{sad}}", "nothing": null, "Odd \"Name": "odd", "n": 1.50, "tenant_id": "{A}"}}"#,
        "long".repeat(5000)
    );
    for options in [
        "SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'; SET IntervalStyle = 'iso_8601'; SET extra_float_digits = -5; SET bytea_output = 'escape'",
        "SET TimeZone = 'UTC'",
    ] {
        let mut app = world.app_as(ANN);
        app.ok(options);
        let same = format!("SELECT (get_user_tenant_context() -> 'kinds') = $x${expected}$x$");
        assert_eq!(
            app.text(&same).as_deref(),
            Some("t"),
            "{options}: {:?}",
            app.text("SELECT (get_user_tenant_context() -> 'kinds') - 'long'")
        );
        // What was pinned is as it was.
        if options.contains("Tokyo") {
            assert_eq!(app.text("SHOW TimeZone").as_deref(), Some("Asia/Tokyo"));
            assert_eq!(app.text("SHOW bytea_output").as_deref(), Some("escape"));
        }
    }
}

/// The layout is made here and read by Postgres: every key is found, and Postgres makes the same.
#[test]
fn a_document_of_many_keys_is_as_postgres_would_make_it() {
    let world = World::bound(Server::preloaded());
    let mut owner = world.owner();
    for n in 0..70 {
        let key = format!("{}{n}", ["k", "key-", "a long key "][n % 3]);
        let (source, shape) = [
            ("tenant_configurations", "object"),
            ("tenant_apps", "array"),
        ][n % 2];
        owner.ok(&format!(
            "SELECT tenancy.register_context('{key}', '{source}', '{shape}', visible => '{}')",
            ["true", "false"][n % 5 / 4]
        ));
    }
    let mut app = world.app_as(ANN);
    let same = "SELECT count(*) FILTER (WHERE copy -> key IS NOT DISTINCT FROM doc -> key AND doc ? key), count(*),
            bool_and(doc = copy), min(pg_column_size(doc)) = min(pg_column_size(copy)), min(hashtextextended(doc::text, 0)) = min(hashtextextended(copy::text, 0))
        FROM (SELECT doc, doc::text::jsonb AS copy FROM get_user_tenant_context() doc) d, jsonb_object_keys(copy) key";
    for _ in 0..2 {
        let row: Vec<_> = app.rows(same)[0]
            .iter()
            .map(|v| v.clone().unwrap_or_default())
            .collect();
        assert_eq!(row, ["74", "74", "t", "t", "t"]);
    }
}

#[test]
fn a_table_with_very_many_columns() {
    let world = World::bound(Server::preloaded());
    let columns: Vec<_> = (0..200)
        .map(|n| format!("c{n} integer DEFAULT {n}"))
        .collect();
    world.owner().ok(&format!(
        "CREATE TABLE wide (tenant_id uuid, {}); INSERT INTO wide (tenant_id) VALUES ('{A}');
         SELECT tenancy.register_context('wide', 'wide')",
        columns.join(", ")
    ));
    let mut app = world.app_as(ANN);
    assert_eq!(app.text(&at("{wide,c137}")).as_deref(), Some("137"));
    assert_eq!(
        app.int("SELECT count(*) FROM jsonb_object_keys(get_user_tenant_context() -> 'wide')"),
        201
    );
}

#[test]
fn a_column_that_is_added_later_is_not_shown_by_itself() {
    let world = World::bound(Server::preloaded());
    let register = "SELECT tenancy.register_context('config', 'tenant_configurations')";
    world.owner().ok(register);
    let mut app = world.app_as(ANN);
    assert_eq!(app.text(&at("{config,secret}")), None);
    world
        .owner()
        .ok("ALTER TABLE tenant_configurations ADD secret text DEFAULT 'hush'");
    assert_eq!(app.text(&at("{config,secret}")), None);
    assert_eq!(
        app.text(&at("{config,ui_config,theme}")).as_deref(),
        Some("dark")
    );
    world.owner().ok(register);
    assert_eq!(app.text(&at("{config,secret}")).as_deref(), Some("hush"));
}

#[test]
fn users_and_tenants_of_other_types() {
    for (user_type, tenant_type, user, tenant) in [
        ("bigint", "integer", "7", "42"),
        ("integer", "bigint", "7", "42"),
        ("text", "text", "o'x", "t \"1\""),
        ("varchar(50)", "varchar(50)", "u", "t"),
    ] {
        let world = World::bound(Server::preloaded());
        let bound = tenant_type
            .trim_start_matches("var")
            .replace("char(50)", "text");
        world.owner().ok(&format!(
            "CREATE TABLE m (u {user_type} PRIMARY KEY, t {tenant_type});
             CREATE TABLE s (t {tenant_type} PRIMARY KEY, v integer); CREATE TABLE p (u {user_type} PRIMARY KEY, v integer);
             INSERT INTO m VALUES ($x${user}$x$, $x${tenant}$x$); INSERT INTO s VALUES ($x${tenant}$x$, 1); INSERT INTO p VALUES ($x${user}$x$, 2);
             SELECT tenancy.bind(tenant_type => '{bound}', membership => 'm', membership_user => 'u', membership_tenant => 't');
             SELECT tenancy.register_context('tenant', 's', tenant_column => 't', columns => '{{v}}');
             SELECT tenancy.register_context('user', 'p', user_column => 'u', columns => '{{v}}')"
        ));
        let mut app = world.app();
        app.ok(&format!(
            "BEGIN; SELECT set_config('app.current_user_id', $x${user}$x$, true)"
        ));
        assert_eq!(app.text(&at("{tenant,id}")).as_deref(), Some(tenant));
        assert_eq!(app.text(&at("{tenant,v}")).as_deref(), Some("1"));
        assert_eq!(app.text(&at("{user,id}")).as_deref(), Some(user));
        assert_eq!(app.text(&at("{user,v}")).as_deref(), Some("2"));
    }
}
