//! What Typha's own tests and documentation say of its `snapcache`, asserted of this cache.
//!
//! Where crumbd differs on purpose (a no-op is one whatever its type, a key occurs once in a breadcrumb
//! with the true type, the deletion of an absent key is nothing, followers are told of the end), the
//! test asserts crumbd's rule and says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crumbd::cache::{Breadcrumb, Cache, CacheConfig, DeltaKind, IngestTask, Position, Stopped};
use crumbd::ingest::{Buffer, IngestBuffer};
use crumbd::model::{
    Batch, Change, Committed, Cursor, Digest, Entry, FeedEvent, Grouping, History, Refusal, ResyncClaim,
    Revision, SyncStatus, Ttl, Update,
};
use crumbd::trail::Limits;
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
    let (ack, written) = oneshot::channel();
    let batch = Batch { updates: vec![], grouping: Grouping::Whole, conditions: vec![], ack: Some(ack) };
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

// ---- B.1: batching and publication ---------------------------------------------------------

#[tokio::test]
async fn the_first_breadcrumb_is_the_empty_state_and_waits_for_the_datastore() {
    let crumb = running().current_breadcrumb();
    assert_eq!((crumb.sequence().0, crumb.kvs().len(), crumb.deltas().len()), (1, 0, 0));
    assert_eq!(crumb.sync_status(), SyncStatus::WaitForDatastore);
    assert_eq!((crumb.revision(), crumb.kvs().digest()), (Revision::ZERO, Digest::default()));
}

#[tokio::test]
async fn an_idle_cache_drops_a_breadcrumb_for_each_update_at_once() {
    let cache = running();
    for (i, update) in fresh(30).into_iter().enumerate() {
        let crumb = in_time(publish(&cache, vec![update])).await;
        assert_eq!((crumb.deltas().len(), crumb.kvs().len()), (1, i + 1));
        assert_eq!(crumb.sequence().0, i as u64 + 2);
    }
}

#[tokio::test]
async fn under_load_batches_form_up_to_the_limit() {
    let single = fresh(25).into_iter().map(|update| updates(vec![update])).collect();
    assert_eq!(sizes(&after_all_at_once(single).await), [10, 10, 5]);
}

#[tokio::test]
async fn a_slice_over_the_limit_is_published_in_parts() {
    assert_eq!(sizes(&after_all_at_once(vec![updates(fresh(25))]).await), [10, 10, 5]);
    // A slice is not split before it is taken: 9 and 9 make a batch of 18.
    let mut all = fresh(18);
    let second = updates(all.split_off(9));
    assert_eq!(sizes(&after_all_at_once(vec![updates(all), second]).await), [10, 8]);
}

#[tokio::test]
async fn an_upstream_revision_is_never_split() {
    let at_7 = fresh(25).into_iter().map(|update| update.at(7)).collect();
    let crumbs = after_all_at_once(vec![updates(at_7)]).await;
    assert_eq!((sizes(&crumbs), crumbs[0].revision()), (vec![25], Revision(7)));

    let in_eights = fresh(32).into_iter().zip(0..).map(|(update, i)| update.at(1 + i / 8)).collect();
    assert_eq!(sizes(&after_all_at_once(vec![updates(in_eights)]).await), [16, 16]);

    let whole = Batch::new(fresh(25), Grouping::Whole);
    let crumbs = after_all_at_once(vec![FeedEvent::Updates(whole)]).await;
    assert_eq!((sizes(&crumbs), crumbs[0].revision()), (vec![25], Revision(1)));
}

#[tokio::test]
async fn a_status_rides_on_the_last_breadcrumb_of_its_batch() {
    use SyncStatus::{InSync, WaitForDatastore as Wait};
    let crumbs = after_all_at_once(vec![updates(fresh(9)), FeedEvent::Status(InSync)]).await;
    assert_eq!((sizes(&crumbs), statuses(&crumbs)), (vec![9], vec![InSync]));
    // These 25 updates are a batch of their own, and the status is the next one.
    let crumbs = after_all_at_once(vec![updates(fresh(25)), FeedEvent::Status(InSync)]).await;
    assert_eq!((sizes(&crumbs), statuses(&crumbs)), (vec![10, 10, 5, 0], vec![Wait, Wait, Wait, InSync]));
}

#[tokio::test]
async fn a_status_before_the_data_of_its_batch_is_seen_with_the_data() {
    use SyncStatus::{InSync, WaitForDatastore as Wait};
    let events = vec![FeedEvent::Status(InSync), updates(fresh(25))];
    let crumbs = after_all_at_once(events).await;
    assert_eq!(sizes(&crumbs), [10, 10, 5]);
    assert_eq!(statuses(&crumbs), [Wait, Wait, InSync]);
}

#[tokio::test]
async fn several_statuses_in_a_batch_collapse_to_the_last_one() {
    use SyncStatus::{InSync, ResyncInProgress};
    let flapping = [InSync, ResyncInProgress, InSync, ResyncInProgress].map(FeedEvent::Status);
    let crumbs = after_all_at_once(flapping.into()).await;
    assert_eq!((sizes(&crumbs), statuses(&crumbs)), (vec![0], vec![ResyncInProgress]));
}

#[tokio::test]
async fn a_status_alone_makes_a_breadcrumb_and_the_same_one_again_makes_none() {
    let cache = running();
    let first = cache.current_breadcrumb();
    for status in [SyncStatus::InSync, SyncStatus::InSync, SyncStatus::ResyncInProgress] {
        cache.on_status_updated(status).await.expect("a status");
        // Let it be a batch of its own.
        while cache.current_breadcrumb().sync_status() != status {
            tokio::task::yield_now().await;
        }
    }
    assert!(publish_nothing(&cache, vec![]).await.is_empty());
    let crumbs: Vec<_> = first.later().collect();
    assert_eq!(statuses(&crumbs), [SyncStatus::InSync, SyncStatus::ResyncInProgress]);
    assert!(crumbs.iter().all(|crumb| crumb.deltas().is_empty() && crumb.revision() == Revision::ZERO));
    assert_ne!(crumbs[0].cursor(), crumbs[1].cursor(), "a change of status alone moves the cursor");
}

#[tokio::test]
async fn where_nothing_changed_there_is_no_breadcrumb() {
    let cache = running();
    let crumb = publish(&cache, vec![Update::put("a", "1")]).await;
    assert!(publish_nothing(&cache, vec![]).await.is_empty());
    assert!(publish_nothing(&cache, vec![Update::put("a", "1"), Update::delete("b")]).await.is_empty());
    assert_eq!(cache.current_breadcrumb().sequence(), crumb.sequence());
    assert_eq!(cache.stats().suppressed.get(), 2);
}

#[tokio::test]
async fn the_defaults_bound_everything() {
    let CacheConfig { max_batch, max_value_bytes, max_key_bytes, window } = CacheConfig::default();
    assert!((1..=10_000).contains(&max_batch));
    assert!(max_value_bytes <= 64 << 20 && max_key_bytes <= 64 << 10);
    assert!(window.max_count <= 1 << 20 && window.max_bytes <= 1 << 30);
    assert!(window.max_age <= Duration::from_secs(24 * 3600));
}

// ---- B.2: one update -----------------------------------------------------------------------

#[tokio::test]
async fn an_unchanged_value_is_suppressed_and_keeps_its_revision() {
    let cache = running();
    publish(&cache, vec![Update::put("node", "v").at(10)]).await;
    let crumb = publish(&cache, vec![Update::put("node", "v").at(11), Update::put("biff", "w").at(12)]).await;
    assert_eq!(shown(&crumb), ["New biff=w @12"]);
    assert_eq!(crumb.kvs().get(b"node").and_then(Entry::revision), Some(Revision(10)));
    assert_eq!(crumb.revision(), Revision(12));
}

/// Typha suppresses only what is sent as `Updated`; so a feed that replays its state defeats it.
#[tokio::test]
async fn a_feed_that_replays_its_whole_state_makes_no_breadcrumb() {
    let cache = running();
    for update in fresh(50) {
        publish(&cache, vec![update]).await;
    }
    assert!(publish_nothing(&cache, fresh(50)).await.is_empty());
}

#[tokio::test]
async fn a_change_of_ttl_is_a_change() {
    let cache = running();
    let with_ttl = |ttl| Update::from(Entry::new(b"a", b"1", Some(Ttl(ttl))));
    publish(&cache, vec![with_ttl(5)]).await;
    assert!(publish_nothing(&cache, vec![with_ttl(5)]).await.is_empty());
    let crumb = publish(&cache, vec![with_ttl(6)]).await;
    assert_eq!((shown(&crumb), crumb.deltas()[0].entry.ttl()), (vec!["Updated a=1 @2".into()], Some(Ttl(6))));
    let crumb = publish(&cache, vec![Update::put("a", "1")]).await;
    assert_eq!((shown(&crumb), crumb.deltas()[0].entry.ttl()), (vec!["Updated a=1 @3".into()], None));
}

/// In Typha the feed's claim passes through, and its clients repair it.
#[tokio::test]
async fn new_and_updated_are_said_by_the_cache() {
    let cache = running();
    assert_eq!(shown(&publish(&cache, vec![Update::put("foo", "bar").at(10)]).await), ["New foo=bar @10"]);
    let crumb = publish(&cache, vec![Update::put("foo", "updated").at(11)]).await;
    assert_eq!(shown(&crumb), ["Updated foo=updated @11"]);
    assert_eq!(value(&crumb, "foo").as_deref(), Some("updated"));
}

#[tokio::test]
async fn a_delete_empties_the_snapshot_and_is_one_delta() {
    let cache = running();
    publish(&cache, vec![Update::put("foo", "bar").at(10)]).await;
    let crumb = publish(&cache, vec![Update::delete("foo").at(11)]).await;
    assert_eq!(shown(&crumb), ["Deleted foo @11"]);
    assert_eq!((crumb.kvs().len(), crumb.kvs().payload_bytes()), (0, 0));
    assert_eq!(crumb.kvs().digest(), Digest::default());
}

/// Typha makes a breadcrumb of each, for its clients' statistics.
#[tokio::test]
async fn the_deletion_of_an_absent_key_is_nothing() {
    let cache = running();
    publish(&cache, vec![Update::put("a", "1")]).await;
    assert!(publish_nothing(&cache, vec![Update::delete("b"), Update::delete("b")]).await.is_empty());
}

#[tokio::test]
async fn an_empty_value_is_a_value() {
    let cache = running();
    assert_eq!(shown(&publish(&cache, vec![Update::put("a", "")]).await), ["New a= @1"]);
    assert_eq!(shown(&publish(&cache, vec![Update::delete("a")]).await), ["Deleted a @2"]);
}

/// Typha keeps every repeat.
#[tokio::test]
async fn a_key_occurs_once_in_a_breadcrumb_with_its_last_value() {
    let cache = running();
    publish(&cache, vec![Update::put("old", "0")]).await;
    let repeats = ["1", "2", "3"].map(|value| Update::put("new", value));
    let crumb = publish(&cache, repeats.into()).await;
    assert_eq!(shown(&crumb), ["New new=3 @4"]);
    let crumb = publish(&cache, vec![Update::put("old", "1"), Update::put("old", "2")]).await;
    assert_eq!(shown(&crumb), ["Updated old=2 @6"]);
}

#[tokio::test]
async fn changes_that_undo_each_other_in_one_breadcrumb_are_no_delta() {
    let cache = running();
    publish(&cache, vec![Update::put("a", "1"), Update::put("b", "1")]).await;
    let flicker = vec![
        Update::put("new", "1"),
        Update::delete("new"),
        Update::delete("a"),
        Update::put("a", "1"),
        Update::delete("b"),
        Update::put("b", "2"),
    ];
    let crumb = publish(&cache, flicker).await;
    assert_eq!(shown(&crumb), ["Updated b=2 @8"]);
    assert_eq!(value(&crumb, "a").as_deref(), Some("1"));
}

/// In Typha a value that cannot be serialized is treated as a deletion.
#[tokio::test]
async fn an_oversized_update_is_refused_and_the_others_go_on() {
    let (cache, task, _) =
        cache_with(CacheConfig { max_value_bytes: 3, max_key_bytes: 3, ..small_batches() }, 4);
    tokio::spawn(task.run());
    publish(&cache, vec![Update::put("a", "old")]).await;
    let updates = vec![
        Update::put("b", "1"),
        Update::put("a", "long"),
        Update::put("long", "1"),
        Update::delete("long"),
        Update::put("c", "123"),
    ];
    let crumb = publish(&cache, updates).await;
    assert_eq!(shown(&crumb), ["New b=1 @2", "New c=123 @3"]);
    assert_eq!(value(&crumb, "a").as_deref(), Some("old"), "a refused update leaves the old value");
    assert_eq!(cache.stats().refused.get(), 3);
}

#[tokio::test]
async fn keys_that_are_prefixes_of_each_other_are_different_keys() {
    let cache = running();
    publish(&cache, vec![Update::put("foobar", "1"), Update::put("foobar2", "2")]).await;
    let crumb = publish(&cache, vec![Update::delete("foobar")]).await;
    assert_eq!((value(&crumb, "foobar"), value(&crumb, "foobar2").as_deref()), (None, Some("2")));
}

/// Typha's regression 28: a thousand keys did not trigger it.
#[tokio::test]
async fn after_adding_many_keys_and_deleting_half_the_other_half_is_there() {
    let cache = running();
    let key = |i: u32| format!("/pods/{i}");
    cache.on_updates((0..10_000).map(|i| Update::put(key(i), key(i))).collect()).await.expect("updates");
    cache.on_updates((0..5_000).map(|i| Update::delete(key(i))).collect()).await.expect("updates");
    cache.on_status_updated(SyncStatus::InSync).await.expect("a status");
    let mut crumb = cache.current_breadcrumb();
    while crumb.sync_status() != SyncStatus::InSync {
        crumb = in_time(crumb.next()).await.expect("the rest comes");
    }
    assert_eq!(crumb.kvs().len(), 5_000);
    assert!((5_000..10_000).all(|i| value(&crumb, &key(i)) == Some(key(i))));
}

#[tokio::test]
async fn a_resync_keeps_serving_and_sweeps_what_did_not_come_again() {
    let cache = running();
    let old = publish(&cache, vec![Update::put("stays", "1"), Update::put("goes", "1")]).await;
    let begin = FeedEvent::ResyncBegin { history: None, whole_at: Some(Revision(9)), lossy: false };
    cache.send(begin).await.expect("an event");
    cache.on_updates(vec![Update::put("stays", "1"), Update::put("comes", "1")]).await.expect("updates");
    all_taken(&cache).await;
    assert_eq!(old.later().count(), 0, "nothing is seen before the end");
    assert_eq!(value(&cache.current_breadcrumb(), "goes").as_deref(), Some("1"));
    cache.on_status_updated(SyncStatus::InSync).await.expect("a status");
    let claim = ResyncClaim::default();
    let end = FeedEvent::ResyncEnd { revision: Some(Revision(9)), claim, complete: true };
    cache.send(end).await.expect("an event");
    let crumb = in_time(old.next()).await.expect("the difference is published");
    let told: BTreeSet<_> = shown(&crumb).into_iter().collect();
    assert_eq!(told, ["New comes=1 @9", "Deleted goes @9"].map(String::from).into());
    assert_eq!((crumb.sync_status(), crumb.from()), (SyncStatus::InSync, old.cursor()));
    assert!(matches!(cache.locate(old.cursor()), Position::At(at) if at.sequence() == old.sequence()));
}

/// Sends a write that is to be answered.
async fn write(cache: &Cache, key: &str) -> oneshot::Receiver<Result<Committed, Refusal>> {
    let (ack, answer) = oneshot::channel();
    let mut batch = Batch::new(vec![Update::put(key, "1")], Grouping::Whole);
    batch.ack = Some(ack);
    cache.send(FeedEvent::Updates(batch)).await.expect("an event");
    answer
}

#[tokio::test]
async fn a_write_during_a_resync_is_answered_when_it_can_be_read() {
    let (cache, task, _) = cache_with(small_batches(), 64);
    let task = tokio::spawn(task.run());
    let begin = || FeedEvent::ResyncBegin { history: None, whole_at: None, lossy: false };
    let before = write(&cache, "before").await;
    cache.send(begin()).await.expect("an event");
    let mut lost = write(&cache, "lost").await;
    assert_eq!(in_time(before).await.expect("an answer").map(|Committed { changed, .. }| changed), Ok(1));
    all_taken(&cache).await;
    assert!(lost.try_recv().is_err(), "it cannot be read yet");
    cache.send(begin()).await.expect("an event");
    let mut kept = write(&cache, "kept").await;
    all_taken(&cache).await;
    assert!(in_time(lost).await.is_err(), "the feed began anew: its author is not told that it is there");
    assert!(kept.try_recv().is_err(), "it cannot be read yet");
    let claim = ResyncClaim::default();
    cache.send(FeedEvent::ResyncEnd { revision: None, claim, complete: false }).await.expect("an event");
    let Committed { cursor, .. } = in_time(kept).await.expect("an answer").expect("a write");
    let Position::At(crumb) = cache.locate(cursor) else { panic!("the answer's cursor is kept") };
    assert_eq!(value(&crumb, "kept").as_deref(), Some("1"));
    assert_eq!((value(&crumb, "lost"), value(&crumb, "before").as_deref()), (None, Some("1")));
    cache.stop();
    task.await.expect("the task ends");
}

// ---- B.3: next and concurrency -------------------------------------------------------------

#[tokio::test]
async fn next_returns_at_once_what_exists_already() {
    let cache = running();
    let first = cache.current_breadcrumb();
    let second = publish(&cache, vec![Update::put("a", "1")]).await;
    let next = first.next().now_or_never().expect("it is there").expect("it is no error");
    assert_eq!(next.sequence(), second.sequence());
    assert!(second.next().now_or_never().is_none(), "nothing follows yet");
}

#[tokio::test]
async fn a_cancelled_next_loses_nothing_and_wakes_nobody_late() {
    let cache = running();
    let mut crumb = cache.current_breadcrumb();
    for round in 0..100 {
        let mut abandoned = Box::pin(crumb.next());
        assert!(abandoned.as_mut().now_or_never().is_none(), "it has to wait");
        // Dropped while it waits, and dropped after it was woken and before it looked.
        if round % 2 == 0 {
            drop(abandoned);
            publish(&cache, vec![Update::put("a", round.to_string())]).await;
        } else {
            publish(&cache, vec![Update::put("a", round.to_string())]).await;
            drop(abandoned);
        }
        let next = in_time(crumb.next()).await.expect("it is there");
        assert_eq!(next.sequence().0, crumb.sequence().0 + 1);
        crumb = next;
    }
}

#[tokio::test]
async fn a_snapshot_that_is_held_never_changes() {
    let cache = running();
    let held = publish(&cache, vec![Update::put("foo", "bar")]).await;
    let (digest, len) = (held.kvs().digest(), held.kvs().len());
    for i in 0..100 {
        publish(&cache, vec![Update::put(format!("key{i}"), "x"), Update::put("foo", i.to_string())]).await;
    }
    assert_eq!((held.kvs().digest(), held.kvs().len()), (digest, len));
    assert_eq!(value(&held, "foo").as_deref(), Some("bar"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_of_each_producer_are_applied_in_its_order() {
    const PRODUCERS: usize = 4;
    const UPDATES: usize = 500;
    let cache = running();
    let mut crumb = cache.current_breadcrumb();
    let produce = |producer: usize| {
        let cache = cache.clone();
        async move {
            for i in 0..UPDATES {
                let update = Update::put(format!("producer{producer}"), i.to_string());
                cache.on_updates(vec![update]).await.expect("the cache takes updates");
            }
        }
    };
    let producers: Vec<_> = (0..PRODUCERS).map(|producer| tokio::spawn(produce(producer))).collect();
    let mut last = BTreeMap::new();
    while last.len() < PRODUCERS || last.values().any(|value| *value != UPDATES - 1) {
        crumb = in_time(crumb.next()).await.expect("more comes");
        for delta in crumb.deltas() {
            let text = std::str::from_utf8(delta.entry.value()).expect("text");
            let value: usize = text.parse().expect("a number");
            let before = last.insert(delta.entry.key().to_vec(), value);
            assert!(before.is_none_or(|before| before < value), "{before:?} before {value}");
        }
    }
    for producer in producers {
        producer.await.expect("a producer ends");
    }
}

#[tokio::test]
async fn a_full_buffer_makes_the_producer_wait_and_a_cache_at_work_lets_it_go_on() {
    let (cache, task, _) = cache_with(small_batches(), 2);
    for update in fresh(2) {
        cache.on_updates(vec![update]).await.expect("there is room");
    }
    let mut third = Box::pin(cache.on_updates(vec![Update::put("third", "1")]));
    assert!(third.as_mut().now_or_never().is_none(), "it has to wait");
    assert_eq!(cache.backlog(), (2, 2));
    tokio::spawn(task.run());
    in_time(third).await.expect("there is room now");
}

#[tokio::test]
async fn followers_that_wait_when_the_cache_stops_are_told() {
    let cache = running();
    let crumb = publish(&cache, vec![Update::put("a", "1")]).await;
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let crumb = crumb.clone();
            tokio::spawn(async move { crumb.next().await.map(|next| next.sequence()) })
        })
        .collect();
    tokio::task::yield_now().await;
    cache.stop();
    for follower in waiting {
        let error = in_time(follower).await.expect("a follower ends").expect_err("nothing follows");
        assert!(error.cause().is::<Stopped>(), "{error}");
    }
    assert!(crumb.next().await.is_err(), "also who asks later");
    assert_eq!(cache.current_breadcrumb().sequence(), crumb.sequence(), "the last state can still be read");
}

#[tokio::test]
async fn what_was_sent_before_the_stop_is_applied_before_followers_are_told() {
    let (cache, task, _) = cache_with(small_batches(), 64);
    let mut crumb = cache.current_breadcrumb();
    for update in fresh(30) {
        cache.on_updates(vec![update]).await.expect("there is room");
    }
    cache.stop();
    tokio::spawn(task.run());
    while let Ok(next) = in_time(crumb.next()).await {
        crumb = next;
    }
    assert_eq!(crumb.kvs().len(), 30);
}

#[tokio::test]
async fn a_producer_after_the_stop_gets_an_error() {
    let (cache, task, _) = cache_with(small_batches(), 1);
    cache.on_updates(fresh(1)).await.expect("there is room");
    let (blocked_cache, started) = (cache.clone(), Arc::new(tokio::sync::Notify::new()));
    let start = Arc::clone(&started);
    let blocked = tokio::spawn(async move {
        let mut write = Box::pin(blocked_cache.on_updates(fresh(1)));
        assert!(write.as_mut().now_or_never().is_none(), "it has to wait");
        start.notify_one();
        write.await
    });
    started.notified().await;
    cache.stop();
    assert_eq!(in_time(blocked).await.expect("the producer ends"), Err(Stopped));
    task.run().await;
    assert_eq!(cache.on_updates(fresh(1)).await, Err(Stopped));
    assert_eq!(cache.on_status_updated(SyncStatus::InSync).await, Err(Stopped));
}

/// An ingest task that is dropped, or dies, must not leave anybody waiting.
#[tokio::test]
async fn when_the_ingest_task_is_gone_nobody_waits_for_ever() {
    let (cache, task, buffer) = cache_with(small_batches(), 1);
    let (ack, answer) = oneshot::channel();
    let mut batch = Batch::new(fresh(1), Grouping::Whole);
    batch.ack = Some(ack);
    cache.send(FeedEvent::Updates(batch)).await.expect("there is room");
    let mut blocked = Box::pin(cache.on_updates(fresh(1)));
    assert!(blocked.as_mut().now_or_never().is_none(), "it has to wait");
    let crumb = cache.current_breadcrumb();
    drop(task);
    assert!(in_time(crumb.next()).await.is_err(), "a follower is told");
    assert_eq!(in_time(blocked).await, Err(Stopped), "a producer is told");
    assert!(in_time(answer).await.is_err(), "a writer is told");
    assert!(buffer.is_empty());
}

/// A cache that keeps no more than it must, so that only readers hold anything.
fn forgetful() -> CacheConfig {
    let window = Limits { max_count: 1, max_bytes: 1 << 20, max_age: Duration::from_secs(60) };
    CacheConfig { window, ..small_batches() }
}

#[tokio::test]
async fn a_slow_follower_pins_the_trail_and_its_leaving_frees_it() {
    const ROUNDS: usize = 200;
    let (cache, task, _) = cache_with(forgetful(), 4);
    tokio::spawn(task.run());
    let slow = cache.current_breadcrumb();
    let mut superseded = Vec::new();
    for round in 0..ROUNDS {
        let crumb = publish(&cache, vec![Update::put("a", round.to_string())]).await;
        superseded.push(crumb.kvs().get(b"a").cloned().expect("it was put"));
    }
    // The last one is the current state.
    superseded.pop();
    assert_eq!(cache.kept().0, 1);
    // One probe is used up by asking.
    let is_held = |entry: Entry| {
        let address = entry.address();
        entry.at(Revision(1)).address() != address
    };
    assert_eq!(slow.later().count(), ROUNDS);
    assert!(is_held(superseded.remove(0)), "the slow follower holds what was superseded");
    drop(slow);
    // Evicted breadcrumbs are freed on a thread of their own.
    let deadline = Instant::now() + PATIENCE;
    while is_held(superseded.pop().expect("it is freed before the probes are used up")) {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_trail_of_a_hundred_thousand_breadcrumbs_is_freed_without_recursion() {
    let (cache, task, _) = cache_with(CacheConfig { max_batch: 1, ..forgetful() }, 1024);
    let task = tokio::spawn(task.run());
    let oldest = cache.current_breadcrumb();
    for i in 0..100_000u32 {
        cache.on_updates(vec![Update::put("a", i.to_le_bytes())]).await.expect("an update");
    }
    cache.stop();
    task.await.expect("the task ends");
    assert_eq!(cache.current_breadcrumb().sequence().0, 100_001);
    drop(cache);
    drop(oldest);
}

#[tokio::test]
async fn a_follower_that_fell_out_of_the_window_is_told_so() {
    let (cache, task, _) = cache_with(forgetful(), 4);
    tokio::spawn(task.run());
    let old = publish(&cache, vec![Update::put("a", "1")]).await;
    let new = publish(&cache, vec![Update::put("a", "2")]).await;
    assert!(matches!(cache.locate(old.cursor()), Position::Gone));
    assert!(matches!(cache.locate(new.cursor()), Position::At(_)));
    let ahead = Cursor { revision: new.revision().next(), ..new.cursor() };
    assert!(matches!(cache.locate(ahead), Position::Ahead));
    let other = Cursor { history: History::derive(b"another"), ..new.cursor() };
    assert!(matches!(cache.locate(other), Position::OtherHistory));
    assert_eq!(old.next().await.expect("who holds it can go on").sequence(), new.sequence());
}

// ---- B.4: followers ------------------------------------------------------------------------

/// Typha's kinds of followers, by how they fall behind.
#[derive(Clone, Copy, Debug)]
struct Temper {
    name: &'static str,
    /// Before it takes its first breadcrumb.
    start: Duration,
    /// When it is less behind than this, it sleeps for so long: then it meets both breadcrumbs
    /// that exist and breadcrumbs that it has to wait for.
    latency: Duration,
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const FOLLOWERS: [Temper; 4] = [
    Temper { name: "happy", start: ms(0), latency: ms(0) },
    Temper { name: "sleepy", start: ms(100), latency: ms(100) },
    Temper { name: "grumpy", start: ms(10), latency: ms(100) },
    Temper { name: "bashful", start: ms(1), latency: ms(1) },
];

/// What a follower has seen once it was in sync.
struct Followed {
    state: BTreeMap<Vec<u8>, Vec<u8>>,
    in_sync_at: Revision,
    problems: Vec<String>,
}

async fn follow(cache: Cache, temper: Temper) -> Followed {
    tokio::time::sleep(temper.start).await;
    let mut crumb = cache.current_breadcrumb();
    drop(cache);
    let mut state: BTreeMap<_, _> =
        crumb.kvs().iter().map(|entry| (entry.key().to_vec(), entry.value().to_vec())).collect();
    let mut problems = Vec::new();
    while crumb.sync_status() != SyncStatus::InSync {
        let behind = SystemTime::now().duration_since(crumb.timestamp()).unwrap_or_default();
        if behind < temper.latency {
            tokio::time::sleep(temper.latency).await;
        }
        crumb = crumb.next().await.expect("the cache goes on until everybody is in sync");
        for delta in crumb.deltas() {
            let key = delta.entry.key().to_vec();
            let (existed, value) = match delta.kind {
                DeltaKind::Deleted => (state.remove(&key).is_some(), None),
                _ => {
                    let value = delta.entry.value().to_vec();
                    (state.insert(key, value.clone()).is_some(), Some(value))
                }
            };
            if existed == (delta.kind == DeltaKind::New) {
                problems.push(format!("{delta:?}, {value:?} at {crumb:?}"));
            }
        }
    }
    Followed { state, in_sync_at: crumb.revision(), problems }
}

/// `count` updates in slices, over a hundred keys.
async fn with_a_variety_of_followers(count: usize, slice: usize) {
    let (cache, task, _) = cache_with(small_batches(), 2 * MAX_BATCH);
    let task = tokio::spawn(task.run());
    let followers = FOLLOWERS.map(|temper| (temper.name, tokio::spawn(follow(cache.clone(), temper))));

    let mut model = BTreeMap::new();
    let mut pending = Vec::with_capacity(slice);
    for i in 1..=count {
        let (key, value) = (format!("/config/{:02}", i % 100), format!("config{}", i % 55));
        model.insert(key.clone().into_bytes(), value.clone().into_bytes());
        pending.push(Update::put(key, value).at(i as u64));
        if pending.len() == slice {
            cache.on_updates(std::mem::take(&mut pending)).await.expect("updates");
        }
        if i == count / 2 {
            cache.on_updates(vec![]).await.expect("no updates");
        }
    }
    cache.on_updates(pending).await.expect("updates");
    cache.on_status_updated(SyncStatus::InSync).await.expect("a status");

    for (name, follower) in followers {
        let followed = in_time(follower).await.expect("a follower ends");
        assert_eq!(followed.problems, Vec::<String>::new(), "{name}");
        assert_eq!(followed.state, model, "{name}");
        assert_eq!(followed.in_sync_at, Revision(count as u64), "{name} was in sync before all data");
    }
    let current = cache.current_breadcrumb();
    assert_eq!((current.kvs().len(), current.sync_status()), (model.len(), SyncStatus::InSync));
    cache.stop();
    in_time(task).await.expect("the task ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_agree_after_123_single_updates() {
    with_a_variety_of_followers(123, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_agree_after_12345_single_updates() {
    with_a_variety_of_followers(12_345, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_agree_after_12345_updates_in_slices_of_100() {
    with_a_variety_of_followers(12_345, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_agree_after_12345_updates_in_slices_of_101() {
    with_a_variety_of_followers(12_345, 101).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_agree_after_123456_single_updates() {
    with_a_variety_of_followers(123_456, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_follower_can_be_stopped() {
    let cache = running();
    let crumb = cache.current_breadcrumb();
    let started = Arc::new(tokio::sync::Notify::new());
    let start = Arc::clone(&started);
    let follower = tokio::spawn(async move {
        let mut next = Box::pin(crumb.next());
        assert!(next.as_mut().now_or_never().is_none(), "it has to wait");
        start.notify_one();
        next.await.map(|next| next.sequence())
    });
    started.notified().await;
    follower.abort();
    assert!(in_time(follower).await.expect_err("it was aborted").is_cancelled());
    in_time(publish(&cache, vec![Update::put("a", "1")])).await;
}

/// Ready means: in sync at least once.
#[tokio::test]
async fn the_status_is_seen_as_soon_as_it_is_said() {
    let cache = running();
    let mut crumb = cache.current_breadcrumb();
    use SyncStatus::{InSync, ResyncInProgress};
    for status in [InSync, ResyncInProgress, InSync, ResyncInProgress] {
        cache.on_status_updated(status).await.expect("a status");
        crumb = in_time(crumb.next()).await.expect("it is published");
        assert_eq!((crumb.sync_status(), crumb.deltas().len()), (status, 0));
    }
    assert_eq!(crumb.sequence().0, 5, "four statuses, four breadcrumbs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_followers_see_every_breadcrumb() {
    const FOLLOWERS: usize = 10_000;
    const ROUNDS: u64 = 20;
    let cache = running();
    let first = cache.current_breadcrumb();
    let follow = |mut crumb: Breadcrumb| async move {
        let mut deltas = 0;
        for round in 1..=ROUNDS {
            let next = crumb.next().await.expect("the next round");
            assert_eq!((next.sequence().0, next.from()), (round + 1, crumb.cursor()));
            deltas += next.deltas().len();
            crumb = next;
        }
        (deltas, crumb.kvs().digest(), crumb.next().await.is_err())
    };
    let followers: Vec<_> = (0..FOLLOWERS).map(|_| tokio::spawn(follow(first.clone()))).collect();
    drop(first);
    for round in 0..ROUNDS {
        let updates = ["a", "b", "c"].map(|key| Update::put(key, round.to_string()).at(round + 1));
        in_time(publish(&cache, updates.into())).await;
    }
    let digest = cache.current_breadcrumb().kvs().digest();
    cache.stop();
    for follower in followers {
        let seen = in_time(follower).await.expect("a follower ends");
        assert_eq!(seen, (3 * ROUNDS as usize, digest, true));
    }
}

#[test]
fn a_change_knows_its_key() {
    assert_eq!(Update::delete("a").change.key(), b"a");
    assert!(matches!(Update::put("a", "").change, Change::Put(_)));
}
