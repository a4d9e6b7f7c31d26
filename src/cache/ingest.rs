//! The one task that owns the map.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::Journal;
use super::store::Store;
use crate::ingest::{Buffer, IngestBuffer};
use crate::model::FeedEvent;

/// After so many updates the task lets others run on its thread, however much waits for it. To do so
/// after each small batch would cost more than the batch: the runtime asks the system for events then.
const YIELD_AFTER: usize = 64;

/// Batches that are gathered into one breadcrumb at most, where breadcrumbs have a least interval.
pub(super) const BATCHES_GATHERED: usize = 100;

/// The ingest task: runs until its buffer is closed and drained.
pub struct IngestTask {
    store: Store,
    buffer: Arc<IngestBuffer<FeedEvent>>,
    max_batch: usize,
    min_interval: Duration,
}

impl IngestTask {
    pub(super) fn new(
        store: Store,
        buffer: Arc<IngestBuffer<FeedEvent>>,
        max_batch: usize,
        min_interval: Duration,
    ) -> Self {
        Self { store, buffer, max_batch, min_interval }
    }

    /// From now on every change is written to this journal before it can be read.
    pub fn with_journal(mut self, journal: Box<dyn Journal>) -> Self {
        self.store.write_ahead_to(journal);
        self
    }

    /// Starts the task. With a journal it has a thread of its own: to wait for a disk on a thread of the
    /// runtime would hold up everybody else there, and threads that are shared may all be taken.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn(self) -> JoinHandle<()> {
        if !self.store.is_journaled() {
            return tokio::spawn(self.run());
        }
        let runtime = Handle::current();
        tokio::task::spawn_blocking(move || runtime.block_on(self.run()))
    }

    /// Applies events until the buffer is closed and empty; then ends the trail, so that
    /// followers learn of it.
    ///
    /// A batch is what the buffer holds when the task gets to it, up to a limit. There is no
    /// linger time unless a least interval is configured: an idle cache drops a breadcrumb per
    /// update, a busy one fewer and larger ones. With a journal use [`spawn`](Self::spawn).
    pub async fn run(mut self) {
        let mut since_yield = 0;
        let mut not_before = Instant::now();
        while let Ok(event) = self.buffer.read(None).await {
            let mut worth = self.store.apply(event);
            worth += self.gather_until(not_before).await;
            while worth < self.max_batch
                && let Ok(event) = self.buffer.try_read()
            {
                worth += self.store.apply(event);
            }
            if self.store.end_batch() {
                not_before = Instant::now() + self.min_interval;
            }
            while self.buffer.is_empty() && self.store.idle() {}
            since_yield += worth;
            if since_yield >= YIELD_AFTER {
                // A feed that never pauses must not starve whoever else runs on this thread.
                since_yield = 0;
                tokio::task::yield_now().await;
            }
        }
        self.store.stop();
    }
}

impl IngestTask {
    /// Applies what comes until then, and says how much of a batch it was worth.
    async fn gather_until(&mut self, not_before: Instant) -> usize {
        let mut worth = 0;
        while Instant::now() < not_before && worth < self.max_batch * BATCHES_GATHERED {
            let Ok(event) = self.buffer.read(Some(not_before)).await else { break };
            worth += self.store.apply(event);
        }
        worth
    }
}

impl Drop for IngestTask {
    /// Nobody reads the buffer any more, whether the task ended, was dropped or panicked: whoever
    /// waits for room, or for an answer to what is in it, is told.
    fn drop(&mut self) {
        self.buffer.close();
        while self.buffer.try_read().is_ok() {}
    }
}
