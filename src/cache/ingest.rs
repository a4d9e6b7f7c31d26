//! The one task that owns the map.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tracing::Instrument;

use super::own_thread::run_on_own_thread;
use super::store::Store;
use super::{Journal, RefusedKeys};
use crate::ingest::{Buffer, IngestBuffer};
use crate::model::FeedEvent;

/// The number of updates after which the task yields to the others on its thread. Yielding after each small batch would
/// cost more than the batch, because the runtime polls the system for events then.
const YIELD_AFTER: usize = 64;

/// The most batches gathered into one breadcrumb when breadcrumbs have a minimum interval.
pub(super) const MAX_GATHERED_BATCHES: usize = 100;

/// The ingest task. It runs until its buffer is closed and drained.
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

    /// Sets the journal that persists every change before it can be read.
    pub fn with_journal(mut self, journal: Box<dyn Journal>) -> Self {
        if let Some(why) = journal.refuses() {
            self.store.stats.tried_to_persist(Err(&why));
        }
        self.store.set_journal(journal);
        self
    }

    /// Spawns the task. With a journal it gets a thread of its own, because it blocks on the disk and would hold up the
    /// other tasks on a runtime thread.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn(self) -> JoinHandle<()> {
        if !self.store.is_journaled() {
            return tokio::spawn(self.run().in_current_span());
        }
        run_on_own_thread("ingest", self.run().in_current_span())
    }

    /// Sets the refused keys of the restored state.
    pub(super) fn with_refused(mut self, refused: RefusedKeys) -> Self {
        self.store.begin_with_refused(refused);
        self
    }

    /// Applies events until the buffer is closed and empty, then ends the trail with an error.
    ///
    /// A batch is everything in the buffer when the task reads it, up to a limit. There is no linger time unless a
    /// minimum interval is configured: an idle cache publishes a breadcrumb per update, a busy one fewer and larger
    /// ones. With a journal use [`spawn`](Self::spawn).
    pub async fn run(mut self) {
        let mut since_yield = 0;
        let mut not_before = Instant::now();
        while let Ok(event) = self.buffer.read(None).await {
            let mut cost = self.store.apply(event);
            cost += self.gather_until(not_before).await;
            while cost < self.max_batch
                && let Ok(event) = self.buffer.try_read()
            {
                cost += self.store.apply(event);
            }
            if self.store.end_batch() {
                not_before = Instant::now() + self.min_interval;
            }
            while self.buffer.is_empty() && self.store.idle() {}
            since_yield += cost;
            if since_yield >= YIELD_AFTER {
                // A feed that never pauses must not starve the other tasks on this thread.
                since_yield = 0;
                tokio::task::yield_now().await;
            }
        }
        self.store.stop();
    }
}

impl IngestTask {
    /// Applies the events that arrive until then. Returns how much they count against the batch limit.
    async fn gather_until(&mut self, not_before: Instant) -> usize {
        let mut cost = 0;
        while Instant::now() < not_before && cost < self.max_batch * MAX_GATHERED_BATCHES {
            let Ok(event) = self.buffer.read(Some(not_before)).await else { break };
            cost += self.store.apply(event);
        }
        cost
    }
}

impl Drop for IngestTask {
    /// Closes and empties the buffer, also after a panic: nobody reads it any more, and its waiting writers must learn
    /// that.
    fn drop(&mut self) {
        self.buffer.close();
        while self.buffer.try_read().is_ok() {}
    }
}
