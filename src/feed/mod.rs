//! The feeds, where updates come from: one file each.
//!
//! A feed reads its upstream and sends [`FeedEvent`]s to the cache through the ingest buffer, in order. It promises
//! to reconnect by itself, to wait when the buffer is full and to drop nothing, and to record when it last heard its
//! upstream ([`Upstream`]). A record that it cannot read is counted and logged with its position, and, unless strict,
//! the feed goes on. A feed must never read the cache: whether an update changes anything is not its business.

mod etcd;
mod file;
mod lines;
mod push;
mod spec;
mod stdin;
mod translate;
mod upstream;

pub use etcd::{EtcdAccess, EtcdFeed, EtcdTarget, Password};
pub use file::{FileFeed, NoFile};
pub use push::{PushError, PushHandle};
pub use spec::{FeedSpec, SpecError};
pub use stdin::StdinFeed;
pub use upstream::Upstream;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use crate::ingest::{self, Buffer, IngestBuffer, WriteError};
use crate::model::{
    Batch, Entry, EntryLimits, FeedEvent, Grouping, History, Refusal, ReplyTo, Revision, Update,
};

/// Why a feed ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The file cannot be read.
    #[error("feed file {}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The name is not that of a regular file.
    #[error("feed file {}: it is {kind}", path.display())]
    NoFile {
        /// The name.
        path: PathBuf,
        /// What is there instead, and what to do about it.
        kind: NoFile,
    },
    /// Standard input cannot be read.
    #[error("feed standard input: {0}")]
    Stdin(std::io::Error),
    /// A bad record under `--strict`.
    #[error("{place}: {reason} (--strict: one bad record ends the feed)")]
    Strict {
        /// File and line.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The cache no longer takes events: the daemon is stopping.
    #[error("the cache has stopped")]
    Stopped,
}

/// How long a feed waits for a full ingest buffer before it warns.
const WARN_AFTER: Duration = Duration::from_secs(5);

/// The feed's end of the ingest buffer.
#[derive(Clone)]
pub struct Sink {
    buffer: Arc<IngestBuffer<FeedEvent>>,
    upstream: Arc<Upstream>,
    /// Under `--strict`: an update over these limits ends the feed.
    strict: Option<EntryLimits>,
}

impl Sink {
    /// A sink into this buffer.
    pub fn new(buffer: Arc<IngestBuffer<FeedEvent>>, upstream: Arc<Upstream>) -> Self {
        Self { buffer, upstream, strict: None }
    }

    /// A sink for which an update that the cache would refuse ends the feed.
    pub fn strict(self, limits: EntryLimits) -> Self {
        Self { strict: Some(limits), ..self }
    }

    /// Refuses an update that ends the feed.
    fn check(&self, update: &Update) -> Result<(), Refusal> {
        self.strict.map_or(Ok(()), |limits| limits.check(update))
    }

    fn check_event(&self, event: &FeedEvent) -> Result<(), FeedError> {
        let FeedEvent::Updates(batch) = event else { return Ok(()) };
        for update in &batch.updates {
            self.check(update).map_err(|refusal| {
                let place = update.revision.map_or_else(String::new, |at| format!(" at revision {at}"));
                FeedError::Strict { place: format!("the feed{place}"), reason: refusal.to_string() }
            })?;
        }
        Ok(())
    }

    /// Sends an event. Waits while the buffer is full, which is the back-pressure to the upstream. An event that has
    /// waited for [`WARN_AFTER`] is counted and logged, and waits on: nothing is dropped.
    async fn send(&self, event: FeedEvent) -> Result<(), FeedError> {
        if self.strict.is_some() {
            self.check_event(&event)?;
        }
        let mut event = match self.buffer.try_write(event) {
            Ok(()) => return Ok(()),
            Err(WriteError::Full(event)) => event,
            Err(_) => return Err(FeedError::Stopped),
        };
        self.upstream.waits.inc();
        let mut since = Instant::now();
        loop {
            let written = self.buffer.write(event, Some((since + WARN_AFTER).into_std())).await;
            let waited = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.upstream.waited_us.inc_by(waited);
            event = match written {
                Ok(()) => return Ok(()),
                Err(WriteError::Timeout(event)) => event,
                Err(_) => return Err(FeedError::Stopped),
            };
            self.upstream.overdue.inc();
            warn!(
                capacity = self.buffer.capacity(),
                "the ingest buffer has been full for {WARN_AFTER:?}; the feed waits"
            );
            since = Instant::now();
        }
    }

    /// Waits until everything that was sent can be read, and returns its revision, if it is known. Must not be called
    /// while a `snapshot` is open, which holds everything back.
    async fn reached(&self) -> Result<Option<Revision>, FeedError> {
        let (ack, answer) = ingest::reply_channel();
        let batch = Batch { ack: Some(ReplyTo::new(ack)), ..Batch::new(Vec::new(), Grouping::Whole) };
        self.send(FeedEvent::Updates(batch)).await?;
        Ok(answer.await.ok().and_then(Result::ok).map(|committed| committed.cursor.revision))
    }

    fn upstream(&self) -> &Upstream {
        &self.upstream
    }
}

/// The state of the cache when the feed begins, after a warm start.
#[derive(Clone, Debug)]
pub struct Warm {
    /// Whose revisions these are.
    pub history: History,
    /// The revision of the restored state.
    pub revision: Revision,
    /// The oldest revision whose changes up to it are known.
    pub oldest: Revision,
    /// Keys in the restored state. The upstream has more if some were refused.
    pub count: u64,
    /// The entry that was set last in the restored state.
    pub newest: Option<Entry>,
}

/// A feed that was opened and will be run.
pub trait Syncer: Send + 'static {
    /// The history of its revisions, if it is known before the upstream is read.
    fn history(&self) -> Option<History>;

    /// Reports statuses and updates until the upstream ends for good or the cache stops.
    ///
    /// After a warm start the cache already holds the state of `warm`: the feed continues from there, or reads
    /// everything as a resync.
    fn run(self, sink: Sink, warm: Option<Warm>) -> impl Future<Output = Result<(), FeedError>> + Send;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::*;
    use crate::model::SyncStatus;

    #[tokio::test(start_paused = true)]
    async fn a_feed_waits_beyond_its_deadline_counts_it_and_drops_nothing() {
        let buffers = [IngestBuffer::channel(1).unwrap(), IngestBuffer::ring(1).unwrap()];
        for buffer in buffers {
            let (buffer, upstream) = (Arc::new(buffer), Arc::new(Upstream::remote()));
            let sink = Sink::new(Arc::clone(&buffer), Arc::clone(&upstream));
            sink.send(FeedEvent::Status(SyncStatus::ResyncInProgress)).await.unwrap();
            assert_eq!(upstream.waits.get(), 0, "there was room");
            let sending = tokio::spawn(async move { sink.send(FeedEvent::Status(SyncStatus::InSync)).await });
            tokio::time::sleep(WARN_AFTER * 3 + WARN_AFTER / 2).await;
            assert_eq!((upstream.waits.get(), upstream.overdue.get()), (1, 3));
            let read = || async { buffer.read(None).await.unwrap() };
            assert!(matches!(read().await, FeedEvent::Status(SyncStatus::ResyncInProgress)));
            assert!(matches!(read().await, FeedEvent::Status(SyncStatus::InSync)));
            sending.await.unwrap().unwrap();
            let waited = Duration::from_micros(upstream.waited_us.get());
            assert!(waited >= WARN_AFTER * 3, "{waited:?}");
        }
    }

    #[tokio::test]
    async fn a_feed_that_waits_is_told_when_the_cache_stops() {
        let (buffer, upstream) = (Arc::new(IngestBuffer::ring(1).unwrap()), Arc::new(Upstream::remote()));
        let sink = Sink::new(Arc::clone(&buffer), upstream);
        let status = || FeedEvent::Status(SyncStatus::InSync);
        sink.send(status()).await.unwrap();
        let sending = tokio::spawn({
            let (sink, event) = (sink.clone(), status());
            async move { sink.send(event).await }
        });
        tokio::task::yield_now().await;
        buffer.close();
        assert!(matches!(sending.await.unwrap(), Err(FeedError::Stopped)));
    }
}
