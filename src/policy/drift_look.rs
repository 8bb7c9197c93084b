//! A closer look at a table whose marks do not tell.
//!
//! Owns the lock that it takes. Must never wait for one.

use pgrx::pg_sys;

use super::compare::Comparison;
use super::inspect::{self, Facts};
use super::predicate::{Link, Owner};
use super::render;
use super::spi;
use super::store::Row;
use crate::error::Result;

/// A closer look, which opens the table.
pub struct Look<'a> {
    relation: pg_sys::Oid,
    column: &'a str,
    /// Whether marks of the registration are of this very table.
    pub is_believed: bool,
    /// Tables besides it that a closer look opens.
    named: Vec<u32>,
    may_open: Option<bool>,
    /// Whether it was wanted and another session holds one of the tables exclusively.
    pub is_locked: bool,
    facts: Option<Facts>,
    comparison: Comparison,
}

impl<'a> Look<'a> {
    pub fn new(relation: pg_sys::Oid, column: &'a str, row: &Row) -> Self {
        Self {
            relation,
            column,
            is_believed: row.is_of(relation),
            named: Vec::new(),
            may_open: None,
            is_locked: false,
            facts: None,
            comparison: Comparison::new(relation.to_u32()),
        }
    }

    /// The parents of a `child` table, which its policies name.
    pub fn names_too(&mut self, link: Option<&Link>) {
        if let Some(link) = link {
            self.named.push(link.parent);
            if let Owner::Parent(next) = &link.owner {
                self.names_too(Some(next));
            }
        }
    }

    /// Takes the locks that reading takes, unless that would have to wait.
    pub fn may_open(&mut self) -> bool {
        if let Some(known) = self.may_open {
            return known;
        }
        let relations = [self.relation.to_u32()];
        let free = relations.iter().chain(&self.named).all(|relation| {
            let relation = pg_sys::Oid::from(*relation);
            // SAFETY: a lock by oid, given back at the end of the transaction like that of a query.
            unsafe { pg_sys::ConditionalLockRelationOid(relation, pg_sys::AccessShareLock as i32) }
        });
        self.is_locked = !free;
        self.may_open = Some(free);
        free
    }

    pub fn facts(&mut self) -> Result<Option<&Facts>> {
        if self.facts.is_none() && self.may_open() {
            self.facts = inspect::facts_without_size(self.relation, self.column)?;
        }
        Ok(self.facts.as_ref())
    }

    pub fn shows_another(&mut self, name: &str, wanted: &render::Policy) -> Result<bool> {
        let Some(facts) = self.facts()? else {
            return Ok(false);
        };
        let policy = facts
            .policies
            .iter()
            .find(|policy| policy.name == name)
            .cloned();
        match policy {
            Some(policy) => Ok(!self.comparison.is_same(&policy, wanted)?),
            None => Ok(false),
        }
    }

    /// Whether the trigger fires for every row whose tenant changes.
    pub fn trigger_is_sound(&self, name: &str) -> Result<bool> {
        // Types other than uuid are cast where they are compared.
        let sound: Option<bool> = spi::row_planned(
            "SELECT pg_catalog.to_json(t.tgtype & 1 = 1 AND t.tgtype & 16 = 16 AND t.tgattr::pg_catalog.text = ''
               AND pg_catalog.regexp_replace(
                   pg_catalog.substring(pg_catalog.pg_get_triggerdef(t.oid), 'WHEN (.*) EXECUTE FUNCTION'),
                   '[()]|::(text|bigint|uuid|character varying)', '', 'g')
                 = pg_catalog.regexp_replace(pg_catalog.format('old.%1$I IS DISTINCT FROM new.%1$I', $3), '[()]', '', 'g'))::pg_catalog.text
             FROM pg_catalog.pg_trigger t WHERE t.tgrelid = $1 AND t.tgname = $2 AND NOT t.tgisinternal",
            &[self.relation.into(), name.into(), self.column.into()],
        )?;
        Ok(sound.unwrap_or(false))
    }
}
