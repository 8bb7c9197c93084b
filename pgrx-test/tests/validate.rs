//! The validator as a whole: the gate, waivers, what it may and may not do, and the reference systems.

mod policy_support;
mod scenario_support;

use pgrx_test::fixture::{ClientExt, Database, Server, expect_error};
use pgrx_test::scenario::{AGENTS, INSIGHTS, OKR, STUDIO};
use policy_support::{A, B, Stage};

const LIST: &str =
    "SELECT code || ' ' || object FROM tenancy.validate() WHERE level <> 'info' ORDER BY 1";

/// A table of tenants without protection, which the application may use.
fn leaky() -> Stage {
    let stage = Stage::new();
    stage.owner().ok("CREATE TABLE app.t (id uuid PRIMARY KEY, tenant_id uuid NOT NULL); CREATE INDEX ON app.t (tenant_id)");
    stage
}

#[test]
fn the_gate_names_what_is_wrong_and_opens_when_it_is_mended() {
    let stage = leaky();
    let mut owner = stage.owner();
    let error = owner.error("SELECT tenancy.assert_valid()");
    expect_error(&error, "55000", "rls-off: table app.t");
    expect_error(
        &owner.error("SELECT tenancy.assert_valid('bad')"),
        "22023",
        "error, warn or info",
    );
    expect_error(
        &owner.error("SELECT tenancy.assert_valid(NULL)"),
        "22023",
        "error, warn or info",
    );
    expect_error(
        &owner.error("SELECT * FROM tenancy.validate('{nowhere}')"),
        "3F000",
        "nowhere",
    );
    expect_error(
        &owner.error("SELECT tenancy.assert_valid('error', '{nowhere}')"),
        "3F000",
        "nowhere",
    );
    let remediation = owner
        .text("SELECT remediation FROM tenancy.validate('{app}') WHERE code = 'rls-off'")
        .expect("a remediation");
    owner.ok(&remediation);
    owner.ok("SELECT tenancy.assert_valid('warn')");
    expect_error(
        &owner.error("SELECT tenancy.assert_valid('info')"),
        "55000",
        "not-seen",
    );
}

#[test]
fn schemas_narrow_the_findings() {
    let stage = leaky();
    stage.superuser().ok("CREATE SCHEMA calm");
    let count = "SELECT count(*) FROM tenancy.validate('{calm}') WHERE level <> 'info'";
    assert_eq!(stage.owner().int(count), 0);
    stage
        .owner()
        .ok("SELECT tenancy.assert_valid('error', '{calm}')");
}

#[test]
fn a_waiver_marks_a_finding_until_it_ends() {
    let stage = leaky();
    let mut superuser = stage.superuser();
    let waived = "SELECT waived::text || ' ' || coalesce(reason, '') FROM tenancy.validate() WHERE code = 'rls-off'";
    superuser
        .ok("SELECT tenancy.waive('rls-off', 'table app.t', 'goes next week', now() + '1 day')");
    superuser.ok("SELECT tenancy.assert_valid('warn')");
    assert_eq!(
        superuser.text(waived).as_deref(),
        Some("true goes next week")
    );
    let suppressed = "SELECT jsonb_path_query_first(tenancy.validate_sarif(), '$.runs[0].results[*] ? (@.ruleId == \"rls-off\").suppressions[0].justification') #>> '{}'";
    assert_eq!(
        superuser.text(suppressed).as_deref(),
        Some("goes next week")
    );
    superuser
        .ok("SELECT tenancy.waive('rls-off', 'table app.t', 'gone', now() - interval '1 second')");
    assert_eq!(superuser.text(waived).as_deref(), Some("false gone"));
    expect_error(
        &superuser.error("SELECT tenancy.assert_valid()"),
        "55000",
        "rls-off",
    );
    superuser.ok("SELECT tenancy.waive('rls-off', 'table app.t', 'for good', 'infinity')");
    superuser.ok("SELECT tenancy.assert_valid()");
    // Another object, the same rule.
    superuser.ok("CREATE TABLE app.u (tenant_id uuid NOT NULL); GRANT SELECT ON app.u TO PUBLIC");
    expect_error(
        &superuser.error("SELECT tenancy.assert_valid()"),
        "55000",
        "1 finding",
    );
    superuser.ok("DROP TABLE app.u");
    assert_eq!(
        superuser
            .text("SELECT tenancy.unwaive('rls-off', 'table app.t')")
            .as_deref(),
        Some("t")
    );
    assert_eq!(
        superuser
            .text("SELECT tenancy.unwaive('rls-off', 'table app.t')")
            .as_deref(),
        Some("f")
    );
    expect_error(
        &superuser.error("SELECT tenancy.assert_valid()"),
        "55000",
        "rls-off",
    );
}

#[test]
fn who_may_not_decide_cannot_waive() {
    let stage = leaky();
    let waive = "SELECT tenancy.waive('rls-off', 'table app.t', 'because', 'infinity')";
    for mut session in [stage.owner(), stage.nobody()] {
        expect_error(&session.error(waive), "42501", "owner of the database");
        expect_error(
            &session.error("SELECT tenancy.unwaive('rls-off', 'table app.t')"),
            "42501",
            "owner of the database",
        );
        for sql in [
            "INSERT INTO tenancy.waivers VALUES ('rls-off', 'table app.t', 'x', 'infinity', 'me')",
            "UPDATE tenancy.rules SET query = 'SELECT 1'",
            "DELETE FROM tenancy.rules",
        ] {
            assert_eq!(session.error(sql).code().code(), "42501", "{sql}");
        }
    }
    let mut superuser = stage.superuser();
    expect_error(
        &superuser.error("SELECT tenancy.waive('no-rule', 'x', 'y', 'infinity')"),
        "42704",
        "no-rule",
    );
    expect_error(
        &superuser.error("SELECT tenancy.waive('rls-off', 'x', ' ', 'infinity')"),
        "22023",
        "reason",
    );
    expect_error(
        &superuser.error("SELECT tenancy.waive('rls-off', 'x', 'y', NULL)"),
        "22023",
        "until",
    );
    superuser.ok(&format!(
        "ALTER DATABASE {} OWNER TO {}",
        stage.database.name, stage.owner
    ));
    stage.owner().ok(waive);
    let by = "SELECT waived_by FROM tenancy.waivers";
    assert_eq!(superuser.text(by).as_deref(), Some(stage.owner.as_str()));
}

#[test]
fn it_reads_only_and_anybody_may_ask() {
    let stage = leaky();
    for mut session in [stage.owner(), stage.nobody()] {
        session.ok("BEGIN READ ONLY");
        let found = session.texts(LIST);
        assert!(
            found.contains(&"rls-off table app.t".to_owned()),
            "{found:?}"
        );
        assert!(
            !found.iter().any(|line| line.starts_with("rule-failed")),
            "{found:?}"
        );
        assert_eq!(
            session.text("SELECT pg_current_xact_id_if_assigned()"),
            None
        );
        session.ok("COMMIT");
        let unseen = "SELECT count(*) FROM tenancy.validate() WHERE code = 'not-seen' AND object = 'settings of the server'";
        assert_eq!(session.int(unseen), 1);
    }
}

#[test]
fn nothing_of_the_callers_runs() {
    let stage = leaky();
    let mut superuser = stage.superuser();
    // A trap in the caller's search_path, and one in a policy's function that claims to be constant.
    superuser.ok("CREATE SCHEMA trap;
        CREATE FUNCTION trap.boom() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
        CREATE FUNCTION trap.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
        CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.eq);
        CREATE VIEW trap.pg_class AS SELECT 1 / 0 AS oid;
        CREATE POLICY p ON app.t USING (trap.boom());
        ALTER TABLE app.t ENABLE ROW LEVEL SECURITY;
        SET search_path = trap, pg_catalog");
    let found = superuser.texts(LIST);
    assert!(
        !found.iter().any(|line| line.starts_with("rule-failed")),
        "{found:?}"
    );
    assert!(
        found.contains(&"policy-no-floor table app.t".to_owned()),
        "{found:?}"
    );
    superuser.ok("SELECT * FROM tenancy.audit_roles(); SELECT tenancy.validate_json(); SELECT tenancy.validate_sarif()");
}

#[test]
fn a_rule_that_fails_is_a_finding_and_the_others_go_on() {
    let stage = leaky();
    let mut superuser = stage.superuser();
    superuser.ok("UPDATE tenancy.rules SET query = 'SELECT NULL AS schema, (1 / 0)::text AS object, NULL AS detail, NULL AS remediation' WHERE code = 'grant-truncate'");
    let found = superuser.texts(LIST);
    assert!(
        found.contains(&"rule-failed rule grant-truncate".to_owned()),
        "{found:?}"
    );
    assert!(
        found.contains(&"rls-off table app.t".to_owned()),
        "{found:?}"
    );
    let error = superuser.error("SELECT tenancy.assert_valid()");
    expect_error(&error, "55000", "division by zero");
    superuser.ok("UPDATE tenancy.rules SET query = 'SELECT NULL AS schema, pg_sleep(60)::text AS object, NULL AS detail, NULL AS remediation' WHERE code = 'grant-truncate'; SET statement_timeout = '2s'");
    assert_eq!(superuser.error(LIST).code().code(), "57014");
}

#[test]
fn reports_are_json_and_sarif() {
    let stage = leaky();
    let mut owner = stage.owner();
    let json = "SELECT v->>'level' FROM jsonb_array_elements(tenancy.validate_json()) v WHERE v->>'code' = 'rls-off'";
    assert_eq!(owner.text(json).as_deref(), Some("error"));
    let sarif = "SELECT r->>'level' || ' ' || (r->'locations'->0->'logicalLocations'->0->>'fullyQualifiedName') || ' ' || (s->>'version')
        FROM tenancy.validate_sarif() s, jsonb_array_elements(s->'runs'->0->'results') r WHERE r->>'ruleId' = 'rls-off'";
    assert_eq!(
        owner.text(sarif).as_deref(),
        Some("error table app.t 2.1.0")
    );
    let rules = "SELECT jsonb_array_length(tenancy.validate_sarif()->'runs'->0->'tool'->'driver'->'rules') = (SELECT count(*) FROM tenancy.rules)";
    assert_eq!(owner.text(rules).as_deref(), Some("t"));
}

#[test]
fn the_audit_of_roles_tells_the_path() {
    let stage = leaky();
    let (group, app, owner) = (stage.database.role("group"), &stage.app, &stage.owner);
    let mut superuser = stage.superuser();
    let of_app = format!(
        "SELECT path || ': ' || why || ': ' || remediation FROM tenancy.audit_roles() WHERE role = '{app}'"
    );
    assert!(superuser.rows(&of_app).is_empty());
    superuser.ok(&format!("GRANT {owner} TO {group}; GRANT {group} TO {app}"));
    let told = superuser.text(&of_app).expect("a row");
    assert!(told.starts_with(&format!("{app} -> {group} -> {owner}: can act as {owner}, which owns tenant tables, app.t among them")), "{told}");
    assert!(
        told.ends_with(&format!(": REVOKE {group} FROM {app}")),
        "{told}"
    );
    let path = format!(
        "SELECT detail FROM tenancy.validate() WHERE code = 'role-path' AND object LIKE 'role {app} as {owner}'"
    );
    assert!(superuser.text(&path).expect("a finding").contains(&group));
    superuser.ok(&format!("REVOKE {group} FROM {app}"));
    assert!(superuser.rows(&of_app).is_empty());
    // Memberships in a circle are not to be had; a role of the superuser's is a path as well.
    superuser.ok(&format!("GRANT postgres TO {app}"));
    let told = superuser.text(&of_app).expect("a row");
    assert!(told.contains("which is a superuser"), "{told}");
    superuser.ok(&format!("REVOKE postgres FROM {app}"));
}

/// What is really open in the reference systems, as they are protected.
#[test]
fn no_false_alarm_in_the_reference_systems() {
    let mut wrong = Vec::new();
    for (scenario, holes) in [
        (&OKR, OKR_HOLES),
        (&INSIGHTS, &[]),
        (&STUDIO, STUDIO_HOLES),
        (&AGENTS, AGENTS_HOLES),
    ] {
        let system = scenario_support::Stage::new(scenario);
        let found = system.superuser().texts(LIST);
        let of_system: Vec<_> = scenario
            .roles
            .iter()
            .fold(found.join("\n"), |text, role| {
                text.replace(system.role(role), role)
            })
            .lines()
            .map(str::to_owned)
            .collect();
        if of_system != holes {
            wrong.push(format!("{}: {of_system:#?}", scenario.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The keys were only reported, and the application may read who is of which tenant.
const OKR_HOLES: &[&str] = &[
    "key-cascades table constraint activities_assignee_id_fkey on public.activities",
    "key-cascades table constraint activities_initiative_id_fkey on public.activities",
    "key-cascades table constraint comments_author_id_fkey on public.comments",
    "key-cascades table constraint comments_objective_id_fkey on public.comments",
    "key-cascades table constraint initiatives_objective_id_fkey on public.initiatives",
    "key-cascades table constraint key_results_objective_id_fkey on public.key_results",
    "key-cascades table constraint update_history_objective_id_fkey on public.update_history",
    "key-without-tenant table constraint objectives_owner_id_fkey on public.objectives",
    "rls-off table neon_auth.users_sync",
];
/// Its service role is exempt on purpose.
const STUDIO_HOLES: &[&str] = &["role-bypassrls role studio_service"];
/// A function of the policies as they were, which nothing uses any more.
const AGENTS_HOLES: &[&str] = &[
    "definer-public function auth.is_super_admin()",
    "definer-search-path function auth.is_super_admin()",
];

#[test]
fn the_holes_of_a_reference_system_are_closed_by_their_remediations() {
    for scenario in [&OKR, &STUDIO, &AGENTS] {
        let system = scenario_support::Stage::new(scenario);
        let mut superuser = system.superuser();
        expect_error(
            &superuser.error("SELECT tenancy.assert_valid('warn')"),
            "55000",
            "not tight",
        );
        for remediation in superuser
            .texts("SELECT DISTINCT remediation FROM tenancy.validate() WHERE level <> 'info'")
        {
            superuser.ok(&remediation);
        }
        superuser.ok("SELECT tenancy.assert_valid('warn')");
    }
}

#[test]
fn what_the_extension_itself_lacks_is_said() {
    let unbound = Stage::unbound();
    let codes = "SELECT code FROM tenancy.validate() WHERE object NOT LIKE 'role %' ORDER BY code";
    let found = unbound.superuser().texts(codes);
    assert!(found.contains(&"binding-missing".to_owned()), "{found:?}");
    assert!(!found.contains(&"not-preloaded".to_owned()), "{found:?}");
    assert!(!found.contains(&"library-version".to_owned()), "{found:?}");
    unbound
        .superuser()
        .ok("UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'pg_tenancy'");
    let found = unbound.superuser().texts(codes);
    assert!(found.contains(&"library-version".to_owned()), "{found:?}");

    let plain = Database::new(Server::plain());
    let found = plain.superuser().texts(codes);
    assert!(found.contains(&"not-preloaded".to_owned()), "{found:?}");
}

#[test]
fn a_guard_that_is_off_is_found_and_switched_on() {
    let stage = Stage::unbound();
    let mut superuser = stage.superuser();
    superuser.ok(
        "CREATE TABLE app.members (user_id text PRIMARY KEY, tenant_id uuid NOT NULL);
        SELECT tenancy.bind(membership => 'app.members')",
    );
    let codes = "SELECT code FROM tenancy.validate() WHERE code IN ('guard-off', 'cache-off') ORDER BY code";
    assert!(superuser.rows(codes).is_empty());
    superuser.ok("ALTER TABLE app.members DISABLE TRIGGER USER");
    assert_eq!(superuser.texts(codes), ["cache-off", "guard-off"]);
    for remediation in superuser.texts(
        "SELECT remediation FROM tenancy.validate() WHERE code IN ('guard-off', 'cache-off')",
    ) {
        superuser.ok(&remediation);
    }
    assert!(superuser.rows(codes).is_empty());
}

#[test]
fn maintain_is_found_where_there_is_such_a_privilege() {
    let stage = leaky();
    let mut owner = stage.owner();
    let count = "SELECT count(*) FROM tenancy.validate() WHERE code = 'grant-maintain'";
    assert_eq!(owner.int(count), 0);
    if Server::preloaded().version >= 17 {
        owner.ok(&format!("GRANT MAINTAIN ON app.t TO {}", stage.app));
        assert_eq!(owner.int(count), 1);
    }
}

/// Whoever inherits from the owner is exempt as he is, where the table is not forced.
#[test]
fn who_inherits_from_the_owner_is_not_bound_either() {
    let stage = Stage::new();
    let (heir, stranger) = (stage.database.role("heir"), stage.database.role("stranger"));
    let mut superuser = stage.superuser();
    superuser.ok(&format!(
        "GRANT {owner} TO {heir}; GRANT USAGE, CREATE ON SCHEMA app TO {heir}, {stranger};
         CREATE TABLE app.invoices (id uuid PRIMARY KEY, tenant_id uuid NOT NULL); ALTER TABLE app.invoices OWNER TO {owner};
         GRANT SELECT ON app.invoices TO {stranger};
         SELECT tenancy.protect_table('app.invoices', mode => 'enforce', options => '{{\"force\": false}}');
         CREATE TABLE app.inbox (note text);",
        owner = stage.owner
    ));
    for role in [&heir, &stranger] {
        superuser.ok(&format!(
            "CREATE VIEW app.view_of_{role} AS SELECT * FROM app.invoices; ALTER VIEW app.view_of_{role} OWNER TO {role}; GRANT SELECT ON app.view_of_{role} TO PUBLIC;
             CREATE FUNCTION app.call_of_{role}() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT count(*) FROM app.invoices';
             ALTER FUNCTION app.call_of_{role} OWNER TO {role};
             CREATE FUNCTION app.trigger_of_{role}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
                 AS $$ BEGIN UPDATE app.invoices SET id = id; RETURN NEW; END $$;
             CREATE TRIGGER g_{role} BEFORE INSERT ON app.inbox FOR EACH ROW EXECUTE FUNCTION app.trigger_of_{role}();
             ALTER FUNCTION app.trigger_of_{role} OWNER TO {role}"
        ));
    }
    let found = "SELECT code || ' ' || object FROM tenancy.validate('{app}')
        WHERE code IN ('view-definer', 'definer-public', 'definer-trigger') ORDER BY code";
    assert_eq!(
        superuser.texts(found),
        [
            format!("definer-public function app.call_of_{heir}()"),
            format!("definer-trigger trigger g_{heir} on app.inbox"),
            format!("view-definer view app.view_of_{heir}"),
        ]
    );
    superuser.ok("SELECT tenancy.protect_table('app.invoices', mode => 'enforce', options => '{\"force\": true}')");
    assert!(superuser.rows(found).is_empty());
}

/// What points at the bound table of tenants is a tenant's, whatever the column is called; so is that table.
#[test]
fn tables_are_known_by_the_key_to_their_tenant() {
    let stage = Stage::unbound();
    stage.owner().ok(&format!(
        "CREATE TABLE app.organizations (id uuid PRIMARY KEY, name text UNIQUE, part_of uuid REFERENCES app.organizations);
         CREATE TABLE app.projects (id uuid PRIMARY KEY, organization_id uuid NOT NULL REFERENCES app.organizations);
         CREATE INDEX ON app.projects (organization_id);
         CREATE TABLE app.events (org uuid NOT NULL REFERENCES app.organizations, at date) PARTITION BY RANGE (at);
         CREATE INDEX ON app.events (org); CREATE TABLE app.events_rest PARTITION OF app.events DEFAULT;
         CREATE TABLE app.named (tenant_id uuid NOT NULL, made_for uuid NOT NULL REFERENCES app.organizations); CREATE INDEX ON app.named (tenant_id);
         CREATE TABLE app.optional (id int, organization_id uuid REFERENCES app.organizations);
         CREATE TABLE app.transfers (sender uuid NOT NULL REFERENCES app.organizations, receiver uuid NOT NULL REFERENCES app.organizations);
         CREATE TABLE app.accounts (id text PRIMARY KEY, current_organization uuid REFERENCES app.organizations);
         ALTER TABLE app.accounts ENABLE ROW LEVEL SECURITY; ALTER TABLE app.accounts FORCE ROW LEVEL SECURITY;
         CREATE POLICY own ON app.accounts USING (id = current_setting('app.current_user_id', true));
         CREATE TABLE app.profiles (id text PRIMARY KEY, role text, organization_id uuid NOT NULL REFERENCES app.organizations);
         CREATE TABLE app.plans (id int);
         INSERT INTO app.organizations (id, part_of) VALUES ('{A}', NULL), ('{B}', '{A}'); INSERT INTO app.named VALUES ('{A}', '{B}'); INSERT INTO app.projects VALUES ('{A}', '{A}'), ('{B}', '{B}')"
    ));
    let mut superuser = stage.superuser();
    superuser.ok("SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id', tenants => 'app.organizations', role_table => 'app.profiles')");
    let found = "SELECT code || ' ' || object FROM tenancy.validate('{app}')
        WHERE level <> 'info' AND object NOT LIKE 'role %' AND code <> 'guard-off' ORDER BY 1";
    assert_eq!(
        superuser.texts(found),
        [
            "rls-off table app.events",
            "rls-off table app.events_rest",
            "rls-off table app.named",
            "rls-off table app.organizations",
            "rls-off table app.projects",
            "tenant-column-missing table app.optional",
            "tenant-column-missing table app.transfers",
        ]
    );
    // To name another tenant is no link to a row of its.
    let crossing = "SELECT object FROM tenancy.validate_data() WHERE code = 'data-link-crosses'";
    assert!(superuser.rows(crossing).is_empty());
    let remediations = "SELECT DISTINCT remediation FROM tenancy.validate('{app}') WHERE code = 'rls-off' OR object = 'table app.optional'";
    for remediation in superuser.texts(remediations) {
        superuser.ok(&remediation);
    }
    assert_eq!(
        superuser.texts("SELECT format('%s %s %s', table_name, template, tenant_column) FROM tenancy.protected_tables ORDER BY 1"),
        [
            "events tenant org",
            "events_rest tenant org",
            "named tenant tenant_id",
            "optional child ",
            "organizations own_tenant id",
            "projects tenant organization_id",
        ]
    );
    // What they are called is known by now.
    assert!(
        superuser
            .texts(found)
            .iter()
            .all(|line| line.ends_with("app.profiles") || line.ends_with("app.transfers")),
    );
    assert!(superuser.rows(crossing).is_empty());
    let mut app = stage.tenant(A);
    assert_eq!(app.texts("SELECT id FROM app.organizations"), [A]);
    assert_eq!(app.texts("SELECT id FROM app.projects"), [A]);
}
