//! What a command on a protected table needs to know of who is asking.
//!
//! Pure. Owns the answer for each template and command, which the executor's hooks go by. Must agree
//! with `predicate`: what a predicate depends on is needed here.

use pgrx::pg_sys;

use super::model::{Command, Template};
use super::options::{Options, Readers, SuperAdmins};

/// What of the context must still be the same when a query goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Same {
    /// None of it: the rows do not depend on it.
    #[default]
    Nothing,
    /// The tenant.
    Tenant,
    /// The user, his roles and memberships too.
    Identity,
}

/// What one command on one table needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// A tenant.
    pub tenant: bool,
    /// A user.
    pub user: bool,
    /// A user, or a tenant that is trusted without one.
    pub anyone: bool,
    /// To go on.
    pub same: Same,
}

impl Needs {
    /// What a row that cannot be read is taken to need.
    pub const MOST: Self = Self {
        tenant: true,
        user: false,
        anyone: true,
        same: Same::Identity,
    };

    /// What both need.
    pub fn and(self, other: Self) -> Self {
        Self {
            tenant: self.tenant || other.tenant,
            user: self.user || other.user,
            anyone: self.anyone || other.anyone,
            same: self.same.max(other.same),
        }
    }
}

/// What each command on a table needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandNeeds {
    /// SELECT.
    pub select: Needs,
    /// INSERT.
    pub insert: Needs,
    /// UPDATE, and locking rows.
    pub update: Needs,
    /// DELETE.
    pub delete: Needs,
}

impl CommandNeeds {
    /// What the commands need for which privileges are required: the same for which Postgres applies
    /// policies.
    pub fn required(&self, privileges: u64) -> Needs {
        [
            (pg_sys::ACL_SELECT, self.select),
            (pg_sys::ACL_INSERT, self.insert),
            (pg_sys::ACL_UPDATE, self.update),
            (pg_sys::ACL_DELETE, self.delete),
        ]
        .into_iter()
        .filter(|(privilege, _)| privileges & u64::from(*privilege) != 0)
        .fold(Needs::default(), |sum, (_, one)| sum.and(one))
    }

    /// Of a registered table; all there is where the registration cannot be read, as that of a later
    /// version.
    pub fn of_row(template: &str, options: &str) -> Self {
        let read = || {
            let options = Options::parse(&serde_json::from_str(options).ok()?).ok()?;
            Some((Template::parse(template).ok()?, options))
        };
        let Some((template, options)) = read() else {
            return Self {
                select: Needs::MOST,
                insert: Needs::MOST,
                update: Needs::MOST,
                delete: Needs::MOST,
            };
        };
        Self {
            select: of(template, &options, Command::Select),
            insert: of(template, &options, Command::Insert),
            update: of(template, &options, Command::Update),
            delete: of(template, &options, Command::Delete),
        }
    }
}

/// What the command needs.
fn of(template: Template, options: &Options, command: Command) -> Needs {
    let reads = command == Command::Select;
    let tenant = |same| Needs {
        tenant: true,
        same,
        ..Needs::default()
    };
    match template {
        Template::Tenant | Template::SharedRead | Template::Child => tenant(Same::Tenant),
        Template::TenantReadAdminWrite if reads => tenant(Same::Tenant),
        Template::TenantReadAdminWrite => tenant(Same::Identity),
        Template::OwnTenant if reads && options.super_admins == SuperAdmins::None => {
            tenant(Same::Tenant)
        }
        Template::OwnTenant => tenant(Same::Identity),
        Template::SelfRow => Needs {
            tenant: options.readers != Readers::None
                && matches!(command, Command::Select | Command::Insert),
            user: true,
            same: Same::Identity,
            ..Needs::default()
        },
        Template::MemberRead if reads => Needs {
            anyone: true,
            same: Same::Identity,
            ..Needs::default()
        },
        Template::MemberRead if options.admin_writes => tenant(Same::Identity),
        Template::MemberRead => tenant(Same::Tenant),
        Template::GlobalReadAdminWrite if reads && options.visible.is_none() => Needs::default(),
        Template::GlobalReadAdminWrite if reads => Needs {
            same: Same::Identity,
            ..Needs::default()
        },
        Template::GlobalReadAdminWrite => tenant(Same::Identity),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn needs(template: Template, options: serde_json::Value, command: Command) -> Needs {
        of(template, &Options::parse(&options).unwrap(), command)
    }

    #[test]
    fn only_what_is_said_to_be_open_is_read_without_a_tenant() {
        for template in Template::ALL {
            for command in Command::EACH {
                let open = match template {
                    Template::GlobalReadAdminWrite | Template::MemberRead => {
                        command == Command::Select
                    }
                    Template::SelfRow => true,
                    _ => false,
                };
                let tenant = needs(template, json!({}), command).tenant;
                assert_eq!(!tenant, open, "{template:?} {command:?}");
            }
        }
    }

    #[test]
    fn what_depends_on_roles_goes_on_for_the_same_user_only() {
        for (template, options, command) in [
            (Template::TenantReadAdminWrite, json!({}), Command::Update),
            (
                Template::OwnTenant,
                json!({"super_admins": "read"}),
                Command::Select,
            ),
            (Template::MemberRead, json!({}), Command::Select),
            (
                Template::MemberRead,
                json!({"admin_writes": true}),
                Command::Delete,
            ),
            (Template::SelfRow, json!({}), Command::Select),
            (
                Template::GlobalReadAdminWrite,
                json!({"visible": "a"}),
                Command::Select,
            ),
        ] {
            assert_eq!(
                needs(template, options, command).same,
                Same::Identity,
                "{template:?}"
            );
        }
        assert_eq!(
            needs(Template::Tenant, json!({}), Command::Delete).same,
            Same::Tenant
        );
        assert_eq!(
            needs(Template::GlobalReadAdminWrite, json!({}), Command::Select),
            Needs::default()
        );
    }

    #[test]
    fn a_statement_needs_what_its_tables_need() {
        let both = needs(Template::MemberRead, json!({}), Command::Select).and(needs(
            Template::Tenant,
            json!({}),
            Command::Select,
        ));
        assert_eq!(both, Needs::MOST);
        assert!(
            needs(
                Template::SelfRow,
                json!({"readers": "tenant"}),
                Command::Select
            )
            .tenant
        );
    }
}
