//! What was applied becomes readable.

use std::sync::Arc;

use tracing::{error, info};

use super::{Applied, Store};
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
        self.publish(self.next_status);
        if self.resyncs.is_empty() {
            self.acknowledge();
        }
        self.stats.breadcrumbs.get() > before
    }

    /// Answers the writes: everything that was applied can be read.
    pub(super) fn acknowledge(&mut self) {
        let head = self.publisher.head_cursor();
        for (ack, Applied { revision, changed }) in self.unacknowledged.drain(..) {
            // A writer that went away does not mind missing the answer.
            _ = ack.send(Ok(Committed { cursor: head, revision, changed }));
        }
    }

    /// What was applied and cannot be read yet, and the revision that it leads to.
    pub(in crate::cache) fn unpublished(&self) -> Option<(Revision, Box<[Delta]>)> {
        let deltas = if self.resyncs.is_empty() { self.pending.deltas_to_replay() } else { Box::default() };
        (!deltas.is_empty()).then_some((self.state.revision, deltas))
    }

    /// What was applied cannot be kept: it never happened, and its writers are told so.
    pub(in crate::cache) fn roll_back(&mut self, reason: &str) {
        error!("writes are refused: {reason}");
        self.state = self.publisher.head_state();
        self.pending.finish();
        self.refused = Arc::clone(&self.stats.refused_keys.read());
        for (ack, _) in self.unacknowledged.drain(..) {
            // A writer that went away does not mind missing the answer.
            _ = ack.send(Err(Refusal::NotKept { reason: reason.to_owned() }));
        }
    }

    /// Nothing waits to be applied.
    pub(in crate::cache) fn idle(&mut self) {
        self.publisher.tidy();
    }

    pub(super) fn publish(&mut self, status: SyncStatus) {
        if let Some(resync) = self.resyncs.first() {
            // The old state is still the one that is served; only its status may change.
            if status != self.status {
                let state = resync.before.clone();
                self.drop_breadcrumb(Draft::status_only(state, status, self.provisional));
            }
            return;
        }
        let deltas = self.pending.deltas();
        if self.is_news(status, &deltas) {
            return self.publish_pending(status, deltas);
        }
        // Changes that undid each other across revisions wait for the next breadcrumb: a cursor
        // from elsewhere may lie between them. The bound keeps them from piling up.
        if !self.pending.spans_revisions() {
            self.pending.finish();
        } else if self.pending.len() >= self.config.max_batch {
            self.publish_pending(status, deltas);
        }
    }

    /// Whether a breadcrumb with these would tell its followers anything.
    pub(super) fn is_news(&self, status: SyncStatus, deltas: &[Delta]) -> bool {
        let other_history = self.state.history != self.publisher.head_cursor().history;
        !deltas.is_empty() || status != self.status || other_history
    }

    pub(super) fn publish_pending(&mut self, status: SyncStatus, deltas: Box<[Delta]>) {
        let first_revision = self.pending.first_revision();
        let (steps, weight) = self.pending.finish();
        self.publish_changes(status, deltas, first_revision, steps, weight, false);
    }

    pub(super) fn publish_changes(
        &mut self,
        status: SyncStatus,
        deltas: Box<[Delta]>,
        first_revision: Option<Revision>,
        steps: Box<[Step]>,
        weight: Weight,
        blind: bool,
    ) {
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
        });
    }

    fn drop_breadcrumb(&mut self, draft: Draft) {
        if self.status != draft.status {
            let (keys, revision) = (draft.state.len(), draft.state.revision.0);
            info!(keys, revision, "the feed is {}", draft.status);
        }
        self.status = draft.status;
        self.stats.breadcrumbs.add(1);
        debug_assert!(
            draft.state.len() > SMALL || draft.state.digest() == draft.state.iter().collect(),
            "the running digest is the digest of the state"
        );
        self.publisher.publish(draft);
    }

    /// Nothing comes any more: followers are told, after everything that was published.
    pub(in crate::cache) fn stop(&mut self) {
        let cursor = cursor_of(&self.state, self.status);
        if let Err(error) = self.publisher.terminate() {
            error!(%cursor, %error, "the trail was ended twice");
        }
    }
}
