//! Where the store lies: shared memory that is asked for while the server starts, or, on 17 and later, when
//! the first session needs it.
//!
//! Owns the layout and the lock. Must never hand out a reference to more than one process at a time without
//! saying so.

use core::ffi::c_void;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use pgrx::prelude::*;

use super::line::Line;
use super::seen::{self, SeenTable, Session};
use crate::{gucs, pg_compat};

/// What begins the memory.
#[repr(C)]
pub struct Head {
    lock: pg_sys::LWLock,
    /// How many lines it takes; a table of hashes needs some places more.
    pub capacity: usize,
    places: usize,
    pub used: AtomicUsize,
    /// Goes up with each change, so that the file is written only if it would differ.
    changes: AtomicU64,
    pub seen: [SeenTable; seen::TABLES],
    pub sessions: [Session; seen::SESSIONS],
}

/// The store, and nobody else changes its lines meanwhile.
pub struct Locked<'a> {
    pub head: &'a Head,
    pub lines: &'a mut [Line],
}

static mut STORE: *mut Head = core::ptr::null_mut();
static mut PREVIOUS_REQUEST: pg_sys::shmem_request_hook_type = None;
static mut PREVIOUS_STARTUP: pg_sys::shmem_startup_hook_type = None;

const NAME: &core::ffi::CStr = c"pg_tenancy shadow";

/// Asks for shared memory, if the server is starting; whether it is.
pub fn init() -> bool {
    // SAFETY: the postmaster has one thread; the hooks are static functions.
    unsafe {
        if !pg_sys::process_shared_preload_libraries_in_progress {
            return false;
        }
        PREVIOUS_REQUEST = pg_sys::shmem_request_hook;
        pg_sys::shmem_request_hook = Some(request);
        PREVIOUS_STARTUP = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(startup);
    }
    true
}

const fn places(capacity: usize) -> usize {
    capacity + capacity / 4 + 8
}

fn size(capacity: usize) -> usize {
    size_of::<Head>() + places(capacity) * size_of::<Line>()
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
        pg_sys::RequestAddinShmemSpace(size(gucs::shadow_entries()));
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn startup() {
    // SAFETY: called by Postgres once in the postmaster, before any other process has the memory.
    unsafe {
        if let Some(previous) = PREVIOUS_STARTUP {
            #[allow(
                ffi_unwind_calls,
                reason = "the boundary turns a Postgres error into a panic"
            )]
            pgrx::pg_sys::ffi::pg_guard_ffi_boundary(|| previous());
        }
        let mut found = false;
        let memory =
            pg_sys::ShmemInitStruct(NAME.as_ptr(), size(gucs::shadow_entries()), &mut found);
        if !found {
            begin(memory);
        }
        use_memory(memory);
        super::file::read_in();
        pg_sys::on_shmem_exit(Some(server_ends), pg_sys::Datum::from(0));
    }
}

/// The postmaster is the last to leave: what it writes is complete.
#[pg_guard]
unsafe extern "C-unwind" fn server_ends(code: i32, _argument: pg_sys::Datum) {
    // SAFETY: a plain read of the process's state.
    let is_postmaster = unsafe { pg_sys::MyProcPid == pg_sys::PostmasterPid };
    if code == 0 && is_postmaster {
        super::file::write_out();
    }
}

/// An empty store.
///
/// # Safety
/// Memory of `size(..)` bytes that nobody else has yet.
unsafe extern "C-unwind" fn begin(memory: *mut c_void) {
    let capacity = gucs::shadow_entries();
    // SAFETY: by the caller's promise; all zeroes are an empty store.
    unsafe {
        core::ptr::write_bytes(memory.cast::<u8>(), 0, size(capacity));
        let head = memory.cast::<Head>();
        (*head).capacity = capacity;
        (*head).places = places(capacity);
        pg_sys::LWLockInitialize(&raw mut (*head).lock, pg_sys::LWLockNewTrancheId());
    }
}

unsafe fn use_memory(memory: *mut c_void) {
    // SAFETY: the memory was begun; each process has one thread.
    unsafe {
        STORE = memory.cast();
        pg_sys::LWLockRegisterTranche(i32::from((*STORE).lock.tranche), NAME.as_ptr());
    }
}

/// Whether there is anything to record into. Where the library came with the session it is made now, on 17
/// and later; that may raise for want of memory.
pub fn attach() -> bool {
    // SAFETY: each process has one thread; the memory is of that size for whoever gets it.
    unsafe {
        if !STORE.is_null() {
            return true;
        }
        if !gucs::is_preloaded() {
            return false;
        }
        let Some((memory, found)) =
            pg_compat::named_memory(NAME, size(gucs::shadow_entries()), begin)
        else {
            return false;
        };
        use_memory(memory);
        if !found {
            super::file::read_in();
            super::worker::start_now();
        }
        true
    }
}

/// What any process may read and count up at any time; nothing where `attach` never succeeded.
pub fn shared() -> Option<&'static Head> {
    // SAFETY: the memory stays as long as the process; what is changed through it is atomic.
    unsafe { STORE.as_ref() }
}

/// Runs with the store, which no other process changes meanwhile. The work must not call anything that
/// could raise.
fn locked<T>(work: impl FnOnce(Locked<'_>) -> T) -> Option<T> {
    // SAFETY: the lock is held while the references live.
    unsafe {
        if STORE.is_null() {
            return None;
        }
        pg_sys::LWLockAcquire(&raw mut (*STORE).lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let lines = core::slice::from_raw_parts_mut(STORE.add(1).cast::<Line>(), (*STORE).places);
        let result = work(Locked {
            head: &*STORE,
            lines,
        });
        pg_sys::LWLockRelease(&raw mut (*STORE).lock);
        Some(result)
    }
}

/// Looks at the store; nothing where there is none.
pub fn look<T>(work: impl FnOnce(&[Line]) -> T) -> Option<T> {
    locked(|store| work(store.lines))
}

/// Changes the store; nothing where there is none.
pub fn change<T>(work: impl FnOnce(Locked<'_>) -> T) -> Option<T> {
    let result = locked(work);
    note_change();
    result
}

/// The file is to be written again.
pub fn note_change() {
    if let Some(head) = shared() {
        head.changes.fetch_add(1, Ordering::Relaxed);
    }
}

/// How often the store was changed since the server started.
pub fn changes() -> u64 {
    shared().map_or(0, |head| head.changes.load(Ordering::Relaxed))
}
