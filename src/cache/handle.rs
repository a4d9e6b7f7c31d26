//! The cache as its feed sees it.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use super::ingest::IngestTask;
use super::publish::Publisher;
use super::store::Store;
use super::{CacheConfig, CacheStats, Reader, RestoreError, RestoredBreadcrumb, Snapshot};
use crate::ingest::{Buffer, IngestBuffer};
use crate::model::{Batch, EntryLimits, FeedEvent, Grouping, History, SyncStatus, Update};

/// The cache has stopped: its feed is gone and no breadcrumb will follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cache has stopped")]
pub struct Stopped;

/// How a cache begins.
#[derive(Default)]
struct Beginning {
    /// No upstream has said yet what history it is.
    provisional: bool,
    /// The feed will tell what happened before it.
    lossy: bool,
    /// What followed the state that it begins with.
    breadcrumbs: Vec<RestoredBreadcrumb>,
    /// What is over them is refused in the state that it begins with.
    limits: Option<EntryLimits>,
}

/// The cache as its feed sees it: what a [`Reader`] can do, and writing. Clones share it.
#[derive(Clone)]
pub struct Cache {
    reader: Reader,
    buffer: Arc<IngestBuffer<FeedEvent>>,
}

impl Deref for Cache {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl Cache {
    /// A cache that is fed through `buffer`, and the task that does its work: spawn it.
    ///
    /// Without a `history` the feed has to name one with its first resync; until then breadcrumbs
    /// are provisional.
    pub fn new(
        config: CacheConfig,
        history: Option<History>,
        buffer: Arc<IngestBuffer<FeedEvent>>,
    ) -> (Self, IngestTask) {
        let empty = Snapshot::empty(history.unwrap_or_else(History::random));
        let now = SystemTime::now();
        let beginning = Beginning { provisional: history.is_none(), ..Beginning::default() };
        Self::start(config, (empty, now), beginning, buffer)
            .expect("there is nothing to restore that could not fit")
    }

    /// A cache that begins with a state which an earlier process kept, as it was at some time, and with the breadcrumbs
    /// that followed it. `lossy`: the feed will tell what happened before it, so that older cursors can be continued.
    ///
    /// # Errors
    /// A breadcrumb does not lead from the state before it to the one that was kept with it.
    pub fn restored(
        config: CacheConfig,
        state: (Snapshot, SystemTime),
        breadcrumbs: Vec<RestoredBreadcrumb>,
        lossy: bool,
        buffer: Arc<IngestBuffer<FeedEvent>>,
    ) -> Result<(Self, IngestTask), RestoreError> {
        Self::start(config, state, Beginning { lossy, breadcrumbs, ..Beginning::default() }, buffer)
    }

    /// The same for a state that follows an upstream's: what of it is over the limits, which may be others now, is refused.
    /// Then only the newest state is kept, without it.
    ///
    /// # Errors
    /// As for [`Cache::restored`].
    pub fn restored_within_limits(
        config: CacheConfig,
        state: (Snapshot, SystemTime),
        breadcrumbs: Vec<RestoredBreadcrumb>,
        lossy: bool,
        buffer: Arc<IngestBuffer<FeedEvent>>,
    ) -> Result<(Self, IngestTask), RestoreError> {
        let beginning =
            Beginning { lossy, breadcrumbs, limits: Some(config.entry_limits()), provisional: false };
        Self::start(config, state, beginning, buffer)
    }

    fn start(
        config: CacheConfig,
        (state, timestamp): (Snapshot, SystemTime),
        beginning: Beginning,
        buffer: Arc<IngestBuffer<FeedEvent>>,
    ) -> Result<(Self, IngestTask), RestoreError> {
        let Beginning { provisional, lossy, breadcrumbs, limits } = beginning;
        let was_in_sync = Arc::new(AtomicBool::new(false));
        let begin = |state, timestamp| {
            let in_sync = Arc::clone(&was_in_sync);
            let started = Publisher::start(state, timestamp, &config, provisional, lossy, in_sync);
            started.expect("a trail that was just made is not ended")
        };
        let (mut publisher, mut head, mut kept) = begin(state, timestamp);
        breadcrumbs.into_iter().try_for_each(|breadcrumb| publisher.restore(breadcrumb))?;
        let mut state = publisher.head_state();
        let refused = limits.map(|limits| state.refuse(limits)).filter(|refused| !refused.is_empty());
        if refused.is_some() {
            (publisher, head, kept) = begin(state, SystemTime::now());
        }
        let stats = Arc::new(CacheStats::default());
        let (max_batch, min_interval) = (config.max_batch, config.min_interval);
        let store = Store::new(provisional, publisher, config, Arc::clone(&stats));
        let task = IngestTask::new(store, Arc::clone(&buffer), max_batch, min_interval);
        let task = task.with_refused(refused.unwrap_or_default());
        let reader = Reader::new(head, kept, Arc::clone(&buffer), stats, was_in_sync);
        Ok((Self { reader, buffer }, task))
    }

    /// The same cache for those who only read it.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// The state of an earlier process was restored: it was complete once.
    pub fn mark_warm(&self) {
        self.reader.mark_warm();
    }

    /// Hands updates to the ingest task; waits while its buffer is full. Neighbours with the same
    /// revision are one upstream revision; an update without one stands alone.
    ///
    /// # Errors
    /// [`Stopped`] when the cache no longer takes any.
    pub async fn on_updates(&self, updates: Vec<Update>) -> Result<(), Stopped> {
        self.send(FeedEvent::Updates(Batch::new(updates, Grouping::ByRevision))).await
    }

    /// Tells the ingest task of the feed's status, in order with the updates.
    ///
    /// # Errors
    /// [`Stopped`] when the cache no longer takes any.
    pub async fn on_status_updated(&self, status: SyncStatus) -> Result<(), Stopped> {
        self.send(FeedEvent::Status(status)).await
    }

    /// Hands any event to the ingest task; waits while its buffer is full.
    ///
    /// # Errors
    /// [`Stopped`] when the cache no longer takes any.
    pub async fn send(&self, event: FeedEvent) -> Result<(), Stopped> {
        self.buffer.write(event, None).await.map_err(|_| Stopped)
    }

    /// Takes no more events. What is in the buffer is still applied; then followers are told.
    pub fn stop(&self) {
        self.buffer.close();
    }
}
