//! What was recorded, in shared memory, bounded.
//!
//! | question | file |
//! |---|---|
//! | what makes records the same, and how they are counted | `line` |
//! | how many statements were seen, and by which sessions | `seen` |
//! | where the memory comes from | `memory` |
//! | how it outlives the server | `file`, `worker` |
//!
//! Must never raise nor wait for anything but its own lock, which is held for a comparison and a copy.

mod file;
mod line;
mod memory;
pub mod seen;
mod worker;

use core::sync::atomic::Ordering;

use pgrx::pg_sys;

pub use line::Line;
pub use memory::attach;

use super::record::Record;
use super::unrecorded;

/// Asks for memory and a worker while the server starts.
pub fn init() {
    if memory::init() {
        worker::start_with_server();
    }
}

/// Counts a record.
pub fn add(record: &Record<'_>) {
    if unrecorded::now() {
        return;
    }
    // SAFETY: a plain read of the clock.
    let now = unsafe { pg_sys::GetCurrentTimestamp() };
    let fresh = Line::new(record, now);
    let is_kept = memory::change(|store| {
        match place_of(store.lines, fresh.key) {
            Place::Taken(line) => line.count(record, now),
            Place::Free(line) if store.head.used.load(Ordering::Relaxed) < store.head.capacity => {
                *line = fresh;
                store.head.used.fetch_add(1, Ordering::Relaxed);
            }
            Place::Free(_) | Place::None => return false,
        }
        true
    });
    if is_kept == Some(false) {
        seen::count(seen::key(record.relation.to_u32()), seen::Count::Overflowed);
    }
}

/// How often a line is confirmed: what it counts has to be mended then, and statements that are known to
/// lose rows need not run again and again.
const CONFIRMATIONS: i64 = 10;

enum Place<'a> {
    Taken(&'a mut Line),
    Free(&'a mut Line),
    None,
}

fn place_of(lines: &mut [Line], key: u64) -> Place<'_> {
    let length = lines.len();
    let first = (key % length as u64) as usize;
    let found = (0..length)
        .map(|step| (first + step) % length)
        .find(|index| lines[*index].key == 0 || lines[*index].key == key);
    match found {
        Some(index) if lines[index].key == key => Place::Taken(&mut lines[index]),
        Some(index) => Place::Free(&mut lines[index]),
        None => Place::None,
    }
}

/// What running a statement both ways has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It loses nothing.
    Dismissed,
    /// It loses that many rows.
    Confirmed { lost: i64 },
}

/// The database of this session.
fn own_database() -> u32 {
    // SAFETY: a plain read of the backend's state.
    unsafe { pg_sys::MyDatabaseId }.to_u32()
}

fn own(line: &Line) -> bool {
    line.key != 0 && line.database == own_database()
}

/// Records of a statement that are not exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsettled {
    /// It has none.
    None,
    /// Each is one of a line that was confirmed often enough: there is nothing to learn.
    Known,
    /// A verdict would say more.
    Asks,
}

/// The records of that statement which are not exact.
pub fn unsettled(statement: u64) -> Unsettled {
    memory::look(|lines| {
        let mut found = Unsettled::None;
        for line in lines {
            if own(line) && line.is_unsettled(statement) {
                if line.confirmed_statements < CONFIRMATIONS {
                    return Unsettled::Asks;
                }
                found = Unsettled::Known;
            }
        }
        found
    })
    .unwrap_or(Unsettled::None)
}

/// Applies a verdict to the records of that statement which are not exact. What another session has counted
/// meanwhile with the same line stays as it is.
pub fn settle(statement: u64, verdict: Verdict) {
    let mut dismissed = Vec::new();
    memory::change(|store| {
        for line in store.lines.iter_mut() {
            if own(line) && line.is_unsettled(statement) {
                match verdict {
                    Verdict::Dismissed => {
                        line.dismiss();
                        dismissed.push(line.relation);
                    }
                    Verdict::Confirmed { lost } => line.confirm(lost),
                }
            }
        }
    });
    dismissed.sort_unstable();
    dismissed.dedup();
    for relation in dismissed {
        seen::count(seen::key(relation), seen::Count::Dismissed);
    }
}

fn lines_where(is_meant: impl Fn(&Line) -> bool) -> Vec<Line> {
    memory::look(|lines| {
        lines
            .iter()
            .filter(|line| line.key != 0 && is_meant(line))
            .copied()
            .collect()
    })
    .unwrap_or_default()
}

/// What was recorded in this database.
pub fn lines() -> Vec<Line> {
    lines_where(|line| own(line) && line.rows > 0)
}

/// What was recorded of one of its tables.
pub fn lines_of(relation: u32) -> Vec<Line> {
    lines_where(|line| own(line) && line.rows > 0 && line.relation == relation)
}

/// Forgets lines and counters: of a table of this database, or of all of it.
pub fn forget(relation: Option<u32>) {
    let Some(relation) = relation else {
        return forget_database(own_database());
    };
    forget_where(|line| own(line) && line.relation == relation);
    let table = seen::key(relation);
    seen::forget(|key| key == table);
}

/// The same for all of a database.
pub fn forget_database(database: u32) {
    forget_where(|line| line.key != 0 && line.database == database);
    seen::forget(|key| seen::database_of(key) == database);
}

fn forget_where(is_meant: impl Fn(&Line) -> bool) {
    memory::change(|mut store| {
        // Anew, since a gap would hide what stands behind it.
        let kept: Vec<Line> = store
            .lines
            .iter()
            .filter(|line| line.key != 0 && !is_meant(line))
            .copied()
            .collect();
        for line in store.lines.iter_mut() {
            line.key = 0;
        }
        store.head.used.store(0, Ordering::Relaxed);
        put(&mut store, &kept);
    });
}

/// Puts lines into an empty store, as many as there is room for; how many there were too many.
fn put(store: &mut memory::Locked<'_>, lines: &[Line]) -> usize {
    let room = store.head.capacity.min(lines.len());
    for line in &lines[..room] {
        if let Place::Free(place) = place_of(store.lines, line.key) {
            *place = *line;
            store.head.used.fetch_add(1, Ordering::Relaxed);
        }
    }
    lines.len() - room
}
