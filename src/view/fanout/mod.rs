//! The fan-out: one task that delivers each breadcrumb from the cache's trail to all waiters.
//!
//! The task follows the cache like any reader. For each breadcrumb it
//! 1. encodes the answers that are in demand, once per format ([`item`]);
//! 2. appends an item to the view's own trail, which wakes the waiters of all keys;
//! 3. wakes the waiters of some keys if the breadcrumb changes one of them ([`subscriptions`]).
//!
//! The cache never calls into the view. Waking 50,000 parked tasks takes tens of milliseconds, which this task spends
//! instead of the ingest task. When it is behind, it encodes the newest breadcrumb only; the waiters then catch up in
//! one step.

mod item;
mod subscriptions;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cache::{self, Breadcrumb};
use crate::model::{Cursor, Sequence};
use crate::trail::{BufferItem, EventBuffer, Head, SharedError};
#[cfg(feature = "etcd")]
use crate::view::etcd::Log;
use crate::view::{Answer, Format, ViewError};
use item::Demand;

pub(super) use item::{EncodedBreadcrumb, Item};
pub(super) use subscriptions::{NotSubscribed, Subscription, Subscriptions};

/// The task yields after this many breadcrumbs.
const YIELD_AFTER: u64 = 64;

/// The task that delivers breadcrumbs to the readers of a [`View`](super::View). Without it no waiter is woken.
pub struct FanoutTask {
    at: Breadcrumb,
    trail: EventBuffer<Item>,
    fanout: Fanout,
    #[cfg(feature = "etcd")]
    log: Option<Arc<Log>>,
}

/// The readers' handle of the fan-out. Clones share it.
#[derive(Clone)]
pub(super) struct Fanout {
    head: Head<Item>,
    demand: Arc<Demand>,
    pub(super) subscriptions: Arc<Subscriptions>,
    encoded: Arc<AtomicU64>,
}

/// The cache has stopped; no item will follow.
pub(super) struct TrailEnded;

impl FanoutTask {
    /// A fan-out that starts at the cache's newest breadcrumb.
    pub(super) fn new(cache: &cache::Reader) -> (Self, Fanout) {
        let at = cache.current_breadcrumb();
        let mut trail = EventBuffer::new();
        let first = trail.append(Item::Breadcrumb(EncodedBreadcrumb::without_answers(&at)));
        debug_assert!(first.is_ok(), "a new buffer takes a first item");
        let fanout = Fanout {
            head: trail.reader(),
            demand: Arc::default(),
            subscriptions: Arc::default(),
            encoded: Arc::default(),
        };
        let task = Self {
            at,
            trail,
            fanout: fanout.clone(),
            #[cfg(feature = "etcd")]
            log: None,
        };
        (task, fanout)
    }

    /// The same task, which also delivers to this log.
    #[cfg(feature = "etcd")]
    pub(super) fn with_log(self, log: Option<Arc<Log>>) -> Self {
        Self { log, ..self }
    }

    /// Delivers every breadcrumb until the cache stops, then ends all waits.
    pub async fn run(mut self) {
        let ended = loop {
            match self.at.next().await {
                Ok(breadcrumb) => self.deliver(breadcrumb),
                Err(ended) => break SharedError::from(ended),
            }
            if self.at.sequence().0.is_multiple_of(YIELD_AFTER) {
                tokio::task::yield_now().await;
            }
        };
        let appended = self.trail.append_err(ended);
        debug_assert!(appended.is_ok(), "only this task ends the trail");
        self.fanout.subscriptions.end();
        #[cfg(feature = "etcd")]
        self.log.iter().for_each(|log| log.end());
    }

    fn deliver(&mut self, breadcrumb: Breadcrumb) {
        let is_newest = breadcrumb.later().next().is_none();
        let encoded = if is_newest {
            let (encoded, count) = EncodedBreadcrumb::encode(&breadcrumb, &self.fanout.demand);
            self.fanout.encoded.fetch_add(count, Ordering::Relaxed);
            encoded
        } else {
            EncodedBreadcrumb::without_answers(&breadcrumb)
        };
        let appended = self.trail.append(Item::Breadcrumb(encoded));
        debug_assert!(appended.is_ok(), "only this task ends the trail");
        let count = self.fanout.subscriptions.deliver(&breadcrumb, is_newest);
        self.fanout.encoded.fetch_add(count, Ordering::Relaxed);
        #[cfg(feature = "etcd")]
        self.log.iter().for_each(|log| log.deliver(&breadcrumb));
        self.at = breadcrumb;
    }
}

impl Fanout {
    /// The newest item.
    ///
    /// # Errors
    /// [`TrailEnded`].
    pub(super) fn newest(&self) -> Result<BufferItem<Item>, TrailEnded> {
        let head = self.head.head();
        if head.value().is_some() { Ok(head) } else { Err(TrailEnded) }
    }

    /// Passes the newest breadcrumb to `read`, without touching its reference count. `None` once the trail has ended.
    pub(super) fn peek<R>(&self, read: impl FnOnce(&EncodedBreadcrumb) -> R) -> Option<R> {
        self.head.peek(|item| item.and_then(Item::breadcrumb).map(read))
    }

    /// The encoded answer from the cursor to this breadcrumb, if it exists and the breadcrumb is the newest.
    pub(super) fn answer(&self, from: Cursor, to: Sequence, format: Format) -> Option<Answer> {
        let answer = |newest: &EncodedBreadcrumb| newest.answer(from, format).cloned();
        self.peek(|newest| answer(newest).filter(|_| newest.info.sequence == to))?
    }

    /// Notes that a follower of all keys waits at this breadcrumb for the next one in this format.
    pub(super) fn note_demand(&self, format: Format, at: Sequence) {
        self.demand.note(format, at);
    }

    /// How many bodies the fan-out encoded since the start.
    pub(super) fn encoded(&self) -> u64 {
        self.encoded.load(Ordering::Relaxed)
    }
}

impl From<TrailEnded> for ViewError {
    fn from(_: TrailEnded) -> Self {
        Self::Stopped
    }
}
