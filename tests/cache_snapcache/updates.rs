//! What one update does, and what a resync does.

use super::*;

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

/// A revision is one change: what it takes back itself was never there.
#[tokio::test]
async fn what_a_revision_changes_and_sets_back_never_happened() {
    let cache = running();
    publish(&cache, vec![Update::put("a", "1").at(5), Update::put("b", "1").at(5)]).await;
    let flicker =
        [Update::put("new", "1"), Update::delete("new"), Update::delete("a"), Update::put("a", "1")];
    let flicker = |at| flicker.iter().cloned().map(|update| update.at(at)).collect::<Vec<_>>();
    assert!(publish_nothing(&cache, flicker(8)).await.is_empty());
    let crumb = publish(&cache, [flicker(9), vec![Update::put("b", "2").at(9)]].concat()).await;
    assert_eq!(shown(&crumb), ["Updated b=2 @9"]);
    assert_eq!(crumb.kvs().get(b"a").and_then(Entry::revision), Some(Revision(5)), "it keeps its revision");
    assert!(crumb.steps().is_empty());
}

/// Over several revisions it did happen. Where they become one breadcrumb is chance, so the later revision counts
/// as it would have, had each been a breadcrumb of its own; and a client may come that stands between them.
#[tokio::test]
async fn what_a_later_revision_sets_back_in_the_same_breadcrumb_is_an_update() {
    let cache = running();
    let before = publish(&cache, vec![Update::put("a", "1").at(5)]).await;
    let between = {
        let other = running();
        publish(&other, vec![Update::put("a", "2").at(10)]).await.cursor()
    };
    let flicker = vec![
        Update::put("a", "2").at(10),
        Update::put("a", "1").at(11),
        Update::put("new", "1").at(11),
        Update::delete("new").at(12),
    ];
    let crumb = publish(&cache, flicker).await;
    assert_eq!(crumb.from(), before.cursor(), "it is one breadcrumb");
    assert_eq!(shown(&crumb), ["Updated a=1 @11"]);
    assert_eq!(crumb.kvs().get(b"a").and_then(Entry::revision), Some(Revision(11)));
    let Position::Inside { within } = cache.locate(between) else { panic!("{between} is inside of it") };
    let missed = within.steps().iter().filter(|step| step.revision > between.revision);
    let missed: Vec<_> = missed.map(|step| (step.entry.key(), step.revision, step.existed)).collect();
    let new = &b"new"[..];
    assert_eq!(
        missed,
        [(&b"a"[..], Revision(11), true), (new, Revision(11), false), (new, Revision(12), true)]
    );
}

/// In Typha a value that cannot be serialized is treated as a deletion.
#[tokio::test]
async fn an_oversized_update_is_a_deletion_and_the_others_go_on() {
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
    assert_eq!(shown(&crumb), ["New b=1 @2", "Deleted a @3", "New c=123 @4"]);
    assert_eq!(value(&crumb, "a"), None, "the old value is not the current one any more");
    assert_eq!(cache.stats().refused.get(), 3);
    let refused = cache.refused_keys();
    let named: Vec<_> =
        refused.named().iter().map(|named| (named.key.to_string(), named.reason.as_str())).collect();
    assert_eq!(
        named,
        [("a".to_owned(), "its value has 4 bytes, the limit is 3")],
        "a deleted key is not there"
    );
    let crumb = publish(&cache, vec![Update::put("a", "new")]).await;
    assert_eq!(shown(&crumb), ["New a=new @5"]);
    assert!(cache.refused_keys().is_empty());
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
    let (ack, answer) = crumbd::ingest::reply_channel();
    let mut batch = Batch::new(vec![Update::put(key, "1")], Grouping::Whole);
    batch.ack = Some(ReplyTo::new(ack));
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

#[tokio::test]
async fn who_waits_for_the_past_of_a_lossy_resync_is_told_also_what_came_meanwhile() {
    let cache = running();
    let old = publish(&cache, vec![Update::put("a", "1").at(10)]).await;
    let begin = FeedEvent::ResyncBegin { history: None, whole_at: Some(Revision(20)), lossy: true };
    cache.send(begin).await.expect("an event");
    cache.on_updates(vec![Update::put("a", "2").at(15)]).await.expect("updates");
    let claim = ResyncClaim::default();
    let end = FeedEvent::ResyncEnd { revision: Some(Revision(20)), claim, complete: true };
    cache.send(end).await.expect("an event");
    let new = in_time(old.next()).await.expect("the difference is published");
    assert_eq!(shown(&new), ["Updated a=2 @20"]);

    let inside = Cursor { revision: Revision(12), ..old.cursor() };
    let Position::Awaited(mut past) = cache.locate(inside) else { panic!("nobody knows {inside} yet") };
    assert_eq!(past.end(), new.cursor());
    assert!(Box::pin(past.changed()).as_mut().now_or_never().is_none(), "it has to wait");
    let Position::Awaited(mut late) = cache.locate(inside) else { panic!("nobody knows {inside} yet") };
    let step = PastStep {
        revision: Revision(15),
        key: Key::from("a"),
        before: PastValue::Unknown,
        after: PastValue::Unknown,
        entry: None,
    };
    let (base, through) = (Revision(10), Revision(20));
    let known = Past { base, through, leads_to_the_end: true, steps: vec![step] };
    cache.send(FeedEvent::Past { end: Revision(20), past: Some(known) }).await.expect("an event");
    all_taken(&cache).await;
    in_time(past.changed()).await;
    in_time(late.changed()).await;
    let Position::Before { within, past } = cache.locate(inside) else { panic!("{inside} is known now") };
    assert_eq!((within.cursor(), past.steps().len()), (new.cursor(), 1));
}

#[tokio::test]
async fn a_key_that_a_resync_changed_was_set_after_the_state_before_whatever_the_feed_says() {
    let cache = running();
    let old = publish(&cache, vec![Update::put("a", "1").at(10), Update::put("b", "1").at(10)]).await;
    let begin = FeedEvent::ResyncBegin { history: None, whole_at: Some(Revision(20)), lossy: false };
    cache.send(begin).await.expect("an event");
    let read = vec![Update::put("a", "2").at(3), Update::put("b", "1").at(3), Update::put("c", "1").at(15)];
    cache.on_updates(read).await.expect("updates");
    let claim = ResyncClaim::default();
    let end = FeedEvent::ResyncEnd { revision: Some(Revision(20)), claim, complete: true };
    cache.send(end).await.expect("an event");
    let new = in_time(old.next()).await.expect("the difference is published");
    let set_at = |key: &str| new.kvs().get(key.as_bytes()).and_then(Entry::revision);
    assert_eq!(["a", "b", "c"].map(set_at), [20, 10, 15].map(|at| Some(Revision(at))));
}

/// After the highest number there is none, and nothing could change any more.
#[tokio::test]
async fn a_claim_that_leaves_no_room_to_count_on_is_refused_and_counted() {
    let cache = running();
    let high = Revision::MAX_CLAIM.0;
    publish(&cache, vec![Update::put("a", "1").at(10)]).await;
    let refused = cache.stats().refused.get();
    let claims = vec![
        Update::put("b", "1").at(high + 1),
        Update::put("c", "1").at(u64::MAX),
        Update::delete("a").at(u64::MAX),
        Update::put("d", "1"),
    ];
    let crumb = publish(&cache, claims).await;
    // What was to be deleted is, at a revision that is counted.
    assert_eq!(shown(&crumb), ["Deleted a @11", "New d=1 @12"]);
    assert_eq!((crumb.revision(), cache.stats().refused.get() - refused), (Revision(12), 3));
    assert_eq!(cache.refused_keys().len(), 2, "b and c");
    // The highest one may be claimed, and changes are still counted after it.
    assert_eq!(publish(&cache, vec![Update::put("e", "1").at(high)]).await.revision(), Revision(high));
    assert_eq!(publish(&cache, vec![Update::put("e", "2")]).await.revision(), Revision(high + 1));
}
