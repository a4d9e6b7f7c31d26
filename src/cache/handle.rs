//! The cache as its readers and its feed see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use tokio::sync::watch;

use super::breadcrumb::{Crumb, KnownPast, PastState};
use super::deliver::{Deliver, Delivery};
use super::ingest::IngestTask;
use super::publish::{Kept, Publisher};
use super::store::Store;
use super::{Breadcrumb, CacheConfig, CacheStats, RestoreError, RestoredBreadcrumb, Snapshot};
use crate::ingest::{Buffer, IngestBuffer};
use crate::model::{Batch, Check, Cursor, FeedEvent, Grouping, History, SyncStatus, Update};
use crate::trail::{Entry, Found, Head};

/// The cache has stopped: its feed is gone and no breadcrumb will follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cache has stopped")]
pub struct Stopped;

/// Where a cursor's revision lies among the kept breadcrumbs.
pub enum Position {
    /// The state at that revision is this breadcrumb's.
    At(Breadcrumb),
    /// The revision is inside `within`, after the first and before the last of the revisions
    /// that it covers: the cursor was cut by another process.
    Inside {
        /// The breadcrumb that covers it.
        within: Breadcrumb,
    },
    /// The revision is before `within`, a state that was read as a whole, and the way there is known.
    Before {
        /// The state.
        within: Breadcrumb,
        /// The way.
        past: Arc<KnownPast>,
    },
    /// As `Before`, but the feed has not found out the way yet.
    Awaited(PastAwaited),
    /// No breadcrumb that old is kept.
    Gone,
    /// No breadcrumb has come that far yet.
    Ahead,
    /// The cursor is of another history, or of one that was taken for this one: the state at its
    /// revision is another.
    OtherHistory,
}

impl Position {
    /// A cursor that lies before a breadcrumb which ended a lossy resync.
    fn before(within: &Breadcrumb, cursor: Cursor) -> Self {
        let Some(mut told) = within.past() else { return Self::Gone };
        let past = told.borrow_and_update().clone();
        match past {
            PastState::Unknown => Self::Gone,
            PastState::Known(past) if cursor.revision < past.base => Self::Gone,
            PastState::Known(past) if cursor.revision <= past.through && !past.fits(cursor) => {
                Self::OtherHistory
            }
            PastState::Known(past) if cursor.revision <= past.through => {
                Self::Before { within: within.clone(), past }
            }
            PastState::Known(_) | PastState::Awaited => {
                Self::Awaited(PastAwaited { end: within.cursor(), told })
            }
        }
    }
}

/// What happened before a breadcrumb that ended a lossy resync is still being found out. It does
/// not keep the breadcrumb, so it may be held while waiting.
pub struct PastAwaited {
    end: Cursor,
    told: watch::Receiver<PastState>,
}

impl PastAwaited {
    /// The breadcrumb's cursor.
    pub fn end(&self) -> Cursor {
        self.end
    }

    /// Resolves when more has become known since the cursor was located, or when the breadcrumb is
    /// gone: locate it again then.
    pub async fn told(&mut self) {
        _ = self.told.changed().await;
    }
}

/// The cache. Clones share it.
#[derive(Clone)]
pub struct Cache {
    head: Head<Arc<Crumb>>,
    kept: Kept,
    buffer: Arc<IngestBuffer<FeedEvent>>,
    stats: Arc<CacheStats>,
    was_in_sync: Arc<AtomicBool>,
    delivery: Delivery,
}

impl Cache {
    /// A cache that is fed through `buffer`, and the task that does its work: spawn it.
    ///
    /// Without a `history` the feed has to name one with its first resync; until then breadcrumbs
    /// are provisional.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(
        config: CacheConfig,
        history: Option<History>,
        buffer: Arc<IngestBuffer<FeedEvent>>,
    ) -> (Self, IngestTask) {
        let empty = Snapshot::empty(history.unwrap_or_else(History::random));
        let now = SystemTime::now();
        Self::start(config, (empty, now), history.is_none(), false, Vec::new(), buffer)
            .expect("there is nothing to restore that could not fit")
    }

    /// A cache that begins with a state which an earlier process kept, as it was at some time, and with the breadcrumbs
    /// that followed it. `lossy`: the feed will tell what happened before it, so that older cursors can be continued.
    ///
    /// # Errors
    /// A breadcrumb does not lead from the state before it to the one that was kept with it.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn restored(
        config: CacheConfig,
        state: (Snapshot, SystemTime),
        breadcrumbs: Vec<RestoredBreadcrumb>,
        lossy: bool,
        buffer: Arc<IngestBuffer<FeedEvent>>,
    ) -> Result<(Self, IngestTask), RestoreError> {
        Self::start(config, state, false, lossy, breadcrumbs, buffer)
    }

    fn start(
        config: CacheConfig,
        (state, timestamp): (Snapshot, SystemTime),
        provisional: bool,
        blind: bool,
        breadcrumbs: Vec<RestoredBreadcrumb>,
        buffer: Arc<IngestBuffer<FeedEvent>>,
    ) -> Result<(Self, IngestTask), RestoreError> {
        let was_in_sync = Arc::new(AtomicBool::new(false));
        let delivery = Delivery::default();
        let started = Publisher::start(
            state,
            timestamp,
            &config,
            provisional,
            blind,
            Arc::clone(&was_in_sync),
            &delivery,
        );
        let (mut publisher, head, kept) = started.expect("a trail that was just made is not ended");
        breadcrumbs.into_iter().try_for_each(|breadcrumb| publisher.restore(breadcrumb))?;
        let stats = Arc::new(CacheStats::default());
        let (max_batch, min_interval) = (config.max_batch, config.min_interval);
        let store = Store::new(provisional, publisher, config, Arc::clone(&stats));
        let task = IngestTask::new(store, Arc::clone(&buffer), max_batch, min_interval);
        Ok((Self { head, kept, buffer, stats, was_in_sync, delivery }, task))
    }

    /// From now on every breadcrumb goes through there before its waiters are woken.
    pub fn deliver_through(&self, deliver: Arc<dyn Deliver>) {
        self.delivery.add(deliver);
    }

    /// The newest breadcrumb.
    pub fn current_breadcrumb(&self) -> Breadcrumb {
        Breadcrumb::of(self.head.head()).unwrap_or_else(|_| self.newest_kept())
    }

    /// The newest breadcrumb once the trail's head is its terminal error.
    fn newest_kept(&self) -> Breadcrumb {
        let kept = self.kept.read();
        let newest = kept.newest().map(|entry| entry.item.clone());
        newest.expect("the window always keeps the newest breadcrumb")
    }

    /// The oldest breadcrumb that is kept.
    pub fn oldest_breadcrumb(&self) -> Breadcrumb {
        let oldest = self.kept.read().oldest().map(|entry| entry.item.clone());
        oldest.unwrap_or_else(|| self.current_breadcrumb())
    }

    /// How many breadcrumbs are kept, and an estimate of the bytes that only they hold.
    pub fn kept(&self) -> (usize, usize) {
        let kept = self.kept.read();
        (kept.len(), kept.bytes())
    }

    /// Finds a cursor among the kept breadcrumbs.
    pub fn locate(&self, cursor: Cursor) -> Position {
        let kept = self.kept.read();
        let same = |entry: &Entry<Breadcrumb>| entry.item.kvs().history() == cursor.history;
        if !kept.newest().is_some_and(same) {
            return Position::OtherHistory;
        }
        match kept.find(cursor.revision.0) {
            Found::Ahead => Position::Ahead,
            Found::Gone => {
                let oldest = kept.oldest().filter(|entry| entry.item.is_blind());
                oldest.map_or(Position::Gone, |entry| Position::before(&entry.item, cursor))
            }
            Found::At(at) if Check::from(at.entry().item.kvs().digest()) != cursor.check => {
                Position::OtherHistory
            }
            Found::At(at) => Position::At(at.entry().item.clone()),
            Found::Inside { within, .. } => match &within.entry().item {
                blind if blind.is_blind() => Position::before(blind, cursor),
                within if !fits_inside(within, cursor) => Position::OtherHistory,
                within => Position::Inside { within: within.clone() },
            },
        }
    }

    /// Whether the state has been complete at least once.
    pub fn was_in_sync(&self) -> bool {
        self.was_in_sync.load(Ordering::Acquire)
    }

    /// The state of an earlier process was restored: it was complete once.
    pub fn mark_warm(&self) {
        self.was_in_sync.store(true, Ordering::Release);
    }

    /// What has been counted.
    pub fn stats(&self) -> &CacheStats {
        &self.stats
    }

    /// How many events wait for the ingest task, and how many may.
    pub fn backlog(&self) -> (usize, usize) {
        (self.buffer.len(), self.buffer.capacity())
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

/// Whether the state between two steps of a breadcrumb looked as the cursor says. A breadcrumb without
/// steps changed at its first revision only, and the later ones that it covers changed nothing.
fn fits_inside(within: &Breadcrumb, cursor: Cursor) -> bool {
    let steps = within.steps();
    if steps.is_empty() {
        return cursor.check == within.kvs().digest().into();
    }
    let after = steps.partition_point(|step| step.revision <= cursor.revision);
    let last = after.checked_sub(1).and_then(|at| steps.get(at)).and_then(|step| step.check);
    last.is_none_or(|check| check == cursor.check)
}
