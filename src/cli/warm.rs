//! A warm start: the state of the last run, served before the upstream has answered.

use tokio::runtime::Handle;
use tracing::warn;

use crate::cache::{Cache, Stopped};
use crate::feed::Warm;
use crate::model::{Batch, Change, Entry, FeedEvent, Grouping, ResyncClaim, Update};
use crate::state::Saved;

/// Entries that are handed to the cache at a time.
const BATCH: usize = 4096;

/// Gives the saved state to the cache as its first breadcrumb. `None` when it could not be read.
///
/// `lossy`: the feed will tell what happened before that state.
pub(super) async fn restore(saved: Saved, cache: Cache, lossy: bool) -> Result<Option<Warm>, Stopped> {
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
    let witness = match tokio::task::spawn_blocking(decode).await {
        Ok(Ok(witness)) => witness,
        Ok(Err(error)) => {
            warn!("the saved state cannot be used after all: {error}");
            return Ok(None);
        }
        Err(error) => {
            warn!("the saved state cannot be used after all: {error}");
            return Ok(None);
        }
    };
    cache.send(FeedEvent::ResyncEnd { revision: Some(revision), claim, complete: true }).await?;
    cache.mark_warm();
    Ok(Some(Warm { history, revision, witness }))
}
