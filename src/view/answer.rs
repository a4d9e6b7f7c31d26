//! Answers of the view, independent of HTTP.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::task::JoinError;

use super::body_cache::EncodedBody;
use super::budget::OverBudget;
use super::lease::Claim;
use super::{Body, changes};
use crate::cache::{Breadcrumb, Delta, Snapshot};
use crate::model::{Cursor, Digest, KeyStep, OpaqueCursor, Sequence};
use crate::wire::{BodyWriter, Coding, End, Header, MediaType, Mode, WireError};

/// The media type and content coding of a body.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Format {
    /// The media type.
    pub media: MediaType,
    /// The content coding, for bodies large enough to compress.
    pub coding: Coding,
}

impl Format {
    /// Whether bodies are one zstd frame. Only the readers of bincode, which is our own, surely read several.
    pub(super) fn is_one_frame(self) -> bool {
        self.coding == Coding::Zstd && self.media != MediaType::Bincode
    }
}

/// The reason for an answer's mode, as one word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// The newest breadcrumb was requested.
    Current,
    /// A kept breadcrumb was requested by its cursor.
    Kept,
    /// One breadcrumb came after the cursor.
    Next,
    /// Several breadcrumbs came after the cursor.
    Behind,
    /// Only the sync status changed.
    Status,
    /// Two breadcrumbs were compared.
    Diff,
    /// Nothing changed before the wait ended.
    Timeout,
    /// The client has this representation already.
    NotModified,
    /// The daemon is shutting down; the cursor continues on another replica, or here after the restart.
    ShuttingDown,
    /// Keys or values were read.
    Read,
    /// A write was applied.
    Written,
}

impl Reason {
    /// Every reason, in order of declaration.
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

/// A body and what its header says.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The client's cursor once it has applied the body.
    pub cursor: Cursor,
    /// The kind of body.
    pub mode: Mode,
    /// The reason for that mode.
    pub reason: Reason,
    /// The sequence number of the breadcrumb that the answer leads to.
    pub sequence: Sequence,
    /// The time at which that breadcrumb was published.
    pub timestamp: SystemTime,
    /// The shared body.
    pub body: Body,
    /// The media type and the coding that was applied.
    pub format: Format,
    /// Whether the answer existed when the client asked.
    pub at_once: bool,
}

impl Answer {
    /// The answer for a request; waits for room for a body that no other request holds.
    pub(super) async fn for_request(self, claim: &mut Claim) -> Result<Self, OverBudget> {
        Ok(Self { body: self.body.for_request(claim).await?, ..self })
    }

    /// The answer for the request that has made its body in the room of this claim.
    pub(super) fn made_in(&self, claim: &mut Claim) -> Self {
        Self { body: self.body.made_in(claim), ..self.clone() }
    }
}

/// Errors of the view.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// The cursor cannot be continued; the client has to fetch the state again.
    #[error(
        "the cursor {cursor} belongs to another history or is no longer kept; start again from \
         GET …/breadcrumbs/current"
    )]
    Gone {
        /// The requested cursor.
        cursor: Cursor,
        /// The newest cursor.
        current: Cursor,
        /// The oldest kept cursor.
        oldest: Cursor,
    },
    /// This daemon is behind the client.
    #[error(
        "the cursor {cursor} is ahead of this daemon, which is at {current}; retry later or use another replica"
    )]
    Ahead {
        /// The requested cursor.
        cursor: Cursor,
        /// The newest cursor of this daemon.
        current: Cursor,
    },
    /// The feed has not reached its upstream yet.
    #[error("there is no state to serve: the feed has not reached its upstream yet")]
    Starting,
    /// No breadcrumb will follow.
    #[error("the cache has stopped; no more changes will follow")]
    Stopped,
    /// There was no room for the body.
    #[error("{0}; retry later or use another replica")]
    OverBudget(OverBudget),
    /// A body could not be encoded.
    #[error("the body could not be encoded: {0}")]
    Encoding(EncodingError),
}

/// The cause of a body that could not be encoded.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EncodingError {
    /// The encoder or the compressor failed.
    #[error("{0}")]
    Wire(Arc<WireError>),
    /// The thread that encoded it failed.
    #[error("{0}")]
    Thread(Arc<JoinError>),
}

impl From<OverBudget> for ViewError {
    fn from(error: OverBudget) -> Self {
        Self::OverBudget(error)
    }
}

impl From<WireError> for ViewError {
    fn from(error: WireError) -> Self {
        Self::Encoding(EncodingError::Wire(Arc::new(error)))
    }
}

impl From<JoinError> for ViewError {
    fn from(error: JoinError) -> Self {
        Self::Encoding(EncodingError::Thread(Arc::new(error)))
    }
}

/// The header fields of a breadcrumb. Unlike the breadcrumb it keeps no state in memory.
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

    /// Whether the breadcrumb has this state; status and sequence are ignored.
    pub(super) fn is_state_of(&self, state: &Snapshot) -> bool {
        let version = (state.history(), state.revision());
        (self.cursor.history, self.cursor.revision) == version && self.digest == state.digest()
    }

    /// The header of a body that leads to `cursor`, taken from this breadcrumb. Only one about `all_keys` has count and
    /// digest.
    pub(super) fn header(
        &self,
        cursor: Cursor,
        from: Option<Cursor>,
        mode: Mode,
        reason: Reason,
        all_keys: bool,
    ) -> Header {
        Header {
            mode: Some(mode),
            reason: Some(reason.as_str().to_owned()),
            cursor: Some(cursor.into()),
            from: from.map(OpaqueCursor::from),
            history: Some(cursor.history),
            revision: Some(cursor.revision),
            sequence: Some(self.sequence),
            timestamp: Some(rfc3339(self.timestamp)),
            status: Some(cursor.status),
            count: all_keys.then_some(self.count as u64),
            digest: all_keys.then_some(self.digest),
            more: None,
        }
    }
}

/// An answer with updates, without its body.
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
    /// The answer from the client's cursor to a breadcrumb; `all_keys` says that it covers every key.
    pub(super) fn new(to: &Breadcrumb, asked: Cursor, mode: Mode, reason: Reason, all_keys: bool) -> Self {
        // The client's name of the history, which may differ from ours.
        let cursor = Cursor { history: asked.history, ..to.cursor() };
        let header = BreadcrumbInfo::of(to).header(cursor, Some(asked), mode, reason, all_keys);
        Self { sequence: to.sequence(), timestamp: to.timestamp(), cursor, mode, reason, header }
    }

    /// The answer from the breadcrumb's predecessor.
    pub(super) fn step(breadcrumb: &Breadcrumb, all_keys: bool) -> Self {
        let (from, now) = (breadcrumb.from(), breadcrumb.cursor());
        let same_state = from.revision == now.revision && from.check == now.check;
        let reason = if same_state { Reason::Status } else { Reason::Next };
        Self::new(breadcrumb, from, Mode::Delta, reason, all_keys)
    }

    pub(super) fn encode(&self, media: MediaType, deltas: &[Delta]) -> Vec<u8> {
        self.encode_with_steps(media, deltas, &[])
    }

    pub(super) fn encode_with_steps(&self, media: MediaType, deltas: &[Delta], steps: &[KeyStep]) -> Vec<u8> {
        let mut writer = BodyWriter::breadcrumb(media, &self.header, changes::size_hint(deltas));
        changes::write(&mut writer, deltas);
        steps.iter().for_each(|step| writer.step(step));
        writer.finish(&end(&self.header))
    }

    pub(super) fn answer(&self, body: EncodedBody, format: Format) -> Answer {
        let Self { sequence, timestamp, cursor, mode, reason, .. } = *self;
        let format = Format { coding: body.coding, ..format };
        let body = body.body;
        Answer { cursor, mode, reason, sequence, timestamp, body, format, at_once: true }
    }
}

pub(super) fn end(header: &Header) -> End {
    End { cursor: header.cursor, count: header.count, digest: header.digest }
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
