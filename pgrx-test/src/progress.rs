//! Progress lines: what is being done and since when.
//!
//! Owns nothing but the start time. Plain lines on stderr, the same with and without a terminal,
//! so that a log of a CI run reads like the screen; must never write to stdout, where the result
//! goes.

use std::fmt::Display;
use std::sync::OnceLock;
use std::time::Instant;

/// Prints one line: minutes and seconds since the start, whom it concerns, what happens.
pub fn step(who: impl Display, what: impl Display) {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed().as_secs();
    eprintln!("{:>3}:{:02}  {who:<10}  {what}", elapsed / 60, elapsed % 60);
}
