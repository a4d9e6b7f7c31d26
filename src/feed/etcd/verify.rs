//! Is it still the same store?
//!
//! A cluster id comes from the cluster's flags. A store that was recreated, or restored from a backup, has the same
//! one, and may have passed our revision by the time we look. So after every interruption the *whole state* at our
//! revision is verified, never a single key:
//!
//! - A store whose revision is below ours is another one.
//! - Otherwise all keys of the prefix are read as they were at our revision, and the cache compares them with its
//!   own, key by key and value by value. This proves that the state is the same. It does not prove that the changes
//!   which led to it were the same; for those, each cursor carries a digest.
//! - If our revision is compacted away, everything is read as it is now. A key in it that was set at or before our
//!   revision, and that the cache does not have with the same value, belongs to another store. Keys that are gone by
//!   now, or were set again since, are not proved. The state that is served afterwards is etcd's in any case.
//! - Of more than [`ALWAYS_READ`] keys, not all are read if the raft term is unchanged. Such a store took minutes to
//!   fill, and a recreated or restored one starts its terms again: in the same term it is most likely the same
//!   cluster, and only the network was broken. Then the number of keys at our revision, and the newest revision among
//!   them, must be ours. This does not detect a store of that size that was replaced, within one interruption, by one
//!   with as many elections, keys and revisions.
//!
//! A proxy may switch to another store while the connection lasts. So each check of the store, once a second, reads the
//! key that was set last and compares the term; if they do not match, the store is verified again. So it is after a
//! check that is late because the daemon itself stood still: nobody saw what happened behind a proxy meanwhile. See
//! `watch`.

use tracing::{info, warn};

use super::caught_up::count_at;
use super::key_count_audit::KeyCountAudit;
use super::resume_point::{Fingerprint, ResumePoint};
use super::session::Session;
use super::{EtcdError, range_end, range_start};
use crate::feed::Activity;
use crate::model::Comparison;
use crate::wire::etcd::ResponseHeader;
use crate::wire::etcd::kv::{KeyValue, RangeRequest, SortOrder, SortTarget};

/// Up to this many keys are all read to verify a store, which takes half a second.
pub(super) const ALWAYS_READ: i64 = 100_000;

/// The outcome of a verification.
pub(super) enum Verified {
    /// It is the same store; this is the resume point in it.
    Same(ResumePoint),
    /// It is another store.
    Another,
    /// Our revision is compacted away.
    Compacted,
}

impl Session<'_> {
    /// Verifies that the store, whose newest header is `now`, is the one of the resume point.
    pub(super) async fn verify(
        &self,
        known: &ResumePoint,
        now: ResponseHeader,
    ) -> Result<Verified, EtcdError> {
        if known.cluster_id != now.cluster_id || now.revision < known.revision {
            return Ok(Verified::Another);
        }
        let term = Some(now.raft_term);
        // An empty store, at revision 1, is the same everywhere.
        let verified = if known.revision <= 1 {
            let audit = Some(KeyCountAudit::new(0, known.revision));
            Ok(Verified::Same(ResumePoint { term, audit, ..known.clone() }))
        } else if known.is_large() && known.term == term && known.fingerprint.is_some() {
            self.verify_by_count(known).await
        } else {
            self.verify_by_content(known, term).await
        };
        match verified {
            Err(EtcdError::Compacted) => Ok(Verified::Compacted),
            verified => verified,
        }
    }

    async fn verify_by_content(&self, known: &ResumePoint, term: Option<u64>) -> Result<Verified, EtcdError> {
        self.sink.upstream().does(Activity::Verifying);
        let reader = self.reader();
        let loaded = reader.read_at(known.revision).await?;
        let likeness = reader.likeness().await?;
        reader.give_up().await?;
        if likeness != Comparison::Same {
            return Ok(Verified::Another);
        }
        info!(
            keys = loaded.keys,
            revision = known.revision,
            "etcd is the store it was: all keys at this revision are as they were"
        );
        let mut audit = known.audit.clone().unwrap_or(KeyCountAudit::new(loaded.keys, known.revision));
        if audit.keys() != loaded.keys {
            // A key that the cache refuses is no difference to the cache, and nobody counted wrong here.
            warn!(
                counted = audit.keys(),
                keys = loaded.keys,
                "etcd holds another number of keys than were counted: counting anew"
            );
            audit = KeyCountAudit::new(loaded.keys, known.revision);
        }
        let fingerprint = loaded.fingerprint;
        Ok(Verified::Same(ResumePoint { term, audit: Some(audit), fingerprint, ..known.clone() }))
    }

    async fn verify_by_count(&self, known: &ResumePoint) -> Result<Verified, EtcdError> {
        let range = self.all_keys();
        let keys = count_at(&self.connection, &range, known.revision).await?;
        let request = RangeRequest {
            revision: known.revision,
            limit: 1,
            sort_order: SortOrder::Descend.into(),
            sort_target: SortTarget::Mod.into(),
            ..range
        };
        let fingerprint = self.connection.range(request).await?.kvs.first().map(Fingerprint::of);
        let same_count = known.audit.as_ref().is_some_and(|audit| audit.keys() == keys);
        let same = same_count && fingerprint == known.fingerprint;
        Ok(if same { Verified::Same(known.clone()) } else { Verified::Another })
    }

    /// A request for all keys of the prefix, without values.
    pub(super) fn all_keys(&self) -> RangeRequest {
        RangeRequest {
            key: range_start(self.prefix),
            range_end: range_end(self.prefix),
            keys_only: true,
            ..RangeRequest::default()
        }
    }
}

/// A change that the store has and the watch has not delivered yet.
#[derive(Debug)]
pub(super) struct PendingChange {
    /// The key that has changed, as it was before.
    before: Fingerprint,
    /// The change is not later than this revision.
    by: i64,
}

impl ResumePoint {
    fn is_large(&self) -> bool {
        self.audit.as_ref().is_some_and(|audit| audit.keys() > ALWAYS_READ)
    }

    /// Whether the store's newest header, and what it has now of the key that was set last, are consistent with what we
    /// know. `now.revision` is not below ours.
    pub(super) fn matches(&self, now: ResponseHeader, found: Option<&KeyValue>) -> bool {
        self.term.is_none_or(|term| term == now.raft_term)
            && (self.has_fingerprint(found) || self.watch_will_deliver(found))
    }

    /// Whether the key that was set last is still as we know it.
    fn has_fingerprint(&self, found: Option<&KeyValue>) -> bool {
        let known = self.fingerprint.as_ref();
        known.is_none_or(|known| found.is_some_and(|kv| kv.mod_revision == known.revision))
    }

    /// Whether the key was deleted, or set after our revision: the watch will deliver that. A change up to our revision
    /// would have been delivered.
    fn watch_will_deliver(&self, found: Option<&KeyValue>) -> bool {
        found.is_none_or(|kv| kv.mod_revision > self.revision)
    }

    /// The change that the watch has yet to deliver, if the key that was set last has changed.
    pub(super) fn pending_change(
        &self,
        now: ResponseHeader,
        found: Option<&KeyValue>,
    ) -> Option<PendingChange> {
        let changed = !self.has_fingerprint(found);
        let by = found.map_or(now.revision, |kv| kv.mod_revision);
        self.fingerprint.clone().filter(|_| changed).map(|before| PendingChange { before, by })
    }

    /// Whether the watch has moved past a pending change without delivering it: it comes from another store.
    pub(super) fn has_skipped(&self, pending: &PendingChange) -> bool {
        self.revision >= pending.by && self.fingerprint.as_ref() == Some(&pending.before)
    }
}
