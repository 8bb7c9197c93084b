//! What is known about the statement that is being planned.
//!
//! Owns a stack, since planning can call functions whose statements are planned in turn. Must never be
//! borrowed while Postgres is called.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use pgrx::pg_sys;

use super::tables::Known;
use crate::gucs::ShadowPlacement;

/// What a sub-query is to the query around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surrounding {
    /// In FROM, or a WITH query.
    From,
    /// A member of UNION, INTERSECT or EXCEPT.
    SetOperation,
    /// A WITH query that writes.
    Writing,
    /// A sub-select that gives a value, or an array.
    Value,
    /// EXISTS that looks at the row outside.
    CorrelatedExists,
    /// Any other condition.
    Condition,
}

/// A recorder that was put into the query.
#[derive(Debug, Clone)]
pub struct Injected {
    /// From the outermost inwards.
    pub surroundings: Rc<[Surrounding]>,
    pub is_complete: bool,
}

/// A recorder whose relation is being planned, and has to be found in the plan if that is scanned.
#[derive(Debug, Clone, Copy)]
pub struct Arrived {
    pub number: i32,
    /// The same object in the query and in the finished plan's range table.
    pub names: *mut pg_sys::Alias,
}

/// A recorder that waits for the topmost join.
#[derive(Debug, Clone, Copy)]
pub struct Deferred {
    pub root: *mut pg_sys::PlannerInfo,
    pub clause: *mut pg_sys::RestrictInfo,
}

/// One that the planner was never given.
#[derive(Debug, Clone, Copy)]
pub struct Pending {
    pub root: *mut pg_sys::PlannerInfo,
    pub clause: *mut pg_sys::Node,
    pub required: pg_sys::Relids,
}

/// One statement.
pub struct Planning {
    pub known: Rc<Known>,
    pub placement: ShadowPlacement,
    last_number: i32,
    pub injected: HashMap<i32, Injected>,
    pub arrived: Vec<Arrived>,
    /// Numbers of those that wait for the topmost join.
    pub waiting: HashSet<i32>,
    pub deferred: Vec<Deferred>,
    pub pending: Vec<Pending>,
    /// The relations that the results of a query look at, of the query that was asked for last.
    pub results: Option<(*mut pg_sys::PlannerInfo, pg_sys::Relids)>,
    /// Whether a table in shadow mode is read or written at all.
    pub is_touched: bool,
}

impl Planning {
    /// Nothing known yet.
    pub fn new(known: Rc<Known>, placement: ShadowPlacement) -> Self {
        Self {
            known,
            placement,
            last_number: 0,
            injected: HashMap::new(),
            arrived: Vec::new(),
            waiting: HashSet::new(),
            deferred: Vec::new(),
            pending: Vec::new(),
            results: None,
            is_touched: false,
        }
    }

    /// A number for a recorder.
    pub fn number(&mut self) -> i32 {
        self.last_number += 1;
        self.last_number
    }
}

thread_local! {
    static STACK: RefCell<Vec<Planning>> = const { RefCell::new(Vec::new()) };
}

/// Ends the planning that it stands for, however that ends.
pub struct Level {
    depth: usize,
}

impl Level {
    /// Begins to plan a statement.
    pub fn begin(planning: Planning) -> Self {
        STACK.with_borrow_mut(|stack| {
            stack.push(planning);
            Self { depth: stack.len() }
        })
    }

    /// What was found out.
    pub fn end(self) -> Planning {
        let planning = STACK.with_borrow_mut(|stack| {
            stack.truncate(self.depth);
            stack.pop()
        });
        std::mem::forget(self);
        planning.unwrap_or_else(|| unreachable!("each level ends once"))
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        STACK.with_borrow_mut(|stack| stack.truncate(self.depth - 1));
    }
}

/// The innermost statement, if one is being planned.
pub fn with<T>(look: impl FnOnce(&mut Planning) -> T) -> Option<T> {
    STACK.with_borrow_mut(|stack| stack.last_mut().map(look))
}
