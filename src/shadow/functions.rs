//! The SQL functions that shadow mode puts into plans.
//!
//! Owns their names. Must never fail: without them there is no shadow mode.

use pgrx::pg_sys;

use super::nodes;
use crate::catalog;

/// Oids of the functions.
#[derive(Clone, Copy)]
pub struct Functions {
    /// `tenancy.shadow_denied(..)`: called for a row that would be denied.
    pub denied: pg_sys::Oid,
    /// `tenancy.shadow_mark("any")`: tells when paths are about to be made.
    pub mark: pg_sys::Oid,
    /// What raises without a context, and what answers NULL in its place.
    quiet: [(pg_sys::Oid, pg_sys::Oid); QUIET.len()],
}

const QUIET: [(&str, &str); 16] = [
    ("current_tenant_id_required", "shadow_tenant_id"),
    ("current_tenant_id_text_required", "shadow_tenant_id_text"),
    (
        "current_tenant_id_bigint_required",
        "shadow_tenant_id_bigint",
    ),
    ("platform_tenant_id_required", "shadow_platform_tenant_id"),
    (
        "platform_tenant_id_text_required",
        "shadow_platform_tenant_id_text",
    ),
    (
        "platform_tenant_id_bigint_required",
        "shadow_platform_tenant_id_bigint",
    ),
    ("current_user_id_uuid_required", "shadow_user_id_uuid"),
    ("current_user_id_text_required", "shadow_user_id_text"),
    ("current_user_id_bigint_required", "shadow_user_id_bigint"),
    ("user_tenant_ids_required", "shadow_user_tenant_ids"),
    (
        "user_tenant_ids_text_required",
        "shadow_user_tenant_ids_text",
    ),
    (
        "user_tenant_ids_bigint_required",
        "shadow_user_tenant_ids_bigint",
    ),
    ("is_tenant_admin_required", "shadow_is_tenant_admin"),
    ("is_super_admin_required", "shadow_is_super_admin"),
    ("is_tenant_admin_or_not", "shadow_is_tenant_admin"),
    ("is_super_admin_or_not", "shadow_is_super_admin"),
];

impl Functions {
    /// Looks the functions up; `None` where the installed extension has none.
    pub fn find() -> Option<Self> {
        let mut quiet = [(pg_sys::InvalidOid, pg_sys::InvalidOid); QUIET.len()];
        for (place, (loud, low)) in quiet.iter_mut().zip(QUIET) {
            *place = (find(loud, &[])?, find(low, &[])?);
        }
        Some(Self {
            denied: find(
                "shadow_denied",
                &[
                    pg_sys::REGCLASSOID,
                    pg_sys::TEXTOID,
                    pg_sys::INT4OID,
                    pg_sys::REGROLEOID,
                    pg_sys::BOOLOID,
                    pg_sys::ANYOID,
                ],
            )?,
            mark: find("shadow_mark", &[pg_sys::ANYOID])?,
            quiet,
        })
    }

    /// The function that takes that one's place where nothing may be raised.
    pub fn quiet_twin(&self, function: pg_sys::Oid) -> Option<pg_sys::Oid> {
        self.quiet
            .iter()
            .find(|(loud, _)| *loud == function)
            .map(|(_, low)| *low)
    }

    /// Whether it is one of those twins.
    pub fn is_quiet(&self, function: pg_sys::Oid) -> bool {
        self.quiet.iter().any(|(_, low)| *low == function)
    }
}

fn find(name: &str, arguments: &[pg_sys::Oid]) -> Option<pg_sys::Oid> {
    let string = |text: &str| {
        // SAFETY: the copy lives in the current memory context, as the node does.
        unsafe { pg_sys::makeString(pg_sys::pstrdup(catalog::c_string(text).as_ptr())) }
    };
    // SAFETY: a lookup by qualified name and types, silent where there is none.
    let oid = unsafe {
        pg_sys::LookupFuncName(
            nodes::list(&[string("tenancy"), string(name)]),
            arguments.len() as i32,
            arguments.as_ptr(),
            true,
        )
    };
    (oid != pg_sys::InvalidOid).then_some(oid)
}
