//! How subscriptions end.

use futures_util::FutureExt;

use super::super::{CloseReason, PublishError, SubscribeError};
use super::*;

/// The reason with which it ends, or the message that came instead.
async fn end(subscription: &mut Subscription<Change>) -> Result<CloseReason, String> {
    match timeout(PATIENCE, subscription.next()).await.expect("an end in time") {
        Err(StreamError::Closed(reason)) => Ok(reason),
        other => Err(format!("{other:?}")),
    }
}

#[tokio::test(start_paused = true)]
async fn who_unsubscribes_is_told_so() {
    let (_publisher, subscriptions) = publisher(UNSHARED, &Store::with(1, &[("a", 1)]));
    let mut reader = from_the_beginning(&subscriptions, key("a"));
    reader.unsubscribe();
    assert_eq!(end(&mut reader).await, Ok(CloseReason::Unsubscribed));
    assert!(next(&mut reader).await.contains("unsubscribe"));
    assert_eq!(subscriptions.stats().topics, 0);
    reader.unsubscribe();
}

#[tokio::test(start_paused = true)]
async fn a_forced_close_ends_one_that_waits() {
    let (_publisher, subscriptions) = publisher(UNSHARED, &Store::with(1, &[]));
    let mut reader = after(&subscriptions, key("a"), 1);
    let mut other = after(&subscriptions, key("b"), 1);
    let waiting = tokio::spawn(async move { end(&mut reader).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    let closed = subscriptions.close_where(CloseReason::Forced, |request| request.subject == key("a"));
    assert_eq!(closed, 1);
    assert_eq!(waiting.await.expect("the reader"), Ok(CloseReason::Forced));
    nothing_comes(&mut other).await;
}

#[tokio::test(start_paused = true)]
async fn shutting_down_ends_who_waits_who_reads_and_who_does_neither() {
    for dropped in [false, true] {
        let store = Store::with(1, &[("a", 1)]);
        let (publisher, subscriptions) = publisher(UNSHARED, &store);
        let mut reads = from_the_beginning(&subscriptions, key("a"));
        assert_eq!(next(&mut reads).await, "[a=1] @1");
        let mut idle = from_the_beginning(&subscriptions, key("a"));
        let mut waits = after(&subscriptions, key("b"), 1);
        let waits = tokio::spawn(async move { end(&mut waits).await });
        store.shut_the_gate();
        let mut early = from_the_beginning(&subscriptions, key("c"));
        tokio::time::sleep(SILENCE).await;
        if dropped {
            drop(publisher);
        } else {
            publisher.shut_down();
            assert_eq!(publisher.publish(2, [set("a", 2)]), Err(PublishError::ShutDown));
        }
        let why = Ok(CloseReason::ShuttingDown);
        assert_eq!(waits.await.expect("the reader"), why);
        assert_eq!(
            [end(&mut reads).await, end(&mut idle).await, end(&mut early).await],
            [why.clone(), why.clone(), why]
        );
        let late = subscriptions.subscribe(SubscribeRequest::from_the_beginning(key("a")));
        assert_eq!(late.expect_err("no more"), SubscribeError::ShuttingDown);
        assert_eq!(subscriptions.stats().topics, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_rights_ends_what_that_holder_reads_before_it_reads_more() {
    let store = Store::with(1, &[("a", 1)]);
    let (publisher, subscriptions) = publisher(UNSHARED, &store);
    let of = |holder| {
        let request = SubscribeRequest::from_the_beginning(key("a")).held_by(holder);
        subscriptions.subscribe(request).expect("a subscription")
    };
    let (mut ann, mut bob) = (of("ann"), of("bob"));
    assert_eq!(next_messages(&mut ann, 2).await, next_messages(&mut bob, 2).await);
    store.set(&publisher, 2, &[("a", 2)]);
    let ended =
        subscriptions.close_where(CloseReason::PermissionChanged, |request| &*request.holder == "ann");
    assert_eq!(ended, 1);
    assert_eq!(end(&mut ann).await, Ok(CloseReason::PermissionChanged));
    assert_eq!(next(&mut bob).await, "[a=2] @2");
}

#[tokio::test(start_paused = true)]
async fn the_first_reason_wins_and_beats_what_is_still_unread() {
    let store = Store::with(1, &[("a", 1)]);
    let (publisher, subscriptions) = publisher(UNSHARED, &store);
    let mut reader = from_the_beginning(&subscriptions, key("a"));
    assert_eq!(next(&mut reader).await, "[a=1] @1");
    store.set(&publisher, 2, &[("a", 2)]);
    assert_eq!(subscriptions.close_where(CloseReason::PermissionChanged, |_| true), 1);
    assert_eq!(subscriptions.close_where(CloseReason::Forced, |_| true), 0);
    reader.unsubscribe();
    publisher.shut_down();
    for _ in 0..3 {
        assert_eq!(end(&mut reader).await, Ok(CloseReason::PermissionChanged));
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_woke_a_reader_is_not_told_after_a_close() {
    let store = Store::with(1, &[]);
    let (publisher, subscriptions) = publisher(UNSHARED, &store);
    let mut reader = after(&subscriptions, key("a"), 1);
    let mut waiting = Box::pin(reader.next());
    assert!(waiting.as_mut().now_or_never().is_none());
    store.set(&publisher, 2, &[("a", 2)]);
    subscriptions.close_where(CloseReason::Forced, |_| true);
    assert!(matches!(waiting.await, Err(StreamError::Closed(CloseReason::Forced))));
}
