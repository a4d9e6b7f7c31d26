//! A resync in the store: reading everything again while the old state is served.

use tracing::{info, warn};

use super::Store;
use crate::cache::resync::{Resync, differences};
use crate::cache::{Delta, DeltaKind, Snapshot};
use crate::model::{History, Likeness, ResyncClaim, Revision};

impl Store {
    pub(super) fn begin_resync(&mut self, history: Option<History>, claimed: Option<Revision>, lossy: bool) {
        let within_reload = history.is_none() && self.resyncs.first().is_some_and(|first| first.reload);
        let depth = usize::from(within_reload);
        if self.resyncs.is_empty() {
            self.publish(self.status);
            if self.pending.len() > 0 {
                // What undid itself may wait for the next breadcrumb, but not across a resync: the
                // state before it may be published again, under another status.
                self.publish_pending(self.status, Box::default());
            }
            self.acknowledge();
        } else if self.resyncs.len() > depth {
            // The feed begins anew: what it had said so far does not count, and nor do writes.
            let abandoned = self.resyncs.drain(depth..).next();
            abandoned.into_iter().for_each(|resync| self.state = resync.before);
            self.unacknowledged.clear();
        }
        let (resync, fresh) = Resync::begin(self.state.clone(), history, claimed, lossy);
        self.resyncs.push(resync);
        self.state = fresh;
    }

    pub(super) fn end_resync(&mut self, revision: Option<Revision>, claim: ResyncClaim, complete: bool) {
        let Some(resync) = self.resyncs.pop() else {
            warn!("the feed ended a resync that it had not begun: ignored");
            return;
        };
        if !complete {
            self.take_back(&resync.before);
        }
        let mut changes = differences(&resync.before, &self.state).peekable();
        let changed = changes.peek().is_some();
        let reached = revision.max(resync.whole_at.filter(|_| changed)).unwrap_or_default();
        let mut now = self.state.revision.max(reached);
        if changed && !resync.reload && now == resync.before.revision {
            // Keys that did not come again were the only change, and nobody named a revision for it.
            now = now.next();
        }
        let deltas: Box<[Delta]> =
            changes.map(|(kind, entry)| Delta { kind, entry, revision: now }).collect();
        let swept = deltas.iter().filter(|delta| delta.kind == DeltaKind::Deleted).count();
        self.state.revision = now;
        self.check_claim(claim);
        self.stats.resyncs.add(1);
        self.stats.swept.add(swept as u64);
        info!(keys = self.state.len(), changed = deltas.len(), swept, revision = now.0, "resync finished");
        self.next_status = resync.status.unwrap_or(self.next_status);
        self.provisional &= !resync.reload;
        if self.resyncs.is_empty() {
            // What lies between the state before and this one stays unknown.
            let blind = resync.lossy && (resync.reload || now > resync.before.revision);
            // Nothing was noted meanwhile, and each key differs once: no need to note it all now.
            if blind || self.is_news(self.next_status, &deltas) {
                let first = if blind { Some(resync.before.revision.next()) } else { changed.then_some(now) };
                self.publish_changes(self.next_status, deltas, first, Box::default(), blind);
            }
        }
        // Freeing the old state is a chore for another thread, not for this task.
        self.publisher.discard(resync.before);
    }

    /// How what has come in the resync under way stands to the state before it; nothing came, nothing is alike.
    pub(super) fn likeness(&self) -> Likeness {
        self.resyncs.last().map_or(Likeness::Other, |resync| resync.likeness(&self.state))
    }

    /// What the resync under way has read counts for nothing.
    pub(super) fn give_up_resync(&mut self) {
        let Some(first) = self.resyncs.drain(..).next() else { return };
        let read = std::mem::replace(&mut self.state, first.before);
        self.publisher.discard(read);
    }

    /// The feed was cut off: the keys that it did not get to are not gone.
    fn take_back(&mut self, before: &Snapshot) {
        let unread = before.iter().filter(|entry| self.state.get(entry.key()).is_none());
        for entry in unread.cloned().collect::<Vec<_>>() {
            self.state.put(entry, None);
        }
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

    /// A refused update leaves its key as it was, also when the state is being read anew.
    pub(super) fn keep_through_resync(&mut self, key: &[u8]) {
        let kept = self.resyncs.last().and_then(|resync| resync.before.get(key)).cloned();
        if let Some(entry) = kept.filter(|_| self.state.get(key).is_none()) {
            self.state.put(entry.clone(), None);
            self.touch(None, Some(entry));
        }
    }
}
