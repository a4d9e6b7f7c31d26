//! What every buffer promises, tested with each of them.

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::{Buffer, CapacityError, Channel, IngestBuffer, LockingRing, ReadError, WriteError};

/// One of each kind.
fn both<T>(capacity: usize) -> [IngestBuffer<T>; 2] {
    [
        IngestBuffer::channel(capacity).expect("a good capacity"),
        IngestBuffer::ring(capacity).expect("a good capacity"),
    ]
}

/// Counts its wake-ups.
#[derive(Default)]
struct CountingWaker(AtomicUsize);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls once and says whether the waker was used before.
fn poll<F: Future>(future: Pin<&mut F>, waker: &Arc<CountingWaker>) -> Poll<F::Output> {
    let waker = Waker::from(Arc::clone(waker));
    future.poll(&mut Context::from_waker(&waker))
}

fn woken(waker: &Arc<CountingWaker>) -> bool {
    waker.0.load(Ordering::SeqCst) > 0
}

#[test]
fn a_capacity_of_0_or_beyond_memory_is_refused() {
    assert_eq!(Channel::<u64>::new(0).err(), Some(CapacityError::Zero));
    assert_eq!(LockingRing::<u64>::new(0).err(), Some(CapacityError::Zero));
    let too_large = Some(CapacityError::TooLarge { capacity: usize::MAX });
    assert_eq!(Channel::<u64>::new(usize::MAX).err(), too_large);
    assert_eq!(LockingRing::<u64>::new(usize::MAX).err(), too_large);
}

/// Ensign's `TestChannel` and `TestRingSingle`.
#[test]
fn one_slot_is_filled_and_emptied_again_and_again() {
    for buffer in both(1) {
        assert_eq!(buffer.try_read(), Err(ReadError::Empty));
        let first = Arc::new(0);
        buffer.try_write(Arc::clone(&first)).expect("room");
        assert!(matches!(buffer.try_write(Arc::new(1)), Err(WriteError::Full(_))));
        assert!(Arc::ptr_eq(&buffer.try_read().expect("an item"), &first));
        assert_eq!(buffer.try_read(), Err(ReadError::Empty));
        for number in 0..10_000 {
            buffer.try_write(Arc::new(number)).expect("room");
            assert_eq!(buffer.try_read().as_deref(), Ok(&number));
        }
        assert!(buffer.is_empty());
    }
}

/// Ensign's `TestRingBuffer`.
#[test]
fn exactly_as_many_items_fit_in_as_were_asked_for() {
    for buffer in both(10) {
        assert_eq!(buffer.capacity(), 10);
        for number in 0..10 {
            assert_eq!(buffer.len(), number);
            buffer.try_write(number).expect("room");
        }
        assert_eq!(buffer.try_write(10), Err(WriteError::Full(10)));
        for number in 0..10 {
            assert_eq!(buffer.try_read(), Ok(number));
        }
        assert_eq!(buffer.try_read(), Err(ReadError::Empty));
    }
}

#[test]
fn order_holds_round_the_end_of_a_buffer_that_is_never_full_or_empty() {
    for buffer in both(5) {
        let (mut written, mut read) = (0, 0);
        for _ in 0..100 {
            while written - read < 4 {
                buffer.try_write(written).expect("room");
                written += 1;
            }
            while written - read > 1 {
                assert_eq!(buffer.try_read(), Ok(read));
                read += 1;
            }
        }
    }
}

#[test]
fn a_refused_item_is_handed_back_with_the_reason() {
    struct Opaque(u32);
    for buffer in both(1) {
        buffer.try_write(Opaque(1)).unwrap_or_else(|_| panic!("room"));
        let full = buffer.try_write(Opaque(2)).expect_err("full");
        assert_eq!(format!("{full:?}"), "Full(..)");
        assert!(full.to_string().contains("full"));
        assert_eq!(full.into_inner().0, 2);
        buffer.close();
        let closed = buffer.try_write(Opaque(3)).expect_err("closed");
        let closed: Box<dyn std::error::Error> = Box::new(closed);
        assert!(closed.to_string().contains("closed"));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(u32),
    Read,
    Close,
}

proptest! {
    #[test]
    fn it_does_what_a_bounded_queue_does(
        capacity in 1..9_usize,
        steps in prop::collection::vec(
            prop_oneof![
                12 => any::<u32>().prop_map(Step::Write),
                10 => Just(Step::Read),
                1 => Just(Step::Close),
            ],
            0..200,
        ),
    ) {
        for buffer in both(capacity) {
            let (mut queue, mut open) = (VecDeque::new(), true);
            for step in &steps {
                match step {
                    Step::Write(item) => {
                        let expected = if !open {
                            Err(WriteError::Closed(*item))
                        } else if queue.len() == capacity {
                            Err(WriteError::Full(*item))
                        } else {
                            queue.push_back(*item);
                            Ok(())
                        };
                        prop_assert_eq!(buffer.try_write(*item), expected);
                    }
                    Step::Read => {
                        let none = if open { ReadError::Empty } else { ReadError::Closed };
                        prop_assert_eq!(buffer.try_read(), queue.pop_front().ok_or(none));
                    }
                    Step::Close => {
                        buffer.close();
                        open = false;
                    }
                }
                prop_assert_eq!(buffer.len(), queue.len());
                prop_assert_eq!(buffer.is_empty(), queue.is_empty());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_honoured_on_both_sides() {
    for buffer in both(1) {
        let deadline = Instant::now() + Duration::from_secs(3);
        assert_eq!(buffer.read(Some(deadline.into_std())).await, Err(ReadError::Timeout));
        assert!(Instant::now() >= deadline);

        buffer.write(1, None).await.expect("room");
        let deadline = Instant::now() + Duration::from_secs(3);
        let refused = buffer.write(2, Some(deadline.into_std())).await;
        assert_eq!(refused, Err(WriteError::Timeout(2)));
        assert!(Instant::now() >= deadline);
        assert_eq!(buffer.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_before_the_deadline_is_taken() {
    for buffer in both(1) {
        let start = Instant::now();
        let deadline = Some((start + Duration::from_secs(3)).into_std());
        let (read, ()) = tokio::join!(buffer.read(deadline), async {
            buffer.try_write(1).expect("room");
        });
        assert_eq!(read, Ok(1));
        buffer.try_write(2).expect("room");
        let (written, read) = tokio::join!(buffer.write(3, deadline), async { buffer.try_read() });
        assert_eq!((written, read), (Ok(()), Ok(2)));
        assert_eq!(Instant::now(), start, "nobody waited for the time");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_in_the_past_tries_once() {
    for buffer in both(1) {
        let now = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        let past = Some(now.into_std());
        assert_eq!(buffer.read(past).await, Err(ReadError::Timeout));
        assert_eq!(buffer.write(1, past).await, Ok(()));
        assert_eq!(buffer.write(2, past).await, Err(WriteError::Timeout(2)));
        assert_eq!(buffer.read(past).await, Ok(1));
    }
}

#[test]
fn a_waiting_reader_is_woken_by_an_item_and_a_waiting_writer_by_room() {
    for buffer in both(1) {
        let (reader, writer) = (Arc::default(), Arc::default());
        let mut read = pin!(buffer.read(None));
        assert!(poll(read.as_mut(), &reader).is_pending());
        buffer.try_write(1).expect("room");
        assert!(woken(&reader));
        assert_eq!(poll(read, &reader), Poll::Ready(Ok(1)));

        buffer.try_write(2).expect("room");
        let mut write = pin!(buffer.write(3, None));
        assert!(poll(write.as_mut(), &writer).is_pending());
        assert_eq!(buffer.try_read(), Ok(2));
        assert!(woken(&writer));
        assert_eq!(poll(write, &writer), Poll::Ready(Ok(())));
        assert_eq!(buffer.try_read(), Ok(3));
    }
}

#[test]
fn a_reader_that_is_dropped_after_its_wake_up_loses_no_item_and_passes_the_wake_up_on() {
    for buffer in both(2) {
        let (first, second) = (Arc::default(), Arc::default());
        let mut dropped = Box::pin(buffer.read(None));
        let mut other = pin!(buffer.read(None));
        assert!(poll(dropped.as_mut(), &first).is_pending());
        assert!(poll(other.as_mut(), &second).is_pending());
        buffer.try_write(1).expect("room");
        assert!(woken(&first) && !woken(&second));
        drop(dropped);
        assert!(woken(&second));
        assert_eq!(poll(other, &second), Poll::Ready(Ok(1)));

        // With nobody to pass it on to, the item is simply there.
        let mut dropped = Box::pin(buffer.read(None));
        assert!(poll(dropped.as_mut(), &first).is_pending());
        buffer.try_write(2).expect("room");
        drop(dropped);
        assert_eq!(buffer.try_read(), Ok(2));
    }
}

#[test]
fn a_writer_that_is_dropped_after_its_wake_up_passes_it_on() {
    for buffer in both(1) {
        let (first, second) = (Arc::default(), Arc::default());
        buffer.try_write(0).expect("room");
        let mut dropped = Box::pin(buffer.write(1, None));
        let mut other = pin!(buffer.write(2, None));
        assert!(poll(dropped.as_mut(), &first).is_pending());
        assert!(poll(other.as_mut(), &second).is_pending());
        assert_eq!(buffer.try_read(), Ok(0));
        assert!(woken(&first) && !woken(&second));
        drop(dropped);
        assert!(woken(&second));
        assert_eq!(poll(other, &second), Poll::Ready(Ok(())));
        assert_eq!(buffer.try_read(), Ok(2), "the dropped write left no item behind");
        buffer.try_write(3).expect("nor did it keep its slot");
    }
}

#[test]
fn a_reader_that_waits_but_is_not_polled_keeps_nobody_else_out() {
    for buffer in both(3) {
        let (idle, other) = (Arc::default(), Arc::default());
        let mut idle_read = pin!(buffer.read(None));
        assert!(poll(idle_read.as_mut(), &idle).is_pending());
        let mut other_read = pin!(buffer.read(None));
        assert!(poll(other_read.as_mut(), &other).is_pending());
        for number in 1..=3 {
            buffer.try_write(number).expect("room");
        }
        assert!(woken(&other));
        assert_eq!(poll(other_read, &other), Poll::Ready(Ok(1)));
        assert_eq!(buffer.try_read(), Ok(2));
        assert_eq!(poll(idle_read, &idle), Poll::Ready(Ok(3)));
    }
}

#[test]
fn close_gives_waiting_writers_their_item_back_and_lets_readers_drain() {
    for buffer in both(1) {
        let (first, second) = (Arc::default(), Arc::default());
        buffer.try_write(1).expect("room");
        let mut write = pin!(buffer.write(2, None));
        let mut never_polled_again = Box::pin(buffer.write(3, None));
        assert!(poll(write.as_mut(), &first).is_pending());
        assert!(poll(never_polled_again.as_mut(), &second).is_pending());
        buffer.close();
        buffer.close();
        assert!(woken(&first) && woken(&second));
        assert_eq!(poll(write, &first), Poll::Ready(Err(WriteError::Closed(2))));
        assert_eq!(buffer.try_write(4), Err(WriteError::Closed(4)));
        let late = pin!(buffer.write(5, None));
        assert_eq!(poll(late, &first), Poll::Ready(Err(WriteError::Closed(5))));
        assert_eq!(poll(pin!(buffer.read(None)), &first), Poll::Ready(Ok(1)));
        assert_eq!(buffer.try_read(), Err(ReadError::Closed));
        let late = pin!(buffer.read(None));
        assert_eq!(poll(late, &first), Poll::Ready(Err(ReadError::Closed)));
    }
}

#[test]
fn a_writer_that_got_its_slot_before_the_close_is_refused_after_it() {
    for buffer in both(1) {
        let waker = Arc::default();
        buffer.try_write(1).expect("room");
        let mut write = pin!(buffer.write(2, None));
        assert!(poll(write.as_mut(), &waker).is_pending());
        assert_eq!(buffer.try_read(), Ok(1));
        buffer.close();
        assert_eq!(buffer.try_read(), Err(ReadError::Closed));
        assert_eq!(poll(write, &waker), Poll::Ready(Err(WriteError::Closed(2))));
        assert_eq!(buffer.try_read(), Err(ReadError::Closed), "closed is for good");
    }
}

#[test]
fn close_ends_every_waiting_reader() {
    for buffer in both::<u32>(1) {
        let (first, second) = (Arc::default(), Arc::default());
        let mut one = pin!(buffer.read(None));
        let mut two = pin!(buffer.read(None));
        assert!(poll(one.as_mut(), &first).is_pending());
        assert!(poll(two.as_mut(), &second).is_pending());
        buffer.close();
        assert!(woken(&first) && woken(&second));
        assert_eq!(poll(one, &first), Poll::Ready(Err(ReadError::Closed)));
        assert_eq!(poll(two, &second), Poll::Ready(Err(ReadError::Closed)));
    }
}

/// An item: which producer, and its how-manieth.
type Stamp = (usize, usize);

/// Reads until the buffer is closed and drained; sometimes drops a read that has begun.
async fn consume(buffer: Arc<IngestBuffer<Stamp>>, cancels: bool) -> Vec<Stamp> {
    let mut seen = Vec::new();
    loop {
        tokio::select! {
            biased;
            read = buffer.read(None) => match read {
                Ok(item) => seen.push(item),
                Err(end) => {
                    assert_eq!(end, ReadError::Closed);
                    return seen;
                }
            },
            () = tokio::task::yield_now(), if cancels => {}
        }
    }
}

/// Writes `count` items, and returns those that are surely in; sometimes drops a write.
async fn produce(buffer: Arc<IngestBuffer<Stamp>>, id: usize, count: usize, cancels: bool) -> Vec<Stamp> {
    let mut written = Vec::new();
    for number in 0..count {
        tokio::select! {
            biased;
            write = buffer.write((id, number), None) => match write {
                Ok(()) => written.push((id, number)),
                Err(end) => assert_eq!(end, WriteError::Closed((id, number))),
            },
            () = tokio::task::yield_now(), if cancels => {}
        }
    }
    written
}

/// Runs 3 producers and 3 consumers; checks order, and that nothing is lost, doubled or made up.
async fn run(buffer: IngestBuffer<Stamp>, count: usize, cancels: bool, close_early: bool) {
    let buffer = Arc::new(buffer);
    let consumers: Vec<_> =
        (0..3).map(|id| tokio::spawn(consume(Arc::clone(&buffer), cancels && id > 0))).collect();
    let producers: Vec<_> =
        (0..3).map(|id| tokio::spawn(produce(Arc::clone(&buffer), id, count, cancels && id > 0))).collect();
    if close_early {
        tokio::task::yield_now().await;
        buffer.close();
    }
    let mut written = BTreeSet::new();
    for producer in producers {
        written.extend(producer.await.expect("producer"));
    }
    buffer.close();
    let mut read = BTreeSet::new();
    for consumer in consumers {
        let seen = consumer.await.expect("consumer");
        for id in 0..3 {
            let numbers = seen.iter().filter(|stamp| stamp.0 == id);
            assert!(numbers.is_sorted_by(|one, next| one < next), "order of producer {id}");
        }
        for stamp in seen {
            assert!(read.insert(stamp), "{stamp:?} was read twice");
        }
    }
    assert_eq!(read, written);
    assert!(buffer.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn nothing_is_lost_or_doubled_and_each_producer_is_read_in_order() {
    for capacity in [1, 3, 128] {
        for buffer in both(capacity) {
            run(buffer, 5_000, false, false).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn dropped_reads_and_writes_disturb_nobody() {
    for capacity in [1, 3] {
        for buffer in both(capacity) {
            run(buffer, 5_000, true, false).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_was_accepted_before_a_close_is_read_after_it() {
    for _ in 0..300 {
        for buffer in both(2) {
            run(buffer, 50, false, true).await;
        }
    }
}
