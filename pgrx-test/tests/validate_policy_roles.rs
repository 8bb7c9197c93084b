//! Whether every role that is granted a command has a policy for it: groups, roles that are taken, exempt ones.

mod policy_support;

use pgrx_test::fixture::ClientExt;
use policy_support::{A, B, Stage};

const FOUND: &str = "SELECT object || ': ' || detail FROM tenancy.validate('{app}') WHERE code = 'policy-command-missing' ORDER BY object COLLATE \"C\"";
const REMEDIATIONS: &str =
    "SELECT remediation FROM tenancy.validate('{app}') WHERE code = 'policy-command-missing'";
const OWN: &str = "(tenant_id = current_tenant_id())";

/// A table with row security of the user's own, and a row of each of two tenants.
fn stage() -> Stage {
    let stage = Stage::new();
    let mut superuser = stage.superuser();
    superuser.ok(&format!(
        "CREATE TABLE app.t (id int, tenant_id uuid NOT NULL); CREATE INDEX ON app.t (tenant_id);
         INSERT INTO app.t VALUES (1, '{A}'), (2, '{B}');
         ALTER TABLE app.t ENABLE ROW LEVEL SECURITY; ALTER TABLE app.t FORCE ROW LEVEL SECURITY"
    ));
    stage
}

#[test]
fn a_group_is_served_by_policies_of_all_who_use_it() {
    let stage = stage();
    let (group, other) = (stage.database.role("group"), stage.database.role("other"));
    let app = &stage.app;
    let mut superuser = stage.superuser();
    superuser.ok(&format!(
        "ALTER ROLE {group} NOLOGIN; GRANT {group} TO {app}, {other}; GRANT USAGE ON SCHEMA app TO {group};
         GRANT SELECT, UPDATE ON app.t TO {group}; CREATE POLICY p ON app.t TO {app} USING {OWN}"
    ));
    assert_eq!(
        superuser.texts(FOUND),
        [format!(
            "table app.t for {group}: no permissive policy for SELECT of {other}, UPDATE of {other}, only for other roles"
        )]
    );
    // Who has a policy keeps what he had, and who has none sees at once that he may not.
    assert_eq!(stage.tenant(A).texts("SELECT id FROM app.t"), ["1"]);
    superuser.ok(&format!("SET ROLE {other}"));
    assert!(superuser.rows("SELECT id FROM app.t").is_empty());
    superuser.ok("RESET ROLE");
    for remediation in superuser.texts(REMEDIATIONS) {
        superuser.ok(&remediation);
    }
    assert!(superuser.rows(FOUND).is_empty());
    assert_eq!(stage.tenant(A).texts("SELECT id FROM app.t"), ["1"]);
    superuser.ok(&format!("SET ROLE {other}"));
    assert_eq!(
        superuser.error("SELECT id FROM app.t").code().code(),
        "42501"
    );
    superuser.ok("RESET ROLE");
    // Or it is given a policy.
    superuser.ok(&format!(
        "GRANT SELECT ON app.t TO {group}; CREATE POLICY q ON app.t FOR SELECT TO {other} USING {OWN}"
    ));
    assert!(superuser.rows(FOUND).is_empty());
}

/// Without inheritance, a role is taken by SET ROLE: then it is that role which needs a policy.
#[test]
fn a_role_that_is_taken_needs_the_policy_itself() {
    let stage = stage();
    let (taken, gate) = (stage.database.role("taken"), stage.database.role("gate"));
    let mut superuser = stage.superuser();
    superuser.ok(&format!(
        "ALTER ROLE {taken} NOLOGIN; ALTER ROLE {gate} NOINHERIT; GRANT {taken} TO {gate}; GRANT USAGE ON SCHEMA app TO {taken};
         GRANT SELECT ON app.t TO {taken}; CREATE POLICY p ON app.t TO {taken} USING {OWN}"
    ));
    assert!(superuser.rows(FOUND).is_empty());
    superuser.ok(&format!("ALTER POLICY p ON app.t TO {gate}"));
    assert_eq!(
        superuser.texts(FOUND),
        [format!(
            "table app.t for {taken}: no permissive policy for SELECT, only for other roles"
        )]
    );
    for remediation in superuser.texts(REMEDIATIONS) {
        superuser.ok(&remediation);
    }
    assert!(superuser.rows(FOUND).is_empty());
    // Whoever takes it leaves his own policy behind, though others who inherit from it keep theirs.
    superuser.ok(&format!(
        "GRANT {taken} TO {app}; GRANT SELECT ON app.t TO {taken}; ALTER POLICY p ON app.t TO {gate}, {app}",
        app = stage.app
    ));
    assert_eq!(
        superuser.texts(FOUND),
        [format!(
            "table app.t for {taken}: no permissive policy for SELECT of {gate}, only for other roles"
        )]
    );
}

#[test]
fn who_is_not_bound_or_not_meant_needs_none() {
    let stage = stage();
    let exempt = stage.database.role("exempt");
    let (app, owner) = (&stage.app, &stage.owner);
    let mut superuser = stage.superuser();
    superuser.ok(&format!(
        "ALTER ROLE {exempt} BYPASSRLS; GRANT SELECT, UPDATE ON app.t TO {exempt}; GRANT SELECT ON app.t TO {app};
         CREATE POLICY p ON app.t FOR SELECT TO {app} USING {OWN}"
    ));
    assert!(superuser.rows(FOUND).is_empty());
    superuser.ok(&format!("ALTER ROLE {exempt} NOBYPASSRLS"));
    assert_eq!(
        superuser.texts(FOUND),
        [
            "table app.t: no permissive policy for UPDATE".to_owned(),
            format!(
                "table app.t for {exempt}: no permissive policy for SELECT, only for other roles"
            ),
        ]
    );
    // Whoever acts as the owner of a table that is not forced is not bound either.
    superuser.ok(&format!(
        "ALTER TABLE app.t OWNER TO {owner}; GRANT {owner} TO {exempt}; ALTER TABLE app.t NO FORCE ROW LEVEL SECURITY"
    ));
    assert!(superuser.rows(FOUND).is_empty());
    // What PUBLIC has is for whom the policies are; the grant itself is told.
    superuser.ok("GRANT SELECT ON app.t TO PUBLIC");
    assert!(superuser.rows(FOUND).is_empty());
}
