//! The items of `trail/sync.rs`, with loom's types.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard};

pub(super) use loom::sync::Arc;

pub(super) fn into_inner<T>(arc: Arc<T>) -> Option<T> {
    // Loom's has no `into_inner`. A failed `try_unwrap` hands the reference back and drops it,
    // which may then be the last one; the drop of the node goes on from there.
    Arc::try_unwrap(arc).ok()
}

loom::lazy_static! {
    static ref JOIN: Mutex<()> = Mutex::new(());
}

pub(super) fn join_lock() -> MutexGuard<'static, ()> {
    JOIN.lock().expect("no test panics while it joins")
}

/// A value, and a flag that publishes it with release and acquire.
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

    pub(super) fn load(&self) -> RwLockReadGuard<'_, Arc<T>> {
        self.current.read().expect("no writer panics")
    }

    pub(super) fn store(&self, next: Arc<T>) {
        let mut current = self.current.write().expect("no writer panics");
        let old = std::mem::replace(&mut *current, next);
        drop(current);
        drop(old);
    }
}

/// A weaker version of tokio's `Notify`. Tokio's `notified()` counts as waiting from its creation, this one only once it
/// is enabled or polled. A test that passes with this one holds for tokio's.
pub(super) struct Notify {
    state: Mutex<State>,
}

struct State {
    /// The number of calls of `notify_waiters`.
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
