//! The settings that the binding names, as variables of this backend.
//!
//! Owns which of them carries what. Must never keep a value.

use super::Definition;
use crate::context::setting::{SERVICE_SETTING, Setting};

/// What carries the context.
#[derive(Debug)]
pub struct Settings {
    /// The claims of a token.
    pub claims: Option<Setting>,
    /// The user.
    pub user: Setting,
    /// The tenant, under each of its names.
    pub tenant: Vec<Setting>,
    /// The tenant that a service acts for.
    pub service: Setting,
}

impl Settings {
    /// The settings of a definition.
    pub fn of(definition: &Definition) -> Self {
        Self {
            claims: definition.claims_setting.as_deref().map(Setting::new),
            user: Setting::new(&definition.user_setting),
            tenant: definition
                .tenant_setting_names()
                .map(Setting::new)
                .collect(),
            service: Setting::new(SERVICE_SETTING),
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.claims
            .iter()
            .chain([&self.user, &self.service])
            .chain(&self.tenant)
    }

    /// Makes them variables of ours and forgets what an earlier transaction left in them.
    pub fn adopt(&self) {
        self.iter().for_each(Setting::adopt);
    }

    /// Whether an assignment to any of them is noticed.
    pub fn are_watched(&self) -> bool {
        self.iter().all(Setting::is_watched)
    }

    /// Whether none of them was set by a statement, so that what they say belongs to the connection.
    pub fn are_of_the_connection(&self) -> bool {
        !self.iter().any(Setting::is_set_by_statement)
    }
}
