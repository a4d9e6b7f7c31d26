//! Many keys watched as one.
//!
//! A ranged watcher yields one key's change at a time. Between two looks a key may change often:
//! that is one change with the last value. So what waits for a slow consumer is bounded by the
//! number of keys, not by the number of changes.
//!
//! # What is told, and what is not
//!
//! The watcher remembers which keys its consumer knows. That decides about deletions:
//!
//! | the consumer | the key is now | it is told |
//! |---|---|---|
//! | does not know the key | absent, whatever it was meanwhile | nothing |
//! | knows it | absent | a tombstone, once |
//! | knows it or not | there, be its value empty | the value |
//!
//! It also lets the watcher recover from a gap. When its source has lost its place, the state is
//! loaded again, and a key that the consumer knows and that is not in it was deleted in the gap.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::hash::Hash;

use super::watcher::{GetError, Watcher};

/// How many events are taken before something is told: a source that always has more must not keep
/// the consumer from getting anything.
const AT_ONCE: usize = 1024;

/// What happened to one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyChange<K, V> {
    /// The key.
    pub key: K,
    /// Its value, or `None` if the key is not there any more.
    pub value: Option<V>,
}

/// What a [`RangeSource`] says after it was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceEvent<K, V> {
    /// Keys changed, in this order.
    Changed(Vec<KeyChange<K, V>>),
    /// Changes were missed: what is true now must be [loaded](RangeSource::load).
    Lost,
}

/// Where a [`RangedWatcher`] gets its keys from. Which keys are in the range is the source's
/// business.
///
/// Nobody asks a source anything while the consumer is busy. One that stands in a
/// [trail](crate::trail) should hold a number then and not the item, or it pins what comes after; if
/// it does not find its place again, it is [lost](SourceEvent::Lost) and nothing else is.
pub trait RangeSource: Send {
    /// The keys.
    type Key: Clone + Eq + Hash + Send + Sync;
    /// Their values.
    type Value: Send;

    /// All that is there. The changes after exactly this state are what the other methods return
    /// from then on.
    ///
    /// Need not go on where it was dropped: it is called again, from the beginning.
    ///
    /// # Errors
    ///
    /// [`GetError::Closed`] if there is nothing to be loaded from any more. A source that can try
    /// again does so by itself.
    fn load(&mut self) -> impl Future<Output = Result<EntriesOf<Self>, GetError>> + Send;

    /// Waits for what happens next. Must be cancel-safe: what is not returned comes again.
    ///
    /// # Errors
    ///
    /// [`GetError::Closed`] if nothing will happen any more.
    fn next(&mut self) -> impl Future<Output = Result<EventOf<Self>, GetError>> + Send;

    /// What happened already, or `None` if that is nothing. Here changes get together that the
    /// consumer was too slow for.
    ///
    /// # Errors
    ///
    /// As for [`next`](Self::next).
    fn next_no_block(&mut self) -> Result<Option<EventOf<Self>>, GetError>;
}

/// What a source says.
pub type EventOf<S> = SourceEvent<<S as RangeSource>::Key, <S as RangeSource>::Value>;

/// All that a source has.
pub type EntriesOf<S> = Vec<(<S as RangeSource>::Key, <S as RangeSource>::Value)>;

/// Watches the keys of a source. The idea is that of Metropolis' watchers of a range of etcd keys.
#[derive(Debug)]
pub struct RangedWatcher<S: RangeSource> {
    source: S,
    /// The keys that the consumer was told and that were not told to be gone.
    known: HashSet<S::Key>,
    /// What is still to be told. Its keys are those of `queue`.
    pending: HashMap<S::Key, Option<S::Value>>,
    /// In the order of the first change that was not told, so that a key which changes all the
    /// time does not keep others from being told.
    queue: VecDeque<S::Key>,
    loaded: bool,
    /// Whether `pending` is still the backlog, the whole backlog, and nothing but the backlog.
    backlog: bool,
}

impl<S: RangeSource> RangedWatcher<S> {
    /// A watcher that has loaded nothing yet: its first `get` does.
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

    /// A watcher whose consumer knows these keys already: its first `get` loads, and what was known and
    /// is not there any more is told to be gone.
    pub fn with_known_keys(source: S, known: HashSet<S::Key>) -> Self {
        Self { known, ..Self::new(source) }
    }

    /// Where it gets its keys from: to ask how far that has come. What is not told yet is behind it.
    pub fn source(&self) -> &S {
        &self.source
    }

    async fn load(&mut self) -> Result<(), GetError> {
        if !self.loaded {
            let state = self.source.load().await?;
            // From here on nothing waits, so it is taken whole or not at all.
            self.replace(state);
            self.loaded = true;
        }
        Ok(())
    }

    /// Takes over a whole state: what it does not contain is gone.
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

    fn absorb(&mut self, event: EventOf<S>) {
        match event {
            SourceEvent::Changed(changes) => {
                for KeyChange { key, value } in changes {
                    self.note(key, value);
                }
            }
            SourceEvent::Lost => self.loaded = false,
        }
    }

    /// Takes what happened while the consumer was away, so that it coalesces.
    fn absorb_what_there_is(&mut self) -> Result<(), GetError> {
        for _ in 0..AT_ONCE {
            match self.source.next_no_block()? {
                Some(event) => self.absorb(event),
                None => break,
            }
            if !self.loaded {
                break;
            }
        }
        Ok(())
    }

    /// The next change that the consumer is to be told.
    fn pop(&mut self) -> Option<KeyChange<S::Key, S::Value>> {
        while let Some(key) = self.queue.pop_front() {
            let value = self.pending.remove(&key).flatten();
            let is_news = if value.is_some() {
                self.known.insert(key.clone());
                true
            } else {
                self.known.remove(&key)
            };
            if is_news {
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
            let closed = self.absorb_what_there_is().err();
            if !self.loaded {
                continue;
            }
            if let Some(change) = self.pop() {
                // Not before: a `get` that was dropped did not happen.
                self.backlog = false;
                return Ok(change);
            }
            if let Some(error) = closed {
                return Err(error);
            }
            let event = self.source.next().await?;
            self.absorb(event);
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
