//! A resync in the store: reading everything again while the old state is served.

use std::collections::HashSet;
use std::sync::Arc;

use tracing::{info, warn};

use super::Store;
use crate::cache::resync::{Resync, delta, differences};
use crate::cache::weight::Weight;
use crate::cache::{Delta, DeltaKind, Snapshot};
use crate::model::{Change, Entry, History, Likeness, ResyncClaim, Revision};

/// One key in so many is little.
const LITTLE: usize = 8;

impl Store {
    pub(super) fn begin_resync(&mut self, history: Option<History>, claimed: Option<Revision>, lossy: bool) {
        let within_reload = history.is_none() && self.resyncs.first().is_some_and(|first| first.reload);
        let depth = usize::from(within_reload);
        if self.resyncs.is_empty() {
            self.show_refused();
            // What cannot be kept is taken back before the state is read anew.
            _ = self.publish(self.status);
            if self.pending.len() > 0 {
                // What undid itself may wait for the next breadcrumb, but not across a resync: the
                // state before it may be published again, under another status.
                _ = self.publish_pending(self.status, Box::default());
            }
            self.acknowledge();
        } else if self.resyncs.len() > depth {
            // The feed begins anew: what it had said so far does not count, and nor do writes.
            let abandoned = self.resyncs.drain(depth..).next();
            abandoned.into_iter().for_each(|resync| self.abandon(resync));
            self.unacknowledged.clear();
        }
        let refused = Arc::clone(&self.refused);
        let reading = Arc::make_mut(&mut self.refused).begin_reading();
        let (mut resync, fresh) = Resync::begin(self.state.clone(), history, claimed, lossy);
        (resync.refused, resync.reading) = (refused, reading);
        resync.gone_around = self.resyncs.last().map_or_else(HashSet::new, |around| around.gone.clone());
        self.resyncs.push(resync);
        self.state = fresh;
    }

    pub(super) fn end_resync(&mut self, revision: Option<Revision>, claim: ResyncClaim, complete: bool) {
        let Some(resync) = self.resyncs.pop() else {
            warn!("the feed ended a resync that it had not begun: ignored");
            return;
        };
        match complete {
            true => Arc::make_mut(&mut self.refused).end_reading(resync.reading),
            false => self.take_back(&resync),
        }
        let mut changes = differences(&resync.before, &self.state).peekable();
        let changed = changes.peek().is_some();
        let reached = revision.max(resync.whole_at.filter(|_| changed)).unwrap_or_default();
        let mut now = self.state.revision.max(reached);
        if changed && !resync.reload && now == resync.before.revision {
            // Keys that did not come again were the only change, and nobody named a revision for it.
            now = now.next();
        }
        let mut weight = Weight::default();
        let changes = changes.inspect(|(before, after)| weight.replace(*before, *after));
        let deltas: Box<[Delta]> = changes.filter_map(|(before, after)| delta(before, after, now)).collect();
        if let Some(unneeded) = self.graft(&resync, &deltas, &mut weight) {
            self.publisher.discard(unneeded);
        }
        let swept = deltas.iter().filter(|delta| delta.kind == DeltaKind::Deleted).count();
        self.state.revision = now;
        self.check_claim(claim);
        self.stats.resyncs.inc();
        self.stats.swept.inc_by(swept as u64);
        info!(keys = self.state.len(), changed = deltas.len(), swept, revision = now.0, "resync finished");
        self.next_status = resync.status.unwrap_or(self.next_status);
        self.provisional &= !resync.reload;
        if self.resyncs.is_empty() {
            self.show_refused();
            // What lies between the state before and this one stays unknown.
            let blind = resync.lossy && (resync.reload || now > resync.before.revision);
            // Nothing was noted meanwhile, and each key differs once: no need to note it all now.
            if blind || self.is_news(self.next_status, &deltas) {
                let first = if blind { Some(resync.before.revision.next()) } else { changed.then_some(now) };
                _ = self.publish_changes(self.next_status, deltas, first, Box::default(), weight, blind);
            }
        }
        // Freeing the old state is a chore for another thread, not for this task.
        self.publisher.discard(resync.before);
    }

    /// How what has come in the resync under way stands to the state before it; nothing came, nothing is alike.
    pub(super) fn likeness(&self) -> Likeness {
        self.resyncs.last().map_or(Likeness::Other, |resync| resync.likeness(&self.state))
    }

    /// What the resync under way has read counts for nothing. Only where it has read the very state that there is,
    /// what was refused in it is what is refused.
    pub(super) fn give_up_resync(&mut self) {
        let same = self.resyncs.len() == 1 && self.likeness() == Likeness::Same;
        let Some(mut first) = self.resyncs.drain(..).next() else { return };
        if same {
            Arc::make_mut(&mut self.refused).end_reading(first.reading);
            first.refused = Arc::clone(&self.refused);
        }
        let read = self.state.clone();
        self.abandon(first);
        self.publisher.discard(read);
    }

    /// Nothing of it was ever said.
    fn abandon(&mut self, resync: Resync) {
        (self.state, self.refused) = (resync.before, resync.refused);
        self.resyncs.iter_mut().for_each(|around| around.gone.clone_from(&resync.gone_around));
    }

    /// The feed was cut off: the keys that it did not get to are not gone, and those that it named as gone are.
    fn take_back(&mut self, resync: &Resync) {
        let unread = resync.unread().filter(|entry| self.state.get(entry.key()).is_none());
        let unread: Vec<Entry> = unread.cloned().collect();
        if resync.reload && !unread.is_empty() {
            // In the other history they have been there since now: their own revisions mean nothing in it.
            self.state.revision = self.state.revision.next();
        }
        for entry in unread {
            let entry = if resync.reload { entry.at(self.state.revision) } else { entry };
            self.state.put(entry, None);
        }
    }

    /// Where little has changed, the state goes on from the tree before: two whole trees would be kept otherwise. Returns the
    /// one that is not needed.
    fn graft(&mut self, resync: &Resync, deltas: &[Delta], weight: &mut Weight) -> Option<Snapshot> {
        // In another history the entries that are the same have other revisions.
        if resync.reload || deltas.len() > resync.before.len() / LITTLE {
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

    /// While everything is read again: whether a key that was there is there, or is known to be gone. A key that was
    /// refused counts as gone.
    pub(super) fn note_read(&mut self, change: &Change, is_refused: bool) {
        let is_there = matches!(change, Change::Put(_)) && !is_refused;
        self.resyncs.iter_mut().for_each(|resync| resync.note(change.key(), is_there));
    }
}
