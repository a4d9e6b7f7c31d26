//! The promises of the trail, tested with real threads and tasks; `loom.rs` tests the interleavings.

use std::error::Error;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

mod join;
mod memory;
mod paced;

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

/// The values after `start` so far.
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

#[test]
fn handles_are_small_and_cross_threads() {
    fn crosses<T: Send + Sync>(_: &T) {}
    let mut buffer = EventBuffer::new();
    let item = buffer.append(Arc::new(1)).expect("open");
    crosses(&buffer);
    crosses(&buffer.reader());
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
    /// Yields now and then, differently for each seed.
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
    // The error item itself, which is the head now, returns the error too.
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
