//! Postgres's lists and sets where they lie.
//!
//! Owns reading them without a call into the server. Must never change one.

use pgrx::pg_sys;

use pg_sys::List;

/// The members of a list where they lie; none for NIL. It is read by every
/// statement's start, and thousands of times while a join is planned: calling a function of Postgres's for each
/// member, behind a guard against errors, costs more than all else there.
///
/// # Safety
/// `list` is NIL or a list of pointers that nobody changes as long as the members are looked at.
pub unsafe fn each<'a, T>(list: *const List) -> &'a [*mut T] {
    // SAFETY: by the caller's promise; a cell of such a list is a pointer.
    unsafe {
        if list.is_null() {
            return &[];
        }
        let length = usize::try_from((*list).length).unwrap_or(0);
        core::slice::from_raw_parts((*list).elements.cast::<*mut T>(), length)
    }
}

/// The same of a list of numbers.
///
/// # Safety
/// `list` is NIL or a list of integers that nobody changes as long as the members are looked at.
pub unsafe fn numbers<'a>(list: *const List) -> &'a [pg_sys::ListCell] {
    // SAFETY: by the caller's promise.
    unsafe {
        if list.is_null() {
            return &[];
        }
        let length = usize::try_from((*list).length).unwrap_or(0);
        core::slice::from_raw_parts((*list).elements, length)
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
