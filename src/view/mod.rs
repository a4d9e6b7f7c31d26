//! What readers ask of breadcrumbs: snapshots, deltas, squashes, diffs, single keys.
//!
//! This room turns a cursor and a format into an [`Answer`]: a header and shared bytes. It reads
//! the cache and cannot write it, and it knows no HTTP.
//!
//! # How a breadcrumb reaches those who wait
//!
//! The [fan-out](fanout) follows the cache's trail and appends to a trail of its own one item a breadcrumb, with
//! the answers that are wanted already encoded. Everybody waits on that: long polls ([`View::next`], and
//! [`View::try_next`] for nearly all of them), streams ([`Stream`]), key watches ([`KeyWatch`]). How a reader gets from its cursor
//! to now, where it does not stand at the breadcrumb before the newest, is found in one place ([`catch_up`]).
//!
//! # Promises
//!
//! - An answer leads exactly from the state at the client's cursor to the state at the answer's cursor; a gap is an error
//!   ([`ViewError::Gone`]), never hidden.
//! - The same answer is encoded once, however many ask for it at the same time.
//! - A reader that waits or is slow keeps no state in memory.

mod answer;
mod body;
mod body_cache;
mod catch_up;
mod changes;
mod fanout;
mod fast_path;
mod key_watch;
mod long_poll;
mod read;
mod snapshot;
mod stream;
mod upstream;
mod wake_rate;

// What readers see of the cache and of the vocabulary.
pub use crate::cache::{Breadcrumb, CacheStats, RefusedKey, RefusedKeys};
pub use crate::model::KeySelector;
pub use answer::{Answer, Format, Reason, ViewError};
pub use body::{Body, Run};
pub use fanout::FanoutTask;
pub use fast_path::{NextBreadcrumb, TryNext};
pub use key_watch::{KeyWatch, WatchEvent};
pub use long_poll::Next;
pub use read::{KeyRead, Page};
pub use stream::{Ended, Stream, StreamCounts, Told};

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::cache;
use crate::model::{Cursor, Sequence, SyncStatus};
use body_cache::BodyCache;
use fanout::{Fanout, Item};
use snapshot::SnapshotCache;
use stream::Readers;
use upstream::CursorsAhead;
pub use upstream::Upstream;
use wake_rate::WakeRate;

/// Limits of the view.
#[derive(Clone, Debug)]
pub struct ViewConfig {
    /// Memory for encoded bodies that are kept for the next who asks, in bytes.
    pub body_cache_bytes: u64,
    /// Most waiters that are woken per second, about; all at once when there is no limit.
    pub wake_rate: Option<NonZeroU32>,
}

impl Default for ViewConfig {
    fn default() -> Self {
        Self { body_cache_bytes: 128 << 20, wake_rate: None }
    }
}

/// The readers' side of a cache. Clones share it.
#[derive(Clone)]
pub struct View {
    cache: cache::Reader,
    fanout: Fanout,
    upstream: Arc<dyn Upstream>,
    cursors_ahead: Arc<CursorsAhead>,
    bodies: Arc<BodyCache>,
    wake_rate: Option<Arc<WakeRate>>,
    snapshots: Arc<SnapshotCache>,
    readers: Arc<Readers>,
}

impl View {
    /// A view of this cache, which is fed from this upstream, and the task that wakes its readers: spawn it.
    pub fn new(
        cache: cache::Reader,
        upstream: Arc<impl Upstream + 'static>,
        config: &ViewConfig,
    ) -> (Self, FanoutTask) {
        let (task, fanout) = FanoutTask::new(&cache);
        let view = Self {
            fanout,
            upstream,
            cursors_ahead: Arc::default(),
            bodies: Arc::new(BodyCache::new(config.body_cache_bytes)),
            wake_rate: config.wake_rate.map(|rate| Arc::new(WakeRate::new(rate))),
            snapshots: SnapshotCache::new(cache.clone(), config.body_cache_bytes),
            readers: Arc::default(),
            cache,
        };
        (view, task)
    }

    /// The cache that is viewed.
    pub fn cache(&self) -> &cache::Reader {
        &self.cache
    }

    /// Waits, as clients do, until a breadcrumb after this one was delivered; nothing when none will come any more.
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

    /// Bodies of updates that were encoded since the start, each for any number of readers.
    pub fn bodies_encoded(&self) -> u64 {
        self.fanout.encoded() + self.bodies.encoded()
    }

    fn gone(&self, cursor: Cursor) -> ViewError {
        let (current, oldest) = (self.cache.current_breadcrumb(), self.cache.oldest_breadcrumb());
        ViewError::Gone { cursor, current: current.cursor(), oldest: oldest.cursor() }
    }
}
