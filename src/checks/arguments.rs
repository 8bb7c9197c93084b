//! Arguments of the checks: what may not be null, and how names become text.

use core::ffi::CStr;

use crate::error::{Error, Kind, Result};

/// The value; an error where it is null.
pub fn given<T>(value: Option<T>, argument: &str) -> Result<T> {
    value.ok_or_else(|| {
        Error::new(
            Kind::NullValueNotAllowed,
            format!("argument \"{argument}\" is null"),
        )
        .hint(format!("Give a value for {argument}."))
    })
}

/// A name as text; an error where it is null or empty.
pub fn name(value: Option<&CStr>, argument: &str) -> Result<String> {
    let text = given(value, argument)?.to_string_lossy().into_owned();
    if text.is_empty() {
        return Err(Error::new(
            Kind::InvalidParameterValue,
            format!("argument \"{argument}\" is empty"),
        )
        .hint(format!("Give a value for {argument}.")));
    }
    Ok(text)
}
