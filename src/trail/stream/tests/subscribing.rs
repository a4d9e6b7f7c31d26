//! The three outcomes of a subscription, and what it then gets.

use futures_util::FutureExt;

use super::super::{PublishError, SubscribeError};
use super::*;

#[tokio::test(start_paused = true)]
async fn who_has_nothing_gets_the_snapshot_its_end_and_then_its_own_events_only() {
    let store = Store::with(1, &[("a", 10), ("b", 20)]);
    let (publisher, subscriptions) = publisher(UNSHARED, &store);
    let mut reader = from_the_beginning(&subscriptions, key("a"));
    assert_eq!(reader.outcome(), Outcome::Snapshot);
    assert_eq!(next_messages(&mut reader, 2).await, ["[a=10] @1", "EndOfSnapshot @1"]);
    nothing_comes(&mut reader).await;
    store.set(&publisher, 2, &[("a", 11)]);
    assert_eq!(next(&mut reader).await, "[a=11] @2");
    store.set(&publisher, 3, &[("b", 21)]);
    nothing_comes(&mut reader).await;
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_of_nothing_is_its_end() {
    let store = Store::with(7, &[]);
    let (publisher, subscriptions) = publisher(UNSHARED, &store);
    let mut reader = from_the_beginning(&subscriptions, key("a"));
    assert_eq!(next(&mut reader).await, "EndOfSnapshot @7");
    nothing_comes(&mut reader).await;
    store.set(&publisher, 8, &[("a", 1)]);
    assert_eq!(next(&mut reader).await, "[a=1] @8");
}

#[tokio::test(start_paused = true)]
async fn a_state_without_an_index_is_told_as_1() {
    let (_publisher, subscriptions) = publisher(UNSHARED, &Store::with(0, &[("a", 10)]));
    let mut reader = from_the_beginning(&subscriptions, key("a"));
    assert_eq!(next_messages(&mut reader, 2).await, ["[a=10] @1", "EndOfSnapshot @1"]);
}

#[tokio::test(start_paused = true)]
async fn who_has_the_newest_state_goes_on_without_a_word() {
    let store = Store::with(1, &[("a", 10)]);
    let (publisher, subscriptions) = publisher(UNSHARED, &store);
    let _other = from_the_beginning(&subscriptions, key("a"));
    store.set(&publisher, 2, &[("b", 0)]);
    let mut reader = after(&subscriptions, key("a"), 1);
    assert_eq!(reader.outcome(), Outcome::Resumed);
    nothing_comes(&mut reader).await;
    store.set(&publisher, 3, &[("a", 11)]);
    assert_eq!(next(&mut reader).await, "[a=11] @3");
    // What happened to others meanwhile is no reason for a snapshot.
    store.set(&publisher, 4, &[("b", 1)]);
    let mut reader = after(&subscriptions, key("a"), 3);
    assert_eq!(reader.outcome(), Outcome::Resumed);
    nothing_comes(&mut reader).await;
}

#[tokio::test(start_paused = true)]
async fn who_missed_something_is_told_that_a_snapshot_follows() {
    let store = Store::with(1, &[("a", 10)]);
    let (publisher, subscriptions) = publisher(UNSHARED, &store);
    drop(from_the_beginning(&subscriptions, key("a")));
    store.set(&publisher, 3, &[("a", 11)]);
    for alone in [true, false] {
        let _other = (!alone).then(|| from_the_beginning(&subscriptions, key("a")));
        let mut reader = after(&subscriptions, key("a"), 1);
        assert_eq!(reader.outcome(), Outcome::NewSnapshot);
        let messages = next_messages(&mut reader, 3).await;
        assert_eq!(messages, ["NewSnapshotToFollow", "[a=11] @3", "EndOfSnapshot @3"]);
        nothing_comes(&mut reader).await;
    }
}

/// A reader that comes from a replica which is ahead of this one.
#[tokio::test(start_paused = true)]
async fn who_is_ahead_waits_and_gets_nothing_that_it_knows() {
    let store = Store::with(1, &[("a", 10)]);
    let (publisher, subscriptions) = publisher(UNSHARED, &store);
    let mut reader = after(&subscriptions, key("a"), 5);
    assert_eq!(reader.outcome(), Outcome::Resumed);
    for index in 2..=5 {
        store.set(&publisher, index, &[("a", index)]);
    }
    nothing_comes(&mut reader).await;
    store.set(&publisher, 6, &[("a", 6)]);
    assert_eq!(next(&mut reader).await, "[a=6] @6");
}

#[tokio::test(start_paused = true)]
async fn the_events_of_one_index_come_together_in_the_snapshot_and_live() {
    let store = Store::with(1, &[("a/1", 1), ("a/2", 2), ("b", 3)]);
    let (publisher, subscriptions) = publisher(UNSHARED, &store);
    let mut all = from_the_beginning(&subscriptions, Subject::All);
    let mut some = from_the_beginning(&subscriptions, Subject::Prefix("a/".to_owned()));
    assert_eq!(next_messages(&mut all, 2).await, ["[a/1=1, a/2=2, b=3] @1", "EndOfSnapshot @1"]);
    assert_eq!(next_messages(&mut some, 2).await, ["[a/1=1, a/2=2] @1", "EndOfSnapshot @1"]);
    store.set(&publisher, 2, &[("b", 4), ("a/2", 5), ("a/1", 6)]);
    assert_eq!(next(&mut all).await, "[b=4, a/2=5, a/1=6] @2");
    assert_eq!(next(&mut some).await, "[a/2=5, a/1=6] @2");
    store.set(&publisher, 3, &[("b", 7)]);
    assert_eq!(next(&mut all).await, "[b=7] @3");
    nothing_comes(&mut some).await;
}

#[tokio::test(start_paused = true)]
async fn an_event_up_to_the_snapshots_index_never_comes_after_it() {
    let store = Store::with(1, &[("a", 1)]);
    let (publisher, subscriptions) = publisher(UNSHARED, &store);
    // The state is ahead of what was published.
    *store.state.lock() = (5, [("a".to_owned(), 5)].into());
    let mut reader = from_the_beginning(&subscriptions, key("a"));
    assert_eq!(next_messages(&mut reader, 2).await, ["[a=5] @5", "EndOfSnapshot @5"]);
    for index in 2..=6 {
        publisher.publish(index, [set("a", index)]).expect("published");
    }
    assert_eq!(next(&mut reader).await, "[a=6] @6");
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_the_snapshot_is_made_is_not_lost() {
    let store = Store::with(1, &[("a", 1)]);
    let (publisher, subscriptions) = publisher(UNSHARED, &store);
    store.shut_the_gate();
    let mut reader = from_the_beginning(&subscriptions, key("a"));
    store.set(&publisher, 2, &[("a", 2)]);
    store.gate.add_permits(1);
    assert_eq!(next(&mut reader).await, "[a=2] @2");
    store.set(&publisher, 3, &[("a", 3)]);
    store.set(&publisher, 4, &[("a", 4)]);
    nothing_comes(&mut reader).await;
    store.gate.add_permits(1);
    assert_eq!(next_messages(&mut reader, 3).await, ["EndOfSnapshot @2", "[a=3] @3", "[a=4] @4"]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_next_loses_nothing() {
    let store = Store::with(1, &[("a", 1)]);
    let (publisher, subscriptions) = publisher(UNSHARED, &store);
    let mut reader = after(&subscriptions, key("a"), 1);
    for index in 2..100 {
        nothing_comes(&mut reader).await;
        store.set(&publisher, index, &[("a", index)]);
        assert_eq!(next(&mut reader).await, format!("[a={index}] @{index}"));
    }
    // Dropped after it was woken and before it looked.
    let mut woken = Box::pin(reader.next());
    assert!(woken.as_mut().now_or_never().is_none());
    store.set(&publisher, 100, &[("a", 100)]);
    drop(woken);
    assert_eq!(next(&mut reader).await, "[a=100] @100");
}

#[tokio::test(start_paused = true)]
async fn a_reader_wakes_for_what_is_published_and_stops_when_cancelled() {
    let store = Store::with(1, &[]);
    let (publisher, subscriptions) = publisher(UNSHARED, &store);
    let mut reader = after(&subscriptions, key("a"), 1);
    store.set(&publisher, 2, &[("a", 2)]);
    assert_eq!(next(&mut reader).await, "[a=2] @2", "what is there already");
    let waiting = tokio::spawn(async move { (next(&mut reader).await, reader) });
    tokio::time::sleep(SILENCE).await;
    assert!(!waiting.is_finished());
    store.set(&publisher, 3, &[("a", 3)]);
    let (message, mut reader) = waiting.await.expect("the reader");
    assert_eq!(message, "[a=3] @3");
    let cancelled = tokio::spawn(async move { reader.next().await.is_ok() });
    tokio::time::sleep(SILENCE).await;
    cancelled.abort();
    assert!(cancelled.await.is_err_and(|error| error.is_cancelled()));
    assert_eq!(subscriptions.stats().subscriptions, 0, "it went with its task");
}

/// Eight readers of other keys than the one that is published are not even polled.
#[tokio::test(start_paused = true)]
async fn readers_of_another_key_are_not_woken() {
    use std::pin::pin;
    use std::task::{Context, Wake, Waker};

    #[derive(Default)]
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    let store = Store::with(1, &[]);
    let (publisher, subscriptions) = publisher(UNSHARED, &store);
    let (mut a, mut b) = (after(&subscriptions, key("a"), 1), after(&subscriptions, key("b"), 1));
    let (wakes_of_a, wakes_of_b) = (Arc::<Count>::default(), Arc::<Count>::default());
    let (mut next_a, mut next_b) = (pin!(a.next()), pin!(b.next()));
    let poll = |count: &Arc<Count>| Waker::from(Arc::clone(count));
    assert!(next_a.as_mut().poll(&mut Context::from_waker(&poll(&wakes_of_a))).is_pending());
    assert!(next_b.as_mut().poll(&mut Context::from_waker(&poll(&wakes_of_b))).is_pending());
    for index in 2..100 {
        store.set(&publisher, index, &[("a", index)]);
    }
    assert_eq!((wakes_of_a.0.load(Ordering::SeqCst), wakes_of_b.0.load(Ordering::SeqCst)), (1, 0));
}

#[tokio::test]
async fn what_may_not_be_read_is_left_out_and_the_rest_keeps_its_order() {
    let store = Store::with(1, &[]);
    let (publisher, subscriptions) = publisher(UNSHARED, &store);
    let mut reader = after(&subscriptions, Subject::All, 1);
    store.set(&publisher, 2, &[("a", 1), ("secret/1", 2), ("b", 3), ("secret/2", 4)]);
    let message = reader.next().await.expect("a message");
    let events = message.events().expect("events");
    let may_read = |change: &Change| !change.key.starts_with("secret/");
    assert_eq!(format!("{:?}", events.permitted(may_read)), "Some([a=1, b=3] @2)");
    assert!(events.permitted(|_| false).is_none());
    let all = events.permitted(|_| true).expect("all of them");
    assert_eq!(all.as_slice().as_ptr(), events.as_slice().as_ptr(), "nothing is copied");
    assert_eq!((events.as_slice().len(), events.index()), (4, 2), "what is shared stays whole");
}

#[tokio::test]
async fn one_event_or_three_are_one_message_with_their_index() {
    let store = Store::with(1, &[]);
    let (publisher, subscriptions) = publisher(UNSHARED, &store);
    let mut reader = after(&subscriptions, Subject::All, 1);
    store.set(&publisher, 2, &[("a", 1)]);
    store.set(&publisher, 9, &[("a", 2), ("b", 3), ("c", 4)]);
    assert_eq!(next_messages(&mut reader, 2).await, ["[a=1] @2", "[a=2, b=3, c=4] @9"]);
}

#[tokio::test]
async fn the_end_of_a_snapshot_is_told_from_the_rest() {
    let (_publisher, subscriptions) = publisher(UNSHARED, &Store::with(3, &[("a", 1)]));
    let mut reader = after(&subscriptions, Subject::All, 1);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let message = reader.next().await.expect("a message");
        seen.push((message.is_end_of_snapshot(), message.events().is_some()));
    }
    assert_eq!(seen, [(false, false), (false, true), (true, false)]);
}

#[tokio::test]
async fn an_index_that_does_not_grow_is_refused() {
    let store = Store::with(4, &[]);
    let (publisher, subscriptions) = publisher(UNSHARED, &store);
    let mut reader = after(&subscriptions, key("a"), 4);
    for index in [0, 3, 4] {
        let refused = publisher.publish(index, [set("a", 1)]);
        assert_eq!(refused, Err(PublishError::NotNewer { index, published: 4 }));
    }
    publisher.publish(5, [set("a", 2)]).expect("published");
    assert_eq!(next(&mut reader).await, "[a=2] @5");
    assert_eq!(subscriptions.stats().published, 5);
}

#[tokio::test]
async fn there_are_no_more_subscriptions_than_allowed() {
    let config = StreamConfig { max_subscriptions: 2, ..UNSHARED };
    let (_publisher, subscriptions) = publisher(config, &Store::with(1, &[]));
    let one = after(&subscriptions, key("a"), 1);
    let _two = after(&subscriptions, key("b"), 1);
    let refused = subscriptions.subscribe(SubscribeRequest::after(key("c"), 1));
    assert_eq!(refused.expect_err("a third"), SubscribeError::TooMany { limit: 2 });
    drop(one);
    drop(after(&subscriptions, key("c"), 1));
}
