//! What Typha's own tests and documentation say of its `snapcache`, asserted of this cache.
//!
//! Where crumbd differs on purpose (a no-op is one whatever its type, a key occurs once in a breadcrumb
//! with the true type, the deletion of an absent key is nothing, followers are told of the end), the
//! test asserts crumbd's rule and says so.

mod batching;
mod followers;
mod next;
mod updates;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crumbd::cache::{Breadcrumb, Cache, CacheConfig, DeltaKind, IngestTask, Position, Stopped};
use crumbd::ingest::{Buffer, IngestBuffer};
use crumbd::model::{
    Batch, Committed, Cursor, Digest, Entry, FeedEvent, Grouping, History, Key, Past, PastStep, PastValue,
    Refusal, ReplyTo, ResyncClaim, Revision, SyncStatus, Ttl, Update,
};
use futures_util::FutureExt;
use tokio::sync::oneshot;

/// Typha's in its tests: small, so that few updates fill it.
const MAX_BATCH: usize = 10;

/// As long as anything may take before a test is called hung.
const PATIENCE: Duration = Duration::from_secs(20);

type Events = Arc<IngestBuffer<FeedEvent>>;

fn small_batches() -> CacheConfig {
    CacheConfig { max_batch: MAX_BATCH, ..CacheConfig::default() }
}

fn cache_with(config: CacheConfig, slots: usize) -> (Cache, IngestTask, Events) {
    let buffer = Arc::new(IngestBuffer::channel(slots).expect("a buffer"));
    let (cache, task) = Cache::new(config, Some(History::derive(b"typha")), Arc::clone(&buffer));
    (cache, task, buffer)
}

/// A cache at work.
fn running() -> Cache {
    let (cache, task, _) = cache_with(small_batches(), 64);
    tokio::spawn(task.run());
    cache
}

/// What a cache makes of events that were all there when it got to them, as under load.
async fn after_all_at_once(events: Vec<FeedEvent>) -> Vec<Breadcrumb> {
    let (cache, task, _) = cache_with(small_batches(), events.len().max(1));
    let first = cache.current_breadcrumb();
    for event in events {
        cache.send(event).await.expect("there is room");
    }
    cache.stop();
    task.run().await;
    first.later().collect()
}

fn updates(updates: Vec<Update>) -> FeedEvent {
    FeedEvent::Updates(Batch::new(updates, Grouping::ByRevision))
}

/// `n` updates of as many keys.
fn fresh(n: usize) -> Vec<Update> {
    (0..n).map(|i| Update::put(format!("key{i:03}"), "x")).collect()
}

fn sizes(crumbs: &[Breadcrumb]) -> Vec<usize> {
    crumbs.iter().map(|crumb| crumb.deltas().len()).collect()
}

fn statuses(crumbs: &[Breadcrumb]) -> Vec<SyncStatus> {
    crumbs.iter().map(Breadcrumb::sync_status).collect()
}

/// A breadcrumb's deltas as text.
fn shown(crumb: &Breadcrumb) -> Vec<String> {
    let line = |delta: &crumbd::cache::Delta| {
        let (key, value) = (delta.entry.key().escape_ascii(), delta.entry.value().escape_ascii());
        match delta.kind {
            DeltaKind::Deleted => format!("Deleted {key} @{}", delta.revision),
            kind => format!("{kind:?} {key}={value} @{}", delta.revision),
        }
    };
    crumb.deltas().iter().map(line).collect()
}

fn value(crumb: &Breadcrumb, key: &str) -> Option<String> {
    crumb.kvs().get(key.as_bytes()).map(|entry| entry.value().escape_ascii().to_string())
}

/// Sends updates that change something and returns the breadcrumb they make.
async fn publish(cache: &Cache, updates: Vec<Update>) -> Breadcrumb {
    let before = cache.current_breadcrumb();
    cache.on_updates(updates).await.expect("the cache takes updates");
    before.next().await.expect("the updates are published")
}

/// Sends updates that change nothing, then one that does, and returns what exists in the end.
async fn publish_nothing(cache: &Cache, updates: Vec<Update>) -> Vec<Breadcrumb> {
    let before = cache.current_breadcrumb();
    cache.on_updates(updates).await.expect("the cache takes updates");
    let (ack, written) = crumbd::ingest::reply_channel();
    let batch = Batch {
        updates: vec![],
        grouping: Grouping::Whole,
        conditions: vec![],
        ack: Some(ReplyTo::new(ack)),
    };
    cache.send(FeedEvent::Updates(batch)).await.expect("the cache takes updates");
    written.await.expect("an answer").expect("a write of nothing succeeds");
    before.later().collect()
}

/// Waits until the ingest task has taken everything, which on one thread means: has applied it.
async fn all_taken(cache: &Cache) {
    while cache.backlog().0 > 0 {
        tokio::task::yield_now().await;
    }
}

/// A test that takes longer than this hangs.
async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("nothing here takes so long")
}
