//! Where the feed stands in which store.

use super::census::Census;
use super::proto::{Event, EventType, KeyValue};
use crate::model::History;

/// What the feed has seen, and of what.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) cluster_id: u64,
    /// How often a store with this id turned out to be another one.
    pub(super) generation: u64,
    /// Everything up to this revision has been told to the cache.
    pub(super) revision: i64,
    /// The raft term in which it was last certain that the store is the one; `None`: not certain yet.
    pub(super) term: Option<u64>,
    /// How many keys there are at `revision`; `None`: not counted yet.
    pub(super) census: Option<Census>,
    /// The key that was set last among those that are there at `revision`; `None`: not known.
    pub(super) newest: Option<Newest>,
    /// The cache does not know what happened before this revision, and nobody has been sent to find out.
    pub(super) past_unknown: Option<i64>,
}

/// A key and when it was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Newest {
    pub(super) key: Vec<u8>,
    pub(super) revision: i64,
}

impl Newest {
    pub(super) fn of(kv: &KeyValue) -> Self {
        Self { key: kv.key.to_vec(), revision: kv.mod_revision }
    }
}

/// How many times a store with the same id may turn out to be another one.
pub(super) const GENERATIONS: u64 = 64;

impl Place {
    /// Where another history begins, after this one.
    pub(super) fn next_generation(&self, cluster_id: u64) -> u64 {
        // After the last comes the first again: its cursors are told apart by the digest that they carry.
        if cluster_id == self.cluster_id { (self.generation + 1) % GENERATIONS } else { 0 }
    }

    /// Moves on over an event.
    pub(super) fn saw(&mut self, event: &Event) {
        let Some(kv) = &event.kv else { return };
        self.revision = self.revision.max(kv.mod_revision);
        match event.kind() {
            EventType::Put => self.newest = Some(Newest::of(kv)),
            // Which of the others is the newest then, is not known.
            EventType::Delete => _ = self.newest.take_if(|newest| newest.key == kv.key),
        }
    }

    /// Every history that a store with this id may have. A replica that saw a store being recreated and
    /// one that came later count differently, and a cursor of the one is good at the other all the
    /// same, where the state that it names is the one.
    pub(super) fn cousins(cluster_id: u64, prefix: &[u8]) -> Vec<History> {
        (0..GENERATIONS).map(|generation| Self::history(cluster_id, generation, prefix)).collect()
    }

    /// The same for every replica that follows this prefix of this cluster.
    pub(super) fn history(cluster_id: u64, generation: u64, prefix: &[u8]) -> History {
        let mut identity = b"etcd".to_vec();
        identity.extend_from_slice(&cluster_id.to_le_bytes());
        identity.extend_from_slice(&generation.to_le_bytes());
        identity.extend_from_slice(prefix);
        History::derive(&identity)
    }
}
