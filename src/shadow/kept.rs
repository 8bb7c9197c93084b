//! Queries of plans whose records may have to be confirmed.
//!
//! Owns a bounded store of them in the backend, the least recently used going first, and the note in a
//! plan that names its query. Such a query is analysed and rewritten: it means what the plan means,
//! whatever became of `search_path` since, as long as the plan is valid.

use std::cell::{Cell, RefCell};

use pgrx::pg_sys;

use pg_sys::{PlanInvalItem, PlannedStmt, Query};

use super::nodes;
use crate::lists;

/// How much memory a session keeps them in, in bytes.
const MEMORY: usize = 4 << 20;

/// No cache of Postgres's: it asks plans which entries of its caches they depend on, and passes over
/// those of others. Copies of a plan have the note too.
const NOTE: core::ffi::c_int = -0x7067_7465;

/// The note of a plan with records that cannot be confirmed.
pub const NOT_KEPT: u32 = 0;

/// A query, and what its plan records.
#[derive(Clone)]
pub struct Kept {
    pub query: *mut Query,
    /// The tables with records that are not exact.
    pub unsure: Vec<pg_sys::Oid>,
    /// Whether other tables have records too.
    pub others: bool,
    /// Whether functions may run statements of their own.
    pub calls_sql: bool,
}

struct Slot {
    key: u32,
    memory: pg_sys::MemoryContext,
    bytes: usize,
    used: u64,
    kept: Kept,
}

thread_local! {
    static SLOTS: RefCell<Vec<Slot>> = const { RefCell::new(Vec::new()) };
    static LAST_KEY: Cell<u32> = const { Cell::new(NOT_KEPT) };
    static CLOCK: Cell<u64> = const { Cell::new(0) };
}

fn tick() -> u64 {
    CLOCK.set(CLOCK.get() + 1);
    CLOCK.get()
}

/// Keeps a copy of a query, and returns the key to it.
///
/// # Safety
/// `kept` holds a valid query.
pub unsafe fn keep(kept: Kept) -> u32 {
    // SAFETY: by the caller's promise; a new context below the one that caches live in.
    let (memory, query, bytes) = unsafe {
        let memory = pg_sys::AllocSetContextCreateInternal(
            pg_sys::CacheMemoryContext,
            c"pg_tenancy shadow query".as_ptr(),
            0,
            4 * 1024,
            1024 * 1024,
        );
        let before = pg_sys::MemoryContextSwitchTo(memory);
        let query = nodes::copy(kept.query);
        pg_sys::MemoryContextSwitchTo(before);
        let bytes = pg_sys::MemoryContextMemAllocated(memory, true);
        (memory, query, bytes)
    };
    if bytes > MEMORY / 4 {
        // SAFETY: made above, and nobody else knows it.
        unsafe { pg_sys::MemoryContextDelete(memory) };
        return NOT_KEPT;
    }
    let key = LAST_KEY.get().wrapping_add(1).max(1);
    LAST_KEY.set(key);
    let fresh = Slot {
        key,
        memory,
        bytes,
        used: tick(),
        kept: Kept { query, ..kept },
    };
    let dropped = SLOTS.with_borrow_mut(|slots| {
        slots.push(fresh);
        let mut dropped = Vec::new();
        while slots.iter().map(|slot| slot.bytes).sum::<usize>() > MEMORY {
            let oldest = slots
                .iter()
                .enumerate()
                .min_by_key(|(_, slot)| slot.used)
                .map(|(index, _)| index);
            dropped.extend(oldest.map(|index| slots.swap_remove(index)));
        }
        dropped
    });
    dropped.into_iter().for_each(free);
    key
}

fn free(slot: Slot) {
    // SAFETY: users have copies.
    unsafe { pg_sys::MemoryContextDelete(slot.memory) };
}

/// What is kept under a key, if it still is; its query is for copying.
pub fn find(key: u32) -> Option<Kept> {
    SLOTS.with_borrow_mut(|slots| {
        let slot = slots.iter_mut().find(|slot| slot.key == key)?;
        slot.used = tick();
        Some(slot.kept.clone())
    })
}

/// Forgets a query whose plan is not going to run again.
pub fn forget(key: u32) {
    let slot = SLOTS.with_borrow_mut(|slots| {
        let index = slots.iter().position(|slot| slot.key == key)?;
        Some(slots.swap_remove(index))
    });
    slot.into_iter().for_each(free);
}

/// Notes in a plan that it records what is not exact, and where its query is.
///
/// # Safety
/// A plan that was just made, in the memory context it was made in.
pub unsafe fn note(statement: *mut PlannedStmt, key: u32) {
    // SAFETY: by the caller's promise; makes a node.
    unsafe {
        let item = pg_sys::palloc0(size_of::<PlanInvalItem>()).cast::<PlanInvalItem>();
        (*item).type_ = pg_sys::NodeTag::T_PlanInvalItem;
        (*item).cacheId = NOTE;
        (*item).hashValue = key;
        (*statement).invalItems = pg_sys::lappend((*statement).invalItems, item.cast());
    }
}

/// What was noted in a plan.
///
/// # Safety
/// A valid plan.
pub unsafe fn note_of(statement: *const PlannedStmt) -> Option<u32> {
    // SAFETY: by the caller's promise; the list holds such items only.
    unsafe {
        lists::each::<PlanInvalItem>((*statement).invalItems)
            .iter()
            .find(|item| (***item).cacheId == NOTE)
            .map(|item| (**item).hashValue)
    }
}
