//! Where the rows of a comparison go: into fingerprints.
//!
//! Owns what makes two rows the same: the bytes of all their values. Must never keep a value.

use std::hash::{BuildHasher, Hasher, RandomState};

use pgrx::pg_sys;
use pgrx::prelude::*;

use pg_sys::{Datum, DestReceiver, TupleTableSlot};

use super::multiset::Digest;
use crate::pg_compat;

/// The keys of fingerprints, new for every comparison.
pub struct Keys([RandomState; 2]);

impl Keys {
    /// Two of them.
    pub fn new() -> Self {
        Self([RandomState::new(), RandomState::new()])
    }
}

/// Receives the rows of one run.
#[repr(C)]
pub struct Receiver<'a> {
    /// The first member, as Postgres has it.
    base: DestReceiver,
    keys: &'a Keys,
    /// For values that have to be read from elsewhere, a row at a time.
    memory: pg_sys::MemoryContext,
    pub digest: Digest,
    each: &'a mut dyn FnMut(u128),
}

impl<'a> Receiver<'a> {
    /// One that hands each fingerprint on.
    pub fn new(
        keys: &'a Keys,
        memory: pg_sys::MemoryContext,
        each: &'a mut dyn FnMut(u128),
    ) -> Self {
        Self {
            base: DestReceiver {
                receiveSlot: Some(receive),
                rStartup: Some(startup),
                rShutdown: Some(nothing),
                rDestroy: Some(nothing),
                mydest: pg_sys::CommandDest::DestNone,
            },
            keys,
            memory,
            digest: Digest::default(),
            each,
        }
    }

    /// As Postgres takes it.
    pub fn as_destination(&mut self) -> *mut DestReceiver {
        core::ptr::from_mut(self).cast()
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn receive(slot: *mut TupleTableSlot, this: *mut DestReceiver) -> bool {
    // SAFETY: Postgres passes the receiver of the run and a slot that holds a row; what is made of its
    // values is freed with the memory they are made in.
    unsafe {
        let this = &mut *this.cast::<Receiver<'_>>();
        let before = pg_sys::MemoryContextSwitchTo(this.memory);
        let fingerprint = fingerprint(slot, this.keys);
        pg_sys::MemoryContextSwitchTo(before);
        pg_sys::MemoryContextReset(this.memory);
        this.digest.add(fingerprint);
        (this.each)(fingerprint);
    }
    true
}

#[pg_guard]
unsafe extern "C-unwind" fn startup(
    _this: *mut DestReceiver,
    _operation: i32,
    _row: pg_sys::TupleDesc,
) {
}

#[pg_guard]
unsafe extern "C-unwind" fn nothing(_this: *mut DestReceiver) {}

unsafe fn fingerprint(slot: *mut TupleTableSlot, keys: &Keys) -> u128 {
    let mut hashers = [keys.0[0].build_hasher(), keys.0[1].build_hasher()];
    let mut write = |bytes: &[u8]| {
        for hasher in &mut hashers {
            hasher.write_usize(bytes.len());
            hasher.write(bytes);
        }
    };
    // SAFETY: by the caller's promise; after this the slot has all its values.
    unsafe {
        pg_sys::slot_getallattrs(slot);
        let row = (*slot).tts_tupleDescriptor;
        for index in 0..usize::try_from((*row).natts).unwrap_or(0) {
            if *(*slot).tts_isnull.add(index) {
                write(&[]);
                continue;
            }
            write(&[1]);
            let attribute = pg_compat::column(row, index);
            let value = *(*slot).tts_values.add(index);
            with_bytes(
                value,
                (*attribute).attlen,
                (*attribute).attbyval,
                &mut write,
            );
        }
    }
    let [one, other] = hashers.map(|hasher| u128::from(hasher.finish()));
    one << 64 | other
}

/// The bytes of a value, wherever they are.
unsafe fn with_bytes(value: Datum, length: i16, by_value: bool, write: &mut impl FnMut(&[u8])) {
    // SAFETY: by the caller's promise: a value of a type of that length.
    unsafe {
        if by_value {
            return write(&value.value().to_ne_bytes());
        }
        let (start, length) = match length {
            -1 => {
                let whole = pg_sys::pg_detoast_datum_packed(value.cast_mut_ptr());
                (
                    pgrx::vardata_any(whole).cast::<u8>(),
                    pgrx::varsize_any_exhdr(whole),
                )
            }
            -2 => {
                let text = core::ffi::CStr::from_ptr(value.cast_mut_ptr());
                (text.as_ptr().cast(), text.count_bytes())
            }
            fixed => (
                value.cast_mut_ptr::<u8>().cast_const(),
                usize::try_from(fixed).unwrap_or(0),
            ),
        };
        write(core::slice::from_raw_parts(start, length));
    }
}
