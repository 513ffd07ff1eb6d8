//! JSON objects a line at a time: numbers as their text, so that they parse exactly.
//!
//! It leaves out nested data other than block ids.

use super::rows::Fault;
use crate::fields;
use serde_json::value::RawValue;

/// A number (or quoted number) as written.
pub type Text<'a> = Option<&'a RawValue>;

/// Parses one line as `T`.
pub fn object<'a, T: serde::Deserialize<'a>>(line: &'a [u8]) -> Result<T, Fault> {
    let text = std::str::from_utf8(line).map_err(|_| Fault::row("is not UTF-8 text"))?;
    serde_json::from_str(text).map_err(|e| Fault::row(format!("is not a JSON object of this format: {e}")))
}

/// The text of a field that must be there, without quotes.
pub fn need<'a>(value: Text<'a>, column: &'static str) -> Result<&'a [u8], Fault> {
    let text = value.ok_or_else(|| Fault::at(column, "is missing"))?.get().trim();
    Ok(text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text).as_bytes())
}

/// A token count.
pub fn tokens(value: Text<'_>, column: &'static str) -> Result<u32, Fault> {
    fields::parse_u32(need(value, column)?).map_err(|reason| Fault::at(column, reason))
}

/// Prefix-block ids; an absent or empty list is none.
pub fn blocks(value: Text<'_>, column: &'static str) -> Result<Option<Box<[u64]>>, Fault> {
    let Some(raw) = value else { return Ok(None) };
    let ids: Vec<u64> = serde_json::from_str(raw.get())
        .map_err(|e| Fault::at(column, format!("is not a list of whole numbers: {e}")))?;
    Ok((!ids.is_empty()).then(|| ids.into_boxed_slice()))
}
