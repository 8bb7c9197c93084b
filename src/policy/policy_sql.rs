//! Printing the statements of enforcement.
//!
//! Owns what a printed plan starts from: the table as it was found. Must never run a statement, nor
//! look at rows.

use pgrx::pg_sys;

use super::describe::{plain_keys_note, plain_unique_keys_note};
use super::inspect::{self, Facts};
use super::key_completion::complete_keys;
use super::members::gather;
use super::model::Mode;
use super::protect::{Request, plan_gate, plan_ground};
use super::store::{Found, Made};
use super::unique_keys;
use crate::binding::tenant_type;
use crate::error::Result;
use crate::gucs;

/// The statements of enforcement, from the table as it was found.
pub fn policy_sql(relation: pg_sys::Oid, request: &Request) -> Result<String> {
    if request.mode != Mode::Enforce {
        return Ok("-- mode permissive changes nothing in the catalog\n".to_owned());
    }
    let tenant = tenant_type()?;
    let schema = inspect::extension_schema()?;
    let limit = gucs::inline_ddl_rows() as f64;
    let request = &request.settled(relation)?;
    let mut members = gather(relation, request, tenant, false)?;
    for member in &mut members {
        member.plan.policies_awake = !member.row.made.policies.is_empty();
        member.facts = member
            .facts
            .clone()
            .pristine(&member.row.made, &member.row.found);
        // The index keeps its name; it is there, under that name, only in this database.
        let Made {
            index,
            partition_indexes,
            by_parent,
            foreign_keys,
            rewritten_keys,
            link,
            ..
        } = std::mem::take(&mut member.row.made);
        member.row.made = Made {
            index,
            partition_indexes,
            by_parent,
            foreign_keys,
            rewritten_keys,
            link,
            ..Made::default()
        };
        member.row.found = Found::default();
        member.plan.as_found = true;
    }
    let mut statements = Vec::new();
    let mut comments = Vec::new();
    for member in &mut members {
        plan_ground(member, request, tenant, &schema, limit)?;
        statements.extend(member.plan.now.drain(..).map(|statement| statement.sql));
    }
    complete_keys(&mut members, limit)?;
    unique_keys::complete(&mut members, request.mode, request.template, limit)?;
    for member in &mut members {
        statements.extend(member.plan.now.drain(..).map(|statement| statement.sql));
        statements.append(&mut member.plan.script);
    }
    for member in &mut members {
        plan_gate(member, request, tenant, &schema, limit)?;
        statements.extend(member.plan.now.drain(..).map(|statement| statement.sql));
        comments.append(&mut member.plan.notes);
        comments.extend(plain_keys_note(&member.plan.plain_keys));
        comments.extend(plain_unique_keys_note(&member.plan.plain_unique_keys));
    }
    let mut text: String = comments.iter().map(|note| comment(note)).collect();
    for statement in statements {
        text.push_str(&statement);
        text.push_str(";\n");
    }
    Ok(text)
}

/// A comment to its end, whatever names are in it: a line that began in a name would be run.
fn comment(note: &str) -> String {
    format!("-- {}\n", note.replace(['\n', '\r'], "\n-- "))
}

impl Facts {
    /// The table as it would be without what protection made: what `policy_sql` starts from.
    pub fn pristine(mut self, made: &Made, found: &Found) -> Self {
        if !made.policies.is_empty() {
            self.rls = found.rls;
            self.forced = found.forced;
        }
        self.policies
            .retain(|policy| !made.policies.contains(&policy.name));
        self.triggers.retain(|trigger| !trigger.ours);
        self.leading_indexes.retain(|index| {
            made.index.as_ref() != Some(index)
                && !made.unique_keys.contains(index)
                && !made.rewritten_keys.contains(index)
        });
        if let Some(column) = &mut self.column {
            column.not_null = column.not_null && !made.not_null;
            if made.default.is_some() && made.default == column.default {
                column.default = found.default.clone();
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::comment;

    #[test]
    fn no_name_ends_a_comment_early() {
        assert_eq!(comment("key a"), "-- key a\n");
        assert_eq!(
            comment("key a\nDROP TABLE b;\r--"),
            "-- key a\n-- DROP TABLE b;\n-- --\n"
        );
    }
}
