//! The binding: where this database keeps users, memberships, roles and tenants.
//!
//! Owns its definition, how it is stored and how a session reads it. Must never believe a definition
//! that the extension's own table does not hold.

pub mod authors;
mod bind;
mod definition;
pub mod expression;
mod hidden;
mod load;
pub mod query;
mod settings;
mod spelling;
pub mod triggers;

use std::cell::RefCell;
use std::rc::Rc;

use pgrx::pg_sys;

pub use bind::{leads_an_index, require_binding_administrator, stored};
pub use definition::{Definition, Rank, StoredRelation};
pub use expression::shown_in_policy;
pub use load::{RegistryTables, find, registry_tables, require_trust};
pub use query::{Query, is_built_in};
pub use settings::Settings;

use crate::cache::generation;
pub use crate::context::identity::TenantType;
use crate::context::identity::UserType;
use crate::error::{Error, Kind, Result};

/// A bound table as it is now.
#[derive(Debug, Clone)]
pub struct BoundTable {
    pub relation: pg_sys::Oid,
    pub owner: pg_sys::Oid,
    /// Attribute numbers of the identity columns, for the guard.
    pub identity_columns: Vec<i16>,
    /// Whether settings of the session may be part of what its expression means.
    pub reads_settings: bool,
}

/// The binding of this database as this session reads it.
#[derive(Debug)]
pub struct Binding {
    definition: Definition,
    pub membership: Option<BoundTable>,
    pub role_table: Option<BoundTable>,
    pub tenants: Option<BoundTable>,
    pub membership_query: Option<Query>,
    /// Of the memberships that do not count now too; where there is a `membership_active`.
    pub all_memberships_query: Option<Query>,
    pub role_query: Option<Query>,
    pub tenants_query: Option<Query>,
    user_type: UserType,
    /// Whether every change of identity data announces itself, and lookups depend on nothing else.
    cacheable: bool,
    /// Whether writes to identity data are judged everywhere.
    guarded: bool,
    pub settings: Settings,
}

impl core::ops::Deref for Binding {
    type Target = Definition;

    fn deref(&self) -> &Definition {
        &self.definition
    }
}

impl Binding {
    /// The type that user identifiers are spelled in.
    pub fn user_type(&self) -> UserType {
        self.user_type
    }

    /// Whether a lookup may be answered from an earlier one.
    pub fn is_cacheable(&self) -> bool {
        self.cacheable
    }

    /// Whether the guard watches all the bound tables, with their partitions and children.
    pub fn is_guarded(&self) -> bool {
        self.guarded
    }
}

thread_local! {
    static BINDING: RefCell<Option<Rc<Binding>>> = const { RefCell::new(None) };
}

/// The binding; `None` where `tenancy.bind` was never called. Read again after it, or a bound table,
/// changed.
pub fn current() -> Result<Option<Rc<Binding>>> {
    // What was read may have been replaced while the load waited for a bound table.
    for _ in 0..ATTEMPTS {
        if !generation::take_binding_stale() {
            break;
        }
        BINDING.set(None);
        // Marked stale again unless the load ends well: an error must not leave "not bound" behind.
        let mut unfinished = StaleUnlessDone(true);
        let loaded = load::load()?;
        let installed = loaded.installed;
        BINDING.set(loaded.binding.map(Rc::new));
        unfinished.0 = !installed;
        if !installed {
            break;
        }
    }
    Ok(BINDING.with_borrow(Clone::clone))
}

/// How often the binding is read again because it changed under the load.
const ATTEMPTS: usize = 3;

/// Whether that is the binding, as far as messages that were taken in tell.
pub fn is_current(binding: &Rc<Binding>) -> bool {
    !generation::is_binding_stale()
        && BINDING.with_borrow(|current| {
            current
                .as_ref()
                .is_some_and(|current| Rc::ptr_eq(current, binding))
        })
}

/// The binding as it was read last, without reading anything: for callbacks.
pub fn known() -> Option<Rc<Binding>> {
    BINDING.with_borrow(Clone::clone)
}

struct StaleUnlessDone(bool);

impl Drop for StaleUnlessDone {
    fn drop(&mut self) {
        if self.0 {
            generation::mark_binding_stale();
        }
    }
}

/// The binding; an error that says what to do where there is none.
pub fn required() -> Result<Rc<Binding>> {
    current()?.ok_or_else(|| {
        Error::new(
            Kind::ObjectNotInPrerequisiteState,
            "this database does not say where identity and membership live",
        )
        .hint("Run tenancy.bind(...) first.")
    })
}

/// The type of tenant columns; an error where nothing is bound.
pub fn tenant_type() -> Result<TenantType> {
    Ok(required()?.tenant_type)
}
