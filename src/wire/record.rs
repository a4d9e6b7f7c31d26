//! One record of a feed file or of a body.

use std::fmt;
use std::str::FromStr;

use serde_json::value::RawValue;

use crate::model::{
    Digest, Entry, History, Key, KeyStep, MAX_KEY_BYTES, OpaqueCursor, Revision, Sequence, SyncStatus,
};

/// The largest record of a body, in bytes: a line of NDJSON without its end, or the length that a bincode record claims.
/// The daemon's `--max-value-bytes` (8 MiB by default) bounds values; this bounds what a reader accepts.
pub(super) const MAX_RECORD_BYTES: usize = 1 << 30;

/// The type of a record that sets a key: what it claims about the key's state before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PutKind {
    /// No claim; only in input.
    Put,
    /// The key did not exist.
    New,
    /// The key existed.
    Updated,
}

impl PutKind {
    /// The record's `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::New => "new",
            Self::Updated => "updated",
        }
    }
}

/// One record.
#[derive(Clone, Debug)]
pub enum Record {
    /// Sets a key; the revision is the entry's.
    Put {
        /// The record's type.
        kind: PutKind,
        /// Key, value, ttl, revision.
        entry: Entry,
    },
    /// Removes a key.
    Deleted {
        /// The key.
        key: Key,
        /// The revision of the deletion.
        revision: Option<Revision>,
    },
    /// A change inside a breadcrumb that covers several revisions (only in bincode, for relays).
    Step(KeyStep),
    /// The feed's status changed.
    Status(SyncStatus),
    /// The whole state follows.
    Snapshot(Header),
    /// The updates since `from` follow.
    Breadcrumb(Header),
    /// Closes a snapshot or a breadcrumb.
    End(End),
    /// The client's state cannot be continued; a snapshot follows (only in a stream).
    Reset {
        /// The reason.
        reason: Option<String>,
    },
}

/// The kind of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// There is no body.
    None,
    /// The updates of one breadcrumb.
    Delta,
    /// The updates of several breadcrumbs, the last value per key.
    Squash,
    /// The whole state.
    Snapshot,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::None, Self::Delta, Self::Squash, Self::Snapshot];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Delta => "delta",
            Self::Squash => "squash",
            Self::Snapshot => "snapshot",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, WireError> {
        Self::ALL
            .into_iter()
            .find(|m| m.as_str() == text)
            .ok_or_else(|| WireError::invalid("mode", text, "it is none, delta, squash or snapshot"))
    }
}

/// The fields before the entries or updates of a body. The daemon sets all that apply. A feed written by hand may leave
/// out all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The kind of the body.
    pub mode: Option<Mode>,
    /// The reason for this body.
    pub reason: Option<String>,
    /// The state after the body.
    pub cursor: Option<OpaqueCursor>,
    /// The state before the body (not for snapshots).
    pub from: Option<OpaqueCursor>,
    /// The history of the revisions.
    pub history: Option<History>,
    /// The revision after the body.
    pub revision: Option<Revision>,
    /// The breadcrumb's number in its process.
    pub sequence: Option<Sequence>,
    /// The time of the breadcrumb: RFC 3339, UTC.
    pub timestamp: Option<String>,
    /// The feed's status.
    pub status: Option<SyncStatus>,
    /// Number of keys of the whole state; left out under a prefix.
    pub count: Option<u64>,
    /// Digest of the whole state; left out under a prefix.
    pub digest: Option<Digest>,
    /// Only on a page of keys: whether there are more after its last one.
    pub more: Option<bool>,
}

/// The last record of a body. A body without it was cut off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// The state after the body.
    pub cursor: Option<OpaqueCursor>,
    /// Number of keys of the whole state; left out under a prefix.
    pub count: Option<u64>,
    /// Digest of the whole state; left out under a prefix.
    pub digest: Option<Digest>,
}

/// Bytes that are not a record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The text is not a JSON object with a record's fields.
    #[error("not a record: {0}")]
    Json(String),
    /// The text is JSON, but not an object; holds its beginning.
    #[error("not a record: a record is a JSON object, not {0}")]
    NotAnObject(String),
    /// A line is not UTF-8.
    #[error("not a record: the line is not UTF-8: {0}")]
    NotUtf8(std::str::Utf8Error),
    /// The record has no type.
    #[error(
        "the record has no `type`: it is new, updated, put, deleted, delete, status, snapshot, breadcrumb, end or reset"
    )]
    MissingType,
    /// A record that sets a key has no value.
    #[error("a `{0}` record needs a `value`; an empty one is \"value\":\"\",\"encoding\":\"utf8\"")]
    MissingValue(&'static str),
    /// A `status` record has no status.
    #[error("a `status` record needs a `status`: wait-for-datastore, resync-in-progress or in-sync")]
    MissingStatus,
    /// A record of this type has no key.
    #[error("a `{0}` record needs a `key` (or a `key_base64`)")]
    MissingKey(&'static str),
    /// A record has both a `key` and a `key_base64`.
    #[error("a record has a `key` or a `key_base64`, not both")]
    TwoKeys,
    /// A key has more than [`MAX_KEY_BYTES`] bytes; holds its length.
    #[error("the key has {0} bytes; the limit is {MAX_KEY_BYTES}")]
    KeyTooLong(usize),
    /// A field does not belong to a record of this type.
    #[error("a `{kind}` record has no `{field}`")]
    UnexpectedField {
        /// The record's type.
        kind: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A field has an invalid value.
    #[error("field `{field}` is {found:?}: {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// Its value, cut to a readable length.
        found: String,
        /// The valid values.
        expected: String,
    },
    /// A record of an array or a body is wrong.
    #[error("{unit} {position}: {source}")]
    At {
        /// The unit of the position: `record`, or `line` of NDJSON.
        unit: &'static str,
        /// The position, from 1.
        position: usize,
        /// The error in that record.
        source: Box<WireError>,
    },
    /// The bytes are not bincode of this layout; holds the library's message.
    #[error("not a bincode body: {0}")]
    Bincode(String),
    /// Bytes follow after the end; holds their number.
    #[error("not a bincode body: {0} bytes are left over")]
    LeftOver(usize),
    /// Compressed bytes that cannot be expanded, or a failure of the compressor.
    #[error("{coding}: {detail}")]
    Coding {
        /// The coding.
        coding: &'static str,
        /// The library's message.
        detail: String,
    },
    /// A record over the size limit.
    #[error("a record is longer than {limit} bytes: this is no body of crumbd")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// The body ended in the middle of a record.
    #[error("the body was cut off in the middle of a record")]
    CutOff,
}

impl WireError {
    pub(super) fn invalid(field: &'static str, found: &str, expected: impl fmt::Display) -> Self {
        let found = found.chars().take(80).collect();
        Self::Field { field, found, expected: expected.to_string() }
    }

    pub(super) fn at(self, unit: &'static str, position: usize) -> Self {
        Self::At { unit, position, source: Box::new(self) }
    }
}

/// Checks that the text is JSON and returns it without insignificant whitespace. Number spelling and member order stay.
///
/// # Errors
/// [`WireError::Json`] with the position of the error.
pub fn compact_json(text: &str) -> Result<Vec<u8>, WireError> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| WireError::Json(error.to_string()))?;
    Ok(compact(raw.get()))
}

/// Drops the whitespace between tokens of a text that is known to be JSON.
pub(super) fn compact(json: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let mut in_string = false;
    let mut escaped = false;
    for byte in json.bytes() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            continue;
        } else {
            in_string = byte == b'"';
        }
        out.push(byte);
    }
    out
}
