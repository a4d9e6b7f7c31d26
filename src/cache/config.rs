//! The cache's limits and counters.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;

use super::RefusedKeys;
use super::ingest::MAX_GATHERED_BATCHES;
use crate::model::{CursorKey, EntryLimits, History, MAX_KEY_BYTES, Revision};
use crate::trail::WindowLimits;

/// Limits of the cache. Every queue and every loop in it is bounded by one of these.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// The most updates in one breadcrumb, except that an upstream revision is never split. An idle
    /// cache publishes each update at once; batches form only under load.
    pub max_batch: usize,
    /// The shortest time between two breadcrumbs; zero for no limit. The first one after a pause is not delayed.
    pub min_interval: Duration,
    /// The longest value, in bytes.
    pub max_value_bytes: usize,
    /// The longest key, in bytes; at most [`MAX_KEY_BYTES`].
    pub max_key_bytes: usize,
    /// The most keys; `None` for no limit. What a feed has beyond is refused: absent, counted and named. A write that would
    /// make the state larger is refused as a whole. A restored state of a feed that is its own datastore is kept whole.
    pub max_keys: Option<usize>,
    /// The same for the bytes of all keys and values.
    pub max_bytes: Option<u64>,
    /// The limits of the window: older breadcrumbs within them stay readable.
    pub window: WindowLimits,
    /// Whether to keep every single write inside a breadcrumb with its value, and to count the writes of each key
    /// ([`WriteInfo`](crate::model::WriteInfo)). What the upstream sets again to the same value is a change then: etcd's
    /// clients are told of it. The kept values weigh in the window.
    pub keep_every_write: bool,
}

impl CacheConfig {
    /// The revision of a state without history. etcd's is 1: to its clients 0 means that no revision is known.
    pub(super) fn first_revision(&self) -> Revision {
        Revision(u64::from(self.keep_every_write))
    }

    /// The limits on keys and values.
    pub(crate) fn entry_limits(&self) -> EntryLimits {
        EntryLimits { max_key_bytes: self.max_key_bytes, max_value_bytes: self.max_value_bytes }
    }

    /// The number of updates after which a batch of many upstream revisions is split into another breadcrumb.
    pub(super) fn split_after(&self) -> usize {
        let batches = if self.min_interval.is_zero() { 1 } else { MAX_GATHERED_BATCHES };
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
            max_keys: None,
            max_bytes: None,
            window: WindowLimits {
                max_count: 16_384,
                max_bytes: 64 << 20,
                max_age: Duration::from_secs(15 * 60),
            },
            keep_every_write: false,
        }
    }
}

/// All that a cache needs to start: its limits, and the key of its cursors.
#[derive(Clone, Debug, Default)]
pub struct CacheOptions {
    /// The limits.
    pub config: CacheConfig,
    /// The key of the checks in cursors.
    pub cursor_key: CursorKey,
}

impl From<CacheConfig> for CacheOptions {
    /// These limits, and cursors with plain checks.
    fn from(config: CacheConfig) -> Self {
        Self { config, cursor_key: CursorKey::default() }
    }
}

/// The revision up to which the state has every change of the upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Completeness {
    /// The history of the revision.
    pub history: Option<History>,
    /// The revision. It may be newer than that of the state, where later revisions changed nothing in it.
    pub revision: Revision,
}

/// The cache's counters since it started.
#[derive(Debug, Default)]
pub struct CacheStats {
    /// Updates taken from the feed.
    pub updates: Counter,
    /// Updates skipped because key, value and ttl were unchanged, or the key was absent already.
    pub suppressed: Counter,
    /// Updates refused because the key or value was over its limit, or because the feed could not read it; also writes
    /// whose condition did not hold.
    pub refused: Counter,
    /// The keys that are absent because the upstream's value was refused.
    pub(super) refused_keys: RwLock<Arc<RefusedKeys>>,
    /// The most keys and bytes of the state.
    pub(super) state_limits: (Option<usize>, Option<u64>),
    /// Whether the feed should read everything again: there is room for keys that were refused for want of it.
    pub(super) reread_wanted: watch::Sender<bool>,
    /// How far the state is complete.
    pub(super) complete: watch::Sender<Completeness>,
    /// Breadcrumbs published.
    pub breadcrumbs: Counter,
    /// Resyncs completed.
    pub resyncs: Counter,
    /// Keys deleted because a resync did not bring them again.
    pub swept: Counter,
    /// Times that the state could not be persisted.
    persist_failures: Counter,
    persistence: RwLock<PersistState>,
}

/// Whether the state gets onto the disk.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PersistState {
    /// The end of the last write that succeeded; `None` before the first.
    pub last_write: Option<SystemTime>,
    /// The failure, while the last try has failed.
    pub failing: Option<PersistFailure>,
}

/// Tries to persist the state that fail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PersistFailure {
    /// The reason of the last one, as a sentence.
    pub why: String,
    /// The time of the first one.
    pub since: SystemTime,
    /// The time of the last one.
    pub last: SystemTime,
}

impl CacheStats {
    /// The counters of a cache whose state has at most so many keys and bytes.
    pub(super) fn of_state_limits(state_limits: (Option<usize>, Option<u64>)) -> Self {
        Self { state_limits, ..Self::default() }
    }

    /// Records the result of a try to persist the state. For the journal's caller, and for whoever else persists it.
    pub(crate) fn tried_to_persist<E: fmt::Display>(&self, result: Result<(), &E>) {
        let now = SystemTime::now();
        let mut persistence = self.persistence.write();
        match result {
            Ok(()) => *persistence = PersistState { last_write: Some(now), failing: None },
            Err(error) => {
                self.persist_failures.inc();
                let since = persistence.failing.as_ref().map_or(now, |failing| failing.since);
                persistence.failing = Some(PersistFailure { why: error.to_string(), since, last: now });
            }
        }
    }

    /// Whether the state gets onto the disk, as far as that was tried.
    pub fn persistence(&self) -> PersistState {
        self.persistence.read().clone()
    }

    /// How often the state could not be persisted.
    pub fn persist_failures(&self) -> u64 {
        self.persist_failures.get()
    }

    /// Whether the last try to persist the state failed.
    pub fn persist_failing(&self) -> bool {
        self.persistence.read().failing.is_some()
    }
}
