//! One JSON object as a record.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::parse::{from_base64, parse_field, parse_optional, parse_ttl, string_of};
use crate::model::{Encoding, Entry, Key, MAX_KEY_BYTES, Revision, Sequence};
use crate::wire::record::compact;
use crate::wire::{End, Header, PutKind, Record, WireError};

/// All fields of all types of records. Values stay raw, so that their spelling is kept.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Fields<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key_base64: Option<Cow<'a, str>>,
    /// `null` is a value; only a missing member is None.
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

/// The names of the fields, for readers that ignore others.
pub(super) const NAMES: [&str; 18] = [
    "type",
    "key",
    "key_base64",
    "value",
    "encoding",
    "status",
    "revision",
    "ttl",
    "mode",
    "reason",
    "cursor",
    "from",
    "history",
    "sequence",
    "timestamp",
    "count",
    "digest",
    "more",
];

/// The types of records.
pub(super) const TYPES: [&str; 10] =
    ["put", "new", "updated", "deleted", "delete", "status", "snapshot", "breadcrumb", "end", "reset"];

fn present<'de, D: Deserializer<'de>>(input: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(input).map(Some)
}

impl Fields<'_> {
    pub(super) fn into_record(self) -> Result<Record, WireError> {
        let Some(kind) = self.kind.as_deref() else {
            return Err(WireError::MissingType);
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
            return Err(WireError::MissingValue(kind.as_str()));
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
            None => Err(WireError::MissingStatus),
        }
    }

    fn into_header(self, kind: &'static str) -> Result<Header, WireError> {
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

    fn key_bytes(&self, kind: &'static str) -> Result<Vec<u8>, WireError> {
        let key = match (&self.key, &self.key_base64) {
            (Some(key), None) => key.as_bytes().to_vec(),
            (None, Some(text)) => from_base64("key_base64", text)?,
            (None, None) => return Err(WireError::MissingKey(kind)),
            (Some(_), Some(_)) => return Err(WireError::TwoKeys),
        };
        if key.len() > MAX_KEY_BYTES {
            return Err(WireError::KeyTooLong(key.len()));
        }
        Ok(key)
    }
}

/// A field that does not belong to a record's type is an error, never ignored.
impl Fields<'_> {
    fn refuse(&self, there: bool, kind: &'static str, field: &'static str) -> Result<(), WireError> {
        if there { Err(WireError::UnexpectedField { kind, field }) } else { Ok(()) }
    }

    fn refuse_header_fields(&self, kind: &'static str) -> Result<(), WireError> {
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

    fn refuse_update_fields(&self, kind: &'static str) -> Result<(), WireError> {
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
