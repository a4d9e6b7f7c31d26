//! What is streamed: events, the parts of the shared lists, and the messages a reader gets.

use std::hash::Hash;
use std::sync::Arc;
use std::{fmt, mem};

/// Something that can be published.
///
/// Cloning should be cheap: an event is cloned once for each topic that it goes to.
pub trait Event: Clone + Send + Sync + 'static {
    /// What one can subscribe to, for example a key, a prefix, or everything. "Everything" is a
    /// subject like any other here.
    type Subject: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static;

    /// Every subject whose subscribers want this event, each once. Those that nobody subscribes to
    /// cost one look into a hash map.
    fn subjects(&self) -> impl IntoIterator<Item = Self::Subject>;

    /// What the event weighs against [`max_lag_bytes`](super::StreamConfig::max_lag_bytes).
    fn bytes(&self) -> usize {
        mem::size_of::<Self>()
    }
}

/// One item of a list that readers share: some events, or the mark at the end of a snapshot.
///
/// There is no "new snapshot follows" among them, and this type cannot say it: that is true for
/// one reader and false for the next one who gets the same snapshot.
pub struct Part<E> {
    index: u64,
    /// How many bytes the topic had published up to here. Inside a snapshot, up to its beginning.
    mark: u64,
    /// `None` is the end of the snapshot.
    events: Option<Arc<[E]>>,
}

impl<E> Part<E> {
    /// Events that belong together, at the index of the state after them. `mark` counts the bytes
    /// published on the topic up to and with them, for the limit on how far a reader may be behind.
    pub fn events_at(index: u64, mark: u64, events: impl Into<Arc<[E]>>) -> Self {
        Self { index, mark, events: Some(events.into()) }
    }

    pub(super) fn end_of_snapshot(index: u64, mark: u64) -> Self {
        Self { index, mark, events: None }
    }

    /// The index of the state after this part.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// See [`events_at`](Self::events_at).
    pub(super) fn mark(&self) -> u64 {
        self.mark
    }

    /// The events, or `None` at the end of a snapshot.
    pub fn events(&self) -> Option<&[E]> {
        self.events.as_deref()
    }

    /// Whether this is where the snapshot ends.
    pub fn is_end_of_snapshot(&self) -> bool {
        self.events.is_none()
    }

    /// The same for one reader.
    pub(super) fn message(&self) -> Message<E> {
        match &self.events {
            Some(events) => Message::Events(Events { index: self.index, events: Arc::clone(events) }),
            None => Message::EndOfSnapshot { index: self.index },
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for Part<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message().fmt(f)
    }
}

/// What a subscription yields.
pub enum Message<E> {
    /// The reader's index is too old to go on from: it shall forget what it knows, a snapshot
    /// comes.
    NewSnapshotToFollow,
    /// Of the snapshot until its end was told, live after it.
    Events(Events<E>),
    /// The reader now has the whole state at this index, and gets every later change.
    EndOfSnapshot {
        /// At least 1: a reader that came back with 0 would be taken for a new one.
        index: u64,
    },
}

impl<E> Message<E> {
    /// The events, where there are some.
    pub fn events(&self) -> Option<&Events<E>> {
        match self {
            Self::Events(events) => Some(events),
            Self::NewSnapshotToFollow | Self::EndOfSnapshot { .. } => None,
        }
    }

    /// Whether this ends a snapshot.
    pub fn is_end_of_snapshot(&self) -> bool {
        matches!(self, Self::EndOfSnapshot { .. })
    }
}

impl<E> Clone for Message<E> {
    fn clone(&self) -> Self {
        match self {
            Self::NewSnapshotToFollow => Self::NewSnapshotToFollow,
            Self::Events(events) => Self::Events(events.clone()),
            Self::EndOfSnapshot { index } => Self::EndOfSnapshot { index: *index },
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for Message<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewSnapshotToFollow => f.write_str("NewSnapshotToFollow"),
            Self::Events(events) => events.fmt(f),
            Self::EndOfSnapshot { index } => write!(f, "EndOfSnapshot @{index}"),
        }
    }
}

/// The events of one index, shared by all who read them. Never empty when it comes from a
/// subscription.
pub struct Events<E> {
    index: u64,
    events: Arc<[E]>,
}

impl<E> Events<E> {
    /// The index of the state after them.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The events, in the order in which they were published.
    pub fn as_slice(&self) -> &[E] {
        &self.events
    }
}

impl<E: Clone> Events<E> {
    /// Those that the reader may see, in their order, or `None` if that is none of them. The
    /// shared events stay as they are; where all may be seen, nothing is copied.
    ///
    /// Permissions are asked here, after what is shared, so that readers with different rights can
    /// share one snapshot and one topic.
    pub fn permitted(&self, mut may_read: impl FnMut(&E) -> bool) -> Option<Self> {
        let allowed: Vec<bool> = self.events.iter().map(&mut may_read).collect();
        if allowed.iter().all(|allowed| *allowed) {
            return (!self.events.is_empty()).then(|| self.clone());
        }
        let kept = self.events.iter().zip(allowed).filter(|(_, allowed)| *allowed);
        let events: Arc<[E]> = kept.map(|(event, _)| event.clone()).collect();
        (!events.is_empty()).then_some(Self { index: self.index, events })
    }
}

impl<E> Clone for Events<E> {
    fn clone(&self) -> Self {
        Self { index: self.index, events: Arc::clone(&self.events) }
    }
}

impl<E: fmt::Debug> fmt::Debug for Events<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} @{}", &self.events, self.index)
    }
}
