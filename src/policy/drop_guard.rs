//! `DROP EXTENSION pg_tenancy CASCADE` leaves protected tables closed, not open.
//!
//! The policies go with the functions that they call, and what a user's own permissive policy shows
//! would then be shown of every tenant. Owns the event trigger that puts a policy nobody passes on
//! each enforced table first. Must never act on any other command, nor for a caller who may not drop
//! the extension: his command fails by itself.

use pgrx::list::List;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::apply;
use super::inspect;
use super::names;
use super::plan::{Plan, Statement};
use super::render::{self, Target};
use super::spi;
use super::store;
use crate::catalog;
use crate::error::{OrRaise, Result};

#[doc(hidden)]
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_close_before_drop() -> &'static pg_sys::Pg_finfo_record {
    const VERSION_1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &VERSION_1
}

/// `tenancy.close_before_drop()`, the event trigger's function.
///
/// # Safety
/// Called by Postgres with a valid call frame.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn close_before_drop(
    frame: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: an event trigger's call has an EventTriggerData node as its context, whose parse tree
    // lives during the call.
    let drops_us = unsafe {
        let context = (*frame).context;
        !context.is_null()
            && (*context).type_ == pg_sys::NodeTag::T_EventTriggerData
            && drops_extension((*context.cast::<pg_sys::EventTriggerData>()).parsetree)
    };
    if drops_us {
        close().or_raise();
    }
    pg_sys::Datum::from(0)
}

/// Whether the command takes the extension with it by CASCADE.
///
/// # Safety
/// `tree` is null or a valid parse tree.
unsafe fn drops_extension(tree: *mut pg_sys::Node) -> bool {
    if tree.is_null() {
        return false;
    }
    // SAFETY: each cast follows the node's tag.
    unsafe {
        match (*tree).type_ {
            pg_sys::NodeTag::T_DropStmt => {
                let statement = tree.cast::<pg_sys::DropStmt>();
                if (*statement).behavior != pg_sys::DropBehavior::DROP_CASCADE {
                    return false;
                }
                let named = names_of((*statement).objects);
                match (*statement).removeType {
                    pg_sys::ObjectType::OBJECT_EXTENSION => {
                        named.iter().any(|name| name == "pg_tenancy")
                    }
                    pg_sys::ObjectType::OBJECT_SCHEMA => {
                        extension_home().is_some_and(|(schema, _)| named.contains(&schema))
                    }
                    _ => false,
                }
            }
            pg_sys::NodeTag::T_DropOwnedStmt => {
                let statement = tree.cast::<pg_sys::DropOwnedStmt>();
                (*statement).behavior == pg_sys::DropBehavior::DROP_CASCADE
                    && extension_home().is_some_and(|(_, owner)| owns((*statement).roles, owner))
            }
            _ => false,
        }
    }
}

/// The last part of every name in a list of `String` nodes.
///
/// # Safety
/// `list` is null or a list of nodes.
unsafe fn names_of(list: *mut pg_sys::List) -> Vec<String> {
    // SAFETY: every element is a node; extensions and schemas are plain strings.
    unsafe {
        nodes_of(list)
            .into_iter()
            .filter(|node| (**node).type_ == pg_sys::NodeTag::T_String)
            .filter_map(|node| catalog::string_from((*node.cast::<pg_sys::String>()).sval))
            .collect()
    }
}

/// # Safety
/// `list` is null or a list of pointers to nodes.
unsafe fn nodes_of(list: *mut pg_sys::List) -> Vec<*mut pg_sys::Node> {
    pgrx::memcx::current_context(|memory| {
        // SAFETY: by the caller's promise.
        unsafe { List::<*mut core::ffi::c_void>::downcast_ptr_in_memcx(list, memory) }
            .map(|list| {
                list.iter()
                    .map(|pointer| pointer.cast::<pg_sys::Node>())
                    .collect()
            })
            .unwrap_or_default()
    })
}

/// # Safety
/// `roles` is null or a list of `RoleSpec` nodes.
unsafe fn owns(roles: *mut pg_sys::List, owner: pg_sys::Oid) -> bool {
    // SAFETY: by the caller's promise.
    unsafe {
        nodes_of(roles)
            .into_iter()
            .any(|role| pg_sys::get_rolespec_oid(role.cast::<pg_sys::RoleSpec>(), true) == owner)
    }
}

/// Schema and owner of the extension.
fn extension_home() -> Option<(String, pg_sys::Oid)> {
    let home: Option<(String, u32)> = spi::row(
        "SELECT pg_catalog.jsonb_build_array(n.nspname, e.extowner::pg_catalog.int8)::pg_catalog.text
         FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
         WHERE e.extname = 'pg_tenancy'",
        &[],
    )
    .or_raise();
    home.map(|(schema, owner)| (schema, pg_sys::Oid::from(owner)))
}

fn close() -> Result<()> {
    if !extension_home().is_some_and(|(_, owner)| catalog::acts_as(owner)) {
        return Ok(());
    }
    apply::see_own_changes();
    for (relation, row) in store::all()? {
        if row.mode != "enforce" {
            continue;
        }
        let facts = { inspect::facts(relation, &row.tenant_column)? };
        let Some(facts) = facts else { continue };
        let target = Target {
            schema: facts.schema.clone(),
            table: facts.name.clone(),
            column: row.tenant_column.clone(),
        };
        let mut plan = Plan::default();
        if !facts
            .policies
            .iter()
            .any(|policy| policy.name == names::closed(&facts.name))
        {
            plan.now.push(Statement::owner(
                facts.oid,
                render::create_closed_policy(&target),
            ));
        }
        if !facts.rls {
            plan.now.push(Statement::owner(
                facts.oid,
                render::row_security(&target, true),
            ));
        }
        if !facts.forced {
            plan.now.push(Statement::owner(
                facts.oid,
                render::forced_row_security(&target, true),
            ));
        }
        apply::run(&plan)?;
        apply::notice(
            &format!("table {} is left closed", target.qualified()),
            Some(
                "Drop the policy whose name ends in _tenancy_closed to open it to its owner's policies.",
            ),
        );
    }
    Ok(())
}
