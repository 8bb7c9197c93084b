//! The function that SQL calls.
//!
//! Owns who may call it.

use pgrx::prelude::*;

use super::{load, page};
use crate::error::{Error, Kind, OrRaise, Result};
use crate::policy::given;
use crate::registry;

#[pg_extern(sql = false)]
fn report_html(with_findings: Option<bool>) -> String {
    let run = || -> Result<String> {
        if !registry::is_administrator() {
            return Err(Error::new(
                Kind::InsufficientPrivilege,
                "the report is for administrators of tenancy",
            )
            .detail("It shows users, tenants and statements of all tables.")
            .hint("Ask a superuser, or a member of a role named in pg_tenancy.admin_role."));
        }
        Ok(page::render(&load::report(given(
            with_findings,
            "with_findings",
        )?)?))
    };
    run().or_raise()
}
