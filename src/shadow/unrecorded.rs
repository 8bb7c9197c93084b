//! What is asked on behalf of an administrator, and is no traffic.
//!
//! Owns the switch, of this process only. Plans keep their recorders: a plan may be kept beyond it.

use std::cell::Cell;

thread_local! {
    static UNRECORDED: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, nothing is recorded by this process; ends on drop, an unwinding error included. A
/// parallel worker is another process: see that there is none.
pub struct Unrecorded {
    before: bool,
}

impl Unrecorded {
    /// Begins.
    pub fn begin() -> Self {
        Self {
            before: UNRECORDED.replace(true),
        }
    }
}

impl Drop for Unrecorded {
    fn drop(&mut self) {
        UNRECORDED.set(self.before);
    }
}

/// Whether one lives.
pub fn now() -> bool {
    UNRECORDED.get()
}
