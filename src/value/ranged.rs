//! Watching many keys with one watcher.
//!
//! A ranged watcher yields the change of one key at a time. Several changes of a key between two reads
//! become one change with the last value. So the pending changes of a slow consumer are bounded by the
//! number of keys, not by the number of changes.
//!
//! # Deletions
//!
//! The watcher remembers the keys that its consumer knows:
//!
//! | the consumer | the key is now | the watcher yields |
//! |---|---|---|
//! | does not know the key | absent, also if it was present in between | nothing |
//! | knows the key | absent | a deletion, once |
//! | knows the key or not | present, perhaps with an empty value | the value |
//!
//! That also lets the watcher recover from a gap. When its source has lost its position, the state is
//! loaded again, and a known key that is not in it was deleted in the gap.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::hash::Hash;

use super::watcher::{GetError, Watcher};

/// The most events taken before a change is yielded, so that a source that always has more does not starve the consumer.
const MAX_EVENTS_AT_ONCE: usize = 1024;

/// A change of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyChange<K, V> {
    /// The key.
    pub key: K,
    /// The new value, or `None` if the key was deleted.
    pub value: Option<V>,
}

/// An event of a loaded [`RangeSource`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceEvent<K, V> {
    /// Keys changed, in this order.
    Changed(Vec<KeyChange<K, V>>),
    /// Changes were missed, so the state must be [loaded](RangeSource::load) again.
    Lost,
}

/// A source of keys for a [`RangedWatcher`]. The source decides which keys are in the range.
///
/// A source is not called while the consumer is busy. One that follows a
/// [trail](crate::trail) should hold an index and not the item, which keeps all later ones in memory. If
/// it does not find its position again, it returns [`SourceEvent::Lost`].
pub trait RangeSource: Send {
    /// The keys.
    type Key: Clone + Eq + Hash + Send + Sync;
    /// Their values.
    type Value: Send;

    /// The whole state. From then on the other methods return the changes after exactly this state.
    ///
    /// It need not be cancel-safe: after a drop it is called again from the beginning.
    ///
    /// # Errors
    ///
    /// [`GetError::Closed`] if the source has ended for good. A source that can retry does so by itself.
    fn load(&mut self) -> impl Future<Output = Result<EntriesOf<Self>, GetError>> + Send;

    /// Waits for the next event. Must be cancel-safe: a dropped call loses no event.
    ///
    /// # Errors
    ///
    /// [`GetError::Closed`] if no event can come any more.
    fn next(&mut self) -> impl Future<Output = Result<EventOf<Self>, GetError>> + Send;

    /// The next event, or `None` if there is none yet.
    ///
    /// # Errors
    ///
    /// As for [`next`](Self::next).
    fn next_no_block(&mut self) -> Result<Option<EventOf<Self>>, GetError>;
}

/// An event of a source.
pub type EventOf<S> = SourceEvent<<S as RangeSource>::Key, <S as RangeSource>::Value>;

/// The whole state of a source.
pub type EntriesOf<S> = Vec<(<S as RangeSource>::Key, <S as RangeSource>::Value)>;

/// A watcher of the keys of a source. The idea is that of Metropolis' watchers of a range of etcd keys.
#[derive(Debug)]
pub struct RangedWatcher<S: RangeSource> {
    source: S,
    /// The keys that the consumer knows: yielded with a value, and not as deleted since.
    known: HashSet<S::Key>,
    /// The changes to yield. Its keys are those of `queue`.
    pending: HashMap<S::Key, Option<S::Value>>,
    /// The keys of `pending`, in the order of their first pending change, so that a key that changes all the
    /// time does not starve others.
    queue: VecDeque<S::Key>,
    loaded: bool,
    /// Whether `pending` is exactly the rest of the backlog.
    backlog: bool,
}

impl<S: RangeSource> RangedWatcher<S> {
    /// A watcher that loads the state on its first `get`.
    pub fn new(source: S) -> Self {
        Self {
            source,
            known: HashSet::new(),
            pending: HashMap::new(),
            queue: VecDeque::new(),
            loaded: false,
            backlog: true,
        }
    }

    /// A watcher whose consumer knows these keys already. It loads the state on its first `get`, and yields known keys
    /// that are absent from it as deleted.
    pub(crate) fn with_known_keys(source: S, known: HashSet<S::Key>) -> Self {
        Self { known, ..Self::new(source) }
    }

    /// The source, which may be ahead of the yielded changes.
    pub(crate) fn source(&self) -> &S {
        &self.source
    }

    async fn load(&mut self) -> Result<(), GetError> {
        if !self.loaded {
            let state = self.source.load().await?;
            // Nothing is awaited from here on, so the state is taken as a whole or not at all.
            self.replace(state);
            self.loaded = true;
        }
        Ok(())
    }

    /// Takes over a whole state: known keys that it does not contain are deleted.
    fn replace(&mut self, state: EntriesOf<S>) {
        for value in self.pending.values_mut() {
            *value = None;
        }
        let mut gone = self.known.clone();
        for (key, value) in state {
            gone.remove(&key);
            self.note(key, Some(value));
        }
        for key in gone {
            self.note(key, None);
        }
    }

    fn note(&mut self, key: S::Key, value: Option<S::Value>) {
        if self.pending.insert(key.clone(), value).is_none() {
            self.queue.push_back(key);
        }
    }

    fn apply(&mut self, event: EventOf<S>) {
        match event {
            SourceEvent::Changed(changes) => {
                for KeyChange { key, value } in changes {
                    self.note(key, value);
                }
            }
            SourceEvent::Lost => self.loaded = false,
        }
    }

    /// Applies the events that exist already, so that changes of one key coalesce.
    fn apply_available(&mut self) -> Result<(), GetError> {
        for _ in 0..MAX_EVENTS_AT_ONCE {
            match self.source.next_no_block()? {
                Some(event) => self.apply(event),
                None => break,
            }
            if !self.loaded {
                break;
            }
        }
        Ok(())
    }

    /// The next change to yield.
    fn pop(&mut self) -> Option<KeyChange<S::Key, S::Value>> {
        while let Some(key) = self.queue.pop_front() {
            let value = self.pending.remove(&key).flatten();
            let is_change = if value.is_some() {
                self.known.insert(key.clone());
                true
            } else {
                self.known.remove(&key)
            };
            if is_change {
                return Some(KeyChange { key, value });
            }
        }
        None
    }
}

impl<S: RangeSource> Watcher for RangedWatcher<S> {
    type Item = KeyChange<S::Key, S::Value>;

    async fn get(&mut self) -> Result<Self::Item, GetError> {
        loop {
            self.load().await?;
            let closed = self.apply_available().err();
            if !self.loaded {
                continue;
            }
            if let Some(change) = self.pop() {
                // Not earlier, because a dropped `get` must not end the backlog.
                self.backlog = false;
                return Ok(change);
            }
            if let Some(error) = closed {
                return Err(error);
            }
            let event = self.source.next().await?;
            self.apply(event);
        }
    }

    async fn get_backlog(&mut self) -> Result<Self::Item, GetError> {
        if self.backlog {
            self.load().await?;
            if let Some(change) = self.pop() {
                return Ok(change);
            }
            self.backlog = false;
        }
        Err(GetError::BacklogDone)
    }
}
