//! The write side of a feed.

use std::fmt;

#[cfg(feature = "etcd")]
use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::ingest::{self, Buffer, IngestBuffer};
use crate::model::{
    Batch, Committed, Condition, Decide, Entry, FeedEvent, Grouping, Refusal, ReplyTo, Revision, Update,
};

/// The write side of a feed that takes writes.
pub trait Writer: Send + Sync {
    /// Applies the updates as one revision if all conditions hold, and returns once they can be read from the cache.
    ///
    /// # Errors
    /// [`WriteError`], which says whether the write was done.
    fn write(&self, write: WriteRequest) -> BoxFuture<'_, Result<Committed, WriteError>>;

    /// Applies a write that is decided where the state is written, and returns once it can be read. `None` if that is not
    /// in this process.
    fn transact(&self, decide: Decide) -> Option<BoxFuture<'_, Result<Committed, WriteError>>> {
        drop(decide);
        None
    }

    /// The calls of etcd's own clients, if the upstream takes them.
    #[cfg(feature = "etcd")]
    fn etcd(&self) -> Option<&dyn EtcdCalls> {
        None
    }
}

/// The calls of etcd's own clients, which an upstream etcd answers. Messages are passed on as they are.
#[cfg(feature = "etcd")]
pub trait EtcdCalls: Send + Sync {
    /// Keys that do not begin with this are not the feed's.
    fn prefix(&self) -> &[u8];

    /// Calls a method of etcd's, by its path. The answer has at most `max_answer` bytes.
    ///
    /// # Errors
    /// etcd's status, or that it cannot be reached.
    fn call(
        &self,
        path: &'static str,
        message: Bytes,
        max_answer: usize,
    ) -> BoxFuture<'_, Result<Bytes, tonic::Status>>;

    /// Calls a method that is a stream: one message, and its answer.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    fn call_stream(&self, path: &'static str, message: Bytes) -> BoxFuture<'_, Result<Bytes, tonic::Status>>;
}

/// Waits until the cache has applied everything that is in the ingest buffer now, if these conditions hold then. `None` if
/// the cache has stopped.
pub(super) async fn barrier(
    buffer: &IngestBuffer<FeedEvent>,
    conditions: Vec<Condition>,
) -> Option<Result<Committed, Refusal>> {
    let (ack, answer) = ingest::reply_channel();
    let batch = Batch { conditions, ack: Some(ReplyTo::new(ack)), ..Batch::new(Vec::new(), Grouping::Whole) };
    buffer.write(FeedEvent::Updates(batch), None).await.ok()?;
    answer.await.ok()
}

/// A write.
#[derive(Debug)]
pub struct WriteRequest {
    /// The updates, in order. Revisions in them are those of another store, and are ignored.
    pub updates: Vec<Update>,
    /// [`Grouping::Replace`] deletes all other keys; otherwise the updates are one revision.
    pub grouping: Grouping,
    /// The conditions.
    pub conditions: Vec<Condition>,
    /// The key of the conditions as the client can read it here. The upstream may have set the same value again since,
    /// which is no change for the client.
    pub seen: Option<Entry>,
    /// The ids of the relays that have passed it on.
    pub path: Vec<String>,
}

impl WriteRequest {
    /// A write without conditions.
    pub(crate) fn new(updates: Vec<Update>, grouping: Grouping) -> Self {
        Self { updates, grouping, conditions: Vec::new(), seen: None, path: Vec::new() }
    }
}

/// Why a write failed. Nothing of it was done, except after [`Unsettled`](Self::Unsettled),
/// [`NotYetRead`](Self::NotYetRead) and [`Stopped`](Self::Stopped).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The ingest buffer is full.
    #[error("the ingest buffer is full ({capacity} events wait); try again soon")]
    Full {
        /// How many events it holds.
        capacity: usize,
    },
    /// The daemon is stopping. If the write was under way, it may have been applied.
    #[error("the daemon is stopping and takes no more writes")]
    Stopped,
    /// The cache refuses it, or a condition does not hold.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The upstream could not do it.
    #[error("the write was not done: {why}")]
    NotDone {
        /// The reason, as a sentence.
        why: String,
    },
    /// It is not known whether the upstream did it.
    #[error("the write may or may not have been done: {why}")]
    Unsettled {
        /// The reason, as a sentence.
        why: String,
    },
    /// The upstream has done it, and the cache has not read it in time.
    #[error(
        "the write was done, at revision {revision} of the upstream, but this daemon has not read that revision yet"
    )]
    NotYetRead {
        /// The revision of the write.
        revision: Revision,
    },
    /// The upstream takes only smaller writes.
    #[error("the write is too large, and was not done: {0}")]
    TooLarge(UpstreamLimit),
    /// The upstream's user may not write this, or the feed does not cover a key.
    #[error("the write was not done: {why}")]
    Forbidden {
        /// The reason, as a sentence.
        why: String,
    },
    /// The upstream is another daemon, and its refusal is passed on. Nothing was done.
    #[error("{detail}")]
    Passed {
        /// Its HTTP status.
        status: u16,
        /// The kind of problem, for programs.
        kind: String,
        /// What it says, and which upstream it is.
        detail: String,
    },
    /// The upstream has no such write.
    #[error("{why}; nothing was applied")]
    Unsupported {
        /// The reason, as a sentence.
        why: String,
    },
}

/// A limit of the upstream on one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpstreamLimit {
    /// The operations of an etcd transaction.
    EtcdOperations {
        /// How many the write needs.
        needed: usize,
    },
    /// The bytes of an etcd request.
    EtcdBytes,
}

impl fmt::Display for UpstreamLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EtcdOperations { needed } => write!(
                f,
                "it needs {needed} operations in one transaction of etcd, whose limit is --max-txn-ops (128 unless \
                 etcd is told otherwise)"
            ),
            Self::EtcdBytes => write!(
                f,
                "etcd's limit on a request is --max-request-bytes (1.5 MiB unless etcd is told otherwise)"
            ),
        }
    }
}
