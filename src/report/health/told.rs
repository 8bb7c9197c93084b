//! What the findings of the validator say of a component.
//!
//! Pure.

use std::collections::BTreeMap;

use super::super::data::Finding;
use super::component::{Grade, Health, Part, part};
use super::facts::{Facts, Known};

/// What findings say of one component.
pub struct Told {
    pub grade: Grade,
    pub words: String,
    pub look_at: String,
}

/// Counts and codes; findings of level info and waived ones are told and lower nothing.
pub fn told(found: &Known<Vec<Finding>>, wanted: Part) -> Told {
    let all = match found {
        Ok(all) => all,
        Err(why) => {
            return Told {
                grade: Grade::Unknown,
                words: format!("tenancy.validate() failed: {why}"),
                look_at: "SELECT * FROM tenancy.validate()".to_owned(),
            };
        }
    };
    let mine = || all.iter().filter(|found| part(found) == wanted);
    let count = |level: &str| {
        let mut codes = BTreeMap::<&str, usize>::new();
        for found in mine().filter(|found| !found.waived && found.level == level) {
            *codes.entry(&found.code).or_default() += 1;
        }
        codes
    };
    let (errors, warnings, infos) = (count("error"), count("warn"), count("info"));
    let waived = mine().filter(|found| found.waived).count();
    let mut words: Vec<String> = [
        (&errors, "error", "errors"),
        (&warnings, "warning", "warnings"),
        (&infos, "fact to know", "facts to know"),
    ]
    .into_iter()
    .filter(|(codes, ..)| !codes.is_empty())
    .map(|(codes, one, many)| {
        let sum: usize = codes.values().sum();
        let noun = if sum == 1 { one } else { many };
        format!(
            "{sum} {noun} ({})",
            codes.keys().copied().collect::<Vec<_>>().join(", ")
        )
    })
    .collect();
    if errors.is_empty() && warnings.is_empty() {
        words.insert(0, "nothing to mend".to_owned());
    }
    if waived > 0 {
        words.push(format!("{waived} waived"));
    }
    let grade = if !errors.is_empty() {
        Grade::Error
    } else if !warnings.is_empty() {
        Grade::Warn
    } else {
        Grade::Ok
    };
    let codes: Vec<String> = errors
        .keys()
        .chain(warnings.keys())
        .chain(infos.keys().filter(|_| grade == Grade::Ok))
        .map(|code| format!("'{}'", code.replace('\'', "''")))
        .collect();
    let look_at = if codes.is_empty() {
        "SELECT * FROM tenancy.validate()".to_owned()
    } else {
        format!(
            "SELECT * FROM tenancy.validate() WHERE code IN ({})",
            codes.join(", ")
        )
    };
    Told {
        grade,
        words: words.join(", "),
        look_at,
    }
}

/// A component that findings alone decide.
pub fn of_findings(component: &'static str, facts: &Facts, part: Part) -> Health {
    let told = told(&facts.found, part);
    Health {
        component,
        grade: told.grade,
        reason: told.words,
        look_at: told.look_at,
    }
}
