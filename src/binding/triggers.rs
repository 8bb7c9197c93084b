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
const INVALIDATE_DOCUMENT: &str = "tenancy_document";

/// A trigger of ours: its name, when it fires, its function, and whether replication fires it.
struct Trigger {
    name: &'static str,
    timing: &'static str,
    function: &'static str,
    always: bool,
}

const fn trigger(
    name: &'static str,
    timing: &'static str,
    function: &'static str,
    always: bool,
) -> Trigger {
    Trigger {
        name,
        timing,
        function,
        always,
    }
}

const BEFORE_ROW: &str = "BEFORE INSERT OR UPDATE OR DELETE";
const BEFORE_TRUNCATE: &str = "BEFORE TRUNCATE";
#[rustfmt::skip]
const OF_BOUND_TABLES: [Trigger; 4] = [
    trigger(INVALIDATE, BEFORE_ROW, "invalidate_context", true),
    trigger(INVALIDATE_TRUNCATE, BEFORE_TRUNCATE, "invalidate_context", true),
    trigger("tenancy_identity_guard", "AFTER INSERT OR UPDATE OR DELETE", "guard_identity", false),
    trigger("tenancy_identity_guard_truncate", BEFORE_TRUNCATE, "guard_identity", false),
];
#[rustfmt::skip]
const OF_SOURCES: [Trigger; 2] = [
    trigger(INVALIDATE_DOCUMENT, BEFORE_ROW, "invalidate_document", true),
    trigger("tenancy_document_truncate", BEFORE_TRUNCATE, "invalidate_document", true),
];

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

/// Whether every change to any of the sources of the document announces itself.
pub fn all_announce_documents(relations: &[pg_sys::Oid]) -> bool {
    let always = |fires| fires == pg_sys::TRIGGER_FIRES_ALWAYS;
    all_fire(relations, c"invalidate_document", always)
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

/// Whether a table's triggers call the guard for rows that were written, whatever the binding says.
///
/// # Safety
/// `description` is null or a valid description of a table's triggers.
pub unsafe fn calls_guard(description: *const pg_sys::TriggerDesc) -> bool {
    // SAFETY: by the caller's promise; catalog lookups by oid, whose results are copies or null.
    unsafe {
        let Some(description) = description.as_ref() else {
            return false;
        };
        let count = usize::try_from(description.numtriggers).unwrap_or(0);
        let triggers = core::slice::from_raw_parts(description.triggers, count);
        let of_guard = |function| {
            catalog::string_from(pg_sys::get_func_name(function)).as_deref()
                == Some("guard_identity")
                && catalog::string_from(pg_sys::get_namespace_name(pg_sys::get_func_namespace(
                    function,
                )))
                .as_deref()
                    == Some("tenancy")
        };
        triggers.iter().any(|trigger| {
            let kind = trigger.tgtype as u32;
            let after_row = kind & pg_sys::TRIGGER_TYPE_ROW != 0
                && kind & (pg_sys::TRIGGER_TYPE_BEFORE | pg_sys::TRIGGER_TYPE_INSTEAD) == 0;
            let of_a_constraint = trigger.tgconstraint != pg_sys::InvalidOid;
            after_row && !of_a_constraint && of_guard(trigger.tgfoid)
        })
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

/// Makes the triggers of a bound table.
pub fn install(relation: pg_sys::Oid) -> Result<()> {
    make(relation, &OF_BOUND_TABLES)
}

/// Makes the triggers of a source of the document.
pub fn install_on_source(relation: pg_sys::Oid) -> Result<()> {
    make(relation, &OF_SOURCES)
}

/// On inheritance children too: triggers are cloned to partitions only. Takes SHARE ROW EXCLUSIVE.
fn make(relation: pg_sys::Oid, triggers: &[Trigger]) -> Result<()> {
    on_each(relation, |name| {
        let mut statements = Vec::new();
        for trigger in triggers {
            let trigger_name = quote_identifier(trigger.name);
            let Trigger {
                timing, function, ..
            } = trigger;
            let level = if *timing == BEFORE_TRUNCATE {
                "STATEMENT"
            } else {
                "ROW"
            };
            let always = if trigger.always { "ALWAYS " } else { "" };
            statements.extend([
                format!(
                    "CREATE OR REPLACE TRIGGER {trigger_name} {timing} ON {name} FOR EACH {level} EXECUTE FUNCTION tenancy.{function}()"
                ),
                format!("ALTER TABLE {name} ENABLE {always}TRIGGER {trigger_name}"),
                format!("ALTER TRIGGER {trigger_name} ON {name} DEPENDS ON EXTENSION pg_tenancy"),
            ]);
        }
        statements
    })
}

fn on_each(
    relation: pg_sys::Oid,
    statements: impl Fn(&catalog::RelationName) -> Vec<String>,
) -> Result<()> {
    for member in with_children(relation) {
        // SAFETY: a catalog lookup by oid.
        let is_partition = unsafe { pg_sys::get_rel_relispartition(member) };
        if is_partition && member != relation {
            continue;
        }
        run_as_owner(member, &statements(&name_of(member)?))?;
    }
    Ok(())
}

/// Puts the registry's own triggers back in force: `pg_restore --disable-triggers` leaves them as
/// triggers that replication does not fire.
pub fn mend_registry(tables: &RegistryTables) -> Result<()> {
    let registry = [
        (Some(tables.binding), &[INVALIDATE][..]),
        (Some(tables.protection), &[INVALIDATE]),
        (
            catalog::relation_oid("tenancy", "service_roles"),
            &[INVALIDATE, INVALIDATE_TRUNCATE],
        ),
    ];
    for (table, triggers) in registry {
        if let Some(table) = table
            && !all_announce(&[table])
        {
            let name = name_of(table)?;
            let statements: Vec<_> = triggers
                .iter()
                .map(|trigger| format!("ALTER TABLE {name} ENABLE ALWAYS TRIGGER {trigger}"))
                .collect();
            run_as_owner(table, &statements)?;
        }
    }
    if let Some(registrations) = catalog::relation_oid("tenancy", "context_registration") {
        mend_registrations(registrations)?;
    }
    Ok(())
}

/// The same for the registry of the document.
pub fn mend_registrations(table: pg_sys::Oid) -> Result<()> {
    if !all_announce_documents(&[table]) {
        let name = name_of(table)?;
        let statement = format!("ALTER TABLE {name} ENABLE ALWAYS TRIGGER {INVALIDATE_DOCUMENT}");
        run_as_owner(table, &[statement])?;
    }
    Ok(())
}

/// Drops the triggers of a table that is no longer bound.
pub fn remove(relation: pg_sys::Oid) -> Result<()> {
    drop_all(relation, &OF_BOUND_TABLES)
}

/// Drops the triggers of a table that is no longer a source of the document.
pub fn remove_from_source(relation: pg_sys::Oid) -> Result<()> {
    drop_all(relation, &OF_SOURCES)
}

fn drop_all(relation: pg_sys::Oid, triggers: &[Trigger]) -> Result<()> {
    on_each(relation, |name| {
        let names = triggers
            .iter()
            .map(|trigger| quote_identifier(trigger.name));
        names
            .map(|trigger| format!("DROP TRIGGER IF EXISTS {trigger} ON {name}"))
            .collect()
    })
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
