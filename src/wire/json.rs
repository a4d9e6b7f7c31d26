//! Records as JSON text: one object a record, one record a line in NDJSON.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::record::compact;
use super::{End, Header, PutKind, Record, WireError};
use crate::model::{Encoding, Entry, Key, MAX_KEY_BYTES, Revision, Sequence, Ttl};

/// Every field that any record may have. Values stay raw, so that their spelling is not lost.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Fields<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key_base64: Option<Cow<'a, str>>,
    /// `null` is a value; only a missing member is none.
    #[serde(borrow, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    encoding: Option<Cow<'a, str>>,
    #[serde(borrow)]
    status: Option<Cow<'a, str>>,
    revision: Option<u64>,
    ttl: Option<u64>,
    #[serde(borrow)]
    mode: Option<Cow<'a, str>>,
    reason: Option<String>,
    #[serde(borrow)]
    cursor: Option<Cow<'a, str>>,
    #[serde(borrow)]
    from: Option<Cow<'a, str>>,
    #[serde(borrow)]
    history: Option<Cow<'a, str>>,
    sequence: Option<u64>,
    timestamp: Option<String>,
    count: Option<u64>,
    #[serde(borrow)]
    digest: Option<Cow<'a, str>>,
    more: Option<bool>,
}

fn present<'de, D: Deserializer<'de>>(input: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(input).map(Some)
}

/// Reads one record from one JSON object.
///
/// # Errors
/// [`WireError`] that says what is wrong and what would be right.
pub fn parse_record(text: &str) -> Result<Record, WireError> {
    if !text.trim_start().starts_with('{') {
        // Serde would read an array as the fields in the order in which this file names them.
        return Err(WireError::Json(format!("a record is a JSON object, not {}", sample(text))));
    }
    let fields: Fields = serde_json::from_str(text).map_err(|error| json_error(text, &error))?;
    fields.into_record()
}

/// Records and where they stood.
#[derive(Debug)]
pub struct Parsed {
    /// What the positions count: `record`, or `line` of NDJSON.
    pub unit: &'static str,
    /// Position, from 1, and record.
    pub records: Vec<(usize, Record)>,
}

/// Reads a JSON array of records or NDJSON, whichever the text is. Blank lines are skipped.
///
/// # Errors
/// [`WireError::At`] with the number of the record (array) or of the line (NDJSON), from 1.
pub fn parse_records(text: &str) -> Result<Parsed, WireError> {
    let array = text.trim_start().starts_with('[').then(|| serde_json::from_str::<Vec<&RawValue>>(text));
    let (unit, texts): (_, Vec<(usize, &str)>) = match array {
        // A line of NDJSON may be an array by mistake; then its number helps more.
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

fn json_error(text: &str, error: &serde_json::Error) -> WireError {
    wrong_type(text).unwrap_or_else(|| {
        let reason: String = error.to_string().chars().take(400).collect();
        // A record is one line already: only the column says where.
        let reason = reason.replace(" at line 1 column ", " at column ");
        WireError::Json(format!("{reason}, in {}", sample(text)))
    })
}

/// The first field that holds what it cannot, if that is what is wrong: serde names only a column.
fn wrong_type(text: &str) -> Option<WireError> {
    const NUMBERS: [&str; 4] = ["revision", "ttl", "sequence", "count"];
    const TEXTS: [&str; 12] = [
        "type",
        "key",
        "key_base64",
        "encoding",
        "status",
        "mode",
        "reason",
        "cursor",
        "from",
        "history",
        "timestamp",
        "digest",
    ];
    let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(text).ok()?;
    members.into_iter().find_map(|(name, raw)| {
        let one_of = |fields: &[&'static str]| fields.iter().copied().find(|field| *field == name);
        let (field, fits, expected) = if let Some(field) = one_of(&NUMBERS) {
            let fits = serde_json::from_str::<Option<u64>>(raw.get()).is_ok();
            (field, fits, "a whole number below 2^64, without quotes")
        } else if let Some(field) = one_of(&TEXTS) {
            (field, serde_json::from_str::<Option<Cow<'_, str>>>(raw.get()).is_ok(), "a JSON string")
        } else {
            let field = one_of(&["more"])?;
            (field, serde_json::from_str::<Option<bool>>(raw.get()).is_ok(), "true or false")
        };
        (!fits).then(|| WireError::invalid(field, raw.get(), expected))
    })
}

/// The beginning of a text, to recognize it by.
fn sample(text: &str) -> String {
    let text = text.trim();
    let sample: String = text.chars().take(60).collect();
    if sample.len() < text.len() { sample + "…" } else { sample }
}

impl Fields<'_> {
    fn into_record(self) -> Result<Record, WireError> {
        let Some(kind) = self.kind.as_deref() else {
            return Err(WireError::Record(
                "the record has no `type`: it is new, updated, put, deleted, delete, status, \
                 snapshot, breadcrumb, end or reset"
                    .to_owned(),
            ));
        };
        let put = match kind {
            "put" => PutKind::Put,
            "new" => PutKind::New,
            "updated" => PutKind::Updated,
            "deleted" | "delete" => return self.into_deleted(),
            "status" => return self.into_status(),
            "snapshot" => return self.into_header("snapshot").map(Record::Snapshot),
            "breadcrumb" => return self.into_header("breadcrumb").map(Record::Breadcrumb),
            "end" => return self.into_end(),
            "reset" => return self.into_reset(),
            other => {
                return Err(WireError::invalid(
                    "type",
                    other,
                    "it is new, updated, put, deleted, delete, status, snapshot, breadcrumb, end or reset",
                ));
            }
        };
        self.into_put(put)
    }

    fn into_put(self, kind: PutKind) -> Result<Record, WireError> {
        self.refuse_header_fields(kind.as_str())?;
        let key = self.key_bytes(kind.as_str())?;
        let Some(raw) = self.value else {
            return Err(WireError::Record(format!(
                "a `{}` record needs a `value`; an empty one is \"value\":\"\",\"encoding\":\"utf8\"",
                kind.as_str()
            )));
        };
        let ttl = self.ttl.map(parse_ttl).transpose()?;
        let entry = match self.encoding.as_deref() {
            None => {
                let json = compact(raw.get());
                Entry::with_encoding(&key, &json, ttl, Encoding::of_compact_json(&json))
            }
            Some("utf8") => Entry::new(&key, string_of(raw, "utf8")?.as_bytes(), ttl),
            Some("base64") => {
                let text = string_of(raw, "base64")?;
                Entry::new(&key, &from_base64("value", &text)?, ttl)
            }
            Some(other) => {
                return Err(WireError::invalid(
                    "encoding",
                    other,
                    "it is utf8, base64, or left out for a JSON value",
                ));
            }
        };
        let entry = match self.revision {
            Some(revision) => entry.at(Revision(revision)),
            None => entry,
        };
        Ok(Record::Put { kind, entry })
    }

    fn into_deleted(self) -> Result<Record, WireError> {
        self.refuse_header_fields("deleted")?;
        self.refuse(self.value.is_some(), "deleted", "value")?;
        self.refuse(self.encoding.is_some(), "deleted", "encoding")?;
        self.refuse(self.ttl.is_some(), "deleted", "ttl")?;
        let key = Key::new(self.key_bytes("deleted")?);
        Ok(Record::Deleted { key, revision: self.revision.map(Revision) })
    }

    fn into_status(self) -> Result<Record, WireError> {
        self.refuse_update_fields("status")?;
        match self.status.as_deref() {
            Some(text) => Ok(Record::Status(parse_field("status", text)?)),
            None => Err(WireError::Record(
                "a `status` record needs a `status`: wait-for-datastore, resync-in-progress or \
                 in-sync"
                    .to_owned(),
            )),
        }
    }

    fn into_header(self, kind: &str) -> Result<Header, WireError> {
        self.refuse_update_fields(kind)?;
        Ok(Header {
            mode: parse_optional("mode", self.mode.as_deref())?,
            reason: self.reason,
            cursor: parse_optional("cursor", self.cursor.as_deref())?,
            from: parse_optional("from", self.from.as_deref())?,
            history: parse_optional("history", self.history.as_deref())?,
            revision: self.revision.map(Revision),
            sequence: self.sequence.map(Sequence),
            timestamp: self.timestamp,
            status: parse_optional("status", self.status.as_deref())?,
            count: self.count,
            digest: parse_optional("digest", self.digest.as_deref())?,
            more: self.more,
        })
    }

    fn into_end(self) -> Result<Record, WireError> {
        self.refuse_update_fields("end")?;
        Ok(Record::End(End {
            cursor: parse_optional("cursor", self.cursor.as_deref())?,
            count: self.count,
            digest: parse_optional("digest", self.digest.as_deref())?,
        }))
    }

    fn into_reset(self) -> Result<Record, WireError> {
        self.refuse_update_fields("reset")?;
        Ok(Record::Reset { reason: self.reason })
    }

    fn key_bytes(&self, kind: &str) -> Result<Vec<u8>, WireError> {
        let key = match (&self.key, &self.key_base64) {
            (Some(key), None) => key.as_bytes().to_vec(),
            (None, Some(text)) => from_base64("key_base64", text)?,
            (None, None) => {
                let text = format!("a `{kind}` record needs a `key` (or a `key_base64`)");
                return Err(WireError::Record(text));
            }
            (Some(_), Some(_)) => {
                let text = "a record has a `key` or a `key_base64`, not both".to_owned();
                return Err(WireError::Record(text));
            }
        };
        if key.len() > MAX_KEY_BYTES {
            let text = format!("the key has {} bytes; the limit is {MAX_KEY_BYTES}", key.len());
            return Err(WireError::Record(text));
        }
        Ok(key)
    }

    fn refuse(&self, there: bool, kind: &str, field: &str) -> Result<(), WireError> {
        if there {
            return Err(WireError::Record(format!("a `{kind}` record has no `{field}`")));
        }
        Ok(())
    }

    fn refuse_header_fields(&self, kind: &str) -> Result<(), WireError> {
        let fields = [
            (self.status.is_some(), "status"),
            (self.mode.is_some(), "mode"),
            (self.reason.is_some(), "reason"),
            (self.cursor.is_some(), "cursor"),
            (self.from.is_some(), "from"),
            (self.history.is_some(), "history"),
            (self.sequence.is_some(), "sequence"),
            (self.timestamp.is_some(), "timestamp"),
            (self.count.is_some(), "count"),
            (self.digest.is_some(), "digest"),
            (self.more.is_some(), "more"),
        ];
        fields.into_iter().try_for_each(|(there, field)| self.refuse(there, kind, field))
    }

    fn refuse_update_fields(&self, kind: &str) -> Result<(), WireError> {
        let fields = [
            (self.key.is_some(), "key"),
            (self.key_base64.is_some(), "key_base64"),
            (self.value.is_some(), "value"),
            (self.encoding.is_some(), "encoding"),
            (self.ttl.is_some(), "ttl"),
        ];
        fields.into_iter().try_for_each(|(there, field)| self.refuse(there, kind, field))
    }
}

pub(super) fn parse_ttl(seconds: u64) -> Result<Ttl, WireError> {
    let fits = u32::try_from(seconds).map(Ttl);
    fits.map_err(|_| WireError::invalid("ttl", &seconds.to_string(), "seconds, below 2^32"))
}

pub(super) fn parse_optional<T>(field: &'static str, text: Option<&str>) -> Result<Option<T>, WireError>
where
    T: FromStr,
    T::Err: Display,
{
    text.map(|text| parse_field(field, text)).transpose()
}

fn parse_field<T>(field: &'static str, text: &str) -> Result<T, WireError>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse().map_err(|error| WireError::invalid(field, text, error))
}

fn string_of(raw: &RawValue, encoding: &str) -> Result<String, WireError> {
    serde_json::from_str(raw.get()).map_err(|_| {
        let expected = format!("with \"encoding\":\"{encoding}\" it is a JSON string");
        WireError::invalid("value", raw.get(), expected)
    })
}

fn from_base64(field: &'static str, text: &str) -> Result<Vec<u8>, WireError> {
    let bytes = BASE64.decode(text);
    bytes.map_err(|error| WireError::invalid(field, text, format!("RFC 4648 base64 ({error})")))
}

/// Writes one record as one JSON object, without a line break.
pub fn write_record(out: &mut Vec<u8>, record: &Record) {
    match record {
        Record::Put { kind, entry } => write_put(out, *kind, entry),
        Record::Deleted { key, revision } => write_deleted(out, key.as_bytes(), *revision),
        Record::Status(status) => {
            let mut object = Object::open(out, Some("status"));
            object.string("status", status.as_str());
            object.close();
        }
        Record::Snapshot(header) => write_header(out, Some("snapshot"), header).close(),
        Record::Breadcrumb(header) => write_header(out, Some("breadcrumb"), header).close(),
        Record::End(end) => write_end(out, end),
        Record::Reset { reason } => {
            let mut object = Object::open(out, Some("reset"));
            reason.iter().for_each(|reason| object.string("reason", reason));
            object.close();
        }
    }
}

pub(super) fn write_put(out: &mut Vec<u8>, kind: PutKind, entry: &Entry) {
    let mut object = Object::open(out, Some(kind.as_str()));
    object.key(entry.key());
    match (entry.encoding(), std::str::from_utf8(entry.value())) {
        (Encoding::Json, Ok(json)) => object.raw("value", json.as_bytes()),
        (Encoding::Utf8, Ok(text)) => {
            object.string("value", text);
            object.string("encoding", "utf8");
        }
        _ => {
            object.string("value", &BASE64.encode(entry.value()));
            object.string("encoding", "base64");
        }
    }
    object.number("revision", entry.revision().map(|r| r.0));
    object.number("ttl", entry.ttl().map(|ttl| ttl.0.into()));
    object.close();
}

pub(super) fn write_deleted(out: &mut Vec<u8>, key: &[u8], revision: Option<Revision>) {
    let mut object = Object::open(out, Some("deleted"));
    object.key(key);
    object.number("revision", revision.map(|r| r.0));
    object.close();
}

pub(super) fn write_end(out: &mut Vec<u8>, end: &End) {
    let mut object = Object::open(out, Some("end"));
    object.shown("cursor", end.cursor);
    object.number("count", end.count);
    object.shown("digest", end.digest);
    object.close();
}

/// Writes the header's fields and leaves the object open.
pub(super) fn write_header<'a>(out: &'a mut Vec<u8>, kind: Option<&str>, header: &Header) -> Object<'a> {
    let mut object = Object::open(out, kind);
    object.shown("mode", header.mode);
    header.reason.iter().for_each(|reason| object.string("reason", reason));
    object.shown("cursor", header.cursor);
    object.shown("from", header.from);
    object.shown("history", header.history);
    object.number("revision", header.revision.map(|r| r.0));
    object.number("sequence", header.sequence.map(|s| s.0));
    header.timestamp.iter().for_each(|time| object.string("timestamp", time));
    object.shown("status", header.status);
    object.number("count", header.count);
    object.shown("digest", header.digest);
    if let Some(more) = header.more {
        object.raw("more", more.to_string().as_bytes());
    }
    object
}

/// A JSON object under construction. Its members' names and shown values need no escaping.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    fn open(out: &'a mut Vec<u8>, kind: Option<&str>) -> Self {
        out.push(b'{');
        let mut object = Self { out, first: true };
        kind.iter().for_each(|kind| object.string("type", kind));
        object
    }

    fn name(&mut self, name: &str) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    pub(super) fn raw(&mut self, name: &str, json: &[u8]) {
        self.name(name);
        self.out.extend_from_slice(json);
    }

    fn string(&mut self, name: &str, text: &str) {
        self.name(name);
        write_string(self.out, text);
    }

    fn shown(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.string(name, &value.to_string());
        }
    }

    fn number(&mut self, name: &str, number: Option<u64>) {
        if let Some(number) = number {
            self.raw(name, number.to_string().as_bytes());
        }
    }

    fn key(&mut self, key: &[u8]) {
        match std::str::from_utf8(key) {
            Ok(text) => self.string("key", text),
            Err(_) => self.string("key_base64", &BASE64.encode(key)),
        }
    }

    /// Opens an array as the last member; the caller writes its items, `]` and `}`.
    pub(super) fn open_array(mut self, name: &str) {
        self.name(name);
        self.out.push(b'[');
    }

    fn close(self) {
        self.out.push(b'}');
    }
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    // Writing a string into a Vec fails for no input: there is no I/O and no custom serializer.
    serde_json::to_writer(out, text).unwrap_or_default();
}
