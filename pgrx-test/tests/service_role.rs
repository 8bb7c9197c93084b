//! Services: roles that act for any tenant, one at a time, and whom nobody else can pass for.

mod context_setup;

use context_setup::{A, B, BODIES, C, TENANT, World};
use pgrx_test::fixture::{ClientExt, Server, expect_error, quote_ident};
use postgres::Client;

/// Users with memberships; A and B are active tenants, C is not.
const SHAPE: &str = "
    CREATE TABLE members (user_id text NOT NULL, tenant_id uuid NOT NULL, role text NOT NULL DEFAULT 'user', PRIMARY KEY (user_id, tenant_id));
    CREATE TABLE tenants (id uuid PRIMARY KEY, active boolean NOT NULL DEFAULT true)";
const BIND: &str = "SELECT tenancy.bind(membership => 'members', membership_role => 'role',
    tenant_setting => 'app.current_tenant_id', tenants => 'tenants', tenants_active => 'active')";

struct Stage {
    world: World,
    jobs: String,
}

impl Stage {
    fn new(bind: &str) -> Stage {
        Stage::on(Server::preloaded(), bind)
    }

    fn on(server: &'static Server, bind: &str) -> Stage {
        let world = World::bound(server, SHAPE, bind);
        let jobs = format!("jobs_{}", world.db.name);
        world.db.adopt_role(&jobs);
        let mut admin = world.admin();
        admin.ok(&format!(
            "INSERT INTO tenants VALUES ('{A}', true), ('{B}', true), ('{C}', false);
             INSERT INTO members VALUES ('u1', '{A}', 'admin'), ('u2', '{B}', 'user');
             SELECT tenancy.create_service_role('{jobs}')"
        ));
        Stage { world, jobs }
    }

    fn jobs(&self) -> Client {
        self.world.db.connect(&self.jobs)
    }

    /// A service in an open transaction, acting for the tenant.
    fn acting(&self, tenant: &str) -> Client {
        let mut jobs = self.jobs();
        jobs.ok("BEGIN");
        jobs.ok(&as_tenant(tenant));
        jobs
    }
}

fn as_tenant(tenant: &str) -> String {
    format!("SELECT tenancy.as_tenant('{tenant}')")
}

fn no_context(client: &mut Client) {
    assert_eq!(client.text(TENANT), None);
    expect_error(&client.error(BODIES), "42501", "");
}

#[test]
fn a_service_acts_for_one_tenant_after_the_other_whatever_carries_the_context() {
    for bind in [
        BIND,
        "SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id', tenants => 'tenants', tenants_active => 'active')",
        "SELECT tenancy.bind(membership => 'members')",
        "SELECT tenancy.bind(claims_setting => 'request.jwt.claims', membership => 'members')",
        "SELECT tenancy.bind(claims_setting => 'request.jwt.claims', tenant_claim => 'org', membership => 'members', tenant_setting => 'app.current_org_id')",
    ] {
        let stage = Stage::new(bind);
        let mut jobs = stage.acting(A);
        assert_eq!(jobs.text(TENANT).as_deref(), Some(A), "{bind}");
        assert_eq!(jobs.text(BODIES).as_deref(), Some("aa"), "{bind}");
        jobs.ok(&as_tenant(B));
        assert_eq!(jobs.text(BODIES).as_deref(), Some("b"), "{bind}");
        jobs.ok(&format!(
            "INSERT INTO notes (tenant_id, body) VALUES ('{B}', 'n')"
        ));
        expect_error(
            &jobs.error(&format!(
                "INSERT INTO notes (tenant_id, body) VALUES ('{A}', 'n')"
            )),
            "42501",
            "row-level security",
        );
        jobs.ok("ROLLBACK");
        no_context(&mut jobs);
    }
}

#[test]
fn it_ends_with_its_transaction_and_with_its_savepoint() {
    let stage = Stage::new(BIND);
    let mut jobs = stage.acting(A);
    jobs.ok("SAVEPOINT s");
    jobs.ok(&as_tenant(B));
    assert_eq!(jobs.text(BODIES).as_deref(), Some("b"));
    jobs.ok("ROLLBACK TO s");
    assert_eq!(jobs.text(BODIES).as_deref(), Some("aa"));
    jobs.ok("COMMIT");
    no_context(&mut jobs);
    // Set for the session, by hand: the next transaction does not get it.
    jobs.ok(&format!("SET tenancy.service_tenant = '{A}'"));
    no_context(&mut jobs);
    // In a prepared statement, and in a read-only transaction.
    jobs.ok(&format!("PREPARE bodies AS {BODIES}; BEGIN READ ONLY"));
    for (tenant, bodies) in [(A, "aa"), (B, "b"), (A, "aa")] {
        jobs.ok(&as_tenant(tenant));
        assert_eq!(jobs.text("EXECUTE bodies").as_deref(), Some(bodies));
    }
}

/// Whoever is not logged in as a service can say what he likes.
#[test]
fn no_other_role_is_believed() {
    let stage = Stage::new(BIND);
    let (app, jobs) = (&stage.world.app, &stage.jobs);
    let set = format!("SET LOCAL tenancy.service_tenant = '{A}'");
    let mut admin = stage.world.admin();
    admin.ok(&format!(
        "GRANT {jobs} TO {app};
         CREATE FUNCTION definer() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
             BEGIN PERFORM tenancy.as_tenant('{A}'); RETURN current_tenant_id(); END $$;
         CREATE FUNCTION quietly() RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET tenancy.service_tenant = '{A}' AS $$
             BEGIN RETURN (SELECT string_agg(body, '') FROM notes); END $$;
         ALTER FUNCTION definer() OWNER TO {jobs}; ALTER FUNCTION quietly() OWNER TO {jobs}"
    ));
    let mut session = stage.world.app();
    let refused = "not a service role";
    expect_error(&session.error(&as_tenant(A)), "42501", refused);
    expect_error(&session.error("SELECT definer()"), "42501", refused);
    expect_error(&session.error("SELECT quietly()"), "42501", "");
    expect_error(
        &session.error("SELECT * FROM tenancy.for_each_tenant('SELECT 1')"),
        "42501",
        refused,
    );
    session.ok("BEGIN");
    session.ok(&set);
    no_context_in_transaction(&mut session);
    session.ok(&format!("SET ROLE {jobs}"));
    session.ok("BEGIN");
    session.ok(&set);
    no_context_in_transaction(&mut session);
    expect_error(&session.error(&as_tenant(A)), "42501", refused);
    session.ok("RESET ROLE");
    // It takes nothing from the context that he has, and gives nothing.
    session.ok("BEGIN; SET LOCAL app.current_user_id = 'u2'");
    session.ok(&set);
    assert_eq!(session.text(BODIES).as_deref(), Some("b"));
    session.ok("ROLLBACK");
    // Brought by the connection, and by the role.
    let options = format!("-c tenancy.service_tenant={A}");
    no_context(&mut stage.world.db.connect_with(app, &options));
    admin.ok(&format!(
        "ALTER ROLE {app} SET tenancy.service_tenant = '{A}'"
    ));
    no_context(&mut stage.world.app());
    // A malformed value is nobody's business either.
    admin.ok(&format!(
        "ALTER ROLE {app} SET tenancy.service_tenant = 'x'"
    ));
    no_context(&mut stage.world.app());
}

fn no_context_in_transaction(session: &mut Client) {
    assert_eq!(session.text(TENANT), None);
    expect_error(&session.error(BODIES), "42501", "");
    session.ok("ROLLBACK");
}

#[test]
fn a_service_may_what_admins_may_and_grants_nothing() {
    let stage = Stage::new(BIND);
    let mut admin = stage.world.admin();
    admin.ok(&format!(
        "CREATE TABLE settings (tenant_id uuid NOT NULL, k text); INSERT INTO settings VALUES ('{A}', 'x'), ('{B}', 'y');
         SELECT tenancy.protect_table('settings', 'tenant_read_admin_write', mode => 'enforce');
         GRANT ALL ON settings TO {}",
        stage.jobs
    ));
    let mut jobs = stage.acting(A);
    assert_eq!(
        jobs.execute("UPDATE settings SET k = 'z'", &[])
            .expect("allowed"),
        1
    );
    assert_eq!(
        jobs.text("SELECT concat_ws(' ', is_tenant_admin(), is_super_admin(), has_tenant_role('admin'), current_tenant_role(), current_tenant_user_id())")
            .as_deref(),
        Some("t f f")
    );
    assert_eq!(
        jobs.text("SELECT user_tenant_ids()::text").as_deref(),
        Some(format!("{{{A}}}").as_str())
    );
    for write in [
        format!("INSERT INTO members VALUES ('evil', '{A}', 'admin')"),
        "UPDATE members SET role = 'admin' WHERE user_id = 'u2'".to_owned(),
        "DELETE FROM members WHERE user_id = 'u1'".to_owned(),
        "UPDATE tenants SET active = true".to_owned(),
    ] {
        jobs.ok("SAVEPOINT s");
        assert_eq!(jobs.error(&write).code().code(), "42501", "{write}");
        jobs.ok("ROLLBACK TO s");
    }
}

#[test]
fn a_user_and_a_service_are_not_mixed() {
    let stage = Stage::new(BIND);
    let mut jobs = stage.jobs();
    jobs.ok("BEGIN; SET LOCAL app.current_user_id = 'u2'");
    jobs.ok(&as_tenant(A));
    assert_eq!(
        jobs.text(BODIES).as_deref(),
        Some("aa"),
        "the user is cleared"
    );
    jobs.ok("SET LOCAL app.current_user_id = 'u2'");
    expect_error(&jobs.error(BODIES), "22023", "while a service acts");
    jobs.ok("ROLLBACK");
    let mut jobs = stage.acting(A);
    jobs.ok("SELECT set_tenant_context('u2')");
    assert_eq!(jobs.text(BODIES).as_deref(), Some("b"));
    jobs.ok(&as_tenant(A));
    assert_eq!(jobs.text(BODIES).as_deref(), Some("aa"));
    jobs.ok("SELECT clear_tenant_context()");
    no_context_in_transaction(&mut jobs);
}

#[test]
fn bad_tenants_are_refused_and_leave_no_context() {
    let stage = Stage::new(BIND);
    let mut jobs = stage.jobs();
    for (tenant, code, needle) in [
        ("NULL", "22004", "tenant"),
        ("''", "22P02", "empty"),
        ("'x'", "22P02", "uuid"),
        (&format!("'{C}'"), "42501", "not active"),
        (
            "'dddddddd-0000-4000-8000-000000000004'",
            "42501",
            "does not exist",
        ),
    ] {
        jobs.ok("BEGIN");
        jobs.ok(&as_tenant(A));
        jobs.ok("SAVEPOINT s");
        expect_error(
            &jobs.error(&format!("SELECT tenancy.as_tenant({tenant})")),
            code,
            needle,
        );
        jobs.ok("ROLLBACK TO s");
        assert_eq!(jobs.text(BODIES).as_deref(), Some("aa"), "{tenant}");
        jobs.ok("ROLLBACK");
    }
    jobs.ok("BEGIN");
    expect_error(
        &jobs.error("SET LOCAL tenancy.service_tenant = 'x'"),
        "22P02",
        "uuid",
    );
    let unbound = World::empty(Server::preloaded());
    expect_error(
        &unbound.admin().error(&as_tenant(A)),
        "55000",
        "tenancy.bind",
    );
}

/// What is taken away counts from the next statement on.
#[test]
fn a_retired_service_is_none_even_in_its_transaction() {
    let stage = Stage::new(BIND);
    let mut jobs = stage.acting(A);
    assert_eq!(jobs.text(BODIES).as_deref(), Some("aa"));
    let mut admin = stage.world.admin();
    let retire = format!("SELECT tenancy.retire_service_role('{}')", stage.jobs);
    assert_eq!(admin.text(&retire).as_deref(), Some("t"));
    no_context_in_transaction(&mut jobs);
    assert_eq!(admin.text(&retire).as_deref(), Some("f"));
    // And a tenant that is suspended meanwhile.
    admin.ok(&format!(
        "SELECT tenancy.create_service_role('{}')",
        stage.jobs
    ));
    let mut jobs = stage.acting(A);
    assert_eq!(jobs.text(BODIES).as_deref(), Some("aa"));
    admin.ok(&format!(
        "UPDATE tenants SET active = false WHERE id = '{A}'"
    ));
    no_context_in_transaction(&mut jobs);
}

/// Nor is a service taken for one until its transaction ends because it was retired during a lookup, which
/// notices that and begins again.
#[test]
fn a_service_that_is_retired_during_a_lookup_is_none() {
    let stage = Stage::new(
        "CREATE TABLE door ();
         CREATE FUNCTION waits(boolean) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
             PERFORM pg_catalog.pg_advisory_xact_lock(4711);
             PERFORM FROM public.door;
             RETURN $1; END $$;
         GRANT SELECT ON door TO PUBLIC;
         SELECT tenancy.bind(membership => 'members', membership_role => 'role',
             tenants => 'tenants', tenants_active => 'public.waits(active)')",
    );
    let mut admin = stage.world.admin();
    let mut doorman = stage.world.admin();
    doorman.ok("BEGIN; SELECT pg_advisory_xact_lock(4711)");
    let mut jobs = stage.jobs();
    jobs.ok("BEGIN");
    let (acts, reads) = std::thread::scope(|scope| {
        let lookup = scope.spawn(|| {
            let acts = jobs.batch_execute(&as_tenant(A)).is_ok();
            let reads = acts && jobs.text(BODIES).is_some();
            (acts, reads)
        });
        let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        while admin.text(waiting).as_deref() != Some("1") {
            assert!(!lookup.is_finished(), "the lookup did not wait");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        admin.ok(&format!(
            "SELECT tenancy.retire_service_role('{}')",
            stage.jobs
        ));
        doorman.ok("COMMIT");
        lookup.join().expect("the lookup ends")
    });
    assert!(!acts && !reads, "acts: {acts}, reads: {reads}");
}

/// Nor does it count who the session's user was, or what he was a member of.
#[test]
fn whose_session_it_is_counts_in_each_statement() {
    let stage = Stage::new(BIND);
    let (app, jobs) = (&stage.world.app, &stage.jobs);
    let mut admin = stage.world.admin();
    // The session's user changes.
    let mut session = stage.world.admin();
    session.ok(&format!(
        "PREPARE bodies AS {BODIES}; BEGIN; SET LOCAL SESSION AUTHORIZATION {jobs}"
    ));
    session.ok(&as_tenant(A));
    assert_eq!(session.text("EXECUTE bodies").as_deref(), Some("aa"));
    session.ok(&format!(
        "SET LOCAL SESSION AUTHORIZATION {app}; SAVEPOINT s"
    ));
    assert_eq!(session.text(TENANT), None);
    expect_error(&session.error("EXECUTE bodies"), "42501", "");
    session.ok(&format!(
        "ROLLBACK TO s; SET LOCAL SESSION AUTHORIZATION {jobs}"
    ));
    assert_eq!(session.text("EXECUTE bodies").as_deref(), Some("aa"));
    session.ok("ROLLBACK");
    // He was an administrator by a membership, a grant of the database's owner, a setting.
    let helper = stage.world.db.role("helper");
    let admins = stage.world.db.role("admins");
    let database = quote_ident(&stage.world.db.name);
    admin.ok(&format!(
        "GRANT USAGE ON SCHEMA public TO {helper}; GRANT SELECT ON notes TO {helper};
         ALTER DATABASE {database} SET pg_tenancy.admin_role = '{admins}'"
    ));
    let superuser = &stage.world.db.server().superuser;
    for (given, taken) in [
        (
            format!("GRANT {admins} TO {helper}"),
            format!("REVOKE {admins} FROM {helper}"),
        ),
        (
            format!("ALTER DATABASE {database} OWNER TO {helper}"),
            format!("ALTER DATABASE {database} OWNER TO {superuser}"),
        ),
        (
            format!(
                "INSERT INTO tenancy.service_roles SELECT rolname, oid FROM pg_roles WHERE rolname = '{helper}'"
            ),
            format!("DELETE FROM tenancy.service_roles WHERE role_name = '{helper}'"),
        ),
        (
            format!(
                "INSERT INTO tenancy.service_roles SELECT rolname, oid FROM pg_roles WHERE rolname = '{helper}'"
            ),
            "TRUNCATE tenancy.service_roles".to_owned(),
        ),
        (
            format!("SELECT tenancy.create_service_role('{helper}')"),
            format!(
                "ALTER ROLE {helper} RENAME TO {helper}_2; ALTER ROLE {helper}_2 RENAME TO {helper}_3"
            ),
        ),
    ] {
        admin.ok(&given);
        for within in [true, false] {
            // In an open transaction, and as the connection's own.
            let mut session = if within {
                let mut session = stage.world.db.connect(&helper);
                session.ok("BEGIN");
                session.ok(&as_tenant(A));
                session
            } else {
                stage
                    .world
                    .db
                    .connect_with(&helper, &format!("-c tenancy.service_tenant={A}"))
            };
            session.ok(&format!("PREPARE bodies AS {BODIES}"));
            for _ in 0..6 {
                assert_eq!(
                    session.text("EXECUTE bodies").as_deref(),
                    Some("aa"),
                    "{given}"
                );
            }
            admin.ok(&taken);
            expect_error(&session.error("EXECUTE bodies"), "42501", "");
            if within && !taken.contains("RENAME") {
                admin.ok(&given);
            } else {
                break;
            }
        }
    }
    stage.world.db.adopt_role(&format!("{helper}_3"));
}

#[test]
fn a_service_that_is_dropped_is_none() {
    let stage = Stage::new(BIND);
    let mut jobs = stage.acting(A);
    jobs.ok(&format!("PREPARE bodies AS {BODIES}"));
    assert_eq!(jobs.text("EXECUTE bodies").as_deref(), Some("aa"));
    let mut admin = stage.world.admin();
    let others: String = admin
        .text(&format!(
            "SELECT string_agg(format('DROP OWNED BY %I', '{0}'), ';')",
            stage.jobs
        ))
        .expect("text");
    admin.ok(&format!("{others}; GRANT SELECT ON notes TO PUBLIC; GRANT USAGE ON SCHEMA public TO PUBLIC; DROP ROLE {}", stage.jobs));
    expect_error(&jobs.error("EXECUTE bodies"), "42501", "no tenant context");
}

#[test]
fn parallel_workers_agree() {
    for server in [Server::preloaded(), Server::plain()] {
        let stage = Stage::on(server, BIND);
        stage.world.admin().ok(&format!(
            "INSERT INTO notes (tenant_id, body) SELECT '{A}', 'p' FROM generate_series(1, 5000); ANALYZE notes"
        ));
        let mut jobs = stage.acting(A);
        jobs.ok("SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SET LOCAL min_parallel_table_scan_size = 0;
                 SET LOCAL min_parallel_index_scan_size = 0; SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_indexonlyscan = off");
        let count = "SELECT count(*) FROM notes WHERE body <> 'zz'";
        let plan = jobs.rows(&format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {count}"));
        assert!(format!("{plan:?}").contains("Gather"), "{plan:?}");
        assert_eq!(jobs.int(count), 5002);
    }
}

#[test]
fn each_tenant_is_run_alone() {
    let stage = Stage::new(BIND);
    let mut jobs = stage.jobs();
    let outcome = |jobs: &mut Client, arguments: &str| {
        jobs.texts(&format!("SELECT left(tenant, 1) || ' ' || coalesce(rows::text, '-') || ' ' || coalesce(error, '') FROM tenancy.for_each_tenant({arguments})"))
    };
    // C is not active.
    assert_eq!(
        outcome(&mut jobs, "'UPDATE notes SET body = upper(body)'"),
        ["a 2 ", "b 1 "]
    );
    let mut admin = stage.world.admin();
    assert_eq!(admin.text(BODIES).as_deref(), Some("AABc"));
    // One fails: what it did is undone, and the others stay.
    let half = "$$UPDATE notes SET body = 'x'; SELECT 1 / (current_tenant_id() <> '".to_owned()
        + A
        + "')::int$$";
    let told = outcome(&mut jobs, &half);
    assert!(
        told[0].starts_with("a - 22012: division by zero"),
        "{told:?}"
    );
    assert_eq!(told[1], "b 1 ");
    assert_eq!(admin.text(BODIES).as_deref(), Some("AAcx"));
    let told = outcome(&mut jobs, &format!("{half}, stop_at_error => true"));
    assert_eq!(told.len(), 1, "{told:?}");
    // No command can end the transaction, or name another tenant's row.
    let told = outcome(&mut jobs, "'COMMIT'");
    assert!(told.iter().all(|row| row.contains("25001")), "{told:?}");
    let told = outcome(
        &mut jobs,
        &format!("$$INSERT INTO notes (tenant_id, body) VALUES ('{B}', 'new')$$"),
    );
    assert!(
        told[0].starts_with("a - 42501") && told[1] == "b 1 ",
        "{told:?}"
    );
    // The context is what it was.
    no_context(&mut jobs);
    let mut jobs = stage.acting(B);
    outcome(&mut jobs, "'SELECT 1'");
    assert_eq!(jobs.text(TENANT).as_deref(), Some(B));
    outcome(&mut jobs, &format!("$$SELECT tenancy.as_tenant('{A}')$$"));
    assert_eq!(jobs.text(TENANT).as_deref(), Some(B));
    let told = stage.world.db.psql_told(
        &stage.jobs,
        "SELECT count(*) FROM tenancy.for_each_tenant('SELECT 1')",
    );
    assert!(told.contains("2 of 2 tenants done"), "{told}");
}

/// A constraint that is checked late is checked for the tenant whose rows it is about.
#[test]
fn deferred_constraints_are_checked_for_each_tenant() {
    let stage = Stage::new(BIND);
    stage.world.admin().ok(&format!(
        "CREATE TABLE parents (id text PRIMARY KEY);
         CREATE TABLE links (tenant_id uuid NOT NULL, parent text REFERENCES parents DEFERRABLE INITIALLY DEFERRED,
             strict text CONSTRAINT strict REFERENCES parents DEFERRABLE);
         CREATE TABLE others (parent text CONSTRAINT strict REFERENCES parents);
         SELECT tenancy.protect_table('links', mode => 'enforce');
         CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM 1 FROM links; RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER late AFTER INSERT ON links DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION told();
         GRANT ALL ON parents, links TO {}",
        stage.jobs
    ));
    let mut jobs = stage.jobs();
    let run = |jobs: &mut Client, parent: &str| {
        let command = format!(
            "INSERT INTO links SELECT t, t FROM current_tenant_id() AS t(t); INSERT INTO parents SELECT {parent} FROM current_tenant_id() AS t(t)"
        );
        jobs.texts(&format!("SELECT left(tenant, 1) || ' ' || coalesce(error, 'done') FROM tenancy.for_each_tenant($${command}$$)"))
    };
    // The tenant whose parent is missing fails, and alone.
    let told = run(
        &mut jobs,
        &format!("CASE t::text WHEN '{A}' THEN 'none' ELSE t::text END"),
    );
    assert!(told[0].starts_with("a 23503"), "{told:?}");
    assert_eq!(told[1], "b done");
    let mut admin = stage.world.admin();
    assert_eq!(admin.texts("SELECT parent FROM links"), [B]);
    admin.ok("DELETE FROM links; DELETE FROM parents");
    // Each begins with constraints as they are declared, and so does who called.
    jobs.ok("BEGIN");
    assert_eq!(run(&mut jobs, "t"), ["a done", "b done"]);
    jobs.ok(&as_tenant(B));
    jobs.ok(&format!(
        "INSERT INTO links VALUES ('{B}', 'late'); INSERT INTO parents VALUES ('late')"
    ));
    let early = format!("INSERT INTO links VALUES ('{B}', 'late', 'early')");
    expect_error(&jobs.error(&early), "23503", "strict");
    jobs.ok("ROLLBACK");
    // What the caller left open is his, and no tenant's.
    jobs.ok("BEGIN");
    jobs.ok(&as_tenant(B));
    jobs.ok(&format!("INSERT INTO links VALUES ('{B}', 'never')"));
    expect_error(
        &jobs.error("SELECT * FROM tenancy.for_each_tenant('SELECT 1')"),
        "23503",
        "parents",
    );
}

#[test]
fn a_role_that_row_security_does_not_bind_is_refused() {
    let stage = Stage::new(BIND);
    let mut admin = stage.world.admin();
    let call = "SELECT count(*) FROM tenancy.for_each_tenant('SELECT 1'";
    expect_error(
        &admin.error(&format!("{call})")),
        "55000",
        "does not bind role",
    );
    assert_eq!(admin.int(&format!("{call}, unbound => true)")), 2);
    admin.ok(&format!("SET ROLE {}", stage.jobs));
    assert_eq!(admin.int(&format!("{call})")), 2);
    let mut jobs = stage.jobs();
    for (arguments, code) in [
        ("NULL", "22004"),
        ("'SELECT 1', NULL", "22004"),
        ("'SELECT 1', false, NULL", "22004"),
        ("' '", "22023"),
    ] {
        let error = jobs.error(&format!(
            "SELECT * FROM tenancy.for_each_tenant({arguments})"
        ));
        assert_eq!(error.code().code(), code, "{arguments}");
        assert!(error.hint().is_some());
    }
    // Nor is it held to a tenant by a table that is not enforced.
    admin.ok("RESET ROLE; SELECT tenancy.set_mode('notes', 'permissive')");
    let error = jobs.error(&format!("{call})"));
    expect_error(&error, "55000", "does not hold every table");
    assert!(error.detail().unwrap().contains("notes"), "{error:?}");
    assert_eq!(jobs.int(&format!("{call}, unbound => true)")), 2);
    admin.ok("RESET ROLE; SELECT tenancy.unprotect_table('notes'); SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id')");
    expect_error(
        &jobs.error("SELECT * FROM tenancy.for_each_tenant('SELECT 1')"),
        "55000",
        "which tenants",
    );
}

#[test]
fn a_role_that_takes_the_name_is_none() {
    let stage = Stage::new(BIND);
    let mut admin = stage.world.admin();
    let jobs = &stage.jobs;
    admin.ok(&format!(
        "ALTER ROLE {jobs} RENAME TO {jobs}_before; CREATE ROLE {jobs} LOGIN"
    ));
    stage.world.db.adopt_role(&format!("{jobs}_before"));
    for name in [jobs.clone(), format!("{jobs}_before")] {
        let mut session = stage.world.db.connect(&name);
        let error = session.error(&as_tenant(A));
        expect_error(&error, "42501", "not a service role");
    }
    admin.ok(&format!("SELECT tenancy.create_service_role('{jobs}')"));
    let mut session = stage.jobs();
    session.ok("BEGIN");
    session.ok(&as_tenant(A));
}

/// The owner of the database makes services, an ordinary role that may create roles.
#[test]
fn a_service_is_bound_and_owns_nothing() {
    let stage = Stage::new(BIND);
    let world = &stage.world;
    let mut admin = world.admin();
    admin.ok(&format!(
        "ALTER ROLE {0} CREATEROLE; ALTER DATABASE {1} OWNER TO {0}",
        world.owner,
        quote_ident(&world.db.name)
    ));
    let mut owner = world.db.connect(&world.owner);
    let more = format!("more_{}", world.db.name);
    world.db.adopt_role(&more);
    for _ in 0..2 {
        owner.ok(&format!("SELECT tenancy.create_service_role('{more}')"));
    }
    assert_eq!(
        admin.text(&format!("SELECT concat_ws(' ', rolcanlogin, rolsuper, rolbypassrls, rolcreaterole, rolreplication) FROM pg_roles WHERE rolname = '{more}'")).as_deref(),
        Some("t f f f f")
    );
    let mut session = world.db.connect(&more);
    session.ok("BEGIN");
    session.ok(&as_tenant(B));
    assert_eq!(session.text(BODIES).as_deref(), Some("b"));
    expect_error(&session.error("TRUNCATE notes"), "42501", "");
    // The owner of the tables, whom FORCE binds, acts for a tenant as well: the database is his.
    owner.ok("BEGIN");
    owner.ok(&as_tenant(A));
    assert_eq!(owner.text(BODIES).as_deref(), Some("aa"));
    owner.ok("ROLLBACK");
    let exempt = world.db.role("exempt");
    admin.ok(&format!("ALTER ROLE {exempt} BYPASSRLS"));
    for (name, code, needle) in [
        (format!("'{exempt}'"), "22023", "BYPASSRLS"),
        (format!("'{}'", world.owner), "22023", "owns table"),
        ("NULL".to_owned(), "22004", "name"),
        ("''".to_owned(), "22023", "name"),
    ] {
        expect_error(
            &admin.error(&format!("SELECT tenancy.create_service_role({name})")),
            code,
            needle,
        );
    }
    assert_eq!(
        admin.int("SELECT count(*) FROM tenancy.service_roles"),
        2,
        "nothing half-done"
    );
    let mut app = world.app();
    for call in [
        format!("tenancy.create_service_role('{}')", world.app),
        format!("tenancy.retire_service_role('{}')", stage.jobs),
    ] {
        expect_error(
            &app.error(&format!("SELECT {call}")),
            "42501",
            "owner of the database",
        );
    }
    assert_eq!(
        app.error(&format!(
            "INSERT INTO tenancy.service_roles VALUES ('{}', 1)",
            world.app
        ))
        .code()
        .code(),
        "42501"
    );
}
