//! `DROP EXTENSION pg_tenancy CASCADE` leaves protected tables closed, not open.
//!
//! The policies go with the functions that they call, and what a user's own permissive policy shows
//! would then be shown of every tenant. Owns the event trigger that puts a policy nobody passes on
//! each table first that is enforced, or that loses a restrictive policy. Must never act on any other command, nor for a caller who may not run
//! this one: it fails by itself. The owner of the extension's schema may: CASCADE asks for no rights on
//! what it takes.

use std::collections::BTreeMap;

use pgrx::list::List;
use pgrx::pg_sys;
use pgrx::prelude::*;
use serde::Deserialize;

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
    let whose_right = unsafe {
        let context = (*frame).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_EventTriggerData {
            return pg_sys::Datum::from(0);
        }
        drops_extension((*context.cast::<pg_sys::EventTriggerData>()).parsetree)
    };
    if whose_right.is_some_and(catalog::acts_as) {
        close().or_raise();
    }
    pg_sys::Datum::from(0)
}

/// The role whose rights a command needs that takes the extension with it by CASCADE; `None` for all others.
///
/// # Safety
/// `tree` is null or a valid parse tree.
unsafe fn drops_extension(tree: *mut pg_sys::Node) -> Option<pg_sys::Oid> {
    if tree.is_null() {
        return None;
    }
    // SAFETY: each cast follows the node's tag.
    unsafe {
        match (*tree).type_ {
            pg_sys::NodeTag::T_DropStmt => {
                let statement = tree.cast::<pg_sys::DropStmt>();
                if (*statement).behavior != pg_sys::DropBehavior::DROP_CASCADE {
                    return None;
                }
                let names = |name: &str| {
                    names_of((*statement).objects)
                        .iter()
                        .any(|named| named == name)
                };
                match (*statement).removeType {
                    pg_sys::ObjectType::OBJECT_EXTENSION if names("pg_tenancy") => {
                        Some(home()?.owner())
                    }
                    pg_sys::ObjectType::OBJECT_SCHEMA => {
                        let home = home()?;
                        names(&home.schema).then(|| home.schema_owner())
                    }
                    _ => None,
                }
            }
            pg_sys::NodeTag::T_DropOwnedStmt => {
                let statement = tree.cast::<pg_sys::DropOwnedStmt>();
                if (*statement).behavior != pg_sys::DropBehavior::DROP_CASCADE {
                    return None;
                }
                let home = home()?;
                nodes_of((*statement).roles)
                    .into_iter()
                    .map(|role| pg_sys::get_rolespec_oid(role.cast::<pg_sys::RoleSpec>(), true))
                    .find(|role| [home.owner(), home.schema_owner()].contains(role))
            }
            _ => None,
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

/// Where the extension is, and whose both are.
#[derive(Deserialize)]
struct Home {
    schema: String,
    schema_owner: u32,
    owner: u32,
}

impl Home {
    fn schema_owner(&self) -> pg_sys::Oid {
        pg_sys::Oid::from(self.schema_owner)
    }

    fn owner(&self) -> pg_sys::Oid {
        pg_sys::Oid::from(self.owner)
    }
}

fn home() -> Option<Home> {
    spi::row(
        "SELECT pg_catalog.jsonb_build_object('schema', n.nspname, 'schema_owner', n.nspowner::pg_catalog.int8,
             'owner', e.extowner::pg_catalog.int8)::pg_catalog.text
         FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
         WHERE e.extname = 'pg_tenancy'",
        &[],
    )
    .or_raise()
}

/// Tables on which a restrictive policy goes with a function of the extension, registered or not: made by hand from
/// `tenancy.policy_sql()`, or somebody's own.
const LOSING: &str = "
SELECT DISTINCT pg_catalog.to_jsonb(p.polrelid::pg_catalog.int8)::pg_catalog.text
FROM pg_catalog.pg_extension e
JOIN pg_catalog.pg_depend m ON m.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND m.refobjid = e.oid
  AND m.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND m.deptype = 'e'
JOIN pg_catalog.pg_depend d ON d.refclassid = m.classid AND d.refobjid = m.objid
  AND d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass
JOIN pg_catalog.pg_policy p ON p.oid = d.objid AND NOT p.polpermissive
WHERE e.extname = 'pg_tenancy'";

fn close() -> Result<()> {
    apply::see_own_changes();
    let mut enforced = BTreeMap::new();
    for (relation, row) in store::all()? {
        if row.mode == "enforce" {
            enforced.insert(relation.to_u32(), row.tenant_column);
        }
    }
    let losing: Vec<u32> = spi::rows(LOSING, &[])?;
    for relation in losing {
        if !enforced.contains_key(&relation) {
            close_table(relation, "", false)?;
        }
    }
    for (relation, column) in enforced {
        close_table(relation, &column, true)?;
    }
    Ok(())
}

/// Closes one table; row security is switched on, and forced, where that is `ours` to decide.
fn close_table(relation: u32, column: &str, ours: bool) -> Result<()> {
    let facts = { inspect::facts(pg_sys::Oid::from(relation), column)? };
    let Some(facts) = facts.filter(|facts| ours || facts.rls) else {
        return Ok(());
    };
    let target = Target {
        schema: facts.schema.clone(),
        table: facts.name.clone(),
        column: column.to_owned(),
    };
    let mut plan = Plan::default();
    let closed = names::closed(&facts.name);
    if !facts.policies.iter().any(|policy| policy.name == closed) {
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
    if ours && !facts.forced {
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
    Ok(())
}
