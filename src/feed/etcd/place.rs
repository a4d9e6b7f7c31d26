//! Where the feed stands in which store.

use crate::model::History;

/// What the feed has seen, and of what.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) cluster_id: u64,
    /// How often a store with this id turned out to be another one.
    pub(super) generation: u64,
    /// Everything up to this revision has been told to the cache.
    pub(super) revision: i64,
    /// Something that was so at `revision`, to recognise the store by.
    pub(super) witness: Option<Witness>,
}

/// A key, and the revision at which it was set last; `None`: it was deleted.
#[derive(Clone, Debug)]
pub(super) struct Witness {
    pub(super) key: Vec<u8>,
    pub(super) mod_revision: Option<i64>,
}

impl Place {
    /// The same for every replica that follows this prefix of this cluster.
    pub(super) fn history(cluster_id: u64, generation: u64, prefix: &[u8]) -> History {
        let mut identity = b"etcd".to_vec();
        identity.extend_from_slice(&cluster_id.to_le_bytes());
        identity.extend_from_slice(&generation.to_le_bytes());
        identity.extend_from_slice(prefix);
        History::derive(&identity)
    }
}
