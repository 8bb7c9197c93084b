//! Running something in the middle of a statement so that neither the client nor anybody else notices.
//!
//! Owns the subtransaction around it, which no transaction id is given to, the limit of its time, and the
//! settings that keep it quiet. An error inside is nobody's but a cancelled statement, which is the
//! client's own wish. The clocks of statement_timeout and transaction_timeout stand still meanwhile.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgLogLevel, PgSqlErrorCode, PgTryBuilder, pg_sys};

use crate::pg_compat::timeout::{self, Timeout};

/// How long a lock is waited for that the statement itself did not need, in milliseconds.
const LOCK_WAIT: i32 = 5;

static IS_OVER: AtomicBool = AtomicBool::new(false);

thread_local! {
    static TIMER: Cell<Option<Timeout>> = const { Cell::new(None) };
}

/// Runs `work` and undoes whatever it did; `None` where it failed or took longer than that.
pub fn run<T>(milliseconds: i32, work: impl FnOnce() -> Option<T>) -> Option<T> {
    let quiet = Quiet::begin();
    let clocks = Clocks::stop();
    // SAFETY: plain reads of the backend's state.
    let (memory, owner) = unsafe { (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner) };
    let (is_begun, is_over) = (Cell::new(false), Cell::new(false));
    let outcome = PgTryBuilder::new(AssertUnwindSafe(|| {
        let _limit = Limit::start(milliseconds, &is_over);
        // SAFETY: a statement is running, outside of parallel mode.
        unsafe {
            pg_sys::BeginInternalSubTransaction(core::ptr::null());
            is_begun.set(true);
            // Ends with the subtransaction.
            pg_sys::XactReadOnly = true;
        }
        Ok(work())
    }))
    .catch_others(|caught| Err(Box::new(caught)))
    .execute();
    // SAFETY: ends the subtransaction that was begun above, once; what was current before outlives it.
    unsafe {
        if is_begun.get() {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
        }
        pg_sys::MemoryContextSwitchTo(memory);
        pg_sys::CurrentResourceOwner = owner;
    }
    drop((clocks, quiet));
    match outcome {
        Err(caught) => {
            if !is_over.get() {
                raise_if_cancelled(*caught);
            }
            None
        }
        Ok(result) => result.filter(|_| !is_over.get()),
    }
}

/// Raises an error anew by which Postgres ends a statement that the client wants ended.
fn raise_if_cancelled(caught: CaughtError) {
    if let CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) = caught
        && report.sql_error_code() == PgSqlErrorCode::ERRCODE_QUERY_CANCELED
    {
        CaughtError::ErrorReport(report).rethrow();
    }
}

/// The limit of its time.
struct Limit<'a> {
    timer: Timeout,
    is_over: &'a Cell<bool>,
}

impl<'a> Limit<'a> {
    fn start(milliseconds: i32, is_over: &'a Cell<bool>) -> Self {
        let timer = TIMER.get().unwrap_or_else(|| {
            // SAFETY: the handler writes flags only.
            let timer = unsafe { timeout::register(time_is_over) };
            TIMER.set(Some(timer));
            timer
        });
        IS_OVER.store(false, Ordering::Relaxed);
        timeout::start(timer, milliseconds);
        Self { timer, is_over }
    }
}

impl Drop for Limit<'_> {
    fn drop(&mut self) {
        timeout::stop(self.timer);
        if IS_OVER.swap(false, Ordering::Relaxed) {
            self.is_over.set(true);
            // SAFETY: a plain write: the request was our own.
            unsafe { pg_sys::QueryCancelPending = 0 };
        }
    }
}

/// Ends what runs as a cancelled statement ends, unless that is under way.
unsafe extern "C" fn time_is_over() {
    // SAFETY: plain reads and writes of flags that are made for signal handlers.
    unsafe {
        if core::ptr::read_volatile(&raw const pg_sys::QueryCancelPending) == 0 {
            IS_OVER.store(true, Ordering::Relaxed);
            core::ptr::write_volatile(&raw mut pg_sys::QueryCancelPending, 1);
            core::ptr::write_volatile(&raw mut pg_sys::InterruptPending, 1);
        }
    }
}

/// Clocks that stand still while it lives.
struct Clocks {
    /// With the moments at which they would have run out.
    stopped: Vec<(Timeout, pg_sys::TimestampTz)>,
    since: pg_sys::TimestampTz,
}

impl Clocks {
    fn stop() -> Self {
        let running = |timer: &Timeout| Some((*timer, timeout::running_until(*timer)?));
        let stopped: Vec<_> = timeout::ENDING.iter().filter_map(running).collect();
        for (timer, _) in &stopped {
            timeout::stop(*timer);
        }
        // SAFETY: reads the clock.
        let since = unsafe { pg_sys::GetCurrentTimestamp() };
        Self { stopped, since }
    }
}

impl Drop for Clocks {
    fn drop(&mut self) {
        // SAFETY: reads the clock.
        let spent = unsafe { pg_sys::GetCurrentTimestamp() } - self.since;
        for (timer, end) in &self.stopped {
            timeout::start_until(*timer, end + spent.max(0));
        }
    }
}

/// Settings and counters as they were, put back when it ends.
struct Quiet {
    client_messages: i32,
    log_messages: i32,
    lock_timeout: i32,
    counts: bool,
    functions: i32,
    synchronized: bool,
    just_in_time: bool,
    permissions: pg_sys::ExecutorCheckPerms_hook_type,
    buffers: pg_sys::BufferUsage,
}

impl Quiet {
    fn begin() -> Self {
        // SAFETY: plain reads and writes of the backend's state, put back whichever way this ends.
        unsafe {
            let before = Self {
                client_messages: pg_sys::client_min_messages,
                log_messages: pg_sys::log_min_messages,
                lock_timeout: pg_sys::LockTimeout,
                counts: pg_sys::pgstat_track_counts,
                functions: pg_sys::pgstat_track_functions,
                synchronized: pg_sys::synchronize_seqscans,
                just_in_time: pg_sys::jit_enabled,
                permissions: pg_sys::ExecutorCheckPerms_hook,
                buffers: pg_sys::pgBufferUsage,
            };
            let error = PgLogLevel::ERROR as i32;
            pg_sys::client_min_messages = error.max(before.client_messages);
            pg_sys::log_min_messages = error.max(before.log_messages);
            pg_sys::LockTimeout = LOCK_WAIT;
            pg_sys::pgstat_track_counts = false;
            pg_sys::pgstat_track_functions = 0;
            // Rows in the same order, run by run.
            pg_sys::synchronize_seqscans = false;
            pg_sys::jit_enabled = false;
            // Who audits has seen the statement already.
            pg_sys::ExecutorCheckPerms_hook = None;
            before
        }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // SAFETY: as `begin`.
        unsafe {
            pg_sys::client_min_messages = self.client_messages;
            pg_sys::log_min_messages = self.log_messages;
            pg_sys::LockTimeout = self.lock_timeout;
            pg_sys::pgstat_track_counts = self.counts;
            pg_sys::pgstat_track_functions = self.functions;
            pg_sys::synchronize_seqscans = self.synchronized;
            pg_sys::jit_enabled = self.just_in_time;
            pg_sys::ExecutorCheckPerms_hook = self.permissions;
            pg_sys::pgBufferUsage = self.buffers;
        }
    }
}
