//! The liveness watchdog: the health of the daemon's parts, and the feed's sync status.
//!
//! The other rooms know nothing of health. The watchdog checks their progress from here:
//!
//! | part | is healthy while |
//! |---|---|
//! | `ingest` | its backlog shrinks, is empty, or events are applied; it has failed once the cache has stopped |
//! | `view` | a waiter is woken by every breadcrumb |
//! | `feed` | it hears its upstream, reconnects, or waits for buffer space; feeds that may be silent are not checked |
//!
//! An unreachable upstream does not make a part unhealthy: the feed retries, the last state is served, and a restart
//! would not help.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::http::collection::Collection;
use crate::http::serve::drain::Shutdown;
use crate::model::{Sequence, SyncStatus};
use crate::value::{Health, Reporter, Value};

/// How often the parts are checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A part without progress for this long is unhealthy. A large batch, a slow disk or a machine that stops for some
/// seconds must not cause a restart.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(60);

/// The health and sync status of one collection.
pub(in crate::http) struct Liveness {
    pub(in crate::http) health: Health,
    /// The feed's sync status, set right after the breadcrumb that brought it.
    pub(in crate::http) status: Value<SyncStatus>,
    /// The longest silence of a healthy feed, if there is a limit.
    pub(in crate::http) feed_silence: Option<Duration>,
    ingest: Reporter,
    view: Reporter,
    feed: Reporter,
}

impl Liveness {
    /// `feed_silence` is the longest silence of a healthy feed, if there is a limit.
    pub(in crate::http) fn new(feed_silence: Option<Duration>) -> Self {
        let health = Health::default();
        let [ingest, view] = ["ingest", "view"].map(|name| health.part(name, Some(PROGRESS_TIMEOUT)));
        let feed = health.part("feed", feed_silence);
        Self { health, status: Value::new(), feed_silence, ingest, view, feed }
    }
}

/// The progress of each part. A changed number is progress.
#[derive(PartialEq, Eq)]
struct Progress {
    /// Events in the ingest buffer.
    backlog: usize,
    /// Updates, breadcrumbs and resyncs of the ingest task.
    ingested: u64,
    /// Events of the feed.
    feed: u64,
    /// The last breadcrumb that woke a waiter.
    woken: u64,
}

impl Progress {
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

    /// Reports the parts with progress since `before` as healthy.
    fn report(&self, before: &Self, collection: &Collection) {
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

/// The watchdog of one collection; runs until the daemon stops.
pub(in crate::http) async fn watch(collection: Arc<Collection>, shutdown: Shutdown) {
    let woken = Arc::new(AtomicU64::new(0));
    let waiter = follow(Arc::clone(&collection), Arc::clone(&woken));
    let checks = async {
        let mut tick = tokio::time::interval(CHECK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = Progress::now(&collection, &woken);
        loop {
            tick.tick().await;
            let now = Progress::now(&collection, &woken);
            now.report(&before, &collection);
            before = now;
        }
    };
    // The waiter is a task of its own, which only a breadcrumb wakes.
    let mut waiter = tokio::spawn(waiter);
    tokio::select! {
        _ = &mut waiter => {}
        () = checks => {}
    }
    waiter.abort();
    if !shutdown.has_begun() {
        collection.liveness.ingest.failed("it has stopped");
    }
    std::future::pending().await
}

/// Waits for breadcrumbs as clients do, and publishes the sync status.
async fn follow(collection: Arc<Collection>, woken: Arc<AtomicU64>) {
    let mut at = Sequence(0);
    while let Some((sequence, status)) = collection.view.delivered_after(at).await {
        if collection.liveness.status.current() != Some(status) {
            collection.liveness.status.set(status);
        }
        woken.store(sequence.0, Ordering::Release);
        at = sequence;
    }
}
