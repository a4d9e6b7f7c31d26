//! Write access to the cache.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use super::ingest::IngestTask;
use super::publish::Publisher;
use super::store::Store;
use super::{CacheOptions, CacheStats, Reader, RestoreError, RestoredBreadcrumb, Snapshot};
use crate::ingest::{Buffer, IngestBuffer};
use crate::model::{Batch, FeedEvent, Grouping, History, SyncStatus, Update};

/// The cache has stopped: it takes no more events, and no breadcrumb follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cache has stopped and takes no more events")]
pub struct Stopped;

/// The options for starting a cache.
#[derive(Default)]
struct StartOptions {
    /// Whether the history is still unknown.
    provisional: bool,
    /// Whether the feed will read back the changes before the first state.
    lossy: bool,
    /// The breadcrumbs after the first state.
    breadcrumbs: Vec<RestoredBreadcrumb>,
    /// Whether the configured limits apply to the restored state.
    within_limits: bool,
}

/// Write access to a cache, and everything that a [`Reader`] can do. Clones share the cache.
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
    /// An empty cache that reads its events from `buffer`, and its ingest task, which must be spawned.
    ///
    /// Without a `history` the feed has to name one in its first resync. Until then breadcrumbs are provisional.
    pub fn new(
        config: impl Into<CacheOptions>,
        history: Option<History>,
        buffer: Arc<IngestBuffer<FeedEvent>>,
    ) -> (Self, IngestTask) {
        let config: CacheOptions = config.into();
        let mut empty = Snapshot::empty(history.unwrap_or_else(History::random));
        // A feed that does not know its history yet says the revision, too.
        if history.is_some() {
            empty.revision = config.config.first_revision();
        }
        let now = SystemTime::now();
        let options = StartOptions { provisional: history.is_none(), ..StartOptions::default() };
        Self::start(config, (empty, now), options, buffer)
            .expect("without restored breadcrumbs nothing can fail")
    }

    /// A cache that starts with the stored state of an earlier process and the breadcrumbs after it. With `lossy` the feed
    /// will read back the changes before that state, so that older cursors can be continued.
    ///
    /// # Errors
    /// [`RestoreError`] if the changes of a breadcrumb do not lead to the state that was stored with it.
    pub fn restored(
        config: impl Into<CacheOptions>,
        mut state: (Snapshot, SystemTime),
        breadcrumbs: Vec<RestoredBreadcrumb>,
        lossy: bool,
        buffer: Arc<IngestBuffer<FeedEvent>>,
    ) -> Result<(Self, IngestTask), RestoreError> {
        let config: CacheOptions = config.into();
        if breadcrumbs.is_empty() && state.0.is_empty() {
            state.0.revision = state.0.revision.max(config.config.first_revision());
        }
        Self::start(config, state, StartOptions { lossy, breadcrumbs, ..StartOptions::default() }, buffer)
    }

    /// As [`Cache::restored`], but refuses entries that exceed the configured limits, which may have changed. If there
    /// are any, only the newest state is restored, without them.
    ///
    /// # Errors
    /// As for [`Cache::restored`].
    pub(crate) fn restored_within_limits(
        config: impl Into<CacheOptions>,
        state: (Snapshot, SystemTime),
        breadcrumbs: Vec<RestoredBreadcrumb>,
        lossy: bool,
        buffer: Arc<IngestBuffer<FeedEvent>>,
    ) -> Result<(Self, IngestTask), RestoreError> {
        let config: CacheOptions = config.into();
        let options = StartOptions { lossy, breadcrumbs, within_limits: true, provisional: false };
        Self::start(config, state, options, buffer)
    }

    fn start(
        CacheOptions { config, cursor_key }: CacheOptions,
        (state, timestamp): (Snapshot, SystemTime),
        options: StartOptions,
        buffer: Arc<IngestBuffer<FeedEvent>>,
    ) -> Result<(Self, IngestTask), RestoreError> {
        let StartOptions { provisional, lossy, breadcrumbs, within_limits } = options;
        let was_in_sync = Arc::new(AtomicBool::new(false));
        let begin = |state, timestamp| {
            let in_sync = Arc::clone(&was_in_sync);
            let started =
                Publisher::start(state, timestamp, (&config, &cursor_key), provisional, lossy, in_sync);
            started.expect("a new trail takes its first item")
        };
        let (mut publisher, mut head, mut window) = begin(state, timestamp);
        breadcrumbs.into_iter().try_for_each(|breadcrumb| publisher.restore(breadcrumb))?;
        let mut state = publisher.head_state();
        let refused = within_limits.then(|| state.remove_over_limits(&config));
        let refused = refused.filter(|refused| !refused.is_empty());
        if refused.is_some() {
            (publisher, head, window) = begin(state, SystemTime::now());
        }
        let state_limits = (config.max_keys, config.max_bytes);
        let stats = Arc::new(CacheStats::of_state_limits(state_limits));
        let (max_batch, min_interval) = (config.max_batch, config.min_interval);
        let mut store = Store::new(provisional, publisher, config, Arc::clone(&stats));
        if within_limits {
            store.may_lack_keys_of_before();
        }
        let task = IngestTask::new(store, Arc::clone(&buffer), max_batch, min_interval);
        let task = task.with_refused(refused.unwrap_or_default());
        let reader = Reader::new(head, window, Arc::clone(&buffer), stats, was_in_sync, cursor_key);
        Ok((Self { reader, buffer }, task))
    }

    /// Read access to the cache.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Marks the cache as ready: its restored state was in sync once.
    pub(crate) fn mark_warm(&self) {
        self.reader.mark_warm();
    }

    /// Sends updates to the ingest task; waits while its buffer is full. Adjacent updates with the same revision are one
    /// upstream revision; an update without a revision is one by itself.
    ///
    /// # Errors
    /// [`Stopped`] when the cache has stopped.
    pub async fn on_updates(&self, updates: Vec<Update>) -> Result<(), Stopped> {
        self.send(FeedEvent::Updates(Batch::new(updates, Grouping::ByRevision))).await
    }

    /// Sends the feed's status to the ingest task, in order with the updates.
    ///
    /// # Errors
    /// [`Stopped`] when the cache has stopped.
    pub async fn on_status_updated(&self, status: SyncStatus) -> Result<(), Stopped> {
        self.send(FeedEvent::Status(status)).await
    }

    /// Sends any event to the ingest task; waits while its buffer is full.
    ///
    /// # Errors
    /// [`Stopped`] when the cache has stopped.
    pub async fn send(&self, event: FeedEvent) -> Result<(), Stopped> {
        self.buffer.write(event, None).await.map_err(|_| Stopped)
    }

    /// Stops the cache. Events in the buffer are still applied; then followers get an error.
    pub fn stop(&self) {
        self.buffer.close();
    }
}
