//! Rows that move to another tenant, which enforcement refuses whoever moves them.
//!
//! Owns the trigger that enforcement would put on a table, here in the memory of one statement: the
//! catalog has none. Must never refuse a row nor change one.

use pgrx::prelude::*;

use pg_sys::{Datum, FmgrInfo, FunctionCallInfo, HeapTuple, QueryDesc, ResultRelInfo, TupleDesc};

use super::record::{Command, Kind, Precision};
use super::statement::Circumstances;
use super::tables::{self, Known, Table};
use super::{bound, statement, store};
use crate::catalog;
use crate::lists;
use crate::pg_compat;
use crate::policy::Template;

/// What a row that moves is recorded as.
struct Subject {
    relation: pg_sys::Oid,
    command: Command,
    role: pg_sys::Oid,
    /// The tenant column of the table that has the row, which may be a partition.
    column: i32,
}

/// Watches the rows that a statement updates in tables in shadow mode. Called once it was started.
///
/// # Safety
/// `query` was started, and not only to be explained.
pub unsafe fn watch_moves(query: *mut QueryDesc) {
    // SAFETY: by the caller's promise.
    unsafe {
        let statement = (*query).plannedstmt;
        if (*statement).resultRelations.is_null() || (*query).estate.is_null() {
            return;
        }
        let Some(known) = tables::known() else {
            return;
        };
        let before = pg_sys::MemoryContextSwitchTo((*(*query).estate).es_query_cxt);
        for written in lists::each::<ResultRelInfo>((*(*query).estate).es_opened_result_relations) {
            if let Some(subject) = subject(query, *written, &known) {
                add_trigger(
                    *written,
                    (*(*query).estate).es_instrument,
                    known.functions.denied,
                    subject,
                );
            }
        }
        pg_sys::MemoryContextSwitchTo(before);
    }
}

/// # Safety
/// `written` is a relation that the started query writes.
unsafe fn subject(
    query: *mut QueryDesc,
    written: *mut ResultRelInfo,
    known: &Known,
) -> Option<Subject> {
    // SAFETY: by the caller's promise: such relations are open, and their numbers are places in the
    // range table.
    unsafe {
        let statement = (*query).plannedstmt;
        let root = match (*written).ri_RootResultRelInfo {
            root if root.is_null() => written,
            root => root,
        };
        let here = (*(*written).ri_RelationDesc).rd_id;
        let named = (*(*root).ri_RelationDesc).rd_id;
        let table = known.table(named).or_else(|| known.table(here))?;
        if table.column <= 0 || !keeps_tenant(table) {
            return None;
        }
        let name = pg_sys::get_attname(table.relation, table.column, true);
        if name.is_null() {
            return None;
        }
        let column = i32::from(pg_sys::get_attnum(here, name));
        let updated = pg_sys::ExecGetUpdatedCols(written, (*query).estate);
        let triggers = (*written).ri_TrigDesc;
        let others_write = !triggers.is_null() && (*triggers).trig_update_before_row;
        let place = column - pg_sys::FirstLowInvalidHeapAttributeNumber;
        if column <= 0
            || updated.is_null()
            || !(others_write || pg_sys::bms_is_member(place, updated))
        {
            return None;
        }
        let entry = usize::try_from((*root).ri_RangeTableIndex).ok()?;
        let entries = lists::each::<pg_sys::RangeTblEntry>((*statement).rtable);
        let role = pg_compat::named_relation(statement, *entries.get(entry.checked_sub(1)?)?)
            .map_or(pg_sys::InvalidOid, |named| named.acting_role);
        // What binds the role refuses such a row by its old tenant or its new one, and that is recorded.
        if bound::binds(table, role) && table.template != Some(Template::SelfRow) {
            return None;
        }
        Some(Subject {
            relation: table.relation,
            command: match statement::command_of(statement) {
                Command::Select => Command::Update,
                other => other,
            },
            role,
            column,
        })
    }
}

fn keeps_tenant(table: &Table) -> bool {
    table
        .template
        .is_some_and(|template| template.keeps_tenant(&table.options))
}

/// Appends a trigger, so that it sees what the others made of the row.
///
/// # Safety
/// `written` is a relation of a query that was started and has updated nothing yet; the current memory
/// lives as long as the query; `function` is the oid of a function that exists.
unsafe fn add_trigger(
    written: *mut ResultRelInfo,
    instrument: core::ffi::c_int,
    function: pg_sys::Oid,
    subject: Subject,
) {
    // SAFETY: by the caller's promise. What replaces the relation's arrays is as long as the list of
    // its triggers, and zero as Postgres makes it; it lives in the same memory.
    unsafe {
        let known = (*written).ri_TrigDesc;
        let mut description = if known.is_null() {
            pg_sys::TriggerDesc::default()
        } else {
            *known
        };
        let count = usize::try_from(description.numtriggers).unwrap_or(0);
        let triggers = array::<pg_sys::Trigger>(count + 1);
        if count > 0 {
            core::ptr::copy_nonoverlapping(description.triggers, triggers, count);
        }
        (*triggers.add(count)) = pg_sys::Trigger {
            tgname: pg_sys::pstrdup(c"pg_tenancy_shadow".as_ptr()),
            tgfoid: function,
            tgtype: (pg_sys::TRIGGER_TYPE_ROW
                | pg_sys::TRIGGER_TYPE_BEFORE
                | pg_sys::TRIGGER_TYPE_UPDATE) as i16,
            // As the trigger that it stands for: not while rows are replicated.
            tgenabled: pg_sys::TRIGGER_FIRES_ON_ORIGIN as core::ffi::c_char,
            tgisinternal: true,
            ..pg_sys::Trigger::default()
        };
        description.triggers = triggers;
        description.numtriggers += 1;
        description.trig_update_before_row = true;
        let replaced = array::<pg_sys::TriggerDesc>(1);
        *replaced = description;
        (*written).ri_TrigDesc = replaced;

        // The function is found already, so nobody looks up the one whose oid it has.
        let functions = array::<FmgrInfo>(count + 1);
        let kept = array::<Subject>(1);
        kept.write(subject);
        (*functions.add(count)) = FmgrInfo {
            fn_addr: Some(moves),
            fn_oid: function,
            fn_extra: kept.cast(),
            fn_mcxt: pg_sys::CurrentMemoryContext,
            fn_stats: pg_sys::TrackFunctionsLevel::TRACK_FUNC_ALL as core::ffi::c_uchar,
            ..FmgrInfo::default()
        };
        (*written).ri_TrigFunctions = functions;
        (*written).ri_TrigWhenExprs = array(count + 1);
        if instrument != 0 {
            (*written).ri_TrigInstrument =
                pg_sys::InstrAlloc(count as core::ffi::c_int + 1, instrument, false);
        }
    }
}

/// Zeroed memory for that many.
///
/// # Safety
/// The current memory context is valid.
unsafe fn array<T>(count: usize) -> *mut T {
    // SAFETY: by the caller's promise.
    unsafe { pg_sys::palloc0(count * size_of::<T>()).cast() }
}

/// The trigger: lets every row through.
///
/// # Safety
/// Called by Postgres for a row of a relation that `add_trigger` changed.
#[pg_guard]
unsafe extern "C-unwind" fn moves(frame: FunctionCallInfo) -> Datum {
    // SAFETY: by the caller's promise.
    unsafe {
        let data = &*(*frame).context.cast::<pg_sys::TriggerData>();
        let subject = &*(*(*frame).flinfo).fn_extra.cast::<Subject>();
        let row = (*data.tg_relation).rd_att;
        let before = value(data.tg_trigtuple, row, subject.column);
        let after = value(data.tg_newtuple, row, subject.column);
        if differ(before, after, row, subject.column) {
            record(subject, before, row);
        }
        Datum::from(data.tg_newtuple)
    }
}

/// # Safety
/// A row that the description describes.
unsafe fn value(tuple: HeapTuple, row: TupleDesc, column: i32) -> Option<Datum> {
    let mut is_null = false;
    // SAFETY: by the caller's promise.
    let value = unsafe { pg_sys::heap_getattr(tuple, column, row, &mut is_null) };
    (!is_null).then_some(value)
}

/// # Safety
/// Values of that column.
unsafe fn differ(one: Option<Datum>, other: Option<Datum>, row: TupleDesc, column: i32) -> bool {
    match (one, other) {
        // SAFETY: by the caller's promise. Values of the tenant's types are equal where their bytes are.
        (Some(one), Some(other)) => unsafe {
            let attribute = pg_compat::column(row, column as usize - 1);
            !pg_sys::datum_image_eq(
                one,
                other,
                (*attribute).attbyval,
                i32::from((*attribute).attlen),
            )
        },
        (one, other) => one.is_some() != other.is_some(),
    }
}

/// # Safety
/// The row's tenant, and the description of the row.
unsafe fn record(subject: &Subject, tenant: Option<Datum>, row: TupleDesc) {
    let tenant = tenant.and_then(|tenant| {
        // SAFETY: by the caller's promise.
        unsafe {
            let attribute = pg_compat::column(row, subject.column as usize - 1);
            catalog::spelled(tenant, (*attribute).atttypid)
        }
    });
    let circumstances = Circumstances::now();
    let mut record = circumstances.record(
        subject.relation,
        subject.command,
        Kind::CheckViolation,
        Precision::Exact,
        subject.role,
    );
    record.row_tenant = tenant.as_deref();
    store::add(&record);
}
