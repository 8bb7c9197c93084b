//! Types that run somebody's code where no function of his is to be seen.
//!
//! Owns which those are: domains, whose constraints an input function or a cast checks, whatever may
//! hold values of one, and, where a value is made JSON of, every type that may have a cast to it.

use pgrx::PgList;
use pgrx::prelude::*;

use super::authors::Noted;
use super::query::is_built_in;
use crate::catalog;
use crate::pg_compat;

/// Notes the owners of the types that a node makes values of, or makes JSON of.
///
/// # Safety
/// A valid node of a tree as it comes from analysis; the queries around it are noted.
pub unsafe fn note(node: *mut pg_sys::Node, noted: &mut Noted) {
    use pg_sys::NodeTag as T;
    // SAFETY: by the caller's promise; a node is read as what its tag says.
    unsafe {
        let arguments = match (*node).type_ {
            T::T_FuncExpr => {
                let call = &*node.cast::<pg_sys::FuncExpr>();
                is_built_in(call.funcid).then_some(call.args)
            }
            T::T_Aggref => {
                let call = &*node.cast::<pg_sys::Aggref>();
                is_built_in(call.aggfnoid).then_some(call.args)
            }
            T::T_WindowFunc => {
                let call = &*node.cast::<pg_sys::WindowFunc>();
                is_built_in(call.winfnoid).then_some(call.args)
            }
            T::T_RangeTblFunction => {
                let function = &*node.cast::<pg_sys::RangeTblFunction>();
                return note_list(function.funccoltypes, noted);
            }
            T::T_TableFunc => {
                let function = &*node.cast::<pg_sys::TableFunc>();
                return note_list(function.coltypes, noted);
            }
            T::T_Const
            | T::T_CoerceViaIO
            | T::T_ArrayCoerceExpr
            | T::T_ConvertRowtypeExpr
            | T::T_CoerceToDomain
            | T::T_ArrayExpr
            | T::T_RowExpr
            | T::T_FieldStore => None,
            _ => {
                if let Some(arguments) = pg_compat::json_arguments(node) {
                    note_type(pg_sys::exprType(node), false, noted);
                    note_values(arguments, noted);
                }
                return;
            }
        };
        let type_oid = pg_sys::exprType(node);
        note_type(type_oid, false, noted);
        if let Some(arguments) = arguments
            && matches!(type_oid, pg_sys::JSONOID | pg_sys::JSONBOID)
        {
            note_values(arguments, noted);
        }
    }
}

unsafe fn note_list(types: *mut pg_sys::List, noted: &mut Noted) {
    // SAFETY: by the caller's promise, a list of types' oids.
    for type_oid in unsafe { PgList::<pg_sys::Oid>::from_pg(types) }.iter_oid() {
        note_type(type_oid, false, noted);
    }
}

/// Notes what JSON is made of.
unsafe fn note_values(arguments: *mut pg_sys::List, noted: &mut Noted) {
    // SAFETY: by the caller's promise, a list of expressions of the innermost query.
    unsafe {
        for mut argument in PgList::<pg_sys::Node>::from_pg(arguments).iter_ptr() {
            if (*argument).type_ == pg_sys::NodeTag::T_TargetEntry {
                argument = (*argument.cast::<pg_sys::TargetEntry>()).expr.cast();
            }
            note_type(pg_sys::exprType(argument), true, noted);
            if (*argument).type_ == pg_sys::NodeTag::T_Var {
                note_row(&*argument.cast::<pg_sys::Var>(), noted);
            }
        }
    }
}

/// Notes what a whole row of a sub-select holds, whose type does not say so.
unsafe fn note_row(variable: &pg_sys::Var, noted: &mut Noted) {
    let level = usize::try_from(variable.varlevelsup).unwrap_or(usize::MAX);
    let Some(query) = noted.queries.iter().rev().nth(level).copied() else {
        return;
    };
    let Some(index) = usize::try_from(variable.varno)
        .ok()
        .and_then(|n| n.checked_sub(1))
    else {
        return;
    };
    // SAFETY: by the caller's promise; a variable's number is that of an entry of its query.
    unsafe {
        let entries = PgList::<pg_sys::RangeTblEntry>::from_pg((*query).rtable);
        let Some(entry) = entries.get_ptr(index).filter(|_| variable.varattno == 0) else {
            return;
        };
        if (*entry).subquery.is_null() {
            return;
        }
        let columns = PgList::<pg_sys::TargetEntry>::from_pg((*(*entry).subquery).targetList);
        for column in columns.iter_ptr().filter(|column| !(**column).resjunk) {
            note_type(pg_sys::exprType((*column).expr.cast()), true, noted);
        }
    }
}

/// Notes the owners of a type and of those below it: where JSON is made, of those that may have a cast to
/// it, else of those that have constraints, or may get columns that do.
fn note_type(type_oid: pg_sys::Oid, casts: bool, noted: &mut Noted) {
    if is_built_in(type_oid) {
        return;
    }
    // SAFETY: catalog lookups by oid.
    let kind = unsafe { pg_sys::get_typtype(type_oid) } as u8;
    // SAFETY: a catalog lookup by oid.
    let element = unsafe { pg_sys::get_element_type(type_oid) };
    if element != pg_sys::InvalidOid {
        return note_type(element, casts, noted);
    }
    let is_looked_through = matches!(kind, pg_sys::TYPTYPE_DOMAIN | pg_sys::TYPTYPE_COMPOSITE);
    if casts != is_looked_through {
        noted.note(
            type_oid,
            catalog::owner_of(pg_sys::TypeRelationId, type_oid),
        );
    }
    // SAFETY: catalog lookups by oid; the description is a copy.
    unsafe {
        match kind {
            pg_sys::TYPTYPE_DOMAIN => note_type(catalog::domain_over(type_oid), casts, noted),
            pg_sys::TYPTYPE_RANGE => {
                note_type(pg_sys::get_range_subtype(type_oid), casts, noted);
            }
            pg_sys::TYPTYPE_MULTIRANGE => {
                note_type(pg_sys::get_multirange_range(type_oid), casts, noted);
            }
            pg_sys::TYPTYPE_COMPOSITE => {
                let description = pg_sys::lookup_rowtype_tupdesc_copy(type_oid, -1);
                let relation = pg_sys::get_typ_typrelid(type_oid);
                let count = i16::try_from((*description).natts).unwrap_or(i16::MAX);
                for number in 1..=count {
                    note_type(pg_sys::get_atttype(relation, number), casts, noted);
                }
            }
            _ => {}
        }
    }
}
