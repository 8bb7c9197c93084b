//! Registrations and kept documents over time: replaced, taken away, dumped and restored, replayed on a
//! standby, and bounded.

mod document_setup;

use std::process::Command;

use document_setup::{A, ANN, BOB, OWN, World, at};
use pgrx_test::exec;
use pgrx_test::fixture::{ClientExt, Database, Server, anonymous_memory};
use pgrx_test::standby;

const TRIGGERS: &str = "SELECT t.tgrelid::regclass, t.tgname, t.tgenabled, t.tgtype,
        EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_trigger'::regclass AND d.objid = t.oid AND d.deptype = 'x')
    FROM pg_trigger t WHERE t.tgname LIKE 'tenancy_document%' ORDER BY t.tgrelid::regclass::text, 2";
const REGISTERED: &str =
    "SELECT to_jsonb(r) - 'registered_at' FROM tenancy.registered_contexts r ORDER BY key";

fn state(database: &Database) -> Option<String> {
    database
        .superuser()
        .text("SELECT state FROM tenancy.status() WHERE feature = 'document'")
}

#[test]
fn a_key_is_replaced_and_taken_away_in_every_session() {
    let world = World::new(Server::preloaded());
    let mut ann = world.app_as(ANN);
    ann.ok("BEGIN");
    assert_eq!(
        ann.text(&at("{apps,0,app_name}")).as_deref(),
        Some("Alpha 19")
    );
    world.owner().ok("SELECT tenancy.register_context('apps', 'tenant_apps', 'array', order_by => 'app_key', columns => '{app_name}')");
    assert_eq!(
        ann.text(&at("{apps,0,app_name}")).as_deref(),
        Some("Alpha 1")
    );
    // Taking triggers away waits for whoever reads the table.
    ann.ok("COMMIT");
    world
        .owner()
        .ok("SELECT tenancy.register_context('apps', 'tenant_configurations')");
    assert_eq!(
        ann.text(&at("{apps,ui_config,theme}")).as_deref(),
        Some("dark")
    );
    world
        .owner()
        .ok("SELECT tenancy.unregister_context('apps')");
    assert_eq!(
        ann.text("SELECT get_user_tenant_context() ? 'apps'")
            .as_deref(),
        Some("f")
    );
    // Triggers go with the last key that needs them.
    let of = |table: &str| {
        format!(
            "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'tenancy_document%' AND tgrelid = '{table}'::regclass"
        )
    };
    assert_eq!(world.owner().int(&of("tenant_apps")), 0);
    assert_eq!(world.owner().int(&of("tenant_configurations")), 2);
    world
        .owner()
        .ok("SELECT tenancy.unregister_context('config')");
    assert_eq!(world.owner().int(&of("tenant_configurations")), 0);
    // One that is rolled back was never there.
    world
        .owner()
        .ok("BEGIN; SELECT tenancy.register_context('apps', 'tenant_apps'); ROLLBACK");
    assert_eq!(
        ann.text("SELECT get_user_tenant_context() ? 'apps'")
            .as_deref(),
        Some("f")
    );
    world.admin().ok("DROP EXTENSION pg_tenancy CASCADE");
    let left = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'tenancy%'";
    assert_eq!(world.owner().int(left), 0, "nothing is left on the sources");
}

#[test]
fn what_is_registered_can_be_read() {
    let world = World::new(Server::preloaded());
    let mut app = world.app();
    assert_eq!(
        app.rows("SELECT key, source, shape, joined, tenant_column, user_column, global, joined_tenant_column FROM tenancy.registered_contexts ORDER BY key")
            .iter()
            .map(|row| row.iter().map(|v| v.as_deref().unwrap_or("-")).collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>(),
        [
            "apps public.tenant_apps array - tenant_id - f -",
            "config public.tenant_configurations object - tenant_id - f -",
            "feature_flags public.feature_flags array public.tenant_feature_flags - - t tenant_id",
            "organization public.organizations object - id - f -",
            "user public.users object public.profiles - id f -",
        ]
    );
}

#[test]
fn a_dump_restores_the_document() {
    let world = World::new(Server::preloaded());
    let expected = [ANN, BOB].map(|user| world.by_hand(user));
    for disable_triggers in [false, true] {
        let target = Database::empty(Server::preloaded());
        let file =
            std::env::temp_dir().join(format!("pg_tenancy-{}-{}", std::process::id(), target.name));
        let server = world.db.server();
        let mut dump = server.command("pg_dump");
        exec::run(dump.args(["-Fc", "-d", &world.db.name, "-f"]).arg(&file)).unwrap();
        let restore = |arguments: &[&str]| {
            let mut command: Command = server.command("pg_restore");
            exec::run(
                command
                    .args(["-e", "-d", &target.name])
                    .args(arguments)
                    .arg(&file),
            )
            .unwrap();
        };
        if disable_triggers {
            restore(&["--section=pre-data"]);
            restore(&["--section=post-data"]);
            restore(&["--section=data", "--disable-triggers"]);
        } else {
            restore(&[]);
        }
        let _ = std::fs::remove_file(&file);
        assert_eq!(
            target.superuser().rows(REGISTERED),
            world.admin().rows(REGISTERED)
        );
        let documents = |expected: &[Option<String>; 2]| {
            for (user, expected) in [ANN, BOB].into_iter().zip(expected) {
                let claims = format!("-c request.jwt.claims={{\"sub\":\"{user}\"}}");
                let mut app = target.connect_with(&world.app, &claims);
                assert_eq!(app.text(OWN), *expected, "{disable_triggers}");
                target
                    .connect(&world.owner)
                    .ok("UPDATE tenant_configurations SET limits = '{\"a\": 1}'");
                assert_eq!(app.text(&at("{config,limits,a}")).as_deref(), Some("1"));
                target
                    .connect(&world.owner)
                    .ok("UPDATE tenant_configurations SET limits = '{}'");
                assert_eq!(app.text(OWN), *expected);
            }
        };
        documents(&expected);
        if disable_triggers {
            assert_eq!(state(&target).as_deref(), Some("off"));
            target.connect(&world.owner).ok(document_setup::BIND);
            target.connect(&world.owner).ok(document_setup::REGISTER);
        }
        assert_eq!(state(&target).as_deref(), Some("on"));
        assert_eq!(
            target.superuser().rows(TRIGGERS),
            world.admin().rows(TRIGGERS)
        );
        documents(&expected);
    }
}

#[test]
fn a_standby_sees_a_replayed_change_at_once() {
    let primary = Server::preloaded();
    let world = World::new(primary);
    let standby = standby::create(primary, "document").unwrap();
    standby::catch_up(primary, standby.server()).unwrap();
    let mut sessions = [
        "",
        "BEGIN READ ONLY",
        "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY",
    ]
    .map(|begin| {
        let mut config = standby.server().config(&world.db.name, &world.app);
        config.options(&format!("-c request.jwt.claims={{\"sub\":\"{ANN}\"}}"));
        let mut client = config.connect(postgres::NoTls).unwrap();
        let document = client
            .prepare("SELECT get_user_tenant_context()::text")
            .unwrap();
        client.ok(begin);
        (client, document)
    });
    for sql in [
        "SELECT 1",
        "UPDATE tenant_apps SET app_name = 'replayed'",
        "UPDATE profiles SET full_name = 'replayed'",
        "DELETE FROM tenant_feature_flags",
        "SELECT tenancy.register_context('apps', 'tenant_apps', 'array', columns => '{app_key}', order_by => 'app_key')",
    ] {
        world.owner().ok(sql);
        standby::catch_up(primary, standby.server()).unwrap();
        let expected = world.app_as(ANN).text(OWN);
        for (client, document) in &mut sessions {
            for _ in 0..2 {
                let seen: String = client.query_one(&*document, &[]).unwrap().get(0);
                assert_eq!(Some(seen), expected, "{sql}");
            }
            // Ends the portal, whose snapshot would hold up replaying, and be taken away for it after a while.
            client.ok("SELECT 1");
        }
    }
    let status = "SELECT state FROM tenancy.status() WHERE feature = 'document'";
    assert_eq!(sessions[0].0.text(status).as_deref(), Some("on"));
}

/// Ten thousand users with 9 kB each, of which one megabyte is kept.
#[test]
fn memory_does_not_grow_with_users() {
    let world = World::bound(Server::preloaded());
    world.owner().ok(&format!(
        "CREATE FUNCTION user_number(n integer) RETURNS uuid LANGUAGE sql IMMUTABLE RETURN ('00000000-0000-4000-9000-' || lpad(n::text, 12, '0'))::uuid;
         INSERT INTO users SELECT user_number(n), '{A}', 'user ' || n FROM generate_series(1, 10000) n;
         UPDATE tenant_configurations SET ui_config = (SELECT jsonb_object_agg('key ' || n, repeat('v', 80)) FROM generate_series(1, 90) n);
         SELECT tenancy.register_context('config', 'tenant_configurations');
         SELECT tenancy.register_context('user', 'users', user_column => 'id', columns => '{{email}}')"
    ));
    let mut app = world.app();
    app.ok("SET pg_tenancy.document_cache = '1MB'; SET pg_tenancy.cache_entries = 100");
    let pid = app.int("SELECT pg_backend_pid()");
    let mut walk = |from: i32, to: i32| {
        for start in (from..to).step_by(500) {
            let wrong = app.int(&format!(
                "SELECT count(*) FILTER (WHERE email IS DISTINCT FROM 'user ' || n OR size < 8000) FROM (
                     SELECT n, set_config('request.jwt.claims', jsonb_build_object('sub', public.user_number(n))::text, true),
                            get_user_tenant_context() #>> '{{user,email}}' AS email, pg_column_size(get_user_tenant_context()) AS size
                     FROM generate_series({start}, {start} + 499) n OFFSET 0) s"
            ));
            assert_eq!(wrong, 0);
        }
    };
    walk(1, 1001);
    let before = anonymous_memory(pid);
    walk(1001, 10_001);
    let after = anonymous_memory(pid);
    assert!(
        after - before < 8_000,
        "{before} kB before, {after} kB after"
    );
    app.ok(&format!(
        "BEGIN; SET LOCAL request.jwt.claims = '{{\"sub\":\"{ANN}\"}}'"
    ));
    app.text(OWN);
    let detail = app.text("SELECT substring(detail FROM '; (\\d+) documents') || ' ' || substring(detail FROM 'in (\\d+) of 1024 kB') FROM tenancy.status() WHERE feature = 'document'").unwrap();
    let numbers: Vec<u64> = detail.split(' ').map(|n| n.parse().unwrap()).collect();
    assert!(
        (50..120).contains(&numbers[0]) && (900..=1024).contains(&numbers[1]),
        "{detail}"
    );
    app.ok("SET LOCAL pg_tenancy.document_cache = 0");
    world
        .owner()
        .ok("UPDATE tenant_configurations SET ui_config = '{\"theme\": \"x\"}'");
    assert_eq!(
        app.text(&at("{config,ui_config,theme}")).as_deref(),
        Some("x")
    );
    let detail = app
        .text("SELECT detail FROM tenancy.status() WHERE feature = 'document'")
        .unwrap();
    assert!(detail.contains("; 0 documents"), "{detail}");
}
