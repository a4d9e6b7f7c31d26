//! Waiting callers: deadlines, wake-ups, dropped futures, and the close.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::super::{Buffer, BufferReadError, BufferWriteError};
use super::both;

/// Counts its wake-ups.
#[derive(Default)]
struct CountingWaker(AtomicUsize);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls once, with that waker.
fn poll<F: Future>(future: Pin<&mut F>, waker: &Arc<CountingWaker>) -> Poll<F::Output> {
    let waker = Waker::from(Arc::clone(waker));
    future.poll(&mut Context::from_waker(&waker))
}

fn woken(waker: &Arc<CountingWaker>) -> bool {
    waker.0.load(Ordering::SeqCst) > 0
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_honoured_on_both_sides() {
    for buffer in both(1) {
        let deadline = Instant::now() + Duration::from_secs(3);
        assert_eq!(buffer.read(Some(deadline.into_std())).await, Err(BufferReadError::Timeout));
        assert!(Instant::now() >= deadline);

        buffer.write(1, None).await.expect("room");
        let deadline = Instant::now() + Duration::from_secs(3);
        let refused = buffer.write(2, Some(deadline.into_std())).await;
        assert_eq!(refused, Err(BufferWriteError::Timeout(2)));
        assert!(Instant::now() >= deadline);
        assert_eq!(buffer.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_or_room_before_the_deadline_is_taken() {
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
        assert_eq!(Instant::now(), start, "no call waited for the deadline");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_in_the_past_tries_once() {
    for buffer in both(1) {
        let now = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        let past = Some(now.into_std());
        assert_eq!(buffer.read(past).await, Err(BufferReadError::Timeout));
        assert_eq!(buffer.write(1, past).await, Ok(()));
        assert_eq!(buffer.write(2, past).await, Err(BufferWriteError::Timeout(2)));
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

        // Without another waiter the item stays in the buffer.
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
fn a_waiting_reader_that_is_not_polled_does_not_block_others() {
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
        assert_eq!(poll(write, &first), Poll::Ready(Err(BufferWriteError::Closed(2))));
        assert_eq!(buffer.try_write(4), Err(BufferWriteError::Closed(4)));
        let late = pin!(buffer.write(5, None));
        assert_eq!(poll(late, &first), Poll::Ready(Err(BufferWriteError::Closed(5))));
        assert_eq!(poll(pin!(buffer.read(None)), &first), Poll::Ready(Ok(1)));
        assert_eq!(buffer.try_read(), Err(BufferReadError::Closed));
        let late = pin!(buffer.read(None));
        assert_eq!(poll(late, &first), Poll::Ready(Err(BufferReadError::Closed)));
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
        assert_eq!(buffer.try_read(), Err(BufferReadError::Closed));
        assert_eq!(poll(write, &waker), Poll::Ready(Err(BufferWriteError::Closed(2))));
        assert_eq!(buffer.try_read(), Err(BufferReadError::Closed), "closed is for good");
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
        assert_eq!(poll(one, &first), Poll::Ready(Err(BufferReadError::Closed)));
        assert_eq!(poll(two, &second), Poll::Ready(Err(BufferReadError::Closed)));
    }
}
