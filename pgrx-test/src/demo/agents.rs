//! The agent platform: claims, roles, and rows of the platform that all tenants read.

use anyhow::Result;

use super::Play;

pub const MEMBER_1: &str = "SELECT set_config('request.jwt.claims', json_build_object('sub', md5('user-1-2')::uuid)::text, true)";
const MEMBER_2: &str = "SELECT set_config('request.jwt.claims', json_build_object('sub', md5('user-2-2')::uuid)::text, true)";
const ADMIN_1: &str = "SELECT set_config('request.jwt.claims', json_build_object('sub', md5('user-1-1')::uuid)::text, true)";
const ROOT: &str = "SELECT set_config('request.jwt.claims', json_build_object('sub', md5('root')::uuid)::text, true)";

pub fn show(play: &mut Play) -> Result<()> {
    let mut application = play.application()?;
    let seen = "SELECT (SELECT name FROM organizations) AS organisation, count(*) AS tools,
       count(*) FILTER (WHERE tenant_id <> current_tenant_id()) AS shared,
       (SELECT count(*) FROM users) AS colleagues, (SELECT count(*) FROM profiles) AS profiles,
       (SELECT count(*) FROM feature_flags) AS flags FROM tools";
    play.heading("Members of two organisations ask the same")?;
    for member in [MEMBER_1, MEMBER_2] {
        play.say(&format!("{member};"))?;
        play.attempts(&mut application, member, &[seen])?;
    }

    play.heading("One call says all that a page begins with")?;
    play.attempts(
        &mut application,
        MEMBER_1,
        &["SELECT key, left(value::text, 80) AS value FROM jsonb_each(get_user_tenant_context())"],
    )?;

    play.heading("The member of organisation 1 wants more")?;
    play.attempts(
        &mut application,
        MEMBER_1,
        &[
            "UPDATE profiles SET role = 'super_admin'",
            "UPDATE users SET organization_id = md5('org-2')::uuid WHERE id = md5('user-1-2')::uuid",
            "UPDATE tools SET name = 'mine' WHERE tenant_id = '00000000-0000-0000-0000-000000000001'",
            "INSERT INTO tools (tenant_id, name) VALUES ('00000000-0000-0000-0000-000000000001', 'for everybody')",
            "UPDATE tenant_configurations SET ui_config = '{}'",
        ],
    )?;

    play.heading("An admin of organisation 1 may some of it")?;
    play.attempts(
        &mut application,
        ADMIN_1,
        &[
            "UPDATE tenant_configurations SET ui_config = '{}'",
            "INSERT INTO tenant_agents (tenant_id, agent_id) VALUES (md5('org-1')::uuid, md5('agents-platform-9')::uuid)",
            "INSERT INTO tenant_agents (tenant_id, agent_id) VALUES (md5('org-1')::uuid, md5('agents-2-2')::uuid)",
            "UPDATE profiles SET role = 'super_admin'",
        ],
    )?;

    play.heading("A super admin reads all profiles and manages organisations and flags")?;
    play.attempts(
        &mut application,
        ROOT,
        &[
            "SELECT (SELECT count(*) FROM profiles) AS profiles, (SELECT count(*) FROM organizations) AS organisations,
       (SELECT count(*) FROM feature_flags) AS flags, (SELECT count(*) FROM tools) AS tools",
            "UPDATE organizations SET lifecycle_state = 'suspended' WHERE slug = 'org-2'",
        ],
    )?;

    play.heading("Nobody is signed in")?;
    play.attempts(
        &mut application,
        "SELECT",
        &[
            "SELECT count(*) AS active_flags FROM feature_flags",
            "SELECT count(*) FROM tools",
        ],
    )
}
