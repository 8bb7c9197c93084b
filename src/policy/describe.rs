//! What a call says about a table.
//!
//! Pure: owns the words of a result. Must never leave out a script.

use super::model::Mode;
use super::plan::Plan;

pub fn describe(mode: Mode, changed: bool, plan: &Plan) -> String {
    let mut text = match mode {
        Mode::Permissive => "permissive".to_owned(),
        Mode::Enforce => "enforced".to_owned(),
    };
    if !changed {
        text.push_str(" (unchanged)");
    }
    for note in &plan.notes {
        text.push_str("; ");
        text.push_str(note);
    }
    if !plan.script.is_empty() {
        text.push_str("; run, each statement by itself:");
        for statement in &plan.script {
            text.push_str(&format!("\n{statement};"));
        }
    }
    text
}
