//! `tenancy.explain_access()` beside policies of the user's own, and the words it uses.

mod explain_support;
mod policy_support;
mod template_support;

use explain_support::{Asker, lines, met, rows_of, verdict};
use pgrx_test::fixture::ClientExt;
use policy_support::{A, B};
use template_support::World;

const ANN: Asker<'_> = (Some("ann"), None);

#[test]
fn policies_of_ones_own_are_combined_as_postgres_does() {
    let world = World::new();
    let (app, mut owner) = (world.stage.app.clone(), world.stage.owner());
    let other = world.stage.database.role("other");
    owner.ok(&format!(
        "CREATE POLICY seen ON app.notes FOR SELECT USING (id <> 3);
         CREATE POLICY kept ON app.notes AS RESTRICTIVE FOR UPDATE USING (true) WITH CHECK (body <> 'a');
         CREATE POLICY fallback ON app.tools FOR ALL USING (id < 3);
         CREATE POLICY ours ON app.config TO {app} USING (current_user = '{app}');
         CREATE POLICY others ON app.config TO {other} USING (true);
         CREATE POLICY never ON app.flags AS RESTRICTIVE USING (NULL::boolean);
         CREATE POLICY parted ON app.lines FOR SELECT USING (10 / (id - 2) > 0);
         CREATE POLICY looked ON app.words USING (EXISTS (SELECT FROM app.config c WHERE c.id = words.id));
         CREATE POLICY whole ON app.profiles AS RESTRICTIVE FOR DELETE USING (length(profiles::text) > 0 AND app.profiles.id <> 'amy')"
    ));
    for (table, template, column) in [
        ("notes", "tenant", "'tenant_id'"),
        ("tools", "shared_read", "'tenant_id'"),
        ("config", "tenant", "'tenant_id'"),
        ("flags", "global_read_admin_write", "NULL"),
        ("lines", "child", "NULL"),
        ("words", "child", "NULL"),
        ("profiles", "tenant", "'tenant_id'"),
    ] {
        owner.ok(&format!(
            "SELECT tenancy.protect_table('app.{table}', '{template}', {column}, 'enforce', '{{\"adopt_policies\": true}}')"
        ));
    }
    let (mut superuser, mut session) = (world.stage.superuser(), world.stage.nobody());
    let (mut sure, mut open) = (0, 0);
    for table in [
        "notes", "tools", "config", "flags", "lines", "words", "profiles",
    ] {
        for row in rows_of(&mut superuser, table) {
            for asker in [
                ANN,
                (Some("amy"), None),
                (Some("bob"), None),
                (Some("two"), Some(B)),
                (Some("sup"), None),
                (None, None),
            ] {
                for command in ["select", "insert", "update", "delete"] {
                    let told = verdict(&mut superuser, table, &row[0], command, asker, Some(&app));
                    let met = met(&mut session, table, &row, command, asker);
                    let what = format!(
                        "{table} {} {command} {asker:?}: told {told}, met {met}",
                        row[0]
                    );
                    assert!(told.split(" or ").any(|word| word == met), "{what}");
                    if told == met {
                        sure += 1;
                    } else {
                        open += 1;
                        // Only where one policy refuses and another raises does the plan decide.
                        assert!(table == "lines" && row[0].contains('2'), "{what}");
                    }
                }
            }
        }
    }
    assert!(sure > 20 * open, "{sure} {open}");
}

#[test]
fn every_line_says_what_it_is_about() {
    let world = World::new();
    let mut owner = world.stage.owner();
    owner.ok("SELECT tenancy.protect_table('app.notes', mode => 'shadow')");
    let told = lines(&mut owner, "notes", "'2'", "update", ANN, None);
    let brief: Vec<(&str, &str)> = told
        .iter()
        .map(|[subject, verdict, _]| (subject.as_str(), verdict.as_str()))
        .collect();
    assert_eq!(
        brief,
        [
            ("table", "shadow"),
            ("row", "found"),
            ("role", "any that is bound"),
            ("context: user", "ann"),
            ("context: tenant", A),
            ("context: role", "user"),
            ("policy \"notes_tenant_isolation_update\"", "refused"),
            ("policy \"notes_tenant_access\"", "refused"),
            ("UPDATE USING together", "refused"),
            ("policy \"notes_tenant_isolation_select\"", "refused"),
            ("policy \"notes_tenant_access\"", "refused"),
            ("SELECT USING together", "refused"),
            ("policy \"notes_tenant_isolation_update\"", "refused"),
            ("policy \"notes_tenant_access\"", "refused"),
            ("UPDATE WITH CHECK together", "refused"),
            ("verdict", "hidden"),
        ]
    );
    let detail = |index: usize| told[index][2].as_str();
    assert_eq!(detail(1), format!("\"id\" = 2; \"tenant_id\" = {B}"));
    assert_eq!(detail(3), "argument user_id");
    assert_eq!(
        detail(4),
        "by default: the only active membership of the user"
    );
    assert_eq!(
        detail(6),
        "restrictive, to PUBLIC, made on enforcement; UPDATE USING: (\"tenant_id\" = tenancy.current_tenant_id_required())"
    );
    assert_eq!(
        detail(15),
        "UPDATE would not find the row: no error, no row"
    );
    // Where the context came from.
    let source = |session: &mut postgres::Client| {
        lines(session, "notes", "'1'", "select", (None, None), None)
            .into_iter()
            .filter(|[subject, ..]| subject.starts_with("context: ") && !subject.ends_with("role"))
            .map(|[.., detail]| detail)
            .collect::<Vec<_>>()
            .join(" | ")
    };
    assert_eq!(
        source(&mut owner),
        "no user is given | app.current_user_id or app.current_tenant_id or app.current_org_id is not set in this transaction."
    );
    owner.ok("BEGIN; SET LOCAL app.current_user_id = 'two'");
    assert_eq!(
        source(&mut owner),
        "setting app.current_user_id, set by a statement of this session | the user has 2 active memberships and none is chosen"
    );
    owner.ok("COMMIT");
    let options = format!("-c app.current_user_id=two -c app.current_org_id={A}");
    let mut brought = world
        .stage
        .database
        .connect_with(&world.stage.owner, &options);
    assert_eq!(
        source(&mut brought),
        "setting app.current_user_id, brought by the connection | setting app.current_org_id, brought by the connection; the user is a member of it"
    );
    // Nobody is bound by a table that is not protected.
    owner.ok("SELECT tenancy.unprotect_table('app.notes')");
    let told = lines(&mut owner, "notes", "'2'", "delete", ANN, None);
    assert_eq!(told[0][1], "not protected");
    assert_eq!(
        told.last().unwrap()[1..],
        ["allowed", "row security is off: nothing is refused"]
    );
}

#[test]
fn who_is_not_bound_is_told_so() {
    let world = World::new();
    world.enforce("notes", "tenant", "tenant_id", "{\"force\": false}");
    let mut superuser = world.stage.superuser();
    let free = world.stage.database.role("free");
    let (owner, app) = (world.stage.owner.clone(), world.stage.app.clone());
    superuser.ok(&format!("ALTER ROLE {free} BYPASSRLS; GRANT USAGE ON SCHEMA app TO {free}; GRANT SELECT ON app.notes TO {free}"));
    for (role, bound, verdict, why) in [
        (
            superuser.text("SELECT current_user").unwrap().as_str(),
            "not bound",
            "allowed",
            "a superuser",
        ),
        (&free, "not bound", "allowed", "BYPASSRLS"),
        (&owner, "not bound", "allowed", "owner"),
        (&app, "bound", "hidden", "row security binds it"),
    ] {
        let told = lines(&mut superuser, "notes", "'2'", "select", ANN, Some(role));
        assert_eq!(
            (told[2][1].as_str(), told.last().unwrap()[1].as_str()),
            (bound, verdict),
            "{told:?}"
        );
        assert!(told[2][2].contains(why), "{told:?}");
    }
    world
        .stage
        .owner()
        .ok("SELECT tenancy.protect_table('app.notes', mode => 'enforce')");
    assert_eq!(
        verdict(&mut superuser, "notes", "2", "select", ANN, Some(&owner)),
        "hidden",
        "forced by now"
    );
    world
        .stage
        .owner()
        .ok(&format!("REVOKE UPDATE ON app.notes FROM {app}"));
    let told = lines(&mut superuser, "notes", "'1'", "update", ANN, Some(&app));
    assert_eq!(
        told.last().unwrap()[1..],
        [
            "error",
            "42501: the role has no UPDATE privilege on the table"
        ]
    );
}
