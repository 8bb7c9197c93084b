//! The context as one JSON document: who is asking, and what is registered to be shown with it.
//!
//! Owns the registered keys as this session reads them. `shape` says what a document looks like,
//! `access` who may see whose, `read` reads the sources, `answer` keeps what was read.

mod access;
mod analysis;
mod answer;
mod arguments;
mod definition;
mod failure;
mod function;
mod jsonb;
mod load;
mod read;
mod register;
mod shape;
mod statement;
mod store;

use std::cell::RefCell;
use std::rc::Rc;

pub use answer::end_transaction;
pub use store::usage;

use crate::binding::Binding;
use crate::cache::generation;
use crate::error::Result;
use definition::Registration;
use statement::Statement;

/// A registered key.
pub struct Key {
    pub name: String,
    pub registration: Registration,
    /// `None` where nothing is bound: there is no context to read for.
    pub statement: Option<Statement>,
}

/// All registered keys.
pub struct Keys {
    pub keys: Vec<Key>,
    /// Whether every change of their sources announces itself, and they depend on nothing else.
    pub cacheable: bool,
}

thread_local! {
    static KEYS: RefCell<Option<Rc<Keys>>> = const { RefCell::new(None) };
}

/// The registered keys; read again after one of them, a source or the binding changed.
pub fn keys(binding: Option<&Binding>) -> Result<Rc<Keys>> {
    if !generation::take_registrations_stale()
        && let Some(keys) = KEYS.with_borrow(Clone::clone)
    {
        return Ok(keys);
    }
    KEYS.set(None);
    // An error must not leave keys behind that are no longer registered.
    let keys = Rc::new(load::load(binding)?);
    KEYS.set(Some(keys.clone()));
    Ok(keys)
}
