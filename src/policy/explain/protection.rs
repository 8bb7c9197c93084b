//! The registration of the table, and what it means for its rows now.
//!
//! Must never take a registration for what the catalog says.

use super::super::model::{Mode, Options, Template};
use super::super::store;
use super::Line;
use super::catalog::Table;
use crate::error::Result;

/// The registration, read.
pub struct Protection {
    pub row: store::Row,
    pub mode: Mode,
    pub template: Template,
    pub options: Options,
}

impl Protection {
    /// Reads it; fails for that of a later version.
    pub fn of(row: store::Row) -> Result<Self> {
        Ok(Self {
            mode: Mode::parse(&row.mode)?,
            template: Template::parse(&row.template)?,
            options: Options::parse(&row.options)?,
            row,
        })
    }

    /// Whether owners are bound, now or under enforcement.
    pub fn is_forced(&self, table: &Table) -> bool {
        match self.mode {
            Mode::Enforce => table.forced,
            Mode::Permissive | Mode::Shadow => self.options.force || table.forced,
        }
    }
}

/// The line of the table.
pub fn about_table(name: &str, table: &Table, protection: Option<&Protection>) -> Line {
    let flags = match (table.row_security, table.forced) {
        (true, true) => "row security is on and forced",
        (true, false) => "row security is on, not forced",
        (false, _) => "row security is off",
    };
    let Some(protection) = protection else {
        let detail = format!("{name} is not registered; {flags}");
        return Line::new("table", "not protected", detail);
    };
    let told = match (protection.mode, table.row_security) {
        (Mode::Enforce, true) => "its policies are those of the catalog",
        (Mode::Enforce, false) => {
            "it should be on: call tenancy.drift(). What follows is what the policies would say"
        }
        (_, false) => "nothing is refused now; what follows is what enforcement would say",
        (_, true) => {
            "policies of your own hold now; what follows is what they and enforcement would say together"
        }
    };
    Line::new(
        "table",
        protection.mode.name(),
        format!(
            "{name}, template {}; {flags}: {told}",
            protection.template.name()
        ),
    )
}
