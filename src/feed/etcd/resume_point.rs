//! The resume point: how far the cache is, and in which store.

use super::key_count_audit::KeyCountAudit;
use crate::model::History;
use crate::wire::etcd::kv::{Event, EventType, KeyValue};

/// How far the cache is in a store, and what identifies that store.
#[derive(Clone, Debug)]
pub(super) struct ResumePoint {
    pub(super) cluster_id: u64,
    /// How many times a store with this cluster id turned out to be a different one.
    pub(super) generation: u64,
    /// The cache has been given everything up to this revision.
    pub(super) revision: i64,
    /// The raft term in which the store was last known to be the same; `None`: not verified yet.
    pub(super) term: Option<u64>,
    /// Counts the keys at `revision`; `None`: not counted yet.
    pub(super) audit: Option<KeyCountAudit>,
    /// The key that was set last of those that exist at `revision`; `None`: not known.
    pub(super) fingerprint: Option<Fingerprint>,
    /// The cache does not know the changes before this revision, and no backfill has been started.
    pub(super) needs_backfill: Option<i64>,
}

/// A key, and the revision that set it. A store that has set it at another revision, with no event of it, is not the
/// store that we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    pub(super) key: Vec<u8>,
    pub(super) revision: i64,
}

impl Fingerprint {
    pub(super) fn of(kv: &KeyValue) -> Self {
        Self { key: kv.key.to_vec(), revision: kv.mod_revision }
    }
}

/// How many different stores with the same cluster id are told apart.
pub(super) const GENERATIONS: u64 = 64;

impl ResumePoint {
    /// The generation of the history that follows this one.
    pub(super) fn next_generation(&self, cluster_id: u64) -> u64 {
        // The last one is followed by the first: the digest in each cursor tells their cursors apart.
        if cluster_id == self.cluster_id { (self.generation + 1) % GENERATIONS } else { 0 }
    }

    /// Advances over an event.
    pub(super) fn advance(&mut self, event: &Event) {
        let Some(kv) = &event.kv else { return };
        self.revision = self.revision.max(kv.mod_revision);
        match event.kind() {
            EventType::Put => self.fingerprint = Some(Fingerprint::of(kv)),
            // Which of the other keys was set last is not known.
            EventType::Delete => _ = self.fingerprint.take_if(|known| known.key == kv.key),
        }
    }

    /// The histories that a store with this cluster id may have. Replicas may count generations differently: one saw
    /// the store being recreated, another started later. Each accepts the other's cursors if the state that they name
    /// is the same.
    pub(super) fn candidate_histories(cluster_id: u64, prefix: &[u8]) -> Vec<History> {
        (0..GENERATIONS).map(|generation| Self::history(cluster_id, generation, prefix)).collect()
    }

    /// The history of a generation: the same for every replica that follows this prefix of this cluster.
    pub(super) fn history(cluster_id: u64, generation: u64, prefix: &[u8]) -> History {
        let mut identity = b"etcd".to_vec();
        identity.extend_from_slice(&cluster_id.to_le_bytes());
        identity.extend_from_slice(&generation.to_le_bytes());
        identity.extend_from_slice(prefix);
        History::derive(&identity)
    }
}
