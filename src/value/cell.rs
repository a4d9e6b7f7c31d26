//! A single value.
//!
//! It is built on tokio's `watch`, which keeps one value and counts how often it was set. A
//! receiver compares counts, so it also notices a set to an equal value. `watch` always has a value, so here the time
//! before the first set is a `None` that no watcher yields.

use tokio::sync::watch;

use super::watcher::{GetError, ValueWatch, Watcher};

/// A value that producers set and consumers watch. The idea is Metropolis' `Value`.
///
/// Setting takes `&self`, so producers may share it; the last one wins. Dropping it closes its
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

/// A watcher of a [`Value`].
#[derive(Debug)]
pub struct ValueWatcher<T> {
    current: watch::Receiver<Option<T>>,
    /// Whether the current value still belongs to the backlog.
    backlog: bool,
}

impl<T> Value<T> {
    /// An unset value. Consumers wait until it is set.
    pub fn new() -> Self {
        Self { current: watch::Sender::new(None) }
    }

    /// A value that is set.
    pub fn of(value: T) -> Self {
        Self { current: watch::Sender::new(Some(value)) }
    }

    /// Sets the value and wakes all watchers, also if it is equal. Never waits.
    pub fn set(&self, value: T) {
        // The old value is dropped here, without the lock.
        drop(self.current.send_replace(Some(value)));
    }

    /// A new watcher. See [`ValueWatch::watch`].
    pub fn watch(&self) -> ValueWatcher<T> {
        let mut current = self.current.subscribe();
        // `subscribe` counts the current value as seen.
        current.mark_changed();
        ValueWatcher { current, backlog: true }
    }

    /// The number of watchers.
    #[cfg(test)]
    pub(super) fn watchers(&self) -> usize {
        self.current.receiver_count()
    }
}

impl<T: Clone> Value<T> {
    /// The current value; `None` if it is unset.
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
            // Nothing is awaited after this, so a value marked as seen is always returned.
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
