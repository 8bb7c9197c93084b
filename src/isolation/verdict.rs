//! What an attack met, in the four words of the result.
//!
//! Pure. Must never call an attack refused that failed for a reason of its own: a missing column, a
//! lock, a context that was not there, an error that code of the tables' owner raised in the same words.

/// The result of one attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// An error that isolation raised.
    Refused,
    /// No error, and nothing of the other tenant was read or changed.
    Nothing,
    /// Something of the other tenant was read or changed.
    Leak,
    /// It could not be tried, or failed before it was decided.
    NotAttacked,
}

impl Verdict {
    /// The word in the result.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Nothing => "nothing",
            Self::Leak => "LEAK",
            Self::NotAttacked => "not attacked",
        }
    }

    /// Of several rows attacked in the same way: the worst.
    pub const fn worst(self, other: Self) -> Self {
        if self.rank() >= other.rank() {
            self
        } else {
            other
        }
    }

    const fn rank(self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::Refused => 1,
            Self::NotAttacked => 2,
            Self::Leak => 3,
        }
    }
}

/// Whose doing an error has to be for an attack to count as refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack<'a> {
    /// Reading, changing or deleting rows.
    Rows,
    /// Moving a row to another tenant: a trigger of the extension refuses that, too.
    Move,
    /// Writing a row that points at another tenant's along one of these foreign keys.
    Link(&'a [String]),
    /// Meeting another tenant's row by its key: where the row was written instead, its foreign keys
    /// are what fails.
    Upsert,
}

/// What an error says about isolation; `raised_by` is the function of the server or a library.
pub fn of_error(
    attack: Attack<'_>,
    sqlstate: &str,
    message: &str,
    raised_by: Option<&str>,
) -> Verdict {
    let by = |names: &[&str]| raised_by.is_some_and(|name| names.contains(&name));
    let is_refusal = match sqlstate {
        // Privileges and policies, unless it is the attack's own harness that was refused.
        "42501" => by(REFUSING) && !is_of_the_harness(message),
        "23514" => {
            attack == Attack::Move
                && by(&[OURS])
                && message.ends_with("cannot move to another tenant")
        }
        "23503" if !by(&["ri_ReportViolation"]) => false,
        "23503" => match attack {
            Attack::Link(keys) => keys
                .iter()
                .any(|key| message.ends_with(&format!("foreign key constraint \"{key}\""))),
            Attack::Upsert => true,
            Attack::Rows | Attack::Move => false,
        },
        _ => false,
    };
    if is_refusal {
        Verdict::Refused
    } else {
        Verdict::NotAttacked
    }
}

/// Whether a row was reached, and only a foreign key of rows that point at it kept it.
pub fn is_kept_by_a_key(
    attack: Attack<'_>,
    sqlstate: &str,
    message: &str,
    raised_by: Option<&str>,
) -> bool {
    // 23001 since Postgres 18, for ON DELETE RESTRICT.
    attack == Attack::Rows
        && matches!(sqlstate, "23503" | "23001")
        && raised_by == Some("ri_ReportViolation")
        && message.starts_with("update or delete on table")
}

/// What the extension's own errors are raised by.
pub const OURS: &str = "pg_tenancy";

/// Who refuses for want of a privilege, or for a policy.
const REFUSING: &[&str] = &[
    OURS,
    "ExecWithCheckOptions",
    "aclcheck_error",
    "aclcheck_error_col",
];

/// Whether a 42501 with that message says nothing about rows.
pub fn is_of_the_harness(message: &str) -> bool {
    HARNESS.iter().any(|part| message.contains(part))
}

/// Messages of 42501 that say nothing about rows: no context, or code that wants to be another role.
const HARNESS: &[&str] = &[
    "no tenant context",
    "no user context",
    "the user belongs to several tenants",
    "security-restricted operation",
    "security-definer function",
    "query would be affected by row-level security",
];

/// A row of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was attacked.
    pub relation: String,
    /// How.
    pub attack: String,
    /// What came of it.
    pub verdict: Verdict,
    /// In words.
    pub detail: Option<String>,
    /// Of the error that was met.
    pub sqlstate: Option<String>,
    /// Whether it is of a kind that by its nature may never be tried.
    pub acceptable: bool,
    /// Why somebody decided to live with it.
    pub accepted: Option<String>,
}

impl Finding {
    /// In one line, without the detail.
    pub fn headline(&self) -> String {
        format!(
            "{}: {}: {}",
            self.relation,
            self.attack,
            self.verdict.word()
        )
    }

    /// In one line.
    pub fn line(&self) -> String {
        let mut line = self.headline();
        if let Some(detail) = &self.detail {
            line.push_str(&format!(": {detail}"));
        }
        line
    }

    /// Whether it keeps the whole from passing.
    pub fn fails(&self) -> bool {
        match self.verdict {
            Verdict::Refused | Verdict::Nothing => false,
            Verdict::Leak => true,
            Verdict::NotAttacked => !self.acceptable || self.accepted.is_none(),
        }
    }

    /// As a waiver names it, for a role as it is shown.
    pub fn object(&self, role: &str) -> String {
        format!("{role}: {}: {}", self.relation, self.attack)
    }

    /// The same, of a kind that may never be tried.
    pub fn acceptable(self) -> Self {
        Self {
            acceptable: true,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_never_be_tried_can_be_lived_with() {
        let fails = |verdict, acceptable, accepted: bool| {
            Finding {
                relation: "a.b".to_owned(),
                attack: "select".to_owned(),
                verdict,
                detail: None,
                sqlstate: None,
                acceptable,
                accepted: accepted.then(|| "so be it".to_owned()),
            }
            .fails()
        };
        use Verdict::{Leak, NotAttacked, Nothing, Refused};
        assert!(fails(NotAttacked, true, false) && !fails(NotAttacked, true, true));
        assert!(fails(NotAttacked, false, false) && fails(NotAttacked, false, true));
        assert!(fails(Leak, true, false) && fails(Leak, true, true));
        assert!(!fails(Refused, false, false) && !fails(Nothing, false, false));
    }

    #[test]
    fn privileges_and_policies_refuse() {
        for (message, by) in [
            ("permission denied for table t", "aclcheck_error"),
            (
                "new row violates row-level security policy for table \"t\"",
                "ExecWithCheckOptions",
            ),
            ("a word of the extension", OURS),
        ] {
            let of = |by| of_error(Attack::Rows, "42501", message, by);
            assert_eq!(of(Some(by)), Verdict::Refused);
            assert_eq!(of(Some("exec_stmt_raise")), Verdict::NotAttacked);
            assert_eq!(of(None), Verdict::NotAttacked);
        }
    }

    #[test]
    fn a_harness_that_is_refused_proves_nothing() {
        for message in [
            "no tenant context",
            "cannot set parameter \"role\" within security-restricted operation",
            "cannot set parameter \"role\" within security-definer function",
            "query would be affected by row-level security policy for table \"t\"",
        ] {
            assert_eq!(
                of_error(Attack::Rows, "42501", message, Some(OURS)),
                Verdict::NotAttacked,
                "{message}"
            );
        }
    }

    #[test]
    fn other_errors_are_no_refusal() {
        for code in [
            "23502", "23503", "23505", "23514", "55P03", "XX000", "25006",
        ] {
            let of = of_error(Attack::Rows, code, "x", Some("ri_ReportViolation"));
            assert_eq!(of, Verdict::NotAttacked);
        }
    }

    #[test]
    fn a_move_is_refused_by_the_trigger_and_not_by_a_check() {
        let of = |message, by| of_error(Attack::Move, "23514", message, Some(by));
        let moved = "a row of app.t cannot move to another tenant";
        assert_eq!(of(moved, OURS), Verdict::Refused);
        assert_eq!(of(moved, "exec_stmt_raise"), Verdict::NotAttacked);
        let check = "new row for relation \"t\" violates check constraint \"c\"";
        assert_eq!(of(check, "ExecConstraints"), Verdict::NotAttacked);
    }

    #[test]
    fn a_link_is_refused_by_its_own_key() {
        let keys = ["wide".to_owned()];
        let of = |name: &str| {
            let message = format!(
                "insert or update on table \"t\" violates foreign key constraint \"{name}\""
            );
            let by = |by| of_error(Attack::Link(&keys), "23503", &message, Some(by));
            assert_eq!(by("exec_stmt_raise"), Verdict::NotAttacked);
            by("ri_ReportViolation")
        };
        assert_eq!(of("wide"), Verdict::Refused);
        assert_eq!(of("other"), Verdict::NotAttacked);
    }

    #[test]
    fn a_row_that_a_key_kept_was_reached() {
        let of = |attack, code, message, by| is_kept_by_a_key(attack, code, message, Some(by));
        let (kept, by) = (
            "update or delete on table \"t\" violates",
            "ri_ReportViolation",
        );
        assert!(of(Attack::Rows, "23503", kept, by) && of(Attack::Rows, "23001", kept, by));
        assert!(!of(Attack::Rows, "23001", kept, "exec_stmt_raise"));
        assert!(!of(Attack::Rows, "23505", kept, by) && !of(Attack::Move, "23001", kept, by));
        assert!(!of(
            Attack::Rows,
            "23503",
            "insert or update on table \"t\" violates",
            by
        ));
    }

    #[test]
    fn the_worst_of_several_counts() {
        use Verdict::{Leak, NotAttacked, Nothing, Refused};
        assert_eq!(Nothing.worst(Leak), Leak);
        assert_eq!(Leak.worst(NotAttacked), Leak);
        assert_eq!(Refused.worst(NotAttacked), NotAttacked);
        assert_eq!(Nothing.worst(Refused), Refused);
    }
}
