//! The studio platform: a user of two organisations, and policies that were to be for the transition.

use anyhow::Result;

use super::{Play, rollout};

/// Users by number, from the names that their identifiers are made of: 61 belongs to organisation 2,
/// 63 to 4 and 5.
const USER_61: &str = "SELECT set_config('app.current_user_id', md5('user-61')::uuid::text, true)";
const USER_63: &str = "SELECT set_config('app.current_user_id', md5('user-63')::uuid::text, true)";
pub const USER_63_IN_4: &str = "SELECT set_config('app.current_user_id', md5('user-63')::uuid::text, true), set_config('app.current_org_id', md5('org-4')::uuid::text, true)";
const USER_63_IN_5: &str = "SELECT set_config('app.current_user_id', md5('user-63')::uuid::text, true), set_config('app.current_org_id', md5('org-5')::uuid::text, true)";
const USER_61_IN_5: &str = "SELECT set_config('app.current_user_id', md5('user-61')::uuid::text, true), set_config('app.current_org_id', md5('org-5')::uuid::text, true)";

pub fn show(play: &mut Play) -> Result<()> {
    let mut application = play.application()?;
    let projects = "SELECT count(*) AS projects, count(DISTINCT organization_id) AS organisations, min(name) AS first FROM platform.projects";

    play.heading("The policies as found let everything through, and still stand; what protects is restrictive")?;
    play.attempts(
        &mut application,
        USER_61,
        &["SELECT policyname, permissive, cmd, left(qual, 56) AS using FROM pg_policies WHERE tablename = 'projects'"],
    )?;

    play.heading("User 63 belongs to two organisations: he lists them, then chooses")?;
    play.say(&format!("{USER_63};"))?;
    play.attempts(
        &mut application,
        USER_63,
        &[
            "SELECT name, slug FROM platform.organizations ORDER BY name",
            projects,
        ],
    )?;
    for context in [USER_63_IN_4, USER_63_IN_5] {
        play.say(&format!("{context};"))?;
        play.attempts(&mut application, context, &[projects])?;
    }

    play.heading("User 61 chooses an organisation that he does not belong to")?;
    play.say(&format!("{USER_61_IN_5};"))?;
    play.attempts(&mut application, USER_61_IN_5, &[projects])?;

    play.heading("User 61 tries what he may not in his own")?;
    play.attempts(
        &mut application,
        USER_61,
        &[
            "UPDATE platform.projects SET name = 'mine' WHERE organization_id = md5('org-5')::uuid",
            "INSERT INTO platform.projects (organization_id, name) VALUES (md5('org-5')::uuid, 'planted')",
            "INSERT INTO platform.organization_members VALUES (md5('user-61')::uuid, md5('org-5')::uuid, 'owner')",
            "UPDATE platform.organization_members SET role = 'owner' WHERE user_id = md5('user-61')::uuid",
            "SELECT count(*) AS sessions, count(DISTINCT user_id) AS users FROM platform.sessions",
        ],
    )?;

    play.heading("A token finds its user before anybody is known")?;
    play.attempts(
        &mut application,
        "SELECT",
        &[
            "SELECT platform.user_of_token('token-61-2') = md5('user-61')::uuid AS is_user_61",
            "SELECT count(*) FROM platform.sessions",
        ],
    )?;

    play.heading("Back to where it was found, in one call, and forward again")?;
    let mut owner = play.superuser()?;
    play.say("SELECT tenancy.set_mode('permissive');")?;
    owner.batch_execute("SELECT tenancy.set_mode('permissive')")?;
    play.attempts(&mut application, "SELECT", &[projects])?;
    play.say("SELECT tenancy.set_mode('enforce');")?;
    owner.batch_execute("SELECT tenancy.set_mode('enforce')")?;
    play.attempts(&mut application, USER_61, &[projects])?;
    rollout::show(play)
}
