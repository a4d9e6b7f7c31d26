//! Limits of the cache, and what it counts.

use prometheus_client::metrics::counter::Counter;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use super::RefusedKeys;
use super::ingest::BATCHES_GATHERED;
use crate::model::{EntryLimits, MAX_KEY_BYTES};
use crate::trail::Limits;

/// Limits of the cache. Every queue and every loop in it is bounded by one of these.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// Most updates in one breadcrumb, except that one upstream revision is never split. An idle
    /// cache drops a breadcrumb at once; batches form only under load.
    pub max_batch: usize,
    /// Least time between two breadcrumbs; zero for none. One that comes after a pause is not delayed.
    pub min_interval: Duration,
    /// Longest value, in bytes.
    pub max_value_bytes: usize,
    /// Longest key, in bytes; at most [`MAX_KEY_BYTES`].
    pub max_key_bytes: usize,
    /// Which breadcrumbs stay readable after newer ones exist.
    pub window: Limits,
}

impl CacheConfig {
    /// What of an upstream's updates is kept.
    pub fn entry_limits(&self) -> EntryLimits {
        EntryLimits { max_key_bytes: self.max_key_bytes, max_value_bytes: self.max_value_bytes }
    }

    /// Where a batch of many upstream revisions is split into several breadcrumbs, in updates.
    pub(super) fn split_at(&self) -> usize {
        let batches = if self.min_interval.is_zero() { 1 } else { BATCHES_GATHERED };
        self.max_batch.saturating_mul(batches)
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            max_batch: 1000,
            min_interval: Duration::ZERO,
            max_value_bytes: 8 << 20,
            max_key_bytes: MAX_KEY_BYTES,
            window: Limits { max_count: 16_384, max_bytes: 64 << 20, max_age: Duration::from_secs(15 * 60) },
        }
    }
}

/// What the cache has counted since it started.
#[derive(Debug, Default)]
pub struct CacheStats {
    /// Updates taken from the feed.
    pub updates: Counter,
    /// Of these: skipped because key, value and ttl were unchanged, or the key was absent already.
    pub suppressed: Counter,
    /// Of these: refused because key or value was over its limit, or because the feed could not read it; also writes
    /// whose condition did not hold.
    pub refused: Counter,
    /// The keys that are absent now because what the upstream has for them was refused.
    pub(super) refused_keys: RwLock<Arc<RefusedKeys>>,
    /// Breadcrumbs dropped.
    pub breadcrumbs: Counter,
    /// Resyncs completed.
    pub resyncs: Counter,
    /// Keys deleted because a resync did not bring them again.
    pub swept: Counter,
}
