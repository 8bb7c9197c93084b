//! Postgres's lists and sets where they lie.
//!
//! Owns reading them without a call into the server. Must never change one.

use pgrx::pg_sys;

use pg_sys::List;

/// The members of a list where they lie; none for NIL. It is read by every statement's start, and
/// thousands of times while a join is planned: calling a function of Postgres's for each member, behind
/// a guard against errors, costs more than all else there.
///
/// # Safety
/// `list` is NIL or a list of pointers that nobody changes as long as the members are looked at.
pub unsafe fn each<'a, T>(list: *const List) -> &'a [*mut T] {
    // SAFETY: by the caller's promise; a cell of such a list is a pointer.
    unsafe { cells(list) }
}

/// The relations that a statement writes, views and partitions among them.
///
/// # Safety
/// `statement` is a valid planned statement that nobody changes as long as they are looked at.
pub unsafe fn written_relations<'a>(
    statement: *const pg_sys::PlannedStmt,
) -> impl Iterator<Item = pg_sys::Oid> + 'a {
    // SAFETY: by the caller's promise; the list holds places in the range table, counted from 1.
    let (entries, numbers) = unsafe {
        (
            each::<pg_sys::RangeTblEntry>((*statement).rtable),
            cells::<pg_sys::ListCell>((*statement).resultRelations),
        )
    };
    numbers.iter().filter_map(|cell| {
        // SAFETY: as above.
        let place = usize::try_from(unsafe { cell.int_value }).ok()?;
        let entry = entries.get(place.checked_sub(1)?)?;
        // SAFETY: as above.
        Some(unsafe { (**entry).relid })
    })
}

/// # Safety
/// `list` is NIL or a list that nobody changes as long as the cells are looked at, and `C` is as large
/// as a cell.
unsafe fn cells<'a, C>(list: *const List) -> &'a [C] {
    // SAFETY: by the caller's promise.
    unsafe {
        if list.is_null() {
            return &[];
        }
        let length = usize::try_from((*list).length).unwrap_or(0);
        core::slice::from_raw_parts((*list).elements.cast::<C>(), length)
    }
}

/// Whether all numbers of a set are in another. As `bms_is_subset`, which cannot fail.
///
/// # Safety
/// Null or valid sets.
pub unsafe fn is_subset(set: *const pg_sys::Bitmapset, of: *const pg_sys::Bitmapset) -> bool {
    // SAFETY: by the caller's promise: that many words follow.
    let words = |set: *const pg_sys::Bitmapset| unsafe {
        if set.is_null() {
            return &[][..];
        }
        let length = usize::try_from((*set).nwords).unwrap_or(0);
        (*set).words.as_slice(length)
    };
    let others = words(of);
    words(set)
        .iter()
        .enumerate()
        .all(|(index, word)| word & !others.get(index).copied().unwrap_or(0) == 0)
}
