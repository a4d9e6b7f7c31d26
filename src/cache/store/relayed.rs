//! Breadcrumbs of another daemon in the store of a relay.

use std::collections::HashMap;
use std::sync::Arc;

use tracing::warn;

use super::Store;
use crate::model::{KeyStep, ResyncClaim, Revision, UpstreamBreadcrumb, Verdict};

impl Store {
    /// Applies a breadcrumb of another daemon and publishes it. It is never joined with its neighbours, because clients
    /// come with cursors from between them; and if it does not lead to the claimed state, nothing of it is applied.
    pub(super) fn apply_breadcrumb(&mut self, breadcrumb: UpstreamBreadcrumb) {
        let UpstreamBreadcrumb { mut updates, steps, revision, status, claim, reply } = breadcrumb;
        self.stats.updates.inc_by(updates.len() as u64);
        self.publish_refused_keys();
        // What came before is not part of it.
        _ = self.publish(self.next_status);
        if !self.resyncs.is_empty() {
            reply.send(Verdict::Wrong);
            return;
        }
        let (before, refused) = (self.state.clone(), Arc::clone(&self.refused));
        updates.sort_by_key(|update| update.revision);
        let mut updates = updates.into_iter().peekable();
        self.is_relaying = true;
        while self.apply_revision(&mut updates) {}
        self.is_relaying = false;
        self.advance_to(Some(revision));
        let verdict = self.verdict(revision, claim);
        if verdict == Verdict::Wrong {
            warn!(
                revision = self.state.revision.0,
                keys = self.state.len(),
                digest = %self.state.digest(),
                claimed_revision = revision.0,
                claimed_keys = claim.count,
                "the changes do not lead to the state that the upstream names: they are not applied"
            );
            self.pending.clear();
            (self.state, self.refused) = (before, refused);
        } else {
            self.next_status = status.unwrap_or(self.next_status);
            self.publish_refused_keys();
            if verdict == Verdict::Right && self.are_steps_to_here(before.revision, &steps) {
                self.pending.replace_steps(steps);
                let deltas = self.pending.deltas();
                _ = self.publish_pending(self.next_status, deltas);
            } else {
                _ = self.publish(self.next_status);
            }
        }
        reply.send(verdict);
    }

    /// Whether these are all the steps from the state at `before` to the state of now, as far as that can be seen. Without
    /// them the changes themselves are the steps.
    fn are_steps_to_here(&self, before: Revision, steps: &[KeyStep]) -> bool {
        let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return false };
        let are_in_order = steps.is_sorted_by_key(|step| step.revision);
        let are_inside = first.revision > before && last.revision <= self.state.revision;
        let lead_here = last.check == Some(self.state.digest().into());
        if !(are_in_order && are_inside && lead_here) {
            return false;
        }
        let revisions: HashMap<&[u8], Revision> =
            steps.iter().map(|step| (step.key.as_bytes(), step.revision)).collect();
        let deltas = self.pending.deltas();
        deltas.iter().all(|delta| revisions.get(delta.entry.key()) == Some(&delta.revision))
    }

    /// Whether the state is the claimed one.
    fn verdict(&self, revision: Revision, claim: ResyncClaim) -> Verdict {
        let count = self.state.len() as u64;
        let same_count = claim.count.is_none_or(|claimed| claimed == count);
        let same_digest = claim.digest.is_none_or(|claimed| claimed == self.state.digest());
        match self.state.revision == revision && same_count && same_digest {
            true => Verdict::Right,
            false if !self.refused.is_empty() => Verdict::Unknown,
            false => Verdict::Wrong,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::*;
    use crate::cache::{Cache, CacheConfig};
    use crate::ingest::{self, IngestBuffer};
    use crate::model::{Digest, Entry, FeedEvent, History, ReplyTo, SyncStatus, Update};

    fn digest(entries: &[(&str, &str)]) -> Digest {
        let mut digest = Digest::default();
        entries
            .iter()
            .for_each(|(key, value)| digest.add(&Entry::new(key.as_bytes(), value.as_bytes(), None)));
        digest
    }

    async fn send(cache: &Cache, updates: Vec<Update>, revision: u64, end: &[(&str, &str)]) -> Verdict {
        let (reply, verdict) = ingest::reply_channel();
        let claim = ResyncClaim { count: Some(end.len() as u64), digest: Some(digest(end)) };
        let (reply, status) = (ReplyTo::new(reply), Some(SyncStatus::InSync));
        let (steps, revision) = (Vec::new(), Revision(revision));
        let breadcrumb = UpstreamBreadcrumb { updates, steps, revision, status, claim, reply };
        cache.send(FeedEvent::Breadcrumb(breadcrumb)).await.unwrap();
        verdict.await.unwrap()
    }

    #[tokio::test]
    async fn a_breadcrumb_is_one_breadcrumb_and_a_wrong_one_is_none() {
        let buffer = Arc::new(IngestBuffer::channel(64).unwrap());
        let (cache, task) = Cache::new(CacheConfig::default(), Some(History::random()), buffer);
        // Everything is in the buffer before the first event is applied.
        let sender = {
            let cache = cache.clone();
            tokio::spawn(async move {
                let sent = [
                    send(&cache, vec![Update::put("a", "1").at(3)], 3, &[("a", "1")]),
                    // Out of order, and with a revision that changed nothing in the end.
                    send(
                        &cache,
                        vec![Update::put("b", "2").at(6), Update::delete("a").at(5)],
                        7,
                        &[("b", "2")],
                    ),
                ];
                futures_util::future::join_all(sent).await
            })
        };
        tokio::task::yield_now().await;
        let first = cache.current_breadcrumb();
        let task = task.spawn();
        assert_eq!(sender.await.unwrap(), [Verdict::Right, Verdict::Right]);
        let crumbs: Vec<_> = first.later().map(|crumb| (crumb.revision().0, crumb.deltas().len())).collect();
        assert_eq!(crumbs, [(3, 1), (7, 2)]);
        let before = cache.current_breadcrumb();
        assert_eq!(before.sync_status(), SyncStatus::InSync);

        // Another digest, another count, a revision beyond the claimed one.
        for (updates, revision, end) in [
            (vec![Update::put("c", "3").at(8)], 8, &[("b", "2"), ("c", "4")][..]),
            (vec![Update::put("c", "3").at(8)], 8, &[("b", "2")]),
            (vec![Update::put("c", "3").at(9)], 8, &[("b", "2"), ("c", "3")]),
        ] {
            assert_eq!(send(&cache, updates, revision, end).await, Verdict::Wrong);
            assert_eq!(cache.current_breadcrumb().cursor(), before.cursor());
        }
        let right = send(&cache, vec![Update::put("c", "3").at(8)], 8, &[("b", "2"), ("c", "3")]);
        assert_eq!(right.await, Verdict::Right);
        assert_eq!(cache.current_breadcrumb().from(), before.cursor());
        cache.stop();
        task.await.unwrap();
    }
}
