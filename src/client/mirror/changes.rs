//! The changes of a mirror, for applications that may be slow.

use tokio::sync::watch;

use super::Latest;
use crate::client::{EntryChange, MirrorSnapshot};
use crate::model::SyncStatus;

/// The changes of a mirror. An application that takes longer than the changes come gets them joined: of each key what
/// it was when it was told last, and what it is now. So nothing queues up, and what a slow application costs is the
/// memory of one older state. (Typha's clients join updates in a queue of their own for the same reason.)
#[derive(Debug)]
pub struct Changes {
    latest: watch::Receiver<Latest>,
    told: MirrorSnapshot,
    status: Option<SyncStatus>,
}

/// What has changed since the set before.
#[derive(Debug, Clone)]
pub struct ChangeSet {
    /// One for each key that differs, in key order. None where only the status has changed.
    pub changes: Vec<EntryChange>,
    /// The state after them.
    pub state: MirrorSnapshot,
    /// The daemon's sync status.
    pub status: Option<SyncStatus>,
}

impl Changes {
    pub(super) fn new(mut latest: watch::Receiver<Latest>) -> Self {
        // Whatever is there already is told first.
        latest.mark_changed();
        Self { latest, told: MirrorSnapshot::default(), status: None }
    }

    /// Waits until something has changed; `None` when the mirror was dropped. Cancel-safe.
    pub async fn next(&mut self) -> Option<ChangeSet> {
        loop {
            self.latest.changed().await.ok()?;
            let Latest { state, status, .. } = self.latest.borrow_and_update().clone();
            let changes: Vec<EntryChange> = self.told.changes_to(&state).collect();
            if changes.is_empty() && status == self.status {
                continue;
            }
            self.told = state.clone();
            self.status = status;
            return Some(ChangeSet { changes, state, status });
        }
    }
}
