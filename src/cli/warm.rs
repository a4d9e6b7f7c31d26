//! A warm start: what the last run kept, served before the upstream has answered.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinHandle;
use tracing::info;

use super::Failure;
use super::feeds::Opened;
use crate::cache::{Cache, CacheConfig, IngestTask, Stopped};
use crate::feed::Upstream;
use crate::feed::{FeedSpec, Warm};
use crate::ingest::{self, IngestBuffer};
use crate::model::{Batch, Digest, Entry, FeedEvent, Grouping, ReplyTo, Revision};
use crate::state::{FeedIdentity, Kept, PushStore, Saver, StateDir};

/// What the state directory held, if there is one.
pub(super) enum Found {
    /// No state directory, or another feed's.
    Nothing,
    /// The last state.
    State { saver: Box<Saver>, kept: Option<Kept> },
    /// A push feed's store.
    Store(PushStore),
}

impl Found {
    pub(super) fn open(
        state: Option<(PathBuf, Duration)>,
        feed: &Opened,
        spec: &FeedSpec,
        config: &CacheConfig,
    ) -> Result<Self, Failure> {
        let Some((path, interval)) = state else { return Ok(Self::Nothing) };
        if feed.dies_with_the_process() {
            return Err(
                format!("--state-dir has no use with {spec}: what it said is gone with the process").into()
            );
        }
        let identity = FeedIdentity { name: spec.identity(), history: feed.history() };
        let dir = StateDir::new(path, identity, config.window);
        if let Opened::Push(_) = feed {
            return Ok(Self::Store(dir.open_store()?));
        }
        let (saver, kept) = dir.open_cache(interval)?;
        Ok(saver.map_or(Self::Nothing, |saver| Self::State { saver: Box::new(saver), kept }))
    }

    /// A cache that begins with what was kept, or empty, its task, and what keeps its state from now on.
    pub(super) fn cache(
        self,
        config: CacheConfig,
        feed: &Opened,
        buffer: Arc<IngestBuffer<FeedEvent>>,
        upstream: &Upstream,
    ) -> Result<(Cache, IngestTask, Keeping), Failure> {
        let cold = |config| Cache::new(config, feed.history(), Arc::clone(&buffer));
        let lossy = feed.knows_the_past();
        match self {
            Self::Nothing => {
                let (cache, task) = cold(config);
                Ok((cache, task, Keeping::Nothing))
            }
            Self::State { saver, kept: None } => {
                let (cache, task) = cold(config);
                Ok((cache, task, Keeping::State { saver, warm: None }))
            }
            Self::State { mut saver, kept: Some(kept) } => {
                let started = Started::of(&kept);
                let Kept { state, timestamp, breadcrumbs, .. } = kept;
                let state = (state, timestamp);
                let buffer = Arc::clone(&buffer);
                match Cache::restored_within_limits(config.clone(), state, breadcrumbs, lossy, buffer) {
                    Ok((cache, task)) => {
                        saver.begin_at(&cache, started.digest);
                        let warm = started.warm(&cache, upstream);
                        Ok((cache, task, Keeping::State { saver, warm: Some(warm) }))
                    }
                    Err(error) => {
                        saver.disown(error);
                        let (cache, task) = cold(config);
                        Ok((cache, task, Keeping::State { saver, warm: None }))
                    }
                }
            }
            Self::Store(store) => {
                // What was acknowledged is kept, whatever the limits are now.
                let Kept { state, timestamp, breadcrumbs, .. } = store.kept;
                let (cache, task) = Cache::restored(config, (state, timestamp), breadcrumbs, false, buffer)?;
                said(&cache);
                Ok((cache, task.with_journal(store.journal), Keeping::Nothing))
            }
        }
    }
}

fn said(cache: &Cache) {
    let current = cache.current_breadcrumb();
    let (keys, revision) = (current.kvs().len(), current.revision().0);
    info!(keys, revision, "state of the last run restored");
}

/// What a feed wants to know of a kept state, before the cache takes it.
struct Started {
    oldest: Revision,
    digest: Digest,
    saved_at: SystemTime,
    newest: Option<Entry>,
}

impl Started {
    fn of(kept: &Kept) -> Self {
        let last = kept.breadcrumbs.last();
        let saved_at = last.map_or(kept.timestamp, |last| last.timestamp);
        let digest = last.map_or(kept.state.digest(), |last| last.digest);
        Self { oldest: kept.state.revision(), digest, saved_at, newest: kept.newest.clone() }
    }

    fn warm(self, cache: &Cache, upstream: &Upstream) -> Warm {
        said(cache);
        upstream.was_heard(self.saved_at.elapsed().unwrap_or_default());
        cache.mark_warm();
        let current = cache.current_breadcrumb();
        let (history, revision) = (current.kvs().history(), current.revision());
        let later = current.kvs().iter().max_by_key(|entry| entry.revision()).cloned();
        let count = current.kvs().len() as u64;
        let oldest = cache.oldest_breadcrumb().revision().max(self.oldest);
        Warm { history, revision, oldest, count, newest: later.or(self.newest) }
    }
}

/// What keeps the state of a cache from now on; a journal does that by itself.
pub(super) enum Keeping {
    Nothing,
    State { saver: Box<Saver>, warm: Option<Warm> },
}

impl Keeping {
    /// Starts it. Also says where the cache stands, for the feed to go on from.
    pub(super) fn start(self, cache: &Cache) -> (Option<Warm>, Option<JoinHandle<()>>) {
        match self {
            Self::Nothing => (None, None),
            Self::State { saver, warm } => {
                let saving = saver.spawn(cache.clone());
                (warm, Some(saving))
            }
        }
    }
}

/// Resolves when everything that was handed to the cache can be read: nobody must be served a datastore of one's own
/// that is not in-sync. Not for use while a feed may be in a resync, which holds everything back.
pub(super) async fn applied(cache: &Cache) -> Result<(), Stopped> {
    let (ack, answer) = ingest::answer();
    let batch = Batch { ack: Some(ReplyTo::new(ack)), ..Batch::new(Vec::new(), Grouping::Whole) };
    cache.send(FeedEvent::Updates(batch)).await?;
    answer.await.map_err(|_| Stopped)?.map_err(|_| Stopped)?;
    Ok(())
}
