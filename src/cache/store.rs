//! The writer's state and the rules by which an event changes it.

use std::sync::Arc;

use tracing::{error, info, warn};

use super::breadcrumb::cursor_of;
use super::pending::Pending;
use super::publish::{Draft, Publisher};
use super::resync::Resync;
use super::{CacheConfig, CacheStats, Snapshot};
use crate::model::{
    Ack, Batch, Change, Committed, Condition, Entry, FeedEvent, Grouping, History, Key, Refusal, ResyncClaim,
    Revision, SyncStatus, Update,
};

/// How many bytes of an offending key a log line shows.
const SHOWN_KEY_BYTES: usize = 120;

/// Up to this many keys a debug build recomputes the digest after every batch.
const SMALL: usize = 256;

/// Owned by the one ingest task.
pub(super) struct Store {
    /// The map that is being written; a clone of it is what gets published.
    state: Snapshot,
    /// Of the last breadcrumb.
    status: SyncStatus,
    /// For the last breadcrumb of this batch.
    next_status: SyncStatus,
    pending: Pending,
    resync: Option<Resync>,
    /// Writes that are applied and not yet readable, with the number of keys they changed.
    unacknowledged: Vec<(Ack, usize)>,
    provisional: bool,
    publisher: Publisher,
    config: CacheConfig,
    stats: Arc<CacheStats>,
}

impl Store {
    pub(super) fn new(
        history: Option<History>,
        publisher: Publisher,
        config: CacheConfig,
        stats: Arc<CacheStats>,
    ) -> Self {
        Self {
            state: publisher.head_state(),
            status: SyncStatus::WaitForDatastore,
            next_status: SyncStatus::WaitForDatastore,
            pending: Pending::default(),
            resync: None,
            unacknowledged: Vec::new(),
            provisional: history.is_none(),
            publisher,
            config,
            stats,
        }
    }

    /// Applies one event; returns how much of a batch it is worth.
    pub(super) fn apply(&mut self, event: FeedEvent) -> usize {
        match event {
            FeedEvent::Status(status) => {
                self.apply_status(status);
                1
            }
            FeedEvent::Updates(batch) => {
                let worth = batch.updates.len().max(1);
                self.apply_batch(batch);
                worth
            }
            FeedEvent::ResyncBegin { history, whole_at } => {
                self.begin_resync(history, whole_at);
                1
            }
            FeedEvent::ResyncEnd { revision, claim, complete } => {
                self.end_resync(revision, claim, complete);
                self.config.max_batch
            }
        }
    }

    fn apply_status(&mut self, status: SyncStatus) {
        match &mut self.resync {
            Some(resync) if status == SyncStatus::InSync => resync.status = Some(status),
            _ => self.next_status = status,
        }
    }

    // ---- updates ---------------------------------------------------------------------------

    fn apply_batch(&mut self, batch: Batch) {
        self.stats.updates.add(batch.updates.len() as u64);
        let before = self.pending.len();
        if let Some(ack) = batch.ack {
            // Somebody waits for all or nothing, so everything is checked before anything changes.
            if let Err(refusal) = self.check(&batch.conditions, &batch.updates) {
                self.stats.refused.add(batch.updates.len() as u64);
                // A writer that went away does not mind missing the answer.
                _ = ack.send(Err(refusal));
                return;
            }
            self.apply_whole(batch.updates);
            self.unacknowledged.push((ack, self.pending.len() - before));
            return;
        }
        match batch.grouping {
            Grouping::Whole => self.apply_whole(batch.updates),
            Grouping::ByRevision => self.apply_by_revision(batch.updates),
        }
    }

    fn apply_whole(&mut self, updates: Vec<Update>) {
        let claimed = updates.iter().filter_map(|update| update.revision).max();
        let mut assigned = None;
        for update in updates {
            self.apply_update(update, claimed, &mut assigned);
        }
        self.reached(claimed);
    }

    fn apply_by_revision(&mut self, updates: Vec<Update>) {
        let mut updates = updates.into_iter().peekable();
        while let Some(update) = updates.next() {
            let claimed = update.revision;
            let mut assigned = None;
            self.apply_update(update, claimed, &mut assigned);
            while let Some(update) = updates.next_if(|u| claimed.is_some() && u.revision == claimed) {
                self.apply_update(update, claimed, &mut assigned);
            }
            self.reached(claimed);
            if self.pending.len() >= self.config.max_batch && updates.peek().is_some() {
                self.publish(self.status);
            }
        }
    }

    /// The upstream is at least here, whether or not that changed anything.
    fn reached(&mut self, claimed: Option<Revision>) {
        // Inside of a resync to one revision, what the updates claim is only when each key was set.
        if self.resync.as_ref().is_none_or(|resync| resync.whole_at.is_none()) {
            self.state.revision = self.state.revision.max(claimed.unwrap_or_default());
        }
    }

    /// Applies one change. `assigned` is the revision of its group, fixed by the first change
    /// that is one: what the upstream claims, or the next one where it claims nothing or goes back.
    fn apply_update(&mut self, update: Update, claimed: Option<Revision>, assigned: &mut Option<Revision>) {
        let Update { change, revision } = update;
        let old = self.state.get(change.key()).cloned();
        if let Err(refusal) = self.check_size(&change) {
            self.stats.refused.add(1);
            warn!("update refused: {refusal}");
            self.mark_seen(old.as_ref());
            return;
        }
        let unchanged = match (&change, &old) {
            (Change::Put(entry), Some(old)) => old.same_content(entry),
            (Change::Delete(_), None) => true,
            _ => false,
        };
        if unchanged {
            self.stats.suppressed.add(1);
            self.mark_seen(old.as_ref());
            return;
        }
        let now = self.revision_of_group(claimed, assigned);
        if let (Some(resync), Some(old)) = (&mut self.resync, &old) {
            resync.lost(old);
        }
        match (change, old) {
            (Change::Put(entry), old) => {
                let set_at = revision.map_or(now, |revision| revision.min(now));
                let entry = entry.at(if self.in_whole_resync() { set_at } else { now });
                self.mark_seen(Some(&entry));
                self.state.put(entry.clone(), old.as_ref());
                self.pending.touch(entry, old, now);
            }
            (Change::Delete(_), Some(old)) => {
                self.state.remove(&old);
                self.pending.touch(old.clone(), Some(old), now);
            }
            (Change::Delete(_), None) => {}
        }
    }

    fn in_whole_resync(&self) -> bool {
        self.resync.as_ref().is_some_and(|resync| resync.whole_at.is_some())
    }

    fn revision_of_group(&mut self, claimed: Option<Revision>, assigned: &mut Option<Revision>) -> Revision {
        let (claimed, assigned) = match &mut self.resync {
            Some(Resync { whole_at: Some(whole_at), assigned, .. }) => (Some(*whole_at), assigned),
            _ => (claimed, assigned),
        };
        let current = self.state.revision;
        let revision = *assigned.get_or_insert_with(|| {
            claimed.filter(|claimed| *claimed > current).unwrap_or_else(|| current.next())
        });
        self.state.revision = revision;
        revision
    }

    fn mark_seen(&mut self, entry: Option<&Entry>) {
        if let (Some(resync), Some(entry)) = (&mut self.resync, entry) {
            resync.saw(entry);
        }
    }

    // ---- what is refused -------------------------------------------------------------------

    fn check(&self, conditions: &[Condition], updates: &[Update]) -> Result<(), Refusal> {
        conditions.iter().try_for_each(|condition| self.check_condition(condition))?;
        updates.iter().try_for_each(|update| self.check_size(&update.change))
    }

    fn check_condition(&self, condition: &Condition) -> Result<(), Refusal> {
        let (key, holds) = match condition {
            Condition::Exists(key) => (key, self.revision_of(key).is_some()),
            Condition::Absent(key) => (key, self.revision_of(key).is_none()),
            Condition::AtOneOf(key, revisions) => {
                (key, self.revision_of(key).is_some_and(|at| revisions.contains(&at)))
            }
            Condition::AtNoneOf(key, revisions) => {
                (key, self.revision_of(key).is_none_or(|at| !revisions.contains(&at)))
            }
        };
        if holds {
            return Ok(());
        }
        let found = match self.revision_of(key) {
            Some(revision) => format!("the key exists, its ETag is \"{revision}\""),
            None => "the key does not exist".to_owned(),
        };
        Err(Refusal::ConditionFailed { key: key.clone(), found })
    }

    /// Every entry in the map has been given a revision.
    fn revision_of(&self, key: &Key) -> Option<Revision> {
        self.state.get(key.as_bytes()).map(|entry| entry.revision().unwrap_or_default())
    }

    fn check_size(&self, change: &Change) -> Result<(), Refusal> {
        let key = change.key();
        let value = match change {
            Change::Put(entry) => entry.value().len(),
            Change::Delete(_) => 0,
        };
        let checks =
            [("key", key.len(), self.config.max_key_bytes), ("value", value, self.config.max_value_bytes)];
        match checks.into_iter().find(|(_, bytes, limit)| bytes > limit) {
            None => Ok(()),
            Some((what, bytes, limit)) => {
                let key = Key::copy_from(&key[..key.len().min(SHOWN_KEY_BYTES)]);
                Err(Refusal::TooLarge { key, what, bytes, limit })
            }
        }
    }

    // ---- resync ----------------------------------------------------------------------------

    fn begin_resync(&mut self, history: Option<History>, whole_at: Option<Revision>) {
        if let Some(resync) = self.resync.take() {
            // The feed begins anew: what it had said so far does not count.
            self.state = resync.rollback;
            self.pending.finish();
        } else {
            self.publish(self.status);
        }
        self.resync = Some(Resync::begin(self.state.clone(), whole_at));
        if let Some(history) = history {
            self.state.history = history;
            self.state.revision = Revision::ZERO;
        }
    }

    fn end_resync(&mut self, revision: Option<Revision>, claim: ResyncClaim, complete: bool) {
        let Some(resync) = self.resync.take() else {
            warn!("the feed ended a resync that it had not begun: ignored");
            return;
        };
        let swept = if complete { self.sweep(&resync) } else { 0 };
        self.state.revision = self.state.revision.max(revision.unwrap_or_default());
        self.check_claim(claim);
        self.stats.resyncs.add(1);
        self.stats.swept.add(swept as u64);
        self.next_status = resync.status.unwrap_or(self.next_status);
        self.provisional &= self.state.history == resync.rollback.history;
        let (keys, changed) = (self.state.len(), self.pending.len());
        info!(keys, changed, swept, revision = self.state.revision.0, "resync finished");
        // Dropping the old state is the publisher's chore, not this task's.
        self.publisher.discard(resync.rollback);
    }

    fn sweep(&mut self, resync: &Resync) -> usize {
        let gone = resync.unseen(&self.state);
        let count = gone.len();
        let current = self.state.revision;
        let revision = match (resync.assigned, resync.whole_at) {
            (Some(assigned), _) => assigned,
            (None, Some(at)) if at > current => at,
            // Nobody holds a cursor of a new history yet, and reading the same upstream again after a
            // restart, when there is nothing to sweep, must count the same revisions.
            _ if self.state.history != resync.rollback.history => current,
            _ => current.next(),
        };
        for entry in gone {
            self.state.revision = revision;
            self.state.remove(&entry);
            self.pending.touch(entry.clone(), Some(entry), revision);
        }
        count
    }

    fn check_claim(&self, claim: ResyncClaim) {
        let count = self.state.len() as u64;
        if claim.count.is_some_and(|claimed| claimed != count) {
            warn!(
                keys = count,
                claimed = claim.count,
                "the feed's `end` claims another number of keys: was it edited or cut?"
            );
        }
        if let Some(claimed) = claim.digest.filter(|claimed| *claimed != self.state.digest()) {
            warn!(digest = %self.state.digest(), %claimed, "the feed's `end` claims another digest: was it edited or cut?");
        }
    }

    // ---- publication -----------------------------------------------------------------------

    /// Ends a batch: everything that was applied becomes readable, and the status with it.
    pub(super) fn end_batch(&mut self) {
        self.publish(self.next_status);
        let head = self.publisher.head_cursor();
        for (ack, changed) in self.unacknowledged.drain(..) {
            // A writer that went away does not mind missing the answer.
            _ = ack.send(Ok(Committed { cursor: head, changed }));
        }
    }

    fn publish(&mut self, status: SyncStatus) {
        if let Some(resync) = &self.resync {
            // The old state is still the one that is served; only its status may change.
            if status != self.status {
                let state = resync.rollback.clone();
                self.drop_breadcrumb(Draft::status_only(state, status, self.provisional));
            }
            return;
        }
        let deltas = self.pending.deltas(&self.state);
        let other_history = self.state.history != self.publisher.head_cursor().history;
        if deltas.is_empty() && status == self.status && !other_history {
            // Changes that undid each other across revisions wait for the next breadcrumb: a
            // cursor from elsewhere may lie between them. The bound keeps them from piling up.
            if !self.pending.spans_revisions() {
                self.pending.finish();
                return;
            }
            if self.pending.len() < self.config.max_batch {
                return;
            }
        }
        let first_revision = self.pending.first_revision();
        let steps = self.pending.finish();
        self.drop_breadcrumb(Draft {
            state: self.state.clone(),
            status,
            deltas,
            steps,
            first_revision,
            provisional: self.provisional,
        });
    }

    fn drop_breadcrumb(&mut self, draft: Draft) {
        self.status = draft.status;
        self.stats.breadcrumbs.add(1);
        debug_assert!(
            draft.state.len() > SMALL || draft.state.digest() == draft.state.iter().collect(),
            "the running digest is the digest of the state"
        );
        self.publisher.publish(draft);
    }

    /// Nothing comes any more: followers are told, after everything that was published.
    pub(super) fn stop(&mut self) {
        let cursor = cursor_of(&self.state, self.status);
        if let Err(error) = self.publisher.terminate() {
            error!(%cursor, %error, "the trail was ended twice");
        }
    }
}
