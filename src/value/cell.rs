//! One value.
//!
//! It is made of tokio's `watch`, which keeps one value and a count of how often it was set; a
//! receiver compares counts, so it sees that something was set even where that is equal. What
//! `watch` has not is the time before the first value: here that is a `None` which nobody is told.

use tokio::sync::watch;

use super::watcher::{GetError, ValueWatch, Watcher};

/// A value that producers set and consumers watch. The idea is Metropolis' `Value`.
///
/// Setting takes `&self`, so producers may share it; who is last wins. Dropping it closes its
/// watchers, each after it has returned the last value.
///
/// ```
/// use crumbd::value::{GetError, Value, Watcher};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let status = Value::new();
/// let mut watcher = status.watch();
/// status.set("resync");
/// status.set("in-sync");
/// assert_eq!(watcher.get().await, Ok("in-sync"));
/// drop(status);
/// assert_eq!(watcher.get().await, Err(GetError::Closed));
/// # }
/// ```
#[derive(Debug)]
pub struct Value<T> {
    current: watch::Sender<Option<T>>,
}

/// Watches a [`Value`].
#[derive(Debug)]
pub struct ValueWatcher<T> {
    current: watch::Receiver<Option<T>>,
    /// Whether what is current may still be called a backlog.
    backlog: bool,
}

impl<T> Value<T> {
    /// A value that is not set. Consumers wait until it is.
    pub fn new() -> Self {
        Self { current: watch::Sender::new(None) }
    }

    /// A value that is set from the beginning.
    pub fn of(value: T) -> Self {
        Self { current: watch::Sender::new(Some(value)) }
    }

    /// Sets it, and wakes everyone who watches, whether or not that changes anything. Waits for
    /// nobody.
    pub fn set(&self, value: T) {
        // The old one is dropped here, without the lock.
        drop(self.current.send_replace(Some(value)));
    }

    /// A watcher for one more consumer. See [`ValueWatch::watch`].
    pub fn watch(&self) -> ValueWatcher<T> {
        let mut current = self.current.subscribe();
        // `subscribe` counts what is current as seen.
        current.mark_changed();
        ValueWatcher { current, backlog: true }
    }

    /// The number of watchers there are.
    pub fn watchers(&self) -> usize {
        self.current.receiver_count()
    }
}

impl<T: Clone> Value<T> {
    /// What is set now.
    pub fn current(&self) -> Option<T> {
        self.current.borrow().clone()
    }
}

impl<T> Default for Value<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone + Send + Sync> ValueWatch for Value<T> {
    type Watcher = ValueWatcher<T>;

    fn watch(&self) -> ValueWatcher<T> {
        Self::watch(self)
    }
}

impl<T: Clone + Send + Sync> Watcher for ValueWatcher<T> {
    type Item = T;

    async fn get(&mut self) -> Result<T, GetError> {
        loop {
            self.current.changed().await.map_err(|_| GetError::Closed)?;
            // Nothing is awaited after this, so what is marked as seen is returned.
            if let Some(value) = &*self.current.borrow_and_update() {
                self.backlog = false;
                return Ok(value.clone());
            }
        }
    }

    async fn get_backlog(&mut self) -> Result<T, GetError> {
        if !std::mem::take(&mut self.backlog) {
            return Err(GetError::BacklogDone);
        }
        self.current.borrow_and_update().clone().ok_or(GetError::BacklogDone)
    }
}
