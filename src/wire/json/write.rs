//! Records to JSON text.

use std::fmt::Display;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::model::{Encoding, Entry, Revision};
use crate::wire::{End, Header, PutKind, Record, Values};

/// Writes one record as one JSON object, without a line break.
pub fn write_record(out: &mut Vec<u8>, record: &Record) {
    match record {
        Record::Put { kind, entry } => write_put(out, *kind, entry, Values::Json),
        Record::Deleted { key, revision } => write_deleted(out, key.as_bytes(), *revision),
        // Only relays are told of steps, in bincode; in JSON they can be read by people.
        Record::Step(step) => {
            let mut object = Object::open(out, Some("step"));
            object.key(step.key.as_bytes());
            object.number("revision", Some(step.revision.0));
            object.raw("existed", step.existed.to_string().as_bytes());
            object.close();
        }
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

pub(in crate::wire) fn write_put(out: &mut Vec<u8>, kind: PutKind, entry: &Entry, values: Values) {
    let mut object = Object::open(out, Some(kind.as_str()));
    object.key(entry.key());
    match (entry.encoding(), std::str::from_utf8(entry.value())) {
        (Encoding::Json, Ok(json)) if values == Values::Json => object.raw("value", json.as_bytes()),
        (Encoding::Json | Encoding::Utf8, Ok(text)) => {
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

pub(in crate::wire) fn write_deleted(out: &mut Vec<u8>, key: &[u8], revision: Option<Revision>) {
    let mut object = Object::open(out, Some("deleted"));
    object.key(key);
    object.number("revision", revision.map(|r| r.0));
    object.close();
}

pub(in crate::wire) fn write_end(out: &mut Vec<u8>, end: &End) {
    let mut object = Object::open(out, Some("end"));
    object.display("cursor", end.cursor);
    object.number("count", end.count);
    object.display("digest", end.digest);
    object.close();
}

/// Writes the header's fields and leaves the object open.
pub(in crate::wire) fn write_header<'a>(
    out: &'a mut Vec<u8>,
    kind: Option<&str>,
    header: &Header,
) -> Object<'a> {
    let mut object = Object::open(out, kind);
    object.display("mode", header.mode);
    header.reason.iter().for_each(|reason| object.string("reason", reason));
    object.display("cursor", header.cursor);
    object.display("from", header.from);
    object.display("history", header.history);
    object.number("revision", header.revision.map(|r| r.0));
    object.number("sequence", header.sequence.map(|s| s.0));
    header.timestamp.iter().for_each(|time| object.string("timestamp", time));
    object.display("status", header.status);
    object.number("count", header.count);
    object.display("digest", header.digest);
    if let Some(more) = header.more {
        object.raw("more", more.to_string().as_bytes());
    }
    object
}

/// A JSON object under construction. Names of members must need no escaping.
pub(in crate::wire) struct Object<'a> {
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

    pub(in crate::wire) fn raw(&mut self, name: &str, json: &[u8]) {
        self.name(name);
        self.out.extend_from_slice(json);
    }

    fn string(&mut self, name: &str, text: &str) {
        self.name(name);
        write_string(self.out, text);
    }

    fn display(&mut self, name: &str, value: Option<impl Display>) {
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
    pub(in crate::wire) fn open_array(mut self, name: &str) {
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
