//! What readers ask of breadcrumbs: snapshot bodies, deltas, squashes, diffs, prefixes.
//!
//! This room turns a cursor and a format into an [`Answer`]: a header and shared bytes. It reads
//! the cache and never writes it, and it knows no HTTP. Promises: an answer leads exactly from the
//! state at the client's cursor to the state at the answer's cursor; a gap is an error
//! ([`ViewError::Gone`]), never hidden; the same answer is encoded once, however many ask for it at
//! the same time.

mod ahead;
mod answer;
mod bodies;
mod body;
mod changes;
mod follow;
mod glance;
mod hot;
mod interest;
mod pace;
mod pages;
mod read;
mod scope;
mod stream;
mod upstream;
mod waiting;
mod watch;
mod way;

pub use answer::{Answer, Format, Reason, ViewError};
pub use body::{Body, Run};
pub use follow::Next;
pub use glance::{Glance, News};
pub use read::{KeyRead, Page};
pub use scope::{OwnedScope, Scope};
pub use stream::{Ended, Stream, StreamCounts, Told};
pub use watch::{Happened, KeyRange, Watch};

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::cache::{Cache, Deliver};
use crate::model::{Cursor, Upstream};
use ahead::Ahead;
use bodies::Bodies;
use pace::Pace;
use pages::Keeper;
use stream::Streams;
use upstream::CursorsAhead;

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

/// The readers' side of the cache. Clones share it.
#[derive(Clone)]
pub struct View {
    cache: Cache,
    upstream: Arc<Upstream>,
    cursors_ahead: Arc<CursorsAhead>,
    bodies: Arc<Bodies>,
    ahead: Arc<Ahead>,
    pace: Option<Arc<Pace>>,
    pages: Arc<Keeper>,
    streams: Arc<Streams>,
}

impl View {
    /// A view of this cache, which is fed from this upstream.
    pub fn new(cache: Cache, upstream: Arc<Upstream>, config: &ViewConfig) -> Self {
        let bodies = Arc::new(Bodies::new(config.body_cache_bytes));
        let ahead = Arc::new(Ahead::default());
        cache.deliver_through(Arc::clone(&ahead) as Arc<dyn Deliver>);
        let pace = config.wake_rate.map(|rate| Arc::new(Pace::new(rate)));
        let pages = Keeper::new(cache.clone(), config.body_cache_bytes);
        let streams = Streams::new(cache.clone(), Arc::clone(&pages));
        let cursors_ahead = Arc::default();
        Self { cache, upstream, cursors_ahead, bodies, ahead, pace, pages, streams }
    }

    /// The cache that is viewed.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    fn gone(&self, cursor: Cursor) -> ViewError {
        let (current, oldest) = (self.cache.current_breadcrumb(), self.cache.oldest_breadcrumb());
        ViewError::Gone { cursor, current: current.cursor(), oldest: oldest.cursor() }
    }
}
