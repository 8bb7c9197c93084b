//! From the current context to its document, through the cache.
//!
//! Must never answer with a document of an older generation, and must never let a source be read for
//! a document that is being read.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use pgrx::pg_sys;

use super::jsonb::Value;
use super::store::{self, Document};
use super::{Key, Keys, keys, read, shape};
use crate::binding;
use crate::cache::generation;
use crate::context::lookup::Snapshot;
use crate::context::model::Resolved;
use crate::context::resolve;
use crate::error::{Error, Kind, Result};
use crate::{gucs, pg_compat};

thread_local! {
    /// The last answer, where it may be given again.
    static LAST: RefCell<Option<Rc<Document>>> = const { RefCell::new(None) };
    /// The last answer is of the transaction's one snapshot.
    static OF_TRANSACTION: Cell<bool> = const { Cell::new(false) };
    static READING: Cell<bool> = const { Cell::new(false) };
}

/// How often sources are read again because they changed meanwhile.
const ATTEMPTS: usize = 3;

/// The document of the current context.
pub fn current() -> Result<Rc<Document>> {
    let resolved = resolve::current()?;
    let now = generation::of_documents();
    if !generation::has_own_document_changes() {
        // A worker is there for one statement, whose snapshot is all it sees.
        if (is_alone() || pg_compat::in_parallel_worker())
            && let Some(last) = LAST.with_borrow(Clone::clone)
            && last.is_for(&resolved, now)
        {
            return Ok(last);
        }
        if is_alone()
            && let Some(known) = store::find(&resolved, now)
        {
            remember(known.clone(), false);
            return Ok(known);
        }
    }
    make(&resolved)
}

/// The document of any context, past the cache.
pub fn of(resolved: &Resolved, shows: impl Fn(&Key) -> bool) -> Result<Value> {
    let _reading = Reading::start()?;
    let keys = all_keys()?;
    value(&keys, resolved, shows)
}

/// Called when a transaction is over.
pub fn end_transaction() {
    if OF_TRANSACTION.replace(false) {
        LAST.set(None);
    }
}

fn make(resolved: &Rc<Resolved>) -> Result<Rc<Document>> {
    let _reading = Reading::start()?;
    for _ in 0..ATTEMPTS {
        if is_alone() {
            generation::accept_messages();
        }
        let before = generation::of_documents();
        let keys = all_keys()?;
        let document = Rc::new(document(&keys, resolved, before)?);
        if generation::of_documents() != before {
            continue;
        }
        if keys.cacheable && !generation::has_own_document_changes() {
            keep(&document);
        }
        return Ok(document);
    }
    // Sources change faster than they can be read: right now, and no longer.
    let now = generation::of_documents();
    Ok(Rc::new(document(&*all_keys()?, resolved, now)?))
}

fn document(keys: &Keys, resolved: &Rc<Resolved>, generation: u64) -> Result<Document> {
    Ok(Document {
        value: value(keys, resolved, |_| true)?,
        resolved: resolved.clone(),
        generation,
    })
}

fn keep(document: &Rc<Document>) {
    let one_snapshot = pg_compat::one_snapshot_per_transaction();
    if is_alone() {
        if !one_snapshot {
            store::insert(document.clone(), gucs::document_cache_bytes());
        }
        remember(document.clone(), one_snapshot);
    } else if pg_compat::in_parallel_worker() {
        remember(document.clone(), true);
    }
}

fn remember(document: Rc<Document>, of_transaction: bool) {
    OF_TRANSACTION.set(of_transaction);
    LAST.set(Some(document));
}

fn all_keys() -> Result<Rc<Keys>> {
    keys(binding::current()?.as_deref())
}

fn value(keys: &Keys, resolved: &Resolved, shows: impl Fn(&Key) -> bool) -> Result<Value> {
    let snapshot = if is_alone() {
        Snapshot::Fresh
    } else {
        Snapshot::OfStatement
    };
    let parts = read::read(keys, resolved, snapshot, shows)?;
    shape::document(resolved, parts).into_value()
}

/// Whether this is not part of a parallel query, in which a leader and its workers must agree: all of
/// them see what the statement's snapshot sees.
fn is_alone() -> bool {
    // SAFETY: a plain read of the backend's state.
    !unsafe { pg_sys::IsInParallelMode() } && !pg_compat::in_parallel_worker()
}

/// Holds off an expression of a source that asks for the document.
struct Reading;

impl Reading {
    fn start() -> Result<Self> {
        if READING.replace(true) {
            return Err(Error::new(
                Kind::ObjectNotInPrerequisiteState,
                "the tenant context document was asked for while it is being read",
            )
            .hint("Do not call get_user_tenant_context() in an expression given to tenancy.register_context."));
        }
        Ok(Self)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        READING.set(false);
    }
}
