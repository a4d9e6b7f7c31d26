//! The list under loom, which runs each test with every interleaving of its threads.
//!
//! `item.rs` and `buffer.rs`, the files that ship, are included here a second time, next to a
//! `sync` with loom's types. So plain `cargo test` checks them, without flags.

#![allow(dead_code, reason = "not every function is used by these tests")]
#![allow(clippy::duplicate_mod, reason = "the point of this file")]

#[path = "buffer.rs"]
mod buffer;
#[path = "item.rs"]
mod item;
mod sync;

use super::error;

use ::loom::sync::atomic::{AtomicUsize, Ordering};
use ::loom::sync::{Condvar, Mutex};
use ::loom::thread;

use self::buffer::EventBuffer;
use self::item::BufferItem;

/// Runs a future on this loom thread. (Loom's own needs its feature `futures`.)
fn block_on<F: Future>(future: F) -> F::Output {
    struct Signal {
        woken: Mutex<bool>,
        changed: Condvar,
    }

    impl std::task::Wake for Signal {
        fn wake(self: std::sync::Arc<Self>) {
            *self.woken.lock().expect("no waiter panics") = true;
            self.changed.notify_one();
        }
    }

    let signal = std::sync::Arc::new(Signal { woken: Mutex::new(false), changed: Condvar::new() });
    let waker = std::sync::Arc::clone(&signal).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        let mut woken = signal.woken.lock().expect("no waiter panics");
        while !*woken {
            woken = signal.changed.wait(woken).expect("no waiter panics");
        }
        *woken = false;
    }
}

/// Follows from `start` for `count` items, and returns their values.
fn follow(start: BufferItem<u32>, count: usize) -> Vec<u32> {
    block_on(async {
        let mut seen = Vec::new();
        let mut at = start;
        while seen.len() < count {
            at = at.next().await.expect("the writer appends as many");
            seen.extend(at.value());
        }
        seen
    })
}

/// Runs `model` with every interleaving that preempts a thread at most twice, where all of them
/// would take minutes.
fn bounded(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = ::loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(model);
}

fn over() -> Box<dyn std::error::Error + Send + Sync> {
    "over".into()
}

#[test]
fn no_wake_up_is_lost_and_the_whole_value_is_seen() {
    ::loom::model(|| {
        let mut buffer = EventBuffer::new();
        let start: BufferItem<AtomicUsize> = buffer.head();
        let reader = thread::spawn(move || {
            let item = block_on(start.next()).expect("open");
            // Relaxed: only the link's own ordering makes the store below visible here.
            item.value().map(|value| value.load(Ordering::Relaxed))
        });
        let value = AtomicUsize::new(0);
        value.store(7, Ordering::Relaxed);
        buffer.append(value).expect("open");
        assert_eq!(reader.join().expect("reader"), Some(7));
    });
}

#[test]
fn two_readers_see_every_item_once_in_order() {
    bounded(|| {
        let mut buffer = EventBuffer::new();
        let readers: Vec<_> =
            (0..2).map(|_| buffer.head()).map(|start| thread::spawn(move || follow(start, 2))).collect();
        buffer.append(1).expect("open");
        buffer.append(2).expect("open");
        for reader in readers {
            assert_eq!(reader.join().expect("reader"), [1, 2]);
        }
    });
}

#[test]
fn an_error_ends_every_reader() {
    bounded(|| {
        let mut buffer = EventBuffer::<u32>::new();
        let readers: Vec<_> = (0..2)
            .map(|_| buffer.head())
            .map(|start| thread::spawn(move || block_on(start.next()).expect_err("nothing was appended")))
            .collect();
        buffer.append_err(over()).expect("open");
        for reader in readers {
            let end = reader.join().expect("reader");
            assert_eq!(end.cause().to_string(), "over");
        }
    });
}

#[test]
fn dropping_the_writer_ends_a_waiting_reader() {
    ::loom::model(|| {
        let buffer = EventBuffer::<u32>::new();
        let start = buffer.head();
        let reader = thread::spawn(move || block_on(start.next()).map_err(|end| end.is_closed()));
        drop(buffer);
        assert!(matches!(reader.join().expect("reader"), Err(true)));
    });
}

#[test]
fn a_reader_walks_from_one_joined_buffer_to_the_other() {
    bounded(|| {
        let mut live = EventBuffer::new();
        let mut snapshot = EventBuffer::new();
        let start = snapshot.head();
        let reader = thread::spawn(move || follow(start, 2));
        let tail = live.head().follow_after().expect("open");
        let writer = thread::spawn(move || live.append(2).map(|_| live));
        snapshot.append(1).expect("open");
        snapshot.append_buffer(tail).expect("open");
        assert_eq!(reader.join().expect("reader"), [1, 2]);
        let live = writer.join().expect("writer");
        assert!(live.is_ok(), "the join took nothing from the live writer");
    });
}

#[test]
fn a_reader_from_the_head_misses_nothing_after_it() {
    bounded(|| {
        let mut buffer = EventBuffer::new();
        let (start, reader) = (buffer.head(), buffer.reader());
        let newcomer = thread::spawn(move || {
            let head = reader.head();
            let first = head.value().copied().unwrap_or(0);
            let walked = start.next_no_block().expect("open");
            assert!(first == 0 || walked.is_some(), "linked before it was shown");
            let rest = follow(head, 2 - usize::try_from(first).expect("small"));
            (first, rest)
        });
        buffer.append(1).expect("open");
        buffer.append(2).expect("open");
        let seen = newcomer.join().expect("newcomer");
        assert!([(0, vec![1, 2]), (1, vec![2]), (2, vec![])].contains(&seen));
    });
}

#[test]
fn a_chain_and_its_reader_dropped_at_once_free_every_value_once() {
    struct Counted(std::sync::Arc<AtomicUsize>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    ::loom::model(|| {
        let freed = std::sync::Arc::new(AtomicUsize::new(0));
        let mut buffer = EventBuffer::new();
        let start = buffer.head();
        for _ in 0..2 {
            let value = Counted(std::sync::Arc::clone(&freed));
            buffer.append(value).expect("open");
        }
        let shared = start.clone();
        let reader = thread::spawn(move || {
            let next = shared.next_no_block();
            drop(shared);
            drop(next);
        });
        drop(start);
        drop(buffer);
        reader.join().expect("reader");
        assert_eq!(freed.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn two_writers_that_join_each_other_make_no_cycle() {
    bounded(|| {
        let mut one = EventBuffer::<u32>::new();
        let mut two = EventBuffer::<u32>::new();
        let (to_one, to_two) = (one.head(), two.head());
        let start = to_one.clone();
        let other = thread::spawn(move || two.append_buffer(to_one).is_ok());
        let mine = one.append_buffer(to_two).is_ok();
        let others = other.join().expect("other writer");
        assert!(mine != others, "one join is made and one refused");
        drop(one);
        assert!(start.next_no_block().is_err(), "the chain has one end");
    });
}
