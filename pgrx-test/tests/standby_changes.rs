//! Hot standbys: a change on the primary is seen by the next statement once it is replayed.

mod context_setup;

use context_setup::{A, B, BODIES, C, TENANT, World, run};
use pgrx_test::fixture::{ClientExt, Server, expect_error};
use pgrx_test::standby;

#[test]
fn a_replayed_change_is_seen_by_the_next_statement() {
    let primary = Server::preloaded();
    let world = World::new(primary);
    let standby = standby::create(primary, "context").unwrap();
    standby::catch_up(primary, standby.server()).unwrap();
    let connect = || {
        let mut config = standby.server().config(&world.db.name, &world.app);
        config.options("-c app.current_user_id=u1");
        config.connect(postgres::NoTls).unwrap()
    };
    let (mut autocommit, mut open) = (connect(), connect());
    let prepared = [&mut autocommit, &mut open].map(|client| {
        client.ok("SET plan_cache_mode = force_generic_plan");
        let prepared = (
            client.prepare(TENANT).unwrap(),
            client.prepare(BODIES).unwrap(),
        );
        run(client, &prepared.0);
        prepared
    });
    assert_eq!(
        autocommit
            .text("SELECT state FROM tenancy.status() WHERE feature = 'cache'")
            .as_deref(),
        Some("on")
    );
    open.ok("BEGIN READ ONLY");
    for (tenant, body) in [(A, "aa"), (B, "b"), (C, "c"), (A, "aa")] {
        world.admin().ok(&format!(
            "UPDATE members SET tenant_id = '{tenant}' WHERE user_id = 'u1'"
        ));
        standby::catch_up(primary, standby.server()).unwrap();
        for (client, (of_tenant, of_rows)) in
            [&mut autocommit, &mut open].into_iter().zip(&prepared)
        {
            assert_eq!(run(client, of_tenant).as_deref(), Some(tenant));
            assert_eq!(run(client, of_rows).as_deref(), Some(body));
        }
    }
    world.admin().ok("DELETE FROM members WHERE user_id = 'u1'");
    standby::catch_up(primary, standby.server()).unwrap();
    assert_eq!(run(&mut autocommit, &prepared[0].0), None);
    let error = context_setup::failure(&mut open, &prepared[1].1);
    expect_error(&error, "42501", "no active membership");
}

#[test]
fn settings_end_with_their_transaction_on_a_standby_too() {
    let primary = Server::preloaded();
    let world = World::new(primary);
    let standby = standby::create(primary, "scope").unwrap();
    standby::catch_up(primary, standby.server()).unwrap();
    let mut client = standby.server().connect(&world.db.name, &world.app);
    client.ok("BEGIN; SET app.current_user_id = 'u2'");
    assert_eq!(client.text(BODIES).as_deref(), Some("b"));
    client.ok("COMMIT");
    expect_error(&client.error(BODIES), "42501", "no tenant context");
    client.ok("BEGIN");
    client.ok(&format!("SELECT set_tenant_context('u12', '{A}')"));
    assert_eq!(client.text(BODIES).as_deref(), Some("aa"));
    client.ok("ROLLBACK");
    assert_eq!(client.text(TENANT), None);
}
