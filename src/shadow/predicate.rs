//! What enforcement would ask of a row: all policies that would apply, combined.
//!
//! Owns the rules of Postgres's `get_row_security_policies`: for one command the restrictive policies
//! are ANDed with the permissive ones, which are ORed; without a permissive one there are no rows. Must
//! follow those rules, whatever they are good for.

use pgrx::pg_sys;

use pg_sys::Node;

use super::nodes;
use super::policies::{Policies, Policy};

const INSERT: u8 = b'a';
const SELECT: u8 = b'r';
const UPDATE: u8 = b'w';
const DELETE: u8 = b'd';

/// A combined expression over the relation with a given number.
pub struct Predicate {
    pub node: *mut Node,
    /// False where an expression was left out because it may raise: it then counts as not satisfied.
    pub is_complete: bool,
}

/// How rows of a relation are used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Read, and locked with FOR UPDATE or FOR SHARE.
    Read { locked: bool },
    /// The target of UPDATE, which also reads it where the flag says so.
    Update { reads: bool },
    /// The target of DELETE, as above.
    Delete { reads: bool },
    /// The target of MERGE, as above.
    Merge { reads: bool },
}

/// A test of a written row.
pub struct Check {
    pub kind: pg_sys::WCOKind::Type,
    pub predicate: Predicate,
}

/// The policies of one relation for one role.
pub struct Asked<'a> {
    pub policies: &'a Policies,
    pub role: pg_sys::Oid,
    /// The relation's number in the query.
    pub number: i32,
    /// Whether the user's own policies are enforced for the role already: a row that gets to a recorder
    /// has passed them.
    pub users_hold: bool,
}

impl Asked<'_> {
    /// Which existing rows would be there.
    pub fn visible(&self, use_: Use) -> Predicate {
        let commands: &[u8] = match use_ {
            Use::Read { locked: false } | Use::Merge { reads: true } => &[SELECT],
            Use::Read { locked: true } => &[UPDATE, SELECT],
            Use::Update { reads: true } => &[UPDATE, SELECT],
            Use::Update { reads: false } => &[UPDATE],
            Use::Delete { reads: true } => &[DELETE, SELECT],
            Use::Delete { reads: false } => &[DELETE],
            Use::Merge { reads: false } => &[],
        };
        self.all(commands.iter().map(|command| (*command, true)))
    }

    /// Which rows an INSERT may write; with `reads` they must be visible too.
    pub fn insertable(&self, reads: bool) -> Check {
        self.check(
            pg_sys::WCOKind::WCO_RLS_INSERT_CHECK,
            &[(INSERT, false)],
            reads,
        )
    }

    /// Which rows an UPDATE may leave behind.
    pub fn updatable(&self, reads: bool) -> Check {
        self.check(
            pg_sys::WCOKind::WCO_RLS_UPDATE_CHECK,
            &[(UPDATE, false)],
            reads,
        )
    }

    /// Which existing rows ON CONFLICT DO UPDATE may find.
    pub fn found_by_conflict(&self, reads: bool) -> Check {
        self.check(
            pg_sys::WCOKind::WCO_RLS_CONFLICT_CHECK,
            &[(UPDATE, true)],
            reads,
        )
    }

    /// Which existing rows MERGE may update.
    pub fn merge_updatable(&self) -> Check {
        let kind = pg_sys::WCOKind::WCO_RLS_MERGE_UPDATE_CHECK;
        self.check(kind, &[(UPDATE, true)], false)
    }

    /// Which existing rows MERGE may delete.
    pub fn merge_deletable(&self) -> Check {
        let kind = pg_sys::WCOKind::WCO_RLS_MERGE_DELETE_CHECK;
        self.check(kind, &[(DELETE, true)], false)
    }

    fn check(&self, kind: pg_sys::WCOKind::Type, commands: &[(u8, bool)], reads: bool) -> Check {
        let select = reads.then_some((SELECT, true));
        Check {
            kind,
            predicate: self.all(commands.iter().copied().chain(select)),
        }
    }

    /// The conjunction over commands; of each either USING, or CHECK where there is one.
    fn all(&self, commands: impl Iterator<Item = (u8, bool)>) -> Predicate {
        let mut parts = Vec::new();
        let mut is_complete = true;
        for (command, using) in commands {
            let mut permissive = Vec::new();
            let mut is_permitted = false;
            for policy in self.applicable(command) {
                if policy.is_users && self.users_hold {
                    is_permitted |= policy.permissive;
                    continue;
                }
                let expression = match (using, policy.check) {
                    (false, Some(check)) => Some(check),
                    _ => policy.using,
                };
                let Some(expression) = expression else {
                    continue;
                };
                is_complete &= expression.is_safe;
                let node = if expression.is_safe {
                    self.over_relation(expression.node)
                } else {
                    nodes::boolean(false)
                };
                if policy.permissive {
                    permissive.push(node);
                } else {
                    parts.push(node);
                }
            }
            if !is_permitted {
                let any = nodes::combine(pg_sys::BoolExprType::OR_EXPR, permissive);
                parts.push(any.unwrap_or_else(|| nodes::boolean(false)));
            }
        }
        let all = nodes::combine(pg_sys::BoolExprType::AND_EXPR, parts);
        Predicate {
            node: all.unwrap_or_else(|| nodes::boolean(true)),
            is_complete,
        }
    }

    fn applicable(&self, command: u8) -> impl Iterator<Item = &Policy> {
        self.policies.all.iter().filter(move |policy| {
            (policy.command == b'*' || policy.command == command)
                && (policy.roles.is_empty()
                    || policy.roles.iter().any(|role| {
                        // SAFETY: catalog lookups by oid.
                        unsafe { pg_sys::has_privs_of_role(self.role, *role) }
                    }))
        })
    }

    fn over_relation(&self, node: *mut Node) -> *mut Node {
        // SAFETY: a copy of a parsed expression over relation 1.
        unsafe {
            let copy = nodes::copy(node);
            pg_sys::ChangeVarNodes(copy, 1, self.number, 0);
            copy
        }
    }
}
