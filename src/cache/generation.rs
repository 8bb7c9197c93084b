//! The generations of identity data and of document sources: raised whenever another answer might be
//! right.
//!
//! Owns the relation and function cache callbacks. They run inside Postgres's invalidation processing, at
//! almost any moment: they must never allocate, read the catalog, or raise.

use std::cell::UnsafeCell;

use pgrx::prelude::*;

use crate::catalog;
use crate::context::hot;

/// What the callback compares with and writes to.
struct Watch {
    generation: u64,
    /// The binding must be read again.
    binding_stale: bool,
    /// The list of protected tables must be read again.
    protection_stale: bool,
    /// What shadow mode knows of tables must be read again.
    shadow_stale: bool,
    /// Calls under way that write the registry for many tables.
    writing: usize,
    /// This transaction wrote identity data.
    own_changes: bool,
    sentinel: pg_sys::Oid,
    binding: pg_sys::Oid,
    protection: pg_sys::Oid,
    /// The bound tables with their partitions and children, sorted.
    bound: Vec<pg_sys::Oid>,
    documents: Documents,
    /// The tables in shadow mode, sorted.
    shadowed: Vec<pg_sys::Oid>,
}

/// The same for the sources of the context document. They have a generation of their own, so that a
/// change to them leaves resolved contexts alone.
struct Documents {
    generation: u64,
    registrations_stale: bool,
    own_changes: bool,
    sentinel: pg_sys::Oid,
    registrations: pg_sys::Oid,
    /// The sources with their partitions and children, sorted.
    sources: Vec<pg_sys::Oid>,
}

impl Documents {
    fn forget_registrations(&mut self) {
        self.registrations_stale = true;
        self.generation += 1;
    }
}

struct Single(UnsafeCell<Watch>);

// SAFETY: a backend has one thread, and no function below calls out while it holds a reference.
unsafe impl Sync for Single {}

static WATCH: Single = Single(UnsafeCell::new(Watch {
    generation: 1,
    binding_stale: true,
    protection_stale: true,
    shadow_stale: true,
    writing: 0,
    own_changes: false,
    sentinel: pg_sys::InvalidOid,
    binding: pg_sys::InvalidOid,
    protection: pg_sys::InvalidOid,
    bound: Vec::new(),
    documents: Documents {
        generation: 1,
        registrations_stale: true,
        own_changes: false,
        sentinel: pg_sys::InvalidOid,
        registrations: pg_sys::InvalidOid,
        sources: Vec::new(),
    },
    shadowed: Vec::new(),
}));

fn with<T>(f: impl FnOnce(&mut Watch) -> T) -> T {
    // SAFETY: see `Single`.
    f(unsafe { &mut *WATCH.0.get() })
}

/// Registers the callback; called once from `_PG_init`.
pub fn init() {
    // SAFETY: the callback is a static function of the right type.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(
            Some(relation_invalidated),
            pg_sys::Datum::from(0usize),
        );
    }
    catalog::call_on_change(
        &[
            pg_sys::SysCacheIdentifier::PROCOID,
            pg_sys::SysCacheIdentifier::OPEROID,
            pg_sys::SysCacheIdentifier::ENUMOID,
        ],
        function_invalidated,
    );
}

/// The current generation.
pub fn current() -> u64 {
    with(|watch| watch.generation)
}

/// Begins another: what was answered in the current one may not be right any more.
pub fn raise() {
    with(|watch| watch.generation += 1);
}

/// Takes in what other sessions committed. Postgres does so by itself only when it takes a new lock
/// or starts a transaction: a prepared statement inside a transaction does neither.
pub fn accept_messages() {
    // SAFETY: Postgres calls this at every lock it takes; any point where catalogs may be read will do.
    unsafe { pg_sys::AcceptInvalidationMessages() };
}

/// Watches the extension's own tables.
pub fn watch_registry(sentinel: pg_sys::Oid, binding: pg_sys::Oid, protection: pg_sys::Oid) {
    with(|watch| {
        watch.sentinel = sentinel;
        watch.binding = binding;
        watch.protection = protection;
    });
}

/// Watches the bound tables.
pub fn watch_bound(mut relations: Vec<pg_sys::Oid>) {
    relations.sort_unstable_by_key(|relation| relation.to_u32());
    let old = with(|watch| std::mem::replace(&mut watch.bound, relations));
    drop(old);
}

/// Watches what the extension keeps about documents.
pub fn watch_registrations(sentinel: pg_sys::Oid, registrations: pg_sys::Oid) {
    with(|watch| {
        watch.documents.sentinel = sentinel;
        watch.documents.registrations = registrations;
    });
}

/// Watches the sources of the document.
pub fn watch_sources(mut relations: Vec<pg_sys::Oid>) {
    relations.sort_unstable_by_key(|relation| relation.to_u32());
    let old = with(|watch| std::mem::replace(&mut watch.documents.sources, relations));
    drop(old);
}

/// The current generation of the document's sources and of what is registered.
pub fn of_documents() -> u64 {
    with(|watch| watch.documents.generation)
}

/// Notes that this transaction writes a source of the document.
pub fn note_own_document_change() {
    with(|watch| watch.documents.own_changes = true);
}

/// Whether this transaction wrote a source of the document: then no document is kept.
pub fn has_own_document_changes() -> bool {
    with(|watch| watch.documents.own_changes)
}

/// Marks the registrations as read; returns whether they had to be read again.
pub fn take_registrations_stale() -> bool {
    with(|watch| std::mem::replace(&mut watch.documents.registrations_stale, false))
}

/// Marks the registrations as not read.
pub fn mark_registrations_stale() {
    with(|watch| watch.documents.forget_registrations());
}

/// Watches the tables in shadow mode.
pub fn watch_shadowed(mut relations: Vec<pg_sys::Oid>) {
    relations.sort_unstable_by_key(|relation| relation.to_u32());
    let old = with(|watch| std::mem::replace(&mut watch.shadowed, relations));
    drop(old);
}

/// Notes that this transaction writes identity data. The message that its trigger registers is taken
/// in at the next command, which may be one of another trigger, before the row itself is written.
pub fn note_own_change() {
    with(|watch| watch.own_changes = true);
}

/// Whether this transaction wrote identity data: then nothing is kept beyond a statement.
pub fn has_own_changes() -> bool {
    with(|watch| watch.own_changes)
}

/// Called when a transaction is over.
pub fn end_transaction() {
    with(|watch| {
        watch.own_changes = false;
        watch.documents.own_changes = false;
    });
}

/// Marks the binding as read; returns whether it had to be read again.
pub fn take_binding_stale() -> bool {
    with(|watch| std::mem::replace(&mut watch.binding_stale, false))
}

/// Whether the binding has to be read again.
pub fn is_binding_stale() -> bool {
    with(|watch| watch.binding_stale)
}

/// Marks the binding as not read.
pub fn mark_binding_stale() {
    with(|watch| watch.binding_stale = true);
}

/// While it lives, lists made from the registry stay as they are: a call that registers many tables
/// would have each of its statements read all of them again. What the session runs meanwhile is judged
/// by the list of before; the policies themselves hold at once.
pub struct Writing(());

impl Writing {
    /// Begins to write the registry for many tables.
    pub fn start() -> Self {
        with(|watch| watch.writing += 1);
        Self(())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        with(|watch| watch.writing -= 1);
    }
}

/// Marks the protected tables as read; returns whether they have to be read again now.
pub fn take_protection_stale() -> bool {
    with(|watch| watch.writing == 0 && std::mem::replace(&mut watch.protection_stale, false))
}

/// Marks the protected tables as not read.
pub fn mark_protection_stale() {
    with(|watch| watch.protection_stale = true);
}

/// Marks what shadow mode knows as read; returns whether it has to be read again now.
pub fn take_shadow_stale() -> bool {
    with(|watch| watch.writing == 0 && std::mem::replace(&mut watch.shadow_stale, false))
}

/// Marks what shadow mode knows as not read.
pub fn mark_shadow_stale() {
    with(|watch| watch.shadow_stale = true);
}

#[pg_guard]
unsafe extern "C-unwind" fn relation_invalidated(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    let identity_changed = with(|watch| {
        let everything = relation == pg_sys::InvalidOid;
        let binding = everything || relation == watch.binding || is_listed(&watch.bound, relation);
        let documents = &mut watch.documents;
        // Statements that read sources are made for the types of the bound columns.
        if binding || relation == documents.registrations || is_listed(&documents.sources, relation)
        {
            documents.forget_registrations();
        } else if relation == documents.sentinel {
            documents.generation += 1;
        }
        if everything || relation == watch.protection {
            watch.protection_stale = true;
            watch.shadow_stale = true;
        }
        if watch
            .shadowed
            .binary_search_by_key(&relation.to_u32(), |shadowed| shadowed.to_u32())
            .is_ok()
        {
            watch.shadow_stale = true;
        }
        if binding {
            watch.binding_stale = true;
            watch.shadow_stale = true;
        }
        let changed = binding || relation == watch.sentinel;
        if changed {
            watch.generation += 1;
        }
        changed
    });
    if identity_changed {
        hot::forget();
    }
}

fn is_listed(sorted: &[pg_sys::Oid], relation: pg_sys::Oid) -> bool {
    sorted
        .binary_search_by_key(&relation.to_u32(), |listed| listed.to_u32())
        .is_ok()
}

/// A bound expression may call a function or operator that was replaced, and a label of an enum be renamed.
#[pg_guard]
unsafe extern "C-unwind" fn function_invalidated(
    _argument: pg_sys::Datum,
    _cache: i32,
    _hash: pg_sys::uint32,
) {
    with(|watch| {
        watch.binding_stale = true;
        watch.shadow_stale = true;
        watch.generation += 1;
        watch.documents.forget_registrations();
    });
    hot::forget();
}
