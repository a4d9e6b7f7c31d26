//! A warm start: what the last run kept, served before the upstream has answered.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tracing::warn;

use super::Failure;
use super::feeds::Opened;
use crate::cache::{Cache, Journal, Stopped};
use crate::feed::{FeedSpec, Warm};
use crate::model::{Batch, Change, Entry, FeedEvent, Grouping, History, ResyncClaim, Update, Upstream};
use crate::state::{PushStore, Saved, Saver, StateDir};

/// Entries that are handed to the cache at a time.
const BATCH: usize = 4096;

/// What the state directory held, if there is one.
pub(super) enum Kept {
    /// No state directory.
    Nothing,
    /// The last state, saved now and then.
    State { dir: StateDir, interval: Duration, saved: Option<Saved> },
    /// A push feed's store.
    Store { dir: StateDir, store: PushStore },
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
            let store = dir.open_store()?;
            return Ok(Self::Store { dir, store });
        }
        let saved = dir.load();
        Ok(Self::State { dir, interval, saved })
    }

    /// The history that the store goes on with.
    pub(super) fn history(&self) -> Option<History> {
        match self {
            Self::Store { store, .. } => Some(store.history),
            _ => None,
        }
    }

    /// The journal of a store, for the ingest task.
    pub(super) fn journal(self) -> (Option<Box<dyn Journal>>, Restore) {
        match self {
            Self::Nothing => (None, Restore::Nothing),
            Self::State { dir, interval, saved } => (None, Restore::State { dir, interval, saved }),
            Self::Store { dir, store } => {
                let PushStore { saved, entries, journal, rotated, lock, .. } = store;
                let updates = entries.into_iter().map(|entry| entry.updates).collect();
                (Some(journal), Restore::Store { dir, saved, updates, rotated, lock })
            }
        }
    }
}

/// What is still to be given to the cache.
pub(super) enum Restore {
    Nothing,
    State {
        dir: StateDir,
        interval: Duration,
        saved: Option<Saved>,
    },
    Store {
        dir: StateDir,
        saved: Option<Saved>,
        updates: Vec<Vec<Update>>,
        rotated: Arc<Notify>,
        lock: Option<std::fs::File>,
    },
}

impl Restore {
    /// Fills the cache, and starts what keeps its state from now on. `lossy`: the feed will tell what
    /// happened before the restored state.
    pub(super) async fn restore(
        self,
        cache: &Cache,
        upstream: &Upstream,
        lossy: bool,
    ) -> Result<(Option<Warm>, Option<JoinHandle<()>>), Failure> {
        match self {
            Self::Nothing => Ok((None, None)),
            Self::State { dir, interval, saved } => {
                if let Some(saved) = &saved {
                    upstream.was_heard(saved.saved_at().elapsed().unwrap_or_default());
                }
                let warm = match saved {
                    Some(saved) => fill(saved, cache, lossy).await?,
                    None => None,
                };
                if warm.is_some() {
                    cache.mark_warm();
                    applied(cache).await?;
                }
                Ok((warm, Some(tokio::spawn(Saver::new(dir, cache.clone(), interval).run()))))
            }
            Self::Store { dir, saved, updates, rotated, lock } => {
                if let Some(saved) = saved {
                    fill(saved, cache, lossy).await?;
                }
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

/// Gives a saved state to the cache as its first breadcrumb. `None` when it could not be read.
async fn fill(saved: Saved, cache: &Cache, lossy: bool) -> Result<Option<Warm>, Stopped> {
    let (history, revision) = (saved.history(), saved.revision());
    cache.send(FeedEvent::ResyncBegin { history: Some(history), whole_at: Some(revision), lossy }).await?;
    let (handle, target) = (Handle::current(), cache.clone());
    let claim = ResyncClaim { count: saved.header().count, digest: saved.header().digest };
    let decode = move || {
        let mut witness: Option<Entry> = None;
        let done = saved.entries(BATCH, |entries| {
            for entry in &entries {
                if witness.as_ref().is_none_or(|newest| entry.revision() > newest.revision()) {
                    witness = Some(entry.clone());
                }
            }
            let update = |entry: Entry| {
                let revision = entry.revision();
                Update { change: Change::Put(entry), revision }
            };
            let updates = entries.into_iter().map(update).collect();
            let event = FeedEvent::Updates(Batch::new(updates, Grouping::Whole));
            // A cache that has stopped takes nothing; the end below finds out.
            _ = handle.block_on(target.send(event));
        });
        done.map(|()| witness)
    };
    let failed: Failure = match tokio::task::spawn_blocking(decode).await {
        Ok(Ok(witness)) => {
            cache.send(FeedEvent::ResyncEnd { revision: Some(revision), claim, complete: true }).await?;
            return Ok(Some(Warm { history, revision, witness }));
        }
        Ok(Err(error)) => error.into(),
        Err(error) => error.into(),
    };
    warn!("the saved state cannot be used after all: {failed}");
    Ok(None)
}
