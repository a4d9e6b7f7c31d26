//! Where the feed stands in which store.

use bytes::Bytes;

use super::census::Census;
use crate::model::History;

/// What the feed has seen, and of what.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) cluster_id: u64,
    /// How often a store with this id turned out to be another one.
    pub(super) generation: u64,
    /// Everything up to this revision has been told to the cache.
    pub(super) revision: i64,
    /// How many keys there are then; `None`: not counted yet.
    pub(super) census: Option<Census>,
    /// The state that was kept there is not the whole store's: it lacks what was refused, which may be good now, and which
    /// nobody would name otherwise. Everything is to be read again.
    pub(super) has_holes: bool,
    /// Something that was so at `revision`, to recognise the store by.
    pub(super) witness: Option<Witness>,
}

/// A key, and the revision and value to which it was set last; `None`: it was deleted.
#[derive(Clone, Debug)]
pub(super) struct Witness {
    pub(super) key: Vec<u8>,
    pub(super) set: Option<(i64, Bytes)>,
}

/// How many times a store with the same id may turn out to be another one.
pub(super) const GENERATIONS: u64 = 64;

impl Place {
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
