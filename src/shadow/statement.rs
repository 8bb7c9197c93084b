//! The statement that is running, as far as records name it, and what enforcement would say of it as a
//! whole.
//!
//! Owns the stack of running queries. Must never raise: a shadow is not noticed.

use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::rc::Rc;

use pgrx::pg_sys;

use super::record::{Command, Kind, Precision, Record};
use super::store::seen::{self, Count};
use super::tables::{self, Known, Table};
use super::{bound, confirm, normalise, store, unrecorded};
use crate::context::{model::Resolved, resolve};
use crate::gucs::{self, MissingContext};
use crate::lists;
use crate::pg_compat::{self, NamedRelation, planner as compat};
use crate::policy::{Needs, Same};

thread_local! {
    static RUNNING: Cell<*mut pg_sys::QueryDesc> = const { Cell::new(core::ptr::null_mut()) };
    /// Its normalised text, once a record has asked for it: a statement may be recorded once a row.
    static TEXT: RefCell<Option<Rc<str>>> = const { RefCell::new(None) };
}

/// While it lives, that query runs.
pub struct Running {
    outer: *mut pg_sys::QueryDesc,
    outer_text: Option<Rc<str>>,
}

impl Running {
    /// A query starts or goes on.
    pub fn begin(query: *mut pg_sys::QueryDesc) -> Self {
        Self {
            outer: RUNNING.replace(query),
            outer_text: TEXT.take(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(self.outer);
        TEXT.set(self.outer_text.take());
    }
}

/// Who runs what, for a record.
pub struct Circumstances {
    user: Option<String>,
    tenant: Option<String>,
    query: Rc<str>,
    application: String,
    statement: u64,
}

impl Circumstances {
    /// As they are.
    pub fn now() -> Self {
        Self::with(resolve::current().ok())
    }

    /// As far as they are known without looking anything up.
    pub fn known() -> Self {
        Self::with(resolve::known())
    }

    fn with(context: Option<Rc<Resolved>>) -> Self {
        // SAFETY: strings of the backend's state.
        let text = |pointer: *const core::ffi::c_char| unsafe {
            if pointer.is_null() {
                String::new()
            } else {
                CStr::from_ptr(pointer).to_string_lossy().into_owned()
            }
        };
        // SAFETY: plain reads of the backend's state; a running query is valid.
        unsafe {
            Self {
                user: context
                    .as_ref()
                    .and_then(|context| context.user.as_deref().map(str::to_owned)),
                tenant: context
                    .as_ref()
                    .and_then(|context| context.tenant().map(ToString::to_string)),
                query: normalised_text(),
                application: text(pg_sys::application_name),
                statement: number(),
            }
        }
    }

    /// A record of a row or a statement.
    pub fn record<'a>(
        &'a self,
        relation: pg_sys::Oid,
        command: Command,
        kind: Kind,
        precision: Precision,
        role: pg_sys::Oid,
    ) -> Record<'a> {
        Record {
            relation,
            command,
            kind,
            precision,
            role: bound::acting(role),
            app_user: self.user.as_deref(),
            context_tenant: self.tenant.as_deref(),
            row_tenant: None,
            query_id: compat::query_id(),
            query: &self.query,
            application_name: &self.application,
            is_refused: false,
            statement: self.statement,
            once: false,
        }
    }
}

/// The number of the client's message that is worked on: the same for all statements in it, and in
/// workers.
pub fn number() -> u64 {
    // SAFETY: plain reads of the backend's state.
    unsafe {
        let leader = (*pg_sys::MyProc).lockGroupLeader;
        let process = if leader.is_null() {
            pg_sys::MyProcPid
        } else {
            (*leader).pid
        };
        let started = pg_sys::GetCurrentStatementStartTimestamp();
        (started as u64) ^ ((process as u64) << 40)
    }
}

/// Whether a query runs.
pub fn is_running() -> bool {
    !RUNNING.get().is_null()
}

/// The text of the running statement, without the values in it.
fn normalised_text() -> Rc<str> {
    let known = TEXT.with_borrow(Clone::clone);
    known.unwrap_or_else(|| {
        let text: Rc<str> = normalise::normalise(&running_text()).into();
        if is_running() {
            TEXT.set(Some(text.clone()));
        }
        text
    })
}

/// The text of the running statement alone, where several were sent together.
fn running_text() -> String {
    let running = RUNNING.get();
    // SAFETY: a running query is valid; a plain read otherwise.
    unsafe {
        let (text, start, length) = if running.is_null() {
            (pg_sys::debug_query_string, -1, 0)
        } else {
            let statement = (*running).plannedstmt;
            (
                (*running).sourceText,
                (*statement).stmt_location,
                (*statement).stmt_len,
            )
        };
        if text.is_null() {
            return String::new();
        }
        let bytes = CStr::from_ptr(text).to_bytes();
        let start = usize::try_from(start).unwrap_or(0).min(bytes.len());
        let end = match usize::try_from(length) {
            Ok(length) if length > 0 => start.saturating_add(length).min(bytes.len()),
            _ => bytes.len(),
        };
        String::from_utf8_lossy(&bytes[start..end]).into_owned()
    }
}

/// The memory of the running query; null where none is known.
pub fn query_memory() -> pg_sys::MemoryContext {
    let running = RUNNING.get();
    // SAFETY: a running query has its state.
    unsafe {
        if running.is_null() || (*running).estate.is_null() {
            core::ptr::null_mut()
        } else {
            (*(*running).estate).es_query_cxt
        }
    }
}

/// Whether the context is not what the policies need, so that enforcement would raise.
pub fn would_raise(needs: Needs) -> bool {
    if needs == Needs::default() || gucs::missing_context() != MissingContext::Error {
        return false;
    }
    let Ok(context) = resolve::current() else {
        return true;
    };
    let (user, tenant) = (context.user.is_some(), context.tenant().is_some());
    (needs.user && !user) || (needs.tenant && !tenant) || (needs.anyone && !user && !tenant)
}

/// The same for what a recorder is about: then it is the statement that is recorded.
pub fn would_raise_for(relation: pg_sys::Oid, command: Command) -> bool {
    let Some(known) = tables::known() else {
        return false;
    };
    known.table(relation).is_some_and(|table| {
        let needs = &table.needs;
        would_raise(match command {
            Command::Select => needs.select,
            Command::Insert | Command::Copy => needs.insert,
            Command::Update => needs.update,
            Command::Delete => needs.delete,
            Command::Merge => needs.select.and(needs.update).and(needs.insert),
        })
    })
}

/// The relations in shadow mode that a statement names itself.
///
/// # Safety
/// A valid planned statement.
unsafe fn shadowed(
    statement: *const pg_sys::PlannedStmt,
    known: &Known,
) -> impl Iterator<Item = (&Table, NamedRelation)> {
    // SAFETY: by the caller's promise.
    let entries = unsafe { lists::each::<pg_sys::RangeTblEntry>((*statement).rtable) };
    entries.iter().filter_map(move |entry| {
        // SAFETY: as above.
        unsafe {
            let table = known.table((**entry).relid)?;
            Some((table, pg_compat::named_relation(statement, *entry)?))
        }
    })
}

/// Records that enforcement would have a statement fail.
///
/// # Safety
/// The statement that runs.
unsafe fn would_fail(
    statement: *const pg_sys::PlannedStmt,
    kind: Kind,
    relation: pg_sys::Oid,
    role: pg_sys::Oid,
) {
    confirm::note_refused(number());
    // SAFETY: by the caller's promise.
    let command = unsafe { command_of(statement) };
    store::add(&Circumstances::now().record(relation, command, kind, Precision::Exact, role));
}

/// Called as each statement starts. What of the context it could not go on without under enforcement;
/// `None` where no table in shadow mode binds it.
///
/// # Safety
/// `query` is a valid query that is about to start.
pub unsafe fn starts(query: *mut pg_sys::QueryDesc) -> Option<Same> {
    let known = tables::known()?;
    // SAFETY: by the caller's promise.
    unsafe {
        let statement = (*query).plannedstmt;
        let is_inner = is_running();
        // Our own statements, and Postgres's checks of foreign keys, are nobody's traffic.
        let is_traffic = !pg_sys::InNoForceRLSOperation() && !unrecorded::now();
        let _running = Running::begin(query);
        let mut counted: Vec<pg_sys::Oid> = Vec::new();
        let mut touched: Option<Same> = None;
        let mut is_refused = false;
        for (table, named) in shadowed(statement, &known) {
            let is_bound = bound::binds(table, named.acting_role);
            if is_traffic && !counted.contains(&table.relation) {
                counted.push(table.relation);
                let what = if is_bound {
                    Count::Statement
                } else {
                    Count::Exempt
                };
                seen::count(seen::key(table.relation.to_u32()), what);
            }
            if !is_bound {
                continue;
            }
            let needs = table.needs.required(named.required);
            let fails = |kind| would_fail(statement, kind, table.relation, named.acting_role);
            if !pg_sys::row_security || table.policies(&known.functions).is_none() {
                fails(Kind::StatementError);
            } else if !is_refused && would_raise(needs) {
                is_refused = true;
                fails(Kind::MissingContext);
            }
            touched = Some(touched.unwrap_or_default().max(needs.same));
        }
        if touched.is_some() && is_inner {
            confirm::note_inner();
        }
        touched
    }
}

/// Called where a query goes on and the context may have changed: enforcement would have it fail then.
///
/// # Safety
/// `query` is a valid query that was started.
pub unsafe fn continues(query: *mut pg_sys::QueryDesc, is_started_for: impl FnOnce(Same) -> bool) {
    let Some(known) = tables::known() else {
        return;
    };
    // SAFETY: by the caller's promise.
    unsafe {
        let statement = (*query).plannedstmt;
        let mut dependent: Option<(Same, pg_sys::Oid, pg_sys::Oid)> = None;
        for (table, named) in shadowed(statement, &known) {
            let same = table.needs.required(named.required).same;
            if dependent.is_none_or(|(most, ..)| most < same)
                && bound::binds(table, named.acting_role)
            {
                dependent = Some((same, table.relation, named.acting_role));
            }
        }
        if let Some((same, relation, role)) = dependent
            && same != Same::Nothing
            && !is_started_for(same)
        {
            let _running = Running::begin(query);
            would_fail(statement, Kind::StatementError, relation, role);
        }
    }
}

/// What the statement does.
///
/// # Safety
/// A valid planned statement.
pub unsafe fn command_of(statement: *const pg_sys::PlannedStmt) -> Command {
    // SAFETY: by the caller's promise.
    command(unsafe { (*statement).commandType })
}

/// What Postgres's name for it stands for.
pub fn command(kind: pg_sys::CmdType::Type) -> Command {
    use pg_sys::CmdType as C;
    match kind {
        C::CMD_INSERT => Command::Insert,
        C::CMD_UPDATE => Command::Update,
        C::CMD_DELETE => Command::Delete,
        C::CMD_MERGE => Command::Merge,
        _ => Command::Select,
    }
}

/// Called for a plan in which recorders are missing: it is recorded as one that may be changed.
///
/// # Safety
/// `statement` is a valid planned statement.
pub unsafe fn note_unplaced(statement: *const pg_sys::PlannedStmt, known: &Known) {
    // SAFETY: by the caller's promise.
    unsafe {
        for (table, named) in shadowed(statement, known) {
            if bound::binds(table, named.acting_role) {
                store::add(&Circumstances::now().record(
                    table.relation,
                    command_of(statement),
                    Kind::HiddenRow,
                    Precision::Scan,
                    named.acting_role,
                ));
                confirm::note_unsettled(number());
            }
        }
    }
}
