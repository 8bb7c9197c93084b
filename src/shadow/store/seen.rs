//! How many statements were seen, a table: without denials among many it is ready, without any nobody knows.
//!
//! Owns the counters, which every statement on a table in shadow mode counts up: nobody waits for anybody.

use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use pgrx::pg_sys;
use serde::{Deserialize, Serialize};

use super::memory;

/// Tables that are counted at most.
pub const TABLES: usize = 4096;
/// Places for sessions; a session that loses its place to another is taken for one without hooks.
pub const SESSIONS: usize = 4096;

const FREE: u64 = 0;
/// Was in use: the search goes on behind it.
const LEFT: u64 = 1;

/// One table.
#[repr(C)]
pub struct SeenTable {
    /// Database and relation.
    key: AtomicU64,
    statements: AtomicU64,
    exempt: AtomicU64,
    dismissed: AtomicU64,
    overflowed: AtomicU64,
    unhooked: AtomicU64,
}

/// What was counted for one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub key: u64,
    /// Statements that enforcement would bind.
    pub statements: u64,
    /// Statements of roles that it would not.
    pub exempt: u64,
    /// Statements whose records turned out to be false alarms.
    pub dismissed: u64,
    /// Records for which there was no room.
    pub overflowed: u64,
    /// Sessions that ran without the hooks when counting began.
    #[serde(default)]
    pub unhooked: u64,
}

/// A session that has the hooks.
#[repr(C)]
pub struct Session {
    process: AtomicI64,
    started: AtomicI64,
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Count {
    Statement,
    Exempt,
    Dismissed,
    Overflowed,
    Unhooked,
}

const COUNTS: [Count; 5] = [
    Count::Statement,
    Count::Exempt,
    Count::Dismissed,
    Count::Overflowed,
    Count::Unhooked,
];

/// The key of a table of this database.
pub fn key(relation: u32) -> u64 {
    key_in(super::own_database(), relation)
}

/// The key of a table of any database.
pub const fn key_in(database: u32, relation: u32) -> u64 {
    (database as u64) << 32 | relation as u64
}

/// Of which database.
pub fn database_of(key: u64) -> u32 {
    (key >> 32) as u32
}

impl SeenTable {
    fn counter(&self, what: Count) -> &AtomicU64 {
        match what {
            Count::Statement => &self.statements,
            Count::Exempt => &self.exempt,
            Count::Dismissed => &self.dismissed,
            Count::Overflowed => &self.overflowed,
            Count::Unhooked => &self.unhooked,
        }
    }

    fn clear(&self) {
        for what in COUNTS {
            self.counter(what).store(0, Ordering::Relaxed);
        }
    }

    fn get(&self) -> Seen {
        let of = |what| self.counter(what).load(Ordering::Relaxed);
        Seen {
            key: self.key.load(Ordering::Acquire),
            statements: of(Count::Statement),
            exempt: of(Count::Exempt),
            dismissed: of(Count::Dismissed),
            overflowed: of(Count::Overflowed),
            unhooked: of(Count::Unhooked),
        }
    }
}

fn find(key: u64) -> Option<&'static SeenTable> {
    let tables = &memory::shared()?.seen;
    for table in probe(key, tables) {
        match table.key.load(Ordering::Acquire) {
            FREE => return None,
            found if found == key => return Some(table),
            _ => {}
        }
    }
    None
}

fn probe(key: u64, tables: &[SeenTable]) -> impl Iterator<Item = &SeenTable> {
    let first = (key ^ (key >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    (0..tables.len()).map(move |step| &tables[(first as usize + step) % tables.len()])
}

/// A place for a table; `None` where all are taken.
fn place(key: u64) -> Option<&'static SeenTable> {
    let tables = &memory::shared()?.seen;
    memory::change(|_| {
        if let Some(found) = find(key) {
            return Some(found);
        }
        let free = probe(key, tables)
            .find(|table| matches!(table.key.load(Ordering::Acquire), FREE | LEFT))?;
        free.clear();
        free.key.store(key, Ordering::Release);
        Some(free)
    })
    .flatten()
}

/// Counts something of a table.
pub fn count(key: u64, what: Count) {
    if let Some(table) = find(key).or_else(|| place(key)) {
        table.counter(what).fetch_add(1, Ordering::Relaxed);
        memory::note_change();
    }
}

/// Counting begins, while so many sessions run without the hooks.
pub fn begin(key: u64, unhooked: u64) {
    if let Some(table) = find(key).or_else(|| place(key)) {
        table.unhooked.store(unhooked, Ordering::Relaxed);
        memory::note_change();
    }
}

/// What was counted for a table of this database; `None` if nothing ever was, or there was no place.
pub fn of(relation: u32) -> Option<Seen> {
    find(key(relation)).map(SeenTable::get)
}

/// All, of all databases.
pub fn all() -> Vec<Seen> {
    let Some(head) = memory::shared() else {
        return Vec::new();
    };
    head.seen
        .iter()
        .map(SeenTable::get)
        .filter(|seen| seen.key > LEFT)
        .collect()
}

/// Puts counters back that a file kept.
pub fn put(seen: &Seen) {
    if seen.key <= LEFT {
        return;
    }
    if let Some(table) = place(seen.key) {
        table.statements.store(seen.statements, Ordering::Relaxed);
        table.exempt.store(seen.exempt, Ordering::Relaxed);
        table.dismissed.store(seen.dismissed, Ordering::Relaxed);
        table.overflowed.store(seen.overflowed, Ordering::Relaxed);
        table.unhooked.store(seen.unhooked, Ordering::Relaxed);
    }
}

/// Forgets the counters of tables.
pub fn forget(is_meant: impl Fn(u64) -> bool) {
    memory::change(|locked| {
        for table in &locked.head.seen {
            let key = table.key.load(Ordering::Acquire);
            if key > LEFT && is_meant(key) {
                table.key.store(LEFT, Ordering::Release);
            }
        }
    });
}

/// Says that this session has the hooks.
pub fn register_session() {
    if let Some(head) = memory::shared() {
        // SAFETY: plain reads of the process's state.
        let (process, started) =
            unsafe { (i64::from(pg_sys::MyProcPid), pg_sys::MyStartTimestamp) };
        let place = &head.sessions[process as usize % SESSIONS];
        place.started.store(started, Ordering::Release);
        place.process.store(process, Ordering::Release);
    }
}

/// Whether a session, by its process and the moment it started, has said so.
pub fn has_registered(process: i64, started: i64) -> bool {
    memory::shared().is_some_and(|head| {
        let place = &head.sessions[usize::try_from(process).unwrap_or(0) % SESSIONS];
        place.process.load(Ordering::Acquire) == process
            && place.started.load(Ordering::Acquire) == started
    })
}
