//! pg_tenancy: multi-tenancy as a property of the database.
//!
//! This file owns the module list, the module magic and `_PG_init`. It must never hold logic.

mod binding;
mod cache;
mod catalog;
mod checks;
mod context;
mod document;
mod error;
mod guard;
mod gucs;
mod hooks;
mod isolation;
mod lists;
mod pg_compat;
mod policy;
mod registry;
mod report;
mod services;
mod shadow;
mod status;
mod text;
mod validate;

use pgrx::prelude::*;

::pgrx::pg_module_magic!(name, version);

extension_sql_file!("../sql/00_registry.sql", name = "registry", bootstrap);
extension_sql_file!(
    "../sql/10_context.sql",
    name = "context",
    requires = ["registry"]
);
extension_sql_file!(
    "../sql/15_questions.sql",
    name = "questions",
    requires = ["context"]
);
extension_sql_file!(
    "../sql/20_binding.sql",
    name = "binding",
    requires = ["questions"]
);
extension_sql_file!(
    "../sql/30_policy.sql",
    name = "policy",
    requires = ["binding"]
);
extension_sql_file!(
    "../sql/40_auto_protect.sql",
    name = "auto_protect",
    requires = ["policy"]
);
extension_sql_file!(
    "../sql/45_drift.sql",
    name = "drift",
    requires = ["auto_protect"]
);
extension_sql_file!(
    "../sql/60_document.sql",
    name = "document",
    requires = ["context", "binding"]
);

extension_sql_file!(
    "../sql/75_explain_access.sql",
    name = "explain_access",
    requires = ["policy"]
);

extension_sql_file!(
    "../sql/76_report_html.sql",
    name = "report_html",
    requires = ["shadow"]
);

extension_sql_file!("../sql/50_keys.sql", name = "keys", requires = ["policy"]);
extension_sql_file!(
    "../sql/70_shadow.sql",
    name = "shadow",
    requires = ["policy"]
);

extension_sql_file!("../sql/95_privileges.sql", name = "privileges", finalize);

/// Runs once per process: in the postmaster under `shared_preload_libraries`, else in the backend
/// that first needs the library. Must not touch the catalog: there may be no transaction.
#[allow(non_snake_case)]
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    gucs::init();
    hooks::init();
    shadow::init();
}
