//! Is a cursor that is ahead of this daemon ahead of the upstream too?

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{View, ViewError};
use crate::model::{Cursor, Revision, Sighting};

/// How long a request that does not wait is held for the upstream's answer.
const AT_ONCE: Duration = Duration::from_millis(500);

/// What the upstream has said of its own revision since a request came.
///
/// A cursor ahead of this daemon is a lagging replica's ordinary sight and waits. But when the
/// upstream itself, asked after the client came, is below it, the upstream is not the one that
/// the cursor came from, and waiting would never end.
pub(super) struct UpstreamWatch {
    since: Instant,
    sightings: watch::Receiver<Option<Sighting>>,
}

impl View {
    /// The cursor in terms of our own history, where its history may be the same.
    pub(super) fn adopt(&self, cursor: Cursor) -> Cursor {
        let ours = self.cache.current_breadcrumb().kvs().history();
        if cursor.history != ours && self.upstream.are_cousins(cursor.history, ours) {
            return Cursor { history: ours, ..cursor };
        }
        cursor
    }

    /// Refuses a cursor that is ahead of the upstream itself. Whoever does not wait is to hear of that too, so the
    /// upstream is asked at once, and its answer is awaited for a moment. A cursor that is not ahead of
    /// this daemon is none of its business.
    ///
    /// # Errors
    /// [`ViewError::Gone`], [`ViewError::Starting`].
    pub async fn refuse_ahead_of_upstream(&self, cursor: Cursor) -> Result<(), ViewError> {
        let (at, now) = (self.adopt(cursor), self.newest()?.cursor());
        let mut upstream = self.watch_upstream();
        if at.history != now.history || at.revision <= now.revision || !upstream.is_remote() {
            return Ok(());
        }
        self.upstream.want_sighting();
        // It may be out of reach: then nobody knows, and the cursor is as good as before.
        _ = tokio::time::timeout(AT_ONCE, upstream.answered()).await;
        if upstream.is_below(at.revision) { Err(self.gone(at)) } else { Ok(()) }
    }

    pub(super) fn watch_upstream(&self) -> UpstreamWatch {
        UpstreamWatch { since: Instant::now(), sightings: self.upstream.sightings() }
    }
}

impl UpstreamWatch {
    /// Whether the upstream is known to be below this revision.
    pub(super) fn is_below(&self, revision: Revision) -> bool {
        let seen = *self.sightings.borrow();
        seen.is_some_and(|seen| seen.asked >= self.since && seen.revision < revision)
    }

    /// Whether the upstream says where it is at all.
    fn is_remote(&self) -> bool {
        self.sightings.borrow().is_some()
    }

    /// Resolves when the upstream has answered what it was asked since the request came.
    async fn answered(&mut self) {
        while self.sightings.borrow().is_none_or(|seen| seen.asked < self.since) {
            self.seen().await;
        }
    }

    /// Resolves when the upstream has said something again.
    pub(super) async fn seen(&mut self) {
        if self.sightings.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
