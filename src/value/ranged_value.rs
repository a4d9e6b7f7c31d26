//! A map of values in memory that can be watched.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::ranged::{KeyChange, RangeSource, RangedWatcher, SourceEvent};
use super::watcher::{GetError, ValueWatch};

/// The most changes queued for slow watchers. One that is further behind loads the whole state instead.
const MAX_QUEUED_CHANGES: usize = 256;

/// A [`Value`](super::Value) for each key of an ordered range, watched together.
///
/// Dropping it closes its watchers, each after it has yielded the last changes.
#[derive(Debug)]
pub struct RangedValue<K, V> {
    /// The lock is also held while sending a change, so that changes are sent in order, and a loaded state fits the changes
    /// after it.
    state: Arc<Mutex<BTreeMap<K, V>>>,
    changes: broadcast::Sender<KeyChange<K, V>>,
}

impl<K: Clone + Ord, V: Clone> RangedValue<K, V> {
    /// An empty map.
    pub fn new() -> Self {
        Self { state: Arc::default(), changes: broadcast::Sender::new(MAX_QUEUED_CHANGES) }
    }

    /// Sets a key's value and wakes the key's watchers, also if it is equal.
    pub fn set(&self, key: K, value: V) {
        let mut state = self.state.lock();
        let old = state.insert(key.clone(), value.clone());
        // An error means that there is no watcher.
        let _unwatched = self.changes.send(KeyChange { key, value: Some(value) });
        drop(state);
        drop(old);
    }

    /// Removes a key. Wakes no watcher if it was absent.
    pub fn remove(&self, key: &K) {
        let mut state = self.state.lock();
        let old = state.remove_entry(key);
        if let Some((key, _)) = &old {
            let _unwatched = self.changes.send(KeyChange { key: key.clone(), value: None });
        }
        drop(state);
        drop(old);
    }

    /// A watcher of the keys in a range.
    pub fn watch_range(&self, range: impl RangeBounds<K>) -> RangedWatcher<RangedValueSource<K, V>>
    where
        K: Hash + Send + Sync,
        V: Send,
    {
        let range = (range.start_bound().cloned(), range.end_bound().cloned());
        let changes = self.changes.subscribe();
        RangedWatcher::new(RangedValueSource { state: Arc::clone(&self.state), changes, range })
    }
}

impl<K: Clone + Ord, V: Clone> Default for RangedValue<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Clone + Ord + Hash + Send + Sync, V: Clone + Send> ValueWatch for RangedValue<K, V> {
    type Watcher = RangedWatcher<RangedValueSource<K, V>>;

    fn watch(&self) -> Self::Watcher {
        self.watch_range(..)
    }
}

/// The source of a [`RangedValue`]'s watchers.
#[derive(Debug)]
pub struct RangedValueSource<K, V> {
    state: Arc<Mutex<BTreeMap<K, V>>>,
    changes: broadcast::Receiver<KeyChange<K, V>>,
    range: (Bound<K>, Bound<K>),
}

impl<K: Ord, V> RangedValueSource<K, V> {
    fn event(&self, change: KeyChange<K, V>) -> SourceEvent<K, V> {
        SourceEvent::Changed(if self.range.contains(&change.key) { vec![change] } else { Vec::new() })
    }
}

impl<K: Clone + Ord + Hash + Send + Sync, V: Clone + Send> RangeSource for RangedValueSource<K, V> {
    type Key = K;
    type Value = V;

    async fn load(&mut self) -> Result<Vec<(K, V)>, GetError> {
        let state = self.state.lock();
        // The state contains every change that was sent before.
        self.changes = self.changes.resubscribe();
        let in_range = state.iter().filter(|(key, _)| self.range.contains(*key));
        Ok(in_range.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    async fn next(&mut self) -> Result<SourceEvent<K, V>, GetError> {
        match self.changes.recv().await {
            Ok(change) => Ok(self.event(change)),
            Err(RecvError::Lagged(_)) => Ok(SourceEvent::Lost),
            Err(RecvError::Closed) => Err(GetError::Closed),
        }
    }

    fn next_no_block(&mut self) -> Result<Option<SourceEvent<K, V>>, GetError> {
        match self.changes.try_recv() {
            Ok(change) => Ok(Some(self.event(change))),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Lagged(_)) => Ok(Some(SourceEvent::Lost)),
            Err(TryRecvError::Closed) => Err(GetError::Closed),
        }
    }
}
