//! The settings in which applications hand over the context.
//!
//! Owns their definition as real variables, so that assigning one marks the context as unresolved,
//! and the rule which of their values may be believed. Must never keep a value of its own: Postgres
//! restores the variables on rollback, at the end of SET LOCAL and in parallel workers.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString};

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::{GucSource, GucStackState};
use pgrx::prelude::*;

use super::identity::Malformed;
use super::{hot, validate};
use crate::gucs::{self, ContextScope};
use crate::{catalog, pg_compat, text};

/// Defined in every process that loads the library: known before any binding can be read.
pub const DEFAULT_NAMES: [&str; 5] = [
    SERVICE_SETTING,
    "app.current_user_id",
    TENANT_SETTING,
    TENANT_SETTING_ALIAS,
    "request.jwt.claims",
];

/// The tenant that a service acts for; see `service` for whose word counts. Not below `pg_tenancy`,
/// whose reserved names a parallel worker could not take over.
pub const SERVICE_SETTING: &str = "tenancy.service_tenant";

const TENANT_SETTING: &str = "app.current_tenant_id";
const TENANT_SETTING_ALIAS: &str = "app.current_org_id";

/// The other name of a tenant setting that has two.
pub fn alias(name: &str) -> Option<&'static str> {
    match name {
        TENANT_SETTING => Some(TENANT_SETTING_ALIAS),
        TENANT_SETTING_ALIAS => Some(TENANT_SETTING),
        _ => None,
    }
}

/// How many variables one process can define. A binding names three at most; a session that sees
/// more names than this over its life reads the rest by name, slower and as safely.
const SLOTS: usize = 16;

/// A variable of ours. `variable` is Postgres's record of it, which lives as long as the process; null
/// while it is being defined.
#[derive(Debug, Clone, Copy)]
struct Owned {
    name: &'static CStr,
    variable: *mut pg_sys::config_generic,
    value: *mut *mut core::ffi::c_char,
}

thread_local! {
    static OWNED: RefCell<Vec<Owned>> = const { RefCell::new(Vec::new()) };
}

fn owned(name: &str) -> Option<Owned> {
    OWNED.with_borrow(|all| {
        all.iter()
            .find(|setting| setting.name.to_bytes() == name.as_bytes())
            .copied()
    })
}

/// A setting that the binding names. Where the variable is ours it is found once: a context is resolved
/// at least once a transaction.
#[derive(Debug)]
pub struct Setting {
    name: String,
    found: Cell<Option<Owned>>,
}

impl Setting {
    /// The setting of that name.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            found: Cell::new(None),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn owned(&self) -> Option<Owned> {
        self.found.get().or_else(|| {
            let found = owned(&self.name);
            self.found
                .set(found.filter(|found| !found.variable.is_null()));
            found
        })
    }

    /// Whether assigning it is noticed. Where it is not (another library defined the name, or this is a
    /// parallel worker), the context must be read anew for every statement.
    pub fn is_watched(&self) -> bool {
        self.owned().is_some()
    }

    /// Makes it a variable of ours, if nobody else has, and forgets what an earlier transaction left.
    pub fn adopt(&self) {
        if !self.is_watched() {
            define(&self.name);
        }
        if is_leftover(self.variable()) && can_reset() {
            reset(&self.name);
        }
    }

    /// Postgres's record of it; null when there is none.
    fn variable(&self) -> *mut pg_sys::config_generic {
        match self.owned() {
            Some(owned) if !owned.variable.is_null() => owned.variable,
            _ => pg_compat::find_setting(&self.name),
        }
    }

    /// Whether a statement gave its value, in this transaction or before: a value that the connection
    /// brought has another source.
    pub fn is_set_by_statement(&self) -> bool {
        let variable = self.variable();
        // SAFETY: null or a record of Postgres's table of settings.
        variable.is_null() || unsafe { (*variable).source } == GucSource::PGC_S_SESSION
    }

    /// The value that may be believed: `None` when unset, empty, or left behind by an earlier
    /// transaction. What is borrowed must be done with before any setting is assigned. Not for
    /// identifiers: where the database has another encoding than UTF8, several values look the same.
    pub fn value(&self) -> Option<Cow<'_, str>> {
        self.raw().map(CStr::to_string_lossy)
    }

    /// The same, exactly as it was set; an error where it cannot be read.
    pub fn exactly(&self) -> Result<Option<&str>, Malformed> {
        self.raw().map(text::exactly).transpose()
    }

    fn raw(&self) -> Option<&CStr> {
        if !pg_compat::in_parallel_worker() && is_leftover(self.variable()) {
            return None;
        }
        let value = match self.owned() {
            // SAFETY: points to the variable's value, which is null or a string.
            Some(owned) => unsafe { (*owned.value).cast_const() },
            None => {
                let name = catalog::c_string(&self.name);
                // SAFETY: a setting that does not exist gives null.
                unsafe { pg_sys::GetConfigOption(name.as_ptr(), true, false) }
            }
        };
        if value.is_null() {
            return None;
        }
        // SAFETY: not null; lives until the variable is assigned, by the promise of the caller.
        let text = unsafe { CStr::from_ptr(value) };
        (!text.is_empty()).then_some(text)
    }
}

/// Makes the setting a variable of ours, if nobody else has. Returns whether it is one.
pub fn define(name: &str) -> bool {
    if owned(name).is_some() {
        return true;
    }
    let slot = OWNED.with_borrow(Vec::len);
    // Defining takes over a placeholder's value, which counts as a change of settings.
    // SAFETY: reads of the backend's state.
    if slot >= SLOTS || unsafe { pg_sys::IsInParallelMode() } || pg_compat::in_parallel_worker() {
        return false;
    }
    let existing = pg_compat::find_setting(name);
    // SAFETY: a non-null record of Postgres's table of settings.
    if !existing.is_null()
        && unsafe { (*existing).flags } & pg_sys::GUC_CUSTOM_PLACEHOLDER as i32 == 0
    {
        return false;
    }
    let value: &'static mut *mut core::ffi::c_char = Box::leak(Box::new(core::ptr::null_mut()));
    let value: *mut *mut core::ffi::c_char = value;
    let leaked_name: &'static CString = Box::leak(Box::new(catalog::c_string(name)));
    OWNED.with_borrow_mut(|all| {
        all.push(Owned {
            name: leaked_name,
            variable: core::ptr::null_mut(),
            value,
        });
    });
    // SAFETY: name and value live as long as the process; nothing else is defined under the name.
    unsafe {
        pg_sys::DefineCustomStringVariable(
            leaked_name.as_ptr(),
            c"Context of the current transaction for pg_tenancy.".as_ptr(),
            core::ptr::null(),
            value,
            core::ptr::null(),
            pg_sys::GucContext::PGC_USERSET,
            0,
            CHECK_HOOKS[slot],
            Some(assigned),
            None,
        );
    }
    let variable = pg_compat::find_setting(name);
    OWNED.with_borrow_mut(|all| all[slot].variable = variable);
    hot::forget();
    // Parallel workers get the bare values, and `current_setting()` shows them.
    if is_leftover(variable) && can_reset() {
        reset(name);
    }
    !variable.is_null()
}

/// Whether the value was set with session scope by a transaction that is over. Under
/// `context_scope = transaction` none should be left, but a library that was loaded late finds what
/// an earlier client of the same connection set, and a rollback can bring it back. A value that the
/// connection itself brought has another source and stays.
fn is_leftover(variable: *mut pg_sys::config_generic) -> bool {
    if variable.is_null() || gucs::context_scope() == ContextScope::Session {
        return false;
    }
    // SAFETY: a non-null record of Postgres's table of settings. A stack entry exists exactly while
    // the current transaction, or a function's SET clause, has changed the variable.
    unsafe { (*variable).source == GucSource::PGC_S_SESSION && (*variable).stack.is_null() }
}

fn can_reset() -> bool {
    // SAFETY: reads of the backend's state.
    let can_set = unsafe { pg_sys::IsTransactionState() && !pg_sys::IsInParallelMode() };
    can_set && !pg_compat::in_parallel_worker()
}

/// Ends what the transaction set with session scope; called before commit and before PREPARE
/// TRANSACTION. Not in a parallel worker, whose settings are its leader's.
pub fn end_transaction() {
    if pg_compat::in_parallel_worker() || gucs::context_scope() == ContextScope::Session {
        return;
    }
    let set: Vec<&'static CStr> = OWNED.with_borrow(|all| {
        all.iter()
            .filter(|setting| set_with_session_scope(setting.variable))
            .map(|setting| setting.name)
            .collect()
    });
    for name in set {
        reset(&name.to_string_lossy());
    }
}

/// Whether the transaction used SET, alone or under a SET LOCAL: SET LOCAL alone ends by itself.
fn set_with_session_scope(variable: *mut pg_sys::config_generic) -> bool {
    if variable.is_null() {
        return false;
    }
    // SAFETY: a non-null record of Postgres's table of settings; its stack is null or valid.
    unsafe {
        let stack = (*variable).stack;
        !stack.is_null()
            && matches!(
                (*stack).state,
                GucStackState::GUC_SET | GucStackState::GUC_SET_LOCAL
            )
    }
}

fn reset(name: &str) {
    let name = catalog::c_string(name);
    // SAFETY: outside parallel mode, in a transaction; a null value means the session's default.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            core::ptr::null(),
            pg_sys::GucContext::PGC_USERSET,
            GucSource::PGC_S_SESSION,
        );
    }
}

/// Sets the context for the rest of the transaction, as SET LOCAL does.
pub fn set_local(name: &str, value: &str) {
    set(name, value, pg_sys::GucAction::GUC_ACTION_LOCAL);
}

/// Sets the context for the innermost level of settings, as the SET clause of a function does.
pub fn set_for_level(name: &str, value: &str) {
    set(name, value, pg_sys::GucAction::GUC_ACTION_SAVE);
}

fn set(name: &str, value: &str, action: pg_sys::GucAction::Type) {
    let (name, value) = (catalog::c_string(name), catalog::c_string(value));
    // SAFETY: NUL-terminated strings; an invalid value raises.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            GucSource::PGC_S_SESSION,
            action,
            true,
            0,
            false,
        );
    }
}

/// Postgres tells an assign hook nothing of the variable, and needs nothing but this.
#[pg_guard]
unsafe extern "C-unwind" fn assigned(
    _value: *const core::ffi::c_char,
    _extra: *mut core::ffi::c_void,
) {
    hot::forget();
}

type CheckHook = pg_sys::GucStringCheckHook;

/// A check hook is not told which variable it checks, so each slot has its own.
static CHECK_HOOKS: [CheckHook; SLOTS] = [
    Some(check::<0>),
    Some(check::<1>),
    Some(check::<2>),
    Some(check::<3>),
    Some(check::<4>),
    Some(check::<5>),
    Some(check::<6>),
    Some(check::<7>),
    Some(check::<8>),
    Some(check::<9>),
    Some(check::<10>),
    Some(check::<11>),
    Some(check::<12>),
    Some(check::<13>),
    Some(check::<14>),
    Some(check::<15>),
];

unsafe extern "C-unwind" fn check<const SLOT: usize>(
    new_value: *mut *mut core::ffi::c_char,
    _: *mut *mut core::ffi::c_void,
    source: GucSource::Type,
) -> bool {
    // SAFETY: called by Postgres with a valid pointer to the proposed value.
    unsafe { pgrx::pg_sys::panic::pgrx_extern_c_guard(|| checked(SLOT, *new_value, source)) }
}

/// Refuses a malformed value when it is set by a statement. Values from files, start-up packets and
/// catalogs are judged when they are used: there may be no transaction to read the binding in.
///
/// # Safety
/// `value` is null or a NUL-terminated string.
unsafe fn checked(slot: usize, value: *const core::ffi::c_char, source: GucSource::Type) -> bool {
    // SAFETY: reads of the backend's state.
    let by_statement = source == GucSource::PGC_S_SESSION
        && unsafe { pg_sys::IsTransactionState() && !pg_sys::IsInParallelMode() }
        && !pg_compat::in_parallel_worker();
    if !by_statement || value.is_null() {
        return true;
    }
    // SAFETY: not null, NUL-terminated by the caller's promise.
    let text = unsafe { CStr::from_ptr(value) };
    let name = OWNED.with_borrow(|all| all.get(slot).map(|setting| setting.name));
    let Some(name) = name.and_then(|name| name.to_str().ok()) else {
        return true;
    };
    if text.is_empty() {
        return true;
    }
    let Err(error) = validate::value(name, text) else {
        return true;
    };
    refuse(error.kind().sqlstate(), error.message(), error.hint_text());
    false
}

/// Leaves the words of a refusal where `SET` looks for them.
fn refuse(code: PgSqlErrorCode, message: &str, hint: Option<&str>) {
    let (message, hint) = (catalog::c_string(message), hint.map(catalog::c_string));
    // SAFETY: Postgres reads and frees with the current memory context what a check hook leaves.
    unsafe {
        pg_sys::GUC_check_errcode(code as i32);
        pg_sys::GUC_check_errmsg_string = pg_sys::pstrdup(message.as_ptr());
        if let Some(hint) = hint {
            pg_sys::GUC_check_errhint_string = pg_sys::pstrdup(hint.as_ptr());
        }
    }
}
