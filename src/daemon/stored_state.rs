//! A warm start: the state of the last run is served before the upstream has answered.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinHandle;
use tracing::info;

use super::{DaemonError, OwnFeed};
use crate::cache::{Cache, CacheConfig, CacheOptions, IngestTask, Stopped};
use crate::feed::{Feed, Storage, Upstream, Warm};
use crate::http::Stored;
use crate::ingest::{self, IngestBuffer};
use crate::model::{Batch, Digest, Entry, FeedEvent, Grouping, ReplyTo, Revision};
use crate::state::{FeedIdentity, Kept, PushStore, Saver, StateDir, StateError};

/// The content of the state directory.
pub(super) enum StoredState {
    /// There is no state directory, or it belongs to another feed.
    Absent,
    /// A copy of the upstream's state; `kept` is None in a new directory.
    Copy { saver: Box<Saver>, kept: Option<Kept> },
    /// A push feed's store.
    Store(PushStore),
}

impl StoredState {
    pub(super) fn open(
        state: Option<(PathBuf, Duration)>,
        feed: &OwnFeed,
        identity: String,
        config: &CacheConfig,
    ) -> Result<Self, StateError> {
        let OwnFeed { feed, storage, .. } = feed;
        let storage = *storage;
        let Some((path, interval)) = state.filter(|_| storage != Storage::None) else {
            return Ok(Self::Absent);
        };
        let identity = FeedIdentity { name: identity, history: feed.history() };
        let dir = StateDir::new(path, identity, config.window).keeping_every_write(config.keep_every_write);
        if storage == Storage::Datastore {
            return Ok(Self::Store(dir.open_store()?));
        }
        let (saver, kept) = dir.open_cache(interval)?;
        let needs_write_info = config.keep_every_write && feed.counts_writes();
        let is_usable = |kept: &Kept| !(needs_write_info && kept.lacks_write_info);
        if kept.as_ref().is_some_and(|kept| !is_usable(kept)) {
            info!(
                "the state of the last run was stored without --etcd-listen: it lacks create_revision, version and lease \
                 of each key. It is not used, and everything is read from etcd"
            );
        }
        let kept = kept.filter(is_usable);
        Ok(saver.map_or(Self::Absent, |saver| Self::Copy { saver: Box::new(saver), kept }))
    }

    /// What the directory holds, if there is one.
    pub(super) fn kind(&self) -> Option<Stored> {
        match self {
            Self::Absent => None,
            Self::Copy { .. } => Some(Stored::Copy),
            Self::Store(_) => Some(Stored::Writes),
        }
    }

    /// Makes the cache, with the stored state or empty. Also returns its task, and the persistence for later changes.
    pub(super) fn cache(
        self,
        options: CacheOptions,
        feed: &dyn Feed,
        buffer: Arc<IngestBuffer<FeedEvent>>,
        upstream: &Upstream,
    ) -> Result<(Cache, IngestTask, Persistence), DaemonError> {
        let empty = |options| Cache::new(options, feed.history(), Arc::clone(&buffer));
        let lossy = feed.can_read_history();
        match self {
            Self::Absent => {
                let (cache, task) = empty(options);
                Ok((cache, task, Persistence::None))
            }
            Self::Copy { saver, kept: None } => {
                let (cache, task) = empty(options);
                Ok((cache, task, Persistence::Saver { saver, warm: None }))
            }
            Self::Copy { mut saver, kept: Some(kept) } => {
                let summary = Summary::of(&kept);
                let Kept { state, timestamp, breadcrumbs, .. } = kept;
                let state = (state, timestamp);
                let buffer = Arc::clone(&buffer);
                match Cache::restored_within_limits(options.clone(), state, breadcrumbs, lossy, buffer) {
                    Ok((cache, task)) => {
                        saver.begin_at(&cache, summary.digest);
                        let warm = summary.warm(&cache, upstream);
                        Ok((cache, task, Persistence::Saver { saver, warm: Some(warm) }))
                    }
                    Err(error) => {
                        saver.disown(error);
                        let (cache, task) = empty(options);
                        Ok((cache, task, Persistence::Saver { saver, warm: None }))
                    }
                }
            }
            Self::Store(store) => {
                // Acknowledged writes are kept, even over today's limits.
                let Kept { state, timestamp, breadcrumbs, .. } = store.kept;
                let (cache, task) = Cache::restored(options, (state, timestamp), breadcrumbs, false, buffer)?;
                log_restored(&cache);
                Ok((cache, task.with_journal(store.journal), Persistence::None))
            }
        }
    }
}

fn log_restored(cache: &Cache) {
    let current = cache.current_breadcrumb();
    let (keys, revision) = (current.kvs().len(), current.revision().0);
    info!(keys, revision, "state of the last run restored");
}

/// The facts of a stored state that the feed needs. They are read before the cache takes the state.
struct Summary {
    oldest: Revision,
    digest: Digest,
    saved_at: SystemTime,
    newest: Option<Entry>,
}

impl Summary {
    fn of(kept: &Kept) -> Self {
        let last = kept.breadcrumbs.last();
        let saved_at = last.map_or(kept.timestamp, |last| last.timestamp);
        let digest = last.map_or(kept.state.digest(), |last| last.digest);
        Self { oldest: kept.state.revision(), digest, saved_at, newest: kept.newest.clone() }
    }

    fn warm(self, cache: &Cache, upstream: &Upstream) -> Warm {
        log_restored(cache);
        upstream.was_heard(self.saved_at.elapsed().unwrap_or_default());
        cache.mark_warm();
        let current = cache.current_breadcrumb();
        let (history, revision) = (current.kvs().history(), current.revision());
        let later = current.kvs().iter().max_by_key(|entry| entry.revision()).cloned();
        let count = current.kvs().len() as u64;
        let oldest = cache.oldest_breadcrumb().revision().max(self.oldest);
        let cursor = current.cursor();
        Warm { history, revision, cursor, oldest, count, newest: later.or(self.newest) }
    }
}

/// The persistence of a cache's later changes.
pub(super) enum Persistence {
    /// Nothing is saved, or the cache's journal does it.
    None,
    /// The state is saved at intervals.
    Saver { saver: Box<Saver>, warm: Option<Warm> },
}

impl Persistence {
    /// Starts the saver. Also returns the position from which the feed goes on.
    pub(super) fn start(self, cache: &Cache) -> (Option<Warm>, Option<JoinHandle<()>>) {
        match self {
            Self::None => (None, None),
            Self::Saver { saver, warm } => {
                let saving = saver.spawn(cache.clone());
                (warm, Some(saving))
            }
        }
    }
}

/// Resolves when the cache has applied everything that was sent to it. A push feed must be in-sync before the first
/// request. Not for feeds that may be in a resync, which holds back all updates.
pub(super) async fn applied(cache: &Cache) -> Result<(), Stopped> {
    let (ack, answer) = ingest::reply_channel();
    let batch = Batch { ack: Some(ReplyTo::new(ack)), ..Batch::new(Vec::new(), Grouping::Whole) };
    cache.send(FeedEvent::Updates(batch)).await?;
    answer.await.map_err(|_| Stopped)?.map_err(|_| Stopped)?;
    Ok(())
}
