//! Whether the parts of the daemon are alive, and how far the feed has come, as values that one can wait for.
//!
//! The parts to the left of this room know nothing of health. They are watched from here, by what only a
//! part that is well does:
//!
//! | part | is well as long as |
//! |---|---|
//! | `ingest` | what waits in its buffer gets less, or is taken; it ends with the cache |
//! | `view` | a waiter like any other is woken by every breadcrumb |
//! | `feed` | something of it moves: it hears its upstream, connects again, or waits for room; not asked of feeds that may be silent |
//!
//! An upstream that cannot be reached is no illness: the feed tries again and what is known is served. To
//! restart the daemon would help nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::http::collection::Collection;
use crate::http::serve::drain::Shutdown;
use crate::model::{Sequence, SyncStatus};
use crate::value::{Health, Reporter, Value};

/// How often the parts are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A part of which nothing was seen for so long is unwell. Generous: the largest batch, the slowest disk
/// and a machine that has come to a halt for some seconds are no reason to be restarted.
const EXPIRES: Duration = Duration::from_secs(60);

/// See the module.
pub(in crate::http) struct Liveness {
    pub(in crate::http) health: Health,
    /// The feed's sync status, set right after the breadcrumb that brought it.
    pub(in crate::http) status: Value<SyncStatus>,
    ingest: Reporter,
    view: Reporter,
    feed: Reporter,
}

impl Liveness {
    /// A feed that is not silent for longer than this while it is well, if there is such a time.
    pub(in crate::http) fn new(feed_silence: Option<Duration>) -> Self {
        let health = Health::default();
        let [ingest, view] = ["ingest", "view"].map(|name| health.part(name, Some(EXPIRES)));
        let feed = health.part("feed", feed_silence);
        Self { health, status: Value::new(), ingest, view, feed }
    }
}

/// What moves when something happens.
#[derive(PartialEq, Eq)]
struct Seen {
    /// Events in the ingest buffer, and what was made of those before.
    backlog: usize,
    ingested: u64,
    /// Of the feed.
    feed: u64,
    /// The last breadcrumb that a waiter was woken by.
    woken: u64,
}

impl Seen {
    fn now(collection: &Collection, woken: &AtomicU64) -> Self {
        let (cache, upstream) = (collection.view.cache(), &collection.upstream);
        let (stats, (backlog, _)) = (cache.stats(), cache.backlog());
        let feed = [upstream.heard_count(), upstream.reconnects.get(), upstream.malformed.get()];
        Self {
            backlog,
            ingested: stats.updates.get() + stats.breadcrumbs.get() + stats.resyncs.get(),
            feed: feed.into_iter().sum::<u64>() + upstream.waits.get() + upstream.overdue.get(),
            woken: woken.load(Ordering::Acquire),
        }
    }

    /// Tells for whom there is a sign of life since the last look.
    fn tell(&self, before: &Self, collection: &Collection) {
        let liveness = &collection.liveness;
        if self.backlog == 0 || self.backlog < before.backlog || self.ingested != before.ingested {
            liveness.ingest.well();
        }
        let newest = collection.view.cache().newest_sequence().0;
        if self.woken == newest || self.woken != before.woken {
            liveness.view.well();
        }
        if self.feed != before.feed {
            liveness.feed.well();
        }
    }
}

/// Looks after the parts until the daemon stops.
pub(in crate::http) async fn watch(collection: Arc<Collection>, shutdown: Shutdown) {
    let woken = Arc::new(AtomicU64::new(0));
    let waiter = wait(Arc::clone(&collection), Arc::clone(&woken));
    let look = async {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = Seen::now(&collection, &woken);
        loop {
            tick.tick().await;
            let now = Seen::now(&collection, &woken);
            now.tell(&before, &collection);
            before = now;
        }
    };
    // The waiter is a task of its own: it must be woken by nothing but its breadcrumb.
    let mut waiter = tokio::spawn(waiter);
    tokio::select! {
        _ = &mut waiter => {}
        () = look => {}
    }
    waiter.abort();
    if !shutdown.has_begun() {
        collection.liveness.ingest.failed("it has ended");
    }
    std::future::pending().await
}

/// Waits as clients do, and passes the status on.
async fn wait(collection: Arc<Collection>, woken: Arc<AtomicU64>) {
    let mut at = Sequence(0);
    while let Some((sequence, status)) = collection.view.delivered_after(at).await {
        if collection.liveness.status.current() != Some(status) {
            collection.liveness.status.set(status);
        }
        woken.store(sequence.0, Ordering::Release);
        at = sequence;
    }
}
