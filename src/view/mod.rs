//! The read side: snapshots, deltas, squashes, diffs and single keys.
//!
//! This room turns a cursor and a format into an [`Answer`]: a header and shared bytes. It reads
//! the cache and cannot write it. It knows no HTTP.
//!
//! # How a breadcrumb reaches the readers
//!
//! The fan-out (`fanout/`) follows the cache's trail. For each breadcrumb it appends one item to a trail of its own, with
//! the answers that are in demand already encoded. All readers wait on that trail: long polls ([`View::next`], and
//! its fast path [`View::try_next`]), streams ([`Stream`]) and key watches ([`KeyWatch`]). A reader whose cursor is not
//! the newest breadcrumb's predecessor is brought up to date by `catch_up.rs`.
//!
//! # Promises
//!
//! - An answer leads exactly from the state at the client's cursor to the state at the answer's cursor. A gap is an
//!   error ([`ViewError::Gone`]), never hidden.
//! - The same answer is encoded once, however many readers ask for it.
//! - A waiting or slow reader keeps no state in memory.
//! - A large body is made once there is room for it in its reader's [`Account`], and counted while a request holds it.

mod answer;
mod body;
mod body_cache;
mod budget;
mod catch_up;
mod changes;
#[cfg(feature = "etcd")]
pub(crate) mod etcd;
mod fanout;
mod fast_path;
mod key_watch;
mod lease;
mod long_poll;
mod one_by_one;
mod read;
mod shared;
mod snapshot;
mod stream;
mod upstream;
mod wake_rate;
mod workers;

// The parts of the cache and of the model that readers see.
pub use crate::cache::Breadcrumb;
pub(crate) use crate::cache::{CacheStats, RefusedKey, RefusedKeys};
pub use crate::model::KeySelector;
pub use answer::{Answer, EncodingError, Format, Reason, ViewError};
pub use body::Body;
pub(crate) use body::Run;
pub use budget::OverBudget;
pub(crate) use budget::{ByteBudget, Refusals, Reserved, queue_deadline};
pub use fanout::FanoutTask;
pub(crate) use fast_path::{NextBreadcrumb, TryNext};
pub use key_watch::{KeyWatch, WatchEvent};
pub use lease::{Account, Held};
pub use long_poll::Next;
pub(crate) use long_poll::OneByOneWith;
pub use read::{KeyRead, Page};
pub use stream::{Stream, StreamError, StreamEvent};

use std::num::NonZeroU32;
use std::ops::Deref;
use std::sync::Arc;

use crate::cache;
use crate::model::{Cursor, Sequence, SyncStatus};
use body_cache::BodyCache;
use fanout::Item;
use shared::Shared;
use snapshot::SnapshotCache;
pub use upstream::UpstreamSightings;
use wake_rate::WakeRate;

/// Limits of the view.
#[derive(Clone, Debug)]
pub struct ViewConfig {
    /// The memory for cached bodies of updates and pages, in bytes.
    pub body_cache_bytes: u64,
    /// The memory for encoded snapshots that no request is sending, in bytes.
    pub snapshot_cache_bytes: u64,
    /// About how many waiters are woken per second; without a limit all are woken at once.
    pub wake_rate: Option<NonZeroU32>,
    /// Whether there are ranges and watches for etcd's clients. The cache has to keep every write.
    pub serves_etcd: bool,
}

impl Default for ViewConfig {
    fn default() -> Self {
        Self {
            body_cache_bytes: 128 << 20,
            snapshot_cache_bytes: 512 << 20,
            wake_rate: None,
            serves_etcd: false,
        }
    }
}

/// The read side of a cache. Clones share it.
#[derive(Clone)]
pub struct View(Arc<Shared>);

impl Deref for View {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl View {
    /// A view of the cache that is fed from this upstream, and the task that wakes its readers. Spawn the task.
    pub fn new(
        cache: cache::Reader,
        upstream: Arc<impl UpstreamSightings + 'static>,
        config: &ViewConfig,
    ) -> (Self, FanoutTask) {
        let (task, fanout) = FanoutTask::new(&cache);
        #[cfg(feature = "etcd")]
        let etcd_log = config.serves_etcd.then(|| etcd::Log::new(&cache));
        #[cfg(feature = "etcd")]
        let task = task.with_log(etcd_log.clone());
        let view = Self(Arc::new(Shared {
            fanout,
            upstream,
            cursors_ahead: Arc::default(),
            bodies: BodyCache::new(config.body_cache_bytes),
            wake_rate: config.wake_rate.map(|rate| Arc::new(WakeRate::new(rate))),
            snapshots: SnapshotCache::new(cache.clone(), config.snapshot_cache_bytes),
            readers: Arc::default(),
            #[cfg(feature = "etcd")]
            etcd_log,
            cache,
        }));
        (view, task)
    }

    /// The cache behind this view.
    pub fn cache(&self) -> &cache::Reader {
        &self.cache
    }

    /// The first delivered breadcrumb after this one; waits for it as clients do. `None` when the cache has stopped.
    pub async fn delivered_after(&self, sequence: Sequence) -> Option<(Sequence, SyncStatus)> {
        loop {
            let newest = self.fanout.newest().ok()?;
            let info = newest.value().and_then(Item::breadcrumb)?.info;
            if info.sequence > sequence {
                return Some((info.sequence, info.cursor.status));
            }
            newest.next_ref().await.ok()?;
        }
    }

    /// How many update bodies were encoded since the start. One body serves any number of readers.
    pub fn bodies_encoded(&self) -> u64 {
        self.fanout.encoded() + self.bodies.encoded()
    }

    /// The bytes of encoded snapshots that no request is sending.
    pub fn snapshot_cache_bytes(&self) -> u64 {
        self.snapshots.idle_bytes()
    }

    /// The limit of these bytes.
    pub fn snapshot_cache_limit(&self) -> u64 {
        self.snapshots.max_idle()
    }

    fn gone(&self, cursor: Cursor) -> ViewError {
        let (current, oldest) = (self.cache.current_breadcrumb(), self.cache.oldest_breadcrumb());
        ViewError::Gone { cursor, current: current.cursor(), oldest: oldest.cursor() }
    }
}
