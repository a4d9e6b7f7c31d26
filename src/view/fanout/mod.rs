//! The fan-out: one task between the cache's trail and all who wait for a breadcrumb.
//!
//! The task follows the cache like any reader. For each breadcrumb it
//! 1. encodes what those who wait will ask for, once a format ([`item`]);
//! 2. appends it to the view's own trail, which wakes everybody who follows all keys;
//! 3. touches those who follow some keys only, if the breadcrumb changes one of them ([`subscriptions`]).
//!
//! Nothing calls back from the cache, and the ingest task is not kept from its work: to wake 50,000 parked tasks takes tens
//! of milliseconds, which this task pays. When it is behind, it encodes only the newest breadcrumb: those who
//! wait are then brought up to date in one step.

mod item;
mod subscriptions;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cache::{self, Breadcrumb};
use crate::model::{Cursor, Sequence};
use crate::trail::{BufferItem, EventBuffer, Head, SharedError};
use crate::view::{Answer, Format, ViewError};
use item::Demand;

pub(super) use item::{EncodedBreadcrumb, Item};
pub(super) use subscriptions::{NotSubscribed, Subscription, Subscriptions};

/// Breadcrumbs after which others get their turn.
const YIELD_AFTER: u64 = 64;

/// The task that delivers breadcrumbs to the readers of a [`View`](super::View): run it, or nobody is ever woken.
pub struct FanoutTask {
    at: Breadcrumb,
    trail: EventBuffer<Item>,
    fanout: Fanout,
}

/// What readers see of the fan-out. Clones share it.
#[derive(Clone)]
pub(super) struct Fanout {
    head: Head<Item>,
    demand: Arc<Demand>,
    pub(super) subscriptions: Arc<Subscriptions>,
    encoded: Arc<AtomicU64>,
}

/// The newest item, once the trail has ended.
pub(super) struct Ended;

impl FanoutTask {
    /// Begins with the newest breadcrumb.
    pub(super) fn new(cache: &cache::Reader) -> (Self, Fanout) {
        let at = cache.current_breadcrumb();
        let mut trail = EventBuffer::new();
        let first = trail.append(Item::Breadcrumb(EncodedBreadcrumb::bare(&at)));
        debug_assert!(first.is_ok(), "a new buffer takes a first item");
        let fanout = Fanout {
            head: trail.reader(),
            demand: Arc::default(),
            subscriptions: Arc::default(),
            encoded: Arc::default(),
        };
        (Self { at, trail, fanout: fanout.clone() }, fanout)
    }

    /// Delivers every breadcrumb until the cache stops; then everybody who waits is told.
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
        let told = self.trail.append_err(ended);
        debug_assert!(told.is_ok(), "only this task ends the trail");
        self.fanout.subscriptions.end();
    }

    fn deliver(&mut self, breadcrumb: Breadcrumb) {
        let is_newest = breadcrumb.later().next().is_none();
        let encoded = if is_newest {
            let (encoded, count) = EncodedBreadcrumb::encode(&breadcrumb, &self.fanout.demand);
            self.fanout.encoded.fetch_add(count, Ordering::Relaxed);
            encoded
        } else {
            EncodedBreadcrumb::bare(&breadcrumb)
        };
        let appended = self.trail.append(Item::Breadcrumb(encoded));
        debug_assert!(appended.is_ok(), "only this task ends the trail");
        self.fanout.subscriptions.deliver(&breadcrumb);
        self.at = breadcrumb;
    }
}

impl Fanout {
    /// The newest item.
    ///
    /// # Errors
    /// No breadcrumb will come any more.
    pub(super) fn newest(&self) -> Result<BufferItem<Item>, Ended> {
        let head = self.head.head();
        if head.value().is_some() { Ok(head) } else { Err(Ended) }
    }

    /// Gives `look` the newest breadcrumb, unless none will come any more. No reference to it is counted.
    pub(super) fn peek<R>(&self, look: impl FnOnce(&EncodedBreadcrumb) -> R) -> Option<R> {
        self.head.peek(|item| item.and_then(Item::breadcrumb).map(look))
    }

    /// The answer that leads from the cursor to this breadcrumb, if it is the newest and the answer was made.
    pub(super) fn answer(&self, from: Cursor, to: Sequence, format: Format) -> Option<Answer> {
        let answer = |newest: &EncodedBreadcrumb| newest.answer(from, format).cloned();
        self.peek(|newest| answer(newest).filter(|_| newest.info.sequence == to))?
    }

    /// Somebody who follows all keys waits at this breadcrumb and wants its successor in this format.
    pub(super) fn want(&self, format: Format, at: Sequence) {
        self.demand.note(format, at);
    }

    /// How many bodies were encoded for those who wait, since the start.
    pub(super) fn encoded(&self) -> u64 {
        self.encoded.load(Ordering::Relaxed)
    }
}

impl From<Ended> for ViewError {
    fn from(_: Ended) -> Self {
        Self::Stopped
    }
}
