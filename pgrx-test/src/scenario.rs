//! The reference systems of `tests/scenarios`: their scripts, and the names that a cluster shares.
//!
//! The demo and the tests set them up from here, so that both show the same system.

use std::collections::BTreeMap;

/// A system's scripts, in the order in which they run.
#[derive(Debug)]
pub struct Scenario {
    /// Its folder in `tests/scenarios`, and the demo's database.
    pub name: &'static str,
    pub schema: &'static str,
    pub seed: &'static str,
    pub protect: &'static str,
    /// Roles that `protect` makes; the application's is the first.
    pub roles: &'static [&'static str],
}

macro_rules! scenario {
    ($name:literal, $roles:expr) => {
        Scenario {
            name: $name,
            schema: include_str!(concat!("../../tests/scenarios/", $name, "/schema.sql")),
            seed: include_str!(concat!("../../tests/scenarios/", $name, "/seed.sql")),
            protect: include_str!(concat!("../../tests/scenarios/", $name, "/protect.sql")),
            roles: $roles,
        }
    };
}

/// A dashboard of objectives and key results: the user is set, a table knows the tenant.
pub const OKR: Scenario = scenario!("okr", &["stratixv2_app"]);
/// Insights: the application sets the tenant, a text.
pub const INSIGHTS: Scenario = scenario!("insights", &["insights_app", "insights_accounts"]);
/// Studio: a user of many organisations chooses one of them.
pub const STUDIO: Scenario = scenario!("studio", &["studio_app", "studio_gate", "studio_service"]);
/// Agents: the claims of a token, roles in a table of their own, a tenant that all share.
pub const AGENTS: Scenario = scenario!("agents", &["agents_app", "agents_signup"]);

impl Scenario {
    pub fn application(&self) -> &'static str {
        self.roles[0]
    }

    /// The protecting script with other names for the roles, which belong to the whole cluster.
    pub fn protect_with(&self, roles: &BTreeMap<&str, String>) -> String {
        self.roles
            .iter()
            .fold(self.protect.to_owned(), |script, role| {
                script.replace(role, &roles[role])
            })
    }
}
