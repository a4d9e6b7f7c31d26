//! What the trail promises, tested with real threads and tasks; `loom.rs` tests the interleavings.

use std::error::Error;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use super::{AppendError, BufferItem, EventBuffer, TerminalError};

type Boxed = Box<dyn Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
#[error("shutting down")]
struct ShuttingDown;

fn shutting_down() -> Boxed {
    Box::new(ShuttingDown)
}

/// Counts its wake-ups.
#[derive(Default)]
struct CountingWaker(AtomicUsize);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl CountingWaker {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>, waker: &Arc<CountingWaker>) -> Poll<F::Output> {
    let waker = Waker::from(Arc::clone(waker));
    future.poll(&mut Context::from_waker(&waker))
}

/// The values from here to where the chain ends for now.
fn values<T: Copy>(start: &BufferItem<T>) -> Result<Vec<T>, TerminalError> {
    let mut values = Vec::new();
    let mut at = start.clone();
    while let Some(next) = at.next_no_block()? {
        values.extend(next.value().copied());
        at = next;
    }
    Ok(values)
}

fn buffer_of(values: impl IntoIterator<Item = u32>) -> (BufferItem<u32>, EventBuffer<u32>) {
    let mut buffer = EventBuffer::new();
    let start = buffer.head();
    for value in values {
        buffer.append(value).expect("open");
    }
    (start, buffer)
}

/// A value that counts how many of its kind are alive.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(alive))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn handles_are_small_and_cross_threads() {
    fn crosses<T: Send + Sync>(_: &T) {}
    let mut buffer = EventBuffer::new();
    let (item, wake) = buffer.append_deferred(Arc::new(1)).expect("open");
    crosses(&buffer);
    crosses(&buffer.reader());
    crosses(&wake);
    crosses(&item);
    fn sends<T: Send>(_: &T) {}
    sends(&item.next());
    assert_eq!(size_of_val(&item), size_of::<usize>());
}

#[test]
fn a_new_buffer_has_a_head_without_a_value() {
    let buffer = EventBuffer::<u32>::new();
    assert!(buffer.head().value().is_none());
    assert!(buffer.head().error().is_none());
    assert!(matches!(buffer.head().next_no_block(), Ok(None)));
}

/// The shape of Consul's `TestEventBufferFuzz`: 1 writer, 1,000 items, 1,000 readers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_readers_each_see_a_thousand_items_once_in_order() {
    /// Now and then gives way, differently for each seed.
    async fn maybe_yield(state: &mut u64) {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        for _ in 0..(*state >> 61).saturating_sub(4) {
            tokio::task::yield_now().await;
        }
    }

    let mut buffer = EventBuffer::new();
    let readers: Vec<_> = (0..1000_u64)
        .map(|seed| {
            let mut at = buffer.head();
            tokio::spawn(async move {
                let mut state = seed;
                for index in 0..1000_u32 {
                    at = at.next().await.expect("open");
                    assert_eq!(at.value(), Some(&index));
                    maybe_yield(&mut state).await;
                }
            })
        })
        .collect();
    let mut state = 4711;
    for index in 0..1000 {
        buffer.append(index).expect("open");
        maybe_yield(&mut state).await;
    }
    for reader in readers {
        reader.await.expect("reader");
    }
}

#[test]
fn a_linked_next_is_ready_at_once_and_a_missing_one_wakes_when_it_comes() {
    let (start, mut buffer) = buffer_of([]);
    let waker = Arc::default();
    let mut next = pin!(start.next());
    assert!(poll_once(next.as_mut(), &waker).is_pending());
    assert_eq!(waker.count(), 0);
    buffer.append(1).expect("open");
    assert_eq!(waker.count(), 1);
    assert!(matches!(poll_once(next, &waker), Poll::Ready(Ok(item)) if item.value() == Some(&1)));
    assert!(matches!(poll_once(pin!(start.next()), &waker), Poll::Ready(Ok(_))));
}

#[test]
fn a_dropped_next_loses_nothing() {
    let (start, mut buffer) = buffer_of([]);
    let (dropped, other) = (Arc::default(), Arc::default());
    let mut others = pin!(start.next());
    {
        let mut before = pin!(start.next());
        assert!(poll_once(before.as_mut(), &dropped).is_pending());
        assert!(poll_once(others.as_mut(), &other).is_pending());
    }
    let woken_then_dropped = {
        let mut woken = Box::pin(start.next());
        assert!(poll_once(woken.as_mut(), &dropped).is_pending());
        woken
    };
    buffer.append(1).expect("open");
    drop(woken_then_dropped);
    assert_eq!((dropped.count(), other.count()), (1, 1));
    assert!(matches!(poll_once(others, &other), Poll::Ready(Ok(item)) if item.value() == Some(&1)));
    assert!(matches!(values(&start).as_deref(), Ok([1])));
}

#[test]
fn a_deferred_append_shows_at_once_and_wakes_by_the_token_only() {
    let (start, mut buffer) = buffer_of([]);
    let waker = Arc::default();
    let mut next = pin!(start.next());
    assert!(poll_once(next.as_mut(), &waker).is_pending());

    let (item, wake) = buffer.append_deferred(1).expect("open");
    assert_eq!(item.value(), Some(&1));
    assert_eq!(buffer.head().value(), Some(&1));
    assert!(matches!(values(&start).as_deref(), Ok([1])));
    // A later append does not pay for the earlier one.
    buffer.append(2).expect("open");
    assert_eq!(waker.count(), 0);

    thread::spawn(move || wake.wake()).join().expect("waker");
    assert_eq!(waker.count(), 1);
    assert!(poll_once(next, &waker).is_ready());

    let end = buffer.head();
    let mut next = pin!(end.next());
    assert!(poll_once(next.as_mut(), &waker).is_pending());
    drop(buffer.append_deferred(3).expect("open"));
    assert_eq!(waker.count(), 2, "dropping the token wakes too");
}

#[test]
fn an_error_ends_every_reader_after_the_values_before_it_and_for_good() {
    let (start, mut buffer) = buffer_of([1]);
    let last = buffer.head();
    let waker = Arc::default();
    let mut waiting = pin!(last.next());
    assert!(poll_once(waiting.as_mut(), &waker).is_pending());
    buffer.append_err(shutting_down()).expect("open");
    assert_eq!(waker.count(), 1);

    let Poll::Ready(Err(end)) = poll_once(waiting, &waker) else {
        panic!("the reader that waited is not ended");
    };
    assert!(end.cause().is::<ShuttingDown>());
    assert!(end.source().is_some_and(|source| source.is::<ShuttingDown>()));
    assert_eq!(end.to_string(), "the event buffer has ended: shutting down");
    assert!(!end.is_closed());

    let one = start.next_no_block().expect("open").expect("one value");
    assert_eq!(one.value(), Some(&1));
    for _ in 0..2 {
        assert!(one.next_no_block().is_err());
        assert!(one.follow_after().is_err());
        assert!(matches!(poll_once(pin!(one.next()), &waker), Poll::Ready(Err(_))));
    }
    // The error item itself, which a newcomer gets as head, is not something to wait at.
    let head = buffer.head();
    assert!(head.value().is_none() && head.error().is_some());
    assert!(matches!(poll_once(pin!(head.next()), &waker), Poll::Ready(Err(_))));
    assert!(head.next_no_block().is_err() && head.follow_after().is_err());
}

#[test]
fn an_append_after_the_end_is_refused() {
    let (start, mut buffer) = buffer_of([1]);
    let (other, _writer) = buffer_of([2]);
    buffer.append_err(shutting_down()).expect("open");
    assert!(matches!(buffer.append(2), Err(AppendError::Terminated)));
    assert!(matches!(buffer.append_deferred(2), Err(AppendError::Terminated)));
    assert_eq!(buffer.append_err(shutting_down()), Err(AppendError::Terminated));
    assert_eq!(buffer.append_buffer(other), Err(AppendError::Terminated));
    drop(buffer);
    let one = start.next_no_block().expect("open").expect("one value");
    let end = one.next_no_block().expect_err("ended");
    assert!(end.cause().is::<ShuttingDown>(), "the drop changes nothing");
}

#[test]
fn dropping_the_writer_ends_its_readers() {
    let (start, buffer) = buffer_of([]);
    let reader = buffer.reader();
    let waker = Arc::default();
    let mut next = pin!(start.next());
    assert!(poll_once(next.as_mut(), &waker).is_pending());
    drop(buffer);
    assert_eq!(waker.count(), 1);
    assert!(matches!(poll_once(next, &waker), Poll::Ready(Err(end)) if end.is_closed()));
    assert!(reader.head().error().is_some_and(TerminalError::is_closed));
}

#[test]
fn an_end_is_passed_on_without_being_wrapped_twice() {
    let (start, mut buffer) = buffer_of([]);
    buffer.append_err(shutting_down()).expect("open");
    let end = start.next_no_block().expect_err("ended");
    let (start, mut buffer) = buffer_of([]);
    buffer.append_err(end).expect("open");
    assert!(start.next_no_block().expect_err("ended").cause().is::<ShuttingDown>());
}

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

#[test]
fn only_what_is_held_stays_in_memory() {
    let alive = Arc::new(AtomicUsize::new(0));
    let mut buffer = EventBuffer::new();
    let start = buffer.head();
    for _ in 0..100 {
        buffer.append(Alive::new(&alive)).expect("open");
    }
    assert_eq!(alive.load(Ordering::SeqCst), 100, "the start holds all that came after it");
    drop(start);
    assert_eq!(alive.load(Ordering::SeqCst), 1, "the head alone is held");
    buffer.append(Alive::new(&alive)).expect("open");
    assert_eq!(alive.load(Ordering::SeqCst), 1);
    let follow = buffer.head().follow_after().expect("open");
    drop(buffer);
    assert_eq!(alive.load(Ordering::SeqCst), 1, "an empty item holds its origin");
    drop(follow);
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

#[test]
fn ten_million_items_drop_on_a_small_stack() {
    let dropping = thread::Builder::new().stack_size(256 * 1024).spawn(|| {
        let mut buffer = EventBuffer::new();
        let start = buffer.head();
        for value in 0..10_000_000_u32 {
            buffer.append(value).expect("open");
        }
        drop(buffer);
        drop(start);
    });
    dropping.expect("a thread").join().expect("no stack overflow");
}

#[test]
fn two_chains_with_a_shared_tail_drop_at_once_on_small_stacks() {
    const SHARED: usize = 50_000;
    for _ in 0..20 {
        let alive = Arc::new(AtomicUsize::new(0));
        let mut tail = EventBuffer::new();
        let tail_start = tail.head();
        for _ in 0..SHARED {
            tail.append(Alive::new(&alive)).expect("open");
        }
        let droppers: Vec<_> = (0..2)
            .map(|_| {
                let mut buffer = EventBuffer::new();
                let start = buffer.head();
                buffer.append(Alive::new(&alive)).expect("open");
                buffer.append_buffer(tail_start.clone()).expect("open");
                move || drop((start, buffer))
            })
            .collect();
        drop((tail_start, tail));
        let droppers: Vec<_> = droppers
            .into_iter()
            .map(|drops| thread::Builder::new().stack_size(256 * 1024).spawn(drops))
            .collect();
        for dropper in droppers {
            dropper.expect("a thread").join().expect("no stack overflow");
        }
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }
}
