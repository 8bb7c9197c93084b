//! What was recorded, in shared memory.
//!
//! Owns a bounded table of distinct records with their counts. Must never raise nor wait for anything but
//! its own lock, which is held for a comparison and a copy.

use core::ffi::c_void;
use core::hash::{Hash, Hasher};
use std::collections::hash_map::DefaultHasher;

use pgrx::prelude::*;

use super::record::{Command, Kind, Precision, Record};

const CAPACITY: usize = 8192;
const WORD: usize = 64;
const QUERY: usize = 480;

/// A string cut to a fixed length.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    length: u16,
    is_null: bool,
}

impl<const N: usize> Text<N> {
    fn new(text: Option<&str>) -> Self {
        let mut bytes = [0; N];
        let text_or_empty = text.unwrap_or_default();
        let length = text_or_empty.floor_char_boundary(N);
        bytes[..length].copy_from_slice(&text_or_empty.as_bytes()[..length]);
        Self {
            bytes,
            length: length as u16,
            is_null: text.is_none(),
        }
    }

    /// What it holds.
    pub fn get(&self) -> Option<String> {
        let length = usize::from(self.length).min(N);
        (!self.is_null).then(|| String::from_utf8_lossy(&self.bytes[..length]).into_owned())
    }
}

/// Records that differ in nothing but the row and the moment.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Entry {
    key: u64,
    pub database: pg_sys::Oid,
    pub relation: pg_sys::Oid,
    pub role: pg_sys::Oid,
    pub command: Command,
    pub kind: Kind,
    pub precision: Precision,
    /// 0 unknown, 1 no, 2 yes.
    confirmed: u8,
    pub query_id: i64,
    pub app_user: Text<WORD>,
    pub context_tenant: Text<WORD>,
    pub row_tenant: Text<WORD>,
    pub application_name: Text<WORD>,
    pub query: Text<QUERY>,
    pub rows: i64,
    pub statements: i64,
    last_statement: u64,
    pub first_seen: i64,
    pub last_seen: i64,
}

impl Entry {
    /// Whether it was confirmed, where that is known.
    pub fn confirmed(&self) -> Option<bool> {
        (self.confirmed > 0).then_some(self.confirmed == 2)
    }
}

#[repr(C)]
struct Store {
    used: usize,
    overflowed: u64,
    entries: [Entry; CAPACITY],
}

static mut STORE: *mut Store = core::ptr::null_mut();
static mut LOCK: *mut pg_sys::LWLock = core::ptr::null_mut();
static mut PREVIOUS_REQUEST: pg_sys::shmem_request_hook_type = None;
static mut PREVIOUS_STARTUP: pg_sys::shmem_startup_hook_type = None;

const NAME: &core::ffi::CStr = c"pg_tenancy shadow";

/// Asks for shared memory; possible while the server starts only.
pub fn init() {
    // SAFETY: the postmaster has one thread; the hooks are static functions.
    unsafe {
        if !pg_sys::process_shared_preload_libraries_in_progress {
            return;
        }
        PREVIOUS_REQUEST = pg_sys::shmem_request_hook;
        pg_sys::shmem_request_hook = Some(request);
        PREVIOUS_STARTUP = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(startup);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn request() {
    // SAFETY: called by Postgres when memory may be asked for.
    unsafe {
        if let Some(previous) = PREVIOUS_REQUEST {
            #[allow(
                ffi_unwind_calls,
                reason = "the boundary turns a Postgres error into a panic"
            )]
            pgrx::pg_sys::ffi::pg_guard_ffi_boundary(|| previous());
        }
        pg_sys::RequestAddinShmemSpace(size_of::<Store>());
        pg_sys::RequestNamedLWLockTranche(NAME.as_ptr(), 1);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn startup() {
    // SAFETY: called by Postgres once in the postmaster, before any other process has the memory, which
    // begins zeroed: an empty store.
    unsafe {
        if let Some(previous) = PREVIOUS_STARTUP {
            #[allow(
                ffi_unwind_calls,
                reason = "the boundary turns a Postgres error into a panic"
            )]
            pgrx::pg_sys::ffi::pg_guard_ffi_boundary(|| previous());
        }
        let mut found = false;
        let memory: *mut c_void =
            pg_sys::ShmemInitStruct(NAME.as_ptr(), size_of::<Store>(), &mut found);
        STORE = memory.cast();
        if !found {
            core::ptr::write_bytes(STORE, 0, 1);
        }
        LOCK = &raw mut (*pg_sys::GetNamedLWLockTranche(NAME.as_ptr())).lock;
    }
}

/// Whether there is anything to record into.
pub fn is_there() -> bool {
    // SAFETY: written while the server starts only.
    unsafe { !STORE.is_null() }
}

/// Runs with the store, which no other process changes meanwhile.
fn locked<T>(work: impl FnOnce(&mut Store) -> T) -> Option<T> {
    // SAFETY: the lock is held while the reference lives; the work calls nothing of Postgres's that
    // could raise.
    unsafe {
        if STORE.is_null() {
            return None;
        }
        pg_sys::LWLockAcquire(LOCK, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let result = work(&mut *STORE);
        pg_sys::LWLockRelease(LOCK);
        Some(result)
    }
}

/// Counts a record.
pub fn add(record: &Record<'_>) {
    // SAFETY: plain reads of the backend's state.
    let (database, now) = unsafe { (pg_sys::MyDatabaseId, pg_sys::GetCurrentTimestamp()) };
    let fresh = Entry {
        key: 0,
        database,
        relation: record.relation,
        role: record.role,
        command: record.command,
        kind: record.kind,
        precision: record.precision,
        confirmed: record.confirmed.map_or(0, |yes| 1 + u8::from(yes)),
        query_id: record.query_id,
        app_user: Text::new(record.app_user),
        context_tenant: Text::new(record.context_tenant),
        row_tenant: Text::new(record.row_tenant),
        application_name: Text::new(Some(record.application_name)),
        query: Text::new(Some(record.query)),
        rows: 1,
        statements: 1,
        last_statement: record.statement,
        first_seen: now,
        last_seen: now,
    };
    let key = key_of(record, database);
    locked(|store| {
        let mut index = key as usize % CAPACITY;
        for _ in 0..CAPACITY {
            let entry = &mut store.entries[index];
            if entry.key == 0 {
                if store.used >= CAPACITY * 7 / 8 {
                    break;
                }
                *entry = Entry { key, ..fresh };
                store.used += 1;
                return;
            }
            if entry.key == key {
                let is_new = entry.last_statement != record.statement;
                if !record.once || is_new {
                    entry.rows += 1;
                }
                entry.statements += i64::from(is_new);
                entry.last_statement = record.statement;
                entry.last_seen = now;
                return;
            }
            index = (index + 1) % CAPACITY;
        }
        store.overflowed += 1;
    });
}

fn key_of(record: &Record<'_>, database: pg_sys::Oid) -> u64 {
    let mut hasher = DefaultHasher::new();
    (
        database.to_u32(),
        record.relation.to_u32(),
        record.role.to_u32(),
        record.command as u8,
        record.kind as u8,
        record.precision as u8,
        record.query_id,
    )
        .hash(&mut hasher);
    (
        record.app_user,
        record.context_tenant,
        record.row_tenant,
        record.application_name,
    )
        .hash(&mut hasher);
    if record.query_id == 0 {
        record.query.hash(&mut hasher);
    }
    hasher.finish().max(1)
}

/// What was recorded in this database.
pub fn entries() -> Vec<Entry> {
    // SAFETY: a plain read of the backend's state.
    let database = unsafe { pg_sys::MyDatabaseId };
    let mut found = Vec::new();
    locked(|store| {
        found.extend(
            store
                .entries
                .iter()
                .filter(|entry| entry.key != 0 && entry.database == database)
                .copied(),
        );
    });
    found
}

/// Forgets what was recorded in this database.
pub fn clear() {
    // SAFETY: a plain read of the backend's state.
    let database = unsafe { pg_sys::MyDatabaseId };
    locked(|store| {
        // Anew, since a gap would hide what stands behind it.
        let mut kept: Vec<Entry> = store
            .entries
            .iter()
            .filter(|entry| entry.key != 0 && entry.database != database)
            .copied()
            .collect();
        for entry in &mut store.entries {
            entry.key = 0;
        }
        store.used = kept.len();
        for entry in kept.drain(..) {
            let mut index = entry.key as usize % CAPACITY;
            while store.entries[index].key != 0 {
                index = (index + 1) % CAPACITY;
            }
            store.entries[index] = entry;
        }
    });
}
