//! Does every generated policy hold something? Each is dropped, and what users see and can do has to
//! change.

use std::collections::BTreeMap;

use pgrx_test::fixture::{ClientExt, quote_ident, quote_literal};
use postgres::Client;

use super::Stage;

/// Somebody who tries: a role of the scenario and the statements that make his context.
pub struct Actor {
    pub role: &'static str,
    pub context: &'static str,
}

/// What is tried on a table.
pub struct Attempts {
    /// As `regclass` prints it.
    pub table: &'static str,
    pub statements: Vec<String>,
}

/// Runs each statement for itself, keeps nothing, and says how each ended; not which of several policies
/// was the first to refuse.
const TRY_EACH: &str = "
CREATE FUNCTION public.try_each(statements text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    statement text;
    touched bigint;
    outcomes text := '';
BEGIN
    FOREACH statement IN ARRAY statements LOOP
        BEGIN
            EXECUTE statement;
            GET DIAGNOSTICS touched = ROW_COUNT;
            RAISE EXCEPTION USING ERRCODE = 'P0PRO', MESSAGE = touched || ' rows';
        EXCEPTION WHEN OTHERS THEN
            outcomes := outcomes || statement || ' -> ' || SQLSTATE || ' '
                || regexp_replace(SQLERRM, 'policy \"[^\"]*\"', 'policy') || E'\n';
        END;
    END LOOP;
    RETURN outcomes;
END $$";

struct Policy {
    table: String,
    name: String,
    restrictive: bool,
}

/// Drops each policy that the extension made, in a transaction that is rolled back, and requires that
/// the outcome of the attempts on its table changes. A restrictive policy only shows when a permissive
/// one lets more through, so for those the user has a policy of his own that lets everything through.
pub fn every_policy_holds_something(stage: &Stage, actors: &[Actor], attempts: &[Attempts]) {
    let mut superuser = stage.superuser();
    install(&mut superuser);
    let policies = generated(&mut superuser);
    assert!(policies.len() >= 5, "there is something to drop");
    for table in attempts {
        same_in_a_session_of_the_role(stage, &mut superuser, actors, table);
    }
    let mut idle = Vec::new();
    let mut untouched: BTreeMap<(&str, bool), String> = BTreeMap::new();
    for policy in &policies {
        let table = attempts
            .iter()
            .find(|attempts| attempts.table == policy.table)
            .unwrap_or_else(|| panic!("nothing is tried on {}", policy.table));
        superuser.ok("BEGIN");
        if policy.restrictive {
            superuser.ok(&format!(
                "CREATE POLICY wide_open ON {} USING (true) WITH CHECK (true)",
                policy.table
            ));
        }
        let before = untouched
            .entry((table.table, policy.restrictive))
            .or_insert_with(|| fingerprint(stage, &mut superuser, actors, table));
        superuser.ok(&format!(
            "DROP POLICY {} ON {}",
            quote_ident(&policy.name),
            policy.table
        ));
        let after = fingerprint(stage, &mut superuser, actors, table);
        superuser.ok("ROLLBACK");
        if *before == after {
            idle.push(format!("{} on {}:\n{before}", policy.name, policy.table));
        }
    }
    assert!(
        idle.is_empty(),
        "nothing changes without these policies:\n{}",
        idle.join("\n")
    );
}

/// Makes the function that attempts run through.
pub fn install(superuser: &mut Client) {
    superuser.ok(TRY_EACH);
}

fn generated(superuser: &mut Client) -> Vec<Policy> {
    let rows = superuser.rows(
        r"SELECT polrelid::regclass, polname, NOT polpermissive FROM pg_policy
          WHERE polname ~ '_tenant_(isolation|access)' ORDER BY 1, 2",
    );
    let text = |value: Option<String>| value.expect("not null");
    rows.into_iter()
        .map(|row| match <[_; 3]>::try_from(row) {
            Ok([table, name, restrictive]) => Policy {
                table: text(table),
                name: text(name),
                restrictive: text(restrictive) == "t",
            },
            Err(row) => panic!("three columns, not {row:?}"),
        })
        .collect()
}

fn try_each(table: &Attempts) -> String {
    let list: Vec<_> = table.statements.iter().map(|s| quote_literal(s)).collect();
    format!("SELECT public.try_each(ARRAY[{}])", list.join(", "))
}

/// How all attempts of all actors end, in the superuser's transaction, which may have changed policies.
pub fn fingerprint(
    stage: &Stage,
    superuser: &mut Client,
    actors: &[Actor],
    table: &Attempts,
) -> String {
    let mut all = String::new();
    for actor in actors {
        superuser.ok(&format!(
            "SAVEPOINT actor; SET LOCAL ROLE {}; {}",
            quote_ident(stage.role(actor.role)),
            actor.context
        ));
        let outcome = superuser.text(&try_each(table)).expect("an outcome");
        superuser.ok("ROLLBACK TO actor");
        all.push_str(&headline(actor));
        all.push_str(&outcome);
    }
    all
}

fn headline(actor: &Actor) -> String {
    format!("{} {}\n", actor.role, actor.context)
}

/// SET ROLE is what makes a change of policies visible to an actor before it is committed; it must be
/// as good as a session of that role.
fn same_in_a_session_of_the_role(
    stage: &Stage,
    superuser: &mut Client,
    actors: &[Actor],
    table: &Attempts,
) {
    for actor in actors {
        let mut session = stage.acting(actor.role, actor.context);
        let theirs = session.text(&try_each(table)).expect("an outcome");
        session.ok("ROLLBACK");
        superuser.ok("BEGIN");
        let ours = fingerprint(stage, superuser, std::slice::from_ref(actor), table);
        superuser.ok("ROLLBACK");
        let ours = ours.strip_prefix(&headline(actor)).expect("a headline");
        assert_eq!(ours, theirs, "{} {}", actor.role, actor.context);
    }
}
