//! Snapshots that are shared, and what is freed when.

use super::*;

fn snapshots_and_topics(subscriptions: &Subscriptions<Change>) -> (usize, usize) {
    let stats = subscriptions.stats();
    (stats.snapshots, stats.topics)
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_shared_until_its_time_is_over() {
    let store = Store::with(1, &[("a", 1)]);
    let (publisher, subscriptions) = publisher(SHARED, &store);
    let mut first = from_the_beginning(&subscriptions, key("a"));
    assert_eq!(next_messages(&mut first, 2).await, ["[a=1] @1", "EndOfSnapshot @1"]);
    store.break_down("it can be made no more");
    let mut second = from_the_beginning(&subscriptions, key("a"));
    assert_eq!(next_messages(&mut second, 2).await, ["[a=1] @1", "EndOfSnapshot @1"]);
    store.set(&publisher, 3, &[("a", 3)]);
    for reader in [&mut first, &mut second] {
        assert_eq!(next(reader).await, "[a=3] @3");
    }
    // Old as it is, it leads up to now.
    let mut third = from_the_beginning(&subscriptions, key("a"));
    assert_eq!(next_messages(&mut third, 3).await, ["[a=1] @1", "EndOfSnapshot @1", "[a=3] @3"]);
    assert_eq!(store.begun(), 1);
    tokio::time::sleep(SHARED.snapshot_ttl + SILENCE).await;
    assert_eq!(snapshots_and_topics(&subscriptions), (0, 1));
    let mut late = from_the_beginning(&subscriptions, key("a"));
    assert_eq!(next(&mut late).await, "[a=3] @3");
    assert!(next(&mut late).await.contains("it can be made no more"));
    assert_eq!(store.begun(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_missed_something_can_be_given_a_shared_snapshot() {
    let store = Store::with(1, &[("a", 1)]);
    let (publisher, subscriptions) = publisher(SHARED, &store);
    let mut other = from_the_beginning(&subscriptions, key("a"));
    next_messages(&mut other, 2).await;
    store.break_down("it can be made no more");
    store.set(&publisher, 3, &[("a", 3)]);
    let mut reader = after(&subscriptions, key("a"), 1);
    assert_eq!(reader.outcome(), Outcome::NewSnapshot);
    let messages = next_messages(&mut reader, 4).await;
    assert_eq!(messages, ["NewSnapshotToFollow", "[a=1] @1", "EndOfSnapshot @1", "[a=3] @3"]);
}

#[tokio::test(start_paused = true)]
async fn that_a_snapshot_follows_is_told_to_the_one_that_it_is_for_only() {
    let store = Store::with(3, &[("a", 3)]);
    let (_publisher, subscriptions) = publisher(SHARED, &store);
    let mut returns = after(&subscriptions, key("a"), 1);
    let messages = next_messages(&mut returns, 3).await;
    assert_eq!(messages, ["NewSnapshotToFollow", "[a=3] @3", "EndOfSnapshot @3"]);
    let mut new = from_the_beginning(&subscriptions, key("a"));
    assert_eq!(next_messages(&mut new, 2).await, ["[a=3] @3", "EndOfSnapshot @3"]);
    assert_eq!(store.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_newcomers_share_one_snapshot_and_publishing_goes_on_while_it_is_made() {
    for config in [SHARED, UNSHARED] {
        let store = Store::with(1, &[("a", 1)]);
        let (publisher, subscriptions) = publisher(config, &store);
        store.shut_the_gate();
        let mut readers: Vec<_> = (0..100).map(|_| from_the_beginning(&subscriptions, key("a"))).collect();
        let mut waits = after(&subscriptions, key("a"), 1);
        store.gate.add_permits(1);
        assert_eq!(next(&mut readers[0]).await, "[a=1] @1");
        for index in 2..=5 {
            store.set(&publisher, index, &[("a", index), ("b", index)]);
            assert_eq!(next(&mut waits).await, format!("[a={index}] @{index}"));
        }
        readers.push(from_the_beginning(&subscriptions, key("a")));
        store.gate.add_permits(1);
        let rest = ["EndOfSnapshot @1", "[a=2] @2", "[a=3] @3", "[a=4] @4", "[a=5] @5"];
        assert_eq!(next_messages(&mut readers[0], 5).await, rest);
        for reader in &mut readers[1..] {
            assert_eq!(next(reader).await, "[a=1] @1");
            assert_eq!(next_messages(reader, 5).await, rest);
        }
        assert_eq!(store.begun(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_snapshot_is_told_to_those_who_waited_and_not_kept() {
    let store = Store::with(1, &[("a", 1)]);
    let (publisher, subscriptions) = publisher(SHARED, &store);
    store.break_down("no memory");
    let mut readers = [0, 0].map(|index| after(&subscriptions, key("a"), index));
    for reader in &mut readers {
        assert_eq!(next(reader).await, "[a=1] @1");
        for _ in 0..2 {
            let failed = reader.next().await.expect_err("the failure");
            assert!(matches!(&failed, StreamError::Failed(end) if end.cause().to_string() == "no memory"));
        }
    }
    tokio::time::sleep(SILENCE).await;
    assert_eq!((subscriptions.stats().snapshots, store.begun()), (0, 1));
    *store.broken.lock() = None;
    let mut reader = from_the_beginning(&subscriptions, key("a"));
    assert_eq!(next_messages(&mut reader, 2).await, ["[a=1] @1", "EndOfSnapshot @1"]);
    store.set(&publisher, 2, &[("a", 2)]);
    assert_eq!(next(&mut reader).await, "[a=2] @2");
    assert!(readers[0].next().await.is_err(), "for those it stays the end");
}

#[tokio::test(start_paused = true)]
async fn a_topic_and_its_snapshot_go_with_their_last_subscriber() {
    let store = Store::with(1, &[("a", 1)]);
    let (publisher, subscriptions) = publisher(SHARED, &store);
    let mut one = from_the_beginning(&subscriptions, key("a"));
    next_messages(&mut one, 2).await;
    let two = from_the_beginning(&subscriptions, key("a"));
    assert_eq!(snapshots_and_topics(&subscriptions), (1, 1));
    one.unsubscribe();
    drop(one);
    assert_eq!(snapshots_and_topics(&subscriptions), (1, 1));
    drop(two);
    assert_eq!(snapshots_and_topics(&subscriptions), (0, 0));
    assert_eq!(subscriptions.stats().subscriptions, 0);
    store.set(&publisher, 2, &[("a", 2)]);
    assert_eq!(snapshots_and_topics(&subscriptions), (0, 0), "publishing makes no topics");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_made_for_those_who_have_left() {
    let store = Store::with(1, &[("a", 1)]);
    let (publisher, subscriptions) = publisher(SHARED, &store);
    store.shut_the_gate();
    let reader = from_the_beginning(&subscriptions, key("a"));
    tokio::time::sleep(SILENCE).await;
    assert_eq!(store.begun(), 1);
    drop(reader);
    let held = Arc::downgrade(&store);
    tokio::time::sleep(SILENCE).await;
    drop((publisher, subscriptions, store));
    assert!(held.upgrade().is_none(), "neither task nor timer holds anything");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stands_still_pins_no_more_than_the_limit() {
    const LAG: u64 = 100;
    let store = Store::with(1, &[("a", 1)]);
    let config = StreamConfig { max_lag_bytes: LAG, ..SHARED };
    let (publisher, subscriptions) = publisher(config, &store);
    let mut slow = from_the_beginning(&subscriptions, key("a"));
    next_messages(&mut slow, 2).await;
    let mut quick = after(&subscriptions, key("a"), 1);
    // One byte each.
    for index in 2..=LAG {
        store.set(&publisher, index, &[("a", index)]);
        assert_eq!(next(&mut quick).await, format!("[a={index}] @{index}"));
    }
    assert_eq!(next(&mut slow).await, "[a=2] @2", "within the limit nothing is skipped");
    for index in LAG + 1..=1000 {
        store.set(&publisher, index, &[("a", index)]);
        assert_eq!(next(&mut quick).await, format!("[a={index}] @{index}"));
    }
    let messages = next_messages(&mut slow, 3).await;
    assert_eq!(messages, ["NewSnapshotToFollow", "[a=1000] @1000", "EndOfSnapshot @1000"]);
    store.set(&publisher, 1001, &[("a", 1001)]);
    assert_eq!(next(&mut slow).await, "[a=1001] @1001", "it is not killed");
    assert_eq!(store.begun(), 2, "a snapshot that would begin too far behind is not shared");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_takes_long_is_made_and_read_whatever_is_published_meanwhile() {
    let store = Store::with(1, &[("a", 1)]);
    let config = StreamConfig { max_lag_bytes: 10, ..SHARED };
    let (publisher, subscriptions) = publisher(config, &store);
    store.shut_the_gate();
    let mut reader = from_the_beginning(&subscriptions, key("a"));
    store.gate.add_permits(1);
    assert_eq!(next(&mut reader).await, "[a=1] @1");
    for index in 2..=100 {
        store.set(&publisher, index, &[("a", index)]);
    }
    let mut other = from_the_beginning(&subscriptions, key("a"));
    store.gate.add_permits(1);
    assert_eq!(next_messages(&mut reader, 2).await, ["EndOfSnapshot @1", "[a=2] @2"]);
    assert_eq!(next(&mut other).await, "[a=1] @1");
    assert_eq!(store.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_item_larger_than_the_limit_leaves_nobody_behind_who_was_up_to_date() {
    let store = Store::with(1, &[]);
    let (publisher, subscriptions) = publisher(StreamConfig { max_lag_bytes: 2, ..SHARED }, &store);
    let mut reader = after(&subscriptions, Subject::All, 1);
    for index in 2..10 {
        store.set(&publisher, index, &[("a", index), ("b", index), ("c", index), ("d", index)]);
        assert_eq!(next(&mut reader).await, format!("[a={index}, b={index}, c={index}, d={index}] @{index}"));
    }
}
