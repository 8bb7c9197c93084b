//! `tenancy.test_isolation()` through views, materialized views and functions: what cannot be shown by taking
//! the other tenant's rows away is found by what is there, or told, and never passes.

mod isolation_support;
mod policy_support;

use isolation_support::{FAILED, Planted};
use pgrx_test::fixture::ClientExt;
use policy_support::{A, B, Stage};

/// Rows of the other tenant that are more than a comparison takes away.
const MANY: &str =
    "INSERT INTO app.notes SELECT n, '{B}', 'many' FROM generate_series(10, 2000) AS n;";

#[test]
fn what_reads_a_materialized_view() {
    let planted = Planted::after("");
    planted.superuser(
        "CREATE MATERIALIZED VIEW app.kept AS SELECT * FROM app.notes;
         CREATE VIEW app.over AS SELECT body FROM app.kept;
         CREATE VIEW app.bounded AS SELECT body FROM app.kept WHERE tenant_id = public.current_tenant_id();
         CREATE FUNCTION app.of_kept() RETURNS SETOF text LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT body FROM app.kept';
         GRANT SELECT ON app.over, app.bounded TO {app};",
    );
    planted.leaks(&["app.over: select", "app.of_kept(): call"]);
    assert_eq!(planted.results("app.bounded"), ["select nothing"]);
    // Nothing says whose its rows are.
    planted.superuser(
        "CREATE MATERIALIZED VIEW app.bodies AS SELECT body FROM app.notes;
         CREATE VIEW app.over_bodies AS SELECT body FROM app.bodies; GRANT SELECT ON app.over_bodies TO {app};
         CREATE FUNCTION app.nothing_of_it() RETURNS int LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT 1'",
    );
    assert_eq!(planted.results("app.over_bodies"), ["select not attacked"]);
    assert_eq!(
        planted.results("app.nothing_of_it()"),
        ["call not attacked"]
    );
}

#[test]
fn what_reads_a_foreign_table() {
    let planted = Planted::after("");
    // Not every server that is to be had comes with it: what its tables show is tested where it is there.
    let is_there = "SELECT count(*) FROM pg_available_extensions WHERE name = 'postgres_fdw'";
    let is_there = planted.stage.superuser().int(is_there) == 1;
    planted.superuser(if is_there {
        "CREATE EXTENSION postgres_fdw"
    } else {
        "CREATE FOREIGN DATA WRAPPER postgres_fdw"
    });
    planted.superuser(
        "CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw;
         CREATE FOREIGN TABLE app.far (tenant_id uuid, body text) SERVER elsewhere;
         CREATE VIEW app.over AS SELECT n.body FROM app.notes AS n WHERE n.id = 1 AND n.tenant_id = '{A}' UNION ALL SELECT body FROM app.far WHERE false;
         CREATE VIEW app.far_only AS SELECT body FROM app.far WHERE false;
         CREATE FUNCTION app.of_far() RETURNS SETOF text LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT body FROM app.far WHERE false';
         GRANT SELECT ON app.over, app.far_only TO {app};",
    );
    if is_there {
        assert_eq!(
            planted.told(FAILED),
            [
                "app.far_only: select",
                "app.over: select",
                "app.of_far(): call"
            ]
        );
        planted.superuser("ALTER FOREIGN DATA WRAPPER postgres_fdw NO HANDLER");
    }
    assert_eq!(planted.told("result = 'LEAK'"), [""; 0]);
    // The catalog itself fails where a wrapper has no code.
    assert!(planted.told(FAILED).contains(&"views: all".to_owned()));
}

#[test]
fn a_view_that_shows_the_same_without_some_rows() {
    let planted = Planted::after("");
    planted.superuser(
        "CREATE VIEW app.distinct_bodies AS SELECT DISTINCT tenant_id FROM app.notes;
         CREATE VIEW app.any_row AS SELECT EXISTS (SELECT FROM app.notes WHERE tenant_id <> '{A}');
         GRANT SELECT ON app.distinct_bodies, app.any_row TO {app};",
    );
    planted.leaks(&["app.any_row: select", "app.distinct_bodies: select"]);
    planted.superuser(MANY);
    assert_eq!(
        planted.told("result = 'not attacked'"),
        ["app.any_row: select", "app.distinct_bodies: select"]
    );
}

/// Rows that another transaction holds stay, while those of another table go.
#[test]
fn a_view_over_rows_that_could_not_be_taken_away() {
    let planted = Planted::after("");
    planted.superuser(
        "CREATE TABLE app.beside (id int PRIMARY KEY, tenant_id uuid NOT NULL); INSERT INTO app.beside VALUES (1, '{A}'), (2, '{B}');
         CREATE VIEW app.any_row AS SELECT EXISTS (SELECT FROM app.notes WHERE tenant_id <> '{A}');
         GRANT SELECT ON app.any_row TO {app};",
    );
    assert_eq!(planted.results("app.any_row"), ["select LEAK"]);
    let mut other = planted.stage.superuser();
    other.ok("BEGIN; SELECT FROM app.notes FOR UPDATE");
    let mut superuser = planted.stage.superuser();
    superuser.ok("SET lock_timeout = '100ms'");
    let found = superuser.texts(&planted.filled(
        "SELECT result FROM tenancy.test_isolation('{app}') WHERE relation = 'app.any_row'",
    ));
    assert_eq!(found, ["not attacked"]);
}

#[test]
fn partitions_below_a_view_are_no_alarm() {
    let planted = Planted::after(
        "CREATE TABLE app.events (tenant_id uuid NOT NULL, at date NOT NULL, PRIMARY KEY (tenant_id, at)) PARTITION BY RANGE (at);
         CREATE TABLE app.events_old PARTITION OF app.events FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
         CREATE TABLE app.events_new PARTITION OF app.events FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
         REVOKE ALL ON app.events_old, app.events_new FROM {app};
         INSERT INTO app.events VALUES ('{A}', '2020-02-02'), ('{B}', '2020-02-03');
         SELECT tenancy.protect_table('app.events', mode => 'enforce');
         CREATE VIEW app.own_events WITH (security_invoker) AS SELECT * FROM app.events;",
    );
    assert_eq!(planted.told(FAILED), [""; 0]);
    assert!(
        planted
            .results("app.own_events")
            .contains(&"select nothing".to_owned())
    );
    planted.superuser(
        "CREATE VIEW app.any_event AS SELECT EXISTS (SELECT FROM app.events WHERE tenant_id <> '{A}'); GRANT SELECT ON app.any_event TO {app}",
    );
    assert_eq!(planted.told(FAILED), ["app.any_event: select"]);
    assert_eq!(planted.results("app.any_event"), ["select LEAK"]);
}

#[test]
fn functions_that_take_the_key_of_a_row() {
    let planted = Planted::after(
        "CREATE TABLE app.days (day date PRIMARY KEY, tenant_id uuid NOT NULL, done boolean NOT NULL);
         INSERT INTO app.days VALUES ('2020-01-01', '{A}', true), ('2020-01-02', '{B}', true);
         SELECT tenancy.protect_table('app.days', mode => 'enforce');",
    );
    planted.superuser(
        "CREATE FUNCTION app.by_id(n int) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT body FROM app.notes WHERE id = n';
         CREATE FUNCTION app.by_two(t uuid, n int) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT body FROM app.notes WHERE id = n AND tenant_id = t';
         CREATE FUNCTION app.by_day(d date) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT done FROM app.days WHERE day = d';
         CREATE FUNCTION app.by_words(w text) RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER AS $$SELECT count(*) FROM app.notes WHERE body LIKE w || '%'$$;
         CREATE FUNCTION app.everywhere(yes boolean DEFAULT false) RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER
             AS 'SELECT count(*) FROM app.notes WHERE yes OR tenant_id = public.current_tenant_id()';
         CREATE FUNCTION app.unless_null(t uuid) RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER
             AS 'SELECT count(*) FROM app.notes WHERE tenant_id = coalesce(public.current_tenant_id(), t) OR t IS NULL';
         CREATE FUNCTION app.own_by_id(n int) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
             AS 'SELECT body FROM app.notes WHERE id = n AND tenant_id = public.current_tenant_id()';
         CREATE FUNCTION app.by_secret(s text) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT body FROM app.notes WHERE md5(body) = md5(s || 1)';
         CREATE FUNCTION app.raises(n int) RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER AS
             $$ BEGIN IF n > 5 THEN RETURN (SELECT body FROM app.notes WHERE id = n); END IF; RAISE insufficient_privilege; END $$;
         CREATE FUNCTION app.places(VARIADIC p point[]) RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT count(*) FROM app.notes';",
    );
    let found = planted.told_of("relation || ' ' || result", "attack = 'call' ORDER BY 1");
    assert_eq!(
        found,
        [
            "app.by_day(date) LEAK",
            "app.by_id(integer) LEAK",
            "app.by_secret(text) not attacked",
            "app.by_two(uuid,integer) LEAK",
            "app.by_words(text) LEAK",
            "app.everywhere(boolean) LEAK",
            "app.own_by_id(integer) nothing",
            "app.places(point[]) not attacked",
            "app.raises(integer) not attacked",
            "app.unless_null(uuid) LEAK",
        ]
    );
}

#[test]
fn procedures_and_cursors() {
    let planted = Planted::after("");
    planted.superuser(
        "CREATE PROCEDURE app.empties(n int) LANGUAGE sql SECURITY DEFINER AS 'DELETE FROM app.notes WHERE id = n';
         CREATE PROCEDURE app.harmless(n int) LANGUAGE sql AS 'DELETE FROM app.notes WHERE id = n';
         CREATE FUNCTION app.opens() RETURNS refcursor LANGUAGE plpgsql STABLE SECURITY DEFINER AS
             $$ DECLARE c refcursor := 'always'; BEGIN OPEN c FOR SELECT body FROM app.notes; RETURN c; END $$;
         CREATE FUNCTION app.opens_more(OUT n int, OUT c refcursor) LANGUAGE plpgsql STABLE SECURITY DEFINER AS
             $$ BEGIN c := 'more'; n := 1; OPEN c FOR SELECT body FROM app.notes; END $$;",
    );
    assert_eq!(
        planted.told_of("relation || ' ' || result", "attack = 'call' ORDER BY 1"),
        [
            "app.empties(integer) not attacked",
            "app.opens() not attacked",
            "app.opens_more() not attacked"
        ]
    );
}

/// It copies what it must not show to where its caller may read.
#[test]
fn a_function_that_copies_rows_of_another_tenant() {
    let planted = Planted::after("");
    planted.superuser(
        "CREATE FUNCTION app.copies() RETURNS void LANGUAGE sql VOLATILE SECURITY DEFINER
             AS $$UPDATE app.notes AS n SET body = (SELECT coalesce(string_agg(o.body, ',' ORDER BY o.id), '') FROM app.notes AS o WHERE o.id > 1) WHERE n.id = 1$$;
         CREATE FUNCTION app.wipes() RETURNS void LANGUAGE sql VOLATILE SECURITY DEFINER
             AS $$UPDATE app.notes SET body = '' WHERE id = 2$$;
         CREATE FUNCTION app.renames(n int, t text) RETURNS void LANGUAGE sql VOLATILE SECURITY DEFINER
             AS $$UPDATE app.notes SET body = t WHERE id = n AND tenant_id = public.current_tenant_id()$$",
    );
    let found = planted.stage.superuser().texts(&planted.filled(
        "SELECT relation || ' ' || result FROM tenancy.test_isolation('{app}', volatile_functions => true) WHERE attack = 'call' ORDER BY 1",
    ));
    assert_eq!(
        found,
        [
            "app.copies() LEAK",
            "app.renames(integer,text) nothing",
            "app.wipes() LEAK"
        ]
    );
}

/// Numbers are as good an identifier as any, where a column is called like the tenant's.
#[test]
fn materialized_views_of_tenants_with_short_names() {
    for (kind, a, b) in [
        ("bigint", "1", "2"),
        ("integer", "1", "2"),
        ("text", "'a'", "'b'"),
    ] {
        let stage = Stage::with_type(kind);
        stage.owner().ok(&format!(
            "CREATE TABLE app.notes (id int PRIMARY KEY, tenant_id {kind} NOT NULL, body text NOT NULL);
             INSERT INTO app.notes VALUES (1, {a}, 'of a'), (2, {b}, 'of b')"
        ));
        stage.protect("app.notes", "{}");
        // What it holds was put there when it was asked by somebody else.
        stage.superuser().ok(&format!(
            "SET app.current_tenant_id = {b};
             CREATE VIEW app.asked AS SELECT * FROM app.notes WHERE tenant_id = current_setting('app.current_tenant_id')::{kind};
             CREATE MATERIALIZED VIEW app.kept AS SELECT id, tenant_id, body FROM app.asked;
             CREATE MATERIALIZED VIEW app.bodies AS SELECT body FROM app.asked;
             CREATE MATERIALIZED VIEW app.own AS SELECT * FROM app.notes WHERE tenant_id = {a};
             CREATE MATERIALIZED VIEW app.own_bodies AS SELECT body FROM app.notes WHERE tenant_id = {a};
             GRANT SELECT ON app.kept, app.bodies, app.own, app.own_bodies TO {}",
            stage.app
        ));
        let found = stage.superuser().texts(&format!(
            "SELECT relation || ' ' || attack || ' ' || result FROM tenancy.test_isolation('{}') WHERE relation <> 'app.notes'",
            stage.app
        ));
        let of = |result: &str| -> Vec<&String> {
            found.iter().filter(|line| line.ends_with(result)).collect()
        };
        assert_eq!(of("LEAK"), ["app.kept select LEAK"], "{kind}: {found:?}");
        assert_eq!(
            of("not attacked"),
            ["app.bodies select not attacked"],
            "{kind}: {found:?}"
        );
        assert_eq!(of("nothing").len(), 6, "{kind}: {found:?}");
    }
}

/// Who may not read the materialized view reads it through somebody else's view, or function.
#[test]
fn a_function_that_reads_a_materialized_view_through_another() {
    let planted = Planted::after("");
    let gate = planted.stage.database.role("gate");
    planted.superuser(&format!(
        "CREATE MATERIALIZED VIEW app.bodies AS SELECT body FROM app.notes;
         CREATE VIEW app.over AS SELECT body FROM app.bodies; GRANT SELECT ON app.over TO {gate}; GRANT USAGE ON SCHEMA app TO {gate};
         CREATE MATERIALIZED VIEW app.calendar AS SELECT 1 AS day;
         CREATE FUNCTION app.reads() RETURNS SETOF text LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT body FROM app.over';
         ALTER FUNCTION app.reads() OWNER TO {gate}"
    ));
    assert_eq!(planted.results("app.reads()"), ["call not attacked"]);
    // One that shows nothing of tenants is no hindrance.
    planted.superuser("DROP FUNCTION app.reads(); DROP VIEW app.over; DROP MATERIALIZED VIEW app.bodies;
         CREATE FUNCTION app.day() RETURNS SETOF int LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT day FROM app.calendar'");
    assert_eq!(planted.results("app.day()"), ["call nothing"]);
}

/// What fails only because it is tested has not been tested.
#[test]
fn calls_that_fail_for_the_test_are_no_pass() {
    let planted = Planted::after("");
    planted.superuser(
        "CREATE FUNCTION app.switches(n int) RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER AS
             $$ BEGIN IF n = 2 THEN PERFORM set_config('role', 'postgres', true); END IF;
                RETURN (SELECT body FROM app.notes WHERE id = n); END $$;",
    );
    assert_eq!(
        planted.results("app.switches(integer)"),
        ["call not attacked"]
    );
}

/// What policies ask all day: a member is told of himself, and only of himself.
#[test]
fn functions_that_ask_for_memberships() {
    let stage = Stage::unbound();
    stage.superuser().ok(&format!(
        "CREATE SCHEMA people; CREATE TABLE people.members (user_id text, tenant_id uuid, role text);
         INSERT INTO people.members VALUES ('cy', '{A}', 'x'), ('ann', '{A}', 'y'), ('bob', '{B}', 'z'), ('amy', '{A}', 'x');
         SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id', user_setting => 'app.current_user_id', membership => 'people.members')"
    ));
    stage.items();
    stage.protect("app.items", "{}");
    stage.superuser().ok(
        "CREATE FUNCTION app.is_member(t uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER AS
             $$SELECT EXISTS (SELECT FROM people.members WHERE tenant_id = t AND user_id = current_setting('app.current_user_id', true))$$;
         CREATE FUNCTION app.role_of(u text) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS
             $$SELECT role FROM people.members WHERE user_id = u$$;
         CREATE FUNCTION app.how_many() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER AS
             $$SELECT count(*) FROM people.members WHERE user_id = current_setting('app.current_user_id', true)$$;",
    );
    let found = stage.superuser().texts(&format!(
        "SELECT relation || ' ' || result FROM tenancy.test_isolation('{}') WHERE attack = 'call' ORDER BY 1",
        stage.app
    ));
    assert_eq!(
        found,
        [
            "app.how_many() nothing",
            "app.is_member(uuid) nothing",
            "app.role_of(text) LEAK"
        ]
    );
}
