//! What stands in for the tenant in a key to a parent whose platform rows everybody may point at.
//!
//! Such a key cannot carry the tenant, so it takes any tenant's row. Pure: owns the policies of the child
//! that refuse what the key lets through. Must never run them: they need rights on the parent and look
//! at earlier statements' rows only, which is for the administrator to decide.

use super::key_catalog::{Key, pairs};
use super::key_definition::End;
use super::model::{Command, TenantFunctions};
use super::names;
use super::render::quoted;
use crate::binding::TenantType;

/// The policies, each with its name.
pub fn policies(key: &Key, child: &End, parent: &End, tenant: TenantType) -> [(String, String); 2] {
    let check = check(key, child, parent, tenant);
    [
        (Command::Insert, "FOR INSERT"),
        (Command::Update, "FOR UPDATE USING (true)"),
    ]
    .map(|(command, clause)| {
        let name = names::sight(&key.name, command);
        let sql = format!(
            "CREATE POLICY {} ON {} AS RESTRICTIVE {clause} WITH CHECK ({check})",
            quoted(&name),
            child.qualified()
        );
        (name, sql)
    })
}

fn check(key: &Key, child: &End, parent: &End, tenant: TenantType) -> String {
    let table = quoted(&child.table);
    let mut alias = "parent".to_owned();
    while alias == child.table {
        alias.push('_');
    }
    let own = |column: &str| format!("{table}.{}", quoted(column));
    let linked = |qualifier: &str| {
        pairs(key)
            .zip(&key.operators)
            .map(|((from, to), operator)| {
                format!("{qualifier}.{} {operator} {}", quoted(to), own(from))
            })
            .collect::<Vec<_>>()
            .join(" AND ")
    };
    let mut ways: Vec<String> = key
        .columns
        .iter()
        .map(|column| format!("{} IS NULL", own(column)))
        .collect();
    if child.oid == parent.oid {
        // A row that points at itself is not there yet.
        ways.push(format!("({})", linked(&table)));
    }
    let column = quoted(&parent.column);
    ways.push(format!(
        "EXISTS (SELECT FROM {} AS {alias} WHERE {} AND ({alias}.{column} = {} OR {alias}.{column} = {}))",
        parent.qualified(),
        linked(&alias),
        tenant.required_call(),
        tenant.platform_call(),
    ));
    ways.join(" OR ")
}

/// What is said of the key until both policies are there.
pub fn note(key: &Key, child: &End, parent: &End, policies: &[(String, String)]) -> String {
    let statements: Vec<&str> = policies.iter().map(|(_, sql)| sql.as_str()).collect();
    format!(
        "foreign key {} of {} cannot carry the tenant, because its rows may point at the platform's in {}: it \
         takes any tenant's until this is run, for each partition too: {};",
        quoted(&key.name),
        child.qualified(),
        parent.qualified(),
        statements.join("; ")
    )
}
