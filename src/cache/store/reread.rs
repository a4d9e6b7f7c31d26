//! Resyncs in the store: reading the whole state again while the old one is served.

use std::collections::HashSet;
use std::sync::Arc;

use tracing::{info, warn};

use super::Store;
use crate::cache::resync::{Resync, delta, differences};
use crate::cache::weight::Weight;
use crate::cache::{Delta, DeltaKind, Snapshot};
use crate::model::{Change, Comparison, Entry, History, ResyncClaim, Revision};

/// The old tree is reused when at most one key in this many has changed.
const REUSE_DIVISOR: usize = 8;

impl Store {
    pub(super) fn begin_resync(&mut self, history: Option<History>, claimed: Option<Revision>, lossy: bool) {
        let within_reload = history.is_none() && self.resyncs.first().is_some_and(|first| first.reload);
        let depth = usize::from(within_reload);
        if self.resyncs.is_empty() {
            self.publish_refused_keys();
            // Changes that are not persisted are undone before the resync begins.
            _ = self.publish(self.status);
            if self.pending.len() > 0 {
                // Changes that undid each other cannot wait across a resync, because the state before
                // it may be published again under another status.
                _ = self.publish_pending(self.status, Box::default());
            }
            self.acknowledge();
        } else if self.resyncs.len() > depth {
            // The feed starts over: nothing of the unfinished resync counts, nor do its writes.
            let unfinished = self.resyncs.drain(depth..).next();
            unfinished.into_iter().for_each(|resync| self.roll_back_resync(resync));
            self.unacknowledged.clear();
        }
        let refused = Arc::clone(&self.refused);
        let (unread, lacked_keys) = self.begin_reading_for_room(history.is_some());
        let full_read = Arc::make_mut(&mut self.refused).begin_full_read();
        let (mut resync, fresh) = Resync::begin(self.state.clone(), history, claimed, lossy);
        (resync.refused, resync.full_read) = (refused, full_read);
        (resync.unread, resync.lacked_keys) = (unread, lacked_keys);
        resync.outer_deleted = self.resyncs.last().map_or_else(HashSet::new, |around| around.deleted.clone());
        self.resyncs.push(resync);
        self.state = fresh;
    }

    pub(super) fn end_resync(&mut self, revision: Option<Revision>, claim: ResyncClaim, complete: bool) {
        let Some(resync) = self.resyncs.pop() else {
            warn!("the feed ended a resync that it never began; ignored");
            return;
        };
        match complete {
            true => {
                Arc::make_mut(&mut self.refused).end_full_read(resync.full_read);
                self.end_reading_for_room();
            }
            false => self.restore_unread(&resync),
        }
        if resync.is_of_log() {
            self.trim_to_room();
        }
        let mut changes = differences(&resync.before, &self.state).peekable();
        let changed = changes.peek().is_some();
        // The empty state of another history may be its first one, at revision 0.
        let is_named = resync.reload && self.state.is_empty() && revision.is_some();
        let counts = |at: &Revision| changed && !is_named && *at != Revision::NAMED_AT_THE_END;
        let whole_at = resync.whole_at.filter(counts);
        let reached = revision.max(whole_at).unwrap_or_default();
        let mut now = self.state.revision.max(reached);
        if changed && !resync.reload && now == resync.before.revision {
            // Only keys that did not come again have changed, and no revision was given for that.
            now = now.next();
        }
        let mut weight = Weight::default();
        let changes = changes.inspect(|(before, after)| weight.replace(*before, *after));
        let deltas: Box<[Delta]> = changes.filter_map(|(before, after)| delta(before, after, now)).collect();
        if let Some(unneeded) = self.reuse_old_tree(&resync, &deltas, &mut weight) {
            self.publisher.drop_snapshot(unneeded);
        }
        let swept = deltas.iter().filter(|delta| delta.kind == DeltaKind::Deleted).count();
        self.state.revision = now;
        self.check_claim(claim);
        self.stats.resyncs.inc();
        self.stats.swept.inc_by(swept as u64);
        self.log_resync(resync.before.len(), deltas.len(), swept);
        self.next_status = resync.status.unwrap_or(self.next_status);
        self.provisional &= !resync.reload;
        if self.resyncs.is_empty() {
            self.publish_refused_keys();
            // The changes between the state before and this one are unknown.
            let gap = resync.lossy && (resync.reload || now > resync.before.revision);
            // Each key differs once, so the deltas need no `Pending`.
            if gap || self.changes_anything(self.next_status, &deltas) {
                let first = if gap { Some(resync.before.revision.next()) } else { changed.then_some(now) };
                _ = self.publish_changes(self.next_status, deltas, first, Box::default(), weight, gap);
            }
        }
        self.publisher.drop_snapshot(resync.before);
    }

    /// The comparison of the state in the resync in progress with the state before it; `Other` if there is no resync.
    pub(super) fn comparison(&self) -> Comparison {
        self.resyncs.last().map_or(Comparison::Other, |resync| resync.comparison(&self.state))
    }

    /// Aborts the resync in progress. If it has read the same state again, the keys refused in it are the refused ones.
    pub(super) fn abort_resync(&mut self) {
        let same = self.resyncs.len() == 1
            && self.resyncs.first().is_some_and(|resync| resync.has_read_the_same(&self.state));
        let Some(mut first) = self.resyncs.drain(..).next() else { return };
        if same {
            self.end_reading_for_room();
            first.lacked_keys = false;
            Arc::make_mut(&mut self.refused).end_full_read(first.full_read);
            first.refused = Arc::clone(&self.refused);
        }
        let read = self.state.clone();
        self.roll_back_resync(first);
        self.publisher.drop_snapshot(read);
    }

    /// Restores the state before a resync.
    fn roll_back_resync(&mut self, resync: Resync) {
        self.give_up_reading_for_room(resync.lacked_keys);
        (self.state, self.refused) = (resync.before, resync.refused);
        self.resyncs.iter_mut().for_each(|around| around.deleted.clone_from(&resync.outer_deleted));
    }

    /// Restores the keys that an incomplete resync did not get to. Keys that it deleted stay deleted.
    fn restore_unread(&mut self, resync: &Resync) {
        let unread = resync.unread().filter(|entry| self.state.get(entry.key()).is_none());
        let unread: Vec<Entry> = unread.cloned().collect();
        if resync.reload && !unread.is_empty() {
            // Their revisions mean nothing in the new history, so they are set at the current one.
            self.state.revision = self.state.revision.next();
        }
        for entry in unread {
            if let Err(refusal) = self.check_room(&entry.clone().into()) {
                self.record_refused(entry.key(), &refusal, entry.revision());
                continue;
            }
            let entry = if resync.reload { entry.at(self.state.revision) } else { entry };
            self.state.put(entry, None);
        }
    }

    /// If little has changed, rebuilds the state from the old tree and returns the new tree, to be freed. Otherwise two
    /// whole trees would stay in memory.
    fn reuse_old_tree(&mut self, resync: &Resync, deltas: &[Delta], weight: &mut Weight) -> Option<Snapshot> {
        // In another history the entries that are the same have other revisions.
        if resync.reload || deltas.len() > resync.before.len() / REUSE_DIVISOR {
            weight.replace_tree(resync.before.len());
            return None;
        }
        let mut state = resync.before.clone();
        (state.history, state.revision) = (self.state.history, self.state.revision);
        for delta in deltas {
            let old = state.get(delta.entry.key()).cloned();
            match (delta.kind, old) {
                (DeltaKind::Deleted, Some(old)) => state.remove(&old),
                (DeltaKind::Deleted, None) => {}
                (DeltaKind::New | DeltaKind::Updated, old) => state.put(delta.entry.clone(), old.as_ref()),
            }
        }
        Some(std::mem::replace(&mut self.state, state))
    }

    /// A resync that deletes most keys is usually a fault: an empty file, a wrong prefix, a datastore that was restored.
    fn log_resync(&self, before: usize, changed: usize, swept: usize) {
        let (keys, revision) = (self.state.len(), self.state.revision.0);
        if swept > before / 2 {
            warn!(
                keys,
                before,
                changed,
                swept,
                revision,
                "resync finished, and more than half of the keys were deleted, for the feed no longer has them; if that \
                 is not meant, look at what it reads"
            );
        } else {
            info!(keys, changed, swept, revision, "resync finished");
        }
    }

    fn check_claim(&self, claim: ResyncClaim) {
        let count = self.state.len() as u64;
        if claim.count.is_some_and(|claimed| claimed != count) {
            warn!(
                keys = count,
                claimed = claim.count,
                "the feed's `end` record names another number of keys than were read; the feed may be edited or truncated"
            );
        }
        if let Some(claimed) = claim.digest.filter(|claimed| *claimed != self.state.digest()) {
            warn!(
                digest = %self.state.digest(),
                %claimed,
                "the feed's `end` record names another digest than was read; the feed may be edited or truncated"
            );
        }
    }

    /// Notes in every resync that the feed named a key, as present or as deleted. A refused key counts as deleted.
    pub(super) fn note_seen(&mut self, change: &Change, is_refused: bool) {
        let is_present = matches!(change, Change::Put(_)) && !is_refused;
        self.resyncs.iter_mut().for_each(|resync| resync.note_key(change.key(), is_present));
    }
}
