//! The guard on identity columns: who may write what decides who one is.
//!
//! Owns the trigger functions of bound tables. `rules` decides; here the row is read. Must never let
//! a change through that it could not read.

mod cascade;
mod rules;

pub use cascade::{end_transaction, ends, starts};

use std::ffi::CStr;

use pgrx::pg_sys::panic::pgrx_extern_c_guard;
use pgrx::prelude::*;

use self::rules::{Actor, Change, Grant, Kept, Verdict};
use crate::binding::{self, Binding, BoundTable, Rank, is_built_in};
use crate::cache::generation;
use crate::catalog;
use crate::context::identity::TenantId;
use crate::context::lookup::{self, Memberships, Snapshot};
use crate::context::resolve;
use crate::error::{Error, Kind, OrRaise, Result};
use crate::registry;
use crate::text;

macro_rules! trigger_function {
    ($(#[$documentation:meta])* $name:ident, $info:ident, $body:expr) => {
        $(#[$documentation])*
        ///
        /// # Safety
        /// Called by Postgres's function manager with valid call information.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
            // SAFETY: turns a Rust panic into a Postgres error at this boundary.
            unsafe { pgrx_extern_c_guard(|| $body(Fired::new(fcinfo).or_raise()).or_raise()) }
        }

        #[doc = concat!("Version-1 call record of `", stringify!($name), "`.")]
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> &'static pg_sys::Pg_finfo_record {
            const VERSION_1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
            &VERSION_1
        }
    };
}

trigger_function! {
    /// `tenancy.invalidate_context()`: tells every session, when the transaction commits, that
    /// identity data changed.
    pg_tenancy_invalidate_context, pg_finfo_pg_tenancy_invalidate_context, invalidate
}
trigger_function! {
    /// `tenancy.guard_identity()`: refuses writes to identity columns by roles that may not.
    pg_tenancy_guard_identity, pg_finfo_pg_tenancy_guard_identity, guard
}

/// A trigger that fired, with its rows.
struct Fired {
    relation: pg_sys::Relation,
    truncates: bool,
    old: Option<pg_sys::HeapTuple>,
    new: Option<pg_sys::HeapTuple>,
    returns: pg_sys::Datum,
}

impl Fired {
    /// Reads the call. Fails when the function is not called as a trigger.
    ///
    /// # Safety
    /// `fcinfo` is valid call information.
    unsafe fn new(fcinfo: pg_sys::FunctionCallInfo) -> Result<Self> {
        // SAFETY: the context node's tag is checked before it is read as trigger data.
        unsafe {
            let context = (*fcinfo).context;
            if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
                return Err(Error::new(
                    Kind::FeatureNotSupported,
                    "not called as a trigger",
                ));
            }
            let data = &*context.cast::<pg_sys::TriggerData>();
            let for_row = data.tg_event & pg_sys::TRIGGER_EVENT_ROW != 0;
            let tuple = (for_row && !data.tg_trigtuple.is_null()).then_some(data.tg_trigtuple);
            let operation = data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK;
            let (old, new) = match operation {
                pg_sys::TRIGGER_EVENT_INSERT => (None, tuple),
                pg_sys::TRIGGER_EVENT_UPDATE => (tuple, Some(data.tg_newtuple)),
                _ => (tuple, None),
            };
            let returns = new
                .or(old)
                .map_or(pg_sys::Datum::null(), pg_sys::Datum::from);
            Ok(Self {
                relation: data.tg_relation,
                truncates: operation == pg_sys::TRIGGER_EVENT_TRUNCATE,
                old,
                new,
                returns,
            })
        }
    }

    fn relation_oid(&self) -> pg_sys::Oid {
        // SAFETY: the relation is open while the trigger runs.
        unsafe { (*self.relation).rd_id }
    }

    /// The command that wrote the row. By the time the trigger fires, other commands may have made
    /// that row visible: foreign keys, other triggers, functions in RETURNING.
    fn command(&self) -> pg_sys::CommandId {
        // SAFETY: an AFTER trigger gets rows as they stand in the table, written by this transaction.
        unsafe {
            match (self.old, self.new) {
                (_, Some(new)) => pg_sys::HeapTupleHeaderGetCmin((*new).t_data),
                (Some(old), None) => pg_sys::HeapTupleHeaderGetCmax((*old).t_data),
                (None, None) => pg_sys::FirstCommandId,
            }
        }
    }
}

fn invalidate(fired: Fired) -> Result<pg_sys::Datum> {
    let relation = fired.relation_oid();
    // SAFETY: registers messages that Postgres sends at commit and applies here at the next command.
    unsafe {
        generation::note_own_change();
        if let Some(sentinel) = catalog::relation_oid("tenancy", "cache_sentinel") {
            pg_sys::CacheInvalidateRelcacheByRelid(sentinel);
        }
        let is_registry =
            catalog::relation_name(relation).is_some_and(|name| name.schema == "tenancy");
        if is_registry {
            pg_sys::CacheInvalidateRelcacheByRelid(relation);
        }
    }
    cascade::note(&fired)?;
    Ok(fired.returns)
}

/// What a bound table holds. One table may be several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Memberships,
    Roles,
    Tenants,
}

fn guard(fired: Fired) -> Result<pg_sys::Datum> {
    let relation = fired.relation_oid();
    // Before the binding is read: where it is broken, they must be able to mend it.
    if is_owners(relation)? {
        return Ok(fired.returns);
    }
    // Its rows do not say which command wrote them.
    if catalog::relation_kind(relation) == Some(pg_sys::RELKIND_FOREIGN_TABLE) {
        return Err(refusal(&fired, "a foreign table cannot be guarded"));
    }
    if cascade::wrote(&fired) {
        return Ok(fired.returns);
    }
    let Some(binding) = binding::current()? else {
        return Ok(fired.returns);
    };
    if is_identity_writer(&binding) {
        return Ok(fired.returns);
    }
    if fired.truncates {
        return Err(refusal(&fired, "rows of others would be removed"));
    }
    let mut known = false;
    for (table, holds) in [
        (&binding.membership, Holds::Memberships),
        (&binding.role_table, Holds::Roles),
        (&binding.tenants, Holds::Tenants),
    ] {
        if let Some(table) = table
            && belongs_to(relation, table.relation)
        {
            known = true;
            judge(&binding, table, holds, &fired)?;
        }
    }
    if !known {
        // The trigger outlived its binding: who may write what is not known.
        return Err(refusal(&fired, "the table is no longer bound"));
    }
    Ok(fired.returns)
}

/// Whether the relation is the bound table, or a partition or child of it.
fn belongs_to(relation: pg_sys::Oid, bound: pg_sys::Oid) -> bool {
    // SAFETY: catalog lookups by oid; no lock is needed on the table whose trigger runs.
    relation == bound
        || unsafe {
            pgrx::PgList::<pg_sys::Oid>::from_pg(pg_sys::find_all_inheritors(
                bound,
                pg_sys::NoLock as i32,
                core::ptr::null_mut(),
            ))
            .iter_oid()
            .any(|child| child == relation)
        }
}

/// Owners and administrators are not application roles.
fn is_owners(relation: pg_sys::Oid) -> Result<bool> {
    Ok(registry::is_administrator() || catalog::acts_as(catalog::relation_owner(relation)?))
}

/// Nor are identity writers.
fn is_identity_writer(binding: &Binding) -> bool {
    let mut writers = binding.identity_writers.iter();
    writers.any(|name| catalog::role_oid(name).is_some_and(catalog::acts_as))
}

fn judge(binding: &Binding, table: &BoundTable, holds: Holds, fired: &Fired) -> Result<()> {
    let reader = Reader {
        fired,
        binding,
        table,
    };
    let change = match (fired.old, fired.new) {
        (None, Some(_)) => Change::Insert,
        (Some(_), None) => Change::Delete,
        (Some(_), Some(_)) => {
            let changed = reader.changed_columns()?;
            if changed.is_empty() {
                return Ok(());
            }
            let role_column = reader.role_column(holds);
            let only_role = changed.iter().all(|number| Some(*number) == role_column);
            Change::Update { only_role }
        }
        (None, None) => return Ok(()),
    };
    // Without a tenant nobody is an admin of one: the context decides nothing more.
    let resolved = resolve::before(binding, fired.command())?;
    let actor = Actor {
        is_super_admin: resolved.has_role_in(&binding.super_admin_roles)
            && resolved.tenant().is_some(),
        rank: resolved
            .tenant()
            .and(resolved.roles.iter().map(|role| binding.rank(role)).max()),
    };
    let verdict = match holds {
        Holds::Tenants => rules::tenants(actor, change),
        Holds::Memberships => {
            let before = fired
                .old
                .map(|row| reader.grant(row, resolved.tenant()))
                .transpose()?;
            let after = fired
                .new
                .map(|row| reader.grant(row, resolved.tenant()))
                .transpose()?;
            rules::grants(actor, change, before, after)
        }
        Holds::Roles => {
            let before = fired
                .old
                .map(|row| reader.role_of(row, resolved.tenant()))
                .transpose()?;
            let after = fired
                .new
                .map(|row| reader.role_of(row, resolved.tenant()))
                .transpose()?;
            rules::grants(actor, change, before, after)
        }
    };
    match verdict {
        Verdict::Allowed => Ok(()),
        Verdict::Refused(reason) => Err(refusal(fired, reason)),
    }
}

fn refusal(fired: &Fired, reason: &str) -> Error {
    let name = catalog::relation_name(fired.relation_oid()).map(|n| n.to_string());
    Error::new(
        Kind::InsufficientPrivilege,
        format!("permission denied for identity columns of table {}", name.unwrap_or_default()),
    )
    .detail(format!("{}{}.", reason[..1].to_uppercase(), &reason[1..]))
    .hint("Let a tenant admin grant roles up to his own, or name the role in identity_writers of tenancy.bind.")
}

/// What a column says.
enum Said {
    Nothing,
    Text(String),
    /// Text that is none for us: lookups pass over it. See `text`.
    Unreadable,
}

impl Said {
    fn of(text: Option<&str>) -> Self {
        text.map_or(Self::Unreadable, |text| Self::Text(text.to_owned()))
    }

    fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Nothing | Self::Unreadable => None,
        }
    }
}

/// Reads the identity columns of a row.
struct Reader<'a> {
    fired: &'a Fired,
    binding: &'a Binding,
    table: &'a BoundTable,
}

impl Reader<'_> {
    /// The number that the column of the bound table has here: partitions and children may number
    /// theirs differently.
    fn own_number(&self, number: i16) -> Result<i16> {
        let here = self.fired.relation_oid();
        if here == self.table.relation {
            return Ok(number);
        }
        // SAFETY: catalog lookups by oid, number and name.
        let own = unsafe {
            let name = pg_sys::get_attname(self.table.relation, number, false);
            pg_sys::get_attnum(here, name)
        };
        if own > 0 {
            Ok(own)
        } else {
            Err(refusal(self.fired, "an identity column is missing"))
        }
    }

    fn value(&self, row: pg_sys::HeapTuple, number: i16) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: a row of the open relation.
        let datum = unsafe {
            pg_sys::heap_getattr(
                row,
                i32::from(number),
                (*self.fired.relation).rd_att,
                &mut is_null,
            )
        };
        (!is_null).then_some(datum)
    }

    /// The identity columns, by the bound table's numbers, whose values differ in any bit.
    fn changed_columns(&self) -> Result<Vec<i16>> {
        let (Some(old), Some(new)) = (self.fired.old, self.fired.new) else {
            return Ok(Vec::new());
        };
        let mut changed = Vec::new();
        for number in &self.table.identity_columns {
            let own = self.own_number(*number)?;
            let same = match (self.value(old, own), self.value(new, own)) {
                (None, None) => true,
                (Some(old), Some(new)) => {
                    let (mut length, mut by_value) = (0i16, false);
                    // SAFETY: two values of the column's type.
                    unsafe {
                        let type_oid = pg_sys::get_atttype(self.fired.relation_oid(), own);
                        pg_sys::get_typlenbyval(type_oid, &mut length, &mut by_value);
                        pg_sys::datum_image_eq(old, new, by_value, i32::from(length))
                    }
                }
                _ => false,
            };
            if !same {
                changed.push(*number);
            }
        }
        Ok(changed)
    }

    fn role_column(&self, holds: Holds) -> Option<i16> {
        let name = match holds {
            Holds::Memberships => self.binding.membership_role.as_deref()?,
            Holds::Roles => &self.binding.role_column,
            Holds::Tenants => return None,
        };
        let name = catalog::c_string(name);
        // SAFETY: a catalog lookup by name.
        let number = unsafe { pg_sys::get_attnum(self.table.relation, name.as_ptr()) };
        (number > 0).then_some(number)
    }

    /// What a column says, as lookups read it.
    fn text(&self, row: pg_sys::HeapTuple, column: &str) -> Result<Said> {
        let name = catalog::c_string(column);
        // SAFETY: catalog lookups by name; the value is of the column's type.
        unsafe {
            let number = pg_sys::get_attnum(self.fired.relation_oid(), name.as_ptr());
            if number <= 0 {
                return Err(refusal(self.fired, "an identity column is missing"));
            }
            let Some(datum) = self.value(row, number) else {
                return Ok(Said::Nothing);
            };
            let declared = pg_sys::get_atttype(self.fired.relation_oid(), number);
            let type_oid = pg_sys::getBaseType(declared);
            if type_oid == pg_sys::TEXTOID {
                return Ok(Said::of(text::of_value(datum)));
            }
            // `character(n)` loses its blanks and a boolean is spelled out.
            let mut cast = pg_sys::InvalidOid;
            if is_built_in(type_oid)
                && pg_sys::find_coercion_pathway(
                    pg_sys::TEXTOID,
                    type_oid,
                    pg_sys::CoercionContext::COERCION_EXPLICIT,
                    &mut cast,
                ) == pg_sys::CoercionPathType::COERCION_PATH_FUNC
            {
                let text = pg_sys::OidFunctionCall1Coll(cast, pg_sys::DEFAULT_COLLATION_OID, datum);
                return Ok(Said::of(text::of_value(text)));
            }
            let (mut output, mut is_varlena) = (pg_sys::InvalidOid, false);
            pg_sys::getTypeOutputInfo(type_oid, &mut output, &mut is_varlena);
            let spelled = pg_sys::OidOutputFunctionCall(output, datum);
            Ok(Said::of(text::read(CStr::from_ptr(spelled).to_bytes())))
        }
    }

    fn rank(&self, role: Option<&str>) -> Rank {
        role.map_or(Rank::Member, |role| self.binding.rank(role))
    }

    /// A membership as a grant: of which rank, and whether in the actor's tenant.
    fn grant(&self, row: pg_sys::HeapTuple, tenant: Option<&TenantId>) -> Result<Grant> {
        let row_tenant = self.text(row, &self.binding.membership_tenant)?.text();
        let row_tenant = row_tenant.and_then(|text| self.binding.tenant_type.parse(&text).ok());
        let role = match &self.binding.membership_role {
            Some(column) => self.text(row, column)?.text(),
            None => None,
        };
        Ok(Grant {
            rank: self.rank(role.as_deref()).max(self.rank_elsewhere(row)?),
            kept: if row_tenant.is_some() && row_tenant.as_ref() == tenant {
                Kept::InTenant
            } else {
                Kept::Elsewhere
            },
        })
    }

    /// The rank that a membership brings its user by a table of roles.
    fn rank_elsewhere(&self, row: pg_sys::HeapTuple) -> Result<Rank> {
        let relation = |table: &Option<BoundTable>| table.as_ref().map(|table| table.relation);
        let Some(query) = &self.binding.role_query else {
            return Ok(Rank::Member);
        };
        if relation(&self.binding.role_table) == relation(&self.binding.membership) {
            // Judged as a role by itself.
            return Ok(Rank::Member);
        }
        let user = match self.text(row, &self.binding.membership_user)? {
            Said::Text(user) => user,
            Said::Nothing => return Ok(Rank::Member),
            Said::Unreadable => {
                return Err(refusal(
                    self.fired,
                    "the role of the user cannot be looked up",
                ));
            }
        };
        let role = lookup::role(query, &user, Snapshot::Before(self.fired.command()))?;
        Ok(self.rank(role.as_deref()))
    }

    /// A user's role as a grant: in the actor's tenant only if the user is in no other.
    fn role_of(&self, row: pg_sys::HeapTuple, tenant: Option<&TenantId>) -> Result<Grant> {
        let role = self.text(row, &self.binding.role_column)?.text();
        let rank = self.rank(role.as_deref());
        if self.binding.membership.as_ref().map(|table| table.relation) == Some(self.table.relation)
        {
            // The row says itself whose it is.
            let kept = self.grant(row, tenant)?.kept;
            return Ok(Grant { rank, kept });
        }
        let user = self.text(row, &self.binding.role_user)?.text();
        let (Some(query), Some(user)) = (&self.binding.membership_query, user) else {
            return Ok(Grant {
                rank,
                kept: Kept::Elsewhere,
            });
        };
        let memberships = |query| {
            let snapshot = Snapshot::Before(self.fired.command());
            lookup::memberships(self.binding, query, &user, snapshot)
        };
        let in_tenant = |memberships: &Memberships| {
            !memberships.others
                && memberships
                    .named
                    .iter()
                    .all(|membership| Some(&membership.tenant) == tenant)
        };
        let active = memberships(query)?;
        let mut inside = !active.named.is_empty() && in_tenant(&active);
        if inside && let Some(query) = &self.binding.all_memberships_query {
            // One that does not count now may count again, and he would have the role there too.
            inside = in_tenant(&memberships(query)?);
        }
        Ok(Grant {
            rank,
            kept: if inside {
                Kept::InTenant
            } else {
                Kept::Elsewhere
            },
        })
    }
}

/// Keeps the generation honest for code that changes identity data without a trigger.
pub fn announce() {
    generation::note_own_change();
    if let Some(sentinel) = catalog::relation_oid("tenancy", "cache_sentinel") {
        // SAFETY: registers a message that Postgres sends at commit.
        unsafe { pg_sys::CacheInvalidateRelcacheByRelid(sentinel) };
    }
    // Whatever became of the registry's own trigger.
    if let Some(tables) = binding::registry_tables() {
        // SAFETY: as above.
        unsafe { pg_sys::CacheInvalidateRelcacheByRelid(tables.binding) };
    }
    generation::mark_binding_stale();
}
