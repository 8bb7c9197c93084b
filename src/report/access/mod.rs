//! Who reaches whose rows: `tenancy.access_matrix()`.
//!
//! | question | file |
//! |---|---|
//! | who is granted what, what bounds it, and the ways besides | `sql/91_access_matrix.sql` |
//! | how far the expression of a policy reaches | `reach` |
//! | whose the tenants are that it compares with | `value` |
//!
//! Reads only, with the caller's rights, and calls no function that a user wrote.

mod reach;
mod value;

use core::ffi::CStr;

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::catalog;
use crate::error::{Error, Kind, OrRaise};

extension_sql_file!(
    "../../../sql/91_access_matrix.sql",
    name = "access_matrix",
    requires = ["rules_ways_around", "rules_functions", "rules_roles"]
);

#[pg_extern(sql = false)]
fn expression_reach(
    expression: Option<&str>,
    tenant_column: Option<&str>,
    keys: Option<Vec<String>>,
    tenant_columns: Option<Vec<String>>,
    tenant_settings: Option<Vec<String>>,
    user_settings: Option<Vec<String>>,
) -> Option<Vec<i32>> {
    let known = reach::Known {
        keys: &keys.unwrap_or_default(),
        tenants: &tenant_columns.unwrap_or_default(),
        tenant_settings: &tenant_settings.unwrap_or_default(),
        user_settings: &user_settings.unwrap_or_default(),
    };
    let reaches = reach::reaches(expression?, tenant_column, known);
    Some(vec![reaches.ordinary as i32, reaches.super_admin as i32])
}

#[pg_extern(sql = false)]
fn existing_role(role: &CStr) -> pg_sys::Oid {
    let name = role.to_string_lossy();
    catalog::role_oid(&name)
        .ok_or_else(|| {
            Error::new(
                Kind::UndefinedObject,
                format!("role \"{name}\" does not exist"),
            )
            .hint("Give the name of a role without quotes around it, or null for all that use tenant tables.")
        })
        .or_raise()
}
