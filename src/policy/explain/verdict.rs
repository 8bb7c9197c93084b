//! What policies say about one row, put together.
//!
//! Pure. Owns the rules of Postgres's row security: for a command the restrictive policies are ANDed
//! with the permissive ones, which are ORed, and without a permissive one nothing passes. Where a policy
//! refuses and another raises, the plan decides which of both is seen: then both are told.

use super::super::model::Command;

/// Which of the two expressions of a policy is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clause {
    /// Whether an existing row is there.
    Using,
    /// Whether a written row may be.
    Check,
}

impl Clause {
    /// The keyword.
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::Using => "USING",
            Self::Check => "WITH CHECK",
        }
    }
}

/// What Postgres asks of a row for a statement that finds it by its key.
pub const fn asked_for(command: Command) -> &'static [(Command, Clause)] {
    match command {
        Command::Insert => &[(Command::Insert, Clause::Check)],
        Command::Update => &[
            (Command::Update, Clause::Using),
            (Command::Select, Clause::Using),
            (Command::Update, Clause::Check),
        ],
        Command::Delete => &[
            (Command::Delete, Clause::Using),
            (Command::Select, Clause::Using),
        ],
        Command::Select | Command::All => &[(Command::Select, Clause::Using)],
    }
}

/// What became of one expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// True.
    Passed,
    /// False.
    Refused,
    /// NULL, which counts as false.
    Null,
    /// An error with that SQLSTATE.
    Raised(String),
    /// It would have run with rights that its author may lack.
    Unknown,
}

impl Outcome {
    /// As an administrator reads it.
    pub fn words(&self) -> String {
        match self {
            Self::Passed => "passed".to_owned(),
            Self::Refused => "refused".to_owned(),
            Self::Null => "refused: null".to_owned(),
            Self::Raised(code) => format!("raises {code}"),
            Self::Unknown => "not evaluated".to_owned(),
        }
    }

    const fn possible(&self) -> Possible {
        match self {
            Self::Passed => Possible::PASS,
            Self::Refused | Self::Null => Possible::REFUSE,
            Self::Raised(_) => Possible::RAISE,
            Self::Unknown => Possible::ANYTHING,
        }
    }
}

/// What may come of several expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Possible {
    /// True.
    pub pass: bool,
    /// False or NULL.
    pub refuse: bool,
    /// An error.
    pub raise: bool,
}

impl Possible {
    const PASS: Self = Self::only(true, false, false);
    const REFUSE: Self = Self::only(false, true, false);
    const RAISE: Self = Self::only(false, false, true);
    const ANYTHING: Self = Self::only(true, true, true);

    const fn only(pass: bool, refuse: bool, raise: bool) -> Self {
        Self {
            pass,
            refuse,
            raise,
        }
    }

    /// Both have to hold.
    pub const fn and(self, other: Self) -> Self {
        Self {
            pass: self.pass && other.pass,
            refuse: self.refuse || other.refuse,
            raise: self.raise || other.raise,
        }
    }

    const fn or(self, other: Self) -> Self {
        Self {
            pass: self.pass || other.pass,
            refuse: self.refuse && other.refuse,
            raise: self.raise || other.raise,
        }
    }

    /// In words, with those for a refusal.
    pub fn words(self, passed: &str, refused: &str, raised: &str) -> String {
        [
            (self.pass, passed),
            (self.refuse, refused),
            (self.raise, raised),
        ]
        .into_iter()
        .filter_map(|(may_be, word)| may_be.then_some(word))
        .collect::<Vec<_>>()
        .join(" or ")
    }
}

/// All policies for one command and clause: whether each is permissive, and what became of it.
pub fn combined(policies: &[(bool, Outcome)]) -> Possible {
    let of = |permissive| {
        policies
            .iter()
            .filter(move |(is_permissive, _)| *is_permissive == permissive)
            .map(|(_, outcome)| outcome.possible())
    };
    let permitted = of(true).fold(Possible::REFUSE, Possible::or);
    of(false).fold(permitted, Possible::and)
}

/// What the command would do to the row.
pub fn verdict(command: Command, parts: &[(Clause, Possible)]) -> String {
    let of = |clause| {
        parts
            .iter()
            .filter(move |(of, _)| *of == clause)
            .fold(Possible::PASS, |sum, (_, one)| sum.and(*one))
    };
    let (there, written) = (of(Clause::Using), of(Clause::Check));
    let mut words = Vec::new();
    if there.pass && written.pass {
        words.push("allowed");
    }
    if there.refuse && command != Command::Insert {
        words.push("hidden");
    }
    if there.pass && written.refuse {
        words.push("refused");
    }
    if there.raise || (there.pass && written.raise) {
        words.push("error");
    }
    words.join(" or ")
}

/// The verdict in a sentence; `would` where enforcement is not on.
pub fn sentence(command: Command, verdict: &str, would: bool) -> String {
    let one = |word: &str| -> String {
        let will = if would { "would" } else { "does" };
        match (word, command) {
            ("allowed", Command::Insert) => {
                format!("such a row {} inserted", tense(would, "would be", "is"))
            }
            ("allowed", _) => format!(
                "{} {} the row",
                command.keyword(),
                tense(would, "would reach", "reaches")
            ),
            ("hidden", _) => format!(
                "{} {will} not find the row: no error, no row",
                command.keyword()
            ),
            ("refused", _) => format!(
                "{} {} with 42501: the row violates row security",
                command.keyword(),
                tense(would, "would fail", "fails")
            ),
            _ => format!(
                "{} {} before the row is judged",
                command.keyword(),
                tense(would, "would fail", "fails")
            ),
        }
    };
    verdict
        .split(" or ")
        .map(one)
        .collect::<Vec<_>>()
        .join("; or ")
}

const fn tense<'a>(would: bool, conditional: &'a str, present: &'a str) -> &'a str {
    if would { conditional } else { present }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raised() -> Outcome {
        Outcome::Raised("22P02".into())
    }

    #[test]
    fn without_a_permissive_policy_nothing_passes() {
        assert_eq!(combined(&[]), Possible::REFUSE);
        assert_eq!(combined(&[(false, Outcome::Passed)]), Possible::REFUSE);
        assert_eq!(combined(&[(true, Outcome::Passed)]), Possible::PASS);
    }

    #[test]
    fn restrictive_policies_take_away_and_permissive_ones_add() {
        use Outcome::{Null, Passed, Refused};
        for (policies, expected) in [
            (vec![(true, Refused), (true, Passed)], Possible::PASS),
            (vec![(true, Passed), (false, Refused)], Possible::REFUSE),
            (vec![(true, Passed), (false, Null)], Possible::REFUSE),
            (vec![(true, Null), (false, Passed)], Possible::REFUSE),
            (
                vec![(true, Passed), (false, Passed), (false, Passed)],
                Possible::PASS,
            ),
        ] {
            assert_eq!(combined(&policies), expected, "{policies:?}");
        }
    }

    #[test]
    fn an_error_beside_a_refusal_leaves_both_open() {
        assert_eq!(
            combined(&[(true, Outcome::Refused), (false, raised())]),
            Possible::only(false, true, true)
        );
        assert_eq!(
            combined(&[(true, Outcome::Passed), (true, raised())]),
            Possible::only(true, false, true)
        );
        assert_eq!(
            combined(&[(true, Outcome::Refused), (true, raised())]),
            Possible::RAISE,
            "nothing keeps the second from being evaluated"
        );
        assert_eq!(combined(&[(true, Outcome::Unknown)]), Possible::ANYTHING);
    }

    #[test]
    fn what_is_hidden_is_not_refused() {
        let (using, check) = (Clause::Using, Clause::Check);
        for (command, parts, expected) in [
            (Command::Select, vec![(using, Possible::PASS)], "allowed"),
            (
                Command::Delete,
                vec![(using, Possible::PASS), (using, Possible::REFUSE)],
                "hidden",
            ),
            (Command::Insert, vec![(check, Possible::REFUSE)], "refused"),
            (
                Command::Update,
                vec![(using, Possible::PASS), (check, Possible::REFUSE)],
                "refused",
            ),
            (
                Command::Update,
                vec![(using, Possible::REFUSE), (check, Possible::REFUSE)],
                "hidden",
            ),
            (
                Command::Update,
                vec![(using, Possible::REFUSE), (check, Possible::RAISE)],
                "hidden",
            ),
            (Command::Select, vec![(using, Possible::RAISE)], "error"),
            (
                Command::Select,
                vec![(using, Possible::only(false, true, true))],
                "hidden or error",
            ),
            (
                Command::Update,
                vec![(using, Possible::ANYTHING), (check, Possible::PASS)],
                "allowed or hidden or error",
            ),
        ] {
            assert_eq!(verdict(command, &parts), expected, "{command:?} {parts:?}");
        }
    }

    #[test]
    fn every_verdict_has_a_sentence() {
        assert_eq!(
            sentence(Command::Select, "hidden", true),
            "SELECT would not find the row: no error, no row"
        );
        assert_eq!(
            sentence(Command::Update, "hidden or error", false),
            "UPDATE does not find the row: no error, no row; or UPDATE fails before the row is judged"
        );
        assert_eq!(
            sentence(Command::Insert, "allowed", false),
            "such a row is inserted"
        );
    }
}
