//! What was applied becomes readable.

use std::sync::Arc;

use tracing::{error, info};

use super::{Applied, Store};
use crate::cache::JournalError;
use crate::cache::breadcrumb::{Delta, Step, cursor_of};
use crate::cache::publish::Draft;
use crate::cache::weight::Weight;
use crate::model::{Committed, Refusal, Revision, SyncStatus};

/// Up to this many keys a debug build recomputes the digest after every batch.
const SMALL: usize = 256;

impl Store {
    /// Ends a batch: everything that was applied becomes readable, and the status with it.
    /// Says whether that made a breadcrumb.
    pub(in crate::cache) fn end_batch(&mut self) -> bool {
        let before = self.stats.breadcrumbs.get();
        self.show_refused();
        // Whoever waits for a write that could not be kept has been told.
        _ = self.publish(self.next_status);
        if self.resyncs.is_empty() {
            self.acknowledge();
        }
        self.stats.breadcrumbs.get() > before
    }

    /// Answers the writes: everything that was applied can be read.
    pub(super) fn acknowledge(&mut self) {
        let head = self.publisher.head_cursor();
        for (ack, Applied { revision, changed }) in self.unacknowledged.drain(..) {
            ack.send(Ok(Committed { cursor: head, revision, changed }));
        }
    }

    /// What was applied cannot be kept: it never happened, and its writers are told so.
    fn roll_back(&mut self, error: &JournalError) {
        self.state = self.publisher.head_state();
        self.pending.finish();
        self.refused = Arc::clone(&self.stats.refused_keys.read());
        let reason = error.to_string();
        let refusal = match error {
            JournalError::Refused(_) => Refusal::NotKept { reason },
            JournalError::Unsettled(_) => Refusal::Unsettled { reason },
        };
        for (ack, _) in self.unacknowledged.drain(..) {
            ack.send(Err(refusal.clone()));
        }
    }

    /// Nothing waits to be applied. Says whether there is more that could be done meanwhile.
    pub(in crate::cache) fn idle(&mut self) -> bool {
        self.publisher.idle()
    }

    /// Makes readable what was applied.
    ///
    /// # Errors
    /// It could not be kept, and was taken back.
    pub(super) fn publish(&mut self, status: SyncStatus) -> Result<(), JournalError> {
        if let Some(resync) = self.resyncs.first() {
            // The old state is still the one that is served; only its status may change.
            if status != self.status {
                let state = resync.before.clone();
                return self.drop_breadcrumb(Draft::status_only(state, status, self.provisional));
            }
            return Ok(());
        }
        let deltas = self.pending.deltas();
        if self.is_news(status, &deltas) || self.must_be_kept() {
            return self.publish_pending(status, deltas);
        }
        // Changes that undid each other across revisions wait for the next breadcrumb: a cursor
        // from elsewhere may lie between them. The bound keeps them from piling up.
        if !self.pending.spans_revisions() {
            self.pending.finish();
        } else if self.pending.len() >= self.config.max_batch {
            return self.publish_pending(status, deltas);
        }
        Ok(())
    }

    /// Whether revisions were given out that no breadcrumb has told of. Where there is a journal it has to know
    /// them before their writers do, or the next process would give them out again.
    fn must_be_kept(&self) -> bool {
        self.publisher.is_journaled() && self.state.revision > self.publisher.head_cursor().revision
    }

    /// Whether a breadcrumb with these would tell its followers anything.
    pub(super) fn is_news(&self, status: SyncStatus, deltas: &[Delta]) -> bool {
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
        blind: bool,
    ) -> Result<(), JournalError> {
        let (state, provisional) = (self.state.clone(), self.provisional);
        self.drop_breadcrumb(Draft {
            state,
            status,
            deltas,
            steps,
            first_revision,
            weight,
            blind,
            provisional,
        })
    }

    fn drop_breadcrumb(&mut self, draft: Draft) -> Result<(), JournalError> {
        debug_assert!(
            draft.state.len() > SMALL || draft.state.digest() == draft.state.iter().collect(),
            "the running digest is the digest of the state"
        );
        let (status, keys, revision) = (draft.status, draft.state.len(), draft.state.revision.0);
        self.publisher.publish(draft).inspect_err(|error| self.roll_back(error))?;
        if self.status != status {
            info!(keys, revision, "the feed is {status}");
        }
        self.status = status;
        self.stats.breadcrumbs.inc();
        Ok(())
    }

    /// Nothing comes any more: followers are told, after everything that was published.
    pub(in crate::cache) fn stop(&mut self) {
        let cursor = cursor_of(&self.state, self.status);
        if let Err(error) = self.publisher.terminate() {
            error!(%cursor, %error, "the trail was ended twice");
        }
    }
}
