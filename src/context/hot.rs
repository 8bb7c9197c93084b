//! The hot path: the functions that policies call once per row.
//!
//! Owns one block of static memory with the answers, and the C-ABI functions that return from it:
//! a test, a load, a return. Anything dearer belongs in `resolve` and `questions`. Source of the technique: settings
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
use super::{questions, resolve};
use crate::error::{OrRaise, Result};

/// What may be asked for. Each has its place in the block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// The tenant, and so on by type.
    TenantUuid,
    TenantText,
    TenantBigint,
    /// The platform tenant.
    PlatformUuid,
    PlatformText,
    PlatformBigint,
    /// The user.
    UserUuid,
    UserText,
    UserBigint,
    /// All the user's tenants.
    TenantsUuid,
    TenantsText,
    TenantsBigint,
    /// Whether the user is an admin of the tenant.
    TenantAdmin,
    /// Whether the user is a super admin.
    SuperAdmin,
}

const SLOTS: usize = Slot::SuperAdmin as usize + 1;

/// Answers ready to return, and whether each may be.
#[repr(C)]
pub(super) struct Hot {
    pub(super) known: [bool; SLOTS],
    pub(super) value: [Datum; SLOTS],
}

pub(super) struct Single(pub(super) UnsafeCell<Hot>);

// SAFETY: a backend has one thread, and no reference outlives an expression below.
unsafe impl Sync for Single {}

pub(super) static HOT: Single = Single(UnsafeCell::new(Hot {
    known: [false; SLOTS],
    value: [Datum::null(); SLOTS],
}));

/// Forgets the answers; the next call resolves. Called from assign hooks, invalidation callbacks and
/// at the end of transactions, so it only writes flags.
pub fn forget() {
    // SAFETY: see `Single`.
    unsafe { (*HOT.0.get()).known = [false; SLOTS] };
    resolve::forget();
}

/// Forgets all but the tenant, whose memory alone outlives the transaction.
pub fn forget_questions() {
    // SAFETY: see `Single`.
    unsafe { (&mut (*HOT.0.get()).known)[Slot::PlatformUuid as usize..].fill(false) };
}

/// Puts an answer in place. What it points to must stay valid until `forget` is called and the
/// transaction is over.
pub fn remember(slot: Slot, value: Datum) {
    // SAFETY: see `Single`; a slot is within the block.
    unsafe {
        let hot = &mut *HOT.0.get();
        hot.value[slot as usize] = value;
        hot.known[slot as usize] = true;
    }
}

/// Whether a tenant is known: the cheap exit of the executor hook.
pub fn has_tenant() -> bool {
    // SAFETY: see `Single`.
    unsafe { (*HOT.0.get()).known[Slot::TenantText as usize] }
}

/// What a caller without a context gets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// NULL: the caller asks out of interest.
    Null,
    /// An error, or NULL under `missing_context = deny`: the caller is a policy.
    Fail,
    /// NULL, whatever is wrong: the caller is shadow mode, which must not be noticed.
    Quiet,
}

/// The way around when nothing is known yet, and the way out when there is no context.
#[cold]
#[inline(never)]
pub(super) unsafe fn resolve_then_return(
    fcinfo: FunctionCallInfo,
    wanted: TenantType,
    without: Without,
) -> Datum {
    let answer = move || {
        let resolved = match without {
            Without::Null => resolve::current_or_ambiguous(),
            Without::Fail => resolve::current_for_policy(),
            Without::Quiet => resolve::current(),
        };
        let answer = resolved.and_then(|resolved| {
            let known = resolved.tenant().is_some();
            known.then(|| resolve::datum(wanted)).transpose()
        });
        let answer = if without == Without::Quiet {
            answer.unwrap_or_default()
        } else {
            answer.or_raise()
        };
        answer.unwrap_or_else(|| {
            // SAFETY: Postgres passes valid call information.
            unsafe { (*fcinfo).isnull = true };
            Datum::null()
        })
    };
    // SAFETY: turns a Rust panic into a Postgres error at this boundary.
    unsafe { pgrx_extern_c_guard(answer) }
}

/// The same for the other questions of policies.
#[cold]
#[inline(never)]
pub(super) unsafe fn ask_then_return(
    fcinfo: FunctionCallInfo,
    slot: Slot,
    without: Without,
) -> Datum {
    let answer = move || match tolerated(questions::answer(slot, without), without) {
        Some(value) => value,
        None => {
            // SAFETY: Postgres passes valid call information.
            unsafe { (*fcinfo).isnull = true };
            Datum::null()
        }
    };
    // SAFETY: turns a Rust panic into a Postgres error at this boundary.
    unsafe { pgrx_extern_c_guard(answer) }
}

/// The answer, or none where the caller tolerates that it cannot be had.
fn tolerated(answer: Result<Option<Datum>>, without: Without) -> Option<Datum> {
    match without {
        Without::Quiet => answer.unwrap_or_default(),
        Without::Null | Without::Fail => answer.or_raise(),
    }
}

macro_rules! hot_function {
    ($documentation:literal, $name:ident, $info:ident, $slot:expr, $otherwise:ident($($argument:expr),*)) => {
        #[doc = $documentation]
        ///
        /// # Safety
        /// Called by Postgres's function manager with valid call information.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(fcinfo: FunctionCallInfo) -> Datum {
            // SAFETY: see `Single`.
            unsafe {
                let hot = &*HOT.0.get();
                if hot.known[$slot as usize] {
                    return hot.value[$slot as usize];
                }
                $otherwise(fcinfo, $($argument),*)
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

pub(super) use hot_function;

hot_function! {
    "`current_tenant_id()`: the tenant as uuid, NULL without a context.",
    pg_tenancy_tenant_uuid, pg_finfo_pg_tenancy_tenant_uuid, Slot::TenantUuid,
    resolve_then_return(TenantType::Uuid, Without::Null)
}
hot_function! {
    "`tenancy.current_tenant_id_required()`: as above, fails without a context.",
    pg_tenancy_required_uuid, pg_finfo_pg_tenancy_required_uuid, Slot::TenantUuid,
    resolve_then_return(TenantType::Uuid, Without::Fail)
}
hot_function! {
    "`current_tenant_id_text()`: the tenant as text, NULL without a context.",
    pg_tenancy_tenant_text, pg_finfo_pg_tenancy_tenant_text, Slot::TenantText,
    resolve_then_return(TenantType::Text, Without::Null)
}
hot_function! {
    "`tenancy.current_tenant_id_text_required()`: as above, fails without a context.",
    pg_tenancy_required_text, pg_finfo_pg_tenancy_required_text, Slot::TenantText,
    resolve_then_return(TenantType::Text, Without::Fail)
}
hot_function! {
    "`current_tenant_id_bigint()`: the tenant as bigint, NULL without a context.",
    pg_tenancy_tenant_bigint, pg_finfo_pg_tenancy_tenant_bigint, Slot::TenantBigint,
    resolve_then_return(TenantType::Bigint, Without::Null)
}
hot_function! {
    "`tenancy.current_tenant_id_bigint_required()`: as above, fails without a context.",
    pg_tenancy_required_bigint, pg_finfo_pg_tenancy_required_bigint, Slot::TenantBigint,
    resolve_then_return(TenantType::Bigint, Without::Fail)
}
hot_function! {
    "`tenancy.platform_tenant_id_required()`: see `sql/15_questions.sql`.",
    pg_tenancy_platform_uuid, pg_finfo_pg_tenancy_platform_uuid, Slot::PlatformUuid,
    ask_then_return(Slot::PlatformUuid, Without::Fail)
}
hot_function! {
    "`tenancy.platform_tenant_id_text_required()`: see `sql/15_questions.sql`.",
    pg_tenancy_platform_text, pg_finfo_pg_tenancy_platform_text, Slot::PlatformText,
    ask_then_return(Slot::PlatformText, Without::Fail)
}
hot_function! {
    "`tenancy.platform_tenant_id_bigint_required()`: see `sql/15_questions.sql`.",
    pg_tenancy_platform_bigint, pg_finfo_pg_tenancy_platform_bigint, Slot::PlatformBigint,
    ask_then_return(Slot::PlatformBigint, Without::Fail)
}
hot_function! {
    "`tenancy.current_user_id_uuid_required()`: see `sql/15_questions.sql`.",
    pg_tenancy_user_uuid, pg_finfo_pg_tenancy_user_uuid, Slot::UserUuid,
    ask_then_return(Slot::UserUuid, Without::Fail)
}
hot_function! {
    "`tenancy.current_user_id_text_required()`: see `sql/15_questions.sql`.",
    pg_tenancy_user_text, pg_finfo_pg_tenancy_user_text, Slot::UserText,
    ask_then_return(Slot::UserText, Without::Fail)
}
hot_function! {
    "`tenancy.current_user_id_bigint_required()`: see `sql/15_questions.sql`.",
    pg_tenancy_user_bigint, pg_finfo_pg_tenancy_user_bigint, Slot::UserBigint,
    ask_then_return(Slot::UserBigint, Without::Fail)
}
hot_function! {
    "`tenancy.user_tenant_ids_required()`: see `sql/15_questions.sql`.",
    pg_tenancy_tenants_uuid, pg_finfo_pg_tenancy_tenants_uuid, Slot::TenantsUuid,
    ask_then_return(Slot::TenantsUuid, Without::Fail)
}
hot_function! {
    "`tenancy.user_tenant_ids_text_required()`: see `sql/15_questions.sql`.",
    pg_tenancy_tenants_text, pg_finfo_pg_tenancy_tenants_text, Slot::TenantsText,
    ask_then_return(Slot::TenantsText, Without::Fail)
}
hot_function! {
    "`tenancy.user_tenant_ids_bigint_required()`: see `sql/15_questions.sql`.",
    pg_tenancy_tenants_bigint, pg_finfo_pg_tenancy_tenants_bigint, Slot::TenantsBigint,
    ask_then_return(Slot::TenantsBigint, Without::Fail)
}
hot_function! {
    "`tenancy.is_tenant_admin_required()`: see `sql/15_questions.sql`.",
    pg_tenancy_admin_required, pg_finfo_pg_tenancy_admin_required, Slot::TenantAdmin,
    ask_then_return(Slot::TenantAdmin, Without::Fail)
}
hot_function! {
    "`tenancy.is_tenant_admin_or_not()`: see `sql/15_questions.sql`.",
    pg_tenancy_admin_or_not, pg_finfo_pg_tenancy_admin_or_not, Slot::TenantAdmin,
    ask_then_return(Slot::TenantAdmin, Without::Null)
}
hot_function! {
    "`tenancy.is_super_admin_required()`: see `sql/15_questions.sql`.",
    pg_tenancy_super_required, pg_finfo_pg_tenancy_super_required, Slot::SuperAdmin,
    ask_then_return(Slot::SuperAdmin, Without::Fail)
}
hot_function! {
    "`tenancy.is_super_admin_or_not()`: see `sql/15_questions.sql`.",
    pg_tenancy_super_or_not, pg_finfo_pg_tenancy_super_or_not, Slot::SuperAdmin,
    ask_then_return(Slot::SuperAdmin, Without::Null)
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
        for (slot, wanted) in [
            (Slot::TenantUuid, TenantType::Uuid),
            (Slot::TenantText, TenantType::Text),
            (Slot::TenantBigint, TenantType::Bigint),
        ] {
            if let Some(value) = self.datum(wanted) {
                remember(slot, value);
            }
        }
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
pub fn varlena(text: &str) -> Box<[u64]> {
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
