//! Whose code a statement runs besides Postgres's own.
//!
//! Owns what counts as somebody's code: functions, operators, relations, whose views, policies and
//! indexes are code, and types, whose constraints and casts are. Owns the judgement of every plan of
//! a statement that runs as the owner of a table: what its names mean is decided anew by each.

use core::ffi::{CStr, c_char, c_void};
use core::marker::PhantomData;
use std::cell::Cell;

use pgrx::prelude::*;

use super::hidden;
use super::query::is_built_in;
use crate::catalog::{self, quote_identifier};
use crate::error::{Error, Kind, OrRaise, Result};

/// The owners of what is not Postgres's own.
pub struct Authors(Vec<pg_sys::Oid>);

/// What was noted so far.
#[derive(Default)]
pub struct Noted {
    owners: Vec<pg_sys::Oid>,
    /// The queries around, the innermost last.
    pub queries: Vec<*mut pg_sys::Query>,
}

impl Noted {
    /// Notes the owner of an object; one whose owner is not known is nobody's.
    pub fn note(&mut self, object: pg_sys::Oid, owner: Option<pg_sys::Oid>) {
        if !is_built_in(object) {
            self.owners.push(owner.unwrap_or(pg_sys::InvalidOid));
        }
    }
}

impl Authors {
    /// Those of an expression or a query.
    ///
    /// # Safety
    /// A valid tree, as it comes from analysis or from the rewriter.
    pub unsafe fn of(node: *mut pg_sys::Node) -> Self {
        let mut noted = Noted::default();
        // SAFETY: by the caller's promise.
        unsafe { note(node, (&raw mut noted).cast()) };
        Self(noted.owners)
    }

    /// Somebody who lacks the privileges of that owner, as whom it runs.
    pub fn stranger(&self, owner: pg_sys::Oid) -> Option<pg_sys::Oid> {
        let lacks = |author: &&pg_sys::Oid| !catalog::has_privileges(**author, owner);
        self.0.iter().find(lacks).copied()
    }

    /// Fails where something is of somebody who lacks the owner's privileges: whoever may create in a
    /// schema could else make a function that fits better, or a view that calls one.
    pub fn require_rights_of(&self, owner: pg_sys::Oid) -> Result<()> {
        let Some(stranger) = self.stranger(owner) else {
            return Ok(());
        };
        Err(Error::new(
            Kind::InsufficientPrivilege,
            "an expression would run somebody's code with rights that he lacks",
        )
        .detail(format!(
            "The table belongs to {}, and a function, operator, relation or type to {}.",
            quote_identifier(&catalog::role_name(owner)),
            quote_identifier(&catalog::role_name(stranger))
        ))
        .hint("Use what belongs to the owner of the table in the expression, or to Postgres."))
    }
}

/// Notes the owner of everything in a tree that did not come with Postgres.
#[pg_guard]
unsafe extern "C-unwind" fn note(node: *mut pg_sys::Node, state: *mut c_void) -> bool {
    use pg_sys::NodeTag as T;
    if node.is_null() {
        return false;
    }
    // SAFETY: Postgres passes each node of the tree with the state of `Authors::of`; a node is read as
    // what its tag says. No reference to the state lives while a walker runs.
    unsafe {
        let noted = || &mut *state.cast::<Noted>();
        match (*node).type_ {
            T::T_Query => {
                noted().queries.push(node.cast());
                let flags = pg_sys::QTW_EXAMINE_RTES_BEFORE as i32;
                let stop = pg_sys::query_tree_walker(node.cast(), Some(note), state, flags);
                noted().queries.pop();
                return stop;
            }
            T::T_RangeTblEntry => {
                // A view keeps its oid, whatever became of it.
                let relation = (*node.cast::<pg_sys::RangeTblEntry>()).relid;
                if relation != pg_sys::InvalidOid {
                    noted().note(relation, catalog::relation_owner(relation).ok());
                }
                return false;
            }
            T::T_OpExpr | T::T_DistinctExpr | T::T_NullIfExpr => {
                note_operator(noted(), (*node.cast::<pg_sys::OpExpr>()).opno);
            }
            T::T_ScalarArrayOpExpr => {
                note_operator(noted(), (*node.cast::<pg_sys::ScalarArrayOpExpr>()).opno);
            }
            _ => {}
        }
        hidden::note(node, noted());
        pg_sys::check_functions_in_node(node, Some(note_function), state)
            || pg_sys::expression_tree_walker(node, Some(note), state)
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn note_function(function: pg_sys::Oid, state: *mut c_void) -> bool {
    let owner = catalog::owner_of(pg_sys::ProcedureRelationId, function);
    // SAFETY: the state of `Authors::of`.
    unsafe { &mut *state.cast::<Noted>() }.note(function, owner);
    false
}

fn note_operator(noted: &mut Noted, operator: pg_sys::Oid) {
    noted.note(
        operator,
        catalog::owner_of(pg_sys::OperatorRelationId, operator),
    );
}

thread_local! {
    /// The owner whom a statement runs as, and its text.
    static JUDGED: Cell<Option<(pg_sys::Oid, *const str)>> = const { Cell::new(None) };
}

/// While it lives, every plan of a statement is judged as one that runs as that owner; ends on drop, an
/// unwinding error included. Statements of the functions that it calls are their owners' own.
pub struct Judging<'a> {
    before: Option<(pg_sys::Oid, *const str)>,
    text: PhantomData<&'a str>,
}

impl<'a> Judging<'a> {
    /// Judges the statement of that text.
    pub fn new(owner: pg_sys::Oid, text: &'a str) -> Self {
        Self {
            before: JUDGED.replace(Some((owner, core::ptr::from_ref(text)))),
            text: PhantomData,
        }
    }
}

impl Drop for Judging<'_> {
    fn drop(&mut self) {
        JUDGED.set(self.before);
    }
}

/// Called before a statement is planned: raises an error where it is one that is judged, and would run
/// somebody's code with rights that he lacks.
///
/// # Safety
/// `query` is a valid query, and `text` null or a string.
pub unsafe fn judge(query: *mut pg_sys::Query, text: *const c_char) {
    let Some((owner, judged)) = JUDGED.get() else {
        return;
    };
    // SAFETY: by the caller's promise; the text that is judged lives as long as it is.
    unsafe {
        if text.is_null() || CStr::from_ptr(text).to_bytes() != (*judged).as_bytes() {
            return;
        }
        Authors::of(query.cast())
            .require_rights_of(owner)
            .or_raise();
    }
}
