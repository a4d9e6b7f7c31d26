//! What the view answers, in terms that know no HTTP.

use std::time::SystemTime;

use super::body_cache::CodedBody;
use super::{Body, changes};
use crate::cache::{Breadcrumb, Delta, Snapshot};
use crate::model::{Cursor, Digest, Sequence};
use crate::wire::{BodyWriter, Coding, End, Header, MediaType, Mode};

/// The representation that the client wants.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Format {
    /// The media type.
    pub media: MediaType,
    /// The content coding for bodies that are worth it.
    pub coding: Coding,
}

/// Why an answer is what it is; one word for people and for tests.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// The newest breadcrumb was asked for.
    Current,
    /// An older breadcrumb was asked for by its cursor.
    Kept,
    /// One breadcrumb came after the cursor.
    Next,
    /// Several breadcrumbs came after the cursor.
    Behind,
    /// Only the sync status changed.
    Status,
    /// Two breadcrumbs were compared.
    Diff,
    /// Nothing came in time.
    Timeout,
    /// The client has this representation already.
    NotModified,
    /// The daemon is about to stop; continue with the cursor elsewhere, or here later.
    ShuttingDown,
    /// Keys or values were read by name.
    Read,
    /// A write was applied.
    Written,
}

impl Reason {
    /// Every reason, in the order in which they are declared.
    pub const ALL: [Self; 11] = [
        Self::Current,
        Self::Kept,
        Self::Next,
        Self::Behind,
        Self::Status,
        Self::Diff,
        Self::Timeout,
        Self::NotModified,
        Self::ShuttingDown,
        Self::Read,
        Self::Written,
    ];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Kept => "kept",
            Self::Next => "next",
            Self::Behind => "behind",
            Self::Status => "status",
            Self::Diff => "diff",
            Self::Timeout => "timeout",
            Self::NotModified => "not-modified",
            Self::ShuttingDown => "shutting-down",
            Self::Read => "read",
            Self::Written => "written",
        }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Where the client stands after it.
    pub cursor: Cursor,
    /// How it was made.
    pub mode: Mode,
    /// Why it was made so.
    pub reason: Reason,
    /// The number of the breadcrumb that it came from.
    pub sequence: Sequence,
    /// When that breadcrumb was dropped.
    pub timestamp: SystemTime,
    /// The body, shared.
    pub body: Body,
    /// What the body is.
    pub format: Format,
    /// Whether it was there when the client asked.
    pub at_once: bool,
}

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// The client has to start anew.
    #[error(
        "the cursor {cursor} is of another history or no longer kept; start again from \
         GET /v1/breadcrumbs/current"
    )]
    Gone {
        /// The cursor that was asked for.
        cursor: Cursor,
        /// The newest one.
        current: Cursor,
        /// The oldest one that would have been good.
        oldest: Cursor,
    },
    /// This daemon has not come as far as the client.
    #[error(
        "the cursor {cursor} is ahead of this daemon, which is at {current}; try again soon, or ask another replica"
    )]
    Ahead {
        /// The cursor that was asked for.
        cursor: Cursor,
        /// The newest one here.
        current: Cursor,
    },
    /// The upstream has not been reached yet, so there is nothing to serve.
    #[error("the feed has not reached its upstream yet, so there is nothing to serve")]
    Starting,
    /// No breadcrumb will follow.
    #[error("the cache has stopped, so there is nothing to follow")]
    Stopped,
    /// A body could not be made.
    #[error("the body could not be encoded: {0}")]
    Encoding(String),
}

/// What a header says of a breadcrumb; unlike the breadcrumb it keeps nothing in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct BreadcrumbInfo {
    pub(super) cursor: Cursor,
    pub(super) sequence: Sequence,
    pub(super) timestamp: SystemTime,
    count: usize,
    digest: Digest,
}

impl BreadcrumbInfo {
    pub(super) fn of(crumb: &Breadcrumb) -> Self {
        let (count, digest) = (crumb.kvs().len(), crumb.kvs().digest());
        let (cursor, sequence, timestamp) = (crumb.cursor(), crumb.sequence(), crumb.timestamp());
        Self { cursor, sequence, timestamp, count, digest }
    }

    /// Whether this state is the breadcrumb's, whatever the status and the sequence.
    pub(super) fn is_state_of(&self, state: &Snapshot) -> bool {
        let place = (state.history(), state.revision());
        (self.cursor.history, self.cursor.revision) == place && self.digest == state.digest()
    }

    /// The header of a body that leads to `cursor`, made from this breadcrumb.
    pub(super) fn header(
        &self,
        cursor: Cursor,
        from: Option<Cursor>,
        mode: Mode,
        reason: Reason,
        whole: bool,
    ) -> Header {
        Header {
            mode: Some(mode),
            reason: Some(reason.as_str().to_owned()),
            cursor: Some(cursor),
            from,
            history: Some(cursor.history),
            revision: Some(cursor.revision),
            sequence: Some(self.sequence),
            timestamp: Some(rfc3339(self.timestamp)),
            status: Some(cursor.status),
            count: whole.then_some(self.count as u64),
            digest: whole.then_some(self.digest),
            more: None,
        }
    }
}

/// An answer with updates that lacks its body.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) sequence: Sequence,
    timestamp: SystemTime,
    cursor: Cursor,
    mode: Mode,
    reason: Reason,
    header: Header,
}

impl Draft {
    /// The answer that leads from the cursor, as it was asked with, to a breadcrumb; `whole` when it
    /// tells of all keys.
    pub(super) fn new(to: &Breadcrumb, asked: Cursor, mode: Mode, reason: Reason, whole: bool) -> Self {
        // In the client's own history, should ours be another name of it.
        let cursor = Cursor { history: asked.history, ..to.cursor() };
        let header = BreadcrumbInfo::of(to).header(cursor, Some(asked), mode, reason, whole);
        Self { sequence: to.sequence(), timestamp: to.timestamp(), cursor, mode, reason, header }
    }

    pub(super) fn encode(&self, media: MediaType, deltas: &[Delta]) -> Vec<u8> {
        let mut writer = BodyWriter::breadcrumb(media, &self.header, changes::size_hint(deltas));
        changes::write(&mut writer, deltas);
        writer.finish(&end(&self.header))
    }

    pub(super) fn answer(&self, body: CodedBody, format: Format) -> Answer {
        let Self { sequence, timestamp, cursor, mode, reason, .. } = *self;
        let format = Format { coding: body.coding, ..format };
        let body = body.bytes.into();
        Answer { cursor, mode, reason, sequence, timestamp, body, format, at_once: true }
    }
}

pub(super) fn end(header: &Header) -> End {
    End { cursor: header.cursor, count: header.count, digest: header.digest }
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
