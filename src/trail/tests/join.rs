//! Joining one buffer to another.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use super::super::AppendError;
use super::{ShuttingDown, buffer_of, poll_once, shutting_down, values};

#[test]
fn a_snapshot_is_joined_to_what_comes_after_the_live_head() {
    let (_, mut live) = buffer_of([1, 2]);
    let (start, mut snapshot) = buffer_of([10, 11]);
    let follow = live.head().follow_after().expect("open");
    assert!(follow.value().is_none(), "the live head itself is not repeated");
    snapshot.append_buffer(follow).expect("open");
    assert!(snapshot.head().value().is_none());

    let waker = Arc::default();
    let end = start.next_no_block().expect("open").expect("10");
    let end = end.next_no_block().expect("open").expect("11");
    let mut next = pin!(end.next());
    assert!(poll_once(next.as_mut(), &waker).is_pending());
    live.append(3).expect("the live writer is still the writer");
    assert_eq!(waker.count(), 1);
    assert!(matches!(poll_once(next, &waker), Poll::Ready(Ok(item)) if item.value() == Some(&3)));
    assert!(matches!(values(&start).as_deref(), Ok([10, 11, 3])));
}

#[test]
fn a_snapshot_is_joined_in_the_middle_of_the_live_chain() {
    let (old, mut live) = buffer_of([1, 2, 3]);
    let (start, mut snapshot) = buffer_of([10]);
    let one = old.next_no_block().expect("open").expect("1");
    let two = one.follow_after().expect("open");
    assert_eq!(two.value(), Some(&2), "there is a next, so that is what follows");
    let waker = Arc::default();
    let ten = snapshot.head();
    let mut next = pin!(ten.next());
    assert!(poll_once(next.as_mut(), &waker).is_pending());
    snapshot.append_buffer(two).expect("open");
    assert_eq!(waker.count(), 1);
    assert_eq!(snapshot.head().value(), Some(&3));
    live.append(4).expect("open");
    assert!(matches!(values(&start).as_deref(), Ok([10, 2, 3, 4])));
}

#[test]
fn a_joined_buffer_takes_nothing_more_and_ends_nothing() {
    let (live_start, mut live) = buffer_of([1]);
    let (start, mut snapshot) = buffer_of([10]);
    snapshot.append_buffer(live.head()).expect("open");
    assert!(matches!(snapshot.append(11), Err(AppendError::Joined)));
    assert_eq!(snapshot.append_err(shutting_down()), Err(AppendError::Joined));
    assert_eq!(snapshot.append_buffer(live.head()), Err(AppendError::Joined));
    drop(snapshot);
    live.append(2).expect("open");
    assert!(matches!(values(&live_start).as_deref(), Ok([1, 2])));
    assert!(matches!(values(&start).as_deref(), Ok([10, 1, 2])));
    drop(live);
    assert!(values(&start).is_err_and(|end| end.is_closed()));
}

#[test]
fn joining_a_chain_that_has_ended_ends_here_too() {
    let (live_start, mut live) = buffer_of([1]);
    live.append_err(shutting_down()).expect("open");
    let (start, mut snapshot) = buffer_of([10]);
    snapshot.append_buffer(live_start).expect("open");
    assert!(snapshot.head().error().is_some());
    assert!(matches!(snapshot.append(11), Err(AppendError::Joined)));
    assert!(values(&start).is_err_and(|end| end.cause().is::<ShuttingDown>()));
}

#[test]
fn a_buffer_cannot_be_joined_to_itself() {
    let (start, mut buffer) = buffer_of([1, 2]);
    let one = start.next_no_block().expect("open").expect("1");
    let follow = buffer.head().follow_after().expect("open");
    let follow_follow = follow.follow_after().expect("open");
    for own in [start.clone(), one, buffer.head(), follow, follow_follow] {
        assert_eq!(buffer.append_buffer(own), Err(AppendError::Cycle));
    }
    // Nor by way of another buffer.
    let (other_start, mut other) = buffer_of([5]);
    other.append_buffer(buffer.head()).expect("open");
    assert_eq!(buffer.append_buffer(other_start), Err(AppendError::Cycle));
    buffer.append(3).expect("a refused join leaves the buffer as it was");
    assert!(matches!(values(&start).as_deref(), Ok([1, 2, 3])));
}

#[test]
fn empty_items_are_walked_over_without_recursion() {
    let (start, mut buffer) = buffer_of([]);
    for round in 0..100_000 {
        let (sentinel, next) = buffer_of([]);
        let follow = sentinel.follow_after().expect("open");
        let empty = if round % 2 == 0 { sentinel } else { follow };
        buffer.append_buffer(empty).expect("open");
        buffer = next;
    }
    buffer.append(1).expect("open");
    assert!(matches!(values(&start).as_deref(), Ok([1])));
}
