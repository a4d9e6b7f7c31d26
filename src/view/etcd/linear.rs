//! Linearizable reads: everything that the upstream had when they were asked for.
//!
//! The feed asks its upstream for its revision, once for all reads that wait, and the cache says how far it is complete.

use std::time::Duration;

use tokio::time::timeout;

use crate::model::{Revision, SyncStatus};
use crate::view::View;

/// How long the upstream may take to say its revision, and the cache to get there.
const ANSWER: Duration = Duration::from_secs(3);

/// Why it is not known whether a state has everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum NotLinear {
    /// The upstream has not answered.
    #[error("the datastore has not said its revision within {} s", ANSWER.as_secs())]
    NoAnswer,
    /// The upstream is at a revision that has not arrived here.
    #[error("the datastore is at revision {asked}, and this daemon has not reached it within {} s", ANSWER.as_secs())]
    Behind {
        /// The revision of the upstream.
        asked: Revision,
    },
    /// The state is not in-sync, and the upstream has no revision to wait for.
    #[error("the state is not in-sync with its source")]
    NotInSync,
}

impl View {
    /// The revision up to which the newest breadcrumb has every change of the upstream. It may be newer than the
    /// breadcrumb's own.
    pub(crate) fn complete_to(&self) -> Revision {
        // Read before the breadcrumb, which can then only be newer.
        let complete = *self.cache.completeness().borrow();
        let newest = self.cache.current_breadcrumb();
        let known = complete.revision;
        let is_known = complete.history == Some(newest.kvs().history());
        if is_known { known.max(newest.revision()) } else { newest.revision() }
    }

    /// Whether it can be found out how far the datastore itself is.
    pub(crate) fn says_how_far_it_is(&self) -> bool {
        self.upstream.nothing_is_ahead() || self.upstream.answers_requests()
    }

    /// Waits until the newest breadcrumb has everything that the upstream had when this was called.
    ///
    /// # Errors
    /// [`NotLinear`].
    pub(crate) async fn linearize(&self) -> Result<(), NotLinear> {
        if self.upstream.nothing_is_ahead() {
            return Ok(());
        }
        if !self.upstream.answers_requests() {
            let status = self.cache.current_breadcrumb().sync_status();
            return if status == SyncStatus::InSync { Ok(()) } else { Err(NotLinear::NotInSync) };
        }
        let asked = std::time::Instant::now();
        let mut sightings = self.upstream.sightings();
        self.upstream.request_sighting();
        let sighting =
            sightings.wait_for(|sighting| sighting.is_some_and(|sighting| sighting.asked >= asked));
        let sighting = match timeout(ANSWER, sighting).await {
            Ok(Ok(sighting)) => *sighting,
            Ok(Err(_)) | Err(_) => return Err(NotLinear::NoAnswer),
        };
        let Some(sighting) = sighting else { return Err(NotLinear::NoAnswer) };
        self.wait_complete_to(sighting.revision).await
    }

    /// Asks the upstream how far it is, and so the feed whether everything has arrived.
    pub(crate) fn ask_upstream(&self) {
        self.upstream.request_sighting();
    }

    /// Waits until the newest breadcrumb has everything up to this revision of the upstream.
    ///
    /// # Errors
    /// [`NotLinear::Behind`].
    pub(crate) async fn wait_complete_to(&self, revision: Revision) -> Result<(), NotLinear> {
        let newest = self.cache.current_breadcrumb();
        let (history, is_provisional) = (newest.kvs().history(), newest.is_provisional());
        let mut completeness = self.cache.completeness();
        let complete = completeness.wait_for(|complete| {
            // Before the first state is read its history is not known. Later, another one is that of another store.
            let is_this = (complete.history == Some(history)) != is_provisional;
            is_this && complete.revision >= revision
        });
        match timeout(ANSWER, complete).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(NotLinear::Behind { asked: revision }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use std::sync::Arc;

    use futures_util::FutureExt;

    use crate::cache::{Cache, CacheConfig};
    use crate::feed::Upstream;
    use crate::ingest::IngestBuffer;
    use crate::model::{FeedEvent, History, ResyncClaim, Revision};
    use crate::view::{View, ViewConfig};

    /// A write that is passed on while the feed still reads etcd for the first time.
    #[tokio::test]
    async fn a_write_before_the_first_state_is_waited_for_in_that_state() {
        let buffer = Arc::new(IngestBuffer::channel(8).unwrap());
        let (cache, ingest) = Cache::new(CacheConfig::default(), None, buffer);
        tokio::spawn(ingest.run());
        let (view, _fanout) = View::new(cache.reader(), Arc::new(Upstream::remote()), &ViewConfig::default());
        assert!(cache.current_breadcrumb().is_provisional());
        let mut written = Box::pin(view.wait_complete_to(Revision(4)));
        assert!(written.as_mut().now_or_never().is_none());

        let (history, whole_at) = (Some(History::derive(b"etcd")), Some(Revision(3)));
        cache.send(FeedEvent::ResyncBegin { history, whole_at, lossy: false }).await.unwrap();
        let (revision, claim) = (Some(Revision(3)), ResyncClaim::default());
        cache.send(FeedEvent::ResyncEnd { revision, claim, complete: true }).await.unwrap();
        cache.send(FeedEvent::Complete(Revision(4))).await.unwrap();
        written.await.unwrap();
    }
}
