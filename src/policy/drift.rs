//! Whether a table still is what was registered.
//!
//! Owns the comparison of one registration with the catalog; what isolates is compared by
//! [`super::drift_gate`]. Must never mend anything.

use pgrx::pg_sys;

use super::difference::{Code, Difference, literal, qualified, repair_call};
use super::drift_catalog::{self, There};
use super::drift_gate::gate;
use super::model::{Options, TenantFunctions};
use super::render::quoted;
use super::store::Row;
use super::subtransaction;
use crate::binding::{TenantType, tenant_type};
use crate::catalog;
use crate::error::Result;

/// In what the catalog differs from the registration; empty where it agrees.
pub fn of(relation: pg_sys::Oid, row: &Row) -> Result<Vec<Difference>> {
    let column = row.column_today(relation);
    let Some(there) = drift_catalog::read(relation, &column)? else {
        return Ok(vec![dropped(row)]);
    };
    let mut found = Found {
        relation,
        name: qualified(&there.schema, &there.name),
        list: Vec::new(),
    };
    identity(&mut found, relation, row, &there, &column);
    if row.mode != "enforce" {
        return Ok(found.list);
    }
    let Ok(tenant) = tenant_type() else {
        found.add_with(
            Code::NotBound,
            "this database is not bound".to_owned(),
            "SELECT tenancy.bind(..)".to_owned(),
        );
        return Ok(found.list);
    };
    if !column.is_empty() && !has_column(&mut found, relation, row, &there, &column, tenant) {
        return Ok(found.list);
    }
    flags(&mut found, row, &there);
    // What the predicates name besides the tenant column may be gone, and Postgres says so with an
    // error.
    let name = found.name.clone();
    let mut list = std::mem::take(&mut found.list);
    match subtransaction::attempt(|| gate(relation, row, &there, &column, tenant, &name)) {
        Ok(mut more) => list.append(&mut more),
        Err(failure) => list.push(Difference {
            relation: Some(relation.to_u32()),
            remediation: repair_call(&name),
            name,
            code: Code::NotComparable,
            detail: format!("it cannot be compared: {}", failure.message),
        }),
    }
    found.list = list;
    keys(&mut found, row, &there);
    partitions(&mut found)?;
    Ok(found.list)
}

/// The registration of a table that is gone.
pub fn dropped(row: &Row) -> Difference {
    let name = qualified(&row.schema_name, &row.table_name);
    Difference {
        relation: None,
        detail: format!("table {name} does not exist any more"),
        remediation: "SELECT * FROM tenancy.repair()".to_owned(),
        name,
        code: Code::TableDropped,
    }
}

/// What was found about one table.
pub struct Found {
    pub relation: pg_sys::Oid,
    pub name: String,
    pub list: Vec<Difference>,
}

impl Found {
    pub fn add(&mut self, code: Code, detail: String) {
        let remediation = repair_call(&self.name);
        self.add_with(code, detail, remediation);
    }

    fn add_with(&mut self, code: Code, detail: String, remediation: String) {
        self.list.push(Difference {
            relation: Some(self.relation.to_u32()),
            name: self.name.clone(),
            code,
            detail,
            remediation,
        });
    }
}

fn identity(found: &mut Found, relation: pg_sys::Oid, row: &Row, there: &There, column: &str) {
    let registered = qualified(&row.schema_name, &row.table_name);
    if registered != found.name {
        found.add(
            Code::TableRenamed,
            format!("it was registered as {registered}"),
        );
    }
    if row.is_of(relation) && !row.found.owner.is_empty() && row.found.owner != there.owner {
        let remediation = format!(
            "ALTER TABLE {} OWNER TO {}",
            found.name,
            quoted(&row.found.owner)
        );
        found.add_with(
            Code::OwnerChanged,
            format!(
                "its owner is {}, not {}: protect it again to accept that, or give it back",
                quoted(&there.owner),
                quoted(&row.found.owner)
            ),
            remediation,
        );
    }
    if column != row.tenant_column {
        found.add(
            Code::ColumnRenamed,
            format!(
                "column {} was renamed to {}",
                quoted(&row.tenant_column),
                quoted(column)
            ),
        );
    }
}

/// Whether the tenant column is there, in a type that a tenant has; what else is wrong with it.
fn has_column(
    found: &mut Found,
    relation: pg_sys::Oid,
    row: &Row,
    there: &There,
    column: &str,
    tenant: TenantType,
) -> bool {
    let name = quoted(column);
    let expected = tenant.column_types().first().copied().unwrap_or_default();
    let another = row.is_of(relation) && row.found.column_number != 0;
    let column = match &there.column {
        Some(column) if !another || column.number == row.found.column_number => column,
        Some(_) => {
            found.add_with(
                Code::ColumnMissing,
                format!("column {name} is another one than that which was registered"),
                format!("SELECT * FROM tenancy.protect_table({}, tenant_column => {}, mode => 'enforce')",
                    literal(&found.name), literal(column)),
            );
            return false;
        }
        None => {
            found.add_with(
                Code::ColumnMissing,
                format!("column {name} was dropped"),
                format!("ALTER TABLE {} ADD COLUMN {name} {expected}", found.name),
            );
            return false;
        }
    };
    if !tenant.column_types().contains(&column.base_type.as_str()) {
        found.add_with(
            Code::ColumnType,
            format!(
                "column {name} is of type {}, the tenant is of type {expected}",
                column.declared_type
            ),
            format!(
                "ALTER TABLE {} ALTER COLUMN {name} TYPE {expected} USING {name}::{expected}",
                found.name
            ),
        );
        return false;
    }
    if !column.not_null {
        found.add(Code::ColumnNullable, format!("column {name} may be null"));
    }
    let made = &row.made;
    let ours_invalid = made
        .index
        .as_ref()
        .filter(|index| there.invalid.contains(index));
    let leads = there
        .leading
        .iter()
        .any(|index| !(made.unique_keys.contains(index) || made.rewritten_keys.contains(index)));
    if let Some(index) = ours_invalid {
        found.add(
            Code::IndexInvalid,
            format!("index {} is not valid", quoted(index)),
        );
    } else if !leads {
        found.add(
            Code::IndexMissing,
            format!("no valid index leads with column {name}"),
        );
    }
    true
}

fn flags(found: &mut Found, row: &Row, there: &There) {
    let force = Options::parse(&row.options).map_or(true, |options| options.force);
    if !there.rls {
        found.add(
            Code::RowSecurityOff,
            "row security is not enabled".to_owned(),
        );
    }
    if (force || row.found.forced) && !there.forced {
        found.add(
            Code::RowSecurityNotForced,
            "row security is not forced".to_owned(),
        );
    }
}

fn keys(found: &mut Found, row: &Row, there: &There) {
    let made = &row.made;
    let keys = made.foreign_keys.iter().map(|key| &key.name);
    let lost: Vec<&String> = keys
        .chain(&made.unique_keys)
        .filter(|key| !there.carries(key))
        .collect();
    for key in lost {
        found.add(
            Code::KeyMissing,
            if there.has_constraint(key) {
                format!(
                    "key {} does not carry the tenant, or is not enforced",
                    quoted(key)
                )
            } else {
                format!("key {}, which carries the tenant, is missing", quoted(key))
            },
        );
    }
}

fn partitions(found: &mut Found) -> Result<()> {
    for below in drift_catalog::unprotected_below(found.relation)? {
        let below = pg_sys::Oid::from(below);
        let Some(name) = catalog::relation_name(below) else {
            continue;
        };
        let name = qualified(&name.schema, &name.name);
        found.list.push(Difference {
            relation: Some(below.to_u32()),
            detail: format!("{name} is below {} and not protected", found.name),
            remediation: repair_call(&found.name),
            name,
            code: Code::PartitionUnprotected,
        });
    }
    Ok(())
}
