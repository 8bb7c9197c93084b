//! Postgres's timers, of which its headers are not among the bindings.
//!
//! Owns the numbers of those that the extension knows. Must never hold a decision: see `pg_compat`.

use pgrx::pg_sys;

/// `TimeoutId`.
pub type Timeout = core::ffi::c_uint;

/// What is called when a timer runs out, as a signal handler is.
pub type Handler = unsafe extern "C" fn();

/// `statement_timeout`.
pub const STATEMENT: Timeout = 3;

/// The timers that end a statement or its transaction.
#[cfg(any(feature = "pg15", feature = "pg16"))]
pub const ENDING: &[Timeout] = &[STATEMENT];
/// The timers that end a statement or its transaction.
#[cfg(not(any(feature = "pg15", feature = "pg16")))]
pub const ENDING: &[Timeout] = &[STATEMENT, 8];

#[cfg(any(feature = "pg15", feature = "pg16"))]
const USER: Timeout = 12;
#[cfg(not(any(feature = "pg15", feature = "pg16")))]
const USER: Timeout = 13;

// None of them raises an error: what fails in them ends the process.
unsafe extern "C" {
    fn RegisterTimeout(id: Timeout, handler: Option<Handler>) -> Timeout;
    fn enable_timeout_after(id: Timeout, delay_ms: core::ffi::c_int);
    fn enable_timeout_at(id: Timeout, moment: pg_sys::TimestampTz);
    fn disable_timeout(id: Timeout, keep_indicator: bool);
    fn get_timeout_active(id: Timeout) -> bool;
    fn get_timeout_finish_time(id: Timeout) -> pg_sys::TimestampTz;
}

/// A new timer of this process; there is room for a few.
///
/// # Safety
/// The handler does only what a signal handler may.
pub unsafe fn register(handler: Handler) -> Timeout {
    // SAFETY: by the caller's promise.
    unsafe { RegisterTimeout(USER, Some(handler)) }
}

/// Has it run out after that many milliseconds.
pub fn start(timeout: Timeout, milliseconds: i32) {
    // SAFETY: a registered timer.
    unsafe { enable_timeout_after(timeout, milliseconds) };
}

/// Has it run out at that moment.
pub fn start_until(timeout: Timeout, moment: pg_sys::TimestampTz) {
    // SAFETY: a registered timer.
    unsafe { enable_timeout_at(timeout, moment) };
}

/// Stops it, and forgets that it ran out.
pub fn stop(timeout: Timeout) {
    // SAFETY: a registered timer.
    unsafe { disable_timeout(timeout, false) };
}

/// The moment at which it is going to run out, where it is running.
pub fn running_until(timeout: Timeout) -> Option<pg_sys::TimestampTz> {
    // SAFETY: a registered timer.
    unsafe { get_timeout_active(timeout).then(|| get_timeout_finish_time(timeout)) }
}
