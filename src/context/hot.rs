//! The hot path: the functions that policies call once per row.
//!
//! Owns one block of static memory with the answers, and the C-ABI functions that return from it:
//! a test, a load, a return. Anything dearer belongs in `resolve`. Source of the technique: settings
//! whose assign hook invalidates and a version-1 function that returns a pointer to memory it does
//! not own, measured at the cost of `pg_backend_pid()`.
//!
//! The memory that an answer points to must not change while the transaction lives: the executor
//! keeps the pointer. `resolve` therefore never overwrites a value but makes a new one and keeps the
//! old until the transaction ends.

use std::cell::UnsafeCell;

use pgrx::pg_sys::panic::pgrx_extern_c_guard;
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};

use super::identity::{TenantId, TenantType};
use super::resolve;
use crate::error::OrRaise;

/// Whether an answer is there.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Known {
    /// Ask `resolve`.
    No,
    /// The value beside it.
    Value,
}

/// An answer ready to return, and whether it may be.
#[repr(C)]
struct Hot {
    uuid_known: Known,
    text_known: Known,
    bigint_known: Known,
    uuid: Datum,
    text: Datum,
    bigint: Datum,
}

struct Single(UnsafeCell<Hot>);

// SAFETY: a backend has one thread, and no reference outlives an expression below.
unsafe impl Sync for Single {}

static HOT: Single = Single(UnsafeCell::new(Hot {
    uuid_known: Known::No,
    text_known: Known::No,
    bigint_known: Known::No,
    uuid: Datum::null(),
    text: Datum::null(),
    bigint: Datum::null(),
}));

/// Forgets the answers; the next call resolves. Called from assign hooks, invalidation callbacks and
/// at the end of transactions, so it only writes flags.
pub fn forget() {
    // SAFETY: see `Single`.
    unsafe {
        let hot = HOT.0.get();
        (*hot).uuid_known = Known::No;
        (*hot).text_known = Known::No;
        (*hot).bigint_known = Known::No;
    }
    resolve::forget();
}

/// Puts the answers of a resolved context in place. The pointers must stay valid until `forget` is
/// called and the transaction is over.
pub fn remember(uuid: Option<Datum>, text: Datum, bigint: Option<Datum>) {
    // SAFETY: see `Single`.
    unsafe {
        let hot = HOT.0.get();
        (*hot).text = text;
        (*hot).text_known = Known::Value;
        if let Some(uuid) = uuid {
            (*hot).uuid = uuid;
            (*hot).uuid_known = Known::Value;
        }
        if let Some(bigint) = bigint {
            (*hot).bigint = bigint;
            (*hot).bigint_known = Known::Value;
        }
    }
}

/// Whether a tenant is known: the cheap exit of the executor hook.
pub fn has_tenant() -> bool {
    // SAFETY: see `Single`.
    unsafe { (*HOT.0.get()).text_known == Known::Value }
}

/// What a caller without a context gets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Without {
    /// NULL: the caller asks out of interest.
    Null,
    /// An error, or NULL under `missing_context = deny`: the caller is a policy.
    Fail,
}

/// The way around when nothing is known yet, and the way out when there is no context.
#[cold]
#[inline(never)]
unsafe fn resolve_then_return(
    fcinfo: FunctionCallInfo,
    wanted: TenantType,
    without: Without,
) -> Datum {
    let answer = move || {
        let resolved = match without {
            Without::Null => resolve::current_or_ambiguous(),
            Without::Fail => resolve::current_for_policy(),
        }
        .or_raise();
        if resolved.tenant().is_none() {
            // SAFETY: Postgres passes valid call information.
            unsafe { (*fcinfo).isnull = true };
            return Datum::null();
        }
        resolve::datum(wanted).or_raise()
    };
    // SAFETY: turns a Rust panic into a Postgres error at this boundary.
    unsafe { pgrx_extern_c_guard(answer) }
}

macro_rules! hot_function {
    ($(#[$documentation:meta])* $name:ident, $info:ident, $known:ident, $value:ident, $wanted:expr, $without:expr) => {
        $(#[$documentation])*
        ///
        /// # Safety
        /// Called by Postgres's function manager with valid call information.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(fcinfo: FunctionCallInfo) -> Datum {
            // SAFETY: see `Single`.
            unsafe {
                let hot = &*HOT.0.get();
                if hot.$known == Known::Value {
                    return hot.$value;
                }
                resolve_then_return(fcinfo, $wanted, $without)
            }
        }

        #[doc = concat!("Version-1 call record of `", stringify!($name), "`.")]
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> &'static pg_sys::Pg_finfo_record {
            const VERSION_1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
            &VERSION_1
        }
    };
}

hot_function! {
    /// `current_tenant_id()`: the tenant as uuid, NULL without a context.
    pg_tenancy_tenant_uuid, pg_finfo_pg_tenancy_tenant_uuid, uuid_known, uuid, TenantType::Uuid, Without::Null
}
hot_function! {
    /// `tenancy.current_tenant_id_required()`: as above, fails without a context.
    pg_tenancy_required_uuid, pg_finfo_pg_tenancy_required_uuid, uuid_known, uuid, TenantType::Uuid, Without::Fail
}
hot_function! {
    /// `current_tenant_id_text()`: the tenant as text, NULL without a context.
    pg_tenancy_tenant_text, pg_finfo_pg_tenancy_tenant_text, text_known, text, TenantType::Text, Without::Null
}
hot_function! {
    /// `tenancy.current_tenant_id_text_required()`: as above, fails without a context.
    pg_tenancy_required_text, pg_finfo_pg_tenancy_required_text, text_known, text, TenantType::Text, Without::Fail
}
hot_function! {
    /// `current_tenant_id_bigint()`: the tenant as bigint, NULL without a context.
    pg_tenancy_tenant_bigint, pg_finfo_pg_tenancy_tenant_bigint, bigint_known, bigint, TenantType::Bigint, Without::Null
}
hot_function! {
    /// `tenancy.current_tenant_id_bigint_required()`: as above, fails without a context.
    pg_tenancy_required_bigint, pg_finfo_pg_tenancy_required_bigint, bigint_known, bigint, TenantType::Bigint, Without::Fail
}

/// The memory that the answers for one tenant point to.
pub struct Answers {
    uuid: Option<Box<[u8; 16]>>,
    text: Box<[u64]>,
    bigint: Option<i64>,
}

impl Answers {
    /// Lays the tenant's spellings out as Postgres's types want them.
    pub fn new(tenant: &TenantId) -> Self {
        let uuid = match tenant {
            TenantId::Uuid(id) => Some(Box::new(*id.as_bytes())),
            _ => None,
        };
        let bigint = match tenant {
            TenantId::Bigint(id) => Some(*id),
            _ => None,
        };
        Self {
            uuid,
            text: varlena(&tenant.to_string()),
            bigint,
        }
    }

    /// Puts the answers in place.
    pub fn remember(&self) {
        remember(
            self.datum(TenantType::Uuid),
            self.text_datum(),
            self.datum(TenantType::Bigint),
        );
    }

    /// The answer as a datum of that type; `None` where the tenant has no such spelling.
    pub fn datum(&self, wanted: TenantType) -> Option<Datum> {
        match wanted {
            TenantType::Uuid => self.uuid.as_ref().map(|id| Datum::from(id.as_ptr())),
            TenantType::Text => Some(self.text_datum()),
            TenantType::Bigint | TenantType::Integer => self.bigint.map(Datum::from),
        }
    }

    fn text_datum(&self) -> Datum {
        Datum::from(self.text.as_ptr())
    }
}

/// A text value in Postgres's layout: a four-byte length, then the bytes; aligned for any type.
fn varlena(text: &str) -> Box<[u64]> {
    let bytes = text.as_bytes();
    let total = bytes.len() + pg_sys::VARHDRSZ;
    let mut words = vec![0u64; total.div_ceil(8)].into_boxed_slice();
    let pointer = words.as_mut_ptr().cast::<u8>();
    // SAFETY: `words` holds `total` bytes, the header first.
    unsafe {
        pgrx::set_varsize_4b(pointer.cast::<pg_sys::varlena>(), total as i32);
        core::ptr::copy_nonoverlapping(bytes.as_ptr(), pointer.add(pg_sys::VARHDRSZ), bytes.len());
    }
    words
}
