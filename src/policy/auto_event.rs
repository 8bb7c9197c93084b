//! What a command may have done to the set of tables that need protection.
//!
//! Owns the event trigger's function and its reading of the parse tree, so that a command that cannot
//! matter (most of ALTER TABLE, the extension's own statements included) costs nothing more. Must never
//! believe a name in the parse tree: the catalog says which tables are concerned.

use pgrx::PgList;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::auto_apply;
use crate::catalog;
use crate::error::OrRaise;

/// What a command may have done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// Made tables, or moved one into another schema.
    pub arrived: bool,
    /// Gave a table columns of these names.
    pub columns: Vec<String>,
    /// Made tables partitions or children of another.
    pub attached: bool,
    /// What the names of detached partitions mean now.
    pub detached: Vec<u32>,
    /// Ended the inheritance of the table it names.
    pub disinherited: bool,
}

#[doc(hidden)]
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_pg_tenancy_protect_new_tables() -> &'static pg_sys::Pg_finfo_record {
    const VERSION_1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &VERSION_1
}

/// `tenancy.protect_new_tables()`, the event trigger's function.
///
/// # Safety
/// Called by Postgres with a valid call frame.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn pg_tenancy_protect_new_tables(
    frame: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: an event trigger's call has an EventTriggerData node as its context, whose parse tree
    // lives during the call.
    let event = unsafe {
        let context = (*frame).context;
        // What a script of an extension makes belongs to the extension.
        if pg_sys::creating_extension
            || context.is_null()
            || (*context).type_ != pg_sys::NodeTag::T_EventTriggerData
        {
            None
        } else {
            event((*context.cast::<pg_sys::EventTriggerData>()).parsetree)
        }
    };
    if let Some(event) = event {
        auto_apply::protect(&event).or_raise();
    }
    pg_sys::Datum::from(0)
}

/// # Safety
/// `tree` is null or a valid parse tree.
unsafe fn event(tree: *mut pg_sys::Node) -> Option<Event> {
    use pg_sys::NodeTag as T;
    if tree.is_null() {
        return None;
    }
    // SAFETY: each cast follows the node's tag.
    let event = unsafe {
        match (*tree).type_ {
            T::T_CreateStmt
            | T::T_CreateTableAsStmt
            | T::T_CreateForeignTableStmt
            | T::T_ImportForeignSchemaStmt
            | T::T_CreateSchemaStmt
            | T::T_AlterObjectSchemaStmt => Event {
                arrived: true,
                ..Event::default()
            },
            T::T_RenameStmt => {
                let statement = tree.cast::<pg_sys::RenameStmt>();
                let mut event = Event::default();
                if (*statement).renameType == pg_sys::ObjectType::OBJECT_COLUMN {
                    event
                        .columns
                        .extend(catalog::string_from((*statement).newname));
                }
                event
            }
            T::T_AlterTableStmt => altered((*tree.cast::<pg_sys::AlterTableStmt>()).cmds),
            _ => Event::default(),
        }
    };
    (event != Event::default()).then_some(event)
}

/// # Safety
/// `commands` is a list of `AlterTableCmd` nodes.
unsafe fn altered(commands: *mut pg_sys::List) -> Event {
    use pg_sys::AlterTableType as A;
    let mut event = Event::default();
    // SAFETY: by the caller's promise; ADD COLUMN carries a ColumnDef, DETACH PARTITION a PartitionCmd
    // with a name.
    unsafe {
        for command in PgList::<pg_sys::AlterTableCmd>::from_pg(commands).iter_ptr() {
            match (*command).subtype {
                A::AT_AddColumn => {
                    let column = (*command).def.cast::<pg_sys::ColumnDef>();
                    if !column.is_null() {
                        event
                            .columns
                            .extend(catalog::string_from((*column).colname));
                    }
                }
                A::AT_AttachPartition | A::AT_AddInherit => event.attached = true,
                A::AT_DetachPartition | A::AT_DetachPartitionFinalize => {
                    let partition = (*command).def.cast::<pg_sys::PartitionCmd>();
                    let relation = pg_sys::RangeVarGetRelidExtended(
                        (*partition).name,
                        pg_sys::NoLock as i32,
                        pg_sys::RVROption::RVR_MISSING_OK,
                        None,
                        core::ptr::null_mut(),
                    );
                    event.detached.push(relation.to_u32());
                }
                A::AT_DropInherit => event.disinherited = true,
                _ => {}
            }
        }
    }
    event
}
