//! Names, owners and kinds of catalog objects.
//!
//! Owns quoting (Postgres's own) and name resolution that does not depend on `search_path`. Must
//! never cache: the catalog caches of Postgres do that and know when to forget.

use std::ffi::{CStr, CString};
use std::fmt;

use pgrx::pg_sys;

use crate::error::{Error, Kind, Result};

/// A relation by schema and name, as stored in the registry. Displays quoted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationName {
    pub schema: String,
    pub name: String,
}

impl fmt::Display for RelationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{}",
            quote_identifier(&self.schema),
            quote_identifier(&self.name)
        )
    }
}

/// A C string for a name that cannot hold a NUL, because it came from Postgres or was checked.
pub fn c_string(text: &str) -> CString {
    let until_nul = text.split('\0').next().unwrap_or_default();
    CString::new(until_nul).unwrap_or_default()
}

/// Copies a C string that Postgres returned; `None` for a null pointer.
///
/// # Safety
/// `pointer` is null or a NUL-terminated string that lives during the call.
pub unsafe fn string_from(pointer: *const core::ffi::c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: not null, NUL-terminated by the caller's promise.
    Some(
        unsafe { CStr::from_ptr(pointer) }
            .to_string_lossy()
            .into_owned(),
    )
}

/// A value as its type's output function spells it.
///
/// # Safety
/// `value` is of that type, and not null.
pub unsafe fn spelled(value: pg_sys::Datum, type_oid: pg_sys::Oid) -> Option<String> {
    let (mut output, mut is_varlena) = (pg_sys::InvalidOid, false);
    // SAFETY: by the caller's promise.
    unsafe {
        pg_sys::getTypeOutputInfo(type_oid, &mut output, &mut is_varlena);
        string_from(pg_sys::OidOutputFunctionCall(output, value))
    }
}

/// Quotes an identifier as Postgres does, only where it needs it.
pub fn quote_identifier(name: &str) -> String {
    let name = c_string(name);
    // SAFETY: a NUL-terminated string; the result is it or a palloc'd copy.
    unsafe { string_from(pg_sys::quote_identifier(name.as_ptr())) }.unwrap_or_default()
}

/// SQL that spells a value as text, null as null, and runs nobody's code: a cast of a type that did not come with
/// Postgres may be any function of whoever made the type.
pub fn as_text(value: &str) -> String {
    format!("CASE WHEN {value} IS DISTINCT FROM NULL THEN pg_catalog.format('%s', {value}) END")
}

/// Schema and name of a relation; `None` when it is gone.
pub fn relation_name(relation: pg_sys::Oid) -> Option<RelationName> {
    // SAFETY: catalog lookups by oid; null for what does not exist.
    unsafe {
        let name = string_from(pg_sys::get_rel_name(relation))?;
        let schema = string_from(pg_sys::get_namespace_name(pg_sys::get_rel_namespace(
            relation,
        )))?;
        Some(RelationName { schema, name })
    }
}

/// The relation of that name, whatever `search_path` says; `None` when there is none.
pub fn relation_oid(schema: &str, name: &str) -> Option<pg_sys::Oid> {
    let (schema, name) = (c_string(schema), c_string(name));
    // SAFETY: catalog lookups by name.
    let oid = unsafe {
        let namespace = pg_sys::get_namespace_oid(schema.as_ptr(), true);
        if namespace == pg_sys::InvalidOid {
            return None;
        }
        pg_sys::get_relname_relid(name.as_ptr(), namespace)
    };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// What this database is known by: its oid alone is another's in another cluster, where the first database that is
/// made mostly has the same one. Never `InvalidOid`. Mixed by the finalizer of SplitMix64 (Steele, Lea, Flood 2014).
pub fn database_identity() -> pg_sys::Oid {
    // SAFETY: plain reads of what is set before any user code runs in a backend.
    let (system, database) =
        unsafe { (pg_sys::GetSystemIdentifier(), pg_sys::MyDatabaseId.to_u32()) };
    let mut mixed = system ^ u64::from(database).rotate_left(32);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    pg_sys::Oid::from(((mixed >> 32) as u32).max(1))
}

/// The relation that a registry row means: by oid in the database that wrote it, whatever the relation is called now and
/// whatever has its name; else, since a restore gives new oids, by name.
pub fn registered_relation(
    name: &RelationName,
    relation: pg_sys::Oid,
    database: pg_sys::Oid,
) -> Option<pg_sys::Oid> {
    if database == database_identity() && relation_kind(relation).is_some() {
        return Some(relation);
    }
    relation_oid(&name.schema, &name.name)
}

/// The `relkind` of a relation; `None` when it is gone.
pub fn relation_kind(relation: pg_sys::Oid) -> Option<u8> {
    // SAFETY: a catalog lookup by oid; 0 for what does not exist.
    let kind = unsafe { pg_sys::get_rel_relkind(relation) } as u8;
    (kind != 0).then_some(kind)
}

/// Who owns the relation.
pub fn relation_owner(relation: pg_sys::Oid) -> Result<pg_sys::Oid> {
    // SAFETY: the tuple is released before returning; GETSTRUCT of a pg_class tuple is a
    // FormData_pg_class.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::RELOID as i32,
            pg_sys::Datum::from(relation),
        );
        if tuple.is_null() {
            return Err(Error::new(
                Kind::UndefinedTable,
                "the relation does not exist",
            ));
        }
        let owner = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>()).relowner;
        pg_sys::ReleaseSysCache(tuple);
        Ok(owner)
    }
}

/// Who owns the current database.
pub fn database_owner() -> Option<pg_sys::Oid> {
    // SAFETY: a catalog lookup by oid; the tuple is released before returning.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::DATABASEOID as i32,
            pg_sys::Datum::from(pg_sys::MyDatabaseId),
        );
        if tuple.is_null() {
            return None;
        }
        let owner = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>()).datdba;
        pg_sys::ReleaseSysCache(tuple);
        Some(owner)
    }
}

/// The name of a role, for messages.
pub fn role_name(role: pg_sys::Oid) -> String {
    // SAFETY: a catalog lookup; null when missing is allowed.
    unsafe { string_from(pg_sys::GetUserNameFromId(role, true)) }.unwrap_or_default()
}

/// The name of the acting role; asked before another role acts.
pub fn current_role_name() -> String {
    // SAFETY: a plain read of the backend's state.
    role_name(unsafe { pg_sys::GetUserId() })
}

/// The role of that name; `None` when there is none.
pub fn role_oid(name: &str) -> Option<pg_sys::Oid> {
    let name = c_string(name);
    // SAFETY: a catalog lookup by name.
    let oid = unsafe { pg_sys::get_role_oid(name.as_ptr(), true) };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// Whether the acting role may do all that `owner` may (superusers may).
pub fn acts_as(owner: pg_sys::Oid) -> bool {
    // SAFETY: a plain read of the backend's state.
    has_privileges(unsafe { pg_sys::GetUserId() }, owner)
}

/// The owner of a function, an operator or a type; `None` when it is gone.
pub fn owner_of(catalog: pg_sys::Oid, object: pg_sys::Oid) -> Option<pg_sys::Oid> {
    use pg_sys::SysCacheIdentifier as C;
    let cache = match catalog {
        pg_sys::ProcedureRelationId => C::PROCOID,
        pg_sys::OperatorRelationId => C::OPEROID,
        _ => C::TYPEOID,
    };
    // SAFETY: a catalog lookup by oid; a row is read as what its catalog holds, and released.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(cache as i32, pg_sys::Datum::from(object));
        if tuple.is_null() {
            return None;
        }
        let row = pg_sys::GETSTRUCT(tuple);
        let owner = match catalog {
            pg_sys::ProcedureRelationId => (*row.cast::<pg_sys::FormData_pg_proc>()).proowner,
            pg_sys::OperatorRelationId => (*row.cast::<pg_sys::FormData_pg_operator>()).oprowner,
            _ => (*row.cast::<pg_sys::FormData_pg_type>()).typowner,
        };
        pg_sys::ReleaseSysCache(tuple);
        Some(owner)
    }
}

/// The type that a domain is over; `InvalidOid` for what is none.
pub fn domain_over(type_oid: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: a catalog lookup by oid; the tuple is released before returning.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::TYPEOID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(type_oid));
        if tuple.is_null() {
            return pg_sys::InvalidOid;
        }
        let over = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_type>()).typbasetype;
        pg_sys::ReleaseSysCache(tuple);
        over
    }
}

/// Has `callback` called whenever something that one of the caches holds has changed; for the life of the backend.
pub fn call_on_change(
    caches: &[pg_sys::SysCacheIdentifier::Type],
    callback: unsafe extern "C-unwind" fn(pg_sys::Datum, i32, pg_sys::uint32),
) {
    for cache in caches {
        // SAFETY: a static function of the right type, and a cache that this server has.
        unsafe {
            pg_sys::CacheRegisterSyscacheCallback(
                *cache as i32,
                Some(callback),
                pg_sys::Datum::from(0usize),
            );
        }
    }
}

/// Whether a role may do all that `owner` may (superusers may).
pub fn has_privileges(role: pg_sys::Oid, owner: pg_sys::Oid) -> bool {
    // SAFETY: catalog lookups by oid.
    unsafe { pg_sys::has_privs_of_role(role, owner) }
}

/// A relation of schema `tenancy`, if the extension made it: anybody may create a schema of that name where the
/// extension is not installed.
pub fn own_relation(name: &str) -> Option<pg_sys::Oid> {
    let relation = relation_oid("tenancy", name)?;
    // SAFETY: catalog lookups by name and oid.
    let is_ours = unsafe {
        let extension = pg_sys::get_extension_oid(c"pg_tenancy".as_ptr(), true);
        extension != pg_sys::InvalidOid
            && pg_sys::getExtensionOfObject(pg_sys::RelationRelationId, relation) == extension
    };
    is_ours.then_some(relation)
}
