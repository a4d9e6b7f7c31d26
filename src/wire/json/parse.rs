//! Parsers of single fields.

use std::fmt::Display;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::value::RawValue;

use crate::model::Ttl;
use crate::wire::WireError;

pub(in crate::wire) fn parse_ttl(seconds: u64) -> Result<Ttl, WireError> {
    let fits = u32::try_from(seconds).map(Ttl);
    fits.map_err(|_| WireError::invalid("ttl", &seconds.to_string(), "seconds, below 2^32"))
}

pub(in crate::wire) fn parse_optional<T>(
    field: &'static str,
    text: Option<&str>,
) -> Result<Option<T>, WireError>
where
    T: FromStr,
    T::Err: Display,
{
    text.map(|text| parse_field(field, text)).transpose()
}

pub(super) fn parse_field<T>(field: &'static str, text: &str) -> Result<T, WireError>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse().map_err(|error| WireError::invalid(field, text, error))
}

pub(super) fn string_of(raw: &RawValue, encoding: &str) -> Result<String, WireError> {
    serde_json::from_str(raw.get()).map_err(|_| {
        let expected = format!("with \"encoding\":\"{encoding}\" it is a JSON string");
        WireError::invalid("value", raw.get(), expected)
    })
}

pub(super) fn from_base64(field: &'static str, text: &str) -> Result<Vec<u8>, WireError> {
    let bytes = BASE64.decode(text);
    bytes.map_err(|error| WireError::invalid(field, text, format!("RFC 4648 base64 ({error})")))
}
