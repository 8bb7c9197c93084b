//! Text between Postgres and the extension, in databases of every encoding.
//!
//! Owns which bytes are the same text on both sides. A database of another encoding than UTF8 has the
//! ASCII characters in common with it and no others: the bytes of one identifier could be another's, so
//! there is no text for them. Must never raise for what is read from a table.

use std::ffi::CStr;

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::datum::UnboxDatum;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{FromDatum, pg_sys};

use crate::context::identity::Malformed;
use crate::error::{Error, Kind, OrRaise};

/// The text of bytes that Postgres holds; `None` where it is not the same there.
pub fn read(bytes: &[u8]) -> Option<&str> {
    core::str::from_utf8(bytes)
        .ok()
        .filter(|text| is_same(text))
}

/// Whether the text is the same in the database's encoding.
pub fn is_same(text: &str) -> bool {
    text.is_ascii() || holds_utf8()
}

/// The text of a C string, for an identifier; an error where there is none.
pub fn exactly(value: &CStr) -> Result<&str, Malformed> {
    read(value.to_bytes()).ok_or_else(malformed)
}

/// What is wrong with an identifier that has no text.
pub fn malformed() -> Malformed {
    Malformed {
        type_name: if holds_utf8() {
            "UTF8 string"
        } else {
            "ASCII string, as the encoding of this database asks for"
        },
    }
}

/// The text of a value of type `text`, or of a type that is stored alike; `None` where there is none.
///
/// # Safety
/// `datum` is such a value, and lives as long as what is returned.
pub unsafe fn of_value<'a>(datum: pg_sys::Datum) -> Option<&'a str> {
    // SAFETY: by the caller's promise; a value that must be read from elsewhere is copied.
    unsafe {
        let value = pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr());
        read(pgrx::varlena_to_byte_slice(value))
    }
}

/// Nobody knows what the bytes of SQL_ASCII are; what is valid UTF8 was meant to be.
fn holds_utf8() -> bool {
    use pg_sys::pg_enc::{PG_SQL_ASCII, PG_UTF8};
    // SAFETY: a plain read of the backend's state.
    let encoding = u32::try_from(unsafe { pg_sys::GetDatabaseEncoding() });
    matches!(encoding, Ok(PG_UTF8 | PG_SQL_ASCII))
}

/// An argument of type `text`. One without a text is refused as malformed.
pub struct Argument<'a>(&'a str);

impl core::ops::Deref for Argument<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.0
    }
}

impl<'a> Argument<'a> {
    /// # Safety
    /// `datum` is a text that lives as long as the call.
    unsafe fn of(datum: pg_sys::Datum) -> Argument<'a> {
        // SAFETY: by the caller's promise.
        let text = unsafe { of_value(datum) }.ok_or_else(|| {
            Error::new(
                Kind::InvalidTextRepresentation,
                format!(
                    "invalid argument: not a well-formed {}",
                    malformed().type_name
                ),
            )
            .hint("Give text that is the same in UTF8 and in the encoding of this database.")
        });
        Argument(text.or_raise())
    }
}

impl FromDatum for Argument<'_> {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _type_oid: pg_sys::Oid,
    ) -> Option<Self> {
        // SAFETY: a text, by the declaration of the function that is called.
        (!is_null).then(|| unsafe { Self::of(datum) })
    }
}

// SAFETY: elements of an array are read as the argument itself is.
unsafe impl UnboxDatum for Argument<'_> {
    type As<'src>
        = Argument<'src>
    where
        Self: 'src;

    unsafe fn unbox<'src>(datum: pgrx::datum::Datum<'src>) -> Argument<'src>
    where
        Self: 'src,
    {
        // SAFETY: a text, by the declaration of the function that is called.
        unsafe { Argument::of(datum.sans_lifetime()) }
    }
}

// SAFETY: reads the argument as `FromDatum` does.
unsafe impl<'fcx> ArgAbi<'fcx> for Argument<'fcx> {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: a text, by the declaration of the function that is called.
        unsafe { arg.unbox_arg_using_from_datum() }.unwrap_or(Self(""))
    }
}

// SAFETY: as the type that it holds.
unsafe impl<'a> SqlTranslatable for Argument<'a> {
    const TYPE_IDENT: &'static str = <&'a str>::TYPE_IDENT;
    const TYPE_ORIGIN: TypeOrigin = <&'a str>::TYPE_ORIGIN;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = <&'a str>::ARGUMENT_SQL;
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> = <&'a str>::RETURN_SQL;
}
