//! Cases of the rules: what makes a finding, and what looks like it and is none.
//!
//! `{s}` is the case's schema, `{app}` the application's role, `{other}` another role of the database,
//! `{T}` a table of tenants with an index and grants, `{RLS}` row security on it, `{P}` its protection.

#![allow(dead_code)]

use pgrx_test::fixture::{ClientExt, Database};
use postgres::Client;

pub mod expressions;
pub mod policies;
pub mod relations;
pub mod roles;

/// One rule's test.
pub struct Case {
    pub code: &'static str,
    /// Makes the finding.
    pub guilty: &'static str,
    /// What is found.
    pub object: &'static str,
    /// Whether there is SQL that mends it.
    pub mended: bool,
    /// Looks like it, and is no finding of this code.
    pub innocent: &'static str,
}

/// A case whose remediation is SQL.
pub const fn case(
    code: &'static str,
    object: &'static str,
    guilty: &'static str,
    innocent: &'static str,
) -> Case {
    Case {
        code,
        guilty,
        object,
        mended: true,
        innocent,
    }
}

/// A case that SQL cannot mend.
pub const fn told(
    code: &'static str,
    object: &'static str,
    guilty: &'static str,
    innocent: &'static str,
) -> Case {
    Case {
        code,
        guilty,
        object,
        mended: false,
        innocent,
    }
}

/// All cases.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    [
        policies::CASES,
        expressions::CASES,
        relations::CASES,
        roles::CASES,
    ]
    .into_iter()
    .flatten()
}

/// Makes that text's objects in a schema of that name, and the other role where it names one, which is
/// returned; else an empty name.
pub fn place(
    database: &Database,
    session: &mut Client,
    app: &str,
    schema: &str,
    text: &str,
) -> String {
    let text = relations::parented(&roles::applied(&policies::triggered(&expressions::opened(
        text,
    ))));
    let other = if text.contains("{other}") {
        database.role(schema)
    } else {
        String::new()
    };
    session.ok(&format!("CREATE SCHEMA {schema}"));
    session.ok(&filled(&text, schema, app, &other));
    other
}

/// The text with its schema, roles and shorthands put in.
pub fn filled(text: &str, schema: &str, app: &str, other: &str) -> String {
    text.replace("{T}", "CREATE TABLE {s}.t (id uuid PRIMARY KEY, tenant_id uuid NOT NULL, note text); CREATE INDEX ON {s}.t (tenant_id); GRANT SELECT, INSERT, UPDATE, DELETE ON {s}.t TO {app}; ")
        .replace("{RLS}", "ALTER TABLE {s}.t ENABLE ROW LEVEL SECURITY; ALTER TABLE {s}.t FORCE ROW LEVEL SECURITY; ")
        .replace("{P}", "SELECT tenancy.protect_table('{s}.t', mode => 'enforce'); ")
        .replace("{s}", schema)
        .replace("{app}", app)
        .replace("{other}", other)
}
