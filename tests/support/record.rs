//! Records and bodies, read as PROTOCOL.md has them.
//!
//! A JSON value is kept by its bytes (`RawValue`), never through a number or a map: `1.0e+05` must stay as it is.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::bincode;

/// The header fields of a snapshot or breadcrumb.
#[derive(Debug, Clone, Deserialize)]
pub struct Header {
    pub mode: String,
    pub reason: String,
    pub cursor: String,
    pub from: Option<String>,
    pub history: String,
    pub revision: u64,
    pub sequence: u64,
    pub timestamp: String,
    pub status: String,
    pub count: Option<u64>,
    pub digest: Option<String>,
}

/// The last record of a body.
#[derive(Debug, Clone, Deserialize)]
pub struct End {
    pub cursor: String,
    pub count: Option<u64>,
    pub digest: Option<String>,
}

/// One change of one key, or of the status.
#[derive(Debug, Clone)]
pub struct Record {
    /// The `type`.
    pub kind: String,
    pub key: Vec<u8>,
    pub value: Option<Arc<[u8]>>,
    pub revision: Option<u64>,
    pub ttl: Option<u64>,
    pub status: Option<String>,
}

/// A whole body of `current`, `next`, `{cursor}` or `diff`.
#[derive(Debug, Clone)]
pub struct Body {
    /// Entries of a state (true) or updates since a cursor (false).
    pub snapshot: bool,
    pub header: Header,
    pub records: Vec<Record>,
    /// Only JSON bodies have none: there the closing brace says that it is whole.
    pub end: Option<End>,
}

#[derive(Deserialize)]
struct RawRecord<'a> {
    #[serde(rename = "type")]
    kind: String,
    key: Option<String>,
    key_base64: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    encoding: Option<String>,
    revision: Option<u64>,
    ttl: Option<u64>,
    status: Option<String>,
}

#[derive(Deserialize)]
struct Lists<'a> {
    #[serde(borrow)]
    entries: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    updates: Option<Vec<&'a RawValue>>,
}

/// A value that is there, `null` included: an `Option` alone would take `null` for absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Record {
    /// Reads one record, and holds its spelling to what the contract says of records going out.
    pub fn read(text: &str) -> Record {
        let raw: RawRecord<'_> = serde_json::from_str(text).unwrap_or_else(|e| panic!("record: {e}: {text}"));
        let key = match (raw.key, raw.key_base64) {
            (Some(key), None) => key.into_bytes(),
            (None, Some(key)) => {
                let key = STANDARD.decode(&key).unwrap_or_else(|e| panic!("key_base64: {e}: {text}"));
                assert!(std::str::from_utf8(&key).is_err(), "a UTF-8 key comes as `key`: {text}");
                key
            }
            (None, None) if raw.kind == "status" => Vec::new(),
            _ => panic!("one of key and key_base64: {text}"),
        };
        let value = raw.value.map(|value| match raw.encoding.as_deref() {
            None => {
                let bytes = compact(value.get());
                assert_eq!(bytes, value.get(), "a JSON value goes out compact");
                assert!(is_compact_json(bytes.as_bytes()), "a strict parser reads it: {text}");
                bytes.into_bytes()
            }
            Some("utf8") => {
                let bytes = serde_json::from_str::<String>(value.get()).unwrap().into_bytes();
                assert!(!is_compact_json(&bytes), "compact JSON goes out as JSON: {text}");
                bytes
            }
            Some("base64") => {
                let bytes = STANDARD.decode(serde_json::from_str::<String>(value.get()).unwrap()).unwrap();
                assert!(std::str::from_utf8(&bytes).is_err(), "UTF-8 goes out as utf8: {text}");
                bytes
            }
            Some(other) => panic!("encoding {other:?}: {text}"),
        });
        match raw.kind.as_str() {
            "new" | "updated" | "put" => assert!(value.is_some(), "no value: {text}"),
            "deleted" | "delete" => assert!(value.is_none(), "a deletion with a value: {text}"),
            "status" => assert!(raw.status.is_some(), "no status: {text}"),
            other => panic!("type {other:?} among records: {text}"),
        }
        Record {
            kind: raw.kind,
            key,
            value: value.map(Arc::from),
            revision: raw.revision,
            ttl: raw.ttl,
            status: raw.status,
        }
    }
}

impl Body {
    /// Reads a body by its media type.
    pub fn read(content_type: &str, bytes: &[u8]) -> Body {
        match content_type.split(';').next().unwrap().trim() {
            "application/json" => Body::json(bytes),
            "application/x-ndjson" => {
                let text = std::str::from_utf8(bytes).unwrap();
                assert!(text.ends_with('\n'), "the last line of NDJSON ends with a newline");
                let mut bodies = Body::sequence(text);
                assert_eq!(bodies.len(), 1, "one body");
                bodies.remove(0)
            }
            "application/vnd.crumbd.v1+bincode" => bincode::read(bytes),
            other => panic!("content-type {other:?}"),
        }
    }

    fn json(bytes: &[u8]) -> Body {
        let text = std::str::from_utf8(bytes).unwrap();
        let header: Header =
            serde_json::from_str(text).unwrap_or_else(|e| panic!("header: {e}: {text:.600}"));
        let lists: Lists<'_> =
            serde_json::from_str(text).unwrap_or_else(|e| panic!("lists: {e}: {text:.600}"));
        let (snapshot, records) = match (lists.entries, lists.updates) {
            (Some(entries), None) => (true, entries),
            (None, Some(updates)) => (false, updates),
            both => panic!("one of entries and updates, not {both:?}"),
        };
        let records = records.iter().map(|record| Record::read(record.get())).collect();
        Body { snapshot, header, records, end: None }
    }

    /// Reads NDJSON of one or more bodies, one behind the other, each closed by its `end`.
    pub fn sequence(text: &str) -> Vec<Body> {
        let mut bodies: Vec<Body> = Vec::new();
        let mut open: Option<Body> = None;
        for line in text.lines() {
            let kind = kind_of(line);
            match (kind.as_str(), &mut open) {
                ("snapshot" | "breadcrumb", None) => {
                    let header = serde_json::from_str(line).unwrap_or_else(|e| panic!("header: {e}: {line}"));
                    open =
                        Some(Body { snapshot: kind == "snapshot", header, records: Vec::new(), end: None });
                }
                ("end", Some(body)) => {
                    body.end =
                        Some(serde_json::from_str(line).unwrap_or_else(|e| panic!("end: {e}: {line}")));
                    bodies.extend(open.take());
                }
                (_, Some(body)) => body.records.push(Record::read(line)),
                (_, None) => panic!("a record outside of a body: {line}"),
            }
        }
        assert!(open.is_none(), "a body without its `end` was cut off");
        bodies
    }
}

/// JSON without insignificant whitespace: what stands outside of strings and is a space, tab or line end goes.
pub fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut inside, mut escaped) = (false, false);
    for c in json.chars() {
        if inside || !matches!(c, ' ' | '\t' | '\n' | '\r') {
            out.push(c);
        }
        match c {
            _ if escaped => escaped = false,
            '\\' if inside => escaped = true,
            '"' => inside = !inside,
            _ => {}
        }
    }
    out
}

/// Whether bytes are one JSON value written compactly, which a parser that makes something of it reads: none with half a
/// surrogate pair, and none with a number that is too large.
fn is_compact_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes)
        .is_ok_and(|text| serde_json::from_str::<Value>(text).is_ok() && compact(text) == text)
}

/// A record's `type`, read past all the rest.
pub fn kind_of(line: &str) -> String {
    #[derive(Deserialize)]
    struct Type {
        #[serde(rename = "type")]
        kind: String,
    }
    serde_json::from_str::<Type>(line).unwrap_or_else(|e| panic!("{e}: {line}")).kind
}

/// The `entries` of a list of keys.
pub fn listed(bytes: &[u8]) -> Vec<Record> {
    let text = std::str::from_utf8(bytes).unwrap();
    let lists: Lists<'_> = serde_json::from_str(text).unwrap_or_else(|e| panic!("list: {e}: {text:.600}"));
    let entries = lists.entries.unwrap_or_else(|| panic!("no entries: {text:.600}"));
    entries.iter().map(|record| Record::read(record.get())).collect()
}
