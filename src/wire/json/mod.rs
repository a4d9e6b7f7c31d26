//! Records as JSON text: one object a record, one record a line in NDJSON.

mod changed_key;
mod error;
mod fields;
mod parse;
mod write;

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
