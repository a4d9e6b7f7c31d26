//! Is a cursor that is ahead of this daemon ahead of the upstream too?

use std::time::Instant;

use tokio::sync::watch;

use super::View;
use crate::model::{Cursor, Revision, Sighting};

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

    /// Resolves when the upstream has said something again.
    pub(super) async fn seen(&mut self) {
        if self.sightings.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
