//! One line of the store: records that differ in nothing but the row and the moment.
//!
//! Owns its layout in shared memory and what makes two records the same. Must stay plain data: any process
//! may die while it writes one.

use core::hash::{Hash, Hasher};
use std::collections::hash_map::DefaultHasher;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::shadow::record::{Command, Kind, Precision, Record};

const WORD: usize = 64;
const QUERY: usize = 480;

/// A string cut to a fixed length.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    length: u16,
    is_null: bool,
}

impl<const N: usize> Text<N> {
    /// Cuts a string between two characters.
    pub fn new(text: Option<&str>) -> Self {
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

impl<const N: usize> Hash for Text<N> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.is_null.hash(hasher);
        self.bytes[..usize::from(self.length).min(N)].hash(hasher);
    }
}

impl<const N: usize> Serialize for Text<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(serializer)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Text<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        Ok(Self::new(text.as_deref()))
    }
}

/// What makes records the same, and how many there were.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[repr(C)]
pub struct Line {
    /// Hash of what makes records the same; 0 where there is none.
    pub key: u64,
    pub database: u32,
    pub relation: u32,
    pub role: u32,
    pub command: Command,
    pub kind: Kind,
    pub precision: Precision,
    /// Whether enforcement did refuse it, and not shadow mode found that it would.
    pub is_refused: bool,
    /// 0 where Postgres computes none.
    pub query_id: i64,
    pub app_user: Text<WORD>,
    pub context_tenant: Text<WORD>,
    pub row_tenant: Text<WORD>,
    pub application_name: Text<WORD>,
    pub query: Text<QUERY>,
    pub rows: i64,
    pub statements: i64,
    /// Statements of which a comparison has shown that they lose rows, and how many those lose.
    pub confirmed_statements: i64,
    pub lost_rows: i64,
    /// Of the statement that was counted last.
    pub last_statement: u64,
    pub last_rows: i64,
    /// Microseconds, as Postgres counts them.
    pub first_seen: i64,
    pub last_seen: i64,
}

impl Line {
    /// The first record of its kind.
    pub fn new(record: &Record<'_>, now: i64) -> Self {
        let mut line = Self {
            key: 0,
            database: super::own_database(),
            relation: record.relation.to_u32(),
            role: record.role.to_u32(),
            command: record.command,
            kind: record.kind,
            precision: record.precision,
            is_refused: record.is_refused,
            query_id: record.query_id,
            app_user: Text::new(record.app_user),
            context_tenant: Text::new(record.context_tenant),
            row_tenant: Text::new(record.row_tenant),
            application_name: Text::new(Some(record.application_name)),
            query: Text::new(Some(record.query)),
            rows: 1,
            statements: 1,
            confirmed_statements: 0,
            lost_rows: 0,
            last_statement: record.statement,
            last_rows: 1,
            first_seen: now,
            last_seen: now,
        };
        line.key = line.own_key(record.query);
        line
    }

    fn own_key(&self, query: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        (
            (self.database, self.relation, self.role, self.is_refused),
            (self.command as u8, self.kind as u8, self.precision as u8),
            self.query_id,
            (&self.app_user, &self.context_tenant, &self.row_tenant),
            &self.application_name,
        )
            .hash(&mut hasher);
        if self.query_id == 0 {
            query.hash(&mut hasher);
        }
        hasher.finish().max(1)
    }

    /// Counts one more record of the same kind.
    pub fn count(&mut self, record: &Record<'_>, now: i64) {
        let is_new = self.last_statement != record.statement || self.statements == 0;
        if is_new {
            self.statements += 1;
            self.last_statement = record.statement;
            self.last_rows = 0;
        }
        if is_new || !record.once {
            self.rows += 1;
            self.last_rows += 1;
        }
        self.last_seen = now;
    }

    /// Whether a comparison of that statement has a say in it.
    pub fn is_unsettled(&self, statement: u64) -> bool {
        self.last_statement == statement
            && self.last_rows > 0
            && self.precision != Precision::Exact
            && self.kind == Kind::HiddenRow
    }

    /// That statement loses nothing: what it added was a false alarm.
    pub fn dismiss(&mut self) {
        self.rows -= self.last_rows;
        self.statements -= 1;
        self.last_rows = 0;
        self.last_statement = 0;
    }

    /// That statement loses that many rows.
    pub fn confirm(&mut self, lost: i64) {
        self.confirmed_statements += 1;
        self.lost_rows = self.lost_rows.saturating_add(lost);
        // Once only, however often it is asked.
        self.last_rows = 0;
    }
}

#[cfg(test)]
mod tests {
    use pgrx::pg_sys;

    use super::*;

    fn record(statement: u64) -> Record<'static> {
        Record {
            relation: pg_sys::Oid::from(1),
            command: Command::Select,
            kind: Kind::HiddenRow,
            precision: Precision::Level,
            is_refused: false,
            role: pg_sys::Oid::from(2),
            app_user: None,
            context_tenant: Some("a"),
            row_tenant: Some("b"),
            query_id: 3,
            query: "SELECT 1",
            application_name: "",
            statement,
            once: false,
        }
    }

    fn line() -> Line {
        let mut line = Line {
            key: 0,
            database: 1,
            relation: 1,
            role: 2,
            command: Command::Select,
            kind: Kind::HiddenRow,
            precision: Precision::Level,
            is_refused: false,
            query_id: 3,
            app_user: Text::new(None),
            context_tenant: Text::new(Some("a")),
            row_tenant: Text::new(Some("b")),
            application_name: Text::new(Some("")),
            query: Text::new(Some("SELECT $1")),
            rows: 1,
            statements: 1,
            confirmed_statements: 0,
            lost_rows: 0,
            last_statement: 7,
            last_rows: 1,
            first_seen: 1,
            last_seen: 1,
        };
        line.key = line.own_key("SELECT $1");
        line
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(Text::<4>::new(Some("aäöü")).get().as_deref(), Some("aä"));
        assert_eq!(Text::<4>::new(None).get(), None);
        assert_eq!(Text::<4>::new(Some("")).get().as_deref(), Some(""));
    }

    #[test]
    fn what_differs_has_another_key() {
        let one = line();
        for change in [
            (|line: &mut Line| line.row_tenant = Text::new(None)) as fn(&mut Line),
            |line| line.row_tenant = Text::new(Some("")),
            |line| line.database = 2,
            |line| line.is_refused = true,
            |line| line.kind = Kind::CheckViolation,
            |line| line.query_id = 4,
            |line| {
                line.app_user = Text::new(Some("a"));
                line.context_tenant = Text::new(None);
            },
        ] {
            let mut other = line();
            change(&mut other);
            assert_ne!(one.key, other.own_key("SELECT $1"));
        }
        assert_eq!(
            one.key,
            one.own_key("with an identifier the text is a sample")
        );
    }

    #[test]
    fn a_dismissed_statement_leaves_what_was_there_before() {
        let mut line = line();
        for _ in 0..3 {
            line.count(&record(8), 2);
        }
        assert_eq!((line.rows, line.statements), (4, 2));
        assert!(line.is_unsettled(8) && !line.is_unsettled(7));
        line.dismiss();
        assert_eq!((line.rows, line.statements), (1, 1));
        assert!(!line.is_unsettled(8));
        line.count(&record(8), 3);
        assert_eq!((line.rows, line.statements), (2, 2));
    }

    #[test]
    fn a_row_that_is_looked_at_again_counts_once() {
        let mut line = line();
        let again = Record {
            once: true,
            ..record(7)
        };
        line.count(&again, 2);
        assert_eq!((line.rows, line.statements), (1, 1));
        line.count(
            &Record {
                statement: 9,
                ..again
            },
            2,
        );
        assert_eq!((line.rows, line.statements), (2, 2));
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let text = serde_json::to_string(&line()).expect("plain data");
        let read: Line = serde_json::from_str(&text).expect("as it was written");
        assert_eq!(serde_json::to_string(&read).expect("plain data"), text);
    }
}
