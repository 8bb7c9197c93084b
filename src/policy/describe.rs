//! What a call says about a table.
//!
//! Pure: owns the words of a result. Must never leave out a script.

use super::model::Mode;
use super::plan::Plan;

/// How many keys are named.
const NAMED: usize = 3;

/// A result, kept in parts until it is shown: a later table of the same call may add to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    state: String,
    notes: Vec<String>,
    /// Foreign keys that do not carry the tenant and are only reported.
    pub plain_keys: Vec<String>,
    /// Unique keys, likewise.
    plain_unique_keys: Vec<String>,
    script: Vec<String>,
}

impl Words {
    /// Just a sentence.
    pub fn new(state: String) -> Self {
        Self {
            state,
            ..Self::default()
        }
    }

    /// Whether there is more to tell than the mode.
    pub fn says_more_than_the_mode(&self) -> bool {
        !(self.notes.is_empty()
            && self.plain_keys.is_empty()
            && self.plain_unique_keys.is_empty()
            && self.script.is_empty())
    }

    /// Adds why it was done, before what else there is to know.
    pub fn because(&mut self, why: Option<&str>) {
        if let Some(why) = why {
            self.notes.insert(0, why.to_owned());
        }
    }

    /// As the caller reads it: one line, then the script.
    pub fn text(&self) -> String {
        let mut text = self.state.clone();
        let plain = [
            plain_keys_note(&self.plain_keys),
            plain_unique_keys_note(&self.plain_unique_keys),
        ];
        for note in self.notes.iter().chain(plain.iter().flatten()) {
            text.push_str("; ");
            text.push_str(note);
        }
        if !self.script.is_empty() {
            text.push_str("; run, each statement by itself:");
            for statement in &self.script {
                text.push_str(&format!("\n{statement};"));
            }
        }
        text
    }
}

/// What became of a table.
pub fn describe(mode: Mode, changed: bool, plan: &Plan) -> Words {
    let mut state = match mode {
        Mode::Permissive => "permissive".to_owned(),
        Mode::Shadow => "shadow".to_owned(),
        Mode::Enforce => "enforced".to_owned(),
    };
    if !changed {
        state.push_str(" (unchanged)");
    }
    Words {
        state,
        notes: plan.notes.clone(),
        plain_keys: plan.plain_keys.clone(),
        plain_unique_keys: plan.plain_unique_keys.clone(),
        script: plan.script.clone(),
    }
}

/// One sentence however many they are.
pub fn plain_keys_note(keys: &[String]) -> Option<String> {
    note(
        keys,
        "foreign key",
        "(options foreign_keys: add or replace; see docs/policies.md)",
    )
}

/// The same for unique keys, whose errors tell that a value exists.
pub fn plain_unique_keys_note(keys: &[String]) -> Option<String> {
    note(
        keys,
        "unique key",
        "and may tell that another's value exists (option unique_keys: replace; see docs/policies.md)",
    )
}

fn note(keys: &[String], what: &str, more: &str) -> Option<String> {
    let count = keys.len();
    let verb = match count {
        0 => return None,
        1 => " does",
        _ => "s do",
    };
    let named: Vec<&str> = keys.iter().take(NAMED).map(String::as_str).collect();
    let mut text = format!(
        "{count} {what}{verb} not carry the tenant {more}: {}",
        named.join(", ")
    );
    if count > NAMED {
        text.push_str(&format!(" and {} more", count - NAMED));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_keys_are_one_short_sentence() {
        let keys = |count: usize| -> Vec<String> { (1..=count).map(|i| format!("k{i}")).collect() };
        assert_eq!(plain_keys_note(&[]), None);
        let one = plain_keys_note(&keys(1)).unwrap();
        assert!(one.starts_with("1 foreign key does not carry") && one.ends_with("): k1"));
        let three = plain_keys_note(&keys(3)).unwrap();
        assert!(three.starts_with("3 foreign keys do not") && three.ends_with("): k1, k2, k3"));
        let many = plain_keys_note(&keys(40)).unwrap();
        assert!(many.starts_with("40 ") && many.ends_with(": k1, k2, k3 and 37 more"));
    }
}
