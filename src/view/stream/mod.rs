//! Streams: the state, and then every change for as long as the reader stays.
//!
//! # Of what a stream is made
//!
//! Of two things that complement each other:
//!
//! * **The trail's streams** ([`crate::trail::stream`]), by subject, which is a [scope](OwnedScope): all keys,
//!   a prefix, or what a token may read. What a breadcrumb changes in a scope is encoded once and linked into a list that
//!   all readers of that scope walk, so a wake costs each of them a reference count; whoever reads
//!   another scope is not woken. A newcomer's snapshot is spliced onto that list, shared with
//!   all who come while it is being made or soon after, and freed with the last reader.
//! * **[`View::next`]'s squash**, which leads from any kept cursor to now. It is for whoever comes with a
//!   cursor, and for whoever is behind: a list would tell each change one by one, and a list that is cut
//!   off because of its length would cost a whole snapshot, where one answer with the last value
//!   of each key is all that is missing.
//!
//! Neither would do alone. A loop over `View::next` is as lazy, but each reader of a scope looks for itself
//! whether and how it has changed, and no newcomer shares what another one was told. The list knows nothing
//! of cursors from elsewhere, and pins what a reader at rest has not read.
//!
//! ```text
//! no cursor ──────▶ snapshot, shared ──┐ splice
//!                                      ▼
//! a cursor ─▶ squash ─▶ list: one encoded breadcrumb after the other ◀──┐
//!      │        ▲                      │ more than a few unread,        │
//!      │        └──────────────────────┘ cut off, or told to look       │
//!      └─ gone ─▶ "reset" ─▶ snapshot, shared ──────────────────────────┘
//! ```
//!
//! # What it promises
//!
//! * The next thing is made when the reader asks for it, and then leads up to now, but for a few
//!   breadcrumbs that are there already. Nothing is queued for a reader.
//! * Nothing is missed and nothing comes twice; where that cannot be had, the reader is told
//!   ([`Told::Reset`]) and gets the state.
//! * The ingest task and the waking of long polls are not kept waiting: a task of its own makes the lists,
//!   and only while there are readers.
//!
//! # Where to start
//!
//! [`Stream::next`] (`reader.rs`) is the reader's side, `follow.rs` the publisher's.

mod follow;
mod frame;
mod reader;
mod snap;
mod subjects;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::answer::Stand;
use super::pages::Keeper;
use super::{Format, OwnedScope, Scope, View, ViewError};
use crate::cache::Cache;
use crate::model::Cursor;
use crate::trail::stream::{EventPublisher, StreamConfig, StreamStats, SubscribeRequest, Subscriptions};
use crate::wire::{Coding, MediaType};
use frame::Frame;
use snap::Snap;
use subjects::{Entered, Subjects};

pub use reader::{Ended, Stream, Told};

/// What a stream is made of: records that are sent as they are, or wrapped.
pub(super) const FORMAT: Format = Format { media: MediaType::Ndjson, coding: Coding::Identity };

/// What a reader at rest may pin of its list. To catch up costs it a squash, so there is no need for much.
const MAX_LAG_BYTES: u64 = 4 << 20;

/// The lists, and who makes them.
pub(super) struct Streams {
    cache: Cache,
    publisher: EventPublisher<Frame>,
    subscriptions: Subscriptions<Frame>,
    subjects: Arc<Subjects>,
    /// The last breadcrumb that is in the lists whole.
    published: RwLock<Stand>,
    snapshots: Arc<AtomicU64>,
}

/// What there is of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamCounts {
    /// Readers.
    pub readers: usize,
    /// Different scopes that they read.
    pub scopes: usize,
    /// Snapshots that a newcomer could share now.
    pub snapshots: usize,
    /// Snapshots that were made since the start, each for any number of readers.
    pub snapshots_made: u64,
}

impl Streams {
    pub(super) fn new(cache: Cache, pages: Arc<Keeper>) -> Arc<Self> {
        let newest = cache.current_breadcrumb();
        let snapshots = Arc::<AtomicU64>::default();
        // The number of streams is limited where requests are.
        let config = StreamConfig {
            max_lag_bytes: MAX_LAG_BYTES,
            max_subscriptions: usize::MAX,
            ..Default::default()
        };
        let snap = Snap { pages, made: Arc::clone(&snapshots) };
        let publisher = EventPublisher::new(config, newest.sequence().0, snap);
        let subscriptions = publisher.subscriptions();
        let published = RwLock::new(Stand::of(&newest));
        Arc::new(Self { cache, publisher, subscriptions, subjects: Arc::default(), published, snapshots })
    }

    /// Notes a reader; what happens from now on gets into its list.
    fn enter(self: &Arc<Self>, subject: &OwnedScope) -> Entered {
        let (entered, first) = Subjects::enter(&self.subjects, subject);
        if first {
            self.start();
        }
        entered
    }

    fn counts(&self) -> StreamCounts {
        let StreamStats { topics, subscriptions, snapshots, .. } = self.subscriptions.stats();
        let snapshots_made = self.snapshots.load(Ordering::Relaxed);
        StreamCounts { readers: subscriptions, scopes: topics, snapshots, snapshots_made }
    }
}

impl View {
    /// Follows the keys of this scope: from the cursor on, or with the state first.
    ///
    /// # Errors
    /// [`ViewError::Starting`], [`ViewError::Stopped`]. That a cursor is gone is told by the stream.
    pub fn stream<'a>(&self, scope: impl Into<Scope<'a>>, from: Option<Cursor>) -> Result<Stream, ViewError> {
        self.newest()?;
        let subject = OwnedScope::from(scope.into());
        // First the list, then a look at the state: what is not in the one is in the other.
        let entered = self.streams.enter(&subject);
        let request = SubscribeRequest::from_the_beginning(subject.clone());
        let subscription = match from {
            None => self.streams.subscriptions.subscribe(request),
            Some(_) => self.streams.subscriptions.join(request),
        };
        let subscription = subscription.map_err(|_| ViewError::Stopped)?;
        Ok(Stream::new(self.clone(), subject, from, subscription, entered))
    }

    /// What there is of streams.
    pub fn stream_counts(&self) -> StreamCounts {
        self.streams.counts()
    }
}
