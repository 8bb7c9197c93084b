//! The bounded store of documents, least recently used first out.
//!
//! Must never hand out a document of another generation than the current one, or one that was made
//! for another context.

use std::cell::RefCell;
use std::rc::Rc;

use lru::LruCache;

use super::jsonb::Value;
use crate::context::model::{Asked, Resolved};

/// A document and what it was made for.
pub struct Document {
    pub resolved: Rc<Resolved>,
    pub generation: u64,
    pub value: Value,
}

impl Document {
    /// Whether it is the answer. Identity data may change as it will: the same context has the same
    /// document.
    pub fn is_for(&self, resolved: &Rc<Resolved>, generation: u64) -> bool {
        self.generation == generation
            && (Rc::ptr_eq(&self.resolved, resolved) || self.resolved == *resolved)
    }

    fn bytes(&self) -> usize {
        // The context and the map hold about as much again as a small document.
        self.value.bytes().len() + 512
    }
}

struct Store {
    bytes: usize,
    entries: LruCache<Asked, Rc<Document>>,
}

thread_local! {
    static STORE: RefCell<Option<Store>> = const { RefCell::new(None) };
}

/// The document of that context, if it is known and still right.
pub fn find(resolved: &Rc<Resolved>, generation: u64) -> Option<Rc<Document>> {
    STORE.with_borrow_mut(|store| {
        let found = store.as_mut()?.entries.get(&key(resolved))?;
        found.is_for(resolved, generation).then(|| found.clone())
    })
}

/// Keeps a document.
pub fn insert(document: Rc<Document>, capacity: usize) {
    STORE.with_borrow_mut(|slot| {
        let store = slot.get_or_insert_with(|| Store {
            bytes: 0,
            entries: LruCache::unbounded(),
        });
        // Those of an earlier generation are of no use any more.
        let newest = store.entries.peek_mru();
        if newest.is_some_and(|(_, newest)| newest.generation != document.generation) {
            store.entries.clear();
            store.bytes = 0;
        }
        store.bytes += document.bytes();
        let key = key(&document.resolved);
        if let Some(replaced) = store.entries.put(key, document) {
            store.bytes -= replaced.bytes();
        }
        while store.bytes > capacity
            && let Some((_, forgotten)) = store.entries.pop_lru()
        {
            store.bytes -= forgotten.bytes();
        }
        if store.entries.is_empty() {
            *slot = None;
        }
    });
}

/// How many documents are held, and their bytes.
pub fn usage() -> (usize, usize) {
    STORE.with_borrow(|store| {
        let store = store.as_ref();
        store.map_or((0, 0), |store| (store.entries.len(), store.bytes))
    })
}

fn key(resolved: &Resolved) -> Asked {
    Asked {
        user: resolved.user.clone(),
        tenant: resolved.tenant().cloned(),
        service: resolved.service,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::model::{Missing, Resolved};
    use crate::document::jsonb::Json;

    fn context(user: &str, roles: &[&str]) -> Rc<Resolved> {
        Rc::new(Resolved {
            user: Some(user.into()),
            roles: roles.iter().map(|role| (*role).into()).collect(),
            ..Resolved::missing(Missing::NothingSet)
        })
    }

    fn keep(user: &str, generation: u64, capacity: usize) {
        let document = Document {
            resolved: context(user, &[]),
            generation,
            value: Json::Object(Vec::new()).into_value().unwrap(),
        };
        insert(Rc::new(document), capacity);
    }

    #[test]
    fn a_document_is_for_its_context_and_generation() {
        keep("a", 1, 10_000);
        assert!(find(&context("a", &[]), 1).is_some());
        assert!(find(&context("a", &["admin"]), 1).is_none());
        assert!(find(&context("b", &[]), 1).is_none());
        assert!(find(&context("a", &[]), 2).is_none());
    }

    #[test]
    fn a_newer_generation_drops_the_older() {
        keep("a", 1, 10_000);
        keep("b", 2, 10_000);
        assert_eq!(usage().0, 1);
        assert!(find(&context("b", &[]), 2).is_some());
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let one = 512 + 8;
        keep("a", 1, 2 * one);
        keep("b", 1, 2 * one);
        find(&context("a", &[]), 1);
        keep("c", 1, 2 * one);
        assert_eq!(usage(), (2, 2 * one));
        assert!(find(&context("b", &[]), 1).is_none());
        assert!(find(&context("a", &[]), 1).is_some());
        keep("a", 1, 2 * one);
        assert_eq!(usage(), (2, 2 * one));
        keep("d", 1, 0);
        assert_eq!(usage(), (0, 0));
    }
}
