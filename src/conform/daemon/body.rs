//! The bodies of the scripted daemon, in pieces: one a record.

use super::shape::shaped;
use super::world::{Crumb, State, Step, steps};
use crate::model::{Digest, Entry, Key, Revision};
use crate::wire::{BodyWriter, Coding, End, Header, MediaType, Mode, PutKind, WireError};

/// The keys that an answer is about.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    /// The prefix that the client asked for.
    pub(super) prefix: Option<Vec<u8>>,
    /// The prefix that it may read.
    pub(super) readable: Option<Vec<u8>>,
}

impl Scope {
    /// Whether count and digest of the whole state belong to the answer.
    fn is_everything(&self) -> bool {
        self.prefix.is_none() && self.readable.is_none()
    }

    /// The state as this client sees it.
    pub(super) fn of(&self, state: &State) -> State {
        let wanted = |key: &Key| {
            [&self.prefix, &self.readable].into_iter().flatten().all(|p| key.as_bytes().starts_with(p))
        };
        match self.is_everything() {
            true => state.clone(),
            false => {
                state.iter().filter(|(key, _)| wanted(key)).map(|(k, e)| (k.clone(), e.clone())).collect()
            }
        }
    }
}

/// Something wrong in a body that is whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lie {
    /// One value is another one.
    Value,
    /// The last record is missing.
    Record,
    /// The digest is another one.
    Digest,
    /// The count is too high by one.
    Count,
}

/// How a body differs from what the contract makes.
#[derive(Clone, Copy, Default)]
pub(super) struct Spelling {
    pub(super) lie: Option<Lie>,
    /// Whether there are fields and record types that no client knows.
    pub(super) unknown: bool,
    /// Whether cursors have another shape.
    pub(super) shaped: bool,
}

/// A body in pieces: the head, the records, the end.
pub(super) struct Body {
    pub(super) pieces: Vec<Vec<u8>>,
    pub(super) mode: Mode,
    pub(super) reason: &'static str,
}

impl Body {
    /// The bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.pieces.concat()
    }

    /// The bytes in this coding. Bincode has several zstd frames.
    pub(super) fn coded(&self, media: MediaType, coding: Coding) -> Result<Vec<u8>, WireError> {
        match (media, coding) {
            (MediaType::Bincode, Coding::Zstd) => {
                let (first, rest) = self.pieces.split_at(self.pieces.len() / 2);
                Ok([coding.encode(&first.concat())?, coding.encode(&rest.concat())?].concat())
            }
            _ => coding.encode(&self.bytes()),
        }
    }
}

fn header(
    crumb: &Crumb,
    mode: Mode,
    reason: &str,
    from: Option<&Crumb>,
    scope: &Scope,
    lie: Option<Lie>,
) -> Header {
    let whole = scope.is_everything();
    let count = crumb.state.len() as u64 + u64::from(lie == Some(Lie::Count));
    let digest = match lie {
        Some(Lie::Digest) => crumb.digest.plus(Digest::from_bits(1)),
        _ => crumb.digest,
    };
    Header {
        mode: Some(mode),
        reason: Some(reason.to_owned()),
        cursor: Some(crumb.cursor.into()),
        from: from.map(|from| from.cursor.into()),
        history: Some(crumb.cursor.history),
        revision: Some(crumb.cursor.revision),
        sequence: Some(crate::model::Sequence(crumb.sequence)),
        timestamp: Some("2026-01-02T03:04:05Z".to_owned()),
        status: Some(crumb.cursor.status),
        count: whole.then_some(count),
        digest: whole.then_some(digest),
        more: None,
    }
}

/// The snapshot of a breadcrumb.
pub(super) fn snapshot(crumb: &Crumb, scope: &Scope, media: MediaType, spelling: Spelling) -> Body {
    let head = header(crumb, Mode::Snapshot, "current", None, scope, spelling.lie);
    let state = scope.of(&crumb.state);
    let steps = state.values().map(|entry| Step::Put(PutKind::New, entry.clone())).collect();
    let writer = BodyWriter::snapshot(media, &head, 0);
    Body { pieces: pieces(writer, media, &head, steps, spelling), mode: Mode::Snapshot, reason: "current" }
}

/// The updates from one breadcrumb to another one; `None` where the client sees no difference.
pub(super) fn updates(
    from: &Crumb,
    to: &Crumb,
    scope: &Scope,
    media: MediaType,
    spelling: Spelling,
) -> Option<Body> {
    let steps = steps(&scope.of(&from.state), &scope.of(&to.state), to.cursor.revision);
    let status_changed = from.cursor.status != to.cursor.status;
    if steps.is_empty() && !status_changed {
        return None;
    }
    let neighbours = from.sequence + 1 == to.sequence;
    let (mode, reason) = match (neighbours, steps.is_empty()) {
        (true, true) => (Mode::Delta, "status"),
        (true, false) => (Mode::Delta, "next"),
        (false, _) => (Mode::Squash, "behind"),
    };
    let head = header(to, mode, reason, Some(from), scope, spelling.lie);
    let writer = BodyWriter::breadcrumb(media, &head, 0);
    Some(Body { pieces: pieces(writer, media, &head, steps, spelling), mode, reason })
}

/// Updates without an update, which lead to the breadcrumb that the client has.
pub(super) fn unchanged(crumb: &Crumb, scope: &Scope, media: MediaType, spelling: Spelling) -> Body {
    let head = header(crumb, Mode::Delta, "next", Some(crumb), scope, None);
    let writer = BodyWriter::breadcrumb(media, &head, 0);
    let pieces = pieces(writer, media, &head, Vec::new(), spelling);
    Body { pieces, mode: Mode::Delta, reason: "next" }
}

/// A body that moves the cursor and says nothing else: the heartbeat of an NDJSON stream with a prefix.
pub(super) fn moved(to: &Crumb, scope: &Scope, media: MediaType) -> Body {
    let head = header(to, Mode::None, "timeout", None, scope, None);
    let writer = BodyWriter::breadcrumb(media, &head, 0);
    let pieces = pieces(writer, media, &head, Vec::new(), Spelling::default());
    Body { pieces, mode: Mode::None, reason: "timeout" }
}

fn pieces(
    mut writer: BodyWriter,
    media: MediaType,
    header: &Header,
    mut steps: Vec<Step>,
    spelling: Spelling,
) -> Vec<Vec<u8>> {
    let mut pieces = vec![writer.take()];
    if spelling.lie == Some(Lie::Record) {
        steps.pop();
    }
    let mut lie = spelling.lie == Some(Lie::Value);
    for step in steps {
        match step {
            Step::Put(kind, entry) if std::mem::take(&mut lie) => {
                let other = [entry.value(), b"?"].concat();
                let revision = entry.revision().unwrap_or(Revision::ZERO);
                writer.put(kind, &Entry::new(entry.key(), &other, None).at(revision));
            }
            Step::Put(kind, entry) => writer.put(kind, &entry),
            Step::Deleted(key, revision) => writer.deleted(key.as_bytes(), Some(revision)),
        }
        pieces.push(writer.take());
    }
    let end = End { cursor: header.cursor, count: header.count, digest: header.digest };
    pieces.push(writer.finish(&end));
    if spelling.shaped {
        let cursors = [&header.cursor, &header.from].into_iter().flatten().map(ToString::to_string);
        for cursor in cursors {
            let (old, new) = (written(&cursor, media), written(&shaped(&cursor), media));
            pieces = pieces.into_iter().map(|piece| replace(&piece, &old, &new)).collect();
        }
    }
    match spelling.unknown {
        true => with_unknown(pieces, media),
        false => pieces,
    }
}

/// A cursor as a body has it: a short string of bincode has its length before it.
fn written(cursor: &str, media: MediaType) -> Vec<u8> {
    match media {
        MediaType::Bincode => [&[u8::try_from(cursor.len()).unwrap_or(0)], cursor.as_bytes()].concat(),
        _ => format!("\"{cursor}\"").into_bytes(),
    }
}

fn replace(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(old.len()).position(|window| window == old) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(new);
        rest = &rest[at + old.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// A record of a type that no client knows.
const NOTE: &str = r#"{"type":"note","text":"a client ignores what it does not know","count":0}"#;

/// Adds a member to each record, and records of an unknown type. Bincode has no room for either.
fn with_unknown(pieces: Vec<Vec<u8>>, media: MediaType) -> Vec<Vec<u8>> {
    if media == MediaType::Bincode {
        return pieces;
    }
    let object = matches!(media, MediaType::Json | MediaType::JsonStrings);
    let (last, records) = (pieces.len() - 1, pieces.len() - 2);
    let mut out = Vec::new();
    for (n, piece) in pieces.into_iter().enumerate() {
        if n == last {
            let comma = if object && records > 0 { "," } else { "" };
            out.push(format!("{comma}{NOTE}{}", if object { "" } else { "\n" }).into_bytes());
        }
        match piece.iter().position(|byte| *byte == b'{') {
            Some(at) if !(object && n == last) => {
                let (before, after) = piece.split_at(at + 1);
                out.push([before, br#""hints":{"value":[1,{"key":"x"}]},"#, after].concat());
            }
            _ => out.push(piece),
        }
    }
    out
}
