//! The role that is asked about.
//!
//! Owns whether row security binds it, and as whom expressions are evaluated. Must never give a role that
//! the caller could not take, nor a superuser.

use pgrx::pg_sys;

use super::super::model::Command;
use super::Line;
use super::catalog::{Role, Table};
use crate::catalog;
use crate::error::{Error, Kind, Result};

/// The role that is asked about.
pub struct Asker {
    /// `None`: any that row security binds, without policies for particular roles.
    pub role: Option<pg_sys::Oid>,
    /// Why row security does not bind it; `None` where it does.
    pub exempt: Option<String>,
    /// The role that expressions are evaluated as: the role asked about, the table's owner, or a role that
    /// may read the table. `None` where that would have to be a superuser.
    pub evaluates_as: Option<pg_sys::Oid>,
    /// The owner of the table, a superuser or not.
    pub owner: pg_sys::Oid,
}

impl Asker {
    /// Finds and judges the role; `forced` is FORCE ROW LEVEL SECURITY under enforcement.
    pub fn of(name: Option<&str>, table: &Table, forced: bool) -> Result<Self> {
        let owner = pg_sys::Oid::from(table.owner);
        // SAFETY: catalog lookups by oid.
        let is_superuser = |role| unsafe { pg_sys::superuser_arg(role) };
        let owner_evaluates = if is_superuser(owner) {
            // Only a superuser can ask, who may act as any role.
            table.reader.map(pg_sys::Oid::from)
        } else {
            Some(owner)
        };
        let Some(name) = name else {
            return Ok(Self {
                role: None,
                exempt: None,
                evaluates_as: owner_evaluates,
                owner,
            });
        };
        let role = catalog::role_oid(name).ok_or_else(|| {
            Error::new(
                Kind::UndefinedObject,
                format!("role {} does not exist", catalog::quote_identifier(name)),
            )
            .hint("Give the role that the application connects as.")
        })?;
        if !catalog::acts_as(role) {
            return Err(Error::new(
                Kind::InsufficientPrivilege,
                format!(
                    "must have the rights of role {}",
                    catalog::quote_identifier(name)
                ),
            )
            .detail("Policies are evaluated as the role that is asked about.")
            .hint("Leave the role out, or ask a superuser."));
        }
        // SAFETY: catalog lookups by oid.
        let (bypasses, owns) = unsafe {
            (
                pg_sys::has_bypassrls_privilege(role),
                pg_sys::has_privs_of_role(role, owner),
            )
        };
        let exempt = if is_superuser(role) {
            Some("a superuser: row security does not bind it".to_owned())
        } else if bypasses {
            Some("has BYPASSRLS: row security does not bind it".to_owned())
        } else if owns && !forced {
            Some("has the rights of the owner, and row security is not forced".to_owned())
        } else {
            None
        };
        let evaluates_as = if exempt.is_none() {
            Some(role)
        } else {
            owner_evaluates
        };
        Ok(Self {
            role: Some(role),
            exempt,
            evaluates_as,
            owner,
        })
    }

    /// Whether a policy for those roles is for it.
    pub fn is_one_of(&self, roles: &[Role]) -> bool {
        self.role.is_some_and(|role| {
            roles.iter().any(|listed| {
                // SAFETY: catalog lookups by oid.
                unsafe { pg_sys::has_privs_of_role(role, pg_sys::Oid::from(listed.oid)) }
            })
        })
    }

    /// Its line.
    pub fn line(&self) -> Line {
        let Some(role) = self.role else {
            let caller = catalog::current_role_name();
            return Line::new(
                "role",
                "any that is bound",
                format!(
                    "what holds for every role that row security binds; policies for particular roles are \
                     not counted, nor what {} is exempt from. Name one with role => '..'",
                    catalog::quote_identifier(&caller)
                ),
            );
        };
        let name = catalog::quote_identifier(&catalog::role_name(role));
        match &self.exempt {
            Some(why) => Line::new("role", "not bound", format!("{name}: {why}")),
            None => Line::new("role", "bound", format!("{name}: row security binds it")),
        }
    }

    /// The privilege that the command needs and the role lacks, on the table and on each of its columns.
    pub fn lacks(&self, relation: pg_sys::Oid, command: Command) -> Option<&'static str> {
        let role = self.role?;
        let has = |privilege: u32| {
            let mode = pg_sys::AclMode::from(privilege);
            // SAFETY: catalog lookups by oid.
            unsafe {
                pg_sys::pg_class_aclcheck(relation, role, mode) == pg_sys::AclResult::ACLCHECK_OK
                    || pg_sys::pg_attribute_aclcheck_all(
                        relation,
                        role,
                        mode,
                        pg_sys::AclMaskHow::ACLMASK_ANY,
                    ) == pg_sys::AclResult::ACLCHECK_OK
            }
        };
        let wanted = match command {
            Command::Insert => (pg_sys::ACL_INSERT, "INSERT"),
            Command::Update => (pg_sys::ACL_UPDATE, "UPDATE"),
            Command::Delete => (pg_sys::ACL_DELETE, "DELETE"),
            Command::Select | Command::All => (pg_sys::ACL_SELECT, "SELECT"),
        };
        let reads = (command != Command::Insert).then_some((pg_sys::ACL_SELECT, "SELECT"));
        [Some(wanted), reads]
            .into_iter()
            .flatten()
            .find(|(privilege, _)| !has(*privilege))
            .map(|(_, name)| name)
    }
}
