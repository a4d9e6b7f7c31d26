//! The feed's end of the ingest buffer.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{FeedError, Upstream};
use crate::ingest::{self, Buffer, BufferWriteError, IngestBuffer};
use crate::model::{Batch, EntryLimits, FeedEvent, Grouping, Refusal, ReplyTo, Revision, SyncStatus, Update};

/// How long a feed waits for a full ingest buffer before it warns.
const WARN_AFTER: Duration = Duration::from_secs(5);

/// How long it may take to find out whether the state is in-sync before clients are told that it may not be. A broken
/// connection that is replaced at once is not worth a message to thousands of them.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// The feed's end of the ingest buffer.
#[derive(Clone)]
pub struct Sink {
    buffer: Arc<IngestBuffer<FeedEvent>>,
    upstream: Arc<Upstream>,
    /// Under `--strict`: an update over these limits ends the feed.
    strict: Option<EntryLimits>,
    #[cfg_attr(not(feature = "etcd"), expect(dead_code, reason = "only the feed of etcd asks"))]
    keeps_every_write: bool,
}

impl Sink {
    /// A sink into this buffer.
    pub fn new(buffer: Arc<IngestBuffer<FeedEvent>>, upstream: Arc<Upstream>) -> Self {
        Self { buffer, upstream, strict: None, keeps_every_write: false }
    }

    /// The same sink of a cache that keeps every write, or only the state after each breadcrumb.
    #[must_use]
    pub fn keeping_every_write(self, keeps_every_write: bool) -> Self {
        Self { keeps_every_write, ..self }
    }

    /// A sink for which an update that the cache would refuse ends the feed.
    pub(crate) fn strict(self, limits: EntryLimits) -> Self {
        Self { strict: Some(limits), ..self }
    }

    /// Refuses an update that ends the feed.
    pub(super) fn check(&self, update: &Update) -> Result<(), Refusal> {
        self.strict.map_or(Ok(()), |limits| limits.check(update))
    }

    fn check_event(&self, event: &FeedEvent) -> Result<(), FeedError> {
        let updates = match event {
            FeedEvent::Updates(batch) => &batch.updates,
            FeedEvent::Breadcrumb(breadcrumb) => &breadcrumb.updates,
            _ => return Ok(()),
        };
        for update in updates {
            self.check(update).map_err(|refusal| {
                let place = update.revision.map_or_else(String::new, |at| format!(" at revision {at}"));
                FeedError::Strict { place: format!("the feed{place}"), reason: refusal.to_string() }
            })?;
        }
        Ok(())
    }

    /// Sends an event. Waits while the buffer is full, which is the back-pressure to the upstream. An event that has
    /// waited for 5 s is counted and logged, and waits on: nothing is dropped.
    ///
    /// # Errors
    /// [`FeedError::Stopped`], or under `--strict` [`FeedError::Strict`].
    pub async fn send(&self, event: FeedEvent) -> Result<(), FeedError> {
        if self.strict.is_some() {
            self.check_event(&event)?;
        }
        let mut event = match self.buffer.try_write(event) {
            Ok(()) => return Ok(()),
            Err(BufferWriteError::Full(event)) => event,
            Err(_) => return Err(FeedError::Stopped),
        };
        self.upstream.waits.inc();
        let mut since = Instant::now();
        let mut is_overdue = false;
        loop {
            let written = self.buffer.write(event, Some((since + WARN_AFTER).into_std())).await;
            let waited = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.upstream.waited_us.inc_by(waited);
            event = match written {
                Ok(()) => {
                    if is_overdue {
                        self.upstream.goes_on();
                    }
                    return Ok(());
                }
                Err(BufferWriteError::Timeout(event)) => event,
                Err(_) => return Err(FeedError::Stopped),
            };
            is_overdue = true;
            self.upstream.is_held_up(self.buffer.capacity(), WARN_AFTER);
            since = Instant::now();
        }
    }

    /// Sends changes that belong together, as one revision: no reader sees a part of them. Waits while the buffer is full.
    /// The upstream counts as heard.
    ///
    /// # Errors
    /// As [`Sink::send`].
    pub async fn updates(&self, updates: Vec<Update>) -> Result<(), FeedError> {
        self.send(FeedEvent::Updates(Batch::new(updates, Grouping::Whole))).await?;
        self.upstream.heard();
        Ok(())
    }

    /// Says whether the state is the upstream's. It is never seen before what was sent earlier.
    ///
    /// # Errors
    /// As [`Sink::send`].
    pub async fn status(&self, status: SyncStatus) -> Result<(), FeedError> {
        self.send(FeedEvent::Status(status)).await
    }

    /// Waits until everything that was sent can be read, and returns its revision, if it is known. Must not be called
    /// while a resync is open, which holds everything back.
    ///
    /// # Errors
    /// As [`Sink::send`].
    pub async fn reached(&self) -> Result<Option<Revision>, FeedError> {
        let (ack, answer) = ingest::reply_channel();
        let batch = Batch { ack: Some(ReplyTo::new(ack)), ..Batch::new(Vec::new(), Grouping::Whole) };
        self.send(FeedEvent::Updates(batch)).await?;
        Ok(answer.await.ok().and_then(Result::ok).map(|committed| committed.cursor.revision))
    }

    /// The record of the upstream: when it was heard, and what the feed is doing.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }
}

/// For feeds that watch a store.
#[cfg(any(feature = "etcd", feature = "kubernetes"))]
impl Sink {
    /// Awaits what decides whether the state is in-sync. If it takes long, clients are told that it may not be.
    pub(super) async fn report_if_slow<T, E: From<FeedError>>(
        &self,
        deciding: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let mut deciding = std::pin::pin!(deciding);
        match tokio::time::timeout(GRACE, &mut deciding).await {
            Ok(decided) => decided,
            Err(_) => {
                self.send(FeedEvent::Status(SyncStatus::ResyncInProgress)).await?;
                deciding.await
            }
        }
    }

    #[cfg(feature = "etcd")]
    /// Whether the cache keeps every write, and wants to know what the upstream counts of each key.
    pub(super) fn keeps_every_write(&self) -> bool {
        self.keeps_every_write
    }

    /// Resolves when a client wants to know how far the upstream is, and not before `not_before`. Cancel-safe.
    pub(super) async fn position_wanted(&self, not_before: Instant) {
        tokio::time::sleep_until(not_before).await;
        self.upstream.asked().await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::*;

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
