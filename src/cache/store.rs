//! The bounded store of resolved contexts, least recently used first out.
//!
//! Must never hand out an entry of another generation than the current one.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::rc::Rc;

use lru::LruCache;

use crate::context::model::{Asked, Resolved};

struct Store {
    /// The generation of all entries.
    generation: u64,
    entries: LruCache<Asked, Rc<Resolved>>,
}

thread_local! {
    static STORE: RefCell<Option<Store>> = const { RefCell::new(None) };
}

/// The context of that user and tenant, if it is known and still right.
pub fn find(asked: &Asked, generation: u64) -> Option<Rc<Resolved>> {
    STORE.with_borrow_mut(|store| {
        let store = store
            .as_mut()
            .filter(|store| store.generation == generation)?;
        store.entries.get(asked).cloned()
    })
}

/// Keeps a context that was looked up in that generation.
pub fn insert(asked: Asked, resolved: Rc<Resolved>, generation: u64, capacity: usize) {
    let Some(capacity) = NonZeroUsize::new(capacity) else {
        STORE.set(None);
        return;
    };
    STORE.with_borrow_mut(|slot| {
        // Unbounded in name only, so that the map grows with what it holds and not with its bound.
        let store = slot.get_or_insert_with(|| Store {
            generation,
            entries: LruCache::unbounded(),
        });
        if store.generation != generation {
            store.entries.clear();
            store.generation = generation;
        }
        store.entries.put(asked, resolved);
        while store.entries.len() > capacity.get() {
            store.entries.pop_lru();
        }
    });
}

/// How many contexts are held.
pub fn len() -> usize {
    STORE.with_borrow(|store| store.as_ref().map_or(0, |store| store.entries.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::model::Missing;

    fn asked(user: &str) -> Asked {
        Asked {
            user: Some(user.into()),
            tenant: None,
            service: false,
        }
    }

    fn keep(user: &str, generation: u64, capacity: usize) {
        let nobody = Rc::new(Resolved::missing(Missing::NothingSet));
        insert(asked(user), nobody, generation, capacity);
    }

    #[test]
    fn another_generation_finds_nothing() {
        keep("a", 1, 10);
        assert!(find(&asked("a"), 1).is_some());
        assert!(find(&asked("a"), 2).is_none());
        keep("b", 2, 10);
        assert!(
            find(&asked("a"), 2).is_none(),
            "an old entry must not survive a newer store"
        );
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        keep("a", 1, 2);
        keep("b", 1, 2);
        find(&asked("a"), 1);
        keep("c", 1, 2);
        assert_eq!(len(), 2);
        assert!(find(&asked("b"), 1).is_none());
        assert!(find(&asked("a"), 1).is_some());
    }

    #[test]
    fn a_capacity_of_zero_keeps_nothing() {
        keep("a", 1, 2);
        keep("b", 1, 0);
        assert_eq!(len(), 0);
    }
}
