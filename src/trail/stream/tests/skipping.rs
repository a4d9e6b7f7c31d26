//! Readers that are brought up to date in another way than by reading.

use super::*;

fn join(subscriptions: &Subscriptions<Change>, subject: Subject) -> Subscription<Change> {
    subscriptions.join(SubscribeRequest::from_the_beginning(subject)).expect("a subscription")
}

#[tokio::test(start_paused = true)]
async fn who_joins_gets_what_is_published_from_then_on_and_needs_no_snapshot() {
    let store = Store::with(1, &[("a", 10)]);
    let (publisher, subscriptions) = publisher(UNSHARED, &store);
    let mut early = join(&subscriptions, key("a"));
    store.set(&publisher, 2, &[("a", 11)]);
    let mut late = join(&subscriptions, key("a"));
    store.set(&publisher, 3, &[("a", 12)]);
    assert_eq!(next_messages(&mut early, 2).await, ["[a=11] @2", "[a=12] @3"]);
    assert_eq!(next(&mut late).await, "[a=12] @3");
    nothing_comes(&mut late).await;
    assert_eq!((early.outcome(), store.begun()), (Outcome::Resumed, 0));
}

/// What is published between taking the place and looking at the state is in the state.
#[tokio::test(start_paused = true)]
async fn who_is_brought_up_to_date_gets_what_comes_after_that_and_nothing_twice() {
    let store = Store::with(1, &[("a", 10)]);
    let (publisher, subscriptions) = publisher(UNSHARED, &store);
    let mut reader = join(&subscriptions, key("a"));
    (2..=40).for_each(|index| store.set(&publisher, index, &[("a", index)]));
    let newest = reader.newest().expect("a place");
    store.set(&publisher, 41, &[("a", 41)]);
    reader.skip_to(newest, 41);
    assert_eq!(reader.unread(5), Some(0), "what it knows is not counted");
    nothing_comes(&mut reader).await;
    store.set(&publisher, 42, &[("a", 42)]);
    assert_eq!(reader.unread(5), Some(1));
    assert_eq!(next(&mut reader).await, "[a=42] @42");
}

#[tokio::test(start_paused = true)]
async fn what_is_unread_is_counted_up_to_a_limit_and_who_was_left_behind_is_told_so() {
    let store = Store::with(1, &[("a", 10)]);
    let (publisher, subscriptions) = publisher(StreamConfig { max_lag_bytes: 8, ..UNSHARED }, &store);
    let mut reader = join(&subscriptions, key("a"));
    assert_eq!(reader.unread(5), Some(0));
    (2..=5).for_each(|index| store.set(&publisher, index, &[("a", index)]));
    assert_eq!((reader.unread(3), reader.unread(9)), (Some(3), Some(4)));
    (6..=40).for_each(|index| store.set(&publisher, index, &[("a", index)]));
    assert_eq!(reader.unread(9), None, "the list was taken from it");
    // Brought up to date, it needs no snapshot.
    let newest = reader.newest().expect("a place");
    reader.skip_to(newest, 40);
    store.set(&publisher, 41, &[("a", 41)]);
    assert_eq!(next(&mut reader).await, "[a=41] @41");
    assert_eq!(store.begun(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_starts_over_is_told_so_and_gets_the_snapshot() {
    let store = Store::with(1, &[("a", 10)]);
    let (publisher, subscriptions) = publisher(UNSHARED, &store);
    let mut reader = join(&subscriptions, key("a"));
    store.set(&publisher, 2, &[("a", 11)]);
    reader.start_over().expect("open");
    assert_eq!(next_messages(&mut reader, 3).await, ["NewSnapshotToFollow", "[a=11] @2", "EndOfSnapshot @2"]);
    store.set(&publisher, 3, &[("a", 12)]);
    assert_eq!(next(&mut reader).await, "[a=12] @3");
    reader.unsubscribe();
    assert!(reader.start_over().is_err() && reader.newest().is_none() && reader.unread(1).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_expired_snapshot_is_not_shared_and_can_still_be_read() {
    let store = Store::with(1, &[("a", 10)]);
    let (publisher, subscriptions) = publisher(SHARED, &store);
    let mut first = from_the_beginning(&subscriptions, key("a"));
    assert_eq!(next(&mut first).await, "[a=10] @1");
    publisher.expire_snapshots();
    let mut second = from_the_beginning(&subscriptions, key("a"));
    assert_eq!(next(&mut first).await, "EndOfSnapshot @1");
    assert_eq!(next_messages(&mut second, 2).await, ["[a=10] @1", "EndOfSnapshot @1"]);
    assert_eq!(store.begun(), 2);
}
