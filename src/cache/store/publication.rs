//! Publishing the applied changes.

use std::sync::Arc;

use tracing::{error, info};

use super::{AppliedBatch, Store};
use crate::cache::breadcrumb::{Delta, Step};
use crate::cache::publish::Draft;
use crate::cache::weight::Weight;
use crate::cache::{Completeness, JournalError};
use crate::model::{Committed, Refusal, Revision, SyncStatus};

/// The most keys for which a debug build recomputes the digest after every batch.
const MAX_KEYS_TO_RECHECK: usize = 256;

impl Store {
    /// Ends a batch: publishes everything that was applied, and the status with it. Returns whether that made a
    /// breadcrumb.
    pub(in crate::cache) fn end_batch(&mut self) -> bool {
        let before = self.stats.breadcrumbs.get();
        self.publish_refused_keys();
        // On an error the writers have got their answer already.
        _ = self.publish(self.next_status);
        if self.resyncs.is_empty() {
            self.acknowledge();
            self.publish_completeness();
            self.look_for_room();
        }
        self.stats.breadcrumbs.get() > before
    }

    /// Says how far the state is complete, after it was published.
    fn publish_completeness(&mut self) {
        let published = self.publisher.head_cursor();
        let (history, revision) = (Some(published.history), published.revision.max(self.complete));
        self.stats.complete.send_if_modified(|complete| {
            let now = match complete {
                Completeness { history: before, .. } if *before != history => {
                    // Nothing is known of another history but its state.
                    self.complete = published.revision;
                    Completeness { history, revision: published.revision }
                }
                _ => Completeness { history, revision },
            };
            std::mem::replace(complete, now) != now
        });
    }

    /// Acknowledges the writes, which are readable now.
    pub(super) fn acknowledge(&mut self) {
        let head = self.publisher.head_cursor();
        for (ack, AppliedBatch { revision, changed }) in self.unacknowledged.drain(..) {
            ack.send(Ok(Committed { cursor: head, revision, changed }));
        }
    }

    /// Undoes the changes that the journal did not persist, and refuses their writes.
    fn roll_back(&mut self, error: &JournalError) {
        self.state = self.publisher.head_state();
        self.pending.finish();
        self.refused = Arc::clone(&self.stats.refused_keys.read());
        let reason = error.to_string();
        let refusal = match error {
            JournalError::Refused(_) => Refusal::NotPersisted { reason },
            JournalError::Unsettled(_) => Refusal::Unsettled { reason },
        };
        for (ack, _) in self.unacknowledged.drain(..) {
            ack.send(Err(refusal.clone()));
        }
    }

    /// Does a little deferred work while no event waits. Returns whether more is left.
    pub(in crate::cache) fn idle(&mut self) -> bool {
        self.publisher.idle()
    }

    /// Publishes everything that was applied.
    ///
    /// # Errors
    /// The changes were not persisted, and are undone.
    pub(super) fn publish(&mut self, status: SyncStatus) -> Result<(), JournalError> {
        if let Some(resync) = self.resyncs.first() {
            // The old state is still served; only its status may change.
            if status != self.status {
                let state = resync.before.clone();
                return self.publish_draft(Draft::status_only(state, status, self.provisional));
            }
            return Ok(());
        }
        let deltas = self.pending.deltas();
        if self.changes_anything(status, &deltas) || self.must_persist_revision() {
            return self.publish_pending(status, deltas);
        }
        // Changes that undid each other across revisions wait for the next breadcrumb, because a cursor
        // from another process may lie between them. The batch limit bounds their number. Readers of every write are
        // told of them at once.
        if !self.pending.spans_revisions() {
            self.pending.finish();
        } else if self.config.keep_every_write || self.pending.len() >= self.config.max_batch {
            return self.publish_pending(status, deltas);
        }
        Ok(())
    }

    /// Whether revisions were assigned that no breadcrumb contains. A journal must persist them before they are
    /// acknowledged, or the next process would assign them again.
    fn must_persist_revision(&self) -> bool {
        self.publisher.is_journaled() && self.state.revision > self.publisher.head_cursor().revision
    }

    /// Whether a breadcrumb with these would change anything for its followers.
    pub(super) fn changes_anything(&self, status: SyncStatus, deltas: &[Delta]) -> bool {
        let other_history = self.state.history != self.publisher.head_cursor().history;
        !deltas.is_empty() || status != self.status || other_history
    }

    pub(super) fn publish_pending(
        &mut self,
        status: SyncStatus,
        deltas: Box<[Delta]>,
    ) -> Result<(), JournalError> {
        let first_revision = self.pending.first_revision();
        let (steps, weight) = self.pending.finish();
        self.publish_changes(status, deltas, first_revision, steps, weight, false)
    }

    pub(super) fn publish_changes(
        &mut self,
        status: SyncStatus,
        deltas: Box<[Delta]>,
        first_revision: Option<Revision>,
        steps: Box<[Step]>,
        weight: Weight,
        gap: bool,
    ) -> Result<(), JournalError> {
        let (state, provisional) = (self.state.clone(), self.provisional);
        self.publish_draft(Draft { state, status, deltas, steps, first_revision, weight, gap, provisional })
    }

    fn publish_draft(&mut self, draft: Draft) -> Result<(), JournalError> {
        debug_assert!(
            draft.state.len() > MAX_KEYS_TO_RECHECK || draft.state.digest() == draft.state.iter().collect(),
            "the running digest is the digest of the state"
        );
        let (status, keys, revision) = (draft.status, draft.state.len(), draft.state.revision.0);
        let is_persisted =
            self.publisher.is_journaled() && draft.state.revision > self.publisher.head_cursor().revision;
        let published = self.publisher.publish(draft);
        if is_persisted {
            self.stats.tried_to_persist(published.as_ref().map(drop));
        }
        published.inspect_err(|error| self.roll_back(error))?;
        if self.status != status {
            log_status(status, keys, revision);
        }
        self.status = status;
        self.stats.breadcrumbs.inc();
        Ok(())
    }

    /// Ends the trail with an error, after everything that was published.
    pub(in crate::cache) fn stop(&mut self) {
        if let Err(error) = self.publisher.terminate() {
            error!(cursor = %self.publisher.head_cursor(), %error, "the trail was ended twice");
        }
    }
}

/// What a change of the status means, for people.
fn log_status(status: SyncStatus, keys: usize, revision: u64) {
    match status {
        SyncStatus::InSync => info!(keys, revision, "the feed is in-sync: the state is that of the upstream"),
        SyncStatus::ResyncInProgress => info!(
            keys,
            revision,
            "the feed is not in-sync: it reads the upstream anew, or has lost it; the last state is served meanwhile"
        ),
        SyncStatus::WaitForDatastore => {
            info!(keys, revision, "the feed waits for its upstream, and has read nothing of it yet");
        }
    }
}
