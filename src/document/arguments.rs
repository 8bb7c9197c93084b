//! The arguments of `tenancy.register_context`: what goes together, and what is meant without them.
//!
//! Must never let rows be everybody's unless that was said.

use std::ffi::CStr;

use pgrx::prelude::*;

use super::definition::{RESERVED, Registration, Shape, TENANT, USER};
use crate::binding::{self, query};
use crate::catalog::{self, quote_identifier};
use crate::error::{Error, Kind, Result};

/// The arguments of `tenancy.register_context` about one of its tables.
pub struct Rows<'a> {
    /// What the arguments are called: `""` or `"joined_"`.
    pub prefix: &'a str,
    pub tenant_column: Option<&'a CStr>,
    pub user_column: Option<&'a CStr>,
    pub global: bool,
}

/// An error about an argument.
pub fn invalid<T>(message: &str, hint: &str) -> Result<T> {
    Err(Error::new(Kind::InvalidParameterValue, message).hint(hint))
}

/// The columns by which rows belong to a context. Rows are everybody's only if that is said.
pub fn belongs_by(
    relation: pg_sys::Oid,
    rows: &Rows<'_>,
) -> Result<(Option<String>, Option<String>)> {
    let prefix = rows.prefix;
    let name = |name: Option<&CStr>| name.map(|name| name.to_string_lossy().into_owned());
    let (tenant, user) = (name(rows.tenant_column), name(rows.user_column));
    if rows.global && (tenant.is_some() || user.is_some()) {
        return invalid(
            &format!("{prefix}global contradicts {prefix}tenant_column and {prefix}user_column"),
            "Name the columns by which rows belong to a tenant or a user, or say that they are everybody's.",
        );
    }
    if rows.global || tenant.is_some() || user.is_some() {
        return Ok((tenant, user));
    }
    let default = "tenant_id";
    if query::column(relation, default).is_err() {
        return invalid(
            &format!(
                "nothing says whose the rows of {} are",
                catalog::relation_name(relation)
                    .map(|name| name.to_string())
                    .unwrap_or_default()
            ),
            &format!(
                "Give {prefix}tenant_column or {prefix}user_column, or {prefix}global => true where everybody may see all rows."
            ),
        );
    }
    Ok((Some(default.to_owned()), None))
}

/// The columns there are now: those that are added later are shown only when the key is registered
/// again.
pub fn all_columns(relation: pg_sys::Oid) -> Vec<String> {
    let mut names = Vec::new();
    // SAFETY: the relation is open while its description is read.
    unsafe {
        let open = pg_sys::table_open(relation, pg_sys::AccessShareLock as i32);
        let description = (*open).rd_att;
        for index in 0..usize::try_from((*description).natts).unwrap_or(0) {
            let attribute = pg_sys::get_attname(relation, index as i16 + 1, true);
            // Null for a column that was dropped.
            if let Some(name) = catalog::string_from(attribute) {
                names.push(format!("source.{}", quote_identifier(&name)));
            }
        }
        pg_sys::table_close(open, pg_sys::NoLock as i32);
    }
    names
}

/// Refuses keys and arguments that contradict each other.
pub fn check_values(key: &str, registration: &Registration) -> Result<()> {
    if key.len() > 63 || RESERVED.contains(&key) {
        return invalid(
            "the key is reserved or longer than 63 bytes",
            "Give another key.",
        );
    }
    if registration.columns.is_empty() {
        return invalid("no columns are given", "Give at least one column.");
    }
    let belongs = match key {
        USER => registration.user_column.is_some(),
        TENANT => registration.tenant_column.is_some(),
        _ => return check_joined(registration),
    };
    if registration.shape != Shape::Object || !belongs {
        return invalid(
            &format!("key \"{key}\" is the {key} itself"),
            &format!("Register it as an object, with a {key}_column."),
        );
    }
    check_joined(registration)
}

fn check_joined(registration: &Registration) -> Result<()> {
    if registration.joined.is_some() != registration.joined_on.is_some() {
        return invalid(
            "joined and joined_on belong together",
            "Give both, such as joined_on => 'joined.flag_id = source.id'.",
        );
    }
    let of_joined = registration.joined_tenant_column.is_some()
        || registration.joined_user_column.is_some()
        || registration.joined_global;
    if registration.joined.is_none() && of_joined {
        return invalid("nothing is joined", "Give joined and joined_on.");
    }
    Ok(())
}

/// Refuses what cannot announce its changes.
pub fn require_table(relation: pg_sys::Oid) -> Result<()> {
    let name = catalog::relation_name(relation);
    // SAFETY: a catalog lookup by oid.
    let persistence = unsafe { pg_sys::get_rel_persistence(relation) } as u8;
    if matches!(
        catalog::relation_kind(relation),
        Some(pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE)
    ) && persistence != pg_sys::RELPERSISTENCE_TEMP
        && relation.to_u32() >= pg_sys::FirstNormalObjectId
        && name.as_ref().is_some_and(|name| name.schema != "tenancy")
    {
        return Ok(());
    }
    let name = name.map(|name| name.to_string()).unwrap_or_default();
    Err(Error::new(
        Kind::WrongObjectType,
        format!("relation {name} cannot be a source of the document"),
    )
    .detail("Views, foreign tables, temporary tables and system catalogs cannot announce their changes.")
    .hint("Register an ordinary or a partitioned table."))
}

/// Says so where a document would scan the table.
pub fn advise_index(relation: pg_sys::Oid, tenant: &Option<String>, user: &Option<String>) {
    let columns: Vec<_> = user.iter().chain(tenant).collect();
    let is_indexed = columns.iter().any(|column| {
        query::column(relation, column)
            .is_ok_and(|column| binding::leads_an_index(relation, column.number))
    });
    if !columns.is_empty() && !is_indexed {
        let name = catalog::relation_name(relation)
            .map(|name| name.to_string())
            .unwrap_or_default();
        pgrx::notice!(
            "no index of {name} starts with column {}: every new document scans the table",
            quote_identifier(columns[0])
        );
    }
}
