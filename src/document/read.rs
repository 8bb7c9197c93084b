//! Reading the sources for one context.
//!
//! Owns how they are read: each as its owner, row security suspended and operations restricted, all
//! of them through one snapshot and under the same settings, so that a document is of one moment and
//! the same for everybody. Says which key failed.

use pgrx::pg_sys::{self, Datum};

use super::definition::Shape;
use super::failure::{self, At};
use super::shape::Part;
use super::statement::{Meaning, Statement};
use super::{Key, Keys};
use crate::binding::authors::Judging;
use crate::context::lookup::{self, Snapshot};
use crate::context::model::Resolved;
use crate::error::{Error, Kind, Result};
use crate::registry::{ActingRole, PinnedSearchPath};

/// Reads the keys that `shows` lets through, for a context; without a tenant nothing is read.
pub fn read(
    keys: &Keys,
    resolved: &Resolved,
    snapshot: Snapshot,
    shows: impl Fn(&Key) -> bool,
) -> Result<Vec<Part>> {
    let shown = keys.keys.iter().filter(|key| shows(key));
    if resolved.tenant().is_none() {
        return Ok(shown.map(|key| part(key, None)).collect());
    }
    let shown: Vec<_> = shown.collect();
    if shown.is_empty() {
        return Ok(Vec::new());
    }
    failure::naming(|at| read_all(&shown, resolved, snapshot, at))
}

fn part(key: &Key, container: Option<Vec<u8>>) -> Part {
    Part {
        key: key.name.clone(),
        shape: key.registration.shape,
        container,
    }
}

fn read_all(keys: &[&Key], resolved: &Resolved, snapshot: Snapshot, at: &At) -> Result<Vec<Part>> {
    let mut parts = Vec::with_capacity(keys.len());
    let settings = PinnedSearchPath::with_spelling();
    // SAFETY: SPI is connected and finished here; an error in between unwinds to Postgres, which
    // finishes it. The snapshot is pushed and popped around the statements.
    unsafe {
        pg_sys::SPI_connect();
        if snapshot != Snapshot::OfStatement {
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        for key in keys {
            at.key(
                &key.name,
                key.statement.as_ref().map(|statement| statement.owner),
            );
            let container = match &key.statement {
                Some(statement) => {
                    rows(statement, key, resolved).map_err(|error| error.about_key(&key.name))?
                }
                None => None,
            };
            parts.push(part(key, container));
        }
        at.none();
        if snapshot != Snapshot::OfStatement {
            pg_sys::PopActiveSnapshot();
        }
        pg_sys::SPI_finish();
    }
    drop(settings);
    Ok(parts)
}

/// The container that stands under a key.
///
/// # Safety
/// SPI is connected, and a snapshot active.
unsafe fn rows(statement: &Statement, key: &Key, resolved: &Resolved) -> Result<Option<Vec<u8>>> {
    let _role = ActingRole::new(statement.owner);
    let _judging = Judging::new(statement.owner, &statement.text);
    let mut nulls = vec![b' ' as core::ffi::c_char; statement.parameters.len()];
    let mut values: Vec<Datum> = Vec::with_capacity(nulls.len());
    for (index, (meaning, type_oid)) in statement.parameters.iter().enumerate() {
        let value = value(*meaning, *type_oid, resolved);
        if value.is_none() {
            nulls[index] = b'n' as core::ffi::c_char;
        }
        values.push(value.unwrap_or(Datum::null()));
    }
    // SAFETY: by the caller's promise; values and nulls are as many as the statement has parameters.
    unsafe {
        let plan = statement.plan()?;
        let result = pg_sys::SPI_execute_plan(plan, values.as_mut_ptr(), nulls.as_ptr(), true, 0);
        if result != pg_sys::SPI_OK_SELECT as i32 {
            return Err(Error::new(Kind::Internal, "a source cannot be read")
                .detail(format!("SPI_execute_plan returned {result}.")));
        }
        let table = pg_sys::SPI_tuptable;
        if pg_sys::SPI_processed > 1 && key.registration.shape == Shape::Object {
            return Err(Error::new(
                Kind::CardinalityViolation,
                "several rows where one is meant",
            )
            .hint("Make the rows unique for a user or tenant, or register the key with shape => 'array'."));
        }
        let mut container = None;
        if pg_sys::SPI_processed > 0 {
            let mut is_null = false;
            let datum = pg_sys::heap_getattr(*(*table).vals, 1, (*table).tupdesc, &mut is_null);
            container = (!is_null).then(|| copy(datum));
        }
        pg_sys::SPI_freetuptable(table);
        Ok(container)
    }
}

/// The container of a jsonb value.
///
/// # Safety
/// `datum` is a jsonb object or array.
unsafe fn copy(datum: Datum) -> Vec<u8> {
    // SAFETY: by the caller's promise; a value that was detoasted has a length of four bytes.
    unsafe {
        let value = pg_sys::pg_detoast_datum(datum.cast_mut_ptr());
        let length = pgrx::varsize_4b(value) - pg_sys::VARHDRSZ;
        let start = value.cast::<u8>().add(pg_sys::VARHDRSZ);
        core::slice::from_raw_parts(start, length).to_vec()
    }
}

fn value(meaning: Meaning, type_oid: pg_sys::Oid, resolved: &Resolved) -> Option<Datum> {
    match meaning {
        Meaning::User => {
            let user = resolved.user.as_deref()?;
            Some(lookup::user_datum(type_oid, user))
        }
        Meaning::Tenant if type_oid == pg_sys::TEXTOID => {
            let tenant = resolved.tenant()?.to_string();
            Some(lookup::user_datum(type_oid, &tenant))
        }
        Meaning::Tenant => Some(lookup::tenant_datum(resolved.tenant()?)),
    }
}
