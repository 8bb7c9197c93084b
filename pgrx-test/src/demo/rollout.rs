//! From policies that let everything through to enforcement, by way of shadow mode: the studio platform on
//! a day with two faults in its application.
//!
//! Owns that day: what the application runs, which of it is faulty, and how that is mended. A test runs the
//! same day.

use std::time::Instant;

use anyhow::Result;
use postgres::Client;

use super::Play;

/// Users by number, with the organisation that each has chosen.
const ACTORS: [(u32, u32); 4] = [(61, 2), (63, 4), (63, 5), (1, 2)];

/// Statements of the application that filter by themselves, as it was written: `$user` and `$organisation`
/// are its own parameters.
const CORRECT: [&str; 8] = [
    "SELECT p.id, p.name, m.role FROM platform.projects p
     JOIN platform.organization_members m ON m.organization_id = p.organization_id AND m.user_id = $user
     WHERE p.organization_id = $organisation ORDER BY p.updated_at DESC LIMIT 20",
    "SELECT o.name, count(*) FROM platform.organizations o JOIN platform.projects p ON p.organization_id = o.id
     WHERE o.id = $organisation GROUP BY o.name",
    "SELECT o.id, o.name FROM platform.organizations o
     JOIN platform.organization_members m ON m.organization_id = o.id WHERE m.user_id = $user",
    "SELECT p.name FROM platform.projects p WHERE p.organization_id = $organisation AND EXISTS (
         SELECT FROM platform.organization_members m
         WHERE m.organization_id = p.organization_id AND m.user_id = $user AND m.role <> 'service')",
    "SELECT display_name FROM platform.profiles WHERE id = $user",
    "SELECT count(*) FROM platform.sessions WHERE user_id = $user AND expires_at > now()",
    "WITH mine AS (SELECT * FROM platform.projects WHERE organization_id = $organisation)
     SELECT status, count(*) FROM mine GROUP BY status HAVING count(*) > 1",
    "UPDATE platform.projects SET updated_at = now()
     WHERE organization_id = $organisation AND status = 'active' AND name LIKE '%1'",
];

/// The number on a page, of everybody's projects: a WHERE is missing.
const WITHOUT_WHERE: &str = "SELECT count(*) FROM platform.projects WHERE status = 'paused'";
const WITH_WHERE: &str = "SELECT count(*) FROM platform.projects WHERE status = 'paused' AND organization_id = $organisation";
/// A job at night that says for nobody that it works.
const JOB: &str = "UPDATE platform.projects SET status = 'archived' WHERE status = 'paused' AND updated_at < now() - interval '1 year'";

/// A day of the application; how many statements it ran.
pub fn day(application: &mut Client, job: &mut Client, is_mended: bool) -> Result<usize> {
    let mut count = 0;
    for _ in 0..15 {
        for (user, organisation) in ACTORS {
            let user = format!("md5('user-{user}')::uuid");
            let organisation = format!("md5('org-{organisation}')::uuid");
            let page = if is_mended { WITH_WHERE } else { WITHOUT_WHERE };
            application.batch_execute(&format!(
                "BEGIN; SELECT set_config('app.current_user_id', {user}::text, true), set_config('app.current_org_id', {organisation}::text, true)"
            ))?;
            for statement in CORRECT.iter().chain([&page]) {
                application.batch_execute(
                    &statement
                        .replace("$user", &user)
                        .replace("$organisation", &organisation),
                )?;
                count += 1;
            }
            application.batch_execute("COMMIT")?;
        }
    }
    job.batch_execute(JOB)?;
    Ok(count + 1)
}

/// The part of the demonstration.
pub fn show(play: &mut Play) -> Result<()> {
    let mut owner = play.superuser()?;
    let mut application = play.application()?;
    let mut job = play.application()?;
    application.batch_execute("SET application_name = 'web'")?;
    job.batch_execute("SET application_name = 'nightly'")?;
    let report = "SELECT relation, mode, statements, denials, ready, array_to_string(reasons, '; ') AS reasons FROM tenancy.shadow_report()";

    play.heading("The way there without a surprise: shadow mode, which changes nothing")?;
    timed(play, &mut owner, "SELECT tenancy.set_mode('shadow')")?;
    let count = day(&mut application, &mut job, false)?;
    play.say(&format!(
        "-- A day of the application: {count} statements, most of them joins that filter by themselves."
    ))?;
    play.say(
        "-- One page has lost its WHERE, and a job at night sets no context. What would break?",
    )?;
    play.attempts(
        &mut owner,
        "SELECT",
        &[
            "SELECT relation, kind, application_name, sum(rows)::bigint AS rows, sum(statements)::bigint AS statements, min(left(query, 60)) AS query
             FROM tenancy.shadow_denials GROUP BY 1, 2, 3, query ORDER BY 3",
            report,
        ],
    )?;
    play.heading("Enforcing is refused, until both are mended")?;
    play.attempts(
        &mut owner,
        "SELECT",
        &["SELECT tenancy.set_mode('platform.projects', 'enforce')"],
    )?;
    owner.batch_execute("SELECT tenancy.reset_shadow()")?;
    let mut service = play.connect("studio_service")?;
    day(&mut application, &mut service, true)?;
    play.say(
        "-- The page has its WHERE again, the job runs as studio_service. After another day:",
    )?;
    play.attempts(&mut owner, "SELECT", &[report])?;
    timed(play, &mut owner, "SELECT tenancy.set_mode('enforce')")?;
    day(&mut application, &mut service, true)?;
    play.say("-- Enforced: the same day, without an error.")?;
    play.attempts(&mut job, "SELECT", &[JOB])?;
    play.heading("And back, in one call, should it ever be needed")?;
    timed(play, &mut owner, "SELECT tenancy.set_mode('permissive')")
}

fn timed(play: &mut Play, client: &mut Client, sql: &str) -> Result<()> {
    let since = Instant::now();
    client.batch_execute(sql)?;
    let took = since.elapsed().as_millis();
    play.say(&format!("{sql};  -- {took} ms, all tables"))
}
