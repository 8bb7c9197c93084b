//! Where Postgres calls the extension: the start of statements and the end of transactions.
//!
//! Owns the chain of hooks. Each does its cheap exits first; none reads the catalog before them.

mod continued;
mod planner;
mod protected;

pub use protected::{first as enforced_in, is_enforced, target as enforced_target};

use pgrx::is_a;
use pgrx::prelude::*;

use crate::binding::authors::judge;
use crate::cache::generation;
use crate::context::resolve::Mark;
use crate::context::{hot, resolve, service, setting};
use crate::error::{OrRaise, Result};
use crate::guard;
use crate::gucs::{self, MissingContext};
use crate::pg_compat;
use crate::policy::{Needs, Same};
use crate::shadow;

static mut PREVIOUS_PLANNER: pg_sys::planner_hook_type = None;
static mut PREVIOUS_UTILITY: pg_sys::ProcessUtility_hook_type = None;
static mut PREVIOUS_EXECUTOR_START: pg_sys::ExecutorStart_hook_type = None;
static mut PREVIOUS_EXECUTOR_RUN: pg_sys::ExecutorRun_hook_type = None;
static mut PREVIOUS_EXECUTOR_FINISH: pg_sys::ExecutorFinish_hook_type = None;

/// Installs the hooks and defines the default settings; called once from `_PG_init`.
pub fn init() {
    generation::init();
    service::init();
    planner::init();
    // SAFETY: the backend, or the postmaster, has one thread; the callbacks are static functions.
    unsafe {
        PREVIOUS_PLANNER = pg_sys::planner_hook;
        pg_sys::planner_hook = Some(plan);
        PREVIOUS_UTILITY = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(utility);
        PREVIOUS_EXECUTOR_START = pg_sys::ExecutorStart_hook;
        pg_sys::ExecutorStart_hook = Some(executor_start);
        PREVIOUS_EXECUTOR_RUN = pg_sys::ExecutorRun_hook;
        pg_sys::ExecutorRun_hook = Some(executor_run);
        PREVIOUS_EXECUTOR_FINISH = pg_sys::ExecutorFinish_hook;
        pg_sys::ExecutorFinish_hook = Some(executor_finish);
        pg_sys::RegisterXactCallback(Some(transaction_event), core::ptr::null_mut());
    }
    for name in setting::DEFAULT_NAMES {
        setting::define(name);
    }
}

/// The planner asks for the tenant to estimate by it, before the executor starts: what it is told, an
/// error included, must not be out of date either.
#[pg_guard]
unsafe extern "C-unwind" fn plan(
    query: *mut pg_sys::Query,
    text: *const core::ffi::c_char,
    options: i32,
    parameters: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: Postgres passes a valid query and its text.
    unsafe { judge(query, text) };
    catch_up();
    // SAFETY: Postgres passes a valid query; the previous hook expects the same.
    let next = |query| unsafe {
        match PREVIOUS_PLANNER {
            #[allow(
                ffi_unwind_calls,
                reason = "the boundary turns a Postgres error into a panic"
            )]
            Some(previous) => pgrx::pg_sys::ffi::pg_guard_ffi_boundary(|| {
                previous(query, text, options, parameters)
            }),
            None => pg_sys::standard_planner(query, text, options, parameters),
        }
    };
    if resolve::is_resolving() {
        return next(query);
    }
    // After an error it could not be asked any more which tables are enforced.
    protected::is_any();
    // SAFETY: as above.
    unsafe { shadow::watch_planning(query, || shadow::plan(query, next)) }
}

/// The arguments of CALL and EXECUTE are computed without the executor.
#[pg_guard]
#[allow(clippy::too_many_arguments, reason = "Postgres's signature")]
unsafe extern "C-unwind" fn utility(
    statement: *mut pg_sys::PlannedStmt,
    text: *const core::ffi::c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    destination: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: Postgres passes a valid statement; the previous hook expects the same.
    unsafe {
        let mut statement = statement;
        let dropped = shadow::dropped_database(statement);
        if !is_a((*statement).utilityStmt, pg_sys::NodeTag::T_TransactionStmt) {
            catch_up();
            statement = shadow::utility(statement);
        }
        match PREVIOUS_UTILITY {
            #[allow(
                ffi_unwind_calls,
                reason = "the boundary turns a Postgres error into a panic"
            )]
            Some(previous) => pgrx::pg_sys::ffi::pg_guard_ffi_boundary(|| {
                previous(
                    statement,
                    text,
                    read_only_tree,
                    context,
                    parameters,
                    environment,
                    destination,
                    completion,
                );
            }),
            None => pg_sys::standard_ProcessUtility(
                statement,
                text,
                read_only_tree,
                context,
                parameters,
                environment,
                destination,
                completion,
            ),
        }
        if let Some(database) = dropped {
            shadow::forget_database(database);
        }
    }
}

/// Takes in what others committed, and ends what counted for one statement only.
fn catch_up() {
    // SAFETY: a plain read of the backend's state.
    let can_read = unsafe { pg_sys::IsTransactionState() };
    if can_read && !pg_compat::in_parallel_worker() && !resolve::is_resolving() {
        generation::accept_messages();
        resolve::start_statement(false);
        shadow::statement_starts();
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn executor_start(query: *mut pg_sys::QueryDesc, flags: i32) {
    // SAFETY: Postgres passes a valid query; the previous hook expects the same.
    unsafe {
        let mark = if pg_compat::in_parallel_worker() || resolve::is_resolving() {
            None
        } else {
            statement_starts(query, flags)
        };
        match PREVIOUS_EXECUTOR_START {
            #[allow(
                ffi_unwind_calls,
                reason = "the boundary turns a Postgres error into a panic"
            )]
            Some(previous) => pgrx::pg_sys::ffi::pg_guard_ffi_boundary(|| previous(query, flags)),
            None => pg_sys::standard_ExecutorStart(query, flags),
        }
        if flags & pg_sys::EXEC_FLAG_EXPLAIN_ONLY as i32 == 0 {
            guard::starts(query).or_raise();
            if !resolve::is_resolving() {
                shadow::watch_moves(query);
            }
        }
        if let Some(mark) = mark {
            continued::note(query, mark);
        }
    }
}

/// Returns the context that the statement is started for, where that may matter.
///
/// # Safety
/// `query` is a valid query that is about to start.
unsafe fn statement_starts(query: *mut pg_sys::QueryDesc, flags: i32) -> Option<Mark> {
    generation::accept_messages();
    // SAFETY: by the caller's promise.
    let statement = unsafe { (*query).plannedstmt };
    // SAFETY: by the caller's promise.
    let parallel = unsafe { (*statement).parallelModeNeeded };
    resolve::start_statement(parallel);
    shadow::statement_starts();
    if flags & pg_sys::EXEC_FLAG_EXPLAIN_ONLY as i32 != 0 {
        return None;
    }
    if parallel {
        resolve::start_parallel_statement().or_raise();
    }
    // SAFETY: by the caller's promise.
    let shadowed = unsafe { shadow::starts(query) };
    let shadowed_mark = || {
        let same = shadowed.unwrap_or_default();
        // Shadow mode fails nothing: without a context there is nothing to go on with.
        (same != Same::Nothing).then(|| resolve::mark(same == Same::Identity).ok())?
    };
    // SAFETY: by the caller's promise.
    let perhaps = unsafe { protected::needs(statement, |_| true) };
    if perhaps == Needs::default() {
        let mark = shadowed_mark();
        if shadowed.is_some() && parallel {
            // The leader must see what its workers will: the statement's snapshot.
            hot::forget();
        }
        return mark;
    }
    if !perhaps.user && (hot::has_tenant() || (!parallel && resolve::recall())) {
        // Whether row security binds the role is asked only where that decides: see `continued`.
        return mark(perhaps.same.max(shadowed.unwrap_or_default()));
    }
    // SAFETY: by the caller's promise.
    let needs = unsafe { protected::needs(statement, protected::binds) };
    if needs == Needs::default() {
        return shadowed_mark();
    }
    if gucs::missing_context() == MissingContext::Error {
        let answer = require(needs);
        if answer.is_err() {
            // SAFETY: by the caller's promise.
            unsafe { shadow::missing_context(query) };
        }
        answer.or_raise();
    }
    let mark = mark(needs.same.max(shadowed.unwrap_or_default()));
    if parallel {
        // The leader must see what its workers will: the statement's snapshot.
        hot::forget();
    }
    mark
}

fn mark(same: Same) -> Option<Mark> {
    (same != Same::Nothing).then(|| resolve::mark(same == Same::Identity).or_raise())
}

/// Fails where the context is not what a statement needs, as its start does under
/// `pg_tenancy.missing_context = error`.
pub fn require(needs: Needs) -> Result<()> {
    let resolved = resolve::current()?;
    if needs.user {
        resolve::require_user(&resolved)?;
    }
    if needs.anyone {
        resolve::require_anyone(&resolved)?;
    }
    if needs.tenant {
        resolve::current_for_policy()?;
    }
    Ok(())
}

pg_compat::executor_run_hook!(executor_run, run_query, PREVIOUS_EXECUTOR_RUN);

/// # Safety
/// `query` is a valid query that was started, and `run` runs it.
unsafe fn run_query(query: *mut pg_sys::QueryDesc, is_whole: bool, run: impl FnOnce()) {
    // SAFETY: by the caller's promise.
    unsafe {
        if !pg_compat::in_parallel_worker() && !resolve::is_resolving() {
            continued::check(query);
        }
        let chance = shadow::before(query, is_whole);
        let _running = shadow::Running::begin(query);
        shadow::watch(query, run);
        if let Some(chance) = chance {
            shadow::after(query, &chance);
        }
    }
}

/// WITH queries that write are run to their end here.
#[pg_guard]
unsafe extern "C-unwind" fn executor_finish(query: *mut pg_sys::QueryDesc) {
    let _running = shadow::Running::begin(query);
    // SAFETY: Postgres passes a valid query; the previous hook expects the same.
    unsafe {
        match PREVIOUS_EXECUTOR_FINISH {
            #[allow(
                ffi_unwind_calls,
                reason = "the boundary turns a Postgres error into a panic"
            )]
            Some(previous) => pgrx::pg_sys::ffi::pg_guard_ffi_boundary(|| previous(query)),
            None => pg_sys::standard_ExecutorFinish(query),
        }
        guard::ends(query);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn transaction_event(
    event: pg_sys::XactEvent::Type,
    _argument: *mut core::ffi::c_void,
) {
    use pg_sys::XactEvent as E;
    match event {
        E::XACT_EVENT_PRE_COMMIT | E::XACT_EVENT_PRE_PREPARE => setting::end_transaction(),
        E::XACT_EVENT_COMMIT
        | E::XACT_EVENT_ABORT
        | E::XACT_EVENT_PREPARE
        | E::XACT_EVENT_PARALLEL_COMMIT
        | E::XACT_EVENT_PARALLEL_ABORT => {
            resolve::end_transaction(event == E::XACT_EVENT_COMMIT);
            guard::end_transaction();
        }
        _ => {}
    }
}
