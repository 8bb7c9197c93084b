//! What a recorder is told about the rows that reach it, in words that EXPLAIN shows.
//!
//! Pure.

use super::record::{Command, Kind, Precision};

/// The second argument of a recorder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct What {
    pub command: Command,
    pub kind: Kind,
    pub precision: Precision,
}

impl What {
    /// As text.
    pub fn text(self) -> String {
        format!(
            "{} {} {}",
            self.command.word(),
            self.kind.word(),
            self.precision.word()
        )
    }

    /// Read back.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let what = Self {
            command: Command::parse(words.next()?)?,
            kind: Kind::parse(words.next()?)?,
            precision: Precision::parse(words.next()?)?,
        };
        words.next().is_none().then_some(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_and_written_are_the_same() {
        let what = What {
            command: Command::Merge,
            kind: Kind::CheckViolation,
            precision: Precision::Level,
        };
        assert_eq!(What::parse(&what.text()), Some(what));
        for bad in [
            "",
            "merge",
            "select hidden_row",
            "select hidden_row exact !",
            "x y z",
        ] {
            assert_eq!(What::parse(bad), None, "{bad:?}");
        }
    }
}
