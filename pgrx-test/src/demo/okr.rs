//! The OKR system: two organisations, and a guest who is invited into one.

use anyhow::Result;

use super::Play;

const DASHBOARD: &str = include_str!("../../../tests/scenarios/okr/dashboard.sql");

pub const USER_A: &str = "SET LOCAL app.current_user_id = 'user-a-1'";
const USER_B: &str = "SET LOCAL app.current_user_id = 'user-b-1'";
const GUEST_C: &str = "SET LOCAL app.current_user_id = 'guest-c'";

pub fn show(play: &mut Play) -> Result<()> {
    let mut application = play.application()?;
    play.heading("User A and user B ask for the same dashboard, through the application's role")?;
    for user in [USER_A, USER_B] {
        play.say(&format!("{user}; <the dashboard query>"))?;
        application.batch_execute(&format!("BEGIN; {user}"))?;
        play.outcome(&mut application, DASHBOARD)?;
        application.batch_execute("ROLLBACK")?;
    }

    play.heading("User B tries each command on rows of organisation A")?;
    play.attempts(
        &mut application,
        USER_B,
        &[
            "SELECT count(*) FROM objectives WHERE tenant_id = md5('org-a')::uuid",
            "UPDATE objectives SET title = 'mine' WHERE tenant_id = md5('org-a')::uuid",
            "DELETE FROM objectives WHERE tenant_id = md5('org-a')::uuid",
            "INSERT INTO objectives (tenant_id, title, department) VALUES (md5('org-a')::uuid, 'planted', 'Sales')",
            "UPDATE objectives SET tenant_id = md5('org-a')::uuid",
        ],
    )?;

    play.heading("Guest C belongs to nobody, then is invited into organisation A")?;
    play.say(&format!("{GUEST_C};"))?;
    let count = "SELECT count(*) AS objectives, min(title) AS first FROM objectives";
    play.attempts(&mut application, GUEST_C, &[count])?;
    let invitation =
        "UPDATE neon_auth.users_sync SET tenant_id = md5('org-a')::uuid WHERE id = 'guest-c'";
    play.say(&format!("another session: {invitation};"))?;
    play.superuser()?.batch_execute(invitation)?;
    play.say("the next statement of the first session:")?;
    play.attempts(&mut application, GUEST_C, &[count])?;

    play.heading("No context at all")?;
    for statement in [count, "SET pg_tenancy.missing_context = deny", count] {
        play.say(&format!("{statement};"))?;
        play.outcome(&mut application, statement)?;
    }
    Ok(())
}
