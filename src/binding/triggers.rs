//! The triggers on bound tables: one announces changes, one guards identity columns.
//!
//! Owns their names, their creation and the check that they are in force. Row triggers and ENABLE
//! ALWAYS: logical replication fires those and no others.

use pgrx::prelude::*;
use pgrx::{PgList, Spi};

use super::RegistryTables;
use crate::catalog::{self, quote_identifier};
use crate::error::{Error, Kind, Result};
use crate::registry::{ActingRole, PinnedSearchPath};

const INVALIDATE: &str = "tenancy_invalidate";
const INVALIDATE_TRUNCATE: &str = "tenancy_invalidate_truncate";
const GUARD: &str = "tenancy_identity_guard";
const GUARD_TRUNCATE: &str = "tenancy_identity_guard_truncate";

/// The relation with its partitions and inheritance children.
pub fn with_children(relation: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    // SAFETY: takes the lock that reading the relations takes; the result is a list of oids.
    unsafe {
        let list = pg_sys::find_all_inheritors(
            relation,
            pg_sys::AccessShareLock as i32,
            core::ptr::null_mut(),
        );
        PgList::<pg_sys::Oid>::from_pg(list).iter_oid().collect()
    }
}

/// Whether every change to any of the tables announces itself.
pub fn all_announce(relations: &[pg_sys::Oid]) -> bool {
    let always = |fires| fires == pg_sys::TRIGGER_FIRES_ALWAYS;
    all_fire(relations, c"invalidate_context", always)
}

/// Whether identity is guarded in all of the tables. Replication is exempt.
pub fn all_guard(relations: &[pg_sys::Oid]) -> bool {
    let fires =
        |fires| fires == pg_sys::TRIGGER_FIRES_ALWAYS || fires == pg_sys::TRIGGER_FIRES_ON_ORIGIN;
    all_fire(relations, c"guard_identity", fires)
}

fn all_fire(
    relations: &[pg_sys::Oid],
    function: &core::ffi::CStr,
    is_in_force: impl Fn(u8) -> bool,
) -> bool {
    let Some(function) = trigger_function(function) else {
        return false;
    };
    relations
        .iter()
        .all(|relation| fires(*relation, function, &is_in_force))
}

fn fires(relation: pg_sys::Oid, function: pg_sys::Oid, is_in_force: &impl Fn(u8) -> bool) -> bool {
    let changes =
        pg_sys::TRIGGER_TYPE_INSERT | pg_sys::TRIGGER_TYPE_UPDATE | pg_sys::TRIGGER_TYPE_DELETE;
    // A foreign table changes where no trigger of ours runs.
    if !matches!(
        catalog::relation_kind(relation),
        Some(pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE)
    ) {
        return false;
    }
    // SAFETY: the relation is open while its trigger description is read.
    unsafe {
        let lock = pg_sys::AccessShareLock as i32;
        let open = pg_sys::table_open(relation, lock);
        let description = (*open).trigdesc;
        let mut covered = 0;
        if !description.is_null() {
            let count = usize::try_from((*description).numtriggers).unwrap_or(0);
            for trigger in core::slice::from_raw_parts((*description).triggers, count) {
                let fires = is_in_force(trigger.tgenabled as u8)
                    && trigger.tgqual.is_null()
                    && trigger.tgnattr == 0;
                if trigger.tgfoid == function
                    && fires
                    && trigger.tgtype as u32 & pg_sys::TRIGGER_TYPE_ROW != 0
                {
                    covered |= trigger.tgtype as u32 & changes;
                }
            }
        }
        pg_sys::table_close(open, pg_sys::NoLock as i32);
        covered == changes
    }
}

fn trigger_function(name: &core::ffi::CStr) -> Option<pg_sys::Oid> {
    // SAFETY: builds a two-part name in the current memory context and looks it up.
    let function = unsafe {
        let mut names = PgList::<pg_sys::Node>::new();
        for part in [c"tenancy", name] {
            names.push(pg_sys::makeString(pg_sys::pstrdup(part.as_ptr())).cast());
        }
        pg_sys::LookupFuncName(names.into_pg(), 0, core::ptr::null(), true)
    };
    (function != pg_sys::InvalidOid).then_some(function)
}

/// Makes the triggers of a bound table, on inheritance children too: they are cloned to partitions
/// only. Takes SHARE ROW EXCLUSIVE on tables where they are missing or not in force.
pub fn install(relation: pg_sys::Oid) -> Result<()> {
    for member in with_children(relation) {
        // SAFETY: a catalog lookup by oid.
        let is_partition = unsafe { pg_sys::get_rel_relispartition(member) };
        if is_partition && member != relation {
            continue;
        }
        let name = name_of(member)?;
        let mut statements = Vec::new();
        for (trigger, timing, function) in [
            (
                INVALIDATE,
                "BEFORE INSERT OR UPDATE OR DELETE",
                "invalidate_context",
            ),
            (INVALIDATE_TRUNCATE, "BEFORE TRUNCATE", "invalidate_context"),
            (GUARD, "AFTER INSERT OR UPDATE OR DELETE", "guard_identity"),
            (GUARD_TRUNCATE, "BEFORE TRUNCATE", "guard_identity"),
        ] {
            let trigger_name = quote_identifier(trigger);
            let level = if timing == "BEFORE TRUNCATE" {
                "STATEMENT"
            } else {
                "ROW"
            };
            statements.push(format!(
                "CREATE OR REPLACE TRIGGER {trigger_name} {timing} ON {name} FOR EACH {level} EXECUTE FUNCTION tenancy.{function}()"
            ));
            if function == "invalidate_context" {
                statements.push(format!(
                    "ALTER TABLE {name} ENABLE ALWAYS TRIGGER {trigger_name}"
                ));
            } else {
                statements.push(format!("ALTER TABLE {name} ENABLE TRIGGER {trigger_name}"));
            }
            statements.push(format!(
                "ALTER TRIGGER {trigger_name} ON {name} DEPENDS ON EXTENSION pg_tenancy"
            ));
        }
        run_as_owner(member, &statements)?;
    }
    Ok(())
}

/// Puts the registry's own triggers back in force: `pg_restore --disable-triggers` leaves them as
/// triggers that replication does not fire.
pub fn mend_registry(tables: &RegistryTables) -> Result<()> {
    for table in [tables.binding, tables.protection] {
        if !all_announce(&[table]) {
            let name = name_of(table)?;
            let statement = format!("ALTER TABLE {name} ENABLE ALWAYS TRIGGER {INVALIDATE}");
            run_as_owner(table, &[statement])?;
        }
    }
    Ok(())
}

/// Drops the triggers of a table that is no longer bound.
pub fn remove(relation: pg_sys::Oid) -> Result<()> {
    for member in with_children(relation) {
        // SAFETY: a catalog lookup by oid.
        let is_partition = unsafe { pg_sys::get_rel_relispartition(member) };
        if is_partition && member != relation {
            continue;
        }
        let name = name_of(member)?;
        let statements: Vec<_> = [INVALIDATE, INVALIDATE_TRUNCATE, GUARD, GUARD_TRUNCATE]
            .iter()
            .map(|trigger| {
                format!(
                    "DROP TRIGGER IF EXISTS {} ON {name}",
                    quote_identifier(trigger)
                )
            })
            .collect();
        run_as_owner(member, &statements)?;
    }
    Ok(())
}

fn name_of(relation: pg_sys::Oid) -> Result<catalog::RelationName> {
    catalog::relation_name(relation)
        .ok_or_else(|| Error::new(Kind::UndefinedTable, "the bound relation does not exist"))
}

fn run_as_owner(relation: pg_sys::Oid, statements: &[String]) -> Result<()> {
    let _path = PinnedSearchPath::new();
    let _role = ActingRole::new(catalog::relation_owner(relation)?);
    Spi::connect_mut(|client| {
        for statement in statements {
            client.update(statement, None, &[]).map_err(|fault| {
                Error::new(
                    Kind::Internal,
                    format!("a trigger cannot be changed: {fault}"),
                )
            })?;
        }
        Ok(())
    })
}
