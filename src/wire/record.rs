//! One record, as it stands in a feed file and in a body.

use std::fmt;
use std::str::FromStr;

use serde_json::value::RawValue;

use crate::model::{Cursor, Digest, Entry, History, Key, Revision, Sequence, SyncStatus};

/// The most that one record of a body may hold, in bytes: a line of NDJSON without its end, or what a bincode record claims.
/// Values are bounded by the daemon's `--max-value-bytes`, 8 MiB unless told; whoever reads bounds what it is sent.
pub(super) const MAX_RECORD_BYTES: usize = 1 << 30;

/// What a `new`, `updated` or `put` record says about the key before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PutKind {
    /// Nothing (only in).
    Put,
    /// It did not exist.
    New,
    /// It existed.
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
        /// What it claims about the key before.
        kind: PutKind,
        /// Key, value, ttl, revision.
        entry: Entry,
    },
    /// Removes a key.
    Deleted {
        /// The key.
        key: Key,
        /// When it was removed.
        revision: Option<Revision>,
    },
    /// The feed's status changed.
    Status(SyncStatus),
    /// The whole state follows.
    Snapshot(Header),
    /// The updates since `from` follow.
    Breadcrumb(Header),
    /// Closes a snapshot or a breadcrumb.
    End(End),
    /// What the client has cannot be continued: a snapshot follows (only in a stream).
    Reset {
        /// Why.
        reason: Option<String>,
    },
}

/// How the body was made.
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
        [Self::None, Self::Delta, Self::Squash, Self::Snapshot]
            .into_iter()
            .find(|m| m.as_str() == text)
            .ok_or_else(|| WireError::invalid("mode", text, "it is none, delta, squash or snapshot"))
    }
}

/// What stands before the entries or updates of a body. The daemon fills in everything that
/// applies; a feed written by hand may leave out everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// How the body was made.
    pub mode: Option<Mode>,
    /// Why it was made so.
    pub reason: Option<String>,
    /// The state after the body.
    pub cursor: Option<Cursor>,
    /// The state before the body (not for snapshots).
    pub from: Option<Cursor>,
    /// Whose revisions these are.
    pub history: Option<History>,
    /// The revision after the body.
    pub revision: Option<Revision>,
    /// The breadcrumb's number in its process.
    pub sequence: Option<Sequence>,
    /// When the breadcrumb was dropped: RFC 3339, UTC.
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

/// Closes a body: one without it was cut off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// The state after the body.
    pub cursor: Option<Cursor>,
    /// Number of keys of the whole state; left out under a prefix.
    pub count: Option<u64>,
    /// Digest of the whole state; left out under a prefix.
    pub digest: Option<Digest>,
}

/// Why bytes are not a record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The text is not a JSON object with a record's fields.
    #[error("not a record: {0}")]
    Json(String),
    /// The fields do not make a record.
    #[error("{0}")]
    Record(String),
    /// A field holds what it may not.
    #[error("field `{field}` is {found:?}: {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it holds, cut to a readable length.
        found: String,
        /// What it may hold.
        expected: String,
    },
    /// A record of an array or a body is wrong.
    #[error("{unit} {position}: {source}")]
    At {
        /// What is counted: `record`, or `line` of NDJSON.
        unit: &'static str,
        /// Which, from 1.
        position: usize,
        /// What is wrong with it.
        source: Box<WireError>,
    },
    /// Binary bytes that are not ours.
    #[error("not a bincode body: {0}")]
    Bincode(String),
    /// Compressed bytes that cannot be expanded, or a failure of the compressor.
    #[error("{coding}: {detail}")]
    Coding {
        /// The coding.
        coding: &'static str,
        /// What the library says.
        detail: String,
    },
    /// A line that goes on and on.
    #[error("a record is longer than {limit} bytes: this is no body of crumbd")]
    TooLong {
        /// What is read at the most.
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

/// Reads text as JSON and returns the same JSON without insignificant whitespace: number
/// spelling and member order stay.
///
/// # Errors
/// [`WireError::Json`] with the place of the fault.
pub fn compact_json(text: &str) -> Result<Vec<u8>, WireError> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| WireError::Json(error.to_string()))?;
    Ok(compact(raw.get()))
}

/// Drops the white space between tokens of text that is known to be JSON.
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
