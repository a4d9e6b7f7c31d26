//! The resume point: how far the cache is, and in which cluster.

use super::config::KubeTarget;
use crate::model::{History, Revision};

/// How far the cache is in a cluster.
#[derive(Clone, Debug)]
pub(super) struct ResumePoint {
    /// The cluster's identity.
    pub(super) cluster: String,
    /// How many times a cluster with this identity turned out to be at another state: it was restored from a backup.
    pub(super) generation: u64,
    /// The cache has been given everything up to this revision.
    pub(super) revision: Revision,
    /// The revision from which a watch goes on: that of the last event, or a later one at which a bookmark says that there
    /// were no more.
    pub(super) watch_from: Revision,
    /// Objects at `revision`; `None`: not counted yet.
    pub(super) objects: Option<u64>,
    /// Bytes of the objects when all were read last, which shows what it costs the server to list them.
    pub(super) bytes: u64,
    /// The cache does not know the changes before this revision, and no backfill has been started.
    pub(super) needs_backfill: Option<Revision>,
}

/// How many states of the same cluster are told apart.
pub(super) const GENERATIONS: u64 = 64;

impl ResumePoint {
    /// The generation of the history that follows this one.
    pub(super) fn next_generation(&self, cluster: &str) -> u64 {
        // The last one is followed by the first: the digest in each cursor tells their cursors apart.
        if cluster == self.cluster { (self.generation + 1) % GENERATIONS } else { 0 }
    }

    /// The histories that this cluster may have. Replicas may count generations differently; each accepts the other's
    /// cursors if the state that they name is the same.
    pub(super) fn candidate_histories(cluster: &str, target: &KubeTarget) -> Vec<History> {
        (0..GENERATIONS).map(|generation| Self::history(cluster, generation, target)).collect()
    }

    /// The history of a generation: the same for every replica that follows these objects of this cluster.
    pub(super) fn history(cluster: &str, generation: u64, target: &KubeTarget) -> History {
        let followed = target.followed();
        History::derive(format!("kubernetes\n{cluster}\n{generation}\n{followed}").as_bytes())
    }
}
