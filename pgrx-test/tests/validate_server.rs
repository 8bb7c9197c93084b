//! What the validator finds out about a server, and where rows come in from another.

mod policy_support;

use pgrx_test::fixture::{ClientExt, Server};
use policy_support::Stage;
use postgres::Client;

fn found(session: &mut Client, code: &str) -> Vec<String> {
    session.texts(&format!(
        "SELECT object FROM tenancy.validate() WHERE code = '{code}' ORDER BY 1"
    ))
}

#[test]
fn the_version_of_this_server_is_judged_by_the_list_of_fixes() {
    let stage = Stage::new();
    let mut superuser = stage.superuser();
    let lacks = superuser.int(
        "SELECT cardinality(tenancy.missing_fixes(current_setting('server_version_num')::int))",
    );
    let object = superuser
        .text("SELECT 'server version ' || current_setting('server_version')")
        .expect("a version");
    let expected = if lacks > 0 {
        vec![object.clone()]
    } else {
        vec![]
    };
    assert_eq!(found(&mut superuser, "server-version"), expected);
    // The rule as it is, on a server that lacks one and on one that lacks nothing.
    for (version, expected) in [("150000", vec![object]), ("999999", vec![])] {
        superuser.ok(&format!(
            "BEGIN; UPDATE tenancy.rules SET query = replace(query, 'current_setting(''server_version_num'')', '''{version}''') WHERE code = 'server-version'"
        ));
        assert_eq!(
            found(&mut superuser, "server-version"),
            expected,
            "{version}"
        );
        superuser.ok("ROLLBACK");
    }
}

#[test]
fn statistics_views_of_an_older_server_are_found() {
    let stage = Stage::new();
    let mut superuser = stage.superuser();
    assert!(found(&mut superuser, "statistics-view").is_empty());
    // As before the fix: for whoever may read the table.
    superuser.ok("SET allow_system_table_mods = on;
        DO $$ DECLARE v regclass; BEGIN
            FOREACH v IN ARRAY '{pg_stats_ext,pg_stats_ext_exprs}'::regclass[] LOOP
                EXECUTE format('CREATE OR REPLACE VIEW pg_catalog.%s WITH (security_barrier) AS %s', v,
                    replace(pg_get_viewdef(v), 'pg_has_role(c.relowner, ''USAGE''::text)', 'has_table_privilege(c.oid, ''SELECT''::text)'));
            END LOOP;
        END $$");
    assert_eq!(
        found(&mut superuser, "statistics-view"),
        [
            "view pg_catalog.pg_stats_ext",
            "view pg_catalog.pg_stats_ext_exprs"
        ]
    );
}

#[test]
fn a_subscription_into_a_tenant_table_is_found() {
    let stage = Stage::new();
    let mut superuser = stage.superuser();
    superuser.ok("CREATE TABLE app.t (tenant_id uuid NOT NULL); CREATE TABLE app.u (id int)");
    let subscription = format!("sub_{}", stage.database.name);
    superuser.ok(&format!(
        "CREATE SUBSCRIPTION {subscription} CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false, slot_name = NONE)"
    ));
    // What refreshing it from its publisher writes.
    let subscribe = |table: &str| {
        format!(
            "SET allow_system_table_mods = on; INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate)
             SELECT oid, '{table}'::regclass, 'r' FROM pg_subscription WHERE subname = '{subscription}'"
        )
    };
    superuser.ok(&subscribe("app.u"));
    let innocent = found(&mut superuser, "subscription");
    superuser.ok(&subscribe("app.t"));
    let guilty = found(&mut superuser, "subscription");
    superuser.ok(&format!("DROP SUBSCRIPTION {subscription}"));
    assert!(innocent.is_empty(), "{innocent:?}");
    assert_eq!(guilty, [format!("subscription {subscription} into app.t")]);
}

/// With btree_gist, where the server has it, a key of ranges can carry the tenant.
#[test]
fn an_exclusion_of_ranges_takes_the_tenant_where_it_can() {
    let stage = Stage::new();
    let mut superuser = stage.superuser();
    superuser.ok(
        "CREATE TABLE app.t (tenant_id uuid NOT NULL, span int4range, EXCLUDE USING gist (span WITH &&))",
    );
    let level = "SELECT level || coalesce(': ' || remediation, '') FROM tenancy.validate() WHERE code = 'unique-without-tenant'";
    let has =
        superuser.int("SELECT count(*) FROM pg_available_extensions WHERE name = 'btree_gist'") > 0;
    assert!(has || Server::preloaded().version == 16);
    let told = superuser.text(level).expect("a finding");
    if !has {
        assert_eq!(told, "info");
        return;
    }
    superuser.ok(told.strip_prefix("warn: ").expect("a remediation"));
    assert!(superuser.rows(level).is_empty());
    superuser
        .ok("INSERT INTO app.t VALUES (gen_random_uuid(), '[1,5)'), (gen_random_uuid(), '[2,6)')");
    let same = "INSERT INTO app.t SELECT tenant_id, '[1,9)' FROM app.t LIMIT 1";
    assert_eq!(superuser.error(same).code().code(), "23P01");
}
