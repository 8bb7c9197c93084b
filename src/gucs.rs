//! The extension's own settings, `pg_tenancy.*`.
//!
//! Owns their definition and defaults. The settings that carry the context (`app.current_user_id`
//! and kin) belong to `context::setting`.

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

use crate::pg_compat;

/// What a statement on a protected table does without a tenant context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum MissingContext {
    /// Raises 42501 with a HINT that names the setting.
    #[name = c"error"]
    Error,
    /// Sees and writes no rows.
    #[name = c"deny"]
    Deny,
}

/// How long a context that was set with session scope lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum ContextScope {
    /// To the end of the transaction that set it: a transaction pooler cannot hand it on.
    #[name = c"transaction"]
    Transaction,
    /// As long as Postgres keeps the setting.
    #[name = c"session"]
    Session,
}

/// Where shadow mode evaluates what enforcement would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum ShadowPlacement {
    /// After all filters and joins of the query.
    #[name = c"join"]
    Join,
    /// After the filters of the table.
    #[name = c"scan"]
    Scan,
}

static MISSING_CONTEXT: GucSetting<MissingContext> =
    GucSetting::<MissingContext>::new(MissingContext::Error);
static CONTEXT_SCOPE: GucSetting<ContextScope> =
    GucSetting::<ContextScope>::new(ContextScope::Transaction);
static CACHE_ENTRIES: GucSetting<i32> = GucSetting::<i32>::new(1024);
static DOCUMENT_CACHE: GucSetting<i32> = GucSetting::<i32>::new(4096);
static INLINE_DDL_ROWS: GucSetting<i32> = GucSetting::<i32>::new(100_000);
static SHADOW_PLACEMENT: GucSetting<ShadowPlacement> =
    GucSetting::<ShadowPlacement>::new(ShadowPlacement::Join);
static SHADOW_ENTRIES: GucSetting<i32> = GucSetting::<i32>::new(8192);
static SHADOW_FLUSH_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(60);
static SHADOW_CONFIRM_MS: GucSetting<i32> = GucSetting::<i32>::new(100);
static PRELOADED: AtomicBool = AtomicBool::new(false);
static WITH_SERVER: AtomicBool = AtomicBool::new(false);
static ADMIN_ROLE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

/// Defines the settings and reserves their prefix; called once from `_PG_init`.
pub fn init() {
    // SAFETY: a plain read of the process's state.
    let server_starts = unsafe { pg_sys::process_shared_preload_libraries_in_progress };
    WITH_SERVER.store(server_starts, Ordering::Relaxed);
    // `session_preload_libraries` are loaded while the session is set up; a function call that loads the
    // library comes later. A parallel worker loads what its leader has.
    // SAFETY: plain reads of the process's state.
    let before_any_statement = unsafe {
        server_starts
            || pg_sys::Mode != pg_sys::ProcessingMode::NormalProcessing
            || pg_compat::in_parallel_worker()
    };
    PRELOADED.store(before_any_statement, Ordering::Relaxed);
    GucRegistry::define_enum_guc(
        c"pg_tenancy.missing_context",
        c"What a statement on a protected table does without a tenant context.",
        c"error raises 42501; deny gives no rows.",
        &MISSING_CONTEXT,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"pg_tenancy.context_scope",
        c"How long a context that was set with session scope lives.",
        c"transaction discards it when the transaction ends, so that a pooler cannot hand it to the next client.",
        &CONTEXT_SCOPE,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"pg_tenancy.cache_entries",
        c"How many resolved contexts a session keeps.",
        c"The least recently used one is forgotten first; 0 keeps none.",
        &CACHE_ENTRIES,
        0,
        1_000_000,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"pg_tenancy.document_cache",
        c"How much memory a session uses to keep documents of get_user_tenant_context().",
        c"The least recently used one is forgotten first; 0 keeps none.",
        &DOCUMENT_CACHE,
        0,
        i32::MAX / 1024,
        GucContext::Userset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"pg_tenancy.inline_ddl_rows",
        c"Largest table, in estimated rows, on which protecting builds indexes and validates constraints in place.",
        c"For larger tables the statements are returned as a script that does not block writers.",
        &INLINE_DDL_ROWS,
        0,
        i32::MAX,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"pg_tenancy.admin_role",
        c"Roles, comma-separated, whose members administer tenancy for tables they do not own.",
        c"Empty: only the owners of the tables and superusers.",
        &ADMIN_ROLE,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"pg_tenancy.shadow_placement",
        c"Where shadow mode looks at rows.",
        c"join looks at rows that passed all filters and joins of their query; scan, simpler, at rows that passed the filters of their table.",
        &SHADOW_PLACEMENT,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"pg_tenancy.shadow_entries",
        c"How many distinct denials are kept in shared memory.",
        c"Each takes about a kilobyte. Denials for which there is no room are counted, and keep their table from being ready. Read when the memory is made, which is when the server starts.",
        &SHADOW_ENTRIES,
        100,
        1_000_000,
        if server_starts {
            GucContext::Postmaster
        } else {
            GucContext::Sighup
        },
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"pg_tenancy.shadow_flush_interval",
        c"How often what was recorded is written to disk, if anything was.",
        c"A server that crashes loses no more than this. It is written when the server stops, too.",
        &SHADOW_FLUSH_INTERVAL,
        1,
        3600,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"pg_tenancy.shadow_confirm_ms",
        c"Longest statement whose inexact records shadow mode confirms or dismisses by running it again.",
        c"The runs together may take three times as long; 0 has none.",
        &SHADOW_CONFIRM_MS,
        0,
        60_000,
        GucContext::Suset,
        GucFlags::UNIT_MS,
    );
    // SAFETY: the prefix is a NUL-terminated literal.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"pg_tenancy".as_ptr()) };
}

/// `pg_tenancy.missing_context`.
pub fn missing_context() -> MissingContext {
    MISSING_CONTEXT.get()
}

/// `pg_tenancy.context_scope`.
pub fn context_scope() -> ContextScope {
    CONTEXT_SCOPE.get()
}

/// `pg_tenancy.cache_entries`, in entries.
pub fn cache_entries() -> usize {
    usize::try_from(CACHE_ENTRIES.get()).unwrap_or(0)
}

/// `pg_tenancy.document_cache`, in bytes.
pub fn document_cache_bytes() -> usize {
    usize::try_from(DOCUMENT_CACHE.get()).unwrap_or(0) * 1024
}

/// `pg_tenancy.inline_ddl_rows`, in estimated rows.
pub fn inline_ddl_rows() -> i64 {
    i64::from(INLINE_DDL_ROWS.get())
}

/// `pg_tenancy.shadow_placement`.
pub fn shadow_placement() -> ShadowPlacement {
    SHADOW_PLACEMENT.get()
}

/// `pg_tenancy.shadow_entries`.
pub fn shadow_entries() -> usize {
    usize::try_from(SHADOW_ENTRIES.get()).unwrap_or(0)
}

/// `pg_tenancy.shadow_flush_interval`.
pub fn shadow_flush_interval() -> Duration {
    Duration::from_secs(u64::try_from(SHADOW_FLUSH_INTERVAL.get()).unwrap_or(1))
}

/// `pg_tenancy.shadow_confirm_ms`, in milliseconds.
pub fn shadow_confirm_ms() -> i32 {
    SHADOW_CONFIRM_MS.get()
}

/// The names in `pg_tenancy.admin_role`.
pub fn admin_roles() -> Vec<String> {
    let Some(list) = ADMIN_ROLE.get() else {
        return Vec::new();
    };
    list.to_string_lossy()
        .split(',')
        .map(|name| name.trim().trim_matches('"').to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

/// Whether the library was there before the session's first statement, by
/// `shared_preload_libraries` or `session_preload_libraries`.
pub fn is_preloaded() -> bool {
    PRELOADED.load(Ordering::Relaxed)
}

/// Whether the server loaded the library when it started, for all sessions: by
/// `shared_preload_libraries`.
pub fn comes_with_server() -> bool {
    WITH_SERVER.load(Ordering::Relaxed)
}
