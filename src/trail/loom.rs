//! The list under loom, which runs each test below with every interleaving of its threads.
//!
//! `item.rs` and `buffer.rs` are included here a second time, the very files that ship, below a
//! `sync` that is made of loom's types. So plain `cargo test` checks them, with no flags.

#![allow(dead_code, reason = "not every function is used by these tests")]
#![allow(clippy::duplicate_mod, reason = "the point of this file")]

#[path = "buffer.rs"]
mod buffer;
#[path = "item.rs"]
mod item;

use super::error;

use ::loom::sync::atomic::{AtomicUsize, Ordering};
use ::loom::sync::{Condvar, Mutex};
use ::loom::thread;

use self::buffer::EventBuffer;
use self::item::BufferItem;

/// The names of `../sync.rs`, by loom.
mod sync {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use ::loom::sync::atomic::{AtomicBool, Ordering};
    use ::loom::sync::{Mutex, MutexGuard, RwLock};

    pub(super) use ::loom::sync::Arc;

    pub(super) fn into_inner<T>(arc: Arc<T>) -> Option<T> {
        // Loom's has no `into_inner`. A failed `try_unwrap` hands the reference back and drops it,
        // which may then be the last one; the drop of the node goes on from there.
        Arc::try_unwrap(arc).ok()
    }

    ::loom::lazy_static! {
        static ref JOIN: Mutex<()> = Mutex::new(());
    }

    pub(super) fn join_lock() -> MutexGuard<'static, ()> {
        JOIN.lock().expect("no test panics while it joins")
    }

    /// A value, and a flag that says by release and acquire whether it may be seen.
    pub(super) struct OnceLock<T> {
        value: std::sync::OnceLock<T>,
        stored: AtomicBool,
    }

    impl<T> OnceLock<T> {
        pub(super) fn new() -> Self {
            Self { value: std::sync::OnceLock::new(), stored: AtomicBool::new(false) }
        }

        pub(super) fn get(&self) -> Option<&T> {
            if self.stored.load(Ordering::Acquire) { self.value.get() } else { None }
        }

        pub(super) fn set(&self, value: T) -> Result<(), T> {
            self.value.set(value)?;
            self.stored.store(true, Ordering::Release);
            Ok(())
        }

        pub(super) fn take(&mut self) -> Option<T> {
            self.value.take()
        }
    }

    pub(super) struct ArcSwap<T> {
        current: RwLock<Arc<T>>,
    }

    impl<T> ArcSwap<T> {
        pub(super) fn new(first: Arc<T>) -> Self {
            Self { current: RwLock::new(first) }
        }

        pub(super) fn load_full(&self) -> Arc<T> {
            Arc::clone(&self.current.read().expect("no writer panics"))
        }

        pub(super) fn store(&self, next: Arc<T>) {
            let mut current = self.current.write().expect("no writer panics");
            let old = std::mem::replace(&mut *current, next);
            drop(current);
            drop(old);
        }
    }

    /// As tokio's, but promises less: tokio's `notified()` counts as waiting from its creation,
    /// this one only once it is enabled or polled. What holds with less holds with more.
    pub(super) struct Notify {
        state: Mutex<State>,
    }

    struct State {
        /// How often `notify_waiters` was called.
        rounds: usize,
        wakers: Vec<Waker>,
    }

    impl Notify {
        pub(super) fn new() -> Self {
            Self { state: Mutex::new(State { rounds: 0, wakers: Vec::new() }) }
        }

        pub(super) fn notify_waiters(&self) {
            let mut state = self.state.lock().expect("no waiter panics");
            state.rounds += 1;
            let wakers = std::mem::take(&mut state.wakers);
            drop(state);
            for waker in wakers {
                waker.wake();
            }
        }

        pub(super) fn notified(&self) -> Notified<'_> {
            Notified { notify: self, enabled_in: None }
        }
    }

    pub(super) struct Notified<'a> {
        notify: &'a Notify,
        enabled_in: Option<usize>,
    }

    impl Notified<'_> {
        pub(super) fn enable(mut self: Pin<&mut Self>) -> bool {
            let rounds = self.notify.state.lock().expect("no waiter panics").rounds;
            *self.enabled_in.get_or_insert(rounds) != rounds
        }
    }

    impl Future for Notified<'_> {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            let mut state = self.notify.state.lock().expect("no waiter panics");
            let rounds = state.rounds;
            if *self.enabled_in.get_or_insert(rounds) != rounds {
                return Poll::Ready(());
            }
            state.wakers.push(context.waker().clone());
            Poll::Pending
        }
    }
}

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

/// Follows from `start` to the end, and returns what it saw.
fn follow(start: BufferItem<u32>) -> (Vec<u32>, String) {
    block_on(async {
        let mut seen = Vec::new();
        let mut at = start;
        loop {
            match at.next().await {
                Ok(next) => at = next,
                Err(end) => return (seen, end.to_string()),
            }
            seen.extend(at.value());
        }
    })
}

#[test]
fn no_wake_up_is_lost() {
    ::loom::model(|| {
        let mut buffer = EventBuffer::new();
        let start: BufferItem<u32> = buffer.head();
        let reader = thread::spawn(move || block_on(start.next()).map(|item| item.value().copied()));
        buffer.append(1).expect("open");
        assert_eq!(reader.join().expect("reader").expect("open"), Some(1));
    });
}

#[test]
fn a_deferred_wake_up_wakes_too() {
    ::loom::model(|| {
        let mut buffer = EventBuffer::new();
        let start: BufferItem<u32> = buffer.head();
        let (_, wake) = buffer.append_deferred(1).expect("open");
        let waker = thread::spawn(move || drop(wake));
        let reader = thread::spawn(move || block_on(start.next()).map(|item| item.value().copied()));
        assert_eq!(reader.join().expect("reader").expect("open"), Some(1));
        waker.join().expect("waker");
    });
}

#[test]
fn every_reader_sees_every_item_once_in_order_and_then_the_end() {
    let mut model = ::loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let mut buffer = EventBuffer::new();
        let readers: Vec<_> =
            (0..2).map(|_| buffer.head()).map(|start| thread::spawn(move || follow(start))).collect();
        buffer.append(1).expect("open");
        buffer.append(2).expect("open");
        buffer.append_err(Box::<dyn std::error::Error + Send + Sync>::from("over")).expect("open");
        for reader in readers {
            let (seen, end) = reader.join().expect("reader");
            assert_eq!(seen, [1, 2]);
            assert!(end.ends_with("over"));
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
fn a_newcomer_that_takes_the_head_misses_nothing_after_it() {
    ::loom::model(|| {
        let mut buffer = EventBuffer::new();
        let reader = buffer.reader();
        let newcomer = thread::spawn(move || {
            let head: BufferItem<u32> = reader.head();
            let mut seen: Vec<u32> = head.value().copied().into_iter().collect();
            while seen.last() != Some(&2) {
                let from = seen.len();
                let next = if from == 0 { head.clone() } else { reader.head() };
                match block_on(next.next()) {
                    Ok(item) => seen.extend(item.value()),
                    Err(_) => break,
                }
            }
            seen
        });
        buffer.append(2).expect("open");
        assert_eq!(newcomer.join().expect("newcomer"), [2]);
    });
}

#[test]
fn a_chain_and_its_reader_dropped_at_once_free_every_payload_once() {
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
            buffer.append(Counted(std::sync::Arc::clone(&freed))).expect("open");
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
    ::loom::model(|| {
        let mut one = EventBuffer::<u32>::new();
        let mut two = EventBuffer::<u32>::new();
        let (to_one, to_two) = (one.head(), two.head());
        let start = to_one.clone();
        let other = thread::spawn(move || two.append_buffer(to_one).is_ok());
        let mine = one.append_buffer(to_two).is_ok();
        let others = other.join().expect("other writer");
        assert!(mine != others, "one of the two joins is refused");
        drop(one);
        assert!(start.next_no_block().is_err(), "the chain has one end");
    });
}
