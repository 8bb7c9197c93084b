//! Whether a policy in the catalog is the one that is wanted.
//!
//! Owns the comparison: the server shows the wanted expression in the way it shows the stored one, so
//! nothing here has to know how it spells casts and parentheses.

use std::cell::RefCell;
use std::collections::HashMap;

use pgrx::pg_sys;

use super::inspect::CatalogPolicy;
use super::render::Policy;
use crate::binding;
use crate::catalog;
use crate::error::Result;
use crate::registry::{ActingRole, PinnedSearchPath};

/// The expressions of one table, each shown once.
pub struct Comparison {
    relation: pg_sys::Oid,
    shown: RefCell<HashMap<String, String>>,
}

impl Comparison {
    /// For the policies of that table.
    pub fn new(relation: u32) -> Self {
        Self {
            relation: pg_sys::Oid::from(relation),
            shown: RefCell::default(),
        }
    }

    /// Whether the catalog's policy is the wanted one.
    pub fn is_same(&self, there: &CatalogPolicy, wanted: &Policy) -> Result<bool> {
        Ok(there.permissive == wanted.permissive
            && there.public
            && there.command == wanted.command.catalog_letter()
            && self.is_shown(there.using.as_deref(), wanted.using.as_deref())?
            && self.is_shown(there.check.as_deref(), wanted.check.as_deref())?)
    }

    fn is_shown(&self, there: Option<&str>, wanted: Option<&str>) -> Result<bool> {
        let (Some(there), Some(wanted)) = (there, wanted) else {
            return Ok(there.is_none() && wanted.is_none());
        };
        if let Some(known) = self.shown.borrow().get(wanted) {
            return Ok(known == there);
        }
        let shown = {
            // The owner wrote the policy; whoever compares may not even see the schemas it names.
            let _role = ActingRole::new(catalog::relation_owner(self.relation)?);
            let _path = PinnedSearchPath::new();
            binding::shown_in_policy(self.relation, wanted)?
        };
        let same = shown == there;
        self.shown.borrow_mut().insert(wanted.to_owned(), shown);
        Ok(same)
    }
}
