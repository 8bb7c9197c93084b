//! Acting with other rights than the caller's, and only for the extension's own statements.
//!
//! Owns the switches of role and `search_path`. Must never run SQL that a caller wrote under a role
//! that the caller is not.

use std::ffi::CStr;

use pgrx::prelude::*;

use crate::catalog;
use crate::error::{Error, Kind, Result};
use crate::gucs;

/// While it lives, the backend acts as another role; ends on drop, an unwinding error included.
pub struct ActingRole {
    role: pg_sys::Oid,
    context: i32,
}

impl ActingRole {
    /// Acts as `role`: no `SET ROLE`, no deferred work, no row security forced on the owner, exactly
    /// as Postgres's foreign-key checks do.
    pub fn new(role: pg_sys::Oid) -> Self {
        Self::under(role, pg_sys::SECURITY_NOFORCE_RLS)
    }

    /// The same, with row security forced on owners wherever it is.
    pub fn bound(role: pg_sys::Oid) -> Self {
        Self::under(role, 0)
    }

    fn under(role: pg_sys::Oid, more: u32) -> Self {
        let mut saved = Self {
            role: pg_sys::InvalidOid,
            context: 0,
        };
        // SAFETY: plain reads and writes of the backend's identity; Postgres itself restores both
        // when a (sub)transaction aborts.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut saved.role, &mut saved.context);
            pg_sys::SetUserIdAndSecContext(
                role,
                saved.context
                    | (pg_sys::SECURITY_LOCAL_USERID_CHANGE
                        | pg_sys::SECURITY_RESTRICTED_OPERATION
                        | more) as i32,
            );
        }
        saved
    }
}

impl Drop for ActingRole {
    fn drop(&mut self) {
        // SAFETY: puts back what `new` read.
        unsafe { pg_sys::SetUserIdAndSecContext(self.role, self.context) };
    }
}

/// While it lives, `search_path` is `pg_catalog, pg_temp` and a backslash is a backslash, so that a
/// session reads stored SQL as it was checked; ends on drop.
pub struct PinnedSearchPath {
    nest_level: i32,
}

impl PinnedSearchPath {
    /// Pins the path, as `RestrictSearchPath()` of Postgres 17 does.
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// Pins what values are spelled by as well, so that they are spelled alike in every session.
    pub fn with_spelling() -> Self {
        Self::with(&[
            (c"TimeZone", c"UTC"),
            (c"DateStyle", c"ISO, MDY"),
            (c"IntervalStyle", c"postgres"),
            (c"extra_float_digits", c"1"),
            (c"bytea_output", c"hex"),
            (c"quote_all_identifiers", c"off"),
        ])
    }

    /// Leaves the caller's path, with `pg_catalog` in front of it: for expressions whose functions may
    /// depend on that path, and whose own names are Postgres's or qualified.
    pub fn before_callers() -> Self {
        // SAFETY: the setting is defined in every backend, and its value is copied.
        let callers = unsafe {
            catalog::string_from(pg_sys::GetConfigOption(
                c"search_path".as_ptr(),
                true,
                false,
            ))
        };
        let path = match callers.as_deref() {
            None | Some("") => "pg_catalog".to_owned(),
            Some(path) => format!("pg_catalog, {path}"),
        };
        Self::with(&[(c"search_path", &catalog::c_string(&path))])
    }

    /// The path is `pg_catalog` and then that schema, which need not exist.
    pub fn before_schema(schema: &str) -> Self {
        let path = format!("pg_catalog, {}, pg_temp", catalog::quote_identifier(schema));
        Self::with(&[(c"search_path", &catalog::c_string(&path))])
    }

    fn with(more: &[(&CStr, &CStr)]) -> Self {
        let path = [
            (c"search_path", c"pg_catalog, pg_temp"),
            (c"standard_conforming_strings", c"on"),
        ];
        // SAFETY: opens a level of settings that `drop` closes; Postgres closes it on abort.
        unsafe {
            let nest_level = pg_sys::NewGUCNestLevel();
            for (name, value) in path.iter().chain(more) {
                pg_sys::set_config_option(
                    name.as_ptr(),
                    value.as_ptr(),
                    pg_sys::GucContext::PGC_USERSET,
                    pg_sys::GucSource::PGC_S_SESSION,
                    pg_sys::GucAction::GUC_ACTION_SAVE,
                    true,
                    0,
                    false,
                );
            }
            Self { nest_level }
        }
    }
}

impl Drop for PinnedSearchPath {
    fn drop(&mut self) {
        // SAFETY: closes the level that `new` opened.
        unsafe { pg_sys::AtEOXact_GUC(false, self.nest_level) };
    }
}

/// `tenancy.database_identity()`.
#[pg_extern(sql = false)]
fn database_identity() -> pg_sys::Oid {
    catalog::database_identity()
}

/// The role that owns the extension and so its registry tables.
pub fn extension_owner() -> Result<pg_sys::Oid> {
    let table = catalog::relation_oid("tenancy", "binding_definition").ok_or_else(|| {
        Error::new(
            Kind::UndefinedObject,
            "extension \"pg_tenancy\" is not installed",
        )
        .hint("Run CREATE EXTENSION pg_tenancy.")
    })?;
    catalog::relation_owner(table)
}

/// Fails unless the caller owns the relation or is a member of a role in `pg_tenancy.admin_role`.
pub fn require_administrator(relation: pg_sys::Oid) -> Result<()> {
    if catalog::acts_as(catalog::relation_owner(relation)?) || is_administrator() {
        return Ok(());
    }
    let name = catalog::relation_name(relation)
        .map(|n| n.to_string())
        .unwrap_or_default();
    Err(Error::new(
        Kind::InsufficientPrivilege,
        format!("must be owner of table {name}"),
    )
    .hint("Ask the owner of the table, or a member of a role named in pg_tenancy.admin_role."))
}

/// Fails unless the caller owns the database or is an administrator; `why` is the DETAIL.
pub fn require_database_owner(why: &str) -> Result<()> {
    // SAFETY: a plain read of the backend's state.
    if administers_database(unsafe { pg_sys::GetUserId() }) {
        return Ok(());
    }
    Err(Error::new(
        Kind::InsufficientPrivilege,
        "must be owner of the database",
    )
    .detail(why)
    .hint("Ask the owner of the database, or a member of a role named in pg_tenancy.admin_role."))
}

/// Whether the caller is a superuser or a member of a role named in `pg_tenancy.admin_role`.
pub fn is_administrator() -> bool {
    // SAFETY: a plain read of the backend's state.
    administers(unsafe { pg_sys::GetUserId() })
}

/// Whether a role owns the database, or is an administrator.
pub fn administers_database(role: pg_sys::Oid) -> bool {
    administers(role)
        || catalog::database_owner().is_some_and(|owner| catalog::has_privileges(role, owner))
}

fn administers(role: pg_sys::Oid) -> bool {
    // SAFETY: a catalog lookup by oid.
    if unsafe { pg_sys::superuser_arg(role) } {
        return true;
    }
    gucs::admin_roles()
        .iter()
        .filter_map(|name| catalog::role_oid(name))
        .any(|admin| catalog::has_privileges(role, admin))
}

/// What the executor hook needs of a registered table.
pub struct ProtectionRow {
    pub schema: String,
    pub name: String,
    pub database: pg_sys::Oid,
    pub relation: pg_sys::Oid,
    pub mode: String,
    pub template: String,
    /// As JSON.
    pub options: String,
    pub tenant_column: String,
    /// As JSON; read for tables in shadow mode only.
    pub found: String,
    /// As JSON; read for tables in shadow mode only.
    pub made: String,
}

/// The rows of `tenancy.protection`, by a catalog scan: no SPI, no snapshot of the transaction.
pub fn protection_rows(table: pg_sys::Oid) -> Vec<ProtectionRow> {
    let mut rows = Vec::new();
    scan(table, |row| {
        let text = |name: &CStr| row.text(name).unwrap_or_default();
        let mode = text(c"mode");
        let of_shadow = |name: &CStr| {
            if mode == "shadow" {
                text(name)
            } else {
                String::new()
            }
        };
        rows.push(ProtectionRow {
            schema: text(c"schema_name"),
            name: text(c"table_name"),
            database: row.oid(c"database_identity"),
            relation: row.oid(c"relation_oid"),
            template: text(c"template"),
            options: text(c"options"),
            tenant_column: text(c"tenant_column"),
            found: of_shadow(c"found"),
            made: of_shadow(c"made"),
            mode,
        });
    });
    rows
}

/// A row of one of the registry's own tables.
pub struct Row {
    tuple: pg_sys::HeapTuple,
    relation: pg_sys::Relation,
}

impl Row {
    /// The column's value and type; `None` for NULL and for a column that is not there.
    fn value(&self, name: &CStr) -> Option<(pg_sys::Datum, pg_sys::Oid)> {
        // SAFETY: tuple and relation are open while the row is read.
        unsafe {
            let number = pg_sys::get_attnum((*self.relation).rd_id, name.as_ptr());
            if number <= 0 {
                return None;
            }
            let mut is_null = false;
            let description = (*self.relation).rd_att;
            let datum =
                pg_sys::heap_getattr(self.tuple, i32::from(number), description, &mut is_null);
            (!is_null).then(|| (datum, pg_sys::get_atttype((*self.relation).rd_id, number)))
        }
    }

    /// The column as text, by its type's output function.
    pub fn text(&self, name: &CStr) -> Option<String> {
        let (datum, type_oid) = self.value(name)?;
        // SAFETY: a value of that type.
        unsafe { catalog::spelled(datum, type_oid) }
    }

    /// The column as an oid.
    pub fn oid(&self, name: &CStr) -> pg_sys::Oid {
        self.value(name)
            // Postgres extends the sign of four bytes that it reads from a row.
            .map_or(pg_sys::InvalidOid, |(datum, _)| {
                pg_sys::Oid::from(datum.value() as u32)
            })
    }
}

/// Reads a registry table through a catalog snapshot.
///
/// A serializable transaction must not notice: a scan with an MVCC snapshot would put predicate
/// locks on the registry, and a change of it could then make an application's transaction fail. So
/// the scan returns every row version, and which are visible is asked of the snapshot beside it.
pub fn scan(table: pg_sys::Oid, mut each: impl FnMut(&Row)) {
    // SAFETY: opened and closed here; an error in between is cleaned up by Postgres's resource owner.
    unsafe {
        let lock = pg_sys::AccessShareLock as i32;
        let relation = pg_sys::table_open(table, lock);
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetCatalogSnapshot(table));
        let scan = pg_sys::systable_beginscan(
            relation,
            pg_sys::InvalidOid,
            false,
            &raw mut pg_sys::SnapshotAnyData,
            0,
            core::ptr::null_mut(),
        );
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            if pg_sys::table_tuple_satisfies_snapshot(relation, (*scan).slot, snapshot) {
                each(&Row { tuple, relation });
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::UnregisterSnapshot(snapshot);
        pg_sys::table_close(relation, lock);
    }
}
