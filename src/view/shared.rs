//! What the clones of a view share.

use std::sync::Arc;

use super::UpstreamSightings;
use super::body_cache::BodyCache;
use super::fanout::Fanout;
use super::snapshot::SnapshotCache;
use super::stream::Readers;
use super::upstream::CursorsAhead;
use super::wake_rate::WakeRate;
use crate::cache;

/// What the clones of a [`View`](super::View) share. One pointer is all that a parked reader holds of it.
#[allow(unnameable_types, reason = "reached through its clones only")]
pub struct Shared {
    pub(super) cache: cache::Reader,
    pub(super) fanout: Fanout,
    pub(super) upstream: Arc<dyn UpstreamSightings>,
    pub(super) cursors_ahead: Arc<CursorsAhead>,
    pub(super) bodies: BodyCache,
    pub(super) wake_rate: Option<Arc<WakeRate>>,
    pub(super) snapshots: Arc<SnapshotCache>,
    pub(super) readers: Arc<Readers>,
    /// Every single write, for etcd's clients.
    #[cfg(feature = "etcd")]
    pub(super) etcd_log: Option<Arc<super::etcd::Log>>,
}
