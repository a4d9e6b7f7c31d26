//! The writer's state, and how each event changes it.

mod publication;
mod refuse;
mod relayed;
mod reread;
pub(super) mod room;

use std::collections::HashSet;
use std::iter::Peekable;
use std::sync::Arc;

use self::refuse::RefusalLog;
use self::room::Room;
use super::pending::Pending;
use super::publish::Publisher;
use super::resync::Resync;
use super::{CacheConfig, CacheStats, Journal, RefusedKeys, Snapshot};
use crate::model::{
    Ack, Batch, Change, Entry, FeedEvent, Grouping, Revision, SyncStatus, Transaction, Update, WriteInfo,
};

/// The state of the ingest task, which alone owns it.
pub(super) struct Store {
    /// The state that is being written. A clone of it is published.
    state: Snapshot,
    /// The status of the last breadcrumb.
    status: SyncStatus,
    /// The status for the last breadcrumb of this batch.
    next_status: SyncStatus,
    pending: Pending,
    /// The resyncs in progress: none, one, or one inside a reload.
    resyncs: Vec<Resync>,
    /// Writes that are applied but not yet readable.
    unacknowledged: Vec<(Ack, AppliedBatch)>,
    provisional: bool,
    /// Whether a breadcrumb of another daemon is being applied. What that daemon names is a change there.
    is_relaying: bool,
    /// The revision up to which the feed has sent everything, in the history of `state`.
    complete: Revision,
    publisher: Publisher,
    /// The keys that are refused in `state`.
    refused: Arc<RefusedKeys>,
    refusal_log: RefusalLog,
    room: Room,
    config: CacheConfig,
    pub(super) stats: Arc<CacheStats>,
}

/// The result of an atomic batch.
struct AppliedBatch {
    revision: Option<Revision>,
    changed: usize,
}

impl Store {
    pub(super) fn new(
        provisional: bool,
        publisher: Publisher,
        config: CacheConfig,
        stats: Arc<CacheStats>,
    ) -> Self {
        let refused = Arc::clone(&stats.refused_keys.read());
        Self {
            state: publisher.head_state(),
            status: SyncStatus::WaitForDatastore,
            next_status: SyncStatus::WaitForDatastore,
            pending: Pending::new(config.keep_every_write),
            resyncs: Vec::new(),
            unacknowledged: Vec::new(),
            provisional,
            is_relaying: false,
            complete: Revision::ZERO,
            publisher,
            refused,
            refusal_log: RefusalLog::default(),
            room: Room::new(&config),
            config,
            stats,
        }
    }

    pub(super) fn set_journal(&mut self, journal: Box<dyn Journal>) {
        self.publisher.set_journal(journal);
    }

    pub(super) fn is_journaled(&self) -> bool {
        self.publisher.is_journaled()
    }

    /// Applies one event. Returns how much it counts against the batch limit.
    pub(super) fn apply(&mut self, event: FeedEvent) -> usize {
        match event {
            FeedEvent::Status(status) => {
                self.apply_status(status);
                1
            }
            FeedEvent::Updates(batch) => {
                let cost = batch.updates.len().max(1);
                self.apply_batch(batch);
                cost
            }
            FeedEvent::Transaction(Transaction { decide, ack }) => {
                let updates = decide(&self.state);
                let cost = updates.len().max(1);
                self.apply_batch(Batch { ack: Some(ack), ..Batch::new(updates, Grouping::Whole) });
                cost
            }
            FeedEvent::ResyncBegin { history, whole_at, lossy } => {
                let whole_at = self.clamp_claim(whole_at);
                self.begin_resync(history, whole_at, lossy);
                1
            }
            FeedEvent::Breadcrumb(breadcrumb) => {
                let cost = breadcrumb.updates.len().max(1);
                self.apply_breadcrumb(breadcrumb);
                cost
            }
            FeedEvent::Compare(answer) => {
                answer.send(self.comparison());
                1
            }
            FeedEvent::Complete(revision) => {
                self.complete = self.complete.max(revision);
                1
            }
            FeedEvent::ResyncAborted => {
                self.abort_resync();
                1
            }
            FeedEvent::Past { end, past } => {
                self.publisher.set_past(end, past);
                1
            }
            FeedEvent::RelayedPast { end, steps } => {
                self.publisher.set_relayed_past(end, steps);
                1
            }
            FeedEvent::ResyncEnd { revision, claim, complete } => {
                let revision = self.clamp_claim(revision);
                self.end_resync(revision, claim, complete);
                self.config.max_batch
            }
        }
    }

    fn apply_status(&mut self, status: SyncStatus) {
        match self.resyncs.first_mut() {
            Some(resync) if status == SyncStatus::InSync => resync.status = Some(status),
            resync => {
                // The newest status wins, also over an `in-sync` that waits for the end of the resync.
                resync.into_iter().for_each(|resync| resync.status = None);
                self.next_status = status;
            }
        }
    }

    fn apply_batch(&mut self, batch: Batch) {
        self.stats.updates.inc_by(batch.updates.len() as u64);
        if let Some(ack) = batch.ack {
            // The write is all or nothing, so everything is checked before anything changes.
            let replaces = batch.grouping == Grouping::Replace;
            let checked = self.check(&batch.conditions, &batch.updates);
            if let Err(refusal) = checked.and_then(|()| self.check_room_for_write(&batch.updates, replaces)) {
                self.stats.refused.inc_by(batch.updates.len() as u64);
                ack.send(Err(refusal));
                return;
            }
            let applied =
                self.knowing_that_it_fits(|store| store.apply_atomic(batch.updates, batch.grouping));
            self.unacknowledged.push((ack, applied));
            return;
        }
        match batch.grouping {
            Grouping::Whole | Grouping::Replace => {
                self.apply_atomic(batch.updates, batch.grouping);
            }
            Grouping::ByRevision => self.apply_by_revision(batch.updates),
        }
    }

    fn apply_atomic(&mut self, mut updates: Vec<Update>, grouping: Grouping) -> AppliedBatch {
        let before = self.state.revision;
        let claims = updates.iter().filter_map(|update| update.revision);
        let claimed = claims.filter(|claimed| *claimed <= Revision::MAX_CLAIM).max();
        if grouping == Grouping::Replace {
            updates.extend(self.missing_from(&updates));
        }
        let mut assigned = None;
        for update in self.in_order_of_room(updates) {
            self.apply_update(update, claimed, &mut assigned);
        }
        self.end_group(before, claimed, assigned)
    }

    /// Deletions of the keys that these updates do not name.
    fn missing_from(&self, updates: &[Update]) -> Vec<Update> {
        let named: HashSet<&[u8]> = updates.iter().map(|update| update.change.key()).collect();
        let missing = self.state.iter().filter(|entry| !named.contains(entry.key()));
        missing.map(|entry| Update::delete(entry.key())).collect()
    }

    fn apply_by_revision(&mut self, updates: Vec<Update>) {
        let mut updates = updates.into_iter().peekable();
        while self.apply_revision(&mut updates) {
            let full = self.pending.len() >= self.config.split_after() && updates.peek().is_some();
            if full && self.publish(self.status).is_err() {
                // The remaining updates build on changes that were not persisted.
                return;
            }
        }
    }

    /// Applies the updates of the next revision. Returns whether there were any.
    fn apply_revision(&mut self, updates: &mut Peekable<impl Iterator<Item = Update>>) -> bool {
        let Some(update) = updates.next() else { return false };
        // Updates that claim more are refused one by one.
        let claimed = update.revision.filter(|claimed| *claimed <= Revision::MAX_CLAIM);
        let (before, mut assigned) = (self.state.revision, None);
        let mut next = || updates.next_if(|u| claimed.is_some() && u.revision == claimed);
        if self.is_room_limited() {
            let group = std::iter::once(update).chain(std::iter::from_fn(next)).collect();
            for update in self.in_order_of_room(group) {
                self.apply_update(update, claimed, &mut assigned);
            }
        } else {
            self.apply_update(update, claimed, &mut assigned);
            while let Some(update) = next() {
                self.apply_update(update, claimed, &mut assigned);
            }
        }
        self.end_group(before, claimed, assigned);
        true
    }

    /// Ends one revision, which began at `before`. A revision that undid all its changes does not count.
    fn end_group(
        &mut self,
        before: Revision,
        claimed: Option<Revision>,
        assigned: Option<Revision>,
    ) -> AppliedBatch {
        let check = self.state.digest().into();
        let changed = self.pending.end_group(assigned.unwrap_or_default(), check);
        let revision = assigned.filter(|_| changed > 0);
        if assigned > revision {
            self.state.revision = before;
        }
        if !self.resyncs.is_empty() {
            // The end of the resync compares the whole states instead.
            self.pending.clear();
        }
        self.advance_to(claimed);
        AppliedBatch { revision, changed }
    }

    /// Advances the state to the upstream's revision, even if nothing changed.
    fn advance_to(&mut self, claimed: Option<Revision>) {
        // Inside a resync to one revision, an update claims only when its key was set.
        if self.whole_at().is_none() {
            self.state.revision = self.state.revision.max(claimed.unwrap_or_default());
        }
    }

    /// The revision of the resync in progress, when it is to one revision.
    fn whole_at(&self) -> Option<Revision> {
        self.resyncs.last().and_then(|resync| resync.whole_at)
    }

    /// Applies one change. `assigned` is the revision of its group. The first effective change sets it: to the claimed
    /// revision, or to the next one if the upstream claims none or an older one.
    fn apply_update(&mut self, update: Update, claimed: Option<Revision>, assigned: &mut Option<Revision>) {
        let Some(Update { change, revision }) = self.accept_or_delete(update, claimed) else { return };
        let old = self.state.get(change.key()).cloned();
        let unchanged = match (&change, &old) {
            (Change::Put(entry), Some(old)) => {
                old.same_content(entry) && !self.is_another_write(old, entry, revision)
            }
            (Change::Delete(_), None) => true,
            _ => false,
        };
        if unchanged {
            self.stats.suppressed.inc();
            return;
        }
        if let Change::Put(entry) = &change
            && let Some(shared) = self
                .resyncs
                .last_mut()
                .and_then(|resync| resync.shared(entry, revision, self.config.keep_every_write))
        {
            self.stats.suppressed.inc();
            self.state.put(shared.clone(), old.as_ref());
            self.touch(old, Some(shared));
            return;
        }
        let now = self.revision_of_group(claimed, assigned);
        match (change, old) {
            (Change::Put(entry), old) => {
                // A value that is set back within its revision is unchanged: it keeps the old entry.
                let unchanged = self.pending.entry_set_back_to(&entry, old.as_ref()).cloned();
                let entry = unchanged.unwrap_or_else(|| {
                    self.counted(entry.at(self.entry_revision(revision, now)), old.as_ref())
                });
                self.state.put(entry.clone(), old.as_ref());
                self.touch(old, Some(entry));
            }
            (Change::Delete(_) | Change::Unreadable(..), Some(old)) => {
                self.state.remove(&old);
                self.touch(Some(old), None);
            }
            (Change::Delete(_) | Change::Unreadable(..), None) => {}
        }
    }

    /// Whether the upstream has set the key again, to the value that it has.
    fn is_another_write(&self, old: &Entry, entry: &Entry, revision: Option<Revision>) -> bool {
        let is_write = entry.write_info().is_some() || self.is_relaying;
        self.config.keep_every_write && is_write && old.revision() != revision
    }

    /// The entry with the count of its key's writes, if they are counted here: because every write is kept and the
    /// upstream does not say it.
    fn counted(&self, entry: Entry, old: Option<&Entry>) -> Entry {
        if !self.config.keep_every_write || entry.write_info().is_some() {
            return entry;
        }
        let before = || self.resyncs.last().filter(|resync| !resync.reload)?.before.get(entry.key());
        match old.or_else(before).map(Entry::write_info_or_default) {
            Some(old) => entry.with_write_info(WriteInfo { version: old.version.saturating_add(1), ..old }),
            // It is the first write.
            None => entry,
        }
    }

    /// The revision of an entry that changes now. In a resync to one revision the upstream may say when each key was set.
    /// But a key that differs from the state before was set after that state.
    fn entry_revision(&self, claimed: Option<Revision>, now: Revision) -> Revision {
        let Some(resync) = self.resyncs.last().filter(|resync| resync.whole_at.is_some()) else { return now };
        let before = if resync.reload { Revision::ZERO } else { resync.before.revision };
        claimed.filter(|claimed| *claimed > before).map_or(now, |claimed| claimed.min(now))
    }

    /// Notes a change, except in a resync to one revision, where all changes are simultaneous.
    fn touch(&mut self, old: Option<Entry>, new: Option<Entry>) {
        if self.whole_at().is_none() {
            self.pending.touch(old, new);
        }
    }

    fn revision_of_group(&mut self, claimed: Option<Revision>, assigned: &mut Option<Revision>) -> Revision {
        if let Some(whole_at) = self.whole_at() {
            return whole_at;
        }
        let current = self.state.revision;
        let revision = *assigned.get_or_insert_with(|| {
            claimed.filter(|claimed| *claimed > current).unwrap_or_else(|| current.next())
        });
        self.state.revision = revision;
        revision
    }
}
