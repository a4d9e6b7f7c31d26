//! A warm start: what the last run kept, served before the upstream has answered.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::Failure;
use super::feeds::Opened;
use crate::cache::{Cache, CacheConfig, IngestTask, Snapshot, SnapshotBuilder, Stopped};
use crate::feed::{FeedSpec, Warm};
use crate::ingest::IngestBuffer;
use crate::model::{Batch, Entry, FeedEvent, Grouping, History, Update, Upstream};
use crate::state::{PushStore, Saved, Saver, StateDir, StateError};

/// What the state directory held, if there is one.
pub(super) enum Kept {
    /// No state directory.
    Nothing,
    /// The last state, saved now and then.
    State { dir: StateDir, interval: Duration, saved: Option<Restored> },
    /// A push feed's store.
    Store { dir: StateDir, store: Box<PushStore>, saved: Option<Restored> },
}

/// A kept state, decoded.
pub(super) struct Restored {
    state: Snapshot,
    saved_at: SystemTime,
    /// The entry that was set last.
    witness: Option<Entry>,
}

impl Kept {
    pub(super) fn open(
        state: Option<(PathBuf, Duration)>,
        feed: &Opened,
        spec: &FeedSpec,
    ) -> Result<Self, Failure> {
        let Some((path, interval)) = state else { return Ok(Self::Nothing) };
        if feed.dies_with_the_process() {
            return Err(
                format!("--state-dir has no use with {spec}: what it said is gone with the process").into()
            );
        }
        let dir = StateDir::new(path, spec.to_string());
        if let Opened::Push(_) = feed {
            let mut store = dir.open_store()?;
            // Without it the log would go on from nothing: better not to start than to lose writes.
            let saved = store.saved.take().map(decode).transpose()?;
            return Ok(Self::Store { dir, store: Box::new(store), saved });
        }
        let saved = dir.load().and_then(|saved| {
            let decoded = decode(saved);
            decoded.inspect_err(|error| warn!("the saved state cannot be used after all: {error}")).ok()
        });
        Ok(Self::State { dir, interval, saved })
    }

    /// A cache that begins with what was kept, or empty. `lossy`: the feed will tell what happened before that.
    pub(super) fn cache(
        self,
        config: CacheConfig,
        feed: &Opened,
        buffer: Arc<IngestBuffer<FeedEvent>>,
        upstream: &Upstream,
    ) -> (Cache, IngestTask, Restore) {
        let begin = |history: Option<History>, saved: Option<Restored>| match saved {
            Some(saved) if !matches!(feed, Opened::Push(_)) => {
                Cache::restored_within_limits(config, saved.state, feed.knows_the_past(), buffer)
            }
            // What was acknowledged is kept, whatever the limits are now.
            Some(saved) => Cache::restored(config, saved.state, feed.knows_the_past(), buffer),
            None => Cache::new(config, history.or(feed.history()), buffer),
        };
        match self {
            Self::Nothing => {
                let (cache, task) = begin(None, None);
                (cache, task, Restore::Nothing)
            }
            Self::State { dir, interval, saved } => {
                let warm = saved.as_ref().map(|saved| {
                    upstream.was_heard(saved.saved_at.elapsed().unwrap_or_default());
                    let (history, revision) = (saved.state.history(), saved.state.revision());
                    Warm { history, revision, count: 0, witness: saved.witness.clone() }
                });
                let (cache, task) = begin(None, saved);
                // Counted once what is over the limits is out of it.
                let count = cache.current_breadcrumb().kvs().len() as u64;
                let warm = warm.map(|warm| Warm { count, ..warm });
                if warm.is_some() {
                    cache.mark_warm();
                }
                (cache, task, Restore::State { dir, interval, warm })
            }
            Self::Store { dir, store, saved } => {
                let PushStore { history, entries, journal, rotated, lock, .. } = *store;
                let updates = entries.into_iter().map(|entry| entry.updates).collect();
                let (cache, task) = begin(Some(history), saved);
                (cache, task.with_journal(Some(journal)), Restore::Store { dir, updates, rotated, lock })
            }
        }
    }
}

fn decode(saved: Saved) -> Result<Restored, StateError> {
    let started = Instant::now();
    let builder = SnapshotBuilder::new(saved.history(), saved.revision());
    let parts = saved.decode(|| builder.part(), |part, entry| part.add(entry))?;
    let (state, witness) = builder.finish(parts);
    saved.check(state.len(), state.digest())?;
    info!(
        keys = state.len(),
        revision = state.revision().0,
        took_ms = started.elapsed().as_millis(),
        "state of the last run restored; it is served until the upstream has told what changed"
    );
    Ok(Restored { state, saved_at: saved.saved_at(), witness })
}

/// What is still to be given to the cache, and what is to be kept of it from now on.
pub(super) enum Restore {
    Nothing,
    State { dir: StateDir, interval: Duration, warm: Option<Warm> },
    Store { dir: StateDir, updates: Vec<Vec<Update>>, rotated: Arc<Notify>, lock: Option<std::fs::File> },
}

impl Restore {
    /// Brings the cache to where the last run was, and starts what keeps its state from now on.
    pub(super) async fn restore(
        self,
        cache: &Cache,
    ) -> Result<(Option<Warm>, Option<JoinHandle<()>>), Failure> {
        match self {
            Self::Nothing => Ok((None, None)),
            Self::State { dir, interval, warm } => {
                Ok((warm, Some(tokio::spawn(Saver::new(dir, cache.clone(), interval).run()))))
            }
            Self::Store { dir, updates, rotated, lock } => {
                for updates in updates {
                    let batch = Batch::new(updates, Grouping::ByRevision);
                    cache.send(FeedEvent::Updates(batch)).await?;
                }
                let saver = Saver::new(dir, cache.clone(), Duration::ZERO);
                let saving = tokio::spawn(async move {
                    saver.run_for_log(rotated).await;
                    drop(lock);
                });
                Ok((None, Some(saving)))
            }
        }
    }
}

/// Resolves when everything that was handed to the cache can be read: nobody must be served an older
/// state than the one that the last run told of. Not for use while a feed may be in a resync, which
/// holds everything back.
pub(super) async fn applied(cache: &Cache) -> Result<(), Stopped> {
    let (ack, answer) = oneshot::channel();
    let batch = Batch { ack: Some(ack), ..Batch::new(Vec::new(), Grouping::Whole) };
    cache.send(FeedEvent::Updates(batch)).await?;
    answer.await.map_err(|_| Stopped)?.map_err(|_| Stopped)?;
    Ok(())
}
