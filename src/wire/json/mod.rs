//! Records as JSON text: one object a record, one record a line in NDJSON.

mod changed_key;
mod error;
mod fields;
mod parse;
mod write;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{Record, WireError};
pub(crate) use changed_key::changed_key;
use error::{json_error, sample};
use fields::Fields;
pub(super) use parse::{parse_optional, parse_ttl};
pub use write::write_record;
pub(super) use write::{write_deleted, write_end, write_header, write_put};

/// Reads one record from one JSON object.
///
/// # Errors
/// [`WireError`] that names the mistake and the valid form.
pub fn parse_record(text: &str) -> Result<Record, WireError> {
    if !text.trim_start().starts_with('{') {
        // serde would read an array as the struct's fields in their order.
        return Err(WireError::NotAnObject(sample(text)));
    }
    let fields: Fields = serde_json::from_str(text).map_err(|error| json_error(text, &error))?;
    fields.into_record()
}

/// Reads one record as a client does, which has to ignore what is newer than itself: unknown fields, and records of an
/// unknown type (`None`).
///
/// # Errors
/// As [`parse_record`].
pub(super) fn parse_known_record(text: &str) -> Result<Option<Record>, WireError> {
    let error = match parse_record(text) {
        Ok(record) => return Ok(Some(record)),
        Err(error) => error,
    };
    let Ok(mut members) = serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(text) else {
        return Err(error);
    };
    let kind = members.get("type").and_then(|kind| serde_json::from_str::<Cow<'_, str>>(kind.get()).ok());
    if kind.is_some_and(|kind| !fields::TYPES.contains(&&*kind)) {
        return Ok(None);
    }
    let before = members.len();
    members.retain(|name, _| fields::NAMES.contains(&&**name));
    if members.len() == before {
        return Err(error);
    }
    let known = serde_json::to_string(&members).map_err(|_| error)?;
    parse_record(&known).map(Some)
}

/// Records with their positions.
#[derive(Debug)]
pub struct Parsed {
    /// The unit of the positions: `record`, or `line` of NDJSON.
    pub unit: &'static str,
    /// The records, each with its position, from 1.
    pub records: Vec<(usize, Record)>,
}

/// Reads a JSON array of records or NDJSON, whichever the text is. Blank lines are skipped.
///
/// # Errors
/// [`WireError::At`] with the number of the record (array) or of the line (NDJSON), from 1.
pub fn parse_records(text: &str) -> Result<Parsed, WireError> {
    let array = text.trim_start().starts_with('[').then(|| serde_json::from_str::<Vec<&RawValue>>(text));
    let (unit, texts): (_, Vec<(usize, &str)>) = match array {
        // The first line of NDJSON may be an array by mistake. Then the line's number helps more.
        Some(Err(error)) if !is_lines(text) => return Err(json_error(text, &error)),
        Some(Ok(items)) => ("record", items.iter().map(|raw| raw.get()).enumerate().collect()),
        _ => ("line", text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).collect()),
    };
    let parse = |(i, text): (usize, &str)| match parse_record(text) {
        Ok(record) => Ok((i + 1, record)),
        Err(error) => Err(error.at(unit, i + 1)),
    };
    Ok(Parsed { unit, records: texts.into_iter().map(parse).collect::<Result<_, _>>()? })
}

/// Whether the first line is a JSON text by itself.
fn is_lines(text: &str) -> bool {
    let first = text.lines().find(|line| !line.trim().is_empty());
    first.is_some_and(|line| serde_json::from_str::<&RawValue>(line).is_ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::*;
    use crate::wire::PutKind;

    #[test]
    fn a_client_skips_what_it_does_not_know_and_nothing_else() {
        let known = r#"{"type":"new","key":"a","value":1.50,"revision":3}"#;
        let newer = r#"{"weight":[1,{"x":2}],"type":"new","key":"a","note":null,"value":1.50,"revision":3}"#;
        let read = parse_known_record(newer).unwrap();
        assert_eq!(format!("{read:?}"), format!("{:?}", Some(parse_record(known).unwrap())));
        let Some(Record::Put { kind: PutKind::New, entry }) = read else { panic!("{read:?}") };
        assert_eq!(entry.value(), b"1.50");
        assert!(parse_known_record(r#"{"type":"note","text":"hello"}"#).unwrap().is_none());
        for wrong in
            [r#"{"type":"new","value":1}"#, r#"{"type":"new","key":"a","weight":1}"#, "{", "[]", "{}"]
        {
            assert!(parse_known_record(wrong).is_err(), "{wrong}");
        }
        // A feed is told of them.
        assert!(parse_record(newer).is_err());
    }

    #[test]
    fn every_field_and_type_is_in_its_list() {
        for name in fields::NAMES {
            let text = format!(r#"{{"type":"no such type","{name}":null}}"#);
            let error = parse_record(&text).unwrap_err().to_string();
            assert!(!error.contains("unknown field"), "{error}");
        }
        for kind in fields::TYPES {
            let error = parse_record(&format!(r#"{{"type":"{kind}","more":7}}"#)).unwrap_err().to_string();
            assert!(!error.contains("it is new, updated"), "{error}");
        }
    }
}
