//! The `application/vnd.crumbd.v1+bincode` body: the records of an NDJSON body one after the other, in bincode 2's
//! standard configuration, with nothing between or behind them.

use bincode::Decode;

use super::record::{Body, End, Header, Record};

/// A record. The order of the variants is their number on the wire.
#[derive(Debug, Decode)]
enum Frame {
    Put(Set),
    New(Set),
    Updated(Set),
    Deleted { key: Vec<u8>, revision: Option<u64> },
    Status { status: String },
    Snapshot(Fields),
    Breadcrumb(Fields),
    End { cursor: Option<String>, count: Option<u64>, digest: Option<String> },
}

#[derive(Debug, Decode)]
struct Set {
    key: Vec<u8>,
    value: Vec<u8>,
    revision: Option<u64>,
    ttl: Option<u64>,
}

#[derive(Debug, Decode)]
struct Fields {
    mode: Option<String>,
    reason: Option<String>,
    cursor: Option<String>,
    from: Option<String>,
    history: Option<String>,
    revision: Option<u64>,
    sequence: Option<u64>,
    timestamp: Option<String>,
    status: Option<String>,
    count: Option<u64>,
    digest: Option<String>,
    /// Of pages of `kv` only.
    more: Option<bool>,
}

impl Fields {
    fn header(self) -> Header {
        assert!(self.more.is_none(), "{self:?}");
        Header {
            mode: self.mode.unwrap(),
            reason: self.reason.unwrap(),
            cursor: self.cursor.unwrap(),
            from: self.from,
            history: self.history.unwrap(),
            revision: self.revision.unwrap(),
            sequence: self.sequence.unwrap(),
            timestamp: self.timestamp.unwrap(),
            status: self.status.unwrap(),
            count: self.count,
            digest: self.digest,
        }
    }
}

impl Set {
    fn record(self, kind: &str) -> Record {
        Record {
            kind: kind.to_owned(),
            key: self.key,
            value: Some(self.value.into()),
            revision: self.revision,
            ttl: self.ttl,
            status: None,
        }
    }
}

/// Reads a whole bincode body, from its header to its `end` and not a byte further.
pub fn read(mut bytes: &[u8]) -> Body {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (frame, length) = bincode::decode_from_slice::<Frame, _>(bytes, bincode::config::standard())
            .unwrap_or_else(|e| panic!("frame {}: {e}", frames.len()));
        frames.push(frame);
        bytes = &bytes[length..];
    }
    let Some(Frame::End { cursor, count, digest }) = frames.pop() else { panic!("cut off: no `end`") };
    let end = End { cursor: cursor.unwrap(), count, digest };
    let mut frames = frames.into_iter();
    let (snapshot, header) = match frames.next() {
        Some(Frame::Snapshot(fields)) => (true, fields.header()),
        Some(Frame::Breadcrumb(fields)) => (false, fields.header()),
        other => panic!("a body begins with its header, not with {other:?}"),
    };
    let bare = |kind: &str| Record {
        kind: kind.to_owned(),
        key: Vec::new(),
        value: None,
        revision: None,
        ttl: None,
        status: None,
    };
    let records = frames.map(|frame| match frame {
        Frame::New(set) => set.record("new"),
        Frame::Updated(set) => set.record("updated"),
        Frame::Put(set) => set.record("put"),
        Frame::Deleted { key, revision } => Record { key, revision, ..bare("deleted") },
        Frame::Status { status } => Record { status: Some(status), ..bare("status") },
        other => panic!("{other:?} inside a body"),
    });
    Body { snapshot, header, records: records.collect(), end: Some(end) }
}
